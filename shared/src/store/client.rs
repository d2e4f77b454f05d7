//! The `DynamoDB` client.
//!
//! **Connections are opened during init** ([`open_connections`]), while Lambda gives the function a whole CPU.

use aws_sdk_dynamodb::{
    Client,
    config::{
        ConfigBag, Intercept, RuntimeComponents, interceptors::BeforeTransmitInterceptorContextMut,
    },
    error::BoxError,
    types::AttributeValue,
};
use futures_util::future::join_all;

use super::usage::UsageCounter;
use crate::{
    aws::{AwsConfig, CONNECT_TIMEOUT},
    error::ConfigError,
};

/// Creates the client. It does not retry; `retry.rs` does.
pub(super) fn create(aws: &AwsConfig, usage: UsageCounter) -> Result<Client, ConfigError> {
    let config = aws.for_service("DynamoDB", "AWS_ENDPOINT_URL_DYNAMODB")?;
    let config = aws_sdk_dynamodb::config::Builder::from(&config)
        .interceptor(usage)
        .build();
    Ok(Client::from_conf(config))
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
    use tokio::{io::AsyncReadExt, net::TcpListener};

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
        let config = Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::new("us-east-1"))
            .credentials_provider(Credentials::new("x", "x", None, None, "test"))
            .endpoint_url(format!("https://127.0.0.1:{port}"))
            .http_client(aws::http_client(false))
            .build();
        open_connections(&Client::from_conf(config), 1).await;
        assert_eq!(server.await.unwrap(), TLS_HANDSHAKE);
    }
}
