//! A bucket that our stores wrote, and the tool run over it.

use std::path::{Path, PathBuf};

use lgtm_core::model::{Labels, Sample, TenantId, TimestampMs, TimestampNs};
use lgtm_core::storage::{BackendSettings, from_url};
use lgtm_tool::Outcome;
use serde_json::Value;

/// 2023-11-14T22:00:00Z: the beginning of a block of two hours.
pub(crate) const START_MS: i64 = 1_699_999_200_000;
pub(crate) const HOUR_MS: i64 = 3_600_000;
pub(crate) const TENANT: &str = "shop";

/// Runs the tool; standard output as JSON.
pub(crate) fn tool(words: &[&str]) -> (Outcome, Value, Option<String>) {
    let mut words: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
    words.push("-json".into());
    let (outcome, text, complaint) = lgtm_tool::run(&words);
    let json = serde_json::from_str(&text).unwrap_or(Value::Null);
    (outcome, json, complaint)
}

pub(crate) fn url(bucket: &Path) -> String {
    format!("file:{}", bucket.display())
}

/// Writes a bucket of all three signals below `folder`: two blocks of metrics, two flushes of logs, two blocks of traces, and the lists that
/// compactors write.
pub(crate) fn written(folder: &Path) -> PathBuf {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        metrics(folder).await;
        logs(folder).await;
        traces(folder).await;
    });
    folder.join("bucket")
}

fn backend(folder: &Path) -> lgtm_core::storage::Backend {
    let url = format!("file:{}/bucket", folder.display());
    from_url(&url, &BackendSettings::default()).unwrap()
}

async fn metrics(folder: &Path) {
    let db = lgtm_tsdb::Tsdb::builder(folder.join("metrics"), backend(folder))
        .without_housekeeping()
        .open()
        .await
        .unwrap();
    let tenant = TenantId::new(TENANT).unwrap();
    // The same values two hours later: both blocks have chunks of the same sizes at the same places.
    for start in [START_MS, START_MS + 2 * HOUR_MS] {
        let series: Vec<_> = (0..40)
            .map(|n| {
                let instance = format!("i-{n:02}");
                let labels = [("__name__", "requests_total"), ("instance", &*instance)];
                let labels = Labels::from_pairs(labels).unwrap();
                let samples = (0..200).map(|i| Sample {
                    t_ms: TimestampMs::new(start + i * 30_000),
                    value: f64::from(n) + (i * i % 17) as f64,
                });
                (labels, samples.collect::<Vec<_>>())
            })
            .collect();
        let report = db.append(&tenant, &series).await.unwrap();
        assert_eq!(report.samples, 8000);
    }
    assert_eq!(db.flush().await.unwrap().len(), 2);
    // Writes the bucket index.
    db.compact().await.unwrap();
    db.close().await.unwrap();
}

async fn logs(folder: &Path) {
    use lgtm_logstore::wire::LogEntry;
    let db = lgtm_logstore::LogStore::builder(folder.join("logs"), backend(folder))
        .without_housekeeping()
        .open()
        .await
        .unwrap();
    let tenant = TenantId::new(TENANT).unwrap();
    for flush in 0..2 {
        let streams: Vec<_> = ["cart", "checkout", "search"]
            .into_iter()
            .map(|app| {
                let labels = Labels::from_pairs([("app", app), ("env", "prod")]).unwrap();
                let entries = (0..2000).map(|n| {
                    let t_ms = START_MS + flush * HOUR_MS + n * 1000;
                    let line = format!(
                        "level=info app={app} request={:016x} took={}ms order taken by somebody",
                        (n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15),
                        n % 97
                    );
                    LogEntry::new(TimestampNs::new(t_ms * 1_000_000), line)
                        .with("trace_id", format!("{n:032x}"))
                });
                (labels, entries.collect::<Vec<_>>())
            })
            .collect();
        let report = db.append(&tenant, &streams).await.unwrap();
        assert_eq!(report.entries, 6000);
        assert_eq!(db.flush().await.unwrap().chunks, 3);
    }
    db.close().await.unwrap();
}

async fn traces(folder: &Path) {
    use lgtm_tracestore::trace::{Attribute, ResourceSpans, ScopeSpans, Span, Trace, Value};
    // The spans are years old, and stay.
    let mut limits = lgtm_tracestore::limits::Limits::default();
    limits.compaction.block_retention = std::time::Duration::ZERO;
    let db = lgtm_tracestore::TraceStore::builder(folder.join("traces"), backend(folder))
        .limits(lgtm_core::limits::Overrides::fixed(limits))
        .without_housekeeping()
        .open()
        .await
        .unwrap();
    let tenant = TenantId::new(TENANT).unwrap();
    for flush in 0..2u64 {
        let ids: Vec<_> = (1..=60u64)
            .map(|n| (u128::from(n + flush * 1000).to_be_bytes(), n.to_be_bytes()))
            .collect();
        let start_ns = START_MS as u64 * 1_000_000;
        let spans = ids.iter().zip(1u64..).map(|((trace, span), n)| Span {
            trace_id: trace,
            span_id: span,
            name: b"GET /cart",
            start_ns: start_ns + n * 1_000_000_000,
            end_ns: start_ns + n * 1_000_000_000 + 5_000_000,
            attributes: vec![Attribute {
                key: b"customer",
                value: Value::Text(if n % 2 == 0 { b"anna" } else { b"ben" }),
            }],
            ..Span::default()
        });
        let scope = ScopeSpans {
            spans: spans.collect(),
            ..ScopeSpans::default()
        };
        let resource = ResourceSpans {
            attributes: vec![Attribute {
                key: b"service.name",
                value: Value::Text(b"shop"),
            }],
            scopes: vec![scope],
            ..ResourceSpans::default()
        };
        let pushed = Trace {
            resources: vec![resource],
        };
        assert_eq!(db.append(&tenant, &pushed).await.unwrap().spans, 60);
        assert_eq!(db.flush().await.unwrap().traces, 60);
    }
    // Writes the tenant's lists.
    db.compact().await.unwrap();
    db.close().await.unwrap();
}

/// Copies a folder.
pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).unwrap()),
        }
    }
}

/// All files below a folder whose paths pass, sorted.
pub(crate) fn files(below: &Path, is_wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    fn walk(dir: &Path, out: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => walk(&path, out),
                false => out.push(path),
            }
        }
    }
    let mut out = Vec::new();
    walk(below, &mut out);
    out.retain(|p| is_wanted(p.strip_prefix(below).unwrap().to_str().unwrap()));
    out.sort();
    out
}
