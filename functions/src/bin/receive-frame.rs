//! `$default`: handles the frames of clients.

use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    chat_shared::realtime::receive_frames().await
}
