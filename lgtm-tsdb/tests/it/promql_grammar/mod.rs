//! Makes queries by the grammar: each is well typed, in any spelling that the language allows.

use proptest::prelude::*;

/// How much of the language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// All of it.
    Full,
    /// What older grammars have too.
    Common,
}

use Dialect::{Common, Full};

fn words(list: &'static [&'static str]) -> BoxedStrategy<String> {
    proptest::sample::select(list)
        .prop_map(str::to_owned)
        .boxed()
}

/// One of the second list too, if the whole language is wanted.
fn words_of(
    dialect: Dialect,
    common: &'static [&'static str],
    more: &'static [&'static str],
) -> BoxedStrategy<String> {
    match dialect {
        Common => words(common),
        Full => prop_oneof![words(common), words(more)].boxed(),
    }
}

/// Empty half of the time.
fn maybe(text: BoxedStrategy<String>) -> BoxedStrategy<String> {
    prop_oneof![Just(String::new()), text].boxed()
}

fn number(dialect: Dialect) -> BoxedStrategy<String> {
    let common = prop_oneof![
        (0u32..100).prop_map(|n| n.to_string()),
        (0u32..1000, 0u32..1000).prop_map(|(a, b)| format!("{a}.{b}")),
        words(&[
            "0x1F", "0XabC", ".5", "5.", "1e3", "1E-2", "Inf", "inf", "NaN"
        ]),
    ];
    match dialect {
        Common => common.boxed(),
        Full => prop_oneof![
            4 => common,
            1 => words(&["017", "1_000", "0x_1f", "089", "1_0.2_5e1_0"]),
            1 => duration(),
            1 => any::<f64>()
                .prop_filter("finite", |v| v.is_finite())
                .prop_map(|v| format!("{:e}", v.abs())),
        ]
        .boxed(),
    }
}

fn duration() -> BoxedStrategy<String> {
    let units = ["y", "w", "d", "h", "m", "s", "ms"];
    prop::collection::vec(prop::option::weighted(0.3, 1u32..50), units.len())
        .prop_map(move |counts| {
            let parts = counts.iter().zip(units);
            let text: String = parts
                .filter_map(|(count, unit)| count.map(|n| format!("{n}{unit}")))
                .collect();
            if text.is_empty() { "5m".into() } else { text }
        })
        .boxed()
}

/// A length in brackets or behind `offset`.
fn length(dialect: Dialect) -> BoxedStrategy<String> {
    if dialect == Common {
        return duration();
    }
    let leaf = prop_oneof![
        3 => duration(),
        1 => (1u32..1000).prop_map(|n| n.to_string()),
        1 => words(&["step()", "range()", "STEP()", "1.5", "0x10"]),
    ];
    let operators = &["+", "-", "*", "/", "%", "^"];
    leaf.prop_recursive(3, 8, 2, move |inner| {
        prop_oneof![
            (inner.clone(), words(operators), inner.clone())
                .prop_map(|(a, op, b)| format!("{a} {op} {b}")),
            inner.clone().prop_map(|a| format!("({a})")),
            inner.clone().prop_map(|a| format!("-({a})")),
            (words(&["min_of", "max_of"]), inner.clone(), inner)
                .prop_map(|(f, a, b)| format!("{f}({a}, {b})")),
        ]
    })
    .boxed()
}

/// Behind `offset` only one operand stands, so what is composed is put in parentheses.
fn offset(dialect: Dialect) -> BoxedStrategy<String> {
    let (sign, plain) = (words_of(dialect, &["", "-"], &["+"]), duration());
    let plain = (sign, plain).prop_map(|(sign, length)| format!(" offset {sign}{length}"));
    match dialect {
        Common => plain.boxed(),
        Full => prop_oneof![
            plain,
            (words(&["", "-"]), length(Full)).prop_map(|(sign, l)| format!(" offset {sign}({l})")),
            words(&[
                " offset step()",
                " offset -range()",
                " offset -max_of(1s, step())"
            ]),
        ]
        .boxed(),
    }
}

fn at(dialect: Dialect) -> BoxedStrategy<String> {
    let numbers = prop_oneof![
        (0u32..2_000_000_000).prop_map(|n| n.to_string()),
        (0u32..2_000_000_000, 0u32..1000).prop_map(|(s, ms)| format!("{s}.{ms:03}")),
    ];
    let times =
        (words_of(dialect, &["", "-"], &["+"]), numbers).prop_map(|(s, n)| format!(" @ {s}{n}"));
    prop_oneof![times, words(&[" @ start()", " @ end()"])].boxed()
}

fn modifiers(dialect: Dialect) -> BoxedStrategy<String> {
    (maybe(offset(dialect)), maybe(at(dialect)), any::<bool>())
        .prop_map(|(offset, at, first)| {
            if first {
                format!("{offset}{at}")
            } else {
                format!("{at}{offset}")
            }
        })
        .boxed()
}

fn text() -> BoxedStrategy<String> {
    prop_oneof![
        "[a-z0-9 _.*|-]{0,8}".prop_map(|s| format!("\"{s}\"")),
        "[a-z\"\\\\]{0,4}".prop_map(|s| format!("{s:?}")),
        "[a-z\"]{0,6}".prop_map(|s| format!("'{s}'")),
        "[a-z'\"]{0,6}".prop_map(|s| format!("`{s}`")),
        "[ä日\u{1f600}\n\t]{0,3}".prop_map(|s| format!("{s:?}")),
    ]
    .boxed()
}

fn label(dialect: Dialect) -> BoxedStrategy<String> {
    words_of(
        dialect,
        &["a", "le", "job", "_x1"],
        &["\"a b\"", "'my.label'", "\"日\""],
    )
}

fn label_in_list(dialect: Dialect) -> BoxedStrategy<String> {
    prop_oneof![3 => label(dialect), 1 => words(&["bool", "on", "by", "sum", "start", "offset"])]
        .boxed()
}

fn labels(dialect: Dialect) -> BoxedStrategy<String> {
    (
        prop::collection::vec(label_in_list(dialect), 0..4),
        words(&["", ","]),
    )
        .prop_map(|(names, comma)| {
            let comma = if names.is_empty() { "" } else { comma.as_str() };
            format!("({}{comma})", names.join(", "))
        })
        .boxed()
}

fn matchers(dialect: Dialect) -> BoxedStrategy<String> {
    let plain = (label(dialect), words(&["=", "!="]), text());
    let regex = (
        label(dialect),
        words(&["=~", "!~"]),
        words(&["\"a|b\"", "'x.*'", "`[0-9]+`"]),
    );
    let one =
        prop_oneof![plain, regex].prop_map(|(label, op, value)| format!("{label}{op}{value}"));
    prop::collection::vec(one, 0..4)
        .prop_map(|all| all.join(", "))
        .boxed()
}

/// A selector without modifiers.
fn series(dialect: Dialect) -> BoxedStrategy<String> {
    let names = words_of(
        dialect,
        &["up", "http_requests_total", "a:b:c", "_x"],
        &[
            "sum", "offset", "start", "step", "by", "fill", "anchored", "min_of", "limitk",
        ],
    );
    let named = (
        names,
        maybe(matchers(dialect).prop_map(|m| format!("{{{m}}}")).boxed()),
    );
    let braces = matchers(dialect).prop_map(|m| {
        let comma = if m.is_empty() { "" } else { ", " };
        format!("{{__name__=\"x\"{comma}{m}}}")
    });
    let plain = prop_oneof![3 => named.prop_map(|(n, m)| format!("{n}{m}")), 1 => braces];
    match dialect {
        Common => plain.boxed(),
        Full => prop_oneof![5 => plain, 1 => words(&["{\"my metric\"}", "{'x', \"a b\"!=\"\"}"])]
            .boxed(),
    }
}

fn selector(dialect: Dialect) -> BoxedStrategy<String> {
    (series(dialect), modifiers(dialect))
        .prop_map(|(s, m)| format!("{s}{m}"))
        .boxed()
}

/// Ranges over selectors and over `vector`.
fn matrix(dialect: Dialect, vector: BoxedStrategy<String>) -> BoxedStrategy<String> {
    let edges = words_of(dialect, &[""], &[" anchored", " smoothed"]);
    let range = (series(dialect), length(dialect), edges, modifiers(dialect))
        .prop_map(|(s, l, e, m)| format!("{s}[{l}]{e}{m}"));
    let step = maybe(length(dialect));
    let subquery = (vector, length(dialect), step, modifiers(dialect))
        .prop_map(|(v, l, step, m)| format!("({v})[{l}:{step}]{m}"));
    prop_oneof![3 => range, 1 => subquery].boxed()
}

fn aggregate(dialect: Dialect, vector: BoxedStrategy<String>) -> BoxedStrategy<String> {
    let modifier = (words(&["by", "without", "BY"]), labels(dialect))
        .prop_map(|(word, labels)| format!("{word} {labels}"))
        .boxed();
    let plain = words(&[
        "sum", "avg", "count", "min", "max", "group", "stddev", "stdvar", "SUM",
    ])
    .prop_map(|op| (op, String::new()))
    .boxed();
    let with_param = (
        words_of(
            dialect,
            &["topk", "bottomk", "quantile"],
            &["limitk", "limit_ratio"],
        ),
        number(dialect),
    )
        .prop_map(|(op, n)| (op, format!("{n}, ")))
        .boxed();
    let with_text = text()
        .prop_map(|t| ("count_values".to_owned(), format!("{t}, ")))
        .boxed();
    let op = prop_oneof![3 => plain, 1 => with_param, 1 => with_text];
    (op, maybe(modifier), vector, any::<bool>())
        .prop_map(|((op, param), modifier, vector, first)| {
            if first {
                format!("{op} {modifier} ({param}{vector})")
            } else {
                format!("{op}({param}{vector}) {modifier}")
            }
        })
        .boxed()
}

/// What stands between two vectors.
fn operator(dialect: Dialect) -> BoxedStrategy<String> {
    let arithmetic = words_of(
        dialect,
        &["+", "-", "*", "/", "%", "^", "atan2"],
        &["</", ">/"],
    );
    let comparison = (
        words(&["==", "!=", "<", "<=", ">", ">="]),
        words(&["", " bool"]),
    )
        .prop_map(|(op, b)| format!("{op}{b}"));
    let matching =
        (words(&["on", "ignoring"]), labels(dialect)).prop_map(|(w, l)| format!(" {w} {l}"));
    let group = words(&[
        "",
        " group_left ()",
        " group_right ()",
        " group_left (zone)",
    ]);
    let matching = (matching, group)
        .prop_map(|(m, g)| format!("{m}{g}"))
        .boxed();
    let fill = words_of(
        dialect,
        &[""],
        &[
            " fill (0)",
            " fill_left (-1.5)",
            " fill_right(NaN)",
            " fill_left (2e6) fill_right (5m)",
        ],
    );
    let set = (
        words(&["and", "or", "unless"]),
        maybe(
            (words(&["on", "ignoring"]), labels(dialect))
                .prop_map(|(w, l)| format!(" {w} {l}"))
                .boxed(),
        ),
    );
    prop_oneof![
        3 => (prop_oneof![arithmetic, comparison.boxed()], maybe(matching), fill)
            .prop_map(|(op, m, f)| format!("{op}{m}{f}")),
        1 => set.prop_map(|(op, m)| format!("{op}{m}")),
    ]
    .boxed()
}

fn calls(dialect: Dialect, vector: BoxedStrategy<String>) -> BoxedStrategy<String> {
    let range = matrix(dialect, vector.clone());
    let over_time = words_of(
        dialect,
        &[
            "rate",
            "increase",
            "delta",
            "max_over_time",
            "resets",
            "absent_over_time",
        ],
        &["mad_over_time", "ts_of_max_over_time", "first_over_time"],
    );
    let maps = words_of(
        dialect,
        &["abs", "ceil", "sort", "timestamp", "histogram_count"],
        &["start_timestamp"],
    );
    let common = prop_oneof![
        3 => (over_time, range.clone()).prop_map(|(f, m)| format!("{f}({m})")),
        2 => (maps, vector.clone()).prop_map(|(f, v)| format!("{f}({v})")),
        1 => (number(dialect), vector.clone()).prop_map(|(n, v)| format!("histogram_quantile({n}, {v})")),
        1 => (number(dialect), range).prop_map(|(n, m)| format!("quantile_over_time({n}, {m})")),
        1 => (vector.clone(), text(), text()).prop_map(|(v, a, b)| format!("label_replace({v}, \"a\", {a}, \"b\", {b})")),
        1 => (vector.clone(), prop::collection::vec(text(), 0..3)).prop_map(|(v, rest)| {
            let rest: String = rest.iter().map(|t| format!(", {t}")).collect();
            format!("label_join({v}, 'a', '-'{rest}, 'z')")
        }),
        1 => number(dialect).prop_map(|n| format!("vector({n})")),
        1 => vector.clone().prop_map(|v| format!("round({v}, scalar(up))")),
        1 => words(&["hour()", "year(up)", "vector(time())", "round(x)"]),
    ];
    match dialect {
        Common => common.boxed(),
        Full => prop_oneof![
            8 => common,
            1 => (vector.clone(), matchers(dialect)).prop_map(|(v, m)| format!("info({v}, {{{m}}})")),
            1 => vector.prop_map(|v| format!("sort_by_label(info({v}), 'a', 'b')")),
        ]
        .boxed(),
    }
}

/// An instant vector.
fn vector(dialect: Dialect) -> BoxedStrategy<String> {
    selector(dialect)
        .prop_recursive(4, 24, 3, move |inner| {
            let inner = inner.boxed();
            let two = (inner.clone(), operator(dialect), inner.clone());
            let scalar = words_of(dialect, &["+", "*", "^", "> bool", "<="], &[">/"]);
            prop_oneof![
                3 => calls(dialect, inner.clone()),
                3 => aggregate(dialect, inner.clone()),
                3 => two.prop_map(|(a, op, b)| if op.contains(' ') {
                    // Labels match vectors only, whatever binds tighter.
                    format!("({a}) {op} ({b})")
                } else {
                    format!("{a} {op} {b}")
                }),
                1 => (inner.clone(), scalar.clone(), number(dialect)).prop_map(|(v, op, n)| format!("({v}) {op} {n}")),
                1 => (number(dialect), scalar, inner.clone()).prop_map(|(n, op, v)| format!("{n} {op} ({v})")),
                1 => inner.clone().prop_map(|v| format!("({v})")),
                1 => (words(&["-", "+", "- -"]), inner.clone()).prop_map(|(sign, v)| format!("{sign}({v})")),
            ]
        })
        .boxed()
}

/// Any query.
pub(crate) fn query(dialect: Dialect) -> BoxedStrategy<String> {
    let scalars = (
        number(dialect),
        words(&["+", "-", "*", "/", "%", "^", "== bool"]),
        number(dialect),
    )
        .prop_map(|(a, op, b)| format!("{a} {op} -{b}"));
    prop_oneof![
        8 => vector(dialect),
        1 => matrix(dialect, vector(dialect)),
        1 => scalars,
        1 => text(),
        1 => number(dialect),
    ]
    .boxed()
}

/// A query with some of its characters removed, doubled, replaced or brought in.
pub(crate) fn mutated(dialect: Dialect) -> BoxedStrategy<String> {
    let signs = proptest::sample::select(
        &[
            '(', ')', '[', ']', '{', '}', '"', '\'', ',', ':', '-', '@', '5', 'm', 'x', ' ', '日',
        ][..],
    );
    let edits = prop::collection::vec((any::<proptest::sample::Index>(), 0u8..4, signs), 1..5);
    (query(dialect), edits)
        .prop_map(|(query, edits)| {
            let mut chars: Vec<char> = query.chars().collect();
            for (place, kind, sign) in edits {
                if chars.is_empty() {
                    break;
                }
                let at = place.index(chars.len());
                match kind {
                    0 => drop(chars.remove(at)),
                    1 => chars.insert(at, chars[at]),
                    2 => chars[at] = sign,
                    _ => chars.insert(at, sign),
                }
            }
            chars.into_iter().collect()
        })
        .boxed()
}
