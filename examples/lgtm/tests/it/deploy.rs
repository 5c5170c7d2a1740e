//! The deployment examples: each mode starts on this machine, takes a sample and a line and answers queries; manifests and compose files are valid.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::host::now_ms;
use crate::host::programs::{have, python_has};

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

/// `run-local` in a mode, until it says that it is ready.
struct Local {
    child: Child,
    /// Signal, `in` or `out`, addresses.
    doors: Vec<(String, String, Vec<String>)>,
    /// Addresses of all processes.
    processes: Vec<String>,
}

impl Local {
    fn start(mode: &str) -> Self {
        let mut child = Command::new("python3")
            .arg(examples().join("run-local"))
            .args([mode, "-free-ports", "-bin", env!("CARGO_BIN_EXE_lgtm")])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut local = Self {
            child,
            doors: Vec::new(),
            processes: Vec::new(),
        };
        while let Some(Ok(line)) = lines.next() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[..] {
                [signal, way @ ("in" | "out"), ..] => {
                    let urls = words[2..].iter().map(|u| (*u).to_owned());
                    let door = (signal.to_owned(), way.to_owned(), urls.collect());
                    local.doors.push(door);
                }
                ["process", _, url, ..] => local.processes.push(url.to_owned()),
                ["ready;", ..] => {
                    // Somebody must read on: it says when it has stopped.
                    std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
                    return local;
                }
                _ => {}
            }
        }
        panic!("run-local {mode} ended before it was ready");
    }

    fn door(&self, signal: &str, way: &str) -> &[String] {
        let door = self.doors.iter().find(|(s, w, _)| s == signal && w == way);
        &door.unwrap().2
    }

    /// Ends it as ctrl-c does; nothing is left.
    fn stop(mut self) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-INT", &pid]).status().unwrap();
        assert!(sent.success());
        assert!(self.child.wait().unwrap().success());
        for url in &self.processes {
            let port = url.rsplit(':').next().unwrap().parse::<u16>().unwrap();
            let left = std::net::TcpStream::connect(("127.0.0.1", port));
            assert!(left.is_err(), "{url} still listens");
        }
    }
}

impl Drop for Local {
    /// It stops its processes itself when it is asked to end; one that is done with takes no notice.
    fn drop(&mut self) {
        let pid = self.child.id().to_string();
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            let _ = Command::new("kill").args(["-TERM", &pid]).status();
            let _ = self.child.wait();
        }
    }
}

/// What curl says, and the status.
fn curl(args: &[&str]) -> (String, u16) {
    let out = Command::new("curl")
        .args(["-sg", "-w", "\n%{http_code}"])
        .args(args)
        .output()
        .unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    let (body, status) = text.rsplit_once('\n').unwrap();
    (body.to_owned(), status.parse().unwrap())
}

/// Pushes at one door and asks at all others, then stops everything.
fn takes_a_sample_and_a_line_and_answers(mode: &str, processes: usize) {
    if !have("curl") || !have("python3") {
        return;
    }
    let local = Local::start(mode);
    assert!(local.processes.len() >= processes, "{:?}", local.processes);
    let into = local.door("metrics", "in");
    for (n, url) in into.iter().enumerate() {
        let url = url.replace("/api/v1/push", "/otlp/v1/metrics");
        let nanos = now_ms() * 1_000_000;
        let body = format!(
            r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"name":"door","gauge":{{"dataPoints":[{{"asDouble":{n},"timeUnixNano":"{nanos}","attributes":[{{"key":"n","value":{{"stringValue":"{n}"}}}}]}}]}}}}]}}]}}]}}"#
        );
        let json = "Content-Type: application/json";
        let (text, status) = curl(&["-H", json, "--data-binary", &body, &url]);
        assert_eq!(status, 200, "{url}: {text}");
    }
    for url in local.door("metrics", "out") {
        let url = format!("{url}/api/v1/query?query=count(door)");
        let (text, status) = curl(&[&url]);
        assert_eq!(status, 200, "{url}: {text}");
        let answer: Value = serde_json::from_str(&text).unwrap();
        let count = &answer["data"]["result"][0]["value"][1];
        assert_eq!(count, &Value::from(into.len().to_string()), "{url}: {text}");
    }
    let json = "Content-Type: application/json";
    let into = local.door("logs", "in");
    for (n, url) in into.iter().enumerate() {
        let nanos = now_ms() * 1_000_000;
        let body = format!(
            r#"{{"streams":[{{"stream":{{"app":"door"}},"values":[["{nanos}","line {n}"]]}}]}}"#
        );
        let (text, status) = curl(&["-H", json, "--data-binary", &body, url]);
        assert_eq!(status, 204, "{url}: {text}");
    }
    for url in local.door("logs", "out") {
        let query = "query=sum(count_over_time({app=%22door%22}[5m]))";
        let (text, status) = curl(&[&format!("{url}/api/v1/query?{query}")]);
        assert_eq!(status, 200, "{url}: {text}");
        let answer: Value = serde_json::from_str(&text).unwrap();
        let count = &answer["data"]["result"][0]["value"][1];
        assert_eq!(count, &Value::from(into.len().to_string()), "{url}: {text}");
    }
    // Each signal that was started answers.
    for (signal, way, urls) in &local.doors {
        let path = match (signal.as_str(), way.as_str()) {
            ("logs", "out") => "/api/v1/labels",
            ("traces", "out") => "/api/v2/search/tags",
            _ => continue,
        };
        for url in urls {
            let (text, status) = curl(&[&format!("{url}{path}")]);
            assert_eq!(status, 200, "{url}{path}: {text}");
        }
    }
    local.stop();
}

#[test]
fn one_process_starts_and_answers() {
    takes_a_sample_and_a_line_and_answers("one", 1);
}

#[test]
fn three_equal_nodes_start_and_answer() {
    takes_a_sample_and_a_line_and_answers("nodes", 3);
}

#[test]
fn read_write_and_backend_start_and_answer() {
    takes_a_sample_and_a_line_and_answers("read-write-backend", 5);
}

#[test]
fn a_process_a_component_starts_and_answers() {
    takes_a_sample_and_a_line_and_answers("microservices", 16);
}

#[test]
fn manifests_and_compose_files_are_valid() {
    if !python_has("kubernetes_validate") || !python_has("yaml") {
        return;
    }
    let out = Command::new("python3")
        .arg(examples().join("check"))
        .args(["-bin", env!("CARGO_BIN_EXE_lgtm")])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{said}");
}
