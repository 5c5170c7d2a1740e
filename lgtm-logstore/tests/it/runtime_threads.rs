//! No query holds a thread of the runtime, and none goes on computing when its client is gone.

use std::sync::Arc;
use std::time::Duration;

use crate::over_engine::OverEngine;
use async_trait::async_trait;
use lgtm_core::Result;
use lgtm_core::clock::ManualClock;
use lgtm_core::exec::{Executor, ExecutorSettings, move_if_heavy, move_to_pool};
use lgtm_core::limits::Overrides;
use lgtm_core::model::{Labels, Listed, TenantId, TextSet};
use lgtm_core::testing::{longest_poll, one_poll_at_a_time, process_time};
use lgtm_logstore::components::clients::Queries;
use lgtm_logstore::components::{QueryFrontend, QueryFrontendSettings};
use lgtm_logstore::entry::{EntryBlockBuilder, SymbolListBuilder, SymbolPair};
use lgtm_logstore::limits::Limits;
use lgtm_logstore::logql::{
    Engine, EngineSettings, LabelEncoding, ParserSettings, Query, QueryError, QueryRange,
};
use lgtm_logstore::select::{EntryBatches, MemorySelect, Select, SelectRequest};

const SECOND: i64 = 1_000_000_000;
const STREAMS: usize = 100;
const BLOCKS: usize = 5;
const BLOCK_ENTRIES: usize = 200;
/// Time between two entries of a stream; all together are some hours.
const STEP: i64 = 10 * SECOND;

fn tenant() -> TenantId {
    TenantId::new("a").unwrap()
}

/// What a holder of many streams does: it looks through them in the pool.
#[derive(Debug)]
struct Large(MemorySelect);

#[async_trait]
impl Select for Large {
    async fn select(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Box<dyn EntryBatches>> {
        move_to_pool().await;
        self.0.select(tenant, request).await
    }

    async fn series(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Listed<Vec<Labels>>> {
        self.0.series(tenant, request).await
    }

    async fn label_names(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Listed<TextSet>> {
        self.0.label_names(tenant, request).await
    }

    async fn label_values(
        &self,
        tenant: &TenantId,
        name: &str,
        request: &SelectRequest,
    ) -> Result<Listed<TextSet>> {
        self.0.label_values(tenant, name, request).await
    }
}

/// JSON lines, each with fields of its own.
fn logs() -> MemorySelect {
    let source = MemorySelect::default();
    for stream in 0..STREAMS {
        let labels = Labels::from_pairs([("app", "a"), ("pod", &format!("p{stream:04}"))]).unwrap();
        for block in 0..BLOCKS {
            let mut b = EntryBlockBuilder::copying(0);
            let mut symbols = SymbolListBuilder::default();
            for n in 0..BLOCK_ENTRIES {
                let at = block * BLOCK_ENTRIES + n;
                let id = stream * BLOCKS * BLOCK_ENTRIES + at;
                let line = format!(
                    r#"{{"id":{id},"v":{},"msg":"{}","addr":"10.0.{}.{}"}}"#,
                    id % 17,
                    "ab".repeat(60),
                    n % 200,
                    stream % 200
                );
                b.push_copy(at as i64 * STEP, line.as_bytes()).unwrap();
                let name = symbols.intern("trace").unwrap();
                let value = symbols.intern(&format!("t{id}")).unwrap();
                b.push_metadata(SymbolPair { name, value });
            }
            let block = b.finish(Arc::new(symbols.finish()));
            source.push(&tenant(), &labels, block).unwrap();
        }
    }
    source
}

fn house() -> (Arc<QueryFrontend>, Executor) {
    let pool = ExecutorSettings {
        threads: 2,
        ..ExecutorSettings::default()
    };
    let executor = Executor::new(&pool, tokio::runtime::Handle::current()).unwrap();
    let clock = Arc::new(ManualClock::at_ms(1_000_000_000));
    let source: Arc<dyn Select> = Arc::new(Large(logs()));
    let settings = EngineSettings {
        max_series: 0,
        ..EngineSettings::default()
    };
    let engine = Engine::new(
        Arc::clone(&source),
        executor.clone(),
        Arc::clone(&clock) as _,
        settings,
    )
    .unwrap();
    let querier = OverEngine::new(engine.clone(), source);
    let limits = Limits {
        max_query_series: 0,
        max_streams_matchers_per_query: 0,
        max_query_length: Duration::ZERO,
        ..Limits::default()
    };
    let settings = QueryFrontendSettings {
        parallelize_shardable_queries: true,
        ..QueryFrontendSettings::default()
    };
    let frontend = QueryFrontend::builder(querier, engine, Overrides::fixed(limits))
        .settings(settings)
        .clock(clock);
    (frontend.build().unwrap(), executor)
}

/// A text, and the range that it is asked over; an instant query at its end if there is no step.
type Hostile = (&'static str, String, Option<QueryRange>);

fn all() -> QueryRange {
    QueryRange {
        limit: 5000,
        step_ms: 15_000,
        ..QueryRange::new(0, (BLOCKS * BLOCK_ENTRIES) as i64 * STEP)
    }
}

/// Steps of a second over three hours.
fn steps() -> Option<QueryRange> {
    Some(QueryRange {
        step_ms: 1000,
        ..QueryRange::new(0, 10_999 * SECOND)
    })
}

fn nested(head: &str, inner: &str, tail: &str, levels: usize) -> String {
    format!("{}{inner}{}", head.repeat(levels), tail.repeat(levels))
}

fn list(n: usize, separator: &str, of: impl Fn(usize) -> String) -> String {
    (0..n).map(of).collect::<Vec<_>>().join(separator)
}

/// Queries whose text is long, or costs more than it seems.
fn texts() -> Vec<Hostile> {
    let unequal = list(9000, ",", |i| format!("pod!=\"{i}\""));
    let patterns = list(900, ",", |i| format!("pod=~\".*{i}.*\""));
    let alternatives = list(15_000, "|", |i| format!("{i}.*"));
    let labels = list(15_000, ",", |i| format!("l{i}"));
    let filters = list(450, " ", |i| format!("!~ \"(a{i}|b){{1,50}}c\""));
    let fields = list(5000, ",", |i| format!("x{i}=\"a.b[{i}].c\""));
    let templates = list(1000, ",", |i| format!("x{i}=\"{{{{ .id | upper }}}}\""));
    let parens = nested("(", "vector(1)", ")", 490);
    let sums = list(480, "+", |_| "vector(1)".into());
    let deep = nested(
        "label_replace(",
        r#"sum(count_over_time({app="a"}[1m]))"#,
        ",\"a\",\"$1$1\",\"a\",\"(.*)\")",
        200,
    );
    let selector = |s: &str| format!("{{app=\"a\",{s}}}");
    vec![
        ("matchers", selector(&unequal), Some(all())),
        ("patterns", selector(&patterns), Some(all())),
        (
            "repetitions",
            selector(r#"pod=~"(((a{1,100}){1,100}){1,100})""#),
            Some(all()),
        ),
        (
            "alternatives",
            selector(&format!("pod=~\"{alternatives}\"")),
            Some(all()),
        ),
        (
            "grouping",
            format!("sum by ({labels}) (count_over_time({{app=\"a\"}}[1m]))"),
            Some(all()),
        ),
        ("filters", format!("{{app=\"a\"}} {filters}"), Some(all())),
        (
            "filters of a count",
            format!("count_over_time({{app=\"a\"}} {filters} [1m])"),
            None,
        ),
        (
            "fields",
            format!("{{app=\"a\"}} | json {fields}"),
            Some(all()),
        ),
        (
            "templates",
            format!("{{app=\"a\"}} | json | label_format {templates}"),
            Some(all()),
        ),
        ("parens", parens, steps()),
        ("sums", sums, steps()),
        ("deep", deep, Some(all())),
    ]
}

/// Queries with large answers, or much on the way to small ones.
fn data() -> Vec<Hostile> {
    let json = r#"{app="a"} | json"#;
    let counts = format!("count_over_time({json} [5m])");
    let of = |query: String| Some((query, Some(all())));
    let ranges = [
        ("lines", of(format!("{json} | line_format \"{{{{ .msg | repeat 100 }}}}\""))),
        ("needle", of(r#"{app="a"} |= "nowhere""#.to_owned())),
        ("regex", of(r#"{app="a"} |~ "(a|b|ab)*(ba|a)*c$""#.to_owned())),
        ("bomb", of(r#"{app="a"} | line_format `{{ repeat 1000000000 "x" }}`"#.to_owned())),
        (
            "loops",
            of("{app=\"a\"} | line_format `{{ range 100000 }}{{ range 100000 }}x{{ end }}{{ end }}`".to_owned()),
        ),
        ("addresses", of(r#"{app="a"} | json | addr=ip("10.0.0.0/9")"#.to_owned())),
        ("series", of(counts.clone())),
        ("ranked", of(format!("topk(100000, {counts})"))),
        ("or", of(list(40, " or ", |_| counts.clone()))),
        (
            "joined",
            of(format!("sum by (id, pod) ({counts}) * on (pod) group_left () sum by (pod) ({counts})")),
        ),
        (
            "quantiles",
            of(r#"quantile_over_time(0.5, {app="a"} | json | unwrap v [3h]) by (id)"#.to_owned()),
        ),
        (
            "counters",
            of(r#"sum(rate_counter({app="a"} | json | unwrap v [3h]))"#.to_owned()),
        ),
    ];
    let ranges = ranges
        .into_iter()
        .filter_map(|(name, query)| query.map(|(text, range)| (name, text, range)));
    let mut out: Vec<Hostile> = ranges.collect();
    out.extend([
        ("steps", counts.clone(), steps()),
        ("steps of a sum", format!("sum({counts})"), steps()),
        (
            "at one time",
            "sum by (id) (count_over_time({app=\"a\"} | json [30d]))".to_owned(),
            None,
        ),
    ]);
    out
}

fn hostile() -> Vec<Hostile> {
    [texts(), data()].into_iter().flatten().collect()
}

/// What a door does: it parses, asks and prints.
async fn call(frontend: Arc<QueryFrontend>, executor: Executor, (_, text, range): Hostile) {
    let work = async move {
        move_if_heavy(&text).await;
        let parser = ParserSettings::default();
        let query = match range {
            Some(range) => Query::range(&text, range, &parser)?,
            None => Query::instant(&text, all().end_ns, &parser)?,
        };
        let answer = frontend.query(&tenant(), &query).await?;
        move_to_pool().await;
        Ok::<usize, QueryError>(answer.value.to_json(LabelEncoding::Merged, None).len())
    };
    match executor.in_line("a").run_movable(work).await {
        Ok(_) => {}
        Err(QueryError::Source(e)) => panic!("{e}"),
        Err(_) => {}
    }
}

/// What may be computed for a client that has left: time by the clock, and of processors, since other programs of the machine take their share.
const MAX_AFTER: Duration = Duration::from_secs(2);

/// Waits until nothing is computed any more; false once that takes more than [`MAX_AFTER`].
async fn idle(executor: &Executor) -> bool {
    let used = process_time();
    for look in 0.. {
        let stats = executor.stats();
        if stats.running == 0 && stats.queued == 0 {
            return true;
        }
        // Two hundred looks take two seconds at least.
        if look > 200 && process_time().saturating_sub(used) > MAX_AFTER {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    false
}

/// The most processor time that one poll may take.
const MAX_POLL: Duration = Duration::from_millis(10);

#[test]
#[ignore = "takes half a minute"]
fn a_hostile_query_holds_up_nobody_and_ends_with_its_client() {
    let runtime = one_poll_at_a_time().unwrap();
    runtime.block_on(async {
        let (frontend, executor) = house();
        let mut faults = Vec::new();
        for query in hostile() {
            let name = query.0;
            let work = call(Arc::clone(&frontend), executor.clone(), query);
            let (longest, ended) = longest_poll(work, Duration::from_secs(1)).await;
            if !idle(&executor).await {
                faults.push(format!("{name}: still computed two seconds later"));
            }
            println!("{name}: one poll took {longest:?}, ended by itself: {ended}");
            if longest > MAX_POLL {
                faults.push(format!("{name}: one poll took {longest:?}"));
            }
        }
        assert!(faults.is_empty(), "{faults:#?}");
    });
}
