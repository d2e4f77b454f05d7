use std::{fmt, num::NonZeroU64, str::FromStr};

/// The largest integer that every JSON parser reads exactly: 2^53 − 1.
pub const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;

/// The id of a user in the system that this service is part of: 1 to [`MAX_SAFE_INTEGER`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserId(NonZeroU64);

impl UserId {
    /// Returns `None` if the id is out of range.
    #[must_use]
    pub fn new(id: u64) -> Option<Self> {
        (id <= MAX_SAFE_INTEGER)
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

/// The text is not a canonical id.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a valid id (user ids are 1 to {MAX_SAFE_INTEGER}, without sign or leading zeros)")]
pub struct InvalidId;

impl FromStr for UserId {
    type Err = InvalidId;

    /// Accepts only canonical decimal (no sign, no leading zeros, no white space), so that each user
    /// has exactly one representation in keys and tokens.
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        if text.starts_with('0') || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(InvalidId);
        }
        text.parse().ok().and_then(Self::new).ok_or(InvalidId)
    }
}

/// The id of the chat of two users, written `17-42`: the smaller user id, `-`, the larger one. The id
/// alone determines the two members.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChatId {
    low: UserId,
    high: UserId,
}

impl ChatId {
    /// The id of the chat of two users. Returns `None` if both are the same user.
    #[must_use]
    pub fn between(one: UserId, other: UserId) -> Option<Self> {
        (one != other).then(|| Self {
            low: one.min(other),
            high: one.max(other),
        })
    }

    /// The member with the smaller user id.
    #[must_use]
    pub fn low(self) -> UserId {
        self.low
    }

    /// The member with the larger user id.
    #[must_use]
    pub fn high(self) -> UserId {
        self.high
    }

    /// Whether the user is one of the two members.
    #[must_use]
    pub fn has_member(self, user: UserId) -> bool {
        user == self.low || user == self.high
    }

    /// The other member.
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
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let (low, high) = text.split_once('-').ok_or(InvalidId)?;
        let (low, high) = (low.parse()?, high.parse()?);
        if low < high {
            Ok(Self { low, high })
        } else {
            Err(InvalidId)
        }
    }
}

/// The sequence number of a message in its chat: 1 for the first message, without gaps. A watermark
/// or a message count can also be 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(u64);

impl Seq {
    /// Precedes the first message.
    pub const ZERO: Self = Self(0);

    /// Creates a sequence number.
    #[must_use]
    pub fn new(seq: u64) -> Self {
        Self(seq)
    }

    /// The sequence number as an integer.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }

    /// The next sequence number.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The sequence number `count` places earlier, at least 0.
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

/// The number of a change to a message after it was sent: 1 for the first change of a chat, without gaps. The
/// number of changes of a chat can also be 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rev(u64);

impl Rev {
    /// Precedes the first change.
    pub const ZERO: Self = Self(0);

    /// Creates a change number.
    #[must_use]
    pub fn new(rev: u64) -> Self {
        Self(rev)
    }

    /// The change number as an integer.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }

    /// The next change number.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The previous change number, at least 0.
    #[must_use]
    pub fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Rev {
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
            assert_eq!(bad.parse::<UserId>(), Err(InvalidId), "{bad:?}");
        }
        assert_eq!("99999999999999999999999".parse::<UserId>(), Err(InvalidId));
    }

    #[test]
    fn a_chat_id_is_the_smaller_user_id_a_dash_and_the_larger_one() {
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
            assert_eq!(bad.parse::<ChatId>(), Err(InvalidId), "{bad:?}");
        }
    }

    #[test]
    fn a_chat_has_exactly_the_two_members_in_its_id() {
        let id: ChatId = "17-42".parse().unwrap();
        for (user, is_member) in [(17, true), (42, true), (1, false), (1742, false)] {
            let user = UserId::new(user).unwrap();
            assert_eq!(id.has_member(user), is_member, "{user}");
        }
    }

    #[test]
    fn sequence_numbers_move_forward_by_one_and_back_to_0_at_most() {
        assert_eq!(Seq::ZERO.next(), Seq::new(1));
        assert_eq!(Seq::new(7).next(), Seq::new(8));
        assert_eq!(Seq::new(7).back(5), Seq::new(2));
        assert_eq!(Seq::new(7).back(8), Seq::ZERO);
        assert_eq!(Rev::ZERO.next(), Rev::new(1));
        assert_eq!(Rev::new(7).previous(), Rev::new(6));
        assert_eq!(Rev::ZERO.previous(), Rev::ZERO);
    }
}
