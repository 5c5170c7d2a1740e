//! The `tombstones` file: what was deleted from a block after it was written (docs/format/block.md).

use std::collections::BTreeMap;

use lgtm_core::DecodeError;
use lgtm_core::codec::{Reader, crc32c, put_svarint, put_uvarint};
use lgtm_core::model::{TimeRange, TimestampMs};

use crate::chunk::encode_started_run;
use crate::select::{ChunkList, started_samples};

const MAGIC: u32 = 0x0130_BA30;
const VERSION: u8 = 1;
const WHAT: &str = "tombstones";
const HEADER_LEN: usize = 5;

/// A deleted span of time, both ends inclusive, as the format has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeletedInterval {
    /// First deleted millisecond.
    pub min_ms: TimestampMs,
    /// Last deleted millisecond.
    pub max_ms: TimestampMs,
}

impl DeletedInterval {
    /// Whether a sample at `time_ms` is deleted by this.
    pub fn contains(&self, time_ms: TimestampMs) -> bool {
        (self.min_ms..=self.max_ms).contains(&time_ms)
    }

    /// Whether the two overlap or leave no millisecond between them.
    fn touches(&self, other: &Self) -> bool {
        self.min_ms <= other.max_ms.saturating_add(1)
            && other.min_ms <= self.max_ms.saturating_add(1)
    }
}

/// Deleted intervals by series reference; those of a series ascend and leave gaps between them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tombstones(BTreeMap<u32, Vec<DeletedInterval>>);

impl Tombstones {
    /// Deletes `interval` of `series`, joining it with what it overlaps or touches. An interval that ends before it begins is
    /// nothing.
    pub fn insert(&mut self, series: u32, mut interval: DeletedInterval) {
        if interval.min_ms > interval.max_ms {
            return;
        }
        let list = self.0.entry(series).or_default();
        let start = list.partition_point(|i| i.max_ms < interval.min_ms && !i.touches(&interval));
        let len = list[start..].partition_point(|i| i.touches(&interval));
        if len > 0 {
            interval.min_ms = interval.min_ms.min(list[start].min_ms);
            interval.max_ms = interval.max_ms.max(list[start + len - 1].max_ms);
        }
        list.splice(start..start + len, [interval]);
    }

    /// What is deleted of `series`.
    pub fn get(&self, series: u32) -> &[DeletedInterval] {
        self.0.get(&series).map_or(&[], Vec::as_slice)
    }

    /// The chunks of a series without what is deleted of it; one that keeps only some of its samples is encoded anew.
    ///
    /// # Errors
    /// A chunk that does not follow its format, of those that are looked into.
    pub fn apply(&self, series: u32, chunks: ChunkList) -> Result<ChunkList, DecodeError> {
        let deleted = self.get(series);
        if deleted.is_empty() {
            return Ok(chunks);
        }
        let mut kept = ChunkList::new();
        for chunk in chunks {
            let is_touched =
                |d: &DeletedInterval| d.min_ms <= chunk.max_ms && d.max_ms >= chunk.min_ms;
            if !deleted.iter().any(is_touched) {
                kept.push(chunk);
                continue;
            }
            let mut samples = started_samples(std::slice::from_ref(&chunk), TimeRange::ALL)?;
            samples.retain(|(at, _)| !deleted.iter().any(|d| d.contains(at.t_ms)));
            kept.extend(encode_started_run(samples));
        }
        Ok(kept)
    }

    /// All of it, by series.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &[DeletedInterval])> {
        self.0
            .iter()
            .map(|(&series, list)| (series, list.as_slice()))
    }

    /// Number of intervals: `stats.numTombstones` of `meta.json`.
    pub fn interval_count(&self) -> u64 {
        self.0.values().map(|list| list.len() as u64).sum()
    }

    /// Whether nothing is deleted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The file, series ascending.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_be_bytes().to_vec();
        out.push(VERSION);
        for (&series, list) in &self.0 {
            for interval in list {
                put_uvarint(&mut out, u64::from(series));
                put_svarint(&mut out, interval.min_ms.get());
                put_svarint(&mut out, interval.max_ms.get());
            }
        }
        let crc = crc32c(&out[HEADER_LEN..]);
        out.extend_from_slice(&crc.to_be_bytes());
        out
    }

    /// Reads a file. Intervals are merged on the way, so that any order is accepted.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(WHAT, bytes);
        let (magic, version) = (r.u32()?, r.u8()?);
        if magic != MAGIC || version != VERSION {
            let reason = format!("magic {magic:08x} version {version}");
            return Err(DecodeError::new(WHAT, 0, reason));
        }
        let Some(end) = bytes.len().checked_sub(4).filter(|&e| e >= HEADER_LEN) else {
            return Err(r.error("checksum is cut off"));
        };
        let crc = crc32c(&bytes[HEADER_LEN..end]);
        let stored = Reader::new(WHAT, &bytes[end..]).u32()?;
        if stored != crc {
            let reason = format!("checksum {stored:08x} instead of {crc:08x}");
            return Err(DecodeError::new(WHAT, end as u64, reason));
        }
        let mut r = Reader::new(WHAT, &bytes[..end]);
        r.take(HEADER_LEN)?;
        let mut out = Self::default();
        while !r.is_empty() {
            let series = r.uvarint()?;
            let series = u32::try_from(series)
                .map_err(|_| r.error(format!("series reference {series} exceeds 32 bits")))?;
            let (min_ms, max_ms) = (r.svarint()?, r.svarint()?);
            if min_ms > max_ms {
                return Err(r.error(format!("interval from {min_ms} to {max_ms}")));
            }
            out.insert(
                series,
                DeletedInterval {
                    min_ms: TimestampMs::new(min_ms),
                    max_ms: TimestampMs::new(max_ms),
                },
            );
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn an_empty_file_has_nine_bytes() {
        assert_eq!(Tombstones::default().encode().len(), 9);
    }

    #[test]
    fn the_ends_of_time_do_not_overflow() {
        let mut t = Tombstones::default();
        for (min_ms, max_ms) in [(i64::MAX, i64::MAX), (i64::MIN, 0), (1, i64::MAX - 1)] {
            t.insert(
                1,
                DeletedInterval {
                    min_ms: min_ms.into(),
                    max_ms: max_ms.into(),
                },
            );
        }
        let whole = DeletedInterval {
            min_ms: TimestampMs::MIN,
            max_ms: TimestampMs::MAX,
        };
        assert_eq!(t.get(1), [whole]);
    }

    proptest! {
        #[test]
        fn merging_keeps_exactly_the_deleted_times(
            intervals in proptest::collection::vec((0i64..60, 0i64..8), 0..20),
        ) {
            let mut t = Tombstones::default();
            let mut model = BTreeSet::new();
            for (min_ms, span) in intervals {
                let max_ms = min_ms + span - 1;
                t.insert(3, DeletedInterval { min_ms: min_ms.into(), max_ms: max_ms.into() });
                model.extend(min_ms..=max_ms);
            }
            let times: BTreeSet<_> =
                (0..100).filter(|&ms| t.get(3).iter().any(|i| i.contains(TimestampMs::new(ms)))).collect();
            prop_assert_eq!(times, model);
            prop_assert!(t.get(3).windows(2).all(|w| w[0].max_ms + 1 < w[1].min_ms));
            let mut bytes = t.encode();
            prop_assert_eq!(Tombstones::decode(&bytes).unwrap(), t);
            for cut in 0..bytes.len() {
                prop_assert!(Tombstones::decode(&bytes[..cut]).is_err());
            }
            for bit in 0..bytes.len() * 8 {
                bytes[bit / 8] ^= 1 << (bit % 8);
                prop_assert!(Tombstones::decode(&bytes).is_err());
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(body: Vec<u8>) {
            let _ = Tombstones::decode(&body);
            let mut bytes = MAGIC.to_be_bytes().to_vec();
            bytes.push(VERSION);
            bytes.extend(&body);
            bytes.extend(crc32c(&body).to_be_bytes());
            let _ = Tombstones::decode(&bytes);
        }
    }
}
