//! Ingesters and store-gateways in other processes (feature `rpc`): the traits of [`components::clients`](crate::components::clients) over
//! [`lgtm_core::rpc`].
//!
//! ```text
//! distributor, querier -> RemoteIngester --- gRPC --> ingester_routes -> Arc<dyn IngesterClient>
//! querier -> RemoteStoreGateway ------------ gRPC --> store_gateway_routes -> Arc<dyn Select>
//! ```
//!
//! What is here translates and calls one method; who asks whom is decided in `components`. Messages are walked by hand, so that neither a sample on
//! its way in nor a chunk on its way out is allocated for: chunks of an answer share the memory of the message that they came in. Unknown fields are
//! skipped, so that processes of neighbouring versions understand each other.
//!
//! An answer of several messages ends with one that says how it ended (warnings, what was fetched, blocks) and with the status of the call. Without
//! either it is an error.

mod batch_message;
mod client;
mod inspect_message;
mod methods;
mod pool;
mod report_message;
mod select_message;
mod server;
mod walk;

#[cfg(test)]
mod tests;

pub use client::{RemoteIngester, RemoteStoreGateway};
pub use lgtm_core::rpc::RemoteSettings;
pub use lgtm_ring::replicas::RemoteCalls;
pub use pool::{RemoteIngesters, RemoteStoreGateways};
pub use server::{ingester_routes, store_gateway_routes};
