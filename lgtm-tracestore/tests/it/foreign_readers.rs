//! pyarrow and DuckDB read the blocks that are written here (PyPI; `scripts/test` installs them, in CI they must be there).

use crate::shared;

use std::io::Read;
use std::path::Path;
use std::process::Command;

use lgtm_tracestore::schema::{BlockVersion, BlockWriterSettings};
use serde_json::Value as Json;

use crate::blocks::{golden, read_all, write};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/foreign_readers.py");

fn has_readers() -> bool {
    let found = Command::new("python3")
        .args(["-c", "import pyarrow, duckdb"])
        .output()
        .is_ok_and(|o| o.status.success());
    assert!(
        found || std::env::var_os("CI").is_none(),
        "pyarrow and duckdb are missing, and CI must have them"
    );
    if !found {
        println!("skipped: python3 has no pyarrow and duckdb");
    }
    found
}

fn run(verb: &str, file: &Path) -> Vec<Json> {
    let done = Command::new("python3")
        .args([SCRIPT, verb])
        .arg(file)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{errors}");
    let text = String::from_utf8(done.stdout).unwrap();
    text.lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect()
}

/// A map has no order; what a real file has where a trace has no root is left over from other traces.
fn normal(row: &mut Json, is_v5: bool) {
    if !is_v5 && let Some(stats) = row["ServiceStats"].as_array_mut() {
        stats.sort_by_key(ToString::to_string);
    }
    if let Some(fields) = row.as_object_mut() {
        fields.remove("ChildCount");
        fields.values_mut().for_each(|v| normal(v, true));
    } else if let Some(values) = row.as_array_mut() {
        values.iter_mut().for_each(|v| normal(v, true));
    }
}

#[test]
fn pyarrow_and_duckdb_read_what_is_written() {
    let Some(root) = shared::folder("golden/tempo") else {
        return;
    };
    if !has_readers() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for block in golden(&root).iter().filter(|b| b.is_live) {
        if block.version == BlockVersion::V3 {
            continue;
        }
        let traces = read_all(&block.bytes, block.version, &block.dedicated);
        let settings = BlockWriterSettings {
            version: block.version,
            dedicated: block.dedicated.clone(),
            // Several row groups and many pages.
            row_group_bytes: 1500,
            page_bytes: 64,
        };
        let (bytes, written) = write(&traces, settings);
        assert!(written.row_group_last_ids.len() > 1);
        let ours = folder.path().join(format!("{}.parquet", block.name));
        std::fs::write(&ours, &bytes).unwrap();
        let packed = root.join(format!("parquet/{}.rows.jsonl.gz", block.name));
        let mut text = String::new();
        flate2::read::GzDecoder::new(std::fs::File::open(packed).unwrap())
            .read_to_string(&mut text)
            .unwrap();
        let mut wanted: Vec<Json> = text
            .lines()
            .map(|l| serde_json::from_str(l).unwrap())
            .collect();
        let mut found = run("rows", &ours);
        assert_eq!(found.len(), wanted.len());
        for (found, wanted) in found.iter_mut().zip(&mut wanted) {
            let is_v5 = block.version == BlockVersion::V5;
            normal(found, is_v5);
            normal(wanted, is_v5);
            assert_eq!(found, wanted, "{}", block.name);
        }
        let theirs = folder.path().join("golden.parquet");
        std::fs::write(&theirs, &block.bytes).unwrap();
        let counted = run("count", &ours);
        assert_eq!(counted, run("count", &theirs), "{}", block.name);
        assert_eq!(counted[0][0], traces.len());
        assert_eq!(counted[0][1], written.spans);
    }
}
