//! The frame around everything that members send: whose cluster it is of, what it is, and that it is whole.
//!
//! `docs/format/gossip.md`. The label is checked on every packet, so that two clusters that hear of each other by accident (an address
//! reused, a seed list copied) refuse each other from the first byte on.

use bytes::Bytes;
use lgtm_core::DecodeError;
use lgtm_core::codec::{Reader, crc32c};

use crate::kv::gossip::refusal::Refusal;

const MAGIC: [u8; 4] = *b"LGTG";
const VERSION: u8 = 1;
/// Bytes of a frame beside label and body.
const FIXED_BYTES: usize = 4 + 1 + 1 + 1 + 4;

/// What a packet holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PacketKind {
    /// A message of the membership protocol.
    Membership,
    /// Changes of values.
    Broadcasts,
    /// All that the sender knows; the answer is the same from the other side.
    PullRequest,
    /// The answer.
    PullReply,
}

impl PacketKind {
    const ALL: [Self; 4] = [
        Self::Membership,
        Self::Broadcasts,
        Self::PullRequest,
        Self::PullReply,
    ];
}

/// Bytes that the frame adds to a body.
pub(super) fn overhead(label: &str) -> usize {
    FIXED_BYTES + label.len()
}

/// A whole packet.
pub(super) fn seal(label: &str, kind: PacketKind, body: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(overhead(label) + body.len());
    out.extend_from_slice(&MAGIC);
    out.push(VERSION);
    out.push(kind as u8 + 1);
    out.push(label.len() as u8);
    out.extend_from_slice(label.as_bytes());
    out.extend_from_slice(body);
    let crc = crc32c(&out);
    out.extend_from_slice(&crc.to_be_bytes());
    out.into()
}

/// The kind and the body of a packet of the cluster `label`.
pub(super) fn open<'a>(label: &str, packet: &'a [u8]) -> Result<(PacketKind, &'a [u8]), Refusal> {
    let corrupt =
        |offset, reason: &str| Refusal::Corrupt(DecodeError::new("gossip packet", offset, reason));
    if packet.len() < FIXED_BYTES {
        return Err(corrupt(0, "shorter than a frame"));
    }
    let (framed, crc) = packet.split_at(packet.len() - 4);
    if framed[..4] != MAGIC {
        return Err(corrupt(0, "does not begin with LGTG"));
    }
    if crc32c(framed).to_be_bytes() != crc {
        return Err(corrupt(framed.len() as u64, "checksum does not match"));
    }
    let mut r = Reader::new("gossip packet", &framed[4..]);
    let version = r.u8()?;
    if version != VERSION {
        return Err(Refusal::Version(version));
    }
    let kind = r.u8()?;
    let len = usize::from(r.u8()?);
    let theirs = r.take(len)?;
    if theirs != label.as_bytes() {
        return Err(Refusal::Label(String::from_utf8_lossy(theirs).into_owned()));
    }
    let kind = PacketKind::ALL.into_iter().find(|k| *k as u8 + 1 == kind);
    let kind = kind.ok_or_else(|| corrupt(5, "unknown kind of packet"))?;
    Ok((kind, r.rest()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn packets_come_back_and_every_flipped_bit_shows(
            label in "[a-z-]{1,20}", kind in 0usize..4, body: Vec<u8>, flip: u32,
        ) {
            let kind = PacketKind::ALL[kind];
            let packet = seal(&label, kind, &body);
            prop_assert_eq!(packet.len(), overhead(&label) + body.len());
            prop_assert_eq!(open(&label, &packet).unwrap(), (kind, body.as_slice()));
            let mut bad = packet.to_vec();
            let bit = flip as usize % (bad.len() * 8);
            bad[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(open(&label, &bad).is_err());
            for cut in 0..packet.len() {
                prop_assert!(open(&label, &packet[..cut]).is_err());
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = open("x", &bytes);
        }
    }

    #[test]
    fn a_foreign_label_and_a_future_version_are_told_apart_from_damage() {
        let packet = seal("prod-a", PacketKind::Broadcasts, b"x");
        assert!(matches!(open("prod-b", &packet), Err(Refusal::Label(l)) if l == "prod-a"));
        let mut future = packet[..packet.len() - 4].to_vec();
        future[4] = 2;
        future.extend_from_slice(&crc32c(&future).to_be_bytes());
        assert!(matches!(open("prod-a", &future), Err(Refusal::Version(2))));
    }

    #[test]
    fn packets_of_version_one_are_read_for_ever() {
        let golden = include_bytes!("../../../tests/golden/gossip_packet_v1.bin");
        let (kind, body) = open("golden", golden).unwrap();
        assert_eq!(
            (kind, body),
            (PacketKind::Broadcasts, &b"body of version one"[..])
        );
        assert_eq!(seal("golden", kind, body), golden.as_slice());
    }
}
