//! `POST /chats/{chatId}/messages`: sends a message.

use std::process::ExitCode;

use chat_shared::http::{Response, SendMessageBody, serve};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    serve(async |request| {
        let content = request.body::<SendMessageBody>()?.content()?;
        let key = request.idempotency_key()?;
        let id = request.chat_id()?;
        let outcome = request
            .store()
            .send_message(request.caller(), id, content, key.as_ref())
            .await?;
        Response::sent(&outcome)
    })
    .await
}
