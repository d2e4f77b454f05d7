//! Schemas of single values, with the limits that the code checks.

use std::borrow::Cow;

use serde_json::json;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        KnownFormat, RefOr, Schema, SchemaFormat,
        schema::{Object, ObjectBuilder, Type},
    },
};

use crate::domain::{MAX_INTEGER, MAX_TEXT_CODE_POINTS, MAX_URL_BYTES, PREVIEW_CODE_POINTS};

/// Unicode's white space, as [`char::is_whitespace`] knows it: `\s` is another set in each language.
const WHITE_SPACE: &str = r"\t-\r \u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000";
/// A user id in canonical decimal.
const ID: &str = "[1-9][0-9]{0,15}";

/// A type that stands for a value in the document; there are no values of it.
macro_rules! value {
    ($(#[doc = $description:literal])+ $type:ident, $name:literal, $schema:expr) => {
        $(#[doc = $description])+
        pub(in crate::http) enum $type {}

        impl PartialSchema for $type {
            fn schema() -> RefOr<Schema> {
                let description = concat!($($description),+).trim();
                let builder: ObjectBuilder = $schema;
                builder.description(Some(description)).into()
            }
        }

        impl ToSchema for $type {
            fn name() -> Cow<'static, str> {
                $name.into()
            }
        }
    };
}

value!(
    /// A user of the system that this service is part of.
    UserIdNumber, "UserId", integer(1).examples([json!(42)])
);
value!(
    /// The one chat of a pair: the smaller user id, `-`, the larger.
    ChatIdText, "ChatId", string()
        .pattern(Some(format!("^{ID}-{ID}$")))
        .examples([json!("17-42")])
);
value!(
    /// The chat's id, `/`, the message's `seq`.
    MessageId, "MessageId", string()
        .pattern(Some(format!("^{ID}-{ID}/{ID}$")))
        .examples([json!("17-42/9")])
);
value!(
    /// The place of a message in its chat: 1, 2, 3, … in the order in which they were accepted, without
    /// gaps.
    Seq, "Seq", integer(1).examples([json!(9)])
);
value!(
    /// Up to which message a member has read: all messages to that `seq` are read; 0 is none. It never
    /// goes back.
    Watermark, "Watermark", integer(0).examples([json!(6)])
);
value!(
    /// A number of things.
    Count, "Count", integer(0).examples([json!(3)])
);
value!(
    /// RFC 3339 in UTC with milliseconds, by the service's clock.
    Time, "Timestamp", string()
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
        .pattern(Some(r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z$"))
        .examples([json!("2026-01-31T12:00:00.250Z")])
);
value!(
    /// Text as typed. Its length is in Unicode code points, and at least one is not white space.
    Text, "Text", string()
        .min_length(Some(1))
        .max_length(Some(MAX_TEXT_CODE_POINTS))
        .pattern(Some(format!("[^{WHITE_SPACE}]")))
        .examples([json!("Hello 👋")])
);
value!(
    /// The beginning of a text.
    Preview, "Preview", string()
        .max_length(Some(PREVIEW_CODE_POINTS))
        .examples([json!("Hello 👋")])
);
value!(
    /// An absolute `https` URL, as typed; its length is in bytes of UTF-8. The service never fetches it.
    HttpsUrl, "HttpsUrl", string()
        .max_length(Some(MAX_URL_BYTES))
        .pattern(Some(format!(
            r"^[Hh][Tt][Tt][Pp][Ss]://[^/\\?#\u0000-\u001f\u007f-\u009f{WHITE_SPACE}][^\\\u0000-\u001f\u007f-\u009f{WHITE_SPACE}]*$"
        )))
        .examples([json!("https://images.example/cat.jpg")])
);
value!(
    /// Where a page begins. Opaque: it is of use only as `cursor` of the list that it came from, to the
    /// user who got it.
    Cursor, "Cursor", string()
        .pattern(Some("^[A-Za-z0-9_-]+$"))
);
value!(
    /// Names one call in the service's log.
    RequestId, "RequestId", string()
        .min_length(Some(1))
        .examples([json!("8f5f1d0c-6a3e-4d5e-9a37-1d2f6c1f0b7e")])
);
fn string() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

/// An integer that every JSON client reads exactly.
pub(super) fn integer(least: u64) -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::Integer)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
        .minimum(Some(number(least)))
        .maximum(Some(number(MAX_INTEGER)))
}

/// A limit as the document's builders take it.
pub(super) fn number(limit: u64) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// Of `success` in an answer that says so in words, too.
pub(in crate::http) fn always_true() -> Object {
    always(true)
}

/// Of `success` in a refusal.
pub(in crate::http) fn always_false() -> Object {
    always(false)
}

fn always(value: bool) -> Object {
    ObjectBuilder::new()
        .schema_type(Type::Boolean)
        .enum_values(Some([value]))
        .description(Some(format!("Always {value}.")))
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_is_what_the_code_takes_for_it() {
        // `a-b` are ranges, the rest are characters; escapes are those of JSON.
        let listed = WHITE_SPACE
            .replace("\\t", "\\u0009")
            .replace("\\r", "\\u000d");
        let listed: String = serde_json::from_str(&format!("\"{listed}\"")).unwrap();
        let mut ranges = Vec::new();
        let mut characters = listed.chars().peekable();
        while let Some(first) = characters.next() {
            let last = if characters.next_if_eq(&'-').is_some() {
                characters.next().unwrap()
            } else {
                first
            };
            ranges.push(first..=last);
        }
        for character in '\0'..=char::MAX {
            let in_document = ranges.iter().any(|range| range.contains(&character));
            assert_eq!(in_document, character.is_whitespace(), "{character:?}");
        }
    }
}
