//! What a host starts: components that know each other only by the traits of [`clients`].

pub mod clients;
mod query_frontend;
mod query_frontend_metrics;
mod query_frontend_settings;
mod query_rules;

pub use query_frontend::{QueryFrontend, QueryFrontendBuilder, QueryFrontendCounts};
pub use query_frontend_settings::QueryFrontendSettings;
