//! The HTTP doors: translate requests and answers, call one method each. [`PushApi`] knows a distributor, [`QueryApi`] somebody who
//! answers queries; neither knows any other component.
//!
//! Paths, shapes, codes: `docs/format/http.md`, after Loki's API documentation and recorded answers.

mod answer_text;
mod body;
mod deletes;
mod detected;
mod embed;
mod error;
mod format;
mod json;
mod labels;
mod legacy;
mod limits;
mod otlp;
mod params;
mod patterns;
mod push;
mod push_api;
mod query;
mod query_api;
mod query_options;
mod rules;
mod selector;
mod settings;
mod status;
mod tail;
mod tenant;
mod volume;
mod websocket;

pub use push_api::{PushApi, PushApiBuilder};
pub use query_api::{QueryApi, QueryApiBuilder};
pub use settings::ApiSettings;
