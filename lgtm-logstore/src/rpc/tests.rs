//! The same calls of an ingester and of a bucket, directly and over loopback: the answers are the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use lgtm_core::clock::ManualClock;
use lgtm_core::codec::Allowance;
use lgtm_core::disk::LocalDisk;
use lgtm_core::exec::Executor;
use lgtm_core::limits::Overrides;
use lgtm_core::model::{Labels, Listed, Matcher, TenantId, TextSet, TimeRangeNs, TimestampNs};
use lgtm_core::rpc::{RpcClientSettings, RpcCompression};
use lgtm_core::storage::{Backend, DataKind, Layout};
use lgtm_core::testing::RpcLoopback;
use lgtm_core::{Error, ErrorKind, Result};
use tokio::runtime::Handle;

use super::*;
use crate::bucket::BucketChunks;
use crate::components::clients::{
    IngesterClient, Inspect, PatternCounts, Patterns, PatternsRequest, Tail, TailFeed, TailFrame,
    TailRequest,
};
use crate::components::{Ingester, IngesterSettings, PatternSettings};
use crate::head::FlushScope;
use crate::limits::{Accepted, Limits, PushPart, PushReport};
use crate::logql::QueryError;
use crate::select::{
    CountWish, EntryBatch, EntryBatches, FetchBounds, Select, SelectEnd, SelectOrder,
    SelectRequest, StreamVolume,
};
use crate::wire::{LogEntry, PushBatch, decode_entries};

const NOW_MS: i64 = 1_714_557_600_000;
const NOW_NS: i64 = NOW_MS * 1_000_000;
const SECOND: i64 = 1_000_000_000;

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

struct House {
    ingester: Arc<Ingester>,
    chunks: Arc<BucketChunks>,
    _dir: tempfile::TempDir,
}

fn house() -> House {
    let clock = Arc::new(ManualClock::at_ms(NOW_MS));
    let layout = Layout::builder().store(Backend::memory()).build().unwrap();
    let chunks = BucketChunks::builder(layout.bucket(DataKind::Logs), executor())
        .side_files(layout.bucket(DataKind::LogSkip))
        .clock(Arc::clone(&clock) as _)
        .build()
        .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(LocalDisk::new(dir.path()));
    let limits = Overrides::fixed(Limits::default());
    let ingester = Ingester::builder(layout.bucket(DataKind::Logs), disk, limits, executor())
        .settings(IngesterSettings {
            patterns: PatternSettings {
                sample_every: 1,
                ..PatternSettings::default()
            },
            ..IngesterSettings::default()
        })
        .clock(clock)
        .chunks(Arc::clone(&chunks))
        .build()
        .unwrap();
    ingester.open().unwrap();
    ingester.replay().unwrap();
    House {
        ingester,
        chunks,
        _dir: dir,
    }
}

/// Pushes that have something of everything: many streams, long lines, metadata, entries that are refused.
fn pushes() -> Vec<PushPart> {
    let labels = |n: usize| {
        let app = format!("app-{}", n % 5);
        Labels::from_pairs([("app", app), ("n", format!("{n:04}"))]).unwrap()
    };
    let entry = |n: usize, k: i64| {
        let text = format!("level=info request {k} of {n} took {k}ms");
        let mut entry = LogEntry::new(NOW_NS - 100 * SECOND + k * SECOND, text);
        if n.is_multiple_of(3) {
            entry = entry
                .with("trace_id", format!("{n}-{k}"))
                .with("user.name", "ä");
        }
        entry
    };
    let many = (0..300).map(|n| (labels(n), (0..20).map(|k| entry(n, k)).collect()));
    let long = vec![b'x'; 200_000];
    let long = (0..8).map(|k| LogEntry::new(NOW_NS + k / 2, long.clone()));
    let refused = vec![
        LogEntry::new(NOW_NS - 9 * 3600 * SECOND, "far too late"),
        LogEntry::new(NOW_NS + 1, "in time"),
    ];
    let pushes: [Vec<(Labels, Vec<LogEntry>)>; 3] = [
        many.collect(),
        vec![(labels(1000), long.collect())],
        vec![(labels(0), refused), (labels(1), vec![entry(1, 3)])],
    ];
    let part = |streams: &Vec<(Labels, Vec<LogEntry>)>| {
        let limits = Limits::default();
        let (mut batch, mut grow) = (PushBatch::default(), |_| Ok(()));
        let mut allowance = Allowance::new(0, &mut grow);
        decode_entries(&mut batch, &limits.push_options(), &mut allowance, streams).unwrap();
        let accepted = Arc::new(Accepted::all(&batch));
        PushPart::new(Arc::new(batch.into()), accepted)
    };
    pushes.iter().map(part).collect()
}

/// All that an answer brings, in words.
async fn told(mut answer: Box<dyn EntryBatches>) -> Result<String> {
    let mut out = format!("{:?}\n", answer.times());
    let mut counts = Vec::new();
    while let Some(some) = answer.next_counts().await? {
        counts.extend(some);
    }
    out.push_str(&format!("{counts:?}\n"));
    let mut entries = Vec::new();
    while let Some(batch) = answer.next_batch().await? {
        for b in batch.blocks {
            for e in b.block.iter() {
                let metadata: Vec<_> = e.metadata().collect();
                entries.push(format!("{} {} {:?} {metadata:?}", b.labels, e.t_ns, e.line));
            }
        }
    }
    // Messages end elsewhere than batches.
    entries.sort();
    let mut end = answer.end();
    end.stats.chunks_download_ns = 0;
    Ok(format!("{out}{}\n{end:?}", entries.join("\n")))
}

fn requests() -> Vec<SelectRequest> {
    let all = SelectRequest::new(vec![], TimeRangeNs::ALL);
    let matcher = Matcher::regex("app", "app-[12]").unwrap();
    let some = TimeRangeNs::new(NOW_NS - 95 * SECOND, NOW_NS + 3);
    let some = SelectRequest::new(vec![matcher], some);
    let mut repeated = all.clone();
    repeated.may_repeat = true;
    vec![
        all.clone(),
        all.clone().order(SelectOrder::NewestFirst),
        some.clone().order(SelectOrder::OldestFirst),
        some.limit(7),
        repeated,
    ]
}

/// All other answers about a request, in words.
async fn lists<H: Select + Inspect + ?Sized>(of: &H, request: &SelectRequest) -> String {
    let t = &tenant();
    format!(
        "{:?}\n{:?}\n{:?}\n{:?}",
        of.series(t, request).await.unwrap(),
        of.label_names(t, request).await.unwrap(),
        of.label_values(t, "n", request).await.unwrap(),
        of.volumes(t, request).await.unwrap()
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ingester_and_a_bucket_answer_over_the_network_as_they_do_here() {
    for compression in [RpcCompression::None, RpcCompression::Zstd] {
        let (here, there) = (house(), house());
        let rpc = RpcLoopback::server().unwrap();
        let ingester = Arc::clone(&there.ingester) as Arc<dyn IngesterClient>;
        let chunks = Arc::clone(&there.chunks) as _;
        let routes = ingester_routes(&rpc, ingester, &executor());
        let running = RpcLoopback::start(routes.merge(index_gateway_routes(&rpc, chunks)))
            .await
            .unwrap();
        let remote = remote_ingester(&running, compression);
        for part in pushes() {
            let told = remote.push(&tenant(), part.clone()).await.unwrap();
            let wanted = here.ingester.push(&tenant(), part).await.unwrap();
            assert_eq!(told, wanted);
        }
        for request in requests() {
            let wanted = told(here.ingester.select(&tenant(), &request).await.unwrap()).await;
            let found = told(remote.select(&tenant(), &request).await.unwrap()).await;
            assert_eq!(found.unwrap(), wanted.unwrap());
            let wanted = lists(&*here.ingester, &request).await;
            assert_eq!(lists(&remote, &request).await, wanted);
        }
        for by_stream in [false, true] {
            let request = PatternsRequest {
                matchers: vec![Matcher::regex("app", ".+").unwrap()],
                range: TimeRangeNs::ALL,
                step_ns: 10 * SECOND,
                by_stream,
            };
            let sorted = |mut found: Listed<Vec<PatternCounts>>| {
                found.items.sort_by_key(|p| format!("{p:?}"));
                found
            };
            let wanted = here.ingester.patterns(&tenant(), &request).await.unwrap();
            let found = remote.patterns(&tenant(), &request).await.unwrap();
            assert!(!wanted.items.is_empty());
            assert_eq!(sorted(found), sorted(wanted));
        }
        for house in [&here, &there] {
            house.ingester.flush(FlushScope::All).await.unwrap();
        }
        let client = running.client(RpcClientSettings::default()).unwrap();
        let gateway = RemoteIndexGateway::new(client, RemoteSettings::default());
        let mut are_counted = false;
        for request in requests() {
            let wanted = told(here.chunks.select(&tenant(), &request).await.unwrap()).await;
            let found = told(gateway.select(&tenant(), &request).await.unwrap()).await;
            assert_eq!(found.unwrap(), wanted.unwrap());
            assert_eq!(
                lists(&gateway, &request).await,
                lists(&*here.chunks, &request).await
            );
            let wish = CountWish {
                edges: vec![TimestampNs::new(NOW_NS - 3600 * SECOND)],
                labels: Some(vec!["app".into()]),
                except: Vec::new(),
            };
            let wanted = here.chunks.select_counted(&tenant(), &request, &wish).await;
            let wanted = told(wanted.unwrap()).await.unwrap();
            let found = gateway.select_counted(&tenant(), &request, &wish).await;
            assert_eq!(told(found.unwrap()).await.unwrap(), wanted);
            are_counted |= wanted.contains("CountCell");
        }
        assert!(are_counted);
        running.end().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_follows_gets_what_comes_in_and_is_forgotten_when_it_goes() {
    let house = house();
    let ingester = Arc::clone(&house.ingester) as Arc<dyn IngesterClient>;
    let running = RpcLoopback::start(ingester_routes(
        &RpcLoopback::server().unwrap(),
        ingester,
        &executor(),
    ))
    .await
    .unwrap();
    let remote = remote_ingester(&running, RpcCompression::None);
    let request = TailRequest {
        query: r#"{app="app-1"} |= "3 of""#.into(),
        start_ns: TimestampNs::new(0),
        limit: 10,
        delay_ns: 0,
    };
    let mut feed = remote.tail(&tenant(), &request).await.unwrap();
    // A call that is given up loses nothing.
    let early = tokio::time::timeout(Duration::from_millis(20), feed.next_frame()).await;
    assert!(early.is_err());
    let _ = house
        .ingester
        .push(&tenant(), pushes().remove(0))
        .await
        .unwrap();
    let mut lines = 0;
    while lines < 120 {
        let frame = tokio::time::timeout(Duration::from_secs(20), feed.next_frame()).await;
        let Ok(frame) = frame else {
            panic!(
                "{lines} lines, {} left out",
                house.ingester.followers().dropped()
            )
        };
        let frame = frame.unwrap().unwrap();
        lines += frame.streams.iter().map(|s| s.entries.len()).sum::<usize>();
    }
    // Lines 3 and 13 of each of 60 streams.
    assert_eq!(lines, 120);
    assert_eq!(house.ingester.followers().count(), 1);
    drop(feed);
    for _ in 0..2000 {
        if house.ingester.followers().count() == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(
        house.ingester.followers().count(),
        0,
        "dropped here, it ends there"
    );
    for bad in ["{", "rate({a=\"b\"}[1m])"] {
        let request = TailRequest {
            query: bad.into(),
            ..request.clone()
        };
        let wanted = house.ingester.tail(&tenant(), &request).await.unwrap_err();
        let found = remote.tail(&tenant(), &request).await.unwrap_err();
        assert_eq!(
            (found.kind(), found.to_string()),
            (wanted.kind(), wanted.to_string())
        );
    }
    running.end().await.unwrap();
}

/// An ingester whose answers end as they should not.
#[derive(Debug)]
struct Broken {
    calls: AtomicUsize,
}

/// Entries, and then an error.
#[derive(Debug)]
struct BrokenBatches(usize);

#[async_trait]
impl EntryBatches for BrokenBatches {
    async fn next_batch(&mut self) -> Result<Option<EntryBatch>> {
        self.0 += 1;
        if self.0 > 2 {
            return Err(Error::Unavailable("the disk went away".into()));
        }
        let block = {
            let mut b = crate::entry::EntryBlockBuilder::copying(0);
            b.push_copy(self.0 as i64, b"x").unwrap();
            b.finish(Arc::default())
        };
        Ok(Some(EntryBatch {
            blocks: vec![crate::select::StreamBlock {
                labels: Labels::empty(),
                block,
            }],
            horizon_ns: TimestampNs::EPOCH,
        }))
    }

    fn end(&mut self) -> SelectEnd {
        SelectEnd::default()
    }
}

#[derive(Debug)]
struct NoFeed(bool);

#[async_trait]
impl TailFeed for NoFeed {
    async fn next_frame(&mut self) -> Result<Option<TailFrame>> {
        match std::mem::replace(&mut self.0, true) {
            false => Ok(Some(TailFrame::default())),
            true => Ok(None),
        }
    }
}

#[async_trait]
impl Select for Broken {
    async fn select(&self, _: &TenantId, request: &SelectRequest) -> Result<Box<dyn EntryBatches>> {
        request.bounds.check(&crate::select::FetchStats {
            streams: 5,
            ..Default::default()
        })?;
        Ok(Box::new(BrokenBatches(0)))
    }

    async fn series(&self, _: &TenantId, _: &SelectRequest) -> Result<Listed<Vec<Labels>>> {
        let mut list = Listed::whole(vec![Labels::empty()]);
        list.warn(vec!["a chunk is damaged".into()]);
        list.is_cut = true;
        Ok(list)
    }

    async fn label_names(&self, _: &TenantId, _: &SelectRequest) -> Result<Listed<TextSet>> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        std::future::pending().await
    }

    async fn label_values(
        &self,
        _: &TenantId,
        _: &str,
        _: &SelectRequest,
    ) -> Result<Listed<TextSet>> {
        Ok(Listed::default())
    }
}

#[async_trait]
impl Inspect for Broken {
    async fn volumes(&self, _: &TenantId, _: &SelectRequest) -> Result<Listed<Vec<StreamVolume>>> {
        Ok(Listed::default())
    }
}

#[async_trait]
impl Patterns for Broken {
    async fn patterns(
        &self,
        _: &TenantId,
        _: &PatternsRequest,
    ) -> Result<Listed<Vec<PatternCounts>>> {
        Ok(Listed::default())
    }
}

#[async_trait]
impl Tail for Broken {
    async fn tail(&self, _: &TenantId, _: &TailRequest) -> Result<Box<dyn TailFeed>, QueryError> {
        Ok(Box::new(NoFeed(false)))
    }
}

#[async_trait]
impl IngesterClient for Broken {
    async fn push(&self, _: &TenantId, _: PushPart) -> Result<PushReport> {
        Err(Error::RateLimited {
            message: "slow".into(),
            retry_after: Some(Duration::from_secs(3)),
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_arrive_as_they_are_and_an_answer_is_never_shorter() {
    let broken = Arc::new(Broken {
        calls: AtomicUsize::new(0),
    });
    let routes = ingester_routes(
        &RpcLoopback::server().unwrap(),
        Arc::clone(&broken) as _,
        &executor(),
    );
    let running = RpcLoopback::start(routes).await.unwrap();
    let client = running.client(RpcClientSettings::default()).unwrap();
    let remote = RemoteIngester::new(
        client,
        RemoteSettings {
            query_timeout: Duration::from_millis(300),
            ..RemoteSettings::default()
        },
    );
    let all = SelectRequest::new(vec![], TimeRangeNs::ALL);
    let mut answer = remote.select(&tenant(), &all).await.unwrap();
    assert!(answer.next_batch().await.unwrap().is_some());
    assert!(answer.next_batch().await.unwrap().is_some());
    let error = answer.next_batch().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("the disk went away"), "{error}");
    let bounded = all.clone().bounds(FetchBounds {
        max_streams: 4,
        ..FetchBounds::default()
    });
    let error = remote.select(&tenant(), &bounded).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded);
    let list = remote.series(&tenant(), &all).await.unwrap();
    assert_eq!((list.is_cut, list.warnings.len()), (true, 1));
    let error = remote.label_names(&tenant(), &all).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert_eq!(broken.calls.load(Ordering::SeqCst), 1);
    let error = remote
        .push(&tenant(), pushes().remove(0))
        .await
        .unwrap_err();
    assert_eq!(Error::retry_after(&error), Some(Duration::from_secs(3)));
    let request = TailRequest {
        query: "{}".into(),
        start_ns: TimestampNs::EPOCH,
        limit: 0,
        delay_ns: 0,
    };
    let mut feed = remote.tail(&tenant(), &request).await.unwrap();
    assert_eq!(feed.next_frame().await.unwrap(), Some(TailFrame::default()));
    assert_eq!(feed.next_frame().await.unwrap(), None);
    assert_eq!(feed.next_frame().await.unwrap(), None);
    running.end().await.unwrap();
}
