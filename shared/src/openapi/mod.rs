//! The OpenAPI 3.1 document of the API, generated from the types and limits in the code.
//!
//! The schemas are derived from the structs that the HTTP layer parses and serializes, and the limits are
//! the constants that it enforces. A test compares the result with `openapi.yaml`. This module is behind
//! a feature, so that the deployed functions do not contain it.
//!
//! A compatible version may return new fields, new values of a status and new error codes, and may raise
//! limits. So the schemas of responses set neither `additionalProperties: false` nor `enum` nor a maximum
//! length: many generated clients refuse a response that violates its schema. The known values of a status
//! or code are in `x-extensible-enum`, which code generators treat as a string. The alternative, `anyOf` of
//! the enumeration and a string, becomes a wrapper class in Java and Python. The tests validate responses
//! against a strict copy of the document.
//!
//! All errors have one schema. Clients in most languages get one class for it, and no union types, although
//! API Gateway's own errors have only a message. An operation has one response for each status, so a response
//! can have several error codes: they are in its description, and for programs in `x-error-codes`.

mod asyncapi;
mod operations;
mod samples;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        Components, Content, Header, HttpMethod, Info, License, OpenApi, OpenApiBuilder, Paths,
        Ref, RefOr, Response, ResponseBuilder, Schema, Server,
        extensions::Extensions,
        schema::{ComponentsBuilder, ObjectBuilder, Type},
        security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
        server::{ServerBuilder, ServerVariableBuilder},
        tag::{Tag, TagBuilder},
    },
};

pub use asyncapi::{asyncapi_document, asyncapi_yaml};
pub use samples::{SampleRequest, sample_requests};

use crate::{
    Error,
    auth::TokenError,
    error::{BoxError, ErrorCode},
    http::{
        ENDPOINTS, EditMessageBody, MarkMessagesReadBody, MarkedAsReadView, ReportBody,
        SendChatRequestBody, SendMessageBody, TotalsView, UnblockedView, UnreadTotalView,
        views::{
            BlockPageView, ChangePageView, ChatPageView, ErrorView, MessagePageView, ReportView,
        },
    },
};
use operations::Description;

const JSON: &str = "application/json";
const ACCESS_TOKEN: &str = "accessToken";
const INTRODUCTION: &str = include_str!("introduction.md");
/// The known values of a string that may get more values.
const EXTENSIBLE_ENUM: &str = "x-extensible-enum";
/// The error codes that a response can have.
const ERROR_CODES: &str = "x-error-codes";
/// The enumerations in responses.
const OPEN_ENUMS: [&str; 4] = ["ChatStatus", "ErrorCode", "MessageStatus", "ReportReason"];

/// The document.
#[must_use]
pub fn document() -> OpenApi {
    let descriptions: Vec<_> = ENDPOINTS.iter().map(operations::describe).collect();
    let components = components(&descriptions);
    OpenApiBuilder::new()
        .info(info())
        .servers(Some(servers()))
        .security(Some([SecurityRequirement::new(ACCESS_TOKEN, [""; 0])]))
        .tags(Some(tags()))
        .paths(paths(descriptions))
        .components(Some(components))
        .build()
}

/// The document as YAML.
///
/// # Errors
/// If it cannot be serialized.
pub fn to_yaml() -> Result<String, BoxError> {
    Ok(quote_times(&document().to_yaml()?))
}

/// Quotes times in a YAML document. Many YAML parsers read an unquoted RFC 3339 time as a date, but the examples
/// are strings.
fn quote_times(yaml: &str) -> String {
    let quoted = |line: &str| match line.rsplit_once(' ') {
        Some((before, value))
            if before.ends_with([':', '-']) && OffsetDateTime::parse(value, &Rfc3339).is_ok() =>
        {
            format!("{before} '{value}'\n")
        }
        _ => format!("{line}\n"),
    };
    yaml.lines().map(quoted).collect()
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
        .description(Some("A deployment: see the output `ApiUrl` of the stack"))
        .parameter("api", variable("a1b2c3d4e5", "The id of the API"))
        .parameter("region", variable("eu-central-1", "The AWS region"));
    let mut local = Server::new("http://localhost:3000");
    local.description = Some("The development server: `cargo run`".to_owned());
    [local, aws.build()]
}

fn tags() -> [Tag; 5] {
    [
        (
            "Requests",
            "Send, accept, decline and withdraw chat requests.",
        ),
        ("Chats", "Active chats, and single chats of any status."),
        (
            "Messages",
            "Send, list, edit and delete messages, and mark them as read.",
        ),
        ("Totals", "Counts for badges."),
        ("Safety", "Block and report users."),
    ]
    .map(|(name, description)| {
        TagBuilder::new()
            .name(name)
            .description(Some(description))
            .build()
    })
}

fn paths(descriptions: Vec<Description>) -> Paths {
    let mut paths = Paths::new();
    for (endpoint, description) in ENDPOINTS.iter().zip(descriptions) {
        let method = match endpoint.method {
            "GET" => HttpMethod::Get,
            "POST" => HttpMethod::Post,
            "PUT" => HttpMethod::Put,
            "PATCH" => HttpMethod::Patch,
            "DELETE" => HttpMethod::Delete,
            other => unreachable!("add the method {other} here"),
        };
        paths.add_path_operation(endpoint.path, vec![method], description.operation);
    }
    paths
}

fn components(descriptions: &[Description]) -> Components {
    let token = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("JWT")
        .description(Some(
            "`Authorization: Bearer <token>`: a signed JWT whose `sub` is the user id of the caller. `cargo run \
             -- token 17` prints one for the development server.",
        ));
    let mut schemas = Vec::new();
    add::<ChatPageView<'_>>(&mut schemas);
    add::<MessagePageView<'_>>(&mut schemas);
    add::<ChangePageView<'_>>(&mut schemas);
    add::<TotalsView>(&mut schemas);
    add::<UnreadTotalView>(&mut schemas);
    add::<MarkedAsReadView>(&mut schemas);
    add::<BlockPageView>(&mut schemas);
    add::<UnblockedView>(&mut schemas);
    add::<ReportView>(&mut schemas);
    add::<SendChatRequestBody>(&mut schemas);
    add::<SendMessageBody>(&mut schemas);
    add::<EditMessageBody>(&mut schemas);
    add::<MarkMessagesReadBody>(&mut schemas);
    add::<ReportBody>(&mut schemas);
    add::<ErrorView<'_>>(&mut schemas);
    for (name, schema) in &mut schemas {
        if OPEN_ENUMS.contains(&name.as_str()) {
            open_enum(schema);
        }
    }
    let mut components = ComponentsBuilder::new()
        .schemas_from_iter(schemas)
        .schema(
            SendMessageBody::name(),
            with_at_least_one_property::<SendMessageBody>(),
        )
        .schema(
            EditMessageBody::name(),
            with_at_least_one_property::<EditMessageBody>(),
        )
        .schema(ErrorView::name(), error())
        .security_scheme(ACCESS_TOKEN, SecurityScheme::Http(token.build()));
    let mut groups = BTreeSet::from(ErrorCode::ALL.map(|code| vec![code]));
    for description in descriptions {
        groups.extend(description.errors.iter().cloned());
    }
    for codes in groups {
        components = components.response(group_name(&codes), error_response(&codes));
    }
    components
        .response("headers_too_large", headers_too_large())
        .response("throttled", throttled())
        .build()
}

/// Adds the schema of a type and the schemas that it refers to.
fn add<T: ToSchema>(schemas: &mut Vec<(String, RefOr<Schema>)>) {
    schemas.push((T::name().into_owned(), T::schema()));
    T::schemas(schemas);
}

/// The text of an error code.
fn name(code: ErrorCode) -> String {
    match serde_json::to_value(code) {
        Ok(Value::String(name)) => name,
        other => unreachable!("an error code is serialized as a string: {other:?}"),
    }
}

/// The name of the response for these error codes, which have the same status.
fn group_name(codes: &[ErrorCode]) -> String {
    let names: Vec<_> = codes.iter().copied().map(name).collect();
    names.join("_or_")
}

fn error_response_ref(codes: &[ErrorCode]) -> Ref {
    Ref::from_response_name(group_name(codes))
}

/// The response for these error codes, which have the same status.
fn error_response(codes: &[ErrorCode]) -> Response {
    let description = |code: &ErrorCode| format!("`{}`: {}", name(*code), about(*code).0);
    let descriptions: Vec<_> = codes.iter().map(description).collect();
    let description = match &descriptions[..] {
        [description] => description.clone(),
        descriptions => format!("One of these:\n\n- {}", descriptions.join("\n- ")),
    };
    let example = codes.first().map(|code| {
        json!({
            "success": false,
            "code": name(*code),
            "message": about(*code).1.to_string(),
            "requestId": "8f5f1d0c-6a3e-4d5e-9a37-1d2f6c1f0b7e",
        })
    });
    let content = Content::builder()
        .schema(Some(schema_ref::<ErrorView<'_>>()))
        .example(example);
    let names: Vec<_> = codes.iter().copied().map(name).collect();
    let response = ResponseBuilder::new()
        .description(description)
        .content(JSON, content.build())
        .extensions(Some(Extensions::from_iter([(ERROR_CODES, names)])));
    match codes {
        [ErrorCode::Unauthorized] => {
            let scheme = header_with_schema(
                "The authentication scheme. If API Gateway itself sends the response, the value can contain more.",
                ObjectBuilder::new().schema_type(Type::String),
                json!("Bearer"),
            );
            response.header("WWW-Authenticate", scheme)
        }
        [ErrorCode::MethodNotAllowed] => {
            let methods = header_with_schema(
                "The methods that the path supports.",
                ObjectBuilder::new().schema_type(Type::String),
                json!("GET, POST, HEAD, OPTIONS"),
            );
            response.header("Allow", methods)
        }
        [ErrorCode::Unavailable] => {
            let seconds = header_with_schema(
                "Seconds to wait before a retry. Absent if API Gateway itself sends the response.",
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

/// When an error code is returned, and an example of the error.
#[expect(
    clippy::too_many_lines,
    reason = "a table with one entry for each code"
)]
fn about(code: ErrorCode) -> (&'static str, Error) {
    use crate::domain::TransitionError;
    match code {
        ErrorCode::InvalidRequest => (
            "the body, a parameter or a header is invalid. The message names it and says what is allowed.",
            Error::invalid("`limit` must be a whole number from 1 to 100"),
        ),
        ErrorCode::Unauthorized => (
            "the access token is missing or not valid.",
            Error::Unauthorized(TokenError::MissingToken),
        ),
        ErrorCode::NotTheRecipient => (
            "only the recipient of a chat request can accept or decline it.",
            TransitionError::NotTheRecipient.into(),
        ),
        ErrorCode::NotTheRequester => (
            "only the member who sent a chat request can withdraw it.",
            TransitionError::NotTheRequester.into(),
        ),
        ErrorCode::NotTheSender => (
            "only the sender of a message can edit or delete it.",
            TransitionError::NotTheSender.into(),
        ),
        ErrorCode::ChatNotFound => (
            "the id does not name a chat of the caller. The response does not tell whether other users have a chat with this id.",
            Error::ChatNotFound,
        ),
        ErrorCode::MessageNotFound => (
            "the chat has no message with this `seq`. In a report: or the message is not one of the reported user.",
            Error::MessageNotFound,
        ),
        ErrorCode::MethodNotAllowed => (
            "the path does not support this method. The method is checked before the access token.",
            Error::MethodNotAllowed("GET, POST, HEAD, OPTIONS".to_owned()),
        ),
        ErrorCode::ChatActive => (
            "the chat is active, so the request can no longer be declined or withdrawn.",
            TransitionError::ChatActive.into(),
        ),
        ErrorCode::ChatDeclined => (
            "the request was declined. Only the member who declined it can send a new request.",
            TransitionError::ChatDeclined.into(),
        ),
        ErrorCode::ChatWithdrawn => (
            "the request was withdrawn. Both members can send a new one.",
            TransitionError::ChatWithdrawn.into(),
        ),
        ErrorCode::ChatNotActive => (
            "messages can be sent after the request has been accepted.",
            TransitionError::ChatNotActive.into(),
        ),
        ErrorCode::MessageDeleted => (
            "the message was deleted and can no longer be edited.",
            TransitionError::MessageDeleted.into(),
        ),
        ErrorCode::EditWindowClosed => (
            "the message was sent too long ago to be edited (more than 24 hours by default).",
            TransitionError::EditWindowClosed.into(),
        ),
        ErrorCode::DeleteWindowClosed => (
            "the message was sent too long ago to be deleted. By default there is no limit.",
            TransitionError::DeleteWindowClosed.into(),
        ),
        ErrorCode::YouBlocked => (
            "the caller has blocked the other member.",
            TransitionError::YouBlocked.into(),
        ),
        ErrorCode::PeerUnavailable => (
            "the other member cannot receive messages. The response does not tell why.",
            TransitionError::PeerUnavailable.into(),
        ),
        ErrorCode::ChangesExpired => (
            "the service keeps changes for 90 days and no longer has all changes after this `rev`. Load the chat \
             again.",
            Error::ChangesExpired,
        ),
        ErrorCode::BodyTooLarge => (
            "the body is larger than 64 KiB. Above the limits of Lambda and API Gateway (from about 4.7 MB), \
             API Gateway itself sends the response, with only a `message`.",
            Error::BodyTooLarge,
        ),
        ErrorCode::UnsupportedMediaType => (
            "`Content-Type` is not JSON, or `Content-Encoding` is not `identity`.",
            Error::UnsupportedMediaType,
        ),
        ErrorCode::IdempotencyKeyReused => (
            "another message was sent with this key within 24 hours.",
            Error::IdempotencyKeyReused,
        ),
        ErrorCode::TooManyPendingRequests => (
            "the caller has reached the maximum number of open sent requests (100 by default). With only a \
             `message`: API Gateway throttles.",
            Error::TooManyPendingRequests(100),
        ),
        ErrorCode::Internal => (
            "a defect. With only a `message`: API Gateway got no response from the function, and the request \
             may or may not have been applied.",
            Error::Internal("not part of the response".into()),
        ),
        ErrorCode::Unavailable => (
            "the service is busy. The request was applied completely or not at all. Retry it with the same \
             `Idempotency-Key`. Or the message says that the operation is not enabled yet, because the deployment is \
             being upgraded: retry after the 5 minutes that `Retry-After` names.",
            Error::Unavailable("not part of the response".into()),
        ),
    }
}

fn headers_too_large() -> Response {
    from_gateway(
        "The request line and the headers are larger than 10 KB. API Gateway sends this response.",
        "Request Header Fields Too Large",
    )
}

fn throttled() -> Response {
    from_gateway(
        "The deployment receives more requests per second than it allows. API Gateway sends this response. Wait and retry.",
        "Too Many Requests",
    )
}

fn from_gateway(description: &str, message: &str) -> Response {
    let content = Content::builder()
        .schema(Some(schema_ref::<ErrorView<'_>>()))
        .example(Some(json!({"message": message})));
    ResponseBuilder::new()
        .description(description)
        .content(JSON, content.build())
        .build()
}

/// A response header with a schema.
fn header_with_schema(description: &str, schema: ObjectBuilder, example: Value) -> Header {
    Header::builder()
        .schema(Some(schema.build()))
        .description(Some(description))
        .example(Some(example))
        .build()
}

/// A response header that always has this value.
fn header(description: &str, value: &str) -> Header {
    header_with_schema(
        description,
        ObjectBuilder::new().schema_type(Type::String),
        json!(value),
    )
}

/// Replaces the closed list of values in a schema by a list that may grow.
fn open_enum(schema: &mut RefOr<Schema>) {
    let RefOr::T(Schema::Object(object)) = schema else {
        return;
    };
    let values = object.enum_values.take().unwrap_or_default();
    let names: Vec<_> = values
        .iter()
        .filter_map(Value::as_str)
        .map(|name| format!("`{name}`"))
        .collect();
    object.description = Some(format!(
        "{} Known values: {}. A later version may add values, so accept values that you do not know.",
        object.description.as_deref().unwrap_or_default(),
        names.join(", "),
    ));
    object.examples = values.first().cloned().into_iter().collect();
    object.extensions = Some(Extensions::from_iter([(EXTENSIBLE_ENUM, values)]));
}

/// The schema of [`ErrorView`] with the only field that API Gateway's own errors have as the only required
/// one.
fn error() -> RefOr<Schema> {
    let mut schema = ErrorView::schema();
    if let RefOr::T(Schema::Object(object)) = &mut schema {
        object.description = Some(
            "An error. The service itself always sends all four fields. Errors of API Gateway have only a \
             `message`; then use the status."
                .to_owned(),
        );
        object.required = vec!["message".to_owned()];
    }
    schema
}

/// The schema of a type with the rule that a message or an edit has at least one part, which a derived schema
/// cannot express.
///
/// That the part of a message must not be null is only in the description. The `anyOf` that would express it
/// becomes three classes in some clients, each of which can hold only one part of a message.
fn with_at_least_one_property<T: ToSchema>() -> RefOr<Schema> {
    let mut schema = T::schema();
    if let RefOr::T(Schema::Object(object)) = &mut schema {
        object.min_properties = Some(1);
    }
    schema
}

/// A reference to the schema of a type.
fn schema_ref<T: ToSchema>() -> Ref {
    Ref::from_schema_name(T::name())
}
