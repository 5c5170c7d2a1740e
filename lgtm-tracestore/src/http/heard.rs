//! What is heard of queries that are answered as streams, until it is sent.

use std::cmp::Reverse;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::components::clients::{Listener, MetricsWindow, SearchListener};
use crate::components::{Answered, MetricsRequest, QueryEnd, TagNamesAnswer, TagValuesAnswer};
use crate::select::FetchStats;
use crate::traceql::{MetricsAnswer, MetricsFunction, TraceHit};

/// What a search has said so far and nobody has sent yet.
#[derive(Debug, Default)]
pub(super) struct SettledHits(Mutex<(Vec<TraceHit>, FetchStats)>);

impl SearchListener for SettledHits {
    fn settled(&self, traces: &[TraceHit], stats: &FetchStats) {
        let mut settled = self.0.lock();
        settled.0.extend_from_slice(traces);
        settled.1 = *stats;
    }
}

impl SettledHits {
    /// What is new, if there is anything.
    pub(super) fn take(&self) -> Option<(Vec<TraceHit>, QueryEnd)> {
        let (hits, stats) = std::mem::take(&mut *self.0.lock());
        let end = QueryEnd {
            stats,
            ..QueryEnd::default()
        };
        (!hits.is_empty()).then_some((hits, end))
    }
}

/// Names that were found and that nobody has sent yet.
#[derive(Debug, Default)]
pub(super) struct NewNames(Mutex<TagNamesAnswer>);

impl Listener<TagNamesAnswer> for NewNames {
    fn hear(&self, part: &TagNamesAnswer) {
        let mut all = self.0.lock();
        for (scope, names) in part {
            let known = all.entry(*scope).or_default();
            known.extend(names.iter().cloned());
        }
    }
}

impl NewNames {
    /// What is new, if there is anything.
    pub(super) fn take(&self) -> Option<TagNamesAnswer> {
        let names = std::mem::take(&mut *self.0.lock());
        (!names.is_empty()).then_some(names)
    }
}

/// Values that were found and that nobody has sent yet.
#[derive(Debug, Default)]
pub(super) struct NewValues(Mutex<TagValuesAnswer>);

impl Listener<TagValuesAnswer> for NewValues {
    fn hear(&self, part: &TagValuesAnswer) {
        self.0.lock().extend(part.iter().cloned());
    }
}

impl NewValues {
    /// What is new, if there is anything.
    pub(super) fn take(&self) -> Option<TagValuesAnswer> {
        let values = std::mem::take(&mut *self.0.lock());
        (!values.is_empty()).then_some(values)
    }
}

/// Whether what a window of a query's range gives is what the whole answer says of it. Which values [`compare`](MetricsFunction::Compare) tells depends
/// on the whole range, and so does which series are left out where their number is bounded.
pub(super) fn tells_windows(request: &MetricsRequest) -> bool {
    let queries = request.query.metrics_queries();
    let compares = |f: &MetricsFunction| matches!(f, MetricsFunction::Compare(_));
    request.settings.max_series == 0 && !queries.iter().any(|q| compares(&q.function))
}

/// Windows of a range that are known and that nobody has sent yet.
#[derive(Debug, Default)]
pub(super) struct NewWindows(Mutex<Vec<MetricsWindow>>);

impl Listener<MetricsWindow> for NewWindows {
    fn hear(&self, part: &MetricsWindow) {
        self.0.lock().push(Arc::clone(part));
    }
}

impl NewWindows {
    /// The series of each window that is new, newest first.
    pub(super) fn take(&self, request: &MetricsRequest) -> Vec<Answered<MetricsAnswer>> {
        let mut windows = std::mem::take(&mut *self.0.lock());
        windows.sort_by_key(|window| Reverse(window.value.grid.after_ns));
        let answers = windows.into_iter().map(|window| {
            let (query, settings) = (&request.query, &request.settings);
            Arc::unwrap_or_clone(window).map(|part| MetricsAnswer::of(query, settings, part))
        });
        answers.collect()
    }
}
