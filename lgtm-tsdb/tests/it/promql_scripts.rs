//! The published engine test scripts of Prometheus, and our own of `tests/promql`: each case must pass, on the head and on flushed
//! blocks alike.

use crate::shared;

use std::path::{Path, PathBuf};

use crate::scripts::{Backend, run_file};
use lgtm_tsdb::promql::EngineSettings;

/// Folders of scripts, and what of the language is on for them. Upstream's are written for names that are dropped at the end of a
/// query, ours for the default: at once.
fn folders() -> Vec<(PathBuf, EngineSettings)> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/promql");
    let names_at_once = EngineSettings {
        delayed_name_removal: false,
        ..EngineSettings::everything()
    };
    let upstream = shared::folder("conformance/promql");
    let upstream = upstream.map(|folder| (folder, EngineSettings::everything()));
    upstream.into_iter().chain([(own, names_at_once)]).collect()
}

async fn run_all(backend: Backend) {
    let only = std::env::var("PROMQL_SCRIPT").ok();
    let (mut passed, mut failures) = (0, Vec::new());
    for (folder, language) in folders() {
        for path in shared::files(&folder, "test") {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            if only.as_ref().is_some_and(|o| *o != name) {
                continue;
            }
            let outcome = run_file(&path, backend, &language).await;
            let total = outcome.passed + outcome.failed.len();
            println!("{backend:?} {name}: {} of {total} pass", outcome.passed);
            passed += outcome.passed;
            for (line, why) in outcome.failed {
                println!("  {name}.test:{line}: {why}");
                failures.push(format!("{name}.test:{line}"));
            }
        }
    }
    println!(
        "{backend:?}: {passed} of {} cases pass",
        passed + failures.len()
    );
    assert!(
        failures.is_empty(),
        "{} cases fail: {failures:?}",
        failures.len()
    );
}

#[tokio::test]
async fn every_case_passes_on_chunks_in_memory() {
    run_all(Backend::Memory).await;
}

#[tokio::test]
async fn every_case_passes_on_the_head() {
    run_all(Backend::Head).await;
}

#[tokio::test]
async fn every_case_passes_on_flushed_blocks() {
    run_all(Backend::Blocks).await;
}
