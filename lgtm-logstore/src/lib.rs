//! The log store: streams, chunks and their index.
