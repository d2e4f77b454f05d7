//! Part 1.1 and part 4 of the contract: who may call.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use ring::hmac;
use serde_json::{Value, json};

use crate::{
    ROUTES,
    support::{
        Answer, Api, secret,
        tokens::{claims, now, sign, sign_as, valid},
    },
};

async fn totals_with(authorization: impl AsRef<[u8]>) -> Answer {
    Api::shared()
        .request("GET", "/totals")
        .header("authorization", authorization)
        .send()
        .await
}

async fn totals_of(token: &str) -> Answer {
    totals_with(format!("Bearer {token}")).await
}

/// Claims of some user, with one of them changed (or removed, with null).
fn with(claim: &str, value: Value) -> Value {
    let mut claims = claims(42);
    match value {
        Value::Null => drop(claims.as_object_mut().unwrap().remove(claim)),
        value => claims[claim] = value,
    }
    claims
}

#[tokio::test]
async fn every_route_refuses_a_call_without_a_token() {
    for (method, path, body) in ROUTES {
        let path = path.replace("{chatId}", "17-42");
        let call = Api::shared().request(method, &path);
        let call = match body {
            Some(body) => call.header("content-type", "application/json").body(body),
            None => call,
        };
        call.send().await.is_refusal(401, "unauthorized");
    }
}

#[tokio::test]
async fn every_route_refuses_a_token_that_is_signed_with_another_secret() {
    let header = json!({"alg": "HS256"});
    let forged = sign_as(&header, &claims(42), hmac::HMAC_SHA256, &"x".repeat(32));
    for (method, path, _) in ROUTES {
        let path = path.replace("{chatId}", "17-42");
        let call = Api::shared().request(method, &path);
        let answer = call
            .header("authorization", format!("Bearer {forged}"))
            .send()
            .await;
        answer.is_refusal(401, "unauthorized");
    }
}

#[tokio::test]
async fn a_header_that_is_not_one_bearer_token_is_refused() {
    let token = valid(42);
    for header in [
        String::new(),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        token.clone(),
        format!("Basic {token}"),
        format!("Bearer{token}"),
        format!("Bearer {token} x"),
        format!("Bearer {token},Bearer {token}"),
        "Bearer x.y.z".to_owned(),
        "Bearer a.b".to_owned(),
        format!("Bearer {token}."),
        format!("Bearer {}", token.trim_end_matches(|c| c != '.')),
    ] {
        totals_with(&header).await.is_refusal(401, "unauthorized");
    }
    let twice = Api::shared()
        .request("GET", "/totals")
        .header("authorization", format!("Bearer {token}"))
        .header("authorization", format!("Bearer {token}"));
    twice.send().await.is_refusal(401, "unauthorized");
}

#[tokio::test]
async fn the_schemes_case_does_not_matter() {
    totals_with(format!("bearer {}", valid(42))).await.is(200);
    totals_with(format!("BEARER {}", valid(42))).await.is(200);
}

#[tokio::test]
async fn a_changed_token_is_refused() {
    let token = valid(42);
    let [header, _, tag] = token.split('.').collect::<Vec<_>>()[..] else {
        panic!("three parts")
    };
    let other = BASE64.encode(claims(43).to_string());
    totals_of(&format!("{header}.{other}.{tag}"))
        .await
        .is_refusal(401, "unauthorized");
}

#[tokio::test]
async fn the_token_does_not_choose_the_algorithm() {
    let unsigned = |alg: &str| {
        let header = BASE64.encode(json!({"alg": alg}).to_string());
        format!("{header}.{}.", BASE64.encode(claims(42).to_string()))
    };
    for alg in ["none", "None", "NONE", "HS256"] {
        totals_of(&unsigned(alg))
            .await
            .is_refusal(401, "unauthorized");
    }
    for (alg, by) in [
        ("HS384", hmac::HMAC_SHA384),
        ("HS512", hmac::HMAC_SHA512),
        ("RS256", hmac::HMAC_SHA256),
        ("ES256", hmac::HMAC_SHA256),
        ("EdDSA", hmac::HMAC_SHA256),
        ("hs256", hmac::HMAC_SHA256),
    ] {
        let token = sign_as(&json!({"alg": alg}), &claims(42), by, &secret());
        totals_of(&token).await.is_refusal(401, "unauthorized");
    }
}

#[tokio::test]
async fn a_tokens_header_never_chooses_whom_to_trust() {
    let attacker = "the key that an attacker would like to be trusted";
    for (name, value) in [
        ("kid", json!("../../etc/passwd")),
        ("jku", json!("https://attacker.example/keys")),
        ("x5u", json!("https://attacker.example/chain")),
        (
            "jwk",
            json!({"kty": "oct", "alg": "HS256", "k": BASE64.encode(attacker)}),
        ),
    ] {
        let header = json!({"alg": "HS256", name: value});
        let forged = sign_as(&header, &claims(42), hmac::HMAC_SHA256, attacker);
        totals_of(&forged).await.is_refusal(401, "unauthorized");
    }
    let header = json!({"alg": "HS256", "kid": "any", "jku": "https://issuer.example/keys"});
    let ours = sign_as(&header, &claims(42), hmac::HMAC_SHA256, &secret());
    totals_of(&ours).await.is(200);
}

#[tokio::test]
async fn a_token_with_critical_extensions_is_refused() {
    let header = json!({"alg": "HS256", "crit": ["b64"], "b64": true});
    let token = sign_as(&header, &claims(42), hmac::HMAC_SHA256, &secret());
    totals_of(&token).await.is_refusal(401, "unauthorized");
}

#[tokio::test]
async fn a_token_expires_with_30_seconds_of_leeway() {
    totals_of(&sign(&with("exp", json!(now() - 20))))
        .await
        .is(200);
    totals_of(&sign(&with("exp", json!(now() - 40))))
        .await
        .is_refusal(401, "unauthorized");
}

#[tokio::test]
async fn a_token_is_not_valid_before_nbf_with_30_seconds_of_leeway() {
    totals_of(&sign(&with("nbf", json!(now() + 20))))
        .await
        .is(200);
    totals_of(&sign(&with("nbf", json!(now() + 60))))
        .await
        .is_refusal(401, "unauthorized");
    totals_of(&sign(&with("nbf", json!("soon"))))
        .await
        .is_refusal(401, "unauthorized");
}

#[tokio::test]
async fn a_token_must_say_when_it_expires_as_a_number() {
    let never_as_text = json!((now() + 3_600).to_string());
    for exp in [
        Value::Null,
        never_as_text,
        json!(true),
        json!([]),
        json!({}),
        json!(-1),
    ] {
        totals_of(&sign(&with("exp", exp)))
            .await
            .is_refusal(401, "unauthorized");
    }
    let mut null = claims(42);
    null["exp"] = Value::Null;
    totals_of(&sign(&null))
        .await
        .is_refusal(401, "unauthorized");
}

#[tokio::test]
async fn the_user_is_sub_as_canonical_decimal_or_number() {
    for good in [
        json!("42"),
        json!(42),
        json!("9007199254740991"),
        json!(9_007_199_254_740_991_u64),
    ] {
        totals_of(&sign(&with("sub", good))).await.is(200);
    }
    for bad in [
        Value::Null,
        json!(""),
        json!("0"),
        json!(0),
        json!("042"),
        json!("+42"),
        json!("-42"),
        json!(-42),
        json!(" 42"),
        json!("42 "),
        json!("4.2e1"),
        json!(42.0),
        json!(42.5),
        json!("ann"),
        json!("٤٢"),
        json!("9007199254740992"),
        json!(9_007_199_254_740_992_u64),
        json!(true),
        json!([42]),
    ] {
        let answer = totals_of(&sign(&with("sub", bad.clone()))).await;
        assert_eq!(answer.status, 401, "sub {bad}: {answer:?}");
    }
}

#[tokio::test]
async fn a_string_and_a_number_as_sub_are_the_same_user() {
    let api = Api::shared();
    let (ann, ben) = (api.user(), api.user());
    ann.ask(&ben).await.is(201);
    let mut by_number = ben.clone();
    by_number.token = sign(&json!({"sub": ben.id, "exp": now() + 60}));
    assert_eq!(by_number.totals().await, [1, 0, 0]);
}

#[tokio::test]
async fn issuer_and_audience_are_ignored_when_not_configured() {
    totals_of(&sign(&with("iss", json!("https://any.example"))))
        .await
        .is(200);
    totals_of(&sign(&with("aud", json!(["any"])))).await.is(200);
}

#[tokio::test]
async fn a_token_over_8_kib_is_refused() {
    let padded = |bytes: usize| sign(&with("padding", json!("x".repeat(bytes))));
    // Base64 makes four bytes of three.
    assert!(padded(5_900).len() <= 8 * 1_024);
    totals_of(&padded(5_900)).await.is(200);
    assert!(padded(6_100).len() > 8 * 1_024);
    totals_of(&padded(6_100))
        .await
        .is_refusal(401, "unauthorized");
}

#[tokio::test]
async fn a_claim_given_twice_is_refused() {
    let twice = format!(r#"{{"sub":"42","sub":"43","exp":{}}}"#, now() + 60);
    let signed = format!(
        "{}.{}",
        BASE64.encode(r#"{"alg":"HS256"}"#),
        BASE64.encode(twice)
    );
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret().as_bytes());
    let tag = BASE64.encode(hmac::sign(&key, signed.as_bytes()));
    totals_of(&format!("{signed}.{tag}"))
        .await
        .is_refusal(401, "unauthorized");
}
