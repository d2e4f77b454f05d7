//! Model of the API contract: how each request changes a pair's chat, and its expected response.
//!
//! It is written from the contract and not from the code. It has no clock: a time in a response of the model is the
//! number of the request that the time belongs to. A test either maps the real times to these numbers
//! ([`ObservedResponse::use_model_times`]) or leaves them out ([`ObservedResponse::without_times`]). Request ids and
//! the contents of cursors are left out of all responses.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::support::{Api, Response, User};

/// The members of responses that are times.
const TIMES: [&str; 5] = [
    "createdAt",
    "updatedAt",
    "editedAt",
    "deletedAt",
    "blockedAt",
];

/// A member's request about the chat of a pair, or about the other member.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PairRequest {
    RequestChat,
    Accept,
    Decline,
    Withdraw,
    GetChat,
    Send {
        key: Option<String>,
        content: Content,
    },
    Edit {
        seq: u64,
        edit: Edit,
    },
    Delete {
        seq: u64,
    },
    MarkRead {
        up_to: Option<u64>,
    },
    ListMessages {
        start: PageStart,
        limit: u64,
    },
    ListChanges {
        after: u64,
        limit: u64,
    },
    Block,
    Unblock,
    Report {
        seq: Option<u64>,
        reason: &'static str,
        block: bool,
    },
}

impl PairRequest {
    /// Whether the request cannot change anything.
    pub fn is_read(&self) -> bool {
        matches!(
            self,
            Self::GetChat | Self::ListMessages { .. } | Self::ListChanges { .. }
        )
    }
}

/// The content of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Content {
    pub text: Option<String>,
    pub image_url: Option<String>,
    pub link_preview_url: Option<String>,
}

impl Content {
    pub fn text(text: &str) -> Self {
        Self {
            text: Some(text.to_owned()),
            ..Self::default()
        }
    }

    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The body of a request to send it.
    fn to_body(&self) -> Value {
        let parts = [
            ("text", &self.text),
            ("imageUrl", &self.image_url),
            ("linkPreviewUrl", &self.link_preview_url),
        ];
        let parts = parts.into_iter();
        parts
            .filter_map(|(name, part)| Some((name.to_owned(), Value::from(part.clone()?))))
            .collect::<Map<_, _>>()
            .into()
    }
}

/// A change of the content of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Edit {
    pub text: Part,
    pub image_url: Part,
    pub link_preview_url: Part,
}

/// A change of one part of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Part {
    #[default]
    Keep,
    Remove,
    Set(String),
}

impl Part {
    fn apply(&self, part: Option<&String>) -> Option<String> {
        match self {
            Self::Keep => part.cloned(),
            Self::Remove => None,
            Self::Set(new) => Some(new.clone()),
        }
    }
}

impl Edit {
    pub fn text(text: &str) -> Self {
        Self {
            text: Part::Set(text.to_owned()),
            ..Self::default()
        }
    }

    /// Whether it names no part.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn apply(&self, content: &Content) -> Content {
        Content {
            text: self.text.apply(content.text.as_ref()),
            image_url: self.image_url.apply(content.image_url.as_ref()),
            link_preview_url: self
                .link_preview_url
                .apply(content.link_preview_url.as_ref()),
        }
    }

    /// The body of a request.
    fn to_body(&self) -> Value {
        let parts = [
            ("text", &self.text),
            ("imageUrl", &self.image_url),
            ("linkPreviewUrl", &self.link_preview_url),
        ];
        let member = |(name, part): (&str, &Part)| {
            let value = match part {
                Part::Keep => return None,
                Part::Remove => Value::Null,
                Part::Set(new) => new.clone().into(),
            };
            Some((name.to_owned(), value))
        };
        parts
            .into_iter()
            .filter_map(member)
            .collect::<Map<_, _>>()
            .into()
    }
}

/// Where a page of messages starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PageStart {
    Skip(u64),
    Before(u64),
    After(u64),
}

/// A response, without everything that the model does not know.
#[derive(Clone, Debug, PartialEq)]
pub struct ObservedResponse {
    pub status: u16,
    pub replayed: bool,
    pub body: Value,
}

/// What a response depends on besides the pair.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// The number of the request.
    pub now: u64,
    /// Whether the caller has fewer open requests than the cap.
    pub is_below_cap: bool,
}

impl Context {
    /// For a test that leaves out times and has no cap.
    pub const TIMELESS: Self = Self {
        now: 0,
        is_below_cap: true,
    };

    /// The time of a change.
    fn time(self) -> u64 {
        self.now * 2
    }

    /// The time of a report. A request can both block and report, and only the report is sure to be new.
    fn report_time(self) -> u64 {
        self.now * 2 + 1
    }
}

/// Two users, and their chat after one of them has requested it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pair {
    members: [u64; 2],
    chat: Option<Chat>,
    /// When each member has blocked the other.
    blocked_at: [Option<u64>; 2],
    /// The latest activity of the chat, or the first block of a pair without a chat. Lists are in this order.
    updated_at: Option<u64>,
    /// By reporter, and message or 0.
    reports: BTreeMap<(u64, u64), Report>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Chat {
    requester: u64,
    status: ChatStatus,
    messages: Vec<Message>,
    /// The watermark of each member.
    read_seq: [u64; 2],
    /// The number of changes to messages after they were sent.
    rev: u64,
    created_at: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChatStatus {
    Pending,
    Active,
    Declined,
    Withdrawn,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Message {
    sender: u64,
    /// What was sent, before any change.
    sent: Content,
    key: Option<String>,
    created_at: u64,
    /// `None` if the message is deleted.
    content: Option<Content>,
    edited_at: Option<u64>,
    deleted_at: Option<u64>,
    /// The number of its last change, or 0.
    rev: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Report {
    reason: &'static str,
    created_at: u64,
}

impl Pair {
    pub fn new(one: u64, other: u64) -> Self {
        Self {
            members: [one.min(other), one.max(other)],
            chat: None,
            blocked_at: [None, None],
            updated_at: None,
            reports: BTreeMap::new(),
        }
    }

    pub fn chat_id(&self) -> String {
        format!("{}-{}", self.members[0], self.members[1])
    }

    pub fn peer_of(&self, member: u64) -> u64 {
        self.members[1 - self.index_of(member)]
    }

    fn index_of(&self, member: u64) -> usize {
        usize::from(member == self.members[1])
    }

    pub fn status(&self) -> Option<ChatStatus> {
        Some(self.chat.as_ref()?.status)
    }

    pub fn has_blocked(&self, member: u64) -> bool {
        self.blocked_at[self.index_of(member)].is_some()
    }

    pub fn has_open_request_from(&self, member: u64) -> bool {
        let is_open = |chat: &Chat| chat.status == ChatStatus::Pending && chat.requester == member;
        self.chat.as_ref().is_some_and(is_open)
    }

    pub fn was_last_requested_by(&self, member: u64) -> bool {
        let chat = self.chat.as_ref();
        chat.is_some_and(|chat| chat.requester == member)
    }

    /// Changes with each activity in the chat. Reading, changing messages and blocking are no activities.
    pub fn updated_at(&self) -> Option<u64> {
        self.updated_at
    }

    /// The number of changes to messages after they were sent.
    pub fn rev(&self) -> u64 {
        self.chat.as_ref().map_or(0, |chat| chat.rev)
    }

    /// The number of the last change of a message, or 0.
    pub fn rev_of(&self, seq: u64) -> u64 {
        let message = self.chat.as_ref().and_then(|chat| chat.message(seq));
        message.map_or(0, |message| message.rev)
    }

    pub fn unread_count(&self, member: u64) -> u64 {
        let Some(chat) = &self.chat else { return 0 };
        let read_seq = chat.read_seq[self.index_of(member)];
        chat.unread_between(member, read_seq, chat.seq())
    }

    /// The number of the message that was sent with a key.
    fn seq_of_key(&self, sender: u64, key: &str) -> Option<u64> {
        let mut messages = self.chat.as_ref()?.messages.iter();
        let index = messages
            .position(|message| message.sender == sender && message.key.as_deref() == Some(key))?;
        Some(index as u64 + 1)
    }

    /// What this pair adds to a member's `totalPendingRequest`, `totalUnreadMessages` and
    /// `totalSentRequest`.
    pub fn totals(&self, member: u64) -> [u64; 3] {
        let is_shown = !self.has_blocked(member);
        let received = self.has_open_request_from(self.peer_of(member)) && is_shown;
        [
            u64::from(received),
            if is_shown {
                self.unread_count(member)
            } else {
                0
            },
            u64::from(self.has_open_request_from(member)),
        ]
    }

    /// Applies a request and returns its response.
    pub fn apply(
        &mut self,
        caller: u64,
        request: &PairRequest,
        context: Context,
    ) -> ObservedResponse {
        let now = context.time();
        match request {
            PairRequest::RequestChat => self.request_chat(caller, now, context.is_below_cap),
            PairRequest::Accept => self.answer_request(caller, ChatStatus::Active, now),
            PairRequest::Decline => self.answer_request(caller, ChatStatus::Declined, now),
            PairRequest::Withdraw => self.withdraw(caller, now),
            PairRequest::GetChat => match &self.chat {
                Some(_) => response(200, self.view(caller)),
                None => error_response(404, "chat_not_found"),
            },
            PairRequest::Send { key, content } => self.send(caller, key.as_ref(), content, now),
            PairRequest::Edit { seq, edit } => self.edit(caller, *seq, edit, now),
            PairRequest::Delete { seq } => self.delete(caller, *seq, now),
            PairRequest::MarkRead { up_to } => self.mark_read(caller, *up_to),
            PairRequest::ListMessages { start, limit } => self.list_messages(*start, *limit),
            PairRequest::ListChanges { after, limit } => self.list_changes(*after, *limit),
            PairRequest::Block => {
                self.block(caller, now);
                response(200, self.block_view(caller))
            }
            PairRequest::Unblock => {
                let index = self.index_of(caller);
                self.blocked_at[index] = None;
                let message = "The user is not blocked.";
                response(200, json!({"success": true, "message": message}))
            }
            &PairRequest::Report { seq, reason, block } => {
                self.report(caller, seq, reason, block, context)
            }
        }
    }

    fn request_chat(&mut self, caller: u64, now: u64, is_below_cap: bool) -> ObservedResponse {
        if self.has_blocked(caller) {
            return error_response(409, "you_blocked");
        }
        let status = match &mut self.chat {
            Some(chat) if chat.status == ChatStatus::Declined && chat.requester == caller => {
                return error_response(409, "chat_declined");
            }
            Some(chat) if chat.status == ChatStatus::Pending && chat.requester != caller => {
                chat.status = ChatStatus::Active;
                200
            }
            Some(chat) if matches!(chat.status, ChatStatus::Pending | ChatStatus::Active) => {
                return response(200, self.view(caller));
            }
            _ if !is_below_cap => return error_response(429, "too_many_pending_requests"),
            Some(chat) => {
                (chat.status, chat.requester) = (ChatStatus::Pending, caller);
                200
            }
            None => {
                self.chat = Some(Chat {
                    requester: caller,
                    status: ChatStatus::Pending,
                    messages: Vec::new(),
                    read_seq: [0, 0],
                    rev: 0,
                    created_at: now,
                });
                201
            }
        };
        self.updated_at = Some(now);
        response(status, self.view(caller))
    }

    fn answer_request(&mut self, caller: u64, answer: ChatStatus, now: u64) -> ObservedResponse {
        let you_blocked = self.has_blocked(caller);
        let Some(chat) = &mut self.chat else {
            return error_response(404, "chat_not_found");
        };
        let conflict = match (chat.status, answer) {
            (ChatStatus::Declined, ChatStatus::Active) => Some("chat_declined"),
            (ChatStatus::Active, ChatStatus::Declined) => Some("chat_active"),
            (ChatStatus::Withdrawn, _) => Some("chat_withdrawn"),
            _ if chat.requester == caller => return error_response(403, "not_the_recipient"),
            _ => None,
        };
        if you_blocked {
            return error_response(409, "you_blocked");
        }
        if let Some(code) = conflict {
            return error_response(409, code);
        }
        if chat.status != answer {
            chat.status = answer;
            self.updated_at = Some(now);
        }
        response(200, self.view(caller))
    }

    fn withdraw(&mut self, caller: u64, now: u64) -> ObservedResponse {
        let Some(chat) = &mut self.chat else {
            return error_response(404, "chat_not_found");
        };
        match chat.status {
            ChatStatus::Active => return error_response(409, "chat_active"),
            ChatStatus::Declined => return error_response(409, "chat_declined"),
            _ if chat.requester != caller => return error_response(403, "not_the_requester"),
            ChatStatus::Pending => {
                chat.status = ChatStatus::Withdrawn;
                self.updated_at = Some(now);
            }
            ChatStatus::Withdrawn => {}
        }
        response(200, self.view(caller))
    }

    fn send(
        &mut self,
        caller: u64,
        key: Option<&String>,
        content: &Content,
        now: u64,
    ) -> ObservedResponse {
        let earlier = key.and_then(|key| self.seq_of_key(caller, key));
        let you_blocked = self.has_blocked(caller);
        let peer_blocked = self.has_blocked(self.peer_of(caller));
        let Some(chat) = &mut self.chat else {
            return error_response(404, "chat_not_found");
        };
        if let Some(seq) = earlier {
            if chat
                .message(seq)
                .is_some_and(|message| message.sent != *content)
            {
                return error_response(422, "idempotency_key_reused");
            }
            let mut response = response(200, self.message(seq));
            response.replayed = true;
            return response;
        }
        if you_blocked {
            return error_response(409, "you_blocked");
        }
        if chat.status != ChatStatus::Active {
            return error_response(409, "chat_not_active");
        }
        if peer_blocked {
            return error_response(409, "peer_unavailable");
        }
        chat.messages.push(Message {
            sender: caller,
            sent: content.clone(),
            key: key.cloned(),
            created_at: now,
            content: Some(content.clone()),
            edited_at: None,
            deleted_at: None,
            rev: 0,
        });
        let seq = chat.seq();
        self.updated_at = Some(now);
        response(201, self.message(seq))
    }

    fn edit(&mut self, caller: u64, seq: u64, edit: &Edit, now: u64) -> ObservedResponse {
        if edit.is_empty() {
            return error_response(400, "invalid_request");
        }
        let you_blocked = self.has_blocked(caller);
        let peer_blocked = self.has_blocked(self.peer_of(caller));
        let Some(chat) = &mut self.chat else {
            return error_response(404, "chat_not_found");
        };
        let rev = chat.rev + 1;
        let Some(message) = chat.message_mut(seq) else {
            return error_response(404, "message_not_found");
        };
        if message.sender != caller {
            return error_response(403, "not_the_sender");
        }
        let edited = message.content.as_ref().map(|content| edit.apply(content));
        if edited.as_ref().is_some_and(Content::is_empty) {
            return error_response(400, "invalid_request");
        }
        if you_blocked {
            return error_response(409, "you_blocked");
        }
        let (Some(content), Some(edited)) = (&message.content, edited) else {
            return error_response(409, "message_deleted");
        };
        if peer_blocked {
            return error_response(409, "peer_unavailable");
        }
        if edited != *content {
            message.content = Some(edited);
            message.edited_at = Some(now);
            message.rev = rev;
            chat.rev = rev;
        }
        response(200, self.message(seq))
    }

    fn delete(&mut self, caller: u64, seq: u64, now: u64) -> ObservedResponse {
        let Some(chat) = &mut self.chat else {
            return error_response(404, "chat_not_found");
        };
        let rev = chat.rev + 1;
        let Some(message) = chat.message_mut(seq) else {
            return error_response(404, "message_not_found");
        };
        if message.sender != caller {
            return error_response(403, "not_the_sender");
        }
        if message.deleted_at.is_none() {
            message.content = None;
            message.deleted_at = Some(now);
            message.rev = rev;
            chat.rev = rev;
        }
        response(200, self.message(seq))
    }

    fn mark_read(&mut self, caller: u64, up_to: Option<u64>) -> ObservedResponse {
        let (index, you_blocked) = (self.index_of(caller), self.has_blocked(caller));
        let Some(chat) = &mut self.chat else {
            return error_response(404, "chat_not_found");
        };
        let last = up_to.unwrap_or(chat.seq());
        if last > chat.seq() {
            return error_response(400, "invalid_request");
        }
        if you_blocked {
            return error_response(409, "you_blocked");
        }
        // Without unread messages there is nothing to mark, and the watermark does not move.
        if chat.unread_between(caller, chat.read_seq[index], last) > 0 {
            chat.read_seq[index] = last;
        }
        let message = match up_to {
            None => "All messages have been marked as read.".to_owned(),
            Some(seq) => format!("Messages up to {seq} have been marked as read."),
        };
        response(200, json!({"success": true, "message": message}))
    }

    fn list_messages(&self, start: PageStart, limit: u64) -> ObservedResponse {
        let Some(chat) = &self.chat else {
            return error_response(404, "chat_not_found");
        };
        let last = chat.seq();
        let (seqs, has_more): (Vec<u64>, bool) = match start {
            PageStart::After(seq) => {
                let seqs: Vec<_> = (seq + 1..=last)
                    .take(usize::try_from(limit).unwrap())
                    .collect();
                let has_more = seqs.last().is_some_and(|seq| *seq < last);
                (seqs, has_more)
            }
            PageStart::Skip(_) | PageStart::Before(_) => {
                let top = match start {
                    PageStart::Before(seq) => (seq - 1).min(last),
                    PageStart::Skip(skip) => last.saturating_sub(skip),
                    PageStart::After(_) => unreachable!("handled above"),
                };
                let bottom = top.saturating_sub(limit);
                ((bottom + 1..=top).rev().collect(), bottom > 0)
            }
        };
        let messages: Vec<_> = seqs.into_iter().map(|seq| self.message(seq)).collect();
        response(200, json!({"messages": messages, "nextCursor": has_more}))
    }

    fn list_changes(&self, after: u64, limit: u64) -> ObservedResponse {
        let Some(chat) = &self.chat else {
            return error_response(404, "chat_not_found");
        };
        let mut changed: Vec<u64> = (1..=chat.seq()).collect();
        changed.retain(|seq| self.rev_of(*seq) > after);
        changed.sort_by_key(|seq| self.rev_of(*seq));
        let has_more = changed.len() as u64 > limit;
        changed.truncate(usize::try_from(limit).unwrap());
        let messages: Vec<_> = changed.into_iter().map(|seq| self.message(seq)).collect();
        let body = json!({"messages": messages, "rev": chat.rev, "nextCursor": has_more});
        response(200, body)
    }

    fn block(&mut self, caller: u64, now: u64) {
        let index = self.index_of(caller);
        if self.blocked_at[index].is_some() {
            return;
        }
        self.blocked_at[index] = Some(now);
        match &mut self.chat {
            Some(chat) if chat.status == ChatStatus::Pending && chat.requester == caller => {
                chat.status = ChatStatus::Withdrawn;
                self.updated_at = Some(now);
            }
            Some(_) => {}
            None => {
                self.updated_at.get_or_insert(now);
            }
        }
    }

    fn report(
        &mut self,
        caller: u64,
        seq: Option<u64>,
        reason: &'static str,
        block: bool,
        context: Context,
    ) -> ObservedResponse {
        let peer = self.peer_of(caller);
        if let Some(seq) = seq {
            let message = self.chat.as_ref().and_then(|chat| chat.message(seq));
            if message.is_none_or(|message| message.sender != peer) {
                return error_response(404, "message_not_found");
            }
        }
        let key = (caller, seq.unwrap_or(0));
        let is_new = !self.reports.contains_key(&key);
        let report = self.reports.entry(key).or_insert(Report {
            reason,
            created_at: context.report_time(),
        });
        let body = json!({
            "reportId": format!("{}-{}/{}/{}", self.members[0], self.members[1], key.0, key.1),
            "userId": peer,
            "seq": seq,
            "reason": report.reason,
            "createdAt": report.created_at,
        });
        if block {
            self.block(caller, context.time());
        }
        response(if is_new { 201 } else { 200 }, body)
    }

    fn message(&self, seq: u64) -> Value {
        let chat = self.chat.as_ref().expect("the chat has messages");
        let message = chat.message(seq).expect("the message exists");
        let peer = self.peer_of(message.sender);
        let is_read = chat.read_seq[self.index_of(peer)] >= seq;
        let content = message.content.clone().unwrap_or_default();
        json!({
            "messageId": format!("{}/{seq}", self.chat_id()),
            "chatId": self.chat_id(),
            "seq": seq,
            "senderId": message.sender,
            "text": content.text,
            "imageUrl": content.image_url,
            "linkPreviewUrl": content.link_preview_url,
            "status": if is_read { "read" } else { "sent" },
            "createdAt": message.created_at,
            "editedAt": message.edited_at,
            "deletedAt": message.deleted_at,
        })
    }

    /// The chat as a member sees it.
    pub fn view(&self, member: u64) -> Value {
        let chat = self.chat.as_ref().expect("the chat was requested");
        // A preview ends between two characters as a reader sees them. No text of the tests has a character
        // of several code points there.
        let preview = |text: &String| text.chars().take(120).collect::<String>();
        let last = chat.messages.last().map(|last| {
            let text = last
                .content
                .as_ref()
                .and_then(|content| content.text.as_ref());
            json!({
                "seq": chat.seq(),
                "senderId": last.sender,
                "text": text.map(preview),
                "createdAt": last.created_at,
                "deleted": last.deleted_at.is_some(),
            })
        });
        json!({
            "chatId": self.chat_id(),
            "status": match chat.status {
                ChatStatus::Pending => "pending",
                ChatStatus::Active => "active",
                ChatStatus::Declined => "declined",
                ChatStatus::Withdrawn => "withdrawn",
            },
            "requesterId": chat.requester,
            "recipientId": self.peer_of(chat.requester),
            "unreadCount": self.unread_count(member),
            "readSeq": chat.read_seq[self.index_of(member)],
            "peerReadSeq": chat.read_seq[self.index_of(self.peer_of(member))],
            "rev": chat.rev,
            "lastMessage": last,
            "blocked": self.has_blocked(member),
            "createdAt": chat.created_at,
            "updatedAt": self.updated_at,
        })
    }

    /// The block of the other member by a member who has blocked them.
    pub fn block_view(&self, member: u64) -> Value {
        json!({
            "userId": self.peer_of(member),
            "blockedAt": self.blocked_at[self.index_of(member)],
        })
    }
}

impl Chat {
    /// The number of the last message, or 0.
    fn seq(&self) -> u64 {
        self.messages.len() as u64
    }

    fn message(&self, seq: u64) -> Option<&Message> {
        let index = usize::try_from(seq).unwrap().checked_sub(1)?;
        self.messages.get(index)
    }

    fn message_mut(&mut self, seq: u64) -> Option<&mut Message> {
        let index = usize::try_from(seq).unwrap().checked_sub(1)?;
        self.messages.get_mut(index)
    }

    /// How many messages after `first`, up to `last`, are not deleted and not from `member`.
    fn unread_between(&self, member: u64, first: u64, last: u64) -> u64 {
        let messages = (first + 1..=last).filter_map(|seq| self.message(seq));
        let unread =
            messages.filter(|message| message.sender != member && message.deleted_at.is_none());
        unread.count() as u64
    }
}

fn response(status: u16, body: Value) -> ObservedResponse {
    ObservedResponse {
        status,
        replayed: false,
        body,
    }
}

pub fn error_response(status: u16, code: &str) -> ObservedResponse {
    response(status, json!({ "code": code }))
}

impl ObservedResponse {
    /// Reduces a real response to what the model knows. It still has the real times.
    pub fn new(response: &Response) -> Self {
        let mut body = response.body.clone();
        if response.status >= 400 {
            body = json!({"code": body["code"]});
        }
        if let Some(cursor) = body.get_mut("nextCursor") {
            *cursor = cursor.is_string().into();
        }
        // The version of the totals depends on how the counters are stored.
        if body.get("totalPendingRequest").is_some()
            && let Some(totals) = body.as_object_mut()
        {
            totals.remove("version");
        }
        Self {
            status: response.status,
            replayed: response.header("idempotent-replayed") == Some("true"),
            body,
        }
    }

    /// Leaves out times. Of times that can be null, it keeps whether they are.
    pub fn without_times(mut self) -> Self {
        for_each_object(&mut self.body, &mut |object: &mut Map<String, Value>| {
            object.retain(|name, _| name != "createdAt" && name != "updatedAt");
            for (name, value) in object {
                if TIMES.contains(&name.as_str()) {
                    *value = (!value.is_null()).into();
                }
            }
        });
        self
    }

    /// Replaces each real time by the time of the model that is expected at its place, if this is not another one
    /// than before. `learns`: whether to remember times that are new.
    pub fn use_model_times(&mut self, expected: &Self, times: &mut ModelTimes, learns: bool) {
        use_model_times(&mut self.body, &expected.body, times, learns);
    }
}

/// The real time for each time of the model.
pub type ModelTimes = BTreeMap<u64, String>;

fn use_model_times(body: &mut Value, expected: &Value, times: &mut ModelTimes, learns: bool) {
    match (body, expected) {
        (Value::Object(body), Value::Object(expected)) => {
            for (name, value) in body {
                let Some(expected) = expected.get(name) else {
                    continue;
                };
                let is_time = TIMES.contains(&name.as_str());
                let (Some(time), Some(model_time)) = (value.as_str(), expected.as_u64()) else {
                    use_model_times(value, expected, times, learns);
                    continue;
                };
                let known = times.get(&model_time);
                if is_time && known.is_none_or(|known| known == time) {
                    if learns {
                        times.insert(model_time, time.to_owned());
                    }
                    *value = model_time.into();
                }
            }
        }
        (Value::Array(body), Value::Array(expected)) => {
            for (value, expected) in body.iter_mut().zip(expected) {
                use_model_times(value, expected, times, learns);
            }
        }
        _ => {}
    }
}

/// Visits all objects in a body.
pub fn for_each_object(body: &mut Value, visit: &mut impl FnMut(&mut Map<String, Value>)) {
    match body {
        Value::Object(fields) => {
            visit(fields);
            for value in fields.values_mut() {
                for_each_object(value, visit);
            }
        }
        Value::Array(items) => {
            for item in items {
                for_each_object(item, visit);
            }
        }
        _ => {}
    }
}

/// A request as a client sends it.
pub struct HttpRequest {
    pub method: &'static str,
    pub path: String,
    pub key: Option<String>,
    pub body: Option<Value>,
}

impl HttpRequest {
    fn new(method: &'static str, path: String) -> Self {
        Self {
            method,
            path,
            key: None,
            body: None,
        }
    }

    fn with_body(self, body: Value) -> Self {
        let body = Some(body);
        Self { body, ..self }
    }
}

impl PairRequest {
    /// The request of a user about the chat with another user, or about that user.
    pub fn to_http(&self, caller: u64, other: u64) -> HttpRequest {
        match self {
            Self::RequestChat => {
                HttpRequest::new("POST", "/chats".to_owned()).with_body(json!({ "userId": other }))
            }
            Self::Block => HttpRequest::new("PUT", format!("/blocks/{other}")),
            Self::Unblock => HttpRequest::new("DELETE", format!("/blocks/{other}")),
            Self::Report { seq, reason, block } => {
                let body = json!({
                    "userId": other, "seq": seq, "reason": reason, "note": "why", "block": block,
                });
                HttpRequest::new("POST", "/reports".to_owned()).with_body(body)
            }
            request => request.on_chat(&Pair::new(caller, other).chat_id()),
        }
    }

    /// The request about a chat. The caller need not be a member of it.
    pub fn on_chat(&self, chat: &str) -> HttpRequest {
        let request = |method, rest: &str| HttpRequest::new(method, format!("/chats/{chat}{rest}"));
        match self {
            Self::Accept => request("PUT", "/accept"),
            Self::Decline => request("PUT", "/decline"),
            Self::Withdraw => request("PUT", "/withdraw"),
            // A user cannot request the chat of two others, and cannot block or report two users.
            Self::GetChat
            | Self::RequestChat
            | Self::Block
            | Self::Unblock
            | Self::Report { .. } => request("GET", ""),
            Self::Send { key, content } => HttpRequest {
                key: key.clone(),
                ..request("POST", "/messages").with_body(content.to_body())
            },
            Self::Edit { seq, edit } => {
                request("PATCH", &format!("/messages/{seq}")).with_body(edit.to_body())
            }
            Self::Delete { seq } => request("DELETE", &format!("/messages/{seq}")),
            Self::MarkRead { up_to: None } => request("PUT", "/messages/read"),
            Self::MarkRead { up_to: Some(seq) } => {
                request("PUT", "/messages/read").with_body(json!({ "seq": seq }))
            }
            Self::ListMessages { start, limit } => {
                let start = match start {
                    PageStart::Skip(skip) => format!("skip={skip}"),
                    PageStart::Before(seq) => format!("before={seq}"),
                    PageStart::After(seq) => format!("after={seq}"),
                };
                request("GET", &format!("/messages?limit={limit}&{start}"))
            }
            Self::ListChanges { after, limit } => {
                request("GET", &format!("/changes?limit={limit}&after={after}"))
            }
        }
    }
}

impl User {
    /// Sends a request about the chat with another user, or about that user.
    pub async fn perform(&self, other: u64, request: &PairRequest) -> Response {
        self.send_http(request.to_http(self.id, other)).await
    }

    /// Sends a request about a chat. The user need not be a member of it.
    pub async fn perform_on_chat(&self, chat: &str, request: &PairRequest) -> Response {
        self.send_http(request.on_chat(chat)).await
    }

    async fn send_http(&self, request: HttpRequest) -> Response {
        let mut to_send = self.request(request.method, &request.path);
        if let Some(key) = request.key {
            to_send = to_send.header("idempotency-key", key);
        }
        if let Some(body) = request.body {
            to_send = to_send.json(&body);
        }
        to_send.send().await
    }
}

/// A request by its name. User 0 requests the chat and sends messages, and user 1 is the recipient.
pub fn named(name: &str) -> (usize, PairRequest) {
    let (name, number) = name.split_once(':').unwrap_or((name, ""));
    let number: Option<u64> = number.parse().ok();
    let seq = number.unwrap_or(1);
    let send = |key| PairRequest::Send {
        key,
        content: Content::text("hello"),
    };
    let report = |block| PairRequest::Report {
        seq: number,
        reason: "spam",
        block,
    };
    let edit = |text| PairRequest::Edit {
        seq,
        edit: Edit::text(text),
    };
    match name {
        "request" => (0, PairRequest::RequestChat),
        "counter-request" => (1, PairRequest::RequestChat),
        "withdraw" => (0, PairRequest::Withdraw),
        "accept" => (1, PairRequest::Accept),
        "decline" => (1, PairRequest::Decline),
        "send" => (0, send(None)),
        "send-with-key" => (0, send(Some(format!("key-{seq}")))),
        "reply" => (1, send(None)),
        "edit" => (0, edit("new")),
        "edit-again" => (0, edit("newer")),
        "delete" => (0, PairRequest::Delete { seq }),
        "mark" => (1, PairRequest::MarkRead { up_to: number }),
        "block" => (1, PairRequest::Block),
        "block-back" => (0, PairRequest::Block),
        "unblock" => (1, PairRequest::Unblock),
        "report" => (1, report(false)),
        "report-and-block" => (1, report(true)),
        other => panic!("no request is called {other}"),
    }
}

/// Requests by their names. `active` stands for a request that was accepted.
pub fn all_named(names: &str) -> Vec<(usize, PairRequest)> {
    let names = names.replace("active", "request accept");
    names.split_whitespace().map(named).collect()
}

/// Two users, and the model of their chat, for tests with chosen requests.
pub struct ModelledPair {
    pub users: [User; 2],
    model: Pair,
}

impl ModelledPair {
    /// Two new users.
    pub fn new(api: &Api) -> Self {
        let users = [api.user(), api.user()];
        let model = Pair::new(users[0].id, users[1].id);
        Self { users, model }
    }

    /// Two new users after these requests, each by the first or by the second user.
    pub async fn after(api: &Api, requests: &[(usize, PairRequest)]) -> Self {
        let mut pair = Self::new(api);
        for (caller, request) in requests {
            pair.perform(*caller, request).await;
        }
        pair
    }

    pub fn chat_id(&self) -> String {
        self.model.chat_id()
    }

    /// The expected response to a request, which changes the model.
    pub fn expected(&mut self, caller: usize, request: &PairRequest) -> ObservedResponse {
        let caller = self.users[caller].id;
        let expected = self.model.apply(caller, request, Context::TIMELESS);
        expected.without_times()
    }

    /// Sends a request without the model.
    pub async fn send(&self, caller: usize, request: &PairRequest) -> Response {
        let other = self.users[1 - caller].id;
        self.users[caller].perform(other, request).await
    }

    /// Sends a request. Its response must equal the model's.
    pub async fn perform(&mut self, caller: usize, request: &PairRequest) -> Response {
        let response = self.send(caller, request).await;
        let observed = ObservedResponse::new(&response).without_times();
        let expected = self.expected(caller, request);
        assert_eq!(observed, expected, "{request:?} of user {caller}");
        response
    }

    /// The chat, its messages and changes, and the totals of both users equal the model's. `name` is that of the
    /// case.
    pub async fn assert_equals_model(&self, name: &str) {
        let start = PageStart::Skip(0);
        let limit = 100;
        let messages = PairRequest::ListMessages { start, limit };
        let changes = PairRequest::ListChanges { after: 0, limit };
        for (caller, requests) in [
            (0, vec![PairRequest::GetChat]),
            (1, vec![PairRequest::GetChat, messages, changes]),
        ] {
            for request in requests {
                let response = self.send(caller, &request).await;
                let observed = ObservedResponse::new(&response).without_times();
                let expected =
                    self.model
                        .clone()
                        .apply(self.users[caller].id, &request, Context::TIMELESS);
                assert_eq!(
                    observed,
                    expected.without_times(),
                    "{request:?} after {name}"
                );
            }
            let user = &self.users[caller];
            let totals = self.model.totals(user.id);
            assert_eq!(user.totals().await, totals, "user {caller} after {name}");
        }
    }
}
