//! Which column an attribute has that has one of its own.
//!
//! The first text of a scope in the block's list lies in that scope's column `String01`, the second in `String02`, the first integer in
//! `Int01`. The list is the only place that says which is which.

use crate::schema::BlockVersion;
use crate::trace::{ColumnKind, ColumnScope, DedicatedColumn};

/// Which attributes of one scope have which column. Columns are counted from 0.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DedicatedSlots {
    /// In the order of the list.
    entries: Vec<DedicatedSlot>,
}

/// The column of an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DedicatedSlot {
    /// The attribute's key.
    pub key: Vec<u8>,
    /// Type of the values that lie in the column.
    pub kind: ColumnKind,
    /// Its number among the scope's columns of that type.
    pub number: usize,
}

impl DedicatedSlots {
    /// The columns of a scope. Attributes beyond the number of columns have none.
    pub fn new(version: BlockVersion, scope: ColumnScope, list: &[DedicatedColumn]) -> Self {
        let mut used = [0; 2];
        let mut entries = Vec::new();
        for column in list.iter().filter(|c| c.scope == scope) {
            let used = &mut used[usize::from(column.kind == ColumnKind::Int)];
            if *used < Self::count(version, scope, column.kind) {
                entries.push(DedicatedSlot {
                    key: column.name.clone().into_bytes(),
                    kind: column.kind,
                    number: *used,
                });
                *used += 1;
            }
        }
        Self { entries }
    }

    /// How many columns for values of a type a scope has in a version.
    pub fn count(version: BlockVersion, scope: ColumnScope, kind: ColumnKind) -> usize {
        match (version, kind) {
            (BlockVersion::V5, ColumnKind::String) => 20,
            (BlockVersion::V5, ColumnKind::Int) => 5,
            (_, ColumnKind::String) if scope != ColumnScope::Event => 10,
            _ => 0,
        }
    }

    /// The number of an attribute's column in the list of all of the scope's columns.
    pub fn find(&self, key: &[u8], kind: ColumnKind) -> Option<usize> {
        let is_it = |slot: &DedicatedSlot| slot.kind == kind && slot.key == key;
        self.entries.iter().position(is_it)
    }

    /// All of them, in the order of the block's list.
    pub fn as_slice(&self) -> &[DedicatedSlot] {
        &self.entries
    }
}
