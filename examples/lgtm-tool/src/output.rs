//! Where exported data goes: a file, or standard output.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use lgtm_core::{Error, Result};

use crate::arguments::Arguments;

/// A file that takes its name when all is in it, or standard output.
pub(crate) struct Output {
    to: Box<dyn Write + Send>,
    /// Where the file is written, and what it will be called.
    file: Option<(PathBuf, PathBuf)>,
    bytes: u64,
}

impl Output {
    /// What `-out` says; standard output without it.
    ///
    /// # Errors
    /// `InvalidInput` for a file that is there; `Unavailable` when it cannot be made.
    pub(crate) fn open(arguments: &Arguments) -> Result<Self> {
        let Some(path) = arguments.flag("out").map(PathBuf::from) else {
            return Ok(Self {
                to: Box::new(BufWriter::new(std::io::stdout())),
                file: None,
                bytes: 0,
            });
        };
        if path.exists() {
            return Err(Error::InvalidInput(format!(
                "file {} is there already",
                path.display()
            )));
        }
        let mut partial = path.clone().into_os_string();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        let file = File::create(&partial).map_err(|e| failed(&partial, &e))?;
        Ok(Self {
            to: Box::new(BufWriter::new(file)),
            file: Some((partial, path)),
            bytes: 0,
        })
    }

    /// Whether reports may go to standard output.
    pub(crate) fn is_file(&self) -> bool {
        self.file.is_some()
    }

    /// Bytes written.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// # Errors
    /// `Unavailable` when they cannot be written.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.bytes += bytes.len() as u64;
        self.to.write_all(bytes).map_err(|e| not_written(&e))
    }

    /// Ends it: the file has its name now.
    ///
    /// # Errors
    /// `Unavailable` when what is left cannot be written.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.to.flush().map_err(|e| not_written(&e))?;
        match &self.file {
            Some((partial, path)) => std::fs::rename(partial, path).map_err(|e| failed(path, &e)),
            None => Ok(()),
        }
    }
}

fn not_written(e: &std::io::Error) -> Error {
    Error::Unavailable(format!("output: {e}"))
}

fn failed(path: &std::path::Path, e: &std::io::Error) -> Error {
    Error::Unavailable(format!("file {}: {e}", path.display()))
}
