//! How far index files are joined, by tenant.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lgtm_core::Error;
use lgtm_core::model::{TenantId, TimestampMs};
use lgtm_core::service::{CompactionProgress, TenantProgress};
use parking_lot::Mutex;

use crate::compact::{TableFile, TablePlan};
use crate::index::IndexFileName;

/// What a compactor knows of the files in all tables, as its rounds found and left them.
#[derive(Debug, Default)]
pub(super) struct TableProgress {
    days: Mutex<BTreeMap<i64, Day>>,
    progress: Arc<CompactionProgress>,
}

/// What is known of a table.
#[derive(Debug, Default)]
struct Day {
    tenants: BTreeMap<TenantId, OwnFiles>,
    /// When the oldest file of several tenants was written, seconds.
    oldest_shared_s: Option<i64>,
    /// Since when files of several tenants wait.
    shared_since: Option<TimestampMs>,
    failed: Option<Error>,
}

/// What a tenant has in a table.
#[derive(Debug, Default)]
struct OwnFiles {
    serving: u64,
    superseded: u64,
    waiting_since: Option<TimestampMs>,
}

impl TableProgress {
    pub(super) fn progress(&self) -> &Arc<CompactionProgress> {
        &self.progress
    }

    /// A table has these files, of which some are superseded; nothing of it has failed yet in this round.
    pub(super) fn found(&self, day: i64, files: &[TableFile], superseded: &BTreeSet<String>) {
        let mut found = Day::default();
        for file in files {
            let is_superseded = superseded.contains(&file.path);
            match &file.tenant {
                Some(tenant) => {
                    let own = found.tenants.entry(tenant.clone()).or_default();
                    own.serving += u64::from(!is_superseded);
                    own.superseded += u64::from(is_superseded);
                }
                None if is_superseded => {}
                None => found.oldest_shared_s = earlier(found.oldest_shared_s, shared_s(file)),
            }
        }
        self.days.lock().insert(day, found);
    }

    /// What is still to be joined in a table; `files` are those that are not joined yet.
    pub(super) fn waits(&self, day: i64, files: &[TableFile], plan: Option<&TablePlan>) {
        self.change(day, |known| {
            let shared = files.iter().filter(|f| f.tenant.is_none());
            known.oldest_shared_s = shared.filter_map(shared_s).min();
            let in_plan = |f: &&TableFile| plan.is_some_and(|p| p.shared.contains(&f.path));
            let shared = files.iter().filter(in_plan).filter_map(shared_s);
            known.shared_since = shared.min().map(from_seconds);
            known
                .tenants
                .values_mut()
                .for_each(|own| own.waiting_since = None);
            for (tenant, paths) in plan.iter().flat_map(|p| &p.own) {
                let own = known.tenants.entry(tenant.clone()).or_default();
                let written = paths.iter().filter_map(|path| written_ms(path));
                own.waiting_since = written.max();
            }
        });
    }

    /// A file of a tenant was written.
    pub(super) fn wrote(&self, day: i64, tenant: &TenantId) {
        self.change(day, |known| {
            known.tenants.entry(tenant.clone()).or_default().serving += 1;
        });
    }

    /// A file of a tenant is superseded.
    pub(super) fn superseded(&self, day: i64, tenant: &TenantId) {
        self.change(day, |known| {
            let own = known.tenants.entry(tenant.clone()).or_default();
            own.serving = own.serving.saturating_sub(1);
            own.superseded += 1;
        });
    }

    /// A table failed in this round.
    pub(super) fn failed(&self, day: i64, error: &Error) {
        self.change(day, |known| known.failed = Some(error.clone()));
    }

    fn change(&self, day: i64, change: impl FnOnce(&mut Day)) {
        change(self.days.lock().entry(day).or_default());
    }

    /// A round ends, whatever failed. `days` are those that there are; `due` are requests to delete that are not done, and since when they could be.
    pub(super) fn round_ended(
        &self,
        days: &BTreeSet<i64>,
        due: &[(TenantId, TimestampMs)],
        now: TimestampMs,
    ) {
        let mut known = self.days.lock();
        known.retain(|day, _| days.contains(day));
        let mut all: BTreeMap<&TenantId, (TenantProgress, Option<&Error>)> = BTreeMap::new();
        for day in known.values() {
            for (tenant, own) in &day.tenants {
                let (seen, failed) = all.entry(tenant).or_default();
                seen.serving += own.serving;
                seen.superseded += own.superseded;
                // What several tenants have together waits for each of them, and is joined with its own.
                if let Some(since) = earlier(own.waiting_since, day.shared_since) {
                    add_job(seen, since);
                }
                *failed = failed.or(day.failed.as_ref());
            }
        }
        for (tenant, since) in due {
            let (seen, _) = all.entry(tenant).or_default();
            add_job(seen, *since);
        }
        let tenants: Vec<TenantId> = all.keys().map(|t| (*t).clone()).collect();
        self.progress.keep(&tenants);
        for (tenant, (seen, failed)) in all {
            let done = failed.map_or(Ok(()), |e| Err(e.clone()));
            self.progress.ended(tenant, now, &done, |p| {
                (p.serving, p.superseded) = (seen.serving, seen.superseded);
                (p.waiting_jobs, p.waiting_since) = (seen.waiting_jobs, seen.waiting_since);
            });
        }
    }

    /// When the oldest index file of several tenants was written that is not joined, seconds; `None` when all are.
    pub(super) fn oldest_shared_s(&self) -> Option<i64> {
        let days = self.days.lock();
        days.values().filter_map(|d| d.oldest_shared_s).min()
    }
}

fn add_job(seen: &mut TenantProgress, since: TimestampMs) {
    seen.waiting_jobs += 1;
    seen.waiting_since = earlier(seen.waiting_since, Some(since));
}

fn earlier<T: Ord>(a: Option<T>, b: Option<T>) -> Option<T> {
    a.into_iter().chain(b).min()
}

fn from_seconds(s: i64) -> TimestampMs {
    TimestampMs::new(s.saturating_mul(1000))
}

/// When a file of several tenants was written, seconds.
fn shared_s(file: &TableFile) -> Option<i64> {
    match file.path.rsplit('/').next()?.parse() {
        Ok(IndexFileName::Uploaded { created_s, .. }) => Some(created_s),
        _ => None,
    }
}

/// When a file was written.
fn written_ms(path: &str) -> Option<TimestampMs> {
    match path.rsplit('/').next()?.parse().ok()? {
        IndexFileName::Compacted { created_ns, .. } => Some(created_ns.to_ms()),
        IndexFileName::Uploaded { created_s, .. } => Some(from_seconds(created_s)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compact::{CompactRules, TableAge, plan};

    const RULES: CompactRules = CompactRules {
        min_files: 1,
        max_files: 2,
        max_bytes: 1 << 20,
    };

    fn file(path: &str) -> TableFile {
        let tenant = path.split_once('/').map(|(t, _)| TenantId::new(t).unwrap());
        TableFile {
            path: path.into(),
            tenant,
            size_bytes: 1,
        }
    }

    fn told(tables: &TableProgress) -> Vec<(String, TenantProgress)> {
        let all = tables.progress().tenants().into_iter();
        all.map(|(t, p)| (t.to_string(), p)).collect()
    }

    #[test]
    fn what_a_round_found_and_left_is_told_by_tenant() {
        let tables = TableProgress::default();
        let (a, ms) = (TenantId::new("a").unwrap(), TimestampMs::new);
        let old = "a/7000000000000000000-compactor-1-2-ab.tsdb.gz";
        let files = [
            file("1000-i.tsdb.gz"),
            file("2000-i.tsdb.gz"),
            file("3000-i.tsdb.gz"),
            file(old),
            file("a/7000000001000000000-compactor-1-2-ab.tsdb.gz"),
        ];
        let superseded = BTreeSet::from([old.to_owned()]);
        tables.found(5, &files, &superseded);
        assert_eq!(tables.oldest_shared_s(), Some(1000));
        let live: Vec<TableFile> = files.iter().filter(|f| f.path != old).cloned().collect();
        let whole = plan(&live, &BTreeSet::new(), TableAge::Settled, &RULES);
        tables.waits(5, &live, whole.as_ref());
        tables.failed(5, &Error::Unavailable("away".into()));
        let days = BTreeSet::from([5]);
        tables.round_ended(&days, &[], ms(9_000_000));
        let seen = &told(&tables)[0].1;
        assert_eq!((seen.serving, seen.superseded), (1, 1));
        assert_eq!(
            (seen.waiting_jobs, seen.waiting_since),
            (1, Some(ms(1_000_000)))
        );
        assert_eq!(seen.last_error.as_deref(), Some("away"));
        assert_eq!(seen.last_success, None);
        // The next round joins the first two, and has one left.
        tables.found(5, &files, &superseded);
        tables.wrote(5, &a);
        tables.superseded(5, &a);
        let rest = [file("3000-i.tsdb.gz")];
        let left = plan(&rest, &BTreeSet::new(), TableAge::Settled, &RULES);
        tables.waits(5, &rest, left.as_ref());
        let due = [(a.clone(), ms(500_000))];
        tables.round_ended(&days, &due, ms(9_500_000));
        let seen = &told(&tables)[0].1;
        assert_eq!((seen.serving, seen.superseded), (1, 2));
        assert_eq!(
            (seen.waiting_jobs, seen.waiting_since),
            (2, Some(ms(500_000)))
        );
        assert_eq!(
            (seen.last_success, &seen.last_error),
            (Some(ms(9_500_000)), &None)
        );
        assert_eq!(tables.oldest_shared_s(), Some(3000));
        // A table that is gone is nobody's.
        tables.round_ended(&BTreeSet::new(), &[], ms(9_600_000));
        assert!(told(&tables).is_empty());
        assert_eq!(tables.oldest_shared_s(), None);
    }
}
