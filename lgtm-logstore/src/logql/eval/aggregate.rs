//! Aggregations over series.

use std::cmp::Ordering;

use lgtm_core::exec::CancelToken;
use lgtm_core::vector::{GAP, GridSeries, GroupTable, Grouping, TopK, is_gap};

use super::vector::GridVector;
use crate::logql::ast::{GroupingClause, VectorAggregation, VectorOp};
use crate::logql::query_error::Result;

/// Aggregates a vector of so many steps.
///
/// # Errors
/// `Cancelled`.
pub(super) fn aggregate(
    aggregation: &VectorAggregation,
    vector: GridVector,
    steps: usize,
    cancel: &CancelToken,
) -> Result<GridVector> {
    let grouping = match &aggregation.grouping {
        None => Grouping::by(Vec::<String>::new()),
        Some(GroupingClause {
            without: true,
            names,
        }) => Grouping::without(names.clone()),
        Some(g) => Grouping::by(g.names.clone()),
    };
    match aggregation.op {
        VectorOp::Sort => Ok(sorted(vector, value_order)),
        VectorOp::SortDesc => Ok(sorted(vector, |a, b| value_order(b, a))),
        VectorOp::TopK | VectorOp::ApproxTopK | VectorOp::BottomK => {
            best(aggregation, &grouping, vector, steps, cancel)
        }
        op => folded(op, grouping, vector, steps, cancel),
    }
}

/// By their first values; NaN last, whichever way.
fn sorted(mut vector: GridVector, order: impl Fn(f64, f64) -> Ordering) -> GridVector {
    let first = |s: &GridSeries<Vec<f64>>| s.cells.first().copied().unwrap_or(GAP);
    vector.sort_by(|a, b| {
        let (x, y) = (first(a), first(b));
        x.is_nan()
            .cmp(&y.is_nan())
            .then_with(|| order(x, y))
            .then_with(|| a.labels.cmp(&b.labels))
    });
    vector
}

fn value_order(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b).unwrap_or(Ordering::Equal)
}

/// Count, mean and squared distances, or a sum, of one cell.
#[derive(Debug, Clone, Copy)]
struct CellFold {
    count: f64,
    value: f64,
    squares: f64,
}

fn folded(
    op: VectorOp,
    grouping: Grouping,
    mut vector: GridVector,
    steps: usize,
    cancel: &CancelToken,
) -> Result<GridVector> {
    // Floats are added in one order, however the series came about.
    super::vector::sort_series(&mut vector);
    const EMPTY: CellFold = CellFold {
        count: 0.0,
        value: 0.0,
        squares: 0.0,
    };
    let mut table = GroupTable::new(grouping);
    let mut folds: Vec<Vec<CellFold>> = Vec::new();
    for series in vector {
        cancel.check("query")?;
        let place = table.index_of(&series.labels);
        if place == folds.len() {
            folds.push(vec![EMPTY; steps]);
        }
        for (fold, v) in folds[place].iter_mut().zip(series.cells) {
            if is_gap(v) {
                continue;
            }
            let is_first = fold.count == 0.0;
            fold.count += 1.0;
            match op {
                VectorOp::Sum => fold.value += v,
                VectorOp::Min if is_first || v < fold.value || fold.value.is_nan() => {
                    fold.value = v
                }
                VectorOp::Max if is_first || v > fold.value || fold.value.is_nan() => {
                    fold.value = v
                }
                VectorOp::Avg | VectorOp::Stddev | VectorOp::Stdvar => {
                    let distance = v - fold.value;
                    if fold.value.is_infinite() || v.is_infinite() {
                        fold.value += v
                    } else {
                        fold.value += distance / fold.count
                    }
                    fold.squares += distance * (v - fold.value);
                }
                _ => {}
            }
        }
    }
    let value = |fold: CellFold| match (fold.count > 0.0, op) {
        (false, _) => GAP,
        (true, VectorOp::Count) => fold.count,
        (true, VectorOp::Stdvar) => fold.squares / fold.count,
        (true, VectorOp::Stddev) => (fold.squares / fold.count).sqrt(),
        (true, _) => fold.value,
    };
    let labels = table.into_labels().into_iter();
    let folds = folds.into_iter();
    Ok(labels
        .zip(folds)
        .map(|(labels, folds)| GridSeries {
            labels,
            cells: folds.into_iter().map(value).collect(),
        })
        .collect())
}

/// The best series of each group at each step. Of a single step they come best first.
fn best(
    aggregation: &VectorAggregation,
    grouping: &Grouping,
    mut vector: GridVector,
    steps: usize,
    cancel: &CancelToken,
) -> Result<GridVector> {
    // Ties go to the first labels, so that the answer is the same each time.
    super::vector::sort_series(&mut vector);
    let mut table = GroupTable::new(grouping.clone());
    let groups: Vec<usize> = vector.iter().map(|s| table.index_of(&s.labels)).collect();
    let rank: fn(&f64, &f64) -> Ordering = match aggregation.op {
        VectorOp::BottomK => |a, b| nan_low(*a, *b, |a, b| value_order(b, a)),
        _ => |a, b| nan_low(*a, *b, value_order),
    };
    let mut kept: Vec<Vec<f64>> = vec![Vec::new(); vector.len()];
    let mut order: Vec<usize> = Vec::new();
    let mut best = Vec::new();
    for step in 0..steps {
        if step % 64 == 0 {
            cancel.check("query")?;
        }
        let mut tops: Vec<TopK<f64, usize>> = (0..table.len())
            .map(|_| TopK::new(aggregation.count, rank))
            .collect();
        for (n, series) in vector.iter().enumerate() {
            let v = series.cells[step];
            if !is_gap(v) {
                tops[groups[n]].offer(v, n);
            }
        }
        let is_bottom = aggregation.op == VectorOp::BottomK;
        for top in tops {
            let mut top = top.into_sorted();
            if is_bottom {
                // Loki lists them from the greatest down, too.
                top.reverse();
            }
            best.extend(top);
        }
        for (v, n) in best.drain(..) {
            if kept[n].is_empty() {
                kept[n] = vec![GAP; steps];
                order.push(n);
            }
            kept[n][step] = v;
        }
    }
    Ok(order
        .into_iter()
        .map(|n| GridSeries {
            labels: vector[n].labels.clone(),
            cells: std::mem::take(&mut kept[n]),
        })
        .collect())
}

/// NaN is below all numbers.
fn nan_low(a: f64, b: f64, order: impl Fn(f64, f64) -> Ordering) -> Ordering {
    match (a.is_nan(), b.is_nan()) {
        (false, false) => order(a, b),
        (a, b) => b.cmp(&a),
    }
}
