//! Metric queries cut into parts whose answers can be joined without loss: by series, or, at one time, the long ranges by time.
//!
//! ```text
//! topk(3, sum by (a) (rate({app="x"}[5m])))
//!   outer  topk(3, <leg 0, equal labels added> / 300)
//!   leg 0  sum by (a) (count_over_time({app="x"}[5m])) of shard 1 of 16, of shard 2 of 16, …
//! ```
//!
//! Only range aggregations are cut, alone or together with the vector aggregation around them where that is of the same kind (`sum` over
//! counts and sums, `min` over `min_over_time`, `max` over `max_over_time`). What stands above is evaluated over the joined answers, so
//! that `topk`, `count`, comparisons and averages see what they see of the whole. Counts and bytes are whole numbers and rates are made
//! of them at the end, so they come out bit by bit; sums of unwrapped values are added in another order, so their last bits may
//! differ. Averages, deviations, quantiles and counter rates stay whole.

use super::ast::{
    BinaryExpr, BinaryOp, LabelReplace, Leg, LegJoin, MetricExpr, RangeAggregation, RangeOp,
    VectorAggregation, VectorOp,
};
use crate::select::StreamShard;
use lgtm_core::model::TimestampNs;

/// What is asked of one leg: an expression, of a part of the streams if one is named.
pub(super) type LegPart = (MetricExpr, Option<StreamShard>);

/// A query in parts.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct CutQuery {
    /// What is asked of the answers.
    pub(super) outer: MetricExpr,
    /// Per leg the parts whose answers belong together.
    pub(super) legs: Vec<Vec<LegPart>>,
}

/// Cuts a query into `shards`, if it has anything that can be. Costs one copy of the tree, and of each part of it per shard.
pub(super) fn cut_by_series(expr: &MetricExpr, shards: u32) -> Option<CutQuery> {
    let shards: Vec<StreamShard> = (0..shards)
        .filter_map(|n| StreamShard::new(n, shards).ok())
        .collect();
    if shards.len() < 2 {
        return None;
    }
    let cut = |range: &RangeAggregation| {
        let how = join_of_series(range)?;
        let parts = shards.iter().map(|s| (range.clone(), Some(*s)));
        Some((how, parts.collect()))
    };
    cut_ranges(expr, &cut)
}

/// Parts that one range may become; longer ones have longer parts.
const MAX_PARTS: i64 = 1000;
const MINUTE_NS: i64 = 60_000_000_000;

/// Cuts the ranges of a query at one time, `end_ns`, that are longer than `interval_ns`, if there are any.
pub(super) fn cut_by_time(
    expr: &MetricExpr,
    interval_ns: i64,
    end_ns: TimestampNs,
) -> Option<CutQuery> {
    if interval_ns <= 0 {
        return None;
    }
    let cut = |range: &RangeAggregation| {
        let how = join_of_times(range)?;
        let whole = range.range_ns;
        let length = interval_ns.max(whole / MAX_PARTS + 1);
        // At whole minutes, which holders may have counted already; never nearer than asked for.
        let unit = if length < MINUTE_NS { 1 } else { MINUTE_NS };
        let (mut parts, mut back_ns) = (Vec::new(), 0);
        while back_ns < whole {
            let part_ns = back_ns.saturating_add(length).min(whole);
            let cut_ns = end_ns
                .saturating_sub(range.offset_ns)
                .saturating_sub(part_ns);
            let behind_ns = part_ns
                .saturating_add(cut_ns.get().rem_euclid(unit))
                .min(whole);
            let part = RangeAggregation {
                range_ns: behind_ns - back_ns,
                offset_ns: range.offset_ns.saturating_add(back_ns),
                ..range.clone()
            };
            parts.push((part, None));
            back_ns = behind_ns;
        }
        if parts.len() < 2 {
            return None;
        }
        if range.op == RangeOp::FirstOverTime {
            parts.reverse();
        }
        Some((how, parts))
    };
    cut_ranges(expr, &cut)
}

/// How the answers of disjoint streams make the answer of all.
fn join_of_series(range: &RangeAggregation) -> Option<LegJoin> {
    match range.op {
        RangeOp::CountOverTime
        | RangeOp::Rate
        | RangeOp::BytesOverTime
        | RangeOp::BytesRate
        | RangeOp::SumOverTime => Some(LegJoin::Sum),
        RangeOp::MinOverTime => Some(LegJoin::Least),
        RangeOp::MaxOverTime => Some(LegJoin::Greatest),
        _ => None,
    }
}

/// How the answers of neighbouring ranges make the answer of all; those of the first range come first.
fn join_of_times(range: &RangeAggregation) -> Option<LegJoin> {
    match range.op {
        RangeOp::FirstOverTime | RangeOp::LastOverTime => Some(LegJoin::First),
        _ => join_of_series(range),
    }
}

/// The parts of a range aggregation and how their answers are joined; `None` if it stays whole.
type CutRange<'a> = &'a dyn Fn(
    &RangeAggregation,
) -> Option<(LegJoin, Vec<(RangeAggregation, Option<StreamShard>)>)>;

fn cut_ranges(expr: &MetricExpr, cut: CutRange<'_>) -> Option<CutQuery> {
    let mut cutter = Cutter {
        cut,
        legs: Vec::new(),
    };
    let outer = cutter.rewrite(expr)?;
    Some(CutQuery {
        outer,
        legs: cutter.legs,
    })
}

struct Cutter<'a> {
    cut: CutRange<'a>,
    legs: Vec<Vec<LegPart>>,
}

impl Cutter<'_> {
    /// The expression with what can be cut replaced; `None` if that is nothing.
    fn rewrite(&mut self, expr: &MetricExpr) -> Option<MetricExpr> {
        match expr {
            MetricExpr::Literal(_) | MetricExpr::Vector(_) | MetricExpr::Leg(_) => None,
            MetricExpr::Range(range) => self.leg(range, None),
            MetricExpr::Aggregation(a) => {
                if let MetricExpr::Range(range) = &a.expr
                    && is_same_kind(a, range)
                    && let Some(cut) = self.leg(range, Some(a))
                {
                    return Some(cut);
                }
                let expr = self.rewrite(&a.expr)?;
                Some(MetricExpr::Aggregation(Box::new(around(a, expr))))
            }
            MetricExpr::LabelReplace(l) => {
                let expr = self.rewrite(&l.expr)?;
                Some(MetricExpr::LabelReplace(Box::new(LabelReplace {
                    expr,
                    arguments: l.arguments.clone(),
                })))
            }
            MetricExpr::Binary(b) => {
                let (left, right) = (self.rewrite(&b.left), self.rewrite(&b.right));
                if left.is_none() && right.is_none() {
                    return None;
                }
                let left = left.unwrap_or_else(|| self.whole(&b.left));
                let right = right.unwrap_or_else(|| self.whole(&b.right));
                Some(MetricExpr::Binary(Box::new(BinaryExpr {
                    op: b.op,
                    returns_bool: b.returns_bool,
                    matching: b.matching.clone(),
                    left,
                    right,
                })))
            }
        }
    }

    /// A range aggregation as a leg, with the aggregation around it if that is of its kind.
    fn leg(
        &mut self,
        range: &RangeAggregation,
        outer: Option<&VectorAggregation>,
    ) -> Option<MetricExpr> {
        // Whole numbers are added, and divided once.
        let counted = RangeAggregation {
            op: match range.op {
                RangeOp::Rate if range.unwrap.is_some() => RangeOp::SumOverTime,
                RangeOp::Rate => RangeOp::CountOverTime,
                RangeOp::BytesRate => RangeOp::BytesOverTime,
                op => op,
            },
            ..range.clone()
        };
        let (how, parts) = (self.cut)(&counted)?;
        let parts = parts.into_iter().map(|(part, shard)| {
            let part = MetricExpr::Range(Box::new(part));
            let part = match outer {
                Some(outer) => MetricExpr::Aggregation(Box::new(around(outer, part))),
                None => part,
            };
            (part, shard)
        });
        self.legs.push(parts.collect());
        let leg = MetricExpr::Leg(Leg {
            number: self.legs.len() - 1,
            join: how,
        });
        Some(match counted.op == range.op {
            true => leg,
            false => MetricExpr::Binary(Box::new(BinaryExpr {
                op: BinaryOp::Div,
                returns_bool: false,
                matching: None,
                left: leg,
                right: MetricExpr::Literal(range.range_ns as f64 / 1e9),
            })),
        })
    }

    /// What stays whole but needs data becomes a leg of one part.
    fn whole(&mut self, expr: &MetricExpr) -> MetricExpr {
        if matches!(expr, MetricExpr::Literal(_) | MetricExpr::Vector(_)) {
            return expr.clone();
        }
        self.legs.push(vec![(expr.clone(), None)]);
        MetricExpr::Leg(Leg {
            number: self.legs.len() - 1,
            join: LegJoin::None,
        })
    }
}

/// An aggregation over something else.
fn around(a: &VectorAggregation, expr: MetricExpr) -> VectorAggregation {
    VectorAggregation {
        op: a.op,
        count: a.count,
        grouping: a.grouping.clone(),
        expr,
    }
}

/// Whether the aggregation of parts, joined as the range aggregation is, is that of the whole.
fn is_same_kind(a: &VectorAggregation, range: &RangeAggregation) -> bool {
    match a.op {
        VectorOp::Sum => join_of_series(range) == Some(LegJoin::Sum),
        VectorOp::Min => range.op == RangeOp::MinOverTime,
        VectorOp::Max => range.op == RangeOp::MaxOverTime,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logql::{Expr, parse};
    use proptest::prelude::*;

    const HOUR_NS: i64 = 3_600_000_000_000;

    fn metric(query: &str) -> MetricExpr {
        match parse(query).unwrap() {
            Expr::Metric(metric) => metric,
            Expr::Log(_) => panic!("{query} is a log query"),
        }
    }

    /// The outer part, and of each leg the first part and how many there are.
    fn cut(query: Option<CutQuery>) -> Option<(String, Vec<(String, usize)>)> {
        let query = query?;
        let legs = query
            .legs
            .iter()
            .map(|l| (l[0].0.to_string(), l.len()))
            .collect();
        Some((query.outer.to_string(), legs))
    }

    #[test]
    fn what_can_be_joined_is_cut_by_series() {
        let leg = |text: &str, parts: usize| (text.to_owned(), parts);
        for (query, outer, legs) in [
            (
                r#"sum by (a) (rate({x="y"}[5m]))"#,
                "(<leg 0: sum> / 300)",
                vec![leg(r#"sum by (a)(count_over_time({x="y"}[5m]))"#, 4)],
            ),
            (
                r#"count(count_over_time({x="y"} | json [5m]) > 3)"#,
                "count((<leg 0: sum> > 3))",
                vec![leg(r#"count_over_time({x="y"} | json[5m])"#, 4)],
            ),
            (
                r#"max(max_over_time({x="y"} | unwrap v [1m]) by (a))"#,
                "<leg 0: max>",
                vec![leg(
                    r#"max(max_over_time({x="y"} | unwrap v[1m]) by (a))"#,
                    4,
                )],
            ),
            (
                r#"max(count_over_time({x="y"}[1m]))"#,
                "max(<leg 0: sum>)",
                vec![leg(r#"count_over_time({x="y"}[1m])"#, 4)],
            ),
            (
                r#"sum(min_over_time({x="y"} | unwrap v [1m]))"#,
                "sum(<leg 0: min>)",
                vec![leg(r#"min_over_time({x="y"} | unwrap v[1m])"#, 4)],
            ),
            (
                r#"topk(2, bytes_rate({x="y"}[1m])) or vector(0) or avg_over_time({x="y"} | unwrap v [1m])"#,
                "((topk(2,(<leg 0: sum> / 60)) or vector(0)) or <leg 1>)",
                vec![
                    leg(r#"bytes_over_time({x="y"}[1m])"#, 4),
                    leg(r#"avg_over_time({x="y"} | unwrap v[1m])"#, 1),
                ],
            ),
        ] {
            assert_eq!(
                cut(cut_by_series(&metric(query), 4)),
                Some((outer.to_owned(), legs)),
                "{query}"
            );
        }
    }

    #[test]
    fn what_cannot_be_joined_stays_whole() {
        for query in [
            r#"quantile_over_time(0.5, {x="y"} | unwrap v [5m])"#,
            r#"max by (a) (quantile_over_time(0.9, {x="y"} | unwrap v [5m]) by (a, b))"#,
            r#"avg_over_time({x="y"} | unwrap v [5m])"#,
            r#"absent_over_time({x="y"}[5m])"#,
            r#"rate_counter({x="y"} | unwrap v [5m])"#,
            r#"last_over_time({x="y"} | unwrap v [5m])"#,
            "vector(1) + 2",
        ] {
            assert_eq!(cut_by_series(&metric(query), 4), None, "{query}");
            assert_eq!(cut_by_series(&metric(query), 1), None, "{query}");
        }
    }

    #[test]
    fn long_ranges_become_neighbours() {
        let query = metric(r#"sum(last_over_time({x="y"} | unwrap v [150m] offset 5m))"#);
        let parts = cut_by_time(&query, HOUR_NS, TimestampNs::new(7 * HOUR_NS)).unwrap();
        assert_eq!(parts.outer.to_string(), "sum(<leg 0: first>)");
        let texts: Vec<String> = parts.legs[0].iter().map(|p| p.0.to_string()).collect();
        assert_eq!(
            texts,
            [
                r#"last_over_time({x="y"} | unwrap v[1h] offset 5m0s)"#,
                r#"last_over_time({x="y"} | unwrap v[1h] offset 1h5m0s)"#,
                r#"last_over_time({x="y"} | unwrap v[30m] offset 2h5m0s)"#,
            ]
        );
        // Ten seconds past the minute: all but the ends are on minutes.
        let end_ns = TimestampNs::new(7 * HOUR_NS + 10_000_000_000);
        let parts = cut_by_time(&query, HOUR_NS, end_ns).unwrap();
        let texts: Vec<String> = parts.legs[0].iter().map(|p| p.0.to_string()).collect();
        assert_eq!(
            texts,
            [
                r#"last_over_time({x="y"} | unwrap v[1h10s] offset 5m0s)"#,
                r#"last_over_time({x="y"} | unwrap v[1h] offset 1h5m10s)"#,
                r#"last_over_time({x="y"} | unwrap v[29m50s] offset 2h5m10s)"#,
            ]
        );
        for whole in [
            r#"rate({x="y"}[1h])"#,
            r#"stddev_over_time({x="y"} | unwrap v [5h])"#,
        ] {
            assert_eq!(
                cut_by_time(&metric(whole), HOUR_NS, end_ns),
                None,
                "{whole}"
            );
        }
    }

    proptest! {
        #[test]
        fn parts_neither_overlap_nor_leave_a_gap(
            range in prop_oneof![2i64..i64::MAX / 4, 2i64..100 * MINUTE_NS],
            interval in prop_oneof![1i64..i64::MAX / 4, 1i64..10 * MINUTE_NS],
            end_ns in 0i64..i64::MAX / 4,
        ) {
            let MetricExpr::Range(mut r) = metric(r#"count_over_time({x="y"}[1m])"#) else { unreachable!() };
            (r.range_ns, r.offset_ns) = (range, 7);
            let Some(cut) = cut_by_time(&MetricExpr::Range(r), interval, end_ns.into()) else {
                prop_assert!(range < interval.saturating_add(MINUTE_NS));
                return Ok(());
            };
            let mut newest = 7;
            for (part, _) in &cut.legs[0] {
                let MetricExpr::Range(r) = part else { unreachable!() };
                prop_assert_eq!(r.offset_ns, newest);
                prop_assert!(newest == 7 || interval < MINUTE_NS || (end_ns - newest) % MINUTE_NS == 0);
                newest += r.range_ns;
            }
            prop_assert_eq!(newest, range + 7);
            prop_assert!(cut.legs[0].len() <= 1000);
        }
    }
}
