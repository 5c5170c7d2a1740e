//! The streaming part: series come in batches, run through a chain of steps on the compute pool, and end in a fold.

use std::sync::Arc;

use futures::future::{join, try_join_all};
use lgtm_core::model::{FloatHistogram, Labels, TimeRange};
use lgtm_core::vector::{StepGrid, is_gap};

use super::cells::{Cells, Element, Series};
use super::context::{Charge, Context, Switches};
use super::decode::{Wanted, decode};
use super::elements::{Outcome, arithmetic, combine, comparison};
use super::labels::{merge_equal, metric, without_metadata};
use super::selector::{Wish, instants, smoothed};
use crate::promql::annotations::{Annotations, Note, Operation};
use crate::promql::ast::{BinaryOp, Edges};
use crate::promql::functions::{
    FloatMap, RangeFunction, RangeNotes, Samples, WindowGrid, evaluate,
};
use crate::promql::plan::Selector;
use crate::promql::query_error::{QueryError, Result};
use crate::select::{SelectHints, SeriesBatches, SeriesChunks};

/// Where a chain begins.
#[derive(Debug)]
pub(super) enum Source {
    Instant {
        selector: Selector,
        wish: Wish,
    },
    Range {
        selector: Selector,
        range_ms: i64,
        call: RangeCall,
    },
}

/// A range function and its scalar arguments.
#[derive(Debug)]
pub(super) struct RangeCall {
    pub(super) function: RangeFunction,
    /// One value per step each.
    pub(super) params: Vec<Vec<f64>>,
    /// Place of its first argument.
    pub(super) pos: usize,
}

/// A step of a chain: changes the values of one series, knows no other.
#[derive(Debug)]
pub(super) enum Map {
    Float(FloatMap),
    Negate,
    /// A float of each histogram.
    Statistic(fn(&FloatHistogram) -> f64),
    /// Lowest and highest value, per step.
    Clamp(Vec<f64>, Vec<f64>),
    /// Distance of the values to round to, per step.
    Round(Vec<f64>),
    /// The time of the step, seconds.
    StepTime(StepGrid),
    Scalar(ScalarOperation),
    /// Has no value: `start_timestamp` of something computed.
    Nothing,
}

/// An operator with a scalar on one side.
#[derive(Debug)]
pub(super) struct ScalarOperation {
    pub(super) op: BinaryOp,
    /// One value per step.
    pub(super) values: Vec<f64>,
    /// Whether the scalar stands on the left.
    pub(super) scalar_first: bool,
    pub(super) return_bool: bool,
    pub(super) pos: usize,
}

impl Map {
    /// Applies it to the values of a series.
    pub(super) fn apply(&self, cells: &mut Cells, notes: &mut Annotations) {
        match self {
            Self::Float(f) => floats_only(cells, |_, v| f(v)),
            Self::Clamp(min, max) => {
                floats_only(cells, |step, v| clamp(v, min[step], max[step]));
                for step in 0..cells.steps() {
                    if max[step] < min[step] {
                        cells.unset(step);
                    }
                }
            }
            Self::Round(to) => floats_only(cells, |step, v| {
                let inverse = 1.0 / to[step];
                (v * inverse + 0.5).floor() / inverse
            }),
            Self::StepTime(grid) => {
                for step in 0..cells.steps() {
                    if cells.has(step) {
                        cells.set(step, Element::Float(grid.at(step) as f64 / 1000.0));
                    }
                }
            }
            Self::Statistic(f) => {
                let histograms = std::mem::take(&mut cells.histograms);
                cells.floats.fill(lgtm_core::vector::GAP);
                for (out, h) in cells.floats.iter_mut().zip(&histograms) {
                    if let Some(h) = h {
                        *out = f(h);
                    }
                }
            }
            Self::Negate => negate(cells),
            Self::Nothing => {
                let steps = cells.steps();
                cells.reset(steps);
            }
            Self::Scalar(o) => {
                o.apply(cells, notes);
                // A comparison that filters gives what was there.
                cells.drop_name |= o.return_bool || arithmetic(o.op).is_some();
                return;
            }
        }
        cells.drop_name = true;
    }
}

fn clamp(v: f64, min: f64, max: f64) -> f64 {
    // NaN on any side gives NaN.
    if v.is_nan() || min.is_nan() || max.is_nan() {
        return f64::NAN;
    }
    v.min(max).max(min)
}

fn floats_only(cells: &mut Cells, f: impl Fn(usize, f64) -> f64) {
    cells.histograms.clear();
    for (step, v) in cells.floats.iter_mut().enumerate() {
        if !is_gap(*v) {
            *v = f(step, *v);
        }
    }
}

fn negate(cells: &mut Cells) {
    for v in cells.floats.iter_mut().filter(|v| !is_gap(**v)) {
        *v = -*v;
    }
    for h in cells.histograms.iter_mut().flatten() {
        let mut out = (**h).clone();
        crate::promql::histogram::multiply(&mut out, -1.0);
        *h = Arc::new(out);
    }
}

impl ScalarOperation {
    fn apply(&self, cells: &mut Cells, notes: &mut Annotations) {
        if !cells.has_histograms() {
            if let Some(f) = arithmetic(self.op) {
                let values = cells.floats.iter_mut().zip(&self.values);
                for (v, s) in values.filter(|(v, _)| !is_gap(**v)) {
                    *v = if self.scalar_first {
                        f(*s, *v)
                    } else {
                        f(*v, *s)
                    };
                }
                return;
            }
            if let Some(holds) = comparison(self.op) {
                let values = cells.floats.iter_mut().zip(&self.values);
                for (v, s) in values.filter(|(v, _)| !is_gap(**v)) {
                    let holds = if self.scalar_first {
                        holds(s, v)
                    } else {
                        holds(v, s)
                    };
                    *v = match (self.return_bool, holds) {
                        (true, holds) => f64::from(u8::from(holds)),
                        (false, true) => *v,
                        (false, false) => lgtm_core::vector::GAP,
                    };
                }
                return;
            }
        }
        for step in 0..cells.steps() {
            let Some(vector) = cells.get(step) else {
                continue;
            };
            let scalar = Element::Float(self.values[step]);
            let (lhs, rhs) = match self.scalar_first {
                true => (&scalar, &vector),
                false => (&vector, &scalar),
            };
            match combine(self.op, lhs, rhs, self.pos, notes) {
                Outcome::Value(value) => {
                    let value = match self.return_bool {
                        true => Element::Float(1.0),
                        // What passes is the vector's value, on whichever side it stands.
                        false if self.op.is_comparison() => vector,
                        false => value,
                    };
                    cells.set(step, value);
                }
                Outcome::Filtered if self.return_bool => cells.set(step, Element::Float(0.0)),
                Outcome::Filtered | Outcome::Failed => cells.unset(step),
            }
        }
    }
}

/// Source and steps of a chain.
#[derive(Debug)]
pub(super) struct Pipeline {
    pub(super) source: Source,
    pub(super) maps: Vec<Map>,
    pub(super) grid: StepGrid,
    pub(super) hints: SelectHints,
}

/// Takes in series and keeps what it needs of them.
pub(super) trait Fold: Sized + Send + 'static {
    /// Takes in the values of a series; it may take them out of `cells`. `place` orders series as the store does.
    fn add(
        &mut self,
        place: u64,
        labels: &Labels,
        cells: &mut Cells,
        notes: &mut Annotations,
    ) -> Result<()>;

    /// Labels that it keeps, or with `true` leaves out, if it groups.
    fn grouping(&self) -> Option<(Vec<String>, bool)> {
        None
    }

    /// An empty one of the same kind.
    fn fork(&self) -> Self;

    /// Takes over what another took in.
    fn join(&mut self, other: Self, notes: &mut Annotations) -> Result<()>;
}

impl Pipeline {
    /// Runs all series of the store through the chain.
    ///
    /// As many batches as there are lanes are computed at the same time while the next ones are fetched. Which lane takes which
    /// batch is fixed, so that sums come out the same each time.
    pub(super) async fn run<F: Fold>(
        self: Arc<Self>,
        ctx: &Arc<Context>,
        mut fold: F,
    ) -> Result<F> {
        let lookback_ms = ctx.switches.lookback_ms;
        let (selector, range) = {
            let (selector, windows) = self.windows(lookback_ms);
            (selector.clone(), selector.time_range(&windows, lookback_ms))
        };
        let mut batches = ctx.select(&selector, range, self.hints.clone()).await?;
        let width = ctx.switches.parallelism.max(1);
        let mut round = fetch(&mut batches, width).await?;
        if round.len() == 1 && round[0].len() <= 64 {
            // Small answers need neither lanes nor the pool.
            let cost = round[0].iter().map(|s| cost_of(s, &self.grid)).sum();
            let chain = Arc::clone(&self);
            let first = round.remove(0);
            fold = ctx
                .compute(cost, move |ctx| chain.batch(ctx, first, 0, range, fold))
                .await?;
            round = fetch(&mut batches, width).await?;
        }
        let mut lanes: Vec<F> = (0..width).map(|_| fold.fork()).collect();
        let mut place = 1u64 << 32;
        while !round.is_empty() {
            let mut jobs = Vec::with_capacity(width);
            for batch in round {
                let lane = lanes.remove(0);
                let (chain, ctx) = (Arc::clone(&self), Arc::clone(ctx));
                let from = place;
                place += batch.len() as u64;
                jobs.push(async move {
                    let cancel = ctx.cancel.clone();
                    let executor = ctx.executor.clone();
                    executor
                        .run(
                            move |_| chain.batch(&ctx, batch, from, range, lane),
                            &cancel,
                        )
                        .await
                });
            }
            let (done, fetched) = join(try_join_all(jobs), fetch(&mut batches, width)).await;
            // Only the last round may leave lanes idle, so that their order stays what it was.
            lanes.extend(done?);
            round = fetched?;
        }
        let mut notes = Annotations::default();
        for lane in lanes {
            fold.join(lane, &mut notes)?;
        }
        ctx.merge_notes(notes);
        Ok(fold)
    }

    fn windows(&self, lookback_ms: i64) -> (&Selector, WindowGrid) {
        match &self.source {
            Source::Instant { selector, .. } => {
                (selector, selector.windows(self.grid, lookback_ms))
            }
            Source::Range {
                selector, range_ms, ..
            } => (selector, selector.windows(self.grid, *range_ms)),
        }
    }

    /// One batch through the chain.
    fn batch<F: Fold>(
        &self,
        ctx: &Context,
        batch: Vec<SeriesChunks>,
        place: u64,
        range: TimeRange,
        mut fold: F,
    ) -> Result<F> {
        let mut worker = Worker {
            chain: self,
            ctx,
            range,
            samples: Samples::default(),
            cells: Cells::default(),
            notes: Annotations::default(),
            read: 0,
        };
        for (i, series) in batch.iter().enumerate() {
            if i % 16 == 0 {
                ctx.cancel.check("query")?;
            }
            worker.series(series)?;
            if !worker.cells.is_empty() {
                let cells = &mut worker.cells;
                fold.add(place + i as u64, &series.labels, cells, &mut worker.notes)?;
            }
        }
        ctx.usage.note_read(worker.read);
        ctx.merge_notes(worker.notes);
        Ok(fold)
    }
}

fn cost_of(series: &SeriesChunks, grid: &StepGrid) -> usize {
    // About a byte and a half per sample.
    grid.len() + series.chunks.iter().map(|c| c.data.len()).sum::<usize>()
}

/// Up to `width` batches.
async fn fetch(
    batches: &mut Box<dyn SeriesBatches>,
    width: usize,
) -> Result<Vec<Vec<SeriesChunks>>> {
    let mut out = Vec::with_capacity(width);
    while out.len() < width {
        match batches.next_batch().await? {
            Some(batch) if batch.is_empty() => {}
            Some(batch) => out.push(batch),
            None => break,
        }
    }
    Ok(out)
}

/// The buffers of one batch.
struct Worker<'a> {
    chain: &'a Pipeline,
    ctx: &'a Context,
    range: TimeRange,
    samples: Samples,
    cells: Cells,
    notes: Annotations,
    read: u64,
}

impl Worker<'_> {
    /// Computes `cells` of a series.
    fn series(&mut self, series: &SeriesChunks) -> Result<()> {
        let switches = &self.ctx.switches;
        let (selector, windows) = self.chain.windows(switches.lookback_ms);
        let wanted = Wanted {
            range: self.range,
            stale: matches!(&self.chain.source, Source::Instant { selector, .. } if selector.edges == Edges::Plain),
            starts: switches.start_timestamps
                && match &self.chain.source {
                    Source::Instant { wish, .. } => *wish == Wish::StartTime,
                    Source::Range { call, .. } => call.function.wants_starts(),
                },
        };
        decode(&series.chunks, wanted, &mut self.samples)
            .map_err(|e| self.ctx.corrupt(&series.labels, e))?;
        self.cells.reset(windows.grid.len());
        match &self.chain.source {
            Source::Instant { wish, .. } => {
                if selector.edges == Edges::Smoothed {
                    let mut notes = RangeNotes::default();
                    let (samples, out) = (&self.samples, &mut self.cells);
                    smoothed(samples, &windows, switches.lookback_ms, out, &mut notes);
                    note_range(notes, &series.labels, self.chain.hints.pos, &mut self.notes);
                    self.read += self.samples.len() as u64;
                } else {
                    self.read += instants(&self.samples, &windows, *wish, &mut self.cells);
                }
                self.cells.drop_name = *wish != Wish::Value;
            }
            Source::Range { call, .. } => {
                let edges = selector.edges;
                let (samples, out, notes) = (&self.samples, &mut self.cells, &mut self.notes);
                self.read += call.apply(
                    samples,
                    &windows,
                    edges,
                    switches,
                    &series.labels,
                    out,
                    notes,
                )?;
            }
        }
        for map in &self.chain.maps {
            map.apply(&mut self.cells, &mut self.notes);
        }
        Ok(())
    }
}

impl RangeCall {
    /// Computes the values of a series from its samples. Returns how many samples the windows hold.
    #[allow(
        clippy::too_many_arguments,
        reason = "the one call of the hot loop: a struct would be built per series"
    )]
    pub(super) fn apply(
        &self,
        samples: &Samples,
        windows: &WindowGrid,
        edges: Edges,
        switches: &Switches,
        labels: &Labels,
        out: &mut Cells,
        notes: &mut Annotations,
    ) -> Result<u64> {
        let mut seen = RangeNotes::default();
        let edges = (edges, switches.lookback_ms);
        let read = evaluate(
            self.function,
            samples,
            windows,
            edges,
            &self.params,
            out,
            &mut seen,
        )
        .map_err(QueryError::Execution)?;
        out.drop_name |= !self.function.keeps_name();
        note_range(seen, labels, self.pos, notes);
        if self.function == RangeFunction::Quantile {
            self.note_quantiles(out, notes);
        }
        if self.function.expects_counter_name() && !samples.times.is_empty() {
            self.note_name(labels, out, notes);
        }
        Ok(read)
    }

    fn note_quantiles(&self, out: &Cells, notes: &mut Annotations) {
        for (q, v) in self.params[0].iter().zip(&out.floats) {
            if !(0.0..=1.0).contains(q) && !is_gap(*v) {
                notes.add(Note::InvalidQuantile(*q), self.pos);
            }
        }
    }

    fn note_name(&self, labels: &Labels, out: &Cells, notes: &mut Annotations) {
        let name = labels.metric_name().unwrap_or("");
        let fits = ["_total", "_sum", "_count", "_bucket"]
            .iter()
            .any(|end| name.ends_with(end));
        if !name.is_empty() && !fits && out.floats.iter().any(|v| !is_gap(*v)) {
            let metric = name.to_owned();
            notes.add(Note::PossibleNonCounter { metric }, self.pos);
        }
    }
}

/// Turns what a range function noticed into notes about a metric.
fn note_range(seen: RangeNotes, labels: &Labels, pos: usize, notes: &mut Annotations) {
    if seen.is_empty() {
        return;
    }
    let metric = metric(labels);
    let mut add = |flag: RangeNotes, note: Note| {
        if seen.has(flag) {
            notes.add(note, pos);
        }
    };
    let m = || metric.clone();
    add(
        RangeNotes::MIXED,
        Note::MixedFloatsHistograms { metric: m() },
    );
    add(RangeNotes::NOT_COUNTER, Note::NotCounter { metric: m() });
    add(RangeNotes::NOT_GAUGE, Note::NotGauge { metric: m() });
    add(
        RangeNotes::MIXED_BUCKETS,
        Note::MixedExponentialCustom { metric: m() },
    );
    add(
        RangeNotes::HISTOGRAMS_IGNORED,
        Note::IgnoredInMixedRange { metric: m() },
    );
    add(
        RangeNotes::RECONCILED_ADD,
        Note::BoundsReconciled(Operation::Addition),
    );
    add(
        RangeNotes::RECONCILED_SUB,
        Note::BoundsReconciled(Operation::Subtraction),
    );
    add(
        RangeNotes::RECONCILED_AGG,
        Note::BoundsReconciled(Operation::Aggregation),
    );
    add(
        RangeNotes::HINTS_COLLIDE,
        Note::HintCollision(Operation::Aggregation),
    );
    add(
        RangeNotes::STARTS_OVERLAP,
        Note::StartTimeOverlap { metric: m() },
    );
}

/// Keeps all series, in the order of the store.
#[derive(Debug)]
pub(super) struct Collect {
    series: Vec<(u64, Series)>,
    charge: Charge,
    delayed_names: bool,
    /// Whether names were dropped, so that series may have become equal.
    dropped: bool,
}

impl Collect {
    pub(super) fn new(ctx: &Context) -> Self {
        Self {
            series: Vec::new(),
            charge: Charge::none(&ctx.usage),
            delayed_names: ctx.switches.delayed_names,
            dropped: false,
        }
    }

    /// Keeps names whatever was computed.
    pub(super) fn named(ctx: &Context) -> Self {
        Self {
            delayed_names: true,
            ..Self::new(ctx)
        }
    }

    /// The series and the memory they take.
    pub(super) fn finish(mut self) -> Result<(Vec<Series>, Charge)> {
        if !self.series.is_sorted_by_key(|s| s.0) {
            self.series.sort_by_key(|s| s.0);
        }
        let series: Vec<Series> = self.series.into_iter().map(|s| s.1).collect();
        let series = if self.dropped {
            merge_equal(series)?
        } else {
            series
        };
        Ok((series, self.charge))
    }
}

impl Fold for Collect {
    fn add(
        &mut self,
        place: u64,
        labels: &Labels,
        cells: &mut Cells,
        _: &mut Annotations,
    ) -> Result<()> {
        let mut cells = std::mem::take(cells);
        let mut labels = labels.clone();
        if cells.drop_name && !self.delayed_names {
            labels = without_metadata(&labels);
            cells.drop_name = false;
            self.dropped = true;
        }
        let bytes = cells.bytes() + labels.size_bytes() as u64 + 64;
        self.charge.grow(cells.points(), bytes)?;
        self.series.push((place, Series { labels, cells }));
        Ok(())
    }

    fn fork(&self) -> Self {
        Self {
            series: Vec::new(),
            charge: self.charge.empty(),
            delayed_names: self.delayed_names,
            dropped: false,
        }
    }

    fn join(&mut self, other: Self, _: &mut Annotations) -> Result<()> {
        self.series.extend(other.series);
        self.charge.join(other.charge);
        self.dropped |= other.dropped;
        Ok(())
    }
}
