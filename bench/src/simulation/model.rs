//! The assumptions about users. The schedule, the arithmetic and the report use them, so change them only here. Then
//! correct the figures in docs/capacity.md.

use std::time::Duration;

use chat_shared::domain::MAX_TEXT_CODE_POINTS;
use fastrand::Rng;

use super::{float, round};
use crate::format::significant;

/// The hours of a day.
const HOURS: usize = 24;
/// The milliseconds of an hour.
pub const HOUR_MILLIS: u64 = 3_600_000;
/// The chats that a user opens in a session.
pub const CHATS_PER_SESSION: f64 = 2.0;

/// How a client gets changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It polls, as docs/clients.md describes.
    Polling,
    /// It has a WebSocket connection while it is on the screen.
    Live,
}

impl Mode {
    /// Both modes.
    pub const ALL: [Self; 2] = [Self::Polling, Self::Live];

    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Polling => "Clients that poll",
            Self::Live => "Clients with live events",
        }
    }
}

/// The behavior of users. An active user opens the app on the day. All numbers except `active_share` are of active
/// users.
pub struct Model {
    /// The share of all users who are active on a day.
    pub active_share: f64,
    /// The load of each hour of a day. The average is 1.
    pub curve: [f64; HOURS],
    /// How often a user opens the app on a day, on average.
    pub sessions: f64,
    /// How long the app is on the screen.
    pub session_seconds: u64,
    /// How long each of the two chats of a session is on the screen. The rest of the session shows a badge.
    pub chat_seconds: u64,
    /// The probabilities that a user sends 0, 1, 2 and 3 messages while a chat is on the screen.
    pub messages: [f64; 4],
    /// The share of messages whose recipient opens the app within 10 seconds to answer in that chat. These sessions
    /// are among the `sessions`.
    pub answered_share: f64,
    /// The probability that a user opens a chat with unread messages, if there is one.
    pub unread_share: f64,
    /// The share of messages that are edited 10 seconds later.
    pub edited_share: f64,
    /// The share of messages that are deleted 15 seconds later.
    pub deleted_share: f64,
    /// Chat requests per day. The recipient accepts each one in the next session.
    pub requests: f64,
    /// Blocks per day.
    pub blocks: f64,
    /// `typing` frames before each message, three seconds apart.
    pub typing_frames: u64,
    /// `sync` frames per day. Most sessions are shorter than the five minutes after which one is due.
    pub syncs: f64,
    /// The time between two polls of a badge.
    pub badge_seconds: u64,
    /// The minimum time between two polls of a chat on the screen.
    pub min_poll_millis: u64,
    /// The maximum time between two polls of a chat on the screen.
    pub max_poll_millis: u64,
    /// The maximum number of chats that a user has requested.
    pub max_requested_chats: usize,
    /// The number of chats that a user has requested is k with a probability proportional to k to the power of
    /// minus this.
    pub chats_exponent: f64,
    /// The user of popularity rank k is requested with a probability proportional to k to the power of minus
    /// this (Zipf's law).
    pub popularity_exponent: f64,
    /// The median length of a text in bytes. Lengths are distributed log-normally.
    pub text_median: f64,
    /// The standard deviation of the logarithm of the length.
    pub text_spread: f64,
    /// Messages from before the simulation, in each chat that is opened.
    pub history: u64,
}

impl Model {
    /// The assumptions of docs/capacity.md.
    pub const DEFAULT: Self = Self {
        active_share: 0.3,
        curve: [
            0.3, 0.2, 0.1, 0.1, 0.1, 0.2, 0.4, 0.7, 0.9, 0.9, 0.9, 1.0, 1.2, 1.1, 1.0, 1.0, 1.1,
            1.3, 1.7, 2.3, 3.0, 2.4, 1.4, 0.7,
        ],
        sessions: 10.0,
        session_seconds: 180,
        chat_seconds: 30,
        messages: [0.4, 0.3, 0.2, 0.1],
        answered_share: 0.2,
        unread_share: 0.4,
        edited_share: 0.02,
        deleted_share: 0.01,
        requests: 0.2,
        blocks: 0.02,
        typing_frames: 3,
        syncs: 1.0,
        badge_seconds: 30,
        min_poll_millis: 2_000,
        max_poll_millis: 3_000,
        max_requested_chats: 100,
        chats_exponent: 1.5,
        popularity_exponent: 0.7,
        text_median: 40.0,
        text_spread: 1.0,
        history: 15,
    };

    /// The load of the busiest hour. The average is 1.
    pub fn peak_factor(&self) -> f64 {
        self.curve.iter().copied().fold(0.0, f64::max)
    }

    /// When the busiest hour begins, in milliseconds since midnight.
    pub fn peak_start(&self) -> u64 {
        let peak = self.peak_factor();
        let hours_before = self.curve.iter().take_while(|load| **load < peak);
        hours_before.count() as u64 * HOUR_MILLIS
    }

    /// The share of a day's load in the busiest hour.
    pub fn peak_share(&self) -> f64 {
        self.peak_factor() / float(HOURS)
    }

    /// The time of day before which this share of the day's load happens, in milliseconds since midnight.
    pub fn time_of_day(&self, share: f64) -> u64 {
        let mut before = 0.0;
        for (hour, load) in self.curve.iter().enumerate() {
            let share_of_hour = load / float(HOURS);
            if share < before + share_of_hour {
                let hours = float(hour) + (share - before) / share_of_hour;
                let time = Duration::from_secs_f64(hours * 3_600.0);
                return u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
            }
            before += share_of_hour;
        }
        HOURS as u64 * HOUR_MILLIS - 1
    }

    /// The chats that a user opens on a day.
    pub fn opened_chats(&self) -> f64 {
        self.sessions * CHATS_PER_SESSION
    }

    /// The messages that a user sends on a day.
    pub fn sent_messages(&self) -> f64 {
        let counts = [0.0, 1.0, 2.0, 3.0];
        let products = self.messages.iter().zip(counts);
        self.opened_chats() * products.map(|(share, count)| share * count).sum::<f64>()
    }

    /// The sessions of a user on a day that no message has caused.
    pub fn own_sessions(&self) -> f64 {
        self.sessions - self.answered_share * self.sent_messages()
    }

    /// How often a chat on the screen is polled. The first poll is one interval after it was opened.
    pub fn polls_of_a_chat(&self) -> f64 {
        let two_intervals = Duration::from_millis(self.min_poll_millis + self.max_poll_millis);
        seconds(self.chat_seconds) / (two_intervals.as_secs_f64() / 2.0) - 0.5
    }

    /// How often the badge is polled in a session.
    pub fn polls_of_the_badge(&self) -> f64 {
        let in_chats = CHATS_PER_SESSION * seconds(self.chat_seconds);
        (seconds(self.session_seconds) - in_chats) / seconds(self.badge_seconds)
    }

    /// The length of a session in minutes.
    pub fn session_minutes(&self) -> f64 {
        seconds(self.session_seconds) / 60.0
    }

    /// A random length of a text in bytes.
    pub fn text_length(&self, rng: &mut Rng) -> usize {
        // The Box-Muller transform.
        let radius = (-2.0 * (1.0 - rng.f64()).ln()).sqrt();
        let normal = radius * (std::f64::consts::TAU * rng.f64()).cos();
        let length = self.text_median * (self.text_spread * normal).exp();
        round(length).clamp(1, MAX_TEXT_CODE_POINTS)
    }

    /// The assumptions as rows of a table.
    pub fn assumptions(&self) -> Vec<Vec<String>> {
        let percent = |share: f64| format!("{} %", significant(share * 100.0));
        let per_day = |count: f64| format!("{} per day", significant(count));
        let messages = self.messages.map(significant).join(", ");
        let rows = [
            ("users who are active on a day", percent(self.active_share)),
            (
                "load of the busiest hour",
                format!("{} times the average", significant(self.peak_factor())),
            ),
            ("an active user opens the app", per_day(self.sessions)),
            (
                "of these, to answer a message within 10 s",
                per_day(self.sessions - self.own_sessions()),
            ),
            (
                "time in the app, each time",
                format!("{} s", self.session_seconds),
            ),
            ("chats opened", per_day(self.opened_chats())),
            (
                "time in a chat, each time",
                format!("{} s", self.chat_seconds),
            ),
            (
                "probabilities of sending 0, 1, 2, 3 messages in that time",
                messages,
            ),
            (
                "messages sent, all with an idempotency key",
                per_day(self.sent_messages()),
            ),
            (
                "probability of choosing a chat with unread messages, if there is one",
                percent(self.unread_share),
            ),
            ("messages edited", percent(self.edited_share)),
            ("messages deleted", percent(self.deleted_share)),
            ("chat requests, each accepted", per_day(self.requests)),
            ("blocks", per_day(self.blocks)),
            (
                "polling: the badge",
                format!("every {} s", self.badge_seconds),
            ),
            (
                "polling: a chat on the screen",
                format!(
                    "every {} to {} ms",
                    self.min_poll_millis, self.max_poll_millis
                ),
            ),
            (
                "live events: `typing` frames for a message",
                self.typing_frames.to_string(),
            ),
            ("live events: `sync` frames", per_day(self.syncs)),
            (
                "chats that a user has requested: probability of k proportional to k^-s",
                format!(
                    "s = {}, at most {}",
                    significant(self.chats_exponent),
                    self.max_requested_chats
                ),
            ),
            (
                "popularity of the user of rank k: proportional to k^-z",
                format!("z = {}", significant(self.popularity_exponent)),
            ),
            (
                "length of a text, log-normally distributed",
                format!(
                    "median {} bytes, sigma {}",
                    significant(self.text_median),
                    significant(self.text_spread)
                ),
            ),
            (
                "earlier messages in a chat that is opened",
                self.history.to_string(),
            ),
        ];
        rows.map(|(name, value)| vec![name.to_owned(), value])
            .into()
    }
}

fn seconds(seconds: u64) -> f64 {
    Duration::from_secs(seconds).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_daily_curve_sums_to_the_day_and_its_peak_is_three_times_the_average() {
        let model = Model::DEFAULT;
        let sum: f64 = model.curve.iter().sum();
        assert!((sum - float(HOURS)).abs() < 1e-9);
        assert!((model.peak_factor() - 3.0).abs() < 1e-9);
        assert!((model.peak_share() - 0.125).abs() < 1e-9);
        assert_eq!(model.peak_start(), 20 * HOUR_MILLIS);
        let shares: f64 = model.messages.iter().sum();
        assert!((shares - 1.0).abs() < 1e-9);
    }

    #[test]
    fn a_share_of_the_day_is_a_time_of_the_day() {
        let model = Model::DEFAULT;
        assert_eq!(model.time_of_day(0.0), 0);
        // The first hour has 0.3 of 24 shares.
        assert_eq!(model.time_of_day(0.15 / 24.0), HOUR_MILLIS / 2);
        let before_peak: f64 = model.curve[..20].iter().sum();
        let start = model.time_of_day(before_peak / 24.0 + 1e-9);
        assert!(start.abs_diff(model.peak_start()) < 2);
        assert!(model.time_of_day(1.0) < 24 * HOUR_MILLIS);
    }

    #[test]
    fn a_day_has_the_calls_that_the_documentation_says() {
        let model = Model::DEFAULT;
        for (actual, expected) in [
            (model.sent_messages(), 20.0),
            (model.opened_chats(), 20.0),
            (model.own_sessions(), 6.0),
            (model.polls_of_a_chat(), 11.5),
            (model.polls_of_the_badge(), 4.0),
            (model.session_minutes(), 3.0),
        ] {
            assert!((actual - expected).abs() < 1e-9, "{actual} {expected}");
        }
    }

    #[test]
    fn texts_have_the_median_length_and_a_long_tail() {
        let mut rng = Rng::with_seed(1);
        let mut lengths: Vec<_> = (0..10_001)
            .map(|_| Model::DEFAULT.text_length(&mut rng))
            .collect();
        lengths.sort_unstable();
        assert!((38..=42).contains(&lengths[5_000]), "{}", lengths[5_000]);
        assert!(lengths[0] >= 1);
        assert!(lengths[10_000] > 600 && lengths[10_000] <= MAX_TEXT_CODE_POINTS);
    }
}
