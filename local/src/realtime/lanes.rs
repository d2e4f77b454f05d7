//! Event source mapping: invokes a function with the records of the stream, as Lambda does.
//!
//! - Records that match no filter are left out.
//! - Records of different items are processed in parallel, in as many lanes as `ParallelizationFactor` says. Records of
//!   one item are in one lane, in their order. The lanes are started in random order on purpose, so that nothing
//!   relies on more order than that.
//! - A batch that fails is split in two, or tried again, or dropped after some attempts or when its records are too
//!   old. The lane waits meanwhile.

use std::{
    collections::{BTreeMap, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use chat_shared::domain::Timestamp;
use serde_json::{Value, json};
use tokio::{
    sync::{mpsc, watch},
    time::sleep,
};

use super::{RealtimeFaults, sockets::stopped};
use crate::{LogSink, lambda::Lambda, template::StreamMapping};

/// How many groups of records wait in a lane before reading the stream stops.
const LANE_CAPACITY: usize = 100;
/// The pause before the second attempt. It doubles with each attempt.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The pause doubles this often at most.
const MAX_DOUBLINGS: u32 = 4;

/// The lanes of the mapping.
pub(crate) struct Lanes {
    filters: Vec<Value>,
    lanes: Vec<mpsc::Sender<Vec<Record>>>,
}

/// A record on its way to the function.
#[derive(Clone, Debug, PartialEq)]
struct Record {
    value: Value,
    sequence_number: String,
    created_at: Timestamp,
}

/// Records that the function is invoked with.
struct Batch {
    records: Vec<Record>,
    /// How often the batch has been tried again; splitting does not count.
    retries: u32,
    /// How many invocations with these records have failed.
    failures: u32,
}

/// What the function did with a batch.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Succeeded,
    /// The records from this index on have not been processed.
    FailedFrom(usize),
    /// Nothing is known about any record. The text says why.
    Failed(String),
}

/// What happens after an invocation.
#[derive(Debug, PartialEq, Eq)]
enum NextAction {
    /// The next batch.
    Continue,
    /// The records from this index on again, which have then been tried again `retries` times.
    Retry { from: usize, retries: u32 },
    /// Each half on its own.
    Bisect,
    /// The records from this index on are lost.
    Drop { from: usize },
}

/// Processes the batches of lanes.
struct Worker {
    mapping: StreamMapping,
    faults: Option<Arc<dyn RealtimeFaults>>,
    lambda: Arc<Lambda>,
    log: LogSink,
}

impl Lanes {
    /// Starts the lanes, which end when the stack stops.
    pub fn start(
        mapping: StreamMapping,
        faults: Option<Arc<dyn RealtimeFaults>>,
        lambda: Arc<Lambda>,
        log: LogSink,
        stop: &watch::Receiver<bool>,
    ) -> Self {
        let filters = mapping.filters.clone();
        let count = mapping.parallelization_factor;
        let worker = Arc::new(Worker {
            mapping,
            faults,
            lambda,
            log,
        });
        let lane = |_| {
            let (sender, records) = mpsc::channel(LANE_CAPACITY);
            let (worker, stop) = (worker.clone(), stop.clone());
            tokio::spawn(async move {
                tokio::select! {
                    () = worker.run(records) => {}
                    () = stopped(stop) => {}
                }
            });
            sender
        };
        Self {
            filters,
            lanes: (0..count).map(lane).collect(),
        }
    }

    /// Passes records of the stream to their lanes. Waits if a lane is too far behind.
    pub async fn dispatch(&self, records: Vec<Value>) {
        let mut groups = group_by_lane(records, &self.filters, self.lanes.len());
        fastrand::shuffle(&mut groups);
        for (lane, records) in groups {
            // The lanes end before the poller only when the stack stops.
            let _ = self.lanes[lane].send(records).await;
        }
    }
}

impl Worker {
    async fn run(&self, mut incoming: mpsc::Receiver<Vec<Record>>) {
        let mut queue = VecDeque::new();
        loop {
            if queue.is_empty() {
                match incoming.recv().await {
                    Some(records) => queue.extend(records),
                    None => return,
                }
            }
            while queue.len() < self.mapping.batch_size {
                match incoming.try_recv() {
                    Ok(records) => queue.extend(records),
                    Err(_) => break,
                }
            }
            let size = queue.len().min(self.mapping.batch_size);
            self.process(queue.drain(..size).collect()).await;
        }
    }

    /// Invokes the function with records until each of them is processed or dropped.
    async fn process(&self, records: Vec<Record>) {
        // The last batch is the next one.
        let mut batches = vec![Batch {
            records,
            retries: 0,
            failures: 0,
        }];
        while let Some(mut batch) = batches.pop() {
            self.drop_expired(&mut batch);
            if batch.records.is_empty() {
                continue;
            }
            let outcome = self.invoke(&batch).await;
            let size = batch.records.len();
            let step = next_step(&outcome, size, batch.retries, &self.mapping);
            if step != NextAction::Continue {
                batch.failures += 1;
                self.log_failure(&outcome, size, batch.failures);
            }
            match step {
                NextAction::Continue => continue,
                NextAction::Retry { from, retries } => {
                    batch.records.drain(..from);
                    batch.retries = retries;
                }
                NextAction::Bisect => batches.push(Batch {
                    records: batch.records.split_off(size / 2),
                    ..batch
                }),
                NextAction::Drop { from } => {
                    self.log_dropped(&batch.records[from..], "after the last attempt");
                    continue;
                }
            }
            sleep(pause(batch.failures)).await;
            batches.push(batch);
        }
    }

    async fn invoke(&self, batch: &Batch) -> Outcome {
        let records = batch.records.iter();
        let mut values: Vec<_> = records.map(|record| record.value.clone()).collect();
        if let Some(faults) = &self.faults {
            values = faults.batch(values, batch.failures + 1);
        }
        if values.is_empty() {
            return Outcome::Succeeded;
        }
        let event = json!({"Records": values}).to_string();
        let function = &self.mapping.function;
        match self.lambda.invoke(function, event.into()).await {
            Ok(invocation) if self.mapping.reports_failures => {
                outcome_of_response(&invocation.payload, &batch.records)
            }
            Ok(_) => Outcome::Succeeded,
            Err(error) => Outcome::Failed(error.to_string()),
        }
    }

    fn drop_expired(&self, batch: &mut Batch) {
        let Some(max_age) = self.mapping.max_record_age else {
            return;
        };
        let now = Timestamp::now();
        let is_expired = |record: &mut Record| record.created_at + max_age < now;
        let expired: Vec<_> = batch.records.extract_if(.., is_expired).collect();
        self.log_dropped(&expired, "because of their age");
    }

    fn log_failure(&self, outcome: &Outcome, size: usize, attempt: u32) {
        let cause = match outcome {
            Outcome::Succeeded => return,
            Outcome::FailedFrom(index) => format!("it reported record {} as failed", index + 1),
            Outcome::Failed(cause) => cause.clone(),
        };
        let (now, function) = (Timestamp::now(), &self.mapping.function);
        (self.log)(&format!(
            "{now} {function}: attempt {attempt} with {size} records failed: {cause}"
        ));
    }

    fn log_dropped(&self, records: &[Record], reason: &str) {
        let Some(first) = records.first() else {
            return;
        };
        let (now, function, count) = (Timestamp::now(), &self.mapping.function, records.len());
        let number = &first.sequence_number;
        (self.log)(&format!(
            "{now} {function}: dropped {count} records {reason}, the first has the sequence number {number}"
        ));
    }
}

impl Record {
    fn new(value: Value) -> Self {
        let change = &value["dynamodb"];
        let seconds = change["ApproximateCreationDateTime"].as_u64();
        let seconds = seconds.unwrap_or_else(|| Timestamp::now().seconds());
        Self {
            sequence_number: change["SequenceNumber"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            created_at: Timestamp::from_millis(seconds.saturating_mul(1_000)),
            value,
        }
    }
}

/// The records that match a filter, by the index of their lane.
fn group_by_lane(
    records: Vec<Value>,
    filters: &[Value],
    lanes: usize,
) -> Vec<(usize, Vec<Record>)> {
    let mut groups: BTreeMap<usize, Vec<Record>> = BTreeMap::new();
    for record in records {
        let mut patterns = filters.iter();
        if filters.is_empty() || patterns.any(|pattern| matches(pattern, &record)) {
            let lane = lane_of(&record["dynamodb"]["Keys"], lanes);
            groups.entry(lane).or_default().push(Record::new(record));
        }
    }
    groups.into_iter().collect()
}

/// The lane of an item. The texts of equal keys are equal.
fn lane_of(keys: &Value, lanes: usize) -> usize {
    let mut hasher = DefaultHasher::new();
    keys.to_string().hash(&mut hasher);
    let lanes = u64::try_from(lanes).unwrap_or(u64::MAX).max(1);
    usize::try_from(hasher.finish() % lanes).unwrap_or_default()
}

/// Whether a pattern of a filter matches a value: an object if each of its members matches, and a list if one of its
/// values is equal to the value, or to one of the values if there are several.
fn matches(pattern: &Value, value: &Value) -> bool {
    match (pattern, value) {
        (Value::Object(members), value) => {
            let mut members = members.iter();
            value.is_object() && members.all(|(name, pattern)| matches(pattern, &value[name]))
        }
        (Value::Array(allowed), Value::Array(values)) => {
            values.iter().any(|value| allowed.contains(value))
        }
        (Value::Array(allowed), value) => allowed.contains(value),
        _ => false,
    }
}

/// The outcome of a batch whose function reports the records that failed.
fn outcome_of_response(payload: &[u8], records: &[Record]) -> Outcome {
    let response: Value = serde_json::from_slice(payload).unwrap_or_default();
    let failures = match &response["batchItemFailures"] {
        Value::Null => return Outcome::Succeeded,
        Value::Array(failures) => failures,
        _ => return Outcome::Failed("batchItemFailures is not a list".to_owned()),
    };
    let index = |failure: &Value| {
        let number = failure["itemIdentifier"].as_str()?;
        let mut records = records.iter();
        records.position(|record| record.sequence_number == number)
    };
    let indexes: Option<Vec<_>> = failures.iter().map(index).collect();
    match indexes.map(|indexes| indexes.into_iter().min()) {
        Some(None) => Outcome::Succeeded,
        Some(Some(first)) => Outcome::FailedFrom(first),
        None => Outcome::Failed("it reported a record that is not in the batch".to_owned()),
    }
}

/// What happens after an invocation with `size` records, which had been tried again `retries` times.
fn next_step(outcome: &Outcome, size: usize, retries: u32, mapping: &StreamMapping) -> NextAction {
    let (from, retries) = match outcome {
        Outcome::Succeeded => return NextAction::Continue,
        Outcome::Failed(_) if mapping.bisects && size > 1 => return NextAction::Bisect,
        Outcome::Failed(_) | Outcome::FailedFrom(0) => (0, retries + 1),
        // The batch has made progress, and the first of the remaining records has failed once.
        Outcome::FailedFrom(index) => (*index, 1),
    };
    if mapping.max_retries.is_some_and(|max| retries > max) {
        NextAction::Drop { from }
    } else {
        NextAction::Retry { from, retries }
    }
}

/// The pause after a number of failures.
fn pause(failures: u32) -> Duration {
    FIRST_PAUSE * 2_u32.pow(failures.saturating_sub(1).min(MAX_DOUBLINGS))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: u32, number: u32) -> Value {
        json!({
            "dynamodb": {
                "Keys": {"pk": {"S": format!("CHAT#{key}")}},
                "NewImage": {"type": {"S": "Chat"}},
                "SequenceNumber": number.to_string(),
                "ApproximateCreationDateTime": 1_700_000_000,
            },
        })
    }

    fn mapping(max_retries: Option<u32>, bisects: bool) -> StreamMapping {
        StreamMapping {
            function: "push".to_owned(),
            batch_size: 100,
            parallelization_factor: 10,
            max_retries,
            max_record_age: None,
            bisects,
            reports_failures: true,
            filters: Vec::new(),
        }
    }

    #[test]
    fn a_pattern_matches_exact_values_in_nested_objects() {
        let pattern = json!({"dynamodb": {"NewImage": {"type": {"S": ["Chat", "Other"]}}}});
        assert!(matches(&pattern, &record(1, 1)));
        assert!(matches(&json!({}), &record(1, 1)));
        for value in [
            json!({"dynamodb": {"NewImage": {"type": {"S": "Message"}}}}),
            json!({"dynamodb": {"NewImage": {"type": {"N": "Chat"}}}}),
            json!({"dynamodb": {"OldImage": {"type": {"S": "Chat"}}}}),
            json!({"dynamodb": null}),
        ] {
            assert!(!matches(&pattern, &value), "{value}");
        }
        let two = json!({"a": [1], "b": [true, null]});
        assert!(matches(&two, &json!({"a": 1, "b": true, "c": 2})));
        assert!(matches(&two, &json!({"a": [2, 1], "b": null})));
        assert!(!matches(&two, &json!({"a": 1, "b": false})));
    }

    #[test]
    fn records_of_an_item_share_a_lane_in_their_order() {
        let records: Vec<_> = (0..200).map(|number| record(number % 20, number)).collect();
        let groups = group_by_lane(records, &[], 10);
        assert!(groups.len() > 1);
        let mut lanes_of_items: BTreeMap<String, usize> = BTreeMap::new();
        let mut count = 0;
        for (lane, records) in groups {
            assert!(lane < 10);
            count += records.len();
            let number = |record: &Record| record.sequence_number.parse::<u32>().unwrap();
            assert!(records.is_sorted_by_key(number));
            for record in records {
                let keys = record.value["dynamodb"]["Keys"].to_string();
                assert_eq!(*lanes_of_items.entry(keys).or_insert(lane), lane);
            }
        }
        assert_eq!((count, lanes_of_items.len()), (200, 20));
    }

    #[test]
    fn a_record_that_no_filter_matches_is_left_out() {
        let filters = [
            json!({"dynamodb": {"SequenceNumber": ["1"]}}),
            json!({"dynamodb": {"SequenceNumber": ["3"]}}),
        ];
        let records = vec![record(1, 1), record(1, 2), record(1, 3)];
        let groups = group_by_lane(records, &filters, 10);
        let [(_, records)] = &groups[..] else {
            panic!("one item has one lane");
        };
        let numbers: Vec<_> = records
            .iter()
            .map(|record| &*record.sequence_number)
            .collect();
        assert_eq!(numbers, ["1", "3"]);
    }

    #[test]
    fn the_lowest_reported_record_is_where_a_batch_failed() {
        let records = [1, 2, 3].map(|number| Record::new(record(1, number)));
        let outcome =
            |response: Value| outcome_of_response(response.to_string().as_bytes(), &records);
        let failures = |numbers: &[&str]| {
            let failures = numbers
                .iter()
                .map(|number| json!({"itemIdentifier": number}));
            json!({"batchItemFailures": failures.collect::<Vec<_>>()})
        };
        assert_eq!(outcome(failures(&["3", "2"])), Outcome::FailedFrom(1));
        for success in [
            failures(&[]),
            json!({}),
            json!(null),
            json!({"batchItemFailures": null}),
        ] {
            assert_eq!(outcome(success), Outcome::Succeeded);
        }
        for invalid in [
            failures(&["2", "9"]),
            failures(&[""]),
            json!({"batchItemFailures": [{}]}),
            json!({"batchItemFailures": "2"}),
        ] {
            assert!(matches!(outcome(invalid), Outcome::Failed(_)));
        }
    }

    #[test]
    fn a_batch_is_split_before_a_record_is_tried_again_and_dropped_at_last() {
        let failed = Outcome::Failed(String::new());
        let mapping = mapping(Some(5), true);
        assert_eq!(next_step(&failed, 2, 5, &mapping), NextAction::Bisect);
        let retry = |from: usize, retries: u32| NextAction::Retry { from, retries };
        assert_eq!(next_step(&failed, 1, 0, &mapping), retry(0, 1));
        assert_eq!(next_step(&failed, 1, 4, &mapping), retry(0, 5));
        assert_eq!(
            next_step(&failed, 1, 5, &mapping),
            NextAction::Drop { from: 0 }
        );
        assert_eq!(
            next_step(&Outcome::Succeeded, 9, 5, &mapping),
            NextAction::Continue
        );
    }

    #[test]
    fn a_reported_record_and_those_after_it_are_tried_again() {
        let with_bisect = mapping(Some(5), true);
        let step = next_step(&Outcome::FailedFrom(2), 9, 4, &with_bisect);
        assert_eq!(
            step,
            NextAction::Retry {
                from: 2,
                retries: 1
            }
        );
        let step = next_step(&Outcome::FailedFrom(0), 9, 4, &with_bisect);
        assert_eq!(
            step,
            NextAction::Retry {
                from: 0,
                retries: 5
            }
        );
        let step = next_step(&Outcome::FailedFrom(0), 9, 5, &with_bisect);
        assert_eq!(step, NextAction::Drop { from: 0 });
        let without_retries = mapping(Some(0), true);
        let step = next_step(&Outcome::FailedFrom(2), 9, 0, &without_retries);
        assert_eq!(step, NextAction::Drop { from: 2 });
        let without_limit = mapping(None, false);
        let failed = Outcome::Failed(String::new());
        let step = next_step(&failed, 9, 1_000, &without_limit);
        assert_eq!(
            step,
            NextAction::Retry {
                from: 0,
                retries: 1_001
            }
        );
    }

    #[test]
    fn pauses_grow_up_to_a_limit() {
        assert_eq!(pause(1), Duration::from_millis(50));
        assert_eq!(pause(3), Duration::from_millis(200));
        assert_eq!(pause(100), Duration::from_millis(800));
    }
}
