//! Side files of blocks, kept as long as there is room.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::Mutex;

use super::open_block::OpenBlock;
use crate::block_id::BlockId;
use crate::skip::SkipIndex;

/// What it takes to know that a block has no side file.
const NOTHING_BYTES: usize = 128;

/// Side files by block; of those that it has no room for the oldest go first.
#[derive(Debug)]
pub(super) struct SkipCache {
    max_bytes: usize,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    by_block: HashMap<BlockId, Option<Arc<SkipIndex>>>,
    order: VecDeque<(BlockId, usize)>,
    bytes: usize,
}

impl SkipCache {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self {
            max_bytes,
            known: Mutex::default(),
        }
    }

    /// The side file of a block, read where it is not known; `None` where there is none that can be used.
    pub(super) async fn get(&self, block: &OpenBlock) -> Option<Arc<SkipIndex>> {
        let id = block.meta().block_id;
        if let Some(known) = self.known.lock().by_block.get(&id) {
            return known.clone();
        }
        let index = match block.read_skip_index().await {
            Ok(index) => index.map(Arc::new),
            Err(e) => {
                tracing::warn!(block = %id, error = %e, "a side file cannot be read now; the block is read without it");
                return None;
            }
        };
        let bytes = index
            .as_ref()
            .map_or(NOTHING_BYTES, |index| index.size_bytes());
        let mut known = self.known.lock();
        if known.by_block.insert(id, index.clone()).is_none() {
            known.order.push_back((id, bytes));
            known.bytes += bytes;
        }
        while known.bytes > self.max_bytes
            && let Some((oldest, bytes)) = known.order.pop_front()
        {
            known.by_block.remove(&oldest);
            known.bytes -= bytes;
        }
        index
    }
}
