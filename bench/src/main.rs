//! Benchmarks the Lambda functions: cold start, warm invocations, cost, Lambda's share of a CPU, scaling
//! with the amount of data, contention, throughput and push. It runs with one command on any Linux machine
//! with Rust. It also measures Node functions for comparison when Node is installed.
//!
//! | Part | Question | Module |
//! |---|---|---|
//! | `cold-start` | How long do a cold start and a warm invocation take, how much memory do they need, and what do they cost? | `cold_start.rs` |
//! | `lambda-cpu` | How long do invocations take under the share of a CPU that Lambda gives to each memory size, and what do they cost? | `lambda_cpu.rs` |
//! | `scaling` | How do latency and capacity units change when the amount of data grows? | `scaling/mod.rs` |
//! | `contention` | How many messages do senders in one chat, or to one user, send at once, and what do their conflicts cost? | `contention.rs` |
//! | `throughput` | How many requests per second does one machine serve? | `throughput.rs` |
//! | `push` | How long does a message take to reach the other member over a WebSocket, and how many events and connections does one instance serve? | `push.rs` |
//! | `simulation` | What do a million users cost, and which keys of the table become hot? Is docs/capacity.md right? | `simulation/mod.rs` |
//! | `sizes` | Are the functions within their budget for size, memory and instructions? This part is a test, not a measurement. | `sizes.rs` |

mod cold_start;
mod contention;
mod cpu_quota;
mod dataset;
mod dynamodb_proxy;
mod environment;
mod format;
mod function_process;
mod http;
mod implementations;
mod instructions;
mod lambda_cpu;
mod live;
mod plot;
mod pricing;
mod push;
mod report;
mod runtime_api;
mod scaling;
mod simulation;
mod sizes;
mod stack;
mod statistics;
mod throughput;

use std::{path::PathBuf, process::ExitCode};

use chat_local::template::{Template, default_path, workspace_root};
use clap::{Parser, Subcommand};
use tokio::runtime::Runtime;

use report::Report;

/// Every error ends the benchmark and is printed, so one boxed error type is enough.
type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// Benchmarks the functions. Without a command, it runs the parts cold-start, lambda-cpu, scaling,
/// contention, throughput, push and simulation, and updates docs/benchmark/results.md and its plots.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    part: Option<Part>,
    /// Use few repetitions and little data: a fast check that the benchmark works, with rough results
    #[arg(long, global = true)]
    quick: bool,
    /// Measure only this function, named like its binary; repeat the option for more [default: all,
    /// and in `lambda-cpu` the most frequent ones]
    #[arg(long = "function", value_name = "NAME", global = true)]
    functions: Vec<String>,
    /// Write results.md and the plots to this folder [default: docs/benchmark of this workspace]
    #[arg(long, value_name = "FOLDER", global = true)]
    output: Option<PathBuf>,
    /// Start this many processes of each function in `cold-start`, and for each memory size in `lambda-cpu`
    #[arg(long, value_name = "NUMBER", global = true, value_parser = clap::value_parser!(u32).range(1..))]
    processes: Option<u32>,
    /// Seed of the random numbers in `simulation`
    #[arg(long, value_name = "NUMBER", global = true, default_value_t = 1)]
    seed: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Subcommand)]
enum Part {
    /// Measure cold start, warm invocations, memory, size and cost, and compare with baselines
    ColdStart,
    /// Measure invocations under Lambda's share of a CPU for several memory sizes; needs Linux and root
    LambdaCpu,
    /// Measure latency and capacity units with up to 100,000 messages and 10,000 chats, changes, blocks,
    /// reports and connections
    Scaling,
    /// Measure contention of up to 20 senders in one chat, and of up to 200 senders to one user
    Contention,
    /// Measure how many requests per second one machine serves; needs `wrk`
    Throughput,
    /// Measure how fast events reach WebSocket connections, and how many one instance pushes
    Push,
    /// Simulate the busiest hour of a day, and compare it with the arithmetic of docs/capacity.md; fails if
    /// they differ
    Simulation,
    /// Fail when a function exceeds its budget for size, memory or instructions; the last needs `valgrind`
    Sizes,
}

/// Numbers of repetitions and amounts of data.
struct Effort {
    /// Processes per implementation.
    processes: u32,
    /// Invocations per process after the first one.
    warm_invocations: u32,
    /// Memory sizes in megabytes whose share of a CPU is emulated.
    memory_sizes: &'static [u32],
    /// Processes per implementation and memory size that have only this share.
    limited_processes: u32,
    /// Warm invocations of each of these processes.
    limited_invocations: u32,
    /// Repetitions of each operation at each data size.
    repetitions: u32,
    /// Messages in the largest chat.
    max_messages: u64,
    /// Chats of the user with the most chats.
    max_chats: u64,
    /// Users who send to one user at the same time.
    max_senders: u64,
    /// Senders in one chat at the same time.
    max_chat_senders: u64,
    /// Repetitions of each measurement of contention.
    contention_runs: u32,
    /// Duration of each throughput measurement.
    seconds: u32,
    /// Connections that `wrk` opens.
    connections: u32,
    /// Messages of one pair of users whose latency of push is measured.
    push_messages: u64,
    /// Pairs of users who send at once.
    push_pairs: u64,
    /// Chats whose events are pushed in batches.
    push_chats: u64,
    /// Batches of events of each kind.
    push_batches: u32,
    /// Users whose busiest hour is simulated with the store.
    simulated_users: u32,
    /// Users whose schedule is analyzed for conflicts and popular users.
    analyzed_users: u32,
}

impl Effort {
    const FULL: Self = Self {
        processes: 20,
        warm_invocations: 200,
        memory_sizes: &[128, 256, 512, 1_024, 1_769],
        limited_processes: 7,
        limited_invocations: 40,
        repetitions: 51,
        max_messages: 100_000,
        max_chats: 10_000,
        max_senders: 200,
        max_chat_senders: 20,
        contention_runs: 3,
        seconds: 60,
        connections: 16,
        push_messages: 200,
        push_pairs: 200,
        push_chats: 100,
        push_batches: 30,
        simulated_users: 12_000,
        analyzed_users: 100_000,
    };
    const QUICK: Self = Self {
        processes: 3,
        warm_invocations: 20,
        memory_sizes: &[128, 1_769],
        limited_processes: 2,
        limited_invocations: 5,
        repetitions: 5,
        max_messages: 1_000,
        max_chats: 100,
        max_senders: 20,
        max_chat_senders: 5,
        contention_runs: 1,
        seconds: 5,
        connections: 16,
        push_messages: 20,
        push_pairs: 20,
        push_chats: 10,
        push_batches: 3,
        simulated_users: 1_000,
        analyzed_users: 10_000,
    };
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<()> {
    let runtime = Runtime::new()?;
    let template = Template::read(&default_path())?;
    let all: Vec<_> = template
        .functions
        .iter()
        .map(|function| function.binary.clone())
        .collect();
    if let Some(unknown) = cli.functions.iter().find(|name| !all.contains(name)) {
        let all = all.join(", ");
        return Err(format!("unknown function {unknown}; choose from: {all}").into());
    }
    let functions = if cli.functions.is_empty() {
        &all
    } else {
        &cli.functions
    };
    if cli.part == Some(Part::Sizes) {
        return sizes::run(&runtime, &template, functions);
    }
    let mut effort = if cli.quick {
        Effort::QUICK
    } else {
        Effort::FULL
    };
    effort.processes = cli.processes.unwrap_or(effort.processes);
    effort.limited_processes = cli.processes.unwrap_or(effort.limited_processes);
    let folder = cli.output.clone();
    let report = Report::new(folder.unwrap_or_else(|| workspace_root().join("docs/benchmark")))?;
    let is_selected = |part| cli.part.is_none_or(|selected| selected == part);
    if is_selected(Part::ColdStart) {
        cold_start::run(&runtime, &template, functions, &effort, &report)?;
    }
    if is_selected(Part::LambdaCpu) {
        let (functions, is_required) = (&cli.functions, cli.part.is_some());
        lambda_cpu::run(
            &runtime,
            &template,
            functions,
            &effort,
            &report,
            is_required,
        )?;
    }
    if is_selected(Part::Scaling) {
        scaling::run(&runtime, &template, &effort, &report)?;
    }
    if is_selected(Part::Contention) {
        contention::run(&runtime, &template, &effort, &report)?;
    }
    if is_selected(Part::Throughput) {
        throughput::run(&runtime, functions, &effort, &report)?;
    }
    if is_selected(Part::Push) {
        push::run(&runtime, functions, &effort, &report)?;
    }
    if is_selected(Part::Simulation) {
        simulation::run(&runtime, &template, &effort, cli.seed, &report)?;
    }
    Ok(())
}
