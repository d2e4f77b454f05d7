//! Authorizer of `$connect`: checks the origin, the protocol and the access token of a handshake.

use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    chat_shared::realtime::authorize_connections().await
}
