//! Demo at `/`: two people chat on two phones side by side, and a drawer shows their requests and events. Only
//! the development server has this page.
//!
//! The page uses the JavaScript client (`clients/javascript`), and so the public API and nothing else. It works
//! without a network: this program contains all its files. Its content security policy allows requests to this
//! stack only, except for images, because a message can carry the URL of one.
//!
//! Apps get access tokens from a server of their own. Here, [`TOKEN_PATH`] stands in for it.

use std::{collections::BTreeMap, time::Duration};

use axum::{
    body::Body,
    http::{Method, Response, header, request},
};
use chat_shared::domain::{Timestamp, UserId};
use serde_json::json;

use crate::{
    DEVELOPMENT_SECRET,
    docs_page::{is_this_machine, page_response},
    tokens::TokenSigner,
};

/// The path of the page.
pub const PAGE_PATH: &str = "/";
/// The path where the page gets a token: `?user=17`, with `&expired` for one that has expired.
const TOKEN_PATH: &str = "/demo/token";
/// The users of the two phones.
const SAMPLE_USERS: [(u64, &str); 2] = [(17, "Ann"), (42, "Ben")];
/// As short as those of real apps, so that a page that stays open renews its tokens.
const TOKEN_LIFETIME: Duration = Duration::from_mins(15);
/// How long ago an expired token has expired, in seconds. The functions allow clocks to differ by 30.
const EXPIRED_FOR: u64 = 300;
const HTML: &str = "text/html; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
/// Messages can carry the URL of an image on any host. Everything else must come from this server. In
/// `connect-src`, `'self'` includes the WebSocket API, which has the same host and port.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self' data: https:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";

/// Serves the demo.
pub(crate) struct DemoPage {
    /// `None` if the page must not get tokens.
    signer: Option<TokenSigner>,
    /// The path of the WebSocket API. `None` if the stack does not push events: then the page polls.
    live_path: Option<String>,
}

impl DemoPage {
    /// Reads the functions' environment variables, so that the functions accept the page's tokens.
    /// `live_stage` is the stage of the WebSocket API, if there is one.
    ///
    /// The page gets tokens only with the development secret. Any other secret may belong to a
    /// deployment, and every program on this machine can request a token.
    pub fn new(environment: &BTreeMap<String, String>, live_stage: Option<&str>) -> Self {
        let secret = environment.get("JWT_SECRET");
        let is_public_secret = secret.is_some_and(|secret| secret == DEVELOPMENT_SECRET);
        let signer = TokenSigner::from_env(|name| environment.get(name).cloned());
        Self {
            signer: signer.filter(|_| is_public_secret),
            live_path: live_stage.map(|stage| format!("/{stage}")),
        }
    }

    /// The response to a request for the page, one of its files or a token, or `None` for any other
    /// request.
    ///
    /// Tokens are only for users of this machine. The page is not served under another host name,
    /// because a page of that host could read them (DNS rebinding). The response has no CORS headers,
    /// so pages of other origins cannot read it.
    pub fn respond(&self, parts: &request::Parts) -> Option<Response<Body>> {
        if ![Method::GET, Method::HEAD].contains(&parts.method) || !is_this_machine(parts) {
            return None;
        }
        // A client of the API, which gets the same 404 as from a deployment.
        if parts.headers.contains_key(header::AUTHORIZATION) {
            return None;
        }
        let (content_type, body) = match parts.uri.path() {
            PAGE_PATH => (HTML, self.page().into()),
            TOKEN_PATH => ("application/json", self.token(parts)?.into()),
            path => {
                let (content_type, text) = file(path)?;
                (content_type, text.into())
            }
        };
        Some(page_response(content_type, CONTENT_SECURITY_POLICY, body))
    }

    fn page(&self) -> String {
        let users = SAMPLE_USERS.map(|(id, name)| json!({"id": id, "name": name}));
        let settings = json!({
            "users": users,
            "hasTokens": self.signer.is_some(),
            "livePath": self.live_path,
        });
        // `<` is the only character that could end the script element.
        let settings = settings.to_string().replace('<', "\\u003c");
        include_str!("demo_page/page.html").replace("SETTINGS", &settings)
    }

    /// A token for a sample user, as JSON.
    fn token(&self, parts: &request::Parts) -> Option<String> {
        let signer = self.signer.as_ref()?;
        let query = parts.uri.query().unwrap_or_default();
        let parameters: BTreeMap<_, _> = form_urlencoded::parse(query.as_bytes()).collect();
        let user: UserId = parameters.get("user")?.parse().ok()?;
        SAMPLE_USERS.iter().find(|(id, _)| *id == user.get())?;
        let expires_at = if parameters.contains_key("expired") {
            Timestamp::now().seconds().saturating_sub(EXPIRED_FOR)
        } else {
            (Timestamp::now() + TOKEN_LIFETIME).seconds()
        };
        Some(json!({"token": signer.sign(user, expires_at)}).to_string())
    }
}

/// The content type and the text of a file of the page, by its path. The page loads the modules of the client
/// as they are.
fn file(path: &str) -> Option<(&'static str, &'static str)> {
    let name = path.strip_prefix("/demo/")?;
    let text = match name {
        "page.css" => return Some(("text/css", include_str!("demo_page/page.css"))),
        "page.js" => include_str!("demo_page/page.js"),
        "conversation.js" => include_str!("demo_page/conversation.js"),
        "device.js" => include_str!("demo_page/device.js"),
        "dom.js" => include_str!("demo_page/dom.js"),
        "phone.js" => include_str!("demo_page/phone.js"),
        "sample.js" => include_str!("demo_page/sample.js"),
        "sheet.js" => include_str!("demo_page/sheet.js"),
        "text.js" => include_str!("demo_page/text.js"),
        "traffic.js" => include_str!("demo_page/traffic.js"),
        "client/client.js" => include_str!("../../clients/javascript/src/client.js"),
        "client/errors.js" => include_str!("../../clients/javascript/src/errors.js"),
        "client/http.js" => include_str!("../../clients/javascript/src/http.js"),
        "client/index.js" => include_str!("../../clients/javascript/src/index.js"),
        "client/live.js" => include_str!("../../clients/javascript/src/live.js"),
        "client/loader.js" => include_str!("../../clients/javascript/src/loader.js"),
        "client/model.js" => include_str!("../../clients/javascript/src/model.js"),
        "client/outbox.js" => include_str!("../../clients/javascript/src/outbox.js"),
        "client/timers.js" => include_str!("../../clients/javascript/src/timers.js"),
        "client/view.js" => include_str!("../../clients/javascript/src/view.js"),
        _ => return None,
    };
    Some((JAVASCRIPT, text))
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use axum::http::{HeaderValue, Request};
    use chat_shared::auth::Authenticator;
    use serde_json::Value;

    use super::*;
    use crate::docs_page::tests::{response_of, settings};

    async fn request_with(
        secret: &str,
        method: &str,
        host: &str,
        path: &str,
    ) -> Option<(Response<()>, String)> {
        let environment = BTreeMap::from([("JWT_SECRET".to_owned(), secret.to_owned())]);
        let page = DemoPage::new(&environment, Some("live"));
        response_of(|parts| page.respond(parts), method, host, path).await
    }

    async fn request(method: &str, host: &str, path: &str) -> Option<(Response<()>, String)> {
        request_with(DEVELOPMENT_SECRET, method, host, path).await
    }

    async fn get(path: &str) -> Option<(Response<()>, String)> {
        request("GET", "localhost:3000", path).await
    }

    /// The user of the token in a response, if the functions accept it.
    fn token_user(body: &str) -> Option<u64> {
        let token: Value = serde_json::from_str(body).unwrap();
        let token = format!("Bearer {}", token["token"].as_str().unwrap());
        let variable = |name: &str| (name == "JWT_SECRET").then(|| DEVELOPMENT_SECRET.to_owned());
        let authenticator = Authenticator::from_env(variable).unwrap();
        let user = authenticator.verify(Some(&token), Timestamp::now());
        user.ok().map(UserId::get)
    }

    #[test]
    fn a_request_with_an_access_token_is_not_for_the_page() {
        let request = Request::builder()
            .uri(PAGE_PATH)
            .header("host", "localhost:3000");
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let page = DemoPage::new(&BTreeMap::new(), None);
        assert!(page.respond(&parts).is_some());
        let mut with_token = parts;
        let token = HeaderValue::from_static("Bearer x");
        with_token.headers.insert(header::AUTHORIZATION, token);
        assert!(page.respond(&with_token).is_none());
    }

    #[tokio::test]
    async fn the_page_gets_tokens_for_ann_and_ben_and_for_nobody_else() {
        for user in [17, 42] {
            let (response, body) = get(&format!("/demo/token?user={user}")).await.unwrap();
            assert_eq!(token_user(&body), Some(user));
            assert_eq!(response.headers()["cache-control"], "no-store");
        }
        for query in ["", "?user=", "?user=5", "?user=017", "?user=x"] {
            assert!(get(&format!("/demo/token{query}")).await.is_none());
        }
    }

    #[tokio::test]
    async fn an_expired_token_is_rejected_by_the_functions() {
        let (_, body) = get("/demo/token?user=17&expired").await.unwrap();
        assert_eq!(token_user(&body), None);
    }

    #[tokio::test]
    async fn the_page_gets_no_token_with_any_other_secret() {
        let secret = "a secret of a deployment, with 32 bytes";
        let get = |path| request_with(secret, "GET", "localhost", path);
        assert!(get("/demo/token?user=17").await.is_none());
        let (_, page) = get("/").await.unwrap();
        assert_eq!(settings(&page)["hasTokens"], false);
    }

    #[tokio::test]
    async fn the_page_knows_the_two_users_and_the_path_of_live_events() {
        let (response, page) = get("/").await.unwrap();
        assert_eq!(
            response.headers()["content-type"],
            "text/html; charset=utf-8"
        );
        let expected = json!({
            "users": [{"id": 17, "name": "Ann"}, {"id": 42, "name": "Ben"}],
            "hasTokens": true,
            "livePath": "/live",
        });
        assert_eq!(settings(&page), expected);
        let without_push = DemoPage::new(&BTreeMap::new(), None);
        assert_eq!(settings(&without_push.page())["livePath"], Value::Null);
    }

    #[tokio::test]
    async fn scripts_styles_and_connections_are_of_this_server_only() {
        for path in [
            "/",
            "/demo/page.js",
            "/demo/page.css",
            "/demo/token?user=17",
        ] {
            let (response, _) = get(path).await.unwrap();
            let policy = response.headers()["content-security-policy"]
                .to_str()
                .unwrap();
            assert!(policy.starts_with("default-src 'none'"), "{policy}");
            assert!(!policy.contains("unsafe"), "{policy}");
            for directive in policy.split("; ") {
                let is_of_images = directive.starts_with("img-src ");
                assert!(is_of_images || !directive.contains("http"), "{directive}");
            }
            assert_eq!(response.headers()["x-content-type-options"], "nosniff");
            assert!(
                !response
                    .headers()
                    .contains_key("access-control-allow-origin")
            );
        }
    }

    #[tokio::test]
    async fn every_file_of_the_page_and_of_the_client_is_served() {
        let sources = Path::new(env!("CARGO_MANIFEST_DIR"));
        for (folder, path) in [
            ("src/demo_page", "/demo"),
            ("../clients/javascript/src", "/demo/client"),
        ] {
            let files = fs::read_dir(sources.join(folder)).unwrap();
            let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
            let names: BTreeSet<_> = names.filter(|name| name != "page.html").collect();
            assert!(!names.is_empty());
            for name in names {
                let response = get(&format!("{path}/{name}")).await;
                let (response, text) = response.unwrap_or_else(|| panic!("{path}/{name}"));
                let expected = fs::read_to_string(sources.join(folder).join(&name)).unwrap();
                assert_eq!(text, expected, "{name}");
                let content_type = if name.ends_with("css") {
                    "text/css"
                } else {
                    JAVASCRIPT
                };
                assert_eq!(response.headers()["content-type"], content_type);
            }
        }
    }

    #[tokio::test]
    async fn another_host_method_or_path_gets_no_page() {
        for path in ["/", "/demo/page.js", "/demo/token?user=17"] {
            for host in ["evil.example:3000", "localhost.evil.example", ""] {
                assert!(request("GET", host, path).await.is_none(), "{host}");
            }
            assert!(request("POST", "localhost:3000", path).await.is_none());
            assert!(request("HEAD", "127.0.0.1:3000", path).await.is_some());
        }
        for path in [
            "/demo",
            "/demo/",
            "/demo/x",
            "/demo/page.html",
            "/demo/client/",
        ] {
            assert!(get(path).await.is_none(), "{path}");
        }
    }
}
