//! `DELETE /chats/{chatId}/messages/{seq}`: the sender deletes a message.

use std::process::ExitCode;

use chat_shared::http::{Response, serve_with_connections};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    // The chat and the message are read at the same time.
    serve_with_connections(2, async |request| {
        let (id, seq) = (request.chat_id()?, request.seq());
        let outcome = request
            .store()
            .delete_message(request.caller(), id, seq)
            .await?;
        Response::message(&outcome)
    })
    .await
}
