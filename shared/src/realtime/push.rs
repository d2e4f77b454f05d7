//! Sends the events of a batch of changes to the connections of the members.
//!
//! 1. The images of each record are read, and compared ([`ChatEvent::between`]). A record that cannot be read is
//!    logged, counted and left out, because it would fail each time.
//! 2. Each user who is to learn of something is read once for the batch: connections and totals. Nobody connected:
//!    done. Messages are read only for events that somebody receives, and not if the preview is the whole message.
//! 3. Each connection gets its events in the order of the records, as few frames as possible. All connections are
//!    served at the same time, so a slow one delays no other.
//!
//! The failures and what happens:
//!
//! | Failure | Reaction |
//! |---|---|
//! | connection gone | its item is deleted, unless it is younger than [`MIN_AGE`]: its handshake may not be finished |
//! | connection too slow | it is closed and its item deleted; the client connects again and loads what it missed |
//! | token expired | `bye`, closed and deleted |
//! | the function may not send | counted, and the record is delivered again |
//! | table not available | the batch ends before this record; it and all later ones are delivered again, because later events of its chat must not overtake it |
//! | out of time | the same |

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
    management::{ManagementClient, PostOutcome},
    protocol::{ByeReason, ControlFrame, EventFrame, EventView, MAX_FRAME_BYTES},
};
use crate::{
    Error,
    domain::{Chat, ChatEvent, Message, Timestamp, UserId},
    http::log::PushCounts,
    store::{Connection, Store, Totals},
};

/// The maximum number of requests to the `@connections` API at a time.
const MAX_POSTS: usize = 32;
/// The maximum number of requests to the table at a time.
const MAX_READS: usize = 8;
/// A connection that is gone may still be in its handshake before this age.
const MIN_AGE: Duration = Duration::from_secs(10);

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
struct Listener {
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
    /// The index of the first record that must be delivered again, and why.
    failure: Option<(usize, String)>,
    cause: Option<String>,
}

/// Sends the events of a batch until `deadline`.
pub(super) async fn push(
    records: &[&RawValue],
    store: &Store,
    management: &ManagementClient,
    now: Timestamp,
    deadline: Instant,
) -> PushReport {
    let mut report = PushReport::default();
    let mut changes = Vec::new();
    for record in records {
        match read(record, store, now) {
            Ok(change) => changes.extend(change),
            Err(cause) => {
                report.counts.push_failures += 1;
                report.causes.push(cause);
            }
        }
    }
    // The index of the first record that must be delivered again.
    let mut failed_from = changes.len();
    let mut fail = |index: usize, cause: String, report: &mut PushReport| {
        failed_from = failed_from.min(index);
        report.causes.push(cause);
        failed_from
    };

    // A table that does not respond must not take the time of the events that were read.
    let read_deadline = Instant::now() + deadline.duration_since(Instant::now()) / 2;
    let (listeners, unread) = read_listeners(&changes, store, read_deadline).await;
    let mut readable = changes.len();
    if let Some((index, cause)) = unread {
        readable = fail(index, cause, &mut report);
    }
    let messages = read_messages(&changes[..readable], &listeners, store, read_deadline).await;
    let (mut messages, failure) = messages;
    if let Some((index, cause)) = failure {
        readable = fail(index, cause, &mut report);
    }
    let queues = queues(
        &changes[..readable],
        &listeners,
        &mut messages,
        now,
        &mut report,
    );
    let deliveries = stream::iter(queues)
        .map(|queue| deliver(queue, store, management, now, deadline))
        .buffer_unordered(MAX_POSTS);
    let deliveries: Vec<_> = deliveries.collect().await;
    for delivery in deliveries {
        report.counts.frames += delivery.frames;
        report.counts.gone_connections += u64::from(delivery.is_gone);
        report.counts.closed_connections += u64::from(delivery.is_closed);
        report.causes.extend(delivery.cause);
        if let Some((index, cause)) = delivery.failure {
            fail(index, cause, &mut report);
        }
    }
    let failed = changes.get(failed_from);
    report.failed_from = failed.map(|change| change.sequence_number.clone());
    report
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
    let chat = |image: serde_dynamo::Item| store.chat_from_image(image.into());
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
    fn audience(&self) -> Vec<UserId> {
        let audiences = self.events.iter();
        audiences
            .flat_map(|event| event.audience(&self.chat))
            .collect()
    }
}

/// Reads each user once. Also returns the first change whose users could not all be read.
async fn read_listeners(
    changes: &[ChatChange],
    store: &Store,
    deadline: Instant,
) -> (HashMap<UserId, Listener>, Option<(usize, String)>) {
    let mut seen = HashSet::new();
    let users = changes.iter().enumerate();
    let users = users.flat_map(|(index, change)| {
        let users = change.audience().into_iter();
        users.map(move |user| (index, user))
    });
    let users: Vec<_> = users.filter(|(_, user)| seen.insert(*user)).collect();
    let reads = stream::iter(users).map(async |(index, user)| {
        let read = timeout_at(deadline, store.connections_and_totals(user)).await;
        let read = read.map_err(|_| "out of time".to_owned());
        (
            index,
            user,
            read.and_then(|read| read.map_err(|error| describe(&error))),
        )
    });
    // In order, so that the first failure is the one of the first record.
    let mut reads = std::pin::pin!(reads.buffered(MAX_READS));
    let mut listeners = HashMap::new();
    while let Some((index, user, read)) = reads.next().await {
        match read {
            Ok((connections, totals)) => {
                let listener = Listener {
                    connections,
                    totals,
                };
                listeners.insert(user, listener);
            }
            Err(cause) => return (listeners, Some((index, cause))),
        }
    }
    (listeners, None)
}

/// A message for an event, by the index of the record and the index of the event. `None`: it is not readable.
type Messages = BTreeMap<(usize, usize), Option<Message>>;

/// Reads the messages of events that somebody receives. Also returns the first change whose message could not be
/// read because the table is not available.
async fn read_messages(
    changes: &[ChatChange],
    listeners: &HashMap<UserId, Listener>,
    store: &Store,
    deadline: Instant,
) -> (Messages, Option<(usize, String)>) {
    let is_heard = |event: &ChatEvent, chat: &Chat| {
        let audience = event.audience(chat);
        let mut listeners = audience.iter().filter_map(|user| listeners.get(user));
        listeners.any(|listener| !listener.connections.is_empty())
    };
    let events = changes.iter().enumerate().flat_map(|(index, change)| {
        let events = change.events.iter().enumerate();
        let heard = events.filter(|(_, event)| is_heard(event, &change.chat));
        heard.map(move |(number, event)| (index, number, &change.chat, *event))
    });
    let reads = stream::iter(events).map(async |(index, number, chat, event)| {
        let read = async {
            match event {
                ChatEvent::MessageCreated(seq) => {
                    let last = chat.last_message().filter(|last| last.seq == seq);
                    let whole = last.and_then(|last| last.whole_message(chat.id));
                    match whole {
                        Some(message) => Ok(Some(message)),
                        None => store.message_of_event(chat.id, seq).await,
                    }
                }
                ChatEvent::MessageChanged(rev) => store.changed_message(chat.id, rev).await,
                _ => Ok(None),
            }
        };
        let read = timeout_at(deadline, read).await;
        let read = read.map_err(|_| "out of time".to_owned());
        (
            index,
            number,
            read.and_then(|read| read.map_err(|error| describe(&error))),
        )
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

/// What each connection receives.
fn queues(
    changes: &[ChatChange],
    listeners: &HashMap<UserId, Listener>,
    messages: &mut Messages,
    now: Timestamp,
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
                let name = format!("a message of chat {} is not readable", change.chat.id);
                report.causes.push(name);
                continue;
            }
            for user in event.audience(&change.chat) {
                let Some(listener) = listeners.get(&user) else {
                    continue;
                };
                if listener.connections.is_empty() {
                    continue;
                }
                let id = match number {
                    0 => change.event_id.clone(),
                    _ => format!("{}-{}", change.event_id, number + 1),
                };
                let at = event.at(&change.chat).unwrap_or(change.at);
                let totals = listener.totals;
                let chat = &change.chat;
                let view = EventView::new(id, *event, at, chat, message.as_ref(), user, totals);
                // Views always serialize.
                let Ok(json) = to_raw_value(&view) else {
                    continue;
                };
                let json: Arc<RawValue> = json.into();
                for connection in &listener.connections {
                    let queue = queues
                        .entry((user, &connection.id))
                        .or_insert_with(|| Queue {
                            user,
                            connection: connection.clone(),
                            events: Vec::new(),
                        });
                    // A connection whose token has expired is only closed.
                    if !is_expired(connection, now) {
                        queue.events.push((index, json.clone()));
                    }
                }
            }
        }
    }
    queues.into_values().collect()
}

/// Sends its events to one connection.
async fn deliver(
    queue: Queue,
    store: &Store,
    management: &ManagementClient,
    now: Timestamp,
    deadline: Instant,
) -> Delivery {
    let Queue {
        user,
        connection,
        events,
    } = queue;
    let mut delivery = Delivery::default();
    // Failures to delete an item are ignored: the next event tries again.
    let delete = async || drop(store.delete_connection(user, &connection.id).await);
    let close = async |reason| {
        let bye = ControlFrame::bye(reason).json();
        management.close(&connection.id, &bye).await;
        delete().await;
    };
    if events.is_empty() {
        let _ = timeout_at(deadline, close(ByeReason::TokenExpired)).await;
        delivery.is_closed = true;
        return delivery;
    }
    for events in frames(&events) {
        let first = events.first().map_or(0, |(index, _)| *index);
        let parts: Vec<&RawValue> = events.iter().map(|(_, event)| &**event).collect();
        let Ok(frame) = EventFrame::json(&parts) else {
            continue;
        };
        let posted = timeout_at(deadline, management.post(&connection.id, &frame)).await;
        match posted {
            Ok(PostOutcome::Delivered) => delivery.frames += 1,
            Ok(PostOutcome::Gone) => {
                delivery.is_gone = true;
                if connection.connected_at + MIN_AGE < now {
                    delete().await;
                }
                break;
            }
            Ok(PostOutcome::Behind(cause)) => {
                delivery.is_closed = true;
                delivery.cause = Some(format!("a connection was closed: {cause}"));
                let _ = timeout_at(deadline, close(ByeReason::Behind)).await;
                break;
            }
            Ok(PostOutcome::Forbidden(cause)) => {
                delivery.failure = Some((first, cause.to_string()));
                break;
            }
            Err(_) => {
                delivery.failure = Some((first, "out of time".to_owned()));
                break;
            }
        }
    }
    delivery
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
