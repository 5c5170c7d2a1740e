//! Finds one trace in a block and reads no more of it than that takes: a machine that says what it wants to read next.

use std::ops::Range;
use std::sync::Arc;

use lgtm_core::codec::{Allowance, DecodeFail};

use crate::schema::source::{ByteSource, fetched};
use crate::schema::{
    BlockFile, BlockVersion, ColumnDecoder, ColumnMemory, LeafIndex, Levels, OffsetIndex, RowPlan,
    RowReader, Texts, decode_column_index,
};
use crate::trace::{DedicatedColumns, TraceId};

/// A row group that is smaller is read whole: fewer reads are worth more than fewer bytes.
const READ_WHOLE_BYTES: u64 = 1 << 20;

/// Bytes of indexes that take less time to decode than to hand over to another thread, about.
const QUICK_INDEX_BYTES: u64 = 64 << 10;

/// Where dictionaries of a block's row groups are kept between lookups.
pub(crate) trait KeptDictionaries: std::fmt::Debug + Send + Sync {
    /// The dictionary of a leaf in a row group, as it is in the file.
    fn get(&self, row_group: usize, leaf: LeafIndex) -> Option<Arc<Texts>>;

    /// Keeps one, where there is room.
    fn put(&self, row_group: usize, leaf: LeafIndex, texts: Arc<Texts>);
}

/// What a lookup needs next, or what it found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LookupStep {
    /// These ranges are to be fetched, together.
    Read(Vec<Range<u64>>),
    /// The trace as protobuf.
    Found(Vec<u8>),
    /// The block does not have it.
    Absent,
}

/// Looks for a trace.
#[derive(Debug)]
pub struct TraceLookup {
    file: Arc<BlockFile>,
    version: BlockVersion,
    dedicated: DedicatedColumns,
    id: TraceId,
    memory: Arc<ColumnMemory>,
    kept: Option<Arc<dyn KeptDictionaries>>,
    state: State,
}

#[derive(Debug)]
enum State {
    /// In which row group, if the statistics let one through.
    Start(Option<usize>),
    /// Whole row group asked for.
    Whole(usize),
    /// Indexes asked for.
    Indexes(usize),
    /// A page of ids asked for, with its first row.
    Ids(usize, Range<u64>, u64),
    /// Pages of everything asked for.
    Row(RowPlan),
    Ended,
}

impl TraceLookup {
    /// Looks for `id`. The row group is known from the block's `index`, or found by the statistics of ids.
    pub fn new(
        file: Arc<BlockFile>,
        version: BlockVersion,
        dedicated: DedicatedColumns,
        id: TraceId,
        row_group: Option<usize>,
    ) -> Self {
        let state = State::Start(row_group.or_else(|| row_group_of(&file, id)));
        Self {
            file,
            version,
            dedicated,
            id,
            memory: Arc::default(),
            kept: None,
            state,
        }
    }

    /// Shares the memory of columns with other lookups.
    #[must_use]
    pub(crate) fn reusing(mut self, memory: Arc<ColumnMemory>) -> Self {
        self.memory = memory;
        self
    }

    /// Takes dictionaries from there, and leaves those that it decodes: half of what a lookup decodes are dictionaries, of which it needs a few texts. Those
    /// that it takes are not counted by the allowance of its steps.
    #[must_use]
    pub(crate) fn sharing(mut self, kept: Arc<dyn KeptDictionaries>) -> Self {
        self.kept = Some(kept);
        self
    }

    /// Whether the next step is cheap however large the block is: it decodes indexes of pages at most, and these bytes are few.
    pub(crate) fn is_quick(&self, fetched_bytes: u64) -> bool {
        match self.state {
            State::Start(_) | State::Ended => true,
            State::Indexes(_) => fetched_bytes <= QUICK_INDEX_BYTES,
            State::Whole(_) | State::Ids(..) | State::Row(_) => false,
        }
    }

    /// Goes on with what was fetched so far.
    ///
    /// # Errors
    /// For a damaged block; when what was asked for was not fetched; what `allowance` refuses.
    pub fn step(
        &mut self,
        source: &(impl ByteSource + ?Sized),
        allowance: &mut Allowance<'_>,
    ) -> Result<LookupStep, DecodeFail> {
        match std::mem::replace(&mut self.state, State::Ended) {
            State::Start(Some(group)) => Ok(self.start(group)),
            State::Start(None) | State::Ended => Ok(LookupStep::Absent),
            State::Whole(group) => {
                let chunk = self.ids_chunk(group);
                let Some(row) = self.find_id(group, chunk, 0, source, allowance)? else {
                    return Ok(LookupStep::Absent);
                };
                let mut plan = RowPlan::row_group(&self.file, group);
                plan.rows = row..row + 1;
                self.read(&plan, source, allowance)
            }
            State::Indexes(group) => self.indexes(group, source, allowance),
            State::Ids(group, pages, first_row) => {
                let Some(row) = self.find_id(group, pages, first_row, source, allowance)? else {
                    return Ok(LookupStep::Absent);
                };
                let rows = row..row + 1;
                let mut plan = RowPlan::rows(&self.file, group, rows, source, allowance)?;
                if let Some(kept) = &self.kept {
                    plan.without(|leaf| kept.get(group, leaf));
                }
                let ranges = plan.ranges();
                self.state = State::Row(plan);
                Ok(LookupStep::Read(ranges))
            }
            State::Row(plan) => self.read(&plan, source, allowance),
        }
    }

    fn ids_chunk(&self, group: usize) -> Range<u64> {
        let leaf = self.file.positions.trace_id;
        let chunk = leaf.and_then(|leaf| self.file.chunk(group, leaf));
        chunk.map_or(0..0, |(_, chunk)| chunk.range.clone())
    }

    fn start(&mut self, group: usize) -> LookupStep {
        let whole = RowPlan::row_group(&self.file, group).ranges();
        let bytes: u64 = whole.iter().map(|r| r.end - r.start).sum();
        let indexes = RowPlan::index_ranges(&self.file, group);
        let leaf = self.file.positions.trace_id;
        let ids = leaf.and_then(|leaf| self.file.chunk(group, leaf));
        let of_ids =
            ids.and_then(|(_, ids)| Some((ids.column_index.clone()?, ids.offset_index.clone()?)));
        match of_ids {
            Some((column_index, _)) if bytes > READ_WHOLE_BYTES => {
                let mut ranges = indexes;
                ranges.push(column_index);
                self.state = State::Indexes(group);
                LookupStep::Read(ranges)
            }
            _ => {
                self.state = State::Whole(group);
                LookupStep::Read(whole)
            }
        }
    }

    /// Which page of ids can hold it.
    fn indexes(
        &mut self,
        group: usize,
        source: &(impl ByteSource + ?Sized),
        allowance: &mut Allowance<'_>,
    ) -> Result<LookupStep, DecodeFail> {
        let leaf = self.file.positions.trace_id;
        let chunk = leaf.and_then(|leaf| self.file.chunk(group, leaf));
        let Some((_, chunk)) = chunk else {
            return Ok(LookupStep::Absent);
        };
        let (Some(column_index), Some(offset_index)) = (&chunk.column_index, &chunk.offset_index)
        else {
            return Ok(LookupStep::Absent);
        };
        let bounds = decode_column_index(fetched(source, column_index)?, allowance)?;
        let offsets = OffsetIndex::decode(fetched(source, offset_index)?, allowance)?;
        let id = self.id.as_bytes().as_slice();
        let may_have = |page: &usize| {
            let bounds = &bounds[*page];
            !bounds.is_null && bounds.min.as_slice() <= id && id <= bounds.max.as_slice()
        };
        let Some(page) = (0..bounds.len().min(offsets.pages.len())).find(may_have) else {
            return Ok(LookupStep::Absent);
        };
        let range = offsets.range(&(page..page + 1));
        self.state = State::Ids(group, range.clone(), offsets.pages[page].first_row);
        Ok(LookupStep::Read(vec![range]))
    }

    /// The row of the id in some pages of ids.
    fn find_id(
        &self,
        group: usize,
        pages: Range<u64>,
        first_row: u64,
        source: &(impl ByteSource + ?Sized),
        allowance: &mut Allowance<'_>,
    ) -> Result<Option<u64>, DecodeFail> {
        let leaf = self.file.positions.trace_id;
        let Some((leaf, chunk)) = leaf.and_then(|leaf| self.file.chunk(group, leaf)) else {
            return Ok(None);
        };
        let mut decoder = ColumnDecoder::new(leaf, chunk, Levels::None);
        decoder.pages(fetched(source, &pages)?, allowance)?;
        let ids = decoder.finish().values;
        // Ids are in order.
        let (mut low, mut high) = (0, ids.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if ids.text(middle) < self.id.as_bytes().as_slice() {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let is_it = low < ids.len() && ids.text(low) == self.id.as_bytes();
        Ok(is_it.then_some(first_row + low as u64))
    }

    fn read(
        &self,
        plan: &RowPlan,
        source: &(impl ByteSource + ?Sized),
        allowance: &mut Allowance<'_>,
    ) -> Result<LookupStep, DecodeFail> {
        let of_block = (self.version, &self.dedicated);
        let mut rows =
            RowReader::open_with(&self.file, plan, of_block, &self.memory, source, allowance)?;
        if let Some(kept) = &self.kept {
            for (leaf, texts) in rows.take_dictionaries() {
                kept.put(plan.row_group, leaf, texts);
            }
        }
        let mut out = Vec::new();
        match rows.next(&mut out, allowance)? {
            Some(id) if id == self.id => Ok(LookupStep::Found(out)),
            _ => Ok(LookupStep::Absent),
        }
    }
}

/// The row group whose ids can be this one.
fn row_group_of(file: &BlockFile, id: TraceId) -> Option<usize> {
    let leaf = file.positions.trace_id?;
    let id = id.as_bytes().as_slice();
    (0..file.row_groups.len()).find(|group| {
        let Some((_, chunk)) = file.chunk(*group, leaf) else {
            return false;
        };
        chunk.min.as_ref().is_none_or(|min| min.as_slice() <= id)
            && chunk.max.as_ref().is_none_or(|max| id <= max.as_slice())
    })
}
