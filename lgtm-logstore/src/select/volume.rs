//! How much there is.

use lgtm_core::model::Labels;

/// What a stream has in a range, as far as a holder knows. Plain data, which can be sent.
///
/// In the object store the index tells it: of a chunk that reaches beyond the range the part is counted that it has of the chunk's time,
/// rounded down, as by Loki; each chunk once, however many index files name it. In memory bytes are exact, and parts are counted alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamVolume {
    /// Its labels.
    pub labels: Labels,
    /// Chunks that reach into the range.
    pub chunks: u64,
    /// Bytes of lines and structured metadata; in the object store in steps of 1024 a chunk.
    pub bytes: u64,
    /// Entries.
    pub entries: u64,
}

impl StreamVolume {
    /// Adds what another holder has of the same stream.
    pub fn add(&mut self, other: &Self) {
        self.chunks += other.chunks;
        self.bytes += other.bytes;
        self.entries += other.entries;
    }
}
