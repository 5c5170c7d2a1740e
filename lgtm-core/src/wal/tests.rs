//! The log against a real folder: what comes back, what damage costs, what a full disk does.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::clock::SystemClock;
use crate::disk::{Disk, DiskFile, DiskLock, LocalDisk};
use crate::error::ErrorKind;
use crate::units::ByteSize;

mod files;
mod room;

fn open(disk: Arc<dyn Disk>, settings: WalSettings) -> (Wal, WalReplay) {
    Wal::open(disk, "wal", settings, Arc::new(SystemClock::new())).unwrap()
}

fn folder() -> (tempfile::TempDir, Arc<dyn Disk>) {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(LocalDisk::new(dir.path()));
    (dir, disk)
}

fn small() -> WalSettings {
    WalSettings {
        segment_size: ByteSize::kib(4),
        ..WalSettings::default()
    }
}

fn read(replay: WalReplay) -> (Vec<(u8, Vec<u8>)>, ReplayReport) {
    let mut out = Vec::new();
    let report = replay.for_each(|r| {
        out.push((r.kind, r.payload.to_vec()));
        Ok(())
    });
    (out, report.unwrap())
}

async fn write(wal: &Wal, records: &[(u8, Vec<u8>)]) {
    for (kind, payload) in records {
        let lsn = wal.append(*kind, payload).unwrap();
        wal.commit(lsn).await.unwrap();
    }
}

fn records(n: u32) -> Vec<(u8, Vec<u8>)> {
    (0..n)
        .map(|i| {
            (
                (i % 7) as u8,
                format!("record {i} ")
                    .repeat((i % 90) as usize)
                    .into_bytes(),
            )
        })
        .collect()
}

fn segments(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut out: Vec<_> = std::fs::read_dir(dir.join("wal"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    out.retain(|p| {
        p.file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .parse::<u64>()
            .is_ok()
    });
    out.sort();
    out
}

#[tokio::test]
async fn records_come_back_in_order_over_many_segments() {
    let (dir, disk) = folder();
    let all = records(300);
    for half in [&all[..150], &all[150..]] {
        let (wal, _) = open(disk.clone(), small());
        write(&wal, half).await;
    }
    assert!(segments(dir.path()).len() > 5);
    let (_wal, replay) = open(disk, small());
    let (back, report) = read(replay);
    assert_eq!(back, all);
    assert_eq!(
        (report.records, report.torn_tail, report.set_aside.len()),
        (300, 0, 0)
    );
}

#[tokio::test]
async fn every_cut_of_the_tail_loses_only_what_was_cut() {
    let (dir, disk) = folder();
    let all = records(12);
    {
        let (wal, _) = open(disk, WalSettings::default());
        write(&wal, &all).await;
    }
    let path = segments(dir.path()).pop().unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for cut in 0..bytes.len() {
        let (other, disk) = folder();
        std::fs::create_dir_all(other.path().join("wal")).unwrap();
        std::fs::write(other.path().join("wal/00000001"), &bytes[..cut]).unwrap();
        let (_wal, replay) = open(disk, WalSettings::default());
        let (back, report) = read(replay);
        assert_eq!(back, all[..back.len()], "cut at {cut}");
        assert!(report.set_aside.is_empty(), "cut at {cut}: {report:?}");
        seen.insert(back.len());
    }
    assert_eq!(seen.len(), all.len(), "from none to all but the last");
}

#[tokio::test]
async fn a_flipped_bit_costs_its_own_frame_and_is_kept_on_disk() {
    let (dir, disk) = folder();
    let all = records(30);
    {
        let (wal, _) = open(disk, WalSettings::default());
        write(&wal, &all).await;
    }
    let path = segments(dir.path()).pop().unwrap();
    let bytes = std::fs::read(&path).unwrap();
    for at in (8..bytes.len()).step_by(13) {
        let (other, disk) = folder();
        std::fs::create_dir_all(other.path().join("wal")).unwrap();
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        std::fs::write(other.path().join("wal/00000001"), &damaged).unwrap();
        let (_wal, replay) = open(disk, WalSettings::default());
        let (back, report) = read(replay);
        assert_eq!(
            back.len(),
            all.len() - 1,
            "bit in byte {at}: every record was its own frame"
        );
        let missing = all
            .iter()
            .position(|r| !back.contains(r) || r.1.is_empty())
            .unwrap_or(0);
        assert_eq!(
            back[..missing.min(back.len())],
            all[..missing.min(back.len())]
        );
        let lost_tail = report.torn_tail > 0;
        assert!(
            lost_tail != (report.set_aside.len() == 1),
            "bit in byte {at}: {report:?}"
        );
        let kept = std::fs::read_dir(other.path().join("wal")).unwrap();
        let corrupt = kept
            .filter(|e| {
                e.as_ref()
                    .unwrap()
                    .file_name()
                    .to_str()
                    .unwrap()
                    .contains("corrupt")
            })
            .count();
        assert_eq!(
            corrupt,
            usize::from(!lost_tail),
            "what is set aside is kept"
        );
    }
}

#[tokio::test]
async fn a_checkpoint_takes_the_place_of_what_is_before_it() {
    let (dir, disk) = folder();
    let (wal, _) = open(disk.clone(), small());
    write(&wal, &records(100)).await;
    // One that is given up changes nothing.
    let mut lost = wal.begin_checkpoint().await.unwrap();
    lost.append(9, b"lost").unwrap();
    drop(lost);
    let mut checkpoint = wal.begin_checkpoint().await.unwrap();
    checkpoint.append(1, b"state").unwrap();
    write(&wal, &[(2, b"behind the cut".to_vec())]).await;
    checkpoint.finish().unwrap();
    drop(wal);
    assert_eq!(segments(dir.path()).len(), 1);
    let (_wal, replay) = open(disk, small());
    assert_eq!(
        read(replay).0,
        [(1, b"state".to_vec()), (2, b"behind the cut".to_vec())]
    );
}

/// A disk that takes so many bytes and then none until it gets more.
#[derive(Debug)]
struct FullDisk {
    inner: LocalDisk,
    room: Arc<AtomicU64>,
    fail_sync: bool,
}

#[derive(Debug)]
struct FullFile {
    inner: Box<dyn DiskFile>,
    room: Arc<AtomicU64>,
    fail_sync: bool,
}

impl Disk for FullDisk {
    fn create_dir_all(&self, dir: &str) -> io::Result<()> {
        self.inner.create_dir_all(dir)
    }
    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.inner.list(dir)
    }
    fn open_append(&self, path: &str) -> io::Result<Box<dyn DiskFile>> {
        let (inner, room) = (self.inner.open_append(path)?, self.room.clone());
        Ok(Box::new(FullFile {
            inner,
            room,
            fail_sync: self.fail_sync,
        }))
    }
    fn create_new(&self, path: &str) -> io::Result<Box<dyn DiskFile>> {
        let (inner, room) = (self.inner.create_new(path)?, self.room.clone());
        Ok(Box::new(FullFile {
            inner,
            room,
            fail_sync: self.fail_sync,
        }))
    }
    fn open_read(&self, path: &str) -> io::Result<Box<dyn DiskFile>> {
        self.inner.open_read(path)
    }
    fn lock(&self, dir: &str, holder: &str) -> io::Result<Box<dyn DiskLock>> {
        self.inner.lock(dir, holder)
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.inner.rename(from, to)
    }
    fn remove(&self, path: &str) -> io::Result<()> {
        self.inner.remove(path)
    }
    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.inner.sync_dir(dir)
    }
}

impl DiskFile for FullFile {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        let room = self.room.load(Ordering::SeqCst);
        let fits = (bytes.len() as u64).min(room) as usize;
        // As a real disk does: some of it is written before there is no more space.
        self.inner.append(&bytes[..fits])?;
        self.room.fetch_sub(fits as u64, Ordering::SeqCst);
        if fits < bytes.len() {
            Err(io::ErrorKind::StorageFull.into())
        } else {
            Ok(())
        }
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
        if self.fail_sync {
            Err(io::Error::other("the disk lost it"))
        } else {
            self.inner.sync()
        }
    }
}

#[tokio::test]
async fn a_full_disk_refuses_new_records_and_loses_none_that_it_took() {
    let dir = tempfile::tempdir().unwrap();
    let room = Arc::new(AtomicU64::new(2000));
    let disk: Arc<dyn Disk> = Arc::new(FullDisk {
        inner: LocalDisk::new(dir.path()),
        room: room.clone(),
        fail_sync: false,
    });
    let settings = WalSettings {
        retry_interval: Duration::from_millis(5),
        ..WalSettings::default()
    };
    let (wal, _) = open(disk, settings);
    let mut taken = Vec::new();
    let mut refused = None;
    for (kind, payload) in records(400) {
        match wal.append(kind, &payload) {
            Ok(lsn) => {
                taken.push((kind, payload));
                if let Err(e) = wal.commit(lsn).await {
                    refused = Some(e);
                    break;
                }
            }
            Err(e) => {
                refused = Some(e);
                break;
            }
        }
    }
    let refused = refused.expect("2,000 bytes are not enough");
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    assert!(wal.check_writable().is_err() && wal.stats().failing);
    room.store(1 << 30, Ordering::SeqCst);
    wal.commit(wal.end()).await.ok();
    while wal.stats().failing {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    write(&wal, &[(3, b"after".to_vec())]).await;
    taken.push((3, b"after".to_vec()));
    drop(wal);
    let (_wal, replay) = open(Arc::new(LocalDisk::new(dir.path())), WalSettings::default());
    let (back, report) = read(replay);
    assert_eq!(back, taken);
    assert!(report.set_aside.is_empty(), "{report:?}");
}

#[tokio::test]
async fn a_failed_sync_poisons_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let room = Arc::new(AtomicU64::new(1 << 30));
    {
        // The first segment is made while syncs still work.
        let (_wal, _) = open(Arc::new(LocalDisk::new(dir.path())), WalSettings::default());
    }
    let disk: Arc<dyn Disk> = Arc::new(FullDisk {
        inner: LocalDisk::new(dir.path()),
        room,
        fail_sync: true,
    });
    let settings = WalSettings {
        sync: SyncPolicy::Os,
        ..WalSettings::default()
    };
    let (wal, _) = open(disk.clone(), settings);
    write(&wal, &[(1, b"fine".to_vec())]).await;
    drop(wal);
    let interval = WalSettings {
        sync: SyncPolicy::Interval(Duration::from_millis(1)),
        ..WalSettings::default()
    };
    let opened = Wal::open(disk, "wal", interval, Arc::new(SystemClock::new()));
    assert!(
        opened.is_err(),
        "a segment that cannot be synced is no segment"
    );
}

#[tokio::test]
async fn many_appenders_share_groups_and_all_come_back() {
    let (_dir, disk) = folder();
    let (wal, _) = open(disk.clone(), WalSettings::default());
    let wal = Arc::new(wal);
    let tasks: Vec<_> = (0..8u8)
        .map(|task| {
            let wal = wal.clone();
            async move {
                for i in 0..50u8 {
                    let lsn = wal.append(task, &[i]).unwrap();
                    wal.commit(lsn).await.unwrap();
                }
            }
        })
        .collect();
    futures::future::join_all(tasks).await;
    assert!(wal.stats().frames <= 400);
    drop(wal);
    let (_wal, replay) = open(disk, WalSettings::default());
    let (back, _) = read(replay);
    for task in 0..8u8 {
        let of: Vec<u8> = back
            .iter()
            .filter(|r| r.0 == task)
            .map(|r| r.1[0])
            .collect();
        assert_eq!(of, (0..50).collect::<Vec<u8>>());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]
    #[test]
    fn arbitrary_files_are_no_reason_to_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), header: bool) {
        let (dir, disk) = folder();
        std::fs::create_dir_all(dir.path().join("wal")).unwrap();
        let mut file = if header { b"LGTMWAL\x01LGWF".to_vec() } else { Vec::new() };
        file.extend_from_slice(&bytes);
        std::fs::write(dir.path().join("wal/00000001"), &file).unwrap();
        let (_wal, replay) = open(disk, WalSettings::default());
        prop_assert_eq!(read(replay).0.len(), 0);
    }
}
