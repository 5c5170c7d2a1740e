//! The HTTP door: translates requests and answers, calls one method each.
//!
//! Paths, shapes, codes: `docs/format/http.md`, after Prometheus' API documentation and Mimir's remote-write answers.

mod api;
mod error;
mod json;
mod params;
mod parse;
mod push;
mod query;
mod read;
mod status;
mod tenant;

pub use api::{Api, ApiSettings};
