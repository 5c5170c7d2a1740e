//! The door that the stores share (feature `http`): a server that no client can tire out, bodies within a budget, and a guard
//! against pages of other sites. It knows no signal and no route.
//!
//! ```text
//! accept -> Connections (bound; who waited longest goes) -> Connection (hyper; HTTP/1.1 or HTTP/2) -> SiteGuard -> routes -> read_body (Inflight)
//!                                                             |
//!                                         Watch: what the client owes, since when
//! ```
//!
//! Whatever a client owes (the head of a request, the rest of a body, reading its answer) has a time, after which its connection is
//! closed. While a handler works, no time runs here: queries have their own.
//!
//! For the routes of a signal: who asks ([`tenant()`]), what for ([`Params`]), bodies within bounds ([`with_body`], [`decode_push`]), work that leaves the runtime
//! ([`movable()`]), answers compressed as the client takes them ([`compress()`]) and counted until they are read ([`hold_large`]), calls that panic
//! ([`caught`]), connections that go on as something else ([`Upgrading`]); [`RouteGuard`] is most of these together. For OTLP: its bodies
//! ([`OtlpBody`]), and calls over HTTP/2 ([`grpc_unary`], [`grpc_stream`]). What an error looks like is the signal's.

mod answer_body;
mod body_reader;
mod compress;
mod connection;
mod connections;
mod cors;
mod encoding;
mod fault;
mod grpc;
mod held_body;
mod http2;
mod long_url;
mod movable;
mod otlp_body;
mod params;
mod pieces_body;
mod protocol;
mod push_decode;
mod query_body;
mod request_body;
mod route_guard;
mod server;
mod settings;
mod site_guard;
mod stream;
mod tenant;
mod upgrade;
mod watch;

#[cfg(test)]
mod tests;

pub use body_reader::{BodyError, collect_body, read_body};
pub use compress::compress;
pub use connections::Connections;
pub use cors::Cors;
pub use encoding::AnswerEncoding;
pub use fault::caught;
#[cfg(feature = "rpc")]
pub(crate) use grpc::percent_decoded;
pub use grpc::{
    GrpcCode, GrpcMessage, GrpcStatus, grpc_refusal, grpc_stream, grpc_timeout, grpc_unary,
};
pub use held_body::{hold, hold_large};
pub use long_url::UrlQuery;
pub use movable::movable;
pub use otlp_body::{OtlpBody, header_text, otlp_answer, otlp_failure};
pub use params::{Params, parse_integer, parse_time_ms, parse_time_ns};
pub use pieces_body::in_pieces;
pub use push_decode::{DecodeEffort, decode_push};
pub use query_body::with_body;
pub use route_guard::{Refusals, RouteBounds, RouteGuard};
pub use server::HttpServer;
pub use settings::ConnectionSettings;
pub use site_guard::{AccessSettings, SiteGuard};
pub use tenant::{TenantError, tenant, tenants};
pub use upgrade::{UpgradedStream, Upgrading};
