//! API documentation page at `/docs`, where developers can send requests and receive live events as a sample
//! user, and the OpenAPI and `AsyncAPI` documents. Only the development server has these routes.
//!
//! The page works without a network: this program contains all its files, and its content security
//! policy allows requests to this stack only.

use std::{collections::BTreeMap, time::Duration};

use axum::{
    body::Body,
    http::{HeaderValue, Method, Response, header, request},
};
use chat_shared::{
    domain::{Timestamp, UserId},
    openapi,
};
use serde_json::{Value, json};

use crate::{DEVELOPMENT_SECRET, tokens::TokenSigner};

/// The path of the page.
pub const PAGE_PATH: &str = "/docs";
/// The user that the page signs in without `?user=…`.
const DEFAULT_USER: u64 = 17;
/// The users that the panel with live events can connect as.
const SAMPLE_USERS: [(u64, &str); 2] = [(17, "Ann"), (42, "Ben")];
/// Long enough for a page that stays open all day.
const TOKEN_LIFETIME: Duration = Duration::from_hours(12);
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
/// Inline styles are allowed because Scalar adds them to the page. Everything else must come from
/// this server. In `connect-src`, `'self'` includes the WebSocket API, which
/// has the same host and port.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; \
    style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; \
    connect-src 'self'; worker-src 'self' blob:; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";

/// Serves the page and the documents.
pub(crate) struct DocsPage {
    /// `None` if the page must not contain a token.
    signer: Option<TokenSigner>,
}

impl DocsPage {
    /// Reads the functions' environment variables, so that the functions accept the page's tokens.
    ///
    /// The page signs tokens only with the development secret. Any other secret may belong to a
    /// deployment, and every program on this machine can request the page.
    pub fn new(environment: &BTreeMap<String, String>) -> Self {
        let secret = environment.get("JWT_SECRET");
        let is_public_secret = secret.is_some_and(|secret| secret == DEVELOPMENT_SECRET);
        let signer = TokenSigner::from_env(|name| environment.get(name).cloned());
        Self {
            signer: signer.filter(|_| is_public_secret),
        }
    }

    /// The response to a request for the page or the document, or `None` for any other request.
    ///
    /// The page contains a token, so it is only for users of this machine. It is not served under
    /// another host name, because a page of that host could read it (DNS rebinding).
    pub fn respond(&self, parts: &request::Parts) -> Option<Response<Body>> {
        if ![Method::GET, Method::HEAD].contains(&parts.method) || !is_this_machine(parts) {
            return None;
        }
        let (content_type, body) = match parts.uri.path() {
            PAGE_PATH => ("text/html; charset=utf-8", self.page(parts).into()),
            "/docs/page.js" => (JAVASCRIPT, include_str!("docs_page/page.js").into()),
            "/docs/live.js" => (JAVASCRIPT, include_str!("docs_page/live.js").into()),
            "/docs/page.css" => ("text/css", include_str!("docs_page/page.css").into()),
            "/docs/scalar.js" => (
                JAVASCRIPT,
                scalar_api_reference::get_asset("scalar.js")?.into(),
            ),
            "/openapi.json" => (
                "application/json",
                serde_json::to_vec_pretty(&openapi::document()).ok()?.into(),
            ),
            "/openapi.yaml" => ("application/yaml", openapi::to_yaml().ok()?.into()),
            "/asyncapi.json" => (
                "application/json",
                serde_json::to_vec_pretty(&openapi::asyncapi_document())
                    .ok()?
                    .into(),
            ),
            "/asyncapi.yaml" => ("application/yaml", openapi::asyncapi_yaml().ok()?.into()),
            _ => return None,
        };
        Some(page_response(content_type, CONTENT_SECURITY_POLICY, body))
    }

    fn page(&self, parts: &request::Parts) -> String {
        let query = parts.uri.query().unwrap_or_default();
        let mut parameters = form_urlencoded::parse(query.as_bytes());
        let user = parameters.find(|(name, _)| name == "user");
        let user = user.and_then(|(_, user)| user.parse::<UserId>().ok());
        let user = user.or_else(|| UserId::new(DEFAULT_USER));
        let token = user.and_then(|user| self.token(user));
        let settings = json!({
            "user": user.map(UserId::get),
            "token": token,
            "users": self.sample_users(user),
        });
        let settings = settings.to_string();
        // `<` is the only character that could end the script element.
        let settings = settings.replace('<', "\\u003c");
        include_str!("docs_page/page.html").replace("SETTINGS", &settings)
    }

    /// The users that the panel with live events can connect as: the sample users, and the user that is signed
    /// in if it is another one.
    fn sample_users(&self, signed_in: Option<UserId>) -> Vec<Value> {
        let is_sample = |id: u64| SAMPLE_USERS.iter().any(|(sample, _)| *sample == id);
        let other = signed_in.map(UserId::get).filter(|id| !is_sample(*id));
        let samples = SAMPLE_USERS.into_iter();
        let users = samples.map(|(id, name)| (id, Some(name)));
        users
            .chain(other.map(|id| (id, None)))
            .map(|(id, name)| {
                let token = UserId::new(id).and_then(|user| self.token(user));
                json!({"id": id, "name": name, "token": token})
            })
            .collect()
    }

    /// A token for the user, if the page may sign one.
    fn token(&self, user: UserId) -> Option<String> {
        let expires_at = (Timestamp::now() + TOKEN_LIFETIME).seconds();
        let signer = self.signer.as_ref()?;
        Some(signer.sign(user, expires_at))
    }
}

/// A file of a page, which no cache may store, because it can contain a token.
pub(crate) fn page_response(
    content_type: &'static str,
    content_security_policy: &'static str,
    body: Body,
) -> Response<Body> {
    let mut response = Response::new(body);
    for (name, value) in [
        (header::CONTENT_TYPE, content_type),
        (header::CONTENT_SECURITY_POLICY, content_security_policy),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        let value = HeaderValue::from_static(value);
        response.headers_mut().insert(name, value);
    }
    response
}

/// Whether the request's `Host` header is a name of this machine.
pub(crate) fn is_this_machine(parts: &request::Parts) -> bool {
    let host = parts.headers.get(header::HOST);
    let host = host.and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    ["localhost", "127.0.0.1"].contains(&name)
}

#[cfg(test)]
pub(crate) mod tests {
    use axum::http::Request;
    use chat_shared::auth::Authenticator;

    use super::*;

    async fn request(method: &str, host: &str, path: &str) -> Option<(Response<()>, String)> {
        request_with(DEVELOPMENT_SECRET, method, host, path).await
    }

    async fn request_with(
        secret: &str,
        method: &str,
        host: &str,
        path: &str,
    ) -> Option<(Response<()>, String)> {
        let environment = BTreeMap::from([("JWT_SECRET".to_owned(), secret.to_owned())]);
        let page = DocsPage::new(&environment);
        response_of(|parts| page.respond(parts), method, host, path).await
    }

    /// The response of a page to a request, and its body.
    pub(crate) async fn response_of(
        respond: impl FnOnce(&request::Parts) -> Option<Response<Body>>,
        method: &str,
        host: &str,
        path: &str,
    ) -> Option<(Response<()>, String)> {
        let request = Request::builder().method(method).uri(path);
        let request = request.header("host", host).body(()).unwrap();
        let (parts, ()) = request.into_parts();
        let (parts, body) = respond(&parts)?.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        let text = String::from_utf8(body.into()).unwrap();
        Some((Response::from_parts(parts, ()), text))
    }

    async fn get(path: &str) -> (Response<()>, String) {
        request("GET", "localhost:3000", path).await.unwrap()
    }

    /// The settings in a page.
    pub(crate) fn settings(page: &str) -> Value {
        let (_, settings) = page.split_once(r#"type="application/json">"#).unwrap();
        let (settings, _) = settings.split_once("</script>").unwrap();
        serde_json::from_str(settings).unwrap()
    }

    /// The user of the token in a page.
    fn token_user(page: &str) -> u64 {
        user_of(settings(page)["token"].as_str().unwrap())
    }

    /// The user of a token.
    fn user_of(token: &str) -> u64 {
        let variable = |name: &str| (name == "JWT_SECRET").then(|| DEVELOPMENT_SECRET.to_owned());
        let authenticator = Authenticator::from_env(variable).unwrap();
        let user = authenticator.verify(Some(&format!("Bearer {token}")), Timestamp::now());
        user.unwrap().get()
    }

    #[tokio::test]
    async fn the_page_is_signed_in_as_ann_or_as_the_requested_user() {
        assert_eq!(token_user(&get("/docs").await.1), 17);
        assert_eq!(token_user(&get("/docs?user=42").await.1), 42);
        assert_eq!(token_user(&get("/docs?user=%3Cscript%3E").await.1), 17);
    }

    #[tokio::test]
    async fn live_events_are_for_ann_ben_and_the_user_that_is_signed_in() {
        for (path, expected) in [
            ("/docs", vec![17, 42]),
            ("/docs?user=42", vec![17, 42]),
            ("/docs?user=5", vec![17, 42, 5]),
        ] {
            let settings = settings(&get(path).await.1);
            let users = settings["users"].as_array().unwrap().iter();
            let users = users.map(|user| {
                let id = user["id"].as_u64().unwrap();
                assert_eq!(user_of(user["token"].as_str().unwrap()), id);
                id
            });
            assert_eq!(users.collect::<Vec<_>>(), expected, "{path}");
        }
    }

    #[tokio::test]
    async fn the_page_has_no_token_with_any_other_secret() {
        let secret = "a secret of a deployment, with 32 bytes";
        let page = request_with(secret, "GET", "localhost", "/docs?user=42").await;
        let settings = settings(&page.unwrap().1);
        assert_eq!(settings["token"], Value::Null);
        for user in settings["users"].as_array().unwrap() {
            assert_eq!(user["token"], Value::Null);
        }
    }

    #[tokio::test]
    async fn the_page_may_send_requests_to_this_server_only_and_names_no_other_host() {
        for path in [
            "/docs",
            "/docs/page.js",
            "/docs/live.js",
            "/docs/page.css",
            "/docs/scalar.js",
        ] {
            let (response, body) = get(path).await;
            let policy = response.headers()["content-security-policy"]
                .to_str()
                .unwrap();
            assert!(policy.starts_with("default-src 'none'"), "{policy}");
            assert!(!policy.contains("http"), "{policy}");
            let is_own = path != "/docs/scalar.js";
            assert!(!(is_own && body.contains("://")), "{path}: {body}");
        }
    }

    #[tokio::test]
    async fn the_documents_are_served_as_json_and_yaml() {
        let json: Value = serde_json::from_str(&get("/openapi.json").await.1).unwrap();
        assert_eq!(json, serde_json::to_value(openapi::document()).unwrap());
        assert_eq!(get("/openapi.yaml").await.1, openapi::to_yaml().unwrap());
        let json: Value = serde_json::from_str(&get("/asyncapi.json").await.1).unwrap();
        assert_eq!(json, openapi::asyncapi_document());
        let yaml = get("/asyncapi.yaml").await.1;
        assert_eq!(yaml, openapi::asyncapi_yaml().unwrap());
    }

    #[tokio::test]
    async fn another_host_method_or_path_gets_no_page() {
        for host in ["evil.example:3000", "localhost.evil.example", ""] {
            assert!(request("GET", host, "/docs").await.is_none(), "{host}");
        }
        assert!(request("POST", "localhost:3000", "/docs").await.is_none());
        assert!(request("GET", "localhost:3000", "/docs/x").await.is_none());
        assert!(request("GET", "127.0.0.1:3000", "/docs").await.is_some());
    }
}
