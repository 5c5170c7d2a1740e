//! Every query of the conformance sets, asked of a head and of blocks: the answers are those of the same traces in memory.

use crate::shared;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::otlp_json::{Stored, protobuf};
use lgtm_core::clock::ManualClock;
use lgtm_core::codec::Allowance;
use lgtm_core::exec::Executor;
use lgtm_core::limits::Overrides;
use lgtm_core::model::TenantId;
use lgtm_core::storage::{Bucket, DataKind, Layout};
use lgtm_core::testing::CrashDisk;
use lgtm_core::units::ByteSize;
use lgtm_tracestore::block_id::BlockId;
use lgtm_tracestore::bucket::{BlockList, BlockUpload, BucketSelect, BucketSettings};
use lgtm_tracestore::components::{IngesterSettings, MetricsRequest, SearchRequest, TraceStore};
use lgtm_tracestore::head::{HeadHost, HeadSelect, HeadSettings, Heads};
use lgtm_tracestore::limits::{Limits, PushReport};
use lgtm_tracestore::select::{
    Field, Intrinsic, ReadyBatches, Select, SelectEnd, SpanBatches, SpanRequest, TraceRange,
    WantedRows,
};
use lgtm_tracestore::trace::DedicatedColumns;
use lgtm_tracestore::traceql::{
    IntervalGrid, Metrics, MetricsAnswer, MetricsSettings, Query, Search, SearchSettings, TagNames,
    TagScope, TagValues, TraceHit, parse,
};
use lgtm_tracestore::wire::{PushBatch, PushOptions, decode_otlp};
use object_store::memory::InMemory;
use serde_json::Value;

pub(crate) const NOW_S: i64 = 1_795_357_046;

pub(crate) fn tenant() -> TenantId {
    TenantId::new("t").unwrap()
}

/// Requests of a set, as protobuf.
pub(crate) fn requests(set: &Path) -> Vec<Vec<u8>> {
    let mut text = String::new();
    let file = std::fs::File::open(set.join("input.jsonl.gz")).unwrap();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(file), &mut text).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    lines.map(|json: Value| protobuf(&json)).collect()
}

pub(crate) fn executor() -> Executor {
    Executor::inline(tokio::runtime::Handle::current())
}

/// A head with these requests in it: some of the traces live, most in several batches.
async fn head(requests: &[Vec<u8>]) -> Arc<Heads> {
    let clock = Arc::new(ManualClock::at_ms(NOW_S * 1000));
    let host = HeadHost {
        disk: Arc::new(CrashDisk::new(1)),
        clock: Arc::clone(&clock) as _,
        executor: executor(),
        seed: 7,
    };
    let settings = HeadSettings {
        batch_bytes: ByteSize::kib(64),
        ..HeadSettings::default()
    };
    let limits = Overrides::fixed(Limits::default());
    let (heads, log) = Heads::open(host, "traces", settings, limits).unwrap();
    heads.replay(log).unwrap();
    for (n, body) in requests.iter().enumerate() {
        let mut batch = PushBatch::default();
        let mut grow = |_| Ok(());
        let fill = |out: &mut Vec<u8>, _: &mut Allowance<'_>| {
            out.extend_from_slice(body);
            Ok(())
        };
        let options = PushOptions {
            max_attribute_bytes: 0,
        };
        decode_otlp(&mut batch, options, &mut Allowance::new(0, &mut grow), fill).unwrap();
        let mut report = PushReport::default();
        heads.push(&tenant(), &batch, &mut report).await.unwrap();
        assert_eq!(report.refused_spans(), 0);
        if n % 50 == 49 {
            clock.advance(Duration::from_secs(6));
            heads.maintain().await.unwrap();
        }
    }
    Arc::new(heads)
}

/// A bucket with what a head has, in a block of that version with several row groups.
async fn bucket(heads: &Heads, version: &str) -> BucketSelect {
    let (bucket, settings) = stored(heads, version).await;
    select_of(bucket, &settings)
}

fn select_of(bucket: Bucket, settings: &BucketSettings) -> BucketSelect {
    let clock = Arc::new(ManualClock::at_ms(NOW_S * 1000));
    let list = BlockList::new(bucket.clone(), executor(), clock, settings.blocklist_poll);
    BucketSelect::new(bucket, executor(), Arc::new(list), settings)
}

async fn stored(heads: &Heads, version: &str) -> (Bucket, BucketSettings) {
    let bucket: Bucket = Layout::single_bucket(InMemory::new()).bucket(DataKind::Traces);
    let settings = BucketSettings {
        version: version.to_owned(),
        row_group_size: ByteSize::kib(8),
        page_size: ByteSize::kib(4),
        // Of so small a block everything is.
        side_file_max_percent: 100.0,
        ..BucketSettings::default()
    };
    heads.pack_live(None).await.unwrap();
    let id = BlockId::random([1; 16]);
    let leaving = heads.begin_flush(&tenant(), id).unwrap();
    let upload = BlockUpload::new(bucket.clone(), executor(), settings.clone());
    let dedicated = DedicatedColumns::standard();
    let meta = upload
        .write(&tenant(), id, &dedicated, leaving.merge())
        .await;
    assert!(meta.unwrap().unwrap().row_group_count > 1);
    // The head keeps what it has for the next version.
    heads.settle_block(&tenant(), id, false);
    drop(leaving);
    heads.settle_block(&tenant(), id, false);
    (bucket, settings)
}

/// Names and values without a filter.
async fn tags(holder: &dyn Select) -> String {
    let mut names = TagNames::new(TagScope::All, None, 0).unwrap();
    let mut answer = holder.select(&tenant(), names.request()).await.unwrap();
    while let Some(batch) = answer.next_batch().await.unwrap() {
        names.fold(&batch);
    }
    let names = names.finish();
    let mut out = format!("{names:?}");
    let attributes = names.iter().flat_map(|(scope, names)| {
        names
            .iter()
            .map(|name| Field::attribute(*scope, name.as_str()))
    });
    let intrinsics = [
        Intrinsic::Name,
        Intrinsic::Kind,
        Intrinsic::Status,
        Intrinsic::RootName,
        Intrinsic::EventName,
    ];
    for field in attributes.chain(intrinsics.map(Field::from)) {
        let mut values = TagValues::new(vec![field.clone()], None, 0).unwrap();
        let mut answer = holder.select(&tenant(), values.request()).await.unwrap();
        while let Some(batch) = answer.next_batch().await.unwrap() {
            values.fold(&batch);
        }
        out.push_str(&format!("\n{field}: {:?}", values.finish()));
    }
    out
}

#[tokio::test]
async fn side_files_on_off_and_damaged_give_equal_answers() {
    let Some(folder) = shared::folder("conformance") else {
        return;
    };
    let set = folder.join("traceql");
    let requests = requests(&set);
    let stored_traces = Stored::of(requests.clone());
    let heads = head(&requests).await;
    let (bucket, settings) = stored(&heads, "vParquet4").await;
    let with = select_of(bucket.clone(), &settings);
    let off = BucketSettings {
        side_file_max_percent: 0.0,
        ..settings.clone()
    };
    let without = select_of(bucket.clone(), &off);
    let objects: Vec<_> = futures::TryStreamExt::try_collect(bucket.list("t"))
        .await
        .unwrap();
    let side = objects
        .iter()
        .find(|o| o.path.ends_with("/lgtm-skip"))
        .unwrap();
    let mut file = bucket.get(&side.path).await.unwrap().to_vec();
    // Read before it is damaged.
    let told = tags(&with).await;
    assert_eq!(told, tags(&without).await);
    let middle = file.len() / 2;
    file[middle] ^= 4;
    bucket.put(&side.path, file).await.unwrap();
    let damaged = select_of(bucket.clone(), &settings);
    assert_eq!(told, tags(&damaged).await);
    let cases = shared::json_lines(&set.join("cases.jsonl"));
    let (mut fewer, mut all) = (0, 0);
    for case in cases.iter().step_by(9) {
        let text = case["query"].as_str().unwrap_or_default();
        let Ok(query) = parse(text) else {
            continue;
        };
        let settings = SearchSettings {
            limit: 1000,
            ..SearchSettings::default()
        };
        let expected = search(None, &stored_traces, &query, settings).await;
        for (name, holder) in [("on", &with), ("off", &without), ("damaged", &damaged)] {
            let found = search(Some(holder), &stored_traces, &query, settings).await;
            assert_eq!(found, expected, "{name}: {text}");
        }
        let request = Search::new(&query, settings).request().clone();
        let mut spans = [0; 2];
        for (n, holder) in [&with, &without].into_iter().enumerate() {
            let mut answer = holder.select(&tenant(), &request).await.unwrap();
            while answer.next_batch().await.unwrap().is_some() {}
            spans[n] = answer.end().stats.inspected_spans;
        }
        assert!(spans[0] <= spans[1], "{text}");
        fewer += u64::from(spans[0] < spans[1]);
        all += 1;
    }
    println!("side files spared reads for {fewer} of {all} queries");
    assert!(fewer > 0);
}

async fn answer_of(
    holder: Option<&dyn Select>,
    stored: &Stored,
    request: &SpanRequest,
    all: &SpanRequest,
) -> Box<dyn SpanBatches> {
    match holder {
        Some(holder) => holder.select(&tenant(), request).await.unwrap(),
        None => Box::new(ReadyBatches::new(
            stored.batches(&all.columns, 7),
            SelectEnd::default(),
        )),
    }
}

/// The hits of a search in two passes; `None`: of the traces in memory.
pub(crate) async fn search(
    holder: Option<&dyn Select>,
    stored: &Stored,
    query: &Query,
    settings: SearchSettings,
) -> Vec<TraceHit> {
    let mut search = Search::new(query, settings);
    let (request, all) = (search.request().clone(), search.whole_request());
    let mut answer = answer_of(holder, stored, &request, &all).await;
    while let Some(batch) = answer.next_batch().await.unwrap() {
        if let Some(start_ns) = search.oldest_start_ns() {
            answer.leave_out_before(start_ns);
        }
        let matches = search.matches(&batch);
        let wanted = WantedRows {
            row_ids: matches.rows().map(|row| batch.row_ids[row]).collect(),
            columns: search.details().clone(),
        };
        let details = answer.rows(&wanted).await.unwrap();
        search.add(&batch, matches, &details).unwrap();
        let newest = answer.newest_start_ns();
        if newest.is_some_and(|ns| search.is_settled(ns)) {
            break;
        }
    }
    assert_eq!(answer.end().warnings, Vec::<String>::new());
    search.finish()
}

/// The answer to a query for series, as text.
pub(crate) async fn metrics(
    holder: Option<&dyn Select>,
    stored: &Stored,
    query: &Query,
    settings: &MetricsSettings,
) -> Option<String> {
    let mut metrics = Metrics::new(query, settings).ok()?;
    let request = metrics.request().clone();
    let mut answer = answer_of(holder, stored, &request, &request).await;
    while let Some(batch) = answer.next_batch().await.unwrap() {
        metrics.fold(&batch).unwrap();
    }
    let answer = MetricsAnswer::of(query, settings, metrics.finish());
    Some(format!("{answer:?}"))
}

/// A store with these requests: as many flushes as parts, the last part of which stays live if `is_half`.
async fn store(requests: &[Vec<u8>], parts: usize, is_half: bool) -> TraceStore {
    let clock = Arc::new(ManualClock::at_ms(NOW_S * 1000));
    let mut limits = Limits::default();
    limits.ingestion.max_attribute_bytes = ByteSize::bytes(0);
    // The spans of the sets are years old.
    limits.compaction.block_retention = Duration::ZERO;
    let store = TraceStore::builder("traces", InMemory::new())
        .disk(Arc::new(CrashDisk::new(1)))
        .settings(IngesterSettings {
            head: HeadSettings {
                batch_bytes: ByteSize::kib(64),
                ..HeadSettings::default()
            },
            ..IngesterSettings::default()
        })
        .bucket(BucketSettings {
            row_group_size: ByteSize::kib(64),
            ..BucketSettings::default()
        })
        .limits(Overrides::fixed(limits))
        .clock(clock)
        .executor(executor())
        .without_housekeeping()
        .open();
    let store = store.await.unwrap();
    let each = requests.len().div_ceil(parts.max(1)).max(1);
    let chunks: Vec<&[Vec<u8>]> = requests.chunks(each).collect();
    for (n, chunk) in chunks.iter().enumerate() {
        for body in *chunk {
            let report = store.append_otlp(&tenant(), body).await.unwrap();
            assert_eq!(report.refused_spans(), 0);
        }
        if parts > 0 && !(is_half && n + 1 == chunks.len()) {
            assert!(store.flush().await.unwrap().blocks > 0);
        }
    }
    store
}

/// The hits of a search, and the answer to a query for series, of a store.
async fn search_store(
    store: &TraceStore,
    query: &Query,
    settings: SearchSettings,
) -> Vec<TraceHit> {
    let query = Arc::new(query.clone());
    let request = SearchRequest { query, settings };
    let answer = store.queries().search(&tenant(), &request, None).await;
    let answer = answer.unwrap();
    assert_eq!(answer.end.warnings, Vec::<String>::new());
    answer.value
}

async fn metrics_store(store: &TraceStore, query: &Query, settings: &MetricsSettings) -> String {
    let request = MetricsRequest {
        query: Arc::new(query.clone()),
        settings: *settings,
    };
    let answer = store
        .queries()
        .metrics(&tenant(), &request, None)
        .await
        .unwrap();
    assert_eq!(answer.end.warnings, Vec::<String>::new());
    format!("{:?}", answer.value)
}

#[tokio::test]
async fn queries_are_answered_alike_by_a_store_live_flushed_half_flushed_and_compacted() {
    compare_stores(16).await;
}

#[tokio::test]
#[ignore = "takes minutes"]
async fn every_query_is_answered_alike_by_a_store_live_flushed_half_flushed_and_compacted_long() {
    compare_stores(1).await;
}

async fn compare_stores(one_of: usize) {
    let Some(folder) = shared::folder("conformance") else {
        return;
    };
    let sets = shared::folders(&folder);
    for set in sets.iter().filter(is_traceql) {
        let requests = requests(set);
        let stored = Stored::of(requests.clone());
        let compacted = store(&requests, 4, false).await;
        compacted.compact().await.unwrap();
        let blocks = compacted.blocks().blocks(&tenant()).await.unwrap();
        assert!(!blocks.compacted.is_empty());
        let stores = [
            ("live", store(&requests, 0, false).await),
            ("flushed", store(&requests, 3, false).await),
            ("half flushed", store(&requests, 3, true).await),
            ("compacted", compacted),
        ];
        for (n, (text, case)) in cases(set, 1).into_iter().enumerate() {
            let query = parse(&text).unwrap();
            // Compaction puts parts of traces together: its blocks are asked everything.
            let is_asked = |name: &str| name == "compacted" || n.is_multiple_of(one_of);
            let asked = stores.iter().filter(|(name, _)| is_asked(name));
            match case {
                Case::Search(settings) => {
                    let expected = search(None, &stored, &query, settings).await;
                    for (name, store) in asked {
                        let found = search_store(store, &query, settings).await;
                        assert_eq!(found, expected, "{name}: {text}");
                    }
                }
                Case::Series(settings) => {
                    let Some(expected) = metrics(None, &stored, &query, &settings).await else {
                        continue;
                    };
                    for (name, store) in asked {
                        let found = metrics_store(store, &query, &settings).await;
                        let (mut found, mut expected) = (rounded(&found), rounded(&expected));
                        if !n.is_multiple_of(one_of) {
                            // Of what is remembered of a longer range fewer are shown than are chosen for this one.
                            (found, expected) =
                                (without_exemplars(&found), without_exemplars(&expected));
                        }
                        assert_eq!(found, expected, "{name}: {text}");
                    }
                }
            }
        }
    }
}

/// A printed answer without the exemplars of its series.
fn without_exemplars(answer: &str) -> String {
    let mut parts = answer.split("exemplars: [");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let mut depth = 1;
        let behind = part.find(|c| {
            depth += i32::from(c == '[') - i32::from(c == ']');
            depth == 0
        });
        out.push_str(behind.map_or("", |at| &part[at..]));
    }
    out
}

/// What a case of a set asks.
pub(crate) enum Case {
    Search(SearchSettings),
    Series(MetricsSettings),
}

pub(crate) fn is_traceql(set: &&std::path::PathBuf) -> bool {
    let name = set.file_name().unwrap().to_string_lossy().into_owned();
    name.starts_with("traceql")
}

/// Cases of a set, with their queries.
pub(crate) fn cases(set: &Path, one_of: usize) -> Vec<(String, Case)> {
    let all = shared::json_lines(&set.join("cases.jsonl"));
    let cases = all.into_iter().step_by(one_of).filter_map(|case| {
        let text = case["query"].as_str().unwrap_or_default();
        parse(text).ok()?;
        let number = |key: &str| match &case["params"][key] {
            Value::String(text) => text.parse::<u64>().ok(),
            value => value.as_u64(),
        };
        let seconds = |key| number(key).filter(|n| *n < 1 << 34);
        let (start, end) = (seconds("start")?, seconds("end")?);
        let (start_ns, end_ns) = (start * 1_000_000_000, end * 1_000_000_000);
        let of_case = if case["api"] == "search" {
            Case::Search(SearchSettings {
                limit: number("limit").filter(|n| *n > 0).unwrap_or(20) as usize,
                spans_per_set: number("spss").unwrap_or(3) as usize,
                range: Some(TraceRange { start_ns, end_ns }),
                ..SearchSettings::default()
            })
        } else if case["api"] == "query_range" {
            Case::Series(MetricsSettings {
                grid: IntervalGrid::range(start_ns, end_ns, 60_000_000_000).ok()?,
                // Which spans are shown depends on the order in which they come.
                exemplars: 0,
                max_series: 0,
                max_bytes: 1 << 30,
            })
        } else {
            return None;
        };
        Some((text.to_owned(), of_case))
    });
    cases.collect()
}

/// Digits beyond what sums in another order keep.
pub(crate) fn rounded(text: &str) -> String {
    let is_number = |c: char| c.is_ascii_digit() || c == '.';
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(is_number) {
        out.push_str(&rest[..at]);
        let end = rest[at..]
            .find(|c| !is_number(c))
            .map_or(rest.len(), |n| at + n);
        out.push_str(&rest[at..end.min(at + 12)]);
        rest = &rest[end..];
    }
    out + rest
}

#[tokio::test]
async fn queries_are_answered_alike_in_memory_by_the_head_and_by_blocks() {
    // Each reads all that the holders have: one of eight here, all of them in the long test.
    compare(8).await;
}

#[tokio::test]
#[ignore = "takes minutes"]
async fn every_query_is_answered_alike_in_memory_by_the_head_and_by_blocks_long() {
    compare(1).await;
}

async fn compare(one_of: usize) {
    let Some(folder) = shared::folder("conformance") else {
        return;
    };
    let sets = shared::folders(&folder);
    for set in sets.iter().filter(is_traceql) {
        let requests = requests(set);
        let stored = Stored::of(requests.clone());
        let heads = head(&requests).await;
        let of_head = HeadSelect::new(Arc::clone(&heads));
        let (v4, v5) = (
            bucket(&heads, "vParquet4").await,
            bucket(&heads, "vParquet5").await,
        );
        let holders: [(&str, &dyn Select); 3] =
            [("head", &of_head), ("vParquet4", &v4), ("vParquet5", &v5)];
        let (mut searches, mut series) = (0, 0);
        for (text, case) in cases(set, one_of) {
            let query = parse(&text).unwrap();
            match case {
                Case::Search(settings) => {
                    let expected = search(None, &stored, &query, settings).await;
                    for (name, holder) in holders {
                        let found = search(Some(holder), &stored, &query, settings).await;
                        assert_eq!(found, expected, "{name}: {text}");
                    }
                    searches += 1;
                }
                Case::Series(settings) => {
                    let Some(expected) = metrics(None, &stored, &query, &settings).await else {
                        continue;
                    };
                    for (name, holder) in holders {
                        let found = metrics(Some(holder), &stored, &query, &settings)
                            .await
                            .unwrap();
                        assert_eq!(rounded(&found), rounded(&expected), "{name}: {text}");
                    }
                    series += 1;
                }
            }
        }
        println!(
            "{}: {searches} searches, {series} queries for series",
            set.display()
        );
        assert!(searches > 0);
    }
}
