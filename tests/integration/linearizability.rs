//! Linearizability tests: many clients send requests at once while operations on DynamoDB fail, responses
//! are lost, transactions overlap and functions are killed. The responses must be those of a chat that
//! handles one request at a time in some order.
//!
//! Each attempt at a request is a separate operation of the history, as its client saw it: started, and
//! ended or not. The outcome of an attempt with a 5xx response is unknown: it may have taken effect
//! then, later, or never. The history of each pair is checked against the
//! [contract model](crate::contract_model) by an independent linearizability checker (`todc-utils`: Wing
//! and Gong's algorithm with Lowe's memoization).
//!
//! Lists of chats are eventually consistent, so they are not part of the history. Clients read them all the
//! same, and each page must be valid. At the end, the lists must show the chat as it is.
//!
//! `FAULT_SEED=7 FAULT_PAIRS=40 cargo test -p chat-functions --test integration linearizability -- --nocapture`

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, mpsc},
    time::{Duration, Instant},
};

use chat_shared::domain::MAX_SAFE_INTEGER;
use serde_json::json;
use todc_utils::{
    linearizability::{
        WGLChecker,
        history::{Action, History},
    },
    specifications::Specification,
};

use crate::{
    contract_model::{ObservedResponse, PageStart, Pair, PairRequest},
    dynamodb_proxy::ProxiedStack,
    fault_injection::{FaultKind, FaultPlan},
    invariants::invariant_violations,
    support::{Api, User, env_number, run_concurrently},
};

/// Attempts at a request that is safe to retry.
const MAX_ATTEMPTS: usize = 6;
/// The first requests of each client, which request, accept or decline the chat.
const REQUESTS_ABOUT_STATE: usize = 4;
/// The lists of chats.
const LISTS: [&str; 5] = [
    "/chats?",
    "/chats/pending?",
    "/chats/pending?direction=received&",
    "/chats/rejected?",
    "/chats/rejected?direction=received&",
];
/// How long the check of one history may take. Most take milliseconds.
const CHECK_LIMIT: Duration = Duration::from_mins(2);

/// The faults and the requests of one test.
#[derive(Clone, Copy)]
struct Run<'a> {
    name: &'a str,
    kinds: &'a [FaultKind],
    /// The fraction of operations that meet a fault.
    rate: f64,
    /// Pairs of users, if `FAULT_PAIRS` is not set.
    pairs: u64,
    /// Requests of each client. Each pair has four clients.
    requests: usize,
}

/// With one kind of fault few outcomes are unknown, so long histories are checked quickly, too.
const ONE_KIND: Run<'static> = Run {
    name: "",
    kinds: &[],
    rate: 0.2,
    pairs: 6,
    requests: 14,
};

/// One attempt at a request, by a member of a pair.
#[derive(Clone, Debug)]
struct Attempt {
    members: [u64; 2],
    caller: u64,
    request: ClientRequest,
    /// `None` if the outcome is unknown.
    response: Option<ObservedResponse>,
    /// The final number of a message, if the outcome of sending it is unknown.
    final_seq: Option<u64>,
    /// How many attempts of the history have a known outcome.
    known_outcomes: usize,
}

#[derive(Clone, Debug)]
enum ClientRequest {
    Pair(PairRequest),
    Totals,
}

/// A pair whose members have no other chats, so that their totals are those of this chat.
struct ChatSpecification;

impl Specification for ChatSpecification {
    /// The chat, and how many attempts with a known outcome were applied to it.
    type State = (Option<Pair>, usize);
    type Operation = Attempt;

    fn init() -> Self::State {
        (None, 0)
    }

    fn apply(attempt: &Attempt, state: &Self::State) -> (bool, Self::State) {
        let (before, applied) = state;
        let [one, other] = attempt.members;
        let before = before.clone().unwrap_or_else(|| Pair::new(one, other));
        let mut pair = before.clone();
        let expected = match &attempt.request {
            ClientRequest::Pair(request) => pair.apply(attempt.caller, request, true),
            ClientRequest::Totals => {
                let [pending, unread, sent] = pair.totals(attempt.caller);
                ObservedResponse {
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
        let is_possible = match (&attempt.response, attempt.final_seq) {
            (Some(response), _) => *response == expected,
            // An attempt without effect is the same as one that never happened. It is applied at the
            // end, because trying it at every position would take too long.
            (None, _) if *applied == attempt.known_outcomes => return (true, state.clone()),
            (None, Some(seq)) => expected.body["seq"] == seq && pair != before,
            (None, None) => pair != before,
        };
        if is_possible {
            let applied = applied + usize::from(attempt.response.is_some());
            (true, (Some(pair), applied))
        } else {
            (false, state.clone())
        }
    }
}

/// The history of one pair: the starts and ends of attempts in the order in which clients saw them.
#[derive(Default)]
struct EventLog {
    attempts: Vec<Attempt>,
    events: Vec<Event>,
}

/// The start or the end of the attempt with this index.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Event {
    Started(usize),
    Ended(usize),
}

enum Verdict {
    Linearizable,
    /// No order of the requests explains the responses in this many events.
    Violation(usize),
    /// The check took longer than [`CHECK_LIMIT`].
    Undecided,
}

/// A pair of users with two clients each, and the history of their requests.
struct Scenario {
    pair: Pair,
    users: [User; 2],
    log: Mutex<EventLog>,
}

impl Scenario {
    fn new(api: &Api, random: &mut fastrand::Rng) -> Arc<Self> {
        let users = [0, 1].map(|_| api.user_with_id(random.u64(1..=MAX_SAFE_INTEGER)));
        Arc::new(Self {
            pair: Pair::new(users[0].id, users[1].id),
            users,
            log: Mutex::default(),
        })
    }

    /// Sends the requests of one client.
    async fn run_client(
        self: Arc<Self>,
        client: usize,
        requests: usize,
        mut random: fastrand::Rng,
    ) {
        let user = &self.users[client % 2];
        // Lists have their own random numbers, so that they do not change the other requests of a seed.
        let mut random_lists = fastrand::Rng::with_seed(user.id ^ client as u64);
        for n in 0..requests {
            if random_lists.u8(..4) == 0 {
                self.read_list(user, &mut random_lists).await;
            }
            let request = if n < REQUESTS_ABOUT_STATE {
                request_about_state(&mut random)
            } else {
                any_request(&mut random, client, n)
            };
            // A message without a key cannot be retried safely. Every other request can, and may
            // arrive twice.
            let only_once = matches!(
                &request,
                ClientRequest::Pair(PairRequest::Send { key: None, .. })
            );
            if !only_once && random.u8(..10) == 0 {
                tokio::join!(self.attempt(user, &request), self.attempt(user, &request));
            }
            for _ in 0..if only_once { 1 } else { MAX_ATTEMPTS } {
                if self.attempt(user, &request).await {
                    break;
                }
            }
        }
    }

    /// Reads a list of chats. It may be late, but a page has the pair's chat at most once and nothing else.
    async fn read_list(&self, user: &User, random: &mut fastrand::Rng) {
        let (path, limit) = (LISTS[random.usize(..LISTS.len())], random.u8(1..3));
        let response = user.get(&format!("{path}limit={limit}")).await;
        if response.status >= 500 {
            response.expect_retryable();
            return;
        }
        let response = response.expect_status(200);
        let (ids, chat) = (response.chat_ids(), self.pair.chat_id());
        assert!(ids.is_empty() || ids == [chat.as_str()], "{response:?}");
    }

    /// Sends a request once. Returns whether its outcome is known.
    async fn attempt(&self, user: &User, request: &ClientRequest) -> bool {
        let number = {
            let mut log = self.log.lock().unwrap();
            let number = log.attempts.len();
            log.attempts.push(Attempt {
                members: self.users.each_ref().map(|user| user.id),
                caller: user.id,
                request: request.clone(),
                response: None,
                final_seq: None,
                known_outcomes: 0,
            });
            log.events.push(Event::Started(number));
            number
        };
        let response = match request {
            ClientRequest::Pair(request) => user.perform(self.pair.peer_of(user.id), request).await,
            ClientRequest::Totals => user.get("/totals").await,
        };
        if response.status >= 500 {
            response.expect_retryable();
            return false;
        }
        let mut log = self.log.lock().unwrap();
        log.attempts[number].response = Some(ObservedResponse::new(&response));
        log.events.push(Event::Ended(number));
        true
    }

    /// Checks the history. The number of possible orders grows with the number of unknown outcomes, so
    /// there is a time limit.
    fn check(self: &Arc<Self>) -> Verdict {
        let (send_result, result) = mpsc::channel();
        let scenario = self.clone();
        std::thread::spawn(move || send_result.send(scenario.log.lock().unwrap().violation()));
        match result.recv_timeout(CHECK_LIMIT) {
            Ok(None) => Verdict::Linearizable,
            Ok(Some(length)) => Verdict::Violation(length),
            Err(_) => Verdict::Undecided,
        }
    }

    /// Reads the final messages, totals and lists, without faults.
    async fn final_reads(&self) {
        for user in &self.users {
            let start = PageStart::Skip(0);
            let messages = PairRequest::ListMessages { start, limit: 100 };
            assert!(self.attempt(user, &ClientRequest::Pair(messages)).await);
            assert!(self.attempt(user, &ClientRequest::Totals).await);
            self.assert_lists_show_the_chat(user).await;
        }
    }

    /// Asserts that the chat is in one list, with the unread count of the totals. Without faults the lists
    /// are not late.
    async fn assert_lists_show_the_chat(&self, user: &User) {
        let chat = self.pair.chat_id();
        let messages = user.messages(&chat, "?limit=1").await;
        let expected = usize::from(messages.status == 200);
        let mut listed = Vec::new();
        for path in LISTS {
            let page = user.get(path).await.expect_status(200);
            listed.extend_from_slice(page.chats());
        }
        assert_eq!(listed.len(), expected, "{listed:?}");
        let [_, unread, _] = user.totals().await;
        for view in &listed {
            assert_eq!(view["chatId"], chat);
            assert_eq!(view["unreadCount"], unread);
            let last = messages.body["messages"][0]["seq"].clone();
            assert_eq!(view["lastMessage"]["seq"], last);
        }
    }
}

impl EventLog {
    /// The number of events up to the first response that no order of the requests explains.
    fn violation(&self) -> Option<usize> {
        if self.is_linearizable(self.events.len()) {
            return None;
        }
        let lengths: Vec<_> = (0..self.events.len()).collect();
        Some(lengths.partition_point(|length| self.is_linearizable(*length)))
    }

    /// Whether some order of the requests explains all responses in the first events.
    fn is_linearizable(&self, length: usize) -> bool {
        let events = &self.events[..length];
        let has_ended = |number| events.contains(&Event::Ended(number));
        let final_seqs = self.final_seqs();
        let ends = events
            .iter()
            .filter(|event| matches!(event, Event::Ended(_)));
        let known_outcomes = ends.count();
        let attempts = self.attempts.iter().enumerate().map(|(number, attempt)| {
            let mut attempt = attempt.clone();
            attempt.known_outcomes = known_outcomes;
            if has_ended(number) {
                return Some(attempt);
            }
            attempt.response = None;
            match &attempt.request {
                // `None` if the message was never stored.
                ClientRequest::Pair(PairRequest::Send { text, .. }) => {
                    attempt.final_seq = Some(*final_seqs.get(text)?);
                }
                // A read whose response is unknown does not matter.
                ClientRequest::Pair(PairRequest::ListMessages { .. }) | ClientRequest::Totals => {
                    return None;
                }
                ClientRequest::Pair(_) => {}
            }
            Some(attempt)
        });
        let attempts: Vec<_> = attempts.collect();
        let mut actions = Vec::new();
        for event in events {
            let (Event::Started(number) | Event::Ended(number)) = *event;
            let Some(attempt) = attempts[number].clone() else {
                continue;
            };
            let action = match event {
                Event::Started(_) => Action::Call(attempt),
                Event::Ended(_) => Action::Response(attempt),
            };
            actions.push((number, action));
        }
        // An attempt with an unknown outcome may take effect until the end.
        for event in events {
            if let Event::Started(number) = *event
                && !has_ended(number)
                && let Some(attempt) = attempts[number].clone()
            {
                actions.push((number, Action::Response(attempt)));
            }
        }
        actions.is_empty()
            || WGLChecker::<ChatSpecification>::is_linearizable(History::from_actions(actions))
    }

    /// The final number of each message, by its text.
    fn final_seqs(&self) -> BTreeMap<String, u64> {
        let last_page = self.attempts.iter().rev().find_map(|attempt| {
            let response = attempt.response.as_ref()?;
            response.body["messages"].as_array()
        });
        let text_and_seq = |message: &serde_json::Value| {
            let text = message["text"].as_str()?.to_owned();
            Some((text, message["seq"].as_u64()?))
        };
        let messages = last_page.into_iter().flatten();
        messages.filter_map(text_and_seq).collect()
    }

    /// The first events, one on each line, to find out why the last one is impossible.
    fn describe(&self, length: usize) -> String {
        let line = |event: &Event| {
            let (Event::Started(number) | Event::Ended(number)) = *event;
            let attempt = &self.attempts[number];
            match (event, &attempt.response) {
                (Event::Ended(_), Some(response)) => {
                    format!("{number:4} ended: {} {}\n", response.status, response.body)
                }
                _ => format!(
                    "{number:4} started: {} {:?}\n",
                    attempt.caller, attempt.request
                ),
            }
        };
        self.events[..length].iter().map(line).collect()
    }

    fn unknown_outcomes(&self) -> usize {
        let attempts = self.attempts.iter();
        attempts
            .filter(|attempt| attempt.response.is_none())
            .count()
    }
}

fn request_about_state(random: &mut fastrand::Rng) -> ClientRequest {
    ClientRequest::Pair(match random.u8(..5) {
        0 | 1 => PairRequest::RequestChat,
        2 | 3 => PairRequest::Accept,
        _ => PairRequest::Decline,
    })
}

fn any_request(random: &mut fastrand::Rng, client: usize, n: usize) -> ClientRequest {
    // There are few messages, so that one page contains all of them. Each has its own text.
    let text = format!("message {n} of client {client}");
    let key = Some(text.clone().replace(' ', "-"));
    let limit = 100;
    ClientRequest::Pair(match random.u8(..20) {
        0 => PairRequest::RequestChat,
        1 => PairRequest::Accept,
        2..9 => PairRequest::Send { key, text },
        9 => PairRequest::Send { key: None, text },
        10..14 => PairRequest::MarkRead,
        14..17 => PairRequest::ListMessages {
            start: PageStart::Skip(0),
            limit,
        },
        17 => PairRequest::ListMessages {
            start: PageStart::After(random.u64(..9)),
            limit,
        },
        _ => return ClientRequest::Totals,
    })
}

/// Runs the clients of many pairs at once with injected faults. Afterwards each history must be
/// linearizable, and the table must satisfy its invariants.
async fn check_linearizability(run: Run<'_>) {
    let Run { name, kinds, .. } = run;
    let seed = env_number("FAULT_SEED", 1);
    let pairs = env_number("FAULT_PAIRS", run.pairs);
    let proxied = ProxiedStack::start().await;
    proxied.set_fault_plan(FaultPlan::random(seed, kinds, run.rate));
    let mut random = fastrand::Rng::with_seed(seed);
    let scenarios: Vec<_> = (0..pairs)
        .map(|_| Scenario::new(&proxied.stack.api, &mut random))
        .collect();
    let clients = scenarios.iter().flat_map(|scenario| {
        // Each user has two clients.
        (0..4)
            .map(|client| {
                let scenario = scenario.clone();
                scenario.run_client(client, run.requests, random.fork())
            })
            .collect::<Vec<_>>()
    });
    run_concurrently(clients).await;
    proxied.set_fault_plan(FaultPlan::none());
    proxied.wait_until_idle().await;
    let (mut attempts, mut unknown_outcomes) = (0, 0);
    for scenario in &scenarios {
        scenario.final_reads().await;
        let log = scenario.log.lock().unwrap();
        attempts += log.attempts.len();
        unknown_outcomes += log.unknown_outcomes();
    }
    let (conflicts, faults) = (proxied.drain_conflict_stats(), proxied.fault_counts());
    println!(
        "{name}, seed {seed}: {attempts} attempts, {unknown_outcomes} with unknown outcome; {} of {} \
         transactions conflicted; faults: {faults:?}",
        conflicts.conflicts, conflicts.attempts,
    );
    let violations = invariant_violations(&proxied.stack.table).await;
    assert_eq!(violations, [""; 0]);
    for kind in kinds {
        assert!(faults.contains_key(kind), "no operation met {kind:?}");
    }
    assert!(
        conflicts.conflicts > 0,
        "no transactions overlapped, so the test shows nothing about conflicts"
    );
    let started = Instant::now();
    for scenario in &scenarios {
        let chat = scenario.pair.chat_id();
        match scenario.check() {
            Verdict::Linearizable => {}
            Verdict::Violation(length) => {
                let log = scenario.log.lock().unwrap();
                panic!(
                    "{name}, seed {seed}: no order of the requests about chat {chat} explains the last of \
                     these events\n{}",
                    log.describe(length)
                );
            }
            Verdict::Undecided => panic!(
                "{name}, seed {seed}: the check of chat {chat} took longer than {CHECK_LIMIT:?}; lower the \
                 number of requests of this run, so that fewer outcomes are unknown"
            ),
        }
    }
    println!("{name}: checked all in {:.1?}", started.elapsed());
}

macro_rules! each_kind_alone {
    ($($(#[$attribute:meta])* $test:ident: $kind:ident,)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        $(#[$attribute])*
        async fn $test() {
            check_linearizability(Run {
                name: stringify!($test),
                kinds: &[FaultKind::$kind],
                ..ONE_KIND
            })
            .await;
        }
    )*};
}

each_kind_alone! {
    chats_are_linearizable_when_a_fifth_of_transactions_conflict: Conflict,
    chats_are_linearizable_when_a_fifth_of_operations_are_throttled: Throttle,
    chats_are_linearizable_when_a_fifth_of_operations_return_server_errors: ServerError,
    chats_are_linearizable_when_a_fifth_of_responses_are_slow: Slow,
    chats_are_linearizable_when_a_fifth_of_connections_close_before_the_operation: DropBefore,
    chats_are_linearizable_when_a_fifth_of_connections_close_after_the_operation: DropAfter,
    #[cfg_attr(not(target_os = "linux"), ignore = "needs /proc to find the calling process")]
    chats_are_linearizable_when_a_fifth_of_operations_kill_the_function_before: KillBefore,
    #[cfg_attr(not(target_os = "linux"), ignore = "needs /proc to find the calling process")]
    chats_are_linearizable_when_a_fifth_of_operations_kill_the_function_after: KillAfter,
    chats_are_linearizable_when_a_fifth_of_transactions_become_readable_in_parts: TornRead,
    chats_are_linearizable_when_a_fifth_of_index_queries_miss_changes: IndexLag,
}

// With all kinds of faults together more outcomes are unknown, and the time of a check can double with
// each of them. So these runs send fewer requests per client than the others, 10 and 8 instead of 14,
// and have more pairs instead, which are checked one by one. That keeps each check far below its limit
// on slow machines, too, and there are still enough operations for every kind of fault.

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(
    not(target_os = "linux"),
    ignore = "needs /proc to find the calling process"
)]
async fn chats_are_linearizable_when_a_fifth_of_operations_meet_any_fault() {
    check_linearizability(Run {
        name: "all kinds, one in five",
        kinds: &FaultKind::ALL,
        rate: 0.2,
        pairs: 9,
        requests: 10,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(
    not(target_os = "linux"),
    ignore = "needs /proc to find the calling process"
)]
async fn chats_are_linearizable_when_two_in_three_operations_meet_any_fault() {
    check_linearizability(Run {
        name: "all kinds, two in three",
        kinds: &FaultKind::ALL,
        rate: 0.66,
        pairs: 10,
        requests: 8,
    })
    .await;
}
