//! DynamoDB clients: AWS with the operator's credentials, or any other endpoint.

use std::{error::Error as _, time::Duration};

use aws_sdk_dynamodb::{
    Client, Config,
    config::{
        BehaviorVersion, Credentials, ProvideCredentials, Region, SharedHttpClient,
        retry::RetryConfig, timeout::TimeoutConfig,
    },
};
use aws_smithy_http_client::tls;
use chat_shared::Error;

/// Region and credentials for an endpoint when the environment has none. Emulators accept any.
const DEFAULT_REGION: &str = "us-east-1";
const DEFAULT_CREDENTIAL: &str = "local";

/// Creates a client of DynamoDB on AWS. Region and credentials come from the environment, the AWS
/// configuration files or the machine's role, as with the AWS CLI.
///
/// # Errors
/// [`Error::Internal`] if there is no region or there are no credentials. Without this check, each
/// request would fail as if DynamoDB were unavailable.
pub async fn aws_client() -> Result<Client, Error> {
    let config = aws_config::defaults(BehaviorVersion::v2026_01_12())
        .http_client(http_client())
        .timeout_config(timeouts());
    let config = config.load().await;
    let missing = |what: &str| {
        let cause = format!(
            "{what}; set AWS_PROFILE or the variables of the AWS CLI, or use --endpoint-url for \
             another DynamoDB"
        );
        Error::Internal(cause.into())
    };
    if config.region().is_none() {
        return Err(missing("there is no AWS region"));
    }
    let Some(credentials) = config.credentials_provider() else {
        return Err(missing("there are no AWS credentials"));
    };
    if let Err(error) = credentials.provide_credentials().await {
        let causes = std::iter::successors(error.source(), |cause| (*cause).source());
        let cause = causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"));
        return Err(missing(&format!("there are no AWS credentials: {cause}")));
    }
    Ok(Client::new(&config))
}

/// Creates a client of the DynamoDB at `endpoint`. Region and credentials come from environment
/// variables only: looking for the role of a machine that has none takes seconds.
#[must_use]
pub fn client_for_endpoint(endpoint: &str) -> Client {
    let variable = |name| std::env::var(name).ok();
    let region = variable("AWS_REGION").or_else(|| variable("AWS_DEFAULT_REGION"));
    let credential = |name| variable(name).unwrap_or_else(|| DEFAULT_CREDENTIAL.to_owned());
    let credentials = Credentials::new(
        credential("AWS_ACCESS_KEY_ID"),
        credential("AWS_SECRET_ACCESS_KEY"),
        variable("AWS_SESSION_TOKEN").filter(|token| !token.is_empty()),
        None,
        "environment",
    );
    let config = Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new(
            region.unwrap_or_else(|| DEFAULT_REGION.to_owned()),
        ))
        .credentials_provider(credentials)
        .endpoint_url(endpoint)
        .http_client(http_client())
        .retry_config(RetryConfig::standard().with_max_attempts(3))
        .timeout_config(timeouts())
        .build();
    Client::from_conf(config)
}

/// Without limits, a request on a lost connection would never end. A page of 1 MB can take seconds.
fn timeouts() -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(2))
        .operation_attempt_timeout(Duration::from_secs(30))
        .build()
}

fn http_client() -> SharedHttpClient {
    aws_smithy_http_client::Builder::new()
        .tls_provider(tls::Provider::Rustls(
            tls::rustls_provider::CryptoMode::Ring,
        ))
        .build_https()
}
