//! What becomes of latency and capacity as data grows: the functions' own store over the embedded
//! DynamoDB, without their processes, which stay the same.

use std::time::{Duration, Instant};

use aws_sdk_dynamodb::{
    Client,
    types::{AttributeValue, PutRequest, WriteRequest},
};
use chat_local::{
    dynamodb::{self, Embedded},
    template::Template,
};
use chat_shared::{
    domain::{ChatId, Timestamp, UserId},
    store::{Activity, AuditEvent, AuditOptions, ChatsFrom, Connection, List, MessagesFrom, Store},
};
use tokio::{runtime::Runtime, task::JoinSet};

use crate::{
    Effort, Result,
    figures::{digits, median, millis, percentile, table},
    plot::{Line, Plot, lines},
    proxy::{Proxy, Road},
    report::Report,
    world,
};

/// The default of `limit`.
const PAGE: usize = 15;
/// The largest `skip` of a list of chats.
const SKIP_CAP: u64 = 1_000;
/// What DynamoDB takes at once.
const BATCH: usize = 25;
/// Tasks that fill the table at the same time.
const FILLERS: u64 = 8;

/// What a call takes at one size of the data.
struct Point {
    size: u64,
    /// Median.
    time: Duration,
    read: f64,
    written: f64,
}

/// Points by the name of their line.
type Lines = Vec<(&'static str, Vec<Point>)>;

/// A table with a store.
struct Growing {
    store: Connection,
    client: Client,
    table: String,
    dynamodb: Embedded,
    repeats: u32,
}

/// Measures everything that grows, and reports.
pub fn run(runtime: &Runtime, template: &Template, effort: &Effort, report: &Report) -> Result<()> {
    runtime.block_on(async {
        let (dynamodb, store) = world::table(template).await?;
        let growing = Growing {
            store,
            client: dynamodb::client(dynamodb.endpoint()),
            table: template.table.name.clone(),
            dynamodb,
            repeats: effort.repeats,
        };
        growing.run(effort, report).await
    })
}

impl Growing {
    async fn run(&self, effort: &Effort, report: &Report) -> Result<()> {
        let mut text = format!(
            "The functions' own store over an embedded DynamoDB on this machine, without TLS and \
             without their processes. Each time is the median of {} calls.\n\n",
            self.repeats
        );
        let (messages, marks) = self.messages(effort.messages).await?;
        let (lists, totals) = self.chats(effort.chats).await?;
        for (name, title, size, lines) in [
            ("messages", "A page of 15 messages", "skip", messages),
            ("mark", "Marking messages as read", "unread messages", marks),
            ("chats", "A page of 15 chats", "chats of the user", lists),
            (
                "totals",
                "All totals",
                "chats of the user, each unread",
                totals,
            ),
        ] {
            text += &show(report, name, title, size, &lines)?;
        }
        eprintln!("Checking that the table is as the functions would have left it …");
        self.check().await?;
        text += &self.crowd(effort.senders, report).await?;
        report.section("growth", "As data grows", &text)
    }

    /// What a call takes, after what has to be done before each.
    async fn measure(
        &self,
        size: u64,
        before: impl AsyncFn() -> Result<()>,
        call: impl AsyncFn(&Store) -> Result<()>,
    ) -> Result<Point> {
        let mut times = Vec::new();
        let (mut read, mut written) = (0.0, 0.0);
        for _ in 0..self.repeats {
            before().await?;
            let store = self.store.at(Timestamp::now());
            let _ = self.store.work();
            let began = Instant::now();
            call(&store).await?;
            times.push(began.elapsed());
            let work = self.store.work();
            read += work.read_units;
            written += work.write_units;
        }
        let repeats = f64::from(self.repeats);
        Ok(Point {
            size,
            time: median(times),
            read: read / repeats,
            written: written / repeats,
        })
    }

    /// Pages at any depth of one chat, and marking any part of it as read.
    async fn messages(&self, most: u64) -> Result<(Lines, Lines)> {
        let chat = world::chat(1, 2)?;
        let reader = chat.high();
        eprintln!("Filling a chat with {most} messages …");
        let count = most + 100;
        self.fill_chat(chat, count).await?;
        let nothing = async || Ok(());
        let (mut pages, mut marks) = (Vec::new(), Vec::new());
        for skip in std::iter::once(0).chain(sizes(1, most)) {
            eprintln!("Messages at skip {skip} …");
            let page = async |store: &Store| {
                let from = MessagesFrom::Skip(skip);
                let page = store.list_messages(chat, from, PAGE).await?;
                expect(page.messages.len() == PAGE, "a page was short")
            };
            pages.push(self.measure(skip, nothing, page).await?);
        }
        for unread in sizes(1, most) {
            eprintln!("Marking {unread} messages as read …");
            let before = async || self.set_unread(chat, count, unread).await;
            let mark = async |store: &Store| Ok(store.mark_messages_read(reader, chat).await?);
            marks.push(self.measure(unread, before, mark).await?);
        }
        Ok((vec![("messages", pages)], vec![("mark", marks)]))
    }

    /// One message is sent, and copied with a place and a time of its own: what the table holds is what
    /// the functions write.
    async fn fill_chat(&self, chat: ChatId, count: u64) -> Result<()> {
        let store = self.store.at(Timestamp::now());
        world::befriend(&store, chat.low(), chat).await?;
        let content = world::short()?;
        store.send_message(chat.low(), chat, content, None).await?;
        let pk = format!("CHAT#{chat}");
        let key = |seq: u64| format!("MSG#{seq:016}");
        let first = self.client.get_item().table_name(&self.table);
        let first = first.key("pk", text(&pk)).key("sk", text(&key(1)));
        let first = first
            .send()
            .await?
            .item
            .ok_or("the first message is gone")?;
        let last: u64 = first["createdAt"].as_n().map_or("", |it| it).parse()?;
        for seqs in (1..=count).collect::<Vec<_>>().chunks(BATCH) {
            let put = |seq: &u64| {
                let mut item = first.clone();
                item.insert("sk".to_owned(), text(&key(*seq)));
                let created_at = AttributeValue::N((last - (count - seq)).to_string());
                item.insert("createdAt".to_owned(), created_at);
                let put = PutRequest::builder().set_item(Some(item)).build()?;
                Ok(WriteRequest::builder().put_request(put).build())
            };
            let puts = seqs.iter().map(put).collect::<Result<Vec<_>>>()?;
            let write = self.client.batch_write_item();
            let output = write.request_items(&self.table, puts).send().await?;
            let left = output.unprocessed_items.unwrap_or_default();
            expect(left.is_empty(), "the table took only a part")?;
        }
        self.set_unread(chat, count, count).await
    }

    /// Makes the chat's state and its reader's totals as they are with so many messages, of which so
    /// many are unread.
    async fn set_unread(&self, chat: ChatId, count: u64, unread: u64) -> Result<()> {
        let state = [
            ("seq", count),
            ("highUnread", unread),
            ("highReadSeq", count - unread),
        ];
        self.set(&format!("CHAT#{chat}"), "STATE", &state).await?;
        let summary = self.client.update_item().table_name(&self.table);
        let summary = summary.key("pk", text(&format!("CHAT#{chat}")));
        let summary = summary.key("sk", text("STATE"));
        let summary = summary.update_expression("SET lastMessage.seq = :seq");
        let seq = AttributeValue::N(count.to_string());
        summary
            .expression_attribute_values(":seq", seq)
            .send()
            .await?;
        // The reader has this one chat, and so one shard.
        let user = format!("USER#{}", chat.high());
        let totals = self.client.query().table_name(&self.table);
        let totals = totals.key_condition_expression("pk = :pk AND begins_with(sk, :totals)");
        let totals = totals.expression_attribute_values(":pk", text(&user));
        let totals = totals.expression_attribute_values(":totals", text("TOTALS#"));
        let shards = totals.send().await?.items.unwrap_or_default();
        let shard = shards.first().and_then(|item| item["sk"].as_s().ok());
        let shard = shard.ok_or("the reader has no totals")?;
        self.set(&user, shard, &[("unread", unread)]).await
    }

    async fn set(&self, pk: &str, sk: &str, numbers: &[(&str, u64)]) -> Result<()> {
        let update = self.client.update_item().table_name(&self.table);
        let mut update = update.key("pk", text(pk)).key("sk", text(sk));
        let assignments = numbers.iter().map(|(name, _)| format!("{name} = :{name}"));
        let assignments: Vec<_> = assignments.collect();
        update = update.update_expression(format!("SET {}", assignments.join(", ")));
        for (name, number) in numbers {
            let value = AttributeValue::N(number.to_string());
            update = update.expression_attribute_values(format!(":{name}"), value);
        }
        update.send().await?;
        Ok(())
    }

    /// Lists and totals of a user who gets more and more chats.
    async fn chats(&self, most: u64) -> Result<(Lines, Lines)> {
        let star = world::user(1_000_000)?;
        let nothing = async || Ok(());
        let (mut first, mut skipped, mut by_cursor) = (Vec::new(), Vec::new(), Vec::new());
        let mut totals = Vec::new();
        let mut chats = 0;
        for size in sizes(1, most) {
            eprintln!("A user with {size} chats …");
            self.fill_chats(star, chats, size).await?;
            chats = size;
            let all = async |store: &Store| {
                let totals = store.totals(star).await?;
                expect(totals.unread == size, "the totals are not what was sent")
            };
            totals.push(self.measure(size, nothing, all).await?);
            if size < 10 {
                continue;
            }
            let middle = self.middle(star, size).await?;
            for (line, from) in [
                (&mut first, ChatsFrom::Skip(0)),
                (
                    &mut skipped,
                    ChatsFrom::Skip(usize::try_from((size / 2).min(SKIP_CAP))?),
                ),
                (&mut by_cursor, ChatsFrom::After(middle)),
            ] {
                let page = async |store: &Store| {
                    let page = store.list_chats(star, List::Active, from, PAGE).await?;
                    let wanted = PAGE.min(usize::try_from(size / 2)? - 1);
                    expect(page.chats.len() >= wanted, "a page was short")
                };
                line.push(self.measure(size, nothing, page).await?);
            }
        }
        let lists = vec![
            ("first page", first),
            ("skip half, at most 1,000", skipped),
            ("by cursor from the middle", by_cursor),
        ];
        Ok((lists, vec![("totals", totals)]))
    }

    /// Each chat is asked for, accepted, and written to by the other.
    async fn fill_chats(&self, star: UserId, from: u64, to: u64) -> Result<()> {
        let mut fillers = JoinSet::new();
        for filler in 0..FILLERS {
            let store = self.store.clone();
            fillers.spawn(async move {
                for n in (from + 1..=to).filter(|n| n % FILLERS == filler) {
                    let store = store.at(Timestamp::now());
                    let other = world::user(star.get() + n)?;
                    let chat = world::chat(star.get(), other.get())?;
                    let asks = if n % 2 == 0 { star } else { other };
                    world::befriend(&store, asks, chat).await?;
                    store
                        .send_message(other, chat, world::short()?, None)
                        .await?;
                }
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
            });
        }
        while let Some(filled) = fillers.join_next().await {
            filled??;
        }
        Ok(())
    }

    /// A place in the middle of a user's chats, found by cursor.
    async fn middle(&self, star: UserId, chats: u64) -> Result<Activity> {
        let store = self.store.at(Timestamp::now());
        let mut left = usize::try_from(chats / 2)?;
        let mut from = ChatsFrom::Skip(0);
        loop {
            let page = store
                .list_chats(star, List::Active, from, left.min(100))
                .await?;
            left = left.saturating_sub(page.chats.len());
            let last = page.chats.last().ok_or("the list ended too early")?;
            if left == 0 {
                return Ok(Activity::of(last));
            }
            from = ChatsFrom::After(Activity::of(last));
        }
    }

    async fn check(&self) -> Result<()> {
        let mut broken = Vec::new();
        let mut listen = |event: AuditEvent<'_>| {
            if let AuditEvent::Broken(it) = event {
                broken.push(it.to_string());
            }
        };
        let options = AuditOptions {
            repair: false,
            settle: Duration::ZERO,
        };
        let store = self.store.at(Timestamp::now());
        store.audit(options, &mut listen).await?;
        expect(broken.is_empty(), &broken.join("\n"))
    }

    /// Many who write to one user at once, while transactions hold their items as in production.
    async fn crowd(&self, most: u64, report: &Report) -> Result<String> {
        let proxy = Proxy::start(self.dynamodb.endpoint(), None)?;
        let crowded = Connection::new(dynamodb::client(proxy.endpoint()), &self.table);
        let mut rows = Vec::new();
        let (mut middle, mut slowest, mut shares) = (Vec::new(), Vec::new(), Vec::new());
        let steps = [1, 2, 5, 10, 20, 50, 100, 200];
        for senders in steps.into_iter().filter(|&senders| senders <= most) {
            eprintln!("{senders} send to one user at once …");
            // Users and chats of its own for each size.
            let star = world::user(2_000_000 + 1_000 * senders)?;
            let store = self.store.at(Timestamp::now());
            let mut chats = Vec::new();
            for n in 1..=senders {
                let chat = world::chat(star.get(), star.get() + n)?;
                world::befriend(&store, star, chat).await?;
                chats.push(chat);
            }
            proxy.set_road(Road::Crowded);
            proxy.conflicts();
            let mut sends = JoinSet::new();
            for chat in chats {
                let (store, content) = (crowded.at(Timestamp::now()), world::short()?);
                sends.spawn(async move {
                    let began = Instant::now();
                    let sent = store.send_message(chat.peer_of(star), chat, content, None);
                    sent.await.map(|_| began.elapsed())
                });
            }
            let mut times = Vec::new();
            while let Some(sent) = sends.join_next().await {
                times.push(millis(sent??));
            }
            proxy.set_road(Road::Open);
            let unread = store.totals(star).await?.unread;
            expect(unread == senders, "a message was lost or counted twice")?;
            let (transactions, conflicts) = proxy.conflicts();
            let count = |number: u64| u32::try_from(number).map(f64::from);
            let share = count(conflicts)? / count(transactions)? * 100.0;
            let [half, all] = [0.5, 1.0].map(|part| percentile(times.clone(), part));
            let (half, all) = (half.unwrap_or_default(), all.unwrap_or_default());
            let x = count(senders)?;
            middle.push((x, half));
            slowest.push((x, all));
            shares.push((x, share));
            let figures = [half, all, share].map(digits);
            rows.push([senders.to_string()].into_iter().chain(figures).collect());
        }
        let line = |name: &str, points| Line {
            name: name.to_owned(),
            points,
        };
        let times = vec![line("median", middle), line("slowest", slowest)];
        let plots = [
            Plot::new("milliseconds until accepted", times),
            Plot::new("% of transactions in conflict", vec![line("", shares)]),
        ];
        let x = "senders at the same time";
        report.plot("growth-crowd", |path| lines(path, x, &plots))?;
        let header = [
            "senders at once",
            "median ms",
            "slowest ms",
            "% in conflict",
        ];
        Ok(format!(
            "### Sends to one user at once\n\nTransactions hold their items for 25 ms, and are cancelled \
             when another one does. All messages were accepted, and the totals exact.\n\n{}\n\
             ![Sends to one user at once](growth-crowd.svg)\n\n",
            table(&header, &rows)
        ))
    }
}

/// 1, 10, 100, … up to `most`.
fn sizes(from: u64, most: u64) -> impl Iterator<Item = u64> {
    let sizes = std::iter::successors(Some(from), |size| size.checked_mul(10));
    sizes.take_while(move |&size| size <= most)
}

fn expect(holds: bool, otherwise: &str) -> Result<()> {
    if holds { Ok(()) } else { Err(otherwise.into()) }
}

fn text(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

/// A table and a plot of what was measured.
fn show(report: &Report, name: &str, title: &str, size: &str, all: &Lines) -> Result<String> {
    let alone = all.len() == 1;
    let mut rows = Vec::new();
    for (line, points) in all {
        for point in points {
            let figures = [millis(point.time), point.read, point.written].map(digits);
            let what = if alone { "" } else { line };
            let what = [what.to_owned(), point.size.to_string()];
            let row = what.into_iter().skip(usize::from(alone));
            rows.push(row.chain(figures).collect());
        }
    }
    let header = ["page", size, "ms", "RRU", "WRU"];
    let header = &header[usize::from(alone)..];
    let of = |value: &dyn Fn(&Point) -> f64| -> Vec<Line> {
        let line = |(name, points): &(&str, Vec<Point>)| {
            // A logarithm knows no 0.
            let points = points.iter().filter(|point| point.size > 0);
            let x = |size| u32::try_from(size).map_or(f64::MAX, f64::from);
            Line {
                name: if alone { "" } else { name }.to_owned(),
                points: points.map(|point| (x(point.size), value(point))).collect(),
            }
        };
        all.iter().map(line).collect()
    };
    let plots = [
        Plot::new("milliseconds", of(&|point| millis(point.time))),
        Plot::new("capacity units", of(&|point| point.read + point.written)),
    ];
    report.plot(&format!("growth-{name}"), |path| lines(path, size, &plots))?;
    let table = table(header, &rows);
    Ok(format!(
        "### {title}\n\n{table}\n![{title}](growth-{name}.svg)\n\n"
    ))
}
