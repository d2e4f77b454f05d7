//! `GET /totals`: how much waits for the caller.

use std::process::ExitCode;

use chat_shared::http::{Reply, TotalsView, serve};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    serve(async |call| {
        let totals = call.store().totals(call.caller()).await?;
        Reply::ok(&TotalsView::from(totals))
    })
    .await
}
