//! The part of an index behind its series: postings lists, their offset table, the TOC.
//!
//! It comes out in pieces of about a megabyte, so that its memory does not follow the size of the index.

use bytes::Bytes;
use lgtm_core::codec::{crc32c_append, put_bytes, put_uvarint, uvarint_len};
use lgtm_core::index::{Drained, OFFSET_KEY_COUNT, PairKey, PostingsLists, SymbolTable};
use lgtm_core::{Error, Result};

use crate::index::encoder::IndexStats;
use crate::index::toc::Toc;

const PIECE_BYTES: usize = 1 << 20;

/// Hands out the end of an index.
#[derive(Debug)]
pub struct IndexTail {
    symbols: SymbolTable,
    lists: PostingsLists,
    toc: Toc,
    stats: IndexStats,
    /// The lists written, with their lengths: all that the offset table needs.
    written: Vec<(PairKey, u32)>,
    first_list: u64,
    position: u64,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    Lists,
    /// In the middle of a list longer than a piece.
    List {
        key: PairKey,
        crc: u32,
    },
    /// In the offset table: next entry, its list's offset, checksum so far.
    Table {
        next: usize,
        offset: u64,
        crc: u32,
    },
    Done,
}

impl IndexTail {
    pub(super) fn new(
        symbols: SymbolTable,
        lists: PostingsLists,
        toc: Toc,
        stats: IndexStats,
    ) -> Self {
        Self {
            symbols,
            lists,
            first_list: toc.postings.next_multiple_of(4),
            position: toc.postings,
            toc,
            stats,
            written: Vec::new(),
            phase: Phase::Lists,
        }
    }

    /// The next piece; `None` when the file is complete.
    ///
    /// # Errors
    /// `LimitExceeded` when a list or the offset table passes the 4 GiB of its length field, `Unavailable` when the scratch
    /// directory fails.
    pub fn take_output(&mut self) -> Result<Option<Bytes>> {
        let mut out = Vec::new();
        if self.position == self.toc.postings {
            out.resize((self.first_list - self.position) as usize, 0);
        }
        while out.len() < PIECE_BYTES && !matches!(self.phase, Phase::Done) {
            self.step(&mut out)?;
        }
        self.position += out.len() as u64;
        Ok((!out.is_empty()).then(|| out.into()))
    }

    /// What the index holds; complete once [`IndexTail::take_output`] has returned `None`.
    pub fn stats(&self) -> IndexStats {
        self.stats
    }

    fn step(&mut self, out: &mut Vec<u8>) -> Result<()> {
        match self.phase {
            Phase::Lists => match self.lists.head() {
                Some((key, count)) => self.begin_list(out, key, count),
                None => self.begin_table(out),
            },
            Phase::List { key, crc } => {
                let start = out.len();
                let room = PIECE_BYTES / 4;
                let emit = |r: u32| out.extend_from_slice(&r.to_be_bytes());
                let drained = self.lists.drain(key, room, emit)?;
                let crc = crc32c_append(crc, &out[start..]);
                self.phase = match drained {
                    Drained::More => Phase::List { key, crc },
                    Drained::End => {
                        out.extend_from_slice(&crc.to_be_bytes());
                        Phase::Lists
                    }
                };
                Ok(())
            }
            Phase::Table { next, offset, crc } => {
                self.table_entries(out, next, offset, crc);
                Ok(())
            }
            Phase::Done => Ok(()),
        }
    }

    fn begin_list(&mut self, out: &mut Vec<u8>, key: PairKey, count: u64) -> Result<()> {
        let len = u32::try_from(4 + 4 * count)
            .map_err(|_| Error::LimitExceeded(format!("a postings list of {count} series")))?;
        out.extend_from_slice(&len.to_be_bytes());
        let count = (count as u32).to_be_bytes();
        out.extend_from_slice(&count);
        self.written.push((key, u32::from_be_bytes(count)));
        let crc = crc32c_append(0, &count);
        self.phase = Phase::List { key, crc };
        Ok(())
    }

    fn begin_table(&mut self, out: &mut Vec<u8>) -> Result<()> {
        let at = self.position + out.len() as u64;
        self.toc.postings_table = at;
        self.toc.label_offset_table = at;
        let mut offset = self.first_list;
        let mut len = 4;
        let mut last_name = 0;
        for &(key, count) in &self.written {
            let (name, value) = self.strings(key);
            let text = |s: &str| uvarint_len(s.len() as u64) + s.len();
            len += (1 + text(name) + text(value) + uvarint_len(offset)) as u64;
            offset += list_len(count);
            if key >> 32 != last_name {
                last_name = key >> 32;
                self.stats.label_name_count += 1;
            }
        }
        self.stats.label_pair_count = self.written.len() as u64 - 1;
        let len = u32::try_from(len)
            .map_err(|_| Error::LimitExceeded(format!("a postings offset table of {len} bytes")))?;
        out.extend_from_slice(&len.to_be_bytes());
        let count = (self.written.len() as u32).to_be_bytes();
        out.extend_from_slice(&count);
        self.phase = Phase::Table {
            next: 0,
            offset: self.first_list,
            crc: crc32c_append(0, &count),
        };
        Ok(())
    }

    fn table_entries(&mut self, out: &mut Vec<u8>, mut next: usize, mut offset: u64, crc: u32) {
        let start = out.len();
        while let Some(&(key, count)) = self.written.get(next)
            && out.len() < PIECE_BYTES
        {
            let (name, value) = self.strings(key);
            put_uvarint(out, OFFSET_KEY_COUNT);
            put_bytes(out, name.as_bytes());
            put_bytes(out, value.as_bytes());
            put_uvarint(out, offset);
            offset += list_len(count);
            next += 1;
        }
        let crc = crc32c_append(crc, &out[start..]);
        if next < self.written.len() {
            self.phase = Phase::Table { next, offset, crc };
            return;
        }
        out.extend_from_slice(&crc.to_be_bytes());
        self.toc.encode(out);
        self.stats.size_bytes = self.position + out.len() as u64;
        self.phase = Phase::Done;
    }

    fn strings(&self, key: PairKey) -> (&str, &str) {
        let text = |symbol| {
            let known = "the encoder checks every symbol it is given";
            self.symbols.get(symbol).expect(known)
        };
        (text((key >> 32) as u32), text(key as u32))
    }
}

/// Bytes of a list's section; a multiple of 4, so that the next list needs no padding.
fn list_len(count: u32) -> u64 {
    12 + 4 * u64::from(count)
}
