//! What a tenant may do, what of a push is refused for it, and what its sender is told.

mod admission;
mod deletion_mode;
mod limits;
mod push_part;
mod push_report;
mod request_limits;
mod retention;
mod several_tenants;
mod stream_selector;

pub use admission::{Accepted, Admission};
pub use deletion_mode::DeletionMode;
pub use limits::{Limits, ServiceNameSources};
pub use push_part::PushPart;
pub use push_report::{IgnoredEntries, PushRefusal, PushReport, PushRule, Refused};
pub use request_limits::RequestLimits;
pub use retention::{Horizons, StreamRetention};
pub use several_tenants::query_limits;
pub use stream_selector::StreamSelector;
