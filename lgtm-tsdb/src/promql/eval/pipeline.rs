//! The streaming part: series come in batches, run through a chain of steps on the compute pool, and end in a fold.

use std::sync::Arc;

use futures::future::{join, join_all};
use lgtm_core::exec::{CancelToken, move_to_pool};
use lgtm_core::model::{Labels, METRIC_NAME, TimeRange};
use lgtm_core::vector::StepGrid;

use super::cells::{Cells, histogram_points};
use super::context::{Charge, Context, LARGE};
use super::decode::{Wanted, decode, keep_totals};
use super::distinct::{Distinct, Found, Scope};
use super::maps::{Map, name_drop};
use super::range_call::{RangeCall, note_range};
use super::selector::{QuerySeries, SampleField, instants, smoothed};
use crate::chunk;
use crate::chunk::Chunk;
use crate::promql::annotations::Annotations;
use crate::promql::ast::Edges;
use crate::promql::functions::{RangeNotes, Samples, WindowGrid};
use crate::promql::plan::Selector;
use crate::promql::query_error::Result;
use crate::select::{SelectHints, SeriesChunks};

/// Where a chain begins.
#[derive(Debug)]
pub(super) enum PipelineSource {
    Instant {
        selector: Selector,
        field: SampleField,
    },
    Range {
        selector: Selector,
        range_ms: i64,
        call: RangeCall,
    },
}

/// Place of the first series that a lane computes: behind those of a small first batch.
const FIRST_PLACE: u64 = 1 << 32;

/// Source and steps of a chain.
#[derive(Debug)]
pub(super) struct Pipeline {
    pub(super) source: PipelineSource,
    pub(super) maps: Vec<Map>,
    pub(super) grid: StepGrid,
    pub(super) hints: SelectHints,
    /// Where the selector, or the range function around it, stands in the query, bytes.
    pub(super) pos: usize,
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

    /// The labels that it looks at; `None` for all. Who looks at some only may be given series in any order.
    fn labels(&self) -> Option<&[String]> {
        None
    }

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
        let distinct = self
            .name_drop()
            .and_then(|(at, scope)| Some((at, Arc::new(Distinct::of(ctx, &selector, scope)?))));
        // Names are for notes, and whether series meet without their names is seen by all their labels.
        let labels = fold.labels().filter(|_| distinct.is_none());
        let labels = labels.map(|l| l.iter().cloned().chain([METRIC_NAME.to_owned()]).collect());
        let hints = self.hints.clone();
        let mut batches = ctx.select(&selector, range, hints, labels).await?;
        let width = ctx.switches.parallelism.max(1);
        let mut round = fetch(&mut batches, width).await?;
        let cost = match &round[..] {
            [only] => only.iter().map(|s| cost_of(s, &self.grid)).sum(),
            _ => usize::MAX,
        };
        if cost < LARGE || round.len() == 1 && round[0].len() <= 64 {
            // Small answers need neither lanes nor the pool.
            if cost >= LARGE {
                move_to_pool().await;
            }
            let chain = Arc::clone(&self);
            let first = round.remove(0);
            let known = distinct.clone();
            fold = ctx
                .compute(cost, move |ctx| {
                    chain.batch(ctx, first, (0, range), fold, known)
                })
                .await?;
            round = fetch(&mut batches, width).await?;
        }
        if !round.is_empty() {
            // What comes of it is as large, whoever joins, sorts or prints it.
            move_to_pool().await;
        }
        let mut lanes: Vec<F> = (0..width).map(|_| fold.fork()).collect();
        let mut place = FIRST_PLACE;
        while !round.is_empty() {
            let mut jobs = Vec::with_capacity(width);
            for batch in round {
                let lane = lanes.remove(0);
                let from = place;
                place += batch.len() as u64;
                jobs.push(self.in_jobs(ctx, batch, (from, range), lane, distinct.as_ref()));
            }
            // All end, also after an error: what a lane holds is held as long as the query counts it.
            let (done, fetched) = join(join_all(jobs), fetch(&mut batches, width)).await;
            let done: Result<Vec<F>> = done.into_iter().collect();
            // Only the last round may leave lanes idle, so that their order stays what it was.
            lanes.extend(done?);
            round = fetched?;
        }
        if place == FIRST_PLACE {
            return Ok(fold);
        }
        let join = move |ctx: &Context| {
            let mut notes = Annotations::default();
            for lane in lanes {
                fold.join(lane, &mut notes)?;
            }
            ctx.merge_notes(notes);
            Ok(fold)
        };
        ctx.compute(LARGE, join).await
    }

    /// Where in the chain names are lost, as the number of steps until then, and what must not meet there.
    fn name_drop(&self) -> Option<(usize, Scope)> {
        match &self.source {
            PipelineSource::Range { call, .. } if !call.function.keeps_name() => {
                Some((0, Scope::Series))
            }
            PipelineSource::Instant { field, .. } if *field != SampleField::Value => {
                Some((0, Scope::Step))
            }
            _ => Some((name_drop(&self.maps)?, Scope::Step)),
        }
    }

    /// One batch through the chain, in jobs of bounded length: others take their turns in between.
    async fn in_jobs<F: Fold>(
        self: &Arc<Self>,
        ctx: &Arc<Context>,
        mut batch: Vec<SeriesChunks>,
        (mut place, range): (u64, TimeRange),
        mut lane: F,
        distinct: Option<&(usize, Arc<Distinct>)>,
    ) -> Result<F> {
        while !batch.is_empty() {
            let rest = batch.split_off(self.series_of_a_job(&batch));
            let part = std::mem::replace(&mut batch, rest);
            let count = part.len() as u64;
            let (chain, known) = (Arc::clone(self), distinct.cloned());
            let in_job = Arc::clone(ctx);
            let job =
                move |_: &CancelToken| chain.batch(&in_job, part, (place, range), lane, known);
            lane = ctx.executor.run(job, &ctx.cancel).await?;
            place += count;
        }
        Ok(lane)
    }

    /// How many of these series one job computes, at least one.
    fn series_of_a_job(&self, batch: &[SeriesChunks]) -> usize {
        /// Samples and steps looked at in some ten milliseconds.
        const JOB: u64 = 2_000_000;
        let steps = self.grid.len() as u64;
        let (mut cost, mut overlap, mut is_linear) = (0u64, 1, true);
        if let PipelineSource::Range { call, range_ms, .. } = &self.source {
            // In how many windows a sample lies.
            let windows = range_ms / self.grid.step_ms().max(1);
            overlap = windows.unsigned_abs().saturating_add(1).min(steps);
            is_linear = call.function.is_linear();
        }
        for (n, series) in batch.iter().enumerate() {
            // A histogram is tens of values, added one by one whatever the function.
            let looks = if series.chunks.iter().any(|c| c.encoding.is_histogram()) {
                overlap.saturating_mul(16)
            } else if is_linear {
                1
            } else {
                overlap
            };
            let of_samples = sample_count(series).saturating_mul(looks);
            cost = cost.saturating_add(of_samples.saturating_add(steps));
            if cost > JOB {
                return n.max(1);
            }
        }
        batch.len()
    }

    fn windows(&self, lookback_ms: i64) -> (&Selector, WindowGrid) {
        match &self.source {
            PipelineSource::Instant { selector, .. } => {
                (selector, selector.windows(self.grid, lookback_ms))
            }
            PipelineSource::Range {
                selector, range_ms, ..
            } => (selector, selector.windows(self.grid, *range_ms)),
        }
    }

    /// One batch through the chain.
    fn batch<F: Fold>(
        &self,
        ctx: &Context,
        batch: Vec<SeriesChunks>,
        (place, range): (u64, TimeRange),
        mut fold: F,
        distinct: Option<(usize, Arc<Distinct>)>,
    ) -> Result<F> {
        let mut found = distinct.map(|(at, distinct)| (at, Found::of(distinct)));
        let mut worker = Worker {
            chain: self,
            ctx,
            range,
            samples: Samples::default(),
            cells: Cells::default(),
            notes: Annotations::default(),
            read: 0,
            held: Charge::none(&ctx.usage),
        };
        for (i, series) in batch.iter().enumerate() {
            if i % 16 == 0 {
                ctx.cancel.check("query")?;
            }
            worker.source(series)?;
            match &mut found {
                None => apply(&self.maps, &mut worker),
                Some((at, found)) => {
                    let (before, after) = self.maps.split_at(*at);
                    apply(before, &mut worker);
                    found.add(&series.labels, &worker.cells);
                    apply(after, &mut worker);
                }
            }
            if !worker.cells.is_empty() {
                let cells = &mut worker.cells;
                fold.add(place + i as u64, &series.labels, cells, &mut worker.notes)?;
            }
        }
        if let Some((_, found)) = found {
            found.finish()?;
        }
        ctx.usage.note_read(worker.read);
        ctx.merge_notes(worker.notes);
        Ok(fold)
    }
}

fn apply(maps: &[Map], worker: &mut Worker<'_>) {
    for map in maps {
        map.apply(&mut worker.cells, &mut worker.notes);
    }
}

/// Samples that the chunks say they have.
fn sample_count(series: &SeriesChunks) -> u64 {
    let count = |c: &Chunk| chunk::sample_count(c.encoding, &c.data).unwrap_or(0);
    series.chunks.iter().map(|c| u64::from(count(c))).sum()
}

fn cost_of(series: &SeriesChunks, grid: &StepGrid) -> usize {
    // About a byte and a half per sample.
    16 + grid.len() + series.chunks.iter().map(|c| c.data.len()).sum::<usize>()
}

/// Up to `width` batches.
async fn fetch(batches: &mut QuerySeries, width: usize) -> Result<Vec<Vec<SeriesChunks>>> {
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
    /// What the samples take: of one series at a time, but that may be years of them.
    held: Charge,
}

impl Worker<'_> {
    /// Computes what the source gives of a series into `cells`.
    fn source(&mut self, series: &SeriesChunks) -> Result<()> {
        let switches = &self.ctx.switches;
        let (selector, windows) = self.chain.windows(switches.lookback_ms);
        let wanted = Wanted {
            range: self.range,
            stale: matches!(&self.chain.source, PipelineSource::Instant { selector, .. } if selector.edges == Edges::Plain),
            starts: switches.start_timestamps
                && match &self.chain.source {
                    PipelineSource::Instant { field, .. } => *field == SampleField::StartTime,
                    PipelineSource::Range { call, .. } => call.function.wants_starts(),
                },
        };
        self.held.hold(16 * sample_count(series))?;
        decode(&series.chunks, wanted, &mut self.samples)
            .map_err(|e| self.ctx.corrupt(&series.labels, e))?;
        if !self.samples.histograms.is_empty() {
            let histograms = self.samples.histograms.iter();
            self.held
                .hold(histograms.map(|h| 16 * histogram_points(h)).sum())?;
        }
        if selector.totals_only && !self.samples.histograms.is_empty() {
            keep_totals(&mut self.samples.histograms);
        }
        self.cells.reset(windows.grid.len());
        match &self.chain.source {
            PipelineSource::Instant { field, .. } => {
                if selector.edges == Edges::Smoothed {
                    let mut notes = RangeNotes::default();
                    let (samples, out) = (&self.samples, &mut self.cells);
                    smoothed(samples, &windows, switches.lookback_ms, out, &mut notes);
                    note_range(notes, &series.labels, self.chain.pos, &mut self.notes);
                    self.read += self.samples.len() as u64;
                } else {
                    self.read += instants(&self.samples, &windows, *field, &mut self.cells);
                }
                self.cells.drop_name = *field != SampleField::Value;
            }
            PipelineSource::Range { call, .. } => {
                let edges = selector.edges;
                let (samples, out, notes) = (&self.samples, &mut self.cells, &mut self.notes);
                self.read += call.apply(
                    samples,
                    &windows,
                    edges,
                    self.ctx,
                    &series.labels,
                    out,
                    notes,
                )?;
            }
        }
        Ok(())
    }
}
