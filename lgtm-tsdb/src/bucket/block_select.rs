//! Answering a select from one block.

use std::sync::Arc;

use async_trait::async_trait;
use lgtm_core::model::{MatchOp, Matcher, TimeRange};
use lgtm_core::postings::{List, Postings, intersect, subtract, union};
use lgtm_core::{Error, Result};

use crate::block::BlockReader;
use crate::chunk::{Encoding, encode_started_run};
use crate::index::IndexReader;
use crate::select::{SelectRequest, SeriesBatches, SeriesChunk, SeriesChunks, started_samples};

/// References of the series that pass all matchers, ascending, which is label order.
pub(super) async fn select_refs(index: &IndexReader, matchers: &[Matcher]) -> Result<Vec<u32>> {
    let mut keep: Vec<Vec<u32>> = Vec::new();
    let mut drop: Vec<Vec<u32>> = Vec::new();
    for m in matchers {
        if m.matches_empty() {
            // Series without the label pass: take away those whose value does not.
            drop.extend(
                index
                    .postings_for_values(m.name(), &mut |v| !m.matches(v))
                    .await?,
            );
            continue;
        }
        let list = matching(index, m).await?;
        if list.is_empty() {
            return Ok(list);
        }
        keep.push(list);
    }
    let kept = match keep.len() {
        0 => index.postings_all().await?,
        1 => keep.remove(0),
        _ => intersect(keep.into_iter().map(List::from_ascending).collect()).collect_ids(),
    };
    if drop.is_empty() {
        return Ok(kept);
    }
    let dropped = union(drop.into_iter().map(List::from_ascending).collect());
    Ok(subtract(List::from_ascending(kept), dropped).collect_ids())
}

async fn matching(index: &IndexReader, m: &Matcher) -> Result<Vec<u32>> {
    let lists = match m.literal_values() {
        Some(values) if matches!(m.op(), MatchOp::Equal | MatchOp::Regex) => {
            let mut lists = Vec::with_capacity(values.len());
            for value in &values {
                lists.push(index.postings(m.name(), value).await?);
            }
            lists
        }
        _ => {
            index
                .postings_for_values(m.name(), &mut |v| m.matches(v))
                .await?
        }
    };
    Ok(match lists.len() {
        1 => lists.into_iter().next().unwrap_or_default(),
        _ => union(lists.into_iter().map(List::from_ascending).collect()).collect_ids(),
    })
}

/// The series of one block, batch by batch: index entries and chunks of a batch are read together.
#[derive(Debug)]
pub(super) struct BlockBatches {
    reader: Arc<BlockReader>,
    refs: Vec<u32>,
    next: usize,
    request: SelectRequest,
    batch_series: usize,
}

impl BlockBatches {
    pub(super) fn new(
        reader: Arc<BlockReader>,
        refs: Vec<u32>,
        request: SelectRequest,
        batch_series: usize,
    ) -> Self {
        Self {
            reader,
            refs,
            next: 0,
            request,
            batch_series,
        }
    }

    async fn read_batch(&self, refs: &[u32]) -> Result<Vec<SeriesChunks>> {
        let range = self.request.range;
        let mut series = self.reader.index().series(refs).await?;
        for s in &mut series {
            s.chunks
                .retain(|c| c.min_ms < range.max_ms && c.max_ms >= range.min_ms);
        }
        series.retain(|s| !s.chunks.is_empty() && self.request.takes(&s.labels));
        if self.request.shard.is_some() {
            self.request.budget.spend(series.len() as u64, 0, 0)?;
        }
        let wanted: Vec<u64> = series
            .iter()
            .flat_map(|s| s.chunks.iter().map(|c| c.reference))
            .collect();
        let mut raw = self.reader.chunks().read(&wanted).await?.into_iter();
        let bytes: usize = raw.as_slice().iter().map(|c| c.data.len()).sum();
        self.request
            .budget
            .spend(0, wanted.len() as u64, bytes as u64)?;
        let mut out = Vec::with_capacity(series.len());
        for s in series {
            let mut chunks = Vec::with_capacity(s.chunks.len());
            for (meta, raw) in s.chunks.iter().zip(raw.by_ref()) {
                let encoding = Encoding::try_from(raw.encoding).map_err(|e| {
                    Error::corrupt(
                        format!("block {}, series {}", self.reader.meta().ulid, s.labels),
                        e,
                    )
                })?;
                chunks.push(SeriesChunk {
                    min_ms: meta.min_ms,
                    max_ms: meta.max_ms,
                    encoding,
                    data: raw.data,
                });
            }
            self.apply_tombstones(s.reference, &mut chunks)?;
            out.push(SeriesChunks {
                labels: s.labels,
                chunks,
            });
        }
        Ok(out)
    }

    /// Takes deleted samples out; a chunk that keeps only some of its samples is encoded anew.
    fn apply_tombstones(&self, reference: u32, chunks: &mut Vec<SeriesChunk>) -> Result<()> {
        let deleted = self.reader.tombstones().get(reference);
        if deleted.is_empty() {
            return Ok(());
        }
        let mut kept = Vec::with_capacity(chunks.len());
        for chunk in chunks.drain(..) {
            let touched = deleted
                .iter()
                .any(|d| d.min_ms <= chunk.max_ms && d.max_ms >= chunk.min_ms);
            if !touched {
                kept.push(chunk);
                continue;
            }
            let broken = |e| {
                Error::corrupt(
                    format!("block {}, series {reference}", self.reader.meta().ulid),
                    e,
                )
            };
            let one = std::slice::from_ref(&chunk);
            let mut samples = started_samples(one, TimeRange::ALL).map_err(broken)?;
            samples.retain(|(at, _)| !deleted.iter().any(|d| d.contains(at.t_ms)));
            kept.extend(
                encode_started_run(samples)
                    .into_iter()
                    .map(|c| SeriesChunk {
                        min_ms: c.min_ms,
                        max_ms: c.max_ms,
                        encoding: c.encoding,
                        data: c.data.into(),
                    }),
            );
        }
        *chunks = kept;
        Ok(())
    }
}

#[async_trait]
impl SeriesBatches for BlockBatches {
    async fn next_batch(&mut self) -> Result<Option<Vec<SeriesChunks>>> {
        if self.next >= self.refs.len() {
            return Ok(None);
        }
        let end = (self.next + self.batch_series).min(self.refs.len());
        let batch = self.read_batch(&self.refs[self.next..end]).await?;
        self.next = end;
        Ok(Some(batch))
    }
}
