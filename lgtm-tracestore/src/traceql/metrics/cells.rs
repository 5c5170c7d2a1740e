//! What is gathered of a series, interval by interval.

use super::grid::IntervalGrid;

/// Values of the intervals of a series, so that parts can be added.
#[derive(Debug, Clone, PartialEq)]
pub enum Cells {
    /// Spans.
    Counts(Vec<u64>),
    /// Sums, which make means too.
    Sums(Vec<SumCell>),
    /// The least values; not a number where there is none.
    Least(Vec<f64>),
    /// The greatest values; likewise.
    Greatest(Vec<f64>),
}

/// A sum that does not depend on the order of its parts, where they are integers and durations; of floats the last digits may.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct SumCell {
    /// Values.
    pub count: u64,
    /// Of the integers.
    pub ints: i128,
    /// Of the durations, nanoseconds.
    pub nanos: i128,
    /// Of the floats.
    pub floats: f64,
    /// What rounding lost of these.
    pub lost: f64,
}

impl SumCell {
    pub(super) fn add_float(&mut self, v: f64) {
        let sum = self.floats + v;
        if sum.is_finite() {
            self.lost += if self.floats.abs() >= v.abs() {
                (self.floats - sum) + v
            } else {
                (v - sum) + self.floats
            };
        }
        self.floats = sum;
    }

    fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.ints += other.ints;
        self.nanos += other.nanos;
        self.add_float(other.floats);
        self.lost += other.lost;
    }

    pub(super) fn sum(&self) -> f64 {
        let whole = self.nanos / 1_000_000_000;
        let rest = (self.nanos % 1_000_000_000) as f64 / 1e9;
        (self.ints + whole) as f64 + rest + self.floats + self.lost
    }
}

/// What kind of cells a function gathers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CellKind {
    Counts,
    Sums,
    Least,
    Greatest,
}

impl CellKind {
    pub(super) fn cells(self, len: usize) -> Cells {
        match self {
            Self::Counts => Cells::Counts(vec![0; len]),
            Self::Sums => Cells::Sums(vec![SumCell::default(); len]),
            Self::Least => Cells::Least(vec![f64::NAN; len]),
            Self::Greatest => Cells::Greatest(vec![f64::NAN; len]),
        }
    }

    pub(super) fn size_bytes(self) -> usize {
        match self {
            Self::Sums => size_of::<SumCell>(),
            _ => 8,
        }
    }
}

impl Cells {
    fn kind(&self) -> CellKind {
        match self {
            Self::Counts(_) => CellKind::Counts,
            Self::Sums(_) => CellKind::Sums,
            Self::Least(_) => CellKind::Least,
            Self::Greatest(_) => CellKind::Greatest,
        }
    }

    /// The same in a longer row of intervals.
    pub(super) fn placed(self, offset: usize, len: usize) -> Self {
        if offset == 0 && self.len() == len {
            return self;
        }
        let mut out = self.kind().cells(len);
        out.merge(&self, offset);
        out
    }

    pub(super) fn size_bytes(&self) -> usize {
        self.len() * self.kind().size_bytes()
    }

    /// Whether no interval has anything.
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Counts(cells) => cells.iter().all(|n| *n == 0),
            Self::Sums(cells) => cells.iter().all(|sum| sum.count == 0),
            Self::Least(cells) | Self::Greatest(cells) => cells.iter().all(|v| v.is_nan()),
        }
    }

    /// The cells of other intervals of the same edges; empty ones where there are none.
    pub(super) fn part(&self, own: &IntervalGrid, wanted: &IntervalGrid) -> Self {
        let mut out = self.kind().cells(wanted.len);
        let step_ns = own.step_ns.max(1);
        let behind = (own.after_ns.saturating_sub(wanted.after_ns) / step_ns) as usize;
        let ahead = (wanted.after_ns.saturating_sub(own.after_ns) / step_ns) as usize;
        let count = self.len().saturating_sub(ahead);
        let count = count.min(wanted.len.saturating_sub(behind));
        if count == 0 {
            return out;
        }
        let (from, to) = (ahead..ahead + count, behind..behind + count);
        match (&mut out, self) {
            (Self::Counts(out), Self::Counts(all)) => out[to].copy_from_slice(&all[from]),
            (Self::Sums(out), Self::Sums(all)) => out[to].copy_from_slice(&all[from]),
            (Self::Least(out), Self::Least(all)) | (Self::Greatest(out), Self::Greatest(all)) => {
                out[to].copy_from_slice(&all[from]);
            }
            _ => {}
        }
        out
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Counts(cells) => cells.len(),
            Self::Sums(cells) => cells.len(),
            Self::Least(cells) | Self::Greatest(cells) => cells.len(),
        }
    }

    /// Adds a part whose first interval is the one at `offset`. Another kind is no part of it.
    pub(super) fn merge(&mut self, part: &Self, offset: usize) {
        match (self, part) {
            (Self::Counts(cells), Self::Counts(part)) => {
                let cells = cells.iter_mut().skip(offset);
                cells.zip(part).for_each(|(cell, part)| *cell += part);
            }
            (Self::Sums(cells), Self::Sums(part)) => {
                let cells = cells.iter_mut().skip(offset);
                cells.zip(part).for_each(|(cell, part)| cell.merge(part));
            }
            // `min` and `max` take the number of a number and of none.
            (Self::Least(cells), Self::Least(part)) => {
                let cells = cells.iter_mut().skip(offset);
                cells
                    .zip(part)
                    .for_each(|(cell, part)| *cell = cell.min(*part));
            }
            (Self::Greatest(cells), Self::Greatest(part)) => {
                let cells = cells.iter_mut().skip(offset);
                cells
                    .zip(part)
                    .for_each(|(cell, part)| *cell = cell.max(*part));
            }
            _ => {}
        }
    }
}
