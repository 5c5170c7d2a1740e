//! What an index knows of the chunks of a series (docs/format/index.md).

use lgtm_core::DecodeError;
use lgtm_core::codec::{Reader, put_svarint, put_uvarint};
use lgtm_core::model::{TimeRange, TimestampMs};

use crate::index::version::IndexVersion;
use crate::schema::DAY_MS;

/// Chunks of a page: what Loki writes. Readers take any number.
const PAGE_LEN: usize = 16;
/// From so many chunks on a reader looks at the pages: below, decoding all costs less.
const FEW_CHUNKS: usize = 64;
/// Fewest bytes of a chunk.
const MIN_LEN: usize = 8;
/// Fewest bytes of a page in the markers.
const MIN_MARKER_LEN: usize = 12;

/// One chunk of a series. With tenant and fingerprint this is its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkMeta {
    /// Time of the first entry, milliseconds, rounded down.
    pub min_ms: TimestampMs,
    /// Time of the last entry, milliseconds, rounded up; inclusive, as the format has it.
    pub max_ms: TimestampMs,
    /// Uncompressed size in units of 1024 bytes, rounded.
    pub kb: u32,
    /// Number of entries.
    pub entries: u32,
    /// CRC-32C of the object.
    pub checksum: u32,
    /// From version 4 on, of back-filled chunks: the day, counted from 1970, by whose beginning they had been ingested.
    pub ingested_day: Option<i64>,
}

impl ChunkMeta {
    /// A chunk's uncompressed size as the index tells it.
    pub fn kb_of(uncompressed_bytes: u64) -> u32 {
        u32::try_from((uncompressed_bytes + 512) >> 10).unwrap_or(u32::MAX)
    }

    /// The day by whose beginning what was ingested at `t_ms` had been.
    pub fn ingested_day_of(t_ms: TimestampMs) -> i64 {
        t_ms.get().div_euclid(DAY_MS) + i64::from(t_ms.get().rem_euclid(DAY_MS) > 0)
    }

    /// Whether it may hold entries of `range`, by the rule of all Loki readers: its last millisecond counts, that of the range does not.
    pub fn overlaps(&self, range: &TimeRange) -> bool {
        range.min_ms <= self.max_ms && self.min_ms < range.max_ms
    }

    fn key(&self) -> (TimestampMs, TimestampMs, u32) {
        (self.min_ms, self.max_ms, self.checksum)
    }
}

/// Puts chunks in the order of an index and drops repeats.
pub fn sort_chunks(chunks: &mut Vec<ChunkMeta>) {
    chunks.sort_by_key(ChunkMeta::key);
    chunks.dedup_by_key(|chunk| chunk.key());
}

/// Whether chunks may be written: in order, without repeats, none that ends before it begins.
pub(super) fn are_in_order(chunks: &[ChunkMeta]) -> bool {
    chunks.is_sorted_by(|a, b| a.key() < b.key()) && chunks.iter().all(|c| c.min_ms <= c.max_ms)
}

/// Appends the chunk part of a series.
pub(super) fn encode_chunks(version: IndexVersion, chunks: &[ChunkMeta], out: &mut Vec<u8>) {
    put_uvarint(out, chunks.len() as u64);
    if !version.has_pages() {
        put_metas(version, chunks, &mut Vec::new(), out);
        return;
    }
    let mut pages = Vec::with_capacity(chunks.len().div_ceil(PAGE_LEN));
    let mut metas = Vec::with_capacity(16 * chunks.len());
    put_metas(version, chunks, &mut pages, &mut metas);
    let mut markers = Vec::with_capacity(24 * pages.len() + 1);
    put_uvarint(&mut markers, pages.len() as u64);
    for (page, start) in chunks.chunks(PAGE_LEN).zip(pages) {
        let sum = |of: fn(&ChunkMeta) -> u32| page.iter().map(of).fold(0, u32::wrapping_add);
        put_uvarint(&mut markers, page.len() as u64);
        markers.extend_from_slice(&sum(|c| c.kb).to_be_bytes());
        markers.extend_from_slice(&sum(|c| c.entries).to_be_bytes());
        put_uvarint(&mut markers, start);
        let max_ms = page.iter().map(|c| c.max_ms).max().unwrap_or_default();
        put_svarint(&mut markers, page[0].min_ms.get());
        put_svarint(&mut markers, max_ms.wrapping_since(page[0].min_ms));
    }
    // Without pages the length stays 0, though a count follows.
    let len = if chunks.is_empty() {
        0
    } else {
        markers.len() as u32
    };
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(&markers);
    out.extend_from_slice(&metas);
}

/// Appends the chunks and notes where each page begins, from the first chunk's first byte.
fn put_metas(version: IndexVersion, chunks: &[ChunkMeta], pages: &mut Vec<u64>, out: &mut Vec<u8>) {
    let start = out.len();
    let mut last_max = TimestampMs::EPOCH;
    for (n, chunk) in chunks.iter().enumerate() {
        if n % PAGE_LEN == 0 {
            pages.push((out.len() - start) as u64);
        }
        // The differences wrap on purpose: as 64 bits they are right for any two times.
        put_svarint(out, chunk.min_ms.wrapping_since(last_max));
        put_uvarint(out, chunk.max_ms.wrapping_since(chunk.min_ms) as u64);
        put_uvarint(out, u64::from(chunk.kb));
        put_uvarint(out, u64::from(chunk.entries));
        out.extend_from_slice(&chunk.checksum.to_be_bytes());
        if version >= IndexVersion::V4 {
            let days = |day: i64| day - chunk.max_ms.get().div_euclid(DAY_MS);
            let zigzag = |n: i64| ((n << 1) ^ (n >> 63)) as u64;
            let ingestion = chunk.ingested_day.map_or(0, |day| 1 + zigzag(days(day)));
            put_uvarint(out, ingestion);
        }
        last_max = chunk.max_ms;
    }
}

/// Reads the chunk part, which is all that is left of `r`, and puts those that may hold entries of `wanted` behind `out`.
pub(super) fn decode_chunks(
    version: IndexVersion,
    r: &mut Reader<'_>,
    wanted: Option<&TimeRange>,
    out: &mut Vec<ChunkMeta>,
) -> Result<(), DecodeError> {
    let count = r.uvarint()?;
    let count = match usize::try_from(count) {
        Ok(n) if n <= r.remaining() / MIN_LEN => n,
        _ => return Err(r.error(format!("{count} chunks in {} bytes", r.remaining()))),
    };
    if version.has_pages() {
        let len = r.u32()? as usize;
        if count == 0 {
            r.uvarint()?;
        }
        let mut markers = r.clone();
        r.take(len)?;
        if let Some(wanted) = wanted.filter(|_| count >= FEW_CHUNKS) {
            return decode_pages(version, &mut markers, len, count, r, wanted, out);
        }
    }
    out.reserve(count);
    let mut last_max = TimestampMs::EPOCH;
    for _ in 0..count {
        let chunk = decode_meta(version, r, |delta| last_max.wrapping_add(delta))?;
        last_max = chunk.max_ms;
        if wanted.is_none_or(|wanted| chunk.overlaps(wanted)) {
            out.push(chunk);
        }
    }
    if !r.is_empty() {
        return Err(r.error("bytes after the last chunk"));
    }
    Ok(())
}

/// Reads the pages that the markers do not exclude.
fn decode_pages(
    version: IndexVersion,
    markers: &mut Reader<'_>,
    markers_len: usize,
    count: usize,
    metas: &Reader<'_>,
    wanted: &TimeRange,
    out: &mut Vec<ChunkMeta>,
) -> Result<(), DecodeError> {
    let end = markers.position() + markers_len;
    let pages = markers.uvarint()?;
    if pages > (markers_len / MIN_MARKER_LEN) as u64 {
        return Err(markers.error(format!("{pages} pages in {markers_len} bytes")));
    }
    let mut seen = 0usize;
    for _ in 0..pages {
        let chunks = markers.uvarint()?;
        markers.take(8)?;
        let (start, min_ms) = (markers.uvarint()?, TimestampMs::new(markers.svarint()?));
        let max_ms = min_ms.wrapping_add(markers.svarint()?);
        seen = usize::try_from(chunks)
            .ok()
            .and_then(|n| seen.checked_add(n))
            .filter(|seen| *seen <= count)
            .ok_or_else(|| markers.error(format!("a page of {chunks} chunks, {count} in all")))?;
        if max_ms < wanted.min_ms || min_ms >= wanted.max_ms {
            continue;
        }
        let mut page = metas.clone();
        let skip = usize::try_from(start).unwrap_or(usize::MAX);
        page.take(skip)?;
        let mut last_max = None;
        for _ in 0..chunks {
            // The first chunk's difference counts from the page before; the page's least time is its own.
            let min = |delta| last_max.map_or(min_ms, |last: TimestampMs| last.wrapping_add(delta));
            let chunk = decode_meta(version, &mut page, min)?;
            last_max = Some(chunk.max_ms);
            if chunk.overlaps(wanted) {
                out.push(chunk);
            }
        }
    }
    if seen != count || markers.position() != end {
        return Err(markers.error(format!("{seen} chunks in pages, {count} in all")));
    }
    Ok(())
}

fn decode_meta(
    version: IndexVersion,
    r: &mut Reader<'_>,
    min_ms: impl Fn(i64) -> TimestampMs,
) -> Result<ChunkMeta, DecodeError> {
    let min_ms = min_ms(r.svarint()?);
    let max_ms = min_ms.wrapping_add(r.uvarint()? as i64);
    if max_ms < min_ms {
        return Err(r.error(format!("chunk from {min_ms} to {max_ms}")));
    }
    let (kb, entries) = (number(r)?, number(r)?);
    let checksum = r.u32()?;
    let mut ingested_day = None;
    if version >= IndexVersion::V4
        && let Some(zigzag) = r.uvarint()?.checked_sub(1)
    {
        let days = ((zigzag >> 1) as i64) ^ -((zigzag & 1) as i64);
        ingested_day = Some(max_ms.get().div_euclid(DAY_MS).wrapping_add(days));
    }
    Ok(ChunkMeta {
        min_ms,
        max_ms,
        kb,
        entries,
        checksum,
        ingested_day,
    })
}

fn number(r: &mut Reader<'_>) -> Result<u32, DecodeError> {
    let n = r.uvarint()?;
    u32::try_from(n).map_err(|_| r.error(format!("{n} exceeds 32 bits")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const VERSIONS: [IndexVersion; 3] = [IndexVersion::V2, IndexVersion::V3, IndexVersion::V4];

    fn decode(
        version: IndexVersion,
        bytes: &[u8],
        wanted: Option<&TimeRange>,
    ) -> Result<Vec<ChunkMeta>, DecodeError> {
        let mut out = Vec::new();
        let mut r = Reader::new("chunks", bytes);
        decode_chunks(version, &mut r, wanted, &mut out).map(|()| out)
    }

    fn chunks(max: usize) -> impl Strategy<Value = Vec<ChunkMeta>> {
        let chunk = (
            0i64..10_000,
            0i64..200,
            any::<[u32; 3]>(),
            any::<Option<i16>>(),
        );
        let chunk = chunk.prop_map(|(min_ms, len, [kb, entries, checksum], day)| ChunkMeta {
            min_ms: TimestampMs::new(min_ms),
            max_ms: TimestampMs::new(min_ms + len),
            kb,
            entries,
            checksum,
            ingested_day: day.map(i64::from),
        });
        proptest::collection::vec(chunk, 0..max)
    }

    proptest! {
        #[test]
        fn chunks_come_back_and_pages_are_skipped_right(mut metas in chunks(300), min_ms in 0i64..10_000, len in 0i64..3000) {
            sort_chunks(&mut metas);
            prop_assert!(are_in_order(&metas));
            let wanted = TimeRange::new(min_ms, min_ms + len);
            for version in VERSIONS {
                if version < IndexVersion::V4 {
                    metas.iter_mut().for_each(|c| c.ingested_day = None);
                }
                let mut bytes = Vec::new();
                encode_chunks(version, &metas, &mut bytes);
                prop_assert_eq!(&decode(version, &bytes, None).unwrap(), &metas);
                let some: Vec<_> = metas.iter().filter(|c| c.overlaps(&wanted)).copied().collect();
                prop_assert_eq!(decode(version, &bytes, Some(&wanted)).unwrap(), some);
            }
        }

        #[test]
        fn every_truncation_is_an_error(mut metas in chunks(20)) {
            sort_chunks(&mut metas);
            for version in VERSIONS {
                let mut bytes = Vec::new();
                encode_chunks(version, &metas, &mut bytes);
                for cut in 0..bytes.len() {
                    prop_assert!(decode(version, &bytes[..cut], None).is_err());
                }
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>, mut metas in chunks(100), at: prop::sample::Index, with: u8) {
            sort_chunks(&mut metas);
            let wanted = TimeRange::new(0, 5000);
            for version in VERSIONS {
                let mut good = Vec::new();
                encode_chunks(version, &metas, &mut good);
                let at = at.index(good.len());
                good[at] = with;
                for bytes in [&bytes, &good] {
                    let _ = decode(version, bytes, None);
                    let _ = decode(version, bytes, Some(&wanted));
                }
            }
        }
    }

    #[test]
    fn sizes_and_days_are_rounded_as_loki_does() {
        assert_eq!([511, 512, 1535, 1536].map(ChunkMeta::kb_of), [0, 1, 1, 2]);
        let days =
            [0, 1, DAY_MS, DAY_MS + 1].map(|t| ChunkMeta::ingested_day_of(TimestampMs::new(t)));
        assert_eq!(days, [0, 1, 1, 2]);
    }
}
