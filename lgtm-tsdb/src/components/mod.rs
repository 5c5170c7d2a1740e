//! What a host starts: components that know each other only by the traits of [`clients`].

mod cardinality;
mod cleaner;
pub mod clients;
mod distributor;
mod housekeeping;
mod ingester;
mod ingestion_rate;
mod metrics;
mod querier;
mod query_frontend;
mod query_frontend_settings;
mod query_rules;
mod sample_sink;
mod tsdb;
mod tsdb_builder;

pub use cleaner::{BlocksCleaner, CleanerSettings};
pub use distributor::{Distributor, DistributorCounts, PushOutcome};
pub use ingester::{FlushCounts, Ingester, IngesterBuilder, IngesterSettings, RandomSource};
pub use querier::Querier;
pub use query_frontend::{QueryFrontend, QueryFrontendCounts};
pub use query_frontend_settings::QueryFrontendSettings;
pub use tsdb::{SeriesSamples, Tsdb};
pub use tsdb_builder::{TsdbBuilder, os_random};
