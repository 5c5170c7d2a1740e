//! Entries on their way to who has asked: each text once a message.
//!
//! ```text
//! message = { block = 1, repeated; symbols = 2; end = 3; horizon_ns = 4; times = 5; counts = 6, repeated }
//! block   = labels, as many times (name, value) as symbols' numbers; number of entries; times, the first zig-zag, then differences; lengths of lines;
//!           number of pairs of all entries, then, if there are any, for each entry their number and (name, value) as symbols' numbers; lines
//! symbols = each text with its length
//! times   = { is_known = 1; min_ns = 2; max_ns = 3 }, alone in the first message
//! counts  = labels as above; 0, or 1 and the level as a symbol's number; then cells to its end: time zig-zag, lines, bytes
//! end     = { warnings = 1, repeated; statistics = 2 .. 13, in the order of the type }, alone in the last message
//! ```
//!
//! All numbers are varints. A batch that is too long for one message goes in several, of which the last one has its horizon: to those before it the one
//! of the batch before applies. Lines share the memory of the message that they came in.

use std::sync::Arc;

use bytes::Bytes;
use lgtm_core::codec::protobuf::{put_bytes_field, put_message, put_varint_field};
use lgtm_core::codec::{Reader, put_svarint, put_uvarint};
use lgtm_core::model::{TimeRangeNs, TimestampNs};
use lgtm_core::rpc::messages::{
    MESSAGE_BYTES, SymbolReader, SymbolWriter, broken, put_text, put_time_ns, walk,
};
use lgtm_core::{DecodeError, Error, Result};

use super::select_message::put_range;
use crate::entry::{EntryBlock, EntryBlockBuilder, SymbolList, SymbolPair};
use crate::select::{CountCell, FetchStats, SelectEnd, StreamBlock, StreamCounts};

/// What a message says.
#[derive(Debug)]
pub(super) enum EntriesMessage {
    /// Which times the answer has, where that is known.
    Times(Option<TimeRangeNs>),
    /// Blocks, and the horizon behind them if the batch ends with them.
    Blocks(Vec<StreamBlock>, Option<TimestampNs>),
    Counts(Vec<StreamCounts>),
    End(SelectEnd),
}

/// Cuts blocks that are longer than a message should be. Never between entries of one time, which belong into one block.
pub(super) fn in_pieces(blocks: Vec<StreamBlock>) -> Vec<StreamBlock> {
    let mut out = Vec::with_capacity(blocks.len());
    for StreamBlock { labels, block } in blocks {
        let (mut first, mut bytes) = (0, 0);
        for n in 0..block.len() {
            let is_new_time = n > first && block.times()[n] != block.times()[n - 1];
            if bytes >= MESSAGE_BYTES && is_new_time {
                out.push(StreamBlock {
                    labels: labels.clone(),
                    block: block.slice(first..n),
                });
                (first, bytes) = (n, 0);
            }
            bytes += block.lines()[n].len();
        }
        if first < block.len() {
            let block = block.slice(first..block.len());
            out.push(StreamBlock { labels, block });
        }
    }
    out
}

pub(super) fn put_times(out: &mut Vec<u8>, times: Option<TimeRangeNs>) {
    put_message(out, 5, |out| {
        put_varint_field(out, 1, u64::from(times.is_some()));
        if let Some(times) = times {
            put_range(out, 2, times);
        }
    });
}

/// Appends a message of the first blocks, as many as fit; how many those are, at least one of any. The horizon goes with the last of them.
pub(super) fn put_blocks(
    out: &mut Vec<u8>,
    blocks: &[StreamBlock],
    horizon_ns: TimestampNs,
) -> usize {
    let (mut symbols, begin) = (SymbolWriter::default(), out.len());
    let mut count = 0;
    for b in blocks {
        if out.len() - begin + symbols.len() >= MESSAGE_BYTES {
            break;
        }
        out.reserve(b.block.line_bytes() as usize + 8 * b.block.len());
        put_message(out, 1, |out| put_block(out, b, &mut symbols));
        count += 1;
    }
    put_bytes_field(out, 2, symbols.bytes());
    if count == blocks.len() {
        put_time_ns(out, 4, horizon_ns);
    }
    count
}

fn put_block<'a>(out: &mut Vec<u8>, b: &'a StreamBlock, symbols: &mut SymbolWriter<'a>) {
    let block = &b.block;
    symbols.put_labels(out, &b.labels);
    put_uvarint(out, block.len() as u64);
    let mut last_ns = 0i64;
    for (n, t) in block.times().iter().enumerate() {
        if n == 0 {
            put_svarint(out, t.get());
        } else {
            put_uvarint(out, t.get().wrapping_sub(last_ns) as u64);
        }
        last_ns = t.get();
    }
    for line in block.lines() {
        put_uvarint(out, line.len() as u64);
    }
    let pairs: usize = (0..block.len()).map(|n| block.metadata(n).len()).sum();
    put_uvarint(out, pairs as u64);
    if pairs > 0 {
        let list = &**block.symbols();
        let mut known: Vec<Option<u64>> = vec![None; list.len()];
        let mut number = |symbol: u32| match known.get_mut(symbol as usize) {
            Some(Some(number)) => *number,
            Some(unknown) => *unknown.insert(symbols.number(list.get(symbol))),
            None => symbols.number(""),
        };
        for n in 0..block.len() {
            let pairs = block.metadata(n);
            put_uvarint(out, pairs.len() as u64);
            for pair in pairs {
                put_uvarint(out, number(pair.name));
                put_uvarint(out, number(pair.value));
            }
        }
    }
    (0..block.len()).for_each(|n| out.extend_from_slice(block.line(n)));
}

/// Appends a message of the first counts, as many as fit; how many those are, at least one of any.
pub(super) fn put_counts(out: &mut Vec<u8>, counts: &[StreamCounts]) -> usize {
    let (mut symbols, begin) = (SymbolWriter::default(), out.len());
    let mut count = 0;
    for of in counts {
        if out.len() - begin + symbols.len() >= MESSAGE_BYTES {
            break;
        }
        put_message(out, 6, |out| {
            symbols.put_labels(out, &of.labels);
            match &of.level {
                None => put_uvarint(out, 0),
                Some(level) => {
                    put_uvarint(out, 1);
                    put_uvarint(out, symbols.number(level));
                }
            }
            for cell in &of.cells {
                put_svarint(out, cell.t_ns.get());
                put_uvarint(out, cell.lines);
                put_uvarint(out, cell.bytes);
            }
        });
        count += 1;
    }
    put_bytes_field(out, 2, symbols.bytes());
    count
}

/// Appends the last message.
pub(super) fn put_end(out: &mut Vec<u8>, end: &SelectEnd) {
    put_message(out, 3, |out| {
        end.warnings.iter().for_each(|w| put_text(out, 1, w));
        let mut stats = end.stats;
        for (n, stat) in fields(&mut stats).into_iter().enumerate() {
            put_varint_field(out, 2 + n as u64, *stat);
        }
    });
}

/// The statistics in the order of their numbers.
fn fields(stats: &mut FetchStats) -> [&mut u64; 12] {
    [
        &mut stats.streams,
        &mut stats.chunks_referenced,
        &mut stats.chunks_downloaded,
        &mut stats.chunks_download_ns,
        &mut stats.compressed_bytes,
        &mut stats.decompressed_bytes,
        &mut stats.decompressed_lines,
        &mut stats.decompressed_metadata_bytes,
        &mut stats.head_bytes,
        &mut stats.head_lines,
        &mut stats.head_metadata_bytes,
        &mut stats.duplicates,
    ]
}

/// Reads a message. Lines share its memory.
///
/// # Errors
/// `InvalidInput` for bytes that are none.
pub(super) fn read(message: &Bytes) -> Result<EntriesMessage> {
    let (mut blocks, mut counts): (Vec<&[u8]>, Vec<&[u8]>) = (Vec::new(), Vec::new());
    let (mut symbols, mut horizon): (&[u8], _) = (&[], None);
    let mut alone = None;
    walk("entries", message, |number, field| {
        match number {
            1 => blocks.push(field.bytes()?),
            2 => symbols = field.bytes()?,
            3 => alone = Some(EntriesMessage::End(select_end(field.bytes()?)?)),
            4 => horizon = Some(field.time_ns()?),
            5 => alone = Some(EntriesMessage::Times(times(field.bytes()?)?)),
            6 => counts.push(field.bytes()?),
            _ => {}
        }
        Ok(())
    })?;
    if let Some(alone) = alone {
        return Ok(alone);
    }
    let texts = texts(symbols)?;
    let list = SymbolList::from_texts(texts.iter().map(|t| t.as_bytes()));
    let list = Arc::new(list);
    let mut labels = SymbolReader::new(texts);
    if !counts.is_empty() {
        let counts = counts.into_iter().map(|bytes| {
            let mut r = Reader::new("counts", bytes);
            stream_counts(&mut labels, &mut r)
        });
        return counts.collect::<Result<_>>().map(EntriesMessage::Counts);
    }
    let blocks = blocks.into_iter().map(|bytes| {
        let mut r = Reader::new("block", bytes);
        Ok(StreamBlock {
            labels: labels.read(&mut r)?,
            block: block(&mut r, bytes, message, &list).map_err(broken)?,
        })
    });
    let blocks = blocks.collect::<Result<_>>()?;
    Ok(EntriesMessage::Blocks(blocks, horizon))
}

fn texts(symbols: &[u8]) -> Result<Vec<&str>> {
    let (mut r, mut out) = (Reader::new("symbols", symbols), Vec::new());
    while !r.is_empty() {
        out.push(r.str().map_err(broken)?);
    }
    Ok(out)
}

fn block(
    r: &mut Reader<'_>,
    bytes: &[u8],
    message: &Bytes,
    symbols: &Arc<SymbolList>,
) -> Result<EntryBlock, DecodeError> {
    // An entry takes two bytes at least.
    let count = r.length()?;
    let (mut t_ns, mut times) = (0i64, Vec::with_capacity(count.min(bytes.len())));
    for n in 0..count {
        t_ns = match n {
            0 => r.svarint()?,
            _ => t_ns.wrapping_add(r.uvarint()? as i64),
        };
        times.push(TimestampNs::new(t_ns));
    }
    if !times.is_sorted() {
        return Err(r.error("times of entries do not ascend"));
    }
    let mut lengths = Vec::with_capacity(count.min(bytes.len()));
    for _ in 0..count {
        lengths.push(r.length()?);
    }
    let pairs = r.uvarint()?;
    let mut metadata = Vec::new();
    if pairs > 0 {
        for _ in 0..count {
            let own = r.length()?;
            metadata.push(own);
            for _ in 0..2 * own {
                metadata.push(symbol(r, symbols)?);
            }
        }
    }
    let lines = &bytes[r.position()..];
    let mut out = EntryBlockBuilder::over(message.slice_ref(lines));
    out.reserve(count.min(bytes.len()));
    let (mut at, mut metadata) = (0, metadata.into_iter());
    for (t_ns, len) in times.into_iter().zip(lengths) {
        out.push(t_ns, at..at + len)?;
        at += len;
        for _ in 0..metadata.next().unwrap_or(0) {
            let pair = metadata.next().zip(metadata.next());
            let (name, value) = pair.unwrap_or_default();
            out.push_metadata(SymbolPair {
                name: name as u32,
                value: value as u32,
            });
        }
    }
    Ok(out.finish(Arc::clone(symbols)))
}

fn symbol(r: &mut Reader<'_>, symbols: &SymbolList) -> Result<usize, DecodeError> {
    let number = r.uvarint()?;
    let known = usize::try_from(number).ok().filter(|n| *n < symbols.len());
    known.ok_or_else(|| {
        let count = symbols.len();
        r.error(format!("symbol {number} of a message that has {count}"))
    })
}

fn stream_counts(labels: &mut SymbolReader<'_>, r: &mut Reader<'_>) -> Result<StreamCounts> {
    let mut out = StreamCounts {
        labels: labels.read(r)?,
        level: None,
        cells: Vec::new(),
    };
    if r.uvarint().map_err(broken)? != 0 {
        out.level = Some(labels.text(r)?.to_owned());
    }
    while !r.is_empty() {
        out.cells.push(cell(r).map_err(broken)?);
    }
    Ok(out)
}

fn cell(r: &mut Reader<'_>) -> Result<CountCell, DecodeError> {
    Ok(CountCell {
        t_ns: TimestampNs::new(r.svarint()?),
        lines: r.uvarint()?,
        bytes: r.uvarint()?,
    })
}

fn times(message: &[u8]) -> Result<Option<TimeRangeNs>> {
    let (mut is_known, mut range) = (false, TimeRangeNs::new(0, 0));
    walk("times", message, |number, field| {
        match number {
            1 => is_known = field.flag()?,
            2 => range.min_ns = field.time_ns()?,
            3 => range.max_ns = field.time_ns()?,
            _ => {}
        }
        Ok::<_, Error>(())
    })?;
    Ok(is_known.then_some(range))
}

fn select_end(message: &[u8]) -> Result<SelectEnd> {
    let mut out = SelectEnd::default();
    walk("end", message, |number, field| {
        if number == 1 {
            out.warnings.push(field.string()?);
        } else if let Some(stat) = fields(&mut out.stats)
            .into_iter()
            .nth(number.wrapping_sub(2) as usize)
        {
            *stat = field.number()?;
        }
        Ok(())
    })?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lgtm_core::model::Labels;
    use proptest::prelude::*;

    use crate::entry::SymbolListBuilder;

    type Plain = (i64, Vec<u8>, Vec<(String, String)>);

    fn block_of(stream: usize, entries: &[Plain]) -> StreamBlock {
        let (mut symbols, mut out) = (SymbolListBuilder::default(), EntryBlockBuilder::copying(0));
        for (t_ns, line, metadata) in entries {
            out.push_copy(*t_ns, line).unwrap();
            for (name, value) in metadata {
                let (name, value) = (symbols.intern(name), symbols.intern(value));
                let (name, value) = (name.unwrap(), value.unwrap());
                out.push_metadata(SymbolPair { name, value });
            }
        }
        StreamBlock {
            labels: Labels::from_pairs([("app", "x"), ("n", &stream.to_string())]).unwrap(),
            block: out.finish(Arc::new(symbols.finish())),
        }
    }

    fn told(blocks: &[StreamBlock]) -> Vec<String> {
        let entries = blocks.iter().flat_map(|b| {
            b.block.iter().map(|e| {
                let metadata: Vec<_> = e.metadata().collect();
                format!("{} {} {:?} {metadata:?}", b.labels, e.t_ns, e.line)
            })
        });
        entries.collect()
    }

    /// What arrives of a batch, in how many messages.
    fn sent(blocks: Vec<StreamBlock>, horizon_ns: TimestampNs) -> (Vec<StreamBlock>, usize) {
        let blocks = in_pieces(blocks);
        let (mut at, mut back, mut messages) = (0, Vec::new(), 0);
        while at < blocks.len() {
            let mut out = Vec::new();
            at += put_blocks(&mut out, &blocks[at..], horizon_ns);
            messages += 1;
            let EntriesMessage::Blocks(some, horizon) = read(&out.into()).unwrap() else {
                panic!("blocks")
            };
            assert_eq!(horizon, (at == blocks.len()).then_some(horizon_ns));
            back.extend(some);
        }
        (back, messages)
    }

    #[test]
    fn long_batches_go_in_several_messages() {
        let line = vec![b'x'; 100_000];
        let entries = |times: i64| -> Vec<Plain> {
            let entry = |n: i64| (n / times, line.clone(), Vec::new());
            (0..20).map(entry).collect()
        };
        let apart = vec![block_of(0, &entries(1)), block_of(1, &entries(1))];
        let (back, messages) = sent(apart.clone(), TimestampNs::new(7));
        assert_eq!(told(&back), told(&apart));
        assert!(messages > 4, "{messages}");
        // Entries of one time stay together.
        let equal = vec![block_of(0, &entries(20))];
        let (back, messages) = sent(equal.clone(), TimestampNs::new(7));
        assert_eq!((told(&back), messages), (told(&equal), 1));
    }

    #[test]
    fn times_counts_and_ends_arrive_as_they_were() {
        for times in [None, Some(TimeRangeNs::new(-5, 9)), Some(TimeRangeNs::ALL)] {
            let mut out = Vec::new();
            put_times(&mut out, times);
            let EntriesMessage::Times(back) = read(&out.into()).unwrap() else {
                panic!("times")
            };
            assert_eq!(back, times);
        }
        let counts: Vec<_> = (0..3u64)
            .map(|n| StreamCounts {
                labels: Labels::from_pairs([("n", n.to_string())]).unwrap(),
                level: (n > 0).then(|| format!("level {n}")),
                cells: (0..n as i64)
                    .map(|t| CountCell {
                        t_ns: TimestampNs::new(-t),
                        lines: n,
                        bytes: u64::MAX,
                    })
                    .collect(),
            })
            .collect();
        let mut out = Vec::new();
        assert_eq!(put_counts(&mut out, &counts), 3);
        let EntriesMessage::Counts(back) = read(&out.into()).unwrap() else {
            panic!("counts")
        };
        assert_eq!(back, counts);
        let mut end = SelectEnd {
            warnings: vec!["a".into(), String::new()],
            ..SelectEnd::default()
        };
        for (n, stat) in fields(&mut end.stats).into_iter().enumerate() {
            *stat = n as u64 + 1;
        }
        let mut out = Vec::new();
        put_end(&mut out, &end);
        let EntriesMessage::End(back) = read(&out.into()).unwrap() else {
            panic!("end")
        };
        assert_eq!(back, end);
    }

    /// As version 1 wrote it; never rewritten. `LGTM_MAKE_GOLDEN=1` makes one that is missing.
    #[test]
    fn entries_of_an_earlier_version_are_read() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/golden/rpc-v1/entries.bin"
        );
        let pair = |n: &str, v: &str| (n.to_owned(), v.to_owned());
        let blocks = vec![
            block_of(
                0,
                &[
                    (-5, b"a".to_vec(), vec![]),
                    (9, b"\xff".to_vec(), vec![pair("t", "1")]),
                ],
            ),
            block_of(1, &[(1_700_000_000_000_000_000, b"line".to_vec(), vec![])]),
        ];
        let mut written = Vec::new();
        assert_eq!(put_blocks(&mut written, &blocks, TimestampNs::new(77)), 2);
        if std::env::var_os("LGTM_MAKE_GOLDEN").is_some() && !std::fs::exists(path).unwrap() {
            std::fs::write(path, &written).unwrap();
        }
        let golden = std::fs::read(path).unwrap();
        let EntriesMessage::Blocks(back, horizon) = read(&golden.clone().into()).unwrap() else {
            panic!("blocks")
        };
        assert_eq!(
            (told(&back), horizon),
            (told(&blocks), Some(TimestampNs::new(77)))
        );
        assert!(written == golden, "a new version gets a folder of its own");
    }

    proptest! {
        #[test]
        fn blocks_arrive_as_they_were(
            blocks in prop::collection::vec(prop::collection::vec((
                any::<i64>(), prop::collection::vec(any::<u8>(), 0..20),
                prop::collection::vec((".{0,4}", ".{0,4}"), 0..3),
            ), 1..12), 1..5),
        ) {
            let blocks: Vec<_> = blocks.iter().enumerate().map(|(n, b)| block_of(n, b)).collect();
            let (back, _) = sent(blocks.clone(), TimestampNs::MIN);
            prop_assert_eq!(told(&back), told(&blocks));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>, number in 1u64..7) {
            let mut framed = Vec::new();
            put_bytes_field(&mut framed, number, &bytes);
            put_bytes_field(&mut framed, 2, b"\x01a\x01b");
            for bytes in [bytes, framed] {
                if let Ok(EntriesMessage::Blocks(blocks, _)) = read(&bytes.into()) {
                    told(&blocks);
                }
            }
        }
    }
}
