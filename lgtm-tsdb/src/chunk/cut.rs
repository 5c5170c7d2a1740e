//! When the head begins a new chunk. The rules are Prometheus': chunks of about 120 samples or a kilobyte, spread evenly over
//! the block range, never crossing it.

use lgtm_core::model::TimestampMs;

/// Samples that a float chunk should have.
const SAMPLES_PER_CHUNK: f64 = 120.0;
/// A float chunk larger than this takes no more: 1 KiB less one sample of the largest size.
const MAX_FLOAT_BYTES: usize = 1024 - 19;
/// Bytes that a histogram chunk should have.
const HISTOGRAM_BYTES: usize = 1024;
/// Samples that a histogram chunk has at least, but at the end of the block range.
const MIN_HISTOGRAM_SAMPLES: u16 = 10;

/// End of the aligned range in which `t_ms` lies; division rounds towards zero, as in Prometheus.
pub(crate) fn range_end(t_ms: TimestampMs, range_ms: i64) -> TimestampMs {
    let begin = (t_ms.get() / range_ms).saturating_mul(range_ms);
    TimestampMs::new(begin).saturating_add(range_ms)
}

/// Where a chunk should end so that chunks of its density fill `[start, max)` evenly: it has a `1/ratio` of its samples now.
fn even_end(start: TimestampMs, now: TimestampMs, max: TimestampMs, ratio: f64) -> TimestampMs {
    let left = max.since(start) as f64;
    let n = left / ((now.since(start) as f64 + 1.0) * ratio);
    if n <= 1.0 {
        max
    } else {
        TimestampMs::new((start.get() as f64 + left / n.floor()) as i64)
    }
}

/// When to cut a chunk of floats.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FloatCut {
    next_at_ms: TimestampMs,
}

impl FloatCut {
    /// For a chunk whose first sample is at `t_ms`.
    pub(crate) fn new(t_ms: TimestampMs, range_ms: i64) -> Self {
        Self {
            next_at_ms: range_end(t_ms, range_ms),
        }
    }

    /// Whether the sample at `t_ms` begins a new chunk.
    #[inline]
    pub(crate) fn cut_before(
        &mut self,
        t_ms: TimestampMs,
        samples: u16,
        size: usize,
        first_ms: TimestampMs,
        last_ms: TimestampMs,
    ) -> bool {
        if size > MAX_FLOAT_BYTES {
            return true;
        }
        if f64::from(samples) == SAMPLES_PER_CHUNK / 4.0 {
            self.next_at_ms = even_end(first_ms, last_ms, self.next_at_ms, 4.0);
        }
        t_ms >= self.next_at_ms || f64::from(samples) >= 2.0 * SAMPLES_PER_CHUNK
    }
}

/// When to cut a chunk of histograms.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HistogramCut {
    next_at_ms: TimestampMs,
    range_end_ms: TimestampMs,
    /// The quarter of the size has been passed.
    judged: bool,
}

impl HistogramCut {
    /// For a chunk whose first sample is at `t_ms`.
    pub(crate) fn new(t_ms: TimestampMs, range_ms: i64) -> Self {
        let end = range_end(t_ms, range_ms);
        Self {
            next_at_ms: end,
            range_end_ms: end,
            judged: false,
        }
    }

    /// Whether the sample at `t_ms` begins a new chunk.
    pub(crate) fn cut_before(
        &mut self,
        t_ms: TimestampMs,
        samples: u16,
        size: usize,
        first_ms: TimestampMs,
        last_ms: TimestampMs,
    ) -> bool {
        if !self.judged && size >= HISTOGRAM_BYTES / 4 {
            self.judged = true;
            self.next_at_ms = even_end(
                first_ms,
                last_ms,
                self.next_at_ms,
                HISTOGRAM_BYTES as f64 / size as f64,
            );
        }
        (t_ms >= self.next_at_ms || size >= 2 * HISTOGRAM_BYTES)
            && (samples >= MIN_HISTOGRAM_SAMPLES || t_ms >= self.range_end_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_fill_the_range_evenly() {
        // 15 s apart: 480 samples in two hours make four chunks of 120.
        let range = 7_200_000;
        let (mut first, mut last) = (TimestampMs::EPOCH, TimestampMs::EPOCH);
        let (mut cut, mut n, mut sizes) = (FloatCut::new(first, range), 0u16, Vec::new());
        for t in (0..range).step_by(15_000).map(TimestampMs::new) {
            if n > 0 && cut.cut_before(t, n, 100, first, last) {
                sizes.push(n);
                (cut, first, n) = (FloatCut::new(t, range), t, 0);
            }
            (last, n) = (t, n + 1);
        }
        sizes.push(n);
        assert_eq!(sizes, [120, 120, 120, 120]);
    }

    #[test]
    fn no_chunk_crosses_the_range() {
        let [first, before, end] = [7_199_000, 7_199_999, 7_200_000].map(TimestampMs::new);
        assert_eq!(range_end(before, 7_200_000), end);
        assert_eq!(range_end(end, 7_200_000), 14_400_000);
        let mut cut = FloatCut::new(first, 7_200_000);
        assert!(!cut.cut_before(before, 1, 20, first, first));
        assert!(cut.cut_before(end, 1, 20, first, first));
    }
}
