//! What the check can say about an item from its key and its type alone. No I/O.
//!
//! A table may contain items of a newer version of the service. Their keys look like no key of this
//! version, and their `type` is a name that this version does not know. The check counts them and
//! leaves them alone. Everything else that it cannot explain is a violation.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::types::AttributeValue;
use chat_shared::store::items::{Item, ItemKind, Partition};

use super::violation::Violation;
use crate::{table::item_key, text::shorten};

/// The maximum number of unknown types that are counted separately.
const MAX_UNKNOWN_TYPES: usize = 20;
/// Counts the items of all further unknown types.
const OTHER_TYPES: &str = "other types";

/// An item of the table, by its key and its type.
pub(super) enum ScannedItem {
    /// The item is evaluated together with its partition.
    Known(Partition, ItemKind),
    /// An item of another version of the service. Contains its type.
    UnknownType(String),
    /// An item that belongs to no partition, or that no version of the service has written.
    Damaged(Box<Violation>),
}

impl ScannedItem {
    pub(super) fn new(item: &Item) -> Self {
        let key = item_key(item);
        let partition = Partition::parse(&key.pk);
        let kind = ItemKind::of(&key);
        if let (Some(partition), Some(kind)) = (partition, kind) {
            return Self::Known(partition, kind);
        }
        if kind.is_none()
            && let Some(AttributeValue::S(name)) = item.get("type")
            && !name.is_empty()
            && !ItemKind::ALL.iter().any(|kind| kind.entity_type() == name)
        {
            return Self::UnknownType(shorten(name));
        }
        let problem = match partition {
            Some(_) => "is no item of this service",
            None => "belongs to no chat or user",
        };
        Self::Damaged(Box::new(Violation::unrepairable(key, "key", problem)))
    }
}

/// Counts an item of an unknown type.
pub(super) fn count_unknown_type(counts: &mut BTreeMap<String, u64>, name: String) {
    let is_counted = counts.len() < MAX_UNKNOWN_TYPES || counts.contains_key(&name);
    let name = if is_counted {
        name
    } else {
        OTHER_TYPES.to_owned()
    };
    let count = counts.entry(name).or_default();
    *count = count.saturating_add(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> AttributeValue {
        AttributeValue::S(text.to_owned())
    }

    /// What the scan says about an item with this key and type: nothing, `note` or a line.
    fn scanned(pk: &str, sk: &str, entity_type: Option<&str>) -> String {
        let mut item = Item::from([("pk".to_owned(), text(pk)), ("sk".to_owned(), text(sk))]);
        item.extend(entity_type.map(|name| ("type".to_owned(), text(name))));
        match ScannedItem::new(&item) {
            ScannedItem::Known(..) => String::new(),
            ScannedItem::UnknownType(name) => format!("note {name}"),
            ScannedItem::Damaged(violation) => violation.to_string(),
        }
    }

    #[test]
    fn an_item_of_a_newer_version_is_a_note_and_a_damaged_key_is_a_violation() {
        for (pk, sk, entity_type, expected) in [
            ("CHAT#17-42", "STATE", Some("Chat"), ""),
            ("CHAT#17-42", "MSG#x", None, ""),
            ("CHAT#17-42", "CHG#x", Some("Change"), ""),
            ("CHAT#17-42", "HIST#9", None, ""),
            ("CHAT#17-42", "FLAG#17#0", Some("Report"), ""),
            ("USER#42", "TOTALS#9", Some("Totals"), ""),
            ("USER#42", "CONN#L0SM9cOFIAMCHQ=", Some("Connection"), ""),
            // A newer version.
            ("CHAT#17-42", "DRAFT#17", Some("Draft"), "note Draft"),
            ("USER#42", "DEVICE#1", Some("Device"), "note Device"),
            ("GROUP#1", "STATE", Some("Group"), "note Group"),
            // No version has written these.
            (
                "CHAT#17-42",
                "DRAFT#17",
                None,
                "CHAT#17-42 DRAFT#17: is no item of this service",
            ),
            (
                "CHAT#17-42",
                "CHANGE#1",
                Some("Change"),
                "CHAT#17-42 CHANGE#1: is no item of this service",
            ),
            (
                "USER#42",
                "STATE",
                Some("Chat"),
                "USER#42 STATE: is no item of this service",
            ),
            (
                "CHAT#42-17",
                "STATE",
                Some("Group"),
                "CHAT#42-17 STATE: belongs to no chat or user",
            ),
            (
                "OTHER",
                "X",
                Some("Message"),
                "OTHER X: belongs to no chat or user",
            ),
        ] {
            assert_eq!(scanned(pk, sk, entity_type), expected);
        }
        let damaged = ScannedItem::new(&Item::new());
        assert!(matches!(damaged, ScannedItem::Damaged(_)));
    }

    #[test]
    fn the_number_of_unknown_types_that_are_named_is_limited() {
        let mut counts = BTreeMap::new();
        for name in 0..100 {
            count_unknown_type(&mut counts, format!("Type{}", name % 50));
        }
        assert_eq!(counts.len(), MAX_UNKNOWN_TYPES + 1);
        assert_eq!(counts["Type3"], 2);
        assert_eq!(counts[OTHER_TYPES], 60);
    }
}
