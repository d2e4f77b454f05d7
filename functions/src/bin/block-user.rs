//! `PUT /blocks/{userId}`: the caller blocks a user.

use std::process::ExitCode;

use chat_shared::http::{BlockView, Response, serve};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    serve(async |request| {
        let pair = request.pair()?;
        let blocked_at = request.store().block_user(request.caller(), pair).await?;
        Response::ok(&BlockView::new(pair.peer_of(request.caller()), blocked_at))
    })
    .await
}
