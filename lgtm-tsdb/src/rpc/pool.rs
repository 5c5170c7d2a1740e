//! Clients of the instances of a ring.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lgtm_core::Result;
use lgtm_core::exec::Executor;
use lgtm_core::rpc::{RpcClient, RpcClientSettings};
use lgtm_ring::instance::Instance;
use lgtm_ring::pool::{ClientFactory, ClientPool, PoolClient};

use super::client::{RemoteIngester, RemoteSettings, RemoteStoreGateway};
use crate::components::clients::{IngesterClient, StoreGatewayClient};
use crate::components::ring::{IngesterPool, StoreGatewayPool};

/// How long a question after health may take; the pool has a bound of its own, which is shorter.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(10);

/// How the instances of a ring are called.
#[derive(Debug, Clone)]
pub struct RemoteCalls {
    /// Connections and messages.
    pub rpc: RpcClientSettings,
    /// How long calls may take.
    pub settings: RemoteSettings,
    /// Where large messages are compressed.
    pub executor: Executor,
}

impl RemoteCalls {
    fn client(&self, instance: &Instance) -> Result<Arc<RpcClient>> {
        let (settings, executor) = (self.rpc.clone(), self.executor.clone());
        RpcClient::new(&instance.addr, settings, executor).map(Arc::new)
    }
}

/// Makes clients of ingesters.
#[derive(Debug, Clone)]
pub struct RemoteIngesters(pub RemoteCalls);

impl ClientFactory for RemoteIngesters {
    type Client = RemoteIngester;

    fn client(&self, instance: &Instance) -> Result<Arc<RemoteIngester>> {
        let client = self.0.client(instance)?;
        Ok(Arc::new(RemoteIngester::new(
            client,
            self.0.settings.clone(),
        )))
    }
}

#[async_trait]
impl PoolClient for RemoteIngester {
    async fn check_health(&self) -> Result<()> {
        self.client().check_health(HEALTH_TIMEOUT).await
    }
}

impl IngesterPool for ClientPool<RemoteIngesters> {
    fn ingester(&self, instance: &Instance) -> Result<Arc<dyn IngesterClient>> {
        Ok(self.client(instance)?)
    }
}

/// Makes clients of store-gateways.
#[derive(Debug, Clone)]
pub struct RemoteStoreGateways(pub RemoteCalls);

impl ClientFactory for RemoteStoreGateways {
    type Client = RemoteStoreGateway;

    fn client(&self, instance: &Instance) -> Result<Arc<RemoteStoreGateway>> {
        let client = self.0.client(instance)?;
        Ok(Arc::new(RemoteStoreGateway::new(
            client,
            self.0.settings.clone(),
        )))
    }
}

#[async_trait]
impl PoolClient for RemoteStoreGateway {
    async fn check_health(&self) -> Result<()> {
        self.client().check_health(HEALTH_TIMEOUT).await
    }
}

impl StoreGatewayPool for ClientPool<RemoteStoreGateways> {
    fn store_gateway(&self, instance: &Instance) -> Result<Arc<dyn StoreGatewayClient>> {
        Ok(self.client(instance)?)
    }
}
