use proptest::prelude::*;

use super::super::ast::{Expr, LabelFilter, MetricExpr, Stage};
use super::{parse, parse_selector};

fn printed(query: &str) -> String {
    parse(query)
        .unwrap_or_else(|e| panic!("{query}: {e}"))
        .to_string()
}

#[test]
fn queries_print_in_their_canonical_form() {
    for (query, wanted) in [
        (
            r#"{app="a",b=~`x\d`}|="x"or"y"!~"z" # c"#,
            r#"{app="a", b=~"x\\d"} |= "x" or "y" !~ "z""#,
        ),
        (
            r#"{a="b"} | json | b>=1KiB and c<1m30s or d=ip("::1")"#,
            r#"{a="b"} | json | ( ( b>=1024B , c<1m30s ) or d=ip("::1") )"#,
        ),
        (
            r#"sum(RATE({a="b"}[5m] offset -1h | logfmt | unwrap duration(x))) BY (c)"#,
            r#"sum by (c)(rate({a="b"} | logfmt | unwrap duration(x)[5m] offset -1h0m0s))"#,
        ),
        ("1 + 2 * 3 ^ 2", "19"),
        ("-2 ^ 2", "4"),
        (
            r#"vector(1) > bool on (a) group_left (b) vector(2)"#,
            r#"(vector(1) > bool on (a) group_left (b) vector(2))"#,
        ),
        (
            r#"topk by (x) (2, rate({sum="a"}[1m]))"#,
            r#"topk by (x)(2,rate({sum="a"}[1m]))"#,
        ),
    ] {
        assert_eq!(printed(query), wanted, "{query}");
        assert_eq!(printed(wanted), wanted);
    }
}

#[test]
fn a_comma_takes_all_that_follows_it() {
    let filter = |text: &str| match parse(&format!(r#"{{a="b"}} | {text}"#)).unwrap() {
        Expr::Log(log) => match log.stages.into_iter().next() {
            Some(Stage::LabelFilter(filter)) => filter.to_string(),
            other => panic!("{other:?}"),
        },
        Expr::Metric(other) => panic!("{other:?}"),
    };
    assert_eq!(
        filter(r#"a="1", b="2" or c="3""#),
        r#"( a="1" , ( b="2" or c="3" ) )"#
    );
    assert_eq!(
        filter(r#"b="2" or c="3", a="1""#),
        r#"( b="2" or ( c="3" , a="1" ) )"#
    );
    assert_eq!(
        filter(r#"a=1 and b=2 or c=3"#),
        r#"( ( a==1 , b==2 ) or c==3 )"#
    );
}

#[test]
fn depth_and_length_are_bounded() {
    let deep = format!("{}1{}", "(".repeat(5000), ")".repeat(5000));
    assert!(parse(&deep).unwrap_err().message.contains("max_depth"));
    let row = format!("vector(1){}", " + vector(1)".repeat(5000));
    assert!(parse(&row).unwrap_err().message.contains("max_depth"));
    let filters = format!(r#"{{a="b"}} | x=1{}"#, " or x=1".repeat(5000));
    assert!(parse(&filters).is_err());
    let long = format!(r#"{{a="b"}} |= "{}""#, "x".repeat(131_072));
    assert!(
        parse(&long)
            .unwrap_err()
            .to_string()
            .contains("input size too long")
    );
}

#[test]
fn selectors_may_be_empty_where_they_stand_alone() {
    assert_eq!(parse_selector("{}").unwrap().len(), 0);
    assert_eq!(parse_selector(r#"{a="b", c!~"d"}"#).unwrap().len(), 2);
    assert!(parse_selector(r#"{a="b"} |= "x""#).is_err());
}

/// Queries that are put together from pieces which fit often enough.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        r#"{a="b"}"#,
        "{",
        "}",
        "(",
        ")",
        "|",
        "|=",
        "!=",
        r#""x""#,
        "`y`",
        "json",
        "logfmt",
        "--strict",
        "| json",
        r#"| a="b""#,
        "| c > 5",
        "| d < 1m",
        "| e >= 1KB",
        r#"| f = ip("1.1.1.1")"#,
        "and",
        "or",
        ",",
        "rate(",
        "sum by (x) (",
        "topk(2,",
        "[5m]",
        "offset 1h",
        "unwrap x",
        "+",
        "*",
        "^",
        "1",
        "1.5e3",
        r#"| line_format "{{.x}}""#,
        r#"| label_format a=b, c="{{.d}}""#,
        "| drop a",
        "| keep b",
        "on (a)",
        "group_left",
        "bool",
        ">",
        "vector(1)",
        "5m",
        "#",
    ]);
    prop::collection::vec(piece, 0..12).prop_map(|p| p.join(" "))
}

proptest! {
    #[test]
    fn any_text_is_a_query_or_an_error(text: String) {
        let _ = parse(&text);
    }

    #[test]
    fn what_is_printed_parses_to_the_same(text in pieces()) {
        if let Ok(expr) = parse(&text) {
            let printed = expr.to_string();
            let again = parse(&printed);
            let is_nan = matches!(&expr, Expr::Metric(MetricExpr::Literal(v)) if !v.is_finite());
            prop_assert!(is_nan || again.as_ref() == Ok(&expr), "{printed}: {again:?}");
        }
    }
}

#[test]
fn filters_keep_their_kind() {
    let kinds = |text: &str| match parse(&format!(r#"{{a="b"}} | {text}"#)) {
        Ok(Expr::Log(log)) => match &log.stages[0] {
            Stage::LabelFilter(LabelFilter::Duration { ns, .. }) => format!("{ns}ns"),
            Stage::LabelFilter(LabelFilter::Bytes { bytes, .. }) => format!("{bytes}B"),
            Stage::LabelFilter(LabelFilter::Number { value, .. }) => format!("{value}"),
            other => panic!("{other:?}"),
        },
        other => format!("{}", other.is_err()),
    };
    for (text, wanted) in [
        ("a>1.5h", "5400000000000ns"),
        ("a>1d", "86400000000000ns"),
        ("a>100us", "100000ns"),
        ("a>10K", "10000B"),
        ("a>1Mi", "1048576B"),
        ("a>1_000", "1000"),
        ("a>5.", "5"),
        ("a>10EB", "true"),
        ("a>1mb", "true"),
        ("a>10kb", "true"),
        ("a>0x1f", "true"),
        ("a>08", "true"),
    ] {
        assert_eq!(kinds(text), wanted, "{text}");
    }
}
