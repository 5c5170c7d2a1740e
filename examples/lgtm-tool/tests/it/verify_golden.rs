//! `verify`, `ls` and `inspect` over every bucket of the golden folder, which real Prometheus, Mimir, Loki and Tempo wrote.
//!
//! The folder is `$LGTM_SHARED/golden` (default: `shared` beside the workspace). Without it the test is skipped, but not where `CI` is set.

use std::path::{Path, PathBuf};

use crate::bucket::{copy, files, tool, url};
use lgtm_tool::Outcome;

fn golden() -> Option<PathBuf> {
    let root = std::env::var_os("LGTM_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
        PathBuf::from,
    );
    let golden = root.join("golden");
    if golden.is_dir() {
        return Some(golden);
    }
    assert!(
        std::env::var_os("CI").is_none(),
        "{} is not there",
        golden.display()
    );
    eprintln!(
        "skipped: {} is not there; set LGTM_SHARED",
        golden.display()
    );
    None
}

fn folders(of: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(of).unwrap();
    let paths = entries.map(|e| e.unwrap().path()).filter(|p| p.is_dir());
    let mut paths: Vec<PathBuf> = paths.collect();
    paths.sort();
    paths
}

fn name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

/// Whether a folder is that of a block, told by its data; a meta alone is a specimen of a meta.
fn is_block(path: &Path) -> bool {
    path.join("data.parquet").is_file()
        || path.join("index").is_file() && path.join("chunks").is_dir()
}

/// Whether a folder is a bucket: it has tenants with blocks, or the index tables of logs.
fn is_bucket(path: &Path) -> bool {
    let has_blocks = |tenant: &PathBuf| folders(tenant).iter().any(|block| is_block(block));
    let is_table = |table: &PathBuf| name(table).starts_with("index_");
    let index = path.join("index");
    folders(path).iter().any(has_blocks) || index.is_dir() && folders(&index).iter().any(is_table)
}

fn buckets(below: &Path, out: &mut Vec<PathBuf>) {
    if is_bucket(below) {
        return out.push(below.to_owned());
    }
    for folder in folders(below) {
        buckets(&folder, out);
    }
}

/// Whether a bucket of logs has index files only: what a compactor made of the index of a bucket beside it, whose chunks stay.
fn is_index_only(bucket: &Path) -> bool {
    bucket.join("index").is_dir() && folders(bucket).len() == 1
}

#[test]
fn every_golden_bucket_is_whole() {
    let Some(golden) = golden() else {
        return;
    };
    let mut all = Vec::new();
    buckets(&golden, &mut all);
    assert!(all.len() >= 10, "{all:?}");
    let folder = tempfile::tempdir().unwrap();
    for (n, bucket) in all.iter().enumerate() {
        let mut checked = bucket.clone();
        if is_index_only(bucket) {
            checked = folder.path().join(n.to_string());
            let beside = folders(bucket.parent().unwrap());
            let beside = beside.iter().filter(|b| *b != bucket && is_bucket(b));
            for other in beside {
                copy(other, &checked);
            }
            if checked.join("index").exists() {
                std::fs::remove_dir_all(checked.join("index")).unwrap();
            }
            copy(bucket, &checked);
        }
        let (outcome, json, complaint) = tool(&["verify", &url(&checked)]);
        assert_eq!(
            outcome,
            Outcome::Fine,
            "{}: {json:#} {complaint:?}",
            bucket.display()
        );
        let counts = json["checked"].as_array().unwrap();
        let counted = |what: &str| {
            let mut row = counts.iter().filter(|row| row["what"] == what);
            row.next().and_then(|row| row["count"].as_u64())
        };
        // Something was looked into.
        assert!(
            counted("blocks").or(counted("chunks")) > Some(0),
            "{json:#}"
        );
        let (outcome, json, _) = tool(&["ls", &url(&checked)]);
        assert_eq!(outcome, Outcome::Fine, "{json:#}");
        every_object_is_shown(&checked);
    }
}

fn every_object_is_shown(bucket: &Path) {
    let is_shown = |path: &str| {
        [
            "/data.parquet",
            ".tsdb.gz",
            "bucket-index.json.gz",
            "index.pb.zst",
            "index.json.gz",
        ]
        .iter()
        .any(|end| path.ends_with(end))
            || path.contains("/chunks/")
    };
    for file in files(bucket, is_shown) {
        let object = file.strip_prefix(bucket).unwrap().to_str().unwrap();
        let (outcome, json, complaint) = tool(&["inspect", &url(bucket), object]);
        assert_eq!(outcome, Outcome::Fine, "{object}: {complaint:?}");
        assert!(json.as_object().is_some_and(|j| !j.is_empty()), "{object}");
    }
}
