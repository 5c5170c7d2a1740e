//! The reference: a store written as simply as can be that keeps every promise. It shows how to run the suite, and what the suite's own
//! tests sabotage.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use tokio::sync::Mutex;

use super::store::{Answer, Entry, Ground, StoreOpener, StoreUnderTest};
use crate::codec::crc32c;
use crate::disk::{Disk, DiskFile};
use crate::error::{Error, Result};
use crate::model::{TenantId, TimeRange};
use crate::testing::{CrashDisk, FaultyStore};
use crate::timestamp::TimestampMs;

/// Entries in memory at which house keeping flushes.
const FLUSH_AT: usize = 60;

/// Opens a [`ModelStore`].
#[derive(Debug, Clone)]
pub struct ModelOpener {
    /// Whether the log is synced before a push is acknowledged.
    pub durable: bool,
}

/// A store with one lock around everything: a log of lines on the disk, entries in memory, lines in objects. Whoever asks reads all
/// objects of the tenant.
#[derive(Debug)]
pub struct ModelStore {
    disk: CrashDisk,
    objects: FaultyStore,
    durable: bool,
    state: Mutex<Option<State>>,
}

/// What there is after recovery.
#[derive(Debug)]
struct State {
    memory: BTreeMap<TenantId, BTreeMap<(TimestampMs, u32), Entry>>,
    /// The file that pushes are appended to; none: the next push begins one with all that memory holds.
    log: Option<Arc<dyn DiskFile>>,
    next_file: u64,
}

/// `CHECKSUM TENANT STREAM:TIME:VALUE ...`
fn line(tenant: &TenantId, entries: impl IntoIterator<Item = Entry>) -> String {
    let mut body = tenant.to_string();
    for e in entries {
        body += &format!(" {}:{}:{}", e.stream, e.time_ms, e.value);
    }
    format!("{:08x} {body}\n", crc32c(body.as_bytes()))
}

/// A line that is whole.
fn parse(line: &str) -> Option<(TenantId, Vec<Entry>)> {
    let (sum, body) = line.strip_suffix('\n')?.split_once(' ')?;
    if u32::from_str_radix(sum, 16).ok()? != crc32c(body.as_bytes()) {
        return None;
    }
    let (tenant, entries) = body.split_once(' ')?;
    let entry = |text: &str| {
        let mut fields = text.split(':');
        Some(Entry {
            stream: fields.next()?.parse().ok()?,
            time_ms: TimestampMs::new(fields.next()?.parse().ok()?),
            value: fields.next()?.parse().ok()?,
        })
    };
    let entries: Option<Vec<_>> = entries.split(' ').map(entry).collect();
    Some((TenantId::new(tenant).ok()?, entries?))
}

fn unavailable(what: &str) -> impl FnOnce(std::io::Error) -> Error {
    move |e| Error::Unavailable(format!("{what}: {e}"))
}

impl StoreOpener for ModelOpener {
    type Store = ModelStore;

    async fn open(&self, ground: &Ground) -> Result<ModelStore> {
        ground
            .disk
            .create_dir_all("log")
            .and_then(|()| ground.disk.sync_dir("."))
            .map_err(unavailable("folder of the log"))?;
        Ok(ModelStore {
            disk: ground.disk.clone(),
            objects: ground.objects.clone(),
            durable: self.durable,
            state: Mutex::default(),
        })
    }

    fn survives_power_loss(&self) -> bool {
        self.durable
    }
}

impl ModelStore {
    /// Numbers of the log's files.
    fn log_files(&self) -> std::io::Result<Vec<u64>> {
        let names = self.disk.list("log")?;
        let mut numbers: Vec<u64> = names.iter().filter_map(|n| n.parse().ok()).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Writes a file with all that memory holds, then removes those before it.
    fn begin_log(&self, state: &mut State) -> std::io::Result<()> {
        state.log = None;
        let number = state.next_file;
        let before = self.log_files()?;
        let file = self.disk.open_append("log/new")?;
        file.truncate(0)?;
        for (tenant, entries) in &state.memory {
            if !entries.is_empty() {
                file.append(line(tenant, entries.values().copied()).as_bytes())?;
            }
        }
        file.sync()?;
        self.disk.rename("log/new", &format!("log/{number:04}"))?;
        self.disk.sync_dir("log")?;
        state.next_file += 1;
        state.log = Some(file.into());
        for old in before {
            self.disk.remove(&format!("log/{old:04}"))?;
        }
        Ok(())
    }

    /// Appends a line to the log.
    fn log(&self, state: &mut State, line: &str) -> std::io::Result<()> {
        if state.log.is_none() {
            self.begin_log(state)?;
        }
        let Some(file) = state.log.clone() else {
            return Err(std::io::Error::other("the log has no file"));
        };
        // After an error nobody knows what the file holds: the next push begins another.
        state.log = None;
        file.append(line.as_bytes())?;
        if self.durable {
            file.sync()?;
        }
        state.log = Some(file);
        Ok(())
    }

    /// The lines of an object; read again once when a line is damaged.
    async fn read_object(&self, path: &Path) -> Result<Vec<Entry>, String> {
        let mut fault = String::new();
        for _ in 0..2 {
            let read = async { self.objects.get(path).await?.bytes().await };
            let bytes = match read.await {
                Ok(bytes) => bytes,
                Err(e) => {
                    fault = format!("{path} cannot be read: {e}");
                    continue;
                }
            };
            match std::str::from_utf8(&bytes).ok().and_then(parse) {
                Some((_, entries)) => return Ok(entries),
                None => fault = format!("{path} is damaged"),
            }
        }
        Err(fault)
    }

    async fn flush_if(&self, wanted: impl Fn(usize) -> bool) -> Result<()> {
        let mut guard = self.state.lock().await;
        let state = guard.as_mut().ok_or_else(not_recovered)?;
        let tenants: Vec<TenantId> = state.memory.keys().cloned().collect();
        for tenant in tenants {
            let entries = &state.memory[&tenant];
            if entries.is_empty() || !wanted(entries.len()) {
                continue;
            }
            let body = line(&tenant, entries.values().copied());
            // The same entries make the same object, so that one whose answer was lost is written again and not twice.
            let path = Path::from(format!("model/{tenant}/{}", &body[..8]));
            let put = self.objects.put(&path, body.into()).await;
            put.map_err(|e| Error::Unavailable(format!("{path}: {e}")))?;
            state.memory.remove(&tenant);
        }
        self.begin_log(state).map_err(unavailable("log"))
    }
}

fn not_recovered() -> Error {
    Error::Unavailable("the log is being read back".into())
}

impl StoreUnderTest for ModelStore {
    async fn recover(&self) -> Result<()> {
        let mut guard = self.state.lock().await;
        let files = self.log_files().map_err(unavailable("log"))?;
        let mut state = State {
            memory: BTreeMap::new(),
            log: None,
            next_file: files.last().map_or(1, |n| n + 1),
        };
        for number in files {
            let path = format!("log/{number:04}");
            let bytes = self.disk.read(&path).map_err(unavailable(&path))?;
            // What does not parse was being written when a process died, and was not acknowledged.
            for line in bytes.split_inclusive(|b| *b == b'\n') {
                if let Some((tenant, entries)) = std::str::from_utf8(line).ok().and_then(parse) {
                    let known = state.memory.entry(tenant).or_default();
                    known.extend(entries.into_iter().map(|e| ((e.time_ms, e.stream), e)));
                }
            }
        }
        *guard = Some(state);
        Ok(())
    }

    async fn push(&self, tenant: &TenantId, entries: &[Entry]) -> Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        let mut guard = self.state.lock().await;
        let state = guard.as_mut().ok_or_else(not_recovered)?;
        let line = line(tenant, entries.iter().copied());
        self.log(state, &line).map_err(unavailable("log"))?;
        let known = state.memory.entry(tenant.clone()).or_default();
        known.extend(entries.iter().map(|e| ((e.time_ms, e.stream), *e)));
        Ok(())
    }

    async fn ask(&self, tenant: &TenantId, range: TimeRange) -> Result<Answer> {
        let guard = self.state.lock().await;
        let state = guard.as_ref().ok_or_else(not_recovered)?;
        let mut found = state.memory.get(tenant).cloned().unwrap_or_default();
        let mut warnings = Vec::new();
        let folder = Path::from(format!("model/{tenant}"));
        let objects: Result<Vec<_>, _> = self.objects.list(Some(&folder)).try_collect().await;
        match objects {
            Ok(objects) => {
                for object in objects {
                    match self.read_object(&object.location).await {
                        Ok(e) => found.extend(e.into_iter().map(|e| ((e.time_ms, e.stream), e))),
                        Err(warning) => warnings.push(warning),
                    }
                }
            }
            Err(e) => warnings.push(format!("objects cannot be listed: {e}")),
        }
        let inside = found.into_values().filter(|e| range.contains(e.time_ms));
        Ok(Answer {
            entries: inside.collect(),
            warnings,
        })
    }

    async fn flush(&self) -> Result<()> {
        self.flush_if(|_| true).await
    }

    async fn keep_house(&self) -> Result<()> {
        self.flush_if(|entries| entries >= FLUSH_AT).await
    }

    async fn checkpoint(&self) -> Result<()> {
        let mut guard = self.state.lock().await;
        let state = guard.as_mut().ok_or_else(not_recovered)?;
        self.begin_log(state).map_err(unavailable("log"))
    }

    async fn close(&self) -> Result<()> {
        Ok(())
    }
}
