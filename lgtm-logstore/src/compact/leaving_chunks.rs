//! What remembers chunks that leave the index (`docs/format/leaving_chunks.md`).

use lgtm_core::model::{TimestampMs, TimestampNs};
use lgtm_core::{DecodeError, Error, Result};
use serde::{Deserialize, Serialize};

use crate::chunk::{ChunkKey, KeyForm};
use crate::index::ChunkMeta;

const WHAT: &str = "list of leaving chunks";
const VERSION: u32 = 1;

/// Names chunks that may be named by no index file any more: those that retention, deletion and merging take out of the index, and those that are
/// written in their place, until an index names them. When it is old enough, what of them no index file names is deleted; then it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeavingChunks {
    version: u32,
    /// When it was written, milliseconds.
    pub written_ms: TimestampMs,
    /// The chunks, as keys from schema v12 on are written.
    chunks: Vec<String>,
}

impl LeavingChunks {
    /// The folder of all lists. No tenant can have that name.
    pub const FOLDER: &str = "@leaving";
    /// Chunks of one list: some hundred KiB.
    pub const MOST: usize = 4096;

    /// A list of some chunks.
    pub fn new<'a>(
        written_ms: impl Into<TimestampMs>,
        chunks: impl IntoIterator<Item = &'a ChunkKey>,
    ) -> Self {
        let name = |key: &ChunkKey| key.object_name(KeyForm::StreamFolders);
        Self {
            version: VERSION,
            written_ms: written_ms.into(),
            chunks: chunks.into_iter().map(name).collect(),
        }
    }

    /// The chunks. What is no key is passed over: it would name none.
    pub fn chunks(&self) -> impl Iterator<Item = ChunkKey> {
        self.chunks.iter().filter_map(|name| name.parse().ok())
    }

    /// The object that it is, as one of those that `writer` writes.
    pub fn path(writer: &str, created_ns: impl Into<TimestampNs>) -> String {
        let created_ns = created_ns.into();
        format!("{}/{created_ns}-{writer}.json", Self::FOLDER)
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
        let list: Self = serde_json::from_slice(bytes)
            .map_err(|e| DecodeError::new(WHAT, e.column() as u64, e.to_string()))?;
        if list.version != VERSION {
            let reason = format!("version {}, {VERSION} is known", list.version);
            return Err(DecodeError::new(WHAT, 0, reason));
        }
        Ok(list)
    }
}

/// The key of a chunk that an index names.
pub(crate) fn chunk_key(tenant: &str, fingerprint: u64, chunk: &ChunkMeta) -> ChunkKey {
    ChunkKey {
        tenant: tenant.to_owned(),
        fingerprint,
        from_ms: chunk.min_ms,
        through_ms: chunk.max_ms,
        checksum: chunk.checksum,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(tenant: &str, checksum: u32) -> ChunkKey {
        ChunkKey {
            tenant: tenant.into(),
            fingerprint: 0xa1,
            from_ms: TimestampMs::new(-1),
            through_ms: TimestampMs::new(1_714_557_600_123),
            checksum,
        }
    }

    #[test]
    fn the_first_version_is_read_and_written_as_it_was() {
        let golden = include_bytes!("../../tests/golden/leaving_chunks_v1.json").trim_ascii_end();
        let keys = [key("a", 7), key("b", u32::MAX)];
        let wanted = LeavingChunks::new(1_714_557_600_123, &keys);
        assert_eq!(LeavingChunks::decode(golden).unwrap(), wanted);
        assert_eq!(wanted.encode().unwrap(), golden);
        assert_eq!(wanted.chunks().collect::<Vec<_>>(), keys);
        assert_eq!(LeavingChunks::path("c", 5), "@leaving/5-c.json");
    }

    #[test]
    fn other_versions_and_other_bytes_are_refused() {
        let later = br#"{"version":2,"written_ms":1,"chunks":[]}"#;
        let error = LeavingChunks::decode(later).unwrap_err();
        assert!(error.reason.contains("version 2"), "{error}");
        for bad in [&b""[..], b"{}", b"[1]", b"\xff"] {
            assert!(LeavingChunks::decode(bad).is_err());
        }
        let strange = br#"{"version":1,"written_ms":1,"chunks":["a/../b","a/1/2:3:4"],"new":3}"#;
        let list = LeavingChunks::decode(strange).unwrap();
        assert_eq!(list.chunks().count(), 1);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_list_or_an_error(bytes: Vec<u8>) {
            let _ = LeavingChunks::decode(&bytes);
        }
    }
}
