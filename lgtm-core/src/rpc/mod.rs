//! Calls between processes (feature `rpc`): gRPC, one message in, one or several out.
//!
//! ```text
//! RpcClient --- connections, HTTP/2 --> HttpServer -> RpcServer -> a function that answers
//!    call: method, tenant (x-scope-orgid), time left (grpc-timeout), message
//!    answer: messages, then trailers: status, and the Error it was (lgtm-error-bin)
//! ```
//!
//! It knows no signal: messages are bytes, written and read by the stores by hand, so that a sample costs no allocation. That is why it stands on
//! hyper and on the framing of [`http`](crate::http) rather than on tonic. The server is that of all other doors, with its bounds on connections and
//! bodies; tonic would bring a second one, and a codec that takes owned values. What leaves is gRPC all the same: any client of it can call.
//!
//! * An [`Error`](crate::Error) arrives as it was, its kind, its words and its wait included ([`RpcServer`], [`RpcClient`]).
//! * Who waits no longer stops the work: a future or a stream that is dropped resets its HTTP/2 stream, and the server drops what answers. So does the
//!   end of the caller's time, on both sides.
//! * An answer ends with its trailers. One that breaks off before is `Unavailable`, never a shorter answer.
//! * Messages have a bound; memory grows with what has come, never with what is announced.
//! * Each answer has a window of its own, and connections have none, so that an answer that nobody reads yet holds up no other one.
//! * A connection that is silent while calls are under way is asked for a sign of life, and given up when none comes.

mod client;
mod connection;
mod fault;
mod health;
mod message;
pub mod messages;
mod remote;
mod server;
mod settings;

#[cfg(test)]
mod tests;

pub use client::{RpcCaller, RpcClient, RpcStream};
pub use health::{HEALTH_CHECK, health_routes};
pub use message::RpcMessage;
pub use remote::{Remote, RemoteSettings};
pub use server::{RpcCall, RpcServer};
pub use settings::{RpcClientSettings, RpcCompression, RpcServerSettings};
