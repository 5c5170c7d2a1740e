//! Random queries over random traces: the engine, which works by columns, gives what a plain evaluator gives span by span; metrics count what a search
//! finds; what holders may leave out is never needed.

use crate::naive;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::naive::{At, Plain};
use crate::otlp_json::{Stored, protobuf};
use crate::random_traces::*;
use lgtm_core::exec::Executor;
use lgtm_core::limits::Overrides;
use lgtm_core::model::TenantId;
use lgtm_core::testing::{CrashDisk, Dice};
use lgtm_core::units::ByteSize;
use lgtm_tracestore::bucket::BucketSettings;
use lgtm_tracestore::components::{MetricsRequest, SearchRequest, TraceStore};
use lgtm_tracestore::limits::Limits;
use lgtm_tracestore::select::{Field, Intrinsic};
use lgtm_tracestore::traceql::{
    AnswerValue, IntervalGrid, Metrics, MetricsAnswer, MetricsSettings, Query, QueryBody, Search,
    SearchSettings, SpansetExpr, Stage, TraceHit, parse,
};
use object_store::memory::InMemory;
use proptest::prelude::*;

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
    spans_of(&search.finish())
}

fn spans_of(hits: &[TraceHit]) -> Found {
    let hits = hits.iter().map(|hit| {
        let spans = hit.sets.iter().flat_map(|set| &set.spans);
        let spans = spans.map(|s| s.id.to_string());
        (hit.id.to_string(), spans.collect())
    });
    hits.collect()
}

fn random(seed: u64) -> (Dice, Stored) {
    let mut dice = Dice::seeded(seed);
    let traces = (0..1 + dice.below(6)).map(|n| protobuf(&trace(&mut dice, n)));
    let stored = Stored::of(traces.collect::<Vec<_>>());
    (dice, stored)
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
    points_of(&MetricsAnswer::of(&query, settings, partial.unwrap()))
}

fn points_of(answer: &MetricsAnswer) -> BTreeMap<AnswerValue, BTreeMap<u64, f64>> {
    let series = answer.series.iter().map(|series| {
        assert_eq!(series.labels.len(), 1, "{series:?}");
        let points = series.points(&answer.grid).filter(|(_, v)| *v != 0.0);
        (series.labels[0].1.clone(), points.collect())
    });
    series.collect()
}

/// What a store may have done with the spans that were sent to it in two requests.
const STATES: [&str; 5] = ["live", "flushed", "two blocks", "half flushed", "compacted"];

async fn store(requests: &[Vec<u8>; 2], state: &str) -> TraceStore {
    let mut limits = Limits::default();
    // The spans are of long ago.
    limits.compaction.block_retention = Duration::ZERO;
    let store = TraceStore::builder("traces", InMemory::new())
        .disk(Arc::new(CrashDisk::new(1)))
        .bucket(BucketSettings {
            row_group_size: ByteSize::kib(1),
            page_size: ByteSize::kib(1),
            ..BucketSettings::default()
        })
        .limits(Overrides::fixed(limits))
        .executor(Executor::inline(tokio::runtime::Handle::current()))
        .without_housekeeping()
        .open()
        .await
        .unwrap();
    for (n, request) in requests.iter().enumerate() {
        let report = store.append_otlp(&TenantId::anonymous(), request).await;
        assert_eq!(report.unwrap().refused_spans(), 0);
        let flushes = match state {
            "live" => false,
            "flushed" => n == 1,
            "half flushed" => n == 0,
            _ => true,
        };
        if flushes {
            store.flush().await.unwrap();
        }
    }
    if state == "compacted" {
        store.compact().await.unwrap();
    }
    store
}

#[tokio::test]
async fn a_store_in_any_state_finds_and_counts_what_a_plain_evaluator_does() {
    stores_against_naive(0..12).await;
}

#[tokio::test]
#[ignore = "takes minutes"]
async fn a_store_in_any_state_finds_and_counts_what_a_plain_evaluator_does_long() {
    stores_against_naive(12..1000).await;
}

async fn stores_against_naive(seeds: std::ops::Range<u64>) {
    let tenant = TenantId::anonymous();
    for seed in seeds {
        let mut dice = Dice::seeded(seed);
        let traces: Vec<_> = (0..1 + dice.below(6))
            .map(|n| trace(&mut dice, n))
            .collect();
        let stored = Stored::of(traces.iter().map(protobuf));
        // Parts of a trace may come apart.
        let mut halves = [Vec::new(), Vec::new()];
        for resource in traces
            .iter()
            .flat_map(|t| t["resourceSpans"].as_array().unwrap())
        {
            halves[dice.below(2) as usize].push(resource.clone());
        }
        let requests = halves.map(|half| protobuf(&serde_json::json!({"resourceSpans": half})));
        let mut stores = Vec::new();
        for state in STATES {
            stores.push((state, store(&requests, state).await));
        }
        for _ in 0..6 {
            let query = Arc::new(random_query(&mut dice, 1));
            let wanted = found_naively(&query, &stored);
            let by = ["name", "kind", ".a", "span.b", "resource.c"];
            let by = parse(&format!("{{}} | rate() by ({})", one_of(&mut dice, &by))).unwrap();
            let by = by.metrics_queries()[0].by[0].clone();
            let settings = settings(&mut dice);
            let counts: BTreeMap<AnswerValue, BTreeMap<u64, f64>> =
                (metrics_naively(&query, &by, &stored, &settings.grid).into_iter())
                    .map(|(value, cells)| {
                        (value, cells.iter().map(|(t, c)| (*t, c.0 as f64)).collect())
                    })
                    .collect();
            let text = format!("{query} | count_over_time() by ({by})");
            let counted = Arc::new(parse(&text).unwrap());
            for (state, store) in &stores {
                let request = SearchRequest {
                    query: Arc::clone(&query),
                    settings: SearchSettings {
                        limit: 10_000,
                        spans_per_set: 10_000,
                        ..SearchSettings::default()
                    },
                };
                let found = store
                    .queries()
                    .search(&tenant, &request, None)
                    .await
                    .unwrap();
                assert_eq!(spans_of(&found.value), wanted, "{seed}, {state}: {query}");
                let request = MetricsRequest {
                    query: Arc::clone(&counted),
                    settings,
                };
                let answer = store
                    .queries()
                    .metrics(&tenant, &request, None)
                    .await
                    .unwrap();
                assert_eq!(points_of(&answer.value), counts, "{seed}, {state}: {text}");
            }
        }
    }
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
