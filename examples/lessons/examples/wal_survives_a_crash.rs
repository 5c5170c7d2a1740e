//! What a write-ahead log promises: once `commit` returned, the record is there after any end of the process.

use std::sync::Arc;

use lgtm_core::Result;
use lgtm_core::clock::SystemClock;
use lgtm_core::disk::LocalDisk;
use lgtm_core::wal::{Wal, WalSettings};

#[tokio::main]
async fn main() -> Result<()> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let disk = Arc::new(LocalDisk::new(folder.path()));
    let clock = Arc::new(SystemClock::new());

    {
        let (wal, _nothing_yet) =
            Wal::open(disk.clone(), "wal", WalSettings::default(), clock.clone())?;
        // `append` only collects: several writers' records are written together as one group.
        wal.append(1, b"first")?;
        let position = wal.append(1, b"second")?;
        // `commit` waits until the group is written. Now an answer may be sent.
        wal.commit(position).await?;
    }

    // The process dies while a third record is being written: half a frame is at the end of the file.
    let segment = folder.path().join("wal/00000001");
    let mut bytes = std::fs::read(&segment).expect("the segment");
    bytes.extend_from_slice(b"LGWF half a frame");
    std::fs::write(&segment, bytes).expect("the segment");

    // The next start reads what was committed, cuts off the rest, and says so.
    let (_wal, log) = Wal::open(disk, "wal", WalSettings::default(), clock)?;
    let mut records = Vec::new();
    let report = log.for_each(|record| {
        records.push(record.payload.to_vec());
        Ok(())
    })?;
    assert_eq!(records, [b"first".to_vec(), b"second".to_vec()]);
    assert_eq!(report.torn_tail, 17);
    Ok(())
}
