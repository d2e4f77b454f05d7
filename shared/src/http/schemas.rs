//! OpenAPI schemas of single values, with the limits that the code enforces.

use std::borrow::Cow;

use serde_json::json;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        KnownFormat, RefOr, Schema, SchemaFormat,
        schema::{Object, ObjectBuilder, Type},
    },
};

use crate::domain::{MAX_SAFE_INTEGER, MAX_TEXT_CODE_POINTS, MAX_URL_BYTES, PREVIEW_CODE_POINTS};

/// Unicode white space as in [`char::is_whitespace`]. The meaning of `\s` differs between languages.
const WHITE_SPACE: &str = r"\t-\r \u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000";
/// A user id in canonical decimal.
const ID: &str = "[1-9][0-9]{0,15}";

/// Declares an empty type that stands for a value in the document.
macro_rules! value {
    ($(#[doc = $description:literal])+ $type:ident, $name:literal, $schema:expr) => {
        $(#[doc = $description])+
        pub(crate) enum $type {}

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
    /// The id of a user in the system that this service is part of.
    UserIdNumber, "UserId", integer(1).examples([json!(42)])
);
value!(
    /// The id of the chat of two users: the smaller user id, `-`, the larger one.
    ChatIdText, "ChatId", string()
        .pattern(Some(format!("^{ID}-{ID}$")))
        .examples([json!("17-42")])
);
value!(
    /// The id of the chat, `/`, and the `seq` of the message.
    MessageId, "MessageId", string()
        .pattern(Some(format!("^{ID}-{ID}/{ID}$")))
        .examples([json!("17-42/9")])
);
value!(
    /// The sequence number of a message in its chat: 1, 2, 3, … in the order in which the service
    /// accepted the messages, without gaps.
    Seq, "Seq", integer(1).examples([json!(9)])
);
value!(
    /// A member has read all messages up to this `seq`. 0 means none. It never decreases.
    Watermark, "Watermark", integer(0).examples([json!(6)])
);
value!(
    /// A count.
    Count, "Count", integer(0).examples([json!(3)])
);
value!(
    /// RFC 3339 in UTC with milliseconds, from the clock of the service.
    Time, "Timestamp", string()
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
        .pattern(Some(r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z$"))
        .examples([json!("2026-01-31T12:00:00.250Z")])
);
value!(
    /// Text exactly as typed. The length is in Unicode code points. At least one is not white space.
    Text, "Text", string()
        .min_length(Some(1))
        .max_length(Some(MAX_TEXT_CODE_POINTS))
        .pattern(Some(format!("[^{WHITE_SPACE}]")))
        .examples([json!("Hello 👋")])
);
value!(
    /// The start of a text.
    Preview, "Preview", string()
        .max_length(Some(PREVIEW_CODE_POINTS))
        .examples([json!("Hello 👋")])
);
value!(
    /// An absolute `https` URL exactly as typed. The length is in bytes of UTF-8. The service never fetches
    /// it.
    HttpsUrl, "HttpsUrl", string()
        .max_length(Some(MAX_URL_BYTES))
        .pattern(Some(format!(
            r"^[Hh][Tt][Tt][Pp][Ss]://[^/\\?#\u0000-\u001f\u007f-\u009f{WHITE_SPACE}][^\\\u0000-\u001f\u007f-\u009f{WHITE_SPACE}]*$"
        )))
        .examples([json!("https://images.example/cat.jpg")])
);
value!(
    /// The start of a page. It is opaque, and valid only for the same list and the same user.
    Cursor, "Cursor", string()
        .pattern(Some("^[A-Za-z0-9_-]+$"))
);
value!(
    /// Identifies the request in the log of the service.
    RequestId, "RequestId", string()
        .min_length(Some(1))
        .examples([json!("8f5f1d0c-6a3e-4d5e-9a37-1d2f6c1f0b7e")])
);
fn string() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

/// An integer that every JSON parser reads exactly.
pub(crate) fn integer(minimum: u64) -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::Integer)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
        .minimum(Some(number(minimum)))
        .maximum(Some(number(MAX_SAFE_INTEGER)))
}

/// Converts a limit to the type that the builders expect.
pub(crate) fn number(limit: u64) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// The schema of `success` in a successful response.
pub(crate) fn always_true() -> Object {
    always(true)
}

/// The schema of `success` in an error.
pub(crate) fn always_false() -> Object {
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
    fn the_white_space_pattern_matches_the_same_characters_as_the_code() {
        // `a-b` is a range; everything else is a single character. The escapes are those of JSON.
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
