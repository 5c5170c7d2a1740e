use std::collections::BTreeMap;

use lgtm_core::ErrorKind;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use crate::instance::{Instance, InstanceState, MAX_VALUE_BYTES, RingCodec, RingDesc};
use crate::kv::{MergeKind, MergeTime, ValueCodec};
use crate::token::Token;

fn any_state() -> impl Strategy<Value = InstanceState> {
    (0..InstanceState::ALL.len()).prop_map(|i| InstanceState::ALL[i])
}

prop_compose! {
    fn any_instance()(
        id in "[a-z]{0,6}",
        addr in ".{0,12}",
        zone in "[a-z]{0,3}",
        state in any_state(),
        times in any::<[i64; 3]>(),
        clock_epoch in prop_oneof![Just(0), any::<u64>()],
        read_only: bool,
        tokens in vec(any::<u32>(), 0..20),
        versions in btree_map(any::<u64>(), any::<u64>(), 0..3),
    ) -> Instance {
        Instance {
            id,
            addr,
            zone,
            state,
            timestamp_s: times[0],
            registered_timestamp_s: times[1],
            read_only,
            read_only_updated_timestamp_s: times[2],
            tokens: tokens.into_iter().map(Token).collect(),
            versions,
            clock_epoch,
        }
    }
}

/// The record that instance `id` wrote at `time`: each writer changes its heartbeat with every change, so the two decide everything. Its
/// tokens are its own.
fn record(id: usize, time: i64, left: bool) -> Instance {
    let state = InstanceState::ALL[(id * 7 + time as usize * 3) % 4];
    let own = (0..3).map(|i| Token((id * 100 + (time as usize * 5 + i) % 9) as u32));
    let mut tokens: Vec<_> = own.collect();
    tokens.sort_unstable();
    tokens.dedup();
    if left {
        tokens.clear();
    }
    Instance {
        id: format!("i{id}"),
        state: if left { InstanceState::Left } else { state },
        timestamp_s: time,
        // What a remover leaves of the record depends on what it saw.
        addr: if left {
            String::new()
        } else {
            format!("{id}:{time}")
        },
        tokens: tokens.into(),
        ..Instance::default()
    }
}

fn any_ring() -> impl Strategy<Value = RingDesc> {
    btree_map(0usize..6, (1i64..12, 0u64..3, any::<bool>()), 0..6).prop_map(|m| {
        m.into_iter()
            .map(|(id, (t, clock_epoch, left))| Instance {
                clock_epoch,
                ..record(id, t, left)
            })
            .collect()
    })
}

/// Rings in which anybody may hold any of a few tokens, but nobody's inside one ring clash.
fn any_clashing_ring() -> impl Strategy<Value = RingDesc> {
    vec((0usize..6, 1i64..12, any_state()), 0..24).prop_map(|claims| {
        let mut owners: BTreeMap<usize, Instance> = BTreeMap::new();
        for (token, (id, time, state)) in claims.into_iter().enumerate() {
            let owner = owners.entry(id).or_insert_with(|| Instance {
                id: format!("i{id}"),
                timestamp_s: time,
                state,
                ..Instance::default()
            });
            if owner.state != InstanceState::Left {
                let mut tokens = owner.tokens.to_vec();
                tokens.push(Token(token as u32));
                owner.tokens = tokens.into();
            }
        }
        owners.into_values().collect()
    })
}

fn merged(a: &RingDesc, b: &RingDesc) -> RingDesc {
    let mut out = a.clone();
    out.merge(b, MergeKind::Remote, 100);
    out
}

/// The clock shows `now_unix_s`, and others may be an hour ahead.
fn time(now_unix_s: i64) -> MergeTime {
    MergeTime {
        now_unix_s,
        max_ahead_s: 3600,
    }
}

fn token_owners(ring: &RingDesc) -> usize {
    ring.iter().map(|i| i.tokens.len()).sum()
}

proptest! {
    #[test]
    fn a_ring_comes_back_from_its_bytes(instances in vec(any_instance(), 0..8)) {
        let mut ring: RingDesc = instances.into_iter().collect();
        // An id that is absent is filled in from the key.
        ring.retain(|i| !i.id.is_empty());
        prop_assert_eq!(&RingDesc::decode(&ring.encode()).unwrap(), &ring);
        let bytes = RingCodec::encode(&ring).unwrap();
        prop_assert_eq!(&RingCodec::decode(&bytes).unwrap(), &ring);
    }

    #[test]
    fn a_cut_ring_is_an_error_or_a_smaller_ring(instances in vec(any_instance(), 1..4), cut: prop::sample::Index) {
        let ring: RingDesc = instances.into_iter().collect();
        let bytes = ring.encode();
        let cut = cut.index(bytes.len());
        // A message may end after any of its fields; anywhere else the cut shows.
        match RingDesc::decode(&bytes[..cut]) {
            Ok(smaller) => prop_assert!(smaller.len() < ring.len()),
            Err(e) => prop_assert!(e.offset <= bytes.len() as u64),
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
        let _ = RingDesc::decode(&bytes);
        let _ = RingCodec::decode(&bytes);
        let _ = RingCodec.merge(Some(&bytes), &bytes, MergeKind::Remote, time(0));
    }

    #[test]
    fn merging_bytes_is_merging_rings(
        a in any_ring(),
        b in any_ring(),
        beat in any::<prop::sample::Index>(),
    ) {
        // Another ring, and a heartbeat of one of the own.
        let mut heartbeat = RingDesc::new();
        if !a.is_empty() {
            let mut one = Instance::clone(a.iter().nth(beat.index(a.len())).unwrap());
            one.timestamp_s += 3;
            heartbeat.insert(one);
        }
        for incoming in [&b, &heartbeat] {
            let mut expected = a.clone();
            let change = expected.merge(incoming, MergeKind::Remote, 100);
            let bytes = [&a, incoming].map(|r| RingCodec::encode(r).unwrap());
            let merged = RingCodec.merge(Some(&bytes[0]), &bytes[1], MergeKind::Remote, time(100));
            let merged = merged.unwrap();
            prop_assert_eq!(&RingCodec::decode(&merged.value).unwrap(), &expected);
            let sent = merged.outcome.change.map(|c| RingCodec::decode(&c).unwrap());
            prop_assert_eq!(&sent, &change);
            let names = RingCodec.member_names(&merged.value).unwrap();
            let ids: Vec<_> = expected.iter().map(|i| i.id.clone()).collect();
            prop_assert_eq!(names, ids);
            let seen = RingCodec.remove_tombstones(&merged.value, None).unwrap();
            let visible = expected.without_tombstones();
            prop_assert_eq!(&RingCodec::decode(&seen.value).unwrap(), &visible);
            prop_assert_eq!((seen.left, seen.removed), (0, expected.len() - visible.len()));
        }
    }

    #[test]
    fn an_open_ring_is_the_ring_of_its_bytes(
        begin in any_clashing_ring(),
        heard in vec((any_clashing_ring(), any::<bool>()), 1..6),
        limit in 0i64..14,
    ) {
        let mut expected = begin.clone();
        let bytes = RingCodec::encode(&begin).unwrap();
        let mut open = RingCodec.open(Some(&bytes)).unwrap().unwrap();
        for (ring, is_local) in heard {
            let kind = if is_local { MergeKind::Local } else { MergeKind::Remote };
            let change = expected.merge(&ring, kind, 8);
            let bytes = RingCodec::encode(&ring).unwrap();
            let sent = open.merge(&bytes, kind, time(8)).unwrap().change;
            prop_assert_eq!(sent.map(|c| RingCodec::decode(&c).unwrap()), change);
            prop_assert!(open.size_bytes() >= expected.encode().len());
            prop_assert_eq!(open.encode().unwrap(), RingCodec::encode(&expected).unwrap());
            let visible = RingCodec::encode(&expected.without_tombstones()).unwrap();
            prop_assert_eq!(open.encode_visible().unwrap(), visible);
        }
        let removed = expected.remove_tombstones(Some(limit)).removed;
        prop_assert_eq!(open.remove_tombstones(limit).unwrap().removed, removed);
        prop_assert_eq!(open.encode().unwrap(), RingCodec::encode(&expected).unwrap());
    }

    #[test]
    fn the_bound_of_an_open_rings_size_holds(instances in vec(any_instance(), 0..8)) {
        let ring: RingDesc = instances.into_iter().collect();
        let bytes = RingCodec::encode(&ring).unwrap();
        let open = RingCodec.open(Some(&bytes)).unwrap().unwrap();
        prop_assert!(open.size_bytes() >= ring.encode().len());
    }

    #[test]
    fn merge_is_commutative(a in any_ring(), b in any_ring()) {
        prop_assert_eq!(merged(&a, &b), merged(&b, &a));
    }

    #[test]
    fn merge_is_associative(a in any_ring(), b in any_ring(), c in any_ring()) {
        prop_assert_eq!(merged(&merged(&a, &b), &c), merged(&a, &merged(&b, &c)));
    }

    #[test]
    fn merge_is_idempotent(a in any_ring(), b in any_ring()) {
        let once = merged(&a, &b);
        prop_assert_eq!(merged(&once, &b), once.clone());
        prop_assert_eq!(merged(&once, &once), once.clone());
        let mut again = once.clone();
        prop_assert_eq!(again.merge(&b, MergeKind::Remote, 100), None);
    }

    #[test]
    fn a_change_sent_on_has_the_effect_of_the_whole(a in any_ring(), b in any_ring(), c in any_ring()) {
        let mut sender = a.clone();
        if let Some(change) = sender.merge(&b, MergeKind::Remote, 100) {
            let receiver = merged(&c, &a);
            prop_assert_eq!(merged(&receiver, &change), merged(&receiver, &sender));
        }
    }

    #[test]
    fn after_a_merge_no_token_has_two_owners(a in any_clashing_ring(), b in any_clashing_ring()) {
        let ring = merged(&a, &b);
        prop_assert_eq!(ring.taken_tokens().len(), token_owners(&ring));
        // Whoever lost something lost it to somebody with a better claim.
        for token in a.taken_tokens() {
            let claims = |r: &RingDesc| r.iter().filter(|i| i.tokens.contains(&token)).count();
            prop_assert!(claims(&ring) <= 1);
        }
    }
}

#[test]
fn a_ring_from_the_future_is_refused_by_name() {
    // Instance "a" in state 9.
    let bytes = [0x0a, 7, 0x0a, 1, b'a', 0x12, 2, 0x18, 9];
    let error = RingDesc::decode(&bytes).unwrap_err();
    assert!(error.reason.contains("state 9"), "{error}");
}

#[test]
fn a_small_value_that_claims_to_be_huge_is_refused_unread() {
    // Snappy's header says 2^31 bytes.
    let error = RingCodec::decode(&[0x80, 0x80, 0x80, 0x80, 0x08, 0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("2147483648"), "{error}");
}

#[test]
fn a_tombstone_made_here_is_stamped_now_so_that_late_heartbeats_lose() {
    let mut ring: RingDesc = [record(1, 5, false), record(2, 5, false)]
        .into_iter()
        .collect();
    let without: RingDesc = [record(1, 5, false)].into_iter().collect();
    let change = ring.merge(&without, MergeKind::Local, 50).unwrap();
    assert_eq!(change.len(), 1);
    let late: RingDesc = [record(2, 9, false)].into_iter().collect();
    assert_eq!(ring.merge(&late, MergeKind::Remote, 60), None);
    assert_eq!(ring.get("i2").unwrap().state, InstanceState::Left);
}

#[test]
fn a_merge_that_would_make_the_ring_too_large_is_refused_and_changes_nothing() {
    let large = |id: usize| -> RingDesc {
        let zone = "z".repeat(MAX_VALUE_BYTES / 2);
        let instance = Instance {
            zone,
            ..record(id, 5, false)
        };
        [instance].into_iter().collect()
    };
    let mut open = RingCodec.open(None).unwrap().unwrap();
    let [first, second] = [1, 2].map(|id| RingCodec::encode(&large(id)).unwrap());
    let taken = open.merge(&first, MergeKind::Remote, time(5)).unwrap();
    assert!(taken.change.is_some());
    let error = open.merge(&second, MergeKind::Remote, time(5)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded);
    assert!(
        error.to_string().contains(&MAX_VALUE_BYTES.to_string()),
        "{error}"
    );
    assert_eq!(open.encode().unwrap(), first);
}

#[test]
fn a_heartbeat_that_others_could_not_read_is_refused() {
    let mut instance = record(1, 5, false);
    instance.addr = "~~~~".into();
    let ring: RingDesc = [instance.clone()].into_iter().collect();
    instance.timestamp_s = 6;
    let beat: RingDesc = [instance].into_iter().collect();
    let mut message = beat.encode();
    let at = message.windows(4).position(|w| w == b"~~~~").unwrap();
    message[at] = 0xff;
    let poisoned = snap::raw::Encoder::new().compress_vec(&message).unwrap();
    let current = RingCodec::encode(&ring).unwrap();
    let merged = RingCodec.merge(Some(&current), &poisoned, MergeKind::Remote, time(10));
    assert_eq!(merged.unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn who_had_a_clock_that_ran_ahead_can_be_forgotten_too() {
    let ring: RingDesc = [record(1, 5, false), record(2, 500, false)]
        .into_iter()
        .collect();
    let (mut here, mut there) = (ring.clone(), ring.clone());
    let mut without = ring;
    without.remove("i2");
    let change = here.merge(&without, MergeKind::Local, 50).unwrap();
    there.merge(&change, MergeKind::Remote, 50);
    assert_eq!(there.get("i2").unwrap().state, InstanceState::Left);
    assert_eq!(here, there);
}

#[test]
fn a_record_from_far_ahead_is_refused_alone_and_one_of_a_clock_that_is_off_taken() {
    let now_s = 1_000_000;
    let beat = |id: usize, ahead_s: i64| Instance {
        timestamp_s: now_s + ahead_s,
        ..record(id, 5, false)
    };
    let merge = |ahead_s: i64, kind, bound| {
        let ring: RingDesc = [beat(1, ahead_s), beat(2, -1)].into_iter().collect();
        let bytes = RingCodec::encode(&ring).unwrap();
        let outcome = RingCodec.merge(None, &bytes, kind, bound).unwrap().outcome;
        let change = RingCodec::decode(&outcome.change.unwrap()).unwrap();
        let taken: Vec<_> = change.iter().map(|i| i.id.clone()).collect();
        (taken, outcome.refused_ahead_s)
    };
    let remote = |ahead_s| merge(ahead_s, MergeKind::Remote, time(now_s));
    assert_eq!(remote(3600), (vec!["i1".into(), "i2".into()], None));
    for ahead_s in [3601, i64::MAX - now_s] {
        assert_eq!(remote(ahead_s), (vec!["i2".into()], Some(ahead_s)));
    }
    // The bound is the store's.
    let strict = MergeTime {
        now_unix_s: now_s,
        max_ahead_s: 10,
    };
    assert_eq!(merge(11, MergeKind::Remote, strict).1, Some(11));
    // What is written here is written by this clock.
    assert_eq!(merge(3601, MergeKind::Local, time(now_s)).1, None);
}

#[test]
fn a_record_taken_while_the_clock_ran_ahead_gives_way_once_it_is_right() {
    let mut open = RingCodec.open(None).unwrap().unwrap();
    let mut hear = |ring: RingDesc, kind, now_s| {
        let bytes = RingCodec::encode(&ring).unwrap();
        open.merge(&bytes, kind, time(now_s)).unwrap();
        RingCodec::decode(&open.encode().unwrap()).unwrap()
    };
    let day = 86_400;
    // With a clock a day ahead it forgot an instance.
    let lives: RingDesc = [record(1, 90, false)].into_iter().collect();
    hear(lives.clone(), MergeKind::Remote, 100 + day);
    let buried = hear(RingDesc::new(), MergeKind::Local, 100 + day);
    assert_eq!(buried.get("i1").unwrap().state, InstanceState::Left);
    // The next heartbeat after the clock was set right says otherwise.
    let beat: RingDesc = [record(1, 105, false)].into_iter().collect();
    let ring = hear(beat.clone(), MergeKind::Remote, 110);
    assert_eq!(ring, beat);
}

#[test]
fn a_record_written_after_the_clock_was_set_right_is_newer_everywhere() {
    let ahead = record(1, 5000, false);
    let mut healed = record(1, 20, false);
    healed.clock_epoch = ahead.stamp().next(20).clock_epoch;
    assert_eq!(healed.clock_epoch, 1);
    let [ahead, healed]: [RingDesc; 2] = [ahead, healed].map(|i| [i].into_iter().collect());
    assert_eq!(merged(&ahead, &healed), healed);
    assert_eq!(merged(&healed, &ahead), healed);
    // And so it goes on.
    let next = healed.get("i1").unwrap().stamp().next(35);
    assert_eq!((next.clock_epoch, next.timestamp_s), (1, 35));
}

#[test]
fn who_lives_outbids_a_tombstone_of_a_clock_that_runs_ahead() {
    let mut ring: RingDesc = [record(1, 500, true), record(2, 20, false)]
        .into_iter()
        .collect();
    let mut other = ring.clone();
    // A heartbeat that was on its way does not.
    let late: RingDesc = [record(1, 30, false)].into_iter().collect();
    assert_eq!(ring.merge(&late, MergeKind::Remote, 30), None);
    // Its own process, which does not see the tombstone, writes it anew.
    let mut visible = ring.without_tombstones();
    visible.insert(record(1, 31, false));
    let change = ring.merge(&visible, MergeKind::Local, 31).unwrap();
    assert_eq!(change.len(), 1);
    let own = ring.get("i1").unwrap();
    assert_eq!(
        (own.timestamp_s, own.clock_epoch),
        (31, 1),
        "not beyond its own clock"
    );
    other.merge(&change, MergeKind::Remote, 31);
    assert_eq!(ring, other);
    assert_ne!(other.get("i1").unwrap().state, InstanceState::Left);
    // One at the end of time is outbid, too.
    let mut end: RingDesc = [record(1, 0, true)].into_iter().collect();
    end.get_mut("i1").unwrap().timestamp_s = i64::MAX;
    let visible: RingDesc = [record(1, 31, false)].into_iter().collect();
    assert!(end.merge(&visible, MergeKind::Local, 31).is_some());
    assert_eq!(end.get("i1").unwrap().timestamp_s, 31);
}
