//! Whether a counter began anew between two histograms.

use lgtm_core::model::{BucketSpan, CounterResetHint, FloatHistogram};

use super::arithmetic::{
    common_bounds, copy_to_schema, raise_zero_bucket, rebounded, zero_bucket_up_to,
};
use super::buckets::indexed;

/// Whether a reset lies between `previous` and `h`: the hint says so, or something went down.
pub(crate) fn is_reset(h: &FloatHistogram, previous: &FloatHistogram) -> bool {
    match h.hint {
        CounterResetHint::Reset => return true,
        CounterResetHint::NotReset => return false,
        CounterResetHint::Unknown | CounterResetHint::Gauge => {}
    }
    if h.count < previous.count {
        return true;
    }
    if h.uses_custom_buckets() != previous.uses_custom_buckets() {
        return true;
    }
    if h.uses_custom_buckets() {
        if h.custom_values == previous.custom_values {
            return any_went_down(
                indexed(&h.positive_spans, &h.positive_counts),
                indexed(&previous.positive_spans, &previous.positive_counts),
            );
        }
        let bounds = common_bounds(&h.custom_values, &previous.custom_values);
        return any_went_down(
            rebounded(h, &bounds).into_iter(),
            rebounded(previous, &bounds).into_iter(),
        );
    }
    // A finer schema or a narrower zero bucket cannot come out of the same counter.
    if h.schema > previous.schema || h.zero_threshold < previous.zero_threshold {
        return true;
    }
    let (zero_count, threshold) = zero_bucket_up_to(previous, h.zero_threshold);
    if threshold != h.zero_threshold || h.zero_count < zero_count {
        return true;
    }
    if h.schema == previous.schema && h.zero_threshold == previous.zero_threshold {
        return sides_went_down(h, previous);
    }
    let mut before = copy_to_schema(previous, h.schema);
    raise_zero_bucket(&mut before, h.zero_threshold);
    sides_went_down(h, &before)
}

fn sides_went_down(h: &FloatHistogram, previous: &FloatHistogram) -> bool {
    let side = |s: &[BucketSpan], c: &[f64], t: &[BucketSpan], d: &[f64]| {
        if s == t && c.len() == d.len() {
            return c.iter().zip(d).any(|(now, before)| now < before);
        }
        any_went_down(indexed(s, c), indexed(t, d))
    };
    side(
        &h.positive_spans,
        &h.positive_counts,
        &previous.positive_spans,
        &previous.positive_counts,
    ) || side(
        &h.negative_spans,
        &h.negative_counts,
        &previous.negative_spans,
        &previous.negative_counts,
    )
}

/// Whether a bucket holds less now than before; one that is not there holds nothing.
fn any_went_down(
    now: impl Iterator<Item = (i32, f64)>,
    before: impl Iterator<Item = (i32, f64)>,
) -> bool {
    let mut now = now.peekable();
    for (index, count) in before {
        while now.next_if(|(i, c)| *i < index && *c >= 0.0).is_some() {}
        match now.peek() {
            Some((i, c)) if *i == index => {
                if *c < count {
                    return true;
                }
            }
            Some((i, _)) if *i < index => return true,
            _ => {
                if count > 0.0 {
                    return true;
                }
            }
        }
    }
    false
}
