//! One server: its connections, and whether it is asked at all.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::cache::memcached::connection::{Connection, Outcome, Request};
use crate::cache::memcached::settings::MemcachedSettings;
use crate::cache::remote::{Breaker, Failure};
use crate::clock::Clock;

/// A server, whatever list it stands on.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) address: String,
    idle: Mutex<Vec<Connection>>,
    slots: Semaphore,
    breaker: Breaker,
}

impl Server {
    pub(super) fn new(address: String, settings: &MemcachedSettings) -> Self {
        Self {
            address,
            idle: Mutex::default(),
            slots: Semaphore::new(settings.max_connections),
            breaker: Breaker::default(),
        }
    }

    /// Asks within the bounds of the settings. Cancel-safe: a request that is dropped takes its connection with it.
    pub(super) async fn ask(
        &self,
        request: Request<'_>,
        settings: &MemcachedSettings,
        clock: &dyn Clock,
    ) -> Result<Outcome, Failure> {
        if !self
            .breaker
            .lets_through(clock.monotonic(), &settings.breaker)
        {
            return Err(Failure::CircuitOpen);
        }
        // That others use all connections says nothing about the server.
        let slot = within(settings.timeout, Failure::RequestTimeout, async {
            self.slots.acquire().await.map_err(|_| Failure::Network)
        });
        let _slot = slot.await?;
        let outcome = self.ask_connected(request, settings).await;
        match &outcome {
            Err(why) if why.is_silence() => {
                self.breaker.failed(clock.monotonic(), &settings.breaker);
            }
            _ => self.breaker.answered(),
        }
        outcome
    }

    async fn ask_connected(
        &self,
        request: Request<'_>,
        settings: &MemcachedSettings,
    ) -> Result<Outcome, Failure> {
        let kept = self.idle.lock().pop();
        if let Some(mut connection) = kept {
            let asked = connection.ask(request);
            match within(settings.timeout, Failure::RequestTimeout, asked).await {
                Err(Failure::Network) => {
                    // It was closed while nobody used it, as are all others if the server was started anew.
                    self.idle.lock().clear();
                }
                outcome => return self.keep(connection, outcome, settings),
            }
        }
        let opened = Connection::open(&self.address);
        let opened = within(settings.connect_timeout, Failure::ConnectTimeout, opened).await;
        let mut connection = opened?;
        let asked = connection.ask(request);
        let outcome = within(settings.timeout, Failure::RequestTimeout, asked).await;
        self.keep(connection, outcome, settings)
    }

    fn keep(
        &self,
        connection: Connection,
        outcome: Result<Outcome, Failure>,
        settings: &MemcachedSettings,
    ) -> Result<Outcome, Failure> {
        if outcome.is_ok() {
            let mut idle = self.idle.lock();
            if idle.len() < settings.max_idle_connections {
                idle.push(connection);
            }
        }
        outcome
    }
}

/// What comes of `work` in time, else `late`.
async fn within<T>(
    time: Duration,
    late: Failure,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    timeout(time, work).await.unwrap_or(Err(late))
}
