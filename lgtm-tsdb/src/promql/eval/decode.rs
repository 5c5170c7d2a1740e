//! From the chunks of a series to columns of samples.

use std::sync::Arc;

use lgtm_core::DecodeError;
use lgtm_core::model::{CounterResetHint, FloatHistogram, TimeRange, TimestampMs, is_stale_nan};

use crate::chunk::{self, Chunk, Encoding, SampleValue, XorIter};
use crate::promql::functions::Samples;
use crate::promql::histogram;

/// What is wanted of the samples.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub(super) range: TimeRange,
    /// Whether stale markers are: instants end at them, ranges do not see them.
    pub(super) stale: bool,
    /// Whether start timestamps are.
    pub(super) starts: bool,
}

/// Replaces `out` by the samples of `chunks`, each time once; of two samples at one time a float is kept before a histogram, and of
/// a kind the one from the chunk that stands later.
///
/// Costs a few nanoseconds a float and allocates only when the buffers of `out` grow. Chunks that do not overlap, as all but
/// replicated and late ones, are decoded straight into the columns.
pub(super) fn decode(
    chunks: &[Chunk],
    wanted: Wanted,
    out: &mut Samples,
) -> Result<(), DecodeError> {
    out.clear();
    let range = wanted.range;
    let mut order: Vec<&Chunk> = chunks
        .iter()
        .filter(|c| c.min_ms < range.max_ms && c.max_ms >= range.min_ms)
        .collect();
    order.sort_by_key(|c| (c.min_ms, c.max_ms));
    order.dedup_by(|a, b| {
        (a.min_ms, a.max_ms, a.encoding) == (b.min_ms, b.max_ms, b.encoding) && a.data == b.data
    });
    let overlap = order.windows(2).any(|w| w[1].min_ms <= w[0].max_ms);
    if overlap {
        return decode_overlapping(&order, wanted, out);
    }
    for c in order {
        match c.encoding {
            Encoding::Xor if !wanted.starts => floats(&c.data, wanted, out)?,
            _ => {
                let mut samples = chunk::iter(c.encoding, &c.data)?;
                while let Some(sample) = samples.next() {
                    let (t_ms, value) = sample?;
                    push(t_ms, value, samples.start_ms(), wanted, out);
                }
            }
        }
    }
    Ok(())
}

/// The hot loop: nothing per sample but the bits.
fn floats(data: &[u8], wanted: Wanted, out: &mut Samples) -> Result<(), DecodeError> {
    XorIter::new(data)?.for_each(|t_ms, value| {
        if wanted.range.contains(TimestampMs::new(t_ms)) && (wanted.stale || !is_stale_nan(value)) {
            out.times.push(t_ms);
            out.floats.push(value);
        }
    })
}

fn push(
    t_ms: TimestampMs,
    value: SampleValue,
    start_ms: TimestampMs,
    wanted: Wanted,
    out: &mut Samples,
) {
    if !wanted.range.contains(t_ms) {
        return;
    }
    let h = match value {
        SampleValue::Float(v) => {
            if wanted.stale || !is_stale_nan(v) {
                out.times.push(t_ms.get());
                out.floats.push(v);
                if wanted.starts {
                    out.starts.push(start_ms.get());
                }
            }
            return;
        }
        SampleValue::Histogram(h) => h.to_float(),
        SampleValue::FloatHistogram(h) => *h,
    };
    if wanted.stale || !h.is_stale() {
        out.h_times.push(t_ms.get());
        out.histograms.push(Arc::new(h));
        if wanted.starts {
            out.h_starts.push(start_ms.get());
        }
    }
}

fn decode_overlapping(
    order: &[&Chunk],
    wanted: Wanted,
    out: &mut Samples,
) -> Result<(), DecodeError> {
    let mut all: Vec<(TimestampMs, SampleValue, TimestampMs)> = Vec::new();
    for c in order {
        let mut samples = chunk::iter(c.encoding, &c.data)?;
        while let Some(sample) = samples.next() {
            let (t_ms, value) = sample?;
            if wanted.range.contains(t_ms) {
                all.push((t_ms, value, samples.start_ms()));
            }
        }
    }
    all.reverse();
    all.sort_by_key(|(t_ms, value, _)| (*t_ms, !matches!(value, SampleValue::Float(_))));
    all.dedup_by_key(|s| s.0);
    for (t_ms, value, start_ms) in all {
        push(t_ms, value, start_ms, wanted, out);
    }
    Ok(())
}

/// Drops the buckets of histograms of which only count and sum are looked at. What buckets tell of resets goes into the hints
/// before.
pub(super) fn keep_totals(histograms: &mut [Arc<FloatHistogram>]) {
    let mut before: Option<Arc<FloatHistogram>> = None;
    for h in histograms {
        if h.is_stale() {
            continue;
        }
        let hint = match (h.hint, &before) {
            (CounterResetHint::Unknown, Some(before)) => {
                if histogram::is_reset(h, before) {
                    CounterResetHint::Reset
                } else {
                    CounterResetHint::NotReset
                }
            }
            (hint, _) => hint,
        };
        let totals = FloatHistogram {
            hint,
            schema: h.schema,
            count: h.count,
            sum: h.sum,
            custom_values: h.custom_values.clone(),
            ..FloatHistogram::default()
        };
        before = Some(std::mem::replace(h, Arc::new(totals)));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::chunk::encode_run;
    use crate::select::samples;

    fn chunk_of(run: &[(i64, i16)]) -> Chunk {
        let run = run
            .iter()
            .map(|(t, v)| (TimestampMs::new(*t), SampleValue::Float(f64::from(*v))));
        encode_run(run).remove(0)
    }

    proptest! {
        #[test]
        fn columns_hold_what_the_row_form_holds(
            runs in proptest::collection::vec(
                proptest::collection::btree_map(0i64..200, any::<i16>(), 1..20), 1..5),
            min in 0i64..200, length in 1i64..200,
        ) {
            let chunks: Vec<_> = runs
                .into_iter()
                .map(|run| chunk_of(&run.into_iter().collect::<Vec<_>>()))
                .collect();
            let range = TimeRange::inclusive(min, min + length);
            let mut out = Samples::default();
            let wanted = Wanted { range, stale: true, starts: false };
            decode(&chunks, wanted, &mut out).unwrap();
            let rows: Vec<(i64, f64)> = samples(&chunks, range)
                .unwrap()
                .into_iter()
                .map(|(t, v)| match v { SampleValue::Float(v) => (t.get(), v), _ => (t.get(), f64::NAN) })
                .collect();
            let columns: Vec<_> = out.times.iter().copied().zip(out.floats.iter().copied()).collect();
            prop_assert_eq!(columns, rows);
        }
    }
}
