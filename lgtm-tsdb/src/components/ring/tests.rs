//! Real ingesters behind a ring, some of which fail: everything that was acknowledged is in every answer, once.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use lgtm_core::clock::{Clock, ManualClock};
use lgtm_core::disk::LocalDisk;
use lgtm_core::exec::Executor;
use lgtm_core::limits::Overrides;
use lgtm_core::model::{
    Exemplar, Labels, Listed, Matcher, Metadata, MetricType, Sample, TenantId, TextSet, TimeRange,
    TimestampMs,
};
use lgtm_core::storage::{BackendSettings, DataKind, Layout, from_url};
use lgtm_core::{Error, ErrorKind, Result};
use lgtm_ring::instance::{Instance, RingDesc};
use lgtm_ring::ring::{Ring, RingSettings};
use lgtm_ring::token::{RandomTokens, Token, TokenGenerator};
use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::*;
use crate::components::clients::{IngesterClient, Inspect, MetricMetadata};
use crate::components::{Distributor, Ingester, RateShare};
use crate::head::{
    ActiveSeriesRequest, AppendReport, CardinalityRequest, ExemplarBounds, ExemplarsRequest,
    GlobalLimits, HeadStats, HistogramCardinality, LabelNamesCardinality, LabelValuesCardinality,
    SeriesExemplars, TenantStats,
};
use crate::limits::Limits;
use crate::select::{
    LabelBatches, Select, SelectEnd, SelectRequest, SeriesBatches, SeriesChunks, samples,
};
use crate::wire::{MetadataEntry, PushPart, WriteBatch};

const NOW_MS: i64 = 1_700_000_000_000;

/// An ingester that fails when it is told to.
#[derive(Debug)]
struct Frail {
    ingester: Arc<Ingester>,
    is_away: AtomicBool,
    /// Answers break off behind so many batches of one series.
    breaks_after: Mutex<Option<usize>>,
    pushes: AtomicUsize,
}

impl Frail {
    fn check(&self) -> Result<&Arc<Ingester>> {
        if self.is_away.load(Ordering::SeqCst) {
            return Err(Error::Unavailable("away".into()));
        }
        Ok(&self.ingester)
    }
}

#[derive(Debug)]
struct FrailBatches {
    all: Box<dyn SeriesBatches>,
    rest: Vec<SeriesChunks>,
    left: Option<usize>,
}

#[async_trait]
impl SeriesBatches for FrailBatches {
    async fn next_batch(&mut self) -> Result<Option<Vec<SeriesChunks>>> {
        if let Some(left) = &mut self.left {
            *left = left
                .checked_sub(1)
                .ok_or_else(|| Error::Unavailable("broke off".into()))?;
        }
        if self.rest.is_empty() {
            let Some(mut batch) = self.all.next_batch().await? else {
                return Ok(None);
            };
            batch.reverse();
            self.rest = batch;
        }
        Ok(self.rest.pop().map(|s| vec![s]))
    }

    fn end(&mut self) -> SelectEnd {
        self.all.end()
    }
}

#[async_trait]
impl Select for Frail {
    async fn select(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Box<dyn SeriesBatches>> {
        Ok(Box::new(FrailBatches {
            all: self.check()?.select(tenant, request).await?,
            rest: Vec::new(),
            left: *self.breaks_after.lock(),
        }))
    }

    async fn series(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Listed<Vec<Labels>>> {
        self.check()?.series(tenant, request).await
    }

    async fn label_names(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Listed<TextSet>> {
        self.check()?.label_names(tenant, request).await
    }

    async fn label_values(
        &self,
        tenant: &TenantId,
        name: &str,
        request: &SelectRequest,
    ) -> Result<Listed<TextSet>> {
        self.check()?.label_values(tenant, name, request).await
    }
}

#[async_trait]
impl Inspect for Frail {
    async fn metadata(&self, tenant: &TenantId, metric: Option<&str>) -> Result<MetricMetadata> {
        self.check()?.metadata(tenant, metric).await
    }

    async fn exemplars(
        &self,
        tenant: &TenantId,
        request: &ExemplarsRequest,
    ) -> Result<SeriesExemplars> {
        self.check()?.exemplars(tenant, request).await
    }

    async fn label_names_cardinality(
        &self,
        tenant: &TenantId,
        request: &CardinalityRequest,
    ) -> Result<LabelNamesCardinality> {
        self.check()?.label_names_cardinality(tenant, request).await
    }

    async fn label_values_cardinality(
        &self,
        tenant: &TenantId,
        names: &[String],
        request: &CardinalityRequest,
    ) -> Result<LabelValuesCardinality> {
        let ingester = self.check()?;
        ingester
            .label_values_cardinality(tenant, names, request)
            .await
    }

    async fn active_series(
        &self,
        tenant: &TenantId,
        request: &ActiveSeriesRequest,
    ) -> Result<Box<dyn LabelBatches>> {
        self.check()?.active_series(tenant, request).await
    }

    async fn active_histograms(
        &self,
        tenant: &TenantId,
        matchers: &[Matcher],
    ) -> Result<Vec<HistogramCardinality>> {
        self.check()?.active_histograms(tenant, matchers).await
    }

    async fn head_stats(&self, tenant: &TenantId, limit: usize) -> Result<HeadStats> {
        self.check()?.head_stats(tenant, limit).await
    }

    async fn tenant_stats(&self, tenant: &TenantId) -> Result<TenantStats> {
        self.check()?.tenant_stats(tenant).await
    }
}

#[async_trait]
impl IngesterClient for Frail {
    async fn push(&self, tenant: &TenantId, part: PushPart) -> Result<AppendReport> {
        self.pushes.fetch_add(1, Ordering::SeqCst);
        self.check()?.push(tenant, part).await
    }
}

/// Ingesters behind a ring, and one that gets everything: what it answers is right.
struct Cluster {
    all: Arc<RingIngesters>,
    nodes: Vec<Arc<Frail>>,
    alone: Arc<Ingester>,
    _dirs: Vec<tempfile::TempDir>,
}

fn ingester(dir: &std::path::Path) -> Arc<Ingester> {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::at_ms(NOW_MS));
    let store = from_url("memory:", &BackendSettings::default()).unwrap();
    let bucket = Layout::single_bucket(store).bucket(DataKind::MetricBlocks);
    let disk = Arc::new(LocalDisk::new(dir));
    let limits = Overrides::fixed(Limits::default());
    let ingester = Ingester::builder(bucket, disk, limits);
    let ingester = ingester.clock(clock).build().unwrap();
    ingester.open().unwrap();
    ingester.replay().unwrap();
    ingester
}

impl Cluster {
    fn new(count: usize, zones: usize, shard_size: u64) -> Self {
        let settings = RingSettings {
            replication_factor: 3,
            zone_awareness_enabled: zones > 0,
            ..RingSettings::default()
        };
        let (mut instances, mut pool) = (RingDesc::new(), LocalIngesters::new());
        let (mut nodes, mut dirs) = (Vec::new(), Vec::new());
        let mut taken: HashSet<Token> = HashSet::new();
        for n in 0..count {
            let dir = tempfile::tempdir().unwrap();
            let frail = Arc::new(Frail {
                ingester: ingester(dir.path()),
                is_away: AtomicBool::new(false),
                breaks_after: Mutex::new(None),
                pushes: AtomicUsize::new(0),
            });
            dirs.push(dir);
            let mut generator = RandomTokens::seeded(n as i64 + 1);
            let tokens = generator.generate(64, &taken).unwrap();
            taken.extend(&tokens);
            let addr = format!("node-{n}:9095");
            let zone = if zones > 0 {
                format!("zone-{}", n % zones)
            } else {
                String::new()
            };
            instances.insert(Instance {
                id: format!("node-{n}"),
                addr: addr.clone(),
                zone,
                timestamp_s: NOW_MS / 1000,
                registered_timestamp_s: 1,
                tokens: tokens.into(),
                ..Instance::default()
            });
            pool = pool.with(&addr, Arc::clone(&frail) as _);
            nodes.push(frail);
        }
        let dir = tempfile::tempdir().unwrap();
        let alone = ingester(dir.path());
        dirs.push(dir);
        let limits = Overrides::fixed(Limits {
            ingestion_tenant_shard_size: shard_size,
            ..Limits::default()
        });
        let executor = Executor::inline(Handle::current());
        let ring = Ring::new(settings, &instances);
        let all = RingIngesters::builder(ring.into(), Arc::new(pool), limits, executor)
            .clock(Arc::new(ManualClock::at_ms(NOW_MS)))
            .settings(ReplicationSettings {
                hedging_delay: Duration::from_millis(200),
                ..ReplicationSettings::default()
            });
        Self {
            all: all.build().unwrap(),
            nodes,
            alone,
            _dirs: dirs,
        }
    }

    /// Samples that were stored, and those that were refused: as many as by one ingester.
    async fn push(&self, batch: impl Fn() -> WriteBatch) -> (u64, u64) {
        let told = self.all.push(&tenant(), batch().into()).await.unwrap();
        // All of them have it or have failed by then: what the quorum did not wait for has come.
        self.settle().await;
        let wanted = self.alone.push(&tenant(), batch().into()).await.unwrap();
        assert_eq!(told, wanted);
        (told.samples, told.rejected.total())
    }

    async fn settle(&self) {
        for _ in 0..50 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn away(&self, n: usize, is_away: bool) {
        self.nodes[n].is_away.store(is_away, Ordering::SeqCst);
    }

    /// Every kind of read is what one ingester answers.
    async fn check(&self) {
        let all = SelectRequest::new(vec![], TimeRange::ALL).unwrap();
        let wanted = told(&*self.alone, &all).await.unwrap();
        assert!(!wanted.is_empty());
        assert_eq!(told(&*self.all, &all).await.unwrap(), wanted);
        let (t, limited) = (&tenant(), all.clone().limit(5));
        for request in [&all, &limited] {
            let wanted = self.alone.series(t, request).await.unwrap();
            assert_eq!(self.all.series(t, request).await.unwrap(), wanted);
            let wanted = self.alone.label_values(t, "n", request).await.unwrap();
            let found = self.all.label_values(t, "n", request).await.unwrap();
            assert_eq!(found, wanted);
            let wanted = self.alone.label_names(t, request).await.unwrap();
            assert_eq!(self.all.label_names(t, request).await.unwrap(), wanted);
        }
        let wanted = self.alone.metadata(t, None).await.unwrap();
        assert_eq!(self.all.metadata(t, None).await.unwrap(), wanted);
        let request = ExemplarsRequest {
            selectors: vec![vec![]],
            range: TimeRange::ALL,
            bounds: ExemplarBounds {
                max_series: 0,
                max_bytes: 1 << 20,
            },
        };
        let wanted = self.alone.exemplars(t, &request).await.unwrap();
        assert_eq!(self.all.exemplars(t, &request).await.unwrap(), wanted);
        let request = ActiveSeriesRequest::default();
        let wanted = active(&*self.alone, &request).await;
        assert_eq!(active(&*self.all, &request).await, wanted);
    }
}

async fn active(of: &dyn IngesterClient, request: &ActiveSeriesRequest) -> Vec<Labels> {
    let mut answer = of.active_series(&tenant(), request).await.unwrap();
    let mut out = Vec::new();
    while let Some(batch) = answer.next_batch().await.unwrap() {
        out.extend(batch);
    }
    out.sort();
    out
}

fn tenant() -> TenantId {
    TenantId::new("team-a").unwrap()
}

/// The samples of all series, in words.
async fn told(of: &dyn Select, request: &SelectRequest) -> Result<Vec<String>> {
    let (mut out, mut answer) = (Vec::new(), of.select(&tenant(), request).await?);
    while let Some(batch) = answer.next_batch().await? {
        for series in batch {
            // Of equal chunks of replicas one is left.
            let is_twice = |c| series.chunks.iter().filter(|d| *d == c).count() > 1;
            assert!(!series.chunks.iter().any(is_twice), "{}", series.labels);
            let samples = samples(&series.chunks, request.range).unwrap();
            out.push(format!("{} {samples:?}", series.labels));
        }
    }
    assert_eq!(answer.end().warnings, Vec::<String>::new());
    Ok(out)
}

/// A sample of each of many series at second `t`, with metadata and exemplars.
fn batch(t: i64) -> WriteBatch {
    let mut out = WriteBatch::default();
    for n in 0..300 {
        let n = n.to_string();
        let t_ms = TimestampMs::new(NOW_MS - 600_000 + t * 1000);
        let sample = Sample {
            t_ms,
            value: t as f64,
        };
        let labels = [("__name__", "up"), ("n", n.as_str())];
        out.push_series(labels.into_iter(), &[sample]);
        if n == "7" {
            out.push_exemplar(Exemplar {
                labels: Labels::from_pairs([("trace_id", "a")]).unwrap(),
                value: 1.0,
                t_ms,
            });
        }
    }
    out.push_metadata(MetadataEntry {
        name: "up".into(),
        metadata: Metadata {
            metric_type: MetricType::Gauge,
            help: "helps".into(),
            unit: String::new(),
        },
    });
    out
}

#[tokio::test]
async fn all_that_was_acknowledged_is_in_every_answer_once_whoever_is_away() {
    for (count, zones, shard_size) in [
        (3, 0, 0),
        (5, 0, 0),
        (6, 3, 0),
        (7, 0, 4),
        (5, 0, 1),
        (3, 3, 0),
    ] {
        let cluster = Cluster::new(count, zones, shard_size);
        cluster.push(|| batch(0)).await;
        cluster.check().await;
        for gone in 0..count {
            cluster.away(gone, true);
            let t = gone as i64 + 1;
            cluster.push(|| batch(t)).await;
            cluster.check().await;
            cluster.away(gone, false);
            // It lacks what was pushed meanwhile; the others have it.
            cluster.check().await;
        }
        let reached = cluster.nodes.iter();
        let reached = reached.filter(|n| n.pushes.load(Ordering::SeqCst) > 0);
        let wanted = match shard_size {
            0 => count,
            size => (size as usize).max(3),
        };
        assert_eq!(reached.count(), wanted);
    }
}

#[tokio::test]
async fn what_is_with_too_few_is_an_error_not_a_short_answer() {
    let cluster = Cluster::new(3, 0, 0);
    cluster.push(|| batch(0)).await;
    cluster.away(0, true);
    cluster.away(2, true);
    let refused = cluster.all.push(&tenant(), batch(1).into()).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Unavailable);
    let all = SelectRequest::new(vec![], TimeRange::ALL).unwrap();
    let error = told(&*cluster.all, &all).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let error = cluster.all.label_names(&tenant(), &all).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_gone_on_with_by_another_replica() {
    for (count, zones) in [(3, 0), (5, 0), (6, 3)] {
        let cluster = Cluster::new(count, zones, 0);
        cluster.push(|| batch(0)).await;
        for breaking in 0..count {
            for behind in [0, 1, 2, 50, 170] {
                *cluster.nodes[breaking].breaks_after.lock() = Some(behind);
                cluster.check().await;
            }
            *cluster.nodes[breaking].breaks_after.lock() = None;
        }
        // Two of three are too many.
        *cluster.nodes[0].breaks_after.lock() = Some(3);
        *cluster.nodes[1].breaks_after.lock() = Some(3);
        let all = SelectRequest::new(vec![], TimeRange::ALL).unwrap();
        let error = told(&*cluster.all, &all).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
    }
}

#[tokio::test]
async fn what_is_refused_is_told_as_by_one_ingester() {
    let cluster = Cluster::new(3, 0, 0);
    cluster.push(|| batch(5)).await;
    // Each series has an old sample and a new one.
    let mixed = || {
        let mut out = batch(6);
        let labels = [("__name__", "up"), ("n", "3")];
        let old = Sample {
            t_ms: TimestampMs::new(NOW_MS - 600_000),
            value: 9.0,
        };
        out.push_series(labels.into_iter(), &[old]);
        out
    };
    for is_away in [false, true] {
        cluster.away(1, is_away);
        assert_eq!(cluster.push(mixed).await, (300, 1));
    }
    cluster.check().await;
    // One replica alone has a newer sample: what it refuses is with the others.
    let cluster = Cluster::new(3, 0, 0);
    let newer = PushPart::from(batch(9));
    let report = cluster.nodes[2].push(&tenant(), newer).await.unwrap();
    assert_eq!(report.samples, 300);
    let report = cluster.all.push(&tenant(), batch(1).into()).await.unwrap();
    assert_eq!((report.samples, report.rejected.total()), (300, 0));
}

#[tokio::test]
async fn distributors_share_the_rate_of_a_tenant() {
    let instance = |id: &str, timestamp_s| Instance {
        id: id.into(),
        timestamp_s,
        tokens: [Token(timestamp_s as u32)].into(),
        ..Instance::default()
    };
    let now_s = NOW_MS / 1000;
    let all = [
        instance("a", now_s),
        instance("b", now_s - 5),
        instance("c", 1),
    ];
    let ring = Ring::new(RingSettings::default(), &all.into_iter().collect());
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::at_ms(NOW_MS));
    let share = HealthyDistributors {
        ring: ring.into(),
        clock: Arc::clone(&clock),
    };
    assert_eq!(share.distributors(), 2);
    let dir = tempfile::tempdir().unwrap();
    let limits = Overrides::fixed(Limits {
        ingestion_rate: 600.0,
        ingestion_burst_size: 302,
        ..Limits::default()
    });
    let distributor = Distributor::builder(ingester(dir.path()), limits)
        .clock(Arc::new(ManualClock::at_ms(NOW_MS)))
        .rate_share(Arc::new(share))
        .build();
    // A batch has 302 samples, exemplars and metadata; the burst is not shared.
    distributor.push(&tenant(), batch(0)).await.unwrap();
    let refused = distributor.push(&tenant(), batch(1)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::RateLimited);
    let wait = refused.retry_after().unwrap();
    assert!(wait > Duration::from_millis(900), "half the rate: {wait:?}");
}

#[test]
fn limits_are_divided_by_who_takes_what() {
    let ring = |count: u32, replication_factor| {
        let instances = (0..count).map(|n| Instance {
            id: format!("node-{n}"),
            tokens: [Token(n)].into(),
            ..Instance::default()
        });
        let settings = RingSettings {
            replication_factor,
            ..RingSettings::default()
        };
        let ring = Ring::new(settings, &instances.collect::<RingDesc>());
        DividedLimits(ring.into())
    };
    for (count, replicas, shard_size, wanted) in [
        (0, 3, 0, 1000),
        (1, 3, 0, 1000),
        (3, 3, 0, 1000),
        (6, 3, 0, 500),
        (7, 1, 0, 143),
        (9, 3, 4, 750),
        (9, 3, 50, 334),
        (9, 3, 1, 1000),
    ] {
        let local = ring(count, replicas).local(1000, shard_size);
        assert_eq!(local, wanted, "{count} {replicas} {shard_size}");
    }
}

#[tokio::test]
async fn a_tenant_may_have_as_many_series_as_with_one_ingester() {
    #[derive(Debug)]
    struct Half;

    impl GlobalLimits for Half {
        fn local(&self, limit: u64, _: u64) -> u64 {
            limit / 2
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let store = from_url("memory:", &BackendSettings::default()).unwrap();
    let bucket = Layout::single_bucket(store).bucket(DataKind::MetricBlocks);
    let limits = Overrides::fixed(Limits {
        max_global_series_per_user: 100,
        ..Limits::default()
    });
    let ingester = Ingester::builder(bucket, Arc::new(LocalDisk::new(dir.path())), limits)
        .clock(Arc::new(ManualClock::at_ms(NOW_MS)))
        .global_limits(Arc::new(Half));
    let ingester = ingester.build().unwrap();
    ingester.open().unwrap();
    ingester.replay().unwrap();
    let report = ingester.push(&tenant(), batch(0).into()).await.unwrap();
    assert_eq!((report.samples, report.rejected.total()), (50, 250));
}

#[tokio::test]
async fn counts_are_those_of_one_copy() {
    for count in [3, 6] {
        let cluster = Cluster::new(count, 0, 0);
        cluster.push(|| batch(0)).await;
        let t = &tenant();
        let names = ["n".to_owned()];
        let request = CardinalityRequest {
            limit: 3,
            ..CardinalityRequest::default()
        };
        let of = |x: u64, wanted: u64| {
            let off = x.abs_diff(wanted) as f64 / wanted as f64;
            assert!(off <= if count == 3 { 0.0 } else { 0.4 }, "{x} {wanted}");
        };
        let values = cluster.all.label_values_cardinality(t, &names, &request);
        let values = values.await.unwrap();
        of(values.series_total, 300);
        of(values.labels[0].series_total, 300);
        assert_eq!(values.labels[0].values[0].1, 1);
        of(cluster.all.head_stats(t, 5).await.unwrap().series, 300);
        of(cluster.all.tenant_stats(t).await.unwrap().series, 300);
        let found = cluster.all.label_names_cardinality(t, &request).await;
        let found = found.unwrap();
        assert_eq!(found.names_total, 2);
        of(found.values_total, 301);
    }
}
