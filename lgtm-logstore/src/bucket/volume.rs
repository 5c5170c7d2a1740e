//! How much there is, as the index counts it.

use lgtm_core::exec::CancelToken;
use lgtm_core::model::{Listed, TenantId, TimeRange};
use lgtm_core::{Error, Result};

use super::bucket_chunks::BucketChunks;
use crate::select::{
    SelectRequest, StreamVolume, VolumeSpan, densest, milliseconds_around, part_in,
};

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
        let may_repeat = request.may_repeat;
        let asked = request.clone();
        let volume = move |stream: super::streams::FoundStream| {
            let request = &asked;
            let range = milliseconds_around(request.range_of(&stream.labels));
            let range = (range.min_ms, range.max_ms);
            let mut spans = Vec::new();
            let mut volume = StreamVolume::of(stream.labels);
            for chunk in &stream.chunks {
                let meta = &chunk.meta;
                let times = (meta.min_ms, meta.max_ms);
                volume.chunks += 1;
                // Kibibytes are whole before and after, as Loki counts them.
                volume.bytes += part_in(range, times, u64::from(meta.kb)) << 10;
                volume.entries += part_in(range, times, u64::from(meta.entries));
                if may_repeat {
                    let range = TimeRange::new(range.0, range.1);
                    let (kb, entries) = (u64::from(meta.kb), u64::from(meta.entries));
                    let mut span = VolumeSpan::of_chunk(range, times, kb, entries);
                    span.bytes <<= 10;
                    spans.push(span);
                }
            }
            volume.take_spans(densest(spans));
            volume
        };
        let streams = found.streams;
        let volumes: Vec<_> = if may_repeat {
            // Spans are sorted and held against each other.
            let executor = self.files.executor.in_line(tenant.as_str());
            let job = move |cancel: &CancelToken| {
                let counted = streams.into_iter().map(|stream| {
                    cancel.check("volumes of log chunks")?;
                    Ok::<_, Error>(volume(stream))
                });
                counted.collect()
            };
            executor.run(job, &CancelToken::new()).await?
        } else {
            streams.into_iter().map(volume).collect()
        };
        let mut listed = Listed::whole(volumes);
        listed.warn(found.warnings);
        Ok(listed)
    }
}
