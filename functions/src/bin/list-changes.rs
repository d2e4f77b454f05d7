//! `GET /chats/{chatId}/changes`: messages that were changed after they were sent, in the order of the changes.

use std::process::ExitCode;

use chat_shared::http::{Response, serve};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    serve(async |request| {
        let (start, limit) = request.changes_page()?;
        let page = request
            .store()
            .list_changes(request.chat_id()?, start, limit)
            .await?;
        Response::changes(&page, request.caller())
    })
    .await
}
