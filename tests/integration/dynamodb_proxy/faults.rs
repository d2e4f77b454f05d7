//! Faults that the proxy injects: what happens to one operation on its way to DynamoDB.

use std::time::Duration;

use serde_json::{Value, json};

use super::ItemKey;

/// A fault for some operations.
#[derive(Clone, Debug)]
pub struct Fault {
    operations: Operations,
    pub(super) effect: FaultEffect,
}

/// The operations that a fault is for.
#[derive(Clone, Debug)]
enum Operations {
    All,
    /// Transactions and changes of a single item.
    Writes,
    /// The operations with this name.
    Named(&'static str),
    /// The operations that name this partition key, whatever they do with it.
    OnPartition(String),
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
    /// Responds that a transaction in progress has locked the item. The table never sees the operation.
    Conflict,
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
    /// Applies a transaction, but some of its items become readable later than the others. Until then, other
    /// writes of these items are in conflict.
    TornRead { late: LateItems, until: Until },
    /// Reads only some of the keys of a `BatchGetItem`, and returns the others as unprocessed. The seed decides
    /// which ones.
    Unprocessed { seed: u64 },
    /// Applies the operation. If it is a transaction whose conditions fail, the response reports only the last
    /// of them: DynamoDB does not promise to report all.
    ReportOneFailure,
    /// Answers a query on an index as if the index had not followed the latest changes yet. The seed
    /// decides which changes the query misses. Only the fault plan injects this, because the proxy
    /// remembers changes only while the plan says so.
    IndexLag { seed: u64 },
}

/// Items of a transaction that become readable later than its other items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LateItems {
    /// The messages.
    Messages,
    /// The numbered changes of a chat.
    Changes,
    MessagesAndChanges,
    /// The previous contents of messages.
    PreviousContents,
    /// All items of a chat except its state.
    AllButState,
    /// The state of a chat.
    State,
}

impl LateItems {
    pub fn contains(self, (pk, sk): &ItemKey) -> bool {
        match self {
            Self::Messages => sk.starts_with("MSG#"),
            Self::Changes => sk.starts_with("CHG#"),
            Self::MessagesAndChanges => sk.starts_with("MSG#") || sk.starts_with("CHG#"),
            Self::PreviousContents => sk.starts_with("HIST#"),
            Self::AllButState => pk.starts_with("CHAT#") && sk != "STATE",
            Self::State => sk == "STATE",
        }
    }
}

/// How long something lasts.
#[derive(Clone, Copy, Debug)]
pub enum Until {
    Elapsed(Duration),
    /// Until the test releases it.
    Released,
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
        let operations = Operations::Named(operation);
        Self { operations, effect }
    }

    /// A fault for every operation.
    pub fn on_all(effect: FaultEffect) -> Self {
        let operations = Operations::All;
        Self { operations, effect }
    }

    /// A fault for every operation that changes items.
    pub fn on_writes(effect: FaultEffect) -> Self {
        let operations = Operations::Writes;
        Self { operations, effect }
    }

    /// A fault for every operation on a partition.
    pub fn on_partition(pk: &str, effect: FaultEffect) -> Self {
        let operations = Operations::OnPartition(pk.to_owned());
        Self { operations, effect }
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

    pub(super) fn applies_to(&self, operation: &str, request: &Value) -> bool {
        match &self.operations {
            Operations::All => true,
            Operations::Writes => is_write(operation),
            Operations::Named(name) => *name == operation,
            Operations::OnPartition(pk) => contains_text(request, pk),
        }
    }
}

/// Whether a request contains this text as a value, such as the key of an item or of a query.
fn contains_text(request: &Value, text: &str) -> bool {
    match request {
        Value::String(value) => value == text,
        Value::Array(values) => values.iter().any(|value| contains_text(value, text)),
        Value::Object(members) => members.values().any(|value| contains_text(value, text)),
        _ => false,
    }
}

/// Whether an operation changes items.
pub fn is_write(operation: &str) -> bool {
    matches!(
        operation,
        "TransactWriteItems" | "UpdateItem" | "PutItem" | "DeleteItem"
    )
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

/// Removes all failed conditions except the last one from the response to a cancelled transaction.
pub(super) fn report_one_failure(body: &mut Value) {
    let reasons = body["CancellationReasons"].as_array_mut();
    let reasons = reasons.into_iter().flatten();
    let failed = reasons.filter(|reason| reason["Code"] == "ConditionalCheckFailed");
    for reason in failed.rev().skip(1) {
        *reason = json!({"Code": "None"});
    }
}
