//! Violations: what the check reports about an item, as one line of text.

use std::fmt;

use aws_sdk_dynamodb::types::AttributeValue;
use chat_shared::store::items::ItemKey;

use super::attributes::{StoredCount, type_name};
use crate::text::{OneLine, shorten};

/// A violated invariant of one item, or something that could not be evaluated. `Display` is one line:
/// the item's key, the value that it has and the value that it should have.
#[derive(Clone, Debug, PartialEq)]
pub struct Violation {
    pub(super) key: ItemKey,
    pub(super) finding: Finding,
    /// Whether the check has repaired it.
    pub repaired: bool,
    /// Why the repair failed, for example because the operator may not write to the table.
    pub repair_error: Option<String>,
}

/// Attributes of an item from which the expected value of another one was computed. A repair is conditional
/// on these values.
pub(super) type BasedOn = Vec<(&'static str, Value)>;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Finding {
    /// An attribute that is derived from other values has a wrong value. It can be repaired.
    Mismatch {
        attribute: &'static str,
        actual: Value,
        expected: Value,
        based_on: BasedOn,
    },
    /// The correct item cannot be derived from the rest of the table.
    Unrepairable {
        /// The attribute or the rule. Live traffic does not change it, but may change the numbers
        /// in the description.
        subject: String,
        description: String,
    },
    /// The check could not evaluate something, for this reason. This is not a violation.
    Inconclusive(String),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Number(i64),
    Text(String),
    Flag(bool),
    /// The item does not have the attribute, or must not have it.
    Missing,
    /// The attribute has another type or is not a whole number.
    Malformed(AttributeValue),
}

impl Violation {
    pub(super) fn new(key: ItemKey, finding: Finding) -> Self {
        Self {
            key,
            finding,
            repaired: false,
            repair_error: None,
        }
    }

    pub(super) fn unrepairable(
        key: ItemKey,
        subject: impl Into<String>,
        description: impl Into<String>,
    ) -> Self {
        let finding = Finding::Unrepairable {
            subject: subject.into(),
            description: description.into(),
        };
        Self::new(key, finding)
    }

    /// An item that the functions cannot read, although the check found nothing wrong with its
    /// attributes. The line gives no details, because an item may contain text that users wrote.
    pub(super) fn unreadable(key: ItemKey) -> Self {
        Self::unrepairable(key, "item", "cannot be read")
    }

    pub(super) fn inconclusive(key: ItemKey, reason: impl Into<String>) -> Self {
        Self::new(key, Finding::Inconclusive(reason.into()))
    }

    /// Whether the correct value is known, so that a repair can write it.
    #[must_use]
    pub fn is_repairable(&self) -> bool {
        matches!(self.finding, Finding::Mismatch { .. })
    }

    /// Whether this is no violation, but something that could not be evaluated.
    #[must_use]
    pub fn is_inconclusive(&self) -> bool {
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
            Self::Unrepairable { subject, .. } => (subject, 0),
            Self::Inconclusive(reason) => (reason, 0),
        }
    }
}

impl Value {
    pub(super) fn count(count: u64) -> Self {
        Self::Number(i64::try_from(count).unwrap_or(i64::MAX))
    }

    /// The value as an attribute; `None` if there is none.
    pub(super) fn to_attribute(&self) -> Option<AttributeValue> {
        match self {
            Self::Number(value) => Some(AttributeValue::N(value.to_string())),
            Self::Text(text) => Some(AttributeValue::S(text.clone())),
            Self::Flag(flag) => Some(AttributeValue::Bool(*flag)),
            Self::Malformed(value) => Some(value.clone()),
            Self::Missing => None,
        }
    }
}

impl From<StoredCount> for Value {
    fn from(count: StoredCount) -> Self {
        match count {
            StoredCount::Number(number) => Self::Number(number),
            StoredCount::Missing => Self::Missing,
            StoredCount::Malformed(value) => Self::Malformed(value),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        OneLine(&self.key.pk).fmt(f)?;
        if !self.key.sk.is_empty() {
            write!(f, " {}", OneLine(&self.key.sk))?;
        }
        f.write_str(": ")?;
        match &self.finding {
            Finding::Mismatch {
                attribute,
                actual,
                expected,
                ..
            } => write!(f, "{attribute} is {actual}, should be {expected}")?,
            Finding::Unrepairable { description, .. } => OneLine(description).fmt(f)?,
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
            Self::Text(text) => OneLine(&shorten(text)).fmt(f),
            Self::Flag(flag) => flag.fmt(f),
            Self::Missing => f.write_str("missing"),
            Self::Malformed(AttributeValue::N(number)) => OneLine(&shorten(number)).fmt(f),
            Self::Malformed(value) => f.write_str(type_name(value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(sk: &str) -> ItemKey {
        ItemKey::new("USER#42", sk)
    }

    fn mismatch(actual: Value, expected: Value) -> Violation {
        let finding = Finding::Mismatch {
            attribute: "unread",
            actual,
            expected,
            based_on: Vec::new(),
        };
        Violation::new(key("TOTALS#3"), finding)
    }

    fn unread(actual: i64, expected: i64) -> Violation {
        mismatch(Value::Number(actual), Value::Number(expected))
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
    fn values_of_any_type_and_keys_of_any_text_are_printed_on_one_line() {
        let malformed = |value| mismatch(Value::Malformed(value), Value::Number(2)).to_string();
        let line = "USER#42 TOTALS#3: unread is";
        for (value, shown) in [
            (AttributeValue::S("secret".to_owned()), "a string"),
            (AttributeValue::N("1.5".to_owned()), "1.5"),
            (AttributeValue::Null(true), "null"),
        ] {
            assert_eq!(malformed(value), format!("{line} {shown}, should be 2"));
        }
        let missing = mismatch(Value::Missing, Value::Text("11#active".to_owned()));
        assert_eq!(
            missing.to_string(),
            format!("{line} missing, should be 11#active")
        );
        let superfluous = mismatch(Value::Flag(true), Value::Missing).to_string();
        assert_eq!(superfluous, format!("{line} true, should be missing"));
        let key = ItemKey::new("A\nB", "C\u{7}");
        let printed = Violation::unrepairable(key, "x", "is \n").to_string();
        assert_eq!(printed, "A\\nB C\\u{7}: is \\n");
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
        // The difference of extreme counts is out of range, but computing it must not fail.
        assert!(!unread(i64::MIN, i64::MAX).is_same_as(&unread(5, 2)));
    }

    #[test]
    fn two_descriptions_of_the_same_damage_are_the_same_violation() {
        let violation = |subject: &str, description: &str| {
            Violation::unrepairable(key("TOTALS#3"), subject, description)
        };
        let seen_at_first = violation("highReadSeq", "highReadSeq is 9, greater than seq 3");
        assert!(seen_at_first.is_same_as(&violation("highReadSeq", "is 9, greater than seq 4")));
        assert!(!seen_at_first.is_same_as(&violation("lowReadSeq", "is 9, greater than seq 3")));
    }
}
