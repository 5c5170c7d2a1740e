//! Walks decoded columns entry by entry, all of them beside each other.
//!
//! Columns of a damaged file may disagree. The first such thing is remembered and ends all loops; in between there are empty values.

use lgtm_core::codec::DecodeFail;
use lgtm_core::error::DecodeError;

use crate::schema::{Column, ColumnValues, LeafIndex};

/// Where in a column we are.
#[derive(Debug)]
struct Cursor {
    column: Column,
    /// Entry of the levels.
    at: usize,
    /// Value that is there.
    value: usize,
}

impl Cursor {
    fn next_rep(&self) -> u8 {
        // Columns in no list have no such levels; neither has what lies behind the end.
        self.column.rep.get(self.at).copied().unwrap_or_default()
    }

    fn next_def(&self) -> u8 {
        let def = self.column.def.get(self.at).copied();
        def.unwrap_or(0)
    }

    /// Passes an entry; the number of its value, if it has one.
    fn take(&mut self) -> Option<usize> {
        let max = self.column.max_def;
        let is_there = max == 0 || self.column.def.get(self.at) == Some(&max);
        self.at += 1;
        if is_there {
            self.value += 1;
        }
        is_there.then(|| self.value - 1)
    }
}

/// All columns of some rows.
#[derive(Debug, Default)]
pub(crate) struct Cursors {
    by_leaf: Vec<Option<Cursor>>,
    failed: Option<DecodeFail>,
}

impl Cursors {
    /// Adds a column.
    pub(crate) fn insert(&mut self, leaf: LeafIndex, column: Column) {
        if self.by_leaf.len() <= leaf {
            self.by_leaf.resize_with(leaf + 1, || None);
        }
        self.by_leaf[leaf] = Some(Cursor {
            column,
            at: 0,
            value: 0,
        });
    }

    /// Whether something went wrong.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed.is_some()
    }

    /// Remembers what went wrong first.
    pub(crate) fn fail(&mut self, reason: impl Into<DecodeFail>) {
        self.failed.get_or_insert(reason.into());
    }

    /// What went wrong.
    pub(crate) fn failure(&mut self) -> Option<DecodeFail> {
        self.failed.take()
    }

    /// Whether there is such a column.
    pub(crate) fn has(&self, leaf: Option<LeafIndex>) -> bool {
        self.get(leaf).is_some()
    }

    /// The repetition level of the next entry: 0 begins a row, or is the end.
    pub(crate) fn next_rep(&self, leaf: Option<LeafIndex>) -> u8 {
        self.get(leaf).map_or(0, Cursor::next_rep)
    }

    /// The definition level of the next entry.
    pub(crate) fn next_def(&self, leaf: Option<LeafIndex>) -> u8 {
        self.get(leaf).map_or(0, Cursor::next_def)
    }

    /// Passes an entry; the number of its value.
    pub(crate) fn take(&mut self, leaf: Option<LeafIndex>) -> Option<usize> {
        let cursor = self.by_leaf.get_mut(leaf?)?.as_mut()?;
        if cursor.at >= cursor.column.entries {
            let reason = "a column has fewer entries than others of its list";
            self.fail(DecodeError::new("row", 0, reason));
            return None;
        }
        cursor.take()
    }

    /// Passes what a column has for an element whose list has this repetition level: the numbers of its values.
    pub(crate) fn take_all(&mut self, leaf: Option<LeafIndex>, rep: u8) -> std::ops::Range<usize> {
        let Some(first) = self.take(leaf) else {
            return 0..0;
        };
        let mut end = first + 1;
        while self.next_rep(leaf) > rep && !self.has_failed() {
            end = self.take(leaf).map_or(end, |n| n + 1);
        }
        first..end
    }

    /// Passes an entry and is its text.
    pub(crate) fn text(&mut self, leaf: Option<LeafIndex>) -> Option<&[u8]> {
        let n = self.take(leaf)?;
        Some(self.values(leaf)?.text(n))
    }

    /// Passes an entry and is its integer.
    pub(crate) fn int(&mut self, leaf: Option<LeafIndex>) -> Option<i64> {
        let n = self.take(leaf)?;
        Some(self.values(leaf)?.int(n))
    }

    /// Passes an entry and is its boolean.
    pub(crate) fn boolean(&mut self, leaf: Option<LeafIndex>) -> bool {
        match (self.take(leaf), self.values(leaf)) {
            (Some(n), Some(ColumnValues::Bool(values))) => {
                values.get(n).copied().unwrap_or_default()
            }
            _ => false,
        }
    }

    /// The values of a column.
    pub(crate) fn values(&self, leaf: Option<LeafIndex>) -> Option<&ColumnValues> {
        Some(&self.get(leaf)?.column.values)
    }

    fn get(&self, leaf: Option<LeafIndex>) -> Option<&Cursor> {
        self.by_leaf.get(leaf?)?.as_ref()
    }
}
