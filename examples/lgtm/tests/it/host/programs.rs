//! Programs of Debian that talk to a host.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A program that is killed when dropped.
pub(crate) struct Program(pub(crate) Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether a program is there; CI must have it.
pub(crate) fn have(program: &str) -> bool {
    let found = Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok();
    assert!(
        found || std::env::var_os("CI").is_none(),
        "{program} is missing, and CI must have it"
    );
    found
}

/// Whether Python has a module; CI must have it.
pub(crate) fn python_has(module: &str) -> bool {
    let import = format!("import {module}");
    let found = Command::new("python3").args(["-c", &import]).output();
    let found = found.is_ok_and(|o| o.status.success());
    assert!(
        found || std::env::var_os("CI").is_none(),
        "python3 has no {module}, and CI must have it"
    );
    if !found {
        eprintln!("skipped: python3 has no {module}");
    }
    found
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// A Prometheus over the folder `data`, and its port. `SELF` in its configuration is its own address.
pub(crate) fn prometheus(dir: &Path, config: &str, data: &Path) -> (Program, u16) {
    let port = free_port();
    std::fs::write(
        dir.join("prometheus.yml"),
        config.replace("SELF", &format!("127.0.0.1:{port}")),
    )
    .unwrap();
    let child = Command::new("prometheus")
        .arg(format!(
            "--config.file={}",
            dir.join("prometheus.yml").display()
        ))
        .arg(format!("--storage.tsdb.path={}", data.display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .args([
            "--storage.tsdb.retention.time=10y",
            "--log.level=error",
            "--enable-feature=native-histograms",
        ])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    (Program(child), port)
}

/// Waits until a Prometheus answers.
pub(crate) fn wait_until_ready(port: u16) {
    let ready = format!("http://127.0.0.1:{port}/-/ready");
    for _ in 0..300 {
        let out = Command::new("curl").args(["-sf", &ready]).output().unwrap();
        if out.status.success() {
            return;
        }
        pause(100);
    }
    panic!("Prometheus is not ready after 30 s");
}

pub(crate) fn pause(ms: u64) {
    std::thread::park_timeout(Duration::from_millis(ms));
}

/// What promtool prints; it must succeed.
pub(crate) fn promtool(args: &[&str]) -> String {
    let out = Command::new("promtool").args(args).output().unwrap();
    assert!(
        out.status.success(),
        "promtool {args:?}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8(out.stdout).unwrap()
}

/// An HTTP answer of the Prometheus on `port`.
pub(crate) fn ask(port: u16, path: &str) -> serde_json::Value {
    let url = format!("http://127.0.0.1:{port}{path}");
    let out = Command::new("curl").args(["-sg", &url]).output().unwrap();
    serde_json::from_slice(&out.stdout)
        .unwrap_or_else(|e| panic!("{url}: {e}: {}", String::from_utf8_lossy(&out.stdout)))
}
