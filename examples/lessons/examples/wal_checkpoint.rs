//! A checkpoint keeps a log short without losing anything: a counter of words, which a crash in the middle of it does not harm.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use lgtm_core::clock::SystemClock;
use lgtm_core::disk::LocalDisk;
use lgtm_core::wal::{Wal, WalSettings};
use lgtm_core::{Error, Result};

/// A record of this kind adds one to the word that it holds.
const SEEN: u8 = 1;
/// A record of this kind says how often a word was seen so far: four bytes, then the word.
const TOTAL: u8 = 2;

struct Words {
    wal: Wal,
    counts: BTreeMap<Vec<u8>, u32>,
}

impl Words {
    /// Reads back what was committed. A log that was not read to its end takes no checkpoint.
    fn open(folder: &Path) -> Result<Self> {
        let disk = Arc::new(LocalDisk::new(folder));
        let clock = Arc::new(SystemClock::new());
        let (wal, log) = Wal::open(disk, "wal", WalSettings::default(), clock)?;
        let mut counts = BTreeMap::new();
        log.for_each(|record| {
            match (record.kind, record.payload.split_first_chunk::<4>()) {
                (SEEN, _) => *counts.entry(record.payload.to_vec()).or_default() += 1,
                (TOTAL, Some((count, word))) => {
                    counts.insert(word.to_vec(), u32::from_le_bytes(*count));
                }
                _ => return Err(Error::InvalidInput("a record of another program".into())),
            }
            Ok(())
        })?;
        Ok(Self { wal, counts })
    }

    async fn see(&mut self, word: &[u8]) -> Result<()> {
        // Memory first: a checkpoint that begins between the two finds the word there.
        *self.counts.entry(word.to_vec()).or_default() += 1;
        let position = self.wal.append(SEEN, word)?;
        self.wal.commit(position).await
    }

    async fn checkpoint(&self) -> Result<()> {
        // Cuts the log; what comes from now on stands behind the checkpoint.
        let mut checkpoint = self.wal.begin_checkpoint().await?;
        for (word, count) in &self.counts {
            checkpoint.append(TOTAL, &[&count.to_le_bytes(), word.as_slice()].concat())?;
        }
        // Only now the old segments go. Until here a crash finds them, and the half checkpoint is no more than a file to remove.
        checkpoint.finish()
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut words = Words::open(folder.path())?;
    for _ in 0..1000 {
        words.see(b"log").await?;
    }
    words.see(b"ring").await?;
    let before = words.wal.stats().size_bytes;
    words.checkpoint().await?;
    let after = words.wal.stats().size_bytes;
    assert!(after < before / 10, "{before} bytes became {after}");
    words.see(b"log").await?;

    // One that is begun and never finished changes nothing.
    let mut cut_off = words.wal.begin_checkpoint().await?;
    cut_off.append(TOTAL, b"\0\0\0\0log")?;
    drop(cut_off);
    drop(words);

    let words = Words::open(folder.path())?;
    assert_eq!(words.counts[b"log".as_slice()], 1001);
    assert_eq!(words.counts[b"ring".as_slice()], 1);
    Ok(())
}
