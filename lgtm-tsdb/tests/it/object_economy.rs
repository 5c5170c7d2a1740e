//! How many requests large blocks cost when they are written.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::stored::{new_id, tenant};
use lgtm_core::exec::{CancelToken, Executor};
use lgtm_core::index::SymbolTable;
use lgtm_core::model::{TimeRange, TimestampMs};
use lgtm_core::storage::{Backend, Bucket, DataKind, Layout};
use lgtm_core::testing::FaultyStore;
use lgtm_core::units::ByteSize;
use lgtm_tsdb::block::{
    BlockMeta, BlockWriter, BlockWriterSettings, ExpectedBlock, MetaInput, ThanosMeta,
};
use lgtm_tsdb::chunk::{ChunkRef, Encoding};
use lgtm_tsdb::compact::{
    BlockMerge, CompactionJob, CompactionStage, MergeReport, MergeSettings, MergeTask,
};
use tokio::runtime::Handle;

/// Of a chunk; they are as large as those of histograms with thousands of buckets, as they are many bytes for little work.
const CHUNK_BYTES: usize = 60_000;
const SERIES: u32 = 4000;

fn counted() -> (FaultyStore, Bucket) {
    let memory = Backend::memory();
    let store = FaultyStore::new(Arc::clone(memory.store()), 1);
    let backend = memory.wrapped(|_| Arc::new(store.clone()));
    let layout = Layout::builder()
        .store(Backend::memory())
        .store_for(DataKind::MetricBlocks, backend)
        .build();
    (store, layout.unwrap().bucket(DataKind::MetricBlocks))
}

/// Requests that write: all that a store counts as such, parts included.
fn writes(store: &FaultyStore) -> u64 {
    let all = [
        "put",
        "multipart_create",
        "multipart_part",
        "multipart_complete",
    ];
    all.iter().map(|name| store.requests(name)).sum()
}

/// A block of a quarter of a gigabyte.
async fn write(bucket: &Bucket, hour: i64, expected: Option<ExpectedBlock>) -> BlockMeta {
    let names: Vec<String> = (0..SERIES).map(|n| format!("s{n:05}")).collect();
    let symbols = ["".to_owned(), "__name__".to_owned()]
        .into_iter()
        .chain(names);
    let symbols: Vec<String> = symbols.collect();
    let settings = BlockWriterSettings {
        expected,
        ..BlockWriterSettings::default()
    };
    let table = SymbolTable::from_sorted(&symbols).unwrap();
    let mut writer =
        BlockWriter::new(bucket.clone(), &tenant(), new_id(), table, settings).unwrap();
    let start = hour * 3_600_000;
    let mut data = vec![0; CHUNK_BYTES];
    data[1] = 120;
    for n in 0..SERIES {
        data[100..104].copy_from_slice(&n.to_be_bytes());
        let chunk = ChunkRef {
            min_ms: TimestampMs::new(start),
            max_ms: TimestampMs::new(start + 1000),
            encoding: Encoding::Histogram,
            data: &data,
        };
        writer.add_series(&[(1, n + 2)], &[chunk]).unwrap();
        if writer.wants_flush() {
            writer.flush_pending().await.unwrap();
        }
    }
    let meta = MetaInput {
        min_ms: TimestampMs::new(start),
        max_ms: TimestampMs::new(start + 3_600_000),
        level: 1,
        sources: Vec::new(),
        parents: Vec::new(),
        hints: Vec::new(),
        thanos: Some(ThanosMeta::new("receive", BTreeMap::new())),
    };
    writer.finish(meta).await.unwrap().unwrap()
}

async fn merge(bucket: &Bucket, metas: Vec<BlockMeta>) -> MergeReport {
    let job = CompactionJob {
        stage: CompactionStage::Merge,
        shard: String::new(),
        range: TimeRange::new(0, i64::MAX),
        inputs: metas.into_iter().map(Arc::new).collect(),
    };
    let settings = MergeSettings {
        max_read_memory: ByteSize::mib(64),
        max_symbols_memory: ByteSize::mib(16),
        max_postings_memory: ByteSize::mib(16),
        folder: None,
    };
    let task = MergeTask {
        tenant: &tenant(),
        job: &job,
        shard_count: 0,
    };
    let executor = Executor::inline(Handle::current());
    let merge = BlockMerge::new(bucket.clone(), executor, settings);
    let done = merge.run(task, &new_id, &CancelToken::new()).await;
    done.map_err(|e| e.error).unwrap()
}

#[tokio::test]
async fn a_gigabyte_in_large_blocks_takes_few_requests() {
    let (store, bucket) = counted();
    let mut inputs = Vec::new();
    for hour in 0..3 {
        inputs.push(write(&bucket, hour, None).await);
    }
    let before = writes(&store);
    let report = merge(&bucket, inputs).await;
    let requests = writes(&store) - before;
    let [made] = &report.blocks[..] else {
        panic!("{report:?}")
    };
    assert_eq!(made.stats.num_chunks, 3 * u64::from(SERIES));
    let bytes = 3 * u64::from(SERIES) * CHUNK_BYTES as u64;
    assert!(bytes >= 512_000_000);
    let per_gb = requests as f64 * 1e9 / bytes as f64;
    println!("merged: {requests} requests for {bytes} bytes, {per_gb:.1} a GB");
    assert!(per_gb <= 20.0, "{requests} requests");
}

#[tokio::test]
async fn a_block_of_a_head_that_is_large_takes_few_requests_and_a_small_one_no_more_than_before() {
    let (store, bucket) = counted();
    let bytes = u64::from(SERIES) * CHUNK_BYTES as u64;
    let expected = ExpectedBlock {
        chunk_bytes: bytes,
        index_bytes: 200_000,
        memory: bucket.upload_memory(),
    };
    write(&bucket, 0, Some(expected)).await;
    let requests = writes(&store);
    let per_gb = requests as f64 * 1e9 / bytes as f64;
    println!("written: {requests} requests for {bytes} bytes, {per_gb:.1} a GB");
    // Half of what is asked for twice as large ones.
    assert!(per_gb <= 40.0, "{requests} requests");

    // What is smaller than expected goes in one request.
    let (store, bucket) = counted();
    let mut writer = bucket
        .writer("small")
        .unwrap()
        .expecting(1 << 30, 4, bucket.upload_memory());
    writer.write(&vec![7; 12 << 20]).await.unwrap();
    writer.finish().await.unwrap();
    assert_eq!((store.requests("put"), store.all_requests()), (1, 1));
    // What is larger is whole, too.
    let mut writer = bucket
        .writer("large")
        .unwrap()
        .expecting(1 << 20, 4, ByteSize::mib(32));
    writer.write(&vec![7; 70 << 20]).await.unwrap();
    writer.finish().await.unwrap();
    assert_eq!(store.requests("multipart_part"), 5);
    assert_eq!(bucket.get("large").await.unwrap().len(), 70 << 20);
}
