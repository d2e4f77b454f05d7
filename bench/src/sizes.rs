//! The budget of sizes: a function over it fails this. Memory needs no clock, so a busy machine does not
//! matter.

use chat_local::template::Template;
use tokio::runtime::Runtime;

use crate::{
    Result, contestants, figures::megabytes, runtime_api::RuntimeApi, start::peak_memory,
    world::World,
};

/// Bytes of a binary in a zip file.
const MOST_ZIPPED: u64 = 2_500_000;
/// Bytes of memory.
const MOST_MEMORY: u64 = 7_500_000;
/// Processes that are looked at; the largest counts.
const PROCESSES: u32 = 3;
/// Calls that each answers.
const CALLS: u32 = 20;

/// Builds the functions as they are deployed, and fails when one is over the budget.
pub fn run(runtime: &Runtime, template: &Template, functions: &[String]) -> Result<()> {
    let functions = runtime.block_on(contestants::functions(template, functions))?;
    let world = World::new(runtime, template)?;
    let mut api = RuntimeApi::start()?;
    let mut over = Vec::new();
    for function in &functions {
        let zipped = function.size()?.zipped;
        let mut memory = 0;
        for _ in 0..PROCESSES {
            memory = peak_memory(&world, &mut api, function, CALLS)?.max(memory);
        }
        println!(
            "{}: {:.2} MB zipped (at most {}), {:.2} MB of memory (at most {})",
            function.name,
            megabytes(zipped),
            megabytes(MOST_ZIPPED),
            megabytes(memory),
            megabytes(MOST_MEMORY),
        );
        if zipped > MOST_ZIPPED || memory > MOST_MEMORY {
            over.push(function.name.as_str());
        }
    }
    if over.is_empty() {
        Ok(())
    } else {
        Err(format!("over the budget: {}", over.join(", ")).into())
    }
}
