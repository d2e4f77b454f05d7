//! Consistency check: verifies the table's invariants and repairs derived counters, while the table
//! serves live traffic.
//!
//! **Two passes.** The check scans the table twice, page by page. The first pass evaluates each chat
//! from its own items. The second pass evaluates each user's counters from the states of the user's
//! chats. Chats come first, because the counters must count the repaired states. The check keeps only
//! one page of keys, the chat ids of the users under evaluation, and sums, so that tables of any size
//! fit into memory.
//!
//! **Live traffic causes no false reports.** Items that belong together are read at different times,
//! and may change in between:
//!
//! - *Chats.* Messages never change, and a chat's state is read before and after its messages. A
//!   message that arrived during these reads is included in the second state.
//! - *Counters.* The states that a counter sums up are read before and after the counter. The counter
//!   is compared only if none of these states changed in between. Each state has a `seq` that only
//!   grows, so a state that looks unchanged is unchanged.
//! - *Confirmation.* The writes of one transaction become readable at slightly different times, and
//!   indexes lag behind the table. So the check reports only violations that it finds in three
//!   evaluations in a row, [`CheckOptions::settle`] apart. This time must be longer than the lag of
//!   the indexes, because a user's chats can be found only through them. For the same reason, do not
//!   repair while an index is being built.
//!
//! **Repairs.** Each repair is one transaction, conditional on the values that it was computed from.
//! Values that cannot be computed from other items, such as a missing message, are reported and left
//! unchanged.

mod chat;
mod repair;
mod user;
mod violation;

use std::{cell::RefCell, collections::BTreeSet, time::Duration};

use aws_sdk_dynamodb::operation::scan::ScanOutput;
use backon::{ExponentialBuilder, Retryable};
use chat_shared::{
    Error,
    domain::{ChatId, UserId},
    store::{
        Store, classify_error,
        items::{Item, ItemKey, Partition},
    },
};
use futures_util::{StreamExt, stream};

pub use violation::Violation;

/// Number of chats or users that are evaluated at the same time.
const CONCURRENCY: usize = 16;
/// Number of evaluations in a row that must find a violation before it is reported.
const CONFIRMATIONS: usize = 3;
/// Maximum number of evaluations of an item that changes while it is evaluated or repaired.
const MAX_ATTEMPTS: usize = 10;
/// Maximum number of times that a failed request to DynamoDB is sent again.
const MAX_RETRIES: usize = 14;
/// Waits 0.1 s, then twice as long each time, up to 20 s. Jitter adds up to the same time again, so
/// that the concurrent evaluations do not retry at the same moment. All waits together take 2 to 5
/// minutes.
const RETRY_POLICY: ExponentialBuilder = ExponentialBuilder::new()
    .with_jitter()
    .with_min_delay(Duration::from_millis(100))
    .with_max_delay(Duration::from_secs(20))
    .with_max_times(MAX_RETRIES);

/// Options of a check.
#[derive(Clone, Copy, Debug)]
pub struct CheckOptions {
    /// Whether to correct values that can be computed from other items: unread counts, totals, open
    /// requests and index keys.
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
    /// Violations that it repaired; part of `violations`.
    pub repaired: u64,
    /// Findings that name a counter or user that could not be evaluated, and the reason. They are not
    /// part of `violations`.
    pub inconclusive: u64,
}

/// Event that the check reports while it runs.
#[derive(Debug)]
pub enum CheckEvent<'a> {
    /// The check has finished a page of the scan.
    Progress(CheckSummary),
    /// The check has confirmed a violation, or could not evaluate a user's counters.
    Violation(&'a Violation),
}

/// Checks the whole table. Scans it twice, and reads each chat and user several times.
///
/// # Errors
/// Returns [`Error::Unavailable`] when DynamoDB does not respond for several minutes, and
/// [`Error::Internal`] when it rejects a read.
pub async fn check_table(
    store: &Store,
    options: CheckOptions,
    report: &mut impl FnMut(CheckEvent<'_>),
) -> Result<CheckSummary, Error> {
    let checker = Checker { store, options };
    let mut summary = CheckSummary::default();
    checker
        .scan(
            Pass::Chats,
            &mut summary,
            report,
            async |partition| match partition {
                Partition::Chat(id) => checker.confirm_chat(id).await,
                Partition::User(_) => Ok(Vec::new()),
            },
        )
        .await?;
    if summary.repaired > 0 {
        // The indexes must list the repaired chats before the second pass counts them.
        tokio::time::sleep(options.settle).await;
    }
    let without_counters = RefCell::new(BTreeSet::new());
    checker
        .scan(
            Pass::Users,
            &mut summary,
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
    Ok(summary)
}

/// One of the two scans. Only the first one counts items, chats and users.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pass {
    Chats,
    Users,
}

/// A check of one table.
struct Checker<'a> {
    store: &'a Store,
    options: CheckOptions,
}

impl Checker<'_> {
    /// Scans the table page by page, and evaluates each partition once.
    async fn scan(
        &self,
        pass: Pass,
        summary: &mut CheckSummary,
        report: &mut impl FnMut(CheckEvent<'_>),
        evaluate: impl AsyncFn(Partition) -> Result<Vec<Violation>, Error>,
    ) -> Result<(), Error> {
        let mut start_key: Option<Item> = None;
        let mut last_pk = String::new();
        loop {
            let page = self.scan_page(start_key.as_ref()).await?;
            let mut partitions = Vec::new();
            let mut violations = Vec::new();
            for item in page.items() {
                summary.items += u64::from(pass == Pass::Chats);
                let pk = item.get("pk").and_then(|pk| pk.as_s().ok());
                // The items of a partition follow one another, and may continue on the next page.
                let Some(pk) = pk.filter(|pk| **pk != last_pk) else {
                    continue;
                };
                last_pk.clone_from(pk);
                let partition = Partition::parse(pk);
                if pass == Pass::Chats {
                    match partition {
                        Some(Partition::Chat(_)) => summary.chats += 1,
                        Some(Partition::User(_)) => summary.users += 1,
                        None => {
                            let key = ItemKey::new(pk.clone(), String::new());
                            let unknown = "belongs to no chat or user";
                            violations.push(Violation::unrepairable(key, unknown));
                        }
                    }
                }
                partitions.extend(partition);
            }
            let mut evaluations = stream::iter(partitions)
                .map(async |partition| evaluate(partition).await)
                .buffer_unordered(CONCURRENCY);
            while let Some(evaluation) = evaluations.next().await {
                violations.extend(evaluation?);
            }
            for violation in &violations {
                summary.add(violation);
                report(CheckEvent::Violation(violation));
            }
            report(CheckEvent::Progress(*summary));
            start_key = page.last_evaluated_key;
            if start_key.is_none() {
                return Ok(());
            }
        }
    }

    /// One page of the table, reduced to partition keys.
    async fn scan_page(&self, start_key: Option<&Item>) -> Result<ScanOutput, Error> {
        retry_transient(|| async {
            self.store
                .client()
                .scan()
                .table_name(self.store.table_name())
                .projection_expression("pk")
                .consistent_read(true)
                .set_exclusive_start_key(start_key.cloned())
                .send()
                .await
                .map_err(classify_error)
        })
        .await
    }

    async fn confirm_chat(&self, id: ChatId) -> Result<Vec<Violation>, Error> {
        self.confirm(async || self.evaluate_chat(id).await).await
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

impl CheckSummary {
    fn add(&mut self, violation: &Violation) {
        if violation.is_inconclusive() {
            self.inconclusive += 1;
        } else {
            self.violations += 1;
            self.repaired += u64::from(violation.repaired);
        }
    }
}

/// The sort key of an item; empty when the item has none.
fn sort_key(item: &Item) -> String {
    let sk = item.get("sk").and_then(|sk| sk.as_s().ok());
    sk.cloned().unwrap_or_default()
}

/// Sends a request to DynamoDB again while it is unavailable. A check takes hours, so it waits longer
/// than an API request can: DynamoDB may be unavailable for some minutes.
async fn retry_transient<T, F>(request: impl FnMut() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    request
        .retry(RETRY_POLICY)
        .when(|error| matches!(error, Error::Unavailable(_)))
        .await
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Retries a request that fails this many times, and returns the result and the number of
    /// requests.
    async fn retry(failures: usize, error: fn() -> Error) -> (Result<(), Error>, usize) {
        let requests = Cell::new(0);
        let result = retry_transient(|| async {
            requests.set(requests.get() + 1);
            if requests.get() > failures {
                Ok(())
            } else {
                Err(error())
            }
        })
        .await;
        (result, requests.get())
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_is_retried_while_dynamodb_is_unavailable() {
        let unavailable = || Error::Unavailable("throttled".into());
        let (result, requests) = retry(MAX_RETRIES, unavailable).await;
        assert!(result.is_ok());
        assert_eq!(requests, MAX_RETRIES + 1);
        let (result, requests) = retry(usize::MAX, unavailable).await;
        assert!(matches!(result, Err(Error::Unavailable(_))));
        assert_eq!(requests, MAX_RETRIES + 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_with_any_other_error_is_not_retried() {
        let (result, requests) = retry(1, || Error::Internal("no such table".into())).await;
        assert!(matches!(result, Err(Error::Internal(_))));
        assert_eq!(requests, 1);
    }
}
