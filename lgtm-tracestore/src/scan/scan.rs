//! A row group looked through for a request: a machine that says what it wants to read next.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lgtm_core::codec::{Allowance, DecodeFail};
use lgtm_core::exec::check_wanted;

use super::batch::{batch_of, leaves_of};
use super::column_cache::{BlockColumns, GroupColumns};
use super::decoded::{Decoded, PagePlan, bad, has_values, split};
use super::field_plan::{FieldPlan, LeafSet, Need, add_leaf};
use super::filter::filter_leaves;
use super::prune::{dictionaries, may_pass, may_pass_dictionaries};
use super::scan_block::ScanBlock;
use super::selection::Selection;
use super::whole_traces::{batch_of_traces, runs};
use crate::schema::{ByteSource, ColumnMemory, LeafIndex, RowPlan};
use crate::select::{Field, Patterns, SpanBatch, SpanFilter, SpanRequest, WantedColumns};

/// A selection of less than a row in so many is taken out of pages; chunks that are smaller than this in all are decoded whole anyway.
const FEW_ROWS: u64 = 8;
/// Less than a row in so many is taken out of pages also where all pages are read, unless what is decoded serves other queries.
const VERY_FEW_ROWS: u64 = 64;
const SMALL_BYTES: u64 = 256 << 10;
/// So many bytes are read before it is known whether they are needed.
const AT_ONCE_BYTES: u64 = 96 << 10;

/// What a scan needs next, or what it found.
#[derive(Debug)]
pub enum ScanStep {
    /// These ranges are to be fetched, together.
    Read(Vec<Range<u64>>),
    /// The spans that pass, those of a trace together; `None`: there are none.
    Done(Option<SpanBatch>),
}

/// Looks through a row group.
#[derive(Debug)]
pub struct GroupScan {
    pub(super) block: Arc<ScanBlock>,
    pub(super) group: usize,
    pub(super) request: Arc<SpanRequest>,
    pub(super) patterns: Arc<Patterns>,
    first_row_id: u64,
    /// When its newest trace began, at the latest.
    newest_ns: u64,
    /// Traces that began before are of no interest any more.
    oldest_ns: Arc<AtomicU64>,
    small_bytes: u64,
    pub(super) decoded: Decoded,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Start,
    /// Dictionaries asked for.
    Dictionaries(Vec<LeafIndex>),
    /// What the filter looks at asked for.
    Filter,
    /// Levels asked for; these spans are wanted.
    Spans(Vec<u32>),
    /// Whole chunks asked for.
    Whole(Selection),
    /// Offset indexes asked for.
    Indexes(Selection, LeafSet),
    /// Pages asked for.
    Pages(Selection, PagePlan),
    /// Offset indexes of all leaves of traces asked for.
    TraceIndexes(Selection),
    /// All leaves of some rows asked for.
    Traces(Selection, Vec<RowPlan>),
    Ended,
}

impl GroupScan {
    /// Looks for the spans of a request. Span `n` of the row group gets the row id `first_row_id + n`.
    pub fn new(
        block: Arc<ScanBlock>,
        group: usize,
        request: Arc<SpanRequest>,
        first_row_id: u64,
    ) -> Self {
        Self {
            block,
            group,
            patterns: Arc::new(Patterns::of(&request)),
            request,
            first_row_id,
            newest_ns: u64::MAX,
            oldest_ns: Arc::default(),
            small_bytes: SMALL_BYTES,
            decoded: Decoded::default(),
            stage: Stage::Start,
        }
    }

    /// Leaves out traces that began before a time, nanoseconds since the epoch, which moves while others are read. `newest_ns`: when the newest trace of the row group
    /// began, at the latest.
    #[must_use]
    pub fn newest(mut self, newest_ns: u64, oldest_ns: Arc<AtomicU64>) -> Self {
        self.newest_ns = newest_ns;
        self.oldest_ns = oldest_ns;
        self
    }

    /// Shares the memory of columns with other scans.
    #[must_use]
    pub(crate) fn reusing(mut self, memory: Arc<ColumnMemory>) -> Self {
        self.decoded = Decoded::reusing(memory);
        self
    }

    /// Finds there what others decoded of the row group, and leaves what it decodes.
    #[must_use]
    pub fn sharing(mut self, columns: Arc<BlockColumns>) -> Self {
        let group = GroupColumns::new(columns, self.group);
        self.decoded.sharing(group);
        self
    }

    /// Decodes chunks whole that take so many bytes in all, also where few rows are wanted of them. Default 256 KiB.
    #[must_use]
    pub fn small_bytes(mut self, bytes: u64) -> Self {
        self.small_bytes = bytes;
        self
    }

    /// Shares the regular expressions of the request with scans of other row groups.
    #[must_use]
    pub(crate) fn patterns(mut self, patterns: Arc<Patterns>) -> Self {
        self.patterns = patterns;
        self
    }

    /// When the oldest trace began that is of interest.
    pub(super) fn oldest_ns(&self) -> u64 {
        self.oldest_ns.load(Ordering::Relaxed)
    }

    /// Reads columns of some spans, whatever they are. Where only whole traces tell, others of their traces come too.
    pub fn of_spans(
        block: Arc<ScanBlock>,
        group: usize,
        columns: WantedColumns,
        spans: Vec<u32>,
        first_row_id: u64,
    ) -> Self {
        let request = SpanRequest {
            columns,
            ..SpanRequest::default()
        };
        Self {
            stage: Stage::Spans(spans),
            ..Self::new(block, group, Arc::new(request), first_row_id)
        }
    }

    /// Traces and spans that were looked at so far.
    pub fn inspected(&self) -> (u64, u64) {
        let spans = self.decoded.spans();
        (spans.rows() as u64, spans.len() as u64)
    }

    /// Goes on with what was fetched so far. `allowance` bounds the columns that the scan has after the step, those that it found with others included: they
    /// stay in memory with it when others let go of them.
    ///
    /// # Errors
    /// For a damaged block; when what was asked for was not fetched; what `allowance` refuses.
    pub fn step(
        &mut self,
        source: &(impl ByteSource + ?Sized),
        allowance: &mut Allowance<'_>,
    ) -> Result<ScanStep, DecodeFail> {
        allowance.take(self.decoded.size_bytes())?;
        let recalled = self.decoded.recalled_bytes();
        let step = self.go(source, allowance)?;
        allowance.take(self.decoded.recalled_bytes() - recalled)?;
        Ok(step)
    }

    fn go(
        &mut self,
        source: &(impl ByteSource + ?Sized),
        allowance: &mut Allowance<'_>,
    ) -> Result<ScanStep, DecodeFail> {
        let block = Arc::clone(&self.block);
        match std::mem::replace(&mut self.stage, Stage::Ended) {
            Stage::Start => self.start(source, allowance),
            Stage::Dictionaries(leaves) => {
                let decoded = &mut self.decoded;
                decoded.add_dictionaries(&block, self.group, &leaves, source, allowance)?;
                let asked = (&*self.request, &*self.patterns);
                if !may_pass_dictionaries(&block, self.group, asked, &self.decoded) {
                    return Ok(ScanStep::Done(None));
                }
                self.ask_filter(source, allowance)
            }
            Stage::Filter => {
                let selection = self.filter(source, allowance)?;
                self.go_on(selection, source, allowance)
            }
            Stage::Spans(spans) => self.find_spans(spans, source, allowance),
            Stage::Whole(selection) => {
                // With keys and texts it is known which other values are needed.
                for need in [Need::TEXTS, Need::ALL] {
                    self.add_wanted(need, source, allowance)?;
                }
                let mut decoded = std::mem::take(&mut self.decoded);
                let step = self.batch(&mut decoded, &selection, &selection, allowance);
                self.decoded = decoded;
                step
            }
            Stage::Indexes(selection, leaves) => {
                let rows = runs(selection.rows.iter().map(|(row, _)| *row));
                let plan = PagePlan::new(&block, self.group, rows, &leaves, source, allowance)?;
                let (mut ranges, whole) = (plan.ranges(), self.missing(&leaves, source));
                let len =
                    |ranges: &[Range<u64>]| ranges.iter().map(|r| r.end - r.start).sum::<u64>();
                let group = block.file.row_groups.get(self.group);
                let is_worth = !self.decoded.is_shared()
                    && selection.rows.len() as u64 * VERY_FEW_ROWS < group.map_or(0, |g| g.rows);
                if len(&ranges) > len(&whole) / 2 && !is_worth {
                    // Few pages are without such a row: what is there already counts more.
                    return self.ask_whole(selection, whole, source, allowance);
                }
                ranges.retain(|range| source.bytes(range).is_none());
                self.stage = Stage::Pages(selection, plan);
                if ranges.is_empty() {
                    return self.go(source, allowance);
                }
                Ok(ScanStep::Read(ranges))
            }
            Stage::Pages(selection, plan) => {
                let memory = self.decoded.memory();
                let mut few =
                    Decoded::of_pages(&block, self.group, &plan, memory, source, allowance)?;
                let moved = selection.moved(&self.decoded, &few);
                let is_inside = moved
                    .spans
                    .last()
                    .is_none_or(|s| (*s as usize) < few.spans().len());
                if !is_inside {
                    return Err(bad("pages with fewer spans than the whole column has").into());
                }
                self.batch(&mut few, &selection, &moved, allowance)
            }
            Stage::TraceIndexes(selection) => {
                let rows = runs(selection.rows.iter().map(|(row, _)| *row));
                let plans = rows
                    .into_iter()
                    .map(|rows| RowPlan::rows(&block.file, self.group, rows, source, allowance));
                let plans = plans.collect::<Result<Vec<_>, _>>()?;
                let ranges = plans.iter().flat_map(RowPlan::ranges).collect();
                self.stage = Stage::Traces(selection, plans);
                Ok(ScanStep::Read(ranges))
            }
            Stage::Traces(selection, plans) => {
                let batch = batch_of_traces(
                    &block,
                    &plans,
                    (&self.decoded, &selection),
                    self.first_row_id,
                    &self.request.columns,
                    source,
                    allowance,
                )?;
                Ok(ScanStep::Done(Some(batch).filter(|b| !b.is_empty())))
            }
            Stage::Ended => Ok(ScanStep::Done(None)),
        }
    }

    fn start(
        &mut self,
        source: &(impl ByteSource + ?Sized),
        allowance: &mut Allowance<'_>,
    ) -> Result<ScanStep, DecodeFail> {
        let is_old = self.newest_ns < self.oldest_ns();
        if is_old || !may_pass(&self.block, self.group, &self.request) {
            return Ok(ScanStep::Done(None));
        }
        let mut leaves = dictionaries(&self.block, self.group, &self.request);
        let rules_out = !leaves.is_empty();
        leaves.extend(self.unknown_keys());
        leaves.sort_unstable();
        leaves.dedup();
        if leaves.is_empty() {
            return self.ask_filter(source, allowance);
        }
        leaves.retain(|leaf| !self.decoded.recall_dictionary(*leaf));
        let mut ranges = self.dictionary_ranges(&leaves);
        if ranges.is_empty() {
            self.stage = Stage::Dictionaries(leaves);
            return self.go(source, allowance);
        }
        // What is needed whatever they say comes with them, and what is needed unless they rule the row group out where that is little: a round of
        // reads costs more than some bytes too many.
        let certain = self.certain_leaves();
        let certain = self.missing(&certain, source);
        if !rules_out || certain.iter().map(|r| r.end - r.start).sum::<u64>() <= AT_ONCE_BYTES {
            ranges.extend(certain);
        }
        self.stage = Stage::Dictionaries(leaves);
        Ok(ScanStep::Read(ranges))
    }

    /// Where the block has these fields.
    fn plans<'f>(&self, fields: impl IntoIterator<Item = &'f Field>) -> Vec<FieldPlan> {
        let plans = fields.into_iter();
        plans
            .filter_map(|field| FieldPlan::of(&self.block, field))
            .collect()
    }

    /// Keys of lists of attributes that are looked at, where dictionaries have all of them and are not decoded yet.
    fn unknown_keys(&mut self) -> Vec<LeafIndex> {
        let mut fields = self.request.filter.fields();
        fields.extend(self.request.anchor.fields());
        fields.extend(&self.request.columns.fields);
        let plans = self.plans(fields);
        let keys = plans.iter().flat_map(FieldPlan::keys);
        let mut unknown: Vec<_> = keys.collect();
        let (file, group) = (Arc::clone(&self.block.file), self.group);
        unknown.retain(|leaf| {
            let chunk = file.chunk(group, *leaf);
            let is_whole = chunk.is_some_and(|(_, chunk)| chunk.is_all_dictionary);
            is_whole && !self.decoded.recall_dictionary(*leaf)
        });
        unknown.sort_unstable();
        unknown.dedup();
        unknown
    }

    /// Where the dictionaries of these columns lie.
    fn dictionary_ranges(&self, leaves: &[LeafIndex]) -> Vec<Range<u64>> {
        let chunks = leaves.iter();
        let chunks = chunks.filter_map(|leaf| self.block.file.chunk(self.group, *leaf));
        chunks
            .map(|(_, chunk)| chunk.range.start..chunk.first_page)
            .collect()
    }

    /// What is looked at first whatever dictionaries say.
    fn certain_leaves(&self) -> LeafSet {
        let mut out = LeafSet::new();
        let request = &self.request;
        self.add_guides(&mut out);
        let plans = match request.filter {
            SpanFilter::Everything => self.plans(&request.columns.fields),
            _ => self.plans(request.filter.fields()),
        };
        for plan in plans {
            plan.add_certain_leaves(&mut out);
        }
        out
    }

    /// What says which spans there are, and of what time.
    pub(super) fn add_guides(&self, out: &mut LeafSet) {
        let leaves = &self.block.file.positions;
        add_leaf(out, self.block.guide, true);
        add_leaf(out, leaves.start, false);
        if self.request.traces.is_some() {
            add_leaf(out, leaves.end, false);
        }
        if self.request.starts.is_some() {
            add_leaf(out, leaves.span.start, false);
        }
    }

    /// Asks for what the filter looks at; for everything where all pass.
    fn ask_filter(
        &mut self,
        source: &(impl ByteSource + ?Sized),
        allowance: &mut Allowance<'_>,
    ) -> Result<ScanStep, DecodeFail> {
        let mut wanted = LeafSet::new();
        self.add_guides(&mut wanted);
        for filter in [&self.request.filter, &self.request.anchor] {
            filter_leaves(&self.block, filter, &self.decoded, &mut wanted);
        }
        let columns = &self.request.columns;
        if self.request.filter == SpanFilter::Everything
            && let Some(all) = leaves_of(&self.block, columns, Need::PRESENCE, &self.decoded)
        {
            for (leaf, with_levels) in all {
                add_leaf(&mut wanted, Some(leaf), with_levels);
            }
        }
        let ranges = self.missing(&wanted, source);
        self.stage = Stage::Filter;
        if ranges.is_empty() {
            return self.go(source, allowance);
        }
        Ok(ScanStep::Read(ranges))
    }

    /// What of whole chunks was neither decoded nor fetched yet.
    fn missing(
        &mut self,
        leaves: &LeafSet,
        source: &(impl ByteSource + ?Sized),
    ) -> Vec<Range<u64>> {
        let (block, group) = (Arc::clone(&self.block), self.group);
        let leaves = leaves.iter().filter(|(leaf, with_levels)| {
            let with_levels = **with_levels || block.guide == Some(**leaf);
            has_values(&block, group, **leaf) && !self.decoded.recall(**leaf, with_levels)
        });
        let chunks = leaves.filter_map(|(leaf, _)| block.file.chunk(group, *leaf));
        let wanted = chunks.flat_map(|(_, chunk)| {
            if source.bytes(&chunk.range).is_some() {
                Vec::new()
            } else {
                split(chunk)
            }
        });
        wanted
            .filter(|range| source.bytes(range).is_none())
            .collect()
    }

    /// The selection by the numbers of spans.
    fn find_spans(
        &mut self,
        spans: Vec<u32>,
        source: &(impl ByteSource + ?Sized),
        allowance: &mut Allowance<'_>,
    ) -> Result<ScanStep, DecodeFail> {
        let block = Arc::clone(&self.block);
        let mut guide = LeafSet::new();
        add_leaf(&mut guide, block.guide, true);
        let keys = self.unknown_keys();
        let mut missing = self.dictionary_ranges(&keys);
        missing.retain(|range| source.bytes(range).is_none());
        missing.extend(self.missing(&guide, source));
        if !missing.is_empty() {
            self.stage = Stage::Spans(spans);
            return Ok(ScanStep::Read(missing));
        }
        self.decoded
            .add_dictionaries(&block, self.group, &keys, source, allowance)?;
        self.decoded
            .add_whole(&block, self.group, &guide, source, allowance)?;
        let mut mask = vec![false; self.decoded.spans().len()];
        for span in spans {
            match mask.get_mut(span as usize) {
                Some(hit) => *hit = true,
                None => return Err(bad(format!("no span {span}")).into()),
            }
        }
        let selection = Selection::of_mask(&self.decoded, &mask, |_| true);
        self.go_on(selection, source, allowance)
    }

    /// Asks for what is wanted of the selected spans.
    fn go_on(
        &mut self,
        selection: Selection,
        source: &(impl ByteSource + ?Sized),
        allowance: &mut Allowance<'_>,
    ) -> Result<ScanStep, DecodeFail> {
        if selection.rows.is_empty() {
            return Ok(ScanStep::Done(None));
        }
        let file = Arc::clone(&self.block.file);
        let rows = file.row_groups.get(self.group).map_or(0, |g| g.rows);
        let is_few = (selection.rows.len() as u64) < rows / FEW_ROWS;
        let block = Arc::clone(&self.block);
        let columns = &self.request.columns;
        if let Some(mut known) = leaves_of(&block, columns, Need::PRESENCE, &self.decoded) {
            // What was fetched already may tell that less is needed.
            known.retain(|leaf, with_levels| {
                if self.decoded.recall(*leaf, *with_levels) {
                    return true;
                }
                let chunk = file.chunk(self.group, *leaf);
                let parts = chunk.map_or_else(Vec::new, |(_, chunk)| split(chunk));
                parts.iter().all(|part| source.bytes(part).is_some())
            });
            self.decoded
                .add_whole(&block, self.group, &known, source, allowance)?;
        }
        let wanted = leaves_of(&block, columns, Need::ALL, &self.decoded);
        let Some(leaves) = wanted else {
            let ranges = RowPlan::index_ranges(&file, self.group);
            if is_few && !ranges.is_empty() {
                self.stage = Stage::TraceIndexes(selection);
                return Ok(ScanStep::Read(ranges));
            }
            let plan = RowPlan::row_group(&file, self.group);
            let ranges = plan.ranges();
            self.stage = Stage::Traces(selection, vec![plan]);
            return Ok(ScanStep::Read(ranges));
        };
        let missing = self.missing(&leaves, source);
        let bytes: u64 = missing.iter().map(|r| r.end - r.start).sum();
        if is_few && bytes > self.small_bytes && !self.decoded.is_asked_again(&leaves, bytes) {
            let chunks = leaves
                .keys()
                .filter(|leaf| has_values(&block, self.group, **leaf))
                .filter_map(|leaf| file.chunk(self.group, *leaf));
            let indexes = chunks.filter_map(|(_, chunk)| chunk.offset_index.clone());
            let indexes = indexes.collect();
            self.stage = Stage::Indexes(selection, leaves);
            return Ok(ScanStep::Read(indexes));
        }
        self.ask_whole(selection, missing, source, allowance)
    }

    fn ask_whole(
        &mut self,
        selection: Selection,
        missing: Vec<Range<u64>>,
        source: &(impl ByteSource + ?Sized),
        allowance: &mut Allowance<'_>,
    ) -> Result<ScanStep, DecodeFail> {
        self.stage = Stage::Whole(selection);
        if missing.is_empty() {
            return self.go(source, allowance);
        }
        Ok(ScanStep::Read(missing))
    }

    /// Decodes what is wanted of spans, as far as it is fetched, and finds attributes by their keys.
    fn add_wanted(
        &mut self,
        need: Need,
        source: &(impl ByteSource + ?Sized),
        allowance: &mut Allowance<'_>,
    ) -> Result<(), DecodeFail> {
        let (block, request) = (Arc::clone(&self.block), Arc::clone(&self.request));
        let columns = &request.columns;
        let Some(leaves) = leaves_of(&block, columns, need, &self.decoded) else {
            return Ok(());
        };
        self.decoded
            .add_whole(&block, self.group, &leaves, source, allowance)?;
        for plan in self.plans(&columns.fields) {
            check_wanted("the reading of columns")?;
            for list in plan.lists() {
                self.decoded.add_key(list, &plan.key, allowance)?;
            }
        }
        Ok(())
    }

    /// A batch of what was selected; `moved` is the same where it is decoded.
    fn batch(
        &self,
        decoded: &mut Decoded,
        selection: &Selection,
        moved: &Selection,
        allowance: &mut Allowance<'_>,
    ) -> Result<ScanStep, DecodeFail> {
        let mut row_ids = Vec::new();
        if !self.request.is_read_once {
            allowance.reserve(&mut row_ids, selection.spans.len())?;
            let ids = selection.spans.iter();
            row_ids.extend(ids.map(|n| self.first_row_id + u64::from(*n)));
        }
        let columns = &self.request.columns;
        let batch = batch_of(&self.block, decoded, moved, row_ids, columns, allowance)?;
        Ok(ScanStep::Done(Some(batch).filter(|b| !b.is_empty())))
    }
}
