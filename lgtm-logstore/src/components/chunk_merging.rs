//! Makes one chunk of many small ones of a stream.
//!
//! As with deletions a new chunk gets an index file of its own first, then those that it stands for leave the index. Both are there meanwhile, and
//! entries that both have come once.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use lgtm_core::Result;
use lgtm_core::exec::CancelToken;
use lgtm_core::model::{Labels, TenantId};
use parking_lot::Mutex;

use super::compactor::{Compactor, is_damage};
use super::deletion::{DueDeletes, LeavingMetas};
use crate::bucket::{PackedChunk, packed_anew};
use crate::chunk::ChunkKey;
use crate::compact::{LeavingChunks, MergeRules, MergeSource, TableFile, chunk_key, small_groups};
use crate::entry::disjoint;
use crate::index::{ChunkMeta, IndexReader, SeriesFilter};
use crate::schema::IndexTable;

/// Series of a file that are read together.
const BATCH_SERIES: usize = 1024;
/// Bytes of new chunks that are put together, behind the list that names them.
const PORTION_BYTES: u64 = 32 << 20;

/// Files without groups of small chunks, by their days and paths.
#[derive(Debug, Default)]
pub(super) struct MergedFiles(Mutex<BTreeSet<(i64, String)>>);

/// Small chunks of a stream that become one.
#[derive(Debug)]
struct SmallGroup {
    fingerprint: u64,
    labels: Labels,
    chunks: Vec<ChunkMeta>,
}

impl Compactor {
    fn merge_rules(&self) -> Option<MergeRules> {
        let small = self.settings.merge_chunks_below.as_u64();
        let kb = |bytes: u64| u32::try_from(bytes >> 10).unwrap_or(u32::MAX);
        (small > 0).then(|| MergeRules {
            small_kb: kb(small).max(1),
            most_kb: kb(self.settings.merged_chunk_size.as_u64()),
            least_chunks: self.settings.merge_chunks_from,
        })
    }

    /// Merges small chunks of a table whose day is over; `files` are those that are not superseded. Tenants with due requests wait. Whether there was anything.
    ///
    /// # Errors
    /// Those of the store. Damaged files and chunks are reported and left alone.
    pub(super) async fn merge_in_table(
        &self,
        table: &IndexTable,
        files: &[TableFile],
        due: &DueDeletes,
        cancel: &CancelToken,
    ) -> Result<bool> {
        let Some(rules) = self.merge_rules() else {
            return Ok(false);
        };
        let is_there =
            |day: i64, path: &str| day != table.day || files.iter().any(|f| f.path == path);
        let known = &self.merged_files.0;
        known.lock().retain(|(day, path)| is_there(*day, path));
        let mut superseded = Vec::new();
        for file in files {
            let Some(tenant) = &file.tenant else { continue };
            let at = (table.day, file.path.clone());
            if due.contains_key(tenant) || known.lock().contains(&at) {
                continue;
            }
            cancel.check("compaction")?;
            let merged = self.merge_in_file(table, tenant, &file.path, &rules, cancel);
            match merged.await {
                Ok(true) => superseded.push(file.path.clone()),
                Ok(false) => drop(known.lock().insert(at)),
                Err(e) if is_damage(&e) => {
                    self.counts().damaged.fetch_add(1, Ordering::Relaxed);
                    tracing::error!(file = file.path, error = %e, "index file cannot be read; its small chunks stay");
                }
                Err(e) => return Err(e),
            }
        }
        let is_written = !superseded.is_empty();
        if is_written {
            self.supersede(table, superseded).await?;
        }
        Ok(is_written)
    }

    async fn merge_in_file(
        &self,
        table: &IndexTable,
        tenant: &TenantId,
        path: &str,
        rules: &MergeRules,
        cancel: &CancelToken,
    ) -> Result<bool> {
        let reader = self.open(path).await?;
        let references = reader.postings_all().await?;
        let mut groups = Vec::new();
        let mut count = 0;
        for batch in references.chunks(BATCH_SERIES) {
            cancel.check("compaction")?;
            tokio::task::yield_now().await;
            count += groups_in(&reader, batch, table, rules, &mut groups).await?;
            if count >= self.settings.max_rewritten_chunks {
                break;
            }
        }
        self.rewriter.begin();
        let mut leaving = LeavingMetas::default();
        let (mut names, mut new, mut bytes) = (Vec::<ChunkKey>::new(), Vec::new(), 0);
        for group in groups {
            cancel.check("compaction")?;
            let Some(chunk) = self.merged(tenant, &group).await? else {
                continue;
            };
            bytes += chunk.size_bytes();
            names.push(chunk.key().clone());
            new.push(chunk);
            for chunk in &group.chunks {
                leaving.insert(group.fingerprint, chunk);
                names.push(chunk_key(tenant.as_str(), group.fingerprint, chunk));
            }
            if bytes >= PORTION_BYTES || names.len() >= LeavingChunks::MOST / 2 {
                self.put_portion(&mut names, &mut new).await?;
                bytes = 0;
            }
        }
        self.put_portion(&mut names, &mut new).await?;
        self.rewriter.write_index().await?;
        if leaving.is_empty() {
            return Ok(false);
        }
        let merged = &self.counts().chunks_merged;
        merged.fetch_add(leaving.len() as u64, Ordering::Relaxed);
        let sources = vec![MergeSource { reader, references }];
        self.write(table, tenant, sources, Some(&leaving), cancel)
            .await?;
        Ok(true)
    }

    /// The chunk that a group becomes; `None` when one of its chunks cannot be read.
    async fn merged(&self, tenant: &TenantId, group: &SmallGroup) -> Result<Option<PackedChunk>> {
        let executor = self.executor.in_line(tenant.as_str());
        let (mut blocks, mut form) = (Vec::new(), None);
        for chunk in &group.chunks {
            let key = chunk_key(tenant.as_str(), group.fingerprint, chunk);
            match self.rewriter.read(&key, &executor).await? {
                Ok(read) => {
                    blocks.extend(read.blocks);
                    form.get_or_insert(read.form);
                }
                Err(why) => {
                    self.counts().damaged.fetch_add(1, Ordering::Relaxed);
                    tracing::error!(%tenant, why, "small chunks of a stream stay as they are");
                    return Ok(None);
                }
            }
        }
        let Some(form) = form else { return Ok(None) };
        let packer = self.rewriter.packer();
        let stream = (tenant.clone(), group.fingerprint, group.labels.clone());
        let job = move |_: &CancelToken| {
            let too_large =
                |e: lgtm_core::DecodeError| lgtm_core::Error::LimitExceeded(e.to_string());
            let blocks = disjoint(blocks).map_err(too_large)?.blocks;
            packed_anew(stream, &blocks, &form, &packer)
        };
        executor.run(job, &CancelToken::new()).await
    }
}

/// Puts the groups of some series behind `out`. Gives the number of their chunks.
async fn groups_in(
    reader: &IndexReader,
    references: &[u32],
    table: &IndexTable,
    rules: &MergeRules,
    out: &mut Vec<SmallGroup>,
) -> Result<usize> {
    let entries = reader
        .series_entries(references, &SeriesFilter::ALL)
        .await?;
    let mut labels = reader.labels_of(&entries).await?;
    let mut count = 0;
    for entry in entries.iter() {
        let groups = small_groups(entry.chunks, table.range_ms(), rules);
        for chunks in groups {
            count += chunks.len();
            out.push(SmallGroup {
                fingerprint: entry.fingerprint,
                labels: labels.of(&entry)?,
                chunks,
            });
        }
    }
    Ok(count)
}

#[cfg(test)]
mod tests;
