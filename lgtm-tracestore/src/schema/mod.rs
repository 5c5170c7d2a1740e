//! Parquet trace blocks: how traces are packed into columns and come out of them. Pure.
//!
//! One row of a block is a trace. [`Layout`] is the list of leaf columns, which others read by position; [`BlockVersion`] names the three
//! versions that are read, of which two are written. See `docs/format/parquet_trace_block.md`.

mod any_json;
mod assemble;
mod attributes;
mod column;
mod column_buffer;
mod column_memory;
mod column_plan;
mod cursor;
mod dedicated;
mod delta;
mod encode;
mod file;
mod hybrid;
mod layout;
mod leaves;
mod level_packer;
mod lookup;
mod page;
mod page_facts;
mod page_index;
mod page_scratch;
mod page_values;
mod row_entries;
mod row_lists;
mod row_pick;
mod row_plan;
mod rows;
mod shred;
mod source;
mod spans;
mod text_table;
mod texts;
mod thrift;
mod trim;
mod unpack;
mod value_range;
mod version;
mod writer;

pub(crate) use any_json::parse_json;
pub use attributes::KeyedAttributes;
pub use column::{Column, ColumnDecoder, ColumnValues, Levels};
pub use column_memory::ColumnMemory;
pub use column_plan::ColumnPlan;
pub use dedicated::{DedicatedSlot, DedicatedSlots};
pub use file::{BlockFile, Chunk, FileLeaf, Physical, RowGroup, TAIL_BYTES};
pub use layout::{Layout, Leaf, LeafCodec, LeafEncoding, LeafKind};
pub use leaves::{
    AttributeLeaves, DedicatedLeaves, EventLeaves, LeafIndex, Leaves, LinkLeaves, SpanLeaves,
};
pub(crate) use lookup::KeptDictionaries;
pub use lookup::{LookupStep, TraceLookup};
pub use page_index::{OffsetIndex, PageBounds, PageLocation, decode_column_index};
pub(crate) use row_pick::RowPick;
pub use row_plan::RowPlan;
pub use rows::RowReader;
pub use source::{ByteSource, FetchedRanges, coalesce};
pub use spans::SpanRows;
pub use texts::Texts;
pub use version::BlockVersion;
pub use writer::{BlockWriter, BlockWriterSettings, WrittenBlock};
