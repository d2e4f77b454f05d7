//! Violations: what the check reports about an item, as one line of text.

use std::fmt;

use aws_sdk_dynamodb::types::AttributeValue;
use chat_shared::store::{items::ItemKey, number};

/// A violated invariant of one item, or a user whose counters could not be evaluated. `Display` is
/// one line: the item's key, the value that it has and the value that it should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub(super) key: ItemKey,
    pub(super) finding: Finding,
    /// Whether the check has repaired it.
    pub repaired: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// An attribute that is derived from other values has a wrong value. It can be repaired.
    Mismatch {
        attribute: &'static str,
        actual: Value,
        expected: Value,
        /// Attributes of the same item from which `expected` was computed. A repair is conditional
        /// on these values.
        based_on: Vec<(&'static str, Value)>,
    },
    /// The correct item cannot be derived from the rest of the table.
    Unrepairable(String),
    /// The check could not evaluate the item, for this reason. This is not a violation.
    Inconclusive(&'static str),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Number(i64),
    Text(String),
}

impl Violation {
    pub(super) fn new(key: ItemKey, finding: Finding) -> Self {
        Self {
            key,
            finding,
            repaired: false,
        }
    }

    pub(super) fn unrepairable(key: ItemKey, description: impl Into<String>) -> Self {
        Self::new(key, Finding::Unrepairable(description.into()))
    }

    /// An item that cannot be parsed. The line gives no details, because an item may contain text
    /// that users wrote.
    pub(super) fn unreadable(key: ItemKey) -> Self {
        Self::unrepairable(key, "cannot be read")
    }

    pub(super) fn inconclusive(key: ItemKey, reason: &'static str) -> Self {
        Self::new(key, Finding::Inconclusive(reason))
    }

    pub(super) fn is_inconclusive(&self) -> bool {
        matches!(self.finding, Finding::Inconclusive(_))
    }

    /// Whether two evaluations found the same violation. Live traffic may change a counter and the
    /// items that it counts between two evaluations, but the difference between them stays the same.
    pub(super) fn is_same_as(&self, other: &Self) -> bool {
        self.key == other.key && self.finding.identity() == other.finding.identity()
    }
}

impl Finding {
    /// The part that live traffic does not change: the kind of error and its size.
    fn identity(&self) -> (&str, i64) {
        match self {
            Self::Mismatch {
                attribute,
                actual: Value::Number(actual),
                expected: Value::Number(expected),
                ..
            } => (attribute, actual.wrapping_sub(*expected)),
            Self::Mismatch { attribute, .. } => (attribute, 0),
            Self::Unrepairable(description) => (description, 0),
            Self::Inconclusive(reason) => (reason, 0),
        }
    }
}

impl Value {
    pub(super) fn count(count: u64) -> Self {
        Self::Number(i64::try_from(count).unwrap_or(i64::MAX))
    }

    pub(super) fn to_attribute(&self) -> AttributeValue {
        match self {
            Self::Number(value) => number(*value),
            Self::Text(text) => AttributeValue::S(text.clone()),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key.pk)?;
        // A violation of a whole partition has no sort key.
        if !self.key.sk.is_empty() {
            write!(f, " {}", self.key.sk)?;
        }
        f.write_str(": ")?;
        match &self.finding {
            Finding::Mismatch {
                attribute,
                actual,
                expected,
                ..
            } => write!(f, "{attribute} is {actual}, should be {expected}")?,
            Finding::Unrepairable(description) => f.write_str(description)?,
            Finding::Inconclusive(reason) => write!(f, "inconclusive: {reason}")?,
        }
        if self.repaired {
            f.write_str(" (repaired)")?;
        }
        Ok(())
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(sk: &str) -> ItemKey {
        ItemKey {
            pk: "USER#42".to_owned(),
            sk: sk.to_owned(),
        }
    }

    fn unread(actual: i64, expected: i64) -> Violation {
        let finding = Finding::Mismatch {
            attribute: "unread",
            actual: Value::Number(actual),
            expected: Value::Number(expected),
            based_on: Vec::new(),
        };
        Violation::new(key("TOTALS#3"), finding)
    }

    #[test]
    fn a_violation_is_printed_with_its_key_and_both_values() {
        let mut violation = unread(5, 2);
        let line = "USER#42 TOTALS#3: unread is 5, should be 2";
        assert_eq!(violation.to_string(), line);
        violation.repaired = true;
        assert_eq!(violation.to_string(), format!("{line} (repaired)"));
    }

    #[test]
    fn two_mismatches_are_the_same_when_their_difference_is_the_same() {
        assert!(unread(5, 2).is_same_as(&unread(9, 6)));
        assert!(!unread(5, 2).is_same_as(&unread(5, 3)));
        let other_key = Violation {
            key: key("TOTALS#4"),
            ..unread(5, 2)
        };
        assert!(!unread(5, 2).is_same_as(&other_key));
    }
}
