//! Changes of the messages of one chat.

use chat_shared::{
    domain::{ChatId, Rev, Seq},
    store::{
        ChangesStart, Store,
        items::{ChangeItem, ChatItem, Item, MessageItem, PreviousContentItem, TotalsItem},
        number,
    },
};

use super::{PAGE_SIZE, ScalingBenchmark, Section, new_text, powers_of_ten, with_key};
use crate::{
    Result,
    dataset::{chat_id, ensure},
};

/// The messages of the chat whose messages are changed again and again. They are fewer than a page has.
const CHANGED_AGAIN: u64 = 10;

/// A chat whose messages are changed in turn: change 1 is of message 1.
struct ChangedChat {
    id: ChatId,
    /// The number of messages that are changed. Then the first one is changed again.
    max_messages: u64,
    changes: u64,
    /// Message 1 after its first change.
    message: Item,
    /// The first change.
    change: Item,
    /// What message 1 contained before it.
    previous_content: Item,
}

impl ScalingBenchmark {
    /// Measures pages of changes in chats with up to `max` changes.
    pub(super) async fn measure_changes(&self, max: u64) -> Result<Section> {
        let mut once = self.start_changed_chat(chat_id(5, 6)?, max).await?;
        let mut again = self
            .start_changed_chat(chat_id(7, 8)?, CHANGED_AGAIN)
            .await?;
        let nothing = async || Ok(());
        let (mut first, mut middle, mut repeated) = (vec![], vec![], vec![]);
        for size in powers_of_ten(max).skip(1) {
            eprintln!("Listing {size} changes …");
            for chat in [&mut once, &mut again] {
                self.add_changes(chat, size).await?;
            }
            for (points, chat, after, available) in [
                (&mut first, once.id, 0, size),
                (&mut middle, once.id, size / 2, size / 2),
                (&mut repeated, again.id, 0, CHANGED_AGAIN),
            ] {
                let list = async |store: &Store| {
                    let start = ChangesStart(Rev::new(after));
                    let page = store.list_changes(chat, start, PAGE_SIZE).await?;
                    let expected = PAGE_SIZE.min(usize::try_from(available)?);
                    ensure(page.messages.len() == expected, "a page is not full")
                };
                points.push(self.measure(size, nothing, list).await?);
            }
        }
        Ok(Section {
            name: "changes",
            title: "A page of 15 changed messages",
            note: "A page contains each message once, at its last change. In the last series, 10 messages are \
                   changed again and again, and a client asks for all changes from the first one on. All of \
                   them are read, so the cost grows with them.",
            size: "changes of the chat",
            series: vec![
                ("first page", first),
                ("page from the middle on", middle),
                ("first page, 10 messages changed again", repeated),
            ],
        })
    }

    /// Starts a chat with one message that was edited.
    async fn start_changed_chat(&self, id: ChatId, max_messages: u64) -> Result<ChangedChat> {
        let (seq, rev) = (Seq::new(1), Rev::new(1));
        self.start_chat_with_message(id).await?;
        self.store()
            .edit_message(id.low(), id, Some(seq), &new_text(1))
            .await?;
        Ok(ChangedChat {
            id,
            max_messages,
            changes: 1,
            message: self.get(MessageItem::key(id, seq)).await?,
            change: self.get(ChangeItem::key(id, rev)).await?,
            previous_content: self.get(PreviousContentItem::key(id, seq, rev)).await?,
        })
    }

    /// Adds changes, and the messages that they change, until there are `to` changes. Nothing is read.
    async fn add_changes(&self, chat: &mut ChangedChat, to: u64) -> Result<()> {
        let id = chat.id;
        let revs = chat.changes + 1..=to;
        self.put_items(revs.flat_map(|rev| chat.items_of_change(rev, to)))
            .await?;
        chat.changes = to;
        let store = self.store();
        let reader = id.high();
        let (unread, _) = ChatItem::member_attributes(id, reader);
        let messages = chat.max_messages.min(to);
        let chat_update = store.update(
            ChatItem::key(id),
            &format!("SET rev = :rev, seq = :seq, lastMessage.seq = :seq, {unread} = :seq"),
            None,
            &[],
            vec![(":rev", number(to)), (":seq", number(messages))],
        );
        // The reader has only this chat, so its shard contains the reader's whole total.
        let totals_update = store.update(
            TotalsItem::key(reader, id),
            "SET unread = :unread",
            None,
            &[],
            vec![(":unread", number(messages))],
        );
        let written = store.transact(vec![chat_update, totals_update]).await?;
        written.map_err(|_| "the chat and the totals could not be updated".into())
    }
}

impl ChangedChat {
    /// The items of the change `rev` in a chat with `changes` changes.
    fn items_of_change(&self, rev: u64, changes: u64) -> Vec<Item> {
        let seq = (rev - 1) % self.max_messages + 1;
        let (seq_key, rev_key) = (Seq::new(seq), Rev::new(rev));
        let mut change = with_key(&self.change, ChangeItem::key(self.id, rev_key));
        change.insert("seq".to_owned(), number(seq));
        let previous_key = PreviousContentItem::key(self.id, seq_key, rev_key);
        let mut items = vec![change, with_key(&self.previous_content, previous_key)];
        // A message that is changed again later has a later version.
        if rev + self.max_messages > changes {
            let mut message = with_key(&self.message, MessageItem::key(self.id, seq_key));
            message.insert("rev".to_owned(), number(rev));
            items.push(message);
        }
        items
    }
}
