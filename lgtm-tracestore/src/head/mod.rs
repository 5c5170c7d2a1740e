//! What is not in the object store yet: the log, memory, replay, and batches of cut traces.
//!
//! ```text
//! push -> live traces ── idle, old ──> cut ──> batch: packed, in a local file ──> flush: merged by trace id
//!      \-> log (record) -> replay              checkpoint: memory -> log
//! ```
//!
//! Spans stay the bytes they came as all the way. Open [`head`](head/head.rs) first, then `live_trace`, `run`, `push`, `head_batch`, `batch`, `heads`,
//! `checkpoint`, `replay`, `read`, `ordered`, `flush`.

mod batch;
mod batch_merge;
mod block_window;
mod capacity;
mod checkpoint;
mod flush;
mod head;
mod head_batch;
mod heads;
mod live_trace;
mod live_traces;
mod ordered;
mod push;
mod read;
mod recent;
mod record;
mod replay;
mod run;
mod select;
mod settings;
mod shared_bytes;
#[cfg(test)]
mod tests;

pub use batch_merge::BatchMerge;
pub use block_window::BlockWindow;
pub use flush::{FlushPart, FlushScope, Leaving};
pub use heads::{HeadHost, Heads, TenantTraces};
pub use read::{HeadTraces, NsRange};
pub use replay::HeadReplayReport;
pub use select::HeadSelect;
pub use settings::HeadSettings;
