//! The HTTP doors: translate requests and answers, call one method each. [`PushApi`] knows a distributor, [`QueryApi`] somebody who
//! answers queries; neither knows any other component.
//!
//! Paths, shapes, codes: `docs/format/http.md`, after Prometheus' API documentation and Mimir's remote-write answers.

mod answer_text;
mod body;
mod cardinality;
mod decode;
mod embed;
mod error;
mod exemplars;
mod json;
mod labels;
mod metadata;
mod otlp;
mod params;
mod parse;
mod peer_ids;
mod push;
mod push_api;
mod query;
mod query_api;
mod read;
mod rules;
mod settings;
mod status;
mod tenant;
mod user;

pub use push_api::{PushApi, PushApiBuilder};
pub use query_api::{QueryApi, QueryApiBuilder};
pub use settings::ApiSettings;
