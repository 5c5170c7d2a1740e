//! A ring as serializable data.

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use serde::Serialize;

use crate::instance::Instance;
use crate::ring::Ring;
use crate::token::Token;

/// The state of an instance whose heartbeat is old. Never stored.
const UNHEALTHY: &str = "UNHEALTHY";
/// The last second that RFC 3339 can write.
const LAST_SECOND: i64 = 253_402_300_799;

/// A ring at one moment, instances by id.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RingStatus {
    /// The instances.
    pub shards: Vec<InstanceStatus>,
    /// The moment, RFC 3339.
    pub now: String,
}

/// One line of the page.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct InstanceStatus {
    /// The instance's name.
    pub id: String,
    /// Its state, or `UNHEALTHY` when its heartbeat is old.
    pub state: &'static str,
    /// `host:port` that others dial.
    pub address: String,
    /// The last heartbeat, RFC 3339.
    pub timestamp: String,
    /// When it entered the ring, RFC 3339; empty when unknown.
    pub registered_timestamp: String,
    /// Whether it is left out of shards that are written to.
    pub read_only: bool,
    /// The last change of that, RFC 3339; empty for never.
    pub read_only_updated_timestamp: String,
    /// Its zone.
    pub zone: String,
    /// Its tokens, ascending.
    pub tokens: Vec<Token>,
    /// Versions by component.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub versions: BTreeMap<u64, u64>,
    /// The share of all keys that it owns in its zone, 0 to 1.
    pub ownership: f64,
    /// Seconds since the last heartbeat; of one from the future since it was heard.
    pub heartbeat_age_seconds: i64,
}

impl RingStatus {
    /// The status of a view at `now_s`, Unix seconds. Costs a pass over all tokens.
    pub fn of(ring: &Ring, now_s: i64) -> Self {
        let owned = ring.owned_keys();
        let timeout_s = i64::try_from(ring.settings().heartbeat_timeout.as_secs());
        let timeout_s = timeout_s.unwrap_or(i64::MAX);
        let line = |(instance, heartbeat_s): (&std::sync::Arc<Instance>, i64)| {
            let keys = owned.get(instance.id.as_str()).copied().unwrap_or(0);
            let ownership = keys as f64 / (1u64 << 32) as f64;
            let age_s = now_s.saturating_sub(heartbeat_s);
            InstanceStatus::of(instance, ownership, age_s, age_s <= timeout_s)
        };
        Self {
            shards: ring.heartbeats().map(line).collect(),
            now: rfc3339(now_s),
        }
    }
}

impl InstanceStatus {
    fn of(instance: &Instance, ownership: f64, age_s: i64, is_alive: bool) -> Self {
        let known = |time_s: i64| match time_s {
            0 => String::new(),
            time_s => rfc3339(time_s),
        };
        Self {
            id: instance.id.clone(),
            state: if is_alive {
                instance.state.as_str()
            } else {
                UNHEALTHY
            },
            address: instance.addr.clone(),
            timestamp: rfc3339(instance.timestamp_s),
            registered_timestamp: known(instance.registered_timestamp_s),
            read_only: instance.read_only,
            read_only_updated_timestamp: known(instance.read_only_updated_timestamp_s),
            zone: instance.zone.clone(),
            tokens: instance.tokens.to_vec(),
            versions: instance.versions.clone(),
            ownership,
            heartbeat_age_seconds: age_s.max(0),
        }
    }
}

fn rfc3339(time_s: i64) -> String {
    let since_epoch = Duration::from_secs(time_s.clamp(0, LAST_SECOND) as u64);
    humantime::format_rfc3339_seconds(UNIX_EPOCH + since_epoch).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instance::InstanceState;
    use crate::ring::RingSettings;

    fn ring() -> Ring {
        let instance = |id: &str, token, timestamp_s| Instance {
            id: id.into(),
            addr: format!("{id}:9095"),
            state: InstanceState::Joining,
            timestamp_s,
            tokens: [Token(token)].into(),
            ..Instance::default()
        };
        let instances = [
            instance("b<script>", 1 << 30, 1_800_000_000),
            instance("a", 0, 1_799_990_000),
        ];
        Ring::new(RingSettings::default(), &instances.into_iter().collect())
    }

    #[test]
    fn the_json_is_that_of_the_peers_with_ownership_added() {
        let status = RingStatus::of(&ring(), 1_800_000_007);
        let json = serde_json::to_value(&status).unwrap();
        assert_eq!(json["now"], "2027-01-15T08:00:07Z");
        let (a, b) = (&json["shards"][0], &json["shards"][1]);
        assert_eq!((&a["id"], &a["state"]), (&"a".into(), &"UNHEALTHY".into()));
        assert_eq!(
            (&b["state"], &b["heartbeat_age_seconds"]),
            (&"JOINING".into(), &7.into())
        );
        assert_eq!(
            (&b["tokens"], &b["ownership"]),
            (&vec![1u32 << 30].into(), &0.25.into())
        );
        assert_eq!(b["timestamp"], "2027-01-15T08:00:00Z");
        assert_eq!(b["registered_timestamp"], "");
        assert!(b.get("versions").is_none());
    }

    #[test]
    fn the_page_shows_every_instance_and_escapes_names() {
        let html = RingStatus::of(&ring(), 1_800_000_007).to_html("ingester", true);
        assert!(html.contains("b&lt;script&gt;") && !html.contains("b<script>"));
        assert!(
            html.contains("25.0%") && html.contains("UNHEALTHY") && html.contains("1073741824")
        );
        assert!(html.contains("name=\"forget\" value=\"a\""));
        // A ring of a process that is alone has a heartbeat from the end of time.
        let html = RingStatus::of(&Ring::standalone("x"), 0).to_html("x", false);
        assert!(html.contains("ACTIVE") && html.contains("100.0%"));
    }
}
