//! Pagination cursors: the start of the next page, opaque to clients.
//!
//! A cursor is `1.<list>.<user>.<position>` in base64url. The version allows a later change of the format. The
//! list and the user bind the cursor to the list that it came from, so that a cursor of another list is
//! rejected instead of returning a wrong page. A cursor is not signed: even a forged one can only select
//! entries of the caller's own lists, which the caller may read anyway.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use super::request::parse_canonical;
use crate::{
    domain::{ChatId, Rev, Seq, UserId},
    store::{ActivityKey, ChangesStart, ChatList, MessagePageStart, RequestDirection},
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
    let seq = Seq::new(parse_canonical(seq)?);
    match direction {
        "before" if seq > Seq::ZERO => Some(MessagePageStart::Before(seq)),
        "after" => Some(MessagePageStart::After(seq)),
        _ => None,
    }
}

/// The cursor of the page of changes that starts after `rev`.
pub(super) fn encode_changes(user: UserId, chat: ChatId, rev: Rev) -> String {
    encode(user, &changes_name(chat), &rev.to_string())
}

/// Decodes a cursor of [`encode_changes`] for the same user and chat.
pub(super) fn decode_changes(cursor: &str, user: UserId, chat: ChatId) -> Option<ChangesStart> {
    let position = decode(cursor, user, &changes_name(chat))?;
    parse_canonical(&position).map(|rev| ChangesStart(Rev::new(rev)))
}

fn list_name(list: ChatList) -> &'static str {
    match list {
        ChatList::Active => "active",
        ChatList::Pending(RequestDirection::Sent) => "pending-sent",
        ChatList::Pending(RequestDirection::Received) => "pending-received",
        ChatList::Declined(RequestDirection::Sent) => "rejected-sent",
        ChatList::Declined(RequestDirection::Received) => "rejected-received",
        ChatList::Blocked => "blocked",
    }
}

fn messages_name(chat: ChatId) -> String {
    format!("messages-{chat}")
}

fn changes_name(chat: ChatId) -> String {
    format!("changes-{chat}")
}

fn encode(user: UserId, list: &str, position: &str) -> String {
    URL_SAFE_NO_PAD.encode(format!("{VERSION}.{list}.{user}.{position}"))
}

fn decode(cursor: &str, user: UserId, list: &str) -> Option<String> {
    let decoded = String::from_utf8(URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()?;
    let position = decoded.strip_prefix(&format!("{VERSION}.{list}.{user}."))?;
    Some(position.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;

    const LISTS: [ChatList; 6] = [
        ChatList::Active,
        ChatList::Pending(RequestDirection::Sent),
        ChatList::Pending(RequestDirection::Received),
        ChatList::Declined(RequestDirection::Sent),
        ChatList::Declined(RequestDirection::Received),
        ChatList::Blocked,
    ];

    fn user(id: u64) -> UserId {
        UserId::new(id).unwrap()
    }

    fn chat(id: &str) -> ChatId {
        id.parse().unwrap()
    }

    fn key() -> ActivityKey {
        let chat = crate::domain::Chat::new_request(
            chat("17-42"),
            user(17),
            Timestamp::from_millis(1_767_225_600_000),
        );
        ActivityKey::of(&chat)
    }

    #[test]
    fn a_cursor_of_a_list_of_chats_is_valid_only_for_the_same_list_and_user() {
        for list in LISTS {
            let cursor = encode_chats(user(17), list, key());
            for other in LISTS {
                let expected = (other == list).then(key);
                assert_eq!(
                    decode_chats(&cursor, user(17), other),
                    expected,
                    "{other:?}"
                );
            }
            assert_eq!(decode_chats(&cursor, user(42), list), None);
        }
    }

    #[test]
    fn a_cursor_of_messages_is_valid_only_for_the_same_chat_and_user() {
        for start in [
            MessagePageStart::Before(Seq::new(7)),
            MessagePageStart::After(Seq::new(7)),
        ] {
            let cursor = encode_messages(user(17), chat("17-42"), start).unwrap();
            let decode = |caller, id| decode_messages(&cursor, user(caller), chat(id));
            assert_eq!(decode(17, "17-42"), Some(start));
            assert_eq!(decode(42, "17-42"), None);
            assert_eq!(decode(17, "17-43"), None);
            assert_eq!(decode_chats(&cursor, user(17), ChatList::Active), None);
        }
        let skip = encode_messages(user(17), chat("17-42"), MessagePageStart::Skip(1));
        assert_eq!(skip, None);
    }

    #[test]
    fn a_cursor_of_changes_is_valid_only_for_the_same_chat_and_user() {
        let cursor = encode_changes(user(17), chat("17-42"), Rev::new(7));
        let decode = |caller, id| decode_changes(&cursor, user(caller), chat(id));
        let start = decode(17, "17-42").map(|start| start.0);
        assert_eq!(start, Some(Rev::new(7)));
        assert!(decode(42, "17-42").is_none());
        assert!(decode(17, "17-43").is_none());
        assert_eq!(decode_messages(&cursor, user(17), chat("17-42")), None);
        let messages = MessagePageStart::After(Seq::new(7));
        let messages = encode_messages(user(17), chat("17-42"), messages).unwrap();
        assert!(decode_changes(&messages, user(17), chat("17-42")).is_none());
        for position in ["", "07", "+7", "-1", "x", "9007199254740992"] {
            let cursor = encode(user(17), "changes-17-42", position);
            let start = decode_changes(&cursor, user(17), chat("17-42"));
            assert!(start.is_none(), "{position}");
        }
    }

    #[test]
    fn a_forged_cursor_of_a_list_of_chats_is_invalid() {
        let valid = key().to_string();
        for position in [
            "18446744073709551615#0000000000000017-0000000000000042",
            "253402300800000#0000000000000017-0000000000000042", // the year 10000
            "000000000000005#0000000000000042-0000000000000017",
            "000000000000005#0000000000000017-9007199254740992",
            "000000000000005#17-42",
            "5#0000000000000017-0000000000000042",
            &format!("+{}", &valid[1..]),
            &format!("{valid} "),
        ] {
            let cursor = encode(user(17), "active", position);
            assert_eq!(
                decode_chats(&cursor, user(17), ChatList::Active),
                None,
                "{position}"
            );
        }
        let cursor = encode(user(17), "active", &valid);
        assert_eq!(
            decode_chats(&cursor, user(17), ChatList::Active),
            Some(key())
        );
    }

    #[test]
    fn a_malformed_cursor_is_invalid() {
        let decode = |cursor: &str| decode_messages(cursor, user(17), chat("17-42"));
        assert_eq!(decode(""), None);
        assert_eq!(decode("not base64!"), None);
        for position in [
            "",
            "7",
            "before:",
            "before:x",
            "before:-1",
            "between:7",
            "before:07",
            "before:0",
            "after:+7",
            "after:9007199254740992",
            "after:18446744073709551615",
        ] {
            let cursor = encode(user(17), "messages-17-42", position);
            assert_eq!(decode(&cursor), None, "{position}");
        }
        for text in ["2.messages-17-42.17.before:7", "messages-17-42.17.before:7"] {
            assert_eq!(decode(&URL_SAFE_NO_PAD.encode(text)), None, "{text}");
        }
        assert_eq!(decode(&URL_SAFE_NO_PAD.encode(b"\xff")), None);
    }
}
