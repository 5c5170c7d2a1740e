//! Requests in JSON, decoded by way of protobuf: both readers at once.

use lgtm_core::ErrorKind;
use lgtm_core::codec::{Allowance, SizeBound};
use lgtm_core::model::MetricType;
use lgtm_core::otlp::json_to_protobuf;
use proptest::prelude::*;

use super::{OtlpOptions, REQUEST, TranslationStrategy, decode_otlp};
use crate::wire::{DecodeRules, HistogramValue, LabelBounds, WriteBatch};

const MAX: usize = 1 << 20;

/// What a request is decoded by, and what it took.
struct Decoding {
    options: OtlpOptions,
    rules: DecodeRules,
    max_bytes: usize,
    spent: usize,
}

impl Default for Decoding {
    fn default() -> Self {
        Self {
            options: OtlpOptions::default(),
            rules: DecodeRules::default(),
            max_bytes: MAX,
            spent: 0,
        }
    }
}

impl Decoding {
    fn protobuf(&mut self, body: &[u8], batch: &mut WriteBatch) -> lgtm_core::Result<()> {
        let mut grow = |_| Ok(());
        let mut allowance = Allowance::new(self.max_bytes, &mut grow);
        let fill = |out: &mut Vec<u8>, allowance: &mut Allowance<'_>| {
            allowance.reserve(out, body.len())?;
            out.extend_from_slice(body);
            Ok(())
        };
        let decoded = decode_otlp(batch, &self.options, &self.rules, &mut allowance, fill);
        self.spent = allowance.spent();
        decoded
    }

    fn json(&mut self, json: &str, batch: &mut WriteBatch) -> lgtm_core::Result<()> {
        self.protobuf(&protobuf(json), batch)
    }
}

fn to_protobuf(json: &[u8], max_bytes: usize, out: &mut Vec<u8>) -> lgtm_core::Result<()> {
    let mut grow = |_| Ok(());
    json_to_protobuf(
        &REQUEST,
        json,
        SizeBound::new(max_bytes),
        out,
        &mut Allowance::new(0, &mut grow),
    )
}

fn protobuf(json: &str) -> Vec<u8> {
    let mut out = Vec::new();
    to_protobuf(json.as_bytes(), 64 << 20, &mut out).unwrap();
    out
}

fn decoded_with(json: &str, options: &OtlpOptions) -> WriteBatch {
    let mut batch = WriteBatch::default();
    let mut decoding = Decoding {
        options: options.clone(),
        ..Decoding::default()
    };
    decoding.json(json, &mut batch).unwrap();
    batch
}

fn decoded(json: &str) -> WriteBatch {
    decoded_with(json, &OtlpOptions::default())
}

/// Every float as `{labels} value @time`.
fn floats(batch: &WriteBatch) -> Vec<String> {
    let mut out = Vec::new();
    for series in batch.series() {
        assert!(
            series.labels.is_canonical(),
            "labels stand in the one spelling by which series are found"
        );
        let pairs = series.labels.iter().map(Result::unwrap);
        let labels: Vec<String> = pairs.map(|(n, v)| format!("{n}={v}")).collect();
        for sample in series.samples {
            out.push(format!(
                "{} {} @{}",
                labels.join(","),
                sample.value,
                sample.t_ms
            ));
        }
    }
    out
}

/// One metric of a resource with a name, an instance and a region.
fn request(metric: &str) -> String {
    format!(
        r#"{{"resourceMetrics":[{{"resource":{{"attributes":[
            {{"key":"service.name","value":{{"stringValue":"shop"}}}},
            {{"key":"service.namespace","value":{{"stringValue":"eu"}}}},
            {{"key":"service.instance.id","value":{{"stringValue":"i1"}}}},
            {{"key":"cloud.region","value":{{"stringValue":"west"}}}}]}},
          "scopeMetrics":[{{"scope":{{"name":"lib","version":"1.2","attributes":[{{"key":"a.b","value":{{"intValue":"7"}}}}]}},
          "metrics":[{metric}]}}]}}]}}"#
    )
}

const SUM: &str = r#"{"name":"http.requests","description":"Requests.","unit":"By","sum":{"aggregationTemporality":2,"isMonotonic":true,
    "dataPoints":[{"timeUnixNano":"5000000000","startTimeUnixNano":"1000000000","asInt":"42",
      "attributes":[{"key":"http.method","value":{"stringValue":"GET"}},{"key":"ok","value":{"boolValue":true}}],
      "exemplars":[{"timeUnixNano":"4000000000","asDouble":1.5,"traceId":"0102030405060708090a0b0c0d0e0f10","spanId":"0102030405060708",
        "filteredAttributes":[{"key":"k","value":{"stringValue":"v"}}]}]}]}}"#;

#[test]
fn a_sum_becomes_a_counter_of_its_job() {
    let batch = decoded(&request(SUM));
    assert_eq!(
        floats(&batch),
        [
            "__name__=http_requests_bytes_total,http_method=GET,instance=i1,job=eu/shop,ok=true 42 @5000",
            "__name__=target_info,cloud_region=west,instance=i1,job=eu/shop 1 @5000",
        ]
    );
    let series = batch.series_at(0);
    assert_eq!(series.sample_starts, [1000]);
    let e = &series.exemplars[0];
    assert_eq!(
        (e.labels.to_string().as_str(), e.value, e.t_ms.get()),
        (
            r#"{k="v", span_id="0102030405060708", trace_id="0102030405060708090a0b0c0d0e0f10"}"#,
            1.5,
            4000
        )
    );
    let m = &batch.metadata()[0];
    assert_eq!(
        (m.name.as_str(), m.metadata.metric_type),
        ("http_requests_bytes_total", MetricType::Counter)
    );
    assert_eq!(
        (m.metadata.help.as_str(), m.metadata.unit.as_str()),
        ("Requests.", "bytes")
    );
}

#[test]
fn options_say_what_of_resource_and_scope_becomes_labels() {
    let options = OtlpOptions {
        translation: TranslationStrategy::NoTranslation,
        promote_resource_attributes: vec!["cloud.region".into()],
        promote_scope_metadata: true,
        keep_identifying_resource_attributes: true,
        ..OtlpOptions::default()
    };
    assert_eq!(
        floats(&decoded_with(&request(SUM), &options)),
        [
            "__name__=http.requests,cloud.region=west,http.method=GET,instance=i1,job=eu/shop,ok=true,otel_scope_a.b=7,otel_scope_name=lib,otel_scope_version=1.2 42 @5000",
            "__name__=target_info,cloud.region=west,instance=i1,job=eu/shop,service.instance.id=i1,service.name=shop,service.namespace=eu 1 @5000",
        ]
    );
}

#[test]
fn a_histogram_becomes_buckets_sum_and_count_or_one_native() {
    let json = request(
        r#"{"name":"lat","unit":"s","histogram":{"aggregation_temporality":"AGGREGATION_TEMPORALITY_CUMULATIVE","dataPoints":[
            {"timeUnixNano":1000000,"count":6,"sum":9.5,"bucketCounts":["1","2","3"],"explicitBounds":[0.5,1],
             "exemplars":[{"asDouble":0.7},{"asDouble":9}]}]}}"#,
    );
    let batch = decoded(&json);
    let tail = ",instance=i1,job=eu/shop";
    assert_eq!(
        floats(&batch)[..5],
        [
            format!("__name__=lat_seconds_sum{tail} 9.5 @1"),
            format!("__name__=lat_seconds_count{tail} 6 @1"),
            format!("__name__=lat_seconds_bucket{tail},le=0.5 1 @1"),
            format!("__name__=lat_seconds_bucket{tail},le=1 3 @1"),
            format!("__name__=lat_seconds_bucket{tail},le=+Inf 6 @1"),
        ]
    );
    let exemplars: Vec<usize> = batch.series().map(|s| s.exemplars.len()).collect();
    assert_eq!(exemplars, [0, 0, 0, 1, 1, 0]);
    let options = OtlpOptions {
        convert_histograms_to_nhcb: true,
        ..OtlpOptions::default()
    };
    let native = decoded_with(&json, &options);
    let HistogramValue::Int(h) = &native.series_at(0).histograms[0].value else {
        panic!("not an integer histogram")
    };
    assert_eq!(
        (h.schema, h.custom_values.as_slice(), h.count),
        (-53, &[0.5, 1.0][..], 6)
    );
    assert_eq!(h.validate(), Ok(()));
}

#[test]
fn exponential_histograms_and_summaries_come_through() {
    let json = request(
        r#"{"name":"e","exponentialHistogram":{"aggregationTemporality":2,"dataPoints":[
            {"timeUnixNano":"1000000","count":"4","sum":2,"scale":1,"zeroCount":"1","positive":{"offset":-1,"bucketCounts":["1","2"]}}]}},
          {"name":"s","summary":{"dataPoints":[{"timeUnixNano":"1000000","count":"2","sum":3,
            "quantileValues":[{"quantile":0.99,"value":2}]}]}},
          {"name":"g","unit":"1","gauge":{"dataPoints":[{"timeUnixNano":"1000000","asDouble":"NaN","flags":1}]}}"#,
    );
    let batch = decoded(&json);
    let HistogramValue::Int(h) = &batch.series_at(0).histograms[0].value else {
        panic!("not an integer histogram")
    };
    assert_eq!(
        (
            h.schema,
            h.zero_threshold,
            h.positive_spans[0].offset,
            h.positive_deltas.as_slice()
        ),
        (1, 1e-128, 0, &[1, 1][..])
    );
    assert_eq!(h.validate(), Ok(()));
    let tail = ",instance=i1,job=eu/shop";
    let got = floats(&batch);
    assert_eq!(
        got[..3],
        [
            format!("__name__=s_sum{tail} 3 @1"),
            format!("__name__=s_count{tail} 2 @1"),
            format!("__name__=s{tail},quantile=0.99 2 @1"),
        ]
    );
    let stale = batch.series_at(4).samples[0].value;
    assert!(got[3].starts_with("__name__=g_ratio,") && lgtm_core::model::is_stale_nan(stale));
}

#[test]
fn what_cannot_be_told_is_left_out_and_the_rest_taken() {
    let point = r#"{"timeUnixNano":"1000000","asInt":"1"}"#;
    let json = request(&format!(
        r#"{{"name":"delta","sum":{{"aggregationTemporality":1,"dataPoints":[{point},{point}]}}}},
           {{"name":"...","gauge":{{"dataPoints":[{point}]}}}},
           {{"name":"h","histogram":{{"aggregationTemporality":2,"dataPoints":[{{"count":1,"bucketCounts":[1],"explicitBounds":[1,2]}}]}}}},
           {{"name":"e","exponentialHistogram":{{"aggregationTemporality":2,"dataPoints":[{{"scale":-9}}]}}}},
           {{"name":"good","gauge":{{"dataPoints":[{point}]}}}},
           {{"name":"nothing"}}"#
    ));
    let batch = decoded(&json);
    assert_eq!(
        floats(&batch)[0],
        "__name__=good,instance=i1,job=eu/shop 1 @1"
    );
    let faults: Vec<(u64, &str)> = (batch.malformed().iter())
        .map(|m| (m.samples, m.message.as_str()))
        .collect();
    assert_eq!(faults.len(), 4, "{faults:?}");
    assert!(faults[0].0 == 2 && faults[0].1.contains("Delta"));
    assert!(faults[2].1.contains("1 bucket counts do not fit 2"));
    assert!(faults[3].1.contains("-9"));
    let options = OtlpOptions {
        allow_delta_temporality: true,
        ..OtlpOptions::default()
    };
    assert_eq!(decoded_with(&json, &options).malformed().len(), 3);
}

#[test]
fn names_that_become_one_are_joined_and_the_target_wins() {
    let json = request(
        r#"{"name":"g","gauge":{"dataPoints":[{"timeUnixNano":"1000000","asInt":"1","attributes":[
            {"key":"a_b","value":{"stringValue":"2"}},{"key":"a.b","value":{"doubleValue":1.5}},
            {"key":"job","value":{"stringValue":"mine"}},{"key":"__name__","value":{"stringValue":"x"}},
            {"key":"list","value":{"arrayValue":{"values":[{"intValue":"1"},{"stringValue":"q\""}]}}},
            {"key":"map","value":{"kvlistValue":{"values":[{"key":"z","value":{"boolValue":false}},{"key":"b","value":{"bytesValue":"AQI="}}]}}}]}]}}"#,
    );
    assert_eq!(
        floats(&decoded(&json))[0],
        r#"__name__=g,a_b=1.5;2,instance=i1,job=eu/shop,list=[1,"q\""],map={"b":"AQI=","z":false} 1 @1"#
    );
}

#[test]
fn target_info_lasts_as_long_as_the_points() {
    let json = request(
        r#"{"name":"g","gauge":{"dataPoints":[{"timeUnixNano":"0","asInt":"1"},{"timeUnixNano":"400000000000","asInt":"1"}]}}"#,
    );
    let batch = decoded(&json);
    let times: Vec<i64> = (batch.series_at(2).samples.iter())
        .map(|s| s.t_ms.get())
        .collect();
    assert_eq!(times, [0, 150_000, 300_000, 400_000]);
    let hostile = json.replace("400000000000", "18446744073709551615");
    assert_eq!(decoded(&hostile).series_at(2).samples.len(), 241);
}

#[test]
fn hostile_requests_are_refused_with_the_bound() {
    let many = format!("[{}0]", "0,".repeat(2000));
    let bounds: Vec<String> = (0..2000).map(|i| i.to_string()).collect();
    let json = request(&format!(
        r#"{{"name":"h","histogram":{{"aggregationTemporality":2,"dataPoints":[{{"bucketCounts":{many},"explicitBounds":[{}],
            "attributes":[{{"key":"k","value":{{"stringValue":"{}"}}}}]}}]}}}}"#,
        bounds.join(","),
        "x".repeat(1000)
    ));
    let mut batch = WriteBatch::default();
    let mut decoding = Decoding::default();
    let error = decoding.json(&json, &mut batch).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded);
    assert!(error.to_string().contains("1048576") && batch.series_count() == 0);
    let mut out = Vec::new();
    let error = to_protobuf(json.as_bytes(), 100, &mut out).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded);
    let mut grow = |_| Ok(());
    let mut tight = Allowance::new(100, &mut grow);
    let mut out = Vec::new();
    let error = json_to_protobuf(
        &REQUEST,
        json.as_bytes(),
        SizeBound::new(MAX),
        &mut out,
        &mut tight,
    )
    .unwrap_err();
    assert!(error.to_string().contains("limit is 100") && out.capacity() <= 100);
    let deep = format!(
        r#"{{"resourceMetrics":{}"#,
        r#"[{"resource":{"attributes":[{"value":{"arrayValue":{"values":"#.repeat(200)
    );
    assert!(to_protobuf(deep.as_bytes(), MAX, &mut out).is_err());
    let nested = |n: usize| {
        let (open, close) = (r#"{"arrayValue":{"values":["#.repeat(n), "]}}".repeat(n));
        request(&format!(
            r#"{{"name":"g","gauge":{{"dataPoints":[{{"attributes":[{{"key":"k","value":{open}{{"intValue":"1"}}{close}}}]}}]}}}}"#
        ))
    };
    let mut decode = |json: &str| decoding.json(json, &mut batch);
    assert!(decode(&nested(8)).is_ok());
    let error = decode(&nested(30)).unwrap_err();
    assert!(error.to_string().contains("16 deep"), "{error}");
}

/// A list in JSON of `n` times the same.
fn list(one: &str, n: usize) -> String {
    vec![one; n].join(",")
}

fn attribute(key: &str, value: &str) -> String {
    format!(r#"{{"key":"{key}","value":{{"stringValue":"{value}"}}}}"#)
}

/// Requests whose bytes become many times as many, each by other means.
fn bombs() -> Vec<(&'static str, String)> {
    let long = "x".repeat(2000);
    let gauge = |points: &str| format!(r#"{{"name":"g","gauge":{{"dataPoints":[{points}]}}}}"#);
    let sum = |point: &str| {
        format!(
            r#"{{"name":"s","sum":{{"aggregationTemporality":2,"isMonotonic":true,"dataPoints":[{point}]}}}}"#
        )
    };
    let histogram = |kind: &str, point: &str| {
        format!(
            r#"{{"name":"h","{kind}":{{"aggregationTemporality":2,"dataPoints":[{{{point}}}]}}}}"#
        )
    };
    let attributes: Vec<_> = (0..20)
        .map(|n| attribute(&format!("k{n}"), &long))
        .collect();
    let bounds: Vec<_> = (0..300).map(|n| n.to_string()).collect();
    let explicit = format!(
        r#""bucketCounts":[{}],"explicitBounds":[{}],"attributes":[{}]"#,
        list("1", 301),
        bounds.join(","),
        attributes.join(",")
    );
    let summary = format!(
        r#"{{"name":"s","summary":{{"dataPoints":[{{"quantileValues":[{}],"attributes":[{}]}}]}}}}"#,
        list(r#"{"quantile":0.5}"#, 300),
        attributes.join(",")
    );
    let exemplar = format!(r#"{{"traceId":"{}"}}"#, "ab".repeat(16));
    let named = format!(
        r#"{{"name":"{}","gauge":{{"dataPoints":[{}]}}}}"#,
        "a.".repeat(20_000),
        list("{}", 50)
    );
    let controls = format!(
        r#"{{"attributes":[{{"key":"k","value":{{"arrayValue":{{"values":[{{"stringValue":"{}"}}]}}}}}}]}}"#,
        r"\u0001".repeat(200_000)
    );
    let map = format!(
        r#"{{"attributes":[{{"key":"k","value":{{"kvlistValue":{{"values":[{}]}}}}}}]}}"#,
        list("{}", 100_000)
    );
    vec![
        ("a name of many words", request(&named)),
        (
            "attributes in each bucket",
            request(&histogram("histogram", &explicit)),
        ),
        ("attributes in each quantile", request(&summary)),
        ("empty points", request(&gauge(&list("{}", 20_000)))),
        (
            "empty attributes",
            request(&gauge(&format!(
                r#"{{"attributes":[{}]}}"#,
                list("{}", 100_000)
            ))),
        ),
        ("control characters in a list", request(&gauge(&controls))),
        ("empty entries of a map", request(&gauge(&map))),
        (
            "exemplars",
            request(&sum(&format!(
                r#"{{"exemplars":[{}]}}"#,
                list(&exemplar, 20_000)
            ))),
        ),
        (
            "buckets of an exponential histogram",
            request(&histogram(
                "exponentialHistogram",
                &format!(
                    r#""count":200000,"positive":{{"bucketCounts":[{}]}}"#,
                    list("1", 200_000)
                ),
            )),
        ),
        (
            "metrics without points",
            request(&list(r#"{"name":"m","gauge":{}}"#, 20_000)),
        ),
        (
            "empty scopes",
            format!(
                r#"{{"resourceMetrics":[{{"scopeMetrics":[{}]}}]}}"#,
                list("{}", 100_000)
            ),
        ),
        (
            "a resource in each series",
            request(&gauge(&list("{}", 300)))
                .replace("shop", &long)
                .replace("i1", &long),
        ),
    ]
}

#[test]
fn what_a_request_becomes_is_counted_before_it_is_made() {
    for (what, json) in bombs() {
        let body = protobuf(&json);
        let mut decoding = Decoding {
            max_bytes: 1 << 30,
            ..Decoding::default()
        };
        let mut batch = WriteBatch::default();
        decoding.protobuf(&body, &mut batch).unwrap();
        let held = batch.heap_bytes();
        assert!(
            held <= decoding.spent,
            "{what}: {held} held, {} asked for",
            decoding.spent
        );
        decoding.max_bytes = body.len() + (decoding.spent - body.len()) / 2;
        let mut batch = WriteBatch::default();
        let error = decoding.protobuf(&body, &mut batch).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LimitExceeded, "{what}");
        assert!(batch.heap_bytes() <= decoding.max_bytes, "{what}");
        assert_eq!(batch.series_count(), 0, "{what}");
    }
}

#[test]
fn series_beyond_the_bounds_are_told_and_the_rest_is_taken() {
    let bounds = LabelBounds {
        max_names: 6,
        max_name_bytes: 50,
        max_value_bytes: 50,
    };
    let long = "x".repeat(100);
    let mut decoding = Decoding {
        rules: DecodeRules {
            labels: bounds,
            max_metadata_length: 12,
        },
        max_bytes: 1 << 30,
        ..Decoding::default()
    };
    let many: Vec<_> = (0..4).map(|n| attribute(&format!("k{n}"), "v")).collect();
    let points = [
        format!(r#"{{"attributes":[{}]}}"#, attribute("k", &long)),
        format!(r#"{{"attributes":[{}]}}"#, attribute(&long, "v")),
        format!(r#"{{"attributes":[{}]}}"#, many.join(",")),
        format!(r#"{{"asInt":"7","attributes":[{}]}}"#, many[..3].join(",")),
    ];
    let metrics = [
        format!(r#"{{"name":"g","gauge":{{"dataPoints":[{}]}}}}"#, points.join(",")),
        format!(r#"{{"name":"{long}","gauge":{{"dataPoints":[{{}},{{}}]}}}}"#),
        r#"{"name":"a_name_that_is_long","description":"Help that is long.","gauge":{"dataPoints":[{"asInt":"8"}]}}"#.to_owned(),
        r#"{"name":"u","description":"Help that is long.","unit":"bytes_or_so","gauge":{"dataPoints":[{"asInt":"9"}]}}"#.to_owned(),
    ];
    let mut batch = WriteBatch::default();
    decoding
        .json(&request(&metrics.join(",")), &mut batch)
        .unwrap();
    let told: Vec<_> = batch
        .malformed()
        .iter()
        .map(|m| (m.id, m.samples))
        .collect();
    assert_eq!(
        told,
        [
            ("label-value-too-long", 1),
            ("label-name-too-long", 1),
            ("max-label-names-per-series", 1),
            ("label-value-too-long", 2),
            ("metric-name-too-long", 0),
            ("metric-name-too-long", 0),
        ]
    );
    let first = &batch.malformed()[0].message;
    assert!(
        first.contains("length of 100 exceeds the limit of 50"),
        "{first}"
    );
    let values: Vec<_> = batch
        .series()
        .flat_map(|s| s.samples)
        .map(|s| s.value)
        .collect();
    assert_eq!(values, [7.0, 8.0, 9.0, 1.0], "with target_info");
    assert_eq!(batch.metadata().len(), 1);

    // A histogram whose buckets have one label too many keeps what has not, and its exemplars lose their series.
    let mut batch = WriteBatch::default();
    decoding.rules.labels.max_names = 4;
    let histogram = format!(
        r#"{{"name":"h","histogram":{{"aggregationTemporality":2,"dataPoints":[{{"count":3,"sum":1,"bucketCounts":[1,2],"explicitBounds":[1],
            "attributes":[{}],"exemplars":[{{"asDouble":0.5}},{{"asDouble":2}}]}}]}}}}"#,
        many[0]
    );
    decoding.json(&request(&histogram), &mut batch).unwrap();
    let names: Vec<_> = floats(&batch).iter().map(|f| f[..14].to_owned()).collect();
    assert_eq!(
        names,
        ["__name__=h_sum", "__name__=h_cou", "__name__=targe"]
    );
    assert_eq!((batch.exemplar_count(), batch.malformed().len()), (0, 2));
}

#[test]
fn exemplars_of_a_histogram_go_to_their_buckets() {
    let json = request(
        r#"{"name":"h","histogram":{"aggregationTemporality":2,"dataPoints":[{"count":3,"bucketCounts":[1,1,1],"explicitBounds":[1,2],
            "exemplars":[{"asDouble":9},{"asDouble":0.5},{"asDouble":1.5},{"asDouble":0.25},
                {"asDouble":1,"traceId":"00000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"}]}]}}"#,
    );
    let batch = decoded(&json);
    let values: Vec<Vec<f64>> = (batch.series())
        .map(|s| s.exemplars.iter().map(|e| e.value).collect())
        .collect();
    assert_eq!(
        values,
        [vec![], vec![0.25, 0.5], vec![1.5], vec![9.0], vec![]]
    );
    assert_eq!(batch.long_exemplar_count(), 1);
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(body: Vec<u8>) {
        let mut batch = WriteBatch::default();
        let _ = Decoding::default().protobuf(&body, &mut batch);
        let _ = to_protobuf(&body, MAX, &mut Vec::new());
    }

    /// Damage of a good request: it decodes or is refused, and what decodes is well formed.
    #[test]
    fn damaged_requests_never_panic(at in 0usize..10_000, with: u8, cut in 0usize..10_000) {
        let mut good = Vec::new();
        to_protobuf(request(SUM).as_bytes(), MAX, &mut good).unwrap();
        let (at, cut) = (at % good.len(), cut % good.len());
        let mut bad = good.clone();
        bad[at] = with;
        bad.truncate(bad.len() - cut % 8);
        let mut batch = WriteBatch::default();
        if Decoding::default().protobuf(&bad, &mut batch).is_ok() {
            for series in batch.series() {
                prop_assert!(series.labels.iter().all(|l| l.is_ok()));
            }
        }
    }

    #[test]
    fn classic_names_are_classic(name: String, unit: String) {
        use super::names::Suffix;
        if let Ok(name) = TranslationStrategy::UnderscoreEscapingWithSuffixes.metric_name(&name, &unit, Suffix::Total) {
            let classic = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':');
            prop_assert!(name.chars().all(classic) && !name.starts_with(|c: char| c.is_ascii_digit()), "{}", name);
        }
    }
}
