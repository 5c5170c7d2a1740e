//! The same calls of an ingester, directly and over loopback: the answers are the same, and as of one moment.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lgtm_core::clock::ManualClock;
use lgtm_core::codec::Allowance;
use lgtm_core::disk::LocalDisk;
use lgtm_core::exec::Executor;
use lgtm_core::limits::Overrides;
use lgtm_core::model::TenantId;
use lgtm_core::rpc::{RpcClientSettings, RpcCompression};
use lgtm_core::storage::{Backend, DataKind, Layout};
use lgtm_core::testing::RpcLoopback;
use lgtm_core::{Error, ErrorKind, Result};
use tokio::runtime::Handle;

use super::held_answers::HeldAnswers;
use super::*;
use crate::components::clients::{FindTrace, IngesterClient};
use crate::components::{FoundTrace, Ingester, IngesterSettings, TraceRequest};
use crate::head::{FlushScope, HeadSettings};
use crate::limits::{Limits, PushPart, PushReport};
use crate::select::{
    Condition, Field, Intrinsic, Literal, RecentRequest, RecentTrace, RecentTraces, Select,
    SelectEnd, SpanBatches, SpanFilter, SpanRequest, Test, WantedColumns,
};
use crate::trace::{ResourceSpans, ScopeSpans, Span, Trace, TraceId};
use crate::wire::{PushBatch, PushOptions, decode_otlp};

const NOW_MS: i64 = 1_714_557_600_000;

fn tenant() -> TenantId {
    TenantId::new("team-a").unwrap()
}

fn executor() -> Executor {
    Executor::inline(Handle::current())
}

fn trace_id(n: u32) -> TraceId {
    TraceId::new((u128::from(n) << 90 | u128::from(n + 1)).to_be_bytes())
}

/// Spans of some traces, one a trace, with a name of so many bytes.
fn part(traces: std::ops::Range<u32>, round: u8, name_bytes: usize) -> PushPart {
    let name = vec![b'a' + round; name_bytes];
    let ids: Vec<_> = traces.map(|n| *trace_id(n).as_bytes()).collect();
    let span_id = [round + 1; 8];
    let spans = ids.iter().map(|id| Span {
        trace_id: id,
        span_id: &span_id,
        name: &name,
        start_ns: NOW_MS as u64 * 1_000_000 + u64::from(round),
        end_ns: NOW_MS as u64 * 1_000_000 + 1000,
        ..Span::default()
    });
    let trace = Trace {
        resources: vec![ResourceSpans {
            scopes: vec![ScopeSpans {
                spans: spans.collect(),
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    };
    let mut body = Vec::new();
    trace.encode(&mut body);
    let (mut batch, mut grow) = (PushBatch::default(), |_| Ok(()));
    let fill = |out: &mut Vec<u8>, _: &mut Allowance<'_>| {
        out.extend_from_slice(&body);
        Ok(())
    };
    let options = PushOptions::default();
    decode_otlp(&mut batch, options, &mut Allowance::new(0, &mut grow), fill).unwrap();
    PushPart::whole(Arc::new(batch.into()))
}

struct House {
    ingester: Arc<Ingester>,
    clock: Arc<ManualClock>,
    _dir: tempfile::TempDir,
}

fn house() -> House {
    let clock = Arc::new(ManualClock::at_ms(NOW_MS));
    let layout = Layout::builder().store(Backend::memory()).build().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(LocalDisk::new(dir.path()));
    let mut limits = Limits::default();
    limits.global.max_bytes_per_trace = lgtm_core::units::ByteSize::bytes(8_000_000);
    let limits = Overrides::fixed(limits);
    let ingester = Ingester::builder(layout.bucket(DataKind::Traces), disk, limits, executor())
        .settings(IngesterSettings {
            head: HeadSettings {
                batch_bytes: lgtm_core::units::ByteSize::kib(8),
                ..HeadSettings::default()
            },
            ..IngesterSettings::default()
        })
        .clock(Arc::clone(&clock) as _)
        .build()
        .unwrap();
    ingester.open().unwrap();
    ingester.replay().unwrap();
    House {
        ingester,
        clock,
        _dir: dir,
    }
}

fn remote(running: &RpcLoopback, compression: RpcCompression) -> RemoteIngester {
    let client = running.client(RpcClientSettings {
        compression,
        ..RpcClientSettings::default()
    });
    RemoteIngester::new(client.unwrap(), RemoteSettings::default())
}

/// All that comes, and how it ended.
async fn all(answer: &mut dyn RecentTraces) -> Result<Vec<RecentTrace>> {
    let mut out = Vec::new();
    loop {
        let some = answer.next_traces().await?;
        if some.is_empty() {
            return Ok(out);
        }
        out.extend(some);
    }
}

fn named(name: &str) -> SpanFilter {
    SpanFilter::Test(Condition {
        field: Field::Intrinsic(Intrinsic::Name),
        test: Test::Compare(
            crate::select::CompareOp::Equal,
            Literal::Text(name.to_owned()),
        ),
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ingester_answers_over_the_network_as_it_does_here() {
    for compression in [RpcCompression::None, RpcCompression::Zstd] {
        let (here, there) = (house(), house());
        let rpc = RpcLoopback::server().unwrap();
        let routes = ingester_routes(&rpc, Arc::clone(&there.ingester) as _, &executor());
        let running = RpcLoopback::start(routes).await.unwrap();
        let remote = remote(&running, compression);
        let pushes = [
            part(0..2000, 0, 3),
            part(500..900, 1, 40),
            // Longer than a message, and one that is refused.
            part(3000..3001, 2, 3_000_000),
            part(3000..3001, 3, 6_000_000),
            part(100..150, 4, 10),
        ];
        for (n, part) in pushes.into_iter().enumerate() {
            let told = remote.push(&tenant(), part.clone()).await.unwrap();
            let wanted = here.ingester.push(&tenant(), part).await.unwrap();
            assert_eq!(told, wanted);
            assert_eq!(wanted.refused_spans(), u64::from(n == 3), "{wanted:?}");
            for house in [&here, &there] {
                house.clock.advance(Duration::from_secs(6));
                house.ingester.maintain().await.unwrap();
            }
        }
        let requests = [
            RecentRequest::default(),
            RecentRequest {
                filter: named(&"b".repeat(40)),
                ..RecentRequest::default()
            },
            RecentRequest {
                behind: Some(trace_id(1990)),
                ..RecentRequest::default()
            },
            RecentRequest {
                filter: SpanFilter::Nothing,
                ..RecentRequest::default()
            },
        ];
        for (request, count) in requests.iter().zip([2001, 400, 10, 0]) {
            let mut wanted = here.ingester.recent(&tenant(), request).await.unwrap();
            let mut found = remote.recent(&tenant(), request).await.unwrap();
            let wanted = all(&mut *wanted).await.unwrap();
            let own = all(&mut *found).await.unwrap();
            assert!(own == wanted, "{request:?}");
            assert!(
                wanted.is_sorted_by(|a, b| a.id < b.id),
                "ascending, each once"
            );
            assert_eq!(wanted.len(), count, "{request:?}");
            assert_eq!(found.end().warnings, Vec::<String>::new());
        }
        for n in [0, 700, 3000, 9999] {
            let request = TraceRequest {
                id: trace_id(n),
                range: None,
                max_bytes: 1 << 20,
            };
            let wanted = here.ingester.find_trace(&tenant(), &request).await.unwrap();
            let found = remote.find_trace(&tenant(), &request).await.unwrap();
            assert!(found == wanted && found.is_cut == (n == 3000), "{n}");
        }
        let request = SpanRequest {
            columns: WantedColumns {
                fields: vec![Field::Intrinsic(Intrinsic::Name)],
                ..WantedColumns::default()
            },
            ..SpanRequest::default()
        };
        let mut spans = [0; 2];
        for (n, of) in [&remote as &dyn Select, &*here.ingester]
            .into_iter()
            .enumerate()
        {
            let mut answer = of.select(&tenant(), &request).await.unwrap();
            while let Some(batch) = answer.next_batch().await.unwrap() {
                spans[n] += batch.len();
            }
        }
        assert_eq!(spans, [2451, 2451]);
        running.end().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_looked_up_is_as_of_the_answer_until_its_caller_goes() {
    let house = house();
    let (rpc, held) = (RpcLoopback::server().unwrap(), HeldAnswers::new());
    let ingester = Arc::clone(&house.ingester) as Arc<dyn IngesterClient>;
    let routes = server::routes(&rpc, ingester, &executor(), &held);
    let running = RpcLoopback::start(routes).await.unwrap();
    let remote = remote(&running, RpcCompression::None);
    let _ = remote.push(&tenant(), part(0..300, 0, 20)).await.unwrap();
    let request = RecentRequest {
        filter: SpanFilter::Nothing,
        ..RecentRequest::default()
    };
    let mut answer = remote.recent(&tenant(), &request).await.unwrap();
    assert_eq!(all(&mut *answer).await.unwrap(), []);
    // All of it leaves the head, and something else comes.
    house.ingester.flush(FlushScope::All).await.unwrap();
    house.ingester.maintain().await.unwrap();
    let _ = remote.push(&tenant(), part(300..400, 1, 20)).await.unwrap();
    let ids: Vec<TraceId> = [5, 299, 350, 900].map(trace_id).into();
    assert_eq!(answer.have(&ids).await.unwrap(), [true, true, false, false]);
    let found = answer.whole_traces(&ids).await.unwrap();
    let are_there: Vec<bool> = found.iter().map(|bytes| !bytes.is_empty()).collect();
    assert_eq!(are_there, [true, true, false, false]);
    assert_eq!(held.count(), 1);
    // Another tenant's question after it is none.
    let mut later = remote
        .recent(&tenant(), &RecentRequest::default())
        .await
        .unwrap();
    assert_eq!(all(&mut *later).await.unwrap().len(), 100);
    drop((answer, later));
    for _ in 0..2000 {
        if held.count() == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(held.count(), 0, "dropped here, it is let go there");
    let other = TenantId::new("other").unwrap();
    let hold = held.hold(
        other.clone(),
        house.ingester.recent(&other, &request).await.unwrap(),
    );
    let error = held.get(&tenant(), hold.number()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(held.get(&other, hold.number()).is_ok());
    running.end().await.unwrap();
}

#[tokio::test]
async fn a_trace_of_the_range_comes_whole_though_parts_of_it_lie_in_batches_outside() {
    let house = house();
    for round in 0..2 {
        let part = part(0..50, round, 300);
        let _ = house.ingester.push(&tenant(), part).await.unwrap();
        house.clock.advance(Duration::from_secs(6));
        house.ingester.maintain().await.unwrap();
    }
    assert_eq!(house.ingester.traces_by_tenant()[0].batches, 2);
    for (end_ns, count) in [(0, 50), (1, 50), (-1, 0)] {
        let request = RecentRequest {
            range: Some(crate::select::TraceRange {
                start_ns: 0,
                end_ns: (NOW_MS * 1_000_000 + end_ns) as u64,
            }),
            ..RecentRequest::default()
        };
        let mut answer = house.ingester.recent(&tenant(), &request).await.unwrap();
        let found = all(&mut *answer).await.unwrap();
        assert_eq!(found.len(), count, "{end_ns}");
        for trace in found {
            let mut grow = |_| Ok(());
            let bytes = &trace.bytes;
            let trace = Trace::decode(bytes, &mut Allowance::new(0, &mut grow)).unwrap();
            assert_eq!(trace.spans().count(), 2, "{end_ns}");
        }
    }
}

/// An ingester whose answers end as they should not.
#[derive(Debug)]
struct Broken;

/// Traces, and then an error; of a request for nothing an end.
#[derive(Debug)]
struct BrokenTraces {
    count: u32,
    ends: bool,
}

#[async_trait]
impl RecentTraces for BrokenTraces {
    async fn next_traces(&mut self) -> Result<Vec<RecentTrace>> {
        self.count += 1;
        if self.ends {
            return Ok(Vec::new());
        }
        if self.count > 2 {
            return Err(Error::Unavailable("the disk went away".into()));
        }
        Ok(vec![RecentTrace {
            id: trace_id(self.count),
            bytes: Vec::new(),
        }])
    }

    async fn have(&mut self, _: &[TraceId]) -> Result<Vec<bool>> {
        Ok(vec![true])
    }

    async fn whole_traces(&mut self, ids: &[TraceId]) -> Result<Vec<Vec<u8>>> {
        Ok(ids.iter().take(1).map(|_| b"x".to_vec()).collect())
    }

    fn end(&mut self) -> SelectEnd {
        SelectEnd {
            warnings: vec!["a batch is damaged".into()],
            ..SelectEnd::default()
        }
    }
}

#[async_trait]
impl Select for Broken {
    async fn select(&self, _: &TenantId, _: &SpanRequest) -> Result<Box<dyn SpanBatches>> {
        Err(Error::Internal("it is asked by replicas only".into()))
    }
}

#[async_trait]
impl FindTrace for Broken {
    async fn find_trace(&self, _: &TenantId, _: &TraceRequest) -> Result<FoundTrace> {
        std::future::pending().await
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

    async fn recent(&self, _: &TenantId, asked: &RecentRequest) -> Result<Box<dyn RecentTraces>> {
        Ok(Box::new(BrokenTraces {
            count: 0,
            ends: asked.filter == SpanFilter::Nothing,
        }))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_arrive_as_they_are_and_an_answer_is_never_shorter() {
    let rpc = RpcLoopback::server().unwrap();
    let routes = ingester_routes(&rpc, Arc::new(Broken), &executor());
    let running = RpcLoopback::start(routes).await.unwrap();
    let client = running.client(RpcClientSettings::default()).unwrap();
    let settings = RemoteSettings {
        query_timeout: Duration::from_millis(500),
        ..RemoteSettings::default()
    };
    let remote = RemoteIngester::new(client, settings);
    let nothing = RecentRequest {
        filter: SpanFilter::Nothing,
        ..RecentRequest::default()
    };
    let mut answer = remote.recent(&tenant(), &nothing).await.unwrap();
    let ids = [trace_id(1), trace_id(2)];
    // Fewer than were asked for, with what could not be read beside it.
    assert_eq!(answer.whole_traces(&ids).await.unwrap(), [b"x".to_vec()]);
    assert_eq!(answer.end().warnings, ["a batch is damaged"]);
    let error = answer.have(&ids).await.unwrap_err();
    assert!(
        error.to_string().contains("2 traces were asked for"),
        "{error}"
    );
    let everything = RecentRequest::default();
    let mut answer = remote.recent(&tenant(), &everything).await.unwrap();
    let error = all(&mut *answer).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("the disk went away"), "{error}");
    // What ended with an error is held no more.
    let error = answer.whole_traces(&ids).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let error = remote.push(&tenant(), part(0..1, 0, 1)).await.unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(3)));
    let request = TraceRequest {
        id: trace_id(1),
        range: None,
        max_bytes: 1,
    };
    let error = remote.find_trace(&tenant(), &request).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    running.end().await.unwrap();
}
