//! Development server: the whole chat backend on one machine, for developers and for tests.
//!
//! [`Stack::start`] reads `template.yaml`, so that routes, table and environment are defined once. It
//! creates the table in a DynamoDB that runs in this process ([`dynamodb`]) or elsewhere, serves the
//! routes as an API Gateway HTTP API does ([`gateway`]), and runs each function's real binary against
//! the Lambda Runtime API ([`lambda`]). It serves the WebSocket API and invokes the function of the
//! table's stream as well ([`realtime`]).

pub mod demo_page;
pub mod docs_page;
pub mod dynamodb;
pub mod function_binaries;
pub mod gateway;
pub mod generated_files;
pub mod lambda;
mod loopback;
pub mod realtime;
pub mod sample_events;
pub mod template;
pub mod tokens;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

use demo_page::DemoPage;
use docs_page::DocsPage;
use dynamodb::EmbeddedDynamoDb;
use lambda::Lambda;
use loopback::is_loopback_url;
use realtime::{Lanes, RealtimeOptions, Sockets, StreamPoller};
use template::Template;

pub use chat_shared::auth::DEVELOPMENT_SECRET;
pub use lambda::InvokeError;

/// How long a stack that stops waits for the requests in progress.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// How a stack is started.
pub struct StackOptions {
    /// The SAM template.
    pub template: PathBuf,
    /// The folder with one executable for each function, named as the template's
    /// `BuildProperties.Binary`.
    pub binaries: PathBuf,
    /// The port of the API on this machine; 0 selects a free port.
    pub port: u16,
    /// Where the table is.
    pub database: Database,
    /// Environment variables of the functions, besides those that the template sets. They take
    /// precedence over the template.
    pub environment: BTreeMap<String, String>,
    /// The origins whose pages may call the API, such as `https://app.example.com`, or `*`. If empty,
    /// pages of this machine may call it: `localhost`, `127.0.0.1` and `[::1]`, on any port.
    pub allowed_origins: Vec<String>,
    /// The WebSocket API and the table's stream.
    pub realtime: RealtimeOptions,
    /// Receives one line for each request, and the lines that functions print.
    pub log: LogSink,
}

/// Receives complete log lines.
pub type LogSink = Arc<dyn Fn(&str) + Send + Sync>;

/// Where the table is.
pub enum Database {
    /// In the memory of this process.
    Memory,
    /// In this process, stored in a file.
    File(PathBuf),
    /// In another DynamoDB, by its URL.
    Endpoint(String),
}

/// Why the development server failed. `Display` is one line that says what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);

impl Error {
    /// An error with this message.
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

/// A running backend.
pub struct Stack {
    url: String,
    dynamodb_endpoint: String,
    table: String,
    lambda: Arc<Lambda>,
    /// `None` if the stack does not push events.
    live: Option<Arc<Sockets>>,
    embedded: Option<EmbeddedDynamoDb>,
    /// Signals all tasks to stop. Dropping it has the same effect.
    stop: watch::Sender<bool>,
    gateway: JoinHandle<()>,
}

impl Stack {
    /// Starts a backend. It accepts requests when this returns.
    ///
    /// # Errors
    /// When the template, the port, the table or the configuration is invalid, or as [`check_secret`].
    pub async fn start(options: StackOptions) -> Result<Self, Error> {
        let listener = listen(options.port).await?;
        Self::start_on(listener, options).await
    }

    /// Like [`Stack::start`], with a listener that is already open; `options.port` is ignored.
    ///
    /// # Errors
    /// As [`Stack::start`].
    pub async fn start_on(listener: TcpListener, options: StackOptions) -> Result<Self, Error> {
        check_secret(&options.database, &options.environment)?;
        let mut template = Template::read(&options.template)?;
        if !options.realtime.enabled {
            template.live = None;
            template.stream_mapping = None;
        }
        let table = options
            .environment
            .get("TABLE_NAME")
            .unwrap_or(&template.table.name)
            .clone();
        let embedded = match &options.database {
            Database::Memory => Some(EmbeddedDynamoDb::start(None).await?),
            Database::File(file) => Some(EmbeddedDynamoDb::start(Some(file)).await?),
            Database::Endpoint(_) => None,
        };
        let endpoint = match (&options.database, &embedded) {
            (Database::Endpoint(endpoint), _) => endpoint.clone(),
            (_, embedded) => embedded
                .as_ref()
                .map(|embedded| embedded.endpoint().to_owned())
                .unwrap_or_default(),
        };
        dynamodb::create_table(&endpoint, &template.table, &table).await?;

        let address = listener
            .local_addr()
            .map_err(|error| Error::new(error.to_string()))?;
        let (stop, stopped) = watch::channel(false);
        let live_endpoint = template
            .live
            .as_ref()
            .map(|live| format!("http://{address}/{}", live.stage));
        let lambda = Lambda::start(
            &template,
            &options,
            &endpoint,
            &table,
            live_endpoint.as_deref(),
            stopped.clone(),
        )
        .await?;
        read_stream(&template, &options, &endpoint, &table, &lambda, &stopped).await?;
        let live = template.live.clone().map(|live| {
            let (realtime, log) = (options.realtime.clone(), options.log.clone());
            Sockets::new(live, realtime, lambda.clone(), log, stopped.clone())
        });
        let live_stage = template.live.as_ref().map(|live| live.stage.as_str());
        let pages = gateway::DevelopmentPages {
            docs: DocsPage::new(&options.environment),
            demo: DemoPage::new(&options.environment, live_stage),
        };
        let gateway = gateway::serve(
            listener,
            &template,
            &options,
            lambda.clone(),
            live.clone(),
            pages,
            stopped,
        );
        Ok(Self {
            url: format!("http://{address}"),
            dynamodb_endpoint: endpoint,
            table,
            lambda,
            live,
            embedded,
            stop,
            gateway: tokio::spawn(gateway),
        })
    }

    /// The base URL of the API.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The URL of the WebSocket API, also if the stack does not push events.
    #[must_use]
    pub fn live_url(&self) -> String {
        let live = self.live.as_ref();
        let stage = live.map_or("live", |live| live.stage());
        format!("{}/{stage}", self.url.replacen("http://", "ws://", 1))
    }

    /// The ids of the open WebSocket connections.
    #[must_use]
    pub fn connection_ids(&self) -> Vec<String> {
        let live = self.live.as_ref();
        live.map(|live| live.connection_ids()).unwrap_or_default()
    }

    /// Ends all WebSocket connections without a close frame, as a network that fails does.
    pub fn cut_connections(&self) {
        if let Some(live) = &self.live {
            live.cut_connections();
        }
    }

    /// The URL of the DynamoDB that contains the table.
    #[must_use]
    pub fn dynamodb_endpoint(&self) -> &str {
        &self.dynamodb_endpoint
    }

    /// The table's name.
    #[must_use]
    pub fn table(&self) -> &str {
        &self.table
    }

    /// Invokes a function (by its binary's name) with any event, without the gateway. Dropping the
    /// returned future does not cancel the invocation, because Lambda would finish it as well.
    ///
    /// # Errors
    /// When the function returns an error, exits or times out.
    pub async fn invoke(
        &self,
        function: &str,
        event: serde_json::Value,
    ) -> Result<serde_json::Value, InvokeError> {
        let (lambda, function) = (self.lambda.clone(), function.to_owned());
        let invocation = async move { lambda.invoke(&function, event.to_string().into()).await };
        let invocation = tokio::spawn(invocation)
            .await
            .map_err(|error| InvokeError::FunctionError(error.to_string()))??;
        serde_json::from_slice(&invocation.payload)
            .map_err(|error| InvokeError::FunctionError(error.to_string()))
    }

    /// Process ids of a function's running instances.
    #[must_use]
    pub fn instance_pids(&self, function: &str) -> Vec<u32> {
        self.lambda.instance_pids(function)
    }

    /// Stops accepting requests, lets those in progress finish for some seconds, then ends all
    /// processes.
    pub async fn stop(mut self) {
        let _ = self.stop.send(true);
        let _ = tokio::time::timeout(SHUTDOWN_TIMEOUT, &mut self.gateway).await;
        self.lambda.stop().await;
        if let Some(embedded) = self.embedded.take() {
            embedded.stop().await;
        }
    }
}

/// Invokes the function of the template's event source mapping with the records that are written to the table after
/// this returns.
async fn read_stream(
    template: &Template,
    options: &StackOptions,
    endpoint: &str,
    table: &str,
    lambda: &Arc<Lambda>,
    stop: &watch::Receiver<bool>,
) -> Result<(), Error> {
    let (Some(mapping), Some(view_type)) = (&template.stream_mapping, &template.table.stream)
    else {
        return Ok(());
    };
    let stream = dynamodb::enable_stream(endpoint, table, view_type).await?;
    let poller = StreamPoller::start(endpoint, stream, options.log.clone()).await?;
    let faults = options.realtime.faults.clone();
    let (lambda, log) = (lambda.clone(), options.log.clone());
    let lanes = Lanes::start(mapping.clone(), faults, lambda, log, stop);
    tokio::spawn(poller.run(lanes, stop.clone()));
    Ok(())
}

/// Rejects the development secret if the table is on another machine. Everybody knows this secret, so
/// everybody who can send requests to this server could read and change that table as any user.
///
/// # Errors
/// When `database` is not on this machine and a secret in `environment` is the development secret.
pub fn check_secret(
    database: &Database,
    environment: &BTreeMap<String, String>,
) -> Result<(), Error> {
    let Database::Endpoint(endpoint) = database else {
        return Ok(());
    };
    let is_public = |variable: &&str| {
        let secret = environment.get(*variable);
        secret.is_some_and(|secret| secret == DEVELOPMENT_SECRET)
    };
    let public = ["JWT_SECRET", "JWT_SECRET_PREVIOUS"]
        .into_iter()
        .find(is_public);
    match public {
        Some(variable) if !is_loopback_url(endpoint) => Err(Error::new(format!(
            "{variable} is the development secret, which everybody knows, but the DynamoDB at \
             {endpoint} is not on this machine; set {variable} to a secret of your own, such as the \
             output of `openssl rand -base64 48`"
        ))),
        _ => Ok(()),
    }
}

/// Opens a port of this machine; 0 selects a free port.
///
/// # Errors
/// When another process uses the port.
pub async fn listen(port: u16) -> Result<TcpListener, Error> {
    TcpListener::bind(("127.0.0.1", port))
        .await
        .map_err(|error| {
            Error::new(format!(
                "cannot listen on port {port} ({error}); choose another with --port"
            ))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_development_secret_is_rejected_for_a_table_on_another_machine() {
        let check = |database: &Database, variable: &str, secret: &str| {
            let environment = BTreeMap::from([(variable.to_owned(), secret.to_owned())]);
            check_secret(database, &environment)
        };
        let endpoint = |url: &str| Database::Endpoint(url.to_owned());
        let other_machine = endpoint("https://dynamodb.eu-central-1.amazonaws.com");
        for variable in ["JWT_SECRET", "JWT_SECRET_PREVIOUS"] {
            let error = check(&other_machine, variable, DEVELOPMENT_SECRET).unwrap_err();
            let message = error.to_string();
            assert!(message.contains(&format!("set {variable}")), "{message}");
            assert!(message.contains("amazonaws.com"), "{message}");
            assert!(check(&other_machine, variable, "a secret of a deployment").is_ok());
            for this_machine in [
                endpoint("http://localhost:8000"),
                Database::Memory,
                Database::File("chat.db".into()),
            ] {
                assert!(check(&this_machine, variable, DEVELOPMENT_SECRET).is_ok());
            }
        }
        assert!(check_secret(&other_machine, &BTreeMap::new()).is_ok());
    }
}
