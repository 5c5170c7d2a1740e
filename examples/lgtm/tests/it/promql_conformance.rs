//! The published queries over the HTTP API, asked of the host directly and through everything that stands before its engine.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::host::Host;

/// The folder of published cases, or none: then a test says so, and CI fails.
pub(crate) fn shared() -> Option<PathBuf> {
    let named = std::env::var_os("LGTM_SHARED").map(PathBuf::from);
    let folder =
        named.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"));
    if folder.is_dir() {
        return Some(folder);
    }
    assert!(
        std::env::var_os("CI").is_none(),
        "{} is missing, and CI must have it",
        folder.display()
    );
    eprintln!("skipped: {} is missing", folder.display());
    None
}

/// Runs the examiner; all cases must pass.
pub(crate) fn examine(shared: &Path, host: &Host, push: bool, what: &str) {
    let mut command = Command::new("python3");
    command
        .arg(shared.join("lab/promql_exam.py"))
        .args(["--base", &format!("{}/prometheus", host.url())])
        .arg("--set")
        .arg(shared.join("conformance/promql-api"))
        .args(["--min-pass", "1", "--settle", "0"]);
    if push {
        command.args(["--push-base", &host.url(), "--push", "/api/v1/push"]);
    }
    let said = command.output().unwrap();
    assert!(
        said.status.success(),
        "{what}: {}{}",
        String::from_utf8_lossy(&said.stdout),
        String::from_utf8_lossy(&said.stderr)
    );
}

/// The value of a metric of the host, summed over its labels.
fn metric(host: &Host, name: &str) -> f64 {
    let page = host.get("/metrics").text();
    let lines = page.lines().filter(|l| {
        l.strip_prefix(name)
            .is_some_and(|r| r.starts_with([' ', '{']))
    });
    lines
        .map(|l| l.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
        .sum()
}

#[test]
fn every_published_query_passes_directly_and_on_blocks() {
    let Some(shared) = shared() else { return };
    let dir = tempfile::tempdir().unwrap();
    let host = Host::start(dir.path(), &["-metrics.query-frontend.enabled=false"]);
    examine(&shared, &host, true, "direct, in the head");
    assert_eq!(host.post("/flush", &[], b"").status, 200);
    examine(&shared, &host, false, "direct, in blocks");
    assert_eq!(metric(&host, "cortex_frontend_split_queries_total"), 0.0);
}

#[test]
fn every_published_query_passes_through_the_query_frontend_cold_and_warm() {
    let Some(shared) = shared() else { return };
    let dir = tempfile::tempdir().unwrap();
    let flags = [
        "-metrics.query-frontend.enabled=true",
        // The set is an hour long: short pieces cut most of its queries.
        "-metrics.query-frontend.split-queries-by-interval=10m",
        "-metrics.query-frontend.split-instant-queries-by-interval=7m",
        "-metrics.query-frontend.cache-results=true",
        "-metrics.query-frontend.parallelize-shardable-queries=true",
        "-limits.metrics.query-sharding-total-shards=4",
    ];
    let host = Host::start(dir.path(), &flags);
    examine(&shared, &host, true, "through the frontend, cold");
    let cut = metric(&host, "cortex_frontend_split_queries_total");
    let ranges = r#"cortex_query_frontend_queries_total{op="query_range"}"#;
    let asked = metric(&host, ranges);
    assert!(cut > 2.0 * asked, "{cut} pieces of {asked} queries");
    assert!(metric(&host, "cortex_frontend_sharded_queries_total") > 0.0);
    let cold = metric(&host, "lgtm_query_frontend_requests_total");
    let hits = metric(&host, "cortex_frontend_query_result_cache_hits_total");
    examine(&shared, &host, false, "through the frontend, warm");
    let warm = metric(&host, "lgtm_query_frontend_requests_total") - cold;
    assert!(warm < cold, "{warm} requests after {cold}");
    assert!(metric(&host, "cortex_frontend_query_result_cache_hits_total") > hits);
    assert_eq!(
        metric(&host, "lgtm_query_result_cache_bad_entries_total"),
        0.0
    );
    assert_eq!(metric(&host, "lgtm_query_panics_total"), 0.0);
    assert_eq!(host.post("/flush", &[], b"").status, 200);
    examine(&shared, &host, false, "through the frontend, in blocks");
}
