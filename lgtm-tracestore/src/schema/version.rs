//! The versions of Parquet trace blocks.

use lgtm_core::error::{Error, Result};

/// A version of the block format, as `meta.json` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum BlockVersion {
    /// `vParquet3`: read, not written.
    V3,
    /// `vParquet4`: what is written unless another is asked for, since every Tempo of the last years reads it.
    #[default]
    V4,
    /// `vParquet5`: dedicated columns of texts and integers for events too, lists without a wrapping group.
    V5,
}

impl BlockVersion {
    /// Its name in `meta.json`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V3 => "vParquet3",
            Self::V4 => "vParquet4",
            Self::V5 => "vParquet5",
        }
    }

    /// The version of that name.
    ///
    /// # Errors
    /// `InvalidInput` for a name that is none of the three.
    pub fn of_name(name: &str) -> Result<Self> {
        match name {
            "vParquet3" => Ok(Self::V3),
            "vParquet4" => Ok(Self::V4),
            "vParquet5" => Ok(Self::V5),
            other => Err(Error::InvalidInput(format!(
                "unknown block format {other:?}: known are vParquet3, vParquet4, vParquet5"
            ))),
        }
    }
}
