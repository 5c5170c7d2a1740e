//! Clients of instances in other processes.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lgtm_core::Result;
use lgtm_core::exec::Executor;
use lgtm_core::rpc::{RemoteSettings, RpcClient, RpcClientSettings};

use crate::instance::Instance;
use crate::pool::{ClientFactory, PoolClient};

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

/// A component in another process.
pub trait RemoteComponent: std::fmt::Debug + Send + Sync + 'static {
    /// The one that `client` calls.
    fn of(client: Arc<RpcClient>, settings: RemoteSettings) -> Self;

    /// How it is called.
    fn client(&self) -> &Arc<RpcClient>;
}

#[async_trait]
impl<C: RemoteComponent> PoolClient for C {
    async fn check_health(&self) -> Result<()> {
        self.client().check_health(HEALTH_TIMEOUT).await
    }
}

/// Makes clients of components in other processes.
#[derive(Debug)]
pub struct RemoteClients<C> {
    calls: RemoteCalls,
    makes: PhantomData<fn() -> C>,
}

impl<C> RemoteClients<C> {
    /// Clients that call like this.
    pub fn new(calls: RemoteCalls) -> Self {
        Self {
            calls,
            makes: PhantomData,
        }
    }
}

impl<C: RemoteComponent> ClientFactory for RemoteClients<C> {
    type Client = C;

    fn client(&self, instance: &Instance) -> Result<Arc<C>> {
        let (rpc, executor) = (self.calls.rpc.clone(), self.calls.executor.clone());
        let client = RpcClient::new(&instance.addr, rpc, executor)?;
        let settings = self.calls.settings.clone();
        Ok(Arc::new(C::of(Arc::new(client), settings)))
    }
}
