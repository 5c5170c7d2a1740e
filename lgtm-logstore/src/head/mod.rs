//! What is not in the object store yet: the log, memory, replay, and finishing chunks.
//!
//! ```text
//! push -> stream (open chunk: blocks are compressed as they fill) -> finished chunks (chunk files)
//!      \-> log (record) -> replay          checkpoint: memory -> log
//! ```
//!
//! Open [`head`](head/head.rs) first, then `stream`, `push`, `heads`, `checkpoint`, `replay`, `read`, `flush`.

mod batches;
mod capacity;
mod checkpoint;
mod flush;
mod head;
mod head_chunk;
mod heads;
mod open_chunk;
mod pieces;
mod push;
mod read;
mod record;
mod replay;
mod settings;
mod stream;

#[cfg(test)]
mod tests;

pub use flush::{FlushScope, Leaving, LeavingChunk, LeavingQueue};
pub use heads::{HeadHost, Heads, TenantStreams};
pub use read::HeadSelect;
pub use replay::HeadReplayReport;
pub use settings::HeadSettings;
