//! Values worked out when somebody asks.

use std::collections::BTreeMap;

use crate::telemetry::registry::{check_label_names, check_name};
use crate::telemetry::snapshot::{FamilySnapshot, MetricKind, Sample};

/// Where a callback puts its values during a scrape.
///
/// Values whose name is taken by another kind of metric, whose labels repeat a value already given, or whose names are not valid
/// are left out and counted in `lgtm_telemetry_discarded_samples_total`: one bad callback must not spoil the whole scrape.
#[derive(Debug)]
pub struct Collection {
    families: BTreeMap<String, FamilySnapshot>,
    discarded: u64,
}

impl Collection {
    pub(super) fn new(families: BTreeMap<String, FamilySnapshot>) -> Self {
        Self {
            families,
            discarded: 0,
        }
    }

    /// Gives a level.
    pub fn gauge(&mut self, name: &str, help: &str, labels: &[(&str, &str)], value: f64) {
        self.put(MetricKind::Gauge, name, help, labels, value);
    }

    /// Gives a count that only grows.
    pub fn counter(&mut self, name: &str, help: &str, labels: &[(&str, &str)], value: f64) {
        self.put(MetricKind::Counter, name, help, labels, value);
    }

    fn put(
        &mut self,
        kind: MetricKind,
        name: &str,
        help: &str,
        labels: &[(&str, &str)],
        value: f64,
    ) {
        let names = labels.iter().map(|(name, _)| *name);
        if check_name(name).is_err() || check_label_names(name, names).is_err() {
            self.discarded += 1;
            return;
        }
        let family = self.families.entry(name.into()).or_insert_with(|| {
            let samples = Vec::new();
            FamilySnapshot {
                name: name.into(),
                help: help.into(),
                kind,
                samples,
            }
        });
        let labels: Vec<_> = labels
            .iter()
            .map(|(n, v)| (String::from(*n), String::from(*v)))
            .collect();
        let place = family.samples.binary_search_by(|s| s.labels.cmp(&labels));
        match place {
            Err(at) if family.kind == kind => {
                family.samples.insert(at, Sample::new(name, &labels, value));
            }
            _ => self.discarded += 1,
        }
    }

    pub(super) fn finish(self) -> (BTreeMap<String, FamilySnapshot>, u64) {
        (self.families, self.discarded)
    }
}
