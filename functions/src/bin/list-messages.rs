//! `GET /chats/{chatId}/messages`: a chat's messages, newest first, or oldest first with `after`.

use std::process::ExitCode;

use chat_shared::http::{Reply, serve};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    serve(async |call| {
        let (from, limit) = call.message_page()?;
        let page = call
            .store()
            .list_messages(call.chat_id()?, from, limit)
            .await?;
        Reply::messages(&page, call.caller())
    })
    .await
}
