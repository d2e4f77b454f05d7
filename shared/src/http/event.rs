use std::collections::HashMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;

use super::MAX_BODY_BYTES;
use crate::Error;

/// What is read of an API Gateway HTTP API event, payload format 2.0. The gateway lower-cases header
/// names, joins repeated headers with commas, and decodes path parameters.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    #[serde(default)]
    route_key: String,
    #[serde(default)]
    request_context: RequestContext,
    #[serde(default)]
    raw_query_string: String,
    #[serde(default)]
    headers: HashMap<String, String>,
    #[serde(default)]
    path_parameters: HashMap<String, String>,
    #[serde(default)]
    body: Option<String>,
    #[serde(default)]
    is_base64_encoded: bool,
}

#[derive(Default, Deserialize)]
struct RequestContext {
    #[serde(default)]
    http: Http,
}

#[derive(Default, Deserialize)]
struct Http {
    #[serde(default)]
    method: String,
}

impl Event {
    /// A header by its name. The gateway lower-cases names; `sam local` leaves them as they came.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The route as the template writes it: `GET /chats/{chatId}/messages`.
    pub(super) fn route(&self) -> &str {
        &self.route_key
    }

    /// The method as the client sent it, which the route may leave open (`ANY`).
    pub(super) fn method(&self) -> &str {
        &self.request_context.http.method
    }

    /// A path parameter, decoded.
    pub(super) fn path_parameter(&self, name: &str) -> Option<&str> {
        self.path_parameters.get(name).map(String::as_str)
    }

    /// The query as the client sent it.
    pub(super) fn query(&self) -> &str {
        &self.raw_query_string
    }

    /// Takes the body, decoded; empty when there is none.
    pub(super) fn take_body(&mut self) -> Result<Vec<u8>, Error> {
        let body = self.body.take().unwrap_or_default();
        let body = if self.is_base64_encoded {
            STANDARD
                .decode(body)
                .map_err(|_| Error::invalid("the body is not valid base64"))?
        } else {
            body.into_bytes()
        };
        if body.len() > MAX_BODY_BYTES {
            Err(Error::BodyTooLarge)
        } else {
            Ok(body)
        }
    }
}
