//! The settings in words: what `-config.print` and `-help` show.

use lgtm_core::secret::mask_setting;
use serde_norway::Value;

use crate::config::Config;

/// What a setting is for, by its path in the YAML.
const DOCS: &[(&str, &str)] = &[
    ("target", "Components to run: all, metrics."),
    ("server", "Addresses."),
    (
        "server.http_listen_address",
        "Address of the HTTP server. Loopback unless you say otherwise: there is no login.",
    ),
    (
        "server.http_listen_port",
        "Port of the HTTP server: pushes, queries, operations. 0 takes a free one.",
    ),
    (
        "server.grpc_listen_address",
        "Address of the gRPC server. No component of this version listens there yet.",
    ),
    (
        "server.grpc_listen_port",
        "Port of the gRPC server. No component of this version listens there yet.",
    ),
    (
        "server.max_decoded_bytes",
        "Bytes that one push may take in memory when it is decoded; beyond, it is answered 413. 0: 2 GiB.",
    ),
    (
        "server.max_inflight_push_requests",
        "Pushes at a time; further ones are answered 503. 0: no bound.",
    ),
    (
        "server.max_inflight_push_requests_bytes",
        "Bytes of all pushes at a time: compressed, decompressed and decoded; beyond, pushes are answered 503. 0: no bound.",
    ),
    (
        "server.max_query_body_size",
        "Bytes of the body of a query or another request that stores nothing; a larger one is answered 413.",
    ),
    (
        "server.max_inflight_query_bodies_bytes",
        "Bytes of all such bodies at a time; beyond, requests are answered 503. 0: no bound.",
    ),
    (
        "server.max_inflight_answer_bytes",
        "Bytes of answers above 256 KiB that are held whole and not yet read by their clients; beyond, the next such answer is a 503. 0: no bound.",
    ),
    (
        "server.max_remote_read_bytes",
        "Bytes of a remote read's answer in samples, which is held whole; answers in chunks are streamed.",
    ),
    (
        "server.max_exemplars_bytes",
        "Bytes of labels and values of the exemplars that one call is answered, which is held whole.",
    ),
    (
        "server.cors_origins",
        "Origins such as https://ui.example:8443 whose pages may read the answers of the query API; \"*\": any. What they POST must also be listed in access.allowed_origins.",
    ),
    (
        "server.shutdown_delay",
        "How long to go on serving, not ready, after a signal to stop: for load balancers.",
    ),
    (
        "server.connections",
        "Bounds of the connections of all HTTP ports together.",
    ),
    (
        "server.connections.max",
        "Connections at a time; beyond, the one whose client has kept us waiting longest is closed (those first that have had no answer yet), and when all are at work a new one is answered 503. 0: half of the files that the process may open, at most 10000.",
    ),
    (
        "server.connections.head_timeout",
        "From the first byte of a request's head to its last.",
    ),
    (
        "server.connections.idle_timeout",
        "How long a connection may stay without a request.",
    ),
    (
        "server.connections.body_stall_timeout",
        "How long nothing of a body that is waited for may come.",
    ),
    (
        "server.connections.body_timeout",
        "How long a whole body may be waited for.",
    ),
    (
        "server.connections.send_stall_timeout",
        "How long a client may take nothing of its answer.",
    ),
    (
        "server.connections.min_send_rate",
        "Bytes a second that a client must take of an answer in the mean, beyond send_stall_timeout. 0: no such bound.",
    ),
    (
        "server.connections.max_head_bytes",
        "Bytes of a request's head.",
    ),
    (
        "server.connections.max_url_bytes",
        "Bytes of the first line of a GET or HEAD request.",
    ),
    (
        "server.connections.max_long_urls_bytes",
        "Bytes that URLs beyond 64 KiB may take together, each counted as two of the longest; further ones are refused.",
    ),
    (
        "server.access",
        "Which names and pages of browsers may reach the server, which has no login.",
    ),
    (
        "server.access.allowed_hosts",
        "Names by which clients may call a server bound to loopback, beside localhost, names without a dot and IP addresses. Elsewhere every name is taken while the list is empty.",
    ),
    (
        "server.access.allowed_origins",
        "Origins such as https://ui.example:8443 whose pages may send what changes something.",
    ),
    (
        "otlp",
        "Ports of the OpenTelemetry receivers beside the HTTP port, on loopback. 0: none. A port that is taken is a warning when it is the default and an error otherwise.",
    ),
    (
        "otlp.grpc_listen_port",
        "OTLP over gRPC. No component of this version listens there yet.",
    ),
    ("otlp.http_listen_port", "OTLP over HTTP: /v1/metrics."),
    (
        "data.dir",
        "Folder of the write-ahead log, recent chunks, and of the bucket unless storage.url says otherwise.",
    ),
    (
        "storage.url",
        "Where blocks go: file:FOLDER, memory:, s3://BUCKET?endpoint=..&region=..&path_style=true, gs://, az://. Empty: file:DATA_DIR/bucket.",
    ),
    (
        "storage.backend.credentials.from",
        "environment, or static with id and secret.",
    ),
    (
        "storage.backend.allow_http",
        "Whether an endpoint may be http://.",
    ),
    (
        "storage.backend.local_durability",
        "When an object on a local disk counts as stored: os or fsync.",
    ),
    ("storage.requests.request_timeout", "Deadline of a request."),
    (
        "storage.requests.upload_timeout",
        "Deadline of a request that sends data.",
    ),
    (
        "storage.requests.max_concurrent",
        "Requests at the same time.",
    ),
    (
        "storage.requests.max_waiting",
        "Requests that may wait for their turn.",
    ),
    (
        "storage.requests.coalesce_gap",
        "Ranges this near to each other are read at once.",
    ),
    (
        "storage.requests.part_size",
        "Size of one part of an upload.",
    ),
    (
        "storage.requests.upload_concurrency",
        "Parts of one upload sent at the same time.",
    ),
    (
        "storage.requests.retry.max_attempts",
        "Tries of a request that may be repeated.",
    ),
    (
        "storage.requests.retry.initial_backoff",
        "Pause before the second try; it doubles, more or less by chance.",
    ),
    ("storage.requests.retry.max_backoff", "Longest pause."),
    (
        "storage.requests.retry.max_elapsed",
        "No try begins after so long.",
    ),
    (
        "storage.requests.circuit.failures_to_open",
        "Permanent errors (403 and the like) in a row after which requests fail at once.",
    ),
    (
        "storage.requests.circuit.probe_interval",
        "How often one request is let through then.",
    ),
    (
        "auth.multitenancy_enabled",
        "Whether the tenant comes from the header X-Scope-OrgID; otherwise all is tenant anonymous.",
    ),
    (
        "log.level",
        "error, warn, info, debug, trace, or per module as in lgtm_core=debug.",
    ),
    ("log.format", "text or json."),
    (
        "self_monitoring",
        "Whether the host stores its own metrics: in tenant lgtm, without multi-tenancy in anonymous.",
    ),
    ("self_monitoring_interval", "How often it does."),
    (
        "max_recv_msg_size",
        "Largest push, compressed and decompressed.",
    ),
    ("limits", "Limits of every tenant. 0 means no limit."),
    (
        "limits.ingestion_rate",
        "Samples a second. Unlimited: the memory of the instance is the bound.",
    ),
    ("limits.ingestion_burst_size", "Samples at once."),
    ("limits.max_global_series_per_user", "Active series."),
    (
        "limits.max_global_series_per_metric",
        "Active series of one metric name.",
    ),
    ("limits.max_global_exemplars_per_user", "Exemplars kept."),
    (
        "limits.max_global_metadata_per_user",
        "Metric names with metadata.",
    ),
    (
        "limits.max_metadata_bytes_per_user",
        "Memory of metadata, in bytes; what would exceed it is not kept. 0: unlimited.",
    ),
    ("limits.max_label_name_length", "Bytes."),
    ("limits.max_label_value_length", "Bytes."),
    (
        "limits.max_label_names_per_series",
        "Labels, the metric name included.",
    ),
    (
        "limits.max_metadata_length",
        "Bytes of a help text, unit or name.",
    ),
    (
        "limits.max_native_histogram_buckets",
        "Buckets of a native histogram.",
    ),
    (
        "limits.creation_grace_period",
        "How far in the future a sample may lie.",
    ),
    (
        "limits.past_grace_period",
        "How far in the past a sample may lie.",
    ),
    (
        "limits.out_of_order_time_window",
        "How long after newer samples an older one is still taken.",
    ),
    (
        "limits.native_histograms_ingestion_enabled",
        "Whether native histograms are taken.",
    ),
    (
        "limits.created_timestamp_zero_ingestion_enabled",
        "Whether series begin with a zero at the time since when their sender says that it counts.",
    ),
    (
        "limits.st_storage_enabled",
        "Whether samples keep their start (created) timestamps, as in Prometheus with st-storage. Blocks of such series are read by Prometheus 3.11 (floats) and 3.14 (histograms) and later only, not by Mimir, Thanos or Cortex.",
    ),
    (
        "limits.otel_translation_strategy",
        "UnderscoreEscapingWithSuffixes, UnderscoreEscapingWithoutSuffixes, NoUTF8EscapingWithSuffixes or NoTranslation.",
    ),
    (
        "limits.promote_otel_resource_attributes",
        "OTLP resource attributes that become labels of every series.",
    ),
    (
        "limits.otel_promote_scope_metadata",
        "Whether OTLP scopes become labels otel_scope_...",
    ),
    (
        "limits.otel_keep_identifying_resource_attributes",
        "Whether target_info has service.name, service.namespace and service.instance.id too.",
    ),
    (
        "limits.otel_convert_histograms_to_nhcb",
        "Whether OTLP histograms with explicit bounds become native ones with custom buckets.",
    ),
    (
        "limits.otel_native_delta_ingestion",
        "Whether OTLP points of delta temporality are stored as they come; otherwise they are refused.",
    ),
    (
        "limits.compactor_partial_block_deletion_delay",
        "How old a block folder without meta.json must be to be deleted.",
    ),
    (
        "limits.max_fetched_series_per_query",
        "Series that one query may touch.",
    ),
    (
        "limits.max_fetched_chunks_per_query",
        "Chunks that one query may read.",
    ),
    (
        "limits.max_fetched_chunk_bytes_per_query",
        "Chunk bytes that one query may read.",
    ),
    (
        "limits.max_label_query_bytes",
        "Bytes of the names and values of labels that one query, or one call for series, labels or values, may select. 0: unlimited.",
    ),
    (
        "limits.max_query_expression_size_bytes",
        "Bytes of a query's text.",
    ),
    (
        "limits.max_total_query_length",
        "Time between start and end of a range query.",
    ),
    (
        "limits.max_query_lookback",
        "How far back the steps of a query may lie; earlier ones are left out.",
    ),
    (
        "limits.max_estimated_memory_consumption_per_query",
        "Bytes that the values of one query may take. 0: what querier.max_memory says.",
    ),
    (
        "limits.max_labels_query_length",
        "Time between start and end of a call for series, label names or values; the start is moved up. 0: unlimited.",
    ),
    (
        "limits.cardinality_analysis_enabled",
        "Whether the tenant may ask /api/v1/cardinality/... how many series its labels have; an answer walks the whole head.",
    ),
    (
        "limits.cardinality_analysis_max_results",
        "Entries that such an answer may list.",
    ),
    (
        "limits.label_values_max_cardinality_label_names_per_request",
        "Label names that one request for the cardinality of their values may name. 0: unlimited.",
    ),
    (
        "limits.active_series_results_max_size_bytes",
        "Bytes of the labels in a list of active series; a longer one is answered 413. 0: unlimited.",
    ),
    (
        "limits.max_query_parallelism",
        "Parts of one query that run at a time.",
    ),
    (
        "limits.max_cache_freshness",
        "Answers to steps younger than this are not cached, since samples may still come.",
    ),
    (
        "limits.results_cache_ttl",
        "How long an answer stays in the results cache that can change no more.",
    ),
    (
        "limits.results_cache_ttl_for_out_of_order_time_window",
        "How long one stays that late samples may still change.",
    ),
    (
        "limits.results_cache_ttl_for_errors",
        "How long an error stays where query_frontend.cache_errors is on. 0: not at all.",
    ),
    (
        "limits.query_sharding_total_shards",
        "Shards that an aggregation is cut into where query_frontend.parallelize_shardable_queries is on.",
    ),
    (
        "limits.query_sharding_max_sharded_queries",
        "Sharded parts that one query may become; shards are made fewer to keep it.",
    ),
    (
        "overrides",
        "Limits of single tenants, by tenant; what is not named there is as in limits.",
    ),
    ("ingester", "What is recent: memory and write-ahead log."),
    ("ingester.head.block_range", "Length of a block."),
    (
        "ingester.head.chunk_file_size",
        "Size of one file of finished chunks.",
    ),
    (
        "ingester.head.chunk_write_buffer",
        "Bytes of finished chunks that wait in memory until they are written in one call.",
    ),
    (
        "ingester.head.wal.segment_size",
        "Size at which a segment of the log is closed.",
    ),
    (
        "ingester.head.wal.sync",
        "When the log survives a power loss: os, every_batch, or interval: 1s. All survive kill -9.",
    ),
    (
        "ingester.head.wal.compress_above",
        "Groups of records larger than this are compressed.",
    ),
    ("ingester.head.wal.compression_level", "zstd level."),
    (
        "ingester.head.wal.max_buffered",
        "Bytes that may wait to be written; beyond, pushes are answered 503.",
    ),
    (
        "ingester.head.wal.retry_interval",
        "How long to wait before a failed write (disk full) is tried again.",
    ),
    (
        "ingester.head.checkpoint_after",
        "The log is checkpointed when it has grown by so much: bounds disk use and replay time.",
    ),
    (
        "ingester.head.series_idle_timeout",
        "A series that holds nothing and got no sample for so long is forgotten.",
    ),
    (
        "ingester.head.active_series_idle_timeout",
        "A series that got a sample within so long counts as active.",
    ),
    (
        "ingester.head.head_idle_timeout",
        "A tenant's head that got no sample for so long is closed.",
    ),
    (
        "ingester.head.max_series",
        "Series of all tenants together, about 1 KiB of memory each.",
    ),
    (
        "ingester.head.max_series_per_tenant_share",
        "The part of max_series that one tenant may hold of what the others leave: above 0, at most 1.",
    ),
    (
        "ingester.head.flush_concurrency",
        "Tenants whose blocks are written at the same time.",
    ),
    (
        "ingester.maintenance_interval",
        "How often complete ranges are moved into blocks and idle series forgotten.",
    ),
    (
        "ingester.flush_on_shutdown",
        "Whether an orderly stop moves everything into blocks; otherwise the log keeps it.",
    ),
    (
        "store_gateway.sync_interval",
        "How often the bucket is listed for blocks of others.",
    ),
    (
        "store_gateway.sync_concurrency",
        "Tenants listed at the same time.",
    ),
    (
        "store_gateway.page_cache_size",
        "Memory for pages of blocks that queries come back to; 0: none.",
    ),
    ("store_gateway.max_open_blocks", "Blocks kept open."),
    (
        "store_gateway.batch_series",
        "Series of a block read at the same time.",
    ),
    (
        "blocks_cleaner.cleanup_interval",
        "How often the bucket is looked through for uploads that never ended.",
    ),
    (
        "querier.lookback_delta",
        "How far back an instant looks for a sample.",
    ),
    ("querier.timeout", "A query that takes longer is ended."),
    (
        "querier.max_samples",
        "Values that one query may hold in memory; 0 is no limit.",
    ),
    (
        "querier.max_memory",
        "Memory that the values of one query may take; 0 is no limit.",
    ),
    (
        "querier.max_memory_total",
        "Memory that all queries of the process may take together, answers until they are printed included; beyond, queries are answered 503. 0 is no limit.",
    ),
    (
        "querier.default_subquery_step",
        "Distance of the steps of a subquery that gives none.",
    ),
    (
        "querier.parallelism",
        "Batches of series of one query that are computed at the same time.",
    ),
    (
        "querier.delayed_name_removal",
        "Drop a metric's name at the end of a query, as Prometheus does with promql-delayed-name-removal.",
    ),
    (
        "querier.start_timestamps",
        "Let start timestamps tell of counter resets, as Prometheus does with use-start-timestamps.",
    ),
    (
        "querier.parser",
        "Syntax that Prometheus hides behind flags, and bounds of a query's text.",
    ),
    (
        "querier.parser.experimental_functions",
        "Functions and aggregations that Prometheus calls experimental.",
    ),
    (
        "querier.parser.duration_expressions",
        "Arithmetic in ranges, steps and offsets: [5m * 2].",
    ),
    (
        "querier.parser.extended_range_selectors",
        "The modifiers anchored and smoothed.",
    ),
    (
        "querier.parser.fill_modifiers",
        "The modifiers fill, fill_left and fill_right.",
    ),
    ("querier.parser.max_query_bytes", "Bytes of a query's text."),
    (
        "querier.parser.max_depth",
        "How deep a query may be nested.",
    ),
    (
        "querier.parser.max_regex_bytes",
        "Bytes of one regular expression of a query.",
    ),
    ("querier.parser.max_matchers", "Matchers of one selector."),
    (
        "querier.parser.max_selectors",
        "Selectors of one request for series, labels or exemplars, and queries of one remote read.",
    ),
    (
        "query_frontend.enabled",
        "Whether queries are cut, cached and queued on their way to the engine.",
    ),
    (
        "query_frontend.split_queries_by_interval",
        "Range queries are cut at multiples of this; 0: not at all.",
    ),
    (
        "query_frontend.split_instant_queries_by_interval",
        "Ranges of instant queries that are longer are cut at this; 0: not at all.",
    ),
    (
        "query_frontend.align_queries_with_step",
        "Move start and end down to multiples of the step: more cache hits, other times than asked for.",
    ),
    (
        "query_frontend.cache_results",
        "Whether answers to range queries are kept. Samples that come later than limits.max_cache_freshness and the out-of-order window allow for show when the entry has expired.",
    ),
    (
        "query_frontend.results_cache_size",
        "Bytes of all kept answers.",
    ),
    (
        "query_frontend.results_cache_max_item_size",
        "Bytes of one answer; larger ones are not kept.",
    ),
    (
        "query_frontend.cache_errors",
        "Whether a query that failed for good fails at once when it is repeated with the same times, for limits.results_cache_ttl_for_errors.",
    ),
    (
        "query_frontend.cache_unaligned_requests",
        "Whether requests are cached whose start and end are no multiples of the step.",
    ),
    (
        "query_frontend.parallelize_shardable_queries",
        "Whether aggregations are cut by series. In one process the engine already uses several cores for a query, and each shard looks at all labels again: off.",
    ),
    (
        "query_frontend.max_concurrent",
        "Parts of queries that run at a time, over all tenants.",
    ),
    (
        "query_frontend.max_concurrent_percent_per_tenant",
        "Of the turns that other tenants leave, what one tenant may hold, in percent; always at least one turn. 100: all of them.",
    ),
    (
        "query_frontend.max_outstanding_requests_per_tenant",
        "Parts of a tenant's queries that may wait for a turn; more are answered 429.",
    ),
    (
        "query_frontend.max_retries",
        "Times that a part is sent before its failure is the query's; only what is unavailable is asked again.",
    ),
    ("compute", "Threads on which queries are computed."),
    ("compute.threads", "Threads; one per CPU."),
    (
        "compute.spare_threads",
        "Further threads, each for a job of a tenant that has none running, when all others are busy.",
    ),
    (
        "compute.max_queued_jobs",
        "Jobs that may wait for a thread; of one tenant, half as many.",
    ),
    (
        "compute.max_blocking_jobs",
        "Calls to the file system at the same time.",
    ),
];

/// Puts stars in place of secrets, however deep they stand.
fn mask(name: &str, value: &mut Value) {
    match value {
        Value::String(text) => {
            let masked = mask_setting(name, text).into_owned();
            *text = masked;
        }
        Value::Sequence(all) => all.iter_mut().for_each(|v| mask(name, v)),
        Value::Mapping(map) => {
            for (key, v) in map.iter_mut() {
                mask(key.as_str().unwrap_or_default(), v);
            }
        }
        Value::Tagged(tagged) => mask(name, &mut tagged.value),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The settings as YAML, each with what it is for. Secrets are masked.
pub(crate) fn documented(config: &Config) -> String {
    let mut value = serde_norway::to_value(config).expect("settings are plain data");
    mask("", &mut value);
    let yaml = serde_norway::to_string(&value).expect("settings are plain data");
    let mut out = String::from(
        "# Settings of lgtm. Every value may also be given as a flag: -server.http-listen-port=9009\n",
    );
    let mut path: Vec<&str> = Vec::new();
    for line in yaml.lines() {
        let indent = line.len() - line.trim_start().len();
        let key = line.trim_start().split(':').next().unwrap_or_default();
        path.truncate(indent / 2);
        path.push(key);
        let full = path.join(".");
        if let Some((_, doc)) = DOCS.iter().find(|(p, _)| *p == full) {
            out.push_str(&format!("{}# {doc}\n", " ".repeat(indent)));
        }
        out.push_str(line);
        out.push('\n');
    }
    out
}

/// The short help.
pub(crate) fn help() -> String {
    let mut out = String::from(
        "usage: lgtm [-target=all] [-config.file=FILE] [-config.print] [-config.verify] [-SETTING=VALUE ...]\n\nsettings:\n",
    );
    for (path, doc) in DOCS {
        out.push_str(&format!("  -{:<48} {doc}\n", path.replace('_', "-")));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(value: &serde_norway::Value, path: &str, out: &mut Vec<String>) {
        let serde_norway::Value::Mapping(map) = value else {
            return;
        };
        for (key, inner) in map {
            let name = key.as_str().unwrap();
            let full = if path.is_empty() {
                name.to_owned()
            } else {
                format!("{path}.{name}")
            };
            paths(inner, &full, out);
            out.push(full);
        }
    }

    #[test]
    fn every_setting_is_documented_and_every_document_has_its_setting() {
        let value = serde_norway::to_value(Config::default()).unwrap();
        let mut all = Vec::new();
        paths(&value, "", &mut all);
        let section = |p: &String| all.iter().any(|o| o.starts_with(&format!("{p}.")));
        let documented = |p: &str| DOCS.iter().any(|(d, _)| *d == p);
        for p in all.iter().filter(|p| !section(p)) {
            let parent = p.rsplit_once('.').map_or("", |(parent, _)| parent);
            assert!(
                documented(p) || (parent == "otlp" && documented(parent)),
                "{p} is not documented"
            );
        }
        for (p, _) in DOCS {
            assert!(
                all.iter().any(|o| o == p),
                "{p} is documented but is no setting"
            );
        }
        let printed = documented_text();
        let again: Config = serde_norway::from_str(&printed).unwrap();
        assert_eq!(again, Config::default());
    }

    #[test]
    fn secrets_are_masked_wherever_they_stand() {
        let text = concat!(
            "storage: {url: 's3://AKID:HUSH@bkt?session_token=HUSH&region=eu', ",
            "backend: {credentials: {from: static, id: AK, secret: HUSH}}}\n",
            "overrides: {a: {x: 'https://u:HUSH@h', list: ['https://h?sig=HUSH'], deep: {password: HUSH}}}\n",
        );
        let config: Config = serde_norway::from_str(text).unwrap();
        let shown = documented(&config);
        assert!(!shown.contains("HUSH"), "{shown}");
        assert!(
            shown.contains("bkt?session_token=********&region=eu"),
            "{shown}"
        );
    }

    fn documented_text() -> String {
        super::documented(&Config::default())
    }
}
