//! Queries cut by series: each aggregation that can be is asked of disjoint shards of the series, and the rest is evaluated over their
//! answers.
//!
//! ```text
//! sum by (a) (rate(x[5m])) / 2
//!   outer  sum by (a) (__embedded__{__leg__="0"}) / 2
//!   leg 0  sum by (a) (rate(x{__query_shard__="1_of_16"}[5m])), sum by (a) (rate(x{__query_shard__="2_of_16"}[5m])), …
//! ```
//!
//! The answers to a leg are read in the place of its selector. Of a leg of several queries each answer gets a label that tells which
//! (`__query_shard__`), so that equal series stay apart; the outer aggregation drops it. `sum`, `count`, `min`, `max`, `group` and `avg` are cut, over what treats each series for itself. Sums are added in another
//! order than without shards, so the last bits of a float may differ; an average whose sum overflows is infinite.
//!
//! Source: the query sharding that Grafana Mimir documents; label and shard names are its.
//!
//! Series that differ in their name alone may lie in different shards, where nobody would notice that they become equal as the name is
//! dropped. So what drops names is cut only if it asks for one name.

use lgtm_core::model::{METRIC_NAME, MatchOp, Matcher};

use super::ast::{
    Aggregate, AggregateOp, Binary, BinaryOp, Call, Cardinality, Edges, Expr, Length, Paren, Span,
    ValueType, VectorMatching, VectorSelector,
};
use crate::select::QUERY_SHARD_LABEL;

/// The metric that stands for the answers to a leg.
pub const EMBEDDED_METRIC: &str = "__embedded__";

/// Which leg, from 0.
pub const LEG_LABEL: &str = "__leg__";

/// The queries of each leg.
pub type Legs = Vec<Vec<Expr>>;

/// A query in parts.
#[derive(Debug, Clone, PartialEq)]
pub struct ShardedQuery {
    /// What is asked of the answers.
    pub outer: Expr,
    /// Per leg the queries whose answers belong together: one for each shard, or a single one for what cannot be cut.
    pub legs: Legs,
}

/// Cuts a query into `shards`, if there is an aggregation that can be.
///
/// Cost: one copy of the tree, and of each part of it per shard.
pub fn shard_query(expr: &Expr, shards: u32) -> Option<ShardedQuery> {
    if shards < 2 {
        return None;
    }
    let mut cutter = Cutter {
        cut: &|aggregate, legs| shard_aggregate(aggregate, shards, legs),
        legs: Vec::new(),
    };
    let outer = cutter.rewrite(expr)?;
    Some(ShardedQuery {
        outer,
        legs: cutter.legs,
    })
}

/// Replaces parts of a tree by selectors of legs.
pub(super) struct Cutter<'a> {
    /// Cuts one expression, if it is of the right kind.
    pub(super) cut: &'a dyn Fn(&Expr, &mut Legs) -> Option<Expr>,
    pub(super) legs: Legs,
}

impl Cutter<'_> {
    /// The expression with what can be cut replaced; `None` if that is nothing.
    pub(super) fn rewrite(&mut self, expr: &Expr) -> Option<Expr> {
        if let Some(cut) = (self.cut)(expr, &mut self.legs) {
            return Some(cut);
        }
        let ranges = |args: &[Expr]| args.iter().any(|a| a.value_type() == ValueType::Matrix);
        let descends = match expr {
            // Inside a range the steps are others; the second argument of `info` is no selector of series.
            Expr::Call(call) => !ranges(&call.args) && call.function.name != "info",
            Expr::Aggregate(_) | Expr::Binary(_) | Expr::Unary(_) | Expr::Paren(_) => true,
            _ => false,
        };
        if !descends {
            return None;
        }
        let before = self.legs.len();
        let children: Vec<Option<Expr>> = expr
            .children()
            .into_iter()
            .map(|c| self.rewrite(c))
            .collect();
        if self.legs.len() == before {
            return None;
        }
        let mut out = expr.clone();
        for (child, cut) in out.children_mut().into_iter().zip(children) {
            *child = match cut {
                Some(cut) => cut,
                None => self.embed(child),
            };
        }
        Some(out)
    }

    /// What stays whole but needs data becomes legs of one query each.
    fn embed(&mut self, expr: &Expr) -> Expr {
        if expr.selectors().is_empty() {
            return expr.clone();
        }
        if expr.value_type() == ValueType::Vector {
            self.legs.push(vec![expr.clone()]);
            return embedded(self.legs.len() - 1);
        }
        let mut out = expr.clone();
        for child in out.children_mut() {
            *child = self.embed(child);
        }
        out
    }
}

/// The selector of a leg's answers.
pub(super) fn embedded(leg: usize) -> Expr {
    Expr::Vector(VectorSelector {
        name: EMBEDDED_METRIC.into(),
        matchers: vec![
            Matcher::equal(LEG_LABEL, &leg.to_string()),
            Matcher::equal(METRIC_NAME, EMBEDDED_METRIC),
        ],
        offset: Length::ZERO,
        at: None,
        edges: Edges::Plain,
        bypass_empty_check: false,
        span: Span::default(),
    })
}

/// `lhs / rhs`, in parentheses.
pub(super) fn ratio(lhs: Expr, rhs: Expr) -> Expr {
    let matching = VectorMatching {
        card: Cardinality::OneToOne,
        on: false,
        labels: Vec::new(),
        include: Vec::new(),
        fill_left: None,
        fill_right: None,
    };
    Expr::Paren(Paren {
        expr: Box::new(Expr::Binary(Binary {
            op: BinaryOp::Div,
            op_span: Span::default(),
            lhs: Box::new(lhs),
            rhs: Box::new(rhs),
            return_bool: false,
            matching: Some(matching),
        })),
        span: Span::default(),
    })
}

fn shard_aggregate(expr: &Expr, shards: u32, legs: &mut Legs) -> Option<Expr> {
    let Expr::Aggregate(aggregate) = expr else {
        return None;
    };
    let can_be = is_by_series(&aggregate.expr)
        && !aggregate.grouping.iter().any(|l| l == QUERY_SHARD_LABEL)
        && names_are_equal(&aggregate.expr);
    if !can_be {
        return None;
    }
    let mut leg = |inner: AggregateOp, outer: AggregateOp| {
        let whole = Aggregate {
            op: inner,
            ..aggregate.clone()
        };
        legs.push((1..=shards).map(|n| of_shard(&whole, n, shards)).collect());
        let mut grouping = aggregate.grouping.clone();
        if aggregate.without {
            grouping.push(QUERY_SHARD_LABEL.into());
        }
        Expr::Aggregate(Aggregate {
            op: outer,
            expr: Box::new(embedded(legs.len() - 1)),
            grouping,
            ..aggregate.clone()
        })
    };
    use AggregateOp::{Avg, Count, Group, Max, Min, Sum};
    match aggregate.op {
        op @ (Sum | Min | Max | Group) => Some(leg(op, op)),
        Count => Some(leg(Count, Sum)),
        // A division drops the name, so it must not be one of the labels kept.
        Avg if aggregate.without || !aggregate.grouping.iter().any(|l| l == METRIC_NAME) => {
            Some(ratio(leg(Sum, Sum), leg(Count, Sum)))
        }
        _ => None,
    }
}

fn of_shard(aggregate: &Aggregate, shard: u32, shards: u32) -> Expr {
    let mut expr = Expr::Aggregate(aggregate.clone());
    let matcher = Matcher::equal(QUERY_SHARD_LABEL, &format!("{shard}_of_{shards}"));
    expr.walk_mut(&mut |e| match e {
        Expr::Vector(s) => s.matchers.push(matcher.clone()),
        Expr::Matrix(m) => m.vector.matchers.push(matcher.clone()),
        _ => {}
    });
    expr
}

/// Whether each series of an expression comes from one series of the data, whatever the others are.
fn is_by_series(expr: &Expr) -> bool {
    match expr {
        Expr::Vector(s) => s.matchers.iter().all(|m| m.name() != QUERY_SHARD_LABEL),
        Expr::Matrix(m) => m
            .vector
            .matchers
            .iter()
            .all(|m| m.name() != QUERY_SHARD_LABEL),
        Expr::Subquery(e) => is_by_series(&e.expr),
        Expr::Paren(e) => is_by_series(&e.expr),
        Expr::Unary(e) => is_by_series(&e.expr),
        Expr::StepInvariant(e) => is_by_series(e),
        Expr::Call(call) => is_by_series_call(call),
        Expr::Binary(e) => {
            let without_data =
                |e: &Expr| e.value_type() == ValueType::Scalar && e.selectors().is_empty();
            (is_by_series(&e.lhs) && without_data(&e.rhs))
                || (without_data(&e.lhs) && is_by_series(&e.rhs))
        }
        Expr::Aggregate(_) | Expr::Number(_) | Expr::Text(_) => false,
    }
}

fn is_by_series_call(call: &Call) -> bool {
    // These look at several series, change labels so that series may meet, or make series of their own.
    const OTHERS: [&str; 14] = [
        "absent",
        "absent_over_time",
        "histogram_fraction",
        "histogram_quantile",
        "histogram_quantiles",
        "info",
        "label_join",
        "label_replace",
        "scalar",
        "sort",
        "sort_by_label",
        "sort_by_label_desc",
        "sort_desc",
        "vector",
    ];
    if OTHERS.contains(&call.function.name) {
        return false;
    }
    let (with_data, others): (Vec<&Expr>, Vec<&Expr>) =
        call.args.iter().partition(|a| !a.selectors().is_empty());
    let scalars = others.iter().all(|a| a.value_type() == ValueType::Scalar);
    scalars && matches!(with_data[..], [one] if is_by_series(one))
}

/// Two series that differ in their name only become a conflict where the name is dropped, which shards would not notice. So the
/// name must be given, unless nothing is done to the series.
pub(super) fn names_are_equal(expr: &Expr) -> bool {
    if let Expr::Vector(_) = expr.unwrapped() {
        return true;
    }
    let named = |s: &&VectorSelector| {
        let is_name = |m: &Matcher| m.name() == METRIC_NAME && m.op() == MatchOp::Equal;
        s.matchers.iter().any(is_name)
    };
    expr.selectors().iter().all(named)
}

#[cfg(test)]
mod tests;
