//! How many series bear which label: what an operator asks to find out where the series come from.
//!
//! Counting walks postings against a set of ids, one bit a series: its memory is that set and as many values as are asked for, whatever the
//! labels look like. The index is read in slices, so that nobody who brings new series waits for longer than one.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lgtm_core::exec::CancelToken;
use lgtm_core::model::{LabelArena, Labels, METRIC_NAME, Matcher, TenantId};
use lgtm_core::postings::{MemPostings, SeriesId, SymbolId};
use lgtm_core::{Error, Result};

use super::head::Head;
use super::heads::Heads;
use super::series::locate;
use super::shard::SHARD_LEN;

/// Series whose labels are resolved at a time.
const BATCH: usize = 1024;

/// Which series of a head count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CountMethod {
    /// All that are in memory.
    #[default]
    InMemory,
    /// Those that got a sample within `active_series_idle_timeout`.
    Active,
}

/// Which series are counted, and how much is told of them.
#[derive(Debug, Clone, Default)]
pub struct CardinalityRequest {
    /// All must pass.
    pub matchers: Vec<Matcher>,
    /// Which of those that match count.
    pub method: CountMethod,
    /// Entries of each list.
    pub limit: usize,
}

/// Which series that got a sample lately are listed.
#[derive(Debug, Clone, Default)]
pub struct ActiveSeriesRequest {
    /// All must pass.
    pub matchers: Vec<Matcher>,
    /// Bytes that the names and values of all of them may take; 0: no bound.
    pub max_label_bytes: u64,
}

/// How many values the labels have.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LabelNamesCardinality {
    /// Values of all names.
    pub values_total: u64,
    /// Names.
    pub names_total: u64,
    /// Values by name, most first, names of as many in their order; at most as many as asked for.
    pub names: Vec<(String, u64)>,
}

/// How many series the values of some labels have.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LabelValuesCardinality {
    /// Series of the tenant, whatever their labels.
    pub series_total: u64,
    /// The labels asked for that any series has, most series first.
    pub labels: Vec<LabelCardinality>,
}

/// How many series the values of one label have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelCardinality {
    /// The label.
    pub name: String,
    /// Its values.
    pub values_total: u64,
    /// Series that have it.
    pub series_total: u64,
    /// Series by value, most first, values of as many in their order; at most as many as asked for.
    pub values: Vec<(String, u64)>,
}

/// How large the native histograms of one metric are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistogramCardinality {
    /// The metric.
    pub metric: String,
    /// Its active series whose newest sample is a native histogram.
    pub series: u64,
    /// Buckets of their newest samples.
    pub buckets: u64,
    /// Buckets of the smallest one.
    pub min_buckets: u64,
    /// Buckets of the largest one.
    pub max_buckets: u64,
}

/// One bit a series.
#[derive(Debug)]
struct IdSet(Vec<u64>);

impl IdSet {
    fn of(ids: &[SeriesId]) -> Self {
        let mut words = vec![0; ids.last().map_or(0, |last| *last as usize / 64 + 1)];
        for id in ids {
            words[*id as usize / 64] |= 1 << (id % 64);
        }
        Self(words)
    }

    fn count_of(&self, ids: &[SeriesId]) -> u64 {
        let inside = |id: &&SeriesId| {
            let word = self.0.get(**id as usize / 64);
            word.is_some_and(|w| w >> (**id % 64) & 1 == 1)
        };
        ids.iter().filter(inside).count() as u64
    }
}

/// The series that count; `None` is all of them.
fn counted(
    head: &Head,
    matchers: &[Matcher],
    since_s: u32,
    cancel: &CancelToken,
) -> Result<Option<IdSet>> {
    if matchers.is_empty() && since_s == 0 {
        return Ok(None);
    }
    let ids = active(head, head.ids_of(matchers, cancel)?, since_s);
    Ok(Some(IdSet::of(&ids)))
}

/// What has the highest counts, those of equal counts by name: values of a label, names.
#[derive(Debug, Default)]
pub(super) struct Highest {
    limit: usize,
    /// The numbering of symbols in which values were seen: with another one all of them come again.
    numbering: Option<u64>,
    values_total: u64,
    series_total: u64,
    /// At most `limit`, the best first.
    best: BTreeSet<(Reverse<u64>, String)>,
}

impl Highest {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            ..Self::default()
        }
    }

    /// Takes in a value that `count` series have.
    fn add(&mut self, index: &MemPostings, value: SymbolId, count: u64) {
        if self.numbering != Some(index.numbering()) {
            *self = Self {
                numbering: Some(index.numbering()),
                ..Self::new(self.limit)
            };
        }
        if count > 0 {
            self.values_total += 1;
            self.series_total += count;
            self.offer(count, index.symbols().resolve(value));
        }
    }

    /// Whether something with `count` may be among the highest.
    pub(super) fn takes(&self, count: u64) -> bool {
        match self.best.last() {
            Some((Reverse(worst), _)) if self.best.len() >= self.limit => count >= *worst,
            _ => self.limit > 0,
        }
    }

    /// Takes in something that has a count. Each is to come once.
    pub(super) fn offer(&mut self, count: u64, text: &str) {
        let is_better = match self.best.last() {
            Some((Reverse(worst), last)) if self.best.len() >= self.limit => {
                (count, last.as_str()) > (*worst, text)
            }
            _ => self.limit > 0,
        };
        if is_better {
            self.best.insert((Reverse(count), text.to_owned()));
            if self.best.len() > self.limit {
                self.best.pop_last();
            }
        }
    }

    pub(super) fn in_order(self) -> Vec<(String, u64)> {
        let best = self.best.into_iter();
        best.map(|(Reverse(count), text)| (text, count)).collect()
    }
}

/// Counts, for each value of a label, the series that have it.
fn count_values(
    head: &Head,
    name: &str,
    set: Option<&IdSet>,
    limit: usize,
    cancel: &CancelToken,
) -> Result<Highest> {
    let mut highest = Highest::new(limit);
    head.each_value(name, cancel, &mut |index, value| {
        let ids = index.postings_of_pair(name, value);
        let count = set.map_or(ids.len() as u64, |s| s.count_of(ids));
        highest.add(index, value, count);
        Ok(())
    })?;
    Ok(highest)
}

/// Those of `ids`, which ascend, that got a sample since.
fn active(head: &Head, mut ids: Vec<SeriesId>, since_s: u32) -> Vec<SeriesId> {
    if since_s == 0 {
        return ids;
    }
    let shards = head.shards();
    let mut kept = 0;
    let mut at = 0;
    while at < ids.len() {
        let (shard, _) = locate(ids[at]);
        let end = at + ids[at..].partition_point(|id| locate(*id).0 == shard);
        if let Some(shard) = shards.get(shard) {
            let slots = shard.lock();
            for n in at..end {
                let series = slots.get(ids[n] as usize % SHARD_LEN);
                if let Some(Some(series)) = series
                    && series.touched_s >= since_s
                {
                    ids[kept] = ids[n];
                    kept += 1;
                }
            }
        }
        at = end;
    }
    ids.truncate(kept);
    ids
}

impl Heads {
    /// Seconds on the host's clock since when a series must have got a sample to count; 0 for all.
    fn counts_since(&self, method: CountMethod) -> u32 {
        let idle = self.settings.active_series_idle_timeout.as_secs();
        match method {
            CountMethod::InMemory => 0,
            CountMethod::Active => {
                let now_s = u32::try_from(self.clock.now_ms().to_seconds()).unwrap_or(0);
                let idle = u32::try_from(idle).unwrap_or(u32::MAX);
                now_s.saturating_sub(idle).max(1)
            }
        }
    }

    /// How many values the labels of the matching series have.
    ///
    /// # Errors
    /// `Cancelled`; so do all below.
    pub(crate) fn label_names_cardinality(
        &self,
        tenant: &TenantId,
        request: &CardinalityRequest,
        cancel: &CancelToken,
    ) -> Result<LabelNamesCardinality> {
        let mut out = LabelNamesCardinality::default();
        let Some(head) = self.get(tenant) else {
            return Ok(out);
        };
        let since_s = self.counts_since(request.method);
        let set = counted(&head, &request.matchers, since_s, cancel)?;
        let names: Vec<String> = head.index.read().names().map(str::to_owned).collect();
        let mut highest = Highest::new(request.limit);
        for name in names {
            let values = count_values(&head, &name, set.as_ref(), 0, cancel)?.values_total;
            if values > 0 {
                out.values_total += values;
                out.names_total += 1;
                highest.offer(values, &name);
            }
        }
        out.names = highest.in_order();
        Ok(out)
    }

    /// How many of the matching series the values of `names` have.
    pub(crate) fn label_values_cardinality(
        &self,
        tenant: &TenantId,
        names: &[String],
        request: &CardinalityRequest,
        cancel: &CancelToken,
    ) -> Result<LabelValuesCardinality> {
        let mut out = LabelValuesCardinality::default();
        let Some(head) = self.get(tenant) else {
            return Ok(out);
        };
        let since_s = self.counts_since(request.method);
        let set = counted(&head, &request.matchers, since_s, cancel)?;
        out.series_total = match since_s {
            0 => head.series_count() as u64,
            _ => active(&head, head.ids_of(&[], cancel)?, since_s).len() as u64,
        };
        for name in names {
            let counts = count_values(&head, name, set.as_ref(), request.limit, cancel)?;
            if counts.values_total > 0 {
                out.labels.push(LabelCardinality {
                    name: name.clone(),
                    values_total: counts.values_total,
                    series_total: counts.series_total,
                    values: counts.in_order(),
                });
            }
        }
        out.labels.sort_by(|a, b| {
            let by_series = b.series_total.cmp(&a.series_total);
            by_series.then_with(|| a.name.cmp(&b.name))
        });
        Ok(out)
    }

    /// The active series that match, in the order of their making; their labels are resolved batch by batch.
    ///
    /// # Errors
    /// `LimitExceeded` when their labels take more than they may.
    pub(crate) fn active_series(
        &self,
        tenant: &TenantId,
        request: &ActiveSeriesRequest,
        cancel: &CancelToken,
    ) -> Result<ActiveSeries> {
        let Some(head) = self.get(tenant) else {
            return Ok(ActiveSeries::default());
        };
        let since_s = self.counts_since(CountMethod::Active);
        let ids = active(&head, head.ids_of(&request.matchers, cancel)?, since_s);
        let series = ActiveSeries {
            head: Some(head),
            ids: ids.into_iter(),
        };
        let max = request.max_label_bytes;
        let bytes = if max > 0 { series.label_bytes() } else { 0 };
        if bytes > max {
            return Err(Error::LimitExceeded(format!(
                "the labels of the active series take {bytes} bytes, the limit is {max} (active_series_results_max_size_bytes); consider a narrower selector"
            )));
        }
        Ok(series)
    }

    /// How large the native histograms of the active series that match are, by metric. A series counts from its first sample after a
    /// flush took all that it had.
    pub(crate) fn active_histograms(
        &self,
        tenant: &TenantId,
        matchers: &[Matcher],
        cancel: &CancelToken,
    ) -> Result<Vec<HistogramCardinality>> {
        let Some(head) = self.get(tenant) else {
            return Ok(Vec::new());
        };
        let since_s = self.counts_since(CountMethod::Active);
        let ids = active(&head, head.ids_of(matchers, cancel)?, since_s);
        let shards = head.shards();
        let mut by_metric: BTreeMap<String, HistogramCardinality> = BTreeMap::new();
        for slice in ids.chunks(BATCH) {
            cancel.check("counting of histograms")?;
            let index = head.index.read();
            let name = index.symbols().find(METRIC_NAME);
            for id in slice {
                let (shard, slot) = locate(*id);
                let Some(shard) = shards.get(shard) else {
                    continue;
                };
                let slots = shard.lock();
                let Some(Some(series)) = slots.get(slot) else {
                    continue;
                };
                let mut pairs = series.labels.chunks_exact(2);
                let metric = pairs.find(|p| Some(p[0]) == name).map(|p| p[1]);
                let (Some(metric), Some(buckets)) = (metric, series.histogram_buckets()) else {
                    continue;
                };
                let metric = index.symbols().resolve(metric);
                match by_metric.get_mut(metric) {
                    Some(known) => known.add(buckets),
                    None => {
                        let first = HistogramCardinality::first(metric, buckets);
                        by_metric.insert(metric.to_owned(), first);
                    }
                }
            }
        }
        Ok(by_metric.into_values().collect())
    }
}

impl HistogramCardinality {
    fn first(metric: &str, buckets: u64) -> Self {
        Self {
            metric: metric.to_owned(),
            series: 1,
            buckets,
            min_buckets: buckets,
            max_buckets: buckets,
        }
    }

    fn add(&mut self, buckets: u64) {
        self.series += 1;
        self.buckets += buckets;
        self.min_buckets = self.min_buckets.min(buckets);
        self.max_buckets = self.max_buckets.max(buckets);
    }
}

/// Active series of a tenant, as they were when it was made; those forgotten since are passed over. Memory: four bytes a series.
#[derive(Debug, Default)]
pub(crate) struct ActiveSeries {
    head: Option<Arc<Head>>,
    ids: std::vec::IntoIter<SeriesId>,
}

impl ActiveSeries {
    /// Bytes of the names and values of all series that are left.
    fn label_bytes(&self) -> u64 {
        let Some(head) = &self.head else { return 0 };
        let mut bytes = 0;
        for slice in self.ids.as_slice().chunks(BATCH) {
            let index = head.index.read();
            each(head, slice, |symbols| {
                let pairs = index.pairs(symbols);
                bytes += pairs.map(|(n, v)| (n.len() + v.len()) as u64).sum::<u64>();
            });
        }
        bytes
    }
}

impl Iterator for ActiveSeries {
    type Item = Vec<Labels>;

    fn next(&mut self) -> Option<Vec<Labels>> {
        let head = self.head.as_ref()?;
        let ids: Vec<_> = self.ids.by_ref().take(BATCH).collect();
        if ids.is_empty() {
            return None;
        }
        let index = head.index.read();
        let mut out = Vec::with_capacity(ids.len());
        let mut arena = LabelArena::default();
        each(head, &ids, |symbols| {
            out.push(index.labels(symbols, &mut arena));
        });
        Some(out)
    }
}

/// Hands out the symbols of series. The caller holds the index.
fn each(head: &Head, ids: &[SeriesId], mut sink: impl FnMut(&[u32])) {
    let shards = head.shards();
    for id in ids {
        let (shard, slot) = locate(*id);
        if let Some(shard) = shards.get(shard)
            && let Some(Some(series)) = shard.lock().get(slot)
        {
            sink(&series.labels);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use lgtm_core::clock::ManualClock;
    use lgtm_core::disk::LocalDisk;
    use lgtm_core::limits::Overrides;
    use lgtm_core::model::{Sample, TimestampMs};
    use proptest::prelude::*;

    use super::super::HeadSettings;
    use lgtm_core::ErrorKind;

    use super::*;
    use crate::limits::Limits;
    use crate::wire::WriteBatch;

    proptest! {
        #[test]
        fn sets_count_what_is_in_both(a in proptest::collection::btree_set(0u32..300, 0..80), b in proptest::collection::btree_set(0u32..300, 0..80)) {
            let (va, vb): (Vec<_>, Vec<_>) = (a.iter().copied().collect(), b.iter().copied().collect());
            prop_assert_eq!(IdSet::of(&va).count_of(&vb), a.intersection(&b).count() as u64);
        }
    }

    #[test]
    fn the_highest_come_first_and_equal_ones_by_name() {
        let names = |limit| -> Vec<String> {
            let mut highest = Highest::new(limit);
            for (name, count) in [("c", 1), ("b", 2), ("a", 1), ("d", 3)] {
                highest.offer(count, name);
            }
            highest.in_order().into_iter().map(|e| e.0).collect()
        };
        assert_eq!(names(3), ["d", "b", "a"]);
        assert_eq!(names(9), ["d", "b", "a", "c"]);
        assert!(names(0).is_empty());
    }

    /// Three shards of series; `zone` is on every third one.
    fn series(n: usize) -> Labels {
        let zone = if n.is_multiple_of(3) {
            format!("z{}", n % 4)
        } else {
            String::new()
        };
        let pairs = [
            ("__name__", format!("metric_{}", n % 5)),
            ("instance", n.to_string()),
            ("job", format!("job-{}", n % 7)),
            ("zone", zone),
        ];
        Labels::from_pairs(pairs.into_iter().filter(|(_, v)| !v.is_empty())).unwrap()
    }

    #[tokio::test]
    async fn counts_are_those_of_a_walk_over_all_series() {
        const SERIES: usize = 1300;
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at_ms(1_700_000_000_000));
        let limits = Overrides::fixed(Limits::default());
        let disk = Arc::new(LocalDisk::new(dir.path()));
        let settings = HeadSettings::default();
        let idle = settings.active_series_idle_timeout;
        let (heads, log) = Heads::open(disk, ".", settings, limits, clock.clone(), 7).unwrap();
        heads.replay(log).unwrap();
        let tenant = TenantId::anonymous();
        let push = async |numbers: &mut dyn Iterator<Item = usize>, t_ms: TimestampMs| {
            let mut batch = WriteBatch::default();
            for n in numbers {
                batch.push_series(series(n).iter(), &[Sample { t_ms, value: 1.0 }]);
            }
            let report = heads.append(&tenant, &batch).await.unwrap();
            assert_eq!(report.rejected.first, None);
        };
        push(&mut (0..SERIES), TimestampMs::new(1_700_000_000_000)).await;
        clock.advance(idle + Duration::from_secs(2));
        push(
            &mut (0..SERIES).filter(|n| n % 2 == 0),
            TimestampMs::new(1_700_000_001_000),
        )
        .await;
        let names = ["__name__", "instance", "job", "nope", "zone"].map(str::to_owned);
        let cancel = CancelToken::new();
        for (method, only_even) in [(CountMethod::InMemory, false), (CountMethod::Active, true)] {
            for matchers in [
                vec![],
                vec![Matcher::equal("job", "job-3")],
                vec![Matcher::equal("zone", "")],
            ] {
                let counts = |n: &usize| !only_even || n.is_multiple_of(2);
                let all: Vec<Labels> = (0..SERIES).filter(counts).map(series).collect();
                let matches = |l: &&Labels| {
                    let value = |name| l.get(name).unwrap_or_default();
                    matchers.iter().all(|m| m.matches(value(m.name())))
                };
                let chosen: BTreeSet<&Labels> = all.iter().filter(matches).collect();
                let mut pairs: BTreeMap<&str, BTreeMap<&str, u64>> = BTreeMap::new();
                for (name, value) in chosen.iter().flat_map(|l| l.iter()) {
                    *pairs.entry(name).or_default().entry(value).or_default() += 1;
                }
                let request = CardinalityRequest {
                    matchers: matchers.clone(),
                    method,
                    limit: 10_000,
                };
                let got = heads
                    .label_names_cardinality(&tenant, &request, &cancel)
                    .unwrap();
                let wanted: BTreeMap<_, _> = pairs
                    .iter()
                    .map(|(n, v)| ((*n).to_owned(), v.len() as u64))
                    .collect();
                assert_eq!(
                    got.names.iter().cloned().collect::<BTreeMap<_, _>>(),
                    wanted
                );
                assert_eq!(got.names_total, wanted.len() as u64);
                assert_eq!(got.values_total, wanted.values().sum::<u64>());

                let got = heads
                    .label_values_cardinality(&tenant, &names, &request, &cancel)
                    .unwrap();
                assert_eq!(
                    (got.series_total, got.labels.len()),
                    (all.len() as u64, pairs.len())
                );
                for label in &got.labels {
                    let wanted = &pairs[label.name.as_str()];
                    let values = label.values.iter().map(|(v, n)| (v.as_str(), *n));
                    assert_eq!(
                        values.collect::<BTreeMap<_, _>>(),
                        *wanted,
                        "{}",
                        label.name
                    );
                    assert_eq!(label.series_total, wanted.values().sum::<u64>());
                }
                if only_even {
                    let mut request = ActiveSeriesRequest {
                        matchers: matchers.clone(),
                        max_label_bytes: 0,
                    };
                    let listed = heads.active_series(&tenant, &request, &cancel).unwrap();
                    let bytes = chosen.iter().flat_map(|l| l.iter());
                    let bytes: usize = bytes.map(|(n, v)| n.len() + v.len()).sum();
                    assert_eq!(listed.label_bytes(), bytes as u64);
                    request.max_label_bytes = bytes as u64;
                    assert!(heads.active_series(&tenant, &request, &cancel).is_ok());
                    request.max_label_bytes -= 1;
                    let refused = heads.active_series(&tenant, &request, &cancel);
                    assert_eq!(refused.unwrap_err().kind(), ErrorKind::LimitExceeded);
                    let listed: Vec<Labels> = listed.flatten().collect();
                    assert_eq!(listed.len(), chosen.len());
                    assert_eq!(listed.iter().collect::<BTreeSet<_>>(), chosen);
                }
            }
        }
    }
}
