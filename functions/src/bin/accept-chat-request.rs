//! `PUT /chats/{chatId}/accept`: the recipient accepts a chat request.

use std::process::ExitCode;

use chat_shared::http::{ChatView, Reply, serve};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    serve(async |call| {
        let chat = call
            .store()
            .accept_chat(call.caller(), call.chat_id()?)
            .await?;
        Reply::ok(&ChatView::new(&chat, call.caller()))
    })
    .await
}
