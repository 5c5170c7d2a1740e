//! Which component lives where.

use std::collections::BTreeMap;
use std::sync::Arc;

use object_store::path::Path;
use object_store::prefix::PrefixStore;

use crate::clock::{Clock, SystemClock};
use crate::error::{Error, Result};
use crate::storage::backend::Backend;
use crate::storage::bucket::Bucket;
use crate::storage::circuit::Circuit;
use crate::storage::data_kind::DataKind;
use crate::storage::guarded::Guarded;
use crate::storage::jitter::Jitter;
use crate::storage::meter::Meter;
use crate::storage::retry::Retry;
use crate::storage::settings::StorageSettings;
use crate::telemetry::Registry;

/// A bucket for every component, no two of which overlap.
///
/// ```
/// use lgtm_core::storage::{Backend, DataKind, Layout};
///
/// let layout = Layout::single_bucket(Backend::memory());
/// let blocks = layout.bucket(DataKind::MetricBlocks); // below `metricsblocks/`
/// # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
/// # runtime.block_on(async {
/// blocks.put("tenant/marker", "x").await?;
/// assert_eq!(blocks.get("tenant/marker").await?, "x");
/// # Ok::<(), lgtm_core::Error>(())
/// # })?;
/// # Ok::<(), lgtm_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Layout {
    buckets: BTreeMap<DataKind, Bucket>,
}

impl Layout {
    /// All components in one bucket, each below its default prefix.
    pub fn single_bucket(backend: impl Into<Backend>) -> Self {
        Self::builder()
            .store(backend)
            .build()
            .expect("the default prefixes and settings are valid")
    }

    /// A layout to be described.
    pub fn builder() -> LayoutBuilder {
        LayoutBuilder::default()
    }

    /// The bucket of a kind of data.
    pub fn bucket(&self, kind: DataKind) -> Bucket {
        let bucket = self.buckets.get(&kind);
        bucket
            .expect("the builder makes a bucket for every component")
            .clone()
    }
}

/// Describes a [`Layout`].
#[derive(Debug, Default)]
pub struct LayoutBuilder {
    store: Option<Backend>,
    own_stores: BTreeMap<DataKind, Backend>,
    prefixes: BTreeMap<DataKind, String>,
    settings: StorageSettings,
    clock: Option<Arc<dyn Clock>>,
    registry: Registry,
    jitter_seed: Option<u64>,
}

impl LayoutBuilder {
    /// The store of all kinds of data that have none of their own.
    pub fn store(mut self, backend: impl Into<Backend>) -> Self {
        self.store = Some(backend.into());
        self
    }

    /// A store for one kind of data alone. It then has no prefix, unless one is set too.
    pub fn store_for(mut self, kind: DataKind, backend: impl Into<Backend>) -> Self {
        self.own_stores.insert(kind, backend.into());
        self
    }

    /// Another prefix than the kind's name. Letters and digits only, as Mimir's `storage_prefix`; empty means none.
    pub fn prefix(mut self, kind: DataKind, prefix: impl Into<String>) -> Self {
        self.prefixes.insert(kind, prefix.into());
        self
    }

    /// Bounds of the requests, for each kind of data.
    pub fn settings(mut self, settings: StorageSettings) -> Self {
        self.settings = settings;
        self
    }

    /// The clock of circuits and durations; the machine's by default.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Where requests are counted; by default a registry that nobody scrapes.
    pub fn registry(mut self, registry: &Registry) -> Self {
        self.registry = registry.clone();
        self
    }

    /// Makes the waits between tries repeatable. By default the seed is made of time and process id, so that nodes differ.
    pub fn jitter_seed(mut self, seed: u64) -> Self {
        self.jitter_seed = Some(seed);
        self
    }

    /// Checks everything, touches nothing.
    ///
    /// # Errors
    /// `InvalidInput`: a setting out of bounds, a prefix with other characters than letters and digits, two kinds of data of which one's
    /// place is that of the other or inside it (both are named), a kind without a store.
    pub fn build(self) -> Result<Layout> {
        self.settings.validate()?;
        let places = DataKind::ALL
            .into_iter()
            .map(|kind| self.place_of(kind))
            .collect::<Result<Vec<_>>>()?;
        refuse_overlap(&places)?;
        let clock = self
            .clock
            .clone()
            .unwrap_or_else(|| Arc::new(SystemClock::new()));
        let seed = self.jitter_seed.unwrap_or_else(|| {
            (clock.now_ms().get() as u64) ^ (u64::from(std::process::id()) << 32)
        });
        let jitter = Arc::new(Jitter::seeded(seed));
        let mut buckets = BTreeMap::new();
        for place in places {
            let bucket = self.open(&place, &clock, &jitter)?;
            buckets.insert(place.kind, bucket);
        }
        Ok(Layout { buckets })
    }

    fn place_of(&self, kind: DataKind) -> Result<Place<'_>> {
        let own = self.own_stores.get(&kind);
        let backend = own.or(self.store.as_ref()).ok_or_else(|| {
            Error::InvalidInput(format!(
                "component {kind} has no store: set one for it, or one for all"
            ))
        })?;
        let default = if own.is_some() { "" } else { kind.as_str() };
        let prefix = self.prefixes.get(&kind).map_or(default, String::as_str);
        if let Some(bad) = prefix.chars().find(|c| !c.is_ascii_alphanumeric()) {
            return Err(Error::InvalidInput(format!(
                "prefix {prefix:?} of component {kind} contains {bad:?}, only letters and digits are allowed"
            )));
        }
        Ok(Place {
            kind,
            backend,
            prefix,
        })
    }

    fn open(
        &self,
        place: &Place<'_>,
        clock: &Arc<dyn Clock>,
        jitter: &Arc<Jitter>,
    ) -> Result<Bucket> {
        let path = place.backend.path_in_store(place.prefix);
        let guarded = Guarded::new(
            PrefixStore::new(Arc::clone(place.backend.store()), path.clone()),
            place.backend.kind(),
            self.settings.clone(),
            Retry::new(self.settings.retry.clone(), Arc::clone(jitter)),
            Circuit::new(
                place.kind,
                self.settings.circuit.clone(),
                &self.registry,
                Arc::clone(clock),
            )?,
            Meter::new(place.kind, &self.registry, Arc::clone(clock))?,
        );
        Ok(Bucket::new(place.kind, path.as_ref(), guarded))
    }
}

/// Where one component is to live.
struct Place<'a> {
    kind: DataKind,
    backend: &'a Backend,
    prefix: &'a str,
}

impl Place<'_> {
    fn path(&self) -> Path {
        self.backend.path_in_place(self.prefix)
    }

    fn shown(&self) -> String {
        format!(
            "component {} (prefix {:?} in {})",
            self.kind,
            self.path().as_ref(),
            self.backend.place()
        )
    }
}

fn refuse_overlap(places: &[Place<'_>]) -> Result<()> {
    for (i, one) in places.iter().enumerate() {
        for other in &places[i + 1..] {
            if one.backend.place() != other.backend.place() {
                continue;
            }
            let (a, b) = (one.path(), other.path());
            let how = if a == b {
                "is also that of"
            } else if a.prefix_matches(&b) {
                "is inside that of"
            } else if b.prefix_matches(&a) {
                "encloses that of"
            } else {
                continue;
            };
            return Err(Error::InvalidInput(format!(
                "storage of {} {how} {}; give each its own prefix",
                one.shown(),
                other.shown()
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;
    use crate::storage::backend::{BackendSettings, LocalDurability, from_url};

    fn refusal(builder: LayoutBuilder) -> String {
        let error = builder.build().unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::InvalidInput);
        error.to_string()
    }

    #[test]
    fn equal_prefixes_are_refused_and_both_named() {
        let builder = Layout::builder()
            .store(Backend::memory())
            .prefix(DataKind::Logs, "shared")
            .prefix(DataKind::Traces, "shared");
        let message = refusal(builder);
        assert!(
            message.contains("component logs ") && message.contains("component traces "),
            "{message}"
        );
    }

    #[test]
    fn an_empty_prefix_encloses_the_others() {
        let message = refusal(
            Layout::builder()
                .store(Backend::memory())
                .prefix(DataKind::Logs, ""),
        );
        assert!(
            message.contains("component logs ") && message.contains("metricsblocks"),
            "{message}"
        );
    }

    #[test]
    fn prefixes_hold_letters_and_digits_only() {
        for bad in ["a/b", "a-b", "..", "a b", "ä", "a_b", "%2e"] {
            let message = refusal(
                Layout::builder()
                    .store(Backend::memory())
                    .prefix(DataKind::Logs, bad),
            );
            assert!(message.contains("letters and digits"), "{message}");
        }
    }

    #[test]
    fn own_stores_are_compared_by_what_they_are() {
        let store = Arc::new(InMemory::new());
        let both = Layout::builder()
            .store(Arc::clone(&store))
            .store_for(DataKind::Logs, Arc::clone(&store));
        assert!(
            refusal(both).contains("is inside that of"),
            "the store's root holds the prefixes of the others"
        );
        let apart = Layout::builder()
            .store(Arc::clone(&store))
            .store_for(DataKind::Logs, Backend::memory())
            .store_for(DataKind::Traces, Backend::memory());
        apart.build().unwrap();
        let prefixed = Layout::builder()
            .store(Arc::clone(&store))
            .store_for(DataKind::Logs, store)
            .prefix(DataKind::Logs, "elsewhere");
        prefixed.build().unwrap();
    }

    #[test]
    fn directories_inside_each_other_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let at = |sub: &str| {
            let url = format!("file:{}/{sub}", dir.path().display());
            from_url(&url, &BackendSettings::default()).unwrap()
        };

        let inside = Layout::builder()
            .store(at("all"))
            .store_for(DataKind::Traces, at("all/metricsblocks/x"));
        let message = refusal(inside);
        assert!(
            message.contains("component metricsblocks") && message.contains("component traces"),
            "{message}"
        );
        let beside = Layout::builder()
            .store(at("all"))
            .store_for(DataKind::Logs, at("all2"));
        beside.build().unwrap();
        // A trailing slash or a detour names the same directory.
        let again =
            Backend::file(dir.path().join("all/../all/logs/"), LocalDurability::Os).unwrap();
        let twice = Layout::builder()
            .store(Backend::memory())
            .store_for(DataKind::Logs, at("all/logs"))
            .store_for(DataKind::Traces, again);
        assert!(refusal(twice).contains("is also that of"));
    }

    #[test]
    fn a_component_without_a_store_is_named() {
        let message =
            refusal(Layout::builder().store_for(DataKind::MetricBlocks, Backend::memory()));
        assert!(
            message.contains("component metricsrules has no store"),
            "{message}"
        );
    }

    #[tokio::test]
    async fn components_do_not_see_each_other() {
        let store = Arc::new(InMemory::new());
        let layout = Layout::single_bucket(Arc::clone(&store));
        for kind in DataKind::ALL {
            let bucket = layout.bucket(kind);
            bucket.put("t/x", kind.as_str()).await.unwrap();
        }
        for kind in DataKind::ALL {
            let bucket = layout.bucket(kind);
            assert_eq!(bucket.get("t/x").await.unwrap(), kind.as_str());
            assert_eq!(bucket.list_sorted("").await.unwrap().len(), 1);
            let raw = Path::from(format!("{kind}/t/x"));
            assert!(
                object_store::ObjectStoreExt::head(&*store, &raw)
                    .await
                    .is_ok()
            );
        }
    }
}
