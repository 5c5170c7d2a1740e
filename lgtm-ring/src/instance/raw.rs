//! A ring's bytes, looked at without decoding them.
//!
//! Nearly every message of a gossiped ring is a heartbeat: one record with a newer time and the same tokens. Decoding half a million tokens of others to
//! learn that would cost milliseconds for each; so the entries are only looked over, and the one is put in the place of the old.

use lgtm_core::DecodeError;
use lgtm_core::codec::Reader;

use crate::instance::InstanceState;
use crate::instance::wire::{BYTES, VARINT, WHAT, key, skip, state};

/// One entry of an encoded ring.
#[derive(Debug, Clone, Copy)]
pub(super) struct RawEntry<'a> {
    /// All its bytes, field key and length too.
    whole: &'a [u8],
    pub(super) id: &'a str,
    timestamp_s: i64,
    pub(super) state: InstanceState,
    /// The packed tokens; `None` when they stand in several places.
    tokens: Option<&'a [u8]>,
}

impl RawEntry<'_> {
    fn is_left(&self) -> bool {
        self.state == InstanceState::Left
    }

    /// Whether this record, if newer than `ours`, changes nothing but what stands beside the tokens.
    fn keeps_tokens_of(&self, ours: &Self) -> bool {
        !self.is_left() && !ours.is_left() && self.tokens.is_some() && self.tokens == ours.tokens
    }
}

/// What a heartbeat makes of a ring: both messages, uncompressed.
#[derive(Debug)]
pub(super) struct Spliced {
    pub(super) value: Vec<u8>,
    pub(super) change: Vec<u8>,
}

/// The entries of a message, or `None` when it is not as [`RingDesc::encode`](crate::instance::RingDesc::encode) writes it: ids ascending, nothing else.
pub(super) fn entries(message: &[u8]) -> Result<Option<Vec<RawEntry<'_>>>, DecodeError> {
    let mut found: Vec<RawEntry<'_>> = Vec::new();
    let mut r = Reader::new(WHAT, message);
    while !r.is_empty() {
        let begin = r.position();
        let (1, BYTES) = key(&mut r)? else {
            return Ok(None);
        };
        let body = r.bytes()?;
        let whole = &message[begin..r.position()];
        let entry = look_over(whole, body)?;
        if found.last().is_some_and(|last| last.id >= entry.id) {
            return Ok(None);
        }
        found.push(entry);
    }
    Ok(Some(found))
}

fn look_over<'a>(whole: &'a [u8], body: &'a [u8]) -> Result<RawEntry<'a>, DecodeError> {
    let mut entry = RawEntry {
        whole,
        id: "",
        timestamp_s: 0,
        state: InstanceState::Active,
        tokens: Some(&[]),
    };
    let mut r = Reader::new(WHAT, body);
    while !r.is_empty() {
        match key(&mut r)? {
            (1, BYTES) => entry.id = r.str()?,
            (2, BYTES) => look_into(&mut entry, r.bytes()?)?,
            (_, wire_type) => skip(&mut r, wire_type)?,
        }
    }
    Ok(entry)
}

fn look_into<'a>(entry: &mut RawEntry<'a>, record: &'a [u8]) -> Result<(), DecodeError> {
    let mut r = Reader::new(WHAT, record);
    while !r.is_empty() {
        match key(&mut r)? {
            (2, VARINT) => entry.timestamp_s = r.uvarint()? as i64,
            (3, VARINT) => entry.state = state(&mut r)?,
            (6, BYTES) => {
                let tokens = r.bytes()?;
                entry.tokens = entry.tokens.filter(|t| t.is_empty()).map(|_| tokens);
            }
            (6, VARINT) => {
                r.uvarint()?;
                entry.tokens = None;
            }
            (_, wire_type) => skip(&mut r, wire_type)?,
        }
    }
    Ok(())
}

/// Merges `incoming` into `current` if all that is newer in it are heartbeats, states and the like of instances that keep their tokens. `None`: it takes
/// a real merge. Some without entries in `change`: nothing is newer.
pub(super) fn splice(current: &[RawEntry<'_>], incoming: &[RawEntry<'_>]) -> Option<Spliced> {
    let mut newer = Vec::new();
    for theirs in incoming {
        let place = current
            .binary_search_by(|ours| ours.id.cmp(theirs.id))
            .ok()?;
        let ours = &current[place];
        if theirs.timestamp_s > ours.timestamp_s {
            if !theirs.keeps_tokens_of(ours) {
                return None;
            }
            newer.push((place, theirs));
        } else if theirs.timestamp_s == ours.timestamp_s && theirs.is_left() && !ours.is_left() {
            return None;
        }
    }
    if newer.is_empty() {
        return Some(Spliced {
            value: Vec::new(),
            change: Vec::new(),
        });
    }
    let size = |entries: &[RawEntry<'_>]| entries.iter().map(|e| e.whole.len()).sum::<usize>();
    let mut value = Vec::with_capacity(size(current) + 64 * newer.len());
    let mut change = Vec::new();
    let mut next = newer.iter().peekable();
    for (place, ours) in current.iter().enumerate() {
        match next.next_if(|(at, _)| *at == place) {
            Some((_, theirs)) => {
                value.extend_from_slice(theirs.whole);
                change.extend_from_slice(theirs.whole);
            }
            None => value.extend_from_slice(ours.whole),
        }
    }
    Some(Spliced { value, change })
}
