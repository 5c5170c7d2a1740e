//! Where work runs: a compute pool, groups of tasks, cancellation.
//!
//! The library starts no runtime of its own: async tasks go onto the handle that the host gives, CPU work onto the bounded pool of
//! an [`Executor`]. No other folder spawns anything. Whoever spawns a task holds its [`TaskGroup`] and joins it at shutdown; dropping
//! what waits for a piece of work cancels that work.

mod abandoned;
mod cancel;
mod deep;
mod executor;
mod housekeeping;
mod in_place;
mod movable;
mod panic;
mod pool;
mod task_group;

pub use abandoned::{check_wanted, is_abandoned};
pub use cancel::{CancelOnDrop, CancelToken};
pub use deep::{deep, with_room};
pub use executor::{Executor, ExecutorSettings, ExecutorStats};
pub use housekeeping::{Housekeeping, rounds};
pub use in_place::in_place;
pub use movable::{current_cancel, move_if_heavy, move_to_pool};
pub(crate) use panic::panic_message;
pub use task_group::{TaskGroup, TaskHandle};
