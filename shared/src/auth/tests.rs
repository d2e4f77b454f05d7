use std::collections::BTreeSet;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use ring::{
    hmac,
    rand::SystemRandom,
    signature::{self, KeyPair},
};
use serde_json::{Value, json};

use super::{
    refresh::fake::{FakeSource, Fetched},
    *,
};

const SECRET: &str = "the secret of these unit tests, of 32 bytes or more";
const OTHER: &str = "another secret of these unit tests, 32 bytes or more";

const RSA_PEM: &str = include_str!("../../../tests/support/keys/rsa-2048.pem");
const P256_PEM: &str = include_str!("../../../tests/support/keys/p256.pem");
const ED25519_PEM: &str = include_str!("../../../tests/support/keys/ed25519.pem");

/// The time of a request, in seconds.
const NOW: u64 = 1_800_000_000;

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis((NOW + seconds) * 1_000)
}

fn lookup(variables: &[(&str, &str)], name: &str) -> Option<String> {
    let variable = variables.iter().find(|(variable, _)| *variable == name);
    variable.map(|(_, value)| (*value).to_owned())
}

fn authenticator(variables: &[(&str, &str)]) -> Authenticator {
    let authenticator = Authenticator::from_env(|name| lookup(variables, name));
    authenticator.map_err(|error| error.to_string()).unwrap()
}

fn claims() -> Value {
    json!({"sub": "42", "exp": NOW + 60})
}

fn token(header: &Value, claims: &str, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let (header, claims) = (BASE64.encode(header.to_string()), BASE64.encode(claims));
    let signed = format!("{header}.{claims}");
    let signature = BASE64.encode(sign(signed.as_bytes()));
    format!("{signed}.{signature}")
}

fn hs256(secret: &str, header: &Value, claims: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    token(header, claims, |message| {
        hmac::sign(&key, message).as_ref().to_vec()
    })
}

fn signed_with(secret: &str) -> String {
    hs256(secret, &json!({"alg": "HS256"}), &claims().to_string())
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

fn verify(authenticator: &Authenticator, token: &str) -> Result<u64, TokenError> {
    let user = authenticator.verify(Some(&bearer(token)), at(0));
    user.map(UserId::get)
}

/// Verifies a token with these claims, signed with the secret.
fn verify_claims(authenticator: &Authenticator, claims: &Value) -> Result<u64, TokenError> {
    let header = json!({"alg": "HS256"});
    verify(authenticator, &hs256(SECRET, &header, &claims.to_string()))
}

/// The claims with one of them changed, or removed if the value is null.
fn claims_with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    let object = claims.as_object_mut().unwrap();
    object.retain(|_, value| !value.is_null());
    claims
}

/// Signs with the test keys of the three asymmetric algorithms.
fn signature(algorithm: &str, message: &[u8]) -> Vec<u8> {
    let random = SystemRandom::new();
    match algorithm {
        "RS256" => {
            let key = rsa_key();
            let mut signature = vec![0; key.public().modulus_len()];
            let padding = &signature::RSA_PKCS1_SHA256;
            key.sign(padding, &random, message, &mut signature).unwrap();
            signature
        }
        "ES256" => p256_key().sign(&random, message).unwrap().as_ref().to_vec(),
        _ => ed25519_key().sign(message).as_ref().to_vec(),
    }
}

fn rsa_key() -> signature::RsaKeyPair {
    let pkcs8 = include_bytes!("../../../tests/support/keys/rsa-2048.pk8");
    signature::RsaKeyPair::from_pkcs8(pkcs8).unwrap()
}

fn p256_key() -> signature::EcdsaKeyPair {
    let pkcs8 = include_bytes!("../../../tests/support/keys/p256.pk8");
    let algorithm = &signature::ECDSA_P256_SHA256_FIXED_SIGNING;
    signature::EcdsaKeyPair::from_pkcs8(algorithm, pkcs8, &SystemRandom::new()).unwrap()
}

fn ed25519_key() -> signature::Ed25519KeyPair {
    let pkcs8 = include_bytes!("../../../tests/support/keys/ed25519.pk8");
    signature::Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8).unwrap()
}

/// A token with the test key of an algorithm. `names` are more members of the header.
fn signed_by(algorithm: &str, names: &Value) -> String {
    let mut header = json!({"alg": algorithm});
    for (name, value) in names.as_object().unwrap() {
        header[name] = value.clone();
    }
    token(&header, &claims().to_string(), |message| {
        signature(algorithm, message)
    })
}

/// The public test key of an algorithm as a JSON Web Key.
fn jwk(algorithm: &str) -> Value {
    match algorithm {
        "RS256" => {
            let key = signature::RsaPublicKeyComponents::<Vec<u8>>::from(rsa_key().public());
            json!({"kty": "RSA", "n": BASE64.encode(key.n), "e": BASE64.encode(key.e)})
        }
        "ES256" => {
            let key = p256_key();
            let (x, y) = key.public_key().as_ref()[1..].split_at(32);
            json!({"kty": "EC", "crv": "P-256", "x": BASE64.encode(x), "y": BASE64.encode(y)})
        }
        _ => {
            let x = BASE64.encode(ed25519_key().public_key());
            json!({"kty": "OKP", "crv": "Ed25519", "x": x})
        }
    }
}

fn jwk_with_id(algorithm: &str, id: &str) -> Value {
    let mut key = jwk(algorithm);
    key["kid"] = id.into();
    key
}

fn with_key_set(keys: &[Value]) -> Authenticator {
    authenticator(&[("JWT_JWKS", &json!({ "keys": keys }).to_string())])
}

#[test]
fn a_bearer_token_authenticates_its_user() {
    let authenticator = authenticator(&[("JWT_SECRET", SECRET)]);
    let token = signed_with(SECRET);
    for scheme in ["Bearer ", "bearer ", "BEARER  "] {
        let user = authenticator.verify(Some(&format!("{scheme}{token}")), at(0));
        assert_eq!(user.unwrap().get(), 42, "{scheme}");
    }
    for (header, token_error) in [
        (format!("Basic {token}"), TokenError::MissingToken),
        (token.clone(), TokenError::MissingToken),
        ("Bearer".to_owned(), TokenError::MissingToken),
        ("Bearer  ".to_owned(), TokenError::MissingToken),
        (format!("Bearer {token} "), TokenError::Malformed),
        (
            format!("Bearer {token},Bearer {token}"),
            TokenError::Malformed,
        ),
    ] {
        let user = authenticator.verify(Some(&header), at(0));
        assert_eq!(user, Err(token_error), "{header}");
    }
    let user = authenticator.verify(None, at(0));
    assert_eq!(user, Err(TokenError::MissingToken));
}

#[test]
fn the_user_id_is_a_number_or_a_canonical_string_in_the_configured_claim() {
    let default = authenticator(&[("JWT_SECRET", SECRET)]);
    let custom = authenticator(&[("JWT_SECRET", SECRET), ("JWT_USER_CLAIM", "uid")]);
    for (claim, expected) in [
        (json!("42"), Ok(42)),
        (json!(42), Ok(42)),
        (json!("042"), Err(TokenError::BadUserClaim)),
        (json!(42.0), Err(TokenError::BadUserClaim)),
        (json!(-42), Err(TokenError::BadUserClaim)),
        (json!(0), Err(TokenError::BadUserClaim)),
        (json!(["42"]), Err(TokenError::BadUserClaim)),
        (json!(null), Err(TokenError::BadUserClaim)),
    ] {
        let mut claims = claims();
        claims["sub"] = claim.clone();
        assert_eq!(verify_claims(&default, &claims), expected, "{claim}");
        claims["sub"] = json!("user|1");
        claims["uid"] = claim.clone();
        assert_eq!(verify_claims(&custom, &claims), expected, "{claim}");
    }
}

#[test]
fn issuer_and_audience_are_required_only_if_they_are_configured() {
    let any = authenticator(&[("JWT_SECRET", SECRET), ("JWT_ISSUER", "")]);
    let strict = authenticator(&[
        ("JWT_SECRET", SECRET),
        ("JWT_ISSUER", "us"),
        ("JWT_AUDIENCE", "chat"),
    ]);
    for (iss, aud, expected) in [
        (json!("us"), json!("chat"), Ok(42)),
        (json!("us"), json!(["other", "chat"]), Ok(42)),
        (json!("them"), json!("chat"), Err(TokenError::WrongIssuer)),
        (json!(["us"]), json!("chat"), Err(TokenError::WrongIssuer)),
        (json!("us"), json!("other"), Err(TokenError::WrongAudience)),
        (json!("us"), json!([]), Err(TokenError::WrongAudience)),
        (json!("us"), json!(7), Err(TokenError::WrongAudience)),
        (json!(null), json!("chat"), Err(TokenError::WrongIssuer)),
        (json!("us"), json!(null), Err(TokenError::WrongAudience)),
    ] {
        let mut claims = claims_with("iss", iss.clone());
        claims["aud"] = aud.clone();
        assert_eq!(verify_claims(&any, &claims), Ok(42), "{iss} {aud}");
        assert_eq!(verify_claims(&strict, &claims), expected, "{iss} {aud}");
    }
}

#[test]
fn several_issuers_and_audiences_are_separated_by_commas() {
    let authenticator = authenticator(&[
        ("JWT_SECRET", SECRET),
        ("JWT_ISSUER", "https://a.example, https://b.example/"),
        ("JWT_AUDIENCE", "web,,mobile ,"),
    ]);
    let verify = |iss: &str, aud: &str| {
        let mut claims = claims_with("iss", iss.into());
        claims["aud"] = aud.into();
        verify_claims(&authenticator, &claims)
    };
    for iss in ["https://a.example", "https://b.example/"] {
        for aud in ["web", "mobile"] {
            assert_eq!(verify(iss, aud), Ok(42), "{iss} {aud}");
        }
        for aud in ["", "web,mobile", "web ", "Web"] {
            assert_eq!(verify(iss, aud), Err(TokenError::WrongAudience), "{aud}");
        }
    }
    for iss in ["", "https://b.example", " https://b.example/"] {
        assert_eq!(verify(iss, "web"), Err(TokenError::WrongIssuer), "{iss}");
    }
}

#[test]
fn the_client_id_of_a_cognito_access_token_is_its_audience() {
    let authenticator = authenticator(&[
        ("JWT_SECRET", SECRET),
        ("JWT_AUDIENCE", "app1,app2"),
        ("JWT_TOKEN_USE", "access"),
    ]);
    let verify = |claims: Value| {
        let mut all = claims_with("token_use", "access".into());
        for (name, value) in claims.as_object().unwrap() {
            all[name] = value.clone();
        }
        verify_claims(&authenticator, &all)
    };
    assert_eq!(verify(json!({"client_id": "app2"})), Ok(42));
    assert_eq!(verify(json!({"client_id": "app2", "aud": null})), Ok(42));
    for claims in [
        json!({}),
        json!({"client_id": "other"}),
        json!({"client_id": ["app1"]}),
        // An `aud` decides alone.
        json!({"client_id": "app1", "aud": "other"}),
        json!({"client_id": "app1", "aud": []}),
    ] {
        let token_error = verify(claims.clone());
        assert_eq!(token_error, Err(TokenError::WrongAudience), "{claims}");
    }
    // The id token of the same user has the audience, but is not for APIs.
    for token_use in [json!("id"), json!("Access"), json!(1), json!(null)] {
        let token_error = verify(json!({"aud": "app1", "token_use": token_use}));
        assert_eq!(token_error, Err(TokenError::WrongTokenUse), "{token_use}");
    }
}

#[test]
fn the_required_typ_is_compared_without_case_and_prefix() {
    let any = authenticator(&[("JWT_SECRET", SECRET)]);
    for required in ["at+jwt", "application/at+jwt", "AT+JWT"] {
        let strict = authenticator(&[("JWT_SECRET", SECRET), ("JWT_TYP", required)]);
        for (typ, expected) in [
            (json!("at+jwt"), Ok(42)),
            (json!("AT+jwt"), Ok(42)),
            (json!("application/at+jwt"), Ok(42)),
            (json!("JWT"), Err(TokenError::WrongTyp)),
            (json!(""), Err(TokenError::WrongTyp)),
            (json!(null), Err(TokenError::WrongTyp)),
            (json!(1), Err(TokenError::WrongTyp)),
        ] {
            let header = json!({"alg": "HS256", "typ": typ});
            let token = hs256(SECRET, &header, &claims().to_string());
            assert_eq!(verify(&strict, &token), expected, "{typ}");
            assert_eq!(verify(&any, &token), Ok(42), "{typ}");
        }
    }
}

#[test]
fn a_lone_surrogate_in_a_claim_that_nobody_reads_does_not_refuse_a_token() {
    let authenticator = authenticator(&[("JWT_SECRET", SECRET)]);
    let header = json!({"alg": "HS256"});
    let exp = NOW + 60;
    for (claims, expected) in [
        (
            format!(r#"{{"name":"\ud83d","sub":"42","exp":{exp}}}"#),
            Ok(42),
        ),
        (format!(r#"{{"\ud83d":1,"sub":"42","exp":{exp}}}"#), Ok(42)),
        (
            format!(r#"{{"iss":"\ud83d","sub":"42","exp":{exp}}}"#),
            Ok(42),
        ),
        (
            format!(r#"{{"sub":"\ud83d","exp":{exp}}}"#),
            Err(TokenError::BadUserClaim),
        ),
    ] {
        let token = hs256(SECRET, &header, &claims);
        assert_eq!(verify(&authenticator, &token), expected, "{claims}");
    }
}

#[test]
fn an_expiry_in_milliseconds_is_refused() {
    let authenticator = authenticator(&[("JWT_SECRET", SECRET)]);
    let claims = claims_with("exp", ((NOW + 60) * 1_000).into());
    let token_error = verify_claims(&authenticator, &claims);
    assert_eq!(token_error, Err(TokenError::ExpiresTooLate));
}

#[test]
fn a_token_has_at_most_8_kib() {
    let authenticator = authenticator(&[("JWT_SECRET", SECRET)]);
    let padded = |bytes| {
        let claims = claims_with("padding", "x".repeat(bytes).into());
        hs256(SECRET, &json!({"alg": "HS256"}), &claims.to_string())
    };
    let (short, long) = (padded(5_900), padded(6_200));
    assert!(short.len() <= 8 * 1024 && long.len() > 8 * 1024);
    assert_eq!(verify(&authenticator, &short), Ok(42));
    assert_eq!(verify(&authenticator, &long), Err(TokenError::TooLong));
}

#[test]
fn each_refusal_has_its_reason() {
    let authenticator = authenticator(&[
        ("JWT_SECRET", SECRET),
        ("JWT_PUBLIC_KEY", P256_PEM),
        (
            "JWT_JWKS",
            &json!({"keys": [jwk_with_id("RS256", "a")]}).to_string(),
        ),
        ("JWT_ISSUER", "us"),
        ("JWT_AUDIENCE", "chat"),
        ("JWT_TOKEN_USE", "access"),
        ("JWT_TYP", "at+jwt"),
    ]);
    let good = || {
        let mut claims = claims();
        claims["iss"] = "us".into();
        claims["aud"] = "chat".into();
        claims["token_use"] = "access".into();
        claims
    };
    let header = json!({"alg": "HS256", "typ": "at+jwt"});
    let with = |name: &str, value: Value| {
        let mut claims = good();
        claims[name] = value;
        bearer(&hs256(SECRET, &header, &claims.to_string()))
    };
    let with_header = |header: Value| bearer(&hs256(SECRET, &header, &good().to_string()));
    let other = hs256(OTHER, &header, &good().to_string());
    let long = with("padding", "x".repeat(7_000).into());
    let unsupported = with_header(json!({"alg": "HS512"}));
    let no_key = with_header(json!({"alg": "EdDSA"}));
    let rejected = [
        (TokenError::MissingToken, "Basic x".to_owned()),
        (TokenError::Malformed, "Bearer x".to_owned()),
        (TokenError::Malformed, with("exp", json!("soon"))),
        (TokenError::Malformed, with("nbf", json!("soon"))),
        (
            TokenError::Malformed,
            with_header(json!({"alg": "HS256", "crit": ["exp"]})),
        ),
        (TokenError::TooLong, long),
        (
            TokenError::UnknownKid,
            bearer(&signed_by("RS256", &json!({"kid": "b"}))),
        ),
        (TokenError::WrongAlgorithm, unsupported),
        (TokenError::WrongAlgorithm, no_key),
        (TokenError::BadSignature, bearer(&other)),
        (
            TokenError::BadSignature,
            with_header(json!({"alg": "ES256"})),
        ),
        (TokenError::Expired, with("exp", json!(NOW - 31))),
        (TokenError::NotYetValid, with("nbf", json!(NOW + 31))),
        (TokenError::ExpiresTooLate, with("exp", json!(NOW * 1_000))),
        (TokenError::WrongIssuer, with("iss", json!("them"))),
        (TokenError::WrongAudience, with("aud", json!("other"))),
        (TokenError::WrongTokenUse, with("token_use", json!("id"))),
        (
            TokenError::WrongTyp,
            with_header(json!({"alg": "HS256", "typ": "JWT"})),
        ),
        (TokenError::BadUserClaim, with("sub", json!("ann"))),
    ];
    let accepted = with("sub", json!("42"));
    assert!(authenticator.verify(Some(&accepted), at(0)).is_ok());
    for (token_error, header) in &rejected {
        let result = authenticator.verify(Some(header), at(0));
        assert_eq!(result, Err(*token_error), "{header}");
    }
    let tested: BTreeSet<_> = rejected
        .iter()
        .map(|(token_error, _)| *token_error)
        .collect();
    assert_eq!(tested, BTreeSet::from(TokenError::ALL));
}

#[test]
fn a_duplicate_claim_that_is_used_is_refused() {
    let authenticator = authenticator(&[("JWT_SECRET", SECRET)]);
    let header = json!({"alg": "HS256"});
    let exp = NOW + 60;
    for (claims, expected) in [
        (
            format!(r#"{{"sub":"42","sub":"43","exp":{exp}}}"#),
            Err(TokenError::Malformed),
        ),
        (
            format!(r#"{{"sub":"42","exp":{exp},"exp":{exp}}}"#),
            Err(TokenError::Malformed),
        ),
        (
            format!(r#"{{"sub":"42","name":"a","name":"b","exp":{exp}}}"#),
            Ok(42),
        ),
    ] {
        let token = hs256(SECRET, &header, &claims);
        assert_eq!(verify(&authenticator, &token), expected, "{claims}");
    }
}

#[test]
fn the_previous_secret_is_accepted_and_no_other_secret_or_algorithm() {
    let authenticator = authenticator(&[("JWT_SECRET", SECRET), ("JWT_SECRET_PREVIOUS", OTHER)]);
    let claims = claims().to_string();
    let header = json!({"alg": "HS256", "kid": "ignored"});
    for secret in [SECRET, OTHER] {
        let token = hs256(secret, &header, &claims);
        assert_eq!(verify(&authenticator, &token), Ok(42));
    }
    let token = hs256(&OTHER.to_uppercase(), &header, &claims);
    assert_eq!(
        verify(&authenticator, &token),
        Err(TokenError::BadSignature)
    );
    for algorithm in ["none", "HS384", "RS256"] {
        let token = hs256(SECRET, &json!({ "alg": algorithm }), &claims);
        let token_error = verify(&authenticator, &token);
        assert_eq!(token_error, Err(TokenError::WrongAlgorithm), "{algorithm}");
    }
}

#[test]
fn a_public_key_verifies_only_its_own_algorithm() {
    let algorithms = ["RS256", "ES256", "EdDSA"];
    let pems = [RSA_PEM, P256_PEM, ED25519_PEM];
    for (configured, pem) in algorithms.iter().zip(pems) {
        let authenticator = authenticator(&[("JWT_PUBLIC_KEY", pem)]);
        for signed in algorithms {
            for named in ["HS256", "RS256", "ES256", "EdDSA"] {
                let header = json!({"alg": named, "kid": "ignored"});
                let token = token(&header, &claims().to_string(), |message| {
                    signature(signed, message)
                });
                let expected = if named != *configured {
                    Err(TokenError::WrongAlgorithm)
                } else if named != signed {
                    Err(TokenError::BadSignature)
                } else {
                    Ok(42)
                };
                let user = verify(&authenticator, &token);
                assert_eq!(user, expected, "{configured} {signed} {named}");
            }
        }
    }
}

#[test]
fn the_algorithm_name_ed25519_is_the_same_as_eddsa() {
    let header = json!({"alg": "Ed25519", "kid": "a"});
    let token = token(&header, &claims().to_string(), |message| {
        signature("EdDSA", message)
    });
    let mut key = jwk_with_id("EdDSA", "a");
    for alg in ["EdDSA", "Ed25519"] {
        key["alg"] = alg.into();
        let authenticator = with_key_set(&[key.clone()]);
        assert_eq!(verify(&authenticator, &token), Ok(42), "{alg}");
        let other_name = signed_by("EdDSA", &json!({"kid": "a"}));
        assert_eq!(verify(&authenticator, &other_name), Ok(42), "{alg}");
    }
    let authenticator = authenticator(&[("JWT_PUBLIC_KEY", ED25519_PEM)]);
    assert_eq!(verify(&authenticator, &token), Ok(42));
}

#[test]
fn a_public_key_is_never_used_as_a_secret() {
    for (algorithm, pem) in [
        ("RS256", RSA_PEM),
        ("ES256", P256_PEM),
        ("EdDSA", ED25519_PEM),
    ] {
        let set = json!({"keys": [jwk(algorithm)]}).to_string();
        // Also not if tokens with a secret are accepted, too.
        for secret in ["", SECRET] {
            let authenticator = authenticator(&[
                ("JWT_SECRET", secret),
                ("JWT_PUBLIC_KEY", pem),
                ("JWT_JWKS", &set),
            ]);
            for text in [pem, pem.trim(), &set] {
                for alg in ["HS256", algorithm] {
                    let header = json!({ "alg": alg });
                    let forged = hs256(text, &header, &claims().to_string());
                    assert!(verify(&authenticator, &forged).is_err(), "{alg}");
                }
            }
        }
    }
}

#[test]
fn during_a_migration_keys_of_several_kinds_are_accepted() {
    let set = json!({"keys": [jwk_with_id("EdDSA", "a"), jwk_with_id("RS256", "b")]}).to_string();
    let authenticator = authenticator(&[
        ("JWT_SECRET", SECRET),
        ("JWT_SECRET_PREVIOUS", OTHER),
        ("JWT_PUBLIC_KEY", P256_PEM),
        ("JWT_JWKS", &set),
    ]);
    for token in [
        signed_with(SECRET),
        signed_with(OTHER),
        signed_by("ES256", &json!({})),
        signed_by("ES256", &json!({"kid": "any"})),
        signed_by("EdDSA", &json!({"kid": "a"})),
        signed_by("RS256", &json!({"kid": "b"})),
    ] {
        assert_eq!(verify(&authenticator, &token), Ok(42), "{token}");
    }
    let token_error = verify(&authenticator, &signed_by("RS256", &json!({"kid": "a"})));
    assert_eq!(token_error, Err(TokenError::UnknownKid));
}

/// An Ed25519 key that signs none of the tokens.
fn unused_key() -> Value {
    let pem = include_str!("../../../tests/support/keys/ed25519-other.pem");
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let der = base64::engine::general_purpose::STANDARD
        .decode(body)
        .unwrap();
    // The last 32 bytes of the SPKI of an Ed25519 key are the key.
    json!({"kty": "OKP", "crv": "Ed25519", "x": BASE64.encode(&der[12..])})
}

#[test]
fn the_kid_selects_among_several_keys_and_is_optional_with_one_key() {
    let own = jwk_with_id("EdDSA", "own");
    let mut other = unused_key();
    other["kid"] = "other".into();
    let (one, both) = (vec![own.clone()], vec![other, own]);
    for (keys, kid, expected) in [
        (&both, Some("own"), Ok(42)),
        (&both, Some("other"), Err(TokenError::BadSignature)),
        (&both, Some("unknown"), Err(TokenError::UnknownKid)),
        (&both, None, Err(TokenError::UnknownKid)),
        (&one, Some("own"), Ok(42)),
        (&one, Some("unknown"), Err(TokenError::UnknownKid)),
        (&one, None, Ok(42)),
    ] {
        let names = kid.map_or(json!({}), |kid| json!({ "kid": kid }));
        let user = verify(&with_key_set(keys), &signed_by("EdDSA", &names));
        assert_eq!(user, expected, "{kid:?} of {keys:?}");
    }
}

#[test]
fn all_keys_without_an_id_are_tried_unless_a_key_has_the_kid_of_the_token() {
    let without_ids = with_key_set(&[unused_key(), jwk("EdDSA")]);
    for names in [json!({}), json!({"kid": "any"})] {
        assert_eq!(verify(&without_ids, &signed_by("EdDSA", &names)), Ok(42));
    }
    let mut named = unused_key();
    named["kid"] = "a".into();
    let mixed = with_key_set(&[named, jwk("EdDSA")]);
    for (names, expected) in [
        (json!({}), Ok(42)),
        (json!({"kid": "b"}), Ok(42)),
        (json!({"kid": "a"}), Err(TokenError::BadSignature)),
    ] {
        assert_eq!(verify(&mixed, &signed_by("EdDSA", &names)), expected);
    }
}

#[test]
fn two_keys_with_one_kid_are_tried_if_their_algorithm_fits() {
    let mut unused = unused_key();
    unused["kid"] = "a".into();
    let keys = ["RS256", "ES256", "EdDSA"].map(|algorithm| jwk_with_id(algorithm, "a"));
    let authenticator = with_key_set(&[&[unused][..], &keys].concat());
    for algorithm in ["RS256", "ES256", "EdDSA"] {
        let token = signed_by(algorithm, &json!({"kid": "a"}));
        assert_eq!(verify(&authenticator, &token), Ok(42), "{algorithm}");
    }
}

#[test]
fn a_key_that_expires_does_not_verify_tokens_after_that_time() {
    let rules = ClaimRules::from_env(|_| None).unwrap();
    let [current, previous] =
        [SECRET, OTHER].map(|secret| VerificationKey::from_secret(secret).unwrap());
    let authenticator = Authenticator::new(rules, vec![current, previous.expiring_at(at(10))]);
    for (secret, seconds, expected) in [
        (OTHER, 9, None),
        (OTHER, 10, Some(TokenError::BadSignature)),
        (SECRET, 10, None),
    ] {
        let header = bearer(&signed_with(secret));
        let user = authenticator.verify(Some(&header), at(seconds));
        assert_eq!(user.err(), expected, "{secret} {seconds}");
    }
}

/// An authenticator whose secret comes from a source, and that source.
async fn with_source(results: impl IntoIterator<Item = Fetched>) -> (Authenticator, FakeSource) {
    let source = FakeSource::new(results);
    let rules = ClaimRules::from_env(|_| None).unwrap();
    let keys = RefreshedKeys::fetch(source.clone(), at(0)).await;
    let authenticator = Authenticator {
        secret: keys.ok(),
        ..Authenticator::new(rules, Vec::new())
    };
    (authenticator, source)
}

/// Authenticates with a token that is valid for a day.
async fn authenticate(
    authenticator: &Authenticator,
    secret: &str,
    seconds: u64,
) -> Result<u64, TokenError> {
    let claims = claims_with("exp", (NOW + 86_400).into());
    let header = bearer(&hs256(
        secret,
        &json!({"alg": "HS256"}),
        &claims.to_string(),
    ));
    let user = authenticator.authenticate(Some(&header), at(seconds));
    user.await.map(|verified| verified.user.get())
}

#[tokio::test]
async fn a_new_secret_is_accepted_after_a_bad_signature_without_a_deployment() {
    let (authenticator, source) = with_source([
        Fetched::Secrets(&[OTHER]),
        Fetched::Secrets(&[SECRET, OTHER]),
    ])
    .await;
    assert_eq!(authenticate(&authenticator, OTHER, 60).await, Ok(42));
    assert_eq!(source.fetches(), 1);
    for secret in [SECRET, OTHER] {
        assert_eq!(authenticate(&authenticator, secret, 61).await, Ok(42));
        assert_eq!(source.fetches(), 2);
    }
}

#[tokio::test]
async fn a_flood_of_bad_tokens_causes_at_most_one_fetch_a_minute() {
    let (authenticator, source) = with_source((0..9).map(|_| Fetched::Secrets(&[SECRET]))).await;
    for second in 0..240 {
        let token_error = authenticate(&authenticator, OTHER, second).await;
        assert_eq!(token_error, Err(TokenError::BadSignature), "{second}");
    }
    // During init, and at 0, 60, 120 and 180 seconds.
    assert_eq!(source.fetches(), 5);
    assert_eq!(authenticate(&authenticator, SECRET, 240).await, Ok(42));
    assert_eq!(source.fetches(), 5);
}

#[tokio::test]
async fn when_a_refresh_fails_the_old_keys_are_kept() {
    let (authenticator, source) = with_source([Fetched::Secrets(&[SECRET]), Fetched::Error]).await;
    let token_error = authenticate(&authenticator, OTHER, 60).await;
    assert_eq!(token_error, Err(TokenError::BadSignature));
    assert_eq!(source.fetches(), 2);
    assert_eq!(authenticate(&authenticator, SECRET, 61).await, Ok(42));
}

#[tokio::test]
async fn a_revoked_key_is_refused_an_hour_later() {
    let (authenticator, source) = with_source([
        Fetched::Secrets(&[SECRET]),
        Fetched::Secrets(&[OTHER]),
        Fetched::Error,
        Fetched::Error,
    ])
    .await;
    assert_eq!(authenticate(&authenticator, SECRET, 3_599).await, Ok(42));
    assert_eq!(source.fetches(), 1);
    let token_error = authenticate(&authenticator, SECRET, 3_600).await;
    assert_eq!(token_error, Err(TokenError::BadSignature));
    assert_eq!(source.fetches(), 2);
    // When the source fails, valid tokens are still accepted.
    assert_eq!(authenticate(&authenticator, OTHER, 9_000).await, Ok(42));
    assert_eq!(source.fetches(), 3);
}

#[tokio::test]
async fn only_a_token_that_the_source_could_verify_causes_a_fetch() {
    let (authenticator, source) = with_source((0..9).map(|_| Fetched::Secrets(&[SECRET]))).await;
    for (token, token_error) in [
        ("x".to_owned(), TokenError::Malformed),
        ("x".repeat(9_000), TokenError::TooLong),
        (signed_by("EdDSA", &json!({})), TokenError::WrongAlgorithm),
        (
            hs256(OTHER, &json!({"alg": "HS512"}), "{}"),
            TokenError::WrongAlgorithm,
        ),
    ] {
        let header = bearer(&token);
        let result = authenticator.authenticate(Some(&header), at(600));
        assert_eq!(result.await, Err(token_error));
    }
    // The claims do not matter.
    let expired = bearer(&hs256(SECRET, &json!({"alg": "HS256"}), r#"{"exp":1}"#));
    let result = authenticator.authenticate(Some(&expired), at(600));
    assert_eq!(result.await, Err(TokenError::Expired));
    assert_eq!(source.fetches(), 1);
}

#[test]
fn the_development_secret_is_refused_unless_the_table_is_on_this_machine() {
    for (endpoint, is_local_endpoint) in [
        ("http://127.0.0.1:8000", true),
        ("http://[::1]:8000", true),
        ("http://host.docker.internal:8000", false),
        ("http://172.17.0.1:8000", false),
        ("http://dynamodb.eu-central-1.amazonaws.com", false),
        ("http://localhost.example", false),
        ("https://localhost:8000", true),
        ("https://dynamodb.eu-central-1.amazonaws.com", false),
        ("https://localhost.example", false),
        ("localhost:8000", false),
        ("", false),
    ] {
        for variable in ["AWS_ENDPOINT_URL_DYNAMODB", "AWS_ENDPOINT_URL"] {
            let is_local = is_local(|name| lookup(&[(variable, endpoint)], name));
            assert_eq!(is_local, is_local_endpoint, "{variable}={endpoint}");
        }
    }
    let both = [
        (
            "AWS_ENDPOINT_URL_DYNAMODB",
            "https://dynamodb.eu-central-1.amazonaws.com",
        ),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1"),
    ];
    assert!(!is_local(|name| lookup(&both, name)));
    // `sam local` runs a function in a container and the table outside.
    let in_container = [
        ("AWS_ENDPOINT_URL_DYNAMODB", "http://172.17.0.1:8000"),
        ("AWS_SAM_LOCAL", "true"),
    ];
    assert!(is_local(|name| lookup(&in_container, name)));

    for variable in ["JWT_SECRET", "JWT_SECRET_PREVIOUS"] {
        let env = |name: &str| lookup(&[(variable, DEVELOPMENT_SECRET)], name);
        let error = refuse_development_secret(env).unwrap_err().to_string();
        assert!(error.starts_with(&format!(
            "{variable} is the secret of the development server"
        )));
    }
    assert!(refuse_development_secret(|_| Some(SECRET.to_owned())).is_ok());
    assert!(refuse_development_secret(|_| None).is_ok());
}
