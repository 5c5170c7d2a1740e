//! The ground of the `lgtm` crates: what metrics, logs and traces storage have in common.
//!
//! ```text
//! error clock go re2 nearest secret units disk exec telemetry otlp | model codec | service cache postings vector sink | wal storage limits self_monitor | frontend index | http | testing
//! ```
//!
//! Folders are listed bottom to top; each imports only what stands left of it.
//!
//! * [`model`]: tenants, times, labels, matchers, histograms. Parse once at the edge; inside, a value is valid.
//! * [`codec`]: integers, checksums, protobuf, decompression; how much may come of a request.
//! * [`go`]: values as Go spells them; [`otlp`]: what the three OTLP signals share.
//! * [`re2`]: regular expressions in the dialect of Go.
//! * [`postings`]: set operations over sorted ids, and what heads find their series by.
//! * [`wal`]: the write-ahead log and the local files of finished chunks; `storage`: object storage cut into component prefixes, ranged reads,
//!   uploads that appear whole.
//! * `index`: the sections that indexes laid out as Prometheus' share.
//! * [`vector`]: what the query languages compute with: step grids, grouping keys, matching, the best k.
//! * [`frontend`]: queries cut into pieces, answers remembered, tenants taking turns.
//! * `http` (feature): the server, bodies with bounds, the guard against pages of other sites.
//! * [`sink`]: where rules, the metrics-generator and [`self_monitor`] put their samples.
//! * `service`: lifecycles, started in dependency order and stopped in reverse.
//!
//! ```
//! use lgtm_core::model::{Labels, Matcher};
//!
//! let labels = Labels::from_pairs([("job", "api"), ("__name__", "up")])?;
//! let matcher = Matcher::regex("job", "api|web")?;
//! assert!(matcher.matches(labels.get("job").unwrap_or("")));
//! # Ok::<(), lgtm_core::Error>(())
//! ```

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
pub mod re2;
pub mod secret;
pub mod self_monitor;
pub mod service;
pub mod sink;
#[cfg(feature = "storage")]
pub mod storage;
pub mod telemetry;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod units;
pub mod vector;
pub mod wal;

pub use error::{DecodeError, Error, ErrorKind, Result};
