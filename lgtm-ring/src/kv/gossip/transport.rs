//! The sockets around a [`GossipState`](crate::kv::gossip::GossipState): one loop, and a short task per connection.
//!
//! A packet that fits `max_datagram_bytes` goes by UDP. Larger ones, and exchanges, take a TCP connection each: a four-byte big-endian
//! length and the packet, then the answer in the same form.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lgtm_core::exec::{CancelToken, TaskGroup};
use lgtm_core::{Error, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::kv::gossip::builder::TransportSettings;
use crate::kv::gossip::gossip::GossipMember;
use crate::kv::gossip::packet;
use crate::kv::gossip::state::GossipOutput;

/// Ports tried when any free one will do: UDP and TCP need the same.
const BIND_TRIES: usize = 20;
/// Packets read before timers and connections get their turn.
const READ_AT_ONCE: usize = 64;
/// Waits after a failed accept, so that a process out of file handles does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Bound sockets.
#[derive(Debug)]
pub(super) struct Transport {
    udp: UdpSocket,
    tcp: TcpListener,
    addr: SocketAddr,
    tasks: TaskGroup,
    inbound: Arc<Semaphore>,
    outbound: Arc<Semaphore>,
    /// Permits for KiB being read.
    memory: Arc<Semaphore>,
}

impl Transport {
    pub(super) async fn bind(settings: &TransportSettings) -> Result<Self> {
        let failed = |e: std::io::Error| {
            Error::Unavailable(format!("cannot listen on {}: {e}", settings.bind))
        };
        for tries_left in (0..BIND_TRIES).rev() {
            let tcp = TcpListener::bind(settings.bind).await.map_err(failed)?;
            let addr = tcp.local_addr().map_err(failed)?;
            let udp = match UdpSocket::bind(addr).await {
                Ok(udp) => udp,
                // A free TCP port whose UDP twin is taken: only when the port does not matter is there another.
                Err(_) if settings.bind.port() == 0 && tries_left > 0 => continue,
                Err(e) => return Err(failed(e)),
            };
            return Ok(Self {
                udp,
                tcp,
                addr,
                tasks: TaskGroup::new(Handle::current()),
                inbound: Arc::new(Semaphore::new(settings.max_streams)),
                outbound: Arc::new(Semaphore::new(settings.max_streams)),
                memory: Arc::new(Semaphore::new(kib(settings.max_inbound_bytes.as_usize()))),
            });
        }
        unreachable!("the last try returns")
    }

    pub(super) fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// Drives the state until `stop`.
    pub(super) async fn run(self, inner: Arc<GossipMember>, stop: CancelToken) {
        let mut buf = vec![0; 65_536];
        loop {
            let wait = self.send_what_is_due(&inner);
            inner.heard.notify_waiters();
            // By chance, so that a flood of packets does not keep connections waiting.
            tokio::select! {
                () = stop.cancelled() => break,
                ready = self.udp.readable() => if ready.is_ok() {
                    self.receive(&inner, &mut buf);
                },
                accepted = self.tcp.accept() => match accepted {
                    Ok((stream, _)) => self.serve(&inner, stream),
                    Err(error) => {
                        tracing::warn!(%error, "accept");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                () = inner.wake.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
        self.tasks.abort();
    }

    /// Lets the state do what is due and sends what it wants sent; yields how long there is nothing to do.
    fn send_what_is_due(&self, inner: &Arc<GossipMember>) -> Duration {
        let now = inner.now();
        let mut outputs = Vec::new();
        let next = {
            let mut state = inner.state().lock();
            state.tick(now);
            outputs.extend(std::iter::from_fn(|| state.poll()));
            state.next_tick()
        };
        for output in outputs {
            match output {
                GossipOutput::Send { to, packet } => self.send(inner, to, packet),
                GossipOutput::Exchange { to, packet } => self.exchange(inner, to, packet),
                GossipOutput::ResolveSeeds => self.resolve(inner),
            }
        }
        next.saturating_sub(now.monotonic)
    }

    fn send(&self, inner: &Arc<GossipMember>, to: SocketAddr, packet: Bytes) {
        if packet.len() <= inner.settings.max_datagram_bytes.as_usize() {
            if self.udp.try_send_to(&packet, to).is_err() {
                inner.state().lock().stats.packets_dropped += 1;
            }
            return;
        }
        let Ok(permit) = self.outbound.clone().try_acquire_owned() else {
            inner.state().lock().stats.packets_dropped += 1;
            return;
        };
        let inner = inner.clone();
        self.tasks.spawn("gossip send", async move {
            let _permit = permit;
            if let Err(error) = ask(&inner, to, &packet, Answer::None).await {
                tracing::debug!(%to, %error, "packet was not sent");
                inner.state().lock().stats.packets_dropped += 1;
            }
        });
    }

    fn exchange(&self, inner: &Arc<GossipMember>, to: SocketAddr, packet: Bytes) {
        let permit = self.outbound.clone().try_acquire_owned();
        let (inner, memory) = (inner.clone(), self.memory.clone());
        self.tasks.spawn("gossip exchange", async move {
            let answer = match permit {
                Ok(_permit) => ask(&inner, to, &packet, Answer::Into(&memory)).await,
                Err(_) => Err(Error::LimitExceeded("too many connections".into())),
            };
            let mut state = inner.state().lock();
            match answer {
                // Refusals are counted by the state.
                Ok(answer) => drop(state.handle_stream(&answer, inner.now())),
                Err(_) => state.exchange_failed(to),
            }
            drop(state);
            inner.wake.notify_one();
        });
    }

    fn resolve(&self, inner: &Arc<GossipMember>) {
        let inner = inner.clone();
        self.tasks.spawn("gossip seeds", async move {
            let within = inner.transport.resolve_timeout;
            let seeds = inner.transport.seeds.iter().map(async |seed| {
                let found = timeout(within, inner.resolver.resolve(seed)).await;
                let found = found.unwrap_or_else(|_| {
                    Err(Error::Timeout {
                        what: format!("resolving seed {seed:?}"),
                        after: within,
                    })
                });
                found
                    .inspect_err(|error| tracing::warn!(seed, %error, "seed"))
                    .unwrap_or_default()
            });
            // Side by side: a name that its server does not answer for must not hold up the others.
            let addrs = futures::future::join_all(seeds).await.concat();
            inner.state().lock().seeds_resolved(&addrs, inner.now());
            inner.wake.notify_one();
        });
    }

    fn receive(&self, inner: &Arc<GossipMember>, buf: &mut [u8]) {
        for _ in 0..READ_AT_ONCE {
            match self.udp.try_recv_from(buf) {
                // Refusals are counted by the state. The sender's address proves nothing and is not looked at.
                Ok((len, _)) => {
                    drop(
                        inner
                            .state()
                            .lock()
                            .handle_datagram(&buf[..len], inner.now()),
                    );
                }
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return,
                // An answer that an earlier packet found nobody.
                Err(_) => {}
            }
        }
    }

    fn serve(&self, inner: &Arc<GossipMember>, stream: TcpStream) {
        let Ok(permit) = self.inbound.clone().try_acquire_owned() else {
            inner.state().lock().stats.streams_failed += 1;
            return;
        };
        let (inner, memory) = (inner.clone(), self.memory.clone());
        self.tasks.spawn("gossip serve", async move {
            let _permit = permit;
            let limit = inner.transport.stream_timeout;
            if let Ok(Ok(())) = timeout(limit, answer(&inner, stream, &memory)).await {
                inner.wake.notify_one();
            } else {
                inner.state().lock().stats.streams_failed += 1;
            }
        });
    }
}

/// Answers one request.
async fn answer(inner: &GossipMember, mut stream: TcpStream, memory: &Semaphore) -> Result<()> {
    let request = read_packet(inner, &mut stream, memory).await?;
    let handled = inner.state().lock().handle_stream(&request, inner.now());
    let answer = handled.map_err(|refusal| Error::InvalidInput(refusal.to_string()))?;
    if let Some(answer) = answer {
        write_packet(&mut stream, &answer).await?;
    }
    // All was read, so that closing the connection loses nothing of the answer.
    stream.shutdown().await.map_err(broken)
}

/// What to wait for after a request.
enum Answer<'a> {
    None,
    Into(&'a Semaphore),
}

async fn ask(
    inner: &GossipMember,
    to: SocketAddr,
    packet: &[u8],
    wanted: Answer<'_>,
) -> Result<Vec<u8>> {
    let settings = &inner.transport;
    let late = |after| Error::Timeout {
        what: format!("conversation with {to}"),
        after,
    };
    let dialled = timeout(settings.dial_timeout, TcpStream::connect(to)).await;
    let mut stream = dialled
        .map_err(|_| late(settings.dial_timeout))?
        .map_err(broken)?;
    let talk = async {
        write_packet(&mut stream, packet).await?;
        match wanted {
            Answer::None => stream.shutdown().await.map(|()| Vec::new()).map_err(broken),
            Answer::Into(memory) => read_packet(inner, &mut stream, memory).await,
        }
    };
    let talked = timeout(settings.stream_timeout, talk).await;
    talked.map_err(|_| late(settings.stream_timeout))?
}

async fn write_packet(stream: &mut TcpStream, packet: &[u8]) -> Result<()> {
    let len = u32::try_from(packet.len())
        .map_err(|_| Error::LimitExceeded(format!("packet of {} bytes", packet.len())))?;
    stream.write_all(&len.to_be_bytes()).await.map_err(broken)?;
    stream.write_all(packet).await.map_err(broken)
}

/// Reads a packet once there is room for it; memory grows with the bytes that come, not with the length that was said.
async fn read_packet(
    inner: &GossipMember,
    stream: &mut TcpStream,
    memory: &Semaphore,
) -> Result<Vec<u8>> {
    let len = stream.read_u32().await.map_err(broken)? as usize;
    let settings = &inner.settings;
    let limit = settings.max_state_bytes.as_usize() + packet::overhead(&settings.cluster_label);
    if len > limit {
        return Err(Error::LimitExceeded(format!(
            "packet of {len} bytes, max_state_bytes allows {limit}"
        )));
    }
    // One that is larger than all the room there is gets all of it.
    let whole = kib(inner.transport.max_inbound_bytes.as_usize());
    let permits = kib(len).min(whole) as u32;
    let room = memory.acquire_many(permits).await;
    let _room = room.map_err(|_| Error::Unavailable("closed".into()))?;
    let mut packet = Vec::with_capacity(len.min(64 << 10));
    stream
        .take(len as u64)
        .read_to_end(&mut packet)
        .await
        .map_err(broken)?;
    if packet.len() < len {
        return Err(Error::Unavailable(format!(
            "connection ended after {} of {len} bytes",
            packet.len()
        )));
    }
    Ok(packet)
}

fn kib(bytes: usize) -> usize {
    (bytes >> 10).clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize))
}

fn broken(error: std::io::Error) -> Error {
    Error::Unavailable(format!("connection: {error}"))
}
