//! Traces as a real Tempo stores and shows them, made of the requests that it was sent.
//!
//! The golden folder is `$LGTM_SHARED/golden/tempo` (default: `shared` beside the workspace). Without it the tests are skipped.

use std::collections::BTreeMap;
use std::path::Path;

use crate::shared::{folder, json_lines, unhex};
use lgtm_core::codec::{Allowance, SizeBound};
use lgtm_core::otlp::OtlpSpelling;
use lgtm_tracestore::trace::{
    CombineBound, Combiner, DedicatedColumns, NestedSets, SharedIds, SpanId, Trace, TraceForm,
    TraceId, TraceSummary, query_token, storage_token,
};
use lgtm_tracestore::wire::{PushBatch, PushOptions, decode_otlp, otlp_to_protobuf};
use serde_json::{Value, json};

/// The spans of the requests of files by trace, as a head collects them: OTLP's protobuf.
type Collected = BTreeMap<TraceId, Vec<u8>>;

fn collect(golden: &Path, files: &[&str]) -> Collected {
    let mut out = Collected::new();
    let mut batch = PushBatch::default();
    for file in files {
        let text = std::fs::read_to_string(golden.join("input").join(file)).unwrap();
        for line in text.lines() {
            let mut grow = |_| Ok(());
            let mut allowance = Allowance::new(0, &mut grow);
            let options = PushOptions::default();
            decode_otlp(&mut batch, options, &mut allowance, |out, allowance| {
                let bound = SizeBound::new(1 << 30);
                otlp_to_protobuf(OtlpSpelling::Json, line.as_bytes(), bound, out, allowance)
            })
            .unwrap();
            for trace in batch.traces() {
                trace.encode(out.entry(trace.id()).or_default());
            }
        }
    }
    out
}

fn rebatched(collected: &Collected) -> BTreeMap<TraceId, Trace<'_>> {
    let rebatched = |bytes| {
        let mut trace = Trace::decode(bytes, &mut Allowance::new(0, &mut |_| Ok(()))).unwrap();
        trace.rebatch();
        trace
    };
    (collected.iter())
        .map(|(id, bytes)| (*id, rebatched(bytes)))
        .collect()
}

const FILES: [&str; 2] = ["part1.jsonl", "part2.jsonl"];

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
    let collected = collect(&golden, &FILES);
    let traces = rebatched(&collected);
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
    let collected = collect(&golden, &FILES);
    let traces = rebatched(&collected);
    check_shown(&golden.join("expected/v4.jsonl"), traces);
}

#[test]
fn combined_traces_are_those_that_tempo_compacted() {
    let Some(golden) = folder("golden/tempo") else {
        return;
    };
    let parts = FILES.map(|file| collect(&golden, &[file]));
    let [first, second] = parts.each_ref().map(rebatched);
    let mut combined = BTreeMap::new();
    for id in first.keys().chain(second.keys()) {
        let mut combiner = Combiner::new(CombineBound::Unbounded);
        for part in [&first, &second].into_iter().filter_map(|p| p.get(id)) {
            combiner.push(part.clone());
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
    let mut has_standard = false;
    for vector in lists {
        let json = vector["json"].as_str().unwrap();
        let columns: DedicatedColumns = serde_json::from_str(json).unwrap();
        has_standard |= columns == DedicatedColumns::standard();
        assert_eq!(vector["hash"], columns.hash().to_string(), "{json}");
        if !columns.is_empty() {
            assert_eq!(serde_json::to_string(&columns).unwrap(), json);
        }
        count += 1;
    }
    assert!(count > 0 && has_standard);
}
