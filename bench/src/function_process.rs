//! Runs one process of a function: starts it, invokes it, and reads its CPU time and memory.

use std::{
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    time::ClockId,
    unistd::Pid,
};
use serde_json::Value;

use crate::{Result, runtime_api::RuntimeApi};

/// A function process that waits for events. Dropping it kills the process.
pub struct FunctionProcess<'a> {
    api: &'a mut RuntimeApi,
    child: Child,
    /// Init duration: from before the process is created until it requests its first event.
    pub init: Duration,
}

impl<'a> FunctionProcess<'a> {
    /// Starts a function and waits until it is ready. Its standard output is discarded, because
    /// reading the output would use CPU time during the measurement.
    pub fn start(api: &'a mut RuntimeApi, mut command: Command) -> Result<Self> {
        api.reset();
        command.env("AWS_LAMBDA_RUNTIME_API", api.address());
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let started_at = Instant::now();
        let child = command.spawn()?;
        let mut process = Self {
            api,
            child,
            init: Duration::ZERO,
        };
        process.init = process.api.wait_until_ready()? - started_at;
        Ok(process)
    }

    /// Invokes the function and returns how long the response took. The process is ready for the
    /// next event when this returns. Fails if the response is not a success.
    pub fn invoke(&mut self, event: &str) -> Result<Duration> {
        let (duration, response) = self.api.invoke(event)?;
        if !is_success(&serde_json::from_slice(&response)?) {
            let response = String::from_utf8_lossy(&response);
            return Err(format!("the function did not return success: {response}").into());
        }
        self.api.wait_until_ready()?;
        Ok(duration)
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// CPU time of the process so far.
    pub fn cpu_time(&self) -> Result<Duration> {
        cpu_time(self.child.id())
    }

    /// Asks the process to end, and waits until it has.
    pub fn terminate(mut self) -> Result<()> {
        let process_id = Pid::from_raw(i32::try_from(self.child.id())?);
        kill(process_id, Signal::SIGTERM)?;
        self.child.wait()?;
        Ok(())
    }

    /// Peak resident memory of the process in bytes.
    pub fn peak_memory(&self) -> Result<u64> {
        peak_memory(self.child.id())
    }
}

impl Drop for FunctionProcess<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// CPU time of all threads of a process so far. It includes threads that have ended.
pub fn cpu_time(process_id: u32) -> Result<Duration> {
    let process_id = Pid::from_raw(i32::try_from(process_id)?);
    Ok(ClockId::pid_cpu_clock_id(process_id)?.now()?.into())
}

/// Peak resident memory of a process in bytes.
pub fn peak_memory(process_id: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process_id}/status"))?;
    let mut lines = status.lines();
    let peak = lines.find_map(|line| line.strip_prefix("VmHWM:")?.strip_suffix("kB"));
    let peak = peak.ok_or("/proc/PID/status has no line VmHWM")?;
    let kibibytes: u64 = peak.trim().parse()?;
    Ok(kibibytes * 1024)
}

/// Whether a response says that the function has done its full work: a success of a route, the
/// permission of the authorizer, or a batch of the stream without failures.
fn is_success(response: &Value) -> bool {
    if let Some(status) = response["statusCode"].as_u64() {
        return (200..300).contains(&status);
    }
    let statement = &response["policyDocument"]["Statement"][0];
    let failures = response["batchItemFailures"].as_array();
    statement["Effect"] == "Allow" || failures.is_some_and(Vec::is_empty)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_response_is_a_success_only_if_the_function_has_done_its_work() {
        let policy = |effect: &str| json!({"policyDocument": {"Statement": [{"Effect": effect}]}});
        for success in [
            json!({"statusCode": 201}),
            policy("Allow"),
            json!({"batchItemFailures": []}),
        ] {
            assert!(is_success(&success), "{success}");
        }
        for failure in [
            json!({"statusCode": 403}),
            policy("Deny"),
            json!({"batchItemFailures": [{"itemIdentifier": "1"}]}),
            json!({}),
        ] {
            assert!(!is_success(&failure), "{failure}");
        }
    }
}
