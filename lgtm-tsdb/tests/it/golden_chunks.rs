//! Chunks made by the real Prometheus library: ours must be the same bytes, theirs must read as the same samples.

use crate::shared;

use lgtm_core::model::{BucketSpan, CounterResetHint, FloatHistogram, Histogram};
use lgtm_tsdb::chunk::{
    CounterResetHeader, Encoding, FloatHistogramAppender, HistogramAppend, HistogramAppender,
    SampleTime, SampleValue, Xor2Appender, XorAppender, iter,
};
use serde_json::Value;

fn float(v: &Value) -> f64 {
    f64::from_bits(u64::from_str_radix(v.as_str().unwrap(), 16).unwrap())
}

fn floats(v: &Value) -> Vec<f64> {
    v.as_array()
        .map_or_else(Vec::new, |a| a.iter().map(float).collect())
}

fn spans(v: &Value) -> Vec<BucketSpan> {
    let span = |s: &Value| BucketSpan {
        offset: s[0].as_i64().unwrap() as i32,
        length: s[1].as_u64().unwrap() as u32,
    };
    v.as_array()
        .map_or_else(Vec::new, |a| a.iter().map(span).collect())
}

fn hint(v: &Value) -> CounterResetHint {
    match v.as_str() {
        Some("reset") => CounterResetHint::Reset,
        Some("not_reset") => CounterResetHint::NotReset,
        Some("gauge") => CounterResetHint::Gauge,
        _ => CounterResetHint::Unknown,
    }
}

fn histogram(v: &Value) -> Histogram {
    let ints = |k: &str| {
        v[k].as_array().map_or_else(Vec::new, |a| {
            a.iter().map(|d| d.as_i64().unwrap()).collect()
        })
    };
    Histogram {
        hint: hint(&v["hint"]),
        schema: v["schema"].as_i64().unwrap() as i32,
        zero_threshold: float(&v["zero_threshold"]),
        zero_count: v["zero_count"].as_u64().unwrap(),
        count: v["count"].as_u64().unwrap(),
        sum: float(&v["sum"]),
        positive_spans: spans(&v["pos_spans"]),
        negative_spans: spans(&v["neg_spans"]),
        positive_deltas: ints("pos_deltas"),
        negative_deltas: ints("neg_deltas"),
        custom_values: floats(&v["custom"]),
    }
}

fn float_histogram(v: &Value) -> FloatHistogram {
    FloatHistogram {
        hint: hint(&v["hint"]),
        schema: v["schema"].as_i64().unwrap() as i32,
        zero_threshold: float(&v["zero_threshold"]),
        zero_count: float(&v["zero_count"]),
        count: float(&v["count"]),
        sum: float(&v["sum"]),
        positive_spans: spans(&v["pos_spans"]),
        negative_spans: spans(&v["neg_spans"]),
        positive_counts: floats(&v["pos_counts"]),
        negative_counts: floats(&v["neg_counts"]),
        custom_values: floats(&v["custom"]),
    }
}

fn value(sample: &Value) -> SampleValue {
    if let Some(h) = sample.get("h") {
        SampleValue::Histogram(Box::new(histogram(h)))
    } else if let Some(h) = sample.get("fh") {
        SampleValue::FloatHistogram(Box::new(float_histogram(h)))
    } else {
        SampleValue::Float(float(&sample["v"]))
    }
}

fn same(a: &SampleValue, b: &SampleValue) -> bool {
    match (a, b) {
        (SampleValue::Float(a), SampleValue::Float(b)) => a.to_bits() == b.to_bits(),
        _ => a == b,
    }
}

/// The input of a vector has hints that a chunk does not keep.
fn without_hint(got: SampleValue, want: &Value) -> SampleValue {
    match got {
        SampleValue::Histogram(mut h) => {
            h.hint = hint(&want["h"]["hint"]);
            SampleValue::Histogram(h)
        }
        SampleValue::FloatHistogram(mut h) => {
            h.hint = hint(&want["fh"]["hint"]);
            SampleValue::FloatHistogram(h)
        }
        float => float,
    }
}

fn time(sample: &Value) -> SampleTime {
    SampleTime {
        t_ms: sample["t"].as_i64().unwrap().into(),
        start_ms: sample.get("st").and_then(Value::as_i64).unwrap_or(0).into(),
    }
}

/// Appends one by one; gives the finished chunks and what became of each histogram.
fn write(encoding: Encoding, samples: &[Value]) -> (Vec<Vec<u8>>, Vec<&'static str>) {
    let mut chunks = Vec::new();
    let mut actions = Vec::new();
    macro_rules! histograms {
        ($appender:ident, $value:path) => {{
            let begin = |header| {
                if encoding.keeps_starts() {
                    $appender::with_header(header).keeping_starts()
                } else {
                    $appender::with_header(header)
                }
            };
            let mut open = begin(CounterResetHeader::Unknown);
            for s in samples {
                let at = time(s);
                let $value(h) = value(s) else {
                    panic!("one kind of sample a vector")
                };
                actions.push(match open.append_started(at, &h) {
                    HistogramAppend::Appended => "appended",
                    HistogramAppend::Recoded => "recoded",
                    HistogramAppend::NewChunk(header) => {
                        chunks.push(open.snapshot().data.to_vec());
                        open = begin(header);
                        assert_eq!(open.append_started(at, &h), HistogramAppend::Appended);
                        "new_chunk"
                    }
                });
            }
            chunks.push(open.snapshot().data.to_vec());
        }};
    }
    match encoding {
        Encoding::Histogram | Encoding::HistogramSt => {
            histograms!(HistogramAppender, SampleValue::Histogram)
        }
        Encoding::FloatHistogram | Encoding::FloatHistogramSt => {
            histograms!(FloatHistogramAppender, SampleValue::FloatHistogram)
        }
        Encoding::Xor2 => {
            let mut open = Xor2Appender::new();
            samples
                .iter()
                .for_each(|s| open.append(time(s), float(&s["v"])));
            chunks.push(open.snapshot().data.to_vec());
        }
        Encoding::Xor => {
            let mut open = XorAppender::new();
            samples
                .iter()
                .for_each(|s| open.append(s["t"].as_i64().unwrap(), float(&s["v"])));
            chunks.push(open.snapshot().data.to_vec());
        }
    }
    (chunks, actions)
}

#[test]
fn vectors_are_read_equal_and_written_to_the_byte() {
    let Some(golden) = shared::folder("golden/tsdb/vectors") else {
        return;
    };
    let (mut read, mut written) = (0, 0);
    for file in shared::files(&golden, "jsonl") {
        for line in std::fs::read_to_string(&file).unwrap().lines() {
            let vector: Value = serde_json::from_str(line).unwrap();
            let Some(chunks) = vector.get("chunks").and_then(Value::as_array) else {
                continue;
            };
            let name = format!("{} {}", file.display(), vector["name"]);
            let encoding = Encoding::try_from(vector["encoding"].as_u64().unwrap() as u8).unwrap();
            let samples = vector["samples"].as_array().unwrap();
            let mut given = samples.iter();
            for chunk in chunks {
                let data = shared::unhex(chunk["hex"].as_str().unwrap());
                let mut it = iter(encoding, &data).unwrap_or_else(|e| panic!("{name}: {e}"));
                let decoded = chunk.get("decoded").and_then(Value::as_array);
                for n in 0..chunk["n"].as_u64().unwrap() as usize {
                    let (t_ms, got) = it
                        .next()
                        .unwrap()
                        .unwrap_or_else(|e| panic!("{name}: sample {n}: {e}"));
                    let want = match decoded {
                        Some(list) => &list[n],
                        None => given.next().unwrap(),
                    };
                    assert_eq!(
                        Some(t_ms.get()),
                        want["t"].as_i64(),
                        "{name}: time of sample {n}"
                    );
                    let got = if decoded.is_some() {
                        got
                    } else {
                        without_hint(got, want)
                    };
                    assert!(
                        same(&got, &value(want)),
                        "{name}: sample {n}: {got:?} is not {want}"
                    );
                    assert_eq!(
                        it.start_ms(),
                        want.get("st").and_then(Value::as_i64).unwrap_or(0),
                        "{name}: start of {n}"
                    );
                    read += 1;
                }
                assert!(it.next().is_none(), "{name}: more samples than it says");
            }
            let (ours, actions) = write(encoding, samples);
            let theirs: Vec<_> = chunks
                .iter()
                .map(|c| shared::unhex(c["hex"].as_str().unwrap()))
                .collect();
            if let Some(want) = vector.get("actions").and_then(Value::as_array) {
                let want: Vec<_> = want.iter().map(|a| a.as_str().unwrap()).collect();
                assert_eq!(actions, want, "{name}");
            }
            assert_eq!(ours, theirs, "{name}");
            written += 1;
        }
    }
    assert!(read > 0 && written > 0, "the folder has vectors");
}
