//! One authenticated request.

use base64::{Engine, engine::general_purpose::STANDARD};
use lambda_http::{Body, RequestExt, http::Request, request::RequestContext as EventContext};
use serde::de::DeserializeOwned;

use super::{body, event::Base64Body, query::Query};
use crate::{
    Error,
    domain::{ChatId, UserId},
    store::{
        ChatList, ChatPageStart, IdempotencyKey, InvalidIdempotencyKey, MessagePageStart,
        RequestDirection, Store,
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
        let header = |name| header(&self.request, name);
        body::parse(
            self.request.body(),
            header("content-type"),
            header("content-encoding"),
        )
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

    /// The chat id in the path.
    ///
    /// # Errors
    /// [`Error::ChatNotFound`] unless it is the canonical id of a chat with the caller as a member.
    pub fn chat_id(&self) -> Result<ChatId, Error> {
        let parameters = self.request.path_parameters_ref();
        let id = parameters.and_then(|parameters| parameters.first("chatId"));
        id.and_then(|id| id.parse().ok())
            .filter(|id: &ChatId| id.has_member(self.caller))
            .ok_or(Error::ChatNotFound)
    }

    fn query(&self) -> Query<'_> {
        Query::new(self.request.uri().query().unwrap_or_default())
    }
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
