//! The folder with files of the real systems that `LGTM_SHARED` names.

use std::path::{Path, PathBuf};

/// A folder inside it, or `None` (said aloud) where there is none: the project's own tests do without. In CI that is a failure.
pub(crate) fn folder(inside: &str) -> Option<PathBuf> {
    let root = std::env::var_os("LGTM_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"),
        PathBuf::from,
    );
    let folder = root.join(inside);
    if folder.is_dir() {
        return Some(folder);
    }
    assert!(
        std::env::var_os("CI").is_none(),
        "{} is missing, and CI must have it",
        folder.display()
    );
    println!(
        "skipped: {} is not there; set LGTM_SHARED",
        folder.display()
    );
    None
}

/// The files of a folder with an ending, in order.
pub(crate) fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut out: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    out.retain(|p| p.extension().is_some_and(|e| e == ending));
    out.sort();
    out
}

/// Bytes from hexadecimal digits.
pub(crate) fn unhex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap())
        .collect()
}
