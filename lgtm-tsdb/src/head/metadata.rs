//! Metadata of one head's metrics: a few entries a name, as senders may disagree.

use std::collections::BTreeMap;
use std::ops::Bound;

use lgtm_core::model::Metadata;

use crate::limits::Limits;

/// Different entries kept for one metric name, the newest: senders of different versions disagree, but not in dozens.
const MAX_PER_NAME: usize = 10;
/// What a name takes besides its bytes: its place in the tree, and the list of its entries.
const NAME_OVERHEAD: u64 = 96;

/// How much metadata a tenant may have; 0: any.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct MetadataRoom {
    max_names: u64,
    max_bytes: u64,
}

impl MetadataRoom {
    pub(super) fn of(limits: &Limits) -> Self {
        Self {
            max_names: limits.max_global_metadata_per_user,
            max_bytes: limits.max_metadata_bytes_per_user,
        }
    }

    /// For a replay, where each entry was taken once.
    pub(super) fn unbounded() -> Self {
        Self::default()
    }
}

/// What became of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Put {
    /// It is kept.
    New,
    /// It was there already.
    Known,
    /// It is not kept: the tenant has as much as it may have.
    NoRoom,
}

/// Why metadata was not kept, in reports and metrics: Mimir's name.
pub(super) const METADATA_LIMIT: &str = "per_user_metadata_limit";

/// Type, help and unit by metric name.
#[derive(Debug, Default)]
pub(super) struct MetadataStore {
    by_name: BTreeMap<String, Vec<Metadata>>,
    /// Memory of all entries, nearly.
    bytes: u64,
}

fn entry_bytes(m: &Metadata) -> u64 {
    (size_of::<Metadata>() + m.help.len() + m.unit.len()) as u64
}

impl MetadataStore {
    /// Takes an entry in. Another entry of a name that has its fill takes the place of the oldest.
    pub(super) fn put(&mut self, name: &str, metadata: &Metadata, room: MetadataRoom) -> Put {
        let known = self.by_name.get(name).map_or(&[][..], Vec::as_slice);
        if known.contains(metadata) {
            return Put::Known;
        }
        let is_new = known.is_empty();
        let gone = if known.len() >= MAX_PER_NAME {
            entry_bytes(&known[0])
        } else {
            0
        };
        let mut bytes = self.bytes - gone + entry_bytes(metadata);
        if is_new {
            bytes += NAME_OVERHEAD + name.len() as u64;
        }
        if is_new && room.max_names > 0 && self.by_name.len() as u64 >= room.max_names
            || room.max_bytes > 0 && bytes > room.max_bytes
        {
            return Put::NoRoom;
        }
        self.bytes = bytes;
        if is_new {
            self.by_name.insert(name.to_owned(), vec![metadata.clone()]);
        } else if let Some(known) = self.by_name.get_mut(name) {
            if known.len() >= MAX_PER_NAME {
                known.remove(0);
            }
            known.push(metadata.clone());
        }
        Put::New
    }

    /// All entries in order of name.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &[Metadata])> {
        self.by_name.iter().map(|(n, m)| (n.as_str(), m.as_slice()))
    }

    /// The entries behind a name, in order of name; all of them without one.
    pub(super) fn behind(&self, name: Option<&str>) -> impl Iterator<Item = (&str, &[Metadata])> {
        let from = name.map_or(Bound::Unbounded, Bound::Excluded);
        let entries = self.by_name.range::<str, _>((from, Bound::Unbounded));
        entries.map(|(n, m)| (n.as_str(), m.as_slice()))
    }

    /// The entries of one name.
    pub(super) fn get(&self, name: &str) -> &[Metadata] {
        self.by_name.get(name).map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn help(text: String) -> Metadata {
        Metadata {
            help: text,
            ..Metadata::default()
        }
    }

    #[test]
    fn one_name_keeps_its_newest_few_and_all_names_keep_the_bound_of_bytes() {
        let room = MetadataRoom {
            max_names: 0,
            max_bytes: 100_000,
        };
        let mut store = MetadataStore::default();
        for n in 0..1000 {
            assert_eq!(
                store.put("m", &help(format!("help {n:04}")), room),
                Put::New
            );
        }
        let kept: Vec<_> = store.get("m").iter().map(|m| m.help.as_str()).collect();
        assert_eq!(
            (kept.len(), kept[0], kept[9]),
            (10, "help 0990", "help 0999")
        );
        assert_eq!(store.put("m", &help("help 0995".into()), room), Put::Known);
        for n in 0..1000 {
            store.put(&format!("name_{n}"), &help("h".repeat(900)), room);
        }
        assert!((90_000..=100_000).contains(&store.bytes), "{}", store.bytes);
        let names = store.iter().map(|(name, all)| {
            NAME_OVERHEAD + name.len() as u64 + all.iter().map(entry_bytes).sum::<u64>()
        });
        assert_eq!(store.bytes, names.sum::<u64>());
        assert!(store.iter().count() > 80);
        // Where all is taken, a name may still say something shorter.
        assert_eq!(store.put("m", &help("new".into()), room), Put::New);
        assert_eq!(
            store.put("m", &help("h".repeat(100_000)), room),
            Put::NoRoom
        );
        let more = store.put("more", &help("x".into()), MetadataRoom::unbounded());
        assert_eq!(more, Put::New);
    }

    #[test]
    fn names_are_bounded_too() {
        let room = MetadataRoom {
            max_names: 1,
            max_bytes: 0,
        };
        let mut store = MetadataStore::default();
        assert_eq!(store.put("a", &help("x".into()), room), Put::New);
        assert_eq!(store.put("b", &help("x".into()), room), Put::NoRoom);
        assert_eq!(store.put("a", &help("y".into()), room), Put::New);
    }
}
