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
    let mut arguments = vec!["--package", "chat-functions", "--bins"];
    arguments.extend(release.then_some("--release"));
    let executables = executables(workspace, &arguments).await?;
    let folder = executables.first().and_then(|it| it.parent());
    folder.map(Path::to_owned).ok_or_else(does_not_build)
}

/// What `cargo build` with these arguments makes in a workspace.
///
/// # Errors
/// When cargo cannot be started, or something does not build.
pub async fn executables(workspace: &Path, arguments: &[&str]) -> Result<Vec<PathBuf>, Error> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(&cargo);
    command
        .arg("build")
        .args(arguments)
        .arg("--message-format=json-render-diagnostics")
        .current_dir(workspace)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    // `cargo run` tells this program of its own package. Build scripts that watch these variables would
    // have all that follows from them built again, each time that somebody else starts cargo.
    let own = std::env::vars_os().map(|(name, _)| name);
    for name in own.filter(|name| name.to_str().is_some_and(is_of_a_package)) {
        command.env_remove(name);
    }
    let mut child = command
        .spawn()
        .map_err(|error| Error::new(format!("cannot start {}: {error}", cargo.display())))?;
    let mut executables = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        let mut lines = BufReader::new(stdout).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let message: Value = serde_json::from_str(&line).unwrap_or_default();
            executables.extend(message["executable"].as_str().map(PathBuf::from));
        }
    }
    let built = child.wait().await.is_ok_and(|status| status.success());
    if built {
        Ok(executables)
    } else {
        Err(does_not_build())
    }
}

fn is_of_a_package(variable: &str) -> bool {
    let prefixes = ["CARGO_PKG_", "CARGO_MANIFEST_"];
    prefixes.iter().any(|it| variable.starts_with(it))
}

fn does_not_build() -> Error {
    Error::new("the functions do not build; mend what cargo says above, then try again")
}
