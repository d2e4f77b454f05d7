use std::{fmt, num::NonZeroU64, str::FromStr};

/// The largest integer that every JSON client reads exactly: 2^53 − 1.
pub const MAX_INTEGER: u64 = (1 << 53) - 1;

/// A user of the system that this service is part of: 1 to [`MAX_INTEGER`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserId(NonZeroU64);

impl UserId {
    /// `None` when out of range.
    #[must_use]
    pub fn new(id: u64) -> Option<Self> {
        (id <= MAX_INTEGER)
            .then(|| NonZeroU64::new(id))
            .flatten()
            .map(Self)
    }

    /// The id as a number.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A string is not the one canonical decimal form of an id.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a canonical id (users are 1 to {MAX_INTEGER}, without sign or leading zero)")]
pub struct NotCanonical;

impl FromStr for UserId {
    type Err = NotCanonical;

    /// Canonical decimal only: no sign, no leading zero, no white space, so that one user has one
    /// name in keys and tokens.
    fn from_str(text: &str) -> Result<Self, NotCanonical> {
        if text.starts_with('0') || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(NotCanonical);
        }
        text.parse().ok().and_then(Self::new).ok_or(NotCanonical)
    }
}

/// The one chat of a pair of users, written `17-42`: the smaller id, `-`, the larger. Membership is
/// decided from the id alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChatId {
    low: UserId,
    high: UserId,
}

impl ChatId {
    /// The chat of two users; `None` for a user with oneself.
    #[must_use]
    pub fn between(one: UserId, other: UserId) -> Option<Self> {
        (one != other).then(|| Self {
            low: one.min(other),
            high: one.max(other),
        })
    }

    /// The member with the smaller id.
    #[must_use]
    pub fn low(self) -> UserId {
        self.low
    }

    /// The member with the larger id.
    #[must_use]
    pub fn high(self) -> UserId {
        self.high
    }

    /// Whether the user is one of the two members.
    #[must_use]
    pub fn has(self, user: UserId) -> bool {
        user == self.low || user == self.high
    }

    /// The member that is not `member`.
    #[must_use]
    pub fn peer_of(self, member: UserId) -> UserId {
        if member == self.low {
            self.high
        } else {
            self.low
        }
    }
}

impl fmt::Display for ChatId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.low, self.high)
    }
}

impl FromStr for ChatId {
    type Err = NotCanonical;

    fn from_str(text: &str) -> Result<Self, NotCanonical> {
        let (low, high) = text.split_once('-').ok_or(NotCanonical)?;
        let (low, high) = (low.parse()?, high.parse()?);
        if low < high {
            Ok(Self { low, high })
        } else {
            Err(NotCanonical)
        }
    }
}

/// The place of a message in its chat: 1 for the first, with no gaps. As a watermark or a count of
/// messages it may be 0: before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(u64);

impl Seq {
    /// Before the first message.
    pub const ZERO: Self = Self(0);

    /// From its number.
    #[must_use]
    pub fn new(seq: u64) -> Self {
        Self(seq)
    }

    /// As a number.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }

    /// The place after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The place `count` before this one, not below 0.
    #[must_use]
    pub fn back(self, count: u64) -> Self {
        Self(self.0.saturating_sub(count))
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_id_is_1_to_2_pow_53_minus_1_in_canonical_decimal() {
        for good in ["1", "42", "9007199254740991"] {
            assert_eq!(good.parse::<UserId>().unwrap().to_string(), good);
        }
        for bad in [
            "",
            "0",
            "01",
            "+1",
            "-1",
            " 1",
            "1 ",
            "1.0",
            "1e3",
            "x",
            "٣",
            "9007199254740992",
        ] {
            assert_eq!(bad.parse::<UserId>(), Err(NotCanonical), "{bad:?}");
        }
        assert_eq!(
            "99999999999999999999999".parse::<UserId>(),
            Err(NotCanonical)
        );
    }

    #[test]
    fn a_chat_id_is_the_smaller_id_a_dash_and_the_larger() {
        let (a, b) = (UserId::new(42).unwrap(), UserId::new(17).unwrap());
        let id = ChatId::between(a, b).unwrap();
        assert_eq!(id.to_string(), "17-42");
        assert_eq!("17-42".parse(), Ok(id));
        assert_eq!(id, ChatId::between(b, a).unwrap());
        assert_eq!(id.peer_of(a), b);
        assert_eq!(ChatId::between(a, a), None);
        for bad in [
            "42-17", "17-17", "017-42", "17-042", "+17-42", "17--42", "17-42-", "17", "-",
        ] {
            assert_eq!(bad.parse::<ChatId>(), Err(NotCanonical), "{bad:?}");
        }
    }
}
