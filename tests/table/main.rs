//! What the table holds after each call, and what each call costs: seen from behind the functions,
//! each test with a stack of its own on this machine.
//!
//! What holds up the promises, and the tests that failed when it was taken out of the code on purpose
//! (`history`: with a fifth of connections broken, or of transactions in conflict):
//!
//! | Taken out | Failed |
//! |---|---|
//! | the condition on `seq` of a message | `races::messages_sent_at_once…`, `races::counts_are_right_when_devices_mark…`, `history` |
//! | the condition on the unread count of a mark | `races::counts_are_right_when_devices_mark…`, `history` |
//! | the watermark set to the `seq` at the time of the mark, not to one read before | `retries::a_late_mark_does_not_take_back…`, `retries::a_mark_takes_what_the_reader_wrote…`, `history` |
//! | the cap on open requests, off or by one | `configuration::open_requests_are_capped…`, `configuration::the_cap_is_exact…`, `configuration::zero_is_no_cap…`, `machine` |
//! | the condition on an idempotency key | five of `idempotency`, among them `one_message_comes_of_many_calls…`, `items::a_key_is_good_for_24_hours…`, `retries::a_replay_waits…`, `history` |
//! | the idempotency key itself | the same, and `items::a_key_is_kept_with_a_hash…` |
//! | the same token for each attempt at a transaction | `retries::a_conflict_or_a_throttle_is_tried_again…`, `history` |
//! | a new token for a new plan | `retries::a_plan_that_was_overtaken…`, `races::many_who_write_to_one_user…`, `history` |
//! | the first write's say over the others' conditions | `retries::while_the_chat_is_in_conflict…` |
//! | the condition on the status of a chat that is answered | `races::accept_and_decline_at_once…`, `races::a_pair_that_asks_at_once…` |

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../support/mod.rs"]
mod support;

mod audit;
mod configuration;
mod cost;
mod crowd;
mod events;
mod history;
mod instances;
mod invariants;
mod issuers;
mod items;
mod log;
mod machine;
mod model;
mod outages;
mod policy;
mod recorder;
mod retries;
mod soak;
mod weather;

use std::collections::{BTreeMap, HashMap};

use aws_sdk_dynamodb::{
    Client, Config,
    config::{BehaviorVersion, Credentials, Region},
    types::AttributeValue,
};
use aws_smithy_http_client::tls;
use chat_local::{Options, Stack};
use serde_json::Value;

use support::Api;

/// A stack for one test.
struct Local {
    stack: Stack,
    api: Api,
    table: Table,
}

impl Local {
    async fn start() -> Self {
        Self::start_with(support::options()).await
    }

    async fn start_with(options: Options) -> Self {
        let stack = Stack::start(options).await.expect("the stack starts");
        let api = Api::at(stack.url());
        let table = Table::at(stack.dynamodb_endpoint(), stack.table());
        Self { stack, api, table }
    }
}

/// Options with a template that differs in one place.
fn options_with_template(from: &str, to: &str) -> Options {
    let mut options = support::options();
    let template = std::fs::read_to_string(&options.template).unwrap();
    assert!(template.contains(from), "the template has no {from:?}");
    let name = format!("template-{}-{}.yaml", std::process::id(), fastrand::u64(..));
    options.template = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&options.template, template.replace(from, to)).unwrap();
    options
}

/// The table behind the functions.
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

    /// Every item: partition key, sort key, attributes.
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

    /// Deletes an item behind the functions' back.
    async fn delete(&self, pk: &str, sk: &str) {
        let delete = self.client.delete_item().table_name(&self.name);
        let delete = delete.key("pk", AttributeValue::S(pk.to_owned()));
        let delete = delete.key("sk", AttributeValue::S(sk.to_owned()));
        delete.send().await.unwrap();
    }

    /// Sets one attribute behind the functions' back.
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

/// An attribute as JSON; bytes as an array of numbers.
fn json(value: AttributeValue) -> Value {
    match value {
        AttributeValue::S(text) => text.into(),
        AttributeValue::N(number) => serde_json::from_str(&number).unwrap(),
        AttributeValue::B(bytes) => bytes.into_inner().into(),
        AttributeValue::M(item) => object(item),
        other => panic!("no item has an attribute like {other:?}"),
    }
}
