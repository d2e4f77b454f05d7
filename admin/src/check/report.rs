//! Evaluates one report. A report stands on its own: it may exist without a chat, and it keeps a copy of its
//! message. No I/O.

use chat_shared::{
    domain::{ChatId, MAX_SAFE_INTEGER, ReportReason, Seq, Timestamp},
    store::items::{Item, ItemKey, ItemKind, ReportItem},
};

use super::{
    attributes::Attributes,
    violation::{Value, Violation},
};
use crate::reports::ReportId;

/// The states of a report.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Resolved,
}

/// Checks a report of a member of a chat.
pub(super) fn check_report(
    chat: ChatId,
    key: &ItemKey,
    item: Item,
    now: Timestamp,
) -> Vec<Violation> {
    let mut attributes = Attributes::new(key, &item);
    attributes.check_kind(ItemKind::Report);
    let id = ReportId::of(key);
    if id.is_none() {
        let problem = "the sort key is not FLAG#, the id of a member, # and a number of 16 digits";
        attributes.report_item("key", problem);
    }
    check_subject(&mut attributes, chat, id);
    if let Some(reason) = attributes.text("reason")
        && ReportReason::parse(reason).is_none()
    {
        report_unknown_value(&mut attributes, "reason");
    }
    for attribute in ["note", "text", "imageUrl", "linkPreviewUrl"] {
        attributes.optional_text(attribute);
    }
    for attribute in ["editedAt", "deletedAt"] {
        attributes.optional_time(attribute, now);
    }
    if id.is_some_and(|id| id.seq.is_some()) {
        attributes.time("messageCreatedAt", now);
    } else {
        attributes.optional_time("messageCreatedAt", now);
    }
    let created_at = attributes.time("createdAt", now);
    let state = read_state(&mut attributes);
    if state == Some(State::Resolved) {
        attributes.time("resolvedAt", now);
        for attribute in ["resolvedBy", "action", "resolution"] {
            attributes.text(attribute);
        }
    }
    check_index_keys(&mut attributes, id, state, created_at);
    let is_valid = attributes.is_valid();
    let mut violations = attributes.into_violations();
    if is_valid && ReportItem::read(item).is_err() {
        violations.push(Violation::unreadable(key.clone()));
    }
    violations
}

/// A newer version may write values that this version does not know.
fn report_unknown_value(attributes: &mut Attributes<'_>, attribute: &str) {
    let reason = format!("{attribute} has a value that this version does not know");
    attributes.report_inconclusive(reason);
}

/// Compares the reporter and the message with those in the key, and checks the reported user.
fn check_subject(attributes: &mut Attributes<'_>, chat: ChatId, id: Option<ReportId>) {
    let reporter = attributes.member("reporterId", chat);
    let reported = attributes.member("userId", chat);
    if reporter.is_some() && reporter == reported {
        attributes.report("userId", "is the same as reporterId");
    }
    let Some(ReportId {
        reporter: by, seq, ..
    }) = id
    else {
        return;
    };
    if let Some(reporter) = reporter
        && reporter != by
    {
        let problem = format!("is {reporter}, but the sort key names {by}");
        attributes.report("reporterId", problem);
    }
    let Some(expected) = seq.map(Seq::get) else {
        if attributes.item().contains_key("seq") {
            let problem = "must not exist: the sort key names no message";
            attributes.report("seq", problem);
        }
        return;
    };
    if let Some(actual) = attributes.number("seq", 1..=MAX_SAFE_INTEGER)
        && actual != expected
    {
        let problem = format!("is {actual}, but the sort key names message {expected}");
        attributes.report("seq", problem);
    }
}

fn read_state(attributes: &mut Attributes<'_>) -> Option<State> {
    let name = attributes.text("state")?;
    match name {
        ReportItem::STATE_OPEN => Some(State::Open),
        ReportItem::STATE_RESOLVED => Some(State::Resolved),
        _ => {
            report_unknown_value(attributes, "state");
            None
        }
    }
}

/// Checks that the queue of open reports contains the report if it is open.
fn check_index_keys(
    attributes: &mut Attributes<'_>,
    id: Option<ReportId>,
    state: Option<State>,
    created_at: Option<u64>,
) {
    let queue = state.map(|state| match state {
        State::Open => (
            Value::Text(ReportItem::QUEUE.to_owned()),
            vec![("state", Value::Text(ReportItem::STATE_OPEN.to_owned()))],
        ),
        State::Resolved => (
            Value::Missing,
            vec![("state", Value::Text(ReportItem::STATE_RESOLVED.to_owned()))],
        ),
    });
    attributes.check_derived_text("requesterKey", queue);
    let position = id.zip(created_at).map(|(id, created_at)| {
        let queue_key = id.queue_key(Timestamp::from_millis(created_at));
        let based_on = vec![("createdAt", Value::count(created_at))];
        (Value::Text(queue_key), based_on)
    });
    attributes.check_derived_text("activity", position);
    if attributes.item().contains_key("recipientKey") {
        let problem = "must not exist: only chats are in this index";
        attributes.report("recipientKey", problem);
    }
}
