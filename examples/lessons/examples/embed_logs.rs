//! A log store inside your program: a folder for what is recent, an object store for chunks that Loki reads.

use lgtm_logstore::lgtm_core::Result;
use lgtm_logstore::prelude::*;

const SECOND: i64 = 1_000_000_000;

#[tokio::main]
async fn main() -> Result<()> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let url = format!("file:{}/bucket", folder.path().display());
    let open = || {
        let bucket = from_url(&url, &BackendSettings::default())?;
        Ok::<_, Error>(LogStore::builder(folder.path(), bucket).open())
    };
    let tenant = TenantId::anonymous();
    let shop = Labels::from_pairs([("app", "shop"), ("env", "prod")])?;
    let t_ns = 1_700_000_000 * SECOND;

    let db = open()?.await?;
    // When this returns, the lines survive the end of the process.
    let entries = vec![
        LogEntry::new(t_ns, "level=info msg=\"order taken\" took=12ms"),
        LogEntry::new(t_ns + SECOND, "level=warn msg=\"slow query\" took=1.5s")
            .with("trace_id", "7f3a9c"),
    ];
    let report = db.append(&tenant, &[(shop.clone(), entries)]).await?;
    assert_eq!(report.entries, 2);
    db.close().await?;

    // The next start reads the log back. A line that was sent again is no second one.
    let db = open()?.await?;
    let entries = vec![
        LogEntry::new(t_ns, "level=info msg=\"order taken\" took=12ms"),
        LogEntry::new(t_ns + 2 * SECOND, "level=error msg=\"out of stock\""),
    ];
    let report = db.append(&tenant, &[(shop, entries)]).await?;
    assert_eq!((report.entries, report.duplicates), (1, 1));

    // What a tenant's limits refuse is told, and everything else of the push is stored.
    let unnamed = Labels::from_pairs([("app", "x".repeat(5000))])?;
    let refused = vec![LogEntry::new(t_ns, "whose is this?")];
    let report = db.append(&tenant, &[(unnamed, refused)]).await?;
    let refusal = report.refusal(tenant.as_str()).expect("a refusal");
    assert_eq!(refusal.status, 400);
    assert!(refusal.message.contains("label value too long"));

    // Everything becomes chunks and an index file, which a Loki over the same bucket reads as well.
    let flushed = db.flush().await?;
    assert_eq!((flushed.chunks, flushed.index_files.len()), (1, 1));

    // LogQL over both: lines, the newest first, with their labels ...
    let hour = TimeRangeNs::new(t_ns - 1800 * SECOND, t_ns + 1800 * SECOND);
    let query = r#"{app="shop"} | logfmt | took > 1s"#;
    let slow = db.lines(&tenant, query, hour, 10).await.expect("lines");
    assert!(slow.warnings.is_empty(), "nothing is missing");
    let [(labels, entry)] = slow.items.as_slice() else {
        panic!("one line is slow")
    };
    assert_eq!(labels.get("trace_id"), Some("7f3a9c"));
    assert!(entry.line.starts_with(b"level=warn"));

    // ... and numbers.
    let query = r#"sum by (level) (count_over_time({app="shop"} | logfmt [1m]))"#;
    let at = t_ns + 10 * SECOND;
    let answer = db.query(&tenant, query, at).await.expect("a vector");
    let QueryValue::Vector(levels) = answer.value else {
        panic!("an instant query of a vector")
    };
    let levels: Vec<_> = levels
        .iter()
        .filter_map(|s| s.labels.get("level"))
        .collect();
    assert_eq!(levels, ["error", "info", "warn"]);
    db.close().await
}
