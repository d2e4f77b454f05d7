//! The whole chat backend on one machine: for developers, and for the tests.
//!
//! [`Stack::start`] reads `template.yaml`, so that routes, table and environment exist once; creates
//! the table in a DynamoDB that runs in this process ([`dynamodb`]) or elsewhere; serves the routes as
//! an API Gateway HTTP API does ([`gateway`]); and runs each function's real binary against the Lambda
//! Runtime API ([`lambda`]).

pub mod binaries;
pub mod docs;
pub mod dynamodb;
pub mod events;
pub mod gateway;
pub mod lambda;
pub mod template;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

use docs::Docs;
use dynamodb::Embedded;
pub use lambda::InvokeError;
use lambda::Lambda;
use template::Template;

/// Signs tokens when `JWT_SECRET` does not say otherwise. Everybody knows it.
pub const DEVELOPMENT_SECRET: &str = "development-secret-that-everybody-knows";

/// How long a stack that stops waits for calls under way.
const LONGEST_GOODBYE: Duration = Duration::from_secs(5);

/// What a stack is made of.
pub struct Options {
    /// The SAM template.
    pub template: PathBuf,
    /// Folder with one executable a function, named as the template's `BuildProperties.Binary`.
    pub binaries: PathBuf,
    /// Where the API listens on this machine; 0: any free port.
    pub port: u16,
    /// Where the table is.
    pub database: Database,
    /// Takes precedence over the template's values of the functions' environment variables.
    pub environment: BTreeMap<String, String>,
    /// Receives one line a call, and the lines that functions print.
    pub log: Log,
}

/// Receives finished log lines.
pub type Log = Arc<dyn Fn(&str) + Send + Sync>;

/// Where the table is.
pub enum Database {
    /// In this process, gone with it.
    Memory,
    /// In this process, kept in a file.
    File(PathBuf),
    /// Another DynamoDB.
    Endpoint(String),
}

/// Why a stack could not start; `Display` is one line that says what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);

impl Error {
    /// An error with a line for a person.
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
    embedded: Option<Embedded>,
    /// Says to everything that runs that it shall stop; also by being dropped.
    stopping: watch::Sender<bool>,
    gateway: JoinHandle<()>,
}

impl Stack {
    /// Starts a backend; it is ready for calls when this returns.
    ///
    /// # Errors
    /// When the template, the port, the table or the configuration is not right.
    pub async fn start(options: Options) -> Result<Self, Error> {
        let listener = listen(options.port).await?;
        Self::start_on(listener, options).await
    }

    /// [`Stack::start`] on a port that is taken already; `options.port` does not matter.
    ///
    /// # Errors
    /// As [`Stack::start`].
    pub async fn start_on(listener: TcpListener, options: Options) -> Result<Self, Error> {
        let template = Template::read(&options.template)?;
        let table = options
            .environment
            .get("TABLE_NAME")
            .unwrap_or(&template.table.name)
            .clone();
        let (embedded, endpoint) = match &options.database {
            Database::Memory => (Some(Embedded::start(None).await?), None),
            Database::File(file) => (Some(Embedded::start(Some(file)).await?), None),
            Database::Endpoint(endpoint) => (None, Some(endpoint.clone())),
        };
        let endpoint = endpoint
            .or_else(|| {
                embedded
                    .as_ref()
                    .map(|embedded| embedded.endpoint().to_owned())
            })
            .unwrap_or_default();
        dynamodb::create_table(&endpoint, &template.table, &table).await?;

        let (stopping, stop) = watch::channel(false);
        let lambda = Lambda::start(&template, &options, &endpoint, &table, stop.clone()).await?;
        let address = listener
            .local_addr()
            .map_err(|error| Error::new(error.to_string()))?;
        let docs = Docs::new(&options.environment);
        let gateway = gateway::serve(listener, &template, lambda.clone(), docs, options.log, stop);
        Ok(Self {
            url: format!("http://{address}"),
            dynamodb_endpoint: endpoint,
            table,
            lambda,
            embedded,
            stopping,
            gateway: tokio::spawn(gateway),
        })
    }

    /// Base URL of the API.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// URL of the DynamoDB that holds the table.
    #[must_use]
    pub fn dynamodb_endpoint(&self) -> &str {
        &self.dynamodb_endpoint
    }

    /// The table's name.
    #[must_use]
    pub fn table(&self) -> &str {
        &self.table
    }

    /// Invokes one function (by its binary's name) with any event, past the gateway. A caller that
    /// gives up does not stop the call: Lambda would finish it, too.
    ///
    /// # Errors
    /// When the function fails, dies or takes too long.
    pub async fn invoke(
        &self,
        function: &str,
        event: serde_json::Value,
    ) -> Result<serde_json::Value, InvokeError> {
        let (lambda, function) = (self.lambda.clone(), function.to_owned());
        let call = async move { lambda.invoke(&function, event.to_string().into()).await };
        let invoked = tokio::spawn(call)
            .await
            .map_err(|error| InvokeError::Failed(error.to_string()))??;
        serde_json::from_slice(&invoked.reply)
            .map_err(|error| InvokeError::Failed(error.to_string()))
    }

    /// Process ids of a function's live instances.
    #[must_use]
    pub fn instances(&self, function: &str) -> Vec<u32> {
        self.lambda.instances(function)
    }

    /// Takes no more calls, lets those under way finish for some seconds, then ends all processes.
    pub async fn stop(mut self) {
        let _ = self.stopping.send(true);
        let _ = tokio::time::timeout(LONGEST_GOODBYE, &mut self.gateway).await;
        self.lambda.stop().await;
        if let Some(embedded) = self.embedded.take() {
            embedded.stop().await;
        }
    }
}

/// Takes a port of this machine; 0: any free one.
///
/// # Errors
/// When something else has it.
pub async fn listen(port: u16) -> Result<TcpListener, Error> {
    TcpListener::bind(("127.0.0.1", port))
        .await
        .map_err(|error| {
            Error::new(format!(
                "cannot listen on port {port} ({error}); choose another with --port"
            ))
        })
}
