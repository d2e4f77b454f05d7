//! The commands `reports` and `report`.

use std::{num::NonZeroUsize, process::ExitCode, time::Duration};

use chat_admin::{
    reports::{
        Action, NewResolution, QueueOptions, QueuePage, ReportDetails, ReportId, ReportTable,
        ResolveOutcome, list_open_reports, report_details, resolve_report, to_json,
    },
    table::{DynamoTable, TableUse, error_cause},
};
use chat_shared::{Error, domain::Timestamp};
use clap::{Args, Subcommand, ValueEnum, builder::NonEmptyStringValueParser, value_parser};

use crate::{EXIT_FAILED, EXIT_SUCCESS, TableArgs, connect, print_line};

/// Exit code of `reports` if reports wait for longer than they should.
const EXIT_WAITING: u8 = 1;
/// Exit code of `report` if it found no report that it could show or resolve as told.
const EXIT_NOT_DONE: u8 = 1;
/// The maximum number of messages before and after the reported one that `report show` prints.
const MAX_CONTEXT: u64 = 100;

pub(crate) const REPORTS_HELP: &str = "\
Example: the open reports of the table `chats`, oldest first. 17 has reported message 9 of 42, and
user 42.

  $ chat-admin reports --table chats
  ID          AGE  REASON      REPORTED  REPORTER  TEXT
  17-42/17/9  21h  harassment  42        17        \"the start of the message\"
  17-42/17/0  3h   spam        42        17        (the user)
  open reports: 2

Example: a script for cron that sends a mail while a report waits for more than 20 hours, and when
the command fails. cron knows neither your PATH nor your region and credentials: set them.

  #!/bin/sh
  export PATH=/usr/local/bin:/usr/bin:/bin AWS_REGION=eu-central-1 AWS_PROFILE=moderation
  chat-admin reports --table chats --older-than 20h > waiting.txt 2>&1 ||
    mail -s 'Reports wait' moderators@example.com < waiting.txt

A text that somebody wrote is one line in double quotes. Double quotes, backslashes, control
characters, line breaks, direction marks and invisible characters in it are escaped, so that a
reported text cannot change what you see. Joiners and variation selectors are not escaped, because
emoji and some scripts need them.

--json prints one array, one report per line, with the fields id, chatId, reporterId, userId, seq,
reason, note, createdAt, state, message (text, imageUrl, linkPreviewUrl, createdAt, editedAt,
deletedAt; null if the user was reported) and resolution (null). Texts are complete. If the command
fails, the array may be incomplete, so look at the exit code.

Permissions: dynamodb:DescribeTable on the table, and Query on its index byRequester.

Exit codes:
  0  The open reports are listed; with --older-than: there are none
  1  With --older-than: there are some
  2  The table or a report could not be read, the output could not be written, or the arguments are
     wrong";

const SHOW_HELP: &str = "\
Example: the report of user 17 on message 9 of the chat 17-42, with two messages before and two
after it.

  $ chat-admin report show 17-42/17/9 --table chats --context 2
  Report 17-42/17/9 (open, made 21h ago)
    reason     harassment
  ...

It prints the message when it was reported, the message now, what it contained before it was edited
or deleted (kept for 30 days; the newest 20), the state of the chat, which member has blocked the other, and the
messages around it. For a report of a user, it prints the last messages of the chat. A message that
was deleted is marked with (deleted), and shown with what it contained, while that is kept.

A text that somebody wrote is one line in double quotes. Double quotes, backslashes, control
characters, line breaks, direction marks and invisible characters in it are escaped. Joiners and
variation selectors are not escaped, because emoji and some scripts need them.

--json prints one object: the fields of `reports --json`, where resolution has action, by, note and
at; currentMessage; previousContents, newest first, each with replacedAt; hasMorePreviousContents;
chat (status, requesterId, seq, rev, updatedAt, blocks) or null; context, a list of messages, each
with lastContent (what a deleted message contained, or null); unreadable, a list of the items that
could not be read.

Permissions: dynamodb:DescribeTable, GetItem and Query on the table.

Exit codes:
  0  The report is printed
  1  There is no such report
  2  The table or an item could not be read, the output could not be written, or the arguments are
     wrong. An item that could not be read is a line on stderr; the others are printed all the same";

const RESOLVE_HELP: &str = "\
Examples:

  $ chat-admin report resolve 17-42/17/9 --table chats --action delete-message --note 'insult'
  Message 9 of chat 17-42 is deleted.
  Report 17-42/17/9 is resolved: delete-message.
  $ chat-admin report resolve 17-42/17/0 --table chats --action none --note 'no violation'
  Report 17-42/17/0 is resolved: none.

The report keeps who resolved it, when, and with which note. Nobody else sees them.

delete-message deletes the message as its sender could, at any time after it was sent: both members
see a deleted message, and an unread one is no longer counted. The message is deleted first, then
the report is resolved. If the command is interrupted or fails, the message may already be deleted.
Repeat the command; it does the rest.

A report that was resolved with none can be resolved again with delete-message. The note then also
contains the earlier resolution. No other resolution can be changed.

Permissions: dynamodb:DescribeTable, GetItem and UpdateItem on the table; for delete-message also
PutItem.

Exit codes:
  0  The report is resolved. Also if it was resolved before with the same action, note and name
  1  Nothing was resolved: there is no such report, or it was resolved before in another way
  2  The table could not be read or written, there is no message to delete, the output could not be
     written, or the arguments are wrong";

#[derive(Args)]
pub(crate) struct ReportsArgs {
    #[command(flatten)]
    table: TableArgs,
    /// Print a JSON array
    #[arg(long)]
    json: bool,
    /// Only reports that are older than this, such as 90m, 20h or 3d
    ///
    /// The exit code is 1 if there are any.
    #[arg(long, value_name = "AGE", value_parser = parse_age)]
    older_than: Option<Age>,
    /// Maximum number of reports [default: all]
    #[arg(long, value_name = "N")]
    limit: Option<NonZeroUsize>,
}

#[derive(Subcommand)]
pub(crate) enum ReportCommand {
    /// Show one report with its evidence
    #[command(after_help = SHOW_HELP)]
    Show(ShowArgs),
    /// Resolve one report
    #[command(after_help = RESOLVE_HELP)]
    Resolve(ResolveArgs),
}

#[derive(Args)]
pub(crate) struct ShowArgs {
    /// The report, such as 17-42/17/9
    #[arg(value_name = "ID")]
    id: ReportId,
    #[command(flatten)]
    table: TableArgs,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
    /// Number of messages to print before and after the reported one
    #[arg(
        long,
        value_name = "N",
        default_value_t = 5,
        value_parser = value_parser!(u64).range(0..=MAX_CONTEXT)
    )]
    context: u64,
}

#[derive(Args)]
pub(crate) struct ResolveArgs {
    /// The report, such as 17-42/17/9
    #[arg(value_name = "ID")]
    id: ReportId,
    #[command(flatten)]
    table: TableArgs,
    /// What to do
    #[arg(long, value_enum, value_name = "ACTION")]
    action: ActionArg,
    /// Why; the report keeps it
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    note: String,
    /// Your name; the report keeps it
    #[arg(
        long,
        value_name = "NAME",
        env = "USER",
        value_parser = NonEmptyStringValueParser::new()
    )]
    by: String,
}

#[derive(Clone, Copy, ValueEnum)]
enum ActionArg {
    /// Change nothing but the report
    None,
    /// Delete the reported message
    DeleteMessage,
}

/// The age of a report on the command line.
#[derive(Clone)]
struct Age {
    text: String,
    duration: Duration,
}

/// Parses an age such as `20h`.
fn parse_age(text: &str) -> Result<Age, String> {
    let parse = || {
        let (count, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3_600,
            "d" => 86_400,
            _ => return None,
        };
        let is_number = count.bytes().all(|byte| byte.is_ascii_digit());
        let count: u64 = count.parse().ok().filter(|_| is_number)?;
        Some(Duration::from_secs(count.checked_mul(seconds)?))
    };
    let duration = parse().ok_or("write a number and a unit (s, m, h or d), such as 20h")?;
    let text = text.to_owned();
    Ok(Age { text, duration })
}

impl From<ActionArg> for Action {
    fn from(action: ActionArg) -> Self {
        match action {
            ActionArg::None => Self::None,
            ActionArg::DeleteMessage => Self::DeleteMessage,
        }
    }
}

/// Connects to a table and checks that it is a table of the service.
async fn open_table(args: &TableArgs, table_use: TableUse) -> Result<DynamoTable, Error> {
    let client = connect(args.endpoint_url.as_deref()).await?;
    let table = DynamoTable::new(client, &args.table);
    table.verify(table_use).await?;
    Ok(table)
}

fn fail(what: &str, table: &TableArgs, error: &Error) -> ExitCode {
    let cause = error_cause(error);
    eprintln!("error: cannot {what} table {}: {cause}", table.table);
    ExitCode::from(EXIT_FAILED)
}

/// Lists the open reports.
pub(crate) async fn reports(args: &ReportsArgs) -> ExitCode {
    let mut output = ReportsOutput::new(args.json, Timestamp::now());
    if let Err(error) = list_reports(args, &mut output).await {
        return fail("list the reports of", &args.table, &error);
    }
    output.finish();
    let age = args.older_than.as_ref();
    let age = age.map_or_else(String::new, |age| format!(" older than {}", age.text));
    eprintln!("open reports{age}: {}", output.count);
    ExitCode::from(if output.has_failed {
        EXIT_FAILED
    } else if args.older_than.is_some() && output.count > 0 {
        EXIT_WAITING
    } else {
        EXIT_SUCCESS
    })
}

async fn list_reports(args: &ReportsArgs, output: &mut ReportsOutput) -> Result<(), Error> {
    let table = open_table(&args.table, TableUse::ItemsAndIndexes).await?;
    let made_before = args.older_than.as_ref().map(|age| {
        let age = u64::try_from(age.duration.as_millis()).unwrap_or(u64::MAX);
        Timestamp::from_millis(output.now.millis().saturating_sub(age))
    });
    let options = QueueOptions {
        made_before,
        limit: args.limit.map(NonZeroUsize::get),
    };
    let mut on_page = |page: QueuePage| output.page(&page);
    list_open_reports(&table, options, &mut on_page).await
}

/// Prints open reports to stdout while they are read.
struct ReportsOutput {
    now: Timestamp,
    /// The last element of the JSON array, which is not printed yet.
    last_json: Option<String>,
    is_json: bool,
    table: ReportTable,
    count: usize,
    /// Whether a report could not be read or printed.
    has_failed: bool,
}

impl ReportsOutput {
    fn new(is_json: bool, now: Timestamp) -> Self {
        Self {
            now,
            last_json: None,
            is_json,
            table: ReportTable::new(now),
            count: 0,
            has_failed: false,
        }
    }

    fn page(&mut self, page: &QueuePage) {
        for key in &page.unreadable {
            let (pk, sk) = (key.pk.escape_debug(), key.sk.escape_debug());
            eprintln!(
                "error: the report {pk} {sk} is damaged; chat-admin check names the attribute"
            );
            self.has_failed = true;
        }
        self.count = self.count.saturating_add(page.reports.len());
        if !self.is_json {
            for line in self.table.lines(&page.reports) {
                print_line(&line);
            }
            return;
        }
        for report in &page.reports {
            match to_json(report) {
                Ok(json) => self.json(json),
                Err(error) => {
                    eprintln!("error: {}: {}", report.id, error_cause(&error));
                    self.has_failed = true;
                }
            }
        }
    }

    /// Prints the element before this one, because it needs a comma.
    fn json(&mut self, element: String) {
        match self.last_json.replace(element) {
            None => print_line(&"["),
            Some(last) => print_line(&format_args!("{last},")),
        }
    }

    fn finish(&mut self) {
        if !self.is_json {
            return;
        }
        match self.last_json.take() {
            None => print_line(&"[]"),
            Some(last) => {
                print_line(&last);
                print_line(&"]");
            }
        }
    }
}

/// Shows a report.
pub(crate) async fn show(args: &ShowArgs) -> ExitCode {
    let details = match show_report(args, Timestamp::now()).await {
        Ok(Some(details)) => details,
        Ok(None) => return not_found(args.id, &args.table),
        Err(error) => return fail(&format!("show report {} of", args.id), &args.table, &error),
    };
    for name in &details.unreadable {
        eprintln!("error: {name} cannot be read; chat-admin check names the attribute");
    }
    ExitCode::from(if details.unreadable.is_empty() {
        EXIT_SUCCESS
    } else {
        EXIT_FAILED
    })
}

/// Prints a report, and returns it. `None` if there is no such report.
async fn show_report(args: &ShowArgs, now: Timestamp) -> Result<Option<ReportDetails>, Error> {
    let table = open_table(&args.table, TableUse::Items).await?;
    let details = report_details(&table, args.id, args.context, now).await?;
    if let Some(details) = &details {
        if args.json {
            print_line(&to_json(details)?);
        } else {
            for line in details.lines(now) {
                print_line(&line);
            }
        }
    }
    Ok(details)
}

fn not_found(id: ReportId, table: &TableArgs) -> ExitCode {
    eprintln!("error: there is no report {id} in table {}", table.table);
    ExitCode::from(EXIT_NOT_DONE)
}

/// Resolves a report.
pub(crate) async fn resolve(args: &ResolveArgs) -> ExitCode {
    let id = args.id;
    let resolution = NewResolution {
        action: args.action.into(),
        by: args.by.clone(),
        note: args.note.clone(),
    };
    let what = format!("resolve report {id} of");
    let table = match open_table(&args.table, TableUse::Items).await {
        Ok(table) => table,
        Err(error) => return fail(&what, &args.table, &error),
    };
    let outcome = match resolve_report(&table, id, &resolution, Timestamp::now()).await {
        Ok(outcome) => outcome,
        Err(error) => {
            let exit_code = fail(&what, &args.table, &error);
            if resolution.action == Action::DeleteMessage {
                eprintln!(
                    "The message may already be deleted. Repeat the command; it does the rest."
                );
            }
            return exit_code;
        }
    };
    let action = resolution.action.as_str();
    ExitCode::from(match outcome {
        ResolveOutcome::Resolved => {
            if let (Action::DeleteMessage, Some(seq)) = (resolution.action, id.seq) {
                print_line(&format_args!(
                    "Message {seq} of chat {} is deleted.",
                    id.chat
                ));
            }
            print_line(&format_args!("Report {id} is resolved: {action}."));
            EXIT_SUCCESS
        }
        ResolveOutcome::AlreadyResolved(existing) => {
            print_line(&format_args!(
                "Report {id} was already resolved: {existing}."
            ));
            EXIT_SUCCESS
        }
        ResolveOutcome::ResolvedDifferently {
            existing,
            is_message_deleted,
        } => {
            eprintln!("error: report {id} was already resolved: {existing}. It was not changed.");
            if is_message_deleted {
                eprintln!("error: another operator resolved it just now. The message is deleted.");
            }
            EXIT_NOT_DONE
        }
        ResolveOutcome::NotFound => return not_found(id, &args.table),
        ResolveOutcome::NamesNoMessage => {
            eprintln!(
                "error: report {id} is about user {}, not about a message: use --action none",
                id.reported()
            );
            EXIT_FAILED
        }
        ResolveOutcome::MessageNotFound => {
            eprintln!(
                "error: the message of report {id} does not exist, so it cannot be deleted: check the \
                 table, or use --action none"
            );
            EXIT_FAILED
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_a_number_and_a_unit() {
        for (text, seconds) in [("0s", 0), ("90m", 5_400), ("20h", 72_000), ("3d", 259_200)] {
            let age = parse_age(text).map(|age| age.duration);
            assert_eq!(age, Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in [
            "",
            "h",
            "20",
            "20 h",
            "+20h",
            "-20h",
            "1.5h",
            "20w",
            "20h ",
            "20é",
            "18446744073709551615d",
        ] {
            let error = parse_age(text).map(|age| age.duration).unwrap_err();
            assert!(error.contains("such as 20h"), "{text:?}: {error}");
        }
    }
}
