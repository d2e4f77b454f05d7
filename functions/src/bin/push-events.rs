//! Stream of the table: sends the events of changes to the connections of the members.

use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    chat_shared::realtime::push_events().await
}
