//! The contents of messages in a history: each message is a register that its edits and its deletion write.
//!
//! The changes of a chat are numbered, so the order of all writes is known from the final table. The reads are
//! linearizable if no read returns a version whose write had not started when the read ended, and none returns an
//! older version than another request that had ended when the read started.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{ClientRequest, Event, EventLog};
use crate::contract_model::{Edit, PairRequest, Part};

/// The members of a message in a response that depend on its changes.
pub const MEMBERS: [&str; 5] = [
    "text",
    "imageUrl",
    "linkPreviewUrl",
    "editedAt",
    "deletedAt",
];

/// All contents that the messages of a chat have had, by message and by the number of the change that wrote them: 0
/// for the message as it was sent. `None`: deleted. In these histories every content is a text.
#[derive(Clone, Default)]
pub struct MessageVersions(BTreeMap<u64, BTreeMap<u64, Option<String>>>);

impl MessageVersions {
    /// Reads the items of a chat: each message, and what it contained before each of its changes.
    pub fn new(items: &BTreeMap<String, Value>) -> Self {
        let text = |item: &Value| item["text"].as_str().map(str::to_owned);
        let mut versions = Self::default();
        for (sk, item) in items {
            if let Some(seq) = sk.strip_prefix("MSG#") {
                let last = (item["rev"].as_u64().unwrap_or(0), text(item));
                let message = versions.0.entry(seq.parse().unwrap()).or_default();
                message.insert(last.0, last.1);
            }
        }
        for (seq, message) in &mut versions.0 {
            // The content before a change is what the change before it has written.
            let prefix = format!("HIST#{seq:016}#");
            let mut written_by = 0;
            for (sk, item) in items {
                if let Some(rev) = sk.strip_prefix(&prefix) {
                    message.insert(written_by, text(item));
                    written_by = rev.parse().unwrap();
                }
            }
        }
        versions
    }

    /// The number of the message that was sent with this text.
    pub fn seq_of_sent_text(&self, text: &str) -> Option<u64> {
        let mut messages = self.0.iter();
        let is_sent = |versions: &BTreeMap<u64, Option<String>>| {
            versions
                .get(&0)
                .is_some_and(|sent| sent.as_deref() == Some(text))
        };
        let (seq, _) = messages.find(|(_, versions)| is_sent(versions))?;
        Some(*seq)
    }

    /// The changes that have given a message this text, or have deleted it.
    pub fn revs(&self, seq: u64, text: Option<&str>) -> BTreeSet<u64> {
        let mut revs = self.versions_with(seq, text);
        revs.remove(&0);
        revs
    }

    /// The messages that were changed after a `rev`.
    pub fn changed_after(&self, rev: u64) -> BTreeSet<u64> {
        let is_changed = |versions: &BTreeMap<u64, Option<String>>| {
            versions
                .last_key_value()
                .is_some_and(|(last, _)| *last > rev)
        };
        let changed = self.0.iter().filter(|(_, versions)| is_changed(versions));
        changed.map(|(seq, _)| *seq).collect()
    }

    /// The versions of a message with this text.
    fn versions_with(&self, seq: u64, text: Option<&str>) -> BTreeSet<u64> {
        let versions = self.0.get(&seq).into_iter().flatten();
        let same = versions.filter(|(_, version)| version.as_deref() == text);
        same.map(|(rev, _)| *rev).collect()
    }

    /// The last version of a message up to a `rev`.
    fn version_at(&self, seq: u64, rev: u64) -> u64 {
        let versions = self.0.get(&seq);
        let last = versions.and_then(|versions| versions.range(..=rev).next_back());
        last.map_or(0, |(version, _)| *version)
    }
}

/// The text that an edit writes.
pub fn new_text(edit: &Edit) -> Option<&str> {
    match &edit.text {
        Part::Set(text) => Some(text),
        Part::Keep | Part::Remove => None,
    }
}

/// A message in a response.
struct Observation {
    seq: u64,
    /// The versions that it can be: several only if two changes wrote the same.
    versions: BTreeSet<u64>,
    /// Positions in the history.
    started: usize,
    ended: usize,
}

/// One line for each message in a response that should be newer, or could not be known yet.
pub fn violations(log: &EventLog, versions: &MessageVersions) -> Vec<String> {
    let mut violations = Vec::new();
    let mut observations: Vec<Observation> = Vec::new();
    let starts = start_of_each_version(log);
    for (ended, event) in log.events.iter().enumerate() {
        let Event::Ended(number) = *event else {
            continue;
        };
        let response = log.attempts[number].response.as_ref();
        let Some(response) = response.filter(|response| response.status < 400) else {
            continue;
        };
        let started = log
            .events
            .iter()
            .position(|event| *event == Event::Started(number));
        let started = started.expect("the attempt has started");
        let page_rev = response.body["rev"].as_u64();
        for message in messages_in(&response.body) {
            let (seq, text) = (message["seq"].as_u64().unwrap(), message["text"].as_str());
            let observation = Observation {
                seq,
                versions: versions.versions_with(seq, text),
                started,
                ended,
            };
            let Some(newest) = observation.versions.last() else {
                violations.push(format!("event {ended}: no change has written {message}"));
                continue;
            };
            let key = (seq, text.map(str::to_owned));
            if starts.get(&key).is_none_or(|start| *start > ended) {
                violations.push(format!("event {ended}: nobody has written {message} yet"));
            }
            if message["deletedAt"] != text.is_none() {
                violations.push(format!("event {ended}: deletedAt is wrong: {message}"));
            }
            // A message can have its first text again after an edit.
            let is_first = observation.versions.contains(&0);
            let can_be_edited = text.is_none() || !is_first || observation.versions.len() > 1;
            let can_be_unedited = text.is_none() || is_first;
            let is_possible = match message["editedAt"].as_bool() {
                Some(true) => can_be_edited,
                _ => can_be_unedited,
            };
            if !is_possible {
                violations.push(format!("event {ended}: editedAt is wrong: {message}"));
            }
            let least = page_rev.map_or(0, |rev| versions.version_at(seq, rev));
            if *newest < least {
                violations.push(format!(
                    "event {ended}: change {least} is missing in {message}, rev {page_rev:?}"
                ));
            }
            observations.push(observation);
        }
    }
    for later in &observations {
        for earlier in observations
            .iter()
            .filter(|earlier| earlier.seq == later.seq)
        {
            if earlier.ended < later.started && later.versions.last() < earlier.versions.first() {
                violations.push(format!(
                    "event {}: message {} is older than in event {}",
                    later.ended, later.seq, earlier.ended
                ));
            }
        }
    }
    violations
}

/// When the first attempt started that could have written a text (or deleted a message), by message.
fn start_of_each_version(log: &EventLog) -> BTreeMap<(u64, Option<String>), usize> {
    let mut starts = BTreeMap::new();
    for (position, event) in log.events.iter().enumerate() {
        let Event::Started(number) = *event else {
            continue;
        };
        let ClientRequest::Pair(request) = &log.attempts[number].request else {
            continue;
        };
        let written: Vec<(u64, Option<String>)> = match request {
            // The number of a message that is being sent is not known, and there are few.
            PairRequest::Send { content, .. } => {
                (1..=100).map(|seq| (seq, content.text.clone())).collect()
            }
            PairRequest::Edit { seq, edit } => {
                vec![(*seq, new_text(edit).map(str::to_owned))]
            }
            PairRequest::Delete { seq } => vec![(*seq, None)],
            _ => Vec::new(),
        };
        for key in written {
            starts.entry(key).or_insert(position);
        }
    }
    starts
}

/// The messages in a response: a single one, or those of a page.
fn messages_in(body: &Value) -> Vec<&Value> {
    if body["messageId"].is_string() {
        return vec![body];
    }
    body["messages"].as_array().into_iter().flatten().collect()
}
