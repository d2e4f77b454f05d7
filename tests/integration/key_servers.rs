//! Fake servers that functions fetch keys from: AWS Secrets Manager, and a key set at a URL. They run in the
//! process of the test, on this machine.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use chat_shared::domain::Timestamp;
use http_body_util::{BodyExt, Full};
use hyper::{
    HeaderMap, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// The name of the secret in the fake Secrets Manager.
pub const SECRET_NAME: &str = "chat/jwt-secret";

/// AWS Secrets Manager with one secret, without a version at first.
pub struct SecretsManager {
    url: String,
    state: Arc<Mutex<SecretState>>,
}

#[derive(Default)]
struct SecretState {
    /// The versions by stage, as members of the response.
    versions: BTreeMap<&'static str, Value>,
    last_version: u64,
    /// The stage of each request.
    requests: Vec<String>,
    /// Responds with this error instead, to all requests or to those for one stage.
    error: Option<(StatusCode, &'static str)>,
    error_stage: Option<&'static str>,
}

impl SecretsManager {
    pub async fn start() -> Self {
        let state = Arc::<Mutex<SecretState>>::default();
        let url = serve({
            let state = state.clone();
            move |headers: &HeaderMap, body: &[u8]| state.lock().unwrap().respond(headers, body)
        })
        .await;
        Self { url, state }
    }

    /// Stores a new version of the secret. The current version becomes the previous one.
    pub fn put(&self, secret: &str) {
        self.put_with_age(secret, Duration::ZERO);
    }

    /// Like [`Self::put`], with a version that was created earlier.
    pub fn put_with_age(&self, secret: &str, age: Duration) {
        self.put_version(json!({"SecretString": secret}), age);
    }

    /// Like [`Self::put`], with bytes instead of text.
    pub fn put_binary(&self, secret: &[u8]) {
        let version = json!({"SecretBinary": STANDARD.encode(secret)});
        self.put_version(version, Duration::ZERO);
    }

    fn put_version(&self, mut version: Value, age: Duration) {
        let created = Timestamp::now().millis() - u64::try_from(age.as_millis()).unwrap();
        // Seconds with a fraction, as in the protocol.
        let (seconds, millis) = (created / 1_000, created % 1_000);
        let created: Value = serde_json::from_str(&format!("{seconds}.{millis:03}")).unwrap();
        version["CreatedDate"] = created;
        let mut state = self.state();
        state.last_version += 1;
        version["VersionId"] = format!("00000000-0000-0000-0000-{:012}", state.last_version).into();
        if let Some(current) = state.versions.insert("AWSCURRENT", version) {
            state.versions.insert("AWSPREVIOUS", current);
        }
    }

    /// Responds with this error from now on; `None` ends that.
    pub fn fail_with(&self, error: Option<(u16, &'static str)>) {
        let status = |status| StatusCode::from_u16(status).unwrap();
        let mut state = self.state();
        state.error = error.map(|(code, name)| (status(code), name));
        state.error_stage = None;
    }

    /// Responds with an error to requests for the previous version from now on.
    pub fn fail_previous(&self) {
        self.fail_with(Some((500, "InternalServiceError")));
        self.state().error_stage = Some("AWSPREVIOUS");
    }

    /// The stages that were requested since the last call of this.
    pub fn drain_requests(&self) -> Vec<String> {
        std::mem::take(&mut self.state().requests)
    }

    /// The environment of functions that read the secret here.
    pub fn environment(&self) -> Vec<(&str, &str)> {
        vec![
            ("JWT_SECRET_ARN", SECRET_NAME),
            ("AWS_ENDPOINT_URL_SECRETS_MANAGER", &self.url),
        ]
    }

    fn state(&self) -> MutexGuard<'_, SecretState> {
        self.state.lock().unwrap()
    }
}

impl SecretState {
    /// Responds to a request in the protocol AWS JSON 1.1.
    fn respond(&mut self, headers: &HeaderMap, body: &[u8]) -> Response<Full<Bytes>> {
        assert_eq!(headers["x-amz-target"], "secretsmanager.GetSecretValue");
        let authorization = headers["authorization"].to_str().unwrap();
        assert!(authorization.contains("/secretsmanager/aws4_request"));
        let request: Value = serde_json::from_slice(body).unwrap();
        let stage = request["VersionStage"].as_str().unwrap_or("AWSCURRENT");
        self.requests.push(stage.to_owned());
        let error = |status: StatusCode, name: &str| {
            let body = json!({"__type": name, "Message": format!("a test returns {name}")});
            json_response(status, &body)
        };
        let fails = self.error_stage.is_none_or(|failing| failing == stage);
        if let Some((status, name)) = self.error.filter(|_| fails) {
            return error(status, name);
        }
        let version = self.versions.get(stage);
        match version.filter(|_| request["SecretId"] == SECRET_NAME) {
            Some(version) => {
                let mut body = version.clone();
                body["Name"] = SECRET_NAME.into();
                body["VersionStages"] = json!([stage]);
                json_response(StatusCode::OK, &body)
            }
            None => error(StatusCode::BAD_REQUEST, "ResourceNotFoundException"),
        }
    }
}

/// A server with a key set.
pub struct KeySetServer {
    url: String,
    state: Arc<Mutex<KeySetState>>,
}

#[derive(Default)]
struct KeySetState {
    response: Response<Full<Bytes>>,
    requests: usize,
}

impl KeySetServer {
    /// Starts a server that responds with these keys.
    pub async fn start(keys: &[Value]) -> Self {
        let state = Arc::<Mutex<KeySetState>>::default();
        let url = serve({
            let state = state.clone();
            move |_: &HeaderMap, _: &[u8]| {
                let mut state = state.lock().unwrap();
                state.requests += 1;
                state.response.clone()
            }
        })
        .await;
        let url = format!("{url}/.well-known/jwks.json");
        let server = Self { url, state };
        server.set_keys(keys);
        server
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// Responds with these keys from now on.
    pub fn set_keys(&self, keys: &[Value]) {
        self.set_response(json_response(StatusCode::OK, &json!({ "keys": keys })));
    }

    /// Responds with this from now on.
    pub fn set_response(&self, response: Response<Full<Bytes>>) {
        self.state.lock().unwrap().response = response;
    }

    /// How often the key set was requested.
    pub fn requests(&self) -> usize {
        self.state.lock().unwrap().requests
    }
}

fn json_response(status: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    let response = Response::builder().status(status);
    let response = response.header("content-type", "application/json");
    response.body(Full::from(body.to_string())).unwrap()
}

/// Starts a server on this machine. Returns its URL. It has a thread of its own, because a function waits only a
/// second for a response, and a test may keep its thread busy.
async fn serve(
    respond: impl Fn(&HeaderMap, &[u8]) -> Response<Full<Bytes>> + Clone + Send + Sync + 'static,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let listener = listener.into_std().unwrap();
    let server = async move {
        let listener = TcpListener::from_std(listener).unwrap();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let respond = respond.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                let respond = respond.clone();
                async move {
                    let (parts, body) = request.into_parts();
                    let body = body.collect().await?.to_bytes();
                    Ok::<_, hyper::Error>(respond(&parts.headers, &body))
                }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    };
    std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(server)
    });
    url
}
