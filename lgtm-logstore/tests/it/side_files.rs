//! Side files never change an answer: whatever is written, missing, damaged or slow, queries answer as they do without.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lgtm_core::clock::ManualClock;
use lgtm_core::exec::Executor;
use lgtm_core::model::{Labels, TenantId};
use lgtm_core::storage::{Backend, Bucket, DataKind, Layout};
use lgtm_core::testing::{FaultyStore, StoreFault};
use lgtm_core::units::ByteSize;
use lgtm_logstore::bucket::{BucketChunks, BucketSettings, BucketWriter, BucketWriterSettings};
use lgtm_logstore::chunk::{ChunkBuilder, ChunkCodec, ChunkFormat, ChunkSettings, StreamChunk};
use lgtm_logstore::components::Holders;
use lgtm_logstore::entry::{EntryBlockBuilder, SymbolListBuilder, SymbolPair};
use lgtm_logstore::logql::{Answer, Engine, EngineSettings, Query, QueryRange, QueryValue};
use lgtm_logstore::select::{MemorySelect, Select};
use lgtm_logstore::skip::SkipSettings;
use proptest::prelude::*;

const SECOND: i64 = 1_000_000_000;
const MINUTE: i64 = 60 * SECOND;
/// A midnight.
const T0: i64 = 19_844 * 86_400 * SECOND;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Made {
    t_ns: i64,
    line: String,
    metadata: Vec<(&'static str, String)>,
}

fn made(t_ns: i64, line: &str, metadata: &[(&'static str, &str)]) -> Made {
    let metadata = metadata.iter().map(|(n, v)| (*n, (*v).to_owned()));
    Made {
        t_ns,
        line: line.to_owned(),
        metadata: metadata.collect(),
    }
}

fn tenant() -> TenantId {
    TenantId::new("t").unwrap()
}

/// Streams of `b` have a label that is structured metadata elsewhere.
fn labels(app: &str) -> Labels {
    match app {
        "b" => Labels::from_pairs([("app", app), ("pod", "p1")]).unwrap(),
        _ => Labels::from_pairs([("app", app)]).unwrap(),
    }
}

fn chunk(app: &str, entries: &[Made]) -> StreamChunk {
    let settings = ChunkSettings {
        block_size_bytes: 200,
        ..ChunkSettings::default()
    };
    let mut compressor = settings.compressor();
    let mut builder = ChunkBuilder::new(ChunkFormat::V4, Arc::new(settings));
    for e in entries {
        let pairs: Vec<_> = e.metadata.iter().map(|(n, v)| (*n, &**v)).collect();
        builder.append(e.t_ns, e.line.as_bytes(), &pairs).unwrap();
        if builder.is_block_full() {
            builder.cut(&mut compressor).unwrap();
        }
    }
    let labels = labels(app);
    StreamChunk {
        tenant: tenant(),
        fingerprint: labels.stable_hash(),
        labels,
        chunk: builder
            .finish(&mut compressor, &mut ChunkCodec::default())
            .unwrap(),
    }
}

struct World {
    logs: Bucket,
    side: Bucket,
    side_store: FaultyStore,
    clock: Arc<ManualClock>,
    chunks: Arc<BucketChunks>,
    writer: BucketWriter,
}

impl World {
    async fn new() -> Self {
        let memory = Backend::memory();
        let side_store = FaultyStore::new(Arc::clone(memory.store()), 7);
        let clock = Arc::new(ManualClock::at_ms(T0 / 1_000_000));
        let layout = Layout::builder()
            .store(Backend::memory())
            .store_for(
                DataKind::LogSkip,
                memory.wrapped(|_| Arc::new(side_store.clone())),
            )
            .clock(Arc::clone(&clock) as _)
            .jitter_seed(7)
            .build()
            .unwrap();
        let (logs, side) = (
            layout.bucket(DataKind::Logs),
            layout.bucket(DataKind::LogSkip),
        );
        let chunks = reader(&logs, Some(&side), &clock);
        chunks.sync().await.unwrap();
        let settings = BucketWriterSettings {
            side_files: SkipSettings {
                max_size_percent: 100,
                group_size: ByteSize::bytes(2000),
                counts: true,
            },
            ..BucketWriterSettings::default()
        };
        let executor = Executor::inline(tokio::runtime::Handle::current());
        let (bucket, own_clock) = (logs.clone(), Arc::clone(&clock) as _);
        let writer = BucketWriter::new(
            bucket,
            executor,
            own_clock,
            Arc::clone(&chunks),
            "host-1",
            settings,
        );
        Self {
            logs,
            side,
            side_store,
            clock,
            chunks,
            writer: writer.unwrap(),
        }
    }

    async fn write(&self, chunks: Vec<StreamChunk>) {
        self.writer.put_chunks(chunks).await.unwrap();
        self.writer.write_index().await.unwrap();
    }

    /// Another process over the same buckets, with side files or without.
    async fn other(&self, with_side_files: bool) -> Arc<BucketChunks> {
        let side = with_side_files.then_some(&self.side);
        let chunks = reader(&self.logs, side, &self.clock);
        chunks.sync().await.unwrap();
        chunks
    }

    async fn side_paths(&self) -> Vec<String> {
        let all = self.side.list_sorted("").await.unwrap();
        all.into_iter().map(|o| o.path).collect()
    }
}

fn reader(logs: &Bucket, side: Option<&Bucket>, clock: &Arc<ManualClock>) -> Arc<BucketChunks> {
    let executor = Executor::inline(tokio::runtime::Handle::current());
    let mut builder = BucketChunks::builder(logs.clone(), executor)
        .clock(Arc::clone(clock) as _)
        .settings(BucketSettings {
            batch_blocks: 3,
            ..BucketSettings::default()
        });
    if let Some(side) = side {
        builder = builder.side_files(side.clone());
    }
    builder.build().unwrap()
}

fn engine(chunks: &Arc<BucketChunks>) -> Engine {
    engine_over(Arc::clone(chunks) as _)
}

fn engine_over(source: Arc<dyn Select>) -> Engine {
    let executor = Executor::inline(tokio::runtime::Handle::current());
    let clock = Arc::new(ManualClock::at_ms(T0 / 1_000_000));
    Engine::new(source, executor, clock, EngineSettings::default()).unwrap()
}

/// A query over an hour and a half from `start_ns` on.
async fn ask(engine: &Engine, query: &str, start_ns: i64, step_ms: i64) -> Answer {
    let range = QueryRange {
        step_ms,
        limit: 5000,
        ..QueryRange::new(start_ns, T0 + 90 * MINUTE)
    };
    let query = Query::range(query, range, &engine.settings().parser).unwrap();
    engine.query(&tenant(), &query).await.unwrap()
}

async fn ask_now(engine: &Engine, query: &str, t_ns: i64) -> Answer {
    let query = Query::instant(query, t_ns, &engine.settings().parser).unwrap();
    engine.query(&tenant(), &query).await.unwrap()
}

const QUERIES: [&str; 34] = [
    r#"{app=~".+"} |= "user-12""#,
    r#"{app=~".+"} |= "user-1""#,
    r#"{app=~".+"} |= "0123456789abcdef""#,
    r#"{app=~".+"} |= "f81d4fae-7dec-11d0-a765-00a0c91e6bf6""#,
    r#"{app=~".+"} |= "timeout" |= "level=error""#,
    r#"{app=~".+"} |= "nothing of the kind""#,
    r#"{app=~".+"} |~ "us[a-z]r-1[0-9].+done""#,
    r#"{app=~".+"} |~ "(?i)USER-1[0-4]""#,
    r#"{app=~".+"} |~ "(time|time-)out|user-1[23].*" |= "user" or "msg=""#,
    r#"{app=~".+"} |~ "user-1[89]" or "nothing of the kind""#,
    r#"{app=~".+"} |> "<_>user-12<_>""#,
    r#"{app=~".+"} |= "timeout" or "user-7""#,
    r#"{app=~".+"} | json | user="user-12""#,
    r#"{app=~".+"} | json | pod="p1""#,
    r#"{app=~".+"} | json | pod_extracted="p2""#,
    r#"{app=~".+"} | json | quoted="a\"b""#,
    r#"{app=~".+"} | logfmt | level="error""#,
    r#"{app=~".+"} | pod="p1""#,
    r#"{app=~".+"} | pod_extracted="p2""#,
    r#"{app=~".+"} | trace="ab" | detected_level="error""#,
    r#"sum by (app) (count_over_time({app=~".+"} [1m]))"#,
    r#"sum by (app) (count_over_time({app=~".+"} [7m]))"#,
    r#"sum by (app, detected_level) (rate({app=~".+"} |= "" | drop __error__ [1m]))"#,
    r#"sum(count_over_time({app=~".+"} | detected_level="error" [2m]))"#,
    r#"rate({app="a"}[1m])"#,
    r#"bytes_over_time({app="c"}[2m])"#,
    r#"topk(2, sum by (app) (bytes_rate({app=~".+"}[3m])))"#,
    r#"absent_over_time({app="c"}[1m])"#,
    r#"sum by (trace) (count_over_time({app=~".+"}[1m]))"#,
    r#"sum without (trace, pod) (count_over_time({app=~".+"}[1m]))"#,
    r#"sum by (pod) (count_over_time({app=~".+"}[1m]))"#,
    r#"sum by (pod_extracted) (count_over_time({app=~".+"}[1m]))"#,
    r#"sum(count_over_time({app=~".+"} |= "user-12" [1m]))"#,
    r#"sum by (user) (count_over_time({app=~".+"} | json | user="user-12" | keep user [1m]))"#,
];

/// The value, with a word for where it came from in case of a difference.
fn value(answer: &Answer) -> &QueryValue {
    assert_eq!(answer.warnings, Vec::<String>::new());
    &answer.value
}

/// Entries of one time in an order of their own: memory and chunks have them as they came.
fn in_order(value: &QueryValue) -> QueryValue {
    let mut value = value.clone();
    if let QueryValue::Streams(streams) = &mut value {
        for stream in streams {
            stream
                .entries
                .sort_by(|a, b| (a.t_ns, &a.line).cmp(&(b.t_ns, &b.line)));
        }
    }
    value
}

fn memory_of(chunks: &[(String, Vec<Made>)]) -> MemorySelect {
    let memory = MemorySelect::default();
    let mut by_app: BTreeMap<&str, Vec<&Made>> = BTreeMap::new();
    for (app, entries) in chunks {
        by_app.entry(app).or_default().extend(entries);
    }
    for (app, mut entries) in by_app {
        entries.sort();
        entries.dedup();
        let mut symbols = SymbolListBuilder::default();
        let mut block = EntryBlockBuilder::copying(0);
        for e in entries {
            block.push_copy(e.t_ns, e.line.as_bytes()).unwrap();
            for (name, value) in &e.metadata {
                let name = symbols.intern(name).unwrap();
                let value = symbols.intern(value).unwrap();
                block.push_metadata(SymbolPair { name, value });
            }
        }
        let block = block.finish(Arc::new(symbols.finish()));
        memory.push(&tenant(), &labels(app), block).unwrap();
    }
    memory
}

/// What becomes of side files before they are read.
#[derive(Debug, Clone)]
enum Fate {
    Whole,
    Gone,
    Cut(prop::sample::Index),
    Flipped(Vec<(prop::sample::Index, u8)>),
    Failing,
}

fn fates() -> impl Strategy<Value = Fate> {
    prop_oneof![
        3 => Just(Fate::Whole),
        1 => Just(Fate::Gone),
        1 => any::<prop::sample::Index>().prop_map(Fate::Cut),
        2 => prop::collection::vec((any::<prop::sample::Index>(), 1u8..), 1..4).prop_map(Fate::Flipped),
        1 => Just(Fate::Failing),
    ]
}

async fn suffer(world: &World, fate: &Fate) {
    for path in world.side_paths().await {
        match fate {
            Fate::Whole => {}
            Fate::Gone => world.side.delete(&path).await.unwrap(),
            Fate::Cut(at) => {
                let object = world.side.get(&path).await.unwrap();
                let object = object.slice(..at.index(object.len()));
                world.side.put(&path, object).await.unwrap();
            }
            Fate::Flipped(flips) => {
                let mut object = world.side.get(&path).await.unwrap().to_vec();
                for (at, by) in flips {
                    let at = at.index(object.len());
                    object[at] ^= by;
                }
                world.side.put(&path, object).await.unwrap();
            }
            Fate::Failing => world
                .side_store
                .fail_numbers(0..u64::MAX, StoreFault::Reset),
        }
    }
}

fn entries() -> impl Strategy<Value = Vec<Made>> {
    let line = prop_oneof![
        r#"\{"user":"user-1[0-9]","pod":"p[12]"\} done"#,
        Just(r#"{"quoted":"a\"b","user":"user-7"}"#.to_owned()),
        r#"\{"user":"user-1[0-9]"\}"#,
        "level=(info|error) msg=(timeout|ok)",
        Just("id=0123456789abcdef f81d4fae-7dec-11d0-a765-00a0c91e6bf6".to_owned()),
    ];
    let level = prop::option::of(prop::sample::select(vec!["info", "error"]));
    let pod = prop::option::weighted(0.2, prop::sample::select(vec!["p1", "p2"]));
    let trace = prop::option::weighted(0.2, prop::sample::select(vec!["ab", "cd"]));
    // Some on the borders of minutes.
    let time = prop_oneof![
        (0i64..40).prop_map(|m| m * MINUTE),
        (0i64..40).prop_map(|m| m * MINUTE + 1),
        0i64..40 * MINUTE,
    ];
    let entry = (time, line, level, pod, trace).prop_map(|(t, line, level, pod, trace)| {
        let pairs = [("detected_level", level), ("pod", pod), ("trace", trace)];
        let pairs: Vec<_> = pairs
            .into_iter()
            .filter_map(|(n, v)| Some((n, v?)))
            .collect();
        made(T0 + t, &line, &pairs)
    });
    prop::collection::btree_set(entry, 1..40).prop_map(|set| set.into_iter().collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn answers_are_the_same_with_and_without(
        chunks in prop::collection::vec(
            (prop::sample::select(vec!["a", "b", "c"]), entries(), 0i64..40, any::<bool>()), 1..8),
        at_once in prop::sample::select(vec![3usize, 20]),
        fate in fates(),
        start in prop_oneof![Just(T0), (0i64..20).prop_map(|m| T0 + m * MINUTE), (0i64..20 * MINUTE).prop_map(|t| T0 + t)],
        step_ms in prop::sample::select(vec![60_000i64, 37_000, 300_000]),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let world = World::new().await;
            let mut all: Vec<(String, Vec<Made>)> = Vec::new();
            for (app, mut entries, later, is_replica) in chunks {
                if !is_replica {
                    // Most chunks of a stream do not overlap much.
                    for e in &mut entries {
                        e.t_ns += later * MINUTE;
                    }
                }
                all.push((app.to_owned(), entries.clone()));
                if is_replica {
                    let part: Vec<Made> = entries.into_iter().step_by(2).collect();
                    all.push((app.to_owned(), part));
                }
            }
            for some in all.chunks(at_once) {
                world.write(some.iter().map(|(app, e)| chunk(app, e)).collect()).await;
            }
            suffer(&world, &fate).await;
            let (with, without) = (world.other(true).await, world.other(false).await);
            let own = Arc::clone(&world.chunks);
            let memory = engine_over(Arc::new(memory_of(&all)));
            // Some of it is in memory too, as while a flush is under way.
            let recent = Arc::new(memory_of(&all[..all.len().div_ceil(3)]));
            let both = Holders::new(vec![recent], vec![Arc::clone(&own) as _]);
            let engines = [engine(&with), engine(&own), engine_over(Arc::new(both))];
            let plain = engine(&without);
            for query in QUERIES {
                let wanted = ask(&plain, query, start, step_ms).await;
                let reference = ask(&memory, query, start, step_ms).await;
                assert_eq!(in_order(value(&reference)), in_order(value(&wanted)), "{query}");
                for (n, engine) in engines.iter().enumerate() {
                    let got = ask(engine, query, start, step_ms).await;
                    match n {
                        // Entries of one time come in the order of their holders.
                        2 => assert_eq!(in_order(value(&got)), in_order(value(&wanted)), "{query}"),
                        _ => assert_eq!(value(&got), value(&wanted), "{query}"),
                    }
                }
                if query.starts_with("sum") {
                    let at = start + 55 * MINUTE + 7;
                    let wanted = ask_now(&plain, query, at).await;
                    for engine in &engines {
                        assert_eq!(value(&ask_now(engine, query, at).await), value(&wanted), "{query}");
                    }
                }
            }
        });
    }
}

/// An hour of a stream, ten lines a minute.
fn hour(app: &str, from: i64, id: &str) -> StreamChunk {
    let entries: Vec<Made> = (0..600)
        .map(|n| {
            let id = if n == 300 { id } else { "none" };
            let line = format!("request {n} of {app} done id={id}");
            let level = ["info", "error"][(n % 2) as usize];
            made(
                from + n * 6 * SECOND,
                &line,
                &[("detected_level", level), ("trace", &format!("{app}-{n}"))],
            )
        })
        .collect();
    chunk(app, &entries)
}

async fn loaded(chunks: &Arc<BucketChunks>, engine: &Engine, query: &str) -> (u64, QueryValue) {
    let before = chunks.stats().chunks_loaded;
    let answer = ask(engine, query, T0, 60_000).await;
    assert_eq!(answer.warnings, Vec::<String>::new());
    (chunks.stats().chunks_loaded - before, answer.value)
}

#[tokio::test(start_paused = true)]
async fn chunks_that_have_nothing_of_interest_are_not_loaded() {
    let world = World::new().await;
    let ids = ["4bf92f3577b34da6", "5bf92f3577b34da6", "6bf92f3577b34da6"];
    let apps = ["a", "c", "d"];
    world
        .write(
            apps.iter()
                .zip(ids)
                .map(|(app, id)| hour(app, T0, id))
                .collect(),
        )
        .await;
    for chunks in [Arc::clone(&world.chunks), world.other(true).await] {
        let engine = engine(&chunks);
        for (query, count) in [
            (r#"{app=~".+"} |= "5bf92f3577b34da6""#, 1),
            (r#"{app=~".+"} |= "7bf92f3577b34da6""#, 0),
            (r#"{app=~".+"} |= "Kaiserschmarrn""#, 0),
            (r#"{app=~".+"} |~ "Kaiser[a-z]+n""#, 0),
            (r#"{app=~".+"} |~ "Kaiser(schmarrn|semmeln)""#, 0),
            (r#"{app=~".+"} |~ "[57]bf92f3577b34da6""#, 1),
            (
                r#"{app=~".+"} |= "Kaiserschmarrn" or "7bf92f3577b34da6""#,
                0,
            ),
            (
                r#"{app=~".+"} |= "Kaiserschmarrn" or "5bf92f3577b34da6""#,
                1,
            ),
            (r#"{app=~".+"} | trace="d-17""#, 1),
            (r#"{app=~".+"} | trace="d-600""#, 0),
            (r#"{app=~".+"} | logfmt | id="6bf92f3577b34da6""#, 1),
            (r#"sum(count_over_time({app=~".+"}[1m]))"#, 0),
            (
                r#"sum by (app, detected_level) (rate({app=~".+"} |= "" [5m]))"#,
                0,
            ),
            (
                r#"sum by (trace) (count_over_time({app="a"} | trace="a-17" [5m]))"#,
                1,
            ),
        ] {
            assert_eq!(loaded(&chunks, &engine, query).await.0, count, "{query}");
        }
        let stats = chunks.stats().side;
        assert_eq!(stats.failures, 0);
        assert!(
            stats.chunks_skipped >= 10 && stats.chunks_counted >= 6,
            "{stats:?}"
        );
    }
    // Of a chunk that has it only the blocks around are decoded.
    let answer = ask(
        &engine(&world.chunks),
        r#"{app="a"} |= "4bf92f3577b34da6""#,
        T0,
        60_000,
    )
    .await;
    let lines = answer.stats.fetched.decompressed_lines;
    assert!((1..60).contains(&lines), "{lines} lines");
}

#[tokio::test(start_paused = true)]
async fn many_small_chunks_share_a_side_object() {
    let world = World::new().await;
    let chunks = (0..300i64).map(|n| {
        let line = format!("a line of some words, user-{n}");
        let minute = |m: i64| {
            made(
                T0 + m % 100 * MINUTE,
                &line,
                &[("trace", &format!("t-{n}"))],
            )
        };
        chunk(&format!("app-{n}"), &[minute(n), minute(n + 5)])
    });
    world.write(chunks.collect()).await;
    assert_eq!(world.side_paths().await.len(), 1);
    for chunks in [Arc::clone(&world.chunks), world.other(true).await] {
        let engine = engine(&chunks);
        for (query, most) in [
            (r#"{app=~".+"} |= "Kaiserschmarrn""#, 0),
            // The little room that small chunks have lets one in a hundred through.
            (r#"{app=~".+"} | trace="t-300""#, 3),
            (r#"sum(count_over_time({app=~".+"}[3h]))"#, 0),
            (r#"sum by (app) (count_over_time({app=~".+"}[1m]))"#, 0),
            // Those that share a filter are read where one of them has it.
            (r#"{app=~".+"} |= "user-17""#, 300),
        ] {
            let (read, got) = loaded(&chunks, &engine, query).await;
            let plain = world.other(false).await;
            let wanted = loaded(&plain, &self::engine(&plain), query).await.1;
            assert_eq!(got, wanted, "{query}");
            assert!(read <= most, "{query} loads {read} chunks");
        }
        assert_eq!(chunks.stats().side.failures, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn what_replicas_share_is_counted_once() {
    let world = World::new().await;
    // Half an hour of each is in both; each lacks a line of the other.
    world
        .write(vec![hour("a", T0, "x"), hour("a", T0 + 30 * MINUTE, "y")])
        .await;
    let engine = engine(&world.chunks);
    let query = r#"sum(count_over_time({app="a"}[1m]))"#;
    let (count, got) = loaded(&world.chunks, &engine, query).await;
    let plain = world.other(false).await;
    let wanted = loaded(&plain, &self::engine(&plain), query).await.1;
    assert_eq!((count, got), (2, wanted));
    let side = world.chunks.stats().side;
    assert_eq!(side.chunks_counted, 0, "both are read where they overlap");
}

#[tokio::test(start_paused = true)]
async fn what_memory_still_has_is_counted_once() {
    let world = World::new().await;
    world.write(vec![hour("a", T0, "x")]).await;
    let recent: Vec<Made> = (590..610)
        .map(|n| {
            let level = ["info", "error"][(n % 2) as usize];
            let metadata = [("detected_level", level), ("trace", &format!("a-{n}"))];
            made(
                T0 + n * 6 * SECOND,
                &format!("request {n} of a done id=none"),
                &metadata,
            )
        })
        .collect();
    let recent = Arc::new(memory_of(&[("a".to_owned(), recent)]));
    let both = Holders::new(vec![recent], vec![Arc::clone(&world.chunks) as _]);
    let query = r#"sum(count_over_time({app="a"}[2h]))"#;
    let answer = ask_now(&engine_over(Arc::new(both)), query, T0 + 90 * MINUTE).await;
    let QueryValue::Vector(series) = value(&answer) else {
        panic!("{:?}", answer.value);
    };
    assert_eq!(series[0].points[0].value, 610.0);
    let lines = answer.stats.fetched.decompressed_lines;
    assert!(
        (1..60).contains(&lines),
        "{lines} lines are read for the minutes that both have"
    );
}

#[tokio::test(start_paused = true)]
async fn borders_within_a_minute_read_that_minute_only() {
    let world = World::new().await;
    world.write(vec![hour("a", T0, "x")]).await;
    let (with, plain) = (engine(&world.chunks), engine(&world.other(false).await));
    let query = r#"sum(count_over_time({app="a"}[20m]))"#;
    let at = T0 + 40 * MINUTE + 17 * SECOND;
    let got = ask_now(&with, query, at).await;
    assert_eq!(value(&got), value(&ask_now(&plain, query, at).await));
    let lines = got.stats.fetched.decompressed_lines;
    assert!((10..80).contains(&lines), "{lines} lines");
}

#[tokio::test(start_paused = true)]
async fn side_files_that_cannot_be_written_are_done_without() {
    let world = World::new().await;
    world
        .side_store
        .fail_numbers(0..u64::MAX, StoreFault::Reset);
    world.write(vec![hour("a", T0, "4bf92f3577b34da6")]).await;
    world.side_store.heal();
    tokio::time::advance(Duration::from_secs(120)).await;
    let engine = engine(&world.chunks);
    let (count, _) = loaded(&world.chunks, &engine, r#"{app="a"} |= "7bf92f3577b34da6""#).await;
    let side = world.chunks.stats().side;
    assert_eq!((count, side.write_failures, side.objects), (1, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn damaged_side_files_are_counted_and_tried_again() {
    let world = World::new().await;
    world.write(vec![hour("a", T0, "4bf92f3577b34da6")]).await;
    let [path] = &world.side_paths().await[..] else {
        panic!("one flush of one day writes one object");
    };
    let whole = world.side.get(path).await.unwrap();
    let mut broken = whole.to_vec();
    let at = broken.len() - 30;
    broken[at] ^= 1;
    world.side.put(path, broken).await.unwrap();
    let chunks = world.other(true).await;
    let engine = engine(&chunks);
    let query = r#"{app="a"} |= "7bf92f3577b34da6""#;
    assert_eq!(loaded(&chunks, &engine, query).await.0, 1);
    assert_eq!(chunks.stats().side.failures, 1);
    world.side.put(path, whole).await.unwrap();
    assert_eq!(
        loaded(&chunks, &engine, query).await.0,
        1,
        "left out for a while"
    );
    world.clock.advance(Duration::from_secs(31));
    assert_eq!(loaded(&chunks, &engine, query).await.0, 0);
    assert_eq!(chunks.stats().side.failures, 1);
}

#[tokio::test(start_paused = true)]
async fn one_flush_writes_one_side_object_a_day() {
    let world = World::new().await;
    let chunks = (0..30).map(|n| hour("a", T0 + n * 60 * MINUTE, "x"));
    world.write(chunks.collect()).await;
    let paths = world.side_paths().await;
    let days: Vec<_> = paths.iter().map(|p| p.split('/').next().unwrap()).collect();
    assert_eq!(days, ["19844", "19845"]);
    // A cold reader asks for the end of each object, and for what it needs of it.
    let chunks = world.other(true).await;
    let before = world.side_store.all_requests();
    let engine = engine(&chunks);
    let (count, _) = loaded(&chunks, &engine, r#"{app="a"} |= "Kaiserschmarrn""#).await;
    assert_eq!(count, 0);
    assert_eq!(world.side_store.all_requests() - before, 2);
}
