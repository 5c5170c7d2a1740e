use super::*;
use crate::cache::CacheExt;
use crate::clock::ManualClock;
use crate::testing::cache_suite;

const SMALL: DiskCacheSettings = DiskCacheSettings {
    max_bytes: ByteSize::mib(128),
    memory_size: ByteSize::mib(1),
    max_item_size: ByteSize::mib(4),
};

async fn cache(folder: &Path) -> (Arc<ManualClock>, DiskCache) {
    let clock = Arc::new(ManualClock::at_ms(1_700_000_000_000));
    let runtime = Handle::current();
    let cache = DiskCache::new("test", &SMALL, folder.to_owned(), clock.clone(), runtime);
    let cache = cache.unwrap();
    assert!(cache.opened().await);
    (clock, cache)
}

fn value_of(key: usize) -> Bytes {
    Bytes::from(format!("{key}:").repeat(2000))
}

/// How many of a thousand values are found; those that are must be right.
async fn found(cache: &DiskCache) -> usize {
    let keys: Vec<String> = (0..1000).map(|n| format!("k{n}")).collect();
    let asked: Vec<&str> = keys.iter().map(String::as_str).collect();
    let found = cache.get_many(&asked).await;
    for (n, value) in found.iter().enumerate() {
        assert!(value.as_ref().is_none_or(|v| *v == value_of(n)), "k{n}");
    }
    found.iter().flatten().count()
}

async fn fill(cache: &DiskCache) {
    for n in 0..1000 {
        cache.set(&format!("k{n}"), value_of(n), None).await;
        // The writer drops what comes faster than it writes.
        tokio::time::sleep(Duration::from_micros(500)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_a_cache() {
    let folder = tempfile::tempdir().unwrap();
    let (clock, cache) = cache(folder.path()).await;
    cache_suite(&cache, async |time| clock.advance(time)).await;
    cache.close().await;
    assert_eq!(cache.get("suite/kept").await, None, "it is closed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_survive_a_restart_and_their_time_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    {
        let (_, cache) = cache(folder.path()).await;
        fill(&cache).await;
        let short = Some(Duration::from_secs(60));
        cache.set("short", Bytes::from_static(b"v"), short).await;
        cache.set("gone", Bytes::from_static(b"v"), None).await;
        cache.delete("gone").await;
        cache.close().await;
    }
    let (clock, cache) = cache(folder.path()).await;
    let kept = found(&cache).await;
    assert!(kept > 900, "{kept}");
    assert_eq!(cache.get("gone").await, None);
    assert_eq!(cache.get("short").await.as_deref(), Some(&b"v"[..]));
    clock.advance(Duration::from_secs(60));
    assert_eq!(cache.get("short").await, None);
    cache.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_file_is_a_miss() {
    let folder = tempfile::tempdir().unwrap();
    let files = || {
        let files = std::fs::read_dir(folder.path()).unwrap();
        files.map(|f| f.unwrap().path()).collect::<Vec<_>>()
    };
    {
        let (_, cache) = cache(folder.path()).await;
        fill(&cache).await;
        cache.close().await;
    }
    for damage in 0..3 {
        for path in files() {
            let mut bytes = std::fs::read(&path).unwrap();
            match damage {
                0 => (0..bytes.len())
                    .step_by(4099)
                    .for_each(|at| bytes[at] ^= 0x10),
                1 => bytes.truncate(bytes.len() / 3),
                _ => bytes = b"no file of a cache".to_vec(),
            }
            std::fs::write(&path, bytes).unwrap();
        }
        let (_, cache) = cache(folder.path()).await;
        let kept = found(&cache).await;
        assert!(kept < 1000, "nothing was damaged");
        cache.set("new", Bytes::from_static(b"v"), None).await;
        assert_eq!(cache.get("new").await.as_deref(), Some(&b"v"[..]));
        cache.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_files_are_no_larger_than_their_bound() {
    let folder = tempfile::tempdir().unwrap();
    let (_, cache) = cache(folder.path()).await;
    for n in 0..100 {
        let value = Bytes::from(vec![n as u8; 4 << 20]);
        cache.set(&format!("large{n}"), value, None).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    cache
        .set("too large", Bytes::from(vec![0; (4 << 20) + 1]), None)
        .await;
    assert_eq!(cache.stats().skipped, 1);
    cache.close().await;
    let files = std::fs::read_dir(folder.path()).unwrap();
    let bytes: u64 = files.map(|f| f.unwrap().metadata().unwrap().len()).sum();
    assert!(bytes <= SMALL.max_bytes.as_u64(), "{bytes}");
}
