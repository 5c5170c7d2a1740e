//! How outsiders' bytes become ours: OTLP traces. Pure: bytes in, values out.

mod otlp;

pub use otlp::REQUEST as OTLP_REQUEST;
