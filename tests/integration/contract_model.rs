//! Model of the API contract: how each request changes a pair's chat, and its expected response.
//!
//! It is written from the contract and not from the code. It has no clock, so timestamps, request ids
//! and the contents of cursors are left out of responses.

use serde_json::{Value, json};

use crate::support::{Response, User};

/// A member's request about the chat of a pair.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PairRequest {
    RequestChat,
    Accept,
    Decline,
    Send { key: Option<String>, text: String },
    MarkRead,
    ListMessages { start: PageStart, limit: u64 },
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

/// Two users, and their chat after one of them has requested it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pair {
    members: [u64; 2],
    chat: Option<Chat>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Chat {
    requester: u64,
    status: ChatStatus,
    messages: Vec<Message>,
    /// The watermark of each member.
    read_seq: [usize; 2],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChatStatus {
    Pending,
    Active,
    Declined,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Message {
    sender: u64,
    text: String,
    key: Option<String>,
}

impl Pair {
    pub fn new(one: u64, other: u64) -> Self {
        Self {
            members: [one.min(other), one.max(other)],
            chat: None,
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

    pub fn has_open_request_from(&self, member: u64) -> bool {
        let is_open = |chat: &Chat| chat.status == ChatStatus::Pending && chat.requester == member;
        self.chat.as_ref().is_some_and(is_open)
    }

    pub fn was_last_requested_by(&self, member: u64) -> bool {
        let chat = self.chat.as_ref();
        chat.is_some_and(|chat| chat.requester == member)
    }

    /// Changes with each activity in the chat. Reading is not an activity.
    pub fn activity(&self) -> Option<(ChatStatus, u64, usize)> {
        let chat = self.chat.as_ref()?;
        Some((chat.status, chat.requester, chat.messages.len()))
    }

    pub fn unread_count(&self, member: u64) -> u64 {
        let Some(chat) = &self.chat else { return 0 };
        let unread = chat.messages[chat.read_seq[self.index_of(member)]..].iter();
        unread.filter(|message| message.sender != member).count() as u64
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
        let received = self.has_open_request_from(self.peer_of(member));
        [
            u64::from(received),
            self.unread_count(member),
            u64::from(self.has_open_request_from(member)),
        ]
    }

    /// Applies a request and returns its response. `is_below_cap` says whether the caller has fewer
    /// open requests than the cap.
    pub fn apply(
        &mut self,
        caller: u64,
        request: &PairRequest,
        is_below_cap: bool,
    ) -> ObservedResponse {
        match request {
            PairRequest::RequestChat => self.request_chat(caller, is_below_cap),
            PairRequest::Accept => self.answer_request(caller, ChatStatus::Active),
            PairRequest::Decline => self.answer_request(caller, ChatStatus::Declined),
            PairRequest::Send { key, text } => self.send(caller, key.as_ref(), text),
            PairRequest::MarkRead => self.mark_read(caller),
            PairRequest::ListMessages { start, limit } => self.list_messages(*start, *limit),
        }
    }

    fn request_chat(&mut self, caller: u64, is_below_cap: bool) -> ObservedResponse {
        let status = match &mut self.chat {
            Some(chat) if chat.status == ChatStatus::Declined && chat.requester == caller => {
                return error_response(409, "chat_declined");
            }
            Some(chat) if chat.status == ChatStatus::Pending && chat.requester != caller => {
                chat.status = ChatStatus::Active;
                200
            }
            Some(chat) if chat.status != ChatStatus::Declined => 200,
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
                });
                201
            }
        };
        response(status, self.view(caller))
    }

    fn answer_request(&mut self, caller: u64, answer: ChatStatus) -> ObservedResponse {
        let Some(chat) = &mut self.chat else {
            return error_response(404, "chat_not_found");
        };
        match (chat.status, answer) {
            (ChatStatus::Declined, ChatStatus::Active) => {
                return error_response(409, "chat_declined");
            }
            (ChatStatus::Active, ChatStatus::Declined) => {
                return error_response(409, "chat_active");
            }
            _ if chat.requester == caller => return error_response(403, "not_the_recipient"),
            _ => chat.status = answer,
        }
        response(200, self.view(caller))
    }

    fn send(&mut self, caller: u64, key: Option<&String>, text: &str) -> ObservedResponse {
        let earlier = key.and_then(|key| self.seq_of_key(caller, key));
        let Some(chat) = &mut self.chat else {
            return error_response(404, "chat_not_found");
        };
        if let Some(seq) = earlier {
            if chat.messages[usize::try_from(seq).unwrap() - 1].text != text {
                return error_response(422, "idempotency_key_reused");
            }
            let mut response = response(200, self.message(seq));
            response.replayed = true;
            return response;
        }
        if chat.status != ChatStatus::Active {
            return error_response(409, "chat_not_active");
        }
        chat.messages.push(Message {
            sender: caller,
            text: text.to_owned(),
            key: key.cloned(),
        });
        let seq = chat.messages.len() as u64;
        response(201, self.message(seq))
    }

    fn mark_read(&mut self, caller: u64) -> ObservedResponse {
        let (index, unread) = (self.index_of(caller), self.unread_count(caller));
        let Some(chat) = &mut self.chat else {
            return error_response(404, "chat_not_found");
        };
        // Without unread messages there is nothing to mark, and the watermark does not move.
        if unread > 0 {
            chat.read_seq[index] = chat.messages.len();
        }
        let message = "All messages have been marked as read.";
        response(200, json!({"success": true, "message": message}))
    }

    fn list_messages(&self, start: PageStart, limit: u64) -> ObservedResponse {
        let Some(chat) = &self.chat else {
            return error_response(404, "chat_not_found");
        };
        let last = chat.messages.len() as u64;
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

    fn message(&self, seq: u64) -> Value {
        let chat = self.chat.as_ref().expect("the chat has messages");
        let position = usize::try_from(seq).unwrap();
        let message = &chat.messages[position - 1];
        let peer = self.peer_of(message.sender);
        let is_read = chat.read_seq[self.index_of(peer)] >= position;
        json!({
            "messageId": format!("{}/{seq}", self.chat_id()),
            "chatId": self.chat_id(),
            "seq": seq,
            "senderId": message.sender,
            "text": message.text,
            "imageUrl": null,
            "linkPreviewUrl": null,
            "status": if is_read { "read" } else { "sent" },
        })
    }

    /// The chat as a member sees it.
    pub fn view(&self, member: u64) -> Value {
        let chat = self.chat.as_ref().expect("the chat was requested");
        // A preview ends between two characters as a reader sees them. No text of the tests has a character
        // of several code points there.
        let preview = |text: &str| text.chars().take(120).collect::<String>();
        let last = chat.messages.last().map(|last| {
            json!({"seq": chat.messages.len(), "senderId": last.sender, "text": preview(&last.text)})
        });
        json!({
            "chatId": self.chat_id(),
            "status": match chat.status {
                ChatStatus::Pending => "pending",
                ChatStatus::Active => "active",
                ChatStatus::Declined => "declined",
            },
            "requesterId": chat.requester,
            "recipientId": self.peer_of(chat.requester),
            "unreadCount": self.unread_count(member),
            "readSeq": chat.read_seq[self.index_of(member)],
            "peerReadSeq": chat.read_seq[self.index_of(self.peer_of(member))],
            "lastMessage": last,
        })
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
    /// Reduces a real response to what the model knows.
    pub fn new(response: &Response) -> Self {
        let mut body = response.body.clone();
        if response.status >= 400 {
            body = json!({"code": body["code"]});
        }
        remove_timestamps(&mut body);
        if let Some(cursor) = body.get_mut("nextCursor") {
            *cursor = cursor.is_string().into();
        }
        Self {
            status: response.status,
            replayed: response.header("idempotent-replayed") == Some("true"),
            body,
        }
    }
}

fn remove_timestamps(body: &mut Value) {
    match body {
        Value::Object(fields) => {
            fields.remove("createdAt");
            fields.remove("updatedAt");
            fields.values_mut().for_each(remove_timestamps);
        }
        Value::Array(items) => items.iter_mut().for_each(remove_timestamps),
        _ => {}
    }
}

impl User {
    /// Sends a request about the chat with another user.
    pub async fn perform(&self, other: u64, request: &PairRequest) -> Response {
        let chat = Pair::new(self.id, other).chat_id();
        match request {
            PairRequest::RequestChat => self.post("/chats", &json!({ "userId": other })).await,
            request => self.perform_on_chat(&chat, request).await,
        }
    }

    /// Sends a request about a chat. The user need not be a member of it.
    pub async fn perform_on_chat(&self, chat: &str, request: &PairRequest) -> Response {
        match request {
            // A user cannot request the chat of two others, so this accepts it instead.
            PairRequest::RequestChat | PairRequest::Accept => self.accept(chat).await,
            PairRequest::Decline => self.decline(chat).await,
            PairRequest::Send { key: None, text } => self.send(chat, text).await,
            PairRequest::Send {
                key: Some(key),
                text,
            } => self.send_with_key(chat, key, text).await,
            PairRequest::MarkRead => self.mark_read(chat).await,
            PairRequest::ListMessages { start, limit } => {
                let start = match start {
                    PageStart::Skip(skip) => format!("skip={skip}"),
                    PageStart::Before(seq) => format!("before={seq}"),
                    PageStart::After(seq) => format!("after={seq}"),
                };
                self.messages(chat, &format!("?limit={limit}&{start}"))
                    .await
            }
        }
    }
}
