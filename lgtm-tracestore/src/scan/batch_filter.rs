//! Which traces of a batch have a span that passes: for holders of whole traces, which leave out those of no interest.

use super::condition::Probe;
use crate::select::{
    Column, Condition, Field, Intrinsic, Level, Patterns, SpanBatch, SpanFilter, StartRange, Test,
    WantedColumns,
};

/// Tells which traces of batches have a span that may pass a filter and starts in a range.
#[derive(Debug)]
pub struct BatchFilter {
    filter: SpanFilter,
    starts: Option<StartRange>,
    patterns: Patterns,
}

impl BatchFilter {
    /// Of spans that pass `filter`, and that start in `starts` if there is such a range.
    pub fn new(filter: SpanFilter, starts: Option<StartRange>) -> Self {
        Self {
            patterns: Patterns::of_filter(&filter),
            filter,
            starts,
        }
    }

    /// The columns that batches must have.
    pub fn columns(&self) -> WantedColumns {
        let mut columns = WantedColumns::default();
        columns.add_all(self.filter.fields());
        if self.starts.is_some() {
            columns.add(&Field::Intrinsic(Intrinsic::StartTime));
        }
        columns
    }

    /// For each trace of a batch whether one of its spans may pass. Costs a look at each value that is tested.
    pub fn traces(&self, batch: &SpanBatch) -> Vec<bool> {
        let mut spans = self.mask(&self.filter, batch);
        if let Some(range) = &self.starts {
            let starts = batch.column(&Field::Intrinsic(Intrinsic::StartTime));
            let starts = starts.and_then(|c| c.ints.as_ref());
            for (row, passes) in spans.iter_mut().enumerate() {
                let start_ns = starts.and_then(|c| c.get(row)).map(|t| t as u64);
                *passes &= start_ns.is_none_or(|t| range.after_ns < t && t <= range.until_ns);
            }
        }
        let traces = batch.traces_and_rows();
        traces
            .map(|(_, rows)| spans[rows].contains(&true))
            .collect()
    }

    /// For each span whether it may pass.
    fn mask(&self, filter: &SpanFilter, batch: &SpanBatch) -> Vec<bool> {
        lgtm_core::exec::with_room(|| match filter {
            SpanFilter::Everything => vec![true; batch.len()],
            SpanFilter::Nothing => vec![false; batch.len()],
            SpanFilter::Test(condition) => self.test(condition, batch),
            SpanFilter::All(all) => {
                let mut mask = vec![true; batch.len()];
                for filter in all {
                    let other = self.mask(filter, batch);
                    mask.iter_mut().zip(other).for_each(|(a, b)| *a &= b);
                }
                mask
            }
            SpanFilter::Any(any) => {
                let mut mask = vec![false; batch.len()];
                for filter in any {
                    let other = self.mask(filter, batch);
                    mask.iter_mut().zip(other).for_each(|(a, b)| *a |= b);
                }
                mask
            }
        })
    }

    fn test(&self, condition: &Condition, batch: &SpanBatch) -> Vec<bool> {
        let probe = Probe::new(condition, &self.patterns);
        let level = condition.field.level();
        let mut mask = vec![false; batch.len()];
        if level == Level::Trace {
            let is_id = condition.field == Field::Intrinsic(Intrinsic::TraceId);
            for (trace, rows) in batch.traces_and_rows() {
                // What is the whole trace's cannot be told here.
                mask[rows].fill(!is_id || probe.passes_text(trace.id.as_bytes()));
            }
            return mask;
        }
        let Some(column) = batch.column(&condition.field) else {
            return mask;
        };
        let mut rows = vec![false; batch.rows_at(level)];
        test_column(&probe, &condition.test, column, &mut rows);
        if level == Level::Span {
            return rows;
        }
        for (span, hit) in mask.iter_mut().enumerate() {
            *hit = rows
                .get(batch.below(level, span))
                .is_some_and(|below| below.contains(&true));
        }
        mask
    }
}

/// Sets the rows of a column that pass.
fn test_column(probe: &Probe<'_>, test: &Test, column: &Column, hits: &mut [bool]) {
    if let Some(texts) = &column.texts {
        let passing: Vec<bool> = (texts.dictionary.iter())
            .map(|text| probe.passes_text(text))
            .collect();
        for (hit, code) in hits.iter_mut().zip(&texts.codes) {
            *hit |= passing.get(*code as usize) == Some(&true);
        }
    }
    for (row, hit) in hits.iter_mut().enumerate() {
        let int = column.ints.as_ref().and_then(|c| c.get(row));
        let float = column.floats.as_ref().and_then(|c| c.get(row));
        let bool = column.bools.as_ref().and_then(|c| c.get(row));
        *hit |= int.is_some_and(|v| probe.passes_number(v as f64, Some(v)))
            || float.is_some_and(|v| probe.passes_number(v, None))
            || bool.is_some_and(|v| probe.passes_bool(v));
    }
    if let Some(arrays) = &column.arrays {
        let count = arrays.ends.last().map_or(0, |end| *end as usize);
        let mut elements = vec![false; count];
        test_column(probe, test, &arrays.elements, &mut elements);
        for (n, row) in arrays.rows.iter().enumerate() {
            let of_row = elements.get(arrays.elements_of(n));
            if let Some(hit) = hits.get_mut(*row as usize) {
                *hit |= of_row.is_some_and(|all| all.contains(&true));
            }
        }
    }
    if *test == Test::Exists {
        for row in &column.unseen {
            if let Some(hit) = hits.get_mut(*row as usize) {
                *hit = true;
            }
        }
    }
}
