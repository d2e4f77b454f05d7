//! Medians and percentiles, and how figures are written.

use std::time::Duration;

/// The value that a part (0 to 1) of all values do not exceed.
pub fn percentile<T: Copy + PartialOrd>(
    values: impl IntoIterator<Item = T>,
    part: f64,
) -> Option<T> {
    let mut values: Vec<T> = values.into_iter().collect();
    values.sort_by(|one, other| one.partial_cmp(other).unwrap_or(std::cmp::Ordering::Equal));
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "an index of a list"
    )]
    let index = ((values.len() as f64 * part).ceil() as usize).saturating_sub(1);
    values.get(index).copied()
}

/// The middle one; the default of none.
pub fn median<T: Copy + Default + PartialOrd>(values: impl IntoIterator<Item = T>) -> T {
    percentile(values, 0.5).unwrap_or_default()
}

/// A duration in milliseconds.
pub fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

/// Three digits that count, and no unit.
pub fn digits(number: f64) -> String {
    let decimals = match number.abs() {
        0.0 => 0,
        ..0.995 => 3,
        ..9.95 => 2,
        ..99.5 => 1,
        _ => 0,
    };
    format!("{number:.decimals$}")
}

/// Bytes as megabytes.
pub fn megabytes(bytes: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "no size is that large")]
    let bytes = bytes as f64;
    bytes / 1e6
}

/// A table in Markdown; figures are set to the right, the first column to the left.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let header: Vec<_> = header.iter().map(|&name| name.to_owned()).collect();
    let mut rule = vec!["---".to_owned()];
    rule.resize(header.len(), "---:".to_owned());
    let rows = rows.iter().map(|row| line(row));
    [line(&header), line(&rule)]
        .into_iter()
        .chain(rows)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_one_of_the_values() {
        let values = [5.0, 1.0, 4.0, 2.0, 3.0];
        assert_eq!(percentile(values, 0.5), Some(3.0));
        assert_eq!(percentile(values, 0.99), Some(5.0));
        assert_eq!(percentile(values, 0.0), Some(1.0));
        assert_eq!(percentile::<f64>([], 0.5), None);
        assert_eq!(median([2, 1]), 1);
    }

    #[test]
    fn figures_have_three_digits_that_count() {
        let written = [0.0, 0.1234, 1.234, 12.34, 123.4, 9.999].map(digits);
        assert_eq!(written, ["0", "0.123", "1.23", "12.3", "123", "10.0"]);
    }
}
