//! All open connections: how many there may be, and who goes when there are too many.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::long_url::HeldLine;
use super::settings::ConnectionSettings;
use super::watch::{Asked, Owed, Watch};
use crate::error::Result;
use crate::limits::{Inflight, InflightBound};
use crate::telemetry::{Counter, Registry};

/// Connections beyond the bound that may still be on their way out. Past them new ones are refused, so that the bound holds also when
/// the process is too busy to close any.
const LEAVING: usize = 64;

/// The connections of all servers of a process, and what happened to them.
#[derive(Debug)]
pub struct Connections {
    settings: ConnectionSettings,
    max: usize,
    epoch: Instant,
    /// What long URLs may take together.
    long_urls: Arc<Inflight>,
    open: Mutex<HashMap<u64, Arc<Watch>>>,
    next: AtomicU64,
    pub(super) counts: Counts,
}

/// What happened, as metrics.
#[derive(Debug)]
pub(super) struct Counts {
    accepted: Arc<Counter>,
    refused: Arc<Counter>,
    crowded_out: Arc<Counter>,
    late: [Arc<Counter>; Owed::ALL.len()],
    pub(super) accept_errors: Arc<Counter>,
    pub(super) panics: Arc<Counter>,
}

impl Counts {
    fn new(registry: &Registry) -> Result<Self> {
        let closed = registry.counter_vec(
            "lgtm_http_closed_connections_total",
            "Connections closed because their clients were late, or to make room, by reason.",
            &["reason"],
        )?;
        Ok(Self {
            accepted: registry.counter(
                "lgtm_http_accepted_connections_total",
                "Connections accepted.",
            )?,
            refused: registry.counter(
                "lgtm_http_refused_connections_total",
                "Connections answered 503 because all others were at work (server.connections.max).",
            )?,
            crowded_out: closed.with(&["crowded_out"]),
            late: Owed::ALL.map(|owed| closed.with(&[owed.as_reason()])),
            accept_errors: registry.counter(
                "lgtm_http_accept_errors_total",
                "Times that no connection could be accepted, for want of files or memory.",
            )?,
            panics: registry.counter(
                "lgtm_http_panics_total",
                "Requests that ended in a fault of this program.",
            )?,
        })
    }

    pub(super) fn closed_late(&self, owed: Owed) {
        self.late[owed as usize].inc();
    }
}

impl Connections {
    /// No connection yet; metrics go to `registry`.
    ///
    /// # Errors
    /// `InvalidInput` for settings out of their bounds, and when a name of a metric is taken.
    pub fn new(settings: ConnectionSettings, registry: &Registry) -> Result<Arc<Self>> {
        Self::of_protocol("http", settings, registry)
    }

    /// As [`Connections::new`], for servers whose connections are told apart in metrics by `protocol`, say `grpc`: those of a port that only other
    /// components call, with bounds of their own.
    ///
    /// # Errors
    /// As [`Connections::new`].
    pub fn of_protocol(
        protocol: &'static str,
        settings: ConnectionSettings,
        registry: &Registry,
    ) -> Result<Arc<Self>> {
        settings.validate()?;
        let bound = |max| InflightBound {
            max,
            hint: "(server.connections.max_long_urls_bytes)",
        };
        let of_all = settings.max_long_urls_bytes.as_u64();
        let connections = Arc::new(Self {
            max: settings.bound(),
            long_urls: Arc::new(Inflight::new(bound(0), bound(of_all))),
            settings,
            epoch: Instant::now(),
            open: Mutex::default(),
            next: AtomicU64::new(0),
            counts: Counts::new(registry)?,
        });
        let weak = Arc::downgrade(&connections);
        registry.collect(move |c| {
            let Some(connections) = weak.upgrade() else {
                return;
            };
            let labels = [("protocol", protocol)];
            let (open, max) = (connections.len() as f64, connections.max as f64);
            c.gauge("cortex_tcp_connections", "Connections open.", &labels, open);
            c.gauge(
                "cortex_tcp_connections_limit",
                "Connections that may be open.",
                &labels,
                max,
            );
        });
        Ok(connections)
    }

    /// Where one connection holds the first line of a request.
    pub(super) fn held_line(&self) -> HeldLine {
        let max_bytes = self.settings.max_url_bytes.as_usize();
        HeldLine::new(max_bytes, Arc::clone(&self.long_urls))
    }

    /// How long clients may take.
    pub(super) fn settings(&self) -> &ConnectionSettings {
        &self.settings
    }

    /// The time from which watches count.
    pub(super) fn epoch(&self) -> Instant {
        self.epoch
    }

    /// Connections that are open.
    pub fn len(&self) -> usize {
        self.open.lock().len()
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes a connection in; `None` when there is no room and nobody to make it.
    ///
    /// At the bound the one whose client has kept us waiting longest is asked to leave, those first that have not had one answer yet. A
    /// client that does its part at once is therefore always served, however many others dawdle, and one that has been served keeps its
    /// connection. Costs a walk over all connections then.
    pub(super) fn enter(self: &Arc<Self>, server: &'static str) -> Option<OpenConnection> {
        let watch = Arc::new(Watch::new(server, self.epoch));
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let mut open = self.open.lock();
        let is_full = open.len() >= self.max;
        if is_full && (open.len() >= self.max + LEAVING || !self.close_one(&open)) {
            self.counts.refused.inc();
            return None;
        }
        open.insert(id, Arc::clone(&watch));
        self.counts.accepted.inc();
        Some(OpenConnection {
            of: Arc::clone(self),
            id,
            watch,
        })
    }

    /// Asks a connection to leave that waits for its client; `false` when there is none.
    pub(super) fn make_room(&self) -> bool {
        self.close_one(&self.open.lock())
    }

    fn close_one(&self, open: &HashMap<u64, Arc<Watch>>) -> bool {
        let waiting = open.values().filter(|w| w.asked() != Asked::Leave);
        let waiting = waiting.filter_map(|w| Some(((w.is_served(), w.waiting_since_us()?), w)));
        let Some((_, longest)) = waiting.min_by_key(|(rank, _)| *rank) else {
            return false;
        };
        longest.ask(Asked::Leave);
        self.counts.crowded_out.inc();
        true
    }

    /// Asks all connections of a server to end after the request under way.
    pub(super) fn stop(&self, server: &'static str) {
        let open = self.open.lock();
        for watch in open.values().filter(|w| w.server == server) {
            watch.ask(Asked::Stop);
        }
    }
}

/// The place of one connection, given back when it is dropped.
#[derive(Debug)]
pub(super) struct OpenConnection {
    of: Arc<Connections>,
    id: u64,
    watch: Arc<Watch>,
}

impl OpenConnection {
    pub(super) fn connections(&self) -> &Arc<Connections> {
        &self.of
    }

    pub(super) fn watch(&self) -> &Arc<Watch> {
        &self.watch
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.of.open.lock().remove(&self.id);
    }
}
