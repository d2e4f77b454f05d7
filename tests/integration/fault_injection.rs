//! Fault injection: random faults in operations on DynamoDB, reproducible from a seed.
//!
//! The fault depends on the seed, on the operation and on how often the same operation was sent
//! before. So the n-th repeat of an operation meets the same fault in each run, however requests are
//! scheduled.
//!
//! The proxy (`dynamodb_proxy`) applies the faults. It also emulates conflicts: it locks the items of a
//! transaction for some time, and cancels other transactions on the same items. And it emulates index
//! lag: it answers queries on an index as if the index had not followed the latest changes yet.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use serde_json::Value;

use crate::dynamodb_proxy::{FaultEffect, LateItems, Until, batch_keys, error_body, item_keys};

/// Delay of each response. Without it the embedded DynamoDB responds to one of two parallel operations
/// before a connection for the other one is open, so they would look like two sequential round trips.
const ROUND_TRIP: Duration = Duration::from_millis(25);
/// How long a transaction keeps its items locked in production.
const LOCK_TIME: Duration = Duration::from_millis(25);
/// Longer than the functions wait for one response.
const TOO_SLOW: Duration = Duration::from_millis(2_200);
/// How many queries of one partition of an index can miss the latest change of a chat. In production
/// an index follows within about a second. Tests count queries instead, so that they need no pauses.
pub const MAX_LATE_QUERIES: u32 = 3;
/// Queries can miss a change until the test settles the indexes.
pub const UNTIL_SETTLED: u32 = u32::MAX;

/// The kinds of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FaultKind {
    /// A transaction is cancelled because another one has locked one of its items.
    Conflict,
    /// DynamoDB has no capacity left for the operation.
    Throttle,
    /// DynamoDB responds with 500 or 503, half of the time after it applied the operation.
    ServerError,
    /// The response is delayed, sometimes longer than the functions wait.
    Slow,
    /// The connection closes before the operation takes effect.
    DropBefore,
    /// The connection closes after the operation took effect.
    DropAfter,
    /// The function's process is killed before its operation takes effect.
    KillBefore,
    /// The function's process is killed after its operation took effect.
    KillAfter,
    /// A transaction's message, the number of its change, or both become readable some time after its other
    /// items. DynamoDB promises no more to a reader of several items ("read-committed").
    TornRead,
    /// DynamoDB reads only some of the keys of a batch.
    UnprocessedKeys,
    /// A query on an index misses the latest changes: it returns the old row of a chat beside the new
    /// one, only the old one, or neither. DynamoDB updates an index some time after the table.
    IndexLag,
}

impl FaultKind {
    pub const ALL: [Self; 11] = [
        Self::Conflict,
        Self::Throttle,
        Self::ServerError,
        Self::Slow,
        Self::DropBefore,
        Self::DropAfter,
        Self::KillBefore,
        Self::KillAfter,
        Self::TornRead,
        Self::UnprocessedKeys,
        Self::IndexLag,
    ];
}

/// The faults that the proxy injects from now on.
#[derive(Clone, Debug)]
pub struct FaultPlan {
    seed: u64,
    kinds: Vec<FaultKind>,
    /// The fraction of operations that meet a fault.
    rate: f64,
    /// Delay of each response.
    pub round_trip: Duration,
    /// If set, transactions lock their items for this long, and conflict when they overlap.
    pub lock_time: Option<Duration>,
    /// Transactions conflict on a user's totals as if those were one item instead of shards.
    pub single_counter: bool,
    /// How many queries of one partition of an index can miss the latest change of a chat.
    pub max_late_queries: u32,
    /// How often each operation was sent, by its name and subject.
    sent: HashMap<(String, String), u64>,
}

impl Default for FaultPlan {
    fn default() -> Self {
        Self {
            seed: 0,
            kinds: Vec::new(),
            rate: 0.0,
            round_trip: ROUND_TRIP,
            lock_time: None,
            single_counter: false,
            max_late_queries: MAX_LATE_QUERIES,
            sent: HashMap::new(),
        }
    }
}

impl FaultPlan {
    /// No faults and no delays.
    pub fn none() -> Self {
        Self {
            round_trip: Duration::ZERO,
            ..Self::default()
        }
    }

    /// No faults, but transactions conflict when they overlap in time on an item. With
    /// `single_counter`, a user's totals count as one item.
    pub fn overlap_conflicts(single_counter: bool) -> Self {
        Self {
            lock_time: Some(LOCK_TIME),
            single_counter,
            ..Self::default()
        }
    }

    /// Every query on an index meets index lag. `max_late_queries` is [`MAX_LATE_QUERIES`],
    /// [`UNTIL_SETTLED`] or any other number.
    pub fn index_lag(seed: u64, max_late_queries: u32) -> Self {
        Self {
            seed,
            kinds: vec![FaultKind::IndexLag],
            rate: 1.0,
            max_late_queries,
            ..Self::none()
        }
    }

    /// This fraction of operations meets a fault of one of these kinds, and overlapping transactions
    /// conflict. Each kind is equally likely, except that half of the faults of queries on an index are
    /// index lag, because no other operation can meet it. It is the same with batches and unprocessed keys, and
    /// with transactions that change messages and torn reads.
    pub fn random(seed: u64, kinds: &[FaultKind], rate: f64) -> Self {
        Self {
            seed,
            kinds: kinds.to_vec(),
            rate,
            lock_time: Some(LOCK_TIME),
            ..Self::none()
        }
    }

    /// Whether an operation can fail. Index lag is no failure: it only delays what lists show.
    pub fn has_failures(&self) -> bool {
        self.kinds.iter().any(|kind| *kind != FaultKind::IndexLag)
    }

    /// Whether queries on an index can miss the latest changes.
    pub fn has_index_lag(&self) -> bool {
        self.kinds.contains(&FaultKind::IndexLag)
    }

    /// The fault that this operation meets, if any.
    pub fn next_fault(
        &mut self,
        operation: &str,
        request: &Value,
    ) -> Option<(FaultKind, FaultEffect)> {
        if self.kinds.is_empty() {
            return None;
        }
        let index = request["IndexName"].as_str();
        let subject = first_key(request) + index.unwrap_or_default();
        let operation = (operation.to_owned(), subject);
        let repeats = self.sent.entry(operation.clone()).or_default();
        *repeats += 1;
        let mut hasher = DefaultHasher::new();
        (self.seed, &operation, *repeats).hash(&mut hasher);
        let mut random = fastrand::Rng::with_seed(hasher.finish());
        if random.f64() >= self.rate {
            return None;
        }
        let kind = self.choose_kind(request, &mut random)?;
        effect(kind, &operation.0, request, &mut random).map(|effect| (kind, effect))
    }

    fn choose_kind(&self, request: &Value, random: &mut fastrand::Rng) -> Option<FaultKind> {
        // The kinds that only some operations can meet. Those operations meet them more often than another kind, so
        // that even a short run has each kind.
        let special = [
            (FaultKind::IndexLag, request["IndexName"].is_string()),
            (FaultKind::UnprocessedKeys, batch_keys(request).is_some()),
            (FaultKind::TornRead, !late_items(request).is_empty()),
        ];
        let kinds = self.kinds.iter().copied();
        let is_special = |kind: &FaultKind| special.iter().any(|(special, _)| special == kind);
        let others: Vec<_> = kinds.filter(|kind| !is_special(kind)).collect();
        let possible = special.iter().find(|(_, is_possible)| *is_possible);
        if let Some((kind, _)) = possible
            && self.kinds.contains(kind)
            && (others.is_empty() || random.bool())
        {
            return Some(*kind);
        }
        random.choice(others)
    }
}

/// What a fault does to an operation. Returns `None` if the operation cannot meet this kind of fault.
fn effect(
    kind: FaultKind,
    operation: &str,
    request: &Value,
    random: &mut fastrand::Rng,
) -> Option<FaultEffect> {
    let delay = Duration::from_millis(random.u64(5..300));
    let parts = request["TransactItems"].as_array().map(Vec::len);
    Some(match kind {
        FaultKind::Conflict => match parts {
            Some(parts) => cancelled("TransactionConflict", parts, random),
            None if operation == "UpdateItem" => {
                FaultEffect::Respond(400, error_body("TransactionConflictException"))
            }
            None => return None,
        },
        FaultKind::Throttle => match parts {
            Some(parts) if random.bool() => {
                let code = random.choice(["ThrottlingError", "ProvisionedThroughputExceeded"])?;
                cancelled(code, parts, random)
            }
            _ => FaultEffect::Respond(
                400,
                error_body(random.choice([
                    "ThrottlingException",
                    "ProvisionedThroughputExceededException",
                    "RequestLimitExceeded",
                ])?),
            ),
        },
        FaultKind::ServerError if random.bool() => FaultEffect::LoseResponse,
        FaultKind::ServerError => {
            let (status, name) =
                random.choice([(500, "InternalServerError"), (503, "ServiceUnavailable")])?;
            FaultEffect::Respond(status, error_body(name))
        }
        FaultKind::Slow if random.u8(..10) == 0 => FaultEffect::Delay(TOO_SLOW),
        FaultKind::Slow => FaultEffect::Delay(delay),
        FaultKind::DropBefore => FaultEffect::DropBefore,
        FaultKind::DropAfter => FaultEffect::DropAfter,
        FaultKind::KillBefore => FaultEffect::KillBefore,
        FaultKind::KillAfter => FaultEffect::KillAfter,
        FaultKind::TornRead => FaultEffect::TornRead {
            late: random.choice(late_items(request))?,
            until: Until::Elapsed(delay),
        },
        // With a single key, DynamoDB reads all or returns an error.
        FaultKind::UnprocessedKeys if batch_keys(request)? < 2 => {
            FaultEffect::Respond(400, error_body("ProvisionedThroughputExceededException"))
        }
        FaultKind::UnprocessedKeys => FaultEffect::Unprocessed {
            seed: random.u64(..),
        },
        FaultKind::IndexLag => FaultEffect::IndexLag {
            seed: random.u64(..),
        },
    })
}

/// The items of a transaction that can become readable later than the state of the chat. Empty if the operation is
/// no transaction or changes no message.
fn late_items(request: &Value) -> Vec<LateItems> {
    if !request["TransactItems"].is_array() {
        return Vec::new();
    }
    let written = item_keys(request);
    let is_written = |late: &LateItems| written.iter().any(|key| late.contains(key));
    let candidates = [
        LateItems::Messages,
        LateItems::Changes,
        LateItems::MessagesAndChanges,
    ];
    candidates.into_iter().filter(is_written).collect()
}

/// A transaction that is cancelled because of one of its parts.
fn cancelled(code: &str, parts: usize, random: &mut fastrand::Rng) -> FaultEffect {
    let failed_part = random.usize(..parts);
    let codes = (0..parts).map(|part| if part == failed_part { code } else { "None" });
    FaultEffect::cancelled(codes)
}

/// Identifies the subject of an operation: the partition of its first item, or the key of a query.
fn first_key(request: &Value) -> String {
    if let Some((pk, _)) = item_keys(request).first() {
        return pk.clone();
    }
    let candidates = [
        &request["Key"],
        &request["RequestItems"],
        &request["ExpressionAttributeValues"],
    ];
    let subject = candidates.into_iter().find(|value| !value.is_null());
    subject.map(Value::to_string).unwrap_or_default()
}
