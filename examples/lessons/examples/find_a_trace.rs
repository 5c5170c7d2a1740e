//! A trace comes in pieces, from services that know nothing of each other, and is found as one: by its id, or by what its spans have to do with each
//! other.

use lgtm_tracestore::lgtm_core::Result;
use lgtm_tracestore::prelude::*;

const SECOND: u64 = 1_000_000_000;

/// A span as its service sends it: half a second, from `at_ms` after nine o'clock.
fn span<'a>(
    trace: &'a TraceId,
    id: &'a [u8; 8],
    parent: &'a [u8],
    name: &'a str,
    at_ms: u64,
) -> Span<'a> {
    let start_ns = 1_700_000_000 * SECOND + at_ms * 1_000_000;
    Span {
        trace_id: trace.as_bytes(),
        span_id: id,
        parent_span_id: parent,
        name: name.as_bytes(),
        start_ns,
        end_ns: start_ns + SECOND / 2,
        ..Span::default()
    }
}

/// What one service sends: its spans, and who it is.
fn sent<'a>(service: &'a str, spans: Vec<Span<'a>>) -> Trace<'a> {
    let name = Attribute {
        key: b"service.name",
        value: Value::Text(service.as_bytes()),
    };
    let scope = ScopeSpans {
        spans,
        ..ScopeSpans::default()
    };
    Trace {
        resources: vec![ResourceSpans {
            attributes: vec![name],
            scopes: vec![scope],
            ..ResourceSpans::default()
        }],
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let db = TraceStore::builder(folder.path(), Backend::memory())
        .open()
        .await?;
    let tenant = TenantId::anonymous();
    let order = TraceId::from_hex("5b8efff798038103d269b633813fc60c")?;
    let other = TraceId::from_hex("c0ffee")?;
    let [root, call, query] = [[1; 8], [2; 8], [3; 8]];

    // The database's part comes first, and is in a block when the others arrive.
    let mut slow = span(&order, &query, &call, "SELECT", 20);
    slow.status_code = 2;
    assert_eq!(db.append(&tenant, &sent("db", vec![slow])).await?.spans, 1);
    db.flush().await?;
    for later in [
        sent("stock", vec![span(&order, &call, &root, "reserve", 10)]),
        sent("shop", vec![span(&order, &root, &[], "POST /order", 0)]),
        sent("shop", vec![span(&other, &root, &[], "GET /cart", 0)]),
    ] {
        assert_eq!(db.append(&tenant, &later).await?.spans, 1);
    }

    // By id: all parts, wherever they lie. An id is looked up in one shard of a bloom filter a block, and most blocks say no by that.
    let found = db.find_trace(&tenant, order).await?;
    assert!(found.end.warnings.is_empty(), "nothing is missing");
    for service in ["shop", "stock", "db"] {
        let is_there = found
            .bytes
            .windows(service.len())
            .any(|w| w == service.as_bytes());
        assert!(is_there, "{service}");
    }
    let nothing = db.find_trace(&tenant, TraceId::from_hex("abc")?).await?;
    assert!(
        nothing.bytes.is_empty(),
        "a trace that is not there is no error"
    );

    // By content: an error somewhere below the shop's request. No span says so by itself, and two of them never met before the query did.
    let range = TimeRangeNs::new(1_699_999_000 * SECOND as i64, 1_700_001_000 * SECOND as i64);
    let query = r#"{ resource.service.name = "shop" } >> { status = error }"#;
    let hits = db.search(&tenant, query, range, 20).await?.value;
    let [hit] = hits.as_slice() else {
        panic!("one trace has such an error")
    };
    assert_eq!((hit.id, hit.root_name.as_str()), (order, "POST /order"));
    assert_eq!(hit.sets[0].spans[0].id, SpanId::new([3; 8]));
    db.close().await
}
