//! Rules of the `AsyncAPI` document. `local/tests/asyncapi_document.rs` validates the examples with a library.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{INTRODUCTION, asyncapi_document, asyncapi_yaml};
use crate::{
    openapi::{self, EXTENSIBLE_ENUM},
    realtime::protocol::{MAX_CLIENT_FRAME_BYTES, PROTOCOL},
    store::MAX_CONNECTIONS,
};

/// Calls `visit` for a value and all values inside it.
fn walk(value: &Value, visit: &mut impl FnMut(&Value)) {
    visit(value);
    match value {
        Value::Object(members) => members.values().for_each(|member| walk(member, visit)),
        Value::Array(items) => items.iter().for_each(|item| walk(item, visit)),
        _ => {}
    }
}

fn resolve<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(reference) => {
            let target = document.pointer(reference.trim_start_matches('#'));
            target.unwrap_or_else(|| panic!("{reference} does not exist"))
        }
        None => schema,
    }
}

/// What is wrong with the shape of a value: members that are missing or not in the schema, and values that are not in
/// a list of values.
fn shape_problems(document: &Value, schema: &Value, value: &Value, path: &str) -> Vec<String> {
    let schema = resolve(document, schema);
    if let Some(alternatives) = schema["oneOf"].as_array() {
        let alternatives = alternatives.iter();
        let problems = alternatives.map(|schema| shape_problems(document, schema, value, path));
        return problems.min_by_key(Vec::len).unwrap_or_default();
    }
    let mut problems = Vec::new();
    let values = schema.get("enum").or_else(|| schema.get(EXTENSIBLE_ENUM));
    if values.is_some_and(|values| !values.as_array().unwrap().contains(value)) {
        problems.push(format!("{path}: {value} is not in the list of values"));
    }
    match value {
        Value::Object(members) => {
            for required in schema["required"].as_array().into_iter().flatten() {
                if !members.contains_key(required.as_str().unwrap()) {
                    problems.push(format!("{path}: {required} is missing"));
                }
            }
            for (name, member) in members {
                let path = format!("{path}/{name}");
                match schema["properties"].get(name) {
                    Some(schema) => {
                        problems.extend(shape_problems(document, schema, member, &path));
                    }
                    None => problems.push(format!("{path} is not in the schema")),
                }
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                let path = format!("{path}/{index}");
                problems.extend(shape_problems(document, &schema["items"], item, &path));
            }
        }
        _ => {}
    }
    problems
}

/// All examples, each with the name and the schema of its message.
fn examples(document: &Value) -> Vec<(&str, &Value, &Value)> {
    let messages = document["components"]["messages"].as_object().unwrap();
    let examples = messages.iter().flat_map(|(name, message)| {
        let examples = message["examples"].as_array().unwrap().iter();
        examples.map(move |example| (name.as_str(), &message["payload"], &example["payload"]))
    });
    examples.collect()
}

#[test]
fn every_reference_has_a_target() {
    let document = asyncapi_document();
    let mut count = 0;
    walk(&document, &mut |value| {
        if value["$ref"].is_string() {
            resolve(&document, value);
            count += 1;
        }
    });
    assert!(count > 50, "{count}");
}

#[test]
fn every_message_has_examples_of_the_shape_of_its_schema() {
    let document = asyncapi_document();
    let examples = examples(&document);
    let names: BTreeSet<_> = examples.iter().map(|(name, ..)| *name).collect();
    let messages = document["components"]["messages"].as_object().unwrap();
    assert_eq!(names, messages.keys().map(String::as_str).collect());
    for (name, schema, example) in examples {
        let problems = shape_problems(&document, schema, example, name);
        assert!(problems.is_empty(), "{problems:#?}");
    }
}

#[test]
fn an_example_with_a_missing_or_unknown_member_has_another_shape() {
    let document = asyncapi_document();
    for (name, schema, example) in examples(&document) {
        let mut extended = example.clone();
        extended["unknown"] = 1.into();
        assert!(!shape_problems(&document, schema, &extended, name).is_empty());
        let mut empty = example.clone();
        empty.as_object_mut().unwrap().clear();
        assert!(!shape_problems(&document, schema, &empty, name).is_empty());
    }
}

#[test]
fn each_event_type_reason_and_error_code_has_an_example() {
    let document = asyncapi_document();
    let examples = examples(&document);
    let mut found = BTreeSet::new();
    for (_, _, example) in &examples {
        let events = example["events"].as_array().into_iter().flatten();
        found.extend(events.filter_map(|event| event["type"].as_str()));
        found.extend(
            ["reason", "code"]
                .iter()
                .filter_map(|name| example[name].as_str()),
        );
    }
    let schemas = &document["components"]["schemas"];
    let lists = ["EventType", "ByeReason", "FrameErrorCode"];
    let known = lists.into_iter().flat_map(|schema| {
        let values = schemas[schema][EXTENSIBLE_ENUM].as_array();
        values.unwrap_or_else(|| panic!("{schema} has no open list of values"))
    });
    assert_eq!(found, known.filter_map(Value::as_str).collect());
}

#[test]
fn events_contain_the_same_objects_as_responses() {
    let document = asyncapi_document();
    let openapi = serde_json::to_value(openapi::document()).unwrap();
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let shared = openapi["components"]["schemas"].as_object().unwrap();
    for name in ["Chat", "LastMessage", "Message", "Totals"] {
        assert!(schemas.contains_key(name), "{name}");
    }
    for (name, schema) in schemas {
        let in_openapi = shared.get(name);
        assert!(in_openapi.is_none_or(|other| other == schema), "{name}");
    }
}

#[test]
fn the_operations_use_each_message_in_one_direction() {
    let document = asyncapi_document();
    let mut sent = BTreeSet::new();
    let mut received = BTreeSet::new();
    let names = |list: &Value| -> Vec<String> {
        let references = list.as_array().into_iter().flatten();
        let references = references.map(|reference| reference["$ref"].as_str().unwrap());
        let names = references.map(|reference| reference.rsplit('/').next().unwrap().to_owned());
        names.collect()
    };
    for operation in document["operations"].as_object().unwrap().values() {
        let (there, back) = match operation["action"].as_str() {
            Some("send") => (&mut sent, &mut received),
            _ => (&mut received, &mut sent),
        };
        there.extend(names(&operation["messages"]));
        back.extend(names(&operation["reply"]["messages"]));
    }
    assert!(sent.is_disjoint(&received), "{sent:?} {received:?}");
    let messages = document["components"]["messages"].as_object().unwrap();
    assert_eq!(sent.len() + received.len(), messages.len());
}

#[test]
fn the_introduction_names_the_protocol_and_the_limits_of_the_code() {
    for expected in [
        format!("`{PROTOCOL}`"),
        format!("| Connections of a user | {MAX_CONNECTIONS}."),
        format!(
            "| Size of a frame from a client | {} KB.",
            MAX_CLIENT_FRAME_BYTES / 1024
        ),
    ] {
        assert!(INTRODUCTION.contains(&expected), "{expected}");
    }
}

#[test]
fn times_in_the_yaml_are_strings() {
    let yaml = asyncapi_yaml().unwrap();
    assert!(yaml.starts_with("asyncapi: 3.0.0\ninfo:\n"), "{yaml}");
    assert!(yaml.contains("serverTime: '2026-01-31T12:00:00.250Z'\n"));
    assert!(!yaml.contains(": 2026-"));
}
