//! The HTTP server as a service: the last to start and the first to stop.

use std::net::SocketAddr;

use async_trait::async_trait;
use axum::Router;
use axum::serve::ListenerExt;
use lgtm_core::exec::CancelToken;
use lgtm_core::service::Service;
use lgtm_core::{Error, Result};
use tokio::net::TcpListener;
use tokio::sync::Mutex;

/// Serves a router.
#[derive(Debug)]
pub(crate) struct HttpServer {
    name: &'static str,
    listener: Mutex<Option<TcpListener>>,
    address: SocketAddr,
    router: Router,
}

impl HttpServer {
    /// Takes the port.
    pub(crate) async fn bind(name: &'static str, wanted: &str, router: Router) -> Result<Self> {
        let taken = |e: std::io::Error| Error::Unavailable(format!("HTTP address {wanted}: {e}"));
        let listener = TcpListener::bind(wanted).await.map_err(taken)?;
        let address = listener.local_addr().map_err(taken)?;
        Ok(Self {
            name,
            listener: Mutex::new(Some(listener)),
            address,
            router,
        })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

#[async_trait]
impl Service for HttpServer {
    fn name(&self) -> &str {
        self.name
    }

    fn depends_on(&self) -> Vec<String> {
        vec!["metrics-ingester".into(), "metrics-store-gateway".into()]
    }

    async fn run(&self, stop: CancelToken) -> Result<()> {
        let Some(listener) = self.listener.lock().await.take() else {
            return Ok(());
        };
        let listener = listener.tap_io(|stream| {
            // Small answers should not wait for more to send; a stream that refuses works all the same.
            let _ = stream.set_nodelay(true);
        });
        let served = axum::serve(listener, self.router.clone())
            .with_graceful_shutdown(async move { stop.cancelled().await });
        served
            .await
            .map_err(|e| Error::Unavailable(format!("HTTP server: {e}")))
    }
}
