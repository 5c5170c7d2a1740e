//! Why something that came in was not taken. Each reason is counted.

use lgtm_core::DecodeError;

/// A reason to refuse a packet or a value in it.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Of another cluster.
    #[error("packet of cluster {0:?}")]
    Label(String),
    /// From the future.
    #[error("packet of version {0}, this one reads version 1")]
    Version(u8),
    /// Not what the format demands.
    #[error("{0}")]
    Corrupt(#[from] DecodeError),
    /// Larger than the settings allow.
    #[error("{what} of {bytes} bytes, at most {limit} are taken")]
    Oversize {
        /// What was too large.
        what: &'static str,
        /// How large it was.
        bytes: usize,
        /// The bound.
        limit: usize,
    },
    /// A value of a kind that nobody registered here.
    #[error("key {key:?}: no codec {codec:?} here")]
    UnknownCodec {
        /// The key.
        key: String,
        /// The kind.
        codec: String,
    },
    /// A value of another kind than the one this key has.
    #[error("key {key:?} has codec {own:?} here, not {theirs:?}")]
    CodecMismatch {
        /// The key.
        key: String,
        /// What it is here.
        own: &'static str,
        /// What came in.
        theirs: String,
    },
    /// A value that is none, by the word of its codec.
    #[error("key {key:?}: {error}")]
    Value {
        /// The key.
        key: String,
        /// What the codec says.
        error: lgtm_core::Error,
    },
    /// A deletion, or members of a value, from too far in the future; other members of the value are taken.
    #[error(
        "key {key:?}: written {ahead_ms} ms from now by a clock that is wrong, at most {limit_ms} are taken"
    )]
    Future {
        /// The key.
        key: String,
        /// How far ahead.
        ahead_ms: i64,
        /// The bound.
        limit_ms: i64,
    },
    /// A store, a table of members or a queue is full.
    #[error("{what} is full: {limit} are allowed")]
    Full {
        /// What is full.
        what: &'static str,
        /// The bound.
        limit: usize,
    },
    /// A message that the membership protocol does not take.
    #[error("membership: {0}")]
    Membership(String),
}

impl Refusal {
    /// All reasons, for metrics.
    pub const REASONS: [&'static str; 10] = [
        "label",
        "version",
        "corrupt",
        "oversize",
        "unknown_codec",
        "codec_mismatch",
        "value",
        "future",
        "full",
        "membership",
    ];

    /// The place of the reason in [`Refusal::REASONS`].
    pub(super) fn index(&self) -> usize {
        match self {
            Self::Label(_) => 0,
            Self::Version(_) => 1,
            Self::Corrupt(_) => 2,
            Self::Oversize { .. } => 3,
            Self::UnknownCodec { .. } => 4,
            Self::CodecMismatch { .. } => 5,
            Self::Value { .. } => 6,
            Self::Future { .. } => 7,
            Self::Full { .. } => 8,
            Self::Membership(_) => 9,
        }
    }

    /// The reason's name in metrics.
    pub fn reason(&self) -> &'static str {
        Self::REASONS[self.index()]
    }
}
