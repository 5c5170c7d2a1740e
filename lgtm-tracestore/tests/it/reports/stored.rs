//! F: blocks in the object store.

use std::sync::Arc;
use std::time::Duration;

use lgtm_core::clock::ManualClock;
use lgtm_core::exec::Executor;
use lgtm_core::limits::Overrides;
use lgtm_core::model::{TenantId, TimeRangeNs};
use lgtm_core::storage::{Backend, BackendKind};
use lgtm_core::testing::CrashDisk;
use lgtm_tracestore::bucket::BucketSettings;
use lgtm_tracestore::components::CompactorSettings;
use lgtm_tracestore::limits::Limits;
use lgtm_tracestore::prelude::*;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde_json::{Value, json};

use super::house::{NONE, Sent, otlp, span};
use crate::door::{NOW_S, SECOND};
use crate::otlp_json::protobuf;

/// A bucket, and the stores over it, one after the other.
struct Shelf {
    store: Arc<InMemory>,
    clock: Arc<ManualClock>,
}

impl Shelf {
    fn new() -> Self {
        Self {
            store: Arc::new(InMemory::new()),
            clock: Arc::new(ManualClock::at_ms(NOW_S as i64 * 1000)),
        }
    }

    async fn open(&self, limits: Limits, bucket: BucketSettings) -> TraceStore {
        self.open_with(Overrides::fixed(limits), bucket).await
    }

    async fn open_with(&self, limits: Overrides<Limits>, bucket: BucketSettings) -> TraceStore {
        let backend = Backend::new(Arc::clone(&self.store) as _, BackendKind::Memory);
        TraceStore::builder("data", backend)
            .disk(Arc::new(CrashDisk::new(1)))
            .bucket(bucket)
            .limits(limits)
            .clock(Arc::clone(&self.clock) as _)
            .executor(Executor::inline(tokio::runtime::Handle::current()))
            .without_housekeeping()
            .open()
            .await
            .unwrap()
    }

    /// Objects by the end of their path.
    async fn objects(&self, end: &str) -> Vec<Path> {
        let all = self.store.list(None);
        let all: Vec<_> = futures::TryStreamExt::try_collect(all).await.unwrap();
        let mut paths: Vec<Path> = all.into_iter().map(|o| o.location).collect();
        paths.retain(|p| p.as_ref().ends_with(end));
        paths.sort();
        paths
    }
}

async fn append(store: &TraceStore, spans: &[Sent]) {
    let body = protobuf(&otlp(spans));
    let report = store.append_otlp(&TenantId::anonymous(), &body).await;
    assert_eq!(report.unwrap().refused_spans(), 0);
    store.flush().await.unwrap();
}

fn id(trace: u64) -> TraceId {
    TraceId::from_hex(&format!("{trace:032x}")).unwrap()
}

/// Numbers of the traces that a search finds, and what the answer lacks.
async fn found(store: &TraceStore, query: &str) -> (Vec<u64>, Vec<String>) {
    let ns = |ago_s: u64| ((NOW_S - ago_s) * SECOND) as i64;
    let range = TimeRangeNs::new(ns(3600), ns(0));
    let answer = store
        .search(&TenantId::anonymous(), query, range, 100)
        .await
        .unwrap();
    let mut traces: Vec<u64> = answer
        .value
        .iter()
        .map(|hit| u64::from_str_radix(&hit.id.to_string()[16..], 16).unwrap())
        .collect();
    traces.sort_unstable();
    (traces, answer.end.warnings)
}

fn with_columns(columns: &Value) -> Limits {
    let mut limits = Limits::default();
    limits.storage.parquet_dedicated_columns = serde_json::from_value(columns.clone()).unwrap();
    limits
}

#[tokio::test]
async fn a20_an_attribute_with_a_column_in_some_blocks_only_is_found_in_all() {
    let shelf = Shelf::new();
    for (n, columns) in [
        json!([]),
        json!([{"n": "k"}]),
        json!([{"n": "other"}, {"n": "k"}]),
    ]
    .iter()
    .enumerate()
    {
        let store = shelf
            .open(with_columns(columns), BucketSettings::default())
            .await;
        append(
            &store,
            &[span(1, "a")
                .trace(n as u64 + 1)
                .attributes(&json!({"k": "v"}))],
        )
        .await;
        store.close().await.unwrap();
    }
    let store = shelf
        .open(Limits::default(), BucketSettings::default())
        .await;
    for query in [
        "{ span.k = \"v\" }",
        "{ .k = \"v\" }",
        "{ span.k != nil }",
        "{ span.k =~ \"v|w\" }",
    ] {
        assert_eq!(
            found(&store, query).await,
            (vec![1, 2, 3], vec![]),
            "{query}"
        );
    }
    assert_eq!(found(&store, "{ span.k = nil }").await.0, NONE);
}

#[tokio::test]
async fn c07_a_block_that_cannot_be_read_is_told_and_the_others_answer() {
    let shelf = Shelf::new();
    let store = shelf
        .open(Limits::default(), BucketSettings::default())
        .await;
    for n in 1..=3 {
        append(
            &store,
            &[span(1, "a").trace(n), span(n + 1, "part").trace(9)],
        )
        .await;
    }
    store.close().await.unwrap();
    let data = &shelf.objects("data.parquet").await[1];
    let bytes = shelf.store.get(data).await.unwrap().bytes().await.unwrap();
    shelf
        .store
        .put(data, bytes.slice(..bytes.len() / 2).into())
        .await
        .unwrap();
    let store = shelf
        .open(Limits::default(), BucketSettings::default())
        .await;
    let whole = store
        .find_trace(&TenantId::anonymous(), id(9))
        .await
        .unwrap();
    assert!(!whole.bytes.is_empty());
    assert_eq!(whole.end.warnings.len(), 1, "{:?}", whole.end.warnings);
    let (traces, warnings) = found(&store, "{ name = \"a\" }").await;
    assert_eq!((traces.len(), warnings.len()), (2, 1), "{warnings:?}");
}

#[tokio::test]
async fn f01_a_block_that_is_gone_since_it_was_listed_is_passed_over() {
    let shelf = Shelf::new();
    let store = shelf
        .open(Limits::default(), BucketSettings::default())
        .await;
    append(&store, &[span(1, "a").trace(1)]).await;
    append(&store, &[span(1, "a").trace(2)]).await;
    store.close().await.unwrap();
    let store = shelf
        .open(Limits::default(), BucketSettings::default())
        .await;
    assert_eq!(found(&store, "{ name = \"nobody\" }").await.0, NONE);
    let meta = shelf.objects("meta.json").await.remove(0);
    let folder = meta.as_ref().trim_end_matches("meta.json").to_owned();
    for object in shelf.objects("").await {
        if object.as_ref().starts_with(&folder) {
            shelf.store.delete(&object).await.unwrap();
        }
    }
    // It is on the list still: the answer says what it lacks, and does not fail.
    let (traces, _) = found(&store, "{ name = \"a\" }").await;
    assert!(!traces.is_empty());
    shelf.clock.advance(Duration::from_secs(3600));
    let (traces, warnings) = found(&store, "{ name = \"a\" }").await;
    assert_eq!((traces.len(), warnings), (1, vec![]));
}

#[tokio::test]
async fn f02_a_new_retention_holds_from_the_next_round_on() {
    let shelf = Shelf::new();
    let limits = Overrides::fixed(Limits::default());
    let bucket = BucketSettings::default();
    let store = shelf.open_with(limits.clone(), bucket).await;
    for n in 1..=2 {
        append(&store, &[span(1, "a").trace(n)]).await;
    }
    append(&store, &[span(1, "a").trace(3).at(1_000_000, 1000)]).await;
    let keep = |retention: Duration| {
        let mut new = Limits::default();
        new.compaction.block_retention = retention;
        new.compaction.compaction_window = Duration::from_secs(1);
        limits.replace(new, std::collections::HashMap::new());
    };
    // For ever, and a fortnight.
    for retention in [Duration::ZERO, Duration::from_secs(14 * 24 * 3600)] {
        keep(retention);
        store.compact().await.unwrap();
        assert_eq!(found(&store, "{}").await, (vec![1, 2, 3], vec![]));
    }
    // One block is older than a quarter of an hour: it is gone at once, its objects later.
    keep(Duration::from_secs(900));
    store.compact().await.unwrap();
    assert_eq!(found(&store, "{}").await, (vec![1, 2], vec![]));
    let by_id = store.find_trace(&TenantId::anonymous(), id(3)).await;
    assert!(by_id.unwrap().bytes.is_empty());
    let there = shelf.objects("data.parquet").await.len();
    shelf.clock.advance(Duration::from_secs(3601));
    keep(Duration::from_secs(2 * 3600));
    store.compact().await.unwrap();
    assert!(shelf.objects("data.parquet").await.len() < there);
    let again = shelf.open_with(limits.clone(), BucketSettings::default());
    assert_eq!(found(&again.await, "{}").await.0, [1, 2]);
    // Without compaction nothing is touched.
    let mut new = Limits::default();
    new.compaction.block_retention = Duration::from_secs(900);
    new.compaction.compaction_disabled = true;
    limits.replace(new, std::collections::HashMap::new());
    store.compact().await.unwrap();
    assert_eq!(found(&store, "{}").await.0, [1, 2]);
    // In the end nothing is left of the tenant.
    keep(Duration::from_secs(900));
    store.compact().await.unwrap();
    assert_eq!(found(&store, "{}").await.0, [0; 0]);
    shelf.clock.advance(Duration::from_secs(3601));
    store.compact().await.unwrap();
    let left = shelf.objects("").await;
    let of_tenant = left.iter().filter(|p| p.as_ref().contains("anonymous"));
    assert_eq!(of_tenant.count(), 0, "{left:?}");
}

#[tokio::test]
async fn f03_a_tenant_that_has_only_a_list_of_blocks_does_no_harm() {
    let shelf = Shelf::new();
    let store = shelf
        .open(Limits::default(), BucketSettings::default())
        .await;
    append(&store, &[span(1, "a").trace(1)]).await;
    append(&store, &[span(1, "a").trace(2)]).await;
    store.compact().await.unwrap();
    for index in shelf.objects("index.pb.zst").await {
        let bytes = shelf
            .store
            .get(&index)
            .await
            .unwrap()
            .bytes()
            .await
            .unwrap();
        let other = Path::from(index.as_ref().replace("anonymous", "gone"));
        shelf.store.put(&other, bytes.into()).await.unwrap();
    }
    store.compact().await.unwrap();
    let range = TimeRangeNs::new(0, (NOW_S * SECOND) as i64);
    let answer = store
        .search(&TenantId::new("gone").unwrap(), "{}", range, 10)
        .await
        .unwrap();
    assert_eq!(answer.value.len(), 0);
    assert_eq!(found(&store, "{}").await, (vec![1, 2], vec![]));
}

#[tokio::test]
async fn f10_blocks_of_different_formats_are_read_together_and_joined_apart() {
    let shelf = Shelf::new();
    for n in 1..=4 {
        let version = if n % 2 == 0 { "vParquet4" } else { "vParquet5" };
        let bucket = BucketSettings {
            version: version.into(),
            ..BucketSettings::default()
        };
        let store = shelf.open(Limits::default(), bucket).await;
        append(
            &store,
            &[span(1, "a").trace(n).attributes(&json!({"k": n}))],
        )
        .await;
        store.close().await.unwrap();
    }
    // One in a format that nobody knows.
    let meta = shelf.objects("meta.json").await.remove(0);
    let bytes = shelf.store.get(&meta).await.unwrap().bytes().await.unwrap();
    let mut json: Value = serde_json::from_slice(&bytes).unwrap();
    let id = "00000000-0000-4000-8000-000000000001";
    (json["blockID"], json["format"]) = (id.into(), "vParquet5-preview".into());
    let folder = meta
        .as_ref()
        .rsplit_once('/')
        .unwrap()
        .0
        .rsplit_once('/')
        .unwrap()
        .0;
    let other = Path::from(format!("{folder}/{id}/meta.json"));
    shelf
        .store
        .put(&other, json.to_string().into())
        .await
        .unwrap();
    let store = shelf
        .open(Limits::default(), BucketSettings::default())
        .await;
    for _ in 0..2 {
        let (traces, warnings) = found(&store, "{ span.k > 0 }").await;
        assert_eq!(traces, [1, 2, 3, 4]);
        assert!(
            warnings.len() <= 1 && warnings.iter().all(|w| w.contains(id)),
            "{warnings:?}"
        );
        store.compact().await.unwrap();
    }
    let blocks = store.blocks().blocks(&TenantId::anonymous()).await.unwrap();
    let formats: Vec<&str> = blocks.live.iter().map(|m| m.format.as_str()).collect();
    assert_eq!(
        formats.iter().filter(|f| **f == "vParquet4").count(),
        1,
        "{formats:?}"
    );
    assert_eq!(
        formats.iter().filter(|f| **f == "vParquet5").count(),
        1,
        "{formats:?}"
    );
}

#[tokio::test]
async fn f11_a_list_of_columns_that_is_not_the_files_gives_no_wrong_values() {
    let shelf = Shelf::new();
    let columns = json!([{"n": "first"}, {"n": "second"}]);
    let store = shelf
        .open(with_columns(&columns), BucketSettings::default())
        .await;
    append(
        &store,
        &[span(1, "a").attributes(&json!({"first": "1", "second": "2"}))],
    )
    .await;
    store.close().await.unwrap();
    for wrong in [
        json!([]),
        json!([{"n": "a"}, {"n": "b"}, {"n": "c"}]),
        json!([{"s": "resource", "n": "first"}]),
    ] {
        let meta = shelf.objects("meta.json").await.remove(0);
        let bytes = shelf.store.get(&meta).await.unwrap().bytes().await.unwrap();
        let mut json: Value = serde_json::from_slice(&bytes).unwrap();
        json["dedicatedColumns"] = wrong;
        shelf
            .store
            .put(&meta, json.to_string().into())
            .await
            .unwrap();
        let store = shelf
            .open(Limits::default(), BucketSettings::default())
            .await;
        // What the list says is what a reader can know; nothing ends the process, and other columns are as they were.
        assert_eq!(found(&store, "{ name = \"a\" }").await.0, [1]);
        let _ = found(&store, "{ span.first = \"1\" }").await;
        let trace = store
            .find_trace(&TenantId::anonymous(), id(1))
            .await
            .unwrap();
        assert!(!trace.bytes.is_empty());
        store.close().await.unwrap();
    }
}

#[tokio::test]
async fn f16_joined_blocks_stay_a_while_for_those_who_read_them() {
    let shelf = Shelf::new();
    let store = shelf
        .open(Limits::default(), BucketSettings::default())
        .await;
    append(&store, &[span(1, "a").trace(1)]).await;
    append(&store, &[span(1, "a").trace(2)]).await;
    store.compact().await.unwrap();
    assert_eq!(shelf.objects("meta.compacted.json").await.len(), 2);
    assert_eq!(shelf.objects("data.parquet").await.len(), 3);
    shelf.clock.advance(Duration::from_secs(3599));
    store.compact().await.unwrap();
    assert_eq!(shelf.objects("data.parquet").await.len(), 3);
    shelf.clock.advance(Duration::from_secs(10));
    store.compact().await.unwrap();
    assert_eq!(shelf.objects("data.parquet").await.len(), 1);
    assert_eq!(shelf.objects("meta.compacted.json").await.len(), 0);
}

#[tokio::test]
async fn f17_a_block_that_is_marked_so_is_not_joined() {
    let shelf = Shelf::new();
    let store = shelf
        .open(Limits::default(), BucketSettings::default())
        .await;
    for n in 1..=3 {
        append(&store, &[span(1, "a").trace(n)]).await;
    }
    let meta = shelf.objects("meta.json").await.remove(0);
    let flag = Path::from(meta.as_ref().replace("meta.json", "nocompact.flg"));
    shelf.store.put(&flag, Vec::new().into()).await.unwrap();
    store.compact().await.unwrap();
    assert_eq!(shelf.objects("meta.compacted.json").await.len(), 2);
    shelf.store.get(&meta).await.unwrap();
    shelf.store.delete(&flag).await.unwrap();
    store.compact().await.unwrap();
    assert_eq!(
        shelf.objects("/meta.json").await.len(),
        2,
        "of another level: they wait for their like"
    );
    assert_eq!(found(&store, "{}").await.0, [1, 2, 3]);
}

#[tokio::test]
async fn what_a_broken_upload_left_is_deleted_after_a_day_and_not_before() {
    let shelf = Shelf::new();
    let store = shelf
        .open(Limits::default(), BucketSettings::default())
        .await;
    append(&store, &[span(1, "a").trace(1)]).await;
    let meta = shelf.objects("/meta.json").await.remove(0);
    let left = meta
        .as_ref()
        .rsplit_once('/')
        .unwrap()
        .0
        .rsplit_once('/')
        .unwrap()
        .0;
    let left = format!("{left}/00000000-0000-4000-8000-000000000001");
    for name in ["data.parquet", "bloom-0"] {
        let path = Path::from(format!("{left}/{name}"));
        shelf.store.put(&path, vec![1; 10].into()).await.unwrap();
    }
    let is_there = async || !shelf.objects("000000000001/bloom-0").await.is_empty();
    store.compact().await.unwrap();
    shelf.clock.advance(Duration::from_secs(23 * 3600));
    store.compact().await.unwrap();
    assert!(is_there().await);
    // Somebody still writes: it begins anew.
    let path = Path::from(format!("{left}/index"));
    shelf.store.put(&path, vec![1; 10].into()).await.unwrap();
    shelf.clock.advance(Duration::from_secs(2 * 3600));
    store.compact().await.unwrap();
    assert!(is_there().await);
    shelf.clock.advance(Duration::from_secs(25 * 3600));
    store.compact().await.unwrap();
    assert!(!is_there().await);
    assert_eq!(
        shelf.objects("data.parquet").await.len(),
        1,
        "the whole block stays"
    );
}

#[tokio::test]
async fn an_answer_with_values_looks_into_so_many_blocks_and_says_so() {
    let shelf = Shelf::new();
    let mut limits = Limits::default();
    limits.read.max_blocks_per_tag_values_query = 2;
    let store = shelf.open(limits, BucketSettings::default()).await;
    for n in 1..=4 {
        let span = span(1, "a").trace(n).at(300_000 - n * 10_000, 10);
        append(&store, &[span.attributes(&json!({"k": format!("v{n}")}))]).await;
    }
    let range = TimeRangeNs::new(((NOW_S - 3600) * SECOND) as i64, (NOW_S * SECOND) as i64);
    let tenant = TenantId::anonymous();
    let answer = store.tag_values(&tenant, "span.k", range).await.unwrap();
    let values: Vec<&str> = answer.value.iter().map(|v| v.text.as_str()).collect();
    assert_eq!(values, ["v3", "v4"]);
    assert!(
        answer.end.warnings[0].contains("newest 2 of 4 blocks"),
        "{:?}",
        answer.end.warnings
    );
    let names = store.tag_names(&tenant, range).await.unwrap();
    assert_eq!(names.end.warnings.len(), 1);
    assert_eq!(
        found(&store, "{ span.k != nil }").await,
        (vec![1, 2, 3, 4], vec![])
    );
}

#[tokio::test]
async fn parts_of_a_trace_far_outside_the_range_are_joined_as_far_as_the_settings_say() {
    for (window_s, length_s) in [(3600, 1), (3 * 3600, 7200)] {
        let shelf = Shelf::new();
        let bucket = BucketSettings {
            trace_parts_window: Duration::from_secs(window_s),
            ..BucketSettings::default()
        };
        let store = shelf.open(Limits::default(), bucket).await;
        append(&store, &[span(1, "root").at(7_200_000 + 60_000, 10)]).await;
        append(&store, &[span(2, "late").under(1).at(61_000, 1000)]).await;
        let range = TimeRangeNs::new(((NOW_S - 600) * SECOND) as i64, (NOW_S * SECOND) as i64);
        let tenant = TenantId::anonymous();
        let answer = store.search(&tenant, "{ name = \"late\" }", range, 10);
        let hits = answer.await.unwrap().value;
        assert_eq!(hits.len(), 1);
        assert_eq!(hits[0].duration_ns / SECOND, length_s);
    }
}

fn of(query: &str) -> RedactedTraces {
    RedactedTraces::Query(RedactionFilter::new(query).unwrap(), None)
}

fn request(traces: RedactedTraces, is_dry_run: bool) -> RedactionRequest {
    RedactionRequest { traces, is_dry_run }
}

/// Four traces in three blocks: the first has parts in two, of which one names the user.
async fn with_users(shelf: &Shelf) -> TraceStore {
    let store = shelf
        .open(Limits::default(), BucketSettings::default())
        .await;
    let user = |trace: u64, id: u64, name: &str| {
        span(id, "a")
            .trace(trace)
            .attributes(&json!({"user": name}))
    };
    append(&store, &[user(1, 1, "ann"), user(2, 1, "bob")]).await;
    append(&store, &[span(2, "late").trace(1), user(3, 1, "bob")]).await;
    append(&store, &[user(4, 1, "eve")]).await;
    store
}

#[tokio::test]
async fn f18_a_redacted_trace_is_gone_from_every_block_and_nothing_else_is() {
    for traces in [
        RedactedTraces::Ids(vec![id(1), id(9)]),
        of("{ span.user = \"ann\" }"),
    ] {
        let shelf = Shelf::new();
        let store = with_users(&shelf).await;
        let tenant = TenantId::anonymous();
        let before = shelf.objects("").await;
        let dry = store.redact(&tenant, &request(traces.clone(), true)).await;
        assert_eq!(dry.unwrap().blocks, 2);
        assert_eq!(shelf.objects("").await, before, "a dry run changes nothing");
        assert_eq!(found(&store, "{}").await, (vec![1, 2, 3, 4], vec![]));
        let done = store
            .redact(&tenant, &request(traces, false))
            .await
            .unwrap();
        assert_eq!((done.blocks, done.warnings), (2, vec![]));
        let gone = async |store: &TraceStore| {
            assert_eq!(found(store, "{}").await, (vec![2, 3, 4], vec![]));
            let by_id = store.find_trace(&tenant, id(1)).await;
            assert!(by_id.unwrap().bytes.is_empty());
        };
        gone(&store).await;
        store.compact().await.unwrap();
        gone(&store).await;
        // A while later nothing is left, be it of the old blocks or of the order.
        shelf.clock.advance(Duration::from_secs(3601));
        store.compact().await.unwrap();
        store.compact().await.unwrap();
        assert_eq!(shelf.objects("meta.compacted.json").await.len(), 0);
        let orders = shelf.objects("").await;
        let orders = orders.iter().filter(|p| p.as_ref().contains("redactions"));
        assert_eq!(orders.count(), 0);
        let again = shelf.open(Limits::default(), BucketSettings::default());
        gone(&again.await).await;
    }
}

#[tokio::test]
async fn f18_a_redaction_follows_blocks_that_come_late() {
    let shelf = Shelf::new();
    let store = with_users(&shelf).await;
    let tenant = TenantId::anonymous();
    let done = store
        .redact(&tenant, &request(of("{ span.user = \"ann\" }"), false))
        .await;
    assert_eq!(done.unwrap().traces, 1);
    // Another process joined the old blocks meanwhile, or wrote more of the user's.
    let late = [
        span(7, "later").trace(1),
        span(8, "a").trace(5).attributes(&json!({"user": "ann"})),
        span(9, "a").trace(6),
    ];
    append(&store, &late).await;
    append(&store, &[span(10, "b").trace(5)]).await;
    store.compact().await.unwrap();
    assert_eq!(found(&store, "{}").await, (vec![2, 3, 4, 6], vec![]));
    // After the watch new data is new data.
    shelf.clock.advance(Duration::from_secs(51 * 60));
    store.compact().await.unwrap();
    append(&store, &[span(7, "new").trace(1)]).await;
    store.compact().await.unwrap();
    assert_eq!(found(&store, "{}").await, (vec![1, 2, 3, 4, 6], vec![]));
}

#[tokio::test]
async fn f18_what_cannot_be_redacted_is_said() {
    let shelf = Shelf::new();
    let store = with_users(&shelf).await;
    let tenant = TenantId::anonymous();
    let kind = async |store: &TraceStore, traces: RedactedTraces, tenant: &TenantId| {
        let refused = store.redact(tenant, &request(traces, false)).await;
        refused.unwrap_err().kind()
    };
    let none = RedactedTraces::Ids(Vec::new());
    assert_eq!(kind(&store, none, &tenant).await, ErrorKind::InvalidInput);
    let nobody = TenantId::new("nobody").unwrap();
    let one = RedactedTraces::Ids(vec![id(1)]);
    assert_eq!(
        kind(&store, one.clone(), &nobody).await,
        ErrorKind::NotFound
    );
    let filter = RedactionFilter::new("{ span.user = \"ann\" }").unwrap();
    let long_ago = RedactedTraces::Query(filter, Some(TimeRangeNs::new(0, 1)));
    assert_eq!(kind(&store, long_ago, &tenant).await, ErrorKind::NotFound);
    let mut limits = Limits::default();
    limits.compaction.compaction_disabled = true;
    let other = shelf.open(limits, BucketSettings::default()).await;
    assert_eq!(kind(&other, one, &tenant).await, ErrorKind::InvalidInput);
    // More traces than one redaction may have: none goes, and no order stays.
    let backend = Backend::new(Arc::clone(&shelf.store) as _, BackendKind::Memory);
    let bounded = TraceStore::builder("data", backend)
        .disk(Arc::new(CrashDisk::new(2)))
        .clock(Arc::clone(&shelf.clock) as _)
        .executor(Executor::inline(tokio::runtime::Handle::current()))
        .compactor(CompactorSettings {
            max_redacted_traces: 1,
            ..CompactorSettings::default()
        })
        .without_housekeeping();
    let bounded = bounded.open().await.unwrap();
    let two = of("{ span.user = \"bob\" }");
    assert_eq!(kind(&bounded, two, &tenant).await, ErrorKind::LimitExceeded);
    bounded.compact().await.unwrap();
    assert_eq!(found(&bounded, "{}").await.0, [1, 2, 3, 4]);
    let orders = shelf.objects("").await;
    assert!(orders.iter().all(|p| !p.as_ref().contains("redactions")));
}
