//! CORS: responds to preflight requests and adds CORS headers, as API Gateway does.
//!
//! Only the allowed origins differ from a deployment: the template allows every origin by default, but
//! a page of any website that a developer visits could then call the API on the developer's machine.

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header, request},
};

use crate::{loopback::is_loopback_url, template::Cors};

/// The template's CORS settings with the allowed origins of this stack.
pub(super) struct CorsPolicy {
    settings: Cors,
    /// As in `StackOptions`: if empty, the origins of this machine.
    allowed_origins: Vec<String>,
}

impl CorsPolicy {
    pub fn new(settings: Cors, allowed_origins: Vec<String>) -> Self {
        Self {
            settings,
            allowed_origins,
        }
    }

    /// The response to a preflight request, or `None` if the request is not one.
    ///
    /// On AWS the function of the path's `ANY` route may receive the preflight request and return
    /// 204; API Gateway then adds these headers.
    pub fn preflight_response(&self, parts: &request::Parts) -> Option<Response<Body>> {
        let origin = parts.headers.get(header::ORIGIN)?;
        let is_preflight = parts.method == Method::OPTIONS
            && parts
                .headers
                .contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        if !is_preflight {
            return None;
        }
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        if !self.allows(origin) {
            return Some(response);
        }
        let max_age = self.settings.max_age;
        let max_age = max_age.map(|seconds| seconds.to_string());
        for (name, value) in [
            (
                header::ACCESS_CONTROL_ALLOW_METHODS,
                self.settings.allow_methods.join(","),
            ),
            (
                header::ACCESS_CONTROL_ALLOW_HEADERS,
                self.settings.allow_headers.join(","),
            ),
            (header::ACCESS_CONTROL_MAX_AGE, max_age.unwrap_or_default()),
        ] {
            if let Some(value) = header_value(&value) {
                response.headers_mut().insert(name, value);
            }
        }
        Some(response)
    }

    /// Whether a request comes from a page whose origin is not allowed.
    pub fn refuses(&self, headers: &HeaderMap) -> bool {
        let origin = headers.get(header::ORIGIN);
        origin.is_some_and(|origin| !self.allows(origin))
    }

    /// Adds the headers that let a page of `origin` read the response, if the origin is allowed.
    ///
    /// API Gateway returns `*` if every origin is allowed, and otherwise the request's own origin.
    pub fn add_headers(&self, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
        let Some(origin) = origin else { return };
        if !self.allows(origin) {
            return;
        }
        if self.allows_any_origin() {
            let any = HeaderValue::from_static("*");
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, any);
        } else {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            headers.append(header::VARY, HeaderValue::from_static("origin"));
        }
        if self.settings.allow_credentials {
            let yes = HeaderValue::from_static("true");
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, yes);
        }
        if let Some(exposed) = header_value(&self.settings.expose_headers.join(",")) {
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
        }
    }

    fn allows(&self, origin: &HeaderValue) -> bool {
        let Ok(origin) = origin.to_str() else {
            return false;
        };
        if self.allowed_origins.is_empty() {
            return is_loopback_url(origin);
        }
        let mut allowed_origins = self.allowed_origins.iter();
        self.allows_any_origin() || allowed_origins.any(|allowed| is_allowed_by(allowed, origin))
    }

    fn allows_any_origin(&self) -> bool {
        self.allowed_origins.iter().any(|allowed| allowed == "*")
    }
}

/// Whether an entry of a list of allowed origins allows this origin. `https://*` and `http://*` allow
/// each origin with this scheme (API Gateway developer guide, "Configure CORS for HTTP APIs").
fn is_allowed_by(allowed: &str, origin: &str) -> bool {
    let prefix = allowed.strip_suffix('*');
    match prefix.filter(|prefix| prefix.ends_with("://")) {
        Some(prefix) => origin.starts_with(prefix),
        None => origin == allowed,
    }
}

/// A header's value, or `None` if it is empty or invalid.
fn header_value(text: &str) -> Option<HeaderValue> {
    let value = HeaderValue::from_str(text).ok()?;
    (!value.is_empty()).then_some(value)
}

#[cfg(test)]
mod tests {
    use axum::extract::Request;

    use super::*;

    const APP: &str = "https://app.example";

    fn policy(allowed_origins: &[&str]) -> CorsPolicy {
        let list =
            |items: &[&str]| -> Vec<String> { items.iter().copied().map(str::to_owned).collect() };
        let settings = Cors {
            allow_origins: list(&["*"]),
            allow_methods: list(&["GET"]),
            allow_headers: list(&["authorization", "traceparent"]),
            expose_headers: list(&["retry-after"]),
            allow_credentials: false,
            max_age: Some(5),
        };
        CorsPolicy::new(settings, list(allowed_origins))
    }

    /// The value of `Access-Control-Allow-Origin` in a response to a page of this origin.
    fn allowed_origin(policy: &CorsPolicy, origin: &'static str) -> Option<String> {
        let mut headers = HeaderMap::new();
        policy.add_headers(Some(&HeaderValue::from_static(origin)), &mut headers);
        let allowed = headers.get(header::ACCESS_CONTROL_ALLOW_ORIGIN)?;
        Some(allowed.to_str().unwrap().to_owned())
    }

    fn preflight(policy: &CorsPolicy, origin: &str) -> Response<Body> {
        let request = Request::options("/x")
            .header("origin", origin)
            .header("access-control-request-method", "GET");
        let (parts, ()) = request.body(()).unwrap().into_parts();
        policy.preflight_response(&parts).unwrap()
    }

    #[test]
    fn by_default_only_pages_of_this_machine_may_call_the_api() {
        let policy = policy(&[]);
        for origin in [
            "http://localhost:5173",
            "https://localhost",
            "http://127.0.0.1:3000",
            "http://[::1]:8080",
        ] {
            assert_eq!(allowed_origin(&policy, origin).as_deref(), Some(origin));
        }
        for origin in [
            APP,
            "https://localhost.example",
            "http://192.168.0.2",
            "null",
        ] {
            assert_eq!(allowed_origin(&policy, origin), None, "{origin}");
            assert!(preflight(&policy, origin).headers().is_empty(), "{origin}");
        }
    }

    #[test]
    fn a_list_allows_exactly_its_origins_and_a_response_names_the_origin_of_its_request() {
        let policy = policy(&[APP, "https://admin.example"]);
        for origin in [APP, "https://admin.example"] {
            assert_eq!(allowed_origin(&policy, origin).as_deref(), Some(origin));
        }
        for origin in [
            "http://app.example",
            "https://app.example:8443",
            "https://evil.example",
            "http://localhost:5173",
        ] {
            assert_eq!(allowed_origin(&policy, origin), None, "{origin}");
        }
        let mut headers = HeaderMap::new();
        policy.add_headers(Some(&HeaderValue::from_static(APP)), &mut headers);
        assert_eq!(headers["vary"], "origin");
        assert_eq!(headers["access-control-expose-headers"], "retry-after");
    }

    #[test]
    fn an_asterisk_allows_every_origin_and_after_a_scheme_every_origin_with_it() {
        let any = policy(&["*"]);
        assert_eq!(allowed_origin(&any, APP).as_deref(), Some("*"));
        let secure = policy(&["https://*"]);
        assert_eq!(allowed_origin(&secure, APP).as_deref(), Some(APP));
        assert_eq!(allowed_origin(&secure, "http://app.example"), None);
    }

    #[test]
    fn only_an_options_request_with_a_requested_method_is_a_preflight_request() {
        let policy = policy(&[APP]);
        let without_method = Request::options("/x").header("origin", APP);
        let get = Request::get("/x")
            .header("origin", APP)
            .header("access-control-request-method", "GET");
        for request in [without_method, get] {
            let (parts, ()) = request.body(()).unwrap().into_parts();
            assert!(policy.preflight_response(&parts).is_none());
        }
        let response = preflight(&policy, APP);
        assert_eq!(response.status(), 204);
        let headers = response.headers();
        assert_eq!(headers["access-control-allow-methods"], "GET");
        assert_eq!(
            headers["access-control-allow-headers"],
            "authorization,traceparent"
        );
        assert_eq!(headers["access-control-max-age"], "5");
    }
}
