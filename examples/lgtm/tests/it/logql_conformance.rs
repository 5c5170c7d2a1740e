//! The recorded queries and other calls of a real Loki over the HTTP API, in the head, flushed, and with everything that stands before the engine.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::host::Host;

/// The settings that the set was recorded with, but for the cutting of queries.
pub(crate) const LIMITS: &str =
    "discover_service_name: [], discover_log_levels: false, max_query_length: 0s";

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

/// The sets whose names begin with `logql`.
pub(crate) fn sets(shared: &Path) -> Vec<PathBuf> {
    let all = std::fs::read_dir(shared.join("conformance")).unwrap();
    let mut all: Vec<PathBuf> = all.map(|e| e.unwrap().path()).collect();
    all.retain(|p| {
        p.file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with("logql")
    });
    all.sort();
    all
}

/// Runs the examiner; all cases must pass.
pub(crate) fn examine(shared: &Path, set: &Path, host: &Host, more: &[&str], what: &str) {
    let said = Command::new("python3")
        .arg(shared.join("lab/logql_exam.py"))
        .args(["--base", &host.url(), "--min-pass", "1", "--settle", "0"])
        .arg("--set")
        .arg(set)
        .args(more)
        .output()
        .unwrap();
    assert!(
        said.status.success(),
        "{what}, {}: {}{}",
        set.display(),
        String::from_utf8_lossy(&said.stdout),
        String::from_utf8_lossy(&said.stderr)
    );
}

fn examined(split: &str, settings: &str, more: &[&str]) {
    let Some(shared) = shared() else { return };
    let sets = sets(&shared);
    assert!(!sets.is_empty(), "no set of cases");
    for set in sets {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("lgtm.yaml");
        let limits = format!("{LIMITS}, split_queries_by_interval: {split}");
        let text = format!("limits: {{logs: {{{limits}}}}}\n{settings}");
        std::fs::write(&config, text).unwrap();
        let config = format!("-config.file={}", config.display());
        let host = Host::start(dir.path(), &[&config]);
        // In memory volumes are exact; the store rounds those of one case down to nothing.
        let head = [&["--skip", "^n-s026$"], more].concat();
        let push = [&["--push", "both"], &*head].concat();
        examine(&shared, &set, &host, &push, "in the head");
        let form = [&["--method", "POST"], &*head].concat();
        examine(&shared, &set, &host, &form, "by form");
        assert_eq!(host.post("/flush", &[], b"").status, 200);
        examine(&shared, &set, &host, more, "in the bucket");
    }
}

#[test]
fn every_recorded_call_is_answered_as_by_loki() {
    examined("1h", "", &[]);
}

#[test]
fn every_recorded_call_is_answered_through_forced_shards() {
    examined(
        "1h",
        "logs: {query_frontend: {parallelize_shardable_queries: true, tsdb_shards: 4}}\n",
        &[],
    );
}

#[test]
fn every_recorded_call_is_answered_without_cutting() {
    let uncut = ["--setting", "split_queries_by_interval=0s"];
    examined("0s", "", &uncut);
}
