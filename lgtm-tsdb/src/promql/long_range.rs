//! Instant queries over long ranges, cut into shorter ones: `sum_over_time(x[30d])` is the sum of thirty `sum_over_time(x[1d] offset …)`.
//!
//! Ranges are open to the left, so neighbours share no sample. `sum`, `count`, `min`, `max`, `avg` and `present_over_time` are cut;
//! `rate` and its like are not, since they need what lies between two samples on both sides of a cut.

use super::ast::{
    Aggregate, AggregateOp, Call, Edges, Expr, Length, MatrixSelector, Span, VectorSelector,
};
use super::shard::{Cutter, Legs, ShardedQuery, embedded, names_are_equal, ratio};
use super::signature::Function;
use crate::select::QUERY_SHARD_LABEL;

/// Cuts the ranges of an instant query that are longer than `interval_ms`, if there are any.
pub fn split_long_ranges(expr: &Expr, interval_ms: i64) -> Option<ShardedQuery> {
    if interval_ms <= 0 {
        return None;
    }
    let mut cutter = Cutter {
        cut: &|expr, legs| split_call(expr, interval_ms, legs),
        legs: Vec::new(),
    };
    let outer = cutter.rewrite(expr)?;
    Some(ShardedQuery {
        outer,
        legs: cutter.legs,
    })
}

/// Parts that one range may become; longer ones have longer parts.
const MAX_PARTS: i64 = 1000;

fn split_call(expr: &Expr, interval_ms: i64, legs: &mut Legs) -> Option<Expr> {
    let Expr::Call(call) = expr else {
        return None;
    };
    let [Expr::Matrix(matrix)] = &call.args[..] else {
        return None;
    };
    let (range_ms, offset_ms) = (matrix.range.ms()?, matrix.vector.offset.ms()?);
    let is_plain = matrix.vector.edges == Edges::Plain;
    if range_ms <= interval_ms || !is_plain || !names_are_equal(expr) {
        return None;
    }
    let part_ms = interval_ms.max(range_ms.saturating_add(MAX_PARTS - 1) / MAX_PARTS);
    let mut leg = |function: &'static Function, outer: AggregateOp| {
        let starts = (0..range_ms).step_by(usize::try_from(part_ms).unwrap_or(usize::MAX));
        let parts = starts.map(|back_ms| {
            let part = MatrixSelector {
                range: Length::Ms(part_ms.min(range_ms - back_ms)),
                vector: VectorSelector {
                    offset: Length::Ms(offset_ms.saturating_add(back_ms)),
                    ..matrix.vector.clone()
                },
                span: matrix.span,
            };
            Expr::Call(Call {
                function,
                args: vec![Expr::Matrix(part)],
                span: call.span,
            })
        });
        legs.push(parts.collect());
        Expr::Aggregate(Aggregate {
            op: outer,
            expr: Box::new(embedded(legs.len() - 1)),
            param: None,
            grouping: vec![QUERY_SHARD_LABEL.into()],
            without: true,
            span: Span::default(),
        })
    };
    let same = call.function;
    match same.name {
        "sum_over_time" | "count_over_time" => Some(leg(same, AggregateOp::Sum)),
        "min_over_time" => Some(leg(same, AggregateOp::Min)),
        "max_over_time" => Some(leg(same, AggregateOp::Max)),
        "present_over_time" => Some(leg(same, AggregateOp::Group)),
        "avg_over_time" => {
            let sum = leg(Function::find("sum_over_time")?, AggregateOp::Sum);
            let count = leg(Function::find("count_over_time")?, AggregateOp::Sum);
            Some(ratio(sum, count))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::promql::parse;
    use proptest::prelude::*;

    const HOUR_MS: i64 = 3_600_000;

    fn split(query: &str) -> Option<(String, Vec<Vec<String>>)> {
        let sharded = split_long_ranges(&parse(query).unwrap(), HOUR_MS)?;
        let text = |leg: &Vec<Expr>| leg.iter().map(ToString::to_string).collect();
        Some((
            sharded.outer.to_string(),
            sharded.legs.iter().map(text).collect(),
        ))
    }

    #[test]
    fn long_ranges_become_neighbours() {
        let (outer, legs) =
            split("sum by (a) (max_over_time(x{b=\"c\"}[2h30m] offset 5m))").unwrap();
        assert_eq!(
            outer,
            "sum by (a) (max without (__query_shard__) (__embedded__{__leg__=\"0\"}))"
        );
        let wanted = [
            "max_over_time(x{b=\"c\"}[1h] offset 5m)",
            "max_over_time(x{b=\"c\"}[1h] offset 1h5m)",
            "max_over_time(x{b=\"c\"}[30m] offset 2h5m)",
        ];
        assert_eq!(legs, [wanted]);
        let (outer, legs) = split("avg_over_time(x[2h]) > y").unwrap();
        assert_eq!(
            outer,
            "(sum without (__query_shard__) (__embedded__{__leg__=\"0\"}) / sum without (__query_shard__) (__embedded__{__leg__=\"1\"})) > __embedded__{__leg__=\"2\"}"
        );
        assert_eq!(legs[2], ["y"]);
    }

    #[test]
    fn what_cannot_be_cut_stays() {
        for query in [
            "sum_over_time(x[1h])",
            "rate(x[5h])",
            "sum_over_time(x[5h:1m])",
            "max_over_time(sum_over_time(x[5h])[1h:1m])",
            "quantile_over_time(0.5, x[5h])",
        ] {
            assert_eq!(split(query), None, "{query}");
        }
    }

    proptest! {
        #[test]
        fn parts_neither_overlap_nor_leave_a_gap(range in 2i64..2_000_000_000_000, interval in 1i64..100_000_000) {
            let query = parse(&format!("sum_over_time(x[{range}ms] offset 7ms)")).unwrap();
            let Some(sharded) = split_long_ranges(&query, interval) else {
                prop_assert!(range <= interval);
                return Ok(());
            };
            let mut newest = 7;
            for part in &sharded.legs[0] {
                let Expr::Call(call) = part else { unreachable!() };
                let Expr::Matrix(m) = &call.args[0] else { unreachable!() };
                prop_assert_eq!(m.vector.offset.ms(), Some(newest));
                newest += m.range.ms().unwrap();
            }
            prop_assert_eq!(newest, range + 7);
            prop_assert!(sharded.legs[0].len() <= 1000);
        }
    }
}
