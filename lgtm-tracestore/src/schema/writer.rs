//! Writes a block's `data.parquet`: traces in order of their ids in, bytes out as a stream.

use std::io::{self, Write};
use std::sync::Arc;

use lgtm_core::error::{Error, Result};
use parquet::errors::ParquetError;
use parquet::file::properties::{WriterProperties, WriterVersion};
use parquet::file::writer::SerializedFileWriter;

use crate::schema::column_buffer::{ColumnBuffer, Packer};
use crate::schema::shred::Shredder;
use crate::schema::{BlockVersion, Layout};
use crate::trace::{DedicatedColumns, NestedSets, Trace, TraceId, TraceSummary};

/// How a block is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockWriterSettings {
    /// Version 4, or 5.
    pub version: BlockVersion,
    /// Attributes with columns of their own.
    pub dedicated: DedicatedColumns,
    /// Estimated bytes at which a row group ends: about a byte a value, as Tempo's `parquet_row_group_size_bytes` counts. What is written
    /// of a row group is kept in memory until it ends.
    pub row_group_bytes: usize,
    /// Bytes of a page before compression, about. What a query for one trace reads of a column is a page.
    pub page_bytes: usize,
}

impl Default for BlockWriterSettings {
    fn default() -> Self {
        Self {
            version: BlockVersion::V4,
            dedicated: DedicatedColumns::default(),
            // Tempo's defaults.
            row_group_bytes: 100_000_000,
            page_bytes: 256 << 10,
        }
    }
}

/// What `meta.json` and `index` say of a block that was written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WrittenBlock {
    /// Bytes of the file.
    pub size_bytes: u64,
    /// Bytes of its footer, as the file's end says.
    pub footer_size_bytes: u32,
    /// Traces in it.
    pub traces: u64,
    /// Spans in it.
    pub spans: u64,
    /// First start of a span, nanoseconds since the epoch; 0 in a block without traces.
    pub start_ns: u64,
    /// Last end of a span, nanoseconds since the epoch.
    pub end_ns: u64,
    /// The last trace of each row group.
    pub row_group_last_ids: Vec<TraceId>,
}

/// Writes traces as rows.
pub struct BlockWriter<W: Write + Send> {
    layout: Layout,
    settings: BlockWriterSettings,
    shredder: Shredder,
    nested_sets: NestedSets,
    file: SerializedFileWriter<Tail<W>>,
    /// One for each leaf.
    columns: Vec<ColumnBuffer>,
    packer: Packer,
    /// Whether the row group under way has rows.
    has_rows: bool,
    estimate: usize,
    last_id: Option<TraceId>,
    written: WrittenBlock,
}

impl<W: Write + Send> std::fmt::Debug for BlockWriter<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlockWriter")
            .field("written", &self.written)
            .finish_non_exhaustive()
    }
}

impl<W: Write + Send> BlockWriter<W> {
    /// A block that goes to `sink` in order, row group by row group.
    ///
    /// # Errors
    /// `InvalidInput` for version 3, which is only read; those of the sink.
    pub fn new(sink: W, settings: BlockWriterSettings) -> Result<Self> {
        if settings.version == BlockVersion::V3 {
            return Err(Error::InvalidInput(
                "blocks are written as vParquet4 or vParquet5, not as vParquet3".into(),
            ));
        }
        let dedicated = settings.dedicated.as_slice();
        let layout = Layout::new(settings.version, dedicated);
        let paths: Vec<_> = layout.leaves.iter().map(|l| l.path.clone()).collect();
        let shredder = Shredder::new(settings.version, &paths, dedicated);
        let properties = Arc::new(properties());
        let root = Arc::clone(&layout.root);
        let file = SerializedFileWriter::new(Tail::new(sink), root, properties);
        Ok(Self {
            file: file.map_err(failed)?,
            layout,
            settings,
            shredder,
            nested_sets: NestedSets::default(),
            columns: Vec::new(),
            packer: Packer::new(),
            has_rows: false,
            estimate: 0,
            last_id: None,
            written: WrittenBlock::default(),
        })
    }

    /// Appends a trace, which was regrouped ([`Trace::rebatch`]). May write a row group.
    ///
    /// # Errors
    /// `InvalidInput` for an id that does not lie behind the last one; those of the sink, after which the block is lost.
    pub fn append(&mut self, id: TraceId, trace: &Trace<'_>) -> Result<()> {
        if let Some(last) = self.last_id
            && id <= last
        {
            return Err(Error::InvalidInput(format!(
                "trace {id} comes behind trace {last}: a block has its traces in order of ids, each once"
            )));
        }
        if self.columns.is_empty() {
            let schema = self.file.schema_descr();
            let page_bytes = self.settings.page_bytes;
            let numbered = self.layout.leaves.iter().enumerate();
            let columns =
                numbered.map(|(i, leaf)| ColumnBuffer::new(leaf, schema.column(i), page_bytes));
            self.columns = columns.collect();
        }
        let numbers = self.nested_sets.number(trace);
        let spans = numbers.len() as u64;
        self.estimate += self.shredder.row(id, trace, numbers, &mut self.columns)?;
        for column in &mut self.columns {
            column.end_row(&mut self.packer).map_err(failed)?;
        }
        self.has_rows = true;
        let summary = TraceSummary::of(trace);
        let written = &mut self.written;
        if written.start_ns == 0 || summary.start_ns < written.start_ns {
            written.start_ns = summary.start_ns;
        }
        written.end_ns = written.end_ns.max(summary.end_ns);
        written.traces += 1;
        written.spans += spans;
        self.last_id = Some(id);
        if self.estimate >= self.settings.row_group_bytes {
            self.end_row_group()?;
        }
        Ok(())
    }

    /// Ends the row group under way, if there is one: writes it.
    ///
    /// # Errors
    /// Those of the sink, after which the block is lost.
    pub fn end_row_group(&mut self) -> Result<()> {
        let Some(last_id) = self.last_id.filter(|_| self.has_rows) else {
            return Ok(());
        };
        self.estimate = 0;
        let mut group = self.file.next_row_group().map_err(failed)?;
        self.has_rows = false;
        for column in &mut self.columns {
            let (bytes, closed) = column.close(&mut self.packer).map_err(failed)?;
            group.append_column(&bytes, closed).map_err(failed)?;
        }
        group.close().map_err(failed)?;
        self.written.row_group_last_ids.push(last_id);
        Ok(())
    }

    /// Where the bytes go, to be emptied in between: what is still buffered for it comes later.
    pub fn sink_mut(&mut self) -> &mut W {
        &mut self.file.inner_mut().sink
    }

    /// What was written so far, without the row group under way's size.
    pub fn written(&self) -> &WrittenBlock {
        &self.written
    }

    /// Bytes of the row groups that were written.
    pub fn bytes_written(&self) -> u64 {
        self.file.bytes_written() as u64
    }

    /// Bytes in memory for the row group under way.
    pub fn memory_bytes(&self) -> usize {
        self.columns.iter().map(ColumnBuffer::memory).sum()
    }

    /// Writes what is left and the footer.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn finish(mut self) -> Result<(W, WrittenBlock)> {
        self.end_row_group()?;
        let tail = self.file.into_inner().map_err(failed)?;
        let mut written = self.written;
        written.size_bytes = tail.bytes;
        let [a, b, c, d, ..] = tail.last;
        written.footer_size_bytes = u32::from_le_bytes([a, b, c, d]);
        Ok((tail.sink, written))
    }
}

fn failed(e: ParquetError) -> Error {
    match e {
        ParquetError::External(e) => Error::Unavailable(format!("writing a block failed: {e}")),
        e => Error::Internal(format!("writing a block failed: {e}")),
    }
}

/// What the footer says; pages are encoded by [`ColumnBuffer`]. No column falls back from its dictionary: Tempo passes over a whole row group whose
/// dictionary lacks a value.
fn properties() -> WriterProperties {
    let version = env!("CARGO_PKG_VERSION");
    WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_2_0)
        .set_created_by(format!("lgtm-tracestore version {version}"))
        .set_key_value_metadata(None)
        .build()
}

/// Counts what goes by and remembers the end of it.
struct Tail<W> {
    sink: W,
    bytes: u64,
    last: [u8; 8],
}

impl<W> Tail<W> {
    fn new(sink: W) -> Self {
        Self {
            sink,
            bytes: 0,
            last: [0; 8],
        }
    }
}

impl<W: Write> Write for Tail<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.sink.write(bytes)?;
        self.bytes += n as u64;
        let end = &bytes[n.saturating_sub(8)..n];
        self.last.copy_within(end.len().., 0);
        self.last[8 - end.len()..].copy_from_slice(end);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}
