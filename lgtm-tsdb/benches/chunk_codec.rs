//! What does a sample cost in a chunk? Goals on regular counters, one core: encode 100 M samples/s, decode 150 M samples/s.

#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lgtm_core::model::{BucketSpan, Histogram, TimestampMs};
use lgtm_tsdb::chunk::{Encoding, HistogramAppender, XorAppender, XorIter, iter};

const SAMPLES: i64 = 120;
const SERIES: usize = 100;
const INTERVAL_MS: i64 = 15_000;

/// Values by series and sample.
type Shape = fn(usize, i64) -> f64;

/// A counter that grows by the same amount, one that grows unevenly, a constant, and noise.
const SHAPES: [(&str, Shape); 4] = [
    ("regular_counter", |s, i| (s as i64 * 1000 + i * 15) as f64),
    ("uneven_counter", |s, i| {
        (s as i64 * 1000 + i * 15 + (i * i * 7) % 13) as f64
    }),
    ("constant", |s, _| s as f64),
    ("noise", |s, i| ((s as f64 + 1.7) * (i as f64 + 0.3)).sin()),
];

fn time(i: i64) -> i64 {
    1_700_000_000_000 + i * INTERVAL_MS
}

fn xor(c: &mut Criterion) {
    let mut group = c.benchmark_group("xor");
    group.throughput(Throughput::Elements((SAMPLES as usize * SERIES) as u64));
    for (name, shape) in SHAPES {
        let values: Vec<Vec<f64>> = (0..SERIES)
            .map(|s| (0..SAMPLES).map(|i| shape(s, i)).collect())
            .collect();
        group.bench_function(format!("encode/{name}"), |b| {
            let mut out = Vec::new();
            b.iter(|| {
                for series in &values {
                    let mut chunk = XorAppender::new();
                    for (i, v) in series.iter().enumerate() {
                        chunk.append(time(i as i64), *v);
                    }
                    out.clear();
                    chunk.encode_into(&mut out);
                    black_box(&out);
                }
            });
        });
        let chunks: Vec<Vec<u8>> = values
            .iter()
            .map(|series| {
                let mut chunk = XorAppender::new();
                for (i, v) in series.iter().enumerate() {
                    chunk.append(time(i as i64), *v);
                }
                chunk.snapshot().data.to_vec()
            })
            .collect();
        group.bench_function(format!("decode/{name}"), |b| {
            b.iter(|| {
                for chunk in &chunks {
                    let mut samples = XorIter::new(chunk).expect("made above");
                    while let Ok(Some(s)) = samples.next_sample() {
                        black_box(s);
                    }
                }
            });
        });
        group.bench_function(format!("decode_in_bulk/{name}"), |b| {
            let (mut times, mut samples) = (Vec::new(), Vec::new());
            b.iter(|| {
                for chunk in &chunks {
                    times.clear();
                    samples.clear();
                    let chunk = XorIter::new(chunk).expect("made above");
                    let push = |t_ms, value| {
                        times.push(t_ms);
                        samples.push(value);
                    };
                    black_box(chunk.for_each(push).is_ok());
                }
            });
        });
    }
    group.finish();
}

/// A latency histogram of 20 buckets that grows.
fn histogram_at(i: i64) -> Histogram {
    let counts: Vec<i64> = (0..20).map(|b| (i + 1) * (1 + b % 5)).collect();
    let deltas = counts.iter().scan(0, |last, n| {
        let d = n - *last;
        *last = *n;
        Some(d)
    });
    Histogram {
        schema: 3,
        zero_threshold: 1e-128,
        count: counts.iter().sum::<i64>() as u64,
        sum: i as f64 * 12.5,
        positive_spans: vec![BucketSpan {
            offset: -4,
            length: 20,
        }],
        positive_deltas: deltas.collect(),
        ..Histogram::default()
    }
}

fn histogram(c: &mut Criterion) {
    let mut group = c.benchmark_group("histogram");
    group.throughput(Throughput::Elements(SAMPLES as u64));
    let samples: Vec<Histogram> = (0..SAMPLES).map(histogram_at).collect();
    let fill = || {
        let mut chunk = HistogramAppender::new();
        for (i, h) in samples.iter().enumerate() {
            black_box(chunk.append(TimestampMs::new(time(i as i64)), h));
        }
        chunk
    };
    group.bench_function("encode/20_buckets", |b| b.iter(fill));
    let data = fill().snapshot().data;
    group.bench_function("decode/20_buckets", |b| {
        b.iter(|| {
            let samples = iter(Encoding::Histogram, &data).expect("made above");
            samples.filter(Result::is_ok).count()
        });
    });
    group.finish();
}

criterion_group!(benches, xor, histogram);
criterion_main!(benches);
