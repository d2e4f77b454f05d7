//! Many clients at once while calls to DynamoDB fail, are lost, overlap, and functions are killed:
//! what each client was told must be what one chat that does one call at a time could have told.
//!
//! Each attempt is an operation of its own, as the client saw it: begun, and answered or not. One whose
//! outcome nobody told (a 5xx) is recorded as unknown: it may have happened then, later, or never. The
//! histories are judged, a pair each, by a linearizability checker of others (`todc-utils`: Wing and
//! Gong's algorithm with Lowe's memory), against the contract's [`model`](crate::model).
//!
//! `FAULT_SEED=7 FAULT_PAIRS=40 cargo test -p chat-functions --test table history -- --nocapture`

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, mpsc},
    time::{Duration, Instant},
};

use chat_shared::domain::MAX_INTEGER;
use serde_json::json;
use todc_utils::{
    linearizability::{
        WGLChecker,
        history::{Action, History},
    },
    specifications::Specification,
};

use crate::{
    invariants::broken,
    model::{Call, From, Pair, Told},
    recorder::Recorded,
    support::{Api, User, all, number},
    weather::{Trouble, Weather},
};

/// Attempts at a call that is safe to repeat.
const ATTEMPTS: usize = 6;
/// Calls that each client makes: first about the request, then about messages.
const CALLS_ABOUT_THE_REQUEST: usize = 4;
const CALLS: usize = 14;

/// How long one history may take to be judged; most take milliseconds.
const LONGEST_JUDGEMENT: Duration = Duration::from_secs(30);

/// One attempt at a call, by one member of a pair.
#[derive(Clone, Debug)]
struct Attempt {
    members: [u64; 2],
    by: u64,
    what: What,
    /// `None`: nobody knows.
    told: Option<Told>,
    /// Where a message ended up whose sender was not told.
    place: Option<u64>,
    /// How many attempts of its history were told their outcome.
    known: usize,
}

#[derive(Clone, Debug)]
enum What {
    Call(Call),
    Totals,
}

/// A pair whose members have no other chats, so that their totals are the chat's.
struct ChatSpecification;

impl Specification for ChatSpecification {
    /// The chat, and how many attempts of known outcome it has seen.
    type State = (Option<Pair>, usize);
    type Operation = Attempt;

    fn init() -> Self::State {
        (None, 0)
    }

    fn apply(attempt: &Attempt, state: &Self::State) -> (bool, Self::State) {
        let (before, seen) = state;
        let [one, other] = attempt.members;
        let before = before.clone().unwrap_or_else(|| Pair::new(one, other));
        let mut pair = before.clone();
        let told = match &attempt.what {
            What::Call(call) => pair.call(attempt.by, call, true),
            What::Totals => {
                let [pending, unread, sent] = pair.totals_of(attempt.by);
                Told {
                    status: 200,
                    replayed: false,
                    body: json!({
                        "totalPendingRequest": pending,
                        "totalUnreadMessages": unread,
                        "totalSentRequest": sent,
                    }),
                }
            }
        };
        let possible = match (&attempt.told, attempt.place) {
            (Some(answer), _) => *answer == told,
            // An attempt without effect is as good as one that never happened. That is left for the
            // end, because trying each of them everywhere would take for ever.
            (None, _) if *seen == attempt.known => return (true, state.clone()),
            (None, Some(place)) => told.body["seq"] == place && pair != before,
            (None, None) => pair != before,
        };
        if possible {
            let seen = seen + usize::from(attempt.told.is_some());
            (true, (Some(pair), seen))
        } else {
            (false, state.clone())
        }
    }
}

/// What happened to one pair, in the order in which clients saw it begin and end.
#[derive(Default)]
struct Journal {
    attempts: Vec<Attempt>,
    events: Vec<Event>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Event {
    Began(usize),
    Ended(usize),
}

enum Judgement {
    /// One chat that does one call at a time could have told all this.
    Possible,
    /// It could not have told what was told in this many events.
    Impossible(usize),
    /// Nobody can try all orders of calls.
    Undecided,
}

struct Scene {
    pair: Pair,
    users: [User; 2],
    journal: Mutex<Journal>,
}

impl Scene {
    fn new(api: &Api, random: &mut fastrand::Rng) -> Arc<Self> {
        let users = [0, 1].map(|_| api.user_with_id(random.u64(1..=MAX_INTEGER)));
        Arc::new(Self {
            pair: Pair::new(users[0].id, users[1].id),
            users,
            journal: Mutex::default(),
        })
    }

    /// One device of one of the two users.
    async fn client(self: Arc<Self>, name: usize, mut random: fastrand::Rng) {
        let user = &self.users[name % 2];
        for call in 0..CALLS {
            let what = if call < CALLS_ABOUT_THE_REQUEST {
                about_the_request(&mut random)
            } else {
                anything(&mut random, name, call)
            };
            // A message without a key cannot be repeated safely; the rest can, and may arrive twice.
            let once = matches!(&what, What::Call(Call::Send { key: None, .. }));
            if !once && random.u8(..10) == 0 {
                tokio::join!(self.attempt(user, &what), self.attempt(user, &what));
            }
            for _ in 0..if once { 1 } else { ATTEMPTS } {
                if self.attempt(user, &what).await {
                    break;
                }
            }
        }
    }

    /// Whether the caller was told the outcome.
    async fn attempt(&self, user: &User, what: &What) -> bool {
        let number = {
            let mut journal = self.journal.lock().unwrap();
            let number = journal.attempts.len();
            journal.attempts.push(Attempt {
                members: self.users.each_ref().map(|user| user.id),
                by: user.id,
                what: what.clone(),
                told: None,
                place: None,
                known: 0,
            });
            journal.events.push(Event::Began(number));
            number
        };
        let answer = match what {
            What::Call(call) => user.call(self.pair.peer_of(user.id), call).await,
            What::Totals => user.get("/totals").await,
        };
        if answer.status >= 500 {
            answer.is_worth_repeating();
        }
        let known = answer.status < 500;
        if known {
            let mut journal = self.journal.lock().unwrap();
            journal.attempts[number].told = Some(Told::by(&answer));
            journal.events.push(Event::Ended(number));
        }
        known
    }

    /// The more outcomes nobody was told, the more orders of calls there are; on a machine that is too slow
    /// for the functions' time limits that can be more than anybody can try.
    fn judged(self: &Arc<Self>) -> Judgement {
        let (send, judgement) = mpsc::channel();
        let scene = self.clone();
        std::thread::spawn(move || send.send(scene.journal.lock().unwrap().impossible()));
        match judgement.recv_timeout(LONGEST_JUDGEMENT) {
            Ok(None) => Judgement::Possible,
            Ok(Some(length)) => Judgement::Impossible(length),
            Err(_) => Judgement::Undecided,
        }
    }

    /// Asks in fair weather how everything ended.
    async fn epilogue(&self) {
        for user in &self.users {
            let from = From::Skip(0);
            let all = What::Call(Call::Read { from, limit: 100 });
            assert!(self.attempt(user, &all).await);
            assert!(self.attempt(user, &What::Totals).await);
        }
    }
}

impl Journal {
    /// The event up to which no order of calls explains what was told, if there is one.
    fn impossible(&self) -> Option<usize> {
        if self.is_linearizable(self.events.len()) {
            return None;
        }
        let lengths: Vec<_> = (0..self.events.len()).collect();
        Some(lengths.partition_point(|length| self.is_linearizable(*length)))
    }

    /// Whether one chat, one call at a time, could have told what was told in the first events.
    fn is_linearizable(&self, length: usize) -> bool {
        let events = &self.events[..length];
        let ended = |number| events.contains(&Event::Ended(number));
        let places = self.places();
        let known = events.iter().filter(|it| matches!(it, Event::Ended(_)));
        let known = known.count();
        let attempts = self.attempts.iter().enumerate().map(|(number, attempt)| {
            let mut attempt = attempt.clone();
            attempt.known = known;
            if ended(number) {
                return Some(attempt);
            }
            attempt.told = None;
            match &attempt.what {
                // `None`: it never happened.
                What::Call(Call::Send { text, .. }) => attempt.place = Some(*places.get(text)?),
                What::Call(Call::Read { .. }) | What::Totals => return None,
                What::Call(_) => {}
            }
            Some(attempt)
        });
        let attempts: Vec<_> = attempts.collect();
        let mut actions = Vec::new();
        for event in events {
            let (Event::Began(number) | Event::Ended(number)) = *event;
            let Some(attempt) = attempts[number].clone() else {
                continue;
            };
            let action = match event {
                Event::Began(_) => Action::Call(attempt),
                Event::Ended(_) => Action::Response(attempt),
            };
            actions.push((number, action));
        }
        // What nobody was told of may happen until the end.
        for event in events {
            if let Event::Began(number) = *event
                && !ended(number)
                && let Some(attempt) = attempts[number].clone()
            {
                actions.push((number, Action::Response(attempt)));
            }
        }
        actions.is_empty()
            || WGLChecker::<ChatSpecification>::is_linearizable(History::from_actions(actions))
    }

    /// Where each text stands in the end.
    fn places(&self) -> BTreeMap<String, u64> {
        let last_read = self.attempts.iter().rev().find_map(|attempt| {
            let told = attempt.told.as_ref()?;
            told.body["messages"].as_array()
        });
        let place = |message: &serde_json::Value| {
            let text = message["text"].as_str()?.to_owned();
            Some((text, message["seq"].as_u64()?))
        };
        last_read.into_iter().flatten().filter_map(place).collect()
    }

    /// One line an event, for a person to find out what was impossible.
    fn first(&self, length: usize) -> String {
        let line = |event: &Event| {
            let (Event::Began(number) | Event::Ended(number)) = *event;
            let attempt = &self.attempts[number];
            match (event, &attempt.told) {
                (Event::Ended(_), Some(told)) => {
                    format!("{number:4} ended: {} {}\n", told.status, told.body)
                }
                _ => format!("{number:4} began: {} {:?}\n", attempt.by, attempt.what),
            }
        };
        self.events[..length].iter().map(line).collect()
    }

    fn unknown(&self) -> usize {
        let unknown = self.attempts.iter().filter(|it| it.told.is_none());
        unknown.count()
    }
}

fn about_the_request(random: &mut fastrand::Rng) -> What {
    What::Call(match random.u8(..5) {
        0 | 1 => Call::Ask,
        2 | 3 => Call::Accept,
        _ => Call::Decline,
    })
}

fn anything(random: &mut fastrand::Rng, client: usize, call: usize) -> What {
    // Few messages, so that the last page shows all; each with a text of its own.
    let text = format!("message {call} of client {client}");
    let key = Some(text.clone().replace(' ', "-"));
    let limit = 100;
    What::Call(match random.u8(..20) {
        0 => Call::Ask,
        1 => Call::Accept,
        2..9 => Call::Send { key, text },
        9 => Call::Send { key: None, text },
        10..14 => Call::Mark,
        14..17 => Call::Read {
            from: From::Skip(0),
            limit,
        },
        17 => Call::Read {
            from: From::After(random.u64(..9)),
            limit,
        },
        _ => return What::Totals,
    })
}

/// Clients of many pairs at once in this weather; afterwards all that was told must be possible, and
/// the table must hold what always holds.
async fn holds_in(name: &str, troubles: &[Trouble], rate: f64) {
    let seed = number("FAULT_SEED", 1);
    let pairs = number("FAULT_PAIRS", 6);
    let recorded = Recorded::start().await;
    recorded.weather(Weather::rough(seed, troubles, rate));
    let mut random = fastrand::Rng::with_seed(seed);
    let scenes: Vec<_> = (0..pairs)
        .map(|_| Scene::new(&recorded.local.api, &mut random))
        .collect();
    let clients = scenes.iter().flat_map(|scene| {
        // Two devices each.
        (0..4)
            .map(|name| scene.clone().client(name, random.fork()))
            .collect::<Vec<_>>()
    });
    all(clients).await;
    recorded.weather(Weather::fair());
    recorded.quiet().await;
    let (mut attempts, mut unknown) = (0, 0);
    for scene in &scenes {
        scene.epilogue().await;
        let journal = scene.journal.lock().unwrap();
        attempts += journal.attempts.len();
        unknown += journal.unknown();
    }
    let (overlaps, troubles_met) = (recorded.overlaps(), recorded.troubles());
    println!(
        "{name}, seed {seed}: {attempts} attempts, {unknown} of unknown outcome; {} of {} \
         transactions overlapped; met {troubles_met:?}",
        overlaps.conflicts, overlaps.attempts,
    );
    assert_eq!(broken(&recorded.local.table).await, [""; 0]);
    for trouble in troubles {
        assert!(troubles_met.contains_key(trouble), "{trouble:?} never came");
    }
    assert!(overlaps.conflicts > 0);
    let began = Instant::now();
    let mut undecided = 0;
    for scene in &scenes {
        match scene.judged() {
            Judgement::Possible => {}
            Judgement::Impossible(length) => {
                let chat = scene.pair.chat_id();
                let journal = scene.journal.lock().unwrap();
                panic!(
                    "{name}, seed {seed}: no order of calls of {chat} explains the last of these\n{}",
                    journal.first(length)
                );
            }
            Judgement::Undecided => undecided += 1,
        }
    }
    println!(
        "{name}: judged in {:.1?}, {undecided} undecided",
        began.elapsed()
    );
    assert!(
        undecided * 2 < scenes.len(),
        "{name}: too few could be judged"
    );
}

macro_rules! each_trouble_alone {
    ($($test:ident: $trouble:ident,)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $test() {
            holds_in(stringify!($test), &[Trouble::$trouble], 0.2).await;
        }
    )*};
}

each_trouble_alone! {
    nothing_is_lost_or_doubled_when_a_fifth_of_transactions_conflict: Conflict,
    nothing_is_lost_or_doubled_when_a_fifth_of_calls_are_throttled: Throttle,
    nothing_is_lost_or_doubled_when_a_fifth_of_calls_are_server_errors: ServerError,
    nothing_is_lost_or_doubled_when_a_fifth_of_answers_are_slow: Slow,
    nothing_is_lost_or_doubled_when_a_fifth_of_connections_break_before: DropBefore,
    nothing_is_lost_or_doubled_when_a_fifth_of_connections_break_after: DropAfter,
    nothing_is_lost_or_doubled_when_a_fifth_of_calls_kill_before: KillBefore,
    nothing_is_lost_or_doubled_when_a_fifth_of_calls_kill_after: KillAfter,
    nothing_is_lost_or_doubled_when_a_fifth_of_transactions_are_read_in_halves: TornRead,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_doubled_when_all_troubles_come_together() {
    holds_in("all together", &Trouble::ALL, 0.2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_doubled_when_two_calls_in_three_meet_trouble() {
    holds_in("two in three", &Trouble::ALL, 0.66).await;
}
