//! Authentication: which `Authorization` headers, tokens and claims the API accepts.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use chat_shared::http::ENDPOINTS;
use ring::hmac;
use serde_json::{Value, json};

use crate::{
    endpoint_path,
    support::{
        Api, Response, secret,
        tokens::{now_seconds, sign, sign_json, sign_with, valid_claims, valid_token},
    },
    with_valid_body,
};

async fn totals_with_header(authorization: impl AsRef<[u8]>) -> Response {
    Api::shared()
        .request("GET", "/totals")
        .header("authorization", authorization)
        .send()
        .await
}

async fn totals_with_token(token: &str) -> Response {
    totals_with_header(format!("Bearer {token}")).await
}

/// The valid claims of a user with one claim changed, or removed if the value is null.
fn claims_with(claim: &str, value: Value) -> Value {
    let mut claims = valid_claims(42);
    match value {
        Value::Null => drop(claims.as_object_mut().unwrap().remove(claim)),
        value => claims[claim] = value,
    }
    claims
}

#[tokio::test]
async fn every_endpoint_rejects_a_request_without_a_token() {
    for endpoint in &ENDPOINTS {
        let path = endpoint_path(endpoint, "17-42");
        let request = Api::shared().request(endpoint.method, &path);
        with_valid_body(request, endpoint)
            .send()
            .await
            .expect_error(401, "unauthorized");
    }
}

#[tokio::test]
async fn every_endpoint_rejects_a_token_that_is_signed_with_another_secret() {
    let header = json!({"alg": "HS256"});
    let forged = sign_with(
        &header,
        &valid_claims(42),
        hmac::HMAC_SHA256,
        &"x".repeat(32),
    );
    for endpoint in &ENDPOINTS {
        let path = endpoint_path(endpoint, "17-42");
        let request = Api::shared().request(endpoint.method, &path);
        let response = request
            .header("authorization", format!("Bearer {forged}"))
            .send()
            .await;
        response.expect_error(401, "unauthorized");
    }
}

#[tokio::test]
async fn a_header_that_is_not_exactly_one_bearer_token_is_rejected() {
    let token = valid_token(42);
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
        totals_with_header(&header)
            .await
            .expect_error(401, "unauthorized");
    }
    let header_twice = Api::shared()
        .request("GET", "/totals")
        .header("authorization", format!("Bearer {token}"))
        .header("authorization", format!("Bearer {token}"));
    header_twice.send().await.expect_error(401, "unauthorized");
}

#[tokio::test]
async fn the_bearer_scheme_is_case_insensitive() {
    for scheme in ["bearer", "BEARER"] {
        totals_with_header(format!("{scheme} {}", valid_token(42)))
            .await
            .expect_status(200);
    }
}

#[tokio::test]
async fn a_token_with_changed_claims_is_rejected() {
    let token = valid_token(42);
    let [header, _, signature] = token.split('.').collect::<Vec<_>>()[..] else {
        panic!("a token has three parts")
    };
    let other_claims = BASE64.encode(valid_claims(43).to_string());
    totals_with_token(&format!("{header}.{other_claims}.{signature}"))
        .await
        .expect_error(401, "unauthorized");
}

#[tokio::test]
async fn the_token_cannot_choose_its_algorithm() {
    let unsigned = |alg: &str| {
        let header = BASE64.encode(json!({"alg": alg}).to_string());
        let claims = BASE64.encode(valid_claims(42).to_string());
        format!("{header}.{claims}.")
    };
    for alg in ["none", "None", "NONE", "HS256"] {
        totals_with_token(&unsigned(alg))
            .await
            .expect_error(401, "unauthorized");
    }
    for (alg, algorithm) in [
        ("HS384", hmac::HMAC_SHA384),
        ("HS512", hmac::HMAC_SHA512),
        ("RS256", hmac::HMAC_SHA256),
        ("ES256", hmac::HMAC_SHA256),
        ("EdDSA", hmac::HMAC_SHA256),
        ("hs256", hmac::HMAC_SHA256),
    ] {
        let header = json!({"alg": alg});
        let token = sign_with(&header, &valid_claims(42), algorithm, &secret());
        totals_with_token(&token)
            .await
            .expect_error(401, "unauthorized");
    }
}

#[tokio::test]
async fn a_key_or_key_url_in_the_token_header_is_not_trusted() {
    let attacker_secret = "the key that an attacker would like to be trusted";
    for (name, value) in [
        ("kid", json!("../../etc/passwd")),
        ("jku", json!("https://attacker.example/keys")),
        ("x5u", json!("https://attacker.example/chain")),
        (
            "jwk",
            json!({"kty": "oct", "alg": "HS256", "k": BASE64.encode(attacker_secret)}),
        ),
    ] {
        let header = json!({"alg": "HS256", name: value});
        let forged = sign_with(
            &header,
            &valid_claims(42),
            hmac::HMAC_SHA256,
            attacker_secret,
        );
        totals_with_token(&forged)
            .await
            .expect_error(401, "unauthorized");
    }
    let header = json!({"alg": "HS256", "kid": "any", "jku": "https://issuer.example/keys"});
    let valid = sign_with(&header, &valid_claims(42), hmac::HMAC_SHA256, &secret());
    totals_with_token(&valid).await.expect_status(200);
}

#[tokio::test]
async fn a_token_with_critical_extensions_is_rejected() {
    let header = json!({"alg": "HS256", "crit": ["b64"], "b64": true});
    let token = sign_with(&header, &valid_claims(42), hmac::HMAC_SHA256, &secret());
    totals_with_token(&token)
        .await
        .expect_error(401, "unauthorized");
}

#[tokio::test]
async fn a_token_expires_with_30_seconds_of_leeway() {
    totals_with_token(&sign(&claims_with("exp", json!(now_seconds() - 20))))
        .await
        .expect_status(200);
    totals_with_token(&sign(&claims_with("exp", json!(now_seconds() - 40))))
        .await
        .expect_error(401, "unauthorized");
}

#[tokio::test]
async fn a_token_is_not_valid_before_nbf_with_30_seconds_of_leeway() {
    totals_with_token(&sign(&claims_with("nbf", json!(now_seconds() + 20))))
        .await
        .expect_status(200);
    totals_with_token(&sign(&claims_with("nbf", json!(now_seconds() + 60))))
        .await
        .expect_error(401, "unauthorized");
    totals_with_token(&sign(&claims_with("nbf", json!("soon"))))
        .await
        .expect_error(401, "unauthorized");
}

#[tokio::test]
async fn a_token_without_a_numeric_expiry_is_rejected() {
    let number_as_text = json!((now_seconds() + 3_600).to_string());
    for exp in [
        Value::Null,
        number_as_text,
        json!(true),
        json!([]),
        json!({}),
        json!(-1),
    ] {
        totals_with_token(&sign(&claims_with("exp", exp)))
            .await
            .expect_error(401, "unauthorized");
    }
    let mut null = valid_claims(42);
    null["exp"] = Value::Null;
    totals_with_token(&sign(&null))
        .await
        .expect_error(401, "unauthorized");
}

#[tokio::test]
async fn sub_must_be_a_user_id_as_a_canonical_decimal_or_a_number() {
    for valid in [
        json!("42"),
        json!(42),
        json!("9007199254740991"),
        json!(9_007_199_254_740_991_u64),
    ] {
        totals_with_token(&sign(&claims_with("sub", valid)))
            .await
            .expect_status(200);
    }
    for invalid in [
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
        let response = totals_with_token(&sign(&claims_with("sub", invalid.clone()))).await;
        assert_eq!(response.status, 401, "sub {invalid}: {response:?}");
    }
}

#[tokio::test]
async fn sub_as_a_string_and_as_a_number_is_the_same_user() {
    let api = Api::shared();
    let (ann, ben) = (api.user(), api.user());
    ann.request_chat(&ben).await.expect_status(201);
    let mut by_number = ben.clone();
    by_number.token = sign(&json!({"sub": ben.id, "exp": now_seconds() + 60}));
    assert_eq!(by_number.totals().await, [1, 0, 0]);
}

#[tokio::test]
async fn issuer_and_audience_are_ignored_when_they_are_not_configured() {
    totals_with_token(&sign(&claims_with("iss", json!("https://any.example"))))
        .await
        .expect_status(200);
    totals_with_token(&sign(&claims_with("aud", json!(["any"]))))
        .await
        .expect_status(200);
}

#[tokio::test]
async fn a_token_over_8_kib_is_rejected() {
    let padded = |bytes: usize| sign(&claims_with("padding", json!("x".repeat(bytes))));
    // Base64 encodes three bytes as four.
    assert!(padded(5_900).len() <= 8 * 1_024);
    totals_with_token(&padded(5_900)).await.expect_status(200);
    assert!(padded(6_100).len() > 8 * 1_024);
    totals_with_token(&padded(6_100))
        .await
        .expect_error(401, "unauthorized");
}

#[tokio::test]
async fn a_token_that_has_a_claim_twice_that_the_service_uses_is_rejected() {
    let exp = now_seconds() + 60;
    for claims in [
        format!(r#"{{"sub":"42","sub":"43","exp":{exp}}}"#),
        format!(r#"{{"sub":"42","s\u0075b":"43","exp":{exp}}}"#),
        format!(r#"{{"sub":"42","exp":{exp},"exp":{exp}}}"#),
    ] {
        totals_with_token(&sign_json(&claims))
            .await
            .expect_error(401, "unauthorized");
    }
}

#[tokio::test]
async fn a_claim_that_the_service_does_not_use_can_contain_anything() {
    let exp = now_seconds() + 60;
    for other in [
        // Half of an emoji: a lone surrogate. Many languages cut texts there.
        r#""name":"\ud83d""#,
        r#""\udc00":1"#,
        r#""name":"a","name":"b""#,
        r#""number":1e999"#,
        r#""iss":7,"aud":{},"iat":"yesterday","jti":null"#,
    ] {
        let claims = format!(r#"{{{other},"sub":"42","exp":{exp}}}"#);
        totals_with_token(&sign_json(&claims))
            .await
            .expect_status(200);
    }
}

#[tokio::test]
async fn a_token_that_expires_more_than_ten_years_ahead_is_rejected() {
    let year = 365 * 24 * 60 * 60;
    let nine_years = json!(now_seconds() + 9 * year);
    totals_with_token(&sign(&claims_with("exp", nine_years)))
        .await
        .expect_status(200);
    // An expiry in milliseconds would be in 50,000 years.
    for exp in [
        json!(now_seconds() + 11 * year),
        json!((now_seconds() + 60) * 1_000),
    ] {
        totals_with_token(&sign(&claims_with("exp", exp)))
            .await
            .expect_error(401, "unauthorized");
    }
}
