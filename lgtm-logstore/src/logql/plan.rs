//! From the tree to what is done: pipelines compiled, labels that are needed known, windows placed.

use lgtm_core::model::{Labels, MatchOp, Matcher};

use super::ast::{
    Conversion, GroupingClause, LogExpr, RangeAggregation, RangeOp, Unwrap, VectorAggregation,
    VectorOp,
};
use super::error::ParseError;
use super::pipeline::{Condition, ERROR, Pipeline, PipelineUse, compile};

/// A log query, ready to run.
#[derive(Debug)]
pub(crate) struct LogPlan {
    pub(crate) matchers: Vec<Matcher>,
    /// Wrong arguments of stages only matter once there is a stream.
    pub(crate) pipeline: Result<Pipeline, ParseError>,
}

impl LogPlan {
    pub(crate) fn new(log: &LogExpr, max_template_bytes: usize) -> Self {
        let usage = PipelineUse {
            labels: None,
            reads_lines: true,
            max_template_bytes,
        };
        Self {
            matchers: log.matchers.clone(),
            pipeline: compile(&log.stages, &usage),
        }
    }
}

/// By which labels samples belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SampleGrouping {
    /// All labels.
    All,
    /// None: everything is one.
    None,
    By(Vec<String>),
    Without(Vec<String>),
}

impl SampleGrouping {
    fn of(clause: Option<&GroupingClause>) -> Self {
        match clause {
            None => Self::All,
            Some(g) if g.without => Self::Without(sorted(&g.names)),
            Some(g) if g.names.is_empty() => Self::None,
            Some(g) => Self::By(sorted(&g.names)),
        }
    }

    /// Whether errors are a label like others, since they were asked for.
    pub(crate) fn keeps_errors(&self) -> bool {
        matches!(self, Self::By(names) if names.iter().any(|n| n == ERROR))
    }
}

fn sorted(names: &[String]) -> Vec<String> {
    let mut names = names.to_vec();
    names.sort_unstable();
    names.dedup();
    names
}

/// What becomes the value of an entry.
#[derive(Debug)]
pub(crate) enum SampleValue {
    One,
    LineBytes,
    Label {
        name: String,
        conversion: Conversion,
        /// Filters behind the conversion.
        filters: Vec<Condition>,
    },
}

/// A range aggregation, ready to run.
#[derive(Debug)]
pub(crate) struct RangePlan {
    pub(crate) op: RangeOp,
    pub(crate) quantile: f64,
    pub(crate) matchers: Vec<Matcher>,
    pub(crate) pipeline: Result<Pipeline, ParseError>,
    pub(crate) value: SampleValue,
    pub(crate) grouping: SampleGrouping,
    pub(crate) range_ns: i64,
    pub(crate) offset_ns: i64,
    /// For `absent_over_time`: the labels of what is missing.
    pub(crate) absent_labels: Labels,
}

impl RangePlan {
    /// `outer` is the aggregation right around it: a sum of counts and sums is made by its own groups at once.
    pub(crate) fn new(
        range: &RangeAggregation,
        outer: Option<&VectorAggregation>,
        max_template_bytes: usize,
    ) -> Self {
        let grouping = match (range.op, &range.grouping, outer) {
            (RangeOp::AbsentOverTime, ..) => SampleGrouping::None,
            (op, None, Some(outer)) if outer.op == VectorOp::Sum && is_additive(op) => {
                let none = GroupingClause {
                    without: false,
                    names: Vec::new(),
                };
                SampleGrouping::of(Some(outer.grouping.as_ref().unwrap_or(&none)))
            }
            (_, clause, _) => SampleGrouping::of(clause.as_ref()),
        };
        let mut pipeline_fault = None;
        let value = match &range.unwrap {
            None if range.op.counts_bytes() => SampleValue::LineBytes,
            None => SampleValue::One,
            Some(unwrap) => SampleValue::Label {
                name: unwrap.label.clone(),
                conversion: unwrap.conversion,
                filters: conditions(unwrap, &mut pipeline_fault),
            },
        };
        let usage = PipelineUse {
            labels: needed(&grouping, range.unwrap.as_ref()),
            reads_lines: range.op.counts_bytes(),
            max_template_bytes,
        };
        let pipeline = match pipeline_fault {
            Some(fault) => Err(fault),
            None => compile(&range.log.stages, &usage),
        };
        Self {
            op: range.op,
            quantile: range.param.unwrap_or(0.0),
            absent_labels: absent_labels(&range.log.matchers),
            matchers: range.log.matchers.clone(),
            pipeline,
            value,
            grouping,
            range_ns: range.range_ns,
            offset_ns: range.offset_ns,
        }
    }
}

/// Whether sums over its groups are its value for the sums of the groups.
fn is_additive(op: RangeOp) -> bool {
    matches!(
        op,
        RangeOp::CountOverTime
            | RangeOp::Rate
            | RangeOp::BytesOverTime
            | RangeOp::BytesRate
            | RangeOp::SumOverTime
    )
}

fn conditions(unwrap: &Unwrap, fault: &mut Option<ParseError>) -> Vec<Condition> {
    let mut out = Vec::new();
    for filter in &unwrap.filters {
        match Condition::new(filter) {
            Ok(condition) => out.push(condition),
            Err(e) => *fault = Some(ParseError::new(format!("stage '| {filter}' : {e}"))),
        }
    }
    out
}

/// Labels that are needed behind the pipeline; `None`: all.
fn needed(grouping: &SampleGrouping, unwrap: Option<&Unwrap>) -> Option<Vec<String>> {
    let mut names = match grouping {
        SampleGrouping::All | SampleGrouping::Without(_) => return None,
        SampleGrouping::None => Vec::new(),
        SampleGrouping::By(names) => names.clone(),
    };
    if let Some(unwrap) = unwrap {
        names.push(unwrap.label.clone());
        for filter in &unwrap.filters {
            if let Ok(condition) = Condition::new(filter) {
                condition.labels(&mut names);
            }
        }
    }
    Some(names)
}

/// The labels that the selector fixes: names that stand in one `=` and nowhere else.
fn absent_labels(matchers: &[Matcher]) -> Labels {
    let once = |m: &&Matcher| matchers.iter().filter(|o| o.name() == m.name()).count() == 1;
    let fixed = matchers
        .iter()
        .filter(|m| m.op() == MatchOp::Equal)
        .filter(once);
    Labels::from_pairs(fixed.map(|m| (m.name(), m.value()))).unwrap_or_default()
}
