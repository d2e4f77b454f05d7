//! The `DynamoDB` client. The work in this module is part of every cold start.
//!
//! - **Configuration from the environment only.** `aws-config` loads region, endpoint and retry settings
//!   from environment variables. Lambda and the template set them. It reads no profile files and does not
//!   build the default credential chain, which would try files, containers and other services.
//!   `docs/performance.md` has the cost.
//! - **Only Amazon's root certificates.** Parsing the 145 certificates of the system store took three
//!   fifths of all instructions from the start of the process to the first response. The endpoints of AWS
//!   are signed under [five roots](https://www.amazontrust.com/repository/). Other endpoints use the
//!   system store, and so do all endpoints if `SSL_CERT_FILE` or `SSL_CERT_DIR` is set.
//! - **Connections are opened during init** ([`open_connections`]), while Lambda gives the function a whole
//!   CPU.

use std::time::Duration;

use aws_config::{
    BehaviorVersion, SdkConfig,
    environment::{EnvironmentVariableCredentialsProvider, EnvironmentVariableRegionProvider},
    retry::RetryConfig,
    timeout::TimeoutConfig,
};
use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use aws_sdk_dynamodb::{
    Client,
    config::{
        ConfigBag, IdentityCache, Intercept, ProvideCredentials, RuntimeComponents,
        StalledStreamProtectionConfig, interceptors::BeforeTransmitInterceptorContextMut,
    },
    error::BoxError,
    types::AttributeValue,
};
use aws_smithy_http_client::tls::{self, TlsContext, TrustStore};
use aws_types::service_config::ServiceConfigKey;
use futures_util::future::join_all;

use super::usage::UsageCounter;
use crate::error::ConfigError;

/// The root certificates of Amazon Trust Services that AWS recommends trusting.
const AMAZON_ROOTS: &[u8] = include_bytes!("amazon-roots.pem");

/// The maximum time to open a connection, also during init.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// The maximum time of one attempt of an operation.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(2);

/// Creates a client from the environment of the process.
///
/// The SDK retries operations that are throttled, fail or get lost. The template sets the number of attempts
/// (`AWS_MAX_ATTEMPTS`); the delays are at most 25, 50, 100, … 400 ms. A transaction keeps its token. The SDK
/// does not retry a cancelled transaction; `transaction.rs` does. The behavior version is pinned, because
/// defaults of the SDK change between versions.
pub(super) async fn from_env(usage: UsageCounter) -> Result<Client, ConfigError> {
    let credentials = EnvironmentVariableCredentialsProvider::new()
        .provide_credentials()
        .await;
    let credentials = credentials.map_err(|_| {
        ConfigError::new(
            "AWS_ACCESS_KEY_ID",
            "or AWS_SECRET_ACCESS_KEY is not set; Lambda sets both",
        )
    })?;
    let config = aws_config::defaults(BehaviorVersion::v2026_01_12())
        .region(EnvironmentVariableRegionProvider::new())
        .credentials_provider(credentials)
        .profile_files(
            // An empty profile instead of files. The builder requires at least one.
            EnvConfigFiles::builder()
                .with_contents(EnvConfigFileKind::Config, "")
                .build(),
        )
        .timeout_config(
            TimeoutConfig::builder()
                .connect_timeout(CONNECT_TIMEOUT)
                .operation_attempt_timeout(ATTEMPT_TIMEOUT)
                .build(),
        )
        // Responses are small, and each attempt has a time limit.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        // Lambda replaces the process before its credentials expire.
        .identity_cache(IdentityCache::no_cache())
        .load()
        .await;
    let region = config.region();
    if region.is_none_or(|region| region.as_ref().is_empty()) {
        return Err(ConfigError::new("AWS_REGION", "is not set; Lambda sets it"));
    }
    let endpoint = endpoint(&config);
    if endpoint
        .as_ref()
        .is_some_and(|url| url::Url::parse(url).is_err())
    {
        return Err(ConfigError::new(
            "AWS_ENDPOINT_URL_DYNAMODB",
            "or AWS_ENDPOINT_URL is not a URL; the template sets https://dynamodb.REGION.amazonaws.com",
        ));
    }
    let retry_config = config.retry_config().cloned();
    let retry_config = retry_config
        .unwrap_or_else(RetryConfig::standard)
        .with_initial_backoff(Duration::from_millis(25))
        .with_max_backoff(Duration::from_millis(400));
    let http_client = aws_smithy_http_client::Builder::new()
        .tls_provider(tls::Provider::Rustls(
            tls::rustls_provider::CryptoMode::Ring,
        ))
        .tls_context(tls_context(endpoint.as_deref()))
        .build_https();
    let config = aws_sdk_dynamodb::config::Builder::from(&config)
        .retry_config(retry_config)
        .http_client(http_client)
        .interceptor(usage)
        .build();
    Ok(Client::from_conf(config))
}

/// The endpoint that is configured for `DynamoDB` or for all services. `None`: the endpoint of AWS.
fn endpoint(config: &SdkConfig) -> Option<String> {
    let key = ServiceConfigKey::builder()
        .service_id("DynamoDB")
        .env("AWS_ENDPOINT_URL")
        .profile("endpoint_url")
        .build();
    let service_config = config.service_config();
    let for_service = service_config.and_then(|config| config.load_config(key.ok()?));
    for_service.or_else(|| config.endpoint_url().map(str::to_owned))
}

fn tls_context(endpoint: Option<&str>) -> TlsContext {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let has_custom_store = is_set("SSL_CERT_FILE") || is_set("SSL_CERT_DIR");
    let store = if endpoint.is_none_or(needs_only_amazon_roots) && !has_custom_store {
        TrustStore::empty().with_pem_certificate(AMAZON_ROOTS)
    } else {
        TrustStore::default()
    };
    let context = TlsContext::builder().with_trust_store(store).build();
    context.expect("a TLS context requires only a trust store")
}

/// Whether an endpoint does not need the system store: it is an endpoint of AWS, or it has no TLS.
fn needs_only_amazon_roots(endpoint: &str) -> bool {
    url::Url::parse(endpoint).is_ok_and(|url| {
        let host = url.host_str().unwrap_or_default();
        url.scheme() != "https" || host.ends_with(".amazonaws.com")
    })
}

/// Opens the connections that the first request will use, and runs the code of a request once. It sends
/// `GET /` to `DynamoDB`, a health check that needs no permission and is free. Failures are ignored: the
/// first request will report them.
pub(super) async fn open_connections(client: &Client, connections: usize) {
    let key = || AttributeValue::S(String::new());
    let requests = (0..connections).map(|_| {
        client
            .get_item()
            .table_name("-")
            .key("pk", key())
            .key("sk", key())
            .customize()
            .interceptor(HealthCheck)
            .send()
    });
    let _ = tokio::time::timeout(CONNECT_TIMEOUT, join_all(requests)).await;
}

/// Replaces a request by `GET /`.
#[derive(Debug)]
struct HealthCheck;

impl Intercept for HealthCheck {
    fn name(&self) -> &'static str {
        "HealthCheck"
    }

    fn modify_before_transmit(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let request = context.request_mut();
        let endpoint = request.uri().to_owned();
        *request = aws_sdk_dynamodb::config::http::HttpRequest::empty();
        request.set_uri(endpoint)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::{
        Config,
        config::{Credentials, Region},
    };
    use tokio::{io::AsyncReadExt, net::TcpListener};

    use super::*;

    #[test]
    fn only_amazon_roots_are_trusted_for_aws_and_the_system_store_for_other_endpoints() {
        for (endpoint, expected) in [
            ("https://dynamodb.eu-central-1.amazonaws.com", true),
            ("https://dynamodb.us-east-1.amazonaws.com/", true),
            ("https://dynamodb.us-east-1.amazonaws.com:443", true),
            ("http://localhost:8000", true), // no TLS
            ("https://localhost:8000", false),
            ("HTTPS://localhost:8000", false),
            ("https://evil.example?.amazonaws.com", false),
            ("https://dynamodb.cn-north-1.amazonaws.com.cn", false),
            ("https://evil-amazonaws.com", false),
            ("https://evil.example/.amazonaws.com", false),
        ] {
            assert_eq!(needs_only_amazon_roots(endpoint), expected, "{endpoint}");
        }
    }

    /// The HTTP client panics at its first use if it cannot read a certificate. This endpoint reads the
    /// start of a TLS handshake and closes the connection.
    #[tokio::test]
    async fn the_amazon_roots_are_readable_and_a_broken_endpoint_does_not_fail_init() {
        const TLS_HANDSHAKE: u8 = 0x16;

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(async move {
            let (mut connection, _) = listener.accept().await.unwrap();
            connection.read_u8().await.unwrap()
        });
        let http_client = aws_smithy_http_client::Builder::new()
            .tls_provider(tls::Provider::Rustls(
                tls::rustls_provider::CryptoMode::Ring,
            ))
            .tls_context(tls_context(None))
            .build_https();
        let config = Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::new("us-east-1"))
            .credentials_provider(Credentials::new("x", "x", None, None, "test"))
            .endpoint_url(format!("https://127.0.0.1:{port}"))
            .http_client(http_client)
            .build();
        open_connections(&Client::from_conf(config), 1).await;
        assert_eq!(server.await.unwrap(), TLS_HANDSHAKE);
    }
}
