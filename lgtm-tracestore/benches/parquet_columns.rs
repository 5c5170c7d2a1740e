//! How many values a second come out of a block's columns, ours beside the `parquet` crate's reader of columns.
//!
//! Goals, one core: numbers of dictionary entries >= 300 M/s, deltas of 64 bits >= 400 M/s, levels of nested keys >= 200 M/s.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use lgtm_core::codec::Allowance;
use lgtm_tracestore::schema::{
    BlockFile, BlockVersion, BlockWriter, BlockWriterSettings, ColumnDecoder, KeyedAttributes,
    LeafIndex, Levels, RowPlan, RowReader, SpanRows,
};
use lgtm_tracestore::trace::{
    Attribute, DedicatedColumns, ResourceSpans, ScopeSpans, Span, Trace, TraceId, Value,
};
use parquet::column::reader::ColumnReader;
use parquet::data_type::{ByteArrayType, DataType, Int64Type};
use parquet::file::reader::{FileReader, SerializedFileReader};

const TRACES: usize = 10_000;
const SPANS: usize = 25;

/// Numbers without a pattern, the same every time.
fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

fn write_trace(writer: &mut BlockWriter<Vec<u8>>, n: usize, state: &mut u64, names: &[String]) {
    let id = TraceId::new((n as u128 + 1).to_be_bytes());
    let numbers: Vec<[u64; 6]> = (0..SPANS)
        .map(|_| std::array::from_fn(|_| next(state)))
        .collect();
    let ids: Vec<_> = numbers.iter().map(|n| n[0].to_be_bytes()).collect();
    let paths: Vec<_> = (numbers.iter())
        .map(|n| format!("/api/v1/items/{}", n[1] % 5000))
        .collect();
    let span = |i: usize| {
        let text = |key, value| Attribute {
            key,
            value: Value::Text(value),
        };
        let number = numbers[i];
        Span {
            trace_id: id.as_bytes(),
            span_id: &ids[i],
            parent_span_id: if i > 0 { &ids[i / 2] } else { &[] },
            name: names[(number[2] % 300) as usize].as_bytes(),
            kind: (number[2] % 6) as i32,
            start_ns: 1_751_000_000_000_000_000 + n as u64 * 1_000_000 + number[3] % 1_000_000_000,
            end_ns: 1_751_000_001_000_000_000 + n as u64 * 1_000_000 + number[4] % 1_000_000_000,
            attributes: vec![
                text(b"http.request.method", b"GET"),
                text(b"url.path", paths[i].as_bytes()),
                text(
                    b"net.peer.name",
                    names[(number[5] % 50) as usize].as_bytes(),
                ),
                Attribute {
                    key: b"http.response.status_code",
                    value: Value::Int((200 + number[5] % 5) as i64),
                },
                text(b"thread.name", b"worker"),
            ],
            ..Span::default()
        }
    };
    let service = Attribute {
        key: b"service.name",
        value: Value::Text(names[n % 20].as_bytes()),
    };
    let trace = Trace {
        resources: vec![ResourceSpans {
            attributes: vec![service],
            scopes: vec![ScopeSpans {
                name: b"library",
                spans: (0..SPANS).map(span).collect(),
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    };
    writer.append(id, &trace).expect("in order");
}

fn block() -> Vec<u8> {
    let mut writer = BlockWriter::new(Vec::new(), BlockWriterSettings::default()).expect("a vec");
    let names: Vec<_> = (0..300).map(|n| format!("operation {n}")).collect();
    let mut state = 0x9e37_79b9_7f4a_7c15;
    for n in 0..TRACES {
        write_trace(&mut writer, n, &mut state, &names);
    }
    writer.finish().expect("a vec").0
}

fn allowed<T>(f: impl FnOnce(&mut Allowance<'_>) -> T) -> T {
    let mut grow = |_| Ok(());
    f(&mut Allowance::new(0, &mut grow))
}

fn open(bytes: &[u8]) -> BlockFile {
    let size = bytes.len() as u64;
    let mut len = [0; 4];
    len.copy_from_slice(&bytes[bytes.len() - 8..bytes.len() - 4]);
    let range = BlockFile::footer_range(size, u32::from_le_bytes(len)).expect("a footer");
    let footer = &bytes[range.start as usize..];
    allowed(|a| BlockFile::decode(footer, size, a)).expect("our footer")
}

/// Decodes a column; entries of its levels.
fn ours(file: &BlockFile, bytes: &[u8], leaf: LeafIndex, levels: Levels) -> usize {
    let (leaf, chunk) = file.chunk(0, leaf).expect("a leaf");
    let range = chunk.range.start as usize..chunk.range.end as usize;
    let mut decoder = ColumnDecoder::new(leaf, chunk, levels);
    allowed(|a| decoder.pages(&bytes[range], a)).expect("our pages");
    black_box(decoder.finish()).entries
}

fn theirs<T: DataType>(file: &SerializedFileReader<bytes::Bytes>, leaf: LeafIndex) -> usize
where
    T::T: Default,
{
    let group = file.get_row_group(0).expect("a row group");
    let column: ColumnReader = group.get_column_reader(leaf).expect("a column");
    let mut reader = parquet::column::reader::get_typed_column_reader::<T>(column);
    let (mut values, mut def, mut rep) = (Vec::new(), Vec::new(), Vec::new());
    let mut levels = 0;
    loop {
        values.clear();
        def.clear();
        rep.clear();
        let (rows, _, some) = reader
            .read_records(65_536, Some(&mut def), Some(&mut rep), &mut values)
            .expect("our pages");
        if rows == 0 {
            return levels;
        }
        black_box(&values);
        levels += some;
    }
}

fn main() {
    let bytes = block();
    let file = open(&bytes);
    let crate_file = SerializedFileReader::new(bytes::Bytes::from(bytes.clone())).expect("a file");
    let spans = (TRACES * SPANS) as u64;
    let positions = &file.positions;
    let (name, start) = (positions.span.name, positions.span.start);
    let list = &positions.span.attributes;
    let (Some(name), Some(start), Some(key), Some(text), Some(id)) =
        (name, start, list.key, list.text, positions.span.span_id)
    else {
        return;
    };
    let entries = |leaf| file.chunk(0, leaf).expect("a leaf").1.entries;
    let mut c = Criterion::default().sample_size(20).configure_from_args();
    for (what, leaf, levels) in [
        ("name: dictionary indices", name, Levels::None),
        ("name: dictionary indices and levels", name, Levels::All),
        ("start: deltas", start, Levels::None),
        ("start: deltas and levels", start, Levels::All),
        ("attribute keys: indices and levels", key, Levels::All),
        ("attribute texts: indices and levels", text, Levels::All),
        ("span ids: delta length", id, Levels::None),
    ] {
        let mut group = c.benchmark_group(what);
        group.throughput(Throughput::Elements(entries(leaf)));
        group.bench_function("ours", |b| b.iter(|| ours(&file, &bytes, leaf, levels)));
        group.bench_function("parquet crate", |b| {
            b.iter(|| {
                if leaf == start {
                    theirs::<Int64Type>(&crate_file, leaf)
                } else {
                    theirs::<ByteArrayType>(&crate_file, leaf)
                }
            });
        });
        group.finish();
    }
    let mut group = c.benchmark_group("rows");
    group.throughput(Throughput::Elements(spans));
    let dedicated = DedicatedColumns::default();
    group.bench_function("a row group to protobuf, by span", |b| {
        b.iter(|| {
            allowed(|a| {
                let plan = RowPlan::row_group(&file, 0);
                let version = BlockVersion::V4;
                let mut rows =
                    RowReader::open(&file, &plan, version, &dedicated, bytes.as_slice(), a)
                        .expect("our rows");
                let mut out = Vec::new();
                while rows.next(&mut out, a).expect("our rows").is_some() {
                    out.clear();
                }
            });
        });
    });
    group.sample_size(10);
    group.bench_function("written, by span", |b| b.iter(block));
    group.bench_function("span rows and owners of attributes, by span", |b| {
        let column = |leaf| {
            let (leaf, chunk) = file.chunk(0, leaf).expect("a leaf");
            let range = chunk.range.start as usize..chunk.range.end as usize;
            let mut decoder = ColumnDecoder::new(leaf, chunk, Levels::All);
            allowed(|a| decoder.pages(&bytes[range], a)).expect("our pages");
            decoder.finish()
        };
        let (ids, keys) = (column(id), column(key));
        b.iter(|| {
            allowed(|a| {
                black_box(SpanRows::new(&ids, a)).expect("ids");
                black_box(KeyedAttributes::find(&keys, b"url.path", a)).expect("keys");
            });
        });
    });
    group.finish();
    c.final_summary();
}
