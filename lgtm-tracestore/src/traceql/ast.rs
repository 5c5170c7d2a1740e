//! A query as a tree.

use crate::select::{CompareOp, Field, Literal};

/// A query.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// What is asked.
    pub body: QueryBody,
    /// What is hinted, in order.
    pub hints: Vec<Hint>,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq)]
pub enum QueryBody {
    /// Traces and spans.
    Search(Pipeline),
    /// Series.
    Metrics(MetricsExpr),
}

/// `most_recent=true` in `with(…)`.
#[derive(Debug, Clone, PartialEq)]
pub struct Hint {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: Literal,
}

/// Span sets, and what is done with them one step after the other. The first stage is a [`Stage::Spanset`].
#[derive(Debug, Clone, PartialEq)]
pub struct Pipeline {
    /// The steps.
    pub stages: Vec<Stage>,
}

/// A step.
#[derive(Debug, Clone, PartialEq)]
pub enum Stage {
    /// Keeps spans of each set.
    Spanset(SpansetExpr),
    /// Cuts each set by the values of an expression.
    By(Expr),
    /// Joins the sets of a trace.
    Coalesce,
    /// Adds fields to what is told of each span.
    Select(Vec<Field>),
    /// Keeps the sets of which a number passes.
    Aggregate(AggregateFilter),
}

/// Spans of one trace.
#[derive(Debug, Clone, PartialEq)]
pub enum SpansetExpr {
    /// `{ … }`
    Filter(Expr),
    /// Two sets combined.
    Operation(Box<SpansetExpr>, SpansetOp, Box<SpansetExpr>),
    /// `({ … } | …)`
    Pipeline(Pipeline),
}

/// How two sets are combined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpansetOp {
    /// `&&`: both, when neither is empty.
    And,
    /// `||`: both.
    Or,
    /// By how spans stand to each other.
    Structural(Relation, RelationForm),
}

/// How a span of the right side stands to one of the left side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// `>`
    Child,
    /// `<`
    Parent,
    /// `>>`
    Descendant,
    /// `<<`
    Ancestor,
    /// `~`
    Sibling,
}

/// Which spans a relation gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelationForm {
    /// Those of the right side that stand so.
    Right,
    /// `!`: those of the right side that do not stand so to any.
    Negated,
    /// `&`: those of both sides that stand so.
    Union,
}

/// What is computed of a span.
#[derive(Debug, Clone, PartialEq)]
pub enum Expr {
    /// A value.
    Literal(Literal),
    /// A field.
    Field(Field),
    /// Something of the span above, which nobody answers.
    Parent {
        /// Without a name.
        bare: bool,
    },
    /// `!a`
    Not(Box<Expr>),
    /// `-a`
    Negate(Box<Expr>),
    /// `a && b && …`, two or more.
    And(Vec<Expr>),
    /// `a || b || …`, two or more.
    Or(Vec<Expr>),
    /// `a op b`
    Binary(Box<Expr>, BinaryOp, Box<Expr>),
}

/// An operator between two values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BinaryOp {
    /// `= != < <= > >=`
    Compare(CompareOp),
    /// `=~`
    Matches,
    /// `!~`
    MatchesNot,
    /// `+ - * / % ^`
    Arithmetic(ArithmeticOp),
}

/// An operator between two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ArithmeticOp {
    /// `+`
    Add,
    /// `-`
    Subtract,
    /// `*`
    Multiply,
    /// `/`
    Divide,
    /// `%`
    Modulo,
    /// `^`
    Power,
}

/// `avg(duration) > 1s`
#[derive(Debug, Clone, PartialEq)]
pub struct AggregateFilter {
    /// What is computed.
    pub aggregate: Aggregate,
    /// How it is compared.
    pub op: CompareOp,
    /// With what.
    pub value: Literal,
}

/// A number of a span set.
#[derive(Debug, Clone, PartialEq)]
pub enum Aggregate {
    /// `count()`
    Count,
    /// `avg(…)`
    Avg(Expr),
    /// `min(…)`
    Min(Expr),
    /// `max(…)`
    Max(Expr),
    /// `sum(…)`
    Sum(Expr),
}

/// Series.
#[derive(Debug, Clone, PartialEq)]
pub enum MetricsExpr {
    /// Made of spans.
    Query(Box<MetricsQuery>),
    /// A number.
    Number(f64),
    /// Computed of others.
    Binary(Box<MetricsExpr>, ArithmeticOp, Box<MetricsExpr>),
    /// Others, of which some are kept.
    Staged(Box<MetricsExpr>, Vec<SecondStage>),
}

/// Series made of spans.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricsQuery {
    /// Which spans.
    pub pipeline: Pipeline,
    /// What is made of them.
    pub function: MetricsFunction,
    /// A series for each of the values.
    pub by: Vec<Field>,
}

/// What is made of spans.
#[derive(Debug, Clone, PartialEq)]
pub enum MetricsFunction {
    /// Spans a second.
    Rate,
    /// Spans.
    CountOverTime,
    /// The least value.
    MinOverTime(Field),
    /// The greatest value.
    MaxOverTime(Field),
    /// The mean.
    AvgOverTime(Field),
    /// The sum.
    SumOverTime(Field),
    /// Quantiles by powers of two.
    QuantileOverTime(Field, Vec<f64>),
    /// Counts by powers of two.
    HistogramOverTime(Field),
    /// What distinguishes some spans from the others.
    Compare(CompareFunction),
}

/// `compare({ … }, 10)`
#[derive(Debug, Clone, PartialEq)]
pub struct CompareFunction {
    /// The spans that are to be distinguished.
    pub selection: Expr,
    /// Values of each attribute that are told.
    pub top: i64,
    /// Nanoseconds since the epoch: these spans start after the first and not after the second.
    pub between_ns: Option<(i64, i64)>,
}

/// What is done with series.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum SecondStage {
    /// The greatest in each interval.
    TopK(i64),
    /// The least in each interval.
    BottomK(i64),
    /// Points that pass.
    Filter(CompareOp, f64),
}

impl Pipeline {
    /// One step.
    pub fn of(spanset: SpansetExpr) -> Self {
        Self {
            stages: vec![Stage::Spanset(spanset)],
        }
    }
}

impl Query {
    /// The last hint of that name.
    pub fn hint(&self, name: &str) -> Option<&Literal> {
        let hint = self.hints.iter().rev().find(|h| h.name == name)?;
        Some(&hint.value)
    }

    /// Calls `f` with every metrics query in it, from left to right.
    pub fn metrics_queries(&self) -> Vec<&MetricsQuery> {
        let mut out = Vec::new();
        if let QueryBody::Metrics(metrics) = &self.body {
            metrics.collect_queries(&mut out);
        }
        out
    }
}

impl MetricsExpr {
    fn collect_queries<'a>(&'a self, out: &mut Vec<&'a MetricsQuery>) {
        match self {
            Self::Query(query) => out.push(query),
            Self::Number(_) => {}
            Self::Binary(a, _, b) => {
                a.collect_queries(out);
                b.collect_queries(out);
            }
            Self::Staged(inner, _) => inner.collect_queries(out),
        }
    }
}

impl MetricsFunction {
    /// As queries write it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::CountOverTime => "count_over_time",
            Self::MinOverTime(_) => "min_over_time",
            Self::MaxOverTime(_) => "max_over_time",
            Self::AvgOverTime(_) => "avg_over_time",
            Self::SumOverTime(_) => "sum_over_time",
            Self::QuantileOverTime(..) => "quantile_over_time",
            Self::HistogramOverTime(_) => "histogram_over_time",
            Self::Compare(_) => "compare",
        }
    }

    /// The field whose values are taken.
    pub fn field(&self) -> Option<&Field> {
        match self {
            Self::MinOverTime(field)
            | Self::MaxOverTime(field)
            | Self::AvgOverTime(field)
            | Self::SumOverTime(field)
            | Self::QuantileOverTime(field, _)
            | Self::HistogramOverTime(field) => Some(field),
            Self::Rate | Self::CountOverTime | Self::Compare(_) => None,
        }
    }
}

impl Aggregate {
    /// The expression whose values are taken.
    pub fn expression(&self) -> Option<&Expr> {
        match self {
            Self::Count => None,
            Self::Avg(e) | Self::Min(e) | Self::Max(e) | Self::Sum(e) => Some(e),
        }
    }
}

impl Expr {
    /// `true`: every span.
    pub fn always() -> Self {
        Self::Literal(Literal::Bool(true))
    }

    /// Calls `f` with every field in it.
    pub fn each_field(&self, f: &mut impl FnMut(&Field)) {
        match self {
            Self::Field(field) => f(field),
            Self::Literal(_) | Self::Parent { .. } => {}
            Self::Not(inner) | Self::Negate(inner) => inner.each_field(f),
            Self::And(all) | Self::Or(all) => all.iter().for_each(|e| e.each_field(f)),
            Self::Binary(a, _, b) => {
                a.each_field(f);
                b.each_field(f);
            }
        }
    }

    /// Whether it has a field in it.
    pub fn references_span(&self) -> bool {
        let mut any = false;
        self.each_field(&mut |_| any = true);
        any
    }
}

impl SpansetExpr {
    /// Calls `f` with every filter in it, those of pipelines included.
    pub fn each_filter<'a>(&'a self, f: &mut impl FnMut(&'a Expr)) {
        match self {
            Self::Filter(expr) => f(expr),
            Self::Operation(a, _, b) => {
                a.each_filter(f);
                b.each_filter(f);
            }
            Self::Pipeline(pipeline) => {
                for stage in &pipeline.stages {
                    if let Stage::Spanset(inner) = stage {
                        inner.each_filter(f);
                    }
                }
            }
        }
    }
}
