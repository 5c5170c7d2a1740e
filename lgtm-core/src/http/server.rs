//! An HTTP server as a service: the last to start and the first to stop.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::Mutex;

use super::connection;
use super::connections::Connections;
use super::site_guard::{GuardedDoor, SiteGuard};
use crate::error::{Error, Result};
use crate::exec::{CancelToken, TaskGroup};
use crate::service::Service;

/// How long to wait when no connection can be accepted for want of files or memory: others need a moment to give some back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What a client gets that finds no room.
const NO_ROOM: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: 63\r\n\r\nall connections are in use, try again (server.connections.max)\n";

/// Serves a router over HTTP/1.1 and, to clients that begin with its preface (gRPC's do), cleartext HTTP/2.
///
/// A connection ends with its client, when the client is late (see [`super::ConnectionSettings`]), or when the service stops and its
/// last request is answered. A fault in one connection ends no other.
#[derive(Debug)]
pub struct HttpServer {
    name: &'static str,
    listener: Mutex<Option<TcpListener>>,
    address: SocketAddr,
    router: Router,
    door: Option<GuardedDoor>,
    connections: Arc<Connections>,
    depends_on: Vec<String>,
}

impl HttpServer {
    /// Takes the address `wanted`, `host:port`; port 0 is a free one. `connections` may be shared by several servers, whose names
    /// differ.
    ///
    /// # Errors
    /// `Unavailable` when the address cannot be had.
    pub async fn bind(
        name: &'static str,
        wanted: &str,
        router: Router,
        connections: Arc<Connections>,
    ) -> Result<Self> {
        let taken = |e: io::Error| Error::Unavailable(format!("HTTP address {wanted}: {e}"));
        let listener = TcpListener::bind(wanted).await.map_err(taken)?;
        let address = listener.local_addr().map_err(taken)?;
        Ok(Self {
            name,
            listener: Mutex::new(Some(listener)),
            address,
            router,
            door: None,
            connections,
            depends_on: Vec::new(),
        })
    }

    /// Names the services without which no request can be answered.
    #[must_use]
    pub fn after(mut self, services: &[&str]) -> Self {
        self.depends_on = services.iter().map(|s| (*s).to_owned()).collect();
        self
    }

    /// Lets `guard` stand before all routes.
    #[must_use]
    pub fn guarded_by(mut self, guard: &Arc<SiteGuard>) -> Self {
        self.door = Some(guard.at(self.address));
        self
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts until the listener is dropped with this future.
    async fn accept(&self, listener: &TcpListener, tasks: &TaskGroup) {
        let mut is_failing = false;
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    is_failing = false;
                    self.begin(stream, tasks);
                }
                // The client went away while it waited.
                Err(e) if is_of_one_connection(&e) => {}
                Err(error) => {
                    self.connections.counts.accept_errors.inc();
                    if !is_failing {
                        tracing::warn!(%error, server = self.name, "no connection can be accepted");
                    }
                    is_failing = true;
                    self.connections.make_room();
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn begin(&self, stream: TcpStream, tasks: &TaskGroup) {
        // Small answers should not wait for more to send; a stream that refuses works all the same.
        let _ = stream.set_nodelay(true);
        match self.connections.enter(self.name) {
            Some(place) => {
                let (router, door) = (self.router.clone(), self.door.clone());
                let served = connection::serve(stream, place, router, door);
                drop(tasks.spawn("connection", served));
            }
            // The text fits the empty buffer of a new socket. Whoever is gone already needs no answer.
            None => drop(stream.into_std().and_then(|mut s| s.write_all(NO_ROOM))),
        }
    }
}

fn is_of_one_connection(e: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(
        e.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    )
}

#[async_trait]
impl Service for HttpServer {
    fn name(&self) -> &str {
        self.name
    }

    fn depends_on(&self) -> Vec<String> {
        self.depends_on.clone()
    }

    async fn run(&self, stop: CancelToken) -> Result<()> {
        let Some(listener) = self.listener.lock().await.take() else {
            return Ok(());
        };
        let tasks = TaskGroup::new(Handle::current());
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.accept(&listener, &tasks) => {}
        }
        drop(listener);
        self.connections.stop(self.name);
        // A connection that panicked is in the log; it is no failure of the server.
        if let Err(error) = tasks.join().await {
            tracing::warn!(%error, server = self.name, "a connection ended in a fault");
        }
        Ok(())
    }
}
