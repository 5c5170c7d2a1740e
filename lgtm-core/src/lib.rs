//! What a store of metrics, logs or traces stands on: a write-ahead log, object storage kept in bounds, caches, a compute pool, the data
//! model, and the suites that show whether it holds.
//!
//! Nothing here knows a query language or a signal. Take it to build a store of your own: one that acknowledges what survives `kill -9`,
//! answers whole or says what is missing, and keeps to the memory it was given.
//!
//! ```text
//!      what comes in                                                      what is asked
//!           |                                                                  |
//!     http (feature): bounds on bodies, connections and time     frontend: cut, remember, take turns
//!           |                                                                  |
//!     codec, otlp, go: bytes to values, never more than allowed     re2, vector: what languages compute with
//!           |                                                                  |
//!     wal: logged before it is answered ---- your head ---- postings: what series match
//!           |                                    |                             |
//!     disk: local files, their owner        exec: pool, cancellation      cache, index
//!           `------------------------------- storage: one prefix a component, ranged reads, uploads that appear whole
//! ```
//!
//! A log that keeps its word, and how it is read back:
//!
//! ```
//! use std::sync::Arc;
//! use lgtm_core::clock::SystemClock;
//! use lgtm_core::disk::LocalDisk;
//! use lgtm_core::model::{Labels, Matcher};
//! use lgtm_core::wal::{Wal, WalSettings};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> lgtm_core::Result<()> {
//! # let folder = tempfile::tempdir().unwrap();
//! let (disk, clock) = (Arc::new(LocalDisk::new(folder.path())), Arc::new(SystemClock::new()));
//! let labels = Labels::from_pairs([("job", "api"), ("__name__", "up")])?;
//! {
//!     let (wal, _) = Wal::open(disk.clone(), "wal", WalSettings::default(), clock.clone())?;
//!     let position = wal.append(1, labels.to_string().as_bytes())?;
//!     wal.commit(position).await?; // now it may be acknowledged
//! } // the process may die here, or anywhere
//!
//! let (_wal, log) = Wal::open(disk, "wal", WalSettings::default(), clock)?;
//! let mut found = Vec::new();
//! log.for_each(|record| Ok(found.push(record.payload.to_vec())))?;
//! assert_eq!(found, [br#"{__name__="up", job="api"}"#.to_vec()]);
//!
//! // Patterns are Go's, whichever language they stand in.
//! assert!(Matcher::regex("job", "api|web")?.matches(labels.get("job").unwrap_or_default()));
//! # Ok(())
//! # }
//! ```
//!
//! | to | go to |
//! |---|---|
//! | log what must not be lost, keep finished chunks in local files | [`wal`], [`disk`] |
//! | read and write objects within one prefix, with retries, deadlines and counted requests | `storage` |
//! | name tenants, times, labels, matchers, histograms | [`model`] |
//! | find series by their labels | [`postings`], `index` (sections of the index on disk) |
//! | decode what strangers send | [`codec`], [`otlp`], [`go`] |
//! | match patterns as Go does | [`re2`] |
//! | compute at steps, in groups, the best k | [`vector`] |
//! | put queries in turns, cut and cache them | [`frontend`], [`cache`] |
//! | run work off the runtime's threads, and stop it | [`exec`] |
//! | start and stop parts in order, export metrics, and keep a process' own metrics | [`service`], [`telemetry`], [`self_monitor`] |
//! | let rules and generators write samples | [`sink`] |
//! | hold tenants to their limits | [`limits`] |
//! | open a door | `http` |
//! | see a store in motion, on a disk that dies and an object store that lies | `testing` |
//!
//! Features: `storage` (default), `compression`, `http`, `rpc`, `testing`, the back ends `s3`, `gcs`, `azure`, and the caches `memcached`, `redis`,
//! `disk-cache`. The lessons in the repository
//! (`examples/lessons`) take one idea each; begin with `wal_survives_a_crash`.

pub mod cache;
pub mod clock;
pub mod codec;
pub mod disk;
pub mod error;
pub mod exec;
pub mod frontend;
pub mod go;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "storage")]
pub mod index;
pub mod limits;
pub mod model;
pub mod nearest;
pub mod otlp;
pub mod postings;
pub mod random;
pub mod re2;
#[cfg(feature = "rpc")]
pub mod rpc;
pub mod secret;
pub mod self_monitor;
pub mod service;
pub mod sink;
#[cfg(feature = "storage")]
pub mod storage;
pub mod telemetry;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod timestamp;
pub mod units;
pub mod vector;
pub mod wal;

pub use error::{DecodeError, Error, ErrorKind, Result};
