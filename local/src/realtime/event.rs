//! Builds the events that the functions of the WebSocket API receive.

use axum::http::{HeaderName, header, request};
use chat_shared::domain::Timestamp;
use serde_json::{Map, Value, json};

use crate::{
    gateway::{common_log_time, header_text, query_parameters},
    lambda::{new_id, new_trace_id},
};

const CONNECT: &str = "$connect";
const DEFAULT: &str = "$default";
const DISCONNECT: &str = "$disconnect";

/// What the events of one connection have in common.
pub(super) struct Handshake {
    pub connection_id: String,
    pub connected_at: Timestamp,
    pub source_ip: String,
    pub user_agent: String,
    stage: String,
    domain_name: String,
    headers: Map<String, Value>,
    multi_value_headers: Map<String, Value>,
    query: Map<String, Value>,
    /// The context that the authorizer returned, with its principal.
    pub authorizer: Map<String, Value>,
}

impl Handshake {
    /// The connection that a client requests.
    pub fn new(
        parts: &request::Parts,
        connection_id: String,
        stage: &str,
        source_ip: &str,
        now: Timestamp,
    ) -> Self {
        let mut multi_value_headers = Map::new();
        let names = parts.headers.keys();
        // API Gateway does not pass on the two headers that are about the HTTP connection alone.
        let names = names.filter(|name| *name != header::CONNECTION && *name != header::UPGRADE);
        for name in names {
            let values = parts.headers.get_all(name).iter().map(header_text);
            let values: Vec<_> = values.collect();
            multi_value_headers.insert(name_in_event(name), values.into());
        }
        for (name, value) in [
            ("X-Forwarded-For", source_ip.to_owned()),
            ("X-Forwarded-Port", "443".to_owned()),
            ("X-Forwarded-Proto", "https".to_owned()),
            ("X-Amzn-Trace-Id", new_trace_id()),
        ] {
            multi_value_headers.insert(name.to_owned(), json!([value]));
        }
        // `headers` has only the last value of a repeated header.
        let last = |(name, values): (&String, &Value)| {
            let values = values.as_array()?;
            Some((name.clone(), values.last()?.clone()))
        };
        let headers: Map<String, Value> = multi_value_headers.iter().filter_map(last).collect();
        let text = |name: &str| {
            let value = headers.get(name).and_then(Value::as_str);
            value.unwrap_or_default().to_owned()
        };
        let query = query_parameters(parts.uri.query().unwrap_or_default());
        Self {
            connection_id,
            connected_at: now,
            source_ip: source_ip.to_owned(),
            user_agent: text("User-Agent"),
            stage: stage.to_owned(),
            domain_name: text("Host"),
            query: query
                .into_iter()
                .map(|(name, value)| (name, value.into()))
                .collect(),
            headers,
            multi_value_headers,
            authorizer: Map::new(),
        }
    }

    /// The event of the authorizer.
    pub fn authorizer_event(&self, now: Timestamp) -> Value {
        let mut event = self.with_headers(json!({
            "type": "REQUEST",
            "methodArn": self.method_arn(),
            "requestContext": self.context(CONNECT, "CONNECT", now),
        }));
        if !self.query.is_empty() {
            event["queryStringParameters"] = self.query.clone().into();
        }
        event
    }

    /// The event of `$connect`.
    pub fn connect_event(&self, now: Timestamp) -> Value {
        let mut event = self.with_headers(json!({
            "requestContext": self.authorized_context(CONNECT, "CONNECT", now),
            "isBase64Encoded": false,
        }));
        if !self.query.is_empty() {
            event["queryStringParameters"] = self.query.clone().into();
        }
        event
    }

    /// The event of a message of the client.
    pub fn message_event(&self, text: &str, now: Timestamp) -> Value {
        let mut context = self.authorized_context(DEFAULT, "MESSAGE", now);
        context["messageId"] = new_id().into();
        json!({"requestContext": context, "body": text, "isBase64Encoded": false})
    }

    /// The event of `$disconnect`.
    pub fn disconnect_event(&self, status: u16, reason: &str, now: Timestamp) -> Value {
        let mut context = self.authorized_context(DISCONNECT, "DISCONNECT", now);
        context["disconnectStatusCode"] = status.into();
        context["disconnectReason"] = reason.into();
        self.with_headers(json!({"requestContext": context, "isBase64Encoded": false}))
    }

    fn method_arn(&self) -> String {
        let stage = &self.stage;
        format!("arn:aws:execute-api:us-east-1:000000000000:local/{stage}/{CONNECT}")
    }

    fn with_headers(&self, mut event: Value) -> Value {
        event["headers"] = self.headers.clone().into();
        event["multiValueHeaders"] = self.multi_value_headers.clone().into();
        event
    }

    fn authorized_context(&self, route_key: &str, event_type: &str, now: Timestamp) -> Value {
        let mut context = self.context(route_key, event_type, now);
        context["authorizer"] = self.authorizer.clone().into();
        context
    }

    fn context(&self, route_key: &str, event_type: &str, now: Timestamp) -> Value {
        let request_id = new_id();
        json!({
            "routeKey": route_key,
            "eventType": event_type,
            "connectionId": self.connection_id,
            "connectedAt": self.connected_at.millis(),
            "requestTimeEpoch": now.millis(),
            "requestTime": common_log_time(now),
            "requestId": request_id,
            "extendedRequestId": request_id,
            "messageDirection": "IN",
            "stage": self.stage,
            "domainName": self.domain_name,
            "apiId": "local",
            "identity": {"sourceIp": self.source_ip, "userAgent": self.user_agent},
        })
    }
}

/// The name of a header as most clients write it: `Sec-WebSocket-Protocol`.
///
/// API Gateway passes names as the client wrote them. Here they arrive in lower case. With these names, a function that
/// relies on lower case fails here, too.
fn name_in_event(name: &HeaderName) -> String {
    let capitalized = |word: &str| {
        if word == "websocket" {
            return "WebSocket".to_owned();
        }
        let mut characters = word.chars();
        let first = characters.next().map(|first| first.to_ascii_uppercase());
        first.into_iter().chain(characters).collect()
    };
    let words: Vec<String> = name.as_str().split('-').map(capitalized).collect();
    words.join("-")
}

#[cfg(test)]
mod tests {
    use axum::extract::Request;

    use super::*;

    fn handshake() -> Handshake {
        let request = Request::get("/live?a=b%20c")
            .header("host", "localhost:3000")
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-protocol", "chat.v1")
            .header("sec-websocket-protocol", "TOKEN")
            .header("user-agent", "a test");
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let now = Timestamp::from_millis(1_000);
        Handshake::new(&parts, "id=".to_owned(), "live", "127.0.0.1", now)
    }

    #[test]
    fn the_authorizer_receives_the_headers_of_the_handshake() {
        let event = handshake().authorizer_event(Timestamp::from_millis(2_000));
        assert_eq!(event["type"], "REQUEST");
        assert_eq!(
            event["methodArn"],
            "arn:aws:execute-api:us-east-1:000000000000:local/live/$connect"
        );
        assert_eq!(event["headers"]["Sec-WebSocket-Protocol"], "TOKEN");
        let protocols = &event["multiValueHeaders"]["Sec-WebSocket-Protocol"];
        assert_eq!(*protocols, json!(["chat.v1", "TOKEN"]));
        assert_eq!(event["headers"].get("Upgrade"), None);
        assert_eq!(event["queryStringParameters"], json!({"a": "b c"}));
        let context = &event["requestContext"];
        assert_eq!(context["connectionId"], "id=");
        assert_eq!(context["connectedAt"], 1_000);
        assert_eq!(context["requestTimeEpoch"], 2_000);
        assert_eq!(context["domainName"], "localhost:3000");
        assert_eq!(context["identity"]["userAgent"], "a test");
        assert_eq!(context.get("authorizer"), None);
    }

    #[test]
    fn the_events_of_routes_have_the_context_of_the_authorizer() {
        let mut handshake = handshake();
        handshake
            .authorizer
            .insert("userId".to_owned(), json!("42"));
        let now = Timestamp::from_millis(2_000);
        let message = handshake.message_event("{}", now);
        assert_eq!(message["body"], "{}");
        assert_eq!(message.get("headers"), None);
        assert_eq!(message["requestContext"]["routeKey"], "$default");
        assert!(message["requestContext"]["messageId"].is_string());
        let disconnect = handshake.disconnect_event(1001, "Going away", now);
        assert_eq!(disconnect["requestContext"]["disconnectStatusCode"], 1001);
        assert!(disconnect["headers"].is_object());
        for event in [message, disconnect, handshake.connect_event(now)] {
            let authorizer = &event["requestContext"]["authorizer"];
            assert_eq!(*authorizer, json!({"userId": "42"}));
        }
    }
}
