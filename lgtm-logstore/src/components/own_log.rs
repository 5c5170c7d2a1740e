//! Stores a process' own log lines, so that there is something to query from the first minute.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lgtm_core::clock::Clock;
use lgtm_core::codec::Allowance;
use lgtm_core::exec::CancelToken;
use lgtm_core::model::{Labels, TenantId, TimestampNs};
use lgtm_core::service::Service;
use lgtm_core::telemetry::Registry;
use lgtm_core::{Error, Result};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Distributor;
use crate::wire::{LogEntry, decode_entries};

/// Bytes of lines that wait to be stored; beyond them lines are dropped. A process that says so much in a second says nothing.
const MAX_WAITING_BYTES: usize = 1 << 20;
/// Bytes of one line; what is longer is cut.
const MAX_LINE_BYTES: usize = 16 << 10;
/// What a line counts beside its bytes.
const LINE_BYTES: usize = 64;
/// How often lines are stored.
const INTERVAL: Duration = Duration::from_secs(1);
/// Where those speak who store lines: were they stored too, each would cause the next.
const OWN_TARGETS: [&str; 3] = ["lgtm_logstore", "lgtm_core::wal", "lgtm_core::storage"];

#[derive(Debug, Default)]
struct Waiting {
    lines: VecDeque<LogEntry>,
    bytes: usize,
    last_ns: TimestampNs,
    dropped: u64,
}

/// Lines that a process has said and that are not stored yet. Taking one costs a short lock and a copy; it never waits.
#[derive(Debug)]
pub struct OwnLines {
    clock: Arc<dyn Clock>,
    waiting: Mutex<Waiting>,
    came: Notify,
}

impl OwnLines {
    /// Nothing was said yet.
    pub fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            clock,
            waiting: Mutex::default(),
            came: Notify::new(),
        })
    }

    /// Whether lines of a target (the module that says them) may be taken: not those of the log store itself, which would say more for each.
    pub fn takes(target: &str) -> bool {
        !OWN_TARGETS.iter().any(|own| target.starts_with(own))
    }

    /// Takes a line, with or without its end; drops it when too many wait.
    pub fn push(&self, line: &[u8]) {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = &line[..line.len().min(MAX_LINE_BYTES)];
        let now_ns = self.clock.now_ms().saturating_mul(1_000_000);
        let mut waiting = self.waiting.lock();
        let bytes = LINE_BYTES + line.len();
        if waiting.bytes + bytes > MAX_WAITING_BYTES {
            waiting.dropped += 1;
            return;
        }
        // Lines of one millisecond stay in their order.
        let t_ns = now_ns.max(waiting.last_ns + 1);
        waiting.last_ns = t_ns;
        waiting.bytes += bytes;
        waiting.lines.push_back(LogEntry::new(t_ns, line));
        drop(waiting);
        self.came.notify_one();
    }

    /// Lines that were dropped so far.
    pub fn dropped(&self) -> u64 {
        self.waiting.lock().dropped
    }

    fn take(&self) -> Vec<LogEntry> {
        let mut waiting = self.waiting.lock();
        waiting.bytes = 0;
        std::mem::take(&mut waiting.lines).into()
    }

    /// Puts lines back that could not be stored yet, as far as there is room beside those that came since.
    fn give_back(&self, lines: Vec<LogEntry>) {
        let mut waiting = self.waiting.lock();
        for line in lines.into_iter().rev() {
            let bytes = LINE_BYTES + line.line.len();
            if waiting.bytes + bytes > MAX_WAITING_BYTES {
                waiting.dropped += 1;
                continue;
            }
            waiting.bytes += bytes;
            waiting.lines.push_front(line);
        }
        drop(waiting);
        self.came.notify_one();
    }
}

/// Puts the lines of a process into its log store, about once a second.
#[derive(Debug)]
pub struct OwnLog {
    lines: Arc<OwnLines>,
    distributor: Arc<Distributor>,
    tenant: TenantId,
    labels: Labels,
    after: Vec<String>,
}

impl OwnLog {
    /// Stores `lines` by `distributor`, as a stream of `tenant` with the labels `job="lgtm"` and `instance`.
    ///
    /// # Errors
    /// `InvalidInput` for an instance that no label can be.
    pub fn new(
        lines: Arc<OwnLines>,
        distributor: Arc<Distributor>,
        tenant: TenantId,
        instance: &str,
    ) -> Result<Self> {
        Ok(Self {
            lines,
            distributor,
            tenant,
            labels: Labels::from_pairs([("instance", instance), ("job", "lgtm")])?,
            after: Vec::new(),
        })
    }

    /// Names services that must run before it starts: those behind the distributor.
    #[must_use]
    pub fn after(mut self, services: &[&str]) -> Self {
        self.after = services.iter().map(|s| (*s).to_owned()).collect();
        self
    }

    /// Has `registry` tell what was dropped.
    #[must_use]
    pub fn metrics(self, registry: &Registry) -> Self {
        registry.collect_from(&self.lines, |lines, e| {
            let help = "Log lines of the process itself that were not stored, as too many waited.";
            let dropped = lines.dropped() as f64;
            e.counter("lgtm_own_log_lines_dropped_total", help, &[], dropped);
        });
        self
    }

    /// Stores what was said so far.
    ///
    /// # Errors
    /// Those of the push; what may be stored later waits on, the rest is lost.
    pub async fn write(&self) -> Result<()> {
        let entries = self.lines.take();
        if entries.is_empty() {
            return Ok(());
        }
        let streams = [(self.labels.clone(), entries)];
        let stored = self.push(&streams).await;
        let [(_, entries)] = streams;
        if stored.as_ref().is_err_and(|e| e.kind().is_retryable()) {
            self.lines.give_back(entries);
        }
        stored
    }

    async fn push(&self, streams: &[(Labels, Vec<LogEntry>)]) -> Result<()> {
        let d = &self.distributor;
        let limits = d.limits(&self.tenant);
        let mut batch = d.batch(d.inflight().ticket());
        {
            let (batch, mut room) = batch.parts();
            let mut grow = |bytes| room.as_mut().map_or(Ok(()), |room| room.add(bytes));
            let mut allowance = Allowance::new(0, &mut grow);
            decode_entries(batch, &limits.push_options(), &mut allowance, streams)?;
        }
        let report = d.push(&self.tenant, batch).await?;
        match report.refusal(self.tenant.as_str()) {
            Some(refusal) => Err(Error::InvalidInput(refusal.message)),
            None => Ok(()),
        }
    }
}

#[async_trait]
impl Service for OwnLog {
    fn name(&self) -> &str {
        "own-log"
    }

    fn depends_on(&self) -> Vec<String> {
        self.after.clone()
    }

    async fn run(&self, stop: CancelToken) -> Result<()> {
        let mut is_failing = false;
        while !stop.is_cancelled() {
            tokio::select! {
                () = self.lines.came.notified() => {}
                () = stop.cancelled() => {}
            }
            let stored = self.write().await;
            // Said once, and not stored. What is not there yet, as while the log is read back, is asked again.
            let is_lost = matches!(&stored, Err(e) if !e.kind().is_retryable());
            if let Err(error) = &stored
                && is_lost
                && !is_failing
            {
                tracing::warn!(%error, "own log lines cannot be stored");
            }
            is_failing = is_lost;
            tokio::select! {
                () = tokio::time::sleep(INTERVAL) => {}
                () = stop.cancelled() => {}
            }
        }
        // What was said on the way out.
        let _ = self.write().await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use lgtm_core::clock::ManualClock;

    use super::*;

    #[test]
    fn lines_wait_in_order_and_within_bounds() {
        let lines = OwnLines::new(Arc::new(ManualClock::at_ms(1000)));
        lines.push(b"a\n");
        lines.push(b"b");
        lines.push(&vec![b'x'; 1 << 20]);
        let taken = lines.take();
        let times: Vec<TimestampNs> = taken.iter().map(|e| e.t_ns).collect();
        assert_eq!(times, [1_000_000_000, 1_000_000_001, 1_000_000_002]);
        assert_eq!((&*taken[0].line, &*taken[1].line), (&b"a"[..], &b"b"[..]));
        assert_eq!(taken[2].line.len(), MAX_LINE_BYTES);
        for _ in 0..100 {
            lines.push(&[b'x'; MAX_LINE_BYTES]);
        }
        assert_eq!(lines.dropped(), 100 - 63);
        assert_eq!(lines.take().len(), 63);
        assert!(lines.take().is_empty());
        lines.push(b"later");
        lines.give_back(taken);
        let again = lines.take();
        assert_eq!(
            (again.len(), &*again[0].line, &*again[3].line),
            (4, &b"a"[..], &b"later"[..])
        );
    }

    #[test]
    fn who_stores_lines_is_not_heard() {
        assert!(OwnLines::takes("lgtm::host") && OwnLines::takes("lgtm_tsdb::head"));
        for target in ["lgtm_logstore::head::flush", "lgtm_core::wal::log"] {
            assert!(!OwnLines::takes(target));
        }
    }
}
