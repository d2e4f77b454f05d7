//! Logging: writes one line of JSON per request to standard output, with the metrics that CloudWatch
//! extracts from it. A line never contains a token, a header, a body or the path of a request.
//!
//! | Field | Meaning |
//! |---|---|
//! | `timestamp`, `level` | RFC 3339; `INFO`, `WARN` for a 503, `ERROR` for a 500 or an invariant violation |
//! | `requestId` | the id of the Lambda invocation; error responses contain the same id |
//! | `function`, `route` | the name of the function; the route as in the template |
//! | `status`, `code` | the status code; the error code of an error |
//! | `durationMs` | the time from the event to the response |
//! | `attempts` | requests to `DynamoDB`, including retries |
//! | `coldStart` | whether it was the first request of the process |
//! | `cause` | the cause of a 5xx, or why a handshake was refused |
//! | `reason` | why a token was refused ([`TokenError`]) |
//!
//! The metrics are in the namespace `Chat`, with the dimension `stack`: `Calls`, `Retries`, `Conflicts`,
//! `ReadUnits`, `WriteUnits` and, if it is not 0, `InvariantViolations`; with the dimensions `stack` and `code`:
//! `Errors`; with the dimensions `stack` and `reason`: `RejectedTokens`.
//! The functions of the WebSocket API write, with the dimension `stack`: `Events`, `Frames`, `GoneConnections`,
//! `ClosedConnections` and `PushFailures` ([`PushCounts`]), and not `Calls` and `RejectedTokens`. There is no dimension
//! for the function, because it would multiply the cost of metrics by the number of functions. The log
//! lines and Lambda's own metrics distinguish the functions.
//!
//! `LOG_LEVEL` (`INFO`, `WARN` or `ERROR`) is the minimum level for the details of a request. Metrics are
//! written at every level if `STACK_NAME` is set. Lambda's own log level filter would drop them together
//! with the details.
//!
//! The metrics use CloudWatch's embedded metric format, which is one more member (`_aws`) in the JSON
//! line. The structs below replace a library, because the line is written anyway. The crate
//! `metrics_cloudwatch_embedded` 0.10 was measured in a program that writes 100,000 lines with two
//! metrics: the binary grows by 127 KB (432 instead of 305 KB), and a line takes 1.1 instead of 0.5 µs of
//! CPU time. The crate also omits counters with the value 0, supports only one set of dimensions, although
//! errors also need `code`, and has 34 dependencies.

use std::io::Write;

use serde::Serialize;

use crate::{
    auth::TokenError,
    domain::Timestamp,
    error::{ConfigError, ErrorCode},
    store::Usage,
};

/// What a function of the WebSocket API has sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct PushCounts {
    /// Events of chats, not counting how many users and connections received them.
    pub events: u64,
    /// Frames that connections have accepted.
    pub frames: u64,
    /// Connections that no longer existed.
    pub gone_connections: u64,
    /// Connections that were closed, because they were behind, their token had expired or the user had too many.
    pub closed_connections: u64,
    /// Records that could not be read, and frames that the function was not allowed to send.
    pub push_failures: u64,
}

/// The severity of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "UPPERCASE")]
enum Level {
    Info,
    Warn,
    Error,
}

impl Level {
    fn from_status(status: u16) -> Self {
        match status {
            503 => Self::Warn,
            500.. => Self::Error,
            _ => Self::Info,
        }
    }
}

/// Writes the log lines of a function.
pub(crate) struct Logger {
    threshold: Level,
    function: String,
    stack: String,
}

/// The data of one log line.
pub(crate) struct LogRecord<'a> {
    /// The time of the response.
    pub at: Timestamp,
    pub request_id: &'a str,
    pub route: &'a str,
    pub status: u16,
    /// The error code of an error response.
    pub code: Option<ErrorCode>,
    /// The cause of a 5xx.
    pub cause: Option<String>,
    /// Why a token was refused.
    pub token_error: Option<TokenError>,
    pub duration: std::time::Duration,
    pub is_cold_start: bool,
    pub usage: Usage,
    /// Only for a function of the WebSocket API.
    pub push: Option<PushCounts>,
}

impl Logger {
    /// Reads `LOG_LEVEL`, `STACK_NAME` and `AWS_LAMBDA_FUNCTION_NAME`.
    ///
    /// # Errors
    /// [`ConfigError`] if `LOG_LEVEL` is invalid.
    pub fn from_env(env: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let threshold = match env("LOG_LEVEL").as_deref() {
            None | Some("" | "INFO") => Level::Info,
            Some("WARN") => Level::Warn,
            Some("ERROR") => Level::Error,
            Some(_) => {
                let problem = "must be INFO, WARN or ERROR";
                return Err(ConfigError::new("LOG_LEVEL", problem));
            }
        };
        Ok(Self {
            threshold,
            function: env("AWS_LAMBDA_FUNCTION_NAME").unwrap_or_default(),
            stack: env("STACK_NAME").unwrap_or_default(),
        })
    }

    /// Writes the log line of a request.
    pub fn write(&self, record: &LogRecord<'_>) {
        let Some(line) = self.line(record) else {
            return;
        };
        // Ignore write errors: a closed stdout must not fail the request.
        let _ = std::io::stdout().lock().write_all(line.as_bytes());
    }

    fn line(&self, record: &LogRecord<'_>) -> Option<String> {
        let has_violations = record.usage.invariant_violations > 0;
        // Somebody must repair the table, so this line is written at every level.
        let level = if has_violations {
            Level::Error
        } else {
            Level::from_status(record.status)
        };
        let has_details = level >= self.threshold;
        let has_metrics = !self.stack.is_empty();
        if !has_details && !has_metrics {
            return None;
        }
        let is_error = record.code.is_some();
        // The alarms compare the rejected tokens with the requests of the HTTP API.
        let is_rejected_request = record.token_error.is_some() && record.push.is_none();
        let usage = &record.usage;
        let directives = [
            Some(if record.push.is_some() {
                &PUSH_METRICS
            } else {
                &STACK_METRICS
            }),
            is_error.then_some(&ERROR_METRICS),
            is_rejected_request.then_some(&REJECTION_METRICS),
            has_violations.then_some(&VIOLATION_METRICS),
        ];
        let line = Line {
            timestamp: record.at.to_string(),
            level,
            function: &self.function,
            code: record.code,
            reason: record.token_error,
            details: has_details.then(|| Details {
                request_id: record.request_id,
                route: record.route,
                status: record.status,
                duration_ms: (record.duration.as_secs_f64() * 10_000.0).round() / 10.0,
                attempts: usage.attempts,
                cold_start: record.is_cold_start,
                cause: record.cause.as_deref(),
            }),
            metrics: has_metrics.then(|| Metrics {
                aws: Embedded {
                    timestamp: record.at.millis(),
                    directives: directives.into_iter().flatten().collect(),
                },
                stack: &self.stack,
                calls: record.push.is_none().then_some(1),
                push: record.push,
                errors: is_error.then_some(1),
                rejected_tokens: is_rejected_request.then_some(1),
                invariant_violations: has_violations.then_some(usage.invariant_violations),
                retries: usage.retries(),
                conflicts: usage.conflicts,
                read_units: usage.read_units,
                write_units: usage.write_units,
            }),
        };
        let mut line = serde_json::to_string(&line).ok()?;
        line.push('\n');
        Some(line)
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    timestamp: String,
    level: Level,
    function: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<ErrorCode>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<TokenError>,
    #[serde(flatten)]
    details: Option<Details<'a>>,
    #[serde(flatten)]
    metrics: Option<Metrics<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Details<'a> {
    request_id: &'a str,
    route: &'a str,
    status: u16,
    duration_ms: f64,
    attempts: u64,
    cold_start: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Metrics<'a> {
    #[serde(rename = "_aws")]
    aws: Embedded,
    #[serde(rename = "stack")]
    stack: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    calls: Option<u64>,
    #[serde(flatten)]
    push: Option<PushCounts>,
    #[serde(skip_serializing_if = "Option::is_none")]
    errors: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rejected_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    invariant_violations: Option<u64>,
    retries: u64,
    conflicts: u64,
    read_units: f64,
    write_units: f64,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Embedded {
    /// Milliseconds since 1970 UTC.
    timestamp: u64,
    #[serde(rename = "CloudWatchMetrics")]
    directives: Vec<&'static Directive>,
}

/// Names the members of the line that are metrics, and the members that are their dimensions.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Directive {
    namespace: &'static str,
    dimensions: &'static [&'static [&'static str]],
    metrics: &'static [Metric],
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Metric {
    name: &'static str,
    unit: &'static str,
}

const fn count(name: &'static str) -> Metric {
    let unit = "Count";
    Metric { name, unit }
}

static STACK_METRICS: Directive = Directive {
    namespace: "Chat",
    dimensions: &[&["stack"]],
    metrics: &[
        count("Calls"),
        count("Retries"),
        count("Conflicts"),
        count("ReadUnits"),
        count("WriteUnits"),
    ],
};

static ERROR_METRICS: Directive = Directive {
    namespace: "Chat",
    dimensions: &[&["stack", "code"]],
    metrics: &[count("Errors")],
};

static REJECTION_METRICS: Directive = Directive {
    namespace: "Chat",
    dimensions: &[&["stack", "reason"]],
    metrics: &[count("RejectedTokens")],
};

static VIOLATION_METRICS: Directive = Directive {
    namespace: "Chat",
    dimensions: &[&["stack"]],
    metrics: &[count("InvariantViolations")],
};

static PUSH_METRICS: Directive = Directive {
    namespace: "Chat",
    dimensions: &[&["stack"]],
    metrics: &[
        count("Events"),
        count("Frames"),
        count("GoneConnections"),
        count("ClosedConnections"),
        count("PushFailures"),
        count("Retries"),
        count("Conflicts"),
        count("ReadUnits"),
        count("WriteUnits"),
    ],
};

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::*;

    fn record(status: u16, code: Option<ErrorCode>) -> LogRecord<'static> {
        LogRecord {
            at: Timestamp::from_millis(1_767_225_600_000),
            request_id: "id",
            route: "GET /totals",
            status,
            code,
            cause: None,
            token_error: None,
            duration: Duration::from_micros(12_345),
            is_cold_start: true,
            usage: Usage {
                operations: 2,
                attempts: 5,
                conflicts: 1,
                read_units: 0.5,
                write_units: 10.0,
                ..Usage::default()
            },
            push: None,
        }
    }

    fn line(variables: &[(&str, &str)], record: &LogRecord<'_>) -> Option<Value> {
        let env = |name: &str| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let line = Logger::from_env(env).unwrap().line(record)?;
        assert_eq!(line.lines().count(), 1);
        Some(serde_json::from_str(&line).unwrap())
    }

    #[test]
    fn a_line_contains_the_details_and_the_metrics_of_a_request() {
        let variables = [
            ("STACK_NAME", "chat"),
            ("AWS_LAMBDA_FUNCTION_NAME", "totals"),
        ];
        let mut line = line(&variables, &record(200, None)).unwrap();
        let aws = line.as_object_mut().unwrap().remove("_aws").unwrap();
        let expected = json!({
            "timestamp": "2026-01-01T00:00:00.000Z", "level": "INFO", "function": "totals",
            "requestId": "id", "route": "GET /totals", "status": 200, "durationMs": 12.3,
            "attempts": 5, "coldStart": true, "stack": "chat",
            "Calls": 1, "Retries": 3, "Conflicts": 1, "ReadUnits": 0.5, "WriteUnits": 10.0,
        });
        assert_eq!(line, expected);
        assert_eq!(aws["Timestamp"], 1_767_225_600_000_u64);
        let [directive] = aws["CloudWatchMetrics"].as_array().unwrap().as_slice() else {
            panic!("expected one set of metrics: {aws}")
        };
        assert_eq!(directive["Namespace"], "Chat");
        assert_eq!(directive["Dimensions"], json!([["stack"]]));
        for metric in directive["Metrics"].as_array().unwrap() {
            let name = metric["Name"].as_str().unwrap();
            assert!(line[name].is_number(), "{name} must be in the line");
        }
    }

    #[test]
    fn an_error_is_counted_by_its_code() {
        let line = line(
            &[("STACK_NAME", "chat")],
            &record(404, Some(ErrorCode::ChatNotFound)),
        );
        let line = line.unwrap();
        assert_eq!(
            [&line["code"], &line["Errors"]],
            [&json!("chat_not_found"), &json!(1)]
        );
        let by_code = &line["_aws"]["CloudWatchMetrics"][1];
        assert_eq!(by_code["Dimensions"], json!([["stack", "code"]]));
        assert_eq!(by_code["Metrics"][0]["Name"], "Errors");
    }

    #[test]
    fn a_refused_token_is_counted_by_its_reason() {
        let refused = LogRecord {
            token_error: Some(TokenError::Expired),
            ..record(401, Some(ErrorCode::Unauthorized))
        };
        let line = line(&[("STACK_NAME", "chat")], &refused).unwrap();
        assert_eq!(
            [&line["reason"], &line["RejectedTokens"], &line["Errors"]],
            [&json!("expired"), &json!(1), &json!(1)]
        );
        let by_reason = &line["_aws"]["CloudWatchMetrics"][2];
        assert_eq!(by_reason["Dimensions"], json!([["stack", "reason"]]));
        assert_eq!(by_reason["Metrics"][0]["Name"], "RejectedTokens");
    }

    #[test]
    fn a_token_that_the_websocket_api_refuses_is_logged_and_not_counted() {
        let refused = LogRecord {
            token_error: Some(TokenError::Expired),
            push: Some(PushCounts::default()),
            ..record(403, None)
        };
        let line = line(&[("STACK_NAME", "chat")], &refused).unwrap();
        assert_eq!(line["reason"], "expired");
        assert_eq!(line.get("RejectedTokens"), None);
        assert_eq!(line.get("Errors"), None);
    }

    #[test]
    fn a_function_of_the_websocket_api_counts_what_it_has_sent_and_no_call() {
        let pushed = LogRecord {
            push: Some(PushCounts {
                events: 3,
                frames: 7,
                ..PushCounts::default()
            }),
            ..record(200, None)
        };
        let line = line(&[("STACK_NAME", "chat")], &pushed).unwrap();
        assert_eq!([&line["Events"], &line["Frames"]], [&json!(3), &json!(7)]);
        assert_eq!(line.get("Calls"), None);
        let directives = line["_aws"]["CloudWatchMetrics"].as_array().unwrap();
        assert_eq!(directives.len(), 1);
        assert_eq!(directives[0]["Dimensions"], json!([["stack"]]));
        for metric in directives[0]["Metrics"].as_array().unwrap() {
            let name = metric["Name"].as_str().unwrap();
            assert!(line[name].is_number(), "{name} must be in the line");
        }
    }

    #[test]
    fn negative_counters_are_counted_at_every_level() {
        let mut record = record(200, None);
        record.usage.invariant_violations = 2;
        let variables = [("STACK_NAME", "chat"), ("LOG_LEVEL", "ERROR")];
        let line = line(&variables, &record).unwrap();
        assert_eq!(
            [&line["InvariantViolations"], &line["requestId"]],
            [&json!(2), &json!("id")]
        );
        let violations = &line["_aws"]["CloudWatchMetrics"][1];
        assert_eq!(violations["Dimensions"], json!([["stack"]]));
        assert_eq!(violations["Metrics"][0]["Name"], "InvariantViolations");
    }

    #[test]
    fn the_level_hides_details_but_not_metrics() {
        let with_level = |level| [("STACK_NAME", "chat"), ("LOG_LEVEL", level)];
        for (level, status, has_details) in [
            ("INFO", 200, true),
            ("WARN", 200, false),
            ("WARN", 404, false),
            ("WARN", 503, true),
            ("ERROR", 503, false),
            ("ERROR", 500, true),
        ] {
            let line = line(&with_level(level), &record(status, None)).unwrap();
            assert_eq!(
                line.get("requestId").is_some(),
                has_details,
                "{level} {status}"
            );
            assert_eq!(line["Calls"], 1);
        }
        // Without a stack name and below the level there is nothing to write.
        assert_eq!(line(&[("LOG_LEVEL", "WARN")], &record(200, None)), None);
        assert!(Logger::from_env(|_| Some("LOUD".to_owned())).is_err());
    }
}
