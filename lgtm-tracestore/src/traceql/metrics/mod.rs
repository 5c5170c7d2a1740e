//! Series of spans.
//!
//! [`Metrics`] counts batches into cells, [`MetricsPartial`] joins what several counted, [`MetricsAnswer`] makes series of it: rates and quantiles, the best
//! ones, computations between them. Counts and sums are added before anything is rounded, so that no answer depends on how the spans were cut.

mod cells;
mod compare;
mod exemplars;
mod grid;
mod leg;
mod metrics;
mod partial;
mod partial_bytes;
mod quantile;
mod series;
mod table;

pub use cells::{Cells, SumCell};
pub use grid::IntervalGrid;
pub use metrics::{Metrics, MetricsAnswer, MetricsSettings};
pub use partial::{Bucket, ExemplarSpan, LegPartial, MetricsPartial, SeriesKey, SeriesLabels};
pub use series::{Exemplar, Series};
