//! `GET /totals`: the totals of the caller.

use std::process::ExitCode;

use chat_shared::http::{Response, TotalsView, serve};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    serve(async |request| {
        let totals = request.store().totals(request.caller()).await?;
        Response::ok(&TotalsView::from(totals))
    })
    .await
}
