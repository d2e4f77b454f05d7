//! Which claims a token must have.

use std::time::Duration;

use serde::Deserialize;

use super::{
    LEEWAY_SECONDS, TokenError, VerifiedToken,
    token::{Members, Token},
};
use crate::{
    domain::{Timestamp, UserId},
    error::ConfigError,
};

/// The default of `JWT_USER_CLAIM`.
const DEFAULT_USER_CLAIM: &str = "sub";
/// A token that expires later than this is refused: ten years. Such an `exp` is usually in milliseconds, which
/// makes the token valid for 50,000 years.
const MAX_SECONDS_TO_EXPIRY: u64 = 10 * 365 * 24 * 60 * 60;

/// The configured rules for the claims and the type of a token.
pub(super) struct ClaimRules {
    /// The accepted `iss`; empty if any issuer is accepted.
    issuers: Vec<String>,
    /// The accepted `aud`; empty if any audience is accepted.
    audiences: Vec<String>,
    token_use: Option<String>,
    typ: Option<String>,
    /// The claim with the user id.
    user_claim: String,
}

impl ClaimRules {
    /// Reads the configuration. `env` returns only values that are not empty.
    pub fn from_env(env: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let list = |variable: &'static str| match env(variable) {
            None => Ok(Vec::new()),
            Some(value) => parse_list(&value).ok_or(ConfigError::new(
                variable,
                "contains no value; set it to one value or several with commas, or leave it empty",
            )),
        };
        Ok(Self {
            issuers: list("JWT_ISSUER")?,
            audiences: list("JWT_AUDIENCE")?,
            token_use: env("JWT_TOKEN_USE"),
            typ: env("JWT_TYP"),
            user_claim: env("JWT_USER_CLAIM").unwrap_or_else(|| DEFAULT_USER_CLAIM.to_owned()),
        })
    }

    /// Checks the claims of a token whose signature is valid.
    pub fn check(&self, token: &Token<'_>, now: Timestamp) -> Result<VerifiedToken, TokenError> {
        if let Some(required) = &self.typ {
            let typ = token.typ.as_ref().ok_or(TokenError::WrongTyp)?;
            if !media_type(typ).eq_ignore_ascii_case(media_type(required)) {
                return Err(TokenError::WrongTyp);
            }
        }
        let claims = token.claims()?;
        let claims = Members::parse(&claims, &self.claims())?;
        let expires_at = check_time(&claims, now.seconds())?;
        if !self.issuers.is_empty() {
            let issuer: Option<String> = claims.get("iss").unwrap_or_default();
            if issuer.is_none_or(|issuer| !self.issuers.contains(&issuer)) {
                return Err(TokenError::WrongIssuer);
            }
        }
        if !self.audiences.is_empty() && !self.has_accepted_audience(&claims) {
            return Err(TokenError::WrongAudience);
        }
        if let Some(required) = &self.token_use {
            let token_use: Option<String> = claims.get("token_use").unwrap_or_default();
            if token_use.as_ref() != Some(required) {
                return Err(TokenError::WrongTokenUse);
            }
        }
        let user = user_id(&claims, &self.user_claim).ok_or(TokenError::BadUserClaim)?;
        Ok(VerifiedToken { user, expires_at })
    }

    /// The claims that are used with this configuration. No other claim has an effect.
    fn claims(&self) -> Vec<&str> {
        let mut claims = vec!["exp", "nbf", self.user_claim.as_str()];
        if !self.issuers.is_empty() {
            claims.push("iss");
        }
        if !self.audiences.is_empty() {
            claims.extend(["aud", "client_id"]);
        }
        if self.token_use.is_some() {
            claims.push("token_use");
        }
        claims
    }

    /// Whether one of the token's audiences is accepted. Access tokens of Amazon Cognito have no `aud`; their
    /// `client_id` names the app.
    fn has_accepted_audience(&self, claims: &Members<'_>) -> bool {
        let is_accepted = |audience: &String| self.audiences.contains(audience);
        if claims.contains("aud") {
            match claims.get("aud") {
                Ok(Some(Audience::One(audience))) => is_accepted(&audience),
                Ok(Some(Audience::Several(audiences))) => audiences.iter().any(is_accepted),
                _ => false,
            }
        } else {
            let client: Option<String> = claims.get("client_id").unwrap_or_default();
            client.as_ref().is_some_and(is_accepted)
        }
    }
}

/// `aud` (RFC 7519, section 4.1.3).
#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

/// The values of a list with commas. White space around a value and empty values do not count. `None` if there
/// is no value.
fn parse_list(text: &str) -> Option<Vec<String>> {
    let values = text.split(',').map(str::trim);
    let values: Vec<_> = values
        .filter(|value| !value.is_empty())
        .map(str::to_owned)
        .collect();
    (!values.is_empty()).then_some(values)
}

/// A media type without the prefix `application/`, which a `typ` may omit (RFC 7515, section 4.1.9).
fn media_type(typ: &str) -> &str {
    const PREFIX: &str = "application/";

    match typ.split_at_checked(PREFIX.len()) {
        Some((prefix, rest)) if prefix.eq_ignore_ascii_case(PREFIX) => rest,
        _ => typ,
    }
}

/// Checks `exp`, which is required, and `nbf`. Returns `exp`.
fn check_time(claims: &Members<'_>, now: u64) -> Result<Timestamp, TokenError> {
    let expiry = seconds(claims, "exp")?.ok_or(TokenError::Malformed)?;
    let start = seconds(claims, "nbf")?;
    if expiry.saturating_add(LEEWAY_SECONDS) < now {
        Err(TokenError::Expired)
    } else if start.is_some_and(|start| start > now + LEEWAY_SECONDS) {
        Err(TokenError::NotYetValid)
    } else if expiry > now + MAX_SECONDS_TO_EXPIRY {
        Err(TokenError::ExpiresTooLate)
    } else {
        Ok(Timestamp::from_millis(expiry.saturating_mul(1_000)))
    }
}

/// A time in seconds since 1970 UTC. It can have a fraction (RFC 7519, section 2), which is cut off.
fn seconds(claims: &Members<'_>, name: &str) -> Result<Option<u64>, TokenError> {
    let number: Option<f64> = claims.get(name)?;
    let duration = number.map(Duration::try_from_secs_f64).transpose();
    let duration = duration.map_err(|_| TokenError::Malformed)?;
    Ok(duration.map(|duration| duration.as_secs()))
}

/// The user id in a claim: a number, or a string in canonical decimal.
fn user_id(claims: &Members<'_>, claim: &str) -> Option<UserId> {
    if let Ok(number) = claims.get::<u64>(claim) {
        return UserId::new(number?);
    }
    let text: String = claims.get(claim).ok()??;
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_separated_by_commas_and_empty_values_are_ignored() {
        let list = |text| parse_list(text).map(|values| values.join("|"));
        for (text, expected) in [
            ("a", Some("a")),
            ("a,b", Some("a|b")),
            (" a , b c ,, d,", Some("a|b c|d")),
            (",", None),
            (" ", None),
        ] {
            assert_eq!(list(text).as_deref(), expected, "{text:?}");
        }
        for variable in ["JWT_ISSUER", "JWT_AUDIENCE"] {
            let env = |name: &str| (name == variable).then(|| " , ".to_owned());
            let error = ClaimRules::from_env(env).err().unwrap().to_string();
            assert!(error.starts_with(&format!("{variable} contains no value")));
        }
    }

    #[test]
    fn the_prefix_of_a_media_type_is_optional() {
        for (typ, expected) in [
            ("at+jwt", "at+jwt"),
            ("application/at+jwt", "at+jwt"),
            ("Application/AT+JWT", "AT+JWT"),
            ("application/", ""),
            ("application", "application"),
            ("applicatioń/jwt", "applicatioń/jwt"),
            ("", ""),
        ] {
            assert_eq!(media_type(typ), expected);
        }
    }

    fn check(claims: &str, now: u64) -> Result<(), TokenError> {
        check_time(&Members::parse(claims.as_bytes(), &["exp", "nbf"])?, now).map(drop)
    }

    #[test]
    fn exp_and_nbf_have_a_leeway_of_30_seconds() {
        for (claims, expected) in [
            (r#"{"exp":1000}"#, Ok(())),
            (r#"{"exp":970}"#, Ok(())),
            (r#"{"exp":970.5}"#, Ok(())),
            (r#"{"exp":969}"#, Err(TokenError::Expired)),
            (r#"{"exp":0}"#, Err(TokenError::Expired)),
            (r#"{"exp":1e3}"#, Ok(())),
            (r#"{"exp":2000,"nbf":1030}"#, Ok(())),
            (r#"{"exp":2000,"nbf":null}"#, Ok(())),
            (r#"{"exp":2000,"nbf":1031}"#, Err(TokenError::NotYetValid)),
            (r#"{"exp":2000,"nbf":"soon"}"#, Err(TokenError::Malformed)),
            ("{}", Err(TokenError::Malformed)),
            (r#"{"exp":null}"#, Err(TokenError::Malformed)),
            (r#"{"exp":"2000"}"#, Err(TokenError::Malformed)),
            (r#"{"exp":-1}"#, Err(TokenError::Malformed)),
            (r#"{"exp":1e99}"#, Err(TokenError::Malformed)),
            (r#"{"exp":[2000]}"#, Err(TokenError::Malformed)),
        ] {
            assert_eq!(check(claims, 1_000), expected, "{claims}");
        }
    }

    #[test]
    fn exp_is_at_most_ten_years_ahead_so_milliseconds_are_refused() {
        let now = 1_800_000_000;
        let exp = |exp: u64| check(&format!(r#"{{"exp":{exp}}}"#), now);
        assert_eq!(exp(now + MAX_SECONDS_TO_EXPIRY), Ok(()));
        let too_late = Err(TokenError::ExpiresTooLate);
        assert_eq!(exp(now + MAX_SECONDS_TO_EXPIRY + 1), too_late);
        assert_eq!(exp((now + 3_600) * 1_000), too_late);
        assert_eq!(exp(u64::MAX), Err(TokenError::Malformed));
    }
}
