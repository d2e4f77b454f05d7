//! `cargo run`: runs the whole chat backend on this machine, and helps to develop it.

use std::{
    collections::BTreeMap, io::Write, net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc,
    time::Duration,
};

use chat_local::{
    DEVELOPMENT_SECRET, Database, Error, Stack, StackOptions, check_secret, demo_page, docs_page,
    dynamodb::{self, EmbeddedDynamoDb},
    function_binaries, generated_files, listen,
    realtime::RealtimeOptions,
    sample_events,
    template::{Template, default_path, workspace_root},
    tokens::TokenSigner,
};
use chat_shared::{
    auth::Authenticator,
    domain::{Timestamp, UserId},
    openapi,
};
use clap::{Args, Parser, Subcommand};

/// Default lifetime of tokens: a day's work.
const TOKEN_LIFETIME: Duration = Duration::from_hours(12);
/// The maximum lifetime of a token: ten years. The functions reject a token that expires later.
const MAX_TOKEN_SECONDS: u64 = 10 * 365 * 86_400;

/// Keys of the functions other than `JWT_SECRET`. Only their issuer can sign tokens for them.
const OTHER_KEYS: [&str; 4] = [
    "JWT_PUBLIC_KEY",
    "JWT_JWKS",
    "JWT_JWKS_URL",
    "JWT_SECRET_ARN",
];

/// Variables of the functions that the template does not set.
const OPTIONAL_VARIABLES: [&str; 2] = ["JWT_SECRET_PREVIOUS", "AWS_ENDPOINT_URL_SECRETS_MANAGER"];

/// Run the whole chat backend on this machine: the real function binaries behind an emulated API
/// Gateway, with a DynamoDB in this process.
///
/// Environment variables with the names of the functions' own (`JWT_SECRET`, `JWT_ISSUER`,
/// `MAX_OPEN_REQUESTS`, `LOG_LEVEL`, …) override the template. Without a key (`JWT_SECRET`,
/// `JWT_PUBLIC_KEY`, `JWT_JWKS`, `JWT_JWKS_URL`), tokens are signed with a development secret. Everybody
/// knows it, so it is rejected if the data is on another machine.
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
    /// Print an access token for a user
    ///
    /// It is signed with `JWT_SECRET`. Without this variable it is signed with the development secret,
    /// which everybody knows. Only servers with data of this machine accept such a token.
    Token(Token),
    /// Print a function's sample event, with a fresh token if it has one, for `sam local invoke`
    Event(Event),
    /// List the sample events, each with the status that its function returns
    ///
    /// The functions return these statuses if the events are sent in this order to an empty table.
    Events,
    /// Run only the DynamoDB with the empty table, for functions in the containers of `sam local`
    Table(Table),
    /// Print the OpenAPI document of the API
    #[command(name = "openapi")]
    OpenApi,
    /// Generate openapi.yaml, the sample events and the endpoint table in docs/api.md from the code
    Generate(Generate),
}

#[derive(Args)]
struct Token {
    /// The user id: a whole number from 1 to 9007199254740991
    user: UserId,
    /// How long the token is valid, in seconds
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = TOKEN_LIFETIME.as_secs(),
        value_parser = clap::value_parser!(u64).range(1..=MAX_TOKEN_SECONDS),
    )]
    expires_in: u64,
}

#[derive(Args)]
struct Generate {
    /// Write nothing, and fail if a file differs from the code
    #[arg(long)]
    check: bool,
}

#[derive(Args)]
struct Table {
    /// The address to listen on; containers on Linux can reach 172.17.0.1:8000, and your whole network
    /// can reach 0.0.0.0:8000
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        default_value = "127.0.0.1:8000",
        value_parser = parse_listen,
    )]
    listen: SocketAddr,
    /// Store the data in this file [default: in memory, deleted at the end]
    #[arg(long, value_name = "FILE")]
    db: Option<PathBuf>,
    /// The table's name [default: the name that `sam local` uses]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

#[derive(Args)]
struct Event {
    /// The name of the function's binary, such as send-message
    function: String,
    /// The user that sends the request [default: the user in the event]
    #[arg(long, value_name = "USER")]
    user: Option<UserId>,
}

#[derive(Args)]
struct Serve {
    /// Port of the API on this machine; 0 selects a free port
    #[arg(long, default_value_t = 3000)]
    port: u16,
    /// Store the data in this file [default: in memory, deleted at the end]
    #[arg(long, value_name = "FILE", conflicts_with = "endpoint_url")]
    db: Option<PathBuf>,
    /// Use another DynamoDB; the table is created if it does not exist. If it is not on this machine,
    /// set `JWT_SECRET` or another key
    #[arg(long, value_name = "URL", value_parser = parse_endpoint)]
    endpoint_url: Option<String>,
    /// Let web pages of this origin call the API, or of every origin with *; repeat the option for several
    /// origins [default: pages of this machine, on any port]
    #[arg(long = "allowed-origin", value_name = "ORIGIN", value_parser = parse_origin)]
    allowed_origins: Vec<String>,
    /// Do not push events: no WebSocket API, and no stream on the table
    #[arg(long)]
    no_realtime: bool,
    /// Build the functions with the release profile: slower to build, faster to start
    #[arg(long)]
    release: bool,
    /// The SAM template [default: template.yaml of this workspace]
    #[arg(long, value_name = "FILE")]
    template: Option<PathBuf>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Some(Command::Token(token)) => {
            sign_token(token.user, Duration::from_secs(token.expires_in))
                .map(|token| println!("{token}"))
        }
        Some(Command::Event(event)) => {
            let sign = |user| sign_token(user, TOKEN_LIFETIME);
            sample_events::event(&event.function, event.user, sign).map(|event| print!("{event}"))
        }
        Some(Command::Events) => {
            list_events();
            Ok(())
        }
        Some(Command::Table(table)) => serve_table(table),
        Some(Command::OpenApi) => openapi::to_yaml()
            .map(|document| print!("{document}"))
            .map_err(|error| Error::new(error.to_string())),
        Some(Command::Generate(options)) => generate(&options),
        None => run(cli.serve),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// An origin as browsers send it, or a pattern that API Gateway accepts.
fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    let address = text.parse();
    address.map_err(|_| "write a numeric address and a port, such as 127.0.0.1:8000".to_owned())
}

fn parse_endpoint(text: &str) -> Result<String, String> {
    if text.starts_with("http://") || text.starts_with("https://") {
        return Ok(text.to_owned());
    }
    Err("a URL starts with http:// or https://, such as http://localhost:8000".to_owned())
}

fn parse_origin(text: &str) -> Result<String, String> {
    let is_pattern = ["*", "http://*", "https://*"].contains(&text);
    let host = ["http://", "https://"]
        .into_iter()
        .find_map(|scheme| text.strip_prefix(scheme));
    let is_host =
        |host: &str| !host.is_empty() && !host.contains(['/', '?', '#', '@', '*', ',', ' ']);
    if is_pattern || host.is_some_and(is_host) {
        return Ok(text.to_owned());
    }
    Err(
        "an origin has a scheme, a host and maybe a port, and no slash at the end, such as \
         https://app.example.com"
            .to_owned(),
    )
}

/// An environment variable of this process, or its default for development. The development secret is
/// the default only if no other key is configured.
fn env_or_default(name: &str) -> Option<String> {
    let env = |name: &str| std::env::var(name).ok();
    let has_other_key = || {
        let mut keys = OTHER_KEYS.iter().filter_map(|name| env(name));
        keys.any(|key| !key.is_empty())
    };
    env(name).or_else(|| match name {
        "JWT_SECRET" if has_other_key() => Some(String::new()),
        "JWT_SECRET" => Some(DEVELOPMENT_SECRET.to_owned()),
        // The gateway already logs a line for each request. A function adds its own on errors.
        "LOG_LEVEL" => Some("WARN".to_owned()),
        "STACK_NAME" => Some(String::new()),
        _ => None,
    })
}

/// Fails if the functions would reject the configuration of their keys. Keys that the functions fetch when
/// they start are not checked here.
fn check_keys(variable: impl Fn(&str) -> Option<String>) -> Result<(), Error> {
    let is_set = |&name: &&str| variable(name).is_some_and(|value| !value.is_empty());
    let has_key = ["JWT_SECRET", "JWT_PUBLIC_KEY", "JWT_JWKS"]
        .iter()
        .any(is_set);
    let fetches_keys = ["JWT_JWKS_URL", "JWT_SECRET_ARN"].iter().any(is_set);
    if fetches_keys && !has_key {
        return Ok(());
    }
    let authenticator = Authenticator::from_env(variable);
    authenticator
        .map(drop)
        .map_err(|error| Error::new(error.to_string()))
}

fn sign_token(user: UserId, lifetime: Duration) -> Result<String, Error> {
    // The functions would not accept the token either.
    check_keys(env_or_default)?;
    let signer = TokenSigner::from_env(env_or_default).ok_or_else(|| {
        Error::new(format!(
            "cannot sign tokens for {}; get a token from their issuer, or set JWT_SECRET",
            OTHER_KEYS.join(", ")
        ))
    })?;
    Ok(signer.sign(user, (Timestamp::now() + lifetime).seconds()))
}

fn list_events() {
    for sample in openapi::sample_requests() {
        println!("{} {}", sample.endpoint.name, sample.status);
    }
}

fn generate(options: &Generate) -> Result<(), Error> {
    let workspace = workspace_root();
    let mut outdated = Vec::new();
    for file in generated_files::generate(&workspace)? {
        if file.is_current(&workspace) {
            continue;
        }
        if options.check {
            outdated.push(file.path.display().to_string());
        } else {
            file.write(&workspace)?;
            println!("{}", file.path.display());
        }
    }
    if outdated.is_empty() {
        return Ok(());
    }
    Err(Error::new(format!(
        "not up to date: {}; run `cargo run -- generate`",
        outdated.join(", ")
    )))
}

#[tokio::main]
async fn serve_table(options: Table) -> Result<(), Error> {
    let template = Template::read(&default_path())?;
    let stop = stop_signal()?;
    let embedded = EmbeddedDynamoDb::start_on(options.listen, options.db.as_deref()).await?;
    let name = options.name.unwrap_or(template.table.name.clone());
    dynamodb::create_table(embedded.endpoint(), &template.table, &name).await?;
    println!(
        "Table {name} is ready in the DynamoDB at {}, which accepts any credentials. Press Ctrl-C to \
         stop.",
        embedded.endpoint()
    );
    stop.await;
    embedded.stop().await;
    Ok(())
}

#[tokio::main]
async fn run(serve: Serve) -> Result<(), Error> {
    // Errors are found before the build, which takes minutes the first time.
    let path = serve.template.unwrap_or_else(default_path);
    let template = Template::read(&path)?;
    let environment = environment(&template);
    let (storage, database) = match (serve.db, serve.endpoint_url) {
        (Some(file), _) => (
            format!("in the file {}", file.display()),
            Database::File(file),
        ),
        (None, Some(url)) => (format!("in the DynamoDB at {url}"), Database::Endpoint(url)),
        (None, None) => (
            "in memory, until you stop the server".to_owned(),
            Database::Memory,
        ),
    };
    check_secret(&database, &environment)?;
    check_keys(|name| environment.get(name).cloned())?;
    let listener = listen(serve.port).await?;

    let binaries = function_binaries::build(&workspace_root(), serve.release).await?;
    // Ignore write errors: a closed stdout must not fail a request.
    let log = Arc::new(|line: &str| drop(writeln!(std::io::stdout(), "{line}")));
    let port = serve.port;
    let options = StackOptions {
        template: path,
        binaries,
        port,
        database,
        environment,
        allowed_origins: serve.allowed_origins,
        realtime: RealtimeOptions {
            enabled: !serve.no_realtime,
            ..RealtimeOptions::default()
        },
        log,
    };
    let stop = stop_signal()?;
    let stack = Stack::start_on(listener, options).await?;
    print_welcome(&stack, &storage, !serve.no_realtime)?;
    stop.await;
    println!("Stopping. Press Ctrl-C again to stop at once.");
    tokio::select! {
        () = stack.stop() => {}
        () = stop_signal()? => {}
    }
    Ok(())
}

/// The variables of the functions, with the values of this process or the defaults for development.
fn environment(template: &Template) -> BTreeMap<String, String> {
    let functions = template.functions.iter();
    let names = functions.flat_map(|function| function.environment.keys().map(String::as_str));
    names
        .chain(OPTIONAL_VARIABLES)
        .filter_map(|name| Some((name.to_owned(), env_or_default(name)?)))
        .collect()
}

/// Resolves at Ctrl-C or SIGTERM.
fn stop_signal() -> Result<impl Future<Output = ()>, Error> {
    let failed = |error: std::io::Error| Error::new(format!("cannot handle signals: {error}"));
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

/// Prints where the API is, and commands that try it out.
fn print_welcome(stack: &Stack, storage: &str, pushes_events: bool) -> Result<(), Error> {
    let token = |id: &str| {
        let user = id.parse::<UserId>();
        let user = user.map_err(|error| Error::new(error.to_string()))?;
        let token = sign_token(user, TOKEN_LIFETIME);
        Ok::<_, Error>(token.unwrap_or_else(|error| format!("'insert a token: {error}'")))
    };
    let (ann, ben) = (token("17")?, token("42")?);
    println!(
        "
See two people chat: {url}{demo}
The chat API is at {url}
Explore it in a browser: {url}{page}
Data is stored {storage}.

There are two sample users, Ann (17) and Ben (42). `cargo run -- token 99` makes a token for another
user. Paste these lines into a terminal: Ann requests a chat with Ben, he accepts, she sends a
message, he reads it, she edits it.

  API={url}
  ANN={ann}
  BEN={ben}
  JSON='Content-Type: application/json'

  curl $API/chats -H \"Authorization: Bearer $ANN\" -H \"$JSON\" -d '{{\"userId\": 42}}'
  curl -X PUT $API/chats/17-42/accept -H \"Authorization: Bearer $BEN\"
  curl $API/chats/17-42/messages -H \"Authorization: Bearer $ANN\" -H \"$JSON\" -d '{{\"text\": \"Hello\"}}'
  curl $API/chats/17-42/messages -H \"Authorization: Bearer $BEN\"
  curl -X PATCH $API/chats/17-42/messages/1 -H \"Authorization: Bearer $ANN\" -H \"$JSON\" -d '{{\"text\": \"Hello Ben\"}}'
",
        url = stack.url(),
        demo = demo_page::PAGE_PATH,
        page = docs_page::PAGE_PATH,
    );
    if pushes_events {
        println!(
            "\
Watch Ben's events with websocat in a second terminal, after the lines with API and BEN, or in the
console of a browser, for example at {url}{page}:

  websocat {live} --protocol chat.v1 -H=\"Authorization: Bearer $BEN\"

  new WebSocket(\"{live}\", [\"chat.v1\", \"{ben}\"]).onmessage = (message) => console.log(message.data)
",
            url = stack.url(),
            page = docs_page::PAGE_PATH,
            live = stack.live_url(),
        );
    }
    println!("Press Ctrl-C to stop. A line for each request follows.\n");
    Ok(())
}
