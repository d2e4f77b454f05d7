//! CORS: responds to preflight requests and adds CORS headers, as API Gateway does.

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header, request},
};

use crate::template::Cors;

impl Cors {
    /// The response to a preflight request, or `None` if the request is not one.
    ///
    /// On AWS the function of the path's `ANY` route may receive the preflight request and return
    /// 204; API Gateway then adds these headers.
    pub(super) fn preflight_response(&self, parts: &request::Parts) -> Option<Response<Body>> {
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
        let max_age = self
            .max_age
            .map(|seconds| seconds.to_string())
            .unwrap_or_default();
        for (name, value) in [
            (
                header::ACCESS_CONTROL_ALLOW_METHODS,
                self.allow_methods.join(","),
            ),
            (
                header::ACCESS_CONTROL_ALLOW_HEADERS,
                self.allow_headers.join(","),
            ),
            (header::ACCESS_CONTROL_MAX_AGE, max_age),
        ] {
            if let Some(value) = header_value(&value) {
                response.headers_mut().insert(name, value);
            }
        }
        Some(response)
    }

    /// Adds the headers that let a page of `origin` read the response, if the origin is allowed.
    pub(super) fn add_headers(&self, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
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
        if self.allow_credentials {
            let yes = HeaderValue::from_static("true");
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, yes);
        }
        if let Some(exposed) = header_value(&self.expose_headers.join(",")) {
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
        }
    }

    fn allows(&self, origin: &HeaderValue) -> bool {
        let mut allowed = self.allow_origins.iter();
        self.allows_any_origin() || allowed.any(|allowed| allowed.as_bytes() == origin.as_bytes())
    }

    fn allows_any_origin(&self) -> bool {
        self.allow_origins.iter().any(|allowed| allowed == "*")
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

    #[test]
    fn only_listed_origins_receive_cors_headers() {
        let cors = Cors {
            allow_origins: vec!["https://app.example".to_owned()],
            allow_methods: vec!["GET".to_owned()],
            allow_headers: vec!["authorization".to_owned()],
            expose_headers: vec!["retry-after".to_owned()],
            allow_credentials: false,
            max_age: Some(5),
        };
        let headers_for = |origin: &'static str| {
            let mut headers = HeaderMap::new();
            cors.add_headers(Some(&HeaderValue::from_static(origin)), &mut headers);
            headers
        };
        let listed = headers_for("https://app.example");
        assert_eq!(listed["access-control-allow-origin"], "https://app.example");
        assert_eq!(listed["vary"], "origin");
        assert!(headers_for("https://evil.example").is_empty());

        let options = |origin: &str| Request::options("/x").header("origin", origin);
        let respond = |request: request::Builder| {
            let (parts, ()) = request.body(()).unwrap().into_parts();
            cors.preflight_response(&parts)
        };
        assert!(respond(options("https://app.example")).is_none());
        let preflight =
            options("https://app.example").header("access-control-request-method", "GET");
        let response = respond(preflight).unwrap();
        assert_eq!(response.status(), 204);
        assert_eq!(response.headers()["access-control-max-age"], "5");
        let evil = options("https://evil.example").header("access-control-request-method", "GET");
        assert!(respond(evil).unwrap().headers().is_empty());
    }
}
