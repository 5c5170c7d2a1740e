//! Which series of a head (streams, for logs) bear which label.
//!
//! One sorted list of series ids for every (name, value) pair in use, and the values of every name. Ids are handed out in
//! ascending order, so that adding is nearly always a push; a reused id is inserted where it belongs.

use crate::error::{Error, Result};
use crate::model::{LabelArena, Labels, MatchOp, Matcher};
use hashbrown::{HashMap, HashSet};

use crate::postings::interner::{Interner, SymbolId};
use crate::postings::slices::{intersect_slices, subtract_slice};

/// The number of a series within its head.
pub type SeriesId = u32;

/// Symbols, postings and the free ids of one head. Callers put a lock around it; nothing here waits.
#[derive(Debug, Default)]
pub struct MemPostings {
    symbols: Interner,
    postings: HashMap<(SymbolId, SymbolId), Vec<SeriesId>>,
    values: HashMap<SymbolId, Vec<SymbolId>>,
    all: Vec<SeriesId>,
    free: Vec<SeriesId>,
    next: SeriesId,
    /// Times that series were removed: ids found before may mean others since.
    removals: u64,
    /// Times that symbols got new numbers.
    numbering: u64,
}

impl MemPostings {
    /// The strings of all labels.
    #[inline]
    pub fn symbols(&self) -> &Interner {
        &self.symbols
    }

    /// Number of series.
    pub fn series_count(&self) -> usize {
        self.all.len()
    }

    /// Number of (name, value) pairs in use.
    pub fn pair_count(&self) -> usize {
        self.postings.len()
    }

    /// Takes a series in; gives its id and its labels as symbol pairs.
    ///
    /// # Errors
    /// `LimitExceeded` when ids or symbols run out.
    pub fn add<'a>(
        &mut self,
        labels: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Result<(SeriesId, Box<[SymbolId]>)> {
        let mut ids = Vec::with_capacity(2 * labels.size_hint().0);
        for (name, value) in labels {
            ids.push(self.symbols.intern(name)?);
            ids.push(self.symbols.intern(value)?);
        }
        let id = match self.free.pop() {
            Some(id) => id,
            None => {
                let id = self.next;
                self.next = id
                    .checked_add(1)
                    .ok_or_else(|| Error::LimitExceeded("series ids of one head ran out".into()))?;
                id
            }
        };
        insert_sorted(&mut self.all, id);
        for pair in ids.chunks_exact(2) {
            let list = self.postings.entry((pair[0], pair[1])).or_default();
            if list.is_empty() {
                self.values.entry(pair[0]).or_default().push(pair[1]);
            }
            insert_sorted(list, id);
        }
        Ok((id, ids.into()))
    }

    /// Forgets series. `dead` is sorted; `labels_of` gives each one's symbol pairs. Their ids will be used again.
    pub fn remove(&mut self, dead: &[SeriesId], labels_of: &HashMap<SeriesId, Box<[SymbolId]>>) {
        self.removals += 1;
        let gone = |id: &SeriesId| dead.binary_search(id).is_ok();
        let mut touched: Vec<(SymbolId, SymbolId)> = labels_of
            .values()
            .flat_map(|l| l.chunks_exact(2).map(|p| (p[0], p[1])))
            .collect();
        touched.sort_unstable();
        touched.dedup();
        // Those of one name follow each other: its values are gone through once.
        for of_name in touched.chunk_by(|a, b| a.0 == b.0) {
            let mut without: HashSet<SymbolId> = HashSet::new();
            for pair in of_name {
                let Some(list) = self.postings.get_mut(pair) else {
                    continue;
                };
                list.retain(|id| !gone(id));
                if list.is_empty() {
                    self.postings.remove(pair);
                    without.insert(pair.1);
                } else if list.len() * 4 < list.capacity() {
                    list.shrink_to_fit();
                }
            }
            let name = of_name[0].0;
            if !without.is_empty()
                && let Some(values) = self.values.get_mut(&name)
            {
                values.retain(|v| !without.contains(v));
                if values.is_empty() {
                    self.values.remove(&name);
                }
            }
        }
        self.all.retain(|id| !gone(id));
        self.free.extend(dead.iter().rev());
    }

    /// The label set of symbol pairs that [`MemPostings::add`] gave, in memory that it may share with others of `arena`.
    ///
    /// # Panics
    /// For pairs that are no label set.
    pub fn labels(&self, pairs: &[SymbolId], arena: &mut LabelArena) -> Labels {
        arena
            .from_sorted(self.pairs(pairs))
            .expect("series labels were checked when the series was made")
    }

    /// Names and values of symbol pairs.
    #[inline]
    pub fn pairs<'a>(&'a self, pairs: &'a [SymbolId]) -> impl Iterator<Item = (&'a str, &'a str)> {
        pairs
            .chunks_exact(2)
            .map(|p| (self.symbols.resolve(p[0]), self.symbols.resolve(p[1])))
    }

    /// Times that series were removed so far.
    pub fn removals(&self) -> u64 {
        self.removals
    }

    /// Times that symbols got new numbers so far.
    pub fn numbering(&self) -> u64 {
        self.numbering
    }

    /// All ids, ascending.
    #[inline]
    pub fn all(&self) -> &[SeriesId] {
        &self.all
    }

    /// Ids of the series that pass all `matchers`, ascending. Holds the index for as long as it takes: for tests and small heads;
    /// large ones take [`MemPostings::narrow`] and try the values in portions.
    pub fn select(&self, matchers: &[Matcher]) -> Vec<SeriesId> {
        let (mut keep, others) = self.narrow(matchers);
        let mut drop: Vec<Vec<SeriesId>> = Vec::new();
        for m in others {
            if m.matches_empty() {
                // Series without the label pass: take away those whose value does not.
                drop.push(self.union(m.name(), &|v| !m.matches(v)));
                continue;
            }
            let list = self.union(m.name(), &|v| m.matches(v));
            keep = Some(match keep {
                None => list,
                Some(kept) => intersect_slices(&kept, &list),
            });
        }
        let mut out = keep.unwrap_or_else(|| self.all.clone());
        for d in drop {
            subtract_slice(&mut out, &d);
        }
        out
    }

    /// The series that pass all matchers whose values are given, if there is one; and the other matchers, which have to be tried on
    /// every value of their label.
    pub fn narrow<'m>(&self, matchers: &'m [Matcher]) -> (Option<Vec<SeriesId>>, Vec<&'m Matcher>) {
        let (mut lists, mut others) = (Vec::new(), Vec::new());
        for m in matchers {
            match self.lists_of(m) {
                Some(list) => lists.push(list),
                None => others.push(m),
            }
        }
        // The shortest first: then no more than that is copied.
        lists.sort_by_key(|l| l.iter().map(|l| l.len()).sum::<usize>());
        let mut keep: Option<Vec<SeriesId>> = None;
        for list in lists {
            keep = Some(match (keep, list.as_slice()) {
                (None, _) => merge(list),
                (Some(kept), [one]) => intersect_slices(&kept, one),
                (Some(kept), _) => intersect_slices(&kept, &merge(list)),
            });
        }
        (keep, others)
    }

    /// The postings of a matcher whose values are given; `None` when all values must be tried.
    fn lists_of(&self, m: &Matcher) -> Option<Vec<&[SeriesId]>> {
        if m.matches_empty() || !matches!(m.op(), MatchOp::Equal | MatchOp::Regex) {
            return None;
        }
        let values = m.literal_values()?;
        let name = self.symbols.find(m.name());
        let lists = values
            .iter()
            .filter_map(|v| self.postings.get(&(name?, self.symbols.find(v)?)));
        Some(lists.map(Vec::as_slice).collect())
    }

    /// How many series a matcher lets pass, where its one value is given.
    pub fn count_of(&self, m: &Matcher) -> Option<usize> {
        let is_given = m.op() == MatchOp::Equal && !m.value().is_empty();
        is_given.then(|| self.series_with(m.name(), m.value()))
    }

    fn union(&self, name: &str, want: &dyn Fn(&str) -> bool) -> Vec<SeriesId> {
        let Some(name) = self.symbols.find(name) else {
            return Vec::new();
        };
        let values = self.values.get(&name).into_iter().flatten();
        let hits = values.filter(|v| want(self.symbols.resolve(**v)));
        merge(
            hits.filter_map(|v| self.postings.get(&(name, *v)))
                .map(Vec::as_slice)
                .collect(),
        )
    }

    /// Values of a name, in no order.
    #[inline]
    pub fn value_symbols(&self, name: &str) -> &[SymbolId] {
        let values = self.symbols.find(name).and_then(|n| self.values.get(&n));
        values.map_or(&[], Vec::as_slice)
    }

    /// Number of values of a name.
    pub fn value_count(&self, name: &str) -> usize {
        self.value_symbols(name).len()
    }

    /// Ids of the series with a label, ascending.
    #[inline]
    pub fn postings_of_pair(&self, name: &str, value: SymbolId) -> &[SeriesId] {
        let name = self.symbols.find(name);
        let list = name.and_then(|n| self.postings.get(&(n, value)));
        list.map_or(&[], Vec::as_slice)
    }

    /// Label names in use, in no order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(|n| self.symbols.resolve(*n))
    }

    /// Number of names.
    pub fn name_count(&self) -> usize {
        self.values.len()
    }

    /// Number of series with a label.
    pub fn series_with(&self, name: &str, value: &str) -> usize {
        let pair = self.symbols.find(name).zip(self.symbols.find(value));
        pair.and_then(|p| self.postings.get(&p)).map_or(0, Vec::len)
    }

    /// Whether more than half of the symbols (and more than a thousand) are no longer used by any series.
    pub fn symbols_are_mostly_garbage(&self) -> bool {
        let used = self.postings.len() + self.values.len();
        self.symbols.len() > 1000 && self.symbols.len() > 2 * used
    }

    /// Interns the symbols in use anew; gives the new number of each old one.
    ///
    /// # Errors
    /// As [`Interner::intern`]; the index is then as it was.
    pub fn rebuild_symbols(&mut self) -> Result<HashMap<SymbolId, SymbolId>> {
        let mut fresh = Interner::default();
        let mut moved = HashMap::new();
        for &(name, value) in self.postings.keys() {
            for id in [name, value] {
                if let hashbrown::hash_map::Entry::Vacant(e) = moved.entry(id) {
                    e.insert(fresh.intern(self.symbols.resolve(id))?);
                }
            }
        }
        self.postings = self
            .postings
            .drain()
            .map(|((n, v), list)| ((moved[&n], moved[&v]), list))
            .collect();
        self.values = self
            .values
            .drain()
            .map(|(n, list)| (moved[&n], list.iter().map(|v| moved[v]).collect()))
            .collect();
        self.symbols = fresh;
        self.numbering += 1;
        Ok(moved)
    }

    /// Heap bytes held, nearly.
    pub fn heap_bytes(&self) -> usize {
        let lists: usize = self.postings.values().map(|l| l.capacity() * 4).sum();
        self.symbols.heap_bytes()
            + lists
            + self.postings.capacity() * 34
            + (self.all.capacity() + self.free.capacity()) * 4
    }
}

fn insert_sorted(list: &mut Vec<SeriesId>, id: SeriesId) {
    match list.last() {
        Some(last) if *last >= id => {
            if let Err(at) = list.binary_search(&id) {
                list.insert(at, id);
            }
        }
        _ => {
            if list.len() == list.capacity() {
                // Grow by a quarter: most lists of a head stay small, and doubling would cost as much again.
                list.reserve_exact((list.len() / 4).max(2));
            }
            list.push(id);
        }
    }
}

fn merge(mut lists: Vec<&[SeriesId]>) -> Vec<SeriesId> {
    if lists.len() == 1 {
        return lists.pop().map(<[SeriesId]>::to_vec).unwrap_or_default();
    }
    let mut out: Vec<SeriesId> = Vec::with_capacity(lists.iter().map(|l| l.len()).sum());
    for list in lists {
        out.extend_from_slice(list);
    }
    // Lists of one name never share an id, so that sorting the concatenation is the whole union.
    out.sort_unstable();
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(sets: &[Vec<(&str, &str)>]) -> MemPostings {
        let mut ix = MemPostings::default();
        for s in sets {
            ix.add(s.iter().copied()).unwrap();
        }
        ix
    }

    #[test]
    fn an_absent_label_is_the_empty_string() {
        let ix = index(&[
            vec![("a", "1")],
            vec![("a", "2"), ("b", "x")],
            vec![("b", "y")],
        ]);
        let eq = |n: &str, v: &str| Matcher::equal(n, v);
        let re = |op, n: &str, v: &str| Matcher::new(op, n, v).unwrap();
        assert_eq!(ix.select(&[eq("b", "")]), [0]);
        assert_eq!(ix.select(&[re(MatchOp::NotEqual, "b", "")]), [1, 2]);
        assert_eq!(ix.select(&[re(MatchOp::NotEqual, "b", "x")]), [0, 2]);
        assert_eq!(ix.select(&[re(MatchOp::Regex, "a", "1|")]), [0, 2]);
        assert_eq!(ix.select(&[re(MatchOp::NotRegex, "a", ".+")]), [2]);
        assert_eq!(ix.select(&[eq("nope", "")]), [0, 1, 2]);
        assert_eq!(ix.select(&[eq("nope", "x")]), [] as [u32; 0]);
    }

    #[test]
    fn removed_series_leave_nothing_and_their_ids_come_back() {
        let mut ix = MemPostings::default();
        let mut pairs = HashMap::new();
        for v in ["1", "2", "3"] {
            let (id, p) = ix.add([("a", v)].into_iter()).unwrap();
            pairs.insert(id, p);
        }
        pairs.retain(|id, _| *id == 1);
        ix.remove(&[1], &pairs);
        assert_eq!(ix.select(&[]), [0, 2]);
        assert_eq!(ix.value_count("a"), 2);
        assert_eq!(ix.add([("a", "3")].into_iter()).unwrap().0, 1);
        assert_eq!(ix.select(&[Matcher::equal("a", "3")]), [1, 2]);
    }
}
