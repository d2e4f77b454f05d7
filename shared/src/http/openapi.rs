//! The API as an OpenAPI 3.1 document, made from the types that are read and written here.
//!
//! Bodies and answers are the very structs of this crate, limits are the constants that are checked,
//! and a test compares the whole with `openapi.yaml`, which is what client developers read. It is behind
//! a feature, so that the deployed functions carry none of it.
//!
//! Answers are described without `additionalProperties: false`, as a new field is no change of the
//! contract; the tests hold answers to a strict copy.

mod operations;
mod schemas;

use serde_json::{Value, json};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        Components, Content, Header, Info, License, OpenApi, OpenApiBuilder, Paths, Ref, RefOr,
        Response, ResponseBuilder, Schema, Server,
        extensions::Extensions,
        schema::{AnyOfBuilder, ComponentsBuilder, ObjectBuilder, Type},
        security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
        server::{ServerBuilder, ServerVariableBuilder},
        tag::{Tag, TagBuilder},
    },
};

pub(super) use schemas::{
    ChatIdText, Count, Cursor, HttpsUrl, MessageId, Preview, RequestId, Seq, Text, Time,
    UserIdNumber, Watermark, always_false, always_true,
};

use super::{
    MarkedView, SendChatRequestBody, SendMessageBody, TotalsView, UnreadTotalView,
    reply::{ChatPageView, ErrorView, MessagePageView},
};
use crate::{
    Error,
    error::{Cause, Code},
};

const JSON: &str = "application/json";
const ACCESS_TOKEN: &str = "accessToken";
const INTRODUCTION: &str = include_str!("openapi/introduction.md");

/// The document.
#[must_use]
pub fn document() -> OpenApi {
    OpenApiBuilder::new()
        .info(info())
        .servers(Some(servers()))
        .security(Some([SecurityRequirement::new(ACCESS_TOKEN, [""; 0])]))
        .tags(Some(tags()))
        .paths(paths())
        .components(Some(components()))
        .build()
}

/// The document as YAML.
///
/// # Errors
/// When it cannot be written, which no part of it can cause.
pub fn yaml() -> Result<String, Cause> {
    // Many readers of YAML take a plain RFC 3339 time for a date; the examples are strings.
    let quoted = |line: &str| match line.rsplit_once(": ") {
        Some((key, value)) if humantime::parse_rfc3339(value).is_ok() => {
            format!("{key}: '{value}'\n")
        }
        _ => format!("{line}\n"),
    };
    Ok(document().to_yaml()?.lines().map(quoted).collect())
}

fn info() -> Info {
    let mut license = License::new("MIT OR Apache-2.0");
    license.identifier = Some("MIT OR Apache-2.0".to_owned());
    let mut info = Info::new("One-to-one chat", env!("CARGO_PKG_VERSION"));
    info.description = Some(INTRODUCTION.trim().to_owned());
    info.license = Some(license);
    info
}

fn servers() -> [Server; 2] {
    let variable = |default: &str, description: &str| {
        ServerVariableBuilder::new()
            .default_value(default)
            .description(Some(description))
    };
    let aws = ServerBuilder::new()
        .url("https://{api}.execute-api.{region}.amazonaws.com")
        .description(Some("A deployment: the stack's output `ApiUrl`"))
        .parameter("api", variable("a1b2c3d4e5", "The API's id"))
        .parameter("region", variable("eu-central-1", "The AWS region"));
    let mut local = Server::new("http://localhost:3000");
    local.description = Some("Your machine: `cargo run`".to_owned());
    [local, aws.build()]
}

fn tags() -> [Tag; 4] {
    [
        ("Requests", "Asking for a chat, and answering."),
        ("Chats", "The chats that are under way."),
        ("Messages", "Writing, reading, marking as read."),
        ("Totals", "What badges show."),
    ]
    .map(|(name, description)| {
        TagBuilder::new()
            .name(name)
            .description(Some(description))
            .build()
    })
}

fn paths() -> Paths {
    let mut paths = Paths::new();
    for (method, path, operation) in operations::all() {
        paths.add_path_operation(path, vec![method], operation);
    }
    paths
}

fn components() -> Components {
    let token = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("JWT")
        .description(Some(
            "`Authorization: Bearer <token>`: a signed JWT whose `sub` is the calling user's id. `cargo run \
             -- token 17` prints one for your machine.",
        ));
    let mut schemas = Vec::new();
    add::<ChatPageView<'_>>(&mut schemas);
    add::<MessagePageView<'_>>(&mut schemas);
    add::<TotalsView>(&mut schemas);
    add::<UnreadTotalView>(&mut schemas);
    add::<MarkedView>(&mut schemas);
    add::<SendChatRequestBody>(&mut schemas);
    add::<SendMessageBody>(&mut schemas);
    add::<ErrorView<'_>>(&mut schemas);
    let mut components = ComponentsBuilder::new()
        .schemas_from_iter(schemas)
        .schema(SendMessageBody::name(), new_message())
        .schema("GatewayMessage", gateway_message())
        .security_scheme(ACCESS_TOKEN, SecurityScheme::Http(token.build()));
    for code in Code::ALL {
        components = components.response(name(code), refusal(code));
    }
    components
        .response("headers_too_large", headers_too_large())
        .response("throttled", throttled())
        .build()
}

/// Adds a type's schema, and those of what it is made of.
fn add<T: ToSchema>(schemas: &mut Vec<(String, RefOr<Schema>)>) {
    schemas.push((T::name().into_owned(), T::schema()));
    T::schemas(schemas);
}

/// A code as the contract writes it.
fn name(code: Code) -> String {
    match serde_json::to_value(code) {
        Ok(Value::String(name)) => name,
        other => unreachable!("a code is a string: {other:?}"),
    }
}

fn refusal_ref(code: Code) -> Ref {
    Ref::from_response_name(name(code))
}

/// The answer with a code: [`ErrorView`] with this one in its place, so that programs can tell the
/// answers to a call apart by it.
fn refusal(code: Code) -> Response {
    let name = name(code);
    let mut schema = ErrorView::schema();
    if let RefOr::T(Schema::Object(object)) = &mut schema {
        let only = ObjectBuilder::new()
            .schema_type(Type::String)
            .enum_values(Some([name.clone()]));
        object.properties.insert("code".to_owned(), only.into());
        object.description = None;
    }
    // What the gateway itself refuses carries nothing but a message.
    let schema = match code {
        Code::Unauthorized
        | Code::BodyTooLarge
        | Code::TooManyPendingRequests
        | Code::Internal
        | Code::Unavailable => AnyOfBuilder::new()
            .item(schema)
            .item(Ref::from_schema_name("GatewayMessage"))
            .into(),
        _ => schema,
    };
    let (when, error) = about(code);
    let example = json!({
        "success": false,
        "code": name,
        "message": error.to_string(),
        "requestId": "8f5f1d0c-6a3e-4d5e-9a37-1d2f6c1f0b7e",
    });
    let content = Content::builder()
        .schema(Some(schema))
        .example(Some(example));
    let response = ResponseBuilder::new()
        .description(format!("`{name}`: {when}"))
        .content(JSON, content.build());
    match code {
        Code::Unauthorized => {
            let scheme = header_like(
                "The scheme to authenticate with; what the gateway answers itself may say more.",
                ObjectBuilder::new().schema_type(Type::String),
                json!("Bearer"),
            );
            response.header("WWW-Authenticate", scheme)
        }
        Code::MethodNotAllowed => {
            let methods = header_like(
                "The methods of the path.",
                ObjectBuilder::new().schema_type(Type::String),
                json!("GET, POST, HEAD, OPTIONS"),
            );
            response.header("Allow", methods)
        }
        Code::Unavailable => {
            let seconds = header_like(
                "Seconds to wait before the call is repeated. Not there when the gateway itself answers.",
                ObjectBuilder::new()
                    .schema_type(Type::Integer)
                    .minimum(Some(1)),
                json!(1),
            );
            response.header("Retry-After", seconds)
        }
        _ => response,
    }
    .build()
}

/// When a call is answered with the code, and such an error.
fn about(code: Code) -> (&'static str, Error) {
    use crate::domain::Refusal;
    match code {
        Code::InvalidRequest => (
            "the body, a parameter or a header cannot be. The message names it and says what it must be.",
            Error::invalid("`limit` must be a whole number from 1 to 100"),
        ),
        Code::Unauthorized => (
            "there is no access token, or none that is valid now.",
            Error::Unauthorized,
        ),
        Code::NotTheRecipient => (
            "only who was asked for the chat may answer.",
            Refusal::NotTheRecipient.into(),
        ),
        Code::ChatNotFound => (
            "the id is not that of a chat of the caller's. Whether others have such a chat is not told.",
            Error::ChatNotFound,
        ),
        Code::MethodNotAllowed => (
            "the path is known, the method is not one of its own. Answered before the token is looked at.",
            Error::MethodNotAllowed("GET, POST, HEAD, OPTIONS".to_owned()),
        ),
        Code::ChatActive => (
            "the chat is active, and can no longer be declined.",
            Refusal::ChatActive.into(),
        ),
        Code::ChatDeclined => (
            "the chat was declined. Who declined it may ask for it; the other member cannot.",
            Refusal::ChatDeclined.into(),
        ),
        Code::ChatNotActive => (
            "messages can be sent once the chat was accepted.",
            Refusal::ChatNotActive.into(),
        ),
        Code::BodyTooLarge => (
            "the body is larger than 64 KiB. Over 10 MB the gateway answers itself.",
            Error::BodyTooLarge,
        ),
        Code::UnsupportedMediaType => (
            "`Content-Type` says that the body is not JSON.",
            Error::UnsupportedMediaType,
        ),
        Code::IdempotencyKeyReused => (
            "another message was sent under this key within 24 hours.",
            Error::IdempotencyKeyReused,
        ),
        Code::TooManyPendingRequests => (
            "the caller has as many unanswered requests as one may have; 100, unless it is configured \
             otherwise. With only a `message`: the gateway throttles.",
            Error::TooManyPendingRequests(100),
        ),
        Code::Internal => (
            "a defect. With only a `message`: the gateway got no answer from the function. Whether the call \
             happened is not known.",
            Error::Internal("not told".into()),
        ),
        Code::Unavailable => (
            "the service is busy. The call happened whole or not at all: repeat it, with the same \
             `Idempotency-Key`.",
            Error::Unavailable("not told".into()),
        ),
    }
}

fn headers_too_large() -> Response {
    from_gateway(
        "The request line and headers are larger than 10 KB. The gateway answers.",
        "Request Header Fields Too Large",
    )
}

fn throttled() -> Response {
    from_gateway(
        "More calls a second than the deployment lets through. The gateway answers: wait and repeat.",
        "Too Many Requests",
    )
}

fn from_gateway(description: &str, message: &str) -> Response {
    let content = Content::builder()
        .schema(Some(Ref::from_schema_name("GatewayMessage")))
        .example(Some(json!({"message": message})));
    ResponseBuilder::new()
        .description(description)
        .content(JSON, content.build())
        .build()
}

fn gateway_message() -> Schema {
    let message = ObjectBuilder::new()
        .schema_type(Type::String)
        .description(Some("For a person."));
    ObjectBuilder::new()
        .schema_type(Type::Object)
        .description(Some(
            "What the gateway answers itself, before or instead of a function.",
        ))
        .property("message", message)
        .required("message")
        .into()
}

/// A header that says one of some words.
fn header_like(description: &str, schema: ObjectBuilder, example: Value) -> Header {
    Header::builder()
        .schema(Some(schema.build()))
        .description(Some(description))
        .example(Some(example))
        .build()
}

fn header(description: &str, words: &[&str]) -> Header {
    let schema = ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some(words.iter().copied()));
    Header::builder()
        .schema(Some(schema.build()))
        .description(Some(description))
        .build()
}

/// [`SendMessageBody`], and that one of its parts is not null, for which the derived schema has no words.
fn new_message() -> RefOr<Schema> {
    let part = |name: &str| json!({"required": [name], "properties": {name: {"type": "string"}}});
    let parts = json!([part("text"), part("imageUrl"), part("linkPreviewUrl")]);
    let mut schema = SendMessageBody::schema();
    if let RefOr::T(Schema::Object(object)) = &mut schema {
        object.extensions = Some(Extensions::from_iter([("anyOf", parts)]));
    }
    schema
}

/// A reference to the schema of a type, by the name it has in the document.
fn schema_ref<T: ToSchema>() -> Ref {
    Ref::from_schema_name(T::name())
}
