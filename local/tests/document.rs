//! The API's document is what the code, the template and the guides say.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../../tests/support/document.rs"]
#[allow(dead_code, reason = "answers are checked by other tests")]
mod document;

use std::collections::{BTreeMap, BTreeSet};

use chat_local::template::{Template, default_path, workspace_root};
use chat_shared::{
    error::Code,
    http::{ROUTES, openapi},
};
use document::Document;
use serde_json::Value;

fn file(path: &str) -> String {
    std::fs::read_to_string(workspace_root().join(path)).unwrap()
}

fn root() -> Value {
    serde_json::to_value(openapi::document()).unwrap()
}

fn code(code: Code) -> String {
    serde_json::to_value(code)
        .unwrap()
        .as_str()
        .unwrap()
        .to_owned()
}

#[test]
fn the_file_is_the_document_of_this_code() {
    assert!(
        file("openapi.yaml") == openapi::yaml().unwrap(),
        "openapi.yaml is not of this code: cargo run -- openapi > openapi.yaml"
    );
}

#[test]
fn its_routes_are_those_of_the_template_and_of_the_functions() {
    let template = Template::read(&default_path()).unwrap();
    let (any, own): (Vec<_>, Vec<_>) = template.routes.iter().partition(|it| it.method == "ANY");

    let root = root();
    let of_document: BTreeSet<_> = root["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, operations)| {
            operations
                .as_object()
                .unwrap()
                .iter()
                .map(move |(method, operation)| {
                    let id = operation["operationId"].as_str().unwrap().to_owned();
                    (method.to_uppercase(), path.clone(), id)
                })
        })
        .collect();
    let of_template: BTreeSet<_> = own
        .iter()
        .map(|it| (it.method.clone(), it.path.clone(), camel_case(&it.binary)))
        .collect();
    assert_eq!(of_document, of_template);

    let of_code: BTreeSet<_> = ROUTES.iter().copied().collect();
    let of_template: BTreeSet<_> = own.iter().map(|it| (&*it.method, &*it.path)).collect();
    assert_eq!(of_code, of_template);

    // Each path has one `ANY`, at the function that can answer `HEAD`.
    let by_path = |method: &str| -> BTreeMap<_, _> {
        let routes = own.iter().filter(|it| it.method == method);
        routes.map(|it| (&*it.path, &*it.binary)).collect()
    };
    let mut expected = by_path("PUT");
    expected.extend(by_path("GET"));
    let found: BTreeMap<_, _> = any.iter().map(|it| (&*it.path, &*it.binary)).collect();
    assert_eq!(found, expected);
    assert_eq!(any.len(), expected.len());
}

/// `send-message` as `sendMessage`.
fn camel_case(name: &str) -> String {
    let mut words = name.split('-');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |name, word| {
        let (initial, rest) = word.split_at(1);
        name + &initial.to_uppercase() + rest
    })
}

#[test]
fn every_example_is_valid_by_its_schema() {
    let examples = Document::get().examples();
    assert!(examples.len() > 25, "{}", examples.len());
    for (pointer, example) in examples {
        let problems = Document::get().problems(&pointer, &example);
        assert!(problems.is_empty(), "{pointer}: {problems:#?}");
    }
}

#[test]
fn a_member_that_is_missing_or_unknown_or_of_another_type_is_not_valid() {
    for (pointer, example) in Document::get().examples() {
        let members = example.as_object().unwrap();
        let wrong = |example: Value| {
            let problems = Document::get().problems(&pointer, &example);
            assert!(!problems.is_empty(), "{pointer}: {example}");
        };
        let mut more = example.clone();
        more["unknown"] = 1.into();
        wrong(more);
        for member in members.keys() {
            let mut less = example.clone();
            less.as_object_mut().unwrap().remove(member);
            // What is left of a refusal is what the gateway may answer; the requests' members may be
            // absent, but not all of them.
            let is_gateways = less.as_object().unwrap().keys().eq(["message"]);
            if !is_gateways {
                wrong(less);
            }
            let mut other = example.clone();
            other[member] = Value::Array(vec![Value::Null]);
            wrong(other);
        }
    }
}

#[test]
fn codes_are_the_same_in_code_document_and_guides() {
    let codes: BTreeMap<_, _> = Code::ALL.map(|it| (code(it), it.status())).into();
    let root = root();

    let listed = root["components"]["schemas"]["ErrorCode"]["enum"]
        .as_array()
        .unwrap();
    let listed: BTreeSet<_> = listed.iter().map(|it| it.as_str().unwrap()).collect();
    assert_eq!(listed, codes.keys().map(String::as_str).collect());

    // Each is the answer to some call, with its status; no method answers that it is not one.
    let mut answered = BTreeMap::from([("method_not_allowed".to_owned(), 405)]);
    for operation in root["paths"].as_object().unwrap().values() {
        for operation in operation.as_object().unwrap().values() {
            for (status, response) in operation["responses"].as_object().unwrap() {
                let reference = response["$ref"].as_str().unwrap_or_default();
                let name = reference.trim_start_matches("#/components/responses/");
                if codes.contains_key(name) {
                    answered.insert(name.to_owned(), status.parse().unwrap());
                }
            }
        }
    }
    assert_eq!(answered, codes);

    // A heading such as "### 404 `chat_not_found`".
    let heading = |line: &str| {
        let (status, code) = line.strip_prefix("### ")?.split_once(" `")?;
        Some((code.strip_suffix('`')?.to_owned(), status.parse().ok()?))
    };
    let catalogue = file("docs/errors.md");
    let catalogue: Vec<(String, u16)> = catalogue.lines().filter_map(heading).collect();
    assert_eq!(catalogue.len(), codes.len(), "{catalogue:?}");
    assert_eq!(BTreeMap::from_iter(catalogue), codes);

    // A row such as "| 404 | `chat_not_found` | no |".
    let row = |line: &str| {
        let mut cells = line.strip_prefix("| ")?.split(" | ");
        let status: u16 = cells.next()?.parse().ok()?;
        let codes = cells
            .next()?
            .split(", ")
            .map(|it| it.trim_matches('`').to_owned());
        Some(codes.map(move |it| (it, status)).collect::<Vec<_>>())
    };
    let introduction = root["info"]["description"].as_str().unwrap();
    let introduction: BTreeMap<_, _> = introduction.lines().filter_map(row).flatten().collect();
    assert_eq!(introduction, codes);
}
