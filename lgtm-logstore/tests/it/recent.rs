//! What a whole store knows of recent lines, and what it makes of its index files.

use std::sync::Arc;
use std::time::Duration;

use lgtm_core::clock::{Clock, ManualClock};
use lgtm_core::model::{Labels, Matcher, TenantId, TimeRangeNs, TimestampNs};
use lgtm_core::storage::Backend;
use lgtm_logstore::components::clients::{
    Patterns, PatternsRequest, Tail, TailFeed, TailFrame, TailRequest,
};
use lgtm_logstore::components::{CompactorSettings, IngesterSettings, LogStore, PatternSettings};
use lgtm_logstore::logql::QueryError;
use lgtm_logstore::wire::LogEntry;

const NOW_MS: i64 = 1_714_557_600_000;
const SECOND: i64 = 1_000_000_000;

struct World {
    store: LogStore,
    clock: Arc<ManualClock>,
    memory: Backend,
    _folder: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let clock = Arc::new(ManualClock::at_ms(NOW_MS));
        let folder = tempfile::tempdir().unwrap();
        let memory = Backend::memory();
        let same = Backend::new(Arc::clone(memory.store()), memory.kind());
        let settings = CompactorSettings {
            min_files: 2,
            ..CompactorSettings::default()
        };
        let every_line = IngesterSettings {
            patterns: PatternSettings {
                sample_every: 1,
                ..PatternSettings::default()
            },
            ..IngesterSettings::default()
        };
        let store = LogStore::builder(folder.path(), same)
            .clock(Arc::clone(&clock) as _)
            .settings(every_line)
            .compactor(settings)
            .without_housekeeping()
            .open()
            .await
            .unwrap();
        Self {
            store,
            clock,
            memory,
            _folder: folder,
        }
    }

    fn now_ns(&self) -> i64 {
        self.clock.now_ms().get() * 1_000_000
    }

    async fn push(&self, app: &str, lines: &[(i64, &str)]) {
        let labels = Labels::from_pairs([("app", app)]).unwrap();
        let entries = lines.iter().map(|(t_ns, line)| LogEntry::new(*t_ns, *line));
        let streams = [(labels, entries.collect())];
        let report = self.store.append(&tenant(), &streams).await.unwrap();
        drop(report);
    }
}

fn tenant() -> TenantId {
    TenantId::new("a").unwrap()
}

fn lines(frame: &TailFrame) -> Vec<String> {
    let entries = frame.streams.iter().flat_map(|s| &s.entries);
    entries
        .map(|e| String::from_utf8(e.line.to_vec()).unwrap())
        .collect()
}

async fn next(feed: &mut Box<dyn TailFeed>) -> Vec<String> {
    let frame = tokio::time::timeout(Duration::from_secs(20), feed.next_frame()).await;
    lines(&frame.unwrap().unwrap().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_followed_query_shows_the_past_and_what_was_stored_since() {
    let world = World::new().await;
    let now = world.now_ns();
    world.push("x", &[(now - 2, "two"), (now - 1, "one")]).await;
    let querier = world.store.querier();
    let request = |query: &str| TailRequest {
        query: query.into(),
        start_ns: TimestampNs::new(now - SECOND),
        limit: 10,
        delay_ns: 0,
    };
    let mut feed = querier
        .tail(&tenant(), &request(r#"{app="x"} != "hidden""#))
        .await
        .unwrap();
    assert_eq!(next(&mut feed).await, ["two", "one"]);
    // Known already, and far too old: neither is stored.
    let late = now - 3 * 3600 * SECOND;
    let push = [
        (now - 1, "one"),
        (late, "late"),
        (now, "hidden"),
        (now, "new"),
    ];
    world.push("x", &push).await;
    world.push("y", &[(now, "elsewhere")]).await;
    assert_eq!(next(&mut feed).await, ["new"]);
    assert_eq!(world.store.ingester().followers().count(), 1);
    let mut more = Vec::new();
    for _ in 1..10 {
        more.push(
            querier
                .tail(&tenant(), &request(r#"{app="x"}"#))
                .await
                .unwrap(),
        );
    }
    let refused = querier.tail(&tenant(), &request(r#"{app="x"}"#)).await;
    assert!(matches!(refused, Err(QueryError::Limit(_))), "{refused:?}");
    drop((feed, more));
    assert_eq!(world.store.ingester().followers().count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn patterns_of_recent_lines_are_found() {
    let world = World::new().await;
    let now = world.now_ns();
    let texts: Vec<String> = (0..40)
        .map(|n| format!("level=info request {n} took {n}ms"))
        .collect();
    let lines: Vec<(i64, &str)> = texts.iter().map(|t| (now, t.as_str())).collect();
    world.push("x", &lines).await;
    // Pushed again nothing is counted again.
    world.push("x", &lines).await;
    let request = PatternsRequest {
        matchers: vec![Matcher::equal("app", "x")],
        range: TimeRangeNs::new(now - 60 * SECOND, now + 60 * SECOND),
        step_ns: SECOND,
        by_stream: false,
    };
    let found = world.store.querier().patterns(&tenant(), &request).await;
    let found = found.unwrap().items;
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].pattern, "level=info request <_> took <_>");
    assert_eq!((&*found[0].level, found[0].counts[0].1), ("info", 40));
    assert_eq!(found[0].counts[0].0.get() % (10 * SECOND), 0);
    let other = PatternsRequest {
        matchers: vec![Matcher::equal("app", "y")],
        ..request
    };
    let none = world.store.querier().patterns(&tenant(), &other).await;
    assert!(none.unwrap().items.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn index_files_are_joined_under_readers_that_do_not_know() {
    let world = World::new().await;
    let now = world.now_ns();
    for n in 0..3 {
        world.push("x", &[(now + n, "line")]).await;
        world.store.flush().await.unwrap();
    }
    // Another process, which lists nothing anew by itself.
    let folder = tempfile::tempdir().unwrap();
    let same = Backend::new(Arc::clone(world.memory.store()), world.memory.kind());
    let other = LogStore::builder(folder.path(), same)
        .clock(Arc::clone(&world.clock) as _)
        .without_housekeeping()
        .open()
        .await
        .unwrap();
    let range = TimeRangeNs::new(now, now + 10);
    world.store.compact().await.unwrap();
    world.clock.advance(Duration::from_secs(16 * 60));
    world.store.compact().await.unwrap();
    for store in [&world.store, &other] {
        let found = store.lines(&tenant(), r#"{app="x"}"#, range, 10).await;
        let found = found.unwrap();
        assert_eq!(found.items.len(), 3);
        assert_eq!(found.warnings, Vec::<String>::new());
    }
    other.close().await.unwrap();
}
