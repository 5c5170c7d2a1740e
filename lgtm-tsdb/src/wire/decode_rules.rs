//! The rules of a tenant that decoders keep.

use super::label_bounds::LabelBounds;

/// What of a request is refused while it is decoded, before its bytes are copied anywhere. By default nothing is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DecodeRules {
    /// Bounds of the label sets of protocols that do not spell each one out: a series beyond them is left out and told.
    pub labels: LabelBounds,
    /// Bytes of a name, help or unit in metadata: a help is cut, a name or unit is refused. 0: any.
    pub max_metadata_length: usize,
}
