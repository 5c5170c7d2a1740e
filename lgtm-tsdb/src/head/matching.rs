//! Which series of a head match.
//!
//! The index is read in slices, so that a push that brings new series never waits longer than for one of them. Between two slices
//! series may come and go: those that came are newer than the question, and those that went held nothing that it asks for. But
//! an id may mean another series afterwards; so when series went meanwhile, what was found is checked against its labels again.

use hashbrown::HashSet;
use lgtm_core::Result;
use lgtm_core::exec::CancelToken;
use lgtm_core::model::{LabelArena, Labels, Matcher, TextSet, TextSetBuilder};
use lgtm_core::postings::{MemPostings, SeriesId, SymbolId, intersect_slices, subtract_slice};

use super::head::Head;
use super::series::{MemSeries, locate};
use super::shard::ShardGuard;
use crate::select::SelectRequest;
use lgtm_core::wal::Snapshot;

/// Bytes of label values that are matched in one slice: half a millisecond of a regular expression that is slow.
const SLICE_BYTES: usize = 16 << 10;
/// Series that are looked at in one slice.
const SLICE_SERIES: usize = 512;
/// Values of a label that are matched in the time in which the labels of a series are read and checked.
const VALUES_A_SERIES: usize = 8;
/// A selection that looks at no more series than this is made where it is asked for: some tens of microseconds.
const QUICK_SERIES: usize = 256;
/// So many names or values are listed where they are asked for: some hundred microseconds.
const QUICK_TEXTS: usize = 2048;

/// Series that may match, by postings.
#[derive(Debug)]
struct Candidates<'a> {
    /// Ascending.
    ids: Vec<SeriesId>,
    /// What they are still to be checked against: that is cheaper than by postings, as they are few.
    pending: Vec<&'a Matcher>,
    /// Removals from the index when the search began.
    removals: u64,
}

impl Head {
    /// Whether a request looks at so few series that handing it to the compute pool would take longer than answering it.
    pub(super) fn is_quick(&self, request: &SelectRequest) -> bool {
        let index = self.index.read();
        if index.series_count() <= QUICK_SERIES {
            return request.matchers.len() <= QUICK_SERIES;
        }
        let fewest = request.matchers.iter().filter_map(|m| index.count_of(m));
        request.matchers.len() <= 16 && fewest.min().is_some_and(|n| n <= QUICK_SERIES)
    }

    /// Whether the names, or the values of `label`, are listed in less time than handing the request over would take.
    pub(super) fn is_quick_list(&self, label: Option<&str>, request: &SelectRequest) -> bool {
        if !request.takes_all() {
            return self.is_quick(request);
        }
        let index = self.index.read();
        let texts = label.map_or_else(|| index.name_count(), |name| index.value_count(name));
        texts <= QUICK_TEXTS
    }

    /// The series that match and hold samples in the range that the reader sees, in label order. Costs about a microsecond a series
    /// and the memory of their labels.
    ///
    /// # Errors
    /// `LimitExceeded` beyond the bounds of the request, `Cancelled`.
    pub(super) fn matching(
        &self,
        request: &SelectRequest,
        snapshot: &Snapshot,
        cancel: &CancelToken,
    ) -> Result<Vec<(Labels, SeriesId)>> {
        let (mut out, mut bytes) = (Vec::new(), 0);
        let mut arena = LabelArena::default();
        self.each_match(request, snapshot, cancel, &mut |index, id, series| {
            let labels = index.labels(&series.labels, &mut arena);
            bytes += labels.size_bytes() as u64;
            out.push((labels, id));
            request.bounds.check_list(bytes)
        })?;
        self.order.sort(&mut out);
        Ok(out)
    }

    /// Ids of the series that match and hold samples in the range that the reader sees, ascending.
    ///
    /// # Errors
    /// `Cancelled`.
    pub(super) fn matching_ids(
        &self,
        request: &SelectRequest,
        snapshot: &Snapshot,
        cancel: &CancelToken,
    ) -> Result<Vec<SeriesId>> {
        let mut out = Vec::new();
        self.each_match(request, snapshot, cancel, &mut |_, id, _| {
            out.push(id);
            Ok(())
        })?;
        Ok(out)
    }

    /// Names of the labels of the series that match; those of all series when everything is asked for.
    ///
    /// # Errors
    /// As [`Head::matching`].
    pub(super) fn names_of(
        &self,
        request: &SelectRequest,
        snapshot: &Snapshot,
        cancel: &CancelToken,
    ) -> Result<TextSet> {
        if request.takes_all() {
            return Ok(self.index.read().names().collect());
        }
        let mut names = Texts::default();
        self.each_match(request, snapshot, cancel, &mut |index, _, series| {
            let mut symbols = series.labels.iter().step_by(2);
            symbols.try_for_each(|s| names.add(index, *s, request))
        })?;
        Ok(names.texts.finish())
    }

    /// Values of a label of the series that match; those of all series when everything is asked for.
    ///
    /// # Errors
    /// As [`Head::matching`].
    pub(super) fn values_of(
        &self,
        name: &str,
        request: &SelectRequest,
        snapshot: &Snapshot,
        cancel: &CancelToken,
    ) -> Result<TextSet> {
        let mut values = Texts::default();
        if request.takes_all() {
            values.texts = TextSetBuilder::expecting(self.index.read().value_count(name));
            self.each_value(name, cancel, &mut |index, value| {
                // Each comes once, or once more after symbols were numbered anew: sets take it once.
                values.add_new(index.symbols().resolve(value), request)
            })?;
        } else {
            self.each_match(request, snapshot, cancel, &mut |index, _, series| {
                let pairs = series.labels.chunks_exact(2);
                let mut wanted = pairs.filter(|pair| index.symbols().resolve(pair[0]) == name);
                wanted.try_for_each(|pair| values.add(index, pair[1], request))
            })?;
        }
        Ok(values.texts.finish())
    }

    /// Visits the series that match and hold samples in the range that the reader sees, ids ascending.
    fn each_match(
        &self,
        request: &SelectRequest,
        snapshot: &Snapshot,
        cancel: &CancelToken,
        visit: &mut dyn FnMut(&MemPostings, SeriesId, &MemSeries) -> Result<()>,
    ) -> Result<()> {
        let Candidates {
            ids,
            pending,
            removals,
        } = self.candidates(&request.matchers, cancel)?;
        let range = request.range;
        let shards = self.shards();
        let mut arena = LabelArena::default();
        for slice in ids.chunks(SLICE_SERIES) {
            cancel.check("selection of series")?;
            let index = self.index.read();
            let is_changed = index.removals() != removals;
            let mut locked: Option<(usize, ShardGuard<'_>)> = None;
            for &id in slice {
                let (shard, slot) = locate(id);
                if locked.as_ref().is_none_or(|(n, _)| *n != shard) {
                    drop(locked.take());
                    locked = shards.get(shard).map(|s| (shard, s.lock()));
                }
                let slots = locked.as_ref().map(|(_, slots)| slots);
                let Some(Some(series)) = slots.and_then(|s| s.get(slot)) else {
                    continue;
                };
                let held = series.range_seen_by(snapshot);
                if held.is_none_or(|(min, max)| min >= range.max_ms || max < range.min_ms) {
                    continue;
                }
                if is_changed || !pending.is_empty() || request.shard.is_some() {
                    let labels = index.labels(&series.labels, &mut arena);
                    let is_match = if is_changed {
                        passes(&request.matchers, &labels)
                    } else {
                        passes(pending.iter().copied(), &labels)
                    };
                    if !is_match || !request.takes(&labels) {
                        continue;
                    }
                }
                visit(&index, id, series)?;
            }
        }
        Ok(())
    }

    /// Ids of the series that match, ascending, whether they hold samples or not.
    ///
    /// # Errors
    /// `Cancelled`.
    pub(super) fn ids_of(
        &self,
        matchers: &[Matcher],
        cancel: &CancelToken,
    ) -> Result<Vec<SeriesId>> {
        let Candidates {
            mut ids, pending, ..
        } = self.candidates(matchers, cancel)?;
        if pending.is_empty() {
            return Ok(ids);
        }
        let shards = self.shards();
        let mut arena = LabelArena::default();
        let mut kept = 0;
        for from in (0..ids.len()).step_by(SLICE_SERIES) {
            cancel.check("selection of series")?;
            let index = self.index.read();
            for n in from..ids.len().min(from + SLICE_SERIES) {
                let (shard, slot) = locate(ids[n]);
                let Some(shard) = shards.get(shard) else {
                    continue;
                };
                let slots = shard.lock();
                if let Some(Some(series)) = slots.get(slot)
                    && passes(
                        pending.iter().copied(),
                        &index.labels(&series.labels, &mut arena),
                    )
                {
                    ids[kept] = ids[n];
                    kept += 1;
                }
            }
        }
        ids.truncate(kept);
        Ok(ids)
    }

    /// Narrows by postings: labels with given values first, then by what must be tried on every value.
    fn candidates<'a>(
        &self,
        matchers: &'a [Matcher],
        cancel: &CancelToken,
    ) -> Result<Candidates<'a>> {
        let (mut kept, others, removals) = {
            let index = self.index.read();
            let (kept, others) = index.narrow(matchers);
            (kept, others, index.removals())
        };
        let (mut pending, mut drop) = (Vec::new(), Vec::new());
        for m in others {
            if kept.as_ref().is_some_and(Vec::is_empty) {
                break;
            }
            let values = self.index.read().value_count(m.name());
            if kept
                .as_ref()
                .is_some_and(|k| k.len() * VALUES_A_SERIES < values)
            {
                pending.push(m);
                continue;
            }
            // Series without the label pass where the empty string does: then those whose value fails are taken away.
            let takes_away = m.matches_empty();
            let mut ids: Vec<SeriesId> = Vec::new();
            let ids_of_values = &mut ids;
            let narrowed = kept.as_deref();
            self.each_value(m.name(), cancel, &mut |index: &MemPostings, value| {
                if m.matches(index.symbols().resolve(value)) != takes_away {
                    let list = index.postings_of_pair(m.name(), value);
                    match narrowed {
                        Some(kept) => ids_of_values.extend(intersect_slices(kept, list)),
                        None => ids_of_values.extend_from_slice(list),
                    }
                }
                Ok(())
            })?;
            ids.sort_unstable();
            ids.dedup();
            if takes_away {
                drop.push(ids);
            } else {
                kept = Some(ids);
            }
        }
        let mut ids = kept.unwrap_or_else(|| self.index.read().all().to_vec());
        for d in drop {
            subtract_slice(&mut ids, &d);
        }
        Ok(Candidates {
            ids,
            pending,
            removals,
        })
    }

    /// Visits the values of a label in slices. When symbols got new numbers meanwhile it begins again: a visitor
    /// may then see some of them twice.
    pub(super) fn each_value(
        &self,
        name: &str,
        cancel: &CancelToken,
        visit: &mut dyn FnMut(&MemPostings, SymbolId) -> Result<()>,
    ) -> Result<()> {
        'anew: loop {
            let (values, numbering) = {
                let index = self.index.read();
                (index.value_symbols(name).to_vec(), index.numbering())
            };
            let mut rest = values.as_slice();
            while !rest.is_empty() {
                cancel.check("selection of series")?;
                let index = self.index.read();
                if index.numbering() != numbering {
                    continue 'anew;
                }
                let mut bytes = 0;
                while let Some((&value, after)) = rest.split_first()
                    && bytes < SLICE_BYTES
                {
                    bytes += 16 + index.symbols().resolve(value).len();
                    visit(&index, value)?;
                    rest = after;
                }
            }
            return Ok(());
        }
    }
}

fn passes<'a>(matchers: impl IntoIterator<Item = &'a Matcher>, labels: &Labels) -> bool {
    let passes = |m: &Matcher| m.matches(labels.get(m.name()).unwrap_or_default());
    matchers.into_iter().all(passes)
}

/// Texts of symbols.
#[derive(Debug, Default)]
struct Texts {
    texts: TextSetBuilder,
    /// Symbols whose texts are there, by the numbering in which they were seen.
    seen: HashSet<SymbolId>,
    numbering: u64,
}

impl Texts {
    fn add(
        &mut self,
        index: &MemPostings,
        symbol: SymbolId,
        request: &SelectRequest,
    ) -> Result<()> {
        if index.numbering() != self.numbering {
            self.numbering = index.numbering();
            self.seen.clear();
        }
        if self.seen.insert(symbol) {
            self.add_new(index.symbols().resolve(symbol), request)?;
        }
        Ok(())
    }

    /// Adds a text that need not be looked for among those before.
    fn add_new(&mut self, text: &str, request: &SelectRequest) -> Result<()> {
        self.texts.push(text);
        request.bounds.check_list(self.texts.text_bytes() as u64)
    }
}
