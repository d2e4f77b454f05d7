//! Parses request bodies. A body is a JSON object with known fields of the right type, each at most once.
//! `null` is the same as absent.

use serde::{Deserialize, Deserializer, de};
use serde_json::error::Category;

use crate::{
    Error,
    domain::{MAX_SAFE_INTEGER, MessageContent, UserId},
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
    /// The recipient of the chat request.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] if it is missing.
    pub fn user_id(&self) -> Result<UserId, Error> {
        let id = self.user_id.as_ref().map(|id| id.0);
        id.ok_or_else(|| {
            Error::invalid("`userId` is required: the id of the user who receives the chat request")
        })
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

/// A user id as a JSON number.
struct UserIdNumber(UserId);

impl<'de> Deserialize<'de> for UserIdNumber {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = UserIdNumber;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "a whole number from 1 to {MAX_SAFE_INTEGER}")
            }

            fn visit_u64<E: de::Error>(self, id: u64) -> Result<UserIdNumber, E> {
                let invalid = || E::invalid_value(de::Unexpected::Unsigned(id), &self);
                UserId::new(id).map(UserIdNumber).ok_or_else(invalid)
            }
        }

        deserializer.deserialize_u64(Visitor)
    }
}

/// Parses a JSON body.
pub(super) fn parse<T: de::DeserializeOwned>(
    body: &[u8],
    content_type: Option<&str>,
    content_encoding: Option<&str>,
) -> Result<T, Error> {
    let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
    if !body.is_empty() {
        check_headers(content_type, content_encoding)?;
    }
    match first {
        None => return Err(Error::invalid("a body is required; send a JSON object")),
        // serde would also accept an array for a struct.
        Some(b'{') => {}
        Some(_) => return Err(Error::invalid("the body must be a JSON object")),
    }
    let mut json = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| invalid(&error))?;
    json.end()
        .map_err(|_| Error::invalid("the body must be one JSON object with nothing after it"))?;
    Ok(value)
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

    #[test]
    fn a_user_id_is_a_number_from_1_to_2_pow_53_minus_1() {
        let user =
            |body: &str| parse::<SendChatRequestBody>(body.as_bytes(), None, None)?.user_id();
        assert_eq!(user(r#"{"userId":42}"#).unwrap().get(), 42);
        for body in [
            r#"{"userId":0}"#,
            r#"{"userId":9007199254740992}"#,
            r#"{"userId":"42"}"#,
            r#"{"userId":42.0}"#,
        ] {
            let error = user(body).unwrap_err().to_string();
            let expected = "`userId` must be a whole number from 1 to 9007199254740991";
            assert_eq!(error, expected, "{body}");
        }
        assert!(user("{}").unwrap_err().to_string().contains("`userId`"));
    }
}
