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
    format!("{number:.decimals$}")
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
}
