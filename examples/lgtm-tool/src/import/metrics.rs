//! OpenMetrics becomes blocks.

use std::collections::HashMap;
use std::time::Duration;

use lgtm_core::Result;
use lgtm_core::limits::Overrides;
use lgtm_core::model::{Labels, Sample, TenantId};
use lgtm_tsdb::Tsdb;
use lgtm_tsdb::limits::Limits;
use lgtm_tsdb::wire::OpenMetricsLine;

use super::import::Imported;
use super::text::TextLines;
use crate::place::{Place, scratch};

/// Samples that are handed over together.
const BATCH: usize = 20_000;
/// Samples that are in memory before they are written as blocks, some bytes each.
const SAMPLES_AT_ONCE: u64 = 20_000_000;
/// However old, and in whatever order.
const ANY_ORDER: Duration = Duration::from_secs(200 * 365 * 86_400);

/// Blocks are of two hours. A text that goes through all of its time again and again, series by series, becomes several of the same two hours when it
/// has more than twenty million samples; the compactor joins them.
pub(super) async fn import(
    place: &Place,
    tenant: &TenantId,
    lines: &mut TextLines,
) -> Result<Imported> {
    let folder = scratch()?;
    let limits = Limits {
        out_of_order_time_window: ANY_ORDER,
        creation_grace_period: ANY_ORDER,
        ..Limits::default()
    };
    let db = Tsdb::builder(folder.path(), place.backend())
        .layout(place.layout().clone())
        .limits(Overrides::fixed(limits))
        .without_housekeeping()
        .open()
        .await?;
    let mut done = Imported::default();
    let mut batch: HashMap<Labels, Vec<Sample>> = HashMap::new();
    let (mut held, mut unwritten, mut has_end) = (0, 0, false);
    while let Some(line) = lines.next()? {
        let line = std::str::from_utf8(line).map(OpenMetricsLine::parse);
        match line {
            Ok(Ok(OpenMetricsLine::Sample(labels, sample))) => {
                batch.entry(labels).or_default().push(sample);
                held += 1;
            }
            Ok(Ok(OpenMetricsLine::End)) => {
                has_end = true;
                break;
            }
            Ok(Ok(OpenMetricsLine::Other)) => {}
            Ok(Err(e)) => return Err(lines.wrong(&e)),
            Err(e) => return Err(lines.wrong(&e)),
        }
        if held >= BATCH {
            unwritten += append(&db, tenant, &mut batch, &mut done).await?;
            held = 0;
            if unwritten >= SAMPLES_AT_ONCE {
                done.objects += db.flush().await?.len() as u64;
                unwritten = 0;
            }
        }
    }
    if !has_end {
        return Err(lines.wrong(&"the text does not end with \"# EOF\": it was cut off"));
    }
    append(&db, tenant, &mut batch, &mut done).await?;
    done.objects += db.flush().await?.len() as u64;
    db.close().await?;
    Ok(done)
}

/// Stores what is held; how many samples that were.
async fn append(
    db: &Tsdb,
    tenant: &TenantId,
    batch: &mut HashMap<Labels, Vec<Sample>>,
    done: &mut Imported,
) -> Result<u64> {
    let mut series: Vec<_> = batch.drain().collect();
    if series.is_empty() {
        return Ok(0);
    }
    for (_, samples) in &mut series {
        samples.sort_by_key(|s| s.t_ms);
    }
    let report = db.append(tenant, &series).await?;
    done.items += report.samples;
    for (why, count) in report.rejected.samples {
        done.refuse(why, count);
    }
    Ok(report.samples)
}
