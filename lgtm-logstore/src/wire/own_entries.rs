//! Entries that a program has of its own, as a push.

use lgtm_core::Result;
use lgtm_core::codec::Allowance;
use lgtm_core::model::{Labels, TimestampNs};

use super::batch::PushBatch;
use super::decoding::decode_with;
use super::options::PushOptions;
use super::stream_labels::LabelPairs;

/// An entry of a log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogEntry {
    /// When, nanoseconds since the Unix epoch.
    pub t_ns: TimestampNs,
    /// The line; any bytes.
    pub line: Vec<u8>,
    /// Structured metadata: names and values.
    pub metadata: Vec<(String, String)>,
}

impl LogEntry {
    /// A line at a time, nanoseconds since the Unix epoch.
    pub fn new(t_ns: impl Into<TimestampNs>, line: impl Into<Vec<u8>>) -> Self {
        Self {
            t_ns: t_ns.into(),
            line: line.into(),
            metadata: Vec::new(),
        }
    }

    /// The same with one more field of structured metadata.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.push((name.into(), value.into()));
        self
    }
}

/// Fills a batch with streams and their entries, as a tenant's pushes are read: levels and `service_name` are found, names made normal. Copies
/// all texts. What it becomes is taken from `allowance`.
///
/// # Errors
/// `InvalidInput` for labels that a push cannot have; those of `allowance`. The batch is empty then.
pub fn decode_entries(
    batch: &mut PushBatch,
    options: &PushOptions<'_>,
    allowance: &mut Allowance<'_>,
    streams: &[(Labels, Vec<LogEntry>)],
) -> Result<()> {
    let no_body = |body: &mut Vec<u8>, _: &mut Allowance<'_>| {
        body.clear();
        Ok(())
    };
    decode_with(batch, options, allowance, no_body, |decoding, _| {
        for (labels, entries) in streams {
            decoding.batch.streams_sent += 1;
            for entry in entries {
                for (name, value) in &entry.metadata {
                    decoding.pair_of_bytes(name.as_bytes(), value.as_bytes())?;
                }
                let line = decoding.place(&entry.line)?;
                decoding.entry(entry.t_ns, line)?;
            }
            if decoding.has_entries() {
                let mut pairs = LabelPairs::default();
                labels.iter().for_each(|(n, v)| pairs.push(n, v));
                pairs.check_names()?;
                decoding.end_stream(pairs)?;
            }
        }
        Ok(())
    })
}
