//! One authenticated request.

use base64::{Engine, engine::general_purpose::STANDARD};
use lambda_http::{Body, RequestExt, http::Request, request::RequestContext as EventContext};
use serde::de::DeserializeOwned;

use super::{body, event::Base64Body, query::Query};
use crate::{
    Error,
    domain::{ChatId, MAX_SAFE_INTEGER, Seq, UserId},
    store::{
        ChangesStart, ChatList, ChatPageStart, IdempotencyKey, InvalidIdempotencyKey,
        MessagePageStart, RequestDirection, Store,
    },
};

/// An authenticated request. The handler reads its parts with these methods, which return an error that
/// names the invalid part.
pub struct RequestContext {
    request: Request<Body>,
    caller: UserId,
    store: Store,
}

impl RequestContext {
    /// Decodes the body of a request.
    ///
    /// # Errors
    /// [`Error::BodyTooLarge`], or [`Error::InvalidRequest`] if the body is not valid base64.
    pub(super) fn new(
        mut request: Request<Body>,
        caller: UserId,
        store: Store,
    ) -> Result<Self, Error> {
        if request.extensions().get::<Base64Body>().is_some() {
            let decoded = STANDARD.decode(request.body());
            *request.body_mut() = decoded
                .map_err(|_| Error::invalid("the body is not valid base64"))?
                .into();
        }
        if request.body().len() > body::MAX_BODY_BYTES {
            return Err(Error::BodyTooLarge);
        }
        Ok(Self {
            request,
            caller,
            store,
        })
    }

    /// The authenticated user.
    #[must_use]
    pub fn caller(&self) -> UserId {
        self.caller
    }

    /// The store, with the time of this request.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The body, parsed from JSON.
    ///
    /// # Errors
    /// [`Error::UnsupportedMediaType`], or [`Error::InvalidRequest`] that names the invalid field.
    pub fn body<T: DeserializeOwned>(&self) -> Result<T, Error> {
        let (content_type, content_encoding) = self.body_headers();
        body::parse(self.request.body(), content_type, content_encoding)
    }

    /// The body, parsed from JSON. `None` if it is empty.
    ///
    /// # Errors
    /// The same as [`RequestContext::body`].
    pub fn optional_body<T: DeserializeOwned>(&self) -> Result<Option<T>, Error> {
        let (content_type, content_encoding) = self.body_headers();
        body::parse_optional(self.request.body(), content_type, content_encoding)
    }

    /// The `Idempotency-Key` header, if it is present.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`].
    pub fn idempotency_key(&self) -> Result<Option<IdempotencyKey>, Error> {
        let key = header(&self.request, "idempotency-key")
            .map(str::parse)
            .transpose();
        key.map_err(|error: InvalidIdempotencyKey| Error::invalid(error.to_string()))
    }

    /// The parameter `direction`; [`RequestDirection::Sent`] by default.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`].
    pub fn direction(&self) -> Result<RequestDirection, Error> {
        self.query().direction()
    }

    /// The start and the maximum length of a page of chats.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] that names the invalid parameter.
    pub fn chat_page(&self, list: ChatList) -> Result<(ChatPageStart, usize), Error> {
        self.query().chat_page(self.caller, list)
    }

    /// The start and the maximum length of a page of messages.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] that names the invalid parameter.
    pub fn message_page(&self) -> Result<(MessagePageStart, usize), Error> {
        // A cursor is bound to a chat. No cursor is valid if the path does not name a chat of the caller.
        self.query().message_page(self.caller, self.chat_id().ok())
    }

    /// The start and the maximum length of a page of changes.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] that names the invalid parameter.
    pub fn changes_page(&self) -> Result<(ChangesStart, usize), Error> {
        self.query().changes_page(self.caller, self.chat_id().ok())
    }

    /// The chat id in the path.
    ///
    /// # Errors
    /// [`Error::ChatNotFound`] unless it is the canonical id of a chat with the caller as a member.
    pub fn chat_id(&self) -> Result<ChatId, Error> {
        self.path_parameter("chatId")
            .and_then(|id| id.parse().ok())
            .filter(|id: &ChatId| id.has_member(self.caller))
            .ok_or(Error::ChatNotFound)
    }

    /// The `seq` in the path, or `None` if no message can have it: it is not a canonical number from 1. Whether the chat
    /// exists must be checked first.
    #[must_use]
    pub fn seq(&self) -> Option<Seq> {
        self.path_parameter("seq")
            .and_then(parse_canonical)
            .filter(|seq| *seq > 0)
            .map(Seq::new)
    }

    /// The pair of the caller and the user in the path.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] that names `userId`, unless it is the canonical id of another user.
    pub fn pair(&self) -> Result<ChatId, Error> {
        let id = self.path_parameter("userId");
        let user = id.and_then(|id| id.parse().ok()).ok_or_else(|| {
            Error::invalid(format!(
                "`userId` in the path must be a whole number from 1 to {MAX_SAFE_INTEGER}, without a sign \
                 and leading zeros"
            ))
        })?;
        body::pair(self.caller, user)
    }

    /// The headers that describe the body: `Content-Type` and `Content-Encoding`.
    fn body_headers(&self) -> (Option<&str>, Option<&str>) {
        let header = |name| header(&self.request, name);
        (header("content-type"), header("content-encoding"))
    }

    fn path_parameter(&self, name: &str) -> Option<&str> {
        self.request.path_parameters_ref()?.first(name)
    }

    fn query(&self) -> Query<'_> {
        Query::new(self.request.uri().query().unwrap_or_default())
    }
}

/// A number in canonical decimal (no sign, no leading zeros, no white space) from 0 to [`MAX_SAFE_INTEGER`].
pub(super) fn parse_canonical(text: &str) -> Option<u64> {
    let number: u64 = text.parse().ok()?;
    (number <= MAX_SAFE_INTEGER && number.to_string() == text).then_some(number)
}

/// The value of a header. It can contain characters beyond ASCII. It is always valid UTF-8, because it
/// comes from a JSON string.
pub(super) fn header<'a>(request: &'a Request<Body>, name: &str) -> Option<&'a str> {
    std::str::from_utf8(request.headers().get(name)?.as_bytes()).ok()
}

/// The route key of API Gateway, such as `GET /chats/{chatId}/messages`.
pub(super) fn route(request: &Request<Body>) -> &str {
    let Some(EventContext::ApiGatewayV2(context)) = request.request_context_ref() else {
        return "";
    };
    context.route_key.as_deref().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::{
        Client, Config,
        config::{BehaviorVersion, Credentials, Region},
    };
    use serde_json::json;

    use super::*;
    use crate::{aws, domain::Timestamp, http::event, store::TableClient};

    const CALLER: u64 = 17;

    /// A request with these path parameters, which does not use the table.
    fn request(path_parameters: &[(&str, &str)]) -> RequestContext {
        let parameters: serde_json::Map<_, _> = path_parameters
            .iter()
            .map(|(name, value)| ((*name).to_owned(), json!(value)))
            .collect();
        let event = json!({"routeKey": "GET /", "pathParameters": parameters}).to_string();
        let config = Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::new("us-east-1"))
            .credentials_provider(Credentials::new("x", "x", None, None, "test"))
            .http_client(aws::http_client(false))
            .build();
        let table = TableClient::new(Client::from_conf(config), "table");
        let store = table.store_at(Timestamp::from_millis(0));
        let request = event::to_request(&event).unwrap();
        RequestContext::new(request, UserId::new(CALLER).unwrap(), store).unwrap()
    }

    fn seq(seq: &str) -> Option<Seq> {
        request(&[("chatId", "17-42"), ("seq", seq)]).seq()
    }

    fn pair(user: &str) -> Result<ChatId, Error> {
        request(&[("userId", user)]).pair()
    }

    #[test]
    fn a_seq_in_the_path_is_a_canonical_number_of_at_least_1() {
        for good in ["1", "42", "9007199254740991"] {
            assert_eq!(seq(good).unwrap().to_string(), good);
        }
        for bad in [
            "",
            "0",
            "01",
            "+1",
            "-1",
            "1.0",
            " 1",
            "1%20",
            "read",
            "٣",
            "9007199254740992",
            "99999999999999999999999",
        ] {
            assert_eq!(seq(bad), None, "{bad:?}");
        }
        assert_eq!(request(&[("chatId", "17-42")]).seq(), None);
    }

    #[test]
    fn a_user_id_in_the_path_is_the_canonical_id_of_another_user() {
        assert_eq!(pair("42").unwrap().to_string(), "17-42");
        assert_eq!(pair("1").unwrap().to_string(), "1-17");
        for bad in [
            "",
            "0",
            "042",
            "+42",
            "x",
            "17-42",
            "9007199254740992",
            "17",
        ] {
            let error = pair(bad).unwrap_err();
            assert_eq!(error.status(), 400, "{bad:?}");
            assert!(error.to_string().contains("`userId`"), "{bad:?}: {error}");
        }
        assert_eq!(request(&[]).pair().unwrap_err().status(), 400);
    }
}
