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

mod answer_body;
mod body_reader;
mod connection;
mod connections;
mod cors;
mod held_body;
mod inflight;
mod long_url;
mod request_body;
mod server;
mod settings;
mod site_guard;
mod stream;
mod watch;

#[cfg(test)]
mod tests;

pub use body_reader::{BodyError, collect_body, read_body};
pub use connections::Connections;
pub use cors::Cors;
pub use held_body::hold;
pub use inflight::{Inflight, InflightBound, Ticket};
pub use long_url::UrlQuery;
pub use server::HttpServer;
pub use settings::ConnectionSettings;
pub use site_guard::{AccessSettings, SiteGuard};
