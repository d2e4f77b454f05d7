//! Sample events for `sam local invoke`: generates the files in `events/`, and inserts a fresh token
//! into one of them.
//!
//! A token in a file would expire, and the resulting 401 would hide every other problem. So the files
//! contain a placeholder such as `TOKEN_OF_42`, which is replaced when an event is used.
//!
//! The events of functions that serve no endpoint (API Gateway's WebSocket events, and records of the
//! table's stream) are not generated. Their placeholder, if they have one, is `TOKEN`.

use std::collections::BTreeMap;

use chat_shared::{
    domain::{Timestamp, UserId},
    http::ENDPOINTS,
    openapi::{SampleRequest, sample_requests},
};
use serde::Serialize;

use crate::{
    Error,
    gateway::{common_log_time, query_parameters},
    template::workspace_root,
};

const PLACEHOLDER: &str = "TOKEN_OF_";
/// The placeholder for a token in the event of a function that serves no endpoint.
const ANONYMOUS_PLACEHOLDER: &str = "TOKEN";
/// The user whose token replaces it by default.
const DEFAULT_USER: u64 = 42;
const HOST: &str = "localhost";
/// 1 January 2026. The files must not change each time that they are generated.
const TIME: u64 = 1_767_225_600_000;

/// The sample event of a function, by its binary's name, with a fresh token for `user`, by default
/// for the user that the file names.
///
/// # Errors
/// When there is no such event, or `sign` fails.
pub fn event(
    function: &str,
    user: Option<UserId>,
    sign: impl FnOnce(UserId) -> Result<String, Error>,
) -> Result<String, Error> {
    let path = workspace_root()
        .join("events")
        .join(format!("{function}.json"));
    let event = std::fs::read_to_string(&path).map_err(|error| {
        let path = path.display();
        Error::new(format!(
            "there is no sample event for {function} ({path}: {error}); list them with \
             `cargo run -- events`"
        ))
    })?;
    let serves_endpoint = ENDPOINTS.iter().any(|endpoint| endpoint.name == function);
    if !serves_endpoint && !event.contains(PLACEHOLDER) {
        return insert_token(event, user, sign);
    }
    let caller_in_file = || {
        let (_, after) = event.split_once(PLACEHOLDER)?;
        let digits = after.find(|c: char| !c.is_ascii_digit())?;
        after[..digits].parse::<UserId>().ok()
    };
    let caller_in_file = caller_in_file().ok_or_else(|| {
        let path = path.display();
        Error::new(format!(
            "{path} has no placeholder for a token, such as {PLACEHOLDER}42; restore the file with \
             `cargo run -- generate`"
        ))
    })?;
    let token = sign(user.unwrap_or(caller_in_file))?;
    Ok(event.replace(&format!("{PLACEHOLDER}{caller_in_file}"), &token))
}

/// The event of a function that serves no endpoint, with a token if it has a placeholder for one.
fn insert_token(
    event: String,
    user: Option<UserId>,
    sign: impl FnOnce(UserId) -> Result<String, Error>,
) -> Result<String, Error> {
    if !event.contains(ANONYMOUS_PLACEHOLDER) {
        return Ok(event);
    }
    let user = user.or_else(|| UserId::new(DEFAULT_USER));
    let user = user.ok_or_else(|| Error::new("the sample user is not valid"))?;
    Ok(event.replace(ANONYMOUS_PLACEHOLDER, &sign(user)?))
}

/// All sample events, as file name and content.
#[must_use]
pub fn generate() -> Vec<(String, String)> {
    let samples = sample_requests();
    let file = |sample: &SampleRequest| {
        let name = format!("{}.json", sample.endpoint.name);
        (name, to_json(&SampleEvent::new(sample)))
    };
    samples.iter().map(file).collect()
}

fn to_json(event: &SampleEvent) -> String {
    let json = serde_json::to_string_pretty(event).expect("strings and numbers are valid JSON");
    json + "\n"
}

/// The query string of a sample request, so that the events show how parameters reach a function.
fn query_string(function: &str) -> &'static str {
    match function {
        "list-pending-requests" => "direction=received",
        "list-messages" => "limit=15",
        "list-changes" => "after=0",
        _ => "",
    }
}

/// An event in payload format 2.0. A struct fixes the order of the fields in the file.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SampleEvent {
    version: &'static str,
    route_key: String,
    raw_path: String,
    raw_query_string: &'static str,
    headers: Headers,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    query_string_parameters: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    path_parameters: BTreeMap<&'static str, &'static str>,
    request_context: RequestContext,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    is_base64_encoded: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Headers {
    authorization: String,
    host: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    idempotency_key: Option<&'static str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RequestContext {
    account_id: &'static str,
    api_id: &'static str,
    domain_name: &'static str,
    domain_prefix: &'static str,
    http: Http,
    request_id: &'static str,
    route_key: String,
    stage: &'static str,
    time: String,
    time_epoch: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Http {
    method: &'static str,
    path: String,
    protocol: &'static str,
    source_ip: &'static str,
    user_agent: &'static str,
}

impl SampleEvent {
    fn new(sample: &SampleRequest) -> Self {
        let endpoint = sample.endpoint;
        let path = sample.path();
        let route_key = format!("{} {}", endpoint.method, endpoint.path);
        let query = query_string(endpoint.name);
        Self {
            version: "2.0",
            route_key: route_key.clone(),
            raw_path: path.clone(),
            raw_query_string: query,
            headers: Headers {
                authorization: format!("Bearer {PLACEHOLDER}{}", sample.caller),
                host: format!("{HOST}:3000"),
                content_type: sample.body.as_ref().map(|_| "application/json"),
                idempotency_key: sample.idempotency_key,
            },
            query_string_parameters: query_parameters(query),
            path_parameters: sample.path_parameters.iter().copied().collect(),
            request_context: RequestContext {
                account_id: "000000000000",
                api_id: "local",
                domain_name: HOST,
                domain_prefix: HOST,
                http: Http {
                    method: endpoint.method,
                    path,
                    protocol: "HTTP/1.1",
                    source_ip: "127.0.0.1",
                    user_agent: "sample",
                },
                request_id: "sample",
                route_key,
                stage: "$default",
                time: common_log_time(Timestamp::from_millis(TIME)),
                time_epoch: TIME,
            },
            body: sample.body.as_ref().map(ToString::to_string),
            is_base64_encoded: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    #[test]
    fn each_endpoint_has_one_sample_event() {
        let names: Vec<_> = generate().into_iter().map(|(name, _)| name).collect();
        let expected: BTreeSet<_> = ENDPOINTS
            .iter()
            .map(|endpoint| format!("{}.json", endpoint.name))
            .collect();
        assert_eq!(names.len(), expected.len());
        assert_eq!(BTreeSet::from_iter(names), expected);
    }

    #[test]
    fn an_event_without_an_endpoint_gets_a_token_only_if_it_has_a_placeholder() {
        let sign = |user: UserId| Ok(format!("token-{user}"));
        let event = |text: &str, user: Option<u64>| {
            insert_token(text.to_owned(), user.and_then(UserId::new), sign).unwrap()
        };
        let handshake = r#"{"Sec-WebSocket-Protocol":"chat.v1, TOKEN"}"#;
        assert!(event(handshake, None).contains("chat.v1, token-42"));
        assert!(event(handshake, Some(17)).contains("chat.v1, token-17"));
        let records = r#"{"Records":[],"tokenExpiresAt":1}"#;
        assert_eq!(event(records, Some(17)), records);
    }

    #[test]
    fn a_sample_event_fills_the_path_and_names_its_caller() {
        let events = BTreeMap::from_iter(generate());
        let text = &events["send-message.json"];
        let event: Value = serde_json::from_str(text).unwrap();
        assert_eq!(event["routeKey"], "POST /chats/{chatId}/messages");
        let chat = event["pathParameters"]["chatId"].as_str().unwrap();
        assert_eq!(event["rawPath"], format!("/chats/{chat}/messages"));
        let authorization = event["headers"]["authorization"].as_str().unwrap();
        assert!(authorization.starts_with("Bearer TOKEN_OF_"));
        assert_eq!(event["headers"]["content-type"], "application/json");
        assert!(text.starts_with("{\n  \"version\": \"2.0\",\n  \"routeKey\""));
        assert!(text.ends_with("\n}\n"));

        let edit: Value = serde_json::from_str(&events["edit-message.json"]).unwrap();
        assert_eq!(edit["requestContext"]["http"]["method"], "PATCH");
        let parameters = &edit["pathParameters"];
        let (chat, seq) = (&parameters["chatId"], &parameters["seq"]);
        let path = format!(
            "/chats/{}/messages/{}",
            chat.as_str().unwrap(),
            seq.as_str().unwrap()
        );
        assert_eq!(edit["rawPath"], path);

        let list: Value = serde_json::from_str(&events["list-messages.json"]).unwrap();
        assert_eq!(list["queryStringParameters"]["limit"], "15");
        let totals: Value = serde_json::from_str(&events["get-totals.json"]).unwrap();
        for absent in ["pathParameters", "queryStringParameters", "body"] {
            assert_eq!(totals.get(absent), None, "{absent}");
        }
    }
}
