//! Budget of size, memory and instructions: fails when a function exceeds it.
//!
//! None of them depends on timing, so this check also works on a busy machine.

use chat_local::template::Template;
use tokio::runtime::Runtime;

use crate::{
    Result, cold_start::peak_memory, environment::Environment, format::megabytes, implementations,
    instructions, runtime_api::RuntimeApi,
};

/// Budget for a binary in a zip file, in bytes.
const MAX_ZIPPED: u64 = 2_500_000;
/// Budget for peak memory, in bytes.
const MAX_MEMORY: u64 = 7_500_000;
/// Budget for the instructions of a warm request, for functions that represent the others: 5 % more than measured.
const MAX_INSTRUCTIONS: [(&str, u64); 3] = [
    ("get-totals", 890_000),
    ("send-message", 1_620_000),
    ("push-events", 3_460_000),
];
/// Processes per function. The one with the highest peak memory counts.
const PROCESSES: u32 = 3;
/// Invocations per process after the first one.
const WARM_INVOCATIONS: u32 = 20;

/// Builds the functions as they are deployed and fails when one exceeds the budget.
pub fn run(runtime: &Runtime, template: &Template, functions: &[String]) -> Result<()> {
    let functions = runtime.block_on(implementations::functions(template, functions))?;
    let environment = Environment::new(runtime, template)?;
    let mut api = RuntimeApi::start()?;
    let counts_instructions = instructions::can_be_counted();
    if !counts_instructions {
        println!("Instructions are not counted: this needs valgrind, on x86_64.");
    }
    let mut over_budget = Vec::new();
    for function in &functions {
        let zipped = function.size()?.zipped;
        let mut memory = 0;
        for _ in 0..PROCESSES {
            let peak = peak_memory(&environment, &mut api, function, WARM_INVOCATIONS)?;
            memory = peak.max(memory);
        }
        println!(
            "{}: {:.2} MB zipped (budget {}), {:.2} MB of memory (budget {})",
            function.name,
            megabytes(zipped),
            megabytes(MAX_ZIPPED),
            megabytes(memory),
            megabytes(MAX_MEMORY),
        );
        let mut is_over_budget = zipped > MAX_ZIPPED || memory > MAX_MEMORY;
        let budget = MAX_INSTRUCTIONS
            .iter()
            .find(|(name, _)| *name == function.name);
        if let Some((name, max)) = budget.filter(|_| counts_instructions) {
            let count = instructions::per_request(&environment, &mut api, function)?;
            println!("{name}: {count} instructions for a warm request (budget {max})");
            is_over_budget |= count > *max;
        }
        if is_over_budget {
            over_budget.push(function.name.as_str());
        }
    }
    if over_budget.is_empty() {
        Ok(())
    } else {
        Err(format!(
            "these functions exceed the budget for size, memory or instructions: {}",
            over_budget.join(", ")
        )
        .into())
    }
}
