//! Clients of the instances of a ring.

use std::sync::Arc;

use lgtm_core::Result;
use lgtm_core::rpc::{RemoteSettings, RpcClient};
use lgtm_ring::instance::Instance;
use lgtm_ring::pool::ClientPool;
use lgtm_ring::replicas::{InstancePool, RemoteClients, RemoteComponent};

use super::client::RemoteIngester;
use crate::components::clients::IngesterClient;

/// Makes clients of ingesters.
pub type RemoteIngesters = RemoteClients<RemoteIngester>;

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
