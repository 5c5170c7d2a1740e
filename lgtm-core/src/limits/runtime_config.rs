//! The overrides file, read again while the process runs.
//!
//! A file that is not good changes nothing: the last good one stays in force, the log says why, and
//! `cortex_runtime_config_last_reload_successful` is 0 until a good one comes. What is in force is seen by the next request of each tenant.

use std::fmt::Debug;
use std::fs::File;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::exec::CancelToken;
use crate::limits::overrides::Overrides;
use crate::limits::overrides_file::{OverridesFile, as_json};
use crate::model::TenantId;
use crate::service::Service;
use crate::telemetry::{Gauge, Registry};
use crate::units::duration;

/// A file of more bytes is refused: ten thousand tenants with a hundred limits each take half of it.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// Where the overrides of tenants come from while the process runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RuntimeConfigSettings {
    /// YAML file whose `overrides` (tenant, signal, limit) are read again while the process runs; of several, comma separated, the later
    /// ones are laid over the earlier. Default: none.
    pub file: String,
    /// How often the file is read. Default 10s, as in the peers.
    #[serde(with = "duration")]
    pub period: Duration,
}

impl Default for RuntimeConfigSettings {
    fn default() -> Self {
        Self {
            file: String::new(),
            period: Duration::from_secs(10),
        }
    }
}

impl RuntimeConfigSettings {
    /// Checks all values.
    ///
    /// # Errors
    /// `InvalidInput`, naming the setting.
    pub fn validate(&self) -> Result<()> {
        if self.period.is_zero() {
            return Err(Error::InvalidInput("period must be above 0".into()));
        }
        Ok(())
    }
}

/// How the text of a file is read: the host knows its format.
pub type ReadOverrides = fn(&str) -> Result<OverridesFile>;

/// What a look at the file led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reload {
    /// Nothing to do: no file is set, or it says what it said before.
    Unchanged,
    /// What it says is in force from here on.
    Changed,
}

/// What [`RuntimeConfig::shown`] tells of each tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// All limits.
    All,
    /// Those that differ from the defaults.
    Differing,
}

/// Keeps the overrides of all signals as the file says. Clones share the same.
#[derive(Debug, Clone)]
pub struct RuntimeConfig(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    settings: RuntimeConfigSettings,
    read: ReadOverrides,
    configured: OverridesFile,
    signals: Vec<Box<dyn SignalLimits>>,
    successful: Option<Arc<Gauge>>,
    last: Mutex<LastLook>,
}

/// What the last look found. Held while a file is read: two looks at once would put an older file over a newer one.
#[derive(Debug, Default)]
struct LastLook {
    texts: Vec<String>,
    failure: Option<String>,
}

/// Collects the parts of a [`RuntimeConfig`].
#[derive(Debug)]
pub struct RuntimeConfigBuilder {
    settings: RuntimeConfigSettings,
    read: ReadOverrides,
    configured: OverridesFile,
    signals: Vec<Box<dyn SignalLimits>>,
    registry: Option<Registry>,
}

impl RuntimeConfigBuilder {
    /// Sets overrides that hold without a file, and beneath it.
    #[must_use]
    pub fn configured(mut self, overrides: OverridesFile) -> Self {
        self.configured = overrides;
        self
    }

    /// Adds the limits of a signal: `overrides` has what is in force, `default` holds for tenants that are not named.
    #[must_use]
    pub fn limits<L>(mut self, signal: &'static str, default: L, overrides: &Overrides<L>) -> Self
    where
        L: Debug + Clone + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static,
    {
        self.signals.push(Box::new(TypedLimits {
            signal,
            default,
            overrides: overrides.clone(),
        }));
        self
    }

    /// Has `registry` tell whether the last look at the file was successful.
    #[must_use]
    pub fn metrics(mut self, registry: &Registry) -> Self {
        self.registry = Some(registry.clone());
        self
    }

    /// Puts what is configured in force. The file is read when the service starts.
    ///
    /// # Errors
    /// `InvalidInput` for settings and overrides that are not valid.
    pub fn build(self) -> Result<RuntimeConfig> {
        let of_settings = |e| Error::InvalidInput(format!("runtime_config.{e}"));
        self.settings.validate().map_err(of_settings)?;
        let successful = match self.registry {
            Some(registry) if !self.settings.file.is_empty() => Some(registry.gauge(
                "cortex_runtime_config_last_reload_successful",
                "Whether the last look at the overrides file was successful: 1 or 0.",
            )?),
            _ => None,
        };
        let parts = Parts {
            settings: self.settings,
            read: self.read,
            configured: self.configured,
            signals: self.signals,
            successful,
            last: Mutex::default(),
        };
        parts.put_in_force(&parts.configured)?;
        Ok(RuntimeConfig(Arc::new(parts)))
    }
}

impl RuntimeConfig {
    /// Overrides by `settings`, in files that `read` understands.
    pub fn builder(settings: RuntimeConfigSettings, read: ReadOverrides) -> RuntimeConfigBuilder {
        RuntimeConfigBuilder {
            settings,
            read,
            configured: OverridesFile::default(),
            signals: Vec::new(),
            registry: None,
        }
    }

    /// Reads the file and, when it is good and new, puts it in force: all of it or nothing. Blocks as long as the file system does.
    ///
    /// # Errors
    /// `InvalidInput` for a file that cannot be read or is not valid; what was in force stays.
    pub fn reload(&self) -> Result<Reload> {
        if self.0.settings.file.is_empty() {
            return Ok(Reload::Unchanged);
        }
        let mut last = self.0.last.lock();
        let looked = self.0.look(&last);
        if let Some(gauge) = &self.0.successful {
            gauge.set(f64::from(u8::from(looked.is_ok())));
        }
        let Some(texts) = looked? else {
            last.failure = None;
            return Ok(Reload::Unchanged);
        };
        *last = LastLook {
            texts,
            failure: None,
        };
        Ok(Reload::Changed)
    }

    /// The overrides in force, in the shape of the file: for `/runtime_config`.
    ///
    /// # Errors
    /// `Internal` for limits that do not serialize.
    pub fn shown(&self, shown: Shown) -> Result<Value> {
        let mut tenants: Map<String, Value> = Map::new();
        for signal in &self.0.signals {
            for (tenant, limits) in signal.in_force(shown)? {
                let entry = tenants
                    .entry(tenant)
                    .or_insert_with(|| Value::Object(Map::new()));
                entry[signal.name()] = limits;
            }
        }
        Ok(serde_json::json!({ "overrides": tenants }))
    }

    /// What holds for one tenant, named by the file or not, in the shape of its entry there.
    ///
    /// # Errors
    /// `Internal` for limits that do not serialize.
    pub fn of_tenant(&self, tenant: &TenantId) -> Result<Value> {
        let signals = self.0.signals.iter();
        let limits = signals.map(|s| Ok((s.name().to_owned(), s.of_tenant(tenant)?)));
        Ok(Value::Object(limits.collect::<Result<_>>()?))
    }

    /// Looks at the file, and says once what is wrong with it.
    fn look_again(&self) {
        match self.reload() {
            Ok(Reload::Unchanged) => {}
            Ok(Reload::Changed) => {
                tracing::info!(
                    file = self.0.settings.file,
                    "the overrides file has changed and is in force"
                );
            }
            Err(e) => {
                let failure = e.to_string();
                let before = self.0.last.lock().failure.replace(failure.clone());
                if before.as_ref() != Some(&failure) {
                    tracing::error!(file = self.0.settings.file, error = %e, "the overrides file is not good; what it said before stays in force");
                }
            }
        }
    }
}

impl Parts {
    /// Reads all files and puts them in force; nothing when they say what they said before.
    fn look(&self, last: &LastLook) -> Result<Option<Vec<String>>> {
        let paths = self.settings.file.split(',').map(str::trim);
        let texts = paths.map(read_file).collect::<Result<Vec<_>>>()?;
        if texts == last.texts {
            return Ok(None);
        }
        let mut file = self.configured.clone();
        for text in &texts {
            file = file.overlaid(&(self.read)(text)?);
        }
        self.put_in_force(&file)?;
        for remark in file.remarks() {
            tracing::warn!(file = self.settings.file, "overrides file: {remark}");
        }
        Ok(Some(texts))
    }

    /// Reads the limits of all signals first, so that nothing of a bad file is used.
    fn put_in_force(&self, file: &OverridesFile) -> Result<()> {
        let mut defaults = Map::new();
        for signal in &self.signals {
            defaults.insert(signal.name().to_owned(), signal.default()?);
        }
        file.check_signals(&defaults)?;
        let prepared = self.signals.iter().map(|s| s.prepare(file));
        for put in prepared.collect::<Result<Vec<_>>>()? {
            put();
        }
        Ok(())
    }
}

fn read_file(path: &str) -> Result<String> {
    let fault =
        |e: &dyn std::fmt::Display| Error::InvalidInput(format!("overrides file {path}: {e}"));
    let file = File::open(path).map_err(|e| fault(&e))?;
    let mut text = String::new();
    let read = file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text);
    if read.map_err(|e| fault(&e))? as u64 > MAX_FILE_BYTES {
        return Err(fault(&format!("has more than {MAX_FILE_BYTES} bytes")));
    }
    Ok(text)
}

/// The limits of one signal, whatever their type.
trait SignalLimits: Debug + Send + Sync {
    fn name(&self) -> &'static str;

    /// Limits of tenants that are not named.
    fn default(&self) -> Result<Value>;

    /// Reads what `file` says of the signal. Calling what comes back puts it in force.
    fn prepare(&self, file: &OverridesFile) -> Result<Box<dyn FnOnce() + '_>>;

    /// Tenants with limits of their own.
    fn in_force(&self, shown: Shown) -> Result<Vec<(String, Value)>>;

    /// Limits of one tenant.
    fn of_tenant(&self, tenant: &TenantId) -> Result<Value>;
}

#[derive(Debug)]
struct TypedLimits<L> {
    signal: &'static str,
    default: L,
    overrides: Overrides<L>,
}

impl<L> SignalLimits for TypedLimits<L>
where
    L: Debug + Clone + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    fn name(&self) -> &'static str {
        self.signal
    }

    fn default(&self) -> Result<Value> {
        as_json(&self.default)
    }

    fn prepare(&self, file: &OverridesFile) -> Result<Box<dyn FnOnce() + '_>> {
        let mut tenants = file.limits(self.signal, &self.default)?;
        // A tenant that the file names for another signal only.
        tenants.retain(|_, limits| *limits != self.default);
        Ok(Box::new(move || {
            self.overrides.replace(self.default.clone(), tenants);
        }))
    }

    fn in_force(&self, shown: Shown) -> Result<Vec<(String, Value)>> {
        let default = self.default()?;
        let mut found = Vec::new();
        for (tenant, limits) in self.overrides.overridden() {
            let mut limits = as_json(&*limits)?;
            if let (Shown::Differing, Value::Object(limits)) = (shown, &mut limits) {
                limits.retain(|name, value| default.get(name) != Some(value));
            }
            found.push((tenant.as_str().to_owned(), limits));
        }
        Ok(found)
    }

    fn of_tenant(&self, tenant: &TenantId) -> Result<Value> {
        as_json(&*self.overrides.for_tenant(tenant))
    }
}

#[async_trait]
impl Service for RuntimeConfig {
    fn name(&self) -> &str {
        "runtime-config"
    }

    /// Reads the file for the first time; here a bad one is an error.
    async fn start(&self) -> Result<()> {
        let config = self.clone();
        let looked = tokio::task::spawn_blocking(move || config.reload()).await;
        looked.map_err(|e| Error::Internal(format!("reading the overrides file: {e}")))??;
        Ok(())
    }

    async fn run(&self, stop: CancelToken) -> Result<()> {
        if self.0.settings.file.is_empty() {
            stop.cancelled().await;
            return Ok(());
        }
        loop {
            tokio::select! {
                () = tokio::time::sleep(self.0.settings.period) => {}
                () = stop.cancelled() => return Ok(()),
            }
            let config = self.clone();
            if let Err(e) = tokio::task::spawn_blocking(move || config.look_again()).await {
                tracing::error!(error = %e, "the overrides file was not read");
            }
        }
    }
}

#[cfg(test)]
mod tests;
