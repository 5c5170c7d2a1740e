//! A metrics query: batches in, series out.

use lgtm_core::exec::is_abandoned;
use lgtm_core::{Error, Result};

use super::super::anchor::anchor_of;
use super::super::ast::*;
use super::super::plan;
use super::super::value::AnswerValue;
use super::cells::{Cells, SumCell};
use super::compare::{COUNTED, cut_to_top};
use super::grid::IntervalGrid;
use super::leg::Leg;
use super::partial::{LegPartial, MetricsPartial, SeriesKey, SeriesLabels};
use super::quantile::quantile;
use super::series::{Exemplar, NAME, Series, SeriesSet};
use crate::select::{
    Field, Intrinsic, Literal, SpanBatch, SpanFilter, SpanRequest, StartRange, TraceRange,
};

/// Exemplars of a query that does not say how many, and the most of any.
const MAX_EXEMPLARS: usize = 100;

/// What a metrics query may give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetricsSettings {
    /// The intervals.
    pub grid: IntervalGrid,
    /// Exemplars that are asked for beside the query; 0: as many as there may be.
    pub exemplars: usize,
    /// Series that are told; 0: all.
    pub max_series: usize,
    /// Bytes that series may take while spans are gathered, about.
    pub max_bytes: usize,
}

/// A metrics query under way.
#[derive(Debug)]
pub struct Metrics {
    legs: Vec<Leg>,
    request: SpanRequest,
    grid: IntervalGrid,
    max_bytes: usize,
    needs_whole_traces: bool,
}

/// Series of a query.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricsAnswer {
    /// The intervals.
    pub grid: IntervalGrid,
    /// The series: those of fewer labels first, then by labels.
    pub series: Vec<Series>,
    /// Says, when series were left out, how many there may be.
    pub partial: Option<String>,
}

/// Exemplars that a query may have.
fn exemplars(query: &Query, settings: &MetricsSettings) -> usize {
    let wanted = match query.hint("exemplars") {
        Some(Literal::Bool(false)) => return 0,
        Some(Literal::Int(n)) => return usize::try_from(*n).unwrap_or(0).min(MAX_EXEMPLARS),
        _ => settings.exemplars,
    };
    if wanted == 0 {
        MAX_EXEMPLARS
    } else {
        wanted.min(MAX_EXEMPLARS)
    }
}

impl Metrics {
    /// Of a query that [`parse`](super::super::parse) gave.
    ///
    /// # Errors
    /// `InvalidInput` for a query that makes no series.
    pub fn new(query: &Query, settings: &MetricsSettings) -> Result<Self> {
        let queries = query.metrics_queries();
        if queries.is_empty() {
            return Err(Error::InvalidInput("not a metrics query".to_owned()));
        }
        let grid = settings.grid;
        // Who starts in the range is enough, unless the others decide whether it counts.
        let is_plain = queries.iter().all(|q| {
            let mut stages = q.pipeline.stages.iter();
            stages.all(|s| matches!(s, Stage::Spanset(SpansetExpr::Filter(_)) | Stage::Select(_)))
        });
        let mut request = SpanRequest {
            traces: Some(TraceRange {
                start_ns: grid.after_ns.saturating_add(1),
                end_ns: grid.until_ns(),
            }),
            starts: is_plain.then_some(StartRange {
                after_ns: grid.after_ns,
                until_ns: grid.until_ns(),
            }),
            filter: SpanFilter::any(queries.iter().map(|q| plan::filter_of(&q.pipeline))),
            anchor: SpanFilter::any(queries.iter().map(|q| anchor_of(&q.pipeline))),
            is_read_once: true,
            ..SpanRequest::default()
        };
        let columns = &mut request.columns;
        columns.add(&Intrinsic::StartTime.into());
        let count = exemplars(query, settings);
        for query in &queries {
            plan::add_columns(&query.pipeline, columns);
            query.by.iter().for_each(|field| columns.add(field));
            if let Some(field) = query.function.field() {
                columns.add(field);
            }
            if let MetricsFunction::Compare(compare) = &query.function {
                compare
                    .selection
                    .each_field(&mut |field| columns.add(field));
                columns.all_attributes = true;
                for intrinsic in COUNTED {
                    columns.add(&intrinsic.into());
                }
            } else if count > 0 {
                let named = plan::named_fields(&query.pipeline);
                named.iter().for_each(|field| columns.add(field));
            }
        }
        let whole = queries.iter().any(|query| needs_whole_traces(query));
        Ok(Self {
            needs_whole_traces: whole,
            legs: queries.iter().map(|q| Leg::new(q, grid, count)).collect(),
            request,
            grid,
            max_bytes: settings.max_bytes,
        })
    }

    /// What to ask holders for.
    pub fn request(&self) -> &SpanRequest {
        &self.request
    }

    /// Whether parts of a trace cannot be counted one by one: what passes, or which series it is of, depends on other spans, or on what the whole
    /// trace is. Copies of a span count once in any case, for which whoever folds has to see to it.
    pub fn needs_whole_traces(&self) -> bool {
        self.needs_whole_traces
    }

    /// Counts what of a batch passes.
    ///
    /// # Errors
    /// `LimitExceeded` when the series would take more than the settings allow.
    pub fn fold(&mut self, batch: &SpanBatch) -> Result<()> {
        self.fold_without(batch, &[])
    }

    /// The same without the traces of these numbers, which ascend.
    ///
    /// # Errors
    /// As [`Metrics::fold`].
    pub fn fold_without(&mut self, batch: &SpanBatch, traces: &[usize]) -> Result<()> {
        let legs = self.legs.iter_mut();
        legs.into_iter()
            .try_for_each(|leg| leg.fold(batch, traces, self.max_bytes))
    }

    /// What these spans make, to be joined with what others make.
    pub fn finish(self) -> MetricsPartial {
        MetricsPartial {
            grid: self.grid,
            legs: self.legs.into_iter().map(Leg::finish).collect(),
        }
    }
}

/// Whether what a function counts depends on more than each span.
fn needs_whole_traces(query: &MetricsQuery) -> bool {
    let own = |field: &Field| plan::is_spans_own(field);
    let mut is_own = plan::is_of_spans(&query.pipeline)
        && query.by.iter().all(own)
        && query.function.field().is_none_or(own);
    if let MetricsFunction::Compare(compare) = &query.function {
        let fields = &mut |field: &Field| is_own &= own(field);
        compare.selection.each_field(fields);
        is_own &= COUNTED.iter().all(|i| own(&Field::Intrinsic(*i)));
    }
    !is_own
}

impl MetricsAnswer {
    /// The answer of a query, of all its parts joined.
    pub fn of(query: &Query, settings: &MetricsSettings, partial: MetricsPartial) -> Self {
        let grid = partial.grid;
        let mut maker = SeriesMaker {
            legs: partial.legs.into_iter(),
            grid,
            exemplars: exemplars(query, settings),
        };
        let mut set = match &query.body {
            QueryBody::Metrics(metrics) => maker.series(metrics),
            QueryBody::Search(_) => SeriesSet {
                series: Vec::new(),
                name: String::new(),
            },
        };
        set.settle(&grid);
        let max = settings.max_series;
        let is_cut = max > 0 && set.series.len() > max;
        if is_cut {
            set.series.truncate(max);
        }
        Self {
            grid,
            series: set.series,
            partial: is_cut.then(|| {
                format!(
                    "Response exceeds maximum series limit of {max}, a partial response is returned. Warning: the accuracy of each individual value is not guaranteed."
                )
            }),
        }
    }
}

struct SeriesMaker {
    legs: std::vec::IntoIter<LegPartial>,
    grid: IntervalGrid,
    exemplars: usize,
}

impl SeriesMaker {
    fn series(&mut self, metrics: &MetricsExpr) -> SeriesSet {
        lgtm_core::exec::with_room(|| match metrics {
            MetricsExpr::Query(query) => {
                let leg = self.legs.next().unwrap_or_default();
                self.of_leg(query, leg)
            }
            // A number alone makes no series; beside series it is taken below.
            MetricsExpr::Number(_) => SeriesSet {
                series: Vec::new(),
                name: String::new(),
            },
            MetricsExpr::Staged(inner, stages) => {
                let mut set = self.series(inner);
                set.settle(&self.grid);
                let stages = stages.iter();
                stages.fold(set, |set, stage| set.staged(stage, &self.grid))
            }
            MetricsExpr::Binary(a, op, b) => match (&**a, &**b) {
                (MetricsExpr::Number(n), b) => self.series(b).with_number(*op, *n, true),
                (a, MetricsExpr::Number(n)) => self.series(a).with_number(*op, *n, false),
                (a, b) => {
                    let left = self.series(a);
                    left.with(*op, self.series(b))
                }
            },
        })
    }

    fn of_leg(&self, query: &MetricsQuery, mut leg: LegPartial) -> SeriesSet {
        let name = query.function.name().to_owned();
        let exemplars = leg.choose_exemplars(self.grid, self.exemplars);
        let mut series = match &query.function {
            MetricsFunction::QuantileOverTime(_, quantiles) => {
                self.quantiles(leg.series, quantiles)
            }
            MetricsFunction::HistogramOverTime(_) => histogram(leg.series),
            MetricsFunction::Compare(compare) => cut_to_top(leg.series, compare)
                .into_iter()
                .map(|(labels, cells)| plain(labels, self.values(query, cells)))
                .collect(),
            function => {
                let is_count = matches!(
                    function,
                    MetricsFunction::Rate | MetricsFunction::CountOverTime
                );
                if is_count && query.by.is_empty() && leg.series.is_empty() {
                    let key = SeriesKey {
                        labels: Vec::new(),
                        bucket: None,
                    };
                    let none = Cells::Counts(vec![0; self.grid.len]);
                    leg.series.insert(key, none);
                }
                let series = leg.series.into_iter();
                let series = series.take_while(|_| !is_abandoned());
                let series = series.map(|(key, cells)| {
                    let labels = named(key.labels, query);
                    plain(labels, self.values(query, cells))
                });
                series.collect()
            }
        };
        for exemplar in exemplars {
            attach(&mut series, query, exemplar, &self.grid);
        }
        SeriesSet { series, name }
    }

    fn values(&self, query: &MetricsQuery, cells: Cells) -> Vec<f64> {
        let of_sum = |cell: SumCell| match (&query.function, cell.count) {
            (_, 0) => f64::NAN,
            (MetricsFunction::AvgOverTime(_), n) => cell.sum() / n as f64,
            _ => cell.sum(),
        };
        match cells {
            Cells::Counts(cells) if matches!(query.function, MetricsFunction::Rate) => {
                let seconds = self.grid.step_seconds();
                cells.into_iter().map(|n| n as f64 / seconds).collect()
            }
            Cells::Counts(cells) => cells.into_iter().map(|n| n as f64).collect(),
            Cells::Sums(cells) => cells.into_iter().map(of_sum).collect(),
            Cells::Least(cells) | Cells::Greatest(cells) => cells,
        }
    }

    fn quantiles(
        &self,
        series: std::collections::BTreeMap<SeriesKey, Cells>,
        quantiles: &[f64],
    ) -> Vec<Series> {
        let mut groups: std::collections::BTreeMap<SeriesLabels, Vec<(f64, Vec<u64>)>> =
            std::collections::BTreeMap::new();
        for (key, cells) in series {
            if let (Some(bucket), Cells::Counts(cells)) = (key.bucket, cells) {
                let group = groups.entry(key.labels).or_default();
                group.push((bucket.bound(), cells));
            }
        }
        let mut out = Vec::new();
        for (labels, mut buckets) in groups {
            if is_abandoned() {
                break;
            }
            buckets.sort_by(|(a, _), (b, _)| a.total_cmp(b));
            for q in quantiles {
                let values = (0..self.grid.len).map(|n| {
                    let counts = buckets.iter().map(|(bound, cells)| (*bound, cells[n]));
                    quantile(*q, &counts.collect::<Vec<_>>())
                });
                let mut labels = labels.clone();
                labels.push(("p".to_owned(), AnswerValue::Float(*q)));
                out.push(plain(labels, values.collect()));
            }
        }
        out
    }
}

fn plain(labels: SeriesLabels, values: Vec<f64>) -> Series {
    Series {
        labels,
        values,
        exemplars: Vec::new(),
    }
}

/// A series has a label at least: `nil` for the first that it might have, else what it is.
fn named(mut labels: SeriesLabels, query: &MetricsQuery) -> SeriesLabels {
    if labels.is_empty() {
        labels.push(match query.by.first() {
            Some(field) => (field.to_string(), AnswerValue::nil()),
            None => (
                NAME.to_owned(),
                AnswerValue::Text(query.function.name().to_owned()),
            ),
        });
    }
    labels
}

fn histogram(series: std::collections::BTreeMap<SeriesKey, Cells>) -> Vec<Series> {
    let series = series.into_iter().filter_map(|(key, cells)| {
        let (Some(bucket), Cells::Counts(cells)) = (key.bucket, cells) else {
            return None;
        };
        let mut labels = key.labels;
        labels.push(("__bucket".to_owned(), AnswerValue::Float(bucket.bound())));
        Some(plain(labels, cells.into_iter().map(|n| n as f64).collect()))
    });
    series.collect()
}

/// Puts a span to the series that it is one of: of several quantiles to the first that is not below it.
fn attach(
    series: &mut [Series],
    query: &MetricsQuery,
    span: super::partial::ExemplarSpan,
    grid: &IntervalGrid,
) {
    let is_counted =
        span.value.is_none() || matches!(query.function, MetricsFunction::HistogramOverTime(_));
    let exemplar = Exemplar {
        labels: span.labels,
        value: span.value.unwrap_or(f64::NAN),
        start_ns: span.start_ns,
        is_counted,
    };
    let home = match (&query.function, span.key.bucket) {
        (MetricsFunction::QuantileOverTime(..), _) => {
            let n = grid.index_of(span.start_ns).unwrap_or(0);
            let labels = &span.key.labels;
            let mut of_group = series
                .iter_mut()
                .filter(|s| {
                    s.labels
                        .split_last()
                        .is_some_and(|(_, rest)| rest == labels.as_slice())
                })
                .collect::<Vec<_>>();
            of_group.sort_by(|a, b| a.values[n].total_cmp(&b.values[n]));
            let at = of_group.iter().position(|s| s.values[n] >= exemplar.value);
            let at = at.unwrap_or(of_group.len().saturating_sub(1));
            (at < of_group.len()).then(|| of_group.swap_remove(at))
        }
        (_, Some(bucket)) => {
            let mut labels = span.key.labels;
            labels.push(("__bucket".to_owned(), AnswerValue::Float(bucket.bound())));
            series.iter_mut().find(|s| s.labels == labels)
        }
        _ => {
            let labels = named(span.key.labels, query);
            series.iter_mut().find(|s| s.labels == labels)
        }
    };
    if let Some(series) = home {
        series.exemplars.push(exemplar);
    }
}
