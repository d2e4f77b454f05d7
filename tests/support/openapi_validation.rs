//! Validates responses against the OpenAPI document: the document must list the status, every header
//! that clients use and every field of the body.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::OnceLock,
};

use jsonschema::Validator;
use serde_json::{Map, Value, json};

/// The headers that clients use. A response must have them exactly where the document lists them.
const HEADERS: [&str; 4] = [
    "allow",
    "idempotent-replayed",
    "retry-after",
    "www-authenticate",
];

/// Errors that API Gateway itself can send, too, with only a message.
const GATEWAY_ERRORS: [&str; 5] = [
    "body_too_large",
    "internal",
    "too_many_pending_requests",
    "unauthorized",
    "unavailable",
];

/// A strict copy of the OpenAPI document. The document lets clients accept responses of later versions. A
/// response of this version must not have fields, codes and statuses that the document does not list, and an
/// error must have all fields.
pub struct Document {
    root: Value,
    /// By the JSON pointer to the schema.
    validators: BTreeMap<String, Validator>,
}

/// A response as received, with the method and path of its request.
#[derive(Clone, Copy)]
pub struct CapturedResponse<'a> {
    pub method: &'a str,
    /// The path without the query.
    pub path: &'a str,
    pub status: u16,
    /// Returns the value of a header, by its name in lower case.
    pub header: &'a dyn Fn(&str) -> Option<String>,
    pub body: &'a str,
}

impl Document {
    /// The document that this code generates.
    pub fn get() -> &'static Self {
        static DOCUMENT: OnceLock<Document> = OnceLock::new();
        DOCUMENT.get_or_init(|| Self::new(chat_shared::openapi::document()))
    }

    fn new(document: impl serde::Serialize) -> Self {
        let mut root = serde_json::to_value(document).unwrap();
        for (_, schema) in root["components"]["schemas"].as_object_mut().unwrap() {
            make_strict(schema);
        }
        for confirmation in ["MarkedAsRead", "Unblocked"] {
            root["components"]["schemas"][confirmation]["properties"]["success"]["const"] =
                true.into();
        }
        let error = root["components"]["schemas"]["Error"].clone();
        for (name, response) in root["components"]["responses"].as_object_mut().unwrap() {
            let codes = response["x-error-codes"].clone();
            let schema = &mut response["content"]["application/json"]["schema"];
            assert_eq!(schema["$ref"], "#/components/schemas/Error", "{name}");
            *schema = strict_error(name, &codes, &error);
        }
        let mut document = Self {
            root,
            validators: BTreeMap::new(),
        };
        document.validators = document
            .body_schemas()
            .into_iter()
            .map(|pointer| (pointer.clone(), document.validator(&pointer)))
            .collect();
        document
    }

    /// The examples of all request and response bodies, each with the JSON pointer to its schema.
    pub fn examples(&self) -> Vec<(String, Value)> {
        let example = |pointer: &String| {
            let content = pointer.strip_suffix("/schema").unwrap();
            self.root.pointer(&format!("{content}/example")).cloned()
        };
        let pointers = self.body_schemas().into_iter();
        pointers
            .map(|pointer| {
                let example =
                    example(&pointer).unwrap_or_else(|| panic!("{pointer} has no example"));
                (pointer, example)
            })
            .collect()
    }

    /// The errors of a body by its schema, given as a JSON pointer.
    pub fn problems(&self, pointer: &str, body: &Value) -> Vec<String> {
        let validator = &self.validators[pointer];
        let errors = validator.iter_errors(body);
        errors
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect()
    }

    /// JSON pointers to the schemas of all request and response bodies.
    fn body_schemas(&self) -> BTreeSet<String> {
        let mut pointers = BTreeSet::new();
        find_body_schemas(&self.root, "", &mut pointers);
        pointers
    }

    fn validator(&self, pointer: &str) -> Validator {
        let mut schema = self.root.pointer(pointer).unwrap().clone();
        schema["components"] = self.root["components"].clone();
        jsonschema::options()
            .should_validate_formats(true)
            .build(&schema)
            .unwrap_or_else(|error| panic!("{pointer}: {error}"))
    }

    /// The document's path template that matches a request's path. Of several, the one with the fewest
    /// parameters is the most specific.
    fn path_template(&self, path: &str) -> Option<&str> {
        let templates = self.root["paths"].as_object().unwrap().keys();
        let matching = templates.filter(|template| {
            let segments: Vec<_> = path.split('/').collect();
            let expected: Vec<_> = template.split('/').collect();
            let is_match = |(segment, expected): (&&str, &&str)| {
                segment == expected || (expected.starts_with('{') && !segment.is_empty())
            };
            segments.len() == expected.len() && segments.iter().zip(&expected).all(is_match)
        });
        matching
            .min_by_key(|template| template.matches('{').count())
            .map(String::as_str)
    }

    /// The JSON pointer to the document's description of a response.
    ///
    /// Responses to methods and paths that are not in the document use the shared components.
    fn response_pointer(&self, response: CapturedResponse<'_>) -> Result<String, String> {
        let component = |name: &str| Ok(format!("/components/responses/{name}"));
        let Some(path) = self.path_template(response.path) else {
            return match response.status {
                431 => component("headers_too_large"),
                status => Err(format!(
                    "the document has no such path, and no status {status} for unknown paths"
                )),
            };
        };
        let operations = &self.root["paths"][path];
        let method = match response.method {
            "HEAD" if operations.get("get").is_some() => "get".to_owned(),
            method => method.to_lowercase(),
        };
        if operations.get(&method).is_none() {
            return match response.status {
                405 => component("method_not_allowed"),
                431 => component("headers_too_large"),
                500 => component("internal"),
                503 => component("unavailable"),
                status => Err(format!(
                    "the document has no such method, and no status {status} for unknown methods"
                )),
            };
        }
        let responses = &operations[&method]["responses"];
        let documented = &responses[&response.status.to_string()];
        match documented.get("$ref").and_then(Value::as_str) {
            Some(reference) => Ok(reference.trim_start_matches('#').to_owned()),
            None if documented.is_null() => Err("the document has no such status".to_owned()),
            None => {
                let path = path.replace('/', "~1");
                let status = response.status;
                Ok(format!("/paths/{path}/{method}/responses/{status}"))
            }
        }
    }

    /// Panics when the document does not allow the response.
    #[track_caller]
    pub fn check(&self, response: CapturedResponse<'_>) {
        let problems = self.response_problems(response);
        assert!(
            problems.is_empty(),
            "the response to {} {} does not match the OpenAPI document: status {}, body {:?}: \
             {problems:#?}",
            response.method,
            response.path,
            response.status,
            response.body,
        );
    }

    fn response_problems(&self, response: CapturedResponse<'_>) -> Vec<String> {
        let is_gateway_response = |status: u16| {
            let body: Option<Map<String, Value>> = serde_json::from_str(response.body).ok();
            let only_message = body.is_some_and(|body| body.keys().eq(["message"]));
            response.status == status && only_message
        };
        // The document describes these two in its introduction: an unknown path, and OPTIONS.
        if self.path_template(response.path).is_none() && is_gateway_response(404) {
            return Vec::new();
        }
        if response.method == "OPTIONS" && response.status == 204 {
            let names_methods = (response.header)("allow").is_some()
                || (response.header)("access-control-allow-methods").is_some();
            let is_valid = names_methods && response.body.is_empty();
            let problem = "OPTIONS must name the methods in `Allow` or as a CORS preflight, without \
                           a body";
            return Vec::from_iter((!is_valid).then(|| problem.to_owned()));
        }
        let pointer = match self.response_pointer(response) {
            Ok(pointer) => pointer,
            Err(problem) => return vec![problem],
        };
        let documented = self.root.pointer(&pointer).unwrap();
        let mut problems =
            header_problems(response, documented, is_gateway_response(response.status));
        if (response.header)("content-type").as_deref() != Some("application/json") {
            problems.push("`Content-Type` is not application/json".to_owned());
        }
        if response.method == "HEAD" {
            let has_body = !response.body.is_empty();
            problems.extend(has_body.then(|| "the response to HEAD has a body".to_owned()));
            return problems;
        }
        let schema = format!("{pointer}/content/application~1json/schema");
        match serde_json::from_str(response.body) {
            Ok(body) => problems.extend(self.problems(&schema, &body)),
            Err(error) => problems.push(format!("the body is not JSON: {error}")),
        }
        problems
    }
}

/// Compares the headers of a response with `documented`, the document's description of the response.
/// The gateway's own responses may lack headers that the functions send.
fn header_problems(
    response: CapturedResponse<'_>,
    documented: &Value,
    is_gateway_response: bool,
) -> Vec<String> {
    let mut problems = Vec::new();
    for name in HEADERS {
        let headers = documented["headers"].as_object().into_iter().flatten();
        let mut headers = headers.filter(|(header, _)| header.eq_ignore_ascii_case(name));
        match (headers.next(), (response.header)(name)) {
            (None, Some(value)) => {
                problems.push(format!("`{name}: {value}` is not in the document"));
            }
            (Some(_), None) if !is_gateway_response => {
                problems.push(format!("`{name}` is missing"));
            }
            (Some((_, header)), Some(value)) => {
                let is_allowed = name != "idempotent-replayed" || value == "true";
                let is_number = header["schema"]["type"] != "integer"
                    || value.parse::<u64>().is_ok_and(|number| number >= 1);
                if !is_allowed || !is_number {
                    problems.push(format!("`{name}: {value}` has a value that is not allowed"));
                }
            }
            (_, None) => {}
        }
    }
    problems
}

/// The schema of an error: with one of these codes and with all fields, or with only a message if API Gateway
/// itself sends it.
fn strict_error(name: &str, codes: &Value, error: &Value) -> Value {
    let gateway_error = json!({
        "type": "object",
        "properties": {"message": {"type": "string"}},
        "required": ["message"],
        "additionalProperties": false,
    });
    if ["headers_too_large", "throttled"].contains(&name) {
        return gateway_error;
    }
    let list = codes.as_array();
    let list = list.unwrap_or_else(|| panic!("the response {name} has no `x-error-codes`"));
    assert!(!list.is_empty(), "the response {name} has no error code");
    let mut error = error.clone();
    error["required"] = json!(["success", "code", "message", "requestId"]);
    error["properties"]["success"]["const"] = false.into();
    error["properties"]["code"] = json!({"enum": codes});
    let is_gateway_error =
        |code: &Value| GATEWAY_ERRORS.contains(&code.as_str().unwrap_or_default());
    if list.iter().any(is_gateway_error) {
        json!({"anyOf": [error, gateway_error]})
    } else {
        error
    }
}

/// Forbids unlisted members and unlisted values in a schema and in the schemas inside it.
pub fn make_strict(schema: &mut Value) {
    let Some(object) = schema.as_object_mut() else {
        return;
    };
    // The schemas of what clients send already forbid them.
    if object.contains_key("additionalProperties") {
        return;
    }
    for (key, value) in object.iter_mut() {
        match key.as_str() {
            "properties" => value
                .as_object_mut()
                .unwrap()
                .values_mut()
                .for_each(make_strict),
            "anyOf" | "oneOf" => value
                .as_array_mut()
                .unwrap()
                .iter_mut()
                .for_each(make_strict),
            "items" => make_strict(value),
            _ => {}
        }
    }
    if object.contains_key("properties") {
        object.insert("additionalProperties".to_owned(), false.into());
    }
    if let Some(values) = object.remove("x-extensible-enum") {
        object.insert("enum".to_owned(), values);
    }
}

/// Collects the JSON pointers to the schemas in every `content` member.
fn find_body_schemas(value: &Value, pointer: &str, pointers: &mut BTreeSet<String>) {
    for (key, value) in value.as_object().into_iter().flatten() {
        let pointer = format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"));
        if key == "content" {
            let types = value.as_object().unwrap().keys();
            pointers.extend(types.map(|media_type| {
                let media_type = media_type.replace('/', "~1");
                format!("{pointer}/{media_type}/schema")
            }));
        } else {
            find_body_schemas(value, &pointer, pointers);
        }
    }
}
