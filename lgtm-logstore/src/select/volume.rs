//! How much there is.

use lgtm_core::model::{Labels, TimeRange, TimestampMs};

use super::volume_spans::{VolumeSpan, densest, few};

/// What a stream has in a range, as far as a holder knows. Plain data, which can be sent.
///
/// In the object store the index tells it: of a chunk that reaches beyond the range the part is counted that it has of the chunk's time,
/// rounded down to whole kibibytes, as by Loki; each chunk once, however many index files name it. In memory bytes are exact, and parts are counted alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamVolume {
    /// Its labels.
    pub labels: Labels,
    /// Chunks that reach into the range.
    pub chunks: u64,
    /// Bytes of lines and structured metadata; in the object store multiples of 1024.
    pub bytes: u64,
    /// Entries.
    pub entries: u64,
    /// What of it lies when, where that was [asked for](crate::select::SelectRequest::may_repeat): apart, ascending, a few dozen at most. Bytes and
    /// entries are the sums.
    pub spans: Vec<VolumeSpan>,
}

impl StreamVolume {
    /// A stream of which nothing is known yet.
    pub(crate) fn of(labels: Labels) -> Self {
        Self {
            labels,
            chunks: 0,
            bytes: 0,
            entries: 0,
            spans: Vec::new(),
        }
    }

    /// Adds a chunk whose entries lie from `chunk.0` to `chunk.1`: as much of it as falls into `range`, whose end is not inside.
    pub(crate) fn add_chunk<T: Into<i128> + Copy>(
        &mut self,
        range: (T, T),
        chunk: (T, T),
        bytes: u64,
        entries: u64,
    ) {
        self.chunks += 1;
        self.bytes += part_in(range, chunk, bytes);
        self.entries += part_in(range, chunk, entries);
    }

    /// Takes its spans, of which there may be none: bytes and entries are what they have together then.
    pub(crate) fn take_spans(&mut self, spans: Vec<VolumeSpan>) {
        if spans.is_empty() {
            return;
        }
        self.bytes = spans.iter().map(|s| s.bytes).sum();
        self.entries = spans.iter().map(|s| s.entries).sum();
        self.spans = few(spans);
    }

    /// Joins what another holder has, some of which may be the same: of times that both have the densest counts, see [`densest`]. Chunks are those that
    /// one of them has at most.
    pub fn join(&mut self, other: Self) {
        self.chunks = self.chunks.max(other.chunks);
        let spans = std::mem::take(&mut self.spans);
        if spans.is_empty() && other.spans.is_empty() {
            self.bytes = self.bytes.max(other.bytes);
            self.entries = self.entries.max(other.entries);
        }
        self.take_spans(densest(spans.into_iter().chain(other.spans)));
    }

    /// Adds what another holder has of the same stream.
    pub fn add(&mut self, other: &Self) {
        self.chunks += other.chunks;
        self.bytes += other.bytes;
        self.entries += other.entries;
    }
}

impl VolumeSpan {
    /// What of a chunk, whose entries lie from `chunk.0` to `chunk.1`, falls into `range`. Ends are whole milliseconds, as the index knows them, in memory
    /// too: the same chunk is the same span wherever it is.
    pub(crate) fn of_chunk(
        range: TimeRange,
        chunk: (TimestampMs, TimestampMs),
        bytes: u64,
        entries: u64,
    ) -> Self {
        let times = (range.min_ms, range.max_ms);
        let max_ms = chunk.1.max(chunk.0.saturating_add(1));
        Self {
            min_ms: chunk.0.max(range.min_ms),
            max_ms: max_ms.min(range.max_ms),
            bytes: part_in(times, chunk, bytes),
            entries: part_in(times, chunk, entries),
        }
    }
}

/// The part of a chunk's `whole` that falls into a range, as if it were spread evenly.
pub(crate) fn part_in<T: Into<i128>>(range: (T, T), chunk: (T, T), whole: u64) -> u64 {
    let [start, end, min, max] = [range.0, range.1, chunk.0, chunk.1].map(Into::<i128>::into);
    let span = max - min;
    if span <= 0 {
        return whole;
    }
    let before = (start - min).max(0);
    let behind = (max - end).max(0);
    let inside = (span - before - behind).max(0);
    u64::try_from(i128::from(whole) * inside / span).unwrap_or(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_counts_as_much_as_it_has_of_the_range() {
        for (min, max, part) in [
            (100, 200, 1000),
            (0, 200, 500),
            (150, 250, 500),
            (50, 250, 500),
            (120, 120, 1000),
            (0, 300, 333),
            (0, 100, 0),
        ] {
            assert_eq!(part_in((100, 200), (min, max), 1000), part, "{min} {max}");
        }
        let all = (i64::MIN, i64::MAX);
        assert_eq!(part_in(all, all, 7), 7);
        let mut volume = StreamVolume::of(Labels::empty());
        volume.add_chunk((100, 200), (0, 200), 1000, 10);
        volume.add_chunk((100, 200), (120, 120), 1000, 10);
        assert_eq!((volume.chunks, volume.bytes, volume.entries), (2, 1500, 15));
    }
}
