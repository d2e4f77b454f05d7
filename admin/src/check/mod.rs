//! Consistency check: verifies the table's invariants and repairs derived counters, while the table
//! serves live traffic.
//!
//! **Two passes.** The check scans the table twice, page by page. The first pass evaluates each chat from its own
//! items, and the connections of each user. The second pass evaluates each user's counters from the states of the
//! user's chats. Chats come first, because the counters must count the repaired states. The check keeps only one page
//! of keys, the chat ids of the users under evaluation, the ids of damaged chats, and sums, so that tables of any size
//! fit into memory.
//!
//! **Every content of a table is evaluated.** An item is read attribute by attribute. Each damage is one
//! line, and a damaged attribute only excludes what depends on it. The evaluation is pure code: items
//! in, violations out (`chat.rs` and the modules that it uses, `user.rs`, `scan.rs`). `property_tests.rs`
//! evaluates arbitrary items, and `rule_tests.rs` checks what is said about each damage.
//!
//! **Live traffic causes no false reports.** Items that belong together are read at different times,
//! and may change in between:
//!
//! - *Chats.* A chat's state is read before and after its other items. A message that arrived during these
//!   reads has a greater `seq` than the first state, and one that was edited or deleted has a greater
//!   `rev`. So each message is counted as it was when the first state was read. The second state includes
//!   what is newer.
//! - *Counters.* The states that a counter sums up are read before and after the counter. The counter
//!   is compared only if none of these states changed in between. Each state has a `seq`, a `rev` and a
//!   version of its blocks that only grow, so a state that looks unchanged is unchanged.
//! - *Confirmation.* The writes of one transaction become readable at slightly different times, and
//!   indexes lag behind the table. So the check reports only violations that it finds in three
//!   evaluations in a row, [`CheckOptions::settle`] apart. This time must be longer than the lag of
//!   the indexes, because a user's chats can be found only through them. For the same reason, do not
//!   repair while an index is being built.
//!
//! **Repairs.** Each repair is one conditional update: it takes effect only if the item still has the
//! values that the repair was computed from. Values that cannot be computed from other items, such as a
//! missing message, are reported and left unchanged. If two items or attributes contradict each other,
//! nothing is computed from either of them.
//!
//! **Blocks.** A version of the service that knows no blocks may work on the same table. It counts a message
//! to a member who has blocked its sender in `unread` and in the totals, and it does not hide a request.
//! Neither is a violation: it later subtracts what it has added. The sum of `unread` and `held` must be right.

mod attributes;
mod changes;
mod chat;
mod connection;
mod message;
#[cfg(test)]
mod property_tests;
mod read;
mod repair;
mod report;
#[cfg(test)]
mod rule_tests;
mod scan;
mod state;
#[cfg(test)]
mod test_table;
mod user;
mod violation;

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use chat_shared::{
    Error,
    domain::{ChatId, UserId},
    store::{
        Store,
        items::{ChatItem, Item, ItemKind, Partition},
    },
};
use futures_util::{StreamExt, stream};

use crate::table::{DynamoTable, Projection};
use scan::{ScannedItem, count_unknown_type};

pub use violation::Violation;

/// Number of chats or users that are evaluated at the same time.
const CONCURRENCY: usize = 16;
/// Number of evaluations in a row that must find a violation before it is reported.
const CONFIRMATIONS: usize = 3;
/// Maximum number of evaluations of an item that changes while it is evaluated or repaired.
const MAX_ATTEMPTS: usize = 10;

/// Options of a check.
#[derive(Clone, Copy, Debug)]
pub struct CheckOptions {
    /// Whether to correct values that can be computed from other items: unread counts, totals, open
    /// requests, hidden requests and index keys.
    pub repair: bool,
    /// Time between two evaluations of a suspected violation. It must be longer than the indexes lag
    /// behind the table.
    pub settle: Duration,
}

/// Result of a check, or its progress so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckSummary {
    /// Items that the check scanned.
    pub items: u64,
    /// Chats that it evaluated.
    pub chats: u64,
    /// Users that it evaluated.
    pub users: u64,
    /// Violations that it found.
    pub violations: u64,
    /// Violations that a repair can correct, or has corrected; part of `violations`.
    pub repairable: u64,
    /// Violations that it repaired; part of `repairable`.
    pub repaired: u64,
    /// Findings that name what could not be evaluated, and the reason. They are not part of `violations`.
    pub inconclusive: u64,
}

/// Event that the check reports while it runs.
#[derive(Debug)]
pub enum CheckEvent<'a> {
    /// The check has finished a page of the scan.
    Progress(CheckSummary),
    /// The check has confirmed a violation, or could not evaluate something.
    Violation(&'a Violation),
    /// The table contains items of types that only another version of the service knows. They were not
    /// checked, and are no violations. Contains the types with the number of their items.
    UnknownTypes(&'a BTreeMap<String, u64>),
}

/// Checks the whole table. Scans it twice, and reads each chat and user several times.
///
/// # Errors
/// Returns [`Error::Unavailable`] when DynamoDB does not respond for several minutes, and
/// [`Error::Internal`] when it rejects a read. A repair that fails is no error, see
/// [`Violation::repair_error`].
pub async fn check_table(
    store: &Store,
    options: CheckOptions,
    report: &mut impl FnMut(CheckEvent<'_>),
) -> Result<CheckSummary, Error> {
    let table = DynamoTable::new(store.client().clone(), store.table_name());
    let checker = Checker {
        table: &table,
        options,
        damaged_chats: RefCell::default(),
    };
    let mut scan = Scan::default();
    checker
        .scan(
            Pass::Chats,
            &mut scan,
            report,
            async |partition| match partition {
                Partition::Chat(id) => checker.confirm_chat(id).await,
                Partition::User(user) => checker.confirm_connections(user).await,
            },
        )
        .await?;
    if !scan.unknown_types.is_empty() {
        report(CheckEvent::UnknownTypes(&scan.unknown_types));
    }
    if scan.summary.repaired > 0 {
        // The indexes must list the repaired chats before the second pass counts them.
        tokio::time::sleep(options.settle).await;
    }
    let without_counters = RefCell::new(BTreeSet::new());
    checker
        .scan(
            Pass::Users,
            &mut scan,
            report,
            async |partition| match partition {
                Partition::User(user) => checker.confirm_user(user).await,
                Partition::Chat(id) => {
                    // The scan does not find users that have no counters at all.
                    let mut violations = Vec::new();
                    for user in checker.members_without_counters(id).await? {
                        if without_counters.borrow_mut().insert(user) {
                            violations.extend(checker.confirm_user(user).await?);
                        }
                    }
                    Ok(violations)
                }
            },
        )
        .await?;
    Ok(scan.summary)
}

/// One of the two scans. Only the first one counts items, chats and users.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pass {
    Chats,
    Users,
}

impl Pass {
    /// Whether the pass evaluates a partition in which it finds an item of this kind. The second pass must not find a
    /// user who has connections and no counters: it evaluates users without counters together with their chats.
    fn evaluates(self, kind: ItemKind) -> bool {
        self == Self::Chats || kind != ItemKind::Connection
    }
}

/// What the scans have found so far.
#[derive(Default)]
struct Scan {
    summary: CheckSummary,
    unknown_types: BTreeMap<String, u64>,
}

/// A check of one table.
struct Checker<'a> {
    table: &'a DynamoTable,
    options: CheckOptions,
    /// Chats whose state is missing or damaged, by member. The indexes may not list them.
    damaged_chats: RefCell<BTreeMap<UserId, BTreeSet<ChatId>>>,
}

impl Checker<'_> {
    /// Scans the table page by page, and evaluates each partition once.
    async fn scan(
        &self,
        pass: Pass,
        scan: &mut Scan,
        report: &mut impl FnMut(CheckEvent<'_>),
        evaluate: impl AsyncFn(Partition) -> Result<Vec<Violation>, Error>,
    ) -> Result<(), Error> {
        let mut start_key: Option<Item> = None;
        let mut last_partition = None;
        loop {
            let page = self
                .table
                .scan_page(Projection::KeyAndType, start_key.as_ref())
                .await?;
            let mut partitions = Vec::new();
            let mut violations = Vec::new();
            for item in &page.items {
                let scanned = ScannedItem::new(item);
                // The items of a partition follow one another, and may continue on the next page.
                if let ScannedItem::Known(partition, kind) = scanned
                    && pass.evaluates(kind)
                    && last_partition != Some(partition)
                {
                    last_partition = Some(partition);
                    partitions.push(partition);
                }
                if pass == Pass::Chats {
                    scan.count(scanned, &mut violations);
                }
            }
            if pass == Pass::Chats {
                scan.count_partitions(&partitions);
            }
            let mut evaluations = stream::iter(partitions)
                .map(async |partition| evaluate(partition).await)
                .buffer_unordered(CONCURRENCY);
            while let Some(evaluation) = evaluations.next().await {
                violations.extend(evaluation?);
            }
            for violation in &violations {
                scan.summary.add(violation);
                report(CheckEvent::Violation(violation));
            }
            report(CheckEvent::Progress(scan.summary));
            start_key = page.next_key;
            if start_key.is_none() {
                return Ok(());
            }
        }
    }

    async fn confirm_chat(&self, id: ChatId) -> Result<Vec<Violation>, Error> {
        let violations = self.confirm(async || self.evaluate_chat(id).await).await?;
        let state_key = ChatItem::key(id);
        let is_damaged = |violation: &Violation| !violation.repaired && violation.key == state_key;
        if violations.iter().any(is_damaged) {
            let mut damaged_chats = self.damaged_chats.borrow_mut();
            for member in [id.low(), id.high()] {
                damaged_chats.entry(member).or_default().insert(id);
            }
        }
        Ok(violations)
    }

    async fn confirm_connections(&self, user: UserId) -> Result<Vec<Violation>, Error> {
        self.confirm(async || self.evaluate_connections(user).await)
            .await
    }

    async fn confirm_user(&self, user: UserId) -> Result<Vec<Violation>, Error> {
        self.confirm(async || self.evaluate_user(user).await).await
    }

    /// Returns the violations that several evaluations in a row found, repaired if the options say
    /// so.
    async fn confirm(
        &self,
        evaluate: impl AsyncFn() -> Result<Vec<Violation>, Error>,
    ) -> Result<Vec<Violation>, Error> {
        let mut violations = evaluate().await?;
        for _ in 1..CONFIRMATIONS {
            if violations.is_empty() {
                return Ok(violations);
            }
            tokio::time::sleep(self.options.settle).await;
            let latest = evaluate().await?;
            // Keeps the latest values, because the condition of a repair relies on them.
            violations = latest
                .into_iter()
                .filter(|violation| violations.iter().any(|past| past.is_same_as(violation)))
                .collect();
        }
        if self.options.repair {
            for violation in &mut violations {
                self.repair(violation, &evaluate).await?;
            }
        }
        Ok(violations)
    }
}

impl Scan {
    /// Counts an item of the first scan.
    fn count(&mut self, item: ScannedItem, violations: &mut Vec<Violation>) {
        self.summary.items = self.summary.items.saturating_add(1);
        match item {
            ScannedItem::Known(..) => {}
            ScannedItem::UnknownType(name) => count_unknown_type(&mut self.unknown_types, name),
            ScannedItem::Damaged(violation) => violations.push(*violation),
        }
    }

    fn count_partitions(&mut self, partitions: &[Partition]) {
        for partition in partitions {
            let count = match partition {
                Partition::Chat(_) => &mut self.summary.chats,
                Partition::User(_) => &mut self.summary.users,
            };
            *count = count.saturating_add(1);
        }
    }
}

impl CheckSummary {
    fn add(&mut self, violation: &Violation) {
        let count = if violation.is_inconclusive() {
            &mut self.inconclusive
        } else {
            &mut self.violations
        };
        *count = count.saturating_add(1);
        let is_repairable = u64::from(violation.is_repairable());
        self.repairable = self.repairable.saturating_add(is_repairable);
        self.repaired = self.repaired.saturating_add(u64::from(violation.repaired));
    }
}
