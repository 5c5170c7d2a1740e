//! When two values count as equal.

use lgtm_core::model::{FloatHistogram, Labels, is_stale_nan};
use lgtm_tsdb::promql::{Series, histogram};

use super::load::Item;

/// Relative tolerance of floats.
const EPSILON: f64 = 1e-6;

pub(crate) fn floats(a: f64, b: f64) -> bool {
    if is_stale_nan(a) || is_stale_nan(b) {
        return is_stale_nan(a) && is_stale_nan(b);
    }
    if a.is_nan() || b.is_nan() {
        return a.is_nan() && b.is_nan();
    }
    if a == b {
        return true;
    }
    let (sum, difference) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < EPSILON * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < EPSILON
}

pub(crate) fn histograms(
    expected: &FloatHistogram,
    spelled: bool,
    actual: &FloatHistogram,
) -> bool {
    let (mut a, mut b) = (expected.clone(), actual.clone());
    histogram::compact(&mut a);
    histogram::compact(&mut b);
    let list =
        |x: &[f64], y: &[f64]| x.len() == y.len() && x.iter().zip(y).all(|(x, y)| floats(*x, *y));
    (!spelled || a.hint == b.hint)
        && a.schema == b.schema
        && a.zero_threshold == b.zero_threshold
        && floats(a.count, b.count)
        && floats(a.sum, b.sum)
        && floats(a.zero_count, b.zero_count)
        && a.custom_values == b.custom_values
        && a.positive_spans == b.positive_spans
        && a.negative_spans == b.negative_spans
        && list(&a.positive_counts, &b.positive_counts)
        && list(&a.negative_counts, &b.negative_counts)
}

/// The value of a series at a time.
pub(crate) fn at(s: &Series, t_ms: i64) -> Option<Item> {
    if let Some(p) = s.floats.iter().find(|p| p.t_ms == t_ms) {
        return Some(Item::Float(p.value));
    }
    let h = s.histograms.iter().find(|p| p.t_ms == t_ms)?;
    Some(Item::Histogram(h.value.clone(), false))
}

pub(crate) fn items(expected: &Item, actual: &Item) -> bool {
    match (expected, actual) {
        (Item::Float(a), Item::Float(b)) => floats(*a, *b),
        (Item::Histogram(a, spelled), Item::Histogram(b, _)) => histograms(a, *spelled, b),
        _ => false,
    }
}

pub(crate) fn is_sorted(series: &[Series]) -> bool {
    let pairs = |l: &Labels| {
        l.iter()
            .map(|(n, v)| (n.to_owned(), v.to_owned()))
            .collect::<Vec<_>>()
    };
    series.is_sorted_by_key(|s| pairs(&s.labels))
}
