//! Three signals in one process, and the way of somebody who looks for a fault: a metric is high, its exemplar names a trace, the trace shows the span,
//! and the log tells why.

use lgtm_logstore::wire::LogEntry;
use lgtm_tracestore::lgtm_core::Result;
use lgtm_tracestore::prelude::*;
use lgtm_tsdb::components::clients::Inspect;
use lgtm_tsdb::head::{ExemplarBounds, ExemplarsRequest};
use lgtm_tsdb::lgtm_core::model::{Exemplar, Labels, Matcher, Sample, TimeRange, TimestampMs};

const SECOND: i64 = 1_000_000_000;
const NINE_S: i64 = 1_700_000_000;

#[tokio::main]
async fn main() -> Result<()> {
    // One folder, one bucket: each signal has a prefix of its own in it, and none knows the others.
    let folder = tempfile::tempdir().expect("a temporary folder");
    let bucket = || {
        let url = format!("file:{}/bucket", folder.path().display());
        from_url(&url, &BackendSettings::default())
    };
    let place = |signal: &str| folder.path().join(signal);
    let metrics = lgtm_tsdb::components::Tsdb::builder(place("metrics"), bucket()?)
        .open()
        .await?;
    let logs = lgtm_logstore::components::LogStore::builder(place("logs"), bucket()?)
        .open()
        .await?;
    let traces = TraceStore::builder(place("traces"), bucket()?)
        .open()
        .await?;
    let tenant = TenantId::anonymous();

    // A request of two seconds, as an instrumented service tells of it: a span, a line, and a measurement that names both.
    let id = "5b8efff798038103d269b633813fc60c";
    let trace = TraceId::from_hex(id)?;
    let start_ns = (NINE_S * SECOND) as u64;
    let span = Span {
        trace_id: trace.as_bytes(),
        span_id: &[1; 8],
        name: b"POST /order",
        start_ns,
        end_ns: start_ns + 2 * SECOND as u64,
        ..Span::default()
    };
    let scope = ScopeSpans {
        spans: vec![span],
        ..ScopeSpans::default()
    };
    let resource = ResourceSpans {
        scopes: vec![scope],
        ..ResourceSpans::default()
    };
    let resources = vec![resource];
    let stored = traces.append(&tenant, &Trace { resources }).await?;
    assert_eq!(stored.spans, 1);
    let line = LogEntry::new(
        TimestampNs::new(NINE_S * SECOND),
        "level=warn msg=\"waited for a lock\"",
    );
    let shop = Labels::from_pairs([("app", "shop")])?;
    let entries = vec![line.with("trace_id", id)];
    let stored = logs.append(&tenant, &[(shop, entries)]).await?;
    assert_eq!(stored.entries, 1);
    let mut batch = metrics.batch();
    let t_ms = TimestampMs::new(NINE_S * 1000);
    let labels = [("__name__", "request_seconds"), ("app", "shop")];
    batch.push_series(labels.into_iter(), &[Sample { t_ms, value: 2.0 }]);
    batch.push_exemplar(Exemplar {
        labels: Labels::from_pairs([("trace_id", id)])?,
        value: 2.0,
        t_ms,
    });
    let stored = metrics.push(&tenant, batch).await?;
    assert_eq!(stored.samples, 1);

    // Something is slow ...
    let slow = metrics
        .query(&tenant, "request_seconds > 1", t_ms)
        .await
        .expect("an answer");
    assert!(format!("{:?}", slow.value).contains("shop"));
    // ... for example in this trace ...
    let request = ExemplarsRequest {
        range: TimeRange::new(t_ms, t_ms + 1),
        selectors: vec![vec![Matcher::equal("__name__", "request_seconds")]],
        bounds: ExemplarBounds {
            max_series: 10,
            max_bytes: 1 << 20,
        },
    };
    let found = metrics.ingester().exemplars(&tenant, &request).await?;
    let (_, exemplars) = found.first().expect("the series has one");
    let named = exemplars[0]
        .labels
        .get("trace_id")
        .expect("it names a trace");
    let trace = traces
        .find_trace(&tenant, TraceId::from_hex(named)?)
        .await?;
    assert!(trace.bytes.windows(11).any(|w| w == b"POST /order"));
    // ... whose line says why.
    let query = format!(r#"{{app="shop"}} | trace_id="{named}""#);
    let hour = TimeRangeNs::new((NINE_S - 1800) * SECOND, (NINE_S + 1800) * SECOND);
    let lines = logs.lines(&tenant, &query, hour, 10).await.expect("lines");
    assert!(lines.items[0].1.line.ends_with(b"\"waited for a lock\""));

    metrics.close().await?;
    logs.close().await?;
    traces.close().await
}
