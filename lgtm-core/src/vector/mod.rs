//! What the three query languages compute with: values on a grid of steps, grouping keys, the matching of two vectors, the best k.
//!
//! The languages keep their own arithmetic; here stands what does not depend on it. A series of an answer is a label set with
//! one cell per step ([`GridSeries`]); what a cell holds is the language's choice ([`Cells`]). Series that are equal but for
//! what a grouping leaves out get the same number from a [`GroupTable`].
//!
//! ```
//! use lgtm_core::model::Labels;
//! use lgtm_core::vector::{GroupTable, Grouping, StepGrid};
//!
//! let grid = StepGrid::range(0, 60_000, 15_000);
//! assert_eq!((grid.len(), grid.at(4).get()), (5, 60_000));
//!
//! let mut groups = GroupTable::new(Grouping::by(["job"]));
//! let a = Labels::from_pairs([("job", "api"), ("pod", "1")])?;
//! let b = Labels::from_pairs([("job", "api"), ("pod", "2")])?;
//! assert_eq!(groups.index_of(&a), groups.index_of(&b));
//! # Ok::<(), lgtm_core::Error>(())
//! ```

mod grid;
mod grouping;
mod matching;
mod series;
mod top_k;

pub use grid::StepGrid;
pub use grouping::{GroupTable, Grouping};
pub use matching::{Cardinality, MatchGroup, match_groups};
pub use series::{Cells, GAP, GridSeries, Overlap, is_gap, merge_equal_labels};
pub use top_k::TopK;
