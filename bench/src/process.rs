//! A function's process: started, called, and looked at through `/proc`.

use std::{
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{time::ClockId, unistd::Pid};
use serde_json::Value;

use crate::{Result, runtime_api::RuntimeApi};

/// A process that waits for events. It is killed when it goes out of scope.
pub struct Process<'a> {
    api: &'a mut RuntimeApi,
    child: Child,
    /// From before the process was made until it asked for its first event.
    pub start: Duration,
}

impl<'a> Process<'a> {
    /// Starts a function, and waits until it is ready. What it prints goes nowhere: whoever reads it
    /// would take time from the two.
    pub fn start(api: &'a mut RuntimeApi, mut command: Command) -> Result<Self> {
        api.reset();
        command.env("AWS_LAMBDA_RUNTIME_API", api.address());
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let began = Instant::now();
        let child = command.spawn()?;
        let mut process = Self {
            api,
            child,
            start: Duration::ZERO,
        };
        process.start = process.api.ready()? - began;
        Ok(process)
    }

    /// How long the answer to an event took, which must be a success. When this returns, the process
    /// is ready again.
    pub fn call(&mut self, event: &str) -> Result<Duration> {
        let (took, answer) = self.api.call(event)?;
        let status = serde_json::from_slice::<Value>(&answer)?["statusCode"].as_u64();
        if !status.is_some_and(|status| (200..300).contains(&status)) {
            return Err(format!("not a success: {}", String::from_utf8_lossy(&answer)).into());
        }
        self.api.ready()?;
        Ok(took)
    }

    /// Processor time of all of its threads so far, also of those that have ended.
    pub fn processor_time(&self) -> Result<Duration> {
        processor_time(self.child.id())
    }

    /// The most memory it has had, in bytes.
    pub fn peak_memory(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let mut lines = status.lines();
        let peak = lines.find_map(|line| line.strip_prefix("VmHWM:")?.strip_suffix("kB"));
        let kilobytes: u64 = peak
            .ok_or("the system does not tell VmHWM")?
            .trim()
            .parse()?;
        Ok(kilobytes * 1024)
    }
}

impl Drop for Process<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Processor time of all threads of a process so far, also of those that have ended.
pub fn processor_time(process: u32) -> Result<Duration> {
    let process = Pid::from_raw(i32::try_from(process)?);
    Ok(ClockId::pid_cpu_clock_id(process)?.now()?.into())
}
