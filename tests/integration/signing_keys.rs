//! Signing keys: which access tokens are accepted during a rotation of the secret, and from issuers that sign
//! with a private key.

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
    TestStack,
    support::{
        self, User,
        tokens::{Issuer, now_seconds, sign_with, valid_claims, with_signature},
    },
};

const OLD: &str = "the old secret, of at least 32 bytes";
const NEW: &str = "the new secret, of at least 32 bytes";

/// A stack that accepts only tokens signed with the keys in these variables.
async fn start_with_keys(variables: &[(&str, &str)]) -> TestStack {
    let mut options = support::stack_options();
    let no_secret = ("JWT_SECRET", "");
    let variables = [no_secret].into_iter().chain(variables.iter().copied());
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    options.environment.extend(variables);
    TestStack::start_with(options).await
}

/// A JSON Web Key Set.
fn jwks(keys: &[Value]) -> String {
    json!({"keys": keys}).to_string()
}

/// The status of a request with a token. Fails the test if it is neither 200 nor 401.
async fn status(stack: &TestStack, token: &str) -> u16 {
    let request = stack.api.request("GET", "/totals");
    let response = request.header("authorization", format!("Bearer {token}"));
    let response = response.send().await;
    if response.status != 200 {
        response.expect_error(401, "unauthorized");
    }
    response.status
}

/// Asserts that each of these tokens is rejected.
async fn assert_all_rejected(stack: &TestStack, tokens: impl IntoIterator<Item = (&str, String)>) {
    for (name, token) in tokens {
        assert_eq!(status(stack, &token).await, 401, "{name}: {token}");
    }
}

fn hs256(secret: impl AsRef<[u8]>, header: &Value) -> String {
    with_signature(header, &valid_claims(42), |message| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_ref());
        hmac::sign(&key, message).as_ref().to_vec()
    })
}

#[tokio::test]
async fn during_a_rotation_tokens_of_both_secrets_are_accepted() {
    let header = json!({"alg": "HS256"});
    let signed = |secret| sign_with(&header, &valid_claims(42), hmac::HMAC_SHA256, secret);
    let during_rotation =
        start_with_keys(&[("JWT_SECRET", NEW), ("JWT_SECRET_PREVIOUS", OLD)]).await;
    assert_eq!(status(&during_rotation, &signed(NEW)).await, 200);
    assert_eq!(status(&during_rotation, &signed(OLD)).await, 200);
    let other = signed("a secret that was never configured");
    assert_eq!(status(&during_rotation, &other).await, 401);
    let mut expired = valid_claims(42);
    expired["exp"] = json!(now_seconds() - 40);
    for secret in [OLD, NEW] {
        let token = sign_with(&header, &expired, hmac::HMAC_SHA256, secret);
        assert_eq!(status(&during_rotation, &token).await, 401);
    }
    let after_rotation = start_with_keys(&[("JWT_SECRET", NEW)]).await;
    assert_eq!(status(&after_rotation, &signed(NEW)).await, 200);
    assert_eq!(status(&after_rotation, &signed(OLD)).await, 401);
}

#[tokio::test]
async fn a_public_key_accepts_the_tokens_of_its_issuer_only() {
    for (issuer, other) in Issuer::each() {
        let pem = issuer.pem();
        let one_line = pem.replace('\n', "\\n");
        let spaces = pem.replace('\n', " ");
        let set = jwks(&[issuer.jwk("a")]);
        let mut bare = issuer.jwk("a");
        for optional in ["kid", "use", "alg"] {
            bare.as_object_mut().unwrap().remove(optional);
        }
        let bare = jwks(&[bare]);
        for (variable, value) in [
            ("JWT_PUBLIC_KEY", &pem),
            ("JWT_PUBLIC_KEY", &one_line),
            ("JWT_PUBLIC_KEY", &spaces),
            ("JWT_JWKS", &set),
            ("JWT_JWKS", &bare),
        ] {
            let stack = start_with_keys(&[(variable, value)]).await;
            let id = (variable == "JWT_JWKS").then_some("a");
            assert_eq!(
                status(&stack, &issuer.token(id, &valid_claims(42))).await,
                200,
                "{value}"
            );
            assert_all_rejected(
                &stack,
                [
                    ("another key", other.token(id, &valid_claims(42))),
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
async fn a_public_key_is_never_used_as_a_secret() {
    for (issuer, _) in Issuer::each() {
        for (variable, value) in [
            ("JWT_PUBLIC_KEY", issuer.pem()),
            ("JWT_JWKS", jwks(&[issuer.jwk("a")])),
        ] {
            let stack = start_with_keys(&[(variable, &value)]).await;
            let header = json!({"alg": "HS256", "kid": "a"});
            let algorithm = issuer.algorithm();
            let own_algorithm = json!({"alg": algorithm, "kid": "a"});
            assert_all_rejected(
                &stack,
                [
                    ("its PEM", hs256(issuer.pem(), &header)),
                    ("its PEM, trimmed", hs256(issuer.pem().trim(), &header)),
                    ("its DER", hs256(issuer.spki(), &header)),
                    ("its bytes", hs256(issuer.public_bytes(), &header)),
                    ("the document", hs256(&value, &header)),
                    (
                        "its DER, with its own algorithm",
                        hs256(issuer.spki(), &own_algorithm),
                    ),
                    ("nothing", hs256("", &header)),
                ],
            )
            .await;
        }
    }
}

#[tokio::test]
async fn a_token_is_accepted_with_the_one_algorithm_of_its_issuer_only() {
    for (issuer, _) in Issuer::each() {
        let stack = start_with_keys(&[("JWT_PUBLIC_KEY", &issuer.pem())]).await;
        for algorithm in [
            "none", "None", "HS256", "RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "ES512",
            "ES256K", "EdDSA", "Ed25519", "rs256", "",
        ] {
            let header = json!({"alg": algorithm});
            let signed = with_signature(&header, &valid_claims(42), |message| {
                issuer.signature(message)
            });
            let expected = if algorithm == issuer.algorithm() {
                200
            } else {
                401
            };
            assert_eq!(status(&stack, &signed).await, expected, "{algorithm}");
            let unsigned = with_signature(&header, &valid_claims(42), |_| Vec::new());
            assert_eq!(status(&stack, &unsigned).await, 401, "{algorithm}");
        }
    }
    let issuer = Issuer::rsa();
    let stack = start_with_keys(&[("JWT_PUBLIC_KEY", &issuer.pem())]).await;
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
        let token = with_signature(&header, &valid_claims(42), |message| {
            issuer.rsa_signature(padding, message)
        });
        assert_eq!(status(&stack, &token).await, 401, "{algorithm}");
    }
}

#[tokio::test]
async fn a_signature_must_be_complete_and_match_the_token() {
    for (issuer, _) in Issuer::each() {
        let stack = start_with_keys(&[("JWT_PUBLIC_KEY", &issuer.pem())]).await;
        let header = json!({"alg": issuer.algorithm()});
        let good = issuer.token(None, &valid_claims(42));
        let [head, _, signature] = good.split('.').collect::<Vec<_>>()[..] else {
            panic!("a token has three parts")
        };
        let other_claims = BASE64.encode(valid_claims(43).to_string());
        let changed = |change: fn(&mut Vec<u8>)| {
            with_signature(&header, &valid_claims(42), |message| {
                let mut signature = issuer.signature(message);
                change(&mut signature);
                signature
            })
        };
        assert_all_rejected(
            &stack,
            [
                ("other claims", format!("{head}.{other_claims}.{signature}")),
                ("one changed bit", changed(|signature| signature[9] ^= 1)),
                (
                    "too short",
                    changed(|signature| signature.truncate(signature.len() - 1)),
                ),
                ("too long", changed(|signature| signature.push(0))),
                (
                    "a leading zero",
                    changed(|signature| signature.insert(0, 0)),
                ),
                // An ECDSA check that ignores the range of r and s accepts this for every message.
                ("zeros", changed(|signature| signature.fill(0))),
                ("ones", changed(|signature| signature.fill(0xff))),
                ("padded base64", format!("{good}=")),
            ],
        )
        .await;
    }
}

#[tokio::test]
async fn a_p256_signature_is_two_numbers_and_not_asn_1() {
    let random = ring::rand::SystemRandom::new();
    let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
    let asn1 = EcdsaKeyPair::from_pkcs8(algorithm, Issuer::p256_pkcs8(), &random).unwrap();
    let issuer = Issuer::p256();
    let stack = start_with_keys(&[("JWT_PUBLIC_KEY", &issuer.pem())]).await;
    assert_eq!(
        status(&stack, &issuer.token(None, &valid_claims(42))).await,
        200
    );
    let token = with_signature(&json!({"alg": "ES256"}), &valid_claims(42), |message| {
        asn1.sign(&random, message).unwrap().as_ref().to_vec()
    });
    assert_eq!(status(&stack, &token).await, 401);
}

#[tokio::test]
async fn the_key_id_selects_one_of_the_configured_keys() {
    let issuers = [
        Issuer::rsa(),
        Issuer::other_rsa(),
        Issuer::p256(),
        Issuer::ed25519(),
    ];
    let ids = ["rsa", "rsa-next", "p256", "ed"];
    let keys: Vec<_> = issuers
        .iter()
        .zip(ids)
        .map(|(issuer, id)| issuer.jwk(id))
        .collect();
    let stack = start_with_keys(&[("JWT_JWKS", &jwks(&keys))]).await;
    for (issuer, own) in issuers.iter().zip(ids) {
        for id in ids {
            let expected = if id == own { 200 } else { 401 };
            let token = issuer.token(Some(id), &valid_claims(42));
            assert_eq!(status(&stack, &token).await, expected, "{own} as {id}");
        }
        let signed = |header: &Value| {
            with_signature(header, &valid_claims(42), |message| {
                issuer.signature(message)
            })
        };
        let alg = issuer.algorithm();
        assert_all_rejected(
            &stack,
            [
                ("none", issuer.token(None, &valid_claims(42))),
                ("unknown", issuer.token(Some("other"), &valid_claims(42))),
                ("empty", issuer.token(Some(""), &valid_claims(42))),
                ("a path", issuer.token(Some("../rsa"), &valid_claims(42))),
                (
                    "another case",
                    issuer.token(Some(&own.to_uppercase()), &valid_claims(42)),
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
async fn a_key_in_the_header_of_a_token_is_ignored() {
    for (issuer, attacker) in Issuer::each() {
        let stack = start_with_keys(&[("JWT_JWKS", &jwks(&[issuer.jwk("a")]))]).await;
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
            let forged = with_signature(&header, &valid_claims(42), |message| {
                attacker.signature(message)
            });
            assert_eq!(status(&stack, &forged).await, 401, "{name}");
        }
    }
}

#[tokio::test]
async fn claims_are_verified_in_the_same_way_as_with_a_secret() {
    let issuer = Issuer::rsa();
    let stack = start_with_keys(&[
        ("JWT_PUBLIC_KEY", &issuer.pem()),
        ("JWT_ISSUER", "https://id.example/"),
        ("JWT_AUDIENCE", "chat"),
    ])
    .await;
    let good = || {
        let mut claims = valid_claims(42);
        claims["iss"] = json!("https://id.example/");
        claims["aud"] = json!(["chat", "other"]);
        claims
    };
    assert_eq!(status(&stack, &issuer.token(None, &good())).await, 200);
    for (claim, wrong) in [
        ("exp", json!(now_seconds() - 40)),
        ("exp", json!((now_seconds() + 3_600).to_string())),
        ("exp", Value::Null),
        ("nbf", json!(now_seconds() + 60)),
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
        assert_eq!(status(&stack, &token).await, 401, "{claim}: {wrong}");
    }
}

#[tokio::test]
async fn the_user_can_be_in_another_claim_than_sub() {
    let issuer = Issuer::rsa();
    let claim = "https://app.example/user";
    let stack =
        start_with_keys(&[("JWT_PUBLIC_KEY", &issuer.pem()), ("JWT_USER_CLAIM", claim)]).await;
    let (ann, ben) = (stack.api.user(), stack.api.user());
    let token = |user: Value| {
        let claims = json!({"sub": "auth0|5f7c8e", claim: user, "exp": now_seconds() + 60});
        issuer.token(None, &claims)
    };
    let ann = User {
        token: token(json!(ann.id)),
        ..ann
    };
    ann.request_chat(&ben).await.expect_status(201);
    for user in [json!(ben.id), json!(ben.id.to_string())] {
        let ben = User {
            token: token(user),
            ..ben.clone()
        };
        assert_eq!(ben.totals().await, [1, 0, 0]);
    }
    for invalid in [
        json!("auth0|5f7c8e"),
        json!(-1),
        json!(1.0),
        json!([1]),
        Value::Null,
    ] {
        assert_eq!(status(&stack, &token(invalid)).await, 401);
    }
    assert_eq!(
        status(&stack, &issuer.token(None, &valid_claims(42))).await,
        401
    );
}

#[tokio::test]
async fn keys_for_other_purposes_in_a_key_set_are_ignored() {
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
        json!({"kty": "unknown", "kid": "other"}),
    ] {
        let keys = jwks(&[unused.clone(), issuer.jwk("a")]);
        let stack = start_with_keys(&[("JWT_JWKS", &keys)]).await;
        let good = issuer.token(Some("a"), &valid_claims(42));
        assert_eq!(status(&stack, &good).await, 200, "{unused}");
        let bad = other.token(Some("other"), &valid_claims(42));
        assert_eq!(status(&stack, &bad).await, 401, "{unused}");
    }
}

#[expect(
    clippy::too_many_lines,
    reason = "a table with one invalid configuration in each row"
)]
#[tokio::test]
async fn a_function_with_a_weak_or_unreadable_key_exits_and_names_the_variable() {
    let rsa = Issuer::rsa();
    let weak = include_str!("../support/keys/rsa-1024.pem");
    let pem = |issuer: &Issuer| issuer.pem();
    let private = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----";
    let truncated = "-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkq\n-----END PUBLIC KEY-----";
    let jwk = |name: &str, value: Value| {
        let mut key = rsa.jwk("a");
        key[name] = value;
        jwks(&[key])
    };
    let even = BASE64.encode([&[0x80][..], &[0; 255]].concat());
    let secret = json!({"kty": "oct", "k": "AAAA", "kid": "a"});
    let short_point = json!({"kty": "EC", "crv": "P-256", "x": "AAAA", "y": "AAAA"});
    let unnamed = json!({"kty": "OKP", "crv": "Ed25519", "x": BASE64.encode([9; 32])});
    for (variables, problem) in [
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
            "JWT_PUBLIC_KEY is set together with another key",
        ),
        (
            vec![
                ("JWT_SECRET", NEW.to_owned()),
                ("JWT_JWKS", jwks(&[rsa.jwk("a")])),
            ],
            "JWT_JWKS is set together with another key",
        ),
        (
            vec![
                ("JWT_PUBLIC_KEY", pem(&rsa)),
                ("JWT_JWKS", jwks(&[rsa.jwk("a")])),
            ],
            "JWT_PUBLIC_KEY is set together with another key",
        ),
        (vec![("JWT_PUBLIC_KEY", weak.to_owned())], "2,048"),
        (
            vec![("JWT_PUBLIC_KEY", private.to_owned())],
            "BEGIN PUBLIC KEY",
        ),
        (
            vec![("JWT_PUBLIC_KEY", truncated.to_owned())],
            "JWT_PUBLIC_KEY contains a public key that cannot be read",
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
        (vec![("JWT_JWKS", jwks(&[]))], "JWT_JWKS contains no key"),
        (
            vec![("JWT_JWKS", jwk("use", json!("enc")))],
            "JWT_JWKS contains no key",
        ),
        (
            vec![("JWT_JWKS", jwk("n", json!(BASE64.encode([0xff; 128]))))],
            "2,048",
        ),
        (
            vec![("JWT_JWKS", jwk("n", json!(even)))],
            "JWT_JWKS contains an unsafe RSA key",
        ),
        (
            vec![("JWT_JWKS", jwk("e", json!("AQ")))],
            "JWT_JWKS contains an unsafe RSA key",
        ),
        (
            vec![("JWT_JWKS", jwk("n", json!("not base64!")))],
            "JWT_JWKS contains a key that cannot",
        ),
        (
            vec![("JWT_JWKS", jwks(&[secret]))],
            "JWT_JWKS contains a secret",
        ),
        (
            vec![("JWT_JWKS", jwks(&[short_point]))],
            "JWT_JWKS contains a P-256 key",
        ),
        (
            vec![("JWT_JWKS", jwks(&[rsa.jwk("a"), Issuer::p256().jwk("a")]))],
            "JWT_JWKS contains two keys with the same `kid`",
        ),
        (
            vec![("JWT_JWKS", jwks(&[rsa.jwk("a"), unnamed]))],
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
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{problem}: {stderr}");
        assert!(
            stderr.starts_with("JWT_") && stderr.contains(problem),
            "{problem}: {stderr}"
        );
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    }
}
