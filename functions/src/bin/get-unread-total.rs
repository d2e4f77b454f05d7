//! `GET /totals/unread`: the number of unread messages of the caller.

use std::process::ExitCode;

use chat_shared::http::{Response, UnreadTotalView, serve};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    serve(async |request| {
        let totals = request.store().totals(request.caller()).await?;
        Response::ok(&UnreadTotalView::from(totals))
    })
    .await
}
