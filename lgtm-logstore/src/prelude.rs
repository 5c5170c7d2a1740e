//! What most programs that embed the store name: `use lgtm_logstore::prelude::*`.

pub use std::sync::Arc;
pub use std::time::Duration;

pub use lgtm_core::limits::Overrides;
pub use lgtm_core::model::{Labels, Matcher, TenantId, TimeRangeNs, TimestampNs};
pub use lgtm_core::storage::{Backend, BackendSettings, from_url};
pub use lgtm_core::telemetry::Registry;
pub use lgtm_core::{Error, ErrorKind};

pub use crate::components::clients::{Inspect, Queries};
pub use crate::components::{FlushReport, IngesterSettings, LogStore, LogStoreBuilder};
pub use crate::limits::{Limits, PushReport};
pub use crate::logql::{Answer, Query, QueryError, QueryOptions, QueryValue};
pub use crate::select::Select;
pub use crate::wire::LogEntry;
