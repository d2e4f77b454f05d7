//! IAM permissions that an operation requires.

use std::collections::BTreeSet;

use chat_local::template::{Permission, Target};
use serde_json::Value;

/// The permissions that IAM checks for an operation. For a transaction these are the actions of its
/// parts: there is no permission for `TransactWriteItems` itself.
pub fn required_permissions(operation: &str, request: &Value) -> BTreeSet<Permission> {
    let permission = |action: &str, index: Option<&str>| Permission {
        action: format!("dynamodb:{action}"),
        target: index.map_or(Target::Table, |index| Target::Index(index.to_owned())),
    };
    let Some(parts) = request["TransactItems"].as_array() else {
        return BTreeSet::from([permission(operation, request["IndexName"].as_str())]);
    };
    let for_part = |part: &Value| {
        let kind = part.as_object().and_then(|part| part.keys().next());
        match kind.expect("a part of a transaction has a kind").as_str() {
            "ConditionCheck" => permission("ConditionCheckItem", None),
            kind => permission(&format!("{kind}Item"), None),
        }
    };
    parts.iter().map(for_part).collect()
}
