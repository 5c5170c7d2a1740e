//! What the query-frontend asks, remembers and refuses. That its answers are those of the engine alone is the matter of `logql_cuts`.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::frontend_house::{
    Entry, HOUR, House, LENGTH, MINUTE, SECOND, START, in_range, memory, over, split,
};
use async_trait::async_trait;
use lgtm_core::model::{Labels, Listed, TenantId, TextSet};
use lgtm_core::units::ByteSize;
use lgtm_core::{ErrorKind, Result};
use lgtm_logstore::components::QueryFrontendSettings;
use lgtm_logstore::components::clients::Queries;
use lgtm_logstore::limits::{Limits, RequestLimits};
use lgtm_logstore::logql::{
    Answer, Direction, EngineSettings, ParserSettings, Query, QueryError, QueryOptions, QueryRange,
    QueryValue,
};
use lgtm_logstore::select::{
    EntryBatch, EntryBatches, MemorySelect, Select, SelectEnd, SelectRequest,
};

/// Twenty pods, an entry of each a minute.
fn pods() -> Vec<Entry> {
    let minutes = 0..180;
    minutes
        .flat_map(|m| (0..20).map(move |pod| (pod, m * MINUTE + i64::from(pod), 0, m)))
        .collect()
}

fn series(answer: &Answer) -> usize {
    answer.value.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_series_limit_counts_for_the_whole_answer() {
    let limits = Limits {
        max_query_series: 15,
        ..split(60)
    };
    // Each piece of an hour has ten of the pods.
    let mut entries = pods();
    entries.retain(|e| (e.0 < 10) == (e.1 < 90 * MINUTE));
    for sharded in [false, true] {
        let settings = QueryFrontendSettings {
            parallelize_shardable_queries: sharded,
            ..QueryFrontendSettings::default()
        };
        let house = House::new(memory(&entries), settings, limits.clone());
        let by_pod = "sum by (pod) (count_over_time({app=~\".+\"}[1m]))";
        let query = over(by_pod, 0, LENGTH);
        let refused = house.ask(&query).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::LimitExceeded);
        let said = refused.to_string();
        assert!(
            said.starts_with("maximum number of series (15) reached for a single query; consider reducing query cardinality by "),
            "{said}"
        );
        // Inner results do not count: neither what is counted nor what the best are chosen of.
        for fine in [
            format!("count({by_pod})"),
            format!("topk(3, {by_pod})"),
            format!("sum by (app) ({by_pod})"),
        ] {
            let answer = house.ask(&over(&fine, 0, 60 * MINUTE)).await;
            assert!(series(&answer.unwrap()) <= 6, "{fine}");
        }
        // Three at each step, but others at each: together too many.
        let changing = Limits {
            max_query_series: 5,
            ..limits.clone()
        };
        let house_of_five =
            House::new(memory(&entries), QueryFrontendSettings::default(), changing);
        let best = over(&format!("topk(3, {by_pod})"), 0, LENGTH);
        assert!(house_of_five.ask(&best).await.is_err());
        // Logs Drilldown takes a part.
        let partial = query.with_options(QueryOptions {
            cuts_series: true,
            ..QueryOptions::default()
        });
        let answer = house.ask(&partial).await.unwrap();
        assert_eq!(series(&answer), 15);
        assert_eq!(
            answer.warnings,
            ["maximum number of series (15) reached for a single query; returning partial results"]
        );
        assert_eq!(house.frontend.counts().cut.load(Ordering::Relaxed), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_asked_before_comes_from_the_cache() {
    let house = House::new(memory(&pods()), QueryFrontendSettings::default(), split(60));
    let text = "sum by (app) (rate({app=~\".+\"}[5m]))";
    let first = house.ask(&over(text, 0, LENGTH)).await.unwrap();
    assert_eq!(house.querier.count(), 4);
    let spelled = "sum(\n rate({ app =~ `.+` }[300s])\n\n) by (app)";
    let second = house.ask(&over(spelled, 0, LENGTH)).await.unwrap();
    assert_eq!((house.querier.count(), &second.value), (0, &first.value));
    let no_cache = over(text, 0, LENGTH).with_options(QueryOptions {
        no_cache: true,
        ..QueryOptions::default()
    });
    house.ask(&no_cache).await.unwrap();
    assert_eq!(house.querier.count(), 4);
    // Another tenant's is asked for.
    let other = TenantId::new("other").unwrap();
    let answer = house.frontend.query(&other, &over(text, 0, LENGTH)).await;
    assert_eq!((house.querier.count(), series(&answer.unwrap())), (4, 0));
    // What may still change is not kept.
    let now_ns = (START + LENGTH + 5 * HOUR) / SECOND * SECOND;
    let fresh = in_range(text, QueryRange::new(now_ns - 5 * MINUTE, now_ns));
    for _ in 0..2 {
        house.ask(&fresh).await.unwrap();
        assert_eq!(house.querier.count(), 1);
    }
    house.clock.advance(Duration::from_secs(86_400));
    house.ask(&fresh).await.unwrap();
    house.querier.count();
    house.ask(&fresh).await.unwrap();
    assert_eq!(house.querier.count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn log_queries_begin_at_their_end_and_stop_at_the_limit() {
    let house = House::new(memory(&pods()), QueryFrontendSettings::default(), split(10));
    let limit = |limit, direction| QueryRange {
        limit,
        direction,
        ..QueryRange::new(START, START + LENGTH)
    };
    for direction in [Direction::Backward, Direction::Forward] {
        let query = in_range(r#"{app=~".+"}"#, limit(30, direction));
        let answer = house.ask(&query).await.unwrap();
        assert_eq!(series(&answer), 30);
        let asked = house.querier.count();
        assert!(asked <= 2, "{asked} of 19 pieces were asked");
        let few = house.querier.engine.counts().lines.load(Ordering::Relaxed);
        assert!(few <= 1000, "{few} of 3600 lines were looked at");
    }
    // More than there are.
    let query = in_range(r#"{app=~".+"}"#, limit(4000, Direction::Backward));
    assert_eq!(series(&house.ask(&query).await.unwrap()), 3600);
    house.querier.count();
    // A needle that is nowhere: the second time nobody is asked.
    let nowhere = in_range(
        r#"{app=~".+"} |= "nowhere""#,
        limit(30, Direction::Backward),
    );
    for wanted in [19, 0] {
        let answer = house.ask(&nowhere).await.unwrap();
        assert_eq!((series(&answer), house.querier.count()), (0, wanted));
    }
    // From the other end and with another limit it is the same needle.
    let again = in_range(r#"{app=~".+"} |= "nowhere""#, limit(7, Direction::Forward));
    house.ask(&again).await.unwrap();
    assert_eq!(house.querier.count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_range_of_decades_is_not_cut_into_millions() {
    let house = House::new(
        memory(&pods()),
        QueryFrontendSettings::default(),
        Limits {
            max_query_length: Duration::ZERO,
            ..split(60)
        },
    );
    let ever = QueryRange {
        step_ms: 86_400_000 * 365,
        ..QueryRange::new(0, START + LENGTH)
    };
    let answer = house
        .ask(&in_range(r#"{app="a"} |= "nowhere""#, ever))
        .await;
    assert_eq!(series(&answer.unwrap()), 0);
    let asked = house.querier.count();
    assert!(asked <= 2001, "{asked}");
    let years = house
        .ask(&in_range(r#"sum(count_over_time({app="a"}[1d]))"#, ever))
        .await;
    assert!(years.is_ok() && house.querier.count() < 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_of_the_tenant_and_of_the_request_hold() {
    let house = House::with(
        memory(&pods()),
        QueryFrontendSettings::default(),
        Limits {
            max_query_lookback: Duration::from_secs(6 * 3600),
            max_query_bytes_read: ByteSize::kib(20),
            ..split(60)
        },
        EngineSettings::default(),
        1500,
    );
    // 20 streams of 1500 bytes.
    let said = house.ask(&over(r#"{app=~".+"}"#, 2 * HOUR, LENGTH)).await;
    assert_eq!(
        said.unwrap_err().to_string(),
        "the query would read too many bytes (query: 29 KiB, limit: 20 KiB); consider adding more specific stream selectors or reduce the time range of the query"
    );
    assert!(
        house
            .ask(&over(r#"{app="a"}"#, 2 * HOUR, LENGTH))
            .await
            .is_ok()
    );
    let own = RequestLimits {
        required_labels: vec!["level".into()],
        max_entries_limit_per_query: Some(50),
        ..RequestLimits::default()
    };
    let tight = |text: &str| {
        over(text, 2 * HOUR, LENGTH).with_options(QueryOptions {
            limits: Some(Arc::new(own.clone())),
            ..QueryOptions::default()
        })
    };
    let said = house
        .ask(&tight(r#"sum(rate({app="a"}[1m]))"#))
        .await
        .unwrap_err();
    assert_eq!(
        said.to_string(),
        "stream selector is missing required matchers [level], labels present in the query were [app]"
    );
    let said = house.ask(&tight(r#"{app="a"}"#)).await.unwrap_err();
    assert_eq!(
        said.to_string(),
        "max entries limit per query exceeded, limit > max_entries_limit_per_query (100 > 50)"
    );
    // All of it lies too far back: empty, of the right kind, and nobody is asked.
    house.querier.count();
    for (query, wanted) in [
        (
            over(r#"{app="a"}"#, -HOUR, -HOUR / 2),
            QueryValue::Streams(Vec::new()),
        ),
        (
            over(r#"rate({app="a"}[1m])"#, -HOUR, -HOUR / 2),
            QueryValue::Matrix(Vec::new()),
        ),
        (
            Query::instant(r#"rate({app="a"}[1m])"#, 7, &ParserSettings::default()).unwrap(),
            QueryValue::Vector(Vec::new()),
        ),
    ] {
        house.clock.advance(Duration::from_secs(6 * 3600));
        let answer = house.ask(&query).await.unwrap();
        assert_eq!(answer.value, wanted);
    }
    assert_eq!(house.querier.count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dashboard_waits_for_its_turn_and_is_not_refused() {
    // loki#5123: forty panels over six hours, each in pieces.
    let settings = QueryFrontendSettings {
        parallelize_shardable_queries: true,
        ..QueryFrontendSettings::default()
    };
    let house = House::new(memory(&pods()), settings, split(15));
    let panel = |n: i64| {
        let text = format!("sum by (level) (rate({{app=~\".+\"}} |= \"{n}\" [5m]))");
        over(&text, -3 * HOUR, LENGTH)
    };
    let panels: Vec<Query> = (0..40).map(panel).collect();
    let answers = panels.iter().map(|p| house.ask(p));
    for answer in futures::future::join_all(answers).await {
        answer.unwrap();
    }
}

/// Says at the end of each answer that something is missing.
#[derive(Debug)]
struct Damaged(MemorySelect);

#[derive(Debug)]
struct DamagedBatches(Box<dyn EntryBatches>);

#[async_trait]
impl EntryBatches for DamagedBatches {
    async fn next_batch(&mut self) -> Result<Option<EntryBatch>> {
        self.0.next_batch().await
    }

    fn end(&mut self) -> SelectEnd {
        SelectEnd {
            warnings: vec!["chunk x is damaged".to_owned()],
            ..self.0.end()
        }
    }
}

#[async_trait]
impl Select for Damaged {
    async fn select(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Box<dyn EntryBatches>> {
        let answer = self.0.select(tenant, request).await?;
        Ok(Box::new(DamagedBatches(answer)))
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_with_a_warning_is_never_kept() {
    let settings = QueryFrontendSettings {
        parallelize_shardable_queries: true,
        tsdb_shards: 3,
        ..QueryFrontendSettings::default()
    };
    let house = House::new(Damaged(memory(&pods())), settings, split(60));
    for text in ["sum(rate({app=\"a\"}[5m]))", "{app=\"a\"} |= \"nowhere\""] {
        let mut asked = Vec::new();
        for _ in 0..2 {
            let answer = house.ask(&over(text, 0, LENGTH)).await.unwrap();
            assert_eq!(answer.warnings, ["chunk x is damaged"], "{text}");
            asked.push(house.querier.count());
        }
        assert!(asked[0] >= 4 && asked[0] == asked[1], "{text}: {asked:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_keep_their_kind_through_the_pieces() {
    let house = House::new(memory(&pods()), QueryFrontendSettings::default(), split(60));
    let ask = async |text: &str| house.ask(&over(text, 0, LENGTH)).await.unwrap_err();
    assert!(matches!(
        ask(r#"sum(count_over_time({app="a"} | json [5m])) by (nothing, __error__x) or count_over_time({app="a"} | json [5m])"#).await,
        QueryError::Pipeline(_)
    ));
    assert!(matches!(
        ask(r#"{app="a"} | line_format "{{""#).await,
        QueryError::Parse(_)
    ));
    assert!(matches!(
        ask(r#"rate({app=~".+"}[5m]) / on (app) rate({app=~".+"}[5m])"#).await,
        QueryError::Execution(_)
    ));
    let steps = QueryRange {
        step_ms: 1,
        ..QueryRange::new(START, START + LENGTH)
    };
    let refused = house.ask(&in_range(r#"rate({app="a"}[5m])"#, steps)).await;
    assert!(matches!(refused, Err(QueryError::Limit(_))));
    let parser = ParserSettings::default();
    let approximate = Query::instant(r#"approx_topk(3, rate({app="a"}[5m]))"#, START, &parser);
    let refused = house.ask(&approximate.unwrap()).await;
    assert!(matches!(refused, Err(QueryError::Disabled(_))));
}
