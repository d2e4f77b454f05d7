//! Reads the items that belong to messages: messages, their previous contents, changes and idempotency
//! keys. It checks what can be checked without other items. No I/O.
//!
//! Content of messages is checked only against rules that every version of the service had. The rules
//! for new messages may become stricter, but old messages stay valid.

use std::time::Duration;

use chat_shared::{
    domain::{
        ChatId, MAX_SAFE_INTEGER, MAX_TEXT_CODE_POINTS, MAX_URL_BYTES, Message,
        PREVIEW_CODE_POINTS, Rev, Seq, Timestamp, UserId,
    },
    store::{
        IdempotencyKey,
        items::{
            ChangeItem, IdempotencyItem, Item, ItemKey, ItemKind, MessageItem, PreviousContentItem,
        },
    },
};

use super::{
    attributes::{Attributes, EXPIRES_AT, INDEX_KEYS},
    violation::Violation,
};
use crate::table::is_valid_seq_or_rev;

/// The length of the hash in an idempotency key: SHA-256.
const HASH_BYTES: usize = 32;
/// The content of a message.
const PARTS: [&str; 3] = ["text", "imageUrl", "linkPreviewUrl"];
const EDITED_AT: &str = "editedAt";
const DELETED_AT: &str = "deletedAt";
const REV: &str = "rev";
const IDEMPOTENCY_KEY: &str = "idempotencyKey";

/// A message item. What is missing or damaged is `None`.
pub(super) struct MessageFacts {
    pub seq: Option<u64>,
    pub sender: Option<UserId>,
    pub created_at: Option<u64>,
    pub is_deleted: Option<bool>,
    /// The number of its last change, or 0. `None` also if the times of changes contradict it.
    pub rev: Option<u64>,
    /// When it was edited or deleted last.
    pub changed_at: Option<u64>,
    /// The whole message, if the functions can read it and know its content.
    pub message: Option<Message>,
    /// Whether a newer version of the service has written the message.
    pub is_of_newer_version: bool,
}

/// A change of a message. What is missing or damaged is `None`.
pub(super) struct ChangeFacts {
    pub rev: Option<u64>,
    /// The changed message.
    pub seq: Option<u64>,
    /// In seconds since 1970. `None` also if the time of the change contradicts it.
    pub expires_at: Option<u64>,
}

/// Previous content of a message. What is missing or damaged is `None`.
pub(super) struct PreviousContentFacts {
    pub seq_and_rev: Option<(u64, u64)>,
    pub sender: Option<UserId>,
}

impl MessageFacts {
    pub(super) fn read(
        id: ChatId,
        key: &ItemKey,
        item: Item,
        now: Timestamp,
    ) -> (Self, Vec<Violation>) {
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
        let (rev, changed_at) = read_last_change(&mut attributes, created_at, now);
        // The idempotency key may have expired, and an earlier version did not keep the key in the message.
        attributes.optional_text(IDEMPOTENCY_KEY);
        let is_deleted = item.contains_key(DELETED_AT);
        let is_of_newer_version = !is_deleted && has_only_unknown_content(&item);
        if is_deleted {
            check_no_content(&mut attributes);
        } else if !is_of_newer_version {
            check_content(&mut attributes);
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
            is_deleted: (!is_deleted || changed_at.is_some()).then_some(is_deleted),
            rev,
            changed_at,
            message: message.filter(|_| !is_of_newer_version),
            is_of_newer_version,
        };
        (facts, violations)
    }
}

/// Reads number and time of the last change of a message.
fn read_last_change(
    attributes: &mut Attributes<'_>,
    created_at: Option<u64>,
    now: Timestamp,
) -> (Option<u64>, Option<u64>) {
    let item = attributes.item();
    let times = [EDITED_AT, DELETED_AT].map(|attribute| {
        let time = attributes.optional_time(attribute, now)?;
        if let Some(created_at) = created_at
            && time < created_at
        {
            let problem = format!("is {time}, earlier than createdAt {created_at}");
            attributes.report(attribute, problem);
            return None;
        }
        Some(time)
    });
    let [edited_at, deleted_at] = times;
    // A deletion is the last change.
    let changed_at = if item.contains_key(DELETED_AT) {
        deleted_at
    } else {
        edited_at
    };
    let is_changed = item.contains_key(EDITED_AT) || item.contains_key(DELETED_AT);
    let rev = match attributes.number_or_zero(REV) {
        Some(0) if is_changed => {
            attributes.report(REV, "is missing or 0, but the message was changed");
            None
        }
        Some(rev) if rev > 0 && !is_changed => {
            let problem = format!("is {rev}, but neither editedAt nor deletedAt exists");
            attributes.report(REV, problem);
            None
        }
        rev => rev,
    };
    (rev, changed_at)
}

/// Whether a message, or its previous content, has no content of this version, but attributes that this version
/// does not know. A newer version may write messages with another content.
fn has_only_unknown_content(item: &Item) -> bool {
    let is_content = |name: &str| PARTS.contains(&name);
    let is_known = |name: &str| {
        let names = [
            "pk",
            "sk",
            "type",
            "senderId",
            "createdAt",
            "replacedAt",
            EDITED_AT,
            DELETED_AT,
            REV,
            IDEMPOTENCY_KEY,
            EXPIRES_AT,
        ];
        names.contains(&name) || INDEX_KEYS.contains(&name)
    };
    !item.keys().any(|name| is_content(name)) && !item.keys().all(|name| is_known(name))
}

/// Checks that a deleted message has lost its content.
fn check_no_content(attributes: &mut Attributes<'_>) {
    for part in PARTS {
        if attributes.item().contains_key(part) {
            attributes.report(part, "must not exist: the message is deleted");
        }
    }
}

fn check_content(attributes: &mut Attributes<'_>) {
    let item = attributes.item();
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

/// Whether a text is the preview of a message, as this version of the service cuts it or as earlier
/// versions did: after a fixed number of code points.
pub(super) fn is_preview_text(preview: Option<&str>, message: &Message) -> bool {
    if preview == message.preview().text.as_deref() {
        return true;
    }
    let start = |text: &str| text.chars().take(PREVIEW_CODE_POINTS).collect::<String>();
    preview == message.text().map(start).as_deref()
}

impl ChangeFacts {
    pub(super) fn read(key: &ItemKey, item: Item, now: Timestamp) -> (Self, Vec<Violation>) {
        let mut attributes = Attributes::new(key, &item);
        attributes.check_kind(ItemKind::Change);
        let rev = ChangeItem::rev(&key.sk).map(Rev::get);
        let rev = rev.filter(|rev| is_valid_seq_or_rev(*rev));
        if rev.is_none() {
            let problem = "the sort key is not CHG# and a number of 16 digits, at least 1";
            attributes.report_item("key", problem);
        }
        let seq = attributes.number("seq", 1..=MAX_SAFE_INTEGER);
        let expires_at = read_expiry(&mut attributes, "at", ChangeItem::LIFETIME, now);
        let is_valid = attributes.is_valid();
        let mut violations = attributes.into_violations();
        if is_valid && ChangeItem::read(item).is_err() {
            violations.push(Violation::unreadable(key.clone()));
        }
        let facts = Self {
            rev,
            seq,
            expires_at,
        };
        (facts, violations)
    }
}

impl PreviousContentFacts {
    pub(super) fn read(
        id: ChatId,
        key: &ItemKey,
        item: Item,
        now: Timestamp,
    ) -> (Self, Vec<Violation>) {
        let mut attributes = Attributes::new(key, &item);
        attributes.check_kind(ItemKind::PreviousContent);
        let seq_and_rev = PreviousContentItem::seq_and_rev(&key.sk);
        let seq_and_rev = seq_and_rev
            .map(|(seq, rev)| (seq.get(), rev.get()))
            .filter(|(seq, rev)| is_valid_seq_or_rev(*seq) && is_valid_seq_or_rev(*rev));
        if seq_and_rev.is_none() {
            let problem = "the sort key is not HIST# and two numbers of 16 digits, at least 1";
            attributes.report_item("key", problem);
        }
        let sender = attributes.member("senderId", id);
        attributes.time("createdAt", now);
        let lifetime = PreviousContentItem::LIFETIME;
        read_expiry(&mut attributes, "replacedAt", lifetime, now);
        if !has_only_unknown_content(&item) {
            check_content(&mut attributes);
        }
        let is_valid = attributes.is_valid();
        let mut violations = attributes.into_violations();
        if is_valid && PreviousContentItem::read(item).is_err() {
            violations.push(Violation::unreadable(key.clone()));
        }
        let facts = Self {
            seq_and_rev,
            sender,
        };
        (facts, violations)
    }
}

/// Reads when an item expires: a fixed time after the time in another attribute. `None` also if the two contradict
/// each other.
fn read_expiry(
    attributes: &mut Attributes<'_>,
    attribute: &str,
    lifetime: Duration,
    now: Timestamp,
) -> Option<u64> {
    let time = attributes.time(attribute, now);
    let expires_at = attributes.time_in_seconds(EXPIRES_AT)?;
    if let Some(time) = time {
        let expected = (Timestamp::from_millis(time) + lifetime).seconds();
        if expires_at != expected {
            let days = lifetime.as_secs() / 86_400;
            let problem =
                format!("is {expires_at}, but {days} days after {attribute} is {expected}");
            attributes.report(EXPIRES_AT, problem);
            return None;
        }
    }
    Some(expires_at)
}

/// Reads an idempotency key. Returns the number of its message and the sender.
pub(super) fn read_idempotency_key(
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
