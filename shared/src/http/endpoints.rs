//! The table of endpoints, and the methods that each path supports.
//!
//! [`ENDPOINTS`] is the single source for routing, the OpenAPI document, the sample events and the tests.
//! `template.yaml` must list the same routes, which a test checks.
//!
//! Each path also has an event for `ANY` method, at the function of its `GET` or else its first endpoint.
//! That function returns 405 with `Allow` when a client uses a wrong method; API Gateway itself would
//! return 404. The method is checked before the access token, in the same way as an unknown path: the
//! supported methods are not secret, and CORS preflight requests carry no token.
//!
//! Fixed segments take precedence over parameters: `/chats/17-42/messages/read` is not the message `read`.
//! API Gateway can still route `DELETE /chats/17-42/messages/read` to `DELETE /chats/{chatId}/messages/{seq}`,
//! because this route also has the method and the other one is only for `ANY`. So the route key alone does
//! not decide: the method check looks up the path of the request in [`ENDPOINTS`].

use percent_encoding::percent_decode_str;

use crate::Error;

/// One endpoint of the API, implemented by one function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The name of the function's binary, in kebab case.
    pub name: &'static str,
    /// The HTTP method.
    pub method: &'static str,
    /// The path as in `template.yaml`, with parameters in braces.
    pub path: &'static str,
}

const fn endpoint(name: &'static str, method: &'static str, path: &'static str) -> Endpoint {
    Endpoint { name, method, path }
}

/// All endpoints. `docs/api.md` and the OpenAPI document list them in this order.
pub const ENDPOINTS: [Endpoint; 20] = [
    endpoint("send-chat-request", "POST", "/chats"),
    endpoint("list-pending-requests", "GET", "/chats/pending"),
    endpoint("list-rejected-requests", "GET", "/chats/rejected"),
    endpoint("accept-chat-request", "PUT", "/chats/{chatId}/accept"),
    endpoint("decline-chat-request", "PUT", "/chats/{chatId}/decline"),
    endpoint("withdraw-chat-request", "PUT", "/chats/{chatId}/withdraw"),
    endpoint("list-active-chats", "GET", "/chats"),
    endpoint("get-chat", "GET", "/chats/{chatId}"),
    endpoint("send-message", "POST", "/chats/{chatId}/messages"),
    endpoint("list-messages", "GET", "/chats/{chatId}/messages"),
    endpoint("mark-messages-read", "PUT", "/chats/{chatId}/messages/read"),
    endpoint("edit-message", "PATCH", "/chats/{chatId}/messages/{seq}"),
    endpoint("delete-message", "DELETE", "/chats/{chatId}/messages/{seq}"),
    endpoint("list-changes", "GET", "/chats/{chatId}/changes"),
    endpoint("get-totals", "GET", "/totals"),
    endpoint("get-unread-total", "GET", "/totals/unread"),
    endpoint("block-user", "PUT", "/blocks/{userId}"),
    endpoint("unblock-user", "DELETE", "/blocks/{userId}"),
    endpoint("list-blocks", "GET", "/blocks"),
    endpoint("report-user", "POST", "/reports"),
];

impl Endpoint {
    /// The logical id of the function in `template.yaml`: `SendMessageFunction`.
    #[must_use]
    pub fn function_id(&self) -> String {
        format!("{}Function", pascal_case(self.name))
    }

    /// The `operationId` in the OpenAPI document: `sendMessage`.
    #[must_use]
    pub fn operation_id(&self) -> String {
        let name = pascal_case(self.name);
        name[..1].to_ascii_lowercase() + &name[1..]
    }
}

fn pascal_case(kebab_case: &str) -> String {
    let words = kebab_case.split('-');
    words
        .map(|word| word[..1].to_ascii_uppercase() + &word[1..])
        .collect()
}

/// How the method of a request relates to the methods of its path.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum MethodMatch {
    /// The function handles the request. For `HEAD`, the response has no body.
    Handler,
    /// The request is `OPTIONS`.
    Options {
        /// The value of the `Allow` header.
        allow: String,
    },
}

impl MethodMatch {
    /// `route` is the route key of API Gateway, such as `GET /chats` or `ANY /chats`. `path` is the path of the
    /// request.
    ///
    /// # Errors
    /// [`Error::MethodNotAllowed`].
    pub(super) fn find(route: &str, path: &str, method: &str) -> Result<Self, Error> {
        let (_, template) = route.split_once(' ').unwrap_or_default();
        let path = most_specific_template(template, path);
        let mut endpoints = ENDPOINTS.iter();
        if endpoints.any(|endpoint| endpoint.method == method && endpoint.path == path) {
            return Ok(Self::Handler);
        }
        let allow = allowed_methods(path);
        match method {
            "HEAD" if allow.contains(&"HEAD") => Ok(Self::Handler),
            "OPTIONS" => Ok(Self::Options {
                allow: allow.join(", "),
            }),
            _ => Err(Error::MethodNotAllowed(allow.join(", "))),
        }
    }
}

/// The most specific path of an endpoint that matches a request which API Gateway routed to `template`.
///
/// The path of the request can start with the name of a stage, so that only as many segments as the template
/// has are compared, from the end. If they do not match the template, it decides alone: API Gateway decodes
/// the path before it passes it on, so an encoded slash in a parameter looks like one more segment.
fn most_specific_template<'a>(template: &'a str, path: &str) -> &'a str {
    let count = template.split('/').skip(1).count();
    let segments: Vec<_> = path
        .split('/')
        .map(|segment| percent_decode_str(segment).decode_utf8_lossy())
        .collect();
    let segments = &segments[segments.len().saturating_sub(count)..];
    let matches = |template: &str| {
        let expected = template.split('/').skip(1);
        expected.clone().count() == segments.len()
            && expected
                .zip(segments)
                .all(|(expected, segment)| expected.starts_with('{') || expected == segment)
    };
    if !matches(template) {
        return template;
    }
    let paths = ENDPOINTS.iter().map(|endpoint| endpoint.path);
    let matching = paths.filter(|path| matches(path));
    matching
        .min_by_key(|path| path.matches('{').count())
        .unwrap_or(template)
}

/// The methods of a path. A path with `GET` also supports `HEAD`.
fn allowed_methods(path: &str) -> Vec<&'static str> {
    let endpoints = ENDPOINTS.iter().filter(|endpoint| endpoint.path == path);
    let mut methods: Vec<_> = endpoints.map(|endpoint| endpoint.method).collect();
    methods.sort_unstable();
    if methods.contains(&"GET") {
        methods.push("HEAD");
    }
    methods.push("OPTIONS");
    methods
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The match of a request to a path without parameters, or with the names of parameters as their values.
    fn find(route: &str, method: &str) -> Result<MethodMatch, String> {
        let (_, path) = route.split_once(' ').unwrap();
        find_path(route, path, method)
    }

    fn find_path(route: &str, path: &str, method: &str) -> Result<MethodMatch, String> {
        MethodMatch::find(route, path, method).map_err(|error| error.to_string())
    }

    #[test]
    fn the_method_of_an_endpoint_is_handled() {
        for route in ["GET /chats", "ANY /chats"] {
            assert_eq!(find(route, "GET"), Ok(MethodMatch::Handler));
        }
        let accept = find("PUT /chats/{chatId}/accept", "PUT");
        assert_eq!(accept, Ok(MethodMatch::Handler));
    }

    #[test]
    fn a_path_with_get_supports_head() {
        assert_eq!(find("ANY /totals", "HEAD"), Ok(MethodMatch::Handler));
        let error = find("ANY /chats/{chatId}/accept", "HEAD").unwrap_err();
        assert!(error.ends_with("PUT, OPTIONS"), "{error}");
    }

    #[test]
    fn other_methods_are_rejected_with_the_list_of_supported_methods() {
        let allow = "GET, POST, HEAD, OPTIONS".to_owned();
        for route in ["ANY /chats", "DELETE /chats"] {
            let error = find(route, "DELETE").unwrap_err();
            assert!(error.ends_with(&allow), "{error}");
        }
        // PUT and POST are methods of other paths.
        for method in ["PUT", "POST"] {
            let error = find("ANY /totals", method).unwrap_err();
            assert!(error.ends_with(" GET, HEAD, OPTIONS"), "{error}");
        }
        let options = find("ANY /chats", "OPTIONS");
        assert_eq!(options, Ok(MethodMatch::Options { allow }));
    }

    #[test]
    fn a_path_with_a_parameter_supports_the_methods_of_all_its_endpoints() {
        for (route, allow) in [
            (
                "ANY /chats/{chatId}/messages/{seq}",
                "DELETE, PATCH, OPTIONS",
            ),
            ("ANY /blocks/{userId}", "DELETE, PUT, OPTIONS"),
            ("ANY /chats/{chatId}", "GET, HEAD, OPTIONS"),
        ] {
            let error = find(route, "POST").unwrap_err();
            assert!(error.ends_with(&format!(" {allow}")), "{error}");
        }
        let delete = "DELETE /chats/{chatId}/messages/{seq}";
        assert_eq!(find(delete, "DELETE"), Ok(MethodMatch::Handler));
    }

    #[test]
    fn fixed_segments_take_precedence_over_parameters_whatever_the_route_key_says() {
        let message = "/chats/{chatId}/messages/{seq}";
        for route in [
            "DELETE /chats/{chatId}/messages/{seq}",
            "ANY /chats/{chatId}/messages/{seq}",
            "ANY /chats/{chatId}/messages/read",
        ] {
            for path in [
                "/chats/1-2/messages/read",
                "/chats/1-2/messages/%72ead",
                "/stage/chats/1-2/messages/read",
            ] {
                let error = find_path(route, path, "DELETE").unwrap_err();
                assert!(error.ends_with(" PUT, OPTIONS"), "{route} {path}: {error}");
            }
        }
        let error = find_path("ANY /chats/{chatId}", "/chats/pending", "PUT").unwrap_err();
        assert!(error.ends_with(" GET, HEAD, OPTIONS"), "{error}");
        for path in ["/chats/1-2/messages/7", "/chats/read/messages/reads"] {
            for method in ["PATCH", "DELETE"] {
                let found = find_path(&format!("{method} {message}"), path, method);
                assert_eq!(found, Ok(MethodMatch::Handler), "{method} {path}");
            }
        }
    }

    #[test]
    fn a_path_that_does_not_match_its_route_leaves_the_decision_to_the_route() {
        // API Gateway has decoded `1-2%2Fmessages`, `read%2F1` and `1%2Fread`.
        for (route, path) in [
            (
                "GET /chats/{chatId}/messages",
                "/chats/1-2/messages/messages",
            ),
            (
                "PATCH /chats/{chatId}/messages/{seq}",
                "/chats/1-2/messages/read/1",
            ),
            (
                "DELETE /chats/{chatId}/messages/{seq}",
                "/chats/1-2/messages/1/read",
            ),
            ("GET /chats", "/"),
            ("GET /chats", "/chats/"),
            ("GET /chats/{chatId}/changes", "/"),
        ] {
            let method = route.split(' ').next().unwrap();
            let found = find_path(route, path, method);
            assert_eq!(found, Ok(MethodMatch::Handler), "{route} {path}");
        }
        assert!(find_path("$default", "/chats", "GET").is_err());
        assert!(find_path("", "/chats", "GET").is_err());
    }

    #[test]
    fn the_names_in_the_template_and_the_document_follow_from_the_name_of_the_endpoint() {
        let endpoint = ENDPOINTS[0];
        assert_eq!(endpoint.function_id(), "SendChatRequestFunction");
        assert_eq!(endpoint.operation_id(), "sendChatRequest");
    }
}
