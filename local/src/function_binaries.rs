//! Builds the functions' executables with cargo.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use cargo_metadata::Message;
use chat_shared::http::ENDPOINTS;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
};

use crate::Error;

/// The functions of the WebSocket API and of the table's stream, which serve no endpoint of the HTTP API.
pub(crate) const REALTIME_FUNCTIONS: [&str; 5] = [
    "authorize-connection",
    "open-connection",
    "close-connection",
    "receive-frame",
    "push-events",
];

/// Builds all functions of the workspace and returns the folder that contains them. Cargo prints its
/// progress and its diagnostics to stderr.
///
/// # Errors
/// When cargo cannot be started, or a function does not compile.
pub async fn build(workspace: &Path, release: bool) -> Result<PathBuf, Error> {
    let mut arguments = Vec::new();
    if release {
        // As they are deployed: with only the features that the functions need.
        arguments.extend(["--release", "--package", "chat-functions", "--bins"]);
    } else {
        // Without `--package`, cargo selects the features of dependencies for the whole workspace, as
        // `cargo run` does. So it does not compile the AWS SDK a second time with other features.
        let binaries = ENDPOINTS.iter().map(|endpoint| endpoint.name);
        let binaries = binaries.chain(REALTIME_FUNCTIONS);
        arguments.extend(binaries.flat_map(|binary| ["--bin", binary]));
    }
    let executables = executables(workspace, &arguments).await?;
    let folder = executables
        .first()
        .and_then(|executable| executable.parent());
    folder.map(Path::to_owned).ok_or_else(build_failed)
}

/// Runs `cargo build` with these arguments in a workspace and returns the executables.
///
/// # Errors
/// When cargo cannot be started, or something does not compile.
pub async fn executables(workspace: &Path, arguments: &[&str]) -> Result<Vec<PathBuf>, Error> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(&cargo);
    command
        .arg("build")
        .args(arguments)
        // The messages go to stdout as JSON, except the compiler's diagnostics, which cargo renders
        // to stderr.
        .arg("--message-format=json-render-diagnostics")
        .current_dir(workspace)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    // `cargo run` sets variables that describe this program's package. Build scripts that watch them
    // would run again, and everything that depends on them would be rebuilt, each time that cargo is
    // started in another way.
    let variables = std::env::vars_os().map(|(name, _)| name);
    for name in variables.filter(|name| name.to_str().is_some_and(describes_a_package)) {
        command.env_remove(name);
    }
    let mut child = command
        .spawn()
        .map_err(|error| Error::new(format!("cannot start {}: {error}", cargo.display())))?;
    let mut executables = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        let mut lines = BufReader::new(stdout).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            if let Ok(Message::CompilerArtifact(artifact)) = serde_json::from_str(&line) {
                executables.extend(artifact.executable.map(PathBuf::from));
            }
        }
    }
    let succeeded = child.wait().await.is_ok_and(|status| status.success());
    if succeeded {
        Ok(executables)
    } else {
        Err(build_failed())
    }
}

fn describes_a_package(variable: &str) -> bool {
    let mut prefixes = ["CARGO_PKG_", "CARGO_MANIFEST_"].into_iter();
    prefixes.any(|prefix| variable.starts_with(prefix))
}

fn build_failed() -> Error {
    Error::new("the functions do not compile; fix the errors that cargo reports above, then retry")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::template::{Template, default_path};

    #[test]
    fn each_function_of_the_template_is_built() {
        let template = Template::read(&default_path()).unwrap();
        let functions = template.functions.iter();
        let expected: BTreeSet<_> = functions.map(|function| &*function.binary).collect();
        let endpoints = ENDPOINTS.iter().map(|endpoint| endpoint.name);
        let built: BTreeSet<_> = endpoints.chain(REALTIME_FUNCTIONS).collect();
        assert_eq!(built, expected);
    }
}
