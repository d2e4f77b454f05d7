//! Random calls, one after another, each answered as the contract's [`model`](crate::model) says; what
//! differs is shrunk to the fewest calls that show it.
//!
//! ```sh
//! MODEL_SEED=7 MODEL_CALLS=100000 cargo test -p chat-functions --test table machine -- --nocapture
//! ```

use std::{
    cell::RefCell,
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use proptest::{
    prelude::*,
    test_runner::{Config, RngSeed, TestRunner},
};
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::{
    invariants::broken,
    model::{Call, From, Pair, Status, Told, refused},
    recorder::Recorded,
    support::{self, Answer, User, number},
    weather::{Trouble, Weather},
};

/// Few, so that they meet; in the model they are called 1, 2, …
const USERS: u64 = 4;
/// Few, so that it is reached.
const MAX_OPEN_REQUESTS: usize = 2;
/// Attempts at one call before something else than the weather must be wrong.
const ATTEMPTS: usize = 30;
/// Calls of one sequence.
const LENGTH: usize = 60;

/// What one user does next.
#[derive(Clone, Debug)]
enum Step {
    Call {
        by: u64,
        other: u64,
        call: Call,
    },
    /// About a chat of two others.
    CallAsStranger {
        by: u64,
        members: [u64; 2],
        call: Call,
    },
    AskOneself {
        by: u64,
    },
    Totals {
        by: u64,
    },
    UnreadTotal {
        by: u64,
    },
    /// One page.
    List {
        by: u64,
        list: List,
        skip: usize,
        limit: usize,
    },
    /// All pages, by their cursors.
    WalkList {
        by: u64,
        list: List,
        limit: usize,
    },
    WalkMessages {
        by: u64,
        other: u64,
        limit: u64,
        after: bool,
    },
}

#[derive(Clone, Copy, Debug)]
enum List {
    Active,
    PendingSent,
    PendingReceived,
    DeclinedSent,
    DeclinedReceived,
}

impl List {
    fn path(self) -> &'static str {
        match self {
            Self::Active => "/chats?",
            Self::PendingSent => "/chats/pending?",
            Self::PendingReceived => "/chats/pending?direction=received&",
            Self::DeclinedSent => "/chats/rejected?direction=sent&",
            Self::DeclinedReceived => "/chats/rejected?direction=received&",
        }
    }

    fn has(self, pair: &Pair, user: u64) -> bool {
        let asked = pair.was_last_asked_by(user);
        match self {
            Self::Active => pair.status() == Some(Status::Active),
            Self::PendingSent => pair.status() == Some(Status::Pending) && asked,
            Self::PendingReceived => pair.status() == Some(Status::Pending) && !asked,
            Self::DeclinedSent => pair.status() == Some(Status::Declined) && asked,
            Self::DeclinedReceived => pair.status() == Some(Status::Declined) && !asked,
        }
    }
}

/// All that users did, and what the last step must be told: one answer a page.
#[derive(Clone, Debug)]
struct World {
    /// Each pair, and when something last happened to it, counted in steps.
    pairs: BTreeMap<[u64; 2], (Pair, u64)>,
    steps: u64,
    told: Vec<Told>,
}

impl World {
    fn call(&mut self, by: u64, other: u64, call: &Call) -> Told {
        let open = self
            .pairs
            .values()
            .filter(|(it, _)| it.is_open_request_of(by));
        let may_ask = open.count() < MAX_OPEN_REQUESTS;
        let members = [by.min(other), by.max(other)];
        let (pair, touched) = self.pairs.get_mut(&members).expect("all pairs are there");
        let before = pair.activity();
        let told = pair.call(by, call, may_ask);
        if pair.activity() != before {
            *touched = self.steps;
        }
        told
    }

    fn totals_of(&self, user: u64) -> [u64; 3] {
        let of_user = self
            .pairs
            .iter()
            .filter(|(members, _)| members.contains(&user));
        let each = of_user.map(|(_, (pair, _))| pair.totals_of(user));
        each.fold([0; 3], |sum, it| {
            [0, 1, 2].map(|index| sum[index] + it[index])
        })
    }

    /// Latest activity first.
    fn list(&self, user: u64, list: List) -> Vec<Value> {
        let of_user = self
            .pairs
            .iter()
            .filter(|(members, _)| members.contains(&user));
        let mut chats: Vec<_> = of_user.map(|(_, chat)| chat).collect();
        chats.retain(|(pair, _)| list.has(pair, user));
        chats.sort_by_key(|(_, touched)| std::cmp::Reverse(*touched));
        chats.into_iter().map(|(pair, _)| pair.view(user)).collect()
    }

    fn step(&mut self, step: &Step) -> Vec<Told> {
        match step {
            Step::Call { by, other, call } => vec![self.call(*by, *other, call)],
            Step::CallAsStranger { .. } => vec![refused(404, "chat_not_found")],
            Step::AskOneself { .. } => vec![refused(400, "invalid_request")],
            Step::Totals { by } => {
                let [pending, unread, sent] = self.totals_of(*by);
                vec![ok(json!({
                    "totalPendingRequest": pending,
                    "totalUnreadMessages": unread,
                    "totalSentRequest": sent,
                }))]
            }
            Step::UnreadTotal { by } => {
                vec![ok(json!({"totalUnreadMessages": self.totals_of(*by)[1]}))]
            }
            Step::List {
                by,
                list,
                skip,
                limit,
            } => {
                let all = self.list(*by, *list);
                let more = all.len() > skip + limit;
                let page: Vec<_> = all.into_iter().skip(*skip).take(*limit).collect();
                vec![ok(json!({"chats": page, "nextCursor": more}))]
            }
            Step::WalkList { by, list, limit } => {
                let all = self.list(*by, *list);
                let mut pages: Vec<_> = all.chunks(*limit).collect();
                if pages.is_empty() {
                    pages.push(&[]);
                }
                let last = pages.len() - 1;
                let pages = pages.into_iter().enumerate();
                pages
                    .map(|(n, page)| ok(json!({"chats": page, "nextCursor": n < last})))
                    .collect()
            }
            Step::WalkMessages {
                by,
                other,
                limit,
                after,
            } => {
                let mut from = if *after {
                    From::After(0)
                } else {
                    From::Skip(0)
                };
                let mut pages = Vec::new();
                loop {
                    let limit = *limit;
                    let page = self.call(*by, *other, &Call::Read { from, limit });
                    let more = page.body["nextCursor"] == true;
                    let messages = page.body["messages"].as_array();
                    let last = messages
                        .and_then(|it| it.last())
                        .map(|it| it["seq"].clone());
                    pages.push(page);
                    let Some(last) = last.and_then(|seq| seq.as_u64()).filter(|_| more) else {
                        return pages;
                    };
                    from = if *after {
                        From::After(last)
                    } else {
                        From::Before(last)
                    };
                }
            }
        }
    }
}

fn ok(body: Value) -> Told {
    Told {
        status: 200,
        replayed: false,
        body,
    }
}

struct Contract;

impl ReferenceStateMachine for Contract {
    type State = World;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<World> {
        let users = 1..=USERS;
        let pairs = users.flat_map(|one| (one + 1..=USERS).map(move |other| [one, other]));
        let pairs = pairs.map(|[one, other]| ([one, other], (Pair::new(one, other), 0)));
        Just(World {
            pairs: pairs.collect(),
            steps: 0,
            told: Vec::new(),
        })
        .boxed()
    }

    fn transitions(_: &World) -> BoxedStrategy<Step> {
        let two = (1..=USERS, 1..USERS);
        let two = two.prop_map(|(one, step)| (one, (one - 1 + step) % USERS + 1));
        let list = prop::sample::select(vec![
            List::Active,
            List::PendingSent,
            List::PendingReceived,
            List::DeclinedSent,
            List::DeclinedReceived,
        ]);
        let (by, limit) = (1..=USERS, 1..5_usize);
        prop_oneof![
            30 => (two.clone(), a_call())
                .prop_map(|((by, other), call)| Step::Call { by, other, call }),
            1 => (1..=USERS, a_call()).prop_map(|(by, call)| {
                let others: Vec<_> = (1..=USERS).filter(|it| *it != by).collect();
                Step::CallAsStranger { by, members: [others[0], others[1]], call }
            }),
            1 => by.clone().prop_map(|by| Step::AskOneself { by }),
            3 => by.clone().prop_map(|by| Step::Totals { by }),
            1 => by.clone().prop_map(|by| Step::UnreadTotal { by }),
            3 => (by.clone(), list.clone(), 0..4_usize, limit.clone())
                .prop_map(|(by, list, skip, limit)| Step::List { by, list, skip, limit }),
            2 => (by, list, limit).prop_map(|(by, list, limit)| Step::WalkList { by, list, limit }),
            2 => (two, 1..8_u64, any::<bool>()).prop_map(|((by, other), limit, after)| {
                Step::WalkMessages { by, other, limit, after }
            }),
        ]
        .boxed()
    }

    fn apply(mut world: World, step: &Step) -> World {
        world.steps += 1;
        world.told = world.step(step);
        world
    }
}

fn a_call() -> impl Strategy<Value = Call> {
    // Few keys and texts, so that some are used again, for the same and for another message.
    let key = prop::option::of((0..4_u8).prop_map(|key| format!("key-{key}")));
    let text = prop::sample::select(vec![
        "hello".to_owned(),
        " 👩‍👩‍👧 ".to_owned(),
        "é".repeat(121),
        "line one\nline \"two\" \\ \u{7f}".to_owned(),
    ]);
    let from = prop_oneof![
        3 => (0..6_u64).prop_map(From::Skip),
        1 => (1..12_u64).prop_map(From::Before),
        1 => (0..12_u64).prop_map(From::After),
    ];
    prop_oneof![
        4 => Just(Call::Ask),
        3 => Just(Call::Accept),
        2 => Just(Call::Decline),
        8 => (key, text).prop_map(|(key, text)| Call::Send { key, text }),
        3 => Just(Call::Mark),
        3 => (from, 1..12_u64).prop_map(|(from, limit)| Call::Read { from, limit }),
    ]
}

/// The backend that sequences of calls share; each has users of its own.
struct Stage {
    runtime: Runtime,
    recorded: Recorded,
    sequences: AtomicU64,
    calls: AtomicU64,
    repeated: AtomicU64,
}

thread_local! {
    /// The stage of the test that runs on this thread: the state machine's functions take no arguments.
    static STAGE: RefCell<Option<Arc<Stage>>> = const { RefCell::new(None) };
}

/// The users of one sequence: the model's 1, 2, … are `base` + 1, `base` + 2, …
struct Backend {
    stage: Arc<Stage>,
    base: u64,
}

impl StateMachineTest for Backend {
    type SystemUnderTest = Self;
    type Reference = Contract;

    fn init_test(_: &World) -> Self {
        let stage = STAGE.with_borrow(|stage| stage.clone().expect("the test has set it"));
        let base = stage.sequences.fetch_add(1, Ordering::Relaxed) * 10;
        Self { stage, base }
    }

    fn apply(backend: Self, world: &World, step: Step) -> Self {
        let (mut answers, repeated) = backend.stage.runtime.block_on(backend.perform(&step));
        for told in &mut answers {
            backend.rename(&mut told.body);
        }
        let mut expected = world.told.clone();
        if repeated && expected[0].status == 201 {
            // An attempt whose caller was told nothing was the first.
            expected[0].status = 200;
            let sent = matches!(
                &step,
                Step::Call {
                    call: Call::Send { .. },
                    ..
                }
            );
            expected[0].replayed = sent;
            if answers[0].status == 201 {
                (answers[0].status, answers[0].replayed) = (200, sent);
            }
        }
        assert_eq!(
            answers, expected,
            "answers and the model differ at {step:?}"
        );
        backend
    }

    fn teardown(backend: Self, _: World) {
        // What was recorded of the calls would grow without end.
        backend.stage.recorded.cost();
    }
}

impl Backend {
    fn user(&self, name: u64) -> User {
        self.stage.recorded.local.api.user_with_id(self.base + name)
    }

    /// Calls users by the model's names.
    fn rename(&self, body: &mut Value) {
        match body {
            Value::Object(fields) => {
                for (name, value) in fields {
                    match (name.as_str(), &*value) {
                        ("requesterId" | "recipientId" | "senderId", Value::Number(id)) => {
                            *value = (id.as_u64().unwrap() - self.base).into();
                        }
                        ("chatId" | "messageId", Value::String(id)) => {
                            let (chat, seq) = id.split_once('/').unwrap_or((id, ""));
                            let members = chat.split('-').map(|id| id.parse::<u64>().unwrap());
                            let members: Vec<_> =
                                members.map(|id| (id - self.base).to_string()).collect();
                            let slash = if seq.is_empty() { "" } else { "/" };
                            *value = format!("{}{slash}{seq}", members.join("-")).into();
                        }
                        _ => self.rename(value),
                    }
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.rename(item)),
            _ => {}
        }
    }

    /// Makes the step's calls; what each was told, and whether one had to be repeated.
    async fn perform(&self, step: &Step) -> (Vec<Told>, bool) {
        let mut repeated = false;
        let mut attempts = 0;
        let mut told = Vec::new();
        let mut cursor: Option<String> = None;
        // A key for who gave none, so that the call can be repeated; it is never used again.
        let spare_key = format!("spare-{}", fastrand::u64(..));
        loop {
            let answer = self.attempt(step, cursor.as_deref(), &spare_key).await;
            self.stage.calls.fetch_add(1, Ordering::Relaxed);
            if answer.status >= 500 {
                attempts += 1;
                assert!(attempts < ATTEMPTS, "no end of it: {answer:?}");
                answer.is_worth_repeating();
                self.stage.repeated.fetch_add(1, Ordering::Relaxed);
                repeated = true;
                continue;
            }
            told.push(Told::by(&answer));
            let walks = matches!(step, Step::WalkList { .. } | Step::WalkMessages { .. });
            cursor = answer.next_cursor().filter(|_| walks).map(str::to_owned);
            if cursor.is_none() {
                return (told, repeated);
            }
        }
    }

    async fn attempt(&self, step: &Step, cursor: Option<&str>, spare_key: &str) -> Answer {
        let next = cursor
            .map(|cursor| format!("&cursor={cursor}"))
            .unwrap_or_default();
        match step {
            Step::Call { by, other, call } => {
                let key = || Some(spare_key.to_owned());
                let call = match call {
                    Call::Send { key: None, text } => {
                        let text = text.clone();
                        Call::Send { key: key(), text }
                    }
                    call => call.clone(),
                };
                self.user(*by).call(self.base + other, &call).await
            }
            Step::CallAsStranger { by, members, call } => {
                let chat = Pair::new(self.base + members[0], self.base + members[1]).chat_id();
                self.user(*by).call_chat(&chat, call).await
            }
            Step::AskOneself { by } => {
                let user = self.user(*by);
                user.ask(&user).await
            }
            Step::Totals { by } => self.user(*by).get("/totals").await,
            Step::UnreadTotal { by } => self.user(*by).get("/totals/unread").await,
            Step::List {
                by,
                list,
                skip,
                limit,
            } => {
                let path = format!("{}limit={limit}&skip={skip}", list.path());
                self.user(*by).get(&path).await
            }
            Step::WalkList { by, list, limit } => {
                let path = format!("{}limit={limit}{next}", list.path());
                self.user(*by).get(&path).await
            }
            Step::WalkMessages {
                by,
                other,
                limit,
                after,
            } => {
                let chat = Pair::new(self.base + by, self.base + other).chat_id();
                let after = if *after && cursor.is_none() {
                    "&after=0"
                } else {
                    ""
                };
                let query = format!("?limit={limit}{after}{next}");
                self.user(*by).messages(&chat, &query).await
            }
        }
    }
}

/// Random sequences in this weather.
fn answers_are_the_models(name: &str, calls: u64, weather: Weather) {
    let seed = number("MODEL_SEED", 1);
    let runtime = Runtime::new().unwrap();
    let mut options = support::options();
    let cap = MAX_OPEN_REQUESTS.to_string();
    options
        .environment
        .insert("MAX_OPEN_REQUESTS".to_owned(), cap);
    let recorded = runtime.block_on(Recorded::start_with(options));
    let is_fair = weather.is_fair();
    recorded.weather(weather);
    let stage = Arc::new(Stage {
        runtime,
        recorded,
        sequences: AtomicU64::new(0),
        calls: AtomicU64::new(0),
        repeated: AtomicU64::new(0),
    });
    STAGE.set(Some(stage.clone()));

    let config = Config {
        cases: u32::try_from(calls.div_ceil(LENGTH as u64)).unwrap(),
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None, // the seed brings it back
        ..Config::default()
    };
    let began = Instant::now();
    let strategy = Contract::sequential_strategy(LENGTH);
    let run = TestRunner::new(config.clone()).run(&strategy, |(world, steps, seen)| {
        Backend::test_sequential(config.clone(), world, steps, seen);
        Ok(())
    });
    if let Err(difference) = run {
        panic!("{name}, seed {seed}: {difference}");
    }
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    println!(
        "{name}, seed {seed}: {} calls ({} repeated) in {} sequences without a difference, in {:.0?}",
        count(&stage.calls),
        count(&stage.repeated),
        count(&stage.sequences),
        began.elapsed(),
    );
    assert!(
        !is_fair || count(&stage.repeated) == 0,
        "a call failed in fair weather"
    );
    stage.recorded.weather(Weather::fair());
    let broken = stage.runtime.block_on(async {
        stage.recorded.quiet().await;
        broken(&stage.recorded.local.table).await
    });
    assert_eq!(broken, [""; 0]);
}

#[test]
fn every_answer_is_the_one_of_the_model() {
    let calls = number("MODEL_CALLS", 3_000);
    answers_are_the_models("fair weather", calls, Weather::fair());
}

#[test]
fn every_answer_is_the_one_of_the_model_while_calls_fail_and_are_repeated() {
    let calls = number("MODEL_CALLS_IN_ROUGH_WEATHER", 600);
    let weather = Weather::rough(number("MODEL_SEED", 1), &Trouble::ALL, 0.1);
    answers_are_the_models("rough weather", calls, weather);
}
