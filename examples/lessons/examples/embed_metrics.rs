//! A metrics store inside your program: a folder for what is recent, an object store for blocks.

use lgtm_core::Result;
use lgtm_core::model::{Labels, Matcher, Sample, TenantId, TimeRange};
use lgtm_core::storage::{BackendSettings, from_url};
use lgtm_tsdb::Tsdb;

#[tokio::main]
async fn main() -> Result<()> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let url = format!("file:{}/bucket", folder.path().display());
    let tenant = TenantId::anonymous();
    let labels = Labels::from_pairs([("__name__", "up"), ("job", "api")])?;
    let t_ms = 1_700_000_000_000;

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
    db.append(
        &tenant,
        &[(
            labels,
            vec![Sample {
                t_ms: t_ms + 15_000,
                value: 0.0,
            }],
        )],
    )
    .await?;
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
    db.close().await
}
