use std::sync::Arc;

use lgtm_core::exec::CancelToken;
use lgtm_core::model::Labels;
use proptest::prelude::*;

use super::{Flow, PipelineScratch, PipelineUse, StreamLabels, compile};
use crate::entry::{EntryBlock, EntryBlockBuilder, SymbolListBuilder, SymbolPair};
use crate::logql::ast::{Expr, Stage};
use crate::logql::parser::parse;

fn stages(text: &str) -> Vec<Stage> {
    match parse(&format!(r#"{{a="b"}} {text}"#)).unwrap() {
        Expr::Log(log) => log.stages,
        Expr::Metric(other) => panic!("{other}"),
    }
}

fn block(lines: &[Vec<u8>]) -> EntryBlock {
    let mut b = EntryBlockBuilder::copying(0);
    let mut symbols = SymbolListBuilder::default();
    for (n, line) in lines.iter().enumerate() {
        b.push_copy(n as i64, line).unwrap();
        if n % 3 == 0 {
            let name = symbols.intern("trace").unwrap();
            let value = symbols.intern("t1").unwrap();
            b.push_metadata(SymbolPair { name, value });
        }
    }
    b.finish(Arc::new(symbols.finish()))
}

/// Lines and labels of what passes.
fn passed(text: &str, lines: &[Vec<u8>]) -> Vec<(Vec<u8>, String)> {
    run(text, lines, None)
}

fn run(text: &str, lines: &[Vec<u8>], labels: Option<Vec<String>>) -> Vec<(Vec<u8>, String)> {
    let usage = PipelineUse {
        labels,
        reads_lines: true,
        max_template_bytes: 1 << 16,
    };
    let pipeline = compile(&stages(text), &usage).unwrap();
    let stream = StreamLabels::new(&Labels::from_pairs([("a", "b"), ("c", "stream")]).unwrap());
    let mut out = Vec::new();
    let mut scratch = PipelineScratch::default();
    let cancel = CancelToken::new();
    pipeline
        .run(
            &stream,
            &block(lines),
            false,
            &mut scratch,
            &cancel,
            &mut |p| {
                let labels = p.labels.to_labels(p.stream, |_, _| false);
                out.push((p.line.to_vec(), labels.to_string()));
                Ok(Flow::Continue)
            },
        )
        .unwrap();
    out
}

fn one(text: &str, line: &str) -> String {
    passed(text, &[Vec::new(), line.as_bytes().to_vec()])
        .pop()
        .map_or("nothing".to_owned(), |p| p.1)
}

#[test]
fn json_becomes_labels() {
    for (line, wanted) in [
        (
            r#" {"x":1.50,"n":{"a-b":true,"c":null},"l":[1],"x":2,"s":"a\u00e9\n"} tail"#,
            r#"{a="b", c="stream", n_a_b="true", s="aé\n", x="1.50"}"#,
        ),
        (
            r#"{"c":"mine","1k":"v","":"w",}"#,
            r#"{_1k="v", a="b", c="stream", c_extracted="mine"}"#,
        ),
    ] {
        assert_eq!(one("| json", line), wanted, "{line}");
    }
    assert!(one("| json", r#"{"x":"1","y":{"#).contains(r#"__error__="JSONParserErr""#));
    assert!(one("| json", r#"{"x":"1","y":{"#).contains(r#"x="1""#));
}

#[test]
fn a_needed_label_is_found_without_the_others() {
    let line = br#"{"a1":"x","n":{"k":"v"},"z":"last"}"#.to_vec();
    let needed = |names: &[&str]| {
        let names = names.iter().map(|n| (*n).to_owned()).collect();
        run("| json", &[Vec::new(), line.clone()], Some(names))
            .pop()
            .unwrap()
            .1
    };
    assert_eq!(needed(&["n_k"]), r#"{a="b", c="stream", n_k="v"}"#);
    assert_eq!(needed(&["z", "nope"]), r#"{a="b", c="stream", z="last"}"#);
}

#[test]
fn logfmt_skips_bad_pairs() {
    assert_eq!(
        one(
            "| logfmt",
            r#"=x k="a b"c=d e f="" g=h=i p="C:\U" q=1 r="open"#
        ),
        r#"{a="b", c="stream", c_extracted="d", k="a b", q="1"}"#
    );
}

#[test]
fn a_filter_on_a_field_looks_for_its_value_first_and_finds_escaped_ones_too() {
    let lines: Vec<Vec<u8>> = [
        r#"{"u":"abc"}"#,
        r#"{"u":"ab\u0063"}"#,
        r#"{"u":"x","v":"abc"}"#,
        "abc",
    ]
    .iter()
    .map(|l| l.as_bytes().to_vec())
    .collect();
    let found: Vec<_> = passed(r#"| json | u="abc""#, &lines)
        .into_iter()
        .map(|p| p.0)
        .collect();
    assert_eq!(found, [lines[0].clone(), lines[1].clone()]);
}

fn stage_text() -> impl Strategy<Value = String> {
    prop::collection::vec(
        prop::sample::select(vec![
            "| json",
            "| logfmt",
            "| logfmt --strict --keep-empty",
            "| unpack",
            "| decolorize",
            r#"| json x="k.y[0]", z"#,
            r#"| logfmt k, w="v""#,
            r#"| pattern "<p> <q>=<_>""#,
            r#"| regexp "(?P<r>[a-z]+)=(?P<s>.*)""#,
            r#"| k = "v""#,
            "| k > 5",
            "| k >= 1KB or v < 1s",
            r#"| k = ip("1.2.3.4")"#,
            r#"|= "k""#,
            r#"!= "v" or "k""#,
            r#"|~ "k.v""#,
            r#"|> "<_>k<_>""#,
            r#"|= ip("10.0.0.0/8")"#,
            r#"| line_format "{{.k}}-{{.v}}""#,
            r#"| label_format n=k, m="{{.v | upper}}""#,
            "| drop k, c",
            r#"| keep k, a="b""#,
        ]),
        0..5,
    )
    .prop_map(|s| s.join(" "))
}

fn line() -> impl Strategy<Value = Vec<u8>> {
    let pieces = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        "\"",
        "\\",
        ":",
        ",",
        "k",
        "v",
        "\"k\"",
        "\"v\":",
        "=",
        " ",
        "k=",
        "5",
        "null",
        "true",
        "{\"k\":{\"y\":[\"z\"]}",
        "\\u00",
        "\\ud83d\\ude00",
        "_entry",
        "\u{1b}[31m",
        "10.0.0.1",
        "é",
    ]);
    let text = prop::collection::vec(pieces, 0..20).prop_map(|p| p.concat().into_bytes());
    prop_oneof![text, any::<Vec<u8>>()]
}

proptest! {
    #[test]
    fn any_bytes_go_through_any_pipeline(text in stage_text(), lines in prop::collection::vec(line(), 0..6)) {
        // Some stages take what follows them for their own.
        if parse(&format!(r#"{{a="b"}} {text}"#)).is_ok() {
            passed(&text, &lines);
        }
    }

    /// The search over a whole block finds what a look at each line finds.
    #[test]
    fn needles_are_found_in_the_lines_that_have_them(
        lines in prop::collection::vec("[ab]{0,6}", 0..30), needle in "[ab]{1,3}",
    ) {
        let bytes: Vec<Vec<u8>> = lines.iter().map(|l| l.clone().into_bytes()).collect();
        let found: Vec<_> = passed(&format!("|= {needle:?}"), &bytes).into_iter().map(|p| p.0).collect();
        let wanted: Vec<_> = bytes.into_iter().filter(|l| {
            l.windows(needle.len()).any(|w| w == needle.as_bytes())
        }).collect();
        prop_assert_eq!(found, wanted);
    }
}
