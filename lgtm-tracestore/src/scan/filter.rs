//! Which spans of a row group pass the filter of a request, by its columns.

use std::sync::Arc;

use lgtm_core::codec::{Allowance, DecodeFail};
use lgtm_core::exec::check_wanted;

use super::condition::{Probe, need_of};
use super::decoded::{Decoded, bad, guide_of};
use super::field_plan::{FieldPlan, LeafSet, Need, Owner, Source, add_leaf};
use super::scan::GroupScan;
use super::scan_block::ScanBlock;
use super::selection::{Selection, to_spans};
use super::values::OwnerValues;
use crate::schema::{ByteSource, ColumnValues, LeafIndex};
use crate::select::{Condition, SpanFilter};

impl GroupScan {
    /// The spans that pass.
    pub(super) fn filter(
        &mut self,
        source: &(impl ByteSource + ?Sized),
        allowance: &mut Allowance<'_>,
    ) -> Result<Selection, DecodeFail> {
        let block = Arc::clone(&self.block);
        let request = Arc::clone(&self.request);
        let leaves = &block.file.positions;
        let mut guide = LeafSet::new();
        self.add_guides(&mut guide);
        self.decoded
            .add_whole(&block, self.group, &guide, source, allowance)?;
        let rows = self.decoded.spans().rows();
        let mut row_passes = vec![true; rows];
        allowance.take(rows)?;
        let oldest_ns = self.oldest_ns();
        let range = request.traces.as_ref();
        self.retain_rows(&mut row_passes, leaves.start, |start| {
            oldest_ns <= start && range.is_none_or(|range| start <= range.end_ns)
        })?;
        if let Some(range) = range {
            self.retain_rows(&mut row_passes, leaves.end, |end| range.start_ns <= end)?;
        }
        if !row_passes.contains(&true) {
            return Ok(Selection::default());
        }
        if request.anchor != SpanFilter::Everything
            && let Some(anchors) = self.mask(&request.anchor, source, allowance)?
        {
            let spans = self.decoded.spans();
            for (row, passes) in row_passes.iter_mut().enumerate() {
                let hits = anchors.get(spans.spans_of_row(row));
                *passes &= hits.is_some_and(|hits| hits.contains(&true));
            }
            if !row_passes.contains(&true) {
                return Ok(Selection::default());
            }
        }
        let mut mask = vec![true; self.decoded.spans().len()];
        allowance.take(mask.len())?;
        if let (Some(range), Some(starts)) =
            (&request.starts, self.decoded.column(leaves.span.start))
        {
            if starts.values.len() != mask.len() {
                return Err(bad("starts of other spans than there are").into());
            }
            let passes = |start: u64| (range.after_ns < start) & (start <= range.until_ns);
            match &starts.values {
                ColumnValues::Int64(values) => {
                    let starts = mask.iter_mut().zip(values);
                    starts.for_each(|(hit, start)| *hit = passes(*start as u64));
                }
                values => {
                    let numbered = mask.iter_mut().enumerate();
                    numbered.for_each(|(n, hit)| *hit = passes(values.int(n) as u64));
                }
            }
        }
        if let Some(passing) = self.mask(&request.filter, source, allowance)? {
            mask.iter_mut().zip(passing).for_each(|(a, b)| *a &= b);
        }
        let row_passes = |row: usize| row_passes.get(row) == Some(&true);
        Ok(Selection::of_mask(&self.decoded, &mask, row_passes))
    }

    /// Keeps the rows whose time passes, by a column of times; all where there is no such column.
    fn retain_rows(
        &self,
        rows: &mut [bool],
        leaf: Option<LeafIndex>,
        passes: impl Fn(u64) -> bool,
    ) -> Result<(), DecodeFail> {
        let Some(column) = self.decoded.column(leaf) else {
            return Ok(());
        };
        if !rows.is_empty() && column.values.len() != rows.len() {
            return Err(bad("a column of traces has other rows than spans have").into());
        }
        for (row, is_in) in rows.iter_mut().enumerate() {
            *is_in &= passes(column.values.int(row) as u64);
        }
        Ok(())
    }

    /// For each span whether it may pass; `None` where all do.
    fn mask(
        &mut self,
        filter: &SpanFilter,
        source: &(impl ByteSource + ?Sized),
        allowance: &mut Allowance<'_>,
    ) -> Result<Option<Vec<bool>>, DecodeFail> {
        check_wanted("the filtering of spans")?;
        match filter {
            SpanFilter::Everything => Ok(None),
            SpanFilter::Nothing => Ok(Some(vec![false; self.decoded.spans().len()])),
            SpanFilter::Test(condition) => self.test(condition, source, allowance),
            SpanFilter::All(all) => {
                let mut mask: Option<Vec<bool>> = None;
                // What costs least first: the others need not be decoded where nothing passes.
                let mut order: Vec<_> = all.iter().collect();
                order.sort_by_key(|f| cost(&self.block, f));
                for filter in order {
                    let other =
                        lgtm_core::exec::with_room(|| self.mask(filter, source, allowance))?;
                    let Some(other) = other else { continue };
                    match &mut mask {
                        Some(mask) => mask.iter_mut().zip(other).for_each(|(a, b)| *a &= b),
                        None => mask = Some(other),
                    }
                    if mask.as_ref().is_some_and(|mask| !mask.contains(&true)) {
                        break;
                    }
                }
                Ok(mask)
            }
            SpanFilter::Any(any) => {
                let mut mask = vec![false; self.decoded.spans().len()];
                for filter in any {
                    let other =
                        lgtm_core::exec::with_room(|| self.mask(filter, source, allowance))?;
                    let Some(other) = other else {
                        return Ok(None);
                    };
                    mask.iter_mut().zip(other).for_each(|(a, b)| *a |= b);
                }
                Ok(Some(mask))
            }
        }
    }

    fn test(
        &mut self,
        condition: &Condition,
        source: &(impl ByteSource + ?Sized),
        allowance: &mut Allowance<'_>,
    ) -> Result<Option<Vec<bool>>, DecodeFail> {
        let block = Arc::clone(&self.block);
        let Some(plan) = FieldPlan::of(&block, &condition.field) else {
            return Ok(None);
        };
        let patterns = Arc::clone(&self.patterns);
        let probe = Probe::new(condition, &patterns);
        let need = probe.need();
        let decoded = &mut self.decoded;
        // The keys tell whether the values of a list need be decoded.
        for needed in [Need::PRESENCE, need] {
            let mut leaves = LeafSet::new();
            plan.add_leaves(needed, decoded, &mut leaves);
            add_leaf(&mut leaves, guide_of(&block, plan.owner), true);
            decoded.add_whole(&block, self.group, &leaves, source, allowance)?;
            for list in plan.lists() {
                decoded.add_key(list, &plan.key, allowance)?;
            }
        }
        if matches!(plan.owner, Owner::Event | Owner::Link) {
            decoded.find_below(&block, allowance)?;
        }
        let values = OwnerValues::new(decoded, &plan, need, allowance)?;
        let hits = probe.mask(&values);
        Ok(Some(to_spans(decoded, plan.owner, hits)))
    }
}

/// The leaves that a filter looks at.
pub(super) fn filter_leaves(
    block: &ScanBlock,
    filter: &SpanFilter,
    decoded: &Decoded,
    out: &mut LeafSet,
) {
    lgtm_core::exec::with_room(|| match filter {
        SpanFilter::Everything | SpanFilter::Nothing => {}
        SpanFilter::All(all) | SpanFilter::Any(all) => {
            all.iter()
                .for_each(|f| filter_leaves(block, f, decoded, out));
        }
        SpanFilter::Test(condition) => {
            if let Some(plan) = FieldPlan::of(block, &condition.field) {
                plan.add_leaves(need_of(&condition.test), decoded, out);
                add_leaf(out, guide_of(block, plan.owner), true);
            }
        }
    });
}

/// What a filter costs beside others: lists of attributes cost most.
fn cost(block: &ScanBlock, filter: &SpanFilter) -> usize {
    lgtm_core::exec::with_room(|| match filter {
        SpanFilter::Everything | SpanFilter::Nothing => 0,
        SpanFilter::All(all) | SpanFilter::Any(all) => all.iter().map(|f| cost(block, f)).sum(),
        SpanFilter::Test(condition) => {
            let plan = FieldPlan::of(block, &condition.field);
            let sources = plan.map_or_else(Vec::new, |plan| plan.sources);
            let of = |source: &Source| match source {
                Source::Flat(_) => 1,
                Source::Own(_) => 4,
                _ => 20,
            };
            sources.iter().map(of).sum()
        }
    })
}
