//! `DELETE /blocks/{userId}`: the caller ends the block of a user.

use std::process::ExitCode;

use chat_shared::http::{Response, UnblockedView, serve};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    serve(async |request| {
        request
            .store()
            .unblock_user(request.caller(), request.pair()?)
            .await?;
        Response::ok(&UnblockedView::UNBLOCKED)
    })
    .await
}
