//! What every back end must do below a [`Bucket`].

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::{ObjectStoreExt, PutPayload};

use crate::error::{ErrorKind, Result};
use crate::storage::{Bucket, PutOutcome};

/// Tries before the suite takes a passing failure for a lasting one.
const TRIES: usize = 200;

/// Runs the suite on an empty bucket that nobody else writes to. It leaves some objects below `suite/`.
///
/// Failures that may pass (`ErrorKind::is_retryable`) are tried again as a careful caller would, so the suite also runs on a store that
/// injects them.
///
/// # Panics
/// When the bucket does not keep a promise.
pub async fn bucket_suite(bucket: &Bucket) {
    objects_come_back(bucket).await;
    missing_objects_are_not_found(bucket).await;
    ranges_are_exact(bucket).await;
    conditional_puts_keep_the_first(bucket).await;
    listings_show_folders_and_all_below(bucket).await;
    odd_tenants_keep_their_names(bucket).await;
    ways_out_are_refused(bucket).await;
    deletes_may_be_repeated(bucket).await;
    writers_make_whole_objects(bucket).await;
    copies_are_equal(bucket).await;
    the_plain_object_store_sees_the_same(bucket).await;
}

/// Repeats what failed in a way that may pass.
async fn until<T>(work: impl AsyncFn() -> Result<T>) -> T {
    let mut last = None;
    for _ in 0..TRIES {
        match work().await {
            Ok(done) => return done,
            Err(error) if error.is_retryable() => last = Some(error),
            Err(error) => panic!("failed for good: {error}"),
        }
    }
    panic!("failed {TRIES} times, last: {last:?}");
}

/// The kind of the lasting error.
async fn failure<T>(work: impl AsyncFn() -> Result<T>) -> ErrorKind {
    for _ in 0..TRIES {
        match work().await {
            Ok(_) => panic!("succeeded where it had to fail"),
            Err(error) if error.is_retryable() => {}
            Err(error) => return error.kind(),
        }
    }
    panic!("only failures that may pass");
}

async fn put(bucket: &Bucket, path: &str, bytes: &Bytes) {
    until(async || bucket.put(path, bytes.clone()).await).await;
}

fn pattern(len: usize) -> Bytes {
    (0..len).map(|i| (i * 31 % 251) as u8).collect()
}

async fn objects_come_back(bucket: &Bucket) {
    for len in [0, 1, 1000, 300_000] {
        let bytes = pattern(len);
        put(bucket, "suite/object", &bytes).await;
        assert_eq!(
            until(async || bucket.get("suite/object").await).await,
            bytes
        );
        let info = until(async || bucket.head("suite/object").await).await;
        assert_eq!(
            (info.size_bytes, info.path.as_str()),
            (len as u64, "suite/object")
        );
        assert!(
            info.modified_ms > 1_500_000_000_000,
            "a date of this century in ms: {}",
            info.modified_ms
        );
    }
    assert!(until(async || bucket.exists("suite/object").await).await);
}

async fn missing_objects_are_not_found(bucket: &Bucket) {
    for path in ["suite/absent", "suite/object/below", "suite"] {
        assert_eq!(
            failure(async || bucket.get(path).await).await,
            ErrorKind::NotFound,
            "{path}"
        );
        assert_eq!(
            failure(async || bucket.head(path).await).await,
            ErrorKind::NotFound,
            "{path}"
        );
        assert_eq!(
            failure(async || bucket.get_range(path, 0..1).await).await,
            ErrorKind::NotFound,
            "{path}"
        );
        assert!(!until(async || bucket.exists(path).await).await);
    }
}

async fn ranges_are_exact(bucket: &Bucket) {
    let bytes = pattern(5000);
    put(bucket, "suite/ranges", &bytes).await;
    let range = async |range: std::ops::Range<u64>| {
        until(async || bucket.get_range("suite/ranges", range.clone()).await).await
    };
    assert_eq!(range(0..5000).await, bytes);
    assert_eq!(range(4999..5000).await, bytes.slice(4999..));
    assert_eq!(range(7..7).await, Bytes::new());
    let several = [4000..4500, 0..10, 20..20, 5..15, 4999..5000];
    let parts = until(async || bucket.get_ranges("suite/ranges", &several).await).await;
    for (range, part) in several.iter().zip(&parts) {
        assert_eq!(
            *part,
            bytes.slice(range.start as usize..range.end as usize),
            "{range:?}"
        );
    }
    assert!(
        until(async || bucket.get_ranges("suite/ranges", &[]).await)
            .await
            .is_empty()
    );
    for past in [4990..5001, 5000..5001, 6000..6001, 4999..u64::MAX] {
        let kind = failure(async || bucket.get_range("suite/ranges", past.clone()).await).await;
        assert_eq!(kind, ErrorKind::InvalidInput, "{past:?} of 5000 bytes");
    }
    #[allow(clippy::reversed_empty_ranges, reason = "that is what must be refused")]
    let kind = failure(async || bucket.get_range("suite/ranges", 9..3).await).await;
    assert_eq!(kind, ErrorKind::InvalidInput);
}

async fn conditional_puts_keep_the_first(bucket: &Bucket) {
    let path = "suite/once";
    until(async || {
        bucket
            .put_if_absent(path, Bytes::from_static(b"first"))
            .await
    })
    .await;
    let second = until(async || {
        bucket
            .put_if_absent(path, Bytes::from_static(b"second"))
            .await
    })
    .await;
    assert_eq!(second, PutOutcome::AlreadyExists);
    assert_eq!(until(async || bucket.get(path).await).await, "first");
}

async fn listings_show_folders_and_all_below(bucket: &Bucket) {
    let names = [
        "suite/list/a",
        "suite/list/b/c",
        "suite/list/b/d/e",
        "suite/list-not/x",
    ];
    for name in names {
        put(bucket, name, &pattern(3)).await;
    }
    for prefix in ["suite/list", "suite/list/"] {
        let listing = until(async || bucket.list_with_delimiter(prefix).await).await;
        assert_eq!(listing.folders, ["suite/list/b"]);
        let objects: Vec<_> = listing.objects.iter().map(|o| o.path.as_str()).collect();
        assert_eq!(objects, ["suite/list/a"]);
        let all = until(async || bucket.list_sorted(prefix).await).await;
        let all: Vec<_> = all
            .iter()
            .map(|o| (o.path.as_str(), o.size_bytes))
            .collect();
        assert_eq!(all, names[..3].iter().map(|n| (*n, 3)).collect::<Vec<_>>());
    }
    let top = until(async || bucket.list_with_delimiter("").await).await;
    assert_eq!(
        (top.folders, top.objects.len()),
        (vec!["suite".to_owned()], 0)
    );
    assert!(
        until(async || bucket.list_sorted("suite/none").await)
            .await
            .is_empty()
    );
    assert!(
        until(async || bucket.list_with_delimiter("suite/none").await)
            .await
            .folders
            .is_empty()
    );
}

async fn odd_tenants_keep_their_names(bucket: &Bucket) {
    let tenants = [
        "it's", "a*b", "wow!", "(x)", "...", "-_.", "100%25", "t=", "a b", "ünï", "q?x#y&z+", "a:b",
    ];
    for tenant in tenants {
        put(
            bucket,
            &format!("suite/odd/{tenant}/meta.json"),
            &pattern(1),
        )
        .await;
    }
    let mut wanted: Vec<_> = tenants.iter().map(|t| format!("suite/odd/{t}")).collect();
    wanted.sort_unstable();
    let found = until(async || bucket.list_with_delimiter("suite/odd").await).await;
    assert_eq!(found.folders, wanted);
    for tenant in wanted {
        let below = until(async || bucket.list_sorted(&tenant).await).await;
        assert_eq!(below.len(), 1, "{tenant}");
        assert_eq!(below[0].path, format!("{tenant}/meta.json"));
        assert_eq!(
            until(async || bucket.get(&below[0].path).await).await,
            pattern(1)
        );
    }
}

async fn ways_out_are_refused(bucket: &Bucket) {
    for path in [
        "",
        "..",
        "../x",
        "a/../../x",
        "/etc",
        "a//b",
        "a/",
        "%2e%2e/x",
        "%252e%252e/x",
        "a\\..\\x",
    ] {
        let kinds = [
            failure(async || bucket.get(path).await).await,
            failure(async || bucket.put(path, Bytes::new()).await).await,
            failure(async || bucket.delete(path).await).await,
            failure(async || bucket.copy("suite/object", path).await).await,
            failure(async || bucket.writer(path)).await,
        ];
        assert_eq!(kinds, [ErrorKind::InvalidInput; 5], "{path:?}");
    }
    for prefix in ["..", "../logs", "%2e%2e", "/"] {
        assert_eq!(
            failure(async || bucket.list_sorted(prefix).await).await,
            ErrorKind::InvalidInput
        );
        assert_eq!(
            failure(async || bucket.list_with_delimiter(prefix).await).await,
            ErrorKind::InvalidInput
        );
    }
}

async fn deletes_may_be_repeated(bucket: &Bucket) {
    let names: Vec<_> = (0..25).map(|i| format!("suite/delete/{i:02}/x")).collect();
    for name in &names {
        put(bucket, name, &pattern(1)).await;
    }
    for _ in 0..2 {
        until(async || bucket.delete(&names[0]).await).await;
    }
    let paths: Vec<&str> = names.iter().map(String::as_str).collect();
    until(async || bucket.delete_all(&paths[..20]).await).await;
    let left = until(async || bucket.list_with_delimiter("suite/delete").await).await;
    assert_eq!(
        left.folders.len(),
        5,
        "an emptied folder is no longer listed"
    );
    until(async || bucket.delete_all(&paths).await).await;
    until(async || bucket.delete_all(&[]).await).await;
    assert!(
        until(async || bucket.list_sorted("suite/delete").await)
            .await
            .is_empty()
    );
}

async fn writers_make_whole_objects(bucket: &Bucket) {
    // Larger than the smallest part size allowed, so that small settings make it an upload in parts.
    for len in [0, 10, 12 * 1024 * 1024 + 5] {
        let bytes = pattern(len);
        let path = format!("suite/written/{len}");
        until(async || {
            let mut writer = bucket.writer(&path)?;
            for chunk in bytes.chunks(3_000_001) {
                writer.write(chunk).await?;
            }
            assert_eq!(writer.written_bytes(), len as u64);
            writer.finish().await
        })
        .await;
        assert_eq!(
            until(async || bucket.head(&path).await).await.size_bytes,
            len as u64
        );
        assert!(
            until(async || bucket.get(&path).await).await == bytes,
            "{len} bytes differ"
        );
    }
    let write_and_leave = async |leave: bool| {
        let mut writer = bucket.writer("suite/written/left")?;
        writer.write(&pattern(12 * 1024 * 1024)).await?;
        if leave {
            return Ok(());
        }
        writer.abort().await
    };
    until(async || write_and_leave(false).await).await;
    until(async || write_and_leave(true).await).await;
    assert!(!until(async || bucket.exists("suite/written/left").await).await);
}

async fn copies_are_equal(bucket: &Bucket) {
    put(bucket, "suite/from", &pattern(77)).await;
    put(bucket, "suite/to", &pattern(3)).await;
    until(async || bucket.copy("suite/from", "suite/to").await).await;
    assert_eq!(
        until(async || bucket.get("suite/to").await).await,
        pattern(77)
    );
    let kind = failure(async || bucket.copy("suite/absent", "suite/to").await).await;
    assert_eq!(kind, ErrorKind::NotFound);
}

async fn the_plain_object_store_sees_the_same(bucket: &Bucket) {
    let store = bucket.object_store();
    let path = object_store::path::Path::from("suite/plain");
    let payload = PutPayload::from(pattern(9));
    let unavailable = |e: object_store::Error| crate::Error::Unavailable(e.to_string());
    until(async || store.put(&path, payload.clone()).await.map_err(unavailable)).await;
    assert_eq!(
        until(async || bucket.get("suite/plain").await).await,
        pattern(9)
    );
    let prefix = object_store::path::Path::from("suite");
    let seen: Vec<_> = until(async || {
        store
            .list(Some(&prefix))
            .try_collect()
            .await
            .map_err(unavailable)
    })
    .await;
    let listed = until(async || bucket.list_sorted("suite").await).await;
    assert_eq!(seen.len(), listed.len());
    assert!(
        seen.iter()
            .all(|meta| meta.location.as_ref().starts_with("suite/"))
    );
}
