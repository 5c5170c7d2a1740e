//! Remote write 2.0: `io.prometheus.write.v2.Request { symbols = 4, timeseries = 5 }`, see `docs/format/remote_write.md`.
//!
//! Strings stand in one table and are referred to by number. Labels are brought into the spelling of 1.0, so that a series is found
//! by the same hash whichever protocol it came by. A series with a fault of its own is left out; the rest is taken.

use lgtm_core::DecodeError;
use lgtm_core::codec::Reader;
use lgtm_core::model::{Exemplar, LabelBuilder, METRIC_NAME, Metadata, MetricType, Sample};

use super::batch::{LabelPlace, MalformedSeries, MetadataEntry, SeriesEntry, WriteBatch};
use super::protobuf::{bytes_tag, double, fixed64_tag, skip, varint_tag};
use super::raw_labels::RawLabelsBuilder;
use super::remote_write::histogram;

/// Decodes a decompressed request, which is handed over through `fill` (it writes the body into the buffer given).
///
/// # Errors
/// When the protobuf itself or the symbol table is broken. Then nothing of the request can be trusted and the batch is empty.
pub fn decode_v2<E: From<DecodeError>>(
    batch: &mut WriteBatch,
    fill: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    batch.clear();
    let mut body = std::mem::take(&mut batch.body);
    let decoded = fill(&mut body).and_then(|()| Ok(decode(batch, &body)?));
    batch.body = body;
    if decoded.is_err() {
        batch.clear();
    }
    decoded
}

fn decode(batch: &mut WriteBatch, body: &[u8]) -> Result<(), DecodeError> {
    const SYMBOL: u64 = bytes_tag(4);
    const SERIES: u64 = bytes_tag(5);
    let mut r = Reader::new("write request", body);
    let mut symbols: Vec<&str> = Vec::new();
    // The table may stand behind the series: a first walk finds it.
    while !r.is_empty() {
        match r.uvarint()? {
            SYMBOL => symbols.push(r.str()?),
            tag => skip(&mut r, tag)?,
        }
    }
    if symbols.first().is_some_and(|s| !s.is_empty()) {
        return Err(DecodeError::new(
            "symbol table",
            0,
            "symbol 0 is not the empty string",
        ));
    }
    let mut r = Reader::new("write request", body);
    while !r.is_empty() {
        match r.uvarint()? {
            SERIES => {
                let bytes = r.bytes()?;
                series(batch, bytes, &symbols)?;
            }
            tag => skip(&mut r, tag)?,
        }
    }
    Ok(())
}

/// Decodes one series; a fault of its own puts it among the malformed.
fn series(batch: &mut WriteBatch, bytes: &[u8], symbols: &[&str]) -> Result<(), DecodeError> {
    const LABELS: u64 = bytes_tag(1);
    const LABEL: u64 = varint_tag(1);
    const SAMPLE: u64 = bytes_tag(2);
    const HISTOGRAM: u64 = bytes_tag(3);
    const EXEMPLAR: u64 = bytes_tag(4);
    const METADATA: u64 = bytes_tag(5);
    let mut r = Reader::new("series", bytes);
    let first = (
        batch.samples.len(),
        batch.histograms.len(),
        batch.exemplars.len(),
    );
    let mut refs: Vec<u64> = Vec::new();
    let mut metadata = None;
    let mut fault = None;
    while !r.is_empty() {
        match r.uvarint()? {
            LABELS => packed(r.bytes()?, &mut refs)?,
            LABEL => refs.push(r.uvarint()?),
            SAMPLE => {
                let (sample, start_ms) = sample(r.bytes()?)?;
                batch.samples.push(sample);
                batch.sample_starts.push(start_ms);
            }
            HISTOGRAM => {
                let h = histogram(r.bytes()?)?;
                batch.histograms.push(h);
            }
            EXEMPLAR => match exemplar(r.bytes()?, symbols) {
                Ok(e) => batch.exemplars.push(e),
                Err(e) => fault = Some(e.to_string()),
            },
            METADATA => metadata = Some(raw_metadata(r.bytes()?)?),
            tag => skip(&mut r, tag)?,
        }
    }
    let start = batch.arena.len();
    let name = match spell(&refs, symbols, &mut batch.arena) {
        Ok(name) => name,
        Err(e) => {
            fault = Some(e);
            None
        }
    };
    let count = batch.samples.len() - first.0 + batch.histograms.len() - first.1;
    if fault.is_none() && count == 0 {
        fault = Some(format!(
            "TimeSeries must contain at least one sample or histogram for series {}",
            name.unwrap_or("")
        ));
    }
    if let Some(message) = fault {
        batch.samples.truncate(first.0);
        batch.sample_starts.truncate(first.0);
        batch.histograms.truncate(first.1);
        batch.exemplars.truncate(first.2);
        batch.arena.truncate(start);
        batch.malformed.push(MalformedSeries {
            samples: count as u64,
            message,
        });
        return Ok(());
    }
    if let (Some(name), Some(raw)) = (name, metadata)
        && let Some(metadata) = resolve_metadata(&raw, symbols)
    {
        batch.metadata.push(MetadataEntry {
            name: name.to_owned(),
            metadata,
        });
    }
    batch.series.push(SeriesEntry {
        labels: LabelPlace::Arena(start as u32..batch.arena.len() as u32),
        samples: first.0 as u32..batch.samples.len() as u32,
        histograms: first.1 as u32..batch.histograms.len() as u32,
        exemplars: first.2 as u32..batch.exemplars.len() as u32,
    });
    Ok(())
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

/// Writes labels in the spelling of 1.0; gives the metric name.
fn spell<'a>(
    refs: &[u64],
    symbols: &[&'a str],
    out: &mut Vec<u8>,
) -> Result<Option<&'a str>, String> {
    if !refs.len().is_multiple_of(2) {
        return Err(format!(
            "{} label references are not pairs of name and value",
            refs.len()
        ));
    }
    let mut metric = None;
    for pair in refs.chunks_exact(2) {
        let (name, value) = (symbol(symbols, pair[0])?, symbol(symbols, pair[1])?);
        RawLabelsBuilder::push(name, value, out);
        if name == METRIC_NAME {
            metric = Some(value);
        }
    }
    Ok(metric)
}

fn packed(bytes: &[u8], out: &mut Vec<u64>) -> Result<(), DecodeError> {
    let mut r = Reader::new("label references", bytes);
    while !r.is_empty() {
        out.push(r.uvarint()?);
    }
    Ok(())
}

fn sample(bytes: &[u8]) -> Result<(Sample, i64), DecodeError> {
    const VALUE: u64 = fixed64_tag(1);
    const TIME: u64 = varint_tag(2);
    const START: u64 = varint_tag(3);
    let mut r = Reader::new("sample", bytes);
    let (mut sample, mut start_ms) = (
        Sample {
            t_ms: 0,
            value: 0.0,
        },
        0,
    );
    while !r.is_empty() {
        match r.uvarint()? {
            VALUE => sample.value = double(&mut r)?,
            TIME => sample.t_ms = r.uvarint()? as i64,
            START => start_ms = r.uvarint()? as i64,
            tag => skip(&mut r, tag)?,
        }
    }
    Ok((sample, start_ms))
}

fn exemplar(bytes: &[u8], symbols: &[&str]) -> Result<Exemplar, DecodeError> {
    let mut r = Reader::new("exemplar", bytes);
    let (mut refs, mut value, mut t_ms) = (Vec::new(), 0.0, 0);
    while !r.is_empty() {
        match r.uvarint()? {
            tag if tag == bytes_tag(1) => packed(r.bytes()?, &mut refs)?,
            tag if tag == varint_tag(1) => refs.push(r.uvarint()?),
            tag if tag == fixed64_tag(2) => value = double(&mut r)?,
            tag if tag == varint_tag(3) => t_ms = r.uvarint()? as i64,
            tag => skip(&mut r, tag)?,
        }
    }
    let mut labels = LabelBuilder::default();
    for pair in refs.chunks(2) {
        let name = symbol(symbols, pair[0]).map_err(|e| r.error(e))?;
        let value = pair
            .get(1)
            .ok_or_else(|| r.error("label reference without a value"))?;
        labels.push(name, symbol(symbols, *value).map_err(|e| r.error(e))?);
    }
    let labels = labels.build().map_err(|e| r.error(e.to_string()))?;
    Ok(Exemplar {
        labels,
        value,
        t_ms,
    })
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
fn resolve_metadata(raw: &RawMetadata, symbols: &[&str]) -> Option<Metadata> {
    let (help, unit) = (symbol(symbols, raw.1).ok()?, symbol(symbols, raw.2).ok()?);
    let metric_type = MetricType::from_wire(raw.0);
    let said = metric_type != MetricType::Unknown || !help.is_empty() || !unit.is_empty();
    said.then(|| Metadata {
        metric_type,
        help: help.to_owned(),
        unit: unit.to_owned(),
    })
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

    fn decoded(body: &[u8]) -> Result<WriteBatch, DecodeError> {
        let mut batch = WriteBatch::default();
        decode_v2(&mut batch, |out| {
            out.extend_from_slice(body);
            Ok::<(), DecodeError>(())
        })?;
        Ok(batch)
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
                view.samples[0].t_ms,
                view.samples[0].value,
                view.sample_starts
            ),
            (1000, 1.5, &[500][..])
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

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(body: Vec<u8>, series: Vec<u8>) {
            let _ = decoded(&body);
            let _ = decoded(&request(&SYMBOLS, &[series]));
        }
    }
}
