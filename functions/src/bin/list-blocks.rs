//! `GET /blocks`: the users that the caller has blocked, latest activity in the chat first.

use std::process::ExitCode;

use chat_shared::http::{Response, serve_with_connections};
use chat_shared::store::ChatList;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    // Two queries run in parallel: chats as requester and chats as recipient.
    serve_with_connections(2, async |request| {
        let list = ChatList::Blocked;
        let (start, limit) = request.chat_page(list)?;
        let page = request
            .store()
            .list_chats(request.caller(), list, start, limit)
            .await?;
        Response::blocks(&page, request.caller())
    })
    .await
}
