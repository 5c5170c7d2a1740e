//! OTLP traces.

mod schema;

pub use schema::REQUEST;
