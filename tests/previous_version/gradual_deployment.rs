//! Both versions at once, while `SAFETY_FEATURES` is off: this version writes only what the previous one knows.

use std::sync::Arc;

use chat_shared::domain::MAX_SAFE_INTEGER;

use crate::{
    contract_model::{Content, Edit, PageStart, PairRequest},
    support::{Response, env_number, run_concurrently},
    versions::{Couple, Version, Versions},
};

pub fn any_version(random: &mut fastrand::Rng) -> Version {
    if random.bool() {
        Version::Previous
    } else {
        Version::Current
    }
}

/// A request that both versions know.
pub fn any_request(random: &mut fastrand::Rng) -> PairRequest {
    match random.u8(..16) {
        0..2 => PairRequest::RequestChat,
        2 | 3 => PairRequest::Accept,
        4 => PairRequest::Decline,
        5..10 => {
            // Few keys and texts, so that keys are used again, for the same and for another message.
            let key = format!("key-{}", random.u8(..4));
            PairRequest::Send {
                key: random.bool().then_some(key),
                content: Content::text(["hello", "hi"][random.usize(..2)]),
            }
        }
        10..13 => PairRequest::MarkRead { up_to: None },
        _ => PairRequest::ListMessages {
            start: PageStart::Skip(random.u64(..3)),
            limit: random.u64(1..8),
        },
    }
}

#[tokio::test]
async fn a_random_mix_of_requests_to_both_versions_has_exact_responses_and_counts() {
    let seed = env_number("MODEL_SEED", 1);
    let requests = env_number("MODEL_REQUESTS", 1_000);
    let mut random = fastrand::Rng::with_seed(seed);
    let versions = Versions::start("off").await;
    let mut couples: Vec<_> = (0..8).map(|_| Couple::new(&versions)).collect();
    for n in 0..requests {
        let couple = &mut couples[random.usize(..8)];
        let (version, caller) = (any_version(&mut random), random.usize(..2));
        couple
            .perform(version, caller, &any_request(&mut random))
            .await;
        if n % 10 == 0 {
            couple.assert_totals_equal_model(caller).await;
        }
    }
    for couple in &mut couples {
        if couple.model.status().is_some() {
            couple.assert_equals_model().await;
        }
    }
    versions.assert_consistent().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_to_both_versions_at_once_keep_all_counts_exact() {
    let seed = env_number("MODEL_SEED", 1);
    let mut random = fastrand::Rng::with_seed(seed);
    let versions = Arc::new(Versions::start("off").await);
    let users: Arc<Vec<u64>> = Arc::new((0..5).map(|_| random.u64(1..=MAX_SAFE_INTEGER)).collect());
    let clients = (0..12).map(|_| {
        let (versions, users) = (versions.clone(), users.clone());
        let mut random = random.fork();
        async move {
            for _ in 0..40 {
                let caller = random.usize(..users.len());
                let other = (caller + random.usize(1..users.len())) % users.len();
                let request = any_request(&mut random).to_http(users[caller], users[other]);
                let version = any_version(&mut random);
                let response = versions.send(version, users[caller], request).await;
                assert!(response.status < 500, "{version:?}: {response:?}");
            }
        }
    });
    run_concurrently(clients).await;
    versions.assert_consistent().await;
}

/// While they are off, this version writes nothing that the previous one does not know. Reading works.
#[tokio::test]
async fn the_safety_features_write_nothing_while_they_are_off() {
    let versions = Versions::start("off").await;
    let pending = Couple::after(&versions, Version::Previous, "request").await;
    let active = Couple::after(&versions, Version::Current, "active send send").await;
    let before = versions.table.everything().await;
    let edit = Edit::text("new");
    let report = PairRequest::Report {
        seq: None,
        reason: "spam",
        block: false,
    };
    for (couple, caller, request) in [
        (&pending, 0, PairRequest::Withdraw),
        (&pending, 1, PairRequest::Block),
        (&active, 0, PairRequest::Edit { seq: 1, edit }),
        (&active, 0, PairRequest::Delete { seq: 1 }),
        (&active, 1, PairRequest::MarkRead { up_to: Some(1) }),
        (&active, 1, PairRequest::Block),
        (&active, 1, PairRequest::Unblock),
        (&active, 1, report),
    ] {
        let response: Response = couple.send(Version::Current, caller, &request).await;
        response.expect_error(503, "unavailable");
        assert!(response.header("retry-after").is_some(), "{response:?}");
    }
    let chat = active.chat_id();
    for path in [
        format!("/chats/{chat}"),
        format!("/chats/{chat}/changes"),
        "/blocks".to_owned(),
    ] {
        let response = versions.get(Version::Current, active.users[1], &path).await;
        response.expect_status(200);
    }
    assert_eq!(versions.table.everything().await, before);
    versions.assert_consistent().await;
}
