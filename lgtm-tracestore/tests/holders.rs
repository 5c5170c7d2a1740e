//! Every query of the conformance sets, asked of a head and of blocks: the answers are those of the same traces in memory.

#![allow(clippy::unwrap_used, reason = "what serves tests only is a test")]
#![allow(clippy::print_stdout, reason = "a test says what it leaves out")]

mod otlp_json;
mod shared;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

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
use lgtm_tracestore::head::{HeadHost, HeadSelect, HeadSettings, Heads};
use lgtm_tracestore::limits::{Limits, PushReport};
use lgtm_tracestore::select::{
    ReadyBatches, Select, SelectEnd, SpanBatches, SpanRequest, TraceRange, WantedRows,
};
use lgtm_tracestore::trace::DedicatedColumns;
use lgtm_tracestore::traceql::{
    IntervalGrid, Metrics, MetricsAnswer, MetricsSettings, Query, Search, SearchSettings, TraceHit,
    parse,
};
use lgtm_tracestore::wire::{PushBatch, PushOptions, decode_otlp};
use object_store::memory::InMemory;
use otlp_json::{Stored, protobuf};
use serde_json::Value;

const NOW_S: i64 = 1_795_357_046;

fn tenant() -> TenantId {
    TenantId::new("t").unwrap()
}

/// Requests of a set, as protobuf.
fn requests(set: &Path) -> Vec<Vec<u8>> {
    let mut text = String::new();
    let file = std::fs::File::open(set.join("input.jsonl.gz")).unwrap();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(file), &mut text).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    lines.map(|json: Value| protobuf(&json)).collect()
}

fn executor() -> Executor {
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
    let bucket: Bucket = Layout::single_bucket(InMemory::new()).bucket(DataKind::Traces);
    let settings = BucketSettings {
        version: version.to_owned(),
        row_group_size: ByteSize::kib(8),
        page_size: ByteSize::kib(4),
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
    let clock = Arc::new(ManualClock::at_ms(NOW_S * 1000));
    let list = BlockList::new(bucket.clone(), executor(), clock, settings.blocklist_poll);
    BucketSelect::new(bucket, executor(), Arc::new(list), &settings)
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
async fn search(
    holder: Option<&dyn Select>,
    stored: &Stored,
    query: &Query,
    settings: SearchSettings,
) -> Vec<TraceHit> {
    let mut search = Search::new(query, settings);
    let (request, all) = (search.request().clone(), search.whole_request());
    let mut answer = answer_of(holder, stored, &request, &all).await;
    while let Some(batch) = answer.next_batch().await.unwrap() {
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
async fn metrics(
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

/// Digits beyond what sums in another order keep.
fn rounded(text: &str) -> String {
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
    let is_ours = |p: &&std::path::PathBuf| {
        let name = p.file_name().unwrap().to_string_lossy().into_owned();
        name.starts_with("traceql")
    };
    let sets = shared::folders(&folder);
    for set in sets.iter().filter(is_ours) {
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
        let cases = shared::json_lines(&set.join("cases.jsonl"));
        for case in cases.into_iter().step_by(one_of) {
            let text = case["query"].as_str().unwrap_or_default();
            let Ok(query) = parse(text) else {
                continue;
            };
            let number = |key: &str| match &case["params"][key] {
                Value::String(text) => text.parse::<u64>().ok(),
                value => value.as_u64(),
            };
            let seconds = |key| number(key).filter(|n| *n < 1 << 34);
            let (Some(start), Some(end)) = (seconds("start"), seconds("end")) else {
                continue;
            };
            if case["api"] == "search" {
                let settings = SearchSettings {
                    limit: number("limit").filter(|n| *n > 0).unwrap_or(20) as usize,
                    spans_per_set: number("spss").unwrap_or(3) as usize,
                    range: Some(TraceRange {
                        start_ns: start * 1_000_000_000,
                        end_ns: end * 1_000_000_000,
                    }),
                    ..SearchSettings::default()
                };
                let expected = search(None, &stored, &query, settings).await;
                for (name, holder) in holders {
                    let found = search(Some(holder), &stored, &query, settings).await;
                    assert_eq!(found, expected, "{name}: {text}");
                }
                searches += 1;
            } else if case["api"] == "query_range" {
                let grid =
                    IntervalGrid::range(start * 1_000_000_000, end * 1_000_000_000, 60_000_000_000);
                let Ok(grid) = grid else { continue };
                let settings = MetricsSettings {
                    grid,
                    // Which spans are shown depends on the order in which they come.
                    exemplars: 0,
                    max_series: 0,
                    max_bytes: 1 << 30,
                };
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
        println!(
            "{}: {searches} searches, {series} queries for series",
            set.display()
        );
        assert!(searches > 0);
    }
}
