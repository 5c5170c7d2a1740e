//! Levels of a page, packed. Columns of a list have the same ones again and again: these are packed once.

use crate::schema::Leaf;
use crate::schema::encode::put_hybrid;
use crate::schema::hybrid::width_of;

/// Above the bits of a level of definition lies that of repetition: neither is beyond seven, since lists lie in lists five deep.
pub(crate) const REP_SHIFT: u32 = 4;
/// Levels that were packed last and are remembered. Columns of the five lists of a span lie between those of others.
const REMEMBERED: usize = 16;
/// Pages of more levels are rare: their last row is very large.
const MAX_ENTRIES: usize = 64 << 10;

/// Packs levels. Remembers what it has packed.
#[derive(Debug, Default)]
pub(crate) struct LevelPacker {
    known: Vec<Known>,
    next: usize,
    /// Levels of one kind, taken apart.
    raw: Vec<u8>,
}

#[derive(Debug, Default)]
struct Known {
    width: u8,
    raw: Vec<u8>,
    packed: Vec<u8>,
}

impl LevelPacker {
    /// Appends the levels of repetition, then those of definition, of a page of a leaf; how many bytes the first ones take. `levels` has both, in the
    /// bits that [`REP_SHIFT`] tells.
    pub(crate) fn put(&mut self, leaf: &Leaf, levels: &[u8], out: &mut Vec<u8>) -> usize {
        let from = out.len();
        if leaf.max_rep > 0 {
            self.put_kind(width_of(leaf.max_rep), levels, |l| l >> REP_SHIFT, out);
        }
        let rep_bytes = out.len() - from;
        if leaf.max_def > 0 {
            let mask = (1 << REP_SHIFT) - 1;
            self.put_kind(width_of(leaf.max_def), levels, |l| l & mask, out);
        }
        rep_bytes
    }

    fn put_kind(&mut self, width: u8, levels: &[u8], kind: impl Fn(u8) -> u8, out: &mut Vec<u8>) {
        self.raw.clear();
        self.raw.extend(levels.iter().map(|level| kind(*level)));
        let same = |known: &&Known| known.width == width && known.raw == self.raw;
        if let Some(known) = self.known.iter().find(same) {
            out.extend_from_slice(&known.packed);
            return;
        }
        let from = out.len();
        put_hybrid(&self.raw, width, out);
        if levels.len() > MAX_ENTRIES {
            return;
        }
        if self.known.len() < REMEMBERED {
            self.known.push(Known::default());
        }
        let known = &mut self.known[self.next];
        known.width = width;
        std::mem::swap(&mut known.raw, &mut self.raw);
        known.packed.clear();
        known.packed.extend_from_slice(&out[from..]);
        self.next = (self.next + 1) % REMEMBERED;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{BlockVersion, Layout};

    #[test]
    fn levels_are_the_same_packed_now_or_before() {
        let layout = Layout::new(BlockVersion::V4, &[]);
        let leaves = layout.leaves.iter().filter(|leaf| leaf.max_def > 0);
        let mut packer = LevelPacker::default();
        let mut state = 1u32;
        for round in 0..3 {
            for leaf in leaves.clone() {
                let levels: Vec<u8> = (0..40 + usize::from(leaf.max_def % 3) * 400)
                    .map(|n| {
                        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                        let some = if n % 7 < 4 { n as u32 } else { state >> 20 };
                        let def = some % (u32::from(leaf.max_def) + 1);
                        let rep = some % (u32::from(leaf.max_rep) + 1);
                        def as u8 | (rep as u8) << REP_SHIFT
                    })
                    .collect();
                for _ in 0..2 {
                    let (mut out, mut expected) = (vec![9], vec![9]);
                    let rep_bytes = packer.put(leaf, &levels, &mut out);
                    if leaf.max_rep > 0 {
                        let rep: Vec<u8> = levels.iter().map(|l| l >> REP_SHIFT).collect();
                        put_hybrid(&rep, width_of(leaf.max_rep), &mut expected);
                    }
                    assert_eq!(rep_bytes, expected.len() - 1);
                    let def: Vec<u8> = levels.iter().map(|l| l & 15).collect();
                    put_hybrid(&def, width_of(leaf.max_def), &mut expected);
                    assert_eq!(out, expected, "{round} {}", leaf.path);
                }
            }
        }
        assert_eq!(packer.known.len(), REMEMBERED);
    }
}
