//! The OpenAPI document matches the code, the template and the guides.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../../tests/support/openapi_validation.rs"]
#[allow(dead_code, reason = "other tests validate responses")]
mod openapi_validation;

use std::collections::{BTreeMap, BTreeSet};

use chat_local::{
    generated_files,
    template::{Template, default_path, workspace_root},
};
use chat_shared::{error::ErrorCode, http::ENDPOINTS, openapi};
use openapi_validation::Document;
use serde_json::Value;

fn read_file(path: &str) -> String {
    std::fs::read_to_string(workspace_root().join(path)).unwrap()
}

fn document() -> Value {
    serde_json::to_value(openapi::document()).unwrap()
}

/// An error code as the contract writes it.
fn code_name(code: ErrorCode) -> String {
    serde_json::to_value(code)
        .unwrap()
        .as_str()
        .unwrap()
        .to_owned()
}

#[test]
fn openapi_yaml_and_all_other_generated_files_are_up_to_date() {
    let files = generated_files::generate(&workspace_root()).unwrap();
    assert!(files.iter().any(|file| file.path.ends_with("openapi.yaml")));
    for file in files {
        assert!(
            file.is_current(&workspace_root()),
            "{} is not up to date: run `cargo run -- generate`",
            file.path.display()
        );
    }
}

#[test]
fn the_document_the_template_and_the_code_list_the_same_endpoints() {
    let template = Template::read(&default_path()).unwrap();
    let (any_routes, method_routes): (Vec<_>, Vec<_>) = template
        .routes
        .iter()
        .partition(|route| route.method == "ANY");

    let document = document();
    let in_document: BTreeSet<_> = document["paths"]
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
    let with_operation_id: BTreeSet<_> = method_routes
        .iter()
        .map(|route| {
            let id = camel_case(&route.binary);
            (route.method.clone(), route.path.clone(), id)
        })
        .collect();
    assert_eq!(in_document, with_operation_id);

    let in_code: BTreeSet<_> = ENDPOINTS
        .iter()
        .map(|endpoint| (endpoint.method, endpoint.path, endpoint.name))
        .collect();
    let in_template: BTreeSet<_> = method_routes
        .iter()
        .map(|route| (&*route.method, &*route.path, &*route.binary))
        .collect();
    assert_eq!(in_code, in_template);

    // Each path has one `ANY` route, to the function that can respond to `HEAD`, or else to its first endpoint.
    let mut expected = BTreeMap::new();
    for endpoint in &ENDPOINTS {
        let function = expected.entry(endpoint.path).or_insert(endpoint.name);
        if endpoint.method == "GET" {
            *function = endpoint.name;
        }
    }
    let found: BTreeMap<_, _> = any_routes
        .iter()
        .map(|route| (&*route.path, &*route.binary))
        .collect();
    assert_eq!(found, expected);
    assert_eq!(any_routes.len(), expected.len());
}

/// `send-message` as `sendMessage`, written without the code under test.
fn camel_case(name: &str) -> String {
    let mut words = name.split('-');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |name, word| {
        let (initial, rest) = word.split_at(1);
        name + &initial.to_uppercase() + rest
    })
}

#[test]
fn every_example_is_valid_according_to_its_schema() {
    let examples = Document::get().examples();
    assert!(examples.len() > 25, "{}", examples.len());
    for (pointer, example) in examples {
        let problems = Document::get().problems(&pointer, &example);
        assert!(problems.is_empty(), "{pointer}: {problems:#?}");
    }
}

#[test]
fn an_example_with_a_missing_unknown_or_mistyped_field_is_invalid() {
    for (pointer, example) in Document::get().examples() {
        let fields = example.as_object().unwrap();
        let expect_invalid = |example: Value| {
            let problems = Document::get().problems(&pointer, &example);
            assert!(!problems.is_empty(), "{pointer}: {example}");
        };
        let mut extended = example.clone();
        extended["unknown"] = 1.into();
        expect_invalid(extended);
        for field in fields.keys() {
            let mut shortened = example.clone();
            shortened.as_object_mut().unwrap().remove(field);
            // An error with nothing but a message is valid, because the gateway itself returns such
            // errors. All other examples need each of their fields: those of requests have only one.
            let is_gateway_error = shortened.as_object().unwrap().keys().eq(["message"]);
            if !is_gateway_error {
                expect_invalid(shortened);
            }
            let mut mistyped = example.clone();
            mistyped[field] = Value::Array(vec![Value::Null]);
            expect_invalid(mistyped);
        }
    }
}

#[test]
fn the_code_the_document_and_the_guides_list_the_same_error_codes() {
    let codes: BTreeMap<_, _> = ErrorCode::ALL
        .map(|code| (code_name(code), code.status()))
        .into();
    let document = document();

    let in_schema = document["components"]["schemas"]["ErrorCode"]["x-extensible-enum"]
        .as_array()
        .unwrap();
    let in_schema: BTreeSet<_> = in_schema
        .iter()
        .map(|code| code.as_str().unwrap())
        .collect();
    assert_eq!(in_schema, codes.keys().map(String::as_str).collect());

    // Each code is returned by some operation, with its status. The exception is `method_not_allowed`: a
    // method that is not allowed has no operation.
    let mut in_operations = BTreeMap::from([("method_not_allowed".to_owned(), 405)]);
    for operations in document["paths"].as_object().unwrap().values() {
        for operation in operations.as_object().unwrap().values() {
            for (status, response) in operation["responses"].as_object().unwrap() {
                let reference = response["$ref"].as_str().unwrap_or_default();
                let error = document.pointer(reference.trim_start_matches('#'));
                let codes = error.and_then(|error| error["x-error-codes"].as_array());
                for code in codes.into_iter().flatten() {
                    let code = code.as_str().unwrap().to_owned();
                    in_operations.insert(code, status.parse().unwrap());
                }
            }
        }
    }
    assert_eq!(in_operations, codes);

    // A heading such as "### 404 `chat_not_found`".
    let heading = |line: &str| {
        let (status, code) = line.strip_prefix("### ")?.split_once(" `")?;
        Some((code.strip_suffix('`')?.to_owned(), status.parse().ok()?))
    };
    let guide = read_file("docs/errors.md");
    let guide: Vec<(String, u16)> = guide.lines().filter_map(heading).collect();
    assert_eq!(guide.len(), codes.len(), "{guide:?}");
    assert_eq!(BTreeMap::from_iter(guide), codes);

    // A row such as "| 404 | `chat_not_found` | no |".
    let row = |line: &str| {
        let mut cells = line.strip_prefix("| ")?.split(" | ");
        let status: u16 = cells.next()?.parse().ok()?;
        let codes = cells
            .next()?
            .split(", ")
            .map(|code| code.trim_matches('`').to_owned());
        Some(codes.map(move |code| (code, status)).collect::<Vec<_>>())
    };
    let introduction = document["info"]["description"].as_str().unwrap();
    let introduction: BTreeMap<_, _> = introduction.lines().filter_map(row).flatten().collect();
    assert_eq!(introduction, codes);
}
