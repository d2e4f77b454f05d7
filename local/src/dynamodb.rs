//! The table, in a DynamoDB that runs in this process or in another one.

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
        ProjectionType, TimeToLiveSpecification,
    },
};
use aws_smithy_http_client::tls;
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};

use crate::{Error, template::Table};

/// How often a table is asked whether it is ready, and how long in between.
const READY_ATTEMPTS: u32 = 150;
const READY_INTERVAL: Duration = Duration::from_millis(200);

/// A DynamoDB in this process, on a port of its own.
pub struct Embedded {
    endpoint: String,
    stop: oneshot::Sender<()>,
    server: JoinHandle<()>,
}

impl Embedded {
    /// Starts one that this machine alone can reach, in memory or kept in a file.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub async fn start(file: Option<&Path>) -> Result<Self, Error> {
        Self::start_on((Ipv4Addr::LOCALHOST, 0).into(), file).await
    }

    /// [`Embedded::start`] at an address: 0.0.0.0 lets containers and other machines reach it, too.
    ///
    /// # Errors
    /// When something else has the port, or the file cannot be opened.
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

    /// Its URL.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Ends it, with all that it has written safe in its file.
    pub async fn stop(self) {
        let _ = self.stop.send(());
        let _ = tokio::time::timeout(Duration::from_secs(2), self.server).await;
    }
}

/// The credentials and region that reach a DynamoDB, as environment variables: those that `variable`
/// knows, or else any, which is what emulators take.
pub(crate) fn access(variable: impl Fn(&str) -> Option<String>) -> BTreeMap<&'static str, String> {
    let region = variable("AWS_REGION").or_else(|| variable("AWS_DEFAULT_REGION"));
    let region = region.unwrap_or_else(|| "us-east-1".to_owned());
    let key = |name| variable(name).unwrap_or_else(|| "local".to_owned());
    let mut access = BTreeMap::from([
        ("AWS_ACCESS_KEY_ID", key("AWS_ACCESS_KEY_ID")),
        ("AWS_SECRET_ACCESS_KEY", key("AWS_SECRET_ACCESS_KEY")),
        ("AWS_REGION", region.clone()),
        ("AWS_DEFAULT_REGION", region),
    ]);
    if let Some(session) = variable("AWS_SESSION_TOKEN").filter(|token| !token.is_empty()) {
        access.insert("AWS_SESSION_TOKEN", session);
    }
    access
}

/// A client of AWS's DynamoDB, with the region and credentials that a person's environment has.
pub async fn aws() -> Client {
    let config = aws_config::defaults(BehaviorVersion::v2026_01_12());
    Client::new(&config.http_client(http_client()).load().await)
}

fn http_client() -> SharedHttpClient {
    aws_smithy_http_client::Builder::new()
        .tls_provider(tls::Provider::Rustls(
            tls::rustls_provider::CryptoMode::Ring,
        ))
        .build_https()
}

/// A client of the DynamoDB at `endpoint`.
#[must_use]
pub fn client(endpoint: &str) -> Client {
    let mut access = access(|name| std::env::var(name).ok());
    let session = access.remove("AWS_SESSION_TOKEN");
    let mut take = |name| access.remove(name).unwrap_or_default();
    let (key, secret) = (take("AWS_ACCESS_KEY_ID"), take("AWS_SECRET_ACCESS_KEY"));
    let region = take("AWS_REGION");
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(2))
        .operation_attempt_timeout(Duration::from_secs(10))
        .build();
    let config = Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new(region))
        .credentials_provider(Credentials::new(key, secret, session, None, "environment"))
        .endpoint_url(endpoint)
        .http_client(http_client())
        .retry_config(RetryConfig::standard().with_max_attempts(3))
        .timeout_config(timeouts)
        .build();
    Client::from_conf(config)
}

/// Makes the table, its indexes and its TTL where they are missing, and waits until they are ready.
/// Doing it twice, or twice at once, is harmless.
///
/// # Errors
/// When the DynamoDB cannot be reached or refuses.
#[expect(
    clippy::missing_panics_doc,
    reason = "what the builders require is set"
)]
pub async fn create_table(endpoint: &str, table: &Table, name: &str) -> Result<(), Error> {
    let client = client(endpoint);
    let failed = |error: &dyn std::error::Error| {
        let causes = std::iter::successors(error.source(), |cause| cause.source());
        let cause = causes
            .last()
            .map_or_else(|| error.to_string(), ToString::to_string);
        Error::new(format!(
            "cannot make table {name} in the DynamoDB at {endpoint}: {cause}"
        ))
    };
    let keys = |keys: &[(String, String)]| -> Vec<KeySchemaElement> {
        let element = |(name, kind): &(String, String)| {
            let element = KeySchemaElement::builder().attribute_name(name);
            element
                .key_type(kind.as_str().into())
                .build()
                .expect("name and kind are set")
        };
        keys.iter().map(element).collect()
    };
    let attributes = table.attributes.iter().map(|(name, kind)| {
        let attribute = AttributeDefinition::builder().attribute_name(name);
        attribute
            .attribute_type(kind.as_str().into())
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
    let enabled = enabled.build().expect("both are set");
    let set = client
        .update_time_to_live()
        .table_name(name)
        .time_to_live_specification(enabled);
    match set.send().await {
        // Somebody else was just as quick.
        Err(error) if error.code() == Some("ValidationException") => Ok(()),
        Err(error) => Err(failed(&error)),
        Ok(_) => Ok(()),
    }
}

async fn wait_until_ready(
    client: &Client,
    name: &str,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    for _ in 0..READY_ATTEMPTS {
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
        tokio::time::sleep(READY_INTERVAL).await;
    }
    Err("it does not become active".into())
}
