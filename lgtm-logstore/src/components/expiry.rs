//! Takes out of index files what is over.
//!
//! A file is looked through when the retention of its tenant may reach into it. What is over is put on a list first ([`LeavingChunks`]), then a file
//! without it is written, then the mark that says that the old file is superseded. Queries have not shown it since it was over, whatever the index names.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use lgtm_core::Result;
use lgtm_core::exec::CancelToken;
use lgtm_core::model::{Labels, TenantId, TimestampMs, TimestampNs};
use parking_lot::Mutex;

use super::compactor::{Compactor, is_damage};
use crate::chunk::ChunkKey;
use crate::compact::{ChunkEdits, LeavingChunks, MergeSource, TableFile, chunk_key};
use crate::index::{ChunkMeta, IndexReader, SeriesFilter};
use crate::limits::{Horizons, Limits, StreamRetention};
use crate::schema::IndexTable;

/// Series of a file that are read together.
const BATCH_SERIES: usize = 1024;

/// Files that were looked through, by their paths.
#[derive(Debug, Default)]
pub(super) struct Surveys(Mutex<BTreeMap<String, Survey>>);

/// What is known of a file that had nothing which is over.
#[derive(Debug)]
struct Survey {
    day: i64,
    rules: RetentionSettings,
    /// Nothing of it is over before that, by these rules.
    again_ms: TimestampMs,
}

/// What a tenant's horizons depend on beside the time.
#[derive(Debug, Clone, PartialEq)]
struct RetentionSettings(std::time::Duration, Vec<StreamRetention>);

impl RetentionSettings {
    fn of(limits: &Limits) -> Self {
        Self(limits.retention_period, limits.retention_stream.clone())
    }
}

impl Surveys {
    fn is_in_order(&self, path: &str, rules: &RetentionSettings, now_ms: TimestampMs) -> bool {
        let surveys = self.0.lock();
        let known = surveys.get(path);
        known.is_some_and(|s| s.rules == *rules && now_ms < s.again_ms)
    }

    /// Forgets what is known of a day's files but these.
    fn keep(&self, day: i64, files: &[TableFile]) {
        let mut surveys = self.0.lock();
        surveys.retain(|path, s| s.day != day || files.iter().any(|f| f.path == *path));
    }
}

/// Chunks all of whose entries are older than their streams' are kept.
#[derive(Debug)]
struct ExpiredChunks(Horizons);

impl ExpiredChunks {
    fn are_over(chunk: &ChunkMeta, horizon: TimestampNs) -> bool {
        chunk.max_ms.to_ns() < horizon
    }
}

impl ChunkEdits for ExpiredChunks {
    fn edit(&self, _: u64, labels: &Labels, chunks: &mut Vec<ChunkMeta>) {
        let horizon = self.0.of_stream(labels);
        chunks.retain(|c| !Self::are_over(c, horizon));
    }
}

impl Compactor {
    /// Takes what is over out of the files of single tenants in a table; `files` are those that are not superseded. Whether there was anything.
    ///
    /// # Errors
    /// Those of the store. A damaged file is reported and left alone.
    pub(super) async fn expire_table(
        &self,
        table: &IndexTable,
        files: &[TableFile],
        cancel: &CancelToken,
    ) -> Result<bool> {
        self.surveys.keep(table.day, files);
        let mut superseded = Vec::new();
        for file in files {
            let Some(tenant) = &file.tenant else { continue };
            cancel.check("compaction")?;
            match self.expire_file(table, tenant, &file.path, cancel).await {
                Ok(true) => superseded.push(file.path.clone()),
                Ok(false) => {}
                Err(e) if is_damage(&e) => {
                    self.counts().damaged.fetch_add(1, Ordering::Relaxed);
                    tracing::error!(file = file.path, error = %e, "index file cannot be read; what is over stays in it");
                }
                Err(e) => return Err(e),
            }
        }
        if superseded.is_empty() {
            return Ok(false);
        }
        let count = superseded.len();
        self.supersede(table, superseded).await?;
        tracing::info!(
            table = table.folder,
            files = count,
            "what is over was taken out of index files of a table"
        );
        Ok(true)
    }

    /// Whether there was anything to take out of a file.
    async fn expire_file(
        &self,
        table: &IndexTable,
        tenant: &TenantId,
        path: &str,
        cancel: &CancelToken,
    ) -> Result<bool> {
        let now_ms = self.clock.now_ms();
        let limits = self.limits.for_tenant(tenant);
        let rules = RetentionSettings::of(&limits);
        let horizons = Horizons::of(&limits, now_ms);
        // Each chunk of a table has entries of its day.
        let may_have_any = horizons.latest() > table.range_ms().start.to_ns();
        if !may_have_any || self.surveys.is_in_order(path, &rules, now_ms) {
            return Ok(false);
        }
        let reader = self.open(path).await?;
        let (mut expired, mut again_ms) = (0, TimestampMs::MAX);
        let mut leaving = Vec::new();
        let references = reader.postings_all().await?;
        for batch in references.chunks(BATCH_SERIES) {
            cancel.check("compaction")?;
            tokio::task::yield_now().await;
            again_ms = again_ms
                .min(over_in(&reader, batch, tenant, (&horizons, now_ms), &mut leaving).await?);
            while leaving.len() >= LeavingChunks::MOST {
                let rest = leaving.split_off(LeavingChunks::MOST);
                expired += self.put_leaving(&leaving).await?;
                leaving = rest;
            }
        }
        expired += self.put_leaving(&leaving).await?;
        if expired == 0 {
            let survey = Survey {
                day: table.day,
                rules,
                again_ms,
            };
            self.surveys.0.lock().insert(path.to_owned(), survey);
            return Ok(false);
        }
        let sources = vec![MergeSource { reader, references }];
        let edits = ExpiredChunks(horizons);
        self.write(table, tenant, sources, Some(&edits), cancel)
            .await?;
        let count = &self.counts().chunks_expired;
        count.fetch_add(expired, Ordering::Relaxed);
        Ok(true)
    }

    /// Puts a list of chunks that leave the index, before they do. Gives their number.
    pub(super) async fn put_leaving(&self, chunks: &[ChunkKey]) -> Result<u64> {
        if !chunks.is_empty() {
            let list = LeavingChunks::new(self.clock.now_ms(), chunks);
            let bytes = Bytes::from(list.encode()?);
            let name = |created_ns| LeavingChunks::path(&self.instance, created_ns);
            self.put_new(name, &bytes).await?;
        }
        Ok(chunks.len() as u64)
    }
}

/// Puts the chunks of some series that are over behind `out`. Gives when the first of the others will be.
async fn over_in(
    reader: &IndexReader,
    references: &[u32],
    tenant: &TenantId,
    (horizons, now_ms): (&Horizons, TimestampMs),
    out: &mut Vec<ChunkKey>,
) -> Result<TimestampMs> {
    let entries = reader
        .series_entries(references, &SeriesFilter::ALL)
        .await?;
    let mut labels = reader.labels_of(&entries).await?;
    let mut again_ms = TimestampMs::MAX;
    for entry in entries.iter() {
        let horizon = horizons.of_stream(&labels.of(&entry)?);
        if horizon == TimestampNs::MIN {
            continue;
        }
        for chunk in entry.chunks {
            if ExpiredChunks::are_over(chunk, horizon) {
                out.push(chunk_key(tenant.as_str(), entry.fingerprint, chunk));
            } else {
                let left_ms = chunk.max_ms.since(horizon.to_ms());
                again_ms = again_ms.min(now_ms.saturating_add(left_ms));
            }
        }
    }
    Ok(again_ms)
}

#[cfg(test)]
pub(super) mod tests;
