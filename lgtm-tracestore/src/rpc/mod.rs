//! Ingesters in other processes (feature `rpc`): the traits of [`components::clients`](crate::components::clients) over [`lgtm_core::rpc`].
//!
//! ```text
//! distributor, querier -> RemoteIngester --- gRPC --> ingester_routes -> Arc<dyn IngesterClient>
//! ```
//!
//! What is here translates and calls one method; who asks whom is decided in `components`. Spans pass as the bytes that they came as, so that none is
//! allocated for, on its way in or out. Unknown fields are skipped, so that processes of neighbouring versions understand each other
//! (`docs/format/rpc.md`).
//!
//! An answer of several messages ends with one that says how it ended. Without it it is an error. That of recent traces is held as long as its caller
//! reads from it or looks traces up in it (`held_answers`).

mod client;
mod end_message;
mod filter_message;
mod find_message;
mod held_answers;
mod methods;
mod pool;
mod recent_message;
mod remote_recent;
mod report_message;
mod server;

#[cfg(test)]
mod tests;

pub use client::RemoteIngester;
pub use lgtm_core::rpc::RemoteSettings;
pub use lgtm_ring::replicas::RemoteCalls;
pub use pool::RemoteIngesters;
pub use server::ingester_routes;
