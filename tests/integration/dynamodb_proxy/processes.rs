//! Finds and kills the process that made a connection to the proxy.
//!
//! This reads Linux's `/proc`. Tests that depend on it are ignored on other systems.

use std::path::Path;

use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// Whether this system can tell which process made a connection.
pub const CAN_FIND_CALLERS: bool = cfg!(target_os = "linux");

/// The ports of a connection on this machine.
#[derive(Clone, Copy)]
pub struct Ports {
    pub caller: u16,
    pub proxy: u16,
}

/// Kills the process that made a connection.
pub fn kill_calling_process(ports: Ports) {
    // Another operation of the same process may have killed it already.
    if let Some(process) = calling_process(ports) {
        match kill(process, Signal::SIGKILL) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(error) => panic!("cannot kill the calling process {process}: {error}"),
        }
    }
}

/// The file name of the calling process's executable; `None` if the process is gone.
pub fn calling_executable(ports: Ports) -> Option<String> {
    let process = calling_process(ports)?;
    let executable = std::fs::read_link(format!("/proc/{process}/exe")).ok()?;
    Some(executable.file_name()?.to_str()?.to_owned())
}

/// The process that made a connection; `None` if it is gone.
///
/// Linux lists each connection with the number of its socket, and the sockets of each process. The
/// caller's port alone is not enough, because one port can have connections to several others.
fn calling_process(ports: Ports) -> Option<Pid> {
    assert!(
        Path::new("/proc/net/tcp").exists(),
        "finding the calling process needs Linux's /proc: ignore this test on other systems with \
         #[cfg_attr(not(target_os = \"linux\"), ignore = \"needs /proc to find the calling process\")]"
    );
    let connections = std::fs::read_to_string("/proc/net/tcp").ok()?;
    let [caller, proxy] = [ports.caller, ports.proxy].map(|port| format!("0100007F:{port:04X}"));
    let mut lines = connections.lines().map(str::split_whitespace);
    let socket = lines.find_map(|mut fields| {
        let matches = fields.nth(1) == Some(&caller) && fields.next() == Some(&proxy);
        fields.nth(6).filter(|inode| matches && *inode != "0")
    })?;
    let socket = format!("socket:[{socket}]");
    let entries = std::fs::read_dir("/proc").ok()?.flatten();
    let mut processes = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let owner = processes.find(|process: &i32| {
        let files = std::fs::read_dir(format!("/proc/{process}/fd"));
        let mut files = files.into_iter().flatten().flatten();
        files.any(|file| std::fs::read_link(file.path()).is_ok_and(|path| path == *socket))
    })?;
    Some(Pid::from_raw(owner))
}
