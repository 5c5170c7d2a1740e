//! Buckets that a real Tempo wrote, as this store lists and reads them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::shared::{folder, folders};
use lgtm_core::clock::ManualClock;
use lgtm_core::exec::Executor;
use lgtm_core::model::TenantId;
use lgtm_core::storage::{Bucket, DataKind, Layout};
use lgtm_tracestore::block::{META, TENANT_INDEX_JSON, TENANT_INDEX_PROTOBUF};
use lgtm_tracestore::bucket::{BlockList, OpenBlock};
use lgtm_tracestore::trace::TraceId;
use object_store::memory::InMemory;

/// Puts the objects of a golden bucket into one in memory; without the lists of blocks unless `with_index`.
async fn bucket(golden: &Path, with_index: bool) -> (Bucket, Vec<TenantId>) {
    let bucket = Layout::single_bucket(InMemory::new()).bucket(DataKind::Traces);
    let mut tenants = Vec::new();
    for tenant in folders(golden) {
        let name = tenant.file_name().unwrap().to_str().unwrap().to_owned();
        for entry in std::fs::read_dir(&tenant).unwrap() {
            let path = entry.unwrap().path();
            let below = path.file_name().unwrap().to_str().unwrap().to_owned();
            if path.is_file() {
                let is_index = [TENANT_INDEX_PROTOBUF, TENANT_INDEX_JSON].contains(&&*below);
                if with_index || !is_index {
                    let bytes = std::fs::read(&path).unwrap();
                    bucket.put(&format!("{name}/{below}"), bytes).await.unwrap();
                }
                continue;
            }
            for object in std::fs::read_dir(&path).unwrap() {
                let object = object.unwrap().path();
                let file = object.file_name().unwrap().to_str().unwrap();
                let bytes = std::fs::read(&object).unwrap();
                bucket
                    .put(&format!("{name}/{below}/{file}"), bytes)
                    .await
                    .unwrap();
            }
        }
        tenants.push(TenantId::new(&name).unwrap());
    }
    (bucket, tenants)
}

#[tokio::test]
async fn every_trace_of_a_golden_bucket_is_found_by_its_id() {
    let Some(golden) = folder("golden/tempo") else {
        return;
    };
    let is_bucket = |f: &Path| {
        f.file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with("bucket-")
    };
    let buckets: Vec<_> = folders(&golden)
        .into_iter()
        .filter(|f| is_bucket(f))
        .collect();
    assert!(!buckets.is_empty());
    let executor = Executor::inline(tokio::runtime::Handle::current());
    for golden in &buckets {
        let mut lists = Vec::new();
        for with_index in [true, false] {
            let (bucket, tenants) = bucket(golden, with_index).await;
            let clock = Arc::new(ManualClock::at_ms(1_795_357_046_000));
            let list = BlockList::new(
                bucket.clone(),
                executor.clone(),
                clock,
                Duration::from_secs(60),
            );
            for tenant in &tenants {
                let blocks = list.blocks(tenant).await.unwrap();
                assert!(!blocks.live.is_empty() && blocks.warnings.is_empty());
                let compacted: Vec<_> = blocks.compacted.iter().map(|c| c.meta.block_id).collect();
                lists.push((blocks.live.clone(), compacted));
                for meta in &blocks.live {
                    let exists = bucket
                        .exists(&format!("{tenant}/{}/{META}", meta.block_id))
                        .await;
                    assert!(exists.unwrap());
                    let block = OpenBlock::new(
                        bucket.clone(),
                        executor.clone(),
                        tenant,
                        (**meta).clone(),
                        1 << 28,
                    )
                    .unwrap();
                    let mut count = 0;
                    for group in 0..block.file().await.unwrap().row_groups.len() {
                        let mut traces = block.row_group(group, 1 << 28).await.unwrap();
                        let mut bytes = Vec::new();
                        while let Some(id) = traces.next_trace(&mut bytes).unwrap() {
                            count += 1;
                            let found = block.find(id).await.unwrap();
                            assert_eq!(
                                found.as_ref(),
                                Some(&bytes),
                                "{id} in {}",
                                golden.display()
                            );
                            bytes.clear();
                        }
                    }
                    assert_eq!(count, meta.trace_count);
                    let none = TraceId::from_hex("abcdef").unwrap();
                    assert_eq!(block.find(none).await.unwrap(), None);
                }
            }
        }
        // What the index says is what a listing finds.
        let half = lists.len() / 2;
        assert_eq!(lists[..half], lists[half..], "{}", golden.display());
    }
}
