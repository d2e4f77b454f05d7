//! Reads the table's stream with the API that every DynamoDB has, also emulators.
//!
//! A stream consists of shards. A shard that is full is closed, and its children continue it: they are read after it,
//! so that the changes of an item stay in order. Shards that exist when the stack starts are read from their end, and
//! later ones from their start.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::{Duration, Instant},
};

use aws_sdk_dynamodbstreams::{
    Client,
    error::ProvideErrorMetadata,
    types::{AttributeValue, Record, ShardIteratorType, StreamRecord},
};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use chat_shared::domain::Timestamp;
use serde_json::{Map, Value, json};
use tokio::{sync::watch, time::sleep};

use super::{Lanes, sockets::stopped};
use crate::{
    Error, LogSink,
    dynamodb::{root_cause, streams_client_for_endpoint},
    loopback::is_loopback_url,
};

/// The maximum number of records in a response.
const MAX_RECORDS: i32 = 1_000;
/// How long to wait after an error.
const ERROR_PAUSE: Duration = Duration::from_millis(500);

/// How often to read.
#[derive(Clone, Copy)]
struct Pace {
    /// Between two reads of shards without new records.
    idle: Duration,
    /// Between two reads of shards with new records.
    busy: Duration,
    /// Between two looks for new shards.
    shards: Duration,
}

/// A DynamoDB on this machine has no quotas.
const PACE_ON_THIS_MACHINE: Pace = Pace {
    idle: Duration::from_millis(25),
    busy: Duration::ZERO,
    shards: Duration::from_secs(1),
};

/// As Lambda does; AWS allows five reads of a shard a second.
const PACE_ON_AWS: Pace = Pace {
    idle: Duration::from_millis(250),
    busy: Duration::from_millis(250),
    shards: Duration::from_secs(10),
};

/// Reads the stream of a table.
pub(crate) struct StreamPoller {
    client: Client,
    stream_arn: String,
    shards: BTreeMap<String, Shard>,
    pace: Pace,
    log: LogSink,
    /// Whether the last read failed, so that an outage is logged once.
    is_failing: bool,
}

/// A shard of the stream.
struct Shard {
    parent: Option<String>,
    state: ShardState,
}

enum ShardState {
    /// Its parent has not been read to its end.
    Waiting,
    Reading(Position),
    Finished,
}

/// Where to read on in a shard.
struct Position {
    iterator: String,
    /// Where the shard is read from, if no record has been read yet.
    start: ShardIteratorType,
    /// The sequence number of the last record that was read.
    last: Option<String>,
}

/// An error of the stream.
struct Failure {
    code: Option<String>,
    cause: String,
}

impl StreamPoller {
    /// Finds the shards of a stream and the ends of those that are open. Records that are written after this returns
    /// are read.
    ///
    /// # Errors
    /// When the DynamoDB cannot be reached or returns an error.
    pub async fn start(endpoint: &str, stream_arn: String, log: LogSink) -> Result<Self, Error> {
        let pace = if is_loopback_url(endpoint) {
            PACE_ON_THIS_MACHINE
        } else {
            PACE_ON_AWS
        };
        let mut poller = Self {
            client: streams_client_for_endpoint(endpoint),
            stream_arn,
            shards: BTreeMap::new(),
            pace,
            log,
            is_failing: false,
        };
        let started = poller.start_at_the_end().await;
        started.map_err(|failure| {
            let (arn, cause) = (&poller.stream_arn, failure.cause);
            Error::new(format!("cannot read the stream {arn}: {cause}"))
        })?;
        Ok(poller)
    }

    async fn start_at_the_end(&mut self) -> Result<(), Failure> {
        self.find_shards().await?;
        let parents = self.shards.values();
        let parents: BTreeSet<_> = parents.filter_map(|shard| shard.parent.clone()).collect();
        let ids: Vec<_> = self.shards.keys().cloned().collect();
        for id in ids {
            // A shard with children is closed: there is nothing after its end.
            let state = if parents.contains(&id) {
                ShardState::Finished
            } else {
                ShardState::Reading(self.position(&id, ShardIteratorType::Latest).await?)
            };
            self.set_state(&id, state);
        }
        Ok(())
    }

    /// Reads records and passes them on until the stack stops.
    pub async fn run(self, lanes: Lanes, stop: watch::Receiver<bool>) {
        tokio::select! {
            () = self.poll_forever(lanes) => {}
            () = stopped(stop) => {}
        }
    }

    async fn poll_forever(mut self, lanes: Lanes) {
        let mut shards_found = Instant::now();
        loop {
            let reading = self.reading();
            let mut pause = self.pace.idle;
            for id in &reading {
                match self.poll(id).await {
                    Ok(records) => {
                        self.is_failing = false;
                        if !records.is_empty() {
                            pause = self.pace.busy;
                            lanes.dispatch(records).await;
                        }
                    }
                    Err(failure) => {
                        self.log_failure(&failure);
                        pause = ERROR_PAUSE;
                    }
                }
            }
            let has_finished = self.reading().len() < reading.len();
            if has_finished || shards_found.elapsed() >= self.pace.shards {
                shards_found = Instant::now();
                if let Err(failure) = self.continue_with_new_shards().await {
                    self.log_failure(&failure);
                    pause = ERROR_PAUSE;
                }
            }
            sleep(pause).await;
        }
    }

    /// The shards that are being read.
    fn reading(&self) -> Vec<String> {
        let shards = self.shards.iter();
        shards
            .filter(|(_, shard)| matches!(shard.state, ShardState::Reading(_)))
            .map(|(id, _)| id.clone())
            .collect()
    }

    /// The next records of a shard.
    async fn poll(&mut self, id: &str) -> Result<Vec<Value>, Failure> {
        let Some(ShardState::Reading(position)) = self.shards.get(id).map(|shard| &shard.state)
        else {
            return Ok(Vec::new());
        };
        let request = self.client.get_records();
        let request = request
            .shard_iterator(&position.iterator)
            .limit(MAX_RECORDS);
        let output = request.send().await;
        let output = match output.map_err(|error| Failure::new(&error)) {
            Ok(output) => output,
            Err(failure) => {
                self.recover(id, failure).await?;
                return Ok(Vec::new());
            }
        };
        let records = output.records();
        let last = records.last().and_then(|record| {
            let sequence_number = record.dynamodb()?.sequence_number()?;
            Some(sequence_number.to_owned())
        });
        let records = records
            .iter()
            .map(|record| record_json(record, &self.stream_arn))
            .collect();
        let next = output.next_shard_iterator.map(|iterator| Position {
            iterator,
            start: position.start.clone(),
            last: last.or_else(|| position.last.clone()),
        });
        self.set_state(id, next.map_or(ShardState::Finished, ShardState::Reading));
        Ok(records)
    }

    /// Gets a new iterator if the error is one of the iterator: it is valid for 15 minutes, which a computer that
    /// sleeps exceeds. Otherwise returns the error.
    async fn recover(&mut self, id: &str, failure: Failure) -> Result<(), Failure> {
        let Some(ShardState::Reading(position)) = self.shards.get(id).map(|shard| &shard.state)
        else {
            return Err(failure);
        };
        let (last, start) = match failure.code.as_deref() {
            Some("ExpiredIteratorException") => (position.last.clone(), position.start.clone()),
            // The next records are older than a day and deleted.
            Some("TrimmedDataAccessException") => (None, ShardIteratorType::TrimHorizon),
            _ => return Err(failure),
        };
        let position = match last {
            Some(last) => self.position_after(id, start, last).await?,
            None => self.position(id, start).await?,
        };
        self.set_state(id, ShardState::Reading(position));
        Ok(())
    }

    /// Looks for new shards, and starts to read those whose parents have been read.
    async fn continue_with_new_shards(&mut self) -> Result<(), Failure> {
        self.find_shards().await?;
        for id in ready_shards(&self.shards) {
            let position = self.position(&id, ShardIteratorType::TrimHorizon).await?;
            self.set_state(&id, ShardState::Reading(position));
        }
        Ok(())
    }

    /// Adds new shards, and forgets those that have been read and deleted.
    async fn find_shards(&mut self) -> Result<(), Failure> {
        let mut listed = BTreeSet::new();
        let mut start = None;
        loop {
            let request = self.client.describe_stream().stream_arn(&self.stream_arn);
            let output = request.set_exclusive_start_shard_id(start).send().await;
            let output = output.map_err(|error| Failure::new(&error))?;
            let Some(description) = output.stream_description else {
                break;
            };
            for shard in description.shards() {
                let Some(id) = shard.shard_id() else { continue };
                listed.insert(id.to_owned());
                self.shards.entry(id.to_owned()).or_insert_with(|| Shard {
                    parent: shard.parent_shard_id().map(str::to_owned),
                    state: ShardState::Waiting,
                });
            }
            start = description.last_evaluated_shard_id;
            if start.is_none() {
                break;
            }
        }
        self.shards.retain(|id, shard| {
            listed.contains(id) || !matches!(shard.state, ShardState::Finished)
        });
        Ok(())
    }

    /// The start or the end of a shard.
    async fn position(&self, id: &str, start: ShardIteratorType) -> Result<Position, Failure> {
        let iterator = self.iterator(id, start.clone(), None).await?;
        Ok(Position {
            iterator,
            start,
            last: None,
        })
    }

    /// The position after a record.
    async fn position_after(
        &self,
        id: &str,
        start: ShardIteratorType,
        last: String,
    ) -> Result<Position, Failure> {
        let after = ShardIteratorType::AfterSequenceNumber;
        Ok(Position {
            iterator: self.iterator(id, after, Some(last.clone())).await?,
            start,
            last: Some(last),
        })
    }

    async fn iterator(
        &self,
        id: &str,
        kind: ShardIteratorType,
        sequence_number: Option<String>,
    ) -> Result<String, Failure> {
        let output = self
            .client
            .get_shard_iterator()
            .stream_arn(&self.stream_arn)
            .shard_id(id)
            .shard_iterator_type(kind)
            .set_sequence_number(sequence_number)
            .send()
            .await;
        let output = output.map_err(|error| Failure::new(&error))?;
        output.shard_iterator.ok_or_else(|| Failure {
            code: None,
            cause: format!("shard {id} has no iterator"),
        })
    }

    fn set_state(&mut self, id: &str, state: ShardState) {
        if let Some(shard) = self.shards.get_mut(id) {
            shard.state = state;
        }
    }

    fn log_failure(&mut self, failure: &Failure) {
        if !self.is_failing {
            let (now, cause) = (Timestamp::now(), &failure.cause);
            (self.log)(&format!("{now} stream: cannot read records: {cause}"));
        }
        self.is_failing = true;
    }
}

impl Failure {
    fn new(error: &(impl ProvideErrorMetadata + std::error::Error)) -> Self {
        Self {
            code: error.code().map(str::to_owned),
            cause: root_cause(error),
        }
    }
}

/// The shards that wait, but no longer for their parents.
fn ready_shards(shards: &BTreeMap<String, Shard>) -> Vec<String> {
    let is_unfinished = |id: &String| {
        let shard = shards.get(id);
        shard.is_some_and(|shard| !matches!(shard.state, ShardState::Finished))
    };
    let ready = |shard: &Shard| {
        matches!(shard.state, ShardState::Waiting)
            && !shard.parent.as_ref().is_some_and(is_unfinished)
    };
    let shards = shards.iter().filter(|(_, shard)| ready(shard));
    shards.map(|(id, _)| id.clone()).collect()
}

/// A record as Lambda passes it to a function.
fn record_json(record: &Record, stream_arn: &str) -> Value {
    let mut json = json!({
        "eventID": record.event_id(),
        "eventName": record.event_name().map(AsRef::<str>::as_ref),
        "eventVersion": record.event_version(),
        "eventSource": record.event_source(),
        "awsRegion": record.aws_region(),
        "dynamodb": record.dynamodb().map(change_json),
        "eventSourceARN": stream_arn,
    });
    // Of items that the TTL has deleted.
    if let Some(identity) = record.user_identity() {
        json["userIdentity"] = json!({
            "type": identity.r#type(),
            "principalId": identity.principal_id(),
        });
    }
    json
}

fn change_json(change: &StreamRecord) -> Value {
    let created_at = change.approximate_creation_date_time();
    let members = [
        (
            "ApproximateCreationDateTime",
            created_at.map(|time| time.secs().into()),
        ),
        ("Keys", change.keys().map(image_json)),
        ("NewImage", change.new_image().map(image_json)),
        ("OldImage", change.old_image().map(image_json)),
        ("SequenceNumber", change.sequence_number().map(Value::from)),
        ("SizeBytes", change.size_bytes().map(Value::from)),
        (
            "StreamViewType",
            change
                .stream_view_type()
                .map(|view_type| view_type.as_str().into()),
        ),
    ];
    let present = members
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(present.collect())
}

/// The attributes of an item in the JSON format of DynamoDB, in the order of their names, so that equal keys have
/// equal texts.
fn image_json(image: &HashMap<String, AttributeValue>) -> Value {
    let sorted: BTreeMap<_, _> = image.iter().collect();
    let attributes = sorted
        .into_iter()
        .map(|(name, value)| (name.clone(), attribute_json(value)));
    Value::Object(attributes.collect::<Map<_, _>>())
}

fn attribute_json(value: &AttributeValue) -> Value {
    match value {
        AttributeValue::S(text) => json!({"S": text}),
        AttributeValue::N(number) => json!({"N": number}),
        AttributeValue::B(bytes) => json!({"B": BASE64.encode(bytes)}),
        AttributeValue::Bool(flag) => json!({"BOOL": flag}),
        AttributeValue::Null(flag) => json!({"NULL": flag}),
        AttributeValue::Ss(texts) => json!({"SS": texts}),
        AttributeValue::Ns(numbers) => json!({"NS": numbers}),
        AttributeValue::Bs(items) => {
            let items: Vec<_> = items.iter().map(|bytes| BASE64.encode(bytes)).collect();
            json!({"BS": items})
        }
        AttributeValue::L(items) => {
            json!({"L": items.iter().map(attribute_json).collect::<Vec<_>>()})
        }
        AttributeValue::M(members) => json!({"M": image_json(members)}),
        // A type that DynamoDB has added.
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodbstreams::{
        primitives::{Blob, DateTime},
        types::{Identity, OperationType, StreamViewType},
    };

    use super::*;

    #[test]
    fn a_record_has_the_json_format_of_dynamodb() {
        let text = |text: &str| AttributeValue::S(text.to_owned());
        let nested = HashMap::from([
            ("flag".to_owned(), AttributeValue::Bool(true)),
            ("none".to_owned(), AttributeValue::Null(true)),
            ("data".to_owned(), AttributeValue::B(Blob::new(b"hi"))),
        ]);
        let list = vec![text("a"), AttributeValue::N("1.5".to_owned())];
        let change = StreamRecord::builder()
            .approximate_creation_date_time(DateTime::from_millis(1_700_000_000_999))
            .keys("sk", text("STATE"))
            .keys("pk", text("CHAT#1"))
            .new_image("map", AttributeValue::M(nested))
            .new_image("list", AttributeValue::L(list))
            .new_image("texts", AttributeValue::Ss(vec!["x".to_owned()]))
            .new_image("bytes", AttributeValue::Bs(vec![Blob::new(b"hi")]))
            .sequence_number("000001")
            .size_bytes(59)
            .stream_view_type(StreamViewType::NewAndOldImages)
            .build();
        let record = Record::builder()
            .event_id("e1")
            .event_name(OperationType::Insert)
            .event_version("1.1")
            .event_source("aws:dynamodb")
            .aws_region("us-east-1")
            .dynamodb(change)
            .build();
        let expected = json!({
            "eventID": "e1",
            "eventName": "INSERT",
            "eventVersion": "1.1",
            "eventSource": "aws:dynamodb",
            "awsRegion": "us-east-1",
            "dynamodb": {
                "ApproximateCreationDateTime": 1_700_000_000,
                "Keys": {"pk": {"S": "CHAT#1"}, "sk": {"S": "STATE"}},
                "NewImage": {
                    "map": {"M": {"flag": {"BOOL": true}, "none": {"NULL": true}, "data": {"B": "aGk="}}},
                    "list": {"L": [{"S": "a"}, {"N": "1.5"}]},
                    "texts": {"SS": ["x"]},
                    "bytes": {"BS": ["aGk="]},
                },
                "SequenceNumber": "000001",
                "SizeBytes": 59,
                "StreamViewType": "NEW_AND_OLD_IMAGES",
            },
            "eventSourceARN": "arn:stream",
        });
        let json = record_json(&record, "arn:stream");
        assert_eq!(json, expected);
        let keys = json["dynamodb"]["Keys"].to_string();
        assert_eq!(keys, r#"{"pk":{"S":"CHAT#1"},"sk":{"S":"STATE"}}"#);
    }

    #[test]
    fn a_record_of_an_expired_item_names_the_service_that_deleted_it() {
        let identity = Identity::builder()
            .r#type("Service")
            .principal_id("dynamodb.amazonaws.com")
            .build();
        let record = Record::builder().user_identity(identity).build();
        let identity = &record_json(&record, "arn:stream")["userIdentity"];
        assert_eq!(identity["type"], "Service");
        assert_eq!(identity["principalId"], "dynamodb.amazonaws.com");
    }

    #[test]
    fn a_shard_is_read_after_its_parent() {
        let position = || {
            ShardState::Reading(Position {
                iterator: String::new(),
                start: ShardIteratorType::Latest,
                last: None,
            })
        };
        let shards = [
            ("finished", None, ShardState::Finished),
            ("reading", None, position()),
            ("child of finished", Some("finished"), ShardState::Waiting),
            ("child of reading", Some("reading"), ShardState::Waiting),
            ("child of deleted", Some("deleted"), ShardState::Waiting),
            ("grandchild", Some("child of finished"), ShardState::Waiting),
            ("first", None, ShardState::Waiting),
        ];
        let shards = shards.map(|(id, parent, state)| {
            let parent = parent.map(str::to_owned);
            (id.to_owned(), Shard { parent, state })
        });
        let ready = ready_shards(&BTreeMap::from(shards));
        assert_eq!(ready, ["child of deleted", "child of finished", "first"]);
    }
}
