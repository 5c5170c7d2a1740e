//! Reads rows as traces: one, some, or all of a row group, in order.

use std::sync::Arc;

use lgtm_core::codec::{Allowance, DecodeFail};
use lgtm_core::error::DecodeError;

use crate::schema::assemble::{Assembler, RowShape};
use crate::schema::cursor::Cursors;
use crate::schema::source::{ByteSource, fetched};
use crate::schema::{
    BlockFile, BlockVersion, ColumnDecoder, ColumnMemory, DedicatedSlots, LeafIndex, Levels,
    RowPick, RowPlan, Texts,
};
use crate::trace::{ColumnScope, DedicatedColumns, TraceId};

/// Hands out the traces of some rows.
#[derive(Debug)]
pub struct RowReader {
    shape: Arc<RowShape>,
    cursors: Cursors,
    left: u64,
    /// Those that were decoded of pieces of their own.
    dictionaries: Vec<(LeafIndex, Arc<Texts>)>,
}

impl RowReader {
    /// Decodes the columns of the rows that were planned. `dedicated` is the list of the block's `meta.json`.
    ///
    /// Costs the memory of all their values, which `allowance` is asked for; a dictionary is kept as it is.
    ///
    /// # Errors
    /// For bytes that are no columns, or were not fetched; what `allowance` refuses.
    pub fn open(
        file: &BlockFile,
        plan: &RowPlan,
        version: BlockVersion,
        dedicated: &DedicatedColumns,
        source: &(impl ByteSource + ?Sized),
        allowance: &mut Allowance<'_>,
    ) -> Result<Self, DecodeFail> {
        let memory = ColumnMemory::default();
        Self::open_with(file, plan, (version, dedicated), &memory, source, allowance)
    }

    /// The same with memory that other columns left.
    ///
    /// # Errors
    /// As [`RowReader::open`].
    pub(crate) fn open_with(
        file: &BlockFile,
        plan: &RowPlan,
        (version, dedicated): (BlockVersion, &DedicatedColumns),
        memory: &ColumnMemory,
        source: &(impl ByteSource + ?Sized),
        allowance: &mut Allowance<'_>,
    ) -> Result<Self, DecodeFail> {
        if file.positions.trace_id.is_none() {
            // Every row has one, so that rows end where they do.
            return Err(DecodeError::new("rows", 0, "the file has no ids of traces").into());
        }
        let scopes = [ColumnScope::Resource, ColumnScope::Span, ColumnScope::Event];
        let slots = scopes.map(|s| DedicatedSlots::new(version, s, dedicated.as_slice()));
        let mut cursors = Cursors::default();
        let mut dictionaries = Vec::new();
        let mut scratch = memory.take_scratch();
        let rows_of_group = file.row_groups.get(plan.row_group).map_or(0, |g| g.rows);
        let is_part = plan.rows != (0..rows_of_group);
        let wanted = std::slice::from_ref(&plan.rows);
        for leaf_plan in &plan.leaves {
            let Some((leaf, chunk)) = file.chunk(plan.row_group, leaf_plan.leaf) else {
                continue;
            };
            let decoder = ColumnDecoder::new(leaf, chunk, Levels::All).with(scratch);
            let mut decoder = decoder.reusing(memory);
            if is_part {
                decoder = decoder.picking(RowPick::from_row(leaf_plan.first_row, wanted));
            }
            let [dictionary, pages] = &leaf_plan.pieces;
            if let Some(known) = &leaf_plan.dictionary {
                decoder.set_dictionary(Arc::clone(known));
            } else if !dictionary.is_empty() {
                decoder.pages(fetched(source, dictionary)?, allowance)?;
                let decoded = decoder.dictionary().cloned();
                dictionaries.extend(decoded.map(|texts| (leaf_plan.leaf, texts)));
            }
            if !pages.is_empty() {
                decoder.pages(fetched(source, pages)?, allowance)?;
            }
            decoder.check_picked()?;
            let mut column;
            (column, scratch) = decoder.finish_with();
            if is_part {
                // The memory of whole pages serves the next column.
                let some = column.compact();
                std::mem::replace(&mut column, some).give(memory);
            }
            cursors.insert(leaf_plan.leaf, column);
        }
        memory.give_scratch(scratch);
        if let Some(failure) = cursors.failure() {
            return Err(failure);
        }
        Ok(Self {
            shape: Arc::new(RowShape::new(file, slots)),
            cursors,
            left: plan.rows.end - plan.rows.start,
            dictionaries,
        })
    }

    /// Dictionaries that were decoded because nobody had them, each by its leaf. They are whole.
    pub(crate) fn take_dictionaries(&mut self) -> Vec<(LeafIndex, Arc<Texts>)> {
        std::mem::take(&mut self.dictionaries)
    }

    /// Traces not read yet.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// Appends the next trace as protobuf, a `Trace { repeated ResourceSpans = 1 }`; its id. `None` behind the last.
    ///
    /// # Errors
    /// For columns that do not belong together; what `allowance` refuses, which is asked for the trace's bytes.
    pub fn next(
        &mut self,
        out: &mut Vec<u8>,
        allowance: &mut Allowance<'_>,
    ) -> Result<Option<TraceId>, DecodeFail> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let shape = Arc::clone(&self.shape);
        let id = Assembler::new(shape, &mut self.cursors, allowance).row(out);
        match self.cursors.failure() {
            Some(failure) => {
                self.left = 0;
                Err(failure)
            }
            None => Ok(Some(id)),
        }
    }
}
