//! Reads the attributes of an item one by one, and reports each that is missing or damaged.
//!
//! The functions read an item as a whole and fail if one attribute is wrong. An operator needs to know
//! which one, and the check must be able to judge the rest of the item.
//!
//! Lines contain numbers and types, but no texts that users wrote.

use std::{fmt::Display, ops::RangeInclusive, time::Duration};

use aws_sdk_dynamodb::types::AttributeValue;
use chat_shared::{
    domain::{ChatId, MAX_SAFE_INTEGER, Timestamp, UserId},
    store::items::{Item, ItemKey, ItemKind},
};

use super::violation::{BasedOn, Finding, Value, Violation};
use crate::{table::has_lifetime, text::shorten};

/// The key attributes of the indexes. An item that has them appears in the indexes.
pub(super) const INDEX_KEYS: [&str; 3] = ["requesterKey", "recipientKey", "activity"];
/// The attribute that the table's TTL reads.
pub(super) const EXPIRES_AT: &str = "expiresAt";
/// How much the clock of a function may differ from the clock of the check.
pub(super) const MAX_CLOCK_DIFFERENCE: Duration = Duration::from_hours(24);

/// The attributes of an item, or of a map in an item, and the violations found so far.
pub(super) struct Attributes<'a> {
    key: &'a ItemKey,
    values: &'a Item,
    /// What precedes the names of the attributes in a line: the name of the map and a dot.
    path: &'static str,
    violations: Vec<Violation>,
}

impl<'a> Attributes<'a> {
    pub(super) fn new(key: &'a ItemKey, item: &'a Item) -> Self {
        Self {
            key,
            values: item,
            path: "",
            violations: Vec::new(),
        }
    }

    /// The attributes of a map in the item with this key.
    pub(super) fn of_map(key: &'a ItemKey, map: &'a Item, path: &'static str) -> Self {
        Self {
            path,
            ..Self::new(key, map)
        }
    }

    pub(super) fn into_violations(self) -> Vec<Violation> {
        self.violations
    }

    pub(super) fn item(&self) -> &'a Item {
        self.values
    }

    /// Whether no violation was found so far.
    pub(super) fn is_valid(&self) -> bool {
        self.violations.is_empty()
    }

    /// Reports what is wrong with an attribute. `problem` continues the sentence that starts with the
    /// name of the attribute.
    pub(super) fn report(&mut self, attribute: &str, problem: impl Display) {
        let subject = format!("{}{attribute}", self.path);
        let description = format!("{subject} {problem}");
        self.push(Violation::unrepairable(
            self.key.clone(),
            subject,
            description,
        ));
    }

    /// Reports an attribute whose right value is known, so that a repair can write it.
    pub(super) fn report_mismatch(
        &mut self,
        attribute: &'static str,
        actual: Value,
        expected: Value,
        based_on: BasedOn,
    ) {
        let finding = Finding::Mismatch {
            attribute,
            actual,
            expected,
            based_on,
        };
        self.push(Violation::new(self.key.clone(), finding));
    }

    /// Reports what is wrong with the item itself.
    pub(super) fn report_item(&mut self, subject: &str, description: impl Into<String>) {
        self.push(Violation::unrepairable(
            self.key.clone(),
            subject,
            description,
        ));
    }

    /// Reports that something about the item could not be evaluated. The reason must not contain texts of the item.
    pub(super) fn report_inconclusive(&mut self, reason: String) {
        self.push(Violation::inconclusive(self.key.clone(), reason));
    }

    pub(super) fn push(&mut self, violation: Violation) {
        self.violations.push(violation);
    }

    pub(super) fn extend(&mut self, violations: Vec<Violation>) {
        self.violations.extend(violations);
    }

    /// Checks the attribute `type`, and that the item has no attribute that only another kind may have.
    pub(super) fn check_kind(&mut self, kind: ItemKind) {
        self.check_entity_type(kind);
        if !matches!(kind, ItemKind::Chat | ItemKind::Report) {
            for attribute in INDEX_KEYS {
                if self.values.contains_key(attribute) {
                    let problem = "must not exist: the indexes contain only chats and open reports";
                    self.report(attribute, problem);
                }
            }
        }
        if !has_lifetime(kind) && self.values.contains_key(EXPIRES_AT) {
            let problem = "must not exist: DynamoDB deletes the item at this time";
            self.report(EXPIRES_AT, problem);
        }
    }

    /// Checks the attribute `type`. The functions do not read it from counters, and write it with each
    /// change of a counter. So a counter without it is not damaged.
    fn check_entity_type(&mut self, kind: ItemKind) {
        let expected = kind.entity_type();
        match self.values.get("type") {
            Some(AttributeValue::S(actual)) if actual == expected => {}
            Some(AttributeValue::S(actual)) => {
                self.report(
                    "type",
                    format_args!("is {}, not {expected}", shorten(actual)),
                );
            }
            Some(other) => self.report_type("type", other, "a string"),
            None if matches!(kind, ItemKind::Totals | ItemKind::OpenRequests) => {}
            None => self.report("type", "is missing"),
        }
    }

    /// A whole number within a range.
    pub(super) fn number(&mut self, attribute: &str, range: RangeInclusive<u64>) -> Option<u64> {
        let too_large = format!("greater than {}", range.end());
        self.number_or(attribute, &range, &too_large)
    }

    /// A whole number that is 0 if the attribute is missing.
    pub(super) fn number_or_zero(&mut self, attribute: &str) -> Option<u64> {
        if self.values.contains_key(attribute) {
            self.number(attribute, 0..=MAX_SAFE_INTEGER)
        } else {
            Some(0)
        }
    }

    /// A flag that is false if the attribute is missing.
    pub(super) fn flag(&mut self, attribute: &str) -> Option<bool> {
        match self.values.get(attribute) {
            None => Some(false),
            Some(AttributeValue::Bool(flag)) => Some(*flag),
            Some(other) => {
                self.report_type(attribute, other, "a boolean");
                None
            }
        }
    }

    /// A time that may be missing. `None` also if it is damaged.
    pub(super) fn optional_time(&mut self, attribute: &str, now: Timestamp) -> Option<u64> {
        if self.values.contains_key(attribute) {
            self.time(attribute, now)
        } else {
            None
        }
    }

    /// A time in milliseconds since 1970. RFC 3339 has no times after the year 9999.
    /// A time in the future is damage, except for a difference between two clocks.
    pub(super) fn time(&mut self, attribute: &str, now: Timestamp) -> Option<u64> {
        let range = 0..=Timestamp::MAX.millis();
        let time = self.number_or(attribute, &range, "after the year 9999")?;
        if Timestamp::from_millis(time) > now + MAX_CLOCK_DIFFERENCE {
            let problem = format!("is {time}, more than a day in the future");
            self.report(attribute, problem);
            return None;
        }
        Some(time)
    }

    /// A time in seconds since 1970.
    pub(super) fn time_in_seconds(&mut self, attribute: &str) -> Option<u64> {
        let range = 0..=Timestamp::MAX.seconds();
        self.number_or(attribute, &range, "after the year 9999")
    }

    fn number_or(
        &mut self,
        attribute: &str,
        range: &RangeInclusive<u64>,
        too_large: &str,
    ) -> Option<u64> {
        let text = match self.values.get(attribute) {
            Some(AttributeValue::N(text)) => text,
            Some(other) => {
                self.report_type(attribute, other, "a number");
                return None;
            }
            None => {
                self.report(attribute, "is missing");
                return None;
            }
        };
        let too_small = format!("less than {}", range.start());
        let problem = match whole_number(text) {
            Ok(number) if range.contains(&number) => return Some(number),
            Ok(number) if number < *range.start() => too_small.as_str(),
            Err(NumberError::Negative) => too_small.as_str(),
            Ok(_) | Err(NumberError::TooLarge) => too_large,
            Err(NumberError::NotWhole) => "not a whole number",
        };
        self.report(attribute, format_args!("is {}, {problem}", shorten(text)));
        None
    }

    /// A member of the chat.
    pub(super) fn member(&mut self, attribute: &str, id: ChatId) -> Option<UserId> {
        let user = self.number(attribute, 1..=MAX_SAFE_INTEGER)?;
        let member = UserId::new(user).filter(|user| id.has_member(*user));
        if member.is_none() {
            self.report(
                attribute,
                format_args!("is {user}, not a member of the chat"),
            );
        }
        member
    }

    pub(super) fn text(&mut self, attribute: &str) -> Option<&'a str> {
        if !self.values.contains_key(attribute) {
            self.report(attribute, "is missing");
        }
        self.optional_text(attribute)
    }

    pub(super) fn optional_text(&mut self, attribute: &str) -> Option<&'a str> {
        match self.values.get(attribute)? {
            AttributeValue::S(text) => Some(text),
            other => {
                self.report_type(attribute, other, "a string");
                None
            }
        }
    }

    /// Compares a text, which may be missing, with the value that other attributes give it. `None` if that
    /// value is unknown.
    pub(super) fn check_derived_text(
        &mut self,
        attribute: &'static str,
        expected: Option<(Value, BasedOn)>,
    ) {
        let actual = match self.values.get(attribute) {
            Some(AttributeValue::S(actual)) => Value::Text(actual.clone()),
            Some(other) => {
                self.report_type(attribute, other, "a string");
                return;
            }
            None => Value::Missing,
        };
        if let Some((expected, based_on)) = expected
            && actual != expected
        {
            self.report_mismatch(attribute, actual, expected, based_on);
        }
    }

    /// Checks the length of a binary attribute.
    pub(super) fn check_binary(&mut self, attribute: &str, length: usize) {
        match self.values.get(attribute) {
            Some(AttributeValue::B(bytes)) => {
                let actual = bytes.as_ref().len();
                if actual != length {
                    self.report(attribute, format_args!("has {actual} bytes, not {length}"));
                }
            }
            Some(other) => self.report_type(attribute, other, "binary"),
            None => self.report(attribute, "is missing"),
        }
    }

    pub(super) fn report_type(&mut self, attribute: &str, actual: &AttributeValue, expected: &str) {
        let actual = type_name(actual);
        self.report(attribute, format_args!("is {actual}, not {expected}"));
    }
}

/// A count as it is stored. Counts can be computed from other items, so damage can be repaired.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum StoredCount {
    Number(i64),
    Missing,
    /// The attribute has another type or is not a whole number.
    Malformed(AttributeValue),
}

impl StoredCount {
    pub(super) fn read(item: &Item, attribute: &str) -> Self {
        match item.get(attribute) {
            None => Self::Missing,
            Some(value) => {
                let number = value.as_n().ok().and_then(|text| text.parse().ok());
                number.map_or_else(|| Self::Malformed(value.clone()), Self::Number)
            }
        }
    }

    /// The count, unless it is damaged. A count is never negative.
    pub(super) fn valid(&self) -> Option<i64> {
        match self {
            Self::Number(number) if *number >= 0 => Some(*number),
            _ => None,
        }
    }

    /// The count, unless it is damaged, if a missing attribute means 0.
    pub(super) fn valid_or_zero(&self) -> Option<i64> {
        if *self == Self::Missing {
            Some(0)
        } else {
            self.valid()
        }
    }

    /// What is wrong with the count, whatever it counts.
    pub(super) fn problem(&self) -> Option<String> {
        match self {
            Self::Number(number) if *number < 0 => Some(format!("is {number}, less than 0")),
            Self::Number(_) => None,
            Self::Missing => Some("is missing".to_owned()),
            Self::Malformed(AttributeValue::N(text)) => {
                Some(format!("is {}, not a valid count", shorten(text)))
            }
            Self::Malformed(value) => Some(format!("is {}, not a number", type_name(value))),
        }
    }
}

/// Why a number attribute is not a whole number from 0 to [`u64::MAX`].
#[derive(Debug, PartialEq, Eq)]
enum NumberError {
    Negative,
    TooLarge,
    NotWhole,
}

/// Reads a number of DynamoDB, which has up to 38 digits and may have decimals.
fn whole_number(text: &str) -> Result<u64, NumberError> {
    text.parse().map_err(|_| {
        let digits = text.strip_prefix('-').unwrap_or(text);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            NumberError::NotWhole
        } else if digits.len() < text.len() {
            NumberError::Negative
        } else {
            NumberError::TooLarge
        }
    })
}

/// The type of an attribute in words.
pub(super) fn type_name(value: &AttributeValue) -> &'static str {
    match value {
        AttributeValue::S(_) => "a string",
        AttributeValue::N(_) => "a number",
        AttributeValue::B(_) => "binary",
        AttributeValue::Bool(_) => "a boolean",
        AttributeValue::Null(_) => "null",
        AttributeValue::L(_) => "a list",
        AttributeValue::M(_) => "a map",
        _ => "of another type",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> AttributeValue {
        AttributeValue::N(text.to_owned())
    }

    fn text(text: &str) -> AttributeValue {
        AttributeValue::S(text.to_owned())
    }

    fn item(value: Option<AttributeValue>) -> Item {
        value
            .into_iter()
            .map(|value| ("a".to_owned(), value))
            .collect()
    }

    /// Reads the attribute `a`. Returns the value and what was reported.
    fn read<T>(
        value: Option<AttributeValue>,
        read: impl Fn(&mut Attributes<'_>) -> Option<T>,
    ) -> (Option<T>, Vec<String>) {
        let key = ItemKey::new("P", "S");
        let item = item(value);
        let mut attributes = Attributes::new(&key, &item);
        let value = read(&mut attributes);
        let lines = attributes.into_violations().into_iter();
        (value, lines.map(|line| line.to_string()).collect())
    }

    #[test]
    fn a_number_is_whole_and_within_its_range() {
        for (value, expected) in [("1", 1), ("7", 7), ("9", 9)] {
            let (value, lines) = read(Some(number(value)), |a| a.number("a", 1..=9));
            assert_eq!((value, lines.len()), (Some(expected), 0));
        }
        let digits = "9".repeat(38);
        for (value, line) in [
            (None, "P S: a is missing".to_owned()),
            (
                Some(text("5")),
                "P S: a is a string, not a number".to_owned(),
            ),
            (Some(number("0")), "P S: a is 0, less than 1".to_owned()),
            (Some(number("-5")), "P S: a is -5, less than 1".to_owned()),
            (
                Some(number("10")),
                "P S: a is 10, greater than 9".to_owned(),
            ),
            (
                Some(number(&digits)),
                format!("P S: a is {digits}, greater than 9"),
            ),
            (
                Some(number("1.5")),
                "P S: a is 1.5, not a whole number".to_owned(),
            ),
            (
                Some(number("1E-5")),
                "P S: a is 1E-5, not a whole number".to_owned(),
            ),
            (
                Some(number("-")),
                "P S: a is -, not a whole number".to_owned(),
            ),
        ] {
            assert_eq!(read(value, |a| a.number("a", 1..=9)), (None, vec![line]));
        }
    }

    #[test]
    fn a_time_is_not_after_the_year_9999() {
        let last = Timestamp::MAX.millis();
        let read_time = |value| read(value, |a| a.time("a", Timestamp::MAX));
        let (value, lines) = read_time(Some(number(&last.to_string())));
        assert_eq!((value, lines.len()), (Some(last), 0));
        // An import in microseconds.
        let (value, lines) = read_time(Some(number("1767225599007000")));
        let line = "P S: a is 1767225599007000, after the year 9999".to_owned();
        assert_eq!((value, lines), (None, vec![line]));
        // Milliseconds where seconds are expected.
        let milliseconds = Some(number("1767225599007"));
        let (value, lines) = read(milliseconds, |a| a.time_in_seconds("a"));
        assert_eq!((value, lines.len()), (None, 1));
    }

    #[test]
    fn a_time_is_at_most_a_day_in_the_future() {
        let now = Timestamp::from_millis(1_000);
        let read_time = |time| read(Some(number(time)), |a| a.time("a", now));
        assert_eq!(read_time("86401000"), (Some(86_401_000), vec![]));
        let line = "P S: a is 86401001, more than a day in the future".to_owned();
        assert_eq!(read_time("86401001"), (None, vec![line]));
    }

    #[test]
    fn an_optional_attribute_may_be_missing_but_not_damaged() {
        let now = Timestamp::from_millis(1_000);
        let read_number = |value| read(value, |a| a.number_or_zero("a"));
        let read_flag = |value| read(value, |a| a.flag("a"));
        let read_time = |value| read(value, |a| a.optional_time("a", now));
        assert_eq!(read_number(None), (Some(0), vec![]));
        assert_eq!(read_number(Some(number("7"))), (Some(7), vec![]));
        assert_eq!(read_flag(None), (Some(false), vec![]));
        let flag = Some(AttributeValue::Bool(true));
        assert_eq!(read_flag(flag), (Some(true), vec![]));
        assert_eq!(read_time(None), (None, vec![]));
        assert_eq!(read_time(Some(number("7"))), (Some(7), vec![]));
        let line = |expected: &str| vec![format!("P S: a is a string, not {expected}")];
        assert_eq!(read_number(Some(text("7"))), (None, line("a number")));
        assert_eq!(read_flag(Some(text("true"))), (None, line("a boolean")));
        assert_eq!(read_time(Some(text("7"))), (None, line("a number")));
    }

    #[test]
    fn a_text_is_reported_without_its_content() {
        let (value, lines) = read(Some(text("secret")), |a| a.text("a").map(str::to_owned));
        assert_eq!((value.as_deref(), lines.len()), (Some("secret"), 0));
        for (value, line) in [
            (None, "P S: a is missing"),
            (
                Some(AttributeValue::Null(true)),
                "P S: a is null, not a string",
            ),
            (
                Some(AttributeValue::L(vec![text("secret")])),
                "P S: a is a list, not a string",
            ),
        ] {
            let (value, lines) = read(value, |a| a.text("a").map(str::to_owned));
            assert_eq!((value, lines), (None, vec![line.to_owned()]));
        }
        let (value, lines) = read(None, |a| a.optional_text("a").map(str::to_owned));
        assert_eq!((value, lines.len()), (None, 0));
    }

    #[test]
    fn a_count_is_a_whole_number_that_is_not_negative() {
        let problem =
            |value: Option<AttributeValue>| StoredCount::read(&item(value), "a").problem();
        assert_eq!(problem(Some(number("5"))), None);
        for (value, expected) in [
            (None, "is missing"),
            (Some(number("-1")), "is -1, less than 0"),
            (Some(number("1.5")), "is 1.5, not a valid count"),
            (Some(text("1")), "is a string, not a number"),
        ] {
            assert_eq!(problem(value).as_deref(), Some(expected));
        }
        let valid = |value: &str| StoredCount::read(&item(Some(number(value))), "a").valid();
        assert_eq!(valid("5"), Some(5));
        assert_eq!(valid("-5"), None);
        let optional = |value| StoredCount::read(&item(value), "a").valid_or_zero();
        assert_eq!(optional(None), Some(0));
        assert_eq!(optional(Some(number("5"))), Some(5));
        assert_eq!(optional(Some(number("-5"))), None);
    }
}
