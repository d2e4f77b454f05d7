//! `POST /chats`: sends a chat request to a user.

use std::process::ExitCode;

use chat_shared::http::{ChatView, Response, SendChatRequestBody, serve};
use chat_shared::store::RequestOutcome;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    serve(async |request| {
        let body = request.body::<SendChatRequestBody>()?;
        let id = body.pair(request.caller())?;
        match request.store().request_chat(request.caller(), id).await? {
            RequestOutcome::Created(chat) => {
                Response::created(&ChatView::new(&chat, request.caller()))
            }
            RequestOutcome::Existing(chat) => Response::ok(&ChatView::new(&chat, request.caller())),
        }
    })
    .await
}
