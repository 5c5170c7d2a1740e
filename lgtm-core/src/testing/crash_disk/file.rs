//! What a file holds, and what of it a power loss leaves.

use crate::testing::Dice;

/// Bytes that a machine writes together; a power loss keeps or loses them as one.
const PAGE: usize = 512;

/// A change that no sync has covered yet.
#[derive(Debug, Clone)]
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Truncate(usize),
}

impl Change {
    fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Self::Write { at, bytes } => {
                let end = at + bytes.len();
                to.resize(to.len().max(end), 0);
                to[*at..end].copy_from_slice(bytes);
            }
            Self::Truncate(len) => to.resize(*len, 0),
        }
    }
}

/// The bytes of a file, twice: as a running process reads them, and as they are known to be on the platter.
#[derive(Debug, Clone, Default)]
pub(super) struct FileBytes {
    seen: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
}

impl FileBytes {
    /// A file that was found on a disk: all of it is durable.
    fn found(bytes: Vec<u8>) -> Self {
        Self {
            seen: bytes.clone(),
            durable: bytes,
            unsynced: Vec::new(),
        }
    }

    /// What a read sees.
    pub(super) fn seen(&self) -> &[u8] {
        &self.seen
    }

    pub(super) fn append(&mut self, bytes: &[u8]) {
        self.change(Change::Write {
            at: self.seen.len(),
            bytes: bytes.to_vec(),
        });
    }

    pub(super) fn truncate(&mut self, len: usize) {
        self.change(Change::Truncate(len));
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.seen);
        self.unsynced.push(change);
    }

    pub(super) fn sync(&mut self) {
        for change in self.unsynced.drain(..) {
            change.apply(&mut self.durable);
        }
    }

    /// As Linux does: what could not be written counts as clean afterwards, and no later sync writes it.
    pub(super) fn fail_sync(&mut self) {
        self.unsynced.clear();
    }

    /// The file after a power loss that kept nothing which was not synced.
    pub(super) fn after_strict_power_loss(&self) -> Self {
        Self::found(self.durable.clone())
    }

    /// The file after a power loss that kept what the dice say.
    pub(super) fn after_power_loss(&self, dice: &mut Dice) -> Self {
        Self::found(match dice.below(4) {
            0 => self.durable.clone(),
            1 => self.seen.clone(),
            2 => self.torn(dice),
            _ => self.reordered(dice),
        })
    }

    /// The first changes, the last of them in part.
    fn torn(&self, dice: &mut Dice) -> Vec<u8> {
        let mut out = self.durable.clone();
        let whole = dice.below(self.unsynced.len() as u64 + 1) as usize;
        for change in &self.unsynced[..whole] {
            change.apply(&mut out);
        }
        if let Some(Change::Write { at, bytes }) = self.unsynced.get(whole) {
            let kept = dice.below(bytes.len() as u64 + 1) as usize;
            let change = Change::Write {
                at: *at,
                bytes: bytes[..kept].to_vec(),
            };
            change.apply(&mut out);
        }
        out
    }

    /// Each page new or old by itself: a later one may be there while an earlier one is missing, and then reads as zeros.
    fn reordered(&self, dice: &mut Dice) -> Vec<u8> {
        let mut out = self.durable.clone();
        // The length is metadata and may be older than the pages.
        if dice.once_in(2) {
            out.resize(self.seen.len(), 0);
        }
        for (page, new) in self.seen.chunks(PAGE).enumerate() {
            let at = page * PAGE;
            if self.durable.get(at..at + new.len()) != Some(new) && dice.once_in(2) {
                let end = out.len().max(at + new.len());
                out.resize(end, 0);
                out[at..at + new.len()].copy_from_slice(new);
            }
        }
        out
    }
}
