//! Pushes that the real Loki was sent, with what it answered and stored: ours must read as the same entries and be refused with the same words.

use crate::shared;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use lgtm_core::clock::ManualClock;
use lgtm_core::codec::{Allowance, SizeBound, snappy};
use lgtm_core::disk::LocalDisk;
use lgtm_core::exec::Executor;
use lgtm_core::limits::Overrides;
use lgtm_core::model::{TenantId, TimestampNs};
use lgtm_core::otlp::json_to_protobuf;
use lgtm_core::units::ByteSize;
use lgtm_core::{ErrorKind, Result};
use lgtm_logstore::head::{HeadHost, HeadSettings, Heads};
use lgtm_logstore::limits::{Admission, Limits, PushReport};
use lgtm_logstore::schema::{SchemaPeriods, SchemaSettings};
use lgtm_logstore::wire::{
    OTLP_REQUEST, PushBatch, PushEntry, decode_json, decode_legacy_json, decode_otlp,
    decode_protobuf,
};
use serde_json::Value;

const NOW_S: i64 = 1_795_357_046;

fn text(v: &Value) -> &str {
    v.as_str().unwrap()
}

fn decode(path: &str, body: &[u8], limits: &Limits) -> Result<PushBatch> {
    let mut batch = PushBatch::default();
    let mut grow = |_| Ok(());
    let mut allowance = Allowance::new(0, &mut grow);
    let options = limits.push_options();
    let fill = |out: &mut Vec<u8>, _: &mut Allowance<'_>| {
        out.extend_from_slice(body);
        Ok(())
    };
    match path {
        "/loki/api/v1/push" => decode_json(&mut batch, &options, &mut allowance, fill),
        "/api/prom/push" => decode_legacy_json(&mut batch, &options, &mut allowance, fill),
        "/otlp/v1/logs" => {
            let fill = |out: &mut Vec<u8>, allowance: &mut Allowance<'_>| {
                json_to_protobuf(&OTLP_REQUEST, body, SizeBound::new(1 << 20), out, allowance)
            };
            decode_otlp(
                &mut batch,
                &options,
                TimestampNs::EPOCH,
                &mut allowance,
                fill,
            )
        }
        other => panic!("{other}"),
    }?;
    Ok(batch)
}

#[test]
fn protobuf_requests_read_as_in_loki() {
    let Some(folder) = shared::folder("golden/loki/vectors") else {
        return;
    };
    let limits = Limits {
        discover_service_name: Vec::new(),
        discover_log_levels: false,
        ..Limits::default()
    };
    for case in shared::json_lines(&folder.join("push.jsonl")) {
        let name = text(&case["name"]);
        let packed = shared::unhex(text(&case["body_snappy_hex"]));
        let mut batch = PushBatch::default();
        let mut grow = |_| Ok(());
        let mut allowance = Allowance::new(0, &mut grow);
        let fill = |out: &mut Vec<u8>, _: &mut Allowance<'_>| {
            snappy::decompress(&packed, SizeBound::new(1 << 20), out)
        };
        let done = decode_protobuf(&mut batch, &limits.push_options(), &mut allowance, fill);
        let labels = case["canonical_labels"].as_array();
        let labels: Vec<&str> = labels.into_iter().flatten().map(text).collect();
        if let Some(error) = labels.first().and_then(|l| l.strip_prefix("ERROR: ")) {
            let ours = done.unwrap_err().to_string();
            assert_eq!(ours, format!("couldn't parse labels: {error}"), "{name}");
            continue;
        }
        done.unwrap();
        let streams = case["streams"].as_array().unwrap();
        assert_eq!(batch.streams_sent(), streams.len() as u64, "{name}");
        let with_entries = streams.iter().zip(&labels);
        let with_entries: Vec<_> = with_entries
            .filter(|(s, _)| !s["entries"].as_array().unwrap().is_empty())
            .collect();
        assert_eq!(batch.stream_count(), with_entries.len(), "{name}");
        for (ours, (theirs, labels)) in batch.streams().zip(with_entries) {
            assert_eq!(ours.labels().to_string(), **labels, "{name}");
            let entries = theirs["entries"].as_array().unwrap();
            assert_eq!(ours.len(), entries.len(), "{name}");
            for (ours, theirs) in ours.entries().zip(entries) {
                assert_eq!(ours.t_ns, theirs["ts"].as_i64().unwrap(), "{name}");
                assert_eq!(ours.line, text(&theirs["line"]).as_bytes(), "{name}");
                let mut pairs: Vec<_> = (theirs["sm"].as_array().into_iter().flatten())
                    .map(|p| (text(&p[0]), text(&p[1])))
                    // Read, but not stored: as in the golden buckets.
                    .filter(|(_, value)| !value.is_empty())
                    .collect();
                pairs.sort_unstable();
                assert_eq!(ours.metadata().collect::<Vec<_>>(), pairs, "{name}");
            }
        }
    }
}

type Stored = (String, String, i64, Vec<u8>, BTreeMap<String, String>);

fn stored(tenant: &str, labels: &str, entry: &PushEntry<'_>) -> Stored {
    let pairs = entry.metadata().map(|(n, v)| (n.to_owned(), v.to_owned()));
    let (tenant, labels) = (tenant.to_owned(), labels.to_owned());
    (
        tenant,
        labels,
        entry.t_ns.get(),
        entry.line.to_vec(),
        pairs.collect(),
    )
}

#[test]
fn what_loki_stored_of_its_pushes_is_what_is_read_from_them() {
    let Some(folder) = shared::folder("golden/loki") else {
        return;
    };
    let mut ours = BTreeSet::new();
    for push in shared::json_lines(&folder.join("pushes.jsonl")) {
        let body = serde_json::to_vec(&push["body"]).unwrap();
        let batch = decode("/loki/api/v1/push", &body, &Limits::default()).unwrap();
        for stream in batch.streams() {
            let labels = stream.labels().to_string();
            let entries = stream.entries();
            ours.extend(entries.map(|e| stored(text(&push["tenant"]), &labels, &e)));
        }
    }
    let texts = |v: &Value| -> BTreeMap<String, String> {
        let pairs = v.as_object().into_iter().flatten();
        pairs
            .map(|(n, v)| (n.clone(), text(v).to_owned()))
            .collect()
    };
    let theirs: BTreeSet<Stored> = shared::json_lines(&folder.join("entries.jsonl"))
        .iter()
        .map(|e| {
            let labels = lgtm_core::model::Labels::from_pairs(texts(&e["stream"])).unwrap();
            (
                text(&e["tenant"]).to_owned(),
                labels.to_string(),
                text(&e["ts"]).parse().unwrap(),
                text(&e["line"]).as_bytes().to_vec(),
                texts(&e["structured_metadata"]),
            )
        })
        .collect();
    let only = |a: &BTreeSet<Stored>, b: &BTreeSet<Stored>| a.difference(b).next().cloned();
    assert_eq!((only(&ours, &theirs), only(&theirs, &ours)), (None, None));
}

/// The limits with which the answers were recorded.
fn small_limits() -> Limits {
    Limits {
        max_label_names_per_series: 5,
        max_label_name_length: 30,
        max_label_value_length: 40,
        max_line_size: ByteSize::kib(2),
        max_structured_metadata_size: ByteSize::bytes(300),
        max_structured_metadata_entries_count: 8,
        max_global_streams_per_user: 12,
        reject_old_samples: true,
        ..Limits::default()
    }
}

fn open_heads(dir: &Path, clock: Arc<ManualClock>, limits: &Limits) -> Heads {
    let host = HeadHost {
        disk: Arc::new(LocalDisk::new(dir)),
        clock,
        executor: Executor::inline(tokio::runtime::Handle::current()),
        seed: 7,
    };
    let schema = SchemaPeriods::new(&SchemaSettings::default()).unwrap();
    let limits = Overrides::fixed(limits.clone());
    let opened = Heads::open(host, "logs", HeadSettings::default(), schema, limits);
    let (heads, log) = opened.unwrap();
    heads.replay(log).unwrap();
    heads
}

#[tokio::test]
async fn answers_are_those_of_loki() {
    let Some(folder) = shared::folder("golden/loki") else {
        return;
    };
    let clock = Arc::new(ManualClock::at_ms(NOW_S * 1000));
    let admission = Admission::new(clock.clone());
    let limits = small_limits();
    let dir = tempfile::tempdir().unwrap();
    let heads = open_heads(dir.path(), clock, &limits);
    let mut seen = 0;
    for case in shared::json_lines(&folder.join("push-semantics.jsonl")) {
        let (Some(body), Some(tenant)) = (case["request_body"].as_str(), case["tenant"].as_str())
        else {
            continue;
        };
        let (name, path, status) = (
            text(&case["name"]),
            text(&case["path"]),
            case["status"].as_u64().unwrap(),
        );
        let answer = text(&case["response"]).trim_end_matches('\n');
        let headers = &case["headers"];
        let is_of_door =
            headers["Content-Type"] != "application/json" || !headers["Content-Encoding"].is_null();
        if is_of_door {
            continue;
        }
        seen += 1;
        let body = body.replace("NOWSECONDS", &NOW_S.to_string());
        let batch = match decode(path, body.as_bytes(), &limits) {
            Ok(batch) => batch,
            Err(e) => {
                assert_eq!(
                    (e.kind(), status),
                    (ErrorKind::InvalidInput, 400),
                    "{name}: {e}"
                );
                if answer.contains("parse labels") {
                    assert_eq!(e.to_string(), answer, "{name}");
                }
                continue;
            }
        };
        if batch.streams_sent() == 0 {
            assert!(answer.contains("at least one valid stream"), "{name}");
            continue;
        }
        let mut report = PushReport::default();
        let tenant = TenantId::new(tenant).unwrap();
        let accepted = admission.admit(&tenant, &batch, &limits, &mut report);
        assert_eq!(
            accepted.entries + report.refused_entries(),
            batch.entry_count() as u64
        );
        let pushed = heads.push(&tenant, &batch, &accepted, &mut report).await;
        pushed.unwrap();
        match report.refusal(tenant.as_str()) {
            None => assert_eq!(status, 204, "{name}: {answer}"),
            Some(refusal) => {
                assert_eq!(u64::from(refusal.status), status, "{name}");
                if path == "/otlp/v1/logs" {
                    assert!(answer.ends_with(&refusal.message), "{name}")
                } else {
                    assert_eq!(refusal.message, answer, "{name}")
                }
            }
        }
    }
    assert!(seen > 40, "{seen}");
}
