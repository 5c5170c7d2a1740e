//! Room in the buffer: who gets it, who waits, who can never have it.

use super::*;
use crate::clock::ManualClock;
use parking_lot::{Condvar, Mutex};

/// A disk whose appends wait until they are let go, and fail when told to.
#[derive(Debug, Default)]
struct Gate {
    state: Mutex<(bool, bool)>,
    moved: Condvar,
}

impl Gate {
    fn set(&self, held: bool, fails: bool) {
        *self.state.lock() = (held, fails);
        self.moved.notify_all();
    }

    fn pass(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        while state.0 {
            self.moved.wait(&mut state);
        }
        if state.1 {
            Err(io::ErrorKind::StorageFull.into())
        } else {
            Ok(())
        }
    }
}

#[derive(Debug)]
struct GatedDisk(LocalDisk, Arc<Gate>);

#[derive(Debug)]
struct GatedFile(Box<dyn DiskFile>, Arc<Gate>);

impl Disk for GatedDisk {
    fn create_dir_all(&self, dir: &str) -> io::Result<()> {
        self.0.create_dir_all(dir)
    }
    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.0.list(dir)
    }
    fn open_append(&self, path: &str) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(GatedFile(
            self.0.open_append(path)?,
            self.1.clone(),
        )))
    }
    fn create_new(&self, path: &str) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(GatedFile(
            self.0.create_new(path)?,
            self.1.clone(),
        )))
    }
    fn open_read(&self, path: &str) -> io::Result<Box<dyn DiskFile>> {
        self.0.open_read(path)
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(from, to)
    }
    fn remove(&self, path: &str) -> io::Result<()> {
        self.0.remove(path)
    }
    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.0.sync_dir(dir)
    }
    fn lock(&self, dir: &str, holder: &str) -> io::Result<Box<dyn DiskLock>> {
        self.0.lock(dir, holder)
    }
}

impl DiskFile for GatedFile {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        self.1.pass()?;
        self.0.append(bytes)
    }
    fn read_exact_at(&self, out: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(out, offset)
    }
    fn size(&self) -> io::Result<u64> {
        self.0.size()
    }
    fn truncate(&self, len: u64) -> io::Result<()> {
        self.0.truncate(len)
    }
    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }
}

const MAX: u64 = 64 << 10;

fn gated() -> (tempfile::TempDir, Arc<Gate>, Arc<ManualClock>, Wal) {
    let dir = tempfile::tempdir().unwrap();
    let (gate, clock) = (
        Arc::new(Gate::default()),
        Arc::new(ManualClock::at_ms(1_000)),
    );
    let disk = GatedDisk(LocalDisk::new(dir.path()), gate.clone());
    let settings = WalSettings {
        max_buffered: ByteSize::bytes(MAX),
        retry_interval: Duration::from_millis(2),
        ..WalSettings::default()
    };
    let (wal, _) = Wal::open(Arc::new(disk), "wal", settings, clock.clone()).unwrap();
    (dir, gate, clock, wal)
}

#[tokio::test]
async fn what_can_never_fit_is_refused_at_once_and_blocks_nobody() {
    let (_dir, _gate, _clock, wal) = gated();
    let huge = vec![1; MAX as usize + 1];
    for refused in [
        wal.append(1, &huge).map(drop),
        wal.reserve(MAX + 1).await.map(drop),
    ] {
        let refused = refused.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::LimitExceeded);
        assert!(refused.to_string().contains("max_buffered"), "{refused}");
    }
    assert_eq!(wal.refusal(), None);
    write(&wal, &[(1, b"another's".to_vec())]).await;
}

#[tokio::test(start_paused = true)]
async fn room_is_waited_for_a_moment_and_told_of_when_it_does_not_come() {
    let (_dir, _gate, clock, wal) = gated();
    let all = wal.reserve(MAX).await.unwrap();
    assert!(wal.append(1, b"x").is_err());
    let refused = wal.reserve(100).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    clock.advance(Duration::from_secs(3));
    let refusal = wal.refusal().unwrap();
    assert_eq!(refusal.lasted, Duration::from_secs(3));
    assert!(refusal.reason.contains("max_buffered"), "{refusal:?}");
    // Whoever waits gets the room that another gives back.
    let (got, ()) = tokio::join!(wal.reserve(MAX), async {
        tokio::task::yield_now().await;
        drop(all);
    });
    assert_eq!(got.unwrap().bytes(), MAX);
    assert_eq!(wal.refusal(), None);
}

#[tokio::test]
async fn what_was_given_room_is_taken_whatever_the_disk_does_and_written_in_order_when_it_is_well()
{
    let (dir, gate, clock, wal) = gated();
    write(&wal, &[(1, b"0".to_vec())]).await;
    let mut room = wal.reserve(1000).await.unwrap();
    let mut later = wal.reserve(1000).await.unwrap();
    gate.set(false, true);
    let first = room.append_all(&[(1, b"1")]);
    let refused = wal.commit(first).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    // The disk failed between reservation and append.
    let second = later.append_all(&[(1, b"2"), (1, b"3")]);
    assert!(wal.commit(second).await.is_err());
    assert!(wal.reserve(10).await.is_err() && wal.append(1, b"no").is_err());
    clock.advance(Duration::from_secs(5));
    let refusal = wal.refusal().unwrap();
    assert!(
        refusal.lasted >= Duration::from_secs(5) && refusal.reason.contains("trying again"),
        "{refusal:?}"
    );
    gate.set(false, false);
    while wal.refusal().is_some() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    wal.commit(second).await.unwrap();
    write(&wal, &[(1, b"4".to_vec())]).await;
    drop((room, later));
    drop(wal);
    let (_wal, replay) = open(Arc::new(LocalDisk::new(dir.path())), WalSettings::default());
    let back: Vec<Vec<u8>> = read(replay).0.into_iter().map(|r| r.1).collect();
    assert_eq!(back, [b"0", b"1", b"2", b"3", b"4"]);
}

#[tokio::test]
async fn a_slow_disk_bounds_what_waits() {
    let (_dir, gate, _clock, wal) = gated();
    gate.set(true, false);
    let mut taken = Vec::new();
    let piece = vec![7; 1000];
    while let Ok(lsn) = wal.append(1, &piece) {
        taken.push(lsn);
        assert!(
            taken.len() < 200,
            "the writer holds one group, the buffer another"
        );
    }
    let waiting = async { wal.reserve(2000).await.map(|r| r.bytes()) };
    let (room, ()) = tokio::join!(waiting, async {
        tokio::task::yield_now().await;
        gate.set(false, false);
    });
    assert_eq!(room.unwrap(), 2000);
    wal.commit(*taken.last().unwrap()).await.unwrap();
}
