//! Direct access to the table behind both versions.

use std::collections::{BTreeMap, HashMap};

use aws_sdk_dynamodb::{Client, types::AttributeValue};
use chat_local::dynamodb::client_for_endpoint;
use serde_json::Value;

/// Direct access to the table behind the functions.
pub struct Table {
    pub client: Client,
    pub name: String,
}

impl Table {
    pub fn at(endpoint: &str, name: &str) -> Self {
        Self {
            client: client_for_endpoint(endpoint),
            name: name.to_owned(),
        }
    }

    /// Every item of the table: partition key, sort key, other attributes.
    pub async fn everything(&self) -> Vec<(String, String, Value)> {
        let scan = self.client.scan().table_name(&self.name);
        let mut pages = scan.into_paginator().send();
        let mut items = Vec::new();
        while let Some(page) = pages.next().await {
            for mut item in page.unwrap().items.unwrap_or_default() {
                let mut key = |name| item.remove(name).unwrap().as_s().unwrap().clone();
                let (pk, sk) = (key("pk"), key("sk"));
                items.push((pk, sk, object(item)));
            }
        }
        items
    }

    /// The items of a chat by sort key, without their keys.
    pub async fn chat(&self, chat: &str) -> BTreeMap<String, Value> {
        let partition = format!("CHAT#{chat}");
        let items = self.everything().await.into_iter();
        items
            .filter(|(pk, _, _)| *pk == partition)
            .map(|(_, sk, item)| (sk, item))
            .collect()
    }

    /// Sets one attribute of an item without the functions.
    pub async fn set(&self, pk: &str, sk: &str, attribute: &str, value: AttributeValue) {
        let update = self.client.update_item().table_name(&self.name);
        update
            .key("pk", AttributeValue::S(pk.to_owned()))
            .key("sk", AttributeValue::S(sk.to_owned()))
            .update_expression("SET #attribute = :value")
            .expression_attribute_names("#attribute", attribute)
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

/// An attribute as JSON. Bytes become an array of numbers.
fn json(value: AttributeValue) -> Value {
    match value {
        AttributeValue::S(text) => text.into(),
        AttributeValue::N(number) => serde_json::from_str(&number).unwrap(),
        AttributeValue::B(bytes) => bytes.into_inner().into(),
        AttributeValue::M(item) => object(item),
        AttributeValue::Bool(flag) => flag.into(),
        other => panic!("unexpected type of attribute: {other:?}"),
    }
}
