//! Holds answers to the API's document: every status, header and field must be in it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::OnceLock,
};

use jsonschema::Validator;
use serde_json::{Map, Value, json};

/// Headers that mean something to a client: there exactly where the document says so.
const HEADERS: [&str; 4] = [
    "allow",
    "idempotent-replayed",
    "retry-after",
    "www-authenticate",
];

/// The document, strict: what it does not know must not be in an answer.
pub struct Document {
    root: Value,
    /// By the JSON pointer of the schema.
    validators: BTreeMap<String, Validator>,
}

/// An answer as it came.
#[derive(Clone, Copy)]
pub struct Seen<'a> {
    pub method: &'a str,
    /// Without query.
    pub path: &'a str,
    pub status: u16,
    pub header: &'a dyn Fn(&str) -> Option<String>,
    pub body: &'a str,
}

impl Document {
    /// The document of this code.
    pub fn get() -> &'static Self {
        static DOCUMENT: OnceLock<Document> = OnceLock::new();
        DOCUMENT.get_or_init(|| Self::new(chat_shared::http::openapi::document()))
    }

    fn new(document: impl serde::Serialize) -> Self {
        let mut root = serde_json::to_value(document).unwrap();
        for schema in root["components"]["schemas"].as_object_mut().unwrap() {
            make_strict(schema.1);
        }
        for response in root["components"]["responses"].as_object_mut().unwrap() {
            make_strict(&mut response.1["content"]["application/json"]["schema"]);
        }
        let mut document = Self {
            root,
            validators: BTreeMap::new(),
        };
        document.validators = document
            .schemas_of_bodies()
            .into_iter()
            .map(|pointer| (pointer.clone(), document.validator(&pointer)))
            .collect();
        document
    }

    /// Where a body's schema is, with the body's example: of answers and of requests.
    pub fn examples(&self) -> Vec<(String, Value)> {
        let example = |pointer: &String| {
            let content = pointer.strip_suffix("/schema").unwrap();
            self.root.pointer(&format!("{content}/example")).cloned()
        };
        let pointers = self.schemas_of_bodies().into_iter();
        pointers
            .map(|pointer| {
                let example = example(&pointer).unwrap_or_else(|| panic!("{pointer}: no example"));
                (pointer, example)
            })
            .collect()
    }

    /// What is wrong with a body by its schema.
    pub fn problems(&self, pointer: &str, body: &Value) -> Vec<String> {
        let validator = &self.validators[pointer];
        let errors = validator.iter_errors(body);
        errors
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect()
    }

    fn schemas_of_bodies(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        find_bodies(&self.root, "", &mut found);
        found
    }

    fn validator(&self, pointer: &str) -> Validator {
        let mut schema = self.root.pointer(pointer).unwrap().clone();
        schema["components"] = self.root["components"].clone();
        jsonschema::options()
            .should_validate_formats(true)
            .build(&schema)
            .unwrap_or_else(|error| panic!("{pointer}: {error}"))
    }

    /// The path of the document that a request's path is one of: what is written out goes before
    /// parameters.
    fn path_of(&self, path: &str) -> Option<&str> {
        let paths = self.root["paths"].as_object().unwrap().keys();
        let matching = paths.filter(|of_document| {
            let parts: Vec<_> = path.split('/').collect();
            let expected: Vec<_> = of_document.split('/').collect();
            let same = |(part, expected): (&&str, &&str)| {
                part == expected || (expected.starts_with('{') && !part.is_empty())
            };
            parts.len() == expected.len() && parts.iter().zip(&expected).all(same)
        });
        matching
            .min_by_key(|path| path.matches('{').count())
            .map(String::as_str)
    }

    /// The pointer to the response that the document has for such an answer.
    fn response_of(&self, seen: Seen<'_>) -> Result<String, String> {
        let component = |name: &str| Ok(format!("/components/responses/{name}"));
        let Some(path) = self.path_of(seen.path) else {
            return match seen.status {
                431 => component("headers_too_large"),
                other => Err(format!("{other} of a path that is not in the document")),
            };
        };
        let operations = &self.root["paths"][path];
        let method = match seen.method {
            "HEAD" if operations.get("get").is_some() => "get".to_owned(),
            other => other.to_lowercase(),
        };
        if operations.get(&method).is_none() {
            return match seen.status {
                405 => component("method_not_allowed"),
                431 => component("headers_too_large"),
                500 => component("internal"),
                503 => component("unavailable"),
                other => Err(format!("{other} of a method that is not in the document")),
            };
        }
        let responses = &operations[&method]["responses"];
        let response = &responses[&seen.status.to_string()];
        match response.get("$ref").and_then(Value::as_str) {
            Some(reference) => Ok(reference.trim_start_matches('#').to_owned()),
            None if response.is_null() => Err("the document has no such status".to_owned()),
            None => {
                let path = path.replace('/', "~1");
                Ok(format!("/paths/{path}/{method}/responses/{}", seen.status))
            }
        }
    }

    /// Panics when the document does not say that a call may be answered like this.
    #[track_caller]
    pub fn check(&self, seen: Seen<'_>) {
        let problems = self.problems_of(seen);
        assert!(
            problems.is_empty(),
            "{} {} was answered {} {:?}, which is not as the document says: {problems:#?}",
            seen.method,
            seen.path,
            seen.status,
            seen.body,
        );
    }

    fn problems_of(&self, seen: Seen<'_>) -> Vec<String> {
        let is_gateways = |status: u16| {
            let body: Option<Map<String, Value>> = serde_json::from_str(seen.body).ok();
            let only_message = body.is_some_and(|body| body.keys().eq(["message"]));
            seen.status == status && only_message
        };
        // What the document says in words: no such path, and the methods that each path answers.
        if self.path_of(seen.path).is_none() && is_gateways(404) {
            return Vec::new();
        }
        if seen.method == "OPTIONS" && seen.status == 204 {
            let tells = (seen.header)("allow").is_some()
                || (seen.header)("access-control-allow-methods").is_some();
            let is_right = tells && seen.body.is_empty();
            return Vec::from_iter((!is_right).then(|| "neither Allow nor a preflight".to_owned()));
        }
        let pointer = match self.response_of(seen) {
            Ok(pointer) => pointer,
            Err(problem) => return vec![problem],
        };
        let response = self.root.pointer(&pointer).unwrap();
        let mut problems = Vec::new();
        let from_gateway = is_gateways(seen.status);
        for name in HEADERS {
            let documented = response["headers"].as_object().into_iter().flatten();
            let mut documented = documented.filter(|(it, _)| it.eq_ignore_ascii_case(name));
            match (documented.next(), (seen.header)(name)) {
                (None, Some(value)) => problems.push(format!("{name}: {value} is not documented")),
                (Some(_), None) if !from_gateway => problems.push(format!("{name} is missing")),
                (Some((_, header)), Some(value)) => {
                    let words = header["schema"]["enum"].as_array();
                    let listed = words.is_none_or(|words| words.contains(&json!(value)));
                    let is_number = header["schema"]["type"] != "integer"
                        || value.parse::<u64>().is_ok_and(|it| it >= 1);
                    if !listed || !is_number {
                        problems.push(format!("{name}: {value} is not what it may be"));
                    }
                }
                (_, None) => {}
            }
        }
        if (seen.header)("content-type").as_deref() != Some("application/json") {
            problems.push("the answer is not said to be JSON".to_owned());
        }
        if seen.method == "HEAD" {
            problems.extend((!seen.body.is_empty()).then(|| "HEAD has a body".to_owned()));
            return problems;
        }
        let schema = format!("{pointer}/content/application~1json/schema");
        match serde_json::from_str(seen.body) {
            Ok(body) => problems.extend(self.problems(&schema, &body)),
            Err(error) => problems.push(format!("the body is not JSON: {error}")),
        }
        problems
    }
}

/// Forbids members that a schema does not list, in it and in what it is made of.
fn make_strict(schema: &mut Value) {
    let Some(object) = schema.as_object_mut() else {
        return;
    };
    // Requests are strict as they are.
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
}

/// Collects the JSON pointers of the schemas in `content`.
fn find_bodies(value: &Value, pointer: &str, found: &mut BTreeSet<String>) {
    for (key, value) in value.as_object().into_iter().flatten() {
        let pointer = format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"));
        if key == "content" {
            let types = value.as_object().unwrap().keys();
            found.extend(types.map(|it| format!("{pointer}/{}/schema", it.replace('/', "~1"))));
        } else {
            find_bodies(value, &pointer, found);
        }
    }
}
