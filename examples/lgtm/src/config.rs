//! Settings: defaults, then the YAML file, then flags.
//!
//! A flag is a path in the YAML: `-server.http-listen-port=9009` sets `server: {http_listen_port: 9009}`. `${NAME}` and
//! `${NAME:default}` in the file stand for environment variables.

use std::collections::BTreeMap;
use std::time::Duration;

use lgtm_core::exec::ExecutorSettings;
use lgtm_core::http::{AccessSettings, ConnectionSettings};
use lgtm_core::limits::{Overrides, OverridesFile};
use lgtm_core::nearest::did_you_mean;
use lgtm_core::storage::{BackendSettings, StorageSettings};
use lgtm_core::units::ByteSize;
use lgtm_core::{Error, Result};
use lgtm_tsdb::bucket::BucketSettings;
use lgtm_tsdb::components::{
    CleanerSettings, DistributorSettings, IngesterSettings, QueryFrontendSettings,
};
use lgtm_tsdb::http::ApiSettings;
use lgtm_tsdb::limits::Limits;
use lgtm_tsdb::promql::EngineSettings;
use serde::{Deserialize, Serialize};
use serde_norway::{Mapping, Value};

/// Everything that can be set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) target: String,
    pub(crate) server: ServerSettings,
    pub(crate) otlp: OtlpPorts,
    pub(crate) data: DataSettings,
    pub(crate) storage: StorageConfig,
    pub(crate) auth: AuthSettings,
    pub(crate) log: LogSettings,
    pub(crate) self_monitoring: bool,
    pub(crate) self_monitoring_interval: Seconds,
    pub(crate) max_recv_msg_size: ByteSize,
    pub(crate) limits: Limits,
    pub(crate) overrides: BTreeMap<String, Value>,
    pub(crate) ingester: IngesterSettings,
    pub(crate) store_gateway: BucketSettings,
    pub(crate) blocks_cleaner: CleanerSettings,
    pub(crate) querier: EngineSettings,
    pub(crate) query_frontend: QueryFrontendSettings,
    pub(crate) compute: ExecutorSettings,
}

/// A duration of its own type, so that it can stand at the top level.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Seconds(#[serde(with = "lgtm_core::units::duration")] pub(crate) Duration);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ServerSettings {
    pub(crate) http_listen_address: String,
    pub(crate) http_listen_port: u16,
    pub(crate) grpc_listen_address: String,
    pub(crate) grpc_listen_port: u16,
    pub(crate) max_inflight_push_requests: u64,
    pub(crate) max_inflight_push_requests_bytes: ByteSize,
    pub(crate) max_decoded_bytes: ByteSize,
    pub(crate) max_query_body_size: ByteSize,
    pub(crate) max_inflight_query_bodies_bytes: ByteSize,
    pub(crate) max_inflight_answer_bytes: ByteSize,
    pub(crate) max_remote_read_bytes: ByteSize,
    pub(crate) max_exemplars_bytes: ByteSize,
    pub(crate) cors_origins: Vec<String>,
    #[serde(with = "lgtm_core::units::duration")]
    pub(crate) shutdown_delay: Duration,
    pub(crate) connections: ConnectionSettings,
    pub(crate) access: AccessSettings,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct OtlpPorts {
    pub(crate) grpc_listen_port: u16,
    pub(crate) http_listen_port: u16,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct DataSettings {
    pub(crate) dir: String,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct StorageConfig {
    pub(crate) url: String,
    pub(crate) backend: BackendSettings,
    pub(crate) requests: StorageSettings,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AuthSettings {
    pub(crate) multitenancy_enabled: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct LogSettings {
    pub(crate) level: String,
    pub(crate) format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    Text,
    Json,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            target: "all".into(),
            server: ServerSettings::default(),
            otlp: OtlpPorts::default(),
            data: DataSettings::default(),
            storage: StorageConfig::default(),
            auth: AuthSettings::default(),
            log: LogSettings::default(),
            self_monitoring: true,
            self_monitoring_interval: Seconds(Duration::from_secs(15)),
            max_recv_msg_size: ByteSize::mib(100),
            limits: Limits::default(),
            overrides: BTreeMap::new(),
            ingester: IngesterSettings::default(),
            store_gateway: BucketSettings::default(),
            blocks_cleaner: CleanerSettings::default(),
            querier: EngineSettings::default(),
            query_frontend: QueryFrontendSettings::default(),
            compute: ExecutorSettings::default(),
        }
    }
}

impl Default for ServerSettings {
    fn default() -> Self {
        let (api, pushes) = (ApiSettings::default(), DistributorSettings::default());
        Self {
            http_listen_address: "127.0.0.1".into(),
            http_listen_port: 9009,
            grpc_listen_address: "127.0.0.1".into(),
            grpc_listen_port: 9095,
            max_inflight_push_requests: pushes.max_inflight_push_requests,
            max_inflight_push_requests_bytes: pushes.max_inflight_push_requests_bytes,
            max_query_body_size: api.max_query_body_size,
            max_inflight_query_bodies_bytes: api.max_inflight_query_bodies_bytes,
            max_decoded_bytes: pushes.max_decoded_bytes,
            max_inflight_answer_bytes: api.max_inflight_answer_bytes,
            max_remote_read_bytes: api.max_remote_read_bytes,
            max_exemplars_bytes: api.max_exemplars_bytes,
            cors_origins: api.cors_origins,
            shutdown_delay: Duration::ZERO,
            connections: ConnectionSettings::default(),
            access: AccessSettings::default(),
        }
    }
}

impl ServerSettings {
    /// Where the HTTP server listens.
    pub(crate) fn address(&self) -> String {
        format!("{}:{}", self.http_listen_address, self.http_listen_port)
    }
}

impl Default for OtlpPorts {
    fn default() -> Self {
        Self {
            grpc_listen_port: 4317,
            http_listen_port: 4318,
        }
    }
}

impl Default for DataSettings {
    fn default() -> Self {
        Self {
            dir: "./data".into(),
        }
    }
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            level: "info".into(),
            format: LogFormat::Text,
        }
    }
}

/// What the process is to do with its settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Run,
    Print,
    Verify,
    Help,
}

impl Config {
    /// How the HTTP API takes requests.
    pub(crate) fn api_settings(&self) -> ApiSettings {
        ApiSettings {
            multitenancy_enabled: self.auth.multitenancy_enabled,
            max_query_body_size: self.server.max_query_body_size,
            max_inflight_query_bodies_bytes: self.server.max_inflight_query_bodies_bytes,
            max_inflight_answer_bytes: self.server.max_inflight_answer_bytes,
            max_remote_read_bytes: self.server.max_remote_read_bytes,
            max_exemplars_bytes: self.server.max_exemplars_bytes,
            cors_origins: self.server.cors_origins.clone(),
        }
    }

    /// How much may be pushed.
    pub(crate) fn distributor_settings(&self) -> DistributorSettings {
        DistributorSettings {
            max_recv_msg_size: self.max_recv_msg_size,
            max_decoded_bytes: self.server.max_decoded_bytes,
            max_inflight_push_requests: self.server.max_inflight_push_requests,
            max_inflight_push_requests_bytes: self.server.max_inflight_push_requests_bytes,
        }
    }

    /// The tenant of the host's own metrics.
    pub(crate) fn own_tenant(&self) -> &'static str {
        match self.auth.multitenancy_enabled {
            true => "lgtm",
            false => "anonymous",
        }
    }

    /// Reads flags and the file that they name.
    pub(crate) fn from_args(
        args: impl Iterator<Item = String>,
        env: impl Fn(&str) -> Option<String>,
    ) -> Result<(Self, Action)> {
        let mut action = Action::Run;
        let mut file = None;
        let mut flags = Vec::new();
        let mut args = args.peekable();
        while let Some(arg) = args.next() {
            let flag = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-'));
            let Some(flag) = flag else {
                return Err(Error::InvalidInput(format!("argument {arg:?} is no flag")));
            };
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (flag.to_owned(), args.next_if(|next| !next.starts_with('-'))),
            };
            match name.as_str() {
                "config.print" => action = Action::Print,
                "config.verify" => action = Action::Verify,
                "h" | "help" => action = Action::Help,
                "config.file" => file = value,
                // A flag without a value switches something on.
                _ => flags.push((name, value.unwrap_or_else(|| "true".into()))),
            }
        }
        let text = match &file {
            Some(path) => std::fs::read_to_string(path)
                .map_err(|e| Error::InvalidInput(format!("config file {path}: {e}")))?,
            None => String::new(),
        };
        let mut asked = parse_yaml(&expand(&text, env)?)?;
        for (name, value) in flags {
            let value = serde_norway::from_str(&value).unwrap_or(Value::String(value));
            set(&mut asked, &name.replace('-', "_"), value)?;
        }
        let config = Self::from_value(asked)?;
        config.validate()?;
        Ok((config, action))
    }

    fn from_value(asked: Value) -> Result<Self> {
        let known =
            serde_norway::to_value(Self::default()).map_err(|e| Error::Internal(e.to_string()))?;
        check_known(&asked, &known, "")?;
        serde_norway::from_value(asked)
            .map_err(|e| Error::InvalidInput(format!("configuration: {e}")))
    }

    fn validate(&self) -> Result<()> {
        self.ingester.head.validate()?;
        self.overrides()?;
        self.storage.requests.validate()?;
        let server = self.server.connections.validate();
        let server = server.and_then(|()| self.server.access.validate());
        let server = server.and_then(|()| self.api_settings().validate());
        server.map_err(|e| Error::InvalidInput(format!("server.{e}")))?;
        if !matches!(self.target.as_str(), "all" | "metrics") {
            return Err(Error::InvalidInput(format!(
                "target {:?} is not one of all, metrics",
                self.target
            )));
        }
        Ok(())
    }

    /// Where blocks go.
    pub(crate) fn storage_url(&self) -> String {
        match self.storage.url.as_str() {
            "" => format!("file:{}/bucket", self.data.dir),
            url => url.to_owned(),
        }
    }

    /// The limits of all tenants.
    pub(crate) fn overrides(&self) -> Result<Overrides<Limits>> {
        let overrides = Overrides::fixed(self.limits.clone());
        let mut entries = Vec::new();
        for (tenant, limits) in &self.overrides {
            let bad = |e: &dyn std::fmt::Display| {
                Error::InvalidInput(format!("overrides of tenant {tenant}: {e}"))
            };
            // Through text: the two libraries' values differ.
            let text = serde_norway::to_string(limits).map_err(|e| bad(&e))?;
            entries.push((
                tenant.clone(),
                serde_norway::from_str(&text).map_err(|e| bad(&e))?,
            ));
        }
        OverridesFile::from_entries(entries, &self.limits)?.apply(self.limits.clone(), &overrides);
        Ok(overrides)
    }
}

fn parse_yaml(text: &str) -> Result<Value> {
    match serde_norway::from_str(text)
        .map_err(|e| Error::InvalidInput(format!("config file: {e}")))?
    {
        Value::Null => Ok(Value::Mapping(Mapping::new())),
        value @ Value::Mapping(_) => Ok(value),
        _ => Err(Error::InvalidInput("config file: not a mapping".into())),
    }
}

/// Replaces `${NAME}` and `${NAME:default}`.
fn expand(text: &str, env: impl Fn(&str) -> Option<String>) -> Result<String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        out.push_str(&rest[..at]);
        let Some(end) = rest[at..].find('}') else {
            return Err(Error::InvalidInput("config file: ${ without }".into()));
        };
        let inside = &rest[at + 2..at + end];
        let (name, default) = inside
            .split_once(':')
            .map_or((inside, None), |(n, d)| (n, Some(d)));
        let value = env(name).or(default.map(str::to_owned));
        let missing = || {
            Error::InvalidInput(format!(
                "config file: environment variable {name} is not set"
            ))
        };
        out.push_str(&value.ok_or_else(missing)?);
        rest = &rest[at + end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

fn set(into: &mut Value, path: &str, value: Value) -> Result<()> {
    let mut at = into;
    for key in path.split('.') {
        let Value::Mapping(map) = at else {
            return Err(Error::InvalidInput(format!(
                "setting {path}: {key:?} is inside of something that is no section"
            )));
        };
        at = map
            .entry(Value::String(key.to_owned()))
            .or_insert_with(|| Value::Mapping(Mapping::new()));
    }
    *at = value;
    Ok(())
}

/// Finds a name that no default has, and the nearest that one has.
fn check_known(asked: &Value, known: &Value, path: &str) -> Result<()> {
    let (Value::Mapping(asked), Value::Mapping(known)) = (asked, known) else {
        return Ok(());
    };
    if matches!(path, "overrides" | "storage.backend.credentials") {
        // Keys of the first are tenants, those of the second depend on where credentials come from.
        return Ok(());
    }
    for (key, value) in asked {
        let name = key.as_str().unwrap_or_default();
        let full = if path.is_empty() {
            name.to_owned()
        } else {
            format!("{path}.{name}")
        };
        match known.get(key) {
            Some(inner) => check_known(value, inner, &full)?,
            None => {
                let names: Vec<&str> = known.keys().filter_map(Value::as_str).collect();
                return Err(Error::InvalidInput(format!(
                    "unknown setting {full}{}",
                    did_you_mean(name, names)
                )));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(args: &[&str]) -> Result<Config> {
        Config::from_args(args.iter().map(|a| (*a).to_owned()), |_| None).map(|(c, _)| c)
    }

    #[test]
    fn flags_are_paths_in_both_spellings() {
        let c = read(&[
            "-server.http-listen-port=0",
            "--data.dir",
            "/x",
            "-auth.multitenancy-enabled",
            "-self-monitoring=false",
        ])
        .unwrap();
        assert_eq!((c.server.http_listen_port, c.data.dir.as_str()), (0, "/x"));
        assert!(c.auth.multitenancy_enabled && !c.self_monitoring);
        assert_eq!(c.storage_url(), "file:/x/bucket");
        assert_eq!(
            read(&["-limits.creation-grace-period=1h"])
                .unwrap()
                .limits
                .creation_grace_period
                .as_secs(),
            3600
        );
    }

    #[test]
    fn unknown_names_are_told_with_the_nearest() {
        let error = read(&["-server.http-listen-prt=1"])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("server.http_listen_prt") && error.contains("http_listen_port"),
            "{error}"
        );
        assert!(read(&["-target=everything"]).is_err());
        assert!(read(&["x"]).is_err());
    }

    #[test]
    fn the_environment_fills_in() {
        let env = |n: &str| (n == "PORT").then(|| "81".to_owned());
        assert_eq!(expand("a: ${PORT}\nb: ${X:y}", env).unwrap(), "a: 81\nb: y");
        assert!(expand("a: ${X}", env).is_err() && expand("a: ${X", env).is_err());
    }

    #[test]
    fn a_tenants_limits_begin_with_the_defaults() {
        let yaml =
            "limits: {max_label_names_per_series: 5}\noverrides: {a: {max_label_value_length: 7}}";
        let config = Config::from_value(parse_yaml(yaml).unwrap()).unwrap();
        let limits = config
            .overrides()
            .unwrap()
            .for_tenant(&lgtm_core::model::TenantId::new("a").unwrap());
        assert_eq!(
            (
                limits.max_label_names_per_series,
                limits.max_label_value_length
            ),
            (5, 7)
        );
    }
}
