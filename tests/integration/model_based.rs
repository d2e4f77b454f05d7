//! Model-based tests: random sequences of requests, whose responses must equal those of the
//! [contract model](crate::contract_model), and so must the totals in the table after each request. A sequence that
//! fails is shrunk to the fewest requests that still fail. At the end `chat-admin` must find nothing wrong in the table.
//!
//! Times must be consistent: one request has one time, which never changes afterwards. So a repeated block, for
//! example, returns the time of the first one.
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
    contract_model::{
        ChatStatus, Content, Context, Edit, ModelTimes, ObservedResponse, PageStart, Pair,
        PairRequest, Part, error_response,
    },
    dynamodb_proxy::ProxiedStack,
    fault_injection::{FaultKind, FaultPlan, MAX_LATE_QUERIES},
    invariants::{admin_findings, invariant_violations},
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
    /// Reads one page of a list of chats or of blocked users.
    ListChats {
        caller: u64,
        list: ChatList,
        skip: usize,
        limit: usize,
    },
    /// Reads all pages of such a list by their cursors.
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
    /// Reads all pages of a chat's changes by their cursors.
    WalkChanges {
        caller: u64,
        other: u64,
        after: u64,
        limit: u64,
    },
}

impl Action {
    /// The list that this reads, and the maximum number of entries on a page.
    fn list(&self) -> Option<(ChatList, usize)> {
        match self {
            Self::ListChats { list, limit, .. } | Self::WalkChats { list, limit, .. } => {
                Some((*list, *limit))
            }
            _ => None,
        }
    }

    fn caller(&self) -> u64 {
        match self {
            Self::Request { caller, .. }
            | Self::RequestAsStranger { caller, .. }
            | Self::RequestChatWithSelf { caller }
            | Self::Totals { caller }
            | Self::UnreadTotal { caller }
            | Self::ListChats { caller, .. }
            | Self::WalkChats { caller, .. }
            | Self::WalkMessages { caller, .. }
            | Self::WalkChanges { caller, .. } => *caller,
        }
    }

    /// The users whose totals this can change.
    fn counted_users(&self) -> Vec<u64> {
        match self {
            Self::Request {
                caller,
                other,
                request,
            } if !request.is_read() => vec![*caller, *other],
            _ => Vec::new(),
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
    Blocked,
}

impl ChatList {
    const ALL: [Self; 6] = [
        Self::Active,
        Self::PendingSent,
        Self::PendingReceived,
        Self::DeclinedSent,
        Self::DeclinedReceived,
        Self::Blocked,
    ];

    /// The member of a response that is the list, and the member of an entry that identifies it.
    fn fields(self) -> [&'static str; 2] {
        match self {
            Self::Blocked => ["blocks", "userId"],
            _ => ["chats", "chatId"],
        }
    }

    fn path(self) -> &'static str {
        match self {
            Self::Active => "/chats?",
            Self::PendingSent => "/chats/pending?",
            Self::PendingReceived => "/chats/pending?direction=received&",
            Self::DeclinedSent => "/chats/rejected?direction=sent&",
            Self::DeclinedReceived => "/chats/rejected?direction=received&",
            Self::Blocked => "/blocks?",
        }
    }

    fn contains(self, pair: &Pair, user: u64) -> bool {
        let sent = pair.was_last_requested_by(user);
        match self {
            Self::Blocked => pair.has_blocked(user),
            _ if pair.has_blocked(user) => false,
            Self::Active => pair.status() == Some(ChatStatus::Active),
            Self::PendingSent => pair.status() == Some(ChatStatus::Pending) && sent,
            Self::PendingReceived => pair.status() == Some(ChatStatus::Pending) && !sent,
            Self::DeclinedSent => pair.status() == Some(ChatStatus::Declined) && sent,
            Self::DeclinedReceived => pair.status() == Some(ChatStatus::Declined) && !sent,
        }
    }

    /// The entry of a pair.
    fn entry(self, pair: &Pair, user: u64) -> Value {
        match self {
            Self::Blocked => pair.block_view(user),
            _ => pair.view(user),
        }
    }

    /// A page of this list.
    fn page(self, entries: &[Value], has_more: bool) -> ObservedResponse {
        let [list, _] = self.fields();
        ok(json!({list: entries, "nextCursor": has_more}))
    }
}

/// The model of all chats, and the expected responses to the last action: one for each page.
#[derive(Clone, Debug)]
struct ModelState {
    pairs: BTreeMap<[u64; 2], Pair>,
    actions: u64,
    expected: Vec<ObservedResponse>,
}

impl ModelState {
    fn request(&mut self, caller: u64, other: u64, request: &PairRequest) -> ObservedResponse {
        let pairs = self.pairs.iter();
        let open_requests = pairs.filter(|(members, pair)| {
            members.contains(&caller) && pair.has_open_request_from(caller)
        });
        let context = Context {
            now: self.actions,
            is_below_cap: open_requests.count() < MAX_OPEN_REQUESTS,
        };
        self.pair(caller, other).apply(caller, request, context)
    }

    fn pair(&mut self, one: u64, other: u64) -> &mut Pair {
        let members = [one.min(other), one.max(other)];
        self.pairs.get_mut(&members).expect("the pair exists")
    }

    fn totals(&self, user: u64) -> [u64; 3] {
        let mut sums = [0; 3];
        for (members, pair) in &self.pairs {
            if members.contains(&user) {
                for (sum, count) in sums.iter_mut().zip(pair.totals(user)) {
                    *sum += count;
                }
            }
        }
        sums
    }

    /// The entries of a list, latest activity first.
    fn list(&self, user: u64, list: ChatList) -> Vec<Value> {
        let pairs = self.pairs.iter();
        let of_user = pairs.filter(|(members, _)| members.contains(&user));
        let mut pairs: Vec<_> = of_user.map(|(_, pair)| pair).collect();
        pairs.retain(|pair| list.contains(pair, user));
        pairs.sort_by_key(|pair| std::cmp::Reverse(pair.updated_at()));
        let pairs = pairs.into_iter();
        pairs.map(|pair| list.entry(pair, user)).collect()
    }

    fn perform(&mut self, action: &Action) -> Vec<ObservedResponse> {
        match action {
            Action::Request {
                caller,
                other,
                request,
            } => vec![self.request(*caller, *other, request)],
            Action::RequestAsStranger { request, .. } => vec![match request {
                // The body is checked before the chat.
                PairRequest::Edit { edit, .. } if edit.is_empty() => {
                    error_response(400, "invalid_request")
                }
                _ => error_response(404, "chat_not_found"),
            }],
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
                let entries = self.list(*caller, *list);
                let has_more = entries.len() > skip + limit;
                let page: Vec<_> = entries.into_iter().skip(*skip).take(*limit).collect();
                vec![list.page(&page, has_more)]
            }
            Action::WalkChats {
                caller,
                list,
                limit,
            } => {
                let entries = self.list(*caller, *list);
                let mut pages: Vec<_> = entries.chunks(*limit).collect();
                if pages.is_empty() {
                    pages.push(&[]);
                }
                let last = pages.len() - 1;
                let pages = pages.into_iter().enumerate();
                pages.map(|(n, page)| list.page(page, n < last)).collect()
            }
            Action::WalkMessages {
                caller,
                other,
                limit,
                oldest_first,
            } => self.walk_messages(*caller, *other, *limit, *oldest_first),
            Action::WalkChanges {
                caller,
                other,
                after,
                limit,
            } => self.walk_changes(*caller, *other, *after, *limit),
        }
    }

    fn walk_changes(
        &mut self,
        caller: u64,
        other: u64,
        mut after: u64,
        limit: u64,
    ) -> Vec<ObservedResponse> {
        let mut pages = Vec::new();
        loop {
            let page = self.request(caller, other, &PairRequest::ListChanges { after, limit });
            let last = last_seq(&page);
            pages.push(page);
            let Some(last) = last else {
                return pages;
            };
            after = self.pair(caller, other).rev_of(last);
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
            let last = last_seq(&page);
            pages.push(page);
            let Some(last) = last else {
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

/// The number of the last message on a page, if there is a next page.
fn last_seq(page: &ObservedResponse) -> Option<u64> {
    let has_more = page.body["nextCursor"] == true;
    let last = page.body["messages"].as_array()?.last()?;
    last["seq"].as_u64().filter(|_| has_more)
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
        let pairs = pairs.map(|[one, other]| ([one, other], Pair::new(one, other)));
        Just(ModelState {
            pairs: pairs.collect(),
            actions: 0,
            expected: Vec::new(),
        })
        .boxed()
    }

    fn transitions(_: &ModelState) -> BoxedStrategy<Action> {
        let any_two = (1..=USERS, 1..USERS);
        let any_two = any_two.prop_map(|(one, step)| (one, (one - 1 + step) % USERS + 1));
        // One pair more often, so that its chat has many messages and changes.
        let two = prop_oneof![
            3 => any_two,
            1 => Just((1_u64, 2_u64)),
            1 => Just((2_u64, 1_u64)),
        ];
        let list = prop::sample::select(ChatList::ALL.to_vec());
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
            2 => (two.clone(), 1..8_u64, any::<bool>()).prop_map(
                |((caller, other), limit, oldest_first)| {
                    Action::WalkMessages { caller, other, limit, oldest_first }
                }
            ),
            2 => (two, 0..6_u64, 1..4_u64).prop_map(|((caller, other), after, limit)| {
                Action::WalkChanges { caller, other, after, limit }
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
    let start = prop_oneof![
        3 => (0..6_u64).prop_map(PageStart::Skip),
        1 => (1..12_u64).prop_map(PageStart::Before),
        1 => (0..12_u64).prop_map(PageStart::After),
    ];
    // Few keys, so that keys are used again, for the same and for another message.
    let key = prop::option::of((0..4_u8).prop_map(|key| format!("key-{key}")));
    let reason = prop::sample::select(vec!["spam", "self_harm", "other"]);
    prop_oneof![
        5 => Just(PairRequest::RequestChat),
        4 => Just(PairRequest::Accept),
        1 => Just(PairRequest::Decline),
        1 => Just(PairRequest::Withdraw),
        2 => Just(PairRequest::GetChat),
        9 => (key, content()).prop_map(|(key, content)| PairRequest::Send { key, content }),
        5 => (seq(), edit()).prop_map(|(seq, edit)| PairRequest::Edit { seq, edit }),
        4 => seq().prop_map(|seq| PairRequest::Delete { seq }),
        2 => Just(PairRequest::MarkRead { up_to: None }),
        3 => seq().prop_map(|seq| PairRequest::MarkRead { up_to: Some(seq) }),
        2 => (start, 1..12_u64)
            .prop_map(|(start, limit)| PairRequest::ListMessages { start, limit }),
        2 => (0..8_u64, 1..6_u64)
            .prop_map(|(after, limit)| PairRequest::ListChanges { after, limit }),
        1 => Just(PairRequest::Block),
        3 => Just(PairRequest::Unblock),
        1 => (prop::option::of(seq()), reason, any::<bool>())
            .prop_map(|(seq, reason, block)| PairRequest::Report { seq, reason, block }),
    ]
}

/// The number of a message. Few numbers, so that most of them exist, and are changed again.
fn seq() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 1..6_u64, 1 => 1..12_u64]
}

/// Few texts and URLs, so that an edit can change nothing.
fn text() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "hello".to_owned(),
        " 👩‍👩‍👧 ".to_owned(),
        "é".repeat(121),
        "line one\nline \"two\" \\ \u{7f}".to_owned(),
    ])
}

fn url() -> impl Strategy<Value = String> {
    let urls = ["https://a.example/1.png", "https://b.example/?q=1"];
    prop::sample::select(urls.map(str::to_owned).to_vec())
}

fn content() -> impl Strategy<Value = Content> {
    let link = prop::option::weighted(0.2, url());
    let with_text = (text(), prop::option::weighted(0.2, url()), link);
    prop_oneof![
        5 => with_text.prop_map(|(text, image_url, link_preview_url)| Content {
            text: Some(text),
            image_url,
            link_preview_url,
        }),
        1 => url().prop_map(|url| Content { image_url: Some(url), ..Content::default() }),
    ]
}

fn edit() -> impl Strategy<Value = Edit> {
    let part = |new: BoxedStrategy<String>, keep: u32| {
        prop_oneof![
            keep => Just(Part::Keep),
            1 => Just(Part::Remove),
            4 => new.prop_map(Part::Set),
        ]
    };
    let parts = (
        part(text().boxed(), 1),
        part(url().boxed(), 10),
        part(url().boxed(), 10),
    );
    parts.prop_map(|(text, image_url, link_preview_url)| Edit {
        text,
        image_url,
        link_preview_url,
    })
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
    times: ModelTimes,
    /// The users whose totals the last action may have changed.
    counted_users: Vec<u64>,
}

impl StateMachineTest for Backend {
    type SystemUnderTest = Self;
    type Reference = ContractModel;

    fn init_test(_: &ModelState) -> Self {
        let shared = SHARED_STACK.with_borrow(|stack| stack.clone().expect("the test sets it"));
        let base = shared.sequences.fetch_add(1, Ordering::Relaxed) * 10;
        Self {
            shared,
            base,
            times: ModelTimes::new(),
            counted_users: Vec::new(),
        }
    }

    fn apply(mut backend: Self, model: &ModelState, action: Action) -> Self {
        let mut expected = model.expected.clone();
        let shared = backend.shared.clone();
        backend.counted_users = action.counted_users();
        let perform = async {
            match action.list().filter(|_| shared.indexes_lag) {
                Some((list, limit)) => {
                    let pages = backend.list_until(&action, list, limit, &expected);
                    (pages.await, false)
                }
                None => backend.perform(&action).await,
            }
        };
        let (mut responses, retried) = shared.runtime.block_on(perform);
        // A list can be late, so it cannot tell the time of a change.
        let learns = action.list().is_none();
        for (response, expected) in responses.iter_mut().zip(&expected) {
            response.use_model_times(expected, &mut backend.times, learns);
        }
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

    /// The totals in the table equal the model's.
    fn check_invariants(backend: &Self, model: &ModelState) {
        if backend.counted_users.is_empty() {
            return;
        }
        let proxied = &backend.shared.proxied;
        backend.shared.runtime.block_on(async {
            // An operation of a function that was killed may still be in flight.
            proxied.wait_until_idle().await;
            for user in &backend.counted_users {
                let items = proxied.stack.table.user(backend.base + user).await;
                let sum = |counter: &str| {
                    let counts = items.values().filter_map(|item| item[counter].as_u64());
                    counts.sum::<u64>()
                };
                let totals = ["pending", "unread", "open"].map(sum);
                assert_eq!(totals, model.totals(*user), "the totals of user {user}");
            }
        });
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
                        (
                            "requesterId" | "recipientId" | "senderId" | "userId",
                            Value::Number(id),
                        ) => {
                            *value = (id.as_u64().unwrap() - self.base).into();
                        }
                        ("chatId" | "messageId" | "reportId", Value::String(id)) => {
                            let to_model = |id: &str| id.parse::<u64>().unwrap() - self.base;
                            let (chat, rest) = id.split_once('/').unwrap_or((id, ""));
                            let members = chat.split('-').map(|id| to_model(id).to_string());
                            let chat = members.collect::<Vec<_>>().join("-");
                            *value = match rest.split_once('/') {
                                Some((reporter, seq)) => {
                                    format!("{chat}/{}/{seq}", to_model(reporter)).into()
                                }
                                None if rest.is_empty() => chat.into(),
                                None => format!("{chat}/{rest}").into(),
                            };
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
        list: ChatList,
        limit: usize,
        expected: &[ObservedResponse],
    ) -> Vec<ObservedResponse> {
        let mut pages = Vec::new();
        for _ in 0..MAX_ATTEMPTS {
            (pages, _) = self.perform(action).await;
            let mut current = pages.clone();
            for (page, expected) in current.iter_mut().zip(expected) {
                page.use_model_times(expected, &mut self.times.clone(), false);
            }
            for page in &pages {
                assert_valid_page(page, list, limit);
            }
            if current == expected {
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
                Action::WalkChats { .. } | Action::WalkMessages { .. } | Action::WalkChanges { .. }
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
        let user = self.user(action.caller());
        let chat_of = |one: u64, other: u64| {
            let pair = Pair::new(self.base + one, self.base + other);
            pair.chat_id()
        };
        match action {
            Action::Request { other, request, .. } => {
                let mut request = request.clone();
                if let PairRequest::Send { key, .. } = &mut request {
                    key.get_or_insert_with(|| spare_key.to_owned());
                }
                user.perform(self.base + other, &request).await
            }
            Action::RequestAsStranger {
                members, request, ..
            } => {
                let chat = chat_of(members[0], members[1]);
                user.perform_on_chat(&chat, request).await
            }
            Action::RequestChatWithSelf { .. } => user.request_chat(&user).await,
            Action::Totals { .. } => user.get("/totals").await,
            Action::UnreadTotal { .. } => user.get("/totals/unread").await,
            Action::ListChats {
                list, skip, limit, ..
            } => {
                let path = format!("{}limit={limit}&skip={skip}", list.path());
                user.get(&path).await
            }
            Action::WalkChats { list, limit, .. } => {
                let path = format!("{}limit={limit}{next}", list.path());
                user.get(&path).await
            }
            Action::WalkMessages {
                caller,
                other,
                limit,
                oldest_first,
            } => {
                let after = if *oldest_first && cursor.is_none() {
                    "&after=0"
                } else {
                    ""
                };
                let query = format!("?limit={limit}{after}{next}");
                user.messages(&chat_of(*caller, *other), &query).await
            }
            Action::WalkChanges {
                caller,
                other,
                after,
                limit,
            } => {
                let start = if cursor.is_none() {
                    format!("&after={after}")
                } else {
                    next
                };
                let chat = chat_of(*caller, *other);
                user.get(&format!("/chats/{chat}/changes?limit={limit}{start}"))
                    .await
            }
        }
    }
}

/// Asserts that a page has no entry twice and at most `limit` entries.
fn assert_valid_page(page: &ObservedResponse, list: ChatList, limit: usize) {
    assert_eq!(page.status, 200, "{page:?}");
    let [entries, id] = list.fields();
    let entries = page.body[entries].as_array().unwrap();
    let ids: BTreeSet<_> = entries.iter().map(|entry| entry[id].to_string()).collect();
    assert_eq!(
        ids.len(),
        entries.len(),
        "an entry is on a page twice: {page:?}"
    );
    assert!(
        entries.len() <= limit,
        "more than {limit} entries: {page:?}"
    );
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
    let (violations, findings) = shared.runtime.block_on(async {
        shared.proxied.wait_until_idle().await;
        let table = &shared.proxied.stack.table;
        (
            invariant_violations(table).await,
            admin_findings(table).await,
        )
    });
    assert_eq!(violations, [""; 0]);
    assert_eq!(findings, [""; 0]);
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
