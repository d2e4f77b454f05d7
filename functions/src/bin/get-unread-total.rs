//! `GET /totals/unread`: how many messages the caller has not read.

use std::process::ExitCode;

use chat_shared::http::{Reply, UnreadTotalView, serve};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    serve(async |call| {
        let totals = call.store().totals(call.caller()).await?;
        Reply::ok(&UnreadTotalView::from(totals))
    })
    .await
}
