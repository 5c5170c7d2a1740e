//! Records of the log; see `docs/format/head_records.md`.

use lgtm_core::DecodeError;
use lgtm_core::codec::{Reader, put_bytes, put_svarint, put_uvarint};
use lgtm_core::model::{TenantId, TimestampNs};

/// What a record is.
pub(super) mod kind {
    /// Entries that were taken.
    pub(crate) const ENTRIES: u8 = 1;
    /// Streams as a checkpoint found them.
    pub(crate) const STREAM_STATE: u8 = 2;
}

/// Bytes of the number of a stream's entries: a varint that is long enough for 32 bits.
const COUNT_BYTES: usize = 5;
/// Names of metadata that a record refers to by number.
const MAX_NAMES: usize = 32;

/// Bytes that an entry takes in a record beside its line and the texts of its metadata, at most.
pub(super) const ENTRY_OVERHEAD: usize = 30;
/// The same of a pair of metadata.
pub(super) const PAIR_OVERHEAD: usize = 12;
/// The same of a stream, and of the record itself.
pub(super) const STREAM_OVERHEAD: usize = 40;

/// Writes a record of entries: streams one after the other, entries of each in the order in which they were taken.
///
/// The number of a stream's entries stands in front of them, in a fixed number of bytes, as it is known only behind them.
#[derive(Debug, Default)]
pub(super) struct EntriesRecord {
    out: Vec<u8>,
    /// Where the open stream begins, and where the number of its entries stands.
    stream: (usize, usize),
    count: u32,
    last_ns: TimestampNs,
    names: Vec<KnownName>,
    names_len: usize,
    /// Whether a stream is in the record.
    is_begun: bool,
}

/// A name that the record holds, and the value that it had last.
#[derive(Debug, Default)]
struct KnownName {
    name: Vec<u8>,
    value: Vec<u8>,
}

impl EntriesRecord {
    /// Begins a record.
    pub(super) fn begin(&mut self, tenant: &TenantId) {
        self.out.clear();
        self.names_len = 0;
        self.is_begun = false;
        put_bytes(&mut self.out, tenant.as_str().as_bytes());
    }

    /// Begins a stream. `sequence` is the number of its first entry.
    pub(super) fn begin_stream(&mut self, labels: &[u8], sequence: u64) {
        let start = self.out.len();
        put_bytes(&mut self.out, labels);
        put_uvarint(&mut self.out, sequence);
        self.stream = (start, self.out.len());
        self.out.extend_from_slice(&[0; COUNT_BYTES]);
        self.count = 0;
        self.last_ns = TimestampNs::EPOCH;
    }

    /// Adds an entry to the stream.
    #[inline]
    pub(super) fn push(&mut self, t_ns: TimestampNs, line: &[u8], metadata: &[(&str, &str)]) {
        put_svarint(&mut self.out, t_ns.wrapping_since(self.last_ns));
        self.last_ns = t_ns;
        put_bytes(&mut self.out, line);
        put_uvarint(&mut self.out, metadata.len() as u64);
        for (name, value) in metadata {
            self.push_pair(name.as_bytes(), value.as_bytes());
        }
        self.count += 1;
    }

    fn push_pair(&mut self, name: &[u8], value: &[u8]) {
        let known = self.names[..self.names_len].iter_mut();
        let found = known.enumerate().find(|(_, k)| k.name == name);
        match found {
            // Twice the number of the name; one more when its value is the last one.
            Some((n, known)) => {
                let is_same = known.value == value;
                put_uvarint(&mut self.out, 2 * (n as u64 + 1) + u64::from(is_same));
                if !is_same {
                    put_bytes(&mut self.out, value);
                    known.value.clear();
                    known.value.extend_from_slice(value);
                }
            }
            None => {
                self.out.push(0);
                put_bytes(&mut self.out, name);
                put_bytes(&mut self.out, value);
                self.remember(name, value);
            }
        }
    }

    fn remember(&mut self, name: &[u8], value: &[u8]) {
        if self.names_len == MAX_NAMES {
            return;
        }
        if self.names.len() == self.names_len {
            self.names.push(KnownName::default());
        }
        let known = &mut self.names[self.names_len];
        for (text, from) in [(&mut known.name, name), (&mut known.value, value)] {
            text.clear();
            text.extend_from_slice(from);
        }
        self.names_len += 1;
    }

    /// Ends the stream; one without entries leaves no trace.
    pub(super) fn end_stream(&mut self) {
        let (start, at) = self.stream;
        if self.count == 0 {
            self.out.truncate(start);
            return;
        }
        for (n, byte) in self.out[at..at + COUNT_BYTES].iter_mut().enumerate() {
            let more = if n + 1 < COUNT_BYTES { 0x80 } else { 0 };
            *byte = (self.count >> (7 * n)) as u8 & 0x7f | more;
        }
        self.is_begun = true;
    }

    /// The record; empty when no stream had entries.
    pub(super) fn bytes(&self) -> &[u8] {
        if self.is_begun { &self.out } else { &[] }
    }
}

/// What a record of entries holds, one by one.
pub(super) trait EntriesSink {
    /// A stream begins: its labels, and the number of its first entry.
    fn stream(&mut self, labels: &[u8], sequence: u64) -> Result<(), DecodeError>;
    /// An entry of it.
    fn entry(
        &mut self,
        t_ns: TimestampNs,
        line: &[u8],
        metadata: &[(&str, &str)],
    ) -> Result<(), DecodeError>;
    /// All of its entries came.
    fn end_stream(&mut self) -> Result<(), DecodeError>;
}

/// Reads a record of entries from behind its tenant.
pub(super) fn decode_entries(
    r: &mut Reader<'_>,
    sink: &mut dyn EntriesSink,
) -> Result<(), DecodeError> {
    let mut names: Vec<(&str, &str)> = Vec::new();
    let mut metadata: Vec<(&str, &str)> = Vec::new();
    while !r.is_empty() {
        let labels = r.bytes()?;
        let sequence = r.uvarint()?;
        let count = r.uvarint()?;
        sink.stream(labels, sequence)?;
        let mut t_ns = TimestampNs::EPOCH;
        for _ in 0..count {
            t_ns = t_ns.wrapping_add(r.svarint()?);
            let line = r.bytes()?;
            metadata.clear();
            for _ in 0..r.uvarint()? {
                metadata.push(pair(r, &mut names)?);
            }
            sink.entry(t_ns, line, &metadata)?;
        }
        sink.end_stream()?;
    }
    Ok(())
}

fn pair<'a>(
    r: &mut Reader<'a>,
    names: &mut Vec<(&'a str, &'a str)>,
) -> Result<(&'a str, &'a str), DecodeError> {
    let code = r.uvarint()?;
    if code == 0 {
        let pair = (r.str()?, r.str()?);
        if names.len() < MAX_NAMES {
            names.push(pair);
        }
        return Ok(pair);
    }
    let number = usize::try_from(code / 2)
        .unwrap_or(usize::MAX)
        .wrapping_sub(1);
    let is_same = code % 2 == 1;
    let Some(known) = names.get_mut(number) else {
        return Err(r.error(format!("name {number} of metadata is not known yet")));
    };
    if !is_same {
        known.1 = r.str()?;
    }
    Ok(*known)
}

/// The tenant at the front of a record.
pub(super) fn record_tenant(r: &mut Reader<'_>) -> Result<TenantId, DecodeError> {
    let name = r.str()?;
    TenantId::new(name).map_err(|e| r.error(e.to_string()))
}
