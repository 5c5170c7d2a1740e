//! Which streams match, and which chunks of theirs, by the index files alone.

use std::sync::Arc;

use futures::{FutureExt, StreamExt, TryStreamExt};
use lgtm_core::Result;
use lgtm_core::exec::in_place;
use lgtm_core::index::matching_series;
use lgtm_core::model::{
    LabelArena, Labels, Matcher, TenantId, TimeRange, TimeRangeNs, TimestampMs, merge_warnings,
};

use super::bucket_chunks::BucketChunks;
use super::index_file::IndexFile;
use super::known_streams::{IndexedStream, IndexedStreams, KnownStreams, question_key};
use crate::index::{ChunkMeta, FingerprintRange, IndexReader, SeriesFilter, TENANT_LABEL};
use crate::select::{FetchStats, SelectRequest, milliseconds_around};

/// Series that are read together.
const BATCH_SERIES: usize = 1024;
/// Series of a file that an answer to keep may have; more are read as far as they are wanted, and sorted apart from other work.
const MOST_KEPT: usize = 16 << 10;

/// A chunk that an index file names. With the tenant this is its key.
#[derive(Debug, Clone)]
pub(super) struct FoundChunk {
    pub(super) fingerprint: u64,
    pub(super) meta: ChunkMeta,
    /// Times whose entries are read, apart; `None`: all.
    pub(super) times: Option<Arc<[TimeRangeNs]>>,
}

impl FoundChunk {
    fn key(&self) -> (TimestampMs, TimestampMs, u32, u64) {
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

/// What a file is asked.
#[derive(Debug)]
struct FileQuestion {
    request: SelectRequest,
    /// The request's, and the tenant's label in files of several tenants.
    matchers: Vec<Matcher>,
    time: TimeRange,
    /// What names matchers and file.
    key: String,
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
            key: question_key(&file.path, &matchers),
            matchers,
            time: milliseconds_around(request.range),
        })
    }

    /// The streams that match, in the order of their labels; not fewer than have chunks of the times, and perhaps with all of their chunks.
    async fn ask(&self, reader: &Arc<IndexReader>, known: &KnownStreams) -> Result<IndexedStreams> {
        let toc = reader.toc();
        // A time of 0 may also mean that there is none.
        let is_outside = |min_ms, max_ms| min_ms >= self.time.max_ms || max_ms < self.time.min_ms;
        if toc.min_ms != 0 && toc.max_ms != 0 && is_outside(toc.min_ms, toc.max_ms) {
            return Ok(Arc::default());
        }
        if let Some(streams) = known.get(&self.key, reader) {
            return Ok(streams);
        }
        let matched = matching_series(&**reader, &self.matchers).await?;
        let is_kept = matched.refs.len() <= MOST_KEPT;
        let filter = SeriesFilter {
            time: (!is_kept).then_some(self.time),
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
                out.push(IndexedStream {
                    labels: own,
                    fingerprint: entry.fingerprint,
                    chunks: entry.chunks.into(),
                });
            }
        }
        let sorted = |mut out: Vec<IndexedStream>| -> IndexedStreams {
            out.sort_unstable_by(|a, b| a.labels.cmp(&b.labels));
            out.into()
        };
        let streams = match out.len() > MOST_KEPT {
            true => in_place(|| sorted(out)),
            false => sorted(out),
        };
        if is_kept {
            known.insert(self.key.clone(), reader, &streams);
        }
        Ok(streams)
    }

    /// Adds what is wanted of a file's streams to `out`.
    fn take(&self, streams: &[IndexedStream], out: &mut Vec<FoundStream>) {
        for stream in streams {
            let range = self.request.range_of(&stream.labels);
            if range.is_empty() {
                continue;
            }
            let is_cut = range != self.request.range;
            let time = match is_cut {
                true => milliseconds_around(range),
                false => self.time,
            };
            let times = is_cut.then(|| Arc::from([range]));
            let wanted = stream.chunks.iter().filter(|c| c.overlaps(&time));
            let chunks: Vec<FoundChunk> = wanted
                .map(|meta| FoundChunk {
                    fingerprint: stream.fingerprint,
                    meta: *meta,
                    times: times.clone().filter(|_| meta.min_ms.to_ns() < range.min_ns),
                })
                .collect();
            let is_of_shard = || {
                self.request
                    .shard
                    .is_none_or(|s| s.contains(&stream.labels))
            };
            if !chunks.is_empty() && is_of_shard() {
                out.push(FoundStream {
                    labels: stream.labels.clone(),
                    chunks,
                });
            }
        }
    }
}

impl BucketChunks {
    /// Asks all index files that may know streams of the request. Reads no chunk.
    ///
    /// Costs a listing of a table where a compaction by others has put another file in the place of one that was known, and one of all tables after a
    /// holder of recent data has gone for good.
    ///
    /// # Errors
    /// `LimitExceeded` beyond the bounds of the request; what says that the store does not answer.
    pub(super) async fn found(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<FoundStreams> {
        let late = self.list_after(&request.departed).await;
        let mut found = self.found_listed(tenant, request).await?;
        if self.sync_outdated().await {
            found = self.found_listed(tenant, request).await?;
        }
        merge_warnings(&mut found.warnings, late.into_iter().collect());
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
                let (question, known) = (Arc::clone(&question), &self.known_streams);
                async move { question.ask(&reader, known).await }.boxed()
            };
            let answer = self.files.ask(&file, ask).await?;
            if answer.is_err() {
                self.wake_sync();
            }
            Ok::<_, lgtm_core::Error>((question, answer))
        });
        let concurrency = self.settings.index_concurrency;
        let mut answers = futures::stream::iter(answers).buffered(concurrency);
        let (mut streams, mut files) = (Vec::new(), 0);
        while let Some((question, answer)) = answers.try_next().await? {
            let before = streams.len();
            match answer {
                Ok(part) => question.take(&part, &mut streams),
                Err(warning) => merge_warnings(&mut found.warnings, vec![warning]),
            }
            files += 1;
            // What several files name is counted once further below.
            request.bounds.check(&FetchStats {
                streams: (streams.len() - before) as u64,
                ..FetchStats::default()
            })?;
        }
        found.streams = match files > 1 {
            true if streams.len() > MOST_KEPT => in_place(|| joined(streams)),
            true => joined(streams),
            false => streams,
        };
        for stream in &mut found.streams {
            stream.chunks.sort_unstable_by_key(FoundChunk::key);
            stream.chunks.dedup_by_key(|c| c.key());
        }
        request.bounds.check(&FetchStats {
            streams: found.streams.len() as u64,
            chunks_referenced: found.streams.iter().map(|s| s.chunks.len() as u64).sum(),
            ..FetchStats::default()
        })?;
        Ok(found)
    }
}

/// Streams in the order of their labels, each once. Quick where they are some runs in that order.
fn joined(mut streams: Vec<FoundStream>) -> Vec<FoundStream> {
    streams.sort_by(|a, b| a.labels.cmp(&b.labels));
    let mut out: Vec<FoundStream> = Vec::with_capacity(streams.len());
    for mut stream in streams {
        match out.last_mut() {
            Some(last) if last.labels == stream.labels => last.chunks.append(&mut stream.chunks),
            _ => out.push(stream),
        }
    }
    out
}
