//! Updates that set only the attributes that change.
//!
//! An item keeps the attributes that this version of the service does not know.

use std::collections::BTreeSet;

use aws_sdk_dynamodb::types::AttributeValue;

use super::{
    Store,
    items::{Item, ItemKey},
    transaction::{Write, number},
};

/// An update of one item and its condition. Every attribute has a placeholder, because some names are reserved.
#[derive(Default)]
pub(super) struct ItemUpdate {
    assignments: Vec<String>,
    removals: BTreeSet<String>,
    conditions: Vec<String>,
    names: BTreeSet<String>,
    values: Vec<(String, AttributeValue)>,
}

impl ItemUpdate {
    /// Requires that the item does not exist yet.
    pub fn require_new(&mut self) {
        self.conditions.push("attribute_not_exists(pk)".to_owned());
    }

    /// Requires that the item exists.
    pub fn require_existing(&mut self) {
        self.conditions.push("attribute_exists(pk)".to_owned());
    }

    /// Requires that an attribute still has this value, or is still absent.
    pub fn require(&mut self, attribute: &str, value: Option<&AttributeValue>) {
        let name = self.name(attribute);
        match value {
            Some(value) => self.require_that(attribute, "=", value.clone()),
            None => self
                .conditions
                .push(format!("attribute_not_exists({name})")),
        }
    }

    /// Requires that an attribute compares to a value in this way.
    pub fn require_that(&mut self, attribute: &str, comparison: &str, value: AttributeValue) {
        let name = self.name(attribute);
        let placeholder = format!(":{attribute}Before");
        self.conditions
            .push(format!("{name} {comparison} {placeholder}"));
        self.values.push((placeholder, value));
    }

    /// Sets an attribute, or removes it.
    pub fn set(&mut self, attribute: &str, value: Option<AttributeValue>) {
        let name = self.name(attribute);
        let Some(value) = value else {
            self.removals.insert(name);
            return;
        };
        let placeholder = format!(":{attribute}");
        self.assignments.push(format!("{name} = {placeholder}"));
        self.values.push((placeholder, value));
    }

    /// Sets an attribute to the value of another one at the time of the write.
    pub fn copy(&mut self, attribute: &str, source: &str) {
        let (name, source) = (self.name(attribute), self.name(source));
        self.assignments.push(format!("{name} = {source}"));
    }

    /// Adds a number to an attribute that exists.
    pub fn add(&mut self, attribute: &str, change: i64) {
        let name = self.name(attribute);
        let placeholder = format!(":{attribute}Change");
        self.assignments
            .push(format!("{name} = {name} + {placeholder}"));
        self.values.push((placeholder, number(change)));
    }

    /// Sets or removes each attribute that differs between two versions of the item.
    pub fn change_to(&mut self, before: &Item, after: &Item) {
        let attributes: BTreeSet<_> = before.keys().chain(after.keys()).collect();
        for attribute in attributes {
            let is_key = matches!(attribute.as_str(), "pk" | "sk");
            if !is_key && before.get(attribute) != after.get(attribute) {
                self.set(attribute, after.get(attribute).cloned());
            }
        }
    }

    fn name(&mut self, attribute: &str) -> String {
        self.names.insert(attribute.to_owned());
        format!("#{attribute}")
    }
}

fn join(parts: &BTreeSet<String>) -> String {
    let parts: Vec<_> = parts.iter().map(String::as_str).collect();
    parts.join(", ")
}

/// The value of a number that is absent while it is 0.
pub(super) fn absent_if_zero(value: u64) -> Option<AttributeValue> {
    (value > 0).then(|| number(value))
}

impl Store {
    /// The write that applies an update.
    pub(super) fn update_item(&self, key: ItemKey, update: &ItemUpdate) -> Write {
        let mut clauses = Vec::new();
        if !update.assignments.is_empty() {
            clauses.push(format!("SET {}", update.assignments.join(", ")));
        }
        if !update.removals.is_empty() {
            clauses.push(format!("REMOVE {}", join(&update.removals)));
        }
        let condition = update.conditions.join(" AND ");
        let names = update.names.iter();
        let names: Vec<_> = names.map(|name| (format!("#{name}"), name)).collect();
        let names = names
            .iter()
            .map(|(placeholder, name)| (placeholder.as_str(), name.as_str()));
        let values = update.values.iter();
        self.update(
            key,
            &clauses.join(" "),
            Some(&condition),
            &names.collect::<Vec<_>>(),
            values
                .map(|(placeholder, value)| (placeholder.as_str(), value.clone()))
                .collect(),
        )
    }
}
