//! Lookups, whole-ring sets, ownership and shuffle shards as the reference implementation has them.

use crate::shared;

use std::time::Duration;

use crate::shared::documents;
use crate::shared::record::ring as desc;
use lgtm_core::{ErrorKind, Result};
use lgtm_ring::prng::GoRand;
use lgtm_ring::ring::{
    LookupBuffer, Operation, ReplicationSet, ReplicationStrategy, Ring, RingSettings,
    shuffle_instances_per_zone, shuffle_seed,
};
use lgtm_ring::token::Token;
use serde_json::Value;

fn text(v: &Value) -> &str {
    v.as_str().unwrap()
}

fn int(v: &Value) -> usize {
    v.as_u64().unwrap() as usize
}

fn strings(v: &Value) -> Vec<&str> {
    v.as_array()
        .map_or_else(Vec::new, |a| a.iter().map(text).collect())
}

fn operation(name: &str) -> Operation {
    match name {
        "Write" => Operation::WRITE,
        "WriteNoExtend" => Operation::WRITE_NO_EXTEND,
        "Read" => Operation::READ,
        "Reporting" => Operation::REPORTING,
        other => panic!("operation {other}"),
    }
}

fn ring_of(case: &Value) -> Ring {
    let config = &case["config"];
    let settings = RingSettings {
        replication_factor: int(&config["replication_factor"]),
        zone_awareness_enabled: config["zone_awareness_enabled"] == true,
        heartbeat_timeout: Duration::from_secs(int(&config["heartbeat_timeout_seconds"]) as u64),
        excluded_zones: strings(&config["excluded_zones"])
            .iter()
            .map(|z| (*z).to_owned())
            .collect(),
        strategy: match case["strategy"].as_str() {
            Some("ignore_unhealthy") => ReplicationStrategy::IgnoreUnhealthy,
            _ => ReplicationStrategy::Quorum,
        },
        ..RingSettings::default()
    };
    settings.validate().unwrap();
    Ring::new(settings, &desc(&case["instances"]))
}

fn ids(set: &ReplicationSet) -> Vec<&str> {
    set.instances.iter().map(|i| i.id.as_str()).collect()
}

fn sorted_ids(set: &ReplicationSet) -> Vec<&str> {
    let mut ids = ids(set);
    ids.sort_unstable();
    ids
}

/// The set, or that its error is the expected one.
fn expect<T>(outcome: Result<T>, expected: &Value, what: &str) -> Option<T> {
    match (outcome, expected.get("error")) {
        (Ok(found), None) => Some(found),
        // Ours names what was not found.
        (Err(error), Some(words)) if error.kind() == ErrorKind::NotFound => {
            assert!(text(words).contains("not found"), "{what}: {error}");
            None
        }
        (Err(error), Some(words)) => {
            assert_eq!(error.to_string(), text(words), "{what}");
            None
        }
        (Ok(_), Some(words)) => panic!("{what}: no error, expected {words}"),
        (Err(error), None) => panic!("{what}: {error}"),
    }
}

#[test]
fn keys_are_found_where_the_reference_finds_them() {
    for (_, document) in documents("golden/ring", "cases") {
        for case in document["cases"].as_array().unwrap() {
            let Some(lookups) = case.get("lookups") else {
                continue;
            };
            let (ring, now_s) = (ring_of(case), case["now"].as_i64().unwrap());
            let mut buffer = LookupBuffer::default();
            for lookup in lookups.as_array().unwrap() {
                let what = format!("{}: {lookup}", case["name"]);
                let key = Token(int(&lookup["key"]) as u32);
                let operation = operation(text(&lookup["op"]));
                let replicas = ring.lookup(key, operation, now_s, &mut buffer);
                let Some(replicas) = expect(replicas, lookup, &what) else {
                    continue;
                };
                let found: Vec<_> = replicas.iter().map(|i| i.id.as_str()).collect();
                assert_eq!(found, strings(&lookup["instances"]), "{what}");
                assert_eq!(replicas.max_errors(), int(&lookup["max_errors"]), "{what}");
                let own = ring.get(key, operation, now_s).unwrap();
                assert_eq!(ids(&own), found);
            }
        }
    }
}

/// Zones that may fail here, where the reference lets `reference` fail. Where zones are missing from the ring, or some instances have none, the reference
/// lets a zone fail whose answer may be the only one that has what a quorum wrote. Ours does not (`Ring::replication_set`).
fn tolerated_here(case: &Value, reference: usize) -> usize {
    let replicas = int(&case["config"]["replication_factor"]);
    let mut zones = strings(&case["counts"]["zones"]);
    let some_have_none = zones.iter().any(|z| z.is_empty());
    zones.retain(|z| !z.is_empty());
    if some_have_none {
        return 0;
    }
    // Each missing zone has used up one of those that a quorum can do without.
    reference.saturating_sub(replicas.saturating_sub(zones.len()))
}

#[test]
fn whole_ring_sets_are_those_of_the_reference() {
    for (_, document) in documents("golden/ring", "cases") {
        for case in document["cases"].as_array().unwrap() {
            let Some(sets) = case.get("replication_set_for_operation") else {
                continue;
            };
            let (ring, now_s) = (ring_of(case), case["now"].as_i64().unwrap());
            for (name, expected) in sets.as_object().unwrap() {
                let what = format!("{}: {name}", case["name"]);
                let set = ring.replication_set(operation(name), now_s);
                let Some(set) = expect(set, expected, &what) else {
                    continue;
                };
                assert_eq!(
                    sorted_ids(&set),
                    strings(&expected["instances_sorted"]),
                    "{what}"
                );
                assert_eq!(set.max_errors, int(&expected["max_errors"]), "{what}");
                let zones = int(&expected["max_unavailable_zones"]);
                let tolerated = tolerated_here(case, zones);
                assert_eq!(set.max_unavailable_zones, tolerated, "{what}");
                let zone_aware = expected["zone_awareness_enabled"].as_bool();
                assert_eq!(Some(set.zone_awareness_enabled), zone_aware, "{what}");
            }
            for (name, expected) in case["all_healthy"].as_object().unwrap() {
                let set = ring.all_healthy(operation(name), now_s);
                if let Some(set) = expect(set, expected, name) {
                    assert_eq!(sorted_ids(&set), strings(&expected["instances_sorted"]));
                }
            }
        }
    }
}

#[test]
fn counts_and_ownership_are_those_of_the_reference() {
    for (_, document) in documents("golden/ring", "cases") {
        for case in document["cases"].as_array().unwrap() {
            let Some(counts) = case.get("counts") else {
                continue;
            };
            let (ring, name) = (ring_of(case), &case["name"]);
            assert_eq!(ring.len(), int(&counts["instances"]), "{name}");
            assert_eq!(
                ring.instances_with_tokens(),
                int(&counts["instances_with_tokens"])
            );
            let writable = int(&counts["writable_instances_with_tokens"]);
            assert_eq!(ring.writable_instances_with_tokens(), writable, "{name}");
            assert_eq!(ring.zones().collect::<Vec<_>>(), strings(&counts["zones"]));

            // The reference counts on the value, where excluded zones are too.
            let mut with_excluded = case.clone();
            with_excluded["config"]["excluded_zones"] = Value::Null;
            let whole = ring_of(&with_excluded);
            let owned = whole.owned_keys();
            let expected = case["owned_key_count"].as_object().unwrap();
            assert_eq!(owned.len(), expected.len(), "{name}");
            for (id, count) in expected {
                assert_eq!(Some(owned[id.as_str()]), count.as_u64(), "{name}: {id}");
            }
            for (id, expected) in case["token_ranges"].as_object().unwrap() {
                let what = format!("{name}: {id}");
                let Some(ranges) = expect(ring.token_ranges(id), expected, &what) else {
                    continue;
                };
                let flat = ranges.ranges().iter().flat_map(|r| [*r.start(), *r.end()]);
                let flat: Vec<Value> = flat.map(Value::from).collect();
                assert_eq!(Value::from(flat), expected["ranges"], "{what}");
            }
        }
    }
}

#[test]
fn seeds_and_sizes_of_shards_are_those_of_the_reference() {
    for (_, document) in documents("golden/ring", "shuffle_shard_seeds") {
        for case in document["shuffle_shard_seeds"].as_array().unwrap() {
            let seed = shuffle_seed(text(&case["identifier"]), text(&case["zone"]));
            assert_eq!(seed.to_string(), text(&case["seed"]), "{case}");
            let mut numbers = GoRand::from_seed(seed);
            for expected in case["uint32"].as_array().unwrap() {
                assert_eq!(numbers.next_u32() as usize, int(expected));
            }
        }
        for case in document["expected_instances"].as_array().unwrap() {
            let zones = int(&case["zones"]);
            let per_zone = shuffle_instances_per_zone(int(&case["shard_size"]), zones);
            assert_eq!(per_zone, int(&case["per_zone"]), "{case}");
            assert_eq!(per_zone * zones, int(&case["total"]), "{case}");
        }
    }
}

#[test]
fn shards_are_those_of_the_reference_computed_and_cached() {
    let mut seen = 0;
    for (_, document) in documents("golden/ring", "cases") {
        for case in document["cases"].as_array().unwrap() {
            let Some(results) = case.get("results") else {
                continue;
            };
            let (ring, now_s) = (ring_of(case), case["now"].as_i64().unwrap());
            for _ in ["computed", "cached"] {
                for result in results.as_array().unwrap() {
                    check_shard(&ring, now_s, result, &case["name"]);
                    seen += 1;
                }
            }
        }
    }
    assert!(seen > 0 || shared::folder("golden/ring").is_none());
}

fn check_shard(ring: &Ring, now_s: i64, result: &Value, name: &Value) {
    let what = format!("{name}: {result}");
    let (tenant, size) = (text(&result["tenant"]), int(&result["size"]));
    let lookback = Duration::from_secs(int(&result["lookback_seconds"]) as u64);
    let shard = ring.shuffle_shard_with_lookback(tenant, size, lookback, now_s);
    let members: Vec<_> = shard.instances().map(|i| i.id.as_str()).collect();
    assert_eq!(members, strings(&result["instances_sorted"]), "{what}");
    let Some(lookups) = result.get("subring_get_write_no_extend") else {
        return;
    };
    for lookup in lookups.as_array().unwrap() {
        let key = Token(int(&lookup["key"]) as u32);
        let set = shard.get(key, Operation::WRITE_NO_EXTEND, now_s);
        if let Some(set) = expect(set, lookup, &what) {
            assert_eq!(ids(&set), strings(&lookup["instances"]), "{what}");
            assert_eq!(set.max_errors, int(&lookup["max_errors"]), "{what}");
        }
    }
}
