//! One function of a metrics query while spans are gathered.

use lgtm_core::Result;
use lgtm_core::exec::{check_wanted, is_abandoned};

use super::super::ast::*;
use super::super::eval::{Datum, Place, Program, View};
use super::super::number::Number;
use super::super::plan;
use super::super::value::AnswerValue;
use super::cells::{CellKind, Cells};
use super::compare::CompareTable;
use super::exemplars::{ExemplarChoice, rank_of, trace_label};
use super::grid::IntervalGrid;
use super::partial::{Bucket, ExemplarSpan, LegPartial};
use super::quantile::bucket_of;
use super::table::{MAX_LABELS, SeriesTable, Values, check_bytes, number_at, series_key};
use crate::select::{Field, Intrinsic, SpanBatch};

/// Rows after which it is asked whether anybody waits, and whether the series take too much.
const ROWS_A_LOOK: usize = 1024;

/// One function of a metrics query.
#[derive(Debug)]
pub(super) struct Leg {
    program: Program,
    function: MetricsFunction,
    by: Vec<Field>,
    names: Vec<String>,
    grid: IntervalGrid,
    values: Values,
    table: SeriesTable,
    compare: Option<CompareTable>,
    exemplars: ExemplarChoice,
    told: Vec<Field>,
}

impl Leg {
    pub(super) fn new(query: &MetricsQuery, grid: IntervalGrid, max_exemplars: usize) -> Self {
        let kind = match &query.function {
            MetricsFunction::MinOverTime(_) => CellKind::Least,
            MetricsFunction::MaxOverTime(_) => CellKind::Greatest,
            MetricsFunction::AvgOverTime(_) | MetricsFunction::SumOverTime(_) => CellKind::Sums,
            _ => CellKind::Counts,
        };
        let compare = match &query.function {
            MetricsFunction::Compare(compare) => {
                Some(CompareTable::new(compare, &query.pipeline, grid))
            }
            _ => None,
        };
        let max_exemplars = if compare.is_some() { 0 } else { max_exemplars };
        Self {
            program: Program::new(&query.pipeline),
            function: query.function.clone(),
            by: query.by.clone(),
            names: query.by.iter().map(ToString::to_string).collect(),
            grid,
            values: Values::default(),
            table: SeriesTable::new(kind, grid.len),
            compare,
            exemplars: ExemplarChoice::new(grid, max_exemplars),
            told: plan::named_fields(&query.pipeline)
                .into_iter()
                .filter(|field| *field != Field::Intrinsic(Intrinsic::TraceId))
                .collect(),
        }
    }

    pub(super) fn fold(
        &mut self,
        batch: &SpanBatch,
        left_out: &[usize],
        max_bytes: usize,
    ) -> Result<()> {
        let starts = batch.column(&Intrinsic::StartTime.into());
        let Some(starts) = starts.and_then(|c| c.ints.as_ref()) else {
            return Ok(());
        };
        let mut mask = self.program.mask(batch);
        for trace in left_out {
            mask[batch.rows_of(*trace)].fill(false);
        }
        let (mut rows, mut intervals) = (Vec::new(), Vec::new());
        let mut grid = self.grid.cursor();
        for ((row, hit), start) in (0u32..).zip(&mask).zip(&starts.values) {
            if *hit && let Some(interval) = grid.index_of(*start as u64) {
                rows.push(row);
                intervals.push(interval as u32);
            }
        }
        if rows.is_empty() {
            return Ok(());
        }
        let view = View::new(batch);
        if let Some(compare) = &mut self.compare {
            return compare.fold(&view, &starts.values, &rows, &intervals, max_bytes);
        }
        let groups = self.groups(&view, &rows);
        match &self.function {
            MetricsFunction::Rate | MetricsFunction::CountOverTime => {
                for (group, interval) in groups.iter().zip(&intervals) {
                    if let Cells::Counts(cells) = self.table.cells(*group, None) {
                        cells[*interval as usize] += 1;
                    }
                }
                self.take_exemplars(&view, &starts.values, &rows, &groups, |_| {
                    Some((None, None))
                });
            }
            function => {
                let Some(field) = function.field().cloned() else {
                    return Ok(());
                };
                let rows = (rows.as_slice(), intervals.as_slice(), groups.as_slice());
                self.fold_values(&view, &field, &starts.values, rows, max_bytes)?;
            }
        }
        check_bytes(&self.values, &self.table, max_bytes)
    }

    /// The group of each row.
    fn groups(&mut self, view: &View<'_>, rows: &[u32]) -> Vec<u32> {
        let mut labels = Vec::new();
        for field in self.by.iter().take(MAX_LABELS) {
            let mut numbers = self.values.of_rows(view, field, rows);
            self.values.keep_typed(field, &mut numbers);
            labels.push(numbers);
        }
        self.table.groups(&labels, rows.len())
    }

    fn fold_values(
        &mut self,
        view: &View<'_>,
        field: &Field,
        starts: &[i64],
        (rows, intervals, groups): (&[u32], &[u32], &[u32]),
        max_bytes: usize,
    ) -> Result<()> {
        let is_distribution = matches!(
            self.function,
            MetricsFunction::QuantileOverTime(..) | MetricsFunction::HistogramOverTime(_)
        );
        let number = number_at(view, field);
        // What is in no bucket does not count.
        let counted = |row: u32| {
            let number = number(row)?;
            let bucket = if is_distribution {
                Some(bucket_of(number)?)
            } else {
                None
            };
            Some((bucket, number))
        };
        for (n, ((row, group), interval)) in rows.iter().zip(groups).zip(intervals).enumerate() {
            if n.is_multiple_of(ROWS_A_LOOK) {
                check_wanted("the counting of spans")?;
                check_bytes(&self.values, &self.table, max_bytes)?;
            }
            if let Some((bucket, number)) = counted(*row) {
                let cells = self.table.cells(*group, bucket);
                gather(cells, *interval as usize, number);
            }
        }
        self.take_exemplars(view, starts, rows, groups, |row| {
            let (bucket, number) = counted(row)?;
            Some((bucket, Some(in_seconds(number))))
        });
        Ok(())
    }

    /// Offers spans as exemplars; those whose value is not a number stand for nothing. `value` tells bucket and value of a row; none: it does not count.
    fn take_exemplars(
        &mut self,
        view: &View<'_>,
        starts: &[i64],
        rows: &[u32],
        groups: &[u32],
        value: impl Fn(u32) -> Option<(Option<Bucket>, Option<f64>)>,
    ) {
        let (mut end_row, mut rank) = (0, 0);
        let mut traces = view.batch.traces.iter();
        for (row, group) in rows.iter().zip(groups) {
            if *row >= end_row
                && let Some(trace) = traces.find(|trace| trace.end_row > *row)
            {
                (end_row, rank) = (trace.end_row, rank_of(trace.id));
            }
            let start_ns = starts[*row as usize] as u64;
            if !self.exemplars.would_take(start_ns, rank) {
                continue;
            }
            let Some((bucket, value)) = value(*row).filter(|(_, v)| !v.is_some_and(f64::is_nan))
            else {
                continue;
            };
            let labels = self.told.iter().filter_map(|field| {
                let value: Datum<'_> = view.value(field, Place::span(*row as usize));
                Some((field.to_string(), value.answer()?))
            });
            let id = view.batch.trace_of(*row as usize).id;
            let labels: Vec<(String, AnswerValue)> =
                std::iter::once(trace_label(id)).chain(labels).collect();
            let key = (self.table.labels(*group), bucket);
            self.exemplars.offer(ExemplarSpan {
                key: series_key(&self.values, &self.names, key),
                start_ns,
                value,
                labels,
                rank,
            });
        }
    }

    pub(super) fn finish(self) -> LegPartial {
        if let Some(compare) = self.compare {
            return compare.finish();
        }
        let (values, names) = (&self.values, &self.names);
        let series = self.table.series.into_iter();
        let series = series.take_while(|_| !is_abandoned());
        LegPartial {
            series: series
                .map(|(key, cells)| (series_key(values, names, key), cells))
                .collect(),
            exemplars: self.exemplars.chosen(),
        }
    }
}

/// As series tell it: durations in seconds.
pub(super) fn in_seconds(number: Number) -> f64 {
    match number {
        Number::Duration(ns) => ns as f64 / 1e9,
        number => number.as_f64(),
    }
}

fn gather(cells: &mut Cells, interval: usize, number: Number) {
    match cells {
        Cells::Counts(cells) => cells[interval] += 1,
        Cells::Least(cells) => cells[interval] = cells[interval].min(in_seconds(number)),
        Cells::Greatest(cells) => cells[interval] = cells[interval].max(in_seconds(number)),
        Cells::Sums(cells) => {
            let cell = &mut cells[interval];
            cell.count += 1;
            match number {
                Number::Int(v) => cell.ints += i128::from(v),
                Number::Duration(v) => cell.nanos += i128::from(v),
                Number::Float(v) => cell.add_float(v),
            }
        }
    }
}
