//! Index lag: rows that a query on an index returns while the index has not followed the latest changes.
//!
//! An index is a copy of the table, and DynamoDB updates it after the table: within about a second, the
//! old and the new row of an item in any order. Until then a query can return the old row beside the
//! new one, only the old one, or neither. There are several copies of an index, so one query can show a
//! change and the next one miss it again.
//!
//! The embedded DynamoDB updates its indexes together with the table. So the proxy remembers the latest
//! rows of each item ([`RowHistory`]), and replaces rows in responses by earlier ones
//! ([`IndexQuery::late_response`]). No clock is involved: a change is late in a number of queries of one
//! partition of an index, or until the test settles the indexes.

use std::{
    collections::{BTreeMap, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
};

use serde_json::{Value, json};

use super::{ItemKey, item_key};

/// How many rows of an item are remembered. More changes within one second are rare.
const MAX_ROWS: usize = 4;

/// The sort key of both indexes.
const SORT_KEY: &str = "activity";

/// The latest rows of each item that is in an index.
#[derive(Default)]
pub struct RowHistory(BTreeMap<ItemKey, ItemRows>);

/// The latest rows of one item.
#[derive(Default)]
struct ItemRows {
    /// Oldest first. The last one is the current one. `None` while the item does not exist.
    rows: VecDeque<Option<Value>>,
    /// How many queries have missed the latest change, by the partition of the index.
    late_queries: BTreeMap<IndexPartition, u32>,
}

/// The rows that a late index has instead of the current one, by item.
pub type LateRows = BTreeMap<ItemKey, Vec<Value>>;

/// A partition of an index.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct IndexPartition {
    /// The attribute that is the partition key of the index.
    attribute: String,
    value: String,
}

/// A query on an index.
pub struct IndexQuery {
    partition: IndexPartition,
    /// Only rows with a smaller sort key.
    below: Option<String>,
    /// Only rows after the one with this sort key, in the order of the query.
    start_after: Option<String>,
    ascending: bool,
    limit: Option<usize>,
}

impl RowHistory {
    /// Forgets all changes, so that no query misses them.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Remembers that a transaction has changed an item.
    pub fn record(&mut self, key: ItemKey, before: Option<Value>, after: Option<Value>) {
        if before == after {
            return;
        }
        let item = self.0.entry(key).or_default();
        item.late_queries.clear();
        // A test may have changed the item without the proxy.
        if item.rows.back() != Some(&before) {
            item.rows.clear();
            item.rows.push_back(before);
        }
        item.rows.push_back(after);
        while item.rows.len() > MAX_ROWS {
            item.rows.pop_front();
        }
    }

    /// Chooses the items whose latest change a query misses, and the rows that it returns instead. At
    /// most `max_late_queries` queries of a partition miss a change. The choice depends on the seed and
    /// the item alone, so that the chats of other tests do not matter.
    pub fn late_rows(&mut self, query: &IndexQuery, max_late_queries: u32, seed: u64) -> LateRows {
        let mut late = LateRows::new();
        for (key, item) in &mut self.0 {
            let late_queries = item.late_queries.get(&query.partition);
            if late_queries.is_some_and(|count| *count >= max_late_queries) {
                continue;
            }
            let mut hasher = DefaultHasher::new();
            (seed, key).hash(&mut hasher);
            let mut random = fastrand::Rng::with_seed(hasher.finish());
            if random.bool() {
                continue;
            }
            if let Some(rows) = item.late_rows(&query.partition, &mut random) {
                let late_queries = item.late_queries.entry(query.partition.clone());
                *late_queries.or_default() += 1;
                late.insert(key.clone(), rows);
            }
        }
        late
    }
}

impl ItemRows {
    /// The rows of the item in a partition of an index that is about to follow one of the latest changes
    /// and has not begun with the changes after it. `None` if these are the current rows.
    fn late_rows(
        &self,
        partition: &IndexPartition,
        random: &mut fastrand::Rng,
    ) -> Option<Vec<Value>> {
        let change = random.usize(..self.rows.len() - 1);
        let is_in_partition = |row: &&Value| partition.contains(row);
        let old = self.rows[change].as_ref().filter(is_in_partition);
        let new = self.rows[change + 1].as_ref().filter(is_in_partition);
        let rows = if old.map(sort_key) == new.map(sort_key) {
            // The row stays where it is, and only its other attributes change.
            [old, None]
        } else {
            match random.u8(..3) {
                0 => [old, None],
                1 => [old, new],
                _ => [None, None],
            }
        };
        let rows: Vec<_> = rows.into_iter().flatten().cloned().collect();
        let current = self.rows.back().and_then(Option::as_ref);
        let is_current = rows.iter().eq(current.filter(is_in_partition));
        (!is_current).then_some(rows)
    }
}

impl IndexPartition {
    fn contains(&self, row: &Value) -> bool {
        row[&self.attribute]["S"] == self.value
    }
}

impl IndexQuery {
    /// Reads a request. Panics if it has a form that the functions do not use.
    pub fn new(request: &Value) -> Self {
        let condition = request["KeyConditionExpression"].as_str().unwrap();
        let value = |placeholder: &str| {
            let value = &request["ExpressionAttributeValues"][placeholder]["S"];
            value.as_str().unwrap().to_owned()
        };
        let (partition, range) = match condition.split_once(" AND ") {
            Some((partition, range)) => (partition, Some(range)),
            None => (condition, None),
        };
        let (attribute, placeholder) = partition.split_once(" = ").unwrap();
        let below = range.map(|range| {
            let (attribute, placeholder) = range
                .split_once(" < ")
                .unwrap_or_else(|| panic!("the proxy cannot evaluate {range:?}"));
            assert_eq!(attribute, SORT_KEY, "{condition:?}");
            value(placeholder)
        });
        let start_after = request["ExclusiveStartKey"][SORT_KEY]["S"].as_str();
        let limit = request["Limit"].as_u64();
        Self {
            partition: IndexPartition {
                attribute: attribute.to_owned(),
                value: value(placeholder),
            },
            below,
            start_after: start_after.map(str::to_owned),
            ascending: request["ScanIndexForward"] != false,
            limit: limit.map(|limit| usize::try_from(limit).unwrap()),
        }
    }

    /// The request for the embedded DynamoDB. It also returns the rows that follow where a late index has
    /// no row.
    pub fn request_with_room(&self, request: &Value, late: &LateRows) -> Value {
        let mut request = request.clone();
        if let Some(limit) = self.limit {
            request["Limit"] = json!(limit + late.len());
        }
        request
    }

    /// Replaces rows in a response.
    pub fn late_response(&self, mut response: Value, late: LateRows) -> Value {
        let is_unchanged = |row: &Value| item_key(row).is_none_or(|key| !late.contains_key(&key));
        let mut rows = std::mem::take(response["Items"].as_array_mut().unwrap());
        rows.retain(is_unchanged);
        // The response has no rows after this one, because DynamoDB has ended its page there.
        let end = response["LastEvaluatedKey"][SORT_KEY]["S"].as_str();
        let late = late.into_values().flatten();
        rows.extend(late.filter(|row| self.contains(sort_key(row), end)));
        rows.sort_by(|a, b| sort_key(a).cmp(sort_key(b)));
        if !self.ascending {
            rows.reverse();
        }
        // DynamoDB also names the last row if it is the last one of the partition.
        if let Some(limit) = self.limit.filter(|limit| rows.len() >= *limit) {
            rows.truncate(limit);
            response["LastEvaluatedKey"] = self.key_of(&rows[limit - 1]);
        }
        response["Count"] = json!(rows.len());
        response["ScannedCount"] = json!(rows.len());
        response["Items"] = Value::Array(rows);
        response
    }

    /// Whether a row with this sort key is in the range of the query, up to `end`.
    fn contains(&self, key: &str, end: Option<&str>) -> bool {
        let is_before = |a: &str, b: &str| if self.ascending { a < b } else { a > b };
        let start = self.start_after.as_deref();
        self.below.as_deref().is_none_or(|below| key < below)
            && start.is_none_or(|start| is_before(start, key))
            && end.is_none_or(|end| !is_before(end, key))
    }

    /// The key of a row: of the index and of the table.
    fn key_of(&self, row: &Value) -> Value {
        let names = ["pk", "sk", self.partition.attribute.as_str(), SORT_KEY].into_iter();
        names
            .map(|name| (name.to_owned(), row[name].clone()))
            .collect()
    }
}

fn sort_key(row: &Value) -> &str {
    row[SORT_KEY]["S"].as_str().unwrap()
}
