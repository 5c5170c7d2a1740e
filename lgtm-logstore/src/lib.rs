//! A log store to embed: Loki's push API and OTLP in, LogQL out, chunks and index in an object store as Grafana Loki reads and writes them.
//!
//! ```text
//!  push, append                                   query, query_range, lines
//!       |                                                        |
//!  Distributor (limits)                               Querier (LogQL engine)
//!       |                                                        |
//!   Ingester ---- log and chunk files on disk                    |
//!       |    \                                                   |
//!       |     `--- heads: open chunks, in memory ------------ Holders
//!       v                                                        |
//!  chunks and index files in the object store  <----------- BucketChunks (found by the index, read as they are needed)
//! ```
//!
//! ```
//! use lgtm_logstore::prelude::*;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! let db = LogStore::builder(folder.path(), Backend::memory()).open().await?;
//! let tenant = TenantId::anonymous();
//! let labels = Labels::from_pairs([("app", "shop")])?;
//! let t_ns = TimestampNs::new(1_700_000_000_000_000_000);
//!
//! // When this returns, the line survives `kill -9`.
//! let entry = LogEntry::new(t_ns, "level=warn msg=slow took=1.5s").with("trace_id", "7f3a");
//! let report = db.append(&tenant, &[(labels, vec![entry])]).await?;
//! assert_eq!(report.entries, 1);
//!
//! let last_hour = TimeRangeNs::new(t_ns - 3_600_000_000_000, t_ns + 1);
//! let found = db.lines(&tenant, r#"{app="shop"} | logfmt | took > 1s"#, last_hour, 10).await?;
//! assert_eq!(found.items[0].0.get("trace_id"), Some("7f3a"));
//!
//! // A chunk and an index file that Loki reads.
//! assert_eq!(db.flush().await?.chunks, 1);
//! db.close().await?;
//! # Ok(())
//! # }
//! ```
//!
//! [`LogStore`] is all of it as one value. Who wants the parts takes them: [`components`] (what a host starts; they know each other by the
//! traits of [`components::clients`]), [`logql`] over any [`select::Select`], [`head`], [`bucket`], [`chunk`] and [`index`] (the bytes in the
//! object store, by the rules of [`schema`]), [`skip`] (what stands beside them: where a text surely is not, what was counted already), [`entry`] (decoded blocks), [`wire`] (what is sent) and [`limits`] (what of it is taken).
//! With the feature `ring` several ingesters are one (`components::ring`), with `rpc` they may be in other processes. [`prelude`] has the names that most programs need. The pages below `docs/format` describe the bytes.
//!
//! The object stores S3, GCS and Azure are features of `lgtm-core` (`s3`, `gcs`, `azure`).

pub mod bucket;
pub mod chunk;
pub mod compact;
pub mod components;
pub mod drain;
pub mod entry;
pub mod head;
#[cfg(feature = "http")]
pub mod http;
pub mod index;
pub mod limits;
pub mod logql;
pub mod prelude;
#[cfg(feature = "rpc")]
pub mod rpc;
pub mod schema;
pub mod select;
pub mod skip;
pub mod verify;
pub mod wire;

pub use components::LogStore;
pub use lgtm_core;
