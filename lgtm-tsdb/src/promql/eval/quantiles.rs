//! `histogram_quantile`, `histogram_quantiles` and `histogram_fraction`, of native histograms and of classic ones, whose buckets are
//! series with a label `le`.

use std::sync::Arc;

use futures::future::try_join_all;
use hashbrown::HashMap;
use lgtm_core::exec::CancelToken;
use lgtm_core::go::format_open_metrics;
use lgtm_core::model::Labels;
use lgtm_core::vector::{GroupTable, Grouping, StepGrid, is_gap};

use super::cells::{Cells, Series};
use super::context::{Charge, Context};
use super::evaluator::{Vector, scalar, vector_of};
use super::labels::{merge_equal, metric, with, without_metadata};
use super::matching::groups_bytes;
use crate::promql::annotations::{Annotations, Forced, Note};
use crate::promql::functions::{ClassicBucket, bucket_fraction, bucket_quantile};
use crate::promql::histogram::{self, NanEffect};
use crate::promql::plan::Node;
use crate::promql::query_error::Result;

const BUCKET_LABEL: &str = "le";

/// A histogram of either kind at all steps.
struct Histogram {
    labels: Labels,
    drop_name: bool,
    /// Bound and place of each bucket's series, ascending.
    classic: Vec<(f64, usize)>,
    /// Places of series of native histograms.
    native: Vec<usize>,
}

/// What is computed of a histogram at a step.
trait Measure {
    fn native(
        &self,
        step: usize,
        h: &lgtm_core::model::FloatHistogram,
        metric: &str,
        notes: &mut Annotations,
    ) -> f64;

    fn classic(
        &self,
        step: usize,
        buckets: &mut Vec<ClassicBucket>,
        metric: &str,
        notes: &mut Annotations,
    ) -> f64;
}

struct Quantile<'a> {
    q: &'a [f64],
    grid: StepGrid,
    /// Place of the vector.
    pos: usize,
    delayed_names: bool,
}

impl Measure for Quantile<'_> {
    fn native(
        &self,
        step: usize,
        h: &lgtm_core::model::FloatHistogram,
        metric: &str,
        notes: &mut Annotations,
    ) -> f64 {
        let (value, effect) = histogram::quantile(self.q[step], h);
        let metric = metric.to_owned();
        match effect {
            Some(NanEffect::Result) => notes.add(Note::QuantileNanResult { metric }, self.pos),
            Some(NanEffect::Skew) => notes.add(Note::QuantileNanSkew { metric }, self.pos),
            None => {}
        }
        value
    }

    fn classic(
        &self,
        step: usize,
        buckets: &mut Vec<ClassicBucket>,
        metric: &str,
        notes: &mut Annotations,
    ) -> f64 {
        let (value, raised) = bucket_quantile(self.q[step], buckets);
        if let Some(r) = raised {
            let t_ms = self.grid.at(step);
            let forced = Forced {
                min_bucket: r.min_bucket,
                max_bucket: r.max_bucket,
                max_diff: r.max_diff,
                first_ms: t_ms,
                last_ms: t_ms,
                samples: 1,
            };
            let metric = if self.delayed_names {
                metric.to_owned()
            } else {
                String::new()
            };
            notes.add(Note::ForcedMonotonicity { metric, forced }, self.pos);
        }
        value
    }
}

struct Fraction<'a> {
    lower: &'a [f64],
    upper: &'a [f64],
    pos: usize,
}

impl Measure for Fraction<'_> {
    fn native(
        &self,
        step: usize,
        h: &lgtm_core::model::FloatHistogram,
        metric: &str,
        notes: &mut Annotations,
    ) -> f64 {
        let (value, has_nans) = histogram::fraction(self.lower[step], self.upper[step], h);
        if has_nans {
            let metric = metric.to_owned();
            notes.add(Note::FractionNans { metric }, self.pos);
        }
        value
    }

    fn classic(
        &self,
        step: usize,
        buckets: &mut Vec<ClassicBucket>,
        _: &str,
        _: &mut Annotations,
    ) -> f64 {
        bucket_fraction(self.lower[step], self.upper[step], buckets)
    }
}

/// Groups series to histograms.
fn histograms(series: &[Series], pos: usize, notes: &mut Annotations) -> Vec<Histogram> {
    let mut table = GroupTable::new(Grouping::without([BUCKET_LABEL]));
    let mut out: Vec<Histogram> = Vec::new();
    let mut at = |labels: &Labels, drop_name: bool| {
        let group = table.index_of(labels);
        if group == out.len() {
            out.push(Histogram {
                labels: table.labels(group).clone(),
                drop_name,
                classic: Vec::new(),
                native: Vec::new(),
            });
        }
        group
    };
    let mut classic: Vec<(usize, f64, usize)> = Vec::new();
    let mut native: Vec<(usize, usize)> = Vec::new();
    for (place, s) in series.iter().enumerate() {
        if s.cells.has_histograms() {
            native.push((at(&s.labels, s.cells.drop_name), place));
        }
        if s.cells.floats.iter().all(|v| is_gap(*v)) {
            continue;
        }
        let text = s.labels.get(BUCKET_LABEL).unwrap_or("");
        match parse_bound(text) {
            Some(bound) => classic.push((at(&s.labels, s.cells.drop_name), bound, place)),
            None => {
                let (metric, label) = (metric(&s.labels), text.to_owned());
                notes.add(Note::BadBucketLabel { metric, label }, pos);
            }
        }
    }
    for (group, bound, place) in classic {
        out[group].classic.push((bound, place));
    }
    for (group, place) in native {
        out[group].native.push(place);
    }
    for h in &mut out {
        h.classic.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    out
}

fn parse_bound(text: &str) -> Option<f64> {
    // Go reads these too, and nothing else that is not a number.
    match text
        .trim_start_matches(['+', '-'])
        .to_ascii_lowercase()
        .as_str()
    {
        "inf" | "infinity" if text.starts_with('-') => Some(f64::NEG_INFINITY),
        "inf" | "infinity" => Some(f64::INFINITY),
        "nan" => Some(f64::NAN),
        _ => text.parse().ok(),
    }
}

/// Computes a measure of each histogram at each step. Where both kinds meet, neither counts.
fn measure(
    series: &[Series],
    all: &[Histogram],
    steps: usize,
    pos: usize,
    what: &dyn Measure,
    (notes, cancel): (&mut Annotations, &CancelToken),
) -> Result<Vec<Series>> {
    let mut buckets: Vec<ClassicBucket> = Vec::new();
    let mut out = Vec::with_capacity(all.len());
    for h in all {
        cancel.check("query")?;
        let name = metric(&h.labels);
        let mut cells = Cells::gaps(steps);
        for step in 0..steps {
            buckets.clear();
            buckets.extend(h.classic.iter().filter_map(|(upper, place)| {
                let count = series[*place].cells.floats[step];
                (!is_gap(count)).then_some(ClassicBucket {
                    upper: *upper,
                    count,
                })
            }));
            let native = h
                .native
                .iter()
                .find_map(|p| series[*p].cells.histogram(step));
            cells.floats[step] = match (native, buckets.is_empty()) {
                (None, true) => continue,
                (Some(_), false) => {
                    let metric = name.clone();
                    notes.add(Note::MixedClassicNative { metric }, pos);
                    continue;
                }
                (Some(native), true) => what.native(step, native, &name, notes),
                (None, false) => what.classic(step, &mut buckets, &name, notes),
            };
        }
        if !cells.is_empty() {
            cells.drop_name = h.drop_name;
            let labels = h.labels.clone();
            out.push(Series { labels, cells });
        }
    }
    Ok(out)
}

/// Drops the names of what was computed: now, or at the end of the query.
fn unnamed(mut series: Vec<Series>, delayed_names: bool) -> Result<Vec<Series>> {
    for s in &mut series {
        if delayed_names {
            s.cells.drop_name = true;
        } else {
            s.labels = without_metadata(&s.labels);
        }
    }
    merge_equal(series)
}

fn note_quantiles(q: &[f64], pos: usize, ctx: &Context) {
    for q in q.iter().filter(|q| !(0.0..=1.0).contains(*q)) {
        ctx.note(Note::InvalidQuantile(*q), pos);
    }
}

pub(super) async fn quantile(
    ctx: &Arc<Context>,
    args: &[Arc<Node>],
    grid: StepGrid,
) -> Result<Vector> {
    let q = scalar(ctx, &args[0], grid).await?;
    note_quantiles(&q, args[0].pos, ctx);
    let v = vector_of(ctx, &args[1], grid).await?;
    let pos = args[1].pos;
    ctx.compute(v.cost(), move |ctx| {
        let delayed_names = ctx.switches.delayed_names;
        let mut notes = Annotations::default();
        let mut groups = v.charge.empty();
        groups.grow(0, groups_bytes(&v.series, &[]))?;
        let all = histograms(&v.series, pos, &mut notes);
        let what = Quantile {
            q: &q,
            grid,
            pos,
            delayed_names,
        };
        let noted = (&mut notes, &ctx.cancel);
        let out = measure(&v.series, &all, grid.len(), pos, &what, noted)?;
        drop(v);
        ctx.merge_notes(notes);
        Vector::new(ctx, unnamed(out, delayed_names)?)
    })
    .await
}

pub(super) async fn several(
    ctx: &Arc<Context>,
    args: &[Arc<Node>],
    grid: StepGrid,
) -> Result<Vector> {
    let label = args[1].text().to_owned();
    let qs = try_join_all(args[2..].iter().map(|a| scalar(ctx, a, grid))).await?;
    for (q, arg) in qs.iter().zip(&args[2..]) {
        note_quantiles(q, arg.pos, ctx);
    }
    let v = vector_of(ctx, &args[0], grid).await?;
    let pos = args[0].pos;
    ctx.compute(v.cost() * qs.len(), move |ctx| {
        let delayed_names = ctx.switches.delayed_names;
        let mut notes = Annotations::default();
        let mut charge = v.charge.empty();
        charge.grow(0, groups_bytes(&v.series, &[]))?;
        let all = histograms(&v.series, pos, &mut notes);
        let mut out = Vec::new();
        for q in &qs {
            let what = Quantile {
                q,
                grid,
                pos,
                delayed_names,
            };
            let noted = (&mut notes, &ctx.cancel);
            for s in measure(&v.series, &all, grid.len(), pos, &what, noted)? {
                out.extend(labelled(s, &label, q, &mut charge)?);
            }
        }
        drop((v, charge));
        ctx.merge_notes(notes);
        Vector::new(ctx, unnamed(out, delayed_names)?)
    })
    .await
}

/// A series for each quantile among the steps, with a label that tells which.
fn labelled(s: Series, label: &str, q: &[f64], charge: &mut Charge) -> Result<Vec<Series>> {
    if q.iter().all(|x| x.to_bits() == q[0].to_bits()) {
        let labels = with(&s.labels, label, &format_open_metrics(q[0]));
        charge.grow(0, s.cells.bytes() + s.labels.size_bytes() as u64 + 64)?;
        return Ok(vec![Series {
            labels,
            cells: s.cells,
        }]);
    }
    // A quantile that differs at each step makes as many series as there are steps.
    let mut places: HashMap<u64, usize> = HashMap::new();
    let mut out: Vec<Series> = Vec::new();
    for (step, q) in q.iter().enumerate().filter(|(step, _)| s.cells.has(*step)) {
        let at = match places.get(&q.to_bits()) {
            Some(at) => *at,
            None => {
                let mut cells = Cells::gaps(s.cells.steps());
                cells.drop_name = s.cells.drop_name;
                charge.grow(0, cells.bytes() + s.labels.size_bytes() as u64 + 64)?;
                let labels = with(&s.labels, label, &format_open_metrics(*q));
                places.insert(q.to_bits(), out.len());
                out.push(Series { labels, cells });
                out.len() - 1
            }
        };
        out[at].cells.floats[step] = s.cells.floats[step];
    }
    Ok(out)
}

pub(super) async fn fraction(
    ctx: &Arc<Context>,
    args: &[Arc<Node>],
    grid: StepGrid,
) -> Result<Vector> {
    let lower = scalar(ctx, &args[0], grid).await?;
    let upper = scalar(ctx, &args[1], grid).await?;
    let v = vector_of(ctx, &args[2], grid).await?;
    let pos = args[2].pos;
    ctx.compute(v.cost(), move |ctx| {
        let mut notes = Annotations::default();
        let mut groups = v.charge.empty();
        groups.grow(0, groups_bytes(&v.series, &[]))?;
        let all = histograms(&v.series, pos, &mut notes);
        let what = Fraction {
            lower: &lower,
            upper: &upper,
            pos,
        };
        let noted = (&mut notes, &ctx.cancel);
        let out = measure(&v.series, &all, grid.len(), pos, &what, noted)?;
        drop(v);
        ctx.merge_notes(notes);
        Vector::new(ctx, unnamed(out, ctx.switches.delayed_names)?)
    })
    .await
}
