//! `POST /chats`: asks another user for a chat.

use std::process::ExitCode;

use chat_shared::http::{ChatView, Reply, SendChatRequestBody, serve};
use chat_shared::{Error, domain::ChatId, store::Requested};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    serve(async |call| {
        let recipient = call.body::<SendChatRequestBody>()?.user_id()?;
        let id = ChatId::between(call.caller(), recipient)
            .ok_or_else(|| Error::invalid("`userId` must be another user than you"))?;
        match call.store().request_chat(call.caller(), id).await? {
            Requested::New(chat) => Reply::created(&ChatView::new(&chat, call.caller())),
            Requested::Existing(chat) => Reply::ok(&ChatView::new(&chat, call.caller())),
        }
    })
    .await
}
