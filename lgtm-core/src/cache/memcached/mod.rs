//! Memcached, by its meta protocol (version 1.6 and newer).
//!
//! ```text
//! get_many -> servers (natural order, xxhash64, jump hash) -> batches in parallel -> one of the server's connections
//! set      -> queue, bounded in values and bytes -> writers  ----^
//! ```
//!
//! Keys are spread as Mimir's, Loki's and Tempo's clients spread them (`golden/cache/jump_hash.json`).

mod address;
mod client;
mod connection;
mod directory;
mod protocol;
mod server;
mod settings;

pub use address::{natural_order, picked_server};
pub use client::MemcachedCache;
pub use settings::MemcachedSettings;
