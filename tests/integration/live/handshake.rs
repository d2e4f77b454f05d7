//! Which handshakes the authorizer accepts, and the configuration of the functions of push. The contract tests check
//! handshakes over the network; these tests send events to `authorize-connection` itself, with settings of a
//! deployment.

use chat_local::{InvokeError, StackOptions, realtime::RealtimeOptions};
use serde_json::{Map, Value, json};

use super::{LiveStack, PUSH_EVENTS};
use crate::support::{self, live::LiveClient, tokens};

const METHOD_ARN: &str = "arn:aws:execute-api:us-east-1:000000000000:local/live/$connect";

fn options_with(variables: &[(&str, &str)]) -> StackOptions {
    let mut options = support::stack_options();
    for (name, value) in variables {
        let variable = ((*name).to_owned(), (*value).to_owned());
        options.environment.extend([variable]);
    }
    options
}

async fn start_with(variables: &[(&str, &str)]) -> LiveStack {
    LiveStack::start_with(options_with(variables), RealtimeOptions::default()).await
}

/// The event of a handshake with these headers.
fn handshake(headers: &[(&str, &str)]) -> Value {
    let single: Map<String, Value> = headers
        .iter()
        .map(|(name, value)| ((*name).to_owned(), json!(value)))
        .collect();
    let multiple: Map<String, Value> = headers
        .iter()
        .map(|(name, value)| ((*name).to_owned(), json!([value])))
        .collect();
    json!({
        "type": "REQUEST",
        "methodArn": METHOD_ARN,
        "headers": single,
        "multiValueHeaders": multiple,
        "queryStringParameters": {},
        "requestContext": {
            "routeKey": "$connect",
            "eventType": "CONNECT",
            "connectionId": "aGFuZHNoYWtl=",
            "stage": "live",
            "domainName": "live.example.com",
            "apiId": "local",
            "requestId": "request",
            "identity": {"sourceIp": "127.0.0.1"},
            "connectedAt": 1_790_000_000_000_u64,
            "requestTimeEpoch": 1_790_000_000_000_u64,
        },
    })
}

/// The response of the authorizer to these headers.
async fn authorize(live: &LiveStack, headers: &[(&str, &str)]) -> Value {
    let event = handshake(headers);
    let response = live.stack().invoke("authorize-connection", event).await;
    response.unwrap_or_else(|error| panic!("{headers:?}: {error}"))
}

/// Whether the authorizer allows a handshake with these headers. Its policy is for this API alone.
async fn is_allowed(live: &LiveStack, headers: &[(&str, &str)]) -> bool {
    let response = authorize(live, headers).await;
    let statements = response["policyDocument"]["Statement"].as_array().unwrap();
    let [statement] = &statements[..] else {
        panic!("there is not exactly one statement: {response}")
    };
    assert_eq!(statement["Action"], "execute-api:Invoke");
    assert_eq!(statement["Resource"], METHOD_ARN);
    let is_allowed = statement["Effect"] == "Allow";
    assert!(is_allowed || statement["Effect"] == "Deny", "{response}");
    // A handshake that is refused has no user.
    assert_eq!(response["context"].is_object(), is_allowed, "{response}");
    is_allowed
}

/// The headers of a handshake as a browser sends them.
fn protocols(token: &str) -> String {
    format!("chat.v1, {token}")
}

#[tokio::test]
async fn the_context_has_the_user_and_the_expiry_of_the_token() {
    let live = start_with(&[]).await;
    let claims = tokens::valid_claims(42);
    let token = tokens::sign(&claims);
    let bearer = format!("Bearer {token}");
    for headers in [
        vec![("Sec-WebSocket-Protocol", protocols(&token))],
        vec![("sec-websocket-protocol", protocols(&token))],
        vec![("SEC-WEBSOCKET-PROTOCOL", format!("{token},chat.v1"))],
        vec![
            ("Sec-WebSocket-Protocol", "chat.v1".to_owned()),
            ("Authorization", bearer.clone()),
        ],
        vec![
            ("sec-websocket-protocol", "chat.v1".to_owned()),
            ("authorization", bearer.clone()),
        ],
    ] {
        let headers: Vec<_> = headers
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        assert!(is_allowed(&live, &headers).await, "{headers:?}");
        let response = authorize(&live, &headers).await;
        assert_eq!(response["principalId"], "42");
        let expiry = claims["exp"].to_string();
        let expected = json!({"userId": "42", "tokenExpiresAt": expiry});
        assert_eq!(response["context"], expected, "{headers:?}");
    }
}

#[tokio::test]
async fn a_token_of_another_issuer_or_for_another_audience_is_refused() {
    let live = start_with(&[
        ("JWT_ISSUER", "https://issuer.example"),
        ("JWT_AUDIENCE", "chat,other"),
    ])
    .await;
    let token = |issuer: Value, audience: Value| {
        let mut claims = tokens::valid_claims(42);
        claims["iss"] = issuer;
        claims["aud"] = audience;
        tokens::sign(&claims)
    };
    let (issuer, audience) = (json!("https://issuer.example"), json!("chat"));
    for (issuer, audience, expected) in [
        (issuer.clone(), audience.clone(), true),
        (issuer.clone(), json!("other"), true),
        (issuer.clone(), json!(["unknown", "chat"]), true),
        (json!("https://other.example"), audience.clone(), false),
        (json!("https://issuer.example/"), audience.clone(), false),
        (Value::Null, audience.clone(), false),
        (issuer.clone(), json!("unknown"), false),
        (issuer.clone(), json!("chat,other"), false),
        (issuer.clone(), json!([]), false),
        (issuer, Value::Null, false),
    ] {
        let token = token(issuer.clone(), audience.clone());
        let offered = protocols(&token);
        let headers = [("Sec-WebSocket-Protocol", offered.as_str())];
        let is_allowed = is_allowed(&live, &headers).await;
        assert_eq!(is_allowed, expected, "{issuer}, {audience}");
    }
}

#[tokio::test]
async fn the_rules_for_tokens_apply_over_the_network_too() {
    let live = start_with(&[("JWT_AUDIENCE", "chat")]).await;
    let user = live.api().user();
    let mut claims = tokens::valid_claims(user.id);
    let url = live.api().live_url();
    for (audience, expected) in [("other", Some(403)), ("chat", None)] {
        claims["aud"] = json!(audience);
        let token = tokens::sign(&claims);
        let handshake = LiveClient::try_connect(&url, &["chat.v1", &token], &[]).await;
        assert_eq!(handshake.err(), expected, "{audience}");
    }
    // A renewal follows the same rules.
    let token = tokens::sign(&claims);
    let client = LiveClient::try_connect(&url, &["chat.v1", &token], &[]).await;
    let Ok(mut client) = client else {
        panic!("the handshake fails")
    };
    for (audience, kind) in [("other", "error"), ("chat", "renewed")] {
        claims["aud"] = json!(audience);
        let renew = json!({"type": "renew", "token": tokens::sign(&claims)});
        client.send(&renew).await;
        assert_eq!(client.next_control().await["type"], kind, "{audience}");
    }
}

#[tokio::test]
async fn only_pages_of_allowed_origins_may_connect() {
    const ORIGINS: [&str; 7] = [
        "https://app.example.com",
        "https://APP.example.com",
        "https://app.example.com:8443",
        "https://app.example.com.evil.example",
        "http://app.example.com",
        "http://localhost:5173",
        "null",
    ];
    for (setting, allowed) in [
        ("", ORIGINS.to_vec()),
        ("*", ORIGINS.to_vec()),
        (
            "https://app.example.com",
            vec!["https://app.example.com", "https://APP.example.com"],
        ),
        (
            "https://other.example, http://localhost:5173",
            vec!["http://localhost:5173"],
        ),
        (
            "https://*",
            vec![
                "https://app.example.com",
                "https://APP.example.com",
                "https://app.example.com:8443",
                "https://app.example.com.evil.example",
            ],
        ),
        (
            "http://*,https://app.example.com:8443",
            vec![
                "https://app.example.com:8443",
                "http://app.example.com",
                "http://localhost:5173",
            ],
        ),
        ("https://none.example", vec![]),
    ] {
        let live = start_with(&[("ALLOWED_ORIGINS", setting)]).await;
        let offered = protocols(&tokens::valid_token(42));
        let protocol = ("Sec-WebSocket-Protocol", offered.as_str());
        for origin in ORIGINS {
            for name in ["Origin", "origin"] {
                let is_allowed = is_allowed(&live, &[protocol, (name, origin)]).await;
                let expected = allowed.contains(&origin);
                assert_eq!(is_allowed, expected, "{setting:?}: {name}: {origin}");
            }
        }
        // Apps and servers send none.
        assert!(is_allowed(&live, &[protocol]).await, "{setting:?}");
    }
}

#[tokio::test]
async fn a_handshake_without_a_token_or_without_the_protocol_is_refused() {
    let live = start_with(&[]).await;
    let token = tokens::valid_token(42);
    let bearer = format!("Bearer {token}");
    let expired = {
        let mut claims = tokens::valid_claims(42);
        claims["exp"] = json!(tokens::now_seconds() - 120);
        tokens::sign(&claims)
    };
    let name = "Sec-WebSocket-Protocol";
    for headers in [
        vec![],
        vec![(name, "chat.v1".to_owned())],
        vec![(name, token.clone())],
        vec![(name, format!("chat.v2, {token}"))],
        vec![(name, format!("CHAT.V1, {token}"))],
        vec![(name, format!("chat.v1, {token}, {token}"))],
        vec![(name, protocols(&expired))],
        vec![(name, protocols("token"))],
        vec![(name, protocols(&token[..token.len() - 4]))],
        vec![("Authorization", bearer.clone())],
        vec![
            (name, "chat.v1".to_owned()),
            ("Authorization", token.clone()),
        ],
        vec![(name, "chat.v1".to_owned()), ("Cookie", bearer.clone())],
    ] {
        let headers: Vec<_> = headers
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        assert!(!is_allowed(&live, &headers).await, "{headers:?}");
    }
    // A token in the URL would be written to logs.
    let mut event = handshake(&[(name, "chat.v1")]);
    event["queryStringParameters"] = json!({"token": token, "access_token": token});
    let response = live.stack().invoke("authorize-connection", event).await;
    let statement = &response.unwrap()["policyDocument"]["Statement"][0];
    assert_eq!(statement["Effect"], "Deny");
}

/// An event that no client of the gateway can cause. The function must not end, or the next handshake would start it
/// again.
#[tokio::test]
async fn an_odd_event_is_refused_and_the_next_handshake_works() {
    let live = start_with(&[]).await;
    let offered = protocols(&tokens::valid_token(42));
    let headers = [("Sec-WebSocket-Protocol", offered.as_str())];
    assert!(is_allowed(&live, &headers).await);
    let instances = live.stack().instance_pids("authorize-connection");
    let without = |member: &str| {
        let mut event = handshake(&headers);
        event.as_object_mut().unwrap().remove(member);
        event
    };
    let mut nameless = handshake(&headers);
    nameless["headers"] = Value::Null;
    nameless["multiValueHeaders"] = Value::Null;
    for event in [
        json!({}),
        json!("handshake"),
        Value::Null,
        nameless,
        without("methodArn"),
    ] {
        let response = live.stack().invoke("authorize-connection", event.clone());
        if let Ok(response) = response.await {
            let statement = &response["policyDocument"]["Statement"][0];
            assert_eq!(statement["Effect"], "Deny", "{event}");
        }
    }
    assert!(is_allowed(&live, &headers).await);
    let after = live.stack().instance_pids("authorize-connection");
    assert_eq!(after, instances);
}

/// Why a function does not start with these variables.
async fn init_error(function: &str, variables: &[(&str, &str)]) -> Option<InvokeError> {
    let live = start_with(variables).await;
    let event = match function {
        "authorize-connection" => handshake(&[]),
        PUSH_EVENTS => json!({"Records": []}),
        _ => json!({"requestContext": {
            "connectionId": "aW5pdA==", "connectedAt": 1, "routeKey": "$disconnect",
            "authorizer": {"principalId": "42", "userId": "42", "tokenExpiresAt": "1790000000"},
        }}),
    };
    live.stack().invoke(function, event).await.err()
}

#[tokio::test]
async fn a_function_does_not_start_with_an_invalid_configuration() {
    const ENDPOINT: &str = "AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI";

    for (function, variables) in [
        ("open-connection", [(ENDPOINT, "")]),
        ("receive-frame", [(ENDPOINT, "")]),
        (PUSH_EVENTS, [(ENDPOINT, "")]),
        ("authorize-connection", [("JWT_SECRET", "short")]),
        ("authorize-connection", [("JWT_SECRET", "")]),
        ("authorize-connection", [("JWT_AUDIENCE", " , ")]),
        ("receive-frame", [("JWT_SECRET", "short")]),
        ("receive-frame", [("JWT_SECRET", "")]),
        ("receive-frame", [("TYPING", "maybe")]),
        ("open-connection", [("LOG_LEVEL", "loud")]),
        ("close-connection", [("LOG_LEVEL", "loud")]),
        (PUSH_EVENTS, [("LOG_LEVEL", "loud")]),
    ] {
        let error = init_error(function, &variables).await;
        assert!(
            matches!(error, Some(InvokeError::InitFailed(_))),
            "{function}, {variables:?}: {error:?}"
        );
    }
}

/// These functions check no token, so they need no key.
#[tokio::test]
async fn a_function_that_verifies_no_token_starts_without_a_key() {
    for function in ["open-connection", "close-connection", PUSH_EVENTS] {
        let error = init_error(function, &[("JWT_SECRET", "")]).await;
        assert!(error.is_none(), "{function}: {error:?}");
    }
}

#[tokio::test]
async fn with_typing_off_a_typing_frame_has_no_effect_and_is_no_error() {
    for (setting, is_on) in [("on", true), ("", true), ("off", false)] {
        let live = start_with(&[("TYPING", setting)]).await;
        let (ann, ben, chat) = live.api().active_chat().await;
        let mut sender = LiveClient::connect(&ann).await;
        let mut receiver = LiveClient::connect(&ben).await;
        let typing = json!({"type": "typing", "chatId": chat});
        sender.send(&typing).await;
        // Frames of one client are handled one after the other.
        sender.sync().await;
        ann.send(&chat, "hi").await.expect_status(201);
        let mut kinds = Vec::new();
        loop {
            let event = receiver.next_event().await;
            let kind = event["type"].as_str().unwrap().to_owned();
            let is_last = kind == "message.created";
            kinds.push(kind);
            if is_last {
                break;
            }
        }
        let is_typing = kinds.contains(&"typing".to_owned());
        assert_eq!(is_typing, is_on, "{setting:?}: {kinds:?}");
    }
}

/// Each handshake evicts the oldest connections, which can be others that are not finished yet. A client must not keep
/// a connection that gets no events.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_connection_of_many_handshakes_at_once_gets_events_or_is_closed() {
    let live = start_with(&[]).await;
    let (ann, ben, chat) = live.api().active_chat().await;
    let connect = |user: support::User| async move {
        let protocols = ["chat.v1", user.token.as_str()];
        LiveClient::try_connect(&user.api.live_url(), &protocols, &[]).await
    };
    let handshakes = support::run_concurrently((0..14).map(|_| connect(ben.clone()))).await;
    let refused = handshakes.iter().filter_map(|result| result.as_ref().err());
    let refused: Vec<_> = refused.copied().collect();
    assert!(refused.iter().all(|status| *status == 429), "{refused:?}");
    // It evicts those that are too many.
    let last = LiveClient::connect(&ben).await;
    let clients: Vec<_> = handshakes.into_iter().flatten().chain([last]).collect();
    ann.send(&chat, "hi").await.expect_status(201);
    let gets_events = |mut client: LiveClient| async move {
        while let Some(frame) = client.next().await {
            let events = frame["events"].as_array().into_iter().flatten();
            if events
                .into_iter()
                .any(|event| event["type"] == "message.created")
            {
                return Some(client);
            }
        }
        None
    };
    let open = support::run_concurrently(clients.into_iter().map(gets_events)).await;
    let open = open.iter().flatten().count();
    assert!((1..=10).contains(&open), "{open}");
    assert_eq!(live.connections(&ben).await.len(), open);
}

/// It starts within a millisecond, because it opens no connection to the table. So it can ask for its event before the
/// development server has seen its process.
#[tokio::test]
async fn a_handshake_succeeds_however_fast_the_authorizer_starts() {
    let live = start_with(&[]).await;
    let user = live.api().user();
    let kill = live.killer("authorize-connection");
    for _ in 0..40 {
        LiveClient::connect(&user).await;
        kill();
        crate::eventually("the process ends", async || {
            live.stack()
                .instance_pids("authorize-connection")
                .is_empty()
        })
        .await;
    }
}
