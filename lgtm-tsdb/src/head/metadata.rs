//! Metadata of one head's metrics: a few entries a name, as senders may disagree.

use std::collections::BTreeMap;
use std::ops::Bound;

use lgtm_core::model::Metadata;

/// Different entries kept for one metric name: senders of different versions disagree, but not in dozens.
const MAX_PER_NAME: usize = 10;

/// Type, help and unit by metric name.
#[derive(Debug, Default)]
pub(super) struct MetadataStore {
    by_name: BTreeMap<String, Vec<Metadata>>,
}

impl MetadataStore {
    /// Takes an entry in; false when it is known or there is no room. `max_names` 0 means no limit.
    pub(super) fn put(&mut self, name: &str, metadata: &Metadata, max_names: u64) -> bool {
        if let Some(known) = self.by_name.get_mut(name) {
            if known.contains(metadata) {
                return false;
            }
            if known.len() >= MAX_PER_NAME {
                known.remove(0);
            }
            known.push(metadata.clone());
            return true;
        }
        if max_names > 0 && self.by_name.len() as u64 >= max_names {
            return false;
        }
        self.by_name.insert(name.to_owned(), vec![metadata.clone()]);
        true
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
