//! `POST /chats/{chatId}/messages`: sends a message to the other member.

use std::process::ExitCode;

use chat_shared::http::{Reply, SendMessageBody, serve};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    serve(async |call| {
        let content = call.body::<SendMessageBody>()?.content()?;
        let key = call.idempotency_key()?;
        let id = call.chat_id()?;
        let sent = call
            .store()
            .send_message(call.caller(), id, content, key.as_ref())
            .await?;
        Reply::sent(&sent)
    })
    .await
}
