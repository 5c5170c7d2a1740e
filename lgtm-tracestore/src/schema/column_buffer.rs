//! One leaf of the row group that is being written: values and levels, handed to the encoder some thousands at a time.
//!
//! What is encoded and compressed is kept in memory until the row group is complete, since a column's bytes lie together in the file.

use std::io::{self, Write};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use parquet::basic::{Encoding, Type as Physical};
use parquet::column::page::{CompressedPage, Page, PageWriteSpec, PageWriter};
use parquet::column::writer::{ColumnCloseResult, ColumnWriter, get_column_writer};
use parquet::data_type::ByteArray;
use parquet::errors::Result;
use parquet::file::properties::WriterPropertiesPtr;
use parquet::file::statistics::Statistics;
use parquet::file::writer::{SerializedPageWriter, TrackedWrite};
use parquet::schema::types::ColumnDescPtr;

use crate::schema::Leaf;
use crate::schema::page_facts::{PageFacts, column_index};

/// Values or levels at which a buffer goes to the encoder, at the end of a row.
const BATCH_VALUES: usize = 4096;
/// Bytes of texts at which it does.
const BATCH_BYTES: usize = 64 << 10;

/// A leaf of a row group under way.
pub(crate) struct ColumnBuffer {
    max_def: i16,
    has_rep: bool,
    bounds: bool,
    physical: Physical,
    values: Buffered,
    def: Vec<i16>,
    rep: Vec<i16>,
    writer: ColumnWriter<'static>,
    pages: SharedBytes,
}

/// Values not encoded yet.
enum Buffered {
    Bytes { bytes: Vec<u8>, ends: Vec<usize> },
    Int64(Vec<i64>),
    Int32(Vec<i32>),
    Double(Vec<f64>),
    Bool(Vec<bool>),
}

impl ColumnBuffer {
    /// An empty one.
    pub(crate) fn new(leaf: &Leaf, descr: ColumnDescPtr, properties: WriterPropertiesPtr) -> Self {
        let values = match descr.physical_type() {
            Physical::INT64 => Buffered::Int64(Vec::new()),
            Physical::INT32 => Buffered::Int32(Vec::new()),
            Physical::DOUBLE => Buffered::Double(Vec::new()),
            Physical::BOOLEAN => Buffered::Bool(Vec::new()),
            _ => Buffered::Bytes {
                bytes: Vec::new(),
                ends: Vec::new(),
            },
        };
        let pages = SharedBytes::default();
        let sink = MemoryPages {
            sink: TrackedWrite::new(pages.clone()),
            shared: pages.clone(),
        };
        Self {
            max_def: i16::from(leaf.max_def),
            has_rep: leaf.max_rep > 0,
            bounds: leaf.bounds,
            physical: descr.physical_type(),
            values,
            def: Vec::new(),
            rep: Vec::new(),
            writer: get_column_writer(descr, properties, Box::new(sink)),
            pages,
        }
    }

    /// Appends a text or bytes.
    #[inline]
    pub(crate) fn put_bytes(&mut self, rep: i16, value: &[u8]) {
        self.put_levels(rep, self.max_def);
        if let Buffered::Bytes { bytes, ends } = &mut self.values {
            bytes.extend_from_slice(value);
            ends.push(bytes.len());
        }
    }

    /// Appends an integer of 32 or 64 bits.
    #[inline]
    pub(crate) fn put_int(&mut self, rep: i16, value: i64) {
        self.put_levels(rep, self.max_def);
        match &mut self.values {
            Buffered::Int64(values) => values.push(value),
            Buffered::Int32(values) => values.push(value as i32),
            _ => {}
        }
    }

    /// Appends a float.
    #[inline]
    pub(crate) fn put_double(&mut self, rep: i16, value: f64) {
        self.put_levels(rep, self.max_def);
        if let Buffered::Double(values) = &mut self.values {
            values.push(value);
        }
    }

    /// Appends a boolean.
    #[inline]
    pub(crate) fn put_bool(&mut self, rep: i16, value: bool) {
        self.put_levels(rep, self.max_def);
        if let Buffered::Bool(values) = &mut self.values {
            values.push(value);
        }
    }

    /// Says that there is no value, down to which level something is there.
    #[inline]
    pub(crate) fn put_null(&mut self, rep: i16, def: i16) {
        self.put_levels(rep, def);
    }

    #[inline]
    fn put_levels(&mut self, rep: i16, def: i16) {
        if self.max_def > 0 {
            self.def.push(def);
        }
        if self.has_rep {
            self.rep.push(rep);
        }
    }

    /// Ends a row: hands over what is enough for a batch. Pages begin with rows, so batches do.
    pub(crate) fn end_row(&mut self) -> Result<()> {
        let is_enough = match &self.values {
            Buffered::Bytes { bytes, ends } => {
                bytes.len() >= BATCH_BYTES || ends.len() >= BATCH_VALUES
            }
            Buffered::Int64(values) => values.len() >= BATCH_VALUES,
            Buffered::Int32(values) => values.len() >= BATCH_VALUES,
            Buffered::Double(values) => values.len() >= BATCH_VALUES,
            Buffered::Bool(values) => values.len() >= BATCH_VALUES,
        };
        if is_enough || self.def.len() >= BATCH_VALUES {
            self.encode()?;
        }
        Ok(())
    }

    /// Bytes encoded so far, and bytes waiting for it.
    pub(crate) fn memory(&self) -> usize {
        let waiting = match &self.values {
            Buffered::Bytes { bytes, ends } => bytes.capacity() + ends.capacity() * 8,
            Buffered::Int64(values) => values.capacity() * 8,
            Buffered::Int32(values) => values.capacity() * 4,
            Buffered::Double(values) => values.capacity() * 8,
            Buffered::Bool(values) => values.capacity(),
        };
        let encoded = match &self.writer {
            ColumnWriter::BoolColumnWriter(w) => w.get_total_bytes_written(),
            ColumnWriter::Int32ColumnWriter(w) => w.get_total_bytes_written(),
            ColumnWriter::Int64ColumnWriter(w) => w.get_total_bytes_written(),
            ColumnWriter::DoubleColumnWriter(w) => w.get_total_bytes_written(),
            ColumnWriter::ByteArrayColumnWriter(w) => w.get_total_bytes_written(),
            _ => 0,
        };
        let levels = (self.def.capacity() + self.rep.capacity()) * 2;
        waiting + levels + encoded as usize
    }

    fn encode(&mut self) -> Result<()> {
        let def = (self.max_def > 0).then_some(self.def.as_slice());
        let rep = self.has_rep.then_some(self.rep.as_slice());
        match (&mut self.writer, &mut self.values) {
            (ColumnWriter::ByteArrayColumnWriter(w), Buffered::Bytes { bytes, ends }) => {
                let shared = Bytes::from(std::mem::take(bytes));
                let mut start = 0;
                let one = |end: &usize| {
                    let value = shared.slice(start..*end);
                    start = *end;
                    ByteArray::from(value)
                };
                let values: Vec<ByteArray> = ends.iter().map(one).collect();
                w.write_batch(&values, def, rep)?;
                ends.clear();
            }
            (ColumnWriter::Int64ColumnWriter(w), Buffered::Int64(values)) => {
                w.write_batch(values, def, rep)?;
                values.clear();
            }
            (ColumnWriter::Int32ColumnWriter(w), Buffered::Int32(values)) => {
                w.write_batch(values, def, rep)?;
                values.clear();
            }
            (ColumnWriter::DoubleColumnWriter(w), Buffered::Double(values)) => {
                w.write_batch(values, def, rep)?;
                values.clear();
            }
            (ColumnWriter::BoolColumnWriter(w), Buffered::Bool(values)) => {
                w.write_batch(values, def, rep)?;
                values.clear();
            }
            _ => {}
        }
        self.def.clear();
        self.rep.clear();
        Ok(())
    }

    /// The column's bytes, and what the footer says of them.
    pub(crate) fn close(mut self) -> Result<(Bytes, ColumnCloseResult)> {
        self.encode()?;
        let mut closed = self.writer.close()?;
        if self.max_def == 0 {
            // Without levels there is nothing that is run-length encoded, though the encoder says so of every column.
            let encodings = closed.metadata.encodings();
            let encodings = encodings.filter(|e| *e != Encoding::RLE).collect();
            let builder = closed.metadata.into_builder();
            closed.metadata = builder.set_encodings(encodings).build()?;
        }
        let written = std::mem::take(&mut *self.pages.0.lock());
        let mut pages = written.pages;
        if !self.bounds {
            without_bounds(&mut closed, &mut pages)?;
        }
        closed.column_index = column_index(self.physical, &pages)?;
        Ok((Bytes::from(written.bytes), closed))
    }
}

/// Takes least and greatest values away: counts of nulls stay.
fn without_bounds(closed: &mut ColumnCloseResult, pages: &mut [PageFacts]) -> Result<()> {
    let statistics = closed.metadata.statistics();
    let nulls = statistics.and_then(Statistics::null_count_opt);
    let builder = closed.metadata.clone().into_builder();
    closed.metadata = builder
        .set_statistics(Statistics::byte_array(None, None, None, nulls, false))
        .build()?;
    for page in pages {
        page.bounds = Some(Default::default());
    }
    Ok(())
}

/// Bytes that the encoder appends to while the buffer keeps an eye on them.
#[derive(Clone, Default)]
struct SharedBytes(Arc<Mutex<Written>>);

/// What was encoded.
#[derive(Default)]
struct Written {
    bytes: Vec<u8>,
    pages: Vec<PageFacts>,
}

impl Write for SharedBytes {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Pages with their headers, one after the other, in memory.
struct MemoryPages {
    sink: TrackedWrite<SharedBytes>,
    shared: SharedBytes,
}

impl PageWriter for MemoryPages {
    fn write_page(&mut self, page: CompressedPage) -> Result<PageWriteSpec> {
        if let Page::DataPageV2 {
            num_values,
            num_nulls,
            statistics,
            ..
        } = page.compressed_page()
        {
            let facts = PageFacts::new(*num_values, *num_nulls, statistics.as_ref());
            self.shared.0.lock().pages.push(facts);
        }
        SerializedPageWriter::new(&mut self.sink).write_page(page)
    }

    fn close(&mut self) -> Result<()> {
        Ok(self.sink.flush()?)
    }
}
