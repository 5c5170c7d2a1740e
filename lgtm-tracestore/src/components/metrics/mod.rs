//! What the components tell of themselves, gathered when it is asked for. Names follow Tempo's where the meaning is the same; others begin
//! with `lgtm_traces_`; those of the log on disk bear the label `signal`.
//!
//! Builders register what they build. The registry holds a component weakly: one that is gone tells nothing.

mod compactor;
mod ingester;
mod queries;
mod query_frontend;
mod store_gateway;
mod write_path;
