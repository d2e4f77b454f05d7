//! `GET /chats/rejected`: the requests that were declined, sent by the caller or received.

use std::process::ExitCode;

use chat_shared::http::{Reply, serve};
use chat_shared::store::List;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    serve(async |call| {
        let list = List::Declined(call.direction()?);
        let (from, limit) = call.chat_page(list)?;
        let page = call
            .store()
            .list_chats(call.caller(), list, from, limit)
            .await?;
        Reply::chats(&page, call.caller(), list)
    })
    .await
}
