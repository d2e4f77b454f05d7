//! The schedule of a day: the steps of each user, to the millisecond. It depends only on the model, the number of
//! users and the seed.
//!
//! Sessions begin at random times that follow the daily curve. In a session, a user opens two chats and sends
//! messages. Some messages bring the recipient back to the app within seconds. So there are live conversations, in
//! which both members have the chat on the screen.
//!
//! The schedule keeps count of the unread messages of each chat, because users prefer chats with unread messages. It
//! contains the steps of both modes: [`Step::is_of`] selects those of a client.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap},
};

use fastrand::Rng;

use super::{
    float,
    model::{Mode, Model},
    population::{Population, SimulatedChat, Status, Weights},
    round,
};

/// The time from the start of a session that answers a message until its chat is opened.
const ANSWER_OPENS_CHAT_AFTER: u64 = 1_000;
/// The maximum time from a message until its recipient opens the app to answer it. The minimum is 2 seconds.
const MAX_ANSWER_DELAY: u64 = 10_000;
/// The time until a message that arrives in a chat on the screen is marked as read. It is longer than the time
/// between two polls, so that a client that polls has loaded the message.
const READING_TIME: u64 = 3_500;
/// The time between two `typing` frames.
const TYPING_INTERVAL: u64 = 3_000;
/// The maximum number of attempts to find a chat without unread messages.
const MAX_DRAWS: u32 = 8;

/// An action of a user that the service can see. Chats are numbered as in [`Population::chats`], and messages in the
/// order in which they are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    OpenConnection,
    CloseConnection,
    Sync,
    Typing(usize),
    Totals,
    ListChats,
    PollBadge,
    /// Opens a chat: loads its newest messages.
    OpenChat(usize),
    PollChat(usize),
    /// Marks all messages as read that the client has loaded.
    Mark(usize),
    Send {
        chat: usize,
        message: usize,
        length: usize,
    },
    Edit {
        chat: usize,
        message: usize,
    },
    Delete {
        chat: usize,
        message: usize,
    },
    Request(usize),
    Accept(usize),
    Block(usize),
}

impl Step {
    /// Whether clients of this mode take the step.
    pub fn is_of(self, mode: Mode) -> bool {
        match self {
            Self::PollBadge | Self::PollChat(_) => mode == Mode::Polling,
            Self::OpenConnection | Self::CloseConnection | Self::Sync | Self::Typing(_) => {
                mode == Mode::Live
            }
            _ => true,
        }
    }
}

/// A step of a user at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Action {
    /// Milliseconds since midnight.
    pub at: u64,
    pub user: usize,
    pub step: Step,
}

/// A day, or a part of one.
pub struct Schedule {
    /// The actions that were kept, in the order of time.
    pub actions: Vec<Action>,
    /// The users and chats at the end of the day.
    pub population: Population,
    /// The chats at the time of the snapshot.
    pub snapshot: Vec<SimulatedChat>,
}

/// Something that happens later in the day and depends on what has happened until then.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    OpenApp {
        user: usize,
        /// The chat with the message that the user answers.
        answer: Option<usize>,
    },
    OpenChat {
        user: usize,
        /// `None`: the user chooses.
        chat: Option<usize>,
    },
    CloseChat {
        user: usize,
        chat: usize,
    },
    Send {
        user: usize,
        chat: usize,
    },
    Change {
        user: usize,
        chat: usize,
        message: usize,
        deletes: bool,
    },
    Mark {
        user: usize,
        chat: usize,
        /// Whether the user has seen the messages only if the chat is still on the screen.
        needs_open_chat: bool,
    },
}

struct Generator<'a> {
    model: &'a Model,
    rng: Rng,
    population: Population,
    messages_per_chat: Weights,
    /// Events by time. Those of the same millisecond are in the order in which they were planned.
    queue: BinaryHeap<Reverse<(u64, usize, Event)>>,
    planned: usize,
    /// When the session of each user ends.
    busy_until: Vec<u64>,
    /// The chat that each user has on the screen.
    on_screen: Vec<Option<usize>>,
    /// Users whose session with an answer is planned.
    answering: BTreeSet<usize>,
    /// The chats of each user with unread messages.
    unread: Vec<Vec<usize>>,
    /// The requests that each user has received and not accepted.
    requests: Vec<Vec<usize>>,
    /// The number of messages that should have been answered so far and were not.
    due_answers: f64,
    messages: usize,
    keep: &'a dyn Fn(&Action) -> bool,
    actions: Vec<Action>,
}

/// Generates a day of `users` active users, and keeps the actions that `keep` selects. `snapshot_at` is in
/// milliseconds since midnight.
pub fn generate(
    model: &Model,
    users: usize,
    seed: u64,
    snapshot_at: u64,
    keep: &dyn Fn(&Action) -> bool,
) -> Schedule {
    let mut rng = Rng::with_seed(seed);
    let population = Population::new(model, users, &mut rng);
    let mut unread = vec![Vec::new(); users];
    for (index, chat) in population.chats.iter().enumerate() {
        for (member, count) in chat.members.into_iter().zip(chat.unread) {
            if count > 0 {
                unread[member].push(index);
            }
        }
    }
    let generator = Generator {
        model,
        rng,
        population,
        messages_per_chat: Weights::new(model.messages),
        queue: BinaryHeap::new(),
        planned: 0,
        busy_until: vec![0; users],
        on_screen: vec![None; users],
        answering: BTreeSet::new(),
        unread,
        requests: vec![Vec::new(); users],
        due_answers: 0.0,
        messages: 0,
        keep,
        actions: Vec::new(),
    };
    generator.generate(snapshot_at)
}

impl Generator<'_> {
    fn generate(mut self, snapshot_at: u64) -> Schedule {
        self.plan_own_sessions();
        let mut snapshot = None;
        while let Some(Reverse((at, _, event))) = self.queue.pop() {
            if at >= snapshot_at && snapshot.is_none() {
                snapshot = Some(self.population.chats.clone());
            }
            self.handle(at, event);
        }
        self.actions.sort_by_key(|action| action.at);
        Schedule {
            actions: self.actions,
            snapshot: snapshot.unwrap_or_else(|| self.population.chats.clone()),
            population: self.population,
        }
    }

    /// Plans the sessions that no message causes. Their times are spread evenly over the curve, so that a small
    /// number of users has the same busiest hour as a large one.
    fn plan_own_sessions(&mut self) {
        let users = self.busy_until.len();
        let count = round(float(users) * self.model.own_sessions());
        let mut sessions: Vec<_> = (0..users).cycle().take(count).collect();
        self.rng.shuffle(&mut sessions);
        for (number, user) in sessions.into_iter().enumerate() {
            let share = (float(number) + self.rng.f64()) / float(count);
            let at = self.model.time_of_day(share);
            self.plan(at, Event::OpenApp { user, answer: None });
        }
    }

    fn plan(&mut self, at: u64, event: Event) {
        self.planned += 1;
        self.queue.push(Reverse((at, self.planned, event)));
    }

    fn act(&mut self, at: u64, user: usize, step: Step) {
        let action = Action { at, user, step };
        if (self.keep)(&action) {
            self.actions.push(action);
        }
    }

    /// Decides at random whether something that happens `per_day` times a day happens in this session.
    fn happens(&mut self, per_day: f64) -> bool {
        self.rng.f64() < per_day / self.model.sessions
    }

    fn handle(&mut self, at: u64, event: Event) {
        match event {
            Event::OpenApp { user, answer } => self.open_app(at, user, answer),
            Event::OpenChat { user, chat } => self.open_chat(at, user, chat),
            Event::CloseChat { user, chat } => {
                if self.on_screen[user] == Some(chat) {
                    self.on_screen[user] = None;
                }
            }
            Event::Send { user, chat } => self.send(at, user, chat),
            Event::Change {
                user,
                chat,
                message,
                deletes,
            } => self.change(at, user, (chat, message), deletes),
            Event::Mark {
                user,
                chat,
                needs_open_chat,
            } => {
                if !needs_open_chat || self.on_screen[user] == Some(chat) {
                    self.mark(at, user, chat);
                }
            }
        }
    }

    fn open_app(&mut self, at: u64, user: usize, answer: Option<usize>) {
        if self.busy_until[user] > at {
            // The app is open. The next session begins when this one has ended.
            self.plan(
                self.busy_until[user] + 1_000,
                Event::OpenApp { user, answer },
            );
            return;
        }
        if answer.is_some() {
            self.answering.remove(&user);
        }
        let length = self.model.session_seconds * 1_000;
        let end = at + length;
        self.busy_until[user] = end;
        self.act(at, user, Step::OpenConnection);
        self.act(at + 50, user, Step::Totals);
        self.act(at + 100, user, Step::ListChats);
        self.act(end, user, Step::CloseConnection);
        self.use_rare_features(at, user);
        if self.happens(self.model.syncs) {
            self.act(at + length * 2 / 3, user, Step::Sync);
        }

        let first = if answer.is_some() {
            at + ANSWER_OPENS_CHAT_AFTER
        } else {
            at + self.rng.u64(5_000..15_000)
        };
        let second = at + length / 2 - self.rng.u64(0..10_000);
        self.plan(first, Event::OpenChat { user, chat: answer });
        self.plan(second, Event::OpenChat { user, chat: None });

        let badge_interval = self.model.badge_seconds * 1_000;
        let first_poll = at + self.rng.u64(0..badge_interval);
        let in_a_chat = |time: u64| {
            let in_chat =
                |opened: u64| (opened..opened + self.model.chat_seconds * 1_000).contains(&time);
            in_chat(first) || in_chat(second)
        };
        let times: Vec<_> =
            std::iter::successors(Some(first_poll), |time| Some(time + badge_interval))
                .take_while(|time| *time < end)
                .filter(|time| !in_a_chat(*time))
                .collect();
        for time in times {
            self.act(time, user, Step::PollBadge);
        }
    }

    /// Accepts a request, and sometimes sends one or blocks somebody.
    fn use_rare_features(&mut self, at: u64, user: usize) {
        if let Some(chat) = self.requests[user].pop() {
            self.population.accept(chat);
            // Later than the request, which another user may have sent in the same millisecond.
            self.act(at + 500, user, Step::Accept(chat));
        }
        if self.happens(self.model.requests) {
            let peer = self.population.random_user(&mut self.rng);
            let chat = self.population.add_chat(user, peer, Status::Requested);
            if let Some(chat) = chat {
                self.requests[peer].push(chat);
                self.act(at + 200, user, Step::Request(chat));
            }
        }
        if self.happens(self.model.blocks) {
            let chat = self.rng.choice(&self.population.chats_of[user]).copied();
            if let Some(chat) = chat.filter(|chat| self.is_open(*chat)) {
                self.population.chats[chat].status = Status::Blocked;
                for member in self.population.chats[chat].members {
                    self.unread[member].retain(|unread| *unread != chat);
                }
                self.act(at + 300, user, Step::Block(chat));
            }
        }
    }

    fn is_open(&self, chat: usize) -> bool {
        self.population.chats[chat].status == Status::Open
    }

    fn open_chat(&mut self, at: u64, user: usize, chat: Option<usize>) {
        let chat = chat.or_else(|| self.choose_chat(user));
        let Some(chat) = chat.filter(|chat| self.is_open(*chat)) else {
            return;
        };
        let length = self.model.chat_seconds * 1_000;
        self.on_screen[user] = Some(chat);
        self.plan(at + length, Event::CloseChat { user, chat });
        self.act(at, user, Step::OpenChat(chat));
        if *self.population.chats[chat].unread_mut(user) > 0 {
            let read_at = at + self.rng.u64(1_000..2_000);
            self.plan_mark(read_at, user, chat, false);
        }
        let intervals = self.model.min_poll_millis..=self.model.max_poll_millis;
        let mut time = at + self.rng.u64(intervals.clone());
        while time < at + length {
            self.act(time, user, Step::PollChat(chat));
            time += self.rng.u64(intervals.clone());
        }
        let earliest = self.model.typing_frames * TYPING_INTERVAL + 500;
        let latest = earliest.max(length - 1_000);
        for _ in 0..self.messages_per_chat.draw(&mut self.rng) {
            let send_at = at + self.rng.u64(earliest..=latest);
            for frame in 1..=self.model.typing_frames {
                let typing_at = send_at - frame * TYPING_INTERVAL;
                self.act(typing_at, user, Step::Typing(chat));
            }
            self.plan(send_at, Event::Send { user, chat });
        }
    }

    fn plan_mark(&mut self, at: u64, user: usize, chat: usize, needs_open_chat: bool) {
        let mark = Event::Mark {
            user,
            chat,
            needs_open_chat,
        };
        self.plan(at, mark);
    }

    /// A chat with unread messages, or else one of the others.
    fn choose_chat(&mut self, user: usize) -> Option<usize> {
        if self.rng.f64() < self.model.unread_share
            && let Some(chat) = self.rng.choice(&self.unread[user])
        {
            return Some(*chat);
        }
        let mut chosen = None;
        for _ in 0..MAX_DRAWS {
            let chat = *self.rng.choice(&self.population.chats_of[user])?;
            chosen = Some(chat);
            if *self.population.chats[chat].unread_mut(user) == 0 {
                break;
            }
        }
        chosen
    }

    fn send(&mut self, at: u64, user: usize, chat: usize) {
        if !self.is_open(chat) {
            return;
        }
        let length = self.model.text_length(&mut self.rng);
        let message = self.messages;
        self.messages += 1;
        let step = Step::Send {
            chat,
            message,
            length,
        };
        self.act(at, user, step);
        let change = self.rng.f64();
        let (edited, deleted) = (self.model.edited_share, self.model.deleted_share);
        if change < edited + deleted {
            let deletes = change >= edited;
            let change = Event::Change {
                user,
                chat,
                message,
                deletes,
            };
            self.plan(at + if deletes { 15_000 } else { 10_000 }, change);
        }
        self.receive(at, self.population.chats[chat].peer_of(user), chat);
    }

    /// A message arrives.
    fn receive(&mut self, at: u64, user: usize, chat: usize) {
        let unread = self.population.chats[chat].unread_mut(user);
        *unread += 1;
        if *unread == 1 {
            self.unread[user].push(chat);
        }
        self.due_answers += self.model.answered_share;
        if self.on_screen[user] == Some(chat) {
            self.plan_mark(at + READING_TIME, user, chat, true);
        } else if self.due_answers >= 1.0
            && self.busy_until[user] <= at
            && self.answering.insert(user)
        {
            self.due_answers -= 1.0;
            let answer_at = at + self.rng.u64(2_000..MAX_ANSWER_DELAY);
            let answer = Some(chat);
            self.plan(answer_at, Event::OpenApp { user, answer });
        }
    }

    fn change(&mut self, at: u64, user: usize, (chat, message): (usize, usize), deletes: bool) {
        if !self.is_open(chat) {
            return;
        }
        if !deletes {
            self.act(at, user, Step::Edit { chat, message });
            return;
        }
        self.act(at, user, Step::Delete { chat, message });
        let peer = self.population.chats[chat].peer_of(user);
        let unread = self.population.chats[chat].unread_mut(peer);
        if *unread > 0 {
            *unread -= 1;
            if *unread == 0 {
                self.unread[peer].retain(|unread| *unread != chat);
            }
        }
    }

    fn mark(&mut self, at: u64, user: usize, chat: usize) {
        if !self.is_open(chat) {
            return;
        }
        let unread = self.population.chats[chat].unread_mut(user);
        if *unread > 0 {
            *unread = 0;
            self.unread[user].retain(|unread| *unread != chat);
            self.act(at, user, Step::Mark(chat));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulation::model::HOUR_MILLIS;

    const MODEL: Model = Model::DEFAULT;

    fn day(seed: u64) -> Schedule {
        generate(&MODEL, 100, seed, 0, &|_| true)
    }

    #[test]
    fn the_same_seed_gives_the_same_schedule() {
        let (one, same, other) = (day(1), day(1), day(2));
        assert_eq!(one.actions, same.actions);
        assert_eq!(one.snapshot, same.snapshot);
        assert_ne!(one.actions, other.actions);
    }

    #[test]
    fn what_is_kept_does_not_change_the_rest() {
        let is_send = |action: &Action| matches!(action.step, Step::Send { .. });
        let sends = generate(&MODEL, 100, 1, 0, &is_send).actions;
        let all = day(1).actions.into_iter();
        assert_eq!(sends, all.filter(is_send).collect::<Vec<_>>());
    }

    #[test]
    fn actions_are_in_the_order_of_time() {
        assert!(day(1).actions.is_sorted_by_key(|action| action.at));
    }

    /// The number of actions of a kind per user and day, in a day and in the busiest hour.
    fn rates(is_counted: impl Fn(Step) -> bool) -> [f64; 2] {
        let users = 4_000;
        let keep = |action: &Action| is_counted(action.step);
        let actions = generate(&MODEL, users, 1, 0, &keep).actions;
        let peak = MODEL.peak_start()..MODEL.peak_start() + HOUR_MILLIS;
        let in_peak = actions.iter().filter(|action| peak.contains(&action.at));
        let in_peak = float(in_peak.count()) / MODEL.peak_share();
        [float(actions.len()), in_peak].map(|count| count / float(users))
    }

    #[test]
    fn users_do_on_a_day_and_in_the_busiest_hour_what_the_model_says() {
        let opens_app = rates(|step| step == Step::Totals);
        let opens_chat = rates(|step| matches!(step, Step::OpenChat(_)));
        let sends = rates(|step| matches!(step, Step::Send { .. }));
        let polls_badge = rates(|step| step == Step::PollBadge);
        let polls_chat = rates(|step| matches!(step, Step::PollChat(_)));
        for (name, rates, expected) in [
            ("sessions", opens_app, MODEL.sessions),
            ("chats", opens_chat, MODEL.opened_chats()),
            ("messages", sends, MODEL.sent_messages()),
            (
                "badge",
                polls_badge,
                MODEL.sessions * MODEL.polls_of_the_badge(),
            ),
            (
                "chat",
                polls_chat,
                MODEL.opened_chats() * MODEL.polls_of_a_chat(),
            ),
        ] {
            for rate in rates {
                let difference = (rate / expected - 1.0).abs();
                assert!(difference < 0.08, "{name}: {rate} instead of {expected}");
            }
        }
    }

    #[test]
    fn a_client_polls_or_has_a_connection() {
        for (step, polling, live) in [
            (Step::PollBadge, true, false),
            (Step::PollChat(1), true, false),
            (Step::OpenConnection, false, true),
            (Step::Typing(1), false, true),
            (Step::Mark(1), true, true),
        ] {
            assert_eq!(step.is_of(Mode::Polling), polling);
            assert_eq!(step.is_of(Mode::Live), live);
        }
    }

    #[test]
    fn a_chat_is_requested_before_it_is_accepted() {
        let actions = day(3).actions;
        let position = |step: Step| actions.iter().position(|action| action.step == step);
        let accepted = actions.iter().filter_map(|action| match action.step {
            Step::Accept(chat) => Some(chat),
            _ => None,
        });
        let mut count = 0;
        for chat in accepted {
            assert!(position(Step::Request(chat)) < position(Step::Accept(chat)));
            count += 1;
        }
        assert!(count > 0);
    }
}
