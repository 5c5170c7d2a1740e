//! Remote read: `ReadRequest` in, `ReadResponse` or streamed `ChunkedReadResponse` frames out.
//!
//! Source: Prometheus' prompb/remote.proto and its documentation of the remote read API.

use lgtm_core::DecodeError;
use lgtm_core::codec::protobuf::{bytes_tag, fixed64_tag, skip, varint_tag};
use lgtm_core::codec::{Reader, crc32c, put_bytes, put_svarint, put_uvarint};
use lgtm_core::model::{
    CounterResetHint, FloatHistogram, Histogram, Labels, MatchOp, Matcher, TimestampMs,
};

use super::raw_labels::RawLabelsBuilder;
use crate::chunk::ChunkRef;

/// What a client wants.
#[derive(Debug, Clone, PartialEq)]
pub struct ReadRequest {
    /// Its queries, answered in order.
    pub queries: Vec<ReadQuery>,
    /// Whether it takes streamed chunks; otherwise samples.
    pub streamed: bool,
}

/// One query.
#[derive(Debug, Clone, PartialEq)]
pub struct ReadQuery {
    /// First time, milliseconds.
    pub start_ms: TimestampMs,
    /// Last time, milliseconds, inside.
    pub end_ms: TimestampMs,
    /// All must pass.
    pub matchers: Vec<Matcher>,
}

/// What a request may hold. Each query is a search of its own, and a pattern is compiled as soon as it is read.
#[derive(Debug, Clone, Copy)]
pub struct ReadBounds {
    /// Queries.
    pub max_queries: usize,
    /// Matchers of each.
    pub max_matchers: usize,
}

fn bounded(r: &Reader<'_>, what: &str, count: usize, max: usize) -> Result<(), DecodeError> {
    if count < max {
        Ok(())
    } else {
        Err(r.error(format!("more than {max} {what}")))
    }
}

/// Decodes a decompressed request.
///
/// # Errors
/// When the protobuf or a regular expression in it is broken, and when it holds more than `bounds`, which are kept while it is read.
pub fn decode_read_request(body: &[u8], bounds: ReadBounds) -> Result<ReadRequest, DecodeError> {
    let mut r = Reader::new("read request", body);
    let (mut queries, mut accepted) = (Vec::new(), Vec::new());
    while !r.is_empty() {
        match r.uvarint()? {
            tag if tag == bytes_tag(1) => {
                bounded(
                    &r,
                    "queries (max_selectors)",
                    queries.len(),
                    bounds.max_queries,
                )?;
                queries.push(query(r.bytes()?, bounds.max_matchers)?);
            }
            tag if tag == varint_tag(2) => accepted.push(r.uvarint()?),
            tag if tag == bytes_tag(2) => {
                let mut packed = Reader::new("accepted response types", r.bytes()?);
                while !packed.is_empty() {
                    accepted.push(packed.uvarint()?);
                }
            }
            tag => skip(&mut r, tag)?,
        }
    }
    // The first type that is known wins.
    let streamed = accepted.iter().find(|t| **t <= 1) == Some(&1);
    Ok(ReadRequest { queries, streamed })
}

fn query(bytes: &[u8], max_matchers: usize) -> Result<ReadQuery, DecodeError> {
    let mut r = Reader::new("read query", bytes);
    let mut out = ReadQuery {
        start_ms: TimestampMs::EPOCH,
        end_ms: TimestampMs::EPOCH,
        matchers: Vec::new(),
    };
    while !r.is_empty() {
        match r.uvarint()? {
            tag if tag == varint_tag(1) => out.start_ms = TimestampMs::new(r.uvarint()? as i64),
            tag if tag == varint_tag(2) => out.end_ms = TimestampMs::new(r.uvarint()? as i64),
            tag if tag == bytes_tag(3) => {
                bounded(
                    &r,
                    "matchers (max_matchers)",
                    out.matchers.len(),
                    max_matchers,
                )?;
                out.matchers.push(matcher(r.bytes()?)?);
            }
            tag => skip(&mut r, tag)?,
        }
    }
    Ok(out)
}

fn matcher(bytes: &[u8]) -> Result<Matcher, DecodeError> {
    let mut r = Reader::new("label matcher", bytes);
    let (mut op, mut name, mut value) = (MatchOp::Equal, "", "");
    while !r.is_empty() {
        match r.uvarint()? {
            tag if tag == varint_tag(1) => {
                op = match r.uvarint()? {
                    0 => MatchOp::Equal,
                    1 => MatchOp::NotEqual,
                    2 => MatchOp::Regex,
                    3 => MatchOp::NotRegex,
                    t => return Err(r.error(format!("unknown type of matcher {t}"))),
                }
            }
            tag if tag == bytes_tag(2) => name = r.str()?,
            tag if tag == bytes_tag(3) => value = r.str()?,
            tag => skip(&mut r, tag)?,
        }
    }
    Matcher::new(op, name, value).map_err(|e| r.error(e.to_string()))
}

fn put_labels(out: &mut Vec<u8>, labels: &Labels) {
    RawLabelsBuilder::encode(labels.iter(), out);
}

fn field(out: &mut Vec<u8>, number: u64, body: &[u8]) {
    put_uvarint(out, bytes_tag(number));
    put_bytes(out, body);
}

/// Builds one `QueryResult` of samples.
#[derive(Debug, Default)]
pub struct SamplesResult {
    out: Vec<u8>,
    series: Vec<u8>,
    part: Vec<u8>,
}

impl SamplesResult {
    /// Begins a series.
    pub fn begin(&mut self, labels: &Labels) {
        self.series.clear();
        put_labels(&mut self.series, labels);
    }

    /// Adds a float to the series.
    pub fn float(&mut self, t_ms: TimestampMs, value: f64) {
        self.part.clear();
        self.part.push(fixed64_tag(1) as u8);
        self.part.extend_from_slice(&value.to_bits().to_le_bytes());
        put_uvarint(&mut self.part, varint_tag(2));
        put_uvarint(&mut self.part, t_ms.get() as u64);
        field(&mut self.series, 2, &self.part);
    }

    /// Adds a histogram with integer counts.
    pub fn histogram(&mut self, t_ms: TimestampMs, h: &Histogram) {
        self.part.clear();
        put_histogram(&mut self.part, t_ms, h);
        field(&mut self.series, 4, &self.part);
    }

    /// Adds a histogram with float counts.
    pub fn float_histogram(&mut self, t_ms: TimestampMs, h: &FloatHistogram) {
        self.part.clear();
        put_float_histogram(&mut self.part, t_ms, h);
        field(&mut self.series, 4, &self.part);
    }

    /// Ends the series.
    pub fn end(&mut self) {
        field(&mut self.out, 1, &self.series);
    }

    /// Bytes so far.
    pub fn size_bytes(&self) -> usize {
        self.out.len()
    }

    /// Appends the result to a `ReadResponse`.
    pub fn finish(self, response: &mut Vec<u8>) {
        field(response, 1, &self.out);
    }
}

/// Appends the body of a histogram with integer counts, as remote write and remote read have it.
pub(super) fn put_histogram(out: &mut Vec<u8>, t_ms: TimestampMs, h: &Histogram) {
    put_number(out, 1, h.count);
    put_shape(out, h.sum, h.schema, h.zero_threshold, h.hint, t_ms);
    put_number(out, 6, h.zero_count);
    for (spans, deltas, number) in [
        (&h.negative_spans, &h.negative_deltas, 8),
        (&h.positive_spans, &h.positive_deltas, 11),
    ] {
        put_spans(out, number, spans);
        let mut packed = Vec::new();
        deltas.iter().for_each(|d| put_svarint(&mut packed, *d));
        field(out, number + 1, &packed);
    }
    put_doubles(out, 16, &h.custom_values);
}

/// As [`put_histogram`], with float counts.
pub(super) fn put_float_histogram(out: &mut Vec<u8>, t_ms: TimestampMs, h: &FloatHistogram) {
    put_double(out, 2, h.count);
    put_shape(out, h.sum, h.schema, h.zero_threshold, h.hint, t_ms);
    put_double(out, 7, h.zero_count);
    for (spans, counts, number) in [
        (&h.negative_spans, &h.negative_counts, 8),
        (&h.positive_spans, &h.positive_counts, 11),
    ] {
        put_spans(out, number, spans);
        put_doubles(out, number + 2, counts);
    }
    put_doubles(out, 16, &h.custom_values);
}

fn put_number(out: &mut Vec<u8>, number: u64, value: u64) {
    put_uvarint(out, varint_tag(number));
    put_uvarint(out, value);
}

fn put_double(out: &mut Vec<u8>, number: u64, value: f64) {
    put_uvarint(out, fixed64_tag(number));
    out.extend_from_slice(&value.to_bits().to_le_bytes());
}

fn put_doubles(out: &mut Vec<u8>, number: u64, values: &[f64]) {
    if values.is_empty() {
        return;
    }
    let packed: Vec<u8> = values
        .iter()
        .flat_map(|v| v.to_bits().to_le_bytes())
        .collect();
    field(out, number, &packed);
}

fn put_shape(
    out: &mut Vec<u8>,
    sum: f64,
    schema: i32,
    zero_threshold: f64,
    hint: CounterResetHint,
    t_ms: TimestampMs,
) {
    put_double(out, 3, sum);
    put_uvarint(out, varint_tag(4));
    put_svarint(out, i64::from(schema));
    put_double(out, 5, zero_threshold);
    let hint = match hint {
        CounterResetHint::Unknown => 0,
        CounterResetHint::Reset => 1,
        CounterResetHint::NotReset => 2,
        CounterResetHint::Gauge => 3,
    };
    put_number(out, 14, hint);
    put_number(out, 15, t_ms.get() as u64);
}

fn put_spans(out: &mut Vec<u8>, number: u64, spans: &[lgtm_core::model::BucketSpan]) {
    for s in spans {
        let mut span = Vec::new();
        put_uvarint(&mut span, varint_tag(1));
        put_svarint(&mut span, i64::from(s.offset));
        put_number(&mut span, 2, u64::from(s.length));
        field(out, number, &span);
    }
}

/// Appends one frame with some chunks of a series: length, CRC-32C, message.
pub fn put_chunk_frame(out: &mut Vec<u8>, query: u64, labels: &Labels, chunks: &[ChunkRef<'_>]) {
    let mut series = Vec::new();
    put_labels(&mut series, labels);
    for c in chunks {
        let mut chunk = Vec::with_capacity(c.data.len() + 24);
        put_number(&mut chunk, 1, c.min_ms.get() as u64);
        put_number(&mut chunk, 2, c.max_ms.get() as u64);
        // The numbers of the block format are the protocol's too.
        put_number(&mut chunk, 3, c.encoding as u64);
        field(&mut chunk, 4, c.data);
        field(&mut series, 2, &chunk);
    }
    let mut message = Vec::with_capacity(series.len() + 16);
    field(&mut message, 1, &series);
    put_number(&mut message, 2, query);
    put_uvarint(out, message.len() as u64);
    out.extend_from_slice(&crc32c(&message).to_be_bytes());
    out.extend_from_slice(&message);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{DecodeRules, HistogramValue, WriteBatch, decode_v1};
    use lgtm_core::codec::Allowance;
    use lgtm_core::model::BucketSpan;
    use proptest::prelude::*;

    const BOUNDS: ReadBounds = ReadBounds {
        max_queries: 3,
        max_matchers: 3,
    };

    #[test]
    fn requests_are_read() {
        let mut matcher = Vec::new();
        put_number(&mut matcher, 1, 2);
        field(&mut matcher, 2, b"job");
        field(&mut matcher, 3, b"a|b");
        let mut query = Vec::new();
        put_number(&mut query, 1, 10);
        put_number(&mut query, 2, (-5i64) as u64);
        field(&mut query, 3, &matcher);
        let mut body = Vec::new();
        field(&mut body, 1, &query);
        field(&mut body, 2, &[7, 1, 0]);
        let r = decode_read_request(&body, BOUNDS).unwrap();
        assert!(r.streamed, "the first known type");
        assert_eq!([r.queries[0].start_ms, r.queries[0].end_ms], [10, -5]);
        assert_eq!(
            r.queries[0].matchers,
            [Matcher::regex("job", "a|b").unwrap()]
        );
        for (matchers, queries, fits) in [(3, 3, true), (4, 1, false), (1, 4, false)] {
            let (mut query, mut body) = (Vec::new(), Vec::new());
            (0..matchers).for_each(|_| field(&mut query, 3, &matcher));
            (0..queries).for_each(|_| field(&mut body, 1, &query));
            let read = decode_read_request(&body, BOUNDS);
            assert_eq!(read.is_ok(), fits, "{matchers} {queries}: {read:?}");
        }
    }

    #[test]
    fn samples_are_spelled_as_remote_write_reads_them() {
        let labels = Labels::from_pairs([("a", "b")]).unwrap();
        let h = Histogram {
            count: 3,
            sum: 2.5,
            schema: -53,
            positive_spans: vec![BucketSpan {
                offset: 0,
                length: 2,
            }],
            positive_deltas: vec![1, 1],
            custom_values: vec![0.5],
            ..Histogram::default()
        };
        let mut result = SamplesResult::default();
        result.begin(&labels);
        result.float(TimestampMs::new(5), -1.5);
        result.histogram(TimestampMs::new(6), &h);
        result.float_histogram(TimestampMs::new(7), &h.to_float());
        result.end();
        let mut response = Vec::new();
        result.finish(&mut response);
        // A QueryResult has its series where a WriteRequest has them.
        let mut r = Reader::new("response", &response);
        r.uvarint().unwrap();
        let result = r.bytes().unwrap();
        let mut batch = WriteBatch::default();
        let mut grow = |_| Ok(());
        let mut allowance = Allowance::new(0, &mut grow);
        let rules = DecodeRules::default();
        decode_v1(&mut batch, &rules, &mut allowance, |out, _| {
            out.extend_from_slice(result);
            Ok(())
        })
        .unwrap();
        let view = batch.series_at(0);
        assert_eq!(
            (view.samples[0].t_ms.get(), view.samples[0].value),
            (5, -1.5)
        );
        assert_eq!(
            view.histograms[0].value,
            HistogramValue::Int(Box::new(h.clone()))
        );
        assert_eq!(
            view.histograms[1].value,
            HistogramValue::Float(Box::new(h.to_float()))
        );
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(body: Vec<u8>) {
            let _ = decode_read_request(&body, BOUNDS);
        }
    }
}
