use super::{Chat, ChatId, ChatStatus, Rev, Seq, Timestamp, UserId};

/// Something in a chat that its members may want to know at once. Every change of a chat changes its state, so the
/// events are derived from the state before and after the change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChatEvent {
    /// A member sent a request.
    Requested,
    /// The recipient accepted the request.
    Accepted,
    /// The recipient declined the request.
    Declined,
    /// The requester withdrew the request.
    Withdrawn,
    /// A message was sent.
    MessageCreated(Seq),
    /// A message was edited or deleted.
    MessageChanged(Rev),
    /// A member has read messages.
    Read,
    /// A member blocked or unblocked the other one.
    BlockChanged {
        /// The member who did it. Only this member may know.
        by: UserId,
    },
}

impl ChatEvent {
    /// The events of one change of a chat, in a fixed order: status, new message, changed message, read messages,
    /// blocks. `before` is `None` if the pair had no state.
    ///
    /// A pair that has only a block, and no chat, has no events: for its members, there is nothing to see.
    #[must_use]
    pub fn between(before: Option<&Chat>, after: &Chat) -> Vec<Self> {
        let mut events = Vec::new();
        let status_event = match after.status() {
            ChatStatus::NotRequested => return events,
            ChatStatus::Pending => Self::Requested,
            ChatStatus::Active => Self::Accepted,
            ChatStatus::Declined => Self::Declined,
            ChatStatus::Withdrawn => Self::Withdrawn,
        };
        let request = |chat: &Chat| (chat.status(), chat.requester);
        if before.map(request) != Some(request(after)) {
            events.push(status_event);
        }
        if after.seq() > before.map_or(Seq::ZERO, Chat::seq) {
            events.push(Self::MessageCreated(after.seq()));
        }
        if after.rev() > before.map_or(Rev::ZERO, Chat::rev) {
            events.push(Self::MessageChanged(after.rev()));
        }
        let members = members(after.id);
        let watermark = |chat: &Chat, member| chat.member_state(member).read_seq;
        let has_read = |member: &UserId| {
            let read_before = before.map_or(Seq::ZERO, |before| watermark(before, *member));
            watermark(after, *member) > read_before
        };
        if members.iter().any(has_read) {
            events.push(Self::Read);
        }
        let has_changed_block = |by: &UserId| {
            let block_before = before.and_then(|before| before.blocked_at(*by));
            after.blocked_at(*by) != block_before
        };
        let blocks = members.into_iter().filter(has_changed_block);
        events.extend(blocks.map(|by| Self::BlockChanged { by }));
        events
    }

    /// The members who are told about the event, of the chat `after` it. A member who has blocked the other is told
    /// nothing about the chat, except the own block.
    #[must_use]
    pub fn audience(self, after: &Chat) -> Vec<UserId> {
        let mut members = members(after.id).to_vec();
        members.retain(|member| match self {
            Self::BlockChanged { by } => *member == by,
            _ => !after.has_blocked(*member),
        });
        members
    }

    /// When it happened, if the chat `after` the event says so.
    #[must_use]
    pub fn at(self, after: &Chat) -> Option<Timestamp> {
        match self {
            Self::Requested | Self::Accepted | Self::Declined | Self::Withdrawn => {
                Some(after.updated_at)
            }
            Self::MessageCreated(seq) => {
                let last = after.last_message().filter(|last| last.seq == seq);
                last.map(|last| last.created_at)
            }
            Self::MessageChanged(_) | Self::Read | Self::BlockChanged { .. } => None,
        }
    }
}

fn members(id: ChatId) -> [UserId; 2] {
    [id.low(), id.high()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        ChatState, Conversation, MemberState, Message, MessageContent, Transition,
    };

    const LATER: Timestamp = Timestamp::MAX;

    fn low() -> UserId {
        UserId::new(17).unwrap()
    }

    fn high() -> UserId {
        UserId::new(42).unwrap()
    }

    fn time(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    /// A request of 42 to 17.
    fn pending() -> Chat {
        Chat::new_request("17-42".parse().unwrap(), high(), time(5))
    }

    fn with_state(state: ChatState) -> Chat {
        Chat { state, ..pending() }
    }

    fn to(transition: Transition) -> Chat {
        match transition {
            Transition::To(chat) => chat,
            Transition::Unchanged => panic!("the chat does not change"),
        }
    }

    fn blocked(chat: &Chat, by: UserId) -> Chat {
        to(chat.block(by, LATER))
    }

    fn unblocked(chat: &Chat, by: UserId) -> Chat {
        to(chat.unblock(by))
    }

    /// An active chat in which 17 has sent message 1 and 42 has sent message 2. Nobody has read anything.
    fn active() -> Chat {
        let content = MessageContent::new(Some("hi".to_owned()), None, None).unwrap();
        let message = Message::new(pending().id, Seq::new(2), high(), content, time(7));
        let unread = MemberState {
            unread: 1,
            ..MemberState::default()
        };
        with_state(ChatState::Active(Conversation {
            seq: Seq::new(2),
            rev: Rev::new(3),
            low: unread,
            high: unread,
            last_message: Some(message.preview()),
        }))
    }

    /// The active chat after a change of its conversation.
    fn changed(change: impl Fn(&mut Conversation)) -> Chat {
        let mut chat = active();
        if let ChatState::Active(conversation) = &mut chat.state {
            change(conversation);
        }
        chat
    }

    fn events(before: &Chat, after: &Chat) -> Vec<ChatEvent> {
        ChatEvent::between(Some(before), after)
    }

    const HIDDEN: ChatState = ChatState::Pending { hidden: true };

    #[test]
    fn each_transition_of_a_request_is_one_event_for_both_members() {
        let pending = pending();
        let declined = to(pending.decline(low(), LATER).unwrap());
        let withdrawn = to(pending.withdraw(high(), LATER).unwrap());
        for (before, after, event) in [
            (None, pending.clone(), ChatEvent::Requested),
            (
                Some(&pending),
                to(pending.accept(low(), LATER).unwrap()),
                ChatEvent::Accepted,
            ),
            // Both members have sent a request.
            (
                Some(&pending),
                to(pending.request(low(), LATER).unwrap()),
                ChatEvent::Accepted,
            ),
            (Some(&pending), declined.clone(), ChatEvent::Declined),
            (Some(&pending), withdrawn.clone(), ChatEvent::Withdrawn),
            (
                Some(&declined),
                to(declined.request(low(), LATER).unwrap()),
                ChatEvent::Requested,
            ),
            (
                Some(&withdrawn),
                to(withdrawn.request(high(), LATER).unwrap()),
                ChatEvent::Requested,
            ),
            (
                Some(&withdrawn),
                to(withdrawn.request(low(), LATER).unwrap()),
                ChatEvent::Requested,
            ),
        ] {
            assert_eq!(ChatEvent::between(before, &after), [event]);
            assert_eq!(event.audience(&after), [low(), high()]);
            assert_eq!(event.at(&after), Some(after.updated_at));
        }
    }

    #[test]
    fn a_state_that_is_new_has_the_event_of_its_status() {
        for (state, event) in [
            (ChatState::Pending { hidden: false }, ChatEvent::Requested),
            (
                ChatState::Active(Conversation::default()),
                ChatEvent::Accepted,
            ),
            (ChatState::Declined, ChatEvent::Declined),
            (ChatState::Withdrawn, ChatEvent::Withdrawn),
        ] {
            assert_eq!(ChatEvent::between(None, &with_state(state)), [event]);
        }
    }

    #[test]
    fn a_request_in_the_other_direction_is_an_event_although_the_status_is_the_same() {
        let other = Chat {
            requester: low(),
            ..pending()
        };
        assert_eq!(events(&pending(), &other), [ChatEvent::Requested]);
    }

    #[test]
    fn a_change_that_members_cannot_see_has_no_events() {
        for chat in [pending(), active(), with_state(ChatState::Declined)] {
            assert_eq!(events(&chat, &chat), []);
        }
        let elsewhere = Chat {
            updated_at: LATER,
            ..active()
        };
        assert_eq!(events(&active(), &elsewhere), []);
        // The totals no longer count the messages.
        let counted = changed(|conversation| conversation.low.unread = 0);
        assert_eq!(events(&active(), &counted), []);
    }

    #[test]
    fn a_pair_without_a_chat_has_no_events() {
        let block = Chat::new_block(pending().id, low(), time(5));
        assert_eq!(ChatEvent::between(None, &block), []);
        assert_eq!(events(&block, &blocked(&block, high())), []);
        assert_eq!(events(&block, &unblocked(&block, low())), []);
    }

    #[test]
    fn a_new_message_is_an_event_at_the_time_of_the_message() {
        let before = changed(|conversation| conversation.seq = Seq::new(1));
        let created = ChatEvent::MessageCreated(Seq::new(2));
        assert_eq!(events(&before, &active()), [created]);
        assert_eq!(created.audience(&active()), [low(), high()]);
        assert_eq!(created.at(&active()), Some(time(7)));
        let another = ChatEvent::MessageCreated(Seq::new(3));
        assert_eq!(another.at(&active()), None);
        assert_eq!(created.at(&pending()), None);
    }

    #[test]
    fn a_changed_message_is_an_event() {
        let after = changed(|conversation| {
            conversation.rev = Rev::new(4);
            conversation.low.unread = 0;
        });
        let event = ChatEvent::MessageChanged(Rev::new(4));
        assert_eq!(events(&active(), &after), [event]);
        assert_eq!(event.audience(&after), [low(), high()]);
        assert_eq!(event.at(&after), None);
    }

    #[test]
    fn a_watermark_that_rises_is_an_event() {
        let by_low = changed(|conversation| conversation.low.read_seq = Seq::new(2));
        let by_high = changed(|conversation| conversation.high.read_seq = Seq::new(1));
        for after in [by_low, by_high] {
            assert_eq!(events(&active(), &after), [ChatEvent::Read]);
            assert_eq!(events(&after, &active()), []);
            assert_eq!(ChatEvent::Read.audience(&after), [low(), high()]);
            assert_eq!(ChatEvent::Read.at(&after), None);
        }
    }

    #[test]
    fn several_events_of_a_change_have_a_fixed_order() {
        let after = changed(|conversation| conversation.low.read_seq = Seq::new(1));
        let after = blocked(&blocked(&after, high()), low());
        let expected = [
            ChatEvent::Accepted,
            ChatEvent::MessageCreated(Seq::new(2)),
            ChatEvent::MessageChanged(Rev::new(3)),
            ChatEvent::Read,
            ChatEvent::BlockChanged { by: low() },
            ChatEvent::BlockChanged { by: high() },
        ];
        assert_eq!(events(&pending(), &after), expected);
        assert_eq!(ChatEvent::between(None, &after), expected);
    }

    #[test]
    fn only_the_member_who_blocks_or_unblocks_is_told() {
        for by in [low(), high()] {
            for before in [active(), with_state(ChatState::Declined)] {
                let after = blocked(&before, by);
                let event = ChatEvent::BlockChanged { by };
                assert_eq!(events(&before, &after), [event]);
                assert_eq!(event.audience(&after), [by]);
                assert_eq!(event.at(&after), None);
                let unblocked = unblocked(&after, by);
                assert_eq!(events(&after, &unblocked), [event]);
                assert_eq!(event.audience(&unblocked), [by]);
            }
        }
    }

    #[test]
    fn a_member_who_has_blocked_the_other_is_told_nothing_else() {
        let by_low = blocked(&active(), low());
        for event in [
            ChatEvent::Requested,
            ChatEvent::Accepted,
            ChatEvent::Declined,
            ChatEvent::Withdrawn,
            ChatEvent::MessageCreated(Seq::new(2)),
            ChatEvent::MessageChanged(Rev::new(4)),
            ChatEvent::Read,
        ] {
            assert_eq!(event.audience(&by_low), [high()]);
            assert_eq!(event.audience(&blocked(&active(), high())), [low()]);
            assert_eq!(event.audience(&blocked(&by_low, high())), []);
        }
    }

    #[test]
    fn a_hidden_request_is_told_only_to_the_requester() {
        let block = Chat::new_block(pending().id, low(), time(5));
        let hidden = to(block.request(high(), LATER).unwrap());
        assert_eq!(hidden.state, HIDDEN);
        assert_eq!(events(&block, &hidden), [ChatEvent::Requested]);
        assert_eq!(ChatEvent::Requested.audience(&hidden), [high()]);

        let withdrawn = to(hidden.withdraw(high(), LATER).unwrap());
        assert_eq!(events(&hidden, &withdrawn), [ChatEvent::Withdrawn]);
        assert_eq!(ChatEvent::Withdrawn.audience(&withdrawn), [high()]);
    }

    #[test]
    fn a_request_that_a_block_hides_or_shows_is_a_change_for_the_recipient() {
        let hidden = blocked(&pending(), low());
        assert_eq!(hidden.state, HIDDEN);
        let event = ChatEvent::BlockChanged { by: low() };
        assert_eq!(events(&pending(), &hidden), [event]);
        assert_eq!(event.audience(&hidden), [low()]);
        let shown = unblocked(&hidden, low());
        assert_eq!(events(&hidden, &shown), [event]);
        assert_eq!(event.audience(&shown), [low()]);
    }

    #[test]
    fn a_block_that_withdraws_a_request_is_a_withdrawal_for_the_other_member() {
        let after = blocked(&pending(), high());
        let block = ChatEvent::BlockChanged { by: high() };
        assert_eq!(events(&pending(), &after), [ChatEvent::Withdrawn, block]);
        assert_eq!(ChatEvent::Withdrawn.audience(&after), [low()]);
        assert_eq!(ChatEvent::Withdrawn.at(&after), Some(after.updated_at));
        assert_eq!(block.audience(&after), [high()]);
    }
}
