//! DynamoDB: runs an embedded one in this process, creates clients, creates the table, and enables its stream.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    time::Duration,
};

use aws_sdk_dynamodb::{
    Client, Config,
    config::{
        BehaviorVersion, Credentials, Region, SharedHttpClient, retry::RetryConfig,
        timeout::TimeoutConfig,
    },
    error::ProvideErrorMetadata,
    types::{
        AttributeDefinition, BillingMode, GlobalSecondaryIndex, KeySchemaElement, Projection,
        ProjectionType, StreamSpecification, TimeToLiveSpecification,
    },
};
use aws_smithy_http_client::tls;
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};

use crate::{Error, template::Table};

/// How often to check whether a table is active.
const MAX_READY_CHECKS: u32 = 150;
/// How long to wait between two checks.
const READY_CHECK_INTERVAL: Duration = Duration::from_millis(200);

/// A DynamoDB that runs in this process and listens on a port.
pub struct EmbeddedDynamoDb {
    endpoint: String,
    stop: oneshot::Sender<()>,
    server: JoinHandle<()>,
}

impl EmbeddedDynamoDb {
    /// Starts a DynamoDB that only this machine can reach, in memory or stored in a file.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub async fn start(file: Option<&Path>) -> Result<Self, Error> {
        Self::start_on((Ipv4Addr::LOCALHOST, 0).into(), file).await
    }

    /// Like [`EmbeddedDynamoDb::start`], on this address. Containers and other machines can reach
    /// 0.0.0.0 as well.
    ///
    /// # Errors
    /// When another process uses the port, or the file cannot be opened.
    pub async fn start_on(address: SocketAddr, file: Option<&Path>) -> Result<Self, Error> {
        let database = match file {
            None => dynoxide::Database::memory(),
            Some(file) => dynoxide::Database::new(&file.to_string_lossy()),
        };
        let database = database.map_err(|error| {
            let file = file.unwrap_or(Path::new("memory")).display();
            Error::new(format!("cannot open the database {file}: {error}"))
        })?;
        let listener = TcpListener::bind(address).await;
        let listener =
            listener.map_err(|error| Error::new(format!("cannot listen on {address}: {error}")))?;
        let address = listener
            .local_addr()
            .map_err(|error| Error::new(error.to_string()))?;
        let (stop, stopped) = oneshot::channel::<()>();
        let server = tokio::spawn(async move {
            let stopped = async { drop(stopped.await) };
            let _ = dynoxide::server::serve_with_shutdown(listener, database, stopped).await;
        });
        Ok(Self {
            endpoint: format!("http://{address}"),
            stop,
            server,
        })
    }

    /// The URL of this DynamoDB.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Stops the DynamoDB after it has written all data to its file.
    pub async fn stop(self) {
        let _ = self.stop.send(());
        let _ = tokio::time::timeout(Duration::from_secs(2), self.server).await;
    }
}

/// Environment variables with the credentials and the region for a DynamoDB. A variable that `variable`
/// does not set gets a dummy value, which emulators accept.
pub(crate) fn aws_environment(
    variable: impl Fn(&str) -> Option<String>,
) -> BTreeMap<&'static str, String> {
    let region = variable("AWS_REGION").or_else(|| variable("AWS_DEFAULT_REGION"));
    let region = region.unwrap_or_else(|| "us-east-1".to_owned());
    let key = |name| variable(name).unwrap_or_else(|| "local".to_owned());
    let mut environment = BTreeMap::from([
        ("AWS_ACCESS_KEY_ID", key("AWS_ACCESS_KEY_ID")),
        ("AWS_SECRET_ACCESS_KEY", key("AWS_SECRET_ACCESS_KEY")),
        ("AWS_REGION", region.clone()),
        ("AWS_DEFAULT_REGION", region),
    ]);
    if let Some(token) = variable("AWS_SESSION_TOKEN").filter(|token| !token.is_empty()) {
        environment.insert("AWS_SESSION_TOKEN", token);
    }
    environment
}

fn http_client() -> SharedHttpClient {
    aws_smithy_http_client::Builder::new()
        .tls_provider(tls::Provider::Rustls(
            tls::rustls_provider::CryptoMode::Ring,
        ))
        .build_https()
}

/// Settings that the clients of DynamoDB and of its streams share.
struct ClientSettings {
    region: Region,
    credentials: Credentials,
    retries: RetryConfig,
    timeouts: TimeoutConfig,
}

impl ClientSettings {
    /// Region and credentials of this process, or dummy values.
    fn new() -> Self {
        let mut environment = aws_environment(|name| std::env::var(name).ok());
        let token = environment.remove("AWS_SESSION_TOKEN");
        let mut take = |name| environment.remove(name).unwrap_or_default();
        let (key, secret) = (take("AWS_ACCESS_KEY_ID"), take("AWS_SECRET_ACCESS_KEY"));
        Self {
            region: Region::new(take("AWS_REGION")),
            credentials: Credentials::new(key, secret, token, None, "environment"),
            retries: RetryConfig::standard().with_max_attempts(3),
            timeouts: TimeoutConfig::builder()
                .connect_timeout(Duration::from_secs(2))
                .operation_attempt_timeout(Duration::from_secs(10))
                .build(),
        }
    }
}

/// A client for the DynamoDB at `endpoint`.
#[must_use]
pub fn client_for_endpoint(endpoint: &str) -> Client {
    let settings = ClientSettings::new();
    let config = Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(settings.region)
        .credentials_provider(settings.credentials)
        .endpoint_url(endpoint)
        .http_client(http_client())
        .retry_config(settings.retries)
        .timeout_config(settings.timeouts)
        .build();
    Client::from_conf(config)
}

/// A client for the streams of the DynamoDB at `endpoint`.
pub(crate) fn streams_client_for_endpoint(endpoint: &str) -> aws_sdk_dynamodbstreams::Client {
    let settings = ClientSettings::new();
    let config = aws_sdk_dynamodbstreams::Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(settings.region)
        .credentials_provider(settings.credentials)
        .endpoint_url(streams_endpoint(endpoint))
        .http_client(http_client())
        .retry_config(settings.retries)
        .timeout_config(settings.timeouts)
        .build();
    aws_sdk_dynamodbstreams::Client::from_conf(config)
}

/// The endpoint of the streams of a DynamoDB. AWS has one of its own for them; emulators have not.
fn streams_endpoint(endpoint: &str) -> String {
    let is_of_aws = endpoint.starts_with("https://dynamodb.") && endpoint.contains(".amazonaws.");
    if is_of_aws {
        endpoint.replacen("https://dynamodb.", "https://streams.dynamodb.", 1)
    } else {
        endpoint.to_owned()
    }
}

/// Creates the table with its indexes and its TTL if they do not exist, and waits until they are
/// active. It is safe to call this again, also concurrently. [`enable_stream`] adds the stream: a stack without push
/// and the benchmarks use the table without it, because the embedded DynamoDB keeps the records of a stream forever.
///
/// # Errors
/// When the DynamoDB cannot be reached or returns an error.
#[expect(
    clippy::missing_panics_doc,
    reason = "all fields that the builders require are set"
)]
pub async fn create_table(endpoint: &str, table: &Table, name: &str) -> Result<(), Error> {
    let client = client_for_endpoint(endpoint);
    let failed = |error: &dyn std::error::Error| {
        let cause = root_cause(error);
        Error::new(format!(
            "cannot create table {name} in the DynamoDB at {endpoint}: {cause}"
        ))
    };
    let keys = |keys: &[(String, String)]| -> Vec<KeySchemaElement> {
        let element = |(name, key_type): &(String, String)| {
            let element = KeySchemaElement::builder().attribute_name(name);
            element
                .key_type(key_type.as_str().into())
                .build()
                .expect("name and key type are set")
        };
        keys.iter().map(element).collect()
    };
    let attributes = table.attributes.iter().map(|(name, attribute_type)| {
        let attribute = AttributeDefinition::builder().attribute_name(name);
        attribute
            .attribute_type(attribute_type.as_str().into())
            .build()
            .expect("name and type are set")
    });
    let indexes: Vec<_> = table
        .indexes
        .iter()
        .map(|(name, schema)| {
            let all = Projection::builder()
                .projection_type(ProjectionType::All)
                .build();
            let index = GlobalSecondaryIndex::builder()
                .index_name(name)
                .projection(all);
            index
                .set_key_schema(Some(keys(schema)))
                .build()
                .expect("name and keys are set")
        })
        .collect();
    let created = client
        .create_table()
        .table_name(name)
        .billing_mode(BillingMode::PayPerRequest)
        .set_attribute_definitions(Some(attributes.collect()))
        .set_key_schema(Some(keys(&table.keys)))
        .set_global_secondary_indexes(Some(indexes).filter(|indexes| !indexes.is_empty()))
        .send()
        .await;
    if let Err(error) = created
        && error.code() != Some("ResourceInUseException")
    {
        return Err(failed(&error));
    }
    wait_until_ready(&client, name)
        .await
        .map_err(|error| failed(error.as_ref()))?;
    let Some(attribute) = &table.ttl else {
        return Ok(());
    };
    let ttl = client.describe_time_to_live().table_name(name).send().await;
    let ttl = ttl
        .map_err(|error| failed(&error))?
        .time_to_live_description;
    if ttl.is_some_and(|ttl| ttl.attribute_name() == Some(attribute)) {
        return Ok(());
    }
    let enabled = TimeToLiveSpecification::builder()
        .enabled(true)
        .attribute_name(attribute);
    let enabled = enabled.build().expect("enabled and attribute name are set");
    let set = client
        .update_time_to_live()
        .table_name(name)
        .time_to_live_specification(enabled);
    match set.send().await {
        // Another process has enabled the TTL at the same time.
        Err(error) if error.code() == Some("ValidationException") => Ok(()),
        Err(error) => Err(failed(&error)),
        Ok(_) => Ok(()),
    }
}

/// Enables the stream of a table if it is not enabled, waits until it is, and returns its ARN. It is safe to call
/// this again, also concurrently. `view_type` is the content of the records, such as `NEW_AND_OLD_IMAGES`.
///
/// # Errors
/// When the DynamoDB cannot be reached or returns an error, or the table has a stream with other content.
#[expect(
    clippy::missing_panics_doc,
    reason = "all fields that the builder requires are set"
)]
pub async fn enable_stream(endpoint: &str, name: &str, view_type: &str) -> Result<String, Error> {
    let client = client_for_endpoint(endpoint);
    let failed = |cause: &str| {
        Error::new(format!(
            "cannot enable the stream of table {name} in the DynamoDB at {endpoint}: {cause}; start with \
             --no-realtime to use the table without a stream"
        ))
    };
    for _ in 0..MAX_READY_CHECKS {
        let described = client.describe_table().table_name(name).send().await;
        let described = described.map_err(|error| failed(&root_cause(&error)))?;
        let Some(table) = described.table else {
            continue;
        };
        let stream = table.stream_specification();
        if let Some(stream) = stream.filter(|stream| stream.stream_enabled()) {
            let actual = stream.stream_view_type().map_or("", AsRef::as_ref);
            if actual != view_type {
                return Err(failed(&format!(
                    "it has a stream with {actual} instead of {view_type}"
                )));
            }
            if let Some(arn) = table.latest_stream_arn() {
                return Ok(arn.to_owned());
            }
        } else {
            let stream = StreamSpecification::builder()
                .stream_enabled(true)
                .stream_view_type(view_type.into())
                .build()
                .expect("enabled is set");
            let update = client.update_table().table_name(name);
            match update.stream_specification(stream).send().await {
                // The next description has the ARN.
                Ok(_) => continue,
                Err(error) => {
                    // Another process enables the stream at the same time, or the table is being changed.
                    let is_busy = ["ResourceInUseException", "ValidationException"];
                    if !error.code().is_some_and(|code| is_busy.contains(&code)) {
                        return Err(failed(&root_cause(&error)));
                    }
                }
            }
        }
        tokio::time::sleep(READY_CHECK_INTERVAL).await;
    }
    Err(failed("it was not enabled in time"))
}

/// The innermost cause of an error, which says what went wrong.
pub(crate) fn root_cause(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes
        .last()
        .map_or_else(|| error.to_string(), ToString::to_string)
}

async fn wait_until_ready(
    client: &Client,
    name: &str,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    for _ in 0..MAX_READY_CHECKS {
        let described = client.describe_table().table_name(name).send().await;
        let Some(table) = described?.table else {
            continue;
        };
        let indexes = table.global_secondary_indexes();
        let active = |status: Option<&str>| status == Some("ACTIVE");
        if active(table.table_status().map(AsRef::as_ref))
            && indexes
                .iter()
                .all(|index| active(index.index_status().map(AsRef::as_ref)))
        {
            return Ok(());
        }
        tokio::time::sleep(READY_CHECK_INTERVAL).await;
    }
    Err("the table did not become active in time".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_of_aws_have_an_endpoint_of_their_own() {
        for (endpoint, expected) in [
            (
                "https://dynamodb.eu-central-1.amazonaws.com",
                "https://streams.dynamodb.eu-central-1.amazonaws.com",
            ),
            (
                "https://dynamodb.cn-north-1.amazonaws.com.cn",
                "https://streams.dynamodb.cn-north-1.amazonaws.com.cn",
            ),
            ("http://localhost:8000", "http://localhost:8000"),
        ] {
            assert_eq!(streams_endpoint(endpoint), expected);
        }
    }
}
