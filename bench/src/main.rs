//! Measures what the functions take: to start and to answer, at the table, and as data grows. One
//! command, on any Linux with Rust; Node is compared with where it is installed.
//!
//! | Part | Question | Module |
//! |---|---|---|
//! | `start` | how long until a new process has answered, how long a call takes after that, with how much memory, for how many dollars | `start.rs` |
//! | `growth` | what becomes of latency and capacity when chats, messages and senders grow a thousandfold | `growth.rs` |
//! | `load` | how much one machine serves | `load.rs` |
//! | `sizes` | whether the functions are within their budget of size and memory: a test, not a measurement | `sizes.rs` |

mod contestants;
mod figures;
mod growth;
mod http;
mod load;
mod plot;
mod prices;
mod process;
mod proxy;
mod report;
mod runtime_api;
mod sizes;
mod start;
mod world;

use std::{path::PathBuf, process::ExitCode};

use chat_local::template::{Template, default_path, workspace_root};
use clap::{Parser, Subcommand};
use tokio::runtime::Runtime;

use report::Report;

/// What can go wrong is told to whoever started the measurement, and ends it.
type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// Measures what the functions take: to start and to answer, at the table, and as data grows. Without a
/// command all three parts are measured, and docs/benchmark/results.md and its plots written anew.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    part: Option<Part>,
    /// Few repetitions and little data: shows that it works, and rough figures
    #[arg(long, global = true)]
    quick: bool,
    /// The functions, as their binaries are called [default: all]
    #[arg(long = "function", value_name = "NAME", global = true)]
    functions: Vec<String>,
    /// Where results are written [default: docs/benchmark of this workspace]
    #[arg(long, value_name = "FOLDER", global = true)]
    output: Option<PathBuf>,
    /// Processes of each function in `start`
    #[arg(long, value_name = "NUMBER", global = true)]
    processes: Option<u32>,
}

#[derive(Clone, Copy, PartialEq, Eq, Subcommand)]
enum Part {
    /// Start, first answer, calls after it, memory, size, and dollars, beside baselines
    Start,
    /// Latency and capacity with 1 to 100,000 messages, 10,000 chats and 200 senders
    Growth,
    /// Calls a second that one machine serves, asked by `wrk`
    Load,
    /// Fail when a function is over its budget of size or memory
    Sizes,
}

/// How much is measured.
struct Effort {
    /// Processes of each contestant.
    processes: u32,
    /// Calls of each process after the first.
    warm_calls: u32,
    /// Calls at each size of what grows.
    repeats: u32,
    /// The largest chat, in messages.
    messages: u64,
    /// The most chats of a user.
    chats: u64,
    /// The most who send to one user at once.
    senders: u64,
    /// How long load lasts.
    seconds: u32,
    /// Connections that it comes over.
    connections: u32,
}

impl Effort {
    const WHOLE: Self = Self {
        processes: 20,
        warm_calls: 200,
        repeats: 51,
        messages: 100_000,
        chats: 10_000,
        senders: 200,
        seconds: 60,
        connections: 16,
    };
    const QUICK: Self = Self {
        processes: 3,
        warm_calls: 20,
        repeats: 5,
        messages: 1_000,
        chats: 100,
        senders: 20,
        seconds: 5,
        connections: 16,
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
        .map(|it| it.binary.clone())
        .collect();
    if let Some(unknown) = cli.functions.iter().find(|it| !all.contains(it)) {
        return Err(format!(
            "there is no function {unknown}; there are {}",
            all.join(", ")
        )
        .into());
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
        Effort::WHOLE
    };
    effort.processes = cli.processes.unwrap_or(effort.processes);
    let folder = cli.output.clone();
    let report = Report::new(folder.unwrap_or_else(|| workspace_root().join("docs/benchmark")))?;
    let wanted = |part| cli.part.is_none_or(|it| it == part);
    if wanted(Part::Start) {
        start::run(&runtime, &template, functions, &effort, &report)?;
    }
    if wanted(Part::Growth) {
        growth::run(&runtime, &template, &effort, &report)?;
    }
    if wanted(Part::Load) {
        load::run(&runtime, functions, &effort, &report)?;
    }
    Ok(())
}
