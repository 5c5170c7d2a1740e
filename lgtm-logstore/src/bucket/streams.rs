//! Which streams match, and which chunks of theirs, by the index files alone.

use std::sync::Arc;

use futures::{FutureExt, StreamExt, TryStreamExt};
use hashbrown::HashMap;
use lgtm_core::Result;
use lgtm_core::index::matching_series;
use lgtm_core::model::{
    LabelArena, Labels, Matcher, TenantId, TimeRange, TimeRangeNs, merge_warnings,
};

use super::bucket_chunks::BucketChunks;
use super::index_file::IndexFile;
use crate::index::{ChunkMeta, FingerprintRange, IndexReader, SeriesFilter, TENANT_LABEL};
use crate::select::{FetchStats, SelectRequest};

const NS_A_MS: i64 = 1_000_000;
/// Series that are read together.
const BATCH_SERIES: usize = 1024;

/// A chunk that an index file names. With the tenant this is its key.
#[derive(Debug, Clone)]
pub(super) struct FoundChunk {
    pub(super) fingerprint: u64,
    pub(super) meta: ChunkMeta,
    /// Times whose entries are read, apart; `None`: all.
    pub(super) times: Option<Arc<[TimeRangeNs]>>,
}

impl FoundChunk {
    fn key(&self) -> (i64, i64, u32, u64) {
        let m = &self.meta;
        (m.min_ms, m.max_ms, m.checksum, self.fingerprint)
    }
}

/// A stream with its chunks that may hold entries of the range, in order of time, each once.
#[derive(Debug)]
pub(super) struct FoundStream {
    pub(super) labels: Labels,
    pub(super) chunks: Vec<FoundChunk>,
}

/// The streams that match, in the order of their labels.
#[derive(Debug, Default)]
pub(super) struct FoundStreams {
    pub(super) streams: Vec<FoundStream>,
    /// What is missing, and why.
    pub(super) warnings: Vec<String>,
}

/// Whole milliseconds around a range.
pub(super) fn milliseconds_around(range: TimeRangeNs) -> TimeRange {
    let max_ms = range.max_ns.div_euclid(NS_A_MS);
    let is_inside = range.max_ns.rem_euclid(NS_A_MS) > 0;
    TimeRange {
        min_ms: range.min_ns.div_euclid(NS_A_MS),
        max_ms: max_ms + i64::from(is_inside),
    }
}

/// What one file knows: labels without the tenant's, fingerprint, chunks.
type FileStreams = Vec<(Labels, u64, Vec<ChunkMeta>)>;

/// What a file is asked.
#[derive(Debug)]
struct FileQuestion {
    request: SelectRequest,
    /// The request's, and the tenant's label in files of several tenants.
    matchers: Vec<Matcher>,
    time: TimeRange,
}

impl FileQuestion {
    /// `None`: no stream of a tenant passes.
    fn new(tenant: &TenantId, request: &SelectRequest, file: &IndexFile) -> Option<Self> {
        let is_reserved = |m: &&Matcher| m.name() == TENANT_LABEL;
        // No stream has that label: it is the files' own.
        if request
            .matchers
            .iter()
            .any(|m| is_reserved(&m) && !m.matches_empty())
        {
            return None;
        }
        let matchers = request.matchers.iter().filter(|m| !is_reserved(m)).cloned();
        let mut matchers: Vec<Matcher> = matchers.collect();
        if file.tenant.is_none() {
            matchers.push(Matcher::equal(TENANT_LABEL, tenant.as_str()));
        }
        Some(Self {
            request: request.clone(),
            matchers,
            time: milliseconds_around(request.range),
        })
    }

    async fn ask(&self, reader: &IndexReader) -> Result<FileStreams> {
        let toc = reader.toc();
        // A time of 0 may also mean that there is none.
        let is_outside = |min_ms, max_ms| min_ms >= self.time.max_ms || max_ms < self.time.min_ms;
        if toc.min_ms != 0 && toc.max_ms != 0 && is_outside(toc.min_ms, toc.max_ms) {
            return Ok(Vec::new());
        }
        let matched = matching_series(reader, &self.matchers).await?;
        let filter = SeriesFilter {
            time: Some(self.time),
            fingerprints: FingerprintRange::ALL,
        };
        let mut arena = LabelArena::default();
        let mut out = Vec::new();
        for batch in matched.refs.chunks(BATCH_SERIES) {
            // A batch is a millisecond or two of decoding; others run between two.
            tokio::task::yield_now().await;
            let entries = reader.series_entries(batch, &filter).await?;
            let mut labels = reader.labels_of(&entries).await?;
            for entry in entries.iter() {
                let all = labels.of(&entry)?;
                if !matched.takes(&all) {
                    continue;
                }
                let own = match all.get(TENANT_LABEL) {
                    Some(_) => arena.from_sorted(all.iter().filter(|(n, _)| *n != TENANT_LABEL))?,
                    None => all,
                };
                if self.request.shard.is_none_or(|s| s.contains(&own)) {
                    out.push((own, entry.fingerprint, entry.chunks.to_vec()));
                }
            }
        }
        Ok(out)
    }
}

impl BucketChunks {
    /// Asks all index files that may know streams of the request. Reads no chunk.
    ///
    /// Costs a listing of a table where a compaction by others has put another file in the place of one that was known.
    ///
    /// # Errors
    /// `LimitExceeded` beyond the bounds of the request; what says that the store does not answer.
    pub(super) async fn found(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<FoundStreams> {
        let found = self.found_listed(tenant, request).await?;
        if self.sync_outdated().await {
            return self.found_listed(tenant, request).await;
        }
        Ok(found)
    }

    /// [`BucketChunks::found`] by the files that are on the list.
    async fn found_listed(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<FoundStreams> {
        let mut found = FoundStreams {
            warnings: self.list_warnings(),
            ..FoundStreams::default()
        };
        let now_ms = self.files.now_ms();
        let mut asked = Vec::new();
        for file in self.tables.files(tenant, request.range) {
            match file.fault(now_ms) {
                Some(fault) => merge_warnings(&mut found.warnings, vec![file.warning(&fault)]),
                None => asked
                    .extend(FileQuestion::new(tenant, request, &file).map(|q| (file, Arc::new(q)))),
            }
        }
        let answers = asked.into_iter().map(|(file, question)| async move {
            let ask = |reader: Arc<IndexReader>| {
                let question = Arc::clone(&question);
                async move { question.ask(&reader).await }.boxed()
            };
            let answer = self.files.ask(&file, ask).await?;
            if answer.is_err() {
                self.wake_sync();
            }
            Ok::<_, lgtm_core::Error>(answer)
        });
        let concurrency = self.settings.index_concurrency;
        let mut answers = futures::stream::iter(answers).buffered(concurrency);
        let mut streams: HashMap<Labels, Vec<FoundChunk>> = HashMap::new();
        while let Some(answer) = answers.try_next().await? {
            match answer {
                Ok(part) => add_streams(&mut streams, part),
                Err(warning) => merge_warnings(&mut found.warnings, vec![warning]),
            }
            // Chunks that several files name are counted once each further below.
            request.bounds.check(&FetchStats {
                streams: streams.len() as u64,
                ..FetchStats::default()
            })?;
        }
        found.streams = streams
            .into_iter()
            .map(|(labels, mut chunks)| {
                chunks.sort_unstable_by_key(FoundChunk::key);
                chunks.dedup_by_key(|c| c.key());
                FoundStream { labels, chunks }
            })
            .collect();
        found
            .streams
            .sort_unstable_by(|a, b| a.labels.cmp(&b.labels));
        request.bounds.check(&FetchStats {
            streams: found.streams.len() as u64,
            chunks_referenced: found.streams.iter().map(|s| s.chunks.len() as u64).sum(),
            ..FetchStats::default()
        })?;
        Ok(found)
    }
}

fn add_streams(streams: &mut HashMap<Labels, Vec<FoundChunk>>, part: FileStreams) {
    for (labels, fingerprint, chunks) in part {
        let chunks = chunks.into_iter().map(|meta| FoundChunk {
            fingerprint,
            meta,
            times: None,
        });
        streams.entry(labels).or_default().extend(chunks);
    }
}
