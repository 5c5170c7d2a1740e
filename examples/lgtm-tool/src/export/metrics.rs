//! Blocks of metrics as OpenMetrics.

use lgtm_core::clock::{Clock, SystemClock};
use lgtm_core::model::Sample;
use lgtm_core::storage::Bucket;
use lgtm_core::{Error, Result};
use lgtm_tsdb::block::{BlockId, BlockReader, BlockReaderSettings};
use lgtm_tsdb::bucket::BlockScanner;
use lgtm_tsdb::chunk::SampleValue;
use lgtm_tsdb::select::samples;
use lgtm_tsdb::wire::{OPEN_METRICS_END, push_open_metrics};

use super::export::Exported;
use crate::arguments::Arguments;
use crate::output::Output;
use crate::place::{Place, Signal};
use crate::progress::Progress;
use crate::times::Window;

/// Series that are read at the same time.
const SERIES_AT_ONCE: usize = 256;
/// Metas that are read at the same time.
const CONCURRENCY: usize = 16;

pub(super) async fn export(
    place: &Place,
    arguments: &Arguments,
    window: Window,
    out: &mut Output,
) -> Result<Exported> {
    let bucket = place.bucket(Signal::Metrics);
    let mut done = Exported::default();
    for folder in folders(place, arguments, &bucket, window).await? {
        block(&bucket, &folder, window, out, &mut done).await?;
        done.objects += 1;
    }
    out.write(OPEN_METRICS_END.as_bytes())?;
    Ok(done)
}

/// The blocks that are asked for, the oldest first.
async fn folders(
    place: &Place,
    arguments: &Arguments,
    bucket: &Bucket,
    window: Window,
) -> Result<Vec<String>> {
    if let Some(object) = arguments.word(0) {
        let (_, path) = place.locate(object)?;
        let mut parts = path.split('/');
        let tenant = parts.next().unwrap_or_default();
        let id = parts.next().and_then(|p| p.parse::<BlockId>().ok());
        let id = id.ok_or_else(|| Error::InvalidInput(format!("{object:?} is no block")))?;
        return Ok(vec![format!("{tenant}/{id}")]);
    }
    let tenant = place.one_tenant().await?;
    let scanner = BlockScanner::new(bucket.clone(), CONCURRENCY);
    let found = scanner.scan(&tenant, SystemClock::new().now_ms()).await?;
    let range = window.range_ms();
    let mut wanted: Vec<_> = (found.blocks.iter())
        .filter(|(id, _)| !found.deletion_marks.contains_key(id))
        .map(|(id, block)| (block.meta.min_ms, block.meta.max_ms, *id))
        .filter(|(min_ms, max_ms, _)| *min_ms < range.max_ms && *max_ms > range.min_ms)
        .collect();
    wanted.sort_unstable();
    let folder = |(_, _, id): (_, _, BlockId)| format!("{tenant}/{id}");
    Ok(wanted.into_iter().map(folder).collect())
}

async fn block(
    bucket: &Bucket,
    folder: &str,
    window: Window,
    out: &mut Output,
    done: &mut Exported,
) -> Result<()> {
    let block = BlockReader::open_object(bucket, folder, BlockReaderSettings::default()).await?;
    let references = block.index().postings_all().await?;
    let bar = Progress::new("series", references.len().div_ceil(SERIES_AT_ONCE));
    let mut text = String::new();
    for some in references.chunks(SERIES_AT_ONCE) {
        let all = block.index().series(some).await?;
        for (series, reference) in all.into_iter().zip(some) {
            let broken = |e| Error::corrupt(format!("block {folder}, {}", series.labels), e);
            let chunks = block.chunks().read(&series.chunks).await?;
            let chunks = block.tombstones().apply(*reference, chunks.into());
            let chunks = chunks.map_err(broken)?;
            for (t_ms, value) in samples(&chunks, window.range_ms()).map_err(broken)? {
                let SampleValue::Float(value) = value else {
                    // The text has no native histograms.
                    done.left_out += 1;
                    continue;
                };
                push_open_metrics(&mut text, &series.labels, Sample { t_ms, value });
                done.items += 1;
            }
            out.write(text.as_bytes())?;
            text.clear();
        }
        bar.step(folder);
    }
    Ok(())
}
