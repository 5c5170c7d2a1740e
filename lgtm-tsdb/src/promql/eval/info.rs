//! `info`: series with the labels of the info metrics that go with them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hashbrown::HashMap;
use lgtm_core::exec::with_room;
use lgtm_core::model::{LabelBuilder, Labels, METRIC_NAME, MatchOp, Matcher, TimestampMs};
use lgtm_core::vector::{GroupTable, Grouping, StepGrid};

use super::cells::{Cells, Series};
use super::collect::Collect;
use super::context::{Charge, Context};
use super::evaluator::{Vector, vector_of};
use super::labels::merge_equal;
use super::pipeline::{Pipeline, PipelineSource};
use super::selector::SampleField;
use crate::promql::ast::Edges;
use crate::promql::plan::{Kind, Node, RangeSource, Selector};
use crate::promql::query_error::{QueryError, Result};
use crate::select::SelectHints;

/// Labels by which an info metric tells whom it is about.
const IDENTIFYING: [&str; 2] = ["instance", "job"];

/// Alternatives of one regular expression: what a matcher on identifying labels may list. Beyond it the matcher is left out and
/// more is read than needed.
const MAX_VALUES: usize = 10_000;

/// What the second argument says.
struct Wanted {
    /// Matchers of the info metric's name.
    names: Vec<Matcher>,
    /// Matchers of the labels to take, by label.
    labels: BTreeMap<String, Vec<Matcher>>,
}

impl Wanted {
    fn of(arg: Option<&Arc<Node>>) -> Result<Self> {
        let matchers = match arg.map(|a| &a.unwrapped().kind) {
            Some(Kind::Vector(selector)) => selector.matchers.as_slice(),
            _ => &[],
        };
        let mut names = Vec::new();
        let mut labels: BTreeMap<String, Vec<Matcher>> = BTreeMap::new();
        for m in matchers {
            match m.name() {
                METRIC_NAME => names.push(m.clone()),
                name => labels.entry(name.to_owned()).or_default().push(m.clone()),
            }
        }
        let positive = |m: &Matcher| matches!(m.op(), MatchOp::Equal | MatchOp::Regex);
        if names.is_empty() {
            names.push(Matcher::equal(METRIC_NAME, "target_info"));
        } else if !names.iter().any(positive) {
            // Names that are only ruled out leave all that look like info metrics.
            names.insert(0, Matcher::regex(METRIC_NAME, ".+_info")?);
        }
        Ok(Self { names, labels })
    }

    fn takes(&self, label: &str) -> bool {
        label != METRIC_NAME && (self.labels.is_empty() || self.labels.contains_key(label))
    }

    /// Whether a series that goes with no info metric stays.
    fn allows_none(&self) -> bool {
        self.labels.values().flatten().all(Matcher::matches_empty)
    }
}

pub(super) async fn info(ctx: &Arc<Context>, args: &[Arc<Node>], grid: StepGrid) -> Result<Vector> {
    let base = vector_of(ctx, &args[0], grid).await?;
    let wanted = Wanted::of(args.get(1))?;
    let is_info = |s: &Series| {
        let name = s.labels.metric_name().unwrap_or("");
        wanted.names.iter().all(|m| m.matches(name))
    };
    let (mut out, enrich): (Vec<Series>, Vec<Series>) = base.series.into_iter().partition(is_info);
    let (infos, mut info_charge) = fetch(ctx, &args[0], &enrich, &wanted, grid).await?;
    // For each of them a place per step, at most.
    let slots = (grid.len() * size_of::<Option<usize>>()) as u64;
    info_charge.grow(0, slots.saturating_mul(infos.len() as u64))?;
    let cost = (enrich.len() + infos.len()) * grid.len();
    let held = base.charge;
    ctx.compute(cost, move |ctx| {
        let mut groups = by_identity(&infos, grid.len())?;
        let mut made = held.empty();
        for s in enrich {
            ctx.cancel.check("query")?;
            combine(&s, &infos, &mut groups, &wanted, (&mut out, &mut made))?;
        }
        drop((held, info_charge, made));
        Vector::new(ctx, merge_equal(out)?)
    })
    .await
}

/// An info series and when its samples were taken, by step.
struct Info {
    series: Series,
    times: Cells,
}

/// The info series that can go with these series, seen at the times at which those were.
async fn fetch(
    ctx: &Arc<Context>,
    arg: &Node,
    base: &[Series],
    wanted: &Wanted,
    grid: StepGrid,
) -> Result<(Vec<Info>, Charge)> {
    let mut matchers = wanted.names.clone();
    matchers.extend(wanted.labels.values().flatten().cloned());
    let mut known = false;
    for label in IDENTIFYING {
        let values: BTreeSet<&str> = base.iter().filter_map(|s| s.labels.get(label)).collect();
        if values.is_empty() {
            continue;
        }
        known = true;
        if values.len() <= MAX_VALUES {
            let list: Vec<String> = values.into_iter().map(escaped).collect();
            matchers.push(Matcher::regex(label, &list.join("|"))?);
        }
    }
    if !known {
        return Ok((Vec::new(), Charge::none(&ctx.usage)));
    }
    let (at_ms, offset_ms) = reference(arg);
    let selector = Selector {
        matchers,
        at_ms,
        offset_ms,
        edges: Edges::Plain,
        totals_only: false,
    };
    let chain = |field| {
        Arc::new(Pipeline {
            source: PipelineSource::Instant {
                selector: selector.clone(),
                field,
            },
            maps: Vec::new(),
            grid,
            hints: SelectHints {
                step_ms: grid.step_ms(),
                function: "info".to_owned(),
                ..SelectHints::default()
            },
            pos: arg.pos,
        })
    };
    let (values, times) = futures::future::try_join(
        chain(SampleField::Value).run(ctx, Collect::named(ctx)),
        chain(SampleField::Time).run(ctx, Collect::named(ctx)),
    )
    .await?;
    let ((values, mut charge), (times, held)) = (values.finish()?, times.finish()?);
    charge.join(held);
    let mut times: HashMap<Labels, Cells> =
        times.into_iter().map(|s| (s.labels, s.cells)).collect();
    let info = |series: Series| {
        let times = times.remove(&series.labels)?;
        Some(Info { series, times })
    };
    Ok((values.into_iter().filter_map(info).collect(), charge))
}

/// Escapes what has a meaning in a regular expression.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if r"\.+*?()|[]{}^$".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// `@` and offset of the first selector of an expression, with the offsets of the subqueries around it.
fn reference(node: &Node) -> (Option<TimestampMs>, i64) {
    first_selector(node).unwrap_or((None, 0))
}

fn first_selector(node: &Node) -> Option<(Option<TimestampMs>, i64)> {
    with_room(|| first_selector_here(node))
}

fn first_selector_here(node: &Node) -> Option<(Option<TimestampMs>, i64)> {
    match &node.kind {
        Kind::Number(_) | Kind::Text(_) => None,
        Kind::Vector(s) => Some((s.at_ms, s.offset_ms)),
        Kind::Matrix { source, .. } => match source {
            RangeSource::Selector(s) => Some((s.at_ms, s.offset_ms)),
            RangeSource::Subquery(s) => {
                let (at_ms, offset_ms) = first_selector(&s.inner)?;
                Some(match (at_ms, s.at_ms) {
                    (Some(at), _) => (Some(at), offset_ms),
                    (None, at) => (at, offset_ms.saturating_add(s.offset_ms)),
                })
            }
        },
        Kind::Call { args, .. } => args.iter().find_map(|a| first_selector(a)),
        Kind::Aggregate(a) => first_selector(&a.expr),
        Kind::Binary(o) => first_selector(&o.lhs).or_else(|| first_selector(&o.rhs)),
        Kind::Negate(e) | Kind::Paren(e) | Kind::Constant(e) => first_selector(e),
    }
}

/// Info series by metric and identifying labels: which one counts at each step.
struct Identities {
    table: GroupTable,
    /// By name of the info metric, then by number of the identity: a place among the info series per step.
    current: BTreeMap<String, HashMap<usize, Vec<Option<usize>>>>,
}

fn by_identity(infos: &[Info], steps: usize) -> Result<Identities> {
    let mut all = Identities {
        table: GroupTable::new(Grouping::by(IDENTIFYING)),
        current: BTreeMap::new(),
    };
    for (place, info) in infos.iter().enumerate() {
        let labels = &info.series.labels;
        let name = labels.metric_name().unwrap_or("").to_owned();
        let group = all.table.index_of(labels);
        let groups = all.current.entry(name).or_default();
        let slots = groups.entry(group).or_insert_with(|| vec![None; steps]);
        for (step, slot) in slots.iter_mut().enumerate() {
            if info.series.cells.histogram(step).is_some() {
                return Err(QueryError::execution("info sample should be float"));
            }
            if !info.series.cells.has(step) {
                continue;
            }
            let time = |i: usize| infos[i].times.floats[step];
            match *slot {
                Some(other) if time(other) > time(place) => {}
                Some(other) if time(other) == time(place) => {
                    return Err(duplicate(&infos[other], info, time(place)));
                }
                _ => *slot = Some(place),
            }
        }
    }
    Ok(all)
}

fn duplicate(a: &Info, b: &Info, seconds: f64) -> QueryError {
    let t_ms = (seconds * 1000.0).round() as i64;
    QueryError::execution(format!(
        "found duplicate series for info metric: existing {} @ {t_ms}, new {} @ {t_ms}",
        a.series.labels, b.series.labels
    ))
}

/// Adds the labels of the info series that go with `s` at each step; the result is a series for each set of them.
fn combine(
    s: &Series,
    infos: &[Info],
    all: &mut Identities,
    wanted: &Wanted,
    (out, made): (&mut Vec<Series>, &mut Charge),
) -> Result<()> {
    let group = all.table.find(&s.labels);
    let mut variants: Vec<(Vec<usize>, Series)> = Vec::new();
    for step in 0..s.cells.steps() {
        let Some(value) = s.cells.get(step) else {
            continue;
        };
        let found: Vec<usize> = all
            .current
            .values()
            .filter_map(|groups| groups.get(&group?)?[step])
            .collect();
        if found.is_empty() && !wanted.allows_none() {
            continue;
        }
        let at = match variants.iter().position(|v| v.0 == found) {
            Some(at) => at,
            None => {
                let mut cells = Cells::gaps(s.cells.steps());
                cells.drop_name = s.cells.drop_name;
                let members = || found.iter().map(|i| &infos[*i]);
                let taken = members().map(|i| i.series.labels.size_bytes());
                let labels = s.labels.size_bytes() + taken.sum::<usize>();
                made.grow(0, cells.bytes() + labels as u64 + 128)?;
                let labels = enriched(&s.labels, members(), wanted)?;
                variants.push((found, Series { labels, cells }));
                variants.len() - 1
            }
        };
        variants[at].1.cells.set(step, value);
    }
    out.extend(variants.into_iter().map(|v| v.1));
    Ok(())
}

fn enriched<'a>(
    labels: &Labels,
    infos: impl Iterator<Item = &'a Info>,
    wanted: &Wanted,
) -> Result<Labels> {
    let mut added: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, value) in infos.flat_map(|i| i.series.labels.iter()) {
        if !wanted.takes(name) {
            continue;
        }
        if added.get(name).is_some_and(|before| *before != value) {
            return Err(QueryError::execution(format!("conflicting label: {name}")));
        }
        if labels.get(name).is_none() {
            added.insert(name, value);
        }
    }
    let mut builder = LabelBuilder::from_labels(labels);
    for (name, value) in added {
        builder.set(name, value);
    }
    Ok(builder.build()?)
}
