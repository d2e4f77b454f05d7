//! Configuration tests: the environment variables of the functions. `signing_keys` tests those of the keys.

use aws_sdk_dynamodb::types::AttributeValue;
use chat_local::{Database, StackOptions};
use chat_shared::auth::DEVELOPMENT_SECRET;
use ring::hmac;
use serde_json::{Value, json};

use crate::{
    TestStack,
    dynamodb_proxy::ProxiedStack,
    invariants::invariant_violations,
    options_with_template,
    support::{self, Api, Response, User, run_concurrently, tokens},
};

/// A secret that a deployment could have.
const SECRET: &str = "a secret of these tests, of 32 bytes or more";

fn options_with(variables: &[(&str, &str)]) -> StackOptions {
    let mut options = support::stack_options();
    for (name, value) in variables {
        options
            .environment
            .insert((*name).to_owned(), (*value).to_owned());
    }
    options
}

async fn start_with(variables: &[(&str, &str)]) -> TestStack {
    TestStack::start_with(options_with(variables)).await
}

#[tokio::test]
async fn open_requests_are_capped_and_an_accepted_or_declined_request_no_longer_counts() {
    let stack = start_with(&[("MAX_OPEN_REQUESTS", "2")]).await;
    let api = &stack.api;
    let (me, ben, cat, dan) = (api.user(), api.user(), api.user(), api.user());
    me.request_chat(&ben).await.expect_status(201);
    me.request_chat(&cat).await.expect_status(201);
    me.request_chat(&dan)
        .await
        .expect_error(429, "too_many_pending_requests");
    assert_eq!(dan.totals().await, [0, 0, 0]);
    // Repeating an open request does not count.
    me.request_chat(&ben).await.expect_status(200);
    ben.decline(&me.chat_id_with(&ben)).await.expect_status(200);
    me.request_chat(&dan).await.expect_status(201);
    // A request in the other direction, after the chat was declined, counts.
    let eve = api.user();
    eve.request_chat(&me).await.expect_status(201);
    me.decline(&me.chat_id_with(&eve)).await.expect_status(200);
    me.request_chat(&eve)
        .await
        .expect_error(429, "too_many_pending_requests");
    // A request that accepts the other user's request does not count.
    let fay = api.user();
    fay.request_chat(&me).await.expect_status(201);
    me.request_chat(&fay).await.expect_status(200);
    assert_eq!(me.totals().await, [0, 0, 2]);
}

#[tokio::test]
async fn the_cap_is_exact_when_chat_requests_are_sent_at_once() {
    let stack = start_with(&[("MAX_OPEN_REQUESTS", "3")]).await;
    let me = stack.api.user();
    let requests = (0..12).map(|_| {
        let (me, other) = (me.clone(), stack.api.user());
        async move { me.request_chat(&other).await.status }
    });
    let mut statuses = run_concurrently(requests).await;
    statuses.sort_unstable();
    assert_eq!(statuses, [[201; 3].as_slice(), &[429; 9]].concat());
    assert_eq!(me.totals().await, [0, 0, 3]);
}

#[tokio::test]
async fn zero_means_no_cap_and_the_default_cap_is_100() {
    let uncapped = start_with(&[("MAX_OPEN_REQUESTS", "0")]).await;
    let default = TestStack::start().await;
    let (free, capped) = (uncapped.api.user(), default.api.user());
    for _ in 0..100 {
        free.request_chat(&uncapped.api.user())
            .await
            .expect_status(201);
        capped
            .request_chat(&default.api.user())
            .await
            .expect_status(201);
    }
    free.request_chat(&uncapped.api.user())
        .await
        .expect_status(201);
    capped
        .request_chat(&default.api.user())
        .await
        .expect_error(429, "too_many_pending_requests");
}

#[tokio::test]
async fn a_withdrawn_request_no_longer_counts_and_counts_again_when_it_is_sent_again() {
    let stack = start_with(&[("MAX_OPEN_REQUESTS", "1")]).await;
    let api = &stack.api;
    let (me, ben, cat) = (api.user(), api.user(), api.user());
    me.request_chat(&ben).await.expect_status(201);
    me.request_chat(&cat)
        .await
        .expect_error(429, "too_many_pending_requests");
    me.withdraw(&me.chat_id_with(&ben)).await.expect_status(200);
    me.request_chat(&cat).await.expect_status(201);
    // The withdrawn chat, requested again, is one too many.
    me.request_chat(&ben)
        .await
        .expect_error(429, "too_many_pending_requests");
    let shown = me.get_chat(&me.chat_id_with(&ben)).await;
    assert_eq!(shown.expect_status(200).body["status"], "withdrawn");
    assert_eq!(me.totals().await, [0, 0, 1]);
    // A block comes before the cap.
    let dan = api.user();
    me.block(&dan).await.expect_status(200);
    me.request_chat(&dan).await.expect_error(409, "you_blocked");
    // A block withdraws the request.
    me.block(&cat).await.expect_status(200);
    me.request_chat(&ben).await.expect_status(200);
    assert_eq!(me.totals().await, [0, 0, 1]);
    assert_eq!(invariant_violations(&stack.table).await, [""; 0]);
}

#[tokio::test]
async fn a_request_to_a_user_who_blocks_counts_as_usual() {
    let stack = start_with(&[("MAX_OPEN_REQUESTS", "1")]).await;
    let api = &stack.api;
    let (me, ben, cat) = (api.user(), api.user(), api.user());
    for other in [&ben, &cat] {
        other.block(&me).await.expect_status(200);
    }
    me.request_chat(&ben).await.expect_status(201);
    me.request_chat(&ben).await.expect_status(200);
    me.request_chat(&cat)
        .await
        .expect_error(429, "too_many_pending_requests");
    assert_eq!(me.totals().await, [0, 0, 1]);
    me.get_chat(&me.chat_id_with(&cat))
        .await
        .expect_error(404, "chat_not_found");
    me.withdraw(&me.chat_id_with(&ben)).await.expect_status(200);
    me.request_chat(&cat).await.expect_status(201);
    assert_eq!(invariant_violations(&stack.table).await, [""; 0]);
}

/// Makes a message look as if it was sent this many seconds ago.
async fn age_message(stack: &TestStack, chat: &str, seq: u64, seconds: u64) {
    let sent = (tokens::now_seconds() - seconds) * 1_000;
    let (pk, sk) = (format!("CHAT#{chat}"), format!("MSG#{seq:016}"));
    let sent = AttributeValue::N(sent.to_string());
    stack.table.set(&pk, &sk, "createdAt", sent).await;
}

/// A chat on this stack in which the first user has sent a text and the second one another.
async fn chat_with_messages(stack: &TestStack) -> (User, User, String) {
    let (ann, ben, chat) = stack.api.active_chat().await;
    ann.send(&chat, "from ann").await.expect_status(201);
    ben.send(&chat, "from ben").await.expect_status(201);
    (ann, ben, chat)
}

/// Less than the duration of a test.
const MINUTE: u64 = 60;
const DAY: u64 = 24 * 60 * MINUTE;

#[tokio::test]
async fn a_message_can_be_edited_for_the_configured_time_by_default_a_day() {
    for (variables, window) in [
        (vec![], DAY),
        (vec![("EDIT_WINDOW_SECONDS", "")], DAY),
        (vec![("EDIT_WINDOW_SECONDS", "3600")], 3_600),
    ] {
        let stack = start_with(&variables).await;
        let (ann, _, chat) = chat_with_messages(&stack).await;
        age_message(&stack, &chat, 1, window - MINUTE).await;
        let edit = json!({"text": "edited", "imageUrl": null});
        let edited = ann.edit(&chat, 1, &edit).await.expect_status(200);
        age_message(&stack, &chat, 1, window + MINUTE).await;
        let before = stack.table.chat(&chat).await;
        ann.edit_text(&chat, 1, "too late")
            .await
            .expect_error(409, "edit_window_closed");
        // What is decided before the time limit.
        ann.edit(&chat, 1, &json!({"text": null}))
            .await
            .expect_invalid("`text`");
        // The same edit again changes nothing.
        for same in [&edit, &json!({"text": "edited"})] {
            let again = ann.edit(&chat, 1, same).await.expect_status(200);
            assert_eq!(again.body["text"], "edited");
            assert_eq!(again.body["editedAt"], edited.body["editedAt"]);
        }
        assert_eq!(stack.table.chat(&chat).await, before);
        // Deleting has a limit of its own, by default none.
        age_message(&stack, &chat, 1, 3_650 * DAY).await;
        ann.delete_message(&chat, 1).await.expect_status(200);
        ann.edit_text(&chat, 1, "edited")
            .await
            .expect_error(409, "message_deleted");
    }
}

#[tokio::test]
async fn zero_means_that_messages_can_be_edited_forever() {
    let stack = start_with(&[("EDIT_WINDOW_SECONDS", "0")]).await;
    let (ann, _, chat) = chat_with_messages(&stack).await;
    age_message(&stack, &chat, 1, 3_650 * DAY).await;
    ann.edit_text(&chat, 1, "edited").await.expect_status(200);
    assert_eq!(invariant_violations(&stack.table).await, [""; 0]);
}

#[tokio::test]
async fn a_message_can_be_deleted_for_the_configured_time() {
    let stack = start_with(&[("DELETE_WINDOW_SECONDS", "3600")]).await;
    let (ann, ben, chat) = chat_with_messages(&stack).await;
    ann.send(&chat, "more").await.expect_status(201);
    age_message(&stack, &chat, 1, 3_600 - MINUTE).await;
    let deleted = ann.delete_message(&chat, 1).await.expect_status(200);
    for seq in [1, 3] {
        age_message(&stack, &chat, seq, 3_600 + MINUTE).await;
    }
    let before = stack.table.everything().await;
    ann.delete_message(&chat, 3)
        .await
        .expect_error(409, "delete_window_closed");
    let again = ann.delete_message(&chat, 1).await.expect_status(200);
    assert_eq!(again.body["deletedAt"], deleted.body["deletedAt"]);
    ben.delete_message(&chat, 3)
        .await
        .expect_error(403, "not_the_sender");
    assert_eq!(stack.table.everything().await, before);
    // Editing has a limit of its own.
    ann.edit_text(&chat, 3, "edited").await.expect_status(200);
    for variables in [
        [("DELETE_WINDOW_SECONDS", "0")],
        [("DELETE_WINDOW_SECONDS", "")],
    ] {
        let stack = start_with(&variables).await;
        let (ann, _, chat) = chat_with_messages(&stack).await;
        age_message(&stack, &chat, 1, 3_650 * DAY).await;
        ann.delete_message(&chat, 1).await.expect_status(200);
    }
}

/// For the user who blocks, the block comes before the time limit, and for the one who is blocked after it.
#[tokio::test]
async fn a_time_limit_comes_before_the_block_of_the_other_member_and_after_the_own_block() {
    let stack = TestStack::start().await;
    let (ann, ben, chat) = chat_with_messages(&stack).await;
    for seq in [1, 2] {
        age_message(&stack, &chat, seq, DAY + MINUTE).await;
    }
    ann.block(&ben).await.expect_status(200);
    ann.edit_text(&chat, 1, "edited")
        .await
        .expect_error(409, "you_blocked");
    ben.edit_text(&chat, 2, "edited")
        .await
        .expect_error(409, "edit_window_closed");
    // An edit that changes nothing has no time limit, but is refused all the same.
    ann.edit_text(&chat, 1, "from ann")
        .await
        .expect_error(409, "you_blocked");
    ben.edit_text(&chat, 2, "from ben")
        .await
        .expect_error(409, "peer_unavailable");
}

/// The requests that a deployment with `SAFETY_FEATURES=off` refuses. Ann has sent message 1 and Ben message 2,
/// and Cat has requested a chat with Ann.
async fn refused_requests(ann: &User, ben: &User, cat: &User) -> Vec<(&'static str, Response)> {
    let chat = ann.chat_id_with(ben);
    let report = json!({"userId": ben.id, "reason": "spam"});
    let with_block = json!({"userId": ben.id, "seq": 2, "reason": "spam", "block": true});
    vec![
        ("edit", ann.edit_text(&chat, 1, "edited").await),
        ("the same edit", ann.edit_text(&chat, 1, "from ann").await),
        ("edit none", ann.edit_text(&chat, 99, "edited").await),
        ("delete", ann.delete_message(&chat, 1).await),
        ("delete another's", ann.delete_message(&chat, 2).await),
        ("withdraw", cat.withdraw(&cat.chat_id_with(ann)).await),
        ("withdraw, active", ann.withdraw(&chat).await),
        ("block", ann.block(ben).await),
        ("unblock", ann.unblock(ben).await),
        ("report", ann.report(&report).await),
        ("report with block", ann.report(&with_block).await),
        ("mark up to", ann.mark_up_to(&chat, 2).await),
        ("mark beyond", ann.mark_up_to(&chat, 99).await),
    ]
}

#[tokio::test]
async fn with_the_safety_features_off_nothing_new_is_written_and_no_item_is_read() {
    let options = options_with(&[("SAFETY_FEATURES", "off")]);
    let proxied = ProxiedStack::start_with(options).await;
    let stack = &proxied.stack;
    let (ann, ben, _) = chat_with_messages(stack).await;
    let cat = stack.api.user();
    cat.request_chat(&ann).await.expect_status(201);
    let before = stack.table.everything().await;
    proxied.drain_cost();
    for (request, response) in refused_requests(&ann, &ben, &cat).await {
        assert_eq!(response.status, 503, "{request}: {response:?}");
        response.expect_error(503, "unavailable");
        assert!(response.header("retry-after").is_some(), "{request}");
        let message = response.body["message"].as_str().unwrap();
        assert!(message.contains("not enabled"), "{request}: {message}");
    }
    assert_eq!(proxied.drain_cost().operations.len(), 0);
    assert_eq!(stack.table.everything().await, before);
}

#[tokio::test]
async fn with_the_safety_features_off_invalid_requests_get_their_own_errors() {
    let stack = start_with(&[("SAFETY_FEATURES", "off")]).await;
    let (ann, ben, chat) = chat_with_messages(&stack).await;
    let stranger = stack.api.user();
    ann.edit_text(&chat, 1, "").await.expect_invalid("`text`");
    ann.edit(&chat, 1, &json!({}))
        .await
        .expect_invalid("`text`");
    ann.block(&ann).await.expect_invalid("`userId`");
    ann.delete("/blocks/042").await.expect_invalid("`userId`");
    ann.report(&json!({"userId": ben.id}))
        .await
        .expect_invalid("`reason`");
    ann.mark_with(&chat, &json!({"seq": 0}))
        .await
        .expect_invalid("`seq`");
    for seq in ["0", "01", "x"] {
        let path = format!("/chats/{chat}/messages/{seq}");
        for response in [
            ann.delete(&path).await,
            ann.patch(&path, &json!({"text": "a"})).await,
        ] {
            response.expect_error(404, "message_not_found");
        }
    }
    for response in [
        stranger.edit_text(&chat, 1, "a").await,
        stranger.delete_message(&chat, 1).await,
        stranger.withdraw(&chat).await,
        stranger.mark_up_to(&chat, 1).await,
    ] {
        response.expect_error(404, "chat_not_found");
    }
    let request = stack.api.request("PUT", "/blocks/42");
    request.send().await.expect_error(401, "unauthorized");
}

#[tokio::test]
async fn with_the_safety_features_off_everything_else_works() {
    let stack = start_with(&[("SAFETY_FEATURES", "off")]).await;
    let (ann, ben, chat) = chat_with_messages(&stack).await;
    let shown = ben.get_chat(&chat).await.expect_status(200).body;
    assert_eq!(
        [&shown["rev"], &shown["blocked"]],
        [&json!(0), &json!(false)]
    );
    assert_eq!(ben.changes(&chat, "").await.seqs(), [0_u64; 0]);
    ben.wait_for_blocks("/blocks", &[], false).await;
    // Marking all messages, in each way to say so.
    for body in [json!({}), json!({"seq": null})] {
        ben.mark_with(&chat, &body).await.expect_status(200);
        assert_eq!(ben.totals().await, [0, 0, 0]);
        ann.send(&chat, "more").await.expect_status(201);
    }
    ben.mark_read(&chat).await.expect_status(200);
    assert_eq!(ben.totals().await, [0, 0, 0]);
    let other = stack.api.user();
    other.request_chat(&ann).await.expect_status(201);
    ann.decline(&other.chat_id_with(&ann))
        .await
        .expect_status(200);
    assert_eq!(invariant_violations(&stack.table).await, [""; 0]);
}

/// What both members see of a chat.
async fn visible(members: [&User; 2], chat: &str) -> Value {
    let mut visible = Vec::new();
    for member in members {
        for response in [
            member.get_chat(chat).await,
            member.messages(chat, "").await,
            member.changes(chat, "").await,
            member.blocks("").await,
            member.get("/totals").await,
            member.get("/chats").await,
        ] {
            visible.push(response.expect_status(200).body);
        }
    }
    Value::Array(visible)
}

/// The first step of an upgrade, and a deployment that was switched off again: what another deployment has written
/// to the same table is honoured.
#[tokio::test]
async fn with_the_safety_features_off_what_was_written_with_them_is_honoured() {
    let on = start_with(&[("SAFETY_FEATURES", "on")]).await;
    let mut options = options_with(&[("SAFETY_FEATURES", "off")]);
    options.database = Database::Endpoint(on.stack.dynamodb_endpoint().to_owned());
    let off = TestStack::start_with(options).await;
    let as_user = |user: &User, api: &Api| api.user_with_id(user.id);

    let (ann, ben, chat) = chat_with_messages(&on).await;
    ben.send_with_key(&chat, "key", "more")
        .await
        .expect_status(201);
    ben.edit_text(&chat, 2, "edited").await.expect_status(200);
    ben.delete_message(&chat, 3).await.expect_status(200);
    ann.block(&ben).await.expect_status(200);
    let (cat, dan) = (on.api.user(), on.api.user());
    cat.request_chat(&dan).await.expect_status(201);
    cat.withdraw(&cat.chat_id_with(&dan))
        .await
        .expect_status(200);
    let eve = on.api.user();
    ann.block(&eve).await.expect_status(200);

    let [ann_off, ben_off, dan_off, eve_off] =
        [&ann, &ben, &dan, &eve].map(|user| as_user(user, &off.api));
    let expected = visible([&ann, &ben], &chat).await;
    assert_eq!(visible([&ann_off, &ben_off], &chat).await, expected);
    ben_off
        .send(&chat, "hi")
        .await
        .expect_error(409, "peer_unavailable");
    for response in [
        ann_off.send(&chat, "hi").await,
        ann_off.mark_read(&chat).await,
        ann_off.request_chat(&ben).await,
    ] {
        response.expect_error(409, "you_blocked");
    }
    let replayed = ben_off.send_with_key(&chat, "key", "more").await;
    let replayed = replayed.expect_status(200);
    assert!(replayed.body["deletedAt"].is_string(), "{replayed:?}");
    // A request to a user who blocks is hidden, and a withdrawn chat can be requested.
    eve_off.request_chat(&ann).await.expect_status(201);
    assert_eq!(ann_off.totals().await, [0, 0, 0]);
    dan_off.request_chat(&cat).await.expect_status(200);
    assert_eq!(cat.totals().await, [1, 0, 0]);
    ben_off.mark_read(&chat).await.expect_status(200);
    assert_eq!(invariant_violations(&on.table).await, [""; 0]);
}

#[tokio::test]
async fn the_safety_features_are_on_unless_they_are_off() {
    for options in [
        options_with(&[("SAFETY_FEATURES", "on")]),
        options_with(&[("SAFETY_FEATURES", "")]),
        // Without the variable.
        options_with_template("        SAFETY_FEATURES: !Ref SafetyFeatures\n", ""),
    ] {
        let stack = TestStack::start_with(options).await;
        let (ann, ben, chat) = chat_with_messages(&stack).await;
        ann.edit_text(&chat, 1, "edited").await.expect_status(200);
        ann.block(&ben).await.expect_status(200);
    }
}

#[tokio::test]
async fn tokens_must_have_the_configured_issuer_and_audience() {
    let stack = start_with(&[
        ("JWT_ISSUER", "https://id.example"),
        ("JWT_AUDIENCE", "chat"),
    ])
    .await;
    let status = async |issuer: serde_json::Value, audience: serde_json::Value| {
        let mut claims = tokens::valid_claims(42);
        for (name, value) in [("iss", issuer), ("aud", audience)] {
            if !value.is_null() {
                claims[name] = value;
            }
        }
        let request = stack.api.request("GET", "/totals");
        let token = format!("Bearer {}", tokens::sign(&claims));
        request.header("authorization", token).send().await.status
    };
    let (ours, absent) = (json!("https://id.example"), json!(null));
    assert_eq!(status(ours.clone(), json!("chat")).await, 200);
    assert_eq!(status(ours.clone(), json!(["other", "chat"])).await, 200);
    assert_eq!(status(absent.clone(), json!("chat")).await, 401);
    assert_eq!(status(ours.clone(), absent).await, 401);
    assert_eq!(
        status(json!("https://evil.example"), json!("chat")).await,
        401
    );
    assert_eq!(
        status(json!("https://id.example/"), json!("chat")).await,
        401
    );
    assert_eq!(status(ours.clone(), json!("other")).await, 401);
    assert_eq!(status(ours.clone(), json!(["other"])).await, 401);
    assert_eq!(status(ours, json!([])).await, 401);
}

#[tokio::test]
async fn several_issuers_and_audiences_are_separated_by_commas() {
    let stack = start_with(&[
        ("JWT_ISSUER", "https://a.example,https://b.example/"),
        ("JWT_AUDIENCE", " web , mobile,"),
    ])
    .await;
    let status = async |issuer: &str, audience: serde_json::Value| {
        let mut claims = tokens::valid_claims(42);
        claims["iss"] = json!(issuer);
        claims["aud"] = audience;
        let request = stack.api.request("GET", "/totals");
        let token = format!("Bearer {}", tokens::sign(&claims));
        request.header("authorization", token).send().await.status
    };
    for issuer in ["https://a.example", "https://b.example/"] {
        for audience in [json!("web"), json!("mobile"), json!(["other", "mobile"])] {
            assert_eq!(status(issuer, audience).await, 200);
        }
        for audience in [json!("other"), json!("web , mobile"), json!("")] {
            assert_eq!(status(issuer, audience).await, 401);
        }
    }
    for issuer in [
        "https://b.example",
        "https://a.example,https://b.example/",
        "",
    ] {
        assert_eq!(status(issuer, json!("web")).await, 401);
    }
}

#[tokio::test]
async fn tokens_must_have_the_configured_token_use_and_typ() {
    let stack = start_with(&[("JWT_TOKEN_USE", "access"), ("JWT_TYP", "at+jwt")]).await;
    let status = async |token_use: &str, typ: &str| {
        let mut claims = tokens::valid_claims(42);
        claims["token_use"] = json!(token_use);
        let header = json!({"alg": "HS256", "typ": typ});
        let secret = support::secret();
        let token = tokens::sign_with(&header, &claims, hmac::HMAC_SHA256, &secret);
        let request = stack.api.request("GET", "/totals");
        let request = request.header("authorization", format!("Bearer {token}"));
        request.send().await.status
    };
    for typ in ["at+jwt", "AT+JWT", "application/at+jwt"] {
        assert_eq!(status("access", typ).await, 200, "{typ}");
    }
    assert_eq!(status("access", "JWT").await, 401);
    assert_eq!(status("id", "at+jwt").await, 401);
}

/// Runs a function with a valid environment except for one variable, and returns its standard error.
async fn init_error(changed: &str, value: Option<&str>) -> String {
    let mut command = function_with_valid_environment();
    match value {
        Some(value) => command.env(changed, value),
        None => command.env_remove(changed),
    };
    let output = command.output().await.unwrap();
    assert_eq!(output.status.code(), Some(1), "{changed}={value:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// Like [`init_error`], with several changed variables.
async fn init_error_with(changed: &[(&str, &str)]) -> String {
    let mut command = function_with_valid_environment();
    let output = command
        .envs(changed.iter().copied())
        .output()
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{changed:?}");
    String::from_utf8(output.stderr).unwrap()
}

fn function_with_valid_environment() -> tokio::process::Command {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_send-chat-request"));
    command.env_clear();
    for (name, valid) in [
        ("JWT_SECRET", SECRET),
        ("TABLE_NAME", "t"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ACCESS_KEY_ID", "x"),
        ("AWS_SECRET_ACCESS_KEY", "x"),
        // Nothing listens there.
        ("AWS_ENDPOINT_URL_DYNAMODB", "http://127.0.0.1:9"),
    ] {
        command.env(name, valid);
    }
    command
}

#[tokio::test]
async fn a_function_with_an_invalid_configuration_exits_and_names_the_variable() {
    for (name, value) in [
        ("JWT_SECRET", ""),
        ("JWT_SECRET", "only 31 bytes, one too few, sir"),
        ("JWT_PUBLIC_KEY", "a key"),
        ("JWT_JWKS", "a key set"),
        ("JWT_JWKS_URL", "http://id.example/keys"),
        ("JWT_ISSUER", ","),
        ("JWT_AUDIENCE", " , "),
        ("TABLE_NAME", ""),
        ("MAX_OPEN_REQUESTS", "many"),
        ("MAX_OPEN_REQUESTS", "-1"),
        ("EDIT_WINDOW_SECONDS", "a day"),
        ("EDIT_WINDOW_SECONDS", "-1"),
        ("EDIT_WINDOW_SECONDS", "1.5"),
        ("DELETE_WINDOW_SECONDS", "forever"),
        ("DELETE_WINDOW_SECONDS", "-1"),
        ("SAFETY_FEATURES", "true"),
        ("SAFETY_FEATURES", "OFF"),
        ("SAFETY_FEATURES", " off"),
        ("LOG_LEVEL", "LOUD"),
        ("AWS_REGION", ""),
        ("AWS_ACCESS_KEY_ID", ""),
        ("AWS_ENDPOINT_URL_DYNAMODB", ""),
        ("AWS_ENDPOINT_URL_DYNAMODB", "localhost"),
    ] {
        let error = init_error(name, Some(value)).await;
        assert!(error.starts_with(name), "{name}={value}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[tokio::test]
async fn a_function_without_a_required_variable_exits_and_names_it() {
    for name in [
        "JWT_SECRET",
        "TABLE_NAME",
        "AWS_REGION",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
    ] {
        let error = init_error(name, None).await;
        assert!(error.contains(name), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[tokio::test]
async fn the_development_secret_stops_a_function_whose_table_is_not_on_this_machine() {
    for endpoint in [
        "https://dynamodb.eu-central-1.amazonaws.com",
        "https://dynamodb.example",
    ] {
        let variables = [
            ("JWT_SECRET", DEVELOPMENT_SECRET),
            ("AWS_ENDPOINT_URL_DYNAMODB", endpoint),
        ];
        let error = init_error_with(&variables).await;
        assert!(
            error.starts_with("JWT_SECRET is the secret of the development server"),
            "{error}"
        );
    }
}
