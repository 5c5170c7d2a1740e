//! The write-ahead log: one per process and signal. See `docs/format/wal.md`.
//!
//! Records are opaque; the stores put tenants and data into them. [`Wal::append`] copies a record into the group that is being
//! collected, [`Wal::commit`] waits until it is written: one thread writes whole groups, each as one frame with a checksum.
//!
//! [`BlobFiles`] are the local files in which heads keep what is finished, so that it leaves memory; the log's checkpoints name it by place. [`Generations`] tell which readers may still need
//! what a flush has moved to the object store.

mod blob_files;
mod checkpoint;
mod frame;
mod generation;
mod metrics;
mod names;
mod replay;
mod reservation;
mod settings;
mod shared;
mod tail;
mod wal;
mod writer;

#[cfg(test)]
mod tests;

pub use blob_files::{BlobFiles, BlobPlace};
pub use checkpoint::Checkpoint;
pub use generation::{ChunkState, Generations, Snapshot};
pub use replay::{RecordRef, ReplayProgress, ReplayReport, SetAside, WalReplay};
pub use reservation::Reservation;
pub use settings::{SyncPolicy, WalSettings};
pub use wal::{Lsn, Refusal, Wal, WalStats, check_log_ready};
