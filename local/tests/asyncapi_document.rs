//! The `AsyncAPI` document matches the frames of its examples, the generated file and the guides.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use chat_local::{generated_files, template::workspace_root};
use chat_shared::openapi;
use jsonschema::Validator;
use serde_json::Value;

/// All messages, each with its name, a validator of its frames, and its examples.
fn messages() -> Vec<(String, Validator, Vec<Value>)> {
    let document = openapi::asyncapi_document();
    let messages = document["components"]["messages"].as_object().unwrap();
    let message = |(name, message): (&String, &Value)| {
        let mut schema = message["payload"].clone();
        schema["components"] = document["components"].clone();
        let validator = jsonschema::options()
            .should_validate_formats(true)
            .build(&schema)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let examples = message["examples"].as_array().unwrap().iter();
        let payloads = examples.map(|example| example["payload"].clone());
        (name.clone(), validator, payloads.collect())
    };
    messages.iter().map(message).collect()
}

#[test]
fn every_example_is_valid_according_to_its_schema() {
    let mut count = 0;
    for (name, validator, examples) in messages() {
        for example in examples {
            let errors: Vec<_> = validator
                .iter_errors(&example)
                .map(|error| format!("{}: {error}", error.instance_path()))
                .collect();
            assert!(errors.is_empty(), "{name}: {errors:#?}");
            count += 1;
        }
    }
    assert!(count >= 20, "{count}");
}

#[test]
fn a_frame_with_a_member_of_the_wrong_type_is_invalid() {
    for (name, validator, examples) in messages() {
        for example in examples {
            for member in example.as_object().unwrap().keys() {
                let mut mistyped = example.clone();
                mistyped[member] = Value::Array(vec![Value::Null]);
                assert!(!validator.is_valid(&mistyped), "{name}: {member}");
            }
        }
    }
}

#[test]
fn clients_accept_frames_of_a_later_version() {
    for (name, validator, examples) in messages() {
        for mut example in examples {
            example["later"] = Value::Null;
            for list in ["reason", "code"] {
                if example.get(list).is_some() {
                    example[list] = "later".into();
                }
            }
            for event in example["events"].as_array_mut().into_iter().flatten() {
                event["later"] = 1.into();
                event["type"] = "chat.later".into();
            }
            assert!(validator.is_valid(&example), "{name}: {example}");
        }
    }
}

#[test]
fn asyncapi_yaml_is_a_generated_file() {
    let files = generated_files::generate(&workspace_root()).unwrap();
    let is_asyncapi = |file: &&generated_files::GeneratedFile| file.path.ends_with("asyncapi.yaml");
    let file = files.iter().find(is_asyncapi).unwrap();
    assert_eq!(file.content, openapi::asyncapi_yaml().unwrap());
}

#[test]
fn the_contract_names_each_event_reason_and_error_code() {
    let contract = std::fs::read_to_string(workspace_root().join("docs/api.md")).unwrap();
    let document = openapi::asyncapi_document();
    let schemas = &document["components"]["schemas"];
    for list in ["EventType", "ByeReason", "FrameErrorCode"] {
        for value in schemas[list]["x-extensible-enum"].as_array().unwrap() {
            let value = format!("`{}`", value.as_str().unwrap());
            assert!(contract.contains(&value), "docs/api.md lacks {value}");
        }
    }
}
