//! The door that the stores share (feature `http`): a server that no client can tire out, bodies within a budget, and a guard
//! against pages of other sites. It knows no signal and no route.
//!
//! ```text
//! accept -> Connections (bound; who waited longest goes) -> Connection (hyper) -> SiteGuard -> routes -> read_body (Inflight)
//!                                                             |
//!                                         Watch: what the client owes, since when
//! ```
//!
//! Whatever a client owes (the head of a request, the rest of a body, reading its answer) has a time, after which its connection is
//! closed. While a handler works, no time runs here: queries have their own.
//!
//! For the routes of a signal: who asks ([`tenant()`]), what for ([`Params`]), bodies within bounds ([`with_body`], [`decode_push`]), work that leaves the runtime
//! ([`movable()`]), answers compressed as the client takes them ([`compress()`]) and counted until they are read ([`hold_large`]), calls that panic
//! ([`caught`]), connections that go on as something else ([`Upgrading`]). What an error looks like is the signal's.

mod answer_body;
mod body_reader;
mod compress;
mod connection;
mod connections;
mod cors;
mod encoding;
mod fault;
mod held_body;
mod long_url;
mod movable;
mod params;
mod push_decode;
mod query_body;
mod request_body;
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
pub use held_body::{hold, hold_large};
pub use long_url::UrlQuery;
pub use movable::movable;
pub use params::{Params, parse_time_ms};
pub use push_decode::{DecodeEffort, decode_push};
pub use query_body::with_body;
pub use server::HttpServer;
pub use settings::ConnectionSettings;
pub use site_guard::{AccessSettings, SiteGuard};
pub use tenant::{TenantError, tenant, tenants};
pub use upgrade::{UpgradedStream, Upgrading};
