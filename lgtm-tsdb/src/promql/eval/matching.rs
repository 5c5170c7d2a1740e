//! Set operators: `and`, `or`, `unless`.

use lgtm_core::exec::CancelToken;
use lgtm_core::model::METRIC_NAME;
use lgtm_core::vector::{Grouping, StepGrid, match_groups};

use super::cells::Series;
use super::labels::merge_equal;
use crate::promql::ast::{BinaryOp, VectorMatching};
use crate::promql::query_error::Result;

/// Which labels make series of two sides partners.
pub(super) fn grouping(m: &VectorMatching) -> Grouping {
    if m.on {
        Grouping::by(m.labels.iter().cloned())
    } else {
        Grouping::without(m.labels.iter().cloned().chain([METRIC_NAME.to_owned()]))
    }
}

/// Bytes that it takes to find partners: a key of each series, which may be all of its labels, and its place.
pub(super) fn groups_bytes(lhs: &[Series], rhs: &[Series]) -> u64 {
    let of = |s: &Series| s.labels.size_bytes() as u64 + 64;
    lhs.iter().chain(rhs).map(of).sum()
}

pub(super) fn set_operation(
    op: BinaryOp,
    mut lhs: Vec<Series>,
    mut rhs: Vec<Series>,
    matching: &VectorMatching,
    grid: StepGrid,
    cancel: &CancelToken,
) -> Result<Vec<Series>> {
    let groups = match_groups(
        grouping(matching),
        lhs.iter().map(|s| &s.labels),
        rhs.iter().map(|s| &s.labels),
    );
    let any = |side: &[Series], places: &[u32], step: usize| {
        places.iter().any(|p| side[*p as usize].cells.has(step))
    };
    for g in &groups {
        for step in 0..grid.len() {
            cancel.check("query")?;
            let drop_left = match op {
                BinaryOp::And => !any(&rhs, &g.right, step),
                BinaryOp::Unless => any(&rhs, &g.right, step),
                _ => false,
            };
            if drop_left {
                g.left
                    .iter()
                    .for_each(|p| lhs[*p as usize].cells.unset(step));
            } else if op == BinaryOp::Or && any(&lhs, &g.left, step) {
                g.right
                    .iter()
                    .for_each(|p| rhs[*p as usize].cells.unset(step));
            }
        }
    }
    if op == BinaryOp::Or {
        lhs.append(&mut rhs);
    }
    lhs.retain(|s| !s.cells.is_empty());
    match op {
        BinaryOp::Or => merge_equal(lhs),
        _ => Ok(lhs),
    }
}

#[cfg(test)]
mod tests {
    use lgtm_core::model::Labels;

    use super::*;
    use crate::promql::ast::Cardinality;
    use crate::promql::eval::cells::Cells;

    #[test]
    fn what_nobody_waits_for_ends() {
        let one = || {
            vec![Series {
                labels: Labels::empty(),
                cells: Cells::of_floats(vec![1.0]),
            }]
        };
        let matching = VectorMatching {
            card: Cardinality::ManyToMany,
            on: false,
            labels: Vec::new(),
            include: Vec::new(),
            fill_left: None,
            fill_right: None,
        };
        let (grid, cancel) = (StepGrid::instant(0), CancelToken::new());
        let run = |op| set_operation(op, one(), one(), &matching, grid, &cancel);
        assert_eq!(run(BinaryOp::And).unwrap().len(), 1);
        cancel.cancel();
        for op in [BinaryOp::And, BinaryOp::Or, BinaryOp::Unless] {
            assert!(run(op).is_err(), "{op:?}");
        }
    }
}
