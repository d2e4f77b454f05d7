//! IAM policies: each function's role in the template allows exactly the operations that the function
//! sends to DynamoDB.
//!
//! Every test behind the proxy shows that no permission is missing, because the proxy rejects an operation
//! that the role does not allow. To show that no permission is unused, the test here sends requests along
//! every path through each function.

use std::collections::{BTreeMap, BTreeSet};

use chat_local::template::{Permission, Template, default_path};
use serde_json::json;

use crate::{
    dynamodb_proxy::{Fault, FaultEffect, ProxiedStack},
    options_with_template,
};

/// The permissions of each function, by binary.
type Permissions = BTreeMap<String, BTreeSet<Permission>>;

fn granted_permissions(template: &str) -> Permissions {
    let functions = Template::parse(template).unwrap().functions.into_iter();
    let mut granted: Permissions = functions
        .map(|function| (function.binary, function.permissions))
        .collect();
    // During a gradual deployment, the previous version of these functions runs with the new role. It replaced
    // the item of a chat.
    for binary in ["accept-chat-request", "decline-chat-request"] {
        let permissions = granted.get_mut(binary).unwrap();
        let is_removed = permissions.len();
        permissions.retain(|permission| permission.action != "dynamodb:PutItem");
        assert_eq!(permissions.len() + 1, is_removed, "{binary}");
    }
    granted
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
    let describe = |permission: &Permission| {
        let resource = permission.index.as_deref().unwrap_or("the table");
        format!("{} on {resource}", permission.action)
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

/// Sends requests along every path through each function. Returns the permissions that they required.
async fn used_permissions(proxied: &ProxiedStack) -> Permissions {
    let api = &proxied.stack.api;
    let (ann, ben, cat) = (api.user(), api.user(), api.user());
    proxied.drain_cost();
    // Chat requests: new, repeated, declined, in the other direction, accepted by a request, rejected.
    ann.request_chat(&ben).await.expect_status(201);
    ann.request_chat(&ben).await.expect_status(200);
    let chat = ann.chat_id_with(&ben);
    ben.decline(&chat).await.expect_status(200);
    ben.decline(&chat).await.expect_status(200);
    ann.request_chat(&ben).await.expect_status(409);
    ben.request_chat(&ann).await.expect_status(200);
    ben.accept(&chat).await.expect_status(403);
    ann.request_chat(&ben).await.expect_status(200);
    ben.decline(&chat).await.expect_status(409);
    cat.request_chat(&ann).await.expect_status(201);
    let other = cat.chat_id_with(&ann);
    ann.accept(&other).await.expect_status(200);
    ann.accept(&other).await.expect_status(200);
    for path in ["/chats", "/chats/pending", "/chats/rejected"] {
        for query in ["", "?skip=1", "?direction=received"] {
            ann.get(&format!("{path}{query}")).await.expect_status(200);
        }
    }
    // Messages: without a key, with a key, replayed, with a used key, sent at once, in conflict.
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
    ben.mark_read(&chat).await.expect_status(200);
    ben.mark_read(&chat).await.expect_status(200);
    ann.get("/totals").await.expect_status(200);
    ann.get("/totals/unread").await.expect_status(200);

    let mut used = Permissions::new();
    for operation in proxied.drain_cost().operations {
        let function = operation.function.expect("the caller is a function");
        let permissions = used.entry(function).or_default();
        permissions.extend(operation.required_permissions);
    }
    used
}

#[tokio::test]
#[cfg_attr(
    not(target_os = "linux"),
    ignore = "needs /proc to find the calling process"
)]
async fn each_role_allows_exactly_what_its_function_does() {
    let proxied = ProxiedStack::start().await;
    let template = std::fs::read_to_string(default_path()).unwrap();
    let used = used_permissions(&proxied).await;
    assert_eq!(differences(&granted_permissions(&template), &used), [""; 0]);

    // The comparison itself finds an action too many, a missing action, and an index too many.
    let differences_after_change = |from: &str, to: &str| {
        assert!(
            template.contains(from),
            "template.yaml contains no {from:?}"
        );
        let changed = template.replacen(from, to, 1);
        differences(&granted_permissions(&changed), &used)
    };
    assert_eq!(
        differences_after_change(
            "[dynamodb:GetItem, dynamodb:Query]",
            "[dynamodb:GetItem, dynamodb:Query, dynamodb:Scan]"
        ),
        [
            "template.yaml grants dynamodb:Scan on the table to list-messages, but no request in this \
             test uses it"
        ]
    );
    assert_eq!(
        differences_after_change(
            "[dynamodb:GetItem, dynamodb:UpdateItem]",
            "[dynamodb:GetItem]"
        ),
        [
            "template.yaml does not grant dynamodb:UpdateItem on the table to mark-messages-read, which \
             uses it"
        ]
    );
    assert_eq!(
        differences_after_change("table/${Table}/index/byRequester", "table/${Table}"),
        [
            "template.yaml grants dynamodb:Query on the table to list-active-chats, but no request in this \
             test uses it",
            "template.yaml does not grant dynamodb:Query on byRequester to list-active-chats, which uses it"
        ]
    );
}

#[tokio::test]
#[cfg_attr(
    not(target_os = "linux"),
    ignore = "needs /proc to find the calling process"
)]
async fn the_proxy_rejects_an_operation_that_the_role_does_not_allow() {
    let options = options_with_template(
        "Action: [dynamodb:GetItem, dynamodb:UpdateItem]",
        "Action: [dynamodb:GetItem]",
    );
    let proxied = ProxiedStack::start_with(options).await;
    let (ann, ben, chat) = proxied.stack.api.active_chat().await;
    ann.send(&chat, "hi").await.expect_status(201);
    ben.mark_read(&chat).await.expect_error(500, "internal");
    assert_eq!(
        ben.get("/totals").await.body["totalUnreadMessages"],
        json!(1)
    );
}
