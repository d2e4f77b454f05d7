//! Executes the steps of a schedule with the real store, as the functions do, and adds up their units.
//!
//! The store gets the time of each step as a parameter, so the result does not depend on the speed of the machine.
//! Steps are executed one after another, so no transactions conflict here. [`super::keys::ConflictCounter`] counts
//! conflicts from the times in the schedule.
//!
//! With live events, each change of a chat is followed by the reads of `push-events`: the connections and totals of
//! each member who gets the event, and the message if somebody is connected and the preview is not the whole message.
//! These are the functions of the store that `shared/src/realtime/push.rs` calls. Each change is a batch of its own,
//! which is the maximum cost. Frames are counted, not sent.

use std::collections::HashMap;

use chat_shared::{
    domain::{ChatEvent, ChatId, ContentChange, Message, MessageContent, Rev, Seq, UserId},
    store::{
        ChangesStart, ChatList, ChatPageStart, Connection, FrameAdmission, IdempotencyKey,
        MessagePageStart, SendOutcome, Store, TableClient,
        items::{ChatItem, ItemKey, OpenRequestsItem, TotalsItem},
    },
};

use super::{
    TOKEN_LIFETIME, chat_ids, float,
    keys::{Key, KeyLoads, Units},
    load::{Call, Calls},
    message_key,
    model::Mode,
    population::SimulatedChat,
    schedule::{Action, Step},
    time, user_ids,
};
use crate::Result;

/// The API's default for `limit`.
const PAGE_SIZE: usize = 15;
/// The progress is printed after this many steps.
const PROGRESS_INTERVAL: usize = 20_000;
/// The text of an edited message.
const EDITED_TEXT: &str = "This is what I wanted to say before.";

/// The clients of all users.
pub struct Clients<'a> {
    table: &'a TableClient,
    mode: Mode,
    users: Vec<UserId>,
    chats: &'a [SimulatedChat],
    chat_ids: Vec<ChatId>,
    /// Steps before this time are executed but not counted.
    counted_from: u64,
    /// The copy of a chat that each client has.
    known: HashMap<(usize, usize), Known>,
    /// The `seq` of each sent message.
    sent: HashMap<usize, Seq>,
    /// The connections that are open.
    connections: HashMap<usize, String>,
    calls: Calls,
    keys: KeyLoads,
}

/// How much of a chat a client has loaded.
#[derive(Clone, Copy)]
struct Known {
    seq: Seq,
    rev: Rev,
}

/// The keys that an operation reads and writes.
struct Touched {
    /// The partition that gets all reads, and the writes that no other key gets.
    main: Key,
    /// Write units of other partitions, if the operation writes.
    others: Vec<(Key, f64)>,
    /// The items that the transaction locks, if the operation writes.
    items: Vec<ItemKey>,
}

impl From<Key> for Touched {
    fn from(main: Key) -> Self {
        Self {
            main,
            others: Vec::new(),
            items: Vec::new(),
        }
    }
}

impl<'a> Clients<'a> {
    /// Creates the clients of `users` users. `counted_from` is in milliseconds since midnight.
    pub fn new(
        table: &'a TableClient,
        mode: Mode,
        (users, chats): (usize, &'a [SimulatedChat]),
        counted_from: u64,
    ) -> Result<Self> {
        let users = user_ids(users)?;
        Ok(Self {
            table,
            mode,
            chat_ids: chat_ids(&users, chats)?,
            users,
            chats,
            counted_from,
            known: HashMap::new(),
            sent: HashMap::new(),
            connections: HashMap::new(),
            calls: Calls::new(),
            keys: KeyLoads::default(),
        })
    }

    /// Executes all steps of this mode. Returns the operations and the load of each key. The futures of the steps are
    /// large, so they are boxed.
    pub async fn run(mut self, actions: &[Action]) -> Result<(Calls, KeyLoads)> {
        let actions = actions.iter().filter(|action| action.step.is_of(self.mode));
        let actions: Vec<_> = actions.copied().collect();
        let _ = self.table.drain_usage();
        for (number, action) in actions.iter().enumerate() {
            if number % PROGRESS_INTERVAL == 0 {
                eprintln!("{}: step {number} of {} …", self.mode.name(), actions.len());
            }
            let taken = Box::pin(self.take(*action));
            taken
                .await
                .map_err(|error| format!("{action:?}: {error}"))?;
        }
        Ok((self.calls, self.keys))
    }

    fn store(&self, at: u64) -> Store {
        self.table.store_at(time(at))
    }

    /// Executes a step. [`Self::take_change`] executes those that change a chat.
    async fn take(&mut self, action: Action) -> Result<()> {
        let Action { at, user, step } = action;
        let (store, id) = (self.store(at), self.users[user]);
        match step {
            Step::Totals => {
                store.totals(id).await?;
                self.count(at, Call::Totals, Key::User(id));
            }
            Step::PollBadge => {
                store.totals(id).await?;
                self.count(at, Call::PollBadge, Key::User(id));
            }
            Step::ListChats => self.list_chats(at, user).await?,
            Step::OpenChat(chat) => {
                let start = MessagePageStart::Skip(0);
                let page = store.list_messages(self.chat_ids[chat], start, PAGE_SIZE);
                let chat_now = page.await?.chat;
                self.count(at, Call::OpenChat, Key::Chat(chat_now.id));
                let known = Known {
                    seq: chat_now.seq(),
                    rev: chat_now.rev(),
                };
                self.known.insert((user, chat), known);
            }
            Step::PollChat(chat) => self.poll_chat(at, user, chat).await?,
            Step::OpenConnection => {
                let connection = Connection {
                    id: format!("{at:09}{user:06}="),
                    connected_at: time(at),
                    token_expires_at: time(at) + TOKEN_LIFETIME,
                };
                store.open_connection(id, &connection).await?;
                self.count(at, Call::OpenConnection, Key::User(id));
                self.connections.insert(user, connection.id);
            }
            Step::CloseConnection => {
                if let Some(connection) = self.connections.remove(&user) {
                    store.delete_connection(id, &connection).await?;
                    self.count(at, Call::CloseConnection, Key::User(id));
                }
            }
            Step::Sync => {
                if self.admit_frame(&store, user).await? {
                    store.totals(id).await?;
                    self.count(at, Call::Sync, Key::User(id));
                    self.count_frames(at, Call::Sync, 2);
                    self.list_chats(at, user).await?;
                }
            }
            Step::Typing(chat) => {
                if self.admit_frame(&store, user).await? {
                    store.chat_for_typing(self.chat_ids[chat]).await?;
                    let peer = self.users[self.chats[chat].peer_of(user)];
                    let receivers = store.connections(peer).await?.len();
                    self.count(at, Call::Typing, Key::User(id));
                    self.count_frames(at, Call::Typing, 1 + receivers);
                }
            }
            _ => Box::pin(self.take_change(action, &store)).await?,
        }
        Ok(())
    }

    async fn list_chats(&mut self, at: u64, user: usize) -> Result<()> {
        let id = self.users[user];
        let start = ChatPageStart::Skip(0);
        let store = self.store(at);
        store
            .list_chats(id, ChatList::Active, start, PAGE_SIZE)
            .await?;
        self.count(at, Call::ListChats, Key::Rows(id));
        Ok(())
    }

    /// Reads the chat, and then its new messages and changes.
    async fn poll_chat(&mut self, at: u64, user: usize, chat: usize) -> Result<()> {
        let (store, id) = (self.store(at), self.chat_ids[chat]);
        let chat_now = store.get_chat(id).await?;
        self.count(at, Call::PollChat, Key::Chat(id));
        let Some(mut known) = self.known.get(&(user, chat)).copied() else {
            return Ok(());
        };
        if chat_now.seq() > known.seq {
            let start = MessagePageStart::After(known.seq);
            let page = store.list_messages(id, start, PAGE_SIZE).await?;
            self.count(at, Call::LoadNew, Key::Chat(id));
            known.seq = page.chat.seq();
        }
        if chat_now.rev() > known.rev {
            let start = ChangesStart(known.rev);
            let page = store.list_changes(id, start, PAGE_SIZE).await?;
            self.count(at, Call::LoadChanges, Key::Chat(id));
            known.rev = page.chat.rev();
        }
        self.known.insert((user, chat), known);
        Ok(())
    }

    /// Counts a frame for the rate limit. False if the client's connection is from before the simulation.
    async fn admit_frame(&self, store: &Store, user: usize) -> Result<bool> {
        let Some(connection) = self.connections.get(&user) else {
            return Ok(false);
        };
        let admission = store
            .admit_frame(self.users[user], connection, true)
            .await?;
        if admission == FrameAdmission::Admitted {
            Ok(true)
        } else {
            Err(format!("the frame was not handled: {admission:?}").into())
        }
    }

    async fn take_change(&mut self, action: Action, store: &Store) -> Result<()> {
        let Action { at, user, step } = action;
        let id = self.users[user];
        match step {
            Step::Mark(chat) => self.mark(at, user, chat, store).await,
            Step::Send {
                chat,
                message,
                length,
            } => self.send(at, user, chat, (message, length)).await,
            Step::Edit { chat, message } => {
                let Some(seq) = self.sent.get(&message).copied() else {
                    return Ok(());
                };
                let change = ContentChange {
                    text: Some(Some(EDITED_TEXT.to_owned())),
                    ..ContentChange::default()
                };
                let edit = store.edit_message(id, self.chat_ids[chat], Some(seq), &change);
                let message = edit.await?.message;
                self.changed(at, user, chat, (Call::Edit, &message)).await
            }
            Step::Delete { chat, message } => {
                let Some(seq) = self.sent.get(&message).copied() else {
                    return Ok(());
                };
                let delete = store.delete_message(id, self.chat_ids[chat], Some(seq));
                let message = delete.await?.message;
                self.changed(at, user, chat, (Call::Delete, &message)).await
            }
            Step::Request(chat) => {
                store.request_chat(id, self.chat_ids[chat]).await?;
                self.requested(at, user, chat, (Call::Request, ChatEvent::Requested))
                    .await
            }
            Step::Accept(chat) => {
                store.accept_chat(id, self.chat_ids[chat]).await?;
                let requester = self.chats[chat].peer_of(user);
                self.requested(at, requester, chat, (Call::Accept, ChatEvent::Accepted))
                    .await
            }
            Step::Block(chat) => {
                store.block_user(id, self.chat_ids[chat]).await?;
                let touched = self.touches_state(chat, 1.0);
                self.count(at, Call::Block, touched);
                let event = ChatEvent::BlockChanged { by: id };
                self.push(at, chat, event, None).await
            }
            _ => Err("not a change of a chat".into()),
        }
    }

    async fn mark(&mut self, at: u64, user: usize, chat: usize, store: &Store) -> Result<()> {
        let Some(known) = self.known.get(&(user, chat)).copied() else {
            return Ok(());
        };
        let (id, chat_id) = (self.users[user], self.chat_ids[chat]);
        store
            .mark_messages_read(id, chat_id, Some(known.seq))
            .await?;
        let mut touched = self.touches_state(chat, 1.0);
        touched.others.push((Key::User(id), 2.0));
        touched.items.push(TotalsItem::key(id, chat_id));
        if self.count(at, Call::Mark, touched) {
            self.push(at, chat, ChatEvent::Read, None).await?;
        }
        Ok(())
    }

    async fn send(
        &mut self,
        at: u64,
        user: usize,
        chat: usize,
        (message, length): (usize, usize),
    ) -> Result<()> {
        let (id, chat_id) = (self.users[user], self.chat_ids[chat]);
        let content = MessageContent::new(Some("x".repeat(length)), None, None)?;
        let key: IdempotencyKey = message_key(message).parse()?;
        let store = self.store(at);
        let outcome = store.send_message(id, chat_id, content, Some(&key)).await?;
        let SendOutcome::Sent(sent) = outcome else {
            return Err("the message was sent before".into());
        };
        self.sent.insert(message, sent.seq);
        self.learn_message(user, chat, sent.seq);
        let peer = chat_id.peer_of(id);
        // The place of the chat changes in the lists of both.
        let mut touched = self.touches_state(chat, 2.0);
        touched.others.push((Key::User(peer), 2.0));
        touched.items.push(TotalsItem::key(peer, chat_id));
        self.count(at, Call::Send, touched);
        self.push(at, chat, ChatEvent::MessageCreated(sent.seq), Some(&sent))
            .await
    }

    /// Counts an edit or a deletion of a user's own message.
    async fn changed(
        &mut self,
        at: u64,
        user: usize,
        chat: usize,
        (call, message): (Call, &Message),
    ) -> Result<()> {
        self.learn_change(user, chat, message.rev);
        let touched = self.touches_state(chat, 1.0);
        if self.count(at, call, touched) {
            self.push(at, chat, ChatEvent::MessageChanged(message.rev), None)
                .await?;
        }
        Ok(())
    }

    /// Counts a request of `requester`, or its acceptance.
    async fn requested(
        &mut self,
        at: u64,
        requester: usize,
        chat: usize,
        (call, event): (Call, ChatEvent),
    ) -> Result<()> {
        let chat_id = self.chat_ids[chat];
        let requester = self.users[requester];
        let recipient = chat_id.peer_of(requester);
        // A request adds a row to each index, and its acceptance moves them.
        let mut touched = self.touches_state(chat, if call == Call::Request { 1.0 } else { 2.0 });
        for user in [requester, recipient] {
            touched.others.push((Key::User(user), 2.0));
        }
        touched.items.push(OpenRequestsItem::key(requester));
        touched.items.push(TotalsItem::key(recipient, chat_id));
        self.count(at, call, touched);
        self.push(at, chat, event, None).await
    }

    /// The keys that a change of a chat writes: its partition, its state, and the rows of both members, with this many
    /// write units in the indexes for each member.
    fn touches_state(&self, chat: usize, index_units: f64) -> Touched {
        let id = self.chat_ids[chat];
        let members = [id.low(), id.high()];
        Touched {
            main: Key::Chat(id),
            others: members
                .map(|member| (Key::Rows(member), index_units))
                .into(),
            items: vec![ChatItem::key(id)],
        }
    }

    /// Reads what `push-events` reads for the event of a change, and counts the frames that it sends.
    async fn push(
        &mut self,
        at: u64,
        chat: usize,
        event: ChatEvent,
        sent: Option<&Message>,
    ) -> Result<()> {
        if self.mode != Mode::Live {
            return Ok(());
        }
        let (store, chat_id) = (self.store(at), self.chat_ids[chat]);
        let is_told = |user: UserId| match event {
            ChatEvent::BlockChanged { by } => user == by,
            _ => true,
        };
        let (mut frames, mut receivers) = (0, Vec::new());
        for member in self.chats[chat].members {
            let id = self.users[member];
            if is_told(id) {
                let (connections, _) = store.connections_and_totals(id).await?;
                frames += connections.len();
                if !connections.is_empty() {
                    receivers.push(member);
                }
                let units = self.drain(at, Call::Push);
                self.add(at, Key::User(id), units);
            }
        }
        if !receivers.is_empty() {
            match event {
                ChatEvent::MessageCreated(seq) => {
                    let preview = sent.map(Message::preview);
                    if preview.is_none_or(|preview| preview.whole_message(chat_id).is_none()) {
                        store.wait_for_message(chat_id, seq).await?;
                    }
                }
                ChatEvent::MessageChanged(rev) => {
                    store.changed_message(chat_id, rev).await?;
                }
                _ => {}
            }
        }
        let units = self.drain(at, Call::Push);
        self.add(at, Key::Chat(chat_id), units);
        if at >= self.counted_from {
            self.calls.entry(Call::Push).or_default().calls += 1.0;
        }
        self.count_frames(at, Call::Push, frames);
        for receiver in receivers {
            match event {
                ChatEvent::MessageCreated(seq) => self.learn_message(receiver, chat, seq),
                ChatEvent::MessageChanged(rev) => self.learn_change(receiver, chat, rev),
                _ => {}
            }
        }
        Ok(())
    }

    /// A client gets a message, and keeps it if it is the next one.
    fn learn_message(&mut self, user: usize, chat: usize, seq: Seq) {
        if let Some(known) = self.known.get_mut(&(user, chat))
            && known.seq.next() == seq
        {
            known.seq = seq;
        }
    }

    /// A client gets a change, and keeps it if it is the next one.
    fn learn_change(&mut self, user: usize, chat: usize, rev: Rev) {
        if let Some(known) = self.known.get_mut(&(user, chat))
            && known.rev.next() == rev
        {
            known.rev = rev;
        }
    }

    /// Counts an operation with all units since the previous one. Returns whether it has written something.
    fn count(&mut self, at: u64, call: Call, touched: impl Into<Touched>) -> bool {
        let Touched {
            main,
            others,
            items,
        } = touched.into();
        let mut units = self.drain(at, call);
        let has_written = units.write > 0.0;
        if at >= self.counted_from {
            self.calls.entry(call).or_default().calls += 1.0;
        }
        if has_written {
            for (key, write) in others {
                units.write -= write;
                let written = Units {
                    write,
                    ..Units::default()
                };
                self.add(at, key, written);
            }
            for item in items {
                self.add(at, Key::Item(item), Units::TRANSACTION);
            }
        }
        self.add(at, main, units);
        has_written
    }

    /// Adds all units since the previous operation to a kind of operation.
    fn drain(&mut self, at: u64, call: Call) -> Units {
        let usage = self.table.drain_usage();
        if at >= self.counted_from {
            let load = self.calls.entry(call).or_default();
            load.write_units += usage.write_units;
            load.read_units += usage.read_units;
        }
        Units {
            write: usage.write_units,
            read: usage.read_units,
            transactions: 0.0,
        }
    }

    /// Adds units to a key.
    fn add(&mut self, at: u64, key: Key, units: Units) {
        if at >= self.counted_from {
            self.keys.add(at, key, units);
        }
    }

    fn count_frames(&mut self, at: u64, call: Call, frames: usize) {
        if at >= self.counted_from {
            self.calls.entry(call).or_default().frames += float(frames);
        }
    }
}
