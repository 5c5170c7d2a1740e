//! Memory of decoded columns, used again.
//!
//! A row group's columns take some megabytes for a few milliseconds. Taken anew each time, the system makes and clears a page of memory for each 4 KiB of
//! them, and takes it back, which costs about as much as decoding them does. So who decodes many keeps what the last ones left.

use parking_lot::Mutex;

use crate::schema::page_scratch::PageScratch;

/// What is kept at most: the columns of some row groups at a time, as queries have them.
const MAX_KEPT_BYTES: usize = 16 << 20;
/// A vector of so many times the room that is wanted is left for others: what is kept of it for long would hold all of it.
const MAX_SURPLUS: usize = 4;
/// Less is not worth a look.
const LEAST_BYTES: usize = 4 << 10;
/// Bytes of a scratch beside its buffers, about: those of zstd.
const SCRATCH_BYTES: usize = 160 << 10;

/// Memory of columns that nobody reads any more; at most 16 MiB.
#[derive(Debug, Default)]
pub struct ColumnMemory(Mutex<Kept>);

#[derive(Debug, Default)]
pub(crate) struct Kept {
    bytes: usize,
    levels: Vec<Vec<u8>>,
    numbers: Vec<Vec<u32>>,
    ints: Vec<Vec<i32>>,
    longs: Vec<Vec<i64>>,
    scratches: Vec<PageScratch>,
}

/// What vectors are kept of.
pub(crate) trait KeptEntry: Sized {
    fn shelf(kept: &mut Kept) -> &mut Vec<Vec<Self>>;
}

impl KeptEntry for u8 {
    fn shelf(kept: &mut Kept) -> &mut Vec<Vec<Self>> {
        &mut kept.levels
    }
}

impl KeptEntry for u32 {
    fn shelf(kept: &mut Kept) -> &mut Vec<Vec<Self>> {
        &mut kept.numbers
    }
}

impl KeptEntry for i32 {
    fn shelf(kept: &mut Kept) -> &mut Vec<Vec<Self>> {
        &mut kept.ints
    }
}

impl KeptEntry for i64 {
    fn shelf(kept: &mut Kept) -> &mut Vec<Vec<Self>> {
        &mut kept.longs
    }
}

impl ColumnMemory {
    /// An empty vector with room for so many entries and not much more, if there is one: else one that has no memory yet.
    pub(crate) fn take<T: KeptEntry>(&self, entries: usize) -> Vec<T> {
        if entries.saturating_mul(size_of::<T>()) < LEAST_BYTES {
            return Vec::new();
        }
        let mut kept = self.0.lock();
        let shelf = T::shelf(&mut kept).iter().enumerate();
        let most = entries.saturating_mul(MAX_SURPLUS);
        let fitting = shelf.filter(|(_, vec)| (entries..=most).contains(&vec.capacity()));
        let Some((at, _)) = fitting.min_by_key(|(_, vec)| vec.capacity()) else {
            return Vec::new();
        };
        let vec = T::shelf(&mut kept).swap_remove(at);
        kept.bytes -= vec.capacity() * size_of::<T>();
        vec
    }

    /// Keeps the memory of a vector.
    pub(crate) fn give<T: KeptEntry>(&self, mut vec: Vec<T>) {
        let bytes = vec.capacity() * size_of::<T>();
        if bytes < LEAST_BYTES {
            return;
        }
        let mut kept = self.0.lock();
        if kept.bytes + bytes <= MAX_KEPT_BYTES {
            vec.clear();
            kept.bytes += bytes;
            T::shelf(&mut kept).push(vec);
        }
    }

    pub(crate) fn take_scratch(&self) -> PageScratch {
        let mut kept = self.0.lock();
        let Some(scratch) = kept.scratches.pop() else {
            return PageScratch::default();
        };
        kept.bytes -= SCRATCH_BYTES + scratch.buffer_bytes();
        scratch
    }

    pub(crate) fn give_scratch(&self, scratch: PageScratch) {
        if scratch.buffer_bytes() == 0 {
            return;
        }
        let bytes = SCRATCH_BYTES + scratch.buffer_bytes();
        let mut kept = self.0.lock();
        if kept.bytes + bytes <= MAX_KEPT_BYTES {
            kept.bytes += bytes;
            kept.scratches.push(scratch);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_vector_that_fits_is_used_again() {
        let memory = ColumnMemory::default();
        for capacity in [100_000, 5_000, 20_000, 10] {
            memory.give(Vec::<u8>::with_capacity(capacity));
        }
        assert_eq!(memory.take::<u8>(10).capacity(), 0, "as cheap as new");
        assert_eq!(memory.take::<u8>(6_000).capacity(), 20_000);
        assert_eq!(memory.take::<u8>(6_000).capacity(), 0, "far too large");
        assert_eq!(memory.take::<u8>(60_000).capacity(), 100_000);
        assert_eq!(memory.take::<u32>(5_000).capacity(), 0, "of another type");
        assert_eq!(memory.0.lock().bytes, 5_000);
    }

    #[test]
    fn no_more_is_kept_than_may_be() {
        let memory = ColumnMemory::default();
        for _ in 0..10 {
            memory.give(Vec::<i64>::with_capacity(500_000));
        }
        let kept = memory.0.lock();
        assert_eq!((kept.bytes, kept.longs.len()), (16_000_000, 4));
    }
}
