//! Label filters, compiled.

use lgtm_core::model::{MatchOp, Matcher};

use super::ip::IpRange;
use super::labels::{ERROR, ERROR_DETAILS, EntryLabels, StreamLabels};
use crate::logql::ast::{CompareOp, LabelFilter};
use crate::logql::units::{parse_bytes, parse_float, parse_go_duration};

/// Set where a label's text is not what a filter compares.
const LABEL_FILTER_ERR: &str = "LabelFilterErr";

/// A label filter that can be asked.
#[derive(Debug, Clone)]
pub(crate) enum Condition {
    Text(Matcher),
    Number(String, CompareOp, f64),
    Duration(String, CompareOp, i64),
    Bytes(String, CompareOp, u64),
    Ip(String, bool, IpRange),
    And(Box<Condition>, Box<Condition>),
    Or(Box<Condition>, Box<Condition>),
}

impl Condition {
    /// # Errors
    /// For an address that is none.
    pub(crate) fn new(filter: &LabelFilter) -> Result<Self, String> {
        Ok(match filter {
            LabelFilter::Text(m) => Self::Text(m.clone()),
            LabelFilter::Number { name, op, value } => Self::Number(name.clone(), *op, *value),
            LabelFilter::Duration { name, op, ns } => Self::Duration(name.clone(), *op, *ns),
            LabelFilter::Bytes { name, op, bytes } => Self::Bytes(name.clone(), *op, *bytes),
            LabelFilter::Ip {
                name,
                is_negated,
                range,
            } => Self::Ip(name.clone(), *is_negated, IpRange::parse(range)?),
            LabelFilter::And(a, b) => Self::And(Box::new(Self::new(a)?), Box::new(Self::new(b)?)),
            LabelFilter::Or(a, b) => Self::Or(Box::new(Self::new(a)?), Box::new(Self::new(b)?)),
        })
    }

    /// The one label that it looks at; of `and` and `or` none.
    pub(crate) fn label(&self) -> Option<&str> {
        match self {
            Self::Text(m) => Some(m.name()),
            Self::Number(name, ..)
            | Self::Duration(name, ..)
            | Self::Bytes(name, ..)
            | Self::Ip(name, ..) => Some(name),
            Self::And(..) | Self::Or(..) => None,
        }
    }

    /// All labels that it looks at.
    pub(crate) fn labels(&self, out: &mut Vec<String>) {
        match self {
            Self::And(a, b) | Self::Or(a, b) => {
                a.labels(out);
                b.labels(out);
            }
            one => out.extend(one.label().map(str::to_owned)),
        }
    }

    /// Conditions that all must hold for this one to hold, as far as they are plain.
    pub(crate) fn conjuncts(&self) -> Vec<&Self> {
        match self {
            Self::And(a, b) => {
                let mut all = a.conjuncts();
                all.extend(b.conjuncts());
                all
            }
            Self::Or(..) => Vec::new(),
            one => vec![one],
        }
    }

    /// A text that the value of its label has exactly, if it holds.
    pub(crate) fn exact_value(&self) -> Option<(&str, &str)> {
        match self {
            Self::Text(m) if m.op() == MatchOp::Equal && !m.value().is_empty() => {
                Some((m.name(), m.value()))
            }
            _ => None,
        }
    }

    /// Whether an entry passes; sets an error where a label does not convert.
    pub(crate) fn holds(&self, stream: &StreamLabels, labels: &mut EntryLabels) -> bool {
        let fault = match self {
            Self::And(a, b) => {
                // Both are asked, for their errors.
                let left = a.holds(stream, labels);
                let right = b.holds(stream, labels);
                return left && right;
            }
            Self::Or(a, b) => return a.holds(stream, labels) || b.holds(stream, labels),
            Self::Text(m) => {
                return m.matches(labels.get(stream, m.name()).unwrap_or(""));
            }
            Self::Ip(name, ..) => {
                if labels.has_error() {
                    return true;
                }
                match plain_value(stream, labels, name) {
                    None => return false,
                    Some(value) => match self.test(value) {
                        Ok(holds) => return holds,
                        Err(e) => e,
                    },
                }
            }
            Self::Number(name, ..) | Self::Duration(name, ..) | Self::Bytes(name, ..) => {
                match plain_value(stream, labels, name) {
                    None => return false,
                    Some(value) => match self.test(value) {
                        Ok(holds) => return holds,
                        Err(e) => e,
                    },
                }
            }
        };
        if !labels.has_error() {
            labels.set_error(LABEL_FILTER_ERR, fault);
        }
        true
    }

    /// Whether it holds for a value of its label.
    ///
    /// # Errors
    /// When the value is not what it compares.
    fn test(&self, value: &str) -> Result<bool, String> {
        Ok(match self {
            Self::Text(m) => m.matches(value),
            Self::Number(_, op, wanted) => op.holds(&parse_float(value)?, wanted),
            Self::Duration(_, op, wanted) => op.holds(&parse_go_duration(value)?, wanted),
            Self::Bytes(_, op, wanted) => op.holds(&parse_bytes(value)?, wanted),
            Self::Ip(_, is_negated, range) => range.has_text(value) != *is_negated,
            Self::And(..) | Self::Or(..) => true,
        })
    }

    /// Whether a value that was just found refuses the entry. Addresses are not looked at once there is an error.
    pub(crate) fn refuses(&self, value: &str, has_error: bool) -> bool {
        let is_asked = !(has_error && matches!(self, Self::Ip(..)));
        is_asked && matches!(self.test(value), Ok(false))
    }
}

/// The value of a label for filters that compare: errors are no labels to them.
fn plain_value<'s>(
    stream: &'s StreamLabels,
    labels: &'s EntryLabels,
    name: &str,
) -> Option<&'s str> {
    match name {
        ERROR | ERROR_DETAILS => None,
        name => labels.get(stream, name),
    }
}
