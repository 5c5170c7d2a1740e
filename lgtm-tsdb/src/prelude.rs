//! What most programs that embed the store name: `use lgtm_tsdb::prelude::*`.

pub use std::sync::Arc;

pub use lgtm_core::limits::Overrides;
pub use lgtm_core::model::{Labels, Matcher, Sample, TenantId, TimeRange, TimestampMs};
pub use lgtm_core::storage::{Backend, BackendSettings, from_url};
pub use lgtm_core::telemetry::Registry;
pub use lgtm_core::{Error, ErrorKind};

pub use crate::components::clients::{Inspect, Queries};
pub use crate::components::{IngesterSettings, SeriesSamples, Tsdb, TsdbBuilder};
pub use crate::head::AppendReport;
#[cfg(feature = "http")]
pub use crate::http::{ApiSettings, PushApi, QueryApi};
pub use crate::limits::Limits;
pub use crate::promql::{Answer, Query, QueryError, QueryOptions, QueryValue};
pub use crate::select::Select;
