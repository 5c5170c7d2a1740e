//! One entry of the series section: labels as symbol ordinals, and where the chunks stand (docs/format/index.md).

use lgtm_core::DecodeError;
use lgtm_core::codec::{Reader, crc32c, put_svarint, put_uvarint};
use lgtm_core::model::{Labels, TimestampMs};

/// Where a chunk stands and which times it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkRefMeta {
    /// Time of the first sample, milliseconds.
    pub min_ms: TimestampMs,
    /// Time of the last sample, milliseconds; inclusive, as the format has it.
    pub max_ms: TimestampMs,
    /// Segment index in the upper 32 bits, byte offset in the lower.
    pub reference: u64,
}

/// A series with its labels as symbol ordinals, of a version 1 index too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeriesEntry<'a> {
    /// The series reference by which postings name it.
    pub reference: u32,
    /// Name and value symbols, in name order.
    pub labels: &'a [(u32, u32)],
    /// The chunks in time order.
    pub chunks: &'a [ChunkRefMeta],
}

/// Series entries of one read: the labels of all in one array and their chunks in another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SeriesEntries {
    rows: Vec<Row>,
    labels: Vec<(u32, u32)>,
    chunks: Vec<ChunkRefMeta>,
}

/// A series, and where its labels and chunks end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Row {
    reference: u32,
    labels_end: usize,
    chunks_end: usize,
}

impl SeriesEntries {
    /// None, with room for `series` of the usual size.
    pub(super) fn with_capacity(series: usize) -> Self {
        Self {
            rows: Vec::with_capacity(series),
            labels: Vec::with_capacity(8 * series),
            chunks: Vec::with_capacity(2 * series),
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

    /// Bytes of memory.
    pub fn memory_bytes(&self) -> usize {
        self.rows.len() * size_of::<Row>()
            + size_of_val(self.labels.as_slice())
            + size_of_val(self.chunks.as_slice())
    }

    /// The series in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = SeriesEntry<'_>> {
        let (mut labels_start, mut chunks_start) = (0, 0);
        self.rows.iter().map(move |row| {
            let entry = SeriesEntry {
                reference: row.reference,
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

    /// Replaces every symbol by what `map` says; the first for which that is nothing, and its series, come back.
    pub(super) fn map_symbols(
        &mut self,
        map: impl Fn(u32) -> Option<u32>,
    ) -> Result<(), (u32, u32)> {
        for (i, (name, value)) in self.labels.iter_mut().enumerate() {
            for symbol in [name, value] {
                let Some(mapped) = map(*symbol) else {
                    let row = self.rows.partition_point(|row| row.labels_end <= i);
                    return Err((*symbol, self.rows[row].reference));
                };
                *symbol = mapped;
            }
        }
        Ok(())
    }
}

/// A series with its labels in full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeriesMeta {
    /// The series reference by which postings name it.
    pub reference: u32,
    /// The labels.
    pub labels: Labels,
    /// The chunks in time order.
    pub chunks: Vec<ChunkRefMeta>,
}

/// Appends the body of an entry (no length, no checksum). The caller has checked the order.
pub(super) fn encode_body(out: &mut Vec<u8>, labels: &[(u32, u32)], chunks: &[ChunkRefMeta]) {
    put_uvarint(out, labels.len() as u64);
    for &(name, value) in labels {
        put_uvarint(out, u64::from(name));
        put_uvarint(out, u64::from(value));
    }
    put_uvarint(out, chunks.len() as u64);
    let mut last: Option<&ChunkRefMeta> = None;
    for chunk in chunks {
        // The differences wrap on purpose: as 64 bits they are right for any two times.
        match last {
            None => {
                put_svarint(out, chunk.min_ms.get());
                put_uvarint(out, chunk.max_ms.wrapping_since(chunk.min_ms) as u64);
                put_uvarint(out, chunk.reference);
            }
            Some(last) => {
                put_uvarint(out, chunk.min_ms.wrapping_since(last.max_ms) as u64);
                put_uvarint(out, chunk.max_ms.wrapping_since(chunk.min_ms) as u64);
                put_svarint(out, chunk.reference.wrapping_sub(last.reference) as i64);
            }
        }
        last = Some(chunk);
    }
}

/// Bytes that the entry at the start of `bytes` takes, checksum included; `None` when its length is cut off.
pub(super) fn entry_len(bytes: &[u8]) -> Option<u64> {
    let mut r = Reader::new("index series", bytes);
    let len = r.uvarint().ok()?;
    (r.position() as u64 + 4).checked_add(len)
}

/// Reads the entry at the start of `bytes`, which may go on behind it.
/// Reads the entry at the start of `bytes` and puts it behind `out`; after an error `out` is of no use.
pub(super) fn decode_entry(
    bytes: &[u8],
    reference: u32,
    out: &mut SeriesEntries,
) -> Result<(), DecodeError> {
    const WHAT: &str = "index series";
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
    decode_labels(&mut r, &mut out.labels)?;
    decode_chunks(&mut r, &mut out.chunks)?;
    if !r.is_empty() {
        return Err(r.error("bytes after the last chunk"));
    }
    out.rows.push(Row {
        reference,
        labels_end: out.labels.len(),
        chunks_end: out.chunks.len(),
    });
    Ok(())
}

fn decode_labels(r: &mut Reader<'_>, out: &mut Vec<(u32, u32)>) -> Result<(), DecodeError> {
    let count = count(r, 2)?;
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

fn decode_chunks(r: &mut Reader<'_>, out: &mut Vec<ChunkRefMeta>) -> Result<(), DecodeError> {
    let count = count(r, 3)?;
    out.reserve(count);
    let mut last: Option<ChunkRefMeta> = None;
    for _ in 0..count {
        let (min_ms, span, reference): (TimestampMs, _, _) = match last {
            None => (r.svarint()?.into(), r.uvarint()?, r.uvarint()?),
            Some(last) => {
                let min_ms = last.max_ms.wrapping_add(r.uvarint()? as i64);
                if min_ms <= last.max_ms {
                    let reason = format!("chunk at {min_ms} follows one up to {}", last.max_ms);
                    return Err(r.error(reason));
                }
                let span = r.uvarint()?;
                let reference = last.reference.wrapping_add(r.svarint()? as u64);
                (min_ms, span, reference)
            }
        };
        let max_ms = min_ms.wrapping_add(span as i64);
        if max_ms < min_ms {
            return Err(r.error(format!("chunk from {min_ms} to {max_ms}")));
        }
        let chunk = ChunkRefMeta {
            min_ms,
            max_ms,
            reference,
        };
        last = Some(chunk);
        out.push(chunk);
    }
    Ok(())
}

fn count(r: &mut Reader<'_>, item_len: usize) -> Result<usize, DecodeError> {
    let n = r.uvarint()?;
    match usize::try_from(n) {
        Ok(n) if n <= r.remaining() / item_len => Ok(n),
        _ => Err(r.error(format!("{n} items in {} bytes", r.remaining()))),
    }
}

fn symbol(r: &mut Reader<'_>) -> Result<u32, DecodeError> {
    let symbol = r.uvarint()?;
    u32::try_from(symbol).map_err(|_| r.error(format!("symbol {symbol} exceeds 32 bits")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use lgtm_core::codec::crc32c;
    use proptest::prelude::*;

    fn entry(labels: &[(u32, u32)], chunks: &[ChunkRefMeta]) -> Vec<u8> {
        let mut body = Vec::new();
        encode_body(&mut body, labels, chunks);
        let mut out = Vec::new();
        put_uvarint(&mut out, body.len() as u64);
        let crc = crc32c(&body);
        out.extend(body);
        out.extend(crc.to_be_bytes());
        out
    }

    proptest! {
        #[test]
        fn entries_come_back(
            labels in proptest::collection::btree_map(any::<u32>(), any::<u32>(), 0..20),
            times in proptest::collection::btree_set(any::<i64>(), 0..20),
            refs: Vec<u64>,
        ) {
            let labels: Vec<_> = labels.into_iter().collect();
            let times: Vec<_> = times.into_iter().collect();
            let chunks: Vec<_> = times
                .chunks_exact(2)
                .zip(refs)
                .map(|(t, reference)| ChunkRefMeta { min_ms: TimestampMs::new(t[0]), max_ms: TimestampMs::new(t[1]), reference })
                .collect();
            let mut bytes = entry(&labels, &chunks);
            prop_assert_eq!(entry_len(&bytes), Some(bytes.len() as u64));
            let decode = |bytes: &[u8]| {
                let mut out = SeriesEntries::default();
                decode_entry(bytes, 7, &mut out).map(|()| out)
            };
            let read = decode(&bytes).unwrap();
            let wanted = SeriesEntry { reference: 7, labels: &labels, chunks: &chunks };
            prop_assert_eq!(read.iter().collect::<Vec<_>>(), [wanted]);
            for cut in 0..bytes.len() {
                prop_assert!(decode(&bytes[..cut]).is_err());
            }
            // The length in front is not under the checksum, but a changed one moves the checksum's place.
            for bit in 0..bytes.len() * 8 {
                bytes[bit / 8] ^= 1 << (bit % 8);
                prop_assert!(decode(&bytes).is_err(), "bit {}", bit);
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
        }

        #[test]
        fn arbitrary_bodies_never_panic(body: Vec<u8>) {
            let mut bytes = Vec::new();
            put_uvarint(&mut bytes, body.len() as u64);
            bytes.extend(&body);
            bytes.extend(crc32c(&body).to_be_bytes());
            let mut out = SeriesEntries::default();
            let _ = decode_entry(&bytes, 0, &mut out);
            let _ = decode_entry(&body, 0, &mut out);
        }
    }
}
