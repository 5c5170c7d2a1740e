//! Where buckets begin and end.

use lgtm_core::model::FloatHistogram;

/// Upper bound of the bucket `index` of an exponential schema.
///
/// `2^(index / 2^schema)`; the last finite bucket ends at `f64::MAX` and the one behind it, for infinite observations, at
/// infinity.
pub(super) fn exponential(index: i32, schema: i32) -> f64 {
    let (whole, part) = if schema <= 0 {
        (i64::from(index) << (-schema).min(31), 0)
    } else {
        let per_octave = 1i32 << schema.min(30);
        (
            i64::from(index.div_euclid(per_octave)),
            index.rem_euclid(per_octave),
        )
    };
    if whole == 1024 && part == 0 {
        return f64::MAX;
    }
    let fraction = match part {
        0 => 1.0,
        part => (f64::from(part) / f64::from(1i32 << schema.min(30))).exp2(),
    };
    times_power_of_two(fraction, whole)
}

/// `x * 2^n` without overflow on the way.
fn times_power_of_two(x: f64, n: i64) -> f64 {
    let half = (n / 2).clamp(-2000, 2000) as i32;
    let rest = (n - n / 2).clamp(-2000, 2000) as i32;
    x * 2f64.powi(half) * 2f64.powi(rest)
}

/// Upper bound of a positive bucket.
pub(in super::super) fn upper(h: &FloatHistogram, index: i32) -> f64 {
    if !h.uses_custom_buckets() {
        return exponential(index, h.schema);
    }
    if index < 0 {
        return f64::NEG_INFINITY;
    }
    let bound = h.custom_values.get(index as usize);
    bound.copied().unwrap_or(f64::INFINITY)
}

/// The index that a bucket gets in a coarser schema.
pub(super) fn coarser(index: i32, from: i32, to: i32) -> i32 {
    ((index.wrapping_sub(1)) >> (from - to).clamp(0, 31)) + 1
}
