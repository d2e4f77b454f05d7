//! Measures concurrent sends that write the same items: in one chat, and in the chats of one user.
//!
//! The functions' own store runs in this process. It reaches an embedded DynamoDB through a proxy that emulates
//! contention. A round trip takes [`ROUND_TRIP`], a transaction locks its items for [`TRANSACTION_DURATION`], and
//! another transaction on one of them is cancelled ([`ProxyMode::EmulateConflicts`]). Both times are assumptions.
//!
//! - **In one chat**, each send changes the state of the chat. So only one transaction at a time succeeds, and each
//!   success makes the plans of all others stale. Half of the senders are devices of one member, and half are devices
//!   of the other member.
//! - **To one user**, senders in different chats share only the shards of the recipient's totals.

use std::{
    cell::Cell,
    fmt::Write,
    time::{Duration, Instant},
};

use chat_local::{dynamodb, template::Template};
use chat_shared::{
    domain::{ChatId, Seq, Timestamp, UserId},
    store::{Store, TableClient},
};
use tokio::{runtime::Runtime, task::JoinSet};

use crate::{
    Effort, Result,
    dataset::{chat_id, check_table, create_table, ensure, short_message, start_chat, user_id},
    dynamodb_proxy::{ConflictStats, Proxy, ProxyMode, ROUND_TRIP, TRANSACTION_DURATION},
    format::{markdown_table, millis, significant},
    plot::{Line, Plot, lines},
    report::Report,
    statistics::{median, percentile},
};

/// Numbers of senders in one chat.
const CHAT_SENDERS: [u64; 4] = [2, 5, 10, 20];
/// Numbers of senders to one user.
const USER_SENDERS: [u64; 8] = [1, 2, 5, 10, 20, 50, 100, 200];
/// Time that a function reserves at the end of an invocation to send a 503.
const RESPONSE_RESERVE: Duration = Duration::from_millis(500);

/// Who sends: each sender and the chat.
type Senders = Vec<(UserId, ChatId)>;

/// The results of all runs with the same number of senders.
#[derive(Default)]
struct Sends {
    /// Accepted messages per second, in each run.
    rates: Vec<f64>,
    /// The time of each accepted message.
    times: Vec<Duration>,
    stats: ConflictStats,
    read_units: f64,
}

/// Results for different numbers of senders.
struct Series {
    name: &'static str,
    points: Vec<(u64, Sends)>,
}

/// A table that senders reach through the proxy.
struct ContentionBenchmark {
    table: TableClient,
    contended_table: TableClient,
    proxy: Proxy,
    /// After this time, a function responds with 503.
    request_limit: Duration,
    runs: u32,
    /// The last user id that was used.
    last_user: Cell<u64>,
}

/// Measures contention in one chat and to one user, and writes the report.
pub fn run(runtime: &Runtime, template: &Template, effort: &Effort, report: &Report) -> Result<()> {
    let send_message = template
        .functions
        .iter()
        .find(|function| function.binary == "send-message");
    let timeout = send_message
        .ok_or("the template has no function send-message")?
        .timeout;
    runtime.block_on(async {
        let (dynamodb, table) = create_table(template).await?;
        let proxy = Proxy::start(dynamodb.endpoint(), None)?;
        let client = dynamodb::client_for_endpoint(proxy.endpoint());
        let benchmark = ContentionBenchmark {
            table,
            contended_table: TableClient::new(client, &template.table.name),
            proxy,
            request_limit: timeout.saturating_sub(RESPONSE_RESERVE),
            runs: effort.contention_runs,
            last_user: Cell::new(0),
        };
        benchmark.run(effort, report).await
    })
}

impl ContentionBenchmark {
    async fn run(&self, effort: &Effort, report: &Report) -> Result<()> {
        let mut in_chat = Vec::new();
        for (name, messages) in [
            ("10 messages each, one after another", 10),
            ("1 message each", 1),
        ] {
            let mut points = Vec::new();
            for senders in up_to(CHAT_SENDERS, effort.max_chat_senders) {
                eprintln!("Sending in one chat: {senders} senders, {name} …");
                let sends = self.measure(messages, async || self.one_chat(senders).await);
                points.push((senders, sends.await?));
            }
            in_chat.push(Series { name, points });
        }
        let mut points = Vec::new();
        for senders in up_to(USER_SENDERS, effort.max_senders) {
            eprintln!("Sending {senders} messages to one user at once …");
            let sends = self.measure(1, async || self.chats_of_one_user(senders).await);
            points.push((senders, sends.await?));
        }
        let to_user = [Series {
            name: "1 message each",
            points,
        }];
        eprintln!("Checking the table for invariant violations …");
        check_table(&self.store()).await?;
        let text = format!(
            "Senders in this process send at the same time, through a proxy that emulates contention. A round trip \
             takes {} ms. A transaction locks its items for {} ms, also those of which it only checks a condition. \
             Another transaction on one of them is cancelled, and a read returns the old item. Both times are \
             assumptions. All messages were accepted.\n\n\
             - **Accepted per second** is the median of the runs. All other figures are those of all sends together. \
             Number of runs: {}.\n\
             - **Transactions per message** counts all attempts, because DynamoDB bills a cancelled transaction \
             like an applied one.\n\
             - **% in conflict** is the share of transactions that were cancelled because an item was locked.\n\
             - **Over the limit** is the number of messages that took longer than {} s: the timeout of a function in \
             the template, minus the half second that is reserved for a 503. A function responds with 503 after this \
             time, and the client sends the message again. Here, the same request continues until the message is \
             accepted.\n\n\
             {}{}",
            ROUND_TRIP.as_millis(),
            TRANSACTION_DURATION.as_millis(),
            self.runs,
            self.request_limit.as_secs_f64(),
            self.section_of_one_chat(report, &in_chat)?,
            self.section_of_one_user(report, &to_user)?,
        );
        report.section("contention", "Contention", &text)
    }

    /// A store for one request, without contention.
    fn store(&self) -> Store {
        self.table.store_at(Timestamp::now())
    }

    fn new_user(&self) -> Result<UserId> {
        self.last_user.set(self.last_user.get() + 1);
        user_id(self.last_user.get())
    }

    /// Creates a chat. Half of the senders are one member, and half are the other member.
    async fn one_chat(&self, senders: u64) -> Result<Senders> {
        let (one, other) = (self.new_user()?, self.new_user()?);
        let chat = chat_id(one.get(), other.get())?;
        start_chat(&self.store(), one, chat).await?;
        let members = [one, other]
            .into_iter()
            .cycle()
            .map(|member| (member, chat));
        Ok(members.take(usize::try_from(senders)?).collect())
    }

    /// Creates a user with a chat with each sender.
    async fn chats_of_one_user(&self, senders: u64) -> Result<Senders> {
        let recipient = self.new_user()?;
        let mut members = Vec::new();
        for _ in 0..senders {
            let sender = self.new_user()?;
            let chat = chat_id(recipient.get(), sender.get())?;
            start_chat(&self.store(), recipient, chat).await?;
            members.push((sender, chat));
        }
        Ok(members)
    }

    /// Measures several runs, each with new senders who send `messages` messages each.
    async fn measure(
        &self,
        messages: u64,
        create_senders: impl AsyncFn() -> Result<Senders>,
    ) -> Result<Sends> {
        let mut sends = Sends::default();
        for _ in 0..self.runs {
            let senders = create_senders().await?;
            self.proxy.set_mode(ProxyMode::EmulateConflicts);
            self.proxy.drain_conflict_stats();
            let _ = self.contended_table.drain_usage();
            let started_at = Instant::now();
            let times = self.send(&senders, messages).await?;
            let seconds = started_at.elapsed().as_secs_f64();
            self.proxy.set_mode(ProxyMode::PassThrough);
            self.check_messages(&senders, messages).await?;
            sends.rates.push(as_float(times.len())? / seconds);
            sends.times.extend(times);
            let stats = self.proxy.drain_conflict_stats();
            sends.stats.transactions += stats.transactions;
            sends.stats.conflicts += stats.conflicts;
            sends.read_units += self.contended_table.drain_usage().read_units;
        }
        Ok(sends)
    }

    /// Sends the messages of all senders, and returns the time of each.
    async fn send(&self, senders: &[(UserId, ChatId)], messages: u64) -> Result<Vec<Duration>> {
        let mut tasks = JoinSet::new();
        for &(sender, chat) in senders {
            let table = self.contended_table.clone();
            tasks.spawn(async move {
                let mut times = Vec::new();
                for _ in 0..messages {
                    let store = table.store_at(Timestamp::now());
                    let content = short_message()?;
                    let started_at = Instant::now();
                    store.send_message(sender, chat, content, None).await?;
                    times.push(started_at.elapsed());
                }
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>(times)
            });
        }
        let mut times = Vec::new();
        while let Some(sent) = tasks.join_next().await {
            times.extend(sent??);
        }
        Ok(times)
    }

    /// Checks that each chat has the messages of all its senders. The check of the table compares everything
    /// else with them.
    async fn check_messages(&self, senders: &[(UserId, ChatId)], messages: u64) -> Result<()> {
        for &(_, chat) in senders {
            let senders = senders.iter().filter(|(_, other)| *other == chat).count();
            let expected = Seq::new(u64::try_from(senders)? * messages);
            let actual = self.store().get_chat(chat).await?.seq();
            ensure(
                actual == expected,
                "a chat does not have exactly the messages that were sent",
            )?;
        }
        Ok(())
    }

    fn section_of_one_chat(&self, report: &Report, series: &[Series]) -> Result<String> {
        let plots = [
            Plot::new(
                "accepted messages per second",
                lines_of(series, |sends| Ok(sends.rate()))?,
            ),
            Plot::new(
                "transactions per message",
                lines_of(series, Sends::transactions_per_message)?,
            ),
        ];
        report.plot("contention-one-chat", |path| lines(path, "senders", &plots))?;
        let mut text = "### Senders in one chat\n\nHalf of the senders are devices of one member, and half are devices \
                        of the other member.\n\n"
            .to_owned();
        for series in series {
            writeln!(text, "{}:\n\n{}", series.name, self.table_of(series)?)?;
        }
        Ok(text + "![Senders in one chat](contention-one-chat.svg)\n\n")
    }

    fn section_of_one_user(&self, report: &Report, series: &[Series; 1]) -> Result<String> {
        let [senders] = series;
        let times = [("median", 0.5), ("max", 1.0)].map(|(name, fraction)| {
            let points = senders.points.iter();
            let points = points.map(|(x, sends)| Ok((as_float(*x)?, sends.millis_at(fraction))));
            Ok(Line {
                name: name.to_owned(),
                points: points.collect::<Result<_>>()?,
            })
        });
        let plots = [
            Plot::new(
                "milliseconds per send",
                times.into_iter().collect::<Result<_>>()?,
            ),
            Plot::new(
                "% of transactions in conflict",
                lines_of(series, Sends::conflict_percentage)?,
            ),
        ];
        report.plot("contention-one-user", |path| lines(path, "senders", &plots))?;
        Ok(format!(
            "### Senders to one user\n\nEach sender has a chat with the same user and sends one message in it.\n\n{}\n\
             ![Senders to one user](contention-one-user.svg)\n\n",
            self.table_of(senders)?
        ))
    }

    fn table_of(&self, series: &Series) -> Result<String> {
        let header = [
            "senders",
            "accepted per second",
            "transactions per message",
            "% in conflict",
            "reads per message",
            "median ms",
            "max ms",
            "over the limit",
        ];
        let rows = series.points.iter().map(|(senders, sends)| {
            let values = [
                sends.rate(),
                sends.transactions_per_message()?,
                sends.conflict_percentage()?,
                sends.read_units / as_float(sends.times.len())?,
                sends.millis_at(0.5),
                sends.millis_at(1.0),
            ];
            let over_limit = sends.times.iter();
            let over_limit = over_limit.filter(|time| **time > self.request_limit);
            let mut row = vec![senders.to_string()];
            row.extend(values.map(significant));
            row.push(over_limit.count().to_string());
            Ok(row)
        });
        Ok(markdown_table(&header, &rows.collect::<Result<Vec<_>>>()?))
    }
}

impl Sends {
    /// Accepted messages per second.
    fn rate(&self) -> f64 {
        median(self.rates.iter().copied())
    }

    fn transactions_per_message(&self) -> Result<f64> {
        Ok(as_float(self.stats.transactions)? / as_float(self.times.len())?)
    }

    fn conflict_percentage(&self) -> Result<f64> {
        Ok(as_float(self.stats.conflicts)? / as_float(self.stats.transactions)? * 100.0)
    }

    /// A percentile of the times, in milliseconds.
    fn millis_at(&self, fraction: f64) -> f64 {
        millis(percentile(self.times.iter().copied(), fraction).unwrap_or_default())
    }
}

/// The numbers that do not exceed `max`.
fn up_to<const N: usize>(numbers: [u64; N], max: u64) -> impl Iterator<Item = u64> {
    numbers.into_iter().filter(move |number| *number <= max)
}

/// A count as a number with decimals.
fn as_float(count: impl TryInto<u32, Error = std::num::TryFromIntError>) -> Result<f64> {
    Ok(f64::from(count.try_into()?))
}

/// A line for each series, of a value by the number of senders.
fn lines_of(series: &[Series], value: impl Fn(&Sends) -> Result<f64>) -> Result<Vec<Line>> {
    let is_single = series.len() == 1;
    let line = |series: &Series| {
        let points = series.points.iter();
        let points = points.map(|(senders, sends)| Ok((as_float(*senders)?, value(sends)?)));
        Ok(Line {
            name: if is_single { "" } else { series.name }.to_owned(),
            points: points.collect::<Result<_>>()?,
        })
    };
    series.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_attempt_counts_for_the_accepted_messages() {
        let sends = Sends {
            rates: vec![3.0, 1.0, 2.0],
            times: [10, 20, 30, 40].map(Duration::from_millis).to_vec(),
            stats: ConflictStats {
                transactions: 10,
                conflicts: 4,
            },
            read_units: 8.0,
        };
        let figures = [
            sends.rate(),
            sends.transactions_per_message().unwrap(),
            sends.conflict_percentage().unwrap(),
            sends.millis_at(1.0),
        ];
        let expected = [2.0, 2.5, 40.0, 40.0];
        let is_equal = |(one, other): (f64, f64)| (one - other).abs() < 1e-9;
        assert!(
            figures.into_iter().zip(expected).all(is_equal),
            "{figures:?}"
        );
    }
}
