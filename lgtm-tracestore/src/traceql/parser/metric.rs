//! Series of spans, and what is done with them.

use super::super::ast::*;
use super::super::error::QueryError;
use super::super::lexer::Token;
use super::{Item, Parser};
use crate::select::{CompareOp, Field, Literal};

/// Values of an attribute that `compare` tells when the query does not say.
const COMPARE_TOP: i64 = 10;

impl Parser {
    /// Whether a function that makes series begins here.
    pub(super) fn begins_metrics(&self) -> bool {
        self.word()
            .is_some_and(|word| matches!(word, "rate" | "compare") || word.ends_with("_over_time"))
    }

    pub(super) fn metrics_query(&mut self, pipeline: Pipeline) -> Result<MetricsExpr, QueryError> {
        let name = self.word().unwrap_or_default().to_owned();
        self.advance();
        self.expect("(")?;
        let function = match name.as_str() {
            "rate" => MetricsFunction::Rate,
            "count_over_time" => MetricsFunction::CountOverTime,
            "min_over_time" => MetricsFunction::MinOverTime(self.field()?),
            "max_over_time" => MetricsFunction::MaxOverTime(self.field()?),
            "avg_over_time" => MetricsFunction::AvgOverTime(self.field()?),
            "sum_over_time" => MetricsFunction::SumOverTime(self.field()?),
            "histogram_over_time" => MetricsFunction::HistogramOverTime(self.field()?),
            "quantile_over_time" => {
                let field = self.field()?;
                let mut quantiles = Vec::new();
                while self.take(",") {
                    quantiles.push(self.number()?);
                }
                if quantiles.is_empty() {
                    return Err(self.unexpected());
                }
                MetricsFunction::QuantileOverTime(field, quantiles)
            }
            _ => MetricsFunction::Compare(self.compare()?),
        };
        self.expect(")")?;
        let mut by = Vec::<Field>::new();
        let may_group = !matches!(function, MetricsFunction::Compare(_));
        if may_group && self.word() == Some("by") {
            self.advance();
            by = self.field_list()?;
        }
        Ok(MetricsExpr::Query(Box::new(MetricsQuery {
            pipeline,
            function,
            by,
        })))
    }

    fn compare(&mut self) -> Result<CompareFunction, QueryError> {
        self.expect("{")?;
        let selection = self.filter_body()?;
        let mut numbers = Vec::new();
        while self.take(",") {
            numbers.push(self.integer()?);
        }
        let (top, between_ns) = match *numbers.as_slice() {
            [] => (COMPARE_TOP, None),
            [top] => (top, None),
            [top, start, end] => (top, Some((start, end))),
            _ => return Err(self.unexpected()),
        };
        Ok(CompareFunction {
            selection,
            top,
            between_ns,
        })
    }

    fn integer(&mut self) -> Result<i64, QueryError> {
        let negative = self.take("-");
        let Token::Literal(Literal::Int(n)) = *self.token() else {
            return Err(self.unexpected());
        };
        self.advance();
        Ok(if negative { n.saturating_neg() } else { n })
    }

    fn number(&mut self) -> Result<f64, QueryError> {
        let negative = self.take("-");
        let n = match *self.token() {
            Token::Literal(Literal::Int(n)) => n as f64,
            Token::Literal(Literal::Float(n)) => n,
            _ => return Err(self.unexpected()),
        };
        self.advance();
        Ok(if negative { -n } else { n })
    }

    /// `| topk(3) > 5`, behind series.
    pub(super) fn second_stages(&mut self, item: Item) -> Result<Item, QueryError> {
        let Item::Metrics(metrics) = item else {
            return Ok(item);
        };
        let mut stages = Vec::new();
        loop {
            let compared = match self.token() {
                Token::Sign(sign) => CompareOp::of_sign(sign),
                _ => None,
            };
            if let Some(op) = compared {
                self.advance();
                stages.push(SecondStage::Filter(op, self.compared_number()?));
                continue;
            }
            if !self.take("|") {
                break;
            }
            let make = match self.word() {
                Some("topk") => SecondStage::TopK as fn(i64) -> SecondStage,
                Some("bottomk") => SecondStage::BottomK as fn(i64) -> SecondStage,
                _ => return Err(self.unexpected()),
            };
            self.advance();
            self.expect("(")?;
            stages.push(make(self.integer()?));
            self.expect(")")?;
        }
        Ok(Item::Metrics(if stages.is_empty() {
            metrics
        } else {
            MetricsExpr::Staged(Box::new(metrics), stages)
        }))
    }

    /// A number, or arithmetic of numbers; durations count seconds.
    fn compared_number(&mut self) -> Result<f64, QueryError> {
        Ok(match self.scalar_literal()? {
            Literal::Int(n) => n as f64,
            Literal::Float(n) => n,
            Literal::Duration(ns) => ns as f64 / 1e9,
            _ => return Err(self.unexpected()),
        })
    }
}
