//! What a host starts: components that know each other only by the traits of [`clients`].

mod chunk_flusher;
mod chunk_merging;
mod chunk_sweeper;
pub mod clients;
mod compaction_counts;
mod compactor;
mod compactor_settings;
mod delete_requests;
mod deletion;
mod detected;
mod distributor;
mod expiry;
mod federated;
mod followers;
mod holders;
mod index_joining;
mod ingester;
mod joined;
mod joined_tail;
mod log_store;
mod log_store_builder;
mod metrics;
mod own_log;
mod querier;
mod query_frontend;
mod query_frontend_settings;
mod query_rules;
mod recent_patterns;
#[cfg(feature = "ring")]
pub mod ring;
#[cfg(test)]
mod sample_pushes;
mod side_compactor;
mod store_gateway;
mod table_progress;
mod visible;
mod volume;

pub use chunk_flusher::{FlushCounts, FlushReport};
pub use compaction_counts::CompactionCounts;
pub use compactor::{Compactor, CompactorBuilder, OwnsJob};
pub use compactor_settings::CompactorSettings;
pub use delete_requests::{DeleteRequests, DeleteSettings, KnownDelete};
pub use detected::{
    DetectedField, DetectedFieldsRequest, DetectedLabel, FieldParser, detected_field_values,
    detected_fields, detected_labels,
};
pub use distributor::{
    Distributor, DistributorBuilder, DistributorCounts, DistributorSettings, Received,
};
pub use followers::{FollowSettings, Followers};
pub use holders::Holders;
pub use ingester::{Ingester, IngesterBuilder, IngesterSettings};
pub use joined_tail::{JoinedTail, TailSettings, tail_history};
pub use log_store::LogStore;
pub use log_store_builder::LogStoreBuilder;
pub use own_log::{OwnLines, OwnLog};
pub use querier::{Querier, QuerierBuilder};
pub use query_frontend::{QueryFrontend, QueryFrontendBuilder, QueryFrontendCounts};
pub use query_frontend_settings::QueryFrontendSettings;
pub use recent_patterns::{PatternSettings, RecentPatterns, joined_patterns};
pub use volume::{
    SelectorStats, VolumeAggregation, VolumeRequest, selector_stats, volume, volume_range,
};
