//! Command line of the operator tool `chat-admin`.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use chat_admin::{
    check::{CheckEvent, CheckOptions, CheckSummary, check_table},
    client::{aws_client, client_for_endpoint},
};
use chat_shared::{Error, domain::Timestamp, store::TableClient};
use clap::{Args, Parser, Subcommand};

/// Time between two progress lines.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);
/// Exit code of a check that leaves violations in the table.
const EXIT_VIOLATIONS: u8 = 1;
/// Exit code of a check that could not read the table. Wrong arguments end with the same code.
const EXIT_NOT_CHECKED: u8 = 2;

const CHECK_HELP: &str = "\
Example: check the table `chats` on AWS, with the region and credentials of your environment. It has
one wrong counter: 5 unread messages are stored, but the user's chats have 2.

  $ chat-admin check --table chats
  USER#42 TOTALS#3: unread is 5, should be 2
  318 items, 21 chats, 14 users in 11s: 1 violations, 0 repaired, 0 inconclusive
  To correct unread counts, totals, open requests and index keys, run the check with --repair.

Exit codes:
  0  The table has no violations, or the check repaired all of them
  1  Violations remain
  2  The table could not be checked, or the arguments are wrong";

/// Operator tool of the chat backend: checks and repairs its DynamoDB table.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Check the invariants of a live table, and repair wrong counters
    ///
    /// Scans the whole table twice, page by page, and prints one line for each violation. The check
    /// is safe while the table serves traffic, but not while one of its indexes is being built. It
    /// reads each chat and user several times, so it consumes read capacity.
    ///
    /// A line that says `inconclusive` is no violation: the check could not evaluate a user's
    /// counters, and the line says why.
    #[command(after_help = CHECK_HELP)]
    Check(CheckArgs),
}

#[derive(Args)]
struct CheckArgs {
    /// Name of the table
    #[arg(long, value_name = "NAME", env = "TABLE_NAME")]
    table: String,
    /// URL of the DynamoDB [default: AWS, with the region and credentials of the environment]
    #[arg(long, value_name = "URL")]
    endpoint_url: Option<String>,
    /// Correct unread counts, totals, open requests and index keys
    ///
    /// These values can be computed from other items. The check never changes anything else.
    #[arg(long)]
    repair: bool,
    /// Seconds to wait before a suspected violation is evaluated again; longer than the indexes lag
    ///
    /// The check reports a violation only when it finds it three times in a row.
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    settle: u64,
}

#[tokio::main]
async fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Check(args) => check(&args).await,
    }
}

/// Runs the check and turns its result into an exit code.
async fn check(args: &CheckArgs) -> ExitCode {
    let started = Instant::now();
    let summary = match run_check(args, started).await {
        Ok(summary) => summary,
        Err(error) => {
            let cause = error
                .cause()
                .map_or_else(|| error.to_string(), ToString::to_string);
            eprintln!("error: cannot check table {}: {cause}", args.table);
            return ExitCode::from(EXIT_NOT_CHECKED);
        }
    };
    eprintln!("{}", describe(summary, started));
    if summary.violations == summary.repaired {
        return ExitCode::SUCCESS;
    }
    if !args.repair {
        eprintln!(
            "To correct unread counts, totals, open requests and index keys, \
             run the check with --repair."
        );
    }
    ExitCode::from(EXIT_VIOLATIONS)
}

/// Prints violations to stdout and progress to stderr while the check runs.
async fn run_check(args: &CheckArgs, started: Instant) -> Result<CheckSummary, Error> {
    let client = match &args.endpoint_url {
        Some(url) => client_for_endpoint(url),
        None => aws_client().await,
    };
    let store = TableClient::new(client, &args.table).store_at(Timestamp::now());
    let options = CheckOptions {
        repair: args.repair,
        settle: Duration::from_secs(args.settle),
    };
    let mut last_shown = started;
    let mut report = |event: CheckEvent<'_>| match event {
        CheckEvent::Violation(violation) => println!("{violation}"),
        CheckEvent::Progress(summary) => {
            if last_shown.elapsed() >= PROGRESS_INTERVAL {
                last_shown = Instant::now();
                eprintln!("{} ...", describe(summary, started));
            }
        }
    };
    check_table(&store, options, &mut report).await
}

/// A summary on one line.
fn describe(summary: CheckSummary, started: Instant) -> String {
    let CheckSummary {
        items,
        chats,
        users,
        violations,
        repaired,
        inconclusive,
    } = summary;
    let elapsed = started.elapsed();
    format!(
        "{items} items, {chats} chats, {users} users in {elapsed:.0?}: \
         {violations} violations, {repaired} repaired, {inconclusive} inconclusive"
    )
}
