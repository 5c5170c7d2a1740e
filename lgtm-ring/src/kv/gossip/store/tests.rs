use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::testing::{LwwCodec, LwwMap};

fn settings() -> GossipSettings {
    GossipSettings {
        max_keys: 3,
        ..GossipSettings::for_cluster("test")
    }
}

fn store() -> ValueStore {
    let codecs = Codecs::new().with("r", Arc::new(LwwCodec));
    ValueStore::new(codecs, &settings())
}

/// `s` seconds into the test.
fn at(s: i64) -> Now {
    Now {
        monotonic: Duration::from_secs(s.max(0) as u64),
        unix_ms: 1_000_000 + s * 1000,
    }
}

fn map(members: &[(&str, i64)]) -> Bytes {
    let mut map = LwwMap::default();
    members
        .iter()
        .for_each(|(name, at)| map.set(name, *at, "x"));
    map.encode()
}

fn write(store: &mut ValueStore, value: &Bytes, now: Now) -> StoreWrite {
    let (_, seen) = store.read("r").unwrap();
    store.write("r", seen, value, now).unwrap()
}

fn pair(outcome: StoreWrite) -> Pair {
    match outcome {
        StoreWrite::Changed(Some(pair)) => pair,
        other => panic!("{other:?}"),
    }
}

fn visible(store: &mut ValueStore) -> Option<Bytes> {
    store.read("r").unwrap().0
}

#[test]
fn a_write_on_an_old_version_is_outdated() {
    let mut s = store();
    pair(write(&mut s, &map(&[("a", 1)]), at(0)));
    let (_, seen) = s.read("r").unwrap();
    pair(write(&mut s, &map(&[("a", 2)]), at(0)));
    let late = s.write("r", seen, &map(&[("a", 3)]), at(0)).unwrap();
    assert_eq!(late, StoreWrite::Outdated);
    assert_eq!(
        write(&mut s, &map(&[("a", 2)]), at(0)),
        StoreWrite::Unchanged
    );
}

#[test]
fn only_the_change_is_told_and_only_news_is_passed_on() {
    let (mut a, mut b) = (store(), store());
    let first = pair(write(&mut a, &map(&[("a", 1), ("b", 1)]), at(0)));
    let second = pair(write(&mut a, &map(&[("a", 1), ("b", 2)]), at(1)));
    assert_eq!(second.value, map(&[("b", 2)]));
    let news = b.receive(&second, at(1)).unwrap().news.unwrap();
    assert_eq!(news.value, map(&[("b", 2)]));
    let news = b.receive(&first, at(1)).unwrap().news.unwrap();
    assert_eq!(news.value, map(&[("a", 1)]), "b is known already");
    assert_eq!(b.receive(&first, at(1)).unwrap().news, None);
    assert_eq!(visible(&mut a), visible(&mut b));
}

#[test]
fn a_removed_member_leaves_a_tombstone_for_a_while_that_readers_do_not_see() {
    let (mut a, mut b) = (store(), store());
    let both = pair(write(&mut a, &map(&[("a", 1), ("b", 1)]), at(0)));
    let removal = pair(write(&mut a, &map(&[("b", 1)]), at(1)));
    assert_eq!(visible(&mut a), Some(map(&[("b", 1)])));
    b.receive(&removal, at(2)).unwrap().news.unwrap();
    b.receive(&both, at(2)).unwrap().news.unwrap();
    assert_eq!(
        visible(&mut b),
        Some(map(&[("b", 1)])),
        "a does not come back"
    );
    let count = |s: &ValueStore| s.tombstones().next().unwrap().1;
    assert_eq!((count(&b).left, count(&b).removed), (1, 0));
    // Six minutes later any merge drops it, and nobody is told of what was dropped.
    write(&mut b, &map(&[("b", 2)]), at(400));
    assert_eq!((count(&b).left, count(&b).removed), (0, 1));
    assert_eq!(b.receive(&removal, at(401)).unwrap().news, None);
    assert_eq!(count(&b).left, 0);
}

#[test]
fn a_deleted_key_is_gone_until_something_newer_comes() {
    let (mut a, mut b) = (store(), store());
    let old = pair(write(&mut a, &map(&[("a", 1)]), at(0)));
    b.receive(&old, at(0)).unwrap();
    let deletion = a.delete("r", at(1)).unwrap();
    assert_eq!((a.delete("r", at(1)), visible(&mut a)), (None, None));
    assert!(a.list("").is_empty());
    assert_eq!(
        store().receive(&deletion, at(1)).unwrap().news,
        None,
        "nothing to delete"
    );
    assert!(b.receive(&deletion, at(1)).unwrap().news.unwrap().deleted);
    assert_eq!(b.receive(&deletion, at(1)).unwrap().news, None);
    assert_eq!(
        b.receive(&old, at(2)).unwrap().news,
        None,
        "older than the deletion"
    );
    let newer = pair(write(&mut a, &map(&[("b", 5)]), at(3)));
    assert!(b.receive(&newer, at(3)).unwrap().news.is_some());
    assert_eq!(
        visible(&mut b),
        Some(map(&[("b", 5)])),
        "without the member of before"
    );
    assert_eq!(
        b.receive(&deletion, at(3)).unwrap().news,
        None,
        "older than the value"
    );
    assert!(visible(&mut b).is_some());
    b.delete("r", at(4));
    b.forget_deleted(at(3).monotonic);
    assert_eq!(b.len(), 1);
    b.forget_deleted(at(4).monotonic);
    assert_eq!(b.len(), 0);
}

#[test]
fn a_member_with_a_slow_clock_can_still_write_after_a_deletion() {
    let mut s = store();
    write(&mut s, &map(&[("a", 1)]), at(100));
    let deletion = s.delete("r", at(100)).unwrap();
    let back = pair(write(&mut s, &map(&[("a", 2)]), at(5)));
    assert!(back.update_time_ms > deletion.update_time_ms);
}

#[test]
fn one_whose_clock_runs_far_ahead_is_refused_and_those_beside_it_taken() {
    let (mut ahead, mut s) = (store(), store());
    let now_s = at(0).unix_s();
    let members = map(&[("late", now_s + 7_200), ("well", now_s)]);
    let far = pair(write(&mut ahead, &members, at(7_200)));
    let ReceivedPair { news, refused } = s.receive(&far, at(0)).unwrap();
    assert_eq!(refused.unwrap().reason(), "future");
    // What is passed on is stamped no further ahead than another believes, and its own members are all there.
    let news = news.unwrap();
    assert_eq!(news.value, map(&[("well", now_s)]));
    assert_eq!(news.update_time_ms, at(3_600).unix_ms);
    assert_eq!(visible(&mut s), Some(map(&[("well", now_s)])));
    // A third whose clock is a minute behind takes it, too.
    let mut behind = store();
    let taken = behind.receive(&news, at(-60)).unwrap();
    assert!(taken.refused.is_none());
    assert_eq!(visible(&mut behind), visible(&mut s));
    // The clock that ran ahead is set right: what its member writes and deletes is believed again.
    let back = pair(write(&mut ahead, &map(&[("well", now_s + 1)]), at(1)));
    assert!(back.update_time_ms <= at(3_601).unix_ms);
    assert!(s.receive(&back, at(1)).unwrap().refused.is_none());
    let deletion = ahead.delete("r", at(2)).unwrap();
    assert!(s.receive(&deletion, at(2)).unwrap().news.is_some());
}

#[test]
fn what_is_not_fit_is_refused_and_changes_nothing() {
    let mut s = store();
    let good = pair(write(&mut s, &map(&[("a", 1)]), at(0)));
    let refused = |s: &mut ValueStore, change: fn(&mut Pair)| {
        let mut bad = good.clone();
        change(&mut bad);
        s.receive(&bad, at(0)).unwrap_err().reason()
    };
    assert_eq!(refused(&mut s, |p| p.key = "x".into()), "unknown_codec");
    assert_eq!(
        refused(&mut s, |p| p.codec = "other".into()),
        "codec_mismatch"
    );
    assert_eq!(
        refused(&mut s, |p| p.value = Bytes::from_static(b"junk")),
        "value"
    );
    assert_eq!(
        refused(&mut s, |p| {
            p.deleted = true;
            p.update_time_ms += 4_000_000;
        }),
        "future"
    );
    s.max_value_bytes = 2;
    assert_eq!(refused(&mut s, |_| ()), "oversize");
    assert!(s.write("r", 1, &map(&[("a", 2)]), at(0)).is_err());
    s.max_value_bytes = 1000;
    assert!(
        s.write("x", 0, &map(&[("a", 2)]), at(0)).is_err(),
        "no codec"
    );
    for key in ["r1", "r2"] {
        s.write(key, 0, &map(&[("a", 2)]), at(0)).unwrap();
    }
    assert_eq!(refused(&mut s, |p| p.key = "r3".into()), "full");
    assert!(s.write("r3", 0, &map(&[("a", 2)]), at(0)).is_err());
    assert_eq!(visible(&mut s), Some(map(&[("a", 1)])));
    assert_eq!(
        refused(&mut s, |p| {
            p.key = "r".into();
            p.value = Bytes::from_static(b"\xff\xff\xff\xff\xff");
        }),
        "value"
    );
}

/// One thing said to the cluster.
fn said() -> impl Strategy<Value = Pair> {
    let member = (
        prop::sample::select(vec!["a", "b", "c"]),
        0i64..6,
        any::<bool>(),
    );
    let members = prop::collection::vec(member, 1..4);
    (members, 0i64..6).prop_map(|(members, time)| {
        let mut map = LwwMap::default();
        for (name, at, alive) in members {
            map.set(name, at, "x");
            if !alive && let Some(entry) = map.0.get_mut(name) {
                entry.text = None;
            }
        }
        Pair {
            key: "r".into(),
            value: map.encode(),
            codec: "lwwMap".into(),
            deleted: false,
            update_time_ms: time * 1000,
        }
    })
}

proptest! {
    #[test]
    fn the_order_and_repetition_of_messages_do_not_matter(
        said in prop::collection::vec(said(), 1..8), order: u64, again in 0usize..8,
    ) {
        let now = Now { monotonic: Duration::ZERO, unix_ms: 10_000 };
        let (mut a, mut b) = (store(), store());
        let mut shuffled = said.clone();
        for i in (1..shuffled.len()).rev() {
            shuffled.swap(i, (order >> i) as usize % (i + 1));
        }
        shuffled.push(said[again % said.len()].clone());
        for pair in &said {
            a.receive(pair, now).unwrap();
        }
        for pair in &shuffled {
            b.receive(pair, now).unwrap();
        }
        prop_assert_eq!(a.all().collect::<Vec<_>>(), b.all().collect::<Vec<_>>());
    }
}
