//! Writes an index file from beginning to end.
//!
//! Nothing is ever patched: symbols are known up front, series follow in order of their fingerprints, and what comes behind them
//! ([`IndexTail`]) is computed from them. The caller drains the bytes when it likes.

use std::path::PathBuf;

use bytes::Bytes;
use hashbrown::HashSet;
use lgtm_core::codec::{crc32c, put_uvarint};
use lgtm_core::index::{PostingsLog, SymbolTable, pair_key};
use lgtm_core::model::TimestampMs;
use lgtm_core::{Error, Result};

use crate::index::chunk_meta::{ChunkMeta, are_in_order};
use crate::index::fingerprint_offsets::FingerprintOffsets;
use crate::index::series::encode_body;
use crate::index::tail::IndexTail;
use crate::index::toc::IndexToc;
use crate::index::version::IndexVersion;

pub(super) const MAGIC: u32 = 0xBAAA_D700;
/// Series references count in these steps, so that 32 bits reach 64 GiB.
pub(super) const SERIES_ALIGN: u64 = 16;

/// Bounds of an [`IndexEncoder`].
#[derive(Debug, Clone)]
pub struct IndexEncoderSettings {
    /// Memory for postings: about 8 bytes per series and label plus 32 per distinct label pair. Default 256 MiB, which holds some two million
    /// streams of twelve labels; beyond it runs are spilled to `scratch_dir`.
    pub max_postings_memory_bytes: usize,
    /// An existing directory for spilled postings. The files have no name once open and vanish with the encoder. Without it, exceeding the
    /// bound is an error.
    pub scratch_dir: Option<PathBuf>,
}

impl Default for IndexEncoderSettings {
    fn default() -> Self {
        Self {
            max_postings_memory_bytes: 256 << 20,
            scratch_dir: None,
        }
    }
}

/// What an index file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct IndexStats {
    /// Series.
    pub series_count: u64,
    /// Chunks.
    pub chunk_count: u64,
    /// Least time of a chunk, milliseconds; 0 without chunks.
    pub min_ms: TimestampMs,
    /// Greatest time of a chunk, milliseconds; 0 without chunks.
    pub max_ms: TimestampMs,
    /// The checksum of the table of contents, by which compacted files are named; known at the end.
    pub checksum: u32,
    /// Bytes of the whole file; known at the end.
    pub size_bytes: u64,
}

/// Writes an index file: symbols at once, then series in order, then [`IndexEncoder::finish`].
#[derive(Debug)]
pub struct IndexEncoder {
    version: IndexVersion,
    symbols: SymbolTable,
    buf: Vec<u8>,
    /// Position in the file of the next byte.
    position: u64,
    toc: IndexToc,
    stats: IndexStats,
    postings: PostingsLog,
    /// Pairs of ordinals in use, for the label index sections, which stand in front of the postings.
    pairs: HashSet<u64>,
    fingerprints: FingerprintOffsets,
    previous: Option<(u64, Vec<(u32, u32)>)>,
    body: Vec<u8>,
    shifted: Vec<(u32, u32)>,
}

impl IndexEncoder {
    /// An encoder over `symbols`, which must hold every name and value and, to give the bytes that Loki gives, nothing else.
    pub fn new(
        version: IndexVersion,
        symbols: SymbolTable,
        settings: IndexEncoderSettings,
    ) -> Self {
        let mut buf = MAGIC.to_be_bytes().to_vec();
        buf.push(version.number());
        let start = buf.len() as u64;
        buf.extend_from_slice(&symbols.encode());
        let position = buf.len() as u64;
        Self {
            version,
            symbols,
            buf,
            position,
            toc: IndexToc {
                symbols: start,
                series: position,
                ..IndexToc::default()
            },
            stats: IndexStats::default(),
            postings: PostingsLog::new(settings.max_postings_memory_bytes, settings.scratch_dir),
            pairs: HashSet::new(),
            fingerprints: FingerprintOffsets::default(),
            previous: None,
            body: Vec::new(),
            shifted: Vec::new(),
        }
    }

    /// The symbols that labels refer to.
    pub fn symbols(&self) -> &SymbolTable {
        &self.symbols
    }

    /// Writes a series and returns its reference. `labels` are symbol ordinals in name order; `chunks` are as
    /// [`sort_chunks`](crate::index::sort_chunks) leaves them.
    ///
    /// # Errors
    /// `InvalidInput` when series, labels or chunks are out of order or a symbol is unknown (nothing is written then); `LimitExceeded`
    /// past 64 GiB or the bound on postings; `Unavailable` when the scratch directory fails.
    pub fn add_series(
        &mut self,
        fingerprint: u64,
        labels: &[(u32, u32)],
        chunks: &[ChunkMeta],
    ) -> Result<u32> {
        self.check(fingerprint, labels, chunks)?;
        let start = self.position.next_multiple_of(SERIES_ALIGN);
        let reference = u32::try_from(start / SERIES_ALIGN)
            .map_err(|_| Error::LimitExceeded("the index exceeds 64 GiB".to_owned()))?;
        // Ordinals count from 1 there: the pair 0, 0 stands for the list of all series, and the first symbol may be a name here.
        self.shifted.clear();
        let shifted = labels.iter().map(|(name, value)| (name + 1, value + 1));
        self.shifted.extend(shifted);
        self.postings.push(reference, &self.shifted)?;
        let pairs = labels.iter().map(|&(name, value)| pair_key(name, value));
        self.pairs.extend(pairs);

        self.body.clear();
        encode_body(self.version, fingerprint, labels, chunks, &mut self.body);
        let before = self.buf.len() + (start - self.position) as usize;
        self.buf.resize(before, 0);
        put_uvarint(&mut self.buf, self.body.len() as u64);
        self.buf.extend_from_slice(&self.body);
        self.buf
            .extend_from_slice(&crc32c(&self.body).to_be_bytes());
        self.position = start + (self.buf.len() - before) as u64;

        self.fingerprints
            .push(self.stats.series_count, reference, fingerprint);
        self.stats.series_count += 1;
        self.stats.chunk_count += chunks.len() as u64;
        for chunk in chunks {
            // As Loki has it: 0 means that nothing was seen yet.
            let (min, max) = (&mut self.stats.min_ms, &mut self.stats.max_ms);
            if *min == 0 || chunk.min_ms < *min {
                *min = chunk.min_ms;
            }
            if *max == 0 || chunk.max_ms > *max {
                *max = chunk.max_ms;
            }
        }
        let (last, previous) = self.previous.get_or_insert_default();
        *last = fingerprint;
        previous.clear();
        previous.extend_from_slice(labels);
        Ok(reference)
    }

    fn check(&self, fingerprint: u64, labels: &[(u32, u32)], chunks: &[ChunkMeta]) -> Result<()> {
        let fail = |reason: String| Err(Error::InvalidInput(reason));
        let count = self.symbols.len() as u32;
        if let Some(&(name, value)) = labels.iter().find(|(n, v)| *n.max(v) >= count) {
            return fail(format!("symbol {} of a table of {count}", name.max(value)));
        }
        if !labels.is_sorted_by(|a, b| a.0 < b.0) {
            return fail(format!(
                "label names of {} are not in order",
                self.show(labels)
            ));
        }
        if let Some((last, previous)) = &self.previous
            && (fingerprint, labels) <= (*last, previous.as_slice())
        {
            return fail(format!(
                "series {fingerprint:x} {} follows {last:x} {}",
                self.show(labels),
                self.show(previous)
            ));
        }
        if !are_in_order(chunks) {
            return fail(format!("chunks of {} are not in order", self.show(labels)));
        }
        Ok(())
    }

    fn show(&self, labels: &[(u32, u32)]) -> String {
        let text = |symbol| self.symbols.get(symbol).unwrap_or("?");
        let pairs: Vec<_> = labels
            .iter()
            .map(|&(n, v)| format!("{}={:?}", text(n), text(v)))
            .collect();
        format!("{{{}}}", pairs.join(", "))
    }

    /// Bytes waiting in [`IndexEncoder::take_output`].
    pub fn pending_bytes(&self) -> usize {
        self.buf.len()
    }

    /// The next bytes of the file, if any wait.
    pub fn take_output(&mut self) -> Option<Bytes> {
        (!self.buf.is_empty()).then(|| std::mem::take(&mut self.buf).into())
    }

    /// Ends the series section. Drain [`IndexEncoder::take_output`] first; the rest comes out of the tail.
    ///
    /// # Errors
    /// `Internal` when output still waits, `Unavailable` when the scratch directory fails.
    pub fn finish(mut self) -> Result<IndexTail> {
        if self.pending_bytes() > 0 {
            return Err(Error::Internal(
                "index finished with output not yet taken".into(),
            ));
        }
        self.toc.label_indices = self.position;
        (self.toc.min_ms, self.toc.max_ms) = (self.stats.min_ms, self.stats.max_ms);
        let mut pairs: Vec<u64> = self.pairs.into_iter().collect();
        pairs.sort_unstable();
        let lists = self.postings.into_lists()?;
        Ok(IndexTail::new(
            self.symbols,
            lists,
            pairs,
            self.fingerprints,
            self.toc,
            self.stats,
        ))
    }

    /// All bytes at once, for small files and tests.
    ///
    /// # Errors
    /// Those of [`IndexEncoder::finish`] and [`IndexTail::take_output`].
    pub fn finish_to_vec(mut self) -> Result<(Vec<u8>, IndexStats)> {
        let mut out = std::mem::take(&mut self.buf);
        let mut tail = self.finish()?;
        while let Some(bytes) = tail.take_output()? {
            out.extend_from_slice(&bytes);
        }
        Ok((out, tail.stats()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoder() -> IndexEncoder {
        let symbols = SymbolTable::from_sorted(["a", "b", "c"]).unwrap();
        IndexEncoder::new(IndexVersion::V3, symbols, IndexEncoderSettings::default())
    }

    fn chunk(min_ms: i64, max_ms: i64, checksum: u32) -> ChunkMeta {
        ChunkMeta {
            min_ms: TimestampMs::new(min_ms),
            max_ms: TimestampMs::new(max_ms),
            kb: 1,
            entries: 1,
            checksum,
            ingested_day: None,
        }
    }

    #[test]
    fn what_is_out_of_order_is_refused_and_leaves_no_trace() {
        let mut e = encoder();
        e.add_series(5, &[(0, 0)], &[chunk(0, 5, 8)]).unwrap();
        let before = e.pending_bytes();
        type Case<'a> = (u64, &'a [(u32, u32)], &'a [ChunkMeta]);
        let cases: [Case<'_>; 8] = [
            (5, &[(0, 0)], &[]),
            (4, &[(1, 1)], &[]),
            (6, &[(0, 3)], &[]),
            (6, &[(1, 1), (0, 1)], &[]),
            (6, &[(1, 1), (1, 2)], &[]),
            (6, &[(1, 1)], &[chunk(5, 4, 9)]),
            (6, &[(1, 1)], &[chunk(5, 6, 9), chunk(4, 7, 9)]),
            (6, &[(1, 1)], &[chunk(5, 6, 9), chunk(5, 6, 9)]),
        ];
        for (fingerprint, labels, chunks) in cases {
            let added = e.add_series(fingerprint, labels, chunks);
            assert!(added.is_err(), "{fingerprint} {labels:?} {chunks:?}");
        }
        assert_eq!(e.pending_bytes(), before);
        e.add_series(5, &[(0, 0), (1, 1)], &[]).unwrap();
        assert!(encoder().finish().is_err(), "output still waits");
    }

    #[test]
    fn draining_early_or_late_gives_the_same_file() {
        let run = |drain: bool| {
            let mut e = encoder();
            let mut out = Vec::new();
            for n in 0..3u32 {
                let chunks = [chunk(1 + i64::from(n), 5, n)];
                e.add_series(u64::from(n), &[(0, n)], &chunks).unwrap();
                if drain && let Some(bytes) = e.take_output() {
                    out.extend_from_slice(&bytes);
                }
            }
            let (rest, stats) = e.finish_to_vec().unwrap();
            out.extend(rest);
            assert_eq!(stats.size_bytes, out.len() as u64);
            assert_eq!((stats.min_ms.get(), stats.max_ms.get()), (1, 5));
            out
        };
        assert_eq!(run(true), run(false));
    }
}
