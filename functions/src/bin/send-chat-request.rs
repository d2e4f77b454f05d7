//! `POST /chats`: sends a chat request to a user.

use std::process::ExitCode;

use chat_shared::http::{ChatView, Response, SendChatRequestBody, serve};
use chat_shared::{Error, domain::ChatId, store::RequestOutcome};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    serve(async |request| {
        let recipient = request.body::<SendChatRequestBody>()?.user_id()?;
        let id = ChatId::between(request.caller(), recipient)
            .ok_or_else(|| Error::invalid("`userId` must not be your own user id"))?;
        match request.store().request_chat(request.caller(), id).await? {
            RequestOutcome::Created(chat) => {
                Response::created(&ChatView::new(&chat, request.caller()))
            }
            RequestOutcome::Existing(chat) => Response::ok(&ChatView::new(&chat, request.caller())),
        }
    })
    .await
}
