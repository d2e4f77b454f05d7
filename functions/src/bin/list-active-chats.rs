//! `GET /chats`: the caller's active chats, latest activity first.

use std::process::ExitCode;

use chat_shared::http::{Reply, serve_over};
use chat_shared::store::List;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    // Asked and been asked: two queries at once.
    serve_over(2, async |call| {
        let list = List::Active;
        let (from, limit) = call.chat_page(list)?;
        let page = call
            .store()
            .list_chats(call.caller(), list, from, limit)
            .await?;
        Reply::chats(&page, call.caller(), list)
    })
    .await
}
