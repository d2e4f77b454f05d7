//! Simulates the busiest hour of a day with the real store, and extrapolates it to many users.
//!
//! docs/capacity.md computes the cost of a user: the number of operations times the units of each. This part checks
//! that arithmetic. Simulated users follow the same assumptions, with random behavior and with chats and texts of
//! different sizes. The real store executes their operations, and the embedded DynamoDB reports the units. The part
//! fails if the page and the simulation differ by more than [`MAX_DIFFERENCE`], so that a change of the store cannot
//! make the page wrong unnoticed. It does not check the assumptions about users, nor the durations, sizes of log lines
//! and prices in `load` and `pricing`.
//!
//! | Module | Task |
//! |---|---|
//! | `model` | the assumptions about users |
//! | `population` | users and their chats |
//! | `schedule` | the steps of all users on a day, generated from a seed |
//! | `fill` | writes the chats that exist at the start |
//! | `clients` | executes the steps of the schedule with the store |
//! | `load` | operations, units and dollars; the arithmetic of the page |
//! | `keys` | hot keys and conflicts of transactions |
//! | `text` | the text of the report |
//!
//! All users of the population are active on the day. Inactive users cost nothing: a message to them costs the same,
//! and they read it on another day. Rates per active user do not depend on the number of users, so a few thousand are
//! enough. Only the load of the most popular users depends on it ([`keys::Popularity`]).

mod clients;
mod fill;
mod keys;
mod load;
mod model;
mod population;
mod schedule;
mod text;

use std::{collections::HashSet, ops::Range, time::Duration};

use chat_local::template::Template;
use chat_shared::{
    domain::{ChatId, Timestamp, UserId},
    store::items::{ChatItem, ItemKey, OpenRequestsItem, TotalsItem},
};
use fastrand::Rng;
use tokio::runtime::Runtime;

use crate::{
    Effort, Result,
    dataset::{check_table, create_table, user_id},
    report::Report,
};
use clients::Clients;
use keys::{ConflictCounter, KeyLoads, Popularity};
use load::{Calls, Load, documented_day};
use model::{HOUR_MILLIS, Mode, Model};
use population::SimulatedChat;
use schedule::{Action, Schedule, Step, generate};

/// The simulation fails if it differs by more than this share from the arithmetic of docs/capacity.md.
const MAX_DIFFERENCE: f64 = 0.1;
/// Before the busiest hour, this many milliseconds are simulated and not counted, so that sessions and connections are
/// open when it begins. It is longer than a session.
const WARM_UP_MILLIS: u64 = 300_000;
/// The start of the simulated day, 1 January 2026, in milliseconds since 1970 UTC. The check of the table reports times
/// in the future.
const MIDNIGHT: u64 = 1_767_225_600_000;
/// The id of the first user. Ids are as long as those of 100 million users.
const FIRST_USER: u64 = 100_000_000;
/// The lifetime of an access token.
const TOKEN_LIFETIME: Duration = Duration::from_hours(1);

/// The busiest hour with clients of one mode.
struct SimulatedHour {
    mode: Mode,
    /// The operations of an active user on a day, extrapolated from the hour by its share of the day's load.
    calls: Calls,
    keys: KeyLoads,
}

/// Figures that are computed from the schedule of a larger population, without a store.
struct Analysis {
    users: usize,
    messages: usize,
    conflicts: ConflictCounter,
    popularity: Popularity,
}

/// A figure of the documentation that differs too much from the simulation.
struct Deviation {
    mode: Mode,
    figure: &'static str,
    difference: f64,
}

/// Runs the simulation with a seed, and writes the report.
pub fn run(
    runtime: &Runtime,
    template: &Template,
    effort: &Effort,
    seed: u64,
    report: &Report,
) -> Result<()> {
    let model = &Model::DEFAULT;
    let active = |users: u32| round(f64::from(users) * model.active_share);
    let users = active(effort.simulated_users);
    let window = window(model);
    let is_in_window = |action: &Action| window.contains(&action.at);
    let schedule = generate(model, users, seed, window.start, &is_in_window);
    let mut hours = Vec::new();
    for mode in Mode::ALL {
        let simulated = simulate(template, model, (users, &schedule), mode, seed);
        hours.push(runtime.block_on(simulated)?);
    }
    eprintln!(
        "Analyzing the schedule of {} users …",
        effort.analyzed_users
    );
    let analysis = analyze(model, active(effort.analyzed_users), seed)?;

    let deviations: Vec<_> = hours
        .iter()
        .flat_map(|hour| deviations(model, hour))
        .collect();
    let text = text::report(model, (users, seed), &hours, &analysis);
    report.section("simulation", "Simulation of a day", &text)?;
    if deviations.is_empty() {
        return Ok(());
    }
    let lines = deviations.iter().map(|deviation| {
        let Deviation {
            mode,
            figure,
            difference,
        } = deviation;
        format!(
            "\n{}: {figure} differ by {:.1} %",
            mode.name(),
            difference * 100.0
        )
    });
    let lines: Vec<_> = lines.collect();
    Err(format!(
        "the simulation and the arithmetic of docs/capacity.md differ too much; correct the page and \
         bench/src/simulation/load.rs:{}",
        lines.concat()
    )
    .into())
}

/// The time that is simulated: the busiest hour, and a little before it.
fn window(model: &Model) -> Range<u64> {
    let start = model.peak_start();
    start.saturating_sub(WARM_UP_MILLIS)..start + HOUR_MILLIS
}

/// Simulates the busiest hour in a table of its own.
async fn simulate(
    template: &Template,
    model: &Model,
    (users, schedule): (usize, &Schedule),
    mode: Mode,
    seed: u64,
) -> Result<SimulatedHour> {
    let (dynamodb, table) = create_table(template).await?;
    eprintln!(
        "{}: filling {} chats …",
        mode.name(),
        schedule.snapshot.len()
    );
    let opened = schedule
        .actions
        .iter()
        .filter_map(|action| match action.step {
            Step::OpenChat(chat) => Some(chat),
            _ => None,
        });
    let opened: HashSet<_> = opened.collect();
    let mut rng = Rng::with_seed(seed);
    let start = time(window(model).start);
    let chats = (users, schedule.snapshot.as_slice());
    fill::fill(&table, model, chats, &opened, start, &mut rng).await?;

    let chats = (users, schedule.population.chats.as_slice());
    let clients = Clients::new(&table, mode, chats, model.peak_start())?;
    let (mut calls, keys) = clients.run(&schedule.actions).await?;
    let factor = 1.0 / (float(users) * model.peak_share());
    for call in calls.values_mut() {
        *call = call.times(factor);
    }
    eprintln!(
        "{}: checking the table for invariant violations …",
        mode.name()
    );
    let end = time(window(model).end);
    check_table(&table.store_at(end)).await?;
    dynamodb.stop().await;
    Ok(SimulatedHour { mode, calls, keys })
}

/// Counts conflicts, and fits the popularity, from the schedule of a day.
fn analyze(model: &Model, users: usize, seed: u64) -> Result<Analysis> {
    let is_transaction = |action: &Action| {
        let step = action.step;
        matches!(
            step,
            Step::Mark(_) | Step::Send { .. } | Step::Edit { .. } | Step::Delete { .. }
        ) || matches!(step, Step::Request(_) | Step::Accept(_))
    };
    let Schedule {
        actions,
        population,
        ..
    } = generate(model, users, seed, 0, &is_transaction);
    let user_ids = user_ids(users)?;
    let chat_ids = chat_ids(&user_ids, &population.chats)?;
    let mut conflicts = ConflictCounter::default();
    let mut received = vec![0_usize; users];
    for Action { at, user, step } in actions {
        let (Step::Mark(chat)
        | Step::Send { chat, .. }
        | Step::Edit { chat, .. }
        | Step::Delete { chat, .. }
        | Step::Request(chat)
        | Step::Accept(chat)) = step
        else {
            continue;
        };
        let peer = population.chats[chat].peer_of(user);
        if matches!(step, Step::Send { .. }) {
            received[peer] += 1;
        }
        let id = chat_ids[chat];
        conflicts.add(at, locked_items(step, id, (user_ids[user], user_ids[peer])));
    }
    let messages: usize = received.iter().sum();
    let shares = population.by_popularity.iter();
    let shares: Vec<_> = shares
        .map(|user| float(received[*user]) / float(messages))
        .collect();
    Ok(Analysis {
        users,
        messages,
        conflicts,
        popularity: Popularity::fit(&shares, model),
    })
}

/// The items that the transaction of a step locks, except items that no other transaction locks.
fn locked_items(step: Step, chat: ChatId, (user, peer): (UserId, UserId)) -> Vec<ItemKey> {
    let mut items = vec![ChatItem::key(chat)];
    match step {
        Step::Mark(_) => items.push(TotalsItem::key(user, chat)),
        Step::Send { .. } | Step::Delete { .. } => items.push(TotalsItem::key(peer, chat)),
        Step::Request(_) => {
            items.extend([OpenRequestsItem::key(user), TotalsItem::key(peer, chat)]);
        }
        Step::Accept(_) => {
            items.extend([OpenRequestsItem::key(peer), TotalsItem::key(user, chat)]);
        }
        _ => {}
    }
    items
}

/// The figures of the documentation that differ too much from a simulated hour.
fn deviations(model: &Model, hour: &SimulatedHour) -> Vec<Deviation> {
    let documented = Load::of(&documented_day(model, hour.mode), model);
    let simulated = Load::of(&hour.calls, model);
    let figures = [
        ("requests", documented.requests, simulated.requests),
        ("write units", documented.write_units, simulated.write_units),
        ("read units", documented.read_units, simulated.read_units),
        ("frames", documented.frames, simulated.frames),
    ];
    let deviations = figures.map(|(figure, documented, simulated)| Deviation {
        mode: hour.mode,
        figure,
        difference: difference(documented, simulated),
    });
    let mut deviations = Vec::from(deviations);
    deviations.retain(|deviation| deviation.difference.abs() > MAX_DIFFERENCE);
    deviations
}

/// The difference as a share of `documented`. Both may be 0.
fn difference(documented: f64, simulated: f64) -> f64 {
    if documented > 0.0 {
        simulated / documented - 1.0
    } else {
        simulated
    }
}

/// A time of the simulated day, in milliseconds since midnight.
fn time(at: u64) -> Timestamp {
    Timestamp::from_millis(MIDNIGHT + at)
}

/// The ids of this many users.
fn user_ids(count: usize) -> Result<Vec<UserId>> {
    let numbers = (FIRST_USER..).take(count);
    numbers.map(user_id).collect()
}

/// The ids of chats.
fn chat_ids(users: &[UserId], chats: &[SimulatedChat]) -> Result<Vec<ChatId>> {
    let id = |chat: &SimulatedChat| {
        let [requester, recipient] = chat.members;
        let id = ChatId::between(users[requester], users[recipient]);
        id.ok_or_else(|| "a chat needs two different users".into())
    };
    chats.iter().map(id).collect()
}

/// The idempotency key of a message, as long as a UUID.
fn message_key(message: usize) -> String {
    format!("{message:036}")
}

/// A count as a floating-point number.
fn float(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

/// The nearest integer to a number that is not negative.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the numbers are counts: neither negative nor too large"
)]
fn round(number: f64) -> usize {
    number.round() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_that_differs_too_much_is_a_deviation() {
        let model = &Model::DEFAULT;
        let deviating = |factor: f64| -> Vec<_> {
            let mut calls = documented_day(model, Mode::Polling);
            for call in calls.values_mut() {
                call.write_units *= factor;
            }
            let hour = SimulatedHour {
                mode: Mode::Polling,
                calls,
                keys: KeyLoads::default(),
            };
            let deviations = deviations(model, &hour).into_iter();
            deviations.map(|deviation| deviation.figure).collect()
        };
        assert!(deviating(1.0).is_empty());
        assert!(deviating(1.09).is_empty());
        assert_eq!(deviating(1.11), ["write units"]);
        assert_eq!(deviating(0.89), ["write units"]);
    }

    #[test]
    fn a_send_locks_the_state_of_the_chat_and_the_totals_of_the_recipient() {
        let ids = user_ids(2).unwrap();
        let chat = ChatId::between(ids[0], ids[1]).unwrap();
        let send = Step::Send {
            chat: 0,
            message: 0,
            length: 1,
        };
        let locked = |step| locked_items(step, chat, (ids[0], ids[1]));
        assert_eq!(
            locked(send),
            [ChatItem::key(chat), TotalsItem::key(ids[1], chat)]
        );
        // When the recipient marks the message, the same items are locked.
        let mark = locked_items(Step::Mark(0), chat, (ids[1], ids[0]));
        assert_eq!(mark, locked(send));
    }

    #[test]
    fn the_same_seed_has_the_same_conflicts() {
        let analyze = || {
            let analysis = analyze(&Model::DEFAULT, 200, 1).unwrap();
            (analysis.messages, analysis.conflicts.conflicts)
        };
        assert_eq!(analyze(), analyze());
    }
}
