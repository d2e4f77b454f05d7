//! `GET /chats/{chatId}`: one chat of the caller, in any status.

use std::process::ExitCode;

use chat_shared::http::{ChatView, Response, serve};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    serve(async |request| {
        let chat = request.store().get_chat(request.chat_id()?).await?;
        Response::ok(&ChatView::new(&chat, request.caller()))
    })
    .await
}
