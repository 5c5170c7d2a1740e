//! Random queries over random traces: the engine, which works by columns, gives what a plain evaluator gives span by span; metrics count what a search
//! finds; what holders may leave out is never needed.

#![allow(clippy::print_stdout, reason = "a test says what it leaves out")]
#![allow(clippy::unwrap_used, reason = "what serves tests only is a test")]

mod naive;
mod otlp_json;
mod shared;

use std::collections::{BTreeMap, BTreeSet};

use lgtm_core::testing::Dice;
use lgtm_tracestore::select::{Field, Intrinsic};
use lgtm_tracestore::traceql::{
    AnswerValue, IntervalGrid, Metrics, MetricsAnswer, MetricsSettings, Query, QueryBody, Search,
    SearchSettings, SpansetExpr, Stage, parse,
};
use naive::{At, Plain};
use otlp_json::{Stored, protobuf};
use proptest::prelude::*;
use serde_json::{Value, json};

fn one_of<'a>(dice: &mut Dice, all: &[&'a str]) -> &'a str {
    all[dice.below(all.len() as u64) as usize]
}

const NAMES: [&str; 3] = ["a", "b", "c"];
const TEXTS: [&str; 4] = ["x", "y", "xy", ""];

fn any_value(dice: &mut Dice) -> Value {
    let text = |dice: &mut Dice| json!({"stringValue": one_of(dice, &TEXTS)});
    match dice.below(8) {
        0 | 1 => text(dice),
        2 | 3 => json!({"intValue": dice.below(4)}),
        4 => json!({"doubleValue": dice.below(8) as f64 / 2.0}),
        5 => json!({"boolValue": dice.once_in(2)}),
        6 => {
            let items: Vec<Value> = (0..dice.below(3)).map(|_| text(dice)).collect();
            json!({"arrayValue": {"values": items}})
        }
        _ => json!({"kvlistValue": {"values": []}}),
    }
}

fn attributes(dice: &mut Dice) -> Value {
    let mut out = Vec::new();
    for name in NAMES {
        if dice.once_in(2) {
            out.push(json!({"key": name, "value": any_value(dice)}));
        }
    }
    Value::Array(out)
}

/// A trace of a few spans: a forest, sometimes with parents that are not there.
fn trace(dice: &mut Dice, number: u64) -> Value {
    let count = 1 + dice.below(7);
    let id = |n: u64| format!("{:016x}", number * 100 + n + 1);
    let mut resources = Vec::new();
    let mut spans = Vec::new();
    for n in 0..count {
        let parent = match dice.below(8) {
            0 => String::new(),
            1 => id(90),
            _ if n == 0 => String::new(),
            _ => id(dice.below(n)),
        };
        let start = 1_000_000_000_000 + dice.below(50) * 100_000_000;
        let events: Vec<Value> = (0..dice.below(3))
            .map(|_| {
                json!({"name": one_of(dice, &TEXTS), "timeUnixNano": (start + dice.below(3)).to_string(),
                    "attributes": attributes(dice)})
            })
            .collect();
        let links: Vec<Value> = (0..dice.below(3))
            .map(|_| json!({"traceId": "0a".repeat(16), "spanId": id(dice.below(4)), "attributes": attributes(dice)}))
            .collect();
        spans.push(json!({
            "traceId": format!("{:032x}", number + 1), "spanId": id(n), "parentSpanId": parent,
            "name": one_of(dice, &TEXTS), "kind": dice.below(4), "status": {"code": dice.below(3)},
            "startTimeUnixNano": start.to_string(), "endTimeUnixNano": (start + dice.below(4) * 1_000).to_string(),
            "attributes": attributes(dice), "events": events, "links": links,
        }));
        if dice.once_in(3) || n + 1 == count {
            resources.push(json!({
                "resource": {"attributes": attributes(dice)},
                "scopeSpans": [{"scope": {"name": one_of(dice, &TEXTS), "attributes": attributes(dice)}, "spans": spans}],
            }));
            spans = Vec::new();
        }
    }
    json!({"resourceSpans": resources})
}

fn field(dice: &mut Dice) -> String {
    match dice.below(8) {
        0 => one_of(
            dice,
            &[
                "name",
                "duration",
                "statusMessage",
                "rootName",
                "traceDuration",
                "span:parentID",
            ],
        )
        .to_owned(),
        1 => one_of(
            dice,
            &[
                "event:name",
                "event:timeSinceStart",
                "link:spanID",
                "instrumentation:name",
            ],
        )
        .to_owned(),
        _ => {
            let scope = one_of(
                dice,
                &[
                    "",
                    "span",
                    "span",
                    "resource",
                    "event",
                    "event",
                    "link",
                    "instrumentation",
                ],
            );
            format!("{scope}.{}", one_of(dice, &NAMES))
        }
    }
}

fn literal(dice: &mut Dice) -> String {
    match dice.below(7) {
        0 | 1 => format!("{:?}", one_of(dice, &TEXTS)),
        2 | 3 => dice.below(4).to_string(),
        4 => format!("{:?}", dice.below(8) as f64 / 2.0),
        5 => one_of(dice, &["true", "false"]).to_owned(),
        _ => format!("{}us", dice.below(4)),
    }
}

fn expression(dice: &mut Dice, depth: u64) -> String {
    if depth > 0 && !dice.once_in(3) {
        let (a, b) = (expression(dice, depth - 1), expression(dice, depth - 1));
        return match dice.below(5) {
            0 => format!("!({a})"),
            1 | 2 => format!("({a}) || ({b})"),
            _ => format!("({a}) && ({b})"),
        };
    }
    let field_text = field(dice);
    let sign = one_of(dice, &["=", "!=", "=", "!=", "<", "<=", ">", ">="]);
    match dice.below(12) {
        0 => format!(
            "{field_text} =~ \"{}\"",
            one_of(dice, &["x", "x.*", ".*y", "x.*y"])
        ),
        1 => format!(
            "{field_text} !~ \"{}\"",
            one_of(dice, &["x", "x.*", ".*y", "x.*y"])
        ),
        2 => format!("{field_text} != nil"),
        3 => format!("{field_text} = nil"),
        4 => format!("{field_text} {sign} {}", field(dice)),
        5 => format!("{field_text} + {} {sign} {}", field(dice), literal(dice)),
        6 => field_text,
        7 => format!(
            "kind {} {}",
            one_of(dice, &["=", "!="]),
            one_of(dice, &["server", "client", "internal"])
        ),
        8 => format!(
            "status {} {}",
            one_of(dice, &["=", "!="]),
            one_of(dice, &["ok", "error", "unset"])
        ),
        9 => format!("{field_text} * 2 {sign} {}", literal(dice)),
        _ => format!("{field_text} {sign} {}", literal(dice)),
    }
}

fn spanset(dice: &mut Dice, depth: u64) -> String {
    if depth > 0 && dice.once_in(2) {
        let op = one_of(
            dice,
            &[
                "&&", "||", ">", "<", ">>", "<<", "~", "!>", "!<", "!>>", "!<<", "!~", "&>", "&<",
                "&>>", "&<<", "&~",
            ],
        );
        return format!(
            "({}) {op} ({})",
            spanset(dice, depth - 1),
            spanset(dice, depth - 1)
        );
    }
    format!("{{ {} }}", expression(dice, 2))
}

fn filters(query: &Query) -> Vec<&SpansetExpr> {
    let QueryBody::Search(pipeline) = &query.body else {
        panic!("{query} is no search");
    };
    let stages = pipeline.stages.iter();
    stages
        .map(|stage| match stage {
            Stage::Spanset(spanset) => spanset,
            other => panic!("{other} is not computed here"),
        })
        .collect()
}

/// Numbers of the spans of each trace that a query means.
fn wanted<'t>(query: &Query, spans: &[At<'t>]) -> Vec<usize> {
    let mut rows: Vec<usize> = (0..spans.len()).collect();
    for spanset in filters(query) {
        let some: Vec<At<'_>> = rows.iter().map(|n| spans[*n]).collect();
        // Later filters look at what is left, at how it stands in the whole trace.
        let all = naive::spanset(
            spanset,
            if matches!(spanset, SpansetExpr::Filter(_)) {
                &some
            } else {
                spans
            },
        );
        rows = if matches!(spanset, SpansetExpr::Filter(_)) {
            all.into_iter().map(|n| rows[n]).collect()
        } else {
            all
        };
    }
    rows
}

type Found = BTreeMap<String, BTreeSet<String>>;

fn found_naively(query: &Query, stored: &Stored) -> Found {
    let mut out = Found::new();
    for (id, trace) in stored.traces() {
        let spans = naive::spans(trace);
        let ids = wanted(query, &spans).into_iter();
        let ids: BTreeSet<String> = ids.map(|n| hex(spans[n].span.span_id)).collect();
        if !ids.is_empty() {
            out.insert(id.to_string(), ids);
        }
    }
    out
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn found(query: &Query, stored: &Stored, traces: usize) -> Found {
    let settings = SearchSettings {
        limit: 10_000,
        spans_per_set: 10_000,
        ..SearchSettings::default()
    };
    let mut search = Search::new(query, settings);
    for batch in stored.batches(&search.whole_request().columns, traces) {
        search.fold(&batch).unwrap();
    }
    let hits = search.finish().into_iter();
    hits.map(|hit| {
        let spans = hit.sets.iter().flat_map(|set| &set.spans);
        (
            hit.id.to_string(),
            spans.map(|s| s.id.to_string()).collect(),
        )
    })
    .collect()
}

fn random(seed: u64) -> (Dice, Stored) {
    let mut dice = Dice::seeded(seed);
    let traces = (0..1 + dice.below(6)).map(|n| protobuf(&trace(&mut dice, n)));
    let stored = Stored::of(traces.collect::<Vec<_>>());
    (dice, stored)
}

/// A query of random text that passes the type check.
fn random_query(dice: &mut Dice, depth: u64) -> Query {
    loop {
        if let Ok(query) = parse(&spanset(dice, depth)) {
            return query;
        }
    }
}

fn settings(dice: &mut Dice) -> MetricsSettings {
    let start = 999_000_000_000 + dice.below(3_000_000_000);
    let step = 1 + dice.below(2_000_000_000);
    let grid = if dice.once_in(4) {
        IntervalGrid::instant(start, start + 4_000_000_000)
    } else {
        IntervalGrid::range(start, start + 4_000_000_000, step)
    };
    MetricsSettings {
        grid: grid.unwrap(),
        exemplars: 0,
        max_series: 0,
        max_bytes: 1 << 30,
    }
}

fn label(value: Plain, field: &Field) -> Option<AnswerValue> {
    let words = [
        ["unspecified", "internal", "server", "client"].as_slice(),
        ["unset", "ok", "error"].as_slice(),
    ];
    let word = |n: usize, v: i32| Some(AnswerValue::Text(words[n][v as usize].to_owned()));
    match value {
        Plain::Missing | Plain::Array(_) => None,
        Plain::Text(text) => Some(AnswerValue::Text(String::from_utf8(text).unwrap())),
        Plain::Whole(v) if *field == Field::Intrinsic(Intrinsic::Duration) => {
            // Up to 3 microseconds here.
            Some(AnswerValue::Text(if v == 0 {
                "0s".into()
            } else {
                format!("{}µs", v / 1000)
            }))
        }
        Plain::Whole(v) => Some(AnswerValue::Int(v)),
        Plain::Float(v) => Some(AnswerValue::Float(v)),
        Plain::Bool(v) => Some(AnswerValue::Bool(v)),
        Plain::Kind(v) => word(0, v),
        Plain::Status(v) => word(1, v),
    }
}

/// Counts, and sums of integers, by label and interval.
fn metrics_naively(
    query: &Query,
    by: &Field,
    stored: &Stored,
    grid: &IntervalGrid,
) -> BTreeMap<AnswerValue, BTreeMap<u64, (u64, f64)>> {
    let summed = Field::attribute(lgtm_tracestore::select::AttributeScope::Span, "a");
    let mut out: BTreeMap<AnswerValue, BTreeMap<u64, (u64, f64)>> = BTreeMap::new();
    for (_, trace) in stored.traces() {
        let spans = naive::spans(trace);
        for n in wanted(query, &spans) {
            let start = spans[n].span.start_ns;
            let inside = grid.after_ns < start && start <= grid.until_ns();
            let value = label(naive::value(by, spans[n]), by).unwrap_or_else(AnswerValue::nil);
            if inside {
                let edge =
                    grid.after_ns + (start - grid.after_ns).div_ceil(grid.step_ns) * grid.step_ns;
                let cell = out.entry(value).or_default().entry(edge).or_default();
                cell.0 += 1;
                match naive::value(&summed, spans[n]) {
                    Plain::Whole(v) => cell.1 += v as f64,
                    Plain::Float(v) => cell.1 += v,
                    _ => {}
                }
            }
        }
    }
    out
}

/// The points of a metrics query that are not 0, asked in parts.
fn metrics(
    text: &str,
    stored: &Stored,
    settings: &MetricsSettings,
) -> BTreeMap<AnswerValue, BTreeMap<u64, f64>> {
    let query = parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
    let mut partial = None;
    for traces in [2] {
        let columns = Metrics::new(&query, settings)
            .unwrap()
            .request()
            .columns
            .clone();
        for batch in stored.batches(&columns, traces) {
            let mut part = Metrics::new(&query, settings).unwrap();
            part.fold(&batch).unwrap();
            let part = part.finish();
            match &mut partial {
                None => partial = Some(part),
                Some(known) => known.merge(part).unwrap(),
            }
        }
    }
    let answer = MetricsAnswer::of(&query, settings, partial.unwrap());
    let series = answer.series.iter().map(|series| {
        assert_eq!(series.labels.len(), 1, "{text}");
        let points = series.points(&answer.grid).filter(|(_, v)| *v != 0.0);
        (series.labels[0].1.clone(), points.collect())
    });
    series.collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_search_finds_what_a_plain_evaluator_finds(seed in any::<u64>()) {
        let (mut dice, stored) = random(seed);
        for _ in 0..6 {
            let query = random_query(&mut dice, 2);
            let wanted = found_naively(&query, &stored);
            prop_assert_eq!(&found(&query, &stored, 2), &wanted, "{}", query);
            prop_assert_eq!(&found(&query, &stored, 100), &wanted, "{}", query);
        }
    }

    #[test]
    fn what_is_left_out_is_not_needed(seed in any::<u64>()) {
        let (mut dice, stored) = random(seed);
        for _ in 0..6 {
            let query = random_query(&mut dice, 0);
            let search = Search::new(&query, SearchSettings::default());
            for (_, trace) in stored.traces() {
                let spans = naive::spans(trace);
                for n in wanted(&query, &spans) {
                    prop_assert!(naive::passes(&search.request().filter, spans[n]), "{query}: {:?}", search.request().filter);
                }
            }
        }
    }

    #[test]
    fn metrics_count_and_sum_what_a_search_finds(seed in any::<u64>()) {
        let (mut dice, stored) = random(seed);
        for _ in 0..3 {
            let query = random_query(&mut dice, 1);
            let settings = settings(&mut dice);
            let by = loop {
                let text = one_of(&mut dice, &["name", "kind", "status", "duration", ".a", "span.b", "resource.c"]);
                let Ok(parsed) = parse(&format!("{{}} | rate() by ({text})")) else { continue };
                break parsed.metrics_queries()[0].by[0].clone();
            };
            let wanted = metrics_naively(&query, &by, &stored, &settings.grid);
            let counts: BTreeMap<AnswerValue, BTreeMap<u64, f64>> = (wanted.iter())
                .map(|(value, cells)| (value.clone(), cells.iter().map(|(t, c)| (*t, c.0 as f64)).collect()))
                .collect();
            let text = format!("{query} | count_over_time() by ({by})");
            prop_assert_eq!(metrics(&text, &stored, &settings), counts.clone(), "{}", text);
            let text = format!("{query} | sum_over_time(span.a) by ({by})");
            let mut sums = metrics(&text, &stored, &settings);
            for (value, cells) in &wanted {
                for (edge, (_, sum)) in cells {
                    let got = sums.entry(value.clone()).or_default().remove(edge).unwrap_or(0.0);
                    prop_assert!((got - sum).abs() < 1e-9, "{}: {} at {}, got {}", text, sum, edge, got);
                }
            }
            prop_assert!(sums.values().all(BTreeMap::is_empty), "{}: {:?} too", text, sums);
        }
    }
}

#[test]
fn sums_do_not_depend_on_the_step() {
    let (_, stored) = random(7);
    let total = |step: u64| {
        let settings = MetricsSettings {
            grid: IntervalGrid::range(900_000_000_000, 1_100_000_000_000, step).unwrap(),
            exemplars: 0,
            max_series: 0,
            max_bytes: 1 << 30,
        };
        let series = metrics("{ } | count_over_time()", &stored, &settings);
        series.values().flat_map(BTreeMap::values).sum::<f64>()
    };
    let spans: usize = stored.traces().iter().map(|(_, t)| t.span_count()).sum();
    for step in [
        1_000_000_000,
        60_000_000_000,
        3_600_000_000_000,
        7_777_777_777,
    ] {
        assert_eq!(total(step), spans as f64);
    }
}
