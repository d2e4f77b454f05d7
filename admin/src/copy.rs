//! Copies the items that a live table lacks from a restored table.
//!
//! **What is missing.** An item is missing if the target has no item with its key. Items that exist in
//! the target stay as they are, whatever the source contains: the target is newer. Each write is
//! conditional on this, so a run can be interrupted, repeated, and used while the target serves
//! traffic.
//!
//! **What is left out.** Idempotency keys that have expired. Also everything that contradicts the
//! target. It is named, and an operator decides:
//!
//! - *A chat that the users have started again*, because its state was lost. `createdAt` of the two
//!   states differs, and no request changes it. The numbers of the new messages hide old ones, so
//!   nothing of the old chat is copied.
//! - *A message that the target's chat does not count.* A new message would be written to the same
//!   key, and replace the copy.
//! - *A message whose number another message of the target has.*
//! - *An idempotency key that would refer to another message than before.* A repeated request would
//!   get that message as its response.
//!
//! **Order.** The state of a chat is copied before its messages. So no time exists at which users can
//! start a new chat in place of one that is partly copied.
//!
//! **Counters.** Missing counters are copied, existing ones stay. Neither is correct afterwards if
//! messages came back; a check with repairs corrects them.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
};

use chat_shared::{
    Error,
    domain::{ChatId, MAX_SAFE_INTEGER, Seq, Timestamp},
    store::items::{ChatItem, Item, ItemKey, ItemKind, MessageItem, Partition},
};
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::{
    table::{DynamoTable, KeyRange, Projection, item_key},
    text::OneLine,
};

/// Number of requests to the target at the same time.
const CONCURRENCY: usize = 16;
/// Number of items that one request looks up.
const LOOKUP_SIZE: usize = 100;
/// The attributes of a message. No request changes them.
const MESSAGE_ATTRIBUTES: [&str; 5] = [
    "senderId",
    "createdAt",
    "text",
    "imageUrl",
    "linkPreviewUrl",
];

/// Options of a copy.
#[derive(Clone, Copy, Debug)]
pub struct CopyOptions {
    /// Whether only to count what would be copied.
    pub dry_run: bool,
    /// The current time. Idempotency keys that have expired are not copied.
    pub now: Timestamp,
}

/// Result of a copy, or its progress so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CopySummary {
    /// Items that were read from the source.
    pub items: u64,
    /// Items that were copied; in a dry run, items that would be copied.
    pub copied: u64,
    /// Idempotency keys that have expired.
    pub expired: u64,
    /// Items that are missing or different in the target, and contradict it.
    pub not_copied: u64,
}

/// An item, or a chat with all its items, that contradicts the target and was not copied. `Display` is
/// one line: the key and the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotCopied {
    key: ItemKey,
    reason: String,
}

/// Event that the copy reports while it runs.
#[derive(Debug)]
pub enum CopyEvent<'a> {
    /// A page of the source is finished.
    Progress(CopySummary),
    /// An item or a chat was not copied.
    NotCopied(&'a NotCopied),
}

/// Copies the items that are missing in `target`.
///
/// # Errors
/// Returns [`Error::Unavailable`] when DynamoDB does not respond for several minutes, and
/// [`Error::Internal`] when it rejects a read or a write. What was copied until then stays; the last
/// [`CopyEvent::Progress`] counts it.
pub async fn copy_missing_items(
    source: &DynamoTable,
    target: &DynamoTable,
    options: CopyOptions,
    report: &mut impl FnMut(CopyEvent<'_>),
) -> Result<CopySummary, Error> {
    let mut run = CopyRun {
        source,
        target,
        options,
        summary: CopySummary::default(),
        last_refused: None,
    };
    let mut start_key: Option<Item> = None;
    loop {
        let page = source
            .scan_page(Projection::All, start_key.as_ref())
            .await?;
        let not_copied = run.copy_page(page.items).await;
        for item in not_copied.iter().flatten() {
            report(CopyEvent::NotCopied(item));
        }
        report(CopyEvent::Progress(run.summary));
        not_copied?;
        start_key = page.next_key;
        if start_key.is_none() {
            return Ok(run.summary);
        }
    }
}

/// A copy between two tables.
struct CopyRun<'a> {
    source: &'a DynamoTable,
    target: &'a DynamoTable,
    options: CopyOptions,
    summary: CopySummary,
    /// The chat at the end of the last page, if it was refused. Its items may continue on the next page.
    last_refused: Option<ChatId>,
}

/// Which messages of a chat may be copied to the target.
#[derive(Debug, PartialEq, Eq)]
enum Coverage {
    /// Those up to this number, which the state of the chat counts.
    UpTo(u64),
    /// None, for this reason.
    Refused(String),
}

/// The newest message of a chat in the target.
enum Newest {
    None,
    Message(u64),
    /// Its sort key is damaged.
    Damaged,
}

/// How an item differs from the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Difference {
    /// The target has no item with its key.
    Missing,
    /// The target has another message, or the state of another chat between the same users.
    Other,
}

/// An item of the source that the target does not have.
struct Candidate {
    key: ItemKey,
    item: Item,
    difference: Difference,
}

/// What happens to an item that the target does not have.
#[derive(Debug, PartialEq, Eq)]
enum Decision {
    Copy,
    /// The state of a chat, which was copied before the other items of the chat.
    AlreadyCopied,
    /// The whole chat is refused, and was reported.
    ChatRefused,
    /// The item contradicts its chat.
    Refused(String),
}

impl CopyRun<'_> {
    /// Copies the items of one page, and returns the items and chats that it leaves out.
    async fn copy_page(&mut self, items: Vec<Item>) -> Result<Vec<NotCopied>, Error> {
        self.summary.items = self.summary.items.saturating_add(items.len() as u64);
        let last_chat = items.last().and_then(|item| chat_of(&item_key(item)));
        let mut current = Vec::new();
        for item in items {
            let key = item_key(&item);
            if is_expired(&key, &item, self.options.now) {
                self.summary.expired = self.summary.expired.saturating_add(1);
            } else {
                current.push((key, item));
            }
        }
        let candidates = self.candidates(current).await?;
        let coverage = self.coverage_of_chats(&candidates).await?;
        let mut not_copied = self.newly_refused_chats(&coverage);
        self.last_refused = last_chat.filter(|id| match coverage.get(id) {
            Some(coverage) => matches!(coverage, Coverage::Refused(_)),
            None => self.last_refused == Some(*id),
        });
        let mut copies = Vec::new();
        let mut idempotency_keys = Vec::new();
        for candidate in candidates {
            match decide(&candidate, &coverage, self.options.dry_run) {
                Decision::Copy => {
                    let Candidate { key, item, .. } = candidate;
                    if chat_of(&key).is_some()
                        && ItemKind::of(&key) == Some(ItemKind::IdempotencyKey)
                    {
                        idempotency_keys.push((key, item));
                    } else {
                        copies.push(item);
                    }
                }
                Decision::AlreadyCopied => {}
                Decision::ChatRefused => self.count_not_copied(),
                Decision::Refused(reason) => {
                    self.count_not_copied();
                    let key = candidate.key;
                    not_copied.push(NotCopied { key, reason });
                }
            }
        }
        for (key, item, refusal) in self.check_idempotency_keys(idempotency_keys).await? {
            match refusal {
                None => copies.push(item),
                Some(reason) => {
                    self.count_not_copied();
                    not_copied.push(NotCopied { key, reason });
                }
            }
        }
        self.write(copies).await?;
        Ok(not_copied)
    }

    /// Selects the items that the target does not have.
    async fn candidates(&self, items: Vec<(ItemKey, Item)>) -> Result<Vec<Candidate>, Error> {
        let keys: Vec<_> = items.iter().map(|(key, _)| key.clone()).collect();
        let found = look_up(self.target, &keys).await?;
        let candidates = items.into_iter().filter_map(|(key, item)| {
            let difference = match found.get(&key) {
                None => Difference::Missing,
                Some(existing) if is_same(&key, &item, existing) => return None,
                Some(_) => Difference::Other,
            };
            Some(Candidate {
                key,
                item,
                difference,
            })
        });
        Ok(candidates.collect())
    }

    /// Determines for each idempotency key whether it must not be copied, and why. Its message must be
    /// the same in both tables, or missing in the target: then it is copied too.
    async fn check_idempotency_keys(
        &self,
        keys: Vec<(ItemKey, Item)>,
    ) -> Result<Vec<(ItemKey, Item, Option<String>)>, Error> {
        let message_key = |key: &ItemKey, item: &Item| message_key(key, read_seq(item)?);
        let messages: BTreeSet<_> = keys
            .iter()
            .filter_map(|(key, item)| message_key(key, item))
            .collect();
        let messages: Vec<_> = messages.into_iter().collect();
        let in_source = look_up(self.source, &messages).await?;
        let in_target = look_up(self.target, &messages).await?;
        let checked = keys.into_iter().map(|(key, item)| {
            let refusal = match message_key(&key, &item) {
                None => Some("the number of its message cannot be read"),
                Some(message) => match (in_source.get(&message), in_target.get(&message)) {
                    (None, _) => Some("its message is missing in the table to copy from"),
                    (Some(old), Some(new)) if !is_same_message(old, new) => {
                        Some("the target has another message with the number of its message")
                    }
                    (Some(_), _) => None,
                },
            };
            (key, item, refusal.map(str::to_owned))
        });
        Ok(checked.collect())
    }

    /// Determines which messages may be copied, for each chat with a candidate. Copies the states of
    /// chats that the target lacks.
    async fn coverage_of_chats(
        &mut self,
        candidates: &[Candidate],
    ) -> Result<BTreeMap<ChatId, Coverage>, Error> {
        let chats = candidates.iter();
        let mut chats: Vec<_> = chats
            .filter_map(|candidate| chat_of(&candidate.key))
            .collect();
        chats.dedup();
        let (source, target, options) = (self.source, self.target, self.options);
        let mut found = stream::iter(chats)
            .map(|id| async move {
                let (coverage, is_copied) = cover_chat(source, target, options, id).await?;
                Ok::<_, Error>((id, coverage, is_copied))
            })
            .buffer_unordered(CONCURRENCY);
        let mut coverages = BTreeMap::new();
        while let Some(covered) = found.next().await {
            let (id, coverage, is_copied) = covered?;
            self.summary.copied = self.summary.copied.saturating_add(u64::from(is_copied));
            coverages.insert(id, coverage);
        }
        Ok(coverages)
    }

    /// The chats that are refused, without the one that an earlier page has named.
    fn newly_refused_chats(&self, coverage: &BTreeMap<ChatId, Coverage>) -> Vec<NotCopied> {
        let refused = coverage.iter().filter_map(|(id, coverage)| match coverage {
            Coverage::Refused(reason) if self.last_refused != Some(*id) => Some(NotCopied {
                key: ChatItem::key(*id),
                reason: reason.clone(),
            }),
            _ => None,
        });
        refused.collect()
    }

    /// Writes new items. In a dry run it only counts them.
    async fn write(&mut self, items: Vec<Item>) -> Result<(), Error> {
        if self.options.dry_run {
            self.summary.copied = self.summary.copied.saturating_add(items.len() as u64);
            return Ok(());
        }
        let target = self.target;
        let mut writes = stream::iter(items)
            .map(|item| async move { target.insert(&item).await })
            .buffer_unordered(CONCURRENCY);
        while let Some(is_copied) = writes.next().await {
            self.summary.copied = self.summary.copied.saturating_add(u64::from(is_copied?));
        }
        Ok(())
    }

    fn count_not_copied(&mut self) {
        self.summary.not_copied = self.summary.not_copied.saturating_add(1);
    }
}

/// Determines which messages of a chat may be copied. Copies the state of the chat if the target lacks
/// it, and returns whether it did.
async fn cover_chat(
    source: &DynamoTable,
    target: &DynamoTable,
    options: CopyOptions,
    id: ChatId,
) -> Result<(Coverage, bool), Error> {
    let key = ChatItem::key(id);
    let refused = |reason: &str| Ok((Coverage::Refused(reason.to_owned()), false));
    let existing = target.get(&key).await?;
    let Some(state) = source.get(&key).await? else {
        return refused("the table to copy from lacks the state of the chat");
    };
    if let Some(existing) = existing {
        return Ok((compare_states(&state, &existing), false));
    }
    let Some(seq) = read_seq(&state) else {
        return refused("seq of the chat to copy cannot be read");
    };
    match newest_message(target, &key).await? {
        Newest::None => {}
        Newest::Message(newest) if newest <= seq => {}
        Newest::Message(newest) => {
            let reason = format!(
                "the target has message {newest}, but seq of the chat to copy is {seq}; \
                 restore a later time"
            );
            return Ok((Coverage::Refused(reason), false));
        }
        Newest::Damaged => {
            return refused("the target has a message whose number cannot be read");
        }
    }
    if options.dry_run {
        return Ok((Coverage::UpTo(seq), false));
    }
    if target.insert(&state).await? {
        return Ok((Coverage::UpTo(seq), true));
    }
    // Users have started the chat again in the meantime.
    match target.get(&key).await? {
        Some(existing) => Ok((compare_states(&state, &existing), false)),
        None => refused("the state of the chat in the target was deleted during the copy"),
    }
}

/// Determines which messages may be copied if both tables have the state of a chat.
fn compare_states(state: &Item, existing: &Item) -> Coverage {
    let refused = |reason: &str| Coverage::Refused(reason.to_owned());
    let Some(created_at) = read_created_at(state) else {
        return refused("createdAt of the chat to copy cannot be read");
    };
    let Some(started_again_at) = read_created_at(existing) else {
        return refused("createdAt of the chat in the target cannot be read");
    };
    if started_again_at != created_at {
        return Coverage::Refused(format!(
            "createdAt is {created_at}, but {started_again_at} in the target: the users have \
             started this chat again"
        ));
    }
    match read_seq(existing) {
        Some(seq) => Coverage::UpTo(seq),
        None => refused("seq of the chat in the target cannot be read"),
    }
}

/// The newest message in a table of a chat whose state has this key.
async fn newest_message(table: &DynamoTable, state_key: &ItemKey) -> Result<Newest, Error> {
    // Messages sort directly before the state.
    let range = KeyRange {
        projection: Some("pk, sk"),
        only_last: true,
        ..KeyRange::before(state_key)
    };
    let page = table.query_page(&range, None).await?;
    let key = page.items.first().map(item_key);
    let key = key.filter(|key| ItemKind::of(key) == Some(ItemKind::Message));
    Ok(key.map_or(Newest::None, |key| {
        let seq = MessageItem::seq(&key.sk);
        seq.map_or(Newest::Damaged, |seq| Newest::Message(seq.get()))
    }))
}

/// Reads items, as far as they exist. `keys` must not contain a key twice.
async fn look_up(table: &DynamoTable, keys: &[ItemKey]) -> Result<HashMap<ItemKey, Item>, Error> {
    let lookups = keys
        .chunks(LOOKUP_SIZE)
        .map(|keys| table.get_all(keys, None));
    let found: Vec<HashMap<ItemKey, Item>> = stream::iter(lookups)
        .buffer_unordered(CONCURRENCY)
        .try_collect()
        .await?;
    Ok(found.into_iter().flatten().collect())
}

/// Whether an item that exists in both tables needs no attention. Only messages and `createdAt` of
/// chats never change, so only these can contradict each other.
fn is_same(key: &ItemKey, item: &Item, existing: &Item) -> bool {
    match (chat_of(key), ItemKind::of(key)) {
        (Some(_), Some(ItemKind::Message)) => is_same_message(item, existing),
        (Some(_), Some(ItemKind::Chat)) => item.get("createdAt") == existing.get("createdAt"),
        _ => true,
    }
}

fn is_same_message(message: &Item, other: &Item) -> bool {
    MESSAGE_ATTRIBUTES
        .iter()
        .all(|name| message.get(*name) == other.get(*name))
}

/// The key of the message that an idempotency key of the same chat refers to.
fn message_key(key: &ItemKey, seq: u64) -> Option<ItemKey> {
    let sk = format!("MSG#{seq:016}");
    MessageItem::seq(&sk)?;
    Some(ItemKey::new(key.pk.clone(), sk))
}

/// The chat of an item that must match the state of its chat. `None` for other items.
fn chat_of(key: &ItemKey) -> Option<ChatId> {
    match (ItemKind::of(key)?, Partition::parse(&key.pk)?) {
        (_, Partition::Chat(id)) => Some(id),
        (_, Partition::User(_)) => None,
    }
}

fn decide(candidate: &Candidate, coverage: &BTreeMap<ChatId, Coverage>, dry_run: bool) -> Decision {
    let Candidate {
        key,
        item,
        difference,
    } = candidate;
    let Some(id) = chat_of(key) else {
        return Decision::Copy;
    };
    let Some(Coverage::UpTo(last)) = coverage.get(&id) else {
        return Decision::ChatRefused;
    };
    if *difference == Difference::Other {
        return Decision::Refused(match ItemKind::of(key) {
            Some(ItemKind::Message) => "the target has another message with this number".to_owned(),
            _ => "the target has another chat of these users".to_owned(),
        });
    }
    let seq = match ItemKind::of(key) {
        Some(ItemKind::Message) => MessageItem::seq(&key.sk).map(Seq::get),
        Some(ItemKind::IdempotencyKey) => read_seq(item),
        _ if dry_run => return Decision::Copy,
        _ => return Decision::AlreadyCopied,
    };
    match seq.filter(|seq| *seq > 0) {
        Some(seq) if seq <= *last => Decision::Copy,
        Some(seq) => Decision::Refused(format!(
            "it belongs to message {seq}, but seq of the chat in the target is {last}"
        )),
        None => Decision::Refused("the number of its message cannot be read".to_owned()),
    }
}

/// The attribute `seq` of a chat's state or an idempotency key.
fn read_seq(item: &Item) -> Option<u64> {
    let seq = item.get("seq")?.as_n().ok()?.parse().ok()?;
    (seq <= MAX_SAFE_INTEGER).then_some(seq)
}

/// The attribute `createdAt` of a chat's state.
fn read_created_at(state: &Item) -> Option<Timestamp> {
    let millis = state.get("createdAt")?.as_n().ok()?.parse().ok()?;
    Some(Timestamp::from_millis(millis))
}

/// Whether an item is an idempotency key that has expired. The table's TTL deletes it some time later.
fn is_expired(key: &ItemKey, item: &Item, now: Timestamp) -> bool {
    let expires_at = item.get("expiresAt").and_then(|time| time.as_n().ok());
    ItemKind::of(key) == Some(ItemKind::IdempotencyKey)
        && expires_at
            .and_then(|time| time.parse::<u64>().ok())
            .is_some_and(|expires_at| expires_at <= now.seconds())
}

impl fmt::Display for NotCopied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, reason } = self;
        let (pk, sk) = (OneLine(&key.pk), OneLine(&key.sk));
        write!(f, "{pk} {sk}: not copied: {reason}")
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::types::AttributeValue;

    use super::*;

    fn item(attributes: &[(&str, &str)]) -> Item {
        let attribute = |(name, number): &(&str, &str)| {
            let number = AttributeValue::N((*number).to_owned());
            ((*name).to_owned(), number)
        };
        attributes.iter().map(attribute).collect()
    }

    fn decision(pk: &str, sk: &str, seq: &str, coverage: Coverage) -> Decision {
        let id: ChatId = "17-42".parse().unwrap();
        let key = ItemKey::new(pk, sk);
        let coverage = BTreeMap::from([(id, coverage)]);
        decide(&missing(key, item(&[("seq", seq)])), &coverage, false)
    }

    fn missing(key: ItemKey, item: Item) -> Candidate {
        Candidate {
            key,
            item,
            difference: Difference::Missing,
        }
    }

    #[test]
    fn only_items_of_messages_that_the_chat_in_the_target_counts_are_copied() {
        let chat = "CHAT#17-42";
        for (sk, seq) in [
            ("MSG#0000000000000002", ""),
            ("MSG#0000000000000003", ""),
            ("KEY#42#a", "3"),
            ("BLOCK#17", ""), // a newer version
        ] {
            let decision = decision(chat, sk, seq, Coverage::UpTo(3));
            assert_eq!(decision, Decision::Copy, "{sk}");
        }
        for (sk, seq) in [
            ("MSG#0000000000000004", ""),
            ("MSG#0000000000000000", ""),
            ("MSG#2", ""),
            ("KEY#42#a", "4"),
            ("KEY#42#a", "1.5"),
        ] {
            let decision = decision(chat, sk, seq, Coverage::UpTo(3));
            assert!(matches!(decision, Decision::Refused(_)), "{sk}");
        }
        let refused = Coverage::Refused("damaged".to_owned());
        let message = decision(chat, "MSG#0000000000000002", "", refused);
        assert_eq!(message, Decision::ChatRefused);
        for (pk, sk) in [("USER#42", "TOTALS#3"), ("USER#42", "SENT"), ("OTHER", "X")] {
            let decision = decision(pk, sk, "", Coverage::UpTo(0));
            assert_eq!(decision, Decision::Copy, "{sk}");
        }
    }

    #[test]
    fn the_state_of_a_chat_is_copied_first_and_counted_once() {
        let key = ItemKey::new("CHAT#17-42", "STATE");
        let id: ChatId = "17-42".parse().unwrap();
        let coverage = BTreeMap::from([(id, Coverage::UpTo(3))]);
        let state = missing(key, item(&[("seq", "3")]));
        let decide = |dry_run| decide(&state, &coverage, dry_run);
        assert_eq!(decide(false), Decision::AlreadyCopied);
        assert_eq!(decide(true), Decision::Copy);
    }

    #[test]
    fn a_chat_that_was_started_again_is_refused() {
        let state = |seq, created_at| item(&[("seq", seq), ("createdAt", created_at)]);
        let old = state("5", "1000");
        assert_eq!(compare_states(&old, &state("7", "1000")), Coverage::UpTo(7));
        for target in [
            state("7", "2000"),
            state("x", "1000"),
            item(&[("seq", "7")]),
        ] {
            let coverage = compare_states(&old, &target);
            assert!(matches!(coverage, Coverage::Refused(_)), "{target:?}");
        }
        let coverage = compare_states(&item(&[("seq", "5")]), &state("7", "1000"));
        assert!(matches!(coverage, Coverage::Refused(_)), "{coverage:?}");
    }

    #[test]
    fn only_messages_and_the_start_of_a_chat_must_be_the_same_in_both_tables() {
        for (sk, attribute, expected) in [
            ("MSG#0000000000000001", "senderId", false),
            ("MSG#0000000000000001", "createdAt", false),
            ("MSG#0000000000000001", "text", false),
            ("MSG#0000000000000001", "imageUrl", false),
            ("MSG#0000000000000001", "linkPreviewUrl", false),
            ("STATE", "createdAt", false),
            ("STATE", "updatedAt", true),
            ("KEY#17#a", "expiresAt", true),
        ] {
            let key = ItemKey::new("CHAT#17-42", sk);
            let (one, other) = (item(&[(attribute, "1")]), item(&[(attribute, "2")]));
            assert!(is_same(&key, &one, &one), "{sk}");
            assert_eq!(is_same(&key, &one, &other), expected, "{sk} {attribute}");
        }
    }

    #[test]
    fn a_message_with_the_number_of_another_one_is_refused() {
        let id: ChatId = "17-42".parse().unwrap();
        let coverage = BTreeMap::from([(id, Coverage::UpTo(3))]);
        let candidate = Candidate {
            difference: Difference::Other,
            ..missing(
                ItemKey::new("CHAT#17-42", "MSG#0000000000000002"),
                Item::new(),
            )
        };
        let decision = decide(&candidate, &coverage, false);
        assert!(matches!(decision, Decision::Refused(_)), "{decision:?}");
    }

    #[test]
    fn an_idempotency_key_expires_at_its_time() {
        let now = Timestamp::from_millis(10_999);
        let key = ItemKey::new("CHAT#17-42", "KEY#42#a");
        for (expires_at, expected) in [("9", true), ("10", true), ("11", false), ("x", false)] {
            let item = item(&[("expiresAt", expires_at)]);
            assert_eq!(is_expired(&key, &item, now), expected, "{expires_at}");
        }
        assert!(!is_expired(&key, &Item::new(), now));
        let message = ItemKey::new("CHAT#17-42", "MSG#0000000000000001");
        assert!(!is_expired(&message, &item(&[("expiresAt", "9")]), now));
    }
}
