//! The published engine test scripts of Prometheus: each case must pass, on the head and on flushed blocks alike.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "what serves tests only is a test"
)]

mod memory;
mod scripts;
mod shared;

use scripts::{Backend, run_file};

async fn run_all(backend: Backend) {
    let Some(folder) = shared::folder("conformance/promql") else {
        return;
    };
    let only = std::env::var("PROMQL_SCRIPT").ok();
    let (mut passed, mut failures) = (0, Vec::new());
    for path in shared::files(&folder, "test") {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if only.as_ref().is_some_and(|o| *o != name) {
            continue;
        }
        let outcome = run_file(&path, backend).await;
        let total = outcome.passed + outcome.failed.len();
        println!("{backend:?} {name}: {} of {total} pass", outcome.passed);
        passed += outcome.passed;
        for (line, why) in outcome.failed {
            println!("  {name}.test:{line}: {why}");
            failures.push(format!("{name}.test:{line}"));
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
