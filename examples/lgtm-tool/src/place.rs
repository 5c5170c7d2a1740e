//! Which signals are where in the bucket that a URL names.

use std::path::Path;

use lgtm_core::exec::{Executor, ExecutorSettings};
use lgtm_core::model::TenantId;
use lgtm_core::storage::{
    Backend, BackendKind, BackendSettings, Bucket, DataKind, Layout, from_url,
};
use lgtm_core::{Error, Result};
use lgtm_logstore::chunk::ChunkKey;
use lgtm_logstore::schema::{PeriodSettings, Schema, SchemaPeriods, SchemaSettings};
use lgtm_tsdb::block::BlockId as MetricBlockId;
use tempfile::TempDir;

use crate::arguments::Arguments;

/// Folders of the top that are looked into to tell what a bucket is.
const MOST_LOOKED_INTO: usize = 20;

/// A kind of data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    Metrics,
    Logs,
    Traces,
}

impl Signal {
    pub(crate) const ALL: [Self; 3] = [Self::Metrics, Self::Logs, Self::Traces];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Metrics => "metrics",
            Self::Logs => "logs",
            Self::Traces => "traces",
        }
    }

    fn kind(self) -> DataKind {
        match self {
            Self::Metrics => DataKind::MetricBlocks,
            Self::Logs => DataKind::Logs,
            Self::Traces => DataKind::Traces,
        }
    }
}

/// An open bucket.
#[derive(Debug)]
pub(crate) struct Place {
    backend: Backend,
    layout: Layout,
    signals: Vec<Signal>,
    /// Signals stand below prefixes of their own.
    has_prefixes: bool,
    pub(crate) executor: Executor,
    pub(crate) tenant: Option<TenantId>,
    pub(crate) schema: SchemaSettings,
}

impl Place {
    /// Opens the bucket and looks what is in it.
    ///
    /// # Errors
    /// `InvalidInput` for a URL, a signal or a schema; `NotFound` for a folder that is not there, or a bucket of nothing known; those of the store.
    pub(crate) async fn open(arguments: &Arguments) -> Result<Self> {
        let url = arguments.url();
        if let Some(dir) = url.strip_prefix("file:") {
            let dir = dir.strip_prefix("//").unwrap_or(dir);
            // The store would make it.
            if !Path::new(dir).is_dir() {
                return Err(Error::NotFound(format!("folder {dir}")));
            }
        }
        let backend = from_url(url, &BackendSettings::default())?;
        let asked = match arguments.flag("signal") {
            None => None,
            Some(name) => {
                let found = Signal::ALL.into_iter().find(|s| s.as_str() == name);
                let wrong = || {
                    Error::InvalidInput(format!("signal {name:?} is not metrics, logs or traces"))
                };
                Some(found.ok_or_else(wrong)?)
            }
        };
        let tenant = arguments.flag("tenant").map(TenantId::new).transpose()?;
        let schema = arguments.flag("schema").map(read_schema).transpose()?;
        let executor = Executor::new(
            &ExecutorSettings::default(),
            tokio::runtime::Handle::current(),
        )?;
        Self::of_backend(backend, asked, tenant, schema, executor).await
    }

    async fn of_backend(
        backend: Backend,
        asked: Option<Signal>,
        tenant: Option<TenantId>,
        schema: Option<SchemaSettings>,
        executor: Executor,
    ) -> Result<Self> {
        let whole = Layout::single_bucket(backend.clone());
        let top = root_of(&backend, DataKind::MetricBlocks)?;
        let (mut signals, has_prefixes) = signals_of(&top).await?;
        if let Some(signal) = asked {
            signals = vec![signal];
        }
        let layout = match signals.first() {
            Some(_) if has_prefixes => whole,
            Some(signal) => layout_of(&backend, signal.kind())?,
            None => {
                return Err(Error::NotFound(
                    "neither metric blocks nor logs nor trace blocks: give -signal, or the place of one signal;".into(),
                ));
            }
        };
        let mut place = Self {
            backend,
            layout,
            signals,
            has_prefixes,
            executor,
            tenant,
            schema: schema.clone().unwrap_or_default(),
        };
        if schema.is_none() && place.signals.contains(&Signal::Logs) {
            place.schema = schema_of(&place.bucket(Signal::Logs)).await?;
        }
        Ok(place)
    }

    /// Where each kind of data is.
    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The store itself, with what the layout makes of it.
    pub(crate) fn backend(&self) -> Backend {
        self.backend.clone()
    }

    /// The signals that are there.
    pub(crate) fn signals(&self) -> &[Signal] {
        &self.signals
    }

    /// The bucket of a signal.
    pub(crate) fn bucket(&self, signal: Signal) -> Bucket {
        self.layout.bucket(signal.kind())
    }

    /// Side objects of logs, where the bucket is a host's.
    pub(crate) fn side_bucket(&self) -> Option<Bucket> {
        self.has_prefixes
            .then(|| self.layout.bucket(DataKind::LogSkip))
    }

    /// The periods of the logs' schema.
    pub(crate) fn periods(&self) -> Result<SchemaPeriods> {
        SchemaPeriods::new(&self.schema)
    }

    /// The tenants of a signal that were asked for. For logs those with a folder, which all have from schema v12 on.
    pub(crate) async fn tenants(&self, signal: Signal) -> Result<Vec<TenantId>> {
        if let Some(tenant) = &self.tenant {
            return Ok(vec![tenant.clone()]);
        }
        self.bucket(signal).tenants().await
    }

    /// The only signal.
    ///
    /// # Errors
    /// `InvalidInput` when there are several.
    pub(crate) fn one_signal(&self) -> Result<Signal> {
        match self.signals[..] {
            [signal] => Ok(signal),
            _ => {
                let names: Vec<_> = self.signals.iter().map(|s| s.as_str()).collect();
                let names = names.join(", ");
                Err(Error::InvalidInput(format!(
                    "there are {names}: say which by -signal"
                )))
            }
        }
    }

    /// The tenant that was given, or the only one.
    ///
    /// # Errors
    /// `InvalidInput` when there are several, `NotFound` when there is none.
    pub(crate) async fn one_tenant(&self) -> Result<TenantId> {
        if let Some(tenant) = &self.tenant {
            return Ok(tenant.clone());
        }
        let mut tenants = self.bucket(self.one_signal()?).tenants().await?;
        // The folder of index tables is none.
        tenants.retain(|t| self.signals != [Signal::Logs] || t.as_str() != "index");
        match tenants.len() {
            1 => Ok(tenants.swap_remove(0)),
            0 => Err(Error::NotFound("a tenant".into())),
            n => Err(Error::InvalidInput(format!(
                "there are {n} tenants: say which by -tenant"
            ))),
        }
    }

    /// Of which kind an object is, and its path there. `path` is relative to the URL.
    ///
    /// # Errors
    /// `InvalidInput` when the bucket has prefixes and the path begins with none of them.
    pub(crate) fn locate(&self, path: &str) -> Result<(DataKind, String)> {
        let path = path.trim_matches('/');
        if !self.has_prefixes {
            let signal = self.signals.first().copied().unwrap_or(Signal::Metrics);
            return Ok((signal.kind(), path.to_owned()));
        }
        let (prefix, rest) = path.split_once('/').unwrap_or((path, ""));
        let kind = DataKind::ALL.into_iter().find(|k| k.as_str() == prefix);
        match kind.filter(|_| !rest.is_empty()) {
            Some(kind) => Ok((kind, rest.to_owned())),
            None => Err(Error::InvalidInput(format!(
                "object {path:?} must begin with metricsblocks/, logs/, logsskip/ or traces/"
            ))),
        }
    }

    /// Of which signal an object is, as [`Place::locate`].
    ///
    /// # Errors
    /// As there; `InvalidInput` for objects of none.
    pub(crate) fn signal_of(&self, path: &str) -> Result<Signal> {
        let (kind, _) = self.locate(path)?;
        let found = Signal::ALL.into_iter().find(|s| s.kind() == kind);
        found.ok_or_else(|| Error::InvalidInput(format!("object {path:?} is of no signal")))
    }

    /// The bucket of a kind of data.
    pub(crate) fn kind_bucket(&self, kind: DataKind) -> Bucket {
        self.layout.bucket(kind)
    }
}

/// A folder of this machine that goes when it is dropped.
///
/// # Errors
/// `Unavailable` when it cannot be made.
pub(crate) fn scratch() -> Result<TempDir> {
    tempfile::Builder::new()
        .prefix("lgtm-tool-")
        .tempdir()
        .map_err(|e| Error::Unavailable(format!("a temporary folder: {e}")))
}

/// The whole store as the bucket of one kind.
fn layout_of(backend: &Backend, kind: DataKind) -> Result<Layout> {
    Layout::builder()
        .store(Backend::memory())
        .store_for(kind, backend.clone())
        .build()
}

fn root_of(backend: &Backend, kind: DataKind) -> Result<Bucket> {
    Ok(layout_of(backend, kind)?.bucket(kind))
}

/// Which signals a bucket has, and whether below prefixes.
async fn signals_of(top: &Bucket) -> Result<(Vec<Signal>, bool)> {
    let listing = top.list_with_delimiter("").await?;
    let has = |name: &str| listing.folders.iter().any(|f| f == name);
    let prefixed: Vec<Signal> = (Signal::ALL.into_iter())
        .filter(|signal| has(signal.kind().as_str()))
        .collect();
    if !prefixed.is_empty() {
        return Ok((prefixed, true));
    }
    if has("index") && !has_blocks(top, "index").await? {
        return Ok((vec![Signal::Logs], false));
    }
    for folder in listing.folders.iter().take(MOST_LOOKED_INTO) {
        let below = top.list_with_delimiter(folder).await?;
        for block in &below.folders {
            let name = block.rsplit('/').next().unwrap_or_default();
            if name.parse::<MetricBlockId>().is_ok() {
                return Ok((vec![Signal::Metrics], false));
            }
            if name.parse::<lgtm_tracestore::block_id::BlockId>().is_ok() {
                return Ok((vec![Signal::Traces], false));
            }
        }
    }
    Ok((Vec::new(), false))
}

/// Whether a folder has blocks of metrics in it: a tenant may be called `index`.
async fn has_blocks(top: &Bucket, folder: &str) -> Result<bool> {
    let below = top.list_with_delimiter(folder).await?;
    let mut names = below.folders.iter().filter_map(|f| f.rsplit('/').next());
    Ok(names.any(|name| name.parse::<MetricBlockId>().is_ok()))
}

/// Loki's `schema_config` out of a file: the list itself, or the member of that name.
fn read_schema(path: &str) -> Result<SchemaSettings> {
    let wrong = |e: &dyn std::fmt::Display| Error::InvalidInput(format!("schema file {path}: {e}"));
    let text = std::fs::read_to_string(path).map_err(|e| wrong(&e))?;
    let value: serde_norway::Value = serde_norway::from_str(&text).map_err(|e| wrong(&e))?;
    let config = value.get("schema_config").unwrap_or(&value).clone();
    let settings: SchemaSettings = serde_norway::from_value(config).map_err(|e| wrong(&e))?;
    settings.validate()?;
    Ok(settings)
}

/// The schema of a bucket without one told, as far as it shows: whether chunks have folders by stream. Versions of index files and chunks these tell
/// themselves.
async fn schema_of(bucket: &Bucket) -> Result<SchemaSettings> {
    let mut settings = SchemaSettings::default();
    let listing = bucket.list_with_delimiter("").await?;
    let is_flat = match bucket.kind() {
        BackendKind::File => {
            let mut objects = listing.objects.iter();
            objects.any(|o| ChunkKey::from_file_name(&o.path).is_ok())
        }
        _ => {
            let mut flat = false;
            for folder in listing.folders.iter().take(MOST_LOOKED_INTO) {
                let below = bucket.list_with_delimiter(folder).await?;
                flat |= below
                    .objects
                    .iter()
                    .any(|o| o.path.parse::<ChunkKey>().is_ok());
            }
            flat
        }
    };
    if is_flat {
        let schema = |period: &mut PeriodSettings| period.schema = Schema::V11;
        settings.configs.iter_mut().for_each(schema);
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use lgtm_tsdb::object_store::memory::InMemory;

    use super::*;

    async fn told(objects: &[&str]) -> (Vec<Signal>, bool) {
        let backend = Backend::from(InMemory::new());
        let top = root_of(&backend, DataKind::MetricBlocks).unwrap();
        for object in objects {
            top.put(object, "x").await.unwrap();
        }
        signals_of(&top).await.unwrap()
    }

    #[tokio::test]
    async fn a_bucket_is_known_by_what_is_in_it() {
        let block = "t/01M81S4YBRY2BH6YTEZ7ZJKQ3G/meta.json";
        assert_eq!(told(&[block]).await, (vec![Signal::Metrics], false));
        let block = "t/9557affa-4efa-4d02-afdd-5fd27916f56f/meta.json";
        assert_eq!(told(&[block]).await, (vec![Signal::Traces], false));
        let index = "index/index_19844/1-x.tsdb.gz";
        assert_eq!(told(&[index]).await, (vec![Signal::Logs], false));
        let both = ["logs/index/index_1/x", "traces/t/x"];
        assert_eq!(
            told(&both).await,
            (vec![Signal::Logs, Signal::Traces], true)
        );
        assert_eq!(told(&["a/b"]).await, (Vec::new(), false));
    }
}
