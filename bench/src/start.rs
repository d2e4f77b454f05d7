//! What a function takes to start and to answer, over TLS, measured from outside of its process.
//!
//! One process at a time is started, called once, called some hundred times more, and killed; the
//! contestants take turns, so that whatever the machine does meanwhile happens to all of them alike.

use std::{fmt::Write, time::Duration};

use chat_local::template::Template;
use tokio::runtime::Runtime;

use crate::{
    Effort, Result,
    contestants::{self, BARE, Contestant, SDK_DEFAULTS, Size},
    figures::{digits, median, megabytes, millis, percentile, table},
    plot,
    prices::{ASSUMPTIONS, million_calls},
    process::Process,
    proxy::{Cost, Road},
    report::Report,
    runtime_api::RuntimeApi,
    world::World,
};

/// Calls before the one whose cost is counted: what opens connections.
const CALLS_BEFORE_COST: usize = 1;

/// What one process took.
struct Sample {
    start: Duration,
    first: Duration,
    /// The median and the 99th percentile of the calls after the first.
    warm: [Duration; 2],
    /// Processor time until the first answer was given, and of a call after it.
    processor: [Duration; 2],
    memory: u64,
}

/// A contestant and what is known of it.
struct Measured {
    contestant: Contestant,
    size: Size,
    /// Of one warm call.
    cost: Cost,
    /// TLS connections of a process that answers two calls.
    connections: u64,
    samples: Vec<Sample>,
}

impl Measured {
    fn median(&self, of: impl Fn(&Sample) -> Duration) -> Duration {
        median(self.samples.iter().map(of))
    }

    fn together(&self, part: f64) -> Duration {
        let both = self.samples.iter().map(|it| it.start + it.first);
        percentile(both, part).unwrap_or_default()
    }
}

/// Measures the functions and their baselines, and reports.
pub fn run(
    runtime: &Runtime,
    template: &Template,
    functions: &[String],
    effort: &Effort,
    report: &Report,
) -> Result<()> {
    eprintln!("Building the functions as they are deployed, and what they are compared with …");
    let mut contestants = runtime.block_on(contestants::functions(template, functions))?;
    contestants.extend(runtime.block_on(contestants::baselines())?);
    eprintln!("Filling a table …");
    let world = World::new(runtime, template)?;
    let mut api = RuntimeApi::start()?;
    let mut all = Vec::new();
    for contestant in contestants {
        let (cost, connections) = cost(&world, &mut api, &contestant)?;
        all.push(Measured {
            size: contestant.size()?,
            contestant,
            cost,
            connections,
            samples: Vec::new(),
        });
    }
    for round in 1..=effort.processes {
        eprintln!(
            "Round {round} of {}: {} processes …",
            effort.processes,
            all.len()
        );
        for measured in &mut all {
            let sample = sample(&world, &mut api, &measured.contestant, effort.warm_calls)?;
            measured.samples.push(sample);
        }
    }
    write_report(&all, template, effort, report)
}

/// What a call costs at the table, seen at a process whose connections are open.
fn cost(world: &World, api: &mut RuntimeApi, contestant: &Contestant) -> Result<(Cost, u64)> {
    world.proxy.connections();
    let name = &contestant.name;
    let told = |error| format!("{name}: {error}");
    let mut process = Process::start(api, contestant.command(world)).map_err(told)?;
    for _ in 0..CALLS_BEFORE_COST {
        let event = world.event(&contestant.function)?;
        process.call(&event).map_err(told)?;
    }
    let event = world.event(&contestant.function)?;
    world.proxy.set_road(Road::Counted);
    world.proxy.cost();
    let called = process.call(&event);
    world.proxy.set_road(Road::Open);
    called.map_err(told)?;
    Ok((world.proxy.cost(), world.proxy.connections()))
}

fn sample(
    world: &World,
    api: &mut RuntimeApi,
    contestant: &Contestant,
    warm_calls: u32,
) -> Result<Sample> {
    let event = world.event(&contestant.function)?;
    let mut process = Process::start(api, contestant.command(world))?;
    let first = process.call(&event)?;
    let until_answer = process.processor_time()?;
    let mut warm = Vec::new();
    for _ in 0..warm_calls {
        warm.push(process.call(&world.event(&contestant.function)?)?);
    }
    let after = process.processor_time()?.saturating_sub(until_answer);
    let a_call = after / warm_calls.max(1);
    let warm = [0.5, 0.99].map(|part| percentile(warm.clone(), part).unwrap_or_default());
    Ok(Sample {
        start: process.start,
        first,
        warm,
        processor: [until_answer, a_call],
        memory: process.peak_memory()?,
    })
}

/// A function's peak memory in bytes, after so many calls: what the budget of sizes looks at.
pub fn peak_memory(
    world: &World,
    api: &mut RuntimeApi,
    contestant: &Contestant,
    calls: u32,
) -> Result<u64> {
    Ok(sample(world, api, contestant, calls)?.memory)
}

fn write_report(
    all: &[Measured],
    template: &Template,
    effort: &Effort,
    report: &Report,
) -> Result<()> {
    let mut text = format!(
        "Each figure is the median of {} processes, {} calls each after the first. A process is given \
         events by a Runtime API on this machine and reaches an embedded DynamoDB there over TLS 1.3 \
         through a proxy whose certificate it trusts, beside as many others as in production: Amazon's five \
         roots, with the SDK's defaults the machine's own, with Node those that are built in. A round trip \
         takes some tenths of a millisecond where AWS takes milliseconds; the process has whole processor cores, where Lambda gives a 256 MB function a seventh of \
         one after its start. **Start** is from before the process is made until it asks for its first \
         event; **first** from the event to the answer of that one.\n\n",
        effort.processes, effort.warm_calls
    );
    let rows: Vec<_> = all.iter().map(times).collect();
    let header = [
        "ms",
        "start",
        "first",
        "together (quartiles)",
        "warm p50",
        "warm p99",
        "processor: start and first",
        "processor: a call",
    ];
    text += &table(&header, &rows);
    text += "\n";
    let rows: Vec<_> = all.iter().map(sizes).collect();
    text += &table(&["MB", "peak memory", "binary", "zipped"], &rows);
    text += "\nA bundle of JavaScript is small because Lambda brings Node and its memory.\n\n";

    let memory = template.functions.first().map_or(256, |it| it.memory);
    let rows: Vec<_> = all
        .iter()
        .map(|it| costs(it, f64::from(u32::try_from(memory).unwrap_or(256))))
        .collect();
    let configured = format!("$ a million, {memory} MB");
    let header = [
        "a warm call",
        "connections",
        "requests",
        "round trips",
        "WRU",
        "RRU",
        "$ a million, 128 MB",
        &configured,
    ];
    text += &table(&header, &rows);
    let _ = write!(
        text,
        "\nConnections are those of a process over two calls. {ASSUMPTIONS}\n\n"
    );
    text += &ratios(all);
    let bars = all.iter().map(|it| plot::Bar {
        name: it.contestant.name.clone(),
        parts: [it.median(|s| s.start), it.median(|s| s.first)]
            .map(millis)
            .into(),
    });
    report.plot("start", |path| {
        let x = "milliseconds from process start to the first answer";
        plot::bars(
            path,
            x,
            &["start", "first answer"],
            &bars.collect::<Vec<_>>(),
        )
    })?;
    text += "![Start and first answer of each](start.svg)\n";
    report.section("start", "Start, calls, memory and cost", &text)
}

fn times(it: &Measured) -> Vec<String> {
    let ms = |duration| digits(millis(duration));
    let [quarter, half, three] = [0.25, 0.5, 0.75].map(|part| ms(it.together(part)));
    vec![
        it.contestant.name.clone(),
        ms(it.median(|s| s.start)),
        ms(it.median(|s| s.first)),
        format!("{half} ({quarter}–{three})"),
        ms(it.median(|s| s.warm[0])),
        ms(it.median(|s| s.warm[1])),
        ms(it.median(|s| s.processor[0])),
        ms(it.median(|s| s.processor[1])),
    ]
}

fn sizes(it: &Measured) -> Vec<String> {
    let memory = median(it.samples.iter().map(|sample| sample.memory));
    let sizes = [memory, it.size.plain, it.size.zipped].map(|it| digits(megabytes(it)));
    [it.contestant.name.clone()]
        .into_iter()
        .chain(sizes)
        .collect()
}

fn costs(it: &Measured, memory: f64) -> Vec<String> {
    let time = it.median(|sample| sample.processor[1]);
    let dollars = |memory| format!("{:.2}", million_calls(memory, time, &it.cost));
    vec![
        it.contestant.name.clone(),
        it.connections.to_string(),
        it.cost.requests.to_string(),
        it.cost.round_trips.to_string(),
        it.cost.written.to_string(),
        it.cost.read.to_string(),
        dollars(128.0),
        dollars(memory),
    ]
}

/// Ratios depend less on the machine than times do.
fn ratios(all: &[Measured]) -> String {
    let together = |it: &Measured| it.together(0.5).as_secs_f64();
    let warm = |it: &Measured| it.median(|sample| sample.warm[0]).as_secs_f64();
    let first = |it: &Measured| it.median(|sample| sample.first).as_secs_f64();
    let named = |name: &str| all.iter().find(|it| it.contestant.name == name);
    let ratio = |one: f64, other: f64| format!("{}×", digits(one / other));
    let mut rows = Vec::new();
    for (ours, others) in [
        ("get-totals", &[BARE, SDK_DEFAULTS, "get-totals, Node"][..]),
        ("send-message", &[BARE, "send-message, Node"]),
    ] {
        let Some(ours) = named(ours) else { continue };
        for other in others.iter().filter_map(|name| named(name)) {
            let names = [ours, other].map(|it| it.contestant.name.clone());
            let ratios = [
                ratio(together(ours), together(other)),
                ratio(warm(ours), warm(other)),
                ratio(first(ours), warm(ours)),
            ];
            rows.push(names.into_iter().chain(ratios).collect());
        }
    }
    let header = [
        "ratios",
        "to",
        "start and first answer",
        "warm call",
        "its own first answer to its warm call",
    ];
    table(&header, &rows) + "\n"
}
