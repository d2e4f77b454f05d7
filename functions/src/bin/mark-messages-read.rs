//! `PUT /chats/{chatId}/messages/read`: marks all messages of a chat as read.

use std::process::ExitCode;

use chat_shared::http::{MarkedAsReadView, Response, serve};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    serve(async |request| {
        request
            .store()
            .mark_messages_read(request.caller(), request.chat_id()?)
            .await?;
        Response::ok(&MarkedAsReadView::ALL)
    })
    .await
}
