//! A tree written as a query again, in one canonical way: what it parses to is the same tree.

use std::fmt::{self, Display, Formatter};

use lgtm_core::go::{push_plain_float, quote};

use super::ast::{
    BinaryExpr, Conversion, Expr, FieldPath, GroupingClause, LabelFilter, LabelFormat, LabelPick,
    LineOperand, LogExpr, MatchSide, MetricExpr, RangeAggregation, Stage, Unwrap,
    VectorAggregation,
};
use super::units::{format_duration, format_go_duration, format_range};

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Log(log) => log.fmt(f),
            Self::Metric(metric) => metric.fmt(f),
        }
    }
}

impl Display for LogExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Selector(self).fmt(f)?;
        self.stages.iter().try_for_each(|s| write!(f, " {s}"))
    }
}

/// What stands in braces.
pub(super) struct Selector<'a>(pub(super) &'a LogExpr);

impl Display for Selector<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (n, m) in self.0.matchers.iter().enumerate() {
            if n > 0 {
                f.write_str(", ")?;
            }
            write_matcher(f, m)?;
        }
        f.write_str("}")
    }
}

fn write_matcher(f: &mut Formatter<'_>, m: &lgtm_core::model::Matcher) -> fmt::Result {
    use lgtm_core::model::MatchOp;
    let op = match m.op() {
        MatchOp::Equal => "=",
        MatchOp::NotEqual => "!=",
        MatchOp::Regex => "=~",
        MatchOp::NotRegex => "!~",
    };
    write!(f, "{}{op}{}", m.name(), quote(m.value()))
}

fn write_list<T>(
    f: &mut Formatter<'_>,
    items: &[T],
    mut write: impl FnMut(&mut Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    for (n, item) in items.iter().enumerate() {
        if n > 0 {
            f.write_str(",")?;
        }
        write(f, item)?;
    }
    Ok(())
}

impl Display for Stage {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let fields = |f: &mut Formatter<'_>, fields: &[FieldPath]| {
            if !fields.is_empty() {
                f.write_str(" ")?;
            }
            write_list(f, fields, |f, p| {
                write!(f, "{}={}", p.label, quote(&p.path))
            })
        };
        match self {
            Self::LineFilter(filter) => {
                write!(f, "{} ", filter.op.as_str())?;
                for (n, operand) in filter.operands.iter().enumerate() {
                    if n > 0 {
                        f.write_str(" or ")?;
                    }
                    match operand {
                        LineOperand::Text(text) => f.write_str(&quote(text))?,
                        LineOperand::Ip(range) => write!(f, "ip({})", quote(range))?,
                    }
                }
                Ok(())
            }
            Self::Json(paths) => {
                f.write_str("| json")?;
                fields(f, paths)
            }
            Self::Logfmt(stage) => {
                f.write_str("| logfmt")?;
                if stage.strict {
                    f.write_str(" --strict")?;
                }
                if stage.keep_empty {
                    f.write_str(" --keep-empty")?;
                }
                fields(f, &stage.fields)
            }
            Self::Pattern(text) => write!(f, "| pattern {}", quote(text)),
            Self::Regexp(text) => write!(f, "| regexp {}", quote(text)),
            Self::Unpack => f.write_str("| unpack"),
            Self::LabelFilter(filter) => write!(f, "| {filter}"),
            Self::LineFormat(text) => write!(f, "| line_format {}", quote(text)),
            Self::LabelFormat(formats) => {
                f.write_str("| label_format ")?;
                write_list(f, formats, |f, format| match format {
                    LabelFormat::Rename { to, from } => write!(f, "{to}={from}"),
                    LabelFormat::Template { to, template } => write!(f, "{to}={}", quote(template)),
                })
            }
            Self::Decolorize => f.write_str("| decolorize"),
            Self::Drop(picks) | Self::Keep(picks) => {
                let word = if matches!(self, Self::Drop(_)) {
                    "drop"
                } else {
                    "keep"
                };
                write!(f, "| {word} ")?;
                write_list(f, picks, |f, pick| match pick {
                    LabelPick::Name(name) => f.write_str(name),
                    LabelPick::Matching(m) => write_matcher(f, m),
                })
            }
        }
    }
}

impl Display for LabelFilter {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(m) => write_matcher(f, m),
            Self::Number { name, op, value } => {
                write!(f, "{name}{}{}", op.as_str(), number(*value))
            }
            Self::Duration { name, op, ns } => {
                write!(f, "{name}{}{}", op.as_str(), format_duration(*ns))
            }
            Self::Bytes { name, op, bytes } => write!(f, "{name}{}{bytes}B", op.as_str()),
            Self::Ip {
                name,
                is_negated,
                range,
            } => {
                let op = if *is_negated { "!=" } else { "=" };
                write!(f, "{name}{op}ip({})", quote(range))
            }
            Self::And(a, b) => write!(f, "( {a} , {b} )"),
            Self::Or(a, b) => write!(f, "( {a} or {b} )"),
        }
    }
}

/// A number so that the lexer reads the same one.
pub(super) fn number(value: f64) -> String {
    let mut out = String::new();
    push_plain_float(&mut out, value);
    out
}

impl Display for MetricExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(value) => f.write_str(&number(*value)),
            Self::Vector(value) => write!(f, "vector({})", number(*value)),
            Self::Range(range) => range.fmt(f),
            Self::Aggregation(aggregation) => aggregation.fmt(f),
            Self::Binary(binary) => binary.fmt(f),
            Self::LabelReplace(l) => {
                let a = &l.arguments;
                write!(f, "label_replace({}", l.expr)?;
                for text in [&a.to, &a.replacement, &a.from, &a.regex] {
                    write!(f, ",{}", quote(text))?;
                }
                f.write_str(")")
            }
            Self::Leg(leg) => match leg.join.as_str() {
                "" => write!(f, "<leg {}>", leg.number),
                join => write!(f, "<leg {}: {join}>", leg.number),
            },
        }
    }
}

impl Display for GroupingClause {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(if self.without { " without (" } else { " by (" })?;
        write_list(f, &self.names, |f, name| f.write_str(name))?;
        f.write_str(")")
    }
}

impl Display for Unwrap {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.conversion {
            Conversion::Number => write!(f, "| unwrap {}", self.label)?,
            conversion => write!(f, "| unwrap {}({})", conversion.as_str(), self.label)?,
        }
        self.filters.iter().try_for_each(|p| write!(f, " | {p}"))
    }
}

impl Display for RangeAggregation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}(", self.op.as_str())?;
        if let Some(param) = self.param {
            write!(f, "{},", number(param))?;
        }
        self.log.fmt(f)?;
        if let Some(unwrap) = &self.unwrap {
            write!(f, " {unwrap}")?;
        }
        write!(f, "{})", RangeTail(self))?;
        self.grouping.iter().try_for_each(|g| g.fmt(f))
    }
}

/// The range in brackets, and the offset.
pub(super) struct RangeTail<'a>(pub(super) &'a RangeAggregation);

impl Display for RangeTail<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "[{}]", format_range(self.0.range_ns))?;
        if self.0.offset_ns != 0 {
            write!(f, " offset {}", format_go_duration(self.0.offset_ns))?;
        }
        Ok(())
    }
}

impl Display for VectorAggregation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.op.as_str())?;
        self.grouping.iter().try_for_each(|g| g.fmt(f))?;
        f.write_str("(")?;
        if self.op.takes_count() {
            write!(f, "{},", self.count)?;
        }
        write!(f, "{})", self.expr)
    }
}

impl Display for BinaryExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "({} {} {})", self.left, BinarySign(self), self.right)
    }
}

/// What stands between the sides.
pub(super) struct BinarySign<'a>(pub(super) &'a BinaryExpr);

impl Display for BinarySign<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.op.as_str())?;
        if self.0.returns_bool {
            f.write_str(" bool")?;
        }
        if let Some(m) = &self.0.matching {
            f.write_str(if m.on { " on (" } else { " ignoring (" })?;
            write_list(f, &m.labels, |f, name| f.write_str(name))?;
            f.write_str(")")?;
            let word = match m.group {
                MatchSide::OneToOne => "",
                MatchSide::Left => " group_left (",
                MatchSide::Right => " group_right (",
            };
            if !word.is_empty() {
                f.write_str(word)?;
                write_list(f, &m.include, |f, name| f.write_str(name))?;
                f.write_str(")")?;
            }
        }
        Ok(())
    }
}
