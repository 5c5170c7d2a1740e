//! A metrics store to embed: Prometheus remote write and OTLP in, PromQL out, Prometheus TSDB blocks in an object store.
//!
//! ```text
//!  push, append, PushApi                          query, query_range, QueryApi
//!       |                                                        |
//!  Distributor (rates)                            QueryFrontend (cut, remember, take turns)
//!       |                                                        |
//!   Ingester ---- log and chunk files on disk           Querier (PromQL engine)
//!       |    \                                                   |
//!       |     `--- heads: the last hours, in memory --------- Holders
//!       v                                                        |
//!  blocks in the object store  <--------------------------- BucketBlocks (ranged reads, cached)
//!       ^
//!       `--- Compactor (few large blocks of many small ones, retention, bucket index)
//! ```
//!
//! ```
//! use lgtm_tsdb::prelude::*;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! let db = Tsdb::builder(folder.path(), Backend::memory()).open().await?;
//! let tenant = TenantId::anonymous();
//! let labels = Labels::from_pairs([("__name__", "up"), ("job", "api")])?;
//! let t_ms = TimestampMs::new(1_700_000_000_000);
//!
//! // When this returns, the sample survives `kill -9`.
//! let report = db.append(&tenant, &[(labels, vec![Sample { t_ms, value: 1.0 }])]).await?;
//! assert_eq!(report.samples, 1);
//!
//! let answer = db.query(&tenant, "sum by (job) (up)", t_ms).await?;
//! let QueryValue::Vector(series) = answer.value else { panic!("an instant query of a vector") };
//! assert_eq!(series[0].floats[0].value, 1.0);
//!
//! // A block that Prometheus, Mimir, Cortex and Thanos read.
//! assert_eq!(db.flush().await?.len(), 1);
//! db.close().await?;
//! # Ok(())
//! # }
//! ```
//!
//! [`Tsdb`] is all of it as one value. Who wants the parts takes them: [`components`] (what a host starts; they know each other by the
//! traits of [`components::clients`]), [`promql`] over any
//! [`select::Select`], [`head`], [`block`] and [`bucket`], [`chunk`], [`index`], [`wire`]. [`prelude`] has the names that most programs need.
//!
//! Features: `http` adds the Prometheus API as an `axum` router (`Tsdb::router`); `ring` several ingesters behind one client, replicated by a hash
//! ring; `rpc` ingesters and store-gateways in other processes. The object stores S3, GCS and Azure are features of
//! `lgtm-core` (`s3`, `gcs`, `azure`).

pub mod block;
mod block_id;
pub mod bucket;
pub mod chunk;
pub mod compact;
pub mod components;
pub mod head;
#[cfg(feature = "http")]
pub mod http;
pub mod index;
pub mod limits;
pub mod prelude;
pub mod promql;
#[cfg(feature = "rpc")]
pub mod rpc;
pub mod select;
pub mod verify;
pub mod wire;

pub use async_trait;
#[cfg(feature = "http")]
pub use axum;
pub use components::Tsdb;
pub use lgtm_core;
pub use object_store;
