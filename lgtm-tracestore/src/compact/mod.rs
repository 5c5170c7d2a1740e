//! Blocks joined and written anew without some traces: which ([`plan`], pure), and how their traces are merged ([`TraceMerge`]).

mod merge;
mod plan;
mod redaction;

pub use merge::{FailedSource, TraceMerge};
pub use plan::{CompactionJob, CompactionRules, plan};
pub use redaction::{
    RedactedSource, RedactedTraces, RedactionBatch, RedactionReport, RedactionRequest,
};
