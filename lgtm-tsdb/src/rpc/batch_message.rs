//! Series on their way to who has asked: each text once a message.
//!
//! ```text
//! message = { series = 1, repeated; symbols = 2; end = 3 }
//! series  = labels, as many times (name, value) as symbols' numbers; then chunks, to its end
//! chunk   = min_ms zig-zag, (max_ms - min_ms) varint, encoding u8, length, data
//! symbols = each text with its length
//! end     = { warnings = 1, repeated; series = 2; chunks = 3; chunk_bytes = 4; blocks = 5 }, in the last message
//! ```
//!
//! All numbers are varints. Names and values of neighbours are mostly the same, so that a series costs some bytes beside its chunks.

use bytes::Bytes;
use lgtm_core::codec::protobuf::{put_bytes_field, put_message, put_varint_field};
use lgtm_core::codec::{Reader, put_bytes, put_svarint, put_uvarint};
use lgtm_core::model::TimestampMs;
use lgtm_core::rpc::messages::{
    LabelledMessage, MESSAGE_BYTES, SymbolReader, SymbolWriter, broken, put_text, walk,
};
use lgtm_core::{DecodeError, Result};

use super::select_message::{block_bytes, blocks};
use crate::chunk::{Chunk, Encoding};
use crate::select::{ChunkList, SelectEnd, SeriesChunks};

/// What a message says.
#[derive(Debug)]
pub(super) enum BatchMessage<E> {
    Series(Vec<SeriesChunks>),
    End(E),
}

/// Appends a message of the first series, as many as fit; how many those are, at least one of any.
pub(super) fn put_series(out: &mut Vec<u8>, series: &[SeriesChunks]) -> usize {
    let (mut symbols, begin) = (SymbolWriter::default(), out.len());
    let mut count = 0;
    for s in series {
        if out.len() - begin + symbols.len() >= MESSAGE_BYTES {
            break;
        }
        let chunk_bytes: usize = s.chunks.iter().map(|c| c.data.len() + 16).sum();
        out.reserve(chunk_bytes);
        put_message(out, 1, |out| {
            symbols.put_labels(out, &s.labels);
            s.chunks.iter().for_each(|c| put_chunk(out, c));
        });
        count += 1;
    }
    put_bytes_field(out, 2, symbols.bytes());
    count
}

fn put_chunk(out: &mut Vec<u8>, chunk: &Chunk) {
    let (min, max) = (chunk.min_ms.get(), chunk.max_ms.get());
    put_svarint(out, min);
    put_uvarint(out, max.wrapping_sub(min) as u64);
    out.push(chunk.encoding as u8);
    put_bytes(out, &chunk.data);
}

/// Appends the last message.
pub(super) fn put_end(out: &mut Vec<u8>, end: &SelectEnd) {
    put_message(out, 3, |out| {
        end.warnings.iter().for_each(|w| put_text(out, 1, w));
        put_varint_field(out, 2, end.stats.series);
        put_varint_field(out, 3, end.stats.chunks);
        put_varint_field(out, 4, end.stats.chunk_bytes);
        put_bytes_field(out, 5, &block_bytes(&end.blocks));
    });
}

/// Reads a message. Chunks share its memory.
///
/// # Errors
/// `InvalidInput` for bytes that are none.
pub(super) fn read(message: &Bytes) -> Result<BatchMessage<SelectEnd>> {
    let parts = LabelledMessage::of(message)?;
    if let Some(end) = parts.end {
        return select_end(end).map(BatchMessage::End);
    }
    let texts = parts.texts()?;
    let mut labels = SymbolReader::new(texts);
    let series = parts.items.iter().map(|bytes| {
        let mut r = Reader::new("series", bytes);
        Ok(SeriesChunks {
            labels: labels.read(&mut r)?,
            chunks: chunks(&mut r, message).map_err(broken)?,
        })
    });
    series.collect::<Result<_>>().map(BatchMessage::Series)
}

fn chunks(r: &mut Reader<'_>, message: &Bytes) -> Result<ChunkList, DecodeError> {
    let mut out = ChunkList::new();
    while !r.is_empty() {
        let min = r.svarint()?;
        let max = min.wrapping_add(r.uvarint()? as i64);
        let encoding = Encoding::try_from(r.u8()?)?;
        out.push(Chunk {
            min_ms: TimestampMs::new(min),
            max_ms: TimestampMs::new(max),
            encoding,
            data: message.slice_ref(r.bytes()?),
        });
    }
    Ok(out)
}

fn select_end(message: &[u8]) -> Result<SelectEnd> {
    let mut out = SelectEnd::default();
    walk("end", message, |number, field| {
        match number {
            1 => out.warnings.push(field.string()?),
            2 => out.stats.series = field.number()?,
            3 => out.stats.chunks = field.number()?,
            4 => out.stats.chunk_bytes = field.number()?,
            5 => out.blocks = blocks(field.bytes()?)?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::BlockId;
    use crate::select::FetchStats;
    use lgtm_core::model::Labels;
    use lgtm_core::rpc::messages::read_label_sets;
    use proptest::prelude::*;

    fn labels(n: usize) -> Labels {
        let n = n.to_string();
        Labels::from_pairs([("__name__", "up"), ("job", "ä"), ("n", n.as_str())]).unwrap()
    }

    fn chunk(min: i64, max: i64, encoding: Encoding, bytes: usize) -> Chunk {
        Chunk {
            min_ms: TimestampMs::new(min),
            max_ms: TimestampMs::new(max),
            encoding,
            data: vec![7; bytes].into(),
        }
    }

    fn told(series: &[SeriesChunks]) -> String {
        format!("{series:?}")
    }

    #[test]
    fn series_arrive_as_they_were_in_messages_of_bounded_size() {
        let mut all: Vec<SeriesChunks> = (0..3000)
            .map(|n| SeriesChunks {
                labels: labels(n),
                chunks: (0..n % 4)
                    .map(|c| chunk(c as i64 * 5, c as i64 * 5 + 4, Encoding::Xor, 300))
                    .collect(),
            })
            .collect();
        all.push(SeriesChunks {
            labels: Labels::empty(),
            chunks: [
                chunk(i64::MIN, i64::MAX, Encoding::FloatHistogramSt, 0),
                chunk(-5, -5, Encoding::Histogram, 900_000),
            ]
            .into_iter()
            .collect(),
        });
        let (mut back, mut at, mut messages) = (Vec::new(), 0, 0);
        while at < all.len() {
            let mut out = Vec::new();
            at += put_series(&mut out, &all[at..]);
            assert!(out.len() < 2 * MESSAGE_BYTES + 900_000);
            messages += 1;
            match read(&out.into()).unwrap() {
                BatchMessage::Series(series) => back.extend(series),
                BatchMessage::End(end) => panic!("{end:?}"),
            }
        }
        assert!(messages > 2);
        assert!(told(&back) == told(&all));
        let mut out = Vec::new();
        let end = SelectEnd {
            warnings: vec!["one".into(), "zwö".into()],
            stats: FetchStats {
                series: 1,
                chunks: 2,
                chunk_bytes: u64::MAX,
            },
            blocks: vec![BlockId::new(1, [2; 10]), BlockId::new(3, [4; 10])],
        };
        put_end(&mut out, &end);
        match read(&out.into()).unwrap() {
            BatchMessage::End(back) => assert_eq!(back, end),
            BatchMessage::Series(series) => panic!("{series:?}"),
        }
    }

    /// As version 1 wrote it; never rewritten. `LGTM_MAKE_GOLDEN=1` makes one that is missing.
    #[test]
    fn series_of_an_earlier_version_are_read() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/golden/rpc-v1/series.bin"
        );
        let chunks = |n: usize| {
            let encodings = [
                Encoding::Xor,
                Encoding::Histogram,
                Encoding::FloatHistogramSt,
            ];
            let all = encodings.iter().enumerate().take(n);
            all.map(|(i, e)| chunk(i as i64 * 7 - 7, i as i64 * 7, *e, i + 2))
                .collect()
        };
        let all: Vec<_> = (0..4)
            .map(|n| SeriesChunks {
                labels: labels(n),
                chunks: chunks(n),
            })
            .collect();
        let mut written = Vec::new();
        assert_eq!(put_series(&mut written, &all), 4);
        if std::env::var_os("LGTM_MAKE_GOLDEN").is_some() && !std::fs::exists(path).unwrap() {
            std::fs::write(path, &written).unwrap();
        }
        let golden = std::fs::read(path).unwrap();
        assert!(written == golden, "a new version gets a folder of its own");
        match read(&golden.into()).unwrap() {
            BatchMessage::Series(back) => assert!(told(&back) == told(&all)),
            BatchMessage::End(end) => panic!("{end:?}"),
        }
    }

    #[test]
    fn numbers_without_texts_and_labels_out_of_order_are_refused() {
        for numbers in [[1u8, 0, 9], [1, 9, 0], [2, 0, 0], [200, 0, 0]] {
            let mut out = Vec::new();
            put_bytes_field(&mut out, 1, &numbers);
            put_bytes_field(&mut out, 2, b"\x01a");
            assert!(read(&out.into()).is_err(), "{numbers:?}");
        }
        let mut twice = Vec::new();
        put_bytes_field(&mut twice, 1, &[2, 0, 0, 0, 0]);
        put_bytes_field(&mut twice, 2, b"\x01a");
        assert!(read(&twice.into()).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let mut out = Vec::new();
            put_bytes_field(&mut out, 1, &bytes);
            put_bytes_field(&mut out, 2, b"\x01a\x01b");
            let _ = read(&out.into());
            let _ = read_label_sets(&bytes);
            let _ = read(&bytes.into());
        }
    }
}
