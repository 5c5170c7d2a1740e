//! One metric name with many label sets.

use std::any::Any;
use std::collections::HashMap;
use std::fmt::{self, Debug};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;

use crate::telemetry::snapshot::{FamilySnapshot, MetricKind, Sample};

/// The value that every label takes in the one series that counts what no longer got a series of its own.
pub const OTHER: &str = "other";

/// A thing that counts: [`Counter`](super::Counter), [`Gauge`](super::Gauge), [`Histogram`](super::Histogram).
pub(super) trait Metric: Debug + Send + Sync + 'static {
    const KIND: MetricKind;

    /// Appends this metric's samples.
    fn snapshot(&self, name: &str, labels: &[(String, String)], out: &mut Vec<Sample>);
}

/// One metric per set of `N` label values.
///
/// The number of label sets is bounded by `max_series_per_family` of the registry's settings. Past the bound all further label sets
/// share one series whose labels are all [`OTHER`], so that sums over the family stay right, and the registry's
/// `lgtm_telemetry_overflowed_label_sets_total` says how often that happened.
pub struct Family<M, const N: usize> {
    name: String,
    help: String,
    label_names: [String; N],
    max_series: usize,
    make: Box<dyn Fn() -> M + Send + Sync>,
    series: RwLock<HashMap<[Box<str>; N], Arc<M>>>,
    overflowed: AtomicU64,
}

impl<M, const N: usize> Family<M, N> {
    pub(super) fn new(
        name: &str,
        help: &str,
        label_names: &[&str; N],
        max_series: usize,
        make: Box<dyn Fn() -> M + Send + Sync>,
    ) -> Self {
        Self {
            name: name.into(),
            help: help.into(),
            label_names: label_names.map(String::from),
            max_series,
            make,
            series: RwLock::default(),
            overflowed: AtomicU64::new(0),
        }
    }

    /// The metric of these label values, made at first sight. Takes a read lock and a hash: keep the handle on hot paths.
    pub fn with(&self, values: &[&str; N]) -> Arc<M> {
        let key: [Box<str>; N] = values.map(Box::from);
        if let Some(metric) = self.series.read().get(&key) {
            return Arc::clone(metric);
        }
        let mut series = self.series.write();
        let has_room = series.len() < self.max_series || series.contains_key(&key);
        let key = if has_room {
            key
        } else {
            self.overflowed.fetch_add(1, Ordering::Relaxed);
            std::array::from_fn(|_| Box::from(OTHER))
        };
        Arc::clone(series.entry(key).or_insert_with(|| Arc::new((self.make)())))
    }

    /// Forgets a label set, e.g. that of a tenant that is gone. Handles kept elsewhere go on counting unseen.
    pub fn remove(&self, values: &[&str; N]) {
        self.series.write().remove(&values.map(Box::from));
    }
}

impl<M, const N: usize> Debug for Family<M, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Family")
            .field("name", &self.name)
            .field("label_names", &self.label_names)
            .field("series", &self.series.read().len())
            .finish_non_exhaustive()
    }
}

/// A family whose kind and number of labels are no longer known: what the registry keeps.
pub(super) trait AnyFamily: Debug + Send + Sync {
    fn name(&self) -> &str;
    fn kind(&self) -> MetricKind;
    fn label_names(&self) -> &[String];
    fn snapshot(&self) -> FamilySnapshot;
    /// How many times a label set found no room.
    fn overflowed(&self) -> u64;
    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
}

impl<M: Metric, const N: usize> AnyFamily for Family<M, N> {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> MetricKind {
        M::KIND
    }

    fn label_names(&self) -> &[String] {
        &self.label_names
    }

    fn snapshot(&self) -> FamilySnapshot {
        let mut series: Vec<_> = {
            let series = self.series.read();
            series
                .iter()
                .map(|(k, m)| (k.clone(), Arc::clone(m)))
                .collect()
        };
        series.sort_by(|a, b| a.0.cmp(&b.0));
        let mut samples = Vec::with_capacity(series.len());
        for (values, metric) in series {
            let labels: Vec<_> = self.label_names.iter().cloned().zip(values).collect();
            let labels: Vec<_> = labels.into_iter().map(|(n, v)| (n, v.into())).collect();
            metric.snapshot(&self.name, &labels, &mut samples);
        }
        FamilySnapshot {
            name: self.name.clone(),
            help: self.help.clone(),
            kind: M::KIND,
            samples,
        }
    }

    fn overflowed(&self) -> u64 {
        self.overflowed.load(Ordering::Relaxed)
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}
