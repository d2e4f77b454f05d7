//! Counts the processor instructions of a warm request with `valgrind`. Unlike time, the count hardly depends on the
//! machine or on other programs, so a budget for it can be a test.
//!
//! `valgrind` emulates a processor without instructions for SHA-256, so hashing has a larger share than on Lambda.

use std::{ffi::OsStr, path::Path, process::Command};

use crate::{
    Result, environment::Environment, function_process::FunctionProcess,
    implementations::Implementation, runtime_api::RuntimeApi,
};

/// Invocations of the two processes whose counts are subtracted. The first ones of each belong to the cold start.
const INVOCATIONS: [u32; 2] = [20, 120];

/// Whether `valgrind` is installed, and its counts can be compared with the budget.
pub fn can_be_counted() -> bool {
    let version = Command::new("valgrind").arg("--version").output();
    cfg!(target_arch = "x86_64") && version.is_ok_and(|output| output.status.success())
}

/// The instructions of a warm request, on average.
pub fn per_request(
    environment: &Environment,
    api: &mut RuntimeApi,
    implementation: &Implementation,
) -> Result<u64> {
    let file = environment.folder().join("callgrind.out");
    let mut counts = [0; 2];
    for (invocations, count) in INVOCATIONS.into_iter().zip(&mut counts) {
        let command = under_valgrind(&implementation.command(environment), &file);
        let mut process = FunctionProcess::start(api, command)?;
        for _ in 0..invocations {
            process.invoke(&environment.event(&implementation.function)?)?;
        }
        process.terminate()?;
        *count = total(&std::fs::read_to_string(&file)?)?;
    }
    let [few, many] = counts;
    Ok(many.saturating_sub(few) / u64::from(INVOCATIONS[1] - INVOCATIONS[0]))
}

/// The same command in `valgrind`, which writes its counts to `file` when the process is terminated.
fn under_valgrind(command: &Command, file: &Path) -> Command {
    let mut out_file = OsStr::new("--callgrind-out-file=").to_owned();
    out_file.push(file);
    let mut valgrind = Command::new("valgrind");
    valgrind
        .args(["--quiet", "--tool=callgrind"])
        .arg(out_file)
        .arg(command.get_program())
        .args(command.get_args())
        .env_clear();
    let variables = command.get_envs();
    valgrind.envs(variables.filter_map(|(name, value)| Some((name, value?))));
    valgrind
}

/// The total in a file of callgrind.
fn total(file: &str) -> Result<u64> {
    let total = file.lines().find_map(|line| line.strip_prefix("totals:"));
    let total = total.and_then(|numbers| numbers.split_whitespace().next());
    Ok(total.ok_or("callgrind wrote no total")?.parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_the_first_number_of_its_line() {
        let file = "version: 1\nevents: Ir sysCount\nfn=(1) main\n5 100 1\ntotals: 12345 67\n";
        assert_eq!(total(file).unwrap(), 12_345);
        assert!(total("version: 1\n").is_err());
    }
}
