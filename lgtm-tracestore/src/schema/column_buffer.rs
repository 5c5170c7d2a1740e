//! One leaf of the row group that is being written: values and levels, encoded page by page.
//!
//! Pages are encoded here; the `parquet` crate writes headers and footer. Its own column writer takes some 25 ns a value and level, and blocks have a
//! hundred of them a span. What is encoded and compressed is kept in memory until the row group is complete, since a column's bytes lie together in
//! the file, behind its dictionary.

use bytes::Bytes;
use parquet::basic::{Compression, Encoding, PageType, ZstdLevel};
use parquet::column::page::{CompressedPage, Page, PageWriter};
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ColumnChunkMetaData, OffsetIndexBuilder, PageEncodingStats};
use parquet::file::writer::{SerializedPageWriter, TrackedWrite};
use parquet::schema::types::ColumnDescPtr;

use crate::schema::encode::{put_deltas, put_hybrid};
use crate::schema::level_packer::{LevelPacker, REP_SHIFT};
use crate::schema::page_facts::{PageFacts, column_index};
use crate::schema::text_table::TextTable;
use crate::schema::value_range::ValueRange;
use crate::schema::{Leaf, LeafCodec, LeafEncoding, LeafKind};

/// Entries of levels at which a page ends, however small it is: they wait unpacked. Fewer where pages are small: one for each so many bytes of a page.
const PAGE_ENTRIES: usize = 32 << 10;
const BYTES_AN_ENTRY: usize = 4;
/// Rows at which it does.
const PAGE_ROWS: u32 = 20_000;

/// A leaf of a row group under way.
pub(crate) struct ColumnBuffer {
    leaf: Leaf,
    descr: ColumnDescPtr,
    page_bytes: usize,
    values: Buffered,
    /// Levels of definition, and above them, from the bit [`REP_SHIFT`] on, those of repetition.
    levels: Vec<u8>,
    /// Rows of the page under way.
    rows: u32,
    pages: Vec<EncodedPage>,
    range: ValueRange,
    facts: Vec<PageFacts>,
    totals: Totals,
    scratch: Vec<u8>,
}

/// Values of the page under way.
enum Buffered {
    Dictionary { table: TextTable, codes: Vec<u32> },
    Bytes { bytes: Vec<u8>, lengths: Vec<i32> },
    Int64(Vec<i64>),
    Int32(Vec<i32>),
    Double(Vec<f64>),
    Bool(Vec<bool>),
}

/// A page that lacks only its header.
struct EncodedPage {
    body: Bytes,
    uncompressed_bytes: usize,
    entries: u32,
    nulls: u32,
    rows: u32,
    def_bytes: u32,
    rep_bytes: u32,
    is_compressed: bool,
}

/// Of all pages.
#[derive(Default)]
struct Totals {
    entries: u64,
    nulls: u64,
    rows: u64,
    bytes: usize,
}

impl ColumnBuffer {
    /// An empty one, whose pages end at about so many bytes before compression.
    pub(crate) fn new(leaf: &Leaf, descr: ColumnDescPtr, page_bytes: usize) -> Self {
        let values = match (leaf.kind, leaf.encoding) {
            (LeafKind::Bytes | LeafKind::Text, LeafEncoding::Dictionary) => Buffered::Dictionary {
                table: TextTable::default(),
                codes: Vec::new(),
            },
            (LeafKind::Bytes | LeafKind::Text, _) => Buffered::Bytes {
                bytes: Vec::new(),
                lengths: Vec::new(),
            },
            (LeafKind::U64 | LeafKind::I64, _) => Buffered::Int64(Vec::new()),
            (LeafKind::U32 | LeafKind::I32, _) => Buffered::Int32(Vec::new()),
            (LeafKind::Double, _) => Buffered::Double(Vec::new()),
            (LeafKind::Bool, _) => Buffered::Bool(Vec::new()),
        };
        Self {
            range: ValueRange::new(leaf.kind),
            leaf: leaf.clone(),
            descr,
            page_bytes,
            values,
            levels: Vec::new(),
            rows: 0,
            pages: Vec::new(),
            facts: Vec::new(),
            totals: Totals::default(),
            scratch: Vec::new(),
        }
    }

    /// Appends a text or bytes.
    #[inline]
    pub(crate) fn put_bytes(&mut self, rep: i16, value: &[u8]) {
        self.put_levels(rep, self.leaf.max_def);
        match &mut self.values {
            Buffered::Dictionary { table, codes } => codes.push(table.number(value)),
            Buffered::Bytes { bytes, lengths } => {
                bytes.extend_from_slice(value);
                lengths.push(value.len() as i32);
            }
            _ => {}
        }
    }

    /// Appends an integer of 32 or 64 bits.
    #[inline]
    pub(crate) fn put_int(&mut self, rep: i16, value: i64) {
        self.put_levels(rep, self.leaf.max_def);
        match &mut self.values {
            Buffered::Int64(values) => values.push(value),
            Buffered::Int32(values) => values.push(value as i32),
            _ => {}
        }
    }

    /// Appends a float.
    #[inline]
    pub(crate) fn put_double(&mut self, rep: i16, value: f64) {
        self.put_levels(rep, self.leaf.max_def);
        if let Buffered::Double(values) = &mut self.values {
            values.push(value);
        }
    }

    /// Appends a boolean.
    #[inline]
    pub(crate) fn put_bool(&mut self, rep: i16, value: bool) {
        self.put_levels(rep, self.leaf.max_def);
        if let Buffered::Bool(values) = &mut self.values {
            values.push(value);
        }
    }

    /// Says that there is no value, down to which level something is there.
    #[inline]
    pub(crate) fn put_null(&mut self, rep: i16, def: i16) {
        self.put_levels(rep, def as u8);
    }

    #[inline]
    fn put_levels(&mut self, rep: i16, def: u8) {
        // What is in no list has no levels of repetition: its elements all begin rows.
        if self.leaf.max_def > 0 {
            self.levels.push(def | (rep as u8) << REP_SHIFT);
        }
    }

    /// Ends a row, and the page where it is large enough: pages begin with rows.
    #[inline]
    pub(crate) fn end_row(&mut self, packer: &mut Packer) -> Result<()> {
        self.rows += 1;
        if self.rows >= PAGE_ROWS
            || self.levels.len() >= PAGE_ENTRIES.min(self.page_bytes / BYTES_AN_ENTRY)
            || self.values.bytes() >= self.page_bytes
        {
            self.end_page(packer)?;
        }
        Ok(())
    }

    /// Bytes encoded so far, and bytes waiting for it.
    pub(crate) fn memory(&self) -> usize {
        let waiting = match &self.values {
            Buffered::Dictionary { table, codes } => table.memory() + codes.capacity() * 4,
            Buffered::Bytes { bytes, lengths } => bytes.capacity() + lengths.capacity() * 4,
            Buffered::Int64(values) => values.capacity() * 8,
            Buffered::Int32(values) => values.capacity() * 4,
            Buffered::Double(values) => values.capacity() * 8,
            Buffered::Bool(values) => values.capacity(),
        };
        waiting + self.levels.capacity() + self.scratch.capacity() + self.totals.bytes
    }

    /// How pages are compressed: texts with a dictionary by zstd, which takes a third less than Snappy, ids of parents, which siblings share (a third
    /// less than without), and the hexadecimal digits of ids of traces (half). Readers go by what the footer says.
    fn codec(&self) -> LeafCodec {
        let is_repetitive =
            self.leaf.path.ends_with(".ParentSpanID") || self.leaf.path == "TraceIDText";
        match (self.leaf.codec, self.leaf.encoding) {
            (LeafCodec::Snappy, LeafEncoding::Dictionary) => LeafCodec::Zstd,
            _ if is_repetitive => LeafCodec::Zstd,
            (codec, _) => codec,
        }
    }

    /// Encodes what waits.
    fn end_page(&mut self, packer: &mut Packer) -> Result<()> {
        let values = self.values.len();
        let entries = if self.leaf.max_def > 0 {
            self.levels.len()
        } else {
            values
        };
        let nulls = (entries - values) as u32;
        // In memory of its own a page would be as large as it might have become.
        let mut body = std::mem::take(&mut packer.body);
        body.clear();
        let rep_bytes = packer.levels.put(&self.leaf, &self.levels, &mut body);
        let levels = body.len();
        self.scratch.clear();
        self.values.encode(self.leaf.encoding, &mut self.scratch);
        let is_compressed = packer.pack(self.codec(), &self.scratch, &mut body)?;
        let statistics = self
            .values
            .statistics(self.leaf.bounds, &mut self.range, nulls);
        self.facts
            .push(PageFacts::new(entries as u32, nulls, statistics.as_ref()));
        if let Some(last) = self.facts.last_mut()
            && !self.leaf.bounds
        {
            last.bounds = Some(Default::default());
        }
        self.totals.entries += entries as u64;
        self.totals.nulls += u64::from(nulls);
        self.totals.rows += u64::from(self.rows);
        self.totals.bytes += body.len();
        self.pages.push(EncodedPage {
            uncompressed_bytes: levels + self.scratch.len(),
            body: Bytes::copy_from_slice(&body),
            entries: entries as u32,
            nulls,
            rows: self.rows,
            def_bytes: (levels - rep_bytes) as u32,
            rep_bytes: rep_bytes as u32,
            is_compressed,
        });
        packer.body = body;
        self.values.clear();
        self.levels.clear();
        self.rows = 0;
        Ok(())
    }

    /// The column's bytes, and what the footer says of them. Leaves an empty column, with the memory of this one.
    pub(crate) fn close(&mut self, packer: &mut Packer) -> Result<(Bytes, ColumnCloseResult)> {
        if self.rows > 0 {
            self.end_page(packer)?;
        }
        // Pages, their headers, and a dictionary, which is about as large.
        let room = 2 * self.totals.bytes + 64 * (self.pages.len() + 1);
        let mut bytes = TrackedWrite::new(Vec::with_capacity(room));
        let mut writer = SerializedPageWriter::new(&mut bytes);
        let mut uncompressed = 0;
        let mut dictionary_offset = None;
        let mut encodings = Vec::new();
        let mut stats = Vec::new();
        if let Buffered::Dictionary { table, .. } = &self.values {
            let page = dictionary_page(table, self.codec(), packer)?;
            let written = writer.write_page(page)?;
            uncompressed += written.uncompressed_size;
            dictionary_offset = Some(written.offset as i64);
            encodings.push(Encoding::PLAIN);
            stats.push(PageEncodingStats {
                page_type: PageType::DICTIONARY_PAGE,
                encoding: Encoding::PLAIN,
                count: 1,
            });
        }
        let encoding = encoding_of(&self.leaf);
        let mut index = OffsetIndexBuilder::new();
        let mut data_offset = 0;
        let count = self.pages.len();
        for (n, page) in std::mem::take(&mut self.pages).into_iter().enumerate() {
            index.append_row_count(page.rows.into());
            let written = writer.write_page(page.finished(encoding))?;
            index.append_offset_and_size(written.offset as i64, written.compressed_size as i32);
            uncompressed += written.uncompressed_size;
            if n == 0 {
                data_offset = written.offset as i64;
            }
        }
        // Without levels there is nothing that is run-length encoded.
        if self.leaf.max_def > 0 {
            encodings.push(Encoding::RLE);
        }
        if !encodings.contains(&encoding) {
            encodings.push(encoding);
        }
        stats.push(PageEncodingStats {
            page_type: PageType::DATA_PAGE_V2,
            encoding,
            count: count as i32,
        });
        let bytes = bytes.into_inner()?;
        let metadata = ColumnChunkMetaData::builder(self.descr.clone())
            .set_compression(compression_of(self.codec()))
            .set_encodings(encodings)
            .set_page_encoding_stats(stats)
            .set_total_compressed_size(bytes.len() as i64)
            .set_total_uncompressed_size(uncompressed as i64)
            .set_num_values(self.totals.entries as i64)
            .set_data_page_offset(data_offset)
            .set_dictionary_page_offset(dictionary_offset)
            .set_statistics(self.range.statistics(self.totals.nulls, self.leaf.bounds))
            .build()?;
        let closed = ColumnCloseResult {
            bytes_written: bytes.len() as u64,
            rows_written: self.totals.rows,
            metadata,
            bloom_filter: None,
            column_index: column_index(self.descr.physical_type(), &self.facts)?,
            offset_index: Some(index.build()),
        };
        if let Buffered::Dictionary { table, .. } = &mut self.values {
            table.clear();
        }
        self.facts.clear();
        self.range = ValueRange::new(self.leaf.kind);
        self.totals = Totals::default();
        Ok((bytes.into(), closed))
    }
}

impl Buffered {
    fn len(&self) -> usize {
        match self {
            Self::Dictionary { codes, .. } => codes.len(),
            Self::Bytes { lengths, .. } => lengths.len(),
            Self::Int64(values) => values.len(),
            Self::Int32(values) => values.len(),
            Self::Double(values) => values.len(),
            Self::Bool(values) => values.len(),
        }
    }

    /// Bytes that they take in a page, about.
    #[inline]
    fn bytes(&self) -> usize {
        match self {
            Self::Dictionary { table, codes } => {
                codes.len() * (usize::BITS - table.len().leading_zeros()) as usize / 8
            }
            Self::Bytes { bytes, lengths } => bytes.len() + lengths.len(),
            Self::Int64(values) => values.len() * 8,
            Self::Int32(values) => values.len() * 4,
            Self::Double(values) => values.len() * 8,
            Self::Bool(values) => values.len() / 8,
        }
    }

    fn clear(&mut self) {
        match self {
            Self::Dictionary { codes, .. } => codes.clear(),
            Self::Bytes { bytes, lengths } => {
                bytes.clear();
                lengths.clear();
            }
            Self::Int64(values) => values.clear(),
            Self::Int32(values) => values.clear(),
            Self::Double(values) => values.clear(),
            Self::Bool(values) => values.clear(),
        }
    }

    fn encode(&self, encoding: LeafEncoding, out: &mut Vec<u8>) {
        match (self, encoding) {
            (Self::Dictionary { table, codes }, _) => {
                let width = usize::BITS - table.len().saturating_sub(1).leading_zeros();
                let width = width.clamp(1, 32) as u8;
                out.push(width);
                put_hybrid(codes, width, out);
            }
            (Self::Bytes { bytes, lengths }, _) => {
                put_deltas(lengths, out);
                out.extend_from_slice(bytes);
            }
            (Self::Int64(values), LeafEncoding::Delta) => put_deltas(values, out),
            (Self::Int32(values), LeafEncoding::Delta) => put_deltas(values, out),
            (Self::Int64(values), _) => out.extend(values.iter().flat_map(|v| v.to_le_bytes())),
            (Self::Int32(values), _) => out.extend(values.iter().flat_map(|v| v.to_le_bytes())),
            (Self::Double(values), _) => out.extend(values.iter().flat_map(|v| v.to_le_bytes())),
            (Self::Bool(values), _) => {
                let packed = |bits: &[bool]| {
                    let bits = bits.iter().enumerate();
                    bits.fold(0u8, |byte, (n, bit)| byte | u8::from(*bit) << n)
                };
                out.extend(values.chunks(8).map(packed));
            }
        }
    }

    /// Least and greatest value of the page, which widen the range of the chunk.
    fn statistics(
        &self,
        with_bounds: bool,
        range: &mut ValueRange,
        nulls: u32,
    ) -> Option<parquet::file::statistics::Statistics> {
        if !with_bounds {
            return None;
        }
        let mut of_page = range.empty();
        match self {
            Self::Dictionary { table, codes } => of_page.add_codes(table, codes),
            Self::Bytes { bytes, lengths } => {
                let mut start = 0;
                for len in lengths {
                    let end = start + *len as usize;
                    of_page.add_text(&bytes[start..end]);
                    start = end;
                }
            }
            Self::Int64(values) => values.iter().for_each(|v| of_page.add_int(*v)),
            Self::Int32(values) => values.iter().for_each(|v| of_page.add_int((*v).into())),
            Self::Double(values) => values.iter().for_each(|v| of_page.add_double(*v)),
            Self::Bool(values) => values.iter().for_each(|v| of_page.add_int((*v).into())),
        }
        range.widen(&of_page);
        Some(of_page.statistics(nulls.into(), true))
    }
}

impl EncodedPage {
    fn finished(self, encoding: Encoding) -> CompressedPage {
        let page = Page::DataPageV2 {
            buf: self.body,
            num_values: self.entries,
            encoding,
            num_nulls: self.nulls,
            num_rows: self.rows,
            def_levels_byte_len: self.def_bytes,
            rep_levels_byte_len: self.rep_bytes,
            is_compressed: self.is_compressed,
            // The index of pages has it.
            statistics: None,
        };
        CompressedPage::new(page, self.uncompressed_bytes)
    }
}

fn dictionary_page(
    table: &TextTable,
    codec: LeafCodec,
    packer: &mut Packer,
) -> Result<CompressedPage> {
    let mut plain = Vec::new();
    table.put_plain(&mut plain);
    let mut body = Vec::new();
    // Pages of dictionaries do not say that they are not compressed.
    packer.pack_anyway(codec, &plain, &mut body)?;
    let page = Page::DictionaryPage {
        buf: body.into(),
        num_values: table.len() as u32,
        encoding: Encoding::PLAIN,
        is_sorted: false,
    };
    Ok(CompressedPage::new(page, plain.len()))
}

/// Compresses pages, all with the same memory.
pub(crate) struct Packer {
    snappy: snap::raw::Encoder,
    zstd: Option<zstd::bulk::Compressor<'static>>,
    levels: LevelPacker,
    /// Of the page at hand.
    body: Vec<u8>,
}

impl Packer {
    pub(crate) fn new() -> Self {
        Self {
            snappy: snap::raw::Encoder::new(),
            zstd: None,
            levels: LevelPacker::default(),
            body: Vec::new(),
        }
    }

    /// Appends bytes compressed, or as they are where that is no gain; whether they are compressed.
    fn pack(&mut self, codec: LeafCodec, bytes: &[u8], out: &mut Vec<u8>) -> Result<bool> {
        let from = out.len();
        if codec != LeafCodec::None && !bytes.is_empty() {
            self.pack_anyway(codec, bytes, out)?;
            if out.len() - from < bytes.len() {
                return Ok(true);
            }
            out.truncate(from);
        }
        out.extend_from_slice(bytes);
        Ok(false)
    }

    fn pack_anyway(&mut self, codec: LeafCodec, bytes: &[u8], out: &mut Vec<u8>) -> Result<()> {
        let failed = |e: &dyn std::fmt::Display| ParquetError::General(format!("compression: {e}"));
        let from = out.len();
        let len = match codec {
            LeafCodec::None => {
                out.extend_from_slice(bytes);
                return Ok(());
            }
            LeafCodec::Snappy => {
                out.resize(from + snap::raw::max_compress_len(bytes.len()), 0);
                let len = self.snappy.compress(bytes, &mut out[from..]);
                len.map_err(|e| failed(&e))?
            }
            LeafCodec::Zstd => {
                let level = ZstdLevel::default().compression_level();
                let zstd = match &mut self.zstd {
                    Some(zstd) => zstd,
                    none => {
                        let new = zstd::bulk::Compressor::new(level);
                        none.insert(new.map_err(|e| failed(&e))?)
                    }
                };
                out.resize(from + zstd::zstd_safe::compress_bound(bytes.len()), 0);
                let len = zstd.compress_to_buffer(bytes, &mut out[from..]);
                len.map_err(|e| failed(&e))?
            }
        };
        out.truncate(from + len);
        Ok(())
    }
}

fn compression_of(codec: LeafCodec) -> Compression {
    match codec {
        LeafCodec::None => Compression::UNCOMPRESSED,
        LeafCodec::Snappy => Compression::SNAPPY,
        LeafCodec::Zstd => Compression::ZSTD(ZstdLevel::default()),
    }
}

fn encoding_of(leaf: &Leaf) -> Encoding {
    match leaf.encoding {
        LeafEncoding::Plain => Encoding::PLAIN,
        LeafEncoding::Delta => Encoding::DELTA_BINARY_PACKED,
        LeafEncoding::DeltaLength => Encoding::DELTA_LENGTH_BYTE_ARRAY,
        LeafEncoding::Dictionary => Encoding::RLE_DICTIONARY,
    }
}
