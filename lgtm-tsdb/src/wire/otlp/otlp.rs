//! From OTLP points to series.
//!
//! Labels of a point are put together in buffers that are kept for the whole request; a float costs no allocation of its own. Start
//! times are handed on with the samples; the chunk encodings that are written have no place for them.

use std::fmt::Write;

use lgtm_core::codec::Reader;
use lgtm_core::model::{
    CounterResetHint, Exemplar, Histogram, LabelBuilder, Metadata, MetricType, Sample, stale_nan,
};
use lgtm_core::{DecodeError, Error, Result};

use super::attributes::Attribute;
use super::labels::{PointLabels, Source};
use super::names::{Suffix, TranslationStrategy, unit_name};
use super::points::{
    ExponentialPoint, HistogramPoint, NumberPoint, PointHead, PointParts, SummaryPoint,
};
use super::request::{Metric, MetricKind, ResourceMetrics, ScopeMetrics, Temporality, submessages};
use crate::wire::batch::{
    HistogramSample, HistogramValue, LabelPlace, MalformedSeries, MetadataEntry, SeriesEntry,
    WriteBatch,
};
use crate::wire::protobuf::{bytes_tag, double, fixed64_tag, skip};

/// Distance of the samples of `target_info` within a request: half of Prometheus' default lookback.
const TARGET_INFO_INTERVAL_MS: i64 = 150_000;
/// Most samples of one `target_info` in a request: ten hours of points.
const MAX_TARGET_INFO_SAMPLES: i64 = 240;
/// Characters of an exemplar's labels, by OpenMetrics.
const MAX_EXEMPLAR_CHARS: usize = 128;
/// Faults told one by one; further ones are counted with the last.
const MAX_FAULTS: usize = 64;

/// What a resource attribute may be promoted by, and how the rest is read. Per tenant.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OtlpOptions {
    /// How names are translated.
    pub translation: TranslationStrategy,
    /// Resource attributes that become labels of every series.
    pub promote_resource_attributes: Vec<String>,
    /// Whether name, version, schema and attributes of the scope become labels `otel_scope_...`.
    pub promote_scope_metadata: bool,
    /// Whether `target_info` has `service.name`, `service.namespace` and `service.instance.id` too.
    pub keep_identifying_resource_attributes: bool,
    /// Whether histograms with explicit bounds become native histograms with custom buckets.
    pub convert_histograms_to_nhcb: bool,
    /// Whether points of delta temporality are stored as they come; otherwise they are refused.
    pub allow_delta_temporality: bool,
}

/// Decodes a protobuf request, which is handed over through `fill` (it writes the body into the buffer given).
///
/// Points and metrics that cannot be told in Prometheus' terms are left out and stand among the batch's malformed series.
///
/// # Errors
/// `InvalidInput` when the protobuf is broken; `LimitExceeded` when the series together exceed `max_bytes` (a classic histogram
/// repeats its attributes for every bucket). Then the batch is empty. Errors of `fill`.
pub fn decode_otlp(
    batch: &mut WriteBatch,
    options: &OtlpOptions,
    max_bytes: usize,
    fill: impl FnOnce(&mut Vec<u8>) -> Result<()>,
) -> Result<()> {
    batch.clear();
    let mut body = std::mem::take(&mut batch.body);
    let decoded = fill(&mut body).and_then(|()| {
        let mut decoder = Decoder::new(batch, options, max_bytes.min(u32::MAX as usize / 2));
        decoder.request(&body)
    });
    batch.body = body;
    if decoded.is_err() {
        batch.clear();
    }
    decoded
}

/// Fails of a decode: broken bytes, or too much.
enum Fail {
    Decode(DecodeError),
    TooLarge,
}

impl From<DecodeError> for Fail {
    fn from(e: DecodeError) -> Self {
        Self::Decode(e)
    }
}

struct Decoder<'b> {
    batch: &'b mut WriteBatch,
    options: &'b OtlpOptions,
    max_bytes: usize,
    labels: PointLabels,
    /// The metric's translated name.
    name: String,
    /// A formatted bound or quantile.
    text: String,
    has_job_or_instance: bool,
    /// Buckets of native histograms so far.
    native_buckets: usize,
    /// Times of the first and last point of the resource.
    times: Option<(i64, i64)>,
}

impl<'b> Decoder<'b> {
    fn new(batch: &'b mut WriteBatch, options: &'b OtlpOptions, max_bytes: usize) -> Self {
        Self {
            batch,
            options,
            max_bytes,
            labels: PointLabels::default(),
            name: String::new(),
            text: String::new(),
            has_job_or_instance: false,
            native_buckets: 0,
            times: None,
        }
    }

    fn request(&mut self, body: &[u8]) -> Result<()> {
        let mut walk = || {
            for resource in submessages("metrics request", body, 1) {
                self.resource(&ResourceMetrics::decode(resource?)?)?;
            }
            Ok(())
        };
        walk().map_err(|e| match e {
            Fail::Decode(e) => Error::InvalidInput(format!("request does not decode: {e}")),
            Fail::TooLarge => Error::LimitExceeded(format!(
                "the request's series take more than {} bytes (err-mimir-distributor-max-otlp-request-size)",
                self.max_bytes
            )),
        })
    }

    fn resource(&mut self, resource: &ResourceMetrics<'_>) -> std::result::Result<(), Fail> {
        let mut attributes = Vec::with_capacity(resource.attributes.len());
        for bytes in &resource.attributes {
            attributes.push(Attribute::decode(bytes)?);
        }
        self.labels.clear();
        self.times = None;
        self.target(&attributes)?;
        for wanted in &self.options.promote_resource_attributes {
            for attribute in attributes.iter().filter(|a| a.key == wanted) {
                self.labels.push_attribute(
                    attribute,
                    Source::Promoted,
                    self.options.translation,
                )?;
            }
        }
        self.labels.keep();
        let resource_labels = self.labels.kept();
        for scope in &resource.scopes {
            self.labels.keep_only(resource_labels);
            let scope = ScopeMetrics::decode(scope)?;
            if self.options.promote_scope_metadata {
                self.scope(&scope)?;
            }
            self.labels.keep();
            for metric in &scope.metrics {
                self.metric(&Metric::decode(metric)?)?;
            }
        }
        self.target_info(&attributes)
    }

    /// `job` and `instance`.
    fn target(&mut self, attributes: &[Attribute<'_>]) -> std::result::Result<(), Fail> {
        let text_of = |key: &str| -> std::result::Result<String, DecodeError> {
            let mut out = String::new();
            if let Some(a) = attributes.iter().find(|a| a.key == key) {
                a.push_text(&mut out)?;
            }
            Ok(out)
        };
        let (name, namespace) = (text_of("service.name")?, text_of("service.namespace")?);
        let instance = text_of("service.instance.id")?;
        if !name.is_empty() {
            let job = match namespace.is_empty() {
                true => name.clone(),
                false => format!("{namespace}/{name}"),
            };
            self.labels.push("job", &job, Source::Target);
        }
        if !instance.is_empty() {
            self.labels.push("instance", &instance, Source::Target);
        }
        self.has_job_or_instance = !(name.is_empty() && instance.is_empty());
        Ok(())
    }

    fn scope(&mut self, scope: &ScopeMetrics<'_>) -> std::result::Result<(), Fail> {
        for (name, value) in [
            ("otel_scope_name", scope.name),
            ("otel_scope_version", scope.version),
            ("otel_scope_schema_url", scope.schema_url),
        ] {
            if !value.is_empty() {
                self.labels.push(name, value, Source::Scope);
            }
        }
        for bytes in &scope.attributes {
            let attribute = Attribute::decode(bytes)?;
            let mut value = String::new();
            attribute.push_text(&mut value)?;
            let mut name = "otel_scope_".to_owned();
            self.options
                .translation
                .push_label_name(attribute.key, &mut name);
            self.labels.push(&name, &value, Source::Scope);
        }
        Ok(())
    }

    fn metric(&mut self, metric: &Metric<'_>) -> std::result::Result<(), Fail> {
        let Some(kind) = metric.kind else {
            return Ok(());
        };
        let is_delta = metric.temporality == Temporality::Delta;
        if metric.counts()
            && metric.temporality != Temporality::Cumulative
            && !(is_delta && self.options.allow_delta_temporality)
        {
            self.refuse(
                metric.point_count,
                format!(
                    "metric {:?} has temporality {:?}, only cumulative points are taken",
                    metric.name, metric.temporality
                ),
            );
            return Ok(());
        }
        let suffix = match kind {
            MetricKind::Sum if metric.is_monotonic => Suffix::Total,
            MetricKind::Gauge => Suffix::Gauge,
            _ => Suffix::None,
        };
        match (self.options.translation).metric_name(metric.name, metric.unit, suffix) {
            Ok(name) => self.name = name,
            Err(message) => {
                self.refuse(metric.point_count, message);
                return Ok(());
            }
        }
        self.metadata(metric, kind, is_delta);
        let hint = match is_delta {
            true => CounterResetHint::Gauge,
            false => CounterResetHint::Unknown,
        };
        match kind {
            MetricKind::Gauge | MetricKind::Sum => self.numbers(metric, kind),
            MetricKind::Histogram if self.options.convert_histograms_to_nhcb => {
                self.custom_buckets(metric, hint)
            }
            MetricKind::Histogram => self.classic_histograms(metric),
            MetricKind::Exponential => self.exponential(metric, hint),
            MetricKind::Summary => self.summaries(metric),
        }
    }

    fn metadata(&mut self, metric: &Metric<'_>, kind: MetricKind, is_delta: bool) {
        let metric_type = match kind {
            _ if is_delta => MetricType::Unknown,
            MetricKind::Sum if metric.is_monotonic => MetricType::Counter,
            MetricKind::Gauge | MetricKind::Sum => MetricType::Gauge,
            MetricKind::Histogram | MetricKind::Exponential => MetricType::Histogram,
            MetricKind::Summary => MetricType::Summary,
        };
        self.batch.metadata.push(MetadataEntry {
            name: self.name.clone(),
            metadata: Metadata {
                metric_type,
                help: metric.description.to_owned(),
                unit: unit_name(metric.unit),
            },
        });
    }

    /// Counts points that are left out.
    fn refuse(&mut self, points: u64, message: String) {
        let faults = &mut self.batch.malformed;
        match faults.len() < MAX_FAULTS {
            true => faults.push(MalformedSeries {
                samples: points,
                message,
            }),
            false => {
                if let Some(last) = faults.last_mut() {
                    last.samples += points;
                }
            }
        }
    }

    fn begin_point(
        &mut self,
        head: &PointHead,
        parts: &PointParts<'_>,
    ) -> std::result::Result<(), Fail> {
        let t_ms = head.t_ms();
        self.times = Some(
            self.times
                .map_or((t_ms, t_ms), |(a, b)| (a.min(t_ms), b.max(t_ms))),
        );
        self.labels.begin_point();
        for bytes in &parts.attributes {
            let attribute = Attribute::decode(bytes)?;
            self.labels
                .push_attribute(&attribute, Source::Attribute, self.options.translation)?;
        }
        self.labels.settle();
        Ok(())
    }

    /// Adds the settled labels as a series with nothing in it.
    fn series(
        &mut self,
        suffix: &str,
        more: Option<(&str, &str)>,
    ) -> std::result::Result<(), Fail> {
        let batch = &mut *self.batch;
        let from = batch.arena.len();
        self.labels
            .write(&mut self.name, suffix, more, &mut batch.arena);
        let spent = batch.arena.len()
            + size_of::<Sample>() * batch.samples.len()
            + size_of::<i64>() * self.native_buckets;
        if spent > self.max_bytes {
            return Err(Fail::TooLarge);
        }
        let at = batch.samples.len() as u32;
        let entry = SeriesEntry {
            labels: LabelPlace::Arena(from as u32..batch.arena.len() as u32),
            samples: at..at,
            histograms: batch.no_histograms(),
            exemplars: batch.no_exemplars(),
        };
        batch.series.push(entry);
        Ok(())
    }

    fn float(
        &mut self,
        suffix: &str,
        more: Option<(&str, &str)>,
        head: &PointHead,
        value: f64,
    ) -> std::result::Result<(), Fail> {
        self.series(suffix, more)?;
        let value = if head.is_stale() { stale_nan() } else { value };
        let t_ms = head.t_ms();
        self.batch.samples.push(Sample { t_ms, value });
        self.batch.sample_starts.push(head.start_ms());
        if let Some(series) = self.batch.series.last_mut() {
            series.samples.end += 1;
        }
        Ok(())
    }

    /// Adds exemplars to the series added last.
    fn exemplars(&mut self, exemplars: impl IntoIterator<Item = Exemplar>) {
        self.batch.exemplars.extend(exemplars);
        let end = self.batch.exemplars.len() as u32;
        if let Some(series) = self.batch.series.last_mut() {
            series.exemplars.end = end;
        }
    }

    fn decode_exemplars(&self, parts: &PointParts<'_>) -> std::result::Result<Vec<Exemplar>, Fail> {
        let strategy = self.options.translation;
        let decoded = parts.exemplars.iter();
        let decoded = decoded.filter_map(|e| exemplar(e, strategy).transpose());
        Ok(decoded.collect::<std::result::Result<_, _>>()?)
    }

    fn numbers(&mut self, metric: &Metric<'_>, kind: MetricKind) -> std::result::Result<(), Fail> {
        let (mut point, mut parts) = (NumberPoint::default(), PointParts::default());
        for bytes in metric.points() {
            point.decode(bytes?, &mut parts)?;
            self.begin_point(&point.head, &parts)?;
            self.float("", None, &point.head, point.value)?;
            if kind == MetricKind::Sum && !parts.exemplars.is_empty() {
                let exemplars = self.decode_exemplars(&parts)?;
                self.exemplars(exemplars);
            }
        }
        Ok(())
    }

    fn classic_histograms(&mut self, metric: &Metric<'_>) -> std::result::Result<(), Fail> {
        let (mut point, mut parts) = (HistogramPoint::default(), PointParts::default());
        for bytes in metric.points() {
            point.decode(bytes?, &mut parts)?;
            if let Err(message) = point.check() {
                self.refuse(1, format!("metric {:?}: {message}", metric.name));
                continue;
            }
            self.begin_point(&point.head, &parts)?;
            if let Some(sum) = point.sum {
                self.float("_sum", None, &point.head, sum)?;
            }
            self.float("_count", None, &point.head, point.count as f64)?;
            let mut exemplars = self.decode_exemplars(&parts)?;
            exemplars.sort_by(|a, b| a.value.total_cmp(&b.value));
            let mut exemplars = exemplars.into_iter().peekable();
            let mut below = 0u64;
            for (i, bound) in point.bounds.iter().enumerate() {
                if *bound == f64::INFINITY {
                    break;
                }
                below = below.saturating_add(point.bucket_counts[i]);
                self.bucket(&point.head, *bound, below)?;
                let of_bucket = std::iter::from_fn(|| exemplars.next_if(|e| e.value <= *bound));
                self.exemplars(of_bucket);
            }
            self.bucket(&point.head, f64::INFINITY, point.count)?;
            self.exemplars(exemplars);
        }
        Ok(())
    }

    fn bucket(
        &mut self,
        head: &PointHead,
        bound: f64,
        count: u64,
    ) -> std::result::Result<(), Fail> {
        let mut text = std::mem::take(&mut self.text);
        number_text(bound, &mut text);
        let done = self.float("_bucket", Some(("le", &text)), head, count as f64);
        self.text = text;
        done
    }

    fn summaries(&mut self, metric: &Metric<'_>) -> std::result::Result<(), Fail> {
        let (mut point, mut parts) = (SummaryPoint::default(), PointParts::default());
        for bytes in metric.points() {
            point.decode(bytes?, &mut parts)?;
            self.begin_point(&point.head, &parts)?;
            self.float("_sum", None, &point.head, point.sum)?;
            self.float("_count", None, &point.head, point.count as f64)?;
            for (quantile, value) in &point.quantiles {
                let mut text = std::mem::take(&mut self.text);
                number_text(*quantile, &mut text);
                let done = self.float("", Some(("quantile", &text)), &point.head, *value);
                self.text = text;
                done?;
            }
        }
        Ok(())
    }

    fn exponential(
        &mut self,
        metric: &Metric<'_>,
        hint: CounterResetHint,
    ) -> std::result::Result<(), Fail> {
        let (mut point, mut parts) = (ExponentialPoint::default(), PointParts::default());
        for bytes in metric.points() {
            point.decode(bytes?, &mut parts)?;
            self.native(metric, &point.head, &parts, point.to_native(hint))?;
        }
        Ok(())
    }

    fn custom_buckets(
        &mut self,
        metric: &Metric<'_>,
        hint: CounterResetHint,
    ) -> std::result::Result<(), Fail> {
        let (mut point, mut parts) = (HistogramPoint::default(), PointParts::default());
        for bytes in metric.points() {
            point.decode(bytes?, &mut parts)?;
            let native = point.check().and_then(|()| point.to_custom_buckets(hint));
            self.native(metric, &point.head, &parts, native)?;
        }
        Ok(())
    }

    fn native(
        &mut self,
        metric: &Metric<'_>,
        head: &PointHead,
        parts: &PointParts<'_>,
        histogram: std::result::Result<Histogram, String>,
    ) -> std::result::Result<(), Fail> {
        let histogram = match histogram {
            Ok(h) => h,
            Err(message) => {
                self.refuse(1, format!("metric {:?}: {message}", metric.name));
                return Ok(());
            }
        };
        self.begin_point(head, parts)?;
        self.native_buckets += histogram.positive_deltas.len() + histogram.negative_deltas.len();
        self.series("", None)?;
        self.batch.histograms.push(HistogramSample {
            t_ms: head.t_ms(),
            start_ms: head.start_ms(),
            value: HistogramValue::Int(Box::new(histogram)),
        });
        if let Some(series) = self.batch.series.last_mut() {
            series.histograms.end += 1;
        }
        let exemplars = self.decode_exemplars(parts)?;
        self.exemplars(exemplars);
        Ok(())
    }

    /// The resource itself, as a gauge that is 1 for as long as its points last.
    fn target_info(&mut self, attributes: &[Attribute<'_>]) -> std::result::Result<(), Fail> {
        const IDENTIFYING: [&str; 3] = ["service.name", "service.namespace", "service.instance.id"];
        let is_identifying = |a: &Attribute<'_>| IDENTIFYING.contains(&a.key);
        let (Some((first, last)), true) = (self.times, self.has_job_or_instance) else {
            return Ok(());
        };
        if attributes.iter().all(is_identifying) {
            return Ok(());
        }
        self.labels.clear();
        self.target(attributes)?;
        for attribute in attributes {
            if self.options.keep_identifying_resource_attributes || !is_identifying(attribute) {
                self.labels.push_attribute(
                    attribute,
                    Source::Attribute,
                    self.options.translation,
                )?;
            }
        }
        self.labels.settle();
        self.name.clear();
        self.name.push_str("target_info");
        self.series("", None)?;
        let reach = TARGET_INFO_INTERVAL_MS * MAX_TARGET_INFO_SAMPLES;
        let mut t_ms = first.max(last.saturating_sub(reach));
        while t_ms < last {
            self.target_sample(t_ms);
            t_ms += TARGET_INFO_INTERVAL_MS;
        }
        self.target_sample(last);
        Ok(())
    }

    fn target_sample(&mut self, t_ms: i64) {
        self.batch.samples.push(Sample { t_ms, value: 1.0 });
        self.batch.sample_starts.push(0);
        if let Some(series) = self.batch.series.last_mut() {
            series.samples.end += 1;
        }
    }
}

/// A bound or quantile as the label values of the field have it.
fn number_text(v: f64, out: &mut String) {
    out.clear();
    let _ = match v {
        f64::INFINITY => write!(out, "+Inf"),
        f64::NEG_INFINITY => write!(out, "-Inf"),
        v => write!(out, "{v}"),
    };
}

/// `None` when its labels are no label set: as everywhere, a bad exemplar is no reason to lose the sample.
fn exemplar(
    bytes: &[u8],
    strategy: TranslationStrategy,
) -> std::result::Result<Option<Exemplar>, DecodeError> {
    let mut r = Reader::new("exemplar", bytes);
    let (mut t_ns, mut value) = (0, 0.0);
    let mut attributes = Vec::new();
    let mut pairs: Vec<(String, String)> = Vec::new();
    while !r.is_empty() {
        match r.uvarint()? {
            tag if tag == fixed64_tag(2) => t_ns = r.u64_le()?,
            tag if tag == fixed64_tag(3) => value = double(&mut r)?,
            tag if tag == bytes_tag(4) => pairs.push(("span_id".into(), hex(r.bytes()?))),
            tag if tag == bytes_tag(5) => pairs.push(("trace_id".into(), hex(r.bytes()?))),
            tag if tag == fixed64_tag(6) => value = r.u64_le()? as i64 as f64,
            tag if tag == bytes_tag(7) => attributes.push(Attribute::decode(r.bytes()?)?),
            tag => skip(&mut r, tag)?,
        }
    }
    pairs.retain(|(_, v)| !v.is_empty());
    let ids = pairs.len();
    for attribute in attributes {
        let (mut name, mut text) = (String::new(), String::new());
        strategy.push_label_name(attribute.key, &mut name);
        attribute.push_text(&mut text)?;
        if !pairs.iter().any(|(n, _)| *n == name) {
            pairs.push((name, text));
        }
    }
    // All the attributes or none, so that what is shown does not depend on their order.
    let chars = |(n, v): &(String, String)| n.chars().count() + v.chars().count();
    if pairs.iter().map(chars).sum::<usize>() > MAX_EXEMPLAR_CHARS {
        pairs.truncate(ids);
    }
    let mut labels = LabelBuilder::default();
    for (name, value) in &pairs {
        labels.push(name, value);
    }
    Ok(labels.build().ok().map(|labels| Exemplar {
        labels,
        value,
        t_ms: (t_ns / 1_000_000) as i64,
    }))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, b| {
        let _ = write!(out, "{b:02x}");
        out
    })
}
