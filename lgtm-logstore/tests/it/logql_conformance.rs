//! The answers of a real Loki, query by query: the sets below `conformance` whose name begins with `logql`.
//!
//! Each case is asked of memory, of a head and of a bucket, as a whole; then, through the query-frontend, cut in time as Loki cuts it,
//! cut into small pieces, and cut by series.

use crate::shared;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::over_engine::OverEngine;
use crate::shared::json_lines;
use lgtm_core::clock::SystemClock;
use lgtm_core::codec::{Allowance, Compressor};
use lgtm_core::disk::LocalDisk;
use lgtm_core::exec::{Executor, ExecutorSettings};
use lgtm_core::limits::Overrides;
use lgtm_core::model::{Labels, TenantId};
use lgtm_core::storage::{Backend, DataKind, Layout};
use lgtm_logstore::bucket::{BucketChunks, BucketWriter, BucketWriterSettings};
use lgtm_logstore::chunk::{
    ChunkBuilder, ChunkCodec, ChunkEncoding, ChunkFormat, ChunkSettings, StreamChunk,
};
use lgtm_logstore::components::clients::Queries;
use lgtm_logstore::components::{QueryFrontend, QueryFrontendSettings};
use lgtm_logstore::entry::{EntryBlockBuilder, SymbolListBuilder, SymbolPair};
use lgtm_logstore::head::{HeadHost, HeadSelect, HeadSettings, Heads};
use lgtm_logstore::limits::{Accepted, Limits, PushReport};
use lgtm_logstore::logql::{
    Direction, Engine, EngineSettings, LabelEncoding, ParserSettings, Query, QueryError, QueryRange,
};
use lgtm_logstore::schema::{SchemaPeriods, SchemaSettings};
use lgtm_logstore::select::{MemorySelect, Select};
use lgtm_logstore::wire::{PushBatch, decode_json};
use serde_json::Value;

/// An entry as the input has it: time, line, metadata.
type InputEntry = (i64, String, BTreeMap<String, String>);

fn texts(value: &Value) -> BTreeMap<String, String> {
    let map = value.as_object().into_iter().flatten();
    map.map(|(k, v)| (k.clone(), v.as_str().unwrap().to_owned()))
        .collect()
}

/// The input by stream, in the order in which it came.
fn streams(folder: &Path) -> BTreeMap<Labels, Vec<InputEntry>> {
    let mut streams: BTreeMap<Labels, Vec<InputEntry>> = BTreeMap::new();
    for entry in json_lines(&folder.join("data.jsonl")) {
        let labels = Labels::from_pairs(texts(&entry["stream"])).unwrap();
        streams.entry(labels).or_default().push((
            entry["ts"].as_str().unwrap().parse().unwrap(),
            entry["line"].as_str().unwrap().to_owned(),
            texts(&entry["structured_metadata"]),
        ));
    }
    streams
}

/// The input in blocks of so many entries: how they lie in blocks must not matter.
fn load(folder: &Path, tenant: &TenantId, block_entries: usize) -> MemorySelect {
    let source = MemorySelect::default();
    for (labels, entries) in streams(folder) {
        for part in entries.chunks(block_entries) {
            let mut block = EntryBlockBuilder::copying(0);
            let mut symbols = SymbolListBuilder::default();
            for (t_ns, line, metadata) in part {
                block.push_copy(*t_ns, line.as_bytes()).unwrap();
                for (name, value) in metadata {
                    let name = symbols.intern(name).unwrap();
                    let value = symbols.intern(value).unwrap();
                    block.push_metadata(SymbolPair { name, value });
                }
            }
            let block = block.finish(Arc::new(symbols.finish()));
            source.push(tenant, &labels, block).unwrap();
        }
    }
    source
}

/// The same input pushed into a head: many small blocks and chunks, the first half of them finished.
async fn load_head(folder: &Path, tenant: &TenantId, dir: &Path) -> HeadSelect {
    let host = HeadHost {
        disk: Arc::new(LocalDisk::new(dir)),
        clock: Arc::new(SystemClock::new()),
        executor: Executor::inline(tokio::runtime::Handle::current()),
        seed: 7,
    };
    let settings = HeadSettings {
        chunk: ChunkSettings {
            encoding: ChunkEncoding::Snappy,
            block_size_bytes: 1000,
            target_size_bytes: 5000,
            ..ChunkSettings::default()
        },
        max_chunk_age: Duration::from_secs(1_000_000_000),
        ..HeadSettings::default()
    };
    // What Loki added stands in the input already.
    let limits = Limits {
        discover_service_name: Vec::new(),
        discover_log_levels: false,
        ..Limits::default()
    };
    let schema = SchemaPeriods::new(&SchemaSettings::default()).unwrap();
    let overrides = Overrides::fixed(limits.clone());
    let (heads, log) = Heads::open(host, "logs", settings, schema, overrides).unwrap();
    heads.replay(log).unwrap();
    let entries = json_lines(&folder.join("data.jsonl"));
    let mut batch = PushBatch::default();
    for (n, some) in entries.chunks(20).enumerate() {
        let streams: Vec<Value> = some
            .iter()
            .map(|e| {
                let value = [&e["ts"], &e["line"], &e["structured_metadata"]];
                serde_json::json!({"stream": e["stream"], "values": [value]})
            })
            .collect();
        let body = serde_json::json!({"streams": streams}).to_string();
        let mut grow = |_| Ok(());
        let mut allowance = Allowance::new(0, &mut grow);
        let fill = |out: &mut Vec<u8>, _: &mut Allowance<'_>| {
            out.extend_from_slice(body.as_bytes());
            Ok(())
        };
        decode_json(&mut batch, &limits.push_options(), &mut allowance, fill).unwrap();
        let mut report = PushReport::default();
        let accepted = Accepted::all(&batch);
        let pushed = heads.push(tenant, &batch, &accepted, &mut report).await;
        pushed.unwrap();
        assert_eq!(report.refusal("x"), None);
        if n == entries.len() / 40 {
            heads.finish_all().await.unwrap();
        }
    }
    HeadSelect::new(Arc::new(heads))
}

/// The same input in a bucket: small chunks of small blocks, some entries in two chunks, as replicas leave them.
async fn load_bucket(folder: &Path, tenant: &TenantId) -> Arc<BucketChunks> {
    let layout = Layout::builder()
        .store(Backend::memory())
        .store_for(DataKind::Logs, Backend::memory())
        .build();
    let bucket = layout.unwrap().bucket(DataKind::Logs);
    let executor = Executor::inline(tokio::runtime::Handle::current());
    let chunks = BucketChunks::builder(bucket.clone(), executor.clone())
        .build()
        .unwrap();
    let clock = Arc::new(SystemClock::new());
    let settings = BucketWriterSettings::default();
    let writer = BucketWriter::new(
        bucket,
        executor,
        clock,
        Arc::clone(&chunks),
        "host",
        settings,
    );
    let writer = writer.unwrap();
    let settings = Arc::new(ChunkSettings {
        encoding: ChunkEncoding::Zstd,
        block_size_bytes: 1000,
        target_size_bytes: 0,
        ..ChunkSettings::default()
    });
    let mut compressor = Compressor::default();
    for (labels, entries) in streams(folder) {
        for from in (0..entries.len()).step_by(50) {
            let part = &entries[from..entries.len().min(from + 60)];
            let mut builder = ChunkBuilder::new(ChunkFormat::V4, Arc::clone(&settings));
            for (t_ns, line, metadata) in part {
                let pairs = metadata.iter().map(|(n, v)| (n.as_str(), v.as_str()));
                let pairs: Vec<_> = pairs.collect();
                builder.append(*t_ns, line.as_bytes(), &pairs).unwrap();
                if builder.is_block_full() {
                    builder.cut(&mut compressor).unwrap();
                }
            }
            let chunk = StreamChunk {
                tenant: tenant.clone(),
                fingerprint: labels.stable_hash(),
                labels: labels.clone(),
                chunk: builder
                    .finish(&mut compressor, &mut ChunkCodec::default())
                    .unwrap(),
            };
            writer.put_chunk(chunk).await.unwrap();
        }
    }
    writer.write_index().await.unwrap();
    chunks
}

/// What the API's door makes of parameters, as far as the cases need it.
mod door {
    use super::QueryError;
    use lgtm_core::go::parse_duration_ns;

    fn invalid(message: String) -> QueryError {
        QueryError::Invalid(message)
    }

    pub(super) fn time_ns(name: &str, text: &str) -> Result<i64, QueryError> {
        if text.contains('.')
            && let Ok(seconds) = text.parse::<f64>()
        {
            return Ok((seconds * 1000.0).round() as i64 * 1_000_000);
        }
        if text.contains('T')
            && let Ok(time) = text.parse::<jiff::Timestamp>()
        {
            return Ok(i64::try_from(time.as_nanosecond()).unwrap());
        }
        match text.parse::<i64>() {
            Ok(n) if text.len() <= 10 => Ok(n.saturating_mul(1_000_000_000)),
            Ok(n) => Ok(n),
            Err(_) => Err(invalid(format!(
                "could not parse '{name}' parameter: strconv.ParseInt: parsing {text:?}: invalid syntax"
            ))),
        }
    }

    pub(super) fn duration_ms(text: &str) -> Result<i64, QueryError> {
        if let Ok(seconds) = text.parse::<f64>() {
            return Ok((seconds * 1000.0) as i64);
        }
        match parse_duration_ns(text) {
            Ok(ns) => Ok(ns as i64 / 1_000_000),
            Err(_) => Err(invalid(format!(
                "cannot parse {text:?} to a valid duration"
            ))),
        }
    }
}

/// The answer to a case.
async fn ask(queries: &dyn Queries, tenant: &TenantId, case: &Value) -> Result<Value, QueryError> {
    let query = case["query"].as_str().unwrap().to_owned();
    let params = texts(&case["params"]);
    let param = |name: &str| {
        params
            .get(name)
            .map(String::as_str)
            .filter(|p| !p.is_empty())
    };
    let direction = match param("direction").map(str::to_lowercase).as_deref() {
        Some("forward") => Direction::Forward,
        None | Some("backward") => Direction::Backward,
        Some(other) => return Err(QueryError::Invalid(format!("invalid direction '{other}'"))),
    };
    let parser = ParserSettings::default();
    let limit: i64 = param("limit").map_or(100, |l| l.parse().unwrap());
    if limit <= 0 {
        return Err(QueryError::Invalid("limit must be a positive value".into()));
    }
    let answer = if case["kind"] == "instant" {
        let t_ns = door::time_ns("time", param("time").unwrap())?;
        let query = Query::instant(&query, t_ns, &parser)?;
        queries.query(tenant, &query).await?
    } else {
        let end_ns = door::time_ns("end", param("end").unwrap())?;
        let start_ns = match (param("start"), param("since")) {
            (Some(start), _) => door::time_ns("start", start)?,
            (None, since) => end_ns - door::duration_ms(since.unwrap_or("1h"))? * 1_000_000,
        };
        let default_step = ((end_ns - start_ns) / 1_000_000_000 / 250).max(1) * 1000;
        let step_ms = param("step").map_or(Ok(default_step), door::duration_ms)?;
        let interval_ns = param("interval").map_or(Ok(0), door::duration_ms)? * 1_000_000;
        let range = QueryRange {
            start_ns: start_ns.into(),
            end_ns: end_ns.into(),
            step_ms,
            interval_ns,
            limit: limit as usize,
            direction,
        };
        let query = Query::range(&query, range, &parser)?;
        queries.query(tenant, &query).await?
    };
    let json = answer.value.to_json(LabelEncoding::Merged, None);
    Ok(serde_json::from_str(&json).unwrap())
}

fn class(error: &QueryError) -> (u64, &'static str) {
    match error {
        QueryError::Parse(_) => (400, "parse"),
        QueryError::Pipeline(_) => (400, "pipeline"),
        QueryError::Limit(_) => (400, "limit"),
        QueryError::Invalid(_) => (400, "bad_request"),
        QueryError::Disabled(_) => (500, "disabled"),
        QueryError::Execution(_) => (500, "execution"),
        _ => (500, "other"),
    }
}

/// Numbers in quotes may differ in the last digits.
fn same(got: &Value, wanted: &Value) -> bool {
    match (got, wanted) {
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(k, v)| b.get(k).is_some_and(|w| same(v, w)))
        }
        (Value::Number(a), Value::Number(b)) => {
            let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
            (a - b).abs() <= 1e-9 * a.abs().max(b.abs())
        }
        (Value::String(a), Value::String(b)) => a == b || same_number(a, b),
        (a, b) => a == b,
    }
}

fn same_number(a: &str, b: &str) -> bool {
    match (a.parse::<f64>(), b.parse::<f64>()) {
        (Ok(a), Ok(b)) if a.is_nan() || b.is_nan() => a.is_nan() && b.is_nan(),
        (Ok(a), Ok(b)) => a == b || (a - b).abs() <= 1e-9 * a.abs().max(b.abs()),
        _ => false,
    }
}

/// The answer with its series in one order, unless their order says something.
fn ordered(mut data: Value, query: &str) -> Value {
    let says = ["topk", "bottomk", "sort"]
        .iter()
        .any(|f| query.starts_with(f));
    if data["resultType"] == "vector" && says {
        return data;
    }
    if let Some(result) = data["result"].as_array_mut()
        && result.first().is_some_and(Value::is_object)
    {
        result.sort_by_key(|s| {
            s.get("metric")
                .or_else(|| s.get("stream"))
                .map(Value::to_string)
        });
    }
    data
}

/// How a query comes to the engine.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    /// As a whole, once its steps are placed.
    Whole,
    /// In pieces of an hour, as Loki cuts them.
    Split,
    /// In pieces of three minutes, twice, the second time out of the cache.
    SmallPieces,
    /// In shards, each of pieces of an hour.
    Shards,
}

/// A query-frontend over a holder.
fn frontend(source: Arc<dyn Select>, way: Way, splits: bool) -> Arc<QueryFrontend> {
    let runtime = tokio::runtime::Handle::current();
    let executor = Executor::new(&ExecutorSettings::default(), runtime).unwrap();
    let clock = Arc::new(SystemClock::new());
    // What the tenant's limits say in a whole store.
    let settings = EngineSettings {
        max_series: 500,
        ..EngineSettings::default()
    };
    let engine = Engine::new(Arc::clone(&source), executor, clock, settings).unwrap();
    let querier = OverEngine::new(engine.clone(), source);
    let (enabled, minutes, instant_minutes, shards) = match way {
        Way::Whole => (false, 60, 0, 0),
        Way::Split => (true, 60, 60, 0),
        Way::SmallPieces => (true, 3, 2, 0),
        Way::Shards => (true, 60, 0, 5),
    };
    let limits = Limits {
        max_query_length: Duration::ZERO,
        split_queries_by_interval: Duration::from_secs(if splits { minutes * 60 } else { 0 }),
        ..Limits::default()
    };
    let settings = QueryFrontendSettings {
        enabled,
        split_instant_metric_queries_by_interval: Duration::from_secs(instant_minutes * 60),
        parallelize_shardable_queries: shards > 0,
        tsdb_shards: shards,
        max_concurrent_percent_per_tenant: 100,
        ..QueryFrontendSettings::default()
    };
    QueryFrontend::builder(querier, engine, Overrides::fixed(limits))
        .settings(settings)
        .build()
        .unwrap()
}

async fn check(folder: &Path, file: &str, queries: &dyn Queries) -> (usize, Vec<String>) {
    let tenant = tenant();
    let (mut count, mut failures) = (0, Vec::new());
    for case in json_lines(&folder.join(file)) {
        if case["unstable"] == true {
            continue;
        }
        count += 1;
        let (id, query) = (
            case["id"].as_str().unwrap(),
            case["query"].as_str().unwrap(),
        );
        let status = case["status"].as_u64().unwrap();
        let fault = match ask(queries, &tenant, &case).await {
            Err(e) => {
                let (got_status, got_class) = class(&e);
                let wanted = case["error_class"].as_str().unwrap_or("none");
                (got_status != status || got_class != wanted).then(|| {
                    format!(
                        "{got_status} {got_class} {e}, wanted {status} {wanted} {}",
                        case["error"]
                    )
                })
            }
            Ok(_) if status != 200 => Some(format!("answered, wanted {status} {}", case["error"])),
            Ok(data) => {
                let (got, wanted) = (
                    ordered(data, query),
                    ordered(case["expected"].clone(), query),
                );
                (!same(&got, &wanted)).then(|| format!("\n   got {got}\nwanted {wanted}"))
            }
        };
        if let Some(fault) = fault {
            failures.push(format!("{id} {query}: {fault}"));
        }
    }
    (count, failures)
}

/// Cases, and whether Loki had cut the queries by time.
const FILES: [(&str, bool); 2] = [("cases.jsonl", true), ("cases-nosplit.jsonl", false)];

fn tenant() -> TenantId {
    TenantId::new("conformance").unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_those_of_loki() {
    let Some(root) = shared::folder("conformance") else {
        return;
    };
    let mut folders = shared::folders(&root);
    folders.retain(|f| {
        f.file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with("logql")
    });
    assert!(!folders.is_empty(), "no set of cases");
    let mut failures = Vec::new();
    for folder in folders {
        let dir = tempfile::tempdir().unwrap();
        let head = load_head(&folder, &tenant(), dir.path()).await;
        let bucket = load_bucket(&folder, &tenant()).await;
        let in_memory = |block_entries| Arc::new(load(&folder, &tenant(), block_entries));
        let (head, bucket): (Arc<dyn Select>, Arc<dyn Select>) = (Arc::new(head), bucket);
        let asks: [(&str, Way, Arc<dyn Select>); 10] = [
            ("memory, blocks of 1", Way::Whole, in_memory(1)),
            ("memory, blocks of 7", Way::Whole, in_memory(7)),
            ("memory, blocks of 1000", Way::Whole, in_memory(1000)),
            ("head", Way::Whole, Arc::clone(&head)),
            ("bucket", Way::Whole, Arc::clone(&bucket)),
            ("head", Way::Split, Arc::clone(&head)),
            ("bucket", Way::Split, Arc::clone(&bucket)),
            ("bucket", Way::SmallPieces, Arc::clone(&bucket)),
            ("head", Way::Shards, head),
            ("bucket", Way::Shards, bucket),
        ];
        let files = asks.iter().flat_map(|ask| FILES.map(|file| (ask, file)));
        for ((holder, way, source), (file, splits)) in files {
            if !folder.join(file).is_file() {
                continue;
            }
            let frontend = frontend(Arc::clone(source), *way, splits);
            // The second time some of it comes from the cache.
            let rounds = if *way == Way::SmallPieces { 2 } else { 1 };
            for _ in 0..rounds {
                let (count, failed) = check(&folder, file, &*frontend).await;
                println!(
                    "{} ({holder}, {way:?}): {count} cases, {} differ",
                    folder.join(file).display(),
                    failed.len()
                );
                failures.extend(
                    failed
                        .into_iter()
                        .map(|f| format!("{holder}, {way:?}: {f}")),
                );
            }
            if let (Way::Shards, Some(frontend)) = (way, frontend.frontend()) {
                let sharded = frontend
                    .stats()
                    .sharded
                    .load(std::sync::atomic::Ordering::Relaxed);
                assert!(
                    !splits || sharded > 50,
                    "{sharded} queries were cut by series"
                );
            }
        }
    }
    assert!(
        failures.is_empty(),
        "{} differ:\n{}",
        failures.len(),
        failures.join("\n")
    );
}
