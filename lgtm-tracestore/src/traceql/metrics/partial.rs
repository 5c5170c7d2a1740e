//! Series as far as a part of the spans makes them: plain data, which can be sent and joined.

use std::collections::BTreeMap;

use lgtm_core::{Error, Result};

use super::super::value::AnswerValue;
use super::cells::Cells;
use super::grid::IntervalGrid;

/// Names of labels and their values, in the order in which the query has them.
pub type SeriesLabels = Vec<(String, AnswerValue)>;

/// What a part of the spans makes: of another block, of another time.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricsPartial {
    /// The intervals.
    pub grid: IntervalGrid,
    /// For each function of the query, from left to right.
    pub legs: Vec<LegPartial>,
}

/// What a part of the spans makes of one function.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LegPartial {
    /// Its series.
    pub series: BTreeMap<SeriesKey, Cells>,
    /// Some spans.
    pub exemplars: Vec<ExemplarSpan>,
}

/// What series of parts are joined by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesKey {
    /// Its labels.
    pub labels: SeriesLabels,
    /// Of a distribution, which power of two its values are at most.
    pub bucket: Option<Bucket>,
}

/// A bucket of a distribution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bucket {
    /// Its values are at most two to the power of this.
    pub exponent: u8,
    /// Whether they are nanoseconds, which are told as seconds.
    pub is_duration: bool,
}

/// A span that stands for others.
#[derive(Debug, Clone, PartialEq)]
pub struct ExemplarSpan {
    /// Its series.
    pub key: SeriesKey,
    /// When it began, nanoseconds since the epoch.
    pub start_ns: u64,
    /// The field's value; none where spans are only counted.
    pub value: Option<f64>,
    /// Its trace, and what the query names.
    pub labels: SeriesLabels,
    /// What decides between several.
    pub rank: u64,
}

fn bytes_of(labels: &SeriesLabels) -> usize {
    let labels = labels.iter();
    labels
        .map(|(name, value)| 64 + name.len() + value.size_bytes())
        .sum()
}

impl MetricsPartial {
    /// What of it lies in some of its intervals. Of intervals that it does not have there is nothing.
    #[must_use]
    pub fn part(&self, grid: IntervalGrid) -> Self {
        let leg = |leg: &LegPartial| {
            let series = leg.series.iter();
            let exemplars = leg.exemplars.iter();
            LegPartial {
                series: series
                    .map(|(key, cells)| (key.clone(), cells.part(&self.grid, &grid)))
                    .filter(|(_, cells)| !cells.is_empty())
                    .collect(),
                exemplars: exemplars
                    .filter(|e| grid.index_of(e.start_ns).is_some())
                    .cloned()
                    .collect(),
            }
        };
        Self {
            grid,
            legs: self.legs.iter().map(leg).collect(),
        }
    }

    /// Bytes that it takes, about.
    pub fn size_bytes(&self) -> usize {
        self.sizes().sum()
    }

    /// Whether it takes more than so many bytes, about. Looks at no more of it than that takes.
    pub fn is_larger_than(&self, bytes: usize) -> bool {
        let mut sum = 0usize;
        self.sizes().any(|size| {
            sum = sum.saturating_add(size);
            sum > bytes
        })
    }

    fn sizes(&self) -> impl Iterator<Item = usize> {
        self.legs.iter().flat_map(|leg| {
            let series = leg.series.iter();
            let series = series.map(|(key, cells)| 64 + bytes_of(&key.labels) + cells.size_bytes());
            let exemplars = leg.exemplars.iter();
            let exemplars = exemplars.map(|e| 64 + bytes_of(&e.labels) + bytes_of(&e.key.labels));
            series.chain(exemplars)
        })
    }

    /// Adds another part.
    ///
    /// # Errors
    /// `InvalidInput` for a part with other intervals or functions.
    pub fn merge(&mut self, other: Self) -> Result<()> {
        let grid = self.grid.joined(&other.grid);
        let (Some(grid), true) = (grid, self.legs.len() == other.legs.len()) else {
            return Err(Error::InvalidInput(
                "parts of a metrics query have other intervals or functions".to_owned(),
            ));
        };
        let (offset, other_offset) = (grid.offset_of(&self.grid), grid.offset_of(&other.grid));
        for (leg, part) in self.legs.iter_mut().zip(other.legs) {
            let series = std::mem::take(&mut leg.series).into_iter();
            leg.series = series
                .map(|(key, cells)| (key, cells.placed(offset, grid.len)))
                .collect();
            for (key, cells) in part.series {
                match leg.series.get_mut(&key) {
                    Some(known) => known.merge(&cells, other_offset),
                    None => {
                        leg.series.insert(key, cells.placed(other_offset, grid.len));
                    }
                }
            }
            leg.exemplars.extend(part.exemplars);
        }
        self.grid = grid;
        Ok(())
    }
}
