//! What every key-value back end must do.

use std::time::Duration;

use bytes::Bytes;
use lgtm_core::{Error, ErrorKind, Result};

use crate::kv::{Kv, KvUpdate, KvWatch, MAX_KEY_BYTES};
use crate::testing::mergeable::LwwMap;

/// How long the suite waits for something that must come.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs the suite on a store that nobody else writes to, and that is empty below `suite/`. It leaves nothing there, as far as
/// readers see.
///
/// Values are [`LwwMap`]s, since a gossip store takes only values that it can merge; open it with
/// [`LwwCodec`](crate::testing::LwwCodec) for keys below `suite/`. The store must be driven (its services run) in the background.
///
/// # Panics
/// When the back end does not keep a promise.
pub async fn kv_suite(kv: &dyn Kv) {
    values_come_back(kv).await;
    a_change_of_nothing_writes_nothing(kv).await;
    errors_of_the_change_come_out(kv).await;
    lists_are_sorted_and_by_prefix(kv).await;
    deleted_keys_are_gone_and_can_be_made_anew(kv).await;
    members_left_out_are_removed(kv).await;
    a_watch_begins_with_the_value_and_ends_with_the_newest(kv).await;
    a_watch_of_a_missing_key_waits_for_it(kv).await;
    a_watch_of_a_prefix_sees_its_keys_and_no_others(kv).await;
    odd_keys_are_kept_or_refused(kv).await;
    large_values_come_back(kv).await;
    tidy(kv).await;
}

/// Adds 1 to a counter `each` times from each of `stores`, at once; every addition must be there at the end. For stores that agree;
/// `stores` are clients of the same one.
///
/// # Panics
/// When an addition is lost.
pub async fn concurrent_counters(stores: &[&dyn Kv], each: usize) {
    let adders = stores.iter().map(|kv| async move {
        for _ in 0..each {
            loop {
                let added = kv.cas("suite/counter", &mut add_one).await;
                match added {
                    Ok(()) => break,
                    Err(error) if error.kind() == ErrorKind::Conflict => {}
                    Err(error) => panic!("cas failed: {error}"),
                }
            }
        }
    });
    join_all(adders).await;
    let value = stores[0].get("suite/counter").await.expect("get");
    let map = LwwMap::decode(&value.expect("a value")).expect("a map");
    let count = map.0["count"].at_unix_s;
    assert_eq!(count as usize, stores.len() * each, "additions were lost");
    stores[0].delete("suite/counter").await.expect("delete");
}

/// A counter is a member whose time counts.
fn add_one(current: Option<Bytes>) -> Result<Option<Bytes>> {
    let mut map = decode(current)?;
    let before = map.0.get("count").map_or(0, |e| e.at_unix_s);
    map.set("count", before + 1, "");
    Ok(Some(map.encode()))
}

/// Polls all futures of a list at once, on this task.
async fn join_all(futures: impl Iterator<Item = impl Future<Output = ()>>) {
    let mut pending: Vec<_> = futures.map(Box::pin).collect();
    std::future::poll_fn(|cx| {
        pending.retain_mut(|f| f.as_mut().poll(cx).is_pending());
        if pending.is_empty() {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
}

fn decode(value: Option<Bytes>) -> Result<LwwMap> {
    value.map_or_else(|| Ok(LwwMap::default()), |bytes| LwwMap::decode(&bytes))
}

async fn set(kv: &dyn Kv, key: &str, at: i64, text: &str) {
    kv.cas(key, &mut |current| {
        let mut map = decode(current)?;
        map.set("m", at, text);
        Ok(Some(map.encode()))
    })
    .await
    .unwrap_or_else(|e| panic!("cas {key}: {e}"));
}

async fn text(kv: &dyn Kv, key: &str) -> Option<String> {
    let value = kv
        .get(key)
        .await
        .unwrap_or_else(|e| panic!("get {key}: {e}"));
    text_of(value.as_ref())
}

fn text_of(value: Option<&Bytes>) -> Option<String> {
    let map = LwwMap::decode(value?).expect("a value that was written");
    map.0.get("m").and_then(|e| e.text.clone())
}

async fn next(watch: &mut KvWatch) -> KvUpdate {
    let update = tokio::time::timeout(PATIENCE, watch.next()).await;
    update.expect("an update in time").expect("an open watch")
}

/// Reads on until `key` has `text`.
async fn until(watch: &mut KvWatch, key: &str, text: Option<&str>) {
    loop {
        let update = next(watch).await;
        if update.key == key && text_of(update.value.as_ref()).as_deref() == text {
            return;
        }
    }
}

async fn values_come_back(kv: &dyn Kv) {
    assert_eq!(kv.get("suite/absent").await.expect("get"), None);
    set(kv, "suite/a", 1, "one").await;
    assert_eq!(text(kv, "suite/a").await.as_deref(), Some("one"));
    let mut seen = None;
    kv.cas("suite/a", &mut |current| {
        seen = text_of(current.as_ref());
        let mut map = decode(current)?;
        map.set("m", 2, "two");
        Ok(Some(map.encode()))
    })
    .await
    .expect("cas");
    assert_eq!(
        seen.as_deref(),
        Some("one"),
        "the change sees what is there"
    );
    assert_eq!(text(kv, "suite/a").await.as_deref(), Some("two"));
}

async fn a_change_of_nothing_writes_nothing(kv: &dyn Kv) {
    let mut calls = 0;
    kv.cas("suite/nothing", &mut |current| {
        calls += 1;
        assert_eq!(current, None);
        Ok(None)
    })
    .await
    .expect("cas");
    assert_eq!(
        (calls, kv.get("suite/nothing").await.expect("get")),
        (1, None)
    );
}

async fn errors_of_the_change_come_out(kv: &dyn Kv) {
    let refused = kv
        .cas("suite/a", &mut |_| {
            Err(Error::LimitExceeded("enough".into()))
        })
        .await;
    assert_eq!(
        refused.expect_err("refused").kind(),
        ErrorKind::LimitExceeded
    );
    assert_eq!(text(kv, "suite/a").await.as_deref(), Some("two"));
}

async fn lists_are_sorted_and_by_prefix(kv: &dyn Kv) {
    for key in [
        "suite/list/c",
        "suite/list/a",
        "suite/list/b/d",
        "suite/lisu",
    ] {
        set(kv, key, 1, key).await;
    }
    let listed = kv.list("suite/list/").await.expect("list");
    assert_eq!(listed, ["suite/list/a", "suite/list/b/d", "suite/list/c"]);
    let all = kv.list("").await.expect("list");
    assert!(all.iter().any(|k| k == "suite/lisu"), "{all:?}");
    assert!(kv.list("suite/none").await.expect("list").is_empty());
}

async fn deleted_keys_are_gone_and_can_be_made_anew(kv: &dyn Kv) {
    set(kv, "suite/gone", 1, "first").await;
    kv.delete("suite/gone").await.expect("delete");
    assert_eq!(kv.get("suite/gone").await.expect("get"), None);
    assert!(kv.list("suite/gone").await.expect("list").is_empty());
    kv.delete("suite/gone").await.expect("a second delete");
    kv.delete("suite/never").await.expect("delete of nothing");
    kv.cas("suite/gone", &mut |current| {
        assert_eq!(current, None, "a deleted value is not seen by a change");
        let mut map = LwwMap::default();
        map.set("m", 2, "second");
        Ok(Some(map.encode()))
    })
    .await
    .expect("cas");
    assert_eq!(text(kv, "suite/gone").await.as_deref(), Some("second"));
}

async fn members_left_out_are_removed(kv: &dyn Kv) {
    let write = async |names: &[&str]| {
        kv.cas("suite/members", &mut |_| {
            let mut map = LwwMap::default();
            names.iter().for_each(|name| map.set(name, 5, "x"));
            Ok(Some(map.encode()))
        })
        .await
        .expect("cas");
    };
    write(&["a", "b"]).await;
    write(&["b"]).await;
    let value = kv.get("suite/members").await.expect("get").expect("value");
    let map = LwwMap::decode(&value).expect("map");
    assert_eq!(
        map.0.keys().collect::<Vec<_>>(),
        ["b"],
        "no tombstone shows"
    );
}

async fn a_watch_begins_with_the_value_and_ends_with_the_newest(kv: &dyn Kv) {
    set(kv, "suite/watch", 1, "before").await;
    let mut watch = kv.watch_key("suite/watch").await.expect("watch");
    let first = next(&mut watch).await;
    assert_eq!(first.key, "suite/watch");
    assert_eq!(text_of(first.value.as_ref()).as_deref(), Some("before"));
    for n in 2..20 {
        set(kv, "suite/watch", n, &n.to_string()).await;
    }
    until(&mut watch, "suite/watch", Some("19")).await;
    set(kv, "suite/watch", 20, "after").await;
    until(&mut watch, "suite/watch", Some("after")).await;
    kv.delete("suite/watch").await.expect("delete");
    loop {
        if next(&mut watch).await.value.is_none() {
            break;
        }
    }
}

async fn a_watch_of_a_missing_key_waits_for_it(kv: &dyn Kv) {
    let mut watch = kv.watch_key("suite/later").await.expect("watch");
    let early = tokio::time::timeout(Duration::from_millis(50), watch.next()).await;
    assert!(early.is_err(), "there is nothing to tell: {early:?}");
    set(kv, "suite/later", 1, "now").await;
    until(&mut watch, "suite/later", Some("now")).await;
}

async fn a_watch_of_a_prefix_sees_its_keys_and_no_others(kv: &dyn Kv) {
    set(kv, "suite/p/1", 1, "old").await;
    let mut watch = kv.watch_prefix("suite/p/").await.expect("watch");
    until(&mut watch, "suite/p/1", Some("old")).await;
    set(kv, "suite/q", 1, "elsewhere").await;
    set(kv, "suite/p/2", 1, "new").await;
    loop {
        let update = next(&mut watch).await;
        assert!(update.key.starts_with("suite/p/"), "{update:?}");
        if text_of(update.value.as_ref()).as_deref() == Some("new") {
            break assert_eq!(update.key, "suite/p/2");
        }
    }
}

async fn odd_keys_are_kept_or_refused(kv: &dyn Kv) {
    for key in ["suite/ä b?c#d%2F&e=f", "suite/\"quoted\"\\"] {
        set(kv, key, 1, "odd").await;
        assert_eq!(text(kv, key).await.as_deref(), Some("odd"), "{key}");
        assert_eq!(kv.list(key).await.expect("list"), [key]);
    }
    let long = "k".repeat(MAX_KEY_BYTES + 1);
    for key in ["", "suite/\n", long.as_str()] {
        let kind = |r: Result<()>| r.expect_err("a bad key").kind();
        assert_eq!(kind(kv.get(key).await.map(drop)), ErrorKind::InvalidInput);
        assert_eq!(kind(kv.delete(key).await), ErrorKind::InvalidInput);
        assert_eq!(
            kind(kv.cas(key, &mut |_| Ok(None)).await),
            ErrorKind::InvalidInput
        );
        assert_eq!(
            kind(kv.watch_key(key).await.map(drop)),
            ErrorKind::InvalidInput
        );
    }
}

async fn large_values_come_back(kv: &dyn Kv) {
    // What a ring of some hundred instances takes.
    let large = "x".repeat(400_000);
    set(kv, "suite/large", 1, &large).await;
    assert_eq!(text(kv, "suite/large").await, Some(large));
}

async fn tidy(kv: &dyn Kv) {
    for key in kv.list("suite/").await.expect("list") {
        kv.delete(&key).await.expect("delete");
    }
    assert!(kv.list("suite/").await.expect("list").is_empty());
}
