//! LogQL.

use std::sync::Arc;

use lgtm_core::clock::SystemClock;
use lgtm_core::limits::Overrides;
use lgtm_core::model::{TenantId, TimestampMs};
use lgtm_core::storage::Bucket;
use lgtm_core::{Error, Result};
use lgtm_logstore::bucket::BucketChunks;
use lgtm_logstore::components::{DeleteRequests, DeleteSettings, Querier};
use lgtm_logstore::limits::Limits;
use lgtm_logstore::logql::{Query, QueryRange, QueryValue};

use crate::place::{Place, Signal};
use crate::report::{Cell, Report, Table, warnings};
use crate::times::Times;

/// What tenants want deleted, as far as the bucket says.
pub(crate) async fn deletes(bucket: Bucket) -> Result<Arc<DeleteRequests>> {
    let clock = Arc::new(SystemClock::new());
    let deletes = DeleteRequests::new(bucket, clock, DeleteSettings::default())?;
    deletes.sync().await?;
    Ok(deletes)
}

/// What answers queries over the chunks of a bucket.
async fn querier(place: &Place) -> Result<Arc<Querier>> {
    let bucket = place.bucket(Signal::Logs);
    let mut chunks =
        BucketChunks::builder(bucket.clone(), place.executor.clone()).schema(place.schema.clone());
    if let Some(side) = place.side_bucket() {
        chunks = chunks.side_files(side);
    }
    let chunks = chunks.build()?;
    chunks.sync().await?;
    let limits = Overrides::fixed(Limits::default());
    Querier::builder(Vec::new(), vec![chunks], limits, place.executor.clone())
        .deletes(deletes(bucket).await?)
        .build()
}

pub(super) async fn query(
    place: &Place,
    tenant: &TenantId,
    text: &str,
    times: Times,
    limit: usize,
) -> Result<Report> {
    let querier = querier(place).await?;
    let parser = &querier.engine().settings().parser;
    let range = QueryRange {
        step_ms: i64::try_from(times.step.as_millis()).unwrap_or(i64::MAX),
        limit,
        ..QueryRange::new(times.from, times.to)
    };
    let invalid = |e: &dyn std::fmt::Display| Error::InvalidInput(e.to_string());
    // Lines are of a range; a query for numbers may be asked at one time.
    let as_range = Query::range(text, range, parser).map_err(|e| invalid(&e))?;
    let query = match times.is_instant && !as_range.is_log() {
        true => Query::instant(text, times.to, parser).map_err(|e| invalid(&e))?,
        false => as_range,
    };
    let answer = querier.query(tenant, &query).await;
    let answer = answer.map_err(|e| Error::Unavailable(format!("query: {e}")))?;
    let mut report = Report::default();
    match answer.value {
        QueryValue::Streams(streams) => {
            let mut lines = Vec::new();
            for stream in streams {
                let labels = stream.labels().to_string();
                lines.extend(stream.entries.into_iter().map(|e| (e, labels.clone())));
            }
            lines.sort_by_key(|(entry, _)| std::cmp::Reverse(entry.t_ns));
            let mut table = Table::new(&["time", "stream", "line"]);
            for (entry, labels) in lines {
                let line = String::from_utf8_lossy(&entry.line).into_owned();
                table.row([Cell::TimeNs(entry.t_ns), labels.into(), line.into()]);
            }
            report.table("lines", table);
        }
        QueryValue::Vector(all) | QueryValue::Matrix(all) => {
            let mut table = Table::new(&["series", "time", "value"]);
            for series in all {
                let name = series.labels.to_string();
                for point in series.points {
                    number(&mut table, name.clone(), point.t_ms, point.value);
                }
            }
            report.table("result", table);
        }
        QueryValue::Scalar(point) => {
            let mut table = Table::new(&["series", "time", "value"]);
            number(&mut table, "scalar".into(), point.t_ms, point.value);
            report.table("result", table);
        }
    }
    warnings(&mut report, answer.warnings);
    Ok(report)
}

fn number(table: &mut Table, name: String, t_ms: TimestampMs, value: f64) {
    table.row([name.into(), Cell::Time(t_ms), value.to_string().into()]);
}
