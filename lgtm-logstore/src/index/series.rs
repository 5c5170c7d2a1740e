//! One entry of the series section: fingerprint, labels as symbol ordinals, chunks (docs/format/index.md).

use lgtm_core::DecodeError;
use lgtm_core::codec::{Reader, crc32c, put_uvarint};
use lgtm_core::model::{Labels, TimeRange};

use crate::index::chunk_meta::{ChunkMeta, decode_chunks, encode_chunks};
use crate::index::fingerprint_range::FingerprintRange;
use crate::index::version::IndexVersion;

const WHAT: &str = "index series";

/// What is wanted of the series that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeriesFilter {
    /// Chunks that may hold entries of these times, and series that have such chunks; `None`: all, series without chunks too.
    pub time: Option<TimeRange>,
    /// Series with these fingerprints.
    pub fingerprints: FingerprintRange,
}

impl SeriesFilter {
    /// Everything.
    pub const ALL: Self = Self {
        time: None,
        fingerprints: FingerprintRange::ALL,
    };
}

/// A series with its labels as symbol ordinals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeriesEntry<'a> {
    /// The series reference by which postings name it.
    pub reference: u32,
    /// The fingerprint of the stream.
    pub fingerprint: u64,
    /// Name and value symbols, in name order.
    pub labels: &'a [(u32, u32)],
    /// The chunks in order of time.
    pub chunks: &'a [ChunkMeta],
}

/// Series entries of one read: the labels of all in one array and their chunks in another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SeriesEntries {
    rows: Vec<Row>,
    labels: Vec<(u32, u32)>,
    chunks: Vec<ChunkMeta>,
}

/// A series, and where its labels and chunks end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Row {
    reference: u32,
    fingerprint: u64,
    labels_end: usize,
    chunks_end: usize,
}

impl SeriesEntries {
    /// None, with room for `series` of the usual size.
    pub(super) fn with_capacity(series: usize) -> Self {
        Self {
            rows: Vec::with_capacity(series),
            labels: Vec::with_capacity(8 * series),
            chunks: Vec::with_capacity(4 * series),
        }
    }

    /// Number of series.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The series in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = SeriesEntry<'_>> {
        let (mut labels_start, mut chunks_start) = (0, 0);
        self.rows.iter().map(move |row| {
            let entry = SeriesEntry {
                reference: row.reference,
                fingerprint: row.fingerprint,
                labels: &self.labels[labels_start..row.labels_end],
                chunks: &self.chunks[chunks_start..row.chunks_end],
            };
            (labels_start, chunks_start) = (row.labels_end, row.chunks_end);
            entry
        })
    }

    /// Name and value symbols of all series.
    pub(super) fn all_labels(&self) -> &[(u32, u32)] {
        &self.labels
    }
}

/// A series with its labels in full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeriesMeta {
    /// The series reference by which postings name it.
    pub reference: u32,
    /// The fingerprint of the stream.
    pub fingerprint: u64,
    /// The labels; in a file of several tenants [`TENANT_LABEL`](crate::index::TENANT_LABEL) is one of them.
    pub labels: Labels,
    /// The chunks in order of time.
    pub chunks: Vec<ChunkMeta>,
}

/// Appends the body of an entry (no length, no checksum). The caller has checked the order.
pub(super) fn encode_body(
    version: IndexVersion,
    fingerprint: u64,
    labels: &[(u32, u32)],
    chunks: &[ChunkMeta],
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(&fingerprint.to_be_bytes());
    put_uvarint(out, labels.len() as u64);
    for &(name, value) in labels {
        put_uvarint(out, u64::from(name));
        put_uvarint(out, u64::from(value));
    }
    encode_chunks(version, chunks, out);
}

/// Bytes that the entry at the start of `bytes` takes, checksum included; `None` when its length is cut off.
pub(super) fn entry_len(bytes: &[u8]) -> Option<u64> {
    let mut r = Reader::new(WHAT, bytes);
    let len = r.uvarint().ok()?;
    (r.position() as u64 + 4).checked_add(len)
}

/// Reads the entry at the start of `bytes`, which may go on behind it, and puts it behind `out` if the filter wants it. After an error `out`
/// is of no use.
pub(super) fn decode_entry(
    version: IndexVersion,
    bytes: &[u8],
    reference: u32,
    filter: &SeriesFilter,
    out: &mut SeriesEntries,
) -> Result<(), DecodeError> {
    let mut outer = Reader::new(WHAT, bytes);
    let body = outer.bytes()?;
    let at = outer.position() - body.len();
    let stored = outer.u32()?;
    let crc = crc32c(body);
    if stored != crc {
        let reason = format!("checksum {stored:08x} instead of {crc:08x}");
        return Err(DecodeError::new(WHAT, at as u64, reason));
    }
    let mut r = Reader::new(WHAT, body);
    let fingerprint = r.u64()?;
    if !filter.fingerprints.contains(fingerprint) {
        return Ok(());
    }
    let (labels_start, chunks_start) = (out.labels.len(), out.chunks.len());
    decode_labels(&mut r, &mut out.labels)?;
    decode_chunks(version, &mut r, filter.time.as_ref(), &mut out.chunks)?;
    if filter.time.is_some() && out.chunks.len() == chunks_start {
        out.labels.truncate(labels_start);
        return Ok(());
    }
    out.rows.push(Row {
        reference,
        fingerprint,
        labels_end: out.labels.len(),
        chunks_end: out.chunks.len(),
    });
    Ok(())
}

fn decode_labels(r: &mut Reader<'_>, out: &mut Vec<(u32, u32)>) -> Result<(), DecodeError> {
    let count = r.uvarint()?;
    let count = match usize::try_from(count) {
        Ok(n) if n <= r.remaining() / 2 => n,
        _ => return Err(r.error(format!("{count} labels in {} bytes", r.remaining()))),
    };
    out.reserve(count);
    let mut last = None;
    for _ in 0..count {
        let (name, value) = (symbol(r)?, symbol(r)?);
        if last.is_some_and(|last| last >= name) {
            return Err(r.error(format!("label name symbol {name} is out of order")));
        }
        last = Some(name);
        out.push((name, value));
    }
    Ok(())
}

fn symbol(r: &mut Reader<'_>) -> Result<u32, DecodeError> {
    let symbol = r.uvarint()?;
    u32::try_from(symbol).map_err(|_| r.error(format!("symbol {symbol} exceeds 32 bits")))
}

#[cfg(test)]
mod tests {
    use lgtm_core::model::TimestampMs;
    use proptest::prelude::*;

    use super::*;

    fn decode(bytes: &[u8], filter: &SeriesFilter) -> Result<SeriesEntries, DecodeError> {
        let mut out = SeriesEntries::default();
        decode_entry(IndexVersion::V3, bytes, 7, filter, &mut out).map(|()| out)
    }

    proptest! {
        #[test]
        fn entries_come_back_and_damage_is_an_error(
            labels in proptest::collection::btree_map(any::<u32>(), any::<u32>(), 0..8),
            times in proptest::collection::btree_set(any::<i64>(), 0..8),
            fingerprint: u64,
        ) {
            let labels: Vec<_> = labels.into_iter().collect();
            let times: Vec<_> = times.into_iter().collect();
            let chunks = times.chunks_exact(2).map(|t| ChunkMeta {
                min_ms: TimestampMs::new(t[0]), max_ms: TimestampMs::new(t[1]), kb: 1, entries: 2, checksum: 3, ingested_day: None,
            });
            let chunks: Vec<_> = chunks.collect();
            let mut body = Vec::new();
            encode_body(IndexVersion::V3, fingerprint, &labels, &chunks, &mut body);
            let mut bytes = Vec::new();
            put_uvarint(&mut bytes, body.len() as u64);
            bytes.extend(&body);
            bytes.extend(crc32c(&body).to_be_bytes());
            prop_assert_eq!(entry_len(&bytes), Some(bytes.len() as u64));
            let read = decode(&bytes, &SeriesFilter::ALL).unwrap();
            let wanted = SeriesEntry { reference: 7, fingerprint, labels: &labels, chunks: &chunks };
            prop_assert_eq!(read.iter().collect::<Vec<_>>(), [wanted]);
            let other = fingerprint ^ 1;
            let others = FingerprintRange { first: other, last: other };
            let filter = SeriesFilter { fingerprints: others, ..SeriesFilter::ALL };
            prop_assert!(decode(&bytes, &filter).unwrap().is_empty());
            for cut in 0..bytes.len() {
                prop_assert!(decode(&bytes[..cut], &SeriesFilter::ALL).is_err());
            }
            // The length in front is not under the checksum, but a changed one moves the checksum's place.
            for bit in 0..bytes.len() * 8 {
                bytes[bit / 8] ^= 1 << (bit % 8);
                prop_assert!(decode(&bytes, &SeriesFilter::ALL).is_err(), "bit {}", bit);
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
        }

        #[test]
        fn arbitrary_bodies_never_panic(body: Vec<u8>) {
            let mut bytes = Vec::new();
            put_uvarint(&mut bytes, body.len() as u64);
            bytes.extend(&body);
            bytes.extend(crc32c(&body).to_be_bytes());
            let _ = decode(&bytes, &SeriesFilter::ALL);
            let _ = decode(&body, &SeriesFilter::ALL);
        }
    }
}
