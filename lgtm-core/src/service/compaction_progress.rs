//! How far a compactor is with each tenant, for pages and metrics.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::Result;
use crate::model::{TenantId, TimestampMs};
use crate::telemetry::Registry;

/// Where a compactor is with a tenant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TenantProgress {
    /// Blocks or tables that serve.
    pub serving: u64,
    /// Superseded ones that are deleted later.
    pub superseded: u64,
    /// Jobs that wait for their turn.
    pub waiting_jobs: u64,
    /// When the data of the longest waiting job ended: since then it could have been compacted, about. `None` when none waits.
    pub waiting_since: Option<TimestampMs>,
    /// When a round last went through. `None` before.
    pub last_success: Option<TimestampMs>,
    /// Why the last round did not go through.
    pub last_error: Option<String>,
}

/// How far a compactor is with each tenant. Memory goes by tenants.
#[derive(Debug, Default)]
pub struct CompactionProgress {
    tenants: Mutex<BTreeMap<TenantId, TenantProgress>>,
}

impl CompactionProgress {
    /// Notes how a tenant's round ended, with what `tell` has found.
    pub fn ended(
        &self,
        tenant: &TenantId,
        now: TimestampMs,
        round: &Result<()>,
        tell: impl FnOnce(&mut TenantProgress),
    ) {
        let mut tenants = self.tenants.lock();
        let progress = tenants.entry(tenant.clone()).or_default();
        tell(progress);
        match round {
            Ok(()) => {
                progress.last_success = Some(now);
                progress.last_error = None;
            }
            Err(e) => progress.last_error = Some(e.to_string()),
        }
    }

    /// Forgets all but these tenants.
    pub fn keep(&self, tenants: &[TenantId]) {
        let kept = |tenant: &TenantId| tenants.contains(tenant);
        self.tenants.lock().retain(|tenant, _| kept(tenant));
    }

    /// All tenants.
    pub fn tenants(&self) -> Vec<(TenantId, TenantProgress)> {
        let tenants = self.tenants.lock();
        let all = tenants.iter();
        all.map(|(t, p)| (t.clone(), p.clone())).collect()
    }

    /// Has `registry` tell it as `lgtm_SIGNAL_compactor_tenant_…`.
    pub fn register_metrics(self: &Arc<Self>, registry: &Registry, signal: &str) {
        let front = format!("lgtm_{signal}_compactor_tenant");
        registry.collect_from(self, move |progress, e| {
            for (tenant, p) in progress.tenants() {
                let tenant = [("tenant", tenant.as_str())];
                let seconds = |at: Option<TimestampMs>| at.map_or(0.0, |t| t.get() as f64 / 1000.0);
                for (name, help, value) in [
                    (
                        "waiting_jobs",
                        "Jobs that wait for their turn.",
                        p.waiting_jobs as f64,
                    ),
                    (
                        "waiting_since_timestamp_seconds",
                        "When the data of the longest waiting job ended; 0 when none waits.",
                        seconds(p.waiting_since),
                    ),
                    (
                        "last_success_timestamp_seconds",
                        "When the tenant's last round went through; 0 before.",
                        seconds(p.last_success),
                    ),
                ] {
                    e.gauge(&format!("{front}_{name}"), help, &tenant, value);
                }
            }
        });
    }

    /// As lines of text, one a tenant; times in seconds before `now`.
    pub fn render(&self, now: TimestampMs) -> String {
        let mut out = String::from(
            "tenant\tserving\tsuperseded\twaiting jobs\twaiting for s\tlast success s ago\tlast error\n",
        );
        let ago = |at: Option<TimestampMs>| match at {
            Some(at) => (now.get().saturating_sub(at.get()) / 1000).to_string(),
            None => "-".into(),
        };
        for (tenant, p) in self.tenants() {
            // A message is one line.
            let error = p
                .last_error
                .unwrap_or_else(|| "-".into())
                .replace(['\n', '\t'], " ");
            let _ = writeln!(
                out,
                "{tenant}\t{}\t{}\t{}\t{}\t{}\t{error}",
                p.serving,
                p.superseded,
                p.waiting_jobs,
                ago(p.waiting_since),
                ago(p.last_success),
            );
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;

    #[test]
    fn a_failed_round_keeps_the_time_of_the_last_good_one() {
        let progress = Arc::new(CompactionProgress::default());
        let registry = Registry::new();
        progress.register_metrics(&registry, "traces");
        let (a, b) = (TenantId::new("a").unwrap(), TenantId::new("b").unwrap());
        let ms = TimestampMs::new;
        progress.ended(&a, ms(10_000), &Ok(()), |p| p.serving = 3);
        let failed = Err(Error::Internal("no\nway".into()));
        progress.ended(&a, ms(20_000), &failed, |p| {
            p.waiting_jobs = 2;
            p.waiting_since = Some(ms(4_000));
        });
        progress.ended(&b, ms(20_000), &Ok(()), |_| {});
        let text = progress.render(ms(30_000));
        assert!(
            text.contains("a\t3\t0\t2\t26\t20\t") && text.contains("no way\n"),
            "{text}"
        );
        assert!(text.contains("b\t0\t0\t0\t-\t10\t-\n"), "{text}");
        let metrics = registry.encode();
        assert!(
            metrics.contains("lgtm_traces_compactor_tenant_waiting_jobs{tenant=\"a\"} 2"),
            "{metrics}"
        );
        progress.keep(&[b]);
        assert_eq!(progress.tenants().len(), 1);
    }
}
