//! Loki's push as protobuf: `PushRequest { streams = 1 }`, see `docs/format/push.md`. Lines and metadata are noted where they stand.

use lgtm_core::codec::protobuf::{bytes_tag, skip, varint_tag};
use lgtm_core::codec::{Allowance, Reader};
use lgtm_core::model::TimestampNs;
use lgtm_core::{DecodeError, Error, Result};

use super::batch::PushBatch;
use super::decoding::{Decoded, Decoding, decode_with};
use super::options::PushOptions;
use super::stream_labels::{LabelPairs, PAIR_BYTES};

/// Most bytes of a stream's label text, as in Loki.
const MAX_LABEL_TEXT: usize = 16 << 20;
/// Fewest bytes of a label as text.
const MIN_LABEL_TEXT: usize = 5;

/// Decodes a request, which is handed over through `fill` (it writes the decompressed body into the buffer given). What it becomes is
/// taken from `allowance`.
///
/// # Errors
/// `InvalidInput` when the protobuf or the labels of a stream do not decode: then nothing of the request is taken. `LimitExceeded` for a
/// label text of more than 16 MiB; those of `allowance` and `fill`. The batch is empty then.
pub fn decode_protobuf(
    batch: &mut PushBatch,
    options: &PushOptions<'_>,
    allowance: &mut Allowance<'_>,
    fill: impl FnOnce(&mut Vec<u8>, &mut Allowance<'_>) -> Result<()>,
) -> Result<()> {
    decode_with(batch, options, allowance, fill, |decoding, body| {
        const STREAM: u64 = bytes_tag(1);
        let mut r = Reader::new("push request", body);
        while !r.is_empty() {
            match r.uvarint()? {
                STREAM => stream(decoding, r.bytes()?)?,
                tag => skip(&mut r, tag)?,
            }
        }
        Ok(())
    })
}

fn stream(decoding: &mut Decoding<'_, '_, '_>, bytes: &[u8]) -> Decoded {
    const LABELS: u64 = bytes_tag(1);
    const ENTRY: u64 = bytes_tag(2);
    decoding.batch.streams_sent += 1;
    let mut labels: &[u8] = b"";
    let mut r = Reader::new("stream", bytes);
    while !r.is_empty() {
        match r.uvarint()? {
            LABELS => labels = r.bytes()?,
            ENTRY => entry(decoding, r.bytes()?)?,
            tag => skip(&mut r, tag)?,
        }
    }
    if decoding.has_entries() {
        end_with_text(decoding, labels)
    } else {
        Ok(())
    }
}

/// Ends a stream whose labels come as text.
pub(super) fn end_with_text(decoding: &mut Decoding<'_, '_, '_>, labels: &[u8]) -> Decoded {
    if labels.len() > MAX_LABEL_TEXT {
        let message = format!(
            "request body too large: the labels of a stream have {} bytes, the limit is {MAX_LABEL_TEXT}",
            labels.len()
        );
        return Err(Error::LimitExceeded(message).into());
    }
    let text = std::str::from_utf8(labels).map_err(|e| {
        Error::InvalidInput(format!("couldn't parse labels: text is not UTF-8: {e}"))
    })?;
    let most = text.len() / MIN_LABEL_TEXT + 1;
    decoding.allowance.scratch(most * PAIR_BYTES)?;
    decoding.end_stream(LabelPairs::parse(text)?)
}

#[inline]
fn entry(decoding: &mut Decoding<'_, '_, '_>, bytes: &[u8]) -> Decoded {
    const TIME: u64 = bytes_tag(1);
    const LINE: u64 = bytes_tag(2);
    const PAIR: u64 = bytes_tag(3);
    let mut r = Reader::new("entry", bytes);
    let (mut t_ns, mut line): (_, &[u8]) = (TimestampNs::EPOCH, b"");
    while !r.is_empty() {
        match r.uvarint()? {
            TIME => t_ns = time(r.bytes()?)?,
            LINE => line = r.bytes()?,
            PAIR => pair(decoding, r.bytes()?)?,
            tag => skip(&mut r, tag)?,
        }
    }
    let line = decoding.place(line)?;
    Ok(decoding.entry(t_ns, line)?)
}

#[inline]
fn time(bytes: &[u8]) -> Result<TimestampNs, DecodeError> {
    const SECONDS: u64 = varint_tag(1);
    const NANOS: u64 = varint_tag(2);
    let mut r = Reader::new("timestamp", bytes);
    let (mut seconds, mut nanos) = (0i64, 0i64);
    while !r.is_empty() {
        match r.uvarint()? {
            SECONDS => seconds = r.uvarint()? as i64,
            NANOS => nanos = i64::from(r.uvarint()? as i32),
            tag => skip(&mut r, tag)?,
        }
    }
    let t_ns = seconds.checked_mul(1_000_000_000);
    t_ns.and_then(|t| t.checked_add(nanos))
        .map(TimestampNs::new)
        .ok_or_else(|| r.error(format!("{seconds} s and {nanos} ns do not fit 64 bits")))
}

fn pair(decoding: &mut Decoding<'_, '_, '_>, bytes: &[u8]) -> Decoded {
    const NAME: u64 = bytes_tag(1);
    const VALUE: u64 = bytes_tag(2);
    let mut r = Reader::new("label pair", bytes);
    let (mut name, mut value): (&[u8], &[u8]) = (b"", b"");
    while !r.is_empty() {
        match r.uvarint()? {
            NAME => name = r.bytes()?,
            VALUE => value = r.bytes()?,
            tag => skip(&mut r, tag)?,
        }
    }
    Ok(decoding.pair_of_bytes(name, value)?)
}
