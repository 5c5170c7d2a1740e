//! Whether the logs in a bucket are what their index files say: all checksums, counts, times and references.

use std::collections::HashMap;

use futures::TryStreamExt;
use lgtm_core::exec::Executor;
use lgtm_core::storage::{BackendKind, Bucket, Fault, Findings};
use lgtm_core::{Error, Result};

use crate::bucket::{StoredIndex, key_of_object, list_index_files};
use crate::chunk::{ChunkKey, KeyForm};
use crate::compact::{CompactionMark, DeleteObject, DeleteRequest, DeleteState, LeavingChunks};
use crate::index::IndexUnpacker;
use crate::schema::SchemaPeriods;
use crate::skip::{chunk_hash, tenant_hash};

/// Bytes that an index file may unpack to.
const MAX_INDEX_BYTES: u64 = 8 << 30;
/// Bytes of packed index files from which on they are unpacked to a local file, if there is a folder for it.
const LOCAL_INDEX_BYTES: u64 = 16 << 20;
/// Chunks that are remembered, 24 bytes each: with more, chunks that several files name are read again.
const MAX_REMEMBERED: usize = 8 << 20;

/// What was found so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VerifiedLogs {
    /// Index files.
    pub index_files: u64,
    /// Streams, once for each file that names them.
    pub streams: u64,
    /// Chunks, each once.
    pub chunks: u64,
    /// Entries of these.
    pub entries: u64,
    /// Side objects.
    pub side_objects: u64,
    /// Bytes of all objects.
    pub bytes: u64,
}

/// What is known of a chunk that was read.
#[derive(Debug, Clone, Copy)]
pub(super) struct KnownChunk {
    pub(super) entries: u32,
    pub(super) object_bytes: u32,
}

/// Checks the logs of a bucket file by file. What is wrong goes into the findings that each call is given.
///
/// Costs a read of every object that is looked into; memory is that of one unpacked index file, the chunks under way, and 24 bytes for each
/// chunk up to some millions.
#[derive(Debug)]
pub struct LogVerifier {
    pub(super) bucket: Bucket,
    pub(super) side: Option<Bucket>,
    pub(super) periods: SchemaPeriods,
    pub(super) executor: Executor,
    pub(super) unpacker: IndexUnpacker,
    pub(super) seen: HashMap<u64, KnownChunk>,
    /// Not all chunks that were read are in `seen`.
    has_forgotten: bool,
    pub(super) found: VerifiedLogs,
}

impl LogVerifier {
    /// Of the logs in `bucket`, and the side objects in `side` if there is such a bucket.
    pub fn new(
        bucket: Bucket,
        side: Option<Bucket>,
        periods: SchemaPeriods,
        executor: Executor,
    ) -> Self {
        let unpacker =
            IndexUnpacker::new(executor.clone(), None, MAX_INDEX_BYTES, LOCAL_INDEX_BYTES);
        Self {
            bucket,
            side,
            periods,
            executor,
            unpacker,
            seen: HashMap::new(),
            has_forgotten: false,
            found: VerifiedLogs::default(),
        }
    }

    /// Unpacks large index files to an existing local folder rather than into memory.
    #[must_use]
    pub fn folder(mut self, folder: std::path::PathBuf) -> Self {
        let executor = self.executor.clone();
        self.unpacker =
            IndexUnpacker::new(executor, Some(folder), MAX_INDEX_BYTES, LOCAL_INDEX_BYTES);
        self
    }

    /// What was found so far.
    pub fn found(&self) -> VerifiedLogs {
        self.found
    }

    /// All index files, by day and tenant.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn index_files(&self) -> Result<Vec<StoredIndex>> {
        list_index_files(&self.bucket, &self.periods).await
    }

    /// The side objects.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn side_objects(&self) -> Result<Vec<String>> {
        let Some(side) = &self.side else {
            return Ok(Vec::new());
        };
        let objects = side.list_sorted("").await?;
        let is_side = |path: &&String| {
            let day = path.split_once('/').map(|(day, _)| day);
            day.is_some_and(|day| day.parse::<i64>().is_ok())
        };
        let paths: Vec<String> = objects.into_iter().map(|o| o.path).collect();
        Ok(paths.iter().filter(is_side).cloned().collect())
    }

    /// Checks the objects by which compactors and deletions remember what they do.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn marks(&mut self, findings: &mut Findings) -> Result<()> {
        for folder in [
            CompactionMark::FOLDER,
            LeavingChunks::FOLDER,
            DeleteRequest::FOLDER,
        ] {
            let mut objects = self.bucket.list(folder);
            while let Some(object) = objects.try_next().await? {
                let path = object.path;
                let bytes = self.bucket.get(&path).await;
                let decoded = bytes.and_then(|bytes| {
                    let decoded = match folder {
                        CompactionMark::FOLDER => CompactionMark::decode(&bytes).map(drop),
                        LeavingChunks::FOLDER => LeavingChunks::decode(&bytes).map(drop),
                        _ => match DeleteObject::parse(&path).map(|o| o.says) {
                            Some(DeleteState::Received) => DeleteRequest::decode(&bytes).map(drop),
                            _ => Ok(()),
                        },
                    };
                    decoded.map_err(|e| Error::corrupt(path.as_str(), e))
                });
                findings.good(&path, decoded)?;
            }
        }
        Ok(())
    }

    /// Names chunks that no index file names which was checked: written lately, or left behind. Says nothing when not all could be remembered.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn unlisted_chunks(&self, findings: &mut Findings) -> Result<()> {
        if self.has_forgotten {
            return Ok(());
        }
        let mut objects = self.bucket.list("");
        while let Some(object) = objects.try_next().await? {
            let Some(key) = key_of_object(&self.bucket, &object.path) else {
                continue;
            };
            if !self.seen.contains_key(&hash_of(&key)) {
                let detail = "no index file names this chunk";
                findings.add(object.path, Fault::Unlisted, detail);
            }
        }
        Ok(())
    }

    pub(super) fn remember(&mut self, key: &ChunkKey, known: KnownChunk) {
        if self.seen.len() >= MAX_REMEMBERED {
            self.seen.clear();
            self.has_forgotten = true;
        }
        self.seen.insert(hash_of(key), known);
    }
}

/// The names that a chunk's object may have, the likely one first.
pub(super) fn names_of(bucket: &Bucket, periods: &SchemaPeriods, key: &ChunkKey) -> [String; 2] {
    let form = KeyForm::of(periods.at(key.from_ms).schema);
    let other = match form {
        KeyForm::StreamFolders => KeyForm::Flat,
        KeyForm::Flat => KeyForm::StreamFolders,
    };
    [form, other].map(|form| match bucket.kind() {
        BackendKind::File => key.file_name(form),
        _ => key.object_name(form),
    })
}

pub(super) fn hash_of(key: &ChunkKey) -> u64 {
    let tenant = tenant_hash(&key.tenant);
    chunk_hash(tenant, key.fingerprint, key.from_ms, key.checksum)
}
