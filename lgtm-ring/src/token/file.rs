//! Tokens kept over a restart: `{"tokens":[1,2,3]}`.

use std::io;
use std::sync::Arc;

use lgtm_core::disk::Disk;
use lgtm_core::{DecodeError, Error, Result};
use serde::{Deserialize, Serialize};

use crate::token::Token;

/// The most tokens of one instance, in a file or a setting. A hundred times what anybody uses.
pub const MAX_TOKENS: usize = 65_536;
/// Ten digits and a comma a token, and room for spaces.
const MAX_BYTES: u64 = 16 * MAX_TOKENS as u64;
const WHAT: &str = "tokens file";

/// The file with an instance's tokens.
///
/// Written beside its name and renamed, so that a crash leaves the old file or the new one.
#[derive(Debug, Clone)]
pub struct TokensFile {
    disk: Arc<dyn Disk>,
    path: String,
}

#[derive(Serialize, Deserialize)]
struct Content {
    tokens: Vec<Token>,
}

impl TokensFile {
    /// The file at `path` of `disk`. Nothing is touched yet.
    pub fn new(disk: Arc<dyn Disk>, path: impl Into<String>) -> Self {
        let path = path.into();
        Self { disk, path }
    }

    /// The tokens, ascending and each once; `None` when there is no file.
    ///
    /// # Errors
    /// `Corrupt` for a file that is no such JSON or is too large, `Internal` when the disk fails.
    pub fn load(&self) -> Result<Option<Vec<Token>>> {
        let file = match self.disk.open_read(&self.path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|e| self.failed("opening", &e))?,
        };
        let size = file.size().map_err(|e| self.failed("reading", &e))?;
        if size > MAX_BYTES {
            let reason = format!("{size} bytes, at most {MAX_BYTES} are read");
            return Err(Error::corrupt(
                &self.path,
                DecodeError::new(WHAT, 0, reason),
            ));
        }
        let mut bytes = vec![0; size as usize];
        file.read_exact_at(&mut bytes, 0)
            .map_err(|e| self.failed("reading", &e))?;
        let tokens = Self::decode(&bytes).map_err(|e| Error::corrupt(&self.path, e))?;
        Ok(Some(tokens))
    }

    /// Replaces the file.
    ///
    /// # Errors
    /// `InvalidInput` for more than [`MAX_TOKENS`], `Internal` when the disk fails; the old file then still stands.
    pub fn store(&self, tokens: &[Token]) -> Result<()> {
        if tokens.len() > MAX_TOKENS {
            return Err(Error::InvalidInput(format!(
                "{} tokens, at most {MAX_TOKENS} go into a tokens file",
                tokens.len()
            )));
        }
        let folder = self.path.rsplit_once('/').map_or(".", |(folder, _)| folder);
        self.replace(folder, &Self::encode(tokens))
            .map_err(|e| self.failed("writing", &e))
    }

    /// Removes the file; none there is fine.
    ///
    /// # Errors
    /// `Internal` when the disk fails.
    pub fn remove(&self) -> Result<()> {
        match self.disk.remove(&self.path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(self.failed("removing", &e)),
            _ => Ok(()),
        }
    }

    /// The file's bytes for these tokens.
    pub fn encode(tokens: &[Token]) -> Vec<u8> {
        let content = Content {
            tokens: tokens.to_vec(),
        };
        serde_json::to_vec(&content).expect("a list of numbers has a JSON form")
    }

    /// The tokens of a file's bytes, ascending and each once.
    ///
    /// # Errors
    /// When the bytes are no such JSON or hold more than [`MAX_TOKENS`].
    pub fn decode(bytes: &[u8]) -> Result<Vec<Token>, DecodeError> {
        let wrong = |reason: String| DecodeError::new(WHAT, 0, reason);
        let content: Content = serde_json::from_slice(bytes).map_err(|e| wrong(e.to_string()))?;
        let mut tokens = content.tokens;
        if tokens.len() > MAX_TOKENS {
            return Err(wrong(format!(
                "{} tokens, at most {MAX_TOKENS} are allowed",
                tokens.len()
            )));
        }
        tokens.sort_unstable();
        tokens.dedup();
        Ok(tokens)
    }

    fn replace(&self, folder: &str, bytes: &[u8]) -> io::Result<()> {
        let temporary = format!("{}.tmp", self.path);
        self.disk.create_dir_all(folder)?;
        let file = self.disk.open_append(&temporary)?;
        // A crash may have left one.
        file.truncate(0)?;
        file.append(bytes)?;
        file.sync()?;
        drop(file);
        self.disk.rename(&temporary, &self.path)?;
        self.disk.sync_dir(folder)
    }

    fn failed(&self, doing: &str, error: &io::Error) -> Error {
        Error::Internal(format!("{doing} tokens file {}: {error}", self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lgtm_core::ErrorKind;
    use lgtm_core::disk::LocalDisk;
    use proptest::prelude::*;

    #[test]
    fn a_file_comes_back_sorted_and_replaces_the_old_one() {
        let dir = tempfile::tempdir().unwrap();
        let file = TokensFile::new(Arc::new(LocalDisk::new(dir.path())), "ring/tokens");
        assert_eq!(file.load().unwrap(), None);
        file.store(&[Token(5), Token(1)]).unwrap();
        file.store(&[Token(9), Token(1), Token(5)]).unwrap();
        let expected = Some(vec![Token(1), Token(5), Token(9)]);
        assert_eq!(file.load().unwrap(), expected);
        file.remove().unwrap();
        file.remove().unwrap();
        assert_eq!(file.load().unwrap(), None);
    }

    #[test]
    fn damaged_and_oversized_files_are_corrupt() {
        let dir = tempfile::tempdir().unwrap();
        let file = TokensFile::new(Arc::new(LocalDisk::new(dir.path())), "tokens");
        for bad in [
            "",
            "{",
            "{\"tokens\":[-1]}",
            "{\"tokens\":[4294967296]}",
            "[]",
        ] {
            std::fs::write(dir.path().join("tokens"), bad).unwrap();
            assert_eq!(file.load().unwrap_err().kind(), ErrorKind::Corrupt, "{bad}");
        }
        std::fs::write(dir.path().join("tokens"), vec![b' '; 2_000_000]).unwrap();
        assert!(
            file.load()
                .unwrap_err()
                .to_string()
                .contains("2000000 bytes")
        );
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = TokensFile::decode(&bytes);
        }
    }
}
