use super::{ChatId, Message, MessagePreview, Seq, Timestamp, UserId};

/// The chat of two users. A pair of users has at most one chat. The transitions are specified in
/// `docs/api.md`, section "Chat state machine".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chat {
    /// Identifies the two members.
    pub id: ChatId,
    /// The user who sent the latest chat request.
    pub requester: UserId,
    /// The current state.
    pub state: ChatState,
    /// The time of the first chat request.
    pub created_at: Timestamp,
    /// The time of the latest state change or message. Marking as read does not change it.
    pub updated_at: Timestamp,
}

/// The state of a chat. Each variant carries only data that is valid in that state: only an active
/// chat has messages and watermarks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChatState {
    /// The recipient has neither accepted nor declined the request.
    Pending,
    /// The recipient accepted. This state is final.
    Active(Conversation),
    /// The recipient declined. Only the recipient can send a new request.
    Declined,
}

/// A [`ChatState`] without its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChatStatus {
    /// See [`ChatState::Pending`].
    Pending,
    /// See [`ChatState::Active`].
    Active,
    /// See [`ChatState::Declined`].
    Declined,
}

/// The data of an active chat.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conversation {
    /// The number of the last message, or 0.
    pub seq: Seq,
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
    /// The number of messages from the other member after the watermark.
    pub unread: u64,
    /// The watermark: this member has read all messages up to this one. It never decreases.
    pub read_seq: Seq,
}

/// A pending chat request, as the totals of both users count it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenRequest {
    /// The user who sent the request.
    pub requester: UserId,
    /// The user who can accept or decline it.
    pub recipient: UserId,
}

/// The result of an allowed transition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transition {
    /// The chat is already in the requested state.
    Unchanged,
    /// The chat must be replaced by this one.
    To(Chat),
}

/// The state of the chat does not allow the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransitionError {
    /// Only the recipient can accept or decline.
    #[error("only the recipient of a request can answer it")]
    NotTheRecipient,
    /// An active chat cannot be declined.
    #[error("the chat is active; it can no longer be declined")]
    ChatActive,
    /// The request was declined.
    #[error("the request was declined; only the member who declined it can send a new request")]
    ChatDeclined,
    /// Messages require an active chat.
    #[error("messages can be sent after the request has been accepted")]
    ChatNotActive,
}

impl Chat {
    /// Creates the chat of a pair that has none.
    #[must_use]
    pub fn new_request(id: ChatId, requester: UserId, now: Timestamp) -> Self {
        Self {
            id,
            requester,
            state: ChatState::Pending,
            created_at: now,
            updated_at: now,
        }
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
            ChatState::Pending => ChatStatus::Pending,
            ChatState::Active(_) => ChatStatus::Active,
            ChatState::Declined => ChatStatus::Declined,
        }
    }

    /// The open request, if the chat is pending.
    #[must_use]
    pub fn open_request(&self) -> Option<OpenRequest> {
        matches!(self.state, ChatState::Pending).then(|| OpenRequest {
            requester: self.requester,
            recipient: self.recipient(),
        })
    }

    /// `by` sends a request for a chat that exists.
    ///
    /// # Errors
    /// [`TransitionError::ChatDeclined`] if the other member has declined a request of `by`.
    pub fn request(&self, by: UserId, now: Timestamp) -> Result<Transition, TransitionError> {
        match self.state {
            ChatState::Active(_) => Ok(Transition::Unchanged),
            ChatState::Pending if by == self.requester => Ok(Transition::Unchanged),
            ChatState::Pending => Ok(self.transition_to(self.requester, new_active(), now)),
            ChatState::Declined if by == self.requester => Err(TransitionError::ChatDeclined),
            ChatState::Declined => Ok(self.transition_to(by, ChatState::Pending, now)),
        }
    }

    /// `by` accepts the request.
    ///
    /// # Errors
    /// [`TransitionError`] unless `by` is the recipient of a pending or active chat.
    pub fn accept(&self, by: UserId, now: Timestamp) -> Result<Transition, TransitionError> {
        match self.state {
            ChatState::Declined => Err(TransitionError::ChatDeclined),
            _ if by == self.requester => Err(TransitionError::NotTheRecipient),
            ChatState::Active(_) => Ok(Transition::Unchanged),
            ChatState::Pending => Ok(self.transition_to(self.requester, new_active(), now)),
        }
    }

    /// `by` declines the request.
    ///
    /// # Errors
    /// [`TransitionError`] unless `by` is the recipient of a pending or declined chat.
    pub fn decline(&self, by: UserId, now: Timestamp) -> Result<Transition, TransitionError> {
        match self.state {
            ChatState::Active(_) => Err(TransitionError::ChatActive),
            _ if by == self.requester => Err(TransitionError::NotTheRecipient),
            ChatState::Declined => Ok(Transition::Unchanged),
            ChatState::Pending => Ok(self.transition_to(self.requester, ChatState::Declined, now)),
        }
    }

    /// The data of an active chat.
    ///
    /// # Errors
    /// [`TransitionError::ChatNotActive`] if the chat is pending or declined.
    pub fn conversation(&self) -> Result<&Conversation, TransitionError> {
        match &self.state {
            ChatState::Active(conversation) => Ok(conversation),
            ChatState::Pending | ChatState::Declined => Err(TransitionError::ChatNotActive),
        }
    }

    /// The read state of a member. Nothing is read or unread unless the chat is active.
    #[must_use]
    pub fn member_state(&self, member: UserId) -> MemberState {
        match &self.state {
            ChatState::Active(conversation) if member == self.id.low() => conversation.low,
            ChatState::Active(conversation) => conversation.high,
            ChatState::Pending | ChatState::Declined => MemberState::default(),
        }
    }

    /// The number of the last message, or 0.
    #[must_use]
    pub fn seq(&self) -> Seq {
        match &self.state {
            ChatState::Active(conversation) => conversation.seq,
            ChatState::Pending | ChatState::Declined => Seq::ZERO,
        }
    }

    /// A preview of the last message.
    #[must_use]
    pub fn last_message(&self) -> Option<&MessagePreview> {
        match &self.state {
            ChatState::Active(conversation) => conversation.last_message.as_ref(),
            ChatState::Pending | ChatState::Declined => None,
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
            created_at: self.created_at,
            updated_at,
        })
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
        assert_eq!(request(ChatState::Pending, requester()), Ok(None));
        assert_eq!(request(new_active(), requester()), Ok(None));
        assert_eq!(request(new_active(), recipient()), Ok(None));
    }

    #[test]
    fn a_request_from_the_recipient_of_a_pending_request_accepts_it() {
        assert_eq!(
            request(ChatState::Pending, recipient()),
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
            accept(ChatState::Pending, recipient()),
            Ok(Some((ChatStatus::Active, requester(), NOW)))
        );
        assert_eq!(
            accept(ChatState::Pending, requester()),
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
            decline(ChatState::Pending, recipient()),
            Ok(Some((ChatStatus::Declined, requester(), NOW)))
        );
        assert_eq!(
            decline(ChatState::Pending, requester()),
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
        assert!(chat(new_active()).conversation().is_ok());
        assert_eq!(
            chat(ChatState::Pending).conversation(),
            Err(TransitionError::ChatNotActive)
        );
        assert_eq!(
            chat(ChatState::Declined).conversation(),
            Err(TransitionError::ChatNotActive)
        );
    }

    #[test]
    fn the_time_of_a_change_is_never_earlier_than_the_previous_change() {
        let chat = chat(ChatState::Pending);
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
            low: MemberState {
                unread: 1,
                read_seq: Seq::new(2),
            },
            high: MemberState {
                unread: 0,
                read_seq: Seq::new(1),
            },
            last_message: Some(message(3, requester()).preview()),
        }))
    }

    fn message(seq: u64, sender: UserId) -> Message {
        Message {
            chat_id: chat(ChatState::Pending).id,
            seq: Seq::new(seq),
            sender,
            content: MessageContent::new(Some("hi".to_owned()), None, None).unwrap(),
            created_at: Timestamp::from_millis(NOW),
        }
    }

    #[test]
    fn only_a_pending_chat_is_an_open_request() {
        let open = OpenRequest {
            requester: requester(),
            recipient: recipient(),
        };
        assert_eq!(chat(ChatState::Pending).open_request(), Some(open));
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
        for state in [ChatState::Pending, ChatState::Declined] {
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
}
