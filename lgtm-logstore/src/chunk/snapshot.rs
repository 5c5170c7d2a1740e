//! What a reader sees of a chunk in the making.

use std::sync::Arc;

use bytes::Bytes;
use lgtm_core::DecodeError;
use lgtm_core::codec::DecodeFail;
use lgtm_core::model::TimestampNs;

use crate::chunk::builder::ChunkBuilder;
use crate::chunk::chunk::{ChunkCodec, unpack_block};
use crate::chunk::layout::{BlockPlace, ChunkHeader};
use crate::entry::{EntryBlock, SymbolList};

/// A chunk in the making as it was at some moment: its blocks, shared, and a copy of what was not compressed.
#[derive(Debug)]
pub struct BuilderSnapshot {
    /// The blocks, in the order in which they were cut; they may overlap in time.
    pub packed: Vec<PackedBlock>,
    /// What was not compressed yet.
    pub head: Option<EntryBlock>,
}

/// A compressed block of a chunk in the making.
#[derive(Debug, Clone)]
pub struct PackedBlock {
    header: ChunkHeader,
    place: BlockPlace,
    bytes: Bytes,
    symbols: Arc<SymbolList>,
}

impl PackedBlock {
    /// What the table of the chunk will say of it; its start is not known yet.
    pub fn place(&self) -> &BlockPlace {
        &self.place
    }

    /// Decompresses the block and names its entries.
    ///
    /// # Errors
    /// [`DecodeFail::Refused`] when more comes out than the bound of `codec`.
    pub fn read(&self, codec: &mut ChunkCodec) -> Result<EntryBlock, DecodeFail> {
        unpack_block(self.header, &self.bytes, &self.place, &self.symbols, codec)
    }
}

impl ChunkBuilder {
    /// What has entries with `min_ns <= time < max_ns`, whole blocks. Costs a copy of what is not compressed, and of the symbols.
    ///
    /// # Errors
    /// None that is known: the bytes were encoded here.
    pub fn snapshot(
        &self,
        min_ns: TimestampNs,
        max_ns: TimestampNs,
    ) -> Result<BuilderSnapshot, DecodeError> {
        let symbols = Arc::new(self.symbols.list().clone());
        let header = self.header();
        let wanted = self.blocks.iter();
        let wanted = wanted.filter(|b| b.place.overlaps(min_ns, max_ns));
        let packed = wanted.map(|b| PackedBlock {
            header,
            place: b.place,
            bytes: b.packed(),
            symbols: Arc::clone(&symbols),
        });
        let packed = packed.collect();
        let head = match self.head.time_range() {
            Some((first, last)) if first < max_ns && min_ns <= last => {
                Some(self.head.entries(self.format, &symbols)?)
            }
            _ => None,
        };
        Ok(BuilderSnapshot { packed, head })
    }
}
