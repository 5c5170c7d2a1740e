//! What a tenant may do.
//!
//! [`Overrides`] holds one limits struct per tenant, replaced as a whole while requests read it. [`OverridesFile`] reads the file that
//! operators write, [`RuntimeConfig`] reads it again while the process runs. [`RateLimiter`] is a token bucket, [`TenantLimiters`] has one
//! per tenant; [`GlobalLimits`] and [`RateShare`] divide what holds for several processes; [`retry_after`] says when a refused client shall come back. [`Inflight`] bounds
//! what is under way in a process, [`QueryMemory`] what its queries hold; [`BatchPool`] has the memory of requests.

mod batch_pool;
mod inflight;
mod overrides;
mod overrides_file;
mod query_memory;
mod rate_limiter;
mod retry_after;
mod runtime_config;
mod shares;
mod tenant_limiters;

pub use batch_pool::{BatchPool, PooledBatch, Reusable};
pub use inflight::{Inflight, InflightBound, Ticket};
pub use overrides::Overrides;
pub use overrides_file::OverridesFile;
pub use query_memory::{AnswerMemory, MemoryHold, QueryMemory};
pub use rate_limiter::{RateLimit, RateLimiter};
pub use retry_after::retry_after;
pub use runtime_config::{
    ReadOverrides, Reload, RuntimeConfig, RuntimeConfigBuilder, RuntimeConfigSettings, Shown,
};
pub use shares::{GlobalLimits, RateShare};
pub use tenant_limiters::TenantLimiters;
