//! Settings of reading and writing the bucket.

use std::time::Duration;

use lgtm_core::units::ByteSize;
use lgtm_core::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::skip::SkipSettings;

/// How index files and chunks are read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BucketSettings {
    /// How often the tables of the last days are listed for index files of others. Default 5m, Loki's.
    #[serde(with = "lgtm_core::units::duration")]
    pub sync_interval: Duration,
    /// How often all tables are listed. Default 1h: old tables change only when they are compacted again or their retention ends.
    #[serde(with = "lgtm_core::units::duration")]
    pub full_sync_interval: Duration,
    /// Tables, from tomorrow's back, that every sync lists. Default 3: today's and those that late data still reach.
    pub recent_tables: u32,
    /// Index files that are known at most; a listing beyond it is refused. Default 500000, which is some 100 MB of names.
    pub max_index_files: usize,
    /// Tables that are listed, and index files that a query opens, at the same time. Default 16.
    pub index_concurrency: usize,
    /// Unpacked index files that are kept in memory, all together. Default 64MiB; a single larger one is still read, alone. A quarter
    /// as much holds what selectors found in them lately.
    pub index_memory: ByteSize,
    /// Index files that are kept open. Default 256.
    pub max_open_index_files: usize,
    /// Bytes that one index file may unpack to. Default 2GiB, a day of some ten million chunks.
    pub max_index_file_size: ByteSize,
    /// Packed size from which on index files are unpacked to the local folder, if there is one, instead of to memory. Default 2MiB.
    pub local_index_file_size: ByteSize,
    /// Chunks that one query loads at the same time. Default 16: what hides the delay of an object store.
    pub chunk_concurrency: usize,
    /// Loaded chunks that one query keeps until their blocks have had their turn. Default 32MiB; beyond it those that come last are let go
    /// and loaded again.
    pub chunk_memory: ByteSize,
    /// Chunks that are kept in memory when they were loaded, all queries together, unless the bucket is a local folder, which the system keeps in memory
    /// anyway. Default 64MiB; 0: none.
    pub chunk_cache_size: ByteSize,
    /// What is kept in memory of side files, all queries together; those of about 30 times as many bytes of chunks. Default 32MiB: a day of some 10 GB
    /// of logs; beyond it they are loaded again.
    pub side_memory: ByteSize,
    /// Blocks of a batch. Default 16, some 4 MiB of lines as writers cut blocks.
    pub batch_blocks: usize,
}

impl Default for BucketSettings {
    fn default() -> Self {
        Self {
            sync_interval: Duration::from_secs(5 * 60),
            full_sync_interval: Duration::from_secs(60 * 60),
            recent_tables: 3,
            max_index_files: 500_000,
            index_concurrency: 16,
            index_memory: ByteSize::mib(64),
            max_open_index_files: 256,
            max_index_file_size: ByteSize::mib(2048),
            local_index_file_size: ByteSize::mib(2),
            chunk_concurrency: 16,
            chunk_memory: ByteSize::mib(32),
            chunk_cache_size: ByteSize::mib(64),
            side_memory: ByteSize::mib(32),
            batch_blocks: 16,
        }
    }
}

impl BucketSettings {
    /// Checks the settings.
    ///
    /// # Errors
    /// `InvalidInput` naming the field that is zero.
    pub fn validate(&self) -> Result<()> {
        let sizes = [
            ("recent_tables", self.recent_tables as usize),
            ("max_index_files", self.max_index_files),
            ("index_concurrency", self.index_concurrency),
            ("max_open_index_files", self.max_open_index_files),
            ("chunk_concurrency", self.chunk_concurrency),
            ("batch_blocks", self.batch_blocks),
            ("sync_interval", self.sync_interval.as_millis() as usize),
            (
                "full_sync_interval",
                self.full_sync_interval.as_millis() as usize,
            ),
        ];
        match sizes.iter().find(|(_, size)| *size == 0) {
            Some((field, _)) => Err(Error::InvalidInput(format!("{field} is 0, must be more"))),
            None => Ok(()),
        }
    }
}

/// How chunks and index files are written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BucketWriterSettings {
    /// Chunks that are put into the store at the same time. Default 16: Loki's `concurrent_flushes`.
    pub put_concurrency: usize,
    /// Whether the store is asked for a chunk before it is put there. Default false: it costs a request a chunk, and pays only where
    /// replicas write the same chunks and bytes cost more than requests.
    pub skip_existing: bool,
    /// What is written beside chunks, where there is a place for it.
    pub side_files: SkipSettings,
}

impl Default for BucketWriterSettings {
    fn default() -> Self {
        Self {
            put_concurrency: 16,
            skip_existing: false,
            side_files: SkipSettings::default(),
        }
    }
}

impl BucketWriterSettings {
    /// Checks the settings.
    ///
    /// # Errors
    /// `InvalidInput` when `put_concurrency` is 0; those of [`SkipSettings::validate`].
    pub fn validate(&self) -> Result<()> {
        self.side_files.validate()?;
        if self.put_concurrency == 0 {
            return Err(Error::InvalidInput(
                "put_concurrency is 0, must be more".to_owned(),
            ));
        }
        Ok(())
    }
}
