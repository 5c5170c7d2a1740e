//! Requests in JSON, decoded by way of protobuf: both readers at once.

use lgtm_core::ErrorKind;
use lgtm_core::model::MetricType;
use proptest::prelude::*;

use super::{OtlpOptions, TranslationStrategy, decode_otlp, json_to_protobuf};
use crate::wire::{HistogramValue, WriteBatch};

const MAX: usize = 1 << 20;

fn decoded_with(json: &str, options: &OtlpOptions) -> WriteBatch {
    let mut batch = WriteBatch::default();
    decode_otlp(&mut batch, options, MAX, |out| {
        json_to_protobuf(json.as_bytes(), MAX, out)
    })
    .unwrap();
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
        (e.labels.to_string().as_str(), e.value, e.t_ms),
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
        .map(|s| s.t_ms)
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
    let error = decode_otlp(&mut batch, &OtlpOptions::default(), MAX, |out| {
        json_to_protobuf(json.as_bytes(), MAX, out)
    })
    .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded);
    assert!(error.to_string().contains("1048576") && batch.series_count() == 0);
    let mut out = Vec::new();
    let error = json_to_protobuf(json.as_bytes(), 100, &mut out).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded);
    let deep = format!(
        r#"{{"resourceMetrics":{}"#,
        r#"[{"resource":{"attributes":[{"value":{"arrayValue":{"values":"#.repeat(200)
    );
    assert!(json_to_protobuf(deep.as_bytes(), MAX, &mut out).is_err());
    let nested = |n: usize| {
        let (open, close) = (r#"{"arrayValue":{"values":["#.repeat(n), "]}}".repeat(n));
        request(&format!(
            r#"{{"name":"g","gauge":{{"dataPoints":[{{"attributes":[{{"key":"k","value":{open}{{"intValue":"1"}}{close}}}]}}]}}}}"#
        ))
    };
    let mut decode = |json: &str| {
        decode_otlp(&mut batch, &OtlpOptions::default(), MAX, |out| {
            json_to_protobuf(json.as_bytes(), MAX, out)
        })
    };
    assert!(decode(&nested(8)).is_ok());
    let error = decode(&nested(30)).unwrap_err();
    assert!(error.to_string().contains("16 deep"), "{error}");
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(body: Vec<u8>) {
        let mut batch = WriteBatch::default();
        let _ = decode_otlp(&mut batch, &OtlpOptions::default(), MAX, |out| { out.extend_from_slice(&body); Ok(()) });
        let _ = json_to_protobuf(&body, MAX, &mut Vec::new());
    }

    /// Damage of a good request: it decodes or is refused, and what decodes is well formed.
    #[test]
    fn damaged_requests_never_panic(at in 0usize..10_000, with: u8, cut in 0usize..10_000) {
        let mut good = Vec::new();
        json_to_protobuf(request(SUM).as_bytes(), MAX, &mut good).unwrap();
        let (at, cut) = (at % good.len(), cut % good.len());
        let mut bad = good.clone();
        bad[at] = with;
        bad.truncate(bad.len() - cut % 8);
        let mut batch = WriteBatch::default();
        if decode_otlp(&mut batch, &OtlpOptions::default(), MAX, |out| { out.extend_from_slice(&bad); Ok(()) }).is_ok() {
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
