//! The part of an index file behind its series: label index sections, postings lists, offset tables, fingerprints, the table of contents.
//!
//! It comes out in pieces of about a megabyte; a longer list is one piece.

use bytes::Bytes;
use lgtm_core::codec::{crc32c, put_bytes, put_uvarint};
use lgtm_core::index::{Drained, OFFSET_KEY_COUNT, PairKey, PostingsLists, SymbolTable};
use lgtm_core::{Error, Result};

use crate::index::encoder::IndexStats;
use crate::index::fingerprint_offsets::FingerprintOffsets;
use crate::index::toc::IndexToc;

const PIECE_BYTES: usize = 1 << 20;

/// Hands out the end of an index file.
#[derive(Debug)]
pub struct IndexTail {
    symbols: SymbolTable,
    lists: PostingsLists,
    /// Name and value ordinals in use, ascending.
    pairs: Vec<u64>,
    /// Names with the places of their label index sections.
    label_sections: Vec<(u32, u64)>,
    fingerprints: FingerprintOffsets,
    toc: IndexToc,
    stats: IndexStats,
    /// The lists written, with their places.
    written: Vec<(PairKey, u64)>,
    position: u64,
    phase: Phase,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    LabelSections,
    Lists,
    Tables,
    Done,
}

impl IndexTail {
    pub(super) fn new(
        symbols: SymbolTable,
        lists: PostingsLists,
        pairs: Vec<u64>,
        fingerprints: FingerprintOffsets,
        toc: IndexToc,
        stats: IndexStats,
    ) -> Self {
        Self {
            symbols,
            lists,
            pairs,
            label_sections: Vec::new(),
            fingerprints,
            position: toc.label_indices,
            toc,
            stats,
            written: Vec::new(),
            phase: Phase::LabelSections,
        }
    }

    /// The next piece; `None` when the file is complete.
    ///
    /// # Errors
    /// `LimitExceeded` when a section passes the 4 GiB of its length field, `Unavailable` when the scratch directory fails.
    pub fn take_output(&mut self) -> Result<Option<Bytes>> {
        let mut out = Vec::new();
        while out.len() < PIECE_BYTES {
            match self.phase {
                Phase::LabelSections => self.put_label_sections(&mut out)?,
                Phase::Lists => match self.lists.head() {
                    Some((key, count)) => self.put_list(&mut out, key, count)?,
                    None => self.phase = Phase::Tables,
                },
                Phase::Tables => self.put_tables(&mut out)?,
                Phase::Done => break,
            }
        }
        self.position += out.len() as u64;
        Ok((!out.is_empty()).then(|| out.into()))
    }

    /// What the file holds; complete once [`IndexTail::take_output`] has returned `None`.
    pub fn stats(&self) -> IndexStats {
        self.stats
    }

    fn at(&self, out: &[u8]) -> u64 {
        self.position + out.len() as u64
    }

    fn pad(&self, out: &mut Vec<u8>) {
        let at = self.at(out);
        out.resize(out.len() + (at.next_multiple_of(4) - at) as usize, 0);
    }

    /// For each name, its values. Nobody reads these.
    fn put_label_sections(&mut self, out: &mut Vec<u8>) -> Result<()> {
        for of_name in self.pairs.chunk_by(|a, b| a >> 32 == b >> 32) {
            self.pad(out);
            self.label_sections
                .push(((of_name[0] >> 32) as u32, self.at(out)));
            section(out, "a label index section", |out| {
                out.extend_from_slice(&1u32.to_be_bytes());
                out.extend_from_slice(&(of_name.len() as u32).to_be_bytes());
                for pair in of_name {
                    out.extend_from_slice(&(*pair as u32).to_be_bytes());
                }
            })?;
        }
        self.pairs = Vec::new();
        self.toc.postings = self.at(out);
        self.pad(out);
        self.phase = Phase::Lists;
        Ok(())
    }

    fn put_list(&mut self, out: &mut Vec<u8>, key: PairKey, count: u64) -> Result<()> {
        self.written.push((key, self.at(out)));
        let mut drained = Ok(Drained::More);
        section(out, "a postings list", |out| {
            out.extend_from_slice(&(count as u32).to_be_bytes());
            while let Ok(Drained::More) = drained {
                let emit = |r: u32| out.extend_from_slice(&r.to_be_bytes());
                drained = self.lists.drain(key, PIECE_BYTES / 4, emit);
            }
        })?;
        drained.map(drop)
    }

    fn put_tables(&mut self, out: &mut Vec<u8>) -> Result<()> {
        self.toc.label_offset_table = self.at(out);
        section(out, "the label offset table", |out| {
            out.extend_from_slice(&(self.label_sections.len() as u32).to_be_bytes());
            for (name, at) in &self.label_sections {
                put_uvarint(out, 1);
                put_bytes(out, text(&self.symbols, *name).as_bytes());
                put_uvarint(out, *at);
            }
        })?;
        self.toc.postings_table = self.at(out);
        section(out, "the postings offset table", |out| {
            out.extend_from_slice(&(self.written.len() as u32).to_be_bytes());
            for (key, at) in &self.written {
                put_uvarint(out, OFFSET_KEY_COUNT);
                // Ordinals count from 1 here; 0 is the empty text of the list of all series.
                for ordinal in [(key >> 32) as u32, *key as u32] {
                    let text = ordinal.checked_sub(1).map(|o| text(&self.symbols, o));
                    put_bytes(out, text.unwrap_or_default().as_bytes());
                }
                put_uvarint(out, *at);
            }
        })?;
        self.toc.fingerprint_offsets = self.at(out);
        self.fingerprints.encode(out);
        self.stats.checksum = self.toc.encode(out);
        self.stats.size_bytes = self.at(out);
        self.phase = Phase::Done;
        Ok(())
    }
}

fn text(symbols: &SymbolTable, ordinal: u32) -> &str {
    let known = "the encoder checks every symbol it is given";
    symbols.get(ordinal).expect(known)
}

/// A length, what `body` appends, a checksum of that.
fn section(out: &mut Vec<u8>, what: &str, body: impl FnOnce(&mut Vec<u8>)) -> Result<()> {
    let start = out.len() + 4;
    out.extend_from_slice(&[0; 4]);
    body(out);
    let len = out.len() - start;
    let len = u32::try_from(len)
        .map_err(|_| Error::LimitExceeded(format!("{what} of {len} bytes exceeds 4 GiB")))?;
    out[start - 4..start].copy_from_slice(&len.to_be_bytes());
    let crc = crc32c(&out[start..]);
    out.extend_from_slice(&crc.to_be_bytes());
    Ok(())
}
