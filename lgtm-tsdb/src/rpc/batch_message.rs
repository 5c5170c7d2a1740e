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
use hashbrown::HashMap;
use lgtm_core::codec::protobuf::{bytes_tag, put_bytes_field, put_message, put_varint_field};
use lgtm_core::codec::{Reader, put_bytes, put_svarint, put_uvarint};
use lgtm_core::model::{LabelArena, Labels, TimestampMs};
use lgtm_core::{DecodeError, Error, Result};

use super::select_message::{block_bytes, blocks};
use super::walk::{broken, put_text, walk};
use crate::chunk::{Chunk, Encoding};
use crate::select::{ChunkList, SelectEnd, SeriesChunks};

/// Bytes from which on a message is sent. One series more may be in it.
const MESSAGE_BYTES: usize = 512 << 10;
/// Labels of a series that room is made for before they are seen.
const USUAL_LABELS: usize = 32;

/// What a message says.
#[derive(Debug)]
pub(super) enum BatchMessage<E> {
    Series(Vec<SeriesChunks>),
    End(E),
}

/// Numbers of the texts of a message.
#[derive(Debug, Default)]
pub(super) struct SymbolWriter<'a> {
    numbers: HashMap<&'a str, u64>,
    bytes: Vec<u8>,
}

impl<'a> SymbolWriter<'a> {
    fn number(&mut self, text: &'a str) -> u64 {
        let next = self.numbers.len() as u64;
        *self.numbers.entry(text).or_insert_with(|| {
            put_bytes(&mut self.bytes, text.as_bytes());
            next
        })
    }

    /// Appends a label set as numbers.
    fn put_labels(&mut self, out: &mut Vec<u8>, labels: &'a Labels) {
        put_uvarint(out, labels.len() as u64);
        for (name, value) in labels.iter() {
            put_uvarint(out, self.number(name));
            put_uvarint(out, self.number(value));
        }
    }
}

/// Appends a message of the first series, as many as fit; how many those are, at least one of any.
pub(super) fn put_series(out: &mut Vec<u8>, series: &[SeriesChunks]) -> usize {
    let (mut symbols, begin) = (SymbolWriter::default(), out.len());
    let mut count = 0;
    for s in series {
        if out.len() - begin + symbols.bytes.len() >= MESSAGE_BYTES {
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
    put_bytes_field(out, 2, &symbols.bytes);
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
    let parts = Parts::of(message)?;
    if let Some(end) = parts.end {
        return select_end(end).map(BatchMessage::End);
    }
    let texts = parts.texts()?;
    let mut labels = SymbolReader::new(texts);
    let series = parts.series.iter().map(|bytes| {
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

/// Appends a message of the first label sets, as many as fit; how many those are, at least one of any.
pub(super) fn put_label_sets(out: &mut Vec<u8>, sets: &[Labels]) -> usize {
    let (mut symbols, begin) = (SymbolWriter::default(), out.len());
    let mut count = 0;
    for labels in sets {
        if out.len() - begin + symbols.bytes.len() >= MESSAGE_BYTES {
            break;
        }
        put_message(out, 1, |out| symbols.put_labels(out, labels));
        count += 1;
    }
    put_bytes_field(out, 2, &symbols.bytes);
    count
}

/// Reads a message of label sets; what its end is, the caller knows.
///
/// # Errors
/// `InvalidInput` for bytes that are none.
pub(super) fn read_label_sets(message: &[u8]) -> Result<(Vec<Labels>, Option<&[u8]>)> {
    let parts = Parts::of(message)?;
    let mut labels = SymbolReader::new(parts.texts()?);
    let sets = parts.series.iter().map(|bytes| {
        let mut r = Reader::new("label set", bytes);
        labels.read(&mut r)
    });
    Ok((sets.collect::<Result<_>>()?, parts.end))
}

/// A message, its parts not looked into.
struct Parts<'a> {
    series: Vec<&'a [u8]>,
    symbols: &'a [u8],
    end: Option<&'a [u8]>,
}

impl<'a> Parts<'a> {
    fn of(message: &'a [u8]) -> Result<Self> {
        let mut out = Self {
            series: Vec::new(),
            symbols: &[],
            end: None,
        };
        // A series has two bytes of tag and length and one of its count of labels at least.
        const LEAST_BYTES: usize = 3;
        debug_assert!(bytes_tag(1) < 0x80);
        walk("batch", message, |number, field| {
            match number {
                1 => {
                    if out.series.is_empty() {
                        out.series.reserve((message.len() / LEAST_BYTES).min(512));
                    }
                    out.series.push(field.bytes()?);
                }
                2 => out.symbols = field.bytes()?,
                3 => out.end = Some(field.bytes()?),
                _ => {}
            }
            Ok(())
        })?;
        Ok(out)
    }

    fn texts(&self) -> Result<Vec<&'a str>> {
        let (mut r, mut out) = (Reader::new("symbols", self.symbols), Vec::new());
        while !r.is_empty() {
            out.push(r.str().map_err(broken)?);
        }
        Ok(out)
    }
}

/// Makes label sets of numbers.
struct SymbolReader<'a> {
    texts: Vec<&'a str>,
    arena: LabelArena,
    pairs: Vec<(&'a str, &'a str)>,
}

impl<'a> SymbolReader<'a> {
    fn new(texts: Vec<&'a str>) -> Self {
        Self {
            texts,
            arena: LabelArena::default(),
            pairs: Vec::with_capacity(USUAL_LABELS),
        }
    }

    fn read(&mut self, r: &mut Reader<'_>) -> Result<Labels> {
        let count = r.length().map_err(broken)?;
        self.pairs.clear();
        for _ in 0..count {
            let (name, value) = (self.text(r)?, self.text(r)?);
            self.pairs.push((name, value));
        }
        self.arena.from_sorted(self.pairs.iter().copied())
    }

    fn text(&self, r: &mut Reader<'_>) -> Result<&'a str> {
        let number = r.uvarint().map_err(broken)?;
        let text = usize::try_from(number).ok().and_then(|n| self.texts.get(n));
        text.copied().ok_or_else(|| {
            Error::InvalidInput(format!(
                "symbol {number} of a message that has {}",
                self.texts.len()
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::BlockId;
    use crate::select::FetchStats;
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
