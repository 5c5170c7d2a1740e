use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use lgtm_core::ErrorKind;
use lgtm_core::units::ByteSize;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::instance::{Instance, InstanceState, RingDesc};
use crate::ring::{LookupBuffer, Operation, ReplicationStrategy, Ring, RingSettings};
use crate::testing::quorums_meet;
use crate::token::{RandomTokens, Token, TokenGenerator};

const NOW_S: i64 = 1_800_000_000;

fn settings(zone_awareness_enabled: bool) -> RingSettings {
    RingSettings {
        zone_awareness_enabled,
        ..RingSettings::default()
    }
}

fn instance(number: usize, zones: usize, tokens: usize) -> Instance {
    let mut generator = RandomTokens::seeded(number as i64 + 1);
    Instance {
        id: format!("i{number:04}"),
        addr: format!("10.0.0.{number}:9095"),
        zone: match zones {
            0 => String::new(),
            zones => format!("z{}", number % zones),
        },
        timestamp_s: NOW_S,
        registered_timestamp_s: NOW_S - 86_400,
        tokens: generator.generate(tokens, &HashSet::new()).unwrap().into(),
        ..Instance::default()
    }
}

fn desc(count: usize, zones: usize) -> RingDesc {
    (0..count).map(|n| instance(n, zones, 32)).collect()
}

/// A ring as a watcher has it that heard of all of it at `NOW_S`.
fn followed(settings: RingSettings, desc: &RingDesc) -> Ring {
    Ring::new(settings, &RingDesc::new()).updated_at(desc, NOW_S)
}

#[test]
fn a_ring_goes_on_as_it_was_while_nobody_is_heard_of() {
    let mut desc = desc(5, 0);
    desc.get_mut("i0004").unwrap().timestamp_s = NOW_S - 61;
    let ring = followed(settings(false), &desc);
    for after in [0, 60, 61, 3600] {
        // The same value again is no news.
        let ring = ring.updated_at(&desc, NOW_S + after);
        let healthy = ring.count_healthy(Operation::WRITE, NOW_S + after);
        assert_eq!(healthy, 4, "after {after} s; the sick one stays sick");
        ring.get(Token(1), Operation::WRITE, NOW_S + after).unwrap();
        ring.replication_set(Operation::READ, NOW_S + after)
            .unwrap();
    }
    let strict = RingSettings {
        serve_while_silent: false,
        ..settings(false)
    };
    let ring = followed(strict, &desc);
    let error = ring.get(Token(1), Operation::WRITE, NOW_S + 61);
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[test]
fn a_silence_begins_with_nobody_too_old_although_they_did_not_write_at_once() {
    let mut desc = desc(3, 0);
    // Heartbeats every 15 s, the last one now; then the store is away for less than the timeout, or for long.
    for (n, ago) in [(0, 14), (1, 7), (2, 0)] {
        desc.get_mut(&format!("i{n:04}")).unwrap().timestamp_s = NOW_S - ago;
    }
    let ring = followed(settings(false), &desc);
    for after in 0..200 {
        let ring = ring.updated_at(&desc, NOW_S + after);
        let healthy = ring.count_healthy(Operation::WRITE, NOW_S + after);
        assert_eq!(healthy, 3, "after {after} s");
    }
    for back in [45, 50, 59, 60, 61, 75] {
        let mut desc = desc.clone();
        desc.get_mut("i0002").unwrap().timestamp_s = NOW_S + back;
        let ring = ring.updated_at(&desc, NOW_S + back);
        for after in back..back + 15 {
            let healthy = ring.count_healthy(Operation::WRITE, NOW_S + after);
            assert_eq!(healthy, 3, "after {after} s, the first is back at {back} s");
        }
    }
}

#[test]
fn after_a_silence_those_who_were_healthy_have_time_to_be_heard() {
    let mut desc = desc(5, 0);
    desc.get_mut("i0004").unwrap().timestamp_s = NOW_S - 61;
    let healthy_at = |ring: &Ring, s: i64| ring.count_healthy(Operation::WRITE, NOW_S + s);
    let mut ring = followed(settings(false), &desc);
    // The first to write after an hour, and half a minute later another.
    for (id, at) in [("i0000", 3600), ("i0001", 3630)] {
        desc.get_mut(id).unwrap().timestamp_s = NOW_S + at;
        ring = ring.updated_at(&desc, NOW_S + at);
        assert_eq!(healthy_at(&ring, at), 4);
    }
    assert_eq!(healthy_at(&ring, 3660), 4);
    assert_eq!(
        healthy_at(&ring, 3661),
        1,
        "the second alone was heard of lately"
    );
}

#[test]
fn one_who_is_silent_among_others_is_sick() {
    let mut desc = desc(5, 0);
    let mut ring = followed(settings(false), &desc);
    for at in (10..=60).step_by(10) {
        // The clock of one runs ten minutes ahead.
        desc.get_mut("i0000").unwrap().timestamp_s = NOW_S + at + 600;
        desc.get_mut("i0001").unwrap().timestamp_s = NOW_S + at;
        ring = ring.updated_at(&desc, NOW_S + at);
    }
    assert_eq!(ring.count_healthy(Operation::WRITE, NOW_S + 60), 5);
    assert_eq!(ring.count_healthy(Operation::WRITE, NOW_S + 61), 2);
}

#[test]
fn a_heartbeat_from_the_future_ages_from_when_it_was_heard() {
    let mut desc = desc(3, 0);
    let ahead_s = 10 * 365 * 86_400;
    let beat = |desc: &mut RingDesc, at| {
        for id in ["i0001", "i0002"] {
            desc.get_mut(id).unwrap().timestamp_s = NOW_S + at;
        }
    };
    desc.get_mut("i0000").unwrap().timestamp_s = NOW_S + ahead_s;
    let mut ring = followed(settings(false), &desc);
    for at in (10..=60).step_by(10) {
        beat(&mut desc, at);
        ring = ring.updated_at(&desc, NOW_S + at);
    }
    assert_eq!(ring.count_healthy(Operation::WRITE, NOW_S + 60), 3);
    assert_eq!(ring.count_healthy(Operation::WRITE, NOW_S + 61), 2);
    // It beats again, ten years ahead as before.
    desc.get_mut("i0000").unwrap().timestamp_s = NOW_S + ahead_s + 70;
    beat(&mut desc, 70);
    ring = ring.updated_at(&desc, NOW_S + 70);
    assert_eq!(ring.count_healthy(Operation::WRITE, NOW_S + 130), 3);
    // Its clock is set right: an earlier heartbeat, and a newer one.
    let own = desc.get_mut("i0000").unwrap();
    let healed = own.stamp().next(NOW_S + 80);
    (own.clock_epoch, own.timestamp_s) = (healed.clock_epoch, healed.timestamp_s);
    beat(&mut desc, 80);
    ring = ring.updated_at(&desc, NOW_S + 80);
    assert_eq!(ring.count_healthy(Operation::WRITE, NOW_S + 140), 3);
    let seen: Vec<_> = ring.heartbeats().map(|(_, at_s)| at_s - NOW_S).collect();
    assert_eq!(seen, [80, 80, 80]);
}

/// What a quorum wrote while all zones were there, a read of everything sees after a zone was removed or excluded, or it says that it cannot.
#[test]
fn a_read_of_everything_meets_the_writes_of_before_a_zone_was_removed() {
    for (replicas, zones) in [(3, 3), (2, 2), (3, 2), (5, 5), (3, 4), (5, 3), (1, 2)] {
        let settings = RingSettings {
            replication_factor: replicas,
            ..settings(true)
        };
        let before = desc(zones * 3, zones);
        let ring = Ring::new(settings.clone(), &before);
        let keys = (0..300u32).map(|k| Token(k.wrapping_mul(0x9e37_79b9)));
        let writes: Vec<_> = keys
            .filter_map(|key| ring.get(key, Operation::WRITE_NO_EXTEND, NOW_S).ok())
            .collect();
        assert_eq!(writes.len(), 300);
        // That one of more zones than replicas was removed nobody can see.
        let most = if zones > replicas { 0 } else { zones };
        for gone in 0..=most {
            let is_gone = |i: &Instance| (0..gone).any(|n| i.zone == format!("z{n}"));
            let mut left = before.clone();
            left.retain(|i| !is_gone(i));
            let excluding = RingSettings {
                excluded_zones: (0..gone).map(|n| format!("z{n}")).collect(),
                ..settings.clone()
            };
            for ring in [
                Ring::new(settings.clone(), &left),
                Ring::new(excluding, &before),
            ] {
                let what = format!("{gone} of {zones} zones gone, {replicas} replicas");
                let read = ring.replication_set(Operation::READ, NOW_S);
                // As many as a quorum can do without may go.
                let spare = (replicas / 2).saturating_sub(replicas.saturating_sub(zones));
                assert_eq!(read.is_ok(), gone <= spare, "{what}");
                if let Ok(read) = read {
                    for write in &writes {
                        quorums_meet(write, &read).unwrap_or_else(|e| panic!("{what}: {e}"));
                    }
                }
            }
        }
    }
}

#[test]
fn where_some_have_no_zone_a_read_of_everything_lets_none_of_them_fail() {
    let mut desc = desc(9, 3);
    for id in ["i0002", "i0005", "i0008"] {
        desc.get_mut(id).unwrap().zone.clear();
    }
    let ring = Ring::new(settings(true), &desc);
    let read = ring.replication_set(Operation::READ, NOW_S).unwrap();
    assert_eq!((read.instances.len(), read.max_unavailable_zones), (9, 0));
    for key in (0..300u32).map(|k| Token(k.wrapping_mul(0x9e37_79b9))) {
        let write = ring.get(key, Operation::WRITE, NOW_S).unwrap();
        quorums_meet(&write, &read).unwrap();
    }
    // A zone may be lost, those without one not.
    let silent = |id: &str| {
        let mut desc = desc.clone();
        desc.get_mut(id).unwrap().timestamp_s -= 300;
        Ring::new(settings(true), &desc).replication_set(Operation::READ, NOW_S)
    };
    assert_eq!(silent("i0000").unwrap().instances.len(), 6);
    assert!(silent("i0002").is_err());
}

#[test]
fn a_whole_zone_that_leaves_stops_no_write_without_extension() {
    let mut desc = desc(9, 3);
    for n in [0, 3, 6] {
        let zone_0 = desc.get_mut(&format!("i000{n}")).unwrap();
        zone_0.state = InstanceState::Leaving;
    }
    let ring = Ring::new(settings(true), &desc);
    let mut refused = 0;
    for key in (0..1000u32).map(|k| Token(k.wrapping_mul(0x9e37_79b9))) {
        let write = ring.get(key, Operation::WRITE_NO_EXTEND, NOW_S).unwrap();
        let read = ring.get(key, Operation::READ, NOW_S).unwrap();
        quorums_meet(&write, &read).unwrap();
        refused += usize::from(ring.get(key, Operation::WRITE, NOW_S).is_err());
    }
    // As the documentation of `WRITE` says.
    assert_eq!(refused, 1000);
}

fn ids(ring: &Ring) -> BTreeSet<String> {
    ring.instances().map(|i| i.id.clone()).collect()
}

/// The rules of a lookup, word by word and slowly.
fn naive_walk(desc: &RingDesc, key: Token, operation: Operation, zone_aware: bool) -> Vec<String> {
    let mut tokens: Vec<(Token, &Instance)> = Vec::new();
    for i in desc.iter() {
        tokens.extend(i.tokens.iter().map(|&t| (t, &**i)));
    }
    tokens.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.id.cmp(&b.1.id)));
    tokens.dedup_by_key(|t| t.0);
    let start = tokens.iter().position(|t| t.0 > key).unwrap_or(0);
    let zones: BTreeSet<&str> = desc.iter().map(|i| i.zone.as_str()).collect();
    let in_zone = |z: &str| desc.iter().filter(|i| i.zone == z).count();
    let (mut found, mut wanted) = (Vec::<&Instance>::new(), 3);
    let (mut counted, mut examined) = (Vec::<&str>::new(), Vec::<&str>::new());
    let times = |list: &[&str], zone: &str| list.iter().filter(|z| **z == zone).count();
    for step in 0..tokens.len() {
        if found.len() >= wanted.min(desc.len()) {
            break;
        }
        let done = |z: &&str| times(&counted, z) >= 1 || times(&examined, z) >= in_zone(z);
        if zone_aware && zones.iter().all(done) {
            break;
        }
        let instance = tokens[(start + step) % tokens.len()].1;
        if found.iter().any(|i| i.id == instance.id) {
            continue;
        }
        let named = zone_aware && !instance.zone.is_empty();
        if named && times(&counted, &instance.zone) >= 1 {
            continue;
        }
        if named {
            examined.push(&instance.zone);
        }
        found.push(instance);
        if operation.extends(instance.state) {
            wanted += 1;
        } else if named {
            counted.push(&instance.zone);
        }
    }
    let healthy = found.into_iter().filter(|i| operation.is_healthy(i.state));
    healthy.map(|i| i.id.clone()).collect()
}

proptest! {
    #[test]
    fn a_lookup_follows_the_rules_word_by_word(
        states in vec((0..4usize, 0..4usize, vec(0u32..500, 0..5)), 1..12),
        keys in vec(0u32..510, 20),
        zone_aware: bool,
    ) {
        let made = states.into_iter().enumerate().map(|(n, (state, zone, mut tokens))| {
            tokens.sort_unstable();
            tokens.dedup();
            Instance {
                id: format!("i{n}"),
                state: InstanceState::ALL[state],
                zone: ["", "a", "b", "c"][zone].to_owned(),
                timestamp_s: NOW_S,
                tokens: tokens.into_iter().map(Token).collect(),
                ..Instance::default()
            }
        });
        let desc: RingDesc = made.collect();
        // With this strategy the walk shows as it is.
        let ring = Ring::new(
            RingSettings { strategy: ReplicationStrategy::IgnoreUnhealthy, ..settings(zone_aware) },
            &desc,
        );
        let mut buffer = LookupBuffer::default();
        for key in keys.into_iter().map(Token) {
            for operation in [Operation::WRITE, Operation::WRITE_NO_EXTEND, Operation::READ] {
                let expected = naive_walk(&desc, key, operation, zone_aware);
                match ring.lookup(key, operation, NOW_S, &mut buffer) {
                    Ok(found) => {
                        let found: Vec<_> = found.iter().map(|i| i.id.clone()).collect();
                        prop_assert_eq!(found, expected);
                    }
                    Err(_) => prop_assert!(expected.is_empty()),
                }
            }
        }
    }

    #[test]
    fn one_instance_more_or_less_changes_one_member_of_a_shard(
        count in 6usize..30,
        size in 1usize..6,
        gone in any::<prop::sample::Index>(),
        tenant in "[a-z]{1,8}",
    ) {
        let whole = desc(count, 0);
        let mut smaller = whole.clone();
        smaller.remove(&format!("i{:04}", gone.index(count)));
        let before = ids(&Ring::new(settings(false), &whole).shuffle_shard(&tenant, size));
        let after = ids(&Ring::new(settings(false), &smaller).shuffle_shard(&tenant, size));
        prop_assert_eq!(before.len(), size);
        prop_assert!(before.difference(&after).count() <= 1);
        prop_assert!(after.difference(&before).count() <= 1);
    }

    #[test]
    fn looking_back_finds_every_shard_that_was_written_to(
        joins in vec(0i64..7200, 4..12),
        size in 1usize..4,
        tenant in "[a-z]{1,8}",
    ) {
        // Instances join one after another during two hours; at each moment the tenant wrote to the shard of that moment.
        let mut joins = joins;
        joins.sort_unstable();
        let start_s = NOW_S - 7200;
        let member = |n: usize, joined: i64| Instance {
            registered_timestamp_s: start_s + joined,
            ..instance(n, 0, 32)
        };
        let mut all: RingDesc = (100..104).map(|n| member(n, -86_400)).collect();
        let mut written = ids(&Ring::new(settings(false), &all).shuffle_shard(&tenant, size));
        for (n, &joined) in joins.iter().enumerate() {
            all.insert(member(n, joined));
            written.extend(ids(&Ring::new(settings(false), &all).shuffle_shard(&tenant, size)));
        }
        let lookback = Duration::from_secs(7200);
        let ring = Ring::new(settings(false), &all);
        let read = ids(&ring.shuffle_shard_with_lookback(&tenant, size, lookback, NOW_S));
        prop_assert!(written.is_subset(&read), "{:?} {:?}", written, read);
    }

    #[test]
    fn token_ranges_hold_the_keys_that_lookups_give_an_instance(count in 3usize..9, keys in vec(any::<u32>(), 50)) {
        let ring = Ring::new(settings(true), &desc(count, 3));
        for i in ring.instances() {
            let ranges = ring.token_ranges(&i.id).unwrap();
            for &key in &keys {
                let set = ring.get(Token(key), Operation::WRITE, NOW_S).unwrap();
                let owns = set.instances.iter().any(|other| other.id == i.id);
                prop_assert_eq!(ranges.contains(Token(key)), owns);
            }
        }
    }
}

#[test]
fn heartbeats_and_states_leave_tables_and_cached_shards_alone() {
    let mut desc = desc(12, 3);
    let ring = Ring::new(settings(true), &desc);
    let shard = ring.shuffle_shard("tenant", 3);
    let member = shard.instances().next().unwrap().id.clone();
    let instance = desc.get_mut(&member).unwrap();
    instance.timestamp_s += 15;
    instance.state = InstanceState::Leaving;
    let newer = ring.updated(&desc);
    assert!(newer.shares_tables_with(&ring));
    let cached = newer.shuffle_shard("tenant", 3);
    assert!(cached.shares_tables_with(&shard), "computed again");
    let fresh = cached.instance(&member).unwrap();
    assert_eq!(fresh.state, InstanceState::Leaving, "the state is stale");
    assert_eq!(
        shard.instance(&member).unwrap().state,
        InstanceState::Active
    );

    desc.get_mut(&member).unwrap().read_only = true;
    let other = newer.updated(&desc);
    assert!(!other.shares_tables_with(&newer));
    assert!(other.shuffle_shard("tenant", 3).instance(&member).is_none());
}

#[test]
fn a_cached_lookback_is_dropped_when_a_newcomer_leaves_the_window() {
    let mut desc = desc(12, 0);
    let ring = Ring::new(settings(false), &desc);
    let newcomer = ring
        .shuffle_shard("tenant", 2)
        .instances()
        .next()
        .unwrap()
        .id
        .clone();
    desc.get_mut(&newcomer).unwrap().registered_timestamp_s = NOW_S - 100;
    let ring = Ring::new(settings(false), &desc);
    let at = |now_s| {
        let lookback = Duration::from_secs(200);
        ids(&ring.shuffle_shard_with_lookback("tenant", 2, lookback, now_s))
    };
    assert_eq!(at(NOW_S).len(), 3);
    assert_eq!(at(NOW_S + 100).len(), 3);
    assert_eq!(at(NOW_S + 101).len(), 2);
    assert_eq!(at(NOW_S).len(), 3, "and the clock may go back");
}

#[test]
fn the_shard_cache_keeps_its_bound() {
    let ring = Ring::new(
        RingSettings {
            shard_cache_size: ByteSize::kib(64),
            ..settings(false)
        },
        &desc(30, 0),
    );
    for tenant in 0..500 {
        for _ in 0..3 {
            let shard = ring.shuffle_shard(&format!("tenant-{tenant}"), 4);
            assert_eq!(shard.len(), 4);
        }
    }
    let bytes = ring.shards.as_ref().unwrap().bytes();
    assert!(bytes > 32 << 10 && bytes <= 64 << 10, "{bytes}");
}

#[test]
fn a_wider_lookup_is_for_work_that_can_be_done_anywhere() {
    let wide = |strategy, zone_aware, replicas| {
        let settings = RingSettings {
            strategy,
            ..settings(zone_aware)
        };
        let ring = Ring::new(settings, &desc(9, 3));
        let mut buffer = LookupBuffer::default();
        ring.lookup_wider(Token(7), Operation::WRITE, replicas, NOW_S, &mut buffer)
            .map(|r| r.len())
    };
    let any = ReplicationStrategy::IgnoreUnhealthy;
    assert_eq!(wide(any, true, 6).unwrap(), 6);
    assert_eq!(wide(any, false, 5).unwrap(), 5);
    for refused in [
        wide(any, true, 5),
        wide(any, false, 2),
        wide(ReplicationStrategy::Quorum, false, 5),
    ] {
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}

#[test]
fn a_process_alone_owns_every_key_for_ever() {
    let ring = Ring::standalone("ingester");
    for key in [0, 1, u32::MAX] {
        let set = ring.get(Token(key), Operation::WRITE, i64::MAX).unwrap();
        assert_eq!((set.instances.len(), set.max_errors), (1, 0));
    }
    assert_eq!(
        ring.replication_set(Operation::READ, NOW_S)
            .unwrap()
            .instances
            .len(),
        1
    );
    assert_eq!(ring.shuffle_shard("tenant", 3).len(), 1);
}

#[test]
fn bad_settings_are_named() {
    let settings = RingSettings {
        replication_factor: 0,
        heartbeat_timeout: Duration::ZERO,
        ..RingSettings::default()
    };
    let error = settings.validate().unwrap_err().to_string();
    assert!(error.contains("replication_factor is 0") && error.contains("heartbeat_timeout"));
}

#[test]
fn a_ring_of_settings_that_nobody_checked_does_not_panic() {
    for zone_awareness_enabled in [false, true] {
        let settings = RingSettings {
            replication_factor: 0,
            ..settings(zone_awareness_enabled)
        };
        let ring = Ring::new(settings, &desc(3, 3));
        let error = ring.get(Token(5), Operation::WRITE, NOW_S).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        let _ = ring.replication_set(Operation::READ, NOW_S);
    }
}
