//! Query parameters. Unknown ones are ignored; known ones are given at most once and within range.

use std::borrow::Cow;

use super::cursor;
use crate::{
    Error,
    domain::{ChatId, MAX_INTEGER, Seq, UserId},
    store::{ChatsFrom, Direction, List, MessagesFrom},
};

pub(super) const DEFAULT_LIMIT: u64 = 15;
pub(super) const MAX_LIMIT: u64 = 100;
/// Deeper into a list of chats lead only cursors: an index cannot skip without reading.
pub(super) const MAX_CHATS_SKIP: u64 = 1_000;

/// The query of one call.
pub(super) struct Query<'a> {
    pairs: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

impl<'a> Query<'a> {
    pub(super) fn new(query: &'a str) -> Self {
        Self {
            pairs: form_urlencoded::parse(query.as_bytes()).collect(),
        }
    }

    pub(super) fn direction(&self) -> Result<Direction, Error> {
        match self.value("direction")? {
            None | Some("sent") => Ok(Direction::Sent),
            Some("received") => Ok(Direction::Received),
            Some(_) => Err(Error::invalid("`direction` must be `sent` or `received`")),
        }
    }

    pub(super) fn chat_page(&self, user: UserId, list: List) -> Result<(ChatsFrom, usize), Error> {
        let limit = self.limit()?;
        let skip = self.number("skip", 0, MAX_CHATS_SKIP)?;
        let cursor = self.value("cursor")?;
        self.at_most_one_of(&["skip", "cursor"])?;
        let from = match cursor {
            Some(cursor) => {
                ChatsFrom::After(cursor::read_chats(cursor, user, list).ok_or_else(foreign_cursor)?)
            }
            None => ChatsFrom::Skip(usize::try_from(skip.unwrap_or(0)).unwrap_or(usize::MAX)),
        };
        Ok((from, limit))
    }

    pub(super) fn message_page(
        &self,
        user: UserId,
        chat: Option<ChatId>,
    ) -> Result<(MessagesFrom, usize), Error> {
        let limit = self.limit()?;
        let skip = self.number("skip", 0, MAX_INTEGER)?;
        let before = self.number("before", 1, MAX_INTEGER)?;
        let after = self.number("after", 0, MAX_INTEGER)?;
        let cursor = self.value("cursor")?;
        self.at_most_one_of(&["skip", "cursor", "before", "after"])?;
        let from = if let Some(cursor) = cursor {
            chat.and_then(|chat| cursor::read_messages(cursor, user, chat))
                .ok_or_else(foreign_cursor)?
        } else if let Some(seq) = before {
            MessagesFrom::Before(Seq::new(seq))
        } else if let Some(seq) = after {
            MessagesFrom::After(Seq::new(seq))
        } else {
            MessagesFrom::Skip(skip.unwrap_or(0))
        };
        Ok((from, limit))
    }

    fn limit(&self) -> Result<usize, Error> {
        let limit = self.number("limit", 1, MAX_LIMIT)?.unwrap_or(DEFAULT_LIMIT);
        Ok(usize::try_from(limit).unwrap_or(usize::MAX))
    }

    fn number(&self, name: &str, least: u64, most: u64) -> Result<Option<u64>, Error> {
        let Some(value) = self.value(name)? else {
            return Ok(None);
        };
        let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
        let number = digits.then(|| value.parse().ok()).flatten();
        let number = number.filter(|number| (least..=most).contains(number));
        let out_of_range = || {
            Error::invalid(format!(
                "`{name}` must be a whole number from {least} to {most}"
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
            return Err(Error::invalid(format!(
                "`{name}` must be given at most once"
            )));
        }
        Ok(value.map(AsRef::as_ref))
    }

    fn at_most_one_of(&self, names: &[&str]) -> Result<(), Error> {
        let given: Vec<_> = names
            .iter()
            .filter(|name| self.pairs.iter().any(|(key, _)| key == *name))
            .collect();
        match given[..] {
            [one, other, ..] => Err(Error::invalid(format!(
                "`{one}` and `{other}` exclude one another"
            ))),
            _ => Ok(()),
        }
    }
}

fn foreign_cursor() -> Error {
    Error::invalid("`cursor` must be the `nextCursor` of a page of this very list")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(query: &str) -> Result<(MessagesFrom, usize), String> {
        let page = Query::new(query).message_page(user(), Some(chat()));
        page.map_err(|error| error.to_string())
    }

    fn chats(query: &str) -> Result<(ChatsFrom, usize), String> {
        let page = Query::new(query).chat_page(user(), List::Active);
        page.map_err(|error| error.to_string())
    }

    fn user() -> UserId {
        UserId::new(17).unwrap()
    }

    fn chat() -> ChatId {
        "17-42".parse().unwrap()
    }

    #[test]
    fn the_default_is_the_first_15() {
        assert_eq!(messages(""), Ok((MessagesFrom::Skip(0), 15)));
        assert_eq!(chats("colour=red&before=x"), Ok((ChatsFrom::Skip(0), 15)));
    }

    #[test]
    fn a_number_is_digits_within_its_range() {
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
            Ok((MessagesFrom::After(Seq::ZERO), 100))
        );
        assert!(messages("skip=9007199254740991").is_ok());
        assert!(chats("skip=1000").is_ok());
        assert!(chats("skip=1001").is_err());
    }

    #[test]
    fn a_value_given_twice_is_refused_even_when_equal() {
        for name in ["limit", "skip", "cursor", "before", "after"] {
            let error = messages(&format!("{name}=1&{name}=1")).unwrap_err();
            assert!(error.contains(&format!("`{name}`")), "{error}");
        }
    }

    #[test]
    fn ways_to_page_exclude_one_another() {
        assert!(messages("skip=0&before=5").is_err());
        assert!(messages("before=5&after=5").is_err());
        assert!(chats("skip=0&cursor=x").is_err());
    }

    #[test]
    fn a_cursor_is_of_use_only_to_its_user_in_its_list() {
        let place = MessagesFrom::Before(Seq::new(7));
        let cursor = cursor::of_messages(user(), chat(), place).unwrap();
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
        assert!(Query::new(&query).chat_page(user(), List::Active).is_err());
        assert!(messages("cursor=").is_err());
        assert!(messages("cursor=bm90IGEgY3Vyc29y").is_err());
    }
}
