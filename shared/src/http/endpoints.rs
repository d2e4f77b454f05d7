//! The table of endpoints, and the methods that each path supports.
//!
//! [`ENDPOINTS`] is the single source for routing, the OpenAPI document, the sample events and the tests.
//! `template.yaml` must list the same routes, which a test checks.
//!
//! Each path also has an event for `ANY` method, at the function of its `GET` or else its first endpoint.
//! That function returns 405 with `Allow` when a client uses a wrong method; API Gateway itself would
//! return 404. The method is checked before the access token, in the same way as an unknown path: the
//! supported methods are not secret, and CORS preflight requests carry no token.

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
pub const ENDPOINTS: [Endpoint; 11] = [
    endpoint("send-chat-request", "POST", "/chats"),
    endpoint("list-pending-requests", "GET", "/chats/pending"),
    endpoint("list-rejected-requests", "GET", "/chats/rejected"),
    endpoint("accept-chat-request", "PUT", "/chats/{chatId}/accept"),
    endpoint("decline-chat-request", "PUT", "/chats/{chatId}/decline"),
    endpoint("list-active-chats", "GET", "/chats"),
    endpoint("send-message", "POST", "/chats/{chatId}/messages"),
    endpoint("list-messages", "GET", "/chats/{chatId}/messages"),
    endpoint("mark-messages-read", "PUT", "/chats/{chatId}/messages/read"),
    endpoint("get-totals", "GET", "/totals"),
    endpoint("get-unread-total", "GET", "/totals/unread"),
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
    /// `route` is the route key of API Gateway, such as `GET /chats` or `ANY /chats`.
    ///
    /// # Errors
    /// [`Error::MethodNotAllowed`].
    pub(super) fn find(route: &str, method: &str) -> Result<Self, Error> {
        let (_, path) = route.split_once(' ').unwrap_or_default();
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

    fn find(route: &str, method: &str) -> Result<MethodMatch, String> {
        MethodMatch::find(route, method).map_err(|error| error.to_string())
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
    fn the_names_in_the_template_and_the_document_follow_from_the_name_of_the_endpoint() {
        let endpoint = ENDPOINTS[0];
        assert_eq!(endpoint.function_id(), "SendChatRequestFunction");
        assert_eq!(endpoint.operation_id(), "sendChatRequest");
    }
}
