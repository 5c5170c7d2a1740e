//! Writes an index from beginning to end.
//!
//! Nothing is ever patched: symbols are known up front, series follow in label order, and what comes behind them
//! ([`IndexTail`]) is computed from them. The caller drains the bytes when it likes and may upload them at once.

use std::path::PathBuf;

use bytes::Bytes;
use lgtm_core::codec::{crc32c, put_uvarint};
use lgtm_core::index::{PostingsLog, SymbolTable};
use lgtm_core::{Error, Result};

use crate::index::series::{ChunkRefMeta, encode_body};
use crate::index::tail::IndexTail;
use crate::index::toc::Toc;

pub(super) const MAGIC: u32 = 0xBAAA_D700;
pub(super) const VERSION: u8 = 2;
/// Series references count in these steps, so that 32 bits reach 64 GiB.
pub(super) const SERIES_ALIGN: u64 = 16;

/// Bounds of an [`IndexEncoder`].
#[derive(Debug, Clone)]
pub struct IndexEncoderSettings {
    /// Memory for postings: about 8 bytes per series and label plus 32 per distinct label pair. Default 256 MiB, which holds
    /// some two million series of twelve labels; beyond it runs are spilled to `scratch_dir`.
    pub max_postings_memory_bytes: usize,
    /// An existing directory for spilled postings. The files have no name once open and vanish with the encoder. Without it,
    /// exceeding the bound is an error.
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

/// What an index holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct IndexStats {
    /// Series.
    pub series_count: u64,
    /// Chunks.
    pub chunk_count: u64,
    /// Symbols.
    pub symbol_count: u64,
    /// Distinct label names.
    pub label_name_count: u64,
    /// Distinct label pairs.
    pub label_pair_count: u64,
    /// The largest series entry with its padding.
    pub series_max_size_bytes: u64,
    /// Bytes of the whole file.
    pub size_bytes: u64,
}

/// Writes an index: symbols at once, then series in order, then [`IndexEncoder::finish`].
#[derive(Debug)]
pub struct IndexEncoder {
    symbols: SymbolTable,
    front: Vec<Bytes>,
    buf: Vec<u8>,
    /// Position in the file of the next byte.
    position: u64,
    toc: Toc,
    stats: IndexStats,
    postings: PostingsLog,
    previous: Option<Vec<(u32, u32)>>,
    last_chunk: u64,
    body: Vec<u8>,
}

impl IndexEncoder {
    /// An encoder over `symbols`, which may hold more than the series will use. The first must be the empty string, as in all indexes that
    /// Prometheus writes.
    ///
    /// # Errors
    /// `InvalidInput` when it is not.
    pub fn new(symbols: SymbolTable, settings: IndexEncoderSettings) -> Result<Self> {
        let first = symbols.get(0);
        if first != Some("") {
            return Err(Error::InvalidInput(format!(
                "the first symbol is {first:?} instead of the empty string"
            )));
        }
        let mut header = MAGIC.to_be_bytes().to_vec();
        header.push(VERSION);
        let encoded = symbols.encode();
        let position = 5 + encoded.len() as u64;
        let front = vec![Bytes::from(encoded), Bytes::from(header)];
        Ok(Self {
            front,
            buf: Vec::new(),
            position,
            toc: Toc {
                symbols: 5,
                series: position,
                ..Toc::default()
            },
            stats: IndexStats {
                symbol_count: symbols.len() as u64,
                ..IndexStats::default()
            },
            symbols,
            postings: PostingsLog::new(settings.max_postings_memory_bytes, settings.scratch_dir),
            previous: None,
            last_chunk: 0,
            body: Vec::new(),
        })
    }

    /// The symbols that labels refer to.
    pub fn symbols(&self) -> &SymbolTable {
        &self.symbols
    }

    /// Writes a series and returns its reference. `labels` are symbol ordinals in name order.
    ///
    /// # Errors
    /// `InvalidInput` when series, labels or chunks are out of order, a symbol is unknown or empty (nothing is written then);
    /// `LimitExceeded` past 64 GiB or the bound on postings; `Unavailable` when the scratch directory fails.
    pub fn add_series(&mut self, labels: &[(u32, u32)], chunks: &[ChunkRefMeta]) -> Result<u32> {
        self.check_labels(labels)?;
        Self::check_chunks(chunks, self.last_chunk)?;
        let padding = self.position.next_multiple_of(SERIES_ALIGN) - self.position;
        let start = self.position + padding;
        let reference = u32::try_from(start / SERIES_ALIGN)
            .map_err(|_| Error::LimitExceeded("the index exceeds 64 GiB".to_owned()))?;
        self.postings.push(reference, labels)?;

        self.body.clear();
        encode_body(&mut self.body, labels, chunks);
        let before = self.buf.len() + padding as usize;
        self.buf.resize(before, 0);
        put_uvarint(&mut self.buf, self.body.len() as u64);
        self.buf.extend_from_slice(&self.body);
        self.buf
            .extend_from_slice(&crc32c(&self.body).to_be_bytes());

        let len = (self.buf.len() - before) as u64;
        self.position = start + len;
        self.stats.series_count += 1;
        self.stats.chunk_count += chunks.len() as u64;
        let padded = len.next_multiple_of(SERIES_ALIGN);
        self.stats.series_max_size_bytes = self.stats.series_max_size_bytes.max(padded);
        self.last_chunk = chunks.last().map_or(self.last_chunk, |c| c.reference);
        let previous = self.previous.get_or_insert_default();
        previous.clear();
        previous.extend_from_slice(labels);
        Ok(reference)
    }

    /// Bytes waiting in [`IndexEncoder::take_output`].
    pub fn pending_bytes(&self) -> usize {
        self.buf.len() + self.front.iter().map(Bytes::len).sum::<usize>()
    }

    /// The next bytes of the file, if any wait; call until `None` to drain it all.
    pub fn take_output(&mut self) -> Option<Bytes> {
        if let Some(bytes) = self.front.pop() {
            return Some(bytes);
        }
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
        self.toc.postings = self.position;
        let lists = self.postings.into_lists()?;
        Ok(IndexTail::new(self.symbols, lists, self.toc, self.stats))
    }

    /// All bytes at once, for small indexes and tests.
    ///
    /// # Errors
    /// Those of [`IndexEncoder::finish`] and [`IndexTail::take_output`].
    pub fn finish_to_vec(mut self) -> Result<(Vec<u8>, IndexStats)> {
        let mut out = Vec::new();
        while let Some(bytes) = self.take_output() {
            out.extend_from_slice(&bytes);
        }
        let mut tail = self.finish()?;
        while let Some(bytes) = tail.take_output()? {
            out.extend_from_slice(&bytes);
        }
        Ok((out, tail.stats()))
    }

    /// Whether `labels` may be the next series.
    pub(crate) fn check_labels(&self, labels: &[(u32, u32)]) -> Result<()> {
        let fail = |reason: String| Err(Error::InvalidInput(reason));
        let count = self.symbols.len() as u32;
        let mut last = 0;
        for &(name, value) in labels {
            if name >= count || value >= count {
                let bad = name.max(value);
                return fail(format!("symbol {bad} of a table of {count}"));
            }
            if name <= last {
                return fail(format!("label name symbol {name} follows {last}"));
            }
            if value == 0 {
                return fail(format!("label {:?} has no value", self.symbols.get(name)));
            }
            last = name;
        }
        match &self.previous {
            Some(previous) if labels <= previous.as_slice() => fail(format!(
                "series {} follows {}",
                self.show(labels),
                self.show(previous)
            )),
            _ => Ok(()),
        }
    }

    /// Whether `chunks` are in order, of time and of place.
    pub(crate) fn check_chunks(chunks: &[ChunkRefMeta], mut last_reference: u64) -> Result<()> {
        let mut last_max = None;
        for c in chunks {
            if c.min_ms > c.max_ms || last_max.is_some_and(|max| c.min_ms <= max) {
                return Err(Error::InvalidInput(format!(
                    "chunk from {} to {} follows one up to {last_max:?}",
                    c.min_ms, c.max_ms
                )));
            }
            if c.reference < last_reference {
                return Err(Error::InvalidInput(format!(
                    "chunk reference {} follows {last_reference}",
                    c.reference
                )));
            }
            last_max = Some(c.max_ms);
            last_reference = c.reference;
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
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoder() -> IndexEncoder {
        let symbols = SymbolTable::from_sorted(["", "a", "b", "c"]).unwrap();
        IndexEncoder::new(symbols, IndexEncoderSettings::default()).unwrap()
    }

    fn chunk(min_ms: i64, max_ms: i64, reference: u64) -> ChunkRefMeta {
        ChunkRefMeta {
            min_ms: min_ms.into(),
            max_ms: max_ms.into(),
            reference,
        }
    }

    #[test]
    fn what_is_out_of_order_is_refused_and_leaves_no_trace() {
        let mut e = encoder();
        e.add_series(&[(1, 2)], &[chunk(0, 5, 8)]).unwrap();
        let before = e.pending_bytes();
        for (labels, chunks) in [
            (&[(1, 2)][..], &[][..]),
            (&[(1, 1)], &[]),
            (&[], &[]),
            (&[(2, 0)], &[]),
            (&[(0, 1)], &[]),
            (&[(2, 4)], &[]),
            (&[(2, 1), (2, 2)], &[]),
            (&[(2, 1), (1, 2)], &[]),
            (&[(2, 1)], &[chunk(0, 5, 7)]),
            (&[(2, 1)], &[chunk(5, 4, 9)]),
            (&[(2, 1)], &[chunk(0, 5, 9), chunk(5, 6, 10)]),
            (&[(2, 1)], &[chunk(0, 5, 9), chunk(6, 7, 8)]),
        ] {
            assert!(
                e.add_series(labels, chunks).is_err(),
                "{labels:?} {chunks:?}"
            );
        }
        assert_eq!(e.pending_bytes(), before);
        e.add_series(&[(1, 2), (2, 1)], &[]).unwrap();
    }

    #[test]
    fn the_first_symbol_is_the_empty_string() {
        for bad in [&["a", "b"][..], &[]] {
            let symbols = SymbolTable::from_sorted(bad).unwrap();
            let refused = IndexEncoder::new(symbols, IndexEncoderSettings::default());
            assert!(refused.is_err(), "{bad:?}");
        }
    }

    #[test]
    fn finishing_with_waiting_output_is_an_error() {
        assert!(encoder().finish().is_err());
    }

    #[test]
    fn draining_early_or_late_gives_the_same_file() {
        let run = |drain: bool| {
            let mut e = encoder();
            let mut out = Vec::new();
            for v in 1..4 {
                e.add_series(&[(1, v)], &[chunk(0, 1, u64::from(v) * 100)])
                    .unwrap();
                while drain && let Some(b) = e.take_output() {
                    out.extend_from_slice(&b);
                }
            }
            let (rest, stats) = e.finish_to_vec().unwrap();
            out.extend(rest);
            assert_eq!(stats.size_bytes, out.len() as u64);
            assert_eq!((stats.series_count, stats.label_pair_count), (3, 3));
            out
        };
        assert_eq!(run(true), run(false));
    }
}
