//! OpenAPI schemas of single values.
//!
//! The schemas of requests contain the limits that the code enforces. The schemas of responses contain only
//! what no compatible version may change, because many generated clients refuse a response that violates
//! its schema. So a schema that only responses use has no maximum length.
//!
//! Patterns must survive code generators, which copy them into regular expressions of many languages and
//! replace escapes such as `\u2028` with the character itself. So a pattern contains only printable ASCII
//! characters. What it cannot express is in the description.

use std::borrow::Cow;

use serde_json::json;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        KnownFormat, RefOr, Schema, SchemaFormat,
        schema::{Object, ObjectBuilder, Type},
    },
};

use crate::domain::{
    self, MAX_NOTE_CODE_POINTS, MAX_SAFE_INTEGER, MAX_TEXT_CODE_POINTS, MAX_URL_BYTES,
};

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
    /// The number of a change to a message after it was sent: 1, 2, 3, … in each chat, without gaps. 0 means
    /// none. The `rev` of a chat is that of its last change.
    Rev, "Rev", integer(0).examples([json!(2)])
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
    /// Text exactly as typed. The length is in Unicode code points. At least one is visible: not white space,
    /// not a control character, not default-ignorable (Unicode property `Default_Ignorable_Code_Point`), not
    /// U+2800 and not U+3164.
    Text, "Text", string()
        .min_length(Some(1))
        .max_length(Some(MAX_TEXT_CODE_POINTS))
        .examples([json!("Hello 👋")])
);
value!(
    /// The start of a text.
    Preview, "Preview", string()
        .examples([json!("Hello 👋")])
);
value!(
    /// An absolute `https` URL exactly as typed, without a user name or password. The length is in bytes of
    /// UTF-8. It contains no white space, no control characters, no characters that are invisible or change
    /// the direction of text, and no ASCII characters that RFC 3986 forbids in a URI: double quote, angle
    /// brackets, backslash, caret, backtick, braces and bar. Percent-encode them. Letters beyond ASCII are
    /// allowed. The service never fetches the URL.
    HttpsUrl, "HttpsUrl", string()
        .max_length(Some(MAX_URL_BYTES))
        // What `\s` means differs between languages, but the service accepts none of these characters.
        .pattern(Some(
            r#"^[Hh][Tt][Tt][Pp][Ss]://[^/?#@\s"<>\\^`{|}]+([/?#][^\s"<>\\^`{|}]*)?$"#,
        ))
        .examples([json!("https://images.example/cat.jpg")])
);
value!(
    /// Why the user or the message is reported.
    ReportReason, "ReportReason", reason()
);
value!(
    /// Why the user or the message is reported.
    NewReportReason, "NewReportReason", reason().examples([json!("spam")])
);
value!(
    /// A text for the operators. The length is in Unicode code points.
    Note, "Note", string()
        .max_length(Some(MAX_NOTE_CODE_POINTS))
        .examples([json!("This is the third time.")])
);
value!(
    /// Identifies a report. It is opaque.
    ReportId, "ReportId", string()
        .examples([json!("17-42/17/0")])
);
value!(
    /// The start of a page. It is opaque, and valid only for the same list and the same user.
    Cursor, "Cursor", string()
);
value!(
    /// Identifies the request in the log of the service.
    RequestId, "RequestId", string()
        .min_length(Some(1))
        .examples([json!("8f5f1d0c-6a3e-4d5e-9a37-1d2f6c1f0b7e")])
);

/// The reasons of a report, in requests as a closed list of values. In responses, the list may grow: the module
/// `openapi` replaces it there.
fn reason() -> ObjectBuilder {
    let reasons = domain::ReportReason::ALL.map(domain::ReportReason::as_str);
    string().enum_values(Some(reasons))
}

fn string() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

/// An integer that every JSON parser reads exactly.
///
/// It has no `format: int64`, although it needs more than 32 bits: some clients in JavaScript would use
/// `BigInt` and send it as a JSON string, which the service refuses.
pub(crate) fn integer(minimum: u64) -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::Integer)
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

/// An enumeration with one boolean does not compile in some languages.
fn always(value: bool) -> Object {
    ObjectBuilder::new()
        .schema_type(Type::Boolean)
        .description(Some(format!("Always {value}.")))
        .examples([json!(value)])
        .build()
}
