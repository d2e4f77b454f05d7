//! Chat requests: sending, accepting, declining and withdrawing them, and the cap on open requests.

use aws_sdk_dynamodb::types::AttributeValue;

use super::{
    Store,
    items::{CHANGES, ChatItem, OpenRequestsItem, TotalsItem},
    transaction::{Write, nothing_to_write, number},
    update::ItemUpdate,
};
use crate::{
    Error,
    domain::{Chat, ChatId, Timestamp, Transition, TransitionError, UserId},
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
    /// [`TransitionError::YouBlocked`]; [`Error::TooManyPendingRequests`].
    pub async fn request_chat(
        &self,
        requester: UserId,
        id: ChatId,
    ) -> Result<RequestOutcome, Error> {
        let mut current: Option<Chat> = None;
        loop {
            let request = |now| match &current {
                None => Ok(Transition::To(Chat::new_request(id, requester, now))),
                Some(chat) => chat.request(requester, now),
            };
            let is_new = current.as_ref().is_none_or(|chat| !chat.exists());
            match self.write_transition(id, current.as_ref(), request).await? {
                WriteOutcome::Applied(chat) if is_new => return Ok(RequestOutcome::Created(chat)),
                WriteOutcome::Applied(chat) | WriteOutcome::Unchanged(chat) => {
                    return Ok(RequestOutcome::Existing(chat));
                }
                WriteOutcome::Stale(found) => current = found,
            }
        }
    }

    /// `by` accepts the request.
    ///
    /// # Errors
    /// [`Error::ChatNotFound`], and the errors of [`Chat::accept`].
    pub async fn accept_chat(&self, by: UserId, id: ChatId) -> Result<Chat, Error> {
        self.apply_transition(id, |chat, now| chat.accept(by, now))
            .await
    }

    /// `by` declines the request.
    ///
    /// # Errors
    /// [`Error::ChatNotFound`], and the errors of [`Chat::decline`].
    pub async fn decline_chat(&self, by: UserId, id: ChatId) -> Result<Chat, Error> {
        self.apply_transition(id, |chat, now| chat.decline(by, now))
            .await
    }

    /// `by` withdraws the request.
    ///
    /// # Errors
    /// [`Error::ChatNotFound`], [`Error::NotEnabled`], and the errors of [`Chat::withdraw`].
    pub async fn withdraw_chat(&self, by: UserId, id: ChatId) -> Result<Chat, Error> {
        self.require_safety_features()?;
        self.apply_transition(id, |chat, now| chat.withdraw(by, now))
            .await
    }

    async fn apply_transition(
        &self,
        id: ChatId,
        transition: impl Fn(&Chat, Timestamp) -> Result<Transition, TransitionError>,
    ) -> Result<Chat, Error> {
        let mut chat = self.get_chat(id).await?;
        loop {
            let next = |now| transition(&chat, now);
            match self.write_transition(id, Some(&chat), next).await? {
                WriteOutcome::Applied(chat) | WriteOutcome::Unchanged(chat) => return Ok(chat),
                WriteOutcome::Stale(found) => {
                    chat = found.filter(Chat::exists).ok_or(Error::ChatNotFound)?;
                }
            }
        }
    }

    /// Applies a transition of the chat `from`, and updates the counters, in one transaction. `from` is `None` if
    /// the pair has no chat.
    async fn write_transition(
        &self,
        id: ChatId,
        from: Option<&Chat>,
        transition: impl Fn(Timestamp) -> Result<Transition, TransitionError>,
    ) -> Result<WriteOutcome, Error> {
        const STATE: usize = 0;

        if let (Some(from), Transition::Unchanged) = (from, transition(self.now())?) {
            return Ok(WriteOutcome::Unchanged(from.clone()));
        }
        let written = self.transact_planned(|now| {
            let Transition::To(to) = transition(now)? else {
                return Err(nothing_to_write());
            };
            Ok((self.transition_writes(from, &to)?, to))
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
        // Only the cap is reported. DynamoDB does not promise to report every condition that fails, so the one on
        // the chat may have failed, too.
        let identity = |chat: &Chat| (chat.status(), chat.requester, chat.blocks.version);
        let found = self.chat(id).await?;
        if found.as_ref().map(identity) != from.map(identity) {
            return Ok(WriteOutcome::Stale(found));
        }
        Err(Error::TooManyPendingRequests(self.table.max_open_requests))
    }

    /// The writes that change the chat `from` to `to`. The first one changes the chat, the others the counters
    /// whose value changes.
    pub(super) fn transition_writes(
        &self,
        from: Option<&Chat>,
        to: &Chat,
    ) -> Result<Vec<Write>, Error> {
        let mut writes = vec![self.write_chat(from, to)?];
        let requester = |chat: &Chat| chat.open_request().map(|open| open.requester);
        let (before, after) = (from.and_then(requester), requester(to));
        if before != after {
            let closed = before.map(|requester| self.count_open_request(requester, -1));
            let opened = after.map(|requester| self.count_open_request(requester, 1));
            writes.extend(closed.into_iter().chain(opened));
        }
        for member in [to.id.low(), to.id.high()] {
            let (before, after) = (
                from.map(|chat| totals_of(chat, member)),
                totals_of(to, member),
            );
            let before = before.unwrap_or_default();
            for (counter, change) in [
                (TotalsItem::PENDING, after.pending - before.pending),
                (TotalsItem::UNREAD, after.unread - before.unread),
            ] {
                if change != 0 {
                    writes.push(self.count_total(counter, member, to.id, change));
                }
            }
        }
        Ok(writes)
    }

    /// Sets the attributes of the chat that the transition changes. Other attributes keep their values, also those
    /// that only another version of this service knows. The condition covers the attributes that a transition
    /// depends on.
    fn write_chat(&self, from: Option<&Chat>, to: &Chat) -> Result<Write, Error> {
        let before = from.map(ChatItem::write).transpose()?.unwrap_or_default();
        let after = ChatItem::write(to)?;

        let mut update = ItemUpdate::default();
        if from.is_none() {
            update.require_new();
        } else {
            for attribute in ["status", "requesterId", "v"] {
                update.require(attribute, before.get(attribute));
            }
        }
        if from.is_some_and(|from| from.conversation().is_none()) {
            // A request can be withdrawn and sent again, so the other attributes do not identify it.
            update.require("updatedAt", before.get("updatedAt"));
        }
        for member in [to.id.low(), to.id.high()] {
            let (unread, _) = ChatItem::member_attributes(to.id, member);
            let held = ChatItem::held_attribute(to.id, member);
            // A block moves these counts. If they are 0, a message that arrives in between must make it fail.
            let moves_counts =
                from.is_some_and(|from| from.has_blocked(member) != to.has_blocked(member));
            if moves_counts {
                let unread_before = from.map_or(0, |from| from.member_state(member).unread);
                // A request must not fail because the table was changed in another way, to a negative count.
                let comparison = if unread_before == 0 { "<=" } else { "=" };
                update.require_that(unread, comparison, number(unread_before));
                update.require(held, before.get(held));
            }
        }
        update.change_to(&before, &after);
        if !after.contains_key(ChatItem::HIDDEN) {
            // A version that does not know it leaves it behind when it answers a hidden request.
            update.set(ChatItem::HIDDEN, None);
        }
        Ok(self.update_item(ChatItem::key(to.id), &update))
    }

    /// Adds `change` to the number of open requests that `requester` has sent, and 1 to the number of changes. An
    /// increase is conditional on the cap.
    fn count_open_request(&self, requester: UserId, change: i64) -> Write {
        let cap = self.table.max_open_requests;
        let mut values = vec![
            (":change", number(change)),
            (":one", number(1)),
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
            "SET #type = :type ADD #open :change, #changes :one",
            is_capped.then_some("attribute_not_exists(#open) OR #open < :cap"),
            &[
                ("#type", "type"),
                ("#open", OpenRequestsItem::OPEN),
                ("#changes", CHANGES),
            ],
            values,
        )
    }

    /// Adds `change` to the total `attribute` of `owner`, in the shard of the chat, and 1 to the number of changes.
    pub(super) fn count_total(
        &self,
        attribute: &str,
        owner: UserId,
        chat: ChatId,
        change: i64,
    ) -> Write {
        self.update(
            TotalsItem::key(owner, chat),
            "SET #type = :type ADD #total :change, #changes :one",
            None,
            &[
                ("#type", "type"),
                ("#total", attribute),
                ("#changes", CHANGES),
            ],
            vec![
                (":change", number(change)),
                (":one", number(1)),
                (
                    ":type",
                    AttributeValue::S(TotalsItem::ENTITY_TYPE.to_owned()),
                ),
            ],
        )
    }
}

/// What a chat adds to the totals of a member.
#[derive(Default)]
struct ChatTotals {
    pending: i64,
    unread: i64,
}

fn totals_of(chat: &Chat, member: UserId) -> ChatTotals {
    let open = chat.open_request();
    let is_pending = open.is_some_and(|open| open.recipient == member && !open.hidden);
    ChatTotals {
        pending: i64::from(is_pending),
        unread: i64::try_from(chat.member_state(member).unread).unwrap_or(i64::MAX),
    }
}

enum WriteOutcome {
    /// The chat is already in the requested state.
    Unchanged(Chat),
    /// Contains the chat as it was written.
    Applied(Chat),
    /// Another request has changed the chat. Contains the current chat.
    Stale(Option<Chat>),
}
