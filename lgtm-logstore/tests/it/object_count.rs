//! What the object store is asked for: with many quiet streams no more than the flush rules of Loki's ingester would.

use lgtm_core::clock::ManualClock;
use lgtm_core::testing::FaultyStore;
use lgtm_logstore::prelude::*;

const T_MS: i64 = 1_700_000_000_000;
const STREAMS: u64 = 100;
const MINUTES: u64 = 6 * 60;

/// A hundred streams, each with a line every ten minutes, for six hours: never idle, never full.
#[tokio::test]
async fn quiet_streams_make_a_chunk_every_two_hours_and_an_index_file_every_quarter() {
    let folder = tempfile::tempdir().unwrap();
    let memory = Backend::memory();
    let store = FaultyStore::new(Arc::clone(memory.store()), 7);
    let backend = memory.wrapped(|_| Arc::new(store.clone()));
    let clock = Arc::new(ManualClock::at_ms(T_MS));
    let db = LogStore::builder(folder.path(), backend)
        .clock(clock.clone())
        .without_housekeeping()
        .open()
        .await
        .unwrap();
    let tenant = TenantId::anonymous();
    let at_start = store.all_requests();
    let mut sent = 0;
    for minute in 0..MINUTES {
        let t_ns = (T_MS + minute as i64 * 60_000) * 1_000_000;
        let writing = (0..STREAMS).filter(|s| s % 10 == minute % 10);
        let streams: Vec<_> = writing
            .map(|s| {
                let labels = Labels::from_pairs([("pod", s.to_string())]).unwrap();
                (labels, vec![LogEntry::new(t_ns, "still here")])
            })
            .collect();
        sent += db.append(&tenant, &streams).await.unwrap().entries;
        for _ in 0..2 {
            db.maintain().await.unwrap();
            clock.advance(Duration::from_secs(30));
        }
    }
    let ingester = db.ingester();
    let counts = ingester.flush_counts();
    let chunks: u64 = counts.chunks.lock().values().sum();
    let files = counts
        .index_files
        .load(std::sync::atomic::Ordering::Relaxed);
    let reasons: Vec<_> = counts.chunks.lock().keys().copied().collect();
    assert_eq!(reasons, ["max_age"]);
    // The span of a chunk passes two hours with its thirteenth line, and the next one begins ten minutes later.
    assert_eq!(chunks, 2 * STREAMS);
    assert!(files <= MINUTES / 15, "{files} index files");
    let requests = store.all_requests() - at_start;
    assert!(requests <= chunks + files, "{requests} requests");
    let range = TimeRangeNs::new(T_MS * 1_000_000, i64::MAX);
    let found = db.lines(&tenant, r#"{pod=~".+"}"#, range, 100_000).await;
    assert_eq!(found.unwrap().items.len() as u64, sent);
    db.close().await.unwrap();
}
