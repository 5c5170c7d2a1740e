//! Three ingesters that hold each series three times, of which any one may be away: the whole of replication in one process.
//!
//! Distributor and querier know one `IngesterClient`. Here it is `RingIngesters`, which asks the ring who holds what; what it calls could as well be in
//! other processes (`lgtm_tsdb::rpc::RemoteIngester`), and nothing else would change.

use std::path::Path;
use std::sync::Arc;

use lgtm_core::clock::{Clock, SystemClock};
use lgtm_core::disk::LocalDisk;
use lgtm_core::exec::{Executor, ExecutorSettings};
use lgtm_core::limits::Overrides;
use lgtm_core::model::{Sample, TenantId};
use lgtm_core::storage::{Backend, DataKind, Layout};
use lgtm_core::{ErrorKind, Result};
use lgtm_ring::instance::{Instance, RingDesc};
use lgtm_ring::ring::{Ring, RingSettings};
use lgtm_ring::token::{RandomTokens, TokenGenerator};
use lgtm_tsdb::components::clients::{IngesterClient, Queries};
use lgtm_tsdb::components::ring::{LocalIngesters, RingIngesters};
use lgtm_tsdb::components::{Distributor, Ingester, Querier};
use lgtm_tsdb::limits::Limits;
use lgtm_tsdb::promql::{ParserOptions, Query, QueryValue};
use lgtm_tsdb::wire::WriteBatch;

fn ingester(folder: &Path, limits: &Overrides<Limits>) -> Result<Arc<Ingester>> {
    let bucket = Layout::single_bucket(Backend::memory()).bucket(DataKind::MetricBlocks);
    let ingester = Ingester::builder(bucket, Arc::new(LocalDisk::new(folder)), limits.clone());
    let ingester = ingester.build()?;
    ingester.open()?;
    ingester.replay()?;
    Ok(ingester)
}

#[tokio::main]
async fn main() -> Result<()> {
    let limits = Overrides::fixed(Limits::default());
    let executor = Executor::new(
        &ExecutorSettings::default(),
        tokio::runtime::Handle::current(),
    )?;
    let now_ms = SystemClock::new().now_ms();

    // The ring is a value: who there is, how he is, which points of the circle are his. Members of a cluster keep it in gossip, etcd or Consul
    // (`ring_app`, `three_nodes_gossip`); here it is written down.
    let mut ring = RingDesc::new();
    let mut here = LocalIngesters::new();
    let (mut ingesters, mut folders) = (Vec::new(), Vec::new());
    for n in 0..3 {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let ingester = ingester(folder.path(), &limits)?;
        let address = format!("ingester-{n}:9095");
        ring.insert(Instance {
            id: format!("ingester-{n}"),
            addr: address.clone(),
            timestamp_s: now_ms.to_seconds(),
            tokens: RandomTokens::seeded(n)
                .generate(128, &ring.taken_tokens())?
                .into(),
            ..Instance::default()
        });
        here = here.with(&address, Arc::clone(&ingester) as _);
        ingesters.push(ingester);
        folders.push(folder);
    }
    let ring = Ring::new(RingSettings::default(), &ring);
    let all = RingIngesters::builder(
        ring.into(),
        Arc::new(here),
        limits.clone(),
        executor.clone(),
    );
    let all: Arc<dyn IngesterClient> = all.build()?;
    let distributor = Distributor::builder(Arc::clone(&all), limits.clone()).build();
    let querier = Querier::builder(vec![all], Vec::new(), limits, executor).build()?;

    // Two of three must take a write.
    let tenant = TenantId::anonymous();
    let push = |seconds: i64| {
        let mut batch = WriteBatch::default();
        for pod in ["a", "b", "c"] {
            let labels = [("__name__", "requests_total"), ("pod", pod)];
            let sample = Sample {
                t_ms: now_ms + seconds * 1000,
                value: seconds as f64,
            };
            batch.push_series(labels.into_iter(), &[sample]);
        }
        distributor.push(&tenant, batch)
    };
    assert_eq!(push(0).await?.report.samples, 3, "each sample counts once");
    ingesters[1].close().await?;
    assert_eq!(push(1).await?.report.samples, 3, "with one of three away");

    // Two of three must answer a read, so that one of them has what any two took. What both have is in the answer once.
    let query = "sum(count_over_time(requests_total[1m]))";
    let query =
        Query::instant(query, now_ms + 1000, &ParserOptions::default()).expect("it is PromQL");
    let answer = querier.query(&tenant, &query).await.expect("an answer");
    let QueryValue::Vector(series) = answer.value else {
        panic!("an instant query of a vector");
    };
    assert_eq!(series[0].floats[0].value, 6.0, "three series, two samples");
    assert!(answer.warnings.is_empty());

    // With two away there is no short answer and no write that may be lost: there is an error.
    ingesters[2].close().await?;
    let refused = push(2).await.expect_err("one of three is too few");
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    querier
        .query(&tenant, &query)
        .await
        .expect_err("one of three may lack what the others took");
    Ok(())
}
