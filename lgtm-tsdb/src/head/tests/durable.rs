//! Checkpoints, chunk files and flushes when the process ends between any two of their steps, and when files are damaged or missing.

use std::io;

use lgtm_core::disk::{Disk, DiskFile, DiskLock};
use lgtm_core::model::TimestampMs;
use lgtm_core::units::ByteSize;
use lgtm_core::wal::SyncPolicy;
use parking_lot::Mutex;

use super::super::metadata::MetadataRoom;
use super::*;

/// What a test does before an operation on a file, and whether the operation fails.
type Hook = Box<dyn FnMut(&str, &str) -> io::Result<()> + Send>;

/// The folder's disk, with a hook before each operation that writes.
#[derive(Clone)]
pub(super) struct HookDisk(Arc<LocalDisk>, Arc<Mutex<Option<Hook>>>);

impl std::fmt::Debug for HookDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl HookDisk {
    fn new(dir: &std::path::Path) -> Self {
        Self(Arc::new(LocalDisk::new(dir)), Arc::default())
    }

    pub(super) fn set(&self, hook: impl FnMut(&str, &str) -> io::Result<()> + Send + 'static) {
        *self.1.lock() = Some(Box::new(hook));
    }

    /// Runs the hook, which is away meanwhile: what it does has none.
    fn before(&self, operation: &str, path: &str) -> io::Result<()> {
        let Some(mut hook) = self.1.lock().take() else {
            return Ok(());
        };
        let done = hook(operation, path);
        *self.1.lock() = Some(hook);
        done
    }

    fn file(&self, path: &str, inner: Box<dyn DiskFile>) -> Box<dyn DiskFile> {
        Box::new(HookFile {
            disk: self.clone(),
            path: path.to_owned(),
            inner,
        })
    }
}

#[derive(Debug)]
struct HookFile {
    disk: HookDisk,
    path: String,
    inner: Box<dyn DiskFile>,
}

impl Disk for HookDisk {
    fn create_dir_all(&self, dir: &str) -> io::Result<()> {
        self.0.create_dir_all(dir)
    }
    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.0.list(dir)
    }
    fn open_append(&self, path: &str) -> io::Result<Box<dyn DiskFile>> {
        Ok(self.file(path, self.0.open_append(path)?))
    }
    fn create_new(&self, path: &str) -> io::Result<Box<dyn DiskFile>> {
        self.before("create", path)?;
        Ok(self.file(path, self.0.create_new(path)?))
    }
    fn open_read(&self, path: &str) -> io::Result<Box<dyn DiskFile>> {
        Ok(self.file(path, self.0.open_read(path)?))
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.before("rename", from)?;
        self.0.rename(from, to)
    }
    fn remove(&self, path: &str) -> io::Result<()> {
        self.before("remove", path)?;
        self.0.remove(path)
    }
    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.before("sync_dir", dir)?;
        self.0.sync_dir(dir)
    }
    fn lock(&self, dir: &str, holder: &str) -> io::Result<Box<dyn DiskLock>> {
        self.0.lock(dir, holder)
    }
}

impl DiskFile for HookFile {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        self.disk.before("append", &self.path)?;
        self.inner.append(bytes)
    }
    fn read_exact_at(&self, out: &mut [u8], offset: u64) -> io::Result<()> {
        self.inner.read_exact_at(out, offset)
    }
    fn size(&self) -> io::Result<u64> {
        self.inner.size()
    }
    fn truncate(&self, len: u64) -> io::Result<()> {
        self.inner.truncate(len)
    }
    fn sync(&self) -> io::Result<()> {
        self.disk.before("sync", &self.path)?;
        self.inner.sync()
    }
}

/// A store whose chunk files are small, and its disk.
fn hooked(limits: Limits, sync: SyncPolicy) -> (Store, HookDisk) {
    let settings = HeadSettings {
        chunk_file_size: ByteSize::mib(1),
        wal: WalSettings {
            sync,
            ..WalSettings::default()
        },
        ..HeadSettings::default()
    };
    hooked_store(limits, settings)
}

/// A store and its disk.
pub(super) fn hooked_with(settings: HeadSettings) -> (Store, HookDisk) {
    hooked_store(Limits::default(), settings)
}

fn hooked_store(limits: Limits, settings: HeadSettings) -> (Store, HookDisk) {
    let store = Arc::new(object_store::memory::InMemory::new());
    let mut s = Store::over(store, limits, settings);
    let disk = HookDisk::new(s.dir.path());
    let elsewhere = tempfile::tempdir().unwrap();
    s.heads = open_heads(elsewhere.path(), &s.limits, &s.settings).0;
    let clock = Arc::new(ManualClock::at_ms(START + 100 * HOUR));
    let limits = Overrides::fixed(s.limits.clone());
    let (heads, log) = Heads::open(
        Arc::new(disk.clone()),
        ".",
        s.settings.clone(),
        limits,
        clock,
        7,
    )
    .unwrap();
    heads.replay(log).unwrap();
    s.heads = Arc::new(heads);
    (s, disk)
}

/// So many samples of a series, a chunk or so of each 120.
fn samples_of(n: i64, from_ms: i64) -> Vec<(i64, f64)> {
    (0..n)
        .map(|i| (from_ms + i * 1000, (i as f64 * 0.37).sin()))
        .collect()
}

fn rows(name: &str, samples: &[(i64, f64)]) -> Vec<(String, i64, u64)> {
    samples.iter().map(|(t, v)| f(name, *t, *v)).collect()
}

fn chunk_files(s: &Store) -> Vec<std::path::PathBuf> {
    let folder = std::fs::read_dir(s.dir.path().join("chunks_head")).unwrap();
    let mut files: Vec<_> = folder.map(|e| e.unwrap().path()).collect();
    files.sort();
    files
}

#[tokio::test]
async fn chunks_that_are_cut_while_a_checkpoint_walks_are_there_when_it_counts() {
    for sync in [SyncPolicy::Os, SyncPolicy::EveryBatch] {
        let (mut s, disk) = hooked(Limits::default(), sync);
        // Enough that the walk writes before it comes to the last series.
        let names: Vec<String> = (0..4000)
            .map(|n| format!("series_{n:05}_{}", "x".repeat(100)))
            .collect();
        let one = [(0, 1.0)];
        let batch: Vec<(&str, &[(i64, f64)])> =
            names.iter().map(|n| (n.as_str(), &one[..])).collect();
        let _ = s.push("t", &batch).await;
        let more = samples_of(700, 1000);
        let pusher = (s.heads.clone(), names[3999].clone(), more.clone());
        let cut = Arc::new(AtomicU64::new(0));
        let counts = cut.clone();
        let runtime = tokio::runtime::Handle::current();
        disk.set(move |operation, path| {
            if operation == "append"
                && path.ends_with(".tmp")
                && counts.fetch_add(1, Ordering::SeqCst) == 1
            {
                let (heads, name, samples) = &pusher;
                let labels =
                    Labels::from_pairs([("__name__", name.as_str()), ("job", "x")]).unwrap();
                let samples: Vec<Sample> = samples
                    .iter()
                    .map(|(t, value)| Sample {
                        t_ms: TimestampMs::new(START + t),
                        value: *value,
                    })
                    .collect();
                let mut batch = WriteBatch::default();
                batch.push_series(labels.iter(), &samples);
                let tenant = TenantId::new("t").unwrap();
                let taken = runtime.block_on(heads.append(&tenant, &batch)).unwrap();
                assert_eq!(taken.samples, 700);
            }
            Ok(())
        });
        s.heads.checkpoint().await.unwrap();
        assert!(cut.load(Ordering::SeqCst) > 1, "the walk wrote in pieces");
        *disk.1.lock() = None;
        s.reopen();
        assert_eq!(s.report.lost_chunks, 0, "{sync:?}");
        let mut want: Vec<_> = names.iter().map(|n| f(n, 0, 1.0)).collect();
        want.extend(rows(&names[3999], &more));
        want.sort();
        assert_eq!(s.all("t").await, want, "{sync:?}");
    }
}

#[tokio::test]
async fn a_checkpoint_counts_only_after_the_chunk_files_are_synced() {
    let (s, disk) = hooked(Limits::default(), SyncPolicy::EveryBatch);
    let _ = s.push("t", &[("a", &samples_of(500, 0))]).await;
    let done: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = done.clone();
    disk.set(move |operation, path| {
        seen.lock().push(format!("{operation} {path}"));
        Ok(())
    });
    s.heads.checkpoint().await.unwrap();
    let at = |wanted: &str| {
        let done = done.lock();
        let found = done.iter().position(|o| o == wanted);
        found.unwrap_or_else(|| panic!("{wanted}: {done:?}"))
    };
    let order = [
        at("append ./chunks_head/00000001"),
        at("sync ./chunks_head/00000001"),
        at("sync_dir ./chunks_head"),
        at("rename ./wal/checkpoint.00000003.tmp"),
        at("remove ./wal/00000002"),
    ];
    assert!(order.is_sorted(), "{order:?}");
    // A file whose sync failed is trusted no more, whatever later syncs say.
    let _ = s.push("t", &[("a", &samples_of(500, 600_000))]).await;
    let mut fails = true;
    disk.set(move |operation, path| {
        if operation == "sync" && path.contains("chunks_head") && fails {
            fails = false;
            Err(io::Error::other("the disk lost it"))
        } else {
            Ok(())
        }
    });
    for _ in 0..2 {
        let refused = s.heads.checkpoint().await.unwrap_err();
        assert!(
            refused.to_string().contains("could not be synced"),
            "{refused}"
        );
    }
}

#[tokio::test]
async fn a_checkpoint_that_fails_anywhere_loses_nothing() {
    for step in 0..12 {
        let (mut s, disk) = hooked(Limits::default(), SyncPolicy::EveryBatch);
        let first = samples_of(400, 0);
        let _ = s.push("t", &[("a", &first)]).await;
        s.heads.checkpoint().await.unwrap();
        s.flush_one("t").await;
        let second = samples_of(400, 600_000);
        let _ = s.push("t", &[("a", &second)]).await;
        let mut left = step;
        disk.set(move |operation, path| {
            left -= 1;
            if left < 0 && !path.contains("/wal/0") {
                Err(io::Error::other(format!("{operation} fails")))
            } else {
                Ok(())
            }
        });
        // What cannot be removed waits; anything else fails the checkpoint.
        let _ = s.heads.checkpoint().await;
        *disk.1.lock() = None;
        s.reopen();
        assert_eq!(s.report.lost_chunks, 0, "step {step}");
        let want = rows("a", &[first, second].concat());
        assert_eq!(s.all("t").await, want, "step {step}");
    }
}

#[tokio::test]
async fn chunk_files_stay_until_no_checkpoint_names_them() {
    let mut s = Store::new(Limits::default());
    let a = samples_of(1000, 0);
    let _ = s.push("t", &[("a", &a)]).await;
    s.heads.checkpoint().await.unwrap();
    s.reopen();
    let named = chunk_files(&s);
    // The block has it all, and the process dies before the next checkpoint.
    s.flush_one("t").await;
    assert!(named.iter().all(|f| f.exists()));
    s.reopen();
    assert!(s.report.is_whole(), "{:?}", s.report);
    assert_eq!(s.all("t").await, rows("a", &a));
    s.flush(FlushScope::All).await;
    assert!(!named.iter().any(|f| f.exists()), "nothing refers to them");
    s.reopen();
    assert_eq!(s.all("t").await, rows("a", &a));
}

#[tokio::test]
async fn a_missing_chunk_costs_itself_and_not_the_rest_of_its_record() {
    let mut s = Store::new(Limits::default());
    let (a, b) = (samples_of(1000, 0), samples_of(1000, 500));
    let _ = s.push("t", &[("a", &a)]).await;
    s.heads.checkpoint().await.unwrap();
    s.reopen();
    let _ = s
        .push("t", &[("b", &b), ("a", &samples_of(10, 2_000_000))])
        .await;
    s.heads.checkpoint().await.unwrap();
    let files = chunk_files(&s);
    assert_eq!(files.len(), 2);
    std::fs::remove_file(&files[0]).unwrap();
    s.reopen();
    assert!(s.report.lost_chunks > 2 && !s.report.is_whole());
    let remarks = s.report.remarks();
    assert!(
        remarks.len() == 1 && remarks[0].ends_with("chunks that a checkpoint names are lost"),
        "{remarks:?}"
    );
    assert_eq!(s.report.undecodable_records, 0);
    let all = s.all("t").await;
    let of = |name: &str| all.iter().filter(|r| r.0 == name).count();
    assert_eq!(of("b"), 1000);
    assert!(
        of("a") < 200 && all.contains(&f("a", 999_000, a[999].1)),
        "the open chunk is there"
    );
    // The series goes on.
    let _ = s.push("t", &[("a", &[(3_000_000, 7.0)])]).await;
    s.reopen();
    assert!(s.all("t").await.contains(&f("a", 3_000_000, 7.0)));
}

#[tokio::test]
async fn late_samples_before_the_last_flushed_range_survive_a_restart() {
    let limits = Limits {
        out_of_order_time_window: Duration::from_secs(24 * 3600),
        ..Limits::default()
    };
    let mut s = Store::new(limits);
    for t in 0..20 {
        let _ = s.push("t", &[("a", &[(t * HOUR / 4, t as f64)])]).await;
    }
    assert_eq!(s.flush(FlushScope::Complete).await, 1);
    // Late: its range is in a block already.
    let _ = s.push("t", &[("a", &[(HOUR / 3, 33.0)])]).await;
    s.reopen();
    assert!(s.all("t").await.contains(&f("a", HOUR / 3, 33.0)));
}

#[tokio::test]
async fn a_damaged_chunk_costs_itself_at_a_flush() {
    let mut s = Store::new(Limits::default());
    let (a, b) = (samples_of(1000, 0), samples_of(1000, 0));
    let _ = s.push("t", &[("a", &a), ("b", &b)]).await;
    s.heads.checkpoint().await.unwrap();
    let file = chunk_files(&s).remove(0);
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[40] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    s.reopen();
    assert!(s.report.is_whole());
    let _ = s.push("t", &[("a", &[(2_000_000, 7.0)])]).await;
    assert_eq!(s.flush(FlushScope::All).await, 1);
    assert_eq!(s.heads.damaged_chunks(), 1);
    let all = s.all("t").await;
    let of = |name: &str| all.iter().filter(|r| r.0 == name).count();
    assert!((800..1000).contains(&of("a")), "{}", of("a"));
    assert_eq!(of("b"), 1000);
    // The damaged bytes are kept although their file is gone.
    let kept = chunk_files(&s);
    let copies: Vec<_> = kept
        .iter()
        .filter(|f| f.to_str().unwrap().contains(".corrupt-"))
        .collect();
    assert_eq!(copies.len(), 1, "{kept:?}");
    assert!(!file.exists());
    s.reopen();
    assert_eq!(s.all("t").await.len(), all.len());
}

#[tokio::test]
async fn checkpoints_of_many_exemplars_and_metadata_have_bounded_records() {
    let mut s = Store::new(Limits {
        max_global_exemplars_per_user: 100_000,
        ..Limits::default()
    });
    let _ = s.push("t", &[("a", &[(0, 1.0)])]).await;
    let tenant = TenantId::new("t").unwrap();
    let head = s.heads.get(&tenant).unwrap();
    for n in 0..5000 {
        let labels = Labels::from_pairs([("trace_id", format!("{n:060}"))]).unwrap();
        let e = lgtm_core::model::Exemplar {
            labels,
            value: n as f64,
            t_ms: TimestampMs::new(START + n),
        };
        head.exemplars.lock().push(0, &e).unwrap();
        let m = lgtm_core::model::Metadata {
            help: "h".repeat(50),
            ..lgtm_core::model::Metadata::default()
        };
        let room = MetadataRoom::unbounded();
        head.metadata
            .lock()
            .put(&format!("metric_{n:05}"), &m, room);
    }
    drop(head);
    s.heads.checkpoint().await.unwrap();
    s.reopen();
    let head = s.heads.get(&tenant).unwrap();
    assert_eq!(head.exemplars.lock().len(), 5000);
    assert_eq!(s.heads.metadata(&tenant, None).len(), 5000);
    assert!(s.report.log.records > 12, "{}", s.report.log.records);
}

#[tokio::test]
async fn what_is_pushed_during_a_checkpoint_that_never_counts_has_its_anchor() {
    use lgtm_core::testing::{Crash, CrashDisk, DiskOperation};
    let mut s = Store::new(Limits::default());
    let open = |disk: &CrashDisk| {
        let clock = Arc::new(ManualClock::at_ms(START + 100 * HOUR));
        let limits = Overrides::fixed(Limits::default());
        let disk = Arc::new(disk.clone());
        let opened = Heads::open(disk, ".", HeadSettings::default(), limits, clock, 7);
        let (heads, log) = opened.unwrap();
        heads.replay(log).unwrap();
        Arc::new(heads)
    };
    let first = CrashDisk::new(1);
    s.heads = open(&first);
    let _ = s.push("t", &[("a", &[(0, 1.0)]), ("b", &[(0, 1.0)])]).await;
    // The next process knows both from the log alone; then it writes one of them.
    let second = first.crash(Crash::Process);
    s.heads = open(&second);
    let _ = s.push("t", &[("b", &[(1000, 2.0)])]).await;
    for t in [2000, 3000] {
        second.fail_next(DiskOperation::Rename, [io::ErrorKind::Other]);
        assert!(s.heads.checkpoint().await.is_err());
        let _ = s.push("t", &[("a", &[(t, 3.0)]), ("b", &[(t, 3.0)])]).await;
    }
    s.heads = open(&second.crash(Crash::Process));
    let mut want = rows("a", &[(0, 1.0), (2000, 3.0), (3000, 3.0)]);
    want.extend(rows(
        "b",
        &[(0, 1.0), (1000, 2.0), (2000, 3.0), (3000, 3.0)],
    ));
    assert_eq!(s.all("t").await, want);
}
