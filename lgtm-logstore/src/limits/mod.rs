//! What a tenant may do, what of a push is refused for it, and what its sender is told.

mod admission;
mod limits;
mod push_part;
mod push_report;
mod request_limits;
mod several_tenants;

pub use admission::{Accepted, Admission};
pub use limits::{Limits, ServiceNameSources};
pub use push_part::PushPart;
pub use push_report::{IgnoredEntries, PushRefusal, PushReport, PushRule, Refused};
pub use request_limits::RequestLimits;
pub use several_tenants::query_limits;
