//! A trace store inside your program: a folder for what is recent, an object store for blocks that a Tempo reads.

use lgtm_tracestore::lgtm_core::Result;
use lgtm_tracestore::prelude::*;

const SECOND: u64 = 1_000_000_000;
const NINE: u64 = 1_700_000_000 * SECOND;

#[tokio::main]
async fn main() -> Result<()> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let url = format!("file:{}/bucket", folder.path().display());
    let open = || {
        let bucket = from_url(&url, &BackendSettings::default())?;
        Ok::<_, Error>(TraceStore::builder(folder.path(), bucket).open())
    };
    let tenant = TenantId::anonymous();

    // A hundred requests, each with a span of its own length. Several traces may come in one push.
    let db = open()?.await?;
    let ids: Vec<_> = (1..=100u64)
        .map(|n| (u128::from(n).to_be_bytes(), n.to_be_bytes()))
        .collect();
    let spans = ids.iter().zip(1..).map(|((trace, span), n)| Span {
        trace_id: trace,
        span_id: span,
        name: if n % 2 == 0 { b"GET /cart" } else { b"GET /" },
        start_ns: NINE + n * SECOND,
        end_ns: NINE + n * SECOND + n * 1_000_000,
        attributes: vec![Attribute {
            key: b"http.status_code",
            value: Value::Int(if n == 42 { 500 } else { 200 }),
        }],
        ..Span::default()
    });
    let service = Attribute {
        key: b"service.name",
        value: Value::Text(b"shop"),
    };
    let scope = ScopeSpans {
        spans: spans.collect(),
        ..ScopeSpans::default()
    };
    let resource = ResourceSpans {
        attributes: vec![service],
        scopes: vec![scope],
        ..ResourceSpans::default()
    };
    let pushed = Trace {
        resources: vec![resource],
    };
    // When this returns, the spans survive the end of the process.
    assert_eq!(db.append(&tenant, &pushed).await?.spans, 100);
    db.close().await?;

    // The next start reads the log back. What is sent again is there once.
    let db = open()?.await?;
    let again = db.append(&tenant, &pushed).await?;
    assert_eq!(again.refused_spans(), 0);
    let range = TimeRangeNs::new(NINE as i64, (NINE + 200 * SECOND) as i64);
    let query = "{ span.http.status_code >= 500 }";
    let failed = db.search(&tenant, query, range, 20).await?;
    assert_eq!(failed.value.len(), 1);
    assert_eq!(failed.value[0].id.short_hex(), "2a");

    // Everything becomes a block of Parquet with a bloom filter beside it, which a Tempo over the same bucket reads as well.
    assert_eq!(db.flush().await?.traces, 100);
    let blocks = folder.path().join("bucket/traces/anonymous");
    let block = std::fs::read_dir(blocks).expect("the tenant's blocks");
    let block = block
        .filter_map(|e| Some(e.ok()?.path()))
        .find(|p| p.is_dir());
    let block = block.expect("a block");
    assert!(block.join("data.parquet").exists() && block.join("bloom-0").exists());

    // TraceQL makes series of spans too.
    let query = "{ name = \"GET /cart\" } | count_over_time()";
    let minutes = db
        .metrics(&tenant, query, range, Duration::from_secs(60))
        .await?
        .value;
    let [series] = minutes.series.as_slice() else {
        panic!("one series, since nothing groups the spans")
    };
    let counted: f64 = series.points(&minutes.grid).map(|(_, count)| count).sum();
    assert_eq!(counted, 50.0);
    db.close().await
}
