//! What this member knows: values under keys, merged from all that was said.
//!
//! Pure: bytes and time in, changes out. Two members that were told the same, in whatever order, hold the same.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use lgtm_core::{Error, Result};

use crate::kv::codec::{MergeKind, MergeTime, OpenValue, TombstoneCount, ValueCodec, open_value};
use crate::kv::gossip::codecs::Codecs;
use crate::kv::gossip::pair::Pair;
use crate::kv::gossip::refusal::Refusal;
use crate::kv::gossip::settings::GossipSettings;
use crate::kv::gossip::state::Now;
use crate::kv::watch::{KvWatch, Scope, Watchers};

/// Tombstones have their time in whole seconds, and looking for old ones walks the value: once a second is enough.
const PURGE_EVERY: std::time::Duration = std::time::Duration::from_secs(1);

/// What a framed pair takes beside key, codec and value: a length, five tags with their lengths or numbers.
const MAX_FRAME_BYTES: usize = 4 + 3 * 6 + 2 + 11;

#[derive(Debug)]
struct StoredValue {
    codec: std::sync::Arc<dyn ValueCodec>,
    value: Box<dyn OpenValue>,
    /// Counts local changes of the entry, so that a compare-and-set sees whether somebody was faster.
    version: u64,
    /// When the newest change was made, by the clock of whoever made it as far as that is believed. Decides between a change and a deletion of the key.
    update_time_ms: i64,
    /// Since when, by the monotonic clock here, the key is deleted.
    deleted_at: Option<std::time::Duration>,
    tombstones: TombstoneCount,
    /// When old tombstones were looked for.
    purged_at: Option<std::time::Duration>,
    /// What readers get, once somebody asked.
    visible: Option<Bytes>,
}

impl StoredValue {
    fn visible(&mut self) -> Result<Bytes> {
        if let Some(visible) = &self.visible {
            return Ok(visible.clone());
        }
        let visible = self.value.encode_visible()?;
        self.visible = Some(visible.clone());
        Ok(visible)
    }
}

/// What became of a local write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum StoreWrite {
    /// Taken; the change is to be told, if there is any left after old tombstones went.
    Changed(Option<Pair>),
    /// Somebody else was faster; read again.
    Outdated,
    /// The merge saw nothing newer in it.
    Unchanged,
}

/// What came of a pair that another member sent.
#[derive(Debug, Default)]
pub(super) struct ReceivedPair {
    /// What was new in it and is to be passed on.
    pub(super) news: Option<Pair>,
    /// Why some members in it were not taken.
    pub(super) refused: Option<Refusal>,
}

/// The values.
#[derive(Debug)]
pub(super) struct ValueStore {
    codecs: Codecs,
    entries: BTreeMap<String, StoredValue>,
    watchers: Watchers,
    /// Keys whose watchers were not told yet.
    dirty: BTreeSet<String>,
    next_version: u64,
    max_keys: usize,
    max_value_bytes: usize,
    times: TrustedTimes,
    keep_tombstones_s: i64,
}

/// How far the times of others are believed.
#[derive(Debug, Clone, Copy)]
struct TrustedTimes {
    max_ahead_ms: i64,
}

impl TrustedTimes {
    fn of_merge(self, now: Now) -> MergeTime {
        MergeTime {
            now_unix_s: now.unix_s(),
            max_ahead_s: self.max_ahead_ms / 1000,
        }
    }

    /// A time of a change, of one who had seen what came before it, as far as it is believed: what is written here is later than what it was written upon, but
    /// no clock that ran far ahead, a former one of this member among them, is handed on.
    fn bounded(self, time_ms: i64, now: Now) -> i64 {
        time_ms.min(now.unix_ms.saturating_add(self.max_ahead_ms))
    }

    fn refusal(self, key: &str, ahead_ms: i64) -> Refusal {
        Refusal::Future {
            key: key.to_owned(),
            ahead_ms,
            limit_ms: self.max_ahead_ms,
        }
    }
}

impl ValueStore {
    pub(super) fn new(codecs: Codecs, settings: &GossipSettings) -> Self {
        Self {
            codecs,
            entries: BTreeMap::new(),
            watchers: Watchers::default(),
            dirty: BTreeSet::new(),
            next_version: 1,
            max_keys: settings.max_keys,
            max_value_bytes: settings.max_value_bytes.as_usize(),
            times: TrustedTimes {
                max_ahead_ms: i64::try_from(settings.max_clock_ahead.as_millis())
                    .unwrap_or(i64::MAX),
            },
            keep_tombstones_s: settings.left_ingesters_timeout.as_secs() as i64,
        }
    }

    /// The value that readers see and the version to write against; version 0 is an absent key.
    pub(super) fn read(&mut self, key: &str) -> Result<(Option<Bytes>, u64)> {
        match self.entries.get_mut(key) {
            Some(entry) if entry.deleted_at.is_none() => {
                Ok((Some(entry.visible()?), entry.version))
            }
            Some(entry) => Ok((None, entry.version)),
            None => Ok((None, 0)),
        }
    }

    pub(super) fn list(&self, prefix: &str) -> Vec<String> {
        let from = self.entries.range(prefix.to_owned()..);
        from.take_while(|(key, _)| key.starts_with(prefix))
            .filter(|(_, entry)| entry.deleted_at.is_none())
            .map(|(key, _)| key.clone())
            .collect()
    }

    pub(super) fn watch(&mut self, scope: Scope) -> Result<KvWatch> {
        let mut current = Vec::new();
        for (key, entry) in &mut self.entries {
            if scope.covers(key) && entry.deleted_at.is_none() {
                current.push((key.clone(), entry.visible()?));
            }
        }
        Ok(self.watchers.add(scope, current.into_iter()))
    }

    /// Takes a value written here on top of version `seen`.
    ///
    /// # Errors
    /// `InvalidInput` for a key without codec, `LimitExceeded` for a value or a store that is too large, those of the codec.
    pub(super) fn write(
        &mut self,
        key: &str,
        seen: u64,
        value: &[u8],
        now: Now,
    ) -> Result<StoreWrite> {
        if self.entries.get(key).map_or(0, |e| e.version) != seen {
            return Ok(StoreWrite::Outdated);
        }
        if value.len() > self.max_value_bytes {
            return Err(Error::LimitExceeded(format!(
                "key {key:?}: value of {} bytes, max_value_bytes is {}",
                value.len(),
                self.max_value_bytes
            )));
        }
        self.make_entry(key, now.unix_ms)?;
        let entry = self.entries.get_mut(key).expect("made just now");
        if entry.deleted_at.is_some() {
            entry.value = open_value(&entry.codec, None)?;
        }
        let times = self.times.of_merge(now);
        let merged = entry.value.merge(value, MergeKind::Local, times);
        let Some(change) = merged?.change else {
            self.remove_unborn(key);
            return Ok(StoreWrite::Unchanged);
        };
        let known_ms = self.times.bounded(entry.update_time_ms, now);
        let deleted_before = known_ms + i64::from(entry.deleted_at.is_some());
        let update_time_ms = now.unix_ms.max(deleted_before);
        let pair = self.changed(key, change, update_time_ms, now)?;
        Ok(StoreWrite::Changed(pair))
    }

    /// Drops an entry that was made for a value that then was not taken.
    fn remove_unborn(&mut self, key: &str) {
        if self.entries.get(key).is_some_and(|e| e.version == 0) {
            self.entries.remove(key);
        }
    }

    fn make_entry(&mut self, key: &str, update_time_ms: i64) -> Result<()> {
        if self.entries.contains_key(key) {
            return Ok(());
        }
        let Some(codec) = self.codecs.of_key(key).cloned() else {
            return Err(Error::InvalidInput(format!(
                "no codec is registered for key {key:?}"
            )));
        };
        if self.entries.len() >= self.max_keys {
            return Err(Error::LimitExceeded(format!(
                "key {key:?}: max_keys is {}",
                self.max_keys
            )));
        }
        let entry = StoredValue {
            value: open_value(&codec, None)?,
            codec,
            version: 0,
            update_time_ms,
            deleted_at: None,
            tombstones: TombstoneCount::default(),
            purged_at: None,
            visible: None,
        };
        self.entries.insert(key.to_owned(), entry);
        Ok(())
    }

    /// After a merge: old tombstones go, watchers are to be told. Yields what others are to be told.
    fn changed(
        &mut self,
        key: &str,
        change: Bytes,
        update_time_ms: i64,
        now: Now,
    ) -> Result<Option<Pair>> {
        let entry = self
            .entries
            .get_mut(key)
            .expect("the entry was merged into");
        let limit = now.unix_s() - self.keep_tombstones_s;
        if entry
            .purged_at
            .is_none_or(|at| now.monotonic >= at + PURGE_EVERY)
        {
            entry.purged_at = Some(now.monotonic);
            let tombstones = entry.value.remove_tombstones(limit)?;
            entry.tombstones.left = tombstones.left;
            entry.tombstones.removed += tombstones.removed;
        }
        let known_ms = self.times.bounded(entry.update_time_ms, now);
        entry.update_time_ms = known_ms.max(update_time_ms);
        entry.deleted_at = None;
        entry.visible = None;
        entry.version = self.next_version;
        self.next_version += 1;
        self.dirty.insert(key.to_owned());
        let value = entry.codec.remove_tombstones(&change, Some(limit))?.value;
        let codec = entry.codec.id().to_owned();
        if entry.codec.member_names(&value)?.is_empty() {
            return Ok(None);
        }
        Ok(Some(Pair {
            key: key.to_owned(),
            value,
            codec,
            deleted: false,
            update_time_ms,
        }))
    }

    /// Marks a key as deleted; `None` if there is nothing to delete.
    pub(super) fn delete(&mut self, key: &str, now: Now) -> Option<Pair> {
        let entry = self.entries.get_mut(key)?;
        if entry.deleted_at.is_some() {
            return None;
        }
        let known_ms = self.times.bounded(entry.update_time_ms, now);
        let update_time_ms = now.unix_ms.max(known_ms);
        Some(self.deleted(key, update_time_ms, now))
    }

    fn deleted(&mut self, key: &str, update_time_ms: i64, now: Now) -> Pair {
        let entry = self.entries.get_mut(key).expect("callers looked");
        entry.deleted_at = Some(now.monotonic);
        entry.update_time_ms = update_time_ms;
        entry.version = self.next_version;
        entry.visible = None;
        entry.tombstones.left = 0;
        self.next_version += 1;
        self.dirty.insert(key.to_owned());
        Pair {
            key: key.to_owned(),
            value: Bytes::new(),
            codec: entry.codec.id().to_owned(),
            deleted: true,
            update_time_ms,
        }
    }

    /// Takes what another member said; yields what was new in it.
    ///
    /// # Errors
    /// For a pair that is not taken; members of a value that are from too far ahead are refused alone.
    pub(super) fn receive(&mut self, pair: &Pair, now: Now) -> Result<ReceivedPair, Refusal> {
        self.check(pair, now)?;
        let key = pair.key.as_str();
        let times = self.times;
        let own = self.entries.get(key);
        let own_time = own.map_or(i64::MIN, |e| times.bounded(e.update_time_ms, now));
        let own_deleted = own.is_some_and(|e| e.deleted_at.is_some());
        match (pair.deleted, own) {
            // Nothing here to delete; whoever has it will hear of it, too.
            (true, None) => Ok(ReceivedPair::default()),
            (true, Some(_)) if own_deleted => {
                let entry = self.entries.get_mut(key).expect("looked up above");
                entry.update_time_ms = own_time.max(pair.update_time_ms);
                Ok(ReceivedPair::default())
            }
            (true, Some(_)) if pair.update_time_ms >= own_time => Ok(ReceivedPair {
                news: Some(self.deleted(key, pair.update_time_ms, now)),
                refused: None,
            }),
            (true, Some(_)) => Ok(ReceivedPair::default()),
            (false, _) if own_deleted && pair.update_time_ms <= own_time => {
                Ok(ReceivedPair::default())
            }
            (false, _) => self.merge(pair, now),
        }
    }

    fn check(&self, pair: &Pair, now: Now) -> Result<(), Refusal> {
        let key = || pair.key.clone();
        let Some(codec) = self.codecs.of_key(&pair.key) else {
            return Err(Refusal::UnknownCodec {
                key: key(),
                codec: pair.codec.clone(),
            });
        };
        if codec.id() != pair.codec {
            return Err(Refusal::CodecMismatch {
                key: key(),
                own: codec.id(),
                theirs: pair.codec.clone(),
            });
        }
        let own = self.entries.get(&pair.key);
        let ahead_ms = pair.update_time_ms.saturating_sub(now.unix_ms);
        // Of a value that is not deleted the codec judges member by member: the time of all is that of the last who wrote, whose clock is no fault of the others.
        let decides = pair.deleted || own.is_some_and(|e| e.deleted_at.is_some());
        if decides && ahead_ms > self.times.max_ahead_ms {
            return Err(self.times.refusal(&pair.key, ahead_ms));
        }
        let held = own.map(|e| e.value.size_bytes());
        if held.is_none() && self.entries.len() >= self.max_keys && !pair.deleted {
            return Err(Refusal::Full {
                what: "the table of keys",
                limit: self.max_keys,
            });
        }
        let bytes = pair.value.len().max(held.unwrap_or(0));
        if bytes > self.max_value_bytes {
            return Err(Refusal::Oversize {
                what: "value",
                bytes,
                limit: self.max_value_bytes,
            });
        }
        Ok(())
    }

    fn merge(&mut self, pair: &Pair, now: Now) -> Result<ReceivedPair, Refusal> {
        let (key, times) = (pair.key.as_str(), self.times);
        let update_time_ms = times.bounded(pair.update_time_ms, now);
        let refused = |error| Refusal::Value {
            key: pair.key.clone(),
            error,
        };
        self.make_entry(key, update_time_ms).map_err(refused)?;
        let entry = self.entries.get_mut(key).expect("made just now");
        // A deleted value is gone: a newer one begins from nothing.
        let mut fresh = match entry.deleted_at {
            Some(_) => Some(open_value(&entry.codec, None).map_err(refused)?),
            None => None,
        };
        let value = fresh.as_mut().unwrap_or(&mut entry.value);
        let merged = value.merge(&pair.value, MergeKind::Remote, times.of_merge(now));
        let Ok(outcome) = merged else {
            self.remove_unborn(key);
            return merged.map(|_| ReceivedPair::default()).map_err(refused);
        };
        let news = match outcome.change {
            Some(change) => {
                if let Some(fresh) = fresh {
                    entry.value = fresh;
                }
                let changed = self.changed(key, change, update_time_ms, now);
                changed.map_err(refused)?
            }
            None => {
                if entry.deleted_at.is_none() {
                    let known_ms = times.bounded(entry.update_time_ms, now);
                    entry.update_time_ms = known_ms.max(update_time_ms);
                }
                self.remove_unborn(key);
                None
            }
        };
        let ahead_ms = outcome.refused_ahead_s.map(|s| s.saturating_mul(1000));
        Ok(ReceivedPair {
            news,
            refused: ahead_ms.map(|ahead_ms| times.refusal(key, ahead_ms)),
        })
    }

    /// Everything, as pairs.
    pub(super) fn all(&self) -> impl Iterator<Item = Pair> {
        self.entries.iter().filter_map(|(key, entry)| {
            let value = match entry.deleted_at {
                Some(_) => Ok(Bytes::new()),
                None => entry.value.encode(),
            };
            let value = value
                .inspect_err(|error| tracing::error!(key, %error, "a stored value cannot be sent"))
                .ok()?;
            Some(Pair {
                key: key.clone(),
                value,
                codec: entry.codec.id().to_owned(),
                deleted: entry.deleted_at.is_some(),
                update_time_ms: entry.update_time_ms,
            })
        })
    }

    /// The change in parts that take at most `max_bytes` as framed pairs, as far as it can be cut.
    pub(super) fn split(&self, pair: Pair, max_bytes: usize) -> Vec<Pair> {
        let frame = pair.key.len() + pair.codec.len() + MAX_FRAME_BYTES;
        let max_bytes = max_bytes.saturating_sub(frame);
        let Some(codec) = self.codecs.of_key(&pair.key) else {
            return vec![pair];
        };
        if pair.value.len() <= max_bytes {
            return vec![pair];
        }
        match codec.split(&pair.value, max_bytes) {
            Ok(parts) => {
                let part = |value| Pair {
                    value,
                    ..pair.clone()
                };
                parts.into_iter().map(part).collect()
            }
            Err(error) => {
                tracing::error!(key = pair.key, %error, "a change cannot be cut");
                vec![pair]
            }
        }
    }

    /// Names of the members in a change, for the queue of broadcasts.
    pub(super) fn member_names(&self, pair: &Pair) -> Vec<String> {
        let codec = self.codecs.of_key(&pair.key);
        // The codec read the value a moment ago.
        codec.map_or_else(Vec::new, |c| {
            c.member_names(&pair.value).unwrap_or_default()
        })
    }

    /// Whether watchers wait for news.
    pub(super) fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Tells the watchers.
    pub(super) fn notify(&mut self) {
        for key in std::mem::take(&mut self.dirty) {
            if !self.watchers.concerns(&key) {
                continue;
            }
            match self.read(&key) {
                Ok((value, _)) => self.watchers.notify(&key, value.as_ref()),
                Err(error) => tracing::error!(key, %error, "a stored value cannot be read"),
            }
        }
    }

    /// Forgets keys that were deleted before `limit` of the monotonic clock.
    pub(super) fn forget_deleted(&mut self, limit: std::time::Duration) {
        self.entries
            .retain(|_, e| e.deleted_at.is_none_or(|at| at > limit));
    }

    /// When the first deleted key can be forgotten, not counting the time it is kept.
    pub(super) fn first_deleted(&self) -> Option<std::time::Duration> {
        self.entries.values().filter_map(|e| e.deleted_at).min()
    }

    /// Keys with their tombstones, now and dropped so far.
    pub(super) fn tombstones(&self) -> impl Iterator<Item = (&str, TombstoneCount)> {
        let entries = self.entries.iter();
        entries.map(|(key, entry)| (key.as_str(), entry.tombstones))
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests;
