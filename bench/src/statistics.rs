//! Medians and percentiles.

/// The percentile by the nearest-rank method: the smallest value that at least this `fraction`
/// (0 to 1) of all values do not exceed. Returns `None` without values.
pub fn percentile<T: Copy + PartialOrd>(
    values: impl IntoIterator<Item = T>,
    fraction: f64,
) -> Option<T> {
    let mut values: Vec<T> = values.into_iter().collect();
    values.sort_by(|one, other| one.partial_cmp(other).unwrap_or(std::cmp::Ordering::Equal));
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "the result is the index of a list"
    )]
    let rank = (values.len() as f64 * fraction).ceil() as usize;
    values.get(rank.saturating_sub(1)).copied()
}

/// The median, or the type's default without values.
pub fn median<T: Copy + Default + PartialOrd>(values: impl IntoIterator<Item = T>) -> T {
    percentile(values, 0.5).unwrap_or_default()
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
}
