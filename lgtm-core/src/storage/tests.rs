//! The guard as callers see it: the suite on each back end, repeats, circuits, deadlines, slots and the counting of requests.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};

use crate::clock::ManualClock;
use crate::error::ErrorKind;
use crate::storage::{
    Backend, BackendKind, Bucket, DataKind, Layout, LayoutBuilder, LocalDurability, PutOutcome,
    RetrySettings, StorageSettings,
};
use crate::telemetry::Registry;
use crate::testing::{FaultPlan, FaultyStore, StoreFault, bucket_suite};
use crate::units::ByteSize;

/// Parts as small as allowed, so that the suite's uploads have some.
fn small_parts() -> StorageSettings {
    StorageSettings {
        part_size: ByteSize::mib(5),
        ..Default::default()
    }
}

fn logs(builder: LayoutBuilder) -> Bucket {
    builder
        .jitter_seed(1)
        .build()
        .unwrap()
        .bucket(DataKind::Logs)
}

/// A bucket over a store that fails as told, with its registry.
fn faulty(settings: StorageSettings) -> (FaultyStore, Bucket, Registry, Arc<ManualClock>) {
    let (store, registry) = (
        FaultyStore::new(Arc::new(InMemory::new()), 7),
        Registry::new(),
    );
    let clock = Arc::new(ManualClock::default());
    let builder = Layout::builder()
        .store(Backend::new(Arc::new(store.clone()), BackendKind::Memory))
        .settings(settings)
        .clock(clock.clone())
        .registry(&registry);
    (store, logs(builder), registry, clock)
}

/// The sum of a metric over all label sets that hold these values.
fn metric(registry: &Registry, name: &str, values: &[&str]) -> f64 {
    let fits = |labels: &[(String, String)]| {
        values
            .iter()
            .all(|v| labels.iter().any(|(_, label)| label == v))
    };
    registry
        .samples()
        .filter(|s| s.name == name && fits(&s.labels))
        .map(|s| s.value)
        .sum()
}

fn operations(registry: &Registry, operation: &str) -> f64 {
    metric(
        registry,
        "lgtm_objstore_operations_total",
        &["logs", operation],
    )
}

fn failures(registry: &Registry, values: &[&str]) -> f64 {
    metric(registry, "lgtm_objstore_operation_failures_total", values)
}

#[tokio::test]
async fn memory_passes_the_suite() {
    bucket_suite(&logs(
        Layout::builder()
            .store(Backend::memory())
            .settings(small_parts()),
    ))
    .await;
}

#[tokio::test]
async fn a_directory_passes_the_suite() {
    let dir = tempfile::tempdir().unwrap();
    let backend = Backend::file(dir.path(), LocalDurability::Os).unwrap();
    bucket_suite(&logs(
        Layout::builder().store(backend).settings(small_parts()),
    ))
    .await;
    assert!(
        dir.path().join("logs/suite/odd/a*b/meta.json").is_file(),
        "names are not encoded on disk"
    );
    assert!(dir.path().join("logs/suite/odd/100%25/meta.json").is_file());
}

#[tokio::test]
async fn a_synced_directory_passes_the_suite() {
    let dir = tempfile::tempdir().unwrap();
    let backend = Backend::file(dir.path(), LocalDurability::Fsync).unwrap();
    bucket_suite(&logs(
        Layout::builder().store(backend).settings(small_parts()),
    ))
    .await;
}

/// `LGTM_TEST_S3_URL` names an empty prefix that may be written to, e.g. `s3://b/x?endpoint=http://127.0.0.1:5000&path_style=true`; the keys
/// come from the environment.
#[cfg(feature = "s3")]
#[tokio::test]
#[ignore = "needs an S3 server"]
async fn an_s3_server_passes_the_suite() {
    let url =
        std::env::var("LGTM_TEST_S3_URL").expect("LGTM_TEST_S3_URL names a bucket to write to");
    let settings = crate::storage::BackendSettings {
        allow_http: true,
        ..Default::default()
    };
    let backend = crate::storage::from_url(&url, &settings).unwrap();
    let registry = Registry::new();
    let bucket = logs(
        Layout::builder()
            .store(backend)
            .settings(small_parts())
            .registry(&registry),
    );
    crate::storage::claim(&bucket, "test").await.unwrap();
    crate::storage::claim(&bucket, "test").await.unwrap();
    bucket.delete("lgtm-owner.json").await.unwrap();
    bucket_suite(&bucket).await;
    assert_eq!(failures(&registry, &["unavailable"]), 0.0);
    assert_eq!(failures(&registry, &["internal"]), 0.0);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_now_and_then_passes_the_suite() {
    for seed in 1..=5 {
        let store = FaultyStore::new(Arc::new(InMemory::new()), seed);
        store.set_plan(FaultPlan {
            reset: 0.1,
            lost_ack: 0.05,
            throttled: 0.05,
            broken_body: 0.1,
            latency: Some(Duration::from_millis(1)..Duration::from_millis(50)),
            ..Default::default()
        });
        let backend = Backend::new(Arc::new(store.clone()), BackendKind::Memory);
        bucket_suite(&logs(
            Layout::builder().store(backend).settings(small_parts()),
        ))
        .await;
        assert!(
            store.faults() > 20,
            "seed {seed}: {} faults",
            store.faults()
        );
    }
}

#[tokio::test(start_paused = true)]
async fn failures_that_may_pass_are_repeated_up_to_the_bound() {
    let (store, bucket, registry, _) = faulty(StorageSettings::default());
    store.script([
        Some(StoreFault::Reset),
        Some(StoreFault::Throttled),
        Some(StoreFault::LostAck),
    ]);
    bucket.put("t/x", "v").await.unwrap();
    assert_eq!(store.requests("put"), 4);
    assert_eq!(operations(&registry, "put"), 4.0);
    assert_eq!(failures(&registry, &["put", "unavailable"]), 2.0);
    assert_eq!(failures(&registry, &["put", "rate_limited"]), 1.0);

    store.script([Some(StoreFault::Reset); 4]);
    let error = bucket.get("t/x").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("logs/t/x"), "{error}");
    assert_eq!(store.requests("get"), 4);
    assert_eq!(bucket.get("t/x").await.unwrap(), "v");
}

#[tokio::test(start_paused = true)]
async fn what_will_not_change_is_asked_once() {
    let (store, bucket, registry, _) = faulty(StorageSettings::default());
    assert_eq!(
        bucket.get("t/absent").await.unwrap_err().kind(),
        ErrorKind::NotFound
    );
    assert_eq!(store.requests("get"), 1);
    assert_eq!(failures(&registry, &["get", "not_found"]), 1.0);
    assert_eq!(
        bucket.get("t/../x").await.unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
    assert_eq!(store.all_requests(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_conditional_put_is_not_repeated_after_a_lost_answer() {
    let (store, bucket, _, _) = faulty(StorageSettings::default());
    store.script([Some(StoreFault::LostAck)]);
    let error = bucket.put_if_absent("t/x", "mine").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(store.requests("put"), 1);
    assert_eq!(
        bucket.put_if_absent("t/x", "mine").await.unwrap(),
        PutOutcome::AlreadyExists
    );
    // A throttled one was not done, so it is.
    store.script([Some(StoreFault::Throttled)]);
    assert_eq!(
        bucket.put_if_absent("t/y", "mine").await.unwrap(),
        PutOutcome::Created
    );
}

#[tokio::test(start_paused = true)]
async fn denied_requests_open_the_circuit_and_are_not_repeated() {
    let (store, bucket, registry, clock) = faulty(StorageSettings::default());
    bucket.put("t/x", "v").await.unwrap();
    let denied = |denied| FaultPlan {
        denied,
        ..Default::default()
    };
    store.set_plan(denied(true));
    for _ in 0..10 {
        assert!(bucket.get("t/x").await.is_err());
    }
    assert_eq!(store.requests("get"), 3, "three refusals, then silence");
    assert_eq!(operations(&registry, "get"), 3.0);
    let error = bucket.get("t/x").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("AccessDenied"), "{error}");

    clock.advance(Duration::from_secs(30));
    let before = tokio::time::Instant::now();
    assert!(bucket.get("t/x").await.is_err());
    assert!(bucket.get("t/x").await.is_err());
    assert_eq!(
        (store.requests("get"), before.elapsed()),
        (4, Duration::ZERO),
        "one probe, no waiting"
    );

    store.set_plan(denied(false));
    assert!(
        bucket.get("t/x").await.is_err(),
        "not before the next probe"
    );
    bucket.put("t/y", "w").await.unwrap();
    clock.advance(Duration::from_secs(30));
    assert_eq!(bucket.get("t/x").await.unwrap(), "v");
    assert_eq!(bucket.get("t/y").await.unwrap(), "w");
}

#[tokio::test(start_paused = true)]
async fn silence_ends_at_the_deadline() {
    let settings = StorageSettings {
        request_timeout: Duration::from_secs(10),
        upload_timeout: Duration::from_secs(20),
        retry: RetrySettings {
            max_attempts: 2,
            ..Default::default()
        },
        ..Default::default()
    };
    let (store, bucket, registry, _) = faulty(settings);
    store.script([Some(StoreFault::Hang); 4]);
    let started = tokio::time::Instant::now();
    assert_eq!(
        bucket.get("t/x").await.unwrap_err().kind(),
        ErrorKind::Timeout
    );
    let took = started.elapsed();
    assert!(
        (Duration::from_secs(20)..Duration::from_secs(21)).contains(&took),
        "{took:?}"
    );
    assert_eq!(failures(&registry, &["get", "timeout"]), 2.0);
    let started = tokio::time::Instant::now();
    assert_eq!(
        bucket.put("t/x", "v").await.unwrap_err().kind(),
        ErrorKind::Timeout
    );
    assert!(started.elapsed() >= Duration::from_secs(40));
}

#[tokio::test(start_paused = true)]
async fn slots_bound_the_requests_at_a_time() {
    let settings = StorageSettings {
        max_concurrent: 2,
        max_waiting: 3,
        retry: RetrySettings {
            max_attempts: 1,
            ..Default::default()
        },
        ..Default::default()
    };
    let (store, bucket, _, _) = faulty(settings);
    let latency = Duration::from_secs(1)..Duration::from_secs(1);
    store.set_plan(FaultPlan {
        latency: Some(latency),
        ..Default::default()
    });
    let started = tokio::time::Instant::now();
    let heads = futures::future::join_all((0..6).map(|_| bucket.head("t/x"))).await;
    let kinds: Vec<_> = heads.into_iter().map(|r| r.unwrap_err().kind()).collect();
    assert_eq!(
        kinds.iter().filter(|k| **k == ErrorKind::NotFound).count(),
        5
    );
    assert_eq!(
        kinds
            .iter()
            .filter(|k| **k == ErrorKind::RateLimited)
            .count(),
        1,
        "2 run, 3 wait, 1 is refused"
    );
    assert_eq!(
        started.elapsed(),
        Duration::from_secs(3),
        "five requests, two at a time"
    );
}

#[tokio::test(start_paused = true)]
async fn a_broken_body_is_taken_up_where_it_stopped() {
    let (store, bucket, registry, _) = faulty(StorageSettings::default());
    let bytes: Bytes = (0..100_000u32).flat_map(u32::to_le_bytes).collect();
    bucket.put("t/x", bytes.clone()).await.unwrap();
    store.set_plan(FaultPlan {
        broken_body: 0.5,
        ..Default::default()
    });
    for _ in 0..20 {
        if let Ok(read) = bucket.get("t/x").await {
            assert!(read == bytes);
        }
        let plain = bucket.object_store();
        let path = object_store::path::Path::from("t/x");
        let streamed: object_store::Result<Vec<Bytes>> = plain
            .get(&path)
            .await
            .unwrap()
            .into_stream()
            .try_collect()
            .await;
        if let Ok(streamed) = streamed {
            assert!(streamed.concat() == bytes);
        }
    }
    assert!(store.faults() > 10);
    assert!(
        operations(&registry, "get_range") > 10.0,
        "the rest is asked for by range"
    );
}

#[tokio::test(start_paused = true)]
async fn a_broken_listing_goes_on_after_the_last_name() {
    let (store, bucket, _, _) = faulty(StorageSettings::default());
    for i in 0..64 {
        bucket.put(&format!("t/{i:02}"), "x").await.unwrap();
    }
    store.set_plan(FaultPlan {
        broken_body: 0.3,
        ..Default::default()
    });
    let mut complete = 0;
    for _ in 0..20 {
        if let Ok(found) = bucket.list("t").try_collect::<Vec<_>>().await {
            let names: Vec<_> = found.into_iter().map(|o| o.path).collect();
            assert_eq!(
                names,
                (0..64).map(|i| format!("t/{i:02}")).collect::<Vec<_>>()
            );
            complete += 1;
        }
    }
    assert!(complete > 15 && store.faults() > 3);
}

#[tokio::test]
async fn every_request_and_byte_is_counted() {
    let registry = Registry::new();
    let settings = StorageSettings {
        coalesce_gap: ByteSize::kib(1),
        ..small_parts()
    };
    let bucket = logs(
        Layout::builder()
            .store(Backend::memory())
            .settings(settings)
            .registry(&registry),
    );
    bucket.put("t/x", vec![7; 10_000]).await.unwrap();
    bucket.get("t/x").await.unwrap();
    // The first two are closer than the gap: one request that also reads the 500 bytes between them.
    bucket
        .get_ranges("t/x", &[0..100, 600..700, 5000..5100])
        .await
        .unwrap();
    bucket.head("t/x").await.unwrap();
    let mut writer = bucket.writer("t/big").unwrap();
    writer.write(&vec![1; 11 << 20]).await.unwrap();
    writer.finish().await.unwrap();
    let names: Vec<_> = (0..2500).map(|i| format!("many/{i:04}")).collect();
    futures::stream::iter(&names)
        .for_each_concurrent(64, |name| async { bucket.put(name, "").await.unwrap() })
        .await;
    assert_eq!(bucket.list_sorted("many").await.unwrap().len(), 2500);
    bucket.list_with_delimiter("").await.unwrap();
    bucket
        .delete_all(&names.iter().map(String::as_str).collect::<Vec<_>>())
        .await
        .unwrap();
    bucket.copy("t/x", "t/y").await.unwrap();
    for (operation, count) in [
        ("get", 1.0),
        ("get_range", 2.0),
        ("head", 1.0),
        ("put", 2501.0),
        ("multipart_create", 1.0),
        ("multipart_part", 3.0),
        ("multipart_complete", 1.0),
        ("list", 4.0),
        ("delete", 2500.0),
        ("copy", 1.0),
    ] {
        assert_eq!(operations(&registry, operation), count, "{operation}");
    }
    assert_eq!(
        metric(&registry, "lgtm_objstore_bytes_total", &["logs", "read"]),
        10_800.0
    );
    let written = 10_000 + (11 << 20);
    assert_eq!(
        metric(&registry, "lgtm_objstore_bytes_total", &["logs", "written"]),
        f64::from(written)
    );
    assert_eq!(failures(&registry, &[]), 0.0);
    assert_eq!(
        operations(&registry, "logs"),
        metric(&registry, "lgtm_objstore_operations_total", &[])
    );
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_is_counted_as_cancelled() {
    let (store, bucket, registry, _) = faulty(StorageSettings::default());
    store.script([Some(StoreFault::Hang)]);
    let gone = tokio::time::timeout(Duration::from_secs(1), bucket.head("t/x")).await;
    assert!(gone.is_err());
    assert_eq!(failures(&registry, &["head", "cancelled"]), 1.0);
}

#[tokio::test(start_paused = true)]
async fn a_failed_upload_leaves_no_object_and_gives_up_its_parts() {
    let (store, bucket, _, _) = faulty(small_parts());
    let mut writer = bucket.writer("t/x").unwrap();
    writer.write(&vec![0; 6 << 20]).await.unwrap();
    store.script([Some(StoreFault::Reset)]);
    let mut failed = None;
    for _ in 0..8 {
        failed = failed.or(writer.write(&vec![0; 5 << 20]).await.err());
    }
    assert_eq!(
        failed.unwrap().kind(),
        ErrorKind::Unavailable,
        "the first failure"
    );
    assert_eq!(store.requests("multipart_abort"), 1);
    assert_eq!(
        writer.finish().await.unwrap_err().kind(),
        ErrorKind::Internal
    );
    assert!(!bucket.exists("t/x").await.unwrap());
}

#[tokio::test]
async fn the_wrapped_store_cannot_leave_the_prefix_either() {
    let store = Arc::new(InMemory::new());
    store
        .put(
            &object_store::path::Path::from("traces/t/x"),
            "other".into(),
        )
        .await
        .unwrap();
    let bucket = Layout::single_bucket(Arc::clone(&store)).bucket(DataKind::Logs);
    let plain = bucket.object_store();
    let way_out = object_store::path::Path::parse("%2e%2e/traces/t/x").unwrap();
    assert!(plain.get(&way_out).await.is_err());
    assert!(plain.put(&way_out, "x".into()).await.is_err());
    assert!(plain.delete(&way_out).await.is_err());
    assert!(plain.list_with_delimiter(Some(&way_out)).await.is_err());
    assert!(
        plain
            .list(Some(&way_out))
            .try_collect::<Vec<_>>()
            .await
            .is_err()
    );
    assert_eq!(plain.list(None).count().await, 0);
    let mut writer = object_store::buffered::BufWriter::new(
        bucket.object_store(),
        object_store::path::Path::from("t/x"),
    );
    writer.put(Bytes::from_static(b"abc")).await.unwrap();
    std::future::poll_fn(|cx| {
        tokio::io::AsyncWrite::poll_shutdown(std::pin::Pin::new(&mut writer), cx)
    })
    .await
    .unwrap();
    assert_eq!(bucket.get("t/x").await.unwrap(), "abc");
    assert_eq!(store.list(None).count().await, 2);
}
