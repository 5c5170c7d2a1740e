//! What does a megabyte of lines cost in a chunk, per encoding? Goals on one core: append and compress 250 MB/s with zstd and 500 MB/s with
//! snappy; a search in vain 1.5 GB/s with lz4, and not below 80 % of plain decompression with zstd and snappy.

#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lgtm_core::codec::{CompressionLevels, Compressor, OutputSize};
use lgtm_core::model::TimestampNs;
use lgtm_logstore::chunk::{
    Chunk, ChunkBuilder, ChunkCodec, ChunkEncoding, ChunkFormat, ChunkSettings,
};
use memchr::memmem;

const LINES: usize = 20_000;

struct Line {
    t_ns: i64,
    text: String,
    trace_id: String,
}

/// Lines as services write them: some 190 bytes, every fifth with a trace id in its metadata.
fn lines() -> Vec<Line> {
    let mut state = 1u64;
    let mut random = move |below: u64| {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 33) % below
    };
    let paths = [
        "/api/v1/push",
        "/api/v1/query_range",
        "/ready",
        "/metrics",
        "/login",
    ];
    let mut t_ns = 1_700_000_000_000_000_000;
    (0..LINES)
        .map(|n| {
            t_ns += 1_000 + random(5_000_000) as i64;
            let id = format!("{:016x}{:016x}", random(1 << 31) << 20, random(1 << 31));
            Line {
                t_ns,
                text: format!(
                    "level={} ts=2023-11-14T22:{:02}:{:02}.{:03}Z caller=http.go:{} method=GET path={} status={} duration={}.{}ms traceID={id} msg=\"request done\" user=user-{}",
                    ["info", "info", "info", "warn", "error"][random(5) as usize],
                    n / 1200 % 60, n / 20 % 60, random(1000), 100 + random(9),
                    paths[random(5) as usize], [200, 200, 200, 404, 500][random(5) as usize],
                    random(900), random(1000), random(5000),
                ),
                trace_id: match n % 5 {
                    0 => id,
                    _ => String::new(),
                },
            }
        })
        .collect()
}

fn build(lines: &[Line], encoding: ChunkEncoding, compressor: &mut Compressor) -> Vec<u8> {
    let settings = ChunkSettings {
        encoding,
        ..ChunkSettings::default()
    };
    let mut chunk = ChunkBuilder::new(ChunkFormat::V4, Arc::new(settings));
    for line in lines {
        let metadata = [("level", "info"), ("trace_id", line.trace_id.as_str())];
        let count = if line.trace_id.is_empty() { 1 } else { 2 };
        chunk
            .append(
                TimestampNs::new(line.t_ns),
                line.text.as_bytes(),
                &metadata[..count],
            )
            .expect("lines are short");
        if chunk.is_block_full() {
            chunk.cut(compressor).expect("compresses");
        }
    }
    let mut codec = ChunkCodec::default();
    chunk
        .finish(compressor, &mut codec)
        .expect("it has entries")
        .bytes
}

fn chunk_codec(c: &mut Criterion) {
    let lines = lines();
    let bytes: usize = lines.iter().map(|l| l.text.len()).sum();
    let mut group = c.benchmark_group("chunk_codec");
    group.throughput(Throughput::Bytes(bytes as u64));
    group.sample_size(20);
    let mut compressor = ChunkSettings::default().compressor();
    for encoding in ChunkEncoding::ALL {
        group.bench_function(format!("append_and_compress/{encoding}"), |b| {
            b.iter(|| black_box(build(&lines, encoding, &mut compressor)));
        });
        let packed = build(&lines, encoding, &mut compressor);
        eprintln!("{encoding}: {bytes} bytes of lines in {}", packed.len());
        let chunk = Chunk::open(packed.clone().into()).expect("made above");
        let mut codec = ChunkCodec::default();
        group.bench_function(format!("decode/{encoding}"), |b| {
            b.iter(|| {
                let symbols = chunk.symbols(&mut codec).expect("made above");
                for place in chunk.blocks() {
                    black_box(
                        chunk
                            .read_block(place, &symbols, &mut codec)
                            .expect("made above"),
                    );
                }
            });
        });
        let absent = memmem::Finder::new("no such text");
        group.bench_function(format!("search_in_vain/{encoding}"), |b| {
            b.iter(|| {
                for place in chunk.blocks() {
                    let block = chunk.unpack_block(place, &mut codec).expect("made above");
                    assert!(absent.find(&block).is_none());
                }
            });
        });
        let mut out = Vec::new();
        group.bench_function(format!("decompress_only/{encoding}"), |b| {
            b.iter(|| {
                for place in chunk.blocks() {
                    out.clear();
                    let range = place.range().start as usize..place.range().end as usize;
                    codec
                        .decompressor
                        .decompress(
                            encoding.compression(),
                            &packed[range],
                            OutputSize::at_most(1 << 20),
                            &mut out,
                        )
                        .expect("made above");
                    black_box(&out);
                }
            });
        });
    }
    for zstd in [1, 2, 3, 6] {
        let mut compressor = Compressor::new(CompressionLevels {
            zstd,
            ..CompressionLevels::default()
        });
        let packed = build(&lines, ChunkEncoding::Zstd, &mut compressor);
        eprintln!(
            "zstd level {zstd}: {bytes} bytes of lines in {}",
            packed.len()
        );
        group.bench_function(format!("append_and_compress/zstd-{zstd}"), |b| {
            b.iter(|| black_box(build(&lines, ChunkEncoding::Zstd, &mut compressor)));
        });
    }
    group.finish();
}

criterion_group!(benches, chunk_codec);
criterion_main!(benches);
