//! Ingesters and index-gateways in other processes (feature `rpc`): the traits of [`components::clients`](crate::components::clients) over
//! [`lgtm_core::rpc`].
//!
//! ```text
//! distributor, querier -> RemoteIngester --- gRPC --> ingester_routes -> Arc<dyn IngesterClient>
//! querier -> RemoteIndexGateway ------------ gRPC --> index_gateway_routes -> Arc<dyn StoreGatewayClient>
//! ```
//!
//! What is here translates and calls one method; who asks whom is decided in `components`. Messages are walked by hand, so that no line is
//! allocated for, on its way in or out. Unknown fields are skipped, so that processes of neighbouring versions understand each other
//! (`docs/format/rpc.md`).
//!
//! An answer of several messages ends with one that says how it ended and with the status of the call. Without either it is an error.

mod client;
mod entries_message;
mod inspect_message;
mod methods;
mod pool;
mod remote_entries;
mod report_message;
mod select_message;
mod server;

#[cfg(test)]
mod tests;

pub use client::{RemoteIndexGateway, RemoteIngester};
pub use lgtm_core::rpc::RemoteSettings;
pub use lgtm_ring::replicas::RemoteCalls;
pub use pool::{RemoteIndexGateways, RemoteIngesters};
pub use server::{index_gateway_routes, ingester_routes};
