//! Fills a table with the chats that exist when the simulation begins.
//!
//! The store writes one chat. Its items are then copied, with the attributes of the other chats. Writing each chat with
//! the store would take much longer than the simulation.

use std::collections::{BTreeMap, HashSet};

use aws_sdk_dynamodb::types::{AttributeValue, PutRequest, WriteRequest};
use chat_shared::{
    domain::{
        Chat, ChatId, ChatStatus, MessageContent, PREVIEW_CODE_POINTS, Seq, Timestamp, UserId,
    },
    store::{
        IdempotencyKey, Store, TableClient,
        items::{ActivityKey, CHANGES, ChatItem, Index, Item, ItemKey, MessageItem, TotalsItem},
        number,
    },
};
use fastrand::Rng;

use super::{
    chat_ids, message_key,
    model::{HOUR_MILLIS, Model},
    population::{SimulatedChat, Status},
    user_ids,
};
use crate::{Result, dataset::start_chat};

/// DynamoDB's maximum number of items in a `BatchWriteItem` request.
const BATCH_SIZE: usize = 25;
/// The latest activity in the chats is up to this long ago.
const MAX_AGE: u64 = 30 * 24 * 3_600_000;
/// The time between two earlier messages of a chat, in milliseconds.
const MESSAGE_INTERVAL: u64 = 1_000;

/// Writes the chats of `users` users. Chats in `opened` get at least [`Model::history`] messages, the others at least
/// one. Each chat gets at least its unread messages.
pub async fn fill(
    table: &TableClient,
    model: &Model,
    (users, chats): (usize, &[SimulatedChat]),
    opened: &HashSet<usize>,
    now: Timestamp,
    rng: &mut Rng,
) -> Result<()> {
    let user_ids = user_ids(users + 2)?;
    let chat_ids = chat_ids(&user_ids, chats)?;
    // The store's clock goes on while the table is filled.
    let store = table.store_at(Timestamp::from_millis(now.millis() - HOUR_MILLIS));
    // Two more users have the chat that is copied.
    let samples = Samples::create(&store, [user_ids[users], user_ids[users + 1]]).await?;
    let mut writer = Writer {
        store: &store,
        puts: Vec::new(),
    };
    let mut totals = BTreeMap::new();
    let mut requests = Vec::new();
    for (index, (chat, id)) in chats.iter().zip(chat_ids).enumerate() {
        let requester = user_ids[chat.members[0]];
        if chat.status == Status::Requested {
            requests.push((requester, id));
            continue;
        }
        let history = if opened.contains(&index) {
            model.history
        } else {
            1
        };
        let filled = FilledChat::new(model, chat, (id, requester), history, now, rng);
        writer.put(samples.state(&filled)?).await?;
        for message in &filled.messages {
            writer.put(samples.message(id, message)).await?;
        }
        for (member, unread) in [
            (id.low(), filled.unread_low),
            (id.high(), filled.unread_high),
        ] {
            *totals.entry(TotalsItem::key(member, id)).or_insert(0) += unread;
        }
    }
    for (key, unread) in totals.into_iter().filter(|(_, unread)| *unread > 0) {
        writer.put(totals_item(key, unread)).await?;
    }
    writer.flush().await?;
    // The store adds these to the totals, so the totals must be there first.
    for (requester, id) in requests {
        store.request_chat(requester, id).await?;
    }
    Ok(())
}

/// A chat to write.
struct FilledChat {
    id: ChatId,
    requester: UserId,
    unread_low: u64,
    unread_high: u64,
    /// The messages, oldest first.
    messages: Vec<FilledMessage>,
}

struct FilledMessage {
    seq: u64,
    sender: UserId,
    length: usize,
    created_at: u64,
}

impl FilledChat {
    /// A chat with at least `history` messages. The last ones are unread: first those that the member with the lower
    /// id has not read, then those that the other member has not read.
    fn new(
        model: &Model,
        chat: &SimulatedChat,
        (id, requester): (ChatId, UserId),
        history: u64,
        now: Timestamp,
        rng: &mut Rng,
    ) -> Self {
        let [of_requester, of_recipient] = chat.unread;
        let (unread_low, unread_high) = if requester == id.low() {
            (of_requester, of_recipient)
        } else {
            (of_recipient, of_requester)
        };
        let count = history.max(unread_low + unread_high);
        let last = now.millis() - rng.u64(60_000..MAX_AGE);
        let messages = (1..=count).map(|seq| FilledMessage {
            seq,
            sender: match count - seq {
                after if after < unread_high => id.low(),
                after if after < unread_high + unread_low => id.high(),
                _ if seq % 2 == 0 => id.low(),
                _ => id.high(),
            },
            length: model.text_length(rng),
            created_at: last - (count - seq) * MESSAGE_INTERVAL,
        });
        Self {
            id,
            requester,
            unread_low,
            unread_high,
            messages: messages.collect(),
        }
    }
}

/// The items that are copied.
struct Samples {
    state: Item,
    message: Item,
}

impl Samples {
    /// Creates a chat with one message, and reads its items.
    async fn create(store: &Store, [one, other]: [UserId; 2]) -> Result<Self> {
        let id = ChatId::between(one, other).ok_or("a chat needs two users")?;
        start_chat(store, one, id).await?;
        let content = MessageContent::new(Some("x".to_owned()), None, None)?;
        let key: IdempotencyKey = message_key(0).parse()?;
        store.send_message(one, id, content, Some(&key)).await?;
        let state = store.get(ChatItem::key(id)).await?;
        let message = store.get(MessageItem::key(id, Seq::new(1))).await?;
        Ok(Self {
            state: state.ok_or("the chat is missing")?,
            message: message.ok_or("the message is missing")?,
        })
    }

    fn state(&self, chat: &FilledChat) -> Result<Item> {
        let id = chat.id;
        let last = chat.messages.last().ok_or("the chat has no messages")?;
        let first = chat.messages.first().ok_or("the chat has no messages")?;
        let Some(AttributeValue::M(preview)) = self.state.get("lastMessage") else {
            return Err("the state has no preview".into());
        };
        let mut preview = preview.clone();
        set_message(&mut preview, last, PREVIEW_CODE_POINTS);
        preview.insert("seq".to_owned(), number(last.seq));

        let recipient = id.peer_of(chat.requester);
        let updated_at = Timestamp::from_millis(last.created_at);
        let activity = ActivityKey::of(&Chat::new_request(id, chat.requester, updated_at));
        let read_seq = last.seq - chat.unread_low - chat.unread_high;
        let (low_unread, low_read_seq) = ChatItem::member_attributes(id, id.low());
        let (high_unread, high_read_seq) = ChatItem::member_attributes(id, id.high());
        let mut item = with_key(&self.state, ChatItem::key(id));
        let attributes = [
            ("requesterId", number(chat.requester.get())),
            ("recipientId", number(recipient.get())),
            ("seq", number(last.seq)),
            (low_unread, number(chat.unread_low)),
            (low_read_seq, number(read_seq)),
            (high_unread, number(chat.unread_high)),
            (high_read_seq, number(read_seq)),
            ("lastMessage", AttributeValue::M(preview)),
            ("createdAt", number(first.created_at)),
            ("updatedAt", number(last.created_at)),
            (
                "requesterKey",
                text(Index::key(chat.requester, ChatStatus::Active)),
            ),
            (
                "recipientKey",
                text(Index::key(recipient, ChatStatus::Active)),
            ),
            ("activity", text(activity.to_string())),
        ];
        item.extend(attributes.map(|(name, value)| (name.to_owned(), value)));
        Ok(item)
    }

    fn message(&self, id: ChatId, message: &FilledMessage) -> Item {
        let mut item = with_key(&self.message, MessageItem::key(id, Seq::new(message.seq)));
        set_message(&mut item, message, usize::MAX);
        item
    }
}

/// Sets the attributes that a message and its preview have.
fn set_message(item: &mut Item, message: &FilledMessage, max_length: usize) {
    let content = "x".repeat(message.length.min(max_length));
    let attributes = [
        ("senderId", number(message.sender.get())),
        ("text", text(content)),
        ("createdAt", number(message.created_at)),
    ];
    item.extend(attributes.map(|(name, value)| (name.to_owned(), value)));
}

fn totals_item(key: ItemKey, unread: u64) -> Item {
    let attributes = [
        ("type", text(TotalsItem::ENTITY_TYPE.to_owned())),
        (TotalsItem::UNREAD, number(unread)),
        (CHANGES, number(unread)),
    ];
    let item = attributes.map(|(name, value)| (name.to_owned(), value));
    with_key(&Item::from(item), key)
}

fn with_key(item: &Item, key: ItemKey) -> Item {
    let mut item = item.clone();
    item.insert("pk".to_owned(), text(key.pk));
    item.insert("sk".to_owned(), text(key.sk));
    item
}

fn text(text: String) -> AttributeValue {
    AttributeValue::S(text)
}

/// Writes items in batches.
struct Writer<'a> {
    store: &'a Store,
    puts: Vec<WriteRequest>,
}

impl Writer<'_> {
    async fn put(&mut self, item: Item) -> Result<()> {
        let put = PutRequest::builder().set_item(Some(item)).build()?;
        self.puts
            .push(WriteRequest::builder().put_request(put).build());
        if self.puts.len() == BATCH_SIZE {
            self.flush().await?;
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<()> {
        if self.puts.is_empty() {
            return Ok(());
        }
        let puts = std::mem::take(&mut self.puts);
        let batch = self.store.client().batch_write_item();
        let output = batch
            .request_items(self.store.table_name(), puts)
            .send()
            .await?;
        if output.unprocessed_items.unwrap_or_default().is_empty() {
            Ok(())
        } else {
            Err("DynamoDB did not write all items of a batch".into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unread_messages_of_each_member_are_from_the_other_one_and_after_the_watermarks() {
        let ids = user_ids(2).unwrap();
        let id = ChatId::between(ids[0], ids[1]).unwrap();
        let chat = SimulatedChat {
            members: [1, 0],
            status: Status::Open,
            unread: [3, 1],
        };
        let mut rng = Rng::with_seed(1);
        let now = Timestamp::from_millis(1_800_000_000_000);
        let model = Model::DEFAULT;
        for history in [0, 15] {
            let filled = FilledChat::new(&model, &chat, (id, ids[1]), history, now, &mut rng);
            // The requester has the higher id, and 3 unread messages.
            assert_eq!((filled.unread_low, filled.unread_high), (1, 3));
            assert_eq!(filled.messages.len() as u64, history.max(4));
            let unread = filled.messages.iter().rev().take(4);
            let from_low = unread.filter(|message| message.sender == id.low());
            assert_eq!(from_low.count(), 3);
            assert!(
                filled
                    .messages
                    .is_sorted_by_key(|message| message.created_at)
            );
        }
    }
}
