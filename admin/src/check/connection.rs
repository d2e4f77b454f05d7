//! Reads the connections of a user. Nothing else in the table depends on them, and they expire after about two hours,
//! so the only rule is that the functions can read them. No I/O.

use chat_shared::{
    domain::Timestamp,
    store::items::{ConnectionItem, Item, ItemKind},
};

use super::{
    attributes::{Attributes, EXPIRES_AT},
    violation::Violation,
};
use crate::table::item_key;

/// Checks a connection. Another kind of item has no violations.
pub(super) fn check_connection(item: Item) -> Vec<Violation> {
    let key = item_key(&item);
    if ItemKind::of(&key) != Some(ItemKind::Connection) {
        return Vec::new();
    }
    let mut attributes = Attributes::new(&key, &item);
    attributes.check_kind(ItemKind::Connection);
    if key.sk == ConnectionItem::SK_PREFIX {
        attributes.report_item("key", "the sort key contains no connection id");
    }
    for attribute in ["connectedAt", "nextAt"] {
        attributes.number(attribute, 0..=Timestamp::MAX.millis());
    }
    for attribute in ["tokenExpiresAt", EXPIRES_AT] {
        attributes.time_in_seconds(attribute);
    }
    let is_valid = attributes.is_valid();
    let mut violations = attributes.into_violations();
    let connection = ConnectionItem::read(item).and_then(ConnectionItem::into_connection);
    if is_valid && connection.is_err() {
        violations.push(Violation::unreadable(key));
    }
    violations
}
