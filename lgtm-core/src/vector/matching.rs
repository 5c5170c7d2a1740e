//! Which series of two vectors meet.

use super::grouping::{GroupTable, Grouping};
use crate::model::Labels;

/// How many series of either side may meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cardinality {
    /// One of either side.
    OneToOne,
    /// Many of the left side, one of the right (`group_left`).
    ManyToOne,
    /// One of the left side, many of the right (`group_right`).
    OneToMany,
    /// Any number: set operators.
    ManyToMany,
}

/// Series of two sides that agree in the labels that count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MatchGroup {
    /// The labels they agree in.
    pub labels: Labels,
    /// Places in the left vector, ascending.
    pub left: Vec<u32>,
    /// Places in the right vector, ascending.
    pub right: Vec<u32>,
}

/// Groups two vectors by the labels that count. Whether a group breaks a cardinality is for the caller to say, step by step.
///
/// Groups come in the order in which the left side, then the right side, shows them.
///
/// # Panics
/// When a side has more than `u32::MAX` series.
pub fn match_groups<'a>(
    grouping: Grouping,
    left: impl Iterator<Item = &'a Labels>,
    right: impl Iterator<Item = &'a Labels>,
) -> Vec<MatchGroup> {
    let mut table = GroupTable::new(grouping);
    let mut sides: Vec<(Vec<u32>, Vec<u32>)> = Vec::new();
    let mut put = |place: usize, labels: &Labels, is_left: bool| {
        let group = table.index_of(labels);
        if group == sides.len() {
            sides.push((Vec::new(), Vec::new()));
        }
        let place = u32::try_from(place).expect("a vector holds fewer than 2^32 series");
        if is_left {
            sides[group].0.push(place)
        } else {
            sides[group].1.push(place)
        }
    };
    for (place, labels) in left.enumerate() {
        put(place, labels, true);
    }
    for (place, labels) in right.enumerate() {
        put(place, labels, false);
    }
    table
        .into_labels()
        .into_iter()
        .zip(sides)
        .map(|(labels, (left, right))| MatchGroup {
            labels,
            left,
            right,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_meet_by_the_labels_that_count() {
        let l = |job: &str, pod: &str| Labels::from_pairs([("job", job), ("pod", pod)]).unwrap();
        let left = [l("a", "1"), l("a", "2"), l("b", "1")];
        let right = [l("b", "9"), l("c", "9")];
        let groups = match_groups(Grouping::by(["job"]), left.iter(), right.iter());
        let shape: Vec<_> = groups
            .iter()
            .map(|g| {
                (
                    g.labels.get("job").unwrap(),
                    g.left.as_slice(),
                    g.right.as_slice(),
                )
            })
            .collect();
        assert_eq!(
            shape,
            [
                ("a", &[0u32, 1][..], &[][..]),
                ("b", &[2], &[0]),
                ("c", &[], &[1])
            ]
        );
    }
}
