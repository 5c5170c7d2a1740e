//! Back ends by their URL.

use std::sync::Arc;

use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;

use crate::error::{Error, Result};

/// Opens the back end of a URL: `memory:` or `file:FOLDER`.
///
/// # Errors
/// `InvalidInput` for another scheme; `Unavailable` when the folder cannot be made.
pub fn from_url(url: &str) -> Result<Arc<dyn ObjectStore>> {
    match url.split_once(':') {
        Some(("memory", _)) => Ok(Arc::new(InMemory::new())),
        Some(("file", folder)) => {
            let folder = folder.strip_prefix("//").unwrap_or(folder);
            let unavailable =
                |e: String| Error::Unavailable(format!("storage folder {folder:?}: {e}"));
            std::fs::create_dir_all(folder).map_err(|e| unavailable(e.to_string()))?;
            let store =
                LocalFileSystem::new_with_prefix(folder).map_err(|e| unavailable(e.to_string()))?;
            Ok(Arc::new(store.with_automatic_cleanup(true)))
        }
        Some((scheme @ ("s3" | "gs" | "az"), _)) => Err(Error::InvalidInput(format!(
            "storage scheme {scheme:?} in {url:?} is not built in"
        ))),
        _ => Err(Error::InvalidInput(format!(
            "storage URL {url:?} does not begin with memory: or file:"
        ))),
    }
}
