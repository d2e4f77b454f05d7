//! Endpoint consistency: `chat_shared::http::ENDPOINTS` is the source, and the binaries, the template, the
//! sample events and the documentation contain the same endpoints. Each failure says what to add where.

use std::collections::{BTreeMap, BTreeSet};

use chat_local::{
    Stack, generated_files, sample_events,
    template::{Route, Template, default_path, workspace_root},
};
use chat_shared::{
    domain::UserId,
    http::{ENDPOINTS, Endpoint},
    openapi::sample_requests,
};
use serde_json::{Value, json};

use crate::{
    TestStack,
    support::{live_stack_options, tokens},
};

/// The endpoints of each path, in the order of [`ENDPOINTS`].
fn endpoints_by_path() -> BTreeMap<&'static str, Vec<&'static Endpoint>> {
    let mut paths: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for endpoint in &ENDPOINTS {
        paths.entry(endpoint.path).or_default().push(endpoint);
    }
    paths
}

fn route(endpoint: &Endpoint) -> String {
    format!("{} {}", endpoint.method, endpoint.path)
}

/// The names of the files in a folder that have this extension, without it.
fn file_names(folder: &str, extension: &str) -> BTreeSet<String> {
    let files = std::fs::read_dir(workspace_root().join(folder)).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    names
        .filter_map(|name| Some(name.strip_suffix(extension)?.to_owned()))
        .collect()
}

fn read(file: &str) -> String {
    let path = workspace_root().join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The binaries of the functions without an endpoint: those of the WebSocket API and of the stream.
fn live_binaries() -> BTreeSet<String> {
    let template = Template::read(&default_path()).unwrap();
    let live = template.live.expect("template.yaml has a WebSocket API");
    let stream = template.stream_mapping.map(|mapping| mapping.function);
    let functions = [
        live.authorizer,
        live.connect,
        live.default,
        live.disconnect,
        stream,
    ];
    let binaries: BTreeSet<_> = functions.into_iter().flatten().collect();
    assert_eq!(binaries.len(), 5, "{binaries:?}");
    binaries
}

#[test]
fn each_function_of_the_websocket_api_and_the_stream_has_a_binary_and_a_sample_event() {
    let (binaries, events) = (
        file_names("functions/src/bin", ".rs"),
        file_names("events", ".json"),
    );
    for binary in live_binaries() {
        assert!(binaries.contains(&binary), "functions/src/bin/{binary}.rs");
        assert!(events.contains(&binary), "events/{binary}.json");
    }
}

#[tokio::test]
async fn each_function_of_the_websocket_api_and_the_stream_accepts_its_sample_event() {
    let stack = Stack::start(live_stack_options()).await.unwrap();
    for binary in live_binaries() {
        let sign = |user: UserId| Ok(tokens::valid_token(user.get()));
        let event = sample_events::event(&binary, None, sign).unwrap();
        let event: Value = serde_json::from_str(&event).unwrap();
        let response = stack.invoke(&binary, event).await;
        let response = response.unwrap_or_else(|error| panic!("{binary}: {error}"));
        let policy = &response["policyDocument"]["Statement"][0]["Effect"];
        let is_accepted = response["statusCode"] == 200
            || *policy == "Allow"
            || response["batchItemFailures"] == json!([]);
        assert!(is_accepted, "the response of {binary} is {response}");
    }
    stack.stop().await;
}

#[test]
fn endpoints_are_distinct() {
    let names: BTreeSet<_> = ENDPOINTS.iter().map(|endpoint| endpoint.name).collect();
    let routes: BTreeSet<_> = ENDPOINTS.iter().map(route).collect();
    assert_eq!(names.len(), ENDPOINTS.len(), "two endpoints have one name");
    assert_eq!(
        routes.len(),
        ENDPOINTS.len(),
        "two endpoints have one route"
    );
}

#[test]
fn each_endpoint_has_a_binary_and_each_binary_an_endpoint() {
    let binaries = file_names("functions/src/bin", ".rs");
    for Endpoint { name, .. } in &ENDPOINTS {
        assert!(
            binaries.contains(*name),
            "the endpoint {name} has no binary; add functions/src/bin/{name}.rs"
        );
    }
    for binary in binaries.difference(&live_binaries()) {
        assert!(
            ENDPOINTS.iter().any(|endpoint| endpoint.name == *binary),
            "functions/src/bin/{binary}.rs has no endpoint; add it to ENDPOINTS in \
             shared/src/http/endpoints.rs"
        );
    }
}

#[test]
fn each_endpoint_has_a_function_in_the_template_and_each_function_an_endpoint() {
    let functions = Template::read(&default_path()).unwrap().functions;
    for endpoint in &ENDPOINTS {
        let (name, id) = (endpoint.name, endpoint.function_id());
        let function = functions.iter().find(|function| function.name == id);
        let function = function.unwrap_or_else(|| {
            panic!("template.yaml has no function for the endpoint {name}; add the resource {id}")
        });
        assert_eq!(
            function.binary, name,
            "set BuildProperties.Binary of {id} in template.yaml to {name}"
        );
    }
    let live = live_binaries();
    for function in functions {
        if live.contains(&function.binary) {
            continue;
        }
        let id = function.name;
        assert!(
            ENDPOINTS
                .iter()
                .any(|endpoint| endpoint.function_id() == id),
            "the function {id} in template.yaml has no endpoint; add it to ENDPOINTS in \
             shared/src/http/endpoints.rs"
        );
    }
}

#[test]
fn each_endpoint_has_one_route_in_the_template_and_each_route_an_endpoint() {
    let routes = Template::read(&default_path()).unwrap().routes;
    for endpoint in &ENDPOINTS {
        let expected = Route {
            method: endpoint.method.to_owned(),
            path: endpoint.path.to_owned(),
            binary: endpoint.name.to_owned(),
        };
        let count = routes.iter().filter(|route| **route == expected).count();
        let (id, method, path) = (endpoint.function_id(), endpoint.method, endpoint.path);
        assert_eq!(
            count, 1,
            "{id} in template.yaml must have exactly one event of type HttpApi with Method {method} \
             and Path {path}"
        );
    }
    for Route {
        method,
        path,
        binary,
    } in routes.iter().filter(|route| route.method != "ANY")
    {
        let is_endpoint = |endpoint: &Endpoint| {
            endpoint.method == method && endpoint.path == path && endpoint.name == binary
        };
        assert!(
            ENDPOINTS.iter().any(is_endpoint),
            "template.yaml routes {method} {path} to {binary}, which is no endpoint; remove the event or \
             add the endpoint to ENDPOINTS in shared/src/http/endpoints.rs"
        );
    }
}

#[test]
fn each_path_has_one_event_for_any_method_in_the_template() {
    let routes = Template::read(&default_path()).unwrap().routes;
    let any_routes = routes.iter().filter(|route| route.method == "ANY");
    let mut actual: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for route in any_routes {
        let binaries = actual.entry(&route.path).or_default();
        binaries.push(&route.binary);
    }
    for (path, endpoints) in endpoints_by_path() {
        let get = endpoints.iter().find(|endpoint| endpoint.method == "GET");
        let expected = get.unwrap_or(&endpoints[0]);
        let binaries = actual.remove(path).unwrap_or_default();
        assert_eq!(
            binaries,
            [expected.name],
            "exactly one function in template.yaml must have an event with Method ANY and Path {path}: \
             {}",
            expected.function_id()
        );
    }
    assert!(
        actual.is_empty(),
        "template.yaml has events with Method ANY for paths without an endpoint; remove them: {actual:?}"
    );
}

/// The routes under `DefinitionBody.paths` in the template, such as `GET /chats`.
///
/// The template's reader does not read this part, so this reads the lines: under `paths:`, a line that is
/// indented one level further is a path, and two levels further a method.
fn routes_in_definition_body(template: &str) -> BTreeSet<String> {
    const LEVEL: usize = 2;

    let indentation = |line: &str| line.len() - line.trim_start().len();
    let mut lines = template.lines();
    assert!(
        lines.any(|line| line.trim() == "DefinitionBody:"),
        "template.yaml has no DefinitionBody"
    );
    let paths = lines.find(|line| line.trim() == "paths:");
    let start = indentation(paths.expect("DefinitionBody in template.yaml has paths"));
    let mut routes = BTreeSet::new();
    let mut path = "";
    for line in lines {
        let text = line.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let key = text.split_once(':').map_or(text, |(key, _)| key);
        match indentation(line).checked_sub(start) {
            None | Some(0) => break,
            Some(LEVEL) => path = key,
            Some(depth) if depth == 2 * LEVEL => {
                routes.insert(format!("{} {path}", key.to_uppercase()));
            }
            Some(_) => {}
        }
    }
    routes
}

#[test]
fn the_gateway_authorizer_covers_each_endpoint() {
    let actual = routes_in_definition_body(&read("template.yaml"));
    let expected: BTreeSet<_> = ENDPOINTS.iter().map(route).collect();
    let missing: Vec<_> = expected.difference(&actual).collect();
    let unknown: Vec<_> = actual.difference(&expected).collect();
    assert!(
        missing.is_empty(),
        "the gateway's authorizer does not cover {missing:?}; add them to DefinitionBody.paths of ChatApi \
         in template.yaml"
    );
    assert!(
        unknown.is_empty(),
        "DefinitionBody.paths of ChatApi in template.yaml contains {unknown:?}, which are no endpoints; \
         remove them"
    );
}

#[tokio::test]
async fn each_function_responds_to_its_sample_event_with_the_expected_status() {
    let stack = TestStack::start().await;
    let mut without_sample: BTreeSet<_> = ENDPOINTS.iter().map(|endpoint| endpoint.name).collect();
    for sample in sample_requests() {
        let function = sample.endpoint.name;
        let sign = |user: UserId| Ok(tokens::valid_token(user.get()));
        let event = sample_events::event(function, None, sign).unwrap();
        let event: Value = serde_json::from_str(&event).unwrap();
        let response = stack.stack.invoke(function, event).await;
        let response = response.unwrap_or_else(|error| panic!("{function}: {error}"));
        assert_eq!(
            response["statusCode"], sample.status,
            "the response of {function} to events/{function}.json differs from the expected status in \
             shared/src/openapi/samples.rs: {response}"
        );
        without_sample.remove(function);
    }
    assert!(
        without_sample.is_empty(),
        "{without_sample:?} have no sample request; add one in shared/src/openapi/samples.rs"
    );
}

#[test]
fn the_token_in_a_sample_event_is_for_the_named_user_or_for_another_one() {
    let sign = |user: UserId| Ok(format!("[{user}]"));
    let authorization = |user: Option<&str>| {
        let user = user.map(|user| user.parse().unwrap());
        let event = sample_events::event("send-message", user, sign).unwrap();
        let event: Value = serde_json::from_str(&event).unwrap();
        let header = event["headers"]["authorization"].as_str();
        header.unwrap().to_owned()
    };
    assert_eq!(authorization(None), "Bearer [17]");
    assert_eq!(authorization(Some("99")), "Bearer [99]");
    let error = sample_events::event("no-such", None, sign).unwrap_err();
    assert!(error.to_string().contains("no-such"), "{error}");
}

#[test]
fn each_endpoint_has_a_sample_event_for_its_route() {
    for endpoint in &ENDPOINTS {
        let file = format!("events/{}.json", endpoint.name);
        let event: Value = serde_json::from_str(&read(&file)).unwrap();
        let context = &event["requestContext"];
        assert_eq!(event["routeKey"], route(endpoint), "{file}");
        assert_eq!(context["routeKey"], event["routeKey"], "{file}");
        assert_eq!(context["http"]["method"], endpoint.method, "{file}");
        assert_eq!(context["http"]["path"], event["rawPath"], "{file}");
        let mut path = endpoint.path.to_owned();
        for (name, value) in event["pathParameters"].as_object().into_iter().flatten() {
            path = path.replace(&format!("{{{name}}}"), value.as_str().unwrap());
        }
        assert_eq!(event["rawPath"], path, "{file}");
    }
}

/// API Gateway can route `DELETE …/messages/read` to `DELETE …/messages/{seq}`, because the other route that
/// matches is only for any method.
#[tokio::test]
async fn the_path_and_not_the_route_decides_which_methods_are_supported() {
    let stack = TestStack::start().await;
    let sign = |user: UserId| Ok(tokens::valid_token(user.get()));
    for (function, method) in [("delete-message", "DELETE"), ("edit-message", "PATCH")] {
        let event = sample_events::event(function, None, sign).unwrap();
        let event: Value = serde_json::from_str(&event).unwrap();
        let path = event["rawPath"].as_str().unwrap();
        let (messages, seq) = path.rsplit_once('/').unwrap();
        let with_seq = |seq: &str, prefix: &str| {
            let mut event = event.clone();
            let path = format!("{prefix}{messages}/{seq}");
            event["pathParameters"]["seq"] = seq.into();
            event["requestContext"]["http"]["path"] = path.as_str().into();
            event["rawPath"] = path.into();
            event
        };
        assert_eq!(
            event["routeKey"],
            format!("{method} /chats/{{chatId}}/messages/{{seq}}")
        );
        // A stage can be the first segment of the path.
        for prefix in ["", "/stage"] {
            let response = stack.stack.invoke(function, with_seq("read", prefix)).await;
            let response = response.unwrap();
            assert_eq!(response["statusCode"], 405, "{response}");
            assert_eq!(response["headers"]["allow"], "PUT, OPTIONS", "{response}");
            // The sample itself is about a message that does not exist.
            let response = stack.stack.invoke(function, with_seq(seq, prefix)).await;
            let response = response.unwrap();
            assert_eq!(response["statusCode"], 404, "{response}");
        }
    }
}

#[test]
fn the_sample_events_are_generated_from_the_code() {
    let mut files = file_names("events", ".json");
    // Environment variables for `sam local`, which is not an event.
    files.remove("env");
    // Written by hand, because the WebSocket API and the stream are not in openapi.yaml.
    for binary in live_binaries() {
        files.remove(&binary);
    }
    for (name, content) in sample_events::generate() {
        assert_eq!(
            read(&format!("events/{name}")),
            content,
            "events/{name} is not current; run `make generate`"
        );
        files.remove(name.trim_end_matches(".json"));
    }
    assert!(
        files.is_empty(),
        "events/ contains files that belong to no endpoint; remove them: {files:?}"
    );
}

#[test]
fn every_generated_file_is_current() {
    for file in generated_files::generate(&workspace_root()).unwrap() {
        assert!(
            file.is_current(&workspace_root()),
            "{} is not current; run `make generate`",
            file.path.display()
        );
    }
}

#[test]
fn the_table_in_the_api_documentation_lists_each_endpoint() {
    let page = read("docs/api.md");
    let table = page
        .split_once("<!-- endpoints -->")
        .and_then(|(_, rest)| rest.split_once("<!-- /endpoints -->"))
        .map(|(table, _)| table)
        .expect("docs/api.md contains the markers of the endpoint table");
    let rows: BTreeSet<_> = table.lines().map(str::trim).collect();
    for endpoint in &ENDPOINTS {
        let row = format!("| `{}` | `{}` |", endpoint.name, route(endpoint));
        assert!(
            rows.contains(&*row),
            "the endpoint table in docs/api.md does not contain {row:?}; run `make generate`"
        );
    }
    let endpoint_rows = rows.iter().filter(|row| row.starts_with("| `")).count();
    assert_eq!(
        endpoint_rows,
        ENDPOINTS.len(),
        "the endpoint table in docs/api.md contains rows without an endpoint; run `make generate`"
    );
}
