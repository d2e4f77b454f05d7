use super::{ChatId, Seq, Timestamp, UserId};

/// The maximum length of the note of a report, in Unicode code points.
pub const MAX_NOTE_CODE_POINTS: usize = 1_000;

/// Why a user reports another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportReason {
    /// Unwanted advertising.
    Spam,
    /// Insults, threats or stalking.
    Harassment,
    /// Sexual content.
    Sexual,
    /// Violence, or a call for it.
    Violence,
    /// The user may hurt themselves.
    SelfHarm,
    /// An attempt to deceive.
    Scam,
    /// Another reason, which the note explains.
    Other,
}

impl ReportReason {
    /// All reasons.
    pub const ALL: [Self; 7] = [
        Self::Spam,
        Self::Harassment,
        Self::Sexual,
        Self::Violence,
        Self::SelfHarm,
        Self::Scam,
        Self::Other,
    ];

    /// The name in the API and in the table.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Spam => "spam",
            Self::Harassment => "harassment",
            Self::Sexual => "sexual",
            Self::Violence => "violence",
            Self::SelfHarm => "self_harm",
            Self::Scam => "scam",
            Self::Other => "other",
        }
    }

    /// The reason with this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == name)
    }
}

/// A user reports the other member of a pair, or one of their messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewReport {
    /// The user who reports.
    pub reporter: UserId,
    /// The pair. The other member is reported.
    pub chat: ChatId,
    /// The reported message, or `None` to report the user.
    pub seq: Option<Seq>,
    /// Why.
    pub reason: ReportReason,
    /// More about it, at most [`MAX_NOTE_CODE_POINTS`].
    pub note: Option<String>,
    /// Whether the reporter also blocks the other member.
    pub block: bool,
}

/// A stored report, as its reporter sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The pair.
    pub chat: ChatId,
    /// The user who reports.
    pub reporter: UserId,
    /// The reported message, or `None` if the user was reported.
    pub seq: Option<Seq>,
    /// Why.
    pub reason: ReportReason,
    /// When.
    pub created_at: Timestamp,
}

impl Report {
    /// Identifies the report: `17-42/17/9` is the report of user 17 on message 9, `17-42/17/0` that on user 42.
    #[must_use]
    pub fn id(&self) -> String {
        let seq = self.seq.unwrap_or_default();
        format!("{}/{}/{seq}", self.chat, self.reporter)
    }

    /// The reported user.
    #[must_use]
    pub fn reported(&self) -> UserId {
        self.chat.peer_of(self.reporter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_has_one_name() {
        for reason in ReportReason::ALL {
            assert_eq!(ReportReason::parse(reason.as_str()), Some(reason));
        }
        for name in ["", "Spam", "self-harm"] {
            assert_eq!(ReportReason::parse(name), None, "{name}");
        }
    }

    #[test]
    fn a_report_is_identified_by_the_chat_its_reporter_and_the_message() {
        let user = |id| UserId::new(id).unwrap();
        let mut report = Report {
            chat: "17-42".parse().unwrap(),
            reporter: user(42),
            seq: Some(Seq::new(9)),
            reason: ReportReason::Spam,
            created_at: Timestamp::from_millis(1),
        };
        assert_eq!(report.id(), "17-42/42/9");
        assert_eq!(report.reported(), user(17));
        report.seq = None;
        assert_eq!(report.id(), "17-42/42/0");
    }
}
