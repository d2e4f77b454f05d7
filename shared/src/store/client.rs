//! The client of DynamoDB, made for a short start: whatever is done here, each cold start pays for.
//!
//! - **Without the configuration chain.** Lambda gives region and credentials as variables, the
//!   template the endpoint. Looking for them in files and building clients of other services to ask for
//!   them takes up to 1 ms and makes a binary a sixth larger (`docs/benchmark/tried.md`). `local` has
//!   that chain, for people.
//! - **Amazon's roots alone.** Parsing the system's 145 certificates was three fifths of the
//!   instructions from the process's start to its first answer. AWS signs its endpoints under
//!   [five roots](https://www.amazontrust.com/repository/). For other endpoints, and where
//!   `SSL_CERT_FILE` or `SSL_CERT_DIR` is set, the system's store is taken.
//! - **Connected during init** ([`connect`]), when Lambda gives a function a whole processor.

use std::time::Duration;

use aws_sdk_dynamodb::{
    Client, Config,
    config::{
        BehaviorVersion, ConfigBag, Credentials, IdentityCache, Intercept, Region,
        RuntimeComponents, StalledStreamProtectionConfig,
        interceptors::BeforeTransmitInterceptorContextMut, retry::RetryConfig,
        timeout::TimeoutConfig,
    },
    error::BoxError,
    types::AttributeValue,
};
use aws_smithy_http_client::tls::{self, TlsContext, TrustStore};
use futures_util::future::join_all;

use super::meter::Meter;
use crate::error::ConfigError;

/// Amazon Trust Services' roots, as AWS recommends to trust them.
const AMAZON_ROOTS: &[u8] = include_bytes!("amazon-roots.pem");

/// How long the start waits for a connection, at most.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// A client as the environment says.
///
/// The SDK's behaviour is set openly because its defaults change between behaviour versions. An
/// attempt may take 2 s, opening a connection 1 s. The SDK makes 4 attempts at what is throttled,
/// broken or lost (a transaction with the same token each time), waiting up to 25, 50, 100 ms in
/// between. It never repeats a cancelled transaction: `transaction.rs` does.
pub(super) fn from_variables(
    variable: impl Fn(&str) -> Option<String>,
    meter: Meter,
) -> Result<Client, ConfigError> {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty());
    let needed = |name| set(name).ok_or(ConfigError::new(name, "is not set: Lambda sets it"));
    let region = set("AWS_REGION").or_else(|| set("AWS_DEFAULT_REGION"));
    let region = region.ok_or(ConfigError::new("AWS_REGION", "is not set: Lambda sets it"))?;
    let endpoint = set("AWS_ENDPOINT_URL_DYNAMODB").or_else(|| set("AWS_ENDPOINT_URL"));
    let endpoint = endpoint.ok_or(ConfigError::new(
        "AWS_ENDPOINT_URL_DYNAMODB",
        "is not set: give it https://dynamodb.REGION.amazonaws.com, as the template does",
    ))?;
    let has_own_store = set("SSL_CERT_FILE")
        .or_else(|| set("SSL_CERT_DIR"))
        .is_some();
    let credentials = Credentials::new(
        needed("AWS_ACCESS_KEY_ID")?,
        needed("AWS_SECRET_ACCESS_KEY")?,
        set("AWS_SESSION_TOKEN"),
        None,
        "environment",
    );
    let http_client = aws_smithy_http_client::Builder::new()
        .tls_provider(tls::Provider::Rustls(
            tls::rustls_provider::CryptoMode::Ring,
        ))
        .tls_context(trust(&endpoint, has_own_store))
        .build_https();
    let config = Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new(region))
        .credentials_provider(credentials)
        .endpoint_url(endpoint)
        .http_client(http_client)
        .retry_config(
            RetryConfig::standard()
                .with_max_attempts(4)
                .with_initial_backoff(Duration::from_millis(25))
                .with_max_backoff(Duration::from_millis(400)),
        )
        .timeout_config(
            TimeoutConfig::builder()
                .connect_timeout(CONNECT_TIMEOUT)
                .operation_attempt_timeout(Duration::from_secs(2))
                .build(),
        )
        // Answers are small, and an attempt has a time limit of its own.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        // They stay the same as long as the process lives.
        .identity_cache(IdentityCache::no_cache())
        .interceptor(meter)
        .build();
    Ok(Client::from_conf(config))
}

fn trust(endpoint: &str, has_own_store: bool) -> TlsContext {
    let store = if is_for_amazons_roots(endpoint) && !has_own_store {
        TrustStore::empty().with_pem_certificate(AMAZON_ROOTS)
    } else {
        TrustStore::default()
    };
    let context = TlsContext::builder().with_trust_store(store).build();
    context.expect("a trust store is all that it takes")
}

/// Whether the system's store is not needed: for AWS, and where there is no TLS.
fn is_for_amazons_roots(endpoint: &str) -> bool {
    url::Url::parse(endpoint).is_ok_and(|url| {
        let host = url.host_str().unwrap_or_default();
        url.scheme() != "https" || host.ends_with(".amazonaws.com")
    })
}

/// Opens the connections that the first call will use, and runs the code that each call runs, so that
/// both are done before somebody waits. It asks DynamoDB for its health, which needs no permission
/// and costs nothing. Whether that works does not matter here: the first call will see.
pub(super) async fn connect(client: &Client, connections: usize) {
    let key = || AttributeValue::S(String::new());
    let asked = (0..connections).map(|_| {
        client
            .get_item()
            .table_name("-")
            .key("pk", key())
            .key("sk", key())
            .customize()
            .interceptor(HealthCheck)
            .send()
    });
    let _ = tokio::time::timeout(CONNECT_TIMEOUT, join_all(asked)).await;
}

/// Sends `GET /` in the place of what was to be sent.
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
    use super::*;

    #[test]
    fn amazons_roots_are_trusted_for_aws_alone() {
        for (endpoint, expected) in [
            ("https://dynamodb.eu-central-1.amazonaws.com", true),
            ("https://dynamodb.us-east-1.amazonaws.com/", true),
            ("https://dynamodb.us-east-1.amazonaws.com:443", true),
            ("http://localhost:8000", true), // no TLS, nothing to trust
            ("https://localhost:8000", false),
            ("HTTPS://localhost:8000", false),
            ("https://evil.example?.amazonaws.com", false),
            ("https://dynamodb.cn-north-1.amazonaws.com.cn", false),
            ("https://evil-amazonaws.com", false),
            ("https://evil.example/.amazonaws.com", false),
        ] {
            assert_eq!(is_for_amazons_roots(endpoint), expected, "{endpoint}");
        }
    }

    /// The HTTP client panics on a certificate that it cannot read, when it is first used.
    #[tokio::test]
    async fn amazons_roots_can_be_read_and_an_endpoint_that_is_not_there_stops_nobody() {
        let variable = |name: &str| {
            let value = match name {
                "AWS_REGION" => "us-east-1",
                "AWS_ACCESS_KEY_ID" | "AWS_SECRET_ACCESS_KEY" => "x",
                "AWS_ENDPOINT_URL" => "https://nowhere.amazonaws.com:1",
                _ => return None,
            };
            Some(value.to_owned())
        };
        let client = from_variables(variable, Meter::default()).unwrap();
        connect(&client, 2).await;
    }

    #[test]
    fn what_lambda_sets_is_needed_and_named_when_it_is_missing() {
        let all = [
            "AWS_REGION",
            "AWS_ENDPOINT_URL_DYNAMODB",
            "AWS_ACCESS_KEY_ID",
            "AWS_SECRET_ACCESS_KEY",
        ];
        for missing in all {
            let variable = |name: &str| {
                let is_set = all.contains(&name) && name != missing;
                is_set.then(|| "x".to_owned())
            };
            let error = from_variables(variable, Meter::default()).unwrap_err();
            assert!(error.to_string().contains(missing), "{error}");
        }
    }
}
