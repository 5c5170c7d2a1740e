//! What a host starts: components that know each other only by the traits of [`clients`].

mod blocks_cleaner;
pub mod clients;
mod compaction_counts;
mod compactor;
mod compactor_settings;
mod distributor;
mod holders;
mod ingester;
mod ingestion_rate;
mod inspect;
mod joined;
mod metrics;
mod querier;
mod query_frontend;
mod query_frontend_settings;
mod query_rules;
#[cfg(feature = "ring")]
pub mod ring;
mod sample_sink;
mod store_gateway;
mod tsdb;
mod tsdb_builder;

pub use compaction_counts::{CompactionCounts, MarkReason, TenantCounts};
pub use compactor::{Compactor, CompactorBuilder, OwnsJob};
pub use compactor_settings::{BlockRange, CompactorSettings};
pub use distributor::{
    Distributor, DistributorBuilder, DistributorCounts, DistributorSettings, PushOutcome,
};
pub use holders::Holders;
pub use ingester::{FlushCounts, Ingester, IngesterBuilder, IngesterSettings};
pub use lgtm_core::limits::RateShare;
pub use querier::{Querier, QuerierBuilder};
pub use query_frontend::{QueryFrontend, QueryFrontendBuilder, QueryFrontendCounts};
pub use query_frontend_settings::QueryFrontendSettings;
#[cfg(feature = "http")]
pub(crate) use query_rules::{check_text, read_range};
pub use tsdb::{SeriesSamples, Tsdb};
pub use tsdb_builder::TsdbBuilder;
