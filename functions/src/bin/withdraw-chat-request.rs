//! `PUT /chats/{chatId}/withdraw`: the requester withdraws a chat request.

use std::process::ExitCode;

use chat_shared::http::{ChatView, Response, serve};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    serve(async |request| {
        let chat = request
            .store()
            .withdraw_chat(request.caller(), request.chat_id()?)
            .await?;
        Response::ok(&ChatView::new(&chat, request.caller()))
    })
    .await
}
