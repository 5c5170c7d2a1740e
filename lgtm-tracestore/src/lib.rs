//! The trace store: Parquet blocks with bloom filters.

pub mod trace;
