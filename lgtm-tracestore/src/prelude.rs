//! What most programs that embed the store name: `use lgtm_tracestore::prelude::*`.

pub use std::sync::Arc;
pub use std::time::Duration;

pub use lgtm_core::limits::Overrides;
pub use lgtm_core::model::{TenantId, TimeRangeNs, TimestampNs};
pub use lgtm_core::storage::{Backend, BackendSettings, from_url};
pub use lgtm_core::telemetry::Registry;
pub use lgtm_core::{Error, ErrorKind};

pub use crate::compact::{RedactedTraces, RedactionReport, RedactionRequest};
pub use crate::components::clients::{FindTrace, Queries};
pub use crate::components::{
    Answered, FlushReport, IngesterSettings, TraceStore, TraceStoreBuilder,
};
#[cfg(feature = "http")]
pub use crate::http::{ApiSettings, PushApi, QueryApi};
pub use crate::limits::{Limits, PushReport};
pub use crate::trace::{Attribute, ResourceSpans, ScopeSpans, Span, SpanId, Trace, TraceId, Value};
pub use crate::traceql::{MetricsAnswer, RedactionFilter, TraceHit};
