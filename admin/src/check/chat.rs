//! Evaluates one chat: compares its messages and idempotency keys with its state item.

use aws_sdk_dynamodb::{operation::query::QueryOutput, types::AttributeValue};
use chat_shared::{
    Error,
    domain::ChatId,
    store::{
        classify_error,
        items::{ChatItem, IdempotencyItem, Item, ItemKey, MessageItem},
    },
};

use super::{
    Checker, retry_transient, sort_key,
    violation::{Finding, Value, Violation},
};

impl Checker<'_> {
    /// Evaluates a chat once.
    pub(super) async fn evaluate_chat(&self, id: ChatId) -> Result<Vec<Violation>, Error> {
        let state_key = ChatItem::key(id);
        let state = match self.chat_state(id).await? {
            Some(Ok(state)) => state,
            Some(Err(_)) => return Ok(vec![Violation::unreadable(state_key)]),
            None => return Ok(vec![Violation::unrepairable(state_key, "is missing")]),
        };
        let mut tally = ChatTally::new(id, &state);
        let mut start_key: Option<Item> = None;
        loop {
            let page = self.chat_page(&state_key, start_key.as_ref()).await?;
            for item in page.items.unwrap_or_default() {
                let key = ItemKey::new(state_key.pk.clone(), sort_key(&item));
                tally.add(&key, item);
            }
            start_key = page.last_evaluated_key;
            if start_key.is_none() {
                break;
            }
        }
        // Messages may have arrived during these reads. The state now includes them.
        let state_now = self.chat_state(id).await?.and_then(Result::ok);
        let seq_now = state_now.map_or(0, |state| state.seq);
        Ok(tally.finish(seq_now))
    }

    /// Reads the current state of a chat. Returns `None` when there is none, and `Some(Err(_))` when
    /// it cannot be parsed.
    pub(super) async fn chat_state(
        &self,
        id: ChatId,
    ) -> Result<Option<Result<ChatItem, Error>>, Error> {
        let item = retry_transient(|| self.store.get(ChatItem::key(id))).await?;
        Ok(item.map(ChatItem::read))
    }

    /// One page of a chat's idempotency keys and messages. Both sort before the state.
    async fn chat_page(
        &self,
        state_key: &ItemKey,
        start_key: Option<&Item>,
    ) -> Result<QueryOutput, Error> {
        retry_transient(|| async {
            self.store
                .client()
                .query()
                .table_name(self.store.table_name())
                .key_condition_expression("pk = :pk AND sk < :state")
                .expression_attribute_values(":pk", AttributeValue::S(state_key.pk.clone()))
                .expression_attribute_values(":state", AttributeValue::S(state_key.sk.clone()))
                .consistent_read(true)
                .set_exclusive_start_key(start_key.cloned())
                .send()
                .await
                .map_err(classify_error)
        })
        .await
    }
}

/// Sums up the messages and idempotency keys of a chat, which it takes in key order, and compares
/// them with the chat's state.
struct ChatTally<'a> {
    id: ChatId,
    /// The state that was read before the messages.
    state: &'a ChatItem,
    /// `seq` and `createdAt` of the last message that the state includes.
    last_seq: u64,
    last_created_at: u64,
    /// `seq` of the newest message that the state does not include; 0 when there is none.
    newest_unknown_seq: u64,
    /// Unread messages of the member with the smaller id, then of the other member.
    unread: [i64; 2],
    /// Whether an item is missing or unreadable. In this case the unread counts are unknown.
    is_incomplete: bool,
    /// The idempotency key that refers to the newest message, and the `seq` of this message.
    newest_reference: Option<(ItemKey, u64)>,
    violations: Vec<Violation>,
}

impl<'a> ChatTally<'a> {
    fn new(id: ChatId, state: &'a ChatItem) -> Self {
        Self {
            id,
            state,
            last_seq: 0,
            last_created_at: 0,
            newest_unknown_seq: 0,
            unread: [0; 2],
            is_incomplete: false,
            newest_reference: None,
            violations: Vec::new(),
        }
    }

    fn add(&mut self, key: &ItemKey, item: Item) {
        let added = if IdempotencyItem::matches_key(key) {
            self.add_idempotency_key(key, item)
        } else {
            self.add_message(key, item)
        };
        if added.is_err() {
            self.violations.push(Violation::unreadable(key.clone()));
            self.is_incomplete = true;
        }
    }

    fn add_idempotency_key(&mut self, key: &ItemKey, item: Item) -> Result<(), Error> {
        let seq = IdempotencyItem::read(item)?.seq;
        let newest = self.newest_reference.as_ref();
        if newest.is_none_or(|(_, newest)| seq > *newest) {
            self.newest_reference = Some((key.clone(), seq));
        }
        Ok(())
    }

    fn add_message(&mut self, key: &ItemKey, item: Item) -> Result<(), Error> {
        let message = MessageItem::read(item, self.id)?;
        let seq = message.seq.get();
        if seq > self.state.seq {
            // Either the message arrived after the state was read, or it is one too many. The
            // state that is read after all messages decides this.
            self.newest_unknown_seq = seq;
            return Ok(());
        }
        if seq != self.last_seq + 1 {
            let gap = missing_messages(self.last_seq + 1, seq - 1);
            self.unrepairable(key, gap);
            self.is_incomplete = true;
        }
        let created_at = message.created_at.millis();
        if created_at < self.last_created_at {
            let last_seq = self.last_seq;
            let description = format!("createdAt is earlier than that of message {last_seq}");
            self.unrepairable(key, description);
        }
        (self.last_seq, self.last_created_at) = (seq, created_at);
        let members = [self.id.low(), self.id.high()];
        for (unread, member) in self.unread.iter_mut().zip(members) {
            let (_, read_seq) = self.state.member(self.id, member);
            *unread += i64::from(message.sender != member && seq > read_seq);
        }
        Ok(())
    }

    /// Compares the sums with the state. `seq_now` is the chat's `seq` after all messages were read.
    fn finish(mut self, seq_now: u64) -> Vec<Violation> {
        self.compare_messages(seq_now);
        self.compare_members();
        self.compare_index_keys();
        self.violations
    }

    fn compare_messages(&mut self, seq_now: u64) {
        let key = ChatItem::key(self.id);
        let state = self.state;
        if self.last_seq < state.seq {
            self.unrepairable(&key, missing_messages(self.last_seq + 1, state.seq));
        }
        let newest = self.newest_unknown_seq;
        if newest > seq_now {
            let description = format!("seq is {seq_now}, but message {newest} exists");
            self.unrepairable(&key, description);
        }
        if let Some((key, seq)) = self.newest_reference.take()
            && seq > seq_now
        {
            let description = format!("refers to message {seq}, but seq is {seq_now}");
            self.unrepairable(&key, description);
        }
        let last_message_seq = state.last_message.as_ref().map_or(0, |last| last.seq);
        if last_message_seq != state.seq {
            self.unrepairable(&key, "lastMessage is not the last message");
        }
    }

    fn compare_members(&mut self) {
        let (id, state) = (self.id, self.state);
        let key = ChatItem::key(id);
        let is_complete = !self.is_incomplete && self.last_seq == state.seq;
        for (member, expected) in [id.low(), id.high()].into_iter().zip(self.unread) {
            let (unread_attribute, read_attribute) = ChatItem::member_attributes(id, member);
            let (actual, read_seq) = state.member(id, member);
            if read_seq > state.seq {
                let seq = state.seq;
                let description = format!("{read_attribute} is {read_seq}, greater than seq {seq}");
                self.unrepairable(&key, description);
            }
            if is_complete && actual != expected {
                let finding = Finding::Mismatch {
                    attribute: unread_attribute,
                    actual: Value::Number(actual),
                    expected: Value::Number(expected),
                    based_on: vec![
                        ("seq", Value::count(state.seq)),
                        (read_attribute, Value::count(read_seq)),
                    ],
                };
                self.violations.push(Violation::new(key.clone(), finding));
            }
        }
    }

    fn compare_index_keys(&mut self) {
        let state = self.state;
        for (attribute, actual, expected) in state.index_keys(self.id) {
            if *actual != expected {
                let finding = Finding::Mismatch {
                    attribute,
                    actual: Value::Text(actual.to_owned()),
                    expected: Value::Text(expected),
                    based_on: vec![
                        ("status", Value::Text(state.status.clone())),
                        ("requesterId", Value::count(state.requester_id)),
                        ("updatedAt", Value::count(state.updated_at)),
                    ],
                };
                self.violations
                    .push(Violation::new(ChatItem::key(self.id), finding));
            }
        }
    }

    fn unrepairable(&mut self, key: &ItemKey, description: impl Into<String>) {
        self.violations
            .push(Violation::unrepairable(key.clone(), description));
    }
}

fn missing_messages(first: u64, last: u64) -> String {
    if first == last {
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
