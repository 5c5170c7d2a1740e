//! What the modules of every signal do with rings: clients of ingesters, own places, shares of work and of rates.

use std::sync::Arc;

use lgtm_core::Result;
use lgtm_core::rpc::RemoteSettings;
use lgtm_ring::pool::{ClientPool, ClientPoolSettings};
use lgtm_ring::replicas::{
    DepartedIngesters, HealthyDistributors, InstancePool, LocalClients, OwnsJob, RemoteCalls,
    RemoteClients, RemoteComponent, ReplayedLog, ReplicationSettings, owned_jobs,
};
use lgtm_ring::watch::RingHandle;

use super::cluster::{GRPC_SERVER, RingKind};
use super::parts::{Flush, Parts};

/// What stands before the names of metrics of clients, as in the peers.
const PREFIX: &str = "cortex_";

/// Clients of the instances of a ring in other processes.
pub(super) type Clients<R> = Arc<ClientPool<RemoteClients<R>>>;

/// An ingester that takes its place in a ring.
pub(super) struct JoiningIngester {
    /// Its ring.
    pub(super) kind: RingKind,
    /// Name of the service that waits for its log.
    pub(super) replayed: &'static str,
    /// Moves all that it has into the object store.
    pub(super) flush: Arc<dyn Flush>,
    /// Whether that is done at each stop, by the settings.
    pub(super) flushes: bool,
    /// Whether its log is back.
    pub(super) is_back: Box<dyn Fn() -> bool + Send + Sync>,
}

impl Parts {
    /// Clients of the instances of `ring`, which a service of the name `service` keeps.
    ///
    /// # Errors
    /// `InvalidInput` for settings that do not fit.
    pub(super) fn clients<R: RemoteComponent>(
        &mut self,
        kind: RingKind,
        ring: RingHandle,
        service: &'static str,
        settings: RemoteSettings,
    ) -> Result<Clients<R>> {
        let calls = RemoteCalls {
            rpc: self.config.rpc.client.clone(),
            settings,
            executor: self.executor.clone(),
        };
        let (makes, pools) = (RemoteClients::new(calls), ClientPoolSettings::default());
        let clients = ClientPool::new(kind.name, makes, ring, pools, &self.registry, PREFIX)?;
        self.run_beside(service, Arc::clone(&clients));
        Ok(clients)
    }

    /// The instances of a ring: those elsewhere by `clients`, that of this process directly.
    pub(super) fn instances<C, R>(
        &self,
        clients: Clients<R>,
        here: Option<Arc<C>>,
    ) -> Arc<LocalClients<C>>
    where
        C: ?Sized + std::fmt::Debug + Send + Sync + 'static,
        R: RemoteComponent,
        ClientPool<RemoteClients<R>>: InstancePool<C>,
    {
        let mut pool = LocalClients::new().elsewhere(clients as _);
        if let (Some(here), Some(cluster)) = (here, &self.cluster) {
            pool = pool.with(&cluster.identity.addr, here);
        }
        Arc::new(pool)
    }

    /// How replicas are asked: what is near is quicker, and moving data between zones is often paid for.
    pub(super) fn replication(&self, settings: &ReplicationSettings) -> ReplicationSettings {
        let mut settings = settings.clone();
        if settings.preferred_zones.is_empty() && !self.config.ring.zone.is_empty() {
            settings.preferred_zones = vec![self.config.ring.zone.clone()];
        }
        settings
    }

    /// Has an ingester take its place in its ring once its log is back; nothing when this process is all there is.
    ///
    /// # Errors
    /// `InvalidInput` for settings that do not fit.
    pub(super) fn join_ingester(&mut self, ingester: JoiningIngester) -> Result<()> {
        if self.cluster.is_none() {
            return Ok(());
        }
        let (replayed, is_back) = (ingester.replayed, ingester.is_back);
        self.run_later(ReplayedLog::new(replayed, is_back));
        self.join_as_ingester(ingester.kind, replayed, ingester.flush, ingester.flushes)
    }

    /// Which ingesters of a ring have gone for good; nothing when this process is all there is.
    ///
    /// # Errors
    /// `InvalidInput` for settings that do not fit.
    pub(super) fn departures(&mut self, kind: RingKind) -> Result<Option<Arc<DepartedIngesters>>> {
        let ring = self.follow(kind)?;
        let Some((ring, cluster)) = ring.zip(self.cluster.as_ref()) else {
            return Ok(None);
        };
        let begin = format!("{}@{}", cluster.identity.id, self.clock.now_ms());
        Ok(Some(Arc::new(DepartedIngesters::new(ring, begin))))
    }

    /// Takes a place among the distributors of a ring, which share the rates of tenants; nothing when this process is all there is.
    ///
    /// # Errors
    /// `InvalidInput` for settings that do not fit.
    pub(super) fn shared_rates(
        &mut self,
        kind: RingKind,
    ) -> Result<Option<Arc<HealthyDistributors>>> {
        self.join(kind, GRPC_SERVER)?;
        let clock = Arc::clone(&self.clock);
        let ring = self.follow(kind)?;
        Ok(ring.map(|ring| Arc::new(HealthyDistributors { ring, clock })))
    }

    /// Takes a place among the compactors of a ring, and tells which jobs are this process' own; nothing when it is all there is.
    ///
    /// # Errors
    /// `InvalidInput` for settings that do not fit.
    pub(super) fn shared_jobs(
        &mut self,
        kind: RingKind,
        service: &'static str,
    ) -> Result<Option<OwnsJob>> {
        self.join(kind, service)?;
        let ring = self.follow(kind)?;
        let owned = ring
            .zip(self.cluster.as_ref())
            .map(|(ring, cluster)| owned_jobs(ring, &cluster.identity.id, Arc::clone(&self.clock)));
        Ok(owned)
    }
}
