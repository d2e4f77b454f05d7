//! Measures how latency and capacity units change when the amount of data grows.
//!
//! It calls the functions' own store with an embedded DynamoDB directly. The function processes do
//! not matter here, because the overhead of a process does not depend on the amount of data.
//!
//! | Module | What grows |
//! |---|---|
//! | `messages.rs` | the messages of a chat, the depth of a page, the unread messages |
//! | `changes.rs` | the changes of a chat |
//! | `chats.rs` | the chats of a user |
//! | `safety.rs` | the blocks and reports of a user |
//! | `connections.rs` | the WebSocket connections of a user, and of all others |

mod changes;
mod chats;
mod connections;
mod messages;
mod safety;

use std::{
    ops::RangeInclusive,
    time::{Duration, Instant},
};

use aws_sdk_dynamodb::{
    Client,
    types::{AttributeValue, PutRequest, WriteRequest},
};
use chat_local::{dynamodb, template::Template};
use chat_shared::{
    domain::{ChatId, ContentChange, Seq, Timestamp},
    store::{
        Store, TableClient,
        items::{Item, ItemKey, MessageItem},
    },
};
use futures_util::{TryStreamExt, stream};
use tokio::runtime::Runtime;

use crate::{
    Effort, Result,
    dataset::{SHORT_MESSAGE_BYTES, check_table, create_table, ensure, short_message, start_chat},
    format::{markdown_table, millis, significant},
    plot::{Line, Plot, lines},
    report::Report,
    statistics::median,
};

/// The API's default for `limit`.
const PAGE_SIZE: usize = 15;
/// DynamoDB's maximum number of items in a `BatchWriteItem` request.
const BATCH_SIZE: usize = 25;
/// Operations that fill the table concurrently.
const FILL_CONCURRENCY: usize = 8;
/// The maximum number of changes of a chat.
const MAX_CHANGES: u64 = 10_000;

/// The measurement of an operation at one data size.
struct Point {
    size: u64,
    median_time: Duration,
    read_units: f64,
    write_units: f64,
}

/// A named series of measurements, which is one line in a plot.
type Series = (&'static str, Vec<Point>);

/// Measurements of operations that depend on the same size.
struct Section {
    /// The end of the name of the plot.
    name: &'static str,
    title: &'static str,
    /// What the operations do, if the names do not say so.
    note: &'static str,
    /// What grows.
    size: &'static str,
    series: Vec<Series>,
}

/// A table that the benchmark fills with more and more data.
struct ScalingBenchmark {
    table: TableClient,
    client: Client,
    table_name: String,
    repetitions: u32,
}

/// Runs all scaling measurements and writes the report.
pub fn run(runtime: &Runtime, template: &Template, effort: &Effort, report: &Report) -> Result<()> {
    runtime.block_on(async {
        let (dynamodb, table) = create_table(template).await?;
        let benchmark = ScalingBenchmark {
            table,
            client: dynamodb::client_for_endpoint(dynamodb.endpoint()),
            table_name: template.table.name.clone(),
            repetitions: effort.repetitions,
        };
        benchmark.run(effort, report).await
    })
}

impl ScalingBenchmark {
    async fn run(&self, effort: &Effort, report: &Report) -> Result<()> {
        let mut sections = self.measure_messages(effort.max_messages).await?;
        let max_changes = effort.max_messages.min(MAX_CHANGES);
        sections.push(self.measure_changes(max_changes).await?);
        sections.extend(self.measure_chats(effort.max_chats).await?);
        sections.extend(self.measure_safety(effort.max_chats).await?);
        sections.extend(self.measure_connections(effort.max_chats).await?);
        let mut text = format!(
            "These measurements call the functions' own store with an embedded DynamoDB on this machine, \
             without TLS and without function processes. Each time is the median of {} repetitions, or of \
             fewer where the chat has too few messages for them. RRU and WRU are read and write units.\n\n",
            self.repetitions
        );
        for section in &sections {
            text += &section.write(report)?;
        }
        eprintln!("Checking the table for invariant violations …");
        check_table(&self.store()).await?;
        report.section("scaling", "Scaling with the amount of data", &text)
    }

    /// Measures an operation. Runs `prepare` before each repetition.
    async fn measure(
        &self,
        size: u64,
        prepare: impl AsyncFn() -> Result<()>,
        operation: impl AsyncFn(&Store) -> Result<()>,
    ) -> Result<Point> {
        self.measure_repeatedly(self.repetitions, size, prepare, operation)
            .await
    }

    /// Measures an operation that cannot be repeated as often as others.
    async fn measure_repeatedly(
        &self,
        repetitions: u32,
        size: u64,
        prepare: impl AsyncFn() -> Result<()>,
        operation: impl AsyncFn(&Store) -> Result<()>,
    ) -> Result<Point> {
        let mut times = Vec::new();
        let (mut read_units, mut write_units) = (0.0, 0.0);
        for _ in 0..repetitions {
            prepare().await?;
            let store = self.store();
            let _ = self.table.drain_usage();
            let started_at = Instant::now();
            operation(&store).await?;
            times.push(started_at.elapsed());
            let usage = self.table.drain_usage();
            read_units += usage.read_units;
            write_units += usage.write_units;
        }
        let repetitions = f64::from(repetitions);
        Ok(Point {
            size,
            median_time: median(times),
            read_units: read_units / repetitions,
            write_units: write_units / repetitions,
        })
    }

    /// A store for one request.
    fn store(&self) -> Store {
        self.table.store_at(Timestamp::now())
    }

    /// Calls `add` for each of these numbers, for several at the same time.
    async fn fill(
        &self,
        numbers: RangeInclusive<u64>,
        add: impl AsyncFn(u64) -> Result<()>,
    ) -> Result<()> {
        stream::iter(numbers.map(Ok))
            .try_for_each_concurrent(FILL_CONCURRENCY, async |number| add(number).await)
            .await
    }

    /// Writes items without the store. All of them are copies of items that the store has written, with other
    /// keys, because writing them with the store would take too long.
    async fn put_items(&self, items: impl IntoIterator<Item = Item>) -> Result<()> {
        let mut puts = items.into_iter().map(|item| {
            let put = PutRequest::builder().set_item(Some(item)).build()?;
            Ok(WriteRequest::builder().put_request(put).build())
        });
        loop {
            let batch = puts.by_ref().take(BATCH_SIZE);
            let batch = batch.collect::<Result<Vec<_>>>()?;
            if batch.is_empty() {
                return Ok(());
            }
            let request = self.client.batch_write_item();
            let output = request
                .request_items(&self.table_name, batch)
                .send()
                .await?;
            let unprocessed = output.unprocessed_items.unwrap_or_default();
            ensure(
                unprocessed.is_empty(),
                "DynamoDB did not write all items of a batch",
            )?;
        }
    }

    /// Reads an item that the store has written.
    async fn get(&self, key: ItemKey) -> Result<Item> {
        let missing = format!("the item {key:?} is missing");
        Ok(self.store().get(key).await?.ok_or(missing)?)
    }

    /// Creates an active chat with one message of the member with the lower id. Returns the item of the message.
    async fn start_chat_with_message(&self, chat: ChatId) -> Result<Item> {
        start_chat(&self.store(), chat.low(), chat).await?;
        let content = short_message()?;
        self.store()
            .send_message(chat.low(), chat, content, None)
            .await?;
        self.get(MessageItem::key(chat, Seq::new(1))).await
    }
}

impl Section {
    /// Plots the measurements and returns the text with their table.
    fn write(&self, report: &Report) -> Result<String> {
        let Self {
            name,
            title,
            note,
            size,
            ..
        } = *self;
        // A single series needs no column and no legend for its name.
        let is_single = self.series.len() == 1;
        let mut rows = Vec::new();
        for (series, points) in &self.series {
            for point in points {
                let time = millis(point.median_time);
                let values = [time, point.read_units, point.write_units].map(significant);
                let labels = [(*series).to_owned(), point.size.to_string()];
                let labels = labels.into_iter().skip(usize::from(is_single));
                rows.push(labels.chain(values).collect());
            }
        }
        let header = ["operation", size, "ms", "RRU", "WRU"];
        let header = &header[usize::from(is_single)..];
        let lines_of = |value: &dyn Fn(&Point) -> f64| -> Vec<Line> {
            let line = |(series, points): &Series| {
                // A logarithmic axis has no 0.
                let points = points.iter().filter(|point| point.size > 0);
                let x = |size| u32::try_from(size).map_or(f64::MAX, f64::from);
                Line {
                    name: if is_single { "" } else { series }.to_owned(),
                    points: points.map(|point| (x(point.size), value(point))).collect(),
                }
            };
            self.series.iter().map(line).collect()
        };
        let plots = [
            Plot::new("milliseconds", lines_of(&|point| millis(point.median_time))),
            Plot::new(
                "capacity units",
                lines_of(&|point| point.read_units + point.write_units),
            ),
        ];
        report.plot(&format!("scaling-{name}"), |path| lines(path, size, &plots))?;
        let table = markdown_table(header, &rows);
        let note = if note.is_empty() {
            String::new()
        } else {
            format!("{note}\n\n")
        };
        Ok(format!(
            "### {title}\n\n{note}{table}\n![{title}](scaling-{name}.svg)\n\n"
        ))
    }
}

/// The numbers 1, 10, 100, … up to `max`.
fn powers_of_ten(max: u64) -> impl Iterator<Item = u64> {
    let powers = std::iter::successors(Some(1_u64), |power| power.checked_mul(10));
    powers.take_while(move |&power| power <= max)
}

/// A change of the text of a short message to one of the same length. Each number has another text.
fn new_text(number: u64) -> ContentChange {
    ContentChange {
        text: Some(Some(format!("{number:0>SHORT_MESSAGE_BYTES$}"))),
        ..ContentChange::default()
    }
}

/// The item with another primary key.
fn with_key(item: &Item, key: ItemKey) -> Item {
    let mut item = item.clone();
    for (name, value) in [("pk", key.pk), ("sk", key.sk)] {
        item.insert(name.to_owned(), AttributeValue::S(value));
    }
    item
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_ten() {
        let sizes: Vec<_> = powers_of_ten(1_000).collect();
        assert_eq!(sizes, [1, 10, 100, 1_000]);
    }

    #[test]
    fn each_edit_changes_the_text_and_not_its_length() {
        let texts = [1, 51].map(|number| new_text(number).text.flatten().unwrap());
        assert_ne!(texts[0], texts[1]);
        assert!(texts.iter().all(|text| text.len() == SHORT_MESSAGE_BYTES));
    }
}
