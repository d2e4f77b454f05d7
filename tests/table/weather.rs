//! What can befall a call on its way to DynamoDB, at random but from a seed: the same call that is
//! made for the same time meets the same trouble in each run, however calls are scheduled.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use serde_json::Value;

use crate::recorder::{Fate, error};

/// What an answer takes on its way. Without it the embedded DynamoDB answers one of two parallel calls
/// before a connection for the other is open, and they would look like two round trips.
const ROUND_TRIP: Duration = Duration::from_millis(25);
/// How long a transaction holds its items in production.
const HOLD: Duration = Duration::from_millis(25);
/// Longer than the functions wait for one answer.
const TOO_SLOW: Duration = Duration::from_millis(2_200);

/// The kinds of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Trouble {
    /// A transaction is cancelled because another one holds one of its items.
    Conflict,
    /// DynamoDB has no capacity left for the call.
    Throttle,
    /// DynamoDB says 500 or 503, half of the time after the call took effect.
    ServerError,
    /// The answer takes its time, sometimes longer than anybody waits.
    Slow,
    /// The connection breaks before the call takes effect.
    DropBefore,
    /// The connection breaks after the call took effect.
    DropAfter,
    /// The function's process is killed before its call takes effect.
    KillBefore,
    /// The function's process is killed after its call took effect.
    KillAfter,
    /// A transaction's message can be read only some time after the rest of it: DynamoDB promises no
    /// more to who reads several items ("read-committed").
    TornRead,
}

impl Trouble {
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

/// What befalls calls from now on.
#[derive(Clone, Debug)]
pub struct Weather {
    seed: u64,
    troubles: Vec<Trouble>,
    /// Of all calls, the part that meets one of the troubles.
    rate: f64,
    /// What each answer takes on its way.
    pub round_trip: Duration,
    /// Transactions that overlap in time on an item conflict, and each holds its items this long.
    pub hold: Option<Duration>,
    /// Transactions overlap on a user's totals as if those were one item.
    pub one_counter: bool,
    calls: HashMap<(String, String), u64>,
}

impl Default for Weather {
    fn default() -> Self {
        Self {
            seed: 0,
            troubles: Vec::new(),
            rate: 0.0,
            round_trip: ROUND_TRIP,
            hold: None,
            one_counter: false,
            calls: HashMap::new(),
        }
    }
}

impl Weather {
    /// No trouble, and answers as quick as they come.
    pub fn fair() -> Self {
        Self {
            round_trip: Duration::ZERO,
            ..Self::default()
        }
    }

    /// No trouble, but transactions that overlap conflict, as if a user's totals were one item if that
    /// is wanted.
    pub fn crowded(one_counter: bool) -> Self {
        Self {
            hold: Some(HOLD),
            one_counter,
            ..Self::default()
        }
    }

    /// These troubles befall this part of all calls, one as often as another; and transactions that
    /// overlap conflict.
    pub fn rough(seed: u64, troubles: &[Trouble], rate: f64) -> Self {
        Self {
            seed,
            troubles: troubles.to_vec(),
            rate,
            hold: Some(HOLD),
            ..Self::fair()
        }
    }

    /// Whether no trouble can befall anybody.
    pub fn is_fair(&self) -> bool {
        self.troubles.is_empty()
    }

    /// What befalls this call, if it is its time.
    pub fn befalls(&mut self, operation: &str, request: &Value) -> Option<(Trouble, Fate)> {
        if self.is_fair() {
            return None;
        }
        let call = (operation.to_owned(), first_key(request));
        let nth = self.calls.entry(call.clone()).or_default();
        *nth += 1;
        let mut hasher = DefaultHasher::new();
        (self.seed, call, *nth).hash(&mut hasher);
        let mut random = fastrand::Rng::with_seed(hasher.finish());
        if random.f64() >= self.rate {
            return None;
        }
        let trouble = self.troubles[random.usize(..self.troubles.len())];
        let parts = request["TransactItems"].as_array().map(Vec::len);
        fate(trouble, parts, &mut random).map(|fate| (trouble, fate))
    }
}

/// `parts`: of a transaction. `None` when such a call cannot meet such a trouble.
fn fate(trouble: Trouble, parts: Option<usize>, random: &mut fastrand::Rng) -> Option<Fate> {
    let a_while = Duration::from_millis(random.u64(5..300));
    Some(match trouble {
        Trouble::Conflict => cancelled("TransactionConflict", parts?, random),
        Trouble::Throttle => match parts {
            Some(parts) if random.bool() => {
                let code = random.choice(["ThrottlingError", "ProvisionedThroughputExceeded"])?;
                cancelled(code, parts, random)
            }
            _ => Fate::Answer(
                400,
                error(random.choice([
                    "ThrottlingException",
                    "ProvisionedThroughputExceededException",
                    "RequestLimitExceeded",
                ])?),
            ),
        },
        Trouble::ServerError if random.bool() => Fate::LostAnswer,
        Trouble::ServerError => {
            let (status, name) =
                random.choice([(500, "InternalServerError"), (503, "ServiceUnavailable")])?;
            Fate::Answer(status, error(name))
        }
        Trouble::Slow if random.u8(..10) == 0 => Fate::Slow(TOO_SLOW),
        Trouble::Slow => Fate::Slow(a_while),
        Trouble::DropBefore => Fate::DropBefore,
        Trouble::DropAfter => Fate::DropAfter,
        Trouble::KillBefore => Fate::KillBefore,
        Trouble::KillAfter => Fate::KillAfter,
        Trouble::TornRead => {
            parts?;
            Fate::Torn(a_while)
        }
    })
}

/// A transaction cancelled for one of its parts.
fn cancelled(code: &str, parts: usize, random: &mut fastrand::Rng) -> Fate {
    let guilty = random.usize(..parts);
    let codes = (0..parts).map(|part| if part == guilty { code } else { "None" });
    Fate::cancelled(codes)
}

/// What a call is about: the partition of its first item, or the key of what it queries.
fn first_key(request: &Value) -> String {
    let about = [
        &request["TransactItems"][0],
        &request["Key"],
        &request["ExpressionAttributeValues"],
    ];
    let about = about.into_iter().find(|it| !it.is_null());
    match about {
        Some(part) if part["Put"].is_object() => part["Put"]["Item"]["pk"].to_string(),
        Some(part) if part["Update"].is_object() => part["Update"]["Key"]["pk"].to_string(),
        other => other.map(Value::to_string).unwrap_or_default(),
    }
}
