//! A chunk in the making as bytes, for checkpoints of a log; private to one version of the program (`docs/format/head_records.md`).

use std::sync::Arc;

use bytes::Bytes;
use lgtm_core::DecodeError;
use lgtm_core::codec::{Reader, crc32c, put_bytes, put_svarint, put_uvarint};
use lgtm_core::model::TimestampNs;

use crate::chunk::block::decode_block;
use crate::chunk::builder::{ChunkBuilder, ChunkSettings, CutBlock};
use crate::chunk::encoding::ChunkEncoding;
use crate::chunk::format::ChunkFormat;
use crate::chunk::layout::{BlockPlace, CRC_LEN};

const WHAT: &str = "state of an open chunk";

impl ChunkBuilder {
    /// Appends the state: symbols, cut blocks as they are compressed, and what is not compressed.
    pub fn put_state(&self, out: &mut Vec<u8>) {
        out.push(self.format.version());
        out.push(self.settings.encoding.byte());
        let symbols = self.symbols.list();
        put_uvarint(out, symbols.len() as u64);
        for text in symbols.iter() {
            put_bytes(out, text.as_bytes());
        }
        put_uvarint(out, self.blocks.len() as u64);
        for CutBlock { place, bytes } in &self.blocks {
            put_uvarint(out, place.entry_count);
            put_svarint(out, place.min_ns.get());
            put_svarint(out, place.max_ns.get());
            put_uvarint(out, place.uncompressed_bytes);
            put_bytes(out, bytes);
        }
        put_uvarint(out, self.head.len() as u64);
        put_bytes(out, &self.head.sorted_bytes());
    }

    /// A chunk that goes on where another stood when its state was written. It keeps the encoding that it had; sizes are those of `settings`.
    ///
    /// # Errors
    /// For bytes that are no state.
    pub fn from_state(bytes: &[u8], settings: &Arc<ChunkSettings>) -> Result<Self, DecodeError> {
        let mut r = Reader::new(WHAT, bytes);
        let version = r.u8()?;
        let format = ChunkFormat::new(version).map_err(|e| r.error(e.to_string()))?;
        let byte = r.u8()?;
        let encoding = ChunkEncoding::from_byte(byte)
            .ok_or_else(|| r.error(format!("unknown encoding {byte}")))?;
        let settings = if settings.encoding == encoding {
            Arc::clone(settings)
        } else {
            Arc::new(ChunkSettings {
                encoding,
                ..ChunkSettings::clone(settings)
            })
        };
        let mut builder = Self::new(format, settings);
        for expected in 0..r.uvarint()? {
            let number = builder.symbols.intern(r.str()?);
            if number.map(u64::from) != Some(expected) {
                return Err(r.error(format!("symbol {expected} stands twice")));
            }
        }
        for _ in 0..r.uvarint()? {
            let block = cut_block(&mut r)?;
            builder.cut_bytes += block.place.len;
            builder.blocks.push(block);
        }
        let count = r.uvarint()?;
        let head = Bytes::copy_from_slice(r.bytes()?);
        let symbols = Arc::new(builder.symbols.list().clone());
        let head = decode_block(format, head, count, &symbols)?;
        let mut metadata = Vec::new();
        for entry in head.iter() {
            metadata.clear();
            metadata.extend(entry.metadata());
            (builder.append(entry.t_ns, entry.line, &metadata))
                .map_err(|e| r.error(e.to_string()))?;
        }
        if r.is_empty() {
            Ok(builder)
        } else {
            Err(r.error("bytes behind the end"))
        }
    }
}

fn cut_block(r: &mut Reader<'_>) -> Result<CutBlock, DecodeError> {
    let (entry_count, min_ns, max_ns) = (r.uvarint()?, r.svarint()?, r.svarint()?);
    let uncompressed_bytes = r.uvarint()?;
    let bytes = r.bytes()?;
    let Some((packed, crc)) = bytes.split_last_chunk::<CRC_LEN>() else {
        return Err(r.error("block without a checksum"));
    };
    if crc32c(packed) != u32::from_be_bytes(*crc) {
        return Err(r.error("checksum of a block does not match"));
    }
    Ok(CutBlock {
        place: BlockPlace {
            entry_count,
            min_ns: TimestampNs::new(min_ns),
            max_ns: TimestampNs::new(max_ns),
            start: 0,
            uncompressed_bytes,
            len: packed.len() as u64,
        },
        bytes: Bytes::copy_from_slice(bytes),
    })
}

#[cfg(test)]
mod tests {
    use lgtm_core::codec::Compressor;
    use proptest::prelude::*;

    use super::*;
    use crate::chunk::ChunkCodec;

    fn filled(entries: &[(i64, u8, u8)], encoding: ChunkEncoding) -> ChunkBuilder {
        let settings = ChunkSettings {
            encoding,
            block_size_bytes: 200,
            ..ChunkSettings::default()
        };
        let mut builder = ChunkBuilder::new(ChunkFormat::V4, Arc::new(settings));
        let mut compressor = Compressor::default();
        for (t, line, metadata) in entries {
            let value = metadata.to_string();
            let pairs = [("level", value.as_str())];
            let pairs = &pairs[..usize::from(*metadata > 0)];
            builder.append(*t, &[*line; 40], pairs).unwrap();
            if builder.is_block_full() {
                builder.cut(&mut compressor).unwrap();
            }
        }
        builder
    }

    proptest! {
        #[test]
        fn a_chunk_goes_on_where_it_stood(
            entries in prop::collection::vec((0i64..50, any::<u8>(), 0u8..4), 1..40),
            more in prop::collection::vec((0i64..50, any::<u8>(), 0u8..4), 0..10),
        ) {
            let mut before = filled(&entries, ChunkEncoding::Snappy);
            let mut state = Vec::new();
            before.put_state(&mut state);
            let mut after = ChunkBuilder::from_state(&state, &Arc::default()).unwrap();
            prop_assert_eq!(after.entry_count(), before.entry_count());
            prop_assert_eq!(after.time_range(), before.time_range());
            prop_assert_eq!(after.uncompressed_bytes(), before.uncompressed_bytes());
            for builder in [&mut before, &mut after] {
                for (t, line, _) in &more {
                    builder.append(*t, &[*line], &[]).unwrap();
                }
            }
            let (mut compressor, mut codec) = (Compressor::default(), ChunkCodec::default());
            let a = before.finish(&mut compressor, &mut codec).unwrap();
            let b = after.finish(&mut compressor, &mut codec).unwrap();
            prop_assert_eq!(a.entry_count, b.entry_count);
            prop_assert_eq!((a.min_ns, a.max_ns), (b.min_ns, b.max_ns));
        }

        #[test]
        fn bytes_that_are_no_state_are_refused(bytes: Vec<u8>, at in 0usize..1000, bit in 0u8..8) {
            let _ = ChunkBuilder::from_state(&bytes, &Arc::default());
            let mut state = Vec::new();
            filled(&[(1, b'a', 1), (2, b'b', 0), (3, b'c', 2), (4, b'd', 0), (5, b'e', 0), (6, b'f', 0)], ChunkEncoding::Gzip).put_state(&mut state);
            let at = at % state.len();
            state[at] ^= 1 << bit;
            let _ = ChunkBuilder::from_state(&state, &Arc::default());
            state.truncate(at);
            prop_assert!(ChunkBuilder::from_state(&state, &Arc::default()).is_err());
        }
    }
}
