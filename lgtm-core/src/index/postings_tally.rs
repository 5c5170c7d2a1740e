//! Whether the postings of an index say what its series say.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use xxhash_rust::xxh3::Xxh3;

use crate::error::Result;
use crate::index::PostingsIndex;
use crate::model::TextSet;

/// Lists that are in memory at the same time.
const LISTS_AT_ONCE: usize = 64 << 10;

/// How many series bear a pair, and a sum by which their references are told from others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct PairTally {
    count: u64,
    sum: u64,
}

impl PairTally {
    fn add(&mut self, reference: u32) {
        self.count += 1;
        let mixed = u64::from(reference).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.sum = self.sum.wrapping_add(mixed ^ (mixed >> 29));
    }
}

/// Counts who bears which label pair while series are read, and compares that with the postings lists. A pair costs some 40 bytes.
#[derive(Debug, Default)]
pub struct PostingsTally {
    /// By a hash of the pair.
    pairs: HashMap<u64, PairTally>,
    max_pairs: usize,
    is_full: bool,
}

impl PostingsTally {
    /// For at most `max_pairs` different pairs; with more nothing is compared.
    pub fn new(max_pairs: usize) -> Self {
        Self {
            max_pairs,
            ..Self::default()
        }
    }

    /// A series bears a pair.
    pub fn add(&mut self, name: &str, value: &str, reference: u32) {
        let len = self.pairs.len();
        match self.pairs.entry(pair_key(name, value)) {
            Entry::Occupied(mut tally) => tally.get_mut().add(reference),
            Entry::Vacant(place) if len < self.max_pairs => {
                place.insert(PairTally::default()).add(reference);
            }
            Entry::Vacant(_) => self.is_full = true,
        }
    }

    /// Whether there are more pairs than can be compared.
    pub fn is_full(&self) -> bool {
        self.is_full
    }

    /// Compares all lists of a name with the series; gives what is wrong, a line a list.
    ///
    /// # Errors
    /// Those of the index.
    pub async fn compare_index(
        &mut self,
        index: &dyn PostingsIndex,
        name: &str,
        values: &TextSet,
    ) -> Result<Vec<String>> {
        let values: Vec<&str> = values.iter().collect();
        let mut wrong = Vec::new();
        for part in values.chunks(LISTS_AT_ONCE) {
            let (Some(first), Some(last)) = (part.first(), part.last()) else {
                break;
            };
            let mut is_of_part = |value: &str| (*first..=*last).contains(&value);
            let lists = index.postings_for_values(name, &mut is_of_part).await?;
            if lists.len() != part.len() {
                let (lists, values) = (lists.len(), part.len());
                wrong.push(format!("{name} has {lists} lists for {values} values"));
            }
            wrong.append(&mut self.compare(name, part.iter().copied(), &lists));
        }
        Ok(wrong)
    }

    /// Compares the lists of some values of a name, in their order; gives what is wrong, a line a list.
    pub fn compare<'a>(
        &mut self,
        name: &str,
        values: impl IntoIterator<Item = &'a str>,
        lists: &[Vec<u32>],
    ) -> Vec<String> {
        let mut wrong = Vec::new();
        for (value, list) in values.into_iter().zip(lists) {
            let mut listed = PairTally::default();
            list.iter().for_each(|reference| listed.add(*reference));
            let borne = self
                .pairs
                .remove(&pair_key(name, value))
                .unwrap_or_default();
            if listed != borne {
                let (listed, borne) = (listed.count, borne.count);
                wrong.push(match listed == borne {
                    true => format!("the list of {name}={value:?} has other series than bear it"),
                    false => {
                        format!("the list of {name}={value:?} has {listed} series, {borne} bear it")
                    }
                });
            }
        }
        wrong
    }

    /// Pairs that some series bears and that had no list so far.
    pub fn unlisted(&self) -> usize {
        self.pairs.len()
    }
}

fn pair_key(name: &str, value: &str) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(&(name.len() as u64).to_le_bytes());
    hash.update(name.as_bytes());
    hash.update(value.as_bytes());
    hash.digest()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_that_differ_from_the_series_are_told() {
        let mut tally = PostingsTally::new(10);
        for (value, reference) in [("x", 1), ("x", 2), ("y", 3), ("z", 4), ("w", 5)] {
            tally.add("a", value, reference);
        }
        let lists = [vec![1, 2], vec![4], vec![], vec![9]];
        let wrong = tally.compare("a", ["x", "y", "z", "v"], &lists);
        assert_eq!(wrong.len(), 3, "{wrong:?}");
        assert!(wrong[0].contains("a=\"y\" has other series"), "{wrong:?}");
        assert!(wrong[1].contains("a=\"z\" has 0 series, 1 bear it"));
        assert!(wrong[2].contains("a=\"v\" has 1 series, 0 bear it"));
        assert_eq!(tally.unlisted(), 1);
        assert!(!tally.is_full());
        (0..10).for_each(|n| tally.add("b", &n.to_string(), 1));
        assert!(tally.is_full());
    }
}
