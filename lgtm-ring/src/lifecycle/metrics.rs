//! What a lifecycler counts, under the field's names.

use std::sync::Arc;
use std::time::Duration;

use lgtm_core::Result;
use lgtm_core::telemetry::{Counter, Family, Gauge, Histogram, Registry};

use crate::lifecycle::{LifecyclerSettings, Membership};

/// Seconds that a shutdown's parts take.
const SHUTDOWN_BOUNDS: [f64; 7] = [0.1, 1.0, 10.0, 30.0, 60.0, 300.0, 1800.0];

#[derive(Debug)]
pub(super) struct LifecyclerMetrics {
    tokens_owned: Arc<Gauge>,
    tokens_to_own: Arc<Gauge>,
    read_only: Arc<Gauge>,
    pub(super) heartbeats: Arc<Counter>,
    pub(super) failures: Arc<Counter>,
    pub(super) forgotten: Arc<Counter>,
    pub(super) id_conflicts: Arc<Counter>,
    pub(super) bad_tokens_files: Arc<Counter>,
    shutdown: Arc<Family<Histogram, 3>>,
    name: String,
}

impl LifecyclerMetrics {
    /// `prefix` is that of the product, e.g. `cortex_`; `name` is the ring's.
    pub(super) fn register(registry: &Registry, prefix: &str, name: &str) -> Result<Self> {
        let gauge = |metric: &str, help: &str| -> Result<Arc<Gauge>> {
            let family = registry.gauge_vec(&format!("{prefix}{metric}"), help, &["name"])?;
            Ok(family.with(&[name]))
        };
        let counter = |metric: &str, help: &str| -> Result<Arc<Counter>> {
            let family = registry.counter_vec(&format!("{prefix}{metric}"), help, &["name"])?;
            Ok(family.with(&[name]))
        };
        Ok(Self {
            tokens_owned: gauge("member_ring_tokens_owned", "Tokens owned in the ring.")?,
            tokens_to_own: gauge("member_ring_tokens_to_own", "Tokens to own in the ring.")?,
            read_only: gauge("lifecycler_read_only", "Whether the instance is read-only.")?,
            heartbeats: counter("ring_member_heartbeats_total", "Heartbeats written.")?,
            failures: counter(
                "ring_member_step_failures_total",
                "Changes of the own record that did not get into the ring.",
            )?,
            forgotten: counter(
                "ring_members_forgotten_total",
                "Instances removed from the ring since they were long dead.",
            )?,
            id_conflicts: counter(
                "ring_member_id_conflicts_total",
                "Steps that found the own record written by another live process.",
            )?,
            bad_tokens_files: counter(
                "ring_member_bad_tokens_files_total",
                "Tokens files that could not be read and were ignored.",
            )?,
            shutdown: registry.histogram_vec(
                &format!("{prefix}shutdown_duration_seconds"),
                "Duration of the parts of a shutdown.",
                &["name", "op", "status"],
                &SHUTDOWN_BOUNDS,
            )?,
            name: name.to_owned(),
        })
    }

    pub(super) fn show(&self, me: &Membership, settings: &LifecyclerSettings) {
        self.tokens_owned.set(me.tokens.len() as f64);
        self.tokens_to_own.set(settings.num_tokens as f64);
        self.read_only.set(f64::from(u8::from(me.read_only)));
    }

    pub(super) fn shutdown_part(&self, op: &str, took: Duration, outcome: &Result<()>) {
        let status = if outcome.is_ok() { "success" } else { "fail" };
        let histogram = self.shutdown.with(&[&self.name, op, status]);
        histogram.observe_duration(took);
    }
}
