//! The parts of a token (RFC 7515, RFC 7519).
//!
//! `jsonwebtoken::decode` parses all members of header and claims, so that a value that nobody reads could
//! refuse a token: half of an emoji (a lone surrogate) in a user name, for instance. It does not know the
//! algorithm name `Ed25519` (RFC 9864), and reads the clock. This module therefore reads only the members that
//! this service uses, and leaves the signature to `jsonwebtoken::crypto::verify`.

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::Algorithm;
use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeSeed, IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{TokenError, keys::VerificationKey};

/// The maximum length of a token.
const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// A token whose signature and claims are not verified yet.
pub(super) struct Token<'a> {
    /// Header and claims, encoded. This is what the issuer signs.
    message: &'a str,
    signature: &'a str,
    /// The claims, encoded.
    claims: &'a str,
    pub algorithm: Algorithm,
    pub kid: Option<String>,
    /// `None` also if it is not a string.
    pub typ: Option<String>,
}

impl<'a> Token<'a> {
    pub fn parse(token: &'a str) -> Result<Self, TokenError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::TooLong);
        }
        let parts = token
            .rsplit_once('.')
            .and_then(|(message, signature)| Some((message, message.split_once('.')?, signature)));
        let (message, (header, claims), signature) = parts.ok_or(TokenError::Malformed)?;
        let is_encoded = |part: &str| URL_SAFE_NO_PAD.decode(part).is_ok();
        if !is_encoded(claims) || !is_encoded(signature) {
            return Err(TokenError::Malformed);
        }
        let header = URL_SAFE_NO_PAD.decode(header);
        let header = header.map_err(|_| TokenError::Malformed)?;
        let header = Members::parse(&header, &["alg", "crit", "kid", "typ"])?;
        // RFC 7515, section 4.1.11: reject extensions that are not supported. This service supports none.
        if header.contains("crit") {
            return Err(TokenError::Malformed);
        }
        let algorithm: String = header.get("alg")?.ok_or(TokenError::Malformed)?;
        Ok(Self {
            message,
            signature,
            claims,
            algorithm: algorithm_named(&algorithm).ok_or(TokenError::WrongAlgorithm)?,
            kid: header.get("kid")?,
            typ: header.get("typ").unwrap_or_default(),
        })
    }

    /// Whether a key verifies the signature. The caller has checked that the key is for the token's algorithm.
    pub fn is_signed_by(&self, key: &VerificationKey) -> bool {
        key.verifies(self.message.as_bytes(), self.signature)
    }

    /// The claims as JSON.
    pub fn claims(&self) -> Result<Vec<u8>, TokenError> {
        URL_SAFE_NO_PAD
            .decode(self.claims)
            .map_err(|_| TokenError::Malformed)
    }
}

/// The supported algorithm with this name. `Ed25519` is the newer name of `EdDSA` with this curve (RFC 9864).
pub(super) fn algorithm_named(name: &str) -> Option<Algorithm> {
    match name {
        "HS256" => Some(Algorithm::HS256),
        "RS256" => Some(Algorithm::RS256),
        "ES256" => Some(Algorithm::ES256),
        "EdDSA" | "Ed25519" => Some(Algorithm::EdDSA),
        _ => None,
    }
}

/// The members of a JSON object that this service uses, each as JSON. The values of all others are skipped
/// without being parsed.
pub(super) struct Members<'a>(Vec<(&'a str, &'a RawValue)>);

impl<'a> Members<'a> {
    /// Finds the members with these names. Fails if the JSON is not an object, or if one of them occurs twice.
    pub fn parse(json: &'a [u8], names: &[&'a str]) -> Result<Self, TokenError> {
        let mut deserializer = serde_json::Deserializer::from_slice(json);
        let members = MembersSeed(names).deserialize(&mut deserializer);
        members
            .and_then(|members| deserializer.end().map(|()| members))
            .map_err(|_| TokenError::Malformed)
    }

    /// Whether a member is present. `null` counts as absent.
    pub fn contains(&self, name: &str) -> bool {
        self.json(name).is_some()
    }

    /// The value of a member. Fails if it has another type.
    pub fn get<T: Deserialize<'a>>(&self, name: &str) -> Result<Option<T>, TokenError> {
        let value = self.json(name).map(serde_json::from_str).transpose();
        value.map_err(|_| TokenError::Malformed)
    }

    fn json(&self, name: &str) -> Option<&'a str> {
        let (_, value) = self.0.iter().find(|(known, _)| *known == name)?;
        Some(value.get()).filter(|json| *json != "null")
    }
}

/// Reads the members with these names.
struct MembersSeed<'n, 'a>(&'n [&'a str]);

impl<'de: 'a, 'a> DeserializeSeed<'de> for MembersSeed<'_, 'a> {
    type Value = Members<'a>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Members<'a>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de: 'a, 'a> Visitor<'de> for MembersSeed<'_, 'a> {
    type Value = Members<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'a>, A::Error> {
        let mut members: Vec<(&'a str, &'a RawValue)> = Vec::new();
        while let Some(name) = map.next_key_seed(NameSeed(self.0))? {
            let Some(name) = name else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            if members.iter().any(|(known, _)| *known == name) {
                return Err(de::Error::custom("duplicate member"));
            }
            members.push((name, map.next_value::<&'de RawValue>()?));
        }
        Ok(Members(members))
    }
}

/// Reads the name of a member as bytes, because a string could not contain a lone surrogate. Returns the name
/// if it is one of these.
struct NameSeed<'n, 'a>(&'n [&'a str]);

impl<'de, 'a> DeserializeSeed<'de> for NameSeed<'_, 'a> {
    type Value = Option<&'a str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_bytes(self)
    }
}

impl<'a> Visitor<'_> for NameSeed<'_, 'a> {
    type Value = Option<&'a str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a member")
    }

    fn visit_bytes<E: de::Error>(self, name: &[u8]) -> Result<Self::Value, E> {
        let mut names = self.0.iter().copied();
        Ok(names.find(|known| known.as_bytes() == name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type NumberAndText = Result<(Option<u64>, Option<String>), TokenError>;

    fn members(json: &str) -> NumberAndText {
        let members = Members::parse(json.as_bytes(), &["number", "text"])?;
        Ok((members.get("number")?, members.get("text")?))
    }

    fn token_error(header: &str, claims: &str, signature: &str) -> Option<TokenError> {
        let header = URL_SAFE_NO_PAD.encode(header);
        Token::parse(&format!("{header}.{claims}.{signature}")).err()
    }

    #[test]
    fn only_the_members_that_are_used_are_parsed() {
        let text = |text: &str| -> NumberAndText { Ok((None, Some(text.to_owned()))) };
        for (json, expected) in [
            ("{}", Ok((None, None))),
            (r#"{"number":1}"#, Ok((Some(1), None))),
            (r#"{"text":"a"}"#, text("a")),
            (r#"{"te\u0078t":"a"}"#, text("a")),
            (r#" { "text" : "a" } "#, text("a")),
            (r#"{"text":null}"#, Ok((None, None))),
            // Others are skipped, whatever they contain.
            (r#"{"other":"\ud83d","text":"a"}"#, text("a")),
            (r#"{"other":{"deep":["\udc00"]},"text":"a"}"#, text("a")),
            (r#"{"\ud83d":1,"text":"a"}"#, text("a")),
            (r#"{"other":1,"other":2,"text":"a"}"#, text("a")),
            (r#"{"other":1e999,"text":"a"}"#, text("a")),
        ] {
            assert_eq!(members(json), expected, "{json}");
        }
        let invalid_utf8 = b"{\"other\":\"\xff\",\"text\":\"a\"}";
        assert!(Members::parse(invalid_utf8, &["text"]).is_ok());
    }

    #[test]
    fn a_member_that_is_used_must_be_valid_and_occur_once() {
        for json in [
            r#"{"text":"\ud83d"}"#,
            r#"{"text":1}"#,
            r#"{"number":"1"}"#,
            r#"{"number":1,"number":1}"#,
            r#"{"text":"a","te\u0078t":"a"}"#,
            r#"{"text":"a""#,
            r#"{"text":"a"}x"#,
            r#"["text"]"#,
            r#""text""#,
            "null",
            "",
        ] {
            assert_eq!(members(json), Err(TokenError::Malformed), "{json}");
        }
    }

    #[test]
    fn a_token_has_three_encoded_parts_and_a_supported_algorithm() {
        for alg in ["HS256", "RS256", "ES256", "EdDSA", "Ed25519"] {
            let header = format!(r#"{{"alg":"{alg}"}}"#);
            assert_eq!(token_error(&header, "e30", "AA"), None, "{alg}");
        }
        for alg in ["none", "HS384", "hs256", "ES256K", "Ed448", ""] {
            let header = format!(r#"{{"alg":"{alg}"}}"#);
            let token_error = token_error(&header, "e30", "AA");
            assert_eq!(token_error, Some(TokenError::WrongAlgorithm), "{alg}");
        }
        let good = r#"{"alg":"HS256"}"#;
        for (header, claims, signature) in [
            ("", "e30", "AA"),
            ("{}", "e30", "AA"),
            (r#"{"alg":1}"#, "e30", "AA"),
            (r#"{"alg":"HS256","alg":"HS256"}"#, "e30", "AA"),
            (r#"{"alg":"HS256","kid":1}"#, "e30", "AA"),
            (r#"{"alg":"HS256","crit":["exp"]}"#, "e30", "AA"),
            (r#"{"alg":"HS256","crit":[]}"#, "e30", "AA"),
            (good, "e30=", "AA"),
            (good, "e30", "AA="),
            (good, "e30", "A"),
            (good, "e30.e30", "AA"),
        ] {
            let token_error = token_error(header, claims, signature);
            assert_eq!(
                token_error,
                Some(TokenError::Malformed),
                "{header} {claims}"
            );
        }
        for token in ["", ".", "..", "a.b", "x.y.z"] {
            assert_eq!(Token::parse(token).err(), Some(TokenError::Malformed));
        }
    }

    #[test]
    fn a_typ_that_is_not_a_string_counts_as_absent() {
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":1}"#);
        let token = format!("{header}.e30.AA");
        assert_eq!(Token::parse(&token).unwrap().typ, None);
    }
}
