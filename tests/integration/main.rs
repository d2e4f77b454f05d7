//! White-box tests: the items in the table after a request, the cost of each request, and failures of
//! DynamoDB and of function processes. Each test starts its own stack on this machine.
//!
//! | Module | What it checks |
//! |---|---|
//! | `configuration` | environment variables: caps, time limits, the switch of the safety features, issuer and audience, errors at start |
//! | `contention` | conflicts: 200 senders to one user, and the shards of a user's totals |
//! | `contract_with_index_lag` | the contract tests again, while indexes follow the table late |
//! | `cost` | sequential round trips and capacity units of each endpoint |
//! | `endpoint_consistency` | endpoints, binaries, template, sample events and documentation agree |
//! | `function_instances` | processes: replacement, connections, private data in logs, unusual events |
//! | `iam_policies` | each function's role allows exactly what the function does |
//! | `index_lag` | lists of chats while indexes show old rows, both rows or none |
//! | `linearizability` | concurrent requests under injected faults, against a linearizability checker |
//! | `live` | push through WebSockets: faults, cost, permissions, and a client that follows the rules for clients |
//! | `logging` | the log line and metrics of each request |
//! | `model_based` | random sequences of requests against a model of the contract |
//! | `outages` | responses and the table when no operation succeeds, or no response arrives |
//! | `retries` | retries of failed operations, concurrent changes, and the response when time runs out |
//! | `side_by_side` | items of a newer and of an older version in one table |
//! | `signing_keys` | access tokens: rotating secrets, public keys and key sets |
//! | `single_faults` | each kind of change with one fault in one of its operations |
//! | `soak` | fifty clients at once for some seconds |
//! | `stored_items` | the items in the table after each kind of request |
//! | `table_check` | the operator's consistency check of a table, and its repairs |
//! | `torn_reads` | requests while another transaction is readable only in part |
//!
//! The tests share these modules:
//!
//! | Module | What it contains |
//! |---|---|
//! | `contract_model` | the contract as a model, for `model_based` and `linearizability` |
//! | `dynamodb_proxy` | a proxy that records operations, enforces IAM permissions and injects faults |
//! | `fault_injection` | random faults, reproducible from a seed |
//! | `invariants` | the invariants of the table, which most tests check at their end |
//! | `key_servers` | a fake Secrets Manager and a server of key sets |
//!
//! `scripts/mutants.sh` shows whether a test fails for each small change of the code.

#![allow(clippy::unwrap_used, reason = "a panic fails the test")]

#[path = "../support/mod.rs"]
mod support;

mod configuration;
mod contention;
mod contract_model;
#[path = "../contract/suite.rs"]
mod contract_with_index_lag;
mod cost;
mod dynamodb_proxy;
mod endpoint_consistency;
mod fault_injection;
mod function_instances;
mod iam_policies;
mod index_lag;
mod invariants;
mod key_servers;
mod linearizability;
mod live;
mod logging;
mod model_based;
mod outages;
mod retries;
mod side_by_side;
mod signing_keys;
mod single_faults;
mod soak;
mod stored_items;
mod table_check;
mod torn_reads;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

use aws_sdk_dynamodb::{
    Client, Config,
    config::{BehaviorVersion, Credentials, Region, retry::RetryConfig},
    types::AttributeValue,
};
use aws_smithy_http_client::tls;
use chat_local::{Stack, StackOptions};
use serde_json::Value;

use dynamodb_proxy::ProxiedStack;
use fault_injection::{FaultPlan, MAX_LATE_QUERIES};
use support::{Api, env_number};

// The contract tests refer to these at the root of the crate.
use contract_with_index_lag::chats;
use support::{endpoint_path, with_valid_body};

/// How long a test waits for something that normally takes milliseconds. It is long because the tests
/// also run on slow machines.
const WAIT_LIMIT: Duration = Duration::from_secs(20);

/// Starts the API that the contract tests of this target share: its indexes are late. Returns its URL,
/// and what must live as long as it is in use.
async fn start_shared_api() -> (String, ProxiedStack) {
    let proxied = ProxiedStack::start_with(support::live_stack_options()).await;
    let seed = env_number("FAULT_SEED", 1);
    proxied.set_fault_plan(FaultPlan::index_lag(seed, MAX_LATE_QUERIES));
    // The contract tests would also pass without late indexes.
    let (ann, _, chat) = proxied.stack.api.active_chat().await;
    for _ in 0..20 {
        ann.send(&chat, "hi").await.expect_status(201);
        ann.get("/chats").await.expect_status(200);
    }
    assert!(proxied.late_index_queries() > 0, "no index is late");
    (proxied.stack.stack.url().to_owned(), proxied)
}

/// Waits until a condition is true. Fails the test when that takes too long.
async fn eventually(what: &str, condition: impl AsyncFn() -> bool) {
    let becomes_true = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    within_limit(what, becomes_true).await;
}

/// Waits for a future. Fails the test when that takes too long.
async fn within_limit<T>(what: &str, future: impl Future<Output = T>) -> T {
    let result = tokio::time::timeout(WAIT_LIMIT, future).await;
    result.unwrap_or_else(|_| panic!("waited {WAIT_LIMIT:?}, but it is not true that {what}"))
}

/// The JSON lines that the functions of a stack with these options will write.
fn collect_log_lines(options: &mut StackOptions) -> Arc<Mutex<Vec<Value>>> {
    let lines = Arc::new(Mutex::new(Vec::new()));
    options.log = Arc::new({
        let lines = lines.clone();
        move |line| {
            // Lines of the gateway are not JSON.
            let json = line.split_once(": ").map(|(_, line)| line);
            let json = json.and_then(|line| serde_json::from_str::<Value>(line).ok());
            lines.lock().unwrap().extend(json);
        }
    });
    lines
}

/// The stack of one test.
struct TestStack {
    stack: Stack,
    api: Api,
    table: Table,
}

impl TestStack {
    async fn start() -> Self {
        Self::start_with(support::stack_options()).await
    }

    async fn start_with(options: StackOptions) -> Self {
        let stack = Stack::start(options).await.expect("the stack starts");
        let api = Api::at(stack.url());
        let table = Table::at(stack.dynamodb_endpoint(), stack.table());
        Self { stack, api, table }
    }
}

/// Options with a template in which `from` is replaced by `to`.
fn options_with_template(from: &str, to: &str) -> StackOptions {
    options_with_changed_template(|template| {
        assert!(
            template.contains(from),
            "template.yaml contains no {from:?}"
        );
        template.replace(from, to)
    })
}

/// Options with the template that `change` returns.
fn options_with_changed_template(change: impl FnOnce(&str) -> String) -> StackOptions {
    let mut options = support::stack_options();
    let template = std::fs::read_to_string(&options.template).unwrap();
    let name = format!("template-{}-{}.yaml", std::process::id(), fastrand::u64(..));
    options.template = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&options.template, change(&template)).unwrap();
    options
}

/// Direct access to the table behind the functions.
struct Table {
    client: Client,
    name: String,
}

impl Table {
    fn at(endpoint: &str, name: &str) -> Self {
        let http = aws_smithy_http_client::Builder::new()
            .tls_provider(tls::Provider::Rustls(
                tls::rustls_provider::CryptoMode::Ring,
            ))
            .build_https();
        let config = Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::new("us-east-1"))
            .credentials_provider(Credentials::for_tests())
            .endpoint_url(endpoint)
            // As in the functions: the store retries.
            .retry_config(RetryConfig::disabled())
            .http_client(http)
            .build();
        Self {
            client: Client::from_conf(config),
            name: name.to_owned(),
        }
    }

    /// All items of a partition by sort key, without their keys.
    async fn partition(&self, pk: &str) -> BTreeMap<String, Value> {
        let query = self.client.query().table_name(&self.name);
        let query = query.key_condition_expression("pk = :pk");
        let query = query.expression_attribute_values(":pk", AttributeValue::S(pk.to_owned()));
        let output = query.consistent_read(true).send().await.unwrap();
        let items = output.items.unwrap_or_default().into_iter();
        items
            .map(|mut item| {
                item.remove("pk");
                let sk = item.remove("sk").unwrap().as_s().unwrap().clone();
                (sk, object(item))
            })
            .collect()
    }

    /// Every item of the table: partition key, sort key, other attributes.
    async fn everything(&self) -> Vec<(String, String, Value)> {
        let mut pages = self
            .client
            .scan()
            .table_name(&self.name)
            .into_paginator()
            .send();
        let mut items = Vec::new();
        while let Some(page) = pages.next().await {
            for mut item in page.unwrap().items.unwrap_or_default() {
                let mut key = |name| item.remove(name).unwrap().as_s().unwrap().clone();
                items.push((key("pk"), key("sk"), object(item)));
            }
        }
        items
    }

    async fn chat(&self, chat: &str) -> BTreeMap<String, Value> {
        self.partition(&format!("CHAT#{chat}")).await
    }

    async fn user(&self, user: u64) -> BTreeMap<String, Value> {
        self.partition(&format!("USER#{user}")).await
    }

    /// Writes an item without the functions.
    async fn put(&self, pk: &str, sk: &str, attributes: &[(&str, AttributeValue)]) {
        let put = self.client.put_item().table_name(&self.name);
        let mut put = put
            .item("pk", AttributeValue::S(pk.to_owned()))
            .item("sk", AttributeValue::S(sk.to_owned()));
        for (attribute, value) in attributes {
            put = put.item(*attribute, value.clone());
        }
        put.send().await.unwrap();
    }

    /// Removes one attribute of an item without the functions.
    async fn remove(&self, pk: &str, sk: &str, attribute: &str) {
        let update = self.client.update_item().table_name(&self.name);
        let update = update.key("pk", AttributeValue::S(pk.to_owned()));
        let update = update.key("sk", AttributeValue::S(sk.to_owned()));
        let update = update.update_expression("REMOVE #attribute");
        let update = update.expression_attribute_names("#attribute", attribute);
        update.send().await.unwrap();
    }

    /// Deletes an item without the functions.
    async fn delete(&self, pk: &str, sk: &str) {
        let delete = self.client.delete_item().table_name(&self.name);
        let delete = delete.key("pk", AttributeValue::S(pk.to_owned()));
        let delete = delete.key("sk", AttributeValue::S(sk.to_owned()));
        delete.send().await.unwrap();
    }

    /// Sets one attribute of an item without the functions.
    async fn set(&self, pk: &str, sk: &str, attribute: &str, value: AttributeValue) {
        let update = self.client.update_item().table_name(&self.name);
        let update = update.key("pk", AttributeValue::S(pk.to_owned()));
        let update = update.key("sk", AttributeValue::S(sk.to_owned()));
        let update = update.update_expression("SET #attribute = :value");
        let update = update.expression_attribute_names("#attribute", attribute);
        update
            .expression_attribute_values(":value", value)
            .send()
            .await
            .unwrap();
    }
}

fn object(item: HashMap<String, AttributeValue>) -> Value {
    item.into_iter()
        .map(|(name, value)| (name, json(value)))
        .collect()
}

/// An attribute as JSON. Bytes become an array of numbers, and a set an array of texts.
fn json(value: AttributeValue) -> Value {
    match value {
        AttributeValue::S(text) => text.into(),
        AttributeValue::N(number) => serde_json::from_str(&number).unwrap(),
        AttributeValue::B(bytes) => bytes.into_inner().into(),
        AttributeValue::M(item) => object(item),
        AttributeValue::L(items) => items.into_iter().map(json).collect(),
        AttributeValue::Bool(flag) => flag.into(),
        AttributeValue::Null(_) => Value::Null,
        AttributeValue::Ss(members) | AttributeValue::Ns(members) => members.into(),
        other => panic!("unexpected type of attribute: {other:?}"),
    }
}
