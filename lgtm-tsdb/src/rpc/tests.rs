//! The same calls of an ingester, directly and over loopback: the answers are the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use lgtm_core::clock::{Clock, ManualClock};
use lgtm_core::disk::LocalDisk;
use lgtm_core::exec::Executor;
use lgtm_core::limits::Overrides;
use lgtm_core::model::{
    BucketSpan, Exemplar, FloatHistogram, Histogram, Labels, Listed, Matcher, Metadata, MetricType,
    Sample, TenantId, TextSet, TimeRange, TimestampMs, stale_nan,
};
use lgtm_core::rpc::{RpcClientSettings, RpcCompression};
use lgtm_core::storage::{BackendSettings, DataKind, Layout, from_url};
use lgtm_core::testing::RpcLoopback;
use lgtm_core::{Error, ErrorKind, Result};
use tokio::runtime::Handle;

use super::*;
use crate::block::BlockId;
use crate::components::Ingester;
use crate::components::clients::IngesterClient;
use crate::head::{
    ActiveSeriesRequest, AppendReport, CardinalityRequest, CountMethod, ExemplarBounds,
    ExemplarsRequest,
};
use crate::limits::Limits;
use crate::select::{
    FetchBounds, Select, SelectEnd, SelectRequest, SeriesBatches, SeriesChunks, SeriesShard,
    samples,
};
use crate::wire::{MetadataEntry, PushPart, WriteBatch};

const NOW_MS: i64 = 1_700_000_000_000;
const SERIES: usize = 3000;

fn tenant() -> TenantId {
    TenantId::new("team-a").unwrap()
}

fn executor() -> Executor {
    Executor::inline(Handle::current())
}

/// A client of an ingester on loopback.
fn remote_ingester(running: &RpcLoopback, compression: RpcCompression) -> RemoteIngester {
    let client = running.client(RpcClientSettings {
        compression,
        ..RpcClientSettings::default()
    });
    RemoteIngester::new(client.unwrap(), RemoteSettings::default())
}

fn ingester(dir: &std::path::Path) -> Arc<Ingester> {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::at_ms(NOW_MS));
    let store = from_url("memory:", &BackendSettings::default()).unwrap();
    let bucket = Layout::single_bucket(store).bucket(DataKind::MetricBlocks);
    let limits = Limits {
        max_label_value_length: 50,
        st_storage_enabled: true,
        ..Limits::default()
    };
    let ingester = Ingester::builder(
        bucket,
        Arc::new(LocalDisk::new(dir)),
        Overrides::fixed(limits),
    );
    let ingester = ingester.clock(clock).build().unwrap();
    ingester.open().unwrap();
    ingester.replay().unwrap();
    ingester
}

fn at(n: i64, value: f64) -> Sample {
    Sample {
        t_ms: TimestampMs::new(NOW_MS + n * 1000),
        value,
    }
}

/// Requests that have something of everything: all kinds of samples, exemplars, metadata, and much that is refused.
fn requests() -> Vec<WriteBatch> {
    let mut floats = WriteBatch::default();
    for n in 0..SERIES {
        let (n, job) = (format!("{n:05}"), format!("job-{}", n % 7));
        let labels = [("__name__", "floats"), ("job", job.as_str()), ("n", &n)];
        floats.push_series(labels.into_iter(), &[at(-20, 1.5), at(-10, f64::NAN)]);
        if n.ends_with('7') {
            floats.push_exemplar(Exemplar {
                labels: Labels::from_pairs([("trace_id", n.as_str())]).unwrap(),
                value: 0.25,
                t_ms: at(-10, 0.0).t_ms,
            });
        }
    }
    let mut others = WriteBatch::default();
    let spans = vec![BucketSpan {
        offset: 1,
        length: 3,
    }];
    for n in 0..200 {
        let n = format!("{n:05}");
        let int = Histogram {
            schema: 3,
            count: 8,
            sum: 7.5,
            zero_count: 3,
            positive_spans: spans.clone(),
            positive_deltas: vec![1, 1, 0],
            zero_threshold: 1e-9,
            ..Histogram::default()
        };
        let custom = Histogram {
            schema: -53,
            count: 5,
            sum: 1.0,
            positive_spans: vec![BucketSpan {
                offset: 0,
                length: 2,
            }],
            positive_deltas: vec![2, 1],
            custom_values: vec![0.5, 1.0],
            ..Histogram::default()
        };
        let float = FloatHistogram {
            schema: 1,
            count: 3.0,
            sum: stale_nan(),
            negative_spans: spans.clone(),
            negative_counts: vec![0.5, 1.5, 1.0],
            ..FloatHistogram::default()
        };
        let name = |kind| [("__name__", kind), ("n", n.as_str())].into_iter();
        others.push_histogram(name("ints"), at(-20, 0.0).t_ms, int);
        others.push_histogram(name("customs"), at(-20, 0.0).t_ms, custom);
        others.push_histogram(name("float_histograms"), at(-20, 0.0).t_ms, float);
    }
    let started = [("__name__", "started")];
    let starts = [TimestampMs::new(NOW_MS - 90_000), TimestampMs::EPOCH];
    others.push_started_series(started.into_iter(), &[at(-9, 1.0), at(-8, 2.0)], &starts);
    others.push_series(started.into_iter(), &[at(-7, stale_nan())]);
    for (name, metric_type) in [
        ("floats", MetricType::Gauge),
        ("ints", MetricType::Histogram),
    ] {
        others.push_metadata(MetadataEntry {
            name: name.into(),
            metadata: Metadata {
                metric_type,
                help: format!("helps {name}"),
                unit: "s".into(),
            },
        });
    }
    let mut refused = WriteBatch::default();
    let long = "x".repeat(51);
    let float = [("__name__", "floats"), ("job", "job-0"), ("n", "00000")];
    refused.push_series(
        float.into_iter(),
        &[at(-30, 1.0), at(-20, 9.0), at(-5, 2.0)],
    );
    refused.push_series(
        [("__name__", "floats"), ("n", &long)].into_iter(),
        &[at(0, 1.0)],
    );
    refused.push_series([("job", "nameless")].into_iter(), &[at(0, 1.0)]);
    refused.push_series([("__name__", "future")].into_iter(), &[at(86_400, 1.0)]);
    let bad = Histogram {
        count: 1,
        ..Histogram::default()
    };
    refused.push_histogram([("__name__", "bad")].into_iter(), at(0, 0.0).t_ms, bad);
    refused.push_series([("__name__", "fresh")].into_iter(), &[at(0, 1.0)]);
    refused.push_exemplar(Exemplar {
        labels: Labels::from_pairs([("long", "y".repeat(200))]).unwrap(),
        value: 1.0,
        t_ms: at(0, 0.0).t_ms,
    });
    vec![floats, others, refused, WriteBatch::default()]
}

/// What a select came to, in words: series, samples, how it ended.
async fn selected(of: &dyn Select, request: &SelectRequest) -> Result<(Vec<String>, SelectEnd)> {
    let mut out = Vec::new();
    let mut answer = of.select(&tenant(), request).await?;
    while let Some(batch) = answer.next_batch().await? {
        assert!(!batch.is_empty());
        for series in batch {
            let samples = samples(&series.chunks, request.range).unwrap();
            let chunks: Vec<_> = series.chunks.iter().map(|c| &c.data[..]).collect();
            let values = samples.iter().map(|(t, v)| format!("{t:?} {v:?}"));
            let values: Vec<_> = values.collect();
            out.push(format!("{} {values:?} {chunks:?}", series.labels));
        }
    }
    Ok((out, answer.end()))
}

async fn labels_of(of: &dyn IngesterClient, request: &ActiveSeriesRequest) -> Result<Vec<Labels>> {
    let (mut out, mut answer) = (Vec::new(), of.active_series(&tenant(), request).await?);
    while let Some(batch) = answer.next_batch().await? {
        out.extend(batch);
    }
    out.sort();
    Ok(out)
}

/// That two calls came to the same, errors by kind and words.
fn same<T: std::fmt::Debug>(what: &str, direct: Result<T>, remote: Result<T>) {
    match (direct, remote) {
        (Ok(a), Ok(b)) => assert!(format!("{a:?}") == format!("{b:?}"), "{what}: {a:?}\n{b:?}"),
        (Err(a), Err(b)) => {
            assert_eq!(a.kind(), b.kind(), "{what}: {a}; {b}");
            assert_eq!(a.to_string(), b.to_string(), "{what}");
        }
        (a, b) => panic!("{what}: {:?}, {:?}", a.err(), b.err()),
    }
}

fn select_requests() -> Vec<SelectRequest> {
    let range = TimeRange::new(NOW_MS - 60_000, NOW_MS + 1);
    let of = |matchers| SelectRequest::new(matchers, range).unwrap();
    let all = of(vec![]);
    let mut shard = all.clone();
    shard.shard = Some(SeriesShard::parse("2_of_5").unwrap());
    let bounded = |max_series, max_chunk_bytes, max_list_bytes| {
        all.clone().bounds(FetchBounds {
            max_series,
            max_chunk_bytes,
            max_list_bytes,
            ..FetchBounds::default()
        })
    };
    vec![
        of(vec![Matcher::equal("__name__", "started")]),
        of(vec![Matcher::regex("job", "job-(1|5)").unwrap()]),
        of(vec![Matcher::equal("__name__", "nothing")]),
        SelectRequest::new(vec![], TimeRange::new(0, 5)).unwrap(),
        all.clone().limit(7),
        shard,
        bounded(10, 0, 0),
        bounded(0, 1000, 0),
        bounded(0, 0, 500),
        all,
    ]
}

async fn compare_reads(direct: &dyn IngesterClient, remote: &dyn IngesterClient) {
    let t = &tenant();
    for request in &select_requests() {
        let what = format!("{:?}", request.matchers);
        let (a, b) = (selected(direct, request), selected(remote, request));
        same(&what, a.await, b.await);
        let a = direct.series(t, request).await;
        same(&what, a, remote.series(t, request).await);
        let a = direct.label_names(t, request).await;
        same(&what, a, remote.label_names(t, request).await);
        for name in ["n", "job", "none"] {
            let a = direct.label_values(t, name, request).await;
            same(&what, a, remote.label_values(t, name, request).await);
        }
    }
    for metric in [None, Some("ints"), Some("none")] {
        let a = direct.metadata(t, metric).await;
        same("metadata", a, remote.metadata(t, metric).await);
    }
    for max_bytes in [1 << 20, 100] {
        let request = ExemplarsRequest {
            selectors: vec![vec![Matcher::equal("job", "job-0")], vec![]],
            range: TimeRange::ALL,
            bounds: ExemplarBounds {
                max_series: 0,
                max_bytes,
            },
        };
        let a = direct.exemplars(t, &request).await;
        same("exemplars", a, remote.exemplars(t, &request).await);
    }
    for method in [CountMethod::InMemory, CountMethod::Active] {
        let request = CardinalityRequest {
            matchers: vec![Matcher::equal("__name__", "floats")],
            method,
            limit: 5,
        };
        let a = direct.label_names_cardinality(t, &request).await;
        let b = remote.label_names_cardinality(t, &request).await;
        same("names", a, b);
        let names = ["job".to_owned(), "n".to_owned()];
        let a = direct.label_values_cardinality(t, &names, &request).await;
        let b = remote.label_values_cardinality(t, &names, &request).await;
        same("values", a, b);
    }
    for max_label_bytes in [0, 50] {
        let request = ActiveSeriesRequest {
            matchers: vec![Matcher::equal("__name__", "floats")],
            max_label_bytes,
        };
        let (a, b) = (labels_of(direct, &request), labels_of(remote, &request));
        same("active series", a.await, b.await);
    }
    let a = direct.active_histograms(t, &[]).await;
    same("histograms", a, remote.active_histograms(t, &[]).await);
    let a = direct.head_stats(t, 4).await;
    same("head stats", a, remote.head_stats(t, 4).await);
    let a = direct.tenant_stats(t).await;
    same("tenant stats", a, remote.tenant_stats(t).await);
}

fn sorted(report: AppendReport) -> String {
    let mut reasons: Vec<_> = report.rejected.samples.iter().collect();
    reasons.sort();
    let mut dropped: Vec<_> = report.dropped_exemplars.iter().collect();
    dropped.sort();
    format!(
        "{} {} {} {reasons:?} {dropped:?} {:?} {:?} {}",
        report.samples,
        report.histograms,
        report.exemplars,
        report.dropped_metadata,
        report.rejected.first,
        report.is_over_capacity
    )
}

#[tokio::test]
async fn an_ingester_elsewhere_answers_as_one_here() {
    for compression in [RpcCompression::None, RpcCompression::Zstd] {
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let [here, there] = dirs.each_ref().map(|d| ingester(d.path()));
        let routes = ingester_routes(
            &RpcLoopback::server().unwrap(),
            Arc::clone(&there) as _,
            &executor(),
        );
        let running = RpcLoopback::start(routes).await.unwrap();
        let remote = remote_ingester(&running, compression);
        for batch in requests() {
            let part = PushPart::from(batch);
            let direct = here.push(&tenant(), part.clone()).await.unwrap();
            let told = remote.push(&tenant(), part).await.unwrap();
            assert_eq!(sorted(told), sorted(direct));
        }
        let all = select_requests().pop().unwrap();
        let (series, end) = selected(&remote, &all).await.unwrap();
        assert_eq!(series.len(), SERIES + 602);
        assert_eq!(end.stats.series, series.len() as u64);
        compare_reads(&*there, &remote).await;
        // What they were sent is the same, so that they have the same.
        let both = (selected(&*here, &all).await, selected(&remote, &all).await);
        same("what was pushed", both.0, both.1);
        there.close().await.unwrap();
        compare_reads(&*there, &remote).await;
        let empty = || PushPart::from(WriteBatch::default());
        let direct = there.push(&tenant(), empty()).await.map(sorted);
        let told = remote.push(&tenant(), empty()).await.map(sorted);
        same("a push to a closed ingester", direct, told);
        running.end().await.unwrap();
    }
}

/// A holder whose answers go as its tenant is called.
#[derive(Debug, Default)]
struct Odd(Arc<AtomicUsize>);

#[derive(Debug)]
struct OddBatches {
    left: usize,
    then: Option<Error>,
    hangs: bool,
    alive: Arc<AtomicUsize>,
}

impl Drop for OddBatches {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::SeqCst);
    }
}

fn odd_end() -> SelectEnd {
    SelectEnd {
        warnings: vec!["block 7 is damaged".into(), "wärnung".into()],
        blocks: vec![BlockId::new(1, [7; 10])],
        ..SelectEnd::default()
    }
}

#[async_trait]
impl SeriesBatches for OddBatches {
    async fn next_batch(&mut self) -> Result<Option<Vec<SeriesChunks>>> {
        if self.left > 0 {
            self.left -= 1;
            let labels = Labels::from_pairs([("n", format!("{}", self.left))]).unwrap();
            return Ok(Some(vec![SeriesChunks {
                labels,
                chunks: Default::default(),
            }]));
        }
        if self.hangs {
            std::future::pending::<()>().await;
        }
        self.then.clone().map_or(Ok(None), Err)
    }

    fn end(&mut self) -> SelectEnd {
        odd_end()
    }
}

#[async_trait]
impl Select for Odd {
    async fn select(&self, tenant: &TenantId, _: &SelectRequest) -> Result<Box<dyn SeriesBatches>> {
        self.0.fetch_add(1, Ordering::SeqCst);
        let error = |e: Error| Some(e);
        Ok(Box::new(OddBatches {
            left: 3,
            hangs: tenant.as_str() == "hangs",
            then: match tenant.as_str() {
                "limited" => error(Error::LimitExceeded("too many series".into())),
                "fails" => error(Error::Unavailable("the disk is away".into())),
                _ => None,
            },
            alive: Arc::clone(&self.0),
        }))
    }

    async fn series(&self, _: &TenantId, _: &SelectRequest) -> Result<Listed<Vec<Labels>>> {
        let mut list = Listed::whole(Vec::new());
        list.warn(odd_end().warnings);
        Ok(list)
    }

    async fn label_names(&self, _: &TenantId, _: &SelectRequest) -> Result<Listed<TextSet>> {
        Err(Error::NotFound("it".into()))
    }

    async fn label_values(
        &self,
        _: &TenantId,
        name: &str,
        _: &SelectRequest,
    ) -> Result<Listed<TextSet>> {
        Ok(Listed::whole([name].iter().collect()))
    }
}

/// Reads an answer to its end: how many series there were.
async fn read(of: &dyn Select, tenant: &str) -> (usize, Result<SelectEnd>) {
    let request = SelectRequest::new(vec![], TimeRange::ALL).unwrap();
    let tenant = TenantId::new(tenant).unwrap();
    let mut answer = match of.select(&tenant, &request).await {
        Ok(answer) => answer,
        Err(e) => return (0, Err(e)),
    };
    let mut count = 0;
    loop {
        match answer.next_batch().await {
            Ok(Some(batch)) => count += batch.len(),
            Ok(None) => return (count, Ok(answer.end())),
            Err(e) => return (count, Err(e)),
        }
    }
}

#[tokio::test]
async fn answers_end_as_they_do_at_their_holder_and_nothing_works_for_nobody() {
    let odd = Arc::new(Odd::default());
    let alive = Arc::clone(&odd.0);
    let routes = store_gateway_routes(&RpcLoopback::server().unwrap(), Arc::clone(&odd) as _);
    let running = RpcLoopback::start(routes).await.unwrap();
    let client = running.client(RpcClientSettings::default()).unwrap();
    let remote = RemoteStoreGateway::new(Arc::clone(&client), RemoteSettings::default());
    let request = SelectRequest::new(vec![], TimeRange::ALL).unwrap();
    assert_eq!(
        read(&remote, "whole").await.1.unwrap(),
        odd_end(),
        "warnings and blocks"
    );
    for (tenant, kind) in [
        ("limited", ErrorKind::LimitExceeded),
        ("fails", ErrorKind::Unavailable),
    ] {
        let (count, ended) = read(&remote, tenant).await;
        assert_eq!((count, ended.unwrap_err().kind()), (3, kind));
    }
    let t = &tenant();
    let list = remote.series(t, &request).await.unwrap();
    assert_eq!(list.warnings, odd_end().warnings);
    let error = remote.label_names(t, &request).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let values = remote.label_values(t, "of ä", &request).await.unwrap();
    assert_eq!(values.items.get(0), Some("of ä"));

    // Who drops an answer, or has no more time for it, ends the work for it.
    assert_eq!(alive.load(Ordering::SeqCst), 0);
    let hangs = TenantId::new("hangs").unwrap();
    let mut answer = remote.select(&hangs, &request).await.unwrap();
    assert_eq!(answer.next_batch().await.unwrap().unwrap().len(), 1);
    assert_eq!(alive.load(Ordering::SeqCst), 1);
    drop(answer);
    let ended = async {
        while alive.load(Ordering::SeqCst) > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), ended)
        .await
        .expect("dropped at the holder");
    let hurried = RemoteStoreGateway::new(
        client,
        RemoteSettings {
            query_timeout: Duration::from_millis(200),
            ..RemoteSettings::default()
        },
    );
    let (count, ended) = read(&hurried, "hangs").await;
    assert_eq!((count, ended.unwrap_err().kind()), (3, ErrorKind::Timeout));

    // A server that goes away in the middle.
    let mut answer = remote.select(&hangs, &request).await.unwrap();
    assert!(answer.next_batch().await.unwrap().is_some());
    drop(running);
    let broken = async {
        loop {
            match answer.next_batch().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("a short answer"),
                Err(e) => return e,
            }
        }
    };
    let error = tokio::time::timeout(Duration::from_secs(10), broken).await;
    assert_eq!(error.unwrap().kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn bytes_that_are_no_question_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let ingester = ingester(dir.path());
    let routes = ingester_routes(&RpcLoopback::server().unwrap(), ingester as _, &executor());
    let running = RpcLoopback::start(routes).await.unwrap();
    let client = running.client(RpcClientSettings::default()).unwrap();
    let tenant = tenant();
    for method in [
        methods::PUSH,
        methods::METADATA,
        methods::EXEMPLARS,
        methods::LABEL_NAMES_CARDINALITY,
        methods::LABEL_VALUES_CARDINALITY,
        methods::ACTIVE_SERIES,
        methods::ACTIVE_HISTOGRAMS,
        methods::HEAD_STATS,
        methods::INGESTER.select,
        methods::INGESTER.series,
        methods::INGESTER.label_names,
        methods::INGESTER.label_values,
    ] {
        let caller = |tenant| lgtm_core::rpc::RpcCaller {
            method,
            tenant,
            within: Duration::from_secs(10),
        };
        let message = || {
            let junk = |out: &mut Vec<u8>| out.extend_from_slice(&[0x0a, 0xff, 0xff, 0x7f]);
            lgtm_core::rpc::RpcMessage::of(junk)
        };
        let refused = client.unary(caller(Some(&tenant)), message()).await;
        let error = refused.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{method}: {error}");
        let nobody = client.unary(caller(None), message()).await.unwrap_err();
        assert!(nobody.to_string().contains("no org id"), "{nobody}");
    }
    running.end().await.unwrap();
}
