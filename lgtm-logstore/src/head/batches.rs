//! Batches of a select over the heads.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use async_trait::async_trait;
use lgtm_core::Result;
use lgtm_core::exec::{CancelToken, Executor};
use lgtm_core::model::{Labels, TenantId, TimeRangeNs, TimestampNs, merge_warnings};
use lgtm_core::wal::Snapshot;
use lgtm_core::{Error, ErrorKind};

use super::head::HeadParts;
use super::pieces::{Opened, Piece, StreamPieces};
use crate::chunk::ChunkCodec;
use crate::entry::{EntryBlock, disjoint};
use crate::select::{
    EntryBatch, EntryBatches, FetchStats, SelectEnd, SelectOrder, SelectRequest, StreamBlock,
};

/// Bytes of decoded blocks after which a batch ends.
const BATCH_BYTES: usize = 2 << 20;

/// Pieces of one stream that overlap in time, with no other piece of it.
#[derive(Debug)]
struct Cluster {
    /// Number of the stream.
    stream: usize,
    min_ns: TimestampNs,
    max_ns: TimestampNs,
    pieces: Vec<Piece>,
}

/// A cluster in the order of the request: the least comes first.
#[derive(Debug)]
struct Queued {
    key: (i128, usize),
    cluster: Cluster,
}

impl PartialEq for Queued {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for Queued {}

impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Queued {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key.cmp(&other.key)
    }
}

/// What is left to decode, and what came of it so far.
#[derive(Debug)]
struct Reading {
    parts: Arc<HeadParts>,
    tenant: TenantId,
    order: SelectOrder,
    labels: Vec<Labels>,
    queue: BinaryHeap<Reverse<Queued>>,
    end: SelectEnd,
    request: SelectRequest,
}

/// Batches of a select over the heads.
#[derive(Debug)]
pub(super) struct HeadBatches {
    executor: Executor,
    /// Away while a batch is made; then the answer was dropped half way, or failed.
    reading: Option<Reading>,
    /// Keeps what flushes move.
    _reader: Arc<Snapshot>,
}

impl HeadBatches {
    pub(super) fn new(
        (parts, executor): (Arc<HeadParts>, Executor),
        tenant: TenantId,
        request: &SelectRequest,
        (streams, stats): (Vec<StreamPieces>, FetchStats),
        reader: Arc<Snapshot>,
    ) -> Self {
        let mut reading = Reading {
            parts,
            tenant,
            order: request.order,
            labels: Vec::with_capacity(streams.len()),
            queue: BinaryHeap::new(),
            end: SelectEnd {
                warnings: Vec::new(),
                stats,
            },
            request: request.clone(),
        };
        for (stream, StreamPieces { labels, pieces }) in streams.into_iter().enumerate() {
            reading.labels.push(labels);
            reading.enqueue(stream, pieces);
        }
        Self {
            executor,
            reading: Some(reading),
            _reader: reader,
        }
    }
}

#[async_trait]
impl EntryBatches for HeadBatches {
    async fn next_batch(&mut self) -> Result<Option<EntryBatch>> {
        let Some(mut reading) = self.reading.take() else {
            return Err(Error::Internal("an answer that failed was read on".into()));
        };
        let job = move |cancel: &CancelToken| {
            let parts = Arc::clone(&reading.parts);
            let batch = parts.with_tools(|tools| reading.batch(&mut tools.codec, cancel))?;
            Ok::<_, Error>((reading, batch))
        };
        let (reading, batch) = self.executor.run(job, &CancelToken::new()).await?;
        self.reading = Some(reading);
        Ok(batch)
    }

    fn times(&self) -> Option<TimeRangeNs> {
        let reading = self.reading.as_ref()?;
        let clusters = reading.queue.iter().map(|q| &q.0.cluster);
        let times = clusters.map(|c| (c.min_ns, c.max_ns));
        let all = times.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
        Some(match all {
            Some((min_ns, max_ns)) => TimeRangeNs::new(min_ns, max_ns.saturating_add(1)),
            None => TimeRangeNs::new(0, 0),
        })
    }

    fn end(&mut self) -> SelectEnd {
        let reading = self.reading.as_mut();
        reading.map_or_else(SelectEnd::default, |r| std::mem::take(&mut r.end))
    }
}

impl Reading {
    /// Puts pieces of a stream into the queue, those together that overlap.
    fn enqueue(&mut self, stream: usize, mut pieces: Vec<Piece>) {
        pieces.sort_by_key(|p| p.min_ns);
        let mut open: Option<Cluster> = None;
        for piece in pieces {
            match &mut open {
                Some(cluster) if piece.min_ns <= cluster.max_ns => {
                    cluster.max_ns = cluster.max_ns.max(piece.max_ns);
                    cluster.pieces.push(piece);
                }
                _ => {
                    let cluster = Cluster {
                        stream,
                        min_ns: piece.min_ns,
                        max_ns: piece.max_ns,
                        pieces: vec![piece],
                    };
                    let done = open.replace(cluster);
                    done.into_iter().for_each(|c| self.put(c));
                }
            }
        }
        open.into_iter().for_each(|c| self.put(c));
    }

    fn put(&mut self, cluster: Cluster) {
        let stream = cluster.stream;
        let key = match self.order {
            // Streams are in order, and the clusters of each by time.
            SelectOrder::Streams => {
                let time = i128::from(cluster.min_ns) - i128::from(i64::MIN);
                ((stream as i128) << 64 | time, stream)
            }
            SelectOrder::OldestFirst => (i128::from(cluster.min_ns), stream),
            SelectOrder::NewestFirst => (-i128::from(cluster.max_ns), stream),
        };
        self.queue.push(Reverse(Queued { key, cluster }));
    }

    fn batch(
        &mut self,
        codec: &mut ChunkCodec,
        cancel: &CancelToken,
    ) -> Result<Option<EntryBatch>> {
        let mut blocks = Vec::new();
        let mut bytes = 0;
        while bytes < BATCH_BYTES {
            cancel.check("the select of a head")?;
            let Some(Reverse(Queued { cluster, .. })) = self.queue.pop() else {
                break;
            };
            let stream = cluster.stream;
            let made = self.read(cluster, codec)?;
            for block in made {
                bytes += block.line_bytes() as usize + 64 * block.len();
                let metadata = block.metadata_bytes();
                let stats = &mut self.end.stats;
                stats.head_lines += block.len() as u64;
                stats.head_bytes += block.line_bytes() + metadata;
                stats.head_metadata_bytes += metadata;
                let labels = self.labels[stream].clone();
                blocks.push(StreamBlock { labels, block });
            }
            self.request.bounds.check(&self.end.stats)?;
        }
        if blocks.is_empty() {
            return Ok(None);
        }
        let next = self.queue.peek().map(|Reverse(q)| &q.cluster);
        let horizon_ns = match self.order {
            SelectOrder::Streams => TimestampNs::EPOCH,
            SelectOrder::OldestFirst => next.map_or(TimestampNs::MAX, |c| c.min_ns),
            SelectOrder::NewestFirst => {
                next.map_or(TimestampNs::MIN, |c| c.max_ns.saturating_add(1))
            }
        };
        match self.order {
            SelectOrder::NewestFirst => {
                blocks.sort_by_key(|b| Reverse(b.block.max_ns()));
            }
            SelectOrder::OldestFirst => blocks.sort_by_key(|b| b.block.min_ns()),
            SelectOrder::Streams => {}
        }
        Ok(Some(EntryBatch { blocks, horizon_ns }))
    }

    /// The entries of a cluster; none when it has chunks: their blocks are queued instead.
    fn read(&mut self, cluster: Cluster, codec: &mut ChunkCodec) -> Result<Vec<EntryBlock>> {
        let range = self.request.range_of(&self.labels[cluster.stream]);
        let has_chunks = cluster.pieces.iter().any(Piece::is_chunk);
        let (mut made, mut rest) = (Vec::new(), Vec::new());
        for piece in cluster.pieces {
            if has_chunks && !piece.is_chunk() {
                rest.push(piece);
                continue;
            }
            let (place, min_ns, max_ns) = (piece.place(), piece.min_ns, piece.max_ns);
            let opened = piece.open(range, &self.parts.files, codec, &mut self.end.stats);
            match opened {
                Ok(Opened::Entries(block)) => {
                    made.push(block.between(range.min_ns, range.max_ns));
                }
                Ok(Opened::Parts(parts)) => rest.extend(parts),
                Err(e) if e.kind() == ErrorKind::LimitExceeded => return Err(e),
                Err(e) => {
                    if let Some(place) = place
                        && e.kind() == ErrorKind::Corrupt
                        && self.parts.files.set_aside(place)
                    {
                        tracing::error!(tenant = %self.tenant, stream = %self.labels[cluster.stream], %min_ns, %max_ns, error = %e, "part of a finished chunk cannot be read; the rest of the stream is served");
                    }
                    let labels = &self.labels[cluster.stream];
                    let warning = format!(
                        "entries of {labels} from {min_ns} to {max_ns} ns cannot be read: {e}"
                    );
                    merge_warnings(&mut self.end.warnings, vec![warning]);
                }
            }
        }
        if has_chunks {
            self.enqueue(cluster.stream, rest);
            return Ok(Vec::new());
        }
        made.retain(|block| !block.is_empty());
        if made.len() < 2 {
            return Ok(made);
        }
        let too_large = |e: lgtm_core::DecodeError| Error::LimitExceeded(e.to_string());
        let joined = disjoint(made).map_err(too_large)?;
        self.end.stats.duplicates += joined.duplicates;
        Ok(joined.blocks)
    }
}
