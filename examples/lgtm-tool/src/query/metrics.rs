//! PromQL.

use std::sync::Arc;

use lgtm_core::limits::Overrides;
use lgtm_core::model::{TenantId, TimestampMs};
use lgtm_core::{Error, Result};
use lgtm_tsdb::bucket::BucketBlocks;
use lgtm_tsdb::components::Querier;
use lgtm_tsdb::components::clients::Queries;
use lgtm_tsdb::limits::Limits;
use lgtm_tsdb::promql::{Query, QueryValue, Series};

use crate::place::{Place, Signal};
use crate::report::{Cell, Report, Table, warnings};
use crate::times::Times;

/// What answers queries over the blocks of a bucket.
pub(crate) async fn querier(place: &Place) -> Result<Arc<Querier>> {
    let blocks = BucketBlocks::builder(place.bucket(Signal::Metrics)).build()?;
    blocks.sync().await?;
    let limits = Overrides::fixed(Limits::default());
    Querier::builder(Vec::new(), vec![blocks], limits, place.executor.clone()).build()
}

pub(super) async fn query(
    place: &Place,
    tenant: &TenantId,
    text: &str,
    times: Times,
) -> Result<Report> {
    let querier = querier(place).await?;
    let parser = &querier.engine().settings().parser;
    let step_ms = i64::try_from(times.step.as_millis()).unwrap_or(i64::MAX);
    let query = match times.is_instant {
        true => Query::instant(text, times.to.to_ms(), parser),
        false => Query::range(text, times.from.to_ms()..=times.to.to_ms(), step_ms, parser),
    };
    let query = query.map_err(|e| Error::InvalidInput(e.to_string()))?;
    let answer = querier.query(tenant, &query).await;
    let answer = answer.map_err(|e| Error::Unavailable(format!("query: {e}")))?;
    let mut table = Table::new(&["series", "time", "value"]);
    let mut row = |series: String, t: TimestampMs, value: String| {
        table.row([series.into(), Cell::Time(t), value.into()]);
    };
    match answer.value {
        QueryValue::Scalar(point) => row("scalar".into(), point.t_ms, point.value.to_string()),
        QueryValue::Text(point) => row("string".into(), point.t_ms, point.value),
        QueryValue::Vector(all) | QueryValue::Matrix(all) => {
            for Series {
                labels,
                floats,
                histograms,
            } in all
            {
                let name = labels.to_string();
                for point in floats {
                    row(name.clone(), point.t_ms, point.value.to_string());
                }
                for point in histograms {
                    let h = point.value;
                    let value = format!("histogram of count {} and sum {}", h.count, h.sum);
                    row(name.clone(), point.t_ms, value);
                }
            }
        }
    }
    let mut report = Report::default();
    report.table("result", table);
    warnings(&mut report, answer.warnings.into_iter().chain(answer.infos));
    Ok(report)
}
