//! Joins side objects of a day, and deletes those of days whose index is gone.
//!
//! Nothing here is needed for an answer: side objects may be deleted at any time. So no mark in the store says what is superseded: a process that
//! ends before it has deleted the old objects leaves them to the next one, which joins them again, each chunk once.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use lgtm_core::exec::CancelToken;
use lgtm_core::storage::{Bucket, ObjectInfo, PutOutcome};
use lgtm_core::{Error, ErrorKind, Result};
use parking_lot::Mutex;

use super::compactor::Compactor;
use crate::chunk::ChunkKey;
use crate::compact::merge_side_objects;
use crate::schema::DAY_MS;

/// Joined objects that are to be deleted.
#[derive(Debug)]
struct LeavingObjects {
    /// On the clock that never goes back.
    not_before: Duration,
    paths: BTreeSet<String>,
}

/// What a [`Compactor`] knows of side objects.
#[derive(Debug)]
pub(super) struct SideCompactor {
    bucket: Bucket,
    leaving: Mutex<Vec<LeavingObjects>>,
    /// Chunks that are gone, by the days of their side objects, which have them still.
    gone: Mutex<BTreeMap<i64, Arc<HashSet<ChunkKey>>>>,
    /// Days that were in order, and when that was, on the clock that never goes back.
    settled: Mutex<BTreeMap<i64, Duration>>,
}

impl SideCompactor {
    pub(super) fn new(bucket: Bucket) -> Self {
        Self {
            bucket,
            leaving: Mutex::default(),
            gone: Mutex::default(),
            settled: Mutex::default(),
        }
    }
}

/// Chunks that are remembered as gone; of more the sections stay until their day is gone.
const MAX_GONE: usize = 100_000;

impl SideCompactor {
    /// Chunks were deleted: what stands beside them may go when objects of their days are joined, which is then worth it soon.
    pub(super) fn note_gone(&self, chunks: impl IntoIterator<Item = ChunkKey>) {
        let mut gone = self.gone.lock();
        let known: usize = gone.values().map(|day| day.len()).sum();
        for chunk in chunks.into_iter().take(MAX_GONE.saturating_sub(known)) {
            let day = chunk.from_ms.get().div_euclid(DAY_MS);
            self.settled.lock().remove(&day);
            Arc::make_mut(gone.entry(day).or_default()).insert(chunk);
        }
    }
}

impl Compactor {
    /// One round over side objects; `tables` are the days that have index files.
    ///
    /// # Errors
    /// The first error of the store; the other days are seen to all the same.
    pub(super) async fn compact_side_objects(
        &self,
        side: &SideCompactor,
        tables: &BTreeSet<i64>,
        cancel: &CancelToken,
    ) -> Result<()> {
        self.delete_joined(side).await?;
        let listing = side.bucket.list_with_delimiter("").await?;
        let days = listing.folders.iter().map(|f| f.trim_end_matches('/'));
        let mut failed = None;
        for day in days.filter_map(|f| f.parse::<i64>().ok()) {
            cancel.check("compaction")?;
            let now = self.clock.monotonic();
            let seen = side.settled.lock().get(&day).copied();
            let is_fresh = |at| now.saturating_sub(at) < self.settings.full_interval;
            let is_orphan = self.is_over(day) && !tables.is_empty() && !tables.contains(&day);
            if !is_orphan && seen.is_some_and(is_fresh) {
                continue;
            }
            let done = if is_orphan {
                self.delete_side_day(side, day).await
            } else {
                self.join_side_day(side, day).await
            };
            if let Err(e) = done {
                tracing::warn!(day, error = %e, "side objects cannot be seen to; it is tried again");
                failed.get_or_insert(e);
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Whether a day is over, late data included.
    fn is_over(&self, day: i64) -> bool {
        let settle = i64::try_from(self.settings.settle_after.as_millis()).unwrap_or(i64::MAX);
        let end_ms = day.saturating_add(1).saturating_mul(DAY_MS);
        self.clock.now_ms().get() >= end_ms.saturating_add(settle)
    }

    /// Deletes what was joined long enough ago.
    async fn delete_joined(&self, side: &SideCompactor) -> Result<()> {
        let now = self.clock.monotonic();
        let is_due = |l: &LeavingObjects| l.not_before <= now;
        let due: Vec<Vec<String>> = {
            let leaving = side.leaving.lock();
            let due = leaving.iter().filter(|l| is_due(l));
            due.map(|l| l.paths.iter().cloned().collect()).collect()
        };
        for paths in due {
            self.delete_side_objects(side, &paths).await?;
            let mut leaving = side.leaving.lock();
            leaving.retain(|l| !l.paths.iter().eq(&paths));
        }
        Ok(())
    }

    async fn delete_side_objects(&self, side: &SideCompactor, paths: &[String]) -> Result<()> {
        let names: Vec<&str> = paths.iter().map(String::as_str).collect();
        side.bucket.delete_all(&names).await?;
        let deleted = &self.counts().side_objects_deleted;
        deleted.fetch_add(names.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    async fn side_objects(&self, side: &SideCompactor, day: i64) -> Result<Vec<ObjectInfo>> {
        let mut objects: Vec<ObjectInfo> = side.bucket.list(&day.to_string()).try_collect().await?;
        let folder = format!("{day}/");
        objects.retain(|o| o.path.starts_with(&folder));
        objects.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(objects)
    }

    /// Deletes the side objects of a day that has no index files any more: nobody finds its chunks.
    async fn delete_side_day(&self, side: &SideCompactor, day: i64) -> Result<()> {
        let objects = self.side_objects(side, day).await?;
        let paths: Vec<String> = objects.into_iter().map(|o| o.path).collect();
        self.delete_side_objects(side, &paths).await?;
        tracing::info!(
            day,
            objects = paths.len(),
            "side objects of a day without index files deleted"
        );
        Ok(())
    }

    /// Joins the side objects of a day that are worth it.
    async fn join_side_day(&self, side: &SideCompactor, day: i64) -> Result<()> {
        let max_bytes = self.settings.max_side_input_size.as_u64();
        let mut objects = self.side_objects(side, day).await?;
        {
            let leaving = side.leaving.lock();
            // What is large is left alone, and what is joined already.
            objects.retain(|o| {
                o.size_bytes <= max_bytes / 2 && !leaving.iter().any(|l| l.paths.contains(&o.path))
            });
        }
        let is_over = self.is_over(day);
        let gone = side.gone.lock().get(&day).cloned();
        let least = match (&gone, is_over) {
            (Some(_), _) => 1,
            (None, true) => 2,
            (None, false) => self.settings.min_files.max(2),
        };
        if objects.len() < least {
            if is_over {
                let now = self.clock.monotonic();
                side.settled.lock().insert(day, now);
            }
            return Ok(());
        }
        let mut paths = Vec::new();
        let mut bytes = 0u64;
        for object in objects.into_iter().take(self.settings.max_files) {
            bytes += object.size_bytes;
            if bytes > max_bytes && paths.len() >= 2 {
                break;
            }
            paths.push(object.path);
        }
        self.join_side_objects(side, day, paths, gone.clone())
            .await?;
        if let Some(done) = gone {
            let mut gone = side.gone.lock();
            // More may be gone by now.
            if gone.get(&day).is_some_and(|now| now.len() == done.len()) {
                gone.remove(&day);
            }
        }
        Ok(())
    }

    async fn join_side_objects(
        &self,
        side: &SideCompactor,
        day: i64,
        paths: Vec<String>,
        gone: Option<Arc<HashSet<ChunkKey>>>,
    ) -> Result<()> {
        let mut objects: Vec<Bytes> = Vec::new();
        let mut found = Vec::new();
        for path in paths {
            match side.bucket.get(&path).await {
                Ok(object) => {
                    objects.push(object);
                    found.push(path);
                }
                // Another has just deleted it.
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        let job = move |_: &CancelToken| {
            let is_gone = |key: &ChunkKey| gone.as_ref().is_some_and(|g| g.contains(key));
            Ok::<_, Error>(merge_side_objects(&objects, &is_gone))
        };
        let merged = self.executor.run(job, &CancelToken::new()).await?;
        let damaged = (found.len() - merged.joined.len()) as u64;
        self.counts().damaged.fetch_add(damaged, Ordering::Relaxed);
        let is_other = merged.joined.len() > 1 || merged.dropped > 0;
        if is_other && !merged.bytes.is_empty() {
            self.put_side_object(side, day, merged.bytes.into()).await?;
        } else if damaged == 0 && merged.dropped == 0 {
            return Ok(());
        }
        // What is damaged is of no use to anybody, and goes with the others.
        let not_before = self.clock.monotonic() + self.settings.delete_delay;
        let mut leaving = side.leaving.lock();
        leaving.push(LeavingObjects {
            not_before,
            paths: leaving_paths(found, &merged.joined, is_other),
        });
        Ok(())
    }

    async fn put_side_object(&self, side: &SideCompactor, day: i64, object: Bytes) -> Result<()> {
        let mut seconds = self.clock.now_ms().to_seconds();
        loop {
            let path = format!("{day}/{seconds}-{}", self.instance);
            let put = side.bucket.put_if_absent(&path, object.clone()).await?;
            if put == PutOutcome::Created {
                let written = &self.counts().side_objects_written;
                written.fetch_add(1, Ordering::Relaxed);
                return Ok(());
            }
            seconds = seconds.saturating_add(1);
        }
    }
}

/// The objects that go: the joined ones, if another holds what they had, and the damaged ones.
fn leaving_paths(found: Vec<String>, joined: &[usize], is_other: bool) -> BTreeSet<String> {
    let goes = |n: &usize| is_other || !joined.contains(n);
    let found = found.into_iter().enumerate();
    found.filter(|(n, _)| goes(n)).map(|(_, p)| p).collect()
}

#[cfg(test)]
mod tests;
