//! `PUT /chats/{chatId}/messages/read`: marks all messages of a chat as read, or all up to a `seq`.

use std::process::ExitCode;

use chat_shared::http::{MarkMessagesReadBody, MarkedAsReadView, Response, serve_with_connections};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    // With a `seq`, the messages after it and the latest changes are read at the same time.
    serve_with_connections(2, async |request| {
        let body = request.optional_body::<MarkMessagesReadBody>()?;
        let up_to = body.unwrap_or_default().up_to();
        request
            .store()
            .mark_messages_read(request.caller(), request.chat_id()?, up_to)
            .await?;
        Response::ok(&MarkedAsReadView::new(up_to))
    })
    .await
}
