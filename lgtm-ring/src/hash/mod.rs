//! From keys to tokens.
//!
//! Data keys (series, streams, traces, blocks) use FNV-1; the keys of control-plane work (rule groups, jobs, tenants) use FNV-1a. Mixing
//! the two up is the classic mistake, so callers use the functions of `keys.rs`, which know. Vectors: `golden/ring/hashes.json`.

mod fnv;
mod keys;

pub use fnv::{Fnv1, Fnv1a, fnv1_64};
pub use keys::{
    block_token, bloom_token, compaction_job_token, metadata_token, rule_group_token, series_token,
    stream_token, tenant_token, trace_token,
};
