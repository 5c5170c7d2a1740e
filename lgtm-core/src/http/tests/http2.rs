//! The same over HTTP/2, spoken by hyper's client.

use std::convert::Infallible;
use std::pin::Pin;

use axum::body::{Bytes, HttpBody};
use axum::http::Request as HttpRequest;
use futures::FutureExt;
use futures::future::BoxFuture;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::TokioIo;

use super::*;

/// The client's own tasks.
#[derive(Clone)]
struct Tasks;

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Tasks {
    fn execute(&self, task: F) {
        tokio::runtime::Handle::current().spawn(task);
    }
}

async fn client(address: SocketAddr) -> SendRequest<Body> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (sender, connection) = handshake(Tasks, TokioIo::new(stream)).await.unwrap();
    tokio::runtime::Handle::current().spawn(connection.map(drop));
    sender
}

fn request(method: &str, path: &str, body: Body) -> HttpRequest<Body> {
    let uri = format!("http://localhost{path}");
    HttpRequest::builder()
        .method(method)
        .uri(uri)
        .body(body)
        .unwrap()
}

/// Status and body.
fn ask(
    client: &mut SendRequest<Body>,
    method: &str,
    path: &str,
    body: Body,
) -> BoxFuture<'static, (u16, String)> {
    let answer = client.send_request(request(method, path, body));
    async move {
        let answer = timeout(Duration::from_secs(5), answer)
            .await
            .unwrap()
            .unwrap();
        let status = answer.status().as_u16();
        let bytes = axum::body::to_bytes(Body::new(answer.into_body()), usize::MAX).await;
        let text = String::from_utf8_lossy(&bytes.unwrap()).into_owned();
        (status, text)
    }
    .boxed()
}

/// A body of which so much comes, and never the rest.
fn stalled(begin: &'static [u8]) -> Body {
    let begin = futures::stream::iter([Ok::<_, Infallible>(Bytes::from_static(begin))]);
    let never = futures::stream::pending();
    Body::from_stream(futures::StreamExt::chain(begin, never))
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_one_connection_do_not_wait_for_each_other() {
    let running = start(settings()).await;
    let mut client = client(running.address).await;
    let slow = ask(&mut client, "GET", "/soon", Body::empty());
    let fast = ask(&mut client, "GET", "/ready", Body::empty());
    let taken = ask(
        &mut client,
        "POST",
        "/take",
        Body::from(vec![b'x'; 700_000]),
    );
    assert_eq!(fast.await, (200, "ready".into()));
    assert_eq!(slow.await, (200, "soon".into()));
    let (status, text) = taken.await;
    assert!(status == 503 || text == "700000 bytes", "{status} {text}");
    let panicked = ask(&mut client, "GET", "/panic", Body::empty()).await;
    assert_eq!(panicked.0, 500);
    assert_eq!(
        ask(&mut client, "GET", "/ready", Body::empty()).await.0,
        200
    );
    assert_eq!(running.connections.len(), 1);
    // The port speaks the older protocol too.
    assert!(running.ask(READY).await.contains("200 OK"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_without_requests_ends_and_one_at_work_does_not() {
    let running = start(settings()).await;
    let mut at_work = client(running.address).await;
    let never = ask(&mut at_work, "GET", "/never", Body::empty());
    let mut idle = client(running.address).await;
    assert_eq!(ask(&mut idle, "GET", "/ready", Body::empty()).await.0, 200);
    // It is counted before it is gone.
    running
        .until(|r| r.closed("idle") == 1.0 && r.connections.len() == 1)
        .await;
    assert_eq!(
        ask(&mut at_work, "GET", "/ready", Body::empty()).await.0,
        200
    );
    drop(never);
    // Nobody waits for an answer any more: the request ends, and then the connection.
    running.until(|r| r.connections.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_stalls_is_told_so_and_others_go_on() {
    let running = start(settings()).await;
    let mut client = client(running.address).await;
    let late = ask(&mut client, "POST", "/take", stalled(b"begin"));
    let soon = ask(&mut client, "GET", "/soon", Body::empty());
    assert_eq!(soon.await.0, 200);
    let (status, text) = late.await;
    assert_eq!(status, 408, "{text}");
    assert_eq!(running.closed("body_timeout"), 1.0);
    assert_eq!(running.inflight.bytes(), 0);
    assert_eq!(
        ask(&mut client, "GET", "/ready", Body::empty()).await.0,
        200
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_take_an_answer_loses_the_connection() {
    let running = start(settings()).await;
    let mut client = client(running.address).await;
    let answer = client.send_request(request("GET", "/large", Body::empty()));
    let mut body = answer.await.unwrap().into_body();
    // A piece is read, and no more.
    let first = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
    assert!(first.is_some());
    running.until(|r| r.closed("send_timeout") == 1.0).await;
    running.until(|r| r.connections.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_answers_what_is_under_way() {
    let running = start(patient(10)).await;
    let mut client = client(running.address).await;
    assert_eq!(
        ask(&mut client, "GET", "/ready", Body::empty()).await.0,
        200
    );
    let soon = ask(&mut client, "GET", "/soon", Body::empty());
    // What was sent after it is answered, so that it has begun.
    assert_eq!(
        ask(&mut client, "GET", "/ready", Body::empty()).await.0,
        200
    );
    running.stop.cancel();
    assert_eq!(soon.await, (200, "soon".into()));
    timeout(Duration::from_secs(5), running.served)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn first_bytes_that_come_one_by_one_are_either_protocol() {
    let running = start(settings()).await;
    for (text, is_answered) in [
        (
            "POST /take HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx",
            true,
        ),
        ("PR", false),
    ] {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        for byte in text.as_bytes().iter().take(3) {
            stream.write_all(&[*byte]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if is_answered {
            stream.write_all(&text.as_bytes()[3..]).await.unwrap();
            assert!(super::answer(&mut stream).await.contains("1 bytes"));
        } else {
            assert!(ended(&mut stream).await < Duration::from_secs(2));
            assert_eq!(running.closed("head_timeout"), 1.0);
        }
    }
    // What begins as HTTP/2 and is none ends at once.
    let mut stream = running.connect("PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n").await;
    assert!(ended(&mut stream).await < Duration::from_secs(2));
}
