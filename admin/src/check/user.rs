//! Evaluates one user: compares the user's counters with the states of the user's chats.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
};

use aws_sdk_dynamodb::{
    operation::query::QueryOutput,
    types::{AttributeValue, KeysAndAttributes},
};
use chat_shared::{
    Error,
    domain::{ChatId, ChatStatus, UserId},
    store::{
        Backoff, KeyQuery, classify_error,
        items::{ChatItem, Index, Item, ItemKey, OpenRequestsItem, Partition, TotalsItem},
    },
};

use super::{
    Checker, MAX_ATTEMPTS, retry_transient, sort_key,
    violation::{Finding, Value, Violation},
};

/// Reasons why a user's counters cannot be evaluated.
const CHATS_KEEP_CHANGING: &str = "the user's chats keep changing; check again later";
const UNREADABLE_CHAT: &str =
    "one of the user's chats cannot be read; correct that chat first, then check again";
/// Maximum number of keys in one `BatchGetItem`.
const MAX_BATCH_KEYS: usize = 100;
/// More items than a user has counters.
const MAX_COUNTER_ITEMS: usize = 100;

/// A counting attribute of an item.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Counter {
    key: ItemKey,
    attribute: &'static str,
}

/// The value that a counter should have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct ExpectedCount {
    count: i64,
    /// Fingerprint of all chat states that the count was computed from, in any order.
    fingerprint: u64,
}

type ExpectedCounts = BTreeMap<Counter, ExpectedCount>;
type StoredCounts = BTreeMap<Counter, i64>;

impl Checker<'_> {
    /// Evaluates a user once. A counter is compared only when the chat states that it counts were
    /// the same before and after it was read. The other counters are read again, up to
    /// [`MAX_ATTEMPTS`] times.
    pub(super) async fn evaluate_user(&self, user: UserId) -> Result<Vec<Violation>, Error> {
        let unreadable_chat = || {
            vec![Violation::inconclusive(
                OpenRequestsItem::key(user),
                UNREADABLE_CHAT,
            )]
        };
        let Some(mut before) = self.expected_counts(user).await? else {
            return Ok(unreadable_chat());
        };
        let mut violations = Vec::new();
        // All counters at first, then those whose chats changed.
        let mut undecided: Option<BTreeSet<Counter>> = None;
        let mut backoff = Backoff::new();
        for _ in 0..MAX_ATTEMPTS {
            let counters = match self.stored_counters(user).await? {
                Ok(counters) => counters,
                Err(unreadable) => return Ok(unreadable),
            };
            let Some(after) = self.expected_counts(user).await? else {
                return Ok(unreadable_chat());
            };
            let all = before.keys().chain(counters.keys()).chain(after.keys());
            let evaluated = undecided.unwrap_or_else(|| all.cloned().collect());
            let mut changed = BTreeSet::new();
            for counter in evaluated {
                if before.get(&counter) != after.get(&counter) {
                    changed.insert(counter);
                    continue;
                }
                let expected = before.get(&counter).map_or(0, |expected| expected.count);
                let actual = counters.get(&counter).copied().unwrap_or(0);
                if actual != expected {
                    violations.push(counter.mismatch(actual, expected));
                }
            }
            if changed.is_empty() {
                return Ok(violations);
            }
            undecided = Some(changed);
            before = after;
            backoff.wait().await;
        }
        let undecided = undecided.into_iter().flatten();
        violations.extend(
            undecided.map(|counter| Violation::inconclusive(counter.key, CHATS_KEEP_CHANGING)),
        );
        Ok(violations)
    }

    /// Members who have no counters at all although the chat should be counted. The scan does not find
    /// these users.
    pub(super) async fn members_without_counters(&self, id: ChatId) -> Result<Vec<UserId>, Error> {
        let Some(Ok(state)) = self.chat_state(id).await? else {
            return Ok(Vec::new());
        };
        let mut members = Vec::new();
        for member in [id.low(), id.high()] {
            let contributes = contributions(&state, id, member)
                .iter()
                .any(|(_, count)| *count != 0);
            if !contributes {
                continue;
            }
            let counters = self.stored_counters(member).await?;
            if counters.is_ok_and(|counters| counters.is_empty()) {
                members.push(member);
            }
        }
        Ok(members)
    }

    /// Reads a user's counters. When one of the items cannot be parsed, returns a violation for each
    /// such item instead.
    async fn stored_counters(
        &self,
        user: UserId,
    ) -> Result<Result<StoredCounts, Vec<Violation>>, Error> {
        let query = || KeyQuery {
            index: None,
            condition: "pk = :pk",
            values: vec![(":pk", TotalsItem::pk(user))],
            ascending: true,
        };
        let items = retry_transient(|| self.store.query(query(), MAX_COUNTER_ITEMS)).await?;
        let mut counters = StoredCounts::new();
        let mut unreadable = Vec::new();
        for item in items {
            let key = ItemKey::new(TotalsItem::pk(user), sort_key(&item));
            let counts = if OpenRequestsItem::matches(&item) {
                OpenRequestsItem::read(item)
                    .map(|requests| vec![(OpenRequestsItem::OPEN, requests.open)])
            } else {
                TotalsItem::read(item).map(|totals| {
                    vec![
                        (TotalsItem::UNREAD, totals.unread),
                        (TotalsItem::PENDING, totals.pending),
                    ]
                })
            };
            match counts {
                Ok(counts) => counters.extend(counts.into_iter().map(|(attribute, count)| {
                    let key = key.clone();
                    (Counter { key, attribute }, count)
                })),
                Err(_) => unreadable.push(Violation::unreadable(key)),
            }
        }
        Ok(if unreadable.is_empty() {
            Ok(counters)
        } else {
            Err(unreadable)
        })
    }

    /// Computes a user's counters from the states of all chats that the indexes list. The indexes
    /// give only the ids; the states come from the table. Returns `None` when a state cannot be
    /// parsed, which is reported as a violation of its chat.
    async fn expected_counts(&self, user: UserId) -> Result<Option<ExpectedCounts>, Error> {
        let mut expected = ExpectedCounts::new();
        let mut seen = HashSet::new();
        for index in [Index::ByRequester, Index::ByRecipient] {
            for status in [
                ChatStatus::Pending,
                ChatStatus::Active,
                ChatStatus::Declined,
            ] {
                let index_key = Index::key(user, status);
                let mut start_key: Option<Item> = None;
                loop {
                    let page = self
                        .index_page(index, &index_key, start_key.as_ref())
                        .await?;
                    let pks = page.items().iter().filter_map(|item| item.get("pk"));
                    let ids = pks.filter_map(|pk| match Partition::parse(pk.as_s().ok()?) {
                        Some(Partition::Chat(id)) => Some(id),
                        _ => None,
                    });
                    // An index that lags behind may list a chat at its old place, or twice. Each
                    // chat counts once, with its current state.
                    let new_ids: Vec<_> = ids.filter(|id| seen.insert(*id)).collect();
                    for batch in new_ids.chunks(MAX_BATCH_KEYS) {
                        for state in self.chat_states(batch).await? {
                            let Ok(state) = state else { return Ok(None) };
                            add_contributions(&mut expected, &state, state.id()?, user);
                        }
                    }
                    start_key = page.last_evaluated_key;
                    if start_key.is_none() {
                        break;
                    }
                }
            }
        }
        Ok(Some(expected))
    }

    /// One page of an index, reduced to the partition keys of its chats.
    async fn index_page(
        &self,
        index: Index,
        index_key: &str,
        start_key: Option<&Item>,
    ) -> Result<QueryOutput, Error> {
        retry_transient(|| async {
            self.store
                .client()
                .query()
                .table_name(self.store.table_name())
                .index_name(index.name())
                .key_condition_expression(index.condition(false))
                .expression_attribute_values(":key", AttributeValue::S(index_key.to_owned()))
                .projection_expression("pk")
                .set_exclusive_start_key(start_key.cloned())
                .send()
                .await
                .map_err(classify_error)
        })
        .await
    }

    /// Reads the current states of at most [`MAX_BATCH_KEYS`] chats.
    async fn chat_states(&self, ids: &[ChatId]) -> Result<Vec<Result<ChatItem, Error>>, Error> {
        let key = |id: &ChatId| {
            let ItemKey { pk, sk } = ChatItem::key(*id);
            Item::from([
                ("pk".to_owned(), AttributeValue::S(pk)),
                ("sk".to_owned(), AttributeValue::S(sk)),
            ])
        };
        let mut keys: Vec<Item> = ids.iter().map(key).collect();
        let mut states = Vec::new();
        let mut backoff = Backoff::new();
        while !keys.is_empty() {
            let requested = KeysAndAttributes::builder()
                .set_keys(Some(std::mem::take(&mut keys)))
                .consistent_read(true)
                .build()
                .expect("the keys are set");
            let mut output = retry_transient(|| async {
                self.store
                    .client()
                    .batch_get_item()
                    .request_items(self.store.table_name(), requested.clone())
                    .send()
                    .await
                    .map_err(classify_error)
            })
            .await?;
            let items = output.responses.take().unwrap_or_default();
            states.extend(items.into_values().flatten().map(ChatItem::read));
            let unprocessed = output.unprocessed_keys.take().unwrap_or_default();
            keys.extend(unprocessed.into_values().flat_map(|rest| rest.keys));
            if !keys.is_empty() {
                backoff.wait().await;
            }
        }
        Ok(states)
    }
}

impl Counter {
    fn mismatch(self, actual: i64, expected: i64) -> Violation {
        let finding = Finding::Mismatch {
            attribute: self.attribute,
            actual: Value::Number(actual),
            expected: Value::Number(expected),
            based_on: Vec::new(),
        };
        Violation::new(self.key, finding)
    }
}

/// The amounts that a chat adds to a member's counters. Contains zeros, too, so that a change from or
/// to zero is noticed.
fn contributions(chat: &ChatItem, id: ChatId, member: UserId) -> [(Counter, i64); 3] {
    let counter = |key, attribute| Counter { key, attribute };
    let is_requester = chat.requester_id == member.get();
    let is_pending = chat.status == ChatItem::STATUS_PENDING;
    let (unread, _) = chat.member(id, member);
    let unread = if chat.status == ChatItem::STATUS_ACTIVE {
        unread
    } else {
        0
    };
    [
        (
            counter(TotalsItem::key(member, id), TotalsItem::UNREAD),
            unread,
        ),
        (
            counter(TotalsItem::key(member, id), TotalsItem::PENDING),
            i64::from(is_pending && !is_requester),
        ),
        (
            counter(OpenRequestsItem::key(member), OpenRequestsItem::OPEN),
            i64::from(is_pending && is_requester),
        ),
    ]
}

fn add_contributions(expected: &mut ExpectedCounts, chat: &ChatItem, id: ChatId, member: UserId) {
    for (counter, count) in contributions(chat, id, member) {
        let fingerprint = fingerprint(chat, counter.attribute == TotalsItem::UNREAD);
        let sum = expected.entry(counter).or_default();
        sum.count += count;
        sum.fingerprint = sum.fingerprint.wrapping_add(fingerprint);
    }
}

/// A hash that changes whenever the chat changes. Without messages it changes whenever the request
/// changes: an active chat stays active, and its messages do not matter to counters of requests.
fn fingerprint(chat: &ChatItem, with_messages: bool) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&chat.pk, &chat.status, chat.requester_id).hash(&mut hasher);
    if with_messages || chat.status != ChatItem::STATUS_ACTIVE {
        let watermarks = (chat.low_read_seq, chat.high_read_seq);
        let unread = (chat.low_unread, chat.high_unread);
        (chat.updated_at, chat.seq, watermarks, unread).hash(&mut hasher);
    }
    hasher.finish()
}
