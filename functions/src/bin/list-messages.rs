//! `GET /chats/{chatId}/messages`: the messages of a chat, newest first, or oldest first with `after`.

use std::process::ExitCode;

use chat_shared::http::{Response, serve_with_connections};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    // With `before` or `after`, the chat and its messages are read at the same time.
    serve_with_connections(2, async |request| {
        let (start, limit) = request.message_page()?;
        let page = request
            .store()
            .list_messages(request.chat_id()?, start, limit)
            .await?;
        Response::messages(&page, request.caller())
    })
    .await
}
