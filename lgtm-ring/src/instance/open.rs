//! A ring that a gossip store keeps decoded.

use bytes::Bytes;
use lgtm_core::{Error, Result};

use crate::instance::codec::{MAX_VALUE_BYTES, RingCodec};
use crate::instance::{Instance, RingDesc};
use crate::kv::{MergeKind, MergeOutcome, MergeTime, OpenValue, TombstoneCount};

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

    /// Makes room for records of `incoming` where one from too far ahead stands: it was taken while the clock here ran ahead, too, and others do not have
    /// it. It would hide its instance until the time it names.
    fn drop_incredible(&mut self, incoming: &RingDesc, time: MergeTime) {
        for id in incoming.instances.keys() {
            let ours = self.ring.get(id);
            if ours.is_some_and(|ours| !time.allows(ours.timestamp_s)) {
                self.ring.remove(id);
            }
        }
    }
}

/// Takes the records out whose heartbeats are from too far ahead, and tells how far the furthest is: such a one would make its instance immortal. The others
/// are none the worse for standing beside it.
fn refuse_far_ahead(incoming: &mut RingDesc, time: MergeTime) -> Option<i64> {
    let mut furthest = None;
    incoming.retain(|i| {
        let is_credible = time.allows(i.timestamp_s);
        if !is_credible {
            furthest = furthest.max(Some(time.ahead_s(i.timestamp_s)));
        }
        is_credible
    });
    furthest
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
    texts + 5 * instance.tokens.len() + 24 * instance.versions.len() + 112
}

impl OpenValue for OpenRing {
    fn merge(&mut self, incoming: &[u8], kind: MergeKind, time: MergeTime) -> Result<MergeOutcome> {
        let mut incoming = RingCodec::decode(incoming)?;
        let refused_ahead_s = match kind {
            MergeKind::Remote => refuse_far_ahead(&mut incoming, time),
            // What is written here is written by this clock.
            MergeKind::Local => None,
        };
        let bytes = self.bytes + self.growth(&incoming);
        if bytes > MAX_VALUE_BYTES {
            return Err(Error::LimitExceeded(format!(
                "the merged ring would have {bytes} bytes, at most {MAX_VALUE_BYTES} are allowed"
            )));
        }
        if kind == MergeKind::Remote {
            self.drop_incredible(&incoming, time);
        }
        let change = self.ring.merge(&incoming, kind, time.now_unix_s);
        if change.is_some() {
            self.bytes = bytes;
        }
        Ok(MergeOutcome {
            change: change.as_ref().map(RingCodec::encode).transpose()?,
            refused_ahead_s,
        })
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
