//! Where all metrics of a process, or of one node in a test, are found.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::telemetry::collector::Collection;
use crate::telemetry::counter::Counter;
use crate::telemetry::exposition;
use crate::telemetry::family::{AnyFamily, Family, Metric};
use crate::telemetry::gauge::Gauge;
use crate::telemetry::histogram::Histogram;
use crate::telemetry::snapshot::{FamilySnapshot, Sample};

/// Bounds of a [`Registry`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetrySettings {
    /// The most label sets of one family; further ones are counted together under `other`. Default 10 000: enough for a label per
    /// tenant on a large node, at most a few MB per family.
    pub max_series_per_family: usize,
}

impl Default for TelemetrySettings {
    fn default() -> Self {
        Self {
            max_series_per_family: 10_000,
        }
    }
}

impl TelemetrySettings {
    /// Checks the values.
    ///
    /// # Errors
    /// `InvalidInput`, naming the setting.
    pub fn validate(&self) -> Result<()> {
        if self.max_series_per_family == 0 {
            return Err(Error::InvalidInput(
                "max_series_per_family is 0, must be at least 1".into(),
            ));
        }
        Ok(())
    }
}

type Callback = Box<dyn Fn(&mut Collection) + Send + Sync>;

/// A set of metrics. Clones share it.
///
/// ```
/// use lgtm_core::telemetry::Registry;
///
/// let registry = Registry::new();
/// let requests = registry.counter_vec("requests_total", "Requests served.", &["route"])?;
/// let push = requests.with(&["push"]); // keep this handle
/// push.inc();
/// assert!(registry.encode().contains("requests_total{route=\"push\"} 1\n"));
/// # Ok::<(), lgtm_core::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct Registry {
    inner: Arc<RegistryParts>,
}

#[derive(Default)]
struct RegistryParts {
    settings: TelemetrySettings,
    families: RwLock<BTreeMap<String, Arc<dyn AnyFamily>>>,
    /// Bucket bounds of the histograms, to tell whether a second registration means the same.
    bounds: RwLock<BTreeMap<String, Arc<[f64]>>>,
    callbacks: RwLock<Vec<Callback>>,
    discarded: AtomicU64,
}

impl Registry {
    /// An empty registry with default settings.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty registry.
    ///
    /// # Errors
    /// `InvalidInput` when the settings are not valid.
    pub fn with_settings(settings: TelemetrySettings) -> Result<Self> {
        settings.validate()?;
        let inner = RegistryParts {
            settings,
            ..RegistryParts::default()
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// A counter without labels. Registering the same again gives the same counter; the first help text stays.
    ///
    /// # Errors
    /// `InvalidInput` for a name that is not valid or is taken by a metric of another kind or with other labels; so do all below.
    pub fn counter(&self, name: &str, help: &str) -> Result<Arc<Counter>> {
        Ok(self.counter_vec(name, help, &[])?.with(&[]))
    }

    /// Counters told apart by labels.
    ///
    /// # Errors
    /// As [`Registry::counter`].
    pub fn counter_vec<const N: usize>(
        &self,
        name: &str,
        help: &str,
        labels: &[&str; N],
    ) -> Result<Arc<Family<Counter, N>>> {
        self.family(name, help, labels, Counter::default)
    }

    /// A gauge without labels.
    ///
    /// # Errors
    /// As [`Registry::counter`].
    pub fn gauge(&self, name: &str, help: &str) -> Result<Arc<Gauge>> {
        Ok(self.gauge_vec(name, help, &[])?.with(&[]))
    }

    /// Gauges told apart by labels.
    ///
    /// # Errors
    /// As [`Registry::counter`].
    pub fn gauge_vec<const N: usize>(
        &self,
        name: &str,
        help: &str,
        labels: &[&str; N],
    ) -> Result<Arc<Family<Gauge, N>>> {
        self.family(name, help, labels, Gauge::default)
    }

    /// A histogram without labels. `bounds` are inclusive upper bounds; `+Inf` is added.
    ///
    /// # Errors
    /// As [`Registry::counter`]; also when the bounds do not ascend or differ from those registered before.
    pub fn histogram(&self, name: &str, help: &str, bounds: &[f64]) -> Result<Arc<Histogram>> {
        Ok(self.histogram_vec(name, help, &[], bounds)?.with(&[]))
    }

    /// Histograms told apart by labels.
    ///
    /// # Errors
    /// As [`Registry::histogram`].
    pub fn histogram_vec<const N: usize>(
        &self,
        name: &str,
        help: &str,
        labels: &[&str; N],
        bounds: &[f64],
    ) -> Result<Arc<Family<Histogram, N>>> {
        Histogram::check_bounds(name, bounds)?;
        if labels.contains(&"le") {
            return Err(Error::InvalidInput(format!(
                "histogram {name}: label \"le\" is taken by the bucket bounds"
            )));
        }
        let shared: Arc<[f64]> = bounds.into();
        let for_make = Arc::clone(&shared);
        let family = self.family(name, help, labels, move || {
            Histogram::new(Arc::clone(&for_make))
        })?;
        let mut known = self.inner.bounds.write();
        let first = known.entry(name.into()).or_insert(shared);
        if **first != *bounds {
            return Err(Error::InvalidInput(format!(
                "histogram {name} is registered with buckets {first:?}, not {bounds:?}"
            )));
        }
        Ok(family)
    }

    /// Asks `callback` for values at every scrape. It should be quick: a scrape waits for it.
    pub fn collect(&self, callback: impl Fn(&mut Collection) + Send + Sync + 'static) {
        self.inner.callbacks.write().push(Box::new(callback));
    }

    /// As [`Registry::collect`], for the values of a thing that the registry does not keep alive: when it is gone nothing is told of it.
    pub fn collect_from<T: Send + Sync + 'static>(
        &self,
        thing: &Arc<T>,
        tell: impl Fn(&T, &mut Collection) + Send + Sync + 'static,
    ) {
        let thing = Arc::downgrade(thing);
        self.collect(move |out| {
            if let Some(thing) = thing.upgrade() {
                tell(&thing, out);
            }
        });
    }

    /// All metrics now, by name.
    pub fn gather(&self) -> Vec<FamilySnapshot> {
        let families: Vec<_> = self.inner.families.read().values().cloned().collect();
        let snapshots = families.iter().map(|f| (f.name().into(), f.snapshot()));
        let mut collection = Collection::new(snapshots.collect());
        for callback in self.inner.callbacks.read().iter() {
            callback(&mut collection);
        }
        for family in families.iter().filter(|f| f.overflowed() > 0) {
            collection.counter(
                "lgtm_telemetry_overflowed_label_sets_total",
                "Look-ups of label sets that were counted under other since their family was full.",
                &[("family", family.name())],
                family.overflowed() as f64,
            );
        }
        let (mut families, discarded) = collection.finish();
        let before = self.inner.discarded.fetch_add(discarded, Ordering::Relaxed);
        if before + discarded > 0 {
            let name = "lgtm_telemetry_discarded_samples_total";
            let family = FamilySnapshot {
                name: name.into(),
                help:
                    "Values of callbacks that clashed with others or had names that are not valid."
                        .into(),
                kind: Counter::KIND,
                samples: vec![Sample::new(name, &[], (before + discarded) as f64)],
            };
            families.insert(name.into(), family);
        }
        // A family without a series says nothing yet.
        families
            .into_values()
            .filter(|f| !f.samples.is_empty())
            .collect()
    }

    /// All numbers now, for a host that stores its own metrics.
    pub fn samples(&self) -> impl Iterator<Item = Sample> {
        self.gather().into_iter().flat_map(|family| family.samples)
    }

    /// All metrics now, in the Prometheus text format ([`CONTENT_TYPE`](super::CONTENT_TYPE)).
    pub fn encode(&self) -> String {
        exposition::encode(&self.gather())
    }

    fn family<M: Metric, const N: usize>(
        &self,
        name: &str,
        help: &str,
        labels: &[&str; N],
        make: impl Fn() -> M + Send + Sync + 'static,
    ) -> Result<Arc<Family<M, N>>> {
        check_name(name)?;
        check_label_names(name, labels.iter().copied())?;
        let mut families = self.inner.families.write();
        if let Some(known) = families.get(name) {
            return same_family(known, labels);
        }
        let max_series = self.inner.settings.max_series_per_family;
        let family = Arc::new(Family::new(name, help, labels, max_series, Box::new(make)));
        families.insert(name.into(), Arc::clone(&family) as Arc<dyn AnyFamily>);
        Ok(family)
    }
}

impl Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("families", &self.inner.families.read().len())
            .field("callbacks", &self.inner.callbacks.read().len())
            .finish_non_exhaustive()
    }
}

fn same_family<M: Metric, const N: usize>(
    known: &Arc<dyn AnyFamily>,
    labels: &[&str; N],
) -> Result<Arc<Family<M, N>>> {
    let same_labels = known.label_names().iter().eq(labels.iter());
    let any: Arc<dyn Any + Send + Sync> = Arc::clone(known).into_any();
    match any.downcast::<Family<M, N>>() {
        Ok(family) if same_labels => Ok(family),
        _ => Err(Error::InvalidInput(format!(
            "metric {} is registered as a {} with labels {:?}, not as a {} with labels {labels:?}",
            known.name(),
            known.kind().as_str(),
            known.label_names(),
            M::KIND.as_str(),
        ))),
    }
}

/// `[a-zA-Z_:][a-zA-Z0-9_:]*`.
pub(super) fn check_name(name: &str) -> Result<()> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    if name.is_empty()
        || name.starts_with(|c: char| c.is_ascii_digit())
        || !name.chars().all(allowed)
    {
        return Err(Error::InvalidInput(format!(
            "metric name {name:?} does not match [a-zA-Z_:][a-zA-Z0-9_:]*"
        )));
    }
    Ok(())
}

/// `[a-zA-Z_][a-zA-Z0-9_]*`, no leading `__`, none twice.
pub(super) fn check_label_names<'a>(
    metric: &str,
    names: impl Iterator<Item = &'a str> + Clone,
) -> Result<()> {
    for (i, name) in names.clone().enumerate() {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let digit_first = name.starts_with(|c: char| c.is_ascii_digit());
        if name.is_empty() || digit_first || name.starts_with("__") || !name.chars().all(allowed) {
            return Err(Error::InvalidInput(format!(
                "metric {metric}: label name {name:?} is not valid"
            )));
        }
        if names.clone().take(i).any(|earlier| earlier == name) {
            return Err(Error::InvalidInput(format!(
                "metric {metric}: label name {name:?} stands twice"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_stable_and_complete() {
        let registry = Registry::new();
        let hits = registry
            .counter_vec("hits_total", "Hits.", &["cache", "op"])
            .unwrap();
        hits.with(&["b", "get"]).add(2);
        hits.with(&["a", "get"]).inc();
        registry.gauge("depth", "Depth.").unwrap().set(-1.5);
        let took = registry
            .histogram("took_seconds", "Time.", &[0.5, 1.0])
            .unwrap();
        for value in [0.25, 0.5, 0.75, 4.0] {
            took.observe(value);
        }
        registry
            .counter_vec("silent_total", "Nothing yet.", &["x"])
            .unwrap();
        registry.collect(|c| c.gauge("asked", "Asked.", &[("x", "1")], 7.0));
        assert_eq!(
            registry.encode(),
            "# HELP asked Asked.\n# TYPE asked gauge\nasked{x=\"1\"} 7\n\
             # HELP depth Depth.\n# TYPE depth gauge\ndepth -1.5\n\
             # HELP hits_total Hits.\n# TYPE hits_total counter\n\
             hits_total{cache=\"a\",op=\"get\"} 1\nhits_total{cache=\"b\",op=\"get\"} 2\n\
             # HELP took_seconds Time.\n# TYPE took_seconds histogram\n\
             took_seconds_bucket{le=\"0.5\"} 2\ntook_seconds_bucket{le=\"1\"} 3\n\
             took_seconds_bucket{le=\"+Inf\"} 4\ntook_seconds_sum 5.5\ntook_seconds_count 4\n"
        );
        assert_eq!(registry.samples().count(), 9);
    }

    #[test]
    fn registering_twice_gives_the_same_metric_or_an_error() {
        let registry = Registry::new();
        registry.counter("a_total", "A.").unwrap().inc();
        assert_eq!(
            registry.counter("a_total", "Other words.").unwrap().get(),
            1
        );
        let wrong_kind = registry.gauge("a_total", "A.").unwrap_err().to_string();
        assert!(
            wrong_kind.contains("registered as a counter"),
            "{wrong_kind}"
        );
        assert!(registry.counter_vec("a_total", "A.", &["x"]).is_err());
        registry.histogram("h", "H.", &[1.0]).unwrap();
        assert!(registry.histogram("h", "H.", &[2.0]).is_err());
        registry.counter_vec("b_total", "B.", &["x", "y"]).unwrap();
        assert!(registry.counter_vec("b_total", "B.", &["y", "x"]).is_err());
    }

    #[test]
    fn names_that_prometheus_refuses_are_refused() {
        let registry = Registry::new();
        for name in ["", "1a", "a-b", "ä", "a b"] {
            assert!(registry.counter(name, "").is_err(), "{name:?}");
        }
        for label in ["", "1a", "__a", "a:b", "a-b"] {
            assert!(
                registry.counter_vec("ok", "", &[label]).is_err(),
                "{label:?}"
            );
        }
        assert!(registry.counter_vec("ok", "", &["a", "a"]).is_err());
        assert!(registry.histogram_vec("ok", "", &["le"], &[1.0]).is_err());
        assert!(registry.histogram("ok", "", &[1.0, 1.0]).is_err());
        assert!(registry.histogram("ok", "", &[f64::INFINITY]).is_err());
    }

    #[test]
    fn label_sets_past_the_bound_are_counted_together() {
        let settings = TelemetrySettings {
            max_series_per_family: 2,
        };
        let registry = Registry::with_settings(settings).unwrap();
        let family = registry.counter_vec("a_total", "A.", &["t", "u"]).unwrap();
        for tenant in ["1", "2", "3", "4", "1"] {
            family.with(&[tenant, "x"]).inc();
        }
        assert_eq!(family.with(&["1", "x"]).get(), 2);
        assert_eq!(family.with(&[crate::telemetry::OTHER; 2]).get(), 2);
        let text = registry.encode();
        assert!(
            text.contains("overflowed_label_sets_total{family=\"a_total\"} 2\n"),
            "{text}"
        );
        family.remove(&["1", "x"]);
        assert!(!registry.encode().contains("t=\"1\""));
    }

    #[test]
    fn a_clashing_callback_does_not_spoil_the_scrape() {
        let registry = Registry::new();
        registry.counter("a_total", "A.").unwrap().inc();
        registry.collect(|c| {
            c.gauge("a_total", "A.", &[("x", "y")], 1.0);
            c.gauge("b", "B.", &[], 1.0);
            c.gauge("b", "B.", &[], 2.0);
            c.gauge("not valid", "", &[], 2.0);
        });
        let text = registry.encode();
        assert!(
            text.contains("\na_total 1\n") && text.contains("\nb 1\n"),
            "{text}"
        );
        assert!(
            text.contains("lgtm_telemetry_discarded_samples_total 3\n"),
            "{text}"
        );
    }

    #[test]
    fn concurrent_additions_are_all_counted() {
        let registry = Registry::new();
        let gauge = registry.gauge("g", "G.").unwrap();
        let histogram = registry.histogram("h", "H.", &[1.0]).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        gauge.inc();
                        histogram.observe(0.5);
                    }
                });
            }
        });
        assert_eq!(gauge.get(), 4000.0);
        assert_eq!((histogram.count(), histogram.sum()), (4000, 2000.0));
    }
}
