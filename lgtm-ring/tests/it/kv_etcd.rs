//! The etcd store against a real server (Debian's `etcd-server`), which each test starts for itself.

#![cfg(all(feature = "testing", feature = "etcd"))]

use crate::shared;

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lgtm_core::ErrorKind;
use lgtm_ring::kv::{EtcdKv, EtcdSettings, Kv, KvWatch};
use lgtm_ring::testing::{concurrent_counters, kv_suite};
use tokio::runtime::Handle;

/// A server with a folder of its own; stopped when it is dropped.
struct Etcd {
    process: Child,
    folder: tempfile::TempDir,
    client_port: u16,
    peer_port: u16,
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn spawn(folder: &tempfile::TempDir, client_port: u16, peer_port: u16) -> Option<Child> {
    let client = format!("http://127.0.0.1:{client_port}");
    let peer = format!("http://127.0.0.1:{peer_port}");
    let spawned = Command::new("etcd")
        .args(["--name", "test", "--log-level", "error", "--logger", "zap"])
        .args([
            "--listen-client-urls",
            &client,
            "--advertise-client-urls",
            &client,
        ])
        .args([
            "--listen-peer-urls",
            &peer,
            "--initial-advertise-peer-urls",
            &peer,
        ])
        .args(["--initial-cluster", &format!("test={peer}")])
        .arg("--data-dir")
        .arg(folder.path())
        // Debian's starts on other machines only when it is told that this is fine.
        .env(
            "ETCD_UNSUPPORTED_ARCH",
            std::env::consts::ARCH.replace("aarch64", "arm64"),
        )
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    match spawned {
        Ok(process) => Some(process),
        Err(error) => {
            let in_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
            assert!(
                !in_ci,
                "etcd is not installed, and CI must have it: {error}"
            );
            println!("skipped: etcd is not installed (Debian: etcd-server)");
            None
        }
    }
}

impl Etcd {
    async fn start() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let (client_port, peer_port) = (free_port(), free_port());
        let process = spawn(&folder, client_port, peer_port)?;
        let etcd = Self {
            process,
            folder,
            client_port,
            peer_port,
        };
        etcd.answers().await;
        Some(etcd)
    }

    async fn answers(&self) {
        let kv = self.client();
        for _ in 0..300 {
            if kv.get("x").await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("etcd does not answer");
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    async fn restart(&mut self) {
        self.process = spawn(&self.folder, self.client_port, self.peer_port).unwrap();
        self.answers().await;
    }

    fn settings(&self) -> EtcdSettings {
        EtcdSettings {
            // The first is nobody: the client moves on.
            endpoints: vec![
                "127.0.0.1:1".into(),
                format!("http://127.0.0.1:{}", self.client_port),
            ],
            min_backoff: Duration::from_millis(50),
            max_backoff: Duration::from_millis(200),
            ..EtcdSettings::default()
        }
    }

    fn client(&self) -> EtcdKv {
        EtcdKv::builder(self.settings())
            .build(Handle::current())
            .unwrap()
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

async fn put(kv: &EtcdKv, key: &str, text: &str) {
    kv.cas(key, &mut |_| {
        Ok(Some(Bytes::copy_from_slice(text.as_bytes())))
    })
    .await
    .unwrap();
}

async fn until(watch: &mut KvWatch, key: &str, text: Option<&str>) {
    let wait = async {
        loop {
            let update = watch.next().await.expect("an open watch");
            if update.key == key && update.value.as_deref() == text.map(str::as_bytes) {
                return;
            }
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(20), wait).await;
    waited.unwrap_or_else(|_| panic!("never saw {key} = {text:?}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_passes_the_suite() {
    let Some(etcd) = Etcd::start().await else {
        return;
    };
    kv_suite(&etcd.client()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_addition_is_lost_between_three_clients() {
    let Some(etcd) = Etcd::start().await else {
        return;
    };
    let clients = [etcd.client(), etcd.client(), etcd.client()];
    let stores: Vec<_> = clients.iter().map(|c| c as &dyn Kv).collect();
    concurrent_counters(&stores, 15).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_survive_the_death_of_the_server_and_miss_nothing() {
    let Some(mut etcd) = Etcd::start().await else {
        return;
    };
    let kv = etcd.client();
    put(&kv, "ring/a", "1").await;
    put(&kv, "ring/b", "1").await;
    let mut key = kv.watch_key("ring/a").await.unwrap();
    let mut prefix = kv.watch_prefix("ring/").await.unwrap();
    until(&mut key, "ring/a", Some("1")).await;
    until(&mut prefix, "ring/b", Some("1")).await;
    etcd.kill();
    assert_eq!(
        kv.get("ring/a").await.unwrap_err().kind(),
        ErrorKind::Unavailable
    );
    tokio::time::sleep(Duration::from_millis(500)).await;
    etcd.restart().await;
    put(&kv, "ring/a", "2").await;
    until(&mut key, "ring/a", Some("2")).await;
    until(&mut prefix, "ring/a", Some("2")).await;
    // A deletion while nobody watched: found by comparing.
    etcd.kill();
    etcd.restart().await;
    kv.delete("ring/b").await.unwrap();
    until(&mut prefix, "ring/b", None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_are_the_bytes_that_others_wrote() {
    let Some(etcd) = Etcd::start().await else {
        return;
    };
    // As a client of the reference would: the raw API of the server, not our client.
    let body = r#"{"key":"Y29sbGVjdG9ycy9yaW5n","value":"AP/+AAEC"}"#;
    let answer = raw(etcd.client_port, "/v3/kv/put", body).await;
    assert!(answer.contains("200 OK"), "{answer}");
    let value = etcd.client().get("collectors/ring").await.unwrap().unwrap();
    assert_eq!(value, &b"\x00\xff\xfe\x00\x01\x02"[..]);
    put(&etcd.client(), "collectors/ring", "ours").await;
    let answer = raw(
        etcd.client_port,
        "/v3/kv/range",
        r#"{"key":"Y29sbGVjdG9ycy9yaW5n"}"#,
    )
    .await;
    assert!(answer.contains("\"value\":\"b3Vycw==\""), "{answer}");
}

async fn raw(port: u16, path: &str, body: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut tcp = tokio::net::TcpStream::connect(("127.0.0.1", port))
        .await
        .unwrap();
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    tcp.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tcp.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_past_the_servers_limit_is_a_clear_error() {
    let Some(etcd) = Etcd::start().await else {
        return;
    };
    let large = Bytes::from(vec![b'x'; 3 << 20]);
    let refused = etcd
        .client()
        .cas("big", &mut |_| Ok(Some(large.clone())))
        .await;
    let error = refused.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded, "{error}");
}

#[tokio::test]
async fn faults_of_the_settings_are_named() {
    let fault = |change: fn(&mut EtcdSettings)| {
        let mut settings = EtcdSettings {
            endpoints: vec!["etcd:2379".into()],
            ..EtcdSettings::default()
        };
        change(&mut settings);
        EtcdKv::builder(settings)
            .build(Handle::current())
            .unwrap_err()
            .to_string()
    };
    assert!(fault(|s| s.endpoints.clear()).contains("endpoints"));
    assert!(fault(|s| s.endpoints.push("https://etcd:2379".into())).contains("https"));
    assert!(fault(|s| s.timeout = Duration::ZERO).contains("timeout"));
    assert!(fault(|s| s.max_backoff = Duration::ZERO).contains("max_backoff"));
}

#[tokio::test]
async fn a_heartbeat_far_ahead_heals_in_etcd() {
    let Some(etcd) = Etcd::start().await else {
        return;
    };
    let kv = Arc::new(etcd.client());
    shared::heal::a_heartbeat_far_ahead_heals_with_the_clock(kv).await;
}
