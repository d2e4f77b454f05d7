//! The load of single keys: hot partitions, hot items, and transactions that conflict.

use std::collections::{BTreeMap, HashMap};

use chat_shared::{
    domain::{ChatId, UserId},
    store::items::{ItemKey, ItemKind},
};

use super::{float, model::Model};
use crate::dynamodb_proxy::TRANSACTION_DURATION;

/// Ranks up to which [`harmonic`] adds each term.
const EXACT_RANKS: u32 = 10_000;
/// The most popular users from whose messages [`Popularity`] is fitted.
const FITTED_RANKS: usize = 10;

/// A partition or an item.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    /// The partition of a chat in the table.
    Chat(ChatId),
    /// The partition of a user in the table.
    User(UserId),
    /// The rows of a user in both indexes.
    Rows(UserId),
    /// An item that transactions lock.
    Item(ItemKey),
}

impl Key {
    /// The kind of the key in reports.
    fn kind(&self) -> &'static str {
        match self {
            Self::Chat(_) => "partition of a chat",
            Self::User(_) => "partition of a user",
            Self::Rows(_) => "rows of a user in the indexes",
            Self::Item(key) => match ItemKind::of(key) {
                Some(ItemKind::Chat) => "item `STATE` of a chat",
                Some(ItemKind::Totals) => "item `TOTALS` of a user",
                Some(ItemKind::OpenRequests) => "item `SENT` of a user",
                _ => "another item",
            },
        }
    }
}

/// The load of a key in some time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Units {
    /// Write units.
    pub write: f64,
    /// Read units.
    pub read: f64,
    /// Transactions that lock the item.
    pub transactions: f64,
}

impl Units {
    /// One transaction.
    pub const TRANSACTION: Self = Self {
        write: 0.0,
        read: 0.0,
        transactions: 1.0,
    };

    fn plus(self, other: Self) -> Self {
        Self {
            write: self.write + other.write,
            read: self.read + other.read,
            transactions: self.transactions + other.transactions,
        }
    }

    fn max(self, other: Self) -> Self {
        Self {
            write: self.write.max(other.write),
            read: self.read.max(other.read),
            transactions: self.transactions.max(other.transactions),
        }
    }
}

/// The load of a key.
#[derive(Clone, Copy, Debug, Default)]
struct KeyLoad {
    total: Units,
    /// The last second in which the key had any load.
    second: u64,
    in_second: Units,
    busiest_second: Units,
}

/// The load of all keys of a kind.
#[derive(Clone, Copy, Debug, Default)]
pub struct BusiestKeys {
    /// The number of keys with any load.
    pub keys: usize,
    /// The maximum of each unit over all keys, in the whole time. Different units can be of different keys.
    pub total: Units,
    /// The maximum of each unit over all keys, in one second.
    pub second: Units,
}

/// Adds up the load of each key.
#[derive(Default)]
pub struct KeyLoads(HashMap<Key, KeyLoad>);

impl KeyLoads {
    /// Adds load of a key at a time, in milliseconds. Times must not decrease.
    pub fn add(&mut self, at: u64, key: Key, units: Units) {
        let load = self.0.entry(key).or_default();
        let second = at / 1_000;
        if second != load.second {
            load.second = second;
            load.in_second = Units::default();
        }
        load.in_second = load.in_second.plus(units);
        load.busiest_second = load.busiest_second.max(load.in_second);
        load.total = load.total.plus(units);
    }

    /// The busiest keys of each kind.
    pub fn busiest(&self) -> BTreeMap<&'static str, BusiestKeys> {
        let mut kinds: BTreeMap<_, BusiestKeys> = BTreeMap::new();
        for (key, load) in &self.0 {
            let kind = kinds.entry(key.kind()).or_default();
            kind.keys += 1;
            kind.total = kind.total.max(load.total);
            kind.second = kind.second.max(load.busiest_second);
        }
        kinds
    }
}

/// Counts transactions that begin while another one has locked one of their items. A transaction locks its items for
/// [`TRANSACTION_DURATION`]. A transaction that conflicts is cancelled, so it locks nothing. Its next attempt is not
/// simulated.
#[derive(Default)]
pub struct ConflictCounter {
    /// When each item was locked last.
    locked_at: HashMap<ItemKey, u64>,
    /// All transactions.
    pub transactions: usize,
    /// Those that conflict.
    pub conflicts: usize,
    /// Those that conflict at the state of a chat.
    pub at_state: usize,
}

impl ConflictCounter {
    /// Adds a transaction that begins at a time, in milliseconds. Times must not decrease.
    pub fn add(&mut self, at: u64, items: Vec<ItemKey>) {
        let is_locked = |item: &ItemKey| {
            let locked_at = self.locked_at.get(item);
            locked_at.is_some_and(|locked_at| {
                u128::from(at - locked_at) < TRANSACTION_DURATION.as_millis()
            })
        };
        self.transactions += 1;
        let locked = items.iter().filter(|item| is_locked(item));
        let locked: Vec<_> = locked.map(ItemKind::of).collect();
        if locked.is_empty() {
            self.locked_at
                .extend(items.into_iter().map(|item| (item, at)));
        } else {
            self.conflicts += 1;
            self.at_state += usize::from(locked.contains(&Some(ItemKind::Chat)));
        }
    }
}

/// Extrapolates the messages to the most popular user to other numbers of users.
///
/// In a population of n active users, the user of rank k has the popularity p(k) = k^-z / H(n, z), where H(n, z) is the
/// sum of k^-z for all k up to n. This user gets the share `factor` × p(k) of all messages. The factor is below 1,
/// because each pair has only one chat, and users answer those who write to them. It is assumed to be the same for all
/// n. So the rate of the most popular user grows about like n^z.
pub struct Popularity {
    /// Fitted to the schedule: the share of all messages that the most popular users get, divided by their popularity.
    pub factor: f64,
}

impl Popularity {
    /// Fits the factor from the shares of all messages that the users get, most popular first.
    pub fn fit(shares: &[f64], model: &Model) -> Self {
        let exponent = model.popularity_exponent;
        let weights = (1_u32..).map(|rank| f64::from(rank).powf(-exponent));
        let weight: f64 = weights.take(FITTED_RANKS).sum();
        let popularity = weight / harmonic(float(shares.len()), exponent);
        let share: f64 = shares.iter().take(FITTED_RANKS).sum();
        Self {
            factor: share / popularity,
        }
    }

    /// The share of all messages that the most popular of `active_users` gets.
    pub fn top_share(&self, active_users: f64, model: &Model) -> f64 {
        self.factor / harmonic(active_users, model.popularity_exponent)
    }

    /// The messages per second to the most popular of `users` in the busiest hour.
    pub fn top_rate(&self, users: f64, model: &Model) -> f64 {
        let active_users = users * model.active_share;
        let messages = active_users * model.sent_messages() * model.peak_factor() / 86_400.0;
        messages * self.top_share(active_users, model)
    }

    /// The number of users with which the most popular one gets this many messages per second.
    pub fn users_at_rate(&self, rate: f64, model: &Model) -> f64 {
        // The rate grows with the number of users, so the interval with the solution is halved until it is small.
        let (mut low, mut high) = (1.0_f64, 1e13_f64);
        for _ in 0..100 {
            let middle = (low * high).sqrt();
            if self.top_rate(middle, model) < rate {
                low = middle;
            } else {
                high = middle;
            }
        }
        high
    }
}

/// The sum of k^-exponent for k from 1 to `count`. Beyond the first terms, an integral approximates the sum, for an
/// exponent other than 1.
fn harmonic(count: f64, exponent: f64) -> f64 {
    let term = |rank: f64| rank.powf(-exponent);
    let exact = f64::from(EXACT_RANKS);
    let ranks = (1..=EXACT_RANKS).map(f64::from);
    let sum: f64 = ranks.take_while(|rank| *rank <= count).map(term).sum();
    if count <= exact {
        return sum;
    }
    let power = 1.0 - exponent;
    let integral = (count.powf(power) - exact.powf(power)) / power;
    sum + integral + (term(count) - term(exact)) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(sk: &str) -> ItemKey {
        ItemKey::new("CHAT#1-2", sk)
    }

    fn both() -> Vec<ItemKey> {
        vec![item("STATE"), ItemKey::new("USER#1", "TOTALS#1")]
    }

    #[test]
    fn transactions_that_overlap_in_two_items_are_one_conflict() {
        let mut counter = ConflictCounter::default();
        counter.add(1_000, both());
        counter.add(1_024, both());
        assert_eq!(
            (counter.transactions, counter.conflicts, counter.at_state),
            (2, 1, 1)
        );
        // The first one has ended, and the second one was cancelled.
        counter.add(1_025, both());
        assert_eq!(counter.conflicts, 1);
        counter.add(1_026, vec![ItemKey::new("USER#1", "TOTALS#1")]);
        assert_eq!((counter.conflicts, counter.at_state), (2, 1));
    }

    #[test]
    fn transactions_on_different_items_do_not_conflict() {
        let mut counter = ConflictCounter::default();
        counter.add(1_000, both());
        counter.add(1_000, vec![ItemKey::new("CHAT#1-3", "STATE")]);
        assert_eq!(counter.conflicts, 0);
    }

    #[test]
    fn the_busiest_second_is_the_one_with_most_units() {
        let mut loads = KeyLoads::default();
        let write = |units: f64| Units {
            write: units,
            ..Units::default()
        };
        for (at, units) in [
            (1_000, 2.0),
            (1_999, 3.0),
            (2_000, 4.0),
            (2_500, 0.5),
            (3_000, 1.0),
        ] {
            loads.add(at, Key::Item(item("STATE")), write(units));
        }
        let other = ItemKey::new("CHAT#1-3", "STATE");
        loads.add(4_000, Key::Item(other), write(6.0));
        let busiest = loads.busiest();
        let states = busiest["item `STATE` of a chat"];
        assert_eq!(states.keys, 2);
        assert!((states.second.write - 6.0).abs() < 1e-9);
        assert!((states.total.write - 10.5).abs() < 1e-9);
    }

    #[test]
    fn the_sum_of_many_ranks_is_close_to_the_exact_sum() {
        let exact: f64 = (1..=200_000).map(|rank| f64::from(rank).powf(-0.7)).sum();
        assert!((harmonic(200_000.0, 0.7) / exact - 1.0).abs() < 1e-9);
        assert!((harmonic(3.0, 1.0) - 11.0 / 6.0).abs() < 1e-9);
    }

    #[test]
    fn the_rate_of_the_most_popular_user_is_fitted_and_grows_with_the_power_of_the_users() {
        let model = Model::DEFAULT;
        let users = 1_000_u32;
        let popularity = |rank: u32| f64::from(rank).powf(-0.7) / harmonic(f64::from(users), 0.7);
        let shares: Vec<_> = (1..=users).map(|rank| 0.3 * popularity(rank)).collect();
        let fitted = Popularity::fit(&shares, &model);
        assert!((fitted.factor - 0.3).abs() < 1e-9);
        let growth = fitted.top_rate(1e8, &model) / fitted.top_rate(1e6, &model);
        assert!(
            (growth / 100.0_f64.powf(0.7) - 1.0).abs() < 0.05,
            "{growth}"
        );
        let rate = fitted.top_rate(1e7, &model);
        let solved = fitted.users_at_rate(rate, &model);
        assert!((solved / 1e7 - 1.0).abs() < 0.01, "{solved}");
    }
}
