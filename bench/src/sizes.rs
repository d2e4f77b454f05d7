//! Size and memory budget: fails when a function exceeds it.
//!
//! Size and memory do not depend on timing, so this check also works on a busy machine.

use chat_local::template::Template;
use tokio::runtime::Runtime;

use crate::{
    Result, cold_start::peak_memory, environment::Environment, format::megabytes, implementations,
    runtime_api::RuntimeApi,
};

/// Budget for a binary in a zip file, in bytes.
const MAX_ZIPPED: u64 = 2_500_000;
/// Budget for peak memory, in bytes.
const MAX_MEMORY: u64 = 7_500_000;
/// Processes per function. The one with the highest peak memory counts.
const PROCESSES: u32 = 3;
/// Invocations per process after the first one.
const WARM_INVOCATIONS: u32 = 20;

/// Builds the functions as they are deployed and fails when one exceeds the budget.
pub fn run(runtime: &Runtime, template: &Template, functions: &[String]) -> Result<()> {
    let functions = runtime.block_on(implementations::functions(template, functions))?;
    let environment = Environment::new(runtime, template)?;
    let mut api = RuntimeApi::start()?;
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
        if zipped > MAX_ZIPPED || memory > MAX_MEMORY {
            over_budget.push(function.name.as_str());
        }
    }
    if over_budget.is_empty() {
        Ok(())
    } else {
        Err(format!(
            "these functions exceed the budget for size or memory: {}",
            over_budget.join(", ")
        )
        .into())
    }
}
