use serde::Serialize;

/// Why an access token is refused. The log line and the metric `RejectedTokens` contain it. The response does
/// not, because it would help an attacker.
///
/// Reasons from [`TokenError::Expired`] on are about a token with a valid signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenError {
    /// There is no header `Authorization: Bearer <token>`.
    MissingToken,
    /// It is not a signed JWT, it has critical extensions (`crit`), or a member that this service reads has
    /// the wrong type, occurs twice or is missing (`alg`, `exp`).
    Malformed,
    /// It has more than 8 KiB.
    TooLong,
    /// No key with the token's algorithm has its `kid`; or it has no `kid`, and there are several keys with one.
    UnknownKid,
    /// There is no key for the token's algorithm.
    WrongAlgorithm,
    /// No key verifies the signature.
    BadSignature,
    /// `exp` has passed.
    Expired,
    /// `nbf` is in the future.
    NotYetValid,
    /// `exp` is more than ten years ahead, usually because it is in milliseconds.
    ExpiresTooLate,
    /// `iss` is missing or not in `JWT_ISSUER`.
    WrongIssuer,
    /// `aud` is missing or not in `JWT_AUDIENCE`.
    WrongAudience,
    /// `token_use` is missing or not `JWT_TOKEN_USE`.
    WrongTokenUse,
    /// The header `typ` is missing or not `JWT_TYP`.
    WrongTyp,
    /// The claim with the user id is missing or not a user id.
    BadUserClaim,
}

impl TokenError {
    /// All reasons.
    pub const ALL: [Self; 14] = [
        Self::MissingToken,
        Self::Malformed,
        Self::TooLong,
        Self::UnknownKid,
        Self::WrongAlgorithm,
        Self::BadSignature,
        Self::Expired,
        Self::NotYetValid,
        Self::ExpiresTooLate,
        Self::WrongIssuer,
        Self::WrongAudience,
        Self::WrongTokenUse,
        Self::WrongTyp,
        Self::BadUserClaim,
    ];

    /// The reason as the log and the metrics name it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MissingToken => "missing_token",
            Self::Malformed => "malformed",
            Self::TooLong => "too_long",
            Self::UnknownKid => "unknown_kid",
            Self::WrongAlgorithm => "wrong_algorithm",
            Self::BadSignature => "bad_signature",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::ExpiresTooLate => "expires_too_late",
            Self::WrongIssuer => "wrong_issuer",
            Self::WrongAudience => "wrong_audience",
            Self::WrongTokenUse => "wrong_token_use",
            Self::WrongTyp => "wrong_typ",
            Self::BadUserClaim => "bad_user_claim",
        }
    }
}

impl std::fmt::Display for TokenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_one_name_in_snake_case() {
        let mut names: Vec<_> = TokenError::ALL.map(TokenError::as_str).into();
        for (token_error, name) in TokenError::ALL.iter().zip(&names) {
            assert_eq!(serde_json::to_value(token_error).unwrap(), *name);
            assert_eq!(token_error.to_string(), *name);
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), TokenError::ALL.len());
    }
}
