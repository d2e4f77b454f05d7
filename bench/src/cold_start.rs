//! Measures cold start, warm invocations, CPU time, memory and cost of a function over TLS, from
//! outside its process.
//!
//! Each sample starts one process, invokes it once, invokes it some hundred times more, and kills it.
//! The implementations take turns, so that a disturbance of the machine affects all of them alike.

use std::{fmt::Write, time::Duration};

use chat_local::template::Template;
use tokio::runtime::Runtime;

use crate::{
    Effort, Result,
    cpu_quota::MEGABYTES_PER_CPU,
    dynamodb_proxy::{Cost, ProxyMode, ROUND_TRIP},
    environment::Environment,
    format::{markdown_table, megabytes, millis, significant, with_thousands_separators},
    function_process::FunctionProcess,
    implementations::{ArtifactSize, BARE, Implementation, SDK_DEFAULTS, functions_and_baselines},
    plot,
    pricing::{PRICES, dollars_per_million, is_priced},
    report::Report,
    runtime_api::RuntimeApi,
    statistics::{median, percentile},
};

/// Invocations before the one whose cost is counted. They open the connections.
const INVOCATIONS_BEFORE_COST: usize = 1;

/// Measurements of one process.
struct Sample {
    init: Duration,
    first: Duration,
    warm_p50: Duration,
    warm_p99: Duration,
    /// CPU time of init and the first invocation.
    cold_start_cpu: Duration,
    /// CPU time of a warm invocation, on average.
    warm_cpu: Duration,
    /// Peak memory in bytes.
    memory: u64,
}

/// An implementation with its measurements.
struct Measurement {
    implementation: Implementation,
    size: ArtifactSize,
    /// Cost of one warm invocation.
    cost: Cost,
    /// TLS connections that a process opens for two invocations.
    connections: u64,
    samples: Vec<Sample>,
}

impl Measurement {
    fn median(&self, value: impl Fn(&Sample) -> Duration) -> Duration {
        median(self.samples.iter().map(value))
    }

    /// A percentile of init and first invocation together.
    fn cold_start(&self, fraction: f64) -> Duration {
        let samples = self.samples.iter();
        let cold_starts = samples.map(|sample| sample.init + sample.first);
        percentile(cold_starts, fraction).unwrap_or_default()
    }
}

/// Measures the functions and the baselines and writes the report.
pub fn run(
    runtime: &Runtime,
    template: &Template,
    functions: &[String],
    effort: &Effort,
    report: &Report,
) -> Result<()> {
    let implementations = runtime.block_on(functions_and_baselines(template, functions))?;
    eprintln!("Filling a table …");
    let environment = Environment::new(runtime, template)?;
    let mut api = RuntimeApi::start()?;
    let mut measurements = Vec::new();
    for implementation in implementations {
        let (cost, connections) = measure_cost(&environment, &mut api, &implementation)?;
        measurements.push(Measurement {
            size: implementation.size()?,
            implementation,
            cost,
            connections,
            samples: Vec::new(),
        });
    }
    for round in 1..=effort.processes {
        eprintln!(
            "Round {round} of {}: {} processes …",
            effort.processes,
            measurements.len()
        );
        for measurement in &mut measurements {
            let sample = measure_process(
                &environment,
                &mut api,
                &measurement.implementation,
                effort.warm_invocations,
            )?;
            measurement.samples.push(sample);
        }
    }
    write_report(&measurements, template, effort, report)
}

/// Counts the DynamoDB requests and capacity units of a warm invocation, and the connections of its
/// process.
pub fn measure_cost(
    environment: &Environment,
    api: &mut RuntimeApi,
    implementation: &Implementation,
) -> Result<(Cost, u64)> {
    environment.proxy.drain_connections();
    let name = &implementation.name;
    let with_name = |error| format!("{name}: {error}");
    let command = implementation.command(environment);
    let mut process = FunctionProcess::start(api, command).map_err(with_name)?;
    for _ in 0..INVOCATIONS_BEFORE_COST {
        let event = environment.event(&implementation.function)?;
        process.invoke(&event).map_err(with_name)?;
    }
    let event = environment.event(&implementation.function)?;
    environment.proxy.set_mode(ProxyMode::CountRequests);
    environment.proxy.drain_cost();
    let invoked = process.invoke(&event);
    environment.proxy.set_mode(ProxyMode::PassThrough);
    invoked.map_err(with_name)?;
    Ok((
        environment.proxy.drain_cost(),
        environment.proxy.drain_connections(),
    ))
}

fn measure_process(
    environment: &Environment,
    api: &mut RuntimeApi,
    implementation: &Implementation,
    warm_invocations: u32,
) -> Result<Sample> {
    let event = environment.event(&implementation.function)?;
    let mut process = FunctionProcess::start(api, implementation.command(environment))?;
    let first = process.invoke(&event)?;
    let cold_start_cpu = process.cpu_time()?;
    let mut warm = Vec::new();
    for _ in 0..warm_invocations {
        warm.push(process.invoke(&environment.event(&implementation.function)?)?);
    }
    let all_warm_cpu = process.cpu_time()?.saturating_sub(cold_start_cpu);
    let [warm_p50, warm_p99] =
        [0.5, 0.99].map(|fraction| percentile(warm.iter().copied(), fraction).unwrap_or_default());
    Ok(Sample {
        init: process.init,
        first,
        warm_p50,
        warm_p99,
        cold_start_cpu,
        warm_cpu: all_warm_cpu / warm_invocations.max(1),
        memory: process.peak_memory()?,
    })
}

/// A function's peak memory in bytes after this many warm invocations. The `sizes` check uses it.
pub fn peak_memory(
    environment: &Environment,
    api: &mut RuntimeApi,
    implementation: &Implementation,
    warm_invocations: u32,
) -> Result<u64> {
    Ok(measure_process(environment, api, implementation, warm_invocations)?.memory)
}

fn write_report(
    measurements: &[Measurement],
    template: &Template,
    effort: &Effort,
    report: &Report,
) -> Result<()> {
    let mut text = format!(
        "Each value is the median of {} processes with {} warm invocations each. A Runtime API server on \
         this machine sends events to the process. The process reaches an embedded DynamoDB on the same \
         machine over TLS 1.3, through a proxy. It trusts the certificate of the proxy and as many others \
         as in production: Amazon's five root certificates, or the machine's certificates with the SDK's \
         defaults, or the built-in certificates with Node.\n\n\
         - **Init** lasts from before the process is created until it requests its first event.\n\
         - **First** lasts from sending the first event until its response arrives.\n\
         - **Cold start** is both together.\n\n\
         AWS is slower in two ways. A round trip to DynamoDB takes some tenths of a millisecond here \
         and milliseconds on AWS. The process has whole CPU cores here, but on Lambda a 256 MB function has \
         a seventh of a core after init (the part `lambda-cpu` emulates this).\n\n",
        effort.processes, effort.warm_invocations
    );
    let header = [
        "ms",
        "init",
        "first",
        "cold start (quartiles)",
        "warm p50",
        "warm p99",
        "CPU time, cold start",
        "CPU time, warm",
    ];
    let rows: Vec<_> = measurements.iter().map(times_row).collect();
    text += &markdown_table(&header, &rows);
    text += "\n";
    let rows: Vec<_> = measurements.iter().map(sizes_row).collect();
    text += &markdown_table(&["MB", "peak memory", "binary", "zipped"], &rows);
    text += "\nThe JavaScript bundles are small because Lambda provides Node itself.\n\n";

    let memory = template
        .functions
        .first()
        .map_or(256, |function| function.memory);
    let memory_mb = f64::from(u32::try_from(memory).unwrap_or(256));
    let rows: Vec<_> = measurements
        .iter()
        .map(|measurement| costs_row(measurement, memory_mb))
        .collect();
    let configured = format!("$ per million, {memory} MB");
    let header = [
        "warm invocation",
        "connections",
        "requests",
        "round trips",
        "WRU",
        "RRU",
        "$ per million, 128 MB",
        &configured,
    ];
    text += &markdown_table(&header, &rows);
    let _ = write!(
        text,
        "\n**Connections** is the number that a process opens for two invocations. **Requests** are \
         requests to DynamoDB. The functions without dollar amounts are invoked by a WebSocket API or by the \
         table's stream, which have other prices. `push-events` receives one message in each event, and sends \
         it to one connection of each member. {PRICES} The billed duration of an invocation is the sum of two \
         parts, rounded up to whole milliseconds: an assumed {} ms per round trip, and the measured CPU time \
         divided by the share of a CPU that the memory size includes ({} MB include a whole CPU).\n\n",
        ROUND_TRIP.as_millis(),
        with_thousands_separators(&MEGABYTES_PER_CPU.to_string())
    );
    text += &ratios(measurements);
    let bars = measurements.iter().map(|measurement| {
        let parts = [
            measurement.median(|sample| sample.init),
            measurement.median(|sample| sample.first),
        ];
        plot::Bar {
            name: measurement.implementation.name.clone(),
            parts: parts.map(millis).into(),
        }
    });
    let bars: Vec<_> = bars.collect();
    report.plot("cold-start", |path| {
        let x = "milliseconds from process start to the first response";
        plot::bars(path, x, &["init", "first"], &bars)
    })?;
    text += "![Init and first invocation of each implementation](cold-start.svg)\n";
    let title = "Cold start, warm invocations, memory and cost";
    report.section("cold-start", title, &text)
}

fn times_row(measurement: &Measurement) -> Vec<String> {
    let ms = |duration| significant(millis(duration));
    let [lower, middle, upper] =
        [0.25, 0.5, 0.75].map(|fraction| ms(measurement.cold_start(fraction)));
    vec![
        measurement.implementation.name.clone(),
        ms(measurement.median(|sample| sample.init)),
        ms(measurement.median(|sample| sample.first)),
        format!("{middle} ({lower}–{upper})"),
        ms(measurement.median(|sample| sample.warm_p50)),
        ms(measurement.median(|sample| sample.warm_p99)),
        ms(measurement.median(|sample| sample.cold_start_cpu)),
        ms(measurement.median(|sample| sample.warm_cpu)),
    ]
}

fn sizes_row(measurement: &Measurement) -> Vec<String> {
    let memory = median(measurement.samples.iter().map(|sample| sample.memory));
    let size = measurement.size;
    let sizes = [memory, size.uncompressed, size.zipped];
    [measurement.implementation.name.clone()]
        .into_iter()
        .chain(sizes.map(|bytes| significant(megabytes(bytes))))
        .collect()
}

fn costs_row(measurement: &Measurement, memory: f64) -> Vec<String> {
    let cost = &measurement.cost;
    let cpu_time = measurement.median(|sample| sample.warm_cpu);
    let is_priced = is_priced(&measurement.implementation.function);
    let dollars = |memory| {
        if is_priced {
            format!("{:.2}", dollars_per_million(memory, cpu_time, cost))
        } else {
            "–".to_owned()
        }
    };
    vec![
        measurement.implementation.name.clone(),
        measurement.connections.to_string(),
        cost.requests.to_string(),
        cost.round_trips.to_string(),
        cost.write_units.to_string(),
        cost.read_units.to_string(),
        dollars(128.0),
        dollars(memory),
    ]
}

/// A table of ratios to the baselines. Ratios depend less on the machine than times do.
fn ratios(measurements: &[Measurement]) -> String {
    let cold_start = |measurement: &Measurement| measurement.cold_start(0.5).as_secs_f64();
    let warm = |measurement: &Measurement| {
        let warm = measurement.median(|sample| sample.warm_p50);
        warm.as_secs_f64()
    };
    let first = |measurement: &Measurement| {
        let first = measurement.median(|sample| sample.first);
        first.as_secs_f64()
    };
    let named = |name: &str| {
        let mut measurements = measurements.iter();
        measurements.find(|measurement| measurement.implementation.name == name)
    };
    let ratio = |one: f64, other: f64| format!("{}×", significant(one / other));
    let mut rows = Vec::new();
    for (function, baselines) in [
        ("get-totals", &[BARE, SDK_DEFAULTS, "get-totals, Node"][..]),
        ("send-message", &[BARE, "send-message, Node"]),
    ] {
        let Some(function) = named(function) else {
            continue;
        };
        for baseline in baselines.iter().filter_map(|name| named(name)) {
            rows.push(vec![
                function.implementation.name.clone(),
                baseline.implementation.name.clone(),
                ratio(cold_start(function), cold_start(baseline)),
                ratio(warm(function), warm(baseline)),
                ratio(first(function), warm(function)),
            ]);
        }
    }
    let header = [
        "function",
        "baseline",
        "cold start: function / baseline",
        "warm: function / baseline",
        "function: first / warm",
    ];
    markdown_table(&header, &rows) + "\n"
}
