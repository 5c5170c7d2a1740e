//! How much there is.

use lgtm_core::model::Labels;

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
}

impl StreamVolume {
    /// A stream of which nothing is known yet.
    pub(crate) fn of(labels: Labels) -> Self {
        Self {
            labels,
            chunks: 0,
            bytes: 0,
            entries: 0,
        }
    }

    /// Adds a chunk whose entries lie from `chunk.0` to `chunk.1`: as much of it as falls into `range`, whose end is not inside.
    pub(crate) fn add_chunk(
        &mut self,
        range: (i64, i64),
        chunk: (i64, i64),
        bytes: u64,
        entries: u64,
    ) {
        self.chunks += 1;
        self.bytes += part_in(range, chunk, bytes);
        self.entries += part_in(range, chunk, entries);
    }

    /// Adds what another holder has of the same stream.
    pub fn add(&mut self, other: &Self) {
        self.chunks += other.chunks;
        self.bytes += other.bytes;
        self.entries += other.entries;
    }
}

/// The part of a chunk's `whole` that falls into a range, as if it were spread evenly.
pub(crate) fn part_in(range: (i64, i64), chunk: (i64, i64), whole: u64) -> u64 {
    let span = i128::from(chunk.1) - i128::from(chunk.0);
    if span <= 0 {
        return whole;
    }
    let before = (i128::from(range.0) - i128::from(chunk.0)).max(0);
    let behind = (i128::from(chunk.1) - i128::from(range.1)).max(0);
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
