//! The contract as a model: what each call of a member does to the chat of a pair, and what it is
//! told. Written from the contract and not from the code, without a clock: times, request ids and the
//! insides of cursors are left out of answers.

use serde_json::{Value, json};

use crate::support::{Answer, User};

/// A call about the chat of a pair.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    Ask,
    Accept,
    Decline,
    Send { key: Option<String>, text: String },
    Mark,
    Read { from: From, limit: u64 },
}

/// Where a page of messages begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum From {
    Skip(u64),
    Before(u64),
    After(u64),
}

/// What a call is told.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    pub status: u16,
    pub replayed: bool,
    pub body: Value,
}

/// Two users, and their chat once one of them has asked for it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pair {
    members: [u64; 2],
    chat: Option<Chat>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Chat {
    requester: u64,
    status: Status,
    messages: Vec<Message>,
    /// Both members' watermarks.
    read: [usize; 2],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
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
        self.members[1 - self.place_of(member)]
    }

    fn place_of(&self, member: u64) -> usize {
        usize::from(member == self.members[1])
    }

    pub fn status(&self) -> Option<Status> {
        Some(self.chat.as_ref()?.status)
    }

    pub fn is_open_request_of(&self, member: u64) -> bool {
        let open = |chat: &Chat| chat.status == Status::Pending && chat.requester == member;
        self.chat.as_ref().is_some_and(open)
    }

    pub fn was_last_asked_by(&self, member: u64) -> bool {
        self.chat.as_ref().is_some_and(|it| it.requester == member)
    }

    /// What changes when something happens to the chat; being read is not that.
    pub fn activity(&self) -> Option<(Status, u64, usize)> {
        let chat = self.chat.as_ref()?;
        Some((chat.status, chat.requester, chat.messages.len()))
    }

    pub fn unread_of(&self, member: u64) -> u64 {
        let Some(chat) = &self.chat else { return 0 };
        let unread = chat.messages[chat.read[self.place_of(member)]..].iter();
        unread.filter(|it| it.sender != member).count() as u64
    }

    /// The place of the message that was sent under a key.
    pub fn place_of_key(&self, sender: u64, key: &str) -> Option<u64> {
        let mut messages = self.chat.as_ref()?.messages.iter();
        let place =
            messages.position(|it| it.sender == sender && it.key.as_deref() == Some(key))?;
        Some(place as u64 + 1)
    }

    /// `totalPendingRequest`, `totalUnreadMessages` and `totalSentRequest`, as far as this pair counts.
    pub fn totals_of(&self, member: u64) -> [u64; 3] {
        let received = self.is_open_request_of(self.peer_of(member));
        [
            u64::from(received),
            self.unread_of(member),
            u64::from(self.is_open_request_of(member)),
        ]
    }

    /// What a call does and is told. `may_ask`: the caller has fewer open requests than the cap.
    pub fn call(&mut self, by: u64, call: &Call, may_ask: bool) -> Told {
        match call {
            Call::Ask => self.ask(by, may_ask),
            Call::Accept => self.answer(by, Status::Active),
            Call::Decline => self.answer(by, Status::Declined),
            Call::Send { key, text } => self.send(by, key.as_ref(), text),
            Call::Mark => self.mark(by),
            Call::Read { from, limit } => self.read(*from, *limit),
        }
    }

    fn ask(&mut self, by: u64, may_ask: bool) -> Told {
        let status = match &mut self.chat {
            Some(chat) if chat.status == Status::Declined && chat.requester == by => {
                return refused(409, "chat_declined");
            }
            Some(chat) if chat.status == Status::Pending && chat.requester != by => {
                chat.status = Status::Active;
                200
            }
            Some(chat) if chat.status != Status::Declined => 200,
            _ if !may_ask => return refused(429, "too_many_pending_requests"),
            Some(chat) => {
                (chat.status, chat.requester) = (Status::Pending, by);
                200
            }
            None => {
                self.chat = Some(Chat {
                    requester: by,
                    status: Status::Pending,
                    messages: Vec::new(),
                    read: [0, 0],
                });
                201
            }
        };
        told(status, self.view(by))
    }

    fn answer(&mut self, by: u64, answer: Status) -> Told {
        let Some(chat) = &mut self.chat else {
            return refused(404, "chat_not_found");
        };
        match (chat.status, answer) {
            (Status::Declined, Status::Active) => return refused(409, "chat_declined"),
            (Status::Active, Status::Declined) => return refused(409, "chat_active"),
            _ if chat.requester == by => return refused(403, "not_the_recipient"),
            _ => chat.status = answer,
        }
        told(200, self.view(by))
    }

    fn send(&mut self, by: u64, key: Option<&String>, text: &str) -> Told {
        let place = key.and_then(|key| self.place_of_key(by, key));
        let Some(chat) = &mut self.chat else {
            return refused(404, "chat_not_found");
        };
        if let Some(seq) = place {
            if chat.messages[usize::try_from(seq).unwrap() - 1].text != text {
                return refused(422, "idempotency_key_reused");
            }
            let mut told = told(200, self.message(seq));
            told.replayed = true;
            return told;
        }
        if chat.status != Status::Active {
            return refused(409, "chat_not_active");
        }
        chat.messages.push(Message {
            sender: by,
            text: text.to_owned(),
            key: key.cloned(),
        });
        let seq = chat.messages.len() as u64;
        told(201, self.message(seq))
    }

    fn mark(&mut self, by: u64) -> Told {
        let (place, unread) = (self.place_of(by), self.unread_of(by));
        let Some(chat) = &mut self.chat else {
            return refused(404, "chat_not_found");
        };
        // Without anything unread there is nothing to mark, and the watermark stays where it is.
        if unread > 0 {
            chat.read[place] = chat.messages.len();
        }
        let message = "All messages have been marked as read.";
        told(200, json!({"success": true, "message": message}))
    }

    fn read(&self, from: From, limit: u64) -> Told {
        let Some(chat) = &self.chat else {
            return refused(404, "chat_not_found");
        };
        let last = chat.messages.len() as u64;
        let (seqs, more): (Vec<u64>, bool) = match from {
            From::After(seq) => {
                let seqs: Vec<_> = (seq + 1..=last)
                    .take(usize::try_from(limit).unwrap())
                    .collect();
                let more = seqs.last().is_some_and(|seq| *seq < last);
                (seqs, more)
            }
            From::Skip(_) | From::Before(_) => {
                let top = match from {
                    From::Before(seq) => (seq - 1).min(last),
                    From::Skip(skip) => last.saturating_sub(skip),
                    From::After(_) => unreachable!("handled above"),
                };
                let bottom = top.saturating_sub(limit);
                ((bottom + 1..=top).rev().collect(), bottom > 0)
            }
        };
        let messages: Vec<_> = seqs.into_iter().map(|seq| self.message(seq)).collect();
        told(200, json!({"messages": messages, "nextCursor": more}))
    }

    fn message(&self, seq: u64) -> Value {
        let chat = self.chat.as_ref().expect("a chat with messages");
        let place = usize::try_from(seq).unwrap();
        let message = &chat.messages[place - 1];
        let read = chat.read[self.place_of(self.peer_of(message.sender))] >= place;
        json!({
            "messageId": format!("{}/{seq}", self.chat_id()),
            "chatId": self.chat_id(),
            "seq": seq,
            "senderId": message.sender,
            "text": message.text,
            "imageUrl": null,
            "linkPreviewUrl": null,
            "status": if read { "read" } else { "sent" },
        })
    }

    /// The chat as a member sees it.
    pub fn view(&self, member: u64) -> Value {
        let chat = self.chat.as_ref().expect("a chat that was asked for");
        let preview = |text: &str| text.chars().take(120).collect::<String>();
        let last = chat.messages.last().map(|last| {
            json!({"seq": chat.messages.len(), "senderId": last.sender, "text": preview(&last.text)})
        });
        json!({
            "chatId": self.chat_id(),
            "status": match chat.status {
                Status::Pending => "pending",
                Status::Active => "active",
                Status::Declined => "declined",
            },
            "requesterId": chat.requester,
            "recipientId": self.peer_of(chat.requester),
            "unreadCount": self.unread_of(member),
            "readSeq": chat.read[self.place_of(member)],
            "peerReadSeq": chat.read[self.place_of(self.peer_of(member))],
            "lastMessage": last,
        })
    }
}

fn told(status: u16, body: Value) -> Told {
    Told {
        status,
        replayed: false,
        body,
    }
}

pub fn refused(status: u16, code: &str) -> Told {
    told(status, json!({ "code": code }))
}

impl Told {
    /// What the model knows of an answer.
    pub fn by(answer: &Answer) -> Self {
        let mut body = answer.body.clone();
        if answer.status >= 400 {
            body = json!({"code": body["code"]});
        }
        forget_times(&mut body);
        if let Some(cursor) = body.get_mut("nextCursor") {
            *cursor = cursor.is_string().into();
        }
        Self {
            status: answer.status,
            replayed: answer.header("idempotent-replayed") == Some("true"),
            body,
        }
    }
}

fn forget_times(body: &mut Value) {
    match body {
        Value::Object(fields) => {
            fields.remove("createdAt");
            fields.remove("updatedAt");
            fields.values_mut().for_each(forget_times);
        }
        Value::Array(items) => items.iter_mut().for_each(forget_times),
        _ => {}
    }
}

impl User {
    /// Makes a call about the chat with another user.
    pub async fn call(&self, other: u64, call: &Call) -> Answer {
        let chat = Pair::new(self.id, other).chat_id();
        match call {
            Call::Ask => self.post("/chats", &json!({ "userId": other })).await,
            call => self.call_chat(&chat, call).await,
        }
    }

    /// Makes a call about a chat, whoever its members are.
    pub async fn call_chat(&self, chat: &str, call: &Call) -> Answer {
        match call {
            // There is no asking for other people's chats; this names one, too.
            Call::Ask | Call::Accept => self.accept(chat).await,
            Call::Decline => self.decline(chat).await,
            Call::Send { key: None, text } => self.say(chat, text).await,
            Call::Send {
                key: Some(key),
                text,
            } => self.say_once(chat, key, text).await,
            Call::Mark => self.mark_read(chat).await,
            Call::Read { from, limit } => {
                let from = match from {
                    From::Skip(skip) => format!("skip={skip}"),
                    From::Before(seq) => format!("before={seq}"),
                    From::After(seq) => format!("after={seq}"),
                };
                self.messages(chat, &format!("?limit={limit}&{from}")).await
            }
        }
    }
}
