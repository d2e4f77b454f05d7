//! IAM policies: each function's role in the template allows exactly the operations that the function
//! sends to DynamoDB, and the requests with which it sends frames to connections and closes them.
//!
//! Every test behind the proxy shows that no permission is missing, because the proxy rejects an operation
//! that the role does not allow. To show that no permission is unused, the test here sends requests along
//! every path through each function.

use std::collections::{BTreeMap, BTreeSet};

use chat_local::{
    realtime::RealtimeOptions,
    template::{Permission, Target, Template, default_path},
};
use chat_shared::http::ENDPOINTS;
use serde_json::json;

use crate::{
    dynamodb_proxy::{Fault, FaultEffect, ProxiedStack},
    live::{self, LiveStack},
    options_with_changed_template,
    support::{self, User},
};

/// Actions on the table that only the previous version of a function needs. During a gradual deployment, it runs
/// with the new role. It wrote the whole item of a chat.
const ONLY_FOR_PREVIOUS_VERSION: [(&str, &str); 3] = [
    ("send-chat-request", "dynamodb:PutItem"),
    ("accept-chat-request", "dynamodb:PutItem"),
    ("decline-chat-request", "dynamodb:PutItem"),
];

/// The functions of push that use the table, beside the endpoints of the REST API. `authorize-connection` uses nothing.
const PUSH_FUNCTIONS: [&str; 4] = [
    "close-connection",
    "open-connection",
    "push-events",
    "receive-frame",
];

/// The permissions of each function, by binary.
pub type Permissions = BTreeMap<String, BTreeSet<Permission>>;

/// The permissions that this version needs.
fn granted_permissions(template: &str) -> Permissions {
    let functions = Template::parse(template).unwrap().functions.into_iter();
    let mut granted: Permissions = functions
        .map(|function| (function.binary, function.permissions))
        .collect();
    for (binary, action) in ONLY_FOR_PREVIOUS_VERSION {
        let permission = Permission {
            action: action.to_owned(),
            target: Target::Table,
        };
        assert!(
            granted.get_mut(binary).unwrap().remove(&permission),
            "template.yaml does not grant {action} to {binary}, whose previous version needs it; when no previous \
             version needs it any more, remove it from ONLY_FOR_PREVIOUS_VERSION"
        );
    }
    granted
}

/// The template with `from` replaced by `to` in the resource of one function.
fn with_changed_function(template: &str, function: &str, from: &str, to: &str) -> String {
    let header = format!("\n  {function}:\n");
    let start = template.find(&header).expect("the function is a resource") + header.len();
    let (before, rest) = template.split_at(start);
    // The next line that is not indented further starts the next resource.
    let is_end = |line: &str| line.starts_with("  ") && !line[2..].starts_with([' ', '#']);
    let length: usize = rest
        .split_inclusive('\n')
        .take_while(|line| !is_end(line))
        .map(str::len)
        .sum();
    let (resource, after) = rest.split_at(length);
    assert!(
        resource.contains(from),
        "{function} in template.yaml contains no {from:?}"
    );
    format!("{before}{}{after}", resource.replacen(from, to, 1))
}

/// One line for each permission that is granted but not used, or used but not granted.
fn differences(granted: &Permissions, used: &Permissions) -> Vec<String> {
    let pairs = |permissions: &Permissions| -> BTreeSet<(String, Permission)> {
        let pairs = permissions.iter().flat_map(|(function, permissions)| {
            let permissions = permissions.iter().cloned();
            permissions.map(|permission| (function.clone(), permission))
        });
        pairs.collect()
    };
    let describe = |permission: &Permission| match &permission.target {
        Target::Table => format!("{} on the table", permission.action),
        Target::Index(index) => format!("{} on {index}", permission.action),
        Target::Stream => format!("{} on the stream", permission.action),
        Target::Connections { method } => format!("{} for {method}", permission.action),
    };
    let (granted, used) = (pairs(granted), pairs(used));
    let unused = granted.difference(&used).map(|(function, permission)| {
        let permission = describe(permission);
        format!(
            "template.yaml grants {permission} to {function}, but no request in this test uses it"
        )
    });
    let missing = used.difference(&granted).map(|(function, permission)| {
        let permission = describe(permission);
        format!("template.yaml does not grant {permission} to {function}, which uses it")
    });
    unused.chain(missing).collect()
}

/// Chat requests: new, repeated, declined, in the other direction, accepted by a request, withdrawn, rejected,
/// one too many. Ends with an active chat of the two users.
async fn send_chat_requests(ann: &User, ben: &User) {
    let api = &ann.api;
    let cat = api.user();
    ann.request_chat(ben).await.expect_status(201);
    ann.request_chat(ben).await.expect_status(200);
    let chat = ann.chat_id_with(ben);
    ann.withdraw(&chat).await.expect_status(200);
    ann.withdraw(&chat).await.expect_status(200);
    ben.withdraw(&chat).await.expect_status(403);
    ann.request_chat(ben).await.expect_status(200);
    ben.decline(&chat).await.expect_status(200);
    ben.decline(&chat).await.expect_status(200);
    ann.request_chat(ben).await.expect_status(409);
    ben.request_chat(ann).await.expect_status(200);
    ben.accept(&chat).await.expect_status(403);
    ann.request_chat(ben).await.expect_status(200);
    ben.decline(&chat).await.expect_status(409);
    cat.request_chat(ann).await.expect_status(201);
    let other = cat.chat_id_with(ann);
    ann.accept(&other).await.expect_status(200);
    ann.accept(&other).await.expect_status(200);
    // The cap on open requests.
    for _ in 0..MAX_OPEN_REQUESTS {
        cat.request_chat(&api.user()).await.expect_status(201);
    }
    cat.request_chat(&api.user()).await.expect_status(429);
    for path in ["/chats", "/chats/pending", "/chats/rejected"] {
        for query in ["", "?skip=1", "?direction=received"] {
            ann.get(&format!("{path}{query}")).await.expect_status(200);
        }
    }
    ann.get_chat(&chat).await.expect_status(200);
    ann.get_chat(&ann.chat_id_with(&api.user()))
        .await
        .expect_status(404);
}

/// Messages: without a key, with a key, replayed, with a used key, sent at once, in conflict, listed, marked.
async fn send_messages(proxied: &ProxiedStack, ann: &User, ben: &User) {
    let chat = ann.chat_id_with(ben);
    ann.send(&chat, "one").await.expect_status(201);
    ann.send_with_key(&chat, "key", "two")
        .await
        .expect_status(201);
    ann.send_with_key(&chat, "key", "two")
        .await
        .expect_status(200);
    ann.send_with_key(&chat, "key", "other")
        .await
        .expect_status(422);
    let (first, second) = tokio::join!(ann.send(&chat, "three"), ben.send(&chat, "four"));
    assert_eq!([first.status, second.status], [201, 201]);
    let conflict = FaultEffect::cancelled(["TransactionConflict", "None", "None"]);
    proxied.inject_next([Fault::new("TransactWriteItems", conflict)]);
    ann.send(&chat, "five").await.expect_status(201);
    for query in ["", "?skip=2", "?before=3", "?after=1", "?limit=2"] {
        ann.messages(&chat, query).await.expect_status(200);
    }
    for seq in [1, 3, 1] {
        ben.mark_up_to(&chat, seq).await.expect_status(200);
    }
    ben.mark_up_to(&chat, 99).await.expect_status(400);
    for _ in 0..2 {
        ben.mark_read(&chat).await.expect_status(200);
    }
    ann.get("/totals").await.expect_status(200);
    ann.get("/totals/unread").await.expect_status(200);
}

/// Changes of messages: edited, deleted, read and unread, again, at once, in conflict, refused, listed. Five
/// messages exist.
async fn change_messages(proxied: &ProxiedStack, ann: &User, ben: &User) {
    let chat = ann.chat_id_with(ben);
    let sent = ann.send(&chat, "unread").await.expect_status(201);
    let unread = sent.body["seq"].as_u64().unwrap();
    for _ in 0..2 {
        ann.edit_text(&chat, 1, "edited").await.expect_status(200);
        ann.delete_message(&chat, 2).await.expect_status(200);
        ann.delete_message(&chat, unread).await.expect_status(200);
    }
    ann.edit_text(&chat, 2, "edited").await.expect_status(409);
    ben.edit_text(&chat, 1, "edited").await.expect_status(403);
    ben.delete_message(&chat, 1).await.expect_status(403);
    ann.edit_text(&chat, 99, "edited").await.expect_status(404);
    ann.delete_message(&chat, 99).await.expect_status(404);
    let sent = ann.send(&chat, "at once").await.expect_status(201);
    let seq = sent.body["seq"].as_u64().unwrap();
    for conflicting in [Some("TransactionConflict"), None] {
        let faults = conflicting.map(|code| Fault::cancelled(&[code, "None", "None", "None"]));
        proxied.inject_next(faults);
        let text = format!("edited, {conflicting:?}");
        ann.edit_text(&chat, seq, &text).await.expect_status(200);
    }
    let (deleted, marked) = tokio::join!(ann.delete_message(&chat, seq), ben.mark_read(&chat));
    assert_eq!([deleted.status, marked.status], [200, 200]);
    for query in ["", "?after=2", "?after=99", "?limit=1"] {
        ben.changes(&chat, query).await.expect_status(200);
    }
    mark_after_an_expired_change(proxied, ann, ben).await;
}

/// Marks up to a message while the newest change is missing: the transaction requires that it does not exist.
async fn mark_after_an_expired_change(proxied: &ProxiedStack, ann: &User, ben: &User) {
    let chat = ann.chat_id_with(ben);
    for text in ["one", "two"] {
        ann.send(&chat, text).await.expect_status(201);
    }
    let state = ben.get_chat(&chat).await.expect_status(200).body;
    let [seq, rev] = [&state["lastMessage"]["seq"], &state["rev"]].map(|n| n.as_u64().unwrap());
    let table = &proxied.stack.table;
    let sk = format!("CHG#{rev:016}");
    table.delete(&format!("CHAT#{chat}"), &sk).await;
    let expired = ben.changes(&chat, &format!("?after={}", rev - 1)).await;
    expired.expect_error(410, "changes_expired");
    ben.mark_up_to(&chat, seq - 1).await.expect_status(200);
    let unread = ben.get_chat(&chat).await.expect_status(200).body["unreadCount"].clone();
    assert_eq!(unread, json!(1));
}

/// Blocks: without a chat, with nothing and something unread, with requests in both directions, again, refused,
/// listed, ended.
async fn block_users(ann: &User, ben: &User) {
    let api = &ann.api;
    let chat = ann.chat_id_with(ben);
    let (stranger, requester, recipient) = (api.user(), api.user(), api.user());
    requester.request_chat(ann).await.expect_status(201);
    ann.request_chat(&recipient).await.expect_status(201);
    ann.send(&chat, "unread").await.expect_status(201);
    for other in [&stranger, &requester, &recipient, ben] {
        ann.block(other).await.expect_status(200);
        ann.block(other).await.expect_status(200);
    }
    ben.block(ann).await.expect_status(200);
    ann.send(&chat, "refused").await.expect_status(409);
    stranger.request_chat(ann).await.expect_status(201);
    for query in ["", "?skip=1", "?limit=1"] {
        ann.blocks(query).await.expect_status(200);
    }
    for other in [&stranger, &requester, &recipient, ben] {
        ann.unblock(other).await.expect_status(200);
        ann.unblock(other).await.expect_status(200);
    }
    ann.send_with_key(&chat, "another-key", "refused")
        .await
        .expect_status(409);
    ben.unblock(ann).await.expect_status(200);
}

/// Reports: of a user, of a message, of a deleted message, again, with a block of each kind, rejected.
async fn report_users(ann: &User, ben: &User) {
    let api = &ann.api;
    let chat = ann.chat_id_with(ben);
    let sent = ann.send(&chat, "reported").await.expect_status(201);
    let seq = sent.body["seq"].as_u64().unwrap();
    for (body, status) in [
        (json!({"userId": ann.id, "reason": "spam"}), 201),
        (json!({"userId": ann.id, "reason": "spam"}), 200),
        (json!({"userId": ann.id, "reason": "spam", "seq": 2}), 201),
        (json!({"userId": ann.id, "reason": "spam", "seq": 99}), 404),
        (
            json!({"userId": ann.id, "reason": "spam", "seq": seq, "block": true}),
            201,
        ),
        (
            json!({"userId": ann.id, "reason": "spam", "seq": seq, "block": true}),
            200,
        ),
    ] {
        ben.report(&body).await.expect_status(status);
    }
    let stranger = api.user();
    let body = json!({"userId": stranger.id, "reason": "spam", "block": true});
    ben.report(&body).await.expect_status(201);
}

/// Sends requests along every path through each function. Returns the permissions that they required.
async fn used_permissions(live: &LiveStack) -> Permissions {
    let (proxied, api) = (&live.proxied, live.api());
    let (ann, ben) = (api.user(), api.user());
    proxied.drain_cost();
    send_chat_requests(&ann, &ben).await;
    send_messages(proxied, &ann, &ben).await;
    change_messages(proxied, &ann, &ben).await;
    block_users(&ann, &ben).await;
    report_users(&ann, &ben).await;
    let mut used = live::permissions::use_push(live).await;
    proxied.wait_until_idle().await;
    for operation in proxied.drain_cost().operations {
        let function = operation.function.expect("the caller is a function");
        let permissions = used.entry(function).or_default();
        permissions.extend(operation.required_permissions);
    }
    used
}

/// The cap of the stack under test.
const MAX_OPEN_REQUESTS: usize = 4;

async fn start_with_cap() -> LiveStack {
    let mut options = support::stack_options();
    let cap = MAX_OPEN_REQUESTS.to_string();
    let variable = "MAX_OPEN_REQUESTS".to_owned();
    options.environment.insert(variable, cap);
    LiveStack::start_with(options, RealtimeOptions::default()).await
}

#[tokio::test]
#[cfg_attr(
    not(target_os = "linux"),
    ignore = "needs /proc to find the calling process"
)]
async fn each_role_allows_exactly_what_its_function_does() {
    let live = start_with_cap().await;
    let template = std::fs::read_to_string(default_path()).unwrap();
    let used = used_permissions(&live).await;
    let functions: BTreeSet<_> = used.keys().map(String::as_str).collect();
    let endpoints = ENDPOINTS.iter().map(|endpoint| endpoint.name);
    let expected: BTreeSet<_> = endpoints.chain(PUSH_FUNCTIONS).collect();
    assert_eq!(functions, expected);
    assert_eq!(differences(&granted_permissions(&template), &used), [""; 0]);

    // The comparison itself finds an action too many, a missing action, and an index too many.
    let differences_after_change = |function: &str, from: &str, to: &str| {
        let changed = with_changed_function(&template, function, from, to);
        differences(&granted_permissions(&changed), &used)
    };
    assert_eq!(
        differences_after_change(
            "ListMessagesFunction",
            "Action: [",
            "Action: [dynamodb:Scan, "
        ),
        [
            "template.yaml grants dynamodb:Scan on the table to list-messages, but no request in this \
             test uses it"
        ]
    );
    assert_eq!(
        differences_after_change("MarkMessagesReadFunction", ", dynamodb:UpdateItem]", "]"),
        [
            "template.yaml does not grant dynamodb:UpdateItem on the table to mark-messages-read, which \
             uses it"
        ]
    );
    assert_eq!(
        differences_after_change("ListChangesFunction", "dynamodb:BatchGetItem, ", ""),
        [
            "template.yaml does not grant dynamodb:BatchGetItem on the table to list-changes, which uses it"
        ]
    );
    assert_eq!(
        differences_after_change(
            "ListActiveChatsFunction",
            "table/${Table}/index/byRequester",
            "table/${Table}"
        ),
        [
            "template.yaml grants dynamodb:Query on the table to list-active-chats, but no request in this \
             test uses it",
            "template.yaml does not grant dynamodb:Query on byRequester to list-active-chats, which uses it"
        ]
    );
    assert_eq!(
        differences_after_change(
            "ReceiveFrameFunction",
            "/live/POST/@connections/*",
            "/live/GET/@connections/*"
        ),
        [
            "template.yaml grants execute-api:ManageConnections for GET to receive-frame, but no request in this \
             test uses it",
            "template.yaml does not grant execute-api:ManageConnections for POST to receive-frame, which uses it"
        ]
    );
    assert_eq!(
        differences_after_change("PushEventsFunction", "dynamodb:GetRecords, ", ""),
        [
            "template.yaml does not grant dynamodb:GetRecords on the stream to push-events, which uses it"
        ]
    );
}

#[tokio::test]
#[cfg_attr(
    not(target_os = "linux"),
    ignore = "needs /proc to find the calling process"
)]
async fn the_proxy_rejects_an_operation_that_the_role_does_not_allow() {
    // A part of a transaction, a read of several items, and an update that is no transaction.
    let options = options_with_changed_template(|template| {
        let last = ", dynamodb:UpdateItem]";
        let template = with_changed_function(template, "MarkMessagesReadFunction", last, "]");
        let template = with_changed_function(&template, "BlockUserFunction", last, "]");
        let first = "dynamodb:BatchGetItem, ";
        with_changed_function(&template, "ListChangesFunction", first, "")
    });
    let proxied = ProxiedStack::start_with(options).await;
    let (ann, ben, chat) = proxied.stack.api.active_chat().await;
    ann.send(&chat, "hi").await.expect_status(201);
    ben.mark_read(&chat).await.expect_error(500, "internal");
    assert_eq!(
        ben.get("/totals").await.body["totalUnreadMessages"],
        json!(1)
    );
    let stranger = proxied.stack.api.user();
    ann.block(&stranger).await.expect_error(500, "internal");
    ann.edit_text(&chat, 1, "edited").await.expect_status(200);
    ben.changes(&chat, "").await.expect_error(500, "internal");
}
