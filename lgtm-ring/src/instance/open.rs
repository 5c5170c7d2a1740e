//! A ring that a gossip store keeps decoded.

use bytes::Bytes;
use lgtm_core::{Error, Result};

use crate::instance::codec::{MAX_VALUE_BYTES, RingCodec};
use crate::instance::{Instance, RingDesc};
use crate::kv::{MergeKind, OpenValue, TombstoneCount};

/// How far ahead of the clock here a heartbeat of another may be: clocks are off by minutes. The default of the store's own `max_clock_ahead`.
const MAX_HEARTBEAT_AHEAD_S: i64 = 3600;

/// The ring beside a bound of its encoded size. A heartbeat costs a look at one record here; kept as bytes, it would cost reading and writing all.
#[derive(Debug)]
pub(super) struct OpenRing {
    ring: RingDesc,
    /// No less than the uncompressed wire form has. Counted anew whenever all records are looked at anyway.
    bytes: usize,
}

impl OpenRing {
    pub(super) fn new(ring: RingDesc) -> Self {
        let bytes = size_bound(&ring);
        Self { ring, bytes }
    }

    /// The most that the ring may grow by taking over the records of `incoming`.
    fn growth(&self, incoming: &RingDesc) -> usize {
        let growth = incoming.instances.iter().map(|(id, theirs)| {
            let ours = self.ring.get(id).map_or(0, |ours| entry_bound(id, ours));
            entry_bound(id, theirs).saturating_sub(ours)
        });
        growth.sum()
    }
}

/// A heartbeat from far ahead would make its instance immortal, and nobody could outbid it, not even the instance itself.
fn check_times(ring: &RingDesc, now_unix_s: i64) -> Result<()> {
    let ahead_s = |i: &Instance| i.timestamp_s.saturating_sub(now_unix_s);
    match ring.iter().find(|i| ahead_s(i) > MAX_HEARTBEAT_AHEAD_S) {
        None => Ok(()),
        Some(i) => Err(Error::InvalidInput(format!(
            "heartbeat of instance {:?} is {} s from now, at most {MAX_HEARTBEAT_AHEAD_S} s are taken",
            i.id,
            ahead_s(i)
        ))),
    }
}

fn size_bound(ring: &RingDesc) -> usize {
    let entries = ring.instances.iter();
    entries
        .map(|(id, instance)| entry_bound(id, instance))
        .sum()
}

/// At least the bytes of an instance's entry in the wire form: texts as they are, five bytes a token, the most that numbers and field keys take.
pub(super) fn entry_bound(id: &str, instance: &Instance) -> usize {
    let texts = 2 * id.len() + instance.addr.len() + instance.zone.len();
    texts + 5 * instance.tokens.len() + 24 * instance.versions.len() + 100
}

impl OpenValue for OpenRing {
    fn merge(
        &mut self,
        incoming: &[u8],
        kind: MergeKind,
        now_unix_s: i64,
    ) -> Result<Option<Bytes>> {
        let incoming = RingCodec::decode(incoming)?;
        if kind == MergeKind::Remote {
            check_times(&incoming, now_unix_s)?;
        }
        let bytes = self.bytes + self.growth(&incoming);
        if bytes > MAX_VALUE_BYTES {
            return Err(Error::LimitExceeded(format!(
                "the merged ring would have {bytes} bytes, at most {MAX_VALUE_BYTES} are allowed"
            )));
        }
        let Some(change) = self.ring.merge(&incoming, kind, now_unix_s) else {
            return Ok(None);
        };
        self.bytes = bytes;
        RingCodec::encode(&change).map(Some)
    }

    fn remove_tombstones(&mut self, limit_unix_s: i64) -> Result<TombstoneCount> {
        let done = self.ring.remove_tombstones(Some(limit_unix_s));
        self.bytes = size_bound(&self.ring);
        Ok(TombstoneCount {
            left: done.left,
            removed: done.removed,
        })
    }

    fn encode(&self) -> Result<Bytes> {
        RingCodec::encode(&self.ring)
    }

    fn encode_visible(&self) -> Result<Bytes> {
        RingCodec::encode(&self.ring.without_tombstones())
    }

    fn size_bytes(&self) -> usize {
        self.bytes
    }
}
