//! Whether a table holds what always holds, and setting right what can be counted again: for an
//! operator, beside live traffic.
//!
//! The table is walked page by page, first for the chats, then for the users. Each chat is judged from
//! its own items, each user from the states of the user's chats. Nothing is kept but a page of keys,
//! the ids of the chats of the users that are looked at, and sums.
//!
//! **Live traffic does not mislead it.** The items that belong together are read at different
//! instants. So a chat's state is read before and after its messages, which never change; and the
//! states that a counter sums are read before and after the counter, which is judged only if none of
//! them changed in between (they have a `seq` that only grows: what looks unchanged is unchanged). What
//! a transaction writes is readable a moment earlier or later, and indexes follow; so only what is
//! found three times alike, [`AuditOptions::settle`] apart, is reported. That time must be longer than the
//! indexes lag: they are the only way to a user's chats. Do not repair while an index is being built.
//!
//! **Repairs** are conditional on what they were computed from, one transaction each. What the table
//! cannot tell (a message that is gone, say) is reported and left alone.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use aws_sdk_dynamodb::types::{AttributeValue, KeysAndAttributes};
use futures_util::{StreamExt, stream};

use super::{
    Range, Store, failed,
    items::{ChatItem, Index, Item, Key, KeyItem, MessageItem, Owner, SentItem, TotalsItem},
    transaction::{Backoff, number},
};
use crate::{
    Error,
    domain::{ChatId, Status, UserId},
};

/// Chats and users that are looked at at once.
const CONCURRENCY: usize = 16;
/// How often a thing must be found wrong to be reported.
const CONFIRMATIONS: usize = 3;
/// How often a user's counters are looked at while their chats do not hold still.
const LOOKS: usize = 10;
/// How often a call to DynamoDB that fails is made before the walk is given up.
const PATIENCE: usize = 15;
/// The longest time between two of them.
const LONGEST_WAIT: Duration = Duration::from_secs(20);
/// How long a repair is tried before it is left.
const LONGEST_REPAIR: Duration = Duration::from_mins(1);
/// Why a counter is not judged.
const TOO_BUSY: &str = "its chats do not hold still; look again later";
const UNREADABLE_CHAT: &str = "one of the user's chats cannot be read; mend that first";
/// Most keys of one `BatchGetItem`.
const BATCH: usize = 100;

/// How a table is looked at.
#[derive(Clone, Copy, Debug)]
pub struct AuditOptions {
    /// Set right what can be counted again: unread counts, totals, open requests, index keys.
    pub repair: bool,
    /// How long to wait before looking again at what seems wrong: longer than indexes lag behind.
    pub settle: Duration,
}

/// What is wrong with one item of the table. `Display` is one line: where, what it is and what it
/// should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    key: Key,
    what: What,
    /// Whether it has been set right.
    pub repaired: bool,
}

/// How far the walk is, and what it came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AuditProgress {
    /// Items passed.
    pub items: u64,
    /// Chats looked at.
    pub chats: u64,
    /// Users looked at.
    pub users: u64,
    /// Broken invariants found.
    pub broken: u64,
    /// Of those, how many were set right.
    pub repaired: u64,
    /// Counters that could not be judged, for what each line says; not counted as broken.
    pub unjudged: u64,
}

/// What the walk tells while it goes on.
#[derive(Debug)]
pub enum AuditEvent<'a> {
    /// Another page has been looked at.
    Progress(AuditProgress),
    /// Something is broken.
    Broken(&'a Broken),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    /// An attribute that follows from others is not what it should be.
    Value {
        attribute: &'static str,
        is: Value,
        should_be: Value,
        /// What it was computed from, and must still be for a repair.
        because: Vec<(&'static str, Value)>,
    },
    /// Nothing that can be computed again.
    Lost(String),
    /// What could not be judged, and why.
    Unjudged(&'static str),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Number(i64),
    Text(String),
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (pk, sk) = &self.key;
        write!(f, "{pk} {sk}: ")?;
        match &self.what {
            What::Value {
                attribute,
                is,
                should_be,
                ..
            } => write!(f, "{attribute} is {is}, not {should_be}")?,
            What::Lost(what) => f.write_str(what)?,
            What::Unjudged(why) => write!(f, "not judged: {why}")?,
        }
        if self.repaired {
            f.write_str(" (repaired)")?;
        }
        Ok(())
    }
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

impl Value {
    fn count(count: u64) -> Self {
        Self::Number(i64::try_from(count).unwrap_or(i64::MAX))
    }

    fn attribute(&self) -> AttributeValue {
        match self {
            Self::Number(value) => number(*value),
            Self::Text(text) => AttributeValue::S(text.clone()),
        }
    }
}

impl Broken {
    fn new(key: Key, what: What) -> Self {
        let repaired = false;
        Self {
            key,
            what,
            repaired,
        }
    }

    /// Says no more: what stands in an item may be what users wrote.
    fn unreadable(key: Key) -> Self {
        Self::lost(key, "cannot be read")
    }

    fn lost(key: Key, what: impl Into<String>) -> Self {
        Self::new(key, What::Lost(what.into()))
    }

    /// Whether another look found the same. A counter and what it counts go on while one looks, but
    /// the difference between them stays.
    fn is_same_as(&self, other: &Self) -> bool {
        fn difference(what: &What) -> (&str, i64) {
            match what {
                What::Value {
                    attribute,
                    is: Value::Number(is),
                    should_be: Value::Number(should_be),
                    ..
                } => (attribute, is.wrapping_sub(*should_be)),
                What::Value { attribute, .. } => (attribute, 0),
                What::Lost(what) => (what, 0),
                What::Unjudged(why) => (why, 0),
            }
        }
        self.key == other.key && difference(&self.what) == difference(&other.what)
    }
}

impl Store {
    /// Looks at the whole table: walks it twice, and reads each chat and user several times.
    ///
    /// # Errors
    /// When the table cannot be read, or not for a long time.
    pub async fn audit(
        &self,
        options: AuditOptions,
        report: &mut impl FnMut(AuditEvent<'_>),
    ) -> Result<AuditProgress, Error> {
        let mut progress = AuditProgress::default();
        // All chats first: what is repaired there is what the users' counters must count.
        self.walk(&mut progress, report, async |owner| match owner {
            Owner::Chat(id) => {
                self.confirmed(options, async || self.chat_once(id).await)
                    .await
            }
            Owner::User(_) => Ok(Vec::new()),
        })
        .await?;
        if progress.repaired > 0 {
            tokio::time::sleep(options.settle).await;
        }
        let users = async |user| {
            self.confirmed(options, async || self.user_once(user).await)
                .await
        };
        let uncounted = RefCell::new(BTreeSet::new());
        self.walk(&mut progress, report, async |owner| match owner {
            Owner::User(user) => users(user).await,
            Owner::Chat(id) => {
                // Who has no counters at all is not in the walk.
                let mut found = Vec::new();
                for user in self.uncounted_members(id).await? {
                    if uncounted.borrow_mut().insert(user) {
                        found.extend(users(user).await?);
                    }
                }
                Ok(found)
            }
        })
        .await?;
        Ok(progress)
    }

    /// Looks at each partition once, page by page.
    async fn walk(
        &self,
        progress: &mut AuditProgress,
        report: &mut impl FnMut(AuditEvent<'_>),
        look: impl AsyncFn(Owner) -> Result<Vec<Broken>, Error>,
    ) -> Result<(), Error> {
        let first = progress.items == 0;
        let mut start = None;
        let mut last_pk = String::new();
        loop {
            let page = patiently(async || {
                self.connection
                    .client
                    .scan()
                    .table_name(&*self.connection.table)
                    .projection_expression("pk")
                    .consistent_read(true)
                    .set_exclusive_start_key(start.clone())
                    .send()
                    .await
                    .map_err(failed)
            })
            .await?;
            let mut owners = Vec::new();
            let mut found = Vec::new();
            for item in page.items() {
                progress.items += u64::from(first);
                let pk = item.get("pk").and_then(|pk| pk.as_s().ok());
                // A partition's items come one after another, and may continue on the next page.
                let Some(pk) = pk.filter(|pk| **pk != last_pk) else {
                    continue;
                };
                last_pk.clone_from(pk);
                let owner = Owner::of(pk);
                if first {
                    progress.chats += u64::from(matches!(owner, Some(Owner::Chat(_))));
                    progress.users += u64::from(matches!(owner, Some(Owner::User(_))));
                    if owner.is_none() {
                        let key = (pk.clone(), String::new());
                        found.push(Broken::lost(key, "belongs to no chat and no user"));
                    }
                }
                owners.extend(owner);
            }
            let mut looks = stream::iter(owners)
                .map(async |owner| look(owner).await)
                .buffer_unordered(CONCURRENCY);
            while let Some(look) = looks.next().await {
                found.extend(look?);
            }
            for broken in &found {
                if matches!(broken.what, What::Unjudged(_)) {
                    progress.unjudged += 1;
                } else {
                    progress.broken += 1;
                    progress.repaired += u64::from(broken.repaired);
                }
                report(AuditEvent::Broken(broken));
            }
            report(AuditEvent::Progress(*progress));
            start = page.last_evaluated_key;
            if start.is_none() {
                return Ok(());
            }
        }
    }

    /// What several looks found alike; repaired if that is wanted.
    async fn confirmed(
        &self,
        options: AuditOptions,
        look: impl AsyncFn() -> Result<Vec<Broken>, Error>,
    ) -> Result<Vec<Broken>, Error> {
        let mut found = look().await?;
        for _ in 1..CONFIRMATIONS {
            if found.is_empty() {
                return Ok(found);
            }
            tokio::time::sleep(options.settle).await;
            let again = look().await?;
            // The later look is the one that a repair relies on.
            found = again
                .into_iter()
                .filter(|broken| found.iter().any(|before| before.is_same_as(broken)))
                .collect();
        }
        if options.repair {
            for broken in &mut found {
                self.repair(broken, &look).await?;
            }
        }
        Ok(found)
    }

    /// Sets one attribute right, looking again as long as the item changes meanwhile.
    async fn repair(
        &self,
        broken: &mut Broken,
        look: &impl AsyncFn() -> Result<Vec<Broken>, Error>,
    ) -> Result<(), Error> {
        for _ in 0..LOOKS {
            let What::Value {
                attribute,
                is,
                should_be,
                because,
            } = &broken.what
            else {
                return Ok(());
            };
            if self
                .set_right(&broken.key, attribute, is, should_be, because)
                .await?
            {
                broken.repaired = true;
                return Ok(());
            }
            let again = look().await?;
            match again.into_iter().find(|it| it.is_same_as(broken)) {
                Some(again) => *broken = again,
                // Another look did not find it: its item changed. The next walk will tell.
                None => return Ok(()),
            }
        }
        Ok(())
    }

    async fn set_right(
        &self,
        key: &Key,
        attribute: &str,
        is: &Value,
        should_be: &Value,
        because: &[(&str, Value)],
    ) -> Result<bool, Error> {
        let mut condition = "#attribute = :is".to_owned();
        if *is == Value::Number(0) {
            // A counter that was never written counts nothing.
            condition = format!("({condition} OR attribute_not_exists(#attribute))");
        }
        let places: Vec<_> = (0..because.len())
            .map(|n| (format!("#because{n}"), format!(":because{n}")))
            .collect();
        let mut names = vec![("#attribute", attribute), ("#type", "type")];
        let mut values = vec![
            (":is", is.attribute()),
            (":right", should_be.attribute()),
            (":type", AttributeValue::S(kind(key).to_owned())),
        ];
        for ((name, value), (attribute, expected)) in places.iter().zip(because) {
            condition = format!("{condition} AND {name} = {value}");
            names.push((name, attribute));
            values.push((value, expected.attribute()));
        }
        let update = self.update(
            key.clone(),
            "SET #attribute = :right, #type = :type",
            Some(&condition),
            &names,
            values,
        );
        let done = tokio::time::timeout(LONGEST_REPAIR, self.transact(vec![update])).await;
        Ok(done.is_ok_and(|done| matches!(done, Ok(Ok(())))))
    }

    /// One look at a chat: its messages against its state.
    async fn chat_once(&self, id: ChatId) -> Result<Vec<Broken>, Error> {
        let state_key = ChatItem::key(id);
        let state = match self.state(id).await? {
            Some(Ok(state)) => state,
            Some(Err(_)) => return Ok(vec![Broken::unreadable(state_key)]),
            None => return Ok(vec![Broken::lost(state_key, "is missing")]),
        };
        let mut found = Vec::new();
        let mut tally = Tally::default();
        let mut start = None;
        loop {
            let page = patiently(async || {
                let mut query = self
                    .connection
                    .client
                    .query()
                    .table_name(&*self.connection.table)
                    .key_condition_expression("pk = :pk AND sk < :state")
                    .consistent_read(true)
                    .set_exclusive_start_key(start.clone());
                for (name, value) in [(":pk", &state_key.0), (":state", &state_key.1)] {
                    query =
                        query.expression_attribute_values(name, AttributeValue::S(value.clone()));
                }
                query.send().await.map_err(failed)
            })
            .await?;
            for item in page.items.unwrap_or_default() {
                let sk = item.get("sk").and_then(|sk| sk.as_s().ok()).cloned();
                let key = (state_key.0.clone(), sk.unwrap_or_default());
                if tally.add(&key, item, &state, id, &mut found).is_err() {
                    found.push(Broken::unreadable(key));
                    tally.has_hole = true;
                }
            }
            start = page.last_evaluated_key;
            if start.is_none() {
                break;
            }
        }
        // What came while one read is known to the state by now.
        let now = self.state(id).await?.and_then(Result::ok);
        let now = now.map_or(0, |state| state.seq);
        tally.judge(&state, now, id, &mut found);
        Ok(found)
    }

    /// A chat's state as it is now, if it is there and can be read.
    async fn state(&self, id: ChatId) -> Result<Option<Result<ChatItem, Error>>, Error> {
        let item = patiently(async || self.get(ChatItem::key(id)).await).await?;
        Ok(item.map(ChatItem::read))
    }

    /// Members for whom a chat counts something, but who have no counters at all: the walk does not
    /// come to them.
    async fn uncounted_members(&self, id: ChatId) -> Result<Vec<UserId>, Error> {
        let Some(Ok(state)) = self.state(id).await? else {
            return Ok(Vec::new());
        };
        let mut uncounted = Vec::new();
        for member in [id.low(), id.high()] {
            let mut unreadable = Vec::new();
            if state
                .counts(id, member)
                .iter()
                .any(|(_, count)| *count != 0)
                && self.counters(member, &mut unreadable).await?.is_empty()
                && unreadable.is_empty()
            {
                uncounted.push(member);
            }
        }
        Ok(uncounted)
    }

    /// One look at a user: the counters against the chats.
    async fn user_once(&self, user: UserId) -> Result<Vec<Broken>, Error> {
        let sent = SentItem::key(user);
        let cannot = |why| Ok(vec![Broken::new(sent.clone(), What::Unjudged(why))]);
        let mut found = Vec::new();
        let mut unjudged: Option<BTreeSet<Counter>> = None;
        let mut backoff = Backoff::new();
        let Some(mut before) = self.count_chats(user).await? else {
            return cannot(UNREADABLE_CHAT);
        };
        for _ in 0..LOOKS {
            let mut unreadable = Vec::new();
            let counters = self.counters(user, &mut unreadable).await?;
            if !unreadable.is_empty() {
                return Ok(unreadable);
            }
            let Some(after) = self.count_chats(user).await? else {
                return cannot(UNREADABLE_CHAT);
            };
            let all = before.keys().chain(counters.keys()).chain(after.keys());
            let judged = unjudged.unwrap_or_else(|| all.cloned().collect());
            let mut left = BTreeSet::new();
            for counter in judged {
                let (sum, again) = (before.get(&counter), after.get(&counter));
                if sum != again {
                    left.insert(counter);
                    continue;
                }
                let should_be = sum.map_or(0, |sum| sum.count);
                let is = counters.get(&counter).copied().unwrap_or(0);
                if is != should_be {
                    let (key, attribute) = counter;
                    found.push(Broken::new(
                        key,
                        What::Value {
                            attribute,
                            is: Value::Number(is),
                            should_be: Value::Number(should_be),
                            because: Vec::new(),
                        },
                    ));
                }
            }
            if left.is_empty() {
                return Ok(found);
            }
            unjudged = Some(left);
            before = after;
            backoff.wait().await;
        }
        let busy = unjudged.into_iter().flatten();
        found.extend(busy.map(|(key, _)| Broken::new(key, What::Unjudged(TOO_BUSY))));
        Ok(found)
    }

    /// A user's counters as they stand.
    async fn counters(
        &self,
        user: UserId,
        found: &mut Vec<Broken>,
    ) -> Result<BTreeMap<Counter, i64>, Error> {
        let range = || Range {
            index: None,
            condition: "pk = :pk",
            values: vec![(":pk", TotalsItem::pk(user))],
            ascending: true,
        };
        let items = patiently(async || self.query(range(), BATCH).await).await?;
        let mut counters = BTreeMap::new();
        for item in items {
            let sk = item.get("sk").and_then(|sk| sk.as_s().ok()).cloned();
            let key = (TotalsItem::pk(user), sk.unwrap_or_default());
            if SentItem::is(&item) {
                match SentItem::read(item) {
                    Ok(sent) => drop(counters.insert((key, SentItem::OPEN), sent.open)),
                    Err(_) => found.push(Broken::unreadable(key)),
                }
            } else {
                match TotalsItem::read(item) {
                    Ok(totals) => {
                        counters.insert((key.clone(), TotalsItem::UNREAD), totals.unread);
                        counters.insert((key, TotalsItem::PENDING), totals.pending);
                    }
                    Err(_) => found.push(Broken::unreadable(key)),
                }
            }
        }
        Ok(counters)
    }

    /// What a user's counters should be: the states of all chats that the indexes know, read from the
    /// table. `None` when one of them cannot be read; it is reported with its chat.
    async fn count_chats(&self, user: UserId) -> Result<Option<BTreeMap<Counter, Sum>>, Error> {
        let mut sums: BTreeMap<Counter, Sum> = BTreeMap::new();
        let mut seen = HashSet::new();
        for index in [Index::ByRequester, Index::ByRecipient] {
            for status in [Status::Pending, Status::Active, Status::Declined] {
                let mut start = None;
                loop {
                    let key = || AttributeValue::S(Index::key(user, status));
                    let page = patiently(async || {
                        self.connection
                            .client
                            .query()
                            .table_name(&*self.connection.table)
                            .index_name(index.name())
                            .key_condition_expression(index.condition(false))
                            .expression_attribute_values(":key", key())
                            .projection_expression("pk")
                            .set_exclusive_start_key(start.clone())
                            .send()
                            .await
                            .map_err(failed)
                    })
                    .await?;
                    let pks = page.items().iter().filter_map(|item| item.get("pk"));
                    let ids = pks.filter_map(|pk| match Owner::of(pk.as_s().ok()?) {
                        Some(Owner::Chat(id)) => Some(id),
                        _ => None,
                    });
                    // The index may be behind and show a chat where it was, or twice; it counts once, as
                    // what it is now.
                    let ids: Vec<_> = ids.filter(|id| seen.insert(*id)).collect();
                    for ids in ids.chunks(BATCH) {
                        for state in self.states(ids).await? {
                            let Ok(state) = state else { return Ok(None) };
                            state.add_to(&mut sums, state.id()?, user);
                        }
                    }
                    start = page.last_evaluated_key;
                    if start.is_none() {
                        break;
                    }
                }
            }
        }
        Ok(Some(sums))
    }

    /// The states of at most [`BATCH`] chats, as they are now.
    async fn states(&self, ids: &[ChatId]) -> Result<Vec<Result<ChatItem, Error>>, Error> {
        let key = |id: &ChatId| {
            let (pk, sk) = ChatItem::key(*id);
            Item::from([
                ("pk".to_owned(), AttributeValue::S(pk)),
                ("sk".to_owned(), AttributeValue::S(sk)),
            ])
        };
        let mut keys: Vec<Item> = ids.iter().map(key).collect();
        let mut states = Vec::new();
        let mut backoff = Backoff::new();
        while !keys.is_empty() {
            let wanted = KeysAndAttributes::builder()
                .set_keys(Some(std::mem::take(&mut keys)))
                .consistent_read(true)
                .build()
                .expect("the keys are set");
            let mut output = patiently(async || {
                self.connection
                    .client
                    .batch_get_item()
                    .request_items(&*self.connection.table, wanted.clone())
                    .send()
                    .await
                    .map_err(failed)
            })
            .await?;
            let found = output.responses.take().unwrap_or_default();
            states.extend(found.into_values().flatten().map(ChatItem::read));
            let left = output.unprocessed_keys.take().unwrap_or_default();
            keys.extend(left.into_values().flat_map(|left| left.keys));
            if !keys.is_empty() {
                backoff.wait().await;
            }
        }
        Ok(states)
    }
}

/// An item and its attribute that counts.
type Counter = (Key, &'static str);

/// What a counter should be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    count: i64,
    /// Of all states that it was computed from, in any order.
    fingerprint: u64,
}

impl ChatItem {
    /// What a chat adds to a member's counters: nothing, too, so that one sees when that changes.
    fn counts(&self, id: ChatId, member: UserId) -> [(Counter, i64); 3] {
        let totals = TotalsItem::key(member, id);
        let is_requester = self.requester_id == member.get();
        let is_pending = self.status == Self::PENDING;
        let (unread, _) = self.member(id, member);
        let unread = if self.status == Self::ACTIVE {
            unread
        } else {
            0
        };
        [
            ((totals.clone(), TotalsItem::UNREAD), unread),
            (
                (totals, TotalsItem::PENDING),
                i64::from(is_pending && !is_requester),
            ),
            (
                (SentItem::key(member), SentItem::OPEN),
                i64::from(is_pending && is_requester),
            ),
        ]
    }

    fn add_to(&self, sums: &mut BTreeMap<Counter, Sum>, id: ChatId, member: UserId) {
        for (counter, count) in self.counts(id, member) {
            let fingerprint = self.fingerprint(counter.1 == TotalsItem::UNREAD);
            let sum = sums.entry(counter).or_default();
            sum.count += count;
            sum.fingerprint = sum.fingerprint.wrapping_add(fingerprint);
        }
    }

    /// A number that differs when anything has happened to the chat, or to the request alone: an active
    /// chat stays so, and its messages are nothing to who counts requests.
    fn fingerprint(&self, with_messages: bool) -> u64 {
        let mut hasher = DefaultHasher::new();
        (&self.pk, &self.status, self.requester_id).hash(&mut hasher);
        if with_messages || self.status != Self::ACTIVE {
            let watermarks = (self.low_read_seq, self.high_read_seq);
            let unread = (self.low_unread, self.high_unread);
            (self.updated_at, self.seq, watermarks, unread).hash(&mut hasher);
        }
        hasher.finish()
    }
}

/// What the messages of a chat come to.
#[derive(Default)]
struct Tally {
    /// The last message's.
    seq: u64,
    created_at: u64,
    /// The last message's that is newer than the state.
    newest: u64,
    /// Of the member with the smaller id, then of the other.
    unread: [i64; 2],
    /// Whether a message is missing or cannot be read: then nobody can say how many are unread.
    has_hole: bool,
    /// The largest that an idempotency key names.
    named: Option<(Key, u64)>,
}

impl Tally {
    fn add(
        &mut self,
        key: &Key,
        item: Item,
        state: &ChatItem,
        id: ChatId,
        found: &mut Vec<Broken>,
    ) -> Result<(), Error> {
        if KeyItem::is(key) {
            let seq = KeyItem::read(item)?.seq;
            if self.named.as_ref().is_none_or(|(_, named)| seq > *named) {
                self.named = Some((key.clone(), seq));
            }
            return Ok(());
        }
        let message = MessageItem::read(item, id)?;
        let seq = message.seq.get();
        if seq > state.seq {
            // Newer than what is judged, or one too many: the end tells.
            self.newest = seq;
            return Ok(());
        }
        if seq != self.seq + 1 {
            let gap = format!(
                "the messages from {} to {} are missing",
                self.seq + 1,
                seq - 1
            );
            found.push(Broken::lost(key.clone(), gap));
            self.has_hole = true;
        }
        let created_at = message.created_at.millis();
        if created_at < self.created_at {
            let earlier = format!("createdAt is before that of message {}", self.seq);
            found.push(Broken::lost(key.clone(), earlier));
        }
        (self.seq, self.created_at) = (seq, created_at);
        for (place, member) in [id.low(), id.high()].into_iter().enumerate() {
            let (_, read_seq) = state.member(id, member);
            self.unread[place] += i64::from(message.sender != member && seq > read_seq);
        }
        Ok(())
    }

    /// `now`: the chat's seq after all messages were read.
    fn judge(&self, state: &ChatItem, now: u64, id: ChatId, found: &mut Vec<Broken>) {
        let key = ChatItem::key(id);
        if self.seq < state.seq {
            let gap = format!(
                "the messages from {} to {} are missing",
                self.seq + 1,
                state.seq
            );
            found.push(Broken::lost(key.clone(), gap));
        }
        if self.newest > now {
            let more = format!("seq is {now}, but there is message {}", self.newest);
            found.push(Broken::lost(key.clone(), more));
        }
        if let Some((key, seq)) = &self.named
            && *seq > now
        {
            let more = format!("names message {seq}, but seq is {now}");
            found.push(Broken::lost(key.clone(), more));
        }
        let last = state.last_message.as_ref();
        if last.map_or(0, |last| last.seq) != state.seq {
            found.push(Broken::lost(
                key.clone(),
                "lastMessage is not the last message",
            ));
        }
        for (place, member) in [id.low(), id.high()].into_iter().enumerate() {
            let (unread_attribute, read_attribute) = ChatItem::member_attributes(id, member);
            let (unread, read_seq) = state.member(id, member);
            if read_seq > state.seq {
                let past = format!("{read_attribute} is {read_seq}, past seq {}", state.seq);
                found.push(Broken::lost(key.clone(), past));
            }
            let is_whole = !self.has_hole && self.seq == state.seq;
            if is_whole && unread != self.unread[place] {
                found.push(Broken::new(
                    key.clone(),
                    What::Value {
                        attribute: unread_attribute,
                        is: Value::Number(unread),
                        should_be: Value::Number(self.unread[place]),
                        because: vec![
                            ("seq", Value::count(state.seq)),
                            (read_attribute, Value::count(read_seq)),
                        ],
                    },
                ));
            }
        }
        for (attribute, is, should_be) in state.index_keys(id) {
            if *is != should_be {
                found.push(Broken::new(
                    key.clone(),
                    What::Value {
                        attribute,
                        is: Value::Text(is.to_owned()),
                        should_be: Value::Text(should_be),
                        because: vec![
                            ("status", Value::Text(state.status.clone())),
                            ("requesterId", Value::count(state.requester_id)),
                            ("updatedAt", Value::count(state.updated_at)),
                        ],
                    },
                ));
            }
        }
    }
}

/// What kind of item has this key, of those that are repaired: a counter may have to be made.
fn kind((_, sk): &Key) -> &'static str {
    if SentItem::is_sk(sk) {
        SentItem::KIND
    } else if sk.starts_with(TotalsItem::PREFIX) {
        TotalsItem::KIND
    } else {
        ChatItem::KIND
    }
}

/// A walk goes on for hours, so it sits out what a call cannot: some minutes of trouble.
async fn patiently<T>(call: impl AsyncFn() -> Result<T, Error>) -> Result<T, Error> {
    let mut wait = Duration::from_millis(100);
    for _ in 1..PATIENCE {
        match call().await {
            Err(Error::Unavailable(_)) => tokio::time::sleep(wait).await,
            done => return done,
        }
        wait = (wait * 2).min(LONGEST_WAIT);
    }
    call().await
}
