//! Sums up the changes of a chat: their numbers have no gaps, except for those that have expired. No I/O.

use std::collections::BTreeMap;

use chat_shared::{domain::Timestamp, store::items::ChangeItem};

use super::{
    attributes::MAX_CLOCK_DIFFERENCE,
    message::{ChangeFacts, MessageFacts},
};

/// The maximum number of changes of a chat, and of changed messages, that are compared with other items. It limits
/// the memory for a chat.
const MAX_CHANGES: usize = 100_000;

/// The changes of a chat, which it takes in the order of their numbers.
///
/// The table's TTL deletes a change 90 days after it was made, in no particular order. Changes are made in
/// the order of their numbers. So a change that follows one that cannot have expired must exist.
pub(super) struct ChangeTally {
    now: Timestamp,
    /// The number of the last change so far; 0 when there is none.
    last: u64,
    /// Whether the last change so far cannot have expired, and so no later one.
    is_last_kept: bool,
    /// The last change of each message, as far as the message was not read yet.
    last_changes: BTreeMap<u64, u64>,
    /// Whether `last_changes` lacks messages.
    is_partial: bool,
    /// The message of each change.
    messages: BTreeMap<u64, u64>,
}

impl ChangeTally {
    /// No change is older than its chat.
    pub(super) fn new(chat_created_at: Option<u64>, now: Timestamp) -> Self {
        let is_last_kept = chat_created_at.is_some_and(|time| is_kept(time, now));
        Self {
            now,
            last: 0,
            is_last_kept,
            last_changes: BTreeMap::new(),
            is_partial: false,
            messages: BTreeMap::new(),
        }
    }

    /// Adds the change with this number. Returns a description of the changes before it that are missing.
    pub(super) fn add(&mut self, rev: u64, change: &ChangeFacts) -> Option<String> {
        let gap = self.missing_before(rev);
        self.last = self.last.max(rev);
        let deadline = self.now + MAX_CLOCK_DIFFERENCE;
        self.is_last_kept = change
            .expires_at
            .is_some_and(|expires_at| expires_at > deadline.seconds());
        if let Some(seq) = change.seq {
            if self.last_changes.len() < MAX_CHANGES {
                self.last_changes.insert(seq, rev);
            } else {
                self.is_partial = true;
            }
            if self.messages.len() < MAX_CHANGES {
                self.messages.insert(rev, seq);
            }
        }
        gap
    }

    /// The message that a change has changed. `None` if the change is not known, for example because it has expired.
    pub(super) fn message_of(&self, rev: u64) -> Option<u64> {
        self.messages.get(&rev).copied()
    }

    /// A description of the changes up to that of the chat's state which are missing at the end.
    pub(super) fn missing_at_end(&self, rev: u64) -> Option<String> {
        self.missing_before(rev.saturating_add(1))
    }

    fn missing_before(&self, rev: u64) -> Option<String> {
        let (first, last) = (self.last.saturating_add(1), rev.saturating_sub(1));
        (self.is_last_kept && first <= last).then(|| missing("change", first, last))
    }

    /// Compares a message with its changes. `rev` is the number of its last change, and `state_rev` that of
    /// the chat's state, which was read before the changes.
    pub(super) fn compare(
        &mut self,
        seq: u64,
        rev: u64,
        message: &MessageFacts,
        state_rev: Option<u64>,
    ) -> Option<String> {
        let listed = self.last_changes.remove(&seq).unwrap_or(0);
        if rev < listed {
            return Some(format!(
                "rev is {rev}, but change {listed} is of this message"
            ));
        }
        // A change that the state does not include may have been made after the changes were read.
        let is_included = state_rev.is_some_and(|state_rev| rev <= state_rev);
        let is_kept = message
            .changed_at
            .is_some_and(|time| is_kept(time, self.now));
        (rev > listed && is_included && is_kept && !self.is_partial)
            .then(|| format!("rev is {rev}, but no change {rev} of this message exists"))
    }

    /// Takes the messages after `seq` that were not read, with their last changes.
    pub(super) fn take_messages_after(&mut self, seq: u64) -> BTreeMap<u64, u64> {
        self.last_changes.split_off(&seq.saturating_add(1))
    }
}

/// Whether a change at this time cannot have expired yet.
fn is_kept(changed_at: u64, now: Timestamp) -> bool {
    Timestamp::from_millis(changed_at) + ChangeItem::LIFETIME > now + MAX_CLOCK_DIFFERENCE
}

/// A description of missing messages or changes.
pub(super) fn missing(kind: &str, first: u64, last: u64) -> String {
    if first >= last {
        format!("{kind} {first} is missing")
    } else {
        format!("{kind}s {first} to {last} are missing")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400_000;

    fn now() -> Timestamp {
        Timestamp::from_millis(1_000 * DAY)
    }

    /// A change of message 1 that expires this many days from now.
    fn change(rev: u64, days: i64) -> ChangeFacts {
        let expires_at = now().seconds().checked_add_signed(days * 86_400);
        ChangeFacts {
            rev: Some(rev),
            seq: Some(1),
            expires_at,
        }
    }

    fn tally(chat_age_in_days: u64) -> ChangeTally {
        ChangeTally::new(Some((1_000 - chat_age_in_days) * DAY), now())
    }

    fn message(age_in_days: u64) -> MessageFacts {
        MessageFacts {
            seq: Some(1),
            sender: None,
            created_at: None,
            is_deleted: Some(false),
            rev: None,
            changed_at: Some((1_000 - age_in_days) * DAY),
            message: None,
            is_of_newer_version: false,
        }
    }

    #[test]
    fn a_gap_is_described_by_its_first_and_last_number() {
        assert_eq!(missing("message", 4, 4), "message 4 is missing");
        assert_eq!(missing("change", 4, 7), "changes 4 to 7 are missing");
    }

    #[test]
    fn a_change_after_one_that_cannot_have_expired_must_exist() {
        let mut changes = tally(200);
        assert_eq!(changes.add(3, &change(3, 10)), None);
        assert_eq!(changes.add(4, &change(4, 10)), None);
        let gap = changes.add(7, &change(7, 10));
        assert_eq!(gap.as_deref(), Some("changes 5 to 6 are missing"));
        assert_eq!(changes.missing_at_end(7), None);
        let end = changes.missing_at_end(8);
        assert_eq!(end.as_deref(), Some("change 8 is missing"));
    }

    #[test]
    fn a_change_is_of_one_message() {
        let mut changes = tally(200);
        changes.add(3, &change(3, 10));
        assert_eq!(changes.message_of(3), Some(1));
        assert_eq!(changes.message_of(2), None);
    }

    #[test]
    fn a_change_that_may_have_expired_may_be_missing() {
        let mut changes = tally(200);
        // It has expired, but the table's TTL has not deleted it yet.
        assert_eq!(changes.add(3, &change(3, -1)), None);
        assert_eq!(changes.add(5, &change(5, 10)), None);
        let unchanged = tally(200);
        assert_eq!(unchanged.missing_at_end(9), None);
        // In a young chat nothing can have expired.
        let gap = tally(10).add(3, &change(3, 80));
        assert_eq!(gap.as_deref(), Some("changes 1 to 2 are missing"));
        let end = tally(10).missing_at_end(1);
        assert_eq!(end.as_deref(), Some("change 1 is missing"));
    }

    #[test]
    fn a_message_names_its_last_change_unless_that_has_expired() {
        let compare = |rev, age_in_days, state_rev| {
            let mut changes = tally(200);
            changes.add(5, &change(5, 10));
            changes.compare(1, rev, &message(age_in_days), Some(state_rev))
        };
        assert_eq!(compare(5, 80, 5), None);
        let line = compare(4, 80, 5);
        let expected = "rev is 4, but change 5 is of this message";
        assert_eq!(line.as_deref(), Some(expected));
        let line = compare(6, 80, 6);
        let expected = "rev is 6, but no change 6 of this message exists";
        assert_eq!(line.as_deref(), Some(expected));
        assert_eq!(compare(6, 80, 5), None, "changed after the state was read");
        assert_eq!(compare(6, 91, 6), None, "the change has expired");
    }
}
