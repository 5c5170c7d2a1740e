//! Between a query and those who answer it: cut it into pieces, remember answers, let tenants take turns.
//!
//! ```text
//! request -> known errors -> coalesce -> split by interval -> results cache -> shard -> retry -> fair gate -> Downstream
//!                        \-> piece by piece until there is enough, unless known to be empty -> shard -> ...
//! ```
//!
//! It knows no query language. A language implements [`Splitter`] (how its requests are cut and its answers joined), whoever
//! answers implements [`Downstream`], and [`Frontend`] does the rest. The pure parts stand alone: [`StepRange`] cuts time,
//! [`Extent`]s say what of a range is known, [`FairQueue`] gives turns.
//!
//! Sources: the split and queue rules of Grafana Mimir's query-frontend and the results cache of the Cortex family, as their
//! documentation describes them.

mod empty_ranges;
mod errors_cache;
mod extent;
mod fair_gate;
mod fair_queue;
mod frontend;
mod results_cache;
mod retry;
mod settings;
mod splitter;
mod steps;
mod sweep;

pub use empty_ranges::{EmptyRanges, EmptyRangesStats};
pub use errors_cache::{ErrorsCache, ErrorsCacheStats};
pub use extent::{Cover, Extent, cover, merge_extents, trim_extents};
pub use fair_gate::{FairGate, FairGateBounds, FairPermit};
pub use fair_queue::FairQueue;
pub use frontend::{Frontend, FrontendBuilder, FrontendStats};
pub use results_cache::{ResultsCache, ResultsCacheStats};
pub use settings::{FrontendLimits, FrontendSettings};
pub use splitter::{Downstream, ShardPlan, Splitter};
pub use steps::{Pieces, StepRange};
pub use sweep::{SweepPieces, SweepRange, SweepStep};
