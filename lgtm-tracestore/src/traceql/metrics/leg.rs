//! One function of a metrics query while spans are gathered.

use lgtm_core::Result;

use super::super::ast::*;
use super::super::eval::{Datum, Place, Program, View};
use super::super::number::Number;
use super::super::plan;
use super::super::value::AnswerValue;
use super::cells::{CellKind, Cells};
use super::compare::CompareTable;
use super::exemplars::{ExemplarChoice, rank_of, trace_label};
use super::grid::IntervalGrid;
use super::partial::{ExemplarSpan, LegPartial};
use super::quantile::bucket_of;
use super::table::{
    MAX_LABELS, NIL, RowKey, SeriesTable, Values, check_bytes, numbers_of, series_key,
};
use crate::select::{Field, Intrinsic, SpanBatch};

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

    pub(super) fn fold(&mut self, batch: &SpanBatch, max_bytes: usize) -> Result<()> {
        let starts = batch.column(&Intrinsic::StartTime.into());
        let Some(starts) = starts.and_then(|c| c.ints.as_ref()) else {
            return Ok(());
        };
        let mask = self.program.mask(batch);
        let (mut rows, mut intervals) = (Vec::new(), Vec::new());
        for ((row, hit), start) in (0u32..).zip(&mask).zip(&starts.values) {
            if *hit && let Some(interval) = self.grid.index_of(*start as u64) {
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
        let keys = self.keys(&view, &rows);
        match &self.function {
            MetricsFunction::Rate | MetricsFunction::CountOverTime => {
                for (key, interval) in keys.iter().zip(&intervals) {
                    if let Cells::Counts(cells) = self.table.cells(*key) {
                        cells[*interval as usize] += 1;
                    }
                }
                self.take_exemplars(&view, &starts.values, &rows, &keys, |_, _| None);
            }
            function => {
                let Some(field) = function.field().cloned() else {
                    return Ok(());
                };
                self.fold_values(&view, &field, &starts.values, &rows, &intervals, keys);
            }
        }
        check_bytes(&self.values, &self.table, max_bytes)
    }

    /// The series of each row.
    fn keys(&mut self, view: &View<'_>, rows: &[u32]) -> Vec<RowKey> {
        let mut keys = vec![([NIL; MAX_LABELS], None); rows.len()];
        for (n, field) in self.by.iter().take(MAX_LABELS).enumerate() {
            let mut numbers = self.values.of_rows(view, field, rows);
            self.values.keep_typed(field, &mut numbers);
            for (key, number) in keys.iter_mut().zip(numbers) {
                key.0[n] = number;
            }
        }
        keys
    }

    fn fold_values(
        &mut self,
        view: &View<'_>,
        field: &Field,
        starts: &[i64],
        rows: &[u32],
        intervals: &[u32],
        mut keys: Vec<RowKey>,
    ) {
        let is_distribution = matches!(
            self.function,
            MetricsFunction::QuantileOverTime(..) | MetricsFunction::HistogramOverTime(_)
        );
        let mut numbers = numbers_of(view, field, rows);
        for (n, interval) in intervals.iter().enumerate() {
            let Some(number) = numbers[n] else {
                continue;
            };
            if is_distribution {
                keys[n].1 = bucket_of(number);
                if keys[n].1.is_none() {
                    numbers[n] = None;
                    continue;
                }
            }
            gather(self.table.cells(keys[n]), *interval as usize, number);
        }
        let mut numbers = numbers.into_iter();
        let value = |_: u32, _: &RowKey| {
            let value = numbers.next().flatten();
            Some(value.map_or(f64::NAN, in_seconds))
        };
        self.take_exemplars(view, starts, rows, &keys, value);
    }

    /// Offers spans as exemplars; those whose value is not a number stand for nothing.
    fn take_exemplars(
        &mut self,
        view: &View<'_>,
        starts: &[i64],
        rows: &[u32],
        keys: &[RowKey],
        mut value: impl FnMut(u32, &RowKey) -> Option<f64>,
    ) {
        let (mut end_row, mut rank) = (0, 0);
        for (row, key) in rows.iter().zip(keys) {
            let value = value(*row, key);
            if *row >= end_row {
                let trace = view.batch.trace_of(*row as usize);
                (end_row, rank) = (trace.end_row, rank_of(trace.id));
            }
            let start_ns = starts[*row as usize] as u64;
            if !self.exemplars.would_take(start_ns, rank) || value.is_some_and(f64::is_nan) {
                continue;
            }
            let labels = self.told.iter().filter_map(|field| {
                let value: Datum<'_> = view.value(field, Place::span(*row as usize));
                Some((field.to_string(), value.answer()?))
            });
            let id = view.batch.trace_of(*row as usize).id;
            let labels: Vec<(String, AnswerValue)> =
                std::iter::once(trace_label(id)).chain(labels).collect();
            self.exemplars.offer(ExemplarSpan {
                key: series_key(&self.values, &self.names, *key),
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
