//! Cursors: where the next page begins, opaque to clients.
//!
//! A cursor is base64url of `1.<list>.<user>.<place>`: a version, so that the format may change; the
//! list and the user that it came from, so that it is of use only there; and the place. It is not
//! signed: the caller's own lists are all that it can be used on.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::{
    domain::{ChatId, Seq, UserId},
    store::{Activity, Direction, List, MessagesFrom},
};

const VERSION: &str = "1";

/// The cursor of the page after `place` in one of the user's lists of chats.
pub(super) fn of_chats(user: UserId, list: List, place: Activity) -> String {
    encode(user, list_name(list), &place.to_string())
}

/// Reads what [`of_chats`] wrote for the same user and list.
pub(super) fn read_chats(cursor: &str, user: UserId, list: List) -> Option<Activity> {
    decode(cursor, user, list_name(list))?.parse().ok()
}

/// The cursor of the page of a chat's messages that begins at `place`.
pub(super) fn of_messages(user: UserId, chat: ChatId, place: MessagesFrom) -> Option<String> {
    let (direction, seq) = match place {
        MessagesFrom::Before(seq) => ("before", seq),
        MessagesFrom::After(seq) => ("after", seq),
        MessagesFrom::Skip(_) => return None,
    };
    Some(encode(
        user,
        &messages_name(chat),
        &format!("{direction}:{seq}"),
    ))
}

/// Reads what [`of_messages`] wrote for the same user and chat.
pub(super) fn read_messages(cursor: &str, user: UserId, chat: ChatId) -> Option<MessagesFrom> {
    let place = decode(cursor, user, &messages_name(chat))?;
    let (direction, seq) = place.split_once(':')?;
    let seq = Seq::new(seq.parse().ok()?);
    match direction {
        "before" => Some(MessagesFrom::Before(seq)),
        "after" => Some(MessagesFrom::After(seq)),
        _ => None,
    }
}

fn list_name(list: List) -> &'static str {
    match list {
        List::Active => "active",
        List::Pending(Direction::Sent) => "pending-sent",
        List::Pending(Direction::Received) => "pending-received",
        List::Declined(Direction::Sent) => "rejected-sent",
        List::Declined(Direction::Received) => "rejected-received",
    }
}

fn messages_name(chat: ChatId) -> String {
    format!("messages-{chat}")
}

fn encode(user: UserId, list: &str, place: &str) -> String {
    URL_SAFE_NO_PAD.encode(format!("{VERSION}.{list}.{user}.{place}"))
}

fn decode(cursor: &str, user: UserId, list: &str) -> Option<String> {
    let decoded = String::from_utf8(URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()?;
    let place = decoded.strip_prefix(&format!("{VERSION}.{list}.{user}."))?;
    Some(place.to_owned())
}
