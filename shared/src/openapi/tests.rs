//! Rules that make the document work with code generators, and generated clients work with later versions.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{EXTENSIBLE_ENUM, OPEN_ENUMS, document, name};
use crate::error::ErrorCode;

/// Schemas of responses with a pattern, because the contract defines their format.
const FIXED_FORMATS: [&str; 3] = ["ChatId", "MessageId", "Timestamp"];

fn json() -> Value {
    serde_json::to_value(document()).unwrap()
}

/// Calls `visit` for a value and all values inside it, each with its JSON pointer. Examples are no schemas, so
/// they are left out.
fn walk(value: &Value, pointer: &str, visit: &mut impl FnMut(&str, &Value)) {
    visit(pointer, value);
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                if !matches!(key.as_str(), "example" | "examples" | "default") {
                    walk(member, &format!("{pointer}/{key}"), visit);
                }
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                walk(item, &format!("{pointer}/{index}"), visit);
            }
        }
        _ => {}
    }
}

/// The names of the component schemas that responses contain.
fn response_schemas(document: &Value) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut remaining = vec![document["components"]["responses"].clone()];
    for operations in document["paths"].as_object().unwrap().values() {
        for operation in operations.as_object().unwrap().values() {
            remaining.push(operation["responses"].clone());
        }
    }
    while let Some(value) = remaining.pop() {
        walk(&value, "", &mut |_, value| {
            let reference = value
                .get("$ref")
                .and_then(Value::as_str)
                .unwrap_or_default();
            if let Some(name) = reference.strip_prefix("#/components/schemas/")
                && names.insert(name.to_owned())
            {
                remaining.push(document["components"]["schemas"][name].clone());
            }
        });
    }
    names
}

#[test]
fn a_client_that_validates_responses_accepts_those_of_a_later_version() {
    let document = json();
    let names = response_schemas(&document);
    for expected in [
        "Chat",
        "Cursor",
        "Error",
        "ErrorCode",
        "LastMessage",
        "Message",
    ] {
        assert!(names.contains(expected), "{names:?}");
    }
    let mut problems = Vec::new();
    for name in &names {
        walk(
            &document["components"]["schemas"][name],
            name,
            &mut |pointer, schema| {
                for limit in [
                    "additionalProperties",
                    "const",
                    "enum",
                    "maxItems",
                    "maxLength",
                ] {
                    if schema.get(limit).is_some() {
                        problems.push(format!("{pointer}: {limit}"));
                    }
                }
                if schema.get("pattern").is_some() && !FIXED_FORMATS.contains(&pointer) {
                    problems.push(format!("{pointer}: pattern"));
                }
            },
        );
    }
    assert!(
        problems.is_empty(),
        "a later version may exceed these limits of responses; add enumerations to OPEN_ENUMS, and use schemas \
         with limits only in requests: {problems:#?}"
    );
}

#[test]
fn open_enumerations_list_the_values_of_this_version() {
    let document = json();
    let schemas = &document["components"]["schemas"];
    for open in OPEN_ENUMS {
        let schema = &schemas[open];
        assert_eq!(schema["type"], "string", "{open}");
        let values = schema[EXTENSIBLE_ENUM].as_array().unwrap();
        assert_eq!(schema["examples"][0], values[0], "{open}");
        let description = schema["description"].as_str().unwrap();
        for value in values {
            let value = value.as_str().unwrap();
            assert!(
                description.contains(&format!("`{value}`")),
                "{open}: {value}"
            );
        }
    }
    let codes = schemas["ErrorCode"][EXTENSIBLE_ENUM].as_array().unwrap();
    let codes: Vec<_> = codes.iter().map(|code| code.as_str().unwrap()).collect();
    assert_eq!(codes, ErrorCode::ALL.map(name));
}

#[test]
fn no_integer_has_a_format_that_clients_represent_as_text() {
    walk(&json(), "", &mut |pointer, value| {
        let is_integer = value.get("type").is_some_and(|name| name == "integer");
        assert!(!is_integer || value.get("format").is_none(), "{pointer}");
    });
}

#[test]
fn no_enumeration_contains_a_boolean() {
    walk(&json(), "", &mut |pointer, value| {
        let values = value.get("enum").and_then(Value::as_array);
        for value in values.into_iter().flatten() {
            assert!(value.is_string(), "{pointer}: {value}");
        }
    });
}

#[test]
fn patterns_survive_being_copied_into_the_source_code_of_a_client() {
    let mut count = 0;
    walk(&json(), "", &mut |pointer, value| {
        let Some(pattern) = value.get("pattern").and_then(Value::as_str) else {
            return;
        };
        count += 1;
        assert!(
            pattern
                .bytes()
                .all(|byte| byte.is_ascii_graphic() || byte == b' '),
            "{pointer}: {pattern}"
        );
        // `\u2028` and `\x0a` become line breaks, which end a regular expression in JavaScript. Not every
        // language knows `\p{…}`.
        for escape in [r"\u", r"\x", r"\p", r"\n", r"\r", r"\0", r"\c"] {
            assert!(!pattern.contains(escape), "{pointer}: {pattern}");
        }
    });
    assert!(count >= 4, "{count}");
}

#[test]
fn no_body_is_a_union_of_classes() {
    let document = json();
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        walk(schema, name, &mut |pointer, schema| {
            for keyword in ["allOf", "anyOf", "oneOf"] {
                let items = schema.get(keyword).and_then(Value::as_array);
                let items = items.into_iter().flatten();
                // A value or null is no union in any language.
                let count = items.filter(|item| item["type"] != "null").count();
                assert!(count <= 1, "{pointer}: {keyword}");
            }
        });
    }
    for (name, response) in document["components"]["responses"].as_object().unwrap() {
        let schema = &response["content"]["application/json"]["schema"];
        assert_eq!(schema["$ref"], "#/components/schemas/Error", "{name}");
    }
}
