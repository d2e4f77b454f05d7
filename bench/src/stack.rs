//! Starts the local stack with release binaries.

use std::{collections::BTreeMap, sync::Arc};

use chat_local::{
    Database, Stack, StackOptions,
    function_binaries::executables,
    realtime::RealtimeOptions,
    template::{default_path, workspace_root},
};

use crate::{Result, dataset::SECRET};

/// Builds these functions as they are deployed, and starts a stack with a table in memory. A request to
/// any other function fails, unless the function was built before.
pub async fn start_stack(functions: &[&str], realtime: RealtimeOptions) -> Result<Stack> {
    let mut arguments = vec!["--release", "--locked", "--package", "chat-functions"];
    arguments.extend(functions.iter().flat_map(|&name| ["--bin", name]));
    let binaries = executables(&workspace_root(), &arguments).await?;
    let folder = binaries.first().and_then(|binary| binary.parent());
    let options = StackOptions {
        template: default_path(),
        binaries: folder.ok_or("cargo built no functions")?.to_owned(),
        port: 0,
        database: Database::Memory,
        environment: BTreeMap::from([
            ("JWT_SECRET".to_owned(), SECRET.to_owned()),
            ("LOG_LEVEL".to_owned(), "WARN".to_owned()),
            ("STACK_NAME".to_owned(), String::new()),
        ]),
        allowed_origins: Vec::new(),
        realtime,
        log: Arc::new(|_| {}),
    };
    Ok(Stack::start(options).await?)
}
