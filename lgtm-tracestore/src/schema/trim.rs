//! Rows taken out of a column: pages hold more rows than were wanted, and each column has other pages.

use std::ops::Range;

use lgtm_core::error::DecodeError;

use crate::schema::column::count_of;
use crate::schema::{Column, ColumnValues, Texts};

impl Column {
    /// Keeps only some of the rows that it has. Both lists are in order and do not overlap. The column has all its levels.
    ///
    /// # Errors
    /// When it has not as many rows as it should.
    pub fn keep_rows(
        &mut self,
        have: &[Range<u64>],
        wanted: &[Range<u64>],
    ) -> Result<(), DecodeError> {
        let bad = |reason: &str| DecodeError::new("column rows", 0, reason);
        let has_rep = self.max_rep > 0;
        let has_def = self.max_def > 0;
        let is_whole =
            |levels: &[u8], has: bool| levels.len() == if has { self.entries } else { 0 };
        if !is_whole(&self.rep, has_rep) || !is_whole(&self.def, has_def) {
            return Err(bad("rows are taken out of a column without its levels"));
        }
        let mut rows = have.iter().cloned().flatten();
        let (mut next, mut is_wanted) = (0, false);
        let (mut value, mut kept) = (0, 0);
        let mut values: Vec<Range<usize>> = Vec::new();
        for n in 0..self.entries {
            if !has_rep || self.rep[n] == 0 {
                let row = rows
                    .next()
                    .ok_or_else(|| bad("more rows than its pages say"))?;
                while wanted.get(next).is_some_and(|w| w.end <= row) {
                    next += 1;
                }
                is_wanted = wanted.get(next).is_some_and(|w| w.start <= row);
            } else if n == 0 {
                return Err(bad("a page that begins within a row"));
            }
            let is_there = !has_def || self.def[n] == self.max_def;
            if is_wanted {
                if has_rep {
                    self.rep[kept] = self.rep[n];
                }
                if has_def {
                    self.def[kept] = self.def[n];
                }
                kept += 1;
                if is_there {
                    match values.last_mut() {
                        Some(last) if last.end == value => last.end += 1,
                        _ => values.push(value..value + 1),
                    }
                }
            }
            value += usize::from(is_there);
        }
        if rows.next().is_some() {
            return Err(bad("fewer rows than its pages say"));
        }
        self.rep.truncate(kept);
        self.def.truncate(kept);
        self.entries = kept;
        self.values.keep(&values);
        Ok(())
    }

    /// How many rows it has. The column has all its levels.
    pub(crate) fn row_count(&self) -> usize {
        if self.max_rep == 0 {
            self.entries
        } else {
            count_of(&self.rep, 0)
        }
    }

    /// Some rows of it, from one on; none beyond its last. In memory of their size, a dictionary left out. The column has all its levels.
    pub(crate) fn some_rows(&self, from: usize, count: usize) -> Self {
        let entry_of = |row: usize| {
            if self.max_rep == 0 {
                row.min(self.entries)
            } else {
                start_of_row(&self.rep, row)
            }
        };
        let (start, end) = (entry_of(from), entry_of(from.saturating_add(count)));
        let part = |levels: &[u8]| levels.get(start..end).unwrap_or_default().to_vec();
        let value_of = |entry: usize| {
            if self.max_def == 0 {
                entry
            } else {
                count_of(self.def.get(..entry).unwrap_or_default(), self.max_def)
            }
        };
        Self {
            max_def: self.max_def,
            max_rep: self.max_rep,
            def: part(&self.def),
            rep: part(&self.rep),
            entries: end - start,
            values: self.values.some(value_of(start)..value_of(end)),
        }
    }
}

impl ColumnValues {
    /// Some of them; texts without their dictionary.
    fn some(&self, range: Range<usize>) -> Self {
        fn part<T: Copy>(values: &[T], range: Range<usize>) -> Vec<T> {
            let range = range.start.min(values.len())..range.end.min(values.len());
            values[range].to_vec()
        }
        match self {
            Self::Int32(values) => Self::Int32(part(values, range)),
            Self::Int64(values) => Self::Int64(part(values, range)),
            Self::Double(values) => Self::Double(part(values, range)),
            Self::Bool(values) => Self::Bool(part(values, range)),
            Self::Texts(_) | Self::Indices { .. } => {
                let mut texts = Texts::default();
                for n in range.start.min(self.len())..range.end.min(self.len()) {
                    texts.push(self.text(n));
                }
                Self::Texts(texts)
            }
        }
    }
}

/// The entry that a row begins at, by its level of 0; their number where there is no such row.
fn start_of_row(rep: &[u8], row: usize) -> usize {
    let (mut at, mut left) = (0, row);
    // Whole runs are counted before single entries are looked at.
    while let Some(run) = rep.get(at..at + 255) {
        let starts = count_of(run, 0);
        if starts > left {
            break;
        }
        (at, left) = (at + run.len(), left - starts);
    }
    let rest = rep[at..].iter().enumerate();
    let mut starts = rest.filter(|(_, rep)| **rep == 0);
    starts.nth(left).map_or(rep.len(), |(n, _)| at + n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_taken_out_with_their_levels_and_values() {
        // Rows 4, 5, 9, 10: two values, none, one, one.
        let column = Column {
            max_def: 1,
            max_rep: 1,
            rep: vec![0, 1, 0, 0, 0],
            def: vec![1, 1, 0, 1, 1],
            entries: 5,
            values: ColumnValues::Int64(vec![7, 8, 9, 10]),
        };
        let have = [4..6, 9..11];
        let mut some = column.clone();
        some.keep_rows(&have, &[5..6, 10..11]).unwrap();
        assert_eq!(
            (some.rep, some.def, some.entries),
            (vec![0, 0], vec![0, 1], 2)
        );
        assert_eq!(some.values, ColumnValues::Int64(vec![10]));
        let mut all = column.clone();
        all.keep_rows(&have, &[0..5, 5..20]).unwrap();
        assert_eq!(all, column);
        assert!(column.clone().keep_rows(&[4..6, 9..12], &[]).is_err());
        assert!(column.clone().keep_rows(&[4..6, 9..10], &[]).is_err());
    }
}
