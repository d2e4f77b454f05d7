//! Evaluates the counters of one user: compares them with the states of the user's chats. No I/O.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    mem::discriminant,
};

use chat_shared::{
    domain::{ChatId, ChatStatus, UserId},
    store::items::{CHANGES, Item, ItemKey, ItemKind, OpenRequestsItem, TOTALS_SHARDS, TotalsItem},
};

use super::{
    attributes::{Attributes, StoredCount},
    state::ChatState,
    violation::{Finding, Value, Violation},
};
use crate::table::item_key;

/// Why a counter cannot be evaluated.
const CHATS_KEEP_CHANGING: &str = "the user's chats keep changing; check again later";

/// A counting attribute of an item.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Counter {
    key: ItemKey,
    attribute: &'static str,
}

/// The value that a counter should have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ExpectedCount {
    count: i64,
    /// The first chat that it counts and whose state is damaged. Then the value is unknown.
    damaged_chat: Option<ChatId>,
    /// Fingerprint of all chat states that the count was computed from, in any order.
    fingerprint: u64,
}

/// The values that the counters of a user should have. A counter that is not in the map should be 0.
#[derive(Debug, Default)]
pub(super) struct ExpectedCounts(BTreeMap<Counter, ExpectedCount>);

/// The counters of a user as they are stored.
#[derive(Debug, Default)]
pub(super) struct StoredCounts {
    /// Only attributes that exist. A counter without the attribute counts as 0.
    counts: BTreeMap<Counter, StoredCount>,
    has_items: bool,
    /// Violations other than wrong counts.
    violations: Vec<Violation>,
}

impl ExpectedCounts {
    /// Adds what a chat contributes to the counters of a member.
    pub(super) fn add(&mut self, chat: &ChatState, id: ChatId, member: UserId) {
        for (counter, count) in contributions(chat, id, member) {
            let is_unread = counter.attribute == TotalsItem::UNREAD;
            let sum = self.0.entry(counter).or_default();
            sum.count = sum.count.saturating_add(count.unwrap_or(0));
            if count.is_none() {
                // The smallest id, because chats have no fixed order.
                sum.damaged_chat = Some(sum.damaged_chat.map_or(id, |other| other.min(id)));
            }
            let fingerprint = fingerprint(chat, id, is_unread);
            sum.fingerprint = sum.fingerprint.wrapping_add(fingerprint);
        }
    }

    pub(super) fn get(&self, counter: &Counter) -> ExpectedCount {
        self.0.get(counter).copied().unwrap_or_default()
    }

    pub(super) fn counters(&self) -> impl Iterator<Item = &Counter> {
        self.0.keys()
    }
}

impl StoredCounts {
    /// Adds an item of the user's partition, and checks what can be checked without the user's chats.
    pub(super) fn add(&mut self, item: Item) {
        let key = item_key(&item);
        // The scan of the table reports items of an unknown kind, and connections are evaluated apart.
        let Some(kind @ (ItemKind::Totals | ItemKind::OpenRequests)) = ItemKind::of(&key) else {
            return;
        };
        self.has_items = true;
        let is_totals = kind == ItemKind::Totals;
        let names: &[&'static str] = if is_totals {
            &[TotalsItem::UNREAD, TotalsItem::PENDING]
        } else {
            &[OpenRequestsItem::OPEN]
        };
        let mut attributes = Attributes::new(&key, &item);
        attributes.check_kind(kind);
        // Nothing says how often a counter was changed.
        attributes.number_or_zero(CHANGES);
        if is_totals && !TotalsItem::is_shard(&key.sk) {
            let last = TOTALS_SHARDS.saturating_sub(1);
            let description = format!("is not one of the shards TOTALS#0 to TOTALS#{last}");
            attributes.report_item("key", description);
        }
        let mut is_valid = attributes.is_valid();
        self.violations.extend(attributes.into_violations());
        for &attribute in names {
            let count = StoredCount::read(&item, attribute);
            is_valid &= !matches!(count, StoredCount::Malformed(_));
            if count != StoredCount::Missing {
                let key = key.clone();
                self.counts.insert(Counter { key, attribute }, count);
            }
        }
        let is_error = if is_totals {
            TotalsItem::read(item).is_err()
        } else {
            OpenRequestsItem::read(item).is_err()
        };
        if is_valid && is_error {
            self.violations.push(Violation::unreadable(key));
        }
    }

    /// Whether the user has no counters at all.
    pub(super) fn is_empty(&self) -> bool {
        !self.has_items
    }

    pub(super) fn counters(&self) -> impl Iterator<Item = &Counter> {
        self.counts.keys()
    }

    /// Takes the violations other than wrong counts.
    pub(super) fn take_violations(&mut self) -> Vec<Violation> {
        std::mem::take(&mut self.violations)
    }

    /// Compares a counter with the value that it should have.
    pub(super) fn compare(&self, counter: &Counter, expected: ExpectedCount) -> Option<Violation> {
        let stored = self.counts.get(counter);
        let Counter { key, attribute } = counter.clone();
        if let Some(chat) = expected.damaged_chat {
            // The correct count is unknown, but a stored one may be wrong in any case.
            return stored.map(|stored| {
                if let Some(problem) = stored.problem() {
                    let description = format!("{attribute} {problem}");
                    return Violation::unrepairable(key, attribute, description);
                }
                let reason = format!("chat {chat} is damaged; correct it first, then check again");
                Violation::inconclusive(key, reason)
            });
        }
        let stored = stored.cloned().unwrap_or(StoredCount::Number(0));
        if stored == StoredCount::Number(expected.count) {
            return None;
        }
        let finding = Finding::Mismatch {
            attribute,
            actual: stored.into(),
            expected: Value::Number(expected.count),
            based_on: Vec::new(),
        };
        Some(Violation::new(key, finding))
    }
}

impl Counter {
    /// The line for a counter whose chats changed in each evaluation.
    pub(super) fn undecided(self) -> Violation {
        Violation::inconclusive(self.key, CHATS_KEEP_CHANGING)
    }
}

/// Adds a violation unless it is the second line about the same item that says the same.
pub(super) fn add_once(violations: &mut Vec<Violation>, violation: Violation) {
    if !violations.contains(&violation) {
        violations.push(violation);
    }
}

/// Whether a chat contributes to a counter of a member, or may do so.
pub(super) fn contributes(chat: &ChatState, id: ChatId, member: UserId) -> bool {
    let contributions = contributions(chat, id, member);
    contributions.iter().any(|(_, count)| *count != Some(0))
}

/// The amounts that a chat adds to a member's counters; `None` if they are unknown. Contains zeros,
/// too, so that a change from or to zero is noticed.
fn contributions(chat: &ChatState, id: ChatId, member: UserId) -> [(Counter, Option<i64>); 3] {
    let counter = |key, attribute| Counter { key, attribute };
    let open_request = |of_requester: bool| match (chat.status, chat.requester) {
        (Some(ChatStatus::Pending), Some(requester)) => {
            Some(i64::from((requester == member) == of_requester))
        }
        (Some(ChatStatus::Pending) | None, _) => None,
        (Some(_), _) => Some(0),
    };
    let received = match open_request(false) {
        Some(1) => chat.is_hidden.map(|is_hidden| i64::from(!is_hidden)),
        count => count,
    };
    // The unread messages of a member who has blocked the other are in `held`, which the totals do not count.
    let unread = match chat.status {
        Some(ChatStatus::Active) => chat.unread(id, member),
        Some(_) => Some(0),
        None => None,
    };
    let totals = TotalsItem::key(member, id);
    [
        (counter(totals.clone(), TotalsItem::UNREAD), unread),
        (counter(totals, TotalsItem::PENDING), received),
        (
            counter(OpenRequestsItem::key(member), OpenRequestsItem::OPEN),
            open_request(true),
        ),
    ]
}

/// A hash that changes whenever the chat changes: messages raise `seq`, their edits and deletions raise
/// `rev`, and blocks raise their version. Without messages it changes whenever the request changes: an
/// active chat stays active, and its messages do not matter to counters of requests.
fn fingerprint(chat: &ChatState, id: ChatId, with_messages: bool) -> u64 {
    let mut hasher = DefaultHasher::new();
    let status = chat.status.map(|status| discriminant(&status));
    (id, status, chat.requester).hash(&mut hasher);
    if with_messages || chat.status != Some(ChatStatus::Active) {
        (chat.updated_at, chat.seq, chat.rev).hash(&mut hasher);
        (chat.block_version, chat.is_hidden).hash(&mut hasher);
        for member in &chat.members {
            (member.unread.valid(), member.held.valid_or_zero()).hash(&mut hasher);
            (member.read_seq, member.block).hash(&mut hasher);
        }
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use chat_shared::store::items::ChatItem;

    use super::*;
    use crate::check::{
        state::Block,
        test_table::{now, valid_table},
    };

    /// Changes of a single value of a chat, by the name of its attribute.
    type Change = fn(&mut ChatState);
    const CHANGES: [(&str, Change); 6] = [
        ("seq", |chat| chat.seq = Some(9)),
        ("rev", |chat| chat.rev = Some(9)),
        ("v", |chat| chat.block_version = Some(9)),
        ("hid", |chat| {
            chat.is_hidden = chat.is_hidden.map(|is_hidden| !is_hidden);
        }),
        ("highHeld", |chat| {
            chat.members[1].held = StoredCount::Number(9);
        }),
        ("highBlock", |chat| chat.members[1].block = Block::None),
    ];

    /// The fingerprint of each count of 44 that is computed from only this chat, after a change of the chat.
    fn fingerprints(chat: &str, change: fn(&mut ChatState)) -> BTreeMap<&'static str, u64> {
        let id: ChatId = chat.parse().unwrap();
        let table = valid_table();
        let (mut state, _) = ChatState::read(id, &table[&ChatItem::key(id)], now());
        change(&mut state);
        let mut expected = ExpectedCounts::default();
        expected.add(&state, id, id.high());
        let counts = expected.0.into_iter();
        counts
            .map(|(counter, count)| (counter.attribute, count.fingerprint))
            .collect()
    }

    #[test]
    fn each_change_of_a_chat_changes_the_fingerprints_of_the_counts_that_depend_on_it() {
        // In an active chat, requests depend only on the status.
        let cases: [(&str, &[&str]); 2] = [
            ("33-44", &["open", "pending", "unread"]),
            ("11-44", &["unread"]),
        ];
        for (chat, dependent) in cases {
            let before = fingerprints(chat, |_| ());
            assert_eq!(before, fingerprints(chat, |_| ()), "{chat}");
            for (attribute, change) in CHANGES {
                let after = fingerprints(chat, change);
                let counts = before.keys().copied();
                let changed: Vec<_> = counts.filter(|name| after[name] != before[name]).collect();
                assert_eq!(changed, dependent, "{attribute} of {chat}");
            }
        }
    }
}
