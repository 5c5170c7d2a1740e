//! A metrics store inside your program: a folder for what is recent, an object store for blocks.

use std::time::Duration;

use lgtm_tsdb::lgtm_core::Result;
use lgtm_tsdb::prelude::*;

#[tokio::main]
async fn main() -> Result<()> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let url = format!("file:{}/bucket", folder.path().display());
    let tenant = TenantId::anonymous();
    let labels = Labels::from_pairs([("__name__", "up"), ("job", "api")])?;
    let t_ms = TimestampMs::new(1_700_000_000_000);

    let db = Tsdb::builder(folder.path(), from_url(&url, &BackendSettings::default())?)
        .open()
        .await?;
    // When this returns, the samples survive the end of the process.
    let report = db
        .append(
            &tenant,
            &[(labels.clone(), vec![Sample { t_ms, value: 1.0 }])],
        )
        .await?;
    assert_eq!(report.samples, 1);
    db.close().await?;

    // The next start reads the log back.
    let db = Tsdb::builder(folder.path(), from_url(&url, &BackendSettings::default())?)
        .open()
        .await?;
    let sample = Sample {
        t_ms: t_ms + 15_000,
        value: 0.0,
    };
    let report = db.append(&tenant, &[(labels, vec![sample])]).await?;
    assert_eq!(report.rejected.total(), 0);
    // Everything becomes a block, which promtool and Prometheus read as well.
    assert_eq!(db.flush().await?.len(), 1);

    let found = db
        .select(&tenant, vec![Matcher::equal("job", "api")], TimeRange::ALL)
        .await?;
    assert!(found.warnings.is_empty(), "nothing is missing");
    assert_eq!(found.items.len(), 1);
    assert_eq!(
        found.items[0].1.iter().map(|s| s.0).collect::<Vec<_>>(),
        [t_ms, t_ms + 15_000]
    );

    // PromQL over both, with what it could not read in `warnings`.
    let up = db.query(&tenant, "sum by (job) (up)", t_ms).await?;
    let QueryValue::Vector(series) = up.value else {
        panic!("an instant query of a vector");
    };
    assert_eq!(series[0].floats[0].value, 1.0);
    let range = t_ms..=t_ms + 15_000;
    let up = db
        .query_range(&tenant, "up", range, Duration::from_secs(15))
        .await?;
    let QueryValue::Matrix(series) = up.value else {
        panic!("a range query");
    };
    assert_eq!(series[0].len(), 2);
    db.close().await
}
