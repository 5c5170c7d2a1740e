//! How many keys a second are looked up? Goal: 5 million on a core (replication factor 3, zones, 100 instances with 512 tokens).
//! How long does a view take? Goal: 50 ms for 1000 instances with 512 tokens; a new shard of it 100 µs.

#![allow(missing_docs, clippy::unwrap_used, reason = "criterion's macros")]

use std::collections::HashSet;
use std::hint::black_box;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use lgtm_ring::instance::{Instance, InstanceState, RingCodec, RingDesc};
use lgtm_ring::kv::{MergeKind, MergeTime, ValueCodec};
use lgtm_ring::ring::{LookupBuffer, Operation, Ring, RingSettings};
use lgtm_ring::token::{RandomTokens, Token, TokenGenerator};

const NOW_S: i64 = 1_800_000_000;

fn desc(count: usize) -> RingDesc {
    let instance = |n: usize| {
        let mut tokens = RandomTokens::seeded(n as i64 + 1);
        Instance {
            id: format!("ingester-zone-{}-{}", n % 3, n / 3),
            addr: format!("10.0.{}.{}:9095", n / 256, n % 256),
            zone: format!("zone-{}", n % 3),
            timestamp_s: NOW_S,
            registered_timestamp_s: NOW_S - 86_400,
            tokens: tokens.generate(512, &HashSet::new()).unwrap().into(),
            ..Instance::default()
        }
    };
    (0..count).map(instance).collect()
}

fn settings() -> RingSettings {
    RingSettings {
        zone_awareness_enabled: true,
        ..RingSettings::default()
    }
}

fn lookups(c: &mut Criterion) {
    let whole = desc(100);
    let mut newcomers = whole.clone();
    for instance in whole.iter().filter(|i| i.zone == "zone-2") {
        let instance = newcomers.get_mut(&instance.id).unwrap();
        (instance.state, instance.tokens) = (InstanceState::Pending, [].into());
    }
    let mut group = c.benchmark_group("lookup");
    group.throughput(Throughput::Elements(1000));
    for (name, desc) in [
        ("1000 keys, 100 instances, 3 zones", whole),
        (
            "1000 keys while one of the zones has no tokens yet",
            newcomers,
        ),
    ] {
        lookup(&mut group, name, &Ring::new(settings(), &desc));
    }
    group.finish();
}

fn lookup(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, ring: &Ring) {
    let mut key = 1u32;
    let mut next = move || {
        key = key.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        Token(key)
    };
    let mut buffer = LookupBuffer::default();
    group.bench_function(name, |b| {
        b.iter(|| {
            for _ in 0..1000 {
                let found = ring.lookup(next(), Operation::WRITE, NOW_S, &mut buffer);
                black_box(found.unwrap().len());
            }
        });
    });
}

fn views(c: &mut Criterion) {
    let desc = desc(1000);
    let ring = Ring::new(settings(), &desc);
    let _ = ring.shuffle_shard("warm", 3);
    c.bench_function("view of 1000 instances", |b| {
        b.iter(|| Ring::new(settings(), black_box(&desc)));
    });
    let mut beat = desc.clone();
    beat.get_mut("ingester-zone-0-7").unwrap().timestamp_s += 15;
    c.bench_function("view after a heartbeat", |b| {
        b.iter(|| ring.updated(black_box(&beat)));
    });
    let mut tenant = 0;
    c.bench_function("shard of a new tenant", |b| {
        b.iter(|| {
            tenant += 1;
            ring.shuffle_shard(&format!("tenant-{tenant}"), 6)
        });
    });
    c.bench_function("shard of a known tenant", |b| {
        b.iter(|| ring.shuffle_shard("warm", 3));
    });
}

fn merges(c: &mut Criterion) {
    let desc = desc(1000);
    let id = "ingester-zone-0-7";
    let changed = |tokens: bool| -> RingDesc {
        let mut instance = Instance::clone(desc.get(id).unwrap());
        instance.timestamp_s += 15;
        if tokens {
            let mut generator = RandomTokens::seeded(77_777);
            instance.tokens = generator.generate(512, &HashSet::new()).unwrap().into();
        }
        [instance].into_iter().collect()
    };
    for (name, change) in [
        ("merge of a heartbeat", changed(false)),
        ("merge of an instance with new tokens", changed(true)),
    ] {
        c.bench_function(name, |b| {
            b.iter_batched_ref(
                || desc.clone(),
                |ring| ring.merge(&change, MergeKind::Remote, NOW_S),
                criterion::BatchSize::LargeInput,
            );
        });
    }
    let whole = RingCodec::encode(&desc).unwrap();
    let mut open = RingCodec.open(Some(&whole)).unwrap().unwrap();
    let mut at_s = NOW_S;
    c.bench_function("merge of a heartbeat into an open ring", |b| {
        b.iter_batched(
            || {
                at_s += 1;
                let mut beat = changed(false);
                beat.get_mut(id).unwrap().timestamp_s = at_s;
                RingCodec::encode(&beat).unwrap()
            },
            |beat| {
                // Heartbeats go up to any time here, and none may be from ahead.
                let time = MergeTime {
                    now_unix_s: i64::MAX,
                    max_ahead_s: 0,
                };
                let outcome = open.merge(&beat, MergeKind::Remote, time);
                outcome.unwrap().change.unwrap()
            },
            criterion::BatchSize::SmallInput,
        );
    });
    c.bench_function("what readers get of an open ring", |b| {
        b.iter(|| open.encode_visible());
    });
    c.bench_function("decoding the bytes of 1000 instances", |b| {
        b.iter(|| RingCodec::decode(black_box(&whole)));
    });
}

criterion_group!(benches, lookups, views, merges);
criterion_main!(benches);
