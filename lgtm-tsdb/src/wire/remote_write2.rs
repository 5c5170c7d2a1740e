//! Remote write 2.0: `io.prometheus.write.v2.Request { symbols = 4, timeseries = 5 }`, see `docs/format/remote_write.md`.
//!
//! Strings stand in one table and are referred to by number. Labels are brought into the spelling of 1.0, so that a series is found
//! by the same hash whichever protocol it came by. A series with a fault of its own is left out; the rest is taken.

use lgtm_core::codec::protobuf::{bytes_tag, double, fixed64_tag, skip, varint_tag};
use lgtm_core::codec::{Allowance, DecodeFail, Reader, uvarint_len};
use lgtm_core::model::{Exemplar, LabelBuilder, METRIC_NAME, MetricType, Sample, TimestampMs};
use lgtm_core::{DecodeError, Result};

use super::batch::{LabelPlace, MAX_EXEMPLAR_CHARS, SeriesEntry, WriteBatch};
use super::decode_rules::DecodeRules;
use super::label_bounds::{LabelBounds, LabelFault, over};
use super::metadata::MetadataView;
use super::raw_labels::RawLabelsBuilder;
use super::remote_write::histogram;

/// Decodes a decompressed request, which is handed over through `fill` (it writes the body into the buffer given). What it becomes is
/// taken from `allowance`: a series costs what its labels take, however often they are referred to.
///
/// # Errors
/// `InvalidInput` when the protobuf itself or the symbol table is broken: then nothing of the request can be trusted. Those of
/// `allowance` and `fill`. The batch is empty then.
pub fn decode_v2(
    batch: &mut WriteBatch,
    rules: &DecodeRules,
    allowance: &mut Allowance<'_>,
    fill: impl FnOnce(&mut Vec<u8>, &mut Allowance<'_>) -> Result<()>,
) -> Result<()> {
    batch.clear();
    let mut body = std::mem::take(&mut batch.body);
    let decoded =
        fill(&mut body, allowance).and_then(|()| Ok(decode(batch, &body, rules, allowance)?));
    batch.body = body;
    if decoded.is_err() {
        batch.clear();
    }
    decoded
}

fn decode(
    batch: &mut WriteBatch,
    body: &[u8],
    rules: &DecodeRules,
    allowance: &mut Allowance<'_>,
) -> Result<(), DecodeFail> {
    const SYMBOL: u64 = bytes_tag(4);
    const SERIES: u64 = bytes_tag(5);
    let mut r = Reader::new("write request", body);
    let mut symbols: Vec<&str> = Vec::new();
    // The table may stand behind the series: a first walk finds it.
    while !r.is_empty() {
        match r.uvarint()? {
            SYMBOL => allowance.push(&mut symbols, r.str()?)?,
            tag => skip(&mut r, tag)?,
        }
    }
    if symbols.first().is_some_and(|s| !s.is_empty()) {
        let reason = "symbol 0 is not the empty string";
        return Err(DecodeError::new("symbol table", 0, reason).into());
    }
    let mut decoder = Decoder {
        batch,
        rules,
        allowance,
        symbols,
        refs: Vec::new(),
    };
    let mut r = Reader::new("write request", body);
    while !r.is_empty() {
        match r.uvarint()? {
            SERIES => decoder.series(r.bytes()?)?,
            tag => skip(&mut r, tag)?,
        }
    }
    Ok(())
}

/// What is wrong with one series.
enum SeriesFault {
    Malformed(String),
    /// Its labels break the rule of this id.
    OutOfBounds(&'static str),
}

struct Decoder<'b, 'd, 'g> {
    batch: &'d mut WriteBatch,
    rules: &'d DecodeRules,
    allowance: &'d mut Allowance<'g>,
    symbols: Vec<&'b str>,
    /// Label references of the series at hand.
    refs: Vec<u64>,
}

impl<'b> Decoder<'b, '_, '_> {
    /// Decodes one series; a fault of its own puts it among the malformed.
    fn series(&mut self, bytes: &[u8]) -> Result<(), DecodeFail> {
        const LABELS: u64 = bytes_tag(1);
        const LABEL: u64 = varint_tag(1);
        const SAMPLE: u64 = bytes_tag(2);
        const HISTOGRAM: u64 = bytes_tag(3);
        const EXEMPLAR: u64 = bytes_tag(4);
        const METADATA: u64 = bytes_tag(5);
        let mut r = Reader::new("series", bytes);
        let first = (
            self.batch.samples.len(),
            self.batch.histograms.len(),
            self.batch.exemplars.len(),
        );
        self.refs.clear();
        let mut metadata = None;
        let mut fault = None;
        while !r.is_empty() {
            match r.uvarint()? {
                LABELS => packed(r.bytes()?, &mut self.refs, self.allowance)?,
                LABEL => self.allowance.push(&mut self.refs, r.uvarint()?)?,
                SAMPLE => {
                    let (sample, start_ms) = sample(r.bytes()?)?;
                    self.allowance.push(&mut self.batch.samples, sample)?;
                    (self.allowance).push(&mut self.batch.sample_starts, start_ms)?;
                }
                HISTOGRAM => {
                    let h = histogram(r.bytes()?, self.allowance)?;
                    self.allowance.push(&mut self.batch.histograms, h)?;
                }
                EXEMPLAR => match exemplar(r.bytes()?, &self.symbols) {
                    Ok(Some(e)) => {
                        self.allowance.take(e.labels.size_bytes())?;
                        self.allowance.push(&mut self.batch.exemplars, e)?;
                    }
                    Ok(None) => self.batch.long_exemplars += 1,
                    Err(e) => fault = Some(SeriesFault::Malformed(e.to_string())),
                },
                METADATA => metadata = Some(raw_metadata(r.bytes()?)?),
                tag => skip(&mut r, tag)?,
            }
        }
        let start = self.batch.arena.len();
        let mut name = None;
        match self.spell()? {
            Ok(metric) => name = metric,
            Err(e) => fault = Some(e),
        }
        let batch = &mut *self.batch;
        let count = batch.samples.len() - first.0 + batch.histograms.len() - first.1;
        if fault.is_none() && count == 0 {
            fault = Some(SeriesFault::Malformed(format!(
                "TimeSeries must contain at least one sample or histogram for series {:.200}",
                name.unwrap_or("")
            )));
        }
        if let Some(fault) = fault {
            batch.samples.truncate(first.0);
            batch.sample_starts.truncate(first.0);
            batch.histograms.truncate(first.1);
            batch.exemplars.truncate(first.2);
            batch.arena.truncate(start);
            match fault {
                SeriesFault::Malformed(message) => {
                    batch.refuse("malformed-series", count as u64, || message);
                }
                SeriesFault::OutOfBounds(id) => batch.refuse(id, count as u64, || {
                    out_of_bounds(&self.refs, &self.symbols, &self.rules.labels)
                }),
            }
            return Ok(());
        }
        if let (Some(name), Some(raw)) = (name, metadata)
            && let Some(mut view) = resolve_metadata(name, &raw, &self.symbols)
        {
            // A native histogram bears the name of its family.
            if batch.histograms.len() == first.1 {
                view.name = family(name, view.metric_type);
            }
            batch.take_metadata(view, self.rules.max_metadata_length, self.allowance)?;
        }
        let entry = SeriesEntry {
            labels: LabelPlace::Arena(start as u32..batch.arena.len() as u32),
            samples: first.0 as u32..batch.samples.len() as u32,
            histograms: first.1 as u32..batch.histograms.len() as u32,
            exemplars: first.2 as u32..batch.exemplars.len() as u32,
        };
        Ok(self.allowance.push(&mut batch.series, entry)?)
    }

    /// Writes the labels behind the arena in the spelling of 1.0; gives the metric name. Of labels that are refused, nothing but what stands
    /// before the fault is written.
    fn spell(&mut self) -> Result<Result<Option<&'b str>, SeriesFault>> {
        let (symbols, bounds) = (&self.symbols, &self.rules.labels);
        if !self.refs.len().is_multiple_of(2) {
            return Ok(Err(SeriesFault::Malformed(format!(
                "{} label references are not pairs of name and value",
                self.refs.len()
            ))));
        }
        let (mut metric, mut count) = (None, 0);
        for pair in self.refs.chunks_exact(2) {
            let (name, value) = match (symbol(symbols, pair[0]), symbol(symbols, pair[1])) {
                (Ok(name), Ok(value)) => (name, value),
                (Err(e), _) | (_, Err(e)) => return Ok(Err(SeriesFault::Malformed(e))),
            };
            // An empty value says that there is no such label.
            if value.is_empty() {
                continue;
            }
            count += 1;
            if !bounds.admits(name, value) || over(count, bounds.max_names) {
                let broken = bounds.broken(pairs(&self.refs, symbols));
                let id = broken.unwrap_or("malformed-series");
                return Ok(Err(SeriesFault::OutOfBounds(id)));
            }
            // Three tags and three lengths.
            let size = name.len() + value.len();
            let arena = &mut self.batch.arena;
            (self.allowance).reserve(arena, size + 3 + 3 * uvarint_len(size as u64 + 12))?;
            RawLabelsBuilder::push(name, value, arena);
            if name == METRIC_NAME {
                metric = Some(value);
            }
        }
        Ok(Ok(metric))
    }
}

/// Names and values; what is not in the table is empty.
fn pairs<'a>(
    refs: &[u64],
    symbols: &[&'a str],
) -> impl Iterator<Item = (&'a str, &'a str)> + Clone {
    refs.chunks_exact(2).map(|pair| {
        let text = |reference| symbol(symbols, reference).unwrap_or("");
        (text(pair[0]), text(pair[1]))
    })
}

/// In words, which bound the labels break.
#[cold]
fn out_of_bounds(refs: &[u64], symbols: &[&str], bounds: &LabelBounds) -> String {
    match bounds.check(pairs(refs, symbols)) {
        Err(LabelFault { message, .. }) => message,
        Ok(()) => "its labels are out of bounds".to_owned(),
    }
}

fn symbol<'a>(symbols: &[&'a str], reference: u64) -> Result<&'a str, String> {
    let found = usize::try_from(reference)
        .ok()
        .and_then(|i| symbols.get(i).copied());
    found.ok_or_else(|| {
        format!(
            "symbol reference {reference} is outside of the table of {}",
            symbols.len()
        )
    })
}

fn packed(
    bytes: &[u8],
    out: &mut Vec<u64>,
    allowance: &mut Allowance<'_>,
) -> Result<(), DecodeFail> {
    let mut r = Reader::new("label references", bytes);
    while !r.is_empty() {
        allowance.push(out, r.uvarint()?)?;
    }
    Ok(())
}

fn sample(bytes: &[u8]) -> Result<(Sample, TimestampMs), DecodeError> {
    const VALUE: u64 = fixed64_tag(1);
    const TIME: u64 = varint_tag(2);
    const START: u64 = varint_tag(3);
    let mut r = Reader::new("sample", bytes);
    let (mut sample, mut start_ms) = (
        Sample {
            t_ms: TimestampMs::EPOCH,
            value: 0.0,
        },
        TimestampMs::EPOCH,
    );
    while !r.is_empty() {
        match r.uvarint()? {
            VALUE => sample.value = double(&mut r)?,
            TIME => sample.t_ms = TimestampMs::new(r.uvarint()? as i64),
            START => start_ms = TimestampMs::new(r.uvarint()? as i64),
            tag => skip(&mut r, tag)?,
        }
    }
    Ok((sample, start_ms))
}

/// `None` for one whose labels are too long: of those nothing is copied.
fn exemplar(bytes: &[u8], symbols: &[&str]) -> Result<Option<Exemplar>, DecodeError> {
    let mut r = Reader::new("exemplar", bytes);
    // References of one label, of which the second is awaited, and what the labels have so far.
    let (mut name, mut chars) = (None, 0);
    let mut labels = LabelBuilder::default();
    let mut reference = |reference: u64| -> Result<(), String> {
        let text = symbol(symbols, reference)?;
        // No character takes more than four bytes.
        chars += if text.len() > 4 * MAX_EXEMPLAR_CHARS {
            MAX_EXEMPLAR_CHARS + 1
        } else {
            text.chars().count()
        };
        match name.take() {
            None => name = Some(text),
            Some(name) if chars > 0 && chars <= MAX_EXEMPLAR_CHARS => {
                labels.push(name, text);
            }
            Some(_) => {}
        }
        Ok(())
    };
    let (mut value, mut t_ms) = (0.0, 0);
    while !r.is_empty() {
        match r.uvarint()? {
            tag if tag == bytes_tag(1) => {
                let mut packed = Reader::new("label references", r.bytes()?);
                while !packed.is_empty() {
                    reference(packed.uvarint()?).map_err(|e| r.error(e))?;
                }
            }
            tag if tag == varint_tag(1) => reference(r.uvarint()?).map_err(|e| r.error(e))?,
            tag if tag == fixed64_tag(2) => value = double(&mut r)?,
            tag if tag == varint_tag(3) => t_ms = r.uvarint()? as i64,
            tag => skip(&mut r, tag)?,
        }
    }
    if name.is_some() {
        return Err(r.error("label reference without a value"));
    }
    if chars > MAX_EXEMPLAR_CHARS {
        return Ok(None);
    }
    let labels = labels.build().map_err(|e| r.error(e.to_string()))?;
    Ok(Some(Exemplar {
        labels,
        value,
        t_ms: TimestampMs::new(t_ms),
    }))
}

/// Type and the references of help and unit.
type RawMetadata = (u64, u64, u64);

fn raw_metadata(bytes: &[u8]) -> Result<RawMetadata, DecodeError> {
    let mut r = Reader::new("metadata", bytes);
    let mut out = (0, 0, 0);
    while !r.is_empty() {
        match r.uvarint()? {
            tag if tag == varint_tag(1) => out.0 = r.uvarint()?,
            tag if tag == varint_tag(3) => out.1 = r.uvarint()?,
            tag if tag == varint_tag(4) => out.2 = r.uvarint()?,
            tag => skip(&mut r, tag)?,
        }
    }
    Ok(out)
}

/// `None` when nothing is said or a reference leads nowhere: metadata is never a reason to lose samples.
fn resolve_metadata<'a>(
    name: &'a str,
    raw: &RawMetadata,
    symbols: &[&'a str],
) -> Option<MetadataView<'a>> {
    let (help, unit) = (symbol(symbols, raw.1).ok()?, symbol(symbols, raw.2).ok()?);
    let metric_type = MetricType::from_wire(raw.0);
    let said = metric_type != MetricType::Unknown || !help.is_empty() || !unit.is_empty();
    said.then_some(MetadataView {
        name,
        metric_type,
        help,
        unit,
    })
}

/// The metric family that a series of floats belongs to: what metadata is kept by.
fn family(name: &str, metric_type: MetricType) -> &str {
    let endings: &[&str] = match metric_type {
        MetricType::Histogram => &["_bucket", "_sum", "_count"],
        MetricType::GaugeHistogram => &["_bucket", "_gsum", "_gcount", "_sum", "_count"],
        MetricType::Summary => &["_sum", "_count"],
        _ => &[],
    };
    let mut stems = endings.iter().filter_map(|end| name.strip_suffix(end));
    stems.find(|stem| !stem.is_empty()).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lgtm_core::codec::{put_bytes, put_uvarint};
    use proptest::prelude::*;

    fn field(out: &mut Vec<u8>, tag: u64, body: &[u8]) {
        put_uvarint(out, tag);
        put_bytes(out, body);
    }

    fn one_series(refs: &[u64], t_ms: i64, value: f64, start_ms: i64) -> Vec<u8> {
        let mut labels = Vec::new();
        refs.iter().for_each(|r| put_uvarint(&mut labels, *r));
        let mut sample = vec![fixed64_tag(1) as u8];
        sample.extend_from_slice(&value.to_bits().to_le_bytes());
        for (tag, v) in [(varint_tag(2), t_ms), (varint_tag(3), start_ms)] {
            put_uvarint(&mut sample, tag);
            put_uvarint(&mut sample, v as u64);
        }
        let mut series = Vec::new();
        field(&mut series, bytes_tag(1), &labels);
        field(&mut series, bytes_tag(2), &sample);
        // Counter, help 5, unit 0.
        field(
            &mut series,
            bytes_tag(5),
            &[varint_tag(1) as u8, 1, varint_tag(3) as u8, 5],
        );
        series
    }

    fn request(symbols: &[&str], series: &[Vec<u8>]) -> Vec<u8> {
        let mut body = Vec::new();
        series
            .iter()
            .for_each(|s| field(&mut body, bytes_tag(5), s));
        symbols
            .iter()
            .for_each(|s| field(&mut body, bytes_tag(4), s.as_bytes()));
        body
    }

    fn decoded(body: &[u8]) -> Result<WriteBatch> {
        let mut batch = WriteBatch::default();
        decoded_into(&mut batch, body, &DecodeRules::default(), 1 << 30)?;
        Ok(batch)
    }

    fn decoded_into(
        batch: &mut WriteBatch,
        body: &[u8],
        rules: &DecodeRules,
        max_bytes: usize,
    ) -> Result<usize> {
        let mut grow = |_| Ok(());
        let mut allowance = Allowance::new(max_bytes, &mut grow);
        decode_v2(batch, rules, &mut allowance, |out, allowance| {
            allowance.reserve(out, body.len())?;
            out.extend_from_slice(body);
            Ok(())
        })?;
        Ok(allowance.spent())
    }

    const SYMBOLS: [&str; 6] = ["", "__name__", "up", "job", "api", "is it up"];

    #[test]
    fn a_series_is_spelled_as_in_version_one() {
        let batch = decoded(&request(
            &SYMBOLS,
            &[one_series(&[1, 2, 3, 4], 1000, 1.5, 500)],
        ))
        .unwrap();
        let view = batch.series_at(0);
        assert!(view.labels.is_canonical());
        let labels: Vec<_> = view.labels.iter().map(Result::unwrap).collect();
        assert_eq!(labels, [("__name__", "up"), ("job", "api")]);
        assert_eq!(
            (
                view.samples[0].t_ms.get(),
                view.samples[0].value,
                view.sample_starts
            ),
            (1000, 1.5, &[500.into()][..])
        );
        assert_eq!(
            (
                batch.metadata()[0].name.as_str(),
                batch.metadata()[0].metadata.help.as_str()
            ),
            ("up", "is it up")
        );
    }

    #[test]
    fn metadata_is_kept_by_family() {
        use MetricType::{Counter, Gauge, GaugeHistogram, Histogram, Summary};
        for (name, metric_type, wanted) in [
            ("h_bucket", Histogram, "h"),
            ("h_sum", Histogram, "h"),
            ("h_count", Histogram, "h"),
            ("h_count_count", Histogram, "h_count"),
            ("h", Histogram, "h"),
            ("_count", Histogram, "_count"),
            ("g_gsum", GaugeHistogram, "g"),
            ("g_bucket", GaugeHistogram, "g"),
            ("s_sum", Summary, "s"),
            ("s_bucket", Summary, "s_bucket"),
            ("c_total", Counter, "c_total"),
            ("queue_count", Gauge, "queue_count"),
        ] {
            assert_eq!(family(name, metric_type), wanted, "{name}");
        }
        let symbols = ["", "__name__", "h_count", "h_sum", "h_bucket", "help"];
        let series = |name: u8, is_native: bool| {
            let mut s = Vec::new();
            field(&mut s, bytes_tag(1), &[1, name]);
            if is_native {
                field(&mut s, bytes_tag(3), &[0x78, 7])
            } else {
                field(&mut s, bytes_tag(2), &[0x10, 7])
            }
            field(&mut s, bytes_tag(5), &[0x08, 3, 0x18, 5]);
            s
        };
        let all = [
            series(2, false),
            series(3, false),
            series(4, false),
            series(2, true),
        ];
        let batch = decoded(&request(&symbols, &all)).unwrap();
        let names: Vec<_> = batch.metadata().iter().map(|m| m.name.as_str()).collect();
        assert_eq!(
            names,
            ["h", "h", "h", "h_count"],
            "a native histogram is a family"
        );
    }

    #[test]
    fn a_faulty_series_does_not_lose_the_others() {
        let empty = {
            let mut s = Vec::new();
            field(&mut s, bytes_tag(1), &[1, 2]);
            s
        };
        let series = [
            one_series(&[1, 2, 3], 1, 1.0, 0),
            one_series(&[1, 99], 1, 1.0, 0),
            empty,
            one_series(&[1, 2], 7, 2.0, 0),
        ];
        let batch = decoded(&request(&SYMBOLS, &series)).unwrap();
        assert_eq!(
            (
                batch.series_count(),
                batch.sample_count(),
                batch.malformed().len()
            ),
            (1, 1, 3)
        );
        assert_eq!(batch.series_at(0).samples[0].t_ms, 7);
        assert!(
            batch.malformed()[1].message.contains("99"),
            "{:?}",
            batch.malformed()
        );
        assert!(
            decoded(&request(&["x"], &[])).is_err(),
            "symbol 0 must be empty"
        );
    }

    /// A few symbols, referred to by many series, exemplars and metadata.
    #[test]
    fn symbols_that_are_referred_to_often_are_counted_as_often_before_they_are_copied() {
        let long = "v".repeat(2000);
        let mut symbols = vec!["", "__name__", "m", long.as_str()];
        let names: Vec<_> = (0..28).map(|n| format!("l{n:02}")).collect();
        symbols.extend(names.iter().map(String::as_str));
        let mut refs = vec![1, 2];
        (0..28).for_each(|n| refs.extend([4 + n, 3]));
        let series = vec![one_series(&refs, 1, 1.0, 0); 400];
        let body = request(&symbols, &series);
        assert!(body.len() < 64 << 10, "{}", body.len());
        let mut batch = WriteBatch::default();
        let rules = DecodeRules::default();
        let spent = decoded_into(&mut batch, &body, &rules, 1 << 30).unwrap();
        let held = batch.heap_bytes();
        assert!(
            held > 20 << 20 && held <= spent,
            "{held} held, {spent} asked for"
        );
        for bound in [1 << 20, 10 << 20] {
            let mut batch = WriteBatch::default();
            let error = decoded_into(&mut batch, &body, &rules, bound).unwrap_err();
            assert_eq!(error.kind(), lgtm_core::ErrorKind::LimitExceeded);
            assert!(batch.heap_bytes() <= bound);
        }
    }

    #[test]
    fn labels_beyond_the_bounds_are_refused_with_their_rule_and_not_copied() {
        let long = "v".repeat(1 << 20);
        let symbols = ["", "__name__", "up", "job", "api", long.as_str()];
        let bounds = LabelBounds {
            max_names: 2,
            max_name_bytes: 100,
            max_value_bytes: 100,
        };
        let rules = DecodeRules {
            labels: bounds,
            max_metadata_length: 1024,
        };
        let series = [
            one_series(&[1, 5], 1, 1.0, 0),
            one_series(&[1, 2, 5, 4], 1, 1.0, 0),
            one_series(&[1, 2, 3, 4, 4, 4], 1, 1.0, 0),
            one_series(&[1, 2, 3, 4, 4, 0], 7, 2.0, 0),
        ];
        let mut batch = WriteBatch::default();
        let body = request(&symbols, &series);
        let spent = decoded_into(&mut batch, &body, &rules, 1 << 30).unwrap();
        assert!(spent < body.len() * 2, "{spent}");
        let refused: Vec<_> = batch
            .malformed()
            .iter()
            .map(|m| (m.id, m.samples))
            .collect();
        assert_eq!(
            refused,
            [
                ("label-value-too-long", 1),
                ("label-name-too-long", 1),
                ("max-label-names-per-series", 1)
            ]
        );
        let message = &batch.malformed()[0].message;
        assert!(
            message.contains("1048576 exceeds the limit of 100"),
            "{message}"
        );
        assert!(message.len() < 2000);
        assert_eq!(
            (
                batch.series_count(),
                batch.series_at(0).samples[0].t_ms.get()
            ),
            (1, 7)
        );
        assert_eq!(batch.metadata()[0].metadata.help.len(), 1024, "cut");
    }

    #[test]
    fn long_exemplars_are_left_out_and_counted() {
        let long = "v".repeat(1 << 20);
        let symbols = ["", "__name__", "up", "trace_id", "abc", long.as_str()];
        let exemplar = |refs: &[u8]| {
            let mut e = Vec::new();
            field(&mut e, bytes_tag(1), refs);
            e
        };
        let mut series = one_series(&[1, 2], 1, 1.0, 0);
        field(&mut series, bytes_tag(4), &exemplar(&[3, 4]));
        (0..50).for_each(|_| field(&mut series, bytes_tag(4), &exemplar(&[5, 5])));
        let body = request(&symbols, &[series]);
        let mut batch = WriteBatch::default();
        let spent = decoded_into(&mut batch, &body, &DecodeRules::default(), 8 << 20).unwrap();
        assert!(spent < 4 << 20, "{spent}");
        assert_eq!(
            (batch.exemplar_count(), batch.long_exemplar_count()),
            (1, 50)
        );
        let mut odd = one_series(&[1, 2], 1, 1.0, 0);
        field(&mut odd, bytes_tag(4), &exemplar(&[3]));
        let batch = decoded(&request(&symbols, &[odd])).unwrap();
        assert!(batch.malformed()[0].message.contains("without a value"));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(body: Vec<u8>, series: Vec<u8>) {
            let _ = decoded(&body);
            let _ = decoded(&request(&SYMBOLS, &[series]));
        }
    }
}
