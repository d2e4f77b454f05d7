//! The text of the report.

use std::collections::BTreeSet;

use chat_shared::store::items::TOTALS_SHARDS;

use super::{
    Analysis, MAX_DIFFERENCE, SimulatedHour, difference, float,
    keys::{BusiestKeys, KeyLoads},
    load::{CallLoad, Calls, Load, documented_day},
    model::{Mode, Model},
};
use crate::{
    dynamodb_proxy::TRANSACTION_DURATION,
    format::{markdown_table, significant},
};

/// The numbers of users to which the hour is extrapolated.
const USERS: [f64; 2] = [1e6, 1e8];
/// Write units of a partition per second: DynamoDB's limit.
const MAX_WRITE_UNITS: f64 = 1_000.0;
/// Read units of a partition per second: DynamoDB's limit.
const MAX_READ_UNITS: f64 = 3_000.0;
/// Write units of a message with an idempotency key.
const MESSAGE_WRITE_UNITS: f64 = 12.0;
/// Write units that a message costs the recipient in the table, and in an index.
const RECIPIENT_WRITE_UNITS: f64 = 2.0;

/// The whole text.
pub fn report(
    model: &Model,
    (users, seed): (usize, u64),
    hours: &[SimulatedHour],
    analysis: &Analysis,
) -> String {
    let introduction = format!(
        "{users} active users do what the table below says during the busiest hour of a day, with the functions' \
         own store and an embedded DynamoDB, once with clients that poll and once with live events. The schedule \
         depends only on the assumptions and the seed ({seed}). Chats have earlier messages, and tables are checked \
         for invariant violations afterwards. \"Documented\" is the arithmetic of \
         [capacity.md](../capacity.md), computed from the same assumptions. The part fails if requests, units or \
         frames differ by more than {:.0} %.\n\n### Assumptions\n\n",
        MAX_DIFFERENCE * 100.0
    );
    let assumptions = markdown_table(&["an active user", "value"], &model.assumptions());
    let hours = hours.iter().map(|hour| hour_text(model, hour));
    [
        introduction,
        assumptions,
        hours.collect::<Vec<_>>().concat(),
        conflict_text(model, analysis),
        popularity_text(model, analysis),
    ]
    .concat()
}

fn hour_text(model: &Model, hour: &SimulatedHour) -> String {
    let documented = documented_day(model, hour.mode);
    let loads = [&documented, &hour.calls].map(|calls| Load::of(calls, model));
    format!(
        "\n### {}\n\nAn active user on a day. Units are those of one call.\n\n{}\n\
         Extrapolated, at the peak and in a month of 30 days:\n\n{}\n\
         The busiest keys of each kind in the hour. A partition supports 1,000 write and 3,000 read units per second, \
         and an item {:.0} transactions. The rows of a user are in two indexes, so they have twice that.\n\n{}",
        hour.mode.name(),
        call_table(&documented, &hour.calls),
        total_table(model, loads),
        max_transactions(),
        key_table(&hour.keys),
    )
}

/// The transactions per second that an item supports.
fn max_transactions() -> f64 {
    1.0 / TRANSACTION_DURATION.as_secs_f64()
}

fn call_table(documented: &Calls, simulated: &Calls) -> String {
    let kinds: BTreeSet<_> = documented.keys().chain(simulated.keys()).collect();
    let rows = kinds.into_iter().map(|call| -> Vec<String> {
        let row = |calls: &Calls| calls.get(call).copied().unwrap_or_default();
        let rows = [row(documented), row(simulated)];
        let of_each = |value: &dyn Fn(CallLoad) -> f64| rows.map(|row| significant(value(row)));
        let per_call = |units: f64, calls: f64| if calls > 0.0 { units / calls } else { 0.0 };
        let cells = [
            of_each(&|row| row.calls),
            of_each(&|row| per_call(row.write_units, row.calls)),
            of_each(&|row| per_call(row.read_units, row.calls)),
        ];
        let name = call.name().to_owned();
        std::iter::once(name)
            .chain(cells.into_iter().flatten())
            .collect()
    });
    let header = [
        "call",
        "calls, documented",
        "simulated",
        "WRU, documented",
        "simulated",
        "RRU, documented",
        "simulated",
    ];
    markdown_table(&header, &rows.collect::<Vec<_>>())
}

/// A figure of a load.
type Figure = (&'static str, fn(Load) -> f64);

fn total_table(model: &Model, [documented, simulated]: [Load; 2]) -> String {
    let at_the_peak: [Figure; 4] = [
        ("requests per second", |load| load.requests),
        ("write units per second", |load| load.write_units),
        ("read units per second", |load| load.read_units),
        ("frames per second", |load| load.frames),
    ];
    let per_month: [Figure; 9] = [
        ("million requests per month", |load| load.requests / 1e6),
        ("million write units", |load| load.write_units / 1e6),
        ("million read units", |load| load.read_units / 1e6),
        ("million frames", |load| load.frames / 1e6),
        ("$ per month: DynamoDB requests", |load| {
            load.bill().dynamodb
        }),
        ("$ gateway", |load| load.bill().gateway),
        ("$ Lambda", |load| load.bill().lambda),
        ("$ log lines", |load| load.bill().logs),
        ("$ together, without storage and metrics", |load| {
            load.bill().total()
        }),
    ];
    let row = |name: &str, figure: &dyn Fn(Load, f64) -> f64| -> Vec<String> {
        let cells = USERS.map(|users| [documented, simulated].map(|load| figure(load, users)));
        let [[documented, simulated], _] = cells;
        let difference = format!("{:+.1} %", difference(documented, simulated) * 100.0);
        let cells = cells.into_iter().flatten().map(significant);
        std::iter::once(name.to_owned())
            .chain(cells)
            .chain([difference])
            .collect()
    };
    let peak_rows = at_the_peak.iter().map(|(name, figure)| {
        row(name, &|load: Load, users| {
            figure(load.per_second_at_the_peak(users, model))
        })
    });
    let month_rows = per_month.iter().map(|(name, figure)| {
        row(name, &|load: Load, users| {
            figure(load.per_month(users, model))
        })
    });
    let header = [
        "",
        "1 million users, documented",
        "simulated",
        "100 million users, documented",
        "simulated",
        "difference",
    ];
    markdown_table(&header, &peak_rows.chain(month_rows).collect::<Vec<_>>())
}

fn key_table(keys: &KeyLoads) -> String {
    let rows = keys
        .busiest()
        .into_iter()
        .map(|(kind, busiest)| -> Vec<String> {
            let BusiestKeys {
                keys,
                total,
                second,
            } = busiest;
            let of_limit = [
                second.write / MAX_WRITE_UNITS,
                second.read / MAX_READ_UNITS,
                second.transactions / max_transactions(),
            ];
            let of_limit = of_limit.into_iter().fold(0.0, f64::max) * 100.0;
            let numbers = [
                total.write,
                second.write,
                total.read,
                second.read,
                total.transactions,
                second.transactions,
                of_limit,
            ];
            let labels = [kind.to_owned(), keys.to_string()];
            labels.into_iter().chain(numbers.map(significant)).collect()
        });
    let header = [
        "key",
        "keys",
        "WRU in the hour",
        "in a second",
        "RRU in the hour",
        "in a second",
        "transactions in the hour",
        "in a second",
        "% of a limit",
    ];
    markdown_table(&header, &rows.collect::<Vec<_>>())
}

fn conflict_text(model: &Model, analysis: &Analysis) -> String {
    let Analysis {
        users,
        messages,
        conflicts,
        ..
    } = analysis;
    let per_million = |count: usize| float(count) / float(*messages) * 1e6;
    let load = Load::of(&documented_day(model, Mode::Polling), model);
    let write_units = load.write_units / model.sent_messages() * float(*messages);
    let billed = float(conflicts.conflicts) * MESSAGE_WRITE_UNITS / write_units * 100.0;
    format!(
        "\n### Conflicts\n\n\
         From the schedule of a whole day of {users} active users, without a store: {} transactions, {messages} of \
         them messages. A transaction conflicts if it begins within {} ms after another one that locks one of its \
         items. {} conflict, which is {} per million messages: {} of them at the state of a chat, whose members write \
         and read at the same time. A cancelled transaction is billed like an applied one. Together they add at most \
         {} % to the write units.\n",
        conflicts.transactions,
        TRANSACTION_DURATION.as_millis(),
        conflicts.conflicts,
        significant(per_million(conflicts.conflicts)),
        significant(per_million(conflicts.at_state)),
        significant(billed),
    )
}

fn popularity_text(model: &Model, analysis: &Analysis) -> String {
    let popularity = &analysis.popularity;
    let shards = float(usize::try_from(TOTALS_SHARDS).unwrap_or(1));
    let rows = [1e3, 1e6, 1e8].map(|users: f64| -> Vec<String> {
        let rate = popularity.top_rate(users, model);
        let per_item = rate / shards;
        let in_conflict = per_item * TRANSACTION_DURATION.as_secs_f64() * 100.0;
        let numbers = [
            popularity.top_share(users * model.active_share, model) * 100.0,
            rate,
            per_item,
            in_conflict,
            rate * RECIPIENT_WRITE_UNITS,
        ];
        let cells = numbers.map(significant).into_iter();
        std::iter::once(users.to_string()).chain(cells).collect()
    });
    let header = [
        "users",
        "% of all messages",
        "messages per second",
        "transactions per second and `TOTALS` item",
        "% of them in conflict",
        "write units per second of the partition, and of the rows in an index",
    ];
    let limit = shards * max_transactions();
    format!(
        "\n### The most popular user\n\n\
         Rates per user do not depend on the number of users, and neither do the keys of a chat: two people write in \
         it. Only the keys of popular users grow. The most popular of n active users gets the share f / H(n, z) of all \
         messages, where H(n, z) is the sum of k^-z for k from 1 to n, z is {} and f is {}, fitted to the {} active \
         users of the schedule. So the rate grows about like n^z. At the peak:\n\n{}\n\
         The {TOTALS_SHARDS} `TOTALS` items of a user support {limit:.0} transactions per second at best. The most \
         popular user would reach that with {} million users.\n",
        significant(model.popularity_exponent),
        significant(popularity.factor),
        analysis.users,
        markdown_table(&header, &rows),
        significant(popularity.users_at_rate(limit, model) / 1e6),
    )
}
