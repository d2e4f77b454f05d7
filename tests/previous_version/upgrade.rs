//! A table that the previous version has written, and this version without a migration.

use crate::versions::{Couple, Version, Versions};

/// Requests to the previous version, and then requests to this version. The names are those of
/// [`crate::contract_model::named`].
const CASES: &[(&str, &str)] = &[
    ("", "request accept send"),
    ("request", "request accept send mark"),
    ("request", "withdraw request decline"),
    ("request", "decline counter-request"),
    ("request", "block request unblock accept"),
    ("request", "block-back withdraw counter-request"),
    ("request decline", "counter-request withdraw block unblock"),
    ("active", "block unblock send mark"),
    ("active send send send reply", "mark:1 mark:2 mark"),
    (
        "active send send mark send send",
        "mark:3 delete:4 delete:1 edit:2",
    ),
    (
        "active send send reply",
        "edit:1 edit:2 delete:2 edit-again:1 delete:1 mark",
    ),
    ("active send send", "block delete:1 unblock mark"),
    ("active send send mark", "block unblock send block unblock"),
    (
        "active send",
        "report:1 report-and-block:1 unblock delete:1 report",
    ),
    (
        "active send-with-key:1 send-with-key:2",
        "send-with-key:1 edit:1 send-with-key:1 delete:2 send-with-key:2 send-with-key:3",
    ),
];

#[tokio::test]
async fn a_table_of_the_previous_version_works_without_a_migration() {
    let versions = Versions::start("on").await;
    for (previous, current) in CASES {
        let mut couple = Couple::after(&versions, Version::Previous, previous).await;
        if !previous.is_empty() {
            couple.assert_equals_model().await;
        }
        couple.perform_all(Version::Current, current).await;
        for caller in [0, 1] {
            couple.assert_totals_equal_model(caller).await;
        }
    }
    versions.assert_consistent().await;
}

#[tokio::test]
async fn lists_contain_the_chats_that_the_previous_version_has_written() {
    let versions = Versions::start("on").await;
    for (requests, paths) in [
        (
            "request",
            ["/chats/pending", "/chats/pending?direction=received"],
        ),
        (
            "request decline",
            ["/chats/rejected", "/chats/rejected?direction=received"],
        ),
        ("active send", ["/chats", "/chats"]),
    ] {
        let couple = Couple::after(&versions, Version::Previous, requests).await;
        for (user, path) in couple.users.into_iter().zip(paths) {
            for version in [Version::Previous, Version::Current] {
                let listed = versions.list(version, user, path).await;
                assert_eq!(listed, [couple.chat_id()], "{version:?}: {path}");
            }
        }
    }
    versions.assert_consistent().await;
}
