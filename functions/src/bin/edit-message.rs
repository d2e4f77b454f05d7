//! `PATCH /chats/{chatId}/messages/{seq}`: the sender edits a message.

use std::process::ExitCode;

use chat_shared::http::{EditMessageBody, Response, serve_with_connections};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    // The chat and the message are read at the same time.
    serve_with_connections(2, async |request| {
        let change = request.body::<EditMessageBody>()?.change()?;
        let (id, seq) = (request.chat_id()?, request.seq());
        let outcome = request
            .store()
            .edit_message(request.caller(), id, seq, &change)
            .await?;
        Response::message(&outcome)
    })
    .await
}
