//! `GET /chats/pending`: open chat requests that the caller has sent or received.

use std::process::ExitCode;

use chat_shared::http::{Response, serve};
use chat_shared::store::ChatList;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    serve(async |request| {
        let list = ChatList::Pending(request.direction()?);
        let (start, limit) = request.chat_page(list)?;
        let page = request
            .store()
            .list_chats(request.caller(), list, start, limit)
            .await?;
        Response::chats(&page, request.caller(), list)
    })
    .await
}
