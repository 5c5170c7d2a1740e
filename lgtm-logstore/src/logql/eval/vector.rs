//! Series on the grid of a query.

use lgtm_core::vector::GridSeries;

/// Series with one cell a step; [`GAP`](lgtm_core::vector::GAP) where there is no value.
pub(crate) type GridVector = Vec<GridSeries<Vec<f64>>>;

/// Puts series in the order of their labels.
pub(crate) fn sort_series(vector: &mut GridVector) {
    vector.sort_by(|a, b| a.labels.cmp(&b.labels));
}
