//! Reports: what users have reported, and how operators resolve it.
//!
//! **Queue.** Open reports are a partition of the index `byRequester`, oldest first. It follows the table
//! within about a second. It is read page by page, so that a queue of any length fits into memory.
//!
//! **Evidence.** A report has a copy of its message. Previous contents of the message are kept for 30 days after
//! it was edited or deleted. DynamoDB deletes them some time later, and they are not shown after their time. An
//! item that cannot be read is named, and does not hide the others.
//!
//! **Resolution.** It is written on condition that the report is open, or that nothing was done about it
//! before: an operator may delete a message after all. A message is deleted before that, so that a report whose
//! message should be deleted stays as it is until the message is deleted. Both steps can be repeated after a crash.

mod text;
mod view;

use std::{fmt, str::FromStr, time::Duration};

use aws_sdk_dynamodb::types::AttributeValue;
use chat_shared::{
    Error,
    domain::{ChatId, MAX_SAFE_INTEGER, Message, Seq, Timestamp, UserId},
    store::items::{
        ChatItem, Index, Item, ItemKey, ItemKind, MessageItem, Partition, PreviousContentItem,
        ReportItem,
    },
};

pub use text::{ReportTable, age};
pub use view::{
    BlockView, ChatView, Content, MessageView, PreviousContentView, ReportDetails, ReportView,
    ReportedMessage, Resolution, Time, to_json,
};

use crate::{
    table::{DynamoTable, KeyRange, UpdateOutcome, item_key},
    text::OneLine,
};

/// The maximum number of previous contents of a message that are read.
const MAX_PREVIOUS_CONTENTS: usize = 20;
/// Precedes the earlier resolution in the note of the one that replaces it.
const EARLIER: &str = " (earlier: ";
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
    /// The report was resolved earlier in another way, which the new one does not replace. It was not changed.
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
        let rest = existing.note.strip_prefix(note.as_str());
        let is_same_note = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(EARLIER));
        existing.action == action.as_str() && existing.by == *by && is_same_note
    }

    /// Whether this resolution replaces an earlier one: an operator may delete a message after all.
    fn replaces(&self, earlier: &Resolution) -> bool {
        self.action == Action::DeleteMessage && earlier.action == Action::None.as_str()
    }

    /// The note, with the earlier resolution that this one replaces.
    fn note_after(&self, earlier: Option<&Resolution>) -> String {
        let note = &self.note;
        earlier.map_or_else(
            || note.clone(),
            |earlier| format!("{note}{EARLIER}{earlier})"),
        )
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
        last: None,
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

/// Reads one report with its evidence, and up to `context` messages before and after the reported one. If a user
/// was reported, it reads the last `context` messages of the chat. `None` if there is no such report.
///
/// # Errors
/// [`Error::Unavailable`] when DynamoDB does not respond for several minutes, and [`Error::Internal`]
/// when it rejects a read or the report is damaged. [`ReportDetails::unreadable`] names other items that are damaged.
pub async fn report_details(
    table: &DynamoTable,
    id: ReportId,
    context: u64,
    now: Timestamp,
) -> Result<Option<ReportDetails>, Error> {
    let Some(report) = find_report(table, id).await? else {
        return Ok(None);
    };
    let mut evidence = Evidence {
        table,
        chat: id.chat,
        now,
        unreadable: Vec::new(),
    };
    let chat = evidence.chat().await?;
    let (previous_contents, has_more_previous_contents) = match id.seq {
        Some(seq) => evidence.previous_contents(seq).await?,
        None => (Vec::new(), false),
    };
    let context = match id.seq {
        Some(seq) => evidence.messages_around(seq, context).await?,
        None => evidence.last_messages(context).await?,
    };
    let is_reported = |message: &&MessageView| Some(message.seq) == id.seq.map(Seq::get);
    Ok(Some(ReportDetails {
        current_message: context.iter().find(is_reported).cloned(),
        report,
        previous_contents,
        has_more_previous_contents,
        chat,
        context,
        unreadable: evidence.unreadable,
    }))
}

/// Resolves a report that is open, or about which nothing was done before, and deletes its message before that if
/// the action says so.
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
    let mut existing = report.resolution;
    let mut is_message_deleted = false;
    loop {
        let earlier = match existing {
            Some(existing) if !resolution.replaces(&existing) => {
                return Ok(compare_resolutions(
                    resolution,
                    existing,
                    is_message_deleted,
                ));
            }
            earlier => earlier,
        };
        if resolution.action == Action::DeleteMessage && !is_message_deleted {
            let Some(seq) = id.seq else {
                return Ok(ResolveOutcome::NamesNoMessage);
            };
            if !delete_message(table, id.chat, seq, now).await? {
                return Ok(ResolveOutcome::MessageNotFound);
            }
            is_message_deleted = true;
        }
        let outcome = write_resolution(table, id, resolution, earlier.as_ref(), now).await?;
        let UpdateOutcome::Rejected(item) = outcome else {
            return Ok(ResolveOutcome::Resolved);
        };
        // Another operator was first, or the response to an earlier attempt was lost.
        let report = item.and_then(|item| read_report(&id.key(), item));
        let found = report.and_then(|report| report.resolution);
        existing = Some(found.ok_or_else(damaged_report)?);
    }
}

/// Writes a resolution if the report is open, or if it still has the earlier resolution, whose action is `none`.
async fn write_resolution(
    table: &DynamoTable,
    id: ReportId,
    resolution: &NewResolution,
    earlier: Option<&Resolution>,
    now: Timestamp,
) -> Result<UpdateOutcome, Error> {
    let text = |text: &str| AttributeValue::S(text.to_owned());
    let (condition, before) = match earlier {
        None => ("#state = :before", ReportItem::STATE_OPEN),
        Some(_) => ("#action = :before", Action::None.as_str()),
    };
    table
        .update(
            &id.key(),
            "SET #state = :resolved, #at = :at, #by = :by, #action = :action, #note = :note \
             REMOVE #queue",
            condition,
            &[
                ("#state", "state"),
                ("#at", "resolvedAt"),
                ("#by", "resolvedBy"),
                ("#action", "action"),
                ("#note", "resolution"),
                ("#queue", "requesterKey"),
            ],
            vec![
                (":before", text(before)),
                (":resolved", text(ReportItem::STATE_RESOLVED)),
                (":at", AttributeValue::N(now.millis().to_string())),
                (":by", text(&resolution.by)),
                (":action", text(resolution.action.as_str())),
                (":note", text(&resolution.note_after(earlier))),
            ],
        )
        .await
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
            let cause = "the message could not be deleted within a minute";
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

/// Reads the evidence of a report. It keeps the names of the items that cannot be read, and goes on.
struct Evidence<'a> {
    table: &'a DynamoTable,
    chat: ChatId,
    now: Timestamp,
    /// See [`ReportDetails::unreadable`].
    unreadable: Vec<String>,
}

impl Evidence<'_> {
    async fn chat(&mut self) -> Result<Option<ChatView>, Error> {
        let key = ChatItem::key(self.chat);
        let Some(item) = self.table.get(&key).await? else {
            return Ok(None);
        };
        let chat = self.readable(&key, ChatItem::read(item));
        Ok(chat.map(|chat| ChatView::new(self.chat, &chat)))
    }

    /// Previous contents of a message, newest first, and whether there are more.
    async fn previous_contents(
        &mut self,
        seq: Seq,
    ) -> Result<(Vec<PreviousContentView>, bool), Error> {
        let pk = Partition::Chat(self.chat).pk();
        let range = KeyRange {
            last: Some(MAX_PREVIOUS_CONTENTS + 1),
            ..KeyRange::starting_with(&pk, &PreviousContentItem::sk_prefix(seq))
        };
        let mut items = self.table.query_all(&range).await?;
        let more = items.split_off(items.len().min(MAX_PREVIOUS_CONTENTS));
        let mut read = |item| self.previous_content(item);
        let contents = items.into_iter().filter_map(&mut read).collect();
        let has_more = more.into_iter().filter_map(read).count() > 0;
        Ok((contents, has_more))
    }

    /// `None` also if the item has expired: DynamoDB deletes it some time later.
    fn previous_content(&mut self, item: Item) -> Option<PreviousContentView> {
        let key = item_key(&item);
        let content = self.readable(&key, PreviousContentItem::read(item))?;
        let is_kept = content.expires_at > self.now.seconds();
        is_kept.then(|| PreviousContentView::new(content))
    }

    /// A message, and up to `count` messages before and after it, oldest first.
    async fn messages_around(&mut self, seq: Seq, count: u64) -> Result<Vec<MessageView>, Error> {
        let first = seq.get().saturating_sub(count).max(1);
        let last = seq.get().saturating_add(count).min(MAX_SAFE_INTEGER);
        let [first, last] = [first, last].map(|seq| MessageItem::key(self.chat, Seq::new(seq)));
        let items = self
            .table
            .query_all(&KeyRange::between(first, last))
            .await?;
        self.messages(items).await
    }

    /// The last messages of the chat, oldest first. Its state may be damaged, so it is not needed.
    async fn last_messages(&mut self, count: u64) -> Result<Vec<MessageView>, Error> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let range = KeyRange {
            last: usize::try_from(count).ok(),
            // Messages sort directly before the state.
            ..KeyRange::before(&ChatItem::key(self.chat))
        };
        let mut items = self.table.query_all(&range).await?;
        items.retain(|item| ItemKind::of(&item_key(item)) == Some(ItemKind::Message));
        items.reverse();
        self.messages(items).await
    }

    async fn messages(&mut self, items: Vec<Item>) -> Result<Vec<MessageView>, Error> {
        let mut messages = Vec::with_capacity(items.len());
        for item in items {
            let key = item_key(&item);
            let Some(message) = self.readable(&key, MessageItem::read(item, self.chat)) else {
                continue;
            };
            let last_content = if message.deleted_at.is_some() {
                self.last_content(&message).await?
            } else {
                None
            };
            messages.push(MessageView::new(&message, last_content));
        }
        Ok(messages)
    }

    /// The last content of a deleted message, if it is still kept.
    async fn last_content(&mut self, message: &Message) -> Result<Option<Content>, Error> {
        let key = PreviousContentItem::key(self.chat, message.seq, message.rev);
        let item = self.table.get(&key).await?;
        let content = item.and_then(|item| self.previous_content(item));
        Ok(content.map(|content| content.content))
    }

    /// Keeps the name of an item that cannot be read.
    fn readable<T>(&mut self, key: &ItemKey, read: Result<T, Error>) -> Option<T> {
        if read.is_err() {
            let name = name_of(key);
            if !self.unreadable.contains(&name) {
                self.unreadable.push(name);
            }
        }
        read.ok()
    }
}

/// The name of an item in [`ReportDetails::unreadable`].
fn name_of(key: &ItemKey) -> String {
    if let Some(seq) = MessageItem::seq(&key.sk) {
        ReportDetails::message_name(seq.get())
    } else if let Some((seq, rev)) = PreviousContentItem::seq_and_rev(&key.sk) {
        format!("what message {seq} contained before change {rev}")
    } else if ItemKind::of(key) == Some(ItemKind::Chat) {
        ReportDetails::CHAT_STATE.to_owned()
    } else {
        format!("{} {}", OneLine(&key.pk), OneLine(&key.sk))
    }
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
            (
                existing("delete-message", "ann", "insult (earlier: none)"),
                true,
            ),
            (existing("delete-message", "ann", "insult again"), false),
            (existing("none", "ann", "insult"), false),
            (existing("delete-message", "ben", "insult"), false),
            (existing("delete-message", "ann", "spam"), false),
        ] {
            let outcome = compare_resolutions(&resolution, existing, false);
            let found = matches!(outcome, ResolveOutcome::AlreadyResolved(_));
            assert_eq!(found, is_same, "{outcome:?}");
        }
    }

    #[test]
    fn only_a_deletion_replaces_a_resolution_that_did_nothing_and_keeps_it_in_the_note() {
        let resolution = |action| NewResolution {
            action,
            by: "ann".to_owned(),
            note: "insult".to_owned(),
        };
        let existing = |action: &str| Resolution {
            action: action.to_owned(),
            by: "ben".to_owned(),
            note: "fine".to_owned(),
            at: Some(Time::from_millis(0)),
        };
        let deletion = resolution(Action::DeleteMessage);
        assert!(deletion.replaces(&existing("none")));
        for action in ["delete-message", "warn", ""] {
            assert!(!deletion.replaces(&existing(action)), "{action}");
        }
        assert!(!resolution(Action::None).replaces(&existing("none")));

        assert_eq!(deletion.note_after(None), "insult");
        let note = deletion.note_after(Some(&existing("none")));
        let earlier = "none, by \"ben\" at 1970-01-01T00:00:00.000Z, with the note \"fine\"";
        assert_eq!(note, format!("insult (earlier: {earlier})"));
        // So the same command again changes nothing.
        let replaced = Resolution {
            action: "delete-message".to_owned(),
            by: "ann".to_owned(),
            note,
            at: None,
        };
        assert!(deletion.is_same_as(&replaced));
    }

    #[test]
    fn an_item_that_cannot_be_read_is_named() {
        for (sk, name) in [
            ("MSG#0000000000000007", "message 7"),
            (
                "HIST#0000000000000007#0000000000000003",
                "what message 7 contained before change 3",
            ),
            ("STATE", "the state of the chat"),
            ("MSG#7\n", "CHAT#17-42 MSG#7\\n"),
        ] {
            assert_eq!(name_of(&ItemKey::new("CHAT#17-42", sk)), name);
        }
    }
}
