//! Evaluates one chat: compares its messages and idempotency keys with its state item. No I/O.
//!
//! Content of messages is checked only against rules that every version of the service had. The rules
//! for new messages may become stricter, but old messages stay valid.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::types::AttributeValue;
use chat_shared::{
    domain::{
        Chat, ChatId, ChatStatus, MAX_SAFE_INTEGER, MAX_TEXT_CODE_POINTS, MAX_URL_BYTES, Message,
        PREVIEW_CODE_POINTS, Seq, Timestamp, UserId,
    },
    store::{
        ActivityKey, IdempotencyKey,
        items::{ChatItem, IdempotencyItem, Index, Item, ItemKey, ItemKind, MessageItem},
    },
};

use super::{
    attributes::{Attributes, EXPIRES_AT, INDEX_KEYS, StoredCount},
    violation::{Finding, Value, Violation},
};
use crate::{table::item_key, text::shorten};

const LAST_MESSAGE: &str = "lastMessage";
/// The length of the hash in an idempotency key: SHA-256.
const HASH_BYTES: usize = 32;
/// The maximum number of idempotency keys of a chat whose messages are looked up. It limits the memory
/// for a chat; more keys are checked only on their own.
const MAX_REFERENCES: usize = 100_000;
/// The content of a message.
const PARTS: [&str; 3] = ["text", "imageUrl", "linkPreviewUrl"];
const NEWER_MESSAGE: &str = "the message has no content that this version knows; \
                             the unread counts of its chat were not checked";

/// The state item of a chat. What is missing or damaged is `None`.
pub(super) struct ChatState {
    /// `None` also if the other member contradicts it.
    pub requester: Option<UserId>,
    /// `None` also if `seq` contradicts it.
    pub status: Option<ChatStatus>,
    pub seq: Option<u64>,
    /// Whether another attribute contradicts `seq`. Then nothing is computed from `seq`.
    is_seq_doubtful: bool,
    created_at: Option<u64>,
    pub updated_at: Option<u64>,
    /// The member with the smaller id, then the other member.
    pub members: [MemberCounts; 2],
    last_message: Option<Preview>,
}

/// What a chat's state contains about one member.
pub(super) struct MemberCounts {
    pub unread: StoredCount,
    pub read_seq: Option<u64>,
}

/// The preview of the last message in a chat's state.
struct Preview {
    seq: Option<u64>,
    sender: Option<UserId>,
    text: Option<String>,
    created_at: Option<u64>,
    /// Whether all attributes are valid.
    is_valid: bool,
}

impl ChatState {
    /// The state of a chat that has no state item.
    pub(super) fn missing() -> Self {
        let member = || MemberCounts {
            unread: StoredCount::Missing,
            read_seq: None,
        };
        Self {
            requester: None,
            status: None,
            seq: None,
            is_seq_doubtful: false,
            created_at: None,
            updated_at: None,
            members: [member(), member()],
            last_message: None,
        }
    }

    /// Reads a state item, and checks what can be checked without other items. It does not check the
    /// unread counts, because they can be repaired when the messages are known.
    pub(super) fn read(id: ChatId, item: &Item, now: Timestamp) -> (Self, Vec<Violation>) {
        let key = ChatItem::key(id);
        let mut attributes = Attributes::new(&key, item);
        attributes.check_kind(ItemKind::Chat);
        let seq = attributes.number("seq", 0..=MAX_SAFE_INTEGER);
        let status = read_status(&mut attributes, seq);
        let mut requester = attributes.member("requesterId", id);
        let recipient = attributes.member("recipientId", id);
        if let Some(recipient) = recipient
            && requester == Some(recipient)
        {
            attributes.report("recipientId", "is the same as requesterId");
            requester = None;
        }
        let created_at = attributes.time("createdAt", now);
        let updated_at = attributes.time("updatedAt", now);
        let members = [id.low(), id.high()].map(|member| {
            let (unread, read_seq) = ChatItem::member_attributes(id, member);
            MemberCounts {
                unread: StoredCount::read(item, unread),
                read_seq: read_watermark(&mut attributes, read_seq, seq),
            }
        });
        let last_message = read_preview(&mut attributes, &key, item, id, seq, now);
        let is_seq_doubtful = is_seq_doubtful(item, seq, &members, last_message.as_ref());
        let pair = requester.filter(|requester| recipient == Some(id.peer_of(*requester)));
        let times = (created_at, updated_at);
        let time_of_change = check_update_time(&mut attributes, times, seq, last_message.as_ref());
        check_index_keys(&mut attributes, item, id, pair.zip(status), time_of_change);

        let has_valid_counts = members.iter().all(|member| member.unread.valid().is_some());
        if attributes.is_valid() && has_valid_counts && ChatItem::read(item.clone()).is_err() {
            attributes.push(Violation::unreadable(key.clone()));
        }
        let state = Self {
            requester,
            status,
            seq,
            is_seq_doubtful,
            created_at,
            updated_at,
            members,
            last_message,
        };
        (state, attributes.into_violations())
    }

    /// The unread count of a member; `None` if it is damaged.
    pub(super) fn unread(&self, id: ChatId, member: UserId) -> Option<i64> {
        let [low, high] = &self.members;
        let counts = if member == id.low() { low } else { high };
        counts.unread.valid()
    }
}

fn read_status(attributes: &mut Attributes<'_>, seq: Option<u64>) -> Option<ChatStatus> {
    let name = attributes.text("status")?;
    let status = ChatItem::parse_status(name);
    match (status, seq) {
        (None, _) => attributes.report(
            "status",
            format_args!("is {}, not pending, active or declined", shorten(name)),
        ),
        (Some(ChatStatus::Active), _) | (Some(_), None | Some(0)) => return status,
        (Some(_), Some(seq)) => attributes.report(
            "status",
            format_args!("is {name}, but seq is {seq}: only an active chat has messages"),
        ),
    }
    None
}

/// Whether another attribute of a chat's state contradicts `seq`. One of the two is wrong, and nothing
/// says which one.
fn is_seq_doubtful(
    item: &Item,
    seq: Option<u64>,
    members: &[MemberCounts; 2],
    last_message: Option<&Preview>,
) -> bool {
    let Some(seq) = seq else { return true };
    let status = item.get("status").and_then(|status| status.as_s().ok());
    let status = status.and_then(|name| ChatItem::parse_status(name));
    let is_inactive = matches!(status, Some(ChatStatus::Pending | ChatStatus::Declined));
    let last = last_message.and_then(|preview| preview.seq);
    (seq > 0 && (is_inactive || !item.contains_key(LAST_MESSAGE)))
        || last.is_some_and(|last| last != seq)
        || members
            .iter()
            .any(|member| member.read_seq.is_some_and(|read_seq| read_seq > seq))
}

/// Checks the time of the last change of a chat. With messages, it is the time of the last message.
/// Returns the time unless something contradicts it, or the last message cannot confirm it.
fn check_update_time(
    attributes: &mut Attributes<'_>,
    (created_at, updated_at): (Option<u64>, Option<u64>),
    seq: Option<u64>,
    last_message: Option<&Preview>,
) -> Option<u64> {
    let updated_at = updated_at?;
    if let Some(created_at) = created_at
        && updated_at < created_at
    {
        let problem = format!("is {updated_at}, earlier than createdAt {created_at}");
        attributes.report("updatedAt", problem);
        return None;
    }
    match (seq?, last_message) {
        (0, None) => Some(updated_at),
        (seq, Some(preview)) if preview.seq == Some(seq) => {
            let time = preview.created_at?;
            if time != updated_at {
                let problem = format!("is {updated_at}, but lastMessage.createdAt is {time}");
                attributes.report("updatedAt", problem);
                return None;
            }
            Some(updated_at)
        }
        _ => None,
    }
}

fn read_watermark(
    attributes: &mut Attributes<'_>,
    attribute: &str,
    seq: Option<u64>,
) -> Option<u64> {
    let read_seq = attributes.number(attribute, 0..=MAX_SAFE_INTEGER);
    if let (Some(read_seq), Some(seq)) = (read_seq, seq)
        && read_seq > seq
    {
        attributes.report(
            attribute,
            format_args!("is {read_seq}, greater than seq {seq}"),
        );
    }
    read_seq
}

fn read_preview(
    attributes: &mut Attributes<'_>,
    key: &ItemKey,
    item: &Item,
    id: ChatId,
    seq: Option<u64>,
    now: Timestamp,
) -> Option<Preview> {
    let map = match (item.get(LAST_MESSAGE), seq) {
        (Some(AttributeValue::M(map)), _) => map,
        (Some(other), _) => {
            attributes.report_type(LAST_MESSAGE, other, "a map");
            return None;
        }
        (None, None | Some(0)) => return None,
        (None, Some(seq)) => {
            let problem = format!("is missing, but seq is {seq}");
            attributes.report(LAST_MESSAGE, problem);
            return None;
        }
    };
    let mut inner = Attributes::of_map(key, map, "lastMessage.");
    let preview = Preview {
        seq: inner.number("seq", 1..=MAX_SAFE_INTEGER),
        sender: inner.member("senderId", id),
        text: inner.optional_text("text").map(str::to_owned),
        created_at: inner.time("createdAt", now),
        is_valid: inner.is_valid(),
    };
    attributes.extend(inner.into_violations());
    if let (Some(last), Some(seq)) = (preview.seq, seq)
        && last != seq
    {
        let problem = format!("is not the last message: it is message {last}, but seq is {seq}");
        attributes.report(LAST_MESSAGE, problem);
    }
    Some(preview)
}

/// Compares the key attributes of the indexes with the values from which they are computed. The
/// requester is `None` if one of the two members is damaged, the status or the time if it is damaged or
/// something contradicts it.
fn check_index_keys(
    attributes: &mut Attributes<'_>,
    item: &Item,
    id: ChatId,
    requester_and_status: Option<(UserId, ChatStatus)>,
    updated_at: Option<u64>,
) {
    let basis_of_keys = |requester: UserId| {
        let status = item.get("status").and_then(|status| status.as_s().ok());
        vec![
            ("status", Value::Text(status.cloned().unwrap_or_default())),
            ("requesterId", Value::count(requester.get())),
        ]
    };
    let keys = requester_and_status.map(|(requester, status)| {
        [requester, id.peer_of(requester)].map(|member| {
            let key = Index::key(member, status);
            (key, basis_of_keys(requester))
        })
    });
    let (requester_key, recipient_key) = match keys {
        Some([requester_key, recipient_key]) => (Some(requester_key), Some(recipient_key)),
        None => (None, None),
    };
    let activity = updated_at.map(|updated_at| {
        let basis = vec![("updatedAt", Value::count(updated_at))];
        (activity_key(id, updated_at), basis)
    });
    for (attribute, expected) in [
        ("requesterKey", requester_key),
        ("recipientKey", recipient_key),
        ("activity", activity),
    ] {
        let actual = match item.get(attribute) {
            Some(AttributeValue::S(actual)) => Value::Text(actual.clone()),
            Some(other) => {
                attributes.report_type(attribute, other, "a string");
                continue;
            }
            None => Value::Missing,
        };
        match expected {
            Some((expected, based_on)) => {
                let expected = Value::Text(expected);
                if actual != expected {
                    let finding = Finding::Mismatch {
                        attribute,
                        actual,
                        expected,
                        based_on,
                    };
                    attributes.push(Violation::new(ChatItem::key(id), finding));
                }
            }
            None if actual == Value::Missing => attributes.report(attribute, "is missing"),
            None => {}
        }
    }
}

/// The sort key that a chat has in lists after a change at `updated_at`.
fn activity_key(id: ChatId, updated_at: u64) -> String {
    let chat = Chat::new_request(id, id.low(), Timestamp::from_millis(updated_at));
    ActivityKey::of(&chat).to_string()
}

/// A message item. What is missing or damaged is `None`.
struct MessageFacts {
    seq: Option<u64>,
    sender: Option<UserId>,
    created_at: Option<u64>,
    /// The whole message, if the functions can read it and know its content.
    message: Option<Message>,
    /// Whether a newer version of the service has written the message.
    is_of_newer_version: bool,
}

impl MessageFacts {
    /// Reads a message, and checks what can be checked without other items.
    fn read(id: ChatId, key: &ItemKey, item: Item, now: Timestamp) -> (Self, Vec<Violation>) {
        let mut attributes = Attributes::new(key, &item);
        attributes.check_kind(ItemKind::Message);
        let seq = MessageItem::seq(&key.sk).map(Seq::get);
        let problem = match seq {
            None => "the sort key is not MSG# and a number of 16 digits",
            Some(0) => "the number of a message is at least 1",
            Some(1..=MAX_SAFE_INTEGER) => "",
            Some(_) => "the number of a message is at most 9007199254740991",
        };
        if !problem.is_empty() {
            attributes.report_item("key", problem);
        }
        let sender = attributes.member("senderId", id);
        let created_at = attributes.time("createdAt", now);
        let is_of_newer_version = has_only_unknown_content(&item);
        if !is_of_newer_version {
            check_content(&mut attributes, &item);
        }
        let is_valid = attributes.is_valid();
        let mut violations = attributes.into_violations();
        let message = MessageItem::read(item, id).ok();
        if is_valid && message.is_none() {
            violations.push(Violation::unreadable(key.clone()));
        }
        let facts = Self {
            seq: seq.filter(|_| problem.is_empty()),
            sender,
            created_at,
            message: message.filter(|_| !is_of_newer_version),
            is_of_newer_version,
        };
        (facts, violations)
    }
}

/// Whether a message has no content of this version, but attributes that this version does not know.
/// A newer version may write messages with another content.
fn has_only_unknown_content(item: &Item) -> bool {
    let is_content = |name: &str| PARTS.contains(&name);
    let is_known = |name: &str| {
        ["pk", "sk", "type", "senderId", "createdAt", EXPIRES_AT].contains(&name)
            || INDEX_KEYS.contains(&name)
    };
    !item.keys().any(|name| is_content(name)) && !item.keys().all(|name| is_known(name))
}

fn check_content(attributes: &mut Attributes<'_>, item: &Item) {
    if !PARTS.iter().any(|part| item.contains_key(*part)) {
        attributes.report_item(
            "content",
            "has neither text nor imageUrl nor linkPreviewUrl",
        );
    }
    if let Some(text) = attributes.optional_text("text") {
        if text.chars().all(char::is_whitespace) {
            attributes.report("text", "is blank");
        } else if text.chars().count() > MAX_TEXT_CODE_POINTS {
            let problem = format!("has more than {MAX_TEXT_CODE_POINTS} code points");
            attributes.report("text", problem);
        }
    }
    for part in ["imageUrl", "linkPreviewUrl"] {
        let Some(url) = attributes.optional_text(part) else {
            continue;
        };
        let scheme = url.get(.."https://".len());
        if !scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://")) {
            attributes.report(part, "is not an https URL");
        } else if url.len() > MAX_URL_BYTES {
            let problem = format!("has more than {MAX_URL_BYTES} bytes");
            attributes.report(part, problem);
        }
    }
}

/// Reads an idempotency key, and checks what can be checked without other items. Returns the number of
/// its message and the sender.
fn read_idempotency_key(
    id: ChatId,
    key: &ItemKey,
    item: Item,
) -> (Option<(u64, UserId)>, Vec<Violation>) {
    let mut attributes = Attributes::new(key, &item);
    attributes.check_kind(ItemKind::IdempotencyKey);
    let sender = IdempotencyItem::sender_and_key(&key.sk)
        .filter(|(sender, key)| id.has_member(*sender) && is_idempotency_key(key))
        .map(|(sender, _)| sender);
    if sender.is_none() {
        let problem = "the sort key is not KEY#, the id of a member, # and an idempotency key";
        attributes.report_item("key", problem);
    }
    let seq = attributes.number("seq", 1..=MAX_SAFE_INTEGER);
    attributes.check_binary("hash", HASH_BYTES);
    attributes.time_in_seconds(EXPIRES_AT);
    let is_valid = attributes.is_valid();
    let mut violations = attributes.into_violations();
    if is_valid && IdempotencyItem::read(item).is_err() {
        violations.push(Violation::unreadable(key.clone()));
    }
    (seq.zip(sender), violations)
}

/// Whether a text was a valid idempotency key in any version of the service.
fn is_idempotency_key(key: &str) -> bool {
    (1..=IdempotencyKey::MAX_LENGTH).contains(&key.len())
        && key.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Sums up the messages and idempotency keys of a chat, which it takes in key order, and compares
/// them with the chat's state.
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
    /// Unread messages of the member with the smaller id, then of the other member.
    unread: [i64; 2],
    /// Whether an item is missing, its sender is unknown, or items contradict each other. Then the
    /// unread counts are unknown.
    is_incomplete: bool,
    /// Whether a message of a newer version was found.
    has_newer_message: bool,
    /// Idempotency keys by the number of their message: sort key and sender. Contains only those
    /// whose message was not read yet.
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
            state,
            has_state,
            has_items: false,
            last_seq: 0,
            last_time: None,
            newest_unknown_seq: 0,
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
            // The scan of the table reports items of an unknown kind.
            _ => return,
        }
        self.has_items = true;
    }

    fn add_idempotency_key(&mut self, key: ItemKey, item: Item) {
        let (reference, violations) = read_idempotency_key(self.id, &key, item);
        self.violations.extend(violations);
        if let Some((seq, sender)) = reference
            && self.reference_count < MAX_REFERENCES
        {
            self.reference_count += 1;
            let references = self.references.entry(seq).or_default();
            references.push((key.sk, sender));
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
        let Some(seq) = message.seq else { return };
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
        self.count_unread(seq, message.sender);
        self.compare_with_references(seq, message.sender);
        if self.state.seq == Some(seq) {
            self.compare_with_preview(seq, &message);
        }
    }

    /// Checks that the messages have no gaps and that their times do not decrease.
    fn compare_with_previous(&mut self, key: &ItemKey, seq: u64, created_at: Option<u64>) {
        let expected = self.last_seq.saturating_add(1);
        if seq > expected {
            let gap = missing_messages(expected, seq.saturating_sub(1));
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

    fn count_unread(&mut self, seq: u64, sender: Option<UserId>) {
        let Some(sender) = sender else {
            self.is_incomplete = true;
            return;
        };
        let members = [self.id.low(), self.id.high()];
        let counts = self.state.members.iter().zip(members);
        for (unread, (counts, member)) in self.unread.iter_mut().zip(counts) {
            let is_unread = counts.read_seq.is_some_and(|read_seq| seq > read_seq);
            *unread = unread.saturating_add(i64::from(sender != member && is_unread));
        }
    }

    /// Checks that the idempotency keys of a message belong to its sender.
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
        if let Some(message) = &message.message
            && preview.is_valid
            && !is_preview_text(preview.text.as_deref(), message)
        {
            let problem = format!("is not the start of message {seq}");
            problems.push(("lastMessage.text", problem));
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
        if let Some(seq) = self.state.seq {
            let state_now = state_now.map(|item| ChatState::read(self.id, item, self.now).0);
            let seq_now = state_now.and_then(|state| state.seq).unwrap_or(seq);
            self.compare_messages(seq, seq_now);
        }
        self.compare_members();
        self.violations
    }

    fn compare_messages(&mut self, seq: u64, seq_now: u64) {
        let key = ChatItem::key(self.id);
        if self.last_seq < seq {
            let gap = missing_messages(self.last_seq.saturating_add(1), seq);
            self.unrepairable(&key, "last messages", gap);
        }
        let newest = self.newest_unknown_seq;
        if newest > seq_now {
            let description = format!("seq is {seq_now}, but message {newest} exists");
            self.unrepairable(&key, "seq", description);
            self.is_incomplete = true;
        }
        let references = std::mem::take(&mut self.references);
        for (seq, owners) in references.into_iter().filter(|(seq, _)| *seq > seq_now) {
            for (sk, _) in owners {
                let key = ItemKey::new(key.pk.clone(), sk);
                let description = format!("refers to message {seq}, but seq is {seq_now}");
                self.unrepairable(&key, "seq", description);
                self.is_incomplete = true;
            }
        }
    }

    fn compare_members(&mut self) {
        let (id, key) = (self.id, ChatItem::key(self.id));
        let is_complete = !self.is_incomplete
            && !self.state.is_seq_doubtful
            && self.state.seq == Some(self.last_seq);
        let mut violations = Vec::new();
        let counts = self.state.members.iter().zip(self.unread);
        for (member, (counts, expected)) in [id.low(), id.high()].into_iter().zip(counts) {
            let (attribute, read_attribute) = ChatItem::member_attributes(id, member);
            let seqs = self.state.seq.zip(counts.read_seq);
            match seqs.filter(|(seq, read_seq)| is_complete && read_seq <= seq) {
                Some((seq, read_seq)) => {
                    if counts.unread != StoredCount::Number(expected) {
                        let finding = Finding::Mismatch {
                            attribute,
                            actual: counts.unread.clone().into(),
                            expected: Value::Number(expected),
                            based_on: vec![
                                ("seq", Value::count(seq)),
                                (read_attribute, Value::count(read_seq)),
                            ],
                        };
                        violations.push(Violation::new(key.clone(), finding));
                    }
                }
                // The correct count is unknown, but this one is wrong in any case.
                None => {
                    if let Some(problem) = counts.unread.problem() {
                        let description = format!("{attribute} {problem}");
                        let violation =
                            Violation::unrepairable(key.clone(), attribute, description);
                        violations.push(violation);
                    }
                }
            }
        }
        self.violations.extend(violations);
    }

    fn unrepairable(&mut self, key: &ItemKey, subject: &str, description: impl Into<String>) {
        self.violations
            .push(Violation::unrepairable(key.clone(), subject, description));
    }
}

/// Whether a text is the preview of a message, as this version of the service cuts it or as earlier
/// versions did: after a fixed number of code points.
fn is_preview_text(preview: Option<&str>, message: &Message) -> bool {
    if preview == message.preview().text.as_deref() {
        return true;
    }
    let text = message.content.text();
    let start = text.map(|text| text.chars().take(PREVIEW_CODE_POINTS).collect::<String>());
    preview == start.as_deref()
}

fn missing_messages(first: u64, last: u64) -> String {
    if first >= last {
        format!("message {first} is missing")
    } else {
        format!("messages {first} to {last} are missing")
    }
}

#[cfg(test)]
mod tests {
    use super::missing_messages;

    #[test]
    fn a_gap_is_described_by_its_first_and_last_message() {
        assert_eq!(missing_messages(4, 4), "message 4 is missing");
        assert_eq!(missing_messages(4, 7), "messages 4 to 7 are missing");
    }
}
