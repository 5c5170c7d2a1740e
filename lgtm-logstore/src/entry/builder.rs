//! Making blocks of entries.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use lgtm_core::DecodeError;
use lgtm_core::model::TimestampNs;

use super::block::{EntryBlock, EntryColumns, LineRange, SymbolPair};
use super::symbols::SymbolList;

/// Makes an [`EntryBlock`] entry by entry: over bytes that hold the lines already ([`EntryBlockBuilder::over`], for who decodes), or over
/// bytes of its own, to which lines are copied ([`EntryBlockBuilder::copying`], for who has them elsewhere).
#[derive(Debug)]
pub struct EntryBlockBuilder {
    bytes: Bytes,
    copied: BytesMut,
    columns: EntryColumns,
    is_sorted: bool,
}

impl EntryBlockBuilder {
    /// Lines stand in `bytes`, of which 4 GiB can be used.
    pub fn over(bytes: Bytes) -> Self {
        Self {
            bytes,
            copied: BytesMut::new(),
            columns: EntryColumns::default(),
            is_sorted: true,
        }
    }

    /// Lines will be copied, `capacity` bytes of them.
    pub fn copying(capacity: usize) -> Self {
        Self {
            copied: BytesMut::with_capacity(capacity),
            ..Self::over(Bytes::new())
        }
    }

    /// Makes room for so many entries more.
    pub fn reserve(&mut self, entries: usize) {
        self.columns.t_ns.reserve(entries);
        self.columns.lines.reserve(entries);
    }

    /// Adds an entry whose line stands in the bytes. Entries may come in any order; fastest is that of time.
    ///
    /// # Errors
    /// When the line reaches beyond the bytes, or beyond the first 4 GiB of them.
    #[inline]
    pub fn push(
        &mut self,
        t_ns: impl Into<TimestampNs>,
        line: Range<usize>,
    ) -> Result<(), DecodeError> {
        let range = u32::try_from(line.start)
            .ok()
            .zip(u32::try_from(line.end).ok());
        match range {
            Some((start, end)) if start <= end && line.end <= self.bytes.len() => {
                self.add(t_ns.into(), LineRange { start, end });
                Ok(())
            }
            _ => Err(outside(&line, self.bytes.len())),
        }
    }

    /// Adds an entry and copies its line.
    ///
    /// # Errors
    /// When all lines together reach beyond 4 GiB.
    #[inline]
    pub fn push_copy(
        &mut self,
        t_ns: impl Into<TimestampNs>,
        line: &[u8],
    ) -> Result<(), DecodeError> {
        let start = self.copied.len();
        let range = start..start + line.len();
        let Ok(end) = u32::try_from(range.end) else {
            return Err(outside(&range, u32::MAX as usize));
        };
        self.copied.extend_from_slice(line);
        let start = start as u32;
        self.add(t_ns.into(), LineRange { start, end });
        Ok(())
    }

    #[inline]
    fn add(&mut self, t_ns: TimestampNs, line: LineRange) {
        let c = &mut self.columns;
        self.is_sorted &= c.t_ns.last().is_none_or(|last| *last <= t_ns);
        c.t_ns.push(t_ns);
        c.lines.push(line);
        if !c.pairs.is_empty() {
            c.pair_ends.push(c.pairs.len() as u32);
        }
    }

    /// Adds structured metadata to the entry that was added last. Pairs come sorted by name, as chunks hold them.
    ///
    /// # Panics
    /// When no entry was added.
    #[inline]
    pub fn push_metadata(&mut self, pair: SymbolPair) {
        let c = &mut self.columns;
        if c.pairs.is_empty() {
            c.pair_ends.resize(c.t_ns.len(), 0);
        }
        c.pairs.push(pair);
        let end = c.pair_ends.last_mut().expect("an entry was added");
        *end += 1;
    }

    /// Number of entries so far.
    pub fn len(&self) -> usize {
        self.columns.t_ns.len()
    }

    /// Whether there is no entry so far.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of lines copied so far.
    pub fn copied_bytes(&self) -> usize {
        self.copied.len()
    }

    /// The block; `symbols` are the texts of the metadata. Sorts the entries if they did not come in time order.
    pub fn finish(mut self, symbols: Arc<SymbolList>) -> EntryBlock {
        if !self.is_sorted {
            self.columns = sorted(&self.columns);
        }
        let bytes = if self.copied.is_empty() {
            self.bytes
        } else {
            self.copied.freeze()
        };
        EntryBlock {
            range: 0..self.columns.t_ns.len(),
            bytes,
            columns: Arc::new(self.columns),
            symbols,
        }
    }
}

#[cold]
fn outside(line: &Range<usize>, bytes: usize) -> DecodeError {
    let reason = format!("line stands at {line:?}, must be inside of {bytes} bytes");
    DecodeError::new("entry block", line.start as u64, reason)
}

/// The same entries in time order, those of one time in the order that they had.
fn sorted(c: &EntryColumns) -> EntryColumns {
    let mut order: Vec<usize> = (0..c.t_ns.len()).collect();
    order.sort_by_key(|n| c.t_ns[*n]);
    let mut out = EntryColumns {
        t_ns: order.iter().map(|n| c.t_ns[*n]).collect(),
        lines: order.iter().map(|n| c.lines[*n]).collect(),
        ..EntryColumns::default()
    };
    if !c.pair_ends.is_empty() {
        for n in order {
            let start = n.checked_sub(1).map_or(0, |before| c.pair_ends[before]);
            out.pairs
                .extend_from_slice(&c.pairs[start as usize..c.pair_ends[n] as usize]);
            out.pair_ends.push(out.pairs.len() as u32);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_put_in_time_order_with_their_metadata() {
        let mut b = EntryBlockBuilder::over(Bytes::from_static(b"..one..two..three"));
        b.push(30, 2..5).unwrap();
        b.push(10, 7..10).unwrap();
        b.push_metadata(SymbolPair { name: 0, value: 1 });
        b.push(30, 12..17).unwrap();
        b.push_metadata(SymbolPair { name: 0, value: 9 });
        b.push_metadata(SymbolPair { name: 2, value: 1 });
        let symbols = SymbolList::from_texts([&b"id"[..], b"7", b"user"]);
        let block = b.finish(Arc::new(symbols));
        let seen: Vec<_> = block
            .iter()
            .map(|e| (e.t_ns.get(), e.line, e.metadata().collect::<Vec<_>>()))
            .collect();
        assert_eq!(
            seen,
            [
                (10, &b"two"[..], vec![("id", "7")]),
                (30, b"one", vec![]),
                (30, b"three", vec![("id", ""), ("user", "7")]),
            ]
        );
        assert!(!block.has_lines_in_order() && block.slice(1..3).has_lines_in_order());
        assert_eq!((block.line_bytes(), block.metadata_bytes()), (11, 10));
        assert_eq!(block.between(11, 31).len(), 2);
        let kept = block.slice(1..3).retained(|n| n == 1);
        let only = kept.get(0);
        assert_eq!(
            (kept.len(), only.line, only.t_ns.get()),
            (1, &b"three"[..], 30)
        );
        assert_eq!(
            only.metadata().collect::<Vec<_>>(),
            [("id", ""), ("user", "7")]
        );
        let bare = block.retained(|n| n == 1);
        assert!(!bare.has_metadata() && bare.get(0).line == b"one");
        assert!(block.retained(|_| false).is_empty());
        assert_eq!(block.between(11, 30).min_ns(), None);
    }

    #[test]
    fn a_line_outside_of_the_bytes_is_refused() {
        let mut b = EntryBlockBuilder::over(Bytes::from_static(b"abc"));
        for bad in [1..4, 4..4, usize::MAX..usize::MAX] {
            let error = b.push(1, bad).unwrap_err();
            assert!(error.reason.contains("inside of 3 bytes"), "{error}");
        }
        assert!(b.push(1, 3..3).is_ok() && b.len() == 1);
    }
}
