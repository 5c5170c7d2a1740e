//! What an ingester is asked of its series beside their samples, and what it tells. Fields are numbered in the order in which they stand in the
//! types; matchers, counts and label sets are those of the other messages.

use lgtm_core::codec::protobuf::{put_message, put_varint_field};
use lgtm_core::model::{Labels, Matcher, Metadata, MetricType, TimeRange, TimestampMs};
use lgtm_core::{Error, Result};

use lgtm_core::rpc::messages::{
    count, matcher, put_counts, put_double, put_matcher, put_text, put_time, walk,
};

use super::walk::{exemplar, labels as label_set, put_exemplar, put_labels, put_range};
use crate::components::clients::MetricMetadata;
use crate::head::{
    ActiveSeriesRequest, CardinalityRequest, CountMethod, ExemplarBounds, ExemplarsRequest,
    HeadStats, HistogramCardinality, LabelCardinality, LabelNamesCardinality,
    LabelValuesCardinality, SeriesExemplars, TenantStats,
};

pub(super) fn put_exemplars_request(out: &mut Vec<u8>, request: &ExemplarsRequest) {
    for selector in &request.selectors {
        put_message(out, 1, |out| put_matchers(out, selector));
    }
    put_range(out, 2, request.range);
    put_varint_field(out, 4, request.bounds.max_series);
    put_varint_field(out, 5, request.bounds.max_bytes);
}

pub(super) fn exemplars_request(message: &[u8]) -> Result<ExemplarsRequest> {
    let (mut selectors, mut times) = (Vec::new(), [TimestampMs::EPOCH; 2]);
    let mut bounds = ExemplarBounds {
        max_series: 0,
        max_bytes: 0,
    };
    walk("exemplars", message, |number, field| {
        match number {
            1 => selectors.push(matchers(field.bytes()?)?),
            2 => times[0] = field.time()?,
            3 => times[1] = field.time()?,
            4 => bounds.max_series = field.number()?,
            5 => bounds.max_bytes = field.number()?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(ExemplarsRequest {
        selectors,
        range: TimeRange::new(times[0], times[1]),
        bounds,
    })
}

pub(super) fn put_exemplars(out: &mut Vec<u8>, all: &SeriesExemplars) {
    for (labels, exemplars) in all {
        put_message(out, 1, |out| {
            put_labels(out, 1, labels);
            exemplars.iter().for_each(|e| put_exemplar(out, 2, e));
        });
    }
}

pub(super) fn exemplars(message: &[u8]) -> Result<SeriesExemplars> {
    let mut out = SeriesExemplars::new();
    walk("exemplars", message, |_, field| {
        let (mut labels, mut exemplars) = (Labels::empty(), Vec::new());
        walk("series", field.bytes()?, |number, field| {
            match number {
                1 => labels = label_set(field)?,
                2 => exemplars.push(exemplar(field.bytes()?)?),
                _ => {}
            }
            Ok(())
        })?;
        out.push((labels, exemplars));
        Ok(())
    })?;
    Ok(out)
}

/// `None` is an empty message: a name has at least one byte.
pub(super) fn put_metadata_request(out: &mut Vec<u8>, metric: Option<&str>) {
    if let Some(metric) = metric {
        put_text(out, 1, metric);
    }
}

pub(super) fn metadata_request(message: &[u8]) -> Result<Option<String>> {
    let mut out = None;
    walk("metadata", message, |number, field| {
        if number == 1 {
            out = Some(field.string()?);
        }
        Ok(())
    })?;
    Ok(out)
}

pub(super) fn put_metadata(out: &mut Vec<u8>, all: &MetricMetadata) {
    for (name, entries) in all {
        put_message(out, 1, |out| {
            put_text(out, 1, name);
            for entry in entries {
                put_message(out, 2, |out| {
                    put_varint_field(out, 1, entry.metric_type as u64);
                    put_text(out, 2, &entry.help);
                    put_text(out, 3, &entry.unit);
                });
            }
        });
    }
}

pub(super) fn metadata(message: &[u8]) -> Result<MetricMetadata> {
    let mut out = MetricMetadata::new();
    walk("metadata", message, |_, field| {
        let (mut name, mut entries) = (String::new(), Vec::new());
        walk("metric", field.bytes()?, |number, field| {
            match number {
                1 => name = field.string()?,
                2 => entries.push(metadata_entry(field.bytes()?)?),
                _ => {}
            }
            Ok(())
        })?;
        out.push((name, entries));
        Ok(())
    })?;
    Ok(out)
}

fn metadata_entry(message: &[u8]) -> Result<Metadata> {
    let mut out = Metadata::default();
    walk("metadata", message, |number, field| {
        match number {
            1 => out.metric_type = MetricType::from_wire(field.number()?),
            2 => out.help = field.string()?,
            3 => out.unit = field.string()?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(out)
}

/// `names` are the labels whose values are counted.
pub(super) fn put_cardinality_request(
    out: &mut Vec<u8>,
    names: &[String],
    request: &CardinalityRequest,
) {
    put_matchers(out, &request.matchers);
    let method = match request.method {
        CountMethod::InMemory => 0,
        CountMethod::Active => 1,
    };
    put_varint_field(out, 2, method);
    put_varint_field(out, 3, request.limit as u64);
    names.iter().for_each(|n| put_text(out, 4, n));
}

pub(super) fn cardinality_request(message: &[u8]) -> Result<(Vec<String>, CardinalityRequest)> {
    let (mut names, mut out) = (Vec::new(), CardinalityRequest::default());
    walk("cardinality", message, |number, field| {
        match number {
            1 => out.matchers.push(matcher(field)?),
            2 => {
                out.method = match field.number()? {
                    0 => CountMethod::InMemory,
                    1 => CountMethod::Active,
                    n => {
                        let text = format!("unknown method {n} of counting");
                        return Err(Error::InvalidInput(text));
                    }
                }
            }
            3 => out.limit = usize::try_from(field.number()?).unwrap_or(usize::MAX),
            4 => names.push(field.string()?),
            _ => {}
        }
        Ok(())
    })?;
    Ok((names, out))
}

pub(super) fn put_label_names(out: &mut Vec<u8>, answer: &LabelNamesCardinality) {
    put_varint_field(out, 1, answer.values_total);
    put_varint_field(out, 2, answer.names_total);
    put_pairs(out, 3, &answer.names);
}

pub(super) fn label_names(message: &[u8]) -> Result<LabelNamesCardinality> {
    let mut out = LabelNamesCardinality::default();
    walk("label names", message, |number, field| {
        match number {
            1 => out.values_total = field.number()?,
            2 => out.names_total = field.number()?,
            3 => out.names.push(count(field)?),
            _ => {}
        }
        Ok(())
    })?;
    Ok(out)
}

pub(super) fn put_label_values(out: &mut Vec<u8>, answer: &LabelValuesCardinality) {
    put_varint_field(out, 1, answer.series_total);
    for label in &answer.labels {
        put_message(out, 2, |out| {
            put_text(out, 1, &label.name);
            put_varint_field(out, 2, label.values_total);
            put_varint_field(out, 3, label.series_total);
            put_pairs(out, 4, &label.values);
        });
    }
}

pub(super) fn label_values(message: &[u8]) -> Result<LabelValuesCardinality> {
    let mut out = LabelValuesCardinality::default();
    walk("label values", message, |number, field| {
        match number {
            1 => out.series_total = field.number()?,
            2 => out.labels.push(label_cardinality(field.bytes()?)?),
            _ => {}
        }
        Ok(())
    })?;
    Ok(out)
}

fn label_cardinality(message: &[u8]) -> Result<LabelCardinality> {
    let mut out = LabelCardinality {
        name: String::new(),
        values_total: 0,
        series_total: 0,
        values: Vec::new(),
    };
    walk("label", message, |number, field| {
        match number {
            1 => out.name = field.string()?,
            2 => out.values_total = field.number()?,
            3 => out.series_total = field.number()?,
            4 => out.values.push(count(field)?),
            _ => {}
        }
        Ok(())
    })?;
    Ok(out)
}

pub(super) fn put_active_request(out: &mut Vec<u8>, request: &ActiveSeriesRequest) {
    put_matchers(out, &request.matchers);
    put_varint_field(out, 2, request.max_label_bytes);
}

pub(super) fn active_request(message: &[u8]) -> Result<ActiveSeriesRequest> {
    let mut out = ActiveSeriesRequest::default();
    walk("active series", message, |number, field| {
        match number {
            1 => out.matchers.push(matcher(field)?),
            2 => out.max_label_bytes = field.number()?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(out)
}

pub(super) fn put_matchers(out: &mut Vec<u8>, matchers: &[Matcher]) {
    matchers.iter().for_each(|m| put_matcher(out, 1, m));
}

pub(super) fn matchers(message: &[u8]) -> Result<Vec<Matcher>> {
    let mut out = Vec::new();
    walk("matchers", message, |number, field| {
        if number == 1 {
            out.push(matcher(field)?);
        }
        Ok(())
    })?;
    Ok(out)
}

pub(super) fn put_histograms(out: &mut Vec<u8>, all: &[HistogramCardinality]) {
    for of in all {
        put_message(out, 1, |out| {
            put_text(out, 1, &of.metric);
            put_varint_field(out, 2, of.series);
            put_varint_field(out, 3, of.buckets);
            put_varint_field(out, 4, of.min_buckets);
            put_varint_field(out, 5, of.max_buckets);
        });
    }
}

pub(super) fn histograms(message: &[u8]) -> Result<Vec<HistogramCardinality>> {
    let mut out = Vec::new();
    walk("histograms", message, |_, field| {
        let mut of = HistogramCardinality {
            metric: String::new(),
            series: 0,
            buckets: 0,
            min_buckets: 0,
            max_buckets: 0,
        };
        walk("histogram", field.bytes()?, |number, field| {
            match number {
                1 => of.metric = field.string()?,
                2 => of.series = field.number()?,
                3 => of.buckets = field.number()?,
                4 => of.min_buckets = field.number()?,
                5 => of.max_buckets = field.number()?,
                _ => {}
            }
            Ok(())
        })?;
        out.push(of);
        Ok(())
    })?;
    Ok(out)
}

pub(super) fn put_limit(out: &mut Vec<u8>, limit: usize) {
    put_varint_field(out, 1, limit as u64);
}

pub(super) fn limit(message: &[u8]) -> Result<usize> {
    let mut out = 0;
    walk("limit", message, |number, field| {
        if number == 1 {
            out = usize::try_from(field.number()?).unwrap_or(usize::MAX);
        }
        Ok(())
    })?;
    Ok(out)
}

pub(super) fn put_head_stats(out: &mut Vec<u8>, stats: &HeadStats) {
    put_varint_field(out, 1, stats.series);
    put_varint_field(out, 2, stats.label_pairs);
    put_varint_field(out, 3, stats.chunks);
    if let Some(min_ms) = stats.min_ms {
        put_time(out, 4, min_ms);
    }
    if let Some(max_ms) = stats.max_ms {
        put_time(out, 5, max_ms);
    }
    put_pairs(out, 6, &stats.series_by_metric);
    put_pairs(out, 7, &stats.values_by_name);
    put_pairs(out, 8, &stats.bytes_by_name);
    put_pairs(out, 9, &stats.series_by_pair);
}

pub(super) fn head_stats(message: &[u8]) -> Result<HeadStats> {
    let mut out = HeadStats::default();
    walk("head stats", message, |number, field| {
        match number {
            1 => out.series = field.number()?,
            2 => out.label_pairs = field.number()?,
            3 => out.chunks = field.number()?,
            4 => out.min_ms = Some(field.time()?),
            5 => out.max_ms = Some(field.time()?),
            6 => out.series_by_metric.push(count(field)?),
            7 => out.values_by_name.push(count(field)?),
            8 => out.bytes_by_name.push(count(field)?),
            9 => out.series_by_pair.push(count(field)?),
            _ => {}
        }
        Ok(())
    })?;
    Ok(out)
}

pub(super) fn put_tenant_stats(out: &mut Vec<u8>, stats: TenantStats) {
    put_varint_field(out, 1, stats.series);
    put_double(out, 2, stats.samples_per_s);
}

pub(super) fn tenant_stats(message: &[u8]) -> Result<TenantStats> {
    let mut out = TenantStats::default();
    walk("tenant stats", message, |number, field| {
        match number {
            1 => out.series = field.number()?,
            2 => out.samples_per_s = field.double()?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(out)
}

fn put_pairs(out: &mut Vec<u8>, number: u64, pairs: &[(String, u64)]) {
    put_counts(out, number, pairs.iter().map(|(t, n)| (t.as_str(), *n)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use lgtm_core::codec::protobuf::put_bytes_field;
    use lgtm_core::model::Exemplar;
    use proptest::prelude::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out);
        out
    }

    fn pairs() -> Vec<(String, u64)> {
        vec![("job".into(), 5), ("ä".into(), 0)]
    }

    #[test]
    fn questions_arrive_as_they_were() {
        let matchers = || {
            vec![
                Matcher::equal("a", "b"),
                Matcher::regex("c", "d.*").unwrap(),
            ]
        };
        let request = ExemplarsRequest {
            selectors: vec![matchers(), Vec::new()],
            range: TimeRange::new(-5, 7),
            bounds: ExemplarBounds {
                max_series: 3,
                max_bytes: 4,
            },
        };
        let back = exemplars_request(&written(|out| put_exemplars_request(out, &request)));
        assert_eq!(format!("{:?}", back.unwrap()), format!("{request:?}"));
        for method in [CountMethod::InMemory, CountMethod::Active] {
            let request = CardinalityRequest {
                matchers: matchers(),
                method,
                limit: 20,
            };
            let names = vec!["job".to_owned(), String::new()];
            let message = written(|out| put_cardinality_request(out, &names, &request));
            let back = cardinality_request(&message).unwrap();
            assert_eq!(format!("{back:?}"), format!("{:?}", (names, request)));
        }
        let request = ActiveSeriesRequest {
            matchers: matchers(),
            max_label_bytes: 8,
        };
        let back = active_request(&written(|out| put_active_request(out, &request)));
        assert_eq!(format!("{:?}", back.unwrap()), format!("{request:?}"));
        for metric in [None, Some("up"), Some("")] {
            let back = metadata_request(&written(|out| put_metadata_request(out, metric)));
            assert_eq!(back.unwrap().as_deref(), metric);
        }
        assert_eq!(limit(&written(|out| put_limit(out, 9))).unwrap(), 9);
    }

    #[test]
    fn answers_arrive_as_they_were() {
        let labels = |job: &str| Labels::from_pairs([("job", job)]).unwrap();
        let exemplar = |value| Exemplar {
            labels: labels("x"),
            value,
            t_ms: TimestampMs::new(-1),
        };
        let all = vec![
            (labels("a"), vec![exemplar(1.5), exemplar(-0.0)]),
            (Labels::empty(), vec![]),
        ];
        let back = exemplars(&written(|out| put_exemplars(out, &all)));
        assert_eq!(back.unwrap(), all);
        let entry = Metadata {
            metric_type: MetricType::Summary,
            help: "helps".into(),
            unit: "s".into(),
        };
        let all = vec![("up".to_owned(), vec![entry, Metadata::default()])];
        let back = metadata(&written(|out| put_metadata(out, &all)));
        assert_eq!(back.unwrap(), all);
        let names = LabelNamesCardinality {
            values_total: 1,
            names_total: 2,
            names: pairs(),
        };
        let back = label_names(&written(|out| put_label_names(out, &names)));
        assert_eq!(back.unwrap(), names);
        let label = LabelCardinality {
            name: "job".into(),
            values_total: 3,
            series_total: 4,
            values: pairs(),
        };
        let values = LabelValuesCardinality {
            series_total: 5,
            labels: vec![label],
        };
        let back = label_values(&written(|out| put_label_values(out, &values)));
        assert_eq!(back.unwrap(), values);
        let all = vec![HistogramCardinality {
            metric: "h".into(),
            series: 1,
            buckets: 2,
            min_buckets: 3,
            max_buckets: 4,
        }];
        let back = histograms(&written(|out| put_histograms(out, &all)));
        assert_eq!(back.unwrap(), all);
        let stats = HeadStats {
            series: 1,
            label_pairs: 2,
            chunks: 3,
            min_ms: Some(TimestampMs::new(-9)),
            max_ms: None,
            series_by_metric: pairs(),
            values_by_name: pairs(),
            bytes_by_name: Vec::new(),
            series_by_pair: pairs(),
        };
        let back = head_stats(&written(|out| put_head_stats(out, &stats)));
        assert_eq!(format!("{:?}", back.unwrap()), format!("{stats:?}"));
        let stats = TenantStats {
            series: 7,
            samples_per_s: 0.5,
        };
        let back = tenant_stats(&written(|out| put_tenant_stats(out, stats)));
        assert_eq!(back.unwrap(), stats);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let wrapped = written(|out| put_bytes_field(out, 1, &bytes));
            for bytes in [&bytes, &wrapped] {
                let _ = exemplars_request(bytes);
                let _ = exemplars(bytes);
                let _ = metadata_request(bytes);
                let _ = metadata(bytes);
                let _ = cardinality_request(bytes);
                let _ = label_names(bytes);
                let _ = label_values(bytes);
                let _ = active_request(bytes);
                let _ = matchers(bytes);
                let _ = histograms(bytes);
                let _ = limit(bytes);
                let _ = head_stats(bytes);
                let _ = tenant_stats(bytes);
            }
        }
    }
}
