//! Pagination cursors: the start of the next page, opaque to clients.
//!
//! A cursor is `1.<list>.<user>.<position>` in base64url. The version allows to change the format. The
//! list and the user bind the cursor to the list that it came from, so that a cursor of another list is
//! rejected instead of returning a wrong page. A cursor is not signed: even a forged one can only select
//! entries of the caller's own lists, which the caller may read anyway.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::{
    domain::{ChatId, Seq, UserId},
    store::{ActivityKey, ChatList, MessagePageStart, RequestDirection},
};

const VERSION: &str = "1";

/// The cursor of the page that starts after `key` in one of the user's lists of chats.
pub(super) fn encode_chats(user: UserId, list: ChatList, key: ActivityKey) -> String {
    encode(user, list_name(list), &key.to_string())
}

/// Decodes a cursor of [`encode_chats`] for the same user and list.
pub(super) fn decode_chats(cursor: &str, user: UserId, list: ChatList) -> Option<ActivityKey> {
    decode(cursor, user, list_name(list))?.parse().ok()
}

/// The cursor of the page of messages with this start. `Skip` has no cursor.
pub(super) fn encode_messages(
    user: UserId,
    chat: ChatId,
    start: MessagePageStart,
) -> Option<String> {
    let (direction, seq) = match start {
        MessagePageStart::Before(seq) => ("before", seq),
        MessagePageStart::After(seq) => ("after", seq),
        MessagePageStart::Skip(_) => return None,
    };
    Some(encode(
        user,
        &messages_name(chat),
        &format!("{direction}:{seq}"),
    ))
}

/// Decodes a cursor of [`encode_messages`] for the same user and chat.
pub(super) fn decode_messages(
    cursor: &str,
    user: UserId,
    chat: ChatId,
) -> Option<MessagePageStart> {
    let position = decode(cursor, user, &messages_name(chat))?;
    let (direction, seq) = position.split_once(':')?;
    let seq = Seq::new(seq.parse().ok()?);
    match direction {
        "before" => Some(MessagePageStart::Before(seq)),
        "after" => Some(MessagePageStart::After(seq)),
        _ => None,
    }
}

fn list_name(list: ChatList) -> &'static str {
    match list {
        ChatList::Active => "active",
        ChatList::Pending(RequestDirection::Sent) => "pending-sent",
        ChatList::Pending(RequestDirection::Received) => "pending-received",
        ChatList::Declined(RequestDirection::Sent) => "rejected-sent",
        ChatList::Declined(RequestDirection::Received) => "rejected-received",
    }
}

fn messages_name(chat: ChatId) -> String {
    format!("messages-{chat}")
}

fn encode(user: UserId, list: &str, position: &str) -> String {
    URL_SAFE_NO_PAD.encode(format!("{VERSION}.{list}.{user}.{position}"))
}

fn decode(cursor: &str, user: UserId, list: &str) -> Option<String> {
    let decoded = String::from_utf8(URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()?;
    let position = decoded.strip_prefix(&format!("{VERSION}.{list}.{user}."))?;
    Some(position.to_owned())
}
