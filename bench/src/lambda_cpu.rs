//! Measures functions under Lambda's share of a processor. A function has a whole processor during init, and
//! afterwards only the share that comes with its memory size.
//!
//! For each sample, a process starts without a quota. When it is ready, it is moved into a control group with the quota
//! (see `cpu_quota.rs`), invoked, and killed. The implementations take turns, so that other load on the machine affects
//! all of them alike.

use std::{
    collections::BTreeMap,
    fmt::Write,
    thread::sleep,
    time::{Duration, Instant},
};

use chat_local::template::Template;
use tokio::runtime::Runtime;

use crate::{
    Effort, Result,
    cold_start::measure_cost,
    cpu_quota::{CpuController, MEGABYTES_PER_CPU, PERIOD_MICROS, quota_micros},
    dynamodb_proxy::{Cost, ProxyMode, ROUND_TRIP},
    environment::Environment,
    format::{markdown_table, millis, significant, with_thousands_separators},
    function_process::FunctionProcess,
    implementations::{Implementation, SECRET_IN_ENVIRONMENT, functions_and_baselines},
    plot::{Line, Plot, logarithmic_lines},
    pricing::{PRICES, dollars_per_million_billed, is_priced, measured_billed_millis},
    report::Report,
    runtime_api::RuntimeApi,
    statistics::{median, percentile},
};

/// The name of this part.
const PART: &str = "lambda-cpu";
/// The title of this part's section.
const TITLE: &str = "Under Lambda's share of a processor";
/// The functions to measure if none are selected: those that are invoked most often. They make one or two round trips,
/// and their responses are small or large.
const DEFAULT_FUNCTIONS: [&str; 4] = [
    "get-totals",
    "send-message",
    "list-messages",
    "list-active-chats",
];
/// The number of invocations that follow each other without a pause.
const INVOCATIONS_IN_A_ROW: usize = 10;
/// The number of invocations per process from which the billed duration is computed.
const BILLED_INVOCATIONS: u32 = 20;

/// Measurements of one process.
struct Sample {
    first: Duration,
    warm: Vec<Duration>,
    /// From the start of the first of several invocations without pauses to the response of the last one.
    in_a_row: Duration,
    /// Durations of invocations with an assumed round trip to DynamoDB.
    billed: Vec<Duration>,
}

/// An implementation with its measurements.
struct Measurement {
    implementation: Implementation,
    /// Cost of one warm invocation.
    cost: Cost,
    /// The samples for each memory size in megabytes.
    samples: BTreeMap<u32, Vec<Sample>>,
}

/// A value of an implementation at a memory size, in milliseconds.
type Time = fn(&Measurement, u32) -> f64;

impl Measurement {
    fn samples(&self, memory: u32) -> impl Iterator<Item = &Sample> {
        self.samples.get(&memory).into_iter().flatten()
    }

    fn first(&self, memory: u32) -> f64 {
        millis(median(self.samples(memory).map(|sample| sample.first)))
    }

    fn warm_p50(&self, memory: u32) -> f64 {
        self.warm(memory, 0.5)
    }

    fn warm_p99(&self, memory: u32) -> f64 {
        self.warm(memory, 0.99)
    }

    /// A percentile over the warm invocations of all processes.
    fn warm(&self, memory: u32, fraction: f64) -> f64 {
        let invocations = self.samples(memory).flat_map(|sample| &sample.warm);
        millis(percentile(invocations.copied(), fraction).unwrap_or_default())
    }

    fn in_a_row(&self, memory: u32) -> f64 {
        millis(median(self.samples(memory).map(|sample| sample.in_a_row)))
    }

    /// Dollars for a million requests and the mean billed duration, as text.
    fn dollars(&self, memory: u32) -> String {
        if !is_priced(&self.implementation.function) {
            return "–".to_owned();
        }
        let invocations = self.samples(memory).flat_map(|sample| &sample.billed);
        let billed = mean(invocations.copied().map(measured_billed_millis));
        let dollars = dollars_per_million_billed(memory.into(), billed, &self.cost);
        format!("{dollars:.2} ({} ms)", significant(billed))
    }
}

/// Measures the functions and the baselines and writes the report. `functions` is empty if none are
/// selected. If this machine allows no quotas, this is an error only if the part `is_required`.
pub fn run(
    runtime: &Runtime,
    template: &Template,
    functions: &[String],
    effort: &Effort,
    report: &Report,
    is_required: bool,
) -> Result<()> {
    let controller = match CpuController::find() {
        Ok(controller) => controller,
        Err(reason) if is_required => {
            return Err(format!(
                "this part needs control groups (cgroups) with a CPU quota: {reason}; run it on Linux as root, \
                 or in a container that may write to the machine's control groups, such as one of \
                 docker run --privileged --cgroupns=host"
            )
            .into());
        }
        Err(reason) => {
            let text = format!(
                "This could not be measured on this machine, because it needs control groups with a CPU \
                 quota: {reason}. Run `chat-bench -- {PART}` on Linux as root."
            );
            return report.section(PART, TITLE, &text);
        }
    };
    let functions = if functions.is_empty() {
        DEFAULT_FUNCTIONS.map(str::to_owned).to_vec()
    } else {
        functions.to_vec()
    };
    let mut implementations = runtime.block_on(functions_and_baselines(template, &functions))?;
    // Only the init of this variant differs, which this part does not measure.
    implementations.retain(|implementation| implementation.name != SECRET_IN_ENVIRONMENT);
    eprintln!("Filling a table …");
    let environment = Environment::new(runtime, template)?;
    let mut api = RuntimeApi::start()?;
    let mut measurements = Vec::new();
    for implementation in implementations {
        let (cost, _) = measure_cost(&environment, &mut api, &implementation)?;
        measurements.push(Measurement {
            implementation,
            cost,
            samples: BTreeMap::new(),
        });
    }
    let rounds = effort.limited_processes;
    for round in 1..=rounds {
        for &memory in effort.memory_sizes {
            eprintln!(
                "Round {round} of {rounds}, {memory} MB: {} processes …",
                measurements.len()
            );
            for measurement in &mut measurements {
                let implementation = &measurement.implementation;
                let invocations = effort.limited_invocations;
                let sample = measure_process(
                    &environment,
                    &mut api,
                    &controller,
                    implementation,
                    memory,
                    invocations,
                )
                .map_err(|error| format!("{}, {memory} MB: {error}", implementation.name))?;
                measurement.samples.entry(memory).or_default().push(sample);
            }
        }
    }
    write_report(&measurements, effort, report)
}

fn measure_process(
    environment: &Environment,
    api: &mut RuntimeApi,
    controller: &CpuController,
    implementation: &Implementation,
    memory: u32,
    warm_invocations: u32,
) -> Result<Sample> {
    let function = &implementation.function;
    // Each process has a group of its own, so that it does not share its quota with others. The group is declared
    // before the process, so it is dropped after it.
    let group = controller.create_group(memory)?;
    let mut command = implementation.command(environment);
    command.env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", memory.to_string());
    let mut process = FunctionProcess::start(api, command)?;
    group.add_process(process.id())?;
    let first = invoke_after_pause(environment, function, &mut process)?;
    let warm = (0..warm_invocations)
        .map(|_| invoke_after_pause(environment, function, &mut process))
        .collect::<Result<Vec<_>>>()?;
    let in_a_row = invoke_in_a_row(environment, function, &mut process)?;
    environment.proxy.set_mode(ProxyMode::Delay);
    let billed = (0..BILLED_INVOCATIONS)
        .map(|_| invoke_after_pause(environment, function, &mut process))
        .collect::<Result<Vec<_>>>();
    environment.proxy.set_mode(ProxyMode::PassThrough);
    Ok(Sample {
        first,
        warm,
        in_a_row,
        billed: billed?,
    })
}

fn invoke_after_pause(
    environment: &Environment,
    function: &str,
    process: &mut FunctionProcess<'_>,
) -> Result<Duration> {
    let event = environment.event(function)?;
    pause();
    process.invoke(&event)
}

/// Invokes the process several times without pauses and returns the time until the last response.
fn invoke_in_a_row(
    environment: &Environment,
    function: &str,
    process: &mut FunctionProcess<'_>,
) -> Result<Duration> {
    // All events are ready before the first invocation, so that the process does not wait for the next one.
    let events = (0..INVOCATIONS_IN_A_ROW)
        .map(|_| environment.event(function))
        .collect::<Result<Vec<_>>>()?;
    pause();
    let started_at = Instant::now();
    let mut total = Duration::ZERO;
    for event in &events {
        let before = started_at.elapsed();
        total = before + process.invoke(event)?;
    }
    Ok(total)
}

/// Waits for one to two periods, so that the next invocation starts at a random time of a period.
fn pause() {
    let micros = fastrand::u32(PERIOD_MICROS..=2 * PERIOD_MICROS);
    sleep(Duration::from_micros(micros.into()));
}

/// The mean, or 0 without values.
fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0_f64, 0.0_f64), |(sum, count), value| {
        (sum + value, count + 1.0)
    });
    sum / count.max(1.0)
}

fn write_report(measurements: &[Measurement], effort: &Effort, report: &Report) -> Result<()> {
    let sizes = effort.memory_sizes;
    let mut text = introduction(effort);
    let times: [(&str, Time, Option<&str>); 4] = [
        ("First response", Measurement::first, Some("first")),
        ("Warm invocation, p50", Measurement::warm_p50, None),
        ("Warm invocation, p99", Measurement::warm_p99, Some("p99")),
        ("Invocations in a row", Measurement::in_a_row, None),
    ];
    for (title, time, plot_name) in times {
        let cell = |measurement: &Measurement, memory| significant(time(measurement, memory));
        let table = table("ms", measurements, sizes, cell);
        let _ = write!(text, "### {title}\n\n{table}\n");
        let Some(plot_name) = plot_name else {
            continue;
        };
        let name = format!("{PART}-{plot_name}");
        let lines = lines_of(measurements, sizes, time);
        let plot = Plot::new("milliseconds, logarithmic", lines);
        report.plot(&name, |path| {
            logarithmic_lines(path, "megabytes of memory, logarithmic", &plot)
        })?;
        let _ = write!(text, "![{title} for each memory size]({name}.svg)\n\n");
    }
    let table = table("$", measurements, sizes, Measurement::dollars);
    let _ = write!(
        text,
        "### Cost of a million requests\n\n{table}\n\
         The mean billed duration is in brackets. For these invocations, the proxy delays each response of DynamoDB \
         by {} ms, which is an assumption for a round trip on AWS. Each duration is rounded up to whole \
         milliseconds. {PRICES}\n",
        ROUND_TRIP.as_millis()
    );
    report.section(PART, TITLE, &text)
}

/// The method of the measurement and its limits.
fn introduction(effort: &Effort) -> String {
    let quota = |&memory: &u32| {
        let quota = significant(f64::from(quota_micros(memory)) / 1_000.0);
        format!("{quota} ms for {}", megabytes(memory))
    };
    let quotas: Vec<_> = effort.memory_sizes.iter().map(quota).collect();
    let period = PERIOD_MICROS / 1_000;
    format!(
        "Lambda gives a function a whole processor during init. Afterwards, its share of a processor depends on \
         its memory, and is a whole processor with {}. Here, a process starts without a quota. When it requests its \
         first event, it gets a quota of CPU time in each period of {period} ms: {}. AWS documents the share but not \
         the period, so {period} ms is an assumption. Memory itself is not limited.\n\n\
         There are {} processes for each implementation and memory size. Each process is invoked once, then {} \
         times, then {INVOCATIONS_IN_A_ROW} times in a row without pauses, and then {BILLED_INVOCATIONS} times \
         for the cost. Except in the row, there is a random pause of {period} to {} ms before each invocation, \
         so that it starts at a random time of a period. The time of the first response and the total time of \
         the row are medians of the processes. The percentiles of warm invocations are those of the invocations of \
         all processes.\n\n\
         **Why p99 is high with little memory.** A process that has used its quota stops until the next period. So \
         an invocation during which the quota ends takes up to {period} ms longer. The kernel checks the quota only \
         at a timer tick (every 1 to 10 ms, depending on the kernel). So a process can use more than its quota, and \
         then waits for several periods.\n\n\
         **Not limited by the quota.** The Runtime API server and the proxy run outside of the quota, as \
         the Runtime API and DynamoDB do on Lambda. All processes have the same priority (nice value).\n\n\
         **Different on AWS.** DynamoDB and the network take longer: here, except for the cost, a round trip takes \
         some tenths of a millisecond. The processor differs (arm64, which is Graviton, by default), and so can the \
         timer ticks of the kernel and the load of other programs on the same server. The start of the virtual \
         machine (Firecracker) comes before init and is not measured here.\n\n",
        megabytes(MEGABYTES_PER_CPU),
        quotas.join(", "),
        effort.limited_processes,
        effort.limited_invocations,
        2 * period,
    )
}

/// A table with a row for each implementation and a column for each memory size.
fn table(
    unit: &str,
    measurements: &[Measurement],
    sizes: &[u32],
    cell: impl Fn(&Measurement, u32) -> String,
) -> String {
    let columns: Vec<_> = sizes.iter().map(|&memory| megabytes(memory)).collect();
    let mut header = vec![unit];
    header.extend(columns.iter().map(String::as_str));
    let row = |measurement: &Measurement| {
        let cells = sizes.iter().map(|&memory| cell(measurement, memory));
        let name = measurement.implementation.name.clone();
        [name].into_iter().chain(cells).collect()
    };
    let rows: Vec<Vec<String>> = measurements.iter().map(row).collect();
    markdown_table(&header, &rows)
}

/// A line for each implementation, with a point for each memory size.
fn lines_of(measurements: &[Measurement], sizes: &[u32], time: Time) -> Vec<Line> {
    let line = |measurement: &Measurement| {
        let point = |&memory: &u32| (f64::from(memory), time(measurement, memory));
        Line {
            name: measurement.implementation.name.clone(),
            points: sizes.iter().map(point).collect(),
        }
    };
    measurements.iter().map(line).collect()
}

/// A memory size as text.
fn megabytes(memory: u32) -> String {
    format!("{} MB", with_thousands_separators(&memory.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_memory_size_has_a_thousands_separator() {
        assert_eq!([128, 1_769].map(megabytes), ["128 MB", "1,769 MB"]);
    }

    #[test]
    fn the_mean_is_the_sum_divided_by_the_count() {
        let mean_of = |values: &[f64]| mean(values.iter().copied());
        assert!((mean_of(&[6.0, 7.0, 11.0]) - 8.0).abs() < 1e-9);
        assert!(mean_of(&[]).abs() < 1e-9);
    }
}
