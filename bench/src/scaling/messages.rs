//! Messages of one chat: pages at different depths, marking as read, and calls on one message or one chat.

use std::cell::Cell;

use chat_shared::{
    domain::{ChatId, Seq},
    store::{
        MessagePageStart, Store,
        items::{ChatItem, Item, MessageItem, TotalsItem},
        number,
    },
};

use super::{PAGE_SIZE, ScalingBenchmark, Section, new_text, powers_of_ten, with_key};
use crate::{
    Result,
    dataset::{chat_id, ensure},
};

/// Messages beyond the maximum, so that a page at the maximum depth is full.
const MORE_MESSAGES: u64 = 100;
/// Numbers of messages after the last one that is marked. The API's maximum is the last one.
const REMAINING: [u64; 4] = [0, 10, 100, 1_000];
/// Unread messages that are marked before those that remain.
const MARKED: u64 = 10;

impl ScalingBenchmark {
    /// Measures one chat with `max` messages and one that grows to `max` messages.
    pub(super) async fn measure_messages(&self, max: u64) -> Result<Vec<Section>> {
        let mut sections = self.measure_large_chat(max).await?;
        sections.push(self.measure_growing_chat(max).await?);
        Ok(sections)
    }

    async fn measure_large_chat(&self, max: u64) -> Result<Vec<Section>> {
        let chat = chat_id(1, 2)?;
        let reader = chat.high();
        let count = max + MORE_MESSAGES;
        eprintln!("Filling a chat with {count} messages …");
        let first = self.start_chat_with_message(chat).await?;
        self.add_messages(chat, &first, 1, count).await?;
        let nothing = async || Ok(());
        let mut pages = Vec::new();
        for skip in std::iter::once(0).chain(powers_of_ten(max)) {
            eprintln!("Listing messages at skip {skip} …");
            let list = async |store: &Store| {
                let start = MessagePageStart::Skip(skip);
                let page = store.list_messages(chat, start, PAGE_SIZE).await?;
                ensure(page.messages.len() == PAGE_SIZE, "a page is not full")
            };
            pages.push(self.measure(skip, nothing, list).await?);
        }
        let mut marks = Vec::new();
        for unread in powers_of_ten(max) {
            eprintln!("Marking {unread} messages as read …");
            let prepare = async || self.set_unread(chat, count, unread).await;
            let mark =
                async |store: &Store| Ok(store.mark_messages_read(reader, chat, None).await?);
            marks.push(self.measure(unread, prepare, mark).await?);
        }
        let mut partial_marks = Vec::new();
        for remaining in REMAINING {
            eprintln!("Marking messages as read except the last {remaining} …");
            let prepare = async || self.set_unread(chat, count, remaining + MARKED).await;
            let mark = async |store: &Store| {
                let last = Seq::new(count - remaining);
                Ok(store.mark_messages_read(reader, chat, Some(last)).await?)
            };
            partial_marks.push(self.measure(remaining, prepare, mark).await?);
        }
        Ok(vec![
            Section {
                name: "messages",
                title: "A page of 15 messages",
                note: "",
                size: "skip",
                series: vec![("list", pages)],
            },
            Section {
                name: "mark-read",
                title: "Mark all messages as read",
                note: "",
                size: "unread messages",
                series: vec![("mark", marks)],
            },
            Section {
                name: "mark-up-to",
                title: "Mark messages as read up to one of them",
                note: "This request counts the messages after the given one, so its cost grows with their number. \
                       The maximum is 1,000.",
                size: "messages after it",
                series: vec![("mark", partial_marks)],
            },
        ])
    }

    /// Measures calls that do not read pages. The chat grows, and its messages change in between.
    async fn measure_growing_chat(&self, max: u64) -> Result<Section> {
        let chat = chat_id(3, 4)?;
        let sender = chat.low();
        let first = self.start_chat_with_message(chat).await?;
        let mut messages = 1;
        let edits = Cell::new(0);
        // The first message stays as it is, because the others are copies of it.
        let last_deleted = Cell::new(1);
        let nothing = async || Ok(());
        let (mut reads, mut edit_points, mut deletion_points) = (vec![], vec![], vec![]);
        for size in powers_of_ten(max).skip(1) {
            eprintln!("Changing messages of a chat with {size} messages …");
            self.add_messages(chat, &first, messages, size).await?;
            messages = size;
            let read = async |store: &Store| {
                let state = store.get_chat(chat).await?;
                ensure(state.seq() == Seq::new(size), "the chat is not up to date")
            };
            reads.push(self.measure(size, nothing, read).await?);
            let edit = async |store: &Store| {
                edits.set(edits.get() + 1);
                let seq = Some(Seq::new(size - 1));
                store
                    .edit_message(sender, chat, seq, &new_text(edits.get()))
                    .await?;
                Ok(())
            };
            edit_points.push(self.measure(size, nothing, edit).await?);
            // Each repetition deletes another message.
            let repetitions = self.repetitions.min(u32::try_from(size / 2)?);
            let delete = async |store: &Store| {
                last_deleted.set(last_deleted.get() + 1);
                let seq = Some(Seq::new(last_deleted.get()));
                store.delete_message(sender, chat, seq).await?;
                Ok(())
            };
            let point = self.measure_repeatedly(repetitions, size, nothing, delete);
            deletion_points.push(point.await?);
        }
        Ok(Section {
            name: "one-chat",
            title: "One chat, and changes of its messages",
            note: "The deleted messages are unread.",
            size: "messages of the chat",
            series: vec![
                ("get the chat", reads),
                ("edit a message", edit_points),
                ("delete a message", deletion_points),
            ],
        })
    }

    /// Adds copies of the first message to a chat that has `from` messages, until it has `to`. They are unread.
    async fn add_messages(&self, chat: ChatId, first: &Item, from: u64, to: u64) -> Result<()> {
        let copies =
            (from + 1..=to).map(|seq| with_key(first, MessageItem::key(chat, Seq::new(seq))));
        self.put_items(copies).await?;
        let store = self.store();
        let reader = chat.high();
        let (unread, _) = ChatItem::member_attributes(chat, reader);
        let new = number(to - from);
        let chat_update = store.update(
            ChatItem::key(chat),
            &format!("SET seq = :seq, lastMessage.seq = :seq, {unread} = {unread} + :new"),
            None,
            &[],
            vec![(":seq", number(to)), (":new", new.clone())],
        );
        let totals_update = store.update(
            TotalsItem::key(reader, chat),
            "SET unread = unread + :new",
            None,
            &[],
            vec![(":new", new)],
        );
        let written = store.transact(vec![chat_update, totals_update]).await?;
        written.map_err(|_| "the chat and the totals could not be updated".into())
    }

    /// Sets how many of `count` messages are unread. None of them is deleted.
    async fn set_unread(&self, chat: ChatId, count: u64, unread: u64) -> Result<()> {
        let store = self.store();
        let reader = chat.high();
        let (unread_attribute, read_seq_attribute) = ChatItem::member_attributes(chat, reader);
        let chat_update = store.update(
            ChatItem::key(chat),
            &format!("SET {unread_attribute} = :unread, {read_seq_attribute} = :readSeq"),
            None,
            &[],
            vec![
                (":unread", number(unread)),
                (":readSeq", number(count - unread)),
            ],
        );
        // The reader has only this chat, so its shard contains the reader's whole total.
        let totals_update = store.update(
            TotalsItem::key(reader, chat),
            "SET unread = :unread",
            None,
            &[],
            vec![(":unread", number(unread))],
        );
        let written = store.transact(vec![chat_update, totals_update]).await?;
        written.map_err(|_| "the chat and the totals could not be updated".into())
    }
}
