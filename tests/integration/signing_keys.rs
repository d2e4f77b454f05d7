//! Signing keys: which access tokens are accepted during a rotation of the secret, and from issuers that sign
//! with a private key; how functions fetch keys from Secrets Manager and from a URL; which configurations of keys
//! stop a function.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use chat_shared::auth::{DEVELOPMENT_SECRET, TokenError};
use http_body_util::Full;
use hyper::{Response, body::Bytes};
use ring::{
    hmac,
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512,
        RSA_PSS_SHA256,
    },
};
use serde_json::{Value, json};

use crate::{
    TestStack, collect_log_lines, eventually,
    key_servers::{KeySetServer, SecretsManager},
    support::{
        self, User,
        tokens::{Issuer, now_seconds, sign_with, valid_claims, with_signature},
    },
};

const OLD: &str = "the old secret, of at least 32 bytes";
const NEW: &str = "the new secret, of at least 32 bytes";

/// A stack that accepts only tokens signed with the keys in these variables.
async fn start_with_keys(variables: &[(&str, &str)]) -> TestStack {
    start_with_keys_and_log(variables).await.0
}

/// Like [`start_with_keys`]. Returns also the JSON lines that its functions write.
async fn start_with_keys_and_log(
    variables: &[(&str, &str)],
) -> (TestStack, Arc<Mutex<Vec<Value>>>) {
    let mut options = support::stack_options();
    let lines = collect_log_lines(&mut options);
    let no_secret = ("JWT_SECRET", "");
    let variables = [no_secret].into_iter().chain(variables.iter().copied());
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    options.environment.extend(variables);
    (TestStack::start_with(options).await, lines)
}

/// Waits for a log line with this message, and returns it.
async fn line_with_message(lines: &Mutex<Vec<Value>>, message: &str) -> Value {
    let find = || {
        let lines = lines.lock().unwrap();
        lines
            .iter()
            .find(|line| line["message"] == message)
            .cloned()
    };
    let what = format!("a line has the message {message:?}");
    eventually(&what, async || find().is_some()).await;
    find().unwrap()
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
    hs256_with_claims(secret, header, &valid_claims(42))
}

fn hs256_with_claims(secret: impl AsRef<[u8]>, header: &Value, claims: &Value) -> String {
    with_signature(header, claims, |message| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_ref());
        hmac::sign(&key, message).as_ref().to_vec()
    })
}

/// A valid token, except for its signature if the secret is wrong.
fn signed_with(secret: &str) -> String {
    hs256(secret, &json!({"alg": "HS256"}))
}

/// Starts a function with these variables, which must stop it, and returns its standard error: one line that starts
/// with the name of a variable.
async fn init_error(variables: &[(&str, &str)]) -> String {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_get-totals"));
    command.env_clear().envs([
        ("TABLE_NAME", "t"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ACCESS_KEY_ID", "x"),
        ("AWS_SECRET_ACCESS_KEY", "x"),
        // Nothing listens there.
        ("AWS_ENDPOINT_URL_DYNAMODB", "http://127.0.0.1:9"),
    ]);
    let output = command.envs(variables.iter().copied()).output().await;
    let output = output.unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{variables:?}: {stderr}");
    assert!(stderr.starts_with("JWT_"), "{variables:?}: {stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    stderr
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
            // Ed25519 is the newer name of EdDSA with this curve (RFC 9864).
            let own = match issuer.algorithm() {
                "EdDSA" => vec!["EdDSA", "Ed25519"],
                own => vec![own],
            };
            let expected = if own.contains(&algorithm) { 200 } else { 401 };
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
        // A token without a `kid` is accepted if there is only one key for its algorithm.
        let expected = if alg == "RS256" { 401 } else { 200 };
        for token in [
            issuer.token(None, &valid_claims(42)),
            signed(&json!({"alg": alg, "kid": null})),
        ] {
            assert_eq!(status(&stack, &token).await, expected, "{own}");
        }
        assert_all_rejected(
            &stack,
            [
                ("unknown", issuer.token(Some("other"), &valid_claims(42))),
                ("empty", issuer.token(Some(""), &valid_claims(42))),
                ("a path", issuer.token(Some("../rsa"), &valid_claims(42))),
                (
                    "another case",
                    issuer.token(Some(&own.to_uppercase()), &valid_claims(42)),
                ),
                ("a number", signed(&json!({"alg": alg, "kid": 1}))),
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

#[tokio::test]
async fn an_unusable_key_of_a_set_is_left_out_and_named_in_the_log() {
    let (issuer, other) = (Issuer::p256(), Issuer::other_p256());
    let with = |name: &str, value: Value| {
        let mut key = other.jwk("bad");
        key[name] = value;
        key
    };
    let zeros = json!(BASE64.encode([0_u8; 32]));
    for (unusable, reason) in [
        (with("x", json!("AAAA")), "do not have 32 bytes"),
        (with("x", zeros), "not on the curve"),
        (with("d", json!(BASE64.encode([7_u8; 32]))), "private key"),
        (with("use", json!("enc")), "another purpose"),
        (json!({"kty": "oct", "k": "AAAA", "kid": "bad"}), "a secret"),
        (
            json!({"kty": "RSA", "alg": "RSA-OAEP", "n": "AAAA", "e": "AQAB", "kid": "bad"}),
            "another algorithm",
        ),
        (
            json!({"kty": "RSA", "n": BASE64.encode([0xff_u8; 128]), "e": "AQAB", "kid": "bad"}),
            "wrong size",
        ),
        (json!({"kid": "bad"}), "not a JSON Web Key"),
    ] {
        let keys = jwks(&[unusable.clone(), issuer.jwk("a")]);
        let (stack, lines) = start_with_keys_and_log(&[("JWT_JWKS", &keys)]).await;
        let token = issuer.token(Some("a"), &valid_claims(42));
        assert_eq!(status(&stack, &token).await, 200, "{unusable}");
        let line = line_with_message(&lines, "ignored key of the key set").await;
        assert_eq!([&line["kid"], &line["level"]], ["bad", "WARN"], "{line}");
        assert!(line["reason"].as_str().unwrap().contains(reason), "{line}");
    }
}

#[tokio::test]
async fn two_keys_with_one_kid_are_tried_if_their_algorithm_fits() {
    let issuers = [Issuer::rsa(), Issuer::p256(), Issuer::ed25519()];
    let keys = [&issuers[0], &issuers[1], &issuers[2]].map(|issuer| issuer.jwk("a"));
    let stack = start_with_keys(&[("JWT_JWKS", &jwks(&keys))]).await;
    for issuer in &issuers {
        let token = issuer.token(Some("a"), &valid_claims(42));
        assert_eq!(status(&stack, &token).await, 200, "{}", issuer.algorithm());
    }
}

#[tokio::test]
async fn during_a_migration_a_secret_and_public_keys_are_accepted_together() {
    let secrets = SecretsManager::start().await;
    secrets.put(OLD);
    let (pem, set) = (Issuer::rsa(), Issuer::p256());
    let server = KeySetServer::start(&[set.jwk("a")]).await;
    let text = pem.pem();
    let mut variables = secrets.environment();
    variables.extend([
        ("JWT_PUBLIC_KEY", text.as_str()),
        ("JWT_JWKS_URL", server.url()),
    ]);
    let stack = start_with_keys(&variables).await;
    for token in [
        signed_with(OLD),
        pem.token(None, &valid_claims(42)),
        set.token(Some("a"), &valid_claims(42)),
    ] {
        assert_eq!(status(&stack, &token).await, 200, "{token}");
    }
    let header = json!({"alg": "HS256"});
    assert_all_rejected(
        &stack,
        [
            ("the PEM as a secret", hs256(&text, &header)),
            ("the DER as a secret", hs256(pem.spki(), &header)),
            ("the point as a secret", hs256(set.public_bytes(), &header)),
            ("another secret", signed_with(NEW)),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_running_function_accepts_a_new_secret_and_the_previous_one_without_a_deployment() {
    let secrets = SecretsManager::start().await;
    secrets.put(OLD);
    let stack = start_with_keys(&secrets.environment()).await;
    assert_eq!(status(&stack, &signed_with(OLD)).await, 200);
    let processes = stack.stack.instance_pids("get-totals");
    assert_eq!(secrets.drain_requests(), ["AWSCURRENT", "AWSPREVIOUS"]);

    secrets.put(NEW);
    for secret in [NEW, OLD, NEW] {
        assert_eq!(status(&stack, &signed_with(secret)).await, 200, "{secret}");
    }
    assert_eq!(secrets.drain_requests(), ["AWSCURRENT", "AWSPREVIOUS"]);
    let other = signed_with("a secret that was never stored, of 32 bytes");
    assert_eq!(status(&stack, &other).await, 401);
    assert_eq!(stack.stack.instance_pids("get-totals"), processes);
}

#[tokio::test]
async fn a_flood_of_bad_tokens_causes_one_refresh() {
    let secrets = SecretsManager::start().await;
    secrets.put_with_age(OLD, Duration::from_hours(25));
    let issuer = Issuer::p256();
    let server = KeySetServer::start(&[issuer.jwk("a")]).await;
    let mut variables = secrets.environment();
    variables.push(("JWT_JWKS_URL", server.url()));
    let stack = start_with_keys(&variables).await;
    for number in 0..20 {
        assert_eq!(status(&stack, &signed_with(NEW)).await, 401);
        let unknown = issuer.token(Some(&number.to_string()), &valid_claims(42));
        assert_eq!(status(&stack, &unknown).await, 401);
    }
    // Once during init, and once because of the first bad token.
    assert_eq!(secrets.drain_requests(), ["AWSCURRENT", "AWSCURRENT"]);
    assert_eq!(server.requests(), 2);
    assert_eq!(status(&stack, &signed_with(OLD)).await, 200);
}

#[tokio::test]
async fn the_previous_secret_is_accepted_for_24_hours_after_the_current_one_was_created() {
    for (hours, requests, expected) in [
        (23, &["AWSCURRENT", "AWSPREVIOUS"][..], 200),
        (25, &["AWSCURRENT"], 401),
    ] {
        let secrets = SecretsManager::start().await;
        secrets.put_with_age(OLD, Duration::from_hours(48));
        secrets.put_with_age(NEW, Duration::from_hours(hours));
        let stack = start_with_keys(&secrets.environment()).await;
        assert_eq!(status(&stack, &signed_with(NEW)).await, 200, "{hours}");
        assert_eq!(secrets.drain_requests(), requests);
        assert_eq!(status(&stack, &signed_with(OLD)).await, expected, "{hours}");
    }
}

#[tokio::test]
async fn a_process_stops_accepting_the_previous_secret_after_24_hours_without_another_fetch() {
    let secrets = SecretsManager::start().await;
    let day = Duration::from_hours(24);
    secrets.put_with_age(OLD, day * 2);
    // The previous secret is accepted for five more seconds.
    secrets.put_with_age(NEW, day.checked_sub(Duration::from_secs(5)).unwrap());
    let stack = start_with_keys(&secrets.environment()).await;
    assert_eq!(status(&stack, &signed_with(OLD)).await, 200);
    secrets.fail_with(Some((500, "InternalServiceError")));
    eventually("the previous secret is rejected", async || {
        status(&stack, &signed_with(OLD)).await == 401
    })
    .await;
    assert_eq!(status(&stack, &signed_with(NEW)).await, 200);
}

#[tokio::test]
async fn a_new_secret_is_accepted_although_the_previous_one_cannot_be_read() {
    let secrets = SecretsManager::start().await;
    secrets.put(OLD);
    let stack = start_with_keys(&secrets.environment()).await;
    assert_eq!(status(&stack, &signed_with(OLD)).await, 200);
    secrets.put(NEW);
    secrets.fail_previous();
    assert_eq!(status(&stack, &signed_with(NEW)).await, 200);
    // The process knows the previous secret from before the rotation.
    assert_eq!(status(&stack, &signed_with(OLD)).await, 200);
}

#[tokio::test]
async fn when_a_refresh_fails_the_old_keys_are_kept_and_the_log_has_the_cause() {
    let secrets = SecretsManager::start().await;
    secrets.put(OLD);
    let issuer = Issuer::p256();
    let server = KeySetServer::start(&[issuer.jwk("a")]).await;
    let mut variables = secrets.environment();
    variables.push(("JWT_JWKS_URL", server.url()));
    for error in [
        (400, "AccessDeniedException"),
        (500, "InternalServiceError"),
    ] {
        secrets.fail_with(None);
        server.set_keys(&[issuer.jwk("a")]);
        let (stack, lines) = start_with_keys_and_log(&variables).await;
        let own = issuer.token(Some("a"), &valid_claims(42));
        assert_eq!(status(&stack, &own).await, 200);

        secrets.fail_with(Some(error));
        server.set_response(Response::default());
        let unknown = issuer.token(Some("b"), &valid_claims(42));
        for (bad, good, cause) in [
            (signed_with(NEW), signed_with(OLD), error.1),
            (unknown, own, "is not a JSON Web Key Set"),
        ] {
            lines.lock().unwrap().clear();
            assert_eq!(status(&stack, &bad).await, 401);
            assert_eq!(status(&stack, &good).await, 200);
            let line = line_with_message(&lines, "cannot refresh the keys").await;
            assert_eq!(line["level"], "WARN");
            assert!(line["reason"].as_str().unwrap().contains(cause), "{line}");
            let lines = lines.lock().unwrap();
            assert!(lines.iter().all(|line| !line.to_string().contains(OLD)));
        }
    }
}

#[tokio::test]
async fn a_rotation_can_replace_an_unusable_secret() {
    let secrets = SecretsManager::start().await;
    secrets.put(&format!("{OLD}\n"));
    secrets.put(NEW);
    let (stack, lines) = start_with_keys_and_log(&secrets.environment()).await;
    assert_eq!(status(&stack, &signed_with(NEW)).await, 200);
    let unusable = signed_with(&format!("{OLD}\n"));
    assert_eq!(status(&stack, &unusable).await, 401);
    let line = line_with_message(&lines, "ignored previous version of the secret").await;
    assert!(!line.to_string().contains(OLD), "{line}");
}

#[tokio::test]
async fn a_function_with_an_unusable_secret_exits_and_says_how_to_correct_it() {
    let json = json!({ "secret": OLD }).to_string();
    let reference = "{{resolve:secretsmanager:chat/jwt-secret:SecretString}}";
    let line_break = format!("{OLD}\n");
    let repeated = "a".repeat(64);
    for (secret, problem) in [
        (reference, "is an unresolved reference of CloudFormation"),
        (&json, "is JSON; the secret must be plain text"),
        (&line_break, "starts or ends with white space"),
        (
            "short",
            "is too short; an HS256 key must have at least 32 bytes",
        ),
        (&repeated, "repeats one character"),
        (
            DEVELOPMENT_SECRET,
            "is the secret of the development server",
        ),
    ] {
        let secrets = SecretsManager::start().await;
        secrets.put(secret);
        let error = init_error(&secrets.environment()).await;
        let expected = format!("JWT_SECRET_ARN names a secret whose current version {problem}");
        assert!(error.starts_with(&expected), "{error}");
        assert!(!error.contains(OLD), "{error}");
        // The development secret is accepted on this machine only.
        let mut variables = vec![("JWT_SECRET", secret)];
        if secret == DEVELOPMENT_SECRET {
            let endpoint = "https://dynamodb.us-east-1.amazonaws.com";
            variables.push(("AWS_ENDPOINT_URL_DYNAMODB", endpoint));
        }
        let error = init_error(&variables).await;
        assert!(
            error.starts_with(&format!("JWT_SECRET {problem}")),
            "{error}"
        );
        assert!(!error.contains(OLD), "{error}");
    }
    let secrets = SecretsManager::start().await;
    secrets.put_binary(&[7; 64]);
    let error = init_error(&secrets.environment()).await;
    assert!(error.contains("is binary (`SecretBinary`)"), "{error}");
}

#[tokio::test]
async fn a_function_that_cannot_read_its_secret_exits_and_names_the_cause() {
    let secrets = SecretsManager::start().await;
    let error = init_error(&secrets.environment()).await;
    assert!(
        error.starts_with("JWT_SECRET_ARN names a secret that does not exist"),
        "{error}"
    );
    secrets.put(OLD);
    for name in ["AccessDeniedException", "DecryptionFailure"] {
        secrets.fail_with(Some((400, name)));
        let error = init_error(&secrets.environment()).await;
        let expected = format!("JWT_SECRET_ARN names a secret that cannot be read: {name}: a test");
        assert!(error.starts_with(&expected), "{error}");
    }
    let error = init_error(&[
        ("JWT_SECRET_ARN", "x"),
        ("AWS_ENDPOINT_URL_SECRETS_MANAGER", "http://127.0.0.1:9"),
    ])
    .await;
    assert!(error.contains("refused"), "{error}");
    let mut both = secrets.environment();
    both.push(("JWT_SECRET", OLD));
    let error = init_error(&both).await;
    assert!(
        error.starts_with("JWT_SECRET_ARN is set together with JWT_SECRET"),
        "{error}"
    );
}

#[tokio::test]
async fn a_running_function_accepts_the_new_keys_of_an_issuer_that_rotates_them() {
    let (old, new) = (Issuer::rsa(), Issuer::other_rsa());
    let server = KeySetServer::start(&[old.jwk("old")]).await;
    let stack = start_with_keys(&[("JWT_JWKS_URL", server.url())]).await;
    let (old_token, new_token) = (
        old.token(Some("old"), &valid_claims(42)),
        new.token(Some("new"), &valid_claims(42)),
    );
    assert_eq!(status(&stack, &old_token).await, 200);
    assert_eq!(server.requests(), 1);
    server.set_keys(&[new.jwk("new")]);
    assert_eq!(status(&stack, &new_token).await, 200);
    assert_eq!(server.requests(), 2);
    // The issuer has withdrawn the old key.
    assert_eq!(status(&stack, &old_token).await, 401);
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn a_function_with_an_unusable_key_set_url_exits_and_names_the_cause() {
    let server = KeySetServer::start(&[]).await;
    let target = KeySetServer::start(&[Issuer::rsa().jwk("a")]).await;
    let redirect = Response::builder()
        .status(302)
        .header("location", target.url());
    let large = format!(
        "{}{}",
        jwks(&[Issuer::rsa().jwk("a")]),
        " ".repeat(256 * 1_024)
    );
    let body = |text: String| Response::new(Full::<Bytes>::from(text));
    for (response, problem) in [
        (redirect.body(Full::default()).unwrap(), "302"),
        (body(large), "256 KiB"),
        (body("<html>".to_owned()), "is not a JSON Web Key Set"),
        (body(jwks(&[])), "contains no usable key"),
        (body(jwks(&[json!({"kty": "oct", "k": "AA"})])), "a secret"),
    ] {
        server.set_response(response);
        let error = init_error(&[("JWT_JWKS_URL", server.url())]).await;
        assert!(error.starts_with("JWT_JWKS_URL "), "{error}");
        assert!(error.contains(problem), "{problem}: {error}");
    }
    assert_eq!(target.requests(), 0, "a redirect was followed");
    let secret_part = server.url().replace("http://", "http://user:password@");
    for (url, problem) in [
        ("http://127.0.0.1:9/keys", "refused"),
        ("http://id.example/keys", "https://"),
        ("http://192.0.2.1/keys", "https://"),
        ("ftp://127.0.0.1/keys", "https://"),
        ("id.example/keys", "is not a URL"),
        (&secret_part, "user name or a password"),
    ] {
        let error = init_error(&[("JWT_JWKS_URL", url)]).await;
        assert!(error.contains(problem), "{url}: {error}");
        assert!(!error.contains("user:password"), "{error}");
    }
}

#[tokio::test]
async fn access_tokens_of_cognito_are_accepted_and_its_id_tokens_are_not() {
    let issuer = Issuer::rsa();
    let server = KeySetServer::start(&[issuer.jwk("a"), Issuer::other_rsa().jwk("b")]).await;
    let pool = "https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_abc";
    let stack = start_with_keys(&[
        ("JWT_JWKS_URL", server.url()),
        ("JWT_ISSUER", pool),
        ("JWT_AUDIENCE", "web-client, mobile-client"),
        ("JWT_TOKEN_USE", "access"),
        ("JWT_USER_CLAIM", "chat_user"),
    ])
    .await;
    let access = |client: &str| {
        json!({
            "sub": "b3a4c0de-0000-4000-8000-000000000000", "chat_user": "42", "iss": pool,
            "client_id": client, "token_use": "access", "scope": "openid", "username": "ann",
            "auth_time": now_seconds(), "iat": now_seconds(), "exp": now_seconds() + 3_600,
        })
    };
    for client in ["web-client", "mobile-client"] {
        let token = issuer.token(Some("a"), &access(client));
        assert_eq!(status(&stack, &token).await, 200, "{client}");
    }
    let mut id = access("web-client");
    id["token_use"] = json!("id");
    id["aud"] = id["client_id"].take();
    let mut other_pool = access("web-client");
    other_pool["iss"] = json!("https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_xyz");
    assert_all_rejected(
        &stack,
        [
            ("another client", issuer.token(Some("a"), &access("other"))),
            ("another pool", issuer.token(Some("a"), &other_pool)),
            ("an id token", issuer.token(Some("a"), &id)),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_refused_token_is_logged_with_its_reason_and_the_response_is_the_same_for_all() {
    let issuer = Issuer::rsa();
    let (stack, lines) = start_with_keys_and_log(&[
        ("JWT_SECRET", NEW),
        ("JWT_JWKS", &jwks(&[issuer.jwk("a")])),
        ("JWT_ISSUER", "us"),
        ("JWT_AUDIENCE", "chat"),
        ("JWT_TOKEN_USE", "access"),
        ("JWT_TYP", "at+jwt"),
    ])
    .await;
    let header = json!({"alg": "HS256", "typ": "application/at+jwt"});
    let with = |name: &str, value: Value| {
        let mut claims = valid_claims(42);
        for (name, value) in [("iss", "us"), ("aud", "chat"), ("token_use", "access")] {
            claims[name] = json!(value);
        }
        claims[name] = value;
        format!("Bearer {}", hs256_with_claims(NEW, &header, &claims))
    };
    let other_header = |header: Value| format!("Bearer {}", hs256(NEW, &header));
    let unknown = issuer.token(Some("b"), &valid_claims(42));
    let now = now_seconds();
    let mut messages = BTreeMap::new();
    for (token_error, authorization) in [
        (TokenError::MissingToken, "Basic x".to_owned()),
        (TokenError::Malformed, "Bearer x".to_owned()),
        (TokenError::TooLong, format!("Bearer {}", "x".repeat(8_193))),
        (TokenError::UnknownKid, format!("Bearer {unknown}")),
        (
            TokenError::WrongAlgorithm,
            other_header(json!({"alg": "none"})),
        ),
        (
            TokenError::BadSignature,
            format!("Bearer {}", signed_with(OLD)),
        ),
        (TokenError::Expired, with("exp", json!(now - 60))),
        (TokenError::NotYetValid, with("nbf", json!(now + 600))),
        (
            TokenError::ExpiresTooLate,
            with("exp", json!((now + 60) * 1_000)),
        ),
        (TokenError::WrongIssuer, with("iss", json!("them"))),
        (TokenError::WrongAudience, with("aud", json!("other"))),
        (TokenError::WrongTokenUse, with("token_use", json!("id"))),
        (TokenError::WrongTyp, other_header(json!({"alg": "HS256"}))),
        (TokenError::BadUserClaim, with("sub", json!("ann"))),
    ] {
        lines.lock().unwrap().clear();
        let request = stack.api.request("GET", "/totals");
        let response = request.header("authorization", authorization).send().await;
        response.expect_error(401, "unauthorized");
        let what = format!("the reason {token_error} is logged");
        eventually(&what, async || {
            let lines = lines.lock().unwrap();
            let reasons: Vec<_> = lines.iter().map(|line| &line["reason"]).collect();
            reasons.contains(&&json!(token_error.as_str()))
        })
        .await;
        messages.insert(token_error, response.body["message"].clone());
    }
    assert!(messages.keys().eq(&TokenError::ALL));
    let first = &messages[&TokenError::MissingToken];
    assert!(messages.values().all(|message| message == first));
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
                ("JWT_PUBLIC_KEY", "x".to_owned()),
            ],
            "JWT_PUBLIC_KEY is not a public key",
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
        (
            vec![("JWT_JWKS", jwks(&[]))],
            "JWT_JWKS contains no usable key",
        ),
        (
            vec![("JWT_JWKS", jwk("use", json!("enc")))],
            "JWT_JWKS contains no usable key",
        ),
        (
            vec![("JWT_JWKS", jwk("n", json!(BASE64.encode([0xff; 128]))))],
            "2,048",
        ),
        (
            vec![("JWT_JWKS", jwk("n", json!(even)))],
            "the first key is an unsafe RSA key",
        ),
        (
            vec![("JWT_JWKS", jwk("e", json!("AQ")))],
            "the first key is an unsafe RSA key",
        ),
        (
            vec![("JWT_JWKS", jwk("n", json!("not base64!")))],
            "not base64url",
        ),
        (
            vec![("JWT_JWKS", jwks(&[secret]))],
            "the first key is a secret",
        ),
        (
            vec![("JWT_JWKS", jwks(&[json!("a")]))],
            "the first key is not a JSON Web Key",
        ),
        (
            vec![("JWT_JWKS", jwks(&[short_point]))],
            "the first key is a P-256 key",
        ),
    ] {
        let variables: Vec<_> = variables
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let stderr = init_error(&variables).await;
        assert!(stderr.contains(problem), "{problem}: {stderr}");
    }
}
