//! Formats numbers and Markdown tables for reports.

use std::time::Duration;

/// A duration in milliseconds.
pub fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

/// Bytes in megabytes.
pub fn megabytes(bytes: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "sizes are far below 2^53 bytes")]
    let bytes = bytes as f64;
    bytes / 1e6
}

/// A number with three significant digits and at most three decimals.
pub fn significant(number: f64) -> String {
    let decimals = match number.abs() {
        0.0 => 0,
        ..0.995 => 3,
        ..9.95 => 2,
        ..99.5 => 1,
        _ => 0,
    };
    with_thousands_separators(&format!("{number:.decimals$}"))
}

/// Separates the thousands of a number without an exponent by commas.
pub fn with_thousands_separators(number: &str) -> String {
    let end = number.find('.').unwrap_or(number.len());
    let (whole, decimals) = number.split_at(end);
    let mut separated = String::new();
    for (position, digit) in whole.char_indices() {
        let remaining = whole.len() - position;
        let follows_digit = separated.ends_with(|last: char| last.is_ascii_digit());
        if follows_digit && remaining.is_multiple_of(3) {
            separated.push(',');
        }
        separated.push(digit);
    }
    separated + decimals
}

/// A Markdown table. The first column is aligned left and the others right, because they contain
/// numbers.
pub fn markdown_table(header: &[&str], rows: &[Vec<String>]) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let header: Vec<_> = header.iter().map(|&name| name.to_owned()).collect();
    let mut alignment = vec!["---".to_owned()];
    alignment.resize(header.len(), "---:".to_owned());
    let rows = rows.iter().map(|row| line(row));
    [line(&header), line(&alignment)]
        .into_iter()
        .chain(rows)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_significant_digits() {
        let formatted = [0.0, 0.1234, 1.234, 12.34, 123.4, 9.999].map(significant);
        assert_eq!(formatted, ["0", "0.123", "1.23", "12.3", "123", "10.0"]);
    }

    #[test]
    fn thousands_are_separated_by_commas() {
        for (number, expected) in [
            ("1", "1"),
            ("1024", "1,024"),
            ("-123456.75", "-123,456.75"),
            ("1000000", "1,000,000"),
        ] {
            assert_eq!(with_thousands_separators(number), expected);
        }
    }
}
