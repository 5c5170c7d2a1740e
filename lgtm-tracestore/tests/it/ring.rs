//! Every query of the conformance sets, asked of three replicas of which each lacks a third of the pushes: the answers are those of all traces in memory.

use std::sync::Arc;
use std::time::Duration;

use lgtm_core::clock::ManualClock;
use lgtm_core::codec::Allowance;
use lgtm_core::limits::Overrides;
use lgtm_core::storage::{DataKind, Layout};
use lgtm_core::testing::CrashDisk;
use lgtm_core::units::ByteSize;
use lgtm_ring::instance::{Instance, RingDesc};
use lgtm_ring::ring::{Ring, RingSettings};
use lgtm_ring::token::Token;
use lgtm_tracestore::components::clients::IngesterClient;
use lgtm_tracestore::components::ring::{LocalIngesters, RingIngesters};
use lgtm_tracestore::components::{Ingester, IngesterSettings};
use lgtm_tracestore::head::HeadSettings;
use lgtm_tracestore::limits::{Limits, PushPart};
use lgtm_tracestore::traceql::parse;
use lgtm_tracestore::wire::{PushBatch, PushOptions, decode_otlp};
use object_store::memory::InMemory;

use crate::holders::{
    Case, NOW_S, cases, executor, is_traceql, metrics, requests, rounded, search, tenant,
};
use crate::otlp_json::Stored;
use crate::shared;

/// Replicas, of which the `n`th lacks every third request from the `n`th on.
async fn replicas(requests: &[Vec<u8>]) -> Arc<RingIngesters> {
    let clock = Arc::new(ManualClock::at_ms(NOW_S * 1000));
    let mut limits = Limits::default();
    limits.ingestion.max_attribute_bytes = ByteSize::bytes(0);
    let limits = Overrides::fixed(limits);
    let (mut instances, mut pool) = (RingDesc::new(), LocalIngesters::new());
    for n in 0..3usize {
        let bucket = Layout::single_bucket(InMemory::new()).bucket(DataKind::Traces);
        let disk = Arc::new(CrashDisk::new(n as u64));
        let ingester = Ingester::builder(bucket, disk, limits.clone(), executor())
            .settings(IngesterSettings {
                head: HeadSettings {
                    batch_bytes: ByteSize::kib(64),
                    ..HeadSettings::default()
                },
                max_block_bytes: ByteSize::gib(1),
                ..IngesterSettings::default()
            })
            .clock(Arc::clone(&clock) as _)
            .build()
            .unwrap();
        ingester.open().unwrap();
        ingester.replay().unwrap();
        for (at, body) in requests.iter().enumerate().filter(|(at, _)| at % 3 != n) {
            let mut batch = PushBatch::default();
            let mut grow = |_| Ok(());
            let fill = |out: &mut Vec<u8>, _: &mut Allowance<'_>| {
                out.extend_from_slice(body);
                Ok(())
            };
            let options = PushOptions {
                max_attribute_bytes: 0,
            };
            decode_otlp(&mut batch, options, &mut Allowance::new(0, &mut grow), fill).unwrap();
            let part = PushPart::whole(Arc::new(batch.into()));
            let report = ingester.push(&tenant(), part).await.unwrap();
            assert_eq!(report.refused_spans(), 0);
            if at % 50 == 49 {
                clock.advance(Duration::from_secs(6));
                ingester.maintain().await.unwrap();
            }
        }
        let addr = format!("node-{n}:9095");
        instances.insert(Instance {
            id: format!("node-{n}"),
            addr: addr.clone(),
            timestamp_s: NOW_S,
            registered_timestamp_s: 1,
            tokens: Arc::from([Token(n as u32)]),
            ..Instance::default()
        });
        pool = pool.with(&addr, ingester as _);
    }
    let ring = Ring::new(RingSettings::default(), &instances);
    RingIngesters::builder(ring.into(), Arc::new(pool), limits, executor())
        .clock(Arc::new(ManualClock::at_ms(NOW_S * 1000)))
        .build()
        .unwrap()
}

#[tokio::test]
async fn queries_are_answered_alike_by_replicas_of_which_each_lacks_something() {
    compare(5).await;
}

#[tokio::test]
#[ignore = "takes minutes"]
async fn every_query_is_answered_alike_by_replicas_of_which_each_lacks_something_long() {
    compare(1).await;
}

async fn compare(one_of: usize) {
    let Some(folder) = shared::folder("conformance") else {
        return;
    };
    let sets = shared::folders(&folder);
    for set in sets.iter().filter(is_traceql) {
        let requests = requests(set);
        let stored = Stored::of(requests.clone());
        let replicas = replicas(&requests).await;
        let mut asked = 0;
        for (text, case) in cases(set, one_of) {
            let query = parse(&text).unwrap();
            match case {
                Case::Search(settings) => {
                    let expected = search(None, &stored, &query, settings).await;
                    let found = search(Some(&*replicas), &stored, &query, settings).await;
                    assert_eq!(found, expected, "{text}");
                }
                Case::Series(settings) => {
                    let Some(expected) = metrics(None, &stored, &query, &settings).await else {
                        continue;
                    };
                    let found = metrics(Some(&*replicas), &stored, &query, &settings).await;
                    assert_eq!(rounded(&found.unwrap()), rounded(&expected), "{text}");
                }
            }
            asked += 1;
        }
        println!("{}: {asked} queries", set.display());
        assert!(asked > 5);
    }
}
