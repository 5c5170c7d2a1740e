//! TraceQL.

use std::sync::Arc;
use std::time::Duration;

use lgtm_core::clock::SystemClock;
use lgtm_core::limits::Overrides;
use lgtm_core::model::{TenantId, TimestampNs};
use lgtm_core::{Error, Result};
use lgtm_tracestore::bucket::{BlockList, BucketSelect, BucketSettings};
use lgtm_tracestore::components::clients::Queries;
use lgtm_tracestore::components::{MetricsRequest, Querier, QuerierSettings, SearchRequest};
use lgtm_tracestore::limits::Limits;
use lgtm_tracestore::select::TraceRange;
use lgtm_tracestore::traceql::{
    AnswerValue, IntervalGrid, MetricsSettings, QueryBody, SearchSettings, SeriesLabels, parse,
};

use crate::place::{Place, Signal};
use crate::report::{Cell, Report, Table, warnings};
use crate::times::Times;

/// Bytes that series may take while spans are gathered.
const MAX_SERIES_BYTES: usize = 512 << 20;

/// What answers queries over the blocks of a bucket.
fn querier(place: &Place) -> Result<Arc<Querier>> {
    let bucket = place.bucket(Signal::Traces);
    let executor = place.executor.clone();
    let clock = Arc::new(SystemClock::new());
    let list = BlockList::new(bucket.clone(), executor.clone(), clock, Duration::MAX);
    let settings = BucketSettings::default();
    let stored = BucketSelect::new(bucket, executor.clone(), Arc::new(list), &settings);
    let limits = Overrides::fixed(Limits::default());
    Querier::builder(Vec::new(), vec![Arc::new(stored)], limits, executor)
        .settings(QuerierSettings::default())
        .build()
}

pub(super) async fn query(
    place: &Place,
    tenant: &TenantId,
    text: &str,
    times: Times,
    limit: usize,
) -> Result<Report> {
    let querier = querier(place)?;
    let query = Arc::new(parse(text).map_err(|e| Error::InvalidInput(e.to_string()))?);
    let ns = |t: TimestampNs| u64::try_from(t.get()).unwrap_or(0);
    let (start_ns, end_ns) = (ns(times.from), ns(times.to));
    let mut report = Report::default();
    if matches!(query.body, QueryBody::Search(_)) {
        let settings = SearchSettings {
            limit: limit.max(1),
            range: Some(TraceRange { start_ns, end_ns }),
            ..SearchSettings::default()
        };
        let request = SearchRequest { query, settings };
        let answer = querier.search(tenant, &request, None).await?;
        let mut table = Table::new(&["trace", "start", "duration", "service", "root", "spans"]);
        for hit in answer.value {
            let spans: u64 = hit.sets.iter().map(|set| set.matched).sum();
            let start = TimestampNs::new(i64::try_from(hit.start_ns).unwrap_or(i64::MAX));
            table.row([
                hit.id.to_string().into(),
                Cell::TimeNs(start),
                format!("{:?}", Duration::from_nanos(hit.duration_ns)).into(),
                hit.root_service.into(),
                hit.root_name.into(),
                Cell::Count(spans),
            ]);
        }
        report.table("traces", table);
        warnings(&mut report, answer.end.warnings);
        return Ok(report);
    }
    let step_ns = u64::try_from(times.step.as_nanos()).unwrap_or(u64::MAX);
    let settings = MetricsSettings {
        grid: IntervalGrid::range(start_ns, end_ns, step_ns)?,
        exemplars: 0,
        max_series: 0,
        max_bytes: MAX_SERIES_BYTES,
    };
    let request = MetricsRequest { query, settings };
    let answer = querier.metrics(tenant, &request, None).await?;
    let mut table = Table::new(&["series", "time", "value"]);
    for series in &answer.value.series {
        let name = shown(&series.labels);
        for (t_ns, value) in series.points(&answer.value.grid) {
            let t_ns = TimestampNs::new(i64::try_from(t_ns).unwrap_or(i64::MAX));
            table.row([
                name.clone().into(),
                Cell::TimeNs(t_ns),
                value.to_string().into(),
            ]);
        }
    }
    report.table("result", table);
    warnings(&mut report, answer.end.warnings);
    Ok(report)
}

/// Labels as they are written in a query.
fn shown(labels: &SeriesLabels) -> String {
    let labels = labels.iter().map(|(name, value)| match value {
        AnswerValue::Text(text) => format!("{name}={text:?}"),
        AnswerValue::Int(n) => format!("{name}={n}"),
        AnswerValue::Float(n) => format!("{name}={n}"),
        AnswerValue::Bool(yes) => format!("{name}={yes}"),
        AnswerValue::Array(_) => format!("{name}={value:?}"),
    });
    format!("{{{}}}", labels.collect::<Vec<_>>().join(", "))
}
