//! Which rows are kept of pages while these are decoded.
//!
//! Pages hold more rows than are wanted, and each column has other pages. What is not wanted is let go of page by page, so that a few rows take memory of
//! a page and not of a column; pages without a wanted row, or of whose wanted rows none has a value, are not even decompressed.

use std::ops::Range;

use lgtm_core::error::DecodeError;

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

#[cfg(test)]
mod tests {
    use super::*;

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
    }
}
