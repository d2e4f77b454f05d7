use aws_sdk_dynamodb::types::AttributeValue;

use super::{
    Store,
    items::{ChatItem, SentItem, TotalsItem},
    read_chat,
    transaction::{Write, number},
};
use crate::{
    Error,
    domain::{Chat, ChatId, Refusal, Step, UserId},
};

/// What a chat request came to.
pub enum Requested {
    /// The pair has a chat from now on.
    New(Chat),
    /// The pair had one; this is how it is now.
    Existing(Chat),
}

impl Store {
    /// `requester` asks for the chat `id` with its other member.
    ///
    /// Most requests are the pair's first, so that is tried without a read: the refusal brings the
    /// chat along when there is one.
    ///
    /// # Errors
    /// [`Refusal::ChatDeclined`] to who was declined; [`Error::TooManyPendingRequests`].
    pub async fn request_chat(&self, requester: UserId, id: ChatId) -> Result<Requested, Error> {
        let mut current: Option<Chat> = None;
        loop {
            let next = match &current {
                None => Chat::requested(id, requester, self.now),
                Some(chat) => match chat.request(requester, self.now)? {
                    Step::Unchanged => return Ok(Requested::Existing(chat.clone())),
                    Step::To(next) => next,
                },
            };
            match self.change_chat(current.as_ref(), &next).await? {
                Change::Done if current.is_none() => return Ok(Requested::New(next)),
                Change::Done => return Ok(Requested::Existing(next)),
                Change::Overtaken(found) => current = found,
            }
        }
    }

    /// `by` accepts the request.
    ///
    /// # Errors
    /// [`Error::ChatNotFound`], and what [`Chat::accept`] refuses.
    pub async fn accept_chat(&self, by: UserId, id: ChatId) -> Result<Chat, Error> {
        self.answer(id, |chat| chat.accept(by, self.now)).await
    }

    /// `by` declines the request.
    ///
    /// # Errors
    /// [`Error::ChatNotFound`], and what [`Chat::decline`] refuses.
    pub async fn decline_chat(&self, by: UserId, id: ChatId) -> Result<Chat, Error> {
        self.answer(id, |chat| chat.decline(by, self.now)).await
    }

    async fn answer(
        &self,
        id: ChatId,
        step: impl Fn(&Chat) -> Result<Step, Refusal>,
    ) -> Result<Chat, Error> {
        let mut current = self.chat(id).await?;
        loop {
            let chat = current.ok_or(Error::ChatNotFound)?;
            let next = match step(&chat)? {
                Step::Unchanged => return Ok(chat),
                Step::To(next) => next,
            };
            match self.change_chat(Some(&chat), &next).await? {
                Change::Done => return Ok(next),
                Change::Overtaken(found) => current = found,
            }
        }
    }

    /// Makes a chat what it becomes, and counts the open request that it was or becomes, in one
    /// transaction; unless it is no longer what it was.
    async fn change_chat(&self, from: Option<&Chat>, to: &Chat) -> Result<Change, Error> {
        const STATE: usize = 0;
        const OPEN_REQUESTS: usize = 1;

        let mut writes = vec![self.put_chat(from, to)?];
        if let Some(before) = from.and_then(Chat::pending) {
            writes.push(self.count_open_request(before.requester, -1));
            writes.push(self.count_pending(before.recipient, to.id, -1));
        }
        if let Some(after) = to.pending() {
            writes.push(self.count_open_request(after.requester, 1));
            writes.push(self.count_pending(after.recipient, to.id, 1));
        }
        let Err(mut refused) = self.transact(writes).await? else {
            return Ok(Change::Done);
        };
        if refused.failed(STATE) {
            return Ok(Change::Overtaken(
                refused.old_item(STATE).map(read_chat).transpose()?,
            ));
        }
        debug_assert!(
            refused.failed(OPEN_REQUESTS),
            "no other write has a condition"
        );
        Err(Error::TooManyPendingRequests(
            self.connection.max_open_requests,
        ))
    }

    /// Status and requester are all that a step relies on.
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

    /// One more, within the cap, or one less open request that `requester` has sent.
    fn count_open_request(&self, requester: UserId, by: i64) -> Write {
        let cap = self.connection.max_open_requests;
        let mut values = vec![
            (":by", number(by)),
            (":type", AttributeValue::S(SentItem::KIND.to_owned())),
        ];
        let capped = by > 0 && cap > 0;
        if capped {
            values.push((":cap", number(cap)));
        }
        self.update(
            SentItem::key(requester),
            "SET #type = :type ADD #open :by",
            capped.then_some("attribute_not_exists(#open) OR #open < :cap"),
            &[("#type", "type"), ("#open", SentItem::OPEN)],
            values,
        )
    }

    /// One more or one less request that waits for `recipient`.
    fn count_pending(&self, recipient: UserId, chat: ChatId, by: i64) -> Write {
        self.count_total(TotalsItem::PENDING, recipient, chat, by)
    }

    /// Adds to the total named `attribute` that `owner` sees, on behalf of one chat.
    pub(super) fn count_total(
        &self,
        attribute: &str,
        owner: UserId,
        chat: ChatId,
        by: i64,
    ) -> Write {
        self.update(
            TotalsItem::key(owner, chat),
            "SET #type = :type ADD #total :by",
            None,
            &[("#type", "type"), ("#total", attribute)],
            vec![
                (":by", number(by)),
                (":type", AttributeValue::S(TotalsItem::KIND.to_owned())),
            ],
        )
    }
}

enum Change {
    Done,
    /// Another call came first; the chat as that call left it.
    Overtaken(Option<Chat>),
}
