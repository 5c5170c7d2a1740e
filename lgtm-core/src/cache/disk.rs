//! Values in files of this machine, over the crate `foyer`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use foyer::{
    BlockEngineConfig, Code, DeviceBuilder, FsDeviceBuilder, HybridCache, HybridCacheBuilder,
    HybridCachePolicy, PsyncIoEngineConfig, RecoverMode, Spawner,
};
use futures::future::join_all;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::cache::cache::{Cache, CacheStats, is_plain_key};
use crate::cache::counts::CacheCounts;
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::exec::TaskGroup;
use crate::units::ByteSize;

/// How large a [`DiskCache`] is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DiskCacheSettings {
    /// Bytes of the files, in a folder of the cache's name below that of the data. Default 10GiB. At least 128MiB.
    pub max_bytes: ByteSize,
    /// Memory for values that were used last, and that wait to be written. Default 64MiB. Buffers of writes take 48MiB beside it.
    pub memory_size: ByteSize,
    /// Bytes of a value; larger ones are not stored, and no file can be smaller. Default 4MiB.
    pub max_item_size: ByteSize,
}

impl Default for DiskCacheSettings {
    fn default() -> Self {
        Self {
            max_bytes: ByteSize::gib(10),
            memory_size: ByteSize::mib(64),
            max_item_size: ByteSize::mib(4),
        }
    }
}

/// Bytes of a file, in which values are written one after the other and leave together.
const FILE_BYTES: usize = 16 << 20;
/// Bytes of values that are on their way to a file; more are dropped.
const BUFFER_BYTES: usize = 16 << 20;
/// Bytes that a value takes beside itself and its key.
const ENTRY_OVERHEAD_BYTES: usize = 256;

impl DiskCacheSettings {
    /// Checks that there is room for some files.
    ///
    /// # Errors
    /// `InvalidInput`, naming the setting.
    pub fn validate(&self) -> Result<()> {
        let bad = |why: String| Err(Error::InvalidInput(format!("disk: {why}")));
        if self.max_bytes.as_usize() < 8 * FILE_BYTES {
            return bad(format!(
                "max_bytes is {}, must be at least 128MiB",
                self.max_bytes
            ));
        }
        if self.memory_size.as_usize() < 1 << 20 {
            return bad(format!(
                "memory_size is {}, must be at least 1MiB",
                self.memory_size
            ));
        }
        let item = self.max_item_size.as_usize();
        if !(1..=FILE_BYTES / 2).contains(&item) {
            return bad(format!(
                "max_item_size is {}, must be 1 byte to 8MiB",
                self.max_item_size
            ));
        }
        Ok(())
    }
}

/// Values on the local disk, with those that were used last in memory before it.
///
/// The files are opened in the background; until that is done everything is a miss. They survive a restart: what was there when
/// [`Cache::close`] was called is found again. After a kill what was in memory only is lost, and a key may have an older value, or one that was deleted
/// a moment before: keep under a key only what never changes, or what tells its age. A file that is damaged, cut short or gone costs the values in it;
/// files that cannot be opened at all are made anew. Nobody else may use the folder.
#[derive(Debug)]
pub struct DiskCache {
    name: String,
    clock: Arc<dyn Clock>,
    counts: CacheCounts,
    max_item_bytes: usize,
    opening: watch::Receiver<Opening>,
    /// Cleared when it is closed.
    is_closed: Mutex<bool>,
    tasks: TaskGroup,
}

#[derive(Clone, Default)]
enum Opening {
    #[default]
    UnderWay,
    Open(HybridCache<String, DiskValue>),
    Failed,
}

impl std::fmt::Debug for Opening {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::UnderWay => "UnderWay",
            Self::Open(_) => "Open",
            Self::Failed => "Failed",
        })
    }
}

/// A value with the moment at which its time is over, of the wall clock; as bytes that moment in milliseconds (8, little endian), the length of the
/// value (4), and the value.
#[derive(Debug, Clone)]
struct DiskValue {
    expires_ms: i64,
    bytes: Bytes,
}

impl Code for DiskValue {
    fn encode(&self, writer: &mut impl std::io::Write) -> foyer::Result<()> {
        let length = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        let put = |writer: &mut dyn std::io::Write| {
            writer.write_all(&self.expires_ms.to_le_bytes())?;
            writer.write_all(&length.to_le_bytes())?;
            writer.write_all(&self.bytes)
        };
        put(writer).map_err(foyer::Error::io_error)
    }

    fn decode(reader: &mut impl std::io::Read) -> foyer::Result<Self> {
        let take = |reader: &mut dyn std::io::Read| {
            let (mut expires, mut length) = ([0; 8], [0; 4]);
            reader.read_exact(&mut expires)?;
            reader.read_exact(&mut length)?;
            let length = u32::from_le_bytes(length) as usize;
            if length > FILE_BYTES {
                return Err(std::io::ErrorKind::InvalidData.into());
            }
            let mut bytes = vec![0; length];
            reader.read_exact(&mut bytes)?;
            Ok(Self {
                expires_ms: i64::from_le_bytes(expires),
                bytes: bytes.into(),
            })
        };
        take(reader).map_err(foyer::Error::io_error)
    }

    fn estimated_size(&self) -> usize {
        12 + self.bytes.len()
    }
}

impl DiskCache {
    /// A cache in `folder`, which is made if need be. Opens it on `runtime`.
    ///
    /// # Errors
    /// `InvalidInput` for settings out of bounds.
    pub fn new(
        name: &str,
        settings: &DiskCacheSettings,
        folder: PathBuf,
        clock: Arc<dyn Clock>,
        runtime: Handle,
    ) -> Result<Self> {
        settings.validate()?;
        let (opened, opening) = watch::channel(Opening::UnderWay);
        let tasks = TaskGroup::new(runtime.clone());
        let (owned, settings_of) = (name.to_owned(), settings.clone());
        // The group joins it.
        drop(tasks.spawn("disk cache opens", async move {
            let state = match open(&owned, &settings_of, &folder, &runtime).await {
                Ok(cache) => Opening::Open(cache),
                Err(error) => {
                    tracing::error!(%error, cache = owned, folder = %folder.display(), "cache on disk cannot be opened: everything is a miss");
                    Opening::Failed
                }
            };
            // The cache may have been dropped meanwhile.
            let _ = opened.send(state);
        }));
        Ok(Self {
            name: name.to_owned(),
            clock,
            counts: CacheCounts::default(),
            max_item_bytes: settings.max_item_size.as_usize(),
            opening,
            is_closed: Mutex::new(false),
            tasks,
        })
    }

    /// Waits until the files are open, or cannot be opened: whether they are.
    pub async fn opened(&self) -> bool {
        let mut opening = self.opening.clone();
        let is_over = |state: &Opening| !matches!(state, Opening::UnderWay);
        let state = opening.wait_for(is_over).await;
        state.is_ok_and(|state| matches!(*state, Opening::Open(_)))
    }

    fn cache(&self) -> Option<HybridCache<String, DiskValue>> {
        if *self.is_closed.lock() {
            return None;
        }
        match &*self.opening.borrow() {
            Opening::Open(cache) => Some(cache.clone()),
            _ => None,
        }
    }

    async fn get_one(
        &self,
        cache: &HybridCache<String, DiskValue>,
        key: &str,
        now_ms: i64,
    ) -> Option<Bytes> {
        match cache.get(key).await {
            Ok(found) => {
                let value = found?;
                (value.expires_ms > now_ms).then(|| value.bytes.clone())
            }
            Err(error) => {
                tracing::debug!(%error, key, "value on disk is passed over");
                self.counts.failed(1);
                None
            }
        }
    }
}

/// Takes a key out. A value that is on its way to a file is found until it has arrived there, so that is waited for.
async fn forget(cache: &HybridCache<String, DiskValue>, key: &str) {
    cache.remove(key);
    if cache.contains(key) {
        cache.storage().wait().await;
    }
}

async fn open(
    name: &str,
    settings: &DiskCacheSettings,
    folder: &Path,
    runtime: &Handle,
) -> std::result::Result<HybridCache<String, DiskValue>, foyer::Error> {
    match try_open(name, settings, folder, runtime).await {
        Ok(cache) => Ok(cache),
        Err(error) => {
            tracing::warn!(%error, cache = name, folder = %folder.display(), "files of the cache cannot be read; they are made anew");
            let folder = folder.to_owned();
            let anew = folder.clone();
            let removed = runtime
                .spawn_blocking(move || std::fs::remove_dir_all(&anew))
                .await;
            if !matches!(removed, Ok(Ok(()))) {
                return Err(error);
            }
            try_open(name, settings, &folder, runtime).await
        }
    }
}

async fn try_open(
    name: &str,
    settings: &DiskCacheSettings,
    folder: &Path,
    runtime: &Handle,
) -> std::result::Result<HybridCache<String, DiskValue>, foyer::Error> {
    let builder = FsDeviceBuilder::new(folder).with_capacity(settings.max_bytes.as_usize());
    let device = runtime.spawn_blocking(move || builder.build()).await;
    let device = device.map_err(|e| foyer::Error::io_error(std::io::Error::other(e)))??;
    let engine = BlockEngineConfig::new(device)
        .with_block_size(FILE_BYTES)
        .with_buffer_pool_size(BUFFER_BYTES)
        .with_submit_queue_size_threshold(2 * BUFFER_BYTES)
        // Without it what was deleted would come back at the next start.
        .with_tombstone_log(true);
    HybridCacheBuilder::new()
        .with_name(name.to_owned())
        // What comes once and is not asked for again leaves the memory first; a kill loses what is only there.
        .with_policy(HybridCachePolicy::WriteOnInsertion)
        .with_flush_on_close(true)
        .memory(settings.memory_size.as_usize())
        .with_weighter(|key: &String, value: &DiskValue| {
            key.len() + value.bytes.len() + ENTRY_OVERHEAD_BYTES
        })
        .storage()
        .with_io_engine_config(PsyncIoEngineConfig::new())
        .with_engine_config(engine)
        .with_recover_mode(RecoverMode::Quiet)
        .with_spawner(Spawner::from(runtime.clone()))
        .build()
        .await
}

#[async_trait]
impl Cache for DiskCache {
    fn name(&self) -> &str {
        &self.name
    }

    async fn get_many(&self, keys: &[&str]) -> Vec<Option<Bytes>> {
        let found = match self.cache() {
            None => vec![None; keys.len()],
            Some(cache) => {
                let now_ms = self.clock.now_ms().get();
                let gets = keys.iter().map(|key| self.get_one(&cache, key, now_ms));
                join_all(gets).await
            }
        };
        self.counts.answered(&found);
        found
    }

    async fn set(&self, key: &str, value: Bytes, ttl: Option<Duration>) {
        let Some(cache) = self.cache() else {
            return self.counts.skipped(1);
        };
        if value.len() > self.max_item_bytes || !is_plain_key(key) {
            self.counts.skipped(1);
            return forget(&cache, key).await;
        }
        // An older value must not be found on disk where the writer drops the new one.
        cache.remove(key);
        let ttl_ms = ttl.map(|ttl| i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX));
        let now_ms = self.clock.now_ms().get();
        let value = DiskValue {
            expires_ms: ttl_ms.map_or(i64::MAX, |ttl_ms| now_ms.saturating_add(ttl_ms)),
            // A copy: `value` may be a slice that keeps a far larger buffer alive.
            bytes: Bytes::copy_from_slice(&value),
        };
        drop(cache.insert(key.to_owned(), value));
        self.counts.stored(1);
    }

    async fn delete(&self, key: &str) {
        if let Some(cache) = self.cache() {
            forget(&cache, key).await;
        }
    }

    async fn close(&self) {
        let opened = self.opened().await;
        let open = self.cache();
        *self.is_closed.lock() = true;
        if let Some(cache) = open.filter(|_| opened)
            && let Err(error) = cache.close().await
        {
            tracing::warn!(%error, cache = self.name, "cache on disk was not closed well");
        }
        if let Err(error) = self.tasks.shutdown().await {
            tracing::error!(%error, cache = self.name, "a task of the cache ended before it was closed");
        }
    }

    fn stats(&self) -> CacheStats {
        let mut stats = self.counts.stats();
        if let Some(cache) = self.cache() {
            stats.bytes = cache.memory().usage() as u64;
        }
        stats
    }
}

#[cfg(test)]
mod tests;
