//! Builds the functions' executables with cargo.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
};

use crate::Error;

/// Builds all functions of the workspace and returns the folder that holds them. Cargo shows its
/// progress and its errors on standard error.
///
/// # Errors
/// When cargo cannot be started, or a function does not build.
pub async fn build(workspace: &Path, release: bool) -> Result<PathBuf, Error> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(&cargo);
    command
        .args(["build", "--package", "chat-functions", "--bins"])
        .args(release.then_some("--release"))
        .arg("--message-format=json-render-diagnostics")
        .current_dir(workspace)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command
        .spawn()
        .map_err(|error| Error::new(format!("cannot start {}: {error}", cargo.display())))?;
    let mut folder = None;
    if let Some(stdout) = child.stdout.take() {
        let mut lines = BufReader::new(stdout).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let message: Value = serde_json::from_str(&line).unwrap_or_default();
            if let Some(executable) = message["executable"].as_str() {
                folder = Path::new(executable).parent().map(Path::to_owned);
            }
        }
    }
    let built = child.wait().await.is_ok_and(|status| status.success());
    folder.filter(|_| built).ok_or_else(|| {
        Error::new("the functions do not build; mend what cargo says above, then try again")
    })
}
