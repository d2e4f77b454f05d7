//! Copies the items that a live table lacks from a restored table.
//!
//! **What is missing.** An item is missing if the target has no item with its key. Items that exist in
//! the target stay as they are, whatever the source contains: the target is newer. Each write is
//! conditional on this, so a run can be interrupted, repeated, and used while the target serves
//! traffic.
//!
//! **What is left out.** Items that have expired: idempotency keys, changes, and previous contents of messages.
//! Connections, because they belong to sockets that no longer exist; they count as expired. Also everything that
//! contradicts the target. It is named, and an operator decides:
//!
//! - *A chat that the users have started again*, because its state was lost. `createdAt` of the two
//!   states differs, and no request changes it once there is a chat. The numbers of the new messages hide
//!   old ones, so nothing of the old chat is copied.
//! - *A message or a change that the target's chat does not count.* A new one would be written to the same
//!   key, and replace the copy.
//! - *A message that the target's chat has edited or deleted since*, as its changes say. The copy would bring
//!   back what a user has deleted.
//! - *A message whose number another message of the target has*, or whose version in the target is older.
//! - *An idempotency key that would refer to another message than before.* A repeated request would
//!   get that message as its response.
//! - *The state of a chat whose blocks the target does not know yet.* The state exists in the target, so it
//!   stays as it is, and a user who has blocked the other may have to do it again. The other items of the chat
//!   are copied.
//!
//! Reports stand on their own. They may exist without a chat, and all that are missing are copied.
//!
//! **Order.** The state of a chat is copied before its messages. So no time exists at which users can
//! start a new chat in place of one that is partly copied.
//!
//! **Counters.** Missing counters are copied, existing ones stay. Neither is correct afterwards if
//! messages came back; a check with repairs corrects them.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
};

use chat_shared::{
    Error,
    domain::{ChatId, ChatStatus, MAX_SAFE_INTEGER, Rev, Seq, Timestamp},
    store::items::{
        ChangeItem, ChatItem, Item, ItemKey, ItemKind, MessageItem, Partition, PreviousContentItem,
    },
};
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::{
    table::{DynamoTable, KeyRange, Projection, has_lifetime, is_valid_seq_or_rev, item_key},
    text::OneLine,
};

/// Number of requests to the target at the same time.
const CONCURRENCY: usize = 16;
/// Number of items that one request looks up.
const LOOKUP_SIZE: usize = 100;
/// The attributes of a message that no request changes.
const FIXED_ATTRIBUTES: [&str; 2] = ["senderId", "createdAt"];
/// The attributes of a message that an edit or a deletion changes. Then it also raises `rev`.
const CHANGED_ATTRIBUTES: [&str; 5] = [
    "text",
    "imageUrl",
    "linkPreviewUrl",
    "editedAt",
    "deletedAt",
];
const REV: &str = "rev";
/// The attribute of a chat's state that counts the changes of its blocks.
const BLOCK_VERSION: &str = "v";

/// Options of a copy.
#[derive(Clone, Copy, Debug)]
pub struct CopyOptions {
    /// Whether only to count what would be copied.
    pub dry_run: bool,
    /// The current time. Items that have expired are not copied.
    pub now: Timestamp,
}

/// Result of a copy, or its progress so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CopySummary {
    /// Items that were read from the source.
    pub items: u64,
    /// Items that were copied; in a dry run, items that would be copied.
    pub copied: u64,
    /// Items that have expired, and connections.
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

/// Which messages and changes of a chat may be copied to the target.
#[derive(Debug, PartialEq, Eq)]
enum Coverage {
    /// Those that the state of the chat counts.
    UpTo {
        last: Counts,
        /// The messages that the target's chat has changed since, with the numbers of their last changes.
        changed: BTreeMap<u64, u64>,
    },
    /// None, for this reason.
    Refused(String),
}

/// The number of messages and of changes that the state of a chat counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counts {
    seq: u64,
    rev: u64,
}

/// The greatest number of an item of one kind in a chat.
enum Newest {
    None,
    Number(u64),
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
    /// The target has an older version of the message.
    Older,
    /// The target has the state of the same chat, from a time before the last block or unblocking.
    NewerBlocks,
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
        let last_chat = items
            .last()
            .and_then(|item| chat_of_partition(&item_key(item)));
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
        let checked = self.check_idempotency_keys(idempotency_keys, &coverage);
        for (key, item, refusal) in checked.await? {
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
                Some(existing) => difference(&key, &item, existing)?,
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
    /// the same in both tables, or missing in the target: then it is copied too, unless it was changed since.
    async fn check_idempotency_keys(
        &self,
        keys: Vec<(ItemKey, Item)>,
        coverage: &BTreeMap<ChatId, Coverage>,
    ) -> Result<Vec<(ItemKey, Item, Option<String>)>, Error> {
        let message_key = |key: &ItemKey, item: &Item| message_key(key, read_count(item, "seq")?);
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
                    (Some(old), Some(new))
                        if message_difference(old, new) == Some(Difference::Other) =>
                    {
                        Some("the target has another message with the number of its message")
                    }
                    (Some(_), None) if is_changed_since(coverage, &message) => {
                        Some("its message was edited or deleted since")
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
        let candidates = candidates.iter();
        let mut chats: Vec<_> = candidates
            .filter(|candidate| candidate.difference != Difference::NewerBlocks)
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
        return Ok((cover_existing(target, id, &state, &existing).await?, false));
    }
    let Some(last) = read_counts(&state) else {
        return refused("seq or rev of the chat to copy cannot be read");
    };
    let (message, change) = (ItemKind::Message, ItemKind::Change);
    for (kind, name, attribute, counted) in [
        (message, "message", "seq", last.seq),
        (change, "change", REV, last.rev),
    ] {
        match newest(target, &key, kind).await? {
            Newest::None => {}
            Newest::Number(newest) if newest <= counted => {}
            Newest::Number(newest) => {
                let reason = format!(
                    "the target has {name} {newest}, but {attribute} of the chat to copy is \
                     {counted}; restore a later time"
                );
                return Ok((Coverage::Refused(reason), false));
            }
            Newest::Damaged => {
                let reason = format!("the target has a {name} whose number cannot be read");
                return Ok((Coverage::Refused(reason), false));
            }
        }
    }
    let covered = Coverage::UpTo {
        last,
        changed: BTreeMap::new(),
    };
    if options.dry_run {
        return Ok((covered, false));
    }
    if target.insert(&state).await? {
        return Ok((covered, true));
    }
    // Users have started the chat again in the meantime.
    match target.get(&key).await? {
        Some(existing) => Ok((cover_existing(target, id, &state, &existing).await?, false)),
        None => refused("the state of the chat in the target was deleted during the copy"),
    }
}

/// Determines which messages may be copied if both tables have the state of a chat.
async fn cover_existing(
    target: &DynamoTable,
    id: ChatId,
    state: &Item,
    existing: &Item,
) -> Result<Coverage, Error> {
    Ok(match compare_states(state, existing) {
        Err(reason) => Coverage::Refused(reason),
        Ok((copied, last)) => Coverage::UpTo {
            last,
            changed: changes_between(target, id, copied.rev, last.rev).await?,
        },
    })
}

/// Returns what the state of a chat counts in both tables; an error if they are different chats, or one of
/// the states is damaged.
fn compare_states(state: &Item, existing: &Item) -> Result<(Counts, Counts), String> {
    let created_at = read_created_at(state);
    let created_at = created_at.ok_or("createdAt of the chat to copy cannot be read")?;
    let started_again_at = read_created_at(existing);
    let started_again_at =
        started_again_at.ok_or("createdAt of the chat in the target cannot be read")?;
    if started_again_at != created_at {
        let reason = if is_without_chat(existing) {
            "the target has only a block between these users"
        } else {
            "the users have started this chat again"
        };
        return Err(format!(
            "createdAt is {created_at}, but {started_again_at} in the target: {reason}"
        ));
    }
    let copied = read_counts(state).ok_or("seq or rev of the chat to copy cannot be read")?;
    let last = read_counts(existing);
    let last = last.ok_or("seq or rev of the chat in the target cannot be read")?;
    Ok((copied, last))
}

/// The messages that a chat has changed after a change, with the numbers of their last changes.
async fn changes_between(
    table: &DynamoTable,
    id: ChatId,
    after: u64,
    last: u64,
) -> Result<BTreeMap<u64, u64>, Error> {
    if after >= last {
        return Ok(BTreeMap::new());
    }
    let [first, last] =
        [after.saturating_add(1), last].map(|rev| ChangeItem::key(id, Rev::new(rev)));
    let changes = table.query_all(&KeyRange::between(first, last)).await?;
    let changes = changes.into_iter().filter_map(|item| {
        let rev = ChangeItem::rev(&item_key(&item).sk)?;
        Some((read_count(&item, "seq")?, rev.get()))
    });
    Ok(changes.collect())
}

/// The greatest number of a message or a change in a table, in the chat whose state has this key.
async fn newest(table: &DynamoTable, state_key: &ItemKey, kind: ItemKind) -> Result<Newest, Error> {
    let range = if kind == ItemKind::Change {
        KeyRange::starting_with(&state_key.pk, ChangeItem::SK_PREFIX)
    } else {
        // Messages sort directly before the state.
        KeyRange::before(state_key)
    };
    let range = KeyRange {
        projection: Some("pk, sk"),
        last: Some(1),
        ..range
    };
    let page = table.query_page(&range, None).await?;
    let key = page.items.first().map(item_key);
    let key = key.filter(|key| ItemKind::of(key) == Some(kind));
    Ok(key.map_or(Newest::None, |key| {
        let number = match kind {
            ItemKind::Change => ChangeItem::rev(&key.sk).map(Rev::get),
            _ => MessageItem::seq(&key.sk).map(Seq::get),
        };
        number.map_or(Newest::Damaged, Newest::Number)
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

/// How an item that exists in both tables differs; `None` if it needs no attention. Only messages, and
/// `createdAt` and the blocks of chats can contradict each other.
fn difference(key: &ItemKey, item: &Item, existing: &Item) -> Option<Difference> {
    match (chat_of(key), ItemKind::of(key)) {
        (Some(_), Some(ItemKind::Message)) => message_difference(item, existing),
        (Some(_), Some(ItemKind::Chat)) => state_difference(item, existing),
        _ => None,
    }
}

/// How the state of a chat differs from that of the target. Newer blocks in the target are no difference.
fn state_difference(state: &Item, existing: &Item) -> Option<Difference> {
    // The first request after a block sets `createdAt`.
    if !is_without_chat(state) && state.get("createdAt") != existing.get("createdAt") {
        return Some(Difference::Other);
    }
    // Each block and each unblocking raises this number.
    let version = |state| read_count_or_zero(state, BLOCK_VERSION);
    (version(state) > version(existing)).then_some(Difference::NewerBlocks)
}

/// How a message differs from that of the target. A newer version in the target is no difference.
fn message_difference(message: &Item, existing: &Item) -> Option<Difference> {
    let has_other = |names: &[&str]| {
        let mut names = names.iter();
        names.any(|name| message.get(*name) != existing.get(*name))
    };
    if has_other(&FIXED_ATTRIBUTES) {
        return Some(Difference::Other);
    }
    let rev = read_count_or_zero(message, REV);
    match rev.cmp(&read_count_or_zero(existing, REV)) {
        Ordering::Less => None,
        Ordering::Equal => has_other(&CHANGED_ATTRIBUTES).then_some(Difference::Other),
        Ordering::Greater => Some(Difference::Older),
    }
}

/// Whether the state of a chat says that the users have no chat, but have, or had, a block.
fn is_without_chat(state: &Item) -> bool {
    let status = state.get("status").and_then(|status| status.as_s().ok());
    status.and_then(|name| ChatItem::parse_status(name)) == Some(ChatStatus::NotRequested)
}

/// The key of the message that an idempotency key of the same chat refers to.
fn message_key(key: &ItemKey, seq: u64) -> Option<ItemKey> {
    Some(MessageItem::key(chat_of(key)?, Seq::new(seq)))
}

/// The chat of an item that must match the state of its chat. `None` for other items.
fn chat_of(key: &ItemKey) -> Option<ChatId> {
    match ItemKind::of(key)? {
        ItemKind::Report => None,
        _ => chat_of_partition(key),
    }
}

fn chat_of_partition(key: &ItemKey) -> Option<ChatId> {
    match Partition::parse(&key.pk)? {
        Partition::Chat(id) => Some(id),
        Partition::User(_) => None,
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
    if *difference == Difference::NewerBlocks {
        return Decision::refused("its blocks are newer than in the target");
    }
    let Some(Coverage::UpTo { last, changed }) = coverage.get(&id) else {
        return Decision::ChatRefused;
    };
    let kind = ItemKind::of(key);
    match difference {
        Difference::Missing | Difference::NewerBlocks => {}
        Difference::Other if kind == Some(ItemKind::Message) => {
            return Decision::refused("the target has another message with this number");
        }
        Difference::Other => {
            return Decision::refused("the target has another chat of these users");
        }
        Difference::Older => {
            return Decision::refused("the target has an older version of this message");
        }
    }
    let Some(numbers) = numbers_of(key, item) else {
        return Decision::refused("the number of its message or change cannot be read");
    };
    match numbers {
        Numbers {
            seq: None,
            rev: None,
        } if dry_run => Decision::Copy,
        Numbers {
            seq: None,
            rev: None,
        } => Decision::AlreadyCopied,
        Numbers { seq: Some(seq), .. } if seq > last.seq => Decision::Refused(format!(
            "it belongs to message {seq}, but seq of the chat in the target is {}",
            last.seq
        )),
        Numbers { rev: Some(rev), .. } if rev > last.rev => Decision::Refused(format!(
            "it belongs to change {rev}, but rev of the chat in the target is {}",
            last.rev
        )),
        Numbers { seq: Some(seq), .. } if kind == Some(ItemKind::Message) => {
            match changed.get(&seq) {
                None => Decision::Copy,
                Some(rev) => Decision::Refused(format!(
                    "the message was edited or deleted since, by change {rev} in the target; restore \
                     a later time"
                )),
            }
        }
        Numbers { .. } => Decision::Copy,
    }
}

/// Whether the target's chat has edited or deleted a message since.
fn is_changed_since(coverage: &BTreeMap<ChatId, Coverage>, message: &ItemKey) -> bool {
    let coverage = chat_of(message).and_then(|id| coverage.get(&id));
    let seq = MessageItem::seq(&message.sk);
    matches!(
        (coverage, seq),
        (Some(Coverage::UpTo { changed, .. }), Some(seq)) if changed.contains_key(&seq.get())
    )
}

/// The numbers of the message and of the change that an item of a chat belongs to.
struct Numbers {
    seq: Option<u64>,
    rev: Option<u64>,
}

/// Reads the numbers of an item of a chat; `None` if they are damaged. The state of a chat has none.
fn numbers_of(key: &ItemKey, item: &Item) -> Option<Numbers> {
    let number = |number| is_valid_seq_or_rev(number).then_some(number);
    let (seq, rev) = match ItemKind::of(key) {
        Some(ItemKind::Message) => (Some(number(MessageItem::seq(&key.sk)?.get())?), None),
        Some(ItemKind::IdempotencyKey) => (Some(number(read_count(item, "seq")?)?), None),
        Some(ItemKind::Change) => (None, Some(number(ChangeItem::rev(&key.sk)?.get())?)),
        Some(ItemKind::PreviousContent) => {
            let (seq, rev) = PreviousContentItem::seq_and_rev(&key.sk)?;
            (Some(number(seq.get())?), Some(number(rev.get())?))
        }
        _ => (None, None),
    };
    Some(Numbers { seq, rev })
}

impl Decision {
    fn refused(reason: &str) -> Self {
        Self::Refused(reason.to_owned())
    }
}

/// What the state of a chat counts.
fn read_counts(state: &Item) -> Option<Counts> {
    Some(Counts {
        seq: read_count(state, "seq")?,
        rev: if state.contains_key(REV) {
            read_count(state, REV)?
        } else {
            0
        },
    })
}

/// A number of messages or changes.
fn read_count(item: &Item, attribute: &str) -> Option<u64> {
    let count = item.get(attribute)?.as_n().ok()?.parse().ok()?;
    (count <= MAX_SAFE_INTEGER).then_some(count)
}

fn read_count_or_zero(item: &Item, attribute: &str) -> u64 {
    read_count(item, attribute).unwrap_or(0)
}

/// The attribute `createdAt` of a chat's state.
fn read_created_at(state: &Item) -> Option<Timestamp> {
    let millis = state.get("createdAt")?.as_n().ok()?.parse().ok()?;
    Some(Timestamp::from_millis(millis))
}

/// Whether an item has expired, and the table's TTL deletes it some time later. A connection has expired at any time:
/// the copy runs after a restore, and the table to copy from has no sockets.
fn is_expired(key: &ItemKey, item: &Item, now: Timestamp) -> bool {
    let kind = ItemKind::of(key);
    if kind == Some(ItemKind::Connection) {
        return true;
    }
    let expires_at = item.get("expiresAt").and_then(|time| time.as_n().ok());
    kind.is_some_and(has_lifetime)
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

    fn id() -> ChatId {
        "17-42".parse().unwrap()
    }

    /// Three messages and two changes, none of them since.
    fn up_to_3_and_2() -> Coverage {
        Coverage::UpTo {
            last: Counts { seq: 3, rev: 2 },
            changed: BTreeMap::new(),
        }
    }

    fn decision(pk: &str, sk: &str, seq: &str, coverage: Coverage) -> Decision {
        let key = ItemKey::new(pk, sk);
        let coverage = BTreeMap::from([(id(), coverage)]);
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
    fn only_items_of_messages_and_changes_that_the_chat_in_the_target_counts_are_copied() {
        let chat = "CHAT#17-42";
        for (sk, seq) in [
            ("MSG#0000000000000002", ""),
            ("MSG#0000000000000003", ""),
            ("KEY#42#a", "3"),
            ("CHG#0000000000000002", ""),
            ("HIST#0000000000000003#0000000000000002", ""),
            ("DRAFT#17", ""), // a newer version
        ] {
            let decision = decision(chat, sk, seq, up_to_3_and_2());
            assert_eq!(decision, Decision::Copy, "{sk}");
        }
        for (sk, seq) in [
            ("MSG#0000000000000004", ""),
            ("MSG#0000000000000000", ""),
            ("MSG#2", ""),
            ("KEY#42#a", "4"),
            ("KEY#42#a", "1.5"),
            ("CHG#0000000000000003", ""),
            ("CHG#0000000000000000", ""),
            ("CHG#2", ""),
            ("HIST#0000000000000004#0000000000000002", ""),
            ("HIST#0000000000000003#0000000000000003", ""),
            ("HIST#3#2", ""),
        ] {
            let decision = decision(chat, sk, seq, up_to_3_and_2());
            assert!(matches!(decision, Decision::Refused(_)), "{sk}");
        }
        let refused = || Coverage::Refused("damaged".to_owned());
        let message = decision(chat, "MSG#0000000000000002", "", refused());
        assert_eq!(message, Decision::ChatRefused);
        for (pk, sk) in [
            ("USER#42", "TOTALS#3"),
            ("USER#42", "SENT"),
            ("OTHER", "X"),
            // A report does not depend on the chat.
            (chat, "FLAG#17#0000000000000009"),
        ] {
            let decision = decision(pk, sk, "", refused());
            assert_eq!(decision, Decision::Copy, "{sk}");
        }
    }

    #[test]
    fn a_message_that_was_changed_since_is_not_copied() {
        let coverage = || Coverage::UpTo {
            last: Counts { seq: 3, rev: 2 },
            changed: BTreeMap::from([(2, 2)]),
        };
        let decide = |sk, seq| decision("CHAT#17-42", sk, seq, coverage());
        let Decision::Refused(reason) = decide("MSG#0000000000000002", "") else {
            panic!("the message is copied");
        };
        assert!(reason.contains("by change 2"), "{reason}");
        assert_eq!(decide("MSG#0000000000000001", ""), Decision::Copy);
        assert_eq!(decide("CHG#0000000000000002", ""), Decision::Copy);

        let coverage = BTreeMap::from([(id(), coverage())]);
        for (seq, expected) in [(1, false), (2, true)] {
            let message = MessageItem::key(id(), Seq::new(seq));
            assert_eq!(is_changed_since(&coverage, &message), expected, "{seq}");
        }
    }

    #[test]
    fn the_state_of_a_chat_is_copied_first_and_counted_once() {
        let key = ItemKey::new("CHAT#17-42", "STATE");
        let coverage = BTreeMap::from([(id(), up_to_3_and_2())]);
        let state = missing(key, item(&[("seq", "3")]));
        let decide = |dry_run| decide(&state, &coverage, dry_run);
        assert_eq!(decide(false), Decision::AlreadyCopied);
        assert_eq!(decide(true), Decision::Copy);
    }

    #[test]
    fn a_chat_that_was_started_again_is_refused() {
        let state = |seq, created_at| item(&[("seq", seq), ("createdAt", created_at)]);
        let counts = |seq, rev| Counts { seq, rev };
        let old = state("5", "1000");
        let same = compare_states(&old, &state("7", "1000"));
        assert_eq!(same, Ok((counts(5, 0), counts(7, 0))));
        let changed = item(&[("seq", "7"), ("rev", "2"), ("createdAt", "1000")]);
        let same = compare_states(&old, &changed);
        assert_eq!(same, Ok((counts(5, 0), counts(7, 2))));
        let other = compare_states(&old, &state("7", "2000")).unwrap_err();
        assert!(other.ends_with("have started this chat again"), "{other}");
        let mut block = state("0", "2000");
        block.insert("status".to_owned(), AttributeValue::S("none".to_owned()));
        let other = compare_states(&old, &block).unwrap_err();
        assert!(
            other.ends_with("only a block between these users"),
            "{other}"
        );
        for target in [
            state("x", "1000"),
            item(&[("seq", "7")]),
            item(&[("seq", "7"), ("rev", "x"), ("createdAt", "1000")]),
        ] {
            assert!(compare_states(&old, &target).is_err(), "{target:?}");
        }
        let damaged = item(&[("seq", "5")]);
        assert!(compare_states(&damaged, &state("7", "1000")).is_err());
    }

    #[test]
    fn only_messages_and_the_start_and_the_blocks_of_a_chat_must_be_the_same_in_both_tables() {
        let message = "MSG#0000000000000001";
        for (sk, attribute, expected) in [
            (message, "senderId", Some(Difference::Other)),
            (message, "createdAt", Some(Difference::Other)),
            (message, "text", Some(Difference::Other)),
            (message, "imageUrl", Some(Difference::Other)),
            (message, "linkPreviewUrl", Some(Difference::Other)),
            (message, "deletedAt", Some(Difference::Other)),
            ("STATE", "createdAt", Some(Difference::Other)),
            ("STATE", "updatedAt", None),
            ("KEY#17#a", "expiresAt", None),
            ("CHG#0000000000000001", "at", None),
            ("FLAG#17#0000000000000001", "createdAt", None),
        ] {
            let key = ItemKey::new("CHAT#17-42", sk);
            let (one, other) = (item(&[(attribute, "1")]), item(&[(attribute, "2")]));
            assert_eq!(difference(&key, &one, &one), None, "{sk}");
            let found = difference(&key, &one, &other);
            assert_eq!(found, expected, "{sk} {attribute}");
        }
        // A block does not yet say when the chat will be created.
        let key = ItemKey::new("CHAT#17-42", "STATE");
        let mut block = item(&[("createdAt", "1")]);
        block.insert("status".to_owned(), AttributeValue::S("none".to_owned()));
        assert_eq!(difference(&key, &block, &item(&[("createdAt", "2")])), None);
    }

    #[test]
    fn blocks_that_the_target_does_not_know_are_named_and_only_the_state_is_refused() {
        let key = ItemKey::new("CHAT#17-42", "STATE");
        let state = |version: &str| item(&[("createdAt", "1"), ("v", version)]);
        let without_blocks = item(&[("createdAt", "1")]);
        for (source, target) in [
            (&state("1"), &without_blocks),
            (&state("10"), &state("9")),
            (&state("1"), &state("x")),
        ] {
            let found = difference(&key, source, target);
            assert_eq!(found, Some(Difference::NewerBlocks));
        }
        // A block that users have made or removed since.
        assert_eq!(difference(&key, &state("9"), &state("10")), None);
        assert_eq!(difference(&key, &without_blocks, &state("1")), None);
        // Another chat is refused as a whole.
        let other = item(&[("createdAt", "2"), ("v", "1")]);
        let found = difference(&key, &other, &without_blocks);
        assert_eq!(found, Some(Difference::Other));
        // A block without a chat, although the target has a chat that began later.
        let mut block = other;
        let none = AttributeValue::S("none".to_owned());
        block.insert("status".to_owned(), none);
        let found = difference(&key, &block, &without_blocks);
        assert_eq!(found, Some(Difference::NewerBlocks));

        let candidate = Candidate {
            difference: Difference::NewerBlocks,
            ..missing(key, state("1"))
        };
        let refused = Decision::refused("its blocks are newer than in the target");
        for coverage in [BTreeMap::new(), BTreeMap::from([(id(), up_to_3_and_2())])] {
            for dry_run in [true, false] {
                assert_eq!(decide(&candidate, &coverage, dry_run), refused);
            }
        }
    }

    #[test]
    fn a_message_that_was_edited_or_deleted_is_the_same_message() {
        let sent = item(&[("senderId", "17"), ("createdAt", "1"), ("text", "1")]);
        let mut edited = item(&[("senderId", "17"), ("createdAt", "1"), ("text", "2")]);
        edited.extend(item(&[("editedAt", "2"), ("rev", "1")]));
        assert_eq!(message_difference(&sent, &edited), None);
        let older = message_difference(&edited, &sent);
        assert_eq!(older, Some(Difference::Older));
        let mut other = edited.clone();
        other.extend(item(&[("senderId", "42"), ("rev", "2")]));
        let other = message_difference(&edited, &other);
        assert_eq!(other, Some(Difference::Other));
    }

    #[test]
    fn a_message_with_the_number_of_another_one_is_refused() {
        let coverage = BTreeMap::from([(id(), up_to_3_and_2())]);
        for difference in [Difference::Other, Difference::Older] {
            let key = ItemKey::new("CHAT#17-42", "MSG#0000000000000002");
            let candidate = Candidate {
                difference,
                ..missing(key, Item::new())
            };
            let decision = decide(&candidate, &coverage, false);
            assert!(matches!(decision, Decision::Refused(_)), "{decision:?}");
        }
    }

    #[test]
    fn an_item_with_a_lifetime_expires_at_its_time() {
        let now = Timestamp::from_millis(10_999);
        for sk in [
            "KEY#42#a",
            "CHG#0000000000000001",
            "HIST#0000000000000001#0000000000000001",
        ] {
            let key = ItemKey::new("CHAT#17-42", sk);
            for (expires_at, expected) in [("9", true), ("10", true), ("11", false), ("x", false)] {
                let item = item(&[("expiresAt", expires_at)]);
                assert_eq!(is_expired(&key, &item, now), expected, "{sk} {expires_at}");
            }
            assert!(!is_expired(&key, &Item::new(), now));
        }
        let message = ItemKey::new("CHAT#17-42", "MSG#0000000000000001");
        assert!(!is_expired(&message, &item(&[("expiresAt", "9")]), now));
    }

    #[test]
    fn a_connection_is_never_copied() {
        let now = Timestamp::from_millis(10_999);
        let connection = ItemKey::new("USER#42", "CONN#L0SM9cOFIAMCHQ=");
        for expires_at in ["9", "11", "x"] {
            let item = item(&[("expiresAt", expires_at)]);
            assert!(is_expired(&connection, &item, now), "{expires_at}");
        }
        let totals = ItemKey::new("USER#42", "TOTALS#3");
        assert!(!is_expired(&totals, &Item::new(), now));
    }
}
