//! A server of calls on loopback, for tests of what goes over a network.

use std::sync::Arc;

use axum::Router;
use tokio::runtime::Handle;

use crate::error::Result;
use crate::exec::{CancelToken, Executor, TaskGroup};
use crate::http::{ConnectionSettings, Connections, HttpServer};
use crate::rpc::{RpcClient, RpcClientSettings, RpcServer, RpcServerSettings};
use crate::service::Service;
use crate::telemetry::Registry;

/// A server on a free port of loopback, until it is dropped or ended.
#[derive(Debug)]
pub struct RpcLoopback {
    address: String,
    stop: CancelToken,
    tasks: TaskGroup,
}

impl RpcLoopback {
    /// Serves these routes, on the runtime that it is called on.
    ///
    /// # Errors
    /// `Unavailable` when no port can be had.
    pub async fn start(router: Router) -> Result<Self> {
        let settings = RpcServerSettings::connections(&ConnectionSettings::default());
        let connections = Connections::new(settings, &Registry::new())?;
        let server = HttpServer::bind("rpc", "127.0.0.1:0", router, connections).await?;
        let (stop, tasks) = (CancelToken::new(), TaskGroup::new(Handle::current()));
        let (address, stopped) = (server.address().to_string(), stop.clone());
        drop(tasks.spawn("server", async move { server.run(stopped).await }));
        Ok(Self {
            address,
            stop,
            tasks,
        })
    }

    /// What makes methods of functions, with the settings of a host.
    ///
    /// # Errors
    /// None with these settings.
    pub fn server() -> Result<Arc<RpcServer>> {
        RpcServer::new(RpcServerSettings::default(), Self::executor())
    }

    /// Where it listens, `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// A client of it.
    ///
    /// # Errors
    /// `InvalidInput` for settings out of their bounds.
    pub fn client(&self, settings: RpcClientSettings) -> Result<Arc<RpcClient>> {
        let client = RpcClient::new(&self.address, settings, Self::executor())?;
        Ok(Arc::new(client))
    }

    /// Ends it, and waits until it has ended.
    ///
    /// # Errors
    /// `Internal` when it panicked.
    pub async fn end(self) -> Result<()> {
        self.stop.cancel();
        self.tasks.join().await
    }

    fn executor() -> Executor {
        Executor::inline(Handle::current())
    }
}
