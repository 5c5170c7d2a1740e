//! Real servers on free ports of this machine, and caches as the suite wants them.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use lgtm_core::cache::{Cache, CacheExt, CacheStats};

/// A port that nobody listens on now.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// A server process, which ends with the test.
#[derive(Debug)]
pub(crate) struct Process {
    program: &'static str,
    arguments: Vec<String>,
    pub(crate) port: u16,
    child: Option<Child>,
}

impl Process {
    /// Starts a program that listens on `port`, or says that it is not installed: in CI that is a failure.
    pub(crate) fn start(
        program: &'static str,
        package: &str,
        port: u16,
        arguments: Vec<String>,
    ) -> Option<Self> {
        let mut process = Self {
            program,
            arguments,
            port,
            child: None,
        };
        if process.try_start() {
            return Some(process);
        }
        assert!(
            std::env::var_os("CI").is_none(),
            "{program} is missing, and CI must have it"
        );
        println!("skipped: {program} is not installed (Debian: {package})");
        None
    }

    fn try_start(&mut self) -> bool {
        let spawned = Command::new(self.program)
            .args(&self.arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        match spawned {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return false,
            spawned => self.child = Some(spawned.unwrap()),
        }
        for _ in 0..3000 {
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return true;
            }
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "{} ended: {ended:?}", self.program);
            std::sync::mpsc::channel::<()>()
                .1
                .recv_timeout(Duration::from_millis(10))
                .unwrap_err();
        }
        panic!("{} does not listen on {}", self.program, self.port);
    }

    /// As `kill -9`.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Starts it again on its port, empty.
    pub(crate) fn restart(&mut self) {
        self.kill();
        assert!(self.try_start());
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// `memcached` with 64 MiB.
pub(crate) fn memcached() -> Option<Process> {
    let port = free_port();
    let arguments = [
        "-l",
        "127.0.0.1",
        "-U",
        "0",
        "-m",
        "64",
        "-c",
        "1024",
        "-u",
        "nobody",
        "-p",
    ];
    let mut arguments: Vec<_> = arguments.map(str::to_owned).to_vec();
    arguments.push(port.to_string());
    Process::start("memcached", "memcached", port, arguments)
}

/// A cache that writes in the background, whose `set` returns when the value can be read.
#[derive(Debug)]
pub(crate) struct Written<C>(pub(crate) C);

/// What can wait for its writes.
#[async_trait]
pub(crate) trait Flush: Cache {
    async fn flush(&self);
}

#[async_trait]
impl<C: Flush> Cache for Written<C> {
    fn name(&self) -> &str {
        self.0.name()
    }

    async fn get_many(&self, keys: &[&str]) -> Vec<Option<Bytes>> {
        self.0.get_many(keys).await
    }

    async fn set(&self, key: &str, value: Bytes, ttl: Option<Duration>) {
        self.0.set(key, value, ttl).await;
        self.0.flush().await;
    }

    async fn delete(&self, key: &str) {
        self.0.delete(key).await;
    }

    fn stats(&self) -> CacheStats {
        self.0.stats()
    }
}

/// The value that belongs to a key.
pub(crate) fn value_of(key: u64) -> Bytes {
    Bytes::from(format!("{key}:").repeat(1 + key as usize % 500))
}

/// Reads through `cache` from several tasks while `trouble` goes on, and checks every value that is found. Gives the longest time that a read took
/// and how many were found.
pub(crate) async fn read_under<C: Cache>(
    cache: Arc<C>,
    trouble: impl Future<Output = ()>,
) -> (Duration, u64) {
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let readers: Vec<_> = (0..4u64)
        .map(|n| {
            tokio::task::spawn_blocking({
                let (cache, stop) = (cache.clone(), stop.clone());
                let runtime = tokio::runtime::Handle::current();
                move || runtime.block_on(reader(cache, stop, n))
            })
        })
        .collect();
    trouble.await;
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let mut all = (Duration::ZERO, 0);
    for reader in readers {
        let (longest, found) = reader.await.unwrap();
        all = (all.0.max(longest), all.1 + found);
    }
    all
}

async fn reader<C: Cache>(
    cache: Arc<C>,
    stop: Arc<std::sync::atomic::AtomicBool>,
    mut key: u64,
) -> (Duration, u64) {
    let (mut longest, mut hits) = (Duration::ZERO, 0);
    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
        let numbers: Vec<u64> = (0..50).map(|i| (key + i * 7) % 1000).collect();
        let keys: Vec<String> = numbers.iter().map(|n| format!("load/{n}")).collect();
        let asked: Vec<&str> = keys.iter().map(String::as_str).collect();
        let began = tokio::time::Instant::now();
        let found = cache.get_many(&asked).await;
        longest = longest.max(began.elapsed());
        assert_eq!(found.len(), asked.len());
        for ((number, key), value) in numbers.iter().zip(&asked).zip(found) {
            match value {
                Some(value) => {
                    assert_eq!(value, value_of(*number), "another value under {key}");
                    hits += 1;
                }
                None => cache.set(key, value_of(*number), None).await,
            }
        }
        key = key.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1) % 1000;
    }
    (longest, hits)
}

/// Waits until a value that is set can be read.
pub(crate) async fn until_it_serves(cache: &dyn Cache) {
    for _ in 0..1000 {
        cache.set("served", Bytes::from_static(b"v"), None).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        if cache.get("served").await.is_some() {
            return;
        }
    }
    panic!("{} does not serve: {:?}", cache.name(), cache.stats());
}
