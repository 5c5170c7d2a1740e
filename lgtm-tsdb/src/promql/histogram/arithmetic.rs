//! Adding, subtracting, scaling.

use lgtm_core::model::{BucketSpan, CounterResetHint, FloatHistogram};

use super::bounds;
use super::buckets::{indexed, negative, packed, positive};

/// One side has exponential buckets and the other custom ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IncompatibleBuckets;

/// What was noticed while two histograms were added or subtracted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Merged {
    /// One is marked as a reset, the other as none.
    pub hints_collide: bool,
    /// Custom bounds differed; those that both have are left.
    pub bounds_reconciled: bool,
}

/// Adds `other` to `h`.
///
/// # Errors
/// [`IncompatibleBuckets`]; `h` is then as before.
pub fn add(h: &mut FloatHistogram, other: &FloatHistogram) -> Result<Merged, IncompatibleBuckets> {
    merge(h, other, 1.0)
}

/// Subtracts `other` from `h`. The hint is merged as in an addition; the operator `-` makes the result a gauge.
///
/// # Errors
/// As [`add`].
pub fn subtract(
    h: &mut FloatHistogram,
    other: &FloatHistogram,
) -> Result<Merged, IncompatibleBuckets> {
    merge(h, other, -1.0)
}

fn merge(
    h: &mut FloatHistogram,
    other: &FloatHistogram,
    sign: f64,
) -> Result<Merged, IncompatibleBuckets> {
    if h.uses_custom_buckets() != other.uses_custom_buckets() {
        return Err(IncompatibleBuckets);
    }
    let mut merged = Merged {
        hints_collide: merge_hints(h, other.hint),
        ..Merged::default()
    };
    h.count += sign * other.count;
    h.sum += sign * other.sum;
    if h.uses_custom_buckets() {
        merged.bounds_reconciled = merge_custom(h, other, sign);
        return Ok(merged);
    }
    let other_zero = widen_zero_buckets(h, other);
    h.zero_count += sign * other_zero;
    let schema = h.schema.min(other.schema);
    reduce(h, schema);
    let threshold = h.zero_threshold;
    let side = |spans: &mut Vec<BucketSpan>,
                counts: &mut Vec<f64>,
                o_spans: &[BucketSpan],
                o_counts: &[f64]| {
        if other.schema == schema && *spans == o_spans && threshold == other.zero_threshold {
            counts
                .iter_mut()
                .zip(o_counts)
                .for_each(|(c, o)| *c += sign * o);
            return;
        }
        // Before they are made coarser: a coarse bucket may reach out of the zero bucket that holds all of a fine one.
        let outside = indexed(o_spans, o_counts)
            .filter(|(i, _)| bounds::exponential(*i, other.schema) > threshold);
        let theirs = coarsened(outside, other.schema, schema).into_iter();
        let joined = joined(indexed(spans, counts), theirs, sign);
        (*spans, *counts) = packed(joined);
    };
    side(
        &mut h.positive_spans,
        &mut h.positive_counts,
        &other.positive_spans,
        &other.positive_counts,
    );
    side(
        &mut h.negative_spans,
        &mut h.negative_counts,
        &other.negative_spans,
        &other.negative_counts,
    );
    Ok(merged)
}

/// Sets the hint of a sum; tells whether a reset met its opposite.
pub(super) fn merge_hints(h: &mut FloatHistogram, other: CounterResetHint) -> bool {
    use CounterResetHint::{Gauge, Unknown};
    match (h.hint, other) {
        (a, b) if a == b => {}
        (Gauge, _) => {}
        (_, Gauge) => h.hint = Gauge,
        (Unknown, _) => {}
        (_, Unknown) => h.hint = Unknown,
        _ => {
            h.hint = Unknown;
            return true;
        }
    }
    false
}

/// Two ascending lists of buckets as one.
pub(super) fn joined(
    a: impl Iterator<Item = (i32, f64)>,
    b: impl Iterator<Item = (i32, f64)>,
    sign: f64,
) -> Vec<(i32, f64)> {
    let (mut a, mut b) = (a.peekable(), b.peekable());
    let mut out = Vec::new();
    loop {
        out.push(match (a.peek().copied(), b.peek().copied()) {
            (None, None) => return out,
            (Some((i, x)), Some((j, y))) if i == j => {
                a.next();
                b.next();
                (i, x + sign * y)
            }
            (Some((i, x)), other) if other.is_none_or(|(j, _)| i < j) => {
                a.next();
                (i, x)
            }
            (_, Some((j, y))) => {
                b.next();
                (j, sign * y)
            }
            (Some((i, x)), None) => {
                a.next();
                (i, x)
            }
        });
    }
}

/// Buckets in a coarser schema.
fn coarsened(buckets: impl Iterator<Item = (i32, f64)>, from: i32, to: i32) -> Vec<(i32, f64)> {
    if from <= to {
        return buckets.collect();
    }
    let mut out: Vec<(i32, f64)> = Vec::new();
    for (index, count) in buckets {
        let index = bounds::coarser(index, from, to);
        match out.last_mut() {
            Some((last, sum)) if *last == index => *sum += count,
            _ => out.push((index, count)),
        }
    }
    out
}

/// Brings an exponential histogram to a coarser schema; nothing happens when it is not coarser.
fn reduce(h: &mut FloatHistogram, schema: i32) {
    if schema >= h.schema {
        return;
    }
    let from = h.schema;
    (h.positive_spans, h.positive_counts) = packed(coarsened(
        indexed(&h.positive_spans, &h.positive_counts),
        from,
        schema,
    ));
    (h.negative_spans, h.negative_counts) = packed(coarsened(
        indexed(&h.negative_spans, &h.negative_counts),
        from,
        schema,
    ));
    h.schema = schema;
}

/// A copy in a coarser schema. Custom buckets stay as they are.
pub(crate) fn copy_to_schema(h: &FloatHistogram, schema: i32) -> FloatHistogram {
    let mut out = h.clone();
    if !h.uses_custom_buckets() {
        reduce(&mut out, schema);
    }
    out
}

/// What the zero bucket would hold if it reached to `threshold`, and to where it then really reaches: a populated bucket that the
/// threshold falls into is taken in whole.
pub(super) fn zero_bucket_up_to(h: &FloatHistogram, threshold: f64) -> (f64, f64) {
    let mut threshold = threshold;
    if threshold <= h.zero_threshold {
        return (h.zero_count, h.zero_threshold);
    }
    'again: loop {
        let mut count = h.zero_count;
        for b in positive(h) {
            if b.lower >= threshold {
                break;
            }
            count += b.count;
            if b.upper > threshold {
                if b.count != 0.0 {
                    threshold = b.upper;
                }
                break;
            }
        }
        for b in negative(h) {
            if b.upper <= -threshold {
                break;
            }
            count += b.count;
            if b.lower < -threshold && b.count != 0.0 {
                threshold = -b.lower;
                continue 'again;
            }
        }
        return (count, threshold);
    }
}

/// Widens the zero bucket of `h` until it fits that of `other`; returns what the zero bucket of `other` then holds.
fn widen_zero_buckets(h: &mut FloatHistogram, other: &FloatHistogram) -> f64 {
    let (mut count, mut threshold) = (other.zero_count, other.zero_threshold);
    // Each turn moves a threshold to a bound of a populated bucket beyond it, of which there are finitely many. A NaN
    // threshold compares as neither and ends the loop.
    loop {
        if h.zero_threshold > threshold {
            (count, threshold) = zero_bucket_up_to(other, h.zero_threshold);
        }
        if threshold > h.zero_threshold {
            let reached = zero_bucket_up_to(h, threshold).1;
            raise_zero_bucket(h, reached);
        } else {
            return count;
        }
        if threshold == h.zero_threshold {
            return count;
        }
    }
}

/// Moves what lies below `threshold`, a bound of a bucket, into the zero bucket.
pub(super) fn raise_zero_bucket(h: &mut FloatHistogram, threshold: f64) {
    if threshold <= h.zero_threshold {
        return;
    }
    h.zero_threshold = threshold;
    let schema = h.schema;
    let inside =
        |(index, _): &(i32, f64)| bounds::exponential(index.saturating_sub(1), schema) < threshold;
    let mut moved = 0.0;
    for (spans, counts) in [
        (&mut h.positive_spans, &mut h.positive_counts),
        (&mut h.negative_spans, &mut h.negative_counts),
    ] {
        let (low, high): (Vec<_>, Vec<_>) = indexed(spans, counts).partition(inside);
        moved += low.iter().map(|(_, count)| count).sum::<f64>();
        (*spans, *counts) = packed(high);
    }
    h.zero_count += moved;
}

/// The bounds that both have. Both ascend.
pub(super) fn common_bounds(a: &[f64], b: &[f64]) -> Vec<f64> {
    let mut rest = b.iter().peekable();
    a.iter()
        .copied()
        .filter(|x| {
            while rest.next_if(|y| *y < x).is_some() {}
            rest.peek().is_some_and(|y| *y == x)
        })
        .collect()
}

/// Custom buckets with other bounds, which are a part of the old ones.
pub(super) fn rebounded(h: &FloatHistogram, wanted: &[f64]) -> Vec<(i32, f64)> {
    let mut out: Vec<(i32, f64)> = Vec::new();
    for (index, count) in indexed(&h.positive_spans, &h.positive_counts) {
        let upper = bounds::upper(h, index);
        let place = wanted.partition_point(|w| *w < upper) as i32;
        match out.last_mut() {
            Some((last, sum)) if *last == place => *sum += count,
            _ => out.push((place, count)),
        }
    }
    out
}

/// Merges custom buckets; tells whether bounds differed.
fn merge_custom(h: &mut FloatHistogram, other: &FloatHistogram, sign: f64) -> bool {
    if h.custom_values == other.custom_values {
        let theirs = indexed(&other.positive_spans, &other.positive_counts);
        let all = joined(indexed(&h.positive_spans, &h.positive_counts), theirs, sign);
        (h.positive_spans, h.positive_counts) = packed(all);
        return false;
    }
    let wanted = common_bounds(&h.custom_values, &other.custom_values);
    let mine = rebounded(h, &wanted);
    let theirs = rebounded(other, &wanted);
    (h.positive_spans, h.positive_counts) =
        packed(joined(mine.into_iter(), theirs.into_iter(), sign));
    h.custom_values = wanted;
    true
}

/// Multiplies everything. A negative factor makes a gauge.
pub fn multiply(h: &mut FloatHistogram, factor: f64) {
    scale(h, |x| x * factor);
    if factor < 0.0 {
        h.hint = CounterResetHint::Gauge;
    }
}

/// Divides everything. Division by zero drops the buckets, whose counts would be infinite or NaN.
pub fn divide(h: &mut FloatHistogram, divisor: f64) {
    scale(h, |x| x / divisor);
    if divisor < 0.0 {
        h.hint = CounterResetHint::Gauge;
    }
    if divisor == 0.0 {
        h.positive_spans.clear();
        h.positive_counts.clear();
        h.negative_spans.clear();
        h.negative_counts.clear();
    }
}

fn scale(h: &mut FloatHistogram, f: impl Fn(f64) -> f64) {
    for x in [&mut h.zero_count, &mut h.count, &mut h.sum] {
        *x = f(*x);
    }
    h.positive_counts.iter_mut().for_each(|x| *x = f(*x));
    h.negative_counts.iter_mut().for_each(|x| *x = f(*x));
}

/// Removes empty buckets, so that equal histograms look equal.
pub fn compact(h: &mut FloatHistogram) {
    let full = |(_, count): &(i32, f64)| *count != 0.0;
    let is_packed = |spans: &[BucketSpan], counts: &[f64]| {
        counts.iter().all(|c| *c != 0.0)
            && spans.iter().all(|s| s.length > 0)
            && spans.iter().skip(1).all(|s| s.offset > 0)
    };
    if !is_packed(&h.positive_spans, &h.positive_counts) {
        (h.positive_spans, h.positive_counts) =
            packed(indexed(&h.positive_spans, &h.positive_counts).filter(full));
    }
    if !is_packed(&h.negative_spans, &h.negative_counts) {
        (h.negative_spans, h.negative_counts) =
            packed(indexed(&h.negative_spans, &h.negative_counts).filter(full));
    }
}

/// Whether two histograms say the same, whatever their hints and however their spans are cut. Floats by their bits.
pub fn equals(a: &FloatHistogram, b: &FloatHistogram) -> bool {
    let same = |x: f64, y: f64| x.to_bits() == y.to_bits() || x == y && x == 0.0;
    let side = |s: &[BucketSpan], c: &[f64], t: &[BucketSpan], d: &[f64]| {
        s == t && c.len() == d.len() && c.iter().zip(d).all(|(x, y)| same(*x, *y)) || {
            let full = |(_, count): &(i32, f64)| *count != 0.0;
            let (x, y) = (indexed(s, c).filter(full), indexed(t, d).filter(full));
            x.map(|(i, v)| (i, v.to_bits()))
                .eq(y.map(|(i, v)| (i, v.to_bits())))
        }
    };
    a.schema == b.schema
        && same(a.count, b.count)
        && same(a.sum, b.sum)
        && (a.uses_custom_buckets()
            || same(a.zero_threshold, b.zero_threshold) && same(a.zero_count, b.zero_count))
        && a.custom_values == b.custom_values
        && side(
            &a.positive_spans,
            &a.positive_counts,
            &b.positive_spans,
            &b.positive_counts,
        )
        && side(
            &a.negative_spans,
            &a.negative_counts,
            &b.negative_spans,
            &b.negative_counts,
        )
}
