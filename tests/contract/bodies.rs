//! Part 1.1 of the contract: bodies, and the order of checks.

use serde_json::{Value, json};

use crate::{
    ROUTES,
    support::{Answer, Api, User},
};

const MESSAGES: &str = "/chats/{chatId}/messages";

async fn post(user: &User, path: &str, content_type: Option<&str>, body: &[u8]) -> Answer {
    let call = user.request("POST", path).body(body);
    let call = match content_type {
        Some(content_type) => call.header("content-type", content_type),
        None => call,
    };
    call.send().await
}

/// Sends what must be refused to an active chat, and asserts that nothing was changed.
async fn refused(bodies: &[(&[u8], &str)]) {
    let (ann, ben, chat) = Api::shared().friends().await;
    let path = MESSAGES.replace("{chatId}", &chat);
    for (body, named) in bodies {
        post(&ann, &path, Some("application/json"), body)
            .await
            .is_invalid(named);
    }
    assert_eq!(ann.messages(&chat, "").await.seqs(), [0_u64; 0]);
    assert_eq!(ben.totals().await, [0, 0, 0]);
}

#[tokio::test]
async fn a_message_of_the_wrong_form_is_refused_by_field_and_changes_nothing() {
    let long_text = json!({"text": "é".repeat(4_097)}).to_string();
    let long_url =
        json!({"imageUrl": format!("https://a.example/{}", "x".repeat(2_031))}).to_string();
    refused(&[
        (br#"{"text":5}"#, "`text`"),
        (br#"{"text":true}"#, "`text`"),
        (br#"{"text":["a"]}"#, "`text`"),
        (br#"{"text":{}}"#, "`text`"),
        (br#"{"text":""}"#, "`text`"),
        (b"{\"text\":\" \\n\\t\xe3\x80\x80\"}", "`text`"),
        (long_text.as_bytes(), "`text`"),
        (br#"{"text":"a","imageUrl":7}"#, "`imageUrl`"),
        (br#"{"text":"a","imageUrl":""}"#, "`imageUrl`"),
        (
            br#"{"text":"a","imageUrl":"http://a.example"}"#,
            "`imageUrl`",
        ),
        (br#"{"text":"a","imageUrl":"/a.png"}"#, "`imageUrl`"),
        (br#"{"text":"a","imageUrl":"https://"}"#, "`imageUrl`"),
        (long_url.as_bytes(), "`imageUrl`"),
        (
            br#"{"linkPreviewUrl":"javascript:alert(1)"}"#,
            "`linkPreviewUrl`",
        ),
        (
            br#"{"linkPreviewUrl":" https://a.example"}"#,
            "`linkPreviewUrl`",
        ),
        (b"{}", "`text`"),
        (
            br#"{"text":null,"imageUrl":null,"linkPreviewUrl":null}"#,
            "`text`",
        ),
        (br#"{"text":"a","colour":"red"}"#, "`colour`"),
        (br#"{"Text":"a"}"#, "`Text`"),
        (br#"{"text":"a","text":"a"}"#, "`text`"),
        (br#"{"text":null,"text":"a"}"#, "`text`"),
    ])
    .await;
}

#[tokio::test]
async fn what_is_not_one_json_object_is_refused_and_changes_nothing() {
    let deep = "[".repeat(20_000);
    refused(&[
        (b"", "body"),
        (b"  ", "body"),
        (b"{", "JSON"),
        (b"not json", "JSON"),
        (br#"{"text":"a"}}"#, "JSON"),
        (br#"{"text":"a"}{"text":"b"}"#, "JSON"),
        (b"{'text':'a'}", "JSON"),
        (br#"{"text":"a",}"#, "JSON"),
        (br#"["a"]"#, "JSON"),
        (br#""a""#, "JSON"),
        (b"null", "JSON"),
        (b"5", "JSON"),
        (deep.as_bytes(), "JSON"),
        (br#"{"text":"\ud800"}"#, "`text`"),
        (br#"{"text":"\udc00 and \ud83d"}"#, "`text`"),
        (b"\xef\xbb\xbf{\"text\":\"a\"}", "JSON"),
    ])
    .await;
}

#[tokio::test]
async fn a_body_that_is_not_utf_8_is_refused_by_field_and_changes_nothing() {
    refused(&[
        (b"{\"text\":\"\xff\"}", "`text`"),
        (b"{\"text\":\"\xed\xa0\x80\"}", "`text`"),
    ])
    .await;
}

#[tokio::test]
async fn null_is_the_same_as_absent() {
    let (ann, _, chat) = Api::shared().friends().await;
    let body = json!({"text": "a", "imageUrl": null, "linkPreviewUrl": null});
    ann.post(&format!("/chats/{chat}/messages"), &body)
        .await
        .is(201);
    ann.post("/chats", &json!({"userId": null}))
        .await
        .is_invalid("`userId`");
}

#[tokio::test]
async fn a_chat_is_asked_for_with_a_user_id_and_nothing_else() {
    let user = Api::shared().user();
    for (body, named) in [
        (json!({}), "`userId`"),
        (json!({"userId": "42"}), "`userId`"),
        (json!({"userId": 0}), "`userId`"),
        (json!({"userId": -1}), "`userId`"),
        (json!({"userId": 42.5}), "`userId`"),
        (json!({"userId": 42.0}), "`userId`"),
        (json!({"userId": 9_007_199_254_740_992_u64}), "`userId`"),
        (json!({"userId": [42]}), "`userId`"),
        (json!({"userId": true}), "`userId`"),
        (json!({"userId": 42, "text": "hi"}), "`text`"),
        (json!({"userId": user.id}), "`userId`"),
    ] {
        user.post("/chats", &body).await.is_invalid(named);
    }
    let huge = r#"{"userId":99999999999999999999999}"#;
    post(&user, "/chats", None, huge.as_bytes())
        .await
        .is_invalid("`userId`");
    post(&user, "/chats", None, br#"{"userId":1,"userId":2}"#)
        .await
        .is_invalid("`userId`");
    assert_eq!(user.totals().await, [0, 0, 0]);
}

#[tokio::test]
async fn the_largest_user_id_is_a_user() {
    let user = Api::shared().user();
    let answer = user
        .post("/chats", &json!({"userId": 9_007_199_254_740_991_u64}))
        .await
        .is(201);
    assert_eq!(answer.body["recipientId"], 9_007_199_254_740_991_u64);
}

#[tokio::test]
async fn a_body_that_says_it_is_not_json_is_refused() {
    let (ann, _, chat) = Api::shared().friends().await;
    let path = MESSAGES.replace("{chatId}", &chat);
    let body = br#"{"text":"a"}"#;
    for other in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "x",
    ] {
        let answer = post(&ann, &path, Some(other), body).await;
        answer.is_refusal(415, "unsupported_media_type");
    }
    for json in [
        "application/json",
        "application/json; charset=utf-8",
        "Application/JSON",
    ] {
        post(&ann, &path, Some(json), body).await.is(201);
    }
    post(&ann, &path, None, body).await.is(201);
}

#[tokio::test]
async fn a_body_over_64_kib_is_refused() {
    let (ann, _, chat) = Api::shared().friends().await;
    let path = MESSAGES.replace("{chatId}", &chat);
    let padded = |bytes: usize| {
        let body = r#"{"text":"a"}"#;
        format!("{body}{}", " ".repeat(bytes - body.len()))
    };
    let json = Some("application/json");
    post(&ann, &path, json, padded(65_536).as_bytes())
        .await
        .is(201);
    let answer = post(&ann, &path, json, padded(65_537).as_bytes()).await;
    answer.is_refusal(413, "body_too_large");
}

#[tokio::test]
async fn the_size_of_a_body_is_that_of_its_decoded_bytes() {
    // Of what is not text the gateway makes base64, which is a third longer.
    let (ann, _, chat) = Api::shared().friends().await;
    let path = MESSAGES.replace("{chatId}", &chat);
    let octets = Some("application/octet-stream");
    let answer = post(&ann, &path, octets, &vec![0xff; 65_536]).await;
    answer.is_refusal(415, "unsupported_media_type");
    let answer = post(
        &ann,
        &path,
        Some("application/octet-stream"),
        &vec![0xff; 65_537],
    )
    .await;
    answer.is_refusal(413, "body_too_large");
}

#[tokio::test]
async fn the_first_thing_wrong_in_the_contracts_order_is_answered() {
    let (ann, ben, chat) = Api::shared().friends().await;
    let huge = vec![b'x'; 70_000];
    let path = MESSAGES.replace("{chatId}", "1-2");

    let unauthorized = ann
        .api
        .request("POST", &path)
        .header("content-type", "text/plain");
    unauthorized
        .body(huge.clone())
        .send()
        .await
        .is_refusal(401, "unauthorized");
    let too_large = post(&ann, &path, Some("text/plain"), &huge).await;
    too_large.is_refusal(413, "body_too_large");
    let not_json = post(&ann, &path, Some("text/plain"), b"{").await;
    not_json.is_refusal(415, "unsupported_media_type");
    post(&ann, &path, None, b"{").await.is_invalid("JSON");
    let bad_key = ann.request("POST", &path).header("idempotency-key", "a b");
    bad_key
        .json(&json!({"text": "a"}))
        .send()
        .await
        .is_invalid("`Idempotency-Key`");
    ann.get(&format!("{path}?limit=0"))
        .await
        .is_invalid("`limit`");
    ann.post(&path, &json!({"text": "a"}))
        .await
        .is_refusal(404, "chat_not_found");

    // Declining an active chat: 409 to both, as the state decides before who calls.
    ann.decline(&chat).await.is_refusal(409, "chat_active");
    ben.decline(&chat).await.is_refusal(409, "chat_active");
}

#[tokio::test]
async fn routes_without_a_body_ignore_one_within_the_limit() {
    let user = Api::shared().user();
    let call = user
        .request("GET", "/totals")
        .header("content-type", "text/plain")
        .body("hi");
    call.send().await.is(200);
    for (method, path, _) in ROUTES {
        let path = path.replace("{chatId}", "1-2");
        let answer = user
            .request(method, &path)
            .body(vec![b' '; 65_537])
            .send()
            .await;
        answer.is_refusal(413, "body_too_large");
    }
}

#[tokio::test]
async fn anything_but_the_canonical_id_of_an_own_chat_is_not_found() {
    let (ann, ben, chat) = Api::shared().friends().await;
    let stranger = ann.api.user();
    let (low, high) = (ann.id.min(ben.id), ann.id.max(ben.id));
    let no_chat = ann.chat_with(&stranger);
    let ids = [
        no_chat,
        ben.chat_with(&stranger),
        format!("{high}-{low}"),
        format!("{low}-{low}"),
        format!("0{low}-{high}"),
        format!("{low}-0{high}"),
        format!("%2B{low}-{high}"),
        format!("-{low}-{high}"),
        format!("{low}-{high}-"),
        format!("{low}--{high}"),
        format!("{low}%20-{high}"),
        format!("{low}-{high}%00"),
        format!("{low}"),
        "-".to_owned(),
        "%F0%9F%98%80".to_owned(),
        format!("0-{}", ann.id),
        format!("{}-9007199254740992", ann.id),
        "CHAT%23".to_owned() + &chat,
    ];
    for (method, path, body) in ROUTES.iter().filter(|route| route.1.contains("{chatId}")) {
        let body = body.map(|body| serde_json::from_str::<Value>(body).unwrap());
        for id in &ids {
            let call = ann.request(method, &path.replace("{chatId}", id));
            let call = match &body {
                Some(body) => call.json(body),
                None => call,
            };
            call.send().await.is_refusal(404, "chat_not_found");
        }
        // Nor does another's chat exist for a stranger.
        let call = stranger.request(method, &path.replace("{chatId}", &chat));
        let call = match &body {
            Some(body) => call.json(body),
            None => call,
        };
        call.send().await.is_refusal(404, "chat_not_found");
    }
}

#[tokio::test]
async fn an_id_with_an_encoded_slash_is_one_id_and_not_found() {
    let (ann, _, chat) = Api::shared().friends().await;
    let id = format!("{chat}%2Fmessages");
    ann.messages(&id, "")
        .await
        .is_refusal(404, "chat_not_found");
}

#[tokio::test]
async fn a_path_parameter_is_decoded_before_it_is_read() {
    let (ann, _, chat) = Api::shared().friends().await;
    let encoded = chat.replace('-', "%2D");
    ann.messages(&encoded, "").await.is(200);
}
