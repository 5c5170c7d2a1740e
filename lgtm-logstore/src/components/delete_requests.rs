//! What tenants want deleted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use lgtm_core::clock::Clock;
use lgtm_core::exec::{CancelToken, in_place};
use lgtm_core::model::{TenantId, TimeRangeNs, TimestampMs};
use lgtm_core::service::Service;
use lgtm_core::storage::{Bucket, Claim, PutOutcome};
use lgtm_core::{Error, ErrorKind, Result};
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};

use super::ingester::CHUNKS_FORMAT;
use crate::compact::{DeleteObject, DeleteRequest, DeleteState};
use crate::logql::EntryFilter;

/// How delete requests are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeleteSettings {
    /// How long a request can be cancelled, and how long nothing is deleted for it but hidden. Default 24h, Loki's `delete_request_cancel_period`.
    #[serde(with = "lgtm_core::units::duration")]
    pub cancel_period: Duration,
    /// How often requests are looked for that came in elsewhere. Default 15s: so long other processes may still show what is deleted; each time is
    /// a request to the store.
    #[serde(with = "lgtm_core::units::duration")]
    pub sync_interval: Duration,
    /// How long after a request was done entries are still hidden for it. Default 30m: until then every reader lists the new index files.
    #[serde(with = "lgtm_core::units::duration")]
    pub visible_delay: Duration,
    /// Requests that a tenant may have which are not done. Default 1000: each of them is looked at by all queries of its streams and times.
    pub max_requests: usize,
    /// How long requests that were done are told of. Default 30d.
    #[serde(with = "lgtm_core::units::duration")]
    pub keep_processed: Duration,
}

impl Default for DeleteSettings {
    fn default() -> Self {
        const HOUR: u64 = 3600;
        Self {
            cancel_period: Duration::from_secs(24 * HOUR),
            sync_interval: Duration::from_secs(15),
            visible_delay: Duration::from_secs(HOUR / 2),
            max_requests: 1000,
            keep_processed: Duration::from_secs(30 * 24 * HOUR),
        }
    }
}

impl DeleteSettings {
    /// Checks the settings.
    ///
    /// # Errors
    /// `InvalidInput` naming the fault.
    pub fn validate(&self) -> Result<()> {
        if self.sync_interval < Duration::from_secs(1) {
            return Err(Error::InvalidInput(format!(
                "sync_interval {:?} is less than 1s",
                self.sync_interval
            )));
        }
        Ok(())
    }
}

/// A request and what became of it.
#[derive(Debug, Clone)]
pub struct KnownDelete {
    /// Its name.
    pub id: String,
    /// What is wanted.
    pub request: Arc<DeleteRequest>,
    /// Parts of a hundred that are done.
    pub percent: u8,
    /// When all was done.
    pub processed_ms: Option<TimestampMs>,
    pub(super) filter: Arc<EntryFilter>,
}

impl KnownDelete {
    /// Whether entries of a range may be meant.
    pub(super) fn overlaps(&self, range: &TimeRangeNs) -> bool {
        let own = self.request.range();
        own.min_ns < range.max_ns && range.min_ns < own.max_ns
    }
}

type TenantDeletes = BTreeMap<String, KnownDelete>;

#[derive(Debug, Default)]
struct Known {
    tenants: BTreeMap<TenantId, Arc<TenantDeletes>>,
    /// From when on answers may be other ones, where no request says so.
    generations: BTreeMap<TenantId, TimestampMs>,
    /// Whether the requests were ever listed.
    is_listed: bool,
}

/// The delete requests of all tenants, as objects in the bucket.
///
/// A request counts in this process from when [`DeleteRequests::add`] returns, elsewhere from the next [`DeleteRequests::sync`] on. As a [`Service`]
/// it keeps itself up to date.
#[derive(Debug)]
pub struct DeleteRequests {
    bucket: Bucket,
    clock: Arc<dyn Clock>,
    claim: Claim,
    settings: DeleteSettings,
    known: RwLock<Known>,
    /// One listing at a time, so that an older one is not taken for the newer.
    listing: tokio::sync::Mutex<()>,
    damaged: AtomicU64,
}

impl DeleteRequests {
    /// Requests as they are in `bucket`. None is known before a sync.
    ///
    /// # Errors
    /// `InvalidInput` for settings out of bounds.
    pub fn new(
        bucket: Bucket,
        clock: Arc<dyn Clock>,
        settings: DeleteSettings,
    ) -> Result<Arc<Self>> {
        settings.validate()?;
        Ok(Arc::new(Self {
            bucket,
            clock,
            claim: Claim::new(CHUNKS_FORMAT),
            settings,
            known: RwLock::default(),
            listing: tokio::sync::Mutex::default(),
            damaged: AtomicU64::new(0),
        }))
    }

    /// The settings.
    pub fn settings(&self) -> &DeleteSettings {
        &self.settings
    }

    /// Requests in the store that cannot be read, each as often as it was tried.
    pub fn damaged(&self) -> u64 {
        self.damaged.load(Ordering::Relaxed)
    }

    /// Learns of all requests. Costs a listing, and a read of each request that is new.
    ///
    /// # Errors
    /// The first error of the store; what is known stays.
    pub async fn sync(&self) -> Result<()> {
        let _one = self.listing.lock().await;
        let objects = self.bucket.list_sorted(DeleteRequest::FOLDER).await?;
        let mut states: BTreeMap<TenantId, BTreeMap<String, Vec<DeleteState>>> = BTreeMap::new();
        let mut generations: BTreeMap<TenantId, TimestampMs> = BTreeMap::new();
        for (tenant, since) in objects
            .iter()
            .filter_map(|o| DeleteObject::parse_generation(&o.path))
        {
            let known = generations.entry(tenant).or_insert(since);
            *known = since.max(*known);
        }
        for object in objects.iter().filter_map(|o| DeleteObject::parse(&o.path)) {
            let of_tenant = states.entry(object.tenant).or_default();
            of_tenant.entry(object.id).or_default().push(object.says);
        }
        let mut all = BTreeMap::new();
        for (tenant, requests) in states {
            let known = self.of_tenant(&tenant);
            let mut of_tenant = TenantDeletes::new();
            for (id, states) in requests {
                if !states.contains(&DeleteState::Received) {
                    continue;
                }
                let mut request = match known.get(&id) {
                    Some(known) => known.clone(),
                    None => match self.read(&tenant, &id).await? {
                        Some(request) => request,
                        None => continue,
                    },
                };
                for state in states {
                    match state {
                        DeleteState::Received => {}
                        DeleteState::Percent(n) => request.percent = request.percent.max(n),
                        DeleteState::Processed(t_ms) => {
                            let before = request.processed_ms.unwrap_or(t_ms);
                            request.processed_ms = Some(before.max(t_ms));
                        }
                    }
                }
                of_tenant.insert(id, request);
            }
            all.insert(tenant, Arc::new(of_tenant));
        }
        let mut known = self.known.write();
        known.tenants = all;
        known.generations = generations;
        known.is_listed = true;
        Ok(())
    }

    /// Reads a request; `None` for one that is gone or cannot be read.
    async fn read(&self, tenant: &TenantId, id: &str) -> Result<Option<KnownDelete>> {
        let path = object(tenant, id, DeleteState::Received);
        let bytes = match self.bucket.get(&path).await {
            Ok(bytes) => bytes,
            // Cancelled just now.
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        let known = DeleteRequest::decode(&bytes)
            .map_err(|e| Error::corrupt(path.clone(), e))
            .and_then(|request| known(id, request));
        match known {
            Ok(known) => Ok(Some(known)),
            Err(e) => {
                self.damaged.fetch_add(1, Ordering::Relaxed);
                tracing::error!(request = path, error = %e, "delete request cannot be read; it hides and deletes nothing");
                Ok(None)
            }
        }
    }

    /// Whether the requests in the store are known.
    pub fn is_listed(&self) -> bool {
        self.known.read().is_listed
    }

    fn of_tenant(&self, tenant: &TenantId) -> Arc<TenantDeletes> {
        let known = self.known.read();
        known.tenants.get(tenant).cloned().unwrap_or_default()
    }

    /// The requests of a tenant that are known, by their time.
    pub fn list(&self, tenant: &TenantId) -> Vec<KnownDelete> {
        let mut all: Vec<KnownDelete> = self.of_tenant(tenant).values().cloned().collect();
        all.sort_by_key(|r| r.request.created_ms);
        all
    }

    /// The requests of a tenant that hide entries of a range.
    pub(super) fn hiding(&self, tenant: &TenantId, range: &TimeRangeNs) -> Vec<KnownDelete> {
        let delay = i64::try_from(self.settings.visible_delay.as_millis()).unwrap_or(i64::MAX);
        let done_ms = self.clock.now_ms().saturating_sub(delay);
        let known = self.of_tenant(tenant);
        let hides =
            |r: &&KnownDelete| r.processed_ms.is_none_or(|t| t > done_ms) && r.overlaps(range);
        known.values().filter(hides).cloned().collect()
    }

    /// Milliseconds after which a request is due: it can be cancelled no more, and ingesters have written what they held.
    pub(super) fn wait(&self, settle_after: Duration) -> i64 {
        let wait = self.settings.cancel_period.max(settle_after);
        i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)
    }

    /// The requests of tenants for which something may be deleted by now.
    pub(super) fn due(&self, settle_after: Duration) -> BTreeMap<TenantId, Vec<KnownDelete>> {
        let due_ms = self.clock.now_ms().saturating_sub(self.wait(settle_after));
        let known = self.known.read();
        let mut out = BTreeMap::new();
        for (tenant, requests) in &known.tenants {
            let is_due =
                |r: &&KnownDelete| r.processed_ms.is_none() && r.request.created_ms <= due_ms;
            let due: Vec<KnownDelete> = requests.values().filter(is_due).cloned().collect();
            if !due.is_empty() {
                out.insert(tenant.clone(), due);
            }
        }
        out
    }

    /// What the answers to a tenant's queries depend on: which requests hide something.
    pub(super) fn epoch(&self, tenant: &TenantId) -> String {
        let hiding = self.hiding(tenant, &TimeRangeNs::ALL);
        hiding.iter().map(|r| format!("{},", r.id)).collect()
    }

    /// From when on answers to a tenant's queries may be other ones: it changes whenever a request comes, is done, is cancelled or forgotten, and by
    /// [`DeleteRequests::increase_generation`]. Who keeps answers elsewhere keeps them by it. `None` before the first change.
    pub fn generation(&self, tenant: &TenantId) -> Option<TimestampMs> {
        let known = self.known.read();
        let requests = known
            .tenants
            .get(tenant)
            .into_iter()
            .flat_map(|r| r.values());
        let times = requests.flat_map(|r| [Some(r.request.created_ms), r.processed_ms]);
        let noted = known.generations.get(tenant).copied();
        times.chain([noted]).flatten().max()
    }

    /// Has [`DeleteRequests::generation`] change. Costs a write and a listing.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn increase_generation(&self, tenant: &TenantId) -> Result<()> {
        self.claim.ensure(&self.bucket).await?;
        let _one = self.listing.lock().await;
        self.note_generation(tenant).await
    }

    /// The same for who has the lock on listings.
    async fn note_generation(&self, tenant: &TenantId) -> Result<()> {
        let now_ms = self.clock.now_ms();
        let since = match self.generation(tenant) {
            Some(before) => now_ms.max(before.saturating_add(1)),
            None => now_ms,
        };
        let path = DeleteObject::generation_path(tenant, since);
        self.bucket.put(&path, Bytes::new()).await?;
        self.known.write().generations.insert(tenant.clone(), since);
        let folder = format!("{}/{tenant}", DeleteRequest::FOLDER);
        let listing = self.bucket.list_with_delimiter(&folder).await?;
        let is_older = |path: &&str| {
            let parsed = DeleteObject::parse_generation(path);
            parsed.is_some_and(|(_, time)| time < since)
        };
        let paths = listing.objects.iter().map(|o| o.path.as_str());
        let older: Vec<&str> = paths.filter(is_older).collect();
        self.bucket.delete_all(&older).await
    }

    /// Takes a request, which counts when this returns. Gives its name.
    ///
    /// # Errors
    /// `InvalidInput` for a query that is none, or of metrics; `LimitExceeded` beyond `max_requests`; those of the store.
    pub async fn add(
        &self,
        tenant: &TenantId,
        query: &str,
        start_ms: impl Into<TimestampMs>,
        end_ms: impl Into<TimestampMs>,
    ) -> Result<String> {
        let now_ms = self.clock.now_ms();
        let request = DeleteRequest::new(query, start_ms, end_ms, now_ms);
        let bytes = Bytes::from(request.encode()?);
        let mut made = known("", request)?;
        self.claim.ensure(&self.bucket).await?;
        let open = self.of_tenant(tenant);
        let open = open.values().filter(|r| r.processed_ms.is_none()).count();
        if open >= self.settings.max_requests {
            return Err(Error::LimitExceeded(format!(
                "{open} delete requests are not done yet, the bound is max_requests"
            )));
        }
        let mut attempt = 0;
        loop {
            made.id = made.request.id(attempt);
            let path = object(tenant, &made.id, DeleteState::Received);
            let put = self.bucket.put_if_absent(&path, bytes.clone()).await?;
            if put == PutOutcome::Created {
                break;
            }
            attempt += 1;
        }
        tracing::info!(%tenant, id = made.id, query, "delete request taken");
        let _one = self.listing.lock().await;
        let id = made.id.clone();
        self.change(tenant, |requests| {
            requests.insert(made.id.clone(), made);
        });
        Ok(id)
    }

    fn change(&self, tenant: &TenantId, change: impl FnOnce(&mut TenantDeletes)) {
        let mut known = self.known.write();
        let requests = known.tenants.entry(tenant.clone()).or_default();
        change(Arc::make_mut(requests));
    }

    /// Cancels a request. One that is partly done, or older than `cancel_period`, only by `force`; what is deleted stays so.
    ///
    /// # Errors
    /// `NotFound` for one that is not known; `InvalidInput` for one that was done, or that cannot be cancelled any more; those of the store.
    pub async fn cancel(&self, tenant: &TenantId, id: &str, force: bool) -> Result<()> {
        if !self.of_tenant(tenant).contains_key(id) {
            self.sync().await?;
        }
        let known = self.of_tenant(tenant).get(id).cloned();
        let Some(known) = known else {
            return Err(Error::NotFound(format!("delete request {id}")));
        };
        if known.processed_ms.is_some() {
            let text = "deletion of request which is already processed is not allowed";
            return Err(Error::InvalidInput(text.into()));
        }
        let period = i64::try_from(self.settings.cancel_period.as_millis()).unwrap_or(i64::MAX);
        let until_ms = known.request.created_ms.saturating_add(period);
        if !force && (known.percent > 0 || self.clock.now_ms() > until_ms) {
            return Err(Error::InvalidInput(format!(
                "deletion of request past the deadline of {} since its creation is not allowed; force=true cancels what is left of it",
                lgtm_core::units::duration::format(self.settings.cancel_period)
            )));
        }
        self.remove(tenant, id).await?;
        tracing::info!(%tenant, id, "delete request cancelled");
        Ok(())
    }

    async fn remove(&self, tenant: &TenantId, id: &str) -> Result<()> {
        let _one = self.listing.lock().await;
        // Before, too: with the request goes the time that it gives, and no number may come a second time, even after a kill in between.
        self.note_generation(tenant).await?;
        let first = object(tenant, id, DeleteState::Received);
        self.bucket.delete(&first).await?;
        self.change(tenant, |requests| drop(requests.remove(id)));
        let folder = format!("{}/{tenant}/{id}", DeleteRequest::FOLDER);
        let rest = self.bucket.list_sorted(&folder).await?;
        let rest: Vec<&str> = rest.iter().map(|o| o.path.as_str()).collect();
        self.bucket.delete_all(&rest).await?;
        self.note_generation(tenant).await
    }

    /// Notes how far a request is, if that is news.
    pub(super) async fn note_percent(&self, tenant: &TenantId, id: &str, n: u8) -> Result<()> {
        let n = n.min(99);
        let before = self.of_tenant(tenant).get(id).map(|r| r.percent);
        if before.is_none_or(|before| n <= before) {
            return Ok(());
        }
        let path = object(tenant, id, DeleteState::Percent(n));
        self.bucket.put(&path, Bytes::new()).await?;
        self.change(tenant, |requests| {
            if let Some(request) = requests.get_mut(id) {
                request.percent = n;
            }
        });
        Ok(())
    }

    /// Notes that a request was done.
    pub(super) async fn note_processed(&self, tenant: &TenantId, id: &str) -> Result<()> {
        let now_ms = self.clock.now_ms();
        let path = object(tenant, id, DeleteState::Processed(now_ms));
        self.bucket.put(&path, Bytes::new()).await?;
        self.change(tenant, |requests| {
            if let Some(request) = requests.get_mut(id) {
                request.processed_ms = Some(now_ms);
            }
        });
        tracing::info!(%tenant, id, "delete request is done");
        Ok(())
    }

    /// Forgets requests that were done long ago.
    pub(super) async fn clean(&self) -> Result<()> {
        let keep = i64::try_from(self.settings.keep_processed.as_millis()).unwrap_or(i64::MAX);
        let before_ms = self.clock.now_ms().saturating_sub(keep);
        let mut old: BTreeSet<(TenantId, String)> = BTreeSet::new();
        for (tenant, requests) in &self.known.read().tenants {
            let is_old = |r: &&KnownDelete| r.processed_ms.is_some_and(|t| t < before_ms);
            let ids = requests.values().filter(is_old).map(|r| r.id.clone());
            old.extend(ids.map(|id| (tenant.clone(), id)));
        }
        for (tenant, id) in old {
            self.remove(&tenant, &id).await?;
        }
        Ok(())
    }
}

/// The path of an object that says something of a request.
fn object(tenant: &TenantId, id: &str, says: DeleteState) -> String {
    let object = DeleteObject {
        tenant: tenant.clone(),
        id: id.to_owned(),
        says,
    };
    object.path()
}

/// A request that was just read or taken.
fn known(id: &str, request: DeleteRequest) -> Result<KnownDelete> {
    let now_ns = request.created_ms.to_ns();
    let filter = in_place(|| EntryFilter::new(&request.query, now_ns));
    let filter = filter.map_err(|e| Error::InvalidInput(e.to_string()))?;
    Ok(KnownDelete {
        id: id.to_owned(),
        request: Arc::new(request),
        percent: 0,
        processed_ms: None,
        filter: Arc::new(filter),
    })
}

#[async_trait]
impl Service for DeleteRequests {
    fn name(&self) -> &str {
        "logs-delete-requests"
    }

    async fn start(&self) -> Result<()> {
        if let Err(e) = self.sync().await {
            tracing::warn!(error = %e, "delete requests cannot be listed; answers say that they may show deleted entries until they can");
        }
        Ok(())
    }

    async fn run(&self, stop: CancelToken) -> Result<()> {
        while !stop.is_cancelled() {
            tokio::select! {
                () = tokio::time::sleep(self.settings.sync_interval) => {
                    if let Err(e) = self.sync().await {
                        tracing::warn!(error = %e, "delete requests cannot be listed; those that are known count");
                    }
                }
                () = stop.cancelled() => {}
            }
        }
        Ok(())
    }
}
