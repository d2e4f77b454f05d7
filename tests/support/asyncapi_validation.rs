//! Validates frames of the push protocol against the `AsyncAPI` document: the document must list every member of
//! a frame. What a schema cannot say, such as which members an event of a type has, is checked here.

use std::{collections::BTreeMap, sync::OnceLock};

use jsonschema::Validator;
use serde_json::{Map, Value, json};

use super::openapi_validation::make_strict;

/// The document's names of the frames that the server sends, and of the one that API Gateway sends itself.
const SERVER_FRAMES: [&str; 6] = [
    "events",
    "synced",
    "renewed",
    "bye",
    "error",
    "gatewayError",
];

/// The types of events that show a message.
const MESSAGE_EVENTS: [&str; 2] = ["message.created", "message.changed"];

/// A strict copy of the `AsyncAPI` document. The document lets clients accept frames of later versions. A frame of
/// this version must not have members and values that the document does not list.
pub struct FrameSchemas {
    /// By the name of the frame.
    validators: BTreeMap<&'static str, Validator>,
}

impl FrameSchemas {
    /// The schemas of the document that this code generates.
    pub fn get() -> &'static Self {
        static SCHEMAS: OnceLock<FrameSchemas> = OnceLock::new();
        SCHEMAS.get_or_init(|| Self::new(&chat_shared::openapi::asyncapi_document()))
    }

    fn new(document: &Value) -> Self {
        let mut schemas = document["components"]["schemas"].clone();
        for (_, schema) in schemas.as_object_mut().unwrap() {
            make_strict(schema);
        }
        let validators = SERVER_FRAMES.map(|name| {
            let mut schema = document["components"]["messages"][name]["payload"].clone();
            assert!(schema.is_object(), "the document has no message {name}");
            make_strict(&mut schema);
            schema["components"] = json!({"schemas": schemas});
            let validator = jsonschema::options()
                .should_validate_formats(true)
                .build(&schema)
                .unwrap_or_else(|error| panic!("{name}: {error}"));
            (name, validator)
        });
        Self {
            validators: BTreeMap::from(validators),
        }
    }

    /// Panics when the document does not allow the server to send the frame.
    #[track_caller]
    pub fn check(&self, frame: &Value) {
        let problems = self.problems(frame);
        assert!(
            problems.is_empty(),
            "the frame {frame} does not match the AsyncAPI document: {problems:#?}"
        );
    }

    fn problems(&self, frame: &Value) -> Vec<String> {
        let name = match frame["type"].as_str() {
            None if frame.get("message").is_some() => "gatewayError",
            None => "events",
            Some(kind) if SERVER_FRAMES.contains(&kind) => kind,
            Some(kind) => return vec![format!("the type {kind:?} is not in the document")],
        };
        let errors = self.validators[name].iter_errors(frame);
        let mut problems: Vec<_> = errors
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        if name == "events" {
            let events = frame["events"].as_array().map_or(&[][..], Vec::as_slice);
            if events.is_empty() {
                problems.push("there is no event".to_owned());
            }
            problems.extend(events.iter().flat_map(event_problems));
        }
        problems
    }
}

/// What is wrong with the members of an event, by its type.
fn event_problems(event: &Value) -> Vec<String> {
    let empty = Map::new();
    let members = event.as_object().unwrap_or(&empty);
    let kind = event["type"].as_str().unwrap_or_default();
    let mut required = vec!["id", "type", "chatId", "at"];
    if kind == "typing" {
        required.push("userId");
    } else {
        required.extend(["chat", "totals"]);
    }
    if MESSAGE_EVENTS.contains(&kind) {
        required.push("message");
    }
    let is_optional = |name: &str| kind == "message.created" && name == "idempotencyKey";
    let missing = required.iter().filter(|name| !members.contains_key(**name));
    let mut problems: Vec<_> = missing
        .map(|name| format!("an event {kind:?} has no {name:?}"))
        .collect();
    let unexpected = members
        .keys()
        .filter(|name| !required.contains(&name.as_str()) && !is_optional(name));
    problems.extend(unexpected.map(|name| format!("an event {kind:?} has {name:?}")));
    for name in ["chat", "message"] {
        let object = &event[name];
        if object.is_object() && object["chatId"] != event["chatId"] {
            problems.push(format!("the {name} is not of the chat of the event"));
        }
    }
    problems
}
