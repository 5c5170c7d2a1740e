//! `compact`: one round of what compactors do.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lgtm_core::Result;
use lgtm_core::exec::CancelToken;
use lgtm_core::limits::Overrides;

use crate::arguments::Arguments;
use crate::place::{Place, Signal, scratch};
use crate::report::{Cell, Report};

pub(crate) async fn compact(place: &Place, arguments: &Arguments) -> Result<Report> {
    arguments.must_write()?;
    let mut report = Report::default();
    for signal in place.signals() {
        match signal {
            Signal::Metrics => metrics(place, &mut report).await?,
            Signal::Logs => logs(place, &mut report).await?,
            Signal::Traces => traces(place, &mut report).await?,
        }
    }
    Ok(report)
}

fn count(counter: &AtomicU64) -> Cell {
    Cell::Count(counter.load(Ordering::Relaxed))
}

async fn metrics(place: &Place, report: &mut Report) -> Result<()> {
    use lgtm_tsdb::components::{Compactor, CompactorSettings};
    let folder = scratch()?;
    // Without a tenant's limits nothing is too old.
    let limits = Overrides::fixed(lgtm_tsdb::limits::Limits::default());
    let bucket = place.bucket(Signal::Metrics);
    // Who runs it by hand does not wait for other ingesters.
    let settings = CompactorSettings {
        first_level_compaction_wait_period: Duration::ZERO,
        ..CompactorSettings::default()
    };
    let compactor = Compactor::builder(bucket, limits, place.executor.clone())
        .settings(settings)
        .folder(folder.path())
        .build()?;
    let cancel = CancelToken::new();
    compactor.compact(&cancel).await?;
    compactor.clean(&cancel).await?;
    let counts = compactor.counts();
    report.facts(
        "metrics",
        [
            ("jobs", count(&counts.groups_completed)),
            ("failed jobs", count(&counts.groups_failed)),
            ("blocks joined", count(&counts.blocks_compacted)),
            ("blocks written", count(&counts.blocks_written)),
            ("samples written", count(&counts.samples_written)),
            ("blocks deleted", count(&counts.blocks_cleaned)),
        ],
    );
    Ok(())
}

async fn logs(place: &Place, report: &mut Report) -> Result<()> {
    use lgtm_logstore::components::Compactor;
    let folder = scratch()?;
    let limits = lgtm_logstore::limits::Limits {
        retention_period: Duration::ZERO,
        ..Default::default()
    };
    let bucket = place.bucket(Signal::Logs);
    let mut compactor = Compactor::builder(bucket.clone(), place.executor.clone())
        .schema(place.schema.clone())
        .limits(Overrides::fixed(limits))
        .deletes(crate::query::deletes(bucket).await?)
        .folder(folder.path())
        .instance("lgtm-tool");
    if let Some(side) = place.side_bucket() {
        compactor = compactor.side_files(side);
    }
    let compactor = compactor.build()?;
    compactor.compact(&CancelToken::new()).await?;
    let counts = compactor.counts();
    report.facts(
        "logs",
        [
            ("tables", count(&counts.tables)),
            ("index files written", count(&counts.files_written)),
            ("index files deleted", count(&counts.files_deleted)),
            ("chunks merged", count(&counts.chunks_merged)),
            ("chunks rewritten", count(&counts.chunks_rewritten)),
            ("chunks deleted", count(&counts.chunks_deleted)),
            (
                "delete requests done",
                count(&counts.delete_requests_processed),
            ),
        ],
    );
    Ok(())
}

/// What compacts trace blocks, and never takes one for too old.
pub(crate) fn trace_compactor(
    place: &Place,
) -> Result<std::sync::Arc<lgtm_tracestore::components::Compactor>> {
    let mut limits = lgtm_tracestore::limits::Limits::default();
    limits.compaction.block_retention = Duration::ZERO;
    let bucket = place.bucket(Signal::Traces);
    let limits = Overrides::fixed(limits);
    lgtm_tracestore::components::Compactor::builder(bucket, limits, place.executor.clone()).build()
}

async fn traces(place: &Place, report: &mut Report) -> Result<()> {
    let compactor = trace_compactor(place)?;
    compactor.compact(&CancelToken::new()).await?;
    let counts = compactor.counts();
    report.facts(
        "traces",
        [
            ("blocks joined", count(&counts.blocks)),
            ("blocks written", count(&counts.blocks_written)),
            ("traces written", count(&counts.traces_written)),
            ("blocks deleted", count(&counts.blocks_deleted)),
        ],
    );
    Ok(())
}
