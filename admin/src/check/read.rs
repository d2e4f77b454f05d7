//! Reads the items of a chat or a user, and evaluates them.

use std::collections::BTreeSet;

use chat_shared::{
    Error,
    domain::{ChatId, ChatStatus, Timestamp, UserId},
    store::{
        Backoff,
        items::{ChatItem, ConnectionItem, Index, Item, OpenRequestsItem, Partition},
    },
};

use super::{
    Checker, MAX_ATTEMPTS,
    chat::ChatTally,
    connection::check_connection,
    state::ChatState,
    user::{Counter, ExpectedCounts, StoredCounts, add_once, contributes},
    violation::Violation,
};
use crate::table::KeyRange;

impl Checker<'_> {
    /// Evaluates a chat once.
    pub(super) async fn evaluate_chat(&self, id: ChatId) -> Result<Vec<Violation>, Error> {
        let state_key = ChatItem::key(id);
        let state = self.table.get(&state_key).await?;
        let mut tally = ChatTally::new(id, state.as_ref(), Timestamp::now());
        // All other items of a chat sort before the state.
        let range = KeyRange::before(&state_key);
        let mut start_key: Option<Item> = None;
        loop {
            let page = self.table.query_page(&range, start_key.as_ref()).await?;
            for item in page.items {
                tally.add(item);
            }
            start_key = page.next_key;
            if start_key.is_none() {
                break;
            }
        }
        // Messages may have arrived or changed during these reads. The state now includes that.
        let state_now = self.table.get(&state_key).await?;
        Ok(tally.finish(state_now.as_ref()))
    }

    /// Evaluates the connections of a user once.
    pub(super) async fn evaluate_connections(&self, user: UserId) -> Result<Vec<Violation>, Error> {
        let pk = Partition::User(user).pk();
        let range = KeyRange::starting_with(&pk, ConnectionItem::SK_PREFIX);
        let items = self.table.query_all(&range).await?.into_iter();
        Ok(items.flat_map(check_connection).collect())
    }

    /// Evaluates the counters of a user once. A counter is compared only when the chat states that it counts were
    /// the same before and after it was read. The other counters are read again, up to
    /// [`MAX_ATTEMPTS`] times.
    pub(super) async fn evaluate_user(&self, user: UserId) -> Result<Vec<Violation>, Error> {
        let mut before = self.expected_counts(user).await?;
        let mut violations = Vec::new();
        // All counters at first, then those whose chats changed.
        let mut undecided: Option<BTreeSet<Counter>> = None;
        let mut backoff = Backoff::new();
        for _ in 0..MAX_ATTEMPTS {
            let mut stored = self.stored_counts(user).await?;
            let after = self.expected_counts(user).await?;
            let evaluated = undecided.take().unwrap_or_else(|| {
                violations = stored.take_violations();
                let all = before.counters().chain(stored.counters());
                all.chain(after.counters()).cloned().collect()
            });
            let mut changed = BTreeSet::new();
            for counter in evaluated {
                let expected = after.get(&counter);
                if before.get(&counter) != expected {
                    changed.insert(counter);
                } else if let Some(violation) = stored.compare(&counter, expected) {
                    add_once(&mut violations, violation);
                }
            }
            if changed.is_empty() {
                return Ok(violations);
            }
            undecided = Some(changed);
            before = after;
            backoff.wait().await;
        }
        for counter in undecided.into_iter().flatten() {
            add_once(&mut violations, counter.undecided());
        }
        Ok(violations)
    }

    /// Members who have no counters at all although the chat should be counted. The scan does not find
    /// these users.
    pub(super) async fn members_without_counters(&self, id: ChatId) -> Result<Vec<UserId>, Error> {
        let Some(item) = self.table.get(&ChatItem::key(id)).await? else {
            return Ok(Vec::new());
        };
        let (state, _) = ChatState::read(id, &item, Timestamp::now());
        let mut members = Vec::new();
        for member in [id.low(), id.high()] {
            if contributes(&state, id, member) && self.stored_counts(member).await?.is_empty() {
                members.push(member);
            }
        }
        Ok(members)
    }

    /// Reads a user's counters.
    async fn stored_counts(&self, user: UserId) -> Result<StoredCounts, Error> {
        // Counters of open requests sort before totals.
        let first = OpenRequestsItem::key(user);
        let range = KeyRange {
            index: None,
            condition: "pk = :pk AND sk >= :first",
            values: vec![(":pk", first.pk), (":first", first.sk)],
            projection: None,
            last: None,
        };
        let mut counts = StoredCounts::default();
        let mut start_key: Option<Item> = None;
        loop {
            let page = self.table.query_page(&range, start_key.as_ref()).await?;
            for item in page.items {
                counts.add(item);
            }
            start_key = page.next_key;
            if start_key.is_none() {
                return Ok(counts);
            }
        }
    }

    /// Computes a user's counters from the states of the user's chats. The indexes give only the ids;
    /// the states come from the table. Chats that the indexes do not list because their state is
    /// damaged are added.
    async fn expected_counts(&self, user: UserId) -> Result<ExpectedCounts, Error> {
        let mut expected = ExpectedCounts::default();
        let damaged = self.damaged_chats.borrow().get(&user).cloned();
        let damaged = damaged.unwrap_or_default();
        let ids: Vec<_> = damaged.iter().copied().collect();
        for (id, state) in self.chat_states(&ids).await? {
            let state = state.unwrap_or_else(ChatState::missing);
            expected.add(&state, id, user);
        }
        let mut seen = damaged;
        for index in [Index::ByRequester, Index::ByRecipient] {
            for key in index_keys(user) {
                let range = KeyRange {
                    index: Some(index.name()),
                    condition: index.condition(false),
                    values: vec![(":key", key)],
                    projection: Some("pk"),
                    last: None,
                };
                let mut start_key: Option<Item> = None;
                loop {
                    let page = self.table.query_page(&range, start_key.as_ref()).await?;
                    let pks = page.items.iter().filter_map(|item| item.get("pk"));
                    let ids = pks.filter_map(|pk| match Partition::parse(pk.as_s().ok()?) {
                        // A damaged state may be listed for a user who is no member of the chat.
                        Some(Partition::Chat(id)) if id.has_member(user) => Some(id),
                        _ => None,
                    });
                    // An index that lags behind may list a chat at its old place, or twice. Each
                    // chat counts once, with its current state.
                    let new_ids: Vec<_> = ids.filter(|id| seen.insert(*id)).collect();
                    for (id, state) in self.chat_states(&new_ids).await? {
                        if let Some(state) = state {
                            expected.add(&state, id, user);
                        }
                    }
                    start_key = page.next_key;
                    if start_key.is_none() {
                        break;
                    }
                }
            }
        }
        Ok(expected)
    }

    /// Reads the current states of chats; `None` for a chat without a state.
    async fn chat_states(&self, ids: &[ChatId]) -> Result<Vec<(ChatId, Option<ChatState>)>, Error> {
        let keys: Vec<_> = ids.iter().map(|id| ChatItem::key(*id)).collect();
        let items = self.table.get_all(&keys, None).await?;
        let now = Timestamp::now();
        let state_of = |id: ChatId| {
            let item = items.get(&ChatItem::key(id))?;
            Some(ChatState::read(id, item, now).0)
        };
        Ok(ids.iter().map(|id| (*id, state_of(*id))).collect())
    }
}

/// The partition keys that list the chats of a user in an index. A chat that none of them lists adds nothing
/// to the user's counters.
pub(super) fn index_keys(user: UserId) -> [String; 4] {
    [
        Index::key(user, ChatStatus::Pending),
        Index::key(user, ChatStatus::Active),
        Index::key(user, ChatStatus::Declined),
        Index::blocked_key(user),
    ]
}
