//! Why one tenant cannot take all the others down.
//!
//! If every tenant used every instance, a tenant whose queries kill instances would kill all. With shuffle sharding each tenant uses a few, chosen
//! by its name: two tenants rarely share all of theirs. The choice moves by one instance when one comes or goes, and readers look back.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use lgtm_core::Result;
use lgtm_ring::instance::{Instance, RingDesc};
use lgtm_ring::ring::{Ring, RingSettings};
use lgtm_ring::token::{RandomTokens, TokenGenerator};

const NOW_S: i64 = 1_800_000_000;
const HOUR: Duration = Duration::from_secs(3600);

fn member(n: i64, registered_s: i64) -> Result<Instance> {
    Ok(Instance {
        id: format!("ingester-{n:02}"),
        timestamp_s: NOW_S,
        registered_timestamp_s: registered_s,
        tokens: RandomTokens::seeded(n)
            .generate(128, &HashSet::new())?
            .into(),
        ..Instance::default()
    })
}

fn names(ring: &Ring) -> BTreeSet<String> {
    ring.instances().map(|i| i.id.clone()).collect()
}

fn main() -> Result<()> {
    let mut desc = RingDesc::new();
    for n in 0..50 {
        desc.insert(member(n, NOW_S - 30 * 86_400)?);
    }
    let ring = Ring::new(RingSettings::default(), &desc);

    // Four of fifty for each tenant, the same in every process.
    let noisy = names(&ring.shuffle_shard("noisy", 4));
    assert_eq!(noisy.len(), 4);
    assert_eq!(noisy, names(&ring.shuffle_shard("noisy", 4)));

    // Of a thousand others, hardly anybody depends on the same instances: with replication factor 3, trouble begins with two shared ones.
    let mut sharing = [0; 5];
    for n in 0..1000 {
        let other = names(&ring.shuffle_shard(&format!("tenant-{n}"), 4));
        sharing[other.intersection(&noisy).count()] += 1;
    }
    assert!(
        sharing[0] > 600 && sharing[2] + sharing[3] + sharing[4] < 60,
        "{sharing:?}"
    );

    // Ten instances join. Each changes at most one member of a shard, and most change none.
    let before = names(&ring.shuffle_shard("noisy", 4));
    for n in 50..60 {
        desc.insert(member(n, NOW_S - 600)?);
    }
    let grown = ring.updated(&desc);
    let after = names(&grown.shuffle_shard("noisy", 4));

    // Whoever reads must also ask those who were in the shard an hour ago: they hold what was written then.
    let readers = grown.shuffle_shard_with_lookback("noisy", 4, HOUR, NOW_S);
    assert!(names(&readers).is_superset(&before));
    assert!(names(&readers).is_superset(&after));

    // A read-only instance gets no new data and is asked for the old.
    let retiring = before.first().expect("the shard has four members");
    if let Some(instance) = desc.get_mut(retiring) {
        instance.read_only = true;
        instance.read_only_updated_timestamp_s = NOW_S - 60;
    }
    let ring = grown.updated(&desc);
    assert!(!names(&ring.shuffle_shard("noisy", 4)).contains(retiring));
    let readers = ring.shuffle_shard_with_lookback("noisy", 4, HOUR, NOW_S);
    assert!(names(&readers).contains(retiring));
    Ok(())
}
