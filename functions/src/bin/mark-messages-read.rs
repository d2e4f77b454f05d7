//! `PUT /chats/{chatId}/messages/read`: the caller has read all messages of the chat.

use std::process::ExitCode;

use chat_shared::http::{MarkedView, Reply, serve};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    serve(async |call| {
        call.store()
            .mark_messages_read(call.caller(), call.chat_id()?)
            .await?;
        Reply::ok(&MarkedView::ALL)
    })
    .await
}
