//! Faults that the proxy injects: what happens to one operation on its way to DynamoDB.

use std::time::Duration;

use serde_json::{Value, json};

/// A fault for one kind of operation, or for every operation.
#[derive(Clone, Debug)]
pub struct Fault {
    operation: Option<&'static str>,
    pub(super) effect: FaultEffect,
}

/// What the proxy does with an operation instead of forwarding it.
#[derive(Clone, Debug)]
pub enum FaultEffect {
    /// Sends this response. The table never sees the operation.
    Respond(u16, Value),
    /// Never responds. The table never sees the operation.
    NeverRespond,
    /// Forwards the operation when the test releases it. If the fault plan makes overlapping
    /// transactions conflict, a held transaction keeps its items locked until then.
    Hold,
    /// Applies the operation, but responds with a server error.
    LoseResponse,
    /// Applies the operation, and delays the response this long.
    Delay(Duration),
    /// Closes the connection. The table never sees the operation.
    DropBefore,
    /// Applies the operation, and closes the connection without a response.
    DropAfter,
    /// Kills the calling process. The table never sees the operation.
    KillBefore,
    /// Applies the operation, and kills the calling process.
    KillAfter,
    /// Applies the operation, but hides the messages that it wrote from readers for this long.
    TornRead(Duration),
    /// Answers a query on an index as if the index had not followed the latest changes yet. The seed
    /// decides which changes the query misses. Only the fault plan injects this, because the proxy
    /// remembers changes only while the plan says so.
    IndexLag { seed: u64 },
}

impl FaultEffect {
    /// A transaction cancelled for reasons with these codes.
    pub fn cancelled<'a>(codes: impl IntoIterator<Item = &'a str>) -> Self {
        let reasons = codes.into_iter().map(|code| json!({"Code": code}));
        Self::Respond(400, cancellation(reasons.collect()))
    }
}

impl Fault {
    /// A fault for one kind of operation.
    pub fn new(operation: &'static str, effect: FaultEffect) -> Self {
        let operation = Some(operation);
        Self { operation, effect }
    }

    /// A fault for every operation.
    pub fn on_all(effect: FaultEffect) -> Self {
        let operation = None;
        Self { operation, effect }
    }

    /// Any response.
    pub fn response(operation: &'static str, status: u16, body: Value) -> Self {
        Self::new(operation, FaultEffect::Respond(status, body))
    }

    /// A DynamoDB error.
    pub fn error(operation: &'static str, status: u16, name: &str) -> Self {
        Self::response(operation, status, error_body(name))
    }

    /// A transaction cancelled for reasons with these codes.
    pub fn cancelled(codes: &[&str]) -> Self {
        let effect = FaultEffect::cancelled(codes.iter().copied());
        Self::new("TransactWriteItems", effect)
    }

    /// A transaction cancelled for these reasons, which may contain more than their codes.
    pub fn cancelled_with_reasons(reasons: Value) -> Self {
        Self::response("TransactWriteItems", 400, cancellation(reasons))
    }

    pub(super) fn applies_to(&self, operation: &str) -> bool {
        self.operation.is_none_or(|name| name == operation)
    }
}

/// The body of a DynamoDB error.
pub fn error_body(name: &str) -> Value {
    json!({
        "__type": format!("com.amazonaws.dynamodb.v20120810#{name}"),
        "message": "an injected fault",
    })
}

/// The body of the error for a cancelled transaction.
pub(super) fn cancellation(reasons: Value) -> Value {
    let mut body = error_body("TransactionCanceledException");
    body["CancellationReasons"] = reasons;
    body
}
