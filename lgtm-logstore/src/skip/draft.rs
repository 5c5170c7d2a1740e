//! What stands beside a chunk, made while the chunk is: of each block when it is cut, as its entries are at hand then.
//!
//! Blocks of one chunk are cut minutes apart, with those of thousands of others between them. So the sets of a group are common to all chunks
//! ([`SkipBuilder`]), and between two blocks a chunk keeps its hashes only.

use std::collections::BTreeSet;

use lgtm_core::codec::put_uvarint;
use lgtm_core::model::TimestampNs;

use super::batch::{MadeSkip, SmallSkip};
use super::chunk_skip::{ChunkSkip, LENGTHS_BYTES, SkipBuilder, minutes_room, whole_bytes};
use super::counts::{ChunkCounts, Counter};
use super::filters::put_names;
use super::group::KeptGroupParts;
use super::settings::SkipSettings;
use super::side_object::ROW_BYTES;
use crate::chunk::{BlockObserver, BlockPlace};
use crate::entry::EntryBlock;

/// What was made so far beside a chunk in the making.
#[derive(Debug, Clone)]
pub struct SkipDraft {
    /// Complete groups as they are written.
    groups: Vec<u8>,
    group_count: u64,
    /// Names of structured metadata.
    names: BTreeSet<String>,
    counter: Option<Counter>,
    /// The group that is not complete.
    open: OpenGroup,
    /// Whether the parts of the open group are in a builder.
    is_away: bool,
    /// Whether something of it did not come back.
    is_lost: bool,
}

/// Blocks of a group that is not complete.
#[derive(Debug, Clone, Default)]
struct OpenGroup {
    parts: KeptGroupParts,
    plain_bytes: u64,
    packed_bytes: u64,
    entries: u64,
    times: Option<(TimestampNs, TimestampNs)>,
}

impl SkipDraft {
    /// Of a chunk without blocks.
    pub fn new(settings: &SkipSettings) -> Self {
        Self {
            groups: Vec::new(),
            group_count: 0,
            names: BTreeSet::new(),
            counter: settings.counts.then(Counter::default),
            open: OpenGroup::default(),
            is_away: false,
            is_lost: false,
        }
    }

    /// About the bytes of memory.
    pub fn memory_bytes(&self) -> usize {
        let names = self.names.iter().map(|n| n.len() + size_of::<String>());
        size_of::<Self>()
            + self.groups.capacity()
            + names.sum::<usize>()
            + self.counter.as_ref().map_or(0, Counter::size_bytes)
            + self.open.parts.size_bytes()
    }

    /// Bytes of memory of what is not complete.
    pub fn open_bytes(&self) -> usize {
        self.open.parts.size_bytes()
    }

    /// Goes on with it: `builder` takes the blocks that come next.
    pub fn go_on<'a>(
        &'a mut self,
        builder: &'a mut SkipBuilder,
        settings: &'a SkipSettings,
    ) -> SkipDrafting<'a> {
        SkipDrafting {
            draft: self,
            builder,
            settings,
            is_loaded: false,
        }
    }
}

/// Takes the blocks of a chunk as they are cut; [`SkipDrafting::pause`] or [`SkipDrafting::finish`] end it.
#[derive(Debug)]
pub struct SkipDrafting<'a> {
    draft: &'a mut SkipDraft,
    builder: &'a mut SkipBuilder,
    settings: &'a SkipSettings,
    /// Whether the parts of the open group are in the builder, and not in the draft.
    is_loaded: bool,
}

impl BlockObserver for SkipDrafting<'_> {
    fn see(&mut self, place: &BlockPlace, block: &EntryBlock) {
        self.load();
        let draft = &mut *self.draft;
        if let Some(counter) = &mut draft.counter {
            counter.add(block);
        }
        self.builder.take(block, &mut draft.names);
        let open = &mut draft.open;
        open.plain_bytes += whole_bytes(place);
        open.packed_bytes += place.len;
        open.entries += place.entry_count;
        open.times = Some(match open.times {
            None => (place.min_ns, place.max_ns),
            Some((min, max)) => (min.min(place.min_ns), max.max(place.max_ns)),
        });
        if open.plain_bytes >= self.settings.group_size.as_u64() {
            self.close_open_group();
        }
    }

    fn forget(&mut self) {
        *self.draft = SkipDraft::new(self.settings);
        self.is_loaded = false;
    }
}

impl OpenGroup {
    fn counts_room(&self, settings: &SkipSettings) -> usize {
        match self.times.filter(|_| settings.counts) {
            Some(times) => minutes_room(times, self.entries),
            None => 0,
        }
    }
}

impl SkipDrafting<'_> {
    /// Has the builder hold the open group.
    fn load(&mut self) {
        if !self.is_loaded {
            self.is_loaded = true;
            // Whoever had it before was stopped half way.
            self.draft.is_lost |= self.draft.is_away;
            self.draft.is_away = true;
            self.builder.group.reset(self.settings.group_room());
            self.builder.group.add(&self.draft.open.parts);
            self.draft.open.parts = KeptGroupParts::default();
        }
    }

    /// Ends the open group, which is in the builder, within the share of its blocks.
    fn close_open_group(&mut self) {
        let open = &self.draft.open;
        let room = self.settings.share_of(open.packed_bytes as usize);
        let counts = open.counts_room(self.settings);
        self.close_group(room - counts.clamp(room / 16, room / 2));
    }

    fn close_group(&mut self, max_bytes: usize) {
        self.builder.group.encode(max_bytes, &mut self.draft.groups);
        self.draft.group_count += 1;
        self.draft.open = OpenGroup::default();
        self.draft.is_away = false;
        self.is_loaded = false;
    }

    /// Puts aside what is not complete, until more blocks are cut.
    pub fn pause(self) {
        let Self { draft, builder, .. } = self;
        if self.is_loaded {
            draft.open.parts = builder.group.keep();
            draft.is_away = false;
        }
        if let Some(counter) = &mut draft.counter {
            counter.let_go();
        }
        draft.groups.shrink_to_fit();
    }

    /// Makes a group of what is not complete, though it is smaller than others: in its final form it takes a tenth of the memory.
    pub fn settle(mut self) {
        if self.draft.open.plain_bytes > 0 {
            self.load();
            self.close_open_group();
            self.draft.groups.shrink_to_fit();
        }
    }

    /// What stands beside the chunk, which has so many bytes; `None` where there is no room for anything.
    pub fn finish(mut self, chunk_bytes: usize) -> Option<MadeSkip> {
        let counts = self.draft.counter.take().and_then(Counter::finish);
        if self.settings.is_small(chunk_bytes) && self.draft.group_count == 0 {
            return self.finish_small(counts);
        }
        let share = self.settings.share_of(chunk_bytes);
        let max_bytes = share.max(SkipSettings::SMALL_ROOM).checked_sub(ROW_BYTES)?;
        let counts = counts.map(|c| c.encode()).unwrap_or_default();
        let counts = if counts.len() > max_bytes / 2 {
            Vec::new()
        } else {
            counts
        };
        let mut filters = Vec::new();
        put_names(self.draft.names.iter().map(String::as_str), &mut filters);
        if self.draft.open.plain_bytes > 0 {
            self.load();
            let used = filters.len() + self.draft.groups.len() + counts.len() + LENGTHS_BYTES;
            self.close_group(max_bytes.saturating_sub(used));
        }
        if self.draft.is_lost {
            return None;
        }
        put_uvarint(&mut filters, self.draft.group_count);
        filters.extend_from_slice(&self.draft.groups);
        let own = ChunkSkip { filters, counts }.within(max_bytes);
        own.map(MadeSkip::Own)
    }

    fn finish_small(mut self, counts: Option<ChunkCounts>) -> Option<MadeSkip> {
        self.load();
        let draft = self.draft;
        draft.is_away = false;
        let small = SmallSkip {
            parts: self.builder.group.keep(),
            names: std::mem::take(&mut draft.names),
            counts,
            plain_bytes: draft.open.plain_bytes,
        };
        (!draft.is_lost).then(|| MadeSkip::Small(Box::new(small)))
    }
}
