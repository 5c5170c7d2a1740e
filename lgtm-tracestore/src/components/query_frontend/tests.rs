use std::collections::BTreeMap;
use std::time::Duration;

use lgtm_core::clock::ManualClock;

use super::*;
use crate::components::clients::Listener;
use crate::components::{QueryEnd, QueryFrontendSettings};
use crate::traceql::{
    Cells, IntervalGrid, LegPartial, MetricsSettings, SearchSettings, SeriesKey, parse,
};

const MINUTE_NS: u64 = 60_000_000_000;
/// A day, at a whole hour.
const NOW_NS: u64 = 24 * 60 * MINUTE_NS;

/// Counts in each interval the minutes since the epoch at its right edge, and fails as often as it is told to.
#[derive(Debug, Default)]
struct FakeQuerier {
    asked: Mutex<Vec<IntervalGrid>>,
    failures: Mutex<Vec<Error>>,
    warning: Option<String>,
}

fn hit(n: u8) -> TraceHit {
    TraceHit {
        id: TraceId::new([n; 16]),
        root_service: String::new(),
        root_name: String::new(),
        start_ns: u64::from(n),
        duration_ns: 1,
        services: Vec::new(),
        sets: Vec::new(),
    }
}

#[async_trait]
impl FindTrace for FakeQuerier {
    async fn find_trace(&self, _: &TenantId, request: &TraceRequest) -> Result<FoundTrace> {
        assert!(request.max_bytes > 0, "planted panic");
        tokio::time::sleep(Duration::from_secs(3600)).await;
        Ok(FoundTrace::default())
    }
}

#[async_trait]
impl Queries for FakeQuerier {
    async fn search(
        &self,
        _: &TenantId,
        _: &SearchRequest,
        listener: Option<&dyn SearchListener>,
    ) -> Result<Answered<Vec<TraceHit>>> {
        let listener = listener.expect("somebody listens");
        listener.settled(&[hit(9), hit(8)], &FetchStats::default());
        let failure = self.failures.lock().pop();
        if let Some(error) = failure {
            return Err(error);
        }
        listener.settled(&[hit(7)], &FetchStats::default());
        tokio::time::sleep(Duration::from_millis(1)).await;
        Ok(Answered {
            value: vec![hit(9), hit(8), hit(7)],
            end: QueryEnd::default(),
        })
    }

    async fn metrics_part(
        &self,
        _: &TenantId,
        request: &MetricsRequest,
        _: Heard<MetricsWindow>,
    ) -> Result<Answered<MetricsPartial>> {
        let grid = request.settings.grid;
        self.asked.lock().push(grid);
        let counts = (0..grid.len).map(|n| grid.edge_ns(n) / MINUTE_NS).collect();
        let key = SeriesKey {
            labels: Vec::new(),
            bucket: None,
        };
        let leg = LegPartial {
            series: BTreeMap::from([(key, Cells::Counts(counts))]),
            exemplars: Vec::new(),
        };
        Ok(Answered {
            value: MetricsPartial {
                grid,
                legs: vec![leg],
            },
            end: QueryEnd {
                warnings: self.warning.iter().cloned().collect(),
                total_jobs: 1,
                completed_jobs: 1,
                ..QueryEnd::default()
            },
        })
    }

    async fn tag_names(
        &self,
        _: &TenantId,
        _: &TagNamesRequest,
        _: Heard<TagNamesAnswer>,
    ) -> Result<Answered<TagNamesAnswer>> {
        Err(Error::InvalidInput("no names".into()))
    }

    async fn tag_values(
        &self,
        _: &TenantId,
        _: &TagValuesRequest,
        _: Heard<TagValuesAnswer>,
    ) -> Result<Answered<TagValuesAnswer>> {
        Err(Error::InvalidInput("no values".into()))
    }
}

fn frontend(querier: &Arc<FakeQuerier>, settings: QueryFrontendSettings) -> Arc<QueryFrontend> {
    let executor = Executor::inline(tokio::runtime::Handle::current());
    let clock = ManualClock::at_ms((NOW_NS / 1_000_000) as i64);
    QueryFrontend::builder(Arc::clone(querier) as _, executor)
        .clock(Arc::new(clock))
        .settings(settings)
        .build()
        .unwrap()
}

fn counted(hours: u64, step_ns: u64, max_bytes: usize) -> MetricsRequest {
    let end_ns = NOW_NS - 2 * 60 * MINUTE_NS - 7 * MINUTE_NS;
    MetricsRequest {
        query: Arc::new(parse("{} | count_over_time()").unwrap()),
        settings: MetricsSettings {
            grid: IntervalGrid::range(end_ns - hours * 60 * MINUTE_NS, end_ns, step_ns).unwrap(),
            exemplars: 0,
            max_series: 0,
            max_bytes,
        },
    }
}

fn tenant() -> TenantId {
    TenantId::anonymous()
}

#[tokio::test]
async fn pieces_make_the_whole_and_are_kept() {
    let querier = Arc::new(FakeQuerier::default());
    let frontend = frontend(&querier, QueryFrontendSettings::default());
    let request = counted(3, 5 * MINUTE_NS, 1 << 20);
    let whole = querier
        .metrics_part(&tenant(), &request, None)
        .await
        .unwrap();
    querier.asked.lock().clear();
    let answer = frontend
        .metrics_part(&tenant(), &request, None)
        .await
        .unwrap();
    assert_eq!(answer.value, whole.value);
    let asked = std::mem::take(&mut *querier.asked.lock());
    assert_eq!(asked.len(), 4, "cut at each full hour: {asked:?}");
    assert_eq!(answer.end.completed_jobs, 4);
    // Again, and a little later: nothing is asked twice.
    let again = frontend
        .metrics_part(&tenant(), &request, None)
        .await
        .unwrap();
    assert_eq!(again.value, whole.value);
    assert!(querier.asked.lock().is_empty());
    let mut later = request.clone();
    later.settings.grid.after_ns += 10 * MINUTE_NS;
    let moved = frontend
        .metrics_part(&tenant(), &later, None)
        .await
        .unwrap();
    assert_eq!(
        moved.value,
        querier
            .metrics_part(&tenant(), &later, None)
            .await
            .unwrap()
            .value
    );
    let asked = std::mem::take(&mut *querier.asked.lock());
    let intervals: usize = asked[..asked.len() - 1].iter().map(|grid| grid.len).sum();
    assert_eq!(intervals, 2, "only what is new: {asked:?}");
    // Another step, another query.
    let other = counted(3, 10 * MINUTE_NS, 1 << 20);
    frontend
        .metrics_part(&tenant(), &other, None)
        .await
        .unwrap();
    assert!(!querier.asked.lock().is_empty());
    let instant = frontend.metrics(&tenant(), &request, None).await.unwrap();
    assert_eq!(instant.value.series.len(), 1);
}

#[tokio::test]
async fn what_lacks_something_is_not_kept_and_what_is_too_large_is_refused() {
    let querier = Arc::new(FakeQuerier {
        warning: Some("a block is missing".into()),
        ..FakeQuerier::default()
    });
    let frontend = frontend(&querier, QueryFrontendSettings::default());
    let request = counted(3, 5 * MINUTE_NS, 1 << 20);
    for _ in 0..2 {
        let answer = frontend
            .metrics_part(&tenant(), &request, None)
            .await
            .unwrap();
        assert_eq!(answer.end.warnings, ["a block is missing"]);
        assert_eq!(std::mem::take(&mut *querier.asked.lock()).len(), 4);
    }
    let small = counted(3, 5 * MINUTE_NS, 100);
    let error = frontend
        .metrics_part(&tenant(), &small, None)
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("at most 100 are allowed"),
        "{error}"
    );
    // Steps that are no whole milliseconds go on as they are.
    querier.asked.lock().clear();
    let mut odd = counted(3, 5 * MINUTE_NS, 1 << 20);
    odd.settings.grid.after_ns += 1;
    frontend.metrics_part(&tenant(), &odd, None).await.unwrap();
    assert_eq!(querier.asked.lock().as_slice(), [odd.settings.grid]);
}

/// What was heard of a metrics query.
#[derive(Debug, Default)]
struct HeardWindows(Mutex<Vec<MetricsPartial>>);

impl Listener<MetricsWindow> for HeardWindows {
    fn hear(&self, part: &MetricsWindow) {
        self.0.lock().push(part.value.clone());
    }
}

#[tokio::test]
async fn whoever_listens_hears_of_each_piece_once_be_it_asked_or_kept() {
    let querier = Arc::new(FakeQuerier::default());
    let frontend = frontend(&querier, QueryFrontendSettings::default());
    let request = counted(3, 5 * MINUTE_NS, 1 << 20);
    for is_kept in [false, true] {
        let heard = Arc::new(HeardWindows::default());
        let listener = Some(Arc::clone(&heard) as _);
        let tenant = tenant();
        let answer = frontend.metrics_part(&tenant, &request, listener);
        let whole = answer.await.unwrap().value;
        let mut windows = std::mem::take(&mut *heard.0.lock()).into_iter();
        assert_eq!(windows.len(), 4);
        let mut joined = windows.next().unwrap();
        windows.for_each(|window| joined.merge(window).unwrap());
        assert_eq!(joined, whole, "kept: {is_kept}");
    }
}

#[derive(Debug, Default)]
struct HeardTraces(Mutex<Vec<u64>>);

impl SearchListener for HeardTraces {
    fn settled(&self, traces: &[TraceHit], _: &FetchStats) {
        self.0.lock().extend(traces.iter().map(|hit| hit.start_ns));
    }
}

#[tokio::test]
async fn a_search_that_begins_again_tells_each_trace_once() {
    let querier = Arc::new(FakeQuerier::default());
    querier
        .failures
        .lock()
        .push(Error::Unavailable("a moment".into()));
    let frontend = frontend(&querier, QueryFrontendSettings::default());
    let request = SearchRequest {
        query: Arc::new(parse("{}").unwrap()),
        settings: SearchSettings::default(),
    };
    let heard = HeardTraces::default();
    let answer = frontend
        .search(&tenant(), &request, Some(&heard))
        .await
        .unwrap();
    assert_eq!(answer.value.len(), 3);
    assert_eq!(*heard.0.lock(), [9, 8, 7]);
}

#[tokio::test(start_paused = true)]
async fn a_query_that_hangs_or_panics_is_an_error_of_its_own() {
    let querier = Arc::new(FakeQuerier::default());
    let settings = QueryFrontendSettings {
        api_timeout: Duration::from_secs(1),
        ..QueryFrontendSettings::default()
    };
    let frontend = frontend(&querier, settings);
    let mut request = TraceRequest {
        id: TraceId::new([1; 16]),
        range: None,
        max_bytes: 1,
    };
    let error = frontend.find_trace(&tenant(), &request).await.unwrap_err();
    assert_eq!(error.kind(), lgtm_core::ErrorKind::Timeout, "{error}");
    request.max_bytes = 0;
    let error = frontend.find_trace(&tenant(), &request).await.unwrap_err();
    assert!(error.to_string().contains("panicked"), "{error}");
    assert_eq!(frontend.counts().panicked.load(Ordering::Relaxed), 1);
}

#[test]
fn settings_with_which_nothing_could_run_are_refused() {
    QueryFrontendSettings::default().validate().unwrap();
    let bad = QueryFrontendSettings {
        max_query_parallelism: 0,
        ..QueryFrontendSettings::default()
    };
    let error = bad.validate().unwrap_err().to_string();
    assert!(error.contains("max_query_parallelism is 0"), "{error}");
}
