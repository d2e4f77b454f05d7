//! The `DynamoDB` client.
//!
//! - **Connections are opened during init** ([`open_connections`]), while Lambda gives the function a whole CPU.
//! - **What the SDK does for each request and this service does not need** is left out: evaluating the rules for the
//!   endpoint ([`FixedEndpoint`]), and headers about the client ([`WithoutClientHeaders`]), which would also be signed.

use std::sync::OnceLock;

use aws_runtime::{
    invocation_id::InvocationIdInterceptor, request_info::RequestInfoInterceptor,
    user_agent::UserAgentInterceptor,
};
use aws_sdk_dynamodb::{
    Client,
    config::{
        ConfigBag, Intercept, RuntimeComponents,
        endpoint::{DefaultResolver, Endpoint, EndpointFuture, Params, ResolveEndpoint},
        interceptors::{
            BeforeSerializationInterceptorContextRef, BeforeTransmitInterceptorContextMut,
        },
    },
    error::BoxError,
    types::AttributeValue,
};
use aws_smithy_runtime_api::client::interceptors::disable_interceptor;
use futures_util::future::join_all;

use super::usage::UsageCounter;
use crate::{
    aws::{AwsConfig, CONNECT_TIMEOUT},
    error::ConfigError,
};

/// Creates the client. It does not retry; `retry.rs` does.
pub(super) fn create(aws: &AwsConfig, usage: UsageCounter) -> Result<Client, ConfigError> {
    let config = aws.for_service("DynamoDB", "AWS_ENDPOINT_URL_DYNAMODB")?;
    let config = aws_sdk_dynamodb::config::Builder::from(&config);
    Ok(with_config(config, usage))
}

fn with_config(config: aws_sdk_dynamodb::config::Builder, usage: UsageCounter) -> Client {
    let config = config
        .endpoint_resolver(FixedEndpoint::default())
        .interceptor(WithoutClientHeaders)
        .interceptor(usage)
        .build();
    Client::from_conf(config)
}

/// The endpoint of the first request, for all requests. The rules depend on the settings of the client, on the account of
/// the credentials, and on the ARN of a table, which this service does not use: `TABLE_NAME` is a name. The SDK's own
/// cache has one entry, and each operation has other parameters.
#[derive(Debug, Default)]
struct FixedEndpoint {
    resolver: DefaultResolver,
    endpoint: OnceLock<Endpoint>,
}

impl ResolveEndpoint for FixedEndpoint {
    fn resolve_endpoint<'a>(&'a self, params: &'a Params) -> EndpointFuture<'a> {
        if let Some(endpoint) = self.endpoint.get() {
            return EndpointFuture::ready(Ok(endpoint.clone()));
        }
        EndpointFuture::new(async {
            let endpoint = ResolveEndpoint::resolve_endpoint(&self.resolver, params).await?;
            Ok(self.endpoint.get_or_init(|| endpoint).clone())
        })
    }
}

/// Leaves out the headers that tell AWS about the SDK, its platform, and its attempts. The SDK itself does not retry.
#[derive(Debug)]
struct WithoutClientHeaders;

impl Intercept for WithoutClientHeaders {
    fn name(&self) -> &'static str {
        "WithoutClientHeaders"
    }

    fn read_before_execution(
        &self,
        _: &BeforeSerializationInterceptorContextRef<'_>,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let reason = "this service does not need the header";
        let state = config.interceptor_state();
        state.store_put(disable_interceptor::<UserAgentInterceptor>(reason));
        state.store_put(disable_interceptor::<InvocationIdInterceptor>(reason));
        state.store_put(disable_interceptor::<RequestInfoInterceptor>(reason));
        Ok(())
    }
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
        config::{BehaviorVersion, Credentials, Region},
    };
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;
    use crate::aws;

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
        let config = config(&format!("https://127.0.0.1:{port}"));
        open_connections(&Client::from_conf(config.build()), 1).await;
        assert_eq!(server.await.unwrap(), TLS_HANDSHAKE);
    }

    fn config(endpoint: &str) -> aws_sdk_dynamodb::config::Builder {
        Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::new("us-east-1"))
            .credentials_provider(Credentials::new("x", "x", None, None, "test"))
            .endpoint_url(endpoint)
            .http_client(aws::http_client(false))
    }

    #[tokio::test]
    async fn a_request_has_no_headers_about_the_client() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(async move {
            let (mut connection, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            // The body is a JSON object, and it is the only part with a brace.
            while !request.ends_with(b"}") {
                connection.read_buf(&mut request).await.unwrap();
            }
            let response = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
            connection.write_all(response).await.unwrap();
            String::from_utf8(request).unwrap().to_lowercase()
        });
        let config = config(&format!("http://127.0.0.1:{port}"));
        let client = with_config(config, UsageCounter::default());
        let key = || AttributeValue::S("x".to_owned());
        let request = client.get_item().table_name("x");
        let request = request.key("pk", key()).key("sk", key());
        request.send().await.unwrap();
        let request = server.await.unwrap();
        for header in ["user-agent:", "x-amz-user-agent:", "amz-sdk-"] {
            assert!(!request.contains(header), "{header} in {request}");
        }
        assert!(
            request.contains("authorization: aws4-hmac-sha256"),
            "{request}"
        );
    }

    #[tokio::test]
    async fn the_endpoint_is_that_of_the_first_request_that_has_one() {
        let endpoint = FixedEndpoint::default();
        let of_region = |region: Option<&str>| {
            let params = Params::builder().set_region(region.map(str::to_owned));
            params.build().unwrap()
        };
        let without_region = of_region(None);
        assert!(endpoint.resolve_endpoint(&without_region).await.is_err());
        let first = of_region(Some("eu-central-1"));
        let first = endpoint.resolve_endpoint(&first).await.unwrap();
        assert_eq!(first.url(), "https://dynamodb.eu-central-1.amazonaws.com");
        let other = of_region(Some("us-east-1"));
        let other = endpoint.resolve_endpoint(&other).await.unwrap();
        assert_eq!(other.url(), first.url());
    }
}
