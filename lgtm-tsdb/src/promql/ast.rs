//! Expressions.

use lgtm_core::model::Matcher;

/// An expression.
#[derive(Debug, Clone, PartialEq)]
pub enum Expr {
    /// `1.5`
    Number(f64),
    /// `"text"`
    Text(String),
    /// `up{job="api"} offset 5m`
    Vector(Selector),
    /// `up{job="api"}[5m]`
    Matrix(Selector, i64),
}

/// What selects series.
#[derive(Debug, Clone, PartialEq)]
pub struct Selector {
    /// All must pass; the metric name is one of them.
    pub matchers: Vec<Matcher>,
    /// How far back in time to look, milliseconds.
    pub offset_ms: i64,
}
