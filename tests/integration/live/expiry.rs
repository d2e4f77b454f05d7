//! The end of connections: access tokens that expire while a connection is open, renewal, and API Gateway's limits on
//! idle time and age.
//!
//! No test waits for a token to expire: it changes the time in the connection's item.

use std::time::Duration;

use chat_local::realtime::RealtimeOptions;
use serde_json::{Value, json};

use super::{
    LiveStack,
    client::{Device, Timing},
};
use crate::{
    eventually,
    support::{self, User, live::LiveClient, tokens},
};

/// The difference between clocks that is tolerated, in seconds.
const LEEWAY: u64 = 30;
/// The close code after `bye`.
const NORMAL: u16 = 1000;
/// The close code at one of API Gateway's limits.
const GOING_AWAY: u16 = 1001;

/// A chat, and a connection of its second member.
struct Fixture {
    live: LiveStack,
    ann: User,
    ben: User,
    chat: String,
    client: LiveClient,
    id: String,
}

impl Fixture {
    async fn new() -> Self {
        let live = LiveStack::start().await;
        let (ann, ben, chat) = live.api().active_chat().await;
        let client = LiveClient::connect(&ben).await;
        let id = live.only_connection(&ben).await;
        Self {
            live,
            ann,
            ben,
            chat,
            client,
            id,
        }
    }

    /// Makes the token of the connection look as if it had expired this many seconds ago.
    async fn expire_token(&self, seconds: u64) {
        let expiry = tokens::now_seconds() - seconds;
        self.live
            .set_connection(&self.ben, &self.id, "tokenExpiresAt", expiry)
            .await;
    }

    async fn send(&self) -> u64 {
        let sent = self.ann.send(&self.chat, "hi").await.expect_status(201);
        sent.body["seq"].as_u64().unwrap()
    }

    async fn expect_message(&mut self, seq: u64) {
        let event = self.client.event("message.created").await;
        assert_eq!(event["message"]["seq"], seq);
    }

    /// Asserts that the server says `bye` for this reason, closes the socket and forgets it.
    async fn expect_bye(&mut self, reason: &str) {
        let bye = self.client.control("bye").await;
        assert_eq!(bye["reason"], reason);
        assert_eq!(self.client.closed().await, Some(NORMAL));
        eventually("the connection is deleted", async || {
            self.live.connections(&self.ben).await.is_empty()
        })
        .await;
    }
}

#[tokio::test]
async fn a_connection_gets_events_until_its_token_has_expired_and_the_leeway_is_over() {
    let mut fixture = Fixture::new().await;
    // A few seconds less, because the test takes time, too.
    fixture.expire_token(LEEWAY - 15).await;
    let seq = fixture.send().await;
    fixture.expect_message(seq).await;
    fixture.expire_token(LEEWAY + 2).await;
    fixture.send().await;
    fixture.expect_bye("token_expired").await;
    // The messages that were sent meanwhile are not lost.
    let page = fixture.ben.messages(&fixture.chat, "?after=1").await;
    assert_eq!(page.expect_status(200).seqs(), [2]);
    // The next event is for nobody.
    fixture.live.faults.drain_batches();
    fixture.live.faults.drain_requests();
    fixture.live.faults.withhold_records();
    fixture.send().await;
    let record = fixture.live.latest_record(&fixture.chat).await;
    fixture.live.push_all(&[record]).await;
    assert_eq!(fixture.live.faults.request_count("POST"), 0);
}

#[tokio::test]
async fn a_frame_after_the_token_has_expired_closes_the_connection() {
    for frame in ["sync", "typing"] {
        let mut fixture = Fixture::new().await;
        fixture.expire_token(LEEWAY + 2).await;
        let frame = json!({"type": frame, "chatId": fixture.chat});
        fixture.client.send(&frame).await;
        fixture.expect_bye("token_expired").await;
    }
}

#[tokio::test]
async fn a_connection_whose_token_is_renewed_in_time_stays_open() {
    let mut fixture = Fixture::new().await;
    fixture.expire_token(LEEWAY - 15).await;
    let mut claims = tokens::valid_claims(fixture.ben.id);
    claims["exp"] = json!(tokens::now_seconds() + 7_200);
    let token = tokens::sign(&claims);
    fixture
        .client
        .send(&json!({"type": "renew", "token": token}))
        .await;
    fixture.client.control("renewed").await;
    let items = fixture.live.table().user(fixture.ben.id).await;
    let item = &items[&format!("CONN#{}", fixture.id)];
    assert_eq!(item["tokenExpiresAt"], claims["exp"]);
    let seq = fixture.send().await;
    fixture.expect_message(seq).await;
    assert_eq!(fixture.live.faults.request_count("DELETE"), 0);
}

/// No event has closed it yet, and the client renews the token late.
#[tokio::test]
async fn a_connection_that_is_still_open_can_renew_a_token_that_has_expired() {
    let mut fixture = Fixture::new().await;
    fixture.expire_token(LEEWAY + 60).await;
    let token = tokens::valid_token(fixture.ben.id);
    fixture
        .client
        .send(&json!({"type": "renew", "token": token}))
        .await;
    fixture.client.control("renewed").await;
    let seq = fixture.send().await;
    fixture.expect_message(seq).await;
}

#[tokio::test]
async fn a_renewal_that_is_refused_keeps_the_old_token() {
    let mut fixture = Fixture::new().await;
    let items = fixture.live.table().user(fixture.ben.id).await;
    let before = items[&format!("CONN#{}", fixture.id)]["tokenExpiresAt"].clone();
    let mut expired = tokens::valid_claims(fixture.ben.id);
    expired["exp"] = json!(tokens::now_seconds() - 120);
    for token in [
        tokens::valid_token(fixture.ann.id),
        tokens::sign(&expired),
        "no token".to_owned(),
    ] {
        fixture
            .client
            .send(&json!({"type": "renew", "token": token}))
            .await;
        fixture.client.expect_error("unauthorized").await;
        let items = fixture.live.table().user(fixture.ben.id).await;
        let item = &items[&format!("CONN#{}", fixture.id)];
        assert_eq!(item["tokenExpiresAt"], before);
    }
    let seq = fixture.send().await;
    fixture.expect_message(seq).await;
}

#[tokio::test]
async fn a_device_whose_token_has_expired_connects_again_with_a_new_one() {
    let live = LiveStack::start().await;
    let (ann, ben, chat) = live.api().active_chat().await;
    let device = Device::connect(&ben).await;
    let id = live.only_connection(&ben).await;
    let past = tokens::now_seconds() - 2 * LEEWAY;
    live.set_connection(&ben, &id, "tokenExpiresAt", past).await;
    ann.send(&chat, "one").await.expect_status(201);
    device.wait_until_connected(2).await;
    device.wait_for_texts(&chat, &["one"]).await;
    ann.send(&chat, "two").await.expect_status(201);
    device.wait_for_texts(&chat, &["one", "two"]).await;
    let renewed: Value = device.renew().await;
    assert_eq!(renewed["type"], "renewed");
    assert_eq!(device.times_connected(), 2);
}

/// The same connection stays open for longer than the token with which it was opened.
#[tokio::test]
async fn a_device_renews_its_token_before_it_expires() {
    let live = LiveStack::start().await;
    let mut user = live.api().user();
    let mut claims = tokens::valid_claims(user.id);
    // A client renews it when 60 seconds are left.
    claims["exp"] = json!(tokens::now_seconds() + 62);
    user.token = tokens::sign(&claims);
    let device = Device::connect(&user).await;
    let id = live.only_connection(&user).await;
    eventually("the item has the expiry of a new token", async || {
        let items = live.table().user(user.id).await;
        let expiry = items[&format!("CONN#{id}")]["tokenExpiresAt"].as_u64();
        expiry > claims["exp"].as_u64()
    })
    .await;
    assert_eq!(device.times_connected(), 1);
    // A client that connects later does so with a new token.
    live.stack().cut_connections();
    device.wait_until_connected(2).await;
    eventually("the old connection is deleted", async || {
        live.connections(&user).await.len() == 1
    })
    .await;
}

async fn start_with(change: impl FnOnce(&mut RealtimeOptions)) -> LiveStack {
    let mut realtime = RealtimeOptions::default();
    change(&mut realtime);
    LiveStack::start_with(support::stack_options(), realtime).await
}

#[tokio::test]
async fn a_connection_without_frames_is_closed_after_the_idle_time() {
    let idle = Duration::from_secs(2);
    let live = start_with(|realtime| realtime.idle_timeout = idle).await;
    let user = live.api().user();
    let started = std::time::Instant::now();
    let mut client = LiveClient::connect(&user).await;
    // A frame counts, in either direction.
    client.sync().await;
    assert_eq!(client.closed().await, Some(GOING_AWAY));
    assert!(started.elapsed() >= idle);
    eventually("the connection is deleted", async || {
        live.connections(&user).await.is_empty()
    })
    .await;
}

#[tokio::test]
async fn a_connection_is_closed_at_its_maximum_age_and_its_client_comes_back() {
    let age = Duration::from_millis(1_500);
    let live = start_with(|realtime| realtime.max_age = age).await;
    let (ann, ben, chat) = live.api().active_chat().await;
    let mut client = LiveClient::connect(&ben).await;
    let device = Device::connect(&ben).await;
    assert_eq!(client.closed().await, Some(GOING_AWAY));
    for text in ["one", "two", "three"] {
        let times = device.times_connected();
        ann.send(&chat, text).await.expect_status(201);
        device.wait_until_connected(times + 1).await;
    }
    device.wait_for_texts(&chat, &["one", "two", "three"]).await;
    device.wait_until_consistent().await;
}

/// So the limits of API Gateway never meet a client that follows the rules.
#[tokio::test]
async fn a_device_that_sends_sync_and_replaces_its_socket_is_never_closed_by_the_server() {
    let live = start_with(|realtime| {
        realtime.idle_timeout = Duration::from_secs(4);
        realtime.max_age = Duration::from_secs(5);
    })
    .await;
    let (ann, ben, chat) = live.api().active_chat().await;
    // A second of the rules takes 5 milliseconds: `sync` after 1.2 to 1.8 seconds, a new socket after 1 to 2.
    let timing = Timing {
        second: Duration::from_millis(5),
        replace_after: 200..400,
        ..Timing::FAST
    };
    let device = Device::start(&ben, timing, None);
    device.wait_until_connected(4).await;
    ann.send(&chat, "hi").await.expect_status(201);
    device.wait_for_texts(&chat, &["hi"]).await;
    device.wait_until_consistent().await;
    assert_eq!(device.times_broken(), 0);
    // The old sockets are closed by the device, when the new ones are open.
    eventually("one socket is open", async || {
        live.stack().connection_ids().len() == 1
    })
    .await;
}
