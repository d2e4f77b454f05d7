//! Command line of the operator tool `chat-admin`.

mod report_commands;

use std::{
    collections::BTreeMap,
    fmt::Display,
    io::{ErrorKind, Write as _},
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use aws_sdk_dynamodb::Client;
use chat_admin::{
    check::{CheckEvent, CheckOptions, CheckSummary, Violation, check_table},
    client::{aws_client, client_for_endpoint},
    copy::{CopyEvent, CopyOptions, CopySummary, copy_missing_items},
    table::{DynamoTable, TableUse, error_cause},
};
use chat_shared::{Error, domain::Timestamp, store::TableClient};
use clap::{Args, Parser, Subcommand, builder::NonEmptyStringValueParser};

use report_commands::{ReportCommand, ReportsArgs};

/// Time between two progress lines.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);
const EXIT_SUCCESS: u8 = 0;
/// Exit code of a check that leaves violations in the table.
const EXIT_VIOLATIONS: u8 = 1;
/// Exit code of a copy that leaves out items.
const EXIT_NOT_COPIED: u8 = 1;
/// Exit code of a command that could not read or write a table, or write its output. Wrong arguments end with
/// the same code.
const EXIT_FAILED: u8 = 2;
/// Exit code of a check that could not evaluate everything.
const EXIT_INCONCLUSIVE: u8 = 3;

/// Whether a line could not be written to stdout.
static HAS_LOST_OUTPUT: AtomicBool = AtomicBool::new(false);

const CHECK_HELP: &str = "\
Example: check the table `chats` on AWS, with the region and credentials of your environment. It has
one wrong counter: 5 unread messages are stored, but the user's chats have 2.

  $ chat-admin check --table chats
  USER#42 TOTALS#3: unread is 5, should be 2
  318 items, 21 chats, 14 users in 11s: 1 violations, 0 repaired, 0 inconclusive
  1 of 1 violations can be repaired: run the check with --repair.

With --repair, a line ends with `(repaired)`. A repair that fails, for example because you may not
write to the table, is a line on stderr that starts with `error:`; the check goes on.

Run --repair with the newest version of chat-admin that matches a service that has written to the
table. An older one does not know what newer items mean.

If DynamoDB does not respond, the check waits some minutes. Each wait is a line on stderr, which
starts with `waiting for DynamoDB:`.

Permissions: dynamodb:DescribeTable, Scan, GetItem, BatchGetItem and Query on the table, Query on
its indexes, and UpdateItem for --repair.

Exit codes:
  0  The table has no violations, or the check repaired all of them
  1  Violations remain: they cannot be repaired, or a repair failed
  2  The table could not be checked, for example because it has other keys or an index is still
     being built; the output could not be written; or the arguments are wrong
  3  No violations remain, but something could not be evaluated (`inconclusive`)";

const COPY_HELP: &str = "\
Example: a mistake deleted messages from the table `chats`. Restore it as `chats-restored` to a time
before the mistake, look at what is missing, copy it, and correct the counters.

  $ chat-admin copy --from chats-restored --to chats --dry-run
  318 items in 2s: 12 would be copied, 306 exist in chats, 0 expired, 0 not copied
  $ chat-admin copy --from chats-restored --to chats
  318 items in 3s: 12 copied, 306 exist in chats, 0 expired, 0 not copied
  Now correct the counters: chat-admin check --table chats --repair

Limits:
  - It copies whole items. An item that exists in both tables stays as it is in the target, so a
    wrong value is not replaced by an older one.
  - It copies all items that are missing, also those that somebody has deleted on purpose.
  - It does not copy a chat that the users have started again, because its state was lost. Its
    `createdAt` differs, and new messages have the numbers of old ones. One line names the chat. To
    bring back the old chat, delete all items of the new one except reports (FLAG#), then copy. If
    the target has only a block, as the line then says, this deletes the block: block again after
    the copy, with PUT /blocks/{userId} as the user who blocks.
  - It does not copy blocks that are newer than in the target. One line names the chat. Block again,
    or unblock again.
  - It does not copy a message that the chat in the target does not count, because a new message
    would replace it, and no idempotency key whose message is another one in the target. It reports
    messages that differ between the tables, unless they were edited or deleted since. Each is one
    line.
  - It does not copy a message that was edited or deleted after the time of the restore: what a user
    has deleted must not come back. Restore a later time to bring back its last version.
  - Both tables must be in the same account and region, or at the same endpoint.

Permissions: dynamodb:DescribeTable, Scan, GetItem and BatchGetItem on --from; DescribeTable,
GetItem, BatchGetItem, Query and PutItem on --to.

Exit codes:
  0  Everything that was missing is copied (with --dry-run: can be copied)
  1  Some items were not copied, because they contradict the target
  2  A table could not be read or written, the output could not be written, or the arguments are
     wrong. A line says what was copied before. Repeat the command; it copies the rest";

/// Operator tool of the chat backend: checks and repairs its DynamoDB table, restores items, and works on
/// reports.
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
    /// A line that says `inconclusive` is no violation: the check could not evaluate something, and
    /// the line says why. Items of a type that this version does not know are counted on stderr, and
    /// are no violations.
    #[command(after_help = CHECK_HELP)]
    Check(CheckArgs),
    /// Copy the items that a live table lacks from a restored table
    ///
    /// Reads the whole restored table, page by page, and creates the items whose keys do not exist in
    /// the live table. It never changes or deletes an item. It is safe while the live table serves
    /// traffic, and can be interrupted and repeated. Items that have expired are left out: idempotency
    /// keys, changes, and previous contents of messages. So are connections, whose sockets no longer exist.
    #[command(after_help = COPY_HELP)]
    Copy(CopyArgs),
    /// List the open reports, oldest first
    ///
    /// A report is what a user has reported about another user or about one of their messages. The list
    /// comes from an index, which follows the table within about a second.
    #[command(after_help = report_commands::REPORTS_HELP)]
    Reports(ReportsArgs),
    /// Show one report with its evidence, or resolve it
    #[command(subcommand)]
    Report(ReportCommand),
}

#[derive(Args)]
struct TableArgs {
    /// Name of the table
    #[arg(
        long,
        value_name = "NAME",
        env = "TABLE_NAME",
        value_parser = NonEmptyStringValueParser::new()
    )]
    table: String,
    /// URL of the DynamoDB [default: AWS, with the region and credentials of the environment]
    #[arg(long, value_name = "URL", value_parser = parse_endpoint_url)]
    endpoint_url: Option<String>,
}

#[derive(Args)]
struct CheckArgs {
    #[command(flatten)]
    table: TableArgs,
    /// Correct unread counts, totals, open requests, hidden requests and index keys
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

#[derive(Args)]
struct CopyArgs {
    /// Name of the restored table, which is only read
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    from: String,
    /// Name of the live table
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    to: String,
    /// URL of the DynamoDB [default: AWS, with the region and credentials of the environment]
    #[arg(long, value_name = "URL", value_parser = parse_endpoint_url)]
    endpoint_url: Option<String>,
    /// Only count what would be copied
    #[arg(long)]
    dry_run: bool,
}

/// Checks that a value is the URL of a server.
fn parse_endpoint_url(url: &str) -> Result<String, String> {
    let rest = url
        .strip_prefix("http://")
        .or_else(|| url.strip_prefix("https://"));
    let is_valid = rest.is_some_and(|rest| {
        !rest.starts_with(['/', ':', '?', '#']) && rest.chars().any(char::is_alphanumeric)
    });
    if is_valid && url.chars().all(|c| c.is_ascii_graphic()) {
        Ok(url.to_owned())
    } else {
        Err("write a URL such as http://localhost:8000".to_owned())
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let exit_code = match Cli::parse().command {
        Command::Check(args) => check(&args).await,
        Command::Copy(args) => copy(&args).await,
        Command::Reports(args) => report_commands::reports(&args).await,
        Command::Report(ReportCommand::Show(args)) => report_commands::show(&args).await,
        Command::Report(ReportCommand::Resolve(args)) => report_commands::resolve(&args).await,
    };
    if HAS_LOST_OUTPUT.load(Ordering::Relaxed) {
        ExitCode::from(EXIT_FAILED)
    } else {
        exit_code
    }
}

/// Runs the check and turns its result into an exit code.
async fn check(args: &CheckArgs) -> ExitCode {
    let started = Instant::now();
    let summary = match run_check(args, started).await {
        Ok(summary) => summary,
        Err(error) => {
            let cause = error_cause(&error);
            eprintln!("error: cannot check table {}: {cause}", args.table.table);
            return ExitCode::from(EXIT_FAILED);
        }
    };
    eprintln!("{}", describe_check(summary, started));
    if summary.repairable > 0 && !args.repair {
        eprintln!(
            "{} of {} violations can be repaired: run the check with --repair.",
            summary.repairable, summary.violations
        );
    }
    ExitCode::from(check_exit_code(summary))
}

fn check_exit_code(summary: CheckSummary) -> u8 {
    let remaining = summary.violations.saturating_sub(summary.repaired);
    match (remaining, summary.inconclusive) {
        (0, 0) => EXIT_SUCCESS,
        (0, _) => EXIT_INCONCLUSIVE,
        _ => EXIT_VIOLATIONS,
    }
}

/// Prints violations to stdout, and progress and failed repairs to stderr, while the check runs.
async fn run_check(args: &CheckArgs, started: Instant) -> Result<CheckSummary, Error> {
    let TableArgs {
        table,
        endpoint_url,
    } = &args.table;
    let client = connect(endpoint_url.as_deref()).await?;
    DynamoTable::new(client.clone(), table)
        .verify(TableUse::ItemsAndIndexes)
        .await?;
    let store = TableClient::new(client, table).store_at(Timestamp::now());
    let options = CheckOptions {
        repair: args.repair,
        settle: Duration::from_secs(args.settle),
    };
    let mut last_shown = started;
    let mut report = |event: CheckEvent<'_>| match event {
        CheckEvent::Violation(violation) => print_violation(violation),
        CheckEvent::UnknownTypes(counts) => eprintln!("{}", describe_unknown_types(counts)),
        CheckEvent::Progress(summary) => {
            if last_shown.elapsed() >= PROGRESS_INTERVAL {
                last_shown = Instant::now();
                eprintln!("{} ...", describe_check(summary, started));
            }
        }
    };
    check_table(&store, options, &mut report).await
}

fn print_violation(violation: &Violation) {
    print_line(violation);
    if let Some(cause) = &violation.repair_error {
        eprintln!("error: not repaired: {violation}: {cause}");
    }
}

/// Runs the copy and turns its result into an exit code.
async fn copy(args: &CopyArgs) -> ExitCode {
    if args.from == args.to {
        eprintln!("error: --from and --to name the same table, {}", args.to);
        return ExitCode::from(EXIT_FAILED);
    }
    let started = Instant::now();
    let mut progress = None;
    let summary = match run_copy(args, started, &mut progress).await {
        Ok(summary) => summary,
        Err(error) => {
            if let Some(CopySummary { copied, .. }) = progress
                && !args.dry_run
            {
                eprintln!("At least {copied} items were copied before the error.");
            }
            let CopyArgs { from, to, .. } = args;
            let cause = error_cause(&error);
            eprintln!("error: cannot copy table {from} to table {to}: {cause}");
            return ExitCode::from(EXIT_FAILED);
        }
    };
    eprintln!("{}", describe_copy(args, summary, started));
    // An earlier run may have copied the items.
    if !args.dry_run {
        let endpoint = args.endpoint_url.as_ref();
        let endpoint = endpoint.map_or_else(String::new, |url| format!(" --endpoint-url {url}"));
        let table = &args.to;
        eprintln!("Now correct the counters: chat-admin check --table {table}{endpoint} --repair");
    }
    ExitCode::from(if summary.not_copied == 0 {
        EXIT_SUCCESS
    } else {
        EXIT_NOT_COPIED
    })
}

/// Prints items that are not copied to stdout, and progress to stderr, while the copy runs. Sets
/// `progress` to what is done so far.
async fn run_copy(
    args: &CopyArgs,
    started: Instant,
    progress: &mut Option<CopySummary>,
) -> Result<CopySummary, Error> {
    let client = connect(args.endpoint_url.as_deref()).await?;
    let source = DynamoTable::new(client.clone(), &args.from);
    let target = DynamoTable::new(client, &args.to);
    for table in [&source, &target] {
        table.verify(TableUse::Items).await?;
    }
    let options = CopyOptions {
        dry_run: args.dry_run,
        now: Timestamp::now(),
    };
    let mut last_shown = started;
    let mut report = |event: CopyEvent<'_>| match event {
        CopyEvent::NotCopied(item) => print_line(item),
        CopyEvent::Progress(summary) => {
            *progress = Some(summary);
            if last_shown.elapsed() >= PROGRESS_INTERVAL {
                last_shown = Instant::now();
                eprintln!("{} ...", describe_copy(args, summary, started));
            }
        }
    };
    copy_missing_items(&source, &target, options, &mut report).await
}

/// Prints a line to stdout. A closed stdout, as with `| head`, is no error. Nor must any other error, such as a full
/// disk, stop a repair or a copy: the first one is printed to stderr, and the command fails at its end.
fn print_line(line: &impl Display) {
    if let Err(error) = writeln!(std::io::stdout(), "{line}")
        && error.kind() != ErrorKind::BrokenPipe
        && !HAS_LOST_OUTPUT.swap(true, Ordering::Relaxed)
    {
        eprintln!("error: cannot write to stdout: {error}");
    }
}

async fn connect(endpoint_url: Option<&str>) -> Result<Client, Error> {
    match endpoint_url {
        Some(url) => Ok(client_for_endpoint(url)),
        None => aws_client().await,
    }
}

/// The summary of a check on one line.
fn describe_check(summary: CheckSummary, started: Instant) -> String {
    let CheckSummary {
        items,
        chats,
        users,
        violations,
        repairable: _,
        repaired,
        inconclusive,
    } = summary;
    let elapsed = started.elapsed();
    format!(
        "{items} items, {chats} chats, {users} users in {elapsed:.0?}: \
         {violations} violations, {repaired} repaired, {inconclusive} inconclusive"
    )
}

/// One line about items of another version of the service.
fn describe_unknown_types(counts: &BTreeMap<String, u64>) -> String {
    let total = counts
        .values()
        .fold(0_u64, |sum, count| sum.saturating_add(*count));
    let types: Vec<_> = counts
        .iter()
        .map(|(name, count)| format!("{count} {}", name.escape_debug()))
        .collect();
    let types = types.join(", ");
    format!(
        "note: {total} items have a type that this version does not know ({types}); not checked"
    )
}

/// The summary of a copy on one line.
fn describe_copy(args: &CopyArgs, summary: CopySummary, started: Instant) -> String {
    let CopySummary {
        items,
        copied,
        expired,
        not_copied,
    } = summary;
    let left_out = copied.saturating_add(expired).saturating_add(not_copied);
    let existing = items.saturating_sub(left_out);
    let verb = if args.dry_run {
        "would be copied"
    } else {
        "copied"
    };
    let elapsed = started.elapsed();
    let target = &args.to;
    format!(
        "{items} items in {elapsed:.0?}: {copied} {verb}, {existing} exist in {target}, \
         {expired} expired, {not_copied} not copied"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_of_a_check_says_whether_violations_remain_or_counters_could_not_be_evaluated()
    {
        for (violations, repaired, inconclusive, exit_code) in [
            (0, 0, 0, 0),
            (2, 2, 0, 0),
            (2, 1, 0, 1),
            (2, 0, 3, 1),
            (0, 0, 1, 3),
            (2, 2, 1, 3),
        ] {
            let summary = CheckSummary {
                violations,
                repaired,
                inconclusive,
                ..CheckSummary::default()
            };
            assert_eq!(check_exit_code(summary), exit_code, "{summary:?}");
        }
    }

    #[test]
    fn an_endpoint_is_a_url_with_a_scheme_and_a_host() {
        for url in [
            "http://localhost:8000",
            "https://dynamodb.eu-central-1.amazonaws.com/",
            "http://[::1]:8000",
        ] {
            assert_eq!(parse_endpoint_url(url), Ok(url.to_owned()));
        }
        for url in [
            "",
            "localhost:8000",
            "http://",
            "http:///path",
            "http://:8000",
            "ftp://localhost",
            "http://local host",
        ] {
            assert!(parse_endpoint_url(url).is_err(), "{url}");
        }
    }

    #[test]
    fn items_of_unknown_types_are_one_line() {
        let counts = BTreeMap::from([("Block".to_owned(), 2), ("Re\nport".to_owned(), 1)]);
        assert_eq!(
            describe_unknown_types(&counts),
            "note: 3 items have a type that this version does not know (2 Block, 1 Re\\nport); \
             not checked"
        );
    }
}
