//! Deletes what requests name.
//!
//! A request is due when it can be cancelled no more, and when ingesters have written what they held at its time. Then each file of its tenant that
//! may name chunks of its times is looked through. A chunk that has entries which it names is read and written anew without them; the new chunk gets an
//! index file of its own, and then the old one leaves the index ([`LeavingChunks`]). A request is done when a round finds nothing to do for it,
//! `delete_delay` after the last one that did: another compactor that has not seen the new files yet may have joined old ones meanwhile.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use lgtm_core::Result;
use lgtm_core::exec::CancelToken;
use lgtm_core::model::{Labels, TenantId, TimeRangeNs, TimestampMs};
use parking_lot::Mutex;

use super::compactor::{Compactor, is_damage};
use super::delete_requests::{DeleteRequests, KnownDelete};
use super::visible::left_of;
use crate::bucket::{ChunkRewriter, PackedChunk, packed_anew};
use crate::chunk::ChunkKey;
use crate::compact::{ChunkEdits, LeavingChunks, MergeSource, TableFile, chunk_key};
use crate::index::{ChunkMeta, IndexFileName, IndexReader, SeriesFilter};
use crate::limits::DeletionMode;
use crate::schema::IndexTable;

/// Series of a file that are read together.
const BATCH_SERIES: usize = 1024;
/// Bytes of new chunks that are put together, behind the list that names them.
const PORTION_BYTES: u64 = 32 << 20;
/// Chunks that are remembered as having nothing of some requests.
const MAX_CLEAN: usize = 1 << 20;

/// The requests for which something may be deleted in a round, by tenant.
pub(super) type DueDeletes = BTreeMap<TenantId, Vec<KnownDelete>>;

/// What a compactor knows of deletions.
#[derive(Debug)]
pub(super) struct Deletions {
    pub(super) requests: Arc<DeleteRequests>,
    /// Chunks, with the requests that they were read for, that had nothing of these.
    clean: Mutex<HashSet<u64>>,
    /// When something was last done for a request, on the clock that never goes back.
    changed: Mutex<BTreeMap<(TenantId, String), Duration>>,
}

impl Deletions {
    pub(super) fn new(requests: Arc<DeleteRequests>) -> Self {
        Self {
            requests,
            clean: Mutex::default(),
            changed: Mutex::default(),
        }
    }

    fn note_clean(&self, checked: u64) {
        let mut clean = self.clean.lock();
        // They are read once more.
        if clean.len() >= MAX_CLEAN {
            clean.clear();
        }
        clean.insert(checked);
    }
}

/// What is known of due requests in a round: in how many tables they were looked for, and in how many something is left.
#[derive(Debug, Default)]
pub(super) struct DeleteRound {
    tables: BTreeMap<(TenantId, String), TableCount>,
}

#[derive(Debug, Default, Clone, Copy)]
struct TableCount {
    all: u32,
    open: u32,
    has_changed: bool,
}

impl DeleteRound {
    fn of(&mut self, tenant: &TenantId, request: &KnownDelete) -> &mut TableCount {
        let key = (tenant.clone(), request.id.clone());
        self.tables.entry(key).or_default()
    }

    /// A table that could not be looked at whole.
    pub(super) fn table_failed(&mut self, due: &DueDeletes) {
        for (tenant, requests) in due {
            for request in requests {
                let count = self.of(tenant, request);
                count.all += 1;
                count.open += 1;
            }
        }
    }
}

/// Chunks that leave a file.
#[derive(Debug, Default)]
pub(super) struct LeavingMetas(HashSet<(u64, i64, i64, u32)>);

impl LeavingMetas {
    pub(super) fn insert(&mut self, fingerprint: u64, chunk: &ChunkMeta) {
        self.0.insert(Self::place(fingerprint, chunk));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    fn place(fingerprint: u64, chunk: &ChunkMeta) -> (u64, i64, i64, u32) {
        let (min_ms, max_ms) = (chunk.min_ms.get(), chunk.max_ms.get());
        (fingerprint, min_ms, max_ms, chunk.checksum)
    }
}

impl ChunkEdits for LeavingMetas {
    fn edit(&self, fingerprint: u64, _: &Labels, chunks: &mut Vec<ChunkMeta>) {
        chunks.retain(|c| !self.0.contains(&Self::place(fingerprint, c)));
    }
}

/// A chunk that may have entries which requests name.
#[derive(Debug)]
struct Candidate {
    fingerprint: u64,
    labels: Labels,
    meta: ChunkMeta,
    key: ChunkKey,
    requests: Vec<KnownDelete>,
}

impl Candidate {
    fn times(&self) -> TimeRangeNs {
        times_of(&self.meta)
    }

    /// Whether a request means all of its entries, whatever they are.
    fn is_all_meant(&self) -> bool {
        let own = self.times();
        let means_all = |r: &KnownDelete| {
            let range = r.request.range();
            r.filter.is_plain() && range.min_ns <= own.min_ns && own.max_ns <= range.max_ns
        };
        self.requests.iter().any(means_all)
    }

    /// What names it together with its requests.
    fn checked(&self, key: &ChunkKey) -> u64 {
        checked(key, &self.requests)
    }
}

fn checked(key: &ChunkKey, requests: &[KnownDelete]) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    for request in requests {
        request.id.hash(&mut hasher);
    }
    hasher.finish()
}

/// Times between which all entries of a chunk lie.
fn times_of(chunk: &ChunkMeta) -> TimeRangeNs {
    TimeRangeNs::new(chunk.min_ms.to_ns(), chunk.max_ms.to_ns().saturating_add(1))
}

/// What becomes of a chunk.
enum Outcome {
    /// It has nothing of the requests.
    Stays,
    /// Of which not all can be read.
    Unreadable(String),
    /// Nothing is left of it.
    Goes,
    /// This is left of it.
    Becomes(Box<PackedChunk>),
}

/// What was done with the candidates of a file.
#[derive(Debug, Default)]
struct Rewritten {
    leaving: LeavingMetas,
    is_unreadable: bool,
}

impl Compactor {
    /// The requests that are due. Costs a listing.
    ///
    /// # Errors
    /// Those of the store.
    pub(super) async fn due_deletes(&self) -> Result<DueDeletes> {
        let Some(deletions) = &self.deletions else {
            return Ok(DueDeletes::new());
        };
        deletions.requests.sync().await?;
        deletions.requests.clean().await?;
        let mut due = deletions.requests.due(self.settings.settle_after);
        due.retain(|tenant, _| self.deletes_of(tenant));
        Ok(due)
    }

    /// The requests that are due and not done, as far as they are known, and since when they are due.
    pub(super) fn open_deletes(&self) -> Vec<(TenantId, TimestampMs)> {
        let Some(deletions) = &self.deletions else {
            return Vec::new();
        };
        let mut due = deletions.requests.due(self.settings.settle_after);
        due.retain(|tenant, _| self.deletes_of(tenant));
        let wait = deletions.requests.wait(self.settings.settle_after);
        let mut open = Vec::new();
        for (tenant, requests) in &due {
            for request in requests {
                let since = request.request.created_ms.saturating_add(wait);
                open.push((tenant.clone(), since));
            }
        }
        open
    }

    /// Whether anything is deleted for a tenant, not only hidden.
    fn deletes_of(&self, tenant: &TenantId) -> bool {
        self.limits.for_tenant(tenant).deletion_mode == DeletionMode::FilterAndDelete
    }

    /// Whether a table has files of several tenants that may name chunks of due requests: they are joined first, so that they can be looked through.
    pub(super) fn has_unjoined(&self, files: &[TableFile], due: &DueDeletes) -> bool {
        let created = due.values().flatten().map(|r| r.request.created_ms).max();
        let Some(created_ms) = created else {
            return false;
        };
        let settle = i64::try_from(self.settings.settle_after.as_millis()).unwrap_or(i64::MAX);
        // What was written later has nothing of before the requests.
        let last_s = created_ms.saturating_add(settle).to_seconds();
        let is_early = |f: &TableFile| {
            let name = f.path.rsplit('/').next().map(str::parse);
            match name {
                Some(Ok(IndexFileName::Uploaded { created_s, .. })) => created_s <= last_s,
                _ => false,
            }
        };
        files.iter().any(|f| f.tenant.is_none() && is_early(f))
    }

    /// Writes chunks of a table anew without what due requests name; `files` are those that are not superseded. Whether there was anything.
    ///
    /// # Errors
    /// Those of the store. A damaged file or chunk is reported and left alone, and its requests are not done.
    pub(super) async fn delete_in_table(
        &self,
        table: &IndexTable,
        files: &[TableFile],
        due: &DueDeletes,
        round: &mut DeleteRound,
        cancel: &CancelToken,
    ) -> Result<bool> {
        let Some(deletions) = &self.deletions else {
            return Ok(false);
        };
        let rewriter = &self.rewriter;
        let has_unjoined = self.has_unjoined(files, due);
        let mut superseded = Vec::new();
        let mut touched: BTreeMap<&TenantId, FileCount> = BTreeMap::new();
        for file in files {
            let Some(tenant) = &file.tenant else { continue };
            let Some(requests) = due.get(tenant) else {
                continue;
            };
            let requests: Vec<&KnownDelete> =
                requests.iter().filter(|r| may_name(file, r)).collect();
            if requests.is_empty() {
                continue;
            }
            cancel.check("compaction")?;
            let done = self
                .delete_in_file(
                    (deletions, rewriter),
                    table,
                    (tenant, &file.path),
                    &requests,
                    cancel,
                )
                .await;
            let count = touched.entry(tenant).or_default();
            match done {
                Ok(done) => {
                    count.is_open |= done != FileDone::Nothing;
                    if done == FileDone::Written {
                        count.has_changed = true;
                        superseded.push(file.path.clone());
                    }
                }
                Err(e) if is_damage(&e) => {
                    count.is_open = true;
                    self.counts().damaged.fetch_add(1, Ordering::Relaxed);
                    tracing::error!(file = file.path, error = %e, "index file cannot be read; what is to be deleted stays in it, hidden");
                }
                Err(e) => return Err(e),
            }
        }
        for (tenant, requests) in due {
            let count = touched.get(tenant).copied().unwrap_or_default();
            for request in requests {
                let of = round.of(tenant, request);
                of.all += 1;
                of.open += u32::from(count.is_open || has_unjoined);
                of.has_changed |= count.has_changed;
            }
        }
        let is_written = !superseded.is_empty();
        if is_written {
            self.supersede(table, superseded).await?;
        }
        Ok(is_written)
    }

    async fn delete_in_file(
        &self,
        (deletions, rewriter): (&Deletions, &ChunkRewriter),
        table: &IndexTable,
        (tenant, path): (&TenantId, &str),
        requests: &[&KnownDelete],
        cancel: &CancelToken,
    ) -> Result<FileDone> {
        let reader = self.open(path).await?;
        let references = reader.postings_all().await?;
        let mut candidates = Vec::new();
        let most = self.settings.max_rewritten_chunks;
        for batch in references.chunks(BATCH_SERIES) {
            cancel.check("compaction")?;
            tokio::task::yield_now().await;
            let is_clean = |checked: u64| deletions.clean.lock().contains(&checked);
            candidates_in(
                &reader,
                batch,
                (tenant, requests),
                &is_clean,
                &mut candidates,
            )
            .await?;
            if candidates.len() >= most {
                break;
            }
        }
        let has_more = candidates.len() >= most;
        candidates.truncate(most);
        let rewritten = self
            .rewrite((deletions, rewriter), tenant, candidates, cancel)
            .await?;
        if rewritten.leaving.is_empty() {
            let is_open = has_more || rewritten.is_unreadable;
            return Ok(if is_open {
                FileDone::Open
            } else {
                FileDone::Nothing
            });
        }
        let sources = vec![MergeSource { reader, references }];
        self.write(table, tenant, sources, Some(&rewritten.leaving), cancel)
            .await?;
        Ok(FileDone::Written)
    }

    /// Writes what is left of some chunks, and the index of that.
    async fn rewrite(
        &self,
        (deletions, rewriter): (&Deletions, &ChunkRewriter),
        tenant: &TenantId,
        candidates: Vec<Candidate>,
        cancel: &CancelToken,
    ) -> Result<Rewritten> {
        rewriter.begin();
        let mut out = Rewritten::default();
        let (mut leaving, mut new, mut bytes) = (Vec::new(), Vec::new(), 0);
        for candidate in candidates {
            cancel.check("compaction")?;
            match self.outcome(rewriter, tenant, &candidate).await? {
                Outcome::Stays => {
                    deletions.note_clean(candidate.checked(&candidate.key));
                    continue;
                }
                Outcome::Unreadable(why) => {
                    out.is_unreadable = true;
                    self.counts().damaged.fetch_add(1, Ordering::Relaxed);
                    tracing::error!(%tenant, why, "what is to be deleted of a chunk stays in it, hidden");
                    continue;
                }
                Outcome::Goes => {}
                Outcome::Becomes(chunk) => {
                    // It is not read for the same requests again.
                    deletions.note_clean(candidate.checked(chunk.key()));
                    bytes += chunk.size_bytes();
                    leaving.push(chunk.key().clone());
                    new.push(*chunk);
                }
            }
            out.leaving.insert(candidate.fingerprint, &candidate.meta);
            leaving.push(candidate.key);
            if bytes >= PORTION_BYTES || leaving.len() >= LeavingChunks::MOST - 1 {
                self.put_portion(&mut leaving, &mut new).await?;
                bytes = 0;
            }
        }
        self.put_portion(&mut leaving, &mut new).await?;
        rewriter.write_index().await?;
        Ok(out)
    }

    /// Puts the list of some chunks that go and come, then those that come.
    pub(super) async fn put_portion(
        &self,
        leaving: &mut Vec<ChunkKey>,
        new: &mut Vec<PackedChunk>,
    ) -> Result<()> {
        self.put_leaving(leaving).await?;
        leaving.clear();
        for chunk in new.drain(..) {
            self.rewriter.put(chunk).await?;
            let written = &self.counts().chunks_rewritten;
            written.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    async fn outcome(
        &self,
        rewriter: &ChunkRewriter,
        tenant: &TenantId,
        candidate: &Candidate,
    ) -> Result<Outcome> {
        if candidate.is_all_meant() {
            return Ok(Outcome::Goes);
        }
        let executor = self.executor.in_line(tenant.as_str());
        let read = match rewriter.read(&candidate.key, &executor).await? {
            Ok(read) => read,
            Err(why) => return Ok(Outcome::Unreadable(why)),
        };
        let packer = rewriter.packer();
        let requests = candidate.requests.clone();
        let labels = candidate.labels.clone();
        let stream = (tenant.clone(), candidate.fingerprint, labels.clone());
        let job = move |cancel: &CancelToken| {
            let before: usize = read.blocks.iter().map(|b| b.len()).sum();
            let mut left = Vec::with_capacity(read.blocks.len());
            for block in &read.blocks {
                left.push(left_of(&labels, block, requests.iter(), cancel)?);
            }
            let after: usize = left.iter().map(|b| b.len()).sum();
            if after == before {
                return Ok::<_, lgtm_core::Error>(Outcome::Stays);
            }
            let packed = packed_anew(stream, &left, &read.form, &packer)?;
            Ok(packed.map_or(Outcome::Goes, |p| Outcome::Becomes(Box::new(p))))
        };
        executor.run(job, &CancelToken::new()).await
    }

    /// Notes how far the due requests are by what a round found.
    ///
    /// # Errors
    /// Those of the store.
    pub(super) async fn end_deletes(&self, due: &DueDeletes, round: DeleteRound) -> Result<()> {
        let Some(deletions) = &self.deletions else {
            return Ok(());
        };
        let now = self.clock.monotonic();
        for (tenant, requests) in due {
            for request in requests {
                let key = (tenant.clone(), request.id.clone());
                let count = round.tables.get(&key).copied().unwrap_or_default();
                if count.has_changed {
                    deletions.changed.lock().insert(key.clone(), now);
                }
                let changed = deletions.changed.lock().get(&key).copied();
                let is_settled =
                    changed.is_none_or(|at| now.saturating_sub(at) >= self.settings.delete_delay);
                if count.open == 0 && is_settled {
                    deletions
                        .requests
                        .note_processed(tenant, &request.id)
                        .await?;
                    deletions.changed.lock().remove(&key);
                    let done = &self.counts().delete_requests_processed;
                    done.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                let done = (count.all - count.open) * 100;
                if let Some(done) = done.checked_div(count.all) {
                    let percent = u8::try_from(done).unwrap_or(99);
                    deletions
                        .requests
                        .note_percent(tenant, &request.id, percent)
                        .await?;
                }
            }
        }
        let known: BTreeSet<(&TenantId, &str)> = due
            .iter()
            .flat_map(|(tenant, requests)| requests.iter().map(move |r| (tenant, &*r.id)))
            .collect();
        let mut changed = deletions.changed.lock();
        changed.retain(|(tenant, id), _| known.contains(&(tenant, &**id)));
        Ok(())
    }
}

/// What was done with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FileDone {
    /// There was nothing to do.
    Nothing,
    /// There is something left that could not be done.
    Open,
    /// It was written anew.
    Written,
}

#[derive(Debug, Default, Clone, Copy)]
struct FileCount {
    is_open: bool,
    has_changed: bool,
}

/// Whether a file, whose name tells the times of its chunks, may name some of a request.
fn may_name(file: &TableFile, request: &KnownDelete) -> bool {
    match file.path.rsplit('/').next().map(str::parse) {
        Some(Ok(IndexFileName::Compacted { min_ms, max_ms, .. })) => {
            let times = TimeRangeNs::new(min_ms.to_ns(), max_ms.to_ns().saturating_add(1));
            request.overlaps(&times)
        }
        _ => true,
    }
}

/// Puts the chunks of some series that may have entries of requests behind `out`.
async fn candidates_in(
    reader: &IndexReader,
    references: &[u32],
    (tenant, requests): (&TenantId, &[&KnownDelete]),
    is_clean: &(dyn Fn(u64) -> bool + Sync),
    out: &mut Vec<Candidate>,
) -> Result<()> {
    let entries = reader
        .series_entries(references, &SeriesFilter::ALL)
        .await?;
    let mut labels = reader.labels_of(&entries).await?;
    for entry in entries.iter() {
        let own = labels.of(&entry)?;
        let meaning: Vec<&KnownDelete> = requests
            .iter()
            .copied()
            .filter(|r| r.filter.takes(&own))
            .collect();
        if meaning.is_empty() {
            continue;
        }
        for meta in entry.chunks {
            let times = times_of(meta);
            let touching = meaning.iter().filter(|r| r.overlaps(&times));
            let requests: Vec<KnownDelete> = touching.map(|r| (*r).clone()).collect();
            let key = chunk_key(tenant.as_str(), entry.fingerprint, meta);
            if requests.is_empty() || is_clean(checked(&key, &requests)) {
                continue;
            }
            out.push(Candidate {
                fingerprint: entry.fingerprint,
                labels: own.clone(),
                meta: *meta,
                key,
                requests,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
