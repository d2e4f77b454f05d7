//! Random requests by a few users with several devices each, while faults are injected. The devices follow the rules
//! for clients. At the end, each of them shows exactly what the REST API says: chats, messages and totals.
//!
//! The devices send `sync` only at the end. Faults that lose nothing are checked before that: the events alone must be
//! enough.
//!
//! ```sh
//! LIVE_SEED=7 LIVE_REQUESTS=20000 cargo test -p chat-functions --test integration live::model -- --nocapture
//! ```
//!
//! `LIVE_REQUESTS` (by default 200) is the number of requests with all faults together. With one kind of fault, it is a
//! third of that. The seed determines the requests and the faults, but not how they meet.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use chat_local::realtime::{DisconnectFault, ManagementFault};
use serde_json::Value;

use super::{
    LiveStack, PUSH_EVENTS, chat_of,
    client::{Device, View},
};
use crate::{
    contract_model::{Content, Edit, PairRequest, Part},
    dynamodb_proxy::{Fault, FaultEffect},
    fault_injection::{FaultKind, FaultPlan},
    invariants::{admin_findings, invariant_violations},
    support::{User, env_number, run_concurrently},
};

/// Few users, so that their requests interact.
const USERS: usize = 4;
const DEVICES_PER_USER: usize = 2;
/// The fraction of requests to `@connections`, of batches and of the ends of sockets that meet a fault of one kind.
const RATE: f64 = 0.15;
/// The fraction of operations on the table that meet a fault.
const TABLE_RATE: f64 = 0.05;
/// How often the devices send `sync` at the end before the test fails. Records that are delivered again can be older
/// than what a `sync` has fetched, and no rule for clients can tell.
const MAX_SYNCS: usize = 4;

/// The kinds of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LiveFault {
    /// The function is killed before its frame is delivered.
    KillBeforePost,
    /// The function is killed after its frame was delivered.
    KillAfterPost,
    LostResponse,
    /// 410, as if the connection did not exist.
    Gone,
    Throttled,
    ServerError,
    Forbidden,
    Slow,
    NoResponse,
    RepeatedRecords,
    /// The records of one chat arrive with a later record of this chat.
    LateRecords,
    DroppedRecords,
    /// All sockets are cut.
    CutSockets,
    /// Sockets are cut, and the service hears late or never of it.
    LostDisconnects,
    /// Sockets are cut, and a function of a handshake is killed after its write.
    KilledConnects,
    /// Operations on the table fail.
    TableFailures,
    /// Messages and changes become readable later than the state of their chat.
    TornReads,
}

impl LiveFault {
    const ALL: [Self; 17] = [
        Self::KillBeforePost,
        Self::KillAfterPost,
        Self::LostResponse,
        Self::Gone,
        Self::Throttled,
        Self::ServerError,
        Self::Forbidden,
        Self::Slow,
        Self::NoResponse,
        Self::RepeatedRecords,
        Self::LateRecords,
        Self::DroppedRecords,
        Self::CutSockets,
        Self::LostDisconnects,
        Self::KilledConnects,
        Self::TableFailures,
        Self::TornReads,
    ];

    /// Whether an event can be lost although its connection stays open. Then only `sync` helps, or the next event.
    fn is_lossy(self) -> bool {
        matches!(
            self,
            // A record is dropped after its last attempt.
            Self::KillBeforePost
                | Self::KillAfterPost
                | Self::Forbidden
                | Self::Gone
                | Self::LateRecords
                | Self::DroppedRecords
        )
    }

    fn cuts_sockets(self) -> bool {
        matches!(
            self,
            Self::CutSockets | Self::LostDisconnects | Self::KilledConnects
        )
    }

    /// The fault of a request to `@connections`. `kill` kills the function.
    fn of_post(self, kill: &impl Fn(), is_repeated: bool) -> ManagementFault {
        match self {
            Self::KillBeforePost => {
                kill();
                ManagementFault::Status(500)
            }
            // The frame was delivered by the previous request, whose response was lost.
            Self::KillAfterPost if is_repeated => {
                kill();
                ManagementFault::Status(500)
            }
            Self::KillAfterPost | Self::LostResponse => ManagementFault::LoseResponse,
            Self::Gone => ManagementFault::Status(410),
            Self::Throttled => ManagementFault::Status(429),
            Self::ServerError => ManagementFault::Status(500),
            Self::Forbidden => ManagementFault::Status(403),
            Self::Slow => ManagementFault::Delay(Duration::from_millis(100)),
            Self::NoResponse => ManagementFault::Hang,
            _ => ManagementFault::None,
        }
    }
}

/// Random faults of these kinds, reproducible from a seed.
struct RandomFaults {
    kinds: Vec<LiveFault>,
    random: fastrand::Rng,
}

impl RandomFaults {
    fn new(seed: u64, kinds: &[LiveFault]) -> Self {
        Self {
            kinds: kinds.to_vec(),
            random: fastrand::Rng::with_seed(seed),
        }
    }

    /// The kind of fault that this request or batch meets, if it meets one of those that it can meet.
    fn choose(&mut self, can_meet: impl Fn(LiveFault) -> bool) -> Option<LiveFault> {
        let kinds = self.kinds.iter().copied();
        let kinds: Vec<_> = kinds.filter(|kind| can_meet(*kind)).collect();
        let is_hit = self.random.f64() < RATE;
        self.random.choice(kinds).filter(|_| is_hit)
    }
}

/// Injects random faults of these kinds into a stack until [`stop_faults`].
fn inject(live: &LiveStack, seed: u64, kinds: &[LiveFault]) {
    let random = || RandomFaults::new(seed, kinds);
    let has = |kind: LiveFault| kinds.contains(&kind);
    inject_into_requests(live, random());
    inject_into_batches(live, random());
    if has(LiveFault::LostDisconnects) {
        let mut random = random().random;
        live.faults.on_disconnect(move |_| match random.u8(..4) {
            0 | 1 => DisconnectFault::Lose,
            2 => DisconnectFault::Delay(Duration::from_millis(random.u64(..500))),
            _ => DisconnectFault::None,
        });
    }
    let mut table_kinds = Vec::new();
    if has(LiveFault::TableFailures) {
        table_kinds.extend([
            FaultKind::Conflict,
            FaultKind::Throttle,
            FaultKind::ServerError,
            FaultKind::DropBefore,
            FaultKind::DropAfter,
        ]);
    }
    if has(LiveFault::TornReads) {
        table_kinds.push(FaultKind::TornRead);
    }
    if !table_kinds.is_empty() {
        let rate = if has(LiveFault::TableFailures) {
            TABLE_RATE
        } else {
            RATE
        };
        live.proxied
            .set_fault_plan(FaultPlan::random(seed, &table_kinds, rate));
    }
}

fn inject_into_requests(live: &LiveStack, mut random: RandomFaults) {
    let kill = live.killer(PUSH_EVENTS);
    let mut lost = BTreeSet::new();
    live.faults.on_management(move |method, connection| {
        if method != "POST" {
            return ManagementFault::None;
        }
        let is_repeated = lost.remove(connection);
        let of_posts = |kind: LiveFault| {
            !kind.cuts_sockets()
                && !matches!(
                    kind,
                    LiveFault::RepeatedRecords
                        | LiveFault::LateRecords
                        | LiveFault::DroppedRecords
                        | LiveFault::TableFailures
                        | LiveFault::TornReads
                )
        };
        let kind = if is_repeated {
            Some(LiveFault::KillAfterPost)
        } else {
            random.choose(of_posts)
        };
        let Some(kind) = kind else {
            return ManagementFault::None;
        };
        if kind == LiveFault::KillAfterPost && !is_repeated {
            lost.insert(connection.to_owned());
        }
        kind.of_post(&kill, is_repeated)
    });
}

fn inject_into_batches(live: &LiveStack, mut random: RandomFaults) {
    let mut late: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    live.faults.on_batch(move |records, attempt| {
        let of_batches = |kind: LiveFault| {
            matches!(
                kind,
                LiveFault::RepeatedRecords | LiveFault::LateRecords | LiveFault::DroppedRecords
            )
        };
        // A batch that is delivered again stays as it is, so that the records of a chat keep their order.
        if attempt > 1 {
            return records;
        }
        let mut changed = Vec::new();
        for record in records {
            let chat = chat_of(&record).unwrap_or_default().to_owned();
            let kind = random.choose(of_batches);
            if kind == Some(LiveFault::LateRecords) {
                late.entry(chat).or_default().push(record);
                continue;
            }
            changed.extend(late.remove(&chat).unwrap_or_default());
            match kind {
                Some(LiveFault::DroppedRecords) => {}
                Some(LiveFault::RepeatedRecords) => changed.extend([record.clone(), record]),
                _ => changed.push(record),
            }
        }
        changed
    });
}

async fn stop_faults(live: &LiveStack) {
    live.faults.clear();
    live.proxied.inject_next([]);
    live.proxied.set_fault_plan(FaultPlan::none());
    live.proxied.wait_until_idle().await;
}

/// A request of a user about another one.
fn any_request(random: &mut fastrand::Rng) -> PairRequest {
    // Few numbers, so that most of the messages exist, and are changed again.
    let seq = random.u64(1..8);
    let text = ["hello", "hi", "👩‍👩‍👧", "line one\nline two"][random.usize(..4)];
    match random.u8(..48) {
        0..6 => PairRequest::RequestChat,
        6..11 => PairRequest::Accept,
        11 => PairRequest::Decline,
        12 => PairRequest::Withdraw,
        13..27 => PairRequest::Send {
            key: random.bool().then(|| format!("key-{}", random.u64(..))),
            content: any_content(text, random),
        },
        27..32 => {
            let edit = Edit {
                text: Part::Set(text.to_uppercase()),
                ..Edit::default()
            };
            PairRequest::Edit { seq, edit }
        }
        32..35 => PairRequest::Delete { seq },
        35..38 => PairRequest::MarkRead { up_to: None },
        38..42 => PairRequest::MarkRead { up_to: Some(seq) },
        42 => PairRequest::Block,
        43..46 => PairRequest::Unblock,
        46 => PairRequest::Report {
            seq: random.bool().then_some(seq),
            reason: "spam",
            block: random.u8(..4) == 0,
        },
        _ => PairRequest::GetChat,
    }
}

fn any_content(text: &str, random: &mut fastrand::Rng) -> Content {
    match random.u8(..5) {
        0 => Content {
            image_url: Some("https://a.example/1.png".to_owned()),
            ..Content::text(text)
        },
        // Longer than a preview.
        1 => Content::text(&"é".repeat(121)),
        _ => Content::text(text),
    }
}

/// A user, and the devices of this user.
type Devices = Arc<Vec<Device>>;

/// Sends random requests of one user, each on one of the user's devices.
async fn send_requests(
    live: Arc<LiveStack>,
    devices: Devices,
    others: Vec<u64>,
    count: u64,
    mut random: fastrand::Rng,
    kinds: Arc<[LiveFault]>,
) {
    for _ in 0..count {
        let device = &devices[random.usize(..devices.len())];
        let other = others[random.usize(..others.len())];
        device.perform(other, &any_request(&mut random)).await;
        let cuts = kinds.iter().any(|kind| kind.cuts_sockets());
        if cuts && random.u8(..12) == 0 {
            if kinds.contains(&LiveFault::KilledConnects) {
                let killed = Fault::new("PutItem", FaultEffect::KillAfter);
                live.proxied.inject_next([killed]);
            }
            live.stack().cut_connections();
        }
    }
}

/// Waits until all devices show what the REST API says, without `sync`.
async fn wait_until_consistent(devices: &[Devices]) {
    for device in devices.iter().flat_map(|devices| devices.iter()) {
        device.wait_until_consistent().await;
    }
}

/// Lets all devices send `sync`, again while one of them shows something else than the REST API says.
async fn sync_until_right(devices: &[Devices]) {
    for attempt in 1.. {
        let mut wrong = Vec::new();
        for of_user in devices {
            for device in of_user.iter() {
                device.sync().await;
            }
            let expected = View::of_rest(&of_user[0].user).await;
            for device in of_user.iter() {
                let differences = device.view().differences(&expected);
                if !differences.is_empty() {
                    wrong.push((device.user.id, differences));
                }
            }
        }
        if wrong.is_empty() {
            return;
        }
        assert!(attempt < MAX_SYNCS, "after {attempt} syncs: {wrong:#?}");
    }
}

/// Sends random requests while faults of these kinds are injected, and compares what the devices show.
async fn check(name: &str, kinds: &[LiveFault], requests: u64) {
    let seed = env_number("LIVE_SEED", 1);
    println!("{name}: {requests} requests, seed {seed}");
    let live = Arc::new(LiveStack::start().await);
    let users: Vec<User> = (0..USERS).map(|_| live.api().user()).collect();
    let mut devices: Vec<Devices> = Vec::new();
    for user in &users {
        let mut of_user = Vec::new();
        for _ in 0..DEVICES_PER_USER {
            of_user.push(Device::connect(user).await);
        }
        devices.push(Arc::new(of_user));
    }
    inject(&live, seed, kinds);
    let mut random = fastrand::Rng::with_seed(seed);
    let kinds: Arc<[LiveFault]> = kinds.into();
    let count = requests.div_ceil(USERS as u64);
    let senders: Vec<_> = users
        .iter()
        .zip(&devices)
        .map(|(user, devices)| {
            let others = users.iter().map(|other| other.id);
            let others = others.filter(|other| *other != user.id).collect();
            let (live, devices, kinds) = (live.clone(), devices.clone(), kinds.clone());
            send_requests(live, devices, others, count, random.fork(), kinds)
        })
        .collect();
    run_concurrently(senders).await;
    stop_faults(&live).await;
    if !kinds.iter().any(|kind| kind.is_lossy()) {
        wait_until_consistent(&devices).await;
    }
    sync_until_right(&devices).await;
    for device in devices.iter().flat_map(|devices| devices.iter()) {
        let in_flight = device.messages_in_flight();
        assert!(in_flight.is_empty(), "{in_flight:?}");
    }
    let batches = live.faults.drain_batches().len();
    let posts = live.faults.request_count("POST");
    let connected: u64 = devices
        .iter()
        .flat_map(|devices| devices.iter())
        .map(Device::times_connected)
        .sum();
    println!("{name}: {batches} batches, {posts} frames, {connected} connections");
    assert!(posts > 0, "no frame was sent");
    assert_eq!(invariant_violations(live.table()).await, [""; 0]);
    assert_eq!(admin_findings(live.table()).await, [""; 0]);
}

fn requests() -> u64 {
    env_number("LIVE_REQUESTS", 200)
}

macro_rules! each_fault {
    ($($(#[$attribute:meta])* $test:ident: $kinds:expr,)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        $(#[$attribute])*
        async fn $test() {
            check(stringify!($test), &$kinds, requests() / 3).await;
        }
    )*};
}

each_fault! {
    devices_are_right_without_faults: [],
    devices_are_right_when_push_events_is_killed_before_a_frame: [LiveFault::KillBeforePost],
    devices_are_right_when_push_events_is_killed_after_a_frame: [LiveFault::KillAfterPost],
    devices_are_right_when_the_responses_to_frames_are_lost: [LiveFault::LostResponse],
    devices_are_right_when_open_connections_are_reported_as_gone: [LiveFault::Gone],
    devices_are_right_when_frames_are_throttled: [LiveFault::Throttled],
    devices_are_right_when_frames_fail: [LiveFault::ServerError],
    devices_are_right_when_frames_are_forbidden: [LiveFault::Forbidden],
    devices_are_right_when_frames_are_slow: [LiveFault::Slow],
    devices_are_right_when_frames_get_no_response: [LiveFault::NoResponse],
    devices_are_right_when_records_are_repeated: [LiveFault::RepeatedRecords],
    devices_are_right_when_records_are_late: [LiveFault::LateRecords],
    devices_are_right_when_records_are_dropped: [LiveFault::DroppedRecords],
    devices_are_right_when_sockets_are_cut: [LiveFault::CutSockets],
    devices_are_right_when_disconnects_are_lost_or_late: [LiveFault::LostDisconnects],
    #[cfg_attr(not(target_os = "linux"), ignore = "needs /proc to find the calling process")]
    devices_are_right_when_handshakes_are_killed: [LiveFault::KilledConnects],
    devices_are_right_when_the_table_fails: [LiveFault::TableFailures],
    devices_are_right_when_messages_are_readable_late: [LiveFault::TornReads],
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(
    not(target_os = "linux"),
    ignore = "needs /proc to find the calling process"
)]
async fn devices_are_right_with_all_faults_together() {
    check("all faults", &LiveFault::ALL, requests()).await;
}
