//! Development server: the whole chat backend on one machine, for developers and for tests.
//!
//! [`Stack::start`] reads `template.yaml`, so that routes, table and environment are defined once. It
//! creates the table in a DynamoDB that runs in this process ([`dynamodb`]) or elsewhere, serves the
//! routes as an API Gateway HTTP API does ([`gateway`]), and runs each function's real binary against
//! the Lambda Runtime API ([`lambda`]).

pub mod docs_page;
pub mod dynamodb;
pub mod function_binaries;
pub mod gateway;
pub mod generated_files;
pub mod lambda;
pub mod sample_events;
pub mod template;
pub mod tokens;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

use docs_page::DocsPage;
use dynamodb::EmbeddedDynamoDb;
use lambda::Lambda;
use template::Template;

pub use lambda::InvokeError;

/// The secret that signs tokens if `JWT_SECRET` is not set. It is public.
pub const DEVELOPMENT_SECRET: &str = "development-secret-that-everybody-knows";

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
    /// Overrides the template's values of the functions' environment variables.
    pub environment: BTreeMap<String, String>,
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
    embedded: Option<EmbeddedDynamoDb>,
    /// Signals all tasks to stop. Dropping it has the same effect.
    stop: watch::Sender<bool>,
    gateway: JoinHandle<()>,
}

impl Stack {
    /// Starts a backend. It accepts requests when this returns.
    ///
    /// # Errors
    /// When the template, the port, the table or the configuration is invalid.
    pub async fn start(options: StackOptions) -> Result<Self, Error> {
        let listener = listen(options.port).await?;
        Self::start_on(listener, options).await
    }

    /// Like [`Stack::start`], with a listener that is already open; `options.port` is ignored.
    ///
    /// # Errors
    /// As [`Stack::start`].
    pub async fn start_on(listener: TcpListener, options: StackOptions) -> Result<Self, Error> {
        let template = Template::read(&options.template)?;
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

        let (stop, stopped) = watch::channel(false);
        let lambda = Lambda::start(&template, &options, &endpoint, &table, stopped.clone()).await?;
        let address = listener
            .local_addr()
            .map_err(|error| Error::new(error.to_string()))?;
        let docs = DocsPage::new(&options.environment);
        let (functions, log) = (lambda.clone(), options.log);
        let gateway = gateway::serve(listener, &template, functions, docs, log, stopped);
        Ok(Self {
            url: format!("http://{address}"),
            dynamodb_endpoint: endpoint,
            table,
            lambda,
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
