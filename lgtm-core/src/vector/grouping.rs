//! Which series belong together: grouping labels and the numbers of groups.

use hashbrown::HashMap;

use crate::codec::put_bytes;
use crate::model::Labels;

/// Which labels make two series belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grouping {
    /// Sorted, each once.
    names: Vec<String>,
    keep: bool,
}

impl Grouping {
    fn new<N: Into<String>>(names: impl IntoIterator<Item = N>, keep: bool) -> Self {
        let mut names: Vec<String> = names.into_iter().map(Into::into).collect();
        names.sort_unstable();
        names.dedup();
        Self { names, keep }
    }

    /// These labels alone count.
    pub fn by<N: Into<String>>(names: impl IntoIterator<Item = N>) -> Self {
        Self::new(names, true)
    }

    /// All labels but these count.
    pub fn without<N: Into<String>>(names: impl IntoIterator<Item = N>) -> Self {
        Self::new(names, false)
    }

    /// Whether everything belongs to one group.
    pub fn is_single(&self) -> bool {
        self.keep && self.names.is_empty()
    }

    /// Whether a label of this name counts.
    pub fn counts(&self, name: &str) -> bool {
        self.names
            .binary_search_by(|n| n.as_str().cmp(name))
            .is_ok()
            == self.keep
    }

    /// What is left of `labels`.
    pub fn project(&self, labels: &Labels) -> Labels {
        self.project_hiding(labels, |_| false)
    }

    /// What is left of `labels` when those for whose name `hidden` is true are taken as absent.
    pub fn project_hiding(&self, labels: &Labels, hidden: impl Fn(&str) -> bool) -> Labels {
        let left = labels.iter().filter(|(n, _)| self.counts(n) && !hidden(n));
        Labels::from_sorted(left).expect("a part of a label set is sorted")
    }

    /// Writes what is left of `labels` to `out`, so that equal parts give equal bytes.
    fn key(&self, labels: &Labels, hidden: impl Fn(&str) -> bool, out: &mut Vec<u8>) {
        out.clear();
        if self.is_single() {
            return;
        }
        let mut wanted = self.names.iter().map(String::as_bytes).peekable();
        for (name, value) in labels.iter_bytes() {
            // Both sides are sorted: one pass, no search per label. The order of texts is that of their bytes.
            while wanted.next_if(|w| *w < name).is_some() {}
            let named = wanted.peek().is_some_and(|w| *w == name);
            if named == self.keep && !std::str::from_utf8(name).is_ok_and(&hidden) {
                put_bytes(out, name);
                put_bytes(out, value);
            } else if self.keep && wanted.peek().is_none() {
                return;
            }
        }
    }
}

/// Numbers groups from 0 in the order in which they are first seen.
#[derive(Debug, Clone)]
pub struct GroupTable {
    grouping: Grouping,
    places: HashMap<Box<[u8]>, usize>,
    labels: Vec<Labels>,
    key: Vec<u8>,
}

impl GroupTable {
    /// A table without groups.
    pub fn new(grouping: Grouping) -> Self {
        Self {
            grouping,
            places: HashMap::new(),
            labels: Vec::new(),
            key: Vec::new(),
        }
    }

    /// A table of the same grouping without groups.
    pub fn fresh(&self) -> Self {
        Self::new(self.grouping.clone())
    }

    /// The number of the group that a series with these labels belongs to; a new one when it is the first.
    ///
    /// Costs one pass over the labels and a hash; allocates for a new group only.
    pub fn index_of(&mut self, labels: &Labels) -> usize {
        self.index_of_hiding(labels, |_| false)
    }

    /// As [`GroupTable::index_of`], with labels for whose name `hidden` is true taken as absent.
    pub fn index_of_hiding(&mut self, labels: &Labels, hidden: impl Fn(&str) -> bool) -> usize {
        self.grouping.key(labels, &hidden, &mut self.key);
        if let Some(place) = self.places.get(self.key.as_slice()) {
            return *place;
        }
        let place = self.labels.len();
        self.places.insert(self.key.as_slice().into(), place);
        self.labels
            .push(self.grouping.project_hiding(labels, hidden));
        place
    }

    /// The number of a group that is known already.
    pub fn find(&mut self, labels: &Labels) -> Option<usize> {
        self.grouping.key(labels, |_| false, &mut self.key);
        self.places.get(self.key.as_slice()).copied()
    }

    /// Number of groups.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no group.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The labels of a group.
    pub fn labels(&self, group: usize) -> &Labels {
        &self.labels[group]
    }

    /// The labels of all groups, by number.
    pub fn into_labels(self) -> Vec<Labels> {
        self.labels
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        Labels::from_pairs(pairs.iter().copied()).unwrap()
    }

    #[test]
    fn by_keeps_and_without_drops() {
        let l = labels(&[("a", "1"), ("b", "2"), ("c", "3")]);
        assert_eq!(
            Grouping::by(["c", "a", "x"]).project(&l),
            labels(&[("a", "1"), ("c", "3")])
        );
        assert_eq!(
            Grouping::without(["c", "x"]).project(&l),
            labels(&[("a", "1"), ("b", "2")])
        );
        let hidden = Grouping::by(["a", "b"]).project_hiding(&l, |n| n == "a");
        assert_eq!(hidden, labels(&[("b", "2")]));
    }

    #[test]
    fn nothing_to_group_by_gives_one_group() {
        let mut table = GroupTable::new(Grouping::by(Vec::<String>::new()));
        assert_eq!(table.index_of(&labels(&[("a", "1")])), 0);
        assert_eq!(table.index_of(&labels(&[("a", "2")])), 0);
        assert_eq!(table.into_labels(), [Labels::empty()]);
    }

    proptest! {
        #[test]
        fn equal_numbers_mean_equal_projections(
            sets in proptest::collection::vec(
                proptest::collection::btree_map("[a-d]", "[xy]{0,2}", 0..4), 1..12),
            names in proptest::collection::vec("[a-e]", 0..4),
            keep: bool,
        ) {
            let grouping = Grouping::new(names, keep);
            let mut table = GroupTable::new(grouping.clone());
            for set in sets {
                let l = Labels::from_pairs(set).unwrap();
                let place = table.index_of(&l);
                prop_assert_eq!(table.labels(place), &grouping.project(&l));
                prop_assert_eq!(table.find(&l), Some(place));
            }
            let distinct: std::collections::BTreeSet<_> = table.labels.iter().collect();
            prop_assert_eq!(distinct.len(), table.len());
        }
    }
}
