//! Handles the frames of clients.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{
    event::RouteEvent,
    management::{ManagementClient, PostOutcome},
    protocol::{
        ByeReason, ClientFrame, ControlFrame, EventFrame, EventView, FrameErrorCode, RenewRequest,
        TypingRequest,
    },
};
use crate::{
    Error,
    auth::{Authenticator, LEEWAY_SECONDS, TokenError},
    domain::{Chat, ChatId, ChatStatus, Timestamp, UserId},
    error::ConfigError,
    http::log::PushCounts,
    store::{Connection, FrameAdmission, Store},
};

/// The response to a frame: the frame that API Gateway sends to the client, if any.
#[derive(Default)]
pub(super) struct FrameResponse {
    pub frame: Option<ControlFrame>,
    /// Why a new token was refused.
    pub token_error: Option<TokenError>,
    pub counts: PushCounts,
}

impl FrameResponse {
    fn with(frame: ControlFrame) -> Self {
        Self {
            frame: Some(frame),
            ..Self::default()
        }
    }

    fn error(code: FrameErrorCode, message: &str) -> Self {
        Self::with(ControlFrame::error(code, message))
    }
}

/// Handles the frames of clients.
pub(super) struct FrameHandler {
    authenticator: Authenticator,
    management: ManagementClient,
    /// Whether typing is passed on.
    typing: bool,
}

impl FrameHandler {
    /// `env` looks up `TYPING`: `on` or `off`.
    ///
    /// # Errors
    /// [`ConfigError`] if it has another value.
    pub fn new(
        authenticator: Authenticator,
        management: ManagementClient,
        env: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let typing = match env("TYPING").as_deref() {
            None | Some("" | "on") => true,
            Some("off") => false,
            Some(_) => return Err(ConfigError::new("TYPING", "must be on or off")),
        };
        Ok(Self {
            authenticator,
            management,
            typing,
        })
    }

    /// Handles a frame. A frame that is not valid costs no access to the table.
    pub async fn handle(
        &self,
        event: &RouteEvent,
        store: &Store,
        now: Timestamp,
    ) -> Result<FrameResponse, Error> {
        let (user, id) = (event.user()?, event.connection_id());
        let frame = match ClientFrame::parse(event.body.as_deref().unwrap_or_default()) {
            Ok(frame) => frame,
            Err(problem) => {
                return Ok(FrameResponse::error(FrameErrorCode::InvalidFrame, &problem));
            }
        };
        // A new token is accepted as long as the connection is open.
        let needs_valid_token = !matches!(frame, ClientFrame::Renew(_));
        match store.admit_frame(user, id, needs_valid_token).await? {
            FrameAdmission::Admitted => {}
            FrameAdmission::TokenExpired => {
                return Ok(self.close(id, ByeReason::TokenExpired).await);
            }
            // Events do not reach a connection that is not in the table.
            FrameAdmission::Unknown => return Ok(self.close(id, ByeReason::Behind).await),
            FrameAdmission::RateLimited => {
                let problem = "send at most one frame a second on average";
                return Ok(FrameResponse::error(FrameErrorCode::RateLimited, problem));
            }
        }
        match frame {
            ClientFrame::Sync(_) => {
                let totals = store.totals(user).await?;
                Ok(FrameResponse::with(ControlFrame::synced(totals, now)))
            }
            ClientFrame::Renew(request) => self.renew(user, id, &request, store, now).await,
            ClientFrame::Typing(request) => self.pass_on_typing(user, &request, store, now).await,
        }
    }

    async fn renew(
        &self,
        user: UserId,
        id: &str,
        request: &RenewRequest,
        store: &Store,
        now: Timestamp,
    ) -> Result<FrameResponse, Error> {
        let verified = self.authenticator.authenticate_token(&request.token, now);
        let verified = match verified.await {
            Ok(verified) if verified.user == user => verified,
            Ok(_) => {
                let problem = "the new token belongs to another user; open a connection with it";
                return Ok(FrameResponse::error(FrameErrorCode::Unauthorized, problem));
            }
            Err(error) => {
                let problem = "the new token is not valid; the connection keeps its old one";
                return Ok(FrameResponse {
                    token_error: Some(error),
                    ..FrameResponse::error(FrameErrorCode::Unauthorized, problem)
                });
            }
        };
        let renewed = store.renew_connection(user, id, verified.expires_at);
        Ok(match renewed.await? {
            Some(expires_at) => FrameResponse::with(ControlFrame::renewed(expires_at)),
            None => self.close(id, ByeReason::Behind).await,
        })
    }

    /// Sends a `typing` event to the other member. Where the chat does not allow messages, nothing happens, so that
    /// nobody learns of a block.
    async fn pass_on_typing(
        &self,
        user: UserId,
        request: &TypingRequest,
        store: &Store,
        now: Timestamp,
    ) -> Result<FrameResponse, Error> {
        let chat_id: Option<ChatId> = request.chat_id.parse().ok();
        let Some(chat_id) = chat_id.filter(|id| id.has_member(user)) else {
            let problem = "`chatId` must be the id of one of your chats";
            return Ok(FrameResponse::error(FrameErrorCode::InvalidFrame, problem));
        };
        if !self.typing {
            return Ok(FrameResponse::default());
        }
        let chat = store.chat_for_typing(chat_id).await?;
        if !chat.is_some_and(|chat| is_open(&chat)) {
            return Ok(FrameResponse::default());
        }
        let event = EventView::typing(Uuid::new_v4().to_string(), now, chat_id, user);
        let event = serde_json::value::to_raw_value(&event);
        let frame = event.and_then(|event: Box<RawValue>| EventFrame::json(&[&event]));
        let frame = frame.map_err(|error| Error::Internal(Box::new(error)))?;
        let mut connections = store.connections(chat_id.peer_of(user)).await?;
        connections.retain(|connection| !is_expired(connection, now));
        // A lost event is missed by nobody, so it is sent once.
        let posts = connections.iter();
        let posts = posts.map(|connection| self.management.post_once(&connection.id, &frame));
        let mut counts = PushCounts {
            events: 1,
            ..PushCounts::default()
        };
        for outcome in join_all(posts).await {
            match outcome {
                PostOutcome::Delivered => counts.frames += 1,
                // The next event of a chat deletes the connection.
                PostOutcome::Gone => counts.gone_connections += 1,
                PostOutcome::Behind(_) => {}
                PostOutcome::Forbidden(_) | PostOutcome::Rejected(_) => counts.push_failures += 1,
            }
        }
        Ok(FrameResponse {
            counts,
            ..FrameResponse::default()
        })
    }

    async fn close(&self, id: &str, reason: ByeReason) -> FrameResponse {
        let bye = ControlFrame::bye(reason).json();
        self.management.close(id, Some(&bye)).await;
        FrameResponse {
            counts: PushCounts {
                closed_connections: 1,
                ..PushCounts::default()
            },
            ..FrameResponse::default()
        }
    }
}

/// Whether messages can be sent in a chat.
fn is_open(chat: &Chat) -> bool {
    let members = [chat.id.low(), chat.id.high()];
    chat.status() == ChatStatus::Active && !members.iter().any(|member| chat.has_blocked(*member))
}

/// Whether the token of a connection expired longer ago than the leeway allows.
pub(super) fn is_expired(connection: &Connection, now: Timestamp) -> bool {
    connection.token_expires_at + Duration::from_secs(LEEWAY_SECONDS) < now
}
