//! Exemplars of one head: a ring of bounded length, the oldest giving way.

use std::collections::VecDeque;

use hashbrown::HashMap;
use lgtm_core::exec::CancelToken;
use lgtm_core::model::{Exemplar, LabelArena, Labels, Matcher, TenantId, TimeRange, TimestampMs};
use lgtm_core::postings::SeriesId;
use lgtm_core::{Error, Result};

use super::head::Head;
use super::heads::Heads;
use super::series::locate;
use crate::wire::MAX_EXEMPLAR_CHARS;

/// The id of the rule that an exemplar with long labels breaks.
pub(crate) const EXEMPLAR_LABELS_TOO_LONG: &str = "exemplar-labels-too-long";
/// The id of the rule that an exemplar of a series without a sample breaks.
pub(super) const EXEMPLAR_SERIES_MISSING: &str = "exemplar-series-missing";

/// The newest exemplars of a head.
#[derive(Debug)]
pub(super) struct ExemplarRing {
    capacity: usize,
    ring: VecDeque<(SeriesId, Exemplar)>,
    /// Number of the oldest in `ring`: they are counted as they come.
    first: u64,
    newest: HashMap<SeriesId, (TimestampMs, u64, u64)>,
}

impl ExemplarRing {
    /// A ring of at most `capacity` exemplars; 0 takes none.
    pub(super) fn new(capacity: u64) -> Self {
        let capacity = usize::try_from(capacity).unwrap_or(usize::MAX);
        Self {
            capacity,
            ring: VecDeque::new(),
            first: 0,
            newest: HashMap::new(),
        }
    }

    /// Changes how many are kept; the oldest that are too many go.
    pub(super) fn resize(&mut self, capacity: u64) {
        self.capacity = usize::try_from(capacity).unwrap_or(usize::MAX);
        while self.ring.len() > self.capacity {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((old, gone)) = self.ring.pop_front() else {
            return;
        };
        self.first += 1;
        if self.newest.get(&old).is_some_and(|n| n.0 == gone.t_ms) {
            self.newest.remove(&old);
        }
    }

    /// Number of exemplars held.
    pub(super) fn len(&self) -> usize {
        self.ring.len()
    }

    /// Takes an exemplar. `Ok(false)` when the series' newest is this very one.
    ///
    /// # Errors
    /// The id of the rule that it breaks.
    pub(super) fn push(&mut self, id: SeriesId, exemplar: &Exemplar) -> Result<bool, &'static str> {
        if self.capacity == 0 {
            return Err("exemplars-disabled");
        }
        let chars = |l: &Labels| {
            l.iter()
                .map(|(n, v)| n.chars().count() + v.chars().count())
                .sum::<usize>()
        };
        if chars(&exemplar.labels) > MAX_EXEMPLAR_CHARS {
            return Err(EXEMPLAR_LABELS_TOO_LONG);
        }
        let key = (
            exemplar.t_ms,
            exemplar.value.to_bits(),
            exemplar.labels.stable_hash(),
        );
        if let Some(newest) = self.newest.get(&id) {
            if *newest == key {
                return Ok(false);
            }
            // At one time several exemplars may come, in a fixed order of value and labels.
            if key < *newest {
                return Err("exemplar-out-of-order");
            }
        }
        self.newest.insert(id, key);
        if self.ring.len() >= self.capacity {
            self.forget_oldest();
        }
        self.ring.push_back((id, exemplar.clone()));
        Ok(true)
    }

    /// Forgets the exemplars of series that are gone: their ids will mean others.
    pub(super) fn forget(&mut self, dead: &[SeriesId]) {
        // Those left count as new, so that who walks the ring piece by piece begins again and misses none.
        self.first += self.ring.len() as u64;
        self.ring.retain(|(id, _)| dead.binary_search(id).is_err());
        for id in dead {
            self.newest.remove(id);
        }
    }

    /// The exemplars from a number on, oldest first, with their numbers.
    pub(super) fn from(&self, number: u64) -> impl Iterator<Item = (u64, SeriesId, &Exemplar)> {
        let skip = usize::try_from(number.saturating_sub(self.first)).unwrap_or(usize::MAX);
        let numbered = (self.first..).zip(&self.ring).skip(skip);
        numbered.map(|(n, (id, e))| (n, *id, e))
    }

    /// The exemplars held, oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (SeriesId, &Exemplar)> {
        self.ring.iter().map(|(id, e)| (*id, e))
    }
}

/// How many exemplars an answer may have.
#[derive(Debug, Clone, Copy)]
pub struct ExemplarBounds {
    /// Series; 0 is no bound.
    pub max_series: u64,
    /// Bytes of labels and values, as they are held.
    pub max_bytes: u64,
}

/// Which exemplars are asked for.
#[derive(Debug, Clone)]
pub struct ExemplarsRequest {
    /// Those of the series that pass all matchers of one of these.
    pub selectors: Vec<Vec<Matcher>>,
    /// When.
    pub range: TimeRange,
    /// How many at most.
    pub bounds: ExemplarBounds,
}

/// The exemplars of series, in label order.
pub type SeriesExemplars = Vec<(Labels, Vec<Exemplar>)>;

impl Head {
    /// Exemplars of the series that match any of the selectors. Looks at the exemplars that are held, not at all series.
    fn exemplars(
        &self,
        request: &ExemplarsRequest,
        cancel: &CancelToken,
    ) -> Result<SeriesExemplars> {
        // Ids are what they are as long as this is held.
        let _snapshot = self.parts.generations.enter();
        let mut by_id: HashMap<SeriesId, Vec<Exemplar>> = HashMap::new();
        for (id, e) in self.exemplars.lock().iter() {
            if request.range.contains(e.t_ms) {
                by_id.entry(id).or_default().push(e.clone());
            }
        }
        let mut by_id: Vec<_> = by_id.into_iter().collect();
        let (mut found, mut bytes) = (Vec::new(), 0u64);
        while !by_id.is_empty() {
            cancel.check("a search of exemplars")?;
            // The index is held for a few at a time, as others wait to add to it.
            let rest = by_id.len().saturating_sub(256);
            for (labels, exemplars) in self.labelled(by_id.split_off(rest)) {
                let matches = |selector: &Vec<Matcher>| {
                    let value = |m: &Matcher| labels.get(m.name()).unwrap_or("");
                    selector.iter().all(|m| m.matches(value(m)))
                };
                if !request.selectors.iter().any(matches) {
                    continue;
                }
                let each = exemplars.iter().map(|e| e.labels.size_bytes() + 64);
                bytes += (labels.size_bytes() + each.sum::<usize>()) as u64;
                found.push((labels, exemplars));
                request.bounds.check(found.len() as u64, bytes)?;
            }
        }
        found.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        Ok(found)
    }

    /// The same by labels, without series that are gone.
    fn labelled(&self, some: Vec<(SeriesId, Vec<Exemplar>)>) -> SeriesExemplars {
        let (index, shards) = (self.index.read(), self.shards());
        let mut arena = LabelArena::default();
        let mut labels = |id: SeriesId| {
            let (shard, slot) = locate(id);
            match shards.get(shard)?.lock().get(slot) {
                Some(Some(series)) => Some(index.labels(&series.labels, &mut arena)),
                _ => None,
            }
        };
        let labelled = some.into_iter().map(|(id, e)| Some((labels(id)?, e)));
        labelled.flatten().collect()
    }
}

impl ExemplarBounds {
    fn check(&self, series: u64, bytes: u64) -> Result<()> {
        let over = |what: &str, setting: &str, max: u64| {
            Err(Error::LimitExceeded(format!(
                "exemplars of more than {max} {what} match, the bound is {setting}; ask for less time or fewer series"
            )))
        };
        if self.max_series > 0 && series > self.max_series {
            return over("series", "max_fetched_series_per_query", self.max_series);
        }
        if bytes > self.max_bytes {
            return over("bytes", "max_exemplars_bytes", self.max_bytes);
        }
        Ok(())
    }
}

impl Heads {
    /// Exemplars of a tenant's series that match any of the selectors.
    ///
    /// # Errors
    /// `LimitExceeded` past the bounds, `Cancelled`.
    pub(crate) fn exemplars(
        &self,
        tenant: &TenantId,
        request: &ExemplarsRequest,
        cancel: &CancelToken,
    ) -> Result<SeriesExemplars> {
        match self.get(tenant) {
            Some(head) => head.exemplars(request, cancel),
            None => Ok(Vec::new()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exemplar(t_ms: TimestampMs, value: f64) -> Exemplar {
        Exemplar {
            labels: Labels::from_pairs([("trace_id", "abc")]).unwrap(),
            value,
            t_ms,
        }
    }

    #[test]
    fn the_oldest_gives_way_and_doubles_are_known() {
        let mut ring = ExemplarRing::new(2);
        assert_eq!(ring.push(1, &exemplar(TimestampMs::new(10), 1.0)), Ok(true));
        assert_eq!(
            ring.push(1, &exemplar(TimestampMs::new(10), 1.0)),
            Ok(false)
        );
        assert_eq!(
            ring.push(1, &exemplar(TimestampMs::new(9), 1.0)),
            Err("exemplar-out-of-order")
        );
        assert_eq!(ring.push(1, &exemplar(TimestampMs::new(10), 2.0)), Ok(true));
        assert_eq!(ring.push(2, &exemplar(TimestampMs::new(5), 1.0)), Ok(true));
        assert_eq!(
            ring.iter()
                .map(|(id, e)| (id, e.t_ms.get()))
                .collect::<Vec<_>>(),
            [(1, 10), (2, 5)]
        );
        ring.resize(1);
        assert_eq!(ring.iter().map(|(id, _)| id).collect::<Vec<_>>(), [2]);
        ring.resize(2);
        assert_eq!(ring.push(1, &exemplar(TimestampMs::new(11), 1.0)), Ok(true));
        let mut ring = ExemplarRing::new(2);
        for (id, t_ms, value) in [(1, 10, 1.0), (1, 10, 2.0), (2, 5, 1.0)] {
            ring.push(id, &exemplar(TimestampMs::new(t_ms), value))
                .unwrap();
        }
        let numbers = |ring: &ExemplarRing, from| ring.from(from).map(|e| e.0).collect::<Vec<_>>();
        assert_eq!(
            (numbers(&ring, 0), numbers(&ring, 2)),
            (vec![1, 2], vec![2])
        );
        ring.forget(&[1]);
        assert_eq!(ring.len(), 1);
        assert_eq!(
            numbers(&ring, 3),
            [3],
            "whoever had read them all reads what is left again"
        );
    }

    #[test]
    fn long_labels_are_refused() {
        let labels = Labels::from_pairs([("a", "x".repeat(128))]).unwrap();
        let e = Exemplar {
            labels,
            value: 1.0,
            t_ms: TimestampMs::new(1),
        };
        assert_eq!(
            ExemplarRing::new(9).push(1, &e),
            Err("exemplar-labels-too-long")
        );
        assert_eq!(
            ExemplarRing::new(0).push(1, &exemplar(TimestampMs::new(1), 1.0)),
            Err("exemplars-disabled")
        );
    }
}
