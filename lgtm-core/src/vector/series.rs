//! Series on a grid.

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use crate::model::{Labels, STALE_NAN_BITS};

/// The float that stands where a series has no value: the stale marker, which no computation yields.
///
/// It is a signalling NaN. Test with [`is_gap`] before any arithmetic.
pub const GAP: f64 = f64::from_bits(STALE_NAN_BITS);

/// Whether a float is [`GAP`].
#[inline]
pub fn is_gap(value: f64) -> bool {
    value.to_bits() == STALE_NAN_BITS
}

/// Two series have a value at the same step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overlap;

/// The values of one series, one cell per step of a grid; a cell may be empty.
pub trait Cells: Sized {
    /// Takes over the cells of `other`, which is on the same grid.
    ///
    /// # Errors
    /// [`Overlap`] when a cell is filled in both; `self` may then hold a part of `other`.
    fn merge(&mut self, other: Self) -> Result<(), Overlap>;
}

/// A label set and its cells.
#[derive(Debug, Clone, PartialEq)]
pub struct GridSeries<C> {
    /// Labels.
    pub labels: Labels,
    /// One cell per step.
    pub cells: C,
}

impl Cells for Vec<f64> {
    fn merge(&mut self, other: Self) -> Result<(), Overlap> {
        for (mine, theirs) in self.iter_mut().zip(other) {
            match (is_gap(*mine), is_gap(theirs)) {
                (true, _) => *mine = theirs,
                (false, true) => {}
                (false, false) => return Err(Overlap),
            }
        }
        Ok(())
    }
}

/// Joins series of equal labels into one, in the order in which the labels first occur.
///
/// Costs one hash of the labels per series.
///
/// # Errors
/// The label set of two series that have a value at the same step.
pub fn merge_equal_labels<C: Cells>(
    series: Vec<GridSeries<C>>,
) -> Result<Vec<GridSeries<C>>, Labels> {
    let mut places: HashMap<Labels, usize> = HashMap::with_capacity(series.len());
    let mut out: Vec<GridSeries<C>> = Vec::with_capacity(series.len());
    for s in series {
        match places.entry(s.labels.clone()) {
            Entry::Vacant(free) => {
                free.insert(out.len());
                out.push(s);
            }
            Entry::Occupied(place) => {
                let first = &mut out[*place.get()];
                first.cells.merge(s.cells).map_err(|Overlap| s.labels)?;
            }
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(label: &str, cells: [f64; 3]) -> GridSeries<Vec<f64>> {
        GridSeries {
            labels: Labels::from_pairs([("a", label)]).unwrap(),
            cells: cells.to_vec(),
        }
    }

    #[test]
    fn series_of_equal_labels_become_one_unless_they_overlap() {
        let merged = merge_equal_labels(vec![
            series("x", [1.0, GAP, GAP]),
            series("y", [5.0, 5.0, 5.0]),
            series("x", [GAP, GAP, 3.0]),
        ])
        .unwrap();
        assert_eq!(merged.len(), 2);
        let x = &merged[0].cells;
        assert!(x[0] == 1.0 && is_gap(x[1]) && x[2] == 3.0);
        let clash = vec![series("x", [1.0, GAP, GAP]), series("x", [2.0, GAP, GAP])];
        let labels = merge_equal_labels(clash).unwrap_err();
        assert_eq!(labels.get("a"), Some("x"));
    }
}
