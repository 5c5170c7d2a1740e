//! What a host starts: components that know each other only by the traits of [`clients`].

mod cleaner;
pub mod clients;
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
mod sample_sink;
mod store_gateway;
mod tsdb;
mod tsdb_builder;

pub use cleaner::{BlocksCleaner, BlocksCleanerBuilder, CleanerSettings};
pub use distributor::{
    Distributor, DistributorBuilder, DistributorCounts, DistributorSettings, PushOutcome,
};
pub use holders::Holders;
pub use ingester::{FlushCounts, Ingester, IngesterBuilder, IngesterSettings};
pub use querier::{Querier, QuerierBuilder};
pub use query_frontend::{QueryFrontend, QueryFrontendBuilder, QueryFrontendCounts};
pub use query_frontend_settings::QueryFrontendSettings;
#[cfg(feature = "http")]
pub(crate) use query_rules::{check_text, read_range};
pub use tsdb::{SeriesSamples, Tsdb};
pub use tsdb_builder::TsdbBuilder;
