//! Expressions whose value is numbers.

use lgtm_core::re2::{Anchoring, Dot, Re2Groups};

use super::super::arithmetic;
use super::super::ast::{
    BinaryExpr, BinaryOp, Conversion, Expr, GroupingClause, LabelReplace, LabelReplaceArguments,
    LogExpr, MatchSide, MetricExpr, RangeAggregation, RangeOp, Unwrap, VectorAggregation,
    VectorMatching, VectorOp,
};
use super::super::error::ParseError;
use super::super::lexer::Token;
use super::{Parser, Result};

/// The entries that a range aggregation works on, as far as they were read.
#[derive(Default)]
struct LogRange {
    log: Option<LogExpr>,
    unwrap: Option<Unwrap>,
    /// Length and offset.
    range: Option<(i64, i64)>,
}

impl Parser<'_> {
    pub(super) fn metric(&mut self) -> Result<MetricExpr> {
        match self.peek() {
            Token::Number(_) => self.number().map(MetricExpr::Literal),
            Token::Sign(sign @ ("+" | "-")) => {
                let negative = *sign == "-";
                self.at += 1;
                let value = self.number()?;
                Ok(MetricExpr::Literal(if negative { -value } else { value }))
            }
            Token::Word(word) => {
                let word = word.clone();
                if let Some(op) = RangeOp::ALL.into_iter().find(|op| op.as_str() == word) {
                    return self.range_aggregation(op);
                }
                if let Some(op) = VectorOp::ALL.into_iter().find(|op| op.as_str() == word) {
                    return self.vector_aggregation(op);
                }
                match word.as_str() {
                    "vector" => {
                        self.at += 1;
                        self.expect_sign("(")?;
                        let value = self.number()?;
                        self.expect_sign(")")?;
                        Ok(MetricExpr::Vector(value))
                    }
                    "label_replace" => self.label_replace(),
                    _ => Err(self.unexpected(&[])),
                }
            }
            _ => Err(self.unexpected(&[])),
        }
    }

    fn grouping(&mut self) -> Result<Option<GroupingClause>> {
        let without = self.is_word("without");
        if !without && !self.is_word("by") {
            return Ok(None);
        }
        self.at += 1;
        let names = self.names()?;
        Ok(Some(GroupingClause { without, names }))
    }

    fn range_aggregation(&mut self, op: RangeOp) -> Result<MetricExpr> {
        self.at += 1;
        self.expect_sign("(")?;
        let mut param = None;
        if matches!(self.peek(), Token::Number(_)) {
            param = Some(self.number()?);
            self.expect_sign(",")?;
        } else if matches!(self.peek(), Token::Sign("-" | "+")) {
            return Err(self.unexpected(&["NUMBER", "{", "("]));
        }
        let read = self.log_range()?;
        let (Some(log), Some((range_ns, offset_ns))) = (read.log, read.range) else {
            return Err(self.unexpected(&[]));
        };
        self.expect_sign(")")?;
        let aggregation = RangeAggregation {
            op,
            param,
            log,
            unwrap: read.unwrap,
            range_ns,
            offset_ns,
            grouping: self.grouping()?,
        };
        check_range(&aggregation)?;
        Ok(MetricExpr::Range(Box::new(aggregation)))
    }

    /// `{..} | .. [5m]`, or the range before the stages, with or without parentheses.
    fn log_range(&mut self) -> Result<LogRange> {
        let mut read = if self.take_sign("(") {
            let inner = self.deeper(Self::log_range)?;
            self.expect_sign(")")?;
            inner
        } else {
            let matchers = self.checked_selector()?;
            LogRange {
                log: Some(LogExpr {
                    matchers,
                    stages: Vec::new(),
                }),
                ..LogRange::default()
            }
        };
        for _ in 0..2 {
            if let Some(log) = &mut read.log
                && read.unwrap.is_none()
                && log.stages.is_empty()
            {
                log.stages = self.stages()?;
                read.unwrap = self.unwrap()?;
            }
            if read.range.is_none()
                && let Token::Range(ns) = *self.peek()
            {
                self.at += 1;
                read.range = Some((ns, self.offset()?));
            }
        }
        Ok(read)
    }

    fn offset(&mut self) -> Result<i64> {
        if !self.take_word("offset") {
            return Ok(0);
        }
        let negative = matches!(
            (self.peek(), self.peek_behind(1)),
            (Token::Sign("-"), Token::Duration(_, true))
        ) && self.take_sign("-");
        match *self.peek() {
            Token::Duration(ns, _) => {
                self.at += 1;
                Ok(if negative { -ns } else { ns })
            }
            _ => Err(self.unexpected(&["DURATION"])),
        }
    }

    fn unwrap(&mut self) -> Result<Option<Unwrap>> {
        let follows = matches!(self.peek_behind(1), Token::Word(w) if w == "unwrap");
        if !self.is_sign("|") || !follows {
            return Ok(None);
        }
        self.at += 2;
        let conversion = match self.peek() {
            Token::Word(w) => match w.as_str() {
                "bytes" => Conversion::Bytes,
                "duration" => Conversion::Duration,
                "duration_seconds" => Conversion::DurationSeconds,
                _ => return Err(self.unexpected(&["IDENTIFIER"])),
            },
            _ => Conversion::Number,
        };
        let label = match conversion {
            Conversion::Number => self.name()?,
            _ => {
                self.at += 1;
                self.expect_sign("(")?;
                let label = self.name()?;
                self.expect_sign(")")?;
                label
            }
        };
        let mut filters = Vec::new();
        while self.take_sign("|") {
            if !self.begins_filter() {
                return Err(self.unexpected(&["IDENTIFIER", "("]));
            }
            filters.push(self.label_filter(0)?);
        }
        Ok(Some(Unwrap {
            label,
            conversion,
            filters,
        }))
    }

    fn vector_aggregation(&mut self, op: VectorOp) -> Result<MetricExpr> {
        self.at += 1;
        let name = op.as_str();
        let before = self.grouping()?;
        self.expect_sign("(")?;
        let mut param = None;
        if let Token::Number(text) = self.peek().clone()
            && *self.peek_behind(1) == Token::Sign(",")
        {
            self.at += 2;
            param = Some(text);
        }
        let expr = match self.deeper(|p| p.expr(0))? {
            Expr::Metric(expr) => expr,
            Expr::Log(_) => return Err(self.unexpected(&[])),
        };
        self.expect_sign(")")?;
        let grouping = match (before, self.grouping()?) {
            (Some(_), Some(_)) => return Err(self.unexpected(&[])),
            (before, after) => before.or(after),
        };
        let count = match (op.takes_count(), param) {
            (true, Some(text)) => count_of(name, &text)?,
            (true, None) => {
                return Err(ParseError::new(format!(
                    "parameter required for operation {name}"
                )));
            }
            (false, Some(text)) => {
                return Err(ParseError::new(format!(
                    "unsupported parameter for operation {name}({text},"
                )));
            }
            (false, None) => 0,
        };
        let fault = match op {
            VectorOp::Sort | VectorOp::SortDesc => "sort and sort_desc doesn't allow grouping by",
            VectorOp::ApproxTopK => "grouping not allowed for approx_topk aggregation",
            _ => "",
        };
        if grouping.is_some() && !fault.is_empty() {
            return Err(ParseError::new(fault));
        }
        Ok(MetricExpr::Aggregation(Box::new(VectorAggregation {
            op,
            count,
            grouping,
            expr,
        })))
    }

    fn label_replace(&mut self) -> Result<MetricExpr> {
        self.at += 1;
        self.expect_sign("(")?;
        let expr = match self.deeper(|p| p.expr(0))? {
            Expr::Metric(expr) => expr,
            Expr::Log(_) => return Err(self.unexpected(&[])),
        };
        let mut texts = Vec::with_capacity(4);
        for _ in 0..4 {
            self.expect_sign(",")?;
            texts.push(self.text()?);
        }
        self.expect_sign(")")?;
        let [to, replacement, from, regex] = <[String; 4]>::try_from(texts).unwrap_or_default();
        Re2Groups::new(&regex, Anchoring::Whole, Dot::Any).map_err(|e| {
            ParseError::new(format!(
                "invalid regex in label_replace: error parsing regexp: {e}"
            ))
        })?;
        Ok(MetricExpr::LabelReplace(Box::new(LabelReplace {
            expr,
            arguments: LabelReplaceArguments {
                to,
                replacement,
                from,
                regex,
            },
        })))
    }

    pub(super) fn matching(&mut self) -> Result<Option<VectorMatching>> {
        let on = self.is_word("on");
        if !on && !self.is_word("ignoring") {
            return Ok(None);
        }
        self.at += 1;
        let labels = self.names()?;
        let mut matching = VectorMatching {
            on,
            labels,
            group: MatchSide::OneToOne,
            include: Vec::new(),
        };
        for (word, side) in [
            ("group_left", MatchSide::Left),
            ("group_right", MatchSide::Right),
        ] {
            if self.take_word(word) {
                matching.group = side;
                // What follows in parentheses may be the right side.
                if self.is_sign("(")
                    && matches!(self.peek_behind(1), Token::Name(_) | Token::Sign(")"))
                {
                    matching.include = self.names()?;
                }
                break;
            }
        }
        Ok(Some(matching))
    }
}

fn count_of(name: &str, text: &str) -> Result<usize> {
    let invalid = || ParseError::new(format!("invalid parameter {name}({text},"));
    match text.parse::<usize>() {
        Ok(0) => Err(ParseError::new(format!(
            "invalid parameter (must be greater than 0) {name}({text}"
        ))),
        Ok(count) => Ok(count),
        Err(_) => Err(invalid()),
    }
}

fn check_range(r: &RangeAggregation) -> Result<()> {
    let op = r.op;
    let name = op.as_str();
    let fault = if r.grouping.is_some() && !op.may_group() {
        format!("grouping not allowed for {name} aggregation")
    } else if op == RangeOp::QuantileOverTime && r.param.is_none() {
        format!("parameter required for operation {name}")
    } else if op != RangeOp::QuantileOverTime && r.param.is_some() {
        format!("parameter not supported for operation {name}")
    } else if r.unwrap.is_some() && !op.takes_values() {
        format!("invalid aggregation {name} with unwrap")
    } else if r.unwrap.is_none() && !op.counts_entries() {
        format!("invalid aggregation {name} without unwrap")
    } else {
        return Ok(());
    };
    Err(ParseError::new(fault))
}

/// An operator between two sides; two numbers become one.
pub(super) fn binary(
    op: BinaryOp,
    returns_bool: bool,
    matching: Option<VectorMatching>,
    left: Expr,
    right: Expr,
) -> Result<MetricExpr> {
    let side = |expr, leg: &str| match expr {
        Expr::Metric(expr) => Ok(expr),
        Expr::Log(log) => {
            let kind = if log.stages.is_empty() {
                "MatchersExpr"
            } else {
                "PipelineExpr"
            };
            Err(ParseError::new(format!(
                "unexpected type for {leg} leg of binary operation ({}): *syntax.{kind}",
                op.as_str()
            )))
        }
    };
    let (left, right) = (side(left, "left")?, side(right, "right")?);
    for (expr, leg) in [(&left, "left"), (&right, "right")] {
        if let MetricExpr::Literal(value) = expr
            && op.is_set()
        {
            return Err(ParseError::new(format!(
                "unexpected literal for {leg} leg of logical/set binary operation ({}): {value:.6}",
                op.as_str()
            )));
        }
    }
    if let (MetricExpr::Literal(a), MetricExpr::Literal(b)) = (&left, &right) {
        return Ok(MetricExpr::Literal(arithmetic::fold(op, *a, *b)));
    }
    Ok(MetricExpr::Binary(Box::new(BinaryExpr {
        op,
        returns_bool: returns_bool && matches!(op, BinaryOp::Compare(_)),
        matching,
        left,
        right,
    })))
}
