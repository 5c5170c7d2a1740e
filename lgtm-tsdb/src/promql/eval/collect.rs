//! The fold that keeps everything.

use lgtm_core::model::Labels;

use super::cells::{Cells, Series};
use super::context::{Charge, Context};
use super::labels::{merge_equal, without_metadata};
use super::pipeline::Fold;
use crate::promql::annotations::Annotations;
use crate::promql::query_error::Result;

/// Keeps all series, in the order of the store.
#[derive(Debug)]
pub(super) struct Collect {
    series: Vec<(u64, Series)>,
    charge: Charge,
    delayed_names: bool,
    /// Whether names were dropped, so that series may have become equal.
    dropped: bool,
}

impl Collect {
    pub(super) fn new(ctx: &Context) -> Self {
        Self {
            series: Vec::new(),
            charge: Charge::none(&ctx.usage),
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
        self.series.len()
    }

    /// The series and the memory they take.
    pub(super) fn finish(mut self) -> Result<(Vec<Series>, Charge)> {
        if !self.series.is_sorted_by_key(|s| s.0) {
            self.series.sort_by_key(|s| s.0);
        }
        let series: Vec<Series> = self.series.into_iter().map(|s| s.1).collect();
        let series = if self.dropped {
            merge_equal(series)?
        } else {
            series
        };
        Ok((series, self.charge))
    }
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
        self.charge.grow(cells.points(), bytes)?;
        self.series.push((place, Series { labels, cells }));
        Ok(())
    }

    fn fork(&self) -> Self {
        Self {
            series: Vec::new(),
            charge: self.charge.empty(),
            delayed_names: self.delayed_names,
            dropped: false,
        }
    }

    fn join(&mut self, other: Self, _: &mut Annotations) -> Result<()> {
        self.series.extend(other.series);
        self.charge.join(other.charge);
        self.dropped |= other.dropped;
        Ok(())
    }
}
