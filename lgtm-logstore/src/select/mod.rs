//! The one question that any holder of logs answers: which streams match, and their entries in a time range.
//!
//! [`Select`] hands out decoded blocks of entries in bounded batches, stream by stream or by time over all streams, and says at the end
//! how whole that was ([`SelectEnd`]). [`MergedEntries`] joins the answers of several holders; [`MemorySelect`] is a complete holder in memory, the reference of all others. What goes in and
//! out is plain data. What a holder has counted already may come as [`StreamCounts`] in the place of entries, for who asks for that.

mod counts;
mod end;
mod memory;
mod merged;
mod request;
mod select;
mod volume;
mod volume_spans;

pub use counts::{CountCell, CountWish, StreamCounts};
pub use end::{FetchStats, SelectEnd};
pub use lgtm_core::model::{Listed, TruncatedList};
pub use memory::MemorySelect;
pub use merged::MergedEntries;
pub use request::{FetchBounds, SelectHints, SelectOrder, SelectRequest, StreamShard};
pub use select::{EntryBatch, EntryBatches, ReadyBatches, Select, StreamBlock};
pub use volume::StreamVolume;
pub use volume_spans::{VolumeSpan, densest};

pub(crate) use request::milliseconds_around;
pub(crate) use volume::part_in;
pub(crate) use volume_spans::added;
