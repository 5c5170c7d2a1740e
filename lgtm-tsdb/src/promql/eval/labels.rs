//! Label sets of results.

use lgtm_core::model::{Labels, METRIC_NAME};
use lgtm_core::vector::{Grouping, merge_equal_labels};

use super::cells::Series;
use crate::promql::query_error::{QueryError, Result};

/// Whether a label tells what the samples are: lost when they are computed with.
pub(crate) fn is_metadata(name: &str) -> bool {
    matches!(name, METRIC_NAME | "__type__" | "__unit__")
}

/// The labels without those that tell what the samples are.
pub(crate) fn without_metadata(labels: &Labels) -> Labels {
    if !labels.iter().any(|(name, _)| is_metadata(name)) {
        return labels.clone();
    }
    let rest = labels.iter().filter(|(name, _)| !is_metadata(name));
    Labels::from_sorted(rest).unwrap_or_default()
}

/// How an aggregation groups.
pub(super) fn grouping(names: &[String], without: bool) -> Grouping {
    if without {
        let metadata = [METRIC_NAME, "__type__", "__unit__"].map(str::to_owned);
        Grouping::without(names.iter().cloned().chain(metadata))
    } else {
        Grouping::by(names.iter().cloned())
    }
}

/// A copy with one label set; an empty value removes it. Copies each text once: a query may make long ones.
pub(super) fn with(labels: &Labels, name: &str, value: &str) -> Labels {
    let mut all: Vec<(&str, &str)> = labels.iter().filter(|(n, _)| *n != name).collect();
    let place = all.partition_point(|(n, _)| *n < name);
    all.insert(place, (name, value));
    Labels::from_sorted(all).unwrap_or_default()
}

/// The name of the metric, or nothing.
pub(super) fn metric(labels: &Labels) -> String {
    labels.metric_name().unwrap_or("").to_owned()
}

/// Joins series of equal labels.
///
/// # Errors
/// `Execution` when two have a value at the same step.
pub(crate) fn merge_equal(series: Vec<Series>) -> Result<Vec<Series>> {
    merge_equal_labels(series).map_err(|_| same_labelset())
}

/// Two series have become equal.
pub(super) fn same_labelset() -> QueryError {
    QueryError::execution("vector cannot contain metrics with the same labelset")
}

/// Drops the names that were only marked, and joins series that become equal by that.
///
/// # Errors
/// As [`merge_equal`].
pub(crate) fn drop_marked_names(mut series: Vec<Series>) -> Result<Vec<Series>> {
    let mut dropped = false;
    for s in series.iter_mut().filter(|s| s.cells.drop_name) {
        s.labels = without_metadata(&s.labels);
        s.cells.drop_name = false;
        dropped = true;
    }
    if dropped {
        merge_equal(series)
    } else {
        Ok(series)
    }
}
