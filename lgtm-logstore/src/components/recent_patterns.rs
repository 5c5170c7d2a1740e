//! Templates of recent lines: what `patterns` answers from.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use hashbrown::HashMap;
use lgtm_core::clock::Clock;
use lgtm_core::exec::{CancelToken, Executor};
use lgtm_core::model::{Labels, Listed, TenantId, TimestampMs, TimestampNs};
use lgtm_core::units::ByteSize;
use lgtm_core::{Error, Result};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::clients::{PatternCounts, PatternsRequest};
use crate::drain::{DrainSettings, LineTemplates, LineWords, STEP_NS};
use crate::limits::Accepted;
use crate::wire::{PushBatch, PushEntry, StreamView};

/// Lines that a pattern must have in the range of a request. Loki's number.
const MIN_LINES: u64 = 30;
/// Patterns of an answer. Loki's number.
const MAX_PATTERNS: usize = 300;
/// Levels that the lines of one stream are told apart by; lines of further ones do not count.
const MAX_LEVELS: usize = 12;
/// Streams lie in so many parts, each with a lock and its share of the memory.
const PARTS: u64 = 16;
/// Entries of a push after which others have their turn: a millisecond, if each is looked at.
const TURN_ENTRIES: usize = 2048;
const LEVEL: &str = "detected_level";
const UNKNOWN: &str = "unknown";

/// How patterns of recent lines are found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PatternSettings {
    /// Whether they are found at all. On (default; off in Loki): the page of patterns in Grafana works from the start.
    pub enabled: bool,
    /// Memory for the patterns of all tenants; beyond it streams are forgotten, those first that were silent for longest. Default 32 MiB:
    /// some 10,000 streams of a few patterns each.
    pub max_memory: ByteSize,
    /// How long patterns are kept. Default 3h, as Loki asks its ingesters for that time.
    #[serde(with = "lgtm_core::units::duration")]
    pub retention: Duration,
    /// Lines of a stream in 10 seconds of which each is looked at. Default 20.
    pub full_rate_lines: u32,
    /// Of further ones one in so many is looked at, on average, and counts for those that were not: counts of busy streams are estimates.
    /// Default 16. 1: every line.
    pub sample_every: u32,
    /// Lines of all streams that are looked at in a second; further ones count with the next of their stream that is. Default 5000, which is some
    /// 3 ms of CPU a second.
    pub max_lines_per_second: u32,
    /// How templates are found.
    pub drain: DrainSettings,
}

impl Default for PatternSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            max_memory: ByteSize::mib(32),
            retention: Duration::from_secs(3 * 3600),
            full_rate_lines: 20,
            sample_every: 16,
            max_lines_per_second: 5000,
            drain: DrainSettings::default(),
        }
    }
}

impl PatternSettings {
    /// Checks the settings.
    ///
    /// # Errors
    /// `InvalidInput` naming every fault.
    pub fn validate(&self) -> Result<()> {
        let mut faults = Vec::new();
        if self.sample_every == 0 {
            faults.push("sample_every is 0".to_owned());
        }
        let drain = &self.drain;
        if !(0.0..=1.0).contains(&drain.similarity) {
            let similarity = drain.similarity;
            faults.push(format!(
                "drain.similarity {similarity} is not between 0 and 1"
            ));
        }
        for (name, value) in [
            ("depth", drain.depth),
            ("max_children", drain.max_children),
            ("max_templates", drain.max_templates),
            ("max_steps", drain.max_steps),
        ] {
            if !(1..=100_000).contains(&value) {
                faults.push(format!("drain.{name} {value} is not in 1..=100000"));
            }
        }
        if drain.max_words > 1000 || drain.max_line_bytes > 1 << 20 {
            faults
                .push("drain.max_words is above 1000, or drain.max_line_bytes above 1 MiB".into());
        }
        if faults.is_empty() {
            Ok(())
        } else {
            Err(Error::InvalidInput(faults.join("; ")))
        }
    }
}

/// The lines of one stream.
#[derive(Debug)]
struct StreamPatterns {
    tenant: TenantId,
    labels: Labels,
    levels: Vec<(Box<str>, LineTemplates)>,
    /// When entries came last, milliseconds.
    touched_ms: TimestampMs,
    /// The ten seconds that `seen` counts in.
    step: i64,
    seen: u32,
    /// Lines since one was looked at.
    skipped: u32,
    /// Lines that are not looked at before the next one is.
    skip: u32,
    random: u64,
    bytes: usize,
}

/// How a push is looked at.
struct Look<'a> {
    taken: &'a Accepted,
    now_ms: TimestampMs,
    settings: &'a PatternSettings,
    /// Lines that may be looked at.
    left: &'a mut u32,
}

#[derive(Debug, Default)]
struct Part {
    streams: HashMap<u64, StreamPatterns>,
    words: LineWords,
    bytes: usize,
}

/// What recent lines of all tenants have in common. Fed by whoever takes entries.
///
/// A line that is looked at costs some hundred nanoseconds, one that is not a few; of busy streams one in
/// [`PatternSettings::sample_every`] is looked at.
#[derive(Debug)]
pub struct RecentPatterns {
    settings: PatternSettings,
    clock: Arc<dyn Clock>,
    parts: Vec<Mutex<Part>>,
    hasher: hashbrown::DefaultHashBuilder,
    /// The second that `looked_at` counts in.
    second: AtomicI64,
    looked_at: AtomicU32,
    forgotten: AtomicU64,
}

impl RecentPatterns {
    /// Nothing came yet.
    ///
    /// # Errors
    /// `InvalidInput` for settings out of bounds.
    pub fn new(settings: PatternSettings, clock: Arc<dyn Clock>) -> Result<Self> {
        settings.validate()?;
        Ok(Self {
            settings,
            clock,
            parts: (0..PARTS).map(|_| Mutex::default()).collect(),
            hasher: hashbrown::DefaultHashBuilder::default(),
            second: AtomicI64::new(0),
            looked_at: AtomicU32::new(0),
            forgotten: AtomicU64::new(0),
        })
    }

    /// Bytes of memory that patterns take, nearly.
    pub fn memory_bytes(&self) -> u64 {
        self.parts.iter().map(|p| p.lock().bytes as u64).sum()
    }

    /// Streams that were forgotten so far for want of memory.
    pub fn forgotten(&self) -> u64 {
        self.forgotten.load(Ordering::Relaxed)
    }

    /// Looks at the entries of a push that were taken. Those older than the retention, or in the future, do not count. Of a large push others
    /// have their turn now and then.
    pub async fn observe(&self, tenant: &TenantId, batch: &PushBatch, taken: &Accepted) {
        if !self.settings.enabled {
            return;
        }
        let now_ms = self.clock.now_ms();
        let mut since_turn = 0;
        for view in batch.streams() {
            if view.labels().is_internal() {
                continue;
            }
            let bytes = view.labels().as_bytes();
            let key = std::hash::BuildHasher::hash_one(&self.hasher, (tenant.as_str(), bytes));
            let mut next = 0;
            while next < view.len() {
                let run = next..view.len().min(next + TURN_ENTRIES);
                next = run.end;
                since_turn += run.len();
                self.observe_run(key, tenant, &view, run, taken, now_ms);
                if since_turn >= TURN_ENTRIES {
                    since_turn = 0;
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    fn observe_run(
        &self,
        key: u64,
        tenant: &TenantId,
        view: &StreamView<'_>,
        run: Range<usize>,
        taken: &Accepted,
        now_ms: TimestampMs,
    ) {
        let second = now_ms.to_seconds();
        if self.second.swap(second, Ordering::Relaxed) != second {
            self.looked_at.store(0, Ordering::Relaxed);
        }
        // Others may look at lines at the same time: nearly is enough.
        let looked_at = self.looked_at.load(Ordering::Relaxed);
        let room = self.settings.max_lines_per_second.saturating_sub(looked_at);
        let mut left = room;
        let mut part = self.parts[(key % PARTS) as usize].lock();
        let mut look = Look {
            taken,
            now_ms,
            settings: &self.settings,
            left: &mut left,
        };
        part.observe(key, tenant, view, run, &mut look);
        self.looked_at.fetch_add(room - left, Ordering::Relaxed);
        if part.bytes > self.max_part_bytes() {
            let gone = part.shrink(self.max_part_bytes());
            self.forgotten.fetch_add(gone, Ordering::Relaxed);
        }
    }

    fn max_part_bytes(&self) -> usize {
        self.settings.max_memory.as_usize() / PARTS as usize
    }

    /// Forgets what is older than the retention. For now and then: walks over everything, part by part, on the pool.
    ///
    /// # Errors
    /// Those of [`Executor::run`].
    pub async fn maintain(self: &Arc<Self>, executor: &Executor) -> Result<()> {
        let oldest_ns = oldest_ns(self.clock.now_ms(), &self.settings);
        for at in 0..self.parts.len() {
            let this = Arc::clone(self);
            let job = move |_: &CancelToken| -> Result<()> {
                let mut part = this.parts[at].lock();
                part.forget_before(oldest_ns, &this.settings.drain);
                Ok(())
            };
            executor.run(job, &CancelToken::new()).await?;
        }
        Ok(())
    }

    /// The patterns of the streams that match, all of them: [`joined_patterns`] chooses. Computed on the pool.
    ///
    /// # Errors
    /// Those of [`Executor::run`].
    pub async fn patterns(
        self: &Arc<Self>,
        executor: &Executor,
        tenant: &TenantId,
        request: &PatternsRequest,
    ) -> Result<Vec<PatternCounts>> {
        let (this, tenant, request) = (Arc::clone(self), tenant.clone(), request.clone());
        let in_line = executor.in_line(tenant.as_str());
        let job = move |cancel: &CancelToken| this.found(&tenant, &request, cancel);
        in_line.run(job, &CancelToken::new()).await
    }

    fn found(
        &self,
        tenant: &TenantId,
        request: &PatternsRequest,
        cancel: &CancelToken,
    ) -> Result<Vec<PatternCounts>> {
        let mut joined = JoinedPatterns::new(request.step_ns);
        let mut apart = Vec::new();
        for part in &self.parts {
            cancel.check("patterns")?;
            let part = part.lock();
            let own = part.streams.values().filter(|s| s.tenant == *tenant);
            for stream in own.filter(|s| takes(&s.labels, request)) {
                if request.by_stream {
                    apart.extend(stream.within(request));
                    continue;
                }
                for (level, templates) in &stream.levels {
                    for found in templates.within(request.range) {
                        joined.add(&found.pattern, level, found.counts);
                    }
                }
            }
        }
        if request.by_stream {
            return Ok(apart);
        }
        Ok(joined.finish(0))
    }
}

fn oldest_ns(now_ms: TimestampMs, settings: &PatternSettings) -> TimestampNs {
    let retention = i64::try_from(settings.retention.as_nanos()).unwrap_or(i64::MAX);
    let now_ns = now_ms.to_ns();
    now_ns.saturating_sub(retention)
}

fn takes(labels: &Labels, request: &PatternsRequest) -> bool {
    let mut matchers = request.matchers.iter();
    matchers.all(|m| m.matches(labels.get(m.name()).unwrap_or("")))
}

impl Part {
    fn forget_before(&mut self, oldest_ns: TimestampNs, settings: &DrainSettings) {
        self.streams.retain(|_, stream| {
            for (_, templates) in &mut stream.levels {
                templates.forget_before(oldest_ns, settings);
            }
            stream.levels.retain(|(_, templates)| !templates.is_empty());
            stream.bytes = stream.size_bytes();
            !stream.levels.is_empty()
        });
        self.bytes = self.streams.values().map(|s| s.bytes).sum();
    }

    fn observe(
        &mut self,
        key: u64,
        tenant: &TenantId,
        view: &StreamView<'_>,
        run: Range<usize>,
        look: &mut Look<'_>,
    ) {
        let (taken, now_ms, settings) = (look.taken, look.now_ms, look.settings);
        let Self {
            streams,
            words,
            bytes,
        } = self;
        let stream = match streams.entry(key) {
            hashbrown::hash_map::Entry::Occupied(known) => known.into_mut(),
            hashbrown::hash_map::Entry::Vacant(place) => {
                let Ok(labels) = view.labels().to_labels() else {
                    return;
                };
                place.insert(StreamPatterns {
                    tenant: tenant.clone(),
                    labels: labels.detached(),
                    levels: Vec::new(),
                    touched_ms: now_ms,
                    step: i64::MIN,
                    seen: 0,
                    skipped: 0,
                    skip: 0,
                    random: key | 1,
                    bytes: 0,
                })
            }
        };
        let first = view.first_entry();
        let range = oldest_ns(now_ms, settings)..now_ms.to_ns() + STEP_NS;
        stream.touched_ms = now_ms;
        let mut is_changed = stream.bytes == 0;
        for n in run.filter(|n| taken.takes(first + n)) {
            let entry = view.entry(n);
            if !range.contains(&entry.t_ns) {
                continue;
            }
            if let Some(count) = stream.sample(now_ms, settings, *look.left > 0) {
                *look.left -= 1;
                stream.add(&entry, count, settings, words);
                is_changed = true;
            }
        }
        if is_changed {
            let (before, after) = (stream.bytes, stream.size_bytes());
            stream.bytes = after;
            *bytes = (*bytes + after).saturating_sub(before);
        }
    }

    /// Forgets the streams that were silent for longest, until there is some room. How many.
    fn shrink(&mut self, max_bytes: usize) -> u64 {
        let streams = self.streams.iter();
        let mut ages: Vec<(TimestampMs, u64)> =
            streams.map(|(key, s)| (s.touched_ms, *key)).collect();
        ages.sort_unstable();
        let mut gone = 0;
        for (_, key) in ages {
            if self.bytes <= max_bytes - max_bytes / 8 {
                break;
            }
            if let Some(stream) = self.streams.remove(&key) {
                self.bytes = self.bytes.saturating_sub(stream.bytes);
                gone += 1;
            }
        }
        gone
    }
}

impl StreamPatterns {
    /// Its patterns alone.
    fn within(&self, request: &PatternsRequest) -> Vec<PatternCounts> {
        let mut joined = JoinedPatterns::new(request.step_ns);
        for (level, templates) in &self.levels {
            for found in templates.within(request.range) {
                joined.add(&found.pattern, level, found.counts);
            }
        }
        let mut own = joined.finish(0);
        let stream = self.labels.stable_hash();
        own.iter_mut().for_each(|p| p.stream = Some(stream));
        own
    }

    /// For how many lines this one counts; `None` if it is not looked at.
    fn sample(
        &mut self,
        now_ms: TimestampMs,
        settings: &PatternSettings,
        has_room: bool,
    ) -> Option<u32> {
        let step = now_ms.to_ns().get().div_euclid(STEP_NS);
        if step != self.step {
            (self.step, self.seen, self.skip) = (step, 0, 0);
        }
        self.seen = self.seen.saturating_add(1);
        self.skipped = self.skipped.saturating_add(1);
        if self.skip > 0 || !has_room {
            self.skip = self.skip.saturating_sub(1);
            return None;
        }
        if self.seen >= settings.full_rate_lines && settings.sample_every > 1 {
            // By chance, so that no rhythm of the lines falls in with it; as often as wanted on average.
            self.random ^= self.random << 13;
            self.random ^= self.random >> 7;
            self.random ^= self.random << 17;
            let most = u64::from(settings.sample_every) * 2 - 1;
            self.skip = (self.random % most) as u32;
        }
        Some(std::mem::take(&mut self.skipped))
    }

    fn add(
        &mut self,
        entry: &PushEntry<'_>,
        count: u32,
        settings: &PatternSettings,
        words: &mut LineWords,
    ) {
        let mut metadata = entry.metadata();
        let level = metadata.find(|(name, _)| *name == LEVEL);
        let level = level.map_or(UNKNOWN, |(_, value)| value);
        let at = match self.levels.iter().position(|(l, _)| **l == *level) {
            Some(at) => at,
            None if self.levels.len() >= MAX_LEVELS => return,
            None => {
                self.levels.push((level.into(), LineTemplates::default()));
                self.levels.len() - 1
            }
        };
        let templates = &mut self.levels[at].1;
        templates.add(entry.t_ns, entry.line, count, &settings.drain, words);
    }

    fn size_bytes(&self) -> usize {
        let levels = self.levels.iter();
        let levels = levels.map(|(level, templates)| level.len() + 64 + templates.heap_bytes());
        size_of::<Self>() + self.labels.size_bytes() + levels.sum::<usize>()
    }
}

/// Patterns by text and level.
struct JoinedPatterns {
    step_ns: i64,
    found: BTreeMap<(String, String), BTreeMap<TimestampNs, u64>>,
}

impl JoinedPatterns {
    /// Counts stand at multiples of the step, which is raised to 10 seconds.
    fn new(step_ns: i64) -> Self {
        Self {
            step_ns: step_ns.max(STEP_NS),
            found: BTreeMap::new(),
        }
    }

    fn add(
        &mut self,
        pattern: &str,
        level: &str,
        counts: impl IntoIterator<Item = (TimestampNs, u64)>,
    ) {
        let key = (pattern.to_owned(), level.to_owned());
        let into = self.found.entry(key).or_default();
        for (t_ns, count) in counts {
            *into.entry(t_ns.floor(self.step_ns)).or_default() += count;
        }
    }

    /// Those of at least `min_lines` lines, the most frequent first.
    fn finish(self, min_lines: u64) -> Vec<PatternCounts> {
        let found = self.found.into_iter();
        let all = found.map(|((pattern, level), counts)| {
            let total: u64 = counts.values().sum();
            let counts = counts.into_iter().collect();
            let pattern = PatternCounts {
                pattern,
                level,
                counts,
                stream: None,
            };
            (total, pattern)
        });
        let mut all: Vec<_> = all.filter(|(total, _)| *total >= min_lines).collect();
        all.sort_by_key(|(total, _)| std::cmp::Reverse(*total));
        all.into_iter().map(|(_, pattern)| pattern).collect()
    }
}

/// What replicas tell of each stream [apart](PatternsRequest::by_stream), joined: of each stream the patterns of the replica that has seen most of its
/// lines. So each line counts at most once, though replicas may have found different patterns in the same lines.
#[cfg(feature = "ring")]
pub(super) fn patterns_of_replicas(
    request: &PatternsRequest,
    replicas: Vec<Listed<Vec<PatternCounts>>>,
) -> Listed<Vec<PatternCounts>> {
    let mut listed = Listed::whole(Vec::new());
    let mut streams: HashMap<u64, (u64, Vec<PatternCounts>)> = HashMap::new();
    for replica in replicas {
        listed.is_cut |= replica.is_cut;
        listed.warn(replica.warnings);
        let mut own: HashMap<u64, (u64, Vec<PatternCounts>)> = HashMap::new();
        for pattern in replica.items {
            let lines: u64 = pattern.counts.iter().map(|(_, n)| n).sum();
            let (total, patterns) = own.entry(pattern.stream.unwrap_or(0)).or_default();
            *total += lines;
            patterns.push(pattern);
        }
        for (stream, found) in own {
            let best = streams.entry(stream).or_default();
            if found.0 > best.0 {
                *best = found;
            }
        }
    }
    if request.by_stream {
        listed.items = streams.into_values().flat_map(|(_, p)| p).collect();
        return listed;
    }
    let mut joined = JoinedPatterns::new(request.step_ns);
    for pattern in streams.into_values().flat_map(|(_, p)| p) {
        joined.add(&pattern.pattern, &pattern.level, pattern.counts);
    }
    listed.items = joined.finish(0);
    listed
}

/// The answer to a request, made of what holders have: the most frequent patterns, at most 300, without those of fewer than 30 lines.
///
/// Each line counts in as many holders as have it: `replicas`.
pub fn joined_patterns(
    request: &PatternsRequest,
    parts: Vec<Listed<Vec<PatternCounts>>>,
    replicas: u64,
) -> Listed<Vec<PatternCounts>> {
    let mut joined = JoinedPatterns::new(request.step_ns);
    let mut listed = Listed::whole(Vec::new());
    for part in parts {
        listed.is_cut |= part.is_cut;
        listed.warn(part.warnings);
        for found in part.items {
            joined.add(&found.pattern, &found.level, found.counts);
        }
    }
    let replicas = replicas.max(1);
    let mut all = joined.finish(MIN_LINES * replicas);
    all.truncate(MAX_PATTERNS);
    for (_, count) in all.iter_mut().flat_map(|p| &mut p.counts) {
        *count = count.div_ceil(replicas);
    }
    listed.items = all;
    listed
}

#[cfg(test)]
mod tests;
