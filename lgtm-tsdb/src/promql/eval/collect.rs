//! The fold that keeps everything.

use lgtm_core::model::Labels;

use super::cells::{Cells, Series};
use super::context::{Charge, Context, Growing};
use super::labels::{merge_equal, without_metadata};
use super::pipeline::Fold;
use crate::promql::annotations::Annotations;
use crate::promql::query_error::Result;

/// Series of a run, at most. A run but the first is taken whole at once and never moves as more come.
const RUN: usize = 512;

/// Keeps all series, in the order of the store.
#[derive(Debug)]
pub(super) struct Collect {
    /// Series with their places, in runs: joining two lanes moves runs, not series.
    runs: Vec<Vec<(u64, Series)>>,
    memory: Growing,
    delayed_names: bool,
    /// Whether names were dropped, so that series may have become equal.
    dropped: bool,
}

impl Collect {
    pub(super) fn new(ctx: &Context) -> Self {
        Self {
            runs: Vec::new(),
            memory: Growing::none(&Charge::none(&ctx.usage)),
            delayed_names: ctx.switches.delayed_names,
            dropped: false,
        }
    }

    /// Keeps names whatever was computed.
    pub(super) fn named(ctx: &Context) -> Self {
        Self {
            delayed_names: true,
            ..Self::new(ctx)
        }
    }

    /// Number of series.
    pub(super) fn len(&self) -> usize {
        self.runs.iter().map(Vec::len).sum()
    }

    /// The series and the memory they take.
    pub(super) fn finish(self) -> Result<(Vec<Series>, Charge)> {
        let charge = self.memory.finish()?;
        let series = in_order(self.runs);
        let series = if self.dropped {
            merge_equal(series)?
        } else {
            series
        };
        Ok((series, charge))
    }

    fn push(&mut self, place: u64, series: Series) {
        match self.runs.last_mut() {
            // A batch ends where places leave off: a run that ends there too can be put in order as a whole.
            Some(run)
                if run.len() < RUN / 2
                    || run.len() < RUN && run.last().is_some_and(|s| s.0 + 1 == place) =>
            {
                run.push((place, series));
            }
            Some(_) => {
                let mut run = Vec::with_capacity(RUN);
                run.push((place, series));
                self.runs.push(run);
            }
            None => self.runs.push(vec![(place, series)]),
        }
    }
}

/// All series by their places.
fn in_order(mut runs: Vec<Vec<(u64, Series)>>) -> Vec<Series> {
    let place = |s: &(u64, Series)| s.0;
    for run in &mut runs {
        if !run.is_sorted_by_key(place) {
            run.sort_by_key(place);
        }
    }
    runs.sort_by_key(|run| run.first().map(place));
    let ends_before = |a: &Vec<_>, b: &Vec<_>| a.last().map(place) <= b.first().map(place);
    if !runs.is_sorted_by(ends_before) {
        let mut all: Vec<_> = runs.into_iter().flatten().collect();
        all.sort_by_key(place);
        runs = vec![all];
    }
    if runs.len() == 1 {
        // In place.
        return runs.remove(0).into_iter().map(|s| s.1).collect();
    }
    let mut out = Vec::with_capacity(runs.iter().map(Vec::len).sum());
    for run in runs {
        out.extend(run.into_iter().map(|s| s.1));
    }
    out
}

impl Fold for Collect {
    fn add(
        &mut self,
        place: u64,
        labels: &Labels,
        cells: &mut Cells,
        _: &mut Annotations,
    ) -> Result<()> {
        let mut cells = std::mem::take(cells);
        let mut labels = labels.clone();
        if cells.drop_name && !self.delayed_names {
            labels = without_metadata(&labels);
            cells.drop_name = false;
            self.dropped = true;
        }
        let bytes = cells.bytes() + labels.size_bytes() as u64 + 64;
        self.memory.add(cells.points(), bytes)?;
        self.push(place, Series { labels, cells });
        Ok(())
    }

    fn fork(&self) -> Self {
        Self {
            runs: Vec::new(),
            memory: self.memory.empty(),
            delayed_names: self.delayed_names,
            dropped: false,
        }
    }

    fn join(&mut self, other: Self, _: &mut Annotations) -> Result<()> {
        self.runs.extend(other.runs);
        self.memory.join(other.memory)?;
        self.dropped |= other.dropped;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn series(place: u64) -> (u64, Series) {
        let labels = Labels::from_pairs([("place", place.to_string())]).unwrap();
        let cells = Cells::of_floats(vec![place as f64]);
        (place, Series { labels, cells })
    }

    fn places(series: &[Series]) -> Vec<u64> {
        series.iter().map(|s| s.cells.floats[0] as u64).collect()
    }

    proptest! {
        #[test]
        fn runs_in_any_order_are_one_list(
            mut runs in proptest::collection::vec(proptest::collection::vec(0u64..50, 1..9), 0..9),
            apart in any::<bool>(),
        ) {
            if apart {
                for (i, run) in runs.iter_mut().enumerate() {
                    // As batches come: each behind or before all of another.
                    run.iter_mut().for_each(|p| *p += (i as u64 * 7 % 5) * 100);
                }
            }
            let mut wanted: Vec<u64> = runs.iter().flatten().copied().collect();
            wanted.sort_unstable();
            let runs = runs.iter().map(|r| r.iter().copied().map(series).collect());
            prop_assert_eq!(places(&in_order(runs.collect())), wanted);
        }
    }
}
