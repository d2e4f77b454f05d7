//! Push beside the previous version. It works on a table that contains connections and what push stores: numbers of
//! changes, idempotency keys of messages, and previews that are whole messages. And its own changes become events,
//! although it stores none of that.

use serde_json::Value;

use crate::{
    contract_model::{Content, PageStart, PairRequest},
    gradual_deployment::{any_request, any_version},
    support::{User, env_number, live::LiveClient},
    versions::{
        Couple,
        Version::{Current, Previous},
        Versions,
    },
};

const COUNTS: [&str; 3] = [
    "totalPendingRequest",
    "totalUnreadMessages",
    "totalSentRequest",
];

impl Couple<'_> {
    /// Both users, as clients of this version.
    fn live_users(&self) -> [User; 2] {
        self.users.map(|user| self.versions.user(user))
    }

    /// A connection of each user.
    async fn connect(&self) -> [LiveClient; 2] {
        let [one, other] = self.live_users();
        [
            LiveClient::connect(&one).await,
            LiveClient::connect(&other).await,
        ]
    }

    /// The preview of the last message, as it is stored.
    async fn stored_preview(&self) -> Value {
        let items = self.versions.table.chat(&self.chat_id()).await;
        items["STATE"]["lastMessage"].clone()
    }

    /// The message with this number, as this version shows it.
    async fn message(&self, caller: usize, seq: u64) -> Value {
        let start = PageStart::After(seq - 1);
        let list = PairRequest::ListMessages { start, limit: 1 };
        let page = self.send(Current, caller, &list).await.expect_status(200);
        page.body["messages"][0].clone()
    }

    /// Asserts that the next event of a user has this type, and shows the chat, the message and the counts as they are.
    /// Returns the version of the totals.
    async fn expect_event(&self, caller: usize, client: &mut LiveClient, kind: &str) -> u64 {
        let event = client.next_event().await;
        assert_eq!(event["type"], kind, "{event}");
        let chat = self.send(Current, caller, &PairRequest::GetChat).await;
        assert_eq!(event["chat"], chat.expect_status(200).body, "{kind}");
        if let Some(seq) = event["message"]["seq"].as_u64() {
            assert_eq!(event["message"], self.message(caller, seq).await);
        }
        let totals = self.versions.totals(self.users[caller]).await;
        let counts = COUNTS.map(|name| event["totals"][name].as_u64().unwrap());
        assert_eq!(counts, totals, "{kind}");
        event["totals"]["version"].as_u64().unwrap()
    }
}

#[tokio::test]
async fn the_previous_version_works_on_a_table_with_connections_and_what_push_stores() {
    let versions = Versions::start_with_push("off").await;
    let before = "active send send-with-key:1 reply";
    let mut couple = Couple::after(&versions, Current, before).await;
    let clients = couple.connect().await;
    // Otherwise this test would show nothing.
    let items = versions.table.everything().await;
    let has = |name: &str| {
        let mut items = items.iter();
        items.any(|(_, _, item)| !item[name].is_null())
    };
    assert!(has("changes") && has("idempotencyKey") && has("tokenExpiresAt"));
    assert_eq!(couple.stored_preview().await["whole"], true);

    for caller in [0, 1] {
        couple.assert_totals_equal_model(caller).await;
    }
    // A replay, a new key, and messages in both directions.
    let requests = "send-with-key:1 send reply send-with-key:2 mark send reply mark";
    couple.perform_all(Previous, requests).await;
    assert_eq!(couple.stored_preview().await["whole"], Value::Null);
    couple.assert_equals_model().await;
    couple
        .perform_all(Current, "send-with-key:2 send mark reply")
        .await;
    couple.perform_all(Previous, "send mark reply").await;
    couple.assert_equals_model().await;
    drop(clients);
    versions.assert_consistent().await;
}

#[tokio::test]
async fn each_change_of_the_previous_version_is_an_event_on_every_connection() {
    let versions = Versions::start_with_push("off").await;
    let mut couple = Couple::new(&versions);
    let mut clients = couple.connect().await;
    let mut totals_versions = [0, 0];
    for (request, kind) in [
        ("request", "chat.requested"),
        ("decline", "chat.declined"),
        ("counter-request", "chat.requested"),
    ] {
        couple.perform_all(Previous, request).await;
        for (caller, client) in clients.iter_mut().enumerate() {
            let version = couple.expect_event(caller, client, kind).await;
            assert!(version >= totals_versions[caller], "{request}");
            totals_versions[caller] = version;
        }
    }
    let accept = PairRequest::Accept;
    couple.perform(Previous, 0, &accept).await;
    for (caller, client) in clients.iter_mut().enumerate() {
        couple.expect_event(caller, client, "chat.accepted").await;
    }
    for (version, request, kind) in [
        (Previous, "send", "message.created"),
        (Current, "send", "message.created"),
        (Previous, "reply", "message.created"),
        (Previous, "send-with-key:1", "message.created"),
        (Current, "mark", "chat.read"),
        (Current, "send-with-key:2", "message.created"),
        (Previous, "mark", "chat.read"),
        (Previous, "send", "message.created"),
    ] {
        couple.perform_all(version, request).await;
        for (caller, client) in clients.iter_mut().enumerate() {
            let totals_version = couple.expect_event(caller, client, kind).await;
            assert!(totals_version >= totals_versions[caller], "{request}");
            totals_versions[caller] = totals_version;
        }
    }
    versions.assert_consistent().await;
}

/// A text that is longer than a preview, and an image: the event has the message and not its preview.
#[tokio::test]
async fn an_event_of_a_message_of_the_previous_version_has_the_whole_message() {
    let versions = Versions::start_with_push("off").await;
    let mut couple = Couple::after(&versions, Previous, "active").await;
    let mut clients = couple.connect().await;
    for content in [
        Content::text(&"é".repeat(1_000)),
        Content {
            image_url: Some("https://a.example/1.png".to_owned()),
            ..Content::default()
        },
        Content {
            link_preview_url: Some("https://a.example/".to_owned()),
            ..Content::text("see")
        },
    ] {
        let send = PairRequest::Send { key: None, content };
        let sent = couple.perform(Previous, 0, &send).await;
        for client in &mut clients {
            let event = client.event("message.created").await;
            assert_eq!(event["message"]["messageId"], sent.body["messageId"]);
            for part in ["text", "imageUrl", "linkPreviewUrl"] {
                assert_eq!(event["message"][part], sent.body[part], "{part}");
            }
        }
    }
}

/// The previous version does not count its changes, so totals of the same version can differ. A version that went down
/// would make clients ignore totals forever.
#[tokio::test]
async fn in_a_mix_of_both_versions_every_message_arrives_and_the_totals_never_go_back() {
    let requests = env_number("MODEL_REQUESTS", 200).min(2_000);
    let mut random = fastrand::Rng::with_seed(env_number("MODEL_SEED", 1));
    let versions = Versions::start_with_push("off").await;
    let mut couple = Couple::after(&versions, Previous, "active").await;
    let mut clients = couple.connect().await;
    let mut highest = [0, 0];
    let mut seen = [0, 0];
    for n in 1..=requests {
        let (version, caller) = (any_version(&mut random), random.usize(..2));
        let request = any_request(&mut random);
        couple.perform(version, caller, &request).await;
        if n % 20 > 0 && n < requests {
            continue;
        }
        // All events of the chat up to this message. Alternately the last one is of each version.
        let version = if n % 40 == 0 { Current } else { Previous };
        let content = Content::text("until here");
        let send = PairRequest::Send { key: None, content };
        let sent = couple.perform(version, caller, &send).await;
        let last = sent.body["seq"].as_u64().unwrap();
        for (user, client) in clients.iter_mut().enumerate() {
            while seen[user] < last {
                let event = client.next_event().await;
                let version = event["totals"]["version"].as_u64().unwrap();
                assert!(version >= highest[user], "{event}");
                highest[user] = version;
                if event["type"] == "message.created" {
                    let seq = event["message"]["seq"].as_u64().unwrap();
                    assert_eq!(seq, seen[user] + 1, "{event}");
                    seen[user] = seq;
                }
            }
        }
    }
    couple.assert_equals_model().await;
    for (user, client) in clients.iter_mut().enumerate() {
        let synced = client.sync().await;
        let counts = COUNTS.map(|name| synced["totals"][name].as_u64().unwrap());
        assert_eq!(counts, couple.model.totals(couple.users[user]));
        let version = synced["totals"]["version"].as_u64().unwrap();
        assert!(version >= highest[user], "{synced}");
    }
    versions.assert_consistent().await;
}
