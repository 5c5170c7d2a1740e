//! The store as a program holds it: it keeps house, tells its metrics, and lets go of its folder.

use lgtm_core::clock::ManualClock;
use lgtm_core::model::TimestampNs;
use lgtm_logstore::prelude::*;

const T_MS: i64 = 1_700_000_000_000;
const SECOND: i64 = 1_000_000_000;
const T_NS: i64 = T_MS * 1_000_000;

fn tenant() -> TenantId {
    TenantId::new("team-a").unwrap()
}

fn app(name: &str) -> Labels {
    Labels::from_pairs([("app", name)]).unwrap()
}

async fn put(db: &LogStore, of: &str, t_ns: i64, line: &str) {
    let streams = [(app(of), vec![LogEntry::new(TimestampNs::new(t_ns), line)])];
    let report = db.append(&tenant(), &streams).await.unwrap();
    assert_eq!((report.entries, report.refusal("team-a")), (1, None));
}

/// All lines of a selector, the newest first.
async fn lines(db: &LogStore, selector: &str) -> Vec<String> {
    let range = TimeRangeNs::new(T_NS - SECOND, T_NS + 100_000 * SECOND);
    let found = db.lines(&tenant(), selector, range, 1000).await.unwrap();
    assert!(found.warnings.is_empty(), "{:?}", found.warnings);
    let text = |line: &[u8]| String::from_utf8(line.to_vec()).unwrap();
    found.items.iter().map(|(_, e)| text(&e.line)).collect()
}

fn frequent() -> IngesterSettings {
    IngesterSettings {
        maintenance_interval: Duration::from_millis(10),
        index_interval: Duration::ZERO,
        ..IngesterSettings::default()
    }
}

#[tokio::test]
async fn what_was_pushed_is_found_before_and_after_a_flush_and_a_restart() {
    let (folder, store) = (tempfile::tempdir().unwrap(), Backend::memory());
    let clock = Arc::new(ManualClock::at_ms(T_MS));
    let open = || {
        let db = LogStore::builder(folder.path(), store.clone());
        db.clock(clock.clone()).open()
    };
    let db = open().await.unwrap();
    let (shop, all) = (r#"{app="shop"}"#, ["third", "second", "first"]);
    put(&db, "shop", T_NS, "first").await;
    put(&db, "shop", T_NS + SECOND, "second").await;
    put(&db, "other", T_NS, "elsewhere").await;
    assert_eq!(lines(&db, shop).await, all[1..]);
    let flushed = db.flush().await.unwrap();
    assert_eq!((flushed.chunks, flushed.index_files.len()), (2, 1));
    assert_eq!(lines(&db, shop).await, all[1..]);
    assert_eq!(db.flush().await.unwrap().chunks, 0, "nothing is left");
    put(&db, "shop", T_NS + 2 * SECOND, "third").await;
    assert_eq!(lines(&db, shop).await, all);
    db.close().await.unwrap();
    let db = open().await.unwrap();
    assert_eq!(lines(&db, shop).await, all);
    let (tenant, count) = (tenant(), r#"sum(count_over_time({app=~".+"}[1m]))"#);
    let counted = db.query(&tenant, count, TimestampNs::new(T_NS + 10 * SECOND));
    let QueryValue::Vector(series) = counted.await.unwrap().value else {
        panic!("an instant query of a vector");
    };
    assert_eq!(series[0].points[0].value, 4.0);
    db.close().await.unwrap();
}

#[tokio::test]
async fn idle_streams_become_chunks_by_themselves() {
    let (folder, store) = (tempfile::tempdir().unwrap(), Backend::memory());
    let clock = Arc::new(ManualClock::at_ms(T_MS));
    let registry = Registry::new();
    let db = LogStore::builder(folder.path(), store)
        .clock(clock.clone())
        .settings(frequent())
        .metrics(&registry)
        .open()
        .await
        .unwrap();
    put(&db, "shop", T_NS, "first").await;
    let written = "loki_ingester_chunks_flushed_total{reason=\"idle\"} 1\n";
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!registry.encode().contains(written), "it is not idle yet");
    clock.advance(Duration::from_secs(31 * 60));
    let indexed = "lgtm_logs_index_files_written_total 1\n";
    for _ in 0..500 {
        if registry.encode().contains(indexed) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let told = registry.encode();
    for line in [
        written,
        indexed,
        "loki_ingester_memory_streams{tenant=\"team-a\"} 1\n",
        "loki_distributor_lines_received_total{tenant=\"team-a\"} 1\n",
        "loki_distributor_bytes_received_total{tenant=\"team-a\"} 5\n",
        "lgtm_wal_failing{signal=\"logs\"} 0\n",
    ] {
        assert!(told.contains(line), "{line} is not in {told}");
    }
    assert_eq!(lines(&db, r#"{app="shop"}"#).await, ["first"]);
    db.close().await.unwrap();
    let told = registry.encode();
    assert!(!told.contains("loki_ingester_memory_streams"), "{told}");
}

#[tokio::test]
async fn chunks_wait_for_their_index_and_are_found_meanwhile() {
    let (folder, store) = (tempfile::tempdir().unwrap(), Backend::memory());
    let clock = Arc::new(ManualClock::at_ms(T_MS));
    let db = LogStore::builder(folder.path(), store)
        .clock(clock.clone())
        .without_housekeeping()
        .open()
        .await
        .unwrap();
    let counts = || {
        let ingester = db.ingester();
        let counts = ingester.flush_counts();
        let files = &counts.index_files;
        let chunks = counts.chunks.lock().values().sum::<u64>();
        (chunks, files.load(std::sync::atomic::Ordering::Relaxed))
    };
    for (n, files) in [(0, 0), (1, 1), (2, 1)] {
        let app = format!("app-{n}");
        put(&db, &app, T_NS + n * SECOND, "line").await;
        clock.advance(Duration::from_secs(31 * 60));
        db.maintain().await.unwrap();
        // The second round is more than a quarter of an hour behind the first, and its chunk goes with that one's.
        assert_eq!(counts(), (n as u64 + 1, files), "{n}");
        assert_eq!(lines(&db, r#"{app=~".+"}"#).await.len(), n as usize + 1);
    }
    db.flush().await.unwrap();
    assert_eq!(counts(), (3, 2));
    assert_eq!(lines(&db, r#"{app=~".+"}"#).await.len(), 3);
    db.close().await.unwrap();
}

#[tokio::test]
async fn volumes_count_what_is_recent_and_what_is_stored() {
    let (folder, store) = (tempfile::tempdir().unwrap(), Backend::memory());
    let clock = Arc::new(ManualClock::at_ms(T_MS));
    let db = LogStore::builder(folder.path(), store).clock(clock);
    let db = db.open().await.unwrap();
    put(&db, "shop", T_NS, &"x".repeat(2048)).await;
    db.flush().await.unwrap();
    put(&db, "shop", T_NS + SECOND, "1234567890").await;
    let range = TimeRangeNs::new(T_NS, T_NS + 10 * SECOND);
    let request = lgtm_logstore::select::SelectRequest::new(vec![], range);
    let volumes = db.querier().volumes(&tenant(), &request).await.unwrap();
    let [shop] = volumes.items.as_slice() else {
        panic!("{volumes:?}");
    };
    assert_eq!((shop.chunks, shop.entries), (2, 2));
    // In the store in KiB, rounded; in memory exact: the line, and the pair of its level with its texts.
    let level = 8 + "detected_levelunknown".len() as u64;
    assert_eq!(shop.bytes, 2048 + 10 + level);
    db.close().await.unwrap();
}

#[tokio::test]
async fn what_is_wrong_is_told_however_long_the_labels_are() {
    let (folder, store) = (tempfile::tempdir().unwrap(), Backend::memory());
    let db = LogStore::builder(folder.path(), store);
    let db = db.open().await.unwrap();
    let streams = [(app(&"x".repeat(5000)), vec![LogEntry::new(T_NS, "line")])];
    let report = db.append(&tenant(), &streams).await.unwrap();
    let refusal = report.refusal("team-a").unwrap();
    let reason = "has label value too long: 'xxx";
    assert!(refusal.message.contains(reason), "{}", refusal.message);
    db.close().await.unwrap();
}

#[tokio::test]
async fn a_store_that_is_dropped_lets_go_of_its_folder() {
    let (folder, store) = (tempfile::tempdir().unwrap(), Backend::memory());
    let clock = Arc::new(ManualClock::at_ms(T_MS));
    for round in 0..3 {
        let db = LogStore::builder(folder.path(), store.clone())
            .clock(clock.clone())
            .settings(frequent())
            .open()
            .await
            .unwrap();
        put(&db, "shop", T_NS + round, "line").await;
        assert_eq!(
            lines(&db, r#"{app="shop"}"#).await.len(),
            round as usize + 1
        );
    }
}

#[tokio::test]
async fn a_closed_store_takes_nothing_and_says_so() {
    let (folder, store) = (tempfile::tempdir().unwrap(), Backend::memory());
    let clock = Arc::new(ManualClock::at_ms(T_MS));
    let db = LogStore::builder(folder.path(), store).clock(clock);
    let db = db.open().await.unwrap();
    put(&db, "shop", T_NS, "line").await;
    let (source, ingester) = (db.source(), db.ingester());
    db.close().await.unwrap();
    let range = TimeRangeNs::new(T_NS, T_NS + SECOND);
    let request = lgtm_logstore::select::SelectRequest::new(vec![], range);
    let error = source.series(&tenant(), &request).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(ingester.streams_by_tenant().is_empty());
}

#[tokio::test]
async fn a_folder_that_is_held_is_named_in_the_refusal() {
    let (folder, store) = (tempfile::tempdir().unwrap(), Backend::memory());
    let db = LogStore::builder(folder.path(), store.clone());
    let db = db.open().await.unwrap();
    let second = LogStore::builder(folder.path(), store).open().await;
    let error = second.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    let place = folder.path().display().to_string();
    assert!(error.to_string().contains(&place), "{error}");
    db.close().await.unwrap();
}
