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
use super::table::{
    LabelReading, MAX_LABELS, SeriesTable, Values, check_bytes, number_at, series_key,
};
use crate::select::{Field, Intrinsic, SpanBatch, TraceRow};

/// Rows that are looked at together; then it is asked whether anybody waits, and whether the series take too much.
const ROWS_AT_ONCE: usize = 2048;

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

/// Rows that count, of those that are looked at together.
#[derive(Debug, Default)]
struct LegRows {
    rows: Vec<u32>,
    /// The interval of each.
    intervals: Vec<u32>,
    /// The number of each one's value, label by label.
    labels: Vec<Vec<u32>>,
    /// The group of each.
    groups: Vec<u32>,
}

/// Finds the traces of rows that ascend.
#[derive(Debug)]
struct TracesOfRows<'b> {
    traces: std::slice::Iter<'b, TraceRow>,
    end_row: u32,
    rank: u64,
}

impl<'b> TracesOfRows<'b> {
    fn new(batch: &'b SpanBatch) -> Self {
        Self {
            traces: batch.traces.iter(),
            end_row: 0,
            rank: 0,
        }
    }

    /// Where the rows of the row's trace end, and the rank of the trace.
    fn of_row(&mut self, row: u32) -> (u32, u64) {
        if row >= self.end_row
            && let Some(trace) = self.traces.find(|trace| trace.end_row > row)
        {
            (self.end_row, self.rank) = (trace.end_row, rank_of(trace.id));
        }
        // A row of no trace ends what is looked at.
        (self.end_row.max(row.saturating_add(1)), self.rank)
    }
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
        let view = View::new(batch);
        let by = self.by.clone();
        let fields = by.iter().take(MAX_LABELS);
        let mut readings: Vec<_> = fields.map(|f| LabelReading::new(&view, f)).collect();
        let field = self.function.field().cloned();
        // Of a few rows at a time everything stays in the processor's caches.
        let rows_at_once = match &self.compare {
            None => ROWS_AT_ONCE,
            Some(_) => mask.len().max(1),
        };
        let mut part = LegRows::default();
        let mut grid = self.grid.cursor();
        let mut traces = TracesOfRows::new(batch);
        for (n, mask) in mask.chunks(rows_at_once).enumerate() {
            check_wanted("the counting of spans")?;
            part.rows.clear();
            part.intervals.clear();
            let first = n * rows_at_once;
            let starts_of_rows = starts.values.get(first..).unwrap_or_default();
            for ((row, hit), start) in (first as u32..).zip(mask).zip(starts_of_rows) {
                if *hit && let Some(interval) = grid.index_of(*start as u64) {
                    part.rows.push(row);
                    part.intervals.push(interval as u32);
                }
            }
            if part.rows.is_empty() {
                continue;
            }
            if let Some(compare) = &mut self.compare {
                let rows = (part.rows.as_slice(), part.intervals.as_slice());
                compare.fold(&view, &starts.values, rows, max_bytes)?;
                continue;
            }
            self.find_groups(&view, &mut readings, &mut part);
            let in_view = (&view, starts.values.as_slice());
            match &self.function {
                MetricsFunction::Rate | MetricsFunction::CountOverTime => {
                    for (group, interval) in part.groups.iter().zip(&part.intervals) {
                        if let Cells::Counts(cells) = self.table.cells(*group, None) {
                            cells[*interval as usize] += 1;
                        }
                    }
                    let counted = |_| Some((None, None));
                    self.take_exemplars(in_view, &part, &mut traces, counted);
                }
                _ => {
                    if let Some(field) = &field {
                        self.fold_values(in_view, field, &part, &mut traces);
                    }
                }
            }
            check_bytes(&self.values, &self.table, max_bytes)?;
        }
        Ok(())
    }

    /// The group of each row.
    fn find_groups(
        &mut self,
        view: &View<'_>,
        readings: &mut [LabelReading<'_>],
        part: &mut LegRows,
    ) {
        part.labels.resize_with(readings.len(), Vec::new);
        for ((reading, field), numbers) in readings.iter_mut().zip(&self.by).zip(&mut part.labels) {
            self.values.of_rows(view, reading, &part.rows, numbers);
            self.values.keep_typed(field, numbers);
        }
        let rows = part.rows.len();
        self.table.groups(&part.labels, rows, &mut part.groups);
    }

    fn fold_values(
        &mut self,
        (view, starts): (&View<'_>, &[i64]),
        field: &Field,
        part: &LegRows,
        traces: &mut TracesOfRows<'_>,
    ) {
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
        let rows = part.rows.iter().zip(&part.groups).zip(&part.intervals);
        for ((row, group), interval) in rows {
            if let Some((bucket, number)) = counted(*row) {
                let cells = self.table.cells(*group, bucket);
                gather(cells, *interval as usize, number);
            }
        }
        self.take_exemplars((view, starts), part, traces, |row| {
            let (bucket, number) = counted(row)?;
            Some((bucket, Some(in_seconds(number))))
        });
    }

    /// Offers spans as exemplars; those whose value is not a number stand for nothing. `value` tells bucket and value of a row; none: it does not count.
    fn take_exemplars(
        &mut self,
        (view, starts): (&View<'_>, &[i64]),
        part: &LegRows,
        traces: &mut TracesOfRows<'_>,
        value: impl Fn(u32) -> Option<(Option<Bucket>, Option<f64>)>,
    ) {
        let of_rows = part.rows.iter().map(|row| starts[*row as usize] as u64);
        let highest_rank = self.exemplars.highest_rank(of_rows);
        let mut rest = part.rows.iter().zip(&part.groups).peekable();
        while let Some((first, _)) = rest.peek() {
            let (end_row, rank) = traces.of_row(**first);
            let is_of_trace = |(row, _): &(&u32, &u32)| **row < end_row;
            let is_hopeless = highest_rank.is_none_or(|highest| rank > highest);
            while let Some((row, group)) = rest.next_if(is_of_trace) {
                if is_hopeless {
                    continue;
                }
                let start_ns = starts[*row as usize] as u64;
                if !self.exemplars.would_take(start_ns, rank) {
                    continue;
                }
                let Some((bucket, value)) =
                    value(*row).filter(|(_, v)| !v.is_some_and(f64::is_nan))
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
            exemplars: self.exemplars.of_part(),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::select::{AttributeScope, Column, NumberColumn, TextColumn, TextDictionary};
    use crate::trace::TraceId;
    use crate::traceql::{Metrics, MetricsPartial, MetricsSettings, parse};

    const START_NS: u64 = 1_750_000_000_000_000_000;

    fn spans_of(trace: u32) -> u32 {
        1 + trace * 7 % 40
    }

    /// Some traces, the same ones of whatever batch they are.
    fn batch(traces: std::ops::Range<u32>) -> SpanBatch {
        let mut out = SpanBatch::default();
        let mut dictionary = TextDictionary::default();
        let (mut codes, mut starts, mut durations, mut sizes) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for name in ["cart", "checkout", "payment"] {
            dictionary.push(name.as_bytes()).unwrap();
        }
        for trace in traces {
            for span in 0..spans_of(trace) {
                let mixed = (trace * 131 + span * 17) % 997;
                codes.push(mixed % 4);
                starts.push((START_NS + u64::from(mixed) * 100_000_000) as i64);
                durations.push(i64::from(mixed) * 1_000_000);
                sizes.push(i64::from(mixed % 5));
            }
            out.traces.push(TraceRow {
                id: TraceId::new((u128::from(trace) << 64 | 1).to_be_bytes()),
                end_row: starts.len() as u32,
                start_ns: START_NS,
                ..TraceRow::default()
            });
        }
        let ints = |values: Vec<i64>| Column {
            ints: Some(NumberColumn {
                values,
                present: None,
            }),
            ..Column::default()
        };
        let texts = Column {
            texts: Some(TextColumn { dictionary, codes }),
            ..Column::default()
        };
        out.columns = vec![
            (Intrinsic::StartTime.into(), ints(starts)),
            (Intrinsic::Duration.into(), ints(durations)),
            (Field::attribute(AttributeScope::Span, "size"), ints(sizes)),
            (Field::attribute(AttributeScope::Span, "service"), texts),
        ];
        out
    }

    #[test]
    fn many_rows_count_as_those_of_each_trace_alone() {
        const TRACES: u32 = 500;
        let rows: u32 = (0..TRACES).map(spans_of).sum();
        assert!(rows as usize > 4 * ROWS_AT_ONCE);
        for text in [
            "{} | rate() by (span.service)",
            "{span.service != `cart`} | count_over_time() by (span.service, span.size)",
            "{} | quantile_over_time(duration, .5) by (span.service)",
            "{} | histogram_over_time(span.size)",
            "{span.size > 1} | sum_over_time(duration) by (trace:id)",
            "{} | compare({span.size = 3})",
        ] {
            let query = parse(text).unwrap();
            let settings = MetricsSettings {
                grid: IntervalGrid::range(START_NS, START_NS + 100_000_000_000, 7_000_000_000)
                    .unwrap(),
                exemplars: 100,
                max_series: 0,
                max_bytes: 64 << 20,
            };
            let fold = |parts: &[std::ops::Range<u32>]| -> MetricsPartial {
                let mut metrics = Metrics::new(&query, &settings).unwrap();
                for part in parts {
                    metrics.fold(&batch(part.clone())).unwrap();
                }
                metrics.finish()
            };
            let alone: Vec<_> = (0..TRACES).map(|n| n..n + 1).collect();
            assert_eq!(
                fold(std::slice::from_ref(&(0..TRACES))),
                fold(&alone),
                "{text}"
            );
        }
    }
}
