//! Model-based tests: random sequences of requests, whose responses must equal those of the
//! [contract model](crate::contract_model). A sequence that fails is shrunk to the fewest requests that
//! still fail.
//!
//! With index lag, lists of chats may follow late. They must then equal the model's after some more
//! requests, and each page must be valid until then. Messages, totals and the responses to changes are
//! never late.
//!
//! ```sh
//! MODEL_SEED=7 MODEL_REQUESTS=100000 cargo test -p chat-functions --test integration model_based -- --nocapture
//! ```

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
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
    contract_model::{ChatStatus, ObservedResponse, PageStart, Pair, PairRequest, error_response},
    dynamodb_proxy::ProxiedStack,
    fault_injection::{FaultKind, FaultPlan, MAX_LATE_QUERIES},
    invariants::invariant_violations,
    support::{self, Response, User, env_number},
};

/// Few users, so that their requests interact. In the model they are called 1, 2, …
const USERS: u64 = 4;
/// A low cap, so that sequences reach it.
const MAX_OPEN_REQUESTS: usize = 2;
/// Attempts at one request, and at reading a list that follows late. When all fail, the injected faults are
/// not the reason.
const MAX_ATTEMPTS: usize = 30;
/// Actions in one sequence.
const SEQUENCE_LENGTH: usize = 60;

/// What one user does next.
#[derive(Clone, Debug)]
enum Action {
    Request {
        caller: u64,
        other: u64,
        request: PairRequest,
    },
    /// A request about the chat of two others.
    RequestAsStranger {
        caller: u64,
        members: [u64; 2],
        request: PairRequest,
    },
    RequestChatWithSelf {
        caller: u64,
    },
    Totals {
        caller: u64,
    },
    UnreadTotal {
        caller: u64,
    },
    /// Reads one page of a list of chats.
    ListChats {
        caller: u64,
        list: ChatList,
        skip: usize,
        limit: usize,
    },
    /// Reads all pages of a list of chats by their cursors.
    WalkChats {
        caller: u64,
        list: ChatList,
        limit: usize,
    },
    /// Reads all pages of a chat's messages by their cursors.
    WalkMessages {
        caller: u64,
        other: u64,
        limit: u64,
        oldest_first: bool,
    },
}

impl Action {
    /// The maximum number of chats on a page, if this reads a list of chats.
    fn chats_per_page(&self) -> Option<usize> {
        match self {
            Self::ListChats { limit, .. } | Self::WalkChats { limit, .. } => Some(*limit),
            _ => None,
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum ChatList {
    Active,
    PendingSent,
    PendingReceived,
    DeclinedSent,
    DeclinedReceived,
}

impl ChatList {
    fn path(self) -> &'static str {
        match self {
            Self::Active => "/chats?",
            Self::PendingSent => "/chats/pending?",
            Self::PendingReceived => "/chats/pending?direction=received&",
            Self::DeclinedSent => "/chats/rejected?direction=sent&",
            Self::DeclinedReceived => "/chats/rejected?direction=received&",
        }
    }

    fn contains(self, pair: &Pair, user: u64) -> bool {
        let sent = pair.was_last_requested_by(user);
        match self {
            Self::Active => pair.status() == Some(ChatStatus::Active),
            Self::PendingSent => pair.status() == Some(ChatStatus::Pending) && sent,
            Self::PendingReceived => pair.status() == Some(ChatStatus::Pending) && !sent,
            Self::DeclinedSent => pair.status() == Some(ChatStatus::Declined) && sent,
            Self::DeclinedReceived => pair.status() == Some(ChatStatus::Declined) && !sent,
        }
    }
}

/// The model of all chats, and the expected responses to the last action: one for each page.
#[derive(Clone, Debug)]
struct ModelState {
    /// Each pair, and the number of the last action that changed its chat.
    pairs: BTreeMap<[u64; 2], (Pair, u64)>,
    actions: u64,
    expected: Vec<ObservedResponse>,
}

impl ModelState {
    fn request(&mut self, caller: u64, other: u64, request: &PairRequest) -> ObservedResponse {
        let pairs = self.pairs.values();
        let open_requests = pairs.filter(|(pair, _)| pair.has_open_request_from(caller));
        let is_below_cap = open_requests.count() < MAX_OPEN_REQUESTS;
        let members = [caller.min(other), caller.max(other)];
        let (pair, last_action) = self.pairs.get_mut(&members).expect("the pair exists");
        let before = pair.activity();
        let response = pair.apply(caller, request, is_below_cap);
        if pair.activity() != before {
            *last_action = self.actions;
        }
        response
    }

    fn totals(&self, user: u64) -> [u64; 3] {
        let mut sums = [0; 3];
        for (members, (pair, _)) in &self.pairs {
            if members.contains(&user) {
                for (sum, count) in sums.iter_mut().zip(pair.totals(user)) {
                    *sum += count;
                }
            }
        }
        sums
    }

    /// The chats in a list, latest activity first.
    fn list(&self, user: u64, list: ChatList) -> Vec<Value> {
        let pairs = self.pairs.iter();
        let of_user = pairs.filter(|(members, _)| members.contains(&user));
        let mut chats: Vec<_> = of_user.map(|(_, chat)| chat).collect();
        chats.retain(|(pair, _)| list.contains(pair, user));
        chats.sort_by_key(|(_, last_action)| std::cmp::Reverse(*last_action));
        chats.into_iter().map(|(pair, _)| pair.view(user)).collect()
    }

    fn perform(&mut self, action: &Action) -> Vec<ObservedResponse> {
        match action {
            Action::Request {
                caller,
                other,
                request,
            } => vec![self.request(*caller, *other, request)],
            Action::RequestAsStranger { .. } => vec![error_response(404, "chat_not_found")],
            Action::RequestChatWithSelf { .. } => vec![error_response(400, "invalid_request")],
            Action::Totals { caller } => {
                let [pending, unread, sent] = self.totals(*caller);
                vec![ok(json!({
                    "totalPendingRequest": pending,
                    "totalUnreadMessages": unread,
                    "totalSentRequest": sent,
                }))]
            }
            Action::UnreadTotal { caller } => {
                vec![ok(json!({"totalUnreadMessages": self.totals(*caller)[1]}))]
            }
            Action::ListChats {
                caller,
                list,
                skip,
                limit,
            } => {
                let chats = self.list(*caller, *list);
                let has_more = chats.len() > skip + limit;
                let page: Vec<_> = chats.into_iter().skip(*skip).take(*limit).collect();
                vec![ok(json!({"chats": page, "nextCursor": has_more}))]
            }
            Action::WalkChats {
                caller,
                list,
                limit,
            } => {
                let chats = self.list(*caller, *list);
                let mut pages: Vec<_> = chats.chunks(*limit).collect();
                if pages.is_empty() {
                    pages.push(&[]);
                }
                let last = pages.len() - 1;
                let pages = pages.into_iter().enumerate();
                pages
                    .map(|(n, page)| ok(json!({"chats": page, "nextCursor": n < last})))
                    .collect()
            }
            Action::WalkMessages {
                caller,
                other,
                limit,
                oldest_first,
            } => self.walk_messages(*caller, *other, *limit, *oldest_first),
        }
    }

    fn walk_messages(
        &mut self,
        caller: u64,
        other: u64,
        limit: u64,
        oldest_first: bool,
    ) -> Vec<ObservedResponse> {
        let mut start = if oldest_first {
            PageStart::After(0)
        } else {
            PageStart::Skip(0)
        };
        let mut pages = Vec::new();
        loop {
            let request = PairRequest::ListMessages { start, limit };
            let page = self.request(caller, other, &request);
            let has_more = page.body["nextCursor"] == true;
            let messages = page.body["messages"].as_array();
            let last = messages.and_then(|messages| messages.last()?["seq"].as_u64());
            pages.push(page);
            let Some(last) = last.filter(|_| has_more) else {
                return pages;
            };
            start = if oldest_first {
                PageStart::After(last)
            } else {
                PageStart::Before(last)
            };
        }
    }
}

fn ok(body: Value) -> ObservedResponse {
    ObservedResponse {
        status: 200,
        replayed: false,
        body,
    }
}

struct ContractModel;

impl ReferenceStateMachine for ContractModel {
    type State = ModelState;
    type Transition = Action;

    fn init_state() -> BoxedStrategy<ModelState> {
        let users = 1..=USERS;
        let pairs = users.flat_map(|one| (one + 1..=USERS).map(move |other| [one, other]));
        let pairs = pairs.map(|[one, other]| ([one, other], (Pair::new(one, other), 0)));
        Just(ModelState {
            pairs: pairs.collect(),
            actions: 0,
            expected: Vec::new(),
        })
        .boxed()
    }

    fn transitions(_: &ModelState) -> BoxedStrategy<Action> {
        let two = (1..=USERS, 1..USERS);
        let two = two.prop_map(|(one, step)| (one, (one - 1 + step) % USERS + 1));
        let list = prop::sample::select(vec![
            ChatList::Active,
            ChatList::PendingSent,
            ChatList::PendingReceived,
            ChatList::DeclinedSent,
            ChatList::DeclinedReceived,
        ]);
        let (caller, limit) = (1..=USERS, 1..5_usize);
        prop_oneof![
            30 => (two.clone(), pair_request()).prop_map(|((caller, other), request)| {
                Action::Request { caller, other, request }
            }),
            1 => (1..=USERS, pair_request()).prop_map(|(caller, request)| {
                let others: Vec<_> = (1..=USERS).filter(|user| *user != caller).collect();
                let members = [others[0], others[1]];
                Action::RequestAsStranger { caller, members, request }
            }),
            1 => caller.clone().prop_map(|caller| Action::RequestChatWithSelf { caller }),
            3 => caller.clone().prop_map(|caller| Action::Totals { caller }),
            1 => caller.clone().prop_map(|caller| Action::UnreadTotal { caller }),
            3 => (caller.clone(), list.clone(), 0..4_usize, limit.clone()).prop_map(
                |(caller, list, skip, limit)| Action::ListChats { caller, list, skip, limit }
            ),
            2 => (caller, list, limit).prop_map(|(caller, list, limit)| {
                Action::WalkChats { caller, list, limit }
            }),
            2 => (two, 1..8_u64, any::<bool>()).prop_map(|((caller, other), limit, oldest_first)| {
                Action::WalkMessages { caller, other, limit, oldest_first }
            }),
        ]
        .boxed()
    }

    fn apply(mut state: ModelState, action: &Action) -> ModelState {
        state.actions += 1;
        state.expected = state.perform(action);
        state
    }
}

fn pair_request() -> impl Strategy<Value = PairRequest> {
    // Few keys and texts, so that keys are used again, for the same and for another message.
    let key = prop::option::of((0..4_u8).prop_map(|key| format!("key-{key}")));
    let text = prop::sample::select(vec![
        "hello".to_owned(),
        " 👩‍👩‍👧 ".to_owned(),
        "é".repeat(121),
        "line one\nline \"two\" \\ \u{7f}".to_owned(),
    ]);
    let start = prop_oneof![
        3 => (0..6_u64).prop_map(PageStart::Skip),
        1 => (1..12_u64).prop_map(PageStart::Before),
        1 => (0..12_u64).prop_map(PageStart::After),
    ];
    prop_oneof![
        4 => Just(PairRequest::RequestChat),
        3 => Just(PairRequest::Accept),
        2 => Just(PairRequest::Decline),
        8 => (key, text).prop_map(|(key, text)| PairRequest::Send { key, text }),
        3 => Just(PairRequest::MarkRead),
        3 => (start, 1..12_u64)
            .prop_map(|(start, limit)| PairRequest::ListMessages { start, limit }),
    ]
}

/// The stack that all sequences of a test share. Each sequence has its own users.
struct SharedStack {
    runtime: Runtime,
    proxied: ProxiedStack,
    indexes_lag: bool,
    sequences: AtomicU64,
    requests: AtomicU64,
    retries: AtomicU64,
}

thread_local! {
    /// The stack of the test on this thread. It is a global because the functions of
    /// `StateMachineTest` have no parameter for it.
    static SHARED_STACK: RefCell<Option<Arc<SharedStack>>> = const { RefCell::new(None) };
}

/// The users of one sequence. The model's 1, 2, … are the users `base` + 1, `base` + 2, …
struct Backend {
    shared: Arc<SharedStack>,
    base: u64,
}

impl StateMachineTest for Backend {
    type SystemUnderTest = Self;
    type Reference = ContractModel;

    fn init_test(_: &ModelState) -> Self {
        let shared = SHARED_STACK.with_borrow(|stack| stack.clone().expect("the test sets it"));
        let base = shared.sequences.fetch_add(1, Ordering::Relaxed) * 10;
        Self { shared, base }
    }

    fn apply(backend: Self, model: &ModelState, action: Action) -> Self {
        let mut expected = model.expected.clone();
        let indexes_lag = backend.shared.indexes_lag;
        let perform = async {
            match action.chats_per_page().filter(|_| indexes_lag) {
                Some(limit) => {
                    let pages = backend.list_until(&action, limit, &expected);
                    (pages.await, false)
                }
                None => backend.perform(&action).await,
            }
        };
        let (mut responses, retried) = backend.shared.runtime.block_on(perform);
        if retried && expected[0].status == 201 {
            // An earlier attempt, whose response was lost, may have created it.
            expected[0].status = 200;
            let is_send = matches!(
                &action,
                Action::Request {
                    request: PairRequest::Send { .. },
                    ..
                }
            );
            expected[0].replayed = is_send;
            if responses[0].status == 201 {
                (responses[0].status, responses[0].replayed) = (200, is_send);
            }
        }
        assert_eq!(
            responses, expected,
            "the responses to {action:?} differ from the model's"
        );
        backend
    }

    fn teardown(backend: Self, _: ModelState) {
        // Otherwise the records of operations and rows grow without a limit.
        backend.shared.proxied.drain_cost();
        backend.shared.proxied.settle_indexes();
    }
}

impl Backend {
    fn user(&self, name: u64) -> User {
        let api = &self.shared.proxied.stack.api;
        api.user_with_id(self.base + name)
    }

    /// Replaces the ids of users in a response by the model's ids.
    fn use_model_ids(&self, body: &mut Value) {
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
                        _ => self.use_model_ids(value),
                    }
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.use_model_ids(item)),
            _ => {}
        }
    }

    /// Reads a list of chats until it is as expected, because its index can be late. Returns the last
    /// responses. Each page must be valid all the time.
    async fn list_until(
        &self,
        action: &Action,
        limit: usize,
        expected: &[ObservedResponse],
    ) -> Vec<ObservedResponse> {
        let mut pages = Vec::new();
        for _ in 0..MAX_ATTEMPTS {
            (pages, _) = self.perform(action).await;
            for page in &pages {
                assert_valid_page(page, limit);
            }
            if pages == expected {
                break;
            }
        }
        pages
    }

    /// Sends the requests of an action. Returns their responses, and whether one was retried.
    async fn perform(&self, action: &Action) -> (Vec<ObservedResponse>, bool) {
        let mut retried = false;
        let mut attempts = 0;
        let mut responses = Vec::new();
        let mut cursor: Option<String> = None;
        // A message without a key gets this one, so that the request can be retried. No other request
        // uses it.
        let spare_key = format!("spare-{}", fastrand::u64(..));
        loop {
            let response = self.send(action, cursor.as_deref(), &spare_key).await;
            self.shared.requests.fetch_add(1, Ordering::Relaxed);
            if response.status >= 500 {
                attempts += 1;
                assert!(
                    attempts < MAX_ATTEMPTS,
                    "{MAX_ATTEMPTS} attempts failed: {response:?}"
                );
                response.expect_retryable();
                self.shared.retries.fetch_add(1, Ordering::Relaxed);
                retried = true;
                continue;
            }
            let mut observed = ObservedResponse::new(&response);
            self.use_model_ids(&mut observed.body);
            responses.push(observed);
            let walks = matches!(
                action,
                Action::WalkChats { .. } | Action::WalkMessages { .. }
            );
            cursor = response.next_cursor().filter(|_| walks).map(str::to_owned);
            if cursor.is_none() {
                return (responses, retried);
            }
        }
    }

    /// Sends one request of an action: the first page, or the page at `cursor`.
    async fn send(&self, action: &Action, cursor: Option<&str>, spare_key: &str) -> Response {
        let next = cursor
            .map(|cursor| format!("&cursor={cursor}"))
            .unwrap_or_default();
        match action {
            Action::Request {
                caller,
                other,
                request,
            } => {
                let mut request = request.clone();
                if let PairRequest::Send { key, .. } = &mut request {
                    key.get_or_insert_with(|| spare_key.to_owned());
                }
                self.user(*caller)
                    .perform(self.base + other, &request)
                    .await
            }
            Action::RequestAsStranger {
                caller,
                members,
                request,
            } => {
                let chat = Pair::new(self.base + members[0], self.base + members[1]).chat_id();
                self.user(*caller).perform_on_chat(&chat, request).await
            }
            Action::RequestChatWithSelf { caller } => {
                let user = self.user(*caller);
                user.request_chat(&user).await
            }
            Action::Totals { caller } => self.user(*caller).get("/totals").await,
            Action::UnreadTotal { caller } => self.user(*caller).get("/totals/unread").await,
            Action::ListChats {
                caller,
                list,
                skip,
                limit,
            } => {
                let path = format!("{}limit={limit}&skip={skip}", list.path());
                self.user(*caller).get(&path).await
            }
            Action::WalkChats {
                caller,
                list,
                limit,
            } => {
                let path = format!("{}limit={limit}{next}", list.path());
                self.user(*caller).get(&path).await
            }
            Action::WalkMessages {
                caller,
                other,
                limit,
                oldest_first,
            } => {
                let chat = Pair::new(self.base + caller, self.base + other).chat_id();
                let after = if *oldest_first && cursor.is_none() {
                    "&after=0"
                } else {
                    ""
                };
                let query = format!("?limit={limit}{after}{next}");
                self.user(*caller).messages(&chat, &query).await
            }
        }
    }
}

/// Asserts that a page of chats has no chat twice and at most `limit` chats.
fn assert_valid_page(page: &ObservedResponse, limit: usize) {
    assert_eq!(page.status, 200, "{page:?}");
    let chats = page.body["chats"].as_array().unwrap();
    let ids: BTreeSet<_> = chats.iter().map(|chat| chat["chatId"].as_str()).collect();
    assert_eq!(
        ids.len(),
        chats.len(),
        "a chat is on a page twice: {page:?}"
    );
    assert!(chats.len() <= limit, "more than {limit} chats: {page:?}");
}

/// Runs random sequences with this fault plan, and compares each response with the model's.
fn check_responses(name: &str, requests: u64, plan: FaultPlan) {
    let seed = env_number("MODEL_SEED", 1);
    let runtime = Runtime::new().unwrap();
    let mut options = support::stack_options();
    let cap = MAX_OPEN_REQUESTS.to_string();
    options
        .environment
        .insert("MAX_OPEN_REQUESTS".to_owned(), cap);
    let proxied = runtime.block_on(ProxiedStack::start_with(options));
    let (has_failures, indexes_lag) = (plan.has_failures(), plan.has_index_lag());
    proxied.set_fault_plan(plan);
    let shared = Arc::new(SharedStack {
        runtime,
        proxied,
        indexes_lag,
        sequences: AtomicU64::new(0),
        requests: AtomicU64::new(0),
        retries: AtomicU64::new(0),
    });
    SHARED_STACK.set(Some(shared.clone()));

    let config = Config {
        cases: u32::try_from(requests.div_ceil(SEQUENCE_LENGTH as u64)).unwrap(),
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None, // the seed reproduces a failure
        ..Config::default()
    };
    let started = Instant::now();
    let strategy = ContractModel::sequential_strategy(SEQUENCE_LENGTH);
    let run = TestRunner::new(config.clone()).run(&strategy, |(state, actions, seen)| {
        Backend::test_sequential(config.clone(), state, actions, seen);
        Ok(())
    });
    if let Err(failure) = run {
        panic!("{name}, seed {seed}: {failure}");
    }
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let late_queries = shared.proxied.late_index_queries();
    println!(
        "{name}, seed {seed}: {} requests ({} retried, {late_queries} queries on late indexes) in {} \
         sequences equal the model, in {:.0?}",
        count(&shared.requests),
        count(&shared.retries),
        count(&shared.sequences),
        started.elapsed(),
    );
    assert!(
        has_failures || count(&shared.retries) == 0,
        "a request failed although no failures were injected"
    );
    assert!(
        late_queries > 0 || has_failures || !indexes_lag,
        "no list was late, so the test shows nothing about index lag"
    );
    shared.proxied.set_fault_plan(FaultPlan::none());
    let violations = shared.runtime.block_on(async {
        shared.proxied.wait_until_idle().await;
        invariant_violations(&shared.proxied.stack.table).await
    });
    assert_eq!(violations, [""; 0]);
}

#[test]
fn every_response_equals_the_models() {
    let requests = env_number("MODEL_REQUESTS", 3_000);
    check_responses("no faults", requests, FaultPlan::none());
}

#[test]
fn every_response_equals_the_models_while_indexes_are_late() {
    let requests = env_number("MODEL_REQUESTS_WITH_FAULTS", 600);
    let plan = FaultPlan::index_lag(env_number("MODEL_SEED", 1), MAX_LATE_QUERIES);
    check_responses("index lag", requests, plan);
}

#[test]
#[cfg_attr(
    not(target_os = "linux"),
    ignore = "needs /proc to find the calling process"
)]
fn every_response_equals_the_models_when_requests_fail_and_are_retried() {
    let requests = env_number("MODEL_REQUESTS_WITH_FAULTS", 600);
    let plan = FaultPlan::random(env_number("MODEL_SEED", 1), &FaultKind::ALL, 0.1);
    check_responses("random faults", requests, plan);
}
