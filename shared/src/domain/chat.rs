use super::{ChatId, Message, Seq, Summary, Timestamp, UserId};

/// The one chat of a pair, as it is now. What may happen to it is decided here; the table of
/// transitions is part 1.3 of the API contract (`README.md`, "The life of a chat").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chat {
    /// The pair.
    pub id: ChatId,
    /// Who asked, last.
    pub requester: UserId,
    /// What it is now.
    pub state: State,
    /// When it was first asked for.
    pub created_at: Timestamp,
    /// Created, state changed or message sent; not marked as read.
    pub updated_at: Timestamp,
}

/// Each state carries what is valid in it: only an active chat has messages and watermarks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Waits for the recipient's answer.
    Pending,
    /// Both agreed; it stays so.
    Active(Conversation),
    /// The recipient declined; only the recipient can open it again.
    Declined,
}

/// A [`State`] without what it carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// See [`State::Pending`].
    Pending,
    /// See [`State::Active`].
    Active,
    /// See [`State::Declined`].
    Declined,
}

/// What was said in an active chat, and who has read how much of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conversation {
    /// The last message's place; 0 before the first.
    pub seq: Seq,
    /// The member with the smaller id.
    pub low: Member,
    /// The member with the larger id.
    pub high: Member,
    /// The last message.
    pub last_message: Option<Summary>,
}

/// What an active chat knows of one of its members.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// Messages of the other member after the watermark.
    pub unread: u64,
    /// The watermark: all messages up to here have been read. It never goes back.
    pub read_seq: Seq,
}

/// An open request: what the totals count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Whose open request it is.
    pub requester: UserId,
    /// Whose answer it waits for.
    pub recipient: UserId,
}

/// What an allowed call does to a chat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing: it is already so.
    Unchanged,
    /// It becomes this.
    To(Chat),
}

/// Why a call may not happen to a chat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Only the recipient answers a request.
    #[error("only the recipient of a request can answer it")]
    NotTheRecipient,
    /// An active chat cannot be declined.
    #[error("the chat is active; it can no longer be declined")]
    ChatActive,
    /// A declined chat is closed to this call.
    #[error("the request was declined; only the member who declined it can ask again")]
    ChatDeclined,
    /// Messages need an active chat.
    #[error("messages can be sent once the request has been accepted")]
    ChatNotActive,
}

impl Chat {
    /// A chat that `requester` asks for, for the first time.
    #[must_use]
    pub fn requested(id: ChatId, requester: UserId, now: Timestamp) -> Self {
        Self {
            id,
            requester,
            state: State::Pending,
            created_at: now,
            updated_at: now,
        }
    }

    /// The member who did not ask.
    #[must_use]
    pub fn recipient(&self) -> UserId {
        self.id.peer_of(self.requester)
    }

    /// The state without what it carries.
    #[must_use]
    pub fn status(&self) -> Status {
        match self.state {
            State::Pending => Status::Pending,
            State::Active(_) => Status::Active,
            State::Declined => Status::Declined,
        }
    }

    /// The open request, if the chat is one.
    #[must_use]
    pub fn pending(&self) -> Option<Pending> {
        matches!(self.state, State::Pending).then(|| Pending {
            requester: self.requester,
            recipient: self.recipient(),
        })
    }

    /// `by` asks for the chat that is there already.
    ///
    /// # Errors
    /// [`Refusal::ChatDeclined`] to the member who was declined.
    pub fn request(&self, by: UserId, now: Timestamp) -> Result<Step, Refusal> {
        match self.state {
            State::Active(_) => Ok(Step::Unchanged),
            State::Pending if by == self.requester => Ok(Step::Unchanged),
            State::Pending => Ok(self.becomes(self.requester, active(), now)),
            State::Declined if by == self.requester => Err(Refusal::ChatDeclined),
            State::Declined => Ok(self.becomes(by, State::Pending, now)),
        }
    }

    /// `by` accepts the request.
    ///
    /// # Errors
    /// Unless `by` is the recipient of a pending or active chat.
    pub fn accept(&self, by: UserId, now: Timestamp) -> Result<Step, Refusal> {
        match self.state {
            State::Declined => Err(Refusal::ChatDeclined),
            _ if by == self.requester => Err(Refusal::NotTheRecipient),
            State::Active(_) => Ok(Step::Unchanged),
            State::Pending => Ok(self.becomes(self.requester, active(), now)),
        }
    }

    /// `by` declines the request.
    ///
    /// # Errors
    /// Unless `by` is the recipient of a pending or declined chat.
    pub fn decline(&self, by: UserId, now: Timestamp) -> Result<Step, Refusal> {
        match self.state {
            State::Active(_) => Err(Refusal::ChatActive),
            _ if by == self.requester => Err(Refusal::NotTheRecipient),
            State::Declined => Ok(Step::Unchanged),
            State::Pending => Ok(self.becomes(self.requester, State::Declined, now)),
        }
    }

    /// The conversation that a new message joins.
    ///
    /// # Errors
    /// [`Refusal::ChatNotActive`] before both have agreed.
    pub fn conversation(&self) -> Result<&Conversation, Refusal> {
        match &self.state {
            State::Active(conversation) => Ok(conversation),
            State::Pending | State::Declined => Err(Refusal::ChatNotActive),
        }
    }

    /// What the chat knows of a member; nothing read and nothing unread unless it is active.
    #[must_use]
    pub fn member(&self, member: UserId) -> Member {
        match &self.state {
            State::Active(conversation) if member == self.id.low() => conversation.low,
            State::Active(conversation) => conversation.high,
            State::Pending | State::Declined => Member::default(),
        }
    }

    /// The last message's place; 0 when there is none.
    #[must_use]
    pub fn seq(&self) -> Seq {
        match &self.state {
            State::Active(conversation) => conversation.seq,
            State::Pending | State::Declined => Seq::ZERO,
        }
    }

    /// The last message.
    #[must_use]
    pub fn last_message(&self) -> Option<&Summary> {
        match &self.state {
            State::Active(conversation) => conversation.last_message.as_ref(),
            State::Pending | State::Declined => None,
        }
    }

    /// Whether the message's recipient has read it.
    #[must_use]
    pub fn has_been_read(&self, message: &Message) -> bool {
        self.member(self.id.peer_of(message.sender)).read_seq >= message.seq
    }

    /// The time of a change that happens now. Machines' clocks differ, and order must not: it is
    /// never before the change before it.
    #[must_use]
    pub fn not_before_last_change(&self, now: Timestamp) -> Timestamp {
        now.max(self.updated_at)
    }

    fn becomes(&self, requester: UserId, state: State, now: Timestamp) -> Step {
        let updated_at = self.not_before_last_change(now);
        Step::To(Self {
            id: self.id,
            requester,
            state,
            created_at: self.created_at,
            updated_at,
        })
    }
}

/// Both agreed, and nothing was said yet.
fn active() -> State {
    State::Active(Conversation::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_000;

    fn user(id: u64) -> UserId {
        UserId::new(id).unwrap()
    }

    fn asker() -> UserId {
        user(42)
    }

    fn asked() -> UserId {
        user(17)
    }

    fn chat(state: State) -> Chat {
        let id = ChatId::between(asker(), asked()).unwrap();
        Chat {
            state,
            ..Chat::requested(id, asker(), Timestamp::from_millis(500))
        }
    }

    /// Status, requester and time of change after a step.
    fn after(step: Result<Step, Refusal>) -> Result<Option<(Status, UserId, u64)>, Refusal> {
        step.map(|step| match step {
            Step::Unchanged => None,
            Step::To(chat) => Some((chat.status(), chat.requester, chat.updated_at.millis())),
        })
    }

    fn request(state: State, by: UserId) -> Result<Option<(Status, UserId, u64)>, Refusal> {
        after(chat(state).request(by, Timestamp::from_millis(NOW)))
    }

    fn accept(state: State, by: UserId) -> Result<Option<(Status, UserId, u64)>, Refusal> {
        after(chat(state).accept(by, Timestamp::from_millis(NOW)))
    }

    fn decline(state: State, by: UserId) -> Result<Option<(Status, UserId, u64)>, Refusal> {
        after(chat(state).decline(by, Timestamp::from_millis(NOW)))
    }

    #[test]
    fn asking_again_changes_nothing_while_pending_or_active() {
        assert_eq!(request(State::Pending, asker()), Ok(None));
        assert_eq!(request(active(), asker()), Ok(None));
        assert_eq!(request(active(), asked()), Ok(None));
    }

    #[test]
    fn asking_for_a_chat_that_the_other_asked_for_accepts_it() {
        assert_eq!(
            request(State::Pending, asked()),
            Ok(Some((Status::Active, asker(), NOW)))
        );
    }

    #[test]
    fn only_who_declined_can_ask_again_and_becomes_the_requester() {
        assert_eq!(
            request(State::Declined, asker()),
            Err(Refusal::ChatDeclined)
        );
        assert_eq!(
            request(State::Declined, asked()),
            Ok(Some((Status::Pending, asked(), NOW)))
        );
    }

    #[test]
    fn only_the_recipient_accepts_a_pending_chat_and_may_repeat_it() {
        assert_eq!(
            accept(State::Pending, asked()),
            Ok(Some((Status::Active, asker(), NOW)))
        );
        assert_eq!(
            accept(State::Pending, asker()),
            Err(Refusal::NotTheRecipient)
        );
        assert_eq!(accept(active(), asked()), Ok(None));
        assert_eq!(accept(active(), asker()), Err(Refusal::NotTheRecipient));
        assert_eq!(accept(State::Declined, asked()), Err(Refusal::ChatDeclined));
        assert_eq!(accept(State::Declined, asker()), Err(Refusal::ChatDeclined));
    }

    #[test]
    fn only_the_recipient_declines_a_pending_chat_and_may_repeat_it() {
        assert_eq!(
            decline(State::Pending, asked()),
            Ok(Some((Status::Declined, asker(), NOW)))
        );
        assert_eq!(
            decline(State::Pending, asker()),
            Err(Refusal::NotTheRecipient)
        );
        assert_eq!(decline(State::Declined, asked()), Ok(None));
        assert_eq!(
            decline(State::Declined, asker()),
            Err(Refusal::NotTheRecipient)
        );
        assert_eq!(decline(active(), asked()), Err(Refusal::ChatActive));
        assert_eq!(decline(active(), asker()), Err(Refusal::ChatActive));
    }

    #[test]
    fn only_an_active_chat_takes_messages() {
        assert!(chat(active()).conversation().is_ok());
        assert_eq!(
            chat(State::Pending).conversation(),
            Err(Refusal::ChatNotActive)
        );
        assert_eq!(
            chat(State::Declined).conversation(),
            Err(Refusal::ChatNotActive)
        );
    }

    #[test]
    fn the_time_of_a_change_is_never_before_the_change_before_it() {
        let chat = chat(State::Pending);
        let Step::To(accepted) = chat.accept(asked(), Timestamp::from_millis(1)).unwrap() else {
            panic!("accepting changes a pending chat");
        };
        assert_eq!(accepted.updated_at, chat.updated_at);
    }
}
