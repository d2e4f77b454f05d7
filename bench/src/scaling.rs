//! Measures how latency and capacity units change when the amount of data grows.
//!
//! It calls the functions' own store with an embedded DynamoDB directly. The function processes do
//! not matter here, because the overhead of a process does not depend on the amount of data.

use std::time::{Duration, Instant};

use aws_sdk_dynamodb::{
    Client,
    types::{AttributeValue, PutRequest, WriteRequest},
};
use chat_admin::check::{CheckEvent, CheckOptions, check_table};
use chat_local::{
    dynamodb::{self, EmbeddedDynamoDb},
    template::Template,
};
use chat_shared::{
    domain::{ChatId, Timestamp, UserId},
    store::{
        ActivityKey, ChatList, ChatPageStart, MessagePageStart, Store, TableClient,
        items::{ChatItem, ItemKey, TotalsItem},
        number,
    },
};
use tokio::{runtime::Runtime, task::JoinSet};

use crate::{
    Effort, Result,
    dataset::{chat_id, create_table, short_message, start_chat, user_id},
    dynamodb_proxy::{Proxy, ProxyMode},
    format::{markdown_table, millis, significant},
    plot::{Line, Plot, lines},
    report::Report,
    statistics::{median, percentile},
};

/// The API's default for `limit`.
const PAGE_SIZE: usize = 15;
/// The API's maximum for `skip` in lists of chats.
const MAX_SKIP: u64 = 1_000;
/// DynamoDB's maximum number of items in a `BatchWriteItem` request.
const BATCH_SIZE: usize = 25;
/// Tasks that fill the table concurrently.
const FILL_TASKS: u64 = 8;
/// Numbers of concurrent senders to measure.
const SENDERS: [u64; 8] = [1, 2, 5, 10, 20, 50, 100, 200];

/// The measurement of an operation at one data size.
struct Point {
    size: u64,
    median_time: Duration,
    read_units: f64,
    write_units: f64,
}

/// A named series of measurements, which is one line in a plot.
type Series = (&'static str, Vec<Point>);

/// A table that the benchmark fills with more and more data.
struct ScalingBenchmark {
    table: TableClient,
    client: Client,
    table_name: String,
    dynamodb: EmbeddedDynamoDb,
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
            dynamodb,
            repetitions: effort.repetitions,
        };
        benchmark.run(effort, report).await
    })
}

impl ScalingBenchmark {
    async fn run(&self, effort: &Effort, report: &Report) -> Result<()> {
        let mut text = format!(
            "These measurements call the functions' own store with an embedded DynamoDB on this machine, \
             without TLS and without function processes. Each time is the median of {} repetitions.\n\n",
            self.repetitions
        );
        let (pages, marks) = self.measure_messages(effort.max_messages).await?;
        let (lists, totals) = self.measure_chats(effort.max_chats).await?;
        for (name, title, size, series) in [
            ("messages", "A page of 15 messages", "skip", pages),
            (
                "mark-read",
                "Mark messages as read",
                "unread messages",
                marks,
            ),
            ("chats", "A page of 15 chats", "chats of the user", lists),
            ("totals", "Totals", "chats of the user, all unread", totals),
        ] {
            text += &section(report, name, title, size, &series)?;
        }
        eprintln!("Checking the table for invariant violations …");
        self.check_table().await?;
        text += &self
            .measure_concurrent_sends(effort.max_senders, report)
            .await?;
        report.section("scaling", "Scaling with the amount of data", &text)
    }

    /// Measures an operation. Runs `prepare` before each repetition.
    async fn measure(
        &self,
        size: u64,
        prepare: impl AsyncFn() -> Result<()>,
        operation: impl AsyncFn(&Store) -> Result<()>,
    ) -> Result<Point> {
        let mut times = Vec::new();
        let (mut read_units, mut write_units) = (0.0, 0.0);
        for _ in 0..self.repetitions {
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
        let repetitions = f64::from(self.repetitions);
        Ok(Point {
            size,
            median_time: median(times),
            read_units: read_units / repetitions,
            write_units: write_units / repetitions,
        })
    }

    fn store(&self) -> Store {
        self.table.store_at(Timestamp::now())
    }

    /// Measures pages at different depths of one chat, and marking different numbers of messages as
    /// read.
    async fn measure_messages(&self, max: u64) -> Result<(Vec<Series>, Vec<Series>)> {
        let chat = chat_id(1, 2)?;
        let reader = chat.high();
        eprintln!("Filling a chat with {max} messages …");
        let count = max + 100;
        self.fill_chat(chat, count).await?;
        let nothing = async || Ok(());
        let (mut pages, mut marks) = (Vec::new(), Vec::new());
        for skip in std::iter::once(0).chain(powers_of_ten(max)) {
            eprintln!("Listing messages at skip {skip} …");
            let list = async |store: &Store| {
                let start = MessagePageStart::Skip(skip);
                let page = store.list_messages(chat, start, PAGE_SIZE).await?;
                ensure(page.messages.len() == PAGE_SIZE, "a page is not full")
            };
            pages.push(self.measure(skip, nothing, list).await?);
        }
        for unread in powers_of_ten(max) {
            eprintln!("Marking {unread} messages as read …");
            let prepare = async || self.set_unread(chat, count, unread).await;
            let mark =
                async |store: &Store| Ok(store.mark_messages_read(reader, chat, None).await?);
            marks.push(self.measure(unread, prepare, mark).await?);
        }
        Ok((vec![("messages", pages)], vec![("mark", marks)]))
    }

    /// Sends one message and copies its item with different seqs. Sending all messages
    /// would take too long, and the copies have exactly the attributes that the functions write.
    async fn fill_chat(&self, chat: ChatId, count: u64) -> Result<()> {
        let store = self.store();
        start_chat(&store, chat.low(), chat).await?;
        store
            .send_message(chat.low(), chat, short_message()?, None)
            .await?;
        let sort_key = |seq: u64| format!("MSG#{seq:016}");
        let key = ItemKey {
            pk: ChatItem::key(chat).pk,
            sk: sort_key(1),
        };
        let first = store
            .get(key)
            .await?
            .ok_or("the first message is missing")?;
        for seqs in (1..=count).collect::<Vec<_>>().chunks(BATCH_SIZE) {
            let put = |seq: &u64| {
                let mut item = first.clone();
                item.insert("sk".to_owned(), AttributeValue::S(sort_key(*seq)));
                let put = PutRequest::builder().set_item(Some(item)).build()?;
                Ok(WriteRequest::builder().put_request(put).build())
            };
            let puts = seqs.iter().map(put).collect::<Result<Vec<_>>>()?;
            let batch = self.client.batch_write_item();
            let output = batch.request_items(&self.table_name, puts).send().await?;
            let unprocessed = output.unprocessed_items.unwrap_or_default();
            ensure(
                unprocessed.is_empty(),
                "DynamoDB did not write all items of a batch",
            )?;
        }
        self.set_unread(chat, count, count).await
    }

    /// Sets the chat and its reader's totals to the values for `count` messages, `unread` of them
    /// unread.
    async fn set_unread(&self, chat: ChatId, count: u64, unread: u64) -> Result<()> {
        let store = self.store();
        let reader = chat.high();
        let (unread_attribute, read_seq_attribute) = ChatItem::member_attributes(chat, reader);
        let chat_update = store.update(
            ChatItem::key(chat),
            &format!(
                "SET seq = :seq, lastMessage.seq = :seq, {unread_attribute} = :unread, \
                 {read_seq_attribute} = :readSeq"
            ),
            None,
            &[],
            vec![
                (":seq", number(count)),
                (":unread", number(unread)),
                (":readSeq", number(count - unread)),
            ],
        );
        // The reader has only this chat, so its shard contains the reader's whole total.
        let totals_update = store.update(
            TotalsItem::key(reader, chat),
            "SET unread = :unread",
            None,
            &[],
            vec![(":unread", number(unread))],
        );
        let written = store.transact(vec![chat_update, totals_update]).await?;
        written.map_err(|_| "the chat and the totals could not be updated".into())
    }

    /// Measures lists and totals of a user who gets more and more chats.
    async fn measure_chats(&self, max: u64) -> Result<(Vec<Series>, Vec<Series>)> {
        let user = user_id(1_000_000)?;
        let nothing = async || Ok(());
        let (mut first, mut skipped, mut by_cursor) = (Vec::new(), Vec::new(), Vec::new());
        let mut totals = Vec::new();
        let mut chats = 0;
        for size in powers_of_ten(max) {
            eprintln!("Measuring a user with {size} chats …");
            self.add_chats(user, chats, size).await?;
            chats = size;
            let get_totals = async |store: &Store| {
                let totals = store.totals(user).await?;
                ensure(
                    totals.unread_messages == size,
                    "the totals do not match the sent messages",
                )
            };
            totals.push(self.measure(size, nothing, get_totals).await?);
            if size < 10 {
                continue;
            }
            let middle = self.middle_of_list(user, size).await?;
            let skip = usize::try_from((size / 2).min(MAX_SKIP))?;
            for (points, start) in [
                (&mut first, ChatPageStart::Skip(0)),
                (&mut skipped, ChatPageStart::Skip(skip)),
                (&mut by_cursor, ChatPageStart::After(middle)),
            ] {
                let list = async |store: &Store| {
                    let list = ChatList::Active;
                    let page = store.list_chats(user, list, start, PAGE_SIZE).await?;
                    let expected = PAGE_SIZE.min(usize::try_from(size / 2)? - 1);
                    ensure(page.chats.len() >= expected, "a page is not full")
                };
                points.push(self.measure(size, nothing, list).await?);
            }
        }
        let lists = vec![
            ("first page", first),
            ("skip half, at most 1,000", skipped),
            ("cursor at the middle", by_cursor),
        ];
        Ok((lists, vec![("totals", totals)]))
    }

    /// Adds chats to a user who has `from` of them already, until there are `to`. The other member of
    /// each chat sends one message.
    async fn add_chats(&self, user: UserId, from: u64, to: u64) -> Result<()> {
        let mut tasks = JoinSet::new();
        for task in 0..FILL_TASKS {
            let table = self.table.clone();
            tasks.spawn(async move {
                for n in (from + 1..=to).filter(|n| n % FILL_TASKS == task) {
                    let store = table.store_at(Timestamp::now());
                    let other = user_id(user.get() + n)?;
                    let chat = chat_id(user.get(), other.get())?;
                    let requester = if n % 2 == 0 { user } else { other };
                    start_chat(&store, requester, chat).await?;
                    store
                        .send_message(other, chat, short_message()?, None)
                        .await?;
                }
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
            });
        }
        while let Some(filled) = tasks.join_next().await {
            filled??;
        }
        Ok(())
    }

    /// The position in the middle of a user's chat list, found by following cursors.
    async fn middle_of_list(&self, user: UserId, chats: u64) -> Result<ActivityKey> {
        let store = self.store();
        let mut remaining = usize::try_from(chats / 2)?;
        let mut start = ChatPageStart::Skip(0);
        loop {
            let page = store
                .list_chats(user, ChatList::Active, start, remaining.min(100))
                .await?;
            remaining = remaining.saturating_sub(page.chats.len());
            let last = page.chats.last().ok_or("the list ended too early")?;
            if remaining == 0 {
                return Ok(ActivityKey::of(last));
            }
            start = ChatPageStart::After(ActivityKey::of(last));
        }
    }

    /// Checks that the table contains the same items as if the functions had written them.
    async fn check_table(&self) -> Result<()> {
        let mut violations = Vec::new();
        let mut report = |event: CheckEvent<'_>| {
            if let CheckEvent::Violation(violation) = event {
                violations.push(violation.to_string());
            }
        };
        let options = CheckOptions {
            repair: false,
            settle: Duration::ZERO,
        };
        check_table(&self.store(), options, &mut report).await?;
        ensure(violations.is_empty(), &violations.join("\n"))
    }

    /// Measures concurrent sends to one user. Transactions lock their items as long as in production.
    async fn measure_concurrent_sends(&self, max_senders: u64, report: &Report) -> Result<String> {
        let proxy = Proxy::start(self.dynamodb.endpoint(), None)?;
        let client = dynamodb::client_for_endpoint(proxy.endpoint());
        let contended_table = TableClient::new(client, &self.table_name);
        let mut rows = Vec::new();
        let (mut medians, mut maxima, mut conflict_rates) = (Vec::new(), Vec::new(), Vec::new());
        for senders in SENDERS
            .into_iter()
            .filter(|&senders| senders <= max_senders)
        {
            eprintln!("Sending {senders} messages to one user concurrently …");
            // Use another recipient for each number of senders, so that all totals start at 0.
            let recipient = user_id(2_000_000 + 1_000 * senders)?;
            let store = self.store();
            let mut chats = Vec::new();
            for n in 1..=senders {
                let chat = chat_id(recipient.get(), recipient.get() + n)?;
                start_chat(&store, recipient, chat).await?;
                chats.push(chat);
            }
            proxy.set_mode(ProxyMode::EmulateConflicts);
            proxy.drain_conflict_stats();
            let mut sends = JoinSet::new();
            for chat in chats {
                let store = contended_table.store_at(Timestamp::now());
                let content = short_message()?;
                sends.spawn(async move {
                    let started_at = Instant::now();
                    let send = store.send_message(chat.peer_of(recipient), chat, content, None);
                    send.await.map(|_| started_at.elapsed())
                });
            }
            let mut times = Vec::new();
            while let Some(time) = sends.join_next().await {
                times.push(millis(time??));
            }
            proxy.set_mode(ProxyMode::PassThrough);
            let unread = store.totals(recipient).await?.unread_messages;
            ensure(
                unread == senders,
                "the recipient's total does not match the sent messages",
            )?;
            let stats = proxy.drain_conflict_stats();
            let float = |count: u64| u32::try_from(count).map(f64::from);
            let conflict_rate = float(stats.conflicts)? / float(stats.transactions)? * 100.0;
            let [middle, maximum] = [0.5, 1.0]
                .map(|fraction| percentile(times.iter().copied(), fraction).unwrap_or_default());
            let x = float(senders)?;
            medians.push((x, middle));
            maxima.push((x, maximum));
            conflict_rates.push((x, conflict_rate));
            let values = [middle, maximum, conflict_rate].map(significant);
            rows.push([senders.to_string()].into_iter().chain(values).collect());
        }
        let line = |name: &str, points| Line {
            name: name.to_owned(),
            points,
        };
        let times = vec![line("median", medians), line("max", maxima)];
        let plots = [
            Plot::new("milliseconds per send", times),
            Plot::new(
                "% of transactions in conflict",
                vec![line("", conflict_rates)],
            ),
        ];
        let x = "concurrent senders";
        report.plot("scaling-concurrent-sends", |path| lines(path, x, &plots))?;
        let header = ["concurrent senders", "median ms", "max ms", "% in conflict"];
        Ok(format!(
            "### Concurrent sends to one user\n\n\
             Each transaction locks its items for 25 ms and is cancelled if another transaction has locked one of \
             them. All sends succeeded after retries, and the totals were exact.\n\n{}\n\
             ![Concurrent sends to one user](scaling-concurrent-sends.svg)\n\n",
            markdown_table(&header, &rows)
        ))
    }
}

/// The numbers 1, 10, 100, … up to `max`.
fn powers_of_ten(max: u64) -> impl Iterator<Item = u64> {
    let powers = std::iter::successors(Some(1_u64), |power| power.checked_mul(10));
    powers.take_while(move |&power| power <= max)
}

fn ensure(condition: bool, error: &str) -> Result<()> {
    if condition { Ok(()) } else { Err(error.into()) }
}

/// Plots measurements and returns a report section with their table.
fn section(
    report: &Report,
    name: &str,
    title: &str,
    size: &str,
    all_series: &[Series],
) -> Result<String> {
    // A single series needs no column and no legend for its name.
    let is_single = all_series.len() == 1;
    let mut rows = Vec::new();
    for (series, points) in all_series {
        for point in points {
            let time = millis(point.median_time);
            let values = [time, point.read_units, point.write_units].map(significant);
            let labels = [(*series).to_owned(), point.size.to_string()];
            let labels = labels.into_iter().skip(usize::from(is_single));
            rows.push(labels.chain(values).collect());
        }
    }
    let header = ["page", size, "ms", "RRU", "WRU"];
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
        all_series.iter().map(line).collect()
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
    Ok(format!(
        "### {title}\n\n{table}\n![{title}](scaling-{name}.svg)\n\n"
    ))
}
