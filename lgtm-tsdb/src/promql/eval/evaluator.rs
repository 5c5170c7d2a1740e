//! Walking a plan.

use std::sync::Arc;

use futures::future::{BoxFuture, try_join, try_join_all};
use lgtm_core::exec::deep;
use lgtm_core::vector::{StepGrid, is_gap};

use super::cells::{Cells, Series};
use super::collect::Collect;
use super::context::{Charge, Context};
use super::distinct::{Distinct, Found, Scope};
use super::elements::{arithmetic, comparison};
use super::maps::{Map, ScalarOperation, name_drop};
use super::pipeline::{Fold, Pipeline, PipelineSource};
use super::range_call::RangeCall;
use super::selector::SampleField;
use super::{absent, aggregate, binary, info, matching, quantiles, subquery, vector};
use crate::promql::annotations::{Annotations, Note};
use crate::promql::ast::{BinaryOp, ValueType};
use crate::promql::functions::{RangeFunction, date_function, float_map, maximum, minimum};
use crate::promql::histogram;
use crate::promql::plan::{Aggregation, Kind, Node, Operation, RangeSource};
use crate::promql::query_error::{QueryError, Result};
use crate::select::SelectHints;

/// What an expression gave: one value per step.
#[derive(Debug)]
pub(crate) enum Value {
    Scalar(Vec<f64>),
    Vector(Vector),
    Text(String),
}

/// Series, and the memory they take.
#[derive(Debug)]
pub(crate) struct Vector {
    pub(crate) series: Vec<Series>,
    pub(crate) charge: Charge,
}

impl Vector {
    pub(super) fn empty(ctx: &Context) -> Self {
        Self {
            series: Vec::new(),
            charge: Charge::none(&ctx.usage),
        }
    }

    /// Series that came out of a computation.
    pub(super) fn new(ctx: &Context, series: Vec<Series>) -> Result<Self> {
        let mut charge = Charge::none(&ctx.usage);
        let size = |s: &Series| {
            (
                s.cells.points(),
                s.cells.bytes() + s.labels.size_bytes() as u64 + 64,
            )
        };
        let (points, bytes) = series
            .iter()
            .map(size)
            .fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
        charge.grow(points, bytes)?;
        Ok(Self { series, charge })
    }

    /// About how long it takes to look at all of it, in cells and units of eight bytes of labels.
    pub(crate) fn cost(&self) -> usize {
        let of = |s: &Series| s.cells.steps() + s.labels.size_bytes() / 8 + 16;
        self.series.iter().map(of).sum()
    }
}

/// Evaluates a node at all steps of a grid.
pub(crate) fn evaluate<'a>(
    ctx: &'a Arc<Context>,
    node: &'a Node,
    grid: StepGrid,
) -> BoxFuture<'a, Result<Value>> {
    deep(async move {
        match &node.kind {
            Kind::Number(v) => return Ok(Value::Scalar(vec![*v; grid.len()])),
            Kind::Text(text) => return Ok(Value::Text(text.value.clone())),
            Kind::Paren(inner) => return evaluate(ctx, inner, grid).await,
            Kind::Matrix { .. } => {
                return Err(QueryError::Invalid(
                    "a range vector has no value at an instant".into(),
                ));
            }
            _ => {}
        }
        match node.value_type() {
            ValueType::Scalar => scalar(ctx, node, grid).await.map(Value::Scalar),
            _ => vector_of(ctx, node, grid).await.map(Value::Vector),
        }
    })
}

/// The values of a scalar expression.
pub(super) fn scalar<'a>(
    ctx: &'a Arc<Context>,
    node: &'a Node,
    grid: StepGrid,
) -> BoxFuture<'a, Result<Vec<f64>>> {
    deep(async move {
        match &node.kind {
            Kind::Number(v) => Ok(vec![*v; grid.len()]),
            Kind::Paren(inner) => scalar(ctx, inner, grid).await,
            Kind::Constant(inner) => {
                let once = StepGrid::instant(grid.start_ms());
                let value = scalar(ctx, inner, once).await?;
                Ok(vec![value[0]; grid.len()])
            }
            Kind::Negate(inner) => {
                let mut values = scalar(ctx, inner, grid).await?;
                values.iter_mut().for_each(|v| *v = -*v);
                Ok(values)
            }
            Kind::Binary(o) => {
                let (lhs, rhs) =
                    try_join(scalar(ctx, &o.lhs, grid), scalar(ctx, &o.rhs, grid)).await?;
                Ok(scalars(o.op, lhs, &rhs))
            }
            Kind::Call { name, args, .. } => scalar_call(ctx, name, args, grid).await,
            _ => Ok(vec![f64::NAN; grid.len()]),
        }
    })
}

fn scalars(op: BinaryOp, mut lhs: Vec<f64>, rhs: &[f64]) -> Vec<f64> {
    let pairs = lhs.iter_mut().zip(rhs);
    if let Some(f) = arithmetic(op) {
        pairs.for_each(|(a, b)| *a = f(*a, *b));
    } else if let Some(holds) = comparison(op) {
        pairs.for_each(|(a, b)| *a = f64::from(u8::from(holds(a, b))));
    }
    lhs
}

async fn scalar_call(
    ctx: &Arc<Context>,
    name: &str,
    args: &[Arc<Node>],
    grid: StepGrid,
) -> Result<Vec<f64>> {
    match name {
        "time" => Ok(grid.times().map(|t| t.get() as f64 / 1000.0).collect()),
        "pi" => Ok(vec![std::f64::consts::PI; grid.len()]),
        "max_of" | "min_of" => {
            let (a, b) = try_join(scalar(ctx, &args[0], grid), scalar(ctx, &args[1], grid)).await?;
            let best = if name == "max_of" { maximum } else { minimum };
            Ok(a.into_iter().zip(b).map(|(a, b)| best(a, b)).collect())
        }
        "scalar" => {
            let v = vector_of(ctx, &args[0], grid).await?;
            let mut out = vec![f64::NAN; grid.len()];
            let mut seen = vec![0u32; grid.len()];
            for s in &v.series {
                for (step, value) in s.cells.floats.iter().enumerate().filter(|v| !is_gap(*v.1)) {
                    seen[step] += 1;
                    out[step] = if seen[step] == 1 { *value } else { f64::NAN };
                }
            }
            Ok(out)
        }
        name => Err(QueryError::Invalid(format!("unknown function {name:?}"))),
    }
}

/// The series of a vector expression.
pub(super) fn vector_of<'a>(
    ctx: &'a Arc<Context>,
    node: &'a Node,
    grid: StepGrid,
) -> BoxFuture<'a, Result<Vector>> {
    deep(async move {
        let all = feed(ctx, node, grid, Collect::new(ctx)).await?;
        ctx.compute(64 * all.len(), move |_| {
            let (series, charge) = all.finish()?;
            Ok(Vector { series, charge })
        })
        .await
    })
}

/// Runs the series of a vector expression into a fold, streaming where nothing but a chain of single-series steps stands between
/// the store and it.
pub(super) async fn feed<F: Fold>(
    ctx: &Arc<Context>,
    node: &Node,
    grid: StepGrid,
    mut fold: F,
) -> Result<F> {
    let (maps, inner) = peel(ctx, node, grid).await?;
    if let Some((source, mut hints)) = source(ctx, inner, grid).await? {
        if let Some((names, without)) = fold.grouping() {
            (hints.grouping, hints.without) = (names, without);
        }
        let chain = Pipeline {
            source,
            maps,
            grid,
            hints,
            pos: inner.pos,
        };
        return Arc::new(chain).run(ctx, fold).await;
    }
    let v = whole(ctx, inner, grid).await?;
    ctx.compute(v.cost(), move |ctx| {
        let mut notes = Annotations::default();
        let mut found = name_drop(&maps).and_then(|at| {
            let distinct = Distinct::of_series(ctx, &v.series, Scope::Step)?;
            Some((at, Found::of(Arc::new(distinct))))
        });
        for (place, mut s) in v.series.into_iter().enumerate() {
            if place % 64 == 0 {
                ctx.cancel.check("query")?;
            }
            for (n, map) in maps.iter().enumerate() {
                map.apply(&mut s.cells, &mut notes);
                if let Some((at, found)) = &mut found
                    && *at == n + 1
                {
                    found.add(&s.labels, &s.cells);
                }
            }
            if !s.cells.is_empty() {
                fold.add(place as u64, &s.labels, &mut s.cells, &mut notes)?;
            }
        }
        if let Some((_, found)) = found {
            found.finish()?;
        }
        drop(v.charge);
        ctx.merge_notes(notes);
        Ok(fold)
    })
    .await
}

/// Splits steps that change single series off the outside of an expression; returns them in the order in which they apply.
fn peel<'a>(
    ctx: &'a Arc<Context>,
    node: &'a Node,
    grid: StepGrid,
) -> BoxFuture<'a, Result<(Vec<Map>, &'a Node)>> {
    deep(async move {
        let (inner, map) = match &node.kind {
            Kind::Paren(inner) => (inner, None),
            Kind::Negate(inner) => (inner, Some(Map::Negate)),
            Kind::Binary(o) => {
                let scalar_first = o.lhs.value_type() == ValueType::Scalar;
                let one_scalar = scalar_first != (o.rhs.value_type() == ValueType::Scalar);
                if !one_scalar || o.op.is_set() {
                    return Ok((Vec::new(), node));
                }
                let (number, inner) = if scalar_first {
                    (&o.lhs, &o.rhs)
                } else {
                    (&o.rhs, &o.lhs)
                };
                let operation = ScalarOperation {
                    op: o.op,
                    values: scalar(ctx, number, grid).await?,
                    scalar_first,
                    return_bool: o.return_bool,
                    pos: node.pos,
                };
                (inner, Some(Map::Scalar(operation)))
            }
            Kind::Call { name, args, .. } => match call_map(ctx, name, args, grid).await? {
                Some(map) => (&args[0], Some(map)),
                None => return Ok((Vec::new(), node)),
            },
            _ => return Ok((Vec::new(), node)),
        };
        let (mut maps, inner) = peel(ctx, inner, grid).await?;
        maps.extend(map);
        Ok((maps, inner))
    })
}

/// The step that a call is, if it is one.
async fn call_map(
    ctx: &Arc<Context>,
    name: &str,
    args: &[Arc<Node>],
    grid: StepGrid,
) -> Result<Option<Map>> {
    let Some(first) = args.first() else {
        return Ok(None);
    };
    if let Some(f) = float_map(name) {
        return Ok(Some(Map::Float(f)));
    }
    let constant = |v: f64| vec![v; grid.len()];
    Ok(Some(match name {
        "clamp" => {
            let bounds = try_join(scalar(ctx, &args[1], grid), scalar(ctx, &args[2], grid));
            let (min, max) = bounds.await?;
            Map::Clamp(min, max)
        }
        "clamp_min" => Map::Clamp(scalar(ctx, &args[1], grid).await?, constant(f64::INFINITY)),
        "clamp_max" => Map::Clamp(
            constant(f64::NEG_INFINITY),
            scalar(ctx, &args[1], grid).await?,
        ),
        "round" => Map::Round(match args.get(1) {
            Some(to) => scalar(ctx, to, grid).await?,
            None => constant(1.0),
        }),
        "histogram_count" => Map::Statistic(|h| h.count),
        "histogram_sum" => Map::Statistic(|h| h.sum),
        "histogram_avg" => Map::Statistic(|h| h.sum / h.count),
        "histogram_stdvar" => Map::Statistic(histogram::variance),
        "histogram_stddev" => Map::Statistic(|h| histogram::variance(h).sqrt()),
        "timestamp" if !is_selector(first) => Map::StepTime(grid),
        "start_timestamp" if !is_selector(first) || !ctx.switches.start_timestamps => Map::Nothing,
        _ => return Ok(None),
    }))
}

fn is_selector(node: &Node) -> bool {
    matches!(node.unwrapped().kind, Kind::Vector(_))
}

/// The place where a chain can begin, if the expression is one.
async fn source(
    ctx: &Arc<Context>,
    node: &Node,
    grid: StepGrid,
) -> Result<Option<(PipelineSource, SelectHints)>> {
    let hints = |function: &str, range_ms: i64| SelectHints {
        step_ms: grid.step_ms(),
        range_ms,
        function: function.to_owned(),
        ..SelectHints::default()
    };
    Ok(Some(match &node.kind {
        Kind::Vector(selector) => {
            let source = PipelineSource::Instant {
                selector: selector.clone(),
                field: SampleField::Value,
            };
            (source, hints("", 0))
        }
        Kind::Call { name, args, .. } => {
            if let ("timestamp" | "start_timestamp", Kind::Vector(selector)) = (
                *name,
                &args.first().map_or(&node.kind, |a| &a.unwrapped().kind),
            ) {
                let field = match *name {
                    "timestamp" => SampleField::Time,
                    _ => SampleField::StartTime,
                };
                let selector = selector.clone();
                return Ok(Some((
                    PipelineSource::Instant { selector, field },
                    hints(name, 0),
                )));
            }
            let Some((function, source, range_ms)) = range_call(name, args) else {
                return Ok(None);
            };
            let RangeSource::Selector(selector) = source else {
                return Ok(None);
            };
            let source = PipelineSource::Range {
                selector: selector.clone(),
                range_ms,
                call: call_of(ctx, function, args, grid).await?,
            };
            (source, hints(name, range_ms))
        }
        _ => return Ok(None),
    }))
}

/// A call of a function over a range, other than `absent_over_time`: the function, its range, how long that is.
fn range_call<'a>(
    name: &str,
    args: &'a [Arc<Node>],
) -> Option<(RangeFunction, &'a RangeSource, i64)> {
    if name == "absent_over_time" {
        return None;
    }
    let function = RangeFunction::find(name)?;
    args.iter().find_map(|a| match &a.unwrapped().kind {
        Kind::Matrix { source, range_ms } => Some((function, source, *range_ms)),
        _ => None,
    })
}

/// A range function with its scalar arguments.
pub(super) async fn call_of(
    ctx: &Arc<Context>,
    function: RangeFunction,
    args: &[Arc<Node>],
    grid: StepGrid,
) -> Result<RangeCall> {
    let numbers = args.iter().filter(|a| a.value_type() == ValueType::Scalar);
    let pos = match args.first() {
        Some(a) => a.unwrapped().pos,
        None => 0,
    };
    Ok(RangeCall {
        function,
        params: try_join_all(numbers.map(|a| scalar(ctx, a, grid))).await?,
        pos,
    })
}

/// An expression that needs whole vectors.
fn whole<'a>(
    ctx: &'a Arc<Context>,
    node: &'a Node,
    grid: StepGrid,
) -> BoxFuture<'a, Result<Vector>> {
    deep(async move {
        match &node.kind {
            Kind::Constant(inner) => {
                let once = StepGrid::instant(grid.start_ms());
                let v = vector_of(ctx, inner, once).await?;
                let mut rows = v.charge.empty();
                let row = grid.len() as u64 * size_of::<f64>() as u64;
                rows.grow(0, row.saturating_mul(v.series.len() as u64))?;
                let repeat = |s: Series| Series {
                    labels: s.labels,
                    cells: s.cells.repeated(grid.len()),
                };
                Vector::new(ctx, v.series.into_iter().map(repeat).collect())
            }
            Kind::Aggregate(a) => aggregation(ctx, a, node.pos, grid).await,
            Kind::Binary(o) => operation(ctx, o, node.pos, grid).await,
            Kind::Call { name, args, .. } => call(ctx, name, args, node.pos, grid).await,
            _ => Ok(Vector::empty(ctx)),
        }
    })
}

async fn aggregation(
    ctx: &Arc<Context>,
    a: &Aggregation,
    pos: usize,
    grid: StepGrid,
) -> Result<Vector> {
    let param = match &a.param {
        Some(p) if p.value_type() == ValueType::Scalar => scalar(ctx, p, grid).await?,
        _ => Vec::new(),
    };
    aggregate::run(ctx, a, param, pos, grid).await
}

async fn operation(
    ctx: &Arc<Context>,
    o: &Operation,
    pos: usize,
    grid: StepGrid,
) -> Result<Vector> {
    let (lhs, rhs) = try_join(vector_of(ctx, &o.lhs, grid), vector_of(ctx, &o.rhs, grid)).await?;
    let Some(m) = o.matching.clone() else {
        return Ok(Vector::empty(ctx));
    };
    let (op, return_bool) = (o.op, o.return_bool);
    ctx.compute(lhs.cost() + rhs.cost(), move |ctx| {
        let mut notes = Annotations::default();
        let mut made = lhs.charge.empty();
        made.grow(0, matching::groups_bytes(&lhs.series, &rhs.series))?;
        let held = (lhs.charge, rhs.charge);
        let series = if op.is_set() {
            matching::set_operation(op, lhs.series, rhs.series, &m, grid, &ctx.cancel)?
        } else {
            let operator = binary::Operator {
                op,
                return_bool,
                pos,
                delayed_names: ctx.switches.delayed_names,
            };
            let work = binary::Work {
                notes: &mut notes,
                made: &mut made,
                cancel: &ctx.cancel,
            };
            binary::operate(&operator, lhs.series, rhs.series, &m, grid, work)?
        };
        drop((held, made));
        ctx.merge_notes(notes);
        Vector::new(ctx, series)
    })
    .await
}

async fn call(
    ctx: &Arc<Context>,
    name: &'static str,
    args: &[Arc<Node>],
    pos: usize,
    grid: StepGrid,
) -> Result<Vector> {
    if let Some((function, RangeSource::Subquery(s), range_ms)) = range_call(name, args) {
        let call = call_of(ctx, function, args, grid).await?;
        return subquery::over_time(ctx, s, range_ms, call, grid).await;
    }
    if let (Some(f), true) = (date_function(name), args.is_empty()) {
        let floats = grid.times().map(|t| f((t.get() / 1000) as f64)).collect();
        let cells = Cells::of_floats(floats);
        let labels = lgtm_core::model::Labels::empty();
        return Vector::new(ctx, vec![Series { labels, cells }]);
    }
    match name {
        "absent" | "absent_over_time" => absent::absent(ctx, name, &args[0], grid).await,
        "histogram_quantile" => quantiles::quantile(ctx, args, grid).await,
        "histogram_quantiles" => quantiles::several(ctx, args, grid).await,
        "histogram_fraction" => quantiles::fraction(ctx, args, grid).await,
        "info" => info::info(ctx, args, grid).await,
        "label_replace" => vector::label_replace(ctx, args, grid).await,
        "label_join" => vector::label_join(ctx, args, grid).await,
        "vector" => {
            let cells = Cells::of_floats(scalar(ctx, &args[0], grid).await?);
            let labels = lgtm_core::model::Labels::empty();
            Vector::new(ctx, vec![Series { labels, cells }])
        }
        "sort" | "sort_desc" | "sort_by_label" | "sort_by_label_desc" => {
            if ctx.switches.is_range {
                ctx.note(Note::SortInRangeQuery, pos);
            }
            vector::sort(ctx, name, args, grid).await
        }
        name => Err(QueryError::Invalid(format!("unknown function {name:?}"))),
    }
}
