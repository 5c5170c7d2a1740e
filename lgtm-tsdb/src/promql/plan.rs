//! From the tree of a query to what is evaluated: times resolved, lengths computed, constants folded, parts that give the same at
//! each step marked.

use std::sync::Arc;

use lgtm_core::exec::with_room;
use lgtm_core::model::{Matcher, TimestampMs};
use lgtm_core::vector::StepGrid;

use super::ast::{
    AggregateOp, AtModifier, BinaryOp, DurationExpr, Edges, Expr, Length, StringLiteral, UnaryOp,
    ValueType, VectorMatching, VectorSelector,
};
use super::number::{is_out_of_range, seconds_to_ms};
use super::query_error::{QueryError, Result};

/// What a selector asks for.
#[derive(Debug, Clone)]
pub(crate) struct Selector {
    pub(crate) matchers: Vec<Matcher>,
    pub(crate) at_ms: Option<TimestampMs>,
    pub(crate) offset_ms: i64,
    pub(crate) edges: Edges,
    /// Whether only count and sum of histograms are looked at.
    pub(crate) totals_only: bool,
}

/// A range of samples: of stored series, or of an expression evaluated at steps of its own.
#[derive(Debug, Clone)]
pub(crate) enum RangeSource {
    Selector(Selector),
    Subquery(Subquery),
}

/// An expression evaluated at steps of its own, which are multiples of `step_ms`.
#[derive(Debug, Clone)]
pub(crate) struct Subquery {
    pub(crate) inner: Arc<Node>,
    pub(crate) step_ms: i64,
    pub(crate) at_ms: Option<TimestampMs>,
    pub(crate) offset_ms: i64,
}

/// A part of a plan.
#[derive(Debug)]
pub(crate) struct Node {
    /// Its first byte in the query.
    pub(crate) pos: usize,
    pub(crate) kind: Kind,
}

/// What a part of a plan does.
#[derive(Debug)]
pub(crate) enum Kind {
    Number(f64),
    Text(StringLiteral),
    Vector(Selector),
    Matrix {
        source: RangeSource,
        range_ms: i64,
    },
    Call {
        name: &'static str,
        args: Vec<Arc<Node>>,
        returns: ValueType,
    },
    Aggregate(Aggregation),
    Binary(Operation),
    Negate(Arc<Node>),
    /// Nothing but another place in the text.
    Paren(Arc<Node>),
    /// Gives the same at each step: is evaluated at one and repeated.
    Constant(Arc<Node>),
}

/// An aggregation.
#[derive(Debug)]
pub(crate) struct Aggregation {
    pub(crate) op: AggregateOp,
    pub(crate) expr: Arc<Node>,
    pub(crate) param: Option<Arc<Node>>,
    pub(crate) names: Vec<String>,
    pub(crate) without: bool,
}

/// A binary operation.
#[derive(Debug)]
pub(crate) struct Operation {
    pub(crate) op: BinaryOp,
    pub(crate) lhs: Arc<Node>,
    pub(crate) rhs: Arc<Node>,
    pub(crate) return_bool: bool,
    pub(crate) matching: Option<VectorMatching>,
}

impl Node {
    /// What it gives.
    pub(crate) fn value_type(&self) -> ValueType {
        match &self.kind {
            Kind::Number(_) => ValueType::Scalar,
            Kind::Text(_) => ValueType::Text,
            Kind::Vector(_) | Kind::Aggregate(_) => ValueType::Vector,
            Kind::Matrix { .. } => ValueType::Matrix,
            Kind::Call { returns, .. } => *returns,
            Kind::Binary(o) => match (o.lhs.value_type(), o.rhs.value_type()) {
                (ValueType::Scalar, ValueType::Scalar) => ValueType::Scalar,
                _ => ValueType::Vector,
            },
            Kind::Negate(e) | Kind::Paren(e) | Kind::Constant(e) => e.value_type(),
        }
    }

    /// Rows of one value per step that evaluating it may hold beside what is counted where it is made: its scalars, and the row
    /// that is being computed. At most one per node on the same steps.
    pub(crate) fn rows(&self) -> u64 {
        let below = match &self.kind {
            Kind::Call { args, .. } => args.iter().map(|a| a.rows()).sum(),
            Kind::Aggregate(a) => a.expr.rows() + a.param.as_ref().map_or(0, |p| p.rows()),
            Kind::Binary(o) => o.lhs.rows() + o.rhs.rows(),
            Kind::Negate(e) | Kind::Paren(e) => return e.rows(),
            // These have steps of their own.
            Kind::Matrix { .. } | Kind::Constant(_) => 0,
            Kind::Number(_) | Kind::Text(_) | Kind::Vector(_) => 0,
        };
        1 + below
    }

    /// The node without parentheses and marks around it.
    pub(crate) fn unwrapped(&self) -> &Self {
        match &self.kind {
            Kind::Paren(e) | Kind::Constant(e) => e.unwrapped(),
            _ => self,
        }
    }

    /// Its text, if it is one.
    pub(crate) fn text(&self) -> &str {
        match &self.unwrapped().kind {
            Kind::Text(text) => &text.value,
            _ => "",
        }
    }

    /// Its text as the name of a label; as an error, the text in quotes, when it cannot be one.
    pub(crate) fn label_name(&self) -> Result<&str, String> {
        match &self.unwrapped().kind {
            Kind::Text(t) if t.bytes.is_some() || t.value.is_empty() => Err(t.quoted()),
            Kind::Text(t) => Ok(&t.value),
            _ => Ok(""),
        }
    }
}

/// Functions whose result depends on the step even when their arguments do not.
const STEP_DEPENDENT: [&str; 15] = [
    "day_of_month",
    "day_of_week",
    "day_of_year",
    "days_in_month",
    "end",
    "hour",
    "minute",
    "month",
    "predict_linear",
    "range",
    "start",
    "step",
    "time",
    "timestamp",
    "year",
];

/// Makes plans of queries over one grid.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Planner {
    /// Whether only count and sum of the histograms below are looked at.
    pub(crate) totals_only: bool,
    /// The steps of the query.
    pub(crate) grid: StepGrid,
    /// Distance of the steps of subqueries that give none.
    pub(crate) default_step_ms: i64,
}

/// A node, and whether it gives the same at each step.
type Planned = (Node, bool);

impl Planner {
    /// The plan of a whole query.
    ///
    /// # Errors
    /// `Invalid` when a length of time comes out wrong.
    pub(crate) fn plan(&self, expr: &Expr) -> Result<Arc<Node>> {
        Ok(marked(self.node(expr)?))
    }

    fn node(&self, expr: &Expr) -> Result<Planned> {
        // A query of the greatest depth must not take more stack than there is.
        with_room(|| self.node_here(expr))
    }

    fn node_here(&self, expr: &Expr) -> Result<Planned> {
        let pos = expr.span().start;
        let (kind, constant) = match expr {
            Expr::Number(n) => (Kind::Number(n.value), true),
            Expr::Text(t) => (Kind::Text(t.clone()), true),
            Expr::Vector(s) => {
                let s = self.selector(s)?;
                let constant = s.at_ms.is_some();
                (Kind::Vector(s), constant)
            }
            Expr::Matrix(m) => {
                let s = self.selector(&m.vector)?;
                let constant = s.at_ms.is_some();
                let kind = Kind::Matrix {
                    source: RangeSource::Selector(s),
                    range_ms: self.range(&m.range)?,
                };
                (kind, constant)
            }
            Expr::Subquery(s) => {
                let source = Subquery {
                    // What is constant inside is evaluated once, whether or not the subquery itself is.
                    inner: marked(self.within(false).node(&s.expr)?),
                    step_ms: s
                        .step
                        .as_ref()
                        .map_or(Ok(self.default_step_ms), |l| self.range(l))?,
                    at_ms: self.at(s.at),
                    offset_ms: self.length(&s.offset)?,
                };
                let constant = source.at_ms.is_some();
                let kind = Kind::Matrix {
                    source: RangeSource::Subquery(source),
                    range_ms: self.range(&s.range)?,
                };
                (kind, constant)
            }
            Expr::Call(c) => return self.call(c),
            Expr::Aggregate(a) => {
                let (expr, same) = self.node(&a.expr)?;
                let param = a.param.as_ref().map(|p| self.node(p)).transpose()?;
                let same = same && param.as_ref().is_none_or(|p| p.1);
                let kind = Kind::Aggregate(Aggregation {
                    op: a.op,
                    expr: Arc::new(expr),
                    param: param.map(|p| Arc::new(p.0)),
                    names: a.grouping.clone(),
                    without: a.without,
                });
                (kind, same)
            }
            Expr::Binary(b) => {
                let inside = self.within(false);
                let (lhs, rhs) = (inside.node(&b.lhs)?, inside.node(&b.rhs)?);
                let both = lhs.1 && rhs.1;
                let [lhs, rhs] = [lhs, rhs].map(|p| if both { Arc::new(p.0) } else { marked(p) });
                let kind = Kind::Binary(Operation {
                    op: b.op,
                    lhs,
                    rhs,
                    return_bool: b.return_bool,
                    matching: b.matching.clone(),
                });
                (kind, both)
            }
            Expr::Unary(u) => {
                let (expr, same) = self.node(&u.expr)?;
                let kind = match u.op {
                    UnaryOp::Plus => Kind::Paren(Arc::new(expr)),
                    UnaryOp::Minus => Kind::Negate(Arc::new(expr)),
                };
                (kind, same)
            }
            Expr::Paren(p) => {
                let (expr, same) = self.node(&p.expr)?;
                (Kind::Paren(Arc::new(expr)), same)
            }
            Expr::StepInvariant(e) => return self.node(e),
        };
        Ok((Node { pos, kind }, constant))
    }

    fn within(&self, totals_only: bool) -> Self {
        Self {
            totals_only,
            ..*self
        }
    }

    fn call(&self, c: &super::ast::Call) -> Result<Planned> {
        let (pos, name) = (c.span.start, c.function.name);
        let seconds = |ms: i64| ms as f64 / 1000.0;
        let folded = match name {
            "start" => Some(seconds(self.grid.start_ms().get())),
            "end" => Some(seconds(self.grid.end_ms().get())),
            "step" => Some(seconds(self.grid.step_ms())),
            "range" => Some(seconds(self.grid.end_ms().since(self.grid.start_ms()))),
            _ => None,
        };
        if let Some(value) = folded {
            let kind = Kind::Number(value);
            return Ok((Node { pos, kind }, true));
        }
        for arg in &c.args {
            check_edges(name, arg)?;
        }
        let inside = match name {
            "histogram_count" | "histogram_sum" | "histogram_avg" => self.within(true),
            "histogram_quantile"
            | "histogram_quantiles"
            | "histogram_fraction"
            | "histogram_stddev"
            | "histogram_stdvar" => self.within(false),
            _ => *self,
        };
        let args: Vec<Planned> = c
            .args
            .iter()
            .map(|a| inside.node(a))
            .collect::<Result<_>>()?;
        let same = !STEP_DEPENDENT.contains(&name) && args.iter().all(|a| a.1);
        let args = args
            .into_iter()
            .map(|a| if same { Arc::new(a.0) } else { marked(a) })
            .collect();
        let kind = Kind::Call {
            name,
            args,
            returns: c.function.returns,
        };
        Ok((Node { pos, kind }, same))
    }

    fn selector(&self, s: &VectorSelector) -> Result<Selector> {
        Ok(Selector {
            matchers: s.matchers.clone(),
            at_ms: self.at(s.at),
            offset_ms: self.length(&s.offset)?,
            edges: s.edges,
            totals_only: self.totals_only,
        })
    }

    fn at(&self, at: Option<AtModifier>) -> Option<TimestampMs> {
        at.map(|at| match at {
            AtModifier::Time(t_ms) => t_ms,
            AtModifier::Start => self.grid.start_ms(),
            AtModifier::End => self.grid.end_ms(),
        })
    }

    /// A length that must be more than 0.
    fn range(&self, length: &Length) -> Result<i64> {
        let ms = self.length(length)?;
        if ms <= 0 {
            return Err(QueryError::Invalid(
                "duration must be greater than 0".into(),
            ));
        }
        Ok(ms)
    }

    fn length(&self, length: &Length) -> Result<i64> {
        let expr = match length {
            Length::Ms(ms) => return Ok(*ms),
            Length::Computed(expr) => expr,
        };
        let seconds = self.seconds(expr)?;
        if is_out_of_range(seconds) {
            return Err(QueryError::Invalid("duration is out of range".into()));
        }
        Ok(seconds_to_ms(seconds))
    }

    fn seconds(&self, expr: &DurationExpr) -> Result<f64> {
        let ms = |ms: i64| ms as f64 / 1000.0;
        Ok(match expr {
            DurationExpr::Number(n) => n.value,
            DurationExpr::Step(_) => ms(self.grid.step_ms()),
            DurationExpr::Range(_) => ms(self.grid.end_ms().since(self.grid.start_ms())),
            DurationExpr::Unary { op, expr, .. } => match op {
                UnaryOp::Plus => self.seconds(expr)?,
                UnaryOp::Minus => -self.seconds(expr)?,
            },
            DurationExpr::Paren { expr, .. } => self.seconds(expr)?,
            DurationExpr::Min { lhs, rhs, .. } => self.seconds(lhs)?.min(self.seconds(rhs)?),
            DurationExpr::Max { lhs, rhs, .. } => self.seconds(lhs)?.max(self.seconds(rhs)?),
            DurationExpr::Binary { op, lhs, rhs } => {
                let (l, r) = (self.seconds(lhs)?, self.seconds(rhs)?);
                let of_zero = |what: &str| QueryError::Invalid(format!("{what} by zero"));
                match op {
                    BinaryOp::Add => l + r,
                    BinaryOp::Sub => l - r,
                    BinaryOp::Mul => l * r,
                    BinaryOp::Div if r == 0.0 => return Err(of_zero("division")),
                    BinaryOp::Div => l / r,
                    BinaryOp::Mod if r == 0.0 => return Err(of_zero("modulo")),
                    BinaryOp::Mod => l % r,
                    BinaryOp::Pow => l.powf(r),
                    op => {
                        return Err(QueryError::Invalid(format!(
                            "unexpected duration expression operator {:?}",
                            op.name()
                        )));
                    }
                }
            }
        })
    }
}

/// Functions that know what to do with samples around a range.
const ANCHORED: [&str; 5] = ["changes", "delta", "increase", "rate", "resets"];
const SMOOTHED: [&str; 3] = ["delta", "increase", "rate"];

fn check_edges(function: &str, arg: &Expr) -> Result<()> {
    let Expr::Matrix(m) = arg.unwrapped() else {
        return Ok(());
    };
    let (word, known) = match m.vector.edges {
        Edges::Plain => return Ok(()),
        Edges::Anchored => ("anchored", ANCHORED.as_slice()),
        Edges::Smoothed => ("smoothed", SMOOTHED.as_slice()),
    };
    if known.contains(&function) {
        Ok(())
    } else {
        Err(QueryError::Execution(format!(
            "{word} modifier can only be used with: {} - not with {function}",
            known.join(", ")
        )))
    }
}

/// A node as an argument: marked if it gives the same at each step, and is worth it.
fn marked((node, constant): Planned) -> Arc<Node> {
    let pos = node.pos;
    let literal = matches!(
        node.unwrapped().kind,
        Kind::Number(_) | Kind::Text(_) | Kind::Matrix { .. }
    );
    let node = Arc::new(node);
    if constant && !literal {
        Arc::new(Node {
            pos,
            kind: Kind::Constant(node),
        })
    } else {
        node
    }
}
