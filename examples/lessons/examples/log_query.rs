//! LogQL over data of your own: the engine asks one trait, [`Select`], and whoever answers it can be queried.
//!
//! A holder hands out blocks of decoded entries, stream by stream or by time. Filters, parsers and numbers are the engine's; a block that a
//! line filter does not need costs one search over its bytes.

use std::sync::Arc;

use lgtm_core::Result;
use lgtm_core::clock::SystemClock;
use lgtm_core::exec::Executor;
use lgtm_core::model::{Labels, TenantId};
use lgtm_logstore::entry::{EntryBlockBuilder, SymbolList};
use lgtm_logstore::logql::{Engine, EngineSettings, Query, QueryRange, QueryValue};
use lgtm_logstore::select::{MemorySelect, Select};

const SECOND: i64 = 1_000_000_000;

/// A block of a stream: a line every second.
fn block(lines: &[&str]) -> Result<lgtm_logstore::entry::EntryBlock> {
    let mut builder = EntryBlockBuilder::copying(1024);
    for (n, line) in lines.iter().enumerate() {
        let pushed = builder.push_copy(n as i64 * SECOND, line.as_bytes());
        pushed.expect("a few bytes fit into a block");
    }
    Ok(builder.finish(Arc::new(SymbolList::default())))
}

#[tokio::main]
async fn main() -> Result<()> {
    // A holder that has everything in memory; a bucket, a head, or something of your own would do as well.
    let (memory, tenant) = (MemorySelect::default(), TenantId::anonymous());
    let app = |name: &str| Labels::from_pairs([("app", name)]);
    let requests = block(&[
        r#"{"path":"/cart","status":200,"took":"12ms"}"#,
        r#"{"path":"/buy","status":500,"took":"1.2s"}"#,
        r#"{"path":"/buy","status":200,"took":"90ms"}"#,
    ])?;
    memory.push(&tenant, &app("web")?, requests)?;
    memory.push(&tenant, &app("db")?, block(&["checkpoint", "slow query"])?)?;
    let executor = Executor::inline(tokio::runtime::Handle::current());
    let source: Arc<dyn Select> = Arc::new(memory);
    let clock = Arc::new(SystemClock::new());
    let engine = Engine::new(source, executor, clock, EngineSettings::default())?;
    let parser = &engine.settings().parser;
    let range = QueryRange::new(0, 60 * SECOND);

    // Lines: a selector finds streams, a filter lines, a parser makes labels of them, which later stages compare.
    let text = r#"{app="web"} |= "/buy" | json | took > 1s | line_format "{{.path}} {{.status}}""#;
    let query = Query::range(text, range, parser).expect("a query");
    let answer = engine.query(&tenant, &query).await.expect("an answer");
    let QueryValue::Streams(streams) = answer.value else {
        unreachable!("a log query gives streams")
    };
    assert_eq!(&streams[0].entries[0].line[..], b"/buy 500");
    assert_eq!(streams[0].labels().get("status"), Some("500"));
    // One of three lines passed; the other stream was not looked at.
    assert_eq!(answer.stats.fetched.lines(), 3);
    assert_eq!(answer.stats.post_filter_lines, 1);

    // Numbers: what falls into the minute before a time, by a label that the query made.
    let text = r#"sum by (path) (count_over_time({app="web"} | json [1m]))"#;
    let query = Query::instant(text, 60 * SECOND - 1, parser).expect("a query");
    let answer = engine.query(&tenant, &query).await.expect("an answer");
    let QueryValue::Vector(series) = answer.value else {
        unreachable!("a sum is a vector")
    };
    let paths = series.iter();
    let paths: Vec<_> = paths
        .map(|s| (s.labels.get("path"), s.points[0].value))
        .collect();
    assert_eq!(paths, [(Some("/buy"), 2.0), (Some("/cart"), 1.0)]);

    // What does not parse is told with its place.
    let Err(error) = Query::range(r#"{app="web"} |= "#, range, parser) else {
        unreachable!("a filter wants a text")
    };
    assert!(error.to_string().contains("parse error"), "{error}");
    Ok(())
}
