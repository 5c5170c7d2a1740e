//! Which rows are kept of pages while these are decoded.
//!
//! Pages hold more rows than are wanted, and each column has other pages. What is not wanted is let go of page by page, so that a few rows take memory of
//! a page and not of a column; pages without a wanted row, or of whose wanted rows none has a value, are not even decompressed.

use std::ops::Range;

use lgtm_core::error::DecodeError;

use crate::schema::Column;
use crate::schema::column::count_of;

fn bad(reason: &str) -> DecodeError {
    DecodeError::new("column rows", 0, reason)
}

/// The rows that pages bring, and those of them that are wanted. Both are in order and do not overlap.
#[derive(Debug)]
pub(crate) struct RowPick<'p> {
    have: Vec<Range<u64>>,
    wanted: &'p [Range<u64>],
    /// Whether more rows may come than were told.
    is_open: bool,
    /// Of `wanted`, which comes next.
    next: usize,
    kept: u64,
}

/// How long a column was before a page.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PageStart {
    rep: usize,
    def: usize,
    entries: usize,
}

impl PageStart {
    pub(crate) fn of(column: &Column) -> Self {
        Self {
            rep: column.rep.len(),
            def: column.def.len(),
            entries: column.entries,
        }
    }
}

impl<'p> RowPick<'p> {
    /// Of pages that bring these rows, all of which are to come.
    pub(crate) fn of_runs(have: &[Range<u64>], wanted: &'p [Range<u64>]) -> Self {
        Self {
            // The last one comes first off.
            have: have.iter().rev().cloned().collect(),
            wanted,
            is_open: false,
            next: 0,
            kept: 0,
        }
    }

    /// Of pages that begin with a row.
    pub(crate) fn from_row(first: u64, wanted: &'p [Range<u64>]) -> Self {
        let all = first..u64::MAX;
        Self {
            is_open: true,
            ..Self::of_runs(std::slice::from_ref(&all), wanted)
        }
    }

    /// Goes on by the rows of a page: which of them are wanted, counted from the page's first.
    ///
    /// # Errors
    /// For more rows than there are.
    pub(crate) fn take(&mut self, rows: usize) -> Result<Vec<Range<usize>>, DecodeError> {
        let mut out: Vec<Range<usize>> = Vec::new();
        let mut done = 0;
        while done < rows {
            let run = self.have.last_mut();
            let run = run.ok_or_else(|| bad("more rows than its pages say"))?;
            let part = run.start..run.end.min(run.start + (rows - done) as u64);
            while let Some(wanted) = self.wanted.get(self.next).filter(|w| w.start < part.end) {
                let both = wanted.start.max(part.start)..wanted.end.min(part.end);
                if !both.is_empty() {
                    self.kept += both.end - both.start;
                    let at = |row: u64| done + (row - part.start) as usize;
                    out.push(at(both.start)..at(both.end));
                }
                if wanted.end > part.end {
                    break;
                }
                self.next += 1;
            }
            done += (part.end - part.start) as usize;
            run.start = part.end;
            if run.is_empty() {
                self.have.pop();
            }
        }
        Ok(out)
    }

    /// Keeps these rows of the page that a column ends with, whose levels are decoded and whose values are not: which of the page's values are theirs.
    ///
    /// # Errors
    /// For a page that begins within a row.
    pub(crate) fn keep_levels(
        column: &mut Column,
        start: PageStart,
        rows: &[Range<usize>],
    ) -> Result<Vec<Range<usize>>, DecodeError> {
        let (mut entry, mut row, mut value, mut kept) = (0, 0, 0, 0);
        let mut values: Vec<Range<usize>> = Vec::new();
        for wanted in rows {
            let begin = entry_of(column, start, entry, wanted.start - row)?;
            let end = entry_of(column, start, begin, wanted.end - wanted.start)?;
            let count = |column: &Column, entries: Range<usize>| match column.max_def {
                0 => entries.len(),
                max => {
                    let def = column
                        .def
                        .get(start.def + entries.start..start.def + entries.end);
                    count_of(def.unwrap_or_default(), max)
                }
            };
            value += count(column, entry..begin);
            let there = count(column, begin..end);
            match values.last_mut() {
                _ if there == 0 => {}
                Some(last) if last.end == value => last.end += there,
                _ => values.push(value..value + there),
            }
            value += there;
            move_down(&mut column.rep, start.rep, begin..end, kept);
            move_down(&mut column.def, start.def, begin..end, kept);
            kept += end - begin;
            (entry, row) = (end, wanted.end);
        }
        if column.max_rep > 0 {
            column.rep.truncate(start.rep + kept);
        }
        if column.max_def > 0 {
            column.def.truncate(start.def + kept);
        }
        column.entries = start.entries + kept;
        Ok(values)
    }

    /// How many rows the page has that a column ends with.
    ///
    /// # Errors
    /// For a page that begins within a row.
    pub(crate) fn rows_of(column: &Column, start: PageStart) -> Result<usize, DecodeError> {
        if column.max_rep == 0 {
            return Ok(column.entries - start.entries);
        }
        let rep = column.rep.get(start.rep..).unwrap_or_default();
        if rep.first().is_some_and(|rep| *rep > 0) {
            return Err(bad("a page that begins within a row"));
        }
        Ok(count_of(rep, 0))
    }

    /// Whether all rows came.
    ///
    /// # Errors
    /// When there were fewer than there should have been.
    pub(crate) fn finish(&self) -> Result<(), DecodeError> {
        let wanted = self.wanted.iter().map(|w| w.end.saturating_sub(w.start));
        if self.kept != wanted.sum::<u64>() || !self.is_open && !self.have.is_empty() {
            return Err(bad("fewer rows than its pages say"));
        }
        Ok(())
    }
}

/// The entry of a page at which the `rows`th row behind an entry begins, which begins a row itself; its end where there is no such row.
fn entry_of(
    column: &Column,
    start: PageStart,
    from: usize,
    rows: usize,
) -> Result<usize, DecodeError> {
    let entries = column.entries - start.entries;
    if column.max_rep == 0 {
        return Ok((from + rows).min(entries));
    }
    let rep = column.rep.get(start.rep + from..start.rep + entries);
    let rep = rep.ok_or_else(|| bad("rows are taken out of a column without its levels"))?;
    Ok(from + start_of_row(rep, rows))
}

/// Moves entries of the levels behind `start` down to the `kept`th.
fn move_down(levels: &mut [u8], start: usize, entries: Range<usize>, kept: usize) {
    if !levels.is_empty() {
        levels.copy_within(start + entries.start..start + entries.end, start + kept);
    }
}

/// The entry that a row begins at, by its level of 0; their number where there is no such row.
pub(super) fn start_of_row(rep: &[u8], row: usize) -> usize {
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
    use proptest::prelude::*;

    use super::*;
    use crate::schema::{ColumnValues, Texts};

    /// A row: an empty list, or elements, of which some have no value.
    type Row = Vec<Option<i64>>;

    fn rows() -> impl Strategy<Value = Vec<Row>> {
        let row = proptest::collection::vec(proptest::option::of(any::<i64>()), 0..4);
        proptest::collection::vec(row, 1..60)
    }

    fn empty(is_text: bool) -> Column {
        Column {
            max_def: 2,
            max_rep: 1,
            def: Vec::new(),
            rep: Vec::new(),
            entries: 0,
            values: if is_text {
                ColumnValues::Texts(Texts::default())
            } else {
                ColumnValues::Int64(Vec::new())
            },
        }
    }

    /// Appends rows as a page's decoding does: levels, then what of the values is kept.
    fn append(column: &mut Column, rows: &[Row], pick: Option<&mut RowPick<'_>>) {
        let start = PageStart::of(column);
        let elements = rows.iter().flat_map(|row| {
            let first = [(0, row.first().map_or(0, |v| 1 + u8::from(v.is_some())))];
            let rest = row.iter().skip(1).map(|v| (1, 1 + u8::from(v.is_some())));
            first.into_iter().chain(rest)
        });
        for (rep, def) in elements {
            column.rep.push(rep);
            column.def.push(def);
            column.entries += 1;
        }
        let kept = pick.map(|pick| {
            let count = RowPick::rows_of(column, start).unwrap();
            assert_eq!(count, rows.len());
            let wanted = pick.take(count).unwrap();
            RowPick::keep_levels(column, start, &wanted).unwrap()
        });
        let from = column.values.len();
        for value in rows.iter().flatten().flatten() {
            match &mut column.values {
                ColumnValues::Int64(values) => values.push(*value),
                ColumnValues::Texts(texts) => texts.push(value.to_string().as_bytes()),
                _ => unreachable!(),
            }
        }
        if let Some(kept) = kept {
            column.values.keep(from, &kept);
        }
    }

    proptest! {
        #[test]
        fn rows_are_kept_with_their_levels_and_values(
            rows in rows(),
            page_rows in 1usize..9,
            fetched in proptest::collection::vec(any::<bool>(), 60),
            wanted in proptest::collection::vec(any::<bool>(), 60),
            is_text in any::<bool>(),
        ) {
            let pages: Vec<&[Row]> = rows.chunks(page_rows).collect();
            let runs = |is_in: &dyn Fn(usize) -> bool| {
                let numbers = (0..rows.len()).filter(|n| is_in(*n));
                let mut out: Vec<Range<u64>> = Vec::new();
                for n in numbers.map(|n| n as u64) {
                    match out.last_mut() {
                        Some(last) if last.end == n => last.end += 1,
                        _ => out.push(n..n + 1),
                    }
                }
                out
            };
            let have = runs(&|n| fetched[n / page_rows]);
            let is_wanted = |n: usize| fetched[n / page_rows] && wanted[n];
            let wanted = runs(&is_wanted);
            let mut pick = RowPick::of_runs(&have, &wanted);
            let mut column = empty(is_text);
            let bring = (0..pages.len()).filter(|n| fetched[*n]);
            bring.for_each(|n| append(&mut column, pages[n], Some(&mut pick)));
            pick.finish().unwrap();
            let mut expected = empty(is_text);
            let some: Vec<Row> = (0..rows.len()).filter(|n| is_wanted(*n)).map(|n| rows[n].clone()).collect();
            append(&mut expected, &some, None);
            prop_assert_eq!(column, expected);
        }
    }

    #[test]
    fn more_and_fewer_rows_than_pages_say_are_errors() {
        let (have, wanted) = ([4..6, 9..11], [5..6, 10..11]);
        let mut pick = RowPick::of_runs(&have, &wanted);
        let first = |rows: Vec<Range<usize>>| rows.first().cloned().filter(|_| rows.len() == 1);
        assert_eq!(first(pick.take(3).unwrap()), Some(1..2));
        assert!(pick.finish().is_err(), "a row is missing");
        assert_eq!(first(pick.take(1).unwrap()), Some(0..1));
        pick.finish().unwrap();
        assert!(pick.take(1).is_err());
        let mut pick = RowPick::from_row(7, &wanted);
        assert!(pick.take(3).unwrap().is_empty());
        assert_eq!(first(pick.take(30).unwrap()), Some(0..1));
        assert!(pick.finish().is_err(), "row 5 lies before");
        let mut within = empty(false);
        let start = PageStart::of(&within);
        (within.rep, within.def, within.entries) = (vec![1, 0], vec![2, 2], 2);
        assert!(RowPick::rows_of(&within, start).is_err());
    }
}
