//! HTTP API emulation: serves the template's routes as an API Gateway HTTP API does (payload format
//! 2.0), and logs each request.
//!
//! It reproduces the behavior that clients and functions can observe:
//!
//! - Path parameters and `rawPath` are decoded, but the query string is not.
//! - Header names are lower-case. Repeated headers and query parameters are joined with commas.
//! - Bodies that are not text are base64-encoded.
//! - Headers and bodies have size limits. Lambda has a lower limit for the event that contains the body.
//! - CORS headers and preflight requests work as configured in the template, except for the allowed
//!   origins.
//! - The WebSocket API, which has a host of its own on AWS, is under the path of its stage (`crate::realtime`).
//! - The gateway's own error responses have only the field `message`. A client never sees why a function
//!   failed.
//!
//! This is custom code because no maintained crate was found that emulates an HTTP API in front of function
//! binaries.

mod cors;
mod event;
mod response;
mod routing;

use std::{convert::Infallible, fmt::Display, net::SocketAddr, sync::Arc, time::Instant};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{ConnectInfo, Request, State},
    http::{HeaderValue, Response, StatusCode, header, request},
    serve::ListenerExt,
};
use chat_shared::domain::Timestamp;
use tokio::{net::TcpListener, sync::watch};

use self::{cors::CorsPolicy, event::build_event, response::from_function, routing::RouteTable};
pub(crate) use self::{
    event::{common_log_time, header_text, query_parameters},
    response::gateway_error,
    routing::decode,
};
use crate::{
    LogSink, StackOptions,
    demo_page::DemoPage,
    docs_page::DocsPage,
    lambda::{InvokeError, Lambda, new_id},
    realtime::Sockets,
    template::Template,
};

/// API Gateway's limit on the request line and all headers together.
const MAX_HEADER_BYTES: usize = 10_240;
/// API Gateway's limit on a request body.
const MAX_BODY_BYTES: usize = 10 * 1024 * 1024;

/// The pages that only the development server has.
pub(crate) struct DevelopmentPages {
    pub docs: DocsPage,
    pub demo: DemoPage,
}

impl DevelopmentPages {
    fn respond(&self, parts: &request::Parts) -> Option<Response<Body>> {
        let docs = self.docs.respond(parts);
        docs.or_else(|| self.demo.respond(parts))
    }
}

struct Gateway {
    routes: RouteTable,
    cors: Option<CorsPolicy>,
    lambda: Arc<Lambda>,
    live: Option<Arc<Sockets>>,
    pages: DevelopmentPages,
    log: LogSink,
}

/// Serves requests until `stop` becomes true, then lets the requests in progress finish.
pub(crate) fn serve(
    listener: TcpListener,
    template: &Template,
    options: &StackOptions,
    lambda: Arc<Lambda>,
    live: Option<Arc<Sockets>>,
    pages: DevelopmentPages,
    mut stop: watch::Receiver<bool>,
) -> impl Future<Output = ()> + Send + 'static {
    let cors = template.cors.clone();
    let gateway = Gateway {
        routes: RouteTable::new(&template.routes),
        cors: cors.map(|cors| CorsPolicy::new(cors, options.allowed_origins.clone())),
        lambda,
        live,
        pages,
        log: options.log.clone(),
    };
    let router = Router::new().fallback(handle).with_state(Arc::new(gateway));
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    // Otherwise a message to a client could wait until the client has acknowledged the one before.
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    async move {
        let stopped = async move { drop(stop.wait_for(|stop| *stop).await) };
        let _ = axum::serve(listener, service)
            .with_graceful_shutdown(stopped)
            .await;
    }
}

async fn handle(
    State(gateway): State<Arc<Gateway>>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    request: Request,
) -> Result<Response<Body>, Infallible> {
    if let Some(live) = &gateway.live
        && let Some(connection_id) = live.connection_in_path(request.uri().path())
    {
        let request = live.clone().manage(connection_id, request);
        let response = tokio::spawn(request).await;
        return Ok(response.unwrap_or_else(|_| gateway_error(StatusCode::INTERNAL_SERVER_ERROR)));
    }
    // The request runs in its own task: a client that disconnects cancels neither the invocation,
    // which Lambda would finish as well, nor the line in the log.
    let response = tokio::spawn(respond_and_log(gateway, client, request)).await;
    Ok(response.unwrap_or_else(|_| gateway_error(StatusCode::INTERNAL_SERVER_ERROR)))
}

async fn respond_and_log(
    gateway: Arc<Gateway>,
    client: SocketAddr,
    request: Request,
) -> Response<Body> {
    let start = Instant::now();
    let (parts, body) = request.into_parts();
    // The development pages do not exist on a real gateway. They come first, because pages of
    // other origins must not be able to read them: the CORS headers below would allow that.
    if let Some(response) = gateway.pages.respond(&parts) {
        return response;
    }
    let origin = parts.headers.get(header::ORIGIN).cloned();
    let (method, path) = (parts.method.clone(), parts.uri.path().to_owned());
    let request_id = new_id();
    let source_ip = client.ip().to_string();
    let (mut response, note) = gateway
        .respond(parts, body, &request_id, &source_ip, start)
        .await;
    if let Some(cors) = &gateway.cors {
        cors.add_headers(origin.as_ref(), response.headers_mut());
    }
    if let Ok(id) = HeaderValue::from_str(&request_id) {
        response.headers_mut().insert("apigw-requestid", id);
    }
    let millis = start.elapsed().as_secs_f64() * 1_000.0;
    let status = response.status().as_u16();
    let now = Timestamp::now();
    (gateway.log)(&format!(
        "{now} {method} {path} {status} {millis:.1} ms {note}"
    ));
    response
}

impl Gateway {
    /// The response, and a note for the log.
    async fn respond(
        &self,
        parts: request::Parts,
        body: Body,
        request_id: &str,
        source_ip: &str,
        start: Instant,
    ) -> (Response<Body>, String) {
        if header_bytes(&parts) > MAX_HEADER_BYTES {
            return rejected(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
        }
        let cors = self.cors.as_ref();
        if let Some(live) = &self.live
            && live.is_handshake(parts.uri.path())
        {
            // Browsers send the origin of the page, but do not check CORS headers of a handshake.
            if cors.is_some_and(|cors| cors.refuses(&parts.headers)) {
                let note = "gateway: the origin is not allowed; start with --allowed-origin ORIGIN";
                return (gateway_error(StatusCode::FORBIDDEN), note.to_owned());
            }
            return live.connect(parts, source_ip).await;
        }
        if let Some(preflight) = cors.and_then(|cors| cors.preflight_response(&parts)) {
            let note = if cors.is_some_and(|cors| cors.refuses(&parts.headers)) {
                "gateway: preflight, the origin is not allowed; start with --allowed-origin ORIGIN"
            } else {
                "gateway: preflight"
            };
            return (preflight, note.to_owned());
        }
        let Some((route, parameters)) = self.routes.find(&parts.method, parts.uri.path()) else {
            return rejected(StatusCode::NOT_FOUND);
        };
        let Ok(body) = to_bytes(body, MAX_BODY_BYTES).await else {
            return rejected(StatusCode::PAYLOAD_TOO_LARGE);
        };
        let event = build_event(&parts, &body, route, parameters, request_id, source_ip);
        let function = &route.binary;
        match self.lambda.invoke(function, event.to_string().into()).await {
            Ok(invocation) => match from_function(&invocation.payload) {
                Some(response) => (response, invocation.note(function)),
                None => failed(function, "API Gateway would reject its response payload"),
            },
            // A real HTTP API returns the same response as for a body over its own limit. The
            // documentation does not say so, but AWS's own emulator of HTTP APIs does it (the Lambda
            // Test Tool in github.com/aws/aws-lambda-dotnet, `ToHttpApiV2RequestTooLargeResponse`).
            Err(error @ InvokeError::EventTooLarge(_)) => (
                gateway_error(StatusCode::PAYLOAD_TOO_LARGE),
                format!("{function}: {error}"),
            ),
            Err(error @ InvokeError::TimedOut(_)) => {
                let waited = start.elapsed().as_secs();
                failed(function, format_args!("{error} (waited {waited} s)"))
            }
            Err(error) => failed(function, error),
        }
    }
}

/// The gateway rejects the request without an invocation.
fn rejected(status: StatusCode) -> (Response<Body>, String) {
    (gateway_error(status), "gateway".to_owned())
}

/// The function failed. Only the log states the cause.
fn failed(function: &str, cause: impl Display) -> (Response<Body>, String) {
    (
        gateway_error(StatusCode::INTERNAL_SERVER_ERROR),
        format!("{function}: {cause}"),
    )
}

/// The size of the request line and all headers.
fn header_bytes(parts: &request::Parts) -> usize {
    let line = parts.method.as_str().len() + parts.uri.to_string().len() + " HTTP/1.1\r\n ".len();
    let headers = parts
        .headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 4);
    line + headers.sum::<usize>()
}
