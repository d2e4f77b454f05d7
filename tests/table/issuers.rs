//! Whose tokens are taken: secrets that change, and issuers that sign with a private key.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use ring::{
    hmac,
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512,
        RSA_PSS_SHA256,
    },
};
use serde_json::{Value, json};

use crate::{
    Local,
    support::{
        self, User,
        tokens::{Issuer, claims, now, sign_as, with_signature},
    },
};

const OLD: &str = "the secret that is going, of at least 32 bytes";
const NEW: &str = "the secret that is coming, of at least 32 bytes";

/// A stack that trusts what these variables say, and nobody else.
async fn trusting(variables: &[(&str, &str)]) -> Local {
    let mut options = support::options();
    let nobody = ("JWT_SECRET", "");
    for (name, value) in [nobody].iter().chain(variables) {
        let variable = ((*name).to_owned(), (*value).to_owned());
        options.environment.insert(variable.0, variable.1);
    }
    Local::start_with(options).await
}

fn set_of(keys: &[Value]) -> String {
    json!({"keys": keys}).to_string()
}

async fn status(local: &Local, token: &str) -> u16 {
    let call = local.api.request("GET", "/totals");
    let answer = call.header("authorization", format!("Bearer {token}"));
    let answer = answer.send().await;
    if answer.status != 200 {
        answer.is_refusal(401, "unauthorized");
    }
    answer.status
}

/// Asserts that none of these tokens is taken.
async fn all_are_refused(local: &Local, tokens: impl IntoIterator<Item = (&str, String)>) {
    for (what, token) in tokens {
        assert_eq!(status(local, &token).await, 401, "{what}: {token}");
    }
}

fn hs256(secret: impl AsRef<[u8]>, header: &Value) -> String {
    with_signature(header, &claims(42), |message| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_ref());
        hmac::sign(&key, message).as_ref().to_vec()
    })
}

#[tokio::test]
async fn while_the_secret_changes_nobody_is_logged_out() {
    let header = json!({"alg": "HS256"});
    let signed = |secret| sign_as(&header, &claims(42), hmac::HMAC_SHA256, secret);
    let changing = trusting(&[("JWT_SECRET", NEW), ("JWT_SECRET_PREVIOUS", OLD)]).await;
    assert_eq!(status(&changing, &signed(NEW)).await, 200);
    assert_eq!(status(&changing, &signed(OLD)).await, 200);
    let never = signed("a secret that was never configured here");
    assert_eq!(status(&changing, &never).await, 401);
    let mut expired = claims(42);
    expired["exp"] = json!(now() - 40);
    for secret in [OLD, NEW] {
        let token = sign_as(&header, &expired, hmac::HMAC_SHA256, secret);
        assert_eq!(status(&changing, &token).await, 401);
    }
    let changed = trusting(&[("JWT_SECRET", NEW)]).await;
    assert_eq!(status(&changed, &signed(NEW)).await, 200);
    assert_eq!(status(&changed, &signed(OLD)).await, 401);
}

#[tokio::test]
async fn an_issuers_tokens_are_taken_by_its_public_key_and_nobody_elses() {
    for (issuer, other) in Issuer::each() {
        let pem = issuer.pem();
        let one_line = pem.replace('\n', "\\n");
        let spaces = pem.replace('\n', " ");
        let set = set_of(&[issuer.jwk("a")]);
        let mut bare = issuer.jwk("a");
        for optional in ["kid", "use", "alg"] {
            bare.as_object_mut().unwrap().remove(optional);
        }
        let bare = set_of(&[bare]);
        for (variable, value) in [
            ("JWT_PUBLIC_KEY", &pem),
            ("JWT_PUBLIC_KEY", &one_line),
            ("JWT_PUBLIC_KEY", &spaces),
            ("JWT_JWKS", &set),
            ("JWT_JWKS", &bare),
        ] {
            let local = trusting(&[(variable, value)]).await;
            let id = (variable == "JWT_JWKS").then_some("a");
            assert_eq!(
                status(&local, &issuer.token(id, &claims(42))).await,
                200,
                "{value}"
            );
            all_are_refused(
                &local,
                [
                    ("another key", other.token(id, &claims(42))),
                    (
                        "the development secret",
                        hs256(support::secret(), &json!({"alg": "HS256"})),
                    ),
                ],
            )
            .await;
        }
    }
}

#[tokio::test]
async fn a_public_key_never_serves_as_a_secret() {
    for (issuer, _) in Issuer::each() {
        for (variable, value) in [
            ("JWT_PUBLIC_KEY", issuer.pem()),
            ("JWT_JWKS", set_of(&[issuer.jwk("a")])),
        ] {
            let local = trusting(&[(variable, &value)]).await;
            let header = json!({"alg": "HS256", "kid": "a"});
            let algorithm = issuer.algorithm();
            let called = json!({"alg": algorithm, "kid": "a"});
            all_are_refused(
                &local,
                [
                    ("its PEM", hs256(issuer.pem(), &header)),
                    ("its PEM, trimmed", hs256(issuer.pem().trim(), &header)),
                    ("its DER", hs256(issuer.spki(), &header)),
                    ("its bytes", hs256(issuer.public_bytes(), &header)),
                    ("the document", hs256(&value, &header)),
                    ("its DER, under its name", hs256(issuer.spki(), &called)),
                    ("nothing", hs256("", &header)),
                ],
            )
            .await;
        }
    }
}

#[tokio::test]
async fn a_token_is_taken_with_its_issuers_one_algorithm_only() {
    for (issuer, _) in Issuer::each() {
        let local = trusting(&[("JWT_PUBLIC_KEY", &issuer.pem())]).await;
        for algorithm in [
            "none", "None", "HS256", "RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "ES512",
            "ES256K", "EdDSA", "Ed25519", "rs256", "",
        ] {
            let header = json!({"alg": algorithm});
            let signed = with_signature(&header, &claims(42), |it| issuer.signature(it));
            let expected = if algorithm == issuer.algorithm() {
                200
            } else {
                401
            };
            assert_eq!(status(&local, &signed).await, expected, "{algorithm}");
            let unsigned = with_signature(&header, &claims(42), |_| Vec::new());
            assert_eq!(status(&local, &unsigned).await, 401, "{algorithm}");
        }
    }
    let issuer = Issuer::rsa();
    let local = trusting(&[("JWT_PUBLIC_KEY", &issuer.pem())]).await;
    for (algorithm, padding) in [
        (
            "PS256",
            &RSA_PSS_SHA256 as &'static dyn ring::signature::RsaEncoding,
        ),
        ("RS256", &RSA_PSS_SHA256),
        ("RS384", &RSA_PKCS1_SHA384),
        ("RS256", &RSA_PKCS1_SHA512),
    ] {
        let header = json!({"alg": algorithm});
        let token = with_signature(&header, &claims(42), |it| issuer.rsa_signature(padding, it));
        assert_eq!(status(&local, &token).await, 401, "{algorithm}");
    }
}

#[tokio::test]
async fn a_signature_must_be_whole_and_of_what_was_signed() {
    for (issuer, _) in Issuer::each() {
        let local = trusting(&[("JWT_PUBLIC_KEY", &issuer.pem())]).await;
        let header = json!({"alg": issuer.algorithm()});
        let good = issuer.token(None, &claims(42));
        let [head, _, signature] = good.split('.').collect::<Vec<_>>()[..] else {
            panic!("three parts")
        };
        let others = BASE64.encode(claims(43).to_string());
        let changed = |change: fn(&mut Vec<u8>)| {
            with_signature(&header, &claims(42), |message| {
                let mut signature = issuer.signature(message);
                change(&mut signature);
                signature
            })
        };
        all_are_refused(
            &local,
            [
                ("other claims", format!("{head}.{others}.{signature}")),
                ("one bit", changed(|it| it[9] ^= 1)),
                ("too short", changed(|it| it.truncate(it.len() - 1))),
                ("too long", changed(|it| it.push(0))),
                ("a zero in front", changed(|it| it.insert(0, 0))),
                // An ECDSA check that does not look at the range of r and s takes this for any message.
                ("zeros", changed(|it| it.fill(0))),
                ("ones", changed(|it| it.fill(0xff))),
                ("padded base64", format!("{good}=")),
            ],
        )
        .await;
    }
}

#[tokio::test]
async fn a_signature_with_p256_is_two_numbers_and_not_asn_1() {
    let random = ring::rand::SystemRandom::new();
    let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
    let asn1 = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).unwrap();
    let fixed = &ring::signature::ECDSA_P256_SHA256_FIXED_SIGNING;
    let pair = EcdsaKeyPair::from_pkcs8(fixed, pkcs8.as_ref(), &random).unwrap();
    let issuer = Issuer::P256(pair);
    let local = trusting(&[("JWT_PUBLIC_KEY", &issuer.pem())]).await;
    assert_eq!(status(&local, &issuer.token(None, &claims(42))).await, 200);
    let token = with_signature(&json!({"alg": "ES256"}), &claims(42), |message| {
        asn1.sign(&random, message).unwrap().as_ref().to_vec()
    });
    assert_eq!(status(&local, &token).await, 401);
}

#[tokio::test]
async fn a_key_id_picks_among_the_configured_keys() {
    let issuers = [
        Issuer::rsa(),
        Issuer::other_rsa(),
        Issuer::p256(),
        Issuer::ed25519(),
    ];
    let ids = ["rsa", "rsa-next", "p256", "ed"];
    let keys: Vec<_> = issuers.iter().zip(ids).map(|(it, id)| it.jwk(id)).collect();
    let local = trusting(&[("JWT_JWKS", &set_of(&keys))]).await;
    for (issuer, own) in issuers.iter().zip(ids) {
        for id in ids {
            let expected = if id == own { 200 } else { 401 };
            let token = issuer.token(Some(id), &claims(42));
            assert_eq!(status(&local, &token).await, expected, "{own} as {id}");
        }
        let signed = |header: &Value| {
            with_signature(header, &claims(42), |message| issuer.signature(message))
        };
        let alg = issuer.algorithm();
        all_are_refused(
            &local,
            [
                ("none", issuer.token(None, &claims(42))),
                ("unknown", issuer.token(Some("other"), &claims(42))),
                ("empty", issuer.token(Some(""), &claims(42))),
                ("a path", issuer.token(Some("../rsa"), &claims(42))),
                (
                    "another case",
                    issuer.token(Some(&own.to_uppercase()), &claims(42)),
                ),
                ("a number", signed(&json!({"alg": alg, "kid": 1}))),
                ("null", signed(&json!({"alg": alg, "kid": null}))),
                ("a list", signed(&json!({"alg": alg, "kid": [own]}))),
                (
                    "critical",
                    signed(&json!({"alg": alg, "kid": own, "crit": ["kid"]})),
                ),
            ],
        )
        .await;
    }
}

#[tokio::test]
async fn a_key_that_the_token_brings_along_is_not_trusted() {
    for (issuer, attacker) in Issuer::each() {
        let local = trusting(&[("JWT_JWKS", &set_of(&[issuer.jwk("a")]))]).await;
        for (name, value) in [
            ("jwk", attacker.jwk("a")),
            ("jku", json!("https://attacker.example/keys")),
            ("x5u", json!("https://attacker.example/chain")),
            (
                "x5c",
                json!([base64::engine::general_purpose::STANDARD.encode(attacker.spki())]),
            ),
        ] {
            let header = json!({"alg": issuer.algorithm(), "kid": "a", name: value});
            let forged = with_signature(&header, &claims(42), |it| attacker.signature(it));
            assert_eq!(status(&local, &forged).await, 401, "{name}");
        }
    }
}

#[tokio::test]
async fn claims_are_checked_as_with_a_secret() {
    let issuer = Issuer::rsa();
    let local = trusting(&[
        ("JWT_PUBLIC_KEY", &issuer.pem()),
        ("JWT_ISSUER", "https://id.example/"),
        ("JWT_AUDIENCE", "chat"),
    ])
    .await;
    let good = || {
        let mut claims = claims(42);
        claims["iss"] = json!("https://id.example/");
        claims["aud"] = json!(["chat", "other"]);
        claims
    };
    assert_eq!(status(&local, &issuer.token(None, &good())).await, 200);
    for (claim, wrong) in [
        ("exp", json!(now() - 40)),
        ("exp", json!((now() + 3_600).to_string())),
        ("exp", Value::Null),
        ("nbf", json!(now() + 60)),
        ("iss", json!("https://evil.example/")),
        ("iss", Value::Null),
        ("aud", json!("other")),
        ("aud", Value::Null),
        ("sub", json!("auth0|5f7c8ec7c33c6c004bbafe82")),
        ("sub", json!("042")),
        ("sub", Value::Null),
    ] {
        let mut claims = good();
        claims[claim] = wrong.clone();
        let token = issuer.token(None, &claims);
        assert_eq!(status(&local, &token).await, 401, "{claim}: {wrong}");
    }
}

#[tokio::test]
async fn another_claim_than_sub_may_be_the_user() {
    let issuer = Issuer::rsa();
    let claim = "https://app.example/user";
    let local = trusting(&[("JWT_PUBLIC_KEY", &issuer.pem()), ("JWT_USER_CLAIM", claim)]).await;
    let (ann, ben) = (local.api.user(), local.api.user());
    let token = |user: Value| {
        let claims = json!({"sub": "auth0|5f7c8e", claim: user, "exp": now() + 60});
        issuer.token(None, &claims)
    };
    let ann = User {
        token: token(json!(ann.id)),
        ..ann
    };
    ann.ask(&ben).await.is(201);
    for user in [json!(ben.id), json!(ben.id.to_string())] {
        let ben = User {
            token: token(user),
            ..ben.clone()
        };
        assert_eq!(ben.totals().await, [1, 0, 0]);
    }
    for nobody in [
        json!("auth0|5f7c8e"),
        json!(-1),
        json!(1.0),
        json!([1]),
        Value::Null,
    ] {
        assert_eq!(status(&local, &token(nobody)).await, 401);
    }
    assert_eq!(status(&local, &issuer.token(None, &claims(42))).await, 401);
}

#[tokio::test]
async fn a_set_may_hold_keys_for_other_purposes_which_sign_nothing_here() {
    let (issuer, other) = (Issuer::rsa(), Issuer::other_rsa());
    let with = |name: &str, value: Value| {
        let mut key = other.jwk("other");
        key[name] = value;
        key
    };
    for unused in [
        with("use", json!("enc")),
        with("alg", json!("RSA-OAEP")),
        with("alg", json!("RS512")),
        with("alg", json!("PS256")),
        with("key_ops", json!(["encrypt"])),
        json!({"kty": "EC", "crv": "P-384", "x": "AA", "y": "AA", "kid": "other"}),
        json!({"kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA", "kid": "other"}),
        json!({"kty": "OKP", "crv": "X25519", "x": "AA", "kid": "other"}),
        json!({"kty": "of the future", "kid": "other"}),
    ] {
        let keys = set_of(&[unused.clone(), issuer.jwk("a")]);
        let local = trusting(&[("JWT_JWKS", &keys)]).await;
        let good = issuer.token(Some("a"), &claims(42));
        assert_eq!(status(&local, &good).await, 200, "{unused}");
        let bad = other.token(Some("other"), &claims(42));
        assert_eq!(status(&local, &bad).await, 401, "{unused}");
    }
}

#[expect(
    clippy::too_many_lines,
    reason = "a table: a wrong configuration a row"
)]
#[tokio::test]
async fn a_key_that_is_weak_or_cannot_be_read_stops_the_start_by_name() {
    let rsa = Issuer::rsa();
    let weak = include_str!("../support/keys/rsa-1024.pem");
    let pem = |issuer: &Issuer| issuer.pem();
    let private = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----";
    let broken = "-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkq\n-----END PUBLIC KEY-----";
    let jwk = |name: &str, value: Value| {
        let mut key = rsa.jwk("a");
        key[name] = value;
        set_of(&[key])
    };
    let even = BASE64.encode([&[0x80][..], &[0; 255]].concat());
    let secret = json!({"kty": "oct", "k": "AAAA", "kid": "a"});
    let short_point = json!({"kty": "EC", "crv": "P-256", "x": "AAAA", "y": "AAAA"});
    let unnamed = json!({"kty": "OKP", "crv": "Ed25519", "x": BASE64.encode([9; 32])});
    for (variables, named) in [
        (vec![], "JWT_SECRET is not set"),
        (
            vec![("JWT_SECRET", "short".to_owned())],
            "JWT_SECRET is too short",
        ),
        (
            vec![
                ("JWT_SECRET", NEW.to_owned()),
                ("JWT_SECRET_PREVIOUS", "short".to_owned()),
            ],
            "JWT_SECRET_PREVIOUS is too short",
        ),
        (
            vec![
                ("JWT_SECRET_PREVIOUS", OLD.to_owned()),
                ("JWT_PUBLIC_KEY", pem(&rsa)),
            ],
            "JWT_SECRET_PREVIOUS is set without JWT_SECRET",
        ),
        (
            vec![
                ("JWT_SECRET", NEW.to_owned()),
                ("JWT_PUBLIC_KEY", pem(&rsa)),
            ],
            "JWT_PUBLIC_KEY is set beside another key",
        ),
        (
            vec![
                ("JWT_SECRET", NEW.to_owned()),
                ("JWT_JWKS", set_of(&[rsa.jwk("a")])),
            ],
            "JWT_JWKS is set beside another key",
        ),
        (
            vec![
                ("JWT_PUBLIC_KEY", pem(&rsa)),
                ("JWT_JWKS", set_of(&[rsa.jwk("a")])),
            ],
            "JWT_PUBLIC_KEY is set beside another key",
        ),
        (vec![("JWT_PUBLIC_KEY", weak.to_owned())], "2,048"),
        (
            vec![("JWT_PUBLIC_KEY", private.to_owned())],
            "BEGIN PUBLIC KEY",
        ),
        (
            vec![("JWT_PUBLIC_KEY", broken.to_owned())],
            "JWT_PUBLIC_KEY is not a public key",
        ),
        (
            vec![("JWT_PUBLIC_KEY", NEW.to_owned())],
            "JWT_PUBLIC_KEY is not a public key",
        ),
        (
            vec![("JWT_JWKS", NEW.to_owned())],
            "JWT_JWKS is not a JSON Web Key Set",
        ),
        (
            vec![("JWT_JWKS", rsa.jwk("a").to_string())],
            "JWT_JWKS is not a JSON Web Key Set",
        ),
        (vec![("JWT_JWKS", set_of(&[]))], "JWT_JWKS holds no key"),
        (
            vec![("JWT_JWKS", jwk("use", json!("enc")))],
            "JWT_JWKS holds no key",
        ),
        (
            vec![("JWT_JWKS", jwk("n", json!(BASE64.encode([0xff; 128]))))],
            "2,048",
        ),
        (
            vec![("JWT_JWKS", jwk("n", json!(even)))],
            "JWT_JWKS has an RSA key that is not safe",
        ),
        (
            vec![("JWT_JWKS", jwk("e", json!("AQ")))],
            "JWT_JWKS has an RSA key that is not safe",
        ),
        (
            vec![("JWT_JWKS", jwk("n", json!("not base64!")))],
            "JWT_JWKS holds a key that cannot",
        ),
        (
            vec![("JWT_JWKS", set_of(&[secret]))],
            "belongs into JWT_SECRET",
        ),
        (
            vec![("JWT_JWKS", set_of(&[short_point]))],
            "JWT_JWKS has a P-256 key",
        ),
        (
            vec![("JWT_JWKS", set_of(&[rsa.jwk("a"), Issuer::p256().jwk("a")]))],
            "JWT_JWKS holds two keys with the same `kid`",
        ),
        (
            vec![("JWT_JWKS", set_of(&[rsa.jwk("a"), unnamed]))],
            "has no `kid`",
        ),
    ] {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_get-totals"));
        for name in [
            "JWT_SECRET",
            "JWT_SECRET_PREVIOUS",
            "JWT_PUBLIC_KEY",
            "JWT_JWKS",
        ] {
            command.env_remove(name);
        }
        let output = command
            .envs(variables)
            .env("TABLE_NAME", "t")
            .output()
            .await;
        let output = output.unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{named}: {said}");
        assert!(
            said.starts_with("JWT_") && said.contains(named),
            "{named}: {said}"
        );
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}
