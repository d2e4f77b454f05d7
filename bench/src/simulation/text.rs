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
    format::{markdown_table, significant, with_thousands_separators},
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
        "{users} active users are simulated during the busiest hour of a day, once with clients that poll and once \
         with live events. They behave as the table below says. Each operation runs in the functions' own store with \
         an embedded DynamoDB, which reports the units. The chats have earlier messages. At the end, the table is \
         checked for invariant violations. The schedule depends only on the assumptions and the seed ({seed}).\n\n\
         \"Documented\" is the arithmetic of [capacity.md](../capacity.md), computed from the same assumptions. The \
         simulation fails if requests, units or frames differ from it by more than {:.0} %. So it checks units and \
         arithmetic. It does not check the assumptions, the prices, or the estimated durations and log lines, from \
         which the dollars are computed.\n\n### Assumptions\n\n",
        MAX_DIFFERENCE * 100.0
    );
    let assumptions = markdown_table(&["assumption", "value"], &model.assumptions());
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
        "\n### {}\n\nAn active user on a day, extrapolated from the busiest hour. WRU and RRU are the write and read \
         units of one operation:\n\n{}\n\
         Many users, in the busiest hour and in a month of 30 days:\n\n{}\n\
         The busiest keys of each kind in the simulated hour. Each figure is the maximum of all keys of the kind, so \
         the figures of a row can be of different keys. A partition supports 1,000 write and 3,000 read units per \
         second, and an item {:.0} transactions per second. The last column compares the busiest second with the \
         limit that it comes closest to. The rows of a user are in two indexes, each with these limits, but the last \
         column compares the sum of both with the limits of one. How the load of a key grows with the number of \
         users is in [The most popular user](#the-most-popular-user).\n\n{}",
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
        "operation",
        "per day, documented",
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
        ("million write units per month", |load| {
            load.write_units / 1e6
        }),
        ("million read units per month", |load| load.read_units / 1e6),
        ("million frames per month", |load| load.frames / 1e6),
        ("$ per month: DynamoDB requests", |load| {
            load.bill().dynamodb
        }),
        ("$ per month: gateway", |load| load.bill().gateway),
        ("$ per month: Lambda", |load| load.bill().lambda),
        ("$ per month: log lines", |load| load.bill().logs),
        ("$ per month: total, without storage and metrics", |load| {
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
        "kind of key",
        "keys",
        "WRU in the hour",
        "WRU in a second",
        "RRU in the hour",
        "RRU in a second",
        "transactions in the hour",
        "transactions in a second",
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
         These figures are computed from the schedule of a whole day of {users} active users, without a store. The \
         day has {} transactions, and {messages} of them send a message. A transaction is assumed to conflict if it \
         begins within {} ms after another one that locks one of its items. {} transactions conflict, {} per million \
         messages. {} per million messages conflict at the state of a chat, whose members write and read at the same \
         time. DynamoDB bills a cancelled transaction like an applied one. With {MESSAGE_WRITE_UNITS} write units for \
         each conflict, this adds {} % to the write units of clients that poll. Further conflicts of the next attempts \
         are not included.\n",
        conflicts.transactions,
        TRANSACTION_DURATION.as_millis(),
        conflicts.conflicts,
        significant(per_million(conflicts.conflicts)),
        significant(per_million(conflicts.at_state)),
        significant(billed),
    )
}

/// Approximately.
const PEOPLE_ON_EARTH: f64 = 8e9;

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
        std::iter::once(with_thousands_separators(&users.to_string()))
            .chain(cells)
            .collect()
    });
    let header = [
        "users",
        "% of all messages",
        "messages per second",
        "transactions per second on each `TOTALS` item",
        "% of them in conflict",
        "write units per second of the partition, and of the rows in an index",
    ];
    let limit = shards * max_transactions();
    let users = popularity.users_at_rate(limit, model);
    let reached = if users > PEOPLE_ON_EARTH {
        "does not reach that even if everybody on earth is a user".to_owned()
    } else {
        format!(
            "reaches that with {} million users",
            significant(users / 1e6)
        )
    };
    format!(
        "\n### The most popular user\n\n\
         The load of an average user or of a chat does not depend on the number of users, because two people write in \
         a chat. Only the load of popular users grows.\n\n\
         The most popular of n active users gets the share f / H(n, z) of all messages, where H(n, z) is the sum of \
         k^-z for k from 1 to n. The exponent z = {} is an assumption. The factor f = {} is fitted to the {} active \
         users of the schedule, and is assumed to be the same for other numbers. So the messages to this user grow \
         about like n^z. In the busiest hour:\n\n{}\n\
         The {TOTALS_SHARDS} `TOTALS` items of a user support {limit:.0} transactions per second at best. By this \
         extrapolation, the most popular user {}.\n",
        significant(model.popularity_exponent),
        significant(popularity.factor),
        analysis.users,
        markdown_table(&header, &rows),
        reached,
    )
}
