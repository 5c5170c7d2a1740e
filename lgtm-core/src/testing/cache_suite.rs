//! What every [`Cache`] must do.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;

use crate::cache::{Cache, CacheExt};
use crate::testing::dice::Dice;

/// Runs the suite on an empty cache that has room for 1 MiB at least and to which nobody else speaks.
///
/// `pass` lets time go by: it moves a manual clock, or sleeps. Values that a cache writes in the background must be readable when `set`
/// returns, for the suite; wrap it so if it is not.
///
/// # Panics
/// When the cache does not keep a promise.
pub async fn cache_suite(cache: &dyn Cache, pass: impl AsyncFn(Duration)) {
    values_come_back(cache).await;
    many_keys_are_answered_in_order(cache).await;
    deleted_keys_are_gone(cache).await;
    values_expire(cache, pass).await;
    concurrent_writers_leave_one_of_their_values(cache).await;
    what_is_found_is_the_newest(cache).await;
}

/// Random operations beside a naive model: a value may be forgotten, but what is found is what was set last.
async fn what_is_found_is_the_newest(cache: &dyn Cache) {
    let mut dice = Dice::seeded(7);
    let mut model: HashMap<String, Bytes> = HashMap::new();
    let mut found_any = false;
    for round in 0..400u32 {
        let key = format!("suite/model/{}", dice.below(20));
        match dice.below(4) {
            0 => {
                cache.delete(&key).await;
                model.remove(&key);
            }
            1 => {
                let found = cache.get(&key).await;
                assert!(
                    found.is_none() || found.as_ref() == model.get(&key),
                    "{key} is {found:?}, set was {:?}",
                    model.get(&key)
                );
                found_any |= found.is_some();
            }
            _ => {
                let value = Bytes::from(round.to_string().repeat(dice.below(200) as usize));
                cache.set(&key, value.clone(), None).await;
                model.insert(key, value);
            }
        }
    }
    assert!(found_any, "nothing of what was just set is found");
}

async fn values_come_back(cache: &dyn Cache) {
    assert_eq!(cache.get("suite/absent").await, None);
    let binary: Vec<u8> = (0..=255).collect();
    for value in [&b""[..], b"a", b"\r\nEND\r\n", &binary, &[7; 100_000]] {
        cache
            .set("suite/value", Bytes::copy_from_slice(value), None)
            .await;
        let found = cache.get("suite/value").await.expect("a value just set");
        assert_eq!(found, value, "the newest value, byte by byte");
    }
    let longest = "k".repeat(250);
    cache.set(&longest, Bytes::from_static(b"long"), None).await;
    assert_eq!(cache.get(&longest).await.as_deref(), Some(&b"long"[..]));
    assert_eq!(
        cache.get(&longest[1..]).await,
        None,
        "a prefix is another key"
    );
}

async fn many_keys_are_answered_in_order(cache: &dyn Cache) {
    assert!(cache.get_many(&[]).await.is_empty());
    for i in (0..300).step_by(2) {
        let value = Bytes::from(format!("value-{i}"));
        cache.set(&format!("suite/many/{i}"), value, None).await;
    }
    let keys: Vec<_> = (0..300).rev().map(|i| format!("suite/many/{i}")).collect();
    let mut asked: Vec<&str> = keys.iter().map(String::as_str).collect();
    asked.push("suite/many/0");
    let found = cache.get_many(&asked).await;
    assert_eq!(found.len(), 301, "one answer for each key, doubles too");
    for (i, value) in (0..300).rev().chain([0]).zip(found) {
        let wanted = (i % 2 == 0).then(|| Bytes::from(format!("value-{i}")));
        assert_eq!(value, wanted, "key {i}");
    }
}

async fn deleted_keys_are_gone(cache: &dyn Cache) {
    cache
        .set("suite/deleted", Bytes::from_static(b"x"), None)
        .await;
    cache
        .set("suite/kept", Bytes::from_static(b"y"), None)
        .await;
    cache.delete("suite/deleted").await;
    cache.delete("suite/never-there").await;
    let found = cache.get_many(&["suite/deleted", "suite/kept"]).await;
    assert_eq!(found, [None, Some(Bytes::from_static(b"y"))]);
}

async fn values_expire(cache: &dyn Cache, pass: impl AsyncFn(Duration)) {
    let short = Some(Duration::from_secs(2));
    let long = Some(Duration::from_secs(3600));
    let value = Bytes::from_static(b"x");
    cache.set("suite/short", value.clone(), short).await;
    cache.set("suite/long", value.clone(), long).await;
    cache.set("suite/forever", value.clone(), None).await;
    cache.set("suite/renewed", value.clone(), short).await;
    cache.set("suite/renewed", value.clone(), long).await;
    assert!(cache.get("suite/short").await.is_some());
    pass(Duration::from_secs(3)).await;
    assert_eq!(cache.get("suite/short").await, None, "its time is over");
    for key in ["suite/long", "suite/forever", "suite/renewed"] {
        assert!(cache.get(key).await.is_some(), "{key} has time left");
    }
}

async fn concurrent_writers_leave_one_of_their_values(cache: &dyn Cache) {
    let writes = (0..50u8).map(|i| cache.set("suite/raced", Bytes::from(vec![i; 64]), None));
    futures::future::join_all(writes).await;
    let found = cache.get("suite/raced").await.expect("a value just set");
    assert_eq!(found.len(), 64);
    assert!(
        found[0] < 50 && found.iter().all(|b| *b == found[0]),
        "no mixture"
    );
}
