//! Reports: what users have reported, and how operators resolve it.
//!
//! **Queue.** Open reports are a partition of the index `byRequester`, oldest first. It follows the table
//! within about a second. It is read page by page, so that a queue of any length fits into memory.
//!
//! **Evidence.** A report has a copy of its message. What the message contained before it was edited or
//! deleted is kept for 30 days. DynamoDB deletes it some time later, and it is not shown after its time.
//!
//! **Resolution.** It is written on condition that the report is open. A message is deleted before that, so
//! that a report whose message should be deleted stays open until it is. Both steps can be repeated after a
//! crash.

mod text;
mod view;

use std::{fmt, str::FromStr, time::Duration};

use aws_sdk_dynamodb::types::AttributeValue;
use chat_shared::{
    Error,
    domain::{ChatId, MAX_SAFE_INTEGER, Seq, Timestamp, UserId},
    store::items::{
        ChatItem, Index, Item, ItemKey, MessageItem, Partition, PreviousContentItem, ReportItem,
    },
};

pub use text::{ReportTable, age};
pub use view::{
    BlockView, ChatView, Content, MessageView, PreviousContentView, ReportDetails, ReportView,
    ReportedMessage, Resolution, Time, to_json,
};

use crate::table::{DynamoTable, KeyRange, UpdateOutcome, item_key};

/// The maximum time to delete a message. The store itself repeats a transaction without a limit.
const MAX_DELETE_TIME: Duration = Duration::from_mins(1);

/// The id of a report, written `17-42/17/9`: the chat, the member who reported, and the number of the
/// message, or 0 if the other member was reported and not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReportId {
    /// The pair of the reporter and the reported user.
    pub chat: ChatId,
    /// The member who reported.
    pub reporter: UserId,
    /// The reported message.
    pub seq: Option<Seq>,
}

/// The text is not the id of a report. `Display` says what an id looks like.
#[derive(Debug, PartialEq, Eq)]
pub struct InvalidReportId;

/// Which open reports are listed.
#[derive(Clone, Copy, Debug, Default)]
pub struct QueueOptions {
    /// Only reports that were made before this time.
    pub made_before: Option<Timestamp>,
    /// The maximum number of reports.
    pub limit: Option<usize>,
}

/// A page of open reports, oldest first.
#[derive(Debug)]
pub struct QueuePage {
    /// The reports.
    pub reports: Vec<ReportView>,
    /// The keys of the reports that cannot be read.
    pub unreadable: Vec<ItemKey>,
}

/// What an operator does about a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    None,
    /// Deletes the reported message.
    DeleteMessage,
}

/// How an operator resolves a report.
#[derive(Clone, Debug)]
pub struct NewResolution {
    /// What is done.
    pub action: Action,
    /// The operator.
    pub by: String,
    /// Why.
    pub note: String,
}

/// The outcome of resolving a report.
#[derive(Debug)]
pub enum ResolveOutcome {
    /// The report is resolved now.
    Resolved,
    /// The report was resolved earlier, with the same action, operator and note.
    AlreadyResolved(Resolution),
    /// The report was resolved earlier in another way. It was not changed.
    ResolvedDifferently {
        /// How it was resolved.
        existing: Resolution,
        /// Whether the message was deleted all the same, because another operator resolved the report at the
        /// same time.
        is_message_deleted: bool,
    },
    /// There is no such report.
    NotFound,
    /// The message was not deleted, because the report names none. The report was not changed.
    NamesNoMessage,
    /// The reported message does not exist, so it was not deleted. The report was not changed.
    MessageNotFound,
}

impl ReportId {
    /// The id of the report with this key. `None` if it is not the key of a report.
    pub(crate) fn of(key: &ItemKey) -> Option<Self> {
        let Some(Partition::Chat(chat)) = Partition::parse(&key.pk) else {
            return None;
        };
        let (reporter, seq) = ReportItem::reporter_and_seq(&key.sk)?;
        chat.has_member(reporter).then_some(Self {
            chat,
            reporter,
            seq,
        })
    }

    /// The sort key in the queue of open reports.
    pub(crate) fn queue_key(self, made_at: Timestamp) -> String {
        ReportItem::queue_key(made_at, &self.to_string())
    }

    /// The reported user.
    #[must_use]
    pub fn reported(self) -> UserId {
        self.chat.peer_of(self.reporter)
    }

    fn key(self) -> ItemKey {
        ReportItem::key(self.chat, self.reporter, self.seq)
    }
}

/// The sort key of a report that was made at this time starts with this text. Times have a fixed width.
fn start_of_queue_key(made_at: Timestamp) -> String {
    format!("{:015}", made_at.millis())
}

impl fmt::Display for ReportId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seq = self.seq.unwrap_or_default();
        write!(f, "{}/{}/{seq}", self.chat, self.reporter)
    }
}

impl FromStr for ReportId {
    type Err = InvalidReportId;

    /// Accepts only the form in which an id is displayed.
    fn from_str(text: &str) -> Result<Self, InvalidReportId> {
        let parse = || {
            let mut parts = text.split('/');
            let chat: ChatId = parts.next()?.parse().ok()?;
            let reporter: UserId = parts.next()?.parse().ok()?;
            let seq: u64 = parts.next()?.parse().ok()?;
            let is_valid = chat.has_member(reporter) && seq <= MAX_SAFE_INTEGER;
            is_valid.then_some(Self {
                chat,
                reporter,
                seq: (seq > 0).then_some(Seq::new(seq)),
            })
        };
        let id: Option<Self> = parse();
        id.filter(|id| id.to_string() == text)
            .ok_or(InvalidReportId)
    }
}

impl fmt::Display for InvalidReportId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "write an id such as 17-42/17/9: the chat, the member who reported, and the number of the \
             message, or 0 if the user was reported",
        )
    }
}

impl std::error::Error for InvalidReportId {}

impl Action {
    /// The name on the command line and in the table.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::DeleteMessage => "delete-message",
        }
    }
}

impl NewResolution {
    fn is_same_as(&self, existing: &Resolution) -> bool {
        let Self { action, by, note } = self;
        existing.action == action.as_str() && existing.by == *by && existing.note == *note
    }
}

/// Lists open reports, oldest first.
///
/// # Errors
/// [`Error::Unavailable`] when DynamoDB does not respond for several minutes, and [`Error::Internal`]
/// when it rejects a read.
pub async fn list_open_reports(
    table: &DynamoTable,
    options: QueueOptions,
    on_page: &mut impl FnMut(QueuePage),
) -> Result<(), Error> {
    let index = Index::ByRequester;
    let mut values = vec![(":key", ReportItem::QUEUE.to_owned())];
    let below = options.made_before.map(start_of_queue_key);
    values.extend(below.map(|below| (":below", below)));
    let range = KeyRange {
        index: Some(index.name()),
        condition: index.condition(options.made_before.is_some()),
        values,
        projection: None,
        only_last: false,
    };
    let mut remaining = options.limit.unwrap_or(usize::MAX);
    let mut start_key: Option<Item> = None;
    loop {
        let mut page = table.query_page(&range, start_key.as_ref()).await?;
        page.items.truncate(remaining);
        remaining = remaining.saturating_sub(page.items.len());
        let mut found = QueuePage {
            reports: Vec::new(),
            unreadable: Vec::new(),
        };
        for item in page.items {
            let key = item_key(&item);
            match read_report(&key, item) {
                Some(report) => found.reports.push(report),
                None => found.unreadable.push(key),
            }
        }
        on_page(found);
        start_key = page.next_key;
        if start_key.is_none() || remaining == 0 {
            return Ok(());
        }
    }
}

/// Reads one report with all its evidence, and up to `context` messages before and after the reported one. If
/// a user was reported, it reads the last messages of the chat. `None` if there is no such report.
///
/// # Errors
/// [`Error::Unavailable`] when DynamoDB does not respond for several minutes, and [`Error::Internal`]
/// when it rejects a read or an item is damaged.
pub async fn report_details(
    table: &DynamoTable,
    id: ReportId,
    context: u64,
    now: Timestamp,
) -> Result<Option<ReportDetails>, Error> {
    let Some(report) = find_report(table, id).await? else {
        return Ok(None);
    };
    let chat = table.get(&ChatItem::key(id.chat)).await?;
    let chat = chat.map(ChatItem::read).transpose()?;
    let chat = chat.map(|chat| ChatView::new(id.chat, &chat));
    let (first, last) = if let Some(seq) = id.seq.map(Seq::get) {
        (seq.saturating_sub(context), seq.saturating_add(context))
    } else {
        let last = chat.as_ref().map_or(0, |chat| chat.seq);
        (last.saturating_sub(context).saturating_add(1), last)
    };
    let context = messages_between(table, id.chat, first, last).await?;
    let previous_contents = match id.seq {
        Some(seq) => previous_contents(table, id.chat, seq, now).await?,
        None => Vec::new(),
    };
    let is_reported = |message: &&MessageView| Some(message.seq) == id.seq.map(Seq::get);
    Ok(Some(ReportDetails {
        current_message: context.iter().find(is_reported).cloned(),
        report,
        previous_contents,
        chat,
        context,
    }))
}

/// Resolves a report that is open, and deletes its message before that if the action says so.
///
/// # Errors
/// [`Error::Unavailable`] when DynamoDB does not respond for some minutes, and [`Error::Internal`] when
/// it rejects a request or the report is damaged. The message may be deleted; the call can be repeated.
pub async fn resolve_report(
    table: &DynamoTable,
    id: ReportId,
    resolution: &NewResolution,
    now: Timestamp,
) -> Result<ResolveOutcome, Error> {
    let Some(report) = find_report(table, id).await? else {
        return Ok(ResolveOutcome::NotFound);
    };
    if let Some(existing) = report.resolution {
        return Ok(compare_resolutions(resolution, existing, false));
    }
    let deletes_message = resolution.action == Action::DeleteMessage;
    if deletes_message {
        let Some(seq) = id.seq else {
            return Ok(ResolveOutcome::NamesNoMessage);
        };
        if !delete_message(table, id.chat, seq, now).await? {
            return Ok(ResolveOutcome::MessageNotFound);
        }
    }
    let text = |text: &str| AttributeValue::S(text.to_owned());
    let outcome = table
        .update(
            &id.key(),
            "SET #state = :resolved, #at = :at, #by = :by, #action = :action, #note = :note \
             REMOVE #queue",
            "#state = :open",
            &[
                ("#state", "state"),
                ("#at", "resolvedAt"),
                ("#by", "resolvedBy"),
                ("#action", "action"),
                ("#note", "resolution"),
                ("#queue", "requesterKey"),
            ],
            vec![
                (":open", text(ReportItem::STATE_OPEN)),
                (":resolved", text(ReportItem::STATE_RESOLVED)),
                (":at", AttributeValue::N(now.millis().to_string())),
                (":by", text(&resolution.by)),
                (":action", text(resolution.action.as_str())),
                (":note", text(&resolution.note)),
            ],
        )
        .await?;
    let UpdateOutcome::Rejected(item) = outcome else {
        return Ok(ResolveOutcome::Resolved);
    };
    // Another operator was first, or the response to an earlier attempt was lost.
    let report = item.and_then(|item| read_report(&id.key(), item));
    let existing = report.and_then(|report| report.resolution);
    let existing = existing.ok_or_else(damaged_report)?;
    Ok(compare_resolutions(resolution, existing, deletes_message))
}

fn compare_resolutions(
    resolution: &NewResolution,
    existing: Resolution,
    is_message_deleted: bool,
) -> ResolveOutcome {
    if resolution.is_same_as(&existing) {
        ResolveOutcome::AlreadyResolved(existing)
    } else {
        ResolveOutcome::ResolvedDifferently {
            existing,
            is_message_deleted,
        }
    }
}

/// Deletes a message as its sender could, but at any time. Returns whether the message exists.
async fn delete_message(
    table: &DynamoTable,
    chat: ChatId,
    seq: Seq,
    now: Timestamp,
) -> Result<bool, Error> {
    let store = table.store(now);
    let deletion = Box::pin(store.delete_message_as_operator(chat, seq));
    match tokio::time::timeout(MAX_DELETE_TIME, deletion).await {
        Ok(Ok(_)) => Ok(true),
        Ok(Err(Error::ChatNotFound | Error::MessageNotFound)) => Ok(false),
        Ok(Err(error)) => Err(error),
        Err(_) => {
            let cause = "the message could not be deleted within a minute; repeat the command";
            Err(Error::Unavailable(cause.into()))
        }
    }
}

async fn find_report(table: &DynamoTable, id: ReportId) -> Result<Option<ReportView>, Error> {
    let key = id.key();
    let Some(item) = table.get(&key).await? else {
        return Ok(None);
    };
    let report = read_report(&key, item).ok_or_else(damaged_report)?;
    Ok(Some(report))
}

fn damaged_report() -> Error {
    Error::Internal("the report is damaged; chat-admin check names the attribute".into())
}

fn read_report(key: &ItemKey, item: Item) -> Option<ReportView> {
    let id = ReportId::of(key)?;
    Some(ReportView::new(id, ReportItem::read(item).ok()?))
}

/// The messages from `first` to `last`, as far as they exist.
async fn messages_between(
    table: &DynamoTable,
    chat: ChatId,
    first: u64,
    last: u64,
) -> Result<Vec<MessageView>, Error> {
    let (first, last) = (first.max(1), last.min(MAX_SAFE_INTEGER));
    if first > last {
        return Ok(Vec::new());
    }
    let [first, last] = [first, last].map(|seq| MessageItem::key(chat, Seq::new(seq)));
    let items = table.query_all(&KeyRange::between(first, last)).await?;
    let messages = items.into_iter();
    messages
        .map(|item| Ok(MessageView::new(&MessageItem::read(item, chat)?)))
        .collect()
}

/// What a message contained before each of its changes, oldest first.
async fn previous_contents(
    table: &DynamoTable,
    chat: ChatId,
    seq: Seq,
    now: Timestamp,
) -> Result<Vec<PreviousContentView>, Error> {
    let pk = Partition::Chat(chat).pk();
    let range = KeyRange::starting_with(&pk, &PreviousContentItem::sk_prefix(seq));
    let items = table.query_all(&range).await?.into_iter();
    let contents: Vec<_> = items
        .map(PreviousContentItem::read)
        .collect::<Result<_, _>>()?;
    let kept = contents
        .into_iter()
        .filter(|content| content.expires_at > now.seconds());
    Ok(kept.map(PreviousContentView::new).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report_id(id: &str) -> ReportId {
        id.parse().unwrap()
    }

    #[test]
    fn an_id_names_the_chat_the_reporter_and_the_message_or_0() {
        for id in ["17-42/17/9", "17-42/42/0", "1-2/1/9007199254740991"] {
            assert_eq!(report_id(id).to_string(), id);
            assert_eq!(ReportId::of(&report_id(id).key()), Some(report_id(id)));
        }
        assert_eq!(report_id("17-42/17/9").seq, Some(Seq::new(9)));
        assert_eq!(report_id("17-42/17/0").seq, None);
        assert_eq!(report_id("17-42/17/0").reported().get(), 42);
        for text in [
            "",
            "17-42",
            "17-42/17",
            "17-42/17/",
            "17-42/18/9",
            "42-17/17/9",
            "17-42/17/09",
            "17-42/17/+9",
            "17-42/17/-9",
            "17-42/17/9/",
            "17-42/17/9/9",
            " 17-42/17/9",
            "17-42/17/9007199254740992",
            "CHAT#17-42",
        ] {
            assert_eq!(text.parse::<ReportId>(), Err(InvalidReportId), "{text:?}");
        }
        assert!(InvalidReportId.to_string().contains("17-42/17/9"));
    }

    #[test]
    fn the_queue_is_in_the_order_of_time() {
        let key = |millis, id| report_id(id).queue_key(Timestamp::from_millis(millis));
        assert_eq!(key(7, "17-42/17/9"), "000000000000007#17-42/17/9");
        assert!(key(9, "99-100/99/0") < key(10, "1-2/1/0"));
        // Reports of the same millisecond are not before it.
        assert!(start_of_queue_key(Timestamp::from_millis(10)) < key(10, "1-2/1/0"));
        assert!(start_of_queue_key(Timestamp::from_millis(10)) > key(9, "1-2/1/0"));
    }

    #[test]
    fn a_resolution_is_the_same_if_action_operator_and_note_are() {
        let resolution = NewResolution {
            action: Action::DeleteMessage,
            by: "ann".to_owned(),
            note: "insult".to_owned(),
        };
        let existing = |action: &str, by: &str, note: &str| Resolution {
            action: action.to_owned(),
            by: by.to_owned(),
            note: note.to_owned(),
            at: None,
        };
        for (existing, is_same) in [
            (existing("delete-message", "ann", "insult"), true),
            (existing("none", "ann", "insult"), false),
            (existing("delete-message", "ben", "insult"), false),
            (existing("delete-message", "ann", "spam"), false),
        ] {
            let outcome = compare_resolutions(&resolution, existing, false);
            let found = matches!(outcome, ResolveOutcome::AlreadyResolved(_));
            assert_eq!(found, is_same, "{outcome:?}");
        }
    }
}
