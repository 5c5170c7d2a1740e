//! From OTLP points to series.
//!
//! Labels of a point are put together in buffers that are kept for the whole request; a float costs no allocation of its own. Start
//! times are handed on with the samples; the chunk encodings that are written have no place for them.

use std::fmt::Write;

use lgtm_core::Result;
use lgtm_core::codec::protobuf::{bytes_tag, double, fixed64_tag, skip};
use lgtm_core::codec::{Allowance, DecodeFail, Reader};
use lgtm_core::error::first_chars;
use lgtm_core::model::{
    CounterResetHint, Exemplar, Histogram, HistogramFault, LabelBuilder, MetricType, Sample,
    TimestampMs, stale_nan,
};
use lgtm_core::otlp::{Attribute, Resource, Scoped, submessages};

use super::labels::{LabelSource, PointLabels};
use super::names::{Suffix, TranslationStrategy};
use super::native::MAX_SPAN_BYTES;
use super::points::{
    ExponentialPoint, HistogramPoint, NumberPoint, PointHead, PointParts, SummaryPoint,
};
use super::request::{Metric, MetricKind, Temporality};
use crate::wire::batch::{
    HistogramSample, HistogramValue, LabelPlace, MAX_EXEMPLAR_CHARS, SeriesEntry, WriteBatch,
};
use crate::wire::decode_rules::DecodeRules;
use crate::wire::label_bounds::over;
use crate::wire::metadata::MetadataView;

/// Distance of the samples of `target_info` within a request: half of Prometheus' default lookback.
const TARGET_INFO_INTERVAL_MS: i64 = 150_000;
/// Most samples of one `target_info` in a request: ten hours of points.
const MAX_TARGET_INFO_SAMPLES: i64 = 240;
/// Bytes that the texts of a metric's name and unit take for each of theirs while they are translated: words as texts of their own.
const NAME_EXPANSION: usize = 48;
/// Bytes of an attribute of an exemplar beyond which its text has more than [`MAX_EXEMPLAR_CHARS`] characters, whatever it is.
const MAX_EXEMPLAR_ATTRIBUTE: usize = 16 * MAX_EXEMPLAR_CHARS;

/// What ends a step of the decode.
type Decoded<T = ()> = std::result::Result<T, DecodeFail>;

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

/// Decodes a protobuf request, which is handed over through `fill` (it writes the body into the buffer given). What it becomes is taken
/// from `allowance`: a classic histogram repeats its attributes for every bucket.
///
/// Points and metrics that cannot be told in Prometheus' terms, and those whose labels break `rules`, are left out and stand among the
/// batch's malformed series.
///
/// # Errors
/// `InvalidInput` when the protobuf is broken; those of `allowance` and `fill`. Then the batch is empty.
pub fn decode_otlp(
    batch: &mut WriteBatch,
    options: &OtlpOptions,
    rules: &DecodeRules,
    allowance: &mut Allowance<'_>,
    fill: impl FnOnce(&mut Vec<u8>, &mut Allowance<'_>) -> Result<()>,
) -> Result<()> {
    batch.clear();
    let mut body = std::mem::take(&mut batch.body);
    let decoded = fill(&mut body, allowance).and_then(|()| {
        let mut decoder = Decoder {
            batch,
            options,
            rules,
            allowance,
            labels: PointLabels::default(),
            name: String::new(),
            text: String::new(),
            exemplars: Vec::new(),
            has_job_or_instance: false,
            times: None,
        };
        Ok(decoder.request(&body)?)
    });
    batch.body = body;
    if decoded.is_err() {
        batch.clear();
    }
    decoded
}

/// Whether a series was taken, or refused by a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stored {
    Yes,
    No,
}

struct Decoder<'d, 'g> {
    batch: &'d mut WriteBatch,
    options: &'d OtlpOptions,
    rules: &'d DecodeRules,
    allowance: &'d mut Allowance<'g>,
    labels: PointLabels,
    /// The metric's translated name.
    name: String,
    /// A formatted bound or quantile.
    text: String,
    /// Those of the point at hand that belong to no series yet, the first one last.
    exemplars: Vec<Exemplar>,
    has_job_or_instance: bool,
    /// Times of the first and last point of the resource.
    times: Option<(TimestampMs, TimestampMs)>,
}

impl Decoder<'_, '_> {
    fn request(&mut self, body: &[u8]) -> Decoded {
        for resource in submessages("metrics request", body, 1) {
            let resource = Resource::decode("resource metrics", resource?, self.allowance)?;
            self.resource(&resource)?;
        }
        Ok(())
    }

    fn resource(&mut self, resource: &Resource<'_>) -> Decoded {
        let mut attributes = Vec::new();
        (self.allowance).reserve(&mut attributes, resource.attributes.len())?;
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
                    LabelSource::Promoted,
                    self.options.translation,
                    self.allowance,
                )?;
            }
        }
        self.labels.keep();
        let resource_labels = self.labels.kept();
        for scope in &resource.scopes {
            self.labels.keep_only(resource_labels);
            let scope = Scoped::decode("scope metrics", scope, self.allowance)?;
            if self.options.promote_scope_metadata {
                self.scope(&scope)?;
            }
            self.labels.keep();
            for metric in &scope.items {
                self.metric(&Metric::decode(metric)?)?;
            }
        }
        self.target_info(&attributes)
    }

    /// `job` and `instance`.
    fn target(&mut self, attributes: &[Attribute<'_>]) -> Decoded {
        let mut text_of = |key: &str| -> Decoded<String> {
            let mut out = String::new();
            if let Some(a) = attributes.iter().find(|a| a.key == key) {
                a.push_text(&mut out, self.allowance)?;
            }
            Ok(out)
        };
        let (name, namespace) = (text_of("service.name")?, text_of("service.namespace")?);
        let instance = text_of("service.instance.id")?;
        if !name.is_empty() {
            self.allowance.scratch(namespace.len() + 1 + name.len())?;
            let job = if namespace.is_empty() {
                name.clone()
            } else {
                format!("{namespace}/{name}")
            };
            (self.labels).push("job", &job, LabelSource::Target, self.allowance)?;
        }
        if !instance.is_empty() {
            (self.labels).push("instance", &instance, LabelSource::Target, self.allowance)?;
        }
        self.has_job_or_instance = !(name.is_empty() && instance.is_empty());
        Ok(())
    }

    fn scope(&mut self, scope: &Scoped<'_>) -> Decoded {
        for (name, value) in [
            ("otel_scope_name", scope.name),
            ("otel_scope_version", scope.version),
            ("otel_scope_schema_url", scope.schema_url),
        ] {
            if !value.is_empty() {
                (self.labels).push(name, value, LabelSource::Scope, self.allowance)?;
            }
        }
        for bytes in &scope.attributes {
            let attribute = Attribute::decode(bytes)?;
            let mut value = String::new();
            attribute.push_text(&mut value, self.allowance)?;
            let mut name = "otel_scope_".to_owned();
            (self.allowance).reserve_text(&mut name, attribute.key.len() + 4)?;
            self.options
                .translation
                .push_label_name(attribute.key, &mut name);
            (self.labels).push(&name, &value, LabelSource::Scope, self.allowance)?;
        }
        Ok(())
    }

    fn metric(&mut self, metric: &Metric<'_>) -> Decoded {
        let Some(kind) = metric.kind else {
            return Ok(());
        };
        let max = self.rules.labels.max_value_bytes;
        if let Some(long) = [metric.name, metric.unit]
            .into_iter()
            .find(|t| over(t.len(), max))
        {
            let id = "label-value-too-long";
            self.batch.refuse(id, metric.point_count, || {
                format!(
                    "received a metric whose name or unit has a length of {} that exceeds the limit of {max}, metric: '{:.200}'",
                    long.len(),
                    metric.name
                )
            });
            return Ok(());
        }
        let is_delta = metric.temporality == Temporality::Delta;
        if metric.counts()
            && metric.temporality != Temporality::Cumulative
            && !(is_delta && self.options.allow_delta_temporality)
        {
            self.batch
                .refuse("malformed-series", metric.point_count, || {
                    format!(
                        "metric {:?} has temporality {:?}, only cumulative points are taken",
                        first_chars(metric.name, 200),
                        metric.temporality
                    )
                });
            return Ok(());
        }
        let suffix = match kind {
            MetricKind::Sum if metric.is_monotonic => Suffix::Total,
            MetricKind::Gauge => Suffix::Gauge,
            _ => Suffix::None,
        };
        let said = metric.name.len() + metric.unit.len();
        (self.allowance).scratch(said.saturating_mul(NAME_EXPANSION))?;
        match (self.options.translation).metric_name(metric.name, metric.unit, suffix) {
            Ok(name) => self.name = name,
            Err(message) => {
                let message = || first_chars(&message, 400).to_owned();
                (self.batch).refuse("malformed-series", metric.point_count, message);
                return Ok(());
            }
        }
        self.metadata(metric, kind, is_delta)?;
        let hint = if is_delta {
            CounterResetHint::Gauge
        } else {
            CounterResetHint::Unknown
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

    fn metadata(&mut self, metric: &Metric<'_>, kind: MetricKind, is_delta: bool) -> Decoded {
        let metric_type = match kind {
            _ if is_delta => MetricType::Unknown,
            MetricKind::Sum if metric.is_monotonic => MetricType::Counter,
            MetricKind::Gauge | MetricKind::Sum => MetricType::Gauge,
            MetricKind::Histogram | MetricKind::Exponential => MetricType::Histogram,
            MetricKind::Summary => MetricType::Summary,
        };
        let view = MetadataView {
            name: &self.name,
            metric_type,
            help: metric.description,
            unit: &self.options.translation.unit_name(metric.unit),
        };
        let max = self.rules.max_metadata_length;
        Ok(self.batch.take_metadata(view, max, self.allowance)?)
    }

    /// Leaves a point out.
    fn refuse(&mut self, metric: &Metric<'_>, id: &'static str, message: &str) {
        self.batch.refuse(id, 1, || {
            let name = first_chars(metric.name, 200);
            format!("metric {name:?}: {message}")
        });
    }

    fn begin_point(&mut self, head: &PointHead, parts: &PointParts<'_>) -> Decoded {
        let t_ms = head.t_ms();
        self.times = Some(
            self.times
                .map_or((t_ms, t_ms), |(a, b)| (a.min(t_ms), b.max(t_ms))),
        );
        self.labels.begin_point();
        for bytes in &parts.attributes {
            self.labels.push_attribute(
                &Attribute::decode(bytes)?,
                LabelSource::Attribute,
                self.options.translation,
                self.allowance,
            )?;
        }
        Ok(self.labels.settle(&self.rules.labels, self.allowance)?)
    }

    /// Adds the settled labels as a series with nothing in it, for so many samples.
    fn series(
        &mut self,
        suffix: &str,
        more: Option<(&str, &str)>,
        samples: u64,
    ) -> Decoded<Stored> {
        let stem = self.name.len();
        (self.allowance).reserve_text(&mut self.name, suffix.len())?;
        self.name.push_str(suffix);
        let stored = self.settled_series(more, samples);
        self.name.truncate(stem);
        stored
    }

    fn settled_series(&mut self, more: Option<(&str, &str)>, samples: u64) -> Decoded<Stored> {
        let (batch, bounds) = (&mut *self.batch, &self.rules.labels);
        if let Some(id) = self.labels.broken(&self.name, more, bounds) {
            batch.refuse(id, samples, || self.labels.fault(&self.name, more, bounds));
            return Ok(Stored::No);
        }
        let from = batch.arena.len();
        (self.labels).write(&self.name, more, &mut batch.arena, self.allowance)?;
        let at = batch.samples.len() as u32;
        let entry = SeriesEntry {
            labels: LabelPlace::Arena(from as u32..batch.arena.len() as u32),
            samples: at..at,
            histograms: batch.no_histograms(),
            exemplars: batch.no_exemplars(),
        };
        self.allowance.push(&mut batch.series, entry)?;
        Ok(Stored::Yes)
    }

    fn float(
        &mut self,
        suffix: &str,
        more: Option<(&str, &str)>,
        head: &PointHead,
        value: f64,
    ) -> Decoded<Stored> {
        let stored = self.series(suffix, more, 1)?;
        if stored == Stored::Yes {
            let value = if head.is_stale() { stale_nan() } else { value };
            self.sample(head.t_ms(), value, head.start_ms())?;
        }
        Ok(stored)
    }

    /// Adds a sample to the series added last.
    fn sample(&mut self, t_ms: TimestampMs, value: f64, start_ms: TimestampMs) -> Decoded {
        let batch = &mut *self.batch;
        (self.allowance).push(&mut batch.samples, Sample { t_ms, value })?;
        (self.allowance).push(&mut batch.sample_starts, start_ms)?;
        if let Some(series) = batch.series.last_mut() {
            series.samples.end += 1;
        }
        Ok(())
    }

    /// Takes exemplars of the point at hand, from the first on for as long as they belong, to the series added last, or to none.
    fn take_exemplars(&mut self, stored: Stored, belongs: impl Fn(&Exemplar) -> bool) -> Decoded {
        let batch = &mut *self.batch;
        while let Some(exemplar) = self.exemplars.pop_if(|e| belongs(e)) {
            if stored == Stored::Yes {
                self.allowance.push(&mut batch.exemplars, exemplar)?;
            }
        }
        if stored == Stored::Yes
            && let Some(series) = batch.series.last_mut()
        {
            series.exemplars.end = batch.exemplars.len() as u32;
        }
        Ok(())
    }

    /// Makes the exemplars of a point those at hand.
    fn decode_exemplars(&mut self, parts: &PointParts<'_>) -> Decoded {
        self.exemplars.clear();
        for bytes in &parts.exemplars {
            match exemplar(bytes, self.options.translation, self.allowance)? {
                ExemplarFound::Good(exemplar) => {
                    self.allowance.take(exemplar.labels.size_bytes())?;
                    self.allowance.push(&mut self.exemplars, exemplar)?;
                }
                ExemplarFound::TooLong => self.batch.long_exemplars += 1,
                ExemplarFound::Bad => {}
            }
        }
        self.exemplars.reverse();
        Ok(())
    }

    fn numbers(&mut self, metric: &Metric<'_>, kind: MetricKind) -> Decoded {
        let (mut point, mut parts) = (NumberPoint::default(), PointParts::default());
        for bytes in metric.points() {
            point.decode(bytes?, &mut parts, self.allowance)?;
            self.begin_point(&point.head, &parts)?;
            let stored = self.float("", None, &point.head, point.value)?;
            if kind == MetricKind::Sum && !parts.exemplars.is_empty() {
                self.decode_exemplars(&parts)?;
                self.take_exemplars(stored, |_| true)?;
            }
        }
        Ok(())
    }

    fn classic_histograms(&mut self, metric: &Metric<'_>) -> Decoded {
        let (mut point, mut parts) = (HistogramPoint::default(), PointParts::default());
        for bytes in metric.points() {
            point.decode(bytes?, &mut parts, self.allowance)?;
            if let Err(message) = point.check() {
                self.refuse(metric, "malformed-series", &message);
                continue;
            }
            self.begin_point(&point.head, &parts)?;
            if let Some(sum) = point.sum {
                self.float("_sum", None, &point.head, sum)?;
            }
            self.float("_count", None, &point.head, point.count as f64)?;
            self.decode_exemplars(&parts)?;
            (self.exemplars).sort_by(|a, b| b.value.total_cmp(&a.value));
            let mut below = 0u64;
            for (i, bound) in point.bounds.iter().enumerate() {
                if *bound == f64::INFINITY {
                    break;
                }
                below = below.saturating_add(point.bucket_counts[i]);
                let stored = self.bucket(&point.head, *bound, below)?;
                self.take_exemplars(stored, |e| e.value <= *bound)?;
            }
            let stored = self.bucket(&point.head, f64::INFINITY, point.count)?;
            self.take_exemplars(stored, |_| true)?;
        }
        Ok(())
    }

    fn bucket(&mut self, head: &PointHead, bound: f64, count: u64) -> Decoded<Stored> {
        let mut text = std::mem::take(&mut self.text);
        number_text(bound, &mut text);
        let stored = self.float("_bucket", Some(("le", &text)), head, count as f64);
        self.text = text;
        stored
    }

    fn summaries(&mut self, metric: &Metric<'_>) -> Decoded {
        let (mut point, mut parts) = (SummaryPoint::default(), PointParts::default());
        for bytes in metric.points() {
            point.decode(bytes?, &mut parts, self.allowance)?;
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

    fn exponential(&mut self, metric: &Metric<'_>, hint: CounterResetHint) -> Decoded {
        let (mut point, mut parts) = (ExponentialPoint::default(), PointParts::default());
        for bytes in metric.points() {
            point.decode(bytes?, &mut parts, self.allowance)?;
            let counts = point.positive.counts.len() + point.negative.counts.len();
            // What the spans and deltas take while they grow; empty buckets between two that are not become deltas too.
            let making = counts.saturating_mul(3 * 8 * 3);
            self.allowance.scratch(making.min(MAX_SPAN_BYTES))?;
            self.native(metric, &point.head, &parts, point.to_native(hint))?;
        }
        Ok(())
    }

    fn custom_buckets(&mut self, metric: &Metric<'_>, hint: CounterResetHint) -> Decoded {
        let (mut point, mut parts) = (HistogramPoint::default(), PointParts::default());
        for bytes in metric.points() {
            point.decode(bytes?, &mut parts, self.allowance)?;
            let (counts, bounds) = (point.bucket_counts.len(), point.bounds.len());
            let making = counts.saturating_mul(3 * 8 * 3).min(MAX_SPAN_BYTES);
            self.allowance.scratch(making + 8 * bounds)?;
            let native = point.to_custom_buckets(hint);
            self.native(metric, &point.head, &parts, native)?;
        }
        Ok(())
    }

    fn native(
        &mut self,
        metric: &Metric<'_>,
        head: &PointHead,
        parts: &PointParts<'_>,
        histogram: std::result::Result<Histogram, HistogramFault>,
    ) -> Decoded {
        let value = match histogram {
            Ok(h) => HistogramValue::from(h),
            Err(HistogramFault { id, message }) => {
                self.refuse(metric, id, &message);
                return Ok(());
            }
        };
        self.begin_point(head, parts)?;
        let stored = self.series("", None, 1)?;
        if stored == Stored::Yes {
            self.allowance.take(value.heap_bytes())?;
            let sample = HistogramSample {
                t_ms: head.t_ms(),
                start_ms: head.start_ms(),
                value,
            };
            self.allowance.push(&mut self.batch.histograms, sample)?;
            if let Some(series) = self.batch.series.last_mut() {
                series.histograms.end += 1;
            }
        }
        self.decode_exemplars(parts)?;
        self.take_exemplars(stored, |_| true)
    }

    /// The resource itself, as a gauge that is 1 for as long as its points last.
    fn target_info(&mut self, attributes: &[Attribute<'_>]) -> Decoded {
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
                    LabelSource::Attribute,
                    self.options.translation,
                    self.allowance,
                )?;
            }
        }
        (self.labels).settle(&self.rules.labels, self.allowance)?;
        self.name.clear();
        self.name.push_str("target_info");
        let reach = TARGET_INFO_INTERVAL_MS * MAX_TARGET_INFO_SAMPLES;
        let first = first.max(last.saturating_sub(reach));
        let samples = (last - first).div_euclid(TARGET_INFO_INTERVAL_MS) + 1;
        if self.series("", None, samples as u64)? == Stored::No {
            return Ok(());
        }
        let mut t_ms = first;
        while t_ms < last {
            self.sample(t_ms, 1.0, TimestampMs::EPOCH)?;
            t_ms += TARGET_INFO_INTERVAL_MS;
        }
        self.sample(last, 1.0, TimestampMs::EPOCH)
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

/// What became of an exemplar: as everywhere, a bad one is no reason to lose the sample.
enum ExemplarFound {
    Good(Exemplar),
    /// Its trace and span alone are too long.
    TooLong,
    /// Its labels are no label set.
    Bad,
}

fn exemplar(
    bytes: &[u8],
    strategy: TranslationStrategy,
    allowance: &mut Allowance<'_>,
) -> Decoded<ExemplarFound> {
    let mut r = Reader::new("exemplar", bytes);
    let (mut t_ns, mut value) = (0, 0.0);
    let (mut span, mut trace): (&[u8], &[u8]) = (&[], &[]);
    while !r.is_empty() {
        match r.uvarint()? {
            tag if tag == fixed64_tag(2) => t_ns = r.u64_le()?,
            tag if tag == fixed64_tag(3) => value = double(&mut r)?,
            tag if tag == bytes_tag(4) => span = r.bytes()?,
            tag if tag == bytes_tag(5) => trace = r.bytes()?,
            tag if tag == fixed64_tag(6) => value = r.u64_le()? as i64 as f64,
            tag => skip(&mut r, tag)?,
        }
    }
    if 2 * (span.len() + trace.len()) > MAX_EXEMPLAR_CHARS {
        return Ok(ExemplarFound::TooLong);
    }
    let mut pairs = Vec::new();
    for (name, id) in [("span_id", span), ("trace_id", trace)] {
        if !id.is_empty() {
            pairs.push((name.to_owned(), hex(id)));
        }
    }
    // All the attributes or none, so that what is shown does not depend on their order.
    let ids = pairs.len();
    if !exemplar_attributes(bytes, strategy, &mut pairs, allowance)? {
        pairs.truncate(ids);
    }
    let mut labels = LabelBuilder::default();
    for (name, value) in &pairs {
        labels.push(name, value);
    }
    Ok(match labels.build() {
        Ok(labels) => ExemplarFound::Good(Exemplar {
            labels,
            value,
            t_ms: TimestampMs::new((t_ns / 1_000_000) as i64),
        }),
        Err(_) => ExemplarFound::Bad,
    })
}

/// Adds the attributes of an exemplar to its labels; false when they are too long together.
fn exemplar_attributes(
    bytes: &[u8],
    strategy: TranslationStrategy,
    pairs: &mut Vec<(String, String)>,
    allowance: &mut Allowance<'_>,
) -> Decoded<bool> {
    let chars = |(n, v): &(String, String)| n.chars().count() + v.chars().count();
    let mut total: usize = pairs.iter().map(chars).sum();
    for attribute in submessages("exemplar", bytes, 7) {
        let attribute = Attribute::decode(attribute?)?;
        if attribute.key.len().max(attribute.value_len()) > MAX_EXEMPLAR_ATTRIBUTE {
            return Ok(false);
        }
        let (mut name, mut text) = (String::new(), String::new());
        strategy.push_label_name(attribute.key, &mut name);
        if pairs.iter().any(|(n, _)| *n == name) {
            continue;
        }
        attribute.push_text(&mut text, allowance)?;
        let pair = (name, text);
        total += chars(&pair);
        if total > MAX_EXEMPLAR_CHARS {
            return Ok(false);
        }
        pairs.push(pair);
    }
    Ok(true)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, b| {
        let _ = write!(out, "{b:02x}");
        out
    })
}
