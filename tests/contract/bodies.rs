//! Request validation: bodies, content types, sizes, chat ids in paths, and the order of the checks.

use chat_shared::http::ENDPOINTS;
use serde_json::json;

use crate::{
    endpoint_path,
    support::{Api, Response, User},
    with_valid_body,
};

fn messages_path(chat: &str) -> String {
    format!("/chats/{chat}/messages")
}

async fn post(user: &User, path: &str, content_type: Option<&str>, body: &[u8]) -> Response {
    let request = user.request("POST", path).body(body);
    let request = match content_type {
        Some(content_type) => request.header("content-type", content_type),
        None => request,
    };
    request.send().await
}

/// Sends bodies to an active chat, and asserts that each is rejected with a message that contains the
/// expected text, and that the chat does not change.
async fn assert_rejected(bodies: &[(&[u8], &str)]) {
    let (ann, ben, chat) = Api::shared().active_chat().await;
    let path = messages_path(&chat);
    for (body, named) in bodies {
        post(&ann, &path, Some("application/json"), body)
            .await
            .expect_invalid(named);
    }
    assert_eq!(ann.messages(&chat, "").await.seqs(), [0_u64; 0]);
    assert_eq!(ben.totals().await, [0, 0, 0]);
}

#[tokio::test]
async fn an_invalid_message_is_rejected_by_field_and_changes_nothing() {
    let long_text = json!({"text": "é".repeat(4_097)}).to_string();
    let long_url =
        json!({"imageUrl": format!("https://a.example/{}", "x".repeat(2_031))}).to_string();
    assert_rejected(&[
        (br#"{"text":5}"#, "`text`"),
        (br#"{"text":true}"#, "`text`"),
        (br#"{"text":["a"]}"#, "`text`"),
        (br#"{"text":{}}"#, "`text`"),
        (br#"{"text":""}"#, "`text`"),
        (b"{\"text\":\" \\n\\t\xe3\x80\x80\"}", "`text`"),
        (br#"{"text":"\u200b"}"#, "`text`"),
        (br#"{"text":"\u2800 \u3164\u0000\ufe0f"}"#, "`text`"),
        (
            br#"{"text":"\u200b","imageUrl":"https://a.example"}"#,
            "`text`",
        ),
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
            br#"{"imageUrl":"https://bank.example@evil.example/"}"#,
            "`imageUrl`",
        ),
        (
            br#"{"imageUrl":"https://a.example/\u202egnp.exe"}"#,
            "`imageUrl`",
        ),
        (
            br#"{"linkPreviewUrl":"https://a.example/\"onload=x"}"#,
            "`linkPreviewUrl`",
        ),
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
async fn a_body_that_is_not_exactly_one_json_object_is_rejected_and_changes_nothing() {
    let deep = "[".repeat(20_000);
    assert_rejected(&[
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
async fn a_body_that_is_not_utf_8_is_rejected_by_field_and_changes_nothing() {
    assert_rejected(&[
        (b"{\"text\":\"\xff\"}", "`text`"),
        (b"{\"text\":\"\xed\xa0\x80\"}", "`text`"),
    ])
    .await;
}

#[tokio::test]
async fn a_null_field_is_the_same_as_an_absent_field() {
    let (ann, _, chat) = Api::shared().active_chat().await;
    let body = json!({"text": "a", "imageUrl": null, "linkPreviewUrl": null});
    ann.post(&messages_path(&chat), &body)
        .await
        .expect_status(201);
    ann.post("/chats", &json!({"userId": null}))
        .await
        .expect_invalid("`userId`");
    let body = json!({"userId": null, "reason": "spam"});
    ann.report(&body).await.expect_invalid("`userId`");
    ann.mark_with(&chat, &json!({"seq": null}))
        .await
        .expect_status(200);
    // An edit is the exception.
    let body = json!({"imageUrl": "https://a.example", "text": null});
    let edited = ann.edit(&chat, 1, &body).await.expect_status(200);
    assert_eq!(edited.body["text"], json!(null));
}

#[tokio::test]
async fn a_chat_request_has_a_user_id_and_no_other_field() {
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
        user.post("/chats", &body).await.expect_invalid(named);
    }
    let huge = r#"{"userId":99999999999999999999999}"#;
    post(&user, "/chats", None, huge.as_bytes())
        .await
        .expect_invalid("`userId`");
    post(&user, "/chats", None, br#"{"userId":1,"userId":2}"#)
        .await
        .expect_invalid("`userId`");
    assert_eq!(user.totals().await, [0, 0, 0]);
}

#[tokio::test]
async fn the_largest_user_id_is_valid() {
    let user = Api::shared().user();
    let response = user
        .post("/chats", &json!({"userId": 9_007_199_254_740_991_u64}))
        .await
        .expect_status(201);
    assert_eq!(response.body["recipientId"], 9_007_199_254_740_991_u64);
}

#[tokio::test]
async fn a_content_type_other_than_json_is_rejected() {
    let (ann, _, chat) = Api::shared().active_chat().await;
    let path = messages_path(&chat);
    let body = br#"{"text":"a"}"#;
    for content_type in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "x",
    ] {
        post(&ann, &path, Some(content_type), body)
            .await
            .expect_error(415, "unsupported_media_type");
    }
    for content_type in [
        "application/json",
        "application/json; charset=utf-8",
        "Application/JSON",
    ] {
        post(&ann, &path, Some(content_type), body)
            .await
            .expect_status(201);
    }
    post(&ann, &path, None, body).await.expect_status(201);
}

#[tokio::test]
async fn a_compressed_body_is_rejected_with_the_name_of_the_header() {
    let (ann, _, chat) = Api::shared().active_chat().await;
    let path = messages_path(&chat);
    let with_encoding = |encoding: &str, body: &[u8]| {
        let request = ann.request("POST", &path).body(body.to_vec());
        let request = request.header("content-type", "application/json");
        request.header("content-encoding", encoding).send()
    };
    let gzip = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xabV*I\xad(Q\xb2RJT\xaa\x05\x00";
    for (encoding, body) in [
        ("gzip", &gzip[..]),
        ("GZIP", gzip),
        ("br", br#"{"text":"a"}"#),
        ("identity, gzip", br#"{"text":"a"}"#),
    ] {
        let response = with_encoding(encoding, body).await;
        response.expect_error(415, "unsupported_media_type");
        let message = response.body["message"].as_str().unwrap();
        assert!(message.contains("`Content-Encoding`"), "{message}");
    }
    for encoding in ["identity", "Identity"] {
        with_encoding(encoding, br#"{"text":"a"}"#)
            .await
            .expect_status(201);
    }
    assert_eq!(ann.messages(&chat, "").await.seqs(), [2, 1]);
}

#[tokio::test]
async fn a_header_that_describes_the_body_and_is_sent_twice_is_rejected() {
    let (ann, _, chat) = Api::shared().active_chat().await;
    for (name, value) in [
        ("content-type", "application/json"),
        ("content-encoding", "identity"),
    ] {
        let request = ann
            .request("POST", &messages_path(&chat))
            .header(name, value)
            .header(name, value)
            .body(r#"{"text":"a"}"#);
        let response = request.send().await;
        response.expect_error(400, "invalid_request");
        let message = response.body["message"].as_str().unwrap();
        assert!(message.to_lowercase().contains(name), "{message}");
    }
    assert_eq!(ann.messages(&chat, "").await.seqs(), [0_u64; 0]);
}

#[tokio::test]
async fn a_body_over_64_kib_is_rejected() {
    let (ann, _, chat) = Api::shared().active_chat().await;
    let path = messages_path(&chat);
    let padded = |bytes: usize| {
        let body = r#"{"text":"a"}"#;
        format!("{body}{}", " ".repeat(bytes - body.len()))
    };
    let json = Some("application/json");
    post(&ann, &path, json, padded(65_536).as_bytes())
        .await
        .expect_status(201);
    post(&ann, &path, json, padded(65_537).as_bytes())
        .await
        .expect_error(413, "body_too_large");
}

#[tokio::test]
async fn the_size_limit_applies_to_the_decoded_body() {
    // The gateway encodes a body that is not text as base64, which is a third longer.
    let (ann, _, chat) = Api::shared().active_chat().await;
    let path = messages_path(&chat);
    let binary = Some("application/octet-stream");
    post(&ann, &path, binary, &vec![0xff; 65_536])
        .await
        .expect_error(415, "unsupported_media_type");
    post(&ann, &path, binary, &vec![0xff; 65_537])
        .await
        .expect_error(413, "body_too_large");
}

#[tokio::test]
async fn a_request_with_several_errors_gets_the_first_one_in_the_documented_order() {
    let (ann, ben, chat) = Api::shared().active_chat().await;
    let huge = vec![b'x'; 70_000];
    let path = messages_path("1-2");

    let without_token = ann
        .api
        .request("POST", &path)
        .header("content-type", "text/plain")
        .body(huge.clone());
    without_token.send().await.expect_error(401, "unauthorized");
    post(&ann, &path, Some("text/plain"), &huge)
        .await
        .expect_error(413, "body_too_large");
    post(&ann, &path, Some("text/plain"), b"{")
        .await
        .expect_error(415, "unsupported_media_type");
    post(&ann, &path, None, b"{").await.expect_invalid("JSON");
    let invalid_key = ann
        .request("POST", &path)
        .header("idempotency-key", "a b")
        .json(&json!({"text": "a"}));
    invalid_key.send().await.expect_invalid("`Idempotency-Key`");
    ann.get(&format!("{path}?limit=0"))
        .await
        .expect_invalid("`limit`");
    ann.post(&path, &json!({"text": "a"}))
        .await
        .expect_error(404, "chat_not_found");

    // The same for an edit, a mark and a report, whose 404 is that of a message.
    let path = "/chats/1-2/messages/1";
    let without_token = ann.api.request("PATCH", path).body(huge.clone());
    without_token.send().await.expect_error(401, "unauthorized");
    for (method, path, code) in [
        ("PATCH", path, "chat_not_found"),
        ("PUT", "/chats/1-2/messages/read", "chat_not_found"),
        ("POST", "/reports", "message_not_found"),
    ] {
        let send = |content_type: &str, body: &[u8]| {
            let request = ann.request(method, path).body(body.to_vec());
            request.header("content-type", content_type).send()
        };
        send("text/plain", &huge)
            .await
            .expect_error(413, "body_too_large");
        send("text/plain", b"{")
            .await
            .expect_error(415, "unsupported_media_type");
        send("application/json", b"{").await.expect_invalid("JSON");
        let valid = match method {
            "PATCH" => json!({"text": "a"}),
            "PUT" => json!({"seq": 1}),
            _ => json!({"userId": 42, "seq": 1, "reason": "spam"}),
        };
        send("application/json", valid.to_string().as_bytes())
            .await
            .expect_error(404, code);
    }

    // The state of the chat is checked before the caller's role, so both get a 409.
    ann.decline(&chat).await.expect_error(409, "chat_active");
    ben.decline(&chat).await.expect_error(409, "chat_active");
}

#[tokio::test]
async fn endpoints_without_a_body_ignore_one_within_the_size_limit() {
    let user = Api::shared().user();
    let request = user
        .request("GET", "/totals")
        .header("content-type", "text/plain")
        .body("hi");
    request.send().await.expect_status(200);
    for endpoint in &ENDPOINTS {
        let path = endpoint_path(endpoint, "1-2");
        let request = user
            .request(endpoint.method, &path)
            .body(vec![b' '; 65_537]);
        request.send().await.expect_error(413, "body_too_large");
    }
}

#[tokio::test]
async fn a_chat_id_that_is_not_the_canonical_id_of_a_chat_of_the_caller_is_not_found() {
    let (ann, ben, chat) = Api::shared().active_chat().await;
    let stranger = ann.api.user();
    let (low, high) = (ann.id.min(ben.id), ann.id.max(ben.id));
    let ids = [
        ann.chat_id_with(&stranger),
        ben.chat_id_with(&stranger),
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
        format!("CHAT%23{chat}"),
    ];
    for endpoint in ENDPOINTS
        .iter()
        .filter(|endpoint| endpoint.path.contains("{chatId}"))
    {
        for id in &ids {
            let request = ann.request(endpoint.method, &endpoint_path(endpoint, id));
            with_valid_body(request, endpoint)
                .send()
                .await
                .expect_error(404, "chat_not_found");
        }
        // A chat of other users is not found either.
        let request = stranger.request(endpoint.method, &endpoint_path(endpoint, &chat));
        with_valid_body(request, endpoint)
            .send()
            .await
            .expect_error(404, "chat_not_found");
    }
}

#[tokio::test]
async fn an_encoded_slash_is_part_of_the_chat_id() {
    let (ann, _, chat) = Api::shared().active_chat().await;
    let id = format!("{chat}%2Fmessages");
    ann.messages(&id, "")
        .await
        .expect_error(404, "chat_not_found");
}

#[tokio::test]
async fn a_path_parameter_is_percent_decoded() {
    let (ann, _, chat) = Api::shared().active_chat().await;
    let encoded = chat.replace('-', "%2D");
    ann.messages(&encoded, "").await.expect_status(200);
}
