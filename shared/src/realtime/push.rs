//! Sends the events of a batch of changes to the connections of the members.
//!
//! 1. The images of each record are read, and compared ([`ChatEvent::between`]). A record that cannot be read is
//!    logged, counted and left out, because it would fail each time.
//! 2. Each user who is to learn of something is read once for the batch: connections and totals. Nobody connected:
//!    done. Messages are read only for events that somebody receives, and not if the preview is the whole message.
//! 3. Each connection gets its events in the order of the records, in as few frames as possible. All connections are
//!    served at the same time. A frame that is not accepted at once is sent again only after all connections had their
//!    turn, so a slow one delays no other.
//!
//! The failures and what happens:
//!
//! | Failure | Reaction |
//! |---|---|
//! | connection gone | its item is deleted, unless it is younger than [`MIN_AGE`]: its handshake may not be finished |
//! | connection too slow | it is closed; the client connects again and loads what it missed |
//! | token expired | `bye`, and the connection is closed |
//! | API Gateway does not allow it (403) | counted, and the record is delivered again |
//! | API Gateway refuses the frame for another reason | counted, and the connection is closed |
//! | message not readable yet | the record is delivered again, for [`MAX_COMMIT_TIME`] after the change |
//! | message not readable | counted, and its event is left out |
//! | table not available | the batch ends before this record; it and all later ones are delivered again, because later events of its chat must not overtake it |
//! | out of time | the same |
//!
//! The item of a connection that is closed is deleted only if API Gateway has confirmed it. Otherwise the client would
//! keep a connection without events, and without the gap in the numbers that the next event shows.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt, stream};
use serde_json::value::{RawValue, to_raw_value};
use tokio::time::{Instant, timeout_at};

use super::{
    event::{Change, RecordName, StreamRecord},
    frames::is_expired,
    management::{CloseOutcome, ManagementClient, PostOutcome},
    protocol::{ByeReason, ControlFrame, EventFrame, EventView, MAX_FRAME_BYTES},
};
use crate::{
    Error,
    domain::{Chat, ChatEvent, Message, Timestamp, UserId},
    http::log::PushCounts,
    store::{Connection, MAX_COMMIT_TIME, Store, TableClient, Totals},
};

/// The maximum number of requests to the `@connections` API at a time.
const MAX_POSTS: usize = 32;
/// The maximum number of requests to the table at a time.
const MAX_READS: usize = 8;
/// A connection that is gone may still be in its handshake before this age.
pub(super) const MIN_AGE: Duration = Duration::from_secs(10);
/// The maximum time of all frames of a connection.
const MAX_CONNECTION_TIME: Duration = Duration::from_secs(3);
const OUT_OF_TIME: &str = "out of time";

/// The outcome of a batch.
#[derive(Default)]
pub(super) struct PushReport {
    /// The sequence number of the first record that must be delivered again, with all later ones.
    pub failed_from: Option<String>,
    /// What went wrong, for the log.
    pub causes: Vec<String>,
    pub counts: PushCounts,
}

/// A change with events.
struct ChatChange {
    sequence_number: String,
    event_id: String,
    at: Timestamp,
    chat: Chat,
    events: Vec<ChatEvent>,
}

/// A user who receives events.
struct Recipient {
    connections: Vec<Connection>,
    totals: Totals,
}

/// The events that one connection receives, each with the index of its record.
struct Queue {
    user: UserId,
    connection: Connection,
    events: Vec<(usize, Arc<RawValue>)>,
}

/// The outcome of the delivery to one connection.
#[derive(Default)]
struct Delivery {
    frames: u64,
    is_gone: bool,
    is_closed: bool,
    is_rejected: bool,
    /// The index of the first record that must be delivered again, and why.
    failure: Option<(usize, String)>,
    cause: Option<String>,
    /// The events that the connection has not accepted yet.
    rest: Option<Queue>,
}

/// Whether a frame that a connection does not accept is sent again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Attempts {
    Once,
    Repeated,
}

/// What sends the events of one batch.
struct Push<'a> {
    table: &'a TableClient,
    management: &'a ManagementClient,
    now: Timestamp,
    /// When the function must respond.
    deadline: Instant,
}

/// Sends the events of a batch until `deadline`.
pub(super) async fn push(
    records: &[&RawValue],
    table: &TableClient,
    management: &ManagementClient,
    now: Timestamp,
    deadline: Instant,
) -> PushReport {
    let push = Push {
        table,
        management,
        now,
        deadline,
    };
    push.run(records).await
}

impl PushReport {
    fn add(&mut self, delivery: Delivery) -> Option<(usize, String)> {
        self.counts.frames += delivery.frames;
        self.counts.gone_connections += u64::from(delivery.is_gone);
        self.counts.closed_connections += u64::from(delivery.is_closed);
        self.counts.push_failures += u64::from(delivery.is_rejected);
        self.causes.extend(delivery.cause);
        delivery.failure
    }
}

impl Push<'_> {
    async fn run(&self, records: &[&RawValue]) -> PushReport {
        let mut report = PushReport::default();
        let mut changes = Vec::new();
        let store = self.store();
        for record in records {
            match read(record, &store, self.now) {
                Ok(change) => changes.extend(change),
                Err(cause) => {
                    report.counts.push_failures += 1;
                    report.causes.push(cause);
                }
            }
        }
        // The first failures of the steps.
        let mut failures = Vec::new();

        // A table that does not respond must not take the time of the events that were read.
        let read_deadline = Instant::now() + self.deadline.duration_since(Instant::now()) / 2;
        let (recipients, failure) = self.read_recipients(&changes, read_deadline).await;
        let mut readable = failure.as_ref().map_or(changes.len(), |(index, _)| *index);
        failures.extend(failure);
        let (mut messages, failure) = self
            .read_messages(&changes[..readable], &recipients, read_deadline)
            .await;
        readable = failure.as_ref().map_or(readable, |(index, _)| *index);
        failures.extend(failure);

        let changes_to_send = &changes[..readable];
        let queues = self.queues(changes_to_send, &recipients, &mut messages, &mut report);
        let mut rest = Vec::new();
        let mut deliveries = stream::iter(queues)
            .map(|queue| self.deliver(queue, Attempts::Once))
            .buffer_unordered(MAX_POSTS);
        while let Some(mut delivery) = deliveries.next().await {
            rest.extend(delivery.rest.take());
            failures.extend(report.add(delivery));
        }
        let mut deliveries = stream::iter(rest)
            .map(|queue| self.deliver(queue, Attempts::Repeated))
            .buffer_unordered(MAX_POSTS);
        while let Some(delivery) = deliveries.next().await {
            failures.extend(report.add(delivery));
        }

        let first = failures.iter().map(|(index, _)| *index).min();
        let failed = first.and_then(|index| changes.get(index));
        report.failed_from = failed.map(|change| change.sequence_number.clone());
        report
            .causes
            .extend(failures.into_iter().map(|(_, cause)| cause));
        report
    }

    /// A store of its own for each operation, because the operations of a store share their back-off.
    fn store(&self) -> Store {
        self.table.store_at(self.now)
    }
}

/// Reads a record. `None` if it has no events. The error names the record.
fn read(record: &RawValue, store: &Store, now: Timestamp) -> Result<Option<ChatChange>, String> {
    let unreadable = |cause: &dyn std::fmt::Display| {
        let name: RecordName = serde_json::from_str(record.get()).unwrap_or_default();
        format!("{name} is not readable: {cause}")
    };
    let parsed: StreamRecord =
        serde_json::from_str(record.get()).map_err(|error| unreadable(&error))?;
    let at = parsed.dynamodb.at().unwrap_or(now);
    let Change {
        sequence_number,
        new_image,
        old_image,
        ..
    } = parsed.dynamodb;
    // Nothing deletes a chat.
    let Some(after) = new_image else {
        return Ok(None);
    };
    let chat = |image: serde_dynamo::Item| store.read_chat(image.into());
    let cause = |error: Error| {
        let cause = error.cause().map(ToString::to_string);
        unreadable(&cause.unwrap_or_default())
    };
    let chat_after = chat(after).map_err(cause)?;
    let before = old_image.map(chat).transpose().map_err(cause)?;
    let events = ChatEvent::between(before.as_ref(), &chat_after);
    if events.is_empty() {
        return Ok(None);
    }
    Ok(Some(ChatChange {
        sequence_number,
        event_id: parsed.event_id,
        at,
        chat: chat_after,
        events,
    }))
}

impl ChatChange {
    /// One of its events as JSON, as `user` sees it.
    fn view(
        &self,
        number: usize,
        message: Option<&Message>,
        user: UserId,
        totals: Totals,
    ) -> Result<Box<RawValue>, serde_json::Error> {
        let event = self.events[number];
        let id = match number {
            0 => self.event_id.clone(),
            _ => format!("{}-{}", self.event_id, number + 1),
        };
        let at = event.at(&self.chat).unwrap_or(self.at);
        to_raw_value(&EventView::new(
            id, event, at, &self.chat, message, user, totals,
        ))
    }

    fn audience(&self) -> Vec<UserId> {
        let audiences = self.events.iter();
        audiences
            .flat_map(|event| event.audience(&self.chat))
            .collect()
    }
}

impl Push<'_> {
    /// Reads each user once. Also returns the first change whose users could not all be read.
    async fn read_recipients(
        &self,
        changes: &[ChatChange],
        deadline: Instant,
    ) -> (HashMap<UserId, Recipient>, Option<(usize, String)>) {
        let mut seen = HashSet::new();
        let users = changes.iter().enumerate();
        let users = users.flat_map(|(index, change)| {
            let users = change.audience().into_iter();
            users.map(move |user| (index, user))
        });
        let users: Vec<_> = users.filter(|(_, user)| seen.insert(*user)).collect();
        let reads = stream::iter(users).map(async |(index, user)| {
            let store = self.store();
            let read = timeout_at(deadline, store.connections_and_totals(user)).await;
            let read = read.map_err(|_| OUT_OF_TIME.to_owned());
            let read = read.and_then(|read| read.map_err(|error| describe(&error)));
            (index, user, read)
        });
        // In order, so that the first failure is the one of the first record.
        let mut reads = std::pin::pin!(reads.buffered(MAX_READS));
        let mut recipients = HashMap::new();
        while let Some((index, user, read)) = reads.next().await {
            match read {
                Ok((connections, totals)) => {
                    let recipient = Recipient {
                        connections,
                        totals,
                    };
                    recipients.insert(user, recipient);
                }
                Err(cause) => return (recipients, Some((index, cause))),
            }
        }
        (recipients, None)
    }
}

/// A message for an event, by the index of the record and the index of the event. `None`: it is not readable.
type Messages = BTreeMap<(usize, usize), Option<Message>>;

impl Push<'_> {
    /// Reads the messages of events that somebody receives. Also returns the first change whose message could not be
    /// read and may be readable later.
    async fn read_messages(
        &self,
        changes: &[ChatChange],
        recipients: &HashMap<UserId, Recipient>,
        deadline: Instant,
    ) -> (Messages, Option<(usize, String)>) {
        let has_recipient = |event: &ChatEvent, chat: &Chat| {
            let audience = event.audience(chat);
            let mut recipients = audience.iter().filter_map(|user| recipients.get(user));
            recipients.any(|recipient| !recipient.connections.is_empty())
        };
        let events = changes.iter().enumerate().flat_map(|(index, change)| {
            let events = change.events.iter().enumerate();
            let received = events.filter(|(_, event)| has_recipient(event, &change.chat));
            received.map(move |(number, event)| (index, number, change, *event))
        });
        let reads = stream::iter(events).map(async |(index, number, change, event)| {
            let read = timeout_at(deadline, self.read_message(change, event)).await;
            let read = read.unwrap_or_else(|_| Err(OUT_OF_TIME.to_owned()));
            (index, number, read)
        });
        let mut reads = std::pin::pin!(reads.buffered(MAX_READS));
        let mut messages = Messages::new();
        while let Some((index, number, read)) = reads.next().await {
            match read {
                Ok(message) => {
                    messages.insert((index, number), message);
                }
                Err(cause) => return (messages, Some((index, cause))),
            }
        }
        (messages, None)
    }

    /// The message of an event. `None` if the event has none, or if it will not become readable.
    async fn read_message(
        &self,
        change: &ChatChange,
        event: ChatEvent,
    ) -> Result<Option<Message>, String> {
        let chat = &change.chat;
        let read = match event {
            ChatEvent::MessageCreated(seq) => {
                let last = chat.last_message().filter(|last| last.seq == seq);
                if let Some(message) = last.and_then(|last| last.whole_message(chat.id)) {
                    return Ok(Some(message));
                }
                self.store().wait_for_message(chat.id, seq).await
            }
            ChatEvent::MessageChanged(rev) => self.store().changed_message(chat.id, rev).await,
            _ => return Ok(None),
        };
        match read {
            Ok(None) if change.at + MAX_COMMIT_TIME > self.now => {
                Err("a message is not readable yet".to_owned())
            }
            Ok(message) => Ok(message),
            Err(error @ Error::Unavailable(_)) => Err(describe(&error)),
            // Reading it again would fail, too.
            Err(_) => Ok(None),
        }
    }

    /// Queues the events of each connection.
    fn queues(
        &self,
        changes: &[ChatChange],
        recipients: &HashMap<UserId, Recipient>,
        messages: &mut Messages,
        report: &mut PushReport,
    ) -> Vec<Queue> {
        let mut queues: BTreeMap<(UserId, &str), Queue> = BTreeMap::new();
        for (index, change) in changes.iter().enumerate() {
            for (number, event) in change.events.iter().enumerate() {
                report.counts.events += 1;
                let Some(message) = messages.remove(&(index, number)) else {
                    // Nobody is connected.
                    continue;
                };
                let needs_message = matches!(
                    event,
                    ChatEvent::MessageCreated(_) | ChatEvent::MessageChanged(_)
                );
                if needs_message && message.is_none() {
                    report.counts.push_failures += 1;
                    let cause = format!("a message of chat {} is not readable", change.chat.id);
                    report.causes.push(cause);
                    continue;
                }
                for user in event.audience(&change.chat) {
                    let recipient = recipients.get(&user);
                    let Some(recipient) = recipient.filter(|user| !user.connections.is_empty())
                    else {
                        continue;
                    };
                    // Views always serialize.
                    let Ok(json) = change.view(number, message.as_ref(), user, recipient.totals)
                    else {
                        continue;
                    };
                    let json: Arc<RawValue> = json.into();
                    for connection in &recipient.connections {
                        let queue = queues
                            .entry((user, &connection.id))
                            .or_insert_with(|| Queue {
                                user,
                                connection: connection.clone(),
                                events: Vec::new(),
                            });
                        // A connection whose token has expired is only closed.
                        if !is_expired(connection, self.now) {
                            queue.events.push((index, json.clone()));
                        }
                    }
                }
            }
        }
        queues.into_values().collect()
    }

    /// Sends its events to one connection.
    async fn deliver(&self, queue: Queue, attempts: Attempts) -> Delivery {
        let mut delivery = Delivery::default();
        if queue.events.is_empty() {
            delivery.is_closed = true;
            self.close(&queue, Some(ByeReason::TokenExpired)).await;
            return delivery;
        }
        // A connection that accepts each of many frames only after a while must not take the time of the batch.
        let limit = self.deadline.min(Instant::now() + MAX_CONNECTION_TIME);
        let mut sent = 0;
        for events in frames(&queue.events) {
            let first = events.first().map_or(0, |(index, _)| *index);
            let parts: Vec<&RawValue> = events.iter().map(|(_, event)| &**event).collect();
            let Ok(frame) = EventFrame::json(&parts) else {
                continue;
            };
            let id = &queue.connection.id;
            let posted = match attempts {
                Attempts::Once => timeout_at(limit, self.management.post_once(id, &frame)).await,
                Attempts::Repeated => timeout_at(limit, self.management.post(id, &frame)).await,
            };
            let posted = match posted {
                Ok(outcome) => outcome,
                Err(_) if limit < self.deadline => PostOutcome::Behind("too slow".into()),
                Err(_) => {
                    delivery.failure = Some((first, OUT_OF_TIME.to_owned()));
                    return delivery;
                }
            };
            match posted {
                PostOutcome::Delivered => {
                    delivery.frames += 1;
                    sent += events.len();
                    continue;
                }
                PostOutcome::Gone => {
                    delivery.is_gone = true;
                    if queue.connection.connected_at + MIN_AGE < self.now {
                        self.delete(&queue).await;
                    }
                }
                PostOutcome::Behind(_) if attempts == Attempts::Once => {
                    delivery.rest = Some(Queue {
                        events: queue.events[sent..].to_vec(),
                        ..queue
                    });
                }
                PostOutcome::Behind(cause) => {
                    delivery.is_closed = true;
                    delivery.cause = Some(format!("a connection was closed: {cause}"));
                    // Without `bye`, which a connection that accepts no frames does not accept either.
                    self.close(&queue, None).await;
                }
                PostOutcome::Forbidden(cause) => {
                    delivery.is_rejected = true;
                    delivery.failure = Some((first, cause.to_string()));
                }
                PostOutcome::Rejected(cause) => {
                    delivery.is_rejected = true;
                    delivery.is_closed = true;
                    delivery.cause = Some(format!("a connection was closed: {cause}"));
                    self.close(&queue, Some(ByeReason::Behind)).await;
                }
            }
            return delivery;
        }
        delivery
    }

    /// Closes a connection, and deletes its item if it is closed. A failure is no failure of the batch: the next event
    /// of the user tries again.
    async fn close(&self, queue: &Queue, reason: Option<ByeReason>) {
        let bye = reason.map(|reason| ControlFrame::bye(reason).json());
        let close = self.management.close(&queue.connection.id, bye.as_deref());
        let closed = timeout_at(self.deadline, close).await;
        if closed.is_ok_and(CloseOutcome::is_closed) {
            self.delete(queue).await;
        }
    }

    async fn delete(&self, queue: &Queue) {
        let store = self.store();
        let delete = store.delete_connection(queue.user, &queue.connection.id);
        let _ = timeout_at(self.deadline, delete).await;
    }
}

/// Divides events into frames of at most [`MAX_FRAME_BYTES`]. A longer event has a frame of its own.
fn frames(events: &[(usize, Arc<RawValue>)]) -> Vec<&[(usize, Arc<RawValue>)]> {
    let mut frames = Vec::new();
    let (mut start, mut length) = (0, 0);
    for (end, (_, event)) in events.iter().enumerate() {
        let count = end + 1 - start;
        let event = event.get().len();
        if end > start && EventFrame::max_length(length + event, count) > MAX_FRAME_BYTES {
            frames.push(&events[start..end]);
            (start, length) = (end, 0);
        }
        length += event;
    }
    frames.push(&events[start..]);
    frames
}

fn describe(error: &Error) -> String {
    let cause = error.cause().map(ToString::to_string);
    cause.unwrap_or_else(|| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(length: usize) -> Arc<RawValue> {
        let json = format!("\"{}\"", "x".repeat(length - 2));
        RawValue::from_string(json).unwrap().into()
    }

    fn lengths(events: &[usize]) -> Vec<Vec<usize>> {
        let events: Vec<_> = events.iter().map(|length| (0, event(*length))).collect();
        let frames = frames(&events).into_iter();
        let lengths = |frame: &[(usize, Arc<RawValue>)]| {
            let lengths = frame.iter().map(|(_, event)| event.get().len());
            lengths.collect()
        };
        frames.map(lengths).collect()
    }

    #[test]
    fn events_share_a_frame_until_it_would_be_charged_twice() {
        assert_eq!(lengths(&[10, 10, 10]), [vec![10, 10, 10]]);
        let half = MAX_FRAME_BYTES / 2 - 100;
        assert_eq!(lengths(&[half, half, half]), [vec![half, half], vec![half]]);
        let longer = MAX_FRAME_BYTES + 1;
        assert_eq!(
            lengths(&[10, longer, 10]),
            [vec![10], vec![longer], vec![10]]
        );
    }

    #[test]
    fn no_frame_with_several_events_is_longer_than_the_maximum() {
        let sizes = [1_000, 16_000, 15_800, 16_384, 16_300, 120, 32_700, 40, 31];
        let events: Vec<_> = sizes.iter().map(|length| (0, event(*length))).collect();
        for frame in frames(&events) {
            let parts: Vec<&RawValue> = frame.iter().map(|(_, event)| &**event).collect();
            let json = EventFrame::json(&parts).unwrap();
            assert!(json.len() <= MAX_FRAME_BYTES || parts.len() == 1);
        }
    }
}
