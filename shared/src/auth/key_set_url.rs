//! A key set that is fetched from a URL (`JWT_JWKS_URL`), as identity providers publish it.
//!
//! The HTTP client is the one of the AWS SDK, which every function contains anyway. It does not follow
//! redirects.

use std::sync::{Mutex, PoisonError};

use aws_smithy_http_client::{
    Connector,
    tls::{Provider, rustls_provider::CryptoMode},
};
use aws_smithy_runtime_api::client::{http::HttpConnector, orchestrator::HttpRequest};
use futures_util::future::BoxFuture;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use url::Url;

use super::{
    is_loopback,
    keys::{IgnoredKey, KeySet, Problem, VerificationKey},
    log,
    refresh::KeySource,
    with_causes,
};
use crate::{aws, domain::Timestamp, error::ConfigError};

const VARIABLE: &str = "JWT_JWKS_URL";
/// The maximum size of a key set. Key sets of providers have a few kilobytes.
const MAX_BYTES: usize = 256 * 1024;

/// Fetches a key set.
pub(super) struct KeySetUrl {
    url: String,
    connector: Connector,
    /// The unusable keys of the last fetch. The log contains them.
    ignored: Mutex<Vec<IgnoredKey>>,
}

impl KeySetUrl {
    pub fn new(url: &str) -> Result<Self, ConfigError> {
        let url = parse(url).map_err(|problem| ConfigError::new(VARIABLE, problem))?;
        let has_system_store = aws::needs_system_store(Some(&url));
        let connector = Connector::builder()
            // The next fetch is a minute or an hour later.
            .pool_max_idle_per_host(0)
            .tls_provider(Provider::Rustls(CryptoMode::Ring))
            .tls_context(aws::tls_context(has_system_store))
            .build();
        Ok(Self {
            url,
            connector,
            ignored: Mutex::default(),
        })
    }

    async fn download(&self) -> Result<Vec<u8>, String> {
        let mut request = HttpRequest::get(&self.url).map_err(|error| with_causes(&error))?;
        let headers = request.headers_mut();
        headers.insert("accept", "application/json");
        headers.insert("user-agent", concat!("chat/", env!("CARGO_PKG_VERSION")));
        let response = self.connector.call(request).await;
        let response = response.map_err(|error| with_causes(&error))?;
        let status = response.status().as_u16();
        if status != 200 {
            return Err(format!(
                "the response has the status {status} instead of 200; redirects are not followed"
            ));
        }
        let body = Limited::new(response.into_body(), MAX_BYTES)
            .collect()
            .await;
        match body {
            Ok(body) => Ok(body.to_bytes().to_vec()),
            Err(error) if error.is::<LengthLimitError>() => {
                Err("the response has more than 256 KiB".to_owned())
            }
            Err(error) => Err(with_causes(error.as_ref())),
        }
    }

    /// Logs the unusable keys that are not the same as in the last fetch.
    fn log_ignored(&self, ignored: Vec<IgnoredKey>, now: Timestamp) {
        let mut logged = self.ignored.lock().unwrap_or_else(PoisonError::into_inner);
        for key in ignored.iter().filter(|key| !logged.contains(key)) {
            log::ignored_key(now, VARIABLE, key);
        }
        *logged = ignored;
    }
}

impl KeySource for KeySetUrl {
    fn variable(&self) -> &'static str {
        VARIABLE
    }

    fn fetch(&self, now: Timestamp) -> BoxFuture<'_, Result<Vec<VerificationKey>, String>> {
        Box::pin(async move {
            let document = self.download().await;
            let document = document.map_err(|cause| format!("cannot be fetched: {cause}"))?;
            let set = KeySet::parse(&document);
            let set = set.map_err(|problem| format!("names a document that {problem}"))?;
            self.log_ignored(set.ignored, now);
            Ok(set.keys)
        })
    }
}

/// Checks the URL: whoever can change the response can sign tokens.
fn parse(url: &str) -> Result<String, Problem> {
    let mut url = Url::parse(url)
        .map_err(|_| "is not a URL, such as https://id.example/.well-known/jwks.json")?;
    let is_allowed = match url.scheme() {
        "https" => true,
        "http" => is_loopback(&url),
        _ => false,
    };
    if !is_allowed {
        return Err(
            "does not start with https://; http:// is only possible for this machine (localhost, \
             127.0.0.1, [::1])",
        );
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("contains a user name or a password; a key set is public");
    }
    url.set_fragment(None);
    Ok(url.into())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    /// Answers each request with the same response. Returns the URL and the requests.
    async fn serve(response: String) -> (String, Arc<Mutex<Vec<String>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        let requests: Arc<Mutex<Vec<String>>> = Arc::default();
        let received = requests.clone();
        tokio::spawn(async move {
            loop {
                let (mut connection, _) = listener.accept().await.unwrap();
                let mut request = vec![0; 4_096];
                let length = connection.read(&mut request).await.unwrap();
                let request = String::from_utf8_lossy(&request[..length]).into_owned();
                received.lock().unwrap().push(request);
                // The client closes the connection early when the response is too large.
                let _ = connection.write_all(response.as_bytes()).await;
            }
        });
        (url, requests)
    }

    fn ok(body: &str) -> String {
        format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    fn key_set() -> String {
        let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
        json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": x, "kid": "a"}]}).to_string()
    }

    async fn fetch(url: &str) -> Result<usize, String> {
        let source = KeySetUrl::new(url).map_err(|error| error.to_string())?;
        let keys = source.fetch(Timestamp::from_millis(0)).await;
        keys.map(|keys| keys.len())
    }

    #[tokio::test]
    async fn a_key_set_is_fetched_with_one_request() {
        let (url, requests) = serve(ok(&key_set())).await;
        assert_eq!(fetch(&url).await, Ok(1));
        let requests = requests.lock().unwrap().clone();
        assert_eq!(requests.len(), 1);
        let request = requests[0].to_ascii_lowercase();
        assert!(request.starts_with("get /keys http/1.1\r\n"), "{request}");
        assert!(
            request.contains("accept: application/json\r\n"),
            "{request}"
        );
    }

    #[tokio::test]
    async fn redirects_are_not_followed_and_other_failures_have_a_cause() {
        let (target, requests) = serve(ok(&key_set())).await;
        let redirect = format!("HTTP/1.1 302 Found\r\nlocation: {target}\r\n\r\n");
        let not_found = "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_owned();
        let unusable = json!({"keys": [{"kty": "oct", "k": "AA"}]}).to_string();
        for (response, expected) in [
            (
                redirect,
                "cannot be fetched: the response has the status 302",
            ),
            (
                not_found,
                "cannot be fetched: the response has the status 404",
            ),
            (String::new(), "cannot be fetched: "),
            (
                ok("<html>"),
                "names a document that is not a JSON Web Key Set",
            ),
            (
                ok(&unusable),
                "names a document that contains no usable key",
            ),
        ] {
            let (url, _) = serve(response).await;
            let error = fetch(&url).await.unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
        assert_eq!(*requests.lock().unwrap(), Vec::<String>::new());
        // Nothing listens there.
        let error = fetch("http://127.0.0.1:9/").await.unwrap_err();
        assert!(error.starts_with("cannot be fetched: "), "{error}");
        assert!(error.contains("refused"), "{error}");
    }

    #[tokio::test]
    async fn a_response_of_more_than_256_kib_is_refused() {
        let padded = |bytes: usize| {
            let set = key_set();
            format!("{set}{}", " ".repeat(bytes - set.len()))
        };
        let (url, _) = serve(ok(&padded(MAX_BYTES))).await;
        assert_eq!(fetch(&url).await, Ok(1));
        let without_length = format!("HTTP/1.1 200 OK\r\n\r\n{}", padded(MAX_BYTES + 1));
        for response in [ok(&padded(MAX_BYTES + 1)), without_length] {
            let (url, _) = serve(response).await;
            let error = fetch(&url).await.unwrap_err();
            assert!(error.contains("256 KiB"), "{error}");
        }
    }

    #[test]
    fn the_url_must_be_https_or_on_this_machine() {
        for (url, expected) in [
            ("https://id.example/keys", "https://id.example/keys"),
            (
                "https://id.example/keys?v=1#top",
                "https://id.example/keys?v=1",
            ),
            ("https://127.0.0.1:8443/", "https://127.0.0.1:8443/"),
            ("http://localhost:8080/keys", "http://localhost:8080/keys"),
            ("http://127.0.0.1/keys", "http://127.0.0.1/keys"),
            ("http://[::1]:8080/keys", "http://[::1]:8080/keys"),
        ] {
            assert_eq!(parse(url).as_deref(), Ok(expected));
        }
        for url in [
            "",
            "id.example/keys",
            "http://id.example/keys",
            "http://localhost.id.example/keys",
            "http://127.0.0.2/keys",
            "http://127.0.0.1@id.example/keys",
            "file:///keys.json",
            "ftp://localhost/keys",
            "https://user@id.example/keys",
            "https://user:password@id.example/keys",
        ] {
            assert!(parse(url).is_err(), "{url}");
            assert!(KeySetUrl::new(url).is_err(), "{url}");
        }
    }
}
