//! Answers from an index by ranged reads, in bounded memory.
//!
//! Opening reads the two ends of the file and scans symbols and postings offset table, verifying their checksums; small ones are
//! kept, of large ones every 32nd entry. Series and postings are verified as they are read. Versions 1 and 2 are understood.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use lgtm_core::codec::Reader;
use lgtm_core::index::PostingsIndex;
use lgtm_core::index::{
    Keep, ListPlace, OffsetTable, Section, SymbolRefs, SymbolStream, SymbolTable, SymbolsReader,
    ValueOrder, Visits, Windowed, decode_postings, memory_exceeded, postings_section_len,
};
use lgtm_core::model::{TextSet, TextSetBuilder};
use lgtm_core::storage::{ReadAt, ReadPlan, corrupt_at};
use lgtm_core::{DecodeError, Result};

use crate::index::encoder::MAGIC;
use crate::index::toc::Toc;

const WHAT: &str = "index";
const HEADER_LEN: u64 = 5;
/// The magic number and the version stand in front of everything; reading a little more often brings all symbols along.
const HEAD_WINDOW: u64 = 64 << 10;
const TAIL_WINDOW: u64 = 64 << 10;

/// Bounds of an [`IndexReader`].
#[derive(Debug, Clone, Copy)]
pub struct IndexReaderSettings {
    /// Memory that an open index may hold. Default 64 MiB; an index that needs more does not open.
    pub max_memory_bytes: u64,
    /// Symbols and postings offset table are each kept whole up to this size, which saves a read per lookup. Default 8 MiB.
    pub max_resident_section_bytes: u64,
    /// What is read for a series entry whose length is not known. Default 512, as in Mimir; longer ones cost a second read.
    pub series_guess_bytes: u64,
    /// How reads are joined.
    pub reads: ReadPlan,
}

impl Default for IndexReaderSettings {
    fn default() -> Self {
        Self {
            max_memory_bytes: 64 << 20,
            max_resident_section_bytes: 8 << 20,
            series_guess_bytes: 512,
            reads: ReadPlan::default(),
        }
    }
}

/// An open index. Cheap to share by `Arc`; every method takes `&self` and may be cancelled at any point.
#[derive(Debug)]
pub struct IndexReader {
    pub(super) file: Arc<dyn ReadAt>,
    pub(super) settings: IndexReaderSettings,
    pub(super) version: u8,
    pub(super) toc: Toc,
    pub(super) symbols: SymbolsReader,
    table: OffsetTable,
}

impl IndexReader {
    /// Opens the index in `file`: three or four reads when its symbols and offset table are kept or small.
    ///
    /// # Errors
    /// `Corrupt` naming the byte, `LimitExceeded` naming `max_memory_bytes`, and what [`ReadAt::read`] returns.
    pub async fn open(file: Arc<dyn ReadAt>, settings: IndexReaderSettings) -> Result<Self> {
        let mut windowed = Windowed::new(&*file);
        let size = file.size();
        if size < HEADER_LEN + Toc::LEN as u64 {
            let reason = format!("{size} bytes are too few");
            return Err(corrupt_at(&*file, 0, DecodeError::new(WHAT, 0, reason)));
        }
        windowed
            .prefetch(size.saturating_sub(TAIL_WINDOW)..size)
            .await?;
        let toc = windowed.read(size - Toc::LEN as u64..size).await?;
        let toc = Toc::decode(&toc, size).map_err(|e| corrupt_at(&*file, 0, e))?;
        windowed
            .prefetch(0..HEAD_WINDOW.min(toc.series).max(HEADER_LEN))
            .await?;
        let header = windowed.read(0..HEADER_LEN).await?;
        let version = decode_header(&header).map_err(|e| corrupt_at(&*file, 0, e))?;

        let max = settings.max_memory_bytes;
        let section =
            Section::locate(&windowed, "index symbol table", toc.symbols..toc.series).await?;
        let (refs, order) = match version {
            1 => (SymbolRefs::Offsets, ValueOrder::Any),
            _ => (SymbolRefs::Ordinals, ValueOrder::Sorted),
        };
        let is_small = section.size() <= settings.max_resident_section_bytes;
        let keep = self::keep(is_small || version == 1);
        if keep == Keep::Whole && section.size() > max {
            return Err(memory_exceeded(
                &*file,
                "the symbol table of a version 1 index",
                max,
            ));
        }
        if keep == Keep::Whole {
            windowed.prefetch(section.range()).await?;
        }
        let symbols = SymbolsReader::open(&windowed, section, refs, keep, max).await?;
        let left = max.saturating_sub(symbols.memory_bytes());
        if symbols.memory_bytes() > max {
            return Err(memory_exceeded(&*file, "the symbol table", max));
        }

        let bounds = toc.postings_table..size - Toc::LEN as u64;
        let section = Section::locate(&windowed, "postings offset table", bounds).await?;
        let keep = self::keep(section.size() <= settings.max_resident_section_bytes.min(left));
        if keep == Keep::Whole {
            windowed.prefetch(section.range()).await?;
        }
        let lists_end = toc.postings_end();
        let table = OffsetTable::open(&windowed, section, lists_end, order, keep, left).await?;
        if table.memory_bytes() > left {
            return Err(memory_exceeded(&*file, "the postings offset table", max));
        }
        drop(windowed);
        Ok(Self {
            file,
            settings,
            version,
            toc,
            symbols,
            table,
        })
    }

    /// Where the sections stand.
    pub fn toc(&self) -> &Toc {
        &self.toc
    }

    /// The format version, 1 or 2.
    pub fn version(&self) -> u8 {
        self.version
    }

    /// Memory held by the open index.
    pub fn memory_bytes(&self) -> u64 {
        self.symbols.memory_bytes() + self.table.memory_bytes()
    }

    /// The label names in use, sorted. Costs no read.
    pub fn label_names(&self) -> impl Iterator<Item = &str> {
        self.table.names()
    }

    /// Bytes of the file.
    pub fn size_bytes(&self) -> u64 {
        self.file.size()
    }

    /// The values of `name`, sorted; nothing for an unknown name.
    pub async fn label_values(&self, name: &str) -> Result<TextSet> {
        let expected = usize::try_from(self.label_value_estimate(name)).unwrap_or(0);
        let mut values = TextSetBuilder::expecting(expected);
        // Version 1 may hold them in any order.
        self.for_each_label_value(name, &mut |value| values.push(value))
            .await?;
        Ok(values.finish())
    }

    /// Shows the values of `name`, sorted, without keeping them.
    pub async fn for_each_label_value(
        &self,
        name: &str,
        visit: &mut (dyn FnMut(&str) + Send),
    ) -> Result<()> {
        self.table
            .walk(&*self.file, name, Visits::Listed, &mut |value, _| {
                visit(value);
            })
            .await
    }

    /// References of the series that have `value` for `name`, ascending; nothing if there is no such pair.
    pub async fn postings(&self, name: &str, value: &str) -> Result<Vec<u32>> {
        match self.table.find(&*self.file, name, value).await? {
            Some(list) => self.read_list(list).await,
            None => Ok(Vec::new()),
        }
    }

    /// How many series have `value` for `name`, by the size of their list; `None` in version 1, which does not tell it. Saves reading
    /// a long list where a short one narrows enough.
    pub async fn postings_len(&self, name: &str, value: &str) -> Result<Option<u64>> {
        Ok(match self.table.find(&*self.file, name, value).await? {
            None => Some(0),
            // Length, count and checksum beside four bytes a series.
            Some(list) => list.end.map(|end| end.saturating_sub(list.start + 12) / 4),
        })
    }

    /// How many values `name` has, rounded up to some tens. Costs no read.
    pub fn label_value_estimate(&self, name: &str) -> u64 {
        self.table.value_estimate(name)
    }

    /// References of all series, ascending.
    pub async fn postings_all(&self) -> Result<Vec<u32>> {
        match self.table.all() {
            Some(list) => self.read_list(list).await,
            None => Ok(Vec::new()),
        }
    }

    /// One list for every value of `name` that `wanted` accepts, in order of the values. For matchers that are no equality: reads
    /// the name's part of the offset table once and joins the reads of neighbouring lists.
    pub async fn postings_for_values(
        &self,
        name: &str,
        wanted: &mut (dyn FnMut(&str) -> bool + Send),
    ) -> Result<Vec<Vec<u32>>> {
        let mut lists = Vec::new();
        let mut take = |value: &str, list| {
            if wanted(value) {
                lists.push(list);
            }
        };
        self.table
            .walk(&*self.file, name, Visits::Matched, &mut take)
            .await?;
        let mut out = Vec::with_capacity(lists.len());
        for some in lists.chunks(LISTS_A_READ) {
            self.read_lists(some, &mut out).await?;
        }
        Ok(out)
    }

    /// Reads lists by few reads and adds them to `out`.
    async fn read_lists(&self, lists: &[ListPlace], out: &mut Vec<Vec<u32>>) -> Result<()> {
        let mut ranges = Vec::with_capacity(lists.len());
        for list in lists {
            ranges.push(self.list_range(*list).await?);
        }
        // Version 1 may hold its lists in any order.
        let mut order: Vec<usize> = (0..ranges.len()).collect();
        order.sort_by_key(|&i| ranges[i].start);
        let sorted: Vec<_> = order.iter().map(|&i| ranges[i].clone()).collect();
        let read = self.file.read_many(&sorted, &self.settings.reads).await?;
        let first = out.len();
        out.resize(first + sorted.len(), Vec::new());
        for (n, ((&i, range), bytes)) in order.iter().zip(&sorted).zip(read).enumerate() {
            if n % LISTS_AT_ONCE == 0 {
                tokio::task::yield_now().await;
            }
            let decoded = decode_postings(&bytes);
            out[first + i] = decoded.map_err(|e| corrupt_at(&*self.file, range.start, e))?;
        }
        Ok(())
    }

    /// The symbols at `ordinals`, which must ascend, joined into few reads where the table is not kept.
    ///
    /// # Errors
    /// `InvalidInput` when the ordinals do not ascend; `Corrupt` for one outside the table.
    pub async fn lookup_symbols(&self, ordinals: &[u32]) -> Result<Vec<String>> {
        self.symbols
            .lookup(&*self.file, ordinals, &self.settings.reads)
            .await
    }

    /// How many symbols there are.
    pub fn symbol_count(&self) -> u32 {
        self.symbols.len()
    }

    /// All symbols from the first on, for [`IndexReader::next_symbols`].
    pub fn symbol_stream(&self) -> SymbolStream {
        self.symbols.stream()
    }

    /// The next symbols of a stream, about `piece_bytes` of them; `None` behind the last.
    ///
    /// # Errors
    /// `Corrupt`, at the end also for what was handed out before; what the reads return.
    pub async fn next_symbols(
        &self,
        stream: &mut SymbolStream,
        piece_bytes: u64,
    ) -> Result<Option<SymbolTable>> {
        stream.next_piece(&*self.file, piece_bytes).await
    }

    /// The whole symbol table. Bounded by `max_item_bytes`.
    pub async fn symbol_table(&self) -> Result<SymbolTable> {
        self.symbols.whole(&*self.file, &self.settings.reads).await
    }

    async fn read_list(&self, list: ListPlace) -> Result<Vec<u32>> {
        let range = self.list_range(list).await?;
        let bytes = self.file.read(range.clone()).await?;
        decode_postings(&bytes).map_err(|e| corrupt_at(&*self.file, range.start, e))
    }

    /// The bytes of a list, checked against the file.
    async fn list_range(&self, list: ListPlace) -> Result<Range<u64>> {
        let lists = self.toc.postings..self.toc.postings_end();
        let fail = |end: u64| {
            let reason = format!("postings list up to {end}, all lists are in {lists:?}");
            let error = DecodeError::new("postings offset table", 0, reason);
            Err(corrupt_at(&*self.file, list.start, error))
        };
        let room = lists.end.saturating_sub(list.start);
        if list.start < lists.start || room < 12 {
            return fail(list.start);
        }
        let end = match list.end {
            Some(end) => end,
            None => {
                let head = self.file.read(list.start..list.start + 4).await?;
                let len = postings_section_len(&head)
                    .map_err(|e| corrupt_at(&*self.file, list.start, e))?;
                list.start + len
            }
        };
        if end < list.start || end > lists.end {
            return fail(end);
        }
        self.settings
            .reads
            .check_item(&*self.file, "a postings list", end - list.start)?;
        Ok(list.start..end)
    }
}

#[async_trait]
impl PostingsIndex for IndexReader {
    async fn postings(&self, name: &str, value: &str) -> Result<Vec<u32>> {
        Self::postings(self, name, value).await
    }

    async fn postings_len(&self, name: &str, value: &str) -> Result<Option<u64>> {
        Self::postings_len(self, name, value).await
    }

    async fn postings_for_values(
        &self,
        name: &str,
        wanted: &mut (dyn for<'v> FnMut(&'v str) -> bool + Send),
    ) -> Result<Vec<Vec<u32>>> {
        Self::postings_for_values(self, name, wanted).await
    }

    async fn postings_all(&self) -> Result<Vec<u32>> {
        Self::postings_all(self).await
    }

    fn label_value_estimate(&self, name: &str) -> u64 {
        Self::label_value_estimate(self, name)
    }
}

/// Lists of postings that are read together: neighbours among them cost one request. Some milliseconds of planning.
const LISTS_A_READ: usize = 64 << 10;
/// Lists that are decoded before others on the thread have their turn.
const LISTS_AT_ONCE: usize = 4096;

fn keep(whole: bool) -> Keep {
    if whole { Keep::Whole } else { Keep::Sampled }
}

fn decode_header(bytes: &[u8]) -> Result<u8, DecodeError> {
    let mut r = Reader::new(WHAT, bytes);
    let (magic, version) = (r.u32()?, r.u8()?);
    if magic != MAGIC || !matches!(version, 1 | 2) {
        let reason = format!("magic {magic:08x} version {version}");
        return Err(DecodeError::new(WHAT, 0, reason));
    }
    Ok(version)
}
