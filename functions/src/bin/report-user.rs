//! `POST /reports`: the caller reports a user or a message.

use std::process::ExitCode;

use chat_shared::http::{ReportBody, Response, serve_with_connections};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    // The chat and the message are read at the same time.
    serve_with_connections(2, async |request| {
        let report = request.body::<ReportBody>()?.report(request.caller())?;
        let outcome = request.store().report_user(&report).await?;
        Response::reported(&outcome)
    })
    .await
}
