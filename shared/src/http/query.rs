//! Parses query parameters. Unknown parameters are ignored. A known parameter must be within its range
//! and must not be repeated.

use std::borrow::Cow;

use super::cursor;
use crate::{
    Error,
    domain::{ChatId, MAX_SAFE_INTEGER, Rev, Seq, UserId},
    store::{ChangesStart, ChatList, ChatPageStart, MessagePageStart, RequestDirection},
};

pub(crate) const DEFAULT_LIMIT: u64 = 15;
pub(crate) const MAX_LIMIT: u64 = 100;
/// The maximum `skip` in lists of chats, because an index cannot skip rows without reading them. Cursors have no
/// such limit.
pub(crate) const MAX_CHATS_SKIP: u64 = 1_000;

/// The query parameters of a request.
pub(crate) struct Query<'a> {
    pairs: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

impl<'a> Query<'a> {
    pub(crate) fn new(query: &'a str) -> Self {
        Self {
            pairs: form_urlencoded::parse(query.as_bytes()).collect(),
        }
    }

    pub(crate) fn direction(&self) -> Result<RequestDirection, Error> {
        match self.value("direction")? {
            None | Some("sent") => Ok(RequestDirection::Sent),
            Some("received") => Ok(RequestDirection::Received),
            Some(_) => Err(Error::invalid("`direction` must be `sent` or `received`")),
        }
    }

    pub(crate) fn chat_page(
        &self,
        user: UserId,
        list: ChatList,
    ) -> Result<(ChatPageStart, usize), Error> {
        let limit = self.limit()?;
        let skip = self.number("skip", 0, MAX_CHATS_SKIP)?;
        let cursor = self.value("cursor")?;
        self.require_at_most_one(&["skip", "cursor"])?;
        let start = match cursor {
            Some(cursor) => ChatPageStart::After(
                cursor::decode_chats(cursor, user, list).ok_or_else(invalid_cursor)?,
            ),
            None => ChatPageStart::Skip(usize::try_from(skip.unwrap_or(0)).unwrap_or(usize::MAX)),
        };
        Ok((start, limit))
    }

    pub(crate) fn message_page(
        &self,
        user: UserId,
        chat: Option<ChatId>,
    ) -> Result<(MessagePageStart, usize), Error> {
        let limit = self.limit()?;
        let skip = self.number("skip", 0, MAX_SAFE_INTEGER)?;
        let before = self.number("before", 1, MAX_SAFE_INTEGER)?;
        let after = self.number("after", 0, MAX_SAFE_INTEGER)?;
        let cursor = self.value("cursor")?;
        self.require_at_most_one(&["skip", "cursor", "before", "after"])?;
        let start = if let Some(cursor) = cursor {
            chat.and_then(|chat| cursor::decode_messages(cursor, user, chat))
                .ok_or_else(invalid_cursor)?
        } else if let Some(seq) = before {
            MessagePageStart::Before(Seq::new(seq))
        } else if let Some(seq) = after {
            MessagePageStart::After(Seq::new(seq))
        } else {
            MessagePageStart::Skip(skip.unwrap_or(0))
        };
        Ok((start, limit))
    }

    pub(crate) fn changes_page(
        &self,
        user: UserId,
        chat: Option<ChatId>,
    ) -> Result<(ChangesStart, usize), Error> {
        let limit = self.limit()?;
        let after = self.number("after", 0, MAX_SAFE_INTEGER)?;
        let cursor = self.value("cursor")?;
        self.require_at_most_one(&["cursor", "after"])?;
        let start = match cursor {
            Some(cursor) => chat
                .and_then(|chat| cursor::decode_changes(cursor, user, chat))
                .ok_or_else(invalid_cursor)?,
            None => ChangesStart(Rev::new(after.unwrap_or(0))),
        };
        Ok((start, limit))
    }

    fn limit(&self) -> Result<usize, Error> {
        let limit = self.number("limit", 1, MAX_LIMIT)?.unwrap_or(DEFAULT_LIMIT);
        Ok(usize::try_from(limit).unwrap_or(usize::MAX))
    }

    fn number(&self, name: &str, min: u64, max: u64) -> Result<Option<u64>, Error> {
        let Some(value) = self.value(name)? else {
            return Ok(None);
        };
        let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
        let number = digits.then(|| value.parse().ok()).flatten();
        let number = number.filter(|number| (min..=max).contains(number));
        let out_of_range = || {
            Error::invalid(format!(
                "`{name}` must be a whole number from {min} to {max}"
            ))
        };
        number.ok_or_else(out_of_range).map(Some)
    }

    fn value(&self, name: &str) -> Result<Option<&str>, Error> {
        let mut values = self
            .pairs
            .iter()
            .filter(|(key, _)| key == name)
            .map(|(_, value)| value);
        let value = values.next();
        if values.next().is_some() {
            return Err(Error::invalid(format!("`{name}` must not be repeated")));
        }
        Ok(value.map(AsRef::as_ref))
    }

    fn require_at_most_one(&self, names: &[&str]) -> Result<(), Error> {
        let given: Vec<_> = names
            .iter()
            .filter(|name| self.pairs.iter().any(|(key, _)| key == *name))
            .collect();
        match given[..] {
            [one, other, ..] => Err(Error::invalid(format!(
                "`{one}` and `{other}` cannot be combined; send only one of them"
            ))),
            _ => Ok(()),
        }
    }
}

fn invalid_cursor() -> Error {
    Error::invalid("`cursor` must be the `nextCursor` of a page of the same list")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(query: &str) -> Result<(MessagePageStart, usize), String> {
        let page = Query::new(query).message_page(user(), Some(chat()));
        page.map_err(|error| error.to_string())
    }

    fn chats(query: &str) -> Result<(ChatPageStart, usize), String> {
        let page = Query::new(query).chat_page(user(), ChatList::Active);
        page.map_err(|error| error.to_string())
    }

    fn changes(query: &str) -> Result<(Rev, usize), String> {
        let page = Query::new(query).changes_page(user(), Some(chat()));
        let page = page.map(|(start, limit)| (start.0, limit));
        page.map_err(|error| error.to_string())
    }

    fn user() -> UserId {
        UserId::new(17).unwrap()
    }

    fn chat() -> ChatId {
        "17-42".parse().unwrap()
    }

    #[test]
    fn the_default_is_the_first_15_entries() {
        assert_eq!(messages(""), Ok((MessagePageStart::Skip(0), 15)));
        assert_eq!(
            chats("colour=red&before=x"),
            Ok((ChatPageStart::Skip(0), 15))
        );
    }

    #[test]
    fn changes_start_at_the_first_one_by_default() {
        assert_eq!(changes("skip=x&before=x"), Ok((Rev::ZERO, 15)));
        assert_eq!(changes("after=0&limit=1"), Ok((Rev::ZERO, 1)));
        let last = MAX_SAFE_INTEGER;
        assert_eq!(changes(&format!("after={last}")), Ok((Rev::new(last), 15)));
        for bad in ["after=", "after=-1", "after=9007199254740992", "after=%2B1"] {
            let error = changes(bad).unwrap_err();
            assert!(error.contains("`after`"), "{bad}: {error}");
        }
        assert!(changes("after=1&after=1").is_err());
    }

    #[test]
    fn a_number_must_consist_of_digits_and_be_within_its_range() {
        for name in ["limit", "skip", "before", "after"] {
            for bad in [
                "",
                "x",
                "-1",
                "%2B5",
                "1.0",
                "1e1",
                "%20 1",
                "1,2",
                "9007199254740992",
            ] {
                let error = messages(&format!("{name}={bad}")).unwrap_err();
                assert!(
                    error.contains(&format!("`{name}`")),
                    "{name}={bad}: {error}"
                );
            }
        }
        assert!(messages("limit=0").is_err());
        assert!(messages("limit=101").is_err());
        assert!(messages("before=0").is_err());
        assert_eq!(
            messages("after=0&limit=100"),
            Ok((MessagePageStart::After(Seq::ZERO), 100))
        );
        assert!(messages("skip=9007199254740991").is_ok());
        assert!(chats("skip=1000").is_ok());
        assert!(chats("skip=1001").is_err());
    }

    #[test]
    fn a_repeated_parameter_is_rejected_even_if_the_values_are_equal() {
        for name in ["limit", "skip", "cursor", "before", "after"] {
            let error = messages(&format!("{name}=1&{name}=1")).unwrap_err();
            assert!(error.contains(&format!("`{name}`")), "{error}");
        }
    }

    #[test]
    fn paging_parameters_cannot_be_combined() {
        assert!(messages("skip=0&before=5").is_err());
        assert!(messages("before=5&after=5").is_err());
        let error = changes("after=0&cursor=x").unwrap_err();
        let names_both = error.contains("`cursor`") && error.contains("`after`");
        assert!(names_both, "{error}");
        assert!(chats("skip=0&cursor=x").is_err());
    }

    #[test]
    fn a_cursor_is_valid_only_for_its_user_and_its_list() {
        let place = MessagePageStart::Before(Seq::new(7));
        let cursor = cursor::encode_messages(user(), chat(), place).unwrap();
        assert_eq!(messages(&format!("cursor={cursor}")), Ok((place, 15)));
        let other_user = Query::new("").message_page(UserId::new(42).unwrap(), Some(chat()));
        assert!(other_user.is_ok());
        let query = format!("cursor={cursor}");
        let stranger = UserId::new(42).unwrap();
        assert!(
            Query::new(&query)
                .message_page(stranger, Some(chat()))
                .is_err()
        );
        assert!(
            Query::new(&query)
                .message_page(user(), Some("17-43".parse().unwrap()))
                .is_err()
        );
        assert!(
            Query::new(&query)
                .chat_page(user(), ChatList::Active)
                .is_err()
        );
        assert!(changes(&query).is_err());
        let cursor = cursor::encode_changes(user(), chat(), Rev::new(7));
        let query = format!("cursor={cursor}");
        assert_eq!(changes(&query), Ok((Rev::new(7), 15)));
        let other_chat = Some("17-43".parse().unwrap());
        for chat in [other_chat, None] {
            let page = Query::new(&query).changes_page(user(), chat);
            assert!(page.is_err(), "{chat:?}");
        }
        assert!(
            Query::new(&query)
                .changes_page(stranger, Some(chat()))
                .is_err()
        );
        assert!(messages("cursor=").is_err());
        assert!(messages("cursor=bm90IGEgY3Vyc29y").is_err());
    }
}
