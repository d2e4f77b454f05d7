//! Fault injection: random faults in operations on DynamoDB, reproducible from a seed.
//!
//! The fault depends on the seed, on the operation and on how often the same operation was sent
//! before. So the n-th repeat of an operation meets the same fault in each run, however requests are
//! scheduled.
//!
//! The proxy (`dynamodb_proxy`) applies the faults. It also emulates conflicts: it locks the items of a
//! transaction for some time, and cancels other transactions on the same items.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use serde_json::Value;

use crate::dynamodb_proxy::{FaultEffect, error_body};

/// Delay of each response. Without it the embedded DynamoDB responds to one of two parallel operations
/// before a connection for the other one is open, so they would look like two sequential round trips.
const ROUND_TRIP: Duration = Duration::from_millis(25);
/// How long a transaction keeps its items locked in production.
const LOCK_TIME: Duration = Duration::from_millis(25);
/// Longer than the functions wait for one response.
const TOO_SLOW: Duration = Duration::from_millis(2_200);

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
    /// A transaction's message becomes readable some time after its other items. DynamoDB promises no
    /// more to a reader of several items ("read-committed").
    TornRead,
}

impl FaultKind {
    pub const ALL: [Self; 9] = [
        Self::Conflict,
        Self::Throttle,
        Self::ServerError,
        Self::Slow,
        Self::DropBefore,
        Self::DropAfter,
        Self::KillBefore,
        Self::KillAfter,
        Self::TornRead,
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
    /// How often each operation was sent, by its name and first key.
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

    /// This fraction of operations meets a fault of one of these kinds, each equally likely, and
    /// overlapping transactions conflict.
    pub fn random(seed: u64, kinds: &[FaultKind], rate: f64) -> Self {
        Self {
            seed,
            kinds: kinds.to_vec(),
            rate,
            lock_time: Some(LOCK_TIME),
            ..Self::none()
        }
    }

    /// Whether no operation can meet a fault.
    pub fn is_empty(&self) -> bool {
        self.kinds.is_empty()
    }

    /// The fault that this operation meets, if any.
    pub fn next_fault(
        &mut self,
        operation: &str,
        request: &Value,
    ) -> Option<(FaultKind, FaultEffect)> {
        if self.is_empty() {
            return None;
        }
        let operation = (operation.to_owned(), first_key(request));
        let repeats = self.sent.entry(operation.clone()).or_default();
        *repeats += 1;
        let mut hasher = DefaultHasher::new();
        (self.seed, operation, *repeats).hash(&mut hasher);
        let mut random = fastrand::Rng::with_seed(hasher.finish());
        if random.f64() >= self.rate {
            return None;
        }
        let kind = self.kinds[random.usize(..self.kinds.len())];
        let parts = request["TransactItems"].as_array().map(Vec::len);
        effect(kind, parts, &mut random).map(|effect| (kind, effect))
    }
}

/// What a fault does to an operation. `parts` is the number of a transaction's parts, and `None` for
/// other operations. Returns `None` if the operation cannot meet this kind of fault.
fn effect(
    kind: FaultKind,
    parts: Option<usize>,
    random: &mut fastrand::Rng,
) -> Option<FaultEffect> {
    let delay = Duration::from_millis(random.u64(5..300));
    Some(match kind {
        FaultKind::Conflict => cancelled("TransactionConflict", parts?, random),
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
        FaultKind::TornRead => {
            parts?;
            FaultEffect::TornRead(delay)
        }
    })
}

/// A transaction that is cancelled because of one of its parts.
fn cancelled(code: &str, parts: usize, random: &mut fastrand::Rng) -> FaultEffect {
    let failed_part = random.usize(..parts);
    let codes = (0..parts).map(|part| if part == failed_part { code } else { "None" });
    FaultEffect::cancelled(codes)
}

/// Identifies the subject of an operation: the partition of its first item, or the key of a query.
fn first_key(request: &Value) -> String {
    let candidates = [
        &request["TransactItems"][0],
        &request["Key"],
        &request["ExpressionAttributeValues"],
    ];
    let subject = candidates.into_iter().find(|value| !value.is_null());
    match subject {
        Some(part) if part["Put"].is_object() => part["Put"]["Item"]["pk"].to_string(),
        Some(part) if part["Update"].is_object() => part["Update"]["Key"]["pk"].to_string(),
        other => other.map(Value::to_string).unwrap_or_default(),
    }
}
