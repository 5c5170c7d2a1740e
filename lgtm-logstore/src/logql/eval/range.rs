//! Range aggregations: entries into series and segments, segments into windows.

use std::sync::Arc;

use lgtm_core::exec::CancelToken;
use lgtm_core::model::{TimeRangeNs, TimestampNs};
use lgtm_core::vector::{GAP, GridSeries, StepGrid, is_gap};

use super::context::{BatchJob, QueryContext};
use super::sample_groups::SampleGroups;
use super::segments::Segments;
use super::vector::GridVector;
use crate::entry::EntryBlock;
use crate::logql::ast::{Conversion, RangeOp};
use crate::logql::error::ParseError;
use crate::logql::pipeline::{
    ERROR, EntryLabels, Flow, Passed, Pipeline, PipelineScratch, StreamLabels,
};
use crate::logql::plan::{RangePlan, SampleGrouping, SampleValue};
use crate::logql::query_error::{QueryError, Result};
use crate::logql::units::{parse_bytes, parse_float, parse_go_duration};
use crate::logql::usage::Charge;
use crate::select::{CountWish, EntryBatch, SelectHints, SelectRequest, StreamCounts};

/// Set where a label's text is no number.
const SAMPLE_EXTRACTION_ERR: &str = "SampleExtractionErr";

/// What all batches of one aggregation share.
#[derive(Debug)]
struct RangeRun {
    plan: Arc<RangePlan>,
    segments: Segments,
    has_values: bool,
    now_ns: TimestampNs,
}

/// What batches have come to.
#[derive(Debug)]
struct RangeFold {
    groups: SampleGroups,
    passed: u64,
}

/// Runs a range aggregation.
pub(super) async fn run_range(
    ctx: &Arc<QueryContext>,
    plan: Arc<RangePlan>,
    grid: StepGrid,
) -> Result<(GridVector, Charge)> {
    let range_ns = plan.range_ns;
    let offset_ns = plan.offset_ns.saturating_sub(ctx.below_ms_ns);
    let place = move |_: &_| Ok(Segments::new(grid, range_ns, offset_ns));
    let segments = ctx.compute(place).await?;
    let (first, last) = segments.bounds_ns();
    let range = TimeRangeNs::new(first.saturating_add(1), last.saturating_add(1));
    let hints = match &plan.pipeline {
        Ok(p) => SelectHints {
            without_metadata: !p.reads_metadata(),
            ..p.hints()
        },
        Err(_) => SelectHints::default(),
    };
    let request = SelectRequest::new(plan.matchers.clone(), range).hints(hints);
    let mut answer = match count_wish(&plan, &segments) {
        Some(wish) => ctx.select_counted(request, &wish).await?,
        None => ctx.select(request).await?,
    };
    let run = Arc::new(RangeRun {
        has_values: matches!(plan.value, SampleValue::Label { .. }),
        plan,
        segments,
        now_ns: ctx.now_ns,
    });
    // A lane keeps its series from round to round.
    let lanes = Arc::new(parking_lot::Mutex::new(Vec::<RangeFold>::new()));
    while let Some(counts) = answer.next_counts().await? {
        let run = Arc::clone(&run);
        let lane = lanes.lock().pop();
        let mut lane = lane.unwrap_or_else(|| run.fold(ctx.charge()));
        let lane = ctx
            .compute(move |cancel| {
                lane.fill_counted(&run, counts, cancel)?;
                Ok(lane)
            })
            .await?;
        lanes.lock().push(lane);
    }
    let (job_ctx, job_run, job_lanes) = (Arc::clone(ctx), Arc::clone(&run), Arc::clone(&lanes));
    let job = move |batch| -> BatchJob<RangeFold> {
        let run = Arc::clone(&job_run);
        let lane = job_lanes.lock().pop();
        let mut lane = lane.unwrap_or_else(|| run.fold(job_ctx.charge()));
        Box::new(move |cancel| {
            match &run.plan.pipeline {
                Ok(pipeline) => lane.fill(&run, batch, pipeline, cancel)?,
                Err(fault) => return Err(ParseError::clone(fault).into()),
            }
            Ok(lane)
        })
    };
    ctx.each_round(&mut *answer, job, |done, _| {
        // The lanes take turns in the same order each time.
        lanes.lock().extend(done.into_iter().rev());
        Ok(true)
    })
    .await?;
    ctx.note_end(&mut *answer);
    let mut lanes = std::mem::take(&mut *lanes.lock());
    lanes.reverse();
    let whole = run.fold(ctx.charge());
    let (vector, charge, passed) = ctx
        .compute(move |cancel| run.finish(whole, lanes, grid, cancel))
        .await?;
    ctx.note_passed(passed);
    Ok((vector, charge))
}

/// What may come counted, if nothing but times and labels is looked at.
fn count_wish(plan: &RangePlan, segments: &Segments) -> Option<CountWish> {
    let is_value = matches!(plan.value, SampleValue::Label { .. });
    let pipeline = plan.pipeline.as_ref().ok().filter(|_| !is_value)?;
    Some(CountWish {
        labels: pipeline.labels_alone()?,
        edges: segments.edges_ns().to_vec(),
        except: Vec::new(),
    })
}

impl RangeRun {
    fn fold(&self, charge: Charge) -> RangeFold {
        RangeFold {
            groups: SampleGroups::new(self.plan.op, self.has_values, self.segments.len(), charge),
            passed: 0,
        }
    }

    fn finish(
        &self,
        mut whole: RangeFold,
        lanes: Vec<RangeFold>,
        grid: StepGrid,
        cancel: &CancelToken,
    ) -> Result<(GridVector, Charge, u64)> {
        for lane in lanes {
            whole.passed += lane.passed;
            whole.groups.join(lane.groups)?;
        }
        let plan = &self.plan;
        let SampleGroups {
            series, mut charge, ..
        } = whole.groups;
        charge.grow((series.len() as u64 + 1) * grid.len() as u64 * size_of::<f64>() as u64)?;
        let mut out = Vec::with_capacity(series.len());
        for s in series {
            cancel.check("query")?;
            let cells = s
                .fold
                .windows(plan.op, plan.quantile, &self.segments, plan.range_ns);
            if cells.iter().any(|v| !is_gap(*v)) {
                out.push(GridSeries {
                    labels: s.labels,
                    cells,
                });
            }
        }
        if plan.op == RangeOp::AbsentOverTime {
            out = self.absent(out, grid);
        }
        Ok((out, charge, whole.passed))
    }

    /// 1 where there is nothing.
    fn absent(&self, present: GridVector, grid: StepGrid) -> GridVector {
        let present = present.into_iter().next().map(|s| s.cells);
        let is_there = |n: usize| present.as_ref().is_some_and(|p| !is_gap(p[n]));
        let cells: Vec<f64> = (0..grid.len())
            .map(|n| if is_there(n) { GAP } else { 1.0 })
            .collect();
        match cells.iter().all(|v| is_gap(*v)) {
            true => Vec::new(),
            false => vec![GridSeries {
                labels: self.plan.absent_labels.clone(),
                cells,
            }],
        }
    }

    /// Whether all entries of a block are in one series, whatever their metadata.
    fn is_one_series(&self, pipeline: &Pipeline, block: &EntryBlock) -> bool {
        pipeline.keeps_labels()
            && !self.has_values
            && (!block.has_metadata()
                || match &self.plan.grouping {
                    SampleGrouping::None => true,
                    SampleGrouping::By(names) => {
                        names.iter().all(|n| block.symbols().find(n).is_none())
                            && !names.iter().any(|n| n.ends_with("_extracted"))
                    }
                    _ => false,
                })
    }
}

impl RangeFold {
    fn fill(
        &mut self,
        run: &RangeRun,
        batch: EntryBatch,
        pipeline: &Pipeline,
        cancel: &CancelToken,
    ) -> Result<()> {
        let mut scratch = PipelineScratch::at(run.now_ns);
        let mut no_labels = EntryLabels::default();
        let plan = &run.plan;
        for stream_block in batch.blocks {
            cancel.check("query")?;
            let stream = StreamLabels::new(&stream_block.labels);
            let number = self.groups.stream(&stream_block.labels)?;
            let block = &stream_block.block;
            if run.is_one_series(pipeline, block) {
                no_labels.reset(&stream);
                let of = (&stream, number);
                let place = self.groups.of_entry(&plan.grouping, of, &no_labels, None)?;
                self.fill_one(run, (&stream, block), pipeline, place, &mut scratch, cancel)?;
                continue;
            }
            let mut near = 0;
            let mut sink = |mut passed: Passed<'_>| {
                self.take(run, &mut passed, number, &mut near)?;
                Ok(Flow::Continue)
            };
            pipeline.run(&stream, block, false, &mut scratch, cancel, &mut sink)?;
        }
        Ok(())
    }

    /// A block all of whose entries are in one series: without filters nothing is read but times and lengths.
    fn fill_one(
        &mut self,
        run: &RangeRun,
        (stream, block): (&StreamLabels, &EntryBlock),
        pipeline: &Pipeline,
        place: usize,
        scratch: &mut PipelineScratch,
        cancel: &CancelToken,
    ) -> Result<()> {
        let (plan, segments) = (&run.plan, &run.segments);
        let reads_bytes = matches!(plan.value, SampleValue::LineBytes);
        let fold = &mut self.groups.series[place].fold;
        let mut near = 0;
        if !pipeline.is_plain() {
            let passed_lines = &mut self.passed;
            let mut sink = |passed: Passed<'_>| {
                *passed_lines += 1;
                if let Some(segment) = segments.locate(passed.t_ns, near) {
                    near = segment;
                    if segments.is_used(segment) {
                        let value = if reads_bytes {
                            passed.line.len() as f64
                        } else {
                            1.0
                        };
                        fold.add(plan.op, segment, passed.t_ns.get(), value);
                    }
                }
                Ok(Flow::Continue)
            };
            return pipeline.run(stream, block, false, scratch, cancel, &mut sink);
        }
        let (times, lines) = (block.times(), block.lines());
        self.passed += times.len() as u64;
        let mut at = 0;
        while let Some(t_ns) = times.get(at) {
            let Some(segment) = segments.locate(*t_ns, near) else {
                // Before the first segment; what is behind the last was not asked for.
                let (first, _) = segments.bounds_ns();
                let skipped = times[at..].partition_point(|t| *t <= first);
                if skipped == 0 {
                    break;
                }
                at += skipped;
                continue;
            };
            near = segment + 1;
            let end_ns = segments.end_ns(segment);
            let end = at + times[at..].partition_point(|t| *t <= end_ns);
            if segments.is_used(segment) {
                let bytes = if reads_bytes {
                    lines[at..end].iter().map(|l| l.len() as u64).sum::<u64>() as f64
                } else {
                    0.0
                };
                fold.add_count(segment, (end - at) as u64, bytes);
            }
            at = end;
        }
        Ok(())
    }

    /// Entries that were counted already.
    fn fill_counted(
        &mut self,
        run: &RangeRun,
        counts: Vec<StreamCounts>,
        cancel: &CancelToken,
    ) -> Result<()> {
        let Ok(pipeline) = &run.plan.pipeline else {
            return Ok(());
        };
        let (plan, segments) = (&run.plan, &run.segments);
        let reads_bytes = matches!(plan.value, SampleValue::LineBytes);
        let mut scratch = PipelineScratch::at(run.now_ns);
        for counted in counts {
            cancel.check("query")?;
            let stream = StreamLabels::new(&counted.labels);
            let number = self.groups.stream(&counted.labels)?;
            let level = counted.level.as_deref();
            let mut sink = |passed: Passed<'_>| {
                if passed.labels.has_error() && !plan.grouping.keeps_errors() {
                    return Err(pipeline_error(&passed));
                }
                let of = (passed.stream, number);
                let place = self
                    .groups
                    .of_entry(&plan.grouping, of, passed.labels, None)?;
                let fold = &mut self.groups.series[place].fold;
                let mut near = 0;
                for cell in &counted.cells {
                    self.passed += cell.lines;
                    let Some(segment) = segments.locate(cell.t_ns, near) else {
                        continue;
                    };
                    near = segment + 1;
                    if segments.is_used(segment) {
                        let bytes = if reads_bytes { cell.bytes as f64 } else { 0.0 };
                        fold.add_count(segment, cell.lines, bytes);
                    }
                }
                Ok(())
            };
            pipeline.run_labels(&stream, level, &mut scratch, &mut sink)?;
        }
        Ok(())
    }

    /// One entry that passed.
    fn take(
        &mut self,
        run: &RangeRun,
        passed: &mut Passed<'_>,
        number: u32,
        near: &mut usize,
    ) -> Result<()> {
        let plan = &run.plan;
        self.passed += 1;
        let Some(segment) = run.segments.locate(passed.t_ns, *near) else {
            return Ok(());
        };
        *near = segment;
        if !run.segments.is_used(segment) {
            return Ok(());
        }
        let mut unwrapped = None;
        let value = match &plan.value {
            SampleValue::One => 1.0,
            SampleValue::LineBytes => passed.line.len() as f64,
            SampleValue::Label {
                name,
                conversion,
                filters,
            } => {
                let value = match passed.labels.get(passed.stream, name) {
                    None | Some("") => return Ok(()),
                    Some(text) => convert(*conversion, text),
                };
                let value = match value {
                    Ok(value) => {
                        unwrapped = Some(name.as_str());
                        value
                    }
                    Err(e) => {
                        passed.labels.set_error(SAMPLE_EXTRACTION_ERR, e);
                        0.0
                    }
                };
                let (stream, labels) = (passed.stream, &mut *passed.labels);
                if !filters.iter().all(|f| f.holds(stream, labels)) {
                    return Ok(());
                }
                value
            }
        };
        if passed.labels.has_error() && !plan.grouping.keeps_errors() {
            return Err(pipeline_error(passed));
        }
        let of = (passed.stream, number);
        let place = self
            .groups
            .of_entry(&plan.grouping, of, passed.labels, unwrapped)?;
        let fold = &mut self.groups.series[place].fold;
        self.groups.charge.grow(fold.value_bytes())?;
        fold.add(plan.op, segment, passed.t_ns.get(), value);
        Ok(())
    }
}

fn convert(conversion: Conversion, text: &str) -> Result<f64, String> {
    match conversion {
        Conversion::Number => parse_float(text),
        Conversion::Bytes => parse_bytes(text).map(|b| b as f64),
        Conversion::Duration | Conversion::DurationSeconds => {
            parse_go_duration(text).map(|ns| ns as f64 / 1e9)
        }
    }
}

/// That a series carries an error, in the words of Loki.
fn pipeline_error(passed: &Passed<'_>) -> QueryError {
    let error = passed.labels.get(passed.stream, ERROR).unwrap_or("");
    let labels = passed.labels.to_labels(passed.stream, |_, _| false);
    QueryError::Pipeline(format!(
        "pipeline error: '{error}' for series: '{labels}'.\nUse a label filter to intentionally skip this error. (e.g | __error__!=\"{error}\").\nTo skip all potential errors you can match empty errors.(e.g __error__=\"\")\nThe label filter can also be specified after unwrap. (e.g | unwrap latency | __error__=\"\" )\n"
    ))
}
