//! Decoding the chunks of one series.

use lgtm_core::DecodeError;
use lgtm_core::model::{TimeRange, TimestampMs};

use crate::chunk::{self, Chunk, SampleTime, SampleValue};

/// The samples of `chunks` inside `range`, in time order, each time once.
///
/// Where chunks overlap and hold different samples for one time, a float is kept before a histogram, and of two of a kind the
/// one from the chunk that stands later in `chunks`; replicas hold equal samples, so that it rarely matters.
///
/// # Errors
/// A chunk that does not follow its format.
pub fn samples(
    chunks: &[Chunk],
    range: TimeRange,
) -> Result<Vec<(TimestampMs, SampleValue)>, DecodeError> {
    collect(chunks, range, |at| at.t_ms, |t_ms| *t_ms)
}

/// The [`samples`] with since when they count.
///
/// # Errors
/// A chunk that does not follow its format.
pub fn started_samples(
    chunks: &[Chunk],
    range: TimeRange,
) -> Result<Vec<(SampleTime, SampleValue)>, DecodeError> {
    collect(chunks, range, |at| at, |at| at.t_ms)
}

/// Samples with what `keep` takes of their times; `t_ms` is the time in that.
fn collect<T>(
    chunks: &[Chunk],
    range: TimeRange,
    keep: impl Fn(SampleTime) -> T,
    t_ms_of: impl Fn(&T) -> TimestampMs,
) -> Result<Vec<(T, SampleValue)>, DecodeError> {
    let mut order: Vec<&Chunk> = chunks
        .iter()
        .filter(|c| c.min_ms < range.max_ms && c.max_ms >= range.min_ms)
        .collect();
    order.sort_by_key(|c| (c.min_ms, c.max_ms));
    // Equal chunks of replicas need no second decoding.
    order.dedup_by(|a, b| {
        a.min_ms == b.min_ms && a.max_ms == b.max_ms && a.encoding == b.encoding && a.data == b.data
    });
    let mut out: Vec<(T, SampleValue)> = Vec::new();
    let mut overlapped = false;
    let mut newest = TimestampMs::MIN;
    for c in &order {
        overlapped |= !out.is_empty() && c.min_ms <= newest;
        newest = newest.max(c.max_ms);
        let mut samples = chunk::iter(c.encoding, &c.data)?;
        while let Some(sample) = samples.next() {
            let (t_ms, value) = sample?;
            let start_ms = samples.start_ms();
            if range.contains(t_ms) {
                out.push((keep(SampleTime { t_ms, start_ms }), value));
            }
        }
    }
    if overlapped {
        let is_histogram = |v: &SampleValue| !matches!(v, SampleValue::Float(_));
        out.reverse();
        out.sort_by_key(|(at, v)| (t_ms_of(at), is_histogram(v)));
        out.dedup_by_key(|s| t_ms_of(&s.0));
    }
    Ok(out)
}
