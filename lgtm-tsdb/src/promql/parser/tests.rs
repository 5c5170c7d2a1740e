use super::*;
use proptest::prelude::*;

/// Queries whose text is wrong, and how the message begins.
const SYNTAX_ERRORS: &[(&str, &str)] = &[
    (
        "",
        "unknown position: parse error: no expression found in input",
    ),
    (" # c", "1:1: parse error: no expression found in input"),
    ("1 +", "1:4: parse error: unexpected end of input"),
    ("up up", "1:4: parse error: unexpected identifier \"up\""),
    ("up\n  1", "2:3: parse error: unexpected number \"1\""),
    (
        "up{",
        "1:4: parse error: unexpected end of input inside braces",
    ),
    (
        "up{a=b}",
        "1:6: parse error: unexpected identifier \"b\" in label matching, expected string",
    ),
    (
        "up{a b}",
        "1:6: parse error: unexpected identifier \"b\" in label matching, expected label matching operator",
    ),
    (
        "up{a==\"b\"}",
        "1:6: parse error: unexpected \"=\" in label matching, expected string",
    ),
    (
        "up{a=\"b\" c=\"d\"}",
        "1:10: parse error: unexpected identifier \"c\" in label matching, expected \",\" or \"}\"",
    ),
    (
        "up{a=\"b\",,}",
        "1:10: parse error: unexpected \",\" in label matching, expected identifier or \"}\"",
    ),
    (
        "up{1}",
        "1:4: parse error: unexpected character inside braces: '1'",
    ),
    (
        "up[]",
        "1:4: parse error: unexpected \"]\" in subquery or range selector, expected number, duration, step(), or range()",
    ),
    ("up[5m", "1:6: parse error: unclosed left bracket"),
    ("up[5m:1m", "1:9: parse error: unclosed left bracket"),
    (
        "up[5x]",
        "1:4: parse error: bad number or duration syntax: \"5\"",
    ),
    (
        "up[5m 1m]",
        "1:7: parse error: unexpected duration \"1m\" in subquery or range, expected \":\" or \"]\"",
    ),
    (
        "up[5m:1m 1m]",
        "1:10: parse error: unexpected duration \"1m\" in subquery selector, expected \"]\"",
    ),
    (
        "up[5m:*]",
        "1:7: parse error: unexpected <op:*> in subquery selector, expected number, duration, step(), range(), or \"]\"",
    ),
    (
        "up[0s]",
        "1:4: parse error: duration must be greater than 0",
    ),
    (
        "up[5m:0s]",
        "1:7: parse error: duration must be greater than 0",
    ),
    (
        "1[5m]",
        "1:2: parse error: ranges only allowed for vector selectors",
    ),
    (
        "up offset 5m[5m]",
        "1:13: parse error: no offset modifiers allowed before range",
    ),
    (
        "up @ 1[5m]",
        "1:7: parse error: no @ modifiers allowed before range",
    ),
    (
        "up offset",
        "1:10: parse error: unexpected end of input in offset, expected number, duration, step(), or range()",
    ),
    (
        "up offset 5m offset 5m",
        "1:1: parse error: offset may not be set multiple times",
    ),
    (
        "1 offset 5m",
        "1:1: parse error: offset modifier must be preceded by an instant vector selector or range vector selector or a subquery",
    ),
    (
        "up @ start",
        "1:11: parse error: unexpected end of input in @, expected timestamp",
    ),
    (
        "up @ x",
        "1:6: parse error: unexpected identifier \"x\" in @, expected timestamp",
    ),
    (
        "up @ Inf",
        "1:1: parse error: timestamp out of bounds for @ modifier: +Inf",
    ),
    (
        "up @ 1 @ 2",
        "1:1: parse error: @ <timestamp> may not be set multiple times",
    ),
    ("sum(", "1:5: parse error: unclosed left parenthesis"),
    (
        "sum()",
        "1:1: parse error: no arguments for aggregate expression provided",
    ),
    (
        "sum(up, 1)",
        "1:1: parse error: wrong number of arguments for aggregate expression provided, expected 1, got 2",
    ),
    (
        "topk(up)",
        "1:1: parse error: wrong number of arguments for aggregate expression provided, expected 2, got 1",
    ),
    (
        "sum(up + )",
        "1:10: parse error: unexpected \")\" in aggregation",
    ),
    (
        "sum by job (up)",
        "1:8: parse error: unexpected identifier \"job\" in grouping opts, expected \"(\"",
    ),
    (
        "sum by (a b) (up)",
        "1:11: parse error: unexpected identifier \"b\" in grouping opts, expected \",\" or \")\"",
    ),
    (
        "sum by (1) (up)",
        "1:9: parse error: unexpected number \"1\" in grouping opts, expected label",
    ),
    (
        "sum by (\"\") (up)",
        "1:9: parse error: invalid label name for grouping: \"\"",
    ),
    (
        "sum by (a) (up) without (b)",
        "1:17: parse error: unexpected <without>",
    ),
    (
        "up + group_left up",
        "1:6: parse error: unexpected <group_left>",
    ),
    ("group_left", "1:1: parse error: unexpected <group_left>"),
    (
        "nofunc(up)",
        "1:1: parse error: unknown function with name \"nofunc\"",
    ),
    (
        "rate(up[5m],)",
        "1:12: parse error: trailing commas not allowed in function call args",
    ),
    ("5m()", "1:3: parse error: unexpected \"(\""),
    (
        "1e400",
        "1:1: parse error: error parsing number: strconv.ParseFloat: parsing \"1e400\": value out of range",
    ),
    (
        "1m1h",
        "1:1: parse error: not a valid duration string: \"1m1h\"",
    ),
    ("'a\nb'", "1:1: parse error: unterminated quoted string"),
    (
        "\"aaaaaaaaaaaaaaaa\" 1",
        "1:20: parse error: unexpected number \"1\"",
    ),
    (
        "1 \"aaaaaaaaaaaaaaaa\"",
        "1:3: parse error: unexpected string \"\\\"aaaaaaaaa\"...",
    ),
    (
        "up[5m] anchored smoothed",
        "1:1: parse error: anchored and smoothed modifiers cannot be used together",
    ),
    (
        "up[5m:1m] anchored",
        "1:1: parse error: anchored modifier is not supported for subqueries",
    ),
    (
        "1 smoothed",
        "1:1: parse error: smoothed modifier not implemented",
    ),
    ("up[5m/0]", "1:6: parse error: division by zero"),
    ("up[300y]", "1:4: parse error: duration out of range"),
    (
        "up{a=~\"(\"}",
        "1:4: parse error: matcher a: invalid regular expression",
    ),
];

/// Queries whose types do not fit, and the message.
const TYPE_ERRORS: &[(&str, &str)] = &[
    (
        "1 == 2",
        "1:3: parse error: comparisons between scalars must use BOOL modifier",
    ),
    (
        "up + bool up",
        "1:4: parse error: bool modifier can only be used on comparison operators",
    ),
    (
        "up or 1",
        "1:1: parse error: set operator \"or\" not allowed in binary scalar expression",
    ),
    (
        "up and on(a) group_left up",
        "1:1: parse error: no grouping allowed for \"and\" operation",
    ),
    (
        "up + on(a) group_left(a) up",
        "1:4: parse error: label \"a\" must not occur in ON and GROUP clause at once",
    ),
    (
        "up + on(a) 1",
        "1:1: parse error: vector matching only allowed between instant vectors",
    ),
    (
        "up + fill(1) 1",
        "1:1: parse error: filling in missing series only allowed between instant vectors",
    ),
    (
        "up or fill(1) up",
        "1:1: parse error: filling in missing series not allowed for set operators",
    ),
    (
        "\"a\" == \"a\"",
        "1:1: parse error: binary expression must contain only scalar and instant vector types",
    ),
    (
        "rate(up)",
        "1:6: parse error: expected type range vector in call to function \"rate\", got instant vector",
    ),
    (
        "abs()",
        "1:1: parse error: expected 1 argument(s) in call to \"abs\", got 0",
    ),
    (
        "round()",
        "1:1: parse error: expected at least 1 argument(s) in call to \"round\", got 0",
    ),
    (
        "round(up, 1, 2)",
        "1:1: parse error: expected at most 2 argument(s) in call to \"round\", got 3",
    ),
    (
        "sum(1)",
        "1:5: parse error: expected type instant vector in aggregation expression, got scalar",
    ),
    (
        "topk('a', up)",
        "1:6: parse error: expected type scalar in aggregation parameter, got string",
    ),
    (
        "count_values(1, up)",
        "1:14: parse error: expected type string in aggregation parameter, got scalar",
    ),
    (
        "-'a'",
        "1:1: parse error: unary expression only allowed on expressions of type scalar or instant vector, got \"string\"",
    ),
    (
        "-up[5m]",
        "1:1: parse error: unary expression only allowed on expressions of type scalar or instant vector, got \"range vector\"",
    ),
    (
        "time()[5m:]",
        "1:1: parse error: subquery is only allowed on instant vector, got scalar instead",
    ),
    (
        "up{__name__=\"x\"}",
        "1:1: parse error: metric name must not be set twice: \"up\" or \"x\"",
    ),
    (
        "{}",
        "1:1: parse error: vector selector must contain at least one non-empty matcher",
    ),
    (
        "{a=~\".*\"}",
        "1:1: parse error: vector selector must contain at least one non-empty matcher",
    ),
    (
        "info(up, up)",
        "1:10: parse error: expected label selectors only, got vector selector instead",
    ),
    (
        "info(up, vector(1))",
        "1:10: parse error: expected label selectors only",
    ),
];

fn message(query: &str, options: &ParserOptions) -> String {
    match parse_with(query, options) {
        Ok(expr) => format!("parsed: {expr:?}"),
        Err(error) => error.to_string(),
    }
}

/// Faults of the text itself, with all switches on.
#[test]
fn syntax_errors_read_as_those_of_prometheus() {
    let options = ParserOptions::everything();
    for (query, wanted) in SYNTAX_ERRORS {
        let got = message(query, &options);
        assert!(got.starts_with(*wanted), "{query:?}:\n  {got}\n  {wanted}");
    }
}

#[test]
fn type_errors_read_as_those_of_prometheus() {
    let options = ParserOptions::everything();
    for (query, wanted) in TYPE_ERRORS {
        assert_eq!(message(query, &options), *wanted, "{query:?}");
    }
}

#[test]
fn experimental_syntax_is_refused_unless_it_is_on() {
    let off = ParserOptions {
        duration_expressions: false,
        ..ParserOptions::default()
    };
    for (query, wanted) in [
        (
            "mad_over_time(up[5m])",
            "1:1: parse error: function \"mad_over_time\" is not enabled",
        ),
        (
            "limitk(1, up)",
            "1:1: parse error: limitk() is experimental and must be enabled with --enable-feature=promql-experimental-functions",
        ),
        (
            "up[5m] anchored",
            "1:1: parse error: anchored modifier is experimental and not enabled",
        ),
        (
            "rate(up[5m] smoothed)",
            "1:6: parse error: smoothed modifier is experimental and not enabled",
        ),
        (
            "up + fill(0) up",
            "1:1: parse error: binop fill modifiers are experimental and not enabled",
        ),
        (
            "up[5m * 2]",
            "1:4: parse error: experimental duration expression is not enabled",
        ),
        (
            "up[step()]",
            "1:4: parse error: experimental duration expression is not enabled",
        ),
        (
            "up offset max_of(1s, 2s)",
            "1:11: parse error: experimental duration expression is not enabled",
        ),
    ] {
        assert_eq!(message(query, &off), wanted, "{query:?}");
        assert!(
            parse_with(query, &ParserOptions::everything()).is_ok(),
            "{query}"
        );
    }
}

#[test]
fn duration_expressions_are_on_by_default() {
    for query in ["up[5m * 2]", "up[5m:step()]", "up offset -(1m + 2)"] {
        assert!(parse(query).is_ok(), "{query}");
    }
}

#[test]
fn words_of_the_language_are_metrics_and_labels_too() {
    let options = ParserOptions::everything();
    for query in [
        "sum + avg",
        "offset offset 5m",
        "by by_",
        "start / end",
        "and and and",
        "sum by (bool, on, atan2, sum, start) (step)",
        "other + fill_left(0) fill_left",
        "up{by=\"x\", offset=\"y\"}",
        "anchored[5m] anchored",
        "min_of + max_of",
        "{\"my metric\", \"my label\"=\"x\"}",
        "a:b:c",
        "NaN + iNF",
    ] {
        let parsed = parse_with(query, &options);
        let wanted = query != "by by_";
        assert_eq!(parsed.is_ok(), wanted, "{query}: {parsed:?}");
    }
}

#[test]
fn operators_bind_as_in_prometheus() {
    for (query, wanted) in [
        ("1 + 2 * 3 ^ 4 ^ 5", "(1 + (2 * (3 ^ (4 ^ 5))))"),
        ("1 - 2 - 3", "((1 - 2) - 3)"),
        ("-a ^ 2", "-(a ^ 2)"),
        ("-a * 2", "(-a * 2)"),
        ("a or b and c == d + e", "(a or (b and (c == (d + e))))"),
        ("2 ^ -a * b", "((2 ^ -a) * b)"),
        ("a offset 5m + b", "(a offset 5m + b)"),
        ("a offset -5m ^ 2", "(a offset -5m ^ 2)"),
        ("a </ 1 + 2", "(a </ (1 + 2))"),
    ] {
        let expr = parse_with(query, &ParserOptions::everything()).unwrap();
        assert_eq!(braced(&expr), wanted, "{query}");
    }
}

fn braced(expr: &Expr) -> String {
    match expr {
        Expr::Binary(b) => format!("({} {} {})", braced(&b.lhs), b.op, braced(&b.rhs)),
        Expr::Unary(u) => format!("{}{}", u.op.name(), braced(&u.expr)),
        other => other.to_string(),
    }
}

#[test]
fn spans_are_those_of_the_text() {
    let query = r#"sum by (a) (rate(x{a="b"}[5m] offset 1m)) + -(y[1h:1m] @ end())"#;
    let expr = parse(
        query
            .replace("-(y[1h:1m] @ end())", "-(y @ end())")
            .as_str(),
    )
    .unwrap();
    let mut texts = Vec::new();
    let text = query.replace("-(y[1h:1m] @ end())", "-(y @ end())");
    expr.walk(&mut |e| texts.push(text[e.span().start..e.span().end].to_owned()));
    let wanted = [
        text.as_str(),
        r#"sum by (a) (rate(x{a="b"}[5m] offset 1m))"#,
        r#"rate(x{a="b"}[5m] offset 1m)"#,
        r#"x{a="b"}[5m] offset 1m"#,
        "-(y @ end())",
        "(y @ end())",
        "y @ end()",
    ];
    assert_eq!(texts, wanted);
}

#[test]
fn hostile_queries_end_in_an_error_soon() {
    let options = ParserOptions::everything();
    let many = |text: &str| text.repeat(200_000 / text.len());
    for query in [
        many("("),
        many("-"),
        many("sum("),
        many("sum(a)+"),
        many("a or "),
        many("2^"),
        format!("x[{}", many("(")),
        format!("x[{}", many("1+")),
        format!("x[{}", many("-")),
        format!("x[{}", many("min_of(")),
        format!("x{}", many("[5m:]")),
        many("{"),
        many("'"),
        many("a offset 1 "),
        format!("a{}", many(" offset 0s")),
        format!("1{}", many("+1")),
        format!("x[1{}]", many("+1")),
    ] {
        // What is known to be zero may stand any number of times; all else goes too deep or is never closed.
        match parse_with(&query, &options) {
            Ok(_) => assert!(query.ends_with("offset 0s")),
            Err(error) => assert!(error.message.len() < 500, "{}", error.message),
        }
    }
    let long = "x".repeat(10 << 20);
    let error = parse(&long).unwrap_err().to_string();
    assert_eq!(
        error,
        "1:1: parse error: query of 10485760 bytes exceeds the 1048576 allowed (max_query_bytes)"
    );
    let deep = format!("{}1{}", "(".repeat(501), ")".repeat(501));
    let error = parse(&deep).unwrap_err().to_string();
    assert!(
        error.ends_with("nests deeper than the 500 levels allowed (max_depth)"),
        "{error}"
    );
    let regex = format!("x{{a=~\"{}\"}}", "a".repeat(600_000));
    let error = parse(&regex).unwrap_err().to_string();
    assert!(error.contains("max_regex_bytes"), "{error}");
}

#[test]
fn the_highest_trees_fit_a_small_stack() {
    let options = ParserOptions::everything();
    let n = options.max_depth - 2;
    let queries = [
        format!("{}1{}", "(".repeat(n), ")".repeat(n)),
        format!("{}a{}", "sum(".repeat(n), ")".repeat(n)),
        format!("{}a{}", "abs(".repeat(n), ")".repeat(n)),
        format!("1{}", "+1".repeat(n)),
        format!("{}1", "1^".repeat(n)),
        format!("{}a", "-".repeat(n)),
        format!("x[{}1{}]", "(".repeat(n), ")".repeat(n)),
    ];
    let run = move || {
        for query in queries {
            let expr = parse_with(&query, &options).unwrap();
            let text = expr.to_string();
            assert_eq!(parse_with(&text, &options).unwrap().to_string(), text);
            let _ = (expr.clone(), expr.pretty(), expr.to_json());
        }
    };
    let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(run);
    thread.unwrap().join().unwrap();
}

#[test]
fn selectors_of_series_stand_alone() {
    let options = ParserOptions::default();
    let matchers = parse_selector(r#"up{a=~"b|c"}"#, &options).unwrap();
    let words: Vec<_> = matchers.iter().map(ToString::to_string).collect();
    assert_eq!(words, [r#"a=~"b|c""#, r#"__name__="up""#]);
    assert_eq!(parse_selector("{}", &options), Ok(Vec::new()));
    for bad in ["up offset 5m", "up[5m]", "1", "up @ 1", "sum(up)", ""] {
        assert!(parse_selector(bad, &options).is_err(), "{bad}");
    }
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in "\\PC*|[a-z{}\\[\\]()\"'=~!,<>/:@# 0-9.mes_*^+-]*") {
        for options in [ParserOptions::default(), ParserOptions::everything()] {
            if let Err(error) = parse_with(&text, &options) {
                let _ = error.to_string();
                prop_assert!(error.span.start <= error.span.end && error.span.end <= text.len());
            }
            let _ = parse_selector(&text, &options);
        }
    }
}
