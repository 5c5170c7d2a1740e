//! What a host starts: components that know each other only by the traits of [`clients`].

mod chunk_flusher;
pub mod clients;
mod distributor;
mod holders;
mod ingester;
mod joined;
mod log_store;
mod log_store_builder;
mod metrics;
mod querier;
mod store_gateway;

pub use chunk_flusher::{FlushCounts, FlushReport};
pub use distributor::{
    Distributor, DistributorBuilder, DistributorCounts, DistributorSettings, Received,
};
pub use holders::Holders;
pub use ingester::{Ingester, IngesterBuilder, IngesterSettings};
pub use log_store::LogStore;
pub use log_store_builder::LogStoreBuilder;
pub use querier::{Querier, QuerierBuilder};
