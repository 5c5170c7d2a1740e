//! What is said of a ring, under the field's names.

use std::collections::BTreeMap;
use std::sync::Arc;

use lgtm_core::clock::Clock;
use lgtm_core::telemetry::{Collection, Registry};

use crate::instance::{Instance, InstanceState};
use crate::ring::Ring;
use crate::watch::RingHandle;

/// Zones shown; further ones are left out.
const MAX_ZONES: usize = 32;
/// The state of an instance whose heartbeat is old, as dashboards know it.
const UNHEALTHY: &str = "Unhealthy";

/// Has the registry ask `handle` at each scrape. `prefix` is the product's, e.g. `cortex_`.
pub(super) fn register(
    registry: &Registry,
    prefix: &str,
    name: &str,
    handle: RingHandle,
    clock: Arc<dyn Clock>,
) {
    let (prefix, name) = (prefix.to_owned(), name.to_owned());
    registry.collect(move |out| {
        let now_s = clock.now_ms().to_seconds();
        collect(out, &prefix, &name, &handle.current(), now_s);
    });
}

fn collect(out: &mut Collection, prefix: &str, name: &str, ring: &Ring, now_s: i64) {
    let timeout_s = ring.settings().heartbeat_timeout.as_secs() as i64;
    let state_of = |i: &Instance, heartbeat_s: i64| {
        if now_s.saturating_sub(heartbeat_s) <= timeout_s {
            i.state.as_str()
        } else {
            UNHEALTHY
        }
    };
    let states = [
        InstanceState::Active.as_str(),
        InstanceState::Leaving.as_str(),
        InstanceState::Pending.as_str(),
        InstanceState::Joining.as_str(),
        UNHEALTHY,
    ];
    // State: members and the oldest heartbeat.
    let mut members: BTreeMap<&str, (u32, i64)> = states.map(|s| (s, (0, 0))).into();
    let mut zones: BTreeMap<(&str, &str), u32> = BTreeMap::new();
    for zone in ring.zones().take(MAX_ZONES) {
        zones.extend(states.map(|state| ((zone, state), 0)));
    }
    for (instance, heartbeat_s) in ring.heartbeats() {
        let state = state_of(instance, heartbeat_s);
        if let Some((count, oldest)) = members.get_mut(state) {
            *count += 1;
            *oldest = match *oldest {
                0 => instance.timestamp_s,
                oldest => oldest.min(instance.timestamp_s),
            };
        }
        if let Some(count) = zones.get_mut(&(instance.zone.as_str(), state)) {
            *count += 1;
        }
    }
    for (state, (count, oldest)) in members {
        let labels = [("name", name), ("state", state)];
        let metric = format!("{prefix}ring_members");
        out.gauge(&metric, "Members of the ring.", &labels, count.into());
        let metric = format!("{prefix}ring_oldest_member_timestamp");
        let help = "The oldest heartbeat, Unix seconds.";
        out.gauge(&metric, help, &labels, oldest as f64);
    }
    for ((zone, state), count) in zones {
        let labels = [("name", name), ("zone", zone), ("state", state)];
        let metric = format!("{prefix}ring_zone_members");
        out.gauge(
            &metric,
            "Members of the ring by zone.",
            &labels,
            count.into(),
        );
    }
    let metric = format!("{prefix}ring_tokens_total");
    let tokens = ring.token_count() as f64;
    out.gauge(&metric, "Tokens in the ring.", &[("name", name)], tokens);
}
