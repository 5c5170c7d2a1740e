//! Traces as a real Tempo stores and shows them, made of the requests that it was sent.
//!
//! The golden folder is `$LGTM_SHARED/golden/tempo` (default: `shared` beside the workspace). Without it the tests are skipped.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "what serves tests only is a test"
)]

mod shared;

use std::collections::BTreeMap;
use std::path::Path;

use lgtm_core::codec::{Allowance, SizeBound};
use lgtm_core::otlp::json_to_protobuf;
use lgtm_tracestore::trace::{
    CombineBound, Combiner, NestedSets, SharedIds, SpanId, Trace, TraceForm, TraceId, TraceSummary,
    query_token, storage_token,
};
use lgtm_tracestore::wire::OTLP_REQUEST;
use serde_json::{Value, json};
use shared::{folder, json_lines, unhex};

/// The requests of a file, as protobuf.
fn requests(file: &Path) -> Vec<Vec<u8>> {
    let text = std::fs::read_to_string(file).unwrap();
    let to_protobuf = |line: &str| {
        let mut out = Vec::new();
        let mut grow = |_| Ok(());
        let bound = SizeBound {
            max_bytes: 1 << 30,
            hint: "",
        };
        let mut allowance = Allowance::new(0, &mut grow);
        let json = line.as_bytes();
        json_to_protobuf(&OTLP_REQUEST, json, bound, &mut out, &mut allowance).unwrap();
        out
    };
    text.lines().map(to_protobuf).collect()
}

fn decoded(bytes: &[u8]) -> Trace<'_> {
    Trace::decode(bytes, &mut Allowance::new(0, &mut |_| Ok(()))).unwrap()
}

/// The spans of requests by trace, as a head collects them.
fn by_trace(requests: &[Vec<u8>]) -> BTreeMap<TraceId, Trace<'_>> {
    let mut out = BTreeMap::<TraceId, Trace<'_>>::new();
    for request in requests {
        for resource in decoded(request).resources {
            let mut parts = BTreeMap::<TraceId, _>::new();
            for scope in &resource.scopes {
                for span in &scope.spans {
                    let id = TraceId::from_short(span.trace_id).unwrap();
                    let part = parts.entry(id).or_insert_with(|| {
                        let mut part = resource.clone();
                        part.scopes.iter_mut().for_each(|s| s.spans.clear());
                        part
                    });
                    let at = (resource.scopes.iter().position(|s| std::ptr::eq(s, scope))).unwrap();
                    part.scopes[at].spans.push(span.clone());
                }
            }
            for (id, mut part) in parts {
                part.scopes.retain(|s| !s.spans.is_empty());
                out.entry(id).or_default().resources.push(part);
            }
        }
    }
    out
}

fn inputs(golden: &Path) -> [Vec<Vec<u8>>; 2] {
    ["part1.jsonl", "part2.jsonl"].map(|f| requests(&golden.join("input").join(f)))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn numbers_roots_and_services_are_those_of_golden_blocks() {
    let Some(golden) = folder("golden/tempo") else {
        return;
    };
    let all = inputs(&golden).concat();
    let mut traces = by_trace(&all);
    traces.values_mut().for_each(Trace::rebatch);
    let mut sets = NestedSets::default();
    for version in ["v4", "v5"] {
        let vectors = json_lines(&golden.join(format!("vectors/nested-set-{version}.jsonl")));
        assert_eq!(vectors.len(), traces.len());
        for (vector, (id, trace)) in vectors.iter().zip(&traces) {
            assert_eq!(vector["traceID"], id.to_string());
            assert_eq!(vector["traceIDText"], id.short_hex());
            let summary = TraceSummary::of(trace);
            assert_eq!(vector["rootServiceName"], text(summary.root_service_name));
            assert_eq!(vector["rootSpanName"], text(summary.root_span_name));
            assert_eq!(vector["start"], summary.start_ns, "{id}");
            assert_eq!(vector["end"], summary.end_ns, "{id}");
            assert_eq!(vector["duration"], summary.duration_ns(), "{id}");
            let mut stats: Vec<_> = (trace.service_stats().into_iter())
                .map(|(name, stats)| match version {
                    "v4" => json!([text(name), {"SpanCount": stats.span_count, "ErrorCount": stats.error_count}]),
                    _ => json!({"ServiceName": text(name), "SpanCount": stats.span_count, "ErrorCount": stats.error_count}),
                })
                .collect();
            let mut expected = vector["serviceStats"].as_array().unwrap().clone();
            expected.sort_by_key(Value::to_string);
            stats.sort_by_key(Value::to_string);
            assert_eq!(expected, stats, "{id}");
            let numbers = sets.number(trace);
            let spans = trace
                .spans()
                .zip(numbers)
                .map(|((resource, _, span), set)| {
                    let mut row = json!({
                        "service": text(resource.service_name()),
                        "spanID": hex(span.span_id),
                        "parentSpanID": hex(span.parent_span_id),
                        "name": text(span.name),
                        "kind": span.kind,
                        "left": set.left,
                        "right": set.right,
                        "parent": set.parent,
                    });
                    if version == "v5" {
                        row["childCount"] = set.child_count.into();
                    }
                    row
                });
            let spans = spans.collect::<Vec<_>>();
            let rootless = spans.iter().all(|s| s["left"] == 0);
            let mut rows = vector["spansInRowOrder"].as_array().unwrap().clone();
            if rootless {
                // What Tempo left over there has no meaning.
                for row in &mut rows {
                    if row.get("childCount").is_some() {
                        row["childCount"] = 0.into();
                    }
                }
            }
            assert_eq!(rows, spans, "{id}");
        }
    }
}

/// Attributes by key and events by time: their order has no meaning, and columns of their own change it.
fn in_order(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(in_order),
        Value::Object(members) => {
            for (name, member) in members.iter_mut() {
                in_order(member);
                // Tempo was sent longer ones, and cut them.
                if let (Value::String(text), "stringValue") = (&mut *member, &**name) {
                    text.truncate(2048);
                }
                if let (Value::Array(items), "attributes") = (&mut *member, &**name) {
                    items.sort_by_key(|a| a["key"].to_string());
                }
                if let (Value::Array(items), "events") = (&mut *member, &**name) {
                    items.sort_by_key(|a| a["timeUnixNano"].to_string());
                }
            }
        }
        _ => {}
    }
}

fn shown(trace: Trace<'_>) -> Value {
    let new_ids = SharedIds::find(&trace);
    let trace = new_ids.apply(trace);
    let mut shown: Value = serde_json::from_str(&trace.to_json(TraceForm::ResourceSpans)).unwrap();
    in_order(&mut shown);
    shown
}

fn check_shown(file: &Path, traces: BTreeMap<TraceId, Trace<'_>>) {
    let mut expected = json_lines(file);
    assert_eq!(expected.len(), traces.len(), "{}", file.display());
    for (expected, (id, trace)) in expected.iter_mut().zip(traces) {
        assert_eq!(expected["traceID"], id.to_string());
        in_order(expected);
        assert_eq!(shown(trace), expected["trace"], "{}: {id}", file.display());
    }
}

#[test]
fn traces_are_shown_as_tempo_shows_them() {
    let Some(golden) = folder("golden/tempo") else {
        return;
    };
    let all = inputs(&golden).concat();
    let mut traces = by_trace(&all);
    traces.values_mut().for_each(Trace::rebatch);
    check_shown(&golden.join("expected/v4.jsonl"), traces);
}

#[test]
fn combined_traces_are_those_that_tempo_compacted() {
    let Some(golden) = folder("golden/tempo") else {
        return;
    };
    let parts = inputs(&golden);
    let [first, second] = parts.each_ref().map(|p| by_trace(p));
    let mut combined = BTreeMap::new();
    for id in first.keys().chain(second.keys()) {
        let mut combiner = Combiner::new(CombineBound::Unbounded);
        for part in [&first, &second].into_iter().filter_map(|p| p.get(id)) {
            let mut part = part.clone();
            part.rebatch();
            combiner.push(part);
        }
        let done = combiner.finish();
        assert_eq!(done.left_out_spans, 0);
        combined.insert(*id, done.trace);
    }
    check_shown(&golden.join("expected/v4-compacted.jsonl"), combined);
}

#[test]
fn tokens_of_spans_are_tempos() {
    let Some(golden) = folder("golden/tempo") else {
        return;
    };
    let vectors = json_lines(&golden.join("vectors/bloom.jsonl"));
    let tokens = vectors.iter().filter(|v| v["kind"] == "span_token");
    let mut count = 0;
    for vector in tokens {
        let id = SpanId::from_any(&unhex(vector["spanID"].as_str().unwrap()));
        let kind = vector["span_kind"].as_i64().unwrap() as i32;
        assert_eq!(vector["storage_token"], storage_token(id, kind).to_string());
        assert_eq!(vector["query_token"], query_token(id, kind).to_string());
        count += 1;
    }
    assert!(count > 0);
}

#[test]
fn lists_of_dedicated_columns_hash_as_tempo_hashes_them() {
    let Some(golden) = folder("golden/tempo") else {
        return;
    };
    let vectors = json_lines(&golden.join("vectors/bloom.jsonl"));
    let lists = vectors.iter().filter(|v| v["kind"] == "dedicated_columns");
    let mut count = 0;
    for vector in lists {
        let json = vector["json"].as_str().unwrap();
        let columns: lgtm_tracestore::trace::DedicatedColumns = serde_json::from_str(json).unwrap();
        assert_eq!(vector["hash"], columns.hash().to_string(), "{json}");
        if !columns.is_empty() {
            assert_eq!(serde_json::to_string(&columns).unwrap(), json);
        }
        count += 1;
    }
    assert!(count > 0);
}
