//! `PUT /chats/{chatId}/messages/read`: marks all messages of a chat as read, or all up to a `seq`.

use std::process::ExitCode;

use chat_shared::http::{MarkMessagesReadBody, MarkedAsReadView, Response, serve};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    serve(async |request| {
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
