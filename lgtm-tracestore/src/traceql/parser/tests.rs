use lgtm_core::testing::Dice;
use proptest::prelude::*;

use super::*;

fn refused(text: &str) -> String {
    match parse(text) {
        Ok(query) => panic!("{text} is {query}"),
        Err(e) => e.to_string(),
    }
}

fn printed(text: &str) -> String {
    parse(text)
        .unwrap_or_else(|e| panic!("{text}: {e}"))
        .to_string()
}

#[test]
fn errors_tell_where() {
    for (text, error) in [
        (
            "{ status = wrong }",
            "parse error at line 1, col 12: unknown identifier: wrong",
        ),
        (
            "{ a\n }",
            "parse error at line 1, col 3: unknown identifier: a",
        ),
        (
            "{ true } |\n  foo()",
            "parse error at line 2, col 3: unknown identifier: foo",
        ),
        (
            "{ true ",
            "parse error at line 1, col 8: syntax error: unexpected $end",
        ),
        (
            "{ .a = \"x",
            "parse error at line 1, col 8: literal not terminated",
        ),
        (
            "{ .a = 'x' }",
            "parse error at line 1, col 8: unknown identifier: 'x'",
        ),
        (
            "{ .a = 'xy' }",
            "parse error at line 1, col 8: invalid char literal",
        ),
        (
            "{ true } /* x",
            "parse error at line 1, col 10: comment not terminated",
        ),
        (
            "{ kind = 2 }",
            "binary operations must operate on the same type: kind = 2",
        ),
        (
            "{ duration }",
            "span filter field expressions must resolve to a boolean: { duration }",
        ),
        (
            "{ status > ok }",
            "illegal operation for the given types: status > ok",
        ),
        (
            "{ status = nil }",
            "status=nil is not valid because intrinsics cannot be nil",
        ),
        ("{ parent.resource.x = 1 }", "parent not yet supported"),
        ("{ parent = 1 }", "intrinsic (parent) not yet supported"),
        (
            "{ } | avg(duration) + 1s > 2s",
            "scalar filter lhs of type (%v) not yet supported",
        ),
        (
            "({} | count()) > ({} | count())",
            "scalar filter lhs of type (%v) not yet supported",
        ),
        (
            "{ } | rate() by (name, kind, status, .a, .b, .c)",
            "metrics group by 6 values not yet supported",
        ),
        (
            "{ } | avg_over_time(duration) by (name, kind, status, .a, .b)",
            "metrics group by 5 values not yet supported",
        ),
        (
            "{ } | quantile_over_time(duration, 1.5)",
            "quantile must be between 0 and 1: 1.5",
        ),
        (
            "{ } | compare({ true }, 1001)",
            "compare() top number of values must be an integer between 1 and 1000",
        ),
    ] {
        assert_eq!(refused(text), error, "{text}");
    }
}

#[test]
fn what_is_no_query_is_refused() {
    for text in [
        "",
        "{",
        "}",
        "{}}",
        "{ } |",
        "{ } | count()",
        "5 > 3",
        "coalesce()",
        "rate()",
        "{ } | count() > \"x\"",
        "{ .a = 0x1F }",
        "{ .a = 1_000 }",
        "{ .a = 5q }",
        "{ .a = 1.5d }",
        "{ .a = [1] }",
        "{ .a == 1 }",
        "{ .a = \"\\$\" }",
        "{ trace:foo = 1 }",
        "{ childCount = 1 }",
        "{ . = 1 }",
        "{ .a = 99999999999999999999 }",
        "{ } with (most_recent)",
        "{ } | topk(3)",
        "{ } | rate() | topk(0)",
        "{ } | rate() | topk()",
        "{ } | rate() by ()",
        "{ } | rate(name)",
        "({ } | count() > 1) && { }",
        "{ } | compare({ true }) | topk(2)",
        "({} | compare({true})) / 2",
        "{ .a =~ \"(\" }",
        "{ .a =~ .b }",
        "{ name =~ 5 }",
        "{ kind =~ \"x\" }",
        "{ .a = 1 } garbage",
        "({ } | by(name)) > ({ })",
        "{ } | by(5)",
        "{ } | avg(5) > 1",
        "{ } | avg(name) > 1",
    ] {
        refused(text);
    }
}

#[test]
fn queries_print_in_one_way() {
    for (text, wanted) in [
        ("{}", "{ true }"),
        ("{.a=1&&name=\"x\"}", "{ (.a = 1) && (name = \"x\") }"),
        ("{ .a || .b && .c }", "{ (.a || .b) && .c }"),
        ("{ -.a * .b = 1 }", "{ (-(.a * .b)) = 1 }"),
        ("{ !.a && .b }", "{ (!.a) && .b }"),
        ("{ 2 ^ 3 ^ .a = 1 }", "{ (2 ^ (3 ^ .a)) = 1 }"),
        ("{ span.\"a b\" = 1s500ms }", "{ span.\"a b\" = 1.5s }"),
        (
            "{ span.resource.id = minInt }",
            "{ span.resource.id = minInt }",
        ),
        ("{ trace:rootName = `a\\b` }", "{ rootName = \"a\\\\b\" }"),
        ("{ .a = 1 /* x */ }", "{ .a = 1 }"),
        ("// head\n{ true } // end", "{ true }"),
        ("count() > 2*3", "{ true } | count() > 6"),
        ("{} | count() > -1", "{ true } | count() > -1"),
        (
            "{ } && { } > { }",
            "({ true }) && (({ true }) > ({ true }))",
        ),
        (
            "{ } | select(.a) | by(name) | coalesce()",
            "{ true } | select(.a) | by(name) | coalesce()",
        ),
        (
            "{ } | rate() by (.x) > 5 < 1m | topk(3)",
            "{ true } | rate() by(.x) > 5.0 < 60.0 | topk(3)",
        ),
        ("({ } | rate()) * 60", "(({ true } | rate()) * 60.0)"),
        (
            "(({}|rate()) / ({}|rate())) | topk(2)",
            "(({ true } | rate()) / ({ true } | rate())) | topk(2)",
        ),
        (
            "{ } with (most_recent=true, x=1)",
            "{ true } with(most_recent=true, x=1)",
        ),
        ("{ span.a/b = 1 }", "{ span.a/b = 1 }"),
        ("{ span.\"q\\\"uote\" = 1 }", "{ span.\"q\\\"uote\" = 1 }"),
    ] {
        assert_eq!(printed(text), wanted, "{text}");
        assert_eq!(printed(wanted), wanted, "{wanted}");
    }
}

#[test]
fn depth_and_length_are_bounded() {
    let nested = |n: usize| format!("{{ {}true{} }}", "(".repeat(n), ")".repeat(n));
    assert!(parse(&nested(100)).is_ok());
    for text in [
        nested(10_000),
        format!("{}{{}}{}", "(".repeat(10_000), ")".repeat(10_000)),
        format!("{{ {}.a }}", "!".repeat(60_000)),
        format!("{{ {}.a }}", "-".repeat(60_000)),
        format!("{{ .a = 1{} }}", " ^ 1".repeat(20_000)),
        format!("{{ .a = 1{} }}", " + 1".repeat(20_000)),
        format!("{{}}{}", " > {}".repeat(20_000)),
        format!("{{}} | count() > {}1", "-".repeat(60_000)),
    ] {
        let start: String = text.chars().take(20).collect();
        assert!(refused(&text).contains("parse error"), "{start}");
    }
    let many = format!("{{ .a = 1{} }}", " || .a = 1".repeat(10_000));
    assert!(parse(&many).is_ok());
    assert!(refused(&"x".repeat(MAX_QUERY_BYTES + 1)).contains("131072"));
}

proptest! {
    #[test]
    fn random_tokens_never_panic(seed in any::<u64>(), len in 1usize..40) {
        const PIECES: [&str; 46] = [
            "{", "}", "(", ")", "|", "||", "&&", "!", "~", ">", ">>", "<", "&>", "!>", "=", "!=", "=~", "!~", "+", "-",
            "*", "/", "^", "%", ",", ".a", "span.b", "name", "duration", "nil", "true", "5", "1.5", "1s", "\"x\"",
            "count()", "avg(", "by(", "rate()", "with(", "select(", "coalesce()", "topk(2)", "event:name", "parent", "é",
        ];
        let mut dice = Dice::seeded(seed);
        let pieces = (0..len).map(|_| PIECES[dice.below(PIECES.len() as u64) as usize]);
        let text = pieces.collect::<Vec<_>>().join(" ");
        if let Ok(query) = parse(&text) {
            let again = query.to_string();
            prop_assert_eq!(parse(&again).unwrap_or_else(|e| panic!("{text} -> {again}: {e}")), query);
        }
    }

    #[test]
    fn random_text_never_panics(text in "\\PC{0,60}") {
        let _ = parse(&text);
        let _ = parse(&format!("{{ {text} }}"));
    }
}
