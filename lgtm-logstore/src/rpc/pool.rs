//! Clients of the instances of a ring.

use std::sync::Arc;

use lgtm_core::Result;
use lgtm_core::rpc::{RemoteSettings, RpcClient};
use lgtm_ring::instance::Instance;
use lgtm_ring::pool::ClientPool;
use lgtm_ring::replicas::{InstancePool, RemoteClients, RemoteComponent};

use super::client::{RemoteIndexGateway, RemoteIngester};
use crate::components::clients::{IngesterClient, StoreGatewayClient};

/// Makes clients of ingesters.
pub type RemoteIngesters = RemoteClients<RemoteIngester>;
/// Makes clients of index-gateways.
pub type RemoteIndexGateways = RemoteClients<RemoteIndexGateway>;

impl RemoteComponent for RemoteIngester {
    fn of(client: Arc<RpcClient>, settings: RemoteSettings) -> Self {
        Self::new(client, settings)
    }

    fn client(&self) -> &Arc<RpcClient> {
        self.client()
    }
}

impl InstancePool<dyn IngesterClient> for ClientPool<RemoteIngesters> {
    fn instance(&self, instance: &Instance) -> Result<Arc<dyn IngesterClient>> {
        Ok(self.client(instance)?)
    }
}

impl RemoteComponent for RemoteIndexGateway {
    fn of(client: Arc<RpcClient>, settings: RemoteSettings) -> Self {
        Self::new(client, settings)
    }

    fn client(&self) -> &Arc<RpcClient> {
        self.client()
    }
}

impl InstancePool<dyn StoreGatewayClient> for ClientPool<RemoteIndexGateways> {
    fn instance(&self, instance: &Instance) -> Result<Arc<dyn StoreGatewayClient>> {
        Ok(self.client(instance)?)
    }
}
