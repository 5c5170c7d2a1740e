//! A whole store and a query-frontend before it, for reports as tests.

use std::collections::BTreeMap;

use lgtm_core::clock::ManualClock;
use lgtm_core::codec::Allowance;
use lgtm_logstore::components::{QueryFrontend, QueryFrontendSettings};
use lgtm_logstore::logql::{AnswerEntry, ParserSettings, QueryRange};
use lgtm_logstore::prelude::*;
use lgtm_logstore::wire::{PushBatch, decode_json};
use serde_json::Value;

pub(crate) const SECOND: i64 = 1_000_000_000;
pub(crate) const MINUTE: i64 = 60 * SECOND;
pub(crate) const HOUR: i64 = 60 * MINUTE;
/// When entries come.
pub(crate) const T: i64 = 1_700_000_000 * SECOND;

pub(crate) fn tenant() -> TenantId {
    TenantId::new("team-a").unwrap()
}

/// `app=a,pod=p` as labels.
pub(crate) fn labels(text: &str) -> Labels {
    let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
    Labels::from_pairs(pairs).unwrap()
}

pub(crate) struct House {
    pub(crate) db: LogStore,
    pub(crate) frontend: Arc<QueryFrontend>,
    limits: Limits,
    _folder: tempfile::TempDir,
}

impl House {
    /// Without the labels that are added, unless `limits` have been told otherwise.
    pub(crate) async fn new(limits: Limits) -> Self {
        let plain = Limits {
            discover_service_name: Vec::new(),
            discover_log_levels: false,
            ..limits
        };
        Self::with(plain, QueryFrontendSettings::default()).await
    }

    /// As [`House::new`], but that queries are cut by series.
    pub(crate) async fn sharded(limits: Limits) -> Self {
        let plain = Limits {
            discover_service_name: Vec::new(),
            discover_log_levels: false,
            ..limits
        };
        let settings = QueryFrontendSettings {
            parallelize_shardable_queries: true,
            tsdb_shards: 5,
            split_instant_metric_queries_by_interval: Duration::ZERO,
            ..QueryFrontendSettings::default()
        };
        Self::with(plain, settings).await
    }

    pub(crate) async fn with(limits: Limits, settings: QueryFrontendSettings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at_ms((T + 24 * HOUR) / 1_000_000));
        let ingester = IngesterSettings {
            index_interval: Duration::ZERO,
            ..IngesterSettings::default()
        };
        let overrides = Overrides::fixed(limits.clone());
        let db = LogStore::builder(folder.path(), Backend::memory())
            .settings(ingester)
            .limits(overrides.clone())
            .clock(clock.clone())
            .without_housekeeping()
            .open()
            .await
            .unwrap();
        let querier = db.querier();
        let engine = querier.engine().clone();
        let frontend = QueryFrontend::builder(querier, engine, overrides)
            .settings(settings)
            .clock(clock)
            .build()
            .unwrap();
        Self {
            db,
            frontend,
            limits,
            _folder: folder,
        }
    }

    // Pushing.

    pub(crate) async fn append(&self, stream: &str, entries: Vec<LogEntry>) -> PushReport {
        let report = self
            .db
            .append(&tenant(), &[(labels(stream), entries)])
            .await;
        report.unwrap()
    }

    /// Entries, all of which must be taken.
    pub(crate) async fn append_all(&self, stream: &str, entries: Vec<LogEntry>) {
        let report = self.append(stream, entries).await;
        assert_eq!(report.refusal("team-a"), None);
    }

    /// Lines at their times, all of which must be taken.
    pub(crate) async fn put_at(&self, stream: &str, lines: &[(i64, &str)]) {
        let entries = lines.iter().map(|(t, line)| LogEntry::new(*t, *line));
        self.append_all(stream, entries.collect()).await;
    }

    /// Lines a millisecond apart from [`T`] on.
    pub(crate) async fn put(&self, stream: &str, lines: &[&str]) {
        let lines: Vec<(i64, &str)> = lines
            .iter()
            .enumerate()
            .map(|(n, line)| (T + n as i64 * 1_000_000, *line))
            .collect();
        self.put_at(stream, &lines).await;
    }

    pub(crate) async fn put_bytes(&self, stream: &str, line: &[u8]) {
        self.append_all(stream, vec![LogEntry::new(T, line)]).await;
    }

    /// A push as JSON; the error of a body that is none.
    pub(crate) async fn push(&self, body: &Value) -> Result<PushReport, String> {
        let mut batch = PushBatch::default();
        let mut grow = |_| Ok(());
        let mut allowance = Allowance::new(0, &mut grow);
        let text = body.to_string();
        let fill = |out: &mut Vec<u8>, _: &mut Allowance<'_>| {
            out.extend_from_slice(text.as_bytes());
            Ok(())
        };
        decode_json(
            &mut batch,
            &self.limits.push_options(),
            &mut allowance,
            fill,
        )
        .map_err(|e| e.to_string())?;
        let report = self.db.push(&tenant(), batch).await;
        report.map_err(|e| e.to_string())
    }

    // Asking.

    async fn asked(&self, query: Result<Query, QueryError>) -> Result<Answer, QueryError> {
        self.frontend.query(&tenant(), &query?).await
    }

    pub(crate) async fn ask_in(&self, text: &str, range: QueryRange) -> QueryValue {
        let query = Query::range(text, range, &ParserSettings::default());
        let answer = self.asked(query).await.unwrap();
        assert_eq!(answer.warnings, Vec::<String>::new());
        answer.value
    }

    /// Over some hours around [`T`].
    pub(crate) async fn ask(&self, text: &str) -> QueryValue {
        self.ask_in(text, QueryRange::new(T - 2 * HOUR, T + 2 * HOUR))
            .await
    }

    /// The lines in the order of the query.
    pub(crate) async fn lines_in(&self, text: &str, range: QueryRange) -> Vec<String> {
        let QueryValue::Streams(streams) = self.ask_in(text, range).await else {
            panic!("{text} is no log query");
        };
        let mut entries: Vec<&AnswerEntry> = streams.iter().flat_map(|s| &s.entries).collect();
        match range.direction {
            lgtm_logstore::logql::Direction::Forward => entries.sort_by_key(|e| e.t_ns),
            _ => entries.sort_by_key(|e| std::cmp::Reverse(e.t_ns)),
        }
        let text = |e: &&AnswerEntry| String::from_utf8_lossy(&e.line).into_owned();
        entries.iter().map(text).collect()
    }

    pub(crate) async fn lines(&self, text: &str) -> Vec<String> {
        self.lines_in(text, QueryRange::new(T - 2 * HOUR, T + 2 * HOUR))
            .await
    }

    /// The labels of the streams that a log query gives.
    pub(crate) async fn labels(&self, text: &str) -> Vec<String> {
        let QueryValue::Streams(streams) = self.ask(text).await else {
            panic!("{text} is no log query");
        };
        streams.iter().map(|s| s.labels().to_string()).collect()
    }

    pub(crate) async fn try_at(
        &self,
        text: &str,
        t_ns: i64,
    ) -> Result<Vec<(String, f64)>, QueryError> {
        let query = Query::instant(text, t_ns, &ParserSettings::default());
        let QueryValue::Vector(series) = self.asked(query).await?.value else {
            panic!("{text} gives no vector");
        };
        let one = |s: &lgtm_logstore::logql::Series| (s.labels.to_string(), s.points[0].value);
        Ok(series.iter().map(one).collect())
    }

    /// Series and their values at a time.
    pub(crate) async fn at(&self, text: &str, t_ns: i64) -> Vec<(String, f64)> {
        self.try_at(text, t_ns).await.unwrap()
    }

    /// Times and values of each series over a range.
    pub(crate) async fn points(
        &self,
        text: &str,
        range: QueryRange,
    ) -> BTreeMap<String, Vec<(i64, f64)>> {
        let QueryValue::Matrix(series) = self.ask_in(text, range).await else {
            panic!("{text} gives no matrix");
        };
        let points = |s: lgtm_logstore::logql::Series| {
            let points = s.points.iter().map(|p| (p.t_ms.get(), p.value));
            (s.labels.to_string(), points.collect())
        };
        series.into_iter().map(points).collect()
    }
}
