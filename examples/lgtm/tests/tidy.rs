//! The walls of the house, as far as lints cannot see them (they stand in ARCHITECTURE.md).

#![allow(clippy::unwrap_used, reason = "what serves tests only is a test")]

use std::path::{Path, PathBuf};

const MAX_FILE_LINES: usize = 800;
const MAX_FUNCTION_LINES: usize = 120;
/// Files and functions that may be longer, each with its reason.
const LONGER: &[(&str, &str)] = &[];
const BANNED_NAMES: &[&str] = &["utils", "util", "common", "helpers", "types", "misc"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

fn sources(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            sources(&path, out);
        } else if name.ends_with(".rs") {
            out.push(path);
        }
    }
}

fn all_sources() -> Vec<(String, String)> {
    let root = root();
    let mut paths = Vec::new();
    sources(&root, &mut paths);
    paths.sort();
    let relative = |p: &PathBuf| p.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
    paths
        .iter()
        .map(|p| (relative(p), std::fs::read_to_string(p).unwrap()))
        .collect()
}

/// The part before `mod tests`: what counts as code.
fn code(text: &str) -> &str {
    text.find("#[cfg(test)]\nmod tests {")
        .map_or(text, |at| &text[..at])
}

/// The folders of a crate, each with its place from the bottom: the line in ARCHITECTURE.md that begins with the crate's name in
/// backticks. Names between bars are neighbours.
fn order(krate: &str) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let mark = format!("order of `{krate}`: ");
    let line = text
        .lines()
        .find_map(|l| l.strip_prefix(&mark))
        .unwrap_or_else(|| panic!("ARCHITECTURE.md has no {mark}"));
    line.split(" < ")
        .map(|group| {
            group
                .split('|')
                .map(|n| n.trim().trim_matches('`').to_owned())
                .collect()
        })
        .collect()
}

fn folder_of(path: &str) -> Option<String> {
    let inside = path.split_once("/src/")?.1;
    let first = inside.split('/').next()?;
    Some(first.trim_end_matches(".rs").to_owned()).filter(|f| f != "lib")
}

#[test]
fn folders_import_only_what_stands_below_them() {
    let sources = all_sources();
    for krate in [
        "lgtm-core",
        "lgtm-logstore",
        "lgtm-ring",
        "lgtm-tracestore",
        "lgtm-tsdb",
    ] {
        let order = order(krate);
        let place = |folder: &str| order.iter().position(|g| g.iter().any(|n| n == folder));
        for (path, text) in sources
            .iter()
            .filter(|(p, _)| p.starts_with(&format!("{krate}/src/")))
        {
            let Some(folder) = folder_of(path) else {
                continue;
            };
            let Some(here) = place(&folder) else {
                panic!("{path}: folder {folder} is not in the order of {krate}")
            };
            for (n, line) in code(text).lines().enumerate() {
                let line = line.trim_start();
                if line.starts_with("//") || path.ends_with("/tests.rs") {
                    continue;
                }
                for (at, _) in line.match_indices("crate::") {
                    if at > 0 && line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
                        continue;
                    }
                    let name: String = line[at + 7..]
                        .chars()
                        .take_while(|c| c.is_ascii_lowercase() || *c == '_')
                        .collect();
                    let Some(there) = place(&name) else { continue };
                    assert!(
                        name == folder || there < here,
                        "{path}:{}: {folder} must not import {name}",
                        n + 1
                    );
                }
            }
        }
    }
}

#[test]
fn pure_folders_know_no_async() {
    let pure = [
        "lgtm-logstore/src/entry/",
        "lgtm-logstore/src/chunk/",
        "lgtm-logstore/src/drain/",
        "lgtm-logstore/src/schema.rs",
        "lgtm-tracestore/src/bloom/",
        "lgtm-tracestore/src/schema/",
        "lgtm-tracestore/src/trace/",
        "lgtm-tracestore/src/wire/",
        "lgtm-tsdb/src/wire/",
        "lgtm-tsdb/src/chunk/",
        "lgtm-core/src/model/",
        "lgtm-core/src/codec",
        "lgtm-core/src/go/",
        "lgtm-core/src/otlp/",
        "lgtm-core/src/re2/",
        "lgtm-core/src/postings/",
        "lgtm-ring/src/hash/",
        "lgtm-ring/src/instance/",
        "lgtm-ring/src/prng/",
        "lgtm-ring/src/ring/",
        "lgtm-ring/src/token/",
    ];
    for (path, text) in all_sources()
        .iter()
        .filter(|(p, _)| pure.iter().any(|f| p.starts_with(f)))
    {
        for (n, line) in code(text).lines().enumerate() {
            let line = line.trim_start();
            let bad = !line.starts_with("//")
                && (line.contains("async ") || line.contains(".await") || line.contains("tokio"));
            assert!(!bad, "{path}:{}: {line}", n + 1);
        }
    }
}

#[test]
fn files_and_functions_have_readable_lengths_and_names() {
    for (path, text) in &all_sources() {
        let stem = Path::new(path).file_stem().unwrap().to_str().unwrap();
        assert!(
            !BANNED_NAMES.contains(&stem),
            "{path}: find the concept's name"
        );
        if LONGER.iter().any(|(p, _)| p == path) {
            continue;
        }
        let lines = code(text).lines().count();
        assert!(
            lines <= MAX_FILE_LINES,
            "{path}: {lines} lines of code, {MAX_FILE_LINES} are allowed"
        );
        let mut begin: Option<(usize, usize)> = None;
        for (n, line) in code(text).lines().enumerate() {
            let indent = line.len() - line.trim_start().len();
            let words = line.trim_start();
            let is_fn = [
                "fn ",
                "pub fn ",
                "pub(crate) fn ",
                "pub(super) fn ",
                "async fn ",
                "pub async fn ",
                "pub(crate) async fn ",
            ]
            .iter()
            .any(|w| words.starts_with(w));
            if is_fn && (line.trim_end().ends_with('{') || begin.is_none()) {
                begin = Some((n, indent));
            }
            if words == "}"
                && let Some((from, of)) = begin
                && indent == of
            {
                assert!(
                    n - from <= MAX_FUNCTION_LINES,
                    "{path}:{}: {} lines, {MAX_FUNCTION_LINES} are allowed",
                    from + 1,
                    n - from
                );
                begin = None;
            }
        }
    }
}

#[test]
fn there_are_no_stubs_and_roots_hold_no_logic() {
    for (path, text) in &all_sources() {
        if path.ends_with("tidy.rs") {
            continue;
        }
        for stub in ["todo!(", "unimplemented!("] {
            assert!(!text.contains(stub), "{path}: {stub}");
        }
        if path.ends_with("/mod.rs") && path.contains("/src/") || path.ends_with("/lib.rs") {
            let logic = code(text).lines().find(|l| {
                l.starts_with("pub struct") || l.starts_with("fn ") || l.starts_with("impl ")
            });
            assert!(
                logic.is_none(),
                "{path}: {logic:?} belongs into a file of its own"
            );
        }
    }
}

#[test]
fn every_format_page_names_where_its_bytes_come_from() {
    for krate in [
        "lgtm-core",
        "lgtm-logstore",
        "lgtm-ring",
        "lgtm-tracestore",
        "lgtm-tsdb",
    ] {
        let pages = root().join(krate).join("docs/format");
        for page in std::fs::read_dir(pages).unwrap() {
            let page = page.unwrap().path();
            let text = std::fs::read_to_string(&page).unwrap();
            assert!(
                text.contains("golden") || text.contains("tests/") || text.contains("tests.rs"),
                "{}: names no fixture",
                page.display()
            );
        }
    }
}

/// Names of the crates that a build of `krate` without features compiles.
fn crates_of(krate: &str) -> std::collections::BTreeSet<String> {
    let out = std::process::Command::new(env!("CARGO"))
        .args(["tree", "-p", krate, "--no-default-features"])
        .args(["-e", "normal", "--prefix", "none", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    let text = String::from_utf8(out.stdout).unwrap();
    text.lines()
        .filter_map(|l| l.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}

#[test]
fn a_metrics_embed_is_small() {
    let crates = crates_of("lgtm-tsdb");
    for heavy in ["reqwest", "hyper", "hyper-util", "axum", "tonic", "parquet"] {
        assert!(
            !crates.contains(heavy),
            "{heavy} is in the tree of a metrics embed"
        );
    }
    assert!(crates.len() <= 110, "{} crates: {crates:?}", crates.len());
}

#[test]
fn a_logs_embed_is_small() {
    let crates = crates_of("lgtm-logstore");
    for heavy in ["reqwest", "hyper", "hyper-util", "axum", "tonic", "parquet"] {
        assert!(
            !crates.contains(heavy),
            "{heavy} is in the tree of a logs embed"
        );
    }
    assert!(crates.len() <= 115, "{} crates: {crates:?}", crates.len());
}

#[test]
fn a_ring_alone_is_small() {
    let crates = crates_of("lgtm-ring");
    for heavy in ["object_store", "hyper", "axum"] {
        assert!(!crates.contains(heavy), "{heavy} is in the tree of a ring");
    }
    assert!(crates.len() <= 60, "{} crates: {crates:?}", crates.len());
}
