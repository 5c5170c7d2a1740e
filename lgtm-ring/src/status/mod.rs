//! What an operator sees of a ring: as data, and as a plain page.
//!
//! [`RingStatus`] serializes to the JSON that the peers' pages give, with ownership shares added; [`RingStatus::to_html`] is the page. The
//! routes around them are in `http` (feature `http`); a host with another server renders them itself.

mod page;
mod status;

pub use status::{InstanceStatus, RingStatus};
