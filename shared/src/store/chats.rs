//! Chat requests: sending, accepting and declining them, and the cap on open requests.

use aws_sdk_dynamodb::types::AttributeValue;

use super::{
    Store,
    items::{ChatItem, OpenRequestsItem, TotalsItem},
    read_chat,
    transaction::{Write, number},
};
use crate::{
    Error,
    domain::{Chat, ChatId, Transition, TransitionError, UserId},
};

/// The outcome of a chat request.
pub enum RequestOutcome {
    /// The pair had no chat.
    Created(Chat),
    /// The pair had a chat. Contains its current state, which the request may have changed.
    Existing(Chat),
}

impl Store {
    /// `requester` sends a chat request to the other member of the chat `id`.
    ///
    /// Most requests are the first of their pair. The transaction therefore assumes that the pair has no
    /// chat. If there is one, the failed condition returns it, and no separate read is needed.
    ///
    /// # Errors
    /// [`TransitionError::ChatDeclined`] if the other member has declined a request of `requester`;
    /// [`Error::TooManyPendingRequests`].
    pub async fn request_chat(
        &self,
        requester: UserId,
        id: ChatId,
    ) -> Result<RequestOutcome, Error> {
        let mut current: Option<Chat> = None;
        loop {
            let next = match &current {
                None => Chat::new_request(id, requester, self.now),
                Some(chat) => match chat.request(requester, self.now)? {
                    Transition::Unchanged => return Ok(RequestOutcome::Existing(chat.clone())),
                    Transition::To(next) => next,
                },
            };
            match self.write_transition(current.as_ref(), &next).await? {
                WriteOutcome::Applied if current.is_none() => {
                    return Ok(RequestOutcome::Created(next));
                }
                WriteOutcome::Applied => return Ok(RequestOutcome::Existing(next)),
                WriteOutcome::Stale(found) => current = found,
            }
        }
    }

    /// `by` accepts the request.
    ///
    /// # Errors
    /// [`Error::ChatNotFound`], and the errors of [`Chat::accept`].
    pub async fn accept_chat(&self, by: UserId, id: ChatId) -> Result<Chat, Error> {
        self.apply_transition(id, |chat| chat.accept(by, self.now))
            .await
    }

    /// `by` declines the request.
    ///
    /// # Errors
    /// [`Error::ChatNotFound`], and the errors of [`Chat::decline`].
    pub async fn decline_chat(&self, by: UserId, id: ChatId) -> Result<Chat, Error> {
        self.apply_transition(id, |chat| chat.decline(by, self.now))
            .await
    }

    async fn apply_transition(
        &self,
        id: ChatId,
        transition: impl Fn(&Chat) -> Result<Transition, TransitionError>,
    ) -> Result<Chat, Error> {
        let mut current = self.chat(id).await?;
        loop {
            let chat = current.ok_or(Error::ChatNotFound)?;
            let next = match transition(&chat)? {
                Transition::Unchanged => return Ok(chat),
                Transition::To(next) => next,
            };
            match self.write_transition(Some(&chat), &next).await? {
                WriteOutcome::Applied => return Ok(next),
                WriteOutcome::Stale(found) => current = found,
            }
        }
    }

    /// Replaces the chat `from` by `to` and updates the counters of open requests, in one transaction. It
    /// is conditional on the status and the requester of `from`.
    async fn write_transition(
        &self,
        from: Option<&Chat>,
        to: &Chat,
    ) -> Result<WriteOutcome, Error> {
        const STATE: usize = 0;
        const OPEN_REQUESTS: usize = 1;

        let mut writes = vec![self.put_chat(from, to)?];
        if let Some(before) = from.and_then(Chat::open_request) {
            writes.push(self.count_open_request(before.requester, -1));
            writes.push(self.count_pending(before.recipient, to.id, -1));
        }
        if let Some(after) = to.open_request() {
            writes.push(self.count_open_request(after.requester, 1));
            writes.push(self.count_pending(after.recipient, to.id, 1));
        }
        let Err(mut failures) = self.transact(writes).await? else {
            return Ok(WriteOutcome::Applied);
        };
        if failures.failed(STATE) {
            return Ok(WriteOutcome::Stale(
                failures.take_old_item(STATE).map(read_chat).transpose()?,
            ));
        }
        debug_assert!(
            failures.failed(OPEN_REQUESTS),
            "only these two writes have a condition"
        );
        Err(Error::TooManyPendingRequests(self.table.max_open_requests))
    }

    /// The condition covers the status and the requester, because a transition depends only on these.
    fn put_chat(&self, from: Option<&Chat>, to: &Chat) -> Result<Write, Error> {
        let item = ChatItem::write(to)?;
        let Some(from) = from else {
            return Ok(self.put(item, "attribute_not_exists(pk)", &[], vec![]));
        };
        let from = ChatItem::write(from)?;
        let values = [(":status", "status"), (":requester", "requesterId")]
            .map(|(name, attribute)| (name, from[attribute].clone()));
        Ok(self.put(
            item,
            "#status = :status AND requesterId = :requester",
            &[("#status", "status")],
            values.into(),
        ))
    }

    /// Adds `change` to the number of open requests that `requester` has sent. An increase is conditional on
    /// the cap.
    fn count_open_request(&self, requester: UserId, change: i64) -> Write {
        let cap = self.table.max_open_requests;
        let mut values = vec![
            (":change", number(change)),
            (
                ":type",
                AttributeValue::S(OpenRequestsItem::ENTITY_TYPE.to_owned()),
            ),
        ];
        let is_capped = change > 0 && cap > 0;
        if is_capped {
            values.push((":cap", number(cap)));
        }
        self.update(
            OpenRequestsItem::key(requester),
            "SET #type = :type ADD #open :change",
            is_capped.then_some("attribute_not_exists(#open) OR #open < :cap"),
            &[("#type", "type"), ("#open", OpenRequestsItem::OPEN)],
            values,
        )
    }

    /// Adds `change` to the number of open requests that `recipient` has received.
    fn count_pending(&self, recipient: UserId, chat: ChatId, change: i64) -> Write {
        self.count_total(TotalsItem::PENDING, recipient, chat, change)
    }

    /// Adds `change` to the total `attribute` of `owner`, in the shard of the chat.
    pub(super) fn count_total(
        &self,
        attribute: &str,
        owner: UserId,
        chat: ChatId,
        change: i64,
    ) -> Write {
        self.update(
            TotalsItem::key(owner, chat),
            "SET #type = :type ADD #total :change",
            None,
            &[("#type", "type"), ("#total", attribute)],
            vec![
                (":change", number(change)),
                (
                    ":type",
                    AttributeValue::S(TotalsItem::ENTITY_TYPE.to_owned()),
                ),
            ],
        )
    }
}

enum WriteOutcome {
    Applied,
    /// Another request has changed the chat. Contains the current chat.
    Stale(Option<Chat>),
}
