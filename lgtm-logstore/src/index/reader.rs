//! Answers from an index file by ranged reads, in bounded memory.
//!
//! Opening reads the two ends of the file and scans symbols and postings offset table, verifying their checksums; small ones are kept, of large
//! ones every 32nd entry. Series and postings are verified as they are read.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use lgtm_core::codec::Reader;
use lgtm_core::index::PostingsIndex;
use lgtm_core::index::{
    Keep, ListPlace, OffsetTable, Section, SymbolRefs, SymbolTable, SymbolsReader, ValueOrder,
    Visits, Windowed, decode_postings, memory_exceeded,
};
use lgtm_core::model::TextSet;
use lgtm_core::storage::{ReadAt, ReadPlan, corrupt_at};
use lgtm_core::{DecodeError, Result};

use crate::index::encoder::MAGIC;
use crate::index::fingerprint_offsets::FingerprintOffsets;
use crate::index::fingerprint_range::FingerprintRange;
use crate::index::toc::IndexToc;
use crate::index::version::IndexVersion;

const WHAT: &str = "index";
const HEADER_LEN: u64 = 5;
/// What opening reads at each end at once: all of a small file.
const WINDOW: u64 = 64 << 10;
/// Lists of postings that are read together: neighbours among them cost one request.
const LISTS_A_READ: usize = 64 << 10;
/// Lists that are decoded before others on the thread have their turn.
const LISTS_AT_ONCE: usize = 4096;

/// Bounds of an [`IndexReader`].
#[derive(Debug, Clone, Copy)]
pub struct IndexReaderSettings {
    /// Memory that an open index may hold. Default 64 MiB; an index that needs more does not open.
    pub max_memory_bytes: u64,
    /// Symbols and postings offset table are each kept whole up to this size, which saves a read per lookup. Default 8 MiB.
    pub max_resident_section_bytes: u64,
    /// What is read for a series entry whose length is not known. Default 512: some eight labels and twenty chunks; longer ones cost a
    /// second read.
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

/// An open index file. Cheap to share by `Arc`; every method takes `&self` and may be cancelled at any point.
#[derive(Debug)]
pub struct IndexReader {
    pub(super) file: Arc<dyn ReadAt>,
    pub(super) settings: IndexReaderSettings,
    pub(super) version: IndexVersion,
    pub(super) toc: IndexToc,
    checksum: u32,
    pub(super) symbols: SymbolsReader,
    table: OffsetTable,
    fingerprints: FingerprintOffsets,
}

impl IndexReader {
    /// Opens the index in `file`, unpacked: three to five reads, two when it is small.
    ///
    /// # Errors
    /// `Corrupt` naming the byte, `LimitExceeded` naming `max_memory_bytes`, and what [`ReadAt::read`] returns.
    pub async fn open(file: Arc<dyn ReadAt>, settings: IndexReaderSettings) -> Result<Self> {
        let mut windowed = Windowed::new(&*file);
        let size = file.size();
        if size < HEADER_LEN + IndexToc::LEN as u64 {
            let reason = format!("{size} bytes are too few");
            return Err(corrupt_at(&*file, 0, DecodeError::new(WHAT, 0, reason)));
        }
        windowed.prefetch(size.saturating_sub(WINDOW)..size).await?;
        let toc_start = size - IndexToc::LEN as u64;
        let toc = windowed.read(toc_start..size).await?;
        let (toc, checksum) = IndexToc::decode(&toc, size).map_err(|e| corrupt_at(&*file, 0, e))?;
        windowed
            .prefetch(0..WINDOW.min(toc.series).max(HEADER_LEN))
            .await?;
        let header = windowed.read(0..HEADER_LEN).await?;
        let version = decode_header(&header).map_err(|e| corrupt_at(&*file, 0, e))?;
        let max = settings.max_memory_bytes;

        let bounds = toc.fingerprint_offsets..toc_start;
        let section = Section::locate(&windowed, "index fingerprint offsets", bounds).await?;
        if section.size() > max {
            return Err(memory_exceeded(&*file, "fingerprint offsets", max));
        }
        let range = section.range();
        let bytes = windowed.read(range.clone()).await?;
        let fingerprints =
            FingerprintOffsets::decode(&bytes).map_err(|e| corrupt_at(&*file, range.start, e))?;
        let left = max.saturating_sub(fingerprints.memory_bytes());

        let section =
            Section::locate(&windowed, "index symbol table", toc.symbols..toc.series).await?;
        let keep = self::keep(section.size() <= settings.max_resident_section_bytes.min(left));
        if keep == Keep::Whole {
            windowed.prefetch(section.range()).await?;
        }
        let symbols =
            SymbolsReader::open(&windowed, section, SymbolRefs::Ordinals, keep, left).await?;
        if symbols.memory_bytes() > left {
            return Err(memory_exceeded(&*file, "the symbol table", max));
        }
        let left = left - symbols.memory_bytes();

        let bounds = toc.postings_table..toc.fingerprint_offsets;
        let section = Section::locate(&windowed, "postings offset table", bounds).await?;
        let keep = self::keep(section.size() <= settings.max_resident_section_bytes.min(left));
        if keep == Keep::Whole {
            windowed.prefetch(section.range()).await?;
        }
        let (end, order) = (toc.postings_end(), ValueOrder::Sorted);
        let table = OffsetTable::open(&windowed, section, end, order, keep, left).await?;
        if table.memory_bytes() > left {
            return Err(memory_exceeded(&*file, "the postings offset table", max));
        }
        drop(windowed);
        Ok(Self {
            file,
            settings,
            version,
            toc,
            checksum,
            symbols,
            table,
            fingerprints,
        })
    }

    /// Where the sections stand, and the times of the chunks.
    pub fn toc(&self) -> &IndexToc {
        &self.toc
    }

    /// The format version.
    pub fn version(&self) -> IndexVersion {
        self.version
    }

    /// The checksum of the table of contents, which stands for the file in the names of compacted ones.
    pub fn checksum(&self) -> u32 {
        self.checksum
    }

    /// Memory held by the open index.
    pub fn memory_bytes(&self) -> u64 {
        self.symbols.memory_bytes() + self.table.memory_bytes() + self.fingerprints.memory_bytes()
    }

    /// The label names in use, sorted. Costs no read.
    pub fn label_names(&self) -> impl Iterator<Item = &str> {
        self.table.names()
    }

    /// The values of `name`, sorted; nothing for an unknown name.
    ///
    /// # Errors
    /// `Corrupt`, and what [`ReadAt::read`] returns.
    pub async fn label_values(&self, name: &str) -> Result<TextSet> {
        let mut values = TextSet::new();
        let mut stray = Vec::new();
        let mut take = |value: &str| {
            if let Err(value) = values.push(value) {
                stray.push(value.to_owned());
            }
        };
        self.for_each_label_value(name, &mut take).await?;
        Ok(values.union(stray.into_iter().collect()))
    }

    /// Shows the values of `name`, sorted, without keeping them.
    ///
    /// # Errors
    /// As [`IndexReader::label_values`].
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

    /// How many values `name` has, rounded up to some tens. Costs no read.
    pub fn label_value_estimate(&self, name: &str) -> u64 {
        self.table.value_estimate(name)
    }

    /// References of the series that have `value` for `name`, ascending; nothing if there is no such pair.
    ///
    /// # Errors
    /// As [`IndexReader::label_values`].
    pub async fn postings(&self, name: &str, value: &str) -> Result<Vec<u32>> {
        match self.table.find(&*self.file, name, value).await? {
            Some(list) => self.read_list(list).await,
            None => Ok(Vec::new()),
        }
    }

    /// How many series have `value` for `name`, by the size of their list; `None` when that is not known without reading it. Saves reading a long list where a short one narrows enough.
    ///
    /// # Errors
    /// As [`IndexReader::label_values`].
    pub async fn postings_len(&self, name: &str, value: &str) -> Result<Option<u64>> {
        Ok(match self.table.find(&*self.file, name, value).await? {
            None => Some(0),
            // Length, count and checksum beside four bytes a series.
            Some(list) => list.end.map(|end| end.saturating_sub(list.start + 12) / 4),
        })
    }

    /// References of all series, ascending: the order of their fingerprints.
    ///
    /// # Errors
    /// As [`IndexReader::label_values`].
    pub async fn postings_all(&self) -> Result<Vec<u32>> {
        match self.table.all() {
            Some(list) => self.read_list(list).await,
            None => Ok(Vec::new()),
        }
    }

    /// One list for every value of `name` that `wanted` accepts, in order of the values. For matchers that are no equality: reads the name's
    /// part of the offset table once and joins the reads of neighbouring lists.
    ///
    /// # Errors
    /// As [`IndexReader::label_values`].
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

    /// Those of `references`, which ascend, that may have fingerprints of `range`, and some neighbours of theirs. Costs two searches by
    /// halving; what reads the series leaves the neighbours out.
    pub fn narrow<'a>(&self, references: &'a [u32], range: FingerprintRange) -> &'a [u32] {
        let range = self.fingerprints.references(range);
        let start = references.partition_point(|&r| u64::from(r) < range.start);
        let end = references.partition_point(|&r| u64::from(r) < range.end);
        &references[start..end]
    }

    /// The whole symbol table, as compaction needs it. Bounded by `max_item_bytes`.
    ///
    /// # Errors
    /// `LimitExceeded`; as [`IndexReader::label_values`].
    pub async fn symbol_table(&self) -> Result<SymbolTable> {
        self.symbols.whole(&*self.file, &self.settings.reads).await
    }

    /// Reads lists by few reads and adds them to `out`.
    async fn read_lists(&self, lists: &[ListPlace], out: &mut Vec<Vec<u32>>) -> Result<()> {
        let ranges: Vec<_> = lists
            .iter()
            .map(|list| self.list_range(*list))
            .collect::<Result<_>>()?;
        if !ranges.is_sorted_by_key(|range| range.start) {
            let error = DecodeError::new("postings offset table", 0, "lists are not in order");
            return Err(corrupt_at(&*self.file, self.toc.postings_table, error));
        }
        let read = self.file.read_many(&ranges, &self.settings.reads).await?;
        for (n, (range, bytes)) in ranges.iter().zip(read).enumerate() {
            if n % LISTS_AT_ONCE == 0 {
                tokio::task::yield_now().await;
            }
            let decoded = decode_postings(&bytes);
            out.push(decoded.map_err(|e| corrupt_at(&*self.file, range.start, e))?);
        }
        Ok(())
    }

    async fn read_list(&self, list: ListPlace) -> Result<Vec<u32>> {
        let range = self.list_range(list)?;
        let bytes = self.file.read(range.clone()).await?;
        decode_postings(&bytes).map_err(|e| corrupt_at(&*self.file, range.start, e))
    }

    /// The bytes of a list, checked against the file.
    fn list_range(&self, list: ListPlace) -> Result<Range<u64>> {
        let lists = self.toc.postings..self.toc.postings_end();
        let end = list.end.unwrap_or(lists.end);
        if list.start < lists.start || end < list.start.saturating_add(12) || end > lists.end {
            let reason = format!("postings list up to {end}, all lists are in {lists:?}");
            let error = DecodeError::new("postings offset table", 0, reason);
            return Err(corrupt_at(&*self.file, list.start, error));
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

fn keep(whole: bool) -> Keep {
    if whole { Keep::Whole } else { Keep::Sampled }
}

fn decode_header(bytes: &[u8]) -> Result<IndexVersion, DecodeError> {
    let mut r = Reader::new(WHAT, bytes);
    let (magic, version) = (r.u32()?, r.u8()?);
    if magic != MAGIC {
        let reason = format!("magic {magic:08x} instead of {MAGIC:08x}");
        return Err(DecodeError::new(WHAT, 0, reason));
    }
    IndexVersion::new(version).map_err(|e| r.error(e.to_string()))
}
