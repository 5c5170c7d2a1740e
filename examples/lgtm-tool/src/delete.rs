//! `delete`: what is to go, marked or asked for as the stores do it themselves.

use std::sync::Arc;

use lgtm_core::clock::{Clock, SystemClock};
use lgtm_core::exec::CancelToken;
use lgtm_core::model::{TenantId, TimeRangeNs};
use lgtm_core::{Error, Result};
use lgtm_logstore::components::{DeleteRequests, DeleteSettings};
use lgtm_tracestore::compact::{RedactedTraces, RedactionRequest};
use lgtm_tracestore::trace::TraceId;
use lgtm_tracestore::traceql::RedactionFilter;
use lgtm_tsdb::block::{BlockId, DeletionMark, TenantDeletionMark};
use lgtm_tsdb::bucket::{BlockScanner, MARKERS_FOLDER, mark_for_deletion};

use crate::arguments::Arguments;
use crate::place::{Place, Signal};
use crate::report::{Cell, Report, Table, warnings};
use crate::times::Times;

/// The word for all of a tenant.
const ALL: &str = "all";
/// Metas that are read at the same time.
const CONCURRENCY: usize = 16;

pub(crate) async fn delete(place: &Place, arguments: &Arguments) -> Result<Report> {
    let tenant = place.one_tenant().await?;
    match place.one_signal()? {
        Signal::Metrics => metrics(place, arguments, &tenant).await,
        Signal::Logs => logs(place, arguments, &tenant).await,
        Signal::Traces => traces(place, arguments, &tenant).await,
    }
}

/// Blocks are marked; a compactor deletes them when their delay is over.
async fn metrics(place: &Place, arguments: &Arguments, tenant: &TenantId) -> Result<Report> {
    let bucket = place.bucket(Signal::Metrics);
    let now_s = SystemClock::new().now_ms().to_seconds();
    let is_real = arguments.is_set("write");
    let mut report = Report::default();
    let scanner = BlockScanner::new(bucket.clone(), CONCURRENCY);
    let found = scanner.scan(tenant, SystemClock::new().now_ms()).await?;
    let mut table = Table::new(&["block", "from", "to", "samples", "marked"]);
    if let [word] = arguments.words()
        && word == ALL
    {
        if is_real {
            let mark = TenantDeletionMark::new(now_s);
            let name = TenantDeletionMark::FILE_NAME;
            let path = format!("{tenant}/{MARKERS_FOLDER}/{name}");
            bucket.put(&path, mark.encode()?).await?;
        }
        report.facts(
            "tenant",
            [
                ("id", tenant.as_str().into()),
                ("blocks", found.blocks.len().into()),
                ("marked", Cell::Flag(is_real)),
            ],
        );
        return Ok(report);
    }
    let ids: Vec<BlockId> = (arguments.words().iter())
        .map(|word| {
            let id = word.parse();
            id.map_err(|_| Error::InvalidInput(format!("{word:?} is no block's id")))
        })
        .collect::<Result<_>>()?;
    if let Some(id) = ids.iter().find(|id| !found.blocks.contains_key(id)) {
        return Err(Error::NotFound(format!("block {tenant}/{id}")));
    }
    for id in ids {
        let meta = &found.blocks[&id].meta;
        if is_real {
            let mark = DeletionMark::new(id, now_s, "lgtm-tool delete");
            mark_for_deletion(&bucket, tenant, &mark).await?;
        }
        table.row([
            id.to_string().into(),
            meta.min_ms.into(),
            meta.max_ms.into(),
            meta.stats.num_samples.into(),
            Cell::Flag(is_real),
        ]);
    }
    report.table("blocks", table);
    Ok(report)
}

/// A request is left in the bucket; queries leave out at once what it selects, and a compactor deletes it.
async fn logs(place: &Place, arguments: &Arguments, tenant: &TenantId) -> Result<Report> {
    let [query] = arguments.words() else {
        return Err(Error::InvalidInput(
            "logs are deleted by one query, in quotes".into(),
        ));
    };
    let times = given_range(arguments)?;
    let bucket = place.bucket(Signal::Logs);
    let clock = Arc::new(SystemClock::new());
    let requests = DeleteRequests::new(bucket, clock, DeleteSettings::default())?;
    requests.sync().await?;
    let mut report = Report::default();
    let id = match arguments.is_set("write") {
        true => {
            let (from, to) = (times.from.to_ms(), times.to.to_ms());
            requests.add(tenant, query, from, to).await?.into()
        }
        false => Cell::None,
    };
    report.facts(
        "delete request",
        [
            ("tenant", tenant.as_str().into()),
            ("query", query.as_str().into()),
            ("from", times.from.into()),
            ("to", times.to.into()),
            ("request", id),
            ("open before", requests.list(tenant).len().into()),
        ],
    );
    Ok(report)
}

/// Blocks are written again at once without the traces.
async fn traces(place: &Place, arguments: &Arguments, tenant: &TenantId) -> Result<Report> {
    let words = arguments.words();
    let ids: Result<Vec<TraceId>> = words.iter().map(|w| TraceId::from_hex(w)).collect();
    let traces = match (ids, words) {
        (Ok(ids), _) => RedactedTraces::Ids(ids),
        (Err(_), [query]) if query.contains('{') => {
            let times = given_range(arguments)?;
            let range = TimeRangeNs::new(times.from, times.to);
            RedactedTraces::Query(
                RedactionFilter::new(query).map_err(|e| Error::InvalidInput(e.to_string()))?,
                Some(range),
            )
        }
        (Err(e), _) => return Err(e),
    };
    let request = RedactionRequest {
        traces,
        is_dry_run: !arguments.is_set("write"),
    };
    let compactor = crate::compact::trace_compactor(place)?;
    let never = CancelToken::new();
    let done = compactor.redact(tenant, &request, &never).await?;
    let mut report = Report::default();
    report.facts(
        "redaction",
        [
            ("traces", Cell::Count(done.traces)),
            ("blocks", Cell::Count(done.blocks)),
            ("done", Cell::Flag(!request.is_dry_run)),
        ],
    );
    warnings(&mut report, done.warnings);
    Ok(report)
}

/// The range that was given. None is taken by itself for what cannot be undone.
fn given_range(arguments: &Arguments) -> Result<Times> {
    for name in ["from", "to"] {
        if arguments.flag(name).is_none() {
            return Err(Error::InvalidInput(format!(
                "what a query selects is deleted in a range: say -{name}"
            )));
        }
    }
    Times::read(arguments)
}
