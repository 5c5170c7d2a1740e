//! Buckets that a real Loki wrote, read as one would be that is taken over: every entry, by every order, with and without compaction.

use crate::shared;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use lgtm_core::clock::SystemClock;
use lgtm_core::codec::Decompressor;
use lgtm_core::exec::{CancelToken, Executor};
use lgtm_core::model::{Labels, Matcher, TenantId, TimeRangeNs, TimestampNs};
use lgtm_core::storage::{Backend, Bucket, DataKind, Layout, LocalDurability};
use lgtm_logstore::bucket::{BucketChunks, BucketSettings};
use lgtm_logstore::components::{Compactor, CompactorSettings};
use lgtm_logstore::index::unpack;
use lgtm_logstore::logql::{
    Direction, Engine, EngineSettings, ParserSettings, Query, QueryRange, QueryValue,
};
use lgtm_logstore::schema::{Schema, SchemaSettings};
use lgtm_logstore::select::{Select, SelectOrder, SelectRequest, StreamShard};
use serde_json::Value;

/// Time, line, structured metadata.
type Entry = (i64, String, Vec<(String, String)>);
type Streams = BTreeMap<String, Vec<Entry>>;

fn text(v: &Value) -> &str {
    v.as_str().unwrap()
}

fn labels(v: &Value) -> Labels {
    let pairs = v.as_object().unwrap().iter();
    Labels::from_pairs(pairs.map(|(n, v)| (n, text(v)))).unwrap()
}

/// What a set must give, by tenant and stream.
fn expected(folder: &Path, set: &str) -> BTreeMap<String, Streams> {
    let sets = std::fs::read_to_string(folder.join("buckets/expected.json")).unwrap();
    let sets: Value = serde_json::from_str(&sets).unwrap();
    let (file, rest) = text(&sets[set]).split_once(".jsonl").unwrap();
    let without_long = !rest.is_empty();
    assert!(!without_long || rest.contains("without the stream whose label app is \"long\""));
    let mut out: BTreeMap<String, Streams> = BTreeMap::new();
    for e in shared::json_lines(&folder.join(format!("{file}.jsonl"))) {
        let labels = labels(&e["stream"]);
        if without_long && labels.get("app") == Some("long") {
            continue;
        }
        let metadata = e["structured_metadata"].as_object().into_iter().flatten();
        let mut metadata: Vec<_> = metadata
            .map(|(n, v)| (n.clone(), text(v).to_owned()))
            .collect();
        metadata.sort();
        let entry = (
            text(&e["ts"]).parse().unwrap(),
            text(&e["line"]).to_owned(),
            metadata,
        );
        let streams = out.entry(text(&e["tenant"]).to_owned()).or_default();
        streams.entry(labels.to_string()).or_default().push(entry);
    }
    out
}

fn schema(set: &str) -> SchemaSettings {
    let mut schema = SchemaSettings::default();
    schema.configs[0].schema = match set {
        "schema-v11" => Schema::V11,
        "schema-v12" => Schema::V12,
        "schema-v14" => Schema::V14,
        _ => Schema::V13,
    };
    schema
}

fn bucket(folder: &Path) -> Bucket {
    let backend = Backend::file(folder, LocalDurability::default()).unwrap();
    let layout = Layout::builder()
        .store(Backend::memory())
        .store_for(DataKind::Logs, backend)
        .build();
    layout.unwrap().bucket(DataKind::Logs)
}

fn any() -> Vec<Matcher> {
    vec![Matcher::regex("service_name", ".*").unwrap()]
}

/// All entries of an answer, which must keep its order.
async fn read(chunks: &BucketChunks, tenant: &TenantId, request: &SelectRequest) -> Streams {
    let mut answer = chunks.select(tenant, request).await.unwrap();
    let mut out = Streams::new();
    let (mut horizon, mut last) = (None, None);
    while let Some(batch) = answer.next_batch().await.unwrap() {
        for b in batch.blocks {
            if request.order == SelectOrder::Streams {
                assert!(last.as_ref().is_none_or(|last| *last <= b.labels));
                last = Some(b.labels.clone());
            }
            let stream = out.entry(b.labels.to_string()).or_default();
            let mut entries: Vec<Entry> = Vec::new();
            for e in b.block.iter() {
                match (request.order, horizon) {
                    (SelectOrder::NewestFirst, Some(h)) => assert!(e.t_ns < h),
                    (SelectOrder::OldestFirst, Some(h)) => assert!(e.t_ns >= h),
                    _ => {}
                }
                let metadata = e.metadata();
                entries.push((
                    e.t_ns.get(),
                    String::from_utf8(e.line.to_vec()).unwrap(),
                    metadata
                        .map(|(n, v)| (n.to_owned(), v.to_owned()))
                        .collect(),
                ));
            }
            if request.order == SelectOrder::NewestFirst {
                entries.append(stream);
                *stream = entries;
            } else {
                stream.append(&mut entries);
            }
        }
        horizon = Some(batch.horizon_ns);
    }
    let end = answer.end();
    assert_eq!(end.warnings, Vec::<String>::new());
    assert!(end.stats.chunks_downloaded > 0 || out.is_empty());
    out
}

fn cut(all: &Streams, range: TimeRangeNs) -> Streams {
    let inside = |e: &&Entry| range.contains(TimestampNs::new(e.0));
    let cut = |(labels, entries): (&String, &Vec<Entry>)| {
        (
            labels.clone(),
            entries.iter().filter(inside).cloned().collect::<Vec<_>>(),
        )
    };
    let mut out: Streams = all.iter().map(cut).collect();
    out.retain(|_, entries| !entries.is_empty());
    out
}

async fn check(chunks: &BucketChunks, wanted: &BTreeMap<String, Streams>, name: &str) {
    for (tenant, streams) in wanted {
        let tenant = TenantId::new(tenant).unwrap();
        let all = SelectRequest::new(any(), TimeRangeNs::ALL);
        for order in [
            SelectOrder::Streams,
            SelectOrder::OldestFirst,
            SelectOrder::NewestFirst,
        ] {
            let got = read(chunks, &tenant, &all.clone().order(order)).await;
            assert_eq!(&got, streams, "{name} {tenant} {order:?}");
        }
        let times: BTreeSet<i64> = streams.values().flatten().map(|e| e.0).collect();
        let times: Vec<i64> = times.into_iter().collect();
        let range = TimeRangeNs::new(times[times.len() / 3], times[2 * times.len() / 3]);
        let some = SelectRequest::new(any(), range).order(SelectOrder::NewestFirst);
        let got = read(chunks, &tenant, &some).await;
        assert_eq!(got, cut(streams, range), "{name} {tenant} {range:?}");

        let mut shards = Streams::new();
        for n in 0..3 {
            let shard = Some(StreamShard::new(n, 3).unwrap());
            shards.extend(read(chunks, &tenant, &all.clone().shard(shard)).await);
        }
        assert_eq!(&shards, streams, "{name} {tenant}: shards");

        let series = chunks.series(&tenant, &all).await.unwrap();
        let listed: Vec<_> = series.items.iter().map(Labels::to_string).collect();
        let mut names: Vec<_> = streams.keys().cloned().collect();
        assert!(series.items.is_sorted());
        let mut sorted = listed;
        sorted.sort();
        names.sort();
        assert_eq!(sorted, names, "{name} {tenant}");
        let apps = chunks.label_values(&tenant, "app", &all).await.unwrap();
        let wanted: BTreeSet<_> = series.items.iter().filter_map(|l| l.get("app")).collect();
        assert!(apps.items.iter().eq(wanted), "{name} {tenant}");
        let names = chunks.label_names(&tenant, &all).await.unwrap();
        assert!(names.items.iter().all(|n| n != "__loki_tenant__"));

        let volumes = chunks.volumes(&tenant, &all).await.unwrap().items;
        let entries: u64 = volumes.iter().map(|v| v.entries).sum();
        let stored: usize = streams.values().map(Vec::len).sum();
        assert!(entries >= stored as u64, "{name} {tenant}");
    }
}

async fn opened(folder: &Path, set: &str, settings: BucketSettings) -> Arc<BucketChunks> {
    let executor = Executor::inline(tokio::runtime::Handle::current());
    let chunks = BucketChunks::builder(bucket(folder), executor)
        .schema(schema(set))
        .settings(settings)
        .build()
        .unwrap();
    chunks.sync().await.unwrap();
    chunks
}

#[tokio::test]
async fn buckets_of_a_real_loki_are_read_whole() {
    let Some(folder) = shared::folder("golden/loki") else {
        return;
    };
    let mut sets = 0;
    for path in shared::folders(&folder.join("buckets")) {
        let set = path.file_name().unwrap().to_str().unwrap();
        let wanted = expected(&folder, set);
        let chunks = opened(&path.join("bucket"), set, BucketSettings::default()).await;
        check(&chunks, &wanted, set).await;

        // One index file open, one chunk in memory, one block a batch.
        let small = BucketSettings {
            max_open_index_files: 1,
            chunk_memory: lgtm_core::units::ByteSize::bytes(1),
            chunk_concurrency: 1,
            batch_blocks: 1,
            ..BucketSettings::default()
        };
        let chunks = opened(&path.join("bucket"), set, small).await;
        check(&chunks, &wanted, set).await;
        sets += 1;
    }
    println!("{sets} buckets");
    assert!(sets > 0);
}

#[tokio::test]
async fn logql_over_a_real_bucket_finds_what_is_in_it() {
    let Some(folder) = shared::folder("golden/loki") else {
        return;
    };
    let set = "snappy-small-blocks";
    let wanted = expected(&folder, set);
    let bucket = folder.join("buckets").join(set).join("bucket");
    let chunks = opened(&bucket, set, BucketSettings::default()).await;
    let executor = Executor::inline(tokio::runtime::Handle::current());
    let clock = Arc::new(SystemClock::new());
    let settings = EngineSettings::default();
    let engine = Engine::new(chunks, executor, clock, settings).unwrap();
    for (tenant, streams) in wanted {
        let tenant = TenantId::new(&tenant).unwrap();
        for needle in ["", "Failed", "level=info", "nowhere to be found"] {
            let lines = streams.values().flatten();
            let mut lines: Vec<_> = lines
                .filter(|e| e.1.contains(needle))
                .map(|e| (e.0, e.1.clone()))
                .collect();
            lines.sort();
            for (limit, direction) in [
                (1_000_000, Direction::Forward),
                (20, Direction::Forward),
                (20, Direction::Backward),
            ] {
                let text = format!("{{service_name=~\".+\"}} |= `{needle}`");
                let range = QueryRange {
                    limit,
                    direction,
                    ..QueryRange::new(0, 2_000_000_000_000_000_000)
                };
                let query = Query::range(&text, range, &ParserSettings::default()).unwrap();
                let answer = engine.query(&tenant, &query).await.unwrap();
                assert_eq!(answer.warnings, Vec::<String>::new());
                let QueryValue::Streams(got) = answer.value else {
                    panic!("{:?}", answer.value);
                };
                let got = got.iter().flat_map(|s| &s.entries).map(|e| e.t_ns.get());
                let mut got: Vec<i64> = got.collect();
                got.sort_unstable();
                let mut times: Vec<i64> = lines.iter().map(|e| e.0).collect();
                if direction == Direction::Backward {
                    times.reverse();
                }
                times.truncate(limit);
                times.sort_unstable();
                assert_eq!(got, times, "{tenant} {needle:?} {limit}");
            }
        }
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[tokio::test]
async fn compacted_indexes_name_the_same_entries() {
    let Some(folder) = shared::folder("golden/loki") else {
        return;
    };
    let mut sets = 0;
    for path in shared::folders(&folder.join("buckets")) {
        if !path.join("compacted").is_dir() {
            continue;
        }
        let set = path.file_name().unwrap().to_str().unwrap();
        let wanted = expected(&folder, set);
        let dir = tempfile::tempdir().unwrap();
        copy(&path.join("bucket"), dir.path());
        std::fs::remove_dir_all(dir.path().join("index")).unwrap();
        copy(&path.join("compacted"), dir.path());
        // The sources beside what was made of them: everything is named twice.
        let chunks = opened(dir.path(), set, BucketSettings::default()).await;
        check(&chunks, &wanted, set).await;
        // The compactor is done: only the tenants' files are left, and the next listing knows.
        for table in shared::folders(&dir.path().join("index")) {
            for source in shared::files(&table, "gz") {
                std::fs::remove_file(source).unwrap();
            }
        }
        let known = chunks.stats().index_files;
        let chunks = opened(dir.path(), set, BucketSettings::default()).await;
        assert!(chunks.stats().index_files < known);
        check(&chunks, &wanted, set).await;
        sets += 1;
    }
    assert!(sets > 0);
}

/// Index files below a folder: their place and name without the time, and their bytes unpacked.
fn index_files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut out = BTreeMap::new();
    for table in shared::folders(folder) {
        for tenant in shared::folders(&table) {
            for file in shared::files(&tenant, "gz") {
                let relative = file.strip_prefix(folder).unwrap();
                let name = relative.file_name().unwrap().to_str().unwrap();
                let (_, rest) = name.split_once('-').unwrap();
                let place = relative.parent().unwrap().join(rest);
                let packed = std::fs::read(&file).unwrap();
                let bytes = unpack(&packed, 1 << 30, &mut Decompressor::default()).unwrap();
                out.insert(place.to_str().unwrap().to_owned(), bytes);
            }
        }
    }
    out
}

#[tokio::test]
async fn our_compaction_makes_what_a_real_loki_makes() {
    let Some(folder) = shared::folder("golden/loki") else {
        return;
    };
    let mut compared = 0;
    for path in shared::folders(&folder.join("buckets")) {
        let set = path.file_name().unwrap().to_str().unwrap();
        let wanted = expected(&folder, set);
        let dir = tempfile::tempdir().unwrap();
        copy(&path.join("bucket"), dir.path());
        let executor = Executor::inline(tokio::runtime::Handle::current());
        let settings = CompactorSettings {
            delete_delay: std::time::Duration::ZERO,
            ..CompactorSettings::default()
        };
        let compactor = Compactor::builder(bucket(dir.path()), executor)
            .schema(schema(set))
            .settings(settings)
            .build()
            .unwrap();
        let cancel = CancelToken::new();
        compactor.compact(&cancel).await.unwrap();
        // Old and new files together.
        let chunks = opened(dir.path(), set, BucketSettings::default()).await;
        check(&chunks, &wanted, set).await;
        compactor.compact(&cancel).await.unwrap();
        let index = dir.path().join("index");
        for table in shared::folders(&index) {
            assert!(shared::files(&table, "gz").is_empty(), "{set}");
        }
        let chunks = opened(dir.path(), set, BucketSettings::default()).await;
        check(&chunks, &wanted, set).await;
        let theirs = path.join("compacted/index");
        if theirs.is_dir() {
            let (ours, theirs) = (index_files(&index), index_files(&theirs));
            assert!(ours.keys().eq(theirs.keys()), "{set}: {:?}", ours.keys());
            assert!(ours == theirs, "{set}");
            compared += ours.len();
        }
    }
    assert!(compared > 0);
}
