//! What remembers superseded index files (`docs/format/compaction_mark.md`).

use lgtm_core::{DecodeError, Error, Result};
use serde::{Deserialize, Serialize};

const WHAT: &str = "compaction mark";
const VERSION: u32 = 1;

/// Says that the contents of some index files stand in others, so that they may go once readers have forgotten them. Written when the others
/// are there, removed when the files are gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompactionMark {
    version: u32,
    /// When it was written, milliseconds.
    pub written_ms: i64,
    /// The day of the table, counted from 1970.
    pub day: i64,
    /// The files that may go.
    pub superseded: Vec<String>,
}

impl CompactionMark {
    /// The folder of all marks. No tenant can have that name.
    pub const FOLDER: &str = "@compactions";

    /// A mark for some files of a table.
    pub fn new(written_ms: i64, day: i64, superseded: Vec<String>) -> Self {
        Self {
            version: VERSION,
            written_ms,
            day,
            superseded,
        }
    }

    /// The object that it is, as one of those that `writer` writes.
    pub fn path(&self, writer: &str, created_ns: i64) -> String {
        format!("{}/{}/{created_ns}-{writer}.json", Self::FOLDER, self.day)
    }

    /// Its bytes.
    ///
    /// # Errors
    /// `Internal` when it cannot be printed.
    pub fn encode(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(|e| Error::Internal(format!("{WHAT}: {e}")))
    }

    /// Reads one. Members that are not known are left alone.
    ///
    /// # Errors
    /// For what is none, or of a later version.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mark: Self = serde_json::from_slice(bytes)
            .map_err(|e| DecodeError::new(WHAT, e.column() as u64, e.to_string()))?;
        if mark.version != VERSION {
            let reason = format!("version {}, {VERSION} is known", mark.version);
            return Err(DecodeError::new(WHAT, 0, reason));
        }
        Ok(mark)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_version_is_read_and_written_as_it_was() {
        let golden = include_bytes!("../../tests/golden/compaction_mark_v1.json");
        let mark = CompactionMark::decode(golden.trim_ascii_end()).unwrap();
        let wanted = CompactionMark::new(
            1_714_557_600_123,
            19_844,
            vec![
                "index/index_19844/1714557600-host-1-7.tsdb.gz".into(),
                "index/index_19844/a/1714557600000000000-compactor-1-2-ff.tsdb.gz".into(),
            ],
        );
        assert_eq!(mark, wanted);
        assert_eq!(wanted.encode().unwrap(), golden.trim_ascii_end());
        assert_eq!(wanted.path("c", 5), "@compactions/19844/5-c.json");
    }

    #[test]
    fn other_versions_and_other_bytes_are_refused() {
        let later = br#"{"version":2,"written_ms":1,"day":1,"superseded":[]}"#;
        let error = CompactionMark::decode(later).unwrap_err();
        assert!(error.reason.contains("version 2"), "{error}");
        for bad in [&b""[..], b"{}", b"[1]", b"\xff"] {
            assert!(CompactionMark::decode(bad).is_err());
        }
        let more = br#"{"version":1,"written_ms":1,"day":1,"superseded":[],"new":3}"#;
        assert!(CompactionMark::decode(more).is_ok());
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_mark_or_an_error(bytes: Vec<u8>) {
            let _ = CompactionMark::decode(&bytes);
        }
    }
}
