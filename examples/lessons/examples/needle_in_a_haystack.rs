//! One rare word among many lines: side files beside the chunks say where it surely is not, so that nearly nothing is read for it.

use lgtm_logstore::lgtm_core::Result;
use lgtm_logstore::prelude::*;

const SECOND: i64 = 1_000_000_000;
const STREAMS: i64 = 20;
const LINES: i64 = 1500;

/// An identifier as services put it into each line.
fn order_id(stream: i64, n: i64) -> String {
    let x = ((stream * LINES + n) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!("{x:016x}{:016x}", x.rotate_left(29) ^ 0x5bd1_e995)
}

#[tokio::main]
async fn main() -> Result<()> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let url = format!("file:{}/bucket", folder.path().display());
    let bucket = from_url(&url, &BackendSettings::default())?;
    let db = LogStore::builder(folder.path(), bucket).open().await?;
    let tenant = TenantId::anonymous();
    let start = TimestampNs::new(1_700_000_000 * SECOND);

    // A haystack of 30,000 lines. When it is flushed, each chunk gets an entry in a side file: a filter of what stands in its lines. (Chunks of less than
    // some 17 KB share one with others, and wait for more of their kind before that is worth an object.)
    for stream in 0..STREAMS {
        let labels = Labels::from_pairs([("app", "shop"), ("pod", &format!("pod-{stream}"))])?;
        let line = |n| {
            format!(
                "level=info msg=\"order taken\" order={}",
                order_id(stream, n)
            )
        };
        let entries = (0..LINES).map(|n| LogEntry::new(start + n * SECOND, line(n)));
        let report = db.append(&tenant, &[(labels, entries.collect())]).await?;
        assert_eq!(report.entries as i64, LINES);
    }
    db.flush().await?;

    let found = async |needle: &str| {
        let range = TimeRangeNs::new(start, start + LINES * SECOND);
        let query = format!("sum(count_over_time({{app=\"shop\"}} |= \"{needle}\" [1h]))");
        let answer = db.query(&tenant, &query, range.max_ns).await;
        let answer = answer.expect("a number of lines");
        assert!(answer.warnings.is_empty(), "nothing is missing");
        let QueryValue::Vector(counts) = answer.value else {
            panic!("an instant query of a vector")
        };
        let lines = counts.first().map_or(0.0, |series| series.points[0].value);
        (lines, answer.stats.fetched)
    };

    // What is in every line has to be read everywhere ...
    let (lines, all) = found("order taken").await;
    assert_eq!(lines, (STREAMS * LINES) as f64);
    assert_eq!(all.chunks_downloaded, STREAMS as u64);

    // ... what is in one line is read nearly nowhere else. The answer is the same as without side files: a filter may send a query to a chunk in
    // vain, and never keeps it from one.
    let (lines, one) = found(&order_id(17, 123)).await;
    assert_eq!(lines, 1.0);
    assert!(one.chunks_downloaded <= all.chunks_downloaded / 4);
    assert!(one.compressed_bytes <= all.compressed_bytes / 4);

    let (lines, none) = found("feedfacefeedfacefeedfacefeedface").await;
    assert_eq!(lines, 0.0);
    assert!(none.chunks_downloaded <= all.chunks_downloaded / 4);
    db.close().await
}
