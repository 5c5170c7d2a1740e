//! A small replicated store of three processes: they find each other by gossip, write and read by quorum, and go on while one joins, leaves and dies.
//!
//! ```text
//!  client ── PUT k v ──► any process ── do_batch ────► SET k v  at the three that the ring names; two must answer
//!         ── GET k ────► any process ── read_quorum ─► LOOK k   at two of them
//! ```
//!
//! Run without arguments it starts the others, plays the client and ends; `ring_app NAME SEED` is one of them. Over the wire go lines of text, where a real
//! one would use gRPC; everything about the ring is as in production. Read `ring_lookup` and `three_nodes_gossip` first.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use lgtm_core::clock::{Clock, SystemClock};
use lgtm_core::exec::{CancelToken, TaskGroup};
use lgtm_core::service::{Service, Services};
use lgtm_core::{Error, Result};
use lgtm_ring::batch::{Batch, do_batch, is_client_error};
use lgtm_ring::fanout::{ReadOptions, read_quorum};
use lgtm_ring::hash::series_token;
use lgtm_ring::instance::{Instance, InstanceState, RingCodec};
use lgtm_ring::kv::gossip::{Codecs, GossipKv, GossipSettings, TransportSettings};
use lgtm_ring::lifecycle::{Identity, Lifecycler, LifecyclerSettings, OnStopping, Role};
use lgtm_ring::ring::{Operation, RingSettings};
use lgtm_ring::store::RingStore;
use lgtm_ring::token::Token;
use lgtm_ring::watch::{RingHandle, RingWatcher};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;

/// Heartbeats come often, so that the lesson is short. An operator leaves the defaults, 15 s and 1 min.
const HEARTBEAT: Duration = Duration::from_secs(1);
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(5);
const CALL_TIMEOUT: Duration = Duration::from_secs(2);

#[tokio::main]
async fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match &args[..] {
        [] => client().await,
        [name, seeds @ ..] => process(name, seeds).await,
    }
}

// ---- one process ----

/// What a process has: its share of the data, and its view of the ring. Clones share it.
#[derive(Debug, Clone)]
struct Replica {
    name: String,
    listener: Arc<TcpListener>,
    data: Arc<Mutex<BTreeMap<String, String>>>,
    ring: RingHandle,
    /// Requests, and calls of writes, which go on after the quorum has answered.
    tasks: Arc<TaskGroup>,
    leave: CancelToken,
}

async fn process(name: &str, seeds: &[String]) -> Result<()> {
    let kv = gossip(name, seeds)?;
    let store = RingStore::new(Arc::new(kv.clone()), "ring-app/ring")?;
    let settings = RingSettings {
        heartbeat_timeout: HEARTBEAT_TIMEOUT,
        ..RingSettings::default() // three replicas
    };
    let watcher = RingWatcher::builder("app", store.clone())
        .settings(settings)
        .depends_on(kv.name())
        .build()?;
    let listener = TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.map_err(|e| Error::Unavailable(e.to_string()))?;
    let addr = addr_of(&listener)?;
    let replica = Replica {
        name: name.to_owned(),
        listener: Arc::new(listener),
        data: Arc::default(),
        ring: watcher.handle(),
        tasks: Arc::new(TaskGroup::new(Handle::current())),
        leave: CancelToken::new(),
    };
    let me = Identity {
        id: name.to_owned(),
        addr: addr.to_string(),
        zone: String::new(),
    };
    let lifecycler = Lifecycler::builder("app", store, me, Role::HoldsData)
        .settings(LifecyclerSettings {
            heartbeat_period: HEARTBEAT,
            heartbeat_timeout: HEARTBEAT_TIMEOUT,
            // Gossip does not agree at once: look whether somebody else drew the same tokens.
            observe_period: Duration::from_millis(500),
            ..LifecyclerSettings::default()
        })
        .on_stopping(Arc::new(HandOver(replica.clone())))
        // It leaves while all these still work.
        .depends_on(kv.name())
        .depends_on(watcher.name())
        .depends_on(replica.name())
        .build()?;
    let services = Services::new()
        .add(kv.clone())
        .add(watcher)
        .add(replica.clone())
        .add(lifecycler);
    let until_told = async {
        while kv.addr().is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let gossip_addr = kv.addr().expect("asked above");
        let mut out = std::io::stdout();
        let said = writeln!(out, "{gossip_addr} {addr}").and_then(|()| out.flush());
        said.expect("the client listens");
        replica.leave.cancelled().await;
    };
    services.run_until(until_told).await
}

fn gossip(name: &str, seeds: &[String]) -> Result<GossipKv> {
    let settings = GossipSettings::for_cluster("ring-app");
    let transport = TransportSettings {
        bind: SocketAddr::from(([127, 0, 0, 1], 0)),
        node_name: name.to_owned(),
        seeds: seeds.to_vec(),
        ..TransportSettings::default()
    };
    let codecs = Codecs::single(Arc::new(RingCodec));
    GossipKv::builder(settings, transport, codecs).build()
}

#[async_trait]
impl Service for Replica {
    fn name(&self) -> &'static str {
        "replica"
    }

    async fn run(&self, stop: CancelToken) -> Result<()> {
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                accepted = self.listener.accept() => {
                    if let Ok((stream, _)) = accepted {
                        let replica = self.clone();
                        self.tasks.spawn("request", async move { replica.serve(stream).await });
                    }
                }
            }
        }
    }

    async fn stop(&self) -> Result<()> {
        self.tasks.shutdown().await
    }
}

impl Replica {
    async fn serve(&self, stream: TcpStream) {
        let talk = async {
            let mut stream = tokio::io::BufReader::new(stream);
            let mut line = String::new();
            stream.read_line(&mut line).await?;
            let words: Vec<&str> = line.split_whitespace().collect();
            let answer = match self.answer(&words).await {
                Ok(answer) => answer,
                Err(error) => format!("ERROR {error}"),
            };
            stream.write_all(answer.as_bytes()).await
        };
        // Whoever asked may have gone.
        let _ = tokio::time::timeout(2 * CALL_TIMEOUT, talk).await;
    }

    async fn answer(&self, words: &[&str]) -> Result<String> {
        Ok(match *words {
            // Of another process: this copy alone.
            ["SET", key, value] => {
                self.data().insert(key.to_owned(), value.to_owned());
                "OK".to_owned()
            }
            ["LOOK", key] => self.data().get(key).cloned().unwrap_or_default(),
            // Of the client: all copies.
            ["PUT", key, value] => {
                // No replacement for who is away: the quorum is of three, always.
                self.write(key, value, Operation::WRITE_NO_EXTEND).await?;
                "OK".to_owned()
            }
            ["GET", key] => self.read(key).await?,
            ["MEMBERS"] => {
                let ring = self.ring.current();
                ring.count_healthy(Operation::WRITE, now_s()).to_string()
            }
            ["LEAVE"] => {
                self.leave.cancel();
                "OK".to_owned()
            }
            _ => return Err(Error::InvalidInput(format!("no such request: {words:?}"))),
        })
    }

    fn data(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, String>> {
        self.data.lock().expect("no holder panics")
    }

    /// Writes to the replicas of a key, and returns once a quorum has it. The others get it, too, in the background.
    async fn write(&self, key: &str, value: &str, operation: Operation) -> Result<()> {
        let ring = self.ring.current();
        let batch = Batch {
            ring: &ring,
            operation,
            keys: &[token(key)],
            now_s: now_s(),
            is_client_error,
        };
        let line = format!("SET {key} {value}");
        let call = |replica: Arc<Instance>, _| {
            let (addr, line) = (replica.addr.clone(), line.clone());
            async move { ask(&addr, &line).await.map(drop) }
        };
        Ok(do_batch(batch, &self.tasks, call, || ()).await?)
    }

    /// Reads from a quorum. Two of three wrote, two of three are read: at least one of them has it.
    async fn read(&self, key: &str) -> Result<String> {
        let replicas = self.ring.current();
        let replicas = replicas.get(token(key), Operation::READ, now_s())?;
        let line = &format!("LOOK {key}");
        let options = ReadOptions {
            hedging_delay: Some(CALL_TIMEOUT / 4),
            ..ReadOptions::default()
        };
        let call = |replica: Arc<Instance>| async move { ask(&replica.addr, line).await };
        let answers = read_quorum(&replicas, &options, call).await?;
        // Nothing is written twice here; a real store would take the newest and mend the others.
        Ok(answers
            .into_iter()
            .find(|a| !a.is_empty())
            .unwrap_or_default())
    }
}

/// What is done between LEAVING and gone: others get what this one has. It is asked no more for writes, and `WRITE` names the next in its place.
#[derive(Debug)]
struct HandOver(Replica);

#[async_trait]
impl OnStopping for HandOver {
    async fn on_stopping(&self) -> Result<()> {
        let replica = &self.0;
        let mut ring = replica.ring.clone();
        let is_leaving = |ring: &RingHandle| {
            let ring = ring.current();
            let own = ring.instance(&replica.name).map(|own| own.state);
            own == Some(InstanceState::Leaving)
        };
        while !is_leaving(&ring) {
            ring.changed().await;
        }
        let all = replica.data().clone();
        for (key, value) in all {
            replica.write(&key, &value, Operation::WRITE).await?;
        }
        Ok(())
    }
}

fn token(key: &str) -> Token {
    series_token("lesson", [("key", key)])
}

fn now_s() -> i64 {
    SystemClock::new().now_ms().to_seconds()
}

fn addr_of(listener: &TcpListener) -> Result<SocketAddr> {
    listener
        .local_addr()
        .map_err(|e| Error::Unavailable(e.to_string()))
}

/// Sends a line and gives the answer.
async fn ask(addr: &str, line: &str) -> Result<String> {
    let talk = async {
        let mut stream = TcpStream::connect(addr).await?;
        stream.write_all(format!("{line}\n").as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = tokio::time::timeout(2 * CALL_TIMEOUT, talk).await;
    let answer = answer.map_err(|_| Error::Unavailable(format!("{addr}: no answer")))?;
    let answer = answer.map_err(|e| Error::Unavailable(format!("{addr}: {e}")))?;
    match answer.strip_prefix("ERROR ") {
        None => Ok(answer),
        Some(error) => Err(Error::Unavailable(format!("{addr}: {error}"))),
    }
}

// ---- the client, which starts the processes ----

/// A process, ended without a word when it is dropped.
struct Process {
    child: Child,
    gossip_addr: String,
    addr: String,
}

impl Process {
    fn start(name: &str, seed: Option<&Process>) -> Self {
        let program = std::env::current_exe().expect("this program");
        let mut child = Command::new(program)
            .arg(name)
            .args(seed.map(|p| &p.gossip_addr))
            .stdout(Stdio::piped())
            .spawn()
            .expect("a process");
        let mut line = String::new();
        let said = BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line);
        said.expect("a line of its addresses");
        let (gossip_addr, addr) = line.trim().split_once(' ').expect("two addresses");
        Self {
            gossip_addr: gossip_addr.to_owned(),
            addr: addr.to_owned(),
            child,
        }
    }

    async fn ask(&self, line: &str) -> Result<String> {
        ask(&self.addr, line).await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // `kill -9`; it may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn until_members(processes: &[&Process], members: &str) {
    for _ in 0..600 {
        let mut seen = Vec::new();
        for process in processes {
            seen.push(process.ask("MEMBERS").await.unwrap_or_default());
        }
        if seen.iter().all(|s| s == members) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("never: all see {members} members");
}

async fn put(at: &Process, keys: std::ops::Range<u32>) -> Result<()> {
    for n in keys {
        assert_eq!(at.ask(&format!("PUT key-{n} value-{n}")).await?, "OK");
    }
    Ok(())
}

async fn get(at: &Process, keys: std::ops::Range<u32>) -> Result<()> {
    for n in keys {
        assert_eq!(at.ask(&format!("GET key-{n}")).await?, format!("value-{n}"));
    }
    Ok(())
}

async fn client() -> Result<()> {
    // Three, of which the first has nobody to ask. What one wrote, another reads.
    let a = Process::start("a", None);
    let [b, c] = ["b", "c"].map(|name| Process::start(name, Some(&a)));
    until_members(&[&a, &b, &c], "3").await;
    put(&a, 0..50).await?;
    get(&b, 0..50).await?;

    // A fourth joins. Some keys are now its own; who reads asks a quorum, of which at most one is the newcomer.
    let mut d = Process::start("d", Some(&b));
    until_members(&[&a, &b, &c, &d], "4").await;
    put(&d, 50..100).await?;
    get(&a, 0..100).await?;

    // It leaves in order: what it has it hands over, then its record goes.
    assert_eq!(d.ask("LEAVE").await?, "OK");
    assert!(d.child.wait().expect("it ends").success());
    until_members(&[&a, &b, &c], "3").await;
    get(&c, 0..100).await?;

    // Another dies without a word. At once, while all still take it for healthy, one of three may fail …
    drop(b);
    put(&a, 100..110).await?;
    get(&c, 0..110).await?;
    // … and when its heartbeat is too old it is not asked any more: two of two.
    until_members(&[&a, &c], "2").await;
    put(&c, 110..120).await?;
    get(&a, 0..120).await?;

    // It comes back under its name, at another address, with its tokens from the ring and an empty memory. The quorum does not mind.
    let b = Process::start("b", Some(&c));
    until_members(&[&a, &b, &c], "3").await;
    put(&b, 120..130).await?;
    get(&b, 0..130).await
}
