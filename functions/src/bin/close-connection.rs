//! `$disconnect`: deletes a connection.

use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    chat_shared::realtime::close_connections().await
}
