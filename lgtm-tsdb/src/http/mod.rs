//! The HTTP door: translates requests and answers, calls one method each.
//!
//! Paths, shapes, codes: `docs/format/http.md`, after Prometheus' API documentation and Mimir's remote-write answers.

mod answer_text;
mod api;
mod body;
mod cardinality;
mod compress;
mod decode;
mod embed;
mod error;
mod exemplars;
mod fault;
mod json;
mod labels;
mod metadata;
mod movable;
mod otlp;
mod params;
mod parse;
mod push;
mod query;
mod read;
mod rules;
mod status;
mod tenant;
mod user;

pub use api::{Api, ApiSettings};
