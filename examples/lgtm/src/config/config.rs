//! Everything that can be set.
//!
//! The first sentence of a field's comment is what `-help` and `-config.print` say of it (see `doc_comments`).

use std::collections::BTreeMap;
use std::time::Duration;

use lgtm_core::cache::CacheSettings;
use lgtm_core::exec::ExecutorSettings;
use lgtm_core::limits::{RuntimeConfig, RuntimeConfigBuilder, RuntimeConfigSettings};
use lgtm_core::rpc::RemoteSettings;
use lgtm_core::storage::{BackendSettings, StorageSettings};
use lgtm_core::units::ByteSize;
use lgtm_core::{Error, Result};
use lgtm_ring::replicas::ReplicationSettings;
use lgtm_tsdb::bucket::BucketSettings;
use lgtm_tsdb::components::{
    CompactorSettings, DistributorSettings, IngesterSettings, QueryFrontendSettings,
};
use lgtm_tsdb::http::ApiSettings;
use lgtm_tsdb::promql::EngineSettings;
use serde::{Deserialize, Serialize};
use serde_norway::Value;

use super::caches::{LogsCaches, MetricsCaches, TracesCaches};
use super::limits::{LimitsInForce, SignalLimits};
use super::overrides;
use super::ring::{RingConfig, RpcConfig};
use super::server::ServerSettings;
use super::yaml;

/// Everything that can be set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Components to run, comma separated: `all`, `read`, `write`, `backend`, those of one signal (`metrics`, `metrics-write`), or single ones
    /// (`metrics-ingester`).
    pub(crate) target: String,
    /// The server: addresses, and what requests may take of it together.
    pub(crate) server: ServerSettings,
    /// How processes find each other, where there are several.
    pub(crate) ring: RingConfig,
    /// How processes call each other.
    pub(crate) rpc: RpcConfig,
    /// Ports of the OpenTelemetry receivers beside the HTTP port, on its address; one that is taken is a warning when it is the default and an
    /// error otherwise. 0: none.
    pub(crate) otlp: OtlpPorts,
    /// Where the process keeps its local files.
    pub(crate) data: DataSettings,
    /// Object storage: where blocks go.
    pub(crate) storage: StorageConfig,
    /// Who the tenant is.
    pub(crate) auth: AuthSettings,
    /// What is logged, to stderr.
    pub(crate) log: LogSettings,
    /// Whether the host stores its own metrics, log lines and spans: in tenant lgtm, without multi-tenancy in anonymous.
    pub(crate) self_monitoring: bool,
    /// How often the process writes its own metrics.
    pub(crate) self_monitoring_interval: Seconds,
    /// Which part of the requests that the process answers it stores a span of, 0 to 1; those whose caller keeps its own span (`traceparent`) always
    /// unless it is 0.
    pub(crate) self_monitoring_trace_ratio: f64,
    /// Largest push, compressed and decompressed.
    pub(crate) max_recv_msg_size: ByteSize,
    /// Limits of every tenant by signal; 0 means no limit where a limit does not say otherwise.
    pub(crate) limits: SignalLimits,
    /// Limits of single tenants, by tenant and signal; what is not named there is as in `limits`.
    pub(crate) overrides: BTreeMap<String, Value>,
    /// Overrides that are read again while the process runs.
    pub(crate) runtime_config: RuntimeConfigSettings,
    /// Caches that layers may use, by a name of your own; which layer uses which stands in the section caches of each signal.
    pub(crate) caches: BTreeMap<String, CacheSettings>,
    /// Threads on which queries are computed.
    pub(crate) compute: ExecutorSettings,
    /// The components of the metrics store.
    pub(crate) metrics: MetricsSettings,
    /// The components of the log store.
    pub(crate) logs: LogsSettings,
    /// The components of the trace store.
    pub(crate) traces: TracesSettings,
}

/// The components of the metrics store.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct MetricsSettings {
    /// What is recent: memory and write-ahead log.
    pub(crate) ingester: IngesterSettings,
    /// Blocks in the bucket.
    pub(crate) store_gateway: BucketSettings,
    /// How blocks are compacted and the bucket is kept clean.
    pub(crate) compactor: CompactorSettings,
    /// How queries are computed.
    pub(crate) querier: EngineSettings,
    /// How queries are cut, kept and queued.
    pub(crate) query_frontend: QueryFrontendSettings,
    /// How several ingesters are written to and read from.
    pub(crate) replication: ReplicationSettings,
    /// How long calls of other processes may take.
    pub(crate) remote: RemoteSettings,
    /// Which caches its layers use.
    pub(crate) caches: MetricsCaches,
}

/// The components of the log store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct LogsSettings {
    /// Schema periods of the bucket, as Loki's `schema_config`.
    pub(crate) schema: lgtm_logstore::schema::SchemaSettings,
    /// What is recent: memory and write-ahead log.
    pub(crate) ingester: lgtm_logstore::components::IngesterSettings,
    /// Chunks and their index in the bucket.
    pub(crate) index_gateway: lgtm_logstore::bucket::BucketSettings,
    /// Keeping the index in the bucket small.
    pub(crate) compactor: lgtm_logstore::components::CompactorSettings,
    /// What tenants want deleted.
    pub(crate) deletes: lgtm_logstore::components::DeleteSettings,
    /// How queries are computed.
    pub(crate) querier: lgtm_logstore::logql::EngineSettings,
    /// How queries are followed.
    pub(crate) tail: lgtm_logstore::components::TailSettings,
    /// How queries are cut, kept and queued.
    pub(crate) query_frontend: lgtm_logstore::components::QueryFrontendSettings,
    /// How several ingesters are written to and read from.
    pub(crate) replication: ReplicationSettings,
    /// How long calls of other processes may take.
    pub(crate) remote: RemoteSettings,
    /// Which caches its layers use.
    pub(crate) caches: LogsCaches,
    /// Whether the header X-Loki-Query-Limits of a request may tighten the limits of its tenant.
    pub(crate) per_request_limits_enabled: bool,
    /// Whether a query may name several tenants, as a|b.
    pub(crate) multi_tenant_queries_enabled: bool,
    /// Tenants that one query may name; 0: any number.
    pub(crate) max_tenants_per_query: usize,
}

/// The components of the trace store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct TracesSettings {
    /// What is recent: memory and write-ahead log.
    pub(crate) ingester: lgtm_tracestore::components::IngesterSettings,
    /// Blocks in the bucket: how they are written, listed and read.
    pub(crate) store_gateway: lgtm_tracestore::bucket::BucketSettings,
    /// How blocks are joined.
    pub(crate) compactor: lgtm_tracestore::components::CompactorSettings,
    /// How queries are computed.
    pub(crate) querier: lgtm_tracestore::components::QuerierSettings,
    /// How queries are cut, kept and queued.
    pub(crate) query_frontend: lgtm_tracestore::components::QueryFrontendSettings,
    /// How several ingesters are written to and read from.
    pub(crate) replication: ReplicationSettings,
    /// How long calls of other processes may take.
    pub(crate) remote: RemoteSettings,
    /// Which caches its layers use.
    pub(crate) caches: TracesCaches,
    /// How queries are read, and how much may come of one.
    pub(crate) api: lgtm_tracestore::http::QueryRules,
    /// What a sender is told to wait that comes too fast.
    #[serde(with = "lgtm_core::units::duration")]
    pub(crate) retry_after_on_resource_exhausted: Duration,
}

/// A duration of its own type, so that it can stand at the top level.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Seconds(#[serde(with = "lgtm_core::units::duration")] pub(crate) Duration);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct OtlpPorts {
    /// OTLP over gRPC: the services of metrics, logs and traces.
    pub(crate) grpc_listen_port: u16,
    /// OTLP over HTTP: /v1/metrics, /v1/logs, /v1/traces.
    pub(crate) http_listen_port: u16,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct DataSettings {
    /// Folder of the write-ahead log, recent chunks, and of the bucket unless storage.url says otherwise.
    pub(crate) dir: String,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct StorageConfig {
    /// Where blocks go: file:FOLDER, memory:, s3://BUCKET?endpoint=..&region=..&path_style=true, gs://, az://; empty:
    /// file:DATA_DIR/bucket.
    pub(crate) url: String,
    /// How the back end is reached.
    pub(crate) backend: BackendSettings,
    /// Bounds of the requests.
    pub(crate) requests: StorageSettings,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AuthSettings {
    /// Whether the tenant comes from the header X-Scope-OrgID; otherwise all is tenant anonymous.
    pub(crate) multitenancy_enabled: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct LogSettings {
    /// error, warn, info, debug, trace, or per module as in lgtm_core=debug.
    pub(crate) level: String,
    /// text or json.
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
            ring: RingConfig::default(),
            rpc: RpcConfig::default(),
            otlp: OtlpPorts::default(),
            data: DataSettings::default(),
            storage: StorageConfig::default(),
            auth: AuthSettings::default(),
            log: LogSettings::default(),
            self_monitoring: true,
            self_monitoring_interval: Seconds(Duration::from_secs(15)),
            self_monitoring_trace_ratio: 0.01,
            max_recv_msg_size: ByteSize::mib(100),
            limits: SignalLimits::default(),
            overrides: BTreeMap::new(),
            runtime_config: RuntimeConfigSettings::default(),
            caches: BTreeMap::new(),
            compute: ExecutorSettings::default(),
            metrics: MetricsSettings::default(),
            logs: LogsSettings::default(),
            traces: TracesSettings::default(),
        }
    }
}

impl Default for TracesSettings {
    fn default() -> Self {
        let pushes = lgtm_tracestore::components::DistributorSettings::default();
        Self {
            ingester: Default::default(),
            store_gateway: Default::default(),
            compactor: Default::default(),
            querier: Default::default(),
            query_frontend: Default::default(),
            replication: ReplicationSettings::default(),
            remote: RemoteSettings::default(),
            caches: Default::default(),
            api: Default::default(),
            retry_after_on_resource_exhausted: pushes.retry_after_on_resource_exhausted,
        }
    }
}

impl Default for LogsSettings {
    fn default() -> Self {
        let api = lgtm_logstore::http::ApiSettings::default();
        Self {
            schema: Default::default(),
            ingester: Default::default(),
            index_gateway: Default::default(),
            compactor: Default::default(),
            deletes: Default::default(),
            querier: Default::default(),
            tail: Default::default(),
            query_frontend: Default::default(),
            replication: ReplicationSettings::default(),
            remote: RemoteSettings::default(),
            caches: Default::default(),
            per_request_limits_enabled: api.per_request_limits_enabled,
            multi_tenant_queries_enabled: api.multi_tenant_queries_enabled,
            max_tenants_per_query: api.max_tenants_per_query,
        }
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

    /// How the API of logs takes requests.
    pub(crate) fn logs_api_settings(&self) -> lgtm_logstore::http::ApiSettings {
        lgtm_logstore::http::ApiSettings {
            multitenancy_enabled: self.auth.multitenancy_enabled,
            max_query_body_size: self.server.max_query_body_size,
            max_inflight_query_bodies_bytes: self.server.max_inflight_query_bodies_bytes,
            max_inflight_answer_bytes: self.server.max_inflight_answer_bytes,
            per_request_limits_enabled: self.logs.per_request_limits_enabled,
            multi_tenant_queries_enabled: self.logs.multi_tenant_queries_enabled,
            max_tenants_per_query: self.logs.max_tenants_per_query,
            cors_origins: self.server.cors_origins.clone(),
        }
    }

    /// How much of logs may be pushed.
    pub(crate) fn logs_distributor_settings(
        &self,
    ) -> lgtm_logstore::components::DistributorSettings {
        lgtm_logstore::components::DistributorSettings {
            max_recv_msg_size: self.max_recv_msg_size,
            max_decoded_bytes: self.server.max_decoded_bytes,
            max_inflight_push_requests: self.server.max_inflight_push_requests,
            max_inflight_push_requests_bytes: self.server.max_inflight_push_requests_bytes,
        }
    }

    /// How the API of traces takes requests.
    pub(crate) fn traces_api_settings(&self) -> lgtm_tracestore::http::ApiSettings {
        lgtm_tracestore::http::ApiSettings {
            multitenancy_enabled: self.auth.multitenancy_enabled,
            max_query_body_size: self.server.max_query_body_size,
            max_inflight_query_bodies_bytes: self.server.max_inflight_query_bodies_bytes,
            max_inflight_answer_bytes: self.server.max_inflight_answer_bytes,
            cors_origins: self.server.cors_origins.clone(),
            queries: self.traces.api.clone(),
        }
    }

    /// How much of traces may be pushed.
    pub(crate) fn traces_distributor_settings(
        &self,
    ) -> lgtm_tracestore::components::DistributorSettings {
        lgtm_tracestore::components::DistributorSettings {
            max_recv_msg_size: self.max_recv_msg_size,
            max_decoded_bytes: self.server.max_decoded_bytes,
            max_inflight_push_requests: self.server.max_inflight_push_requests,
            max_inflight_push_requests_bytes: self.server.max_inflight_push_requests_bytes,
            retry_after_on_resource_exhausted: self.traces.retry_after_on_resource_exhausted,
        }
    }

    /// The tenant of the host's own metrics, log lines and spans.
    pub(crate) fn own_tenant(&self) -> &'static str {
        if self.auth.multitenancy_enabled {
            "lgtm"
        } else {
            "anonymous"
        }
    }

    /// All that can be set, as by default: the names that are known.
    pub(super) fn known() -> Result<Value> {
        serde_norway::to_value(Self::default()).map_err(|e| Error::Internal(e.to_string()))
    }

    /// From what was asked for; the rest is as by default.
    ///
    /// # Errors
    /// `InvalidInput` for a name that no setting has (names the nearest) and a value that does not fit.
    pub(super) fn from_value(asked: Value) -> Result<Self> {
        yaml::check_known(&asked, &Self::known()?, "")?;
        serde_norway::from_value(asked)
            .map_err(|e| Error::InvalidInput(format!("configuration: {e}")))
    }

    /// Checks all values.
    ///
    /// # Errors
    /// `InvalidInput`, naming the setting.
    pub(super) fn validate(&self) -> Result<()> {
        if !(0.0..=1.0).contains(&self.self_monitoring_trace_ratio) {
            return Err(Error::InvalidInput(format!(
                "self_monitoring_trace_ratio {} is not between 0 and 1",
                self.self_monitoring_trace_ratio
            )));
        }
        let metrics = &self.metrics;
        metrics.ingester.head.validate()?;
        metrics.compactor.validate()?;
        metrics.querier.validate()?;
        metrics.query_frontend.validate()?;
        let logs = &self.logs;
        logs.ingester.validate()?;
        logs.compactor.validate()?;
        logs.deletes.validate()?;
        logs.querier.validate()?;
        logs.query_frontend.validate()?;
        let traces = &self.traces;
        traces.ingester.validate()?;
        traces.store_gateway.validate()?;
        traces.compactor.validate()?;
        traces.querier.validate()?;
        traces.query_frontend.validate()?;
        traces.api.validate()?;
        self.compute.validate()?;
        self.validate_caches()?;
        self.validate_ring()?;
        self.storage.requests.validate()?;
        self.runtime_config(&LimitsInForce::default())?.build()?;
        let server = self.server.connections.validate();
        let server = server.and_then(|()| self.server.access.validate());
        let server = server.and_then(|()| self.api_settings().validate());
        server.map_err(|e| Error::InvalidInput(format!("server.{e}")))
    }

    /// Reads the overrides file, as a start does.
    ///
    /// # Errors
    /// `InvalidInput` for a file that would end a start.
    pub(crate) fn check_overrides_file(&self) -> Result<()> {
        let limits = LimitsInForce::default();
        self.runtime_config(&limits)?.build()?.reload().map(drop)
    }

    /// Where blocks go.
    pub(crate) fn storage_url(&self) -> String {
        match self.storage.url.as_str() {
            "" => format!("file:{}/bucket", self.data.dir),
            url => url.to_owned(),
        }
    }

    /// What keeps the limits of all signals as these settings and the overrides file say.
    ///
    /// # Errors
    /// `InvalidInput` for overrides that cannot be read.
    pub(crate) fn runtime_config(&self, limits: &LimitsInForce) -> Result<RuntimeConfigBuilder> {
        let overrides = overrides::from_settings(&self.overrides)?;
        let settings = self.runtime_config.clone();
        let builder = RuntimeConfig::builder(settings, overrides::read).configured(overrides);
        Ok(self.limits.kept_by(builder, limits))
    }
}
