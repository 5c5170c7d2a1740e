//! What Grafana asks beside queries, answered as a real Loki did: `api.jsonl` of the sets below `conformance` whose name begins with `logql`.

use crate::shared;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use crate::shared::json_lines;
use async_trait::async_trait;
use lgtm_core::clock::SystemClock;
use lgtm_core::exec::{Executor, ExecutorSettings};
use lgtm_core::model::{Labels, Listed, TenantId, TextSet, TimeRangeNs};
use lgtm_core::storage::{Backend, DataKind, Layout};
use lgtm_logstore::bucket::{BucketChunks, BucketWriter, BucketWriterSettings};
use lgtm_logstore::chunk::{ChunkBuilder, ChunkCodec, ChunkFormat, ChunkSettings, StreamChunk};
use lgtm_logstore::components::clients::{
    Inspect, PatternCounts, Patterns, PatternsRequest, Queries, Tail, TailFeed, TailRequest,
};
use lgtm_logstore::components::{
    DetectedFieldsRequest, VolumeAggregation, VolumeRequest, detected_field_values,
    detected_fields, detected_labels, selector_stats, volume, volume_range,
};
use lgtm_logstore::logql::{
    Answer, Engine, EngineSettings, Expr, LabelEncoding, ParserSettings, Query, QueryError,
    QueryRange, parse, parse_selector,
};
use lgtm_logstore::select::{EntryBatches, FetchBounds, Select, SelectRequest, StreamVolume};
use serde_json::{Value, json};

/// A bucket and an engine over it.
#[derive(Debug)]
struct Store {
    chunks: Arc<BucketChunks>,
    engine: Engine,
    executor: Executor,
}

#[async_trait]
impl Select for Store {
    async fn select(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> lgtm_core::Result<Box<dyn EntryBatches>> {
        self.chunks.select(tenant, request).await
    }

    async fn series(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> lgtm_core::Result<Listed<Vec<Labels>>> {
        self.chunks.series(tenant, request).await
    }

    async fn label_names(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> lgtm_core::Result<Listed<TextSet>> {
        self.chunks.label_names(tenant, request).await
    }

    async fn label_values(
        &self,
        tenant: &TenantId,
        name: &str,
        request: &SelectRequest,
    ) -> lgtm_core::Result<Listed<TextSet>> {
        self.chunks.label_values(tenant, name, request).await
    }
}

#[async_trait]
impl Inspect for Store {
    async fn volumes(
        &self,
        tenant: &TenantId,
        request: &SelectRequest,
    ) -> lgtm_core::Result<Listed<Vec<StreamVolume>>> {
        self.chunks.volumes(tenant, request).await
    }
}

#[async_trait]
impl Patterns for Store {
    async fn patterns(
        &self,
        _: &TenantId,
        _: &PatternsRequest,
    ) -> lgtm_core::Result<Listed<Vec<PatternCounts>>> {
        Ok(Listed::whole(Vec::new()))
    }
}

#[async_trait]
impl Tail for Store {
    async fn tail(&self, _: &TenantId, _: &TailRequest) -> Result<Box<dyn TailFeed>, QueryError> {
        Err(QueryError::Disabled("nothing comes in".into()))
    }
}

#[async_trait]
impl Queries for Store {
    async fn query(&self, tenant: &TenantId, query: &Query) -> Result<Answer, QueryError> {
        self.engine.query(tenant, query).await
    }
}

fn tenant() -> TenantId {
    TenantId::new("conformance").unwrap()
}

fn texts(value: &Value) -> BTreeMap<String, String> {
    let map = value.as_object().into_iter().flatten();
    map.map(|(k, v)| (k.clone(), v.as_str().unwrap().to_owned()))
        .collect()
}

/// The input in a bucket, a chunk a stream: as Loki had it, since nothing of it is large.
async fn store(folder: &Path) -> Store {
    let mut streams: BTreeMap<Labels, ChunkBuilder> = BTreeMap::new();
    let settings = Arc::new(ChunkSettings::default());
    for entry in json_lines(&folder.join("data.jsonl")) {
        let labels = Labels::from_pairs(texts(&entry["stream"])).unwrap();
        let new = || ChunkBuilder::new(ChunkFormat::V4, Arc::clone(&settings));
        let metadata = texts(&entry["structured_metadata"]);
        let metadata: Vec<(&str, &str)> = metadata.iter().map(|(n, v)| (&**n, &**v)).collect();
        let t_ns: i64 = entry["ts"].as_str().unwrap().parse().unwrap();
        let line = entry["line"].as_str().unwrap().as_bytes();
        let builder = streams.entry(labels).or_insert_with(new);
        builder.append(t_ns, line, &metadata).unwrap();
    }
    let runtime = tokio::runtime::Handle::current();
    let executor = Executor::new(&ExecutorSettings::default(), runtime).unwrap();
    let clock = Arc::new(SystemClock::new());
    let bucket = Layout::single_bucket(Backend::memory()).bucket(DataKind::Logs);
    let chunks = BucketChunks::builder(bucket.clone(), executor.clone())
        .build()
        .unwrap();
    let writer = BucketWriter::new(
        bucket,
        executor.clone(),
        clock.clone(),
        Arc::clone(&chunks),
        "test",
        BucketWriterSettings::default(),
    );
    let writer = writer.unwrap();
    for (labels, builder) in streams {
        let chunk = builder
            .finish(&mut settings.compressor(), &mut ChunkCodec::default())
            .unwrap();
        let chunk = StreamChunk {
            tenant: tenant(),
            fingerprint: labels.stable_hash(),
            labels,
            chunk,
        };
        writer.put_chunk(chunk).await.unwrap();
    }
    writer.write_index().await.unwrap();
    chunks.sync().await.unwrap();
    let engine = Engine::new(
        chunks.clone(),
        executor.clone(),
        clock,
        EngineSettings::default(),
    );
    Store {
        chunks,
        engine: engine.unwrap(),
        executor,
    }
}

/// A recorded call.
struct Call {
    case: Value,
}

impl Call {
    fn param(&self, name: &str) -> Option<&str> {
        self.case["params"][name].as_str()
    }

    fn time(&self, name: &str) -> i64 {
        self.param(name).map_or(0, |t| t.parse().unwrap())
    }

    fn range(&self) -> TimeRangeNs {
        TimeRangeNs::new(self.time("start"), self.time("end"))
    }

    fn body(&self) -> &Value {
        &self.case["body"]
    }

    fn selector(&self) -> Result<SelectRequest, QueryError> {
        // Unlike for volumes, a matcher must be in it.
        match parse(self.param("query").unwrap())? {
            Expr::Log(log) => Ok(SelectRequest::new(log.matchers, self.range())),
            Expr::Metric(other) => panic!("{other}"),
        }
    }

    fn volume(&self) -> VolumeRequest {
        let targets = self.param("targetLabels").into_iter();
        VolumeRequest {
            matchers: parse_selector(self.param("query").unwrap()).unwrap(),
            range: self.range(),
            target_labels: targets
                .flat_map(|t| t.split(','))
                .map(str::to_owned)
                .collect(),
            aggregate_by: match self.param("aggregateBy") {
                Some("labels") => VolumeAggregation::Labels,
                _ => VolumeAggregation::Series,
            },
            limit: self.param("limit").map_or(0, |l| l.parse().unwrap()),
            max_series: 1000,
            bounds: FetchBounds::default(),
        }
    }

    fn fields(&self) -> Result<DetectedFieldsRequest, QueryError> {
        let range = QueryRange::new(self.time("start"), self.time("end"));
        let query = self.param("query").unwrap();
        Ok(DetectedFieldsRequest {
            query: Query::range(query, range, &ParserSettings::default())?,
            limit: 1000,
        })
    }
}

/// The recorded index named each chunk twice.
fn halved(result: &Value) -> Value {
    let mut result = result.clone();
    let half = |point: &mut Value| {
        let bytes: f64 = point[1].as_str().unwrap().parse().unwrap();
        point[1] = json!((bytes / 2.0).to_string());
    };
    for series in result.as_array_mut().unwrap() {
        match series.get("value") {
            Some(_) => half(&mut series["value"]),
            None => series["values"]
                .as_array_mut()
                .unwrap()
                .iter_mut()
                .for_each(half),
        }
    }
    result
}

async fn answer(store: &Store, call: &Call) -> Result<Option<(Value, Value)>, QueryError> {
    let (path, tenant) = (call.case["path"].as_str().unwrap(), tenant());
    let path = path.strip_prefix("/loki/api/v1/").unwrap_or(path);
    Ok(Some(match path {
        "format_query" => {
            let pretty = parse(call.param("query").unwrap())?.pretty();
            (json!(pretty), call.body()["data"].clone())
        }
        "index/stats" => {
            let stats = selector_stats(store, &tenant, &call.selector()?)
                .await?
                .items;
            // How often the recorded index named a chunk is not known: sizes stand in proportion.
            let body = call.body();
            let count = |name: &str| body[name].as_u64().unwrap();
            (
                json!([stats.streams, stats.bytes * count("entries")]),
                json!([body["streams"], count("bytes") * stats.entries]),
            )
        }
        "index/volume" | "index/volume_range" => {
            let request = call.volume();
            let value = match (path, call.param("step")) {
                ("index/volume", _) => volume(store, &tenant, &request).await?,
                (_, Some("20m")) => {
                    volume_range(store, &tenant, &request, 1_200_000_000_000).await?
                }
                (_, step) => {
                    let seconds: i64 = step.unwrap().parse().unwrap();
                    volume_range(store, &tenant, &request, seconds * 1_000_000_000).await?
                }
            };
            let got = value.items.to_json(LabelEncoding::Merged, None);
            let got: Value = serde_json::from_str(&got).unwrap();
            let data = &call.body()["data"];
            // What a results cache has cut out of a longer answer is no count.
            let is_cut = call.body().to_string().contains("\"13630\"");
            let wanted = if is_cut {
                return Ok(None);
            } else {
                halved(&data["result"])
            };
            (
                json!([got["resultType"], got["result"]]),
                json!([data["resultType"], wanted]),
            )
        }
        "detected_labels" => {
            let labels = detected_labels(store, &tenant, &call.selector()?)
                .await?
                .items;
            let labels = labels.iter();
            let got = labels.map(|l| json!({"label": l.label, "cardinality": l.cardinality}));
            let wanted = call.body()["detectedLabels"].as_array().unwrap();
            let in_order = |labels: Vec<Value>| -> BTreeSet<String> {
                labels.iter().map(Value::to_string).collect()
            };
            (
                json!(in_order(got.collect())),
                json!(in_order(wanted.clone())),
            )
        }
        "detected_fields" => {
            let request = call.fields()?;
            let fields = detected_fields(store, &store.executor, &tenant, &request).await?;
            let mut got = BTreeMap::new();
            for f in fields.items {
                let parsers: Vec<&str> = f.parsers.iter().map(|p| p.as_str()).collect();
                let mut field = json!({
                    "label": f.label,
                    "type": f.kind.as_str(),
                    "cardinality": f.cardinality,
                    "parsers": if parsers.is_empty() { Value::Null } else { json!(parsers) },
                });
                if !f.json_path.is_empty() {
                    field["jsonPath"] = json!(f.json_path);
                }
                got.insert(f.label, field);
            }
            let wanted = call.body()["fields"].as_array().unwrap().iter();
            let wanted = wanted.map(|f| (f["label"].as_str().unwrap().to_owned(), f.clone()));
            (json!(got), json!(wanted.collect::<BTreeMap<_, _>>()))
        }
        _ => {
            let Some(field) = path
                .strip_prefix("detected_field/")
                .and_then(|p| p.strip_suffix("/values"))
            else {
                return Ok(None);
            };
            let request = call.fields()?;
            let values = detected_field_values(store, &store.executor, &tenant, field, &request);
            let mut wanted: Vec<String> =
                serde_json::from_value(call.body()["values"].clone()).unwrap();
            wanted.sort();
            (json!(values.await?.items), json!(wanted))
        }
    }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_those_of_loki() {
    let Some(folder) = shared::folder("conformance/logql") else {
        return;
    };
    let store = store(&folder).await;
    let (mut checked, mut failures) = (0, Vec::new());
    for case in json_lines(&folder.join("api.jsonl")) {
        let call = Call { case };
        let told = format!("{} {}", call.case["path"], call.case["params"]);
        match answer(&store, &call).await {
            Ok(None) => continue,
            Ok(Some((got, wanted))) if got == wanted => {}
            Ok(Some((got, wanted))) => {
                failures.push(format!("{told}:\n   got {got}\nwanted {wanted}"));
            }
            Err(e) => {
                if call.case["status"] != 400 || *call.body() != json!(e.to_string()) {
                    failures.push(format!("{told}: {e}\nwanted {}", call.body()));
                }
            }
        }
        checked += 1;
    }
    assert!(checked >= 17, "{checked} calls");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn pretty_queries_are_the_same_queries() {
    let Some(folder) = shared::folder("conformance/logql") else {
        return;
    };
    let mut long = 0;
    for case in json_lines(&folder.join("cases.jsonl")) {
        let query = case["query"].as_str().unwrap();
        let Ok(tree) = parse(query) else { continue };
        let pretty = tree.pretty();
        long += usize::from(pretty.contains('\n'));
        match parse(&pretty) {
            Ok(again) => assert_eq!(again, tree, "{query}\n{pretty}"),
            Err(e) => panic!("{query}\n{pretty}\n{e}"),
        }
    }
    assert!(long > 5, "{long} queries over several lines");
}

#[tokio::test]
async fn volumes_are_bounded_and_ordered() {
    let Some(folder) = shared::folder("conformance/logql") else {
        return;
    };
    let store = store(&folder).await;
    let request = VolumeRequest {
        matchers: Vec::new(),
        range: TimeRangeNs::new(1_714_557_600_000_000_000, 1_714_651_200_000_000_000),
        target_labels: vec!["app".into()],
        aggregate_by: VolumeAggregation::Series,
        limit: 3,
        max_series: 3,
        bounds: FetchBounds::default(),
    };
    let error = volume(&store, &tenant(), &request).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the query hit the max number of series limit (limit: 3 series)"
    );
    let request = VolumeRequest {
        max_series: 0,
        ..request
    };
    let steps = volume_range(&store, &tenant(), &request, 1).await;
    assert!(matches!(steps, Err(QueryError::Limit(_))), "{steps:?}");
    let steps = volume_range(&store, &tenant(), &request, 0).await;
    assert!(matches!(steps, Err(QueryError::Invalid(_))), "{steps:?}");
    let json = |value: lgtm_logstore::logql::QueryValue| {
        let text = value.to_json(LabelEncoding::Merged, None);
        serde_json::from_str::<Value>(&text).unwrap()
    };
    let whole = volume(&store, &tenant(), &request).await.unwrap().items;
    let day = 86_400_000_000_000;
    let steps = volume_range(&store, &tenant(), &request, day).await;
    let (whole, steps) = (json(whole), json(steps.unwrap().items));
    assert_eq!(whole["result"].as_array().unwrap().len(), 3);
    let bytes = |point: &Value| point[1].as_str().unwrap().parse::<f64>().unwrap();
    for series in whole["result"].as_array().unwrap() {
        let all = steps["result"].as_array().unwrap().iter();
        let mut same = all.filter(|s| s["metric"] == series["metric"]);
        let points = same.next().unwrap()["values"].as_array().unwrap();
        // No chunk lies across the border of days.
        let sum: f64 = points.iter().map(bytes).sum();
        assert_eq!(sum, bytes(&series["value"]), "{series}");
    }
}
