//! The walk of a metric expression.

use std::sync::Arc;

use futures::future::BoxFuture;
use lgtm_core::exec::deep;
use lgtm_core::model::Labels;
use lgtm_core::vector::{GridSeries, StepGrid};

use super::aggregate::aggregate;
use super::binary::Operator;
use super::context::QueryContext;
use super::label_replace::label_replace;
use super::legs::leg_vector;
use super::range::run_range;
use super::vector::GridVector;
use crate::logql::ast::{BinaryExpr, MetricExpr, RangeAggregation, VectorAggregation, VectorOp};
use crate::logql::query_error::{QueryError, Result};
use crate::logql::usage::Charge;

/// The value of an expression.
#[derive(Debug)]
pub(crate) enum Evaluated {
    Scalar(f64),
    Vector(GridVector),
}

/// Evaluates an expression at all steps. `charge` takes what the value holds.
pub(crate) fn evaluate<'a>(
    ctx: &'a Arc<QueryContext>,
    expr: &'a MetricExpr,
    grid: StepGrid,
    charge: &'a mut Charge,
) -> BoxFuture<'a, Result<Evaluated>> {
    deep(async move {
        match expr {
            MetricExpr::Literal(v) => Ok(Evaluated::Scalar(*v)),
            MetricExpr::Vector(v) => {
                charge.grow(grid.len() as u64 * size_of::<f64>() as u64)?;
                Ok(Evaluated::Vector(vec![GridSeries {
                    labels: Labels::empty(),
                    cells: vec![*v; grid.len()],
                }]))
            }
            MetricExpr::Range(range) => ranged(ctx, range, None, grid, charge)
                .await
                .map(Evaluated::Vector),
            MetricExpr::Aggregation(a) => aggregation(ctx, a, grid, charge).await,
            MetricExpr::Binary(binary) => joined(ctx, binary, grid, charge).await,
            MetricExpr::Leg(leg) => {
                let (leg, legs, mut held) = (*leg, Arc::clone(&ctx.legs), ctx.charge());
                let (vector, held) = ctx
                    .compute(move |_| {
                        let vector = leg_vector(leg, &legs, grid, &mut held)?;
                        Ok((vector, held))
                    })
                    .await?;
                charge.join(held);
                Ok(Evaluated::Vector(vector))
            }
            MetricExpr::LabelReplace(l) => {
                match evaluate(ctx, &l.expr, grid, &mut *charge).await? {
                    Evaluated::Scalar(v) => Ok(Evaluated::Scalar(v)),
                    Evaluated::Vector(v) => {
                        let arguments = l.arguments.clone();
                        let replaced = ctx.compute(move |_| label_replace(&arguments, v)).await?;
                        Ok(Evaluated::Vector(replaced))
                    }
                }
            }
        }
    })
}

async fn ranged(
    ctx: &Arc<QueryContext>,
    range: &RangeAggregation,
    outer: Option<&VectorAggregation>,
    grid: StepGrid,
    charge: &mut Charge,
) -> Result<GridVector> {
    let plan = ctx.plans.of_range(ctx, range, outer.map(shape)).await?;
    let (vector, held) = run_range(ctx, plan, grid).await?;
    charge.join(held);
    Ok(vector)
}

async fn aggregation(
    ctx: &Arc<QueryContext>,
    a: &VectorAggregation,
    grid: StepGrid,
    charge: &mut Charge,
) -> Result<Evaluated> {
    if a.op == VectorOp::ApproxTopK {
        if !ctx.approx_topk {
            return Err(QueryError::approximations_are_off());
        }
        if ctx.is_range {
            return Err(QueryError::Invalid(
                "count_min_sketch is only supported on instant queries".into(),
            ));
        }
    }
    let inner = match &a.expr {
        MetricExpr::Range(range) => {
            Evaluated::Vector(ranged(ctx, range, Some(a), grid, charge).await?)
        }
        expr => evaluate(ctx, expr, grid, &mut *charge).await?,
    };
    let vector = match inner {
        Evaluated::Vector(vector) => vector,
        // A number counts as a series without labels.
        Evaluated::Scalar(v) => vec![GridSeries {
            labels: Labels::empty(),
            cells: vec![v; grid.len()],
        }],
    };
    charge.grow(vector.len() as u64 * grid.len() as u64 * size_of::<f64>() as u64)?;
    let shape = shape(a);
    let steps = grid.len();
    let done = ctx
        .compute(move |cancel| aggregate(&shape, vector, steps, cancel))
        .await?;
    Ok(Evaluated::Vector(done))
}

/// An aggregation without what it is over.
fn shape(a: &VectorAggregation) -> VectorAggregation {
    VectorAggregation {
        op: a.op,
        count: a.count,
        grouping: a.grouping.clone(),
        expr: MetricExpr::Literal(0.0),
    }
}

async fn joined(
    ctx: &Arc<QueryContext>,
    binary: &BinaryExpr,
    grid: StepGrid,
    charge: &mut Charge,
) -> Result<Evaluated> {
    let left = evaluate(ctx, &binary.left, grid, &mut *charge).await?;
    let right = evaluate(ctx, &binary.right, grid, &mut *charge).await?;
    let series = |side: &Evaluated| match side {
        Evaluated::Scalar(_) => 0,
        Evaluated::Vector(v) => v.len() as u64,
    };
    let cells = (series(&left) + series(&right)) * grid.len() as u64;
    charge.grow(cells * size_of::<f64>() as u64)?;
    let shape = BinaryExpr {
        left: MetricExpr::Literal(0.0),
        right: MetricExpr::Literal(0.0),
        matching: binary.matching.clone(),
        ..*binary
    };
    let steps = grid.len();
    ctx.compute(move |cancel| Operator::of(&shape).join(left, right, steps, cancel))
        .await
}
