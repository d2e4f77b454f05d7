//! Settings that all AWS clients of a function share. The work in this module is part of every cold start.
//!
//! - **Configuration from the environment only.** `aws-config` loads region and endpoints from environment
//!   variables. Lambda and the template set them. It reads no profile files and does not build the default
//!   credential chain, which would try files, containers and other services. `docs/performance.md` has the
//!   cost.
//! - **Only Amazon's root certificates.** Parsing the 145 certificates of the system store took three
//!   fifths of all instructions from the start of the process to the first response. The endpoints of AWS
//!   are signed under [five roots](https://www.amazontrust.com/repository/). Other endpoints use the
//!   system store, and so do all endpoints if `SSL_CERT_FILE` or `SSL_CERT_DIR` is set.
//! - **No retries of the SDK.** Each client states its own.

use std::{cell::OnceCell, time::Duration};

use aws_config::{
    BehaviorVersion, SdkConfig,
    environment::{EnvironmentVariableCredentialsProvider, EnvironmentVariableRegionProvider},
    retry::RetryConfig,
    timeout::TimeoutConfig,
};
use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use aws_sdk_dynamodb::config::{
    IdentityCache, ProvideCredentials, SharedHttpClient, StalledStreamProtectionConfig,
};
use aws_smithy_http_client::tls::{self, TlsContext, TrustStore};
use aws_types::service_config::ServiceConfigKey;

use crate::error::ConfigError;

/// The root certificates of Amazon Trust Services that AWS recommends trusting.
const AMAZON_ROOTS: &[u8] = include_bytes!("amazon-roots.pem");

/// The maximum time to open a connection, also during init.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// An idle connection is closed after this time. It is less than the time after which a server of AWS closes
/// it, because a request on a connection that the server is closing is lost. The SDK for Java uses 60 s.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(50);

/// Region, credentials and HTTP clients of the process.
pub struct AwsConfig {
    config: SdkConfig,
    /// The client that trusts only Amazon's roots, and the client that trusts the system store. Most processes
    /// need one of them.
    http_clients: [OnceCell<SharedHttpClient>; 2],
}

impl AwsConfig {
    /// Reads the environment of the process. The behavior version is pinned, because defaults of the SDK change
    /// between versions.
    ///
    /// # Errors
    /// [`ConfigError`] if a variable is missing.
    pub async fn from_env() -> Result<Self, ConfigError> {
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
            .retry_config(RetryConfig::disabled())
            .timeout_config(
                TimeoutConfig::builder()
                    .connect_timeout(CONNECT_TIMEOUT)
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
        Ok(Self {
            config,
            http_clients: Default::default(),
        })
    }

    /// The settings for the client of a service, such as `DynamoDB`. `endpoint_variable` is the environment
    /// variable with the URL of its endpoint. `AWS_ENDPOINT_URL` is for all services.
    ///
    /// # Errors
    /// [`ConfigError`] if the endpoint is not a URL.
    pub fn for_service(
        &self,
        service_id: &str,
        endpoint_variable: &'static str,
    ) -> Result<SdkConfig, ConfigError> {
        let endpoint = self.endpoint(service_id);
        if endpoint
            .as_ref()
            .is_some_and(|url| url::Url::parse(url).is_err())
        {
            return Err(ConfigError::new(
                endpoint_variable,
                "or AWS_ENDPOINT_URL is not a URL, such as https://SERVICE.REGION.amazonaws.com",
            ));
        }
        let has_system_store = needs_system_store(endpoint.as_deref());
        let http_client = self.http_clients[usize::from(has_system_store)]
            .get_or_init(|| http_client(has_system_store))
            .clone();
        Ok(self.config.to_builder().http_client(http_client).build())
    }

    /// The endpoint that is configured for a service or for all services. `None`: the endpoint of AWS.
    fn endpoint(&self, service_id: &str) -> Option<String> {
        let key = ServiceConfigKey::builder()
            .service_id(service_id)
            .env("AWS_ENDPOINT_URL")
            .profile("endpoint_url")
            .build();
        let service_config = self.config.service_config();
        let for_service = service_config.and_then(|config| config.load_config(key.ok()?));
        for_service.or_else(|| self.config.endpoint_url().map(str::to_owned))
    }
}

/// An HTTP client that trusts the certificates of the system, or only Amazon's.
pub(crate) fn http_client(has_system_store: bool) -> SharedHttpClient {
    aws_smithy_http_client::Builder::new()
        .pool_idle_timeout(POOL_IDLE_TIMEOUT)
        .tls_provider(tls::Provider::Rustls(
            tls::rustls_provider::CryptoMode::Ring,
        ))
        .tls_context(tls_context(has_system_store))
        .build_https()
}

/// Trusts the certificates of the system, or only Amazon's.
pub(crate) fn tls_context(has_system_store: bool) -> TlsContext {
    let store = if has_system_store {
        TrustStore::default()
    } else {
        TrustStore::empty().with_pem_certificate(AMAZON_ROOTS)
    };
    let context = TlsContext::builder().with_trust_store(store).build();
    context.expect("a TLS context requires only a trust store")
}

/// Whether the certificates of the system are necessary for an endpoint. `None`: the endpoint of AWS.
pub(crate) fn needs_system_store(endpoint: Option<&str>) -> bool {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    is_set("SSL_CERT_FILE")
        || is_set("SSL_CERT_DIR")
        || endpoint.is_some_and(|endpoint| !needs_only_amazon_roots(endpoint))
}

/// Whether an endpoint does not need the system store: it is an endpoint of AWS, or it has no TLS.
fn needs_only_amazon_roots(endpoint: &str) -> bool {
    url::Url::parse(endpoint).is_ok_and(|url| {
        let host = url.host_str().unwrap_or_default();
        url.scheme() != "https" || host.ends_with(".amazonaws.com")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_amazon_roots_are_trusted_for_aws_and_the_system_store_for_other_endpoints() {
        for (endpoint, expected) in [
            ("https://dynamodb.eu-central-1.amazonaws.com", true),
            ("https://dynamodb.us-east-1.amazonaws.com/", true),
            ("https://dynamodb.us-east-1.amazonaws.com:443", true),
            ("https://secretsmanager.us-east-1.amazonaws.com", true),
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
}
