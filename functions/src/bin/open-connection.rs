//! `$connect`: stores a connection, and closes the oldest one of a user who has too many.

use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    chat_shared::realtime::open_connections().await
}
