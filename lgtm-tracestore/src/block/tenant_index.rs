//! The list of a tenant's blocks, as JSON and as protobuf (docs/format/block.md).

use lgtm_core::codec::protobuf::{
    bytes_tag, put_bytes_field, put_message, put_varint_field, skip, varint_tag,
};
use lgtm_core::codec::{Compression, Compressor, DecodeFail, Decompressor, OutputSize, Reader};
use lgtm_core::go::json::{self, null_as_default};
use lgtm_core::model::TimestampNs;
use lgtm_core::{DecodeError, Result};
use serde::{Deserialize, Serialize};

use crate::block::{BlockMeta, CompactedBlockMeta, time};
use crate::block_id::BlockId;
use crate::trace::DedicatedColumns;

/// The blocks of a tenant at some time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantIndex {
    /// When the list was made.
    #[serde(rename = "created_at", with = "time")]
    pub created: TimestampNs,
    /// Blocks that serve.
    #[serde(default, deserialize_with = "null_as_default")]
    pub meta: Vec<BlockMeta>,
    /// Blocks that will be deleted.
    #[serde(default, deserialize_with = "null_as_default")]
    pub compacted: Vec<CompactedBlockMeta>,
}

const WHAT: &str = "tenant index";
/// The name of the file within the gzip stream, as Tempo has it.
const NAME_IN_GZIP: &[u8] = b"index.json\0";

impl TenantIndex {
    /// Reads `index.json.gz`, of which at most `max_bytes` come out.
    ///
    /// # Errors
    /// [`DecodeFail::Broken`] for what is no such file, [`DecodeFail::Refused`] with `LimitExceeded` for one that is larger.
    pub fn decode_json_gzip(file: &[u8], max_bytes: usize) -> Result<Self, DecodeFail> {
        let json = unpacked(Compression::Gzip, file, max_bytes)?;
        Ok(json::decode(WHAT, &json)?)
    }

    /// Reads `index.pb.zst`, of which at most `max_bytes` come out.
    ///
    /// # Errors
    /// As [`TenantIndex::decode_json_gzip`].
    pub fn decode_protobuf_zstd(file: &[u8], max_bytes: usize) -> Result<Self, DecodeFail> {
        let bytes = unpacked(Compression::Zstd, file, max_bytes)?;
        Ok(Self::decode_protobuf(&bytes)?)
    }

    /// Writes `index.json.gz`.
    ///
    /// # Errors
    /// `Internal` if it cannot be made, which does not happen.
    pub fn encode_json_gzip(&self) -> Result<Vec<u8>> {
        const FLAGS_AT: usize = 3;
        const HEADER_BYTES: usize = 10;
        const HAS_NAME: u8 = 8;
        let json = json::encode_compact(self)?;
        let spare = NAME_IN_GZIP.len();
        let mut out = Compressor::default().compressed(Compression::Gzip, &json, spare)?;
        if let Some(flags) = out.get_mut(FLAGS_AT) {
            *flags |= HAS_NAME;
            out.splice(HEADER_BYTES..HEADER_BYTES, NAME_IN_GZIP.iter().copied());
        }
        Ok(out)
    }

    /// Writes `index.pb.zst`.
    ///
    /// # Errors
    /// `Internal` if it cannot be made, which does not happen.
    pub fn encode_protobuf_zstd(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.encode_protobuf(&mut bytes)?;
        Compressor::default().compressed(Compression::Zstd, &bytes, 0)
    }

    /// Appends the protobuf message `TenantIndex`, byte for byte as Tempo writes it.
    ///
    /// # Errors
    /// `Internal` if JSON cannot be made of the dedicated columns, which does not happen.
    pub fn encode_protobuf(&self, out: &mut Vec<u8>) -> Result<()> {
        put_message(out, 1, |out| time::encode(self.created, out));
        let mut body = Vec::new();
        for meta in &self.meta {
            body.clear();
            encode_meta(meta, &mut body)?;
            put_bytes_field(out, 2, &body);
        }
        for compacted in &self.compacted {
            body.clear();
            encode_meta(&compacted.meta, &mut body)?;
            put_message(out, 3, |out| {
                put_bytes_field(out, 1, &body);
                put_message(out, 2, |out| time::encode(compacted.compacted, out));
            });
        }
        Ok(())
    }

    /// Reads the protobuf message `TenantIndex`.
    ///
    /// # Errors
    /// For bytes that are none.
    pub fn decode_protobuf(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut out = Self {
            created: TimestampNs::EPOCH,
            meta: Vec::new(),
            compacted: Vec::new(),
        };
        let mut r = Reader::new(WHAT, bytes);
        while !r.is_empty() {
            match r.uvarint()? {
                tag if tag == bytes_tag(1) => out.created = time::decode(r.bytes()?)?,
                tag if tag == bytes_tag(2) => out.meta.push(decode_meta(r.bytes()?)?),
                tag if tag == bytes_tag(3) => out.compacted.push(decode_compacted(r.bytes()?)?),
                tag => skip(&mut r, tag)?,
            }
        }
        Ok(out)
    }
}

fn unpacked(with: Compression, file: &[u8], max_bytes: usize) -> Result<Vec<u8>, DecodeFail> {
    let mut out = Vec::new();
    let size = OutputSize::at_most(max_bytes);
    Decompressor::default().decompress(with, file, size, &mut out)?;
    Ok(out)
}

fn encode_meta(meta: &BlockMeta, out: &mut Vec<u8>) -> Result<()> {
    let number = |out: &mut Vec<u8>, field, v: u64| {
        if v != 0 {
            put_varint_field(out, field, v);
        }
    };
    put_bytes_field(out, 1, meta.format.as_bytes());
    put_bytes_field(out, 2, meta.block_id.as_bytes());
    put_bytes_field(out, 5, meta.tenant_id.as_bytes());
    put_message(out, 6, |out| time::encode(meta.start, out));
    put_message(out, 7, |out| time::encode(meta.end, out));
    number(out, 8, meta.trace_count);
    number(out, 9, meta.size_bytes);
    number(out, 10, meta.compaction_level.into());
    number(out, 12, meta.index_page_size.into());
    number(out, 13, meta.row_group_count.into());
    number(out, 15, meta.bloom_shards.into());
    number(out, 16, meta.footer_size_bytes.into());
    if !meta.dedicated_columns.is_empty() {
        let columns = json::encode_compact(&meta.dedicated_columns)?;
        put_bytes_field(out, 17, &columns);
    }
    number(out, 18, meta.replication_factor.into());
    Ok(())
}

fn decode_meta(bytes: &[u8]) -> Result<BlockMeta, DecodeError> {
    let mut out = BlockMeta {
        format: String::new(),
        block_id: BlockId::default(),
        tenant_id: String::new(),
        start: TimestampNs::EPOCH,
        end: TimestampNs::EPOCH,
        trace_count: 0,
        size_bytes: 0,
        compaction_level: 0,
        index_page_size: 0,
        row_group_count: 0,
        bloom_shards: 0,
        footer_size_bytes: 0,
        dedicated_columns: DedicatedColumns::default(),
        replication_factor: 0,
    };
    let mut r = Reader::new("block meta", bytes);
    while !r.is_empty() {
        match r.uvarint()? {
            tag if tag == bytes_tag(1) => out.format = r.str()?.to_owned(),
            tag if tag == bytes_tag(2) => {
                let id = r.bytes()?;
                let id = id.try_into().map_err(|_| {
                    r.error(format!("a block ID of {} bytes, 16 are wanted", id.len()))
                })?;
                out.block_id = BlockId::from_bytes(id);
            }
            tag if tag == bytes_tag(5) => out.tenant_id = r.str()?.to_owned(),
            tag if tag == bytes_tag(6) => out.start = time::decode(r.bytes()?)?,
            tag if tag == bytes_tag(7) => out.end = time::decode(r.bytes()?)?,
            tag if tag == varint_tag(8) => out.trace_count = r.uvarint()?,
            tag if tag == varint_tag(9) => out.size_bytes = r.uvarint()?,
            tag if tag == varint_tag(10) => out.compaction_level = small(&mut r)?,
            tag if tag == varint_tag(12) => out.index_page_size = small(&mut r)?,
            tag if tag == varint_tag(13) => out.row_group_count = small(&mut r)?,
            tag if tag == varint_tag(15) => out.bloom_shards = small(&mut r)?,
            tag if tag == varint_tag(16) => out.footer_size_bytes = small(&mut r)?,
            tag if tag == bytes_tag(17) => {
                out.dedicated_columns = match r.bytes()? {
                    [] => DedicatedColumns::default(),
                    columns => json::decode("dedicated columns", columns)?,
                };
            }
            tag if tag == varint_tag(18) => out.replication_factor = small(&mut r)?,
            tag => skip(&mut r, tag)?,
        }
    }
    Ok(out)
}

fn small(r: &mut Reader<'_>) -> Result<u32, DecodeError> {
    let v = r.uvarint()?;
    u32::try_from(v).map_err(|_| r.error(format!("{v} does not fit 32 bits")))
}

fn decode_compacted(bytes: &[u8]) -> Result<CompactedBlockMeta, DecodeError> {
    let mut meta = None;
    let mut compacted = TimestampNs::EPOCH;
    let mut r = Reader::new("compacted block meta", bytes);
    while !r.is_empty() {
        match r.uvarint()? {
            tag if tag == bytes_tag(1) => meta = Some(decode_meta(r.bytes()?)?),
            tag if tag == bytes_tag(2) => compacted = time::decode(r.bytes()?)?,
            tag => skip(&mut r, tag)?,
        }
    }
    let meta = meta.ok_or_else(|| r.error("there is no meta"))?;
    Ok(CompactedBlockMeta { meta, compacted })
}
