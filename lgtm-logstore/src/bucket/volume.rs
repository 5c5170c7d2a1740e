//! How much there is, as the index counts it.

use lgtm_core::Result;
use lgtm_core::model::{Listed, TenantId};

use super::bucket_chunks::BucketChunks;
use super::streams::milliseconds_around;
use crate::select::{SelectRequest, StreamVolume, part_in};

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
        let volume = |stream: super::streams::FoundStream| {
            let range = milliseconds_around(request.range_of(&stream.labels));
            let range = (range.min_ms, range.max_ms);
            let mut volume = StreamVolume::of(stream.labels);
            for chunk in &stream.chunks {
                let meta = &chunk.meta;
                let times = (meta.min_ms, meta.max_ms);
                volume.chunks += 1;
                // Kibibytes are whole before and after, as Loki counts them.
                volume.bytes += part_in(range, times, u64::from(meta.kb)) << 10;
                volume.entries += part_in(range, times, u64::from(meta.entries));
            }
            volume
        };
        let mut listed = Listed::whole(found.streams.into_iter().map(volume).collect());
        listed.warn(found.warnings);
        Ok(listed)
    }
}
