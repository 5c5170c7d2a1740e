//! The text half of PromQL: all published queries parse, what is written reads the same, and an older grammar agrees where it can.
//!
//! The published queries are in `$LGTM_SHARED/conformance/promql` and `promql-api` (default: `shared` beside the workspace).

use crate::shared;

use crate::promql_grammar::{Dialect, mutated, query};
use lgtm_core::model::TimestampMs;
use lgtm_tsdb::promql::{
    AggregateOp, AtModifier, Cardinality, DurationExpr, Expr, Length, ParserOptions, Span, UnaryOp,
    ValueType, VectorSelector, parse, parse_with,
};
use promql_parser::label::Labels;
use promql_parser::parser as older;
use proptest::prelude::*;

/// Without what writing does not keep: places, and the order of matchers.
fn normalized(mut expr: Expr) -> Expr {
    fn selector(s: &mut VectorSelector) {
        s.span = Span::default();
        s.matchers.sort_by_key(ToString::to_string);
        length(&mut s.offset);
    }
    fn length(l: &mut Length) {
        if let Length::Computed(expr) = l {
            duration(expr);
        }
    }
    fn duration(e: &mut DurationExpr) {
        match e {
            DurationExpr::Number(n) => n.span = Span::default(),
            DurationExpr::Step(span) | DurationExpr::Range(span) => *span = Span::default(),
            DurationExpr::Unary { expr, span, .. } | DurationExpr::Paren { expr, span } => {
                *span = Span::default();
                duration(expr);
            }
            DurationExpr::Binary { lhs, rhs, .. } => {
                duration(lhs);
                duration(rhs);
            }
            DurationExpr::Min { lhs, rhs, span } | DurationExpr::Max { lhs, rhs, span } => {
                *span = Span::default();
                duration(lhs);
                duration(rhs);
            }
        }
    }
    /// NaN equals nothing, so another number stands for it.
    fn comparable(value: &mut f64) {
        if value.is_nan() {
            *value = -1.25e300;
        }
    }
    expr.walk_mut(&mut |e| {
        // Infinity is written with its sign, and `+Inf ^ 2` reads as `+(Inf ^ 2)`.
        while let Expr::Unary(u) = e
            && u.op == UnaryOp::Plus
        {
            *e = (*u.expr).clone();
        }
    });
    expr.walk_mut(&mut |e| match e {
        Expr::Number(e) => {
            e.span = Span::default();
            comparable(&mut e.value);
        }
        Expr::Text(e) => e.span = Span::default(),
        Expr::Vector(e) => selector(e),
        Expr::Matrix(e) => {
            e.span = Span::default();
            selector(&mut e.vector);
            length(&mut e.range);
        }
        Expr::Subquery(e) => {
            e.span = Span::default();
            [&mut e.range, &mut e.offset].into_iter().for_each(length);
            e.step.iter_mut().for_each(length);
        }
        Expr::Call(e) => e.span = Span::default(),
        Expr::Aggregate(e) => e.span = Span::default(),
        Expr::Binary(e) => {
            e.op_span = Span::default();
            let fills = e
                .matching
                .iter_mut()
                .flat_map(|m| [&mut m.fill_left, &mut m.fill_right]);
            fills.flatten().for_each(comparable);
        }
        Expr::Unary(e) => e.span = Span::default(),
        Expr::Paren(e) => e.span = Span::default(),
        Expr::StepInvariant(_) => {}
    });
    expr
}

/// Both ways of writing read as the same tree.
fn assert_written_the_same(text: &str, options: &ParserOptions) {
    let expr = parse_with(text, options).unwrap_or_else(|e| panic!("{text}\n{e}"));
    let wanted = normalized(expr.clone());
    for written in [expr.to_string(), expr.pretty()] {
        let again =
            parse_with(&written, options).unwrap_or_else(|e| panic!("{text}\n{written}\n{e}"));
        assert_eq!(normalized(again), wanted, "{text}\n{written}");
    }
}

/// The query of an `eval` line of a test script.
fn query_of(line: &str) -> Option<&str> {
    let (command, rest) = line.trim().split_once([' ', '\t'])?;
    if !command.to_ascii_lowercase().starts_with("eval") {
        return None;
    }
    let (kind, mut rest) = rest.trim_start().split_once([' ', '\t'])?;
    // `at T`, or `from T to T step D`.
    let words = if kind == "instant" { 2 } else { 6 };
    for _ in 0..words {
        rest = rest.trim_start().split_once([' ', '\t'])?.1;
    }
    Some(rest.trim())
}

#[test]
fn all_queries_of_the_scripts_parse_and_are_written_the_same() {
    let Some(folder) = shared::folder("conformance/promql") else {
        return;
    };
    let options = ParserOptions::everything();
    let mut queries = 0;
    for file in shared::files(&folder, "test") {
        for line in std::fs::read_to_string(&file).unwrap().lines() {
            if let Some(query) = query_of(line) {
                assert_written_the_same(query, &options);
                queries += 1;
            }
        }
    }
    assert!(queries > 0, "no queries in {}", folder.display());
    println!("{queries} queries");
}

#[test]
fn all_queries_of_the_api_cases_parse_unless_they_are_bad() {
    let Some(folder) = shared::folder("conformance/promql-api") else {
        return;
    };
    let (mut good, mut bad) = (0, 0);
    let files = shared::files(&folder, "jsonl");
    let cases: Vec<serde_json::Value> = files
        .iter()
        .flat_map(|f| {
            std::fs::read_to_string(f)
                .unwrap()
                .lines()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .map(|line| serde_json::from_str(&line).unwrap())
        .collect();
    let text = |v: &serde_json::Value| v.as_str().map(str::to_owned);
    let asked = |case: &serde_json::Value| text(&case["query"]);
    let right: std::collections::HashSet<String> = cases
        .iter()
        .filter(|case| case["expect"].get("data").is_some())
        .filter_map(asked)
        .collect();
    for case in &cases {
        let Some(query) = asked(case) else { continue };
        let parsed = parse(&query);
        if case["expect"]["error"] != "bad_data" {
            assert_written_the_same(&query, &ParserOptions::default());
            good += 1;
            continue;
        }
        bad += 1;
        if let Ok(expr) = parsed {
            // Then it is the parameters, or a range query over what has no value at an instant.
            let no_instant = !matches!(expr.value_type(), ValueType::Scalar | ValueType::Vector);
            let reason = right.contains(&query) || (case["api"] == "query_range" && no_instant);
            assert!(reason, "{query} parses");
        }
    }
    assert!(good > 0 && bad > 0, "no cases in {}", folder.display());
    println!("{good} good, {bad} bad");
}

fn options() -> ParserOptions {
    ParserOptions::everything()
}

proptest! {
    #[test]
    fn what_is_written_reads_the_same(text in query(Dialect::Full)) {
        assert_written_the_same(&text, &options());
    }

    #[test]
    fn mutated_queries_never_panic(text in mutated(Dialect::Full)) {
        for options in [ParserOptions::default(), options()] {
            match parse_with(&text, &options) {
                Ok(_) => assert_written_the_same(&text, &options),
                Err(e) => prop_assert!(e.span.start <= e.span.end && e.span.end <= text.len()),
            }
        }
    }

    #[test]
    fn an_older_grammar_reads_the_same(text in query(Dialect::Common)) {
        let ours = parse(&text).unwrap_or_else(|e| panic!("{text}\n{e}"));
        let theirs = older::parse(&text).unwrap_or_else(|e| panic!("{text}\n{e}"));
        prop_assert_eq!(shown(&ours), shown_older(&theirs), "{}", text);
    }
}

fn number(value: f64) -> String {
    // Signs of zero and of NaN aside.
    if value.is_nan() {
        "NaN".into()
    } else {
        format!("{:?}", value + 0.0)
    }
}

fn selector(s: &VectorSelector) -> String {
    let mut matchers: Vec<String> = s.matchers.iter().map(ToString::to_string).collect();
    matchers.sort();
    format!("{matchers:?}{}", when(&s.offset, s.at))
}

fn when(offset: &Length, at: Option<AtModifier>) -> String {
    format!(" offset {} at {at:?}", offset.ms().unwrap())
}

/// The structure of a tree, in words that both grammars have.
fn shown(expr: &Expr) -> String {
    match expr {
        Expr::Number(e) => number(e.value),
        Expr::Text(e) => format!("{:?}", e.value),
        Expr::Vector(e) => selector(e),
        Expr::Matrix(e) => format!("{}[{}]", selector(&e.vector), e.range.ms().unwrap()),
        Expr::Subquery(e) => {
            let step = e.step.as_ref().map(|s| s.ms().unwrap());
            format!(
                "({})[{}:{step:?}]{}",
                shown(&e.expr),
                e.range.ms().unwrap(),
                when(&e.offset, e.at)
            )
        }
        Expr::Call(e) => {
            let args: Vec<String> = e.args.iter().map(shown).collect();
            format!("{}({})", e.function.name, args.join(","))
        }
        Expr::Aggregate(e) => {
            let param = e.param.as_ref().map(|p| shown(p));
            let labels = if e.without || !e.grouping.is_empty() {
                sorted(&e.grouping)
            } else {
                Vec::new()
            };
            format!(
                "{} {} {labels:?}({param:?},{})",
                e.op,
                e.without,
                shown(&e.expr)
            )
        }
        Expr::Binary(e) => {
            let matching = e
                .matching
                .as_ref()
                .map(|m| (m.on, sorted(&m.labels), m.card.name(), sorted(&m.include)));
            format!(
                "({} {} {} {matching:?} {})",
                shown(&e.lhs),
                e.op,
                e.return_bool,
                shown(&e.rhs)
            )
        }
        // A plus says nothing.
        Expr::Unary(e) if e.op.name() == "+" => shown(&e.expr),
        Expr::Unary(e) => format!("-{}", shown(&e.expr)),
        Expr::Paren(e) => format!("({})", shown(&e.expr)),
        Expr::StepInvariant(e) => shown(e),
    }
}

fn sorted(names: &[String]) -> Vec<String> {
    let mut names = names.to_vec();
    names.sort();
    names
}

fn selector_older(s: &older::VectorSelector) -> String {
    let mut matchers: Vec<String> = s
        .matchers
        .matchers
        .iter()
        .map(|m| format!("{}{}{:?}", m.name, m.op, m.value))
        .collect();
    matchers.extend(s.name.iter().map(|name| format!("__name__={name:?}")));
    matchers.sort();
    format!(
        "{matchers:?}{}",
        when_older(s.offset.as_ref(), s.at.as_ref())
    )
}

fn when_older(offset: Option<&older::Offset>, at: Option<&older::AtModifier>) -> String {
    let ms = |d: &std::time::Duration| i64::try_from(d.as_millis()).unwrap();
    let offset = match offset {
        None => 0,
        Some(older::Offset::Pos(d)) => ms(d),
        Some(older::Offset::Neg(d)) => -ms(d),
    };
    let at = at.map(|at| match at {
        older::AtModifier::Start => AtModifier::Start,
        older::AtModifier::End => AtModifier::End,
        older::AtModifier::At(t) => {
            AtModifier::Time(match t.duration_since(std::time::UNIX_EPOCH) {
                Ok(d) => TimestampMs::new(ms(&d)),
                Err(e) => TimestampMs::new(-ms(&e.duration())),
            })
        }
    });
    format!(" offset {offset} at {at:?}")
}

fn labels_older(labels: &Labels) -> Vec<String> {
    sorted(&labels.labels)
}

fn shown_older(expr: &older::Expr) -> String {
    match expr {
        older::Expr::NumberLiteral(e) => number(e.val),
        older::Expr::StringLiteral(e) => format!("{:?}", e.val),
        older::Expr::VectorSelector(e) => selector_older(e),
        older::Expr::MatrixSelector(e) => {
            format!("{}[{}]", selector_older(&e.vs), e.range.as_millis())
        }
        older::Expr::Subquery(e) => {
            let step = e.step.map(|s| s.as_millis());
            format!(
                "{}[{}:{step:?}]{}",
                parenthesized(&e.expr),
                e.range.as_millis(),
                when_older(e.offset.as_ref(), e.at.as_ref())
            )
        }
        older::Expr::Call(e) => {
            let args: Vec<String> = e.args.args.iter().map(|a| shown_older(a)).collect();
            format!("{}({})", e.func.name, args.join(","))
        }
        older::Expr::Aggregate(e) => {
            let param = e.param.as_ref().map(|p| shown_older(p));
            let (without, labels) = match &e.modifier {
                None => (false, Vec::new()),
                Some(older::LabelModifier::Include(l)) => (false, labels_older(l)),
                Some(older::LabelModifier::Exclude(l)) => (true, labels_older(l)),
            };
            format!(
                "{} {without} {labels:?}({param:?},{})",
                e.op,
                shown_older(&e.expr)
            )
        }
        older::Expr::Binary(e) => binary_older(e),
        older::Expr::Unary(e) => format!("-{}", shown_older(&e.expr)),
        older::Expr::Paren(e) => format!("({})", shown_older(&e.expr)),
        older::Expr::Extension(_) => unreachable!("nothing extends the grammar"),
    }
}

/// Ours keeps the parentheses of a subquery's expression as a node; so does the older one.
fn parenthesized(expr: &older::Expr) -> String {
    format!("({})", shown_older(expr))
}

fn binary_older(e: &older::BinaryExpr) -> String {
    let vectors = [&e.lhs, &e.rhs]
        .iter()
        .all(|side| side.value_type() == older::value::ValueType::Vector);
    let set = ["and", "or", "unless"].contains(&e.op.to_string().as_str());
    let return_bool = e.modifier.as_ref().is_some_and(|m| m.return_bool);
    let matching = vectors.then(|| {
        let (on, labels) = match e.modifier.as_ref().and_then(|m| m.matching.as_ref()) {
            None => (false, Vec::new()),
            Some(older::LabelModifier::Include(l)) => (true, labels_older(l)),
            Some(older::LabelModifier::Exclude(l)) => (false, labels_older(l)),
        };
        let (card, include) = match e.modifier.as_ref().map(|m| &m.card) {
            Some(older::VectorMatchCardinality::ManyToOne(l)) => {
                (Cardinality::ManyToOne, labels_older(l))
            }
            Some(older::VectorMatchCardinality::OneToMany(l)) => {
                (Cardinality::OneToMany, labels_older(l))
            }
            _ if set => (Cardinality::ManyToMany, Vec::new()),
            _ => (Cardinality::OneToOne, Vec::new()),
        };
        (on, labels, card.name(), include)
    });
    format!(
        "({} {} {return_bool} {matching:?} {})",
        shown_older(&e.lhs),
        e.op,
        shown_older(&e.rhs)
    )
}

#[test]
fn every_aggregation_has_its_parameter() {
    for op in AggregateOp::ALL {
        let param = match op.parameter() {
            Some(ValueType::Text) => "'x', ",
            Some(_) => "1, ",
            None => "",
        };
        assert_written_the_same(&format!("{op}({param}up)"), &options());
    }
}
