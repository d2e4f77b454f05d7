//! Parses request bodies. A body is a JSON object with known fields of the right type, each at most once.
//! `null` is the same as absent, except in [`EditMessageBody`].

use serde::{Deserialize, Deserializer, de};
use serde_json::error::Category;

use crate::{
    Error,
    domain::{
        ChatId, ContentChange, MAX_NOTE_CODE_POINTS, MAX_SAFE_INTEGER, MessageContent, NewReport,
        ReportReason, Seq, UserId,
    },
};

/// The maximum length of a decoded body, in bytes.
pub const MAX_BODY_BYTES: usize = 64 * 1024;
/// The maximum length of client input in an error message, in characters.
const MAX_ECHO: usize = 120;

/// A chat request.
#[derive(Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = NewChat))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SendChatRequestBody {
    /// The recipient: any user except the caller. Write it without fraction and exponent: 42, not 42.0.
    #[cfg_attr(feature = "openapi", schema(required, value_type = super::schemas::UserIdNumber))]
    user_id: Option<UserIdNumber>,
}

impl SendChatRequestBody {
    /// The pair of the caller and the recipient of the chat request.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] if the recipient is missing or the caller.
    pub fn pair(&self, caller: UserId) -> Result<ChatId, Error> {
        let user = self.user_id.as_ref().ok_or_else(|| {
            Error::invalid("`userId` is required: the id of the user who receives the chat request")
        })?;
        pair(caller, user.0)
    }
}

/// A message. At least one of the three fields is present and not null.
#[derive(Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = NewMessage))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SendMessageBody {
    /// The text that the user typed.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<super::schemas::Text>))]
    text: Option<String>,
    /// The URL of an image to show.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<super::schemas::HttpsUrl>))]
    image_url: Option<String>,
    /// The URL of a page to show a preview of.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<super::schemas::HttpsUrl>))]
    link_preview_url: Option<String>,
}

impl SendMessageBody {
    /// The validated content.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] that names the invalid field.
    pub fn content(self) -> Result<MessageContent, Error> {
        Ok(MessageContent::new(
            self.text,
            self.image_url,
            self.link_preview_url,
        )?)
    }
}

/// A change of a message. At least one of the three fields is present. An absent field stays as it is, and null
/// removes it. At least one of the three must remain.
#[derive(Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = MessageEdit))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EditMessageBody {
    /// The new text.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<super::schemas::Text>))]
    #[serde(default, deserialize_with = "present")]
    text: Option<NewPart>,
    /// The new URL of an image to show.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<super::schemas::HttpsUrl>))]
    #[serde(default, deserialize_with = "present")]
    image_url: Option<NewPart>,
    /// The new URL of a page to show a preview of.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<super::schemas::HttpsUrl>))]
    #[serde(default, deserialize_with = "present")]
    link_preview_url: Option<NewPart>,
}

impl EditMessageBody {
    /// The validated change.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] that names the invalid field, or all three if none is present.
    pub fn change(self) -> Result<ContentChange, Error> {
        let change = ContentChange {
            text: self.text.map(|part| part.0),
            image_url: self.image_url.map(|part| part.0),
            link_preview_url: self.link_preview_url.map(|part| part.0),
        };
        Ok(change.validate()?)
    }
}

/// Which messages are marked as read.
#[derive(Default, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = MarkAsRead))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MarkMessagesReadBody {
    /// The last message that is marked as read, with all messages before it. Absent or null: all messages.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<super::schemas::Seq>))]
    seq: Option<SeqNumber>,
}

impl MarkMessagesReadBody {
    /// The last message that is marked as read. `None`: all messages.
    #[must_use]
    pub fn up_to(&self) -> Option<Seq> {
        self.seq.as_ref().map(|seq| seq.0)
    }
}

/// A report of a user or of one of their messages.
#[derive(Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = NewReport))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReportBody {
    /// The reported user: any user except the caller.
    #[cfg_attr(feature = "openapi", schema(required, value_type = super::schemas::UserIdNumber))]
    user_id: Option<UserIdNumber>,
    /// The reported message of this user in the chat with the caller. Absent or null: the user is reported.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<super::schemas::Seq>))]
    seq: Option<SeqNumber>,
    #[cfg_attr(feature = "openapi", schema(required, value_type = super::schemas::NewReportReason))]
    reason: Option<ReasonName>,
    /// What the operators should know, in the caller's own words.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<super::schemas::Note>))]
    note: Option<String>,
    /// Whether the caller also blocks the user. Then both happen, or neither.
    block: Option<bool>,
}

impl ReportBody {
    /// The validated report.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] that names the missing or invalid field.
    pub fn report(self, reporter: UserId) -> Result<NewReport, Error> {
        let user = self
            .user_id
            .ok_or_else(|| Error::invalid("`userId` is required: the id of the reported user"))?;
        let chat = pair(reporter, user.0)?;
        let reason = self
            .reason
            .ok_or_else(|| Error::invalid(format!("`reason` is required: {}", reason_names())))?;
        let is_long = |note: &String| note.chars().count() > MAX_NOTE_CODE_POINTS;
        if self.note.as_ref().is_some_and(is_long) {
            return Err(Error::invalid(format!(
                "`note` must have at most {MAX_NOTE_CODE_POINTS} code points"
            )));
        }
        Ok(NewReport {
            reporter,
            chat,
            seq: self.seq.map(|seq| seq.0),
            reason: reason.0,
            note: self.note,
            block: self.block.unwrap_or(false),
        })
    }
}

/// The pair of the caller and a user whose id a request contains as `userId`.
pub(super) fn pair(caller: UserId, user: UserId) -> Result<ChatId, Error> {
    ChatId::between(caller, user)
        .ok_or_else(|| Error::invalid("`userId` must not be your own user id"))
}

/// A part of a message in an edit. `None` removes it.
struct NewPart(Option<String>);

/// Deserializes a field that is present, because `Option` alone does not distinguish null from an absent field.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<NewPart>, D::Error> {
    let part = Option::deserialize(deserializer)?;
    Ok(Some(NewPart(part)))
}

/// A user id as a JSON number.
struct UserIdNumber(UserId);

impl<'de> Deserialize<'de> for UserIdNumber {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let convert = |number: u64| UserId::new(number).map(Self);
        deserializer.deserialize_u64(PositiveNumber(convert))
    }
}

/// The `seq` of a message as a JSON number.
struct SeqNumber(Seq);

impl<'de> Deserialize<'de> for SeqNumber {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let convert = |number: u64| {
            let is_in_range = (1..=MAX_SAFE_INTEGER).contains(&number);
            is_in_range.then(|| Self(Seq::new(number)))
        };
        deserializer.deserialize_u64(PositiveNumber(convert))
    }
}

/// Reads a JSON number with a function that returns `None` unless it is from 1 to [`MAX_SAFE_INTEGER`].
struct PositiveNumber<F>(F);

impl<T, F: Fn(u64) -> Option<T>> de::Visitor<'_> for PositiveNumber<F> {
    type Value = T;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a whole number from 1 to {MAX_SAFE_INTEGER}")
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        let invalid = || E::invalid_value(de::Unexpected::Unsigned(number), &self);
        (self.0)(number).ok_or_else(invalid)
    }
}

/// The reason of a report as a JSON string.
struct ReasonName(ReportReason);

impl<'de> Deserialize<'de> for ReasonName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = ReasonName;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&reason_names())
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<ReasonName, E> {
                let invalid = || E::invalid_value(de::Unexpected::Str(name), &self);
                ReportReason::parse(name)
                    .map(ReasonName)
                    .ok_or_else(invalid)
            }
        }

        deserializer.deserialize_str(Visitor)
    }
}

/// The allowed reasons of a report, for an error message.
fn reason_names() -> String {
    let names = ReportReason::ALL.map(|reason| format!("`{}`", reason.as_str()));
    format!("one of {}", names.join(", "))
}

/// Parses a JSON body.
pub(super) fn parse<T: de::DeserializeOwned>(
    body: &[u8],
    content_type: Option<&str>,
    content_encoding: Option<&str>,
) -> Result<T, Error> {
    let body = parse_object(body, content_type, content_encoding)?;
    body.ok_or_else(|| Error::invalid("a body is required; send a JSON object"))
}

/// Parses a JSON body. `None` if it is empty, or `null`, which some generated clients send for an absent body.
pub(super) fn parse_optional<T: de::DeserializeOwned>(
    body: &[u8],
    content_type: Option<&str>,
    content_encoding: Option<&str>,
) -> Result<Option<T>, Error> {
    if body.trim_ascii() == b"null" {
        check_headers(content_type, content_encoding)?;
        return Ok(None);
    }
    parse_object(body, content_type, content_encoding)
}

/// Parses a JSON object. `None` if the body is empty.
fn parse_object<T: de::DeserializeOwned>(
    body: &[u8],
    content_type: Option<&str>,
    content_encoding: Option<&str>,
) -> Result<Option<T>, Error> {
    let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
    if !body.is_empty() {
        check_headers(content_type, content_encoding)?;
    }
    match first {
        None => return Ok(None),
        // serde would also accept an array for a struct.
        Some(b'{') => {}
        Some(_) => return Err(Error::invalid("the body must be a JSON object")),
    }
    let mut json = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| invalid(&error))?;
    json.end()
        .map_err(|_| Error::invalid("the body must be one JSON object with nothing after it"))?;
    Ok(Some(value))
}

/// Checks the headers that describe the body. API Gateway joins the values of a repeated header with commas.
fn check_headers(content_type: Option<&str>, content_encoding: Option<&str>) -> Result<(), Error> {
    let mut types = content_type.into_iter().flat_map(|value| value.split(','));
    if !types.all(is_json) {
        return Err(Error::UnsupportedMediaType);
    }
    let mut encodings = content_encoding
        .into_iter()
        .flat_map(|value| value.split(','));
    let is_identity = |encoding: &str| matches!(encoding.trim(), "" | "identity");
    if !encodings.all(|encoding| is_identity(&encoding.to_ascii_lowercase())) {
        return Err(Error::UnsupportedContentEncoding);
    }
    for (name, value) in [
        ("Content-Type", content_type),
        ("Content-Encoding", content_encoding),
    ] {
        if value.is_some_and(|value| value.contains(',')) {
            return Err(Error::invalid(format!(
                "send the header `{name}` only once"
            )));
        }
    }
    Ok(())
}

/// Whether a media type has JSON syntax: `application/json` or a type with the suffix `+json` (RFC 6839,
/// section 3.1).
fn is_json(content_type: &str) -> bool {
    let essence = content_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    essence == "application/json"
        || (essence.starts_with("application/") && essence.ends_with("+json"))
}

/// An error that names the field and the expected value. It quotes only the start of the input.
fn invalid(error: &serde_path_to_error::Error<serde_json::Error>) -> Error {
    let field = Some(error.path().to_string())
        .filter(|path| path != "." && path != "?")
        .map(|path| shorten(&path));
    let cause = error.inner();
    let cause_text = cause.to_string();
    let problem = match cause.classify() {
        Category::Data => match cause_text.rsplit_once("expected ") {
            Some((_, expected)) if cause_text.starts_with("invalid ") => {
                format!("must be {}", without_position(expected))
            }
            // The text names the field, which is unknown or a duplicate.
            _ => return Error::invalid(format!("in the body: {}", without_position(&cause_text))),
        },
        Category::Syntax | Category::Eof | Category::Io => {
            format!("is not valid JSON: {}", shorten(&cause_text))
        }
    };
    match field {
        Some(field) => Error::invalid(format!("`{field}` {problem}")),
        None => Error::invalid(format!("the body {problem}")),
    }
}

fn without_position(text: &str) -> String {
    shorten(
        text.rsplit_once(" at line ")
            .map_or(text, |(problem, _)| problem),
    )
}

fn shorten(text: &str) -> String {
    text.chars().take(MAX_ECHO).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message_of(body: &[u8]) -> String {
        match parse::<SendMessageBody>(body, None, None) {
            Err(Error::InvalidRequest(message)) => message,
            Err(other) => panic!("{other:?}"),
            Ok(_) => panic!("{body:?} was accepted"),
        }
    }

    #[test]
    fn an_error_names_the_invalid_field() {
        for (body, named) in [
            (&br#"{"text":5}"#[..], "`text` must be a string"),
            (br#"{"text":"a","text":"b"}"#, "duplicate field `text`"),
            (br#"{"text":null,"text":"b"}"#, "duplicate field `text`"),
            (br#"{"txet":"a"}"#, "unknown field `txet`"),
            (br#"{"text":"\ud800"}"#, "`text` is not valid JSON"),
            (b"{\"text\":\"\xff\"}", "`text` is not valid JSON"),
            (br#"{"text":"a""#, "the body is not valid JSON"),
            (br#"{"text":"a"}{"#, "one JSON object"),
            (br#"["a"]"#, "must be a JSON object"),
            (b"null", "must be a JSON object"),
            (b"", "a body is required"),
            (b"  ", "a body is required"),
        ] {
            let message = message_of(body);
            assert!(
                message.contains(named),
                "{message:?} does not contain {named:?}"
            );
        }
    }

    #[test]
    fn an_error_repeats_little_of_the_input() {
        let long = "x".repeat(10_000);
        assert!(message_of(format!(r#"{{"{long}":1}}"#).as_bytes()).len() < 200);
        let number = parse::<SendChatRequestBody>(
            format!(r#"{{"userId":"{long}"}}"#).as_bytes(),
            None,
            None,
        );
        assert!(number.err().unwrap().to_string().len() < 200);
    }

    #[test]
    fn only_media_types_with_json_syntax_are_accepted() {
        for json in [
            "application/json",
            "Application/JSON; charset=utf-8",
            "application/problem+json",
        ] {
            assert!(is_json(json), "{json}");
        }
        for other in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "text/json",
            "json",
            "",
        ] {
            assert!(!is_json(other), "{other}");
        }
    }

    #[test]
    fn a_body_with_another_content_type_is_unsupported_unless_it_is_empty() {
        let text = |body: &[u8]| parse::<SendMessageBody>(body, Some("text/plain"), None);
        let error = text(b"{}").err().unwrap();
        assert!(matches!(error, Error::UnsupportedMediaType), "{error:?}");
        let error = text(b"").err().unwrap();
        assert!(matches!(error, Error::InvalidRequest(_)), "{error:?}");
        assert!(parse::<SendMessageBody>(b"{}", Some("application/json"), None).is_ok());
        assert_eq!(MAX_BODY_BYTES, 65_536);
    }

    fn user(id: u64) -> UserId {
        UserId::new(id).unwrap()
    }

    fn error_of<T>(result: Result<T, Error>, body: &str) -> String {
        match result {
            Err(Error::InvalidRequest(message)) => message,
            Err(other) => panic!("{body}: {other:?}"),
            Ok(_) => panic!("{body} was accepted"),
        }
    }

    #[test]
    fn a_user_id_is_a_number_from_1_to_2_pow_53_minus_1() {
        let pair =
            |body: &str| parse::<SendChatRequestBody>(body.as_bytes(), None, None)?.pair(user(17));
        assert_eq!(pair(r#"{"userId":42}"#).unwrap().to_string(), "17-42");
        for body in [
            r#"{"userId":0}"#,
            r#"{"userId":9007199254740992}"#,
            r#"{"userId":"42"}"#,
            r#"{"userId":42.0}"#,
        ] {
            let expected = "`userId` must be a whole number from 1 to 9007199254740991";
            assert_eq!(error_of(pair(body), body), expected, "{body}");
        }
        for body in ["{}", r#"{"userId":17}"#] {
            let error = error_of(pair(body), body);
            assert!(error.contains("`userId`"), "{error}");
        }
    }

    #[test]
    fn in_an_edit_null_removes_a_part_and_an_absent_part_stays() {
        let change = |body: &str| parse::<EditMessageBody>(body.as_bytes(), None, None)?.change();
        assert_eq!(
            change(r#"{"text":"a","imageUrl":null}"#).unwrap(),
            ContentChange {
                text: Some(Some("a".to_owned())),
                image_url: Some(None),
                link_preview_url: None,
            }
        );
        assert_eq!(
            change(r#"{"linkPreviewUrl":"https://a.example/b"}"#).unwrap(),
            ContentChange {
                link_preview_url: Some(Some("https://a.example/b".to_owned())),
                ..ContentChange::default()
            }
        );
        for (body, named) in [
            ("{}", "`text`, `imageUrl` and `linkPreviewUrl`"),
            (r#"{"text":" "}"#, "`text`"),
            (r#"{"text":5}"#, "`text` must be a string"),
            (r#"{"imageUrl":"x"}"#, "`imageUrl`"),
            (r#"{"linkPreviewUrl":"x"}"#, "`linkPreviewUrl`"),
            (r#"{"text":null,"text":null}"#, "duplicate field `text`"),
            (r#"{"text":"a","text":"b"}"#, "duplicate field `text`"),
            (r#"{"text":"a","seq":7}"#, "unknown field `seq`"),
        ] {
            let error = error_of(change(body), body);
            assert!(error.contains(named), "{body}: {error}");
        }
    }

    #[test]
    fn all_messages_are_marked_as_read_unless_the_body_names_the_last_one() {
        let up_to = |body: &str| -> Result<Option<Seq>, Error> {
            let body: Option<MarkMessagesReadBody> = parse_optional(body.as_bytes(), None, None)?;
            Ok(body.unwrap_or_default().up_to())
        };
        for all in ["", " \n", "{}", "null", r#"{"seq":null}"#] {
            assert_eq!(up_to(all).unwrap(), None, "{all:?}");
        }
        assert_eq!(up_to(r#"{"seq":7}"#).unwrap(), Some(Seq::new(7)));
        let largest = up_to(r#"{"seq":9007199254740991}"#).unwrap();
        assert_eq!(largest, Some(Seq::new(MAX_SAFE_INTEGER)));
        for body in [
            r#"{"seq":0}"#,
            r#"{"seq":-1}"#,
            r#"{"seq":7.0}"#,
            r#"{"seq":"7"}"#,
            r#"{"seq":9007199254740992}"#,
        ] {
            let expected = "`seq` must be a whole number from 1 to 9007199254740991";
            assert_eq!(error_of(up_to(body), body), expected, "{body}");
        }
        for body in [r#"{"seq":7,"seq":7}"#, r#"{"upTo":7}"#, "[]", "hi"] {
            error_of(up_to(body), body);
        }
        let text = parse_optional::<MarkMessagesReadBody>(b"hi", Some("text/plain"), None);
        assert!(matches!(text, Err(Error::UnsupportedMediaType)));
        assert!(matches!(
            parse_optional::<MarkMessagesReadBody>(b"", Some("text/plain"), None),
            Ok(None)
        ));
    }

    fn report(body: &str) -> Result<NewReport, Error> {
        parse::<ReportBody>(body.as_bytes(), None, None)?.report(user(17))
    }

    #[test]
    fn a_report_has_a_user_and_a_reason_and_may_have_more() {
        let minimal = NewReport {
            reporter: user(17),
            chat: "17-42".parse().unwrap(),
            seq: None,
            reason: ReportReason::Spam,
            note: None,
            block: false,
        };
        for body in [
            r#"{"userId":42,"reason":"spam"}"#,
            r#"{"userId":42,"reason":"spam","seq":null,"note":null,"block":null}"#,
        ] {
            assert_eq!(report(body).unwrap(), minimal, "{body}");
        }
        let body = r#"{"userId":42,"reason":"self_harm","seq":9,"note":" as typed ","block":true}"#;
        let complete = NewReport {
            seq: Some(Seq::new(9)),
            reason: ReportReason::SelfHarm,
            note: Some(" as typed ".to_owned()),
            block: true,
            ..minimal
        };
        assert_eq!(report(body).unwrap(), complete);
    }

    #[test]
    fn an_invalid_report_is_rejected_by_field() {
        let reasons =
            "one of `spam`, `harassment`, `sexual`, `violence`, `self_harm`, `scam`, `other`";
        let required = format!("`reason` is required: {reasons}");
        let must_be = format!("`reason` must be {reasons}");
        for (body, named) in [
            (r#"{"reason":"spam"}"#, "`userId` is required"),
            (r#"{"userId":17,"reason":"spam"}"#, "`userId` must not be"),
            (r#"{"userId":"42","reason":"spam"}"#, "`userId` must be"),
            (r#"{"userId":42}"#, required.as_str()),
            (r#"{"userId":42,"reason":null}"#, "`reason` is required"),
            (r#"{"userId":42,"reason":"Spam"}"#, must_be.as_str()),
            (r#"{"userId":42,"reason":""}"#, must_be.as_str()),
            (r#"{"userId":42,"reason":"expected x"}"#, must_be.as_str()),
            (r#"{"userId":42,"reason":5}"#, must_be.as_str()),
            (
                r#"{"userId":42,"reason":"spam","seq":0}"#,
                "`seq` must be a whole number",
            ),
            (
                r#"{"userId":42,"reason":"spam","block":1}"#,
                "`block` must be a boolean",
            ),
            (
                r#"{"userId":42,"reason":"spam","note":1}"#,
                "`note` must be a string",
            ),
            (
                r#"{"userId":42,"reason":"spam","text":"a"}"#,
                "unknown field `text`",
            ),
        ] {
            let error = error_of(report(body), body);
            assert!(error.contains(named), "{body}: {error}");
        }
    }

    #[test]
    fn a_note_has_at_most_1000_code_points_of_any_width() {
        let with_note = |note: &str| {
            report(&format!(
                r#"{{"userId":42,"reason":"other","note":"{note}"}}"#
            ))
        };
        let longest = "👍".repeat(1_000);
        let note = with_note(&longest).unwrap().note;
        assert_eq!(note, Some(longest.clone()));
        assert_eq!(with_note("").unwrap().note.as_deref(), Some(""));
        let error = error_of(with_note(&format!("{longest}a")), "a long note");
        assert_eq!(error, "`note` must have at most 1000 code points");
    }
}
