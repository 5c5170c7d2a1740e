//! Units of settings and per-tenant limits.

mod byte_size;
pub mod duration;
mod overrides;
mod rate;

pub use byte_size::ByteSize;
pub use overrides::Overrides;
pub use rate::{RateLimiter, retry_after};
