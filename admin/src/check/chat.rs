//! Evaluates one chat: compares its messages, changes and idempotency keys with its state item. No I/O.
//!
//! The state is read before the other items, which may change in between. A message that is newer than the
//! state has a greater number, and a message that was changed since has a greater `rev`. So the evaluation
//! knows what the state did not include yet.

use std::collections::BTreeMap;

use chat_shared::{
    domain::{ChatId, Rev, Timestamp, UserId},
    store::items::{ChangeItem, ChatItem, Item, ItemKey, ItemKind},
};

use super::{
    attributes::StoredCount,
    changes::{ChangeTally, missing},
    message::{
        ChangeFacts, MessageFacts, PreviousContentFacts, is_preview_text, read_idempotency_key,
    },
    report::check_report,
    state::{ChatState, MemberCounts, block_attribute},
    violation::{BasedOn, Finding, Value, Violation},
};
use crate::table::item_key;

/// The maximum number of idempotency keys and previous contents of a chat whose messages are looked up. It
/// limits the memory for a chat; more of them are checked only on their own.
const MAX_REFERENCES: usize = 100_000;
const NEWER_MESSAGE: &str = "the message has no content that this version knows; \
                             the unread counts of its chat were not checked";

/// Sums up the items of a chat, which it takes in key order (changes, reports, previous contents,
/// idempotency keys, messages), and compares them with the chat's state.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a separate fact about the chat"
)]
pub(super) struct ChatTally {
    id: ChatId,
    /// When the evaluation started.
    now: Timestamp,
    /// The state that was read before the messages.
    state: ChatState,
    has_state: bool,
    /// Whether the partition contains an item that makes a state necessary.
    has_items: bool,
    /// The number of the last message that the state includes.
    last_seq: u64,
    /// Number and time of the last message whose time is known.
    last_time: Option<(u64, u64)>,
    /// The number of the newest message that the state does not include; 0 when there is none.
    newest_unknown_seq: u64,
    /// The greatest number of a change that an item names.
    newest_rev: u64,
    /// Unread messages of the member with the smaller id, then of the other member.
    unread: [i64; 2],
    /// Whether an item is missing, its sender is unknown, or items contradict each other. Then the
    /// unread counts are unknown.
    is_incomplete: bool,
    /// Whether a message of a newer version was found.
    has_newer_message: bool,
    changes: ChangeTally,
    /// Idempotency keys and previous contents by the number of their message: sort key and sender.
    /// Contains only those whose message was not read yet.
    references: BTreeMap<u64, Vec<(String, UserId)>>,
    reference_count: usize,
    violations: Vec<Violation>,
}

impl ChatTally {
    pub(super) fn new(id: ChatId, state: Option<&Item>, now: Timestamp) -> Self {
        let has_state = state.is_some();
        let (state, violations) = match state {
            Some(item) => ChatState::read(id, item, now),
            None => (ChatState::missing(), Vec::new()),
        };
        Self {
            id,
            now,
            changes: ChangeTally::new(state.created_at, now),
            state,
            has_state,
            has_items: false,
            last_seq: 0,
            last_time: None,
            newest_unknown_seq: 0,
            newest_rev: 0,
            unread: [0; 2],
            is_incomplete: false,
            has_newer_message: false,
            references: BTreeMap::new(),
            reference_count: 0,
            violations,
        }
    }

    /// Adds an item of the chat's partition that is not its state.
    pub(super) fn add(&mut self, item: Item) {
        let key = item_key(&item);
        match ItemKind::of(&key) {
            Some(ItemKind::Message) => self.add_message(&key, item),
            Some(ItemKind::IdempotencyKey) => self.add_idempotency_key(key, item),
            Some(ItemKind::Change) => self.add_change(&key, item),
            Some(ItemKind::PreviousContent) => self.add_previous_content(key, item),
            Some(ItemKind::Report) => {
                let violations = check_report(self.id, &key, item, self.now);
                self.violations.extend(violations);
                return;
            }
            // The scan of the table reports items of an unknown kind.
            _ => return,
        }
        self.has_items = true;
    }

    fn add_change(&mut self, key: &ItemKey, item: Item) {
        let (change, violations) = ChangeFacts::read(key, item, self.now);
        self.violations.extend(violations);
        let Some(rev) = change.rev else { return };
        self.newest_rev = self.newest_rev.max(rev);
        if let Some(gap) = self.changes.add(rev, &change) {
            self.unrepairable(key, "previous changes", gap);
        }
    }

    fn add_previous_content(&mut self, key: ItemKey, item: Item) {
        let (content, violations) = PreviousContentFacts::read(self.id, &key, item, self.now);
        self.violations.extend(violations);
        let Some((seq, rev)) = content.seq_and_rev else {
            return;
        };
        self.newest_rev = self.newest_rev.max(rev);
        if let Some(changed) = self.changes.message_of(rev)
            && changed != seq
        {
            let problem = format!("is of message {seq}, but change {rev} is of message {changed}");
            self.unrepairable(&key, "rev", problem);
        } else if let Some(sender) = content.sender {
            self.add_reference(key.sk, seq, sender);
        }
    }

    fn add_idempotency_key(&mut self, key: ItemKey, item: Item) {
        let (reference, violations) = read_idempotency_key(self.id, &key, item);
        self.violations.extend(violations);
        if let Some((seq, sender)) = reference {
            self.add_reference(key.sk, seq, sender);
        }
    }

    fn add_reference(&mut self, sk: String, seq: u64, sender: UserId) {
        if self.reference_count < MAX_REFERENCES {
            self.reference_count += 1;
            let references = self.references.entry(seq).or_default();
            references.push((sk, sender));
        }
    }

    fn add_message(&mut self, key: &ItemKey, item: Item) {
        let (message, violations) = MessageFacts::read(self.id, key, item, self.now);
        self.violations.extend(violations);
        if message.is_of_newer_version {
            self.is_incomplete = true;
            // One line for each chat is enough.
            if !self.has_newer_message {
                let note = Violation::inconclusive(key.clone(), NEWER_MESSAGE);
                self.violations.push(note);
            }
            self.has_newer_message = true;
        }
        self.newest_rev = self.newest_rev.max(message.rev.unwrap_or(0));
        let Some(seq) = message.seq else { return };
        self.compare_with_changes(key, seq, &message);
        if self.state.seq.is_some_and(|last| seq > last) {
            // Either the message arrived after the state was read, or it is one too many. The
            // state that is read after all messages decides this.
            self.newest_unknown_seq = self.newest_unknown_seq.max(seq);
            return;
        }
        self.compare_with_previous(key, seq, message.created_at);
        if seq == 1 {
            self.compare_with_creation(message.created_at);
        }
        self.count_unread(seq, &message);
        self.compare_with_references(seq, message.sender);
        if self.state.seq == Some(seq) {
            self.compare_with_preview(seq, &message);
        }
    }

    /// Checks that the changes of a message match its last change.
    fn compare_with_changes(&mut self, key: &ItemKey, seq: u64, message: &MessageFacts) {
        let Some(rev) = message.rev else { return };
        if let Some(problem) = self.changes.compare(seq, rev, message, self.state.rev) {
            self.unrepairable(key, "rev", problem);
            // A change may have been lost that deleted the message.
            self.is_incomplete = true;
        }
    }

    /// Checks that the messages have no gaps and that their times do not decrease.
    fn compare_with_previous(&mut self, key: &ItemKey, seq: u64, created_at: Option<u64>) {
        let expected = self.last_seq.saturating_add(1);
        if seq > expected {
            let gap = missing("message", expected, seq.saturating_sub(1));
            self.unrepairable(key, "previous messages", gap);
            self.is_incomplete = true;
        }
        self.last_seq = seq;
        let Some(created_at) = created_at else { return };
        if let Some((previous, time)) = self.last_time
            && created_at < time
        {
            let description = format!("createdAt is earlier than that of message {previous}");
            self.unrepairable(key, "createdAt", description);
        }
        self.last_time = Some((seq, created_at));
    }

    /// Checks that the chat is not younger than its first message.
    fn compare_with_creation(&mut self, first_message: Option<u64>) {
        if let (Some(created_at), Some(time)) = (self.state.created_at, first_message)
            && created_at > time
        {
            let description = format!("createdAt is {created_at}, later than {time} of message 1");
            self.unrepairable(&ChatItem::key(self.id), "createdAt", description);
        }
    }

    /// Counts a message as it was when the state was read.
    fn count_unread(&mut self, seq: u64, message: &MessageFacts) {
        let was_deleted = match message.is_deleted {
            Some(true) => self.is_change_included(message),
            known => known,
        };
        let (Some(sender), Some(was_deleted)) = (message.sender, was_deleted) else {
            self.is_incomplete = true;
            return;
        };
        let members = [self.id.low(), self.id.high()];
        let counts = self.state.members.iter().zip(members);
        for (unread, (counts, member)) in self.unread.iter_mut().zip(counts) {
            let is_after_watermark = counts.read_seq.is_some_and(|read_seq| seq > read_seq);
            let is_unread = sender != member && is_after_watermark && !was_deleted;
            *unread = unread.saturating_add(i64::from(is_unread));
        }
    }

    /// Whether the state includes the last change of a message; `None` if one of the two is damaged.
    fn is_change_included(&self, message: &MessageFacts) -> Option<bool> {
        let (rev, state_rev) = message.rev.zip(self.state.rev)?;
        Some(rev <= state_rev)
    }

    /// Checks that the idempotency keys and previous contents of a message belong to its sender.
    fn compare_with_references(&mut self, seq: u64, sender: Option<UserId>) {
        for (sk, owner) in self.references.remove(&seq).unwrap_or_default() {
            if sender.is_some_and(|sender| sender != owner) {
                let key = ItemKey::new(ChatItem::key(self.id).pk, sk);
                let description = format!("refers to message {seq}, which another member sent");
                self.unrepairable(&key, "seq", description);
                // The sender of the message may be the damage.
                self.is_incomplete = true;
            }
        }
    }

    /// Checks that the preview in the chat's state matches the last message.
    fn compare_with_preview(&mut self, seq: u64, message: &MessageFacts) {
        let Some(preview) = self.state.last_message.as_ref() else {
            return;
        };
        if preview.seq != Some(seq) {
            return;
        }
        let mut problems = Vec::new();
        if let (Some(actual), Some(sender)) = (preview.sender, message.sender)
            && actual != sender
        {
            let problem = format!("is {actual}, but message {seq} is from {sender}");
            problems.push(("lastMessage.senderId", problem));
            // The sender of the message may be the damage.
            self.is_incomplete = true;
        }
        if let (Some(actual), Some(created_at)) = (preview.created_at, message.created_at)
            && actual != created_at
        {
            let problem = format!("is {actual}, but that of message {seq} is {created_at}");
            problems.push(("lastMessage.createdAt", problem));
        }
        // The message may have been changed after the state was read.
        if self.is_change_included(message) == Some(true) {
            if let (Some(actual), Some(is_deleted)) = (preview.is_deleted, message.is_deleted)
                && actual != is_deleted
            {
                let state = if is_deleted { "deleted" } else { "not deleted" };
                let problem = format!("is {actual}, but message {seq} is {state}");
                problems.push(("lastMessage.deleted", problem));
            }
            if let Some(message) = &message.message
                && preview.is_valid
                && !is_preview_text(preview.text.as_deref(), message)
            {
                let problem = format!("is not the start of message {seq}");
                problems.push(("lastMessage.text", problem));
            }
            if let Some(message) = &message.message
                && preview.is_whole == Some(true)
                && !message.preview().is_whole
            {
                let problem = format!("is true, but message {seq} has more than the preview");
                problems.push(("lastMessage.whole", problem));
            }
        }
        let key = ChatItem::key(self.id);
        for (attribute, problem) in problems {
            self.unrepairable(&key, attribute, format!("{attribute} {problem}"));
        }
    }

    /// Compares the sums with the state. `state_now` is the state after all messages were read.
    pub(super) fn finish(mut self, state_now: Option<&Item>) -> Vec<Violation> {
        if !self.has_state {
            // Without a state, nothing says how many messages there should be.
            if self.has_items && state_now.is_none() {
                let key = ChatItem::key(self.id);
                self.unrepairable(&key, "item", "is missing");
            }
            return self.violations;
        }
        let state_now = state_now.map(|item| ChatState::read(self.id, item, self.now).0);
        let (seq_now, rev_now) = state_now.map_or((None, None), |state| (state.seq, state.rev));
        if let Some(rev) = self.state.rev {
            self.compare_changes(rev, rev_now.unwrap_or(rev));
        }
        if let Some(seq) = self.state.seq {
            self.compare_messages(seq, seq_now.unwrap_or(seq));
        }
        self.compare_members();
        self.violations
    }

    fn compare_changes(&mut self, rev: u64, rev_now: u64) {
        let key = ChatItem::key(self.id);
        if let Some(gap) = self.changes.missing_at_end(rev) {
            self.unrepairable(&key, "last changes", gap);
        }
        let newest = self.newest_rev;
        if newest > rev_now {
            let description = format!("rev is {rev_now}, but change {newest} exists");
            self.unrepairable(&key, "rev", description);
            self.is_incomplete = true;
        }
    }

    fn compare_messages(&mut self, seq: u64, seq_now: u64) {
        let key = ChatItem::key(self.id);
        if self.last_seq < seq {
            let gap = missing("message", self.last_seq.saturating_add(1), seq);
            self.unrepairable(&key, "last messages", gap);
        }
        let newest = self.newest_unknown_seq;
        if newest > seq_now {
            let description = format!("seq is {seq_now}, but message {newest} exists");
            self.unrepairable(&key, "seq", description);
            self.is_incomplete = true;
        }
        for (sk, seq) in self.take_references_after(seq_now) {
            let key = ItemKey::new(key.pk.clone(), sk);
            let description = format!("refers to message {seq}, but seq is {seq_now}");
            self.unrepairable(&key, "seq", description);
            self.is_incomplete = true;
        }
    }

    /// The sort keys of the items that refer to messages after `seq`, with the numbers of these messages.
    fn take_references_after(&mut self, seq: u64) -> Vec<(String, u64)> {
        let id = self.id;
        let changes = self.changes.take_messages_after(seq).into_iter();
        let changes = changes.map(|(seq, rev)| (ChangeItem::key(id, Rev::new(rev)).sk, seq));
        let references = self.references.split_off(&seq.saturating_add(1));
        let references = references.into_iter().flat_map(|(seq, references)| {
            let sort_keys = references.into_iter().map(|(sk, _)| sk);
            sort_keys.map(move |sk| (sk, seq))
        });
        changes.chain(references).collect()
    }

    fn compare_members(&mut self) {
        let id = self.id;
        let is_complete = !self.is_incomplete
            && !self.state.is_seq_doubtful
            && self.state.seq == Some(self.last_seq);
        let mut violations = Vec::new();
        let counts = self.state.members.iter().zip(self.unread);
        for (member, (counts, unread)) in [id.low(), id.high()].into_iter().zip(counts) {
            let stored = StoredMember { id, member, counts };
            let basis = stored.basis(&self.state).filter(|_| is_complete);
            let expected = counts.expected(unread);
            violations.extend(match basis.zip(expected) {
                Some((based_on, expected)) => stored.compare(expected, &based_on),
                // The correct counts are unknown, but these are wrong in any case.
                None => stored.problems(),
            });
        }
        self.violations.extend(violations);
    }

    fn unrepairable(&mut self, key: &ItemKey, subject: &str, description: impl Into<String>) {
        self.violations
            .push(Violation::unrepairable(key.clone(), subject, description));
    }
}

/// The counts of a member as they are stored.
struct StoredMember<'a> {
    id: ChatId,
    member: UserId,
    counts: &'a MemberCounts,
}

impl StoredMember<'_> {
    /// The attributes from which the counts are computed; `None` if one of them is damaged.
    fn basis(&self, state: &ChatState) -> Option<BasedOn> {
        let (seq, rev, read_seq) = (state.seq?, state.rev?, self.counts.read_seq?);
        let (_, read_attribute) = ChatItem::member_attributes(self.id, self.member);
        // The attribute is missing while there are no changes.
        let rev = Some(rev).filter(|rev| *rev > 0);
        (read_seq <= seq).then(|| {
            vec![
                ("seq", Value::count(seq)),
                ("rev", rev.map_or(Value::Missing, Value::count)),
                (read_attribute, Value::count(read_seq)),
                (
                    block_attribute(self.id, self.member),
                    self.counts.block.stored(),
                ),
            ]
        })
    }

    fn compare(
        &self,
        (unread, held): (i64, i64),
        based_on: &[(&'static str, Value)],
    ) -> Vec<Violation> {
        let (unread_attribute, _) = ChatItem::member_attributes(self.id, self.member);
        let held_attribute = ChatItem::held_attribute(self.id, self.member);
        let is_unread_right = self.counts.unread == StoredCount::Number(unread);
        let is_held_right = self.counts.held.valid_or_zero() == Some(held);
        // The attribute is missing while it is 0.
        let held = Some(held).filter(|held| *held > 0);
        let held = held.map_or(Value::Missing, Value::Number);
        [
            (
                unread_attribute,
                &self.counts.unread,
                Value::Number(unread),
                is_unread_right,
            ),
            (held_attribute, &self.counts.held, held, is_held_right),
        ]
        .into_iter()
        .filter(|(_, _, _, is_right)| !is_right)
        .map(|(attribute, actual, expected, _)| {
            let finding = Finding::Mismatch {
                attribute,
                actual: actual.clone().into(),
                expected,
                based_on: based_on.to_vec(),
            };
            Violation::new(ChatItem::key(self.id), finding)
        })
        .collect()
    }

    /// What is wrong with the counts, whatever the right ones are.
    fn problems(&self) -> Vec<Violation> {
        let (unread_attribute, _) = ChatItem::member_attributes(self.id, self.member);
        let held_attribute = ChatItem::held_attribute(self.id, self.member);
        let held = Some(&self.counts.held).filter(|held| **held != StoredCount::Missing);
        let counts = [
            (unread_attribute, Some(&self.counts.unread)),
            (held_attribute, held),
        ];
        let problems = counts
            .into_iter()
            .filter_map(|(attribute, count)| Some((attribute, count?.problem()?)));
        problems
            .map(|(attribute, problem)| {
                let description = format!("{attribute} {problem}");
                Violation::unrepairable(ChatItem::key(self.id), attribute, description)
            })
            .collect()
    }
}
