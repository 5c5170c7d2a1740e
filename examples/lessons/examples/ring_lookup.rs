//! Who owns a key, and what happens when somebody is missing.
//!
//! A ring is a circle of 2^32 points. Each instance holds some of them, its tokens; a key belongs to the first token after its hash, and its
//! replicas to the next instances in other zones. Nobody assigns keys: whoever knows the ring computes the same.

use std::collections::HashSet;

use lgtm_core::Result;
use lgtm_ring::hash::series_token;
use lgtm_ring::instance::{Instance, InstanceState, RingDesc};
use lgtm_ring::ring::{LookupBuffer, Operation, Ring, RingSettings};
use lgtm_ring::token::{RandomTokens, Token, TokenGenerator};

const NOW_S: i64 = 1_800_000_000;

fn main() -> Result<()> {
    // Six ingesters in three zones. In a cluster, a lifecycler writes such a record for its own instance.
    let mut desc = RingDesc::new();
    for n in 0..6 {
        let tokens = RandomTokens::seeded(n).generate(128, &HashSet::new())?;
        desc.insert(Instance {
            id: format!("ingester-{n}"),
            addr: format!("10.0.0.{n}:9095"),
            zone: ["zone-a", "zone-b", "zone-c"][n as usize % 3].into(),
            state: InstanceState::Active,
            timestamp_s: NOW_S,
            tokens: tokens.into(),
            ..Instance::default()
        });
    }
    let settings = RingSettings {
        zone_awareness_enabled: true,
        ..RingSettings::default()
    };
    let ring = Ring::new(settings, &desc);

    // A series hashes to a token: tenant, then its labels in order.
    let key = series_token("tenant-1", [("__name__", "up"), ("job", "api")]);

    // Three replicas, one in each zone; two must answer.
    let replicas = ring.get(key, Operation::WRITE, NOW_S)?;
    assert_eq!(replicas.zones(), ["zone-a", "zone-b", "zone-c"]);
    assert_eq!((replicas.min_success(), replicas.max_errors), (2, 1));

    // The first of them misses its heartbeats: it is left out, and now both others must answer.
    let first = replicas.instances[0].id.clone();
    let mut silent = desc.clone();
    if let Some(instance) = silent.get_mut(&first) {
        instance.timestamp_s -= 300;
    }
    let ring = ring.updated(&silent);
    let fewer = ring.get(key, Operation::WRITE, NOW_S)?;
    assert_eq!((fewer.instances.len(), fewer.max_errors), (2, 0));

    // It says that it is leaving: now the next one of its zone takes the writes, before it is gone.
    let mut leaving = desc.clone();
    if let Some(instance) = leaving.get_mut(&first) {
        instance.state = InstanceState::Leaving;
    }
    let ring = ring.updated(&leaving);
    let replaced = ring.get(key, Operation::WRITE, NOW_S)?;
    assert_eq!(replaced.instances.len(), 3);
    assert!(replaced.instances.iter().all(|i| i.id != first));
    // Reads still ask it, since it has the data.
    let readers = ring.get(key, Operation::READ, NOW_S)?;
    assert!(readers.instances.iter().any(|i| i.id == first));

    // On a hot path, keep a buffer: then a lookup allocates nothing.
    let mut buffer = LookupBuffer::default();
    let mut load = std::collections::BTreeMap::new();
    for n in 0..60_000u32 {
        let key = Token(n.wrapping_mul(2_654_435_761));
        let replicas = ring.lookup(key, Operation::READ, NOW_S, &mut buffer)?;
        for instance in replicas.iter() {
            *load.entry(instance.id.as_str()).or_insert(0u32) += 1;
        }
    }
    // Each zone has all keys; within it, each of two instances about half of them.
    assert_eq!(load.values().sum::<u32>(), 180_000);
    assert!(
        load.values().all(|n| (20_000..40_000).contains(n)),
        "{load:?}"
    );
    Ok(())
}
