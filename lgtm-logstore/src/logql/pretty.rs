//! A tree written so that people can read it: what is short stands on one line, what is long on a line a part, each deeper one set in.
//!
//! What it parses to is the same tree. The forms are those that Loki's `format_query` answers with; where Loki drops parentheses around a
//! long operand, they stay here.

use std::fmt::{self, Display, Write};

use lgtm_core::go::quote;

use super::ast::{BinaryExpr, Expr, LogExpr, MetricExpr, RangeAggregation, Stage};
use super::format::{BinarySign, RangeTail, Selector, number};

/// Bytes that a part may have on one line.
const LINE: usize = 100;

impl Expr {
    /// The query over as many lines as it is long.
    pub fn pretty(&self) -> String {
        let mut page = Page {
            text: String::new(),
        };
        match self {
            Self::Log(log) => page.log(log, 0),
            Self::Metric(metric) => page.metric(metric, 0),
        }
        page.text
    }
}

/// What is written so far.
struct Page {
    text: String,
}

impl Page {
    fn indent(&mut self, level: usize) {
        self.text.extend(std::iter::repeat_n("  ", level));
    }

    fn push(&mut self, part: impl Display) {
        // Writing to a text cannot fail.
        let _ = write!(self.text, "{part}");
    }

    /// Begins a line.
    fn line(&mut self, level: usize, part: impl Display) {
        self.text.push('\n');
        self.indent(level);
        self.push(part);
    }

    fn log(&mut self, log: &LogExpr, level: usize) {
        self.indent(level);
        if fits(log) {
            return self.push(log);
        }
        self.push(Selector(log));
        self.stages(&log.stages, level + 1);
    }

    fn stages(&mut self, stages: &[Stage], level: usize) {
        for stage in stages {
            self.line(level, stage);
        }
    }

    fn metric(&mut self, expr: &MetricExpr, level: usize) {
        if fits(expr) {
            self.indent(level);
            return self.push(expr);
        }
        match expr {
            // None of them has parts that a person writes.
            MetricExpr::Literal(_) | MetricExpr::Vector(_) | MetricExpr::Leg(_) => {
                self.indent(level);
                self.push(expr);
            }
            MetricExpr::Range(range) => self.range(range, level),
            MetricExpr::Aggregation(aggregation) => {
                self.indent(level);
                self.push(aggregation.op.as_str());
                aggregation.grouping.iter().for_each(|g| self.push(g));
                self.text.push('(');
                if aggregation.op.takes_count() {
                    self.line(level + 1, aggregation.count);
                    self.text.push(',');
                }
                self.text.push('\n');
                self.metric(&aggregation.expr, level + 1);
                self.line(level, ")");
            }
            MetricExpr::Binary(binary) => self.binary(binary, level),
            MetricExpr::LabelReplace(replace) => {
                self.indent(level);
                self.text.push_str("label_replace(\n");
                self.metric(&replace.expr, level + 1);
                let a = &replace.arguments;
                for text in [&a.to, &a.replacement, &a.from, &a.regex] {
                    self.text.push(',');
                    self.line(level + 1, quote(text));
                }
                self.line(level, ")");
            }
        }
    }

    fn range(&mut self, range: &RangeAggregation, level: usize) {
        self.indent(level);
        self.push(range.op.as_str());
        self.text.push('(');
        if let Some(param) = range.param {
            self.line(level + 1, number(param));
            self.text.push(',');
        }
        self.text.push('\n');
        self.log(&range.log, level + 1);
        if let Some(unwrap) = &range.unwrap {
            self.line(level + 2, unwrap);
        }
        self.text.push(' ');
        self.push(RangeTail(range));
        self.line(level, ")");
        range.grouping.iter().for_each(|g| self.push(g));
    }

    fn binary(&mut self, binary: &BinaryExpr, level: usize) {
        self.operand(&binary.left, level + 1);
        self.line(level, BinarySign(binary));
        self.text.push('\n');
        self.operand(&binary.right, level + 1);
    }

    /// An operand; one that is an operator itself and goes over several lines stands in parentheses.
    fn operand(&mut self, expr: &MetricExpr, level: usize) {
        if !matches!(expr, MetricExpr::Binary(_)) || fits(expr) {
            return self.metric(expr, level);
        }
        self.indent(level);
        self.text.push_str("(\n");
        self.metric(expr, level + 1);
        self.line(level, ")");
    }
}

/// Whether something is short enough for one line. Costs no more than that line.
fn fits(part: &impl Display) -> bool {
    struct Room(usize);
    impl Write for Room {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0 = self.0.checked_sub(text.len()).ok_or(fmt::Error)?;
            Ok(())
        }
    }
    write!(Room(LINE), "{part}").is_ok()
}

#[cfg(test)]
mod tests {
    use crate::logql::parse;

    fn pretty(query: &str) -> String {
        parse(query).unwrap().pretty()
    }

    #[test]
    fn short_queries_stay_on_one_line() {
        assert_eq!(
            pretty(r#"{app="gateway"}|="x"|json|a>5"#),
            r#"{app="gateway"} |= "x" | json | a>5"#
        );
    }

    #[test]
    fn long_queries_are_broken_where_their_parts_are() {
        let query = r#"label_replace(rate({a="b"}[1m]),"c","$1","d","(.*)")*on(a)group_left(b)sum by(a)(rate({a=`b\c`}|="x"or ip("::1")[1d]offset -2m))"#;
        let wanted = r#"  label_replace(rate({a="b"}[1m]),"c","$1","d","(.*)")
* on (a) group_left (b)
  sum by (a)(rate({a="b\\c"} |= "x" or ip("::1")[1d] offset -2m0s))"#;
        assert_eq!(pretty(query), wanted);
        let query = r#"topk(3, quantile_over_time(0.99, {cluster="a-cluster", container="a-container"} |= "needle" | json | unwrap duration(latency) | latency > 1s [5m] offset 1h) by (path))"#;
        let wanted = r#"topk(
  3,
  quantile_over_time(
    0.99,
    {cluster="a-cluster", container="a-container"} |= "needle" | json
      | unwrap duration(latency) | latency>1s [5m] offset 1h0m0s
  ) by (path)
)"#;
        assert_eq!(pretty(query), wanted);
    }

    #[test]
    fn a_long_operand_keeps_its_parentheses() {
        let long = "x".repeat(120);
        let query = format!(r#"(vector(1) + rate({{a="{long}"}}[1m])) * vector(2)"#);
        let text = pretty(&query);
        assert!(text.starts_with("  (\n      vector(1)\n    +\n"), "{text}");
        assert_eq!(parse(&text).unwrap(), parse(&query).unwrap());
    }

    #[test]
    fn deep_queries_are_written_in_a_moment() {
        let query = format!("{}vector(1){}", "sum(".repeat(200), ")".repeat(200));
        assert_eq!(pretty(&query).lines().count(), 2 * (200 - 18) + 1);
    }
}
