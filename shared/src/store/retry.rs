//! The retry policy of all operations. The SDK itself does not retry: its retries stop when the token bucket
//! that all requests of a process share is empty, so that a single throttled read would fail.
//!
//! - **What is retried**: an operation that was throttled, failed on the side of `DynamoDB`, got lost or took
//!   too long. `transaction.rs` adds transactions that were cancelled.
//! - **How long one attempt takes**: in a function at most 500 ms, then 1 s, then 2 s. `DynamoDB` responds in a
//!   few milliseconds, so a first attempt that takes longer is probably on a connection that is dead. Tools
//!   wait longer, because they may be far from the table.
//! - **How long to wait**: random delays of at most 25, 50, 100, 200 and then 400 ms ([`Backoff`]). All
//!   operations of a request share one backoff, so that no loop can repeat an operation without waiting. After a
//!   conflict the delays are longer ([`Store::wait_after_conflict`]).
//! - **When to give up**: a read, and a write of a connection, after [`MAX_IDEMPOTENT_ATTEMPTS`] attempts, so that a
//!   table that fails at once does not keep every function busy until its deadline. A transaction and a single update
//!   are retried until the deadline of the invocation. 500 ms before it, [`crate::http::serve`] returns a 503 with
//!   `Retry-After`.

use std::{
    sync::{PoisonError, atomic::Ordering},
    time::Duration,
};

use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};

use super::{Store, classify_error};
use crate::{Error, domain::Timestamp};

/// Maximum number of repeated reads while an item of a transaction is not readable yet. With their delays they
/// take one second on average.
pub(super) const MAX_REREADS: usize = 8;
/// After this time, all items of a transaction are readable.
pub(crate) const MAX_COMMIT_TIME: Duration = Duration::from_secs(10);

/// Maximum number of attempts of an operation that has the same result however often it is applied.
const MAX_IDEMPOTENT_ATTEMPTS: u32 = 5;

/// The maximum time of an attempt.
#[derive(Clone, Copy)]
pub(super) struct AttemptTimeout {
    /// The maximum time of the first attempt of an operation. It doubles with each attempt.
    first: Duration,
    /// The maximum time of a later attempt.
    max: Duration,
}

impl AttemptTimeout {
    pub const FOR_FUNCTIONS: Self = Self {
        first: Duration::from_millis(500),
        max: Duration::from_secs(2),
    };
    pub const FOR_TOOLS: Self = Self {
        first: Duration::from_secs(10),
        max: Duration::from_secs(10),
    };
}

/// Exponential backoff with full jitter: random delays of at most 25, 50, 100, 200 and then 400 ms. A
/// transaction locks its items for about 25 ms.
#[derive(Debug)]
pub struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self::new()
    }
}

impl Backoff {
    const INITIAL: Duration = Duration::from_millis(25);
    const MAX: Duration = Duration::from_millis(400);

    /// Starts with the shortest delay.
    #[must_use]
    pub fn new() -> Self {
        Self(Self::INITIAL)
    }

    /// Waits, and doubles the maximum of the next delay.
    pub async fn wait(&mut self) {
        tokio::time::sleep(self.next_delay()).await;
    }

    fn next_delay(&mut self) -> Duration {
        let delay = self.0.mul_f64(fastrand::f64());
        self.0 = (self.0 * 2).min(Self::MAX);
        delay
    }
}

/// The attempts of one operation.
pub(super) struct Attempts {
    count: u32,
    timeout: AttemptTimeout,
}

impl Attempts {
    pub fn new(timeout: AttemptTimeout) -> Self {
        Self { count: 0, timeout }
    }

    /// Runs the next attempt within its time limit.
    pub async fn run<T, E>(
        &mut self,
        attempt: impl Future<Output = Result<T, SdkError<E>>>,
    ) -> Result<T, SdkError<E>> {
        let factor = 2_u32.saturating_pow(self.count);
        let limit = self
            .timeout
            .first
            .saturating_mul(factor)
            .min(self.timeout.max);
        self.count = self.count.saturating_add(1);
        let result = tokio::time::timeout(limit, attempt).await;
        match result {
            Ok(result) => result,
            Err(elapsed) => Err(SdkError::timeout_error(elapsed)),
        }
    }
}

/// How long a transaction locks its items, approximately.
const LOCK_TIME: Duration = Duration::from_millis(25);
/// The random part of the delays after the conflicts of a request is at most this long. With few transactions at once
/// the first delay is enough, and with many, attempts that come too early cost most, so the delays grow quickly. Then
/// they decrease: a request that has waited for long goes before one that has just begun.
const CONFLICT_DELAYS: [Duration; 4] = [
    Duration::from_millis(75),
    Duration::from_millis(400),
    Duration::from_millis(800),
    Duration::from_millis(400),
];
/// After so many waits, a request no longer lets others go first.
const MAX_WAITS_IF_BUSY: usize = 3;
/// The random delay in a chat where other requests send is at most this long for each message that they have sent.
const BUSY_DELAY_PER_MESSAGE: Duration = Duration::from_millis(200);
/// The maximum of the random delay in a chat where other requests send.
const MAX_BUSY_DELAY: Duration = Duration::from_secs(1);

impl Store {
    /// Waits until a transaction that has locked an item has probably ended, plus a random time, so that those who wait
    /// for the same item do not all come back at once. The benchmark (`contention`) measures these delays.
    pub(super) async fn wait_after_conflict(&self) {
        let waits = self.conflict_waits.fetch_add(1, Ordering::Relaxed);
        let [.., last] = CONFLICT_DELAYS;
        let max = CONFLICT_DELAYS.get(waits).unwrap_or(&last);
        tokio::time::sleep(LOCK_TIME + max.mul_f64(fastrand::f64())).await;
    }

    /// Waits if other requests have sent `new_messages` to the chat since this one has read it, and there are several.
    /// Then others probably wait, too. Returns whether it waited.
    pub(super) async fn wait_if_busy(&self, new_messages: u64) -> bool {
        let waits = self.conflict_waits.load(Ordering::Relaxed);
        if new_messages < 2 || waits > MAX_WAITS_IF_BUSY {
            return false;
        }
        let messages = u32::try_from(new_messages).unwrap_or(u32::MAX);
        let max = BUSY_DELAY_PER_MESSAGE
            .saturating_mul(messages)
            .min(MAX_BUSY_DELAY);
        tokio::time::sleep(max.mul_f64(fastrand::f64())).await;
        true
    }

    /// Waits before something is tried again.
    pub(super) async fn wait_before_retry(&self) {
        let backoff = self.backoff.lock();
        let delay = backoff.unwrap_or_else(PoisonError::into_inner).next_delay();
        tokio::time::sleep(delay).await;
    }

    /// Reads again until the result is complete, because the items of a transaction become readable at different
    /// times. Returns the last result even if it is not complete.
    pub(super) async fn reread_until<T, F>(
        &self,
        read: impl Fn() -> F,
        is_complete: impl Fn(&T) -> bool,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let mut result = read().await?;
        for _ in 0..MAX_REREADS {
            if is_complete(&result) {
                break;
            }
            self.wait_before_retry().await;
            result = read().await?;
        }
        Ok(result)
    }

    /// Whether something that was written at `at` can still be readable only in part.
    pub(super) fn may_be_half_readable(&self, at: Timestamp) -> bool {
        at + MAX_COMMIT_TIME > self.now()
    }

    /// Runs an operation until it succeeds or has failed too often. It must have the same result however often it is
    /// applied, because an attempt whose response was lost is repeated: a read, an unconditional put or a deletion.
    pub(super) async fn retry_idempotent<T, E, F>(
        &self,
        operation: impl Fn() -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, SdkError<E>>>,
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        self.table.usage.count_operation();
        let mut attempts = Attempts::new(self.table.attempt_timeout);
        loop {
            match attempts
                .run(Box::pin(operation()))
                .await
                .map_err(classify_error)
            {
                Err(Error::Unavailable(cause)) if attempts.count < MAX_IDEMPOTENT_ATTEMPTS => {
                    self.table.usage.record_error(&cause);
                }
                result => return result,
            }
            self.wait_before_retry().await;
        }
    }
}

/// The error if items of a transaction stay unreadable.
pub(super) fn not_readable_yet() -> Error {
    Error::Unavailable("items of a transaction are not readable yet".into())
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::operation::get_item::GetItemError;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_first_attempt_gives_up_after_500_ms_and_later_ones_after_2_s() {
        let mut attempts = Attempts::new(AttemptTimeout::FOR_FUNCTIONS);
        for expected in [500, 1_000, 2_000, 2_000] {
            let started = tokio::time::Instant::now();
            let never = std::future::pending::<Result<(), SdkError<GetItemError>>>();
            let error = attempts.run(never).await.unwrap_err();
            assert!(matches!(error, SdkError::TimeoutError(_)));
            assert_eq!(started.elapsed(), Duration::from_millis(expected));
        }
    }

    #[test]
    fn delays_double_up_to_400_ms() {
        let mut backoff = Backoff::new();
        for limit in [25, 50, 100, 200, 400, 400] {
            assert_eq!(backoff.0, Duration::from_millis(limit));
            assert!(backoff.next_delay() <= Duration::from_millis(limit));
        }
    }
}
