//! `cargo run`: the whole chat backend on this machine.

use std::{
    collections::BTreeMap,
    io::Write,
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use chat_local::{
    DEVELOPMENT_SECRET, Database, Error, Options, Stack, binaries, docs,
    dynamodb::{self, Embedded},
    events, listen,
    template::{Template, default_path},
};
use chat_shared::{
    auth::{Authenticator, TokenIssuer},
    domain::{Timestamp, UserId},
    http::openapi,
    store::{AuditEvent, AuditOptions, AuditProgress, Connection},
};
use clap::{Args, Parser, Subcommand};

/// Lifetime of the tokens that are shown: long enough for a day's work.
const TOKEN_LIFETIME: Duration = Duration::from_hours(12);
/// How often a walk over a table says how far it is.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

/// Runs the whole chat backend on this machine: the real function binaries behind an API Gateway of
/// its own, with a DynamoDB in this process.
///
/// Environment variables with the names of the functions' own (`JWT_SECRET`, `JWT_ISSUER`,
/// `MAX_OPEN_REQUESTS`, `LOG_LEVEL`, …) take precedence over the template.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Serve,
}

#[derive(Subcommand)]
enum Command {
    /// Print an access token for a user, valid for 12 hours
    Token {
        /// The user: a whole number from 1 to 9007199254740991
        user: UserId,
        /// How long the token is valid, in seconds
        #[arg(long, value_name = "SECONDS", default_value_t = TOKEN_LIFETIME.as_secs())]
        expires_in: u64,
    },
    /// Print a function's sample event with a fresh token, for `sam local invoke`
    Event(Event),
    /// Run only the DynamoDB with the empty table, for functions in the containers of `sam local`
    Table(Table),
    /// Print the API as an OpenAPI document, which `openapi.yaml` is a copy of
    #[command(name = "openapi")]
    OpenApi,
    /// Check a live table: does every chat, count and total hold what it must?
    ///
    /// Walks the whole table, page by page, and prints one line for each item that is wrong. It is safe
    /// beside live traffic, but not while an index is being built. It reads each chat and user several
    /// times. Ends with 0 when all is right (or was repaired), 1 when something is wrong, 2 when the
    /// table could not be checked.
    Check(Check),
}

#[derive(Args)]
struct Check {
    /// The table's name
    #[arg(long, value_name = "NAME", env = "TABLE_NAME")]
    table: String,
    /// The DynamoDB that holds it [default: AWS, with the region and credentials of the environment]
    #[arg(long, value_name = "URL")]
    endpoint_url: Option<String>,
    /// Set right what can be counted again: unread counts, totals, open requests, index keys
    #[arg(long)]
    repair: bool,
    /// Seconds after which what seems wrong is looked at again, twice; longer than the indexes lag
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    settle: u64,
}

#[derive(Args)]
struct Table {
    /// Where it listens; with the default, containers and everybody on your network can reach it
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "0.0.0.0:8000")]
    listen: SocketAddr,
    /// Keep the data in this file between runs [default: in memory, gone at the end]
    #[arg(long, value_name = "FILE")]
    db: Option<PathBuf>,
    /// The table's name [default: as `sam local` calls it]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

#[derive(Args)]
struct Event {
    /// The function, as its binary is called: send-message, …
    function: String,
    /// Who calls [default: whom the event names]
    #[arg(long, value_name = "USER")]
    user: Option<UserId>,
}

#[derive(Args)]
struct Serve {
    /// Port of the API on this machine; 0 takes any free one
    #[arg(long, default_value_t = 3000)]
    port: u16,
    /// Keep the data in this file between runs [default: in memory, gone at the end]
    #[arg(long, value_name = "FILE", conflicts_with = "endpoint_url")]
    db: Option<PathBuf>,
    /// Use another DynamoDB; the table is made there if it is missing
    #[arg(long, value_name = "URL")]
    endpoint_url: Option<String>,
    /// Build the functions as they are deployed: slower to build, faster to start
    #[arg(long)]
    release: bool,
    /// The SAM template [default: template.yaml of this workspace]
    #[arg(long, value_name = "FILE")]
    template: Option<PathBuf>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command {
        Some(Command::Token { user, expires_in }) => {
            token(user, Duration::from_secs(expires_in)).map(|token| println!("{token}"))
        }
        Some(Command::Table(table)) => serve_table(table),
        Some(Command::OpenApi) => openapi::yaml()
            .map(|document| print!("{document}"))
            .map_err(|error| Error::new(error.to_string())),
        Some(Command::Check(check)) => return check_table(&check),
        Some(Command::Event(event)) => {
            let token = |user| token(user, TOKEN_LIFETIME);
            let folder = chat_local::template::workspace_root().join("events");
            events::ready(&folder, &event.function, event.user, token).map(|it| print!("{it}"))
        }
        None => run(cli.serve),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The environment's value; without any key there, the one for development.
fn variable(name: &str) -> Option<String> {
    let set = |name| std::env::var(name).ok();
    let has_public_key = || set("JWT_PUBLIC_KEY").or_else(|| set("JWT_JWKS")).is_some();
    set(name).or_else(|| match name {
        "JWT_SECRET" if has_public_key() => Some(String::new()),
        "JWT_SECRET" => Some(DEVELOPMENT_SECRET.to_owned()),
        // The gateway's line a call is enough, as long as all goes well.
        "LOG_LEVEL" => Some("WARN".to_owned()),
        "STACK_NAME" => Some(String::new()),
        _ => None,
    })
}

fn token(user: UserId, lifetime: Duration) -> Result<String, Error> {
    // A token that no function would take is of no use.
    Authenticator::from_variables(variable).map_err(|error| Error::new(error.to_string()))?;
    let issuer = TokenIssuer::from_variables(variable).ok_or_else(|| {
        Error::new("only your issuer can sign tokens for JWT_PUBLIC_KEY and JWT_JWKS")
    })?;
    let expires_at = (Timestamp::now() + lifetime).seconds();
    let token = issuer.token(user, expires_at);
    token.map_err(|error| Error::new(error.to_string()))
}

#[tokio::main]
async fn check_table(check: &Check) -> ExitCode {
    match audit(check).await {
        Ok(progress) if progress.broken == progress.repaired => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(1),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

async fn audit(check: &Check) -> Result<AuditProgress, Error> {
    let client = match &check.endpoint_url {
        Some(url) => dynamodb::client(url),
        None => dynamodb::aws().await,
    };
    let connection = Connection::new(client, &check.table);
    let options = AuditOptions {
        repair: check.repair,
        settle: Duration::from_secs(check.settle),
    };
    let began = Instant::now();
    let so_far = |progress: AuditProgress| {
        format!(
            "{} items, {} chats, {} users in {:.0?}: {} wrong, {} repaired, {} not judged",
            progress.items,
            progress.chats,
            progress.users,
            began.elapsed(),
            progress.broken,
            progress.repaired,
            progress.unjudged,
        )
    };
    let mut last_shown = began;
    let mut report = |event: AuditEvent<'_>| match event {
        AuditEvent::Broken(broken) => println!("{broken}"),
        AuditEvent::Progress(progress) => {
            if last_shown.elapsed() >= PROGRESS_INTERVAL {
                last_shown = Instant::now();
                eprintln!("{} …", so_far(progress));
            }
        }
    };
    let store = connection.at(Timestamp::now());
    let done = store.audit(options, &mut report).await.map_err(|error| {
        let cause = error.cause().map_or_else(String::new, ToString::to_string);
        Error::new(format!("cannot check table {}: {cause}", check.table))
    })?;
    eprintln!("{}", so_far(done));
    if done.broken > done.repaired && !check.repair {
        eprintln!("--repair sets right what can be counted again.");
    }
    Ok(done)
}

#[tokio::main]
async fn serve_table(options: Table) -> Result<(), Error> {
    let template = Template::read(&default_path())?;
    let stop = stop_signal()?;
    let embedded = Embedded::start_on(options.listen, options.db.as_deref()).await?;
    let name = options.name.unwrap_or(template.table.name.clone());
    dynamodb::create_table(embedded.endpoint(), &template.table, &name).await?;
    println!(
        "Table {name} is in the DynamoDB at {}, which takes any credentials. Ctrl-C stops it.",
        embedded.endpoint()
    );
    stop.await;
    embedded.stop().await;
    Ok(())
}

#[tokio::main]
async fn run(serve: Serve) -> Result<(), Error> {
    // What can be wrong is found before anything is built, which takes minutes the first time.
    let path = serve.template.unwrap_or_else(default_path);
    let template = Template::read(&path)?;
    let environment = environment(&template);
    Authenticator::from_variables(|name| environment.get(name).cloned())
        .map_err(|error| Error::new(error.to_string()))?;
    let listener = listen(serve.port).await?;

    let binaries = binaries::build(&chat_local::template::workspace_root(), serve.release).await?;
    let (kept, database) = match (serve.db, serve.endpoint_url) {
        (Some(file), _) => (
            format!("in the file {}", file.display()),
            Database::File(file),
        ),
        (None, Some(url)) => (format!("in the DynamoDB at {url}"), Database::Endpoint(url)),
        (None, None) => ("in memory, until you stop it".to_owned(), Database::Memory),
    };
    // A reader of the log that has gone away is no reason to stop answering.
    let log = Arc::new(|line: &str| drop(writeln!(std::io::stdout(), "{line}")));
    let port = serve.port;
    let options = Options {
        template: path,
        binaries,
        port,
        database,
        environment,
        log,
    };
    let stop = stop_signal()?;
    let stack = Stack::start_on(listener, options).await?;
    greet(&stack, &kept)?;
    stop.await;
    println!("Stopping. Press Ctrl-C again to stop at once.");
    tokio::select! {
        () = stack.stop() => {}
        () = stop_signal()? => {}
    }
    Ok(())
}

/// Variables that a function has, as this process has them or as they are for development.
fn environment(template: &Template) -> BTreeMap<String, String> {
    let names = template
        .functions
        .iter()
        .flat_map(|function| function.environment.keys());
    names
        .filter_map(|name| Some((name.clone(), variable(name)?)))
        .collect()
}

/// Resolves at Ctrl-C or SIGTERM.
fn stop_signal() -> Result<impl Future<Output = ()>, Error> {
    let failed = |error: std::io::Error| Error::new(format!("cannot wait for signals: {error}"));
    #[cfg(unix)]
    let mut terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        .map_err(failed)?;
    #[cfg(unix)]
    let mut interrupted = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())
        .map_err(failed)?;
    Ok(async move {
        #[cfg(unix)]
        tokio::select! {
            _ = terminated.recv() => {}
            _ = interrupted.recv() => {}
        }
        #[cfg(not(unix))]
        let _ = tokio::signal::ctrl_c().await;
    })
}

/// Tells a stranger what to do next.
fn greet(stack: &Stack, kept: &str) -> Result<(), Error> {
    let user = |id: &str| {
        id.parse::<UserId>()
            .map_err(|error| Error::new(error.to_string()))
    };
    let shown = |id| {
        let token = token(user(id)?, TOKEN_LIFETIME);
        Ok::<_, Error>(token.unwrap_or_else(|error| format!("'a token of yours: {error}'")))
    };
    let (ann, ben) = (shown("17")?, shown("42")?);
    println!(
        "
The chat API is at {url}
Explore it in a browser: {url}{page}
Data is kept {kept}.

Two sample users, Ann (17) and Ben (42); `cargo run -- token 99` makes another. Paste this,
and Ann asks Ben for a chat, he accepts, she writes, he reads:

  API={url}
  ANN={ann}
  BEN={ben}
  JSON='Content-Type: application/json'

  curl $API/chats -H \"Authorization: Bearer $ANN\" -H \"$JSON\" -d '{{\"userId\": 42}}'
  curl -X PUT $API/chats/17-42/accept -H \"Authorization: Bearer $BEN\"
  curl $API/chats/17-42/messages -H \"Authorization: Bearer $ANN\" -H \"$JSON\" -d '{{\"text\": \"Hello\"}}'
  curl $API/chats/17-42/messages -H \"Authorization: Bearer $BEN\"

Ctrl-C stops it. One line a call follows.
",
        url = stack.url(),
        page = docs::PAGE,
    );
    Ok(())
}
