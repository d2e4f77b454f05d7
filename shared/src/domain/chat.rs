use std::time::Duration;

use super::{
    ChatId, ContentChange, ContentError, Message, MessagePreview, Rev, Seq, Timestamp, UserId,
};

/// The chat of two users. A pair of users has at most one chat. The transitions are specified in
/// `docs/api.md`, sections "Chat state machine" and "Blocks".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chat {
    /// Identifies the two members.
    pub id: ChatId,
    /// The user who sent the latest chat request. If there is none, the user who blocked the other first.
    pub requester: UserId,
    /// The current state.
    pub state: ChatState,
    /// Who has blocked the other member.
    pub blocks: Blocks,
    /// The time of the first chat request.
    pub created_at: Timestamp,
    /// The time of the latest state change or message. Marking as read, editing, deleting and blocking do not
    /// change it.
    pub updated_at: Timestamp,
}

/// The state of a chat. Each variant carries only data that is valid in that state: only an active
/// chat has messages and watermarks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChatState {
    /// Nobody has sent a request. The members have no chat, but one of them has, or had, blocked the other.
    NotRequested,
    /// The recipient has neither accepted nor declined the request.
    Pending {
        /// Whether the request is hidden from its recipient, who has blocked the requester.
        hidden: bool,
    },
    /// The recipient accepted. This state is final.
    Active(Conversation),
    /// The recipient declined. Only the recipient can send a new request.
    Declined,
    /// The requester withdrew the request. Both members can send a new one.
    Withdrawn,
}

/// A [`ChatState`] without its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChatStatus {
    /// See [`ChatState::NotRequested`].
    NotRequested,
    /// See [`ChatState::Pending`].
    Pending,
    /// See [`ChatState::Active`].
    Active,
    /// See [`ChatState::Declined`].
    Declined,
    /// See [`ChatState::Withdrawn`].
    Withdrawn,
}

/// Who has blocked the other member of a chat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Blocks {
    /// The number of changes to the blocks. Every other change of the chat is conditional on it, because blocks
    /// decide what the totals count.
    pub version: u64,
    /// When the member with the smaller user id blocked the other.
    pub low: Option<Timestamp>,
    /// When the member with the larger user id blocked the other.
    pub high: Option<Timestamp>,
}

/// The data of an active chat.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conversation {
    /// The number of the last message, or 0.
    pub seq: Seq,
    /// The number of changes to messages after they were sent.
    pub rev: Rev,
    /// The member with the smaller user id.
    pub low: MemberState,
    /// The member with the larger user id.
    pub high: MemberState,
    /// A preview of the last message.
    pub last_message: Option<MessagePreview>,
}

/// The read state of one member of an active chat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemberState {
    /// Unread messages that the member's total counts.
    pub unread: u64,
    /// Unread messages that the member's total does not count, because the member has blocked the sender.
    pub held: u64,
    /// The watermark: this member has read all messages up to this one. It never decreases.
    pub read_seq: Seq,
}

impl MemberState {
    /// The number of messages from the other member after the watermark that are not deleted.
    #[must_use]
    pub fn unread_count(&self) -> u64 {
        self.unread + self.held
    }
}

/// A pending chat request, as the totals of both users count it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenRequest {
    /// The user who sent the request.
    pub requester: UserId,
    /// The user who can accept or decline it.
    pub recipient: UserId,
    /// Whether the recipient's total does not count it.
    pub hidden: bool,
}

/// The result of an allowed transition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transition {
    /// The chat is already in the requested state.
    Unchanged,
    /// The chat must be replaced by this one.
    To(Chat),
}

/// The state of the chat or of a message does not allow the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransitionError {
    /// Only the recipient can accept or decline.
    #[error("only the recipient of a request can answer it")]
    NotTheRecipient,
    /// Only the requester can withdraw.
    #[error("only the member who sent the request can withdraw it; you can decline it")]
    NotTheRequester,
    /// Only the sender can edit or delete a message.
    #[error("only the sender of a message can edit or delete it")]
    NotTheSender,
    /// An active chat can be neither declined nor withdrawn.
    #[error("the chat is active; the request can no longer be declined or withdrawn")]
    ChatActive,
    /// The request was declined.
    #[error("the request was declined; only the member who declined it can send a new request")]
    ChatDeclined,
    /// The request was withdrawn.
    #[error("the request was withdrawn; send a new request instead")]
    ChatWithdrawn,
    /// Messages require an active chat.
    #[error("messages can be sent after the request has been accepted")]
    ChatNotActive,
    /// A deleted message cannot be edited.
    #[error("the message was deleted; send a new one instead")]
    MessageDeleted,
    /// The message is too old to be edited.
    #[error("the message is too old to be edited; send a new one instead")]
    EditWindowClosed,
    /// The message is too old to be deleted.
    #[error("the message is too old to be deleted")]
    DeleteWindowClosed,
    /// The caller has blocked the other member.
    #[error("you have blocked this user; unblock them first")]
    YouBlocked,
    /// The other member cannot receive messages. This does not say why, because a block must be invisible.
    #[error("this user cannot receive messages at present")]
    PeerUnavailable,
}

/// A message cannot be edited.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// The new content is invalid.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// The state of the chat or of the message does not allow the edit.
    #[error(transparent)]
    Transition(#[from] TransitionError),
}

impl TransitionError {
    /// Whether the caller has no right to do this, whatever the state of the chat (403).
    fn is_forbidden(self) -> bool {
        matches!(
            self,
            Self::NotTheRecipient | Self::NotTheRequester | Self::NotTheSender
        )
    }
}

impl Chat {
    /// Creates the chat of a pair that has none.
    #[must_use]
    pub fn new_request(id: ChatId, requester: UserId, now: Timestamp) -> Self {
        Self {
            id,
            requester,
            state: ChatState::Pending { hidden: false },
            blocks: Blocks::default(),
            created_at: now,
            updated_at: now,
        }
    }

    /// Creates the block of a pair that has no chat.
    #[must_use]
    pub fn new_block(id: ChatId, by: UserId, now: Timestamp) -> Self {
        let mut pair = Self {
            state: ChatState::NotRequested,
            ..Self::new_request(id, by, now)
        };
        pair.set_block(by, Some(now));
        pair
    }

    /// Whether somebody has sent a request. Otherwise the chat does not exist for its members.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.state != ChatState::NotRequested
    }

    /// The member who did not send the request.
    #[must_use]
    pub fn recipient(&self) -> UserId {
        self.id.peer_of(self.requester)
    }

    /// The state without its data.
    #[must_use]
    pub fn status(&self) -> ChatStatus {
        match self.state {
            ChatState::NotRequested => ChatStatus::NotRequested,
            ChatState::Pending { .. } => ChatStatus::Pending,
            ChatState::Active(_) => ChatStatus::Active,
            ChatState::Declined => ChatStatus::Declined,
            ChatState::Withdrawn => ChatStatus::Withdrawn,
        }
    }

    /// The open request, if the chat is pending.
    #[must_use]
    pub fn open_request(&self) -> Option<OpenRequest> {
        let ChatState::Pending { hidden } = self.state else {
            return None;
        };
        Some(OpenRequest {
            requester: self.requester,
            recipient: self.recipient(),
            hidden,
        })
    }

    /// `by` sends a request for a chat that exists, or for a pair that has only a block.
    ///
    /// # Errors
    /// [`TransitionError::ChatDeclined`] if the other member has declined a request of `by`;
    /// [`TransitionError::YouBlocked`].
    pub fn request(&self, by: UserId, now: Timestamp) -> Result<Transition, TransitionError> {
        let new_request = || ChatState::Pending {
            hidden: self.has_blocked(self.id.peer_of(by)),
        };
        let result = match self.state {
            ChatState::NotRequested => Ok(Transition::To(Self {
                state: new_request(),
                blocks: self.blocks,
                ..Self::new_request(self.id, by, now)
            })),
            ChatState::Active(_) => Ok(Transition::Unchanged),
            ChatState::Pending { .. } if by == self.requester => Ok(Transition::Unchanged),
            ChatState::Pending { .. } => Ok(self.transition_to(self.requester, new_active(), now)),
            ChatState::Declined if by == self.requester => Err(TransitionError::ChatDeclined),
            ChatState::Declined | ChatState::Withdrawn => {
                Ok(self.transition_to(by, new_request(), now))
            }
        };
        self.reject_if_blocked_by(by, result)
    }

    /// `by` accepts the request.
    ///
    /// # Errors
    /// [`TransitionError`] unless `by` is the recipient of a pending or active chat, and has not blocked the
    /// requester.
    pub fn accept(&self, by: UserId, now: Timestamp) -> Result<Transition, TransitionError> {
        let result = match self.state {
            ChatState::Declined => Err(TransitionError::ChatDeclined),
            ChatState::NotRequested | ChatState::Withdrawn => Err(TransitionError::ChatWithdrawn),
            _ if by == self.requester => Err(TransitionError::NotTheRecipient),
            ChatState::Active(_) => Ok(Transition::Unchanged),
            ChatState::Pending { .. } => Ok(self.transition_to(self.requester, new_active(), now)),
        };
        self.reject_if_blocked_by(by, result)
    }

    /// `by` declines the request.
    ///
    /// # Errors
    /// [`TransitionError`] unless `by` is the recipient of a pending or declined chat, and has not blocked the
    /// requester.
    pub fn decline(&self, by: UserId, now: Timestamp) -> Result<Transition, TransitionError> {
        let result = match self.state {
            ChatState::Active(_) => Err(TransitionError::ChatActive),
            ChatState::NotRequested | ChatState::Withdrawn => Err(TransitionError::ChatWithdrawn),
            _ if by == self.requester => Err(TransitionError::NotTheRecipient),
            ChatState::Declined => Ok(Transition::Unchanged),
            ChatState::Pending { .. } => {
                Ok(self.transition_to(self.requester, ChatState::Declined, now))
            }
        };
        self.reject_if_blocked_by(by, result)
    }

    /// `by` withdraws the request.
    ///
    /// # Errors
    /// [`TransitionError`] unless `by` is the requester of a pending or withdrawn chat.
    pub fn withdraw(&self, by: UserId, now: Timestamp) -> Result<Transition, TransitionError> {
        match self.state {
            ChatState::Active(_) => Err(TransitionError::ChatActive),
            ChatState::Declined => Err(TransitionError::ChatDeclined),
            _ if by != self.requester => Err(TransitionError::NotTheRequester),
            ChatState::NotRequested | ChatState::Withdrawn => Ok(Transition::Unchanged),
            ChatState::Pending { .. } => {
                Ok(self.transition_to(self.requester, ChatState::Withdrawn, now))
            }
        }
    }

    /// `by` blocks the other member. The totals of `by` no longer count this chat, and an open request of `by`
    /// is withdrawn.
    #[must_use]
    pub fn block(&self, by: UserId, now: Timestamp) -> Transition {
        if self.has_blocked(by) {
            return Transition::Unchanged;
        }
        let mut chat = self.clone();
        chat.set_block(by, Some(now));
        match &mut chat.state {
            ChatState::Pending { .. } if by == self.requester => {
                chat.state = ChatState::Withdrawn;
                chat.updated_at = self.next_change_time(now);
            }
            ChatState::Pending { hidden } => *hidden = true,
            ChatState::Active(conversation) => {
                let member = conversation.member_mut(self.id, by);
                member.held += member.unread;
                member.unread = 0;
            }
            ChatState::NotRequested | ChatState::Declined | ChatState::Withdrawn => {}
        }
        Transition::To(chat)
    }

    /// `by` unblocks the other member. The totals of `by` count this chat again.
    #[must_use]
    pub fn unblock(&self, by: UserId) -> Transition {
        if !self.has_blocked(by) {
            return Transition::Unchanged;
        }
        let mut chat = self.clone();
        chat.set_block(by, None);
        match &mut chat.state {
            ChatState::Pending { hidden } if by != self.requester => *hidden = false,
            ChatState::Active(conversation) => {
                let member = conversation.member_mut(self.id, by);
                member.unread += member.held;
                member.held = 0;
            }
            _ => {}
        }
        Transition::To(chat)
    }

    /// When `by` blocked the other member. `None` if the other member is not blocked.
    #[must_use]
    pub fn blocked_at(&self, by: UserId) -> Option<Timestamp> {
        if by == self.id.low() {
            self.blocks.low
        } else {
            self.blocks.high
        }
    }

    /// Whether `by` has blocked the other member.
    #[must_use]
    pub fn has_blocked(&self, by: UserId) -> bool {
        self.blocked_at(by).is_some()
    }

    fn set_block(&mut self, by: UserId, at: Option<Timestamp>) {
        self.blocks.version += 1;
        if by == self.id.low() {
            self.blocks.low = at;
        } else {
            self.blocks.high = at;
        }
    }

    /// For a member who has blocked the other, [`TransitionError::YouBlocked`] comes before every other error
    /// of the chat's state, but after the errors that say that the member has no right to do this.
    fn reject_if_blocked_by<T>(
        &self,
        by: UserId,
        result: Result<T, TransitionError>,
    ) -> Result<T, TransitionError> {
        match result {
            Err(error) if error.is_forbidden() => Err(error),
            _ if self.has_blocked(by) => Err(TransitionError::YouBlocked),
            result => result,
        }
    }

    /// The conversation to which `sender` can add a message.
    ///
    /// # Errors
    /// [`TransitionError::YouBlocked`], [`TransitionError::ChatNotActive`] or
    /// [`TransitionError::PeerUnavailable`].
    pub fn check_send(&self, sender: UserId) -> Result<&Conversation, TransitionError> {
        let conversation = match &self.state {
            ChatState::Active(conversation) => Ok(conversation),
            _ => Err(TransitionError::ChatNotActive),
        };
        let conversation = self.reject_if_blocked_by(sender, conversation)?;
        if self.has_blocked(self.id.peer_of(sender)) {
            return Err(TransitionError::PeerUnavailable);
        }
        Ok(conversation)
    }

    /// Whether `reader` can mark messages as read.
    ///
    /// # Errors
    /// [`TransitionError::YouBlocked`].
    pub fn check_mark_read(&self, reader: UserId) -> Result<(), TransitionError> {
        self.reject_if_blocked_by(reader, Ok(()))
    }

    /// `by` edits a message. `None`: the content is the same already. `window` is the time after sending in which a
    /// message can be edited; the same edit again is allowed after it.
    ///
    /// # Errors
    /// In this order: [`TransitionError::NotTheSender`]; [`ContentError::Empty`], because an invalid request comes
    /// before the state of the chat; [`TransitionError::YouBlocked`]; [`TransitionError::MessageDeleted`];
    /// [`TransitionError::EditWindowClosed`]; [`TransitionError::PeerUnavailable`].
    pub fn edit(
        &self,
        by: UserId,
        message: &Message,
        change: &ContentChange,
        window: Option<Duration>,
        now: Timestamp,
    ) -> Result<Option<Message>, EditError> {
        if message.sender != by {
            return Err(TransitionError::NotTheSender.into());
        }
        let before = message.content.as_ref();
        let after = before.map(|content| change.apply(content)).transpose()?;
        let after = after.ok_or(TransitionError::MessageDeleted);
        let after = self.reject_if_blocked_by(by, after)?;

        let is_changed = before != Some(&after);
        if is_changed && message.is_older_than(window, now) {
            return Err(TransitionError::EditWindowClosed.into());
        }
        if self.has_blocked(self.id.peer_of(by)) {
            return Err(TransitionError::PeerUnavailable.into());
        }
        Ok(is_changed.then(|| Message {
            content: Some(after),
            edited_at: Some(message.next_change_time(now)),
            rev: self.rev().next(),
            ..message.clone()
        }))
    }

    /// `by` deletes a message. `None`: it is deleted already. `window` is the time after sending in which a
    /// message can be deleted.
    ///
    /// # Errors
    /// [`TransitionError::NotTheSender`] or [`TransitionError::DeleteWindowClosed`].
    pub fn delete(
        &self,
        by: UserId,
        message: &Message,
        window: Option<Duration>,
        now: Timestamp,
    ) -> Result<Option<Message>, TransitionError> {
        if message.sender != by {
            return Err(TransitionError::NotTheSender);
        }
        if message.deleted_at.is_some() {
            return Ok(None);
        }
        if message.is_older_than(window, now) {
            return Err(TransitionError::DeleteWindowClosed);
        }
        Ok(Some(Message {
            content: None,
            deleted_at: Some(message.next_change_time(now)),
            rev: self.rev().next(),
            ..message.clone()
        }))
    }

    /// The read state of a member. Nothing is read or unread unless the chat is active.
    #[must_use]
    pub fn member_state(&self, member: UserId) -> MemberState {
        self.conversation()
            .map_or_else(MemberState::default, |conversation| {
                *conversation.member(self.id, member)
            })
    }

    /// The number of the last message, or 0.
    #[must_use]
    pub fn seq(&self) -> Seq {
        self.conversation()
            .map_or(Seq::ZERO, |conversation| conversation.seq)
    }

    /// The number of changes to messages after they were sent.
    #[must_use]
    pub fn rev(&self) -> Rev {
        self.conversation()
            .map_or(Rev::ZERO, |conversation| conversation.rev)
    }

    /// A preview of the last message.
    #[must_use]
    pub fn last_message(&self) -> Option<&MessagePreview> {
        self.conversation()?.last_message.as_ref()
    }

    /// The data of an active chat.
    #[must_use]
    pub fn conversation(&self) -> Option<&Conversation> {
        match &self.state {
            ChatState::Active(conversation) => Some(conversation),
            _ => None,
        }
    }

    /// Whether the recipient of a message has read it.
    #[must_use]
    pub fn is_read(&self, message: &Message) -> bool {
        self.member_state(self.id.peer_of(message.sender)).read_seq >= message.seq
    }

    /// The timestamp for a change at `now`. It is never earlier than the previous change, because
    /// clocks of different machines differ.
    #[must_use]
    pub fn next_change_time(&self, now: Timestamp) -> Timestamp {
        now.max(self.updated_at)
    }

    fn transition_to(&self, requester: UserId, state: ChatState, now: Timestamp) -> Transition {
        let updated_at = self.next_change_time(now);
        Transition::To(Self {
            id: self.id,
            requester,
            state,
            blocks: self.blocks,
            created_at: self.created_at,
            updated_at,
        })
    }
}

impl Conversation {
    fn member(&self, id: ChatId, member: UserId) -> &MemberState {
        if member == id.low() {
            &self.low
        } else {
            &self.high
        }
    }

    fn member_mut(&mut self, id: ChatId, member: UserId) -> &mut MemberState {
        if member == id.low() {
            &mut self.low
        } else {
            &mut self.high
        }
    }
}

/// The state directly after acceptance.
fn new_active() -> ChatState {
    ChatState::Active(Conversation::default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::MessageContent;

    const NOW: u64 = 1_000;

    fn user(id: u64) -> UserId {
        UserId::new(id).unwrap()
    }

    fn requester() -> UserId {
        user(42)
    }

    fn recipient() -> UserId {
        user(17)
    }

    fn chat(state: ChatState) -> Chat {
        let id = ChatId::between(requester(), recipient()).unwrap();
        Chat {
            state,
            ..Chat::new_request(id, requester(), Timestamp::from_millis(500))
        }
    }

    /// Status, requester and time of change after a transition.
    fn after(
        transition: Result<Transition, TransitionError>,
    ) -> Result<Option<(ChatStatus, UserId, u64)>, TransitionError> {
        transition.map(|transition| match transition {
            Transition::Unchanged => None,
            Transition::To(chat) => Some((chat.status(), chat.requester, chat.updated_at.millis())),
        })
    }

    fn request(
        state: ChatState,
        by: UserId,
    ) -> Result<Option<(ChatStatus, UserId, u64)>, TransitionError> {
        after(chat(state).request(by, Timestamp::from_millis(NOW)))
    }

    fn accept(
        state: ChatState,
        by: UserId,
    ) -> Result<Option<(ChatStatus, UserId, u64)>, TransitionError> {
        after(chat(state).accept(by, Timestamp::from_millis(NOW)))
    }

    fn decline(
        state: ChatState,
        by: UserId,
    ) -> Result<Option<(ChatStatus, UserId, u64)>, TransitionError> {
        after(chat(state).decline(by, Timestamp::from_millis(NOW)))
    }

    #[test]
    fn a_repeated_request_changes_nothing_while_the_chat_is_pending_or_active() {
        assert_eq!(
            request(ChatState::Pending { hidden: false }, requester()),
            Ok(None)
        );
        assert_eq!(request(new_active(), requester()), Ok(None));
        assert_eq!(request(new_active(), recipient()), Ok(None));
    }

    #[test]
    fn a_request_from_the_recipient_of_a_pending_request_accepts_it() {
        assert_eq!(
            request(ChatState::Pending { hidden: false }, recipient()),
            Ok(Some((ChatStatus::Active, requester(), NOW)))
        );
    }

    #[test]
    fn only_the_member_who_declined_can_send_a_new_request() {
        assert_eq!(
            request(ChatState::Declined, requester()),
            Err(TransitionError::ChatDeclined)
        );
        assert_eq!(
            request(ChatState::Declined, recipient()),
            Ok(Some((ChatStatus::Pending, recipient(), NOW)))
        );
    }

    #[test]
    fn only_the_recipient_can_accept_and_accepting_is_idempotent() {
        assert_eq!(
            accept(ChatState::Pending { hidden: false }, recipient()),
            Ok(Some((ChatStatus::Active, requester(), NOW)))
        );
        assert_eq!(
            accept(ChatState::Pending { hidden: false }, requester()),
            Err(TransitionError::NotTheRecipient)
        );
        assert_eq!(accept(new_active(), recipient()), Ok(None));
        assert_eq!(
            accept(new_active(), requester()),
            Err(TransitionError::NotTheRecipient)
        );
        assert_eq!(
            accept(ChatState::Declined, recipient()),
            Err(TransitionError::ChatDeclined)
        );
        assert_eq!(
            accept(ChatState::Declined, requester()),
            Err(TransitionError::ChatDeclined)
        );
    }

    #[test]
    fn only_the_recipient_can_decline_and_declining_is_idempotent() {
        assert_eq!(
            decline(ChatState::Pending { hidden: false }, recipient()),
            Ok(Some((ChatStatus::Declined, requester(), NOW)))
        );
        assert_eq!(
            decline(ChatState::Pending { hidden: false }, requester()),
            Err(TransitionError::NotTheRecipient)
        );
        assert_eq!(decline(ChatState::Declined, recipient()), Ok(None));
        assert_eq!(
            decline(ChatState::Declined, requester()),
            Err(TransitionError::NotTheRecipient)
        );
        assert_eq!(
            decline(new_active(), recipient()),
            Err(TransitionError::ChatActive)
        );
        assert_eq!(
            decline(new_active(), requester()),
            Err(TransitionError::ChatActive)
        );
    }

    #[test]
    fn only_an_active_chat_accepts_messages() {
        assert!(chat(new_active()).check_send(requester()).is_ok());
        assert_eq!(
            chat(ChatState::Pending { hidden: false }).check_send(requester()),
            Err(TransitionError::ChatNotActive)
        );
        assert_eq!(
            chat(ChatState::Declined).check_send(requester()),
            Err(TransitionError::ChatNotActive)
        );
    }

    #[test]
    fn the_time_of_a_change_is_never_earlier_than_the_previous_change() {
        let chat = chat(ChatState::Pending { hidden: false });
        let Transition::To(accepted) = chat.accept(recipient(), Timestamp::from_millis(1)).unwrap()
        else {
            panic!("accepting must change a pending chat");
        };
        assert_eq!(accepted.updated_at, chat.updated_at);
    }

    /// An active chat of 17 and 42: 42 has sent message 3, which 17 has not read.
    fn conversation() -> Chat {
        chat(ChatState::Active(Conversation {
            seq: Seq::new(3),
            rev: Rev::ZERO,
            low: MemberState {
                unread: 1,
                held: 0,
                read_seq: Seq::new(2),
            },
            high: MemberState {
                unread: 0,
                held: 0,
                read_seq: Seq::new(1),
            },
            last_message: Some(message(3, requester()).preview()),
        }))
    }

    fn message(seq: u64, sender: UserId) -> Message {
        Message {
            chat_id: chat(ChatState::Pending { hidden: false }).id,
            seq: Seq::new(seq),
            sender,
            content: Some(MessageContent::new(Some("hi".to_owned()), None, None).unwrap()),
            created_at: Timestamp::from_millis(NOW),
            edited_at: None,
            deleted_at: None,
            rev: Rev::ZERO,
            idempotency_key: None,
        }
    }

    #[test]
    fn a_changed_message_keeps_its_idempotency_key() {
        let key = Some("k".to_owned());
        let message = Message {
            idempotency_key: key.clone(),
            ..message(3, requester())
        };
        let (chat, now) = (conversation(), Timestamp::from_millis(NOW));
        let change = new_text(Some("new"));
        let edited = chat.edit(requester(), &message, &change, WINDOW, now);
        assert_eq!(edited.unwrap().unwrap().idempotency_key, key);
        let deleted = chat.delete(requester(), &message, WINDOW, now);
        assert_eq!(deleted.unwrap().unwrap().idempotency_key, key);
    }

    #[test]
    fn only_a_pending_chat_is_an_open_request() {
        let open = OpenRequest {
            requester: requester(),
            recipient: recipient(),
            hidden: false,
        };
        assert_eq!(
            chat(ChatState::Pending { hidden: false }).open_request(),
            Some(open)
        );
        assert_eq!(chat(new_active()).open_request(), None);
        assert_eq!(chat(ChatState::Declined).open_request(), None);
    }

    #[test]
    fn each_member_of_an_active_chat_has_an_own_read_state() {
        let chat = conversation();
        assert_eq!(chat.member_state(recipient()).unread, 1);
        assert_eq!(chat.member_state(recipient()).read_seq, Seq::new(2));
        assert_eq!(chat.member_state(requester()).unread, 0);
        assert_eq!(chat.member_state(requester()).read_seq, Seq::new(1));
        assert_eq!(chat.seq(), Seq::new(3));
        assert_eq!(chat.last_message().unwrap().seq, Seq::new(3));
    }

    #[test]
    fn a_chat_that_is_not_active_has_no_messages_and_no_read_state() {
        for state in [
            ChatState::NotRequested,
            ChatState::Pending { hidden: false },
            ChatState::Declined,
            ChatState::Withdrawn,
        ] {
            let chat = chat(state);
            assert_eq!(chat.member_state(requester()), MemberState::default());
            assert_eq!(chat.seq(), Seq::ZERO);
            assert_eq!(chat.last_message(), None);
        }
    }

    #[test]
    fn a_message_is_read_up_to_the_watermark_of_its_recipient() {
        let chat = conversation();
        // The watermark of 17 is 2, that of 42 is 1.
        for (seq, sender, is_read) in [
            (1, requester(), true),
            (2, requester(), true),
            (3, requester(), false),
            (1, recipient(), true),
            (2, recipient(), false),
        ] {
            let message = message(seq, sender);
            assert_eq!(chat.is_read(&message), is_read, "{seq} from {sender}");
        }
    }

    fn withdraw(
        state: ChatState,
        by: UserId,
    ) -> Result<Option<(ChatStatus, UserId, u64)>, TransitionError> {
        after(chat(state).withdraw(by, Timestamp::from_millis(NOW)))
    }

    const PENDING: ChatState = ChatState::Pending { hidden: false };

    #[test]
    fn only_the_requester_can_withdraw_and_withdrawing_is_idempotent() {
        let withdrawn = Ok(Some((ChatStatus::Withdrawn, requester(), NOW)));
        assert_eq!(withdraw(PENDING, requester()), withdrawn);
        assert_eq!(withdraw(ChatState::Withdrawn, requester()), Ok(None));
        for state in [PENDING, ChatState::Withdrawn] {
            let error = Err(TransitionError::NotTheRequester);
            assert_eq!(withdraw(state, recipient()), error);
        }
        for by in [requester(), recipient()] {
            let error = Err(TransitionError::ChatActive);
            assert_eq!(withdraw(new_active(), by), error);
            let error = Err(TransitionError::ChatDeclined);
            assert_eq!(withdraw(ChatState::Declined, by), error);
        }
    }

    #[test]
    fn both_members_can_request_a_withdrawn_chat_again_but_not_accept_or_decline_it() {
        for by in [requester(), recipient()] {
            let pending = Ok(Some((ChatStatus::Pending, by, NOW)));
            assert_eq!(request(ChatState::Withdrawn, by), pending);
            let error = Err(TransitionError::ChatWithdrawn);
            assert_eq!(accept(ChatState::Withdrawn, by), error);
            assert_eq!(decline(ChatState::Withdrawn, by), error);
        }
    }

    fn blocked(chat: &Chat, by: UserId) -> Chat {
        match chat.block(by, Timestamp::from_millis(NOW)) {
            Transition::To(chat) => chat,
            Transition::Unchanged => panic!("{by} has blocked already"),
        }
    }

    fn unblocked(chat: &Chat, by: UserId) -> Chat {
        match chat.unblock(by) {
            Transition::To(chat) => chat,
            Transition::Unchanged => panic!("{by} has not blocked"),
        }
    }

    #[test]
    fn a_block_holds_the_unread_messages_and_moves_nothing_else() {
        let before = conversation();
        let after = blocked(&before, recipient());
        let held = after.member_state(recipient());
        assert_eq!((held.unread, held.held, held.unread_count()), (0, 1, 1));
        assert_eq!(after.updated_at, before.updated_at);
        assert_eq!(
            after.blocked_at(recipient()),
            Some(Timestamp::from_millis(NOW))
        );
        assert_eq!(after.blocked_at(requester()), None);
        assert_eq!(after.blocks.version, 1);
        let again = after.block(recipient(), Timestamp::from_millis(NOW + 1));
        assert_eq!(again, Transition::Unchanged);

        let restored = unblocked(&after, recipient());
        assert_eq!(restored.state, before.state);
        assert_eq!(restored.blocks.version, 2);
        assert_eq!(restored.unblock(recipient()), Transition::Unchanged);
    }

    #[test]
    fn a_block_hides_a_received_request_and_withdraws_a_sent_one() {
        let hidden = blocked(&chat(PENDING), recipient());
        assert_eq!(hidden.state, ChatState::Pending { hidden: true });
        assert_eq!(unblocked(&hidden, recipient()).state, PENDING);
        let withdrawn = blocked(&chat(PENDING), requester());
        assert_eq!(withdrawn.state, ChatState::Withdrawn);
        assert_eq!(withdrawn.updated_at, Timestamp::from_millis(NOW));
        assert_eq!(
            unblocked(&withdrawn, requester()).state,
            ChatState::Withdrawn
        );
    }

    #[test]
    fn a_request_to_a_user_who_has_blocked_the_requester_is_hidden() {
        let now = Timestamp::from_millis(NOW);
        let pair = Chat::new_block(conversation().id, recipient(), now);
        assert!(!pair.exists());
        for state in [ChatState::NotRequested, ChatState::Withdrawn] {
            let pair = Chat {
                state,
                ..pair.clone()
            };
            let Ok(Transition::To(request)) = pair.request(requester(), now) else {
                panic!("the request must be accepted");
            };
            assert_eq!(request.state, ChatState::Pending { hidden: true });
            assert_eq!(request.requester, requester());
            assert!(request.has_blocked(recipient()));
        }
    }

    #[test]
    fn you_blocked_comes_after_403_and_before_every_other_error() {
        let now = Timestamp::from_millis(NOW);
        let you_blocked = Err(TransitionError::YouBlocked);
        for state in [
            PENDING,
            new_active(),
            ChatState::Declined,
            ChatState::Withdrawn,
        ] {
            let chat = blocked(&chat(state), recipient());
            assert_eq!(chat.request(recipient(), now), you_blocked);
            assert_eq!(chat.accept(recipient(), now), you_blocked);
            assert_eq!(chat.decline(recipient(), now), you_blocked);
            assert_eq!(
                chat.check_send(recipient()),
                Err(TransitionError::YouBlocked)
            );
            assert_eq!(
                chat.check_mark_read(recipient()),
                Err(TransitionError::YouBlocked)
            );
            assert_eq!(chat.check_mark_read(requester()), Ok(()));
        }
        let chat = blocked(&chat(new_active()), requester());
        let error = Err(TransitionError::NotTheRecipient);
        assert_eq!(chat.accept(requester(), now), error);
    }

    #[test]
    fn for_the_one_who_is_blocked_the_errors_of_the_chat_come_first() {
        for (state, error) in [
            (PENDING, TransitionError::ChatNotActive),
            (ChatState::Declined, TransitionError::ChatNotActive),
            (new_active(), TransitionError::PeerUnavailable),
        ] {
            let chat = blocked(&chat(state), recipient());
            assert_eq!(chat.check_send(requester()), Err(error));
        }
        let both = blocked(&blocked(&conversation(), recipient()), requester());
        assert_eq!(
            both.check_send(requester()),
            Err(TransitionError::YouBlocked)
        );
    }

    const WINDOW: Option<Duration> = Some(Duration::from_secs(1));

    fn new_text(text: Option<&str>) -> ContentChange {
        ContentChange {
            text: Some(text.map(str::to_owned)),
            ..ContentChange::default()
        }
    }

    /// The result of editing message 3, `age` milliseconds after it was sent.
    fn edit(chat: &Chat, text: &str, age: u64) -> Result<Option<Message>, EditError> {
        let message = message(3, requester());
        let now = Timestamp::from_millis(NOW + age);
        chat.edit(requester(), &message, &new_text(Some(text)), WINDOW, now)
    }

    #[test]
    fn an_edit_within_the_window_raises_rev_and_keeps_the_rest() {
        let edited = edit(&conversation(), "new", 1_000).unwrap().unwrap();
        assert_eq!(edited.text(), Some("new"));
        assert_eq!(edited.edited_at, Some(Timestamp::from_millis(NOW + 1_000)));
        assert_eq!(edited.rev, Rev::new(1));
        assert_eq!(edited.created_at, Timestamp::from_millis(NOW));
        let late = edit(&conversation(), "new", 1_001);
        assert_eq!(late, Err(TransitionError::EditWindowClosed.into()));
        assert_eq!(edit(&conversation(), "hi", 1_001), Ok(None));
    }

    #[test]
    fn a_blocked_sender_cannot_edit_but_the_closed_window_is_reported_first() {
        let chat = blocked(&conversation(), recipient());
        for (text, age, error) in [
            ("new", 0, TransitionError::PeerUnavailable),
            ("hi", 0, TransitionError::PeerUnavailable),
            ("hi", 1_001, TransitionError::PeerUnavailable),
            ("new", 1_001, TransitionError::EditWindowClosed),
        ] {
            assert_eq!(edit(&chat, text, age), Err(error.into()), "{text} {age}");
        }
    }

    #[test]
    fn the_errors_of_an_edit_have_an_order() {
        let chat = conversation();
        let blocking = blocked(&blocked(&chat, requester()), recipient());
        let sent = message(3, requester());
        let deleted = Message {
            content: None,
            deleted_at: Some(Timestamp::from_millis(NOW)),
            ..sent.clone()
        };
        let nothing = EditError::Content(ContentError::Empty);
        for (chat, by, message, text, error) in [
            (
                &blocking,
                recipient(),
                &deleted,
                None,
                TransitionError::NotTheSender.into(),
            ),
            (&blocking, requester(), &sent, None, nothing),
            (
                &blocking,
                requester(),
                &deleted,
                None,
                TransitionError::YouBlocked.into(),
            ),
            (
                &blocking,
                requester(),
                &sent,
                Some("new"),
                TransitionError::YouBlocked.into(),
            ),
            (
                &chat,
                requester(),
                &deleted,
                Some("new"),
                TransitionError::MessageDeleted.into(),
            ),
        ] {
            let now = Timestamp::from_millis(NOW);
            let result = chat.edit(by, message, &new_text(text), WINDOW, now);
            assert_eq!(result, Err(error), "{by} {text:?}");
        }
    }

    #[test]
    fn a_message_is_deleted_once_within_the_window_whoever_is_blocked() {
        let chat = blocked(&blocked(&conversation(), requester()), recipient());
        let message = message(3, requester());
        let at = |age| Timestamp::from_millis(NOW + age);
        let delete = |by, message, age| chat.delete(by, message, WINDOW, at(age));
        let deleted = delete(requester(), &message, 1_000).unwrap().unwrap();
        assert_eq!(
            (&deleted.content, deleted.deleted_at),
            (&None, Some(at(1_000)))
        );
        assert_eq!(deleted.rev, Rev::new(1));
        assert!(deleted.preview().deleted);
        assert_eq!(delete(requester(), &deleted, 5_000), Ok(None));
        let late = delete(requester(), &message, 1_001);
        assert_eq!(late, Err(TransitionError::DeleteWindowClosed));
        let error = Err(TransitionError::NotTheSender);
        assert_eq!(delete(recipient(), &message, 0), error);
    }
}
