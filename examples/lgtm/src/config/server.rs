//! What the HTTP server takes, and where it listens.

use std::time::Duration;

use lgtm_core::http::{AccessSettings, ConnectionSettings};
use lgtm_core::units::ByteSize;
use lgtm_tsdb::components::DistributorSettings;
use lgtm_tsdb::http::ApiSettings;
use serde::{Deserialize, Serialize};

/// The server of the process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ServerSettings {
    /// Address of the HTTP server; loopback unless you say otherwise, for there is no login.
    pub(crate) http_listen_address: String,
    /// Port of the HTTP server: pushes, queries, operations. 0 takes a free one.
    pub(crate) http_listen_port: u16,
    /// Address of the gRPC server, which other processes of a cluster call; loopback unless you say otherwise, for there is no login.
    pub(crate) grpc_listen_address: String,
    /// Port of the gRPC server; a process that is alone has none.
    pub(crate) grpc_listen_port: u16,
    /// Pushes at a time; further ones are answered 503. 0: no bound.
    pub(crate) max_inflight_push_requests: u64,
    /// Bytes of all pushes at a time: compressed, decompressed and decoded; beyond, pushes are answered 503. 0: no bound.
    pub(crate) max_inflight_push_requests_bytes: ByteSize,
    /// Bytes that one push may take in memory when it is decoded; beyond, it is answered 413. 0: 2 GiB.
    pub(crate) max_decoded_bytes: ByteSize,
    /// Bytes of the body of a query or another request that stores nothing; a larger one is answered 413.
    pub(crate) max_query_body_size: ByteSize,
    /// Bytes of all such bodies at a time; beyond, requests are answered 503. 0: no bound.
    pub(crate) max_inflight_query_bodies_bytes: ByteSize,
    /// Bytes of answers above 256 KiB that are held whole and not yet read by their clients; beyond, the next such answer is a 503. 0: no
    /// bound.
    pub(crate) max_inflight_answer_bytes: ByteSize,
    /// Bytes of a remote read's answer in samples, which is held whole; answers in chunks are streamed.
    pub(crate) max_remote_read_bytes: ByteSize,
    /// Bytes of labels and values of the exemplars that one call is answered, which is held whole.
    pub(crate) max_exemplars_bytes: ByteSize,
    /// Origins such as `https://ui.example:8443` whose pages may read the answers of the query API; `*`: any. What they POST must also be
    /// listed in `access.allowed_origins`. Default: none, since the server has no login, and whoever may ask it from a page may ask all of it.
    pub(crate) cors_origins: Vec<String>,
    /// How long to go on serving, not ready, after a signal to stop: for load balancers.
    #[serde(with = "lgtm_core::units::duration")]
    pub(crate) shutdown_delay: Duration,
    /// Bounds of the connections of all HTTP ports together.
    pub(crate) connections: ConnectionSettings,
    /// Which names and pages of browsers may reach the server, which has no login.
    pub(crate) access: AccessSettings,
}

impl Default for ServerSettings {
    fn default() -> Self {
        let (api, pushes) = (ApiSettings::default(), DistributorSettings::default());
        Self {
            http_listen_address: "127.0.0.1".into(),
            http_listen_port: 9009,
            grpc_listen_address: "127.0.0.1".into(),
            grpc_listen_port: 9095,
            max_inflight_push_requests: pushes.max_inflight_push_requests,
            max_inflight_push_requests_bytes: pushes.max_inflight_push_requests_bytes,
            max_query_body_size: api.max_query_body_size,
            max_inflight_query_bodies_bytes: api.max_inflight_query_bodies_bytes,
            max_decoded_bytes: pushes.max_decoded_bytes,
            max_inflight_answer_bytes: api.max_inflight_answer_bytes,
            max_remote_read_bytes: api.max_remote_read_bytes,
            max_exemplars_bytes: api.max_exemplars_bytes,
            cors_origins: api.cors_origins,
            shutdown_delay: Duration::ZERO,
            connections: ConnectionSettings::default(),
            access: AccessSettings::default(),
        }
    }
}

impl ServerSettings {
    /// Where the HTTP server listens.
    pub(crate) fn address(&self) -> String {
        format!("{}:{}", self.http_listen_address, self.http_listen_port)
    }

    /// Where the gRPC server listens.
    pub(crate) fn grpc_address(&self) -> String {
        format!("{}:{}", self.grpc_listen_address, self.grpc_listen_port)
    }
}
