//! Keys that are fetched during init, and again while the process runs.
//!
//! A process can live for hours, and its keys can change meanwhile. Goals: a new key is accepted soon, without
//! a deployment; a revoked key is not accepted for long; nobody can cause many fetches with invalid tokens; a
//! source that does not respond does not stop the service.
//!
//! Decision: keys are fetched again when no key verifies the signature of a token, and before they are used
//! when they are older than [`MAX_AGE`]. There is at most one refresh per [`MIN_INTERVAL`] and process, whether it
//! succeeds or not. If it fails, the old keys stay. A background task would not run, because Lambda freezes the
//! process between two requests.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::BoxFuture;

use super::{keys::VerificationKey, log};
use crate::{domain::Timestamp, error::ConfigError};

/// Keys that are older are fetched again before they are used.
pub(super) const MAX_AGE: Duration = Duration::from_hours(1);
/// The minimum time between two refreshes, successful or not.
pub(super) const MIN_INTERVAL: Duration = Duration::from_mins(1);
/// The maximum time of one of the two attempts during init.
const INIT_TIMEOUT: Duration = Duration::from_secs(2);
/// The time between the two attempts during init.
const INIT_RETRY_DELAY: Duration = Duration::from_millis(100);
/// The maximum time that a refresh adds to a request.
const REFRESH_TIMEOUT: Duration = Duration::from_secs(1);

/// Where keys are fetched from.
pub(super) trait KeySource: Send + Sync {
    /// The environment variable that configures it.
    fn variable(&self) -> &'static str;

    /// Fetches all keys. The error continues the sentence that starts with the name of the variable, and does
    /// not contain a secret.
    fn fetch(&self, now: Timestamp) -> BoxFuture<'_, Result<Vec<VerificationKey>, String>>;
}

/// The keys of a source, as they were when they were last fetched.
pub(super) struct RefreshedKeys {
    source: Box<dyn KeySource>,
    state: Mutex<State>,
}

struct State {
    keys: Arc<[VerificationKey]>,
    fetched_at: Timestamp,
    /// The time of the last refresh, successful or not.
    refreshed_at: Option<Timestamp>,
}

impl RefreshedKeys {
    /// Fetches the keys during init, with one retry.
    pub async fn fetch(
        source: impl KeySource + 'static,
        now: Timestamp,
    ) -> Result<Self, ConfigError> {
        let mut keys = fetch_within(INIT_TIMEOUT, &source, now).await;
        if keys.is_err() {
            tokio::time::sleep(INIT_RETRY_DELAY).await;
            keys = fetch_within(INIT_TIMEOUT, &source, now).await;
        }
        let keys = keys.map_err(|problem| ConfigError::new(source.variable(), problem))?;
        Ok(Self {
            source: Box::new(source),
            state: Mutex::new(State {
                keys: keys.into(),
                fetched_at: now,
                refreshed_at: None,
            }),
        })
    }

    /// The current keys.
    pub fn keys(&self) -> Arc<[VerificationKey]> {
        self.state().keys.clone()
    }

    /// Fetches the keys again if they are at least `min_age` old and the last refresh was long enough ago. Returns
    /// whether there are new keys.
    pub async fn refresh(&self, now: Timestamp, min_age: Duration) -> bool {
        if !self.start_refresh(now, min_age) {
            return false;
        }
        match fetch_within(REFRESH_TIMEOUT, self.source.as_ref(), now).await {
            Ok(keys) => {
                let mut state = self.state();
                state.keys = keys.into();
                state.fetched_at = now;
                true
            }
            Err(problem) => {
                log::refresh_failed(now, self.source.variable(), &problem);
                false
            }
        }
    }

    /// Whether a refresh is due. If it is, the next one is due after [`MIN_INTERVAL`].
    fn start_refresh(&self, now: Timestamp, min_age: Duration) -> bool {
        let mut state = self.state();
        let next = state.refreshed_at.map(|time| time + MIN_INTERVAL);
        let is_due = now >= state.fetched_at + min_age && next.is_none_or(|next| now >= next);
        if is_due {
            state.refreshed_at = Some(now);
        }
        is_due
    }

    /// The lock is never held while something is awaited.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn fetch_within(
    limit: Duration,
    source: &dyn KeySource,
    now: Timestamp,
) -> Result<Vec<VerificationKey>, String> {
    let fetched = tokio::time::timeout(limit, source.fetch(now)).await;
    fetched.unwrap_or_else(|_| Err(format!("cannot be fetched: no response within {limit:?}")))
}

/// A source for tests.
#[cfg(test)]
pub(super) mod fake {
    use std::{
        collections::VecDeque,
        sync::{Arc, Mutex},
    };

    use futures_util::{FutureExt, future::BoxFuture};

    use super::{KeySource, Timestamp, VerificationKey};

    /// What a fetch returns.
    pub enum Fetched {
        /// These secrets.
        Secrets(&'static [&'static str]),
        Error,
        NoResponse,
    }

    /// Returns these results in this order, then errors.
    #[derive(Clone, Default)]
    pub struct FakeSource {
        results: Arc<Mutex<VecDeque<Fetched>>>,
        fetches: Arc<Mutex<usize>>,
    }

    impl FakeSource {
        pub fn new(results: impl IntoIterator<Item = Fetched>) -> Self {
            let source = Self::default();
            source.results.lock().unwrap().extend(results);
            source
        }

        /// How often keys were fetched.
        pub fn fetches(&self) -> usize {
            *self.fetches.lock().unwrap()
        }
    }

    impl KeySource for FakeSource {
        fn variable(&self) -> &'static str {
            "FAKE"
        }

        fn fetch(&self, _: Timestamp) -> BoxFuture<'_, Result<Vec<VerificationKey>, String>> {
            *self.fetches.lock().unwrap() += 1;
            let key = |secret: &&str| VerificationKey::from_secret(secret).unwrap();
            let result = match self.results.lock().unwrap().pop_front() {
                Some(Fetched::Secrets(secrets)) => Ok(secrets.iter().map(key).collect()),
                Some(Fetched::NoResponse) => return std::future::pending().boxed(),
                Some(Fetched::Error) | None => Err("cannot be fetched: a test".to_owned()),
            };
            std::future::ready(result).boxed()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        fake::{FakeSource, Fetched},
        *,
    };

    const SECRETS: &[&str] = &["the secret of these unit tests, of 32 bytes or more"];

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis((1_800_000_000 + seconds) * 1_000)
    }

    #[tokio::test]
    async fn keys_are_fetched_once_during_init() {
        let source = FakeSource::new([Fetched::Secrets(SECRETS)]);
        let keys = RefreshedKeys::fetch(source.clone(), at(0))
            .await
            .ok()
            .unwrap();
        assert_eq!(keys.keys().len(), 1);
        assert_eq!(source.fetches(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn init_retries_once_and_then_fails_with_the_variable_and_the_cause() {
        for first in [Fetched::Error, Fetched::NoResponse] {
            let source = FakeSource::new([first, Fetched::Secrets(SECRETS)]);
            assert!(RefreshedKeys::fetch(source.clone(), at(0)).await.is_ok());
            assert_eq!(source.fetches(), 2);
        }
        for (second, expected) in [
            (Fetched::Error, "FAKE cannot be fetched: a test"),
            (
                Fetched::NoResponse,
                "FAKE cannot be fetched: no response within 2s",
            ),
        ] {
            let source = FakeSource::new([Fetched::Error, second]);
            let error = RefreshedKeys::fetch(source.clone(), at(0)).await.err();
            assert_eq!(error.unwrap().to_string(), expected);
            assert_eq!(source.fetches(), 2);
        }
    }

    #[tokio::test]
    async fn keys_are_fetched_again_at_most_once_a_minute() {
        let two: &[&str] = &[
            "a secret with at least 32 bytes.",
            "another secret of 32 bytes, too.",
        ];
        let source = FakeSource::new([
            Fetched::Secrets(SECRETS),
            Fetched::Secrets(two),
            Fetched::Secrets(SECRETS),
        ]);
        let keys = RefreshedKeys::fetch(source.clone(), at(0))
            .await
            .ok()
            .unwrap();
        for (seconds, is_refreshed, count) in [
            (0, true, 2),
            (1, false, 2),
            (59, false, 2),
            (60, true, 1),
            (61, false, 1),
            (119, false, 1),
        ] {
            let refreshed = keys.refresh(at(seconds), Duration::ZERO).await;
            assert_eq!(refreshed, is_refreshed, "{seconds}");
            assert_eq!(keys.keys().len(), count, "{seconds}");
        }
        assert_eq!(source.fetches(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_refresh_keeps_the_old_keys_and_is_not_repeated_within_a_minute() {
        let source = FakeSource::new([
            Fetched::Secrets(SECRETS),
            Fetched::Error,
            Fetched::NoResponse,
        ]);
        let keys = RefreshedKeys::fetch(source.clone(), at(0))
            .await
            .ok()
            .unwrap();
        for (seconds, fetches) in [(0, 2), (59, 2), (60, 3), (61, 3)] {
            assert!(!keys.refresh(at(seconds), Duration::ZERO).await);
            assert_eq!(keys.keys().len(), 1);
            assert_eq!(source.fetches(), fetches, "{seconds}");
        }
    }

    #[tokio::test]
    async fn keys_that_are_younger_than_the_minimum_age_are_not_fetched_again() {
        let source = FakeSource::new([Fetched::Secrets(SECRETS), Fetched::Secrets(SECRETS)]);
        let keys = RefreshedKeys::fetch(source.clone(), at(0))
            .await
            .ok()
            .unwrap();
        assert!(!keys.refresh(at(3_599), MAX_AGE).await);
        assert!(keys.refresh(at(3_600), MAX_AGE).await);
        assert!(!keys.refresh(at(7_199), MAX_AGE).await);
        // A refresh that failed is tried again after a minute.
        assert!(!keys.refresh(at(7_200), MAX_AGE).await);
        assert!(!keys.refresh(at(7_259), MAX_AGE).await);
        assert_eq!(source.fetches(), 3);
        assert!(!keys.refresh(at(7_260), MAX_AGE).await);
        assert_eq!(source.fetches(), 4);
    }
}
