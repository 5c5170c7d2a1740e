//! What a host starts: components that know each other only by the traits of [`clients`].

mod block_flusher;
pub mod clients;
mod compactor;
mod compactor_settings;
mod distributor;
mod federated;
mod holders;
mod ingester;
mod metrics;
mod own_spans;
mod querier;
mod query_frontend;
mod query_frontend_settings;
mod query_splitter;
mod requests;
#[cfg(feature = "ring")]
pub mod ring;
mod store_gateway;
mod trace_join;
mod trace_store;
mod trace_store_builder;

pub use block_flusher::{FlushCounts, FlushReport};
pub use compactor::{CompactionCounts, Compactor, CompactorBuilder, OwnsJob};
pub use compactor_settings::CompactorSettings;
pub use distributor::{
    Distributor, DistributorBuilder, DistributorCounts, DistributorSettings, Received,
};
pub use federated::Federated;
pub use holders::{Holders, JoinedSpans};
pub use ingester::{Ingester, IngesterBuilder, IngesterSettings};
pub use own_spans::{OpenSpan, OwnSpans, OwnTraces, SpanParent};
pub use querier::{Querier, QuerierBuilder, QuerierCounts, QuerierSettings, QueryOp};
pub use query_frontend::{QueryFrontend, QueryFrontendBuilder, QueryFrontendCounts};
pub use query_frontend_settings::QueryFrontendSettings;
pub use query_splitter::{TraceAnswer, TraceQuery, TraceqlSplitter};
pub use requests::{
    Answered, FoundTrace, MetricsRequest, QueryEnd, SearchRequest, TagNamesAnswer, TagNamesRequest,
    TagValuesAnswer, TagValuesRequest, TraceRequest,
};
pub use trace_store::TraceStore;
pub use trace_store_builder::TraceStoreBuilder;
