//! What a host starts: components that know each other only by the traits of [`clients`].

pub mod clients;
mod distributor;
mod ingester;
mod querier;
mod tsdb;

pub use distributor::{Distributor, PushOutcome};
pub use ingester::{Ingester, IngesterBuilder, IngesterSettings};
pub use querier::Querier;
pub use tsdb::{Tsdb, TsdbBuilder};
