//! The lines of a file, with their numbers.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Stdin};

use lgtm_core::{Error, Result};

/// Bytes of a line: as many as a push may have.
const MAX_LINE_BYTES: u64 = 64 << 20;

/// A text that is read line by line.
pub(super) struct TextLines {
    name: String,
    from: Box<dyn BufRead + Send>,
    line: Vec<u8>,
    number: u64,
}

impl TextLines {
    /// A file; `-` is standard input.
    ///
    /// # Errors
    /// `NotFound` for a file that cannot be opened.
    pub(super) fn open(name: &str) -> Result<Self> {
        let from: Box<dyn BufRead + Send> = match name {
            "-" => Box::new(BufReader::<Stdin>::new(std::io::stdin())),
            path => {
                let file = File::open(path);
                let file = file.map_err(|e| Error::NotFound(format!("file {path}: {e}:")))?;
                Box::new(BufReader::new(file))
            }
        };
        Ok(Self {
            name: name.to_owned(),
            from,
            line: Vec::new(),
            number: 0,
        })
    }

    /// The next line, without its end.
    ///
    /// # Errors
    /// `LimitExceeded` for one of more than 64 MiB; `Unavailable` when it cannot be read.
    pub(super) fn next(&mut self) -> Result<Option<&[u8]>> {
        self.line.clear();
        let mut bounded = (&mut self.from).take(MAX_LINE_BYTES);
        let read = bounded.read_until(b'\n', &mut self.line);
        let read = read.map_err(|e| Error::Unavailable(format!("{}: {e}", self.name)))?;
        if read == 0 {
            return Ok(None);
        }
        self.number += 1;
        if self.line.last() == Some(&b'\n') {
            self.line.pop();
        } else if self.line.len() as u64 == MAX_LINE_BYTES {
            let why = format!("a line of more than {MAX_LINE_BYTES} bytes");
            return Err(Error::LimitExceeded(self.place(&why)));
        }
        Ok(Some(&self.line))
    }

    /// What is wrong with the last line.
    pub(super) fn wrong(&self, why: &dyn std::fmt::Display) -> Error {
        Error::InvalidInput(self.place(&why.to_string()))
    }

    fn place(&self, why: &str) -> String {
        format!("{}, line {}: {why}", self.name, self.number)
    }
}
