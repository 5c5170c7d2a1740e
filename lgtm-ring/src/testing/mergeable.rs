//! A small value that merges: names with a time and a text, the later one wins.

use std::collections::BTreeMap;

use bytes::Bytes;
use lgtm_core::codec::{Reader, put_bytes, put_svarint, put_uvarint};
use lgtm_core::{DecodeError, Error, Result};

use crate::kv::{
    MergeKind, MergeOutcome, MergeTime, Merged, OpenValue, TombstoneCount, Tombstones, ValueCodec,
};

/// The most members in a value.
const MAX_MEMBERS: u64 = 1_000_000;

/// A last-writer-wins map, in the shape of a ring: members with a time in seconds, tombstones for those removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LwwMap(pub BTreeMap<String, LwwEntry>);

/// One member of an [`LwwMap`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LwwEntry {
    /// When it was written, Unix seconds; the greater wins.
    pub at_unix_s: i64,
    /// The text; `None` is a tombstone. Between equal times a tombstone wins, then the greater text, so that merging is
    /// commutative.
    pub text: Option<String>,
}

impl LwwEntry {
    /// Whether this entry takes the place of `other`.
    fn beats(&self, other: &Self) -> bool {
        let rank = |e: &Self| (e.at_unix_s, e.text.is_none());
        rank(self) > rank(other) || rank(self) == rank(other) && self.text > other.text
    }
}

impl LwwMap {
    /// Sets a member.
    pub fn set(&mut self, name: &str, at_unix_s: i64, text: &str) {
        let text = Some(text.to_owned());
        self.0.insert(name.to_owned(), LwwEntry { at_unix_s, text });
    }

    fn drop_tombstones(&mut self, limit_unix_s: Option<i64>) -> TombstoneCount {
        let before = self.0.len();
        self.0.retain(|_, entry| {
            entry.text.is_some() || limit_unix_s.is_some_and(|limit| entry.at_unix_s >= limit)
        });
        TombstoneCount {
            left: self.0.values().filter(|e| e.text.is_none()).count(),
            removed: before - self.0.len(),
        }
    }

    /// The wire form.
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::new();
        put_uvarint(&mut out, self.0.len() as u64);
        for (name, entry) in &self.0 {
            put_bytes(&mut out, name.as_bytes());
            put_svarint(&mut out, entry.at_unix_s);
            out.push(u8::from(entry.text.is_some()));
            put_bytes(&mut out, entry.text.as_deref().unwrap_or("").as_bytes());
        }
        out.into()
    }

    /// Reads the wire form.
    ///
    /// # Errors
    /// `Corrupt`.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        Self::parse(bytes).map_err(|e| Error::corrupt("value", e))
    }

    fn parse(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new("last-writer-wins map", bytes);
        let count = r.uvarint()?;
        if count > MAX_MEMBERS {
            return Err(r.error(format!("{count} members, at most {MAX_MEMBERS}")));
        }
        let mut map = BTreeMap::new();
        for _ in 0..count {
            let name = r.str()?.to_owned();
            let at_unix_s = r.svarint()?;
            let alive = r.u8()? != 0;
            let text = Some(r.str()?.to_owned()).filter(|_| alive);
            map.insert(name, LwwEntry { at_unix_s, text });
        }
        if !r.is_empty() {
            return Err(r.error("bytes after the last member"));
        }
        Ok(Self(map))
    }
}

/// The [`ValueCodec`] of [`LwwMap`].
#[derive(Debug, Clone, Copy, Default)]
pub struct LwwCodec;

impl ValueCodec for LwwCodec {
    fn id(&self) -> &'static str {
        "lwwMap"
    }

    fn merge(
        &self,
        current: Option<&[u8]>,
        incoming: &[u8],
        kind: MergeKind,
        time: MergeTime,
    ) -> Result<Merged> {
        let mut value = current.map(LwwMap::decode).transpose()?.unwrap_or_default();
        let outcome = OpenValue::merge(&mut value, incoming, kind, time)?;
        Ok(Merged {
            value: value.encode(),
            outcome,
        })
    }

    fn remove_tombstones(&self, value: &[u8], limit_unix_s: Option<i64>) -> Result<Tombstones> {
        let mut map = LwwMap::decode(value)?;
        let count = map.drop_tombstones(limit_unix_s);
        Ok(Tombstones {
            value: map.encode(),
            left: count.left,
            removed: count.removed,
        })
    }

    fn split(&self, change: &Bytes, max_bytes: usize) -> Result<Vec<Bytes>> {
        let mut parts = vec![(LwwMap::default(), 0)];
        for (name, entry) in LwwMap::decode(change)?.0 {
            let bytes = name.len() + entry.text.as_ref().map_or(0, String::len) + 20;
            let last = parts.last();
            if last.is_some_and(|(part, size)| !part.0.is_empty() && size + bytes > max_bytes) {
                parts.push((LwwMap::default(), 0));
            }
            if let Some((part, size)) = parts.last_mut() {
                part.0.insert(name, entry);
                *size += bytes;
            }
        }
        Ok(parts.iter().map(|(part, _)| part.encode()).collect())
    }

    fn member_names(&self, value: &[u8]) -> Result<Vec<String>> {
        Ok(LwwMap::decode(value)?.0.into_keys().collect())
    }

    fn open(&self, value: Option<&[u8]>) -> Result<Option<Box<dyn OpenValue>>> {
        let map = value.map(LwwMap::decode).transpose()?.unwrap_or_default();
        Ok(Some(Box::new(map)))
    }
}

impl OpenValue for LwwMap {
    fn merge(&mut self, incoming: &[u8], kind: MergeKind, time: MergeTime) -> Result<MergeOutcome> {
        let mut incoming = Self::decode(incoming)?;
        let mut refused_ahead_s = None;
        if kind == MergeKind::Remote {
            incoming.0.retain(|_, entry| {
                let is_credible = time.allows(entry.at_unix_s);
                if !is_credible {
                    refused_ahead_s = refused_ahead_s.max(Some(time.ahead_s(entry.at_unix_s)));
                }
                is_credible
            });
        }
        if kind == MergeKind::Local {
            for (name, entry) in &self.0 {
                if entry.text.is_some() && !incoming.0.contains_key(name) {
                    let gone = LwwEntry {
                        at_unix_s: time.now_unix_s,
                        text: None,
                    };
                    incoming.0.insert(name.clone(), gone);
                }
            }
        }
        let mut change = Self::default();
        for (name, entry) in incoming.0 {
            if self.0.get(&name).is_none_or(|own| entry.beats(own)) {
                self.0.insert(name.clone(), entry.clone());
                change.0.insert(name, entry);
            }
        }
        Ok(MergeOutcome {
            change: (!change.0.is_empty()).then(|| change.encode()),
            refused_ahead_s,
        })
    }

    fn remove_tombstones(&mut self, limit_unix_s: i64) -> Result<TombstoneCount> {
        Ok(self.drop_tombstones(Some(limit_unix_s)))
    }

    fn encode(&self) -> Result<Bytes> {
        Ok(Self::encode(self))
    }

    fn encode_visible(&self) -> Result<Bytes> {
        let mut visible = self.clone();
        visible.drop_tombstones(None);
        Ok(visible.encode())
    }

    fn size_bytes(&self) -> usize {
        self.0.len() * 32
    }
}
