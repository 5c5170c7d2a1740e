//! A block as scans look at it: its footer, and which attributes have columns of their own.

use std::sync::Arc;

use crate::schema::{BlockFile, BlockVersion, DedicatedSlots, LeafIndex};
use crate::trace::{ColumnScope, DedicatedColumns};

/// What scans of a block share.
#[derive(Debug)]
pub struct ScanBlock {
    pub(super) file: Arc<BlockFile>,
    pub(super) version: BlockVersion,
    pub(super) dedicated: DedicatedColumns,
    pub(super) resource_slots: DedicatedSlots,
    pub(super) span_slots: DedicatedSlots,
    pub(super) event_slots: DedicatedSlots,
    /// A column with one small value for each span, whose levels tell what lies in what.
    pub(super) guide: Option<LeafIndex>,
    /// Columns that say which attributes are arrays.
    pub(super) array_flags: Vec<LeafIndex>,
}

impl ScanBlock {
    /// Of a footer; `dedicated` is the list of the block's `meta.json`.
    pub fn new(file: Arc<BlockFile>, version: BlockVersion, dedicated: DedicatedColumns) -> Self {
        let slots = |scope| DedicatedSlots::new(version, scope, dedicated.as_slice());
        let span = &file.positions.span;
        let of_spans = [span.status_code, span.kind, span.name, span.span_id];
        let is_guide = |leaf: &LeafIndex| {
            let leaf = file.leaves.get(*leaf);
            leaf.is_some_and(|leaf| leaf.max_rep == 3 && leaf.max_def == 3)
        };
        let leaves = &file.positions;
        let lists = [
            &leaves.resource_attributes,
            &leaves.scope_attributes,
            &span.attributes,
            &span.events.attributes,
            &span.links.attributes,
        ];
        let array_flags = lists.into_iter().filter_map(|list| list.is_array).collect();
        let guide = of_spans.into_iter().flatten().find(is_guide);
        Self {
            version,
            resource_slots: slots(ColumnScope::Resource),
            span_slots: slots(ColumnScope::Span),
            event_slots: slots(ColumnScope::Event),
            guide,
            array_flags,
            dedicated,
            file,
        }
    }

    /// The footer.
    pub fn file(&self) -> &Arc<BlockFile> {
        &self.file
    }

    /// When the newest trace of a row group began, by its statistics; `None` when these do not say.
    pub fn newest_start_ns(&self, group: usize) -> Option<u64> {
        let leaf = self.file.positions.start?;
        let (_, chunk) = self.file.chunk(group, leaf)?;
        let max = chunk.max.as_deref()?;
        Some(u64::from_le_bytes(max.try_into().ok()?))
    }
}
