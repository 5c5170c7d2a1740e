//! From tree to text: on one line (`Display`), and on several (`pretty`), as `/api/v1/format_query` answers.
//!
//! What is written parses to the same tree, but for the order of matchers (sorted here) and for parts of a millisecond, which a
//! duration cannot say. The rule of the long form: what fits in 100 bytes stays on its line.

use std::fmt::{self, Display, Formatter, Write};

use lgtm_core::go::{format_plain, format_short, quote};
use lgtm_core::model::{METRIC_NAME, MatchOp, Matcher};

use super::ast::{
    Aggregate, AtModifier, Binary, Cardinality, DurationExpr, Edges, Expr, Length, NumberLiteral,
    Subquery, UnaryOp, VectorMatching, VectorSelector,
};
use super::number::{format_ms, seconds_to_ms};

/// What is longer than this is written on several lines.
const MAX_LINE_BYTES: usize = 100;

impl Expr {
    /// The query on as many lines as it needs, indented by its structure.
    ///
    /// Cost: linear in the length of the text times the depth of the indent.
    pub fn pretty(&self) -> String {
        self.pretty_within(usize::MAX).unwrap_or_default()
    }

    /// As [`Expr::pretty`]; `None` when it takes more than `max_bytes`: five hundred levels deep each line has an indent of a
    /// kilobyte.
    pub fn pretty_within(&self, max_bytes: usize) -> Option<String> {
        let mut page = Page {
            text: String::new(),
            max_bytes,
        };
        push_pretty(&mut page, self, 0).ok()?;
        Some(page.text)
    }
}

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(e) => e.fmt(f),
            Self::Text(e) => f.write_str(&e.quoted()),
            Self::Vector(e) => e.fmt(f),
            Self::Matrix(e) => {
                write_series(f, &e.vector)?;
                write!(f, "[{}]", e.range)?;
                write_edges(f, e.vector.edges)?;
                write_at(f, e.vector.at)?;
                write_offset(f, &e.vector.offset)
            }
            Self::Subquery(e) => {
                e.expr.fmt(f)?;
                write_subquery_suffix(f, e)
            }
            Self::Call(e) => {
                write!(f, "{}(", e.function.name)?;
                for (n, arg) in e.args.iter().enumerate() {
                    f.write_str(if n > 0 { ", " } else { "" })?;
                    arg.fmt(f)?;
                }
                f.write_char(')')
            }
            Self::Aggregate(e) => {
                write_aggregate_head(f, e)?;
                f.write_char('(')?;
                if let Some(param) = &e.param {
                    write!(f, "{param}, ")?;
                }
                write!(f, "{})", e.expr)
            }
            Self::Binary(e) => {
                write!(f, "{} ", e.lhs)?;
                write_operator(f, e)?;
                write!(f, " {}", e.rhs)
            }
            Self::Unary(e) => write!(f, "{}{}", e.op.name(), e.expr),
            Self::Paren(e) => write!(f, "({})", e.expr),
            Self::StepInvariant(e) => e.fmt(f),
        }
    }
}

impl Display for NumberLiteral {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.duration {
            f.write_str(&format_ms(seconds_to_ms(self.value)))
        } else {
            f.write_str(&format_plain(self.value))
        }
    }
}

impl Display for VectorSelector {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write_series(f, self)?;
        write_at(f, self.at)?;
        write_edges(f, self.edges)?;
        write_offset(f, &self.offset)
    }
}

impl Display for Length {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ms(ms) => f.write_str(&format_ms(*ms)),
            Self::Computed(expr) => expr.fmt(f),
        }
    }
}

impl Display for DurationExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(n) => n.fmt(f),
            Self::Step(_) => f.write_str("step()"),
            Self::Range(_) => f.write_str("range()"),
            Self::Unary { op, expr, .. } => {
                let sign = if *op == UnaryOp::Minus { "-" } else { "" };
                write!(f, "{sign}{expr}")
            }
            Self::Binary { op, lhs, rhs } => write!(f, "{lhs} {op} {rhs}"),
            Self::Min { lhs, rhs, .. } => write!(f, "min_of({lhs}, {rhs})"),
            Self::Max { lhs, rhs, .. } => write!(f, "max_of({lhs}, {rhs})"),
            Self::Paren { expr, .. } => write!(f, "({expr})"),
        }
    }
}

/// The name and the matchers, sorted.
fn write_series(f: &mut impl Write, selector: &VectorSelector) -> fmt::Result {
    f.write_str(&selector.name)?;
    let is_name = |m: &Matcher| {
        m.name() == METRIC_NAME
            && m.op() == MatchOp::Equal
            && m.value() == selector.name
            && !m.value().is_empty()
    };
    let shown = selector.matchers.iter().filter(|m| !is_name(m));
    let mut shown: Vec<String> = shown.map(matcher).collect();
    if shown.is_empty() {
        // Nothing at all would be no expression.
        return f.write_str(if selector.name.is_empty() { "{}" } else { "" });
    }
    shown.sort_unstable();
    write!(f, "{{{}}}", shown.join(","))
}

fn matcher(m: &Matcher) -> String {
    let name = label_name(m.name());
    format!("{name}{}{}", match_op(m.op()), quote(m.value()))
}

pub(super) fn match_op(op: MatchOp) -> &'static str {
    match op {
        MatchOp::Equal => "=",
        MatchOp::NotEqual => "!=",
        MatchOp::Regex => "=~",
        MatchOp::NotRegex => "!~",
    }
}

/// In quotes if it is no identifier.
fn label_name(name: &str) -> String {
    let mut bytes = name.bytes();
    let first = bytes
        .next()
        .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    if first && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        name.to_owned()
    } else {
        quote(name)
    }
}

fn label_names(names: &[String]) -> String {
    let names: Vec<String> = names.iter().map(|n| label_name(n)).collect();
    names.join(", ")
}

fn write_at(f: &mut impl Write, at: Option<AtModifier>) -> fmt::Result {
    match at {
        None => Ok(()),
        Some(AtModifier::Start) => f.write_str(" @ start()"),
        Some(AtModifier::End) => f.write_str(" @ end()"),
        Some(AtModifier::Time(ms)) => {
            let sign = if ms < 0 { "-" } else { "" };
            let ms = ms.get().unsigned_abs();
            write!(f, " @ {sign}{}.{:03}", ms / 1000, ms % 1000)
        }
    }
}

fn write_edges(f: &mut impl Write, edges: Edges) -> fmt::Result {
    f.write_str(match edges {
        Edges::Plain => "",
        Edges::Anchored => " anchored",
        Edges::Smoothed => " smoothed",
    })
}

fn write_offset(f: &mut impl Write, offset: &Length) -> fmt::Result {
    if offset.is_zero() {
        return Ok(());
    }
    write!(f, " offset {offset}")
}

fn write_subquery_suffix(f: &mut impl Write, e: &Subquery) -> fmt::Result {
    write!(f, "[{}:", e.range)?;
    if let Some(step) = &e.step {
        write!(f, "{step}")?;
    }
    f.write_char(']')?;
    write_at(f, e.at)?;
    write_offset(f, &e.offset)
}

/// The operation and its labels, up to the parenthesis.
fn write_aggregate_head(f: &mut impl Write, e: &Aggregate) -> fmt::Result {
    f.write_str(e.op.name())?;
    let word = match (e.without, e.grouping.is_empty()) {
        (true, _) => "without",
        (false, false) => "by",
        (false, true) => return Ok(()),
    };
    write!(f, " {word} ({}) ", label_names(&e.grouping))
}

/// The operator and its modifiers.
fn write_operator(f: &mut impl Write, e: &Binary) -> fmt::Result {
    f.write_str(e.op.name())?;
    if e.return_bool {
        f.write_str(" bool")?;
    }
    match &e.matching {
        Some(matching) => write_matching(f, matching),
        None => Ok(()),
    }
}

fn write_matching(f: &mut impl Write, m: &VectorMatching) -> fmt::Result {
    let group = match m.card {
        Cardinality::ManyToOne => Some("left"),
        Cardinality::OneToMany => Some("right"),
        Cardinality::OneToOne | Cardinality::ManyToMany => None,
    };
    if m.on || !m.labels.is_empty() || group.is_some() {
        let word = if m.on { "on" } else { "ignoring" };
        write!(f, " {word} ({})", label_names(&m.labels))?;
    }
    if let Some(side) = group {
        write!(f, " group_{side} ({})", label_names(&m.include))?;
    }
    let (left, right) = (
        m.fill_left.map(format_short),
        m.fill_right.map(format_short),
    );
    match (left, right) {
        (Some(left), Some(right)) if left == right => write!(f, " fill ({left})"),
        (left, right) => {
            if let Some(value) = left {
                write!(f, " fill_left ({value})")?;
            }
            if let Some(value) = right {
                write!(f, " fill_right ({value})")?;
            }
            Ok(())
        }
    }
}

/// Takes a line's worth of text and then no more.
struct Line(usize);

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 = self.0.checked_sub(text.len()).ok_or(fmt::Error)?;
        Ok(())
    }
}

fn fits(expr: &Expr) -> bool {
    write!(Line(MAX_LINE_BYTES), "{expr}").is_ok()
}

/// Takes so many bytes and then no more.
struct Page {
    text: String,
    max_bytes: usize,
}

impl Write for Page {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if text.len() > self.max_bytes - self.text.len() {
            return Err(fmt::Error);
        }
        self.text.push_str(text);
        Ok(())
    }
}

fn push_indent(out: &mut Page, level: usize) -> fmt::Result {
    (0..level).try_for_each(|_| out.write_str("  "))
}

fn push_pretty(out: &mut Page, expr: &Expr, level: usize) -> fmt::Result {
    match expr {
        Expr::StepInvariant(e) => push_pretty(out, e, level),
        Expr::Subquery(e) if !fits(expr) => {
            push_pretty(out, &e.expr, level)?;
            write_subquery_suffix(out, e)
        }
        // One that fits is not indented; so Prometheus does.
        Expr::Subquery(_) => write!(out, "{expr}"),
        Expr::Unary(e) => {
            push_indent(out, level)?;
            out.write_str(e.op.name())?;
            let mut child = Page {
                text: String::new(),
                max_bytes: out.max_bytes,
            };
            push_pretty(&mut child, &e.expr, level)?;
            out.write_str(child.text.trim())
        }
        Expr::Call(e) if !fits(expr) => {
            push_indent(out, level)?;
            out.write_str(e.function.name)?;
            push_arguments(out, e.args.iter(), level)
        }
        Expr::Aggregate(e) if !fits(expr) => {
            push_indent(out, level)?;
            write_aggregate_head(out, e)?;
            push_arguments(out, e.param.as_deref().into_iter().chain([&*e.expr]), level)
        }
        Expr::Paren(e) if !fits(expr) => {
            push_indent(out, level)?;
            push_arguments(out, [&*e.expr].into_iter(), level)
        }
        Expr::Binary(e) if !fits(expr) => {
            push_pretty(out, &e.lhs, level + 1)?;
            out.write_char('\n')?;
            push_indent(out, level)?;
            write_operator(out, e)?;
            out.write_char('\n')?;
            push_pretty(out, &e.rhs, level + 1)
        }
        _ => {
            push_indent(out, level)?;
            write!(out, "{expr}")
        }
    }
}

/// Each on its line, in parentheses.
fn push_arguments<'a>(
    out: &mut Page,
    args: impl Iterator<Item = &'a Expr>,
    level: usize,
) -> fmt::Result {
    out.write_char('(')?;
    for (n, arg) in args.enumerate() {
        out.write_str(if n > 0 { ",\n" } else { "\n" })?;
        push_pretty(out, arg, level + 1)?;
    }
    out.write_char('\n')?;
    push_indent(out, level)?;
    out.write_char(')')
}

#[cfg(test)]
mod tests {
    use crate::promql::{ParserOptions, parse_with};

    fn printed(query: &str) -> (String, String) {
        let expr = parse_with(query, &ParserOptions::everything()).unwrap();
        (expr.to_string(), expr.pretty())
    }

    #[test]
    fn queries_are_written_as_prometheus_writes_them() {
        for (query, wanted) in [
            ("sum(x)by(a,b)", "sum by (a, b) (x)"),
            ("sum by () (x)", "sum(x)"),
            ("sum without () (x)", "sum without () (x)"),
            ("topk(5,x)", "topk(5, x)"),
            ("a+on()group_left b", "a + on () group_left () b"),
            ("a==bool ignoring(x)b", "a == bool ignoring (x) b"),
            ("a + fill(0) b", "a + fill (0) b"),
            (
                "a + on(x) fill_right(1e6) fill_left(-1) b",
                "a + on (x) fill_left (-1) fill_right (1e+06) b",
            ),
            ("x{b='1',a=~\"2\"}", "x{a=~\"2\",b=\"1\"}"),
            ("{'x', 'a b'!='c'}", "{\"a b\"!=\"c\",__name__=\"x\"}"),
            ("x{}", "x"),
            ("x[90d] @ 1.5 offset -1h30m", "x[90d] @ 1.500 offset -1h30m"),
            ("x[300] smoothed", "x[5m] smoothed"),
            ("x offset 5m @ start()", "x @ start() offset 5m"),
            ("x[1h:] offset 1m", "x[1h:] offset 1m"),
            ("x[1h:30s] @ end()", "x[1h:30s] @ end()"),
            ("x[(1m)*2+step()]", "x[(1m) * 2 + step()]"),
            ("x[min_of(range(),1)]", "x[min_of(range(), 1)]"),
            ("x offset -(1m+step())", "x offset -(1m + step())"),
            (
                "1h + 0x1F + 1e3 + .5 + -Inf + nan",
                "1h + 31 + 1000 + 0.5 + -Inf + NaN",
            ),
            ("'a\\'b\\xff'", "\"a'b\\xff\""),
            ("-(1)", "-(1)"),
            ("time()", "time()"),
            ("sum by ('a b', c) (x)", "sum by (\"a b\", c) (x)"),
            ("info(x, {})", "info(x, {})"),
        ] {
            assert_eq!(printed(query).0, wanted, "{query}");
            assert_eq!(printed(wanted).0, wanted, "{query}");
        }
    }

    #[test]
    fn a_page_ends_where_it_is_full() {
        let deep = format!(
            "{}{}{}",
            "(".repeat(499),
            "1+".repeat(400) + "1",
            ")".repeat(499)
        );
        let expr = parse_with(
            &deep,
            &ParserOptions {
                max_depth: 5000,
                ..ParserOptions::everything()
            },
        )
        .unwrap();
        let whole = expr.pretty();
        assert!(whole.len() > 200_000, "{}", whole.len());
        assert_eq!(expr.pretty_within(whole.len()), Some(whole.clone()));
        assert_eq!(expr.pretty_within(whole.len() - 1), None);
    }

    #[test]
    fn long_queries_are_split_by_their_structure() {
        let long = "a_metric_with_a_rather_long_name_that_takes_up_half_of_a_line";
        let query = format!(
            "histogram_quantile(0.9, sum by (le) (rate({long}[5m])) / on (x) -({long} + {long}))"
        );
        let wanted = format!(
            "histogram_quantile(
  0.9,
      sum by (le) (rate({long}[5m]))
    / on (x)
      -(
          {long}
        +
          {long}
      )
)"
        );
        // An operator stands left of its operands.
        let wanted = wanted.replace("      sum by (le)", "    sum by (le)");
        let got = printed(&query).1;
        let plain = |text: &str| text.split_whitespace().collect::<String>();
        assert_eq!(plain(&got), plain(&wanted));
        let lines: Vec<&str> = got.lines().collect();
        assert_eq!(
            lines[..4],
            [
                "histogram_quantile(",
                "  0.9,",
                &format!("    sum by (le) (rate({long}[5m]))") as &str,
                "  / on (x)",
            ]
        );
        assert_eq!(printed(&got).0, printed(&query).0);
    }
}
