//! Calls over real sockets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use futures::stream::{self, StreamExt};
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep, timeout};

use super::*;
use crate::error::{Error, ErrorKind, Result};
use crate::exec::{CancelToken, Executor, TaskGroup};
use crate::http::{ConnectionSettings, Connections, HttpServer};
use crate::model::TenantId;
use crate::service::{Service, ServicesStatus};
use crate::telemetry::Registry;
use crate::units::ByteSize;

const LONG: Duration = Duration::from_secs(60);

/// A server, until it is dropped.
struct Running {
    address: SocketAddr,
    stop: CancelToken,
    tasks: TaskGroup,
}

impl Running {
    async fn start(router: Router) -> Self {
        Self::at("127.0.0.1:0", router).await
    }

    async fn at(address: &str, router: Router) -> Self {
        let settings = RpcServerSettings::connections(&ConnectionSettings::default());
        let connections = Connections::new(settings, &Registry::new()).unwrap();
        let server = HttpServer::bind("rpc", address, router, connections).await;
        let server = server.unwrap();
        let (stop, tasks) = (CancelToken::new(), TaskGroup::new(Handle::current()));
        let (address, stopped) = (server.address(), stop.clone());
        drop(tasks.spawn("server", async move { server.run(stopped).await }));
        Self {
            address,
            stop,
            tasks,
        }
    }

    fn client(&self, settings: RpcClientSettings) -> RpcClient {
        client(&self.address.to_string(), settings)
    }

    async fn end(self) {
        self.stop.cancel();
        self.tasks.join().await.unwrap();
    }
}

fn executor() -> Executor {
    Executor::inline(Handle::current())
}

fn client(address: &str, settings: RpcClientSettings) -> RpcClient {
    RpcClient::new(address, settings, executor()).unwrap()
}

fn server() -> Arc<RpcServer> {
    RpcServer::new(RpcServerSettings::default(), executor()).unwrap()
}

fn caller(method: &'static str) -> RpcCaller<'static> {
    RpcCaller {
        method,
        tenant: None,
        within: LONG,
    }
}

fn message(bytes: &[u8]) -> RpcMessage {
    RpcMessage::of(|out| out.extend_from_slice(bytes))
}

/// Some bytes that compress a little.
fn bytes(n: usize) -> Vec<u8> {
    (0..n).map(|i| (i * i % 251) as u8).collect()
}

/// Says how many of those that were begun have not been dropped.
struct Alive(Arc<AtomicUsize>);

impl Alive {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let waited = timeout(Duration::from_secs(10), async {
        while !is_so() {
            sleep(Duration::from_millis(5)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("{what}"));
}

/// `/t/Echo` sends back, `/t/Split` byte by byte, `/t/Fail` the error of that number, after as many messages as the second byte says.
fn routes(server: &Arc<RpcServer>) -> Router {
    let echo = |call: RpcCall| async move { Ok(message(&call.message)) };
    let tenant = |call: RpcCall| async move { Ok(message(call.tenant?.as_str().as_bytes())) };
    let split = |call: RpcCall| async move {
        let each = call.message.into_iter();
        Ok(stream::iter(each.map(|b| Ok(message(&[b])))))
    };
    let fail = |call: RpcCall| async move {
        let (error, count) = (error(call.message[0]), call.message[1]);
        if count == 0 {
            return Err(error);
        }
        let first = (1..count).map(|_| Ok(message(b"first")));
        Ok(stream::iter(first.chain([Err(error)])))
    };
    Router::new()
        .route("/t/Echo", server.unary(echo))
        .route("/t/Tenant", server.unary(tenant))
        .route("/t/Split", server.streaming(split))
        .route("/t/Fail", server.streaming(fail))
}

fn error(n: u8) -> Error {
    match n {
        0 => Error::InvalidInput("bad {x} 100%\nüber".into()),
        1 => Error::NotFound("it".into()),
        2 => Error::LimitExceeded("too much".into()),
        3 => Error::RateLimited {
            message: "too fast".into(),
            retry_after: Some(Duration::from_millis(700)),
        },
        4 => Error::Unavailable("not now".into()),
        5 => Error::Cancelled("it".into()),
        _ => Error::Internal("oops".into()),
    }
}

#[tokio::test]
async fn messages_go_there_and_back_whatever_their_size() {
    let running = Running::start(routes(&server())).await;
    for compression in [RpcCompression::None, RpcCompression::Zstd] {
        let client = running.client(RpcClientSettings {
            compression,
            ..RpcClientSettings::default()
        });
        for n in [0, 1, 5, 1023, 1024, 70_000, 3 << 20] {
            let sent = bytes(n);
            let back = client.unary(caller("t/Echo"), message(&sent)).await;
            assert!(back.unwrap() == sent, "{n}");
        }
        for n in [0, 1, 500] {
            let sent = bytes(n);
            let mut answer = client.stream(caller("t/Split"), message(&sent)).await;
            let (answer, mut back) = (answer.as_mut().unwrap(), Vec::new());
            while let Some(piece) = answer.next().await.unwrap() {
                back.extend_from_slice(&piece);
            }
            assert_eq!(back, sent);
            assert!(answer.next().await.unwrap().is_none(), "the end stays");
        }
        let tenant = TenantId::new("a-b_c").unwrap();
        let of = RpcCaller {
            tenant: Some(&tenant),
            ..caller("t/Tenant")
        };
        let back = client.unary(of, RpcMessage::default()).await.unwrap();
        assert_eq!(&back[..], b"a-b_c");
        let nobody = client.unary(caller("t/Tenant"), RpcMessage::default());
        assert_eq!(nobody.await.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    running.end().await;
}

#[tokio::test]
async fn errors_arrive_as_they_were_before_and_behind_messages() {
    let running = Running::start(routes(&server())).await;
    let client = running.client(RpcClientSettings::default());
    for n in 0..7 {
        let wanted = error(n);
        for count in [0, 1, 3] {
            let read = async {
                let mut answer = client
                    .stream(caller("t/Fail"), message(&[n, count]))
                    .await?;
                let mut seen = 0;
                loop {
                    match answer.next().await {
                        Ok(Some(_)) => seen += 1,
                        Ok(None) => panic!("the answer is not whole"),
                        Err(e) => {
                            assert_eq!(seen, count.saturating_sub(1));
                            assert!(answer.next().await.is_err(), "it stays broken");
                            return Err::<(), _>(e);
                        }
                    }
                }
            };
            let told = read.await.unwrap_err();
            assert_eq!(told.to_string(), wanted.to_string());
            assert_eq!(told.kind(), wanted.kind());
            assert_eq!(told.retry_after(), wanted.retry_after());
        }
    }
    let missing = client.unary(caller("t/Nothing"), RpcMessage::default());
    assert_eq!(missing.await.unwrap_err().kind(), ErrorKind::Unavailable);
    running.end().await;
}

#[tokio::test]
async fn work_ends_with_its_caller_and_with_its_time() {
    let count = Arc::new(AtomicUsize::new(0));
    let (server, of) = (server(), Arc::clone(&count));
    let hang = move |_: RpcCall| {
        let alive = Alive::new(&of);
        async move {
            let _alive = alive;
            std::future::pending::<Result<RpcMessage>>().await
        }
    };
    let of = Arc::clone(&count);
    let drip = move |_: RpcCall| {
        let alive = Alive::new(&of);
        async move {
            let messages = stream::iter([Ok(message(b"first"))]).chain(stream::pending());
            Ok(messages.inspect(move |_| {
                let _ = &alive;
            }))
        }
    };
    let routes = Router::new()
        .route("/t/Hang", server.unary(hang))
        .route("/t/Drip", server.streaming(drip));
    let running = Running::start(routes).await;
    let client = running.client(RpcClientSettings::default());
    let alive = || count.load(Ordering::SeqCst);

    // The caller drops its future, and an answer half read.
    let mut hanging = Box::pin(client.unary(caller("t/Hang"), RpcMessage::default()));
    while alive() == 0 {
        assert!(futures::poll!(hanging.as_mut()).is_pending());
        sleep(Duration::from_millis(1)).await;
    }
    drop(hanging);
    until("dropped with its caller", || alive() == 0).await;
    let mut dripping = client
        .stream(caller("t/Drip"), RpcMessage::default())
        .await
        .unwrap();
    assert!(dripping.next().await.unwrap().is_some());
    assert_eq!(alive(), 1);
    drop(dripping);
    until("dropped with its reader", || alive() == 0).await;

    // Its time is over, before and behind the first message.
    let short = |method| RpcCaller {
        within: Duration::from_millis(100),
        ..caller(method)
    };
    let late = client.unary(short("t/Hang"), RpcMessage::default()).await;
    assert_eq!(late.unwrap_err().kind(), ErrorKind::Timeout);
    let mut late = client
        .stream(short("t/Drip"), RpcMessage::default())
        .await
        .unwrap();
    assert!(late.next().await.unwrap().is_some());
    assert_eq!(late.next().await.unwrap_err().kind(), ErrorKind::Timeout);
    until("its time is over", || alive() == 0).await;
    running.end().await;
}

/// Answers that are not as they should be, by other servers.
fn strange(pieces: Vec<Bytes>, status: Option<&'static str>) -> Response {
    let pieces = stream::iter(pieces.into_iter().map(Ok::<_, std::io::Error>));
    let grpc = [(header::CONTENT_TYPE, "application/grpc")];
    let mut response = (grpc, Body::from_stream(pieces)).into_response();
    if let Some(status) = status {
        let status = HeaderValue::from_static(status);
        response.headers_mut().insert("grpc-status", status);
    }
    response
}

#[tokio::test]
async fn an_answer_that_is_not_whole_is_an_error() {
    let cases: Vec<(Vec<Bytes>, ErrorKind)> = vec![
        (vec![], ErrorKind::Unavailable),
        (
            vec![Bytes::from_static(b"\0\0\0\0\x03abc")],
            ErrorKind::Unavailable,
        ),
        (vec![Bytes::from_static(b"\0\0\0")], ErrorKind::Unavailable),
        (
            vec![Bytes::from_static(b"\0\0\0\0\x09abc")],
            ErrorKind::Unavailable,
        ),
        (
            vec![Bytes::from_static(b"\x07\0\0\0\x03abc")],
            ErrorKind::Internal,
        ),
        (
            vec![Bytes::from_static(b"\0\xff\xff\xff\xffabc")],
            ErrorKind::LimitExceeded,
        ),
    ];
    for (pieces, wanted) in cases {
        let answer = pieces.clone();
        let route = post(move || async move { strange(answer, None) });
        let running = Running::start(Router::new().route("/t/Strange", route)).await;
        let client = running.client(RpcClientSettings::default());
        let read = async {
            let mut answer = client
                .stream(caller("t/Strange"), RpcMessage::default())
                .await?;
            while answer.next().await?.is_some() {}
            Ok::<_, Error>(())
        };
        let error = read.await.unwrap_err();
        assert_eq!(error.kind(), wanted, "{pieces:?}: {error}");
        running.end().await;
    }
    // A status of another implementation, without our words.
    let route = post(|| async {
        let mut response = strange(vec![], Some("14"));
        let text = HeaderValue::from_static("not%20now");
        response.headers_mut().insert("grpc-message", text);
        response
    });
    let running = Running::start(Router::new().route("/t/Strange", route)).await;
    let client = running.client(RpcClientSettings::default());
    let told = client.unary(caller("t/Strange"), RpcMessage::default());
    let told = told.await.unwrap_err();
    assert_eq!(
        (told.kind(), told.to_string()),
        (ErrorKind::Unavailable, "not now".to_owned())
    );
    running.end().await;
}

#[tokio::test]
async fn messages_beyond_the_bound_are_refused_on_both_sides() {
    let settings = RpcServerSettings {
        max_message_size: ByteSize::kib(64),
        ..RpcServerSettings::default()
    };
    let server = RpcServer::new(settings, executor()).unwrap();
    let running = Running::start(routes(&server)).await;
    for compression in [RpcCompression::None, RpcCompression::Zstd] {
        let client = running.client(RpcClientSettings {
            compression,
            ..RpcClientSettings::default()
        });
        let zeros = vec![0; (64 << 10) + 1];
        let refused = client.unary(caller("t/Echo"), message(&zeros)).await;
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::LimitExceeded);
        let fits = client.unary(caller("t/Echo"), message(&zeros[1..])).await;
        assert_eq!(fits.unwrap().len(), 64 << 10);
    }
    running.end().await;
    let running = Running::start(routes(&self::server())).await;
    let client = running.client(RpcClientSettings {
        max_message_size: ByteSize::kib(64),
        ..RpcClientSettings::default()
    });
    let sent = client.unary(caller("t/Echo"), message(&[0; 70_000])).await;
    assert_eq!(sent.unwrap_err().kind(), ErrorKind::LimitExceeded);
    running.end().await;
}

#[tokio::test]
async fn an_answer_that_nobody_reads_holds_up_no_other() {
    let server = server();
    let endless = |_: RpcCall| async {
        let messages = stream::repeat_with(|| Ok(message(&[7; 100_000])));
        Ok(messages)
    };
    let routes = routes(&server).route("/t/Endless", server.streaming(endless));
    let running = Running::start(routes).await;
    let client = running.client(RpcClientSettings {
        connections: 1,
        answer_window: ByteSize::kib(64),
        ..RpcClientSettings::default()
    });
    let mut unread = Vec::new();
    for _ in 0..50 {
        let answer = client.stream(caller("t/Endless"), RpcMessage::default());
        unread.push(answer.await.unwrap());
    }
    sleep(Duration::from_millis(50)).await;
    let sent = bytes(1 << 20);
    let back = client.unary(caller("t/Echo"), message(&sent));
    let back = timeout(Duration::from_secs(20), back).await;
    assert!(back.expect("it is not held up").unwrap() == sent);
    for answer in &mut unread {
        assert_eq!(answer.next().await.unwrap().unwrap().len(), 100_000);
    }
    drop(unread);
    running.end().await;
}

#[tokio::test]
async fn a_process_that_is_gone_is_told_at_once_and_one_that_is_back_is_found() {
    let running = Running::start(routes(&server())).await;
    let address = running.address.to_string();
    let client = client(&address, RpcClientSettings::default());
    let ask = || client.unary(caller("t/Echo"), message(b"x"));
    for _ in 0..4 {
        assert_eq!(&ask().await.unwrap()[..], b"x");
    }
    running.end().await;
    let began = Instant::now();
    for _ in 0..4 {
        assert_eq!(ask().await.unwrap_err().kind(), ErrorKind::Unavailable);
    }
    assert!(began.elapsed() < Duration::from_secs(5));
    let running = Running::at(&address, routes(&server())).await;
    for _ in 0..4 {
        assert_eq!(&ask().await.unwrap()[..], b"x");
    }
    running.end().await;
    for bad in ["", "host", ":1", "host:x", "a b:1"] {
        let client = RpcClient::new(bad, RpcClientSettings::default(), executor());
        assert_eq!(client.unwrap_err().kind(), ErrorKind::InvalidInput, "{bad}");
    }
}

#[tokio::test]
async fn a_process_that_has_stopped_without_a_word_is_given_up() {
    // Accepts, and says nothing: not even that it is alive.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let tasks = TaskGroup::new(Handle::current());
    drop(tasks.spawn("silent", async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
        }
    }));
    let client = client(
        &address,
        RpcClientSettings {
            keepalive_interval: Duration::from_millis(100),
            keepalive_timeout: Duration::from_millis(100),
            ..RpcClientSettings::default()
        },
    );
    let ask = client.unary(caller("t/Echo"), message(b"x"));
    let told = timeout(Duration::from_secs(10), ask).await;
    let error = told.expect("it is given up").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
}

#[tokio::test]
async fn health_is_that_of_the_services() {
    #[derive(Debug)]
    struct Unready;

    #[async_trait::async_trait]
    impl Service for Unready {
        fn name(&self) -> &str {
            "unready"
        }
    }
    let server = server();
    for (status, is_serving) in [
        (ServicesStatus::default(), true),
        (crate::service::Services::new().add(Unready).status(), false),
    ] {
        let running = Running::start(health_routes(&server, status)).await;
        let client = running.client(RpcClientSettings::default());
        assert_eq!(client.check_health(LONG).await.is_ok(), is_serving);
        running.end().await;
    }
}

#[tokio::test]
async fn what_is_no_call_is_refused() {
    let running = Running::start(routes(&server())).await;
    let mut stream = tokio::net::TcpStream::connect(running.address)
        .await
        .unwrap();
    let request = b"POST /t/Echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n";
    tokio::io::AsyncWriteExt::write_all(&mut stream, request)
        .await
        .unwrap();
    let mut answer = [0; 12];
    tokio::io::AsyncReadExt::read_exact(&mut stream, &mut answer)
        .await
        .unwrap();
    assert_eq!(&answer, b"HTTP/1.1 415");
    drop(stream);
    running.end().await;
}
