//! README's program, built by a project outside the workspace with README's dependencies, does what README says.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

/// The first block of a language behind a heading.
fn block<'a>(readme: &'a str, heading: &str, language: &str) -> &'a str {
    let section = readme
        .split_once(heading)
        .expect("README has the heading")
        .1;
    let fence = format!("```{language}\n");
    let text = section.split_once(&fence).expect("it has the block").1;
    text.split_once("```").expect("the block ends").0
}

#[test]
fn the_program_of_the_readme_builds_and_runs_outside_the_workspace() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let root = root.canonicalize().unwrap();
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let mut manifest =
        "[package]\nname = \"embedded\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n".to_owned();
    manifest += block(&readme, "## Embed it", "toml");
    // The crates of this tree in place of those of the registry.
    manifest += "\n[patch.crates-io]\n";
    for name in ["lgtm-core", "lgtm-ring", "lgtm-tsdb"] {
        let path = root.join(name).display().to_string();
        writeln!(manifest, "{name} = {{ path = {path:?} }}").unwrap();
    }
    manifest += "\n[workspace]\n\n[profile.dev]\ndebug = false\n";
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("src")).unwrap();
    std::fs::write(folder.path().join("Cargo.toml"), manifest).unwrap();
    let program = block(&readme, "## Embed it", "rust");
    std::fs::write(folder.path().join("src/main.rs"), program).unwrap();
    // The same versions as the workspace's, so that nothing is downloaded.
    std::fs::copy(root.join("Cargo.lock"), folder.path().join("Cargo.lock")).unwrap();
    let ran = Command::new(env!("CARGO"))
        .args(["run", "--offline", "--quiet"])
        .current_dir(folder.path())
        .env("CARGO_TARGET_DIR", root.join("target/readme"))
        .env_remove("RUSTFLAGS")
        .output()
        .unwrap();
    let (out, err) = (
        String::from_utf8_lossy(&ran.stdout),
        String::from_utf8_lossy(&ran.stderr),
    );
    assert!(ran.status.success(), "{err}");
    assert!(out.contains("job=\"api\""), "{out}");
    let blocks = folder.path().join("data/bucket/metricsblocks/anonymous");
    assert_eq!(std::fs::read_dir(blocks).unwrap().count(), 1, "one block");
}
