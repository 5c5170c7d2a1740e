//! The engine's bounds, and what comes with an answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use lgtm_core::clock::SystemClock;
use lgtm_core::exec::{Executor, ExecutorSettings};
use lgtm_core::model::{Labels, Listed, TenantId, TextSet};
use lgtm_core::units::ByteSize;
use lgtm_core::{ErrorKind, Result};
use lgtm_logstore::entry::{EntryBlockBuilder, SymbolListBuilder, SymbolPair};
use lgtm_logstore::logql::{
    Answer, Direction, Engine, EngineSettings, LabelEncoding, ParserSettings, Query, QueryError,
    QueryOptions, QueryRange, QueryValue,
};
use lgtm_logstore::select::{
    EntryBatch, EntryBatches, MemorySelect, Select, SelectEnd, SelectRequest,
};

const SECOND: i64 = 1_000_000_000;

fn tenant() -> TenantId {
    TenantId::new("t").unwrap()
}

fn engine(source: impl Select, settings: EngineSettings) -> Engine {
    let runtime = tokio::runtime::Handle::current();
    let executor = Executor::new(&ExecutorSettings::default(), runtime).unwrap();
    let clock = Arc::new(SystemClock::new());
    Engine::new(Arc::new(source), executor, clock, settings).unwrap()
}

/// `blocks` blocks of ten entries, one a second, in each of `streams` streams. The lines are logfmt.
fn logs(streams: usize, blocks: usize) -> MemorySelect {
    let source = MemorySelect::default();
    for stream in 0..streams {
        let labels = Labels::from_pairs([("app", "a"), ("pod", &format!("p{stream}"))]).unwrap();
        for block in 0..blocks {
            let mut b = EntryBlockBuilder::copying(0);
            let mut symbols = SymbolListBuilder::default();
            for n in 0..10 {
                let at = (block * 10 + n) as i64;
                b.push_copy(at * SECOND, format!("n={at} level=info").as_bytes())
                    .unwrap();
                let name = symbols.intern("trace").unwrap();
                let value = symbols.intern(&format!("t{at}")).unwrap();
                b.push_metadata(SymbolPair { name, value });
            }
            let block = b.finish(Arc::new(symbols.finish()));
            source.push(&tenant(), &labels, block).unwrap();
        }
    }
    source
}

fn whole(limit: usize) -> QueryRange {
    QueryRange {
        step_ms: 100_000,
        limit,
        ..QueryRange::new(0, 100_000 * SECOND)
    }
}

fn of_range(query: &str, range: QueryRange) -> Result<Query, QueryError> {
    Query::range(query, range, &ParserSettings::default())
}

fn over_all(query: &str, limit: usize) -> Query {
    of_range(query, whole(limit)).unwrap()
}

fn lines(answer: &Answer) -> Vec<String> {
    let QueryValue::Streams(streams) = &answer.value else {
        panic!("{:?}", answer.value);
    };
    let entries = streams.iter().flat_map(|s| &s.entries);
    let mut entries: Vec<_> = entries.collect();
    entries.sort_by_key(|e| std::cmp::Reverse(e.t_ns));
    entries
        .iter()
        .map(|e| String::from_utf8_lossy(&e.line).into_owned())
        .collect()
}

/// Counts the batches that are asked for, and says at the end that something is missing.
#[derive(Debug)]
struct Watched {
    inner: MemorySelect,
    batches: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct WatchedBatches {
    inner: Box<dyn EntryBatches>,
    batches: Arc<AtomicUsize>,
}

#[async_trait]
impl EntryBatches for WatchedBatches {
    async fn next_batch(&mut self) -> Result<Option<EntryBatch>> {
        self.batches.fetch_add(1, Ordering::Relaxed);
        self.inner.next_batch().await
    }

    fn end(&mut self) -> SelectEnd {
        SelectEnd {
            warnings: vec!["chunk x is damaged".to_owned()],
            ..self.inner.end()
        }
    }
}

#[async_trait]
impl Select for Watched {
    async fn select(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Box<dyn EntryBatches>> {
        Ok(Box::new(WatchedBatches {
            inner: self.inner.select(tenant, request).await?,
            batches: Arc::clone(&self.batches),
        }))
    }

    async fn series(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Listed<Vec<Labels>>> {
        self.inner.series(tenant, request).await
    }

    async fn label_names(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Listed<TextSet>> {
        self.inner.label_names(tenant, request).await
    }

    async fn label_values(
        &self,
        tenant: &TenantId,
        name: &str,
        request: &SelectRequest,
    ) -> Result<Listed<TextSet>> {
        self.inner.label_values(tenant, name, request).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_query_stops_once_it_has_enough_and_says_what_is_missing() {
    let batches = Arc::new(AtomicUsize::new(0));
    let source = Watched {
        inner: logs(2, 400),
        batches: Arc::clone(&batches),
    };
    let engine = engine(source, EngineSettings::default());
    let query = over_all(
        r#"{app="a"} |= "n=" | logfmt | n > 5 | line_format "{{.n}}""#,
        4,
    );
    let answer = engine.query(&tenant(), &query).await.unwrap();
    assert_eq!(lines(&answer), ["3999", "3999", "3998", "3998"]);
    assert_eq!(answer.warnings, ["chunk x is damaged"]);
    assert_eq!(answer.stats.entries_returned, 4);
    let few = batches.load(Ordering::Relaxed);
    assert!(few <= 6, "{few} batches of 50 were asked for");
    let forward = QueryRange {
        direction: Direction::Forward,
        ..whole(3)
    };
    let forward = of_range(r#"{app="a"} | logfmt | line_format "{{.n}}""#, forward).unwrap();
    let answer = engine.query(&tenant(), &forward).await.unwrap();
    assert_eq!(lines(&answer), ["1", "0", "0"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_is_bounded_and_given_back() {
    let settings = |one: u64, all: u64| EngineSettings {
        max_memory: ByteSize::bytes(one),
        max_memory_total: ByteSize::bytes(all),
        max_series: 0,
        ..EngineSettings::default()
    };
    let labels_of_all = over_all(r#"count_over_time({app="a"}[1h])"#, 1);
    let engine_of = |settings| engine(logs(20, 20), settings);
    let small = engine_of(settings(100_000, 0));
    let refused = small.query(&tenant(), &labels_of_all).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::LimitExceeded);
    assert!(refused.to_string().contains("max_memory)"), "{refused}");
    assert_eq!(small.memory().held_bytes(), 0);
    let full = engine_of(settings(0, 100_000));
    let refused = full.query(&tenant(), &labels_of_all).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    let large = engine_of(settings(0, 0));
    let answer = large.query(&tenant(), &labels_of_all).await.unwrap();
    assert!(answer.memory.bytes() > 0 && large.memory().held_bytes() == answer.memory.bytes());
    drop(answer);
    assert_eq!(large.memory().held_bytes(), 0);
    let many_lines = over_all(r#"{app="a"}"#, 1_000_000);
    let refused = small.query(&tenant(), &many_lines).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::LimitExceeded);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn series_steps_and_switches_are_bounded() {
    let engine = engine(
        logs(20, 2),
        EngineSettings {
            max_series: 10,
            ..EngineSettings::default()
        },
    );
    let ask = async |query: &str| engine.query(&tenant(), &over_all(query, 1)).await;
    let refused = ask(r#"sum by (pod) (rate({app="a"}[1m]))"#)
        .await
        .unwrap_err();
    assert!(matches!(refused, QueryError::Limit(_)), "{refused}");
    assert!(
        ask(r#"topk(3, sum by (pod) (rate({app="a"}[1m])))"#)
            .await
            .is_ok()
    );
    assert!(matches!(
        ask(r#"approx_topk(3, rate({app="a"}[1m]))"#).await,
        Err(QueryError::Disabled(_))
    ));
    let steps = QueryRange {
        step_ms: 1,
        ..whole(1)
    };
    let steps = of_range(r#"rate({app="a"}[1m])"#, steps).unwrap();
    assert!(matches!(
        engine.query(&tenant(), &steps).await,
        Err(QueryError::Limit(_))
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn approx_topk_is_exact_where_it_is_on() {
    let on = EngineSettings {
        approx_topk: true,
        ..EngineSettings::default()
    };
    let engine = engine(logs(3, 2), on);
    let at = |query: &str| {
        let parser = ParserSettings::default();
        Query::instant(query, 20 * SECOND, &parser).unwrap()
    };
    let counts = r#"sum by (pod) (count_over_time({app="a"}[1m]))"#;
    let approximate = engine
        .query(&tenant(), &at(&format!("approx_topk(2, {counts})")))
        .await;
    let exact = engine
        .query(&tenant(), &at(&format!("topk(2, {counts})")))
        .await;
    assert_eq!(approximate.unwrap().value, exact.unwrap().value);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_queries_are_refused_or_harmless() {
    let engine = engine(logs(2, 5), EngineSettings::default());
    for query in [
        r#"{app="a"} |~ "(\\pL{30}){30}{30}""#.to_owned(),
        format!(r#"{{app="a"}} | json {}"#, "x=\"a.b\",".repeat(20_000)),
        format!("{}vector(1){}", "(".repeat(50_000), ")".repeat(50_000)),
    ] {
        let refused = match of_range(&query, whole(5)) {
            Ok(query) => engine.query(&tenant(), &query).await.is_err(),
            Err(_) => true,
        };
        assert!(refused, "{query}");
    }
    for template in [
        r#"{{ repeat 1000000000 "x" }}"#,
        r#"{{ define "T" }}{{ template "T" . }}{{ end }}{{ template "T" . }}"#,
        "{{ range 100000 }}{{ range 100000 }}x{{ end }}{{ end }}",
    ] {
        let query = over_all(&format!("{{app=\"a\"}} | line_format `{template}`"), 5);
        let answer = engine.query(&tenant(), &query).await.unwrap();
        let json = answer.value.to_json(LabelEncoding::Merged, None);
        assert!(json.contains("TemplateFormatErr"), "{template}: {json}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn labels_are_categorized_on_request() {
    let engine = engine(logs(1, 1), EngineSettings::default());
    let query = over_all(
        r#"{app="a"} | logfmt | drop level | label_format pod="{{.n}}""#,
        1,
    );
    let answer = engine.query(&tenant(), &query).await.unwrap();
    assert_eq!(
        answer.value.to_json(LabelEncoding::Categorized, None),
        r#"{"resultType":"streams","encodingFlags":["categorize-labels"],"result":[{"stream":{"app":"a"},"values":[["9000000000","n=9 level=info",{"structuredMetadata":{"trace":"t9"},"parsed":{"n":"9","pod":"9"}}]]}]}"#
    );
    assert_eq!(
        answer.value.to_json(LabelEncoding::Merged, None),
        r#"{"resultType":"streams","result":[{"stream":{"app":"a","n":"9","pod":"9","trace":"t9"},"values":[["9000000000","n=9 level=info"]]}]}"#
    );
    let stats = answer
        .value
        .to_json(LabelEncoding::Merged, Some(&answer.stats));
    let stats: serde_json::Value = serde_json::from_str(&stats).unwrap();
    assert_eq!(stats["stats"]["summary"]["totalLinesProcessed"], 10);
}

/// The parts of the streams add up to the whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shards_add_up() {
    use lgtm_logstore::select::StreamShard;
    let engine = engine(logs(30, 3), EngineSettings::default());
    let range = QueryRange {
        step_ms: 10_000,
        ..QueryRange::new(0, 60 * SECOND)
    };
    let text = r#"sum(bytes_over_time({app="a"} | logfmt | n > 3 [20s]))"#;
    let query = |shard| {
        let options = QueryOptions {
            shard,
            ..QueryOptions::default()
        };
        of_range(text, range).unwrap().with_options(options)
    };
    let points = |answer: Answer| match answer.value {
        QueryValue::Matrix(series) => {
            let points = series.into_iter().flat_map(|s| s.points);
            points.map(|p| (p.t_ms, p.value)).collect::<Vec<_>>()
        }
        other => panic!("{other:?}"),
    };
    let whole = points(engine.query(&tenant(), &query(None)).await.unwrap());
    let mut sum = std::collections::BTreeMap::new();
    for index in 0..4 {
        let shard = Some(StreamShard::new(index, 4).unwrap());
        for (t_ms, v) in points(engine.query(&tenant(), &query(shard)).await.unwrap()) {
            *sum.entry(t_ms).or_insert(0.0) += v;
        }
    }
    assert_eq!(whole, sum.into_iter().collect::<Vec<_>>());
}

#[tokio::test]
async fn windows_of_an_instant_query_end_at_its_nanosecond() {
    let source = MemorySelect::default();
    let labels = Labels::from_pairs([("app", "a")]).unwrap();
    let mut block = EntryBlockBuilder::copying(0);
    for below in [100, 500, 900] {
        block.push_copy(5 * SECOND + below, b"x").unwrap();
    }
    let block = block.finish(Arc::new(SymbolListBuilder::default().finish()));
    source.push(&tenant(), &labels, block).unwrap();
    let engine = engine(source, EngineSettings::default());
    for (at_ns, expected) in [
        (99, None),
        (100, Some(1.0)),
        (500, Some(2.0)),
        (999, Some(3.0)),
    ] {
        let text = r#"sum(count_over_time({app="a"}[1s]))"#;
        let query = Query::instant(text, 5 * SECOND + at_ns, &ParserSettings::default()).unwrap();
        let answer = engine.query(&tenant(), &query).await.unwrap();
        let QueryValue::Vector(series) = &answer.value else {
            panic!("{:?}", answer.value);
        };
        let point = series.first().map(|s| s.points[0]);
        assert_eq!(point.map(|p| p.value), expected, "{at_ns}");
        assert!(point.is_none_or(|p| p.t_ms.get() == 5000), "{point:?}");
    }
}
