//! A part of a push on its way to an ingester in another process.
//!
//! ```text
//! part    = { stream = 1, repeated }
//! stream  = { labels = 1, canonical; entries = 2 }
//! entries = one behind the other: time as a zig-zag difference to the entry before it in the part; line; pairs and bytes of metadata as they were
//!           sent; number of pairs as they are stored, and name and value of each
//! ```
//!
//! All numbers are varints, all texts stand behind their lengths. Entries are packed, for they are all of a push; lines and metadata are noted where
//! they stand in the message, so that none is allocated for. Unknown fields are skipped, so that versions may differ by one.

use lgtm_core::codec::protobuf::{bytes_tag, put_bytes_field, put_message, skip};
use lgtm_core::codec::{Allowance, DecodeFail, Reader, put_bytes, put_svarint, put_uvarint};
use lgtm_core::model::TimestampNs;
use lgtm_core::{DecodeError, Result};

use super::batch::{PairPlace, Place, PushBatch, PushEntry, SentMetadata, StreamPlace};

const STREAM: u64 = 1;
const LABELS: u64 = 1;
const ENTRIES: u64 = 2;

/// Appends the message of those entries of a batch that `takes` names by their numbers. One pass.
pub fn encode_part(batch: &PushBatch, takes: impl Fn(usize) -> bool, out: &mut Vec<u8>) {
    let mut last_ns = 0;
    for view in batch.streams() {
        let first = view.first_entry();
        if !(0..view.len()).any(|n| takes(first + n)) {
            continue;
        }
        out.reserve(view.byte_count() as usize + view.labels().as_bytes().len() + 32);
        put_message(out, STREAM, |out| {
            put_bytes_field(out, LABELS, view.labels().as_bytes());
            put_message(out, ENTRIES, |out| {
                for n in (0..view.len()).filter(|n| takes(first + n)) {
                    put_entry(out, &view.entry(n), &mut last_ns);
                }
            });
        });
    }
}

#[inline]
fn put_entry(out: &mut Vec<u8>, entry: &PushEntry<'_>, last_ns: &mut i64) {
    let t_ns = entry.t_ns.get();
    put_svarint(out, t_ns.wrapping_sub(*last_ns));
    *last_ns = t_ns;
    put_bytes(out, entry.line);
    put_uvarint(out, u64::from(entry.sent.count));
    put_uvarint(out, u64::from(entry.sent.bytes));
    let pairs = entry.metadata();
    put_uvarint(out, pairs.len() as u64);
    for (name, value) in pairs {
        put_bytes(out, name.as_bytes());
        put_bytes(out, value.as_bytes());
    }
}

/// Decodes the message of a part, replacing what `batch` held. What it becomes is taken from `allowance`. Nothing is held against a limit: the
/// distributor has done that.
///
/// # Errors
/// `InvalidInput` for bytes that are no such message; those of `allowance`. The batch is empty then.
pub fn decode_part(
    batch: &mut PushBatch,
    message: &[u8],
    allowance: &mut Allowance<'_>,
) -> Result<()> {
    batch.clear();
    let mut body = std::mem::take(&mut batch.body);
    let copied = allowance.reserve(&mut body, message.len());
    let decoded = copied.and_then(|()| {
        body.extend_from_slice(message);
        Ok(decode(batch, &body, allowance)?)
    });
    batch.body = body;
    if decoded.is_err() {
        batch.clear();
    }
    decoded
}

fn decode(
    batch: &mut PushBatch,
    body: &[u8],
    allowance: &mut Allowance<'_>,
) -> Result<(), DecodeFail> {
    let mut r = Reader::new("push", body);
    batch.body_len = u32::try_from(body.len()).map_err(|_| r.error("push exceeds 4 GiB"))?;
    let mut last_ns = 0;
    while !r.is_empty() {
        match r.uvarint()? {
            tag if tag == bytes_tag(STREAM) => {
                let bytes = r.bytes()?;
                let offset = r.position() - bytes.len();
                take_stream(batch, bytes, offset, &mut last_ns, allowance)?;
            }
            tag => skip(&mut r, tag)?,
        }
    }
    Ok(())
}

/// `offset` is where the stream begins in the body.
fn take_stream(
    batch: &mut PushBatch,
    bytes: &[u8],
    offset: usize,
    last_ns: &mut i64,
    allowance: &mut Allowance<'_>,
) -> Result<(), DecodeFail> {
    let mut r = Reader::new("stream", bytes);
    let first = batch.t_ns.len();
    let (mut labels, mut size) = (Place::default(), 0);
    while !r.is_empty() {
        match r.uvarint()? {
            tag if tag == bytes_tag(LABELS) => {
                let bytes = r.bytes()?;
                check_labels(bytes)?;
                labels = place(offset + r.position(), bytes);
            }
            tag if tag == bytes_tag(ENTRIES) => {
                let bytes = r.bytes()?;
                let offset = offset + r.position() - bytes.len();
                let mut entries = Reader::new("entries", bytes);
                while !entries.is_empty() {
                    size += take_entry(batch, &mut entries, offset, last_ns, allowance)?;
                }
            }
            tag => skip(&mut r, tag)?,
        }
    }
    batch.streams_sent += 1;
    if batch.t_ns.len() > first {
        let stream = StreamPlace {
            labels,
            first: first as u32,
            end: batch.t_ns.len() as u32,
            bytes: size,
        };
        allowance.push(&mut batch.streams, stream)?;
    }
    Ok(())
}

/// The place of bytes that end at `end` in the body, which is not longer than 4 GiB.
#[inline]
fn place(end: usize, bytes: &[u8]) -> Place {
    if bytes.is_empty() {
        return Place::default();
    }
    Place {
        start: (end - bytes.len()) as u32,
        end: end as u32,
    }
}

/// Whether labels are in canonical form, in order.
fn check_labels(bytes: &[u8]) -> Result<(), DecodeError> {
    let mut r = Reader::new("stream labels", bytes);
    let mut last = "";
    while !r.is_empty() {
        let (name, _) = (r.str()?, r.str()?);
        if name < last {
            return Err(r.error("labels out of order"));
        }
        last = name;
    }
    Ok(())
}

/// Bytes of an entry, by which rates count.
#[inline]
fn take_entry(
    batch: &mut PushBatch,
    r: &mut Reader<'_>,
    offset: usize,
    last_ns: &mut i64,
    allowance: &mut Allowance<'_>,
) -> Result<u64, DecodeFail> {
    *last_ns = last_ns.wrapping_add(r.svarint()?);
    let line = r.bytes()?;
    let line_place = place(offset + r.position(), line);
    let number = |r: &mut Reader<'_>| {
        let n = r.uvarint()?;
        u32::try_from(n).map_err(|_| r.error(format!("{n} does not fit 32 bits")))
    };
    let sent = SentMetadata {
        count: number(r)?,
        bytes: number(r)?,
    };
    for _ in 0..r.uvarint()? {
        let name = r.str()?.as_bytes();
        let name = place(offset + r.position(), name);
        let value = r.str()?.as_bytes();
        let value = place(offset + r.position(), value);
        allowance.push(&mut batch.pairs, PairPlace { name, value })?;
    }
    allowance.push(&mut batch.t_ns, TimestampNs::new(*last_ns))?;
    allowance.push(&mut batch.lines, line_place)?;
    allowance.push(&mut batch.sent, sent)?;
    let pair_end = batch.pairs.len() as u32;
    allowance.push(&mut batch.pair_ends, pair_end)?;
    Ok(line.len() as u64 + u64::from(sent.bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;
    use crate::wire::{LogEntry, decode_entries};
    use lgtm_core::model::Labels;
    use proptest::prelude::*;

    fn told(batch: &PushBatch) -> Vec<String> {
        let streams = batch.streams().map(|view| {
            let entries = view.entries().map(|e| {
                let metadata: Vec<_> = e.metadata().collect();
                format!("{} {:?} {:?} {metadata:?}", e.t_ns, e.line, e.sent)
            });
            let entries: Vec<_> = entries.collect();
            format!("{} {} {entries:?}", view.labels(), view.byte_count())
        });
        streams.collect()
    }

    fn sent(batch: &PushBatch, takes: impl Fn(usize) -> bool) -> PushBatch {
        let mut message = Vec::new();
        encode_part(batch, takes, &mut message);
        decoded(&message).unwrap()
    }

    type Plain = (u8, i64, Vec<u8>, Vec<(String, String)>);

    fn batch_of(entries: &[Plain]) -> PushBatch {
        let mut streams: Vec<(Labels, Vec<LogEntry>)> = (0..4)
            .map(|n| Labels::from_pairs([("app", n.to_string())]).unwrap())
            .map(|labels| (labels, Vec::new()))
            .collect();
        for (stream, t_ns, line, metadata) in entries {
            let mut entry = LogEntry::new(*t_ns, line.clone());
            entry.metadata.clone_from(metadata);
            streams[usize::from(stream % 4)].1.push(entry);
        }
        let mut batch = PushBatch::default();
        let mut grow = |_| Ok(());
        let mut allowance = Allowance::new(0, &mut grow);
        let limits = Limits::default();
        decode_entries(&mut batch, &limits.push_options(), &mut allowance, &streams).unwrap();
        batch
    }

    fn decoded(message: &[u8]) -> Result<PushBatch> {
        let (mut batch, mut grow) = (PushBatch::default(), |_| Ok(()));
        let mut allowance = Allowance::new(0, &mut grow);
        decode_part(&mut batch, message, &mut allowance)?;
        Ok(batch)
    }

    /// As version 1 wrote it; never rewritten. `LGTM_MAKE_GOLDEN=1` makes one that is missing.
    #[test]
    fn a_part_of_an_earlier_version_is_read() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/rpc-v1/part.bin");
        let pair = |n: &str, v: &str| (n.to_owned(), v.to_owned());
        let batch = batch_of(&[
            (0, 1_700_000_000_000_000_000, b"one".to_vec(), vec![]),
            (
                0,
                1_699_999_999_000_000_000,
                b"\xff two".to_vec(),
                vec![pair("trace", "7f")],
            ),
            (3, -1, Vec::new(), vec![pair("a", "b"), pair("c", "d")]),
        ]);
        let mut written = Vec::new();
        encode_part(&batch, |_| true, &mut written);
        if std::env::var_os("LGTM_MAKE_GOLDEN").is_some() && !std::fs::exists(path).unwrap() {
            std::fs::write(path, &written).unwrap();
        }
        let golden = std::fs::read(path).unwrap();
        assert_eq!(told(&decoded(&golden).unwrap()), told(&batch));
        assert!(written == golden, "a new version gets a folder of its own");
    }

    proptest! {
        #[test]
        fn a_part_arrives_as_it_was(
            entries in prop::collection::vec((
                any::<u8>(), any::<i64>(), prop::collection::vec(any::<u8>(), 0..40),
                prop::collection::vec(("[a-z]{1,5}", ".{0,6}"), 0..3),
            ), 0..30),
            cut in any::<prop::sample::Index>(),
        ) {
            let batch = batch_of(&entries);
            prop_assert_eq!(told(&sent(&batch, |_| true)), told(&batch));
            let some = sent(&batch, |n| n % 2 == 0);
            let wanted = batch.entry_count().div_ceil(2);
            prop_assert_eq!(some.entry_count(), wanted);
            prop_assert_eq!(told(&sent(&some, |_| true)), told(&some));
            // Every truncation is an error, or ends between two streams.
            let mut message = Vec::new();
            encode_part(&batch, |_| true, &mut message);
            if !message.is_empty() {
                let end = cut.index(message.len());
                if let Ok(back) = decoded(&message[..end]) {
                    prop_assert!(told(&batch).starts_with(&told(&back)));
                }
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = decoded(&bytes);
            let mut framed = Vec::new();
            put_message(&mut framed, STREAM, |out| put_bytes_field(out, ENTRIES, &bytes));
            if let Ok(back) = decoded(&framed) {
                told(&back);
            }
        }
    }
}
