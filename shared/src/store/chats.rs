//! Chat requests: sending, accepting and declining them, and the cap on open requests.

use aws_sdk_dynamodb::types::AttributeValue;

use super::{
    Store,
    items::{ChatItem, Item, OpenRequestsItem, TotalsItem},
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
                None => Chat::new_request(id, requester, self.now()),
                Some(chat) => match chat.request(requester, self.now())? {
                    Transition::Unchanged => return Ok(RequestOutcome::Existing(chat.clone())),
                    Transition::To(next) => next,
                },
            };
            match self.write_transition(current.as_ref(), &next).await? {
                WriteOutcome::Applied(chat) if current.is_none() => {
                    return Ok(RequestOutcome::Created(chat));
                }
                WriteOutcome::Applied(chat) => return Ok(RequestOutcome::Existing(chat)),
                WriteOutcome::Stale(found) => current = found,
            }
        }
    }

    /// `by` accepts the request.
    ///
    /// # Errors
    /// [`Error::ChatNotFound`], and the errors of [`Chat::accept`].
    pub async fn accept_chat(&self, by: UserId, id: ChatId) -> Result<Chat, Error> {
        self.apply_transition(id, |chat| chat.accept(by, self.now()))
            .await
    }

    /// `by` declines the request.
    ///
    /// # Errors
    /// [`Error::ChatNotFound`], and the errors of [`Chat::decline`].
    pub async fn decline_chat(&self, by: UserId, id: ChatId) -> Result<Chat, Error> {
        self.apply_transition(id, |chat| chat.decline(by, self.now()))
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
                WriteOutcome::Applied(chat) => return Ok(chat),
                WriteOutcome::Stale(found) => current = found,
            }
        }
    }

    /// Changes the chat `from` to `to` and updates the counters of open requests, in one transaction. It is
    /// conditional on the status and the requester of `from`.
    async fn write_transition(
        &self,
        from: Option<&Chat>,
        to: &Chat,
    ) -> Result<WriteOutcome, Error> {
        const STATE: usize = 0;
        const OPEN_REQUESTS: usize = 1;

        let written = self.transact_planned(|now| {
            let to = match from {
                None => Chat::new_request(to.id, to.requester, now),
                Some(from) => Chat {
                    updated_at: from.next_change_time(now),
                    ..to.clone()
                },
            };
            let mut writes = vec![self.write_chat(from, &to)?];
            if let Some(before) = from.and_then(Chat::open_request) {
                writes.push(self.count_open_request(before.requester, -1));
                writes.push(self.count_pending(before.recipient, to.id, -1));
            }
            if let Some(after) = to.open_request() {
                writes.push(self.count_open_request(after.requester, 1));
                writes.push(self.count_pending(after.recipient, to.id, 1));
            }
            Ok((writes, to))
        });
        let mut failures = match written.await? {
            Ok(chat) => return Ok(WriteOutcome::Applied(chat)),
            Err(failures) => failures,
        };
        if failures.failed(STATE) {
            let found = failures.take_old_item(STATE);
            let found = found.map(|item| self.read_chat(item)).transpose()?;
            return Ok(WriteOutcome::Stale(found));
        }
        debug_assert!(
            failures.failed(OPEN_REQUESTS),
            "only these two writes have a condition"
        );
        Err(Error::TooManyPendingRequests(self.table.max_open_requests))
    }

    /// Creates the chat, or sets the attributes that the transition changes. Other attributes keep their values,
    /// also those that only another version of this service knows. The condition covers the status and the
    /// requester, because a transition depends only on these.
    fn write_chat(&self, from: Option<&Chat>, to: &Chat) -> Result<Write, Error> {
        let mut item = ChatItem::write(to)?;
        let Some(from) = from else {
            return Ok(self.put(item, "attribute_not_exists(pk)", &[], vec![]));
        };
        let mut from = ChatItem::write(from)?;
        let attributes = ChatItem::TRANSITION_ATTRIBUTES
            .map(|attribute| (format!("#{attribute}"), format!(":{attribute}"), attribute));
        let assignments = attributes
            .each_ref()
            .map(|(name, value, _)| format!("{name} = {value}"));
        let names = attributes
            .each_ref()
            .map(|(name, _, attribute)| (name.as_str(), *attribute));
        let mut values = vec![
            (":from", take(&mut from, "status")),
            (":fromRequester", take(&mut from, "requesterId")),
        ];
        let changed = attributes
            .each_ref()
            .map(|(_, value, attribute)| (value.as_str(), take(&mut item, attribute)));
        values.extend(changed);
        Ok(self.update(
            ChatItem::key(to.id),
            &format!("SET {}", assignments.join(", ")),
            Some("#status = :from AND #requesterId = :fromRequester"),
            &names,
            values,
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

/// Takes an attribute of an item that [`ChatItem::write`] has created.
fn take(item: &mut Item, attribute: &str) -> AttributeValue {
    item.remove(attribute).unwrap_or(AttributeValue::Null(true))
}

enum WriteOutcome {
    /// Contains the chat as it was written.
    Applied(Chat),
    /// Another request has changed the chat. Contains the current chat.
    Stale(Option<Chat>),
}
