//! Rules that make the document work with code generators, and generated clients work with later versions.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{ERROR_CODES, EXTENSIBLE_ENUM, OPEN_ENUMS, document, name, sample_requests};
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

/// All operations, each with its path.
fn operations(document: &Value) -> impl Iterator<Item = (&String, &Value)> {
    let paths = document["paths"].as_object().unwrap().iter();
    paths.flat_map(|(path, operations)| {
        let operations = operations.as_object().unwrap().values();
        operations.map(move |operation| (path, operation))
    })
}

/// The names of the component schemas that responses contain.
fn response_schemas(document: &Value) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut remaining = vec![document["components"]["responses"].clone()];
    for (_, operation) in operations(document) {
        remaining.push(operation["responses"].clone());
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
        "Report",
        "ReportReason",
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
fn an_error_response_lists_its_codes_which_have_the_status_of_the_response() {
    let document = json();
    let components = &document["components"]["responses"];
    let mut found = BTreeSet::from([name(ErrorCode::MethodNotAllowed)]);
    for (path, operation) in operations(&document) {
        for (status, response) in operation["responses"].as_object().unwrap() {
            let Some(reference) = response["$ref"].as_str() else {
                continue;
            };
            let component = reference.strip_prefix("#/components/responses/").unwrap();
            let response = &components[component];
            assert!(response.is_object(), "{path}: {reference}");
            let description = response["description"].as_str().unwrap();
            let codes = response[ERROR_CODES].as_array().into_iter().flatten();
            for code in codes.map(|code| code.as_str().unwrap()) {
                let is_code = |known: &ErrorCode| name(*known) == code;
                let known = ErrorCode::ALL.into_iter().find(is_code).unwrap();
                assert_eq!(known.status().to_string(), *status, "{path}: {code}");
                assert!(description.contains(&format!("`{code}`: ")), "{component}");
                found.insert(code.to_owned());
            }
        }
    }
    assert_eq!(found, BTreeSet::from(ErrorCode::ALL.map(name)));
}

#[test]
fn an_operation_has_all_parameters_of_its_path() {
    let document = json();
    for (path, operation) in operations(&document) {
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        let in_path = parameters.filter(|parameter| parameter["in"] == "path");
        let names: Vec<_> = in_path
            .map(|parameter| parameter["name"].as_str().unwrap())
            .collect();
        let expected: Vec<_> = path
            .split('/')
            .filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
            .collect();
        assert_eq!(names, expected, "{path}");
    }
}

#[test]
fn a_sample_request_has_a_value_for_each_parameter_of_its_path() {
    let path = |endpoint: &str| {
        let samples = sample_requests().into_iter();
        let mut samples = samples.filter(|sample| sample.endpoint.name == endpoint);
        samples.next().unwrap().path()
    };
    assert_eq!(path("list-active-chats"), "/chats");
    assert_eq!(path("edit-message"), "/chats/17-42/messages/1");
    assert_eq!(path("block-user"), "/blocks/42");
    for sample in sample_requests() {
        assert!(!sample.path().contains('{'), "{}", sample.path());
    }
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
