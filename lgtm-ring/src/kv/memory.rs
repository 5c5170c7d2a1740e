//! Values in this process: the reference of the trait, and the store of a process that is alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use lgtm_core::Result;
use parking_lot::Mutex;

use crate::kv::kv::{Kv, MAX_CAS_ATTEMPTS, check_key, too_many_conflicts};
use crate::kv::watch::{KvWatch, Scope, Watchers};

/// A store in memory. Clones share it: give one to all parts of a process that must see each other.
///
/// It holds what is put into it and drops nothing; its size is that of the rings of one process.
#[derive(Debug, Clone, Default)]
pub struct MemoryKv(Arc<Mutex<MemoryState>>);

#[derive(Debug, Default)]
struct MemoryState {
    values: BTreeMap<String, Versioned>,
    /// Counts all writes, deletions too: a key that was deleted and made anew has another version.
    writes: u64,
    watchers: Watchers,
}

#[derive(Debug, Clone)]
struct Versioned {
    value: Bytes,
    version: u64,
}

impl MemoryKv {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn read(&self, key: &str) -> Option<Versioned> {
        self.0.lock().values.get(key).cloned()
    }

    /// Writes if the key still has the version that was read; 0 stands for no value.
    fn write(&self, key: &str, seen: u64, value: Bytes) -> bool {
        let mut state = self.0.lock();
        if state.values.get(key).map_or(0, |v| v.version) != seen {
            return false;
        }
        state.writes += 1;
        let version = state.writes;
        state.watchers.notify(key, Some(&value));
        state
            .values
            .insert(key.to_owned(), Versioned { value, version });
        true
    }

    fn watch(&self, scope: Scope) -> KvWatch {
        let mut state = self.0.lock();
        let MemoryState {
            values, watchers, ..
        } = &mut *state;
        let current: Vec<_> = values
            .iter()
            .filter(|(key, _)| scope.covers(key))
            .map(|(key, v)| (key.clone(), v.value.clone()))
            .collect();
        watchers.add(scope, current.into_iter())
    }
}

#[async_trait]
impl Kv for MemoryKv {
    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        check_key(key)?;
        Ok(self.read(key).map(|v| v.value))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>> {
        let state = self.0.lock();
        let from = state.values.range(prefix.to_owned()..);
        Ok(from
            .map(|(key, _)| key)
            .take_while(|key| key.starts_with(prefix))
            .cloned()
            .collect())
    }

    async fn delete(&self, key: &str) -> Result<()> {
        check_key(key)?;
        let mut state = self.0.lock();
        if state.values.remove(key).is_some() {
            state.writes += 1;
            state.watchers.notify(key, None);
        }
        Ok(())
    }

    async fn cas(
        &self,
        key: &str,
        change: &mut (dyn FnMut(Option<Bytes>) -> Result<Option<Bytes>> + Send),
    ) -> Result<()> {
        check_key(key)?;
        for _ in 0..MAX_CAS_ATTEMPTS {
            let (current, seen) = match self.read(key) {
                Some(v) => (Some(v.value), v.version),
                None => (None, 0),
            };
            // Not under the lock: `change` may take its time, and may ask this store.
            let Some(value) = change(current)? else {
                return Ok(());
            };
            if self.write(key, seen, value) {
                return Ok(());
            }
        }
        Err(too_many_conflicts(key))
    }

    async fn watch_key(&self, key: &str) -> Result<KvWatch> {
        check_key(key)?;
        Ok(self.watch(Scope::Key(key.to_owned())))
    }

    async fn watch_prefix(&self, prefix: &str) -> Result<KvWatch> {
        Ok(self.watch(Scope::Prefix(prefix.to_owned())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lgtm_core::ErrorKind;

    #[tokio::test]
    async fn a_key_made_anew_is_not_the_one_that_was_read() {
        let kv = MemoryKv::new();
        let set = |text: &'static str| move |_| Ok(Some(Bytes::from_static(text.as_bytes())));
        kv.cas("k", &mut set("1")).await.unwrap();
        let other = kv.clone();
        let mut calls = 0;
        kv.cas("k", &mut |_| {
            calls += 1;
            if calls == 1 {
                assert!(other.0.lock().values.remove("k").is_some());
                assert!(other.write("k", 0, Bytes::from_static(b"1")));
            }
            Ok(Some(Bytes::from_static(b"2")))
        })
        .await
        .unwrap();
        assert_eq!(calls, 2);
    }

    #[tokio::test]
    async fn whoever_always_loses_gets_a_conflict() {
        let kv = MemoryKv::new();
        let other = kv.clone();
        let mut version = 0;
        let lost = kv
            .cas("k", &mut |_| {
                assert!(other.write("k", version, Bytes::from_static(b"theirs")));
                version += 1;
                Ok(Some(Bytes::from_static(b"ours")))
            })
            .await;
        assert_eq!(lost.unwrap_err().kind(), ErrorKind::Conflict);
        assert_eq!(version as usize, MAX_CAS_ATTEMPTS);
    }
}
