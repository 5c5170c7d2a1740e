//! A function over a range, with its arguments, applied to the samples of one series.

use lgtm_core::model::Labels;
use lgtm_core::vector::is_gap;

use super::cells::Cells;
use super::context::Context;
use super::labels::metric;
use crate::promql::annotations::{Annotations, Note, Operation};
use crate::promql::ast::Edges;
use crate::promql::functions::{Look, RangeFunction, RangeNotes, Samples, WindowGrid, evaluate};
use crate::promql::query_error::{QueryError, Result};

/// A range function and its scalar arguments.
#[derive(Debug)]
pub(super) struct RangeCall {
    pub(super) function: RangeFunction,
    /// One value per step each.
    pub(super) params: Vec<Vec<f64>>,
    /// Place of its first argument.
    pub(super) pos: usize,
}

impl RangeCall {
    /// Computes the values of a series from its samples. Returns how many samples the windows hold.
    #[allow(
        clippy::too_many_arguments,
        reason = "the one call of the hot loop: a struct would be built per series"
    )]
    pub(super) fn apply(
        &self,
        samples: &Samples,
        windows: &WindowGrid,
        edges: Edges,
        ctx: &Context,
        labels: &Labels,
        out: &mut Cells,
        notes: &mut Annotations,
    ) -> Result<u64> {
        let mut seen = RangeNotes::default();
        let look = Look {
            edges,
            lookback_ms: ctx.switches.lookback_ms,
            cancel: &ctx.cancel,
        };
        let read = evaluate(
            self.function,
            samples,
            windows,
            look,
            &self.params,
            out,
            &mut seen,
        )
        .map_err(QueryError::Execution)?;
        ctx.cancel.check("query")?;
        out.drop_name |= !self.function.keeps_name();
        note_range(seen, labels, self.pos, notes);
        if self.function == RangeFunction::Quantile {
            self.note_quantiles(out, notes);
        }
        if self.function.expects_counter_name() && !samples.times.is_empty() {
            self.note_name(labels, out, notes);
        }
        Ok(read)
    }

    fn note_quantiles(&self, out: &Cells, notes: &mut Annotations) {
        for (q, v) in self.params[0].iter().zip(&out.floats) {
            if !(0.0..=1.0).contains(q) && !is_gap(*v) {
                notes.add(Note::InvalidQuantile(*q), self.pos);
            }
        }
    }

    fn note_name(&self, labels: &Labels, out: &Cells, notes: &mut Annotations) {
        let name = labels.metric_name().unwrap_or("");
        let fits = ["_total", "_sum", "_count", "_bucket"]
            .iter()
            .any(|end| name.ends_with(end));
        if !name.is_empty() && !fits && out.floats.iter().any(|v| !is_gap(*v)) {
            let metric = name.to_owned();
            notes.add(Note::PossibleNonCounter { metric }, self.pos);
        }
    }
}

/// Turns what a range function noticed into notes about a metric.
pub(super) fn note_range(seen: RangeNotes, labels: &Labels, pos: usize, notes: &mut Annotations) {
    if seen.is_empty() {
        return;
    }
    let metric = metric(labels);
    let mut add = |flag: RangeNotes, note: Note| {
        if seen.has(flag) {
            notes.add(note, pos);
        }
    };
    let m = || metric.clone();
    add(
        RangeNotes::MIXED,
        Note::MixedFloatsHistograms { metric: m() },
    );
    add(RangeNotes::NOT_COUNTER, Note::NotCounter { metric: m() });
    add(RangeNotes::NOT_GAUGE, Note::NotGauge { metric: m() });
    add(
        RangeNotes::MIXED_BUCKETS,
        Note::MixedExponentialCustom { metric: m() },
    );
    add(
        RangeNotes::HISTOGRAMS_IGNORED,
        Note::IgnoredInMixedRange { metric: m() },
    );
    add(
        RangeNotes::RECONCILED_ADD,
        Note::BoundsReconciled(Operation::Addition),
    );
    add(
        RangeNotes::RECONCILED_SUB,
        Note::BoundsReconciled(Operation::Subtraction),
    );
    add(
        RangeNotes::RECONCILED_AGG,
        Note::BoundsReconciled(Operation::Aggregation),
    );
    add(
        RangeNotes::HINTS_COLLIDE,
        Note::HintCollision(Operation::Aggregation),
    );
    add(
        RangeNotes::STARTS_OVERLAP,
        Note::StartTimeOverlap { metric: m() },
    );
}
