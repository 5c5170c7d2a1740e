//! A host started for a test, and a small HTTP client to talk to it.

pub(crate) mod crash;
pub(crate) mod programs;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Labels, time, value: a series with one sample.
pub(crate) type Series<'a> = (&'a [(&'a str, &'a str)], i64, f64);

/// A running host on a free port; killed when dropped.
pub(crate) struct Host {
    child: Child,
    pub(crate) port: u16,
}

/// An answer: status, headers as they came, body.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }
}

impl Host {
    /// Starts over a folder and waits until it is ready.
    pub(crate) fn start(data: &Path, flags: &[&str]) -> Self {
        // A host built elsewhere can be tried, as by `scripts/crash-rounds`.
        let built = std::env::var("LGTM_BIN");
        let program = built.unwrap_or_else(|_| env!("CARGO_BIN_EXE_lgtm").to_owned());
        let mut command = Command::new(program);
        command
            .arg("-server.http-listen-port=0")
            .arg(format!("-data.dir={}", data.display()));
        command.arg("-self-monitoring=false").args(flags);
        let mut child = command
            .stderr(Stdio::piped())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let port = loop {
            let line = lines
                .next()
                .expect("the host says where it listens")
                .unwrap();
            if let Some((_, rest)) = line.split_once("address=127.0.0.1:") {
                break rest
                    .split(|c: char| !c.is_ascii_digit())
                    .next()
                    .unwrap()
                    .parse()
                    .unwrap();
            }
        };
        // Somebody must read on, or the host would block on a full pipe.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        let host = Self { child, port };
        for _ in 0..2000 {
            if host.try_get("/ready").is_some_and(|a| a.status == 200) {
                return host;
            }
            std::thread::park_timeout(std::time::Duration::from_millis(10));
        }
        let said = host
            .try_get("/ready")
            .map_or_else(String::new, |a| a.text());
        panic!("the host is not ready after 20 s: {said}");
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn try_get(&self, path: &str) -> Option<Answer> {
        self.try_request("GET", path, &[], b"")
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.try_get(path).unwrap()
    }

    pub(crate) fn post(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.try_request("POST", path, headers, body).unwrap()
    }

    pub(crate) fn try_request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Option<Answer> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n",
            body.len()
        );
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes()).ok()?;
        // The server may answer and close before it has read all of a body that it refuses.
        let _ = stream.write_all(body);
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok()?;
        let split = answer.windows(4).position(|w| w == b"\r\n\r\n")?;
        let headers = String::from_utf8_lossy(&answer[..split]).into_owned();
        let status = headers.split_whitespace().nth(1)?.parse().ok()?;
        let mut body = answer[split + 4..].to_vec();
        if headers
            .to_ascii_lowercase()
            .contains("transfer-encoding: chunked")
        {
            body = unchunked(&body);
        }
        Some(Answer {
            status,
            headers,
            body,
        })
    }

    /// Sends a GET and keeps its connection, which ends with what is returned.
    pub(crate) fn ask_without_waiting(&self, path: &str, headers: &[(&str, &str)]) -> TcpStream {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let mut head = format!("GET {path} HTTP/1.1\r\nHost: x\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        stream
    }

    fn proc_file(&self, name: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{name}", self.child.id())).unwrap()
    }

    /// The most memory of its own that the process had resident since [`Host::forget_peak_memory`].
    pub(crate) fn peak_memory_bytes(&self) -> u64 {
        let status = self.proc_file("status");
        let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
        let kib = line.unwrap().trim().trim_end_matches(" kB");
        kib.parse::<u64>().unwrap() << 10
    }

    /// From now on the peak is that of what comes.
    pub(crate) fn forget_peak_memory(&self) {
        std::fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5").unwrap();
    }

    /// Processor time so far, in hundredths of a second.
    pub(crate) fn cpu_ticks(&self) -> u64 {
        let stat = self.proc_file("stat");
        let (_, after_name) = stat.rsplit_once(") ").unwrap();
        let fields: Vec<&str> = after_name.split(' ').collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }

    /// `kill -9`, as a crash would, while others may be talking to it.
    pub(crate) fn kill_9(&self) {
        let done = Command::new("kill")
            .args(["-9", &self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(done.success());
        while std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))
            .is_ok_and(|s| !s.contains(") Z "))
        {
            std::thread::park_timeout(std::time::Duration::from_millis(1));
        }
    }

    /// SIGTERM, while others may be talking to it.
    pub(crate) fn ask_to_end(&self) {
        let done = Command::new("kill")
            .arg(self.child.id().to_string())
            .status()
            .unwrap();
        assert!(done.success());
    }

    /// Waits for its end; whether that was a success.
    pub(crate) fn wait(mut self) -> bool {
        self.child.wait().unwrap().success()
    }

    /// SIGTERM, and the exit status.
    pub(crate) fn terminate(self) -> bool {
        self.ask_to_end();
        self.wait()
    }

    /// Pushes one sample per series by remote write.
    pub(crate) fn push(&self, series: &[Series<'_>]) -> Answer {
        self.post(
            "/api/v1/push",
            &[("Content-Encoding", "snappy")],
            &write_request(series),
        )
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn unchunked(mut body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some(at) = body.windows(2).position(|w| w == b"\r\n") {
        let size =
            usize::from_str_radix(std::str::from_utf8(&body[..at]).unwrap().trim(), 16).unwrap();
        out.extend_from_slice(&body[at + 2..at + 2 + size]);
        body = &body[(at + 4 + size).min(body.len())..];
        if size == 0 {
            break;
        }
    }
    out
}

fn varint(out: &mut Vec<u8>, mut v: u64) {
    while v >= 0x80 {
        out.push(v as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}

fn field(out: &mut Vec<u8>, number: u64, body: &[u8]) {
    varint(out, number << 3 | 2);
    varint(out, body.len() as u64);
    out.extend_from_slice(body);
}

/// A remote write 1.0 request, compressed.
pub(crate) fn write_request(series: &[Series<'_>]) -> Vec<u8> {
    let mut body = Vec::new();
    for (labels, t_ms, value) in series {
        let mut one = Vec::new();
        for (name, text) in *labels {
            let mut label = Vec::new();
            field(&mut label, 1, name.as_bytes());
            field(&mut label, 2, text.as_bytes());
            field(&mut one, 1, &label);
        }
        let mut sample = vec![9];
        sample.extend_from_slice(&value.to_bits().to_le_bytes());
        sample.push(16);
        varint(&mut sample, *t_ms as u64);
        field(&mut one, 2, &sample);
        field(&mut body, 1, &one);
    }
    snap::raw::Encoder::new().compress_vec(&body).unwrap()
}

/// A remote read of the series whose label matches a regular expression, compressed.
pub(crate) fn read_request(label: &str, pattern: &str, start_ms: i64, end_ms: i64) -> Vec<u8> {
    let mut matcher = vec![8, 2];
    field(&mut matcher, 2, label.as_bytes());
    field(&mut matcher, 3, pattern.as_bytes());
    let mut query = vec![8];
    varint(&mut query, start_ms as u64);
    query.push(16);
    varint(&mut query, end_ms as u64);
    field(&mut query, 3, &matcher);
    let mut body = Vec::new();
    field(&mut body, 1, &query);
    snap::raw::Encoder::new().compress_vec(&body).unwrap()
}

/// Milliseconds since the epoch.
#[allow(
    clippy::disallowed_methods,
    reason = "a test of a real process lives in real time"
)]
pub(crate) fn now_ms() -> i64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_millis() as i64
}
