//! Log lines about keys. They have the form of the lines about requests (`http/log.rs`), and never contain a
//! secret. They are rare, so `LOG_LEVEL` has no effect on them.

use std::io::Write;

use serde::Serialize;

use super::keys::IgnoredKey;
use crate::domain::Timestamp;

/// The maximum length of a key id in a line, in characters.
const MAX_ID_CHARS: usize = 100;

#[derive(Serialize)]
struct Line<'a> {
    timestamp: String,
    level: &'static str,
    message: &'static str,
    /// The environment variable that configures the keys.
    source: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    kid: Option<String>,
    reason: &'a str,
}

/// A key of a key set is left out.
pub(super) fn ignored_key(now: Timestamp, source: &'static str, key: &IgnoredKey) {
    write(&ignored_key_line(now, source, key));
}

fn ignored_key_line(now: Timestamp, source: &'static str, key: &IgnoredKey) -> Line<'static> {
    let id = key.id.as_deref().unwrap_or_default();
    Line {
        timestamp: now.to_string(),
        level: "WARN",
        message: "ignored key of the key set",
        source,
        kid: Some(id.chars().take(MAX_ID_CHARS).collect()),
        reason: key.reason,
    }
}

/// The previous version of the secret is left out.
pub(super) fn ignored_previous_secret(now: Timestamp, source: &'static str, reason: &str) {
    write(&Line {
        timestamp: now.to_string(),
        level: "WARN",
        message: "ignored previous version of the secret",
        source,
        kid: None,
        reason,
    });
}

/// Keys could not be fetched again. The old ones are still used.
pub(super) fn refresh_failed(now: Timestamp, source: &'static str, reason: &str) {
    write(&Line {
        timestamp: now.to_string(),
        level: "WARN",
        message: "cannot refresh the keys",
        source,
        kid: None,
        reason,
    });
}

fn write(line: &Line<'_>) {
    if let Some(line) = to_json(line) {
        // Ignore write errors: a closed stdout must not fail the request.
        let _ = std::io::stdout().lock().write_all(line.as_bytes());
    }
}

fn to_json(line: &Line<'_>) -> Option<String> {
    let mut line = serde_json::to_string(line).ok()?;
    line.push('\n');
    Some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line_of_json_with_the_id_of_the_key() {
        let key = IgnoredKey {
            id: Some(format!("a\n\"{}", "é".repeat(200))),
            reason: "a secret",
        };
        let line = ignored_key_line(Timestamp::from_millis(0), "JWT_JWKS", &key);
        let line = to_json(&line).unwrap();
        assert_eq!(line.lines().count(), 1);
        assert!(line.ends_with('\n'));
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        let expected = serde_json::json!({
            "timestamp": "1970-01-01T00:00:00.000Z", "level": "WARN",
            "message": "ignored key of the key set", "source": "JWT_JWKS",
            "kid": format!("a\n\"{}", "é".repeat(97)), "reason": "a secret",
        });
        assert_eq!(line, expected);
    }
}
