//! Text that is safe to print: values from a table on one line, without control characters.

use std::fmt;

/// The maximum number of characters of a value that a line shows.
const MAX_VALUE_CHARS: usize = 80;

/// Displays a text on one line: control characters, line breaks and invisible characters are escaped.
pub(crate) struct OneLine<'a>(pub &'a str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;

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

/// The start of a value, and `…` if the value is longer.
pub(crate) fn shorten(value: &str) -> String {
    match value.char_indices().nth(MAX_VALUE_CHARS) {
        Some((end, _)) => format!("{}…", &value[..end]),
        None => value.to_owned(),
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
    fn a_long_value_is_cut_between_characters() {
        let longest = "é".repeat(MAX_VALUE_CHARS);
        assert_eq!(shorten(&longest), longest);
        assert_eq!(shorten(&format!("{longest}é")), format!("{longest}…"));
        assert_eq!(shorten(""), "");
    }
}
