//! Which series of an index pass the matchers.
//!
//! A selector often names one thing that few series have, such as a pod, and others that nearly all have, such as the metric or the
//! cluster. The lists of the latter are then longer than all that the query reads besides. So equalities are taken by the length of
//! their lists, and what would cost more to look up than to check against the labels of the series that are left is checked so.

use async_trait::async_trait;

use crate::error::Result;
use crate::exec::in_place;
use crate::model::{Labels, MatchOp, Matcher};
use crate::postings::{List, Postings, intersect, intersect_slices, subtract, union};

/// An index file whose postings are read by ranges.
#[async_trait]
pub trait PostingsIndex: Sync {
    /// References of the series that have `value` for `name`, ascending; nothing if there is no such pair.
    ///
    /// # Errors
    /// `Corrupt`, and those of the reads.
    async fn postings(&self, name: &str, value: &str) -> Result<Vec<u32>>;

    /// How many series have it; `None` when they do and the number is not known without reading the list.
    ///
    /// # Errors
    /// As [`PostingsIndex::postings`].
    async fn postings_len(&self, name: &str, value: &str) -> Result<Option<u64>>;

    /// One list for every value of `name` that `wanted` accepts.
    ///
    /// # Errors
    /// As [`PostingsIndex::postings`].
    async fn postings_for_values(
        &self,
        name: &str,
        wanted: &mut (dyn for<'v> FnMut(&'v str) -> bool + Send),
    ) -> Result<Vec<Vec<u32>>>;

    /// References of all series, ascending.
    ///
    /// # Errors
    /// As [`PostingsIndex::postings`].
    async fn postings_all(&self) -> Result<Vec<u32>>;

    /// About how many values `name` has.
    fn label_value_estimate(&self, name: &str) -> u64;
}

/// Entries of a list that are read and decoded in the time in which one series is read and checked: microseconds and nanoseconds.
const LIST_ENTRIES_A_SERIES: u64 = 500;
/// Values of a label that are matched in that time.
const VALUES_A_SERIES: u64 = 20;

/// Series that may pass.
#[derive(Debug, Clone)]
pub struct MatchedSeries {
    /// References, ascending: the order of the file.
    pub refs: Vec<u32>,
    /// What they are still to be checked against.
    pub pending: Vec<Matcher>,
}

impl MatchedSeries {
    /// Whether the labels pass what is pending.
    pub fn takes(&self, labels: &Labels) -> bool {
        let passes = |m: &Matcher| m.matches(labels.get(m.name()).unwrap_or_default());
        self.pending.iter().all(passes)
    }
}

/// Narrows by postings as far as that pays.
///
/// # Errors
/// Those of the index.
pub async fn matching_series(
    index: &dyn PostingsIndex,
    matchers: &[Matcher],
) -> Result<MatchedSeries> {
    let mut equalities: Vec<(u64, &Matcher)> = Vec::new();
    let mut others: Vec<&Matcher> = Vec::new();
    for m in matchers {
        if m.op() != MatchOp::Equal || m.value().is_empty() {
            others.push(m);
            continue;
        }
        match index.postings_len(m.name(), m.value()).await? {
            Some(0) => return Ok(none()),
            len => equalities.push((len.unwrap_or(0), m)),
        }
    }
    equalities.sort_by_key(|(len, _)| *len);
    let mut narrowed = Narrowed::default();
    for (len, m) in equalities {
        if narrowed.is_far_below(len / LIST_ENTRIES_A_SERIES) {
            narrowed.pending.push(m.clone());
        } else {
            narrowed.keep(index.postings(m.name(), m.value()).await?);
        }
    }
    let mut drop: Vec<Vec<u32>> = Vec::new();
    for m in others {
        let values = index.label_value_estimate(m.name());
        if narrowed.is_far_below(values / VALUES_A_SERIES) {
            narrowed.pending.push(m.clone());
        } else if m.matches_empty() {
            // Series without the label pass: take away those whose value does not.
            let mut fails = |v: &str| !m.matches(v);
            drop.extend(index.postings_for_values(m.name(), &mut fails).await?);
        } else {
            narrowed.keep_any(matching(index, m).await?);
        }
        if narrowed.kept.as_ref().is_some_and(Vec::is_empty) {
            return Ok(none());
        }
    }
    let kept = match narrowed.kept {
        Some(kept) => kept,
        None => index.postings_all().await?,
    };
    let refs = if drop.is_empty() {
        kept
    } else {
        let dropped = united(drop);
        computed(kept.len() + dropped.len(), || {
            let dropped = List::from_ascending(dropped);
            subtract(List::from_ascending(kept), dropped).collect_ids()
        })
    };
    Ok(MatchedSeries {
        refs,
        pending: narrowed.pending,
    })
}

fn none() -> MatchedSeries {
    MatchedSeries {
        refs: Vec::new(),
        pending: Vec::new(),
    }
}

#[derive(Default)]
struct Narrowed {
    /// `None`: all series.
    kept: Option<Vec<u32>>,
    pending: Vec<Matcher>,
}

impl Narrowed {
    fn is_far_below(&self, series: u64) -> bool {
        let kept = self.kept.as_ref();
        kept.is_some_and(|kept| (kept.len() as u64) < series)
    }

    /// Keeps what is in any of the lists. Where little is left they are narrowed before they are joined.
    fn keep_any(&mut self, mut lists: Vec<Vec<u32>>) {
        if let Some(kept) = &self.kept {
            let ids = lists.iter().map(|l| l.len().min(kept.len())).sum();
            computed(ids, || {
                for list in &mut lists {
                    *list = intersect_slices(kept, list);
                }
                lists.retain(|list| !list.is_empty());
            });
        }
        self.kept = Some(united(lists));
    }

    fn keep(&mut self, list: Vec<u32>) {
        self.kept = Some(match self.kept.take() {
            None => list,
            Some(kept) => computed(kept.len() + list.len(), || {
                let both = [kept, list].map(List::from_ascending);
                intersect(both.into_iter().collect()).collect_ids()
            }),
        });
    }
}

/// The list of each value that passes.
async fn matching(index: &dyn PostingsIndex, m: &Matcher) -> Result<Vec<Vec<u32>>> {
    match m.literal_values() {
        Some(values) if matches!(m.op(), MatchOp::Equal | MatchOp::Regex) => {
            let mut lists = Vec::with_capacity(values.len());
            for value in &values {
                lists.push(index.postings(m.name(), value).await?);
            }
            Ok(lists)
        }
        _ => {
            index
                .postings_for_values(m.name(), &mut |v| m.matches(v))
                .await
        }
    }
}

/// Ids that are worked on in less than a millisecond.
const FEW_IDS: usize = 16 << 10;

/// Computes on lists of `ids` entries; many of them without holding up others on the thread.
fn computed<T>(ids: usize, compute: impl FnOnce() -> T) -> T {
    if ids <= FEW_IDS {
        compute()
    } else {
        in_place(compute)
    }
}

fn united(mut lists: Vec<Vec<u32>>) -> Vec<u32> {
    if lists.len() == 1 {
        return lists.pop().unwrap_or_default();
    }
    let ids = lists.iter().map(Vec::len).sum::<usize>() + lists.len();
    computed(ids, || {
        union(lists.into_iter().map(List::from_ascending).collect()).collect_ids()
    })
}
