//! The events that the functions receive from API Gateway and from the stream of the table.
//!
//! Only the members that are used are read, each as leniently as possible, because one odd member must not fail an
//! event. The types of `aws_lambda_events` read everything at once, and one unreadable record would fail its batch.

use std::collections::HashMap;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::{
    Error,
    domain::{Timestamp, UserId},
    store::Connection,
};

/// The event of a REQUEST authorizer.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AuthorizerEvent {
    /// The ARN of the route that the client wants to use.
    pub method_arn: String,
    #[serde(default)]
    headers: Option<HashMap<String, Option<String>>>,
}

impl AuthorizerEvent {
    /// A header, whose name API Gateway passes as the client wrote it.
    pub fn header(&self, name: &str) -> Option<&str> {
        let headers = self.headers.iter().flatten();
        let mut values = headers.filter(|(header, _)| header.eq_ignore_ascii_case(name));
        values.next()?.1.as_deref()
    }
}

/// A route of the WebSocket API, by the type of its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(super) enum Route {
    /// A handshake.
    #[serde(rename = "CONNECT")]
    Connect,
    /// The end of a connection.
    #[serde(rename = "DISCONNECT")]
    Disconnect,
    /// A frame of a client.
    #[serde(rename = "MESSAGE")]
    Default,
}

impl Route {
    /// The name of the route.
    pub fn key(self) -> &'static str {
        match self {
            Self::Connect => "$connect",
            Self::Disconnect => "$disconnect",
            Self::Default => "$default",
        }
    }
}

/// The event of a route: `$connect`, `$disconnect` or `$default`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RouteEvent {
    request_context: RouteContext,
    /// The frame of the client.
    #[serde(default)]
    pub body: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RouteContext {
    connection_id: String,
    event_type: Route,
    /// Milliseconds since 1970 UTC.
    connected_at: Option<u64>,
    authorizer: AuthorizerContext,
}

/// The context that `authorize-connection` returned. API Gateway passes numbers as strings.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AuthorizerContext {
    #[serde(deserialize_with = "number_or_text")]
    user_id: u64,
    /// Seconds since 1970 UTC.
    #[serde(deserialize_with = "number_or_text")]
    token_expires_at: u64,
}

impl RouteEvent {
    /// Reads an event of a route. A frame must not be taken for a handshake: a client that sends `$connect` as the
    /// type of a frame may choose that route, which no document of API Gateway excludes.
    ///
    /// # Errors
    /// [`Error::Internal`] if it cannot be read, [`Error::InvalidRequest`] if it is of another type.
    pub fn parse(payload: &str, expected: Route) -> Result<Self, Error> {
        let event: Self =
            serde_json::from_str(payload).map_err(|error| Error::Internal(Box::new(error)))?;
        if event.request_context.event_type == expected {
            Ok(event)
        } else {
            Err(Error::invalid("the event is of another route"))
        }
    }

    /// The user whose token opened the connection.
    pub fn user(&self) -> Result<UserId, Error> {
        let user = UserId::new(self.request_context.authorizer.user_id);
        user.ok_or_else(|| Error::Internal("the authorizer's context has no user".into()))
    }

    pub fn connection_id(&self) -> &str {
        &self.request_context.connection_id
    }

    /// The connection, as the handshake describes it.
    pub fn connection(&self, now: Timestamp) -> Connection {
        let context = &self.request_context;
        let connected_at = context.connected_at.map(Timestamp::from_millis);
        let expires_at = context.authorizer.token_expires_at.saturating_mul(1_000);
        Connection {
            id: context.connection_id.clone(),
            connected_at: connected_at.unwrap_or(now),
            token_expires_at: Timestamp::from_millis(expires_at),
        }
    }
}

/// A number, or a number in a string.
fn number_or_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum NumberOrText {
        Number(u64),
        Text(String),
    }
    match NumberOrText::deserialize(deserializer)? {
        NumberOrText::Number(number) => Ok(number),
        NumberOrText::Text(text) => text.parse().map_err(serde::de::Error::custom),
    }
}

/// A batch of the stream.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct StreamEvent<'a> {
    #[serde(borrow)]
    pub records: Vec<&'a RawValue>,
}

/// A change of an item.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StreamRecord {
    #[serde(rename = "eventID")]
    pub event_id: String,
    pub dynamodb: Change,
}

/// The item before and after the change.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Change {
    pub sequence_number: String,
    /// Seconds since 1970 UTC.
    #[serde(rename = "ApproximateCreationDateTime")]
    created_at: Option<f64>,
    pub new_image: Option<serde_dynamo::Item>,
    pub old_image: Option<serde_dynamo::Item>,
}

impl Change {
    /// When the change was made.
    pub fn at(&self) -> Option<Timestamp> {
        let seconds = std::time::Duration::try_from_secs_f64(self.created_at?).ok()?;
        Some(Timestamp::from_millis(0) + seconds)
    }
}

/// The members of a record that name it in the log, and in the response of a batch that failed in part.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct RecordName {
    dynamodb: ChangeName,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ChangeName {
    keys: serde_json::Value,
    sequence_number: serde_json::Value,
}

impl std::fmt::Display for RecordName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ChangeName {
            keys,
            sequence_number,
        } = &self.dynamodb;
        let pk = keys["pk"]["S"].as_str().unwrap_or("unknown key");
        let number = sequence_number.as_str().unwrap_or("unknown");
        write!(f, "record of {pk}, sequence number {number}")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_context_of_the_authorizer_may_contain_numbers_or_strings() {
        for (user, expiry) in [
            (json!("42"), json!("1790000000")),
            (json!(42), json!(1_790_000_000)),
        ] {
            let event = json!({"requestContext": {
                "eventType": "CONNECT", "connectionId": "abc=", "connectedAt": 1_700_000_000_123_u64, "other": null,
                "authorizer": {"userId": user, "tokenExpiresAt": expiry, "principalId": "42"},
            }});
            let event = RouteEvent::parse(&event.to_string(), Route::Connect).unwrap();
            assert_eq!(event.user().unwrap().get(), 42);
            let connection = event.connection(Timestamp::from_millis(1));
            assert_eq!(connection.id, "abc=");
            assert_eq!(connection.connected_at.millis(), 1_700_000_000_123);
            assert_eq!(connection.token_expires_at.seconds(), 1_790_000_000);
        }
        let without = json!({"requestContext": {"eventType": "CONNECT", "connectionId": "abc="}});
        assert!(RouteEvent::parse(&without.to_string(), Route::Connect).is_err());
    }

    #[test]
    fn a_frame_is_not_taken_for_a_handshake_or_the_end_of_a_connection() {
        let event = json!({"requestContext": {
            "eventType": "MESSAGE", "routeKey": "$connect", "connectionId": "abc=",
            "authorizer": {"userId": "42", "tokenExpiresAt": "1790000000"},
        }});
        let parse = |expected| RouteEvent::parse(&event.to_string(), expected);
        assert!(parse(Route::Default).is_ok());
        for other in [Route::Connect, Route::Disconnect] {
            let error = parse(other).err().unwrap();
            assert!(matches!(error, Error::InvalidRequest(_)), "{error}");
        }
    }

    #[test]
    fn a_header_is_found_however_its_name_is_written() {
        let event = json!({
            "methodArn": "arn", "headers": {"sec-WebSocket-Protocol": "chat.v1", "X": null},
        });
        let event: AuthorizerEvent = serde_json::from_value(event).unwrap();
        assert_eq!(event.header("Sec-WebSocket-Protocol"), Some("chat.v1"));
        assert_eq!(event.header("x"), None);
        assert_eq!(event.header("Origin"), None);
        let event: AuthorizerEvent =
            serde_json::from_value(json!({"methodArn": "arn", "headers": null})).unwrap();
        assert_eq!(event.header("Origin"), None);
    }

    #[test]
    fn a_record_contains_both_images_and_its_time() {
        let record = json!({
            "eventID": "7", "eventName": "MODIFY",
            "dynamodb": {
                "ApproximateCreationDateTime": 1_700_000_000.5, "SequenceNumber": "111",
                "Keys": {"pk": {"S": "CHAT#1-2"}, "sk": {"S": "STATE"}},
                "NewImage": {"seq": {"N": "3"}, "ok": {"BOOL": true}, "nested": {"M": {"a": {"NULL": true}}}},
                "OldImage": {"seq": {"N": "2"}},
            },
        });
        let record: StreamRecord = serde_json::from_value(record).unwrap();
        assert_eq!(record.event_id, "7");
        assert_eq!(record.dynamodb.sequence_number, "111");
        assert_eq!(record.dynamodb.at().unwrap().millis(), 1_700_000_000_500);
        assert!(record.dynamodb.new_image.is_some() && record.dynamodb.old_image.is_some());
    }

    #[test]
    fn an_unreadable_record_has_a_name() {
        for (record, expected) in [
            (json!({}), "record of unknown key, sequence number unknown"),
            (
                json!({"dynamodb": {"Keys": {"pk": {"S": "CHAT#1-2"}}, "SequenceNumber": "9"}}),
                "record of CHAT#1-2, sequence number 9",
            ),
        ] {
            let name: RecordName = serde_json::from_value(record).unwrap();
            assert_eq!(name.to_string(), expected);
        }
    }
}
