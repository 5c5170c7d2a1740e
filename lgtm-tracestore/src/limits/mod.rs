//! What a tenant may do, what of a push is refused for it, and what its sender is told.

mod admission;
mod limits;
mod push_part;
mod push_report;

pub use admission::Admission;
pub use limits::{
    CompactionLimits, GlobalLimits, IngestionLimits, Limits, ReadLimits, StorageLimits,
};
pub use push_part::PushPart;
pub use push_report::PushReport;
