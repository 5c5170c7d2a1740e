//! Names of attributes, and their values: of all spans, or of those that a filter lets pass.

mod lenient;
mod names;
mod scope;
mod values;

pub use names::TagNames;
pub use scope::{INTRINSIC_TAGS, TagScope};
pub use values::{TagValue, TagValueType, TagValues, tag_field, unscoped_tag_fields};
