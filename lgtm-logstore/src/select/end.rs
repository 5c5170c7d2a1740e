//! What comes at the end of an answer: how whole it is, and what it cost.

use lgtm_core::model::merge_warnings;

/// What a holder read. The names are those of Loki's statistics where it has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FetchStats {
    /// Streams that match.
    pub streams: u64,
    /// Chunks that match.
    pub chunks_referenced: u64,
    /// Chunks of these that were loaded.
    pub chunks_downloaded: u64,
    /// Nanoseconds that loading them took.
    pub chunks_download_ns: u64,
    /// Bytes of loaded chunks as they are stored.
    pub compressed_bytes: u64,
    /// Bytes of decompressed lines, with their structured metadata.
    pub decompressed_bytes: u64,
    /// Decompressed lines.
    pub decompressed_lines: u64,
    /// Bytes of structured metadata among `decompressed_bytes`.
    pub decompressed_metadata_bytes: u64,
    /// Bytes of lines that were in memory, with their structured metadata.
    pub head_bytes: u64,
    /// Lines that were in memory.
    pub head_lines: u64,
    /// Bytes of structured metadata among `head_bytes`.
    pub head_metadata_bytes: u64,
    /// Entries that were left out because another chunk had them.
    pub duplicates: u64,
}

impl FetchStats {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            streams: self.streams + other.streams,
            chunks_referenced: self.chunks_referenced + other.chunks_referenced,
            chunks_downloaded: self.chunks_downloaded + other.chunks_downloaded,
            chunks_download_ns: self.chunks_download_ns + other.chunks_download_ns,
            compressed_bytes: self.compressed_bytes + other.compressed_bytes,
            decompressed_bytes: self.decompressed_bytes + other.decompressed_bytes,
            decompressed_lines: self.decompressed_lines + other.decompressed_lines,
            decompressed_metadata_bytes: self.decompressed_metadata_bytes
                + other.decompressed_metadata_bytes,
            head_bytes: self.head_bytes + other.head_bytes,
            head_lines: self.head_lines + other.head_lines,
            head_metadata_bytes: self.head_metadata_bytes + other.head_metadata_bytes,
            duplicates: self.duplicates + other.duplicates,
        }
    }

    /// Lines that were looked at.
    pub fn lines(&self) -> u64 {
        self.decompressed_lines + self.head_lines
    }

    /// Bytes that were looked at.
    pub fn bytes(&self) -> u64 {
        self.decompressed_bytes + self.head_bytes
    }
}

/// How an answer ended: what is missing from it and what was read. Plain data, which can be sent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SelectEnd {
    /// What the answer lacks and why, in words for the user: a chunk that cannot be read, a holder that did not answer. None: the
    /// answer is whole.
    pub warnings: Vec<String>,
    /// What the holder read.
    pub stats: FetchStats,
}

impl SelectEnd {
    /// Adds what another holder says of its part.
    pub fn merge(&mut self, other: Self) {
        merge_warnings(&mut self.warnings, other.warnings);
        self.stats = self.stats.plus(other.stats);
    }
}
