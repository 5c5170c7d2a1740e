//! Numbers by which Tempo tells spans of a trace apart. Ours compares ids and kinds themselves; these are for whoever must agree with it.

use crate::trace::SpanId;

/// What a compaction of Tempo takes for the same span: the id, mixed with a number of the kind. Kinds outside 0 to 7 count as 0.
pub fn storage_token(id: SpanId, kind: i32) -> u64 {
    let kind = if (0..8).contains(&kind) {
        kind as u64
    } else {
        0
    };
    u64::from_le_bytes(*id.as_bytes()) ^ fnv1_64(&kind.to_le_bytes())
}

/// What an answer of Tempo takes for the same span: FNV-1 64 of id and kind.
pub fn query_token(id: SpanId, kind: i32) -> u64 {
    let mut bytes = [0; 12];
    bytes[..8].copy_from_slice(id.as_bytes());
    bytes[8..].copy_from_slice(&kind.to_le_bytes());
    fnv1_64(&bytes)
}

/// Fowler, Noll and Vo's hash 1 with 64 bits.
fn fnv1_64(bytes: &[u8]) -> u64 {
    (bytes.iter()).fold(0xcbf2_9ce4_8422_2325, |hash: u64, b| {
        hash.wrapping_mul(0x0000_0100_0000_01b3) ^ u64::from(*b)
    })
}
