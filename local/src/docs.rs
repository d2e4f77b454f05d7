//! The API's document, and a page to explore it with, signed in as a sample user. Only on this machine:
//! a deployment has no such routes.
//!
//! The page works without any network: all it needs is in this program, and its content security policy
//! lets it talk to this stack and nobody else.

use std::{collections::BTreeMap, time::Duration};

use axum::{
    body::Body,
    http::{HeaderValue, Method, Response, header, request},
};
use chat_shared::{
    auth::TokenIssuer,
    domain::{Timestamp, UserId},
    http::openapi,
};
use serde_json::json;

use crate::DEVELOPMENT_SECRET;

/// Where the page is.
pub const PAGE: &str = "/docs";
/// Whom the page is for when it does not say `?user=…`.
const DEFAULT_USER: u64 = 17;
/// A page that is left open for a day goes on working.
const TOKEN_LIFETIME: Duration = Duration::from_hours(12);
/// Scalar writes its styles into the page; everything else comes from here.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; \
    style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; \
    connect-src 'self'; worker-src 'self' blob:; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";

/// Answers for the document and its page.
pub(crate) struct Docs {
    /// `None` where only somebody else may sign.
    issuer: Option<TokenIssuer>,
}

impl Docs {
    /// With the functions' environment variables, so that they take the page's tokens. With a secret
    /// of one's own it signs none: it may be that of a deployment, and whatever runs on this machine
    /// can ask for the page.
    pub fn new(environment: &BTreeMap<String, String>) -> Self {
        let secret = environment.get("JWT_SECRET");
        let everybody_may = secret.is_some_and(|secret| secret == DEVELOPMENT_SECRET);
        let issuer = TokenIssuer::from_variables(|name| environment.get(name).cloned());
        Self {
            issuer: issuer.filter(|_| everybody_may),
        }
    }

    /// The answer to a call that is for the page or the document.
    ///
    /// The page holds a token, so it is only for whoever sits at this machine: it is not there under
    /// another host's name, with which a page of that host could read it.
    pub fn answer(&self, parts: &request::Parts) -> Option<Response<Body>> {
        if ![Method::GET, Method::HEAD].contains(&parts.method) || !is_this_machine(parts) {
            return None;
        }
        let (content_type, body) = match parts.uri.path() {
            PAGE => ("text/html; charset=utf-8", self.page(parts).into()),
            "/docs/page.js" => (JAVASCRIPT, include_str!("docs/page.js").into()),
            "/docs/page.css" => ("text/css", include_str!("docs/page.css").into()),
            "/docs/scalar.js" => (
                JAVASCRIPT,
                scalar_api_reference::get_asset("scalar.js")?.into(),
            ),
            "/openapi.json" => (
                "application/json",
                serde_json::to_vec_pretty(&openapi::document()).ok()?.into(),
            ),
            "/openapi.yaml" => ("application/yaml", openapi::yaml().ok()?.into()),
            _ => return None,
        };
        let mut response = Response::new(body);
        for (name, value) in [
            (header::CONTENT_TYPE, content_type),
            (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
            (header::CACHE_CONTROL, "no-store"),
            (header::REFERRER_POLICY, "no-referrer"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        ] {
            let value = HeaderValue::from_static(value);
            response.headers_mut().insert(name, value);
        }
        Some(response)
    }

    fn page(&self, parts: &request::Parts) -> String {
        let query = parts.uri.query().unwrap_or_default();
        let mut parameters = form_urlencoded::parse(query.as_bytes());
        let user = parameters.find(|(name, _)| name == "user");
        let user = user.and_then(|(_, user)| user.parse::<UserId>().ok());
        let user = user.or_else(|| UserId::new(DEFAULT_USER));
        let token = user.and_then(|user| self.token(user));
        let settings = json!({"user": user.map(UserId::get), "token": token}).to_string();
        // In a script element of HTML only `<` could end it.
        let settings = settings.replace('<', "\\u003c");
        include_str!("docs/page.html").replace("SETTINGS", &settings)
    }

    /// A token of the user, if there is a secret to sign it with.
    fn token(&self, user: UserId) -> Option<String> {
        let expires_at = (Timestamp::now() + TOKEN_LIFETIME).seconds();
        self.issuer.as_ref()?.token(user, expires_at).ok()
    }
}

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// Whether a browser asks for this machine by one of its own names.
fn is_this_machine(parts: &request::Parts) -> bool {
    let host = parts.headers.get(header::HOST);
    let host = host.and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    ["localhost", "127.0.0.1"].contains(&name)
}

#[cfg(test)]
mod tests {
    use axum::http::Request;
    use chat_shared::auth::Authenticator;

    use super::*;

    async fn answer(method: &str, host: &str, path: &str) -> Option<(Response<()>, String)> {
        answer_with(DEVELOPMENT_SECRET, method, host, path).await
    }

    async fn answer_with(
        secret: &str,
        method: &str,
        host: &str,
        path: &str,
    ) -> Option<(Response<()>, String)> {
        let environment = BTreeMap::from([("JWT_SECRET".to_owned(), secret.to_owned())]);
        let request = Request::builder().method(method).uri(path);
        let request = request.header("host", host).body(()).unwrap();
        let (parts, ()) = request.into_parts();
        let (parts, body) = Docs::new(&environment).answer(&parts)?.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        let text = String::from_utf8(body.into()).unwrap();
        Some((Response::from_parts(parts, ()), text))
    }

    async fn get(path: &str) -> (Response<()>, String) {
        answer("GET", "localhost:3000", path).await.unwrap()
    }

    /// Whose token a page holds.
    fn user_of(page: &str) -> u64 {
        let (_, token) = page.split_once(r#""token":""#).unwrap();
        let token = token.split('"').next().unwrap();
        let variable = |name: &str| (name == "JWT_SECRET").then(|| DEVELOPMENT_SECRET.to_owned());
        let authenticator = Authenticator::from_variables(variable).unwrap();
        let user = authenticator.user(Some(&format!("Bearer {token}")));
        user.unwrap().get()
    }

    #[tokio::test]
    async fn the_page_is_signed_in_as_ann_or_whom_it_is_asked_for() {
        assert_eq!(user_of(&get("/docs").await.1), 17);
        assert_eq!(user_of(&get("/docs?user=42").await.1), 42);
        assert_eq!(user_of(&get("/docs?user=%3Cscript%3E").await.1), 17);
    }

    #[tokio::test]
    async fn a_secret_of_ones_own_signs_nothing() {
        let secret = "a secret of a deployment, with 32 bytes";
        let page = answer_with(secret, "GET", "localhost", "/docs?user=42").await;
        let (_, page) = page.unwrap();
        assert!(page.contains(r#""token":null"#), "{page}");
    }

    #[tokio::test]
    async fn the_page_may_talk_to_nobody_else_and_names_no_other_host() {
        for path in [
            "/docs",
            "/docs/page.js",
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
    async fn the_document_is_there_as_json_and_yaml() {
        let json: serde_json::Value = serde_json::from_str(&get("/openapi.json").await.1).unwrap();
        assert_eq!(json, serde_json::to_value(openapi::document()).unwrap());
        assert_eq!(get("/openapi.yaml").await.1, openapi::yaml().unwrap());
    }

    #[tokio::test]
    async fn another_host_method_or_path_gets_nothing() {
        for host in ["evil.example:3000", "localhost.evil.example", ""] {
            assert!(answer("GET", host, "/docs").await.is_none(), "{host}");
        }
        assert!(answer("POST", "localhost:3000", "/docs").await.is_none());
        assert!(answer("GET", "localhost:3000", "/docs/x").await.is_none());
        assert!(answer("GET", "127.0.0.1:3000", "/docs").await.is_some());
    }
}
