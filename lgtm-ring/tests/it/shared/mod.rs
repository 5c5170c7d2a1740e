//! The folder with files of the real systems that `LGTM_SHARED` names.

#[cfg(feature = "testing")]
pub(crate) mod heal;
pub(crate) mod record;

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

/// The JSON documents of a folder that have `key` at their top, each with its file's name. Empty only where there is no folder.
pub(crate) fn documents(inside: &str, key: &str) -> Vec<(String, serde_json::Value)> {
    let Some(folder) = folder(inside) else {
        return Vec::new();
    };
    let read = |path: PathBuf| -> (String, serde_json::Value) {
        let text = std::fs::read_to_string(&path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        (name, serde_json::from_str(&text).unwrap())
    };
    let mut found: Vec<_> = files(&folder, "json").into_iter().map(read).collect();
    found.retain(|(_, document)| document.get(key).is_some());
    assert!(!found.is_empty(), "no document in {inside} has {key}");
    found
}
