//! Expressions: what a query says, with the place where it says it.
//!
//! Every node carries its [`Span`] in the query's text, by which errors and annotations name a place. Trees that the parser makes
//! are no higher than [`ParserOptions::max_depth`](super::ParserOptions::max_depth), so walking one by recursion is safe.

use std::fmt;

use lgtm_core::go::{quote, quote_bytes};
use lgtm_core::model::{Matcher, TimestampMs};

use super::signature::Function;

/// A range of bytes of the query's text, half-open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// After the last byte.
    pub end: usize,
}

impl Span {
    /// From `start` to before `end`.
    pub fn new(start: usize, end: usize) -> Self {
        Self { start, end }
    }

    /// From where `self` begins to where `last` ends.
    pub fn to(self, last: Self) -> Self {
        Self::new(self.start, last.end)
    }
}

/// What an expression gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ValueType {
    /// One number at a time.
    Scalar,
    /// A set of series with one sample each at a time.
    Vector,
    /// A set of series with samples over a range.
    Matrix,
    /// A string.
    Text,
}

impl ValueType {
    /// The word for it in the API's `resultType` and the AST's JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Vector => "vector",
            Self::Matrix => "matrix",
            Self::Text => "string",
        }
    }

    /// The words for it in messages.
    pub fn described(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Vector => "instant vector",
            Self::Matrix => "range vector",
            Self::Text => "string",
        }
    }
}

/// An expression.
#[derive(Debug, Clone, PartialEq)]
pub enum Expr {
    /// `1.5`
    Number(NumberLiteral),
    /// `"text"`
    Text(StringLiteral),
    /// `up{job="api"} offset 5m`
    Vector(VectorSelector),
    /// `up{job="api"}[5m]`
    Matrix(MatrixSelector),
    /// `up[1h:5m]`
    Subquery(Subquery),
    /// `rate(up[5m])`
    Call(Call),
    /// `sum by (job) (up)`
    Aggregate(Aggregate),
    /// `a + b`
    Binary(Binary),
    /// `-a`
    Unary(Unary),
    /// `(a)`
    Paren(Paren),
    /// What gives the same at each step. The parser never makes it; a plan may.
    StepInvariant(Box<Expr>),
}

impl Expr {
    /// Where it stands.
    pub fn span(&self) -> Span {
        match self {
            Self::Number(e) => e.span,
            Self::Text(e) => e.span,
            Self::Vector(e) => e.span,
            Self::Matrix(e) => e.span,
            Self::Subquery(e) => e.span,
            Self::Call(e) => e.span,
            Self::Aggregate(e) => e.span,
            Self::Binary(e) => e.lhs.span().to(e.rhs.span()),
            Self::Unary(e) => e.span,
            Self::Paren(e) => e.span,
            Self::StepInvariant(e) => e.span(),
        }
    }

    /// What it gives.
    pub fn value_type(&self) -> ValueType {
        match self {
            Self::Number(_) => ValueType::Scalar,
            Self::Text(_) => ValueType::Text,
            Self::Vector(_) | Self::Aggregate(_) => ValueType::Vector,
            Self::Matrix(_) | Self::Subquery(_) => ValueType::Matrix,
            Self::Call(e) => e.function.returns,
            Self::Binary(e) => match (e.lhs.value_type(), e.rhs.value_type()) {
                (ValueType::Scalar, ValueType::Scalar) => ValueType::Scalar,
                _ => ValueType::Vector,
            },
            Self::Unary(e) => e.expr.value_type(),
            Self::Paren(e) => e.expr.value_type(),
            Self::StepInvariant(e) => e.value_type(),
        }
    }

    /// The expressions right below, in the order of evaluation: an aggregation's argument before its parameter.
    pub fn children(&self) -> Vec<&Expr> {
        match self {
            Self::Number(_) | Self::Text(_) | Self::Vector(_) | Self::Matrix(_) => Vec::new(),
            Self::Subquery(e) => vec![&e.expr],
            Self::Call(e) => e.args.iter().collect(),
            Self::Aggregate(e) => [Some(&*e.expr), e.param.as_deref()]
                .into_iter()
                .flatten()
                .collect(),
            Self::Binary(e) => vec![&e.lhs, &e.rhs],
            Self::Unary(e) => vec![&e.expr],
            Self::Paren(e) => vec![&e.expr],
            Self::StepInvariant(e) => vec![e],
        }
    }

    /// As [`Expr::children`], to be changed.
    pub fn children_mut(&mut self) -> Vec<&mut Expr> {
        match self {
            Self::Number(_) | Self::Text(_) | Self::Vector(_) | Self::Matrix(_) => Vec::new(),
            Self::Subquery(e) => vec![&mut e.expr],
            Self::Call(e) => e.args.iter_mut().collect(),
            Self::Aggregate(e) => [Some(&mut *e.expr), e.param.as_deref_mut()]
                .into_iter()
                .flatten()
                .collect(),
            Self::Binary(e) => vec![&mut e.lhs, &mut e.rhs],
            Self::Unary(e) => vec![&mut e.expr],
            Self::Paren(e) => vec![&mut e.expr],
            Self::StepInvariant(e) => vec![e],
        }
    }

    /// Shows `visit` this expression and all below it, parents first. The selector of a matrix selector is no node of its own.
    pub fn walk<'a>(&'a self, visit: &mut impl FnMut(&'a Expr)) {
        visit(self);
        for child in self.children() {
            child.walk(visit);
        }
    }

    /// As [`Expr::walk`], to change them.
    pub fn walk_mut(&mut self, visit: &mut impl FnMut(&mut Expr)) {
        visit(self);
        for child in self.children_mut() {
            child.walk_mut(visit);
        }
    }

    /// All vector selectors, those inside matrix selectors too, from left to right.
    pub fn selectors(&self) -> Vec<&VectorSelector> {
        let mut all = Vec::new();
        self.walk(&mut |e| match e {
            Self::Vector(s) => all.push(s),
            Self::Matrix(m) => all.push(&m.vector),
            _ => {}
        });
        all
    }

    /// The expression without the parentheses and step-invariant wrappers around it.
    pub fn unwrapped(&self) -> &Expr {
        match self {
            Self::Paren(e) => e.expr.unwrapped(),
            Self::StepInvariant(e) => e.unwrapped(),
            other => other,
        }
    }
}

/// A number.
#[derive(Debug, Clone, PartialEq)]
pub struct NumberLiteral {
    /// The number; of a duration, its seconds.
    pub value: f64,
    /// Whether it was written as a duration (`5m`), so that it is printed as one.
    pub duration: bool,
    /// Where.
    pub span: Span,
}

/// A string.
#[derive(Debug, Clone, PartialEq)]
pub struct StringLiteral {
    /// Without quotes and escapes. What is not UTF-8 (`"\xff"`) is replaced here.
    pub value: String,
    /// The bytes, if they are not UTF-8.
    pub bytes: Option<Vec<u8>>,
    /// Where, quotes included.
    pub span: Span,
}

impl StringLiteral {
    /// Of any bytes.
    pub fn new(bytes: Vec<u8>, span: Span) -> Self {
        match String::from_utf8(bytes) {
            Ok(value) => Self {
                value,
                bytes: None,
                span,
            },
            Err(e) => Self {
                value: String::from_utf8_lossy(e.as_bytes()).into_owned(),
                bytes: Some(e.into_bytes()),
                span,
            },
        }
    }

    /// As in a query, with quotes; what is not UTF-8 as `\x..`.
    pub fn quoted(&self) -> String {
        match &self.bytes {
            None => quote(&self.value),
            Some(bytes) => quote_bytes(bytes),
        }
    }
}

/// Selects series, one sample each.
#[derive(Debug, Clone, PartialEq)]
pub struct VectorSelector {
    /// The metric's name; empty if the selector gives none.
    pub name: String,
    /// All must pass. The name, if there is one, is among them as `__name__="…"`, last when it stood before the braces.
    pub matchers: Vec<Matcher>,
    /// How far back in time to look, as written.
    pub offset: Length,
    /// The time to look at, instead of that of the step.
    pub at: Option<AtModifier>,
    /// How a range over it treats its edges.
    pub edges: Edges,
    /// Whether it may select everything, as the second argument of `info` may.
    pub bypass_empty_check: bool,
    /// Where, with its modifiers.
    pub span: Span,
}

/// Selects series, a range of samples each.
#[derive(Debug, Clone, PartialEq)]
pub struct MatrixSelector {
    /// What. Offset and `@` of the whole stand here.
    pub vector: VectorSelector,
    /// How long a range; never zero or negative if known.
    pub range: Length,
    /// Where, with its modifiers.
    pub span: Span,
}

/// An expression evaluated over a range.
#[derive(Debug, Clone, PartialEq)]
pub struct Subquery {
    /// What is evaluated.
    pub expr: Box<Expr>,
    /// How long a range; never zero or negative if known.
    pub range: Length,
    /// The distance of its steps; `None` is the engine's default.
    pub step: Option<Length>,
    /// How far back in time to look, as written.
    pub offset: Length,
    /// The end of the range, instead of the time of the step.
    pub at: Option<AtModifier>,
    /// Where, with its modifiers.
    pub span: Span,
}

/// A length of time in a selector.
#[derive(Debug, Clone, PartialEq)]
pub enum Length {
    /// Known, milliseconds.
    Ms(i64),
    /// To be computed when the step and the range of the query are known.
    Computed(Box<DurationExpr>),
}

impl Length {
    /// No length at all.
    pub const ZERO: Self = Self::Ms(0);

    /// Whether it is known to be zero.
    pub fn is_zero(&self) -> bool {
        *self == Self::ZERO
    }

    /// Milliseconds, if known.
    pub fn ms(&self) -> Option<i64> {
        match self {
            Self::Ms(ms) => Some(*ms),
            Self::Computed(_) => None,
        }
    }
}

impl Default for Length {
    fn default() -> Self {
        Self::ZERO
    }
}

/// A length of time to be computed. Values are seconds.
#[derive(Debug, Clone, PartialEq)]
pub enum DurationExpr {
    /// `5m`, or `300`
    Number(NumberLiteral),
    /// `step()`: the query's step, 0 for an instant query.
    Step(Span),
    /// `range()`: from the query's first step to its last, 0 for an instant query.
    Range(Span),
    /// `-5m`, `+5m`
    Unary {
        /// Sign.
        op: UnaryOp,
        /// Of what.
        expr: Box<DurationExpr>,
        /// Where.
        span: Span,
    },
    /// `5m * 2`: one of `+ - * / % ^`
    Binary {
        /// Operator.
        op: BinaryOp,
        /// Left.
        lhs: Box<DurationExpr>,
        /// Right.
        rhs: Box<DurationExpr>,
    },
    /// `min_of(5m, step())`
    Min {
        /// First.
        lhs: Box<DurationExpr>,
        /// Second.
        rhs: Box<DurationExpr>,
        /// Where.
        span: Span,
    },
    /// `max_of(5m, step())`
    Max {
        /// First.
        lhs: Box<DurationExpr>,
        /// Second.
        rhs: Box<DurationExpr>,
        /// Where.
        span: Span,
    },
    /// `(5m)`
    Paren {
        /// What is inside.
        expr: Box<DurationExpr>,
        /// Where.
        span: Span,
    },
}

impl DurationExpr {
    /// Where it stands.
    pub fn span(&self) -> Span {
        match self {
            Self::Number(n) => n.span,
            Self::Step(span)
            | Self::Range(span)
            | Self::Unary { span, .. }
            | Self::Min { span, .. }
            | Self::Max { span, .. }
            | Self::Paren { span, .. } => *span,
            Self::Binary { lhs, rhs, .. } => lhs.span().to(rhs.span()),
        }
    }
}

/// Where `@` points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtModifier {
    /// A time, milliseconds.
    Time(TimestampMs),
    /// `@ start()`: the query's first step.
    Start,
    /// `@ end()`: the query's last step.
    End,
}

/// How a range treats its edges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Edges {
    /// Samples inside the range only.
    #[default]
    Plain,
    /// `anchored`: the last sample before the range counts as one at its start.
    Anchored,
    /// `smoothed`: values at both edges are interpolated.
    Smoothed,
}

/// A function call.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// Which.
    pub function: &'static Function,
    /// With what; number and types are checked.
    pub args: Vec<Expr>,
    /// Where.
    pub span: Span,
}

/// An aggregation over series.
#[derive(Debug, Clone, PartialEq)]
pub struct Aggregate {
    /// Which.
    pub op: AggregateOp,
    /// Over what: an instant vector.
    pub expr: Box<Expr>,
    /// The parameter: a scalar, for `count_values` a string; there exactly if [`AggregateOp::parameter`] says so.
    pub param: Option<Box<Expr>>,
    /// Labels to group by, or to leave out.
    pub grouping: Vec<String>,
    /// Whether `grouping` is left out rather than kept.
    pub without: bool,
    /// Where.
    pub span: Span,
}

/// Which aggregation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "named as they are written")]
pub enum AggregateOp {
    Avg,
    Bottomk,
    Count,
    CountValues,
    Group,
    Limitk,
    LimitRatio,
    Max,
    Min,
    Quantile,
    Stddev,
    Stdvar,
    Sum,
    Topk,
}

impl AggregateOp {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Avg,
        Self::Bottomk,
        Self::Count,
        Self::CountValues,
        Self::Group,
        Self::Limitk,
        Self::LimitRatio,
        Self::Max,
        Self::Min,
        Self::Quantile,
        Self::Stddev,
        Self::Stdvar,
        Self::Sum,
        Self::Topk,
    ];

    /// As written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Avg => "avg",
            Self::Bottomk => "bottomk",
            Self::Count => "count",
            Self::CountValues => "count_values",
            Self::Group => "group",
            Self::Limitk => "limitk",
            Self::LimitRatio => "limit_ratio",
            Self::Max => "max",
            Self::Min => "min",
            Self::Quantile => "quantile",
            Self::Stddev => "stddev",
            Self::Stdvar => "stdvar",
            Self::Sum => "sum",
            Self::Topk => "topk",
        }
    }

    /// The type of its parameter, if it takes one.
    pub fn parameter(self) -> Option<ValueType> {
        match self {
            Self::Bottomk | Self::Limitk | Self::LimitRatio | Self::Quantile | Self::Topk => {
                Some(ValueType::Scalar)
            }
            Self::CountValues => Some(ValueType::Text),
            _ => None,
        }
    }

    /// Whether it stands behind the option for experimental functions.
    pub fn is_experimental(self) -> bool {
        matches!(self, Self::Limitk | Self::LimitRatio)
    }
}

impl fmt::Display for AggregateOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An operation of two operands.
#[derive(Debug, Clone, PartialEq)]
pub struct Binary {
    /// Which.
    pub op: BinaryOp,
    /// Where the operator stands.
    pub op_span: Span,
    /// Left.
    pub lhs: Box<Expr>,
    /// Right.
    pub rhs: Box<Expr>,
    /// Whether a comparison gives 0 or 1 rather than filtering.
    pub return_bool: bool,
    /// How series find their partners; there exactly if both operands are vectors.
    pub matching: Option<VectorMatching>,
}

/// Which binary operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "see BinaryOp::name")]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    Atan2,
    Equal,
    NotEqual,
    Greater,
    Less,
    GreaterEqual,
    LessEqual,
    And,
    Or,
    Unless,
    /// `</`: what of a histogram is below.
    TrimUpper,
    /// `>/`: what of a histogram is above.
    TrimLower,
}

impl BinaryOp {
    /// As written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
            Self::Div => "/",
            Self::Mod => "%",
            Self::Pow => "^",
            Self::Atan2 => "atan2",
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Greater => ">",
            Self::Less => "<",
            Self::GreaterEqual => ">=",
            Self::LessEqual => "<=",
            Self::And => "and",
            Self::Or => "or",
            Self::Unless => "unless",
            Self::TrimUpper => "</",
            Self::TrimLower => ">/",
        }
    }

    /// `== != > < >= <=`
    pub fn is_comparison(self) -> bool {
        matches!(
            self,
            Self::Equal
                | Self::NotEqual
                | Self::Greater
                | Self::Less
                | Self::GreaterEqual
                | Self::LessEqual
        )
    }

    /// `and or unless`
    pub fn is_set(self) -> bool {
        matches!(self, Self::And | Self::Or | Self::Unless)
    }
}

impl fmt::Display for BinaryOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How the series of two vectors find their partners.
#[derive(Debug, Clone, PartialEq)]
pub struct VectorMatching {
    /// How many may match how many.
    pub card: Cardinality,
    /// Whether exactly `labels` are compared rather than all others.
    pub on: bool,
    /// Labels to compare, or to ignore.
    pub labels: Vec<String>,
    /// Labels that the result takes from the one side (`group_left(…)`).
    pub include: Vec<String>,
    /// The value of a series missing on the left.
    pub fill_left: Option<f64>,
    /// The value of a series missing on the right.
    pub fill_right: Option<f64>,
}

/// How many series may match how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cardinality {
    /// Neither `group_left` nor `group_right`.
    OneToOne,
    /// `group_left`: many on the left.
    ManyToOne,
    /// `group_right`: many on the right.
    OneToMany,
    /// Set operators.
    ManyToMany,
}

impl Cardinality {
    /// The words for it in messages and in the AST's JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::OneToOne => "one-to-one",
            Self::ManyToOne => "many-to-one",
            Self::OneToMany => "one-to-many",
            Self::ManyToMany => "many-to-many",
        }
    }
}

/// A sign before an expression.
#[derive(Debug, Clone, PartialEq)]
pub struct Unary {
    /// Which.
    pub op: UnaryOp,
    /// Before what: a scalar or an instant vector.
    pub expr: Box<Expr>,
    /// Where.
    pub span: Span,
}

/// Which sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UnaryOp {
    /// `+`
    Plus,
    /// `-`
    Minus,
}

impl UnaryOp {
    /// As written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plus => "+",
            Self::Minus => "-",
        }
    }
}

/// An expression in parentheses.
#[derive(Debug, Clone, PartialEq)]
pub struct Paren {
    /// What is inside.
    pub expr: Box<Expr>,
    /// Where, with the parentheses.
    pub span: Span,
}
