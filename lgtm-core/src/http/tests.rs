//! A real server on a real socket, with times of some milliseconds.

mod http2;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::*;
use crate::error::Result;
use crate::exec::CancelToken;
use crate::limits::{Inflight, InflightBound};
use crate::service::Service;
use crate::telemetry::Registry;
use crate::units::ByteSize;

const PROMPTLY: Duration = Duration::from_millis(100);
const LARGE: usize = 64 << 20;

struct Running {
    address: SocketAddr,
    connections: Arc<Connections>,
    inflight: Arc<Inflight>,
    /// Answers made at `/counted`.
    answers: Arc<AtomicU64>,
    registry: Registry,
    stop: CancelToken,
    served: JoinHandle<Result<()>>,
}

fn settings() -> ConnectionSettings {
    ConnectionSettings {
        max: 100,
        head_timeout: Duration::from_millis(200),
        idle_timeout: Duration::from_millis(200),
        body_stall_timeout: Duration::from_millis(200),
        body_timeout: Duration::from_millis(400),
        send_stall_timeout: Duration::from_millis(200),
        ..Default::default()
    }
}

/// No time runs out by itself.
fn patient(max: usize) -> ConnectionSettings {
    let long = Duration::from_secs(600);
    ConnectionSettings {
        max,
        head_timeout: long,
        idle_timeout: long,
        body_stall_timeout: long,
        body_timeout: long,
        send_stall_timeout: long,
        ..Default::default()
    }
}

async fn take(State(inflight): State<Arc<Inflight>>, request: Request) -> Response {
    match read_body(&inflight, request, 1 << 20).await {
        Ok((_, _, body)) => format!("{} bytes", body.len()).into_response(),
        Err(e @ BodyError::TooLarge { .. }) => {
            (StatusCode::PAYLOAD_TOO_LARGE, e.to_string()).into_response()
        }
        Err(e @ BodyError::TooSlow(_)) => {
            (StatusCode::REQUEST_TIMEOUT, e.to_string()).into_response()
        }
        Err(e) => (StatusCode::SERVICE_UNAVAILABLE, e.to_string()).into_response(),
    }
}

/// Goes on as a line that sends back what it gets, or more and more once it got `more`.
async fn echo(mut request: Request) -> Response {
    let Some(upgrading) = Upgrading::of(&mut request) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    tokio::runtime::Handle::current().spawn(async move {
        let mut stream = upgrading.stream().await?;
        let mut bytes = [0; 4];
        while stream.read_exact(&mut bytes).await.is_ok() {
            let times = if &bytes == b"more" { LARGE } else { 1 };
            for _ in 0..times {
                if stream.write_all(&bytes).await.is_err() {
                    break;
                }
            }
        }
        Ok::<_, crate::error::Error>(())
    });
    let protocol = [("connection", "upgrade"), ("upgrade", "echo")];
    (StatusCode::SWITCHING_PROTOCOLS, protocol).into_response()
}

/// A connection that goes on as an echo.
async fn echoing(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = b"GET /echo HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "));
    stream
}

async fn start(settings: ConnectionSettings) -> Running {
    let bound = |max| InflightBound { max, hint: "" };
    let inflight = Arc::new(Inflight::new(bound(4), bound(256 << 10)));
    let answers = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&answers);
    let routes = Router::new()
        .route("/ready", get(|| async { "ready" }))
        .route("/panic", get(|| async { panic!("boom") as &str }))
        .route("/large", get(|| async { Body::from(vec![b'x'; LARGE]) }))
        .route("/never", get(std::future::pending::<&str>))
        .route(
            "/counted",
            get(move || async move {
                counted.fetch_add(1, Ordering::Relaxed);
                Body::from(vec![b'x'; 1 << 20])
            }),
        )
        .route(
            "/soon",
            get(|| async {
                tokio::time::sleep(Duration::from_millis(50)).await;
                "soon"
            }),
        )
        .route("/take", post(take))
        .route("/echo", get(echo))
        .route(
            "/query",
            get(|UrlQuery(query)| async move {
                let query: Option<String> = query;
                format!("{} bytes", query.map_or(0, |q| q.len()))
            }),
        )
        .with_state(Arc::clone(&inflight));
    let registry = Registry::new();
    let connections = Connections::new(settings, &registry).unwrap();
    let server = HttpServer::bind("test", "127.0.0.1:0", routes, Arc::clone(&connections));
    let server = server.await.unwrap();
    let address = server.address();
    let stop = CancelToken::new();
    let until = stop.clone();
    let served = tokio::runtime::Handle::current().spawn(async move { server.run(until).await });
    Running {
        address,
        connections,
        inflight,
        answers,
        registry,
        stop,
        served,
    }
}

impl Running {
    async fn connect(&self, bytes: impl AsRef<[u8]>) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes.as_ref()).await.unwrap();
        stream
    }

    /// Connects and is answered, as a client that does its part.
    async fn ask(&self, request: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect(request).await;
        answer(&mut stream).await
    }

    fn count(&self, name: &str, reason: &str) -> f64 {
        let of_reason =
            |l: &[(String, String)]| reason.is_empty() || l.iter().any(|(_, v)| v == reason);
        let mut all = self.registry.samples();
        let found = all.find(|s| s.name == name && of_reason(&s.labels));
        found.map_or(0.0, |s| s.value)
    }

    fn closed(&self, reason: &str) -> f64 {
        self.count("lgtm_http_closed_connections_total", reason)
    }

    async fn until(&self, what: impl Fn(&Self) -> bool) {
        timeout(Duration::from_secs(5), async {
            while !what(self) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await
        .expect("it comes about");
    }
}

/// What comes next, as far as it comes at once.
async fn answer(stream: &mut TcpStream) -> String {
    let mut bytes = vec![0; 4096];
    let n = timeout(Duration::from_secs(5), stream.read(&mut bytes)).await;
    let n = n.expect("an answer or an end").unwrap_or(0);
    String::from_utf8_lossy(&bytes[..n]).into_owned()
}

/// How long until the other side ends the connection.
async fn ended(stream: &mut TcpStream) -> Duration {
    let began = Instant::now();
    let mut bytes = vec![0; 4096];
    let end = async { while stream.read(&mut bytes).await.is_ok_and(|n| n > 0) {} };
    timeout(Duration::from_secs(5), end).await.expect("an end");
    began.elapsed()
}

const READY: &str = "GET /ready HTTP/1.1\r\nHost: x\r\n\r\n";
const HALF_A_HEAD: &str = "GET /ready HTTP/1.1\r\nHost: x\r\nX: ";

fn post_of(bytes: usize) -> String {
    format!("POST /take HTTP/1.1\r\nHost: x\r\nContent-Length: {bytes}\r\n\r\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_its_part_is_served_while_dawdlers_fill_the_house() {
    let running = start(patient(60)).await;
    let mut dawdlers = Vec::new();
    for _ in 0..20 {
        dawdlers.push(running.connect("").await);
        dawdlers.push(running.connect(HALF_A_HEAD).await);
        dawdlers.push(running.connect(post_of(10)).await);
        let mut idle = running.connect(READY).await;
        answer(&mut idle).await;
        dawdlers.push(idle);
    }
    for _ in 0..50 {
        let began = Instant::now();
        assert!(running.ask(READY).await.ends_with("ready"));
        let ok = running.ask(post_of(3) + "abc").await;
        assert!(ok.ends_with("3 bytes"), "{ok}");
        assert!(began.elapsed() < PROMPTLY, "{:?}", began.elapsed());
        assert!(running.connections.len() <= 60 + 64);
    }
    running.until(|r| r.connections.len() <= 60).await;
    assert!(running.closed("crowded_out") >= 20.0);
    assert_eq!(
        running.count("lgtm_http_refused_connections_total", ""),
        0.0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_has_been_served_keeps_its_connection_while_newcomers_dawdle() {
    let running = start(patient(20)).await;
    let mut known = running.connect(READY).await;
    assert!(answer(&mut known).await.ends_with("ready"));
    let mut dawdlers = Vec::new();
    for _ in 0..60 {
        dawdlers.push(running.connect(HALF_A_HEAD).await);
    }
    running.until(|r| r.closed("crowded_out") >= 41.0).await;
    known.write_all(READY.as_bytes()).await.unwrap();
    assert!(answer(&mut known).await.ends_with("ready"));
}

#[tokio::test(flavor = "multi_thread")]
async fn with_all_at_work_a_new_connection_is_told_to_come_again() {
    let running = start(patient(3)).await;
    let never = "GET /never HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut busy = Vec::new();
    for _ in 0..3 {
        busy.push(running.connect(never).await);
    }
    // A request that is at work keeps nobody waiting.
    tokio::time::sleep(Duration::from_millis(20)).await;
    let refused = running.ask(READY).await;
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    assert!(refused.contains("server.connections.max"), "{refused}");
    drop(busy);
    running.until(|r| r.connections.is_empty()).await;
    assert!(running.ask(READY).await.ends_with("ready"));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_no_head_or_half_of_one_is_let_go() {
    let running = start(settings()).await;
    let mut silent = running.connect("").await;
    let mut half = running.connect(HALF_A_HEAD).await;
    let mut idle = running.connect(READY).await;
    assert!(answer(&mut idle).await.ends_with("ready"));
    for stream in [&mut silent, &mut half, &mut idle] {
        let after = ended(stream).await;
        assert!(after < Duration::from_millis(1000), "{after:?}");
    }
    running.until(|r| r.connections.is_empty()).await;
    assert_eq!(
        (running.closed("idle"), running.closed("head_timeout")),
        (2.0, 1.0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_in_drops_has_an_end() {
    let running = start(settings()).await;
    let mut stream = running.connect("GET /ready HTTP/1.1\r\nX: ").await;
    let began = Instant::now();
    while stream.write_all(b"y").await.is_ok() {
        assert!(began.elapsed() < Duration::from_secs(3));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    running.until(|r| r.connections.is_empty()).await;
    assert_eq!(running.closed("head_timeout"), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_stalls_or_trickles_is_told_so_and_holds_nothing() {
    let running = start(settings()).await;
    let mut stalled = running.connect(post_of(100) + "abc").await;
    let mut trickling = running
        .connect("POST /take HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    let began = Instant::now();
    let mut told = String::new();
    while told.is_empty() {
        assert!(began.elapsed() < Duration::from_secs(3));
        let _ = trickling.write_all(b"1\r\nx\r\n").await;
        told = match timeout(Duration::from_millis(20), answer(&mut trickling)).await {
            Ok(told) => told,
            Err(_) => continue,
        };
    }
    for told in [answer(&mut stalled).await, told] {
        assert!(told.starts_with("HTTP/1.1 408"), "{told}");
        assert!(told.contains("body_stall_timeout"), "{told}");
    }
    drop((stalled, trickling));
    running.until(|r| r.connections.is_empty()).await;
    assert_eq!(running.closed("body_timeout"), 2.0);
    assert_eq!(
        (running.inflight.bytes(), running.inflight.requests()),
        (0, 0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_announced_or_unfinished_keep_nobody_out() {
    let running = start(patient(1000)).await;
    let mut held = Vec::new();
    for _ in 0..20 {
        held.push(running.connect(post_of(1 << 20)).await);
    }
    tokio::time::sleep(Duration::from_millis(20)).await;
    let (bytes, requests) = (running.inflight.bytes(), running.inflight.requests());
    assert_eq!((bytes, requests), (0, 0));
    assert!(running.ask(post_of(3) + "abc").await.ends_with("3 bytes"));
    // What has come counts, in chunks too; beyond the bound the next is refused.
    let chunk = format!("{:x}\r\n{}\r\n", 100 << 10, "z".repeat(100 << 10));
    let head = "POST /take HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    for _ in 0..2 {
        held.push(running.connect(format!("{head}{chunk}")).await);
    }
    running.until(|r| r.inflight.bytes() >= 200 << 10).await;
    let refused = running.ask(format!("{head}{chunk}0\r\n\r\n")).await;
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    drop(held);
    running.until(|r| r.inflight.bytes() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_refused_while_it_sends_can_read_why() {
    let running = start(settings()).await;
    let head = "POST /take HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut stream = running.connect(head).await;
    let chunk = format!("{:x}\r\n{}\r\n", 1 << 20, "z".repeat(1 << 20));
    for _ in 0..10 {
        stream.write_all(chunk.as_bytes()).await.unwrap();
    }
    let told = answer(&mut stream).await;
    let is_refused = told.starts_with("HTTP/1.1 413") || told.starts_with("HTTP/1.1 503");
    assert!(is_refused, "{told}");
    drop(stream);
    running.until(|r| r.connections.is_empty()).await;
    let told = running.ask(post_of(2 << 20)).await;
    assert!(told.starts_with("HTTP/1.1 413"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_is_let_go_and_who_reads_slowly_is_not() {
    let running = start(settings()).await;
    let ask = b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n";
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut deaf = socket.connect(running.address).await.unwrap();
    deaf.write_all(ask).await.unwrap();
    let mut reader = running.connect(ask).await;
    let mut bytes = vec![0; 1 << 20];
    let mut came = 0;
    while came < LARGE {
        let n = reader.read(&mut bytes).await.unwrap();
        assert!(n > 0, "broke off after {came}");
        came += n;
        if came % 7 == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    drop(reader);
    running.until(|r| r.connections.is_empty()).await;
    assert_eq!(running.closed("send_timeout"), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_on_and_does_not_read_gets_one_answer_at_a_time() {
    let running = start(settings()).await;
    let ask = "GET /counted HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut deaf = running.connect(ask.repeat(300)).await;
    let answers = || running.answers.load(Ordering::Relaxed);
    running.until(|r| r.closed("send_timeout") > 0.0).await;
    // Sockets take some megabytes.
    assert!(answers() < 50, "{}", answers());
    drop(deaf.shutdown().await);
    let before = answers();
    let mut reader = running.connect(ask.repeat(20)).await;
    let mut bytes = vec![0; 1 << 20];
    let mut came = 0;
    while came < 20 << 20 {
        came += reader.read(&mut bytes).await.unwrap();
    }
    assert_eq!(answers() - before, 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_ends_its_request_alone() {
    let running = start(settings()).await;
    let mut stream = running
        .connect("GET /panic HTTP/1.1\r\nHost: x\r\n\r\n")
        .await;
    assert!(answer(&mut stream).await.starts_with("HTTP/1.1 500"));
    stream.write_all(READY.as_bytes()).await.unwrap();
    assert!(answer(&mut stream).await.ends_with("ready"));
    assert_eq!(running.count("lgtm_http_panics_total", ""), 1.0);
    for nonsense in ["\0\0\0", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "GET\r\n\r\n"] {
        running.ask(nonsense).await;
    }
    let long = format!("GET / HTTP/1.1\r\nX: {}", "y".repeat(1 << 20));
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    // The server may have enough before all is sent.
    let _ = stream.write_all(long.as_bytes()).await;
    drop(stream);
    assert!(running.ask(READY).await.ends_with("ready"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_answers_what_is_under_way_and_waits_for_nobody_else() {
    let running = start(patient(100)).await;
    let mut half = running.connect(HALF_A_HEAD).await;
    let mut idle = running.connect(READY).await;
    answer(&mut idle).await;
    let mut asking = running
        .connect("GET /soon HTTP/1.1\r\nHost: x\r\n\r\n")
        .await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    running.stop.cancel();
    assert!(answer(&mut asking).await.ends_with("soon"));
    let all = [&mut half, &mut idle, &mut asking];
    for stream in all {
        assert!(ended(stream).await < Duration::from_secs(1));
    }
    let end = timeout(Duration::from_secs(1), running.served).await;
    end.expect("it ends").unwrap().unwrap();
    assert!(running.connections.is_empty());
    assert!(TcpStream::connect(running.address).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_follow_in_order_on_one_connection() {
    let running = start(ConnectionSettings {
        max_head_bytes: ByteSize::kib(8),
        ..settings()
    })
    .await;
    let mut stream = running.connect(READY.repeat(100)).await;
    let mut all = String::new();
    while all.matches("ready").count() < 100 {
        all += &answer(&mut stream).await;
    }
    for n in [0, 1, 5000, 200_000] {
        stream
            .write_all((post_of(n) + &"b".repeat(n)).as_bytes())
            .await
            .unwrap();
        let told = answer(&mut stream).await;
        assert!(told.ends_with(&format!("{n} bytes")), "{told}");
    }
    drop(stream);
    running.until(|r| r.connections.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn urls_of_a_megabyte_are_taken() {
    let running = start(settings()).await;
    let mut stream = running.connect("").await;
    let ask = |n: usize| format!("GET /query?{} HTTP/1.1\r\nhost: a\r\n\r\n", "q".repeat(n));
    for n in [0, 60_000, 65_600, 5, 1_000_000, 100_000, 1] {
        stream.write_all(ask(n).as_bytes()).await.unwrap();
        let told = answer(&mut stream).await;
        assert!(told.ends_with(&format!("\r\n\r\n{n} bytes")), "{told}");
    }
    stream.write_all(ask(1 << 20).as_bytes()).await.unwrap();
    let told = answer(&mut stream).await;
    assert!(told.starts_with("HTTP/1.1 431"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_goes_on_as_something_else_and_is_watched_all_the_same() {
    let host = start(settings()).await;
    let mut stream = echoing(host.address).await;
    // Longer than a request would be waited for.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut back = [0; 4];
    stream.write_all(b"ping").await.unwrap();
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!((&back, host.connections.len()), (b"ping", 1));
    drop(stream);
    host.until(|host| host.connections.is_empty()).await;
    // Who does not read is let go.
    let mut stream = echoing(host.address).await;
    stream.write_all(b"more").await.unwrap();
    host.until(|host| host.connections.is_empty()).await;
    assert_eq!(host.closed("send_timeout"), 1.0);
    // The end of the server ends it.
    let mut stream = echoing(host.address).await;
    host.stop.cancel();
    assert!(ended(&mut stream).await < Duration::from_secs(2));
    timeout(Duration::from_secs(2), host.served)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
}
