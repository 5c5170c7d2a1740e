//! How much there is, as the index counts it.

use lgtm_core::Result;
use lgtm_core::model::{Listed, TenantId, TimeRange};

use super::bucket_chunks::BucketChunks;
use super::streams::milliseconds_around;
use crate::index::ChunkMeta;
use crate::select::{SelectRequest, StreamVolume};

impl BucketChunks {
    /// The volumes of the streams that match, in the order of their labels. Reads the index only.
    ///
    /// # Errors
    /// As [`Select::series`](crate::select::Select::series).
    pub async fn volumes(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> Result<Listed<Vec<StreamVolume>>> {
        let found = self.found(tenant, request).await?;
        let range = milliseconds_around(request.range);
        let volume = |stream: super::streams::FoundStream| {
            let mut volume = StreamVolume {
                labels: stream.labels,
                chunks: stream.chunks.len() as u64,
                bytes: 0,
                entries: 0,
            };
            for chunk in &stream.chunks {
                let meta = &chunk.meta;
                volume.bytes += part_in(range, meta, u64::from(meta.kb) << 10);
                volume.entries += part_in(range, meta, u64::from(meta.entries));
            }
            volume
        };
        let mut listed = Listed::whole(found.streams.into_iter().map(volume).collect());
        listed.warn(found.warnings);
        Ok(listed)
    }
}

/// The part of a chunk's `whole` that falls into a range, as if it were spread evenly.
fn part_in(range: TimeRange, chunk: &ChunkMeta, whole: u64) -> u64 {
    let span = i128::from(chunk.max_ms) - i128::from(chunk.min_ms);
    if span <= 0 {
        return whole;
    }
    let before = (i128::from(range.min_ms) - i128::from(chunk.min_ms)).max(0);
    let behind = (i128::from(chunk.max_ms) - i128::from(range.max_ms)).max(0);
    let inside = (span - before - behind).max(0);
    u64::try_from(i128::from(whole) * inside / span).unwrap_or(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_counts_as_much_as_it_has_of_the_range() {
        let chunk = |min_ms, max_ms| ChunkMeta {
            min_ms,
            max_ms,
            kb: 0,
            entries: 0,
            checksum: 0,
            ingested_day: None,
        };
        let range = TimeRange::new(100, 200);
        for (min, max, part) in [
            (100, 200, 1000),
            (0, 200, 500),
            (150, 250, 500),
            (50, 250, 500),
            (120, 120, 1000),
            (0, 300, 333),
            (0, 100, 0),
        ] {
            assert_eq!(part_in(range, &chunk(min, max), 1000), part, "{min} {max}");
        }
        assert_eq!(part_in(TimeRange::ALL, &chunk(i64::MIN, i64::MAX), 7), 7);
    }
}
