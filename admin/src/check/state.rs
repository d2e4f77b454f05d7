//! Reads the state item of a chat, and checks what can be checked without other items. No I/O.

use aws_sdk_dynamodb::types::AttributeValue;
use chat_shared::{
    domain::{Chat, ChatId, ChatStatus, MAX_SAFE_INTEGER, Timestamp, UserId},
    store::{
        ActivityKey,
        items::{ChatItem, Index, Item, ItemKey, ItemKind},
    },
};

use super::{
    attributes::{Attributes, StoredCount},
    violation::{BasedOn, Value, Violation},
};
use crate::text::shorten;

const LAST_MESSAGE: &str = "lastMessage";
const HIDDEN: &str = "hid";

/// The state item of a chat. What is missing or damaged is `None`.
pub(super) struct ChatState {
    /// `None` also if the other member contradicts it.
    pub requester: Option<UserId>,
    /// `None` also if `seq` contradicts it.
    pub status: Option<ChatStatus>,
    /// Whether the pending request is hidden from its recipient, whose totals do not count it.
    pub is_hidden: Option<bool>,
    pub seq: Option<u64>,
    /// The number of changes to messages. `None` also if `seq` contradicts it.
    pub rev: Option<u64>,
    /// The number of changes to the blocks.
    pub block_version: Option<u64>,
    /// Whether another attribute contradicts `seq`. Then nothing is computed from `seq`.
    pub is_seq_doubtful: bool,
    pub created_at: Option<u64>,
    pub updated_at: Option<u64>,
    /// The member with the smaller id, then the other member.
    pub members: [MemberCounts; 2],
    pub last_message: Option<Preview>,
}

/// What a chat's state contains about one member.
pub(super) struct MemberCounts {
    /// Unread messages that the totals count.
    pub unread: StoredCount,
    /// Unread messages that the totals do not count. A missing attribute means 0.
    pub held: StoredCount,
    pub read_seq: Option<u64>,
    pub block: Block,
}

/// Whether a member has blocked the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Block {
    None,
    /// Since this time, in milliseconds since 1970.
    Since(u64),
    /// The attribute is damaged.
    Unknown,
}

/// The preview of the last message in a chat's state.
pub(super) struct Preview {
    pub seq: Option<u64>,
    pub sender: Option<UserId>,
    pub text: Option<String>,
    pub created_at: Option<u64>,
    pub is_deleted: Option<bool>,
    /// Whether the preview contains the whole message.
    pub is_whole: Option<bool>,
    /// Whether all attributes are valid.
    pub is_valid: bool,
}

impl ChatState {
    /// The state of a chat that has no state item.
    pub(super) fn missing() -> Self {
        let member = || MemberCounts {
            unread: StoredCount::Missing,
            held: StoredCount::Missing,
            read_seq: None,
            block: Block::Unknown,
        };
        Self {
            requester: None,
            status: None,
            is_hidden: None,
            seq: None,
            rev: None,
            block_version: None,
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
        let rev = read_rev(&mut attributes, seq);
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
                held: StoredCount::read(item, ChatItem::held_attribute(id, member)),
                read_seq: read_watermark(&mut attributes, read_seq, seq),
                block: read_block(&mut attributes, item, block_attribute(id, member), now),
            }
        });
        let block_version = read_block_version(&mut attributes, status, &members);
        let is_hidden = attributes.flag(HIDDEN);
        let last_message = read_preview(&mut attributes, &key, item, id, seq, now);
        let is_seq_doubtful = is_seq_doubtful(item, seq, &members, last_message.as_ref());
        let pair = requester.filter(|requester| recipient == Some(id.peer_of(*requester)));
        let times = (created_at, updated_at);
        let time_of_change = check_update_time(&mut attributes, times, seq, last_message.as_ref());
        let basis = pair.zip(status).map(|(requester, status)| KeyBasis {
            id,
            requester,
            status,
            blocks: members.each_ref().map(|member| member.block),
        });
        if is_hidden == Some(true) {
            check_hidden(&mut attributes, status, basis.as_ref());
        }
        check_index_keys(&mut attributes, item, id, basis.as_ref(), time_of_change);

        let has_valid_counts = members
            .iter()
            .all(|member| member.unread.valid().is_some() && member.held.valid_or_zero().is_some());
        if attributes.is_valid() && has_valid_counts && ChatItem::read(item.clone()).is_err() {
            attributes.push(Violation::unreadable(key.clone()));
        }
        let state = Self {
            requester,
            status,
            is_hidden,
            seq,
            rev,
            block_version,
            is_seq_doubtful,
            created_at,
            updated_at,
            members,
            last_message,
        };
        (state, attributes.into_violations())
    }

    /// The unread count of a member, as the totals count it; `None` if it is damaged.
    pub(super) fn unread(&self, id: ChatId, member: UserId) -> Option<i64> {
        let [low, high] = &self.members;
        let counts = if member == id.low() { low } else { high };
        counts.unread.valid()
    }
}

impl MemberCounts {
    /// The values that `unread` and `held` should have for a number of unread messages; `None` if nothing
    /// says whether the member has blocked the other.
    ///
    /// A version of the service that knows no blocks counts in `unread` all the same. So the values of a
    /// member who has blocked the other are right if their sum is.
    pub(super) fn expected(&self, unread_messages: i64) -> Option<(i64, i64)> {
        match self.block {
            Block::Unknown => None,
            Block::None => Some((unread_messages, 0)),
            Block::Since(_) => {
                let counts = self.unread.valid().zip(self.held.valid_or_zero());
                let is_sum_right = |(unread, held): &(i64, i64)| {
                    unread.checked_add(*held) == Some(unread_messages)
                };
                Some(counts.filter(is_sum_right).unwrap_or((0, unread_messages)))
            }
        }
    }
}

impl Block {
    /// The value of the attribute, unless it is damaged.
    pub(super) fn stored(self) -> Value {
        match self {
            Self::Since(time) => Value::count(time),
            Self::None | Self::Unknown => Value::Missing,
        }
    }
}

/// The name of the attribute that says when a member blocked the other.
pub(super) fn block_attribute(id: ChatId, member: UserId) -> &'static str {
    if member == id.low() {
        "lowBlock"
    } else {
        "highBlock"
    }
}

fn read_block(
    attributes: &mut Attributes<'_>,
    item: &Item,
    attribute: &str,
    now: Timestamp,
) -> Block {
    if !item.contains_key(attribute) {
        return Block::None;
    }
    let time = attributes.time(attribute, now);
    time.map_or(Block::Unknown, Block::Since)
}

/// Reads the number of changes to the blocks. If it were missing although there was a block, it would start
/// again, and an old plan could match the state.
fn read_block_version(
    attributes: &mut Attributes<'_>,
    status: Option<ChatStatus>,
    members: &[MemberCounts; 2],
) -> Option<u64> {
    let version = attributes.number_or_zero("v")?;
    let has_block = members.iter().any(|member| member.block != Block::None);
    if version == 0 && (has_block || status == Some(ChatStatus::NotRequested)) {
        let problem = "is missing or 0, but a member has, or had, blocked the other";
        attributes.report("v", problem);
        return None;
    }
    Some(version)
}

fn read_rev(attributes: &mut Attributes<'_>, seq: Option<u64>) -> Option<u64> {
    let rev = attributes.number_or_zero("rev")?;
    if rev > 0 && seq == Some(0) {
        let problem = format!("is {rev}, but seq is 0: only messages are changed");
        attributes.report("rev", problem);
        return None;
    }
    Some(rev)
}

fn read_status(attributes: &mut Attributes<'_>, seq: Option<u64>) -> Option<ChatStatus> {
    let name = attributes.text("status")?;
    let status = ChatItem::parse_status(name);
    match (status, seq) {
        (None, _) => attributes.report(
            "status",
            format_args!(
                "is {}, not none, pending, active, declined or withdrawn",
                shorten(name)
            ),
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
    let is_inactive = status.is_some_and(|status| status != ChatStatus::Active);
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
        is_deleted: inner.flag("deleted"),
        is_whole: inner.flag("whole"),
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

/// What decides in which lists a chat is. Nothing contradicts these values.
struct KeyBasis {
    id: ChatId,
    requester: UserId,
    status: ChatStatus,
    /// Whether the member with the smaller id has blocked the other, and the other way round.
    blocks: [Block; 2],
}

impl KeyBasis {
    fn block(&self, member: UserId) -> Block {
        let [low, high] = self.blocks;
        if member == self.id.low() { low } else { high }
    }

    /// The partition key of the chat in the index of a member; `None` if it is unknown.
    fn index_key(&self, member: UserId) -> Option<Value> {
        match (self.block(member), self.status) {
            (Block::Unknown, _) => None,
            (Block::Since(_), _) => Some(Value::Text(Index::blocked_key(member))),
            (Block::None, ChatStatus::NotRequested | ChatStatus::Withdrawn) => Some(Value::Missing),
            (Block::None, status) => Some(Value::Text(Index::key(member, status))),
        }
    }

    /// The attributes from which [`KeyBasis::index_key`] is computed.
    fn attributes(&self, item: &Item, member: UserId) -> BasedOn {
        vec![
            stored_status(item),
            ("requesterId", Value::count(self.requester.get())),
            (
                block_attribute(self.id, member),
                self.block(member).stored(),
            ),
        ]
    }
}

fn stored_status(item: &Item) -> (&'static str, Value) {
    let status = item.get("status").and_then(|status| status.as_s().ok());
    ("status", Value::Text(status.cloned().unwrap_or_default()))
}

/// Checks that a hidden request is pending and that its recipient has blocked the requester. The opposite
/// is no violation: a version that knows no blocks does not hide a request, and the totals count it.
fn check_hidden(
    attributes: &mut Attributes<'_>,
    status: Option<ChatStatus>,
    basis: Option<&KeyBasis>,
) {
    let item = attributes.item();
    let based_on = match (status, basis) {
        (None, _) | (Some(ChatStatus::Pending), None) => return,
        (Some(ChatStatus::Pending), Some(basis)) => {
            let recipient = basis.id.peer_of(basis.requester);
            if basis.block(recipient) != Block::None {
                return;
            }
            basis.attributes(item, recipient)
        }
        (Some(_), _) => vec![stored_status(item)],
    };
    attributes.report_mismatch(HIDDEN, Value::Flag(true), Value::Missing, based_on);
}

/// Compares the key attributes of the indexes with the values from which they are computed. `basis` is
/// `None` if one of these values is damaged or something contradicts it, and so is `updated_at`.
fn check_index_keys(
    attributes: &mut Attributes<'_>,
    item: &Item,
    id: ChatId,
    basis: Option<&KeyBasis>,
    updated_at: Option<u64>,
) {
    let key_of = |member: UserId| {
        let basis = basis?;
        Some((basis.index_key(member)?, basis.attributes(item, member)))
    };
    let requester = basis.map(|basis| basis.requester);
    let recipient = requester.map(|requester| id.peer_of(requester));
    let activity = updated_at.map(|updated_at| {
        let based_on = vec![("updatedAt", Value::count(updated_at))];
        (Value::Text(activity_key(id, updated_at)), based_on)
    });
    for (attribute, expected) in [
        ("requesterKey", requester.and_then(key_of)),
        ("recipientKey", recipient.and_then(key_of)),
        ("activity", activity),
    ] {
        attributes.check_derived_text(attribute, expected);
    }
    if updated_at.is_none() && !item.contains_key("activity") {
        attributes.report("activity", "is missing");
    }
}

/// The sort key that a chat has in lists after a change at `updated_at`.
fn activity_key(id: ChatId, updated_at: u64) -> String {
    let chat = Chat::new_request(id, id.low(), Timestamp::from_millis(updated_at));
    ActivityKey::of(&chat).to_string()
}
