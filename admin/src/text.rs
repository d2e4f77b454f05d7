//! Text that is safe to print: values from a table on one line, without control characters.

use std::fmt::{self, Write as _};

use icu_properties::{CodePointSetData, props::DefaultIgnorableCodePoint};

/// The maximum number of characters of a value that a line shows.
const MAX_VALUE_CHARS: usize = 80;

/// Displays a text on one line: control characters, line breaks and invisible characters are escaped.
pub(crate) struct OneLine<'a>(pub &'a str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            // These characters are harmless, and valid in an idempotency key.
            if matches!(c, '"' | '\'' | '\\') {
                f.write_char(c)?;
            } else {
                c.escape_debug().try_for_each(|c| f.write_char(c))?;
            }
        }
        Ok(())
    }
}

/// Displays a text that somebody wrote, on one line and in double quotes. Double quotes and backslashes in it are
/// escaped, so that it cannot look like something else that the tool prints. A terminal shows it and obeys
/// nothing in it: control characters, line breaks, direction marks and invisible characters are escaped. Unlike
/// [`OneLine`], it leaves the combining marks of all scripts as they are, because people must be able to read
/// the text.
pub(crate) struct UserText<'a>(pub &'a str);

impl fmt::Display for UserText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for c in self.0.chars() {
            if matches!(c, '"' | '\\') || is_deceptive(c) {
                c.escape_default().try_for_each(|c| f.write_char(c))?;
            } else {
                f.write_char(c)?;
            }
        }
        f.write_char('"')
    }
}

/// Escapes the characters that could control a terminal or deceive a reader in JSON on one line. It stays the same
/// JSON, because only strings contain them.
pub(crate) fn escape_json(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for c in json.chars() {
        if is_deceptive(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(escaped, "\\u{unit:04x}");
            }
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// Whether a character can change what a terminal does or how a reader sees the text around it: a control
/// character, a line break, or a character that Unicode's property `Default_Ignorable_Code_Point` names
/// (direction marks, zero width spaces, tags). Joiners and variation selectors are harmless; emoji and
/// several scripts need them.
fn is_deceptive(c: char) -> bool {
    let is_harmless = matches!(c, '\u{200c}' | '\u{200d}' | '\u{fe00}'..='\u{fe0f}');
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}')
        || (!is_harmless && CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c))
}

/// The start of a value, and `…` if the value is longer.
pub(crate) fn shorten(value: &str) -> String {
    let (start, mark) = start_of(value);
    format!("{start}{mark}")
}

/// The start of a value, and the mark `…` if the value is longer, otherwise an empty mark.
pub(crate) fn start_of(value: &str) -> (&str, &'static str) {
    match value.char_indices().nth(MAX_VALUE_CHARS) {
        Some((end, _)) => (&value[..end], "…"),
        None => (value, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_printed_on_one_line_without_control_characters() {
        for (text, printed) in [
            ("KEY#42#a\"b'c\\d", "KEY#42#a\"b'c\\d"),
            ("é👍 ok", "é👍 ok"),
            ("a\nb\r\tc\u{1b}[31m", "a\\nb\\r\\tc\\u{1b}[31m"),
            ("a\u{2028}b\u{202e}c", "a\\u{2028}b\\u{202e}c"),
        ] {
            assert_eq!(OneLine(text).to_string(), printed);
        }
    }

    #[test]
    fn a_text_of_a_user_is_readable_in_all_scripts_and_cannot_control_a_terminal() {
        for (text, printed) in [
            ("it's \"fine\" \\", "it's \\\"fine\\\" \\\\"),
            ("नमस्ते สวัสดี مرحبًا é e\u{301}", "नमस्ते สวัสดี مرحبًا é e\u{301}"),
            ("👩\u{200d}👧 ❤\u{fe0f}", "👩\u{200d}👧 ❤\u{fe0f}"),
            ("a\nb\r\tc", "a\\nb\\r\\tc"),
            ("\u{1b}[2J\u{9b}31m\u{7}", "\\u{1b}[2J\\u{9b}31m\\u{7}"),
            (
                "a\u{202e}b\u{2066}c\u{200f}",
                "a\\u{202e}b\\u{2066}c\\u{200f}",
            ),
            (
                "\u{2028}\u{200b}\u{feff}\u{e0041}",
                "\\u{2028}\\u{200b}\\u{feff}\\u{e0041}",
            ),
        ] {
            assert_eq!(UserText(text).to_string(), format!("\"{printed}\""));
        }
    }

    #[test]
    fn a_json_document_stays_the_same_and_cannot_control_a_terminal() {
        let value = serde_json::json!({"text": "a\nb\u{9b}c\u{202e}\u{e0041}\u{1b}\u{7f}é👍"});
        let json = serde_json::to_string(&value).unwrap();
        let escaped = escape_json(&json);
        assert!(
            escaped.contains(r"c\u202e\udb40\udc41\u001b\u007fé👍"),
            "{escaped}"
        );
        assert!(!escaped.chars().any(is_deceptive));
        let read: serde_json::Value = serde_json::from_str(&escaped).unwrap();
        assert_eq!(read, value);
    }

    #[test]
    fn a_long_value_is_cut_between_characters() {
        let longest = "é".repeat(MAX_VALUE_CHARS);
        assert_eq!(shorten(&longest), longest);
        assert_eq!(shorten(&format!("{longest}é")), format!("{longest}…"));
        assert_eq!(shorten(""), "");
    }
}
