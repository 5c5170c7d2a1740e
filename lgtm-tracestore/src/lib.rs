//! The trace store: Parquet blocks with bloom filters.
